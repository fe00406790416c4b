r"""What samples of text have in common with the training text, span by span.

Real texts share spans, too: names, phrases, what everyone writes. So samples and held-out texts are
looked up in the training text alike (`spans`), and what held-out texts share is the floor:

    copied_text     the share of their bytes in spans of 64 bytes and more that training text holds
    longer          samples whose longest span is longer than that of 99 in 100 held-out texts

The longest are shown, each beside the place that it may be from. Personal data in samples is
counted by kind, and named as copied where the very same stands in the training text.

What is shown is not recorded: an evaluation's record goes where training text may not.
"""

from __future__ import annotations

import mmap
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from morphogen.core.encoded import Encoded
from morphogen.core.errors import DataError
from morphogen.core.measurement import Measurement
from morphogen.data.dataset import Data
from morphogen.data.personal import INSTALL, KINDS, Finder, worth_a_look
from morphogen.data.store import CHUNK, Store
from morphogen.data.windows import Stream
from morphogen.evaluation.intervals import LEVEL, binomial_interval, mean_interval
from morphogen.evaluation.spans import END, SHORTEST, Shared, Symbols, shared

MOST_TEXTS = 1_000  # samples, and held-out texts
LEAST = 64  # bytes of a span that counts
TABLE = (32, 64, 128, 256, 512, 1024)  # bytes of the spans whose shares are listed
USUAL = 0.99  # of held-out texts have no longer span than is called usual
MOST_SHOWN = 8
AROUND = 80  # bytes shown on both sides of a span in the training text
PIECE = re.compile(r"(#\d+)?(@\d+)?$")  # of a file, in the name of an item


@dataclass(frozen=True)
class Span:
    """A span of a sample that stands in the training text: where in the sample, in bytes, in which
    file and where, and the training text with `AROUND` on both sides."""

    sample: int
    start: int
    length: int
    source: str
    before: bytes
    text: bytes
    after: bytes


@dataclass(frozen=True)
class TextCopies:
    """The samples (their bytes), the longest spans of them that are training text, and by sample
    all bytes in spans of the length that is not usual."""

    samples: list[Symbols]
    found: list[Span]
    covered: list[Any] = field(default_factory=list)


def text_copies(record: dict[str, Any], x: Encoded, data: Data) -> TextCopies | None:
    """Compare samples with the training text; note the numbers in the record. None of what is no
    text, that is of a codec without `symbols`."""
    codec: Any = data.codec
    if not hasattr(codec, "symbols") or not isinstance(x, Tensor):
        return None
    samples = [_symbols(codec, row) for row in x[:MOST_TEXTS]]
    some = torch.arange(min(len(data.test), len(samples)))
    real = [_symbols(codec, row) for row in data.test.batch(some).x]
    training = TrainingText(data.train, codec)
    both = shared([*samples, *real], training.blocks())
    own, held_out = range(len(samples)), range(len(samples), len(samples) + len(real))
    spans = [both.longest(number) for number in range(len(samples) + len(real))]
    longest = [spans[number][0] for number in held_out]
    usual = max(int(np.quantile(longest, USUAL, method="higher")), SHORTEST)
    longer = [number for number in own if spans[number][0] > usual]
    found = list(_longest(spans[: len(samples)], samples, training, data.source))
    record["spans"] = {
        "samples": len(samples),
        "held_out": len(real),
        "usual": usual,
        "longer": len(longer),
        "longer_interval": list(binomial_interval(len(longer), len(samples))),
        "longest": max((span.length for span in found), default=0),
        "longest_held_out": max(longest, default=0),
        "shares": {
            str(least): [_share(both, own, least), _share(both, held_out, least)]
            for least in TABLE
            if least in both.lengths
        },
        "found": [
            {"sample": span.sample, "start": span.start, "length": span.length,
             "source": span.source} for span in found
        ],
        "personal": _personal(samples, training),
    }  # fmt: skip
    above = next((n for n in both.lengths if n > usual), both.lengths[-1])
    return TextCopies(samples, found, [both.covered(n, above)[:-1] for n in own])


def copied_text(record: dict[str, Any]) -> list[Measurement]:
    """The score of what `text_copies` noted, if anything."""
    spans = record.get("spans", {})
    if str(LEAST) not in spans.get("shares", {}):
        return []
    (value, low, high), (floor, _, floor_high) = spans["shares"][str(LEAST)]
    caution = ""
    if spans["longer_interval"][0] > 1 - USUAL + 0.01:
        caution = (
            f"{spans['longer']:,} of {spans['samples']:,} samples hold a longer span of the "
            f"training text than 99 in 100 held-out texts do, {spans['usual']} bytes"
        )
    return [
        Measurement(
            "copied_text", value, spans["samples"], higher_is_better=False, low=low, high=high,
            interval=f"{100 * LEVEL:.0f} %, Student's t, over samples", floor=floor,
            floor_high=floor_high, caution=caution, protocol=record["protocol"],
            note=f"share of bytes in spans of {LEAST} bytes and more of the training text",
        )
    ]  # fmt: skip


