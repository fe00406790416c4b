r"""Bits per unit of held-out items, where a model has a normalised likelihood.

    bits per unit = sum_i -log2 p(x_i) / sum_i units(x_i)

A unit is what the codec counts: a byte, a pixel value, a column. Summed over items and then
divided, so that an item counts by its length, as in a code for all of them; padding is neither in
the bits nor in the units. The interval is that of a ratio of means (by linearisation: the residuals
bits_i - r units_i, over the mean of the units).

Values of grids are dimensions, and have always been called so: "bits_per_dim". A text that is
learned in windows is scored as one stream (`corpus`), on one scale whatever its tokens are.

Legend: M held-out items, N training items.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.capability import (
    EstimatesLogZ,
    HasTokenLogProb,
    has_normalised_log_prob,
    missing,
)
from morphogen.core.encoded import moved
from morphogen.core.measurement import Measurement
from morphogen.core.metric import Likelihoods
from morphogen.core.random import generator, mix_seed
from morphogen.data.dataset import Data
from morphogen.data.store import Store
from morphogen.data.windows import Stream
from morphogen.evaluation.corpus import (
    MOST_UNITS,
    ONE_BYTE_EACH,
    RESAMPLED,
    STRIDE,
    Corpus,
    Scored,
    score_corpus,
    text_protocol,
    units_of_tokens,
)
from morphogen.evaluation.features import parts
from morphogen.evaluation.groups import ItemScores
from morphogen.evaluation.intervals import LEVEL, mean_interval

MOST_SCORED = 2_000  # held-out items
USUAL_VALUES = 784  # of an item: the likelihood of fewer is measured where they have more
USUAL_PASSES = 6  # of the network for an item: of fewer too, where there are more
FEWEST = 64  # items, however large they are
FEWEST_OF_PASSES = 500  # however many passes they take: the interval says how well it is known
TRAINED_SHARE = 4  # one training item for so many held-out ones
AS_EVER = ("value", "pixel value")  # units that are dimensions of an item


@dataclass(frozen=True)
class Likelihood:
    """Bits and units (M,) of the held-out items at `index`, and how to get those of training
    items."""

    bits: Tensor
    units: Tensor
    index: Tensor
    unit: str
    reading: str
    shared_error: float  # in bits per unit: of log Z
    trained: Callable[[], tuple[Tensor, Tensor]]
    corpus: Scored | None = None  # what a stream costs, block by block
    protocol: dict[str, Any] = field(default_factory=dict)  # of a stream: that of the text
    seed: int = 0

    @property
    def name(self) -> str:
        """What the score is called: bits_per_byte."""
        return "bits_per_dim" if self.unit in AS_EVER else f"bits_per_{self.unit.replace(' ', '_')}"

    @property
    def per_item(self) -> ItemScores:
        """Bits per unit of each item, for groups of them."""
        each = self.bits / self.units.clamp(min=1)
        return ItemScores(self.name, each, self.index, False, self.reading, self.shared_error)

    def scores(self) -> list[Measurement]:
        """Over all items, each by its length; of a stream over its blocks, and where every byte is
        a character in nats too."""
        return [self._of_items()] if self.corpus is None else self._of_blocks(self.corpus)

    def by_region(self) -> dict[str, Any]:
        """For the record: bits per unit of the blocks of a stream, in the order of the text."""
        if self.corpus is None:
            return {}
        bits, units = self.corpus.by_block()
        values = [round(value, 4) for value in (bits / units.clamp(min=1)).tolist()]
        return {"regions": {"score": self.name, "values": values}}

    def _of_blocks(self, corpus: Scored) -> list[Measurement]:
        bits, units = corpus.by_block()
        mean, (low, high) = float(bits.sum() / units.sum()), corpus.interval(self.seed)
        how = f"{100 * LEVEL:.0f} %, bootstrap of runs of blocks, {RESAMPLED} repeats"
        found = Measurement(
            self.name, mean, len(bits), False, low, high, interval=how, note=self.reading,
            protocol=self.protocol,
        )  # fmt: skip
        if self.protocol.get("characters") != ONE_BYTE_EACH:
            return [found]
        nat = math.log(2)
        of_characters = replace(
            found, name="nats_per_character", value=mean * nat, low=low * nat, high=high * nat
        )
        return [found, of_characters]

    def _of_items(self) -> Measurement:
        bits, units = self.bits.double(), self.units.double()
        mean = float(bits.sum() / units.sum())
        # The error of a ratio of means is that of the mean of these.
        lines = (bits - mean * units) / units.mean() + mean
        low, high, method = mean_interval(lines.numpy(), shared_error=self.shared_error)
        if self.shared_error:
            method += " and the error of log Z"
        return Measurement(
            self.name, mean, len(bits), False, low, high,
            interval=f"{100 * LEVEL:.0f} %, {method}, over items", note=self.reading,
        )  # fmt: skip

    def sets(self) -> Likelihoods:
        """For metrics: the training items are measured now."""
        return Likelihoods(self.bits, self.units, *self.trained(), self.unit, self.reading)


def measure_likelihood(bundle: Bundle, data: Data, seed: int) -> Likelihood | None:
    """Bits of held-out items; None where the model has no normalised likelihood of what is judged
    of them."""
    model: Any = bundle.family
    if not has_normalised_log_prob(model):
        return None
    in_part = data.test.weight(torch.arange(0)) is not None  # of its items some values are judged
    if in_part and missing(model, HasTokenLogProb):
        return None
    if isinstance(data.train, Stream) and isinstance(data.test, Stream):
        return _of_stream(model, data, data.train, data.test, seed=seed)
    most = _most_scored(data.spec.num_values, getattr(model, "log_prob_passes", 1))
    # The same items as are rebuilt: the first of one order.
    some = torch.randperm(len(data.test), generator=generator(mix_seed(seed, 3)))
    some = some[:most]

    def of(split: Store, index: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        draw, bits, units = generator(seed), [], []
        for part in parts(len(index)):
            batch = split.batch(index[part])
            learned = None if batch.weight is None else batch.weight > 0
            codec: Any = data.codec
            own = batch.x if learned is None else batch.x.masked_fill(~learned, codec.end)
            units.append(codec.num_units(own))  # an end is no byte
            cond = {n: v.to(model.device) for n, v in batch.cond.items() if n in model.conditions}
            x = moved(batch.x, model.device)
            if learned is None:
                found = model.log_prob(x, cond=cond, generator=draw).cpu()
            else:  # of a conversation, the answers
                found = (model.token_log_prob(x, cond).cpu() * learned).sum(1)
            bits.append(-found / math.log(2))
        return torch.cat(bits), torch.cat(units).float()

    def trained() -> tuple[Tensor, Tensor]:
        own = torch.randperm(len(data.train), generator=generator(mix_seed(seed, 6)))
        with torch.no_grad():
            return of(data.train, own[: max(1, len(some) // TRAINED_SHARE)], mix_seed(seed, 9))

    bits, units = of(data.test, some, mix_seed(seed, 4))
    error = 0.0
    if not missing(model, EstimatesLogZ):
        conditions = data.test.batch(some).cond
        given = {n: v.to(model.device) for n, v in conditions.items() if n in model.conditions}
        nats = model.log_prob_error(given)
        error = nats / math.log(2) / float(units.mean())
    view = f", of the view {data.codec.view!r}" if data.codec.view else ""
    answers = ", of what is learned" * in_part
    reading = f"{model.log_prob_is}{view}{answers}"
    return Likelihood(bits, units, some, data.codec.unit, reading, error, trained)


def _most_scored(num_values: int, num_passes: int) -> int:
    """How many held-out items are scored: fewer of large ones, and of those that take long."""
    worth = MOST_SCORED * USUAL_VALUES // num_values
    most = max(FEWEST_OF_PASSES, worth * USUAL_PASSES // num_passes)
    return min(MOST_SCORED, most, max(FEWEST, worth))


def _of_stream(model: Any, data: Data, train: Stream, test: Stream, *, seed: int) -> Likelihood:
    """Bits of a text that is learned in windows, and of some of the text that was trained on."""
    each, length = units_of_tokens(data.codec, data.spec), data.spec.num_values
    corpus = Corpus(test, each)
    ranges = corpus.ranges()
    found = score_corpus(model, corpus, corpus.spans(ranges), mix_seed(seed, 4))
    index, bits, units = found.by_window(length)

    def trained() -> tuple[Tensor, Tensor]:
        own = Corpus(train, each)
        some = own.spans(own.ranges(MOST_UNITS // TRAINED_SHARE))
        with torch.no_grad():
            _, bits, units = score_corpus(model, own, some, mix_seed(seed, 9)).by_window(length)
        return bits.float(), units.float()

    carries = not missing(model, HasTokenLogProb)
    least = length - max(length // STRIDE, 1)
    how = (
        f"context carried: each token after {least:,} to {length - 1:,} others, where there are"
        if carries
        else f"windows of {length:,} tokens one by one: the model takes no context"
    )
    reading = f"{model.log_prob_is}; {how}"
    return Likelihood(
        bits.float(), units.float(), index, data.codec.unit, reading, 0.0, trained, found,
        text_protocol(corpus, data.codec, ranges), seed,
    )  # fmt: skip
