"""Planted copycats in every kind of spec are caught, honest models pass, numbers match theory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import hypergeom, mannwhitneyu
from torch import Tensor

from morphogen.core.encoded import joined, rows
from morphogen.core.errors import MeasurementError, RefusedPair
from morphogen.core.random import generator, rand, randint, randn
from morphogen.core.spec import ProductSpec, Spec, TensorSpec
from morphogen.data.store import MemoryStore, compact
from morphogen.evaluation import _closeness as closeness
from morphogen.evaluation._neighbours import Index, components
from morphogen.evaluation._views import flat, passages, views
from morphogen.evaluation.copying import Copying, Judge, copying

NUM_TRAIN, NUM_HELD_OUT, NUM = 400, 200, 200
ROWS = ProductSpec(
    {
        "size": TensorSpec.vector(6),
        "kind": TensorSpec.label(5),
        "marks": TensorSpec.columns((4, 7, 3)),
    }
)
SPECS: dict[str, Spec] = {
    "grid": TensorSpec("real", (1, 12, 12), levels=256),
    "sequence": TensorSpec("real", (2, 24), layout="sequence"),
    "vector": TensorSpec.vector(10),
    "tokens": TensorSpec.tokens(32, 12),
    "texts": TensorSpec.tokens(32, 13, end=12),
    "rows": ROWS,
}


def draw_items(spec: Any, num: int, seed: int) -> Any:
    """Smooth fields, correlated vectors, walks on a ring of tokens that may end, or rows."""
    draw = generator(seed)
    if isinstance(spec, ProductSpec):
        size = draw_items(spec.parts["size"], num, seed) * torch.tensor([1, 9, 0.1, 1, 1, 1])
        sizes = torch.tensor(spec.parts["marks"].sizes)
        marks = (rand((num, 3), draw) * sizes).long()
        return {"size": size, "kind": randint(5, (num,), draw), "marks": marks}
    if spec.kind == "token":
        steps = randint(4, (num, *spec.shape), draw) - 1
        x = (steps.cumsum(1) + randint(12, (num, 1), draw)) % 12
        stop = 12 + randint(20, (num, 1), draw)
        return spec.canonical(x.masked_fill(torch.arange(32) == stop, 12)) if spec.end else x
    rough = randn((num, *spec.shape), draw)
    for axis in range(2, rough.dim()):
        rough = rough + rough.roll(1, axis) + rough.roll(-1, axis)
    if spec.layout == "vector":
        rough = rough + 0.7 * rough.roll(1, -1)
    return (0.25 * rough).clamp(-1, 1)


def split_of(spec: Spec, x: Any) -> MemoryStore:
    return MemoryStore(spec, compact(x, spec))


def setting(name: str, seed: int = 0) -> tuple[Any, MemoryStore, MemoryStore, Any]:
    """A spec, its training and held-out splits, and honest items that nobody has seen."""
    spec = SPECS[name]
    x = draw_items(spec, NUM_TRAIN + NUM_HELD_OUT + NUM, seed)
    ends = (0, NUM_TRAIN, NUM_TRAIN + NUM_HELD_OUT, NUM_TRAIN + NUM_HELD_OUT + NUM)
    train, held_out, honest = (rows(x, slice(*ends[i : i + 2])) for i in range(3))
    return spec, split_of(spec, train), split_of(spec, held_out), honest


def noisy(x: Any, draw: torch.Generator) -> Any:
    """A little noise; a tenth of the tokens replaced."""
    if isinstance(x, dict):
        return {**x, "size": x["size"] * (1 + 0.01 * randn(x["size"].shape, draw))}
    if not x.is_floating_point():
        return torch.where(rand(x.shape, draw) < 0.1, randint(12, x.shape, draw), x)
    return x + 0.02 * randn(x.shape, draw)


def shifted(x: Tensor, draw: torch.Generator) -> Tensor:
    """Rolled by one or two positions along the last axis, and noisy."""
    return noisy(x.roll(1 + int(randint(2, (1,), draw)), -1), draw)


def mirrored(x: Tensor, draw: torch.Generator) -> Tensor:
    return noisy(x.flip(-1), draw)


CASES = [(name, noisy) for name in SPECS] + [
    ("grid", shifted), ("grid", mirrored), ("sequence", shifted), ("tokens", shifted),
]  # fmt: skip


@pytest.mark.parametrize("part", [1.0, 0.1])
@pytest.mark.parametrize(("name", "change"), CASES)
def test_a_copycat_is_caught(
    name: str, change: Callable[[Tensor, torch.Generator], Tensor], part: float
) -> None:
    spec, train, held_out, honest = setting(name)
    draw = generator(1)
    some = torch.randperm(NUM_TRAIN, generator=draw)[: int(part * NUM)]
    copies = change(train.batch(some).x, draw)
    mixed = joined([copies, rows(honest, slice(len(some), None))])
    found = copying(spec.canonical(mixed), train, held_out)
    assert found.verdict == "copies", found.reason
    assert found.p_value is not None
    assert found.p_value <= found.level
    generated, source = found.pairs[: len(some) // 2].T
    assert torch.equal(some[generated], source)  # the first pairs are the planted ones


@pytest.mark.parametrize("name", SPECS)
def test_honest_models_pass(name: str) -> None:
    for seed in range(2):
        _, train, held_out, honest = setting(name, seed)
        found = copying(honest, train, held_out, seed=seed)
        assert found.verdict == "no sign of copying", found.reason
        for look in found.looks:
            assert look.share.low is not None
            assert look.share.high is not None
            assert look.share.low - 0.1 < 0.5 < look.share.high + 0.1


def test_blurred_and_collapsed_models_are_not_called_copiers() -> None:
    """They are bad models, and C_T falls with blur; but they know nothing of single items."""
    _, train, held_out, honest = setting("grid")
    real = torch.nn.functional.avg_pool2d(honest, 3, 1, 1)
    blurred = copying(real, train, held_out)
    assert blurred.verdict == "no sign of copying"
    collapsed = honest[:5].repeat_interleave(40, 0) + 0.01 * randn(honest.shape, generator(3))
    assert copying(collapsed, train, held_out).verdict != "copies"


def test_a_few_training_items_replayed_many_times_are_caught() -> None:
    _, train, held_out, honest = setting("grid")
    some = torch.arange(6).repeat_interleave(30)
    mixed = honest.clone()
    mixed[: len(some)] = noisy(train.batch(some).x, generator(0))
    found = copying(mixed, train, held_out)
    assert found.verdict == "copies"
    assert set(found.pairs[:6, 1].tolist()) == set(range(6))


def test_duplicates_in_the_data_are_no_copies_and_planted_twins_hide_nothing() -> None:
    """Items that occur in both splits and in the model's law are usual, not copied."""
    spec, _, _, _ = setting("tokens")
    few = draw_items(spec, 30, 0)  # a law with thirty outcomes
    draw = generator(1)
    x = few[randint(30, (NUM_TRAIN + NUM_HELD_OUT + NUM,), draw)]
    train, held_out, honest = x.split([NUM_TRAIN, NUM_HELD_OUT, NUM])
    found = copying(honest, split_of(spec, train), split_of(spec, held_out))
    assert found.verdict == "no sign of copying"


