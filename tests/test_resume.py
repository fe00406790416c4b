"""A run that goes on keeps its settings: what is given is applied, or refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import morphogen as mg
from morphogen.core.errors import MorphogenError, RecipeError
from morphogen.core.family import weights_digest
from morphogen.training import loop, session
from morphogen.training.loop import Log, Run
from morphogen.training.resume import gone_on_with
from morphogen.training.run import sessions

SETTINGS = ["backbone.model_dim=8", "train.batch_size=8", "train.num_previews=0", "modality.size=8"]
ASKED = {"backbone": "mlp", "budget": "6steps", "seed": 3, "settings": SETTINGS}


@pytest.fixture(scope="module", autouse=True)
def no_curves() -> Iterator[None]:
    """Drawing takes longer than the runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "draw_curves", lambda log, picture: None)
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "noise.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, (24, 8, 8), dtype=np.uint8))
    return path


def stopped(source: Path, out: Path, family: str, *more: str, through: Path | None = None) -> Path:
    """A run that Ctrl-C stopped after two steps, with `more` settings."""
    asked = {**ASKED, "settings": [*SETTINGS, *more], "through": through}
    for held in sessions(source, family, out=out, **asked):

        def stop(log: Log, run: Run = held.run) -> None:
            run.stop = log.step >= 2

        held.train(stop)
    return out


