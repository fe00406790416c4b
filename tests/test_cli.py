"""The command line: every verb on tiny data, and bad input told plainly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from morphogen.cli.app import build_app, main, verbs
from morphogen.serve.worker.agent import TOOLS

SCREEN = 60  # lines
TINY = ("--budget", "4steps", "--set", "backbone.model_dim=8", "--set", "train.num_previews=1")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright and dark 8x8 pictures in two class folders."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    draw = np.random.default_rng(0)
    for label, low in (("dark", 0), ("light", 128)):
        (folder / label).mkdir(parents=True)
        for i in range(24):
            picture = draw.integers(low, low + 128, (8, 8), dtype=np.uint8)
            Image.fromarray(picture).save(folder / label / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def bundle(photos: Path) -> Path:
    """A flow-matching bundle after four steps, trained by the command itself."""
    out = photos.parent / "models" / "tiny"
    assert not run("train", str(photos), "--family", "flow_matching", "--out", str(out), *TINY)
    return out


def run(*arguments: str) -> object:
    """Run a command; return its exit code."""
    try:
        main(list(arguments))
    except SystemExit as stop:
        return stop.code
    return 0


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail with exit code 1 and one plain message; return the message."""
    code = run(*arguments)
    error = capsys.readouterr().err
    assert code == 1
    assert error.startswith("error: ")
    assert "Traceback" not in error
    return error


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must succeed; return what it printed."""
    code = run(*arguments)
    printed = capsys.readouterr()
    assert not code, printed.err
    return printed.out


# -- the command line itself ---------------------------------------------------------------------


def test_help_imports_nothing_heavy() -> None:
    """torch, numpy and rich would each cost more than all of `--help` may take."""
    code = (
        "import sys\nfrom morphogen.cli.app import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'numpy', 'rich', 'PIL', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for verb in verbs():
        assert f"  {verb}" in done.stdout


def test_verbs_are_the_files() -> None:
    assert {"train", "sample", "task", "tasks", "inspect", "list", "show"} <= set(verbs())
    app = build_app()
    found = [*app.registered_commands, *app.registered_groups]
    assert sorted(command.name or "" for command in found) == verbs()


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_and_option_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, verb, "--help")
    assert "Usage: morphogen" in text
    assert f"Example: morphogen {verb} " in text
    assert len(text.splitlines()) <= SCREEN
    options = [line for line in text.splitlines() if line.startswith("  -")]
    assert options
    assert all(len(line.split(None, 2)) == 3 for line in options), "an option says nothing"


def options() -> Iterator[tuple[str, str, Any]]:
    """Each option of every verb: the verb, the option's long name, and what typer knows of it."""
    from typer.main import get_command

    commands: dict[str, Any] = get_command(build_app()).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        for below, one in getattr(command, "commands", {"": command}).items():
            for each in one.params:
                for flag in each.opts:
                    if flag.startswith("--"):
                        yield f"{name} {below}".strip(), flag, each


def test_an_option_means_the_same_in_every_verb() -> None:
    """It takes a value in all of them or in none, has the same short form, and where it is a
    switch, is told of in the same voice."""
    takes, shorts, known = defaultdict(set), defaultdict(set), set()
    for verb, flag, each in options():
        takes[flag].add(each.is_flag)
        shorts[flag].add(tuple(one for one in each.opts if not one.startswith("--")))
        known.add(flag)
        assert flag != "--json" or each.help == "print JSON", verb
    assert {flag for flag, found in takes.items() if len(found) > 1} == set()
    assert {flag for flag, found in shorts.items() if len(found) > 1} == set()
    # The file of an agent that is served says what it may touch in the words of `morphogen chat`.
    of_chat = {flag for verb, flag, _ in options() if verb == "chat"}
    assert {f"--{name}" for name in TOOLS} <= of_chat


def test_a_misspelt_verb_or_option_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, suggestion in ((["trian"], "'train'"), (["list", "--jsn"], "--json")):
        assert run(*arguments) == 2
        assert suggestion in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import morphogen

    assert said(capsys, "--version").strip() == morphogen.__version__


def test_debug_shows_the_traceback() -> None:
    from morphogen.core.errors import RecipeError

    with pytest.raises(RecipeError):
        main(["list", "familes", "--debug"])


# -- every verb ----------------------------------------------------------------------------------


