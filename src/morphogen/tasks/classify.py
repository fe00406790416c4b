r"""Say which class an item belongs to, or which value it has.

    predict    the model's own p(y | x), or its estimate of a continuous target
    denoise    p(y | x) = p(x | y) p(y) / sum_y' p(x | y') p(y'), log p(x | y) from how well the
               noise on x is predicted given y, with the same noises for every class (diffusion
               classifier, Li et al. 2023)
    log_prob   the same from a conditional likelihood
    match      p(y | x) = softmax_y of s f(x) . g("y"), for classes that are given by name or by a
               sentence, with models that place items and what is said of them in one space
               (zero-shot, Radford et al. 2021); all classes, where a class is what is said
    texts      the same by published models: of "a photo of a y"

A model whose likelihood is a bound or an estimate gives the probabilities that these imply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from morphogen.core.capability import (
    CanDenoise,
    CanMatch,
    CanPredict,
    HasLogProb,
    HasTextFeatures,
    missing,
    unless,
)
from morphogen.core.encoded import device, num_items
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.result import Result
from morphogen.core.spec import TensorSpec
from morphogen.tasks._posterior import noise_error
from morphogen.tasks._routes import Conditions, choose, in_chunks

Evidence = Callable[[Conditions], Tensor]  # log p(x | conditions), up to a constant: (N,)
PHOTO = "a photo of a {}."  # by which published models know a class (Radford et al. 2021)


def _unfit(model: object) -> str | None:
    conditions = _conditions(model)
    known = any(not missing(model, each) for each in (CanPredict, HasTextFeatures))
    if known or _matches(model) or any(spec.is_label for spec in conditions.values()):
        return None
    return "needs a model that was trained with labels (--condition label)"


def _conditions(model: object) -> Mapping[str, TensorSpec]:
    conditions: Mapping[str, TensorSpec] = getattr(model, "conditions", {})
    return conditions


def _matches(model: object) -> bool:
    """Whether it places something that is said of items among them."""
    return not missing(model, CanMatch) and getattr(model, "target", None) in _conditions(model)


@unless(_unfit)
def classify(
    model: CanPredict | CanMatch | HasTextFeatures | HasLogProb | CanDenoise,
    x: Any,
    codec: Any = None,
    *,
    cond: Conditions | None = None,  # conditions by name other than the one asked for
    generator: torch.Generator,
    target: str | None = None,  # the label to find; none takes the model's only one
    prior: list[float] | None = None,  # class frequencies for the generative routes; none: equal
    classes: list[str] | None = None,  # their names, for models that place texts among items
    template: str | None = None,  # what stands for a class; none: its name, or a photo of a {}.
    num_draws: int = 32,  # denoising route: noises that the error is averaged over
    route: Literal["predict", "match", "texts", "denoise", "log_prob"] | None = None,  # force a way
) -> Result:
    """Say which class each item belongs to, with the probability of every class."""

    def by_prediction(m: CanPredict) -> tuple[str, TensorSpec, Tensor]:
        if target not in (None, m.target):
            raise RecipeError("the model predicts another target", found=target, expected=m.target)
        return m.target, m.target_spec, in_chunks(lambda part, _: m.predict(part), x)

    def by_matching(m: CanMatch) -> tuple[str, TensorSpec, Tensor]:
        return _by_matching(m, x, codec, classes, template or "{}")

    def by_texts(m: HasTextFeatures) -> tuple[str, TensorSpec, Tensor]:
        told = m.text_features(_as_texts(classes, template or PHOTO))
        found = in_chunks(lambda part, _: m.features(part), x)
        return "class", TensorSpec.label(len(told)), (m.text_scale * found @ told.T).softmax(1)

    def by_likelihood(m: HasLogProb) -> tuple[str, TensorSpec, Tensor]:
        def evidence(given: Conditions) -> Tensor:
            found: Tensor = in_chunks(
                lambda part, c: m.log_prob(part, cond=c, generator=generator), x, given
            )
            return found

        return by_bayes(evidence)

    def by_denoising(m: CanDenoise) -> tuple[str, TensorSpec, Tensor]:
        def evidence(given: Conditions) -> Tensor:
            return -noise_error(m, x, given, num_draws, generator).flatten(1).sum(1)

        return by_bayes(evidence)

    def by_bayes(evidence: Evidence) -> tuple[str, TensorSpec, Tensor]:
        label, spec = _label(model, target)
        weights = _check_prior(prior, spec.vocab_size or 1)
        state = generator.get_state()
        logits = []
        for index, weight in enumerate(weights):
            generator.set_state(state)  # the same draws for every class
            classes = torch.full((num_items(x),), index, dtype=torch.long, device=device(x))
            log_prior = math.log(weight) if weight > 0 else -math.inf
            logits.append(evidence({**(cond or {}), label: classes}) + log_prior)
        return label, spec, torch.stack(logits, dim=1).softmax(1)

    routes: dict[str, Callable[..., Any]] = {
        "predict": by_prediction,
        **({"match": by_matching} if _matches(model) else {}),
        "texts": by_texts,
        "denoise": by_denoising,
        "log_prob": by_likelihood,
    }
    if classes is not None and missing(model, HasTextFeatures) and not _matches(model):
        raise RecipeError(
            "the model knows its classes from its data",
            found=f"classes={','.join(classes)}", hint="leave classes out",
        )  # fmt: skip
    name, run = choose(model, routes, route)
    found, spec, output = run()
    if spec.kind == "real":
        return Result(x, {found: output.tolist()}, name)
    by_name = classes is not None and name in ("match", "texts")
    known = classes if by_name else None if codec is None else codec.class_names(found)
    return _named(Result(x, {"probs": output.tolist()}, name), found, known)


def _named(result: Result, found: str, classes: Sequence[str] | None) -> Result:
    """Say the likeliest class of each item by its name, and in which order the names are in
    `probs`; by its number where classes have no names."""
    probs = result.values["probs"]
    best = [max(range(len(row)), key=row.__getitem__) for row in probs]
    if not classes:
        result.values = {found: best, **result.values}
        return result
    named = [classes[number] for number in best]
    result.values = {found: named, **result.values, "classes": list(classes)}
    result.told = {found: named, "probability": list(map(max, probs))}
    return result


def _by_matching(
    model: CanMatch, x: Any, codec: Any, classes: list[str] | None, template: str
) -> tuple[str, TensorSpec, Tensor]:
    """How probable each class is by how near what stands for it lies: the answer's name, what it
    is, and probabilities (N, M)."""
    name, spec, values = _said(model, codec, classes, template)
    told = model.encode_condition({str(model.target): values.to(device(x))})
    found = in_chunks(lambda part, _: model.encode(part), x)
    return name, spec, (model.scale * found @ told.T).softmax(1)


def _said(
    model: CanMatch, codec: Any, classes: list[str] | None, template: str
) -> tuple[str, TensorSpec, Tensor]:
    """What stands for each class, as the model's condition (M, *), and what an answer is: one of
    `classes`, or of its own where a class is what is said of items.

    Raises `RecipeError` where it reads no words, or none are given."""
    name = str(model.target)
    own = _conditions(model).get(name)
    if own is not None and own.is_label and classes is None:
        return name, own, torch.arange(own.vocab_size or 1)
    texts = _as_texts(classes, template)
    reader = None if codec is None else codec.condition_codecs.get(name)
    if reader is None:
        raise RecipeError(f"nothing here reads {name!r}", found="no codec of it")
    values = torch.stack([codec.encode_condition(name, reader.parse(text)) for text in texts])
    return "class", TensorSpec.label(len(texts)), values


def _as_texts(classes: list[str] | None, template: str) -> list[str]:
    """The text that stands for each class. Raises `RecipeError` for classes that cannot be told
    apart."""
    if not classes or len(classes) < 2 or len({*classes}) < len(classes):
        raise RecipeError(
            "name the classes that are asked about",
            found=", ".join(classes or ()) or None,
            expected="two or more, all different",
            hint="--set classes=cat,dog,boat",
        )
    if "{}" not in template:
        raise RecipeError(
            "the template has no place for a class", found=template, expected="a photo of a {}."
        )
    return [template.replace("{}", each.strip()) for each in classes]


def _check_prior(prior: list[float] | None, num_classes: int) -> list[float]:
    """Class frequencies, equal where none are given."""
    weights = prior if prior is not None else [1.0] * num_classes
    if len(weights) != num_classes or min(weights) < 0 or sum(weights) <= 0:
        raise RecipeError(
            "the prior does not fit the label",
            found=weights,
            expected=f"{num_classes} frequencies, not negative",
        )
    return weights


def _label(model: object, target: str | None) -> tuple[str, TensorSpec]:
    """The label condition that is asked for."""
    conditions = _conditions(model)
    labels = {n: s for n, s in conditions.items() if s.is_label}
    if target is None and len(labels) == 1:
        return next(iter(labels.items()))
    if target in labels:
        return str(target), labels[str(target)]
    if not labels:
        raise RefusedPair(
            "the model was not trained with labels, so it cannot tell classes apart",
            found=f"{type(model).__name__} with conditions: {', '.join(conditions) or 'none'}",
            hint="train --family supervised on labelled data, or a conditional model",
        )
    raise RecipeError(
        "say which label to find" if target is None else "the model has no such label",
        found=target,
        expected=f"target={' or '.join(labels)}",
    )
