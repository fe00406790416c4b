"""The promises of the capabilities, for whatever has them: families, wrappers, oracles."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from morphogen.core import capability
from morphogen.core.batch import Batch
from morphogen.core.encoded import Encoded, device, each, equal, moved, num_items, together
from morphogen.core.random import generator
from morphogen.core.spec import ProductSpec, Spec, TensorSpec
from morphogen.testing._promises import (
    check_values,
    close,
    draw_data,
    global_seed,
    leaves_global_rng,
    promise,
)

BOUND_DRAWS = 8  # of a likelihood that is estimated: their mean is what must be normalised
CAPABILITIES = [
    value
    for value in vars(capability).values()
    if isinstance(value, type) and getattr(value, "_is_protocol", False) and value is not Protocol
]


def has(model: object, name: str) -> bool:
    """Whether the model has the capability called `name`."""
    return not capability.missing(model, getattr(capability, name))


def check_capabilities(model: Any, batch: Batch, where: str) -> None:
    """Hold a model to every capability that it claims by having its methods."""
    for claimed in CAPABILITIES:
        methods = [m for m in capability.members(claimed) if callable(getattr(claimed, m, None))]
        # What predicts or matches a condition has no target where the data has no condition.
        told = (capability.CanPredict, capability.CanMatch)
        no_target = claimed in told and not model.conditions
        claims = methods and all(hasattr(model, method) for method in methods)
        if claims and not no_target:
            lacking = capability.missing(model, claimed)
            promise(
                not lacking,
                f"{where} has {', '.join(methods)} but not {', '.join(lacking)}: "
                f"{claimed.__name__} needs both",
            )
    with torch.no_grad():
        first = outputs(model, batch, global_rng=1)
        again = outputs(model, batch, global_rng=2)
        for name, value in first.items():
            promise(close(value, again[name]), f"{where}: {name} differs between two equal calls")
        _check_shapes(model, batch, first, where)
        if has(model, "CanSample"):
            _check_sample(model, batch, where)
        if has(model, "CanFill"):
            _check_fill(model, batch, where)
        if has(model, "CanStream") and _is_sequence(model.spec):
            _check_stream(model, batch, where)
        if has(model, "CanPredictNext") and has(model, "HasLogProb"):
            _check_chain_rule(model, batch, where)
        if has(model, "HasTokenLogProb"):
            each = model.token_log_prob(batch.x, _conditions(model, batch)).sum(1)
            promise(close(each, first["log_prob"]), f"{where}: tokens do not add up to log_prob")


def outputs(model: Any, batch: Batch, global_rng: int = 0) -> dict[str, Any]:
    """What each capability answers for a batch, drawing with fixed generators."""
    x, cond, answers = batch.x, _conditions(model, batch), dict[str, Any]()
    size = len(batch)
    with global_seed(global_rng), leaves_global_rng(type(model).__name__):
        if has(model, "CanEncode"):
            answers["encode"] = model.encode(x)
        if has(model, "CanDecode"):
            z = moved(draw_data(model.latent_spec, size, seed=4), device(x))
            answers["decode"] = model.decode(answers.get("encode", z))
            answers["decode of random latents"] = model.decode(z)
        if has(model, "CanDenoise"):
            for share in (0.02, 0.5, 1.0):
                t = torch.full((size,), share, device=device(x))
                answers[f"denoise at {share}"] = model.denoise(x, t, cond)
        if has(model, "HasLogProb"):
            answers["log_prob"] = model.log_prob(x, cond=cond, generator=generator(2))
        if has(model, "HasEnergy"):
            answers["energy"] = model.energy(x)
        if has(model, "HasFeatures"):
            answers["features"] = model.features(x)
        if has(model, "CanMatch") and model.target in cond:
            answers["encode_condition"] = model.encode_condition(cond)
        if has(model, "CanPredict"):
            answers["predict"] = model.predict(x)
        if has(model, "CanPredictNext") and _is_sequence(model.spec):
            answers["predict_next of nothing"] = model.predict_next(x[:, :0], cond)
            answers["predict_next"] = model.predict_next(x[:, :2], cond)
        if has(model, "CanSample"):
            answers["sample"] = model.sample(size, cond=cond, generator=generator(3))
    return answers


def _is_sequence(spec: Spec) -> bool:
    return spec.kind == "token" and len(spec.space) == 1


def _conditions(model: Any, batch: Batch) -> dict[str, Tensor]:
    """The conditions that the model takes: it may leave out some that the data has."""
    return {name: value for name, value in batch.cond.items() if name in model.conditions}


def _check_shapes(model: Any, batch: Batch, answers: dict[str, Any], where: str) -> None:
    spec, size = model.spec, len(batch)
    for name, value in answers.items():
        what = f"{where}: {name}"
        if name == "encode":
            check_values(value, model.latent_spec, size, what)
        elif name.startswith("denoise"):
            continuous = TensorSpec("real", spec.shape, layout=spec.layout)
            check_values(value, continuous, size, what)
        elif name in ("log_prob", "energy"):
            check_values(value, TensorSpec("real", (), layout="vector"), size, what)
        elif name.startswith("decode") or name == "sample":
            check_values(value, spec if name == "sample" else _loose(spec), size, what)
        elif name.startswith("predict_next"):
            check_values(value, TensorSpec.vector(spec.vocab_size or 1), size, what)
        elif name == "features":
            promise(value.dim() == 2 and len(value) == size, f"{what} is not (B, D)")
            promise(torch.isfinite(value).all(), f"{what} is not finite")
        elif name == "predict":
            _check_prediction(model, value, size, what)
    if "log_prob" in answers:
        kinds = capability.LOG_PROB_KINDS
        known = capability.log_prob_kind(model) in kinds
        promise(known, f"{where}: log_prob_is {model.log_prob_is!r}, none of {kinds}")


def _loose(spec: Spec) -> Spec:
    """The spec without its levels: a decoder's mean may fall between and beyond them."""
    if isinstance(spec, ProductSpec):
        parts = {name: replace(part, levels=None) for name, part in spec}
        return ProductSpec(parts, spec.lengths, spec.pairs)
    return replace(spec, levels=None)


