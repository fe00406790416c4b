"""A bundle rebuilds itself, and says what is wrong with it when it cannot."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch

from morphogen.core import discover
from morphogen.core.bundle import VERSION, Bundle
from morphogen.core.codec import Report
from morphogen.core.errors import BundleError, MorphogenError, RecipeError, RefusedPair
from morphogen.core.recipe import Recipe, build_family, resolve
from morphogen.data.conditions import fit_conditions

RECIPE = Recipe(
    family={"name": "flow_matching", "cond_dim": 16, "num_steps": 3},
    backbone={"name": "mlp"},
)


def write_pictures(folder: Path) -> Path:
    path = Path(__file__).parent / "sources" / "image.py"
    spec = importlib.util.spec_from_file_location("image_source", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.write(folder)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def saved(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle of labelled pictures on disk."""
    codec = discover.find("modality", "image")()
    items = list(codec.read(pictures, Report(str(pictures))))
    fit_conditions(codec.fit(items), [item.cond for item in items], Report(""))
    torch.manual_seed(0)
    family = build_family(RECIPE, codec.spec, codec.conditions).eval()
    bundle = Bundle(
        family,
        codec,
        resolve(RECIPE, codec.spec),
        data={"digest": "abc", "num_train": 8},
        priors={"label": [0.75, 0.25]},
        metrics={"frechet": {"value": 2.0}},
    )
    return bundle.save(tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """The bundle, to damage."""
    return Path(shutil.copytree(saved, tmp_path / "bundle"))


def edit(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_save_and_open(saved: Path) -> None:
    one, two = Bundle.open(saved), Bundle.open(saved)
    assert type(one.family).__name__ == "FlowMatching"
    assert one.recipe.family["time_sampling"] == "logit_normal"
    assert (one.data["num_train"], one.priors["label"]) == (8, [0.75, 0.25])
    assert one.metrics == {"frechet": {"value": 2.0}}
    x = one.sample(5, seed=3).x
    assert x is not None
    assert x.shape == (5, *one.family.spec.shape)
    assert torch.equal(x, two.sample(5, seed=3).x)
    assert not torch.equal(x, two.sample(5, seed=4).x)


def test_saving_again_gives_the_same_bundle(saved: Path, tmp_path: Path) -> None:
    again = Bundle.open(saved).save(tmp_path / "again")
    for name in ("config.json", "model.safetensors", "metrics.json"):
        assert (again / name).read_bytes() == (saved / name).read_bytes(), name


def test_there_is_no_pickle_in_it(saved: Path) -> None:
    assert {file.suffix for file in saved.rglob("*") if file.is_file()} <= {
        ".json",
        ".safetensors",
        ".md",
    }
    json.loads((saved / "config.json").read_text())


def test_conditions_are_taken_by_name_and_drawn_by_their_frequency(saved: Path) -> None:
    bundle = Bundle.open(saved)
    draw = torch.Generator().manual_seed(0)
    drawn = bundle.conditions(4000, {}, draw, drawn=True)["label"]
    assert float((drawn == 0).float().mean()) == pytest.approx(0.75, abs=0.04)
    given = bundle.conditions(3, {"label": "light"}, draw, drawn=True)["label"]
    assert given.tolist() == [1, 1, 1]
    assert bundle.conditions(3, {}, draw, drawn=False) == {}
    with pytest.raises(MorphogenError):
        bundle.sample(2, cond={"lable": "light"})


def test_a_task_that_does_not_apply_says_why(saved: Path) -> None:
    bundle = Bundle.open(saved)
    reasons = bundle.tasks()
    assert reasons["generate"] is None
    refused = [name for name, reason in reasons.items() if reason]
    assert refused
    with pytest.raises(RefusedPair, match="does not apply"):
        bundle.task(refused[0], torch.zeros(1, *bundle.family.spec.shape))
    with pytest.raises(RecipeError, match="Did you mean 'generate'"):
        bundle.task("generat")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_missing_file(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=r"missing|no bundle here") as error:
        Bundle.open(copy)
    assert str(copy) in str(error.value)


def test_no_bundle_and_an_unfinished_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle here"):
        Bundle.open(tmp_path)
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(BundleError, match="has not finished") as error:
        Bundle.open(tmp_path)
    assert "--resume" in str(error.value)


def test_a_published_model_is_told_from_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 384}')
    told = rf"(?s)no bundle yet.*model_type bert.*morphogen import {tmp_path} --out models/"
    with pytest.raises(BundleError, match=told):
        Bundle.open(tmp_path)


def test_a_tampered_byte(copy: Path) -> None:
    file = copy / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(BundleError, match="was changed after it was saved") as error:
        Bundle.open(copy)
    assert str(file) in str(error.value)


def test_an_older_version_is_read_no_more(copy: Path) -> None:
    edit(copy, version=1)
    with pytest.raises(BundleError, match="older Morphogen"):
        Bundle.open(copy)


def test_a_newer_version(copy: Path) -> None:
    edit(copy, version=VERSION + 1)
    with pytest.raises(BundleError, match="newer Morphogen"):
        Bundle.open(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"format": "other"}'])
def test_a_damaged_config(copy: Path, text: str) -> None:
    (copy / "config.json").write_text(text)
    with pytest.raises(BundleError, match=r"config\.json"):
        Bundle.open(copy)


@pytest.mark.parametrize("key", ["spec", "conditions", "recipe", "codec", "files", "version"])
def test_a_config_without_one_of_its_keys(copy: Path, key: str) -> None:
    config = json.loads((copy / "config.json").read_text())
    del config[key]
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(MorphogenError):
        Bundle.open(copy)


def test_weights_of_another_shape(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["recipe"]["family"]["cond_dim"] = 32
    edit(copy, recipe=config["recipe"])
    with pytest.raises(BundleError, match="do not fit the recipe"):
        Bundle.open(copy)


@pytest.mark.parametrize("table", ["family", "backbone"])
def test_a_stranger_may_not_choose_what_is_imported(copy: Path, tmp_path: Path, table: str) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["recipe"][table] = {"name": "os:system"}
    edit(copy, recipe=config["recipe"])
    with pytest.raises(RecipeError, match="refused to import"):
        Bundle.open(copy)


def test_a_codec_by_dotted_path_is_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["codec"]["name"] = "os:system"
    edit(copy, codec=config["codec"])
    with pytest.raises(RecipeError, match="refused to import"):
        Bundle.open(copy)


def test_file_names_cannot_leave_the_folder(copy: Path) -> None:
    outside = copy.parent / "outside.safetensors"
    outside.write_bytes(b"secret")
    config = json.loads((copy / "config.json").read_text())
    edit(copy, files={**config["files"], "../outside.safetensors": "0" * 64})
    with pytest.raises(BundleError, match="no such file"):
        Bundle.open(copy)


def test_a_task_without_its_items_says_so(saved: Path) -> None:
    bundle = Bundle.open(saved)
    with pytest.raises(RecipeError, match="needs items"):
        bundle.task("fill")
    with pytest.raises(RecipeError, match="takes no items"):
        bundle.task("generate", torch.zeros(1, *bundle.family.spec.shape))
