"""Watermarks: found where they are, not found where they are not, and what they cost."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from scipy.stats import binom, chisquare

from morphogen.core.codec import Item
from morphogen.core.provenance import Provenance
from morphogen.core.writing import Limits, Request
from morphogen.families._text import Guess, Text
from morphogen.modalities.image import watermark as waves
from morphogen.modalities.sound import watermark as tones
from morphogen.modalities.sound.files import Waveform, opened
from morphogen.provenance import token_mark
from morphogen.provenance.phases import chance, phases
from morphogen.provenance.token_mark import VARIANTS, WIDTH, TokenMark
from small_models import language_model, trained

KEY, OTHER = b"k" * 32, b"o" * 32
SURELY = 1e-9  # how seldom these tests fail without a reason


def keys(num: int) -> list[bytes]:
    return [number.to_bytes(32, "big") for number in range(num)]


def most(num: int, level: float) -> int:
    """Chances below a level among so many, where each is at least as large as it says."""
    return int(binom.ppf(1 - SURELY, num, level))


def picture(seed: int, side: int = 96) -> np.ndarray:
    """Coarse and fine structure, in colour."""
    draw = np.random.default_rng(seed)
    shown = np.zeros((side, side, 3))
    for size in (4, 12, 48):
        part = draw.integers(0, 256, (size, size, 3)).astype(np.uint8)
        large = Pillow.fromarray(part).resize((side, side), Pillow.Resampling.BICUBIC)
        shown += np.asarray(large, float) / (3 * size**0.25)
    return np.clip(shown, 0, 255).astype(np.uint8)


def sound(seed: int, seconds: float = 6.0, rate: int = 16_000) -> Waveform:
    """Notes that swell and die away, with noise."""
    draw, t = np.random.default_rng(seed), np.arange(int(seconds * rate)) / rate
    notes = sum(
        np.sin(2 * np.pi * pitch * overtone * t)
        / overtone
        * np.sin(np.pi * t / seconds * turn) ** 2
        for pitch, turn in zip(draw.uniform(100, 800, 4), (1, 2, 3, 5), strict=True)
        for overtone in (1, 2, 3, 4)
    )
    noise = draw.normal(size=len(t)) * np.sin(np.pi * t * 2) ** 2
    samples = (0.1 * notes + 0.05 * noise).astype(np.float32)
    return Waveform(samples[None], rate)


# -- pictures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["colour", "grey", "alpha", "deep", "float"])
def test_a_picture_of_any_kind_is_marked_and_stays_one(kind):
    plain = {
        "colour": picture(0), "grey": picture(0)[..., 0],
        "alpha": np.dstack([picture(0), np.full((96, 96), 7, np.uint8)]),
        "deep": picture(0)[..., 0].astype(np.uint16) * 257,
        "float": picture(0)[..., 0].astype(np.float32) / 255,
    }[kind]  # fmt: skip
    marked = waves.watermarked(plain, KEY)
    assert (marked.shape, marked.dtype) == (plain.shape, plain.dtype)
    assert waves.chance_of(marked, KEY) < 1e-6
    assert waves.chance_of(marked, OTHER) > 1e-3
    if kind == "alpha":
        assert (marked[..., 3] == 7).all()
    assert isinstance(waves.watermarked(Pillow.fromarray(picture(0)), KEY), Pillow.Image)


def test_pictures_keep_the_mark_through_what_happens_to_pictures():
    plain = Pillow.fromarray(picture(1, 160))
    marked = waves.watermarked(plain, KEY)
    difference = np.asarray(marked, float) - np.asarray(plain, float)
    assert 10 * np.log10(255**2 / np.mean(difference**2)) > 36  # dB
    stream = io.BytesIO()
    marked.save(stream, "JPEG", quality=75)
    noise = np.random.default_rng(0).normal(0, 5, (160, 160, 3))
    happened = {
        "JPEG": np.asarray(Pillow.open(stream)),
        "smaller": np.asarray(marked.resize((120, 120), Pillow.Resampling.LANCZOS)),
        "cropped": np.asarray(marked)[13:141, 27:155],
        "noise": np.clip(np.asarray(marked) + noise, 0, 255).astype(np.uint8),
    }
    found = {name: waves.chance_of(each, KEY) for name, each in happened.items()}
    assert max(found.values()) < 1e-4, found


def test_pictures_without_a_mark_are_seldom_taken_for_marked():
    shown = [picture(seed, 48) for seed in range(4)]
    found = [waves.chance_of(shown[i % 4], key) for i, key in enumerate(keys(24))]
    assert sum(each < 0.05 for each in found) <= most(24, 0.05)
    blank = np.full((64, 64), 128, np.uint8)
    stripes = np.tile(np.uint8([0, 255] * 32), (64, 1))
    for shown in (blank, stripes):
        found = [waves.chance_of(shown, key) for key in keys(5)]
        assert sum(each < 0.05 for each in found) <= most(5, 0.05)


# -- sounds ----------------------------------------------------------------------------------------


def test_sounds_keep_the_mark_through_what_happens_to_sounds():
    soundfile = pytest.importorskip("soundfile")
    plain = sound(0)
    marked = tones.watermarked(plain, KEY)
    assert marked.samples.shape == plain.samples.shape
    difference = marked.samples - plain.samples
    assert 10 * np.log10(np.mean(plain.samples**2) / np.mean(difference**2)) > 18  # dB

    def written(kind: str) -> Waveform:
        stream = io.BytesIO()
        soundfile.write(stream, marked.samples.T, marked.rate, format=kind)
        return opened(stream.getvalue())

    noise = np.random.default_rng(0).normal(size=marked.samples.shape)
    loud = np.sqrt(np.mean(marked.samples**2) / 100)  # 20 dB below
    happened = {
        "as it is": marked,
        "MP3": written("MP3"),
        "OGG": written("OGG"),
        "cropped": Waveform(marked.samples[:, 12_345:], marked.rate),
        "noise": Waveform((marked.samples + loud * noise).astype(np.float32), marked.rate),
        "stereo": Waveform(np.repeat(marked.samples, 2, 0), marked.rate),
    }
    found = {name: tones.chance_of(each, KEY) for name, each in happened.items()}
    assert max(found.values()) < 1e-4, found
    assert tones.chance_of(marked, OTHER) > 1e-3


def test_sounds_without_a_mark_are_seldom_taken_for_marked():
    heard = [sound(seed, 1.5, 8000) for seed in range(4)]
    found = [tones.chance_of(heard[i % 4], key) for i, key in enumerate(keys(150))]
    assert sum(each < 0.05 for each in found) <= most(150, 0.05)
    assert tones.chance_of(Waveform(np.zeros((1, 16_000), np.float32), 8000), KEY) > 1e-3


# -- texts -----------------------------------------------------------------------------------------


def drawn(logits: torch.Tensor, num: int, seed: int, key: bytes | None) -> list[int]:
    """Tokens of a chain: row i of logits (V, V) tells what follows token i, and 0 comes first."""
    mark = None if key is None else TokenMark(key, seed)
    request = Request(torch.tensor([0]), num, Limits(), seed, mark=mark)
    text = Text(0, request, num, {None})
    for _ in range(num):
        text.take(logits[text.came[-1]])
    return text.came[1:]


def test_marked_texts_are_distributed_as_unmarked_ones():
    """Exactly: the chance of each pair of tokens that the mark chose is that of the chain."""
    logits = torch.tensor([[1.2, 0.0, -0.7], [0.1, 0.4, 0.0], [-1.0, 0.5, 0.9]])
    step = logits.double().softmax(-1).numpy()
    num = WIDTH + 2
    at = np.linalg.matrix_power(step, WIDTH)[0]  # of the last token that is drawn plainly
    exact = np.einsum("i,ij,jk->jk", at, step, step).reshape(-1)
    found = np.zeros(9)
    for number, key in enumerate(keys(2500)):
        first, second = drawn(logits, num, number, key)[-2:]
        found[3 * first + second] += 1
    assert chisquare(found, exact * found.sum()).pvalue > 1e-4


def test_no_number_is_used_twice_in_a_text():
    mark = TokenMark(KEY, 0)
    assert mark.numbers([1, 2, 3], 5) is None
    first = mark.numbers([1, 2, 3, 4], 5)
    assert first is not None
    assert mark.numbers([9, 1, 2, 3, 4], 5) is None
    other = mark.numbers([2, 3, 4, 5], 5)
    assert other is not None
    assert not torch.equal(first, other)
    again = TokenMark(KEY, 0).numbers([7, 1, 2, 3, 4], 5)
    assert again is not None
    assert torch.equal(first, again)
    variants = {float(TokenMark(KEY, seed).numbers([1, 2, 3, 4], 1)[0]) for seed in range(400)}
    assert len(variants) == VARIANTS


def test_numbers_are_uniform():
    found = torch.cat([TokenMark(key, 0).numbers([1, 2, 3, 4], 50) for key in keys(400)])
    counts = np.histogram(found, 20, (0, 1))[0]
    assert chisquare(counts).pvalue > 1e-4
    assert 0 < float(found.min()) < float(found.max()) < 1


def test_texts_are_known_by_the_key_they_were_drawn_with():
    logits = torch.randn(60, 60, generator=torch.Generator().manual_seed(0)) * 1.5
    marked = [drawn(logits, 80, seed, KEY) for seed in range(5)]
    assert len(set(map(tuple, marked))) == 5
    assert max(token_mark.chance(each, KEY) for each in marked) < 1e-4
    assert token_mark.chance(marked[0], OTHER) > 1e-3
    assert marked[0] == drawn(logits, 80, 0, KEY)
    assert token_mark.chance(marked[0][:WIDTH], KEY) == 1
    swapped = list(marked[1])
    for place in range(0, 80, 20):
        swapped[place : place + 2] = swapped[place : place + 2][::-1]
    assert token_mark.chance(swapped, KEY) < 1e-2


def test_texts_without_a_mark_are_taken_for_marked_as_often_as_is_said():
    logits = torch.randn(20, 20, generator=torch.Generator().manual_seed(1))
    texts = [drawn(logits, 60, seed, None) for seed in range(10)]
    texts.append([1, 2] * 30)  # the same again and again
    found = [token_mark.chance(texts[i % 11], key) for i, key in enumerate(keys(500))]
    for level in (0.05, 0.5):
        low, high = binom.ppf([SURELY, 1 - SURELY], 500, level)
        assert low <= sum(each < level for each in found) <= high


def test_guesses_change_nothing_of_a_marked_text():
    logits = torch.randn(60, 60, generator=torch.Generator().manual_seed(2))
    plain = drawn(logits, 30, 3, KEY)  # in which no four tokens come twice
    request = Request(torch.tensor([0]), 30, Limits(), 3, mark=TokenMark(KEY, 3))
    text = Text(0, request, 30, {None})
    for number in range(30):
        guess = Guess(plain[number]) if len(text.came) > WIDTH else None
        text.take(logits[text.came[-1]], guess)
    assert text.came[1:] == plain


@pytest.mark.parametrize("whole", [True, False])
def test_a_bundle_marks_what_it_writes(whole):
    bundle = language_model(trained(), length=96, whole=whole, std=0.03)
    plain = bundle.task("complete", Item("the harbour"), seed=1)
    bundle.provenance = Provenance(watermark=KEY, marking=lambda seed: TokenMark(KEY, seed))
    marked = bundle.task("complete", Item("the harbour"), seed=1)
    assert marked.raw != plain.raw
    assert bundle.task("complete", Item("the harbour"), seed=1).raw == marked.raw
    greedy = bundle.task("complete", Item("the harbour"), temperature=0).raw
    bundle.provenance = None
    assert greedy == bundle.task("complete", Item("the harbour"), temperature=0).raw


# -- what they share -------------------------------------------------------------------------------


def test_the_bound_on_the_chance_holds():
    """Of sums of cosines of random phases, no more exceed a value than is said."""
    draw = np.random.default_rng(0)
    sums = np.cos(draw.uniform(0, 2 * np.pi, (20_000, 40))).sum(1)
    for evidence in (5.0, 8.0, 11.0):
        said = chance(evidence, 40, 1)
        assert sum(sums >= evidence) <= most(len(sums), said)
    assert chance(-1, 40, 1) == 1
    assert chance(1, 40, 1e9) == 1
    assert len({float(phases(key, name, 1)[0]) for key, name in
                itertools.product((KEY, OTHER), ("a", "b"))}) == 4  # fmt: skip