def _check_prediction(model: Any, value: Tensor, size: int, what: str) -> None:
    target = model.target_spec
    width = target.vocab_size if target.kind == "token" else target.num_values
    check_values(value, TensorSpec.vector(width or 1), size, what)
    if target.kind == "token":
        proper = bool((value >= 0).all()) and close(value.sum(1), torch.ones(size).to(value))
        promise(proper, f"{what} is no probability over classes: it must sum to 1")


def _check_sample(model: Any, batch: Batch, where: str) -> None:
    """Seeds decide; conditions may be given or absent."""
    one, two, other = (model.sample(4, generator=generator(seed)) for seed in (1, 1, 2))
    check_values(one, model.spec, 4, f"{where}: sample without conditions")
    promise(close(one, two), f"{where}: sample with one seed gives two results")
    promise(not close(one, other), f"{where}: sample gives the same items for two seeds")


def _check_fill(model: Any, batch: Batch, where: str) -> None:
    """The known part stays; the rest is redrawn."""
    x, cond = batch.x, _conditions(model, batch)
    known = each(_every_other, x)
    with leaves_global_rng(f"{where}: fill"):
        one, two, other = (
            model.fill(x, known, cond=cond, generator=generator(seed)) for seed in (1, 1, 2)
        )
    check_values(one, _loose(model.spec), num_items(x), f"{where}: fill")
    kept = together(_chosen, [known, one, x])
    promise(equal(kept, x), f"{where}: fill changes values that are known")
    promise(close(one, two), f"{where}: fill with one seed gives two results")
    promise(not close(one, other), f"{where}: fill gives the same items for two seeds")


def _chosen(parts: list[Tensor]) -> Tensor:
    known, one, other = parts
    return torch.where(known, one, other)


def _every_other(part: Tensor) -> Tensor:
    """(B, *) -> which of every two values are known, broadcast over the batch."""
    place = torch.arange(part[0].numel(), device=part.device)
    return (place % 2 == 0).view(1, *part.shape[1:])


