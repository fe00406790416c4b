"""A stranger's bundle runs no code, wherever in its files a name stands.

A module that leaves a mark when it is imported lies in the bundle's own folder, which is also the
working folder and on `sys.path`. Every text in config.json, run.json and chain.json in turn becomes
the dotted path of its class, and every verb is run: whatever they say, the mark must not appear.
"""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import morphogen as mg
from morphogen.cli.app import main
from morphogen.cli.cite import keys_of, references
from morphogen.cli.show import bundle_facts
from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.config import read_config
from morphogen.core.errors import MorphogenError, RecipeError
from morphogen.evaluation.card import write_card
from morphogen.training.run import prepare

EVIL = "evil:Evil"
TINY = [
    "backbone.name=mlp", "backbone.model_dim=8", "backbone.num_layers=1", "train.num_previews=0",
    "train.batch_size=8",
]  # fmt: skip
MODULE = """
from pathlib import Path
Path({mark!r}).write_text("imported")
class Evil:
    pass
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright and dark 8x8 pictures in two class folders."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    draw = np.random.default_rng(0)
    for label, low in (("dark", 0), ("light", 128)):
        (folder / label).mkdir(parents=True)
        for i in range(12):
            picture = draw.integers(low, low + 128, (8, 8), dtype=np.uint8)
            Image.fromarray(picture).save(folder / label / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def bundles(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A flow-matching bundle, an autoencoder, a flow in its latents; a run and a chain that were
    stopped."""
    folder = tmp_path_factory.mktemp("models")
    made = {name: folder / name for name in ("flow", "autoencoder", "latent", "stopped", "chain")}
    budget = {"budget": "2steps", "settings": TINY}
    mg.train(photos, "flow_matching", out=made["flow"], **budget)
    mg.train(photos, "autoencoder", out=made["autoencoder"], **budget)
    through = made["autoencoder"]
    mg.train(photos, "flow_matching", out=made["latent"], through=through, **budget)
    for family, name in (("flow_matching", "stopped"), ("autoencoder+flow_matching", "chain")):
        session = prepare(photos, family, out=made[name], **budget)
        session.run.stop = True
        session.train(lambda log: None)
    return made


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to put a bundle into: the working folder, on sys.path, with the module in it."""
    folder, mark = tmp_path / "bundle", tmp_path / "mark"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.syspath_prepend("")
    (folder / "evil.py").write_text(MODULE.format(mark=str(mark)))
    yield folder
    assert "evil" not in sys.modules, "the module was imported"
    assert not mark.exists(), "the module was run"


def texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every text and every None in some JSON: where a name stands, or may stand."""
    if isinstance(value, str) or value is None:
        yield path
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from texts(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from texts(each, (*path, index))


def planted(value: Any, path: tuple[Any, ...]) -> Any:
    """The JSON with the dotted path at `path`."""
    changed = copy.deepcopy(value)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = EVIL
    return changed


def quietly(act: Callable[[], object]) -> bool:
    """Whether it went through. An error that is not meant for the user is the test's."""
    try:
        act()
    except MorphogenError:
        return False
    return True


def put(bundle: Path, here: Path) -> None:
    """The files of a bundle, into the folder that holds the module."""
    for file in here.iterdir():
        if file.name != "evil.py":
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    shutil.copytree(bundle, here, dirs_exist_ok=True)


def cli(*arguments: str) -> None:
    """A verb on the command line; it may fail, in words."""
    with contextlib.suppress(SystemExit):
        main(list(arguments))


def use(here: Path) -> None:
    """What is done with a bundle that was opened."""
    bundle = Bundle.open(here)
    x = torch.zeros(2, *bundle.family.spec.shape)
    bundle.tasks()
    quietly(lambda: bundle.sample(2, num_steps=1))
    quietly(lambda: bundle.sample(2, num_steps=1, guidance=2.0))
    quietly(lambda: bundle.task("inpaint", x, num_steps=1, num=1, num_repeats=1))


@pytest.mark.parametrize("name", ["flow", "latent"])
def test_a_name_anywhere_in_the_config(
    name: str, bundles: dict[str, Path], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(bundles[name], here)
    whole = json.loads((here / "config.json").read_text())
    built = {key: whole[key] for key in ("recipe", "codec")}  # all else is as in any bundle
    places = list(texts(whole if name == "flow" else built))
    for path in places:
        (here / "config.json").write_text(json.dumps(planted(whole, path)))
        quietly(lambda: use(here))
        quietly(lambda: write_card(here))
        quietly(lambda: bundle_facts(str(here)))
        quietly(lambda: keys_of(read_config(here), references()))
    wanted = {("family", "name"), ("family", "sampler"), ("backbone", "name"), ("train", "device")}
    assert {("recipe", *each) for each in wanted} | {("codec", "name")} <= set(places)
    (here / "config.json").write_text(json.dumps(planted(whole, ("recipe", "family", "name"))))
    for verb in ("card", "show", "cite", "tasks", "sample"):
        cli(verb, str(here))
    assert "Traceback" not in capsys.readouterr().err


def test_a_name_in_the_way_that_the_data_was_read(
    bundles: dict[str, Path], photos: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `evaluate` and `reproduce` do besides opening a bundle."""
    monkeypatch.setattr("morphogen.evaluation.features.FEWEST_STEPS", 1)
    monkeypatch.setattr("morphogen.evaluation.features.MOST_STEPS", 1)
    put(bundles["flow"], here)
    whole = json.loads((here / "config.json").read_text())
    options = {**whole["data"]["options"], "modality": EVIL, "codec": EVIL, "trust": EVIL}
    hostile = {**whole, "data": {**whole["data"], "options": options}}
    for changed in (hostile, planted(whole, ("recipe", "family", "sampler"))):
        (here / "config.json").write_text(json.dumps(changed))
        quietly(lambda: mg.evaluate(here, photos, num=8))
        quietly(lambda: mg.reproduce(here, data=photos, out=here / "again"))


def test_a_name_in_a_bundle_that_is_trained_through(
    bundles: dict[str, Path], photos: Path, here: Path
) -> None:
    put(bundles["autoencoder"], here)
    whole = json.loads((here / "config.json").read_text())
    data = mg.load(photos)
    for path in texts({name: whole[name] for name in ("recipe", "codec")}):
        (here / "config.json").write_text(json.dumps(planted(whole, path)))
        quietly(
            lambda: prepare(data, "flow_matching", through=here, out=here / "out", settings=TINY)
        )
        shutil.rmtree(here / "out", ignore_errors=True)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("stopped", "checkpoint/step_*/run.json"), ("chain", "chain.json"),
     ("chain", "1_autoencoder/checkpoint/step_*/run.json")],
)  # fmt: skip
def test_a_name_in_a_run_that_is_gone_on_with(
    name: str, pattern: str, bundles: dict[str, Path], photos: Path, here: Path
) -> None:
    put(bundles[name], here)
    (file,) = here.glob(pattern)
    whole, data = json.loads(file.read_text()), mg.load(photos)
    kept = {key: whole[key] for key in ("recipe", "codec", "data", "through") if key in whole}
    for path in texts(kept):
        file.write_text(json.dumps(planted(whole, path)))
        quietly(lambda: prepare(data, out=here, resume=True))


def test_a_name_in_a_recipe(here: Path, photos: Path) -> None:
    """The recipe may come from anybody, too, though it is named on the command line."""
    for table in ("modality", "family", "backbone"):
        recipe = here / "recipe.toml"
        recipe.write_text(f'[{table}]\nname = "{EVIL}"\n')
        with pytest.raises(RecipeError, match="refused to import"):
            prepare(photos, recipe=recipe, out=here / "out")
    recipe.write_text(f'[family]\nname = "flow_matching"\nsampler = "{EVIL}"\n')
    with pytest.raises(RecipeError, match="refused to import"):
        prepare(photos, recipe=recipe, out=here / "out").bundle().sample(2)


def test_what_lies_in_the_working_folder_is_not_installed(here: Path) -> None:
    """An entry point of a planted package would be a name without a colon."""
    (here / "evil-1.0.dist-info").mkdir()
    (here / "evil-1.0.dist-info" / "entry_points.txt").write_text(
        "[morphogen.families]\nharmless = evil:Evil\n"
    )
    assert "harmless" not in discover.names("family")
    with pytest.raises(RecipeError, match="there is no family"):
        discover.find("family", "harmless")


@pytest.mark.parametrize("way", ["trust", "typed", "option", "recipe"])
def test_what_the_user_vouches_for_is_imported(
    way: str,
    bundles: dict[str, Path],
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same place, with the user's word; sampling with it shows that it is carried along."""
    module = f"own_{way}"
    (tmp_path / f"{module}.py").write_text(
        "def solve(denoise, x, times, path, generator):\n    return 0 * x\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = Path(shutil.copytree(bundles["flow"], tmp_path / "bundle"))
    if way == "option":
        x = Bundle.open(folder).sample(2, sampler=f"{module}:solve").x
    elif way == "recipe":
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(f'[family]\nname = "flow_matching"\nsampler = "{module}:solve"\n')
        arguments = {"recipe": recipe, "settings": TINY, "out": tmp_path / "out"}
        x = prepare(photos, **arguments, trust=True).bundle().sample(2).x
    else:
        config = json.loads((folder / "config.json").read_text())
        config["recipe"]["family"]["sampler"] = f"{module}:solve"
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(RecipeError, match="refused to import"):
            Bundle.open(folder).sample(2)
        if way == "typed":
            cli("list", "samplers", f"--set=family.sampler={module}:solve")
        x = Bundle.open(folder, trust=way == "trust").sample(2).x
    assert x is not None
    assert not x.any()
