"""Series: time divides them, nothing is repaired in silence, and what comes next is drawn."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import morphogen as mg
from morphogen.core.bands import band
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item, Report
from morphogen.core.errors import DataError, RefusedPair
from morphogen.core.gaussian_path import GaussianPath
from morphogen.core.random import generator, randn
from morphogen.core.spec import TensorSpec
from morphogen.data.dataset import load
from morphogen.data.modality import find_modality
from morphogen.evaluation._draws import draws_of, why_no_draws
from morphogen.families._frame import Frame
from morphogen.families._linear_given import LinearGiven
from morphogen.families._trust import Trust
from morphogen.metrics.forecasts import coverage, crps, forecasts
from morphogen.modalities.series import Series
from morphogen.modalities.series.scale import squeezed, stretched
from morphogen.modalities.series.window import Window, together
from morphogen.modalities.value import Value
from morphogen.tasks.changes import segmented
from morphogen.testing.oracles import RandomWalk

HERE = Path(__file__).parent
SHORT = {"length": 6, "past": 12}


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def hours(num: int, day: int = 1) -> list[str]:
    return [f"2024-03-{day + i // 24:02d} {i % 24:02d}:00:00" for i in range(num)]


def wide(folder: Path, num: int = 60, values: Sequence[float] | None = None) -> Path:
    draw = np.random.default_rng(1)
    values = draw.standard_normal(num).cumsum() if values is None else values
    return write(folder / "wide.csv", ["time", "load"], list(zip(hours(num), values, strict=True)))


def read(source: Any, **options: Any) -> tuple[list[Item], Report]:
    report = Report(str(source))
    return list(Series(**{**SHORT, **options}).read(source, report)), report


def told(report: Report) -> str:
    return " | ".join(problem.reason for problem in report.problems)


# -- reading -------------------------------------------------------------------------------------


def test_what_is_a_series_and_what_a_table(tmp_path: Path) -> None:
    assert find_modality(wide(tmp_path)) == "series"
    shuffled = [[day, i] for i, day in enumerate(hours(40)[::-1])]
    assert find_modality(write(tmp_path / "b.csv", ["time", "load"], shuffled)) == "table"
    named = [[day, i, f"text {i}", f"other {i}"] for i, day in enumerate(hours(40))]
    other = write(tmp_path / "c.csv", ["time", "load", "a", "b"], named)
    assert find_modality(other) == "table"


def test_long_and_wide_form_are_the_same_items(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((2, 60)).round(4)
    one = [[t, *values[:, i]] for i, t in enumerate(hours(60))]
    long = [[t, name, values[row, i]] for row, name in enumerate("ab")
            for i, t in enumerate(hours(60))]  # fmt: skip
    apart, _ = read(write(tmp_path / "wide.csv", ["time", "a", "b"], one), apart=True)
    whole, _ = read(write(tmp_path / "long.csv", ["time", "sensor", "value"], long))
    assert [item.name for item in apart] == [item.name for item in whole]
    for first, second in zip(apart, whole, strict=True):
        assert np.array_equal(first.value.values, second.value.values)
        assert first.split == second.split
        assert first.cond["label"] == second.cond["label"]


def test_a_frame_and_parquet_are_read_alike(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = wide(tmp_path)
    frame = pandas.read_csv(path, parse_dates=["time"])
    frame.to_parquet(tmp_path / "wide.parquet")
    items = [read(each)[0] for each in (path, frame, tmp_path / "wide.parquet")]
    first = [item.value.tobytes() for item in items[0]]
    assert all([item.value.tobytes() for item in each] == first for each in items)


@pytest.mark.parametrize(
    ("form", "first"),
    [
        ("%Y-%m-%d %H:%M", "2024-03-01 00:00"), ("%d.%m.%Y %H:%M", "01.03.2024 00:00"),
        ("%m/%d/%Y %H:%M", "03/01/2024 00:00"), ("%Y/%m/%d %H:%M:%S", "2024/03/01 00:00:00"),
        ("epoch", "1709251200"),
    ],
)  # fmt: skip
def test_stamps_of_many_forms(tmp_path: Path, form: str, first: str) -> None:
    import datetime

    start = datetime.datetime(2024, 3, 1)
    steps = [start + datetime.timedelta(hours=12 * i) for i in range(40)]
    epoch = datetime.datetime(1970, 1, 1)
    cells = [
        str(int((step - epoch).total_seconds())) if form == "epoch" else step.strftime(form)
        for step in steps
    ]
    assert cells[0] == first
    rows = [[cell, number] for number, cell in enumerate(cells)]
    items, _ = read(write(tmp_path / "s.csv", ["time", "load"], rows))
    assert items[0].name == "series@2024-03-07"
    assert items[0].value.stamps[1] - items[0].value.stamps[0] == 12 * 3600


@pytest.mark.parametrize(
    "stamps", [hours(60), [*map(str, range(-5, 55))], [0.5 * i for i in range(60)]]
)
def test_a_series_is_one_file_of_what_it_was_trained_on(stamps: list[Any], tmp_path: Path) -> None:
    """Whatever its windows are called: not one for each."""
    rows = [(stamp, number, "ab"[number % 2]) for number, stamp in enumerate(stamps)]
    path = write(tmp_path / "two.csv", ["time", "load", "where"], rows)
    data = load(path, "series", length=3, past=6, series="where", stamp="time")
    assert len(data.train) + len(data.test) > 20
    assert list(data.files) == ["two.csv/a", "two.csv/b"]


def test_rows_out_of_order_and_stamps_that_come_twice_are_told(tmp_path: Path) -> None:
    rows = [[t, i] for i, t in enumerate(hours(60))]
    clean, _ = read(write(tmp_path / "a.csv", ["time", "load"], rows))
    mixed = [*rows[:20], rows[25], *rows[20:25], *rows[26:], rows[30]]
    found, report = read(write(tmp_path / "b.csv", ["time", "load"], mixed))
    assert "come after a later one" in told(report)
    assert "come more than once" in told(report)
    assert "taken once" in told(report)
    assert [i.value.tobytes() for i in found] == [i.value.tobytes() for i in clean]
    differing = [*rows, [rows[30][0], 40]]
    found, report = read(write(tmp_path / "c.csv", ["time", "load"], differing))
    assert "become their mean" in told(report)
    assert 35.0 in np.concatenate([item.value.values[0] for item in found])


def test_gaps_are_filled_with_the_past_or_left_out(tmp_path: Path) -> None:
    rows = [[t, i] for i, t in enumerate(hours(120)) if i not in (30, *range(60, 70))]
    items, report = read(write(tmp_path / "a.csv", ["time", "load"], rows))
    assert "filled with the last known one" in told(report)
    assert "longer gaps are not filled" in told(report)
    assert "windows have gaps" in told(report)
    windows = [item.value for item in items]
    seen = {float(each.stamps[s]): each.values[0, s] for each in windows for s in range(6)}
    missing = min(seen) + (30 - 12) * 3600
    assert seen[missing] == 29  # never what comes after it
    assert not any(60 <= value < 70 for value in seen.values())


def test_uneven_steps_and_grids(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    minutes = draw.integers(1, 30, 200).cumsum()
    stamps = [str(np.datetime64("2024-01-01T00:00") + m) for m in minutes]
    rows = [[t.replace("T", " "), i] for i, t in enumerate(stamps)]
    path = write(tmp_path / "a.csv", ["time", "load"], rows)
    items, report = read(path)
    assert "its steps are uneven" in told(report)
    assert len(items) > 100
    assert "its steps are uneven" not in told(read(path, even="rows")[1])


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (["1,5", "2,25"] * 30, None),
        (["1,500", "2,250"] * 30, None),
        (["1.5", "NA"] * 30, "filled with the last known"),
        (["1.5"] * 58 + ["broken", "2"], "are no numbers"),
        ([*map(str, range(20, 75)), *["-999"] * 5], "far below all others"),
    ],
)
def test_numbers_as_people_write_them(tmp_path: Path, cells: list[str], reason: str | None) -> None:
    rows = list(zip(hours(60), cells, strict=True))
    items, report = read(write(tmp_path / "a.csv", ["time", "load"], rows))
    assert items
    assert (reason in told(report)) if reason else not report.problems
    if cells[0] == "1,500":
        assert 1500.0 in items[0].value.values


def test_a_number_that_stands_for_a_missing_value(tmp_path: Path) -> None:
    cells = [*range(50), -999, *range(9)]
    rows = list(zip(hours(60), cells, strict=True))
    items, _ = read(write(tmp_path / "a.csv", ["time", "load"], rows), missing="-999")
    assert min(item.value.values.min() for item in items) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stamp": "tme"}, "Did you mean 'time'"),
        ({"columns": "loda"}, "Did you mean 'load'"),
        ({"past": 500}, "no series is as long"),
        ({"test_from": "yesterday"}, "no stamp of this series"),
        ({"test_from": "2024-03-02", "train_until": "2024-03-03"}, "does not come after"),
        ({"length": 0}, "length does not fit"),
        ({"test": 0.05}, "no item lies in the held-out time"),
    ],
)
def test_wrong_options_are_told(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as error:
        read(wide(tmp_path), **options)
    assert message in str(error.value)


def test_a_table_without_a_time_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ["a", "b"], [[i, f"{i}x"] for i in range(30)])
    with pytest.raises(DataError, match="holds the time"):
        read(path)


# -- time divides --------------------------------------------------------------------------------


def test_no_step_is_on_both_sides_and_none_of_training_is_later(tmp_path: Path) -> None:
    long = [[t, s, i] for s in "ab" for i, t in enumerate(hours(60))]
    items, report = read(write(tmp_path / "a.csv", ["time", "sensor", "value"], long))
    train = [item for item in items if item.split == "train"]
    test = [item for item in items if item.split == "test"]
    assert train
    assert test
    last = max(each.stamps[-1] for i in train for each in (i.value, i.cond["past"]))
    assert last < min(item.value.stamps[0] for item in test)
    assert all(i.cond["past"].stamps[-1] < i.value.stamps[0] for i in items)
    assert "over_the_cut" in report.facts
    assert all(len(i.cond["past"]) == 12 and len(i.value) == 6 for i in items)


def test_what_is_learned_does_not_depend_on_the_test_split(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal(80).cumsum()
    other = values.copy()
    other[64:] += 100
    found = []
    for number, each in enumerate((values, other)):
        (tmp_path / f"{number}").mkdir()
        data = load(wide(tmp_path / f"{number}", 80, each), **SHORT)
        found.append((data.codec.state(), data.train.batch(torch.arange(len(data.train)))))
        assert data.codec.condition_codecs["past"].spec.shape == (1, 12)
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1].x, found[1][1].x)
    assert torch.equal(found[0][1].cond["past"], found[1][1].cond["past"])


def test_series_of_other_times_are_divided_each_by_itself(tmp_path: Path) -> None:
    rows = [[t, s, i] for s, d in (("a", 1), ("b", 20)) for i, t in enumerate(hours(60, d))]
    path = write(tmp_path / "a.csv", ["time", "sensor", "value"], rows)
    items, report = read(path, divide="each")
    assert {(i.cond["label"], i.split) for i in items} == {
        (s, split) for s in "ab" for split in ("train", "test")
    }
    assert "each series by itself" in report.facts["divided"]
    sides = {(i.cond["label"], i.split) for i in read(path)[0]}
    assert ("a", "test") not in sides


def test_moments_that_are_named(tmp_path: Path) -> None:
    items, _ = read(
        wide(tmp_path, 120), train_until="2024-03-03", test_from="2024-03-04 06:00",
        test_until="2024-03-05",
    )  # fmt: skip
    ends = {s: [i.value.when(0) for i in items if i.split == s] for s in ("train", "test")}
    assert ends["train"][-1] == "2024-03-02 18:00:00"
    assert (ends["test"][0], ends["test"][-1]) == ("2024-03-04 06:00:00", "2024-03-04 18:00:00")


def test_what_is_known_ahead_is_a_condition(tmp_path: Path) -> None:
    rows = [[t, i % 7, i % 3] for i, t in enumerate(hours(60))]
    data = load(write(tmp_path / "a.csv", ["time", "load", "promo"], rows), ahead="promo", **SHORT)
    assert data.spec.shape == (1, 6)
    assert {name: spec.shape for name, spec in data.conditions.items()} == {
        "past": (1, 12), "ahead": (1, 6)
    }  # fmt: skip
    known = [[t, load if i < 54 else "", promo] for i, (t, load, promo) in enumerate(rows)]
    (item,) = data.codec.coming(write(tmp_path / "b.csv", ["time", "load", "promo"], known))
    assert item.value.when(0) == hours(60)[54]
    assert item.cond["ahead"].values.tolist() == [[0, 1, 2, 0, 1, 2]]
    assert item.cond["past"].values[0].tolist() == [i % 7 for i in range(42, 54)]
    with pytest.raises(DataError, match="known ahead is missing: promo"):
        data.codec.coming(write(tmp_path / "c.csv", ["time", "load", "promo"], known[:57]))


# -- encoding ------------------------------------------------------------------------------------


def test_far_values_come_back() -> None:
    z = np.array([[-900.0, -30.0, -3.0, -1.0, 0.0, 2.5, 3.0, 3.1, 12.0, 500.0]])
    x = squeezed(z)
    assert float(x[:, 1:-1].abs().max()) < 1
    assert (x.diff() > 0).all()
    assert np.allclose(stretched(x), z, rtol=1e-3)


def test_a_column_that_never_varies(tmp_path: Path) -> None:
    data = load(wide(tmp_path, 60, [7.0] * 60), **SHORT)
    window = data.codec.decode(data.train.batch(torch.arange(1)).x[0])
    assert np.allclose(window.values, 7)


def test_pages_and_files_show_past_values_and_band(tmp_path: Path) -> None:
    window = Window(np.arange(4.0)[None], np.arange(4.0), ("load",), past=Window(
        np.array([[1.0, np.nan, 3.0]]), np.arange(3.0), ("load",)))  # fmt: skip
    banded = replace(window, low=window.values - 1, high=window.values + 1)
    codec = Series()
    shown = codec.html([banded])
    assert shown.count("<polygon") == 1
    assert shown.count("<circle") == 2  # either side of the gap
    assert "band 80%" in shown
    rows = codec.write([banded], tmp_path / "f.csv").read_text().splitlines()
    assert rows[:2] == ["time,load,load low,load high", "1970-01-01,0,-1,1"]


# -- what is linear in a past --------------------------------------------------------------------


def test_the_linear_part_is_the_one_that_made_the_data() -> None:
    draw = generator(0)
    c = randn((4000, 2, 5), draw) + 3 * randn((4000, 2, 1), draw)
    weight, level = randn((2, 5, 3), draw), c.mean(2, keepdim=True)
    follows = level + torch.einsum("ncp,cpl->ncl", c - level, weight) + 0.5
    reverts = torch.einsum("ncp,cpl->ncl", c - level, weight) + 0.5
    for x, moved in ((follows, 7.0), (reverts, 0.0)):
        given = LinearGiven(TensorSpec("real", (2, 3)), TensorSpec("real", (2, 5)))
        given.fit(x, c)
        assert float((given(c) - x).square().mean() / x.var()) < 0.01
        by = (given(c + 7) - given(c)).mean()
        assert abs(float(by) - moved) < 0.8  # to where the data goes, or back


@pytest.mark.parametrize("kind", ["straight", "cosine"])
def test_a_noisy_item_is_a_noisy_one_of_its_frame(kind: Any) -> None:
    path, draw = GaussianPath(kind), generator(0)
    u, eps, mean = (randn((6, 1, 5), draw) for _ in range(3))
    frame = Frame(mean, torch.tensor([0.01, 0.1, 0.3, 1.0, 0.2, 0.05]))
    x, t = frame.outside(u), torch.tensor([1.0, 0.9, 0.5, 0.3, 0.01, 0.0])
    u_t, own = frame.noisy(path, path.noised(x, eps, t), t)
    assert torch.allclose(frame.inside(x), u, atol=1e-4)
    assert torch.allclose(u_t, path.noised(u, eps, own), atol=1e-4)
    ratio = path.sigma(own) / path.alpha(own)
    assert torch.allclose(ratio[1:5], (path.sigma(t) / path.alpha(t) / frame.width)[1:5], rtol=1e-3)
    assert (float(own[0]), float(own[-1])) == pytest.approx((1, 0), abs=1e-6)


def test_what_a_network_adds_is_trusted_as_far_as_it_holds() -> None:
    draw, trust = generator(0), Trust()
    added = randn((4000, 3), draw)
    holds = {0.0: 1.4, 0.5: 0.25, 1.0: -0.5}  # a part, all and more, and the contrary

    def tried(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        nearest = min(holds, key=lambda each: abs(each - float(t)))
        return added, holds[nearest] * added + randn(added.shape, draw)

    trust.fit(tried)
    found = trust(torch.tensor([0.0, 0.5, 1.0, 2.0]))
    assert torch.allclose(found, torch.tensor([1.0, 0.25, 0.0, 0.0]), atol=0.05)


def test_the_last_of_each_series_are_held_back_and_share_no_step_with_the_learned() -> None:
    names = names_of("a", 0, 4000) + names_of("b@c", 0, 3000)
    found = Series(length=24).held_back(names)
    assert found is not None
    learned, held = ({names[place] for place in part.tolist()} for part in found)
    for whose, num in (("a", 4000), ("b@c", 3000)):
        first = num - num // 10
        assert {n for n in held if n.startswith(f"{whose}@")} == set(names_of(whose, first, num))
        assert {n for n in learned if n.startswith(f"{whose}@")} == set(
            names_of(whose, 0, first - 23)
        )
    assert Series().held_back(names[:900]) is None


def names_of(whose: str, start: int, end: int) -> list[str]:
    return [f"{whose}@{step}" for step in range(start, end)]


def test_a_denoiser_begins_with_the_linear_forecast(tmp_path: Path) -> None:
    """After one step of training, what is drawn after a past is near the least-squares forecast
    with Gaussian errors, but for what a network adds that knows nothing yet."""
    draw = np.random.default_rng(0)
    values = np.zeros(1500)
    for i in range(1, 1500):
        values[i] = 0.9 * values[i - 1] + draw.standard_normal()
    start = np.datetime64("2020-01-01T00")
    rows = [[str(start + i).replace("T", " ") + ":00", v] for i, v in enumerate(values)]
    path = write(tmp_path / "ar.csv", ["time", "v"], rows)
    data = load(path, length=3, past=8)
    bundle = mg.train(data, "flow_matching", budget="1steps", out=tmp_path / "m",
                      settings=["backbone.model_dim=8"])  # fmt: skip
    some = torch.arange(0, len(data.test), 3)
    batch = data.test.batch(some)
    cond = {"past": batch.cond["past"].repeat_interleave(19, 0)}
    x = bundle.sample(len(some) * 19, cond=cond).x.unflatten(0, (len(some), 19))
    mean, dev = bundle.codec.scale.known[""]["v"]
    last = stretched(batch.cond["past"])[:, 0, -1] * _dev(bundle) + _mean(bundle)
    wanted = last[:, None] * 0.9 ** np.arange(1, 4)
    drawn = stretched(x)[:, :, 0] * dev + mean
    assert np.abs(drawn.mean(1) - wanted).mean() < 0.45
    assert 0.6 < float(coverage(x, batch.x, 0.8)) < 0.9


def _mean(bundle: Bundle) -> float:
    return float(bundle.codec.condition_codecs["past"].scale.known[""]["v"][0])


def _dev(bundle: Bundle) -> float:
    return float(bundle.codec.condition_codecs["past"].scale.known[""]["v"][1])


# -- forecasts and scores ------------------------------------------------------------------------


def test_bands_hold_what_they_say() -> None:
    walk = RandomWalk()
    past = randn((3000, 1, 4), generator(1))
    truth = walk.sample(3000, cond={"past": past}, generator=generator(2))
    each = {"past": past.repeat_interleave(19, 0)}
    draws = walk.sample(3000 * 19, cond=each, generator=generator(3)).unflatten(0, (3000, 19))
    for level in (0.5, 0.8, 0.9):
        assert abs(float(coverage(draws, truth, level)) - level) < 0.015
    low, high = band(draws[:, :3], 0.99)  # of three draws, the smallest and the largest
    assert torch.equal(low, draws[:, :3].amin(1))
    assert torch.equal(high, draws[:, :3].amax(1))


def test_crps_is_that_of_a_gaussian() -> None:
    """Of N(0, 1) and y: y (2 Phi(y) - 1) + 2 phi(y) - 1 / sqrt(pi) (Gneiting et al. 2005)."""
    y = torch.tensor([0.0, 0.7, -2.0], dtype=torch.float64)
    draws = randn((1, 200_001), generator(0)).double().expand(3, -1)
    phi = torch.exp(-y.square() / 2) / (2 * torch.pi) ** 0.5
    exact = y * (2 * torch.special.ndtr(y) - 1) + 2 * phi - torch.pi**-0.5
    assert torch.allclose(crps(draws, y), exact, atol=5e-3)


def test_changes_are_where_they_were_made() -> None:
    scores = 0.3 * randn((200,), generator(0)).double()
    assert segmented(scores, 6.0, 3) == []
    scores[80:] += 1
    scores[150:] -= 2
    found = segmented(scores, 6.0, 3)
    assert len(found) == 2
    assert all(abs(a - b) <= 2 for a, b in zip(found, (80, 150), strict=True))
    assert segmented(torch.ones(3), 6.0, 3) == []


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model of the small clean source, hardly trained."""
    folder = tmp_path_factory.mktemp("series")
    spec = importlib.util.spec_from_file_location("series", HERE / "sources" / "series.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    data = load(made.write(folder), length=6, past=24)
    settings = ["backbone.model_dim=8"]
    return mg.train(data, "flow_matching", budget="4steps", out=folder / "m", settings=settings)


def source_of(bundle: Bundle) -> Path:
    assert bundle.path is not None
    return bundle.path.parent / "plant.csv"


def test_what_comes_next_has_the_next_stamps(model: Bundle, tmp_path: Path) -> None:
    result = model.task("forecast", source_of(model), num=9, seed=1)
    (window,) = result.items
    assert window.when(0) == "2024-01-07 06:00:00"
    assert (window.low <= window.values).all()
    assert (window.values <= window.high).all()
    assert len(window.past) == 24
    again = model.task("forecast", source_of(model), num=9, seed=1)
    assert np.array_equal(again.items[0].values, window.values)
    assert "<polygon" in result.save(tmp_path / "next.html").read_text()


def test_a_past_is_a_condition_by_the_name_of_its_file(model: Bundle) -> None:
    drawn = model.sample(3, cond={"past": str(source_of(model))}, seed=2).items
    assert all(window.values.shape == (2, 6) for window in drawn)
    short = source_of(model).with_name("short.csv")
    short.write_text("\n".join(source_of(model).read_text().splitlines()[:10]))
    with pytest.raises(DataError, match="does not hold one past"):
        model.sample(1, cond={"past": str(short)})


def test_gaps_of_an_input_are_filled_and_nothing_else(model: Bundle, tmp_path: Path) -> None:
    lines = source_of(model).read_text().splitlines()[:31]
    lines[27] = ",".join([lines[27].split(",")[0], "", lines[27].split(",")[2]])
    path = tmp_path / "gap.csv"
    path.write_text("\n".join(lines) + "\n")
    (window,) = model.task("fill", path, num=3, num_steps=4).items
    whole = together([item.value for item in model.codec.read_inputs(source_of(model))])
    assert np.array_equal(window.stamps, whole.stamps[: len(window)])
    differs = window.values != whole.values[:, : len(window)]
    assert differs.sum() == 1
    row, step = np.argwhere(differs)[0]
    assert (window.names[row], window.when(step)) == ("load", lines[27].split(",")[0])
    low, high = window.low, window.high
    assert low is not None
    assert high is not None
    assert low[row, step] < window.values[row, step] < high[row, step]
    assert np.array_equal(low[~differs], high[~differs])
    assert window.level == 0.5  # of three draws the least and the most
    with pytest.raises(DataError, match="have gaps"):
        model.task("vary", path)


def test_other_columns_and_kinds_are_refused(model: Bundle, tmp_path: Path) -> None:
    path = write(tmp_path / "o.csv", ["time", "lod"], [[t, i] for i, t in enumerate(hours(60))])
    with pytest.raises(DataError, match="does not fit what was learned"):
        model.task("anomaly", path)
    of_others = replace(model, codec=Value())
    with pytest.raises(RefusedPair, match="do not follow one another"):
        of_others.task("forecast", source_of(model))


def test_an_item_further_off_is_more_of_an_anomaly(model: Bundle) -> None:
    items = model.codec.read_inputs(source_of(model))[:2]
    broken = replace(items[1].value, values=items[1].value.values + 200)
    scores = model.task("anomaly", items[0], Item(broken, "b", items[1].cond)).values["score"]
    assert scores[1] > 2 * scores[0]
    found = model.task("changes", source_of(model))
    assert len(found.values["score"]) == 21
    assert json.dumps(found.values)


def test_what_is_missing_is_no_anomaly_and_what_is_there_still_is(model: Bundle) -> None:
    items = model.codec.read_inputs(source_of(model))[:4]
    holed = []
    for number, item in enumerate(items):
        values = item.value.values.copy()
        values[0, 3:] += 200 * (number == 2)
        values[:, :2] = np.nan
        values[:] = np.nan if number == 3 else values
        holed.append(Item(replace(item.value, values=values), item.name, item.cond))
    for task in ("anomaly", "changes"):
        *scores, nothing = model.task(task, *holed).values["score"]
        assert nothing is None
        assert scores[2] > 3 * max(scores[:2])


def test_many_draws_of_one_item_are_its_forecasts(model: Bundle, monkeypatch: Any) -> None:
    monkeypatch.setattr("morphogen.evaluation._draws.MOST_ITEMS", 12)
    data = load(source_of(model), codec=model.codec)
    assert why_no_draws(model, data) is None
    sets = draws_of(model, data, seed=0)
    assert sets.generated.shape == (12, 19, 2, 6)
    assert torch.equal(sets.reference[0], data.test.batch(torch.tensor([0])).x[0])
    own, floor = forecasts(sets), forecasts(sets.floor())
    assert own["crps"] < 0.5 * floor["crps"]
    assert own["forecast_mse"] < 0.5 * floor["forecast_mse"]
    assert "follow from nothing" in str(why_no_draws(model, data.unconditional()))
