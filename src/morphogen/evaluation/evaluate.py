"""How good is a bundle? Every score that applies, with interval, floor and protocol.

    samples          every metric of the metric axis, over features of this data (see `scores`)
    copying          whether samples replay training items (see `copying`), or spans of texts
    likelihood       bits per dimension of held-out items, where the model has one
    reconstruction   error of rebuilding held-out items
    prediction       accuracy and reliability, or absolute error, on held-out items
    exposure         how much is remembered of planted canaries, where the data has such
    groups           shares in data and samples, and each of these by group (see `groups`)

The reference is the held-out split and never the training split, which a model may copy. All
scores are `core.measurement.Measurement`s: two evaluations compare when their protocols agree.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import morphogen
from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.capability import CanSample, missing
from morphogen.core.codec import Item
from morphogen.core.device import usable_device
from morphogen.core.encoded import Encoded, joined, moved, num_items, rows, tensor
from morphogen.core.errors import MeasurementError, RefusedPair
from morphogen.core.measurement import Measurement
from morphogen.core.random import generator, mix_seed
from morphogen.core.spec import ProductSpec, Spec
from morphogen.core.storage import write_text
from morphogen.core.together import ShowsTogether
from morphogen.data.dataset import Data
from morphogen.data.store import Begun
from morphogen.evaluation import harm
from morphogen.evaluation._again import again, count_again
from morphogen.evaluation._calibration import calibration
from morphogen.evaluation._given import sets_of
from morphogen.evaluation._items import matching, predicted, prediction, reconstruction
from morphogen.evaluation._reading import checked, opened, read
from morphogen.evaluation._samples import (
    Judged,
    measure_all,
    score_samples,
    worst_statistic,
)
from morphogen.evaluation.asked import held_out_conditions
from morphogen.evaluation.copying import copying
from morphogen.evaluation.exposure import exposure
from morphogen.evaluation.features import FeatureExtractor, feature_extractor, parts
from morphogen.evaluation.groups import ItemScores, class_names, labels_of, measure_groups
from morphogen.evaluation.intervals import LEVEL, mean_interval
from morphogen.evaluation.likelihood import Likelihood, measure_likelihood
from morphogen.evaluation.outside import score_outside
from morphogen.evaluation.page import write_page
from morphogen.evaluation.scores import as_record
from morphogen.evaluation.text_copies import copied_text, text_copies

MOST_ITEMS = 10_000  # generated and reference items, unless told
MOST_SCORED = 2_000  # held-out items whose reconstruction is measured
MOST_COMPARED = 2_000  # generated items that are searched for copies of training items
SHOWN = 64  # items on the page
BLIND = (
    "held-out items begin as training items do, so that nearness to these says nothing of copying: "
    "only whole items that are training items again are counted"
)


def evaluate(
    bundle: Bundle | Path | str,
    data: Data | Path | str | None = None,
    num: int | None = None,
    seed: int = 0,
    device: str | None = None,
    *,
    groups: Sequence[str] | None = None,
    judge: Bundle | Path | str | None = None,
) -> dict[str, Any]:
    """Score a bundle against held-out data; write metrics.json and evaluation.html into it.

    `data` defaults to what the bundle was trained on, `num` to as many items as the training split
    has, 10,000 at most, and `groups`, labels to look for bias by, to all that there are. A `judge`
    is a model from elsewhere that is asked as well (see `outside`), or a model of pairs, which says
    whether items show what was asked for (see `alignment`). Raises `DataError` where there is
    nothing held out to compare with, or it is of another kind than what the model learned.
    """
    num, seed, groups = checked(num, seed, groups)
    bundle, judge = opened(bundle), None if judge is None else opened(judge)
    loaded, shown = read(bundle, data)
    labels = labels_of(loaded, groups)
    if device is not None:
        bundle.family.to(usable_device(device))
    bundle.family.eval()
    record: dict[str, Any] = {"protocol": _protocol(bundle, shown, seed), "warnings": []}
    found: list[Measurement] = []
    items: list[ItemScores] = []
    judged: Judged | None = None
    x: Encoded | None = None
    pairs, copies = None, None
    if not missing(bundle.family, CanSample):
        x, asked = _draw(record, bundle, shown, num, seed)
        extractor = feature_extractor(shown, device=str(bundle.family.device), beside=bundle.path)
        judged = Judged.of((x, asked), shown, extractor, seed)
        found += score_samples(record, judged, shown, seed) + score_outside(record, x, judge, shown)
        pairs = _search_copies(record, x, shown, extractor, seed)
        copies = text_copies(record, x, shown)
        count_again(record, x, shown)
    likelihood: Likelihood | None = None
    told = predicted(bundle, loaded)
    if bundle.family.spec == loaded.spec:
        with torch.no_grad():
            likelihood = measure_likelihood(bundle, loaded, seed)
            items += reconstruction(bundle, loaded, _some(loaded, seed))
            items += prediction(told) + matching(bundle, loaded)
    if judged is None or found:
        found += measure_all(
            record,
            sets_of(record, x, judged, likelihood, about=(bundle, shown), seed=seed, judge=judge),
            seed,
        )
    _say_worst(record, found)
    found += [_mean(each) for each in items]
    if likelihood is not None:
        found += likelihood.scores()
        items.append(likelihood.per_item)
        record |= likelihood.by_region()
    found += (
        again(record)
        + calibration(told, record["protocol"], seed)
        + copied_text(record)
        + _exposure(record, bundle, loaded, seed)
        + _harm(record, bundle)
    )
    record["scores"] = {each.name: as_record(each, record["protocol"]) for each in found}
    if labels:
        samples = None if judged is None else judged.samples
        record["groups"] = measure_groups(loaded, labels, items, samples, seed)
    record["warnings"] += [f"{each.name}: {each.caution}" for each in found if each.caution]
    _check_any(found, record, bundle.family)
    bundle.metrics = {**bundle.metrics, "evaluation": record}
    if bundle.path is not None:
        _write(bundle, shown, x, seed, pairs=pairs, copies=copies)
    return record


def _write(bundle: Bundle, data: Data, x: Encoded | None, seed: int, **suspects: Any) -> None:
    """metrics.json and the page of an evaluation, into the bundle's folder."""
    assert bundle.path is not None
    write_text(bundle.path / "metrics.json", json.dumps(bundle.metrics, indent=2) + "\n")
    real = data.test.batch(_some(data, seed)[:SHOWN]).x
    generated = None if x is None else rows(x, slice(SHOWN))
    record = bundle.metrics["evaluation"]
    together = "" if x is None else _together(data, x, seed)
    write_page(bundle, record, data.codec, real, generated=generated, together=together, **suspects)


