"""Whether llama.cpp makes of a file what the bundle makes of its weights.

    our greedy tokens     a b c d ..          log p of each, and of the likeliest others
    theirs                a b c x ..          the same until x: how much likelier is d than x to us?

Beginnings are drawn from the model itself, so that they are in its own language. They are given as
texts: that both cut them into the same tokens is seen as well. Where two tokens are nearly equally
likely, rounding may choose the other; the likelihoods up to there say whether it is that.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.errors import BundleError
from morphogen.core.writing import Limits, Request, Written
from morphogen.interop import _llama_cpp_runs

NUM_PROMPTS, PROMPT, MOST = 20, 12, 16  # beginnings, tokens of each, tokens that come
BESIDE = 8  # of our likeliest tokens, among which theirs is looked for
SECONDS = 600.0
# Mean difference of log p, in nats a token, that the type of the numbers explains.
TOLERANCE = {"F32": 0.005, "F16": 0.01, "Q8_0": 0.1}


@dataclass(frozen=True)
class Run:
    """One beginning, and how both went on."""

    prompt: str
    num_read: tuple[int, int]  # tokens of it, ours and theirs
    ours: list[int]
    theirs: list[int]
    differences: list[float]  # of log p, of the tokens up to the first that differs
    first: int | None  # place of that; None: there is none
    gap: float | None  # how much likelier ours is than theirs there, to us, in nats


@dataclass(frozen=True)
class Replay:
    """All of them."""

    runs: list[Run]

    @property
    def difference(self) -> float:
        """The mean difference of log p, in nats a token."""
        every = [each for run in self.runs for each in run.differences]
        return sum(every) / len(every) if every else float("inf")

    def agrees(self, type: str) -> bool:
        """Whether tokens are cut alike, and likelihoods as near as numbers of this type are."""
        read = all(first == second for first, second in (run.num_read for run in self.runs))
        return read and self.difference <= TOLERANCE[type]

    def expected(self, type: str) -> str:
        """What `agrees` asks for."""
        return f"the same tokens of each text, and up to {TOLERANCE[type]} nats a token in {type}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"difference": self.difference, "runs": [asdict(run) for run in self.runs]}

    def text(self) -> str:
        """For a terminal."""
        differ = [run for run in self.runs if run.first is not None]
        said = f"{len(self.runs) - len(differ)} of {len(self.runs)} texts go on alike to the end"
        if gaps := [run.gap for run in differ if run.gap is not None]:
            said += f", the others part where both tokens are within {max(gaps):.3f} nats"
        unread = sum(first != second for first, second in (run.num_read for run in self.runs))
        said += f"; {unread} are cut into other tokens" if unread else ""
        return f"{said}; log p differs by {self.difference:.2g} nats a token"


def replay(
    bundle: Bundle, file: Path, *, begins: bool, prompts: Sequence[str] | None = None
) -> Replay | None:
    """Twenty beginnings in both; None where llama.cpp is not installed.

    Raises `BundleError` where llama.cpp cannot read the file.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        return None
    texts = list(prompts) if prompts is not None else _begun(bundle)
    codec: Any = bundle.codec
    tokens = [torch.from_numpy(codec.tokenizer.encode(text.encode())) for text in texts]
    kept = [(text, each) for text, each in zip(texts, tokens, strict=True) if len(each)]
    ours = _ours(bundle, [each for _, each in kept], begins)
    model: Any = bundle.family
    never = [model.start] if model.start == model.vocab_size else []  # one that never comes here
    theirs = in_llama_cpp(file, [text for text, _ in kept], MOST, never)
    return Replay(
        [
            _compared(text, len(each) + begins, own, their)
            for (text, each), own, their in zip(kept, ours, theirs, strict=True)
        ]
    )


def in_llama_cpp(
    file: Path, prompts: Sequence[str | list[int]], most: int, never: Sequence[int] = ()
) -> list[dict[str, Any]]:
    """What llama.cpp makes of prompts, in a process of its own: see `_llama_cpp_runs`."""
    asked = json.dumps(
        {"file": str(file), "prompts": list(prompts), "most": most, "never": list(never)}
    )
    command = [sys.executable, "-I", "-B", _llama_cpp_runs.__file__]
    try:
        done = subprocess.run(
            command, input=asked, capture_output=True, text=True, timeout=SECONDS, check=True
        )
        runs: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])["runs"]
    except (subprocess.SubprocessError, ValueError, LookupError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise BundleError(
            "llama.cpp cannot run this file",
            found=(said or ["no word of it"])[-1][:200],
            where=file,
        ) from error
    return runs


def _begun(bundle: Bundle) -> list[str]:
    """Beginnings of texts that the model draws."""
    model: Any = bundle.family
    codec: Any = bundle.codec
    nothing = torch.zeros(0, dtype=torch.int64)
    most = min(PROMPT, model.num_tokens // 2)
    requests = [Request(nothing, most, Limits(), seed) for seed in range(NUM_PROMPTS)]
    drawn = [[each.token for each in text] for text in _written(model, requests)]
    said = [codec.tokenizer.decode(text).decode("utf-8", "ignore") for text in drawn]
    return [text.strip() for text in said if text.strip()]


def _ours(bundle: Bundle, prompts: list[Tensor], begins: bool) -> list[list[Written]]:
    greedy = Limits(temperature=0)
    return _written(
        bundle.family,
        [
            Request(prompt, MOST, greedy, num_alternatives=BESIDE, begins=begins)
            for prompt in prompts
        ],
    )


def _written(model: Any, requests: list[Request]) -> list[list[Written]]:
    found: list[list[Written]] = [[] for _ in requests]
    for step in model.write(requests):
        for each in step:
            found[each.row].append(each)
    return found


def _compared(text: str, num_read: int, own: list[Written], their: dict[str, Any]) -> Run:
    """Ours and theirs, up to where one of them ends."""
    ours, theirs = [each.token for each in own], list(their["tokens"])
    both = list(zip(ours, theirs, strict=False))
    first = next((place for place, (a, b) in enumerate(both) if a != b), None)
    gap = None
    if first is not None:
        known = dict(own[first].alternatives)
        least = min(known.values(), default=own[first].log_prob)
        gap = own[first].log_prob - known.get(theirs[first], least)
    differences = [
        abs(each.log_prob - log_prob)
        for each, log_prob in zip(own[:first], their["log_probs"], strict=False)
        if log_prob is not None
    ]
    return Run(text, (num_read, their["num_read"]), ours, theirs, differences, first, gap)
