"""What a model has read of a text, kept for a request that begins as the last one did: a turn of a
conversation reads what is new in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from morphogen.core.backbone import Rows
from morphogen.core.writing import Request


def held_rows(model: Any, requests: Sequence[Request]) -> Rows | None:
    """The row of a request that is alone and goes on with what is held, by a model that is what it
    was; None where nothing is held."""
    held = requests[0].held if len(requests) == 1 else None
    if held is None:
        return None
    weights = [(each.data_ptr(), each._version) for each in model.parameters()]
    if held.rows is None or held.weights != weights:
        held.rows, held.came, held.weights = model.rows(1), [], weights
    kept: Rows = held.rows
    return kept


def begun(rows: Rows, row: int, prompt: Tensor, request: Request, *embedded: Any) -> Tensor:
    """Read what a text begins with (n,) into a row, from where it is not what is held -> what is
    told of the next. A text that is conditioned on anything is read whole."""
    held = request.held
    if held is None or any(each is not None for each in embedded):
        return rows.begin(row, prompt, *embedded)
    known = [*(prompt[:1].tolist() if request.begins else ()), *held.came[:-1]]
    same, num = 0, min(len(known), len(prompt) - 1) if held.came else 0
    while same < num and known[same] == int(prompt[same]):
        same += 1
    held.came = []  # until it is read
    if not same:
        return rows.begin(row, prompt)
    rows.cut(row, same)
    return rows.extend(row, prompt[same:])
