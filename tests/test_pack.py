"""A bundle tells nothing of the machine it was made on; on that machine it still finds its data."""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import morphogen as mg
from morphogen.core.errors import BundleError, DataError
from morphogen.data.places import files_of, load_options, name_of, place_of, remember
from morphogen.evaluation.pack import pack
from morphogen.training.run import prepare

TINY = [
    "backbone.name=mlp", "backbone.model_dim=8", "backbone.num_layers=1", "train.num_previews=0",
]  # fmt: skip
SECRET = "ada_lovelace"  # the user, and the name of a file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a folder of pictures, one of them called by a person's name."""
    home = tmp_path_factory.mktemp("home") / SECRET
    draw = np.random.default_rng(0)
    for label in ("dark", "light"):
        (home / "boots" / label).mkdir(parents=True)
        for i in range(10):
            picture = draw.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(picture).save(home / "boots" / label / f"{SECRET}{i}.png")
    return home


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    out = folder / "models" / "one"
    made = mg.train(folder / "boots", "flow_matching", budget="2steps", out=out, settings=TINY)
    made.sample(2, num_steps=1).save(out / "samples" / "given.png")
    return out


def test_no_file_of_a_bundle_names_the_machine_or_the_files(bundle: Path) -> None:
    for file in bundle.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            data = gzip.decompress(data) if file.suffix == ".gz" else data
            assert SECRET.encode() not in data, file
            assert str(Path.home()).encode() + b"/" not in data, file
    config = json.loads((bundle / "config.json").read_text())
    assert config["data"]["source"] == "boots"


def test_here_it_finds_its_data_again(bundle: Path, folder: Path) -> None:
    about = json.loads((bundle / "config.json").read_text())["data"]
    assert place_of(about, "") == str((folder / "boots").resolve())
    found = mg.reproduce(bundle, dry_run=True, out=folder / "again")
    assert found.data is None
    assert found.verdict == "not trained"


def test_elsewhere_it_says_what_to_type(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MORPHOGEN_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="not known") as error:
        mg.evaluate(bundle)
    assert "--data FOLDER" in str(error.value)
    with pytest.raises(DataError, match="not known"):
        mg.reproduce(bundle, dry_run=True, out=tmp_path / "again")


def test_a_path_or_an_address_in_a_file_is_not_followed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MORPHOGEN_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="not known"):
        place_of({"source": str(folder / "boots"), "digest": "0" * 32}, "")
    with pytest.raises(DataError, match="not followed unasked") as error:
        place_of({"source": "hf://somebody/boots", "digest": "0" * 32}, "evaluate --data FOLDER")
    assert "hf://somebody/boots" in str(error.value)
    remember("hf://somebody/boots", "0" * 32, {})  # who named it once
    assert place_of({"source": "else", "digest": "0" * 32}, "") == "hf://somebody/boots"


def test_names_of_changed_files_are_told_where_they_are_known(folder: Path) -> None:
    source, now = str(folder / "boots"), {"a.png": "1" * 16, "b.png": "3" * 16}
    about = {"digest": "d" * 32, "source": "boots"}
    assert files_of(about, ["1" * 16, "2" * 16], now) == {
        "a.png": "1" * 16,
        f"a file of hash {'2' * 16}": "2" * 16,
    }
    before = {"a.png": "1" * 16, "c.png": "2" * 16}
    remember(source, "d" * 32, before)
    assert files_of(about, ["1" * 16, "2" * 16], now) == before
    assert "c.png" not in files_of(about, ["1" * 16], now)  # another listing under this digest


def test_what_is_said_of_a_source() -> None:
    assert name_of("postgresql://ada:secret@host/db?table=t") == "postgresql://host/db"
    assert name_of("hf://somebody/boots?split=all") == "hf://somebody/boots?split=all"
    assert load_options({"options": {"group_by": "x", "modality": "a:b"}}) == {"group_by": "x"}


def test_a_run_that_was_stopped_goes_on_without_being_told_where_its_data_is(
    folder: Path,
) -> None:
    out = folder / "models" / "stopped"
    chain = "autoencoder+flow_matching"
    session = prepare(folder / "boots", chain, out=out, budget="6steps", settings=TINY)
    session.run.stop = True
    session.train(lambda log: None)
    for name in ("chain.json", *(str(p.relative_to(out)) for p in out.rglob("run.json"))):
        assert SECRET not in (out / name).read_text()
    assert prepare(None, out=out, resume=True).data.digest == session.data.digest


def test_a_pack_holds_what_it_says_and_opens(bundle: Path, tmp_path: Path) -> None:
    (bundle / "evaluation.html").write_text("real items")
    told = pack(bundle, tmp_path / "given.zip")
    assert {"config.json", "model.safetensors", "README.md", "metrics.json"} <= set(told.files)
    assert {"evaluation.html", "log.jsonl", "samples"} <= set(told.left_out)
    assert any("dark, light" in line for line in told.holds)
    assert any("20 files" in line for line in told.holds)
    shutil.unpack_archive(tmp_path / "given.zip", tmp_path)
    assert sorted(each.name for each in (tmp_path / "given").iterdir()) == told.files
    assert len(mg.open(str(tmp_path / "given")).sample(2, num_steps=1)) == 2
    assert "copies of real items" in pack(bundle, tmp_path / "all.zip", items=True).text()
    names = zipfile.ZipFile(tmp_path / "all.zip").namelist()
    assert "all/evaluation.html" in names
    with pytest.raises(BundleError, match="not overwritten"):
        pack(bundle, tmp_path / "given.zip")
