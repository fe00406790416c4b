"""The promises of a metric: `metric(sets, *, generator) -> {score: number}`.

Each is held to sets of the kind that it asks for. Features are Gaussian: three draws of the
reference's own distribution must each score better than items that are moved by one deviation, and
those no worse than items moved by three, in the direction that each score declares. Likelihoods are
held to the same, with training items that cost less by one deviation and by three, and so are many
draws for one item, and places that move down a list. What a score of
`Items` or `References` looks at is its own affair: of those some score must see that items of
another law are no draws of the data's, for real values, for tokens, for parts, where it has a score
for such.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from morphogen.core.encoded import Encoded, each, tensor, unstacked
from morphogen.core.errors import MeasurementError, RecipeError
from morphogen.core.metric import (
    Aligned,
    Draws,
    Features,
    Items,
    Likelihoods,
    Ranks,
    References,
    Sets,
    kind_of,
)
from morphogen.core.random import generator, rand, randint, randn
from morphogen.core.spec import ProductSpec, Spec, TensorSpec
from morphogen.testing._promises import check_described, leaves_global_rng, promise, works

NUM_GENERATED, NUM_REFERENCE, NUM_FEATURES = 100, 120, 4
TOLERANCE = 1e-6  # of a score, for items in another order
# What a metric must refuse when it holds NaN: of other sets, the generated and the reference items.
PARTS: dict[type[Sets], tuple[str, str]] = {
    Likelihoods: ("bits", "train_bits"),
    Ranks: ("ranks", "by_chain"),
    Aligned: ("generated", "asked"),
}
SPECS: tuple[Spec, ...] = (
    TensorSpec("real", (1, 6, 6), levels=256),
    TensorSpec.tokens(12, 8, end=7),
    TensorSpec.columns((3, 5, 2)),
    ProductSpec({"size": TensorSpec.vector(3), "kind": TensorSpec.label(4)}),
)
TEXTS: tuple[Spec, ...] = (TensorSpec.tokens(12, 8, end=7), TensorSpec.tokens(12, 8, boundary=7))


def check_metric(metric: Callable[..., Any]) -> None:
    """Hold a metric to its contract."""
    name = metric.__name__
    check_described(metric)
    declared: Mapping[str, bool | None] = getattr(metric, "higher_is_better", {})
    promise(
        declared,
        f"{name} declares no scores: mark it with core.metric.scores",
    )
    known = all(direction in (True, False, None) for direction in declared.values())
    promise(known, f"{name}: the direction of a score is True, False or None, not {declared}")
    kind = _check_signature(metric, name)
    moved = {
        Features: _of_features,
        Likelihoods: _of_likelihoods,
        Draws: _of_draws,
        Ranks: _of_ranks,
        Aligned: _of_aligned,
    }
    if kind in moved:
        _check_moved(metric, moved[kind])
    else:
        _check_items(metric, kind)


def _check_signature(metric: Callable[..., Any], name: str) -> type[Sets]:
    try:
        kind = kind_of(metric)
    except (RecipeError, NameError) as error:
        raise AssertionError(f"{name} does not say what it needs: {error}") from error
    parameters = inspect.signature(metric).parameters
    keyword = "generator" in parameters
    keyword = keyword and parameters["generator"].kind is inspect.Parameter.KEYWORD_ONLY
    promise(keyword, f"{name} has no keyword-only argument 'generator'")
    return kind


def _check_moved(metric: Callable[..., Any], draw: Callable[..., Sets]) -> None:
    """Scores of equal distributions are better than those of one that is moved, and further is no
    better."""
    name = metric.__name__
    equal = [draw(seed) for seed in (1, 2, 3)]
    found = [_run(metric, sets) for sets in equal]
    _check_repeats(metric, equal[0], found[0])
    shifted = [_run(metric, draw(1, moved=distance)) for distance in (1, 3)]
    for score, higher in metric.higher_is_better.items():  # type: ignore[attr-defined]
        if higher is not None:
            one, three = (_signed(each[score], higher) for each in shifted)
            worst = min(_signed(each[score], higher) for each in found)
            better = "higher" if higher else "lower"
            promise(
                worst > one,
                f"{name} says that {better} is better, but {score} is {abs(worst):.4g} for equal "
                f"distributions and {abs(one):.4g} for one moved by a deviation",
            )
            promise(
                one >= three,
                f"{name} says that {better} is better, but {score} is {abs(one):.4g} for items "
                f"moved by one deviation and {abs(three):.4g} for those moved by three",
            )
    _check_refusals(metric, equal[0])


def _check_items(metric: Callable[..., Any], kind: type[Sets]) -> None:
    """Every spec that the metric has scores for: it repeats itself, and sees another law."""
    name, seen = metric.__name__, set()
    declared: Mapping[str, bool | None] = metric.higher_is_better  # type: ignore[attr-defined]
    directed = {score: higher for score, higher in declared.items() if higher is not None}
    for spec in TEXTS if getattr(kind, "of", "") else SPECS:
        sets, other = _of_items(spec, kind, 1), _of_items(spec, kind, 1, moved=1)
        try:
            metric(sets, generator=generator(5))
        except MeasurementError:
            continue  # it has nothing to say of such items
        except Exception:  # told by what follows
            pass
        found = _run(metric, sets, f" of {spec}")
        _check_repeats(metric, sets, found)
        worse = _run(metric, other, f" of {spec}")
        seen |= set(found)
        tells = not directed.keys() & found.keys() or any(
            _signed(found[score], directed[score]) > _signed(worse[score], directed[score])
            for score in directed.keys() & found.keys() & worse.keys()
        )
        promise(tells, f"{name} scores items of another law as well as the data's: {spec}")
    missed = set(declared) - seen
    promise(seen, f"{name} measures items of no spec at all")
    promise(not missed, f"{name} declares {', '.join(sorted(missed))}, and never returns it")
    if kind is Items:
        _check_refusals(metric, _of_items(SPECS[0], kind, 1))


def _run(metric: Callable[..., Any], sets: Sets, where: str = "") -> Mapping[str, float]:
    """The scores, once they are what was declared: those names, finite numbers."""
    name = metric.__name__ + where
    kept = {name: _cloned(value) for name, value in vars(sets).items()}
    with works(name), leaves_global_rng(name):
        found = metric(sets, generator=generator(5))
    promise(isinstance(found, Mapping), f"{name} returns a {type(found).__name__}, not a mapping")
    declared = metric.higher_is_better  # type: ignore[attr-defined]
    of_items = isinstance(sets, (Items, References))  # of which those are given that apply
    promise(
        set(found) <= set(declared) if of_items and found else set(found) == set(declared),
        f"{name} returns {', '.join(sorted(found))}, but declares {', '.join(sorted(declared))}",
    )
    for score, value in found.items():
        number = isinstance(value, (int, float))
        promise(number, f"{name}: {score} is a {type(value).__name__}, not a number")
        promise(math.isfinite(value), f"{name}: {score} is not finite, but {value}")
    same = all(_alike(value, getattr(sets, part)) for part, value in kept.items())
    promise(same, f"{name} changes its input")
    return found


def _check_repeats(metric: Callable[..., Any], sets: Sets, found: Mapping[str, float]) -> None:
    """One seed gives one result, in whatever order the items come."""
    name = metric.__name__
    again = _run(metric, sets)
    promise(dict(again) == dict(found), f"{name} gives two results for one generator seed")
    mixed = sets.mixed(generator(6))
    other = _run(metric, mixed, " in another order")
    for score, value in found.items():
        same = math.isclose(value, other[score], rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        promise(
            same,
            f"{name}: {score} depends on the order of the items: {value:.6g}, {other[score]:.6g}",
        )


def _check_refusals(metric: Callable[..., Any], sets: Any) -> None:
    """What cannot be measured is a `MeasurementError`, and not a number."""
    first, second = PARTS.get(type(sets), ("generated", "reference"))
    cases = {}
    for part in (first, second):
        spoilt = getattr(sets, part).clone()
        spoilt.view(len(spoilt), -1)[3, -1] = torch.nan
        cases[f"{part} with NaN"] = replace(sets, **{part: spoilt})
    if isinstance(sets, Features):
        narrow = replace(sets, reference=sets.reference[:, :-1])
        cases["sets with unequal numbers of features"] = narrow
        cases["sets of one item"] = sets.thinned(1)
    for what, each_case in cases.items():
        try:
            metric(each_case, generator=generator(5))
        except MeasurementError:
            continue
        except Exception as error:
            raise AssertionError(
                f"{metric.__name__} answers {what} with a {type(error).__name__}, "
                "not a MeasurementError"
            ) from error
        raise AssertionError(f"{metric.__name__} does not refuse {what}")


# -- sets to be held to --------------------------------------------------------------------------


def _of_features(seed: int, moved: float = 0.0) -> Features:
    """Correlated Gaussian features, of deviation 1."""

    def draw(num: int, seed: int) -> Tensor:
        x = randn((num, NUM_FEATURES), generator(seed))
        return (x + 0.5 * x.roll(1, dims=1)) / math.sqrt(1.25)

    return Features(draw(NUM_GENERATED, seed) + moved, draw(NUM_REFERENCE, 0))


def _of_likelihoods(seed: int, moved: float = 0.0) -> Likelihoods:
    """Bits of items of 8 to 12 units; `moved` down where they were trained on."""
    draw = generator(seed)
    held, trained = (randint(5, (num,), draw).float() + 8 for num in (120, 100))
    bits = held * (3 + 0.2 * randn(held.shape, draw))
    return Likelihoods(
        bits, held, trained * (3 - moved + 0.2 * randn(trained.shape, draw)), trained
    )


def _of_draws(seed: int, moved: float = 0.0) -> Draws:
    """Draws of the law of each item, whose mean is its own; or `moved` from it."""
    draw = generator(seed)
    shape = (NUM_GENERATED, 9, NUM_FEATURES)
    mean = randn((NUM_GENERATED, NUM_FEATURES), draw)
    truth = mean + randn(mean.shape, draw)
    drawn = mean[:, None] + moved + randn(shape, draw)
    return Draws(TensorSpec.vector(NUM_FEATURES), drawn, truth, randn(shape, draw))


def _of_ranks(seed: int, moved: float = 0.0) -> Ranks:
    """Places among 40; `moved` down the list."""
    draw = generator(seed)
    first, second, third = (1 + randint(40, (NUM_GENERATED,), draw).double() for _ in range(3))
    return Ranks(1 + (first - 1) * (0.5 + moved), second, third, num=40)


def _of_aligned(seed: int, moved: float = 0.0) -> Aligned:
    """Items near what each was asked for, the less so the more they are `moved`."""
    draw = generator(seed)
    shape = (NUM_GENERATED, 4 * NUM_FEATURES)
    asked = torch.nn.functional.normalize(randn(shape, draw), dim=1)
    found = asked + (0.1 + 0.2 * moved) * randn(shape, draw)
    found = torch.nn.functional.normalize(found, dim=1)
    return Aligned(found, asked, asked, asked)


def _of_items(spec: Spec, kind: type[Sets], seed: int, moved: float = 0.0) -> Sets:
    """Draws of one law, or of another one where `moved`."""
    generated = _draw(spec, NUM_GENERATED, seed, moved)
    decode = _as_examples(kind) if getattr(kind, "of", "") else _listed
    if issubclass(kind, Items):
        train = _draw(spec, NUM_GENERATED, 9, 0)
        return kind(spec, generated, _draw(spec, NUM_REFERENCE, 0, 0), train, decode)
    assert issubclass(kind, References)
    reference = _draw(spec, NUM_GENERATED, 0, 0)
    near = reference if not moved else generated  # what an item of the same conditions is like
    return kind(spec, near, reference, reference, ("label",), decode)


def _draw(spec: Spec, num: int, seed: int, moved: float) -> Encoded:
    draw = generator(seed)
    if isinstance(spec, ProductSpec):
        return {
            name: _tensor(part, num, seed + 10 * number, moved)
            for number, (name, part) in enumerate(spec)
        }
    return spec.canonical(_tensor(spec, num, int(randint(1000, (1,), draw)), moved))


def _tensor(spec: TensorSpec, num: int, seed: int, moved: float) -> Tensor:
    draw = generator(seed)
    if spec.kind == "token":
        sizes = torch.tensor(spec.sizes or (spec.vocab_size,)).expand(max(1, math.prod(spec.shape)))
        power = 4.0 if moved else 0.7  # low tokens, or all alike
        x = (rand((num, len(sizes)), draw) ** power * sizes).long().clamp(max=sizes - 1)
        return x.view(num, *spec.shape)
    x = 0.2 * randn((num, *spec.shape), draw)
    x = x.relu() if len(spec.shape) > 1 else x  # half of a picture is exactly black
    x = x.clamp(-1, 1) if not moved else (x + 0.3 * rand(x.shape, draw) + 0.2).clamp(-1, 1)
    return spec.dequantise(spec.quantise(x)) if spec.levels else x


def _as_examples(kind: type[Sets]) -> Callable[[Encoded], list[Any]]:
    """Items of a field: the `example` that its sets give for small numbers, or texts."""
    example = getattr(kind, "example", None)
    if example is None:
        return _written
    return lambda x: [example(item) for item in tensor(x).flatten(1).tolist()]


def _listed(x: Encoded) -> list[Any]:
    def plain(item: Encoded) -> Any:
        return {n: v.tolist() for n, v in item.items()} if isinstance(item, dict) else item.tolist()

    return [plain(item) for item in unstacked(x)]


def _written(x: Encoded) -> list[str]:
    """Items as texts, a word for each token, which Python parses too."""
    if isinstance(x, dict):
        raise MeasurementError("items of parts are no texts", found=", ".join(x))
    return [f"w({', '.join(f'w{token}' for token in item)})" for item in x.flatten(1).tolist()]


def _cloned(value: Any) -> Any:
    return each(torch.clone, value) if isinstance(value, (Tensor, dict)) else value


def _alike(kept: Any, now: Any) -> bool:
    if isinstance(kept, Tensor):
        return torch.equal(kept, now)
    if isinstance(kept, dict):
        return all(torch.equal(kept[name], now[name]) for name in kept)
    return bool(kept == now)


def _signed(value: float, higher: bool) -> float:
    """The score such that higher is better."""
    return value if higher else -value