def test_features_are_a_view_of_their_own() -> None:
    """A change that only the features see through: the sign of every item."""
    _, train, held_out, honest = setting("vector")
    copies = -train.batch(torch.arange(NUM)).x
    blind = copying(copies, train, held_out)
    seeing = copying(copies, train, held_out, features=lambda x: x.abs())
    assert blind.verdict == "no sign of copying"
    assert seeing.verdict == "copies"
    assert seeing.looks[seeing.worst].view == "features"
    assert copying(honest, train, held_out, features=lambda x: x.abs()).verdict != "copies"


def test_false_alarms_are_rarer_than_the_level_says() -> None:
    """One judge, many honest models: each a resample of fresh items."""
    _, train, held_out, _ = setting("vector")
    judge = Judge(train, held_out)
    fresh = draw_items(SPECS["vector"], 40 * NUM, 5).split(NUM)
    alarms = [judge(x).verdict == "copies" for x in fresh]
    assert sum(alarms) <= 2


def test_what_is_found_goes_to_json_and_repeats_itself() -> None:
    _, train, held_out, honest = setting("grid")
    found = copying(honest, train, held_out, protocol={"data_digest": "abc"})
    again = copying(honest, train, held_out, protocol={"data_digest": "abc"})
    record = json.loads(json.dumps(found.to_json()))
    assert record == json.loads(json.dumps(again.to_json()))
    assert [look["view"] for look in record["looks"]] == ["items", "aligned"]
    assert {score.name for score in found.scores} == {
        "train_share",
        "c_t",
        "authenticity",
        "membership_auc",
    }
    assert all(score.protocol["data_digest"] == "abc" for score in found.scores)
    assert found.pairs.shape == (16, 2)


# -- the parts against mathematics ---------------------------------------------------------------


def test_neighbours_are_those_of_brute_force() -> None:
    draw = generator(0)
    keys, queries = randn((300, 20), draw), randn((50, 3, 20), draw)
    queries[0, 2] = keys[17]
    index = Index(keys, *components(keys, draw))
    distance, number = index.nearest(queries, (0, 1, 2), 5, 10, 290)
    brute = torch.cdist(queries.double(), keys[10:290].double()).amin(1)
    expected, order = brute.topk(5, dim=1, largest=False)
    assert torch.equal(number, order + 10)
    torch.testing.assert_close(distance.double(), expected, atol=1e-5, rtol=1e-5)
    assert distance[0, 0] == 0
    assert number[0, 0] == 17


