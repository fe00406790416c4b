"""Who says which of two answers is better: each judge is named, and knows of no model.

package.module:function     what your function gives for (items), or (items, prompts): more wins
chrf, bleu, rouge_l         nearer to the answer that the data has wins
votes                       you, on the terminal, not told whose answer is which
ballot.jsonl                votes that were cast in such a file
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from morphogen.core.border import read_lines
from morphogen.core.errors import DataError, RecipeError
from morphogen.core.metric import TextReferences
from morphogen.core.random import randint
from morphogen.core.spec import TensorSpec
from morphogen.core.storage import expanded, write_text
from morphogen.training.rewards import by_function

METRICS = {"chrf": "chrf", "bleu": "bleu", "rouge_1": "rouge_1", "rouge_l": "rouge_l"}
VOTES, TIE = "votes", 0
BALLOT = {"pair": int, "1": str, "2": str, "vote": Any}


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt; `reference` is the answer that the data has."""

    first: Any
    second: Any
    prompt: str | None = None
    reference: str | None = None


Judge = Callable[[Sequence[Pair]], list[float]]  # of each: 1 the second wins, 0 the first, .5 a tie
# Shows a prompt and two answers, and gives 1, 2, or 0 for a tie; None ends the voting.
Ask = Callable[[str | None, str, str], int | None]


def judge_of(name: str, ballot: Path, seed: int, ask: Ask | None = None) -> Judge:
    """The judge of a name; votes are kept in `ballot`. Raises `RecipeError` for no such one."""
    if name in METRICS:
        return lambda pairs: by_metric(name, pairs)
    if ":" in name:
        rewards = by_function(name)
        return lambda pairs: by_rewards(rewards, pairs)
    if name == VOTES:
        return lambda pairs: by_votes(pairs, ballot, seed, ask)
    if expanded(name).is_file():
        return lambda pairs: by_votes(pairs, expanded(name), seed, None)
    raise RecipeError(
        "there is no such judge", found=name,
        expected=f"module:function, {', '.join(METRICS)}, votes, or the file of a ballot",
    )  # fmt: skip


def by_rewards(rewards: Any, pairs: Sequence[Pair]) -> list[float]:
    """More is better; the same is a tie. Each answer is seen without the other."""
    prompts = [pair.prompt for pair in pairs]
    firsts, seconds = (
        [float(each) for each in rewards([getattr(pair, side) for pair in pairs], prompts)]
        for side in ("first", "second")
    )
    return [_won(*both) for both in zip(firsts, seconds, strict=True)]


def by_metric(name: str, pairs: Sequence[Pair]) -> list[float]:
    """Nearer to the reference is better. Raises `DataError` where there is none."""
    from morphogen.metrics.text_overlap import text_overlap

    if not pairs or any(pair.reference is None for pair in pairs):
        raise DataError(
            f"{name} holds an answer to one that the data has, and this data has none",
            expected="conversations, or prompts with completions",
            hint="--judge module:function, or --judge votes",
        )
    spec = TensorSpec.tokens(1, 2)

    def score(text: Any, reference: Any) -> float:
        ours: Any = [text]
        theirs: Any = [reference]
        sets = TextReferences(spec, ours, theirs, decode=_as_they_are)
        return float(text_overlap(sets)[METRICS[name]])

    return [
        _won(score(pair.first, pair.reference), score(pair.second, pair.reference))
        for pair in pairs
    ]


def by_votes(pairs: Sequence[Pair], ballot: Path, seed: int, ask: Ask | None) -> list[float]:
    """Votes of a ballot: a line for each pair, in which nothing says whose an answer is. Asks for
    those that are not cast yet, or leaves them for who fills in the file.

    Raises `DataError` for a ballot of other answers, and where votes are missing.
    """
    draw = torch.Generator().manual_seed(seed)
    turned = [bool(each) for each in randint(2, (len(pairs),), draw).tolist()]
    shown = []
    for pair, swap in zip(pairs, turned, strict=True):
        left, right = (pair.second, pair.first) if swap else (pair.first, pair.second)
        shown.append({"1": f"{left}", "2": f"{right}"})
    votes: list[int | None] = [None] * len(pairs)
    votes = _cast(ballot, shown) if ballot.exists() else votes
    for number, (pair, sides) in enumerate(zip(pairs, shown, strict=True)):
        if votes[number] is None and sides["1"] == sides["2"]:
            votes[number] = TIE
        if votes[number] is not None or ask is None:
            continue
        votes[number] = ask(pair.prompt, sides["1"], sides["2"])
        if votes[number] is None:
            break
    lines = [
        json.dumps({"pair": i, "prompt": pairs[i].prompt, **shown[i], "vote": votes[i]})
        for i in range(len(pairs))
    ]
    write_text(ballot, "".join(f"{line}\n" for line in lines))
    missing = sum(vote is None for vote in votes)
    if missing:
        raise DataError(
            "votes are missing", found=f"{missing} of {len(pairs)}", where=ballot,
            hint="put 1, 2 or 0 (a tie) for each \"vote\": null, and then the same command with "
            f"--judge {ballot}",
        )  # fmt: skip
    told = zip(votes, turned, strict=True)
    return [0.5 if vote == TIE else float((vote == 2) != swap) for vote, swap in told]


def _cast(ballot: Path, shown: Sequence[dict[str, str]]) -> list[int | None]:
    """The votes of a ballot of these answers."""
    lines = list(read_lines(ballot, BALLOT))
    if [{side: line[side] for side in ("1", "2")} for line in lines] != list(shown):
        raise DataError(
            "this ballot is of other answers", found=f"{len(lines)} pairs",
            expected=f"the {len(shown)} pairs of these models, --data, --num and --seed",
            where=ballot, hint="move it away to vote anew",
        )  # fmt: skip
    votes = [line["vote"] for line in lines]
    if strange := [vote for vote in votes if vote not in (None, 0, 1, 2)]:
        raise DataError(
            "this is no vote", found=repr(strange[0])[:40], expected="1, 2, or 0 (a tie)",
            where=ballot,
        )  # fmt: skip
    return votes


def _as_they_are(values: Any) -> Any:
    return values


def _won(first: float, second: float) -> float:
    return 0.5 if first == second else float(second > first)
