"""Generated items held to real ones: by every metric, by two judges, beside yardsticks.

The judges are of different make: a classifier trained on this data (`features`), and whole items
described without training (`whole`). Distances are measured over the features of both. The worse
one leads: `frechet_ratio`, which the page's first sentence, leaderboards and gates go by.

Legend: N items.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from morphogen.core import discover
from morphogen.core.encoded import Encoded, num_items, rows
from morphogen.core.errors import MeasurementError
from morphogen.core.measurement import Measurement
from morphogen.core.metric import Features, Items, Sets, kind_of
from morphogen.core.random import generator, mix_seed
from morphogen.data.dataset import Data
from morphogen.data.store import Store
from morphogen.evaluation._judge import Samples
from morphogen.evaluation.features import FeatureExtractor, parts
from morphogen.evaluation.scores import check_enough, measure
from morphogen.evaluation.whole import WholeItem
from morphogen.evaluation.yardsticks import told, yardsticks

MOST_REFERENCES = 10_000  # held-out items
MOST_ITEMS = 2_000  # of each set, for metrics that look at the items themselves
LEADING = "frechet"  # the metric that both judges are asked for
Drawn = tuple[Encoded, Mapping[str, Tensor]]  # items, and what they were asked for with


@dataclass(frozen=True)
class Judged:
    """Generated items with what both judges see of them and of real ones."""

    samples: Samples
    whole: Features
    judge: WholeItem

    @classmethod
    def of(cls, drawn: Drawn, data: Data, extractor: FeatureExtractor, seed: int) -> Judged:
        """Features of the samples, of as many training items, and of held-out items."""
        x, asked = drawn
        draw = generator(mix_seed(seed, 1))
        shuffled = torch.randperm(len(data.train), generator=draw)
        order = shuffled[: num_items(x)]
        held_out = torch.randperm(len(data.test), generator=draw)[:MOST_REFERENCES]
        judge = WholeItem.of(data)
        unread = shuffled[~torch.isin(shuffled, judge.bank)][: num_items(x)]

        def seen(features: Callable[[Encoded], Tensor], train: Tensor) -> Features:
            return Features(
                features(rows(x, slice(len(train)))),
                features_of(features, data.test, held_out),
                features_of(features, data.train, train),
            )

        samples = Samples(seen(extractor.features, order), order, held_out, extractor, asked)
        return cls(samples, seen(judge.features, unread), judge)


def features_of(features: Callable[[Encoded], Tensor], split: Store, index: Tensor) -> Tensor:
    """Features of the items of a split at `index`, a part at a time."""
    return torch.cat([features(split.batch(index[part]).x) for part in parts(len(index))])


def score_samples(
    record: dict[str, Any], judged: Judged, data: Data, seed: int
) -> list[Measurement]:
    """The distance by both judges with the worse one leading, and what stands beside it."""
    samples, extractor = judged.samples, judged.samples.extractor
    record["features"] = extractor.facts()
    record["protocol"] |= {
        "num_generated": len(samples.sets.generated),
        "num_floor": len(samples.train),
        "num_reference": len(samples.sets.reference),
        "features": extractor.name,
        "features_sha256": extractor.weights_hash,
        "second_judge": judged.judge.name,
        "second_judge_sha256": judged.judge.weights_hash,
    }
    try:
        check_enough(samples.sets)
    except MeasurementError as error:
        record["warnings"].append(f"samples were not scored: {error.message}, {error.found}")
        return []
    found: dict[str, list[Measurement]] = {}
    record["judges"] = {}
    for key, name, sets, by in (
        ("classifier", extractor.name, samples.sets, extractor),
        ("whole_item", judged.judge.name, judged.whole, judged.judge),
    ):
        try:
            found[key] = measure(LEADING, sets, record["protocol"], seed)
        except MeasurementError as error:
            record["warnings"].append(
                f"{LEADING} by the {name} was not measured: {error.message}, {error.found}"
            )
            continue
        ratio = next((each for each in found[key] if each.name == f"{LEADING}_ratio"), None)
        distance = next(each for each in found[key] if each.name == LEADING)
        record["judges"][key] = {"name": name}
        if ratio is not None and distance.floor:
            sticks = yardsticks(
                by.features, data, sets.reference, distance.floor,
                key=by.weights_hash, seed=seed, bank=judged.judge.bank,
            )  # fmt: skip
            record["judges"][key] |= {"ratio": ratio.value, **told(sticks, ratio)}
    unseen = _unseen(record["judges"])
    if unseen:
        record["unseen"] = unseen
    return _led(found, record)


def _unseen(judges: Mapping[str, Any]) -> list[str]:
    """Damage that no judge can see."""
    each = [judge["unseen"] for judge in judges.values() if "unseen" in judge]
    return [words for words in each[0] if all(words in other for other in each)] if each else []


def _led(found: Mapping[str, list[Measurement]], record: dict[str, Any]) -> list[Measurement]:
    """The scores of both judges by name, and the worse ratio as the one that leads."""
    scores, ratios = [], {}
    for key, measured in found.items():
        name = record["judges"][key]["name"]
        for each in measured:
            if each.name == f"{LEADING}_ratio":
                ratios[key] = each
            by = (
                each.name
                if key == "classifier" and each.name == LEADING
                else f"{each.name}_by_{key}"
            )
            note = "; ".join(filter(None, [each.note, f"judge: {name}"]))
            scores.append(replace(each, name=by, note=note))
    if ratios:
        worst = max(ratios, key=lambda key: ratios[key].value)
        record["leading_judge"] = worst
        others = ", ".join(
            f"{record['judges'][key]['name']} says {each.value:.3g}"
            for key, each in ratios.items()
            if key != worst
        )
        note = f"times the floor, by the stricter judge ({record['judges'][worst]['name']})"
        scores.insert(0, replace(ratios[worst], note=f"{note}; {others}" if others else note))
    return scores


# -- all other metrics -----------------------------------------------------------------------------

Builder = Callable[[], Sets]
NO_SAMPLES = "the model does not sample"


def measure_all(
    record: dict[str, Any], given: Mapping[type[Sets], Builder | str], seed: int
) -> list[Measurement]:
    """Every other metric over the sets that it asks for: what builds them, or why there are none.

    What does not apply is said in the record, by metric.
    """
    found: list[Measurement] = []
    built: dict[type[Sets], Sets] = {}
    refused: dict[str, str] = {}
    for name in discover.names("metric"):
        kind = kind_of(discover.find("metric", name))
        source = given.get(kind, NO_SAMPLES)
        if isinstance(source, str):
            refused[name] = source
            continue
        if name == LEADING:
            continue
        try:
            if kind not in built:
                built[kind] = source()
                check_enough(built[kind])
            measured = measure(name, built[kind], record["protocol"], seed)
        except MeasurementError as error:  # the other scores are worth having
            refused[name] = f"{error.message}, {error.found}"
            record["warnings"].append(f"{name} was not measured: {refused[name]}")
            continue
        found += measured
    if refused:
        record["not_measured"] = refused
    return found


def items_of(x: Encoded, samples: Samples, data: Data) -> Items:
    """The samples and as many real items as they are."""
    some = slice(MOST_ITEMS)
    return Items(
        data.spec,
        rows(x, some),
        data.test.batch(samples.held_out[some]).x,
        data.train.batch(samples.train[some]).x,
        data.codec.decode_many,
        functools.cache(lambda: _training_values(data)),
    )


def _training_values(data: Data) -> list[Any]:
    """All training items, as a user has them."""
    every = parts(len(data.train))
    return [value for i in every for value in data.codec.decode_many(data.train.batch(i).x)]


def worst_statistic(found: list[Measurement], names: Mapping[str, bool | None]) -> str:
    """A sentence on the plain statistic that is farthest from its floor, in its own errors."""
    own = [each for each in found if each.name in names and each.floor is not None]

    def excess(each: Measurement) -> float:
        error = max((each.high or each.value) - each.value, 1e-9)
        return (each.value - (each.floor or 0.0)) / error

    if not own:
        return ""
    worst = max(own, key=excess)
    if excess(worst) <= 1:
        return "no plain statistic differs from real data's by more than its interval"
    return (
        f"the plain statistic that is farthest off: {worst.name.replace('_', ' ')}, "
        f"{worst.value:.3g} where real items have {worst.floor:.3g}"
    )
