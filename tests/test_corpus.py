"""A text in windows is scored as one stream: as by hand, and whatever the tokens are."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from morphogen.backbones.rnn import RNN
from morphogen.backbones.token_transformer import TokenTransformer
from morphogen.core.backbone import BuildBackbone
from morphogen.core.bundle import Bundle
from morphogen.core.random import generator, randn
from morphogen.core.recipe import Recipe
from morphogen.data.dataset import Data, load
from morphogen.data.windows import Stream
from morphogen.evaluation.corpus import (
    STRIDE,
    Corpus,
    Scored,
    score_corpus,
    text_protocol,
    units_of_tokens,
)
from morphogen.evaluation.likelihood import measure_likelihood
from morphogen.families.autoregressive import Autoregressive

WORDS = ["the", "sea", "was", "grey", "and", "café", "lights", "went", "out", "one", "by", "it"]
SMALL: dict[str, Any] = {"model_dim": 16, "num_layers": 1}
BACKBONES = {
    "across": BuildBackbone(TokenTransformer, across_documents=True, **SMALL),
    "within": BuildBackbone(TokenTransformer, **SMALL),
    "recurrent": BuildBackbone(RNN, **SMALL),
}


def corpus(folder: Path, num_held: int = 40, *, words: list[str] = WORDS, **options: Any) -> Data:
    """train.txt and test.txt of words, in windows."""
    draw = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, num in (("train", 400), ("test", num_held)):
        (folder / f"{name}.txt").write_text(" ".join(draw.choice(words) for _ in range(num)))
    return load(folder, form="windows", **options)


def shaken(data: Data, backbone: BuildBackbone) -> Any:
    torch.manual_seed(0)
    model, draw = Autoregressive(data.spec, {}, backbone), generator(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * randn(parameter.shape, draw))
    return model.eval()


def stream_of(data: Data) -> torch.Tensor:
    assert isinstance(data.test, Stream)
    return torch.cat([*(batch.x.flatten() for batch in data.test.batches()), data.test.tail])


def held_out(data: Data) -> Corpus:
    assert isinstance(data.test, Stream)
    return Corpus(data.test, units_of_tokens(data.codec, data.spec))


def by_hand(model: Any, stream: torch.Tensor, start: int, place: int) -> float:
    """Bits of the token at `place` after those from `start` on."""
    logits = model.predict_next(stream[None, start:place])
    return -float(logits.log_softmax(1)[0, stream[place]]) / math.log(2)


@pytest.mark.parametrize("backbone", list(BACKBONES))
@torch.no_grad()
def test_every_token_is_scored_once_after_all_that_the_model_can_look_back_on(
    tmp_path: Path, backbone: str
) -> None:
    length = 16
    data = corpus(tmp_path, 15, length=length, tokenizer="byte")
    model, stream = shaken(data, BACKBONES[backbone]), stream_of(data)
    held = held_out(data)
    found = score_corpus(model, held, held.spans(held.ranges()), 0)
    assert torch.equal(found.places, torch.arange(len(stream)))
    assert int(found.units.sum()) == (tmp_path / "test.txt").stat().st_size
    least = length - length // STRIDE
    for place in range(len(stream)):
        starts = range(max(0, place - length + 1), max(0, place - least) + 1)
        bits = [by_hand(model, stream, start, place) for start in starts]
        assert min(abs(float(found.bits[place]) - bit) for bit in bits) < 1e-4
    whole, bits, _ = found.by_window(length)
    assert whole.tolist() == list(range(len(stream) // length))
    assert float(bits[0]) == pytest.approx(float(found.bits[:length].sum()))


@torch.no_grad()
def test_what_fits_into_one_window_is_scored_in_full(tmp_path: Path) -> None:
    data = corpus(tmp_path, 8, length=64, tokenizer="byte", words=["cat", "dog"])
    model, stream = shaken(data, BACKBONES["within"]), stream_of(data)
    held = held_out(data)
    assert len(data.test) == 0
    assert len(stream) < 64
    bits = score_corpus(model, held, held.spans(held.ranges()), 0).bits
    full = [by_hand(model, stream, 0, place) for place in range(len(stream))]
    torch.testing.assert_close(bits, torch.tensor(full, dtype=torch.float64), atol=1e-4, rtol=0)


def test_the_same_bytes_are_scored_whatever_the_tokens_are(tmp_path: Path) -> None:
    protocols, sums = [], []
    for options in ({"tokenizer": "byte"}, {"tokenizer": "bpe", "vocab_size": 300}):
        data = corpus(tmp_path / "texts", 400, length=24, **options)
        held = held_out(data)
        for most in (10_000, 400):  # all of the text, and blocks of it
            ranges = held.ranges(most)
            protocols.append(text_protocol(held, data.codec, ranges))
            spans = held.spans(ranges)
            units = [int(held.units[held.read(*span)].sum()) for span in spans]
            sums.append((sum(units), sum(last - first for first, last in ranges)))
    assert protocols[0] == protocols[2]
    assert protocols[1] == protocols[3]
    assert protocols[0] != protocols[1]
    assert "characters" not in protocols[0]
    for found, expected in sums:
        assert abs(found - expected) <= 8 * 8  # tokens at the ends of eight blocks
    assert sums[0] == sums[2]


def test_bits_per_byte_and_nats_per_character_say_how_they_were_measured(tmp_path: Path) -> None:
    data = corpus(tmp_path, 400, length=32, tokenizer="byte", words=["cat", "dog", "owl"])
    bundle = Bundle(shaken(data, BACKBONES["within"]), data.codec, Recipe(), data={})
    with torch.no_grad():
        likelihood = measure_likelihood(bundle, data, seed=0)
    assert likelihood is not None
    bits, nats = likelihood.scores()
    assert (bits.name, nats.name) == ("bits_per_byte", "nats_per_character")
    assert nats.value == pytest.approx(bits.value * math.log(2))
    assert bits.low is not None
    assert bits.high is not None
    assert bits.low < bits.value < bits.high
    assert "after 24 to 31 others" in bits.note
    assert len(likelihood.by_region()["regions"]["values"]) == bits.n == 8
    assert "text_digest" in bits.protocol
    sets = likelihood.sets()
    of_windows = data.codec.num_units(data.test.batch(torch.arange(len(data.test))).x)
    assert torch.equal(sets.units, of_windows)
    assert len(sets.train_bits) > 1


def test_a_model_of_whole_windows_is_scored_window_by_window(tmp_path: Path) -> None:
    """All of the text counts, the end of it with ends behind it."""
    data = corpus(tmp_path, length=16, tokenizer="byte")
    held = held_out(data)

    class Uniform:
        """Knows no more than how many tokens there are."""

        conditions: tuple[str, ...] = ()
        device = "cpu"

        def log_prob(self, x: torch.Tensor, *, cond: Any, generator: Any) -> torch.Tensor:
            return torch.full((len(x),), -x.shape[1] * math.log(data.spec.vocab_size))

    found = score_corpus(Uniform(), held, held.spans(held.ranges()), 0)
    stream = stream_of(data)
    assert torch.equal(found.places, torch.arange(len(stream)))
    windows = -(-len(stream) // 16)
    assert float(found.bits.sum()) == pytest.approx(16 * windows * math.log2(data.spec.vocab_size))


def test_the_interval_is_of_stretches_of_text() -> None:
    """Blocks that go up and down together are fewer than they look."""
    draw = generator(3)
    regions = randn((16,), draw).repeat_interleave(4)
    alone = regions[torch.randperm(64, generator=draw)]

    def width(of_blocks: torch.Tensor) -> float:
        bits = (2 + 0.1 * of_blocks).double() * 100
        every = torch.arange(64)
        low, high = Scored(bits, torch.full((64,), 100), every, every).interval(0)
        return high - low

    error = 0.1 * float(regions.std()) / math.sqrt(16)
    assert width(regions) > 1.4 * width(alone)
    assert 2.5 * error < width(regions) < 5 * error