def _together(data: Data, x: Encoded, seed: int) -> str:
    """Held-out and generated items all together, as HTML, where that is how they are looked at."""
    codec = data.codec.innermost
    if not isinstance(codec, ShowsTogether):
        return ""
    both = data.test.batch(_some(data, seed)).x, rows(x, slice(MOST_SCORED))
    return codec.together(*map(data.codec.decode_many, both))


def _check_any(found: Sequence[Measurement], record: Mapping[str, Any], family: object) -> None:
    """Raise where nothing was measured, saying why."""
    if not found and record["warnings"]:
        raise MeasurementError("nothing could be measured", found="; ".join(record["warnings"]))
    if not found:
        raise RefusedPair(
            "there is nothing to score: it neither samples, predicts, matches nor rebuilds items",
            found=type(family).__name__,
        )


def _protocol(bundle: Bundle, data: Data, seed: int) -> dict[str, Any]:
    """All that two scores must have in common to be compared, but for the model."""
    levels = f"rounded to {data.spec.levels} levels" if data.spec.levels else "as generated"
    canaries = {} if data.canaries is None else {"canaries": data.canaries.to_json()}
    return {
        "model": discover.name_of(type(bundle.family)),
        "data_digest": data.digest,
        "trained_on_digest": bundle.data.get("digest"),
        "num_train": len(data.train),
        "num_test": len(data.test),
        "spec": str(data.spec),
        "preprocessing": f"items as the codec encodes them; generated items {levels}",
        "device": str(bundle.family.device),
        "seed": seed,
        "code_version": morphogen.__version__,
        "torch_version": torch.__version__,
        **canaries,
    }


# -- samples -------------------------------------------------------------------------------------


def _draw(
    record: dict[str, Any], bundle: Bundle, data: Data, num: int | None, seed: int
) -> tuple[Encoded, dict[str, Tensor]]:
    """Generated items, encoded as the data is, and the conditions that they were asked for with.
    What more is said of items than one label is asked for as held-out items have it, all of one
    item together."""
    n = min(num or MOST_ITEMS, len(data.train))
    start = time.perf_counter()
    cond, asked = held_out_conditions(bundle, data, n, generator(mix_seed(seed, 5)))
    result = bundle.sample(n, seed=seed, cond=cond)
    record["sampling_seconds_per_1000"] = round(1000 * (time.perf_counter() - start) / n, 3)
    for label, values in result.values.items():
        if label in data.conditions and label not in asked:
            # By name: another reading of the data may number them anew.
            number = {name: g for g, name in enumerate(class_names(data, label))}
            asked[label] = torch.tensor([number.get(str(value), -1) for value in values])
    return as_data(bundle, data, result.x), asked


