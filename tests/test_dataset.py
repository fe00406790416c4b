"""Loading: splits, storage, hashes, and sources that cannot be used."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import morphogen as mg
from morphogen.core.errors import DataError, RecipeError
from morphogen.core.random import generator
from morphogen.core.spec import TensorSpec
from morphogen.data import encoding, filling
from morphogen.data.dataset import Data, load
from morphogen.data.holdout import assign, digest_of
from morphogen.data.store import compact, expand

SHARED = Path(os.environ.get("MORPHOGEN_SHARED", Path(__file__).parents[2] / "shared"))


def folder(path: Path, count: int, start: int = 0, classes: tuple[str, ...] = ("",)) -> Path:
    """`count` different pictures in each class."""
    for number, name in enumerate(classes):
        (path / name).mkdir(parents=True, exist_ok=True)
        for each in range(start, start + count):
            rng = np.random.default_rng(1000 * number + each)
            array = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            Pillow.fromarray(array).save(path / name / f"{each:04d}.png")
    return path


def test_a_folder_with_classes(tmp_path):
    data = load(folder(tmp_path, 30, classes=("bag", "boot")))
    assert data.spec == TensorSpec("real", (3, 8, 8), levels=256)
    assert data.conditions == {"label": TensorSpec.label(2)}
    assert len(data.train) + len(data.test) == 60
    assert 1 <= len(data.test) <= 15
    assert data.train.x.dtype == torch.uint8
    assert sum(data.priors["label"]) == pytest.approx(1)
    assert data.train.cond["label"].dtype == torch.int64
    batch = data.train.batch(torch.tensor([3, 0]))
    name = data.train.names[3]
    assert np.array_equal(
        np.asarray(data.codec.decode(batch.x[0])), np.asarray(Pillow.open(tmp_path / name))
    )
    assert data.codec.class_names("label")[batch.cond["label"][0]] == name.split("/")[0]
    assert json.loads(json.dumps(data.facts()))["num_train"] == len(data.train)
    assert sum(data.facts()["classes"]["label"].values()) == len(data.train)


def test_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder(tmp_path / "photos", 12)
    tiny = ["backbone.name=mlp", "backbone.model_dim=8", "train.num_previews=0"]
    mg.train("~/photos", "flow_matching", budget="1steps", out="~/model", settings=tiny)
    assert mg.open("~/model").path == tmp_path / "model"
    assert mg.load(Path("~/photos")).digest == mg.load(tmp_path / "photos").digest


def test_the_held_out_tenth_is_stable(tmp_path):
    before = load(folder(tmp_path / "a", 60))
    after = load(folder(tmp_path / "a", 40, start=60))
    held = set(before.test.names)
    assert held
    assert held == set(after.test.names) & (held | set(before.train.names))
    for path in (tmp_path / "a").iterdir():  # renamed files stay on their side
        path.rename(path.with_name(f"z{path.name}"))
    renamed = load(tmp_path / "a")
    assert {f"z{name}" for name in after.test.names} == set(renamed.test.names)


def test_the_digest_depends_on_content_alone(tmp_path):
    one, two = load(folder(tmp_path / "a", 12)), load(folder(tmp_path / "b", 12))
    assert one.digest == two.digest
    assert load(folder(tmp_path / "b", 1, start=12)).digest != one.digest
    assert load(tmp_path / "a", mode="L").digest != one.digest


def test_rereading_gives_what_keeping_in_memory_gives(tmp_path, monkeypatch):
    folder(tmp_path, 12, classes=("bag", "boot"))
    (tmp_path / "bag" / "bad.png").write_text("no picture")
    kept = load(tmp_path)
    monkeypatch.setattr(encoding, "KEEP_BYTES", 0)
    monkeypatch.setattr(filling, "CHUNK", 5)
    reread = load(tmp_path)
    assert reread.digest == kept.digest
    assert reread.train.names == kept.train.names
    assert [p.name for p in reread.report.problems] == [p.name for p in kept.report.problems]


def test_assign_holds_out_a_tenth():
    digests = [digest_of(f"item {n}") for n in range(5000)]
    splits = assign([None] * 5000, digests, [None] * 5000)
    assert 400 <= splits.count("test") <= 600
    for count in range(5, 60):
        held = assign([None] * count, digests[:count], [None] * count).count("test")
        assert 1 <= held <= count // 2
    assert assign([None] * 4, digests[:4], [None] * 4) == ["train"] * 4


def test_assign_keeps_copies_together_and_every_class_in_train():
    digests = [digest_of(str(n % 50)) for n in range(200)]
    splits = assign([None] * 200, digests, [None] * 200)
    assert all(splits[n] == splits[n % 50] for n in range(200))
    alone = assign([None] * 200, [digest_of(str(n)) for n in range(200)], list(range(200)))
    assert alone == ["train"] * 200
    same = assign([None] * 10, [digest_of("x")] * 10, [None] * 10)
    assert same.count("test") == 0  # all of one kind: what is held out would be known


def test_assign_follows_the_source():
    none = [b""] * 3
    assert assign(["train", "test", None], none, none) == ["train", "test", "train"]
    assert assign(["train", "validation", "test"], none, none) == ["train", "train", "test"]
    assert assign(["train", "validation", "train"], none, none) == ["train", "test", "train"]


@pytest.mark.parametrize("levels", [2, 17, 256, 257, 65536])
def test_compact_and_expand_are_inverse(levels):
    spec = TensorSpec("real", (1, 2, 3), levels=levels)
    index = torch.randint(levels, (7, 1, 2, 3), generator=generator(0))
    stored = compact(spec.dequantise(index), spec)
    assert stored.dtype == (torch.uint8 if levels <= 256 else torch.uint16)
    assert torch.equal(expand(stored, spec), spec.dequantise(index))


def test_compact_keeps_continuous_values_and_tokens():
    x = torch.randn(3, 4, generator=generator(0))
    assert torch.equal(expand(compact(x, TensorSpec.vector(4)), TensorSpec.vector(4)), x)
    spec = TensorSpec.tokens(5, 300)
    tokens = torch.randint(300, (3, 5), generator=generator(0))
    assert compact(tokens, spec).dtype == torch.uint16
    assert compact(tokens, TensorSpec.tokens(5, 70_000)).dtype == torch.int32
    assert torch.equal(expand(compact(tokens, spec), spec), tokens)


def test_arrays_and_tensors_load_directly():
    array = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    labels = np.arange(40) % 4
    data = mg.load(array, labels=labels)
    tensor = mg.load(torch.from_numpy(array).permute(0, 3, 1, 2), labels=torch.from_numpy(labels))
    assert data.digest == tensor.digest
    assert data.conditions["label"].vocab_size == 4
    row = int(data.train.names[0].partition("#")[2])
    assert np.array_equal(
        np.asarray(data.codec.decode(data.train.batch(torch.tensor([0])).x[0])), array[row]
    )
    own = Data.from_tensors(array[:30], labels[:30], test=array[30:], test_labels=labels[30:])
    assert (len(own.train), len(own.test)) == (30, 10)
    together = mg.load(array, labels=labels, group_by="label", synthetic="include")
    sides = [set(split.cond["label"].tolist()) for split in (together.train, together.test)]
    assert not sides[0] & sides[1]
    told = {name: value for name, value in together.options.items() if value is not None}
    assert told == {"group_by": "label", "synthetic": "include"}
    with pytest.raises(DataError, match="nothing to group by"):
        mg.load(array, labels=labels, group_by="person")
    with pytest.raises(DataError, match="not as many labels"):
        mg.load(array, labels=labels[:3])
    with pytest.raises(DataError, match="shape of pictures"):
        mg.load(np.zeros((20, 6)))


def test_a_fitted_codec_is_used_as_it_is(tmp_path):
    fitted = load(folder(tmp_path / "a", 20, classes=("bag", "boot"))).codec
    larger = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3)).astype(np.uint8)
    data = mg.load(larger, codec=fitted, labels=["boot", "bag"] * 5)
    assert data.spec == fitted.spec
    assert data.train.x.shape[1:] == (3, 8, 8)
    assert load(folder(tmp_path / "b", 9, classes=("bag", "boot")), codec=fitted).codec is fitted


def test_floats_are_stored_as_floats():
    x = torch.rand(30, 1, 6, 6, generator=generator(0))
    data = mg.load(x)
    assert data.spec.levels is None
    assert data.train.x.dtype == torch.float32
    rows = [int(name.partition("#")[2]) for name in data.train.names]
    assert torch.allclose(data.train.x, x[rows] * 2 - 1)


def test_splits_can_be_cut(tmp_path):
    data = load(folder(tmp_path, 20, classes=("bag", "boot")))
    part = data.train.take(torch.tensor([5, 2]))
    assert part.names == [data.train.names[5], data.train.names[2]]
    assert torch.equal(part.x[1], data.train.x[2])
    assert torch.equal(part.cond["label"], data.train.cond["label"][[5, 2]])
    drawn = data.train.subset(7, generator(0))
    assert len(set(drawn.names)) == 7
    assert drawn.names == data.train.subset(7, generator(0)).names
    assert len(data.train.subset(999, generator(0))) == len(data.train)


# -- bad input ------------------------------------------------------------------------------------


def test_three_pictures_load_with_a_warning(tmp_path):
    data = load(folder(tmp_path, 3))
    assert (len(data.train), len(data.test)) == (3, 0)
    assert any("too few to learn from" in problem.reason for problem in data.report.problems)


def test_one_picture_is_too_little(tmp_path):
    with pytest.raises(DataError, match="too little of the source"):
        load(folder(tmp_path, 1))


def test_empty_missing_and_foreign_sources(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="an empty folder"):
        load(tmp_path / "empty")
    with pytest.raises(DataError, match="Did you mean 'empty'"):
        load(tmp_path / "emtpy")
    (tmp_path / "empty" / "a.xyz").write_text("hello")
    with pytest.raises(DataError, match=r"1 \.xyz"):
        load(tmp_path / "empty")
    with pytest.raises(DataError, match="nothing here that a codec can read"):
        load(tmp_path / "empty" / "a.xyz")


def test_mostly_damaged_sources_are_refused(tmp_path):
    folder(tmp_path, 3)
    for number in range(4):
        (tmp_path / f"bad{number}.png").write_text("no picture")
    with pytest.raises(DataError, match="most of the source") as caught:
        load(tmp_path)
    assert "bad0.png: not a picture" in str(caught.value)
    assert "morphogen inspect" in str(caught.value)


def test_every_file_is_counted_read_or_skipped(tmp_path):
    folder(tmp_path, 10)
    for number in range(4):
        (tmp_path / f"bad{number}.png").write_text("no picture")
    data = load(tmp_path)
    assert len(data.train) + len(data.test) + len(data.report.skipped) == 14
    assert data.facts()["num_skipped"] == 4


def test_items_without_a_class_are_kept_and_with_an_unknown_one_are_listed(tmp_path):
    folder(tmp_path / "train", 8, classes=("bag", "boot"))
    folder(tmp_path / "test", 2, start=20, classes=("bag", "hat"))
    folder(tmp_path / "train", 1, start=90)
    data = load(tmp_path)
    reasons = {p.name: p.reason for p in data.report.skipped}
    assert set(reasons) == {"test/hat/0020.png", "test/hat/0021.png"}
    assert "no class 'hat'" in reasons["test/hat/0020.png"]
    assert data.report.facts["split"] == "17 train, 2 test (the source's own)"
    assert data.report.facts["label_absent"].startswith("1 of 17 training items have no label")
    assert (data.train.cond["label"] == -1).sum() == 1
    assert data.priors["label"] == pytest.approx([8 / 17, 8 / 17])
    labelled = data.having(["label"])
    assert len(labelled.train) == 16
    assert labelled.priors["label"] == [0.5, 0.5]


def test_a_class_with_one_item(tmp_path):
    folder(tmp_path, 20, classes=("bag", "boot"))
    folder(tmp_path, 1, start=50, classes=("hat",))
    data = load(tmp_path)
    assert any(p.name == "hat" and "one training item" in p.reason for p in data.report.problems)
    assert data.conditions["label"].vocab_size == 3


def test_misspelt_options_and_modalities(tmp_path):
    folder(tmp_path, 5)
    with pytest.raises(RecipeError, match="Did you mean 'size'"):
        load(tmp_path, sise=8)
    with pytest.raises(RecipeError, match="Did you mean 'image'"):
        load(tmp_path, "imaeg")


def test_fashion_mnist():
    source = SHARED / "data" / "fashion-mnist"
    if not source.is_dir():
        pytest.skip(f"needs {source} (set MORPHOGEN_SHARED)")
    data = load(source)
    assert data.spec == TensorSpec("real", (1, 28, 28), levels=256)
    assert (len(data.train), len(data.test)) == (60000, 10000)
    assert data.train.cond["label"][:5].tolist() == [9, 0, 0, 3, 0]
    assert data.priors["label"] == pytest.approx([0.1] * 10)
    mean = data.train.x.float().mean() / 255
    assert mean.item() == pytest.approx(0.2860, abs=1e-4)  # as published with the data