class TrainingText:
    """The text of a split, in order, in blocks; and any part of it again, by its place."""

    def __init__(self, store: Store, codec: Any) -> None:
        self.store, self.codec = store, codec
        self.ends: list[int] = []  # of each block, in symbols of the whole

    def blocks(self) -> Iterator[Symbols]:
        """All of it."""
        self.ends = []
        for start in range(0, len(self.store), CHUNK):
            block = self._block(start)[0]
            self.ends.append(len(block) + (self.ends[-1] if self.ends else 0))
            yield block
        if isinstance(self.store, Stream):
            yield self.codec.symbols(self.store.tail)

    def read(self, start: int, stop: int) -> Symbols:
        """The symbols from `start` to before `stop`, but for the tail."""
        first = int(np.searchsorted(self.ends, start, side="right"))
        last = int(np.searchsorted(self.ends, stop - 1, side="right"))
        blocks = range(first, min(last + 1, len(self.ends)))
        parts = [self._block(number * CHUNK)[0] for number in blocks]
        base = self.ends[first - 1] if first else 0
        whole: Symbols = np.concatenate(parts) if parts else np.empty(0, np.uint16)
        return whole[max(start - base, 0) : stop - base]

    def name(self, place: int) -> str:
        """What the item is called that the symbol at `place` is of."""
        block = min(int(np.searchsorted(self.ends, place, side="right")), len(self.ends) - 1)
        _, lengths = self._block(block * CHUNK)
        base = self.ends[block - 1] if block else 0
        row = int(np.searchsorted(np.cumsum(lengths), place - base, side="right"))
        number = min(block * CHUNK + row, len(self.store) - 1)
        return self.store.names[number] if self.store.names else f"item {number:,}"

    def _block(self, start: int) -> tuple[Symbols, list[int]]:
        index = torch.arange(start, min(start + CHUNK, len(self.store)))
        rows = [_symbols(self.codec, row, end=True) for row in self.store.batch(index).x]
        return np.concatenate(rows), [len(row) for row in rows]


def _symbols(codec: Any, x: Tensor, end: bool = False) -> Symbols:
    """Of one item, without padding; of a whole text, its end only where asked for."""
    mask = codec.spec.mask(x[None])
    found: Symbols = codec.symbols(x if mask is None else x[mask[0]])
    whole = codec.spec.end is not None and not end and len(found) and found[-1] == END
    return found[:-1] if whole else found


def _share(both: Shared, texts: Sequence[int], least: int) -> list[float]:
    """The share of the bytes of some texts in shared spans of `least` and more; its interval."""
    inside = np.array([both.covered(n, least).sum() for n in texts], np.float64)
    sizes = np.array([both.starts[n + 1] - both.starts[n] - 1 for n in texts], np.float64)
    if not sizes.sum():
        return [0.0, 0.0, 0.0]
    mean = float(inside.sum() / sizes.sum())
    if mean in (0.0, 1.0) or len(texts) < 2:
        return [mean, *binomial_interval(mean * len(texts), len(texts))]
    low, high, _ = mean_interval((inside - mean * sizes) / sizes.mean() + mean)
    return [mean, max(low, 0.0), min(high, 1.0)]


def _longest(
    spans: Sequence[tuple[int, int, int]],
    samples: Sequence[Symbols],
    training: TrainingText,
    source: str,
) -> Iterator[Span]:
    """The longest of the `spans` of samples, each of another place of the training text, byte by
    byte."""
    taken: list[tuple[int, int]] = []
    for number in sorted(range(len(spans)), key=lambda number: -spans[number][0]):
        length, start, place = spans[number]
        if not length or len(taken) == MOST_SHOWN:
            return
        if any(first < place + length and place < last for first, last in taken):
            continue
        sample = samples[number]
        more = len(sample) - start
        begin = max(place - start - AROUND, 0)
        around = training.read(begin, place + more + AROUND)
        at = place - begin
        back, on = 0, length
        while back < min(start, at) and around[at - back - 1] == sample[start - back - 1]:
            back += 1
        while on < min(more, len(around) - at) and around[at + on] == sample[start + on]:
            on += 1
        taken.append((place - back, place + on))
        parts = (around[max(at - back - AROUND, 0) : at - back], around[at - back : at + on],
                 around[at + on : at + on + AROUND])  # fmt: skip
        before, text, after = map(as_bytes, parts)
        where = found_in(source, training.name(place), text)
        yield Span(number, start - back, back + on, where, before, text, after)


def as_bytes(symbols: Symbols) -> bytes:
    """Symbols as bytes, an end as an empty line."""
    pieces = np.split(symbols, np.flatnonzero(symbols == END))
    return b"\n\n".join(piece[piece < END].astype(np.uint8).tobytes() for piece in pieces)


def found_in(source: str, name: str, text: bytes) -> str:
    """Where a span stands in the file that an item is of: "input.txt, byte 1,234, line 56"; where
    the file cannot tell (a table, an archive, another encoding), what the item is called."""
    path, base = Path(source), PIECE.sub("", name)
    file = path / base if path.is_dir() else path
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as m:
            place = m.find(text)
            if place < 0:
                return name
            lines = sum(m[i : min(i + (1 << 20), place)].count(b"\n")
                        for i in range(0, place, 1 << 20))  # fmt: skip
    except (OSError, ValueError):
        return name
    return f"{base}, byte {place:,}, line {lines + 1:,}"


def _personal(samples: Sequence[Symbols], training: TrainingText) -> dict[str, Any]:
    """Personal data in samples by kind, and how much of it is training text."""
    every = [as_bytes(sample).decode("utf-8", "replace") for sample in samples]
    every = [text for text in every if worth_a_look(text)]
    if not every:
        return {"found": {}, "copied": {}}
    try:
        finder = Finder()
    except DataError:
        return {"not_looked_for": INSTALL}
    counts: Counter[str] = Counter()
    strings: dict[bytes, list[str]] = {}
    for text in every:
        for each in finder.find(text):
            counts[KINDS[each.kind]] += 1
            exact = text[each.start : each.end].encode("utf-8", "replace")
            strings.setdefault(exact, []).append(KINDS[each.kind])
    copied: Counter[str] = Counter()
    held = b""
    for block in training.blocks() if strings else ():
        joined = held + as_bytes(block)
        for exact in [exact for exact in strings if exact in joined]:
            copied.update(strings.pop(exact))
        held = joined[-256:]
    return {"found": dict(counts), "copied": dict(copied)}
