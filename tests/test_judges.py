"""Judges are tested before they judge: what they see, what they do not, and what stands beside."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from morphogen.core.change import change_of_items
from morphogen.core.encoded import Encoded, joined, num_items, rows
from morphogen.core.measurement import Measurement
from morphogen.core.metric import Items, Likelihoods
from morphogen.core.random import generator, rand, randint, randn
from morphogen.core.spec import ProductSpec, Spec, TensorSpec
from morphogen.data.store import MemoryStore
from morphogen.evaluation._damages import damages
from morphogen.evaluation._references import references_of
from morphogen.evaluation.likelihood import Likelihood
from morphogen.evaluation.vectors import MOST, Vectors, described
from morphogen.evaluation.whole import WholeItem
from morphogen.evaluation.yardsticks import Yardstick, as_far_as, told, yardsticks
from morphogen.metrics.frechet import frechet_distance
from morphogen.metrics.likelihood_gap import likelihood_gap
from morphogen.metrics.statistics import statistics

PICTURES = TensorSpec("real", (1, 12, 12), levels=256)
TEXTS = TensorSpec.tokens(24, 12, end=11)
ROWS = ProductSpec({"size": TensorSpec.vector(2), "kind": TensorSpec.label(4)})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MORPHOGEN_CACHE", str(tmp_path / "cache"))


def draw(spec: Spec, num: int, seed: int) -> Any:
    """Bright blobs on exact black; words of letters that follow each other; rows whose columns
    belong together."""
    by = generator(seed)
    if spec == PICTURES:
        at = torch.arange(12.0)
        x, y = 3 + 6 * rand((2, num, 1), by)
        blob = torch.exp(-((at - x) ** 2 / 6)[:, None, :] - ((at - y) ** 2 / 3)[:, :, None])
        return PICTURES.dequantise(PICTURES.quantise(2 * (blob - 0.1).relu()[:, None] - 1))
    if spec == TEXTS:
        steps = 1 + (rand((num, 24), by) < 0.2).long()
        letters = (steps.cumsum(1) + randint(11, (num, 1), by)) % 11
        stop = 8 + randint(20, (num, 1), by)
        return TEXTS.canonical(letters.masked_fill(torch.arange(24) == stop, 11))
    kind = randint(4, (num,), by)
    size = kind[:, None] + 0.2 * randn((num, 2), by)
    return {"size": size, "kind": kind}


def data_of(spec: Spec, num: int = 1200) -> Any:
    store = MemoryStore.of(spec, draw(spec, num, 0))
    held = MemoryStore.of(spec, draw(spec, num, 1))
    return SimpleNamespace(spec=spec, train=store, test=held, codec=None, digest=str(spec))


def everything(store: MemoryStore) -> Any:
    return store.batch(torch.arange(len(store))).x


@pytest.mark.parametrize("spec", [PICTURES, TEXTS, ROWS], ids=["pictures", "texts", "rows"])
def test_an_honest_sampler_is_near_the_floor_and_every_damage_is_seen(spec: Spec) -> None:
    data = data_of(spec)
    judge = WholeItem.of(data)
    reference = judge.features(everything(data.test))
    floor = frechet_distance(judge.features(everything(data.train)), reference)
    honest = frechet_distance(judge.features(draw(spec, 1200, 2)), reference)
    assert 0.5 < honest / floor < 1.5
    sticks = yardsticks(judge.features, data, reference, floor)
    assert len(sticks) >= 2
    for stick in sticks:
        assert max(stick.ratios) > 1.5, stick


def test_the_judge_of_whole_items_sees_a_background_of_0_to_2_and_a_grain() -> None:
    data = data_of(PICTURES)
    judge = WholeItem.of(data)
    reference = judge.features(everything(data.test))
    floor = frechet_distance(judge.features(everything(data.train)), reference)
    ratios = {s.words: s.ratios for s in yardsticks(judge.features, data, reference, floor)}
    assert ratios["whose commonest value is up to {:.2g} levels off"][0] > 2
    assert ratios["with noise of {:.2g} levels"][0] > 2


def test_slips_in_texts_are_seen_where_few_are_held_out_and_the_bank_judges_nobody() -> None:
    data = data_of(TEXTS, 160)
    judge = WholeItem.of(data)
    assert len(judge.bank) == 80
    reference = judge.features(everything(data.test))
    unread = torch.arange(160)[~torch.isin(torch.arange(160), judge.bank)]
    floor = frechet_distance(judge.features(data.train.batch(unread).x), reference)
    honest = frechet_distance(judge.features(draw(TEXTS, 80, 2)), reference)
    assert honest / floor < 2
    sticks = yardsticks(judge.features, data, reference, floor, bank=judge.bank)
    slips = next(stick for stick in sticks if "replaced" in stick.words)
    assert slips.ratios[-1] > 5
    nothing = yardsticks(judge.features, data, reference, floor)
    assert nothing != sticks


def test_a_damage_that_a_judge_cannot_see_is_named_and_distances_are_kept() -> None:
    data = data_of(PICTURES, 600)

    def extremes(x: Encoded) -> Tensor:
        assert isinstance(x, Tensor)
        return torch.stack([x.amin((1, 2, 3)), x.amax((1, 2, 3))], 1)

    reference = extremes(everything(data.test))
    floor = frechet_distance(extremes(everything(data.train)), reference)
    sticks = yardsticks(extremes, data, reference, floor, key="extremes")
    score = Measurement("frechet_ratio", 1.1, 600, False, floor=1.0, floor_high=1.6)
    said = told(sticks, score)
    assert [words for words in said["unseen"] if "shifted" in words]
    assert not [words for words in said["unseen"] if "noise" in words]
    assert said["as_far_as"] == "no farther than the luck of the draw puts real items"

    def never(x: Encoded) -> Tensor:
        raise AssertionError("the distances of this judge are known")

    again = yardsticks(never, data, reference, floor, key="extremes")
    assert again == sticks


def test_a_score_stands_between_strengths() -> None:
    stick = Yardstick("blurred by {:.2g} pixels", 0.0, (0.5, 1.0), (3.0, 7.0))
    assert stick.equal_to(1.0) == 0.0
    assert stick.equal_to(2.0) == pytest.approx(0.25)
    assert stick.equal_to(5.0) == pytest.approx(0.75)
    assert stick.equal_to(8.0) is None
    assert stick.seen_from(1.2) == 0.5
    assert stick.seen_from(4.0) == 1.0
    assert stick.seen_from(9.0) is None
    quality = Yardstick("saved as JPEG of quality {:.0f}", 100.0, (90.0, 50.0), (2.0, 4.0))
    assert quality.equal_to(3.0) == pytest.approx(70.0)
    assert as_far_as([stick], 5.0, 1.2) == "as far as real items blurred by 0.75 pixels"
    assert as_far_as([stick], 9.0, 1.2) == "farther than real items blurred by 1 pixels"
    assert as_far_as([stick], 1.1, 1.2) == "no farther than the luck of the draw puts real items"


def test_damage_keeps_items_of_their_spec_and_grows_with_its_strength() -> None:
    for spec in (PICTURES, TEXTS, ROWS, TensorSpec.columns((3, 5, 2)), TensorSpec.vector(4)):
        if spec in (PICTURES, TEXTS, ROWS):
            x = draw(spec, 60, 0)
        elif spec.kind == "token":
            x = (rand((60, 3), generator(0)) * torch.tensor(spec.sizes)).long()
        else:
            x = randn((60, 4), generator(0))
        kept = {n: v.clone() for n, v in x.items()} if isinstance(x, dict) else x.clone()
        for damage in damages(spec):
            gaps = []
            for strength in damage.strengths:
                changed = damage.change(x, strength, generator(1))
                spec.check(changed)
                if spec.kind == "token":
                    assert torch.equal(spec.canonical(changed), changed)
                    allowed = spec.allowed
                    assert allowed is None or bool(allowed[torch.arange(3), changed].all())
                both = (described(each, spec).double() for each in (x, changed))
                first, second = both
                gaps.append(float((first - second).square().sum()))
            assert gaps[0] > 0 or "shuffled" in damage.words, damage.words
            assert gaps[-1] >= gaps[0]
        assert not isinstance(x, dict) or all(torch.equal(x[n], kept[n]) for n in kept)
        assert isinstance(x, dict) or torch.equal(x, kept)


def test_vectors_are_small_whatever_the_spec_and_padding_is_no_data() -> None:
    long = TensorSpec.tokens(256, 256)
    x = randint(256, (400, 256), generator(0))
    assert described(x, long).shape[1] <= MOST + 1
    texts = draw(TEXTS, 50, 0)
    garbage = torch.where(TEXTS.mask(texts) | (rand(texts.shape, generator(1)) < 0.5), texts, 3)
    whole = torch.where(TEXTS.mask(texts), texts, garbage)
    torch.testing.assert_close(described(texts, TEXTS), described(whole, TEXTS))
    data = draw(ROWS, 500, 0)
    vectors = Vectors.of(data, ROWS)(data)
    assert vectors.shape == (500, 2 + 4)
    torch.testing.assert_close(vectors.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(vectors.std(0), torch.ones(6), atol=1e-3, rtol=0)


# -- metrics that need no judge --------------------------------------------------------------------


def test_statistics_are_what_they_say() -> None:
    grid = TensorSpec("real", (1, 8, 8), levels=256)
    x = grid.dequantise(randint(128, (50, 1, 8, 8), generator(0)))
    same = statistics(Items(grid, x, x))
    assert same == pytest.approx(dict.fromkeys(same, 0.0), abs=1e-9)
    assert set(same) == {"histogram_distance", "exact_share_gap", "spectrum_gap"}
    brighter = statistics(Items(grid, grid.dequantise(grid.quantise(x) + 128), x))
    assert brighter["histogram_distance"] == pytest.approx(1.0)
    real = TensorSpec("real", (1, 8, 8))
    doubled = statistics(Items(real, 2 * x, x))
    assert doubled["spectrum_gap"] == pytest.approx(math.log(4), rel=1e-3)
    short, long = torch.tensor([[1, 3, 3, 3]]), torch.tensor([[1, 1, 1, 3]])
    tokens = TensorSpec.tokens(4, 4, end=3)
    found = statistics(Items(tokens, short.repeat(6, 1), long.repeat(8, 1)))
    assert found["length_distance"] == 1.0
    assert found["unigram_distance"] == pytest.approx(0.25)  # 1/2, 1/2 against 3/4, 1/4
    first, second = (torch.tensor([each] * 4) for each in ([0, 1, 0, 1], [0, 0, 1, 1]))
    ordered = statistics(Items(tokens, first, second))
    assert ordered["unigram_distance"] == 0.0
    assert ordered["bigram_distance"] == pytest.approx(2 / 3)


def test_statistics_of_rows_see_columns_that_no_longer_belong_together() -> None:
    real, fake = draw(ROWS, 800, 0), draw(ROWS, 800, 1)
    honest = statistics(Items(ROWS, fake, real))
    shuffled = {**fake, "kind": fake["kind"][torch.randperm(800, generator=generator(2))]}
    found = statistics(Items(ROWS, shuffled, real))
    assert found["column_distance"] == honest["column_distance"]
    assert found["relation_distance"] > 4 * honest["relation_distance"]


def test_bits_are_per_unit_over_all_units() -> None:
    bits, units = torch.tensor([8.0, 30.0, 10.0]), torch.tensor([4.0, 10.0, 2.0])
    nothing = torch.empty(0)
    found = Likelihood(
        bits, units, torch.arange(3), "byte", "exact", 0.0, lambda: (nothing, nothing)
    )
    (score,) = found.scores()
    assert score.name == "bits_per_byte"
    assert score.value == pytest.approx(48 / 16)
    assert score.low is not None
    assert score.low < 3 < (score.high or 0)
    assert found.per_item.values.tolist() == [2.0, 3.0, 5.0]
    pixels = Likelihood(bits, units, torch.arange(3), "pixel value", "exact", 0.0, found.trained)
    assert pixels.name == "bits_per_dim"


def test_rebuilt_items_are_compared_over_what_is_real() -> None:
    x = {"size": torch.zeros(2, 2), "kind": torch.tensor([1, 2])}
    again = {"size": torch.tensor([[1.0, 0.0], [0.0, 0.0]]), "kind": torch.tensor([1, 3])}
    torch.testing.assert_close(change_of_items(again, x, ROWS), torch.tensor([1 / 3, 1 / 3]))
    text = torch.full((1, 24), 11)
    text[0, :3] = 5
    other = text.clone()
    other[0, 0], other[0, 10:] = 7, 2  # one letter, and padding
    torch.testing.assert_close(change_of_items(other, text, TEXTS), torch.tensor([1 / 4]))


def test_the_likelihood_gap_is_what_held_out_units_cost_more() -> None:
    sets = Likelihoods(
        torch.tensor([6.0, 6.0]), torch.tensor([2.0, 2.0]), torch.tensor([2.0]), torch.tensor([1.0])
    )
    assert likelihood_gap(sets) == {"likelihood_gap": 1.0}
    assert likelihood_gap(sets.floor()) == {"likelihood_gap": 0.0}


def test_references_have_the_conditions_that_were_asked_for() -> None:
    draws = generator(0)
    labels = [randint(5, (n,), draws) for n in (40, 30)]
    marked = [torch.full((len(x), 1), 0.0) + x[:, None] / 10 for x in labels]
    spec = TensorSpec.vector(1)
    data: Any = SimpleNamespace(
        spec=spec,
        train=MemoryStore.of(spec, marked[0], cond={"label": labels[0]}),
        test=MemoryStore.of(spec, marked[1], cond={"label": labels[1]}),
        codec=SimpleNamespace(decode_many=list),
    )
    asked = torch.tensor([0, 1, 2, 3, 4, -1, 2])
    samples: Any = SimpleNamespace(asked={"label": asked})
    pairs = references_of(asked[:, None] / 10.0, samples, data, 0)
    assert num_items(pairs.generated) == 6  # nobody has the label -1
    for each in (pairs.reference, pairs.train):
        assert torch.equal(each, pairs.generated)
    half = pairs.half(generator(1))
    assert torch.equal(half.reference, half.generated)
    assert torch.equal(joined([half.generated, rows(half.reference, slice(0))]), half.generated)


def test_captions_are_paired_too_and_the_floor_has_the_nearest_caption() -> None:
    captions = TensorSpec.tokens(6, 9, end=8)
    held = torch.tensor([[0, 1, 2, 8, 8, 8], [3, 4, 5, 8, 8, 8], [6, 7, 6, 7, 8, 8]])
    near = torch.tensor([[3, 4, 5, 5, 8, 8], [6, 7, 6, 7, 8, 8], [2, 0, 1, 2, 8, 8]])
    price = torch.tensor([[0.1], [torch.nan], [0.3]])
    spec = TensorSpec.vector(1)
    numbers = torch.arange(3.0)[:, None]
    data: Any = SimpleNamespace(
        spec=spec,
        train=MemoryStore.of(spec, numbers, cond={"caption": near, "price": price}),
        test=MemoryStore.of(spec, numbers, cond={"caption": held, "price": price}),
        conditions={"caption": captions, "price": spec},
        codec=SimpleNamespace(decode_many=list),
    )
    asked = torch.tensor([2, 0, 1, 0])
    samples: Any = SimpleNamespace(asked={"caption": held[asked], "price": price[asked]})
    pairs = references_of(asked[:, None].float(), samples, data, 0)
    assert torch.equal(pairs.reference, pairs.generated)
    assert pairs.conditions == ["caption", "price"]
    samples.asked = {"caption": held[asked]}
    pairs = references_of(asked[:, None].float(), samples, data, 0)
    assert torch.equal(pairs.reference, pairs.generated)
    assert pairs.train is not None
    assert pairs.train[:, 0].tolist() == [1, 2, 0, 2]