def test_inspect(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "48" in said(capsys, "inspect", str(photos))
    found = json.loads(said(capsys, "inspect", str(photos), "--json"))
    assert found["facts"]["items"] == 48
    assert found["problems"] == []


def test_train_tells_the_forecast_and_events(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "vae"
    command = ("train", str(photos), "--family", "vae", "--seed", "3", "--out", str(out), *TINY)
    forecast = said(capsys, *command, "--forecast")
    assert forecast.startswith("forecast: ")
    assert not out.exists()
    assert list(tmp_path.iterdir()) == [], "a forecast leaves nothing behind"
    text = said(capsys, *command)
    assert "forecast: " in text
    assert "step 4/4" in text
    assert "loss" in text
    config = json.loads((out / "config.json").read_text())
    assert config["recipe"]["train"]["seed"] == 3
    assert config["recipe"]["backbone"]["model_dim"] == 8
    assert config["data"]["source"] == photos.name


def test_train_from_a_recipe_that_set_overrides(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[family]\nname = "autoencoder"\n[train]\nbudget = "2steps"\nseed = 5\n')
    out = tmp_path / "out"
    settings = ("--set", "train.seed=6", "--recipe", str(recipe), "--device", "cpu")
    said(capsys, "train", str(photos), "--out", str(out), *settings)
    resolved = json.loads((out / "config.json").read_text())["recipe"]
    assert resolved["family"]["name"] == "autoencoder"
    assert (resolved["train"]["seed"], resolved["train"]["device"]) == (6, "cpu")


def test_sample(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / name for name in ("a.png", "b.png", "c.png", "d.png")]
    more = [[], [], ["--seed", "1"], ["--label", "dark", "--guidance", "2"]]
    for file, options in zip(files, more, strict=True):
        arguments = ["sample", str(bundle), "-n", "4", "--set", "num_steps=2", *options]
        assert "4 items" in said(capsys, *arguments, "--out", str(file))
    pictures = [file.read_bytes() for file in files]
    assert pictures[0] == pictures[1], "the same seed, the same pictures"
    assert pictures[0] != pictures[2]
    assert pictures[0] != pictures[3]


def test_task_and_tasks(
    bundle: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reasons = json.loads(said(capsys, "tasks", str(bundle), "--json"))
    assert reasons["interpolate"] is None
    assert "HasFeatures" in reasons["embed"]
    text = said(capsys, "tasks", str(bundle))
    assert text.index("interpolate") < text.index("does not apply") < text.index("embed")
    ends = [str(photos / "dark" / "00.png"), str(photos / "light" / "00.png")]
    out = tmp_path / "steps.png"
    options = ["--set", "num=3", "--set", "num_steps=2", "--out", str(out), "--json"]
    facts = json.loads(said(capsys, "task", "interpolate", str(bundle), *ends, *options))
    assert facts["weight"] == [0.0, 0.5, 1.0]
    assert facts["route"] == "denoise"
    assert out.is_file()
    assert "interpolate" in said(capsys, "task", "--help")


def test_evaluate(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "evaluate", str(bundle), "--num", "40")
    for word in ("frechet", "real data", "n = 40", "evaluation.html"):
        assert word in text
    assert (bundle / "evaluation.html").is_file()
    gate = bundle.parent / "gate.toml"
    gate.write_text("[frechet_ratio]\nat_most = 0.001\n")
    with pytest.raises(SystemExit) as left:
        main(["evaluate", str(bundle), "--num", "40", "--gate", str(gate)])
    assert left.value.code == 1
    assert "gate: frechet_ratio" in capsys.readouterr().out


def test_list_and_show(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "families" in said(capsys, "list")
    families = json.loads(said(capsys, "list", "families", "--json"))
    assert families["vae"].startswith("Variational autoencoder")
    text = said(capsys, "show", "family", "vae")
    assert "latent_dim = 32" in text
    assert "size of the latent vector" in text
    facts = json.loads(said(capsys, "show", str(bundle), "--json"))
    assert facts["family"] == "flow_matching"
    assert facts["parameters"] > 0
    assert facts["data"]["num_train"] + facts["data"]["num_test"] == 48
    assert "flow_matching" in said(capsys, "show", str(bundle))


def test_cite_names_the_parts(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "cite", str(bundle))
    for key in ("lipman2023flow", "ronneberger2015unet", "karras2024analyzing", "morphogen"):
        assert f"{{{key}," in text, f"{key} is missing"
    assert "kingma2014auto" not in text


def test_training_through_a_bundle_cites_both(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, latent = tmp_path / "vae", tmp_path / "latent"
    tiny = ("--budget", "2steps", "--set", "backbone.model_dim=8", "--set", "train.num_previews=0")
    said(capsys, "train", str(photos), "--family", "vae", "--out", str(code), *tiny)
    through = ("--through", str(code), "--family", "flow_matching")
    said(capsys, "train", str(photos), *through, "--out", str(latent), *tiny)
    text = said(capsys, "cite", str(latent))
    for key in ("kingma2014auto", "lipman2023flow", "rombach2022high"):
        assert f"{{{key}," in text


def test_interrupting_leaves_a_bundle_that_resumes(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "stopped"
    command = [sys.executable, "-m", "morphogen.cli.app", "train", str(photos), "--out", str(out)]
    tiny = ["--set", "backbone.model_dim=8", "--set", "train.num_previews=0"]
    process = subprocess.Popen(
        [*command, "--budget", "100steps", "--set", "train.batch_size=8", *tiny],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step "):
            break
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=120)
    assert "usable bundle" in text, text
    assert process.returncode in (0, 130)
    assert (out / "config.json").is_file()
    assert "step 100/100" in said(capsys, "train", "--resume", "--out", str(out))


# -- bad input -----------------------------------------------------------------------------------


def test_an_unknown_family_is_told_with_the_nearest(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    error = refused(capsys, "train", str(photos), "--family", "flow_maching", "--out", out)
    assert "Did you mean 'flow_matching'?" in error
    assert "morphogen list families" in error


@pytest.mark.parametrize(
    ("setting", "suggestion"),
    [
        ("backbone.model_dimm=8", "'model_dim'"),
        ("train.batchsize=8", "'batch_size'"),
        ("famly.cond_dim=8", "family"),
        ("train.lr", "table.option=value"),
        ("train.lr=fast", "float"),
        ("train.budget=soon", "90s, 10m"),
    ],
)
def test_a_bad_setting_is_told(
    setting: str, suggestion: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    error = refused(capsys, "train", str(photos), "--set", setting, "--out", str(out))
    assert suggestion in error


def test_a_misspelt_recipe_is_told(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = tmp_path / "recipe.toml", str(tmp_path / "out")
    for text, suggestion in (
        ("[famly]\nname = 'vae'", "'family'"),
        ("[family]\nname = 'vae'\nlatent_dimm = 3", "'latent_dim'"),
        ("[family\n", "TOML"),
    ):
        recipe.write_text(text)
        error = refused(capsys, "train", str(photos), "--recipe", str(recipe), "--out", out)
        assert suggestion in error
    error = refused(capsys, "train", str(photos), "--recipe", str(tmp_path / "none.toml"))
    assert "none.toml" in error


def test_data_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for source in (empty, tmp_path / "nowhere"):
        for verb in (["inspect"], ["train", "--out", str(tmp_path / "out")]):
            assert source.name in refused(capsys, verb[0], str(source), *verb[1:])
    assert "no data" in refused(capsys, "train", "--out", str(tmp_path / "out"))


def test_an_unwritable_folder_is_told(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    error = refused(capsys, "train", str(photos), "--out", str(file / "model"), *TINY)
    assert "--out" in error


def test_a_folder_with_a_run_is_not_overwritten(
    photos: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (bundle / "model.safetensors").read_bytes()
    error = refused(capsys, "train", str(photos), "--out", str(bundle), *TINY)
    assert "already holds a run" in error
    assert (bundle / "model.safetensors").read_bytes() == before


def test_what_is_no_bundle_is_told(
    photos: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("sample", "tasks", "evaluate", "show", "cite"):
        assert "no bundle here" in refused(capsys, verb, str(photos))
    assert "Did you mean" in refused(capsys, "task", "interpolat", str(bundle))
    assert "no option" in refused(capsys, "task", "generate", str(bundle), "--set", "nmu=3")
    assert "name=value" in refused(capsys, "sample", str(bundle), "--cond", "dark")
    out = ("--out", str(tmp_path / "x.png"))
    for wrong in (["--label", "drak"], ["--cond", "lable=dark"]):
        error = refused(capsys, "sample", str(bundle), "-n", "2", *wrong, *out)
        assert wrong[1].partition("=")[0] in error


def test_words_where_a_file_is_expected_are_told_where_they_go(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = refused(capsys, "task", "score", "nowhere", "To be, or not to be")
    assert "--text 'To be, or not to be'" in error
