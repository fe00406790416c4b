r"""Bits of a held-out text that is learned in windows, its context carried from one to the next.

A window by itself is scored as if nothing stood before it. What a model knows of a text is what it
says of each token after all that it can look back on, so the text is gone through in windows that
overlap, each moved on by a part of its length, and of each only the tokens behind the overlap are
counted. Every token counts once:

    window 1    [ counted                    ]
    window 2            [ context            | counted ]           moved on by L / STRIDE
    window 3                      [ context            | counted ]

A text of many bytes is scored in blocks, spread evenly over it by the byte, so that the same bytes
are scored whatever the tokens are. The interval is a bootstrap of runs of neighbouring blocks
(Politis & Romano 1992): tokens share their surprise with their neighbours, and regions of a text
are harder than others over many pages.

Models that give no log p of single tokens are scored window by window; all of the text counts.

Legend: N windows, L tokens of a window, T tokens scored, K blocks, V vocabulary.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.capability import HasTokenLogProb, missing
from morphogen.core.codec import Codec
from morphogen.core.random import generator, randint
from morphogen.core.spec import TensorSpec
from morphogen.data.windows import Stream
from morphogen.evaluation.features import parts
from morphogen.evaluation.intervals import LEVEL
from morphogen.modalities.text.page import END

STRIDE = 4  # windows move on by a quarter of their length
MOST_UNITS = 1 << 17  # bytes of text that are scored
BLOCK, MOST_BLOCKS, FEWEST_BLOCKS = 1 << 12, 64, 8  # bytes of a block, and how many there are
POSITIONS = 1 << 14  # given to the network at once
RESAMPLED = 2000  # bootstrap repeats
HOW = "each token after as many others as the model takes, in windows moved on by a quarter"
ONE_BYTE_EACH = "one byte each"  # where all characters are ASCII
Range = tuple[int, int]  # of units or tokens of the stream: the first, and the one after the last


class Corpus:
    """The stream of tokens that the windows of a split are of, and the units in it."""

    def __init__(self, store: Stream, units: Tensor) -> None:
        self.store, self.tail, self.units = store, store.tail, units
        self.spec: TensorSpec = store.spec
        self.length = self.spec.num_values
        self.num = len(store) * self.length + len(self.tail)
        each = [units[batch.x].sum(1) for batch in store.batches()]
        each.append(units[self.tail].sum()[None])
        self.starts = F.pad(torch.cat(each).cumsum(0), (1, 0))  # units before each window: (N + 2,)

    @property
    def num_units(self) -> int:
        """Units in all of it."""
        return int(self.starts[-1])

    def read(self, start: int, stop: int) -> Tensor:
        """The tokens from `start` to before `stop`."""
        first, last = start // self.length, -(-stop // self.length)
        whole = torch.arange(first, min(last, len(self.store)))
        tokens = self.store.batch(whole).x.flatten() if len(whole) else self.tail[:0]
        if last > len(self.store):
            tokens = torch.cat([tokens, self.tail])
        return tokens[start - first * self.length : stop - first * self.length]

    def place(self, unit: int) -> int:
        """The first token that begins at this unit or after it."""
        window = int(torch.searchsorted(self.starts, unit, right=True)) - 1
        window = min(window, len(self.starts) - 2)
        first = window * self.length
        tokens = self.read(first, min(first + self.length, self.num))
        begin = self.starts[window] + self.units[tokens].cumsum(0) - self.units[tokens]
        return first + int(torch.searchsorted(begin, unit))

    def ranges(self, most: int = MOST_UNITS) -> list[Range]:
        """Blocks of contiguous text, in units: all of it, or as much as `most`, spread evenly. They
        are the same whatever the tokens are."""
        total = self.num_units
        scored = min(total, most)
        count = max(min(MOST_BLOCKS, scored // BLOCK), min(FEWEST_BLOCKS, scored), 1)
        size = scored // count
        if total <= most:
            edges = [total * i // count for i in range(count + 1)]
            return list(itertools.pairwise(edges))
        return [(first, first + size) for first in ((total - size) * i // (count - 1)
                                                    for i in range(count))]  # fmt: skip

    def spans(self, ranges: Sequence[Range]) -> list[Range]:
        """The tokens that begin within each range of units; those behind the last unit too."""
        total = self.num_units
        return [
            (self.place(first) if first else 0, self.num if last == total else self.place(last))
            for first, last in ranges
        ]

    def conditions(self, places: Tensor) -> dict[str, Any]:
        """What is said of the tokens at `places`: of the windows that they stand in."""
        if not self.store.cond or not len(self.store):
            return {}
        return self.store.batch((places // self.length).clamp(max=len(self.store) - 1)).cond

    def text(self, codec: Codec, units: Range) -> bytes | None:
        """The bytes that a range of units is; None of a codec that is not of texts."""
        first, last = (int(torch.searchsorted(self.starts, unit, right=True)) - 1 for unit in units)
        start = min(first, len(self.starts) - 2) * self.length
        tokens = self.read(start, min((last + 1) * self.length, self.num))
        whole = F.pad(tokens, (0, -len(tokens) % self.length), value=self.spec.boundary or 0)
        values = codec.decode_many(whole.view(-1, self.length))
        if not all(isinstance(value, str) for value in values):
            return None
        joined = b"".join(v.replace(END, "").encode("utf-8", "surrogateescape") for v in values)
        skipped = int(self.starts[start // self.length])
        return joined[units[0] - skipped : units[1] - skipped]


def units_of_tokens(codec: Codec, spec: TensorSpec) -> Tensor:
    """How many units each token stands for, (V,): what it adds to an item that holds it."""
    every = torch.arange(spec.vocab_size or 1)
    alike = torch.cat([codec.num_units(_rows(every[part], spec)) for part in parts(len(every))])
    most = int(alike.argmax())  # an item of it is never empty
    found = []
    for part in parts(len(every)):
        rows = _rows(torch.full_like(part, most), spec)
        rows[:, 0] = every[part]
        found.append(codec.num_units(rows) - alike[most] + alike[most] / spec.num_values)
    return torch.cat(found).round().long()


def _rows(tokens: Tensor, spec: TensorSpec) -> Tensor:
    return tokens[:, None].repeat(1, spec.num_values)


# -- scoring ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scored:
    """Bits of tokens (T,), the units that they stand for (T,), where they stand in the stream (T,),
    and the block that each is of (T,)."""

    bits: Tensor
    units: Tensor
    places: Tensor
    block: Tensor

    def by_block(self) -> tuple[Tensor, Tensor]:
        """Bits and units of every block: (K,) each."""
        return self._sums(self.block, int(self.block.max()) + 1)

    def by_window(self, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers of the windows that were scored as a whole, with their bits and units."""
        window = self.places // length
        whole = (torch.bincount(window) == length).nonzero()[:, 0]
        bits, units = self._sums(window, int(window.max()) + 1)
        return whole, bits[whole], units[whole]

    def interval(self, seed: int) -> tuple[float, float]:
        """Of bits per unit: the quantiles over runs of sqrt(K) neighbouring blocks, drawn with
        replacement from the text as a ring."""
        bits, units = self.by_block()
        num, run = len(bits), round(math.sqrt(len(bits)))
        first = randint(num, (RESAMPLED, -(-num // run)), generator(seed))
        some = ((first[..., None] + torch.arange(run)) % num).flatten(1)[:, :num]  # (R, K)
        ratios = bits[some].sum(1) / units[some].sum(1)
        ends = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
        low, high = torch.quantile(ratios, ends).tolist()
        return low, high

    def _sums(self, group: Tensor, num: int) -> tuple[Tensor, Tensor]:
        zeros = torch.zeros(num, dtype=torch.float64)
        return zeros.index_add(0, group, self.bits), zeros.index_add(0, group, self.units.double())


def score_corpus(model: Any, corpus: Corpus, blocks: Sequence[Range], seed: int) -> Scored:
    """Bits of the tokens of all blocks. A model that cannot tell those of single tokens is asked
    for whole windows, and blocks then begin and end where windows do."""
    carries = not missing(model, HasTokenLogProb)
    if not carries:
        blocks = _at_windows(blocks, corpus)
    found = _by_token(model, corpus, blocks) if carries else _by_window(model, corpus, blocks, seed)
    bits = torch.cat(list(found)).double()
    places = torch.cat([torch.arange(*span) for span in blocks])
    sizes = torch.tensor([stop - start for start, stop in blocks])
    units = torch.cat([corpus.units[corpus.read(*span)] for span in blocks])
    return Scored(bits, units, places, torch.arange(len(blocks)).repeat_interleave(sizes))


def _by_token(model: Any, corpus: Corpus, blocks: Sequence[Range]) -> Iterator[Tensor]:
    length, step = corpus.length, max(corpus.length // STRIDE, 1)
    counted = []  # spans, none longer than a step, but for where the stream begins
    for start, stop in blocks:
        first = min(length, stop) if start == 0 else start
        counted += [(0, first)] if start == 0 else []
        counted += [(a, min(a + step, stop)) for a in range(first, stop, step)]
    size = max(POSITIONS // length, 1)
    for part in (counted[i : i + size] for i in range(0, len(counted), size)):
        begins = [max(0, stop - length) for _, stop in part]
        windows = torch.stack([_window(corpus, begin) for begin in begins])
        log_p = model.token_log_prob(
            windows.to(model.device), _given(model, corpus, [start for start, _ in part])
        )
        for row, begin, (start, stop) in zip(log_p.cpu(), begins, part, strict=True):
            yield -row[start - begin : stop - begin] / math.log(2)


def _by_window(model: Any, corpus: Corpus, blocks: Sequence[Range], seed: int) -> Iterator[Tensor]:
    """The bits of a window, shared out evenly among its tokens; what is short of a window is scored
    with as many ends behind it, and these cost bits too."""
    length, draw = corpus.length, generator(seed)
    begins = [a for start, stop in blocks for a in range(start, stop, length)]
    size = max(POSITIONS // length, 1)
    for part in (begins[i : i + size] for i in range(0, len(begins), size)):
        windows = torch.stack([_window(corpus, begin) for begin in part]).to(model.device)
        log_p = model.log_prob(windows, cond=_given(model, corpus, part), generator=draw).cpu()
        for begin, nats in zip(part, log_p.tolist(), strict=True):
            num = min(length, corpus.num - begin)
            yield torch.full((num,), -nats / math.log(2) / num)


def _window(corpus: Corpus, begin: int) -> Tensor:
    """L tokens from `begin`, with ends behind the last of the stream."""
    tokens = corpus.read(begin, min(begin + corpus.length, corpus.num))
    return F.pad(tokens, (0, corpus.length - len(tokens)), value=corpus.spec.boundary or 0)


def _given(model: Any, corpus: Corpus, places: Sequence[int]) -> dict[str, Any]:
    said = corpus.conditions(torch.tensor(places))
    return {name: value.to(model.device) for name, value in said.items()
            if name in model.conditions}  # fmt: skip


def _at_windows(blocks: Sequence[Range], corpus: Corpus) -> list[Range]:
    """Blocks that begin and end where windows do, or with the stream."""

    def whole(place: int) -> int:
        return place if place == corpus.num else place // corpus.length * corpus.length

    found = [(whole(start), whole(stop)) for start, stop in blocks]
    return [span for span in found if span[0] < span[1]] or [(0, corpus.num)]


def text_protocol(corpus: Corpus, codec: Codec, ranges: Sequence[Range]) -> dict[str, Any]:
    """What two scores of a text must have in common to be compared: the bytes that are scored, and
    how, but neither the tokens nor the windows."""
    told, digest = {}, hashlib.blake2b(str(corpus.num_units).encode(), digest_size=16)
    texts = [corpus.text(codec, units) for units in ranges]
    for text, span in zip(texts, corpus.spans(ranges), strict=True):
        digest.update(corpus.read(*span).numpy().tobytes() if text is None else text)
    if all(text is not None and text.isascii() for text in texts):
        told["characters"] = ONE_BYTE_EACH
    scored = sum(last - first for first, last in ranges)
    return {
        "text_digest": digest.hexdigest(),
        "text": f"{scored:,} of {corpus.num_units:,} {codec.unit}s, in {len(ranges)} blocks",
        "context": HOW,
        **told,
    }