def test_the_first_stage_finds_nearly_all_neighbours_in_many_dimensions() -> None:
    spec = TensorSpec("real", (1, 20, 20))
    keys = flat(draw_items(spec, 2000, 0), spec)
    queries = flat(draw_items(spec, 200, 1), spec)
    index = Index(keys, *components(keys, generator(0)))
    _, number = index.nearest(queries[:, None], (0,), 1, 0, 2000)
    assert (number[:, 0] == torch.cdist(queries, keys).argmin(1)).float().mean() > 0.9


def test_views_follow_the_spec() -> None:
    names = {name: [view.name for view in views(spec)] for name, spec in SPECS.items()}
    assert names == {
        "grid": ["items", "aligned"],
        "sequence": ["items", "aligned"],
        "vector": ["items"],
        "tokens": ["items", "aligned", "passages"],
        "texts": ["items", "passages"],
        "rows": ["items"],
    }
    video = TensorSpec("real", (1, 4, 8, 8))
    assert views(video)[1].queries(torch.rand(2, *video.shape)).shape == (2, 18 + 8, 4 * 6 * 6)
    photo = TensorSpec("real", (3, 64, 64))
    for view in views(photo):
        assert view.keys(torch.rand(2, *photo.shape)).shape[1] <= 1024


def test_an_aligned_query_meets_its_source_exactly() -> None:
    spec = SPECS["grid"]
    x = draw_items(spec, 3, 0)
    aligned = views(spec)[1]
    for change in (x, x.flip(-1), x.roll((1, -2), (2, 3)), x.flip(-1).roll((-2, 2), (2, 3))):
        gap = (aligned.queries(change) - aligned.keys(x)[:, None]).norm(dim=2)
        assert gap.amin(1).max() < 1e-6
    smooth = torch.nn.functional.interpolate(x[..., 2:9, 2:9], (12, 12), mode="bicubic")
    crop = torch.nn.functional.interpolate(smooth[..., 1:11, 2:12], (12, 12), mode="bilinear")
    key = aligned.keys(smooth)
    gap = (aligned.queries(crop) - key[:, None]).norm(dim=2)
    assert (gap.amin(1) < 0.5 * gap[:, 0]).all()


def test_tokens_are_compared_by_hamming_distance() -> None:
    few, many = TensorSpec.tokens(20, 8), TensorSpec.tokens(200, 5000)
    for spec, tolerance in ((few, 0.0), (many, 0.35)):
        x = randint(spec.vocab_size or 1, (2, *spec.shape), generator(0))
        y = x.clone()
        y[:, :10] = (y[:, :10] + 1) % (spec.vocab_size or 1)
        squared = (flat(x, spec) - flat(y, spec)).square().sum(1)
        torch.testing.assert_close(squared, torch.full((2,), 20.0), rtol=tolerance, atol=0)
    x = randint(8, (1, 40), generator(0))
    assert (passages(x) - passages(x.roll(7, 1))).square().sum() <= 2 * 2 * 3
    assert torch.equal(flat(x, few), flat(x, few))


def test_rows_are_compared_by_deviations_and_mismatches_and_padding_by_nothing() -> None:
    some = draw_items(ROWS, 500, 0)
    keys = views(ROWS, None, some)[0].keys
    first, second = rows(some, slice(1)), rows(some, slice(1))
    second["size"] = second["size"] + torch.tensor([0, 2.0, 0, 0, 0, 0]) * some["size"].std(0)
    second["kind"] = (second["kind"] + 1) % 5
    squared = (keys(first) - keys(second)).square().sum(1)
    torch.testing.assert_close(squared, torch.tensor([4.0 + 1.0]))
    texts: Any = SPECS["texts"]
    x = torch.full((2, 32), 12)
    x[:, :4] = torch.tensor([3, 1, 4, 1])
    x[1, 10:] = 7  # after the end
    for view in views(texts):
        gap = (view.keys(x)[0] - view.keys(x)[1]).norm()
        assert gap == 0, view.name


def test_labels_are_hypergeometric_over_distinct_items() -> None:
    nearest = torch.tensor([0, 0, 1, 2, 3, 4])
    is_train = torch.tensor([True, True, True, True, False, True])
    order = torch.arange(6)
    found = closeness.labels(order, nearest, is_train, (50, 20), [6])
    assert found.p_value == pytest.approx(hypergeom.sf(3, 70, 50, 5))
    assert found.counts["real"] == 5
    assert found.counts["train"] == 4


