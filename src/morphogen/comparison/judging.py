"""Two models and a judge: which of two answers to one prompt is better, how often, how surely?

All models get the same prompts of data that none of them was trained on, and the same seeds. The
first model is the one that the others are held against. A judge is a function of yours, a metric of
how near an answer is to the data's own, or people who are not told whose it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from morphogen.comparison.judges import Ask, Pair, judge_of
from morphogen.comparison.win_rate import WinRate
from morphogen.core.batch import Batch
from morphogen.core.bundle import Bundle
from morphogen.core.draws import draws
from morphogen.core.errors import DataError, RecipeError
from morphogen.core.objective import Drawn
from morphogen.core.random import generator, mix_seed
from morphogen.core.recipe import Recipe
from morphogen.core.storage import expanded, write_text
from morphogen.data.dataset import Data, load
from morphogen.data.packing import Packed
from morphogen.data.store import Store
from morphogen.training.adapting import codec_on
from morphogen.training.rewards import parted, text_of

MOST = 100  # prompts, unless told
AT_ONCE = 8


@dataclass
class Judged:
    """What a judge found."""

    against: str
    judge: str
    data: str
    rates: list[WinRate] = field(default_factory=list)
    protocol: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "verdicts": {each.model: each.verdict for each in self.rates}}


def compare_models(
    bundles: Sequence[Bundle | Path | str],
    data: Path | str,
    judge: str,
    *,
    num: int | None = None,
    most: int | None = None,
    seed: int = 0,
    out: Path | str = "comparison",
    ask: Ask | None = None,
    on_answers: Callable[[str, int], None] = lambda model, num: None,
) -> Judged:
    """Let models answer up to `num` prompts of data, and a judge say how often each is better than
    the first; writes judged.json and answers.jsonl into `out`.

    Of data that one of them was trained on, the held-out split alone is asked. Raises `DataError`
    where nothing is asked that all can read.
    """
    if len(bundles) < 2:
        raise RecipeError(
            "there is nothing to compare with", found=f"{len(bundles)} models",
            expected="two bundles, or more", hint="morphogen compare A B --data DATA --judge chrf",
        )  # fmt: skip
    out = expanded(out)
    decide = judge_of(judge, out / "ballot.jsonl", seed, ask)
    opened = [each if isinstance(each, Bundle) else Bundle.open(each) for each in bundles]
    names = _names(opened)
    read = [load(data, codec=codec_on(each, data, Recipe())) for each in opened]
    known = any(
        each.data.get("digest") == there.digest for each, there in zip(opened, read, strict=True)
    )
    told = []
    for name, bundle, there in zip(names, opened, read, strict=True):
        told.append(_answers(bundle, there, known, num=num or MOST, most=most, seed=seed))
        on_answers(name, len(told[-1]))
    common = [name for name in told[0] if all(name in each for each in told)]
    if not common:
        raise DataError(
            "there is nothing that all models can be asked", found="no item", where=data,
            hint="morphogen inspect, and a --data of held-out items",
        )  # fmt: skip
    found = Judged(names[0], judge, str(data), protocol={
        "seed": seed, "pairs": len(common), "left_out": len(told[0]) - len(common),
        "items": "the held-out split" if known else "all items of the data",
        "data_digest": read[0].digest, "interval": "95 %, Clopper-Pearson, ties as halves",
    })  # fmt: skip
    for name, answers in zip(names[1:], told[1:], strict=True):
        pairs = [
            Pair(told[0][i].said, answers[i].said, told[0][i].asked, told[0][i].reference)
            for i in common
        ]
        found.rates.append(WinRate.of(name, decide(pairs)))
    _write(out, found, names, told, common)
    return found


@dataclass(frozen=True)
class _Answer:
    said: Any
    asked: str | None
    reference: str | None


def _answers(
    bundle: Bundle, data: Data, known: bool, *, num: int, most: int | None, seed: int
) -> dict[str, _Answer]:
    """What a model says, by the name of what was asked."""
    codec, family = data.codec, bundle.family
    found: dict[str, _Answer] = {}
    for split in (data.test,) if known else (data.train, data.test):
        split = split.apart() if isinstance(split, Packed) else split
        room = num - len(found)
        for part in torch.split(torch.arange(min(len(split), max(room, 0))), AT_ONCE):
            batch = split.batch(part)
            draw = generator(mix_seed(seed, len(found)))
            drawn = draws(family, batch, 1, prompts="auto", most=most, generator=draw)
            said, asked = parted(drawn, codec)
            for row, index in enumerate(part.tolist()):
                reference = _reference(batch, drawn, row, codec)
                found[_name(split, index)] = _Answer(said[row], asked[row], reference)
    return found


def _reference(batch: Batch, drawn: Drawn, row: int, codec: Any) -> str | None:
    """What the data answers, or how its text goes on."""
    if drawn.own is None or not hasattr(codec, "tokenizer"):
        return None
    x = batch.x[row]
    if batch.weight is None:
        asked = int(drawn.own[row].nonzero()[0]) if drawn.begun else len(x)
        return text_of(x[asked:], codec) if drawn.begun else None
    learned = batch.weight[row] > 0
    first = int(learned.nonzero()[0])
    after = (~learned[first:]).nonzero()
    return text_of(x[first : first + int(after[0])] if len(after) else x[first:], codec)


def _name(split: Store, index: int) -> str:
    return split.names[index] if len(split.names) else f"{index}"


def _names(bundles: Sequence[Bundle]) -> list[str]:
    """What each is called; by number where two have one name."""
    found = [str(each.path or f"model {i + 1}") for i, each in enumerate(bundles)]
    return [f"{name} ({i + 1})" if found.count(name) > 1 else name for i, name in enumerate(found)]


def _write(
    out: Path,
    found: Judged,
    names: Sequence[str],
    told: Sequence[Mapping[str, Any]],
    common: Sequence[str],
) -> None:
    write_text(out / "judged.json", json.dumps(found.to_json(), indent=2) + "\n")
    lines = []
    for item in common:
        first = told[0][item]
        said = {name: f"{each[item].said}" for name, each in zip(names, told, strict=True)}
        asked = {"asked": first.asked, "reference": first.reference}
        lines.append(json.dumps({**asked, **said}, ensure_ascii=False))
    write_text(out / "answers.jsonl", "".join(f"{line}\n" for line in lines))
