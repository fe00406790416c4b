r"""Music: notes on a grid, as tokens, step by step.

    60 64 67 . 60 65 69 . ... end         a step: its pitches, ascending, then `.`

Every set of notes has one way of being written, so that the likelihood of a step is the product of
its tokens':

    p(step | before) = p(n_1 | ..) p(n_2 | n_1, ..) ... p(. | n_1 .. n_k, ..)

and nats a step compare with those of models of piano rolls (Boulanger-Lewandowski et al. 2012); a
model may give a share to what no step is written as (a lower note after a higher one), so that its
true likelihood is at least that. Training transposes each piece by a few semitones at random, as
far as it stays on the piano.

Legend: L tokens of a piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from morphogen.core.codec import Codec, Item, Recognition, Report
from morphogen.core.errors import DataError
from morphogen.core.spec import TensorSpec
from morphogen.modalities.music import files, page
from morphogen.modalities.music.piece import HIGHEST, LOWEST, Piece
from morphogen.sources import Record, opened, read_regular, recognise, records

STEP = HIGHEST - LOWEST + 1  # the token that ends a step
END = STEP + 1  # the token that ends a piece
MOST_TOKENS = 1024  # of a piece, where the user names no length


class Music(Codec):
    """Music from MIDI files and piano rolls, wherever these lie."""

    family = "autoregressive"
    suffix: ClassVar[str] = ".html"
    raw: ClassVar[tuple[type, str]] = (Piece, "pieces")
    unit: ClassVar[str] = "step"
    unvaried: ClassVar[str] = "transpose=0"

    def __init__(
        self,
        *,
        length: int | None = None,  # tokens of a piece at most; none: the longest, up to 1024
        transpose: int = 5,  # semitones that training moves a piece by, at most, up or down
    ) -> None:
        if not 0 <= transpose <= 24:
            raise DataError("pieces are not moved that far", found=transpose, expected="0 to 24")
        if length is not None and not 2 <= length <= 1 << 16:
            raise DataError("the length does not fit", found=length, expected="2 to 65536")
        self.length, self.transpose = length, transpose
        self.per_beat, self.tempo = 1.0, 90.0  # of the data

    # -- reading ---------------------------------------------------------------------------------

    @classmethod
    def recognises(cls, source: Any) -> Recognition | None:
        """MIDI files; and JSON files, where these begin as piano rolls do."""
        if files.rolls(source):
            return Recognition(0.97, "piano rolls as JSON")
        return recognise(source, files.WANTS)

    def read(self, source: Any, report: Report) -> Iterator[Item]:
        held = files.rolls(source)
        there = map(_record_of, held) if held else records(source, files.WANTS, report)
        for found in opened(there, _open, report):
            for number, (piece, split) in enumerate(found.value):
                alone = len(found.value) == 1
                name = found.name if alone else f"{found.name}#{split or 'piece'} {number}"
                report.num_read += 1
                yield Item(piece, name, found.cond, split or found.split, found.tags)

    # -- fitting and encoding ----------------------------------------------------------------------

    def fit(self, items: Iterable[Item]) -> Music:
        lengths, beats, tempi = [], [], []
        for item in items:
            lengths.append(_num_tokens(item.value))
            beats.append(item.value.per_beat)
            tempi.append(item.value.tempo)
        if not lengths:
            raise DataError("there is no music to learn from", expected="at least one piece")
        self.per_beat, self.tempo = max(set(beats), key=beats.count), sorted(tempi)[len(tempi) // 2]
        length = self.length or min(max(lengths) + 1, MOST_TOKENS)
        self.spec = TensorSpec.tokens(length, END + 1, end=END)
        return self

    def encode(self, item: Item) -> Tensor:
        if not isinstance(item.value, Piece):
            raise DataError("not music", found=type(item.value).__name__, expected="a MIDI file")
        x = torch.full(self.spec.shape, END)
        at = 0
        for step in item.value.steps:
            if at + len(step) + 1 > len(x) - 1:
                break  # whole steps alone
            x[at : at + len(step)] = torch.tensor(step) - LOWEST
            x[at + len(step)] = STEP
            at += len(step) + 1
        return x

    def check_fits(self, item: Item, report: Report) -> None:
        """Say how many pieces are cut."""
        if _num_tokens(item.value) >= self.spec.shape[0]:
            report.facts["cut"] = report.facts.get("cut", 0) + 1

    def decode(self, x: Tensor) -> Piece:
        steps, notes = [], set[int]()
        for token in x[x.ne(END).cumprod(0).bool()].tolist():
            if token == STEP:
                steps.append(tuple(sorted(notes)))
                notes = set()
            else:
                notes.add(token + LOWEST)
        if notes:
            steps.append(tuple(sorted(notes)))
        return Piece(tuple(steps), self.per_beat, self.tempo)

    def num_units(self, x: Tensor) -> Tensor:
        return x.eq(STEP).sum(1).clamp(min=1).float()

    @property
    def variants(self) -> int:
        """As many as there are keys to move to."""
        return 2 * self.transpose + 1

    @property
    def as_it_is(self) -> int:
        """The one in the middle, of no semitones."""
        return self.transpose

    def augmented(self, x: Tensor, shares: Tensor) -> Tensor:
        """(B, L), each transposed by as many semitones as its share of [0, 1) says."""
        is_note = x < STEP
        moves = (shares * self.variants).long() - self.transpose  # (B,)
        lowest = torch.where(is_note, x, STEP).amin(1)
        highest = torch.where(is_note, x, -1).amax(1)
        moves = torch.minimum(torch.maximum(moves, -lowest), STEP - 1 - highest)
        return torch.where(is_note, x + moves[:, None], x)

    # -- for people ------------------------------------------------------------------------------

    def html(self, values: Sequence[Any], columns: int | None = None) -> str:
        """Piano rolls, each with a player."""
        cells = "".join(page.shown(value) for value in values)
        style = f"display:grid;gap:1rem;grid-template-columns:repeat({columns or 1},minmax(0,1fr))"
        return f'<div style="{style}">{cells}</div>'

    def write(self, values: Sequence[Any], path: Path, columns: int | None = None) -> Path:
        """A page; or `.mid`, where several follow each other."""
        path = Path(path)
        if path.suffix.lower() not in files.MIDI:
            return super().write(values, path, columns)
        pause = ((),) * round(2 * values[0].per_beat)
        steps = tuple(step for value in values for step in (*value.steps, *pause))
        whole = Piece(steps[: len(steps) - len(pause)], values[0].per_beat, values[0].tempo)
        return files.write_midi(whole, path)

    # -- state -----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        options = {"length": self.length, "transpose": self.transpose}
        return {
            "options": options, "spec": self.spec.to_json(), "per_beat": self.per_beat,
            "tempo": self.tempo,
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Music:
        codec = cls(**state["options"])
        codec.spec = TensorSpec.from_json(state["spec"])
        codec.per_beat, codec.tempo = state["per_beat"], state["tempo"]
        return codec


def _num_tokens(piece: Piece) -> int:
    return sum(len(step) + 1 for step in piece.steps)


def _record_of(file: Path) -> Record:
    return Record(file.name, "file", lambda: read_regular(file), ".json", path=file)


def _open(record: Record, notes: Report) -> list[tuple[Piece, str | None]]:
    """Every piece of a record, with the split that it says."""
    value = record.value()
    return [(value, None)] if isinstance(value, Piece) else list(files.pieces(value, notes))