def _check_stream(model: Any, batch: Batch, where: str) -> None:
    """A stream of nothing gives the items of `sample`; one of a prefix goes on after it."""
    size, cond, spec = len(batch), _conditions(model, batch), model.spec
    steps = list(model.stream(batch.x[:, :0], cond=cond, generator=generator(3)))
    promise(all(step.shape == (size,) for step in steps), f"{where}: a stream gives (B,) at a time")
    whole = torch.stack(steps, dim=1)
    missing_steps = spec.shape[0] - whole.shape[1]
    promise(not missing_steps or spec.end is not None, f"{where}: the stream stops too early")
    padded = torch.nn.functional.pad(whole, (0, missing_steps), value=spec.end or 0)
    drawn = model.sample(size, cond=cond, generator=generator(3))
    promise(torch.equal(spec.canonical(padded), drawn), f"{where}: the stream is not the sample")
    rest = list(model.stream(batch.x[:, :2], cond=cond, generator=generator(3)))
    promise(len(rest) <= spec.shape[0] - 2, f"{where}: the stream repeats its prefix")


def _check_chain_rule(model: Any, batch: Batch, where: str) -> None:
    """log p(x) = sum_i log p(x_i | x_<i), where the log-likelihood is exact."""
    x = batch.x
    if model.log_prob_is != "exact" or not _is_sequence(model.spec):
        return
    cond, total = _conditions(model, batch), torch.zeros(len(x), device=x.device)
    real = model.spec.mask(x)
    for i in range(x.shape[1]):
        log_p = model.predict_next(x[:, :i], cond).log_softmax(1).gather(1, x[:, i : i + 1])[:, 0]
        total = total + (log_p if real is None else log_p * real[:, i])
    exact = model.log_prob(x, cond=cond, generator=generator(0))
    promise(close(exact, total, 1e-3), f"{where}: log_prob is not the sum of predict_next's")


def check_normalised(model: Any, batch: Batch, where: str) -> None:
    """Over a space small enough to enumerate, an exact likelihood sums to 1, others to no more."""
    spec = model.spec
    if not capability.has_normalised_log_prob(model):
        return
    exact = capability.log_prob_kind(model) == "exact"
    draws = 1 if exact else BOUND_DRAWS
    x = _repeated(every_item(spec), draws)
    given, num = _conditions(model, batch), num_items(x)
    cond = {name: value[:1].expand(num, *value.shape[1:]) for name, value in given.items()}
    model.eval()
    with torch.no_grad():
        log_p = model.log_prob(x, cond=cond, generator=generator(0))
    total = math.exp(float(log_p.double().view(draws, -1).mean(0).logsumexp(0)))
    if exact:
        promise(abs(total - 1) < 1e-3, f"{where}: the exact probabilities sum to {total:.4f}")
    else:  # leave room for the noise of the draws
        kind = model.log_prob_is
        promise(total < 1.05, f"{where}: probabilities that are a {kind} sum to {total:.4f}")


def every_item(spec: Spec) -> Encoded:
    """All items there are of a spec with few values, each written in one way."""
    if isinstance(spec, ProductSpec):
        several = [every_item(part) for _, part in spec]
        numbers = [range(num_items(x)) for x in several]
        chosen = torch.tensor(list(itertools.product(*numbers)))
        pairs = zip(spec.parts, several, strict=True)
        return {name: x[chosen[:, i]] for i, (name, x) in enumerate(pairs) if isinstance(x, Tensor)}
    sizes = spec.sizes or (spec.vocab_size or spec.levels or 1,) * spec.num_values
    table = torch.tensor(list(itertools.product(*map(range, sizes))))
    index = torch.unique(spec.canonical(table.view(-1, *spec.shape)), dim=0)
    return index if spec.kind == "token" else spec.dequantise(index)


def _repeated(x: Encoded, times: int) -> Encoded:
    return each(lambda part: part.repeat(times, *(1,) * (part.dim() - 1)), x)
