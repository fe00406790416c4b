"""Texts, tables, molecules and series through every verb, as a user types them; and one more
modality of one file."""

from __future__ import annotations

import csv
import json
import math
import random
import shutil
from pathlib import Path

import pytest

from morphogen.cli.app import main
from sources.molecule import OWN, molecules

QUICK = ("--budget", "4steps", "--set", "backbone.model_dim=8", "--set", "train.num_previews=1")
KINDS = ("text", "table", "molecule")
PLACES = ["harbour", "market", "station", "garden", "library", "bridge", "museum", "bakery"]
GOOD = ["bright", "warm", "quiet", "lovely", "clean"]
DAYS = ["Today", "Yesterday", "Sunday", "Monday", "Friday", "Once"]
BAD = ["noisy", "dusty", "cold", "broken", "crowded"]


def run(*arguments: str) -> object:
    """Run a command; return its exit code."""
    try:
        main(list(arguments))
    except SystemExit as stop:
        return stop.code
    return 0


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must succeed; return what it printed."""
    code = run(*arguments)
    printed = capsys.readouterr()
    assert not code, printed.out + printed.err
    return printed.out


def write_texts(folder: Path) -> Path:
    """Reviews with a label, JSON lines."""
    draw = random.Random(0)
    path = folder / "reviews.jsonl"
    with path.open("w") as file:
        for i in range(150):
            label = ("good", "bad")[i % 2]
            words = GOOD if label == "good" else BAD
            place, hour = draw.choice(PLACES), draw.randint(1, 12)
            text = f"{draw.choice(DAYS)} the {place} was {draw.choice(words)} at {hour}."
            row = {"text": text, "label": label, "source": ("web", "letter")[i % 3 == 0]}
            file.write(json.dumps(row) + "\n")
    return path


def write_table(folder: Path) -> Path:
    """Sales with numbers, categories, dates, missing cells and a label."""
    draw = random.Random(0)
    path = folder / "sales.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["order", "city", "weight", "price", "day", "returned", "label"])
        for i in range(150):
            label = ("retail", "trade")[i % 2]
            weight = draw.randint(1, 40) * (1 + i % 2)
            price = "" if i % 10 == 0 else round(weight * 1.7 + draw.random(), 2)
            day = f"2024-{draw.randint(1, 12):02d}-{draw.randint(1, 28):02d}"
            city, returned = draw.choice(["Porto", "Lima", "Oslo"]), draw.choice(["yes", "no"])
            rows.writerow([f"A{i:05d}", city, weight, price, day, returned, label])
    return path


def write_molecules(folder: Path) -> Path:
    """A column of SMILES, with a label."""
    path = folder / "molecules.csv"
    made = molecules(150 + len(OWN))[len(OWN) :]  # of atoms that come often
    rows = [f"{each},{('acid', 'base')[i % 2]}\n" for i, each in enumerate(made)]
    path.write_text("smiles,label\n" + "".join(rows))
    return path


WRITE = {"text": write_texts, "table": write_table, "molecule": write_molecules}


@pytest.fixture(scope="module", params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of each kind, alone in a folder."""
    folder = tmp_path_factory.mktemp(request.param)
    return WRITE[request.param](folder)


@pytest.fixture(scope="module")
def bundle(source: Path) -> Path:
    """A model of it, trained by the command itself."""
    out = source.parent / "models" / "first"
    assert not run("train", str(source), "--family", "autoregressive", "--out", str(out), *QUICK)
    return out


FAMILIES = {
    "text": (
        "vae", "autoencoder", "supervised", "autoencoder+flow_matching", "vae+gan",
    ),
    "table": (
        "vae", "autoencoder", "flow_matching", "diffusion", "gan", "rbm", "supervised",
    ),
    "molecule": ("vae", "masked", "supervised"),
}  # fmt: skip


def kind(source: Path) -> str:
    return {"reviews": "text", "sales": "table", "molecules": "molecule"}[source.stem]


WRITTEN = {"text": ".txt", "table": ".csv", "molecule": ".smi"}  # what sampling makes
UNITS = {"text": "byte", "table": "column", "molecule": "atom"}
DRAWN_FOR = {"text": "bad", "table": "trade", "molecule": "acid"}  # a class of each
SHOWN = {"text": "<pre", "table": "<th", "molecule": "<svg"}  # on a page


