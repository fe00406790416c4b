"""Splits that do not leak: copies, near-duplicates and entities stay on one side."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

import morphogen as mg
from morphogen.core.errors import DataError
from morphogen.data import division
from morphogen.data.divide import split
from morphogen.data.holdout import assign, digest_of


def picture(seed: int, side: int = 32) -> Pillow.Image:
    small = np.random.default_rng(seed).integers(0, 256, (7, 7, 3)).astype(np.uint8)
    return Pillow.fromarray(small).resize((side, side), Pillow.Resampling.BICUBIC)


def twin(image: Pillow.Image) -> Pillow.Image:
    """Re-encoded by a crop of a pixel on every side and a change of size."""
    return image.crop((1, 1, image.width - 1, image.height - 1)).resize((40, 40))


def save(image: Pillow.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_groups_never_cross_and_alone_an_item_is_where_it_was():
    digests = [digest_of(str(n)) for n in range(4000)]
    alone = assign([None] * 4000, digests, [None] * 4000)
    groups = [n // 4 for n in range(4000)]
    together = assign([None] * 4000, digests, [None] * 4000, groups)
    assert all(len(set(together[n : n + 4])) == 1 for n in range(0, 4000, 4))
    assert 0.07 <= together.count("test") / 4000 <= 0.13  # groups do not bias the share
    assert assign([None] * 4000, digests, [None] * 4000, list(range(4000))) == alone
    turned = assign([None] * 4000, digests[::-1], [None] * 4000, groups[::-1])
    assert turned[::-1] == together


def test_one_huge_group_is_never_divided():
    digests = [digest_of(str(n)) for n in range(100)]
    splits = assign([None] * 100, digests, [None] * 100, [0] * 90 + list(range(1, 11)))
    assert set(splits[:90]) == {"train"}
    assert splits.count("test") >= 1
    assert assign([None] * 100, digests, [None] * 100, [0] * 100) == ["train"] * 100


def test_load_keeps_near_duplicates_together(tmp_path):
    for number in range(60):
        save(picture(number), tmp_path / f"{number:02d}.png")
        save(twin(picture(number)), tmp_path / f"{number:02d}-twin.png")
    data = mg.load(tmp_path)
    sides = {name: side for side in ("train", "test") for name in getattr(data, side).names}
    assert len(data.test) >= 2
    assert all(sides[f"{n:02d}.png"] == sides[f"{n:02d}-twin.png"] for n in range(60))


@pytest.mark.parametrize("by", ["patient", r"^(\w+)-"])
def test_entities_stay_together(tmp_path, by):
    rows = ["file,patient"]
    for number in range(80):
        name = f"p{number // 4:02d}-{number}.png"
        save(picture(number), tmp_path / name)
        rows.append(f"{name},p{number // 4:02d}")
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    plan = split(tmp_path, by=by)
    assert (plan.num_groups, plan.largest_group) == (20, 4)
    assert plan.num_train + plan.num_test == 80
    sides = {row["file"]: row["split"] for row in table(tmp_path / "splits.csv")}
    for number in range(0, 80, 4):
        assert len({side for name, side in sides.items() if name[:3] == f"p{number // 4:02d}"}) == 1
    data = mg.load(tmp_path)  # follows the file
    assert {name for name, side in sides.items() if side == "test"} == set(data.test.names)
    assert mg.load(tmp_path, group_by=by).digest == data.digest


def test_a_pattern_that_would_search_for_years_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(division, "PATTERN_SECONDS", 0.3)
    for number in range(2):
        save(picture(number), tmp_path / f"{'a' * 60}{number}.png")
    with pytest.raises(DataError, match="takes too long"):
        mg.load(tmp_path, group_by=r"^(\w|\w\w)*$")
    with pytest.raises(DataError, match="501 characters"):
        mg.load(tmp_path, group_by="a" * 501)


def test_a_planted_twin_fails_and_is_repaired(tmp_path):
    for number in range(10):
        save(picture(number), tmp_path / "train" / f"{number}.png")
        save(picture(100 + number), tmp_path / "test" / f"{number}.png")
    assert split(tmp_path, write=False).num_moved == 0
    save(twin(picture(4)), tmp_path / "test" / "twin.png")
    with pytest.raises(DataError, match="share items") as error:
        split(tmp_path)
    assert error.value.found == "train/4.png (train) and test/twin.png (test)"
    assert not (tmp_path / "splits.csv").exists()
    plan = split(tmp_path, repair=True)
    assert (plan.num_moved, plan.num_train, plan.num_test) == (1, 9, 12)
    data = mg.load(tmp_path)
    assert {"train/4.png", "test/twin.png"} <= set(data.test.names)
    assert split(tmp_path).num_moved == 0


def test_one_item_that_comes_very_often_is_learned_and_never_all_of_a_test():
    for seed in range(20):
        often = [digest_of(f"the same {seed}")] * 60
        rare = [digest_of(f"{seed} {number}") for number in range(140)]
        splits = list(assign([None] * 200, often + rare, [None] * 200))
        assert set(splits[:60]) == {"train"}
        assert "test" in splits[60:]


def test_exact_copies_across_own_splits_are_a_problem_at_load(tmp_path):
    for number in range(10):
        save(picture(number), tmp_path / "train" / f"{number}.png")
        save(picture(100 + number), tmp_path / "test" / f"{number}.png")
    save(picture(4), tmp_path / "test" / "same.png")
    (problem,) = [p for p in mg.load(tmp_path).report.problems if "same item" in p.reason]
    assert problem.name == "test/same.png"
    assert "train/4.png" in problem.reason


def test_items_without_a_row_are_told(tmp_path):
    for number in range(40):
        save(picture(number), tmp_path / f"{number}.png")
    split(tmp_path)
    save(picture(1000), tmp_path / "new.png")
    data = mg.load(tmp_path)
    assert "new.png" in data.train.names
    (problem,) = [p for p in data.report.problems if p.name == "splits.csv"]
    assert "1 items have no row in it" in problem.reason
    (tmp_path / "splits.csv").write_text("file,split\n1.png,tset\n")
    with pytest.raises(DataError, match="no such split") as error:
        mg.load(tmp_path)
    assert error.value.found == "tset"
    (tmp_path / "splits.csv").write_text("name\n1.png\n")
    with pytest.raises(DataError, match="not a table of splits"):
        mg.load(tmp_path)


def test_arrays_are_divided_beside_their_file(tmp_path):
    images = np.stack([np.asarray(picture(n).convert("L")) for n in range(40)])
    np.savez(tmp_path / "x.npz", images=images)
    plan = split(tmp_path / "x.npz")
    assert plan.path == str(tmp_path / "x.npz.splits.csv")
    assert len(mg.load(tmp_path / "x.npz").test) == plan.num_test


def test_a_group_that_is_nowhere_is_told(tmp_path):
    for number in range(6):
        save(picture(number), tmp_path / f"{number}.png")
    with pytest.raises(DataError, match="nothing to group by"):
        split(tmp_path, by="patient")
    with pytest.raises(DataError, match="not a regular expression"):
        split(tmp_path, by="(")
    with pytest.raises(DataError, match="does not exist"):
        split(tmp_path / "gone")