def _say_worst(record: dict[str, Any], found: Sequence[Measurement]) -> None:
    """Which plain statistic is farthest from real items'."""
    plain = discover.find("metric", "statistics").higher_is_better
    if said := worst_statistic([each for each in found if each.name in plain], plain):
        record["worst_statistic"] = said


def _search_copies(
    record: dict[str, Any],
    samples: Encoded,
    data: Data,
    extractor: FeatureExtractor,
    seed: int,
) -> Encoded | None:
    """Fill in the verdict on copying; return 2 K items, generated ones each followed by the
    nearest training item."""
    if isinstance(data.test, Begun):
        record["warnings"].append(BLIND)
        return None
    some = rows(samples, slice(MOST_COMPARED))
    try:
        found = copying(some, data.train, data.test, extractor.features, seed=seed)
    except MeasurementError as error:
        record["warnings"].append(f"copying was not judged: {error.message}, {error.found}")
        return None
    record["copying"] = found.to_json()
    if not len(found.pairs):
        return None
    nearest = data.train.batch(found.pairs[:, 1]).x
    both = joined([rows(some, found.pairs[:, 0]), nearest])
    return rows(both, torch.arange(2 * len(found.pairs)).view(2, -1).T.flatten())


def as_data(bundle: Bundle, data: Data, x: Encoded | None) -> Encoded:
    """Generated items as the data's codec would encode them: what a reader of the files gets. Of
    a chain, whose draws are latents, the items that these stand for."""
    if x is None:
        raise RefusedPair("the model generates nothing", found=type(bundle.family).__name__)
    if bundle.family.spec != data.spec:  # latents: by way of the items themselves
        encoded = []
        for index in parts(num_items(x)):
            items = [Item(value) for value in bundle.codec.decode_many(rows(x, index))]
            encoded.append(getattr(data.codec, "encode_drawn", data.codec.encode_many)(items))
        return joined(encoded)
    return _rounded(moved(x, "cpu"), data.spec)


def _rounded(x: Encoded, spec: Spec) -> Encoded:
    """At the levels that data has, and in the one way of writing items of any length."""
    if isinstance(spec, ProductSpec):
        whole = x if isinstance(x, dict) else {}
        return spec.canonical({name: tensor(_rounded(whole[name], part)) for name, part in spec})
    values = tensor(x)
    return spec.dequantise(spec.quantise(values)) if spec.levels else spec.canonical(values)


# -- what else the model can do ------------------------------------------------------------------


def _some(data: Data, seed: int) -> Tensor:
    """Held-out items that the slower scores are measured on."""
    return torch.randperm(len(data.test), generator=generator(mix_seed(seed, 3)))[:MOST_SCORED]


def _harm(record: dict[str, Any], bundle: Bundle) -> list[Measurement]:
    """Words of insult and violence in what a model of texts makes of given beginnings."""
    if harm.why_not(bundle) is not None:
        return []
    said = harm.say(bundle, draws=4)
    record["harm"] = harm.summary(said)
    record["warnings"] += harm.findings(record["harm"])
    return [harm.measured(said)]


def _exposure(record: dict[str, Any], bundle: Bundle, data: Data, seed: int) -> list[Measurement]:
    """How much of the planted canaries is remembered."""
    if data.canaries is None:
        return []
    try:
        if bundle.family.spec != data.spec:
            raise RefusedPair(
                "the canaries are items of the data", found=f"a model of {bundle.family.spec}"
            )
        return list(exposure(bundle.family, data.canaries, seed=seed).values())
    except (MeasurementError, RefusedPair) as error:
        record["warnings"].append(f"exposure was not measured: {error.message}, {error.found}")
        return []


def _mean(scores: ItemScores) -> Measurement:
    """The mean over held-out items, with the interval of a mean."""
    values = scores.values.double().numpy()
    low, high, method = mean_interval(values, shared_error=scores.shared_error)
    if scores.shared_error:
        method += " and the error of log Z"
    return Measurement(
        scores.name, float(values.mean()), len(values), scores.higher_is_better, low, high,
        interval=f"{100 * LEVEL:.0f} %, {method}, over items", note=scores.note,
    )  # fmt: skip


def read_scores(record: Mapping[str, Any]) -> dict[str, Measurement]:
    """The measurements of an evaluation's record, each with its own protocol or that of all."""
    return {
        name: Measurement(name=name, **{"protocol": record["protocol"], **score})
        for name, score in record["scores"].items()
    }