def test_the_tail_test_is_exact_where_both_have_one_law() -> None:
    """Its p-values are no smaller than uniform ones: simulated at 5 %."""
    draw = np.random.default_rng(0)
    p = [
        closeness.tail(*map(torch.from_numpy, (draw.random(100), draw.random(150)))).p_value
        for _ in range(400)
    ]
    assert np.mean(np.array(p) <= 0.05) <= 0.08
    planted = torch.from_numpy(np.concatenate([draw.random(95), draw.random(5) * 1e-6]))
    assert closeness.tail(planted, torch.from_numpy(draw.random(150))).p_value < 0.02


def test_c_t_is_the_mann_whitney_z_score_and_follows_the_normal_law() -> None:
    draw = generator(0)
    a, b = randn((80,), draw), randn((120,), draw) + 0.3
    one = torch.zeros(200, dtype=torch.long)
    value, error, num_cells = closeness.c_t(a, b, one[:80], one[:120])
    p = mannwhitneyu(a, b, alternative="less", method="asymptotic", use_continuity=False).pvalue
    assert 0.5 * (1 + torch.erf(torch.tensor(value) / 2**0.5)) == pytest.approx(p, rel=1e-3)
    assert (error, num_cells) == (1.0, 1)
    cells, others = randint(3, (80,), draw), randint(3, (120,), draw)
    _, error, num_cells = closeness.c_t(a, b, cells, others)
    assert 0.5 < error < 0.8
    assert num_cells <= 3


def test_the_share_is_wider_where_items_fall_together() -> None:
    near, far = torch.zeros(100), torch.ones(100)
    value, low, high = closeness.share(near, near, torch.arange(100))
    assert value == 0.5
    assert (low, high) == pytest.approx((0.3983, 0.6017), abs=1e-3)  # Clopper-Pearson, 50 of 100
    together = closeness.share(near, near, torch.arange(100) // 10)
    assert together[1] < low
    assert closeness.share(near, far, torch.arange(100))[0] == 1
    assert closeness.authenticity(near, far)[0] == 0


# -- bad input -----------------------------------------------------------------------------------


def test_too_few_items_are_said_to_be_too_few() -> None:
    spec, train, held_out, honest = setting("vector")
    few = copying(honest[:49], train, held_out)
    assert few.verdict == "too few items to tell"
    assert "49 generated items" in few.reason
    assert few.looks == []
    assert len(few.pairs) == 0
    some = held_out.take(torch.arange(20))
    assert copying(honest, train, some).verdict == "too few items to tell"
    with pytest.raises(MeasurementError, match="held-out"):
        copying(honest, train, MemoryStore(spec, held_out.x[:0]))
    many = split_of(spec, draw_items(spec, 2000, 9))
    unsure: Copying = copying(honest[:50], many, held_out.take(torch.arange(50)))
    assert unsure.verdict == "too few items to tell"
    assert "hold out or generate more" in unsure.reason


def test_items_that_cannot_be_judged_are_refused() -> None:
    spec, train, held_out, honest = setting("vector")
    with pytest.raises(RefusedPair):
        copying(honest[:, :3], train, held_out)
    with pytest.raises(MeasurementError, match="not finite"):
        copying(honest * torch.nan, train, held_out)
    constant = MemoryStore(spec, torch.zeros(100, 10))
    with pytest.raises(MeasurementError, match="the same"):
        copying(honest, constant, constant)
    with pytest.raises(MeasurementError, match="not finite"):
        copying(honest, train, held_out, features=lambda x: x * torch.nan)
    dull = copying(honest, train, held_out, features=lambda x: x * 0)
    assert dull.verdict == "no sign of copying"


SHARED = Path(os.environ.get("MORPHOGEN_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.mark.skipif(
    not (SHARED / "data/fashion-mnist").exists(),
    reason="needs data/fashion-mnist in MORPHOGEN_SHARED",
)
def test_copies_of_clothes_are_caught_and_other_clothes_are_not() -> None:
    import gzip

    def pictures(part: str, num: int) -> Tensor:
        path = SHARED / f"data/fashion-mnist/{part}-images-idx3-ubyte.gz"
        with gzip.open(path) as file:
            raw = np.frombuffer(file.read(16 + num * 784), np.uint8, offset=16)
        return torch.from_numpy(raw.copy()).view(num, 1, 28, 28)

    spec = TensorSpec("real", (1, 28, 28), levels=256)
    train, test = MemoryStore(spec, pictures("train", 1000)), pictures("t10k", 700)
    judge = Judge(train, MemoryStore(spec, test[:500]))
    honest = MemoryStore(spec, test[500:]).batch(torch.arange(200)).x
    assert judge(honest).verdict == "no sign of copying"
    mixed = honest.clone()
    mixed[:20] = train.batch(torch.arange(20)).x.flip(-1) + 0.1 * randn(
        (20, 1, 28, 28), generator(0)
    )
    assert judge(mixed).verdict == "copies"
