"""A prompt that is read into a row, piece by piece, so that others can go on in between.

Where its pieces end depends on the prompt alone: so do the numbers that come of it. What was read
of a text may be held for a request that begins as the last one did, and a row goes on from what was
read into it: a turn of a conversation reads what is new in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from morphogen.core.backbone import Rows
from morphogen.core.writing import Request

PIECE = 128  # tokens that are read in one go
FEW = 16  # where each of them is told of


def read(
    rows: Rows, row: int, prompt: Tensor, request: Request, known: int, *embedded: Any
) -> Iterator[tuple[int, Tensor]]:
    """Read what a text begins with (n,) into a row, from where it is not known or held: after each
    piece, how many tokens are left, and what is told of the next (1, C), or of the next after each
    token (m, C). A text that is conditioned on anything is read whole."""
    held, same = request.held, known
    if any(each is not None for each in embedded) or request.tells_prompt:
        first = 1 if request.tells_prompt else len(prompt)
        yield len(prompt) - first, rows.begin(row, prompt[:first], *embedded)[None]
        for at in range(first, len(prompt), FEW):
            tokens = prompt[at : at + FEW].tolist()
            yield len(prompt) - at - len(tokens), rows.advance(tokens, [row] * len(tokens))
        return
    if held is not None:
        came = [*(prompt[:1].tolist() if request.begins else ()), *held.came[:-1]]
        num = min(len(came), len(prompt) - 1) if held.came else 0
        while same < num and came[same] == int(prompt[same]):
            same += 1
        held.came = []  # until it is read
    if same:
        rows.cut(row, same)
    for first in range(same, len(prompt), PIECE):
        piece = prompt[first : first + PIECE]
        told = rows.extend(row, piece) if first else rows.begin(row, piece)
        yield len(prompt) - first - len(piece), told[None]


class FreeRows:
    """Rows that nobody has at the moment, and what was read into each: a prompt that begins as that
    of another did reads the rest. Whole pieces alone are taken over, so that what comes of it is
    the same to the bit."""

    def __init__(self, num: int) -> None:
        self.rows = deque(range(num))  # the one that was not used for longest comes first
        self.known: dict[int, list[int]] = {}  # tokens of whole pieces

    def __bool__(self) -> bool:
        return bool(self.rows)

    def take(self, request: Request | None) -> tuple[int, int]:
        """The row that has most of what a request begins with, and how many tokens of it."""
        tokens = [] if request is None or not _is_known(request) else _fed(request)[:-1]
        same = {row: _same(self.known.get(row, []), tokens) for row in self.rows}
        row = max(self.rows, key=same.__getitem__)
        self.rows.remove(row)
        self.known.pop(row, None)
        return row, same[row]

    def note(self, row: int, request: Request) -> None:
        """What a request begins with was read into a row."""
        if _is_known(request):
            tokens = _fed(request)
            self.known[row] = tokens[: len(tokens) - len(tokens) % PIECE]

    def give(self, row: int) -> None:
        """Nobody has it any longer."""
        self.rows.append(row)


def _is_known(request: Request) -> bool:
    """Whether what was read of it, or is, says all that the row holds."""
    return request.cond is None and request.held is None and not request.tells_prompt


def _fed(request: Request) -> list[int]:
    """What is read: -1 stands for the start of a text."""
    return [*([-1] if request.begins else ()), *request.prompt.tolist()]


def _same(known: list[int], tokens: list[int]) -> int:
    """How many tokens of whole pieces are the same."""
    same = 0
    while same < min(len(known), len(tokens)):
        piece = slice(same, same + PIECE)
        if len(tokens) < piece.stop or known[piece] != tokens[piece]:
            break
        same += PIECE
    return same


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
