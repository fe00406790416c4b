r"""How good is a bundle? Numbers with the floor that real data reaches, and the protocol.

    distance   Frechet, n generated items against the held-out split
    floor      the same with n training items in place of the generated ones
    ratio      distance / floor: 1 is as close as real data comes

Both distances use the same reference, features and n, so the bias of small samples is in both.
The interval of the ratio is from a bootstrap over items, the reference resampled for both at once.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import morphogen
from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.capability import (
    CanPredict,
    CanReconstruct,
    CanSample,
    HasLogProb,
    missing,
)
from morphogen.core.codec import Item
from morphogen.core.errors import DataError, RefusedPair
from morphogen.core.likelihood import bits_per_dim
from morphogen.core.random import generator, mix_seed
from morphogen.core.storage import write_text
from morphogen.data.dataset import Data, load
from morphogen.evaluation.features import feature_extractor, parts
from morphogen.evaluation.page import write_page

MOST_ITEMS = 10_000  # generated and reference items, unless told
MOST_SCORED = 2_000  # held-out items whose likelihood and reconstruction are measured
REPEATS = 20  # bootstrap repeats
SHOWN = 64  # items on the page


def evaluate(
    bundle: Bundle | Path | str,
    data: Data | Path | str | None = None,
    num: int | None = None,
    seed: int = 0,
    device: str | None = None,
) -> dict[str, Any]:
    """Score a bundle against held-out data; write metrics.json and evaluation.html into it.

    `data` defaults to what the bundle was trained on, `num` to as many items as the training split
    has, 10,000 at most. Raises `DataError` where there is nothing held out to compare with.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    loaded = data if isinstance(data, Data) else load(data or bundle.data["source"])
    if len(loaded.test) < 2:
        raise DataError(
            "an evaluation needs held-out items",
            found=f"{len(loaded.train)} training and {len(loaded.test)} test items",
            expected="at least two test items",
            hint="add items to the data, or a test folder",
        )
    if device is not None:
        bundle.family.to(device)
    bundle.family.eval()
    record: dict[str, Any] = {"protocol": _protocol(bundle, loaded, seed)}
    same_spec = bundle.family.spec == loaded.spec
    shown: Tensor | None = None
    if not missing(bundle.family, CanSample):
        shown = _judge_samples(record, bundle, loaded, num, seed)
    if same_spec:
        with torch.no_grad():
            record |= _likelihood(bundle, loaded, seed)
            record |= _reconstruction(bundle, loaded, seed)
            record |= _prediction(bundle, loaded)
    if not record.keys() - {"protocol"}:
        raise RefusedPair(
            "there is nothing to score: the model neither samples, predicts nor rebuilds items",
            found=type(bundle.family).__name__,
        )
    bundle.metrics = {**bundle.metrics, "evaluation": record}
    if bundle.path is not None:
        write_text(bundle.path / "metrics.json", json.dumps(bundle.metrics, indent=2) + "\n")
        real = loaded.test.batch(_some(loaded, seed)[:SHOWN]).x
        write_page(bundle, record, loaded.codec, shown, real)
    return record


def _protocol(bundle: Bundle, data: Data, seed: int) -> dict[str, Any]:
    """All that two scores must have in common to be compared, but for the model."""
    levels = f"rounded to {data.spec.levels} levels" if data.spec.levels else "as generated"
    return {
        "model": discover.name_of(type(bundle.family)),
        "data_digest": data.digest,
        "trained_on_digest": bundle.data.get("digest"),
        "num_train": len(data.train),
        "num_test": len(data.test),
        "spec": str(data.spec),
        "preprocessing": f"items as the codec encodes them; generated items {levels}",
        "seed": seed,
        "code_version": morphogen.__version__,
        "torch_version": torch.__version__,
    }


# -- samples -------------------------------------------------------------------------------------


def _judge_samples(
    record: dict[str, Any], bundle: Bundle, data: Data, num: int | None, seed: int
) -> Tensor:
    """Fill in distance, floor and ratio; return the items to show."""
    n = min(num or MOST_ITEMS, len(data.train))
    if n < 2:
        raise DataError("too few items to compare", found=f"{n} items", expected="at least two")
    extractor = feature_extractor(data, device=str(bundle.family.device))
    start = time.perf_counter()
    result = bundle.sample(n, seed=seed)
    seconds = time.perf_counter() - start
    x = _as_data(bundle, data, result.x)
    draw = generator(mix_seed(seed, 1))
    order = torch.randperm(len(data.train), generator=draw)
    reference_index = torch.randperm(len(data.test), generator=draw)[:MOST_ITEMS]
    reference = extractor.features_of(data.test, reference_index)
    generated, train = extractor.features(x), extractor.features_of(data.train, order[: 2 * n])
    record["frechet"] = _distances(generated, train, reference, n, seed)
    record["features"] = extractor.facts()
    record["protocol"] |= {
        "num_generated": n,
        "num_floor": n,
        "num_reference": len(reference),
        "features_sha256": extractor.weights_hash,
    }
    record["sampling_seconds_per_1000"] = round(1000 * seconds / n, 3)
    warning = _small_sample(n, len(reference), generated.shape[1])
    if warning:
        record["warnings"] = [warning]
    return x[:SHOWN]


