r"""Say what may come next in a sequence: the tokens that the model expects most, the first first.

    p(b | x_1 .. x_n)   over all b but the end and, unless they may come again, x_1 .. x_n

Nothing is drawn. Of what a user did it is what to recommend; of a text, how it may go on.

Legend: B sequences of one length, n tokens of a sequence, V vocabulary, L tokens that a model sees.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from morphogen.core.capability import CanPredictNext, refuses
from morphogen.core.errors import RecipeError
from morphogen.core.result import Result
from morphogen.core.written import named
from morphogen.tasks._routes import Conditions, is_sequence, only

TOGETHER = 256  # sequences of one length, at once


@refuses(only("sequences of tokens, of which one comes after those before it", is_sequence))
def recommend(
    model: CanPredictNext,
    sequences: Sequence[Tensor],
    codec: Any = None,
    names: Sequence[str] | None = None,
    *,
    cond: Conditions | None = None,  # conditions by name, each (N, ...)
    generator: torch.Generator,
    num: int = 10,  # how many of the most expected, for each sequence
    seen: bool = False,  # also those that the sequence holds already
) -> Result:
    """Say which tokens a model expects most after each sequence, and with which share."""
    if num < 1:
        raise RecipeError("num does not fit", found=f"num={num}", expected="1 or more")
    found: list[list[tuple[Any, float]]] = [[] for _ in sequences]
    spec: Any = getattr(model, "spec")  # noqa: B009
    known = [row[max(len(row) - spec.shape[0] + 1, 0) :] for row in sequences]
    sizes = torch.tensor([len(row) for row in known])
    for size in torch.unique(sizes).tolist():
        for rows in torch.split((sizes == size).nonzero()[:, 0], TOGETHER):
            prefix = torch.stack([known[row] for row in rows.tolist()])
            share = {name: value[rows] for name, value in (cond or {}).items()}
            logits = model.predict_next(prefix, share or None).float().cpu()
            for row, own in zip(rows.tolist(), logits, strict=True):
                held = sequences[row] if not seen else sequences[row][:0]
                found[row] = _most(own, held.cpu(), spec.end, num)
    told = [[(named(token, codec), p) for token, p in each] for each in found]
    whose = [name if name and not name.startswith("--") else f"{row + 1}"
             for row, name in enumerate(names or [""] * len(told))]  # fmt: skip
    lines = [", ".join(f"{what} {p:.1%}" for what, p in each) for each in told]
    raw = [f"{who}: {line}" for who, line in zip(whose, lines, strict=True)]
    result = Result(None, {"recommended": [list(map(list, each)) for each in told]},
                    "predict_next", raw=raw)  # fmt: skip
    result.forms = {".txt": "\n".join(raw) + "\n", ".csv": _rows(whose, told)}
    return result


def _most(logits: Tensor, held: Tensor, end: int | None, num: int) -> list[tuple[int, float]]:
    """The most expected of all tokens (V,) but those held (n,) and the end, with their shares."""
    left = logits.clone()
    left[held] = -torch.inf
    if end is not None:
        left[end] = -torch.inf
    shares = left.softmax(0)
    top = shares.topk(min(num, int(torch.isfinite(left).sum())))
    return list(zip(top.indices.tolist(), top.values.tolist(), strict=True))


def _rows(whose: Sequence[str], told: Sequence[Sequence[tuple[Any, float]]]) -> str:
    """A table: whose, at which place, what, with which share."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["user", "place", "item", "share"])
    for who, each in zip(whose, told, strict=True):
        for place, (what, share) in enumerate(each, 1):
            writer.writerow([who, place, what, f"{share:.6g}"])
    return stream.getvalue()
