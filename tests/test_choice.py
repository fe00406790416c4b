"""Where no family is named, the data says which; that is said, and settled before it is read."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import morphogen as mg
from morphogen.cli.app import main
from morphogen.core import discover
from morphogen.core.errors import DataError, RecipeError
from morphogen.core.recipe import Recipe, resolve
from morphogen.core.spec import TensorSpec
from morphogen.data.dataset import Data
from morphogen.sources.folder import Folder
from morphogen.training.choice import choices
from morphogen.training.run import prepare, sessions

SOURCES = Path(__file__).parent / "sources"
IN_ORDER = "autoregressive"
USUAL = {
    "chat": IN_ORDER, "code": IN_ORDER, "image": "flow_matching", "preference": IN_ORDER,
    "table": "masked", "text": IN_ORDER, "molecule": IN_ORDER, "music": IN_ORDER,
    "series": "flow_matching", "events": IN_ORDER, "sound": "flow_matching",
}  # fmt: skip
TINY = ["backbone.model_dim=16", "backbone.num_layers=1", "train.num_previews=0"]
PIXELS = ["backbone.name=mlp", *TINY]


def source(name: str, folder: Path) -> Path:
    """The small clean source that the kit holds the codec `name` to."""
    spec = importlib.util.spec_from_file_location(name, SOURCES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return Path(made.write(folder))


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    return source("text", tmp_path)


@pytest.fixture(scope="module")
def pictures() -> Data:
    """Random grey pictures of 8 x 8."""
    return mg.load(np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8))


@pytest.mark.parametrize("modality", USUAL)
def test_the_modality_says_which(modality: str, tmp_path: Path) -> None:
    settings = PIXELS if USUAL[modality] != IN_ORDER else TINY
    session = prepare(source(modality, tmp_path), dry=True, settings=settings)
    usual = USUAL[modality]
    assert session.recipe.family["name"] == usual
    said = f"{usual}, as {modality} data is usually learned (others: morphogen list families)"
    assert choices(session.data)[0] == f"family: {said}"
    assert session.data.report.facts["family"] == said


def test_every_modality_that_reads_a_source_is_asked() -> None:
    reading = [name for name in discover.names("modality") if (SOURCES / f"{name}.py").exists()]
    # The first two read what is said of items, the third is asked for by its name.
    without = {"category", "value", "interleaved"}
    assert set(reading) - without == set(USUAL)


@pytest.mark.parametrize(
    ("data", "usual"),
    [
        (np.zeros((40, 6, 6), dtype=np.uint8), "flow_matching"),
        ([f"a note, number {i}" for i in range(40)], IN_ORDER),
        ([{"age": i * i, "pet": "cat" if i % 2 else "dog"} for i in range(40)], "masked"),
    ],
    ids=["array", "texts", "rows"],
)
def test_what_lies_in_memory_says_so_too(data: Any, usual: str) -> None:
    settings = TINY if usual == IN_ORDER else PIXELS
    for given in (data, mg.load(data)):
        session = prepare(given, dry=True, settings=settings)
        assert session.recipe.family["name"] == usual
        assert choices(session.data)[0].startswith(f"family: {usual}, as ")


@pytest.mark.parametrize(
    ("coder", "usual"),
    [("vae", "flow_matching"), ("autoencoder", "flow_matching"), ("vq_vae", IN_ORDER)],
)
def test_latents_are_learned_by_what_is_at_home_in_them(
    pictures: Data, coder: str, usual: str
) -> None:
    bundle = prepare(pictures, coder, dry=True, settings=["backbone.model_dim=8"]).bundle()
    for session in (
        prepare(pictures, through=bundle, dry=True, settings=["backbone.model_dim=16"]),
        prepare(
            pictures.through(discover.find("wrapper", "latent_codec").from_bundle(bundle)),
            dry=True,
            settings=["backbone.model_dim=16"],
        ),
    ):
        assert session.recipe.family["name"] == usual
        assert choices(session.data) == [
            f"family: {usual}, as latents of {coder} are usually learned "
            "(others: morphogen list families)"
        ]


def test_a_named_family_is_taken_and_nothing_said_of_it(texts: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[family]\nname = "masked"\n')
    for named in ({"recipe": recipe}, {"settings": ["family.name=masked"]}, {"family": "masked"}):
        session = prepare(texts, dry=True, **{"settings": TINY, **named})  # type: ignore[arg-type]
        assert session.recipe.family["name"] == "masked"
        assert [line.partition(":")[0] for line in choices(session.data)] == ["tokenizer", "form"]


def test_options_go_to_the_family_that_is_taken(texts: Path) -> None:
    session = prepare(texts, dry=True, settings=[*TINY, "family.drop_prob=0.3"])
    assert session.recipe.family["name"] == IN_ORDER
    assert session.recipe.family["drop_prob"] == 0.3
    with pytest.raises(RecipeError, match="Did you mean 'drop_prob'"):
        prepare(texts, dry=True, settings=["family.drop_probb=0.3"])


def test_the_choice_is_logged_and_a_run_goes_on_with_it(pictures: Data, tmp_path: Path) -> None:
    out, heard = tmp_path / "run", []
    quick = ["train.budget=4steps", "family.num_steps=2", "family.baseline=none"]
    for session in sessions(pictures, out=out, settings=[*PIXELS, *quick]):

        def stop(log: Any, run: Any = session.run) -> None:
            heard.append(log.event)
            run.stop = log.step >= 2

        session.train(stop)
    assert heard[0] == choices(session.data)[0]
    assert '"event": "family: flow_matching, as image data' in (out / "log.jsonl").read_text()
    bundle = mg.train(pictures, out=out, resume=True)
    assert bundle.run["steps"] == 4
    assert mg.open(out).recipe.family["name"] == "flow_matching"


def test_the_folder_is_called_by_it_and_the_source_looked_at_once(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    looks, survey = [], Folder.survey
    monkeypatch.setattr(Folder, "survey", lambda self: looks.append(self) or survey(self))
    stages = sessions(texts, settings=[*TINY, "train.budget=1steps"])
    assert next(stages).out == Path("models", "autoregressive-1")
    stages.close()
    assert len(looks) == 1


def test_the_command_says_it_first(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [part for each in TINY for part in ("--set", each)]
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["train", str(texts), "--forecast", *options])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["family", "tokenizer", "form", "forecast"]


def test_what_nobody_reads_and_a_recipe_without_a_family_are_refused(tmp_path: Path) -> None:
    (tmp_path / "sound.xyz").write_bytes(b"\0\1\2\3")
    with pytest.raises(DataError, match="nothing here that a codec can read"):
        prepare(tmp_path / "sound.xyz", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(RecipeError, match=r"(?s)the recipe names no family.*--family NAME"):
        resolve(Recipe(), TensorSpec.vector(3))