def _as_data(bundle: Bundle, data: Data, x: Tensor | None) -> Tensor:
    """Generated items as the data's codec would encode them: what a reader of the files gets."""
    if x is None:
        raise RefusedPair("the model generates nothing", found=type(bundle.family).__name__)
    if bundle.family.spec != data.spec:  # latents: by way of the items themselves
        encoded = []
        for index in parts(len(x)):
            values = bundle.codec.decode_many(x[index])
            encoded.append(data.codec.encode_many([Item(value) for value in values]))
        return torch.cat(encoded)
    x = x.cpu()
    return data.spec.dequantise(data.spec.quantise(x)) if data.spec.levels else x


def _distances(
    generated: Tensor, train: Tensor, reference: Tensor, n: int, seed: int
) -> dict[str, Any]:
    """Distance, floor, ratio and its interval, and two disjoint halves of real data."""
    metric = discover.find("metric", "frechet")

    def frechet(features: Tensor, against: Tensor) -> float:
        return float(metric(features, against)["frechet"])

    distance, floor = frechet(generated, reference), frechet(train[:n], reference)
    half = len(train) // 2
    record: dict[str, Any] = {
        "distance": distance,
        "floor": floor,
        "ratio": distance / floor if floor > 0 else None,
        "halves": frechet(train[:half], train[half : 2 * half]) if half >= 2 else None,
        "num_halves": half,
        "higher_is_better": False,
    }
    draw = generator(mix_seed(seed, 2))

    def resampled(features: Tensor) -> Tensor:
        return features[torch.randint(len(features), (len(features),), generator=draw)]

    pairs = []
    for _ in range(REPEATS):
        against = resampled(reference)
        pairs.append([
            frechet(resampled(generated), against), frechet(resampled(train[:n]), against)
        ])  # fmt: skip
    if distance > 0 and floor > 0:
        # Resampling shifts both distances upwards and scales their spread with them: the spread of
        # the logarithm stays what it is, and is put around the ratio that was measured.
        spread = torch.tensor(pairs, dtype=torch.float64).clamp(min=1e-12).log()
        factor = math.exp(1.96 * float((spread[:, 0] - spread[:, 1]).std()))
        ratio = distance / floor
        record["ratio_interval"] = [ratio / factor, ratio * factor]
        record["interval"] = f"95 %, bootstrap over items, {REPEATS} repeats"
    return record


def _small_sample(n: int, num_reference: int, feature_dim: int) -> str | None:
    """A sentence when there are too few items for the covariances that are fitted to them."""
    fewest = min(n, num_reference)
    if fewest >= 2 * feature_dim:
        return None
    return (
        f"n is small: {n} items against {num_reference} for {feature_dim} features. The distance "
        "is biased upwards; read the ratio to the floor, and do not compare it with other n."
    )


# -- what else the model can do ------------------------------------------------------------------


def _some(data: Data, seed: int) -> Tensor:
    """Held-out items that the slower scores are measured on."""
    return torch.randperm(len(data.test), generator=generator(mix_seed(seed, 3)))[:MOST_SCORED]


def _likelihood(bundle: Bundle, data: Data, seed: int) -> dict[str, Any]:
    model: Any = bundle.family
    if missing(model, HasLogProb):
        return {}
    draw, found, some = generator(mix_seed(seed, 4)), [], _some(data, seed)
    for index in parts(len(some)):
        batch = data.test.batch(some[index]).to(model.device)
        cond = {name: v for name, v in batch.cond.items() if name in model.conditions}
        found.append(model.log_prob(batch.x, cond=cond, generator=draw).cpu())
    bits = bits_per_dim(torch.cat(found), data.spec)
    return {"bits_per_dim": {**_mean_and_error(bits), "log_prob_is": model.log_prob_is}}


def _reconstruction(bundle: Bundle, data: Data, seed: int) -> dict[str, Any]:
    model: Any = bundle.family
    if missing(model, CanReconstruct):
        return {}
    found, some = [], _some(data, seed)
    for index in parts(len(some)):
        x = data.test.batch(some[index]).x.to(model.device)
        again = model.decode(model.encode(x))
        error = (again != x) if data.spec.kind == "token" else (again - x).square()
        found.append(error.float().flatten(1).mean(1).cpu())
    name = "share of tokens" if data.spec.kind == "token" else "mean squared error in [-1, 1]"
    return {"reconstruction_error": {**_mean_and_error(torch.cat(found)), "unit": name}}


def _prediction(bundle: Bundle, data: Data) -> dict[str, Any]:
    model: Any = bundle.family
    if missing(model, CanPredict) or model.target not in data.test.cond:
        return {}
    found = []
    for index in parts(len(data.test)):
        batch = data.test.batch(index).to(model.device)
        output, target = model.predict(batch.x), batch.cond[model.target]
        if model.target_spec.kind == "token":
            found.append((output.argmax(1) == target).float().cpu())
        else:
            found.append((output - target.flatten(1)).abs().mean(1).cpu())
    name = "accuracy" if model.target_spec.kind == "token" else "absolute_error"
    return {name: {**_mean_and_error(torch.cat(found)), "target": model.target}}


def _mean_and_error(values: Tensor) -> dict[str, Any]:
    """Mean over items with its standard error."""
    error = float(values.double().std() / math.sqrt(len(values))) if len(values) > 1 else None
    return {"value": float(values.double().mean()), "standard_error": error, "n": len(values)}