@pytest.fixture(scope="module")
def run(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stopped(source, tmp_path_factory.mktemp("run") / "run", "autoencoder")


OTHER = [
    ({"family": "vae"}, "family.name=vae", "family.name=autoencoder"),
    ({"backbone": "conv"}, "backbone.name=conv", "backbone.name=mlp"),
    ({"budget": "12steps"}, "train.budget=12steps", "train.budget=6steps"),
    ({"seed": 4}, "train.seed=4", "train.seed=3"),
    ({"settings": ["train.lr=0.5"]}, "train.lr=0.5", "train.lr=0.003"),
    ({"settings": ["modality.size=16"]}, "modality.size=16", "modality.size=8"),
    ({"settings": ["modality.group_by=a"]}, "modality.group_by=a", "modality.group_by=(not set)"),
    ({"settings": ["train.lrr=1"]}, "train.lrr=1", "train.lrr=(not set)"),
    (
        {"budget": "1h", "settings": ["backbone.model_dim=9"]},
        "backbone.model_dim=9, train.budget=1h",
        "backbone.model_dim=8, train.budget=6steps",
    ),
]


@pytest.mark.parametrize(("given", "found", "expected"), OTHER)
def test_what_would_change_the_numbers_is_refused_by_name(
    given: dict[str, object], found: str, expected: str, run: Path
) -> None:
    before = sorted(path.name for path in run.rglob("*"))
    with pytest.raises(RecipeError, match="keeps the settings") as raised:
        mg.train(None, out=run, resume=True, **given)  # type: ignore[arg-type]
    assert raised.value.found == found
    assert raised.value.expected == expected
    assert sorted(path.name for path in run.rglob("*")) == before


def test_a_recipe_and_a_model_to_go_through_count_too(
    run: Path, source: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "a.toml"
    recipe.write_text('[family]\nname = "autoencoder"\n[train]\nbatch_size = 9\n')
    with pytest.raises(RecipeError, match="keeps the settings") as raised:
        mg.train(None, out=run, resume=True, recipe=recipe)
    assert raised.value.found == "train.batch_size=9"
    with pytest.raises(RecipeError, match="latents of this model"):
        mg.train(None, out=run, resume=True, through=run)


def test_the_same_again_and_what_changes_nothing_are_taken(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 2)  # where sheets may be drawn
    whole = mg.train(source, "autoencoder", out=tmp_path / "whole", **ASKED)
    out = stopped(source, tmp_path / "run", "autoencoder")
    free = ["train.num_previews=2", "train.checkpoint_every=0", "train.device=cpu"]
    asked = {**ASKED, "settings": [*SETTINGS, *free]}
    again = mg.train(source, "autoencoder", out=out, resume=True, **asked)
    assert len(list((out / "samples").glob("0*"))) > 0, "the previews that were asked for"
    for name, tensor in whole.family.state_dict().items():
        assert torch.equal(again.family.state_dict()[name], tensor), name


def test_a_chain_that_goes_on_keeps_its_settings_and_conditions(tmp_path: Path) -> None:
    source, said = tmp_path / "said.csv", ["modality.conditions=caption"]
    rows = ["file,caption"]
    for number in range(24):
        grey = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
        Pillow.fromarray(grey).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,noise of the {number}th kind")
    source.write_text("\n".join(rows))
    chain = "autoencoder+flow_matching"
    out = stopped(source, tmp_path / "run", chain, *said)
    for given in (
        {"budget": "9steps"}, {"family": "vae+flow_matching"}, {"seed": 1},
        {"settings": ["modality.conditions=none"]},
    ):  # fmt: skip
        with pytest.raises(RecipeError, match="keeps the settings"):
            mg.train(None, out=out, resume=True, **given)
    mg.train(None, chain, out=out, resume=True, **{**ASKED, "settings": [*SETTINGS, *said]})
    bundle = mg.open(out)
    assert list(bundle.family.conditions) == ["caption"]
    assert len(bundle.sample(2, cond={"caption": "noise of the 3rd kind"}).items) == 2


@pytest.fixture(scope="module")
def coders(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models of the same make, of other weights."""
    at = tmp_path_factory.mktemp("coders")
    asked = {**ASKED, "budget": "2steps"}
    for seed in (3, 4):
        mg.train(source, "autoencoder", out=at / str(seed), **{**asked, "seed": seed})
    return at / "3", at / "4"


@pytest.mark.parametrize("family", ["flow_matching", "autoencoder+flow_matching"])
def test_a_run_in_the_latents_of_a_model_goes_on_in_those_alone(
    family: str, source: Path, coders: tuple[Path, Path], tmp_path: Path
) -> None:
    coder, other = coders
    lies = shutil.copytree(coder, tmp_path / "coder")
    whole = mg.train(source, family, through=lies, out=tmp_path / "whole", **ASKED)
    out = stopped(source, tmp_path / "run", family, through=lies)

    def refused(said: str, through: Path | None) -> MorphogenError:
        before = sorted(path.name for path in out.rglob("*"))
        with pytest.raises(MorphogenError, match=said) as raised:
            mg.train(None, out=out, resume=True, through=through)
        assert sorted(path.name for path in out.rglob("*")) == before
        return raised.value

    assert str(other) in str(refused("not begun in the latents of this model", other).found)
    gone = lies.rename(tmp_path / "elsewhere")
    assert str(lies) in str(refused("no bundle", lies))
    shutil.copytree(other, lies)  # trained anew, in place
    changed = refused("not begun in the latents of this model", lies)
    assert str(changed.expected).split()[-1] in weights_digest(mg.open(str(coder)).family)
    is_chain = "+" in family  # it reads through the bundle again; a single one's checkpoint has it
    if is_chain:
        assert str(lies) in str(refused("not begun in the latents of this model", None).found)
        shutil.rmtree(lies)
        assert "--through BUNDLE" in str(refused("is not where it was", None).hint)
    again = mg.train(None, out=out, resume=True, through=gone if is_chain else None)
    for name, tensor in whole.family.state_dict().items():
        assert torch.equal(again.family.state_dict()[name], tensor), name
    assert torch.equal(again.sample(2, seed=1).x, whole.sample(2, seed=1).x)


def test_a_chain_begun_without_a_model_to_go_through_takes_none(
    source: Path, coders: tuple[Path, Path], tmp_path: Path
) -> None:
    out = stopped(source, tmp_path / "run", "autoencoder+flow_matching")
    with pytest.raises(RecipeError, match="latents of this model") as raised:
        mg.train(None, out=out, resume=True, through=coders[0])
    assert str(raised.value.expected).startswith("none")


def test_values_are_compared_as_they_are_meant(tmp_path: Path) -> None:
    train = {"lr": 0.001, "unconditional": False, "budget": "10m", "batch_size": 64}
    begun = mg.Recipe(train=train, family={"x": None, "y": [1, 2]})
    same = ["train.lr=1e-3", "train.unconditional=no", "train.budget=600s", "train.batch_size=64.0",
            "family.x=none", "family.y=1,2"]  # fmt: skip
    assert gone_on_with(begun, mg.Recipe().with_settings(same), tmp_path) == begun
    other = ["train.lr=1e-2", "train.unconditional=yes", "train.budget=601s", "train.batch_size=x",
             "family.x=1", "family.y=1,3"]  # fmt: skip
    for setting in other:
        with pytest.raises(RecipeError, match="keeps the settings"):
            gone_on_with(begun, mg.Recipe().with_settings([setting]), tmp_path)
