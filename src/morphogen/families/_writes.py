r"""What an autoregressive model needs to go on from prompts (`core.writing`): rows of its network,
tokens as the network takes them, and logits as they are drawn from.

Legend: B batch, C what the network tells of a position, V vocabulary, n tokens of a prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.backbone import KeepsRows, Rows
from morphogen.core.errors import RefusedPair
from morphogen.core.likelihood import NEVER
from morphogen.core.writing import Request, Written
from morphogen.families import _guessing, _reading, _writing
from morphogen.families._beam import beams
from morphogen.families._stepped_rows import SteppedRows


class Writes:
    """For a family with a causal `network`: `core.writing.CanWrite` and `CanWriteOn`."""

    def next_logits(self: Any, params: Tensor, position: int) -> Tensor:
        """What the network tells at a position (B, C) -> logits of the spec's own tokens (B, V)."""
        logits = self.logits(params, position)
        if self.spec.sizes is None or self.offsets is None:
            return logits
        own = logits.narrow(1, int(self.offsets[position]), self.spec.sizes[position])
        return F.pad(own, (0, (self.spec.vocab_size or 1) - own.shape[1]), value=NEVER)

    def taken(self: Any, token: int, position: int) -> int:
        """A token of the spec as the network takes it."""
        return token if self.offsets is None else token + int(self.offsets[position])

    def write(
        self: Any,
        requests: Sequence[Request],
        *,
        num_rows: int = 16,  # texts that go on at once; the others wait
        draft: Writes | Literal["lookup"] | None = None,  # what guesses tokens ahead
        ahead: int = 4,  # tokens guessed at a time
        beam: int = 1,  # beginnings of each text that are followed; 1: tokens are drawn
    ) -> Iterator[list[Written]]:
        """Go on from each prompt: see `core.writing.CanWrite`. An end or a boundary ends a text.

        Guesses of a `draft`, or from what stands already, change how fast it goes, not what is
        drawn: the distribution is the same, and at temperature 0 the tokens are. With a `beam`,
        nothing is drawn, and the tokens of a text come when the best of it is found.
        """
        if beam > 1:
            return beams(self, requests, width=beam)
        guesses = self._guesses(draft)
        return _writing.write(self, requests, num_rows, guesses=guesses, ahead=ahead)

    def _guesses(self: Any, draft: Any) -> _writing.Guesses | None:
        if draft is None or draft == "lookup":
            return draft and _guessing.look_up
        writes: bool = isinstance(draft, Writes)
        if not writes:
            raise RefusedPair(
                "a draft writes as the model does", found=str(draft),
                expected='a model of kind autoregressive, or "lookup"',
            )  # fmt: skip
        own, other = (each.spec for each in (self, draft))
        if (own.vocab_size, own.sizes) != (other.vocab_size, other.sizes):
            raise RefusedPair("a draft has the model's own tokens", found=f"{other}, and {own}")
        return _guessing.drafted(draft)

    def writing(self: Any, num_rows: int) -> _writing.Writing:
        """See `core.writing.CanWriteOn`. Between two tokens a piece of a prompt is read at most."""
        return _writing.Writing(self, num_rows, most_read=_reading.PIECE)

    def rows(self: Any, num: int, room: int | None = None) -> Rows:
        """So many rows of the network, each as if it were alone, for texts of up to `room` tokens
        with the start; none: of as many as it sees."""
        network, weight = self.network, next(self.parameters())
        is_plain = weight.device.type == "cpu" and weight.dtype == torch.float32
        if isinstance(network, KeepsRows) and is_plain:
            return network.rows(num, room)
        return SteppedRows(self, num)

    def read(
        self: Any, rows: Rows, row: int, request: Request, known: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """Read a prompt into a row, piece by piece: see `_reading.read`."""
        n, cond = len(request.prompt), request.cond
        one = None if cond is None else {name: value[None] for name, value in cond.items()}
        prompt = request.prompt.to(self.device)
        prompt = prompt if self.offsets is None else prompt + self.offsets[:n]
        if request.begins:
            prompt = F.pad(prompt, (1, 0), value=self.start)
        elif isinstance(rows, SteppedRows):
            raise RefusedPair("this network begins at its start", expected="token_transformer")
        return _reading.read(rows, row, prompt, request, known, *self.embedded(one, 1))