def run_tasks(source: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Every task that applies, on the first few items of the source; their names."""
    some = source.parent / f"some{source.suffix}"
    some.write_text("\n".join(source.read_text().splitlines()[:4]) + "\n")
    reasons = json.loads(said(capsys, "tasks", str(bundle), "--json"))
    applies = [name for name, reason in reasons.items() if reason is None]
    for name in applies:
        suffix = ".json" if name == "recommend" else WRITTEN[kind(source)]
        inputs = [] if name == "generate" else [str(some)]
        out = source.parent / f"{bundle.name}-{name}{suffix}"
        if name == "fill":
            inputs += ["--set", "mask=random:0.5"]
        found = said(capsys, "task", name, str(bundle), *inputs, "--out", str(out), "--json")
        assert json.loads(found)["route"]
    return applies


def test_data_verbs(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, "inspect", str(source))
    assert kind(source) in told
    assert "150" in told
    found = json.loads(said(capsys, "data", "check", str(source), "--json"))
    assert found["error"] is None
    assert found["next_command"] in told  # of one source, one way on
    assert "150 items" in said(capsys, "data", "dedupe", str(source))
    assert "train" in said(capsys, "data", "split", str(source), "--dry-run")
    folder = source.parent / "kept"
    folder.mkdir()
    copy = folder / source.name
    shutil.copy(source, copy)
    first = json.loads(said(capsys, "data", "snapshot", str(folder), "--json"))
    with copy.open("a") as file:
        file.write(source.read_text().splitlines()[-1] + "\n")
    assert source.name in said(capsys, "data", "diff", first["id"], str(folder))


@pytest.mark.parametrize("number", range(7))
def test_families(source: Path, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    every = FAMILIES[kind(source)]
    if number >= len(every):
        pytest.skip("fewer families")
    out = source.parent / "models" / every[number].replace("+", "-")
    view = ("--set", "modality.view=graph") if kind(source) == "molecule" else ()
    command = ("train", str(source), "--family", every[number], "--out", str(out))
    said(capsys, *command, *view, *QUICK)
    if every[number] != "supervised":
        suffix = WRITTEN[kind(source)]
        drawn = source.parent / f"{every[number]}{suffix}"
        said(capsys, "sample", str(out), "-n", "5", "--out", str(drawn))
        assert drawn.stat().st_size > 0
    if every[number] == "vae":
        assert {"reconstruct", "interpolate", "embed"} <= set(run_tasks(source, out, capsys))


def test_model_verbs(source: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suffix, label = WRITTEN[kind(source)], DRAWN_FOR[kind(source)]
    drawn = source.parent / f"drawn{suffix}"
    said(capsys, "sample", str(bundle), "-n", "6", "--out", str(drawn), "--label", label)
    text = drawn.read_text(errors="replace")
    marks = {".txt": text.count("\u2500\u2500 "), ".csv": len(text.splitlines()) - 1}
    assert marks.get(suffix, len(text.split("\n")) - 1) == 6
    assert {"generate", "classify", "fill", "anomaly"} <= set(run_tasks(source, bundle, capsys))
    if suffix == ".txt":
        write_here(bundle, source.parent, capsys)
    assert "@" in said(capsys, "cite", str(bundle))
    assert said(capsys, "card", str(bundle))
    assert (bundle / "README.md").stat().st_size > 500
    assert "autoregressive" in said(capsys, "show", str(bundle))
    assert said(capsys, "reproduce", str(bundle))


def write_here(bundle: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A text goes on, on the terminal and under a schema, and is explained."""
    options = ("--set", "most=12")
    told = said(capsys, "sample", str(bundle), "--stream", "--prompt", "Today ", *options)
    assert told.startswith("Today ")
    kept = folder / "kept.txt"
    said(
        capsys,
        "sample",
        str(bundle),
        "--stream",
        "--prompt",
        "Today ",
        *options,
        "--out",
        str(kept),
    )
    assert kept.read_text(errors="replace").startswith(told[:7])
    schema = '{"type": "array", "items": {"type": "boolean"}, "maxItems": 2}'
    written = said(capsys, "task", "complete", str(bundle), "--prompt", "", "--schema", schema)
    assert isinstance(json.loads(written), list)
    page = folder / "page.html"
    said(capsys, "explain", str(bundle), "Today it was", "--out", str(page))
    assert "attention of layer 1" in page.read_text()
    assert run("sample", str(bundle), "--prompt", "Today ") == 1
    assert "--stream" in capsys.readouterr().err


def test_evaluate(source: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gate = source.parent / "gate.toml"
    unit = UNITS[kind(source)]
    gate.write_text(f"[bits_per_{unit}]\nat_most = 1000.0\n")
    told = said(capsys, "evaluate", str(bundle), "--num", "40", "--gate", str(gate))
    assert f"bits per {unit}" in told
    assert "copying:" in told
    page = (bundle / "evaluation.html").read_text()
    assert SHOWN[kind(source)] in page
    gate.write_text(f"[bits_per_{unit}]\nat_most = 0.001\n")
    assert run("evaluate", str(bundle), "--num", "40", "--gate", str(gate)) == 1
    assert "gate:" in capsys.readouterr().out
    packed = source.parent / "given.zip"
    assert said(capsys, "pack", str(bundle), "--out", str(packed))
    assert packed.stat().st_size > 1000


def test_compare(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The process of a run can read them; several families are compared in `test_compare.py`."""
    out = source.parent / "comparison"
    said(
        capsys, "compare", str(source), "--family=vae", "--budget", "3steps", "--seeds", "1",
        "--num", "20", "--out", str(out), "--set", "backbone.model_dim=8",
    )  # fmt: skip
    assert (out / "comparison.html").stat().st_size > 2000


# -- series: no labels, and everything comes after a past ----------------------------------------


def write_series(folder: Path) -> Path:
    """Load and heat of a plant by the hour."""
    draw = random.Random(0)
    path = folder / "plant.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["time", "load", "heat"])
        for i in range(180):
            wave = math.sin(2 * math.pi * i / 24)
            stamp = f"2024-01-{1 + i // 24:02d} {i % 24:02d}:00:00"
            load, heat = 50 + 20 * wave + draw.gauss(0, 2), 20 - 5 * wave + draw.gauss(0, 1)
            rows.writerow([stamp, round(load, 2), round(heat, 2)])
    return path


def test_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write_series(tmp_path), tmp_path / "models" / "first"
    size = ("--set", "modality.length=6", "--set", "modality.past=18")
    told = said(capsys, "inspect", str(source))
    assert "series" in told
    assert "by time" in told
    assert json.loads(said(capsys, "data", "check", str(source), "--json"))["error"] is None
    assert "items" in said(capsys, "data", "dedupe", str(source))
    assert "train" in said(capsys, "data", "split", str(source), "--dry-run")
    told = said(capsys, "train", str(source), "--out", str(out), *size, *QUICK)
    assert "flow_matching, as series data is usually learned" in told
    reasons = json.loads(said(capsys, "tasks", str(out), "--json"))
    applies = {name for name, reason in reasons.items() if reason is None}
    assert {"generate", "forecast", "fill", "anomaly", "changes", "vary"} <= applies
    some = tmp_path / "some.csv"
    some.write_text("\n".join(source.read_text().splitlines()[:40]) + "\n")
    for name in sorted(applies):
        inputs = [] if name == "generate" else [str(some)]
        page = tmp_path / f"{name}.html"
        whole = ["--set", "mask=center"] if name == "fill" else []  # no cell of it is empty
        call = ("task", name, str(out), *inputs, *whole, "--out", str(page), "--json")
        found = said(capsys, *call)
        assert json.loads(found)["route"]
    assert "<polygon" in (tmp_path / "forecast.html").read_text()
    drawn = tmp_path / "drawn.csv"
    said(capsys, "sample", str(out), "-n", "3", "--cond", f"past={source}", "--out", str(drawn))
    assert len(drawn.read_text().splitlines()) == 1 + 3 * 6
    told = said(capsys, "evaluate", str(out), "--num", "40")
    assert "crps" in told
    assert "copying:" in told
    assert "<polyline" in (out / "evaluation.html").read_text()
    assert said(capsys, "reproduce", str(out))


# -- one more modality, of one file -------------------------------------------------------------


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> str:
    """The plugin folder of the tests, which holds a modality of walks."""
    monkeypatch.setenv("MORPHOGEN_PLUGINS", str(Path(__file__).parent / "plugins"))
    return "toy_walk"


def test_one_more_modality_is_one_file(
    toy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from morphogen.core import discover
    from morphogen.testing import check_codec

    folder = tmp_path / "walks"
    draw = random.Random(0)
    for i in range(60):
        place = folder / ("near", "far")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        moves = "".join(draw.choice("NESW") for _ in range(draw.randint(3, 8) + 6 * (i % 2)))
        (place / f"{i:02d}.walk").write_text(moves + "\n")
    check_codec(discover.find("modality", toy), folder)
    out = tmp_path / "model"
    told = said(capsys, "train", str(folder), "--out", str(out), *QUICK)
    assert told.startswith("family: autoregressive, as toy_walk data is usually learned")
    drawn = str(tmp_path / "walks.html")
    said(capsys, "sample", str(out), "-n", "4", "--label", "near", "--out", drawn)
    said(capsys, "evaluate", str(out), "--num", "20")
    assert (out / "evaluation.html").is_file()


def test_one_more_condition_is_the_same_file(
    toy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A codec reads what is said of items of any other: a walk beside a text."""
    draw = random.Random(0)
    rows = [
        {"text": f"A walk of {draw.choice(PLACES)}s.", "walk": "".join(draw.choices("NESW", k=5))}
        for _ in range(40)
    ]
    source = tmp_path / "told.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "model"
    said(
        capsys, "train", str(source), "--modality", "text", "--family", "autoregressive",
        "--out", str(out), "--set", "modality.conditions=walk", *QUICK,
    )  # fmt: skip
    drawn = str(tmp_path / "drawn.txt")
    said(capsys, "sample", str(out), "-n", "2", "--cond", "walk=NNESW", "--out", drawn)
    config = json.loads((out / "config.json").read_text())
    assert config["codec"]["conditions"]["walk"]["name"] == toy
