"""Many items are drawn and written part by part: the same ones, in little memory, never mixed."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from torch import Tensor

import morphogen as mg
from morphogen.cli.app import main
from morphogen.core import drawing
from morphogen.core.bundle import SAMPLE_BATCH
from morphogen.core.drawing import Drawing
from morphogen.core.errors import MorphogenError
from morphogen.core.result import Result
from morphogen.training.run import prepare

NUM = 2 * SAMPLE_BATCH + 60


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> mg.Bundle:
    """A model of labelled pictures, as it is before training."""
    x = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    data = mg.Data.from_tensors(x, [10, 20, 30] * 10)
    tiny = ["backbone.model_dim=8", "backbone.num_layers=1"]
    session = prepare(data, "flow_matching", backbone="mlp", settings=tiny, dry=True)
    made = session.bundle()
    made.save(tmp_path_factory.mktemp("model"))
    return made


def draw(bundle: mg.Bundle, out: Path, num: int = NUM, **options: Any) -> Drawing:
    made = Drawing(bundle, num, out, num_steps=1, **options)
    assert [part.drawn for part in made][-1] == num
    return made


def test_the_parts_are_the_items_of_sample(bundle: mg.Bundle, tmp_path: Path) -> None:
    made = draw(bundle, tmp_path / "drawn", seed=3)
    whole = bundle.sample(NUM, seed=3, num_steps=1)
    files = sorted((tmp_path / "drawn").iterdir())
    assert [file.name for file in files] == [f"{number:05d}.png" for number in range(NUM)]
    for file, item in zip(files, whole.items, strict=True):
        assert np.array_equal(np.asarray(Pillow.open(file)), np.asarray(item))
    assert made.written == NUM
    assert all("morphogen" in Pillow.open(file).info for file in (files[0], files[-1]))
    assert made.needs is not None
    assert made.needs.disk_bytes == 4096 * NUM


def test_conditions_hold_in_every_part(bundle: mg.Bundle) -> None:
    parts = list(bundle.sample_parts(NUM, cond={"label": "20"}, num_steps=1))
    assert [len(part) for part in parts] == [SAMPLE_BATCH, SAMPLE_BATCH, 60]
    assert {label for part in parts for label in part.values["label"]} == {"20"}


def test_a_file_that_would_be_too_large_becomes_several(
    bundle: mg.Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "FILE_ITEMS", 300)
    made = draw(bundle, tmp_path / "a.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-000.png", "a-300.png"]
    assert made.path == tmp_path / "a-300.png"
    with pytest.raises(MorphogenError, match="drawn earlier"):
        draw(bundle, tmp_path / "a.png", num=301)
    draw(bundle, tmp_path / "a.png", num=300)
    assert (tmp_path / "a.png").is_file()


def test_no_part_is_kept(
    bundle: mg.Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Tensor]] = []
    real = bundle.sample_parts

    def watched(*given: Any, **options: Any) -> Iterator[Result]:
        for part in real(*given, **options):
            assert sum(ref() is not None for ref in alive) <= 1
            assert part.x is not None
            alive.append(weakref.ref(part.x))
            yield part

    monkeypatch.setattr(bundle, "sample_parts", watched)
    draw(bundle, tmp_path / "drawn", num=NUM + SAMPLE_BATCH)
    assert len(alive) == 4


@pytest.mark.parametrize("name", ["drawn", "drawn.png"])
def test_what_was_drawn_before_ctrl_c_is_written(
    name: str, bundle: mg.Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bundle.sample_parts

    def interrupted(*given: Any, **options: Any) -> Iterator[Result]:
        yield from list(real(*given, **options))[:2]
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle, "sample_parts", interrupted)
    made = Drawing(bundle, NUM, tmp_path / name, num_steps=1)
    with pytest.raises(KeyboardInterrupt):
        list(made)
    assert made.written == 2 * SAMPLE_BATCH
    assert made.path.exists()
    if made.is_folder:
        assert len(list(made.path.iterdir())) == made.written


def test_what_was_drawn_is_written_when_nobody_asks_for_more(
    bundle: mg.Bundle, tmp_path: Path
) -> None:
    made = Drawing(bundle, NUM, tmp_path / "a.png", num_steps=1)
    parts = iter(made)
    next(parts)
    assert (made.drawn, made.written) == (SAMPLE_BATCH, 0)
    parts.close()
    assert made.written == SAMPLE_BATCH
    assert made.path == tmp_path / "a-000.png"


def test_a_folder_with_something_in_it_is_left_alone(bundle: mg.Bundle, tmp_path: Path) -> None:
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / ".00000.png.abcdefgh.partial").touch()  # of a process that was killed
    draw(bundle, tmp_path / "drawn", num=3)
    before = {path.name: path.read_bytes() for path in (tmp_path / "drawn").iterdir()}
    assert len(before) == 3
    for again in (
        lambda: draw(bundle, tmp_path / "drawn", num=2),
        lambda: bundle.sample(2, num_steps=1).save(tmp_path / "drawn"),
    ):
        with pytest.raises(MorphogenError, match="not mixed") as raised:
            again()
        assert raised.value.found == "00000.png and 2 more"
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "drawn").iterdir()}


def test_what_the_disk_cannot_hold_is_refused_with_numbers(
    bundle: mg.Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any, **options: Any) -> Iterator[Result]:
        raise AssertionError("it was drawn")

    usage = type(drawing.shutil.disk_usage(tmp_path))(10**9, 10**9 - 300_000, 300_000)
    monkeypatch.setattr(drawing.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(MorphogenError, match="not enough disk space") as raised:
        draw(bundle, tmp_path / "a.png", num=19_000)  # known from what a sheet of 25 takes
    assert raised.value.found == "300 kB free"
    with monkeypatch.context() as patch:
        patch.setattr(bundle, "sample_parts", refuse)
        for out, num, needed in (("drawn", 100, "410 kB"), ("a.png", 100_000_000, "1.6 GB")):
            with pytest.raises(MorphogenError, match="not enough disk space") as raised:
                draw(bundle, tmp_path / out, num=num)
            assert raised.value.expected == f"{needed} for {num:,} items"
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_it_needs_and_what_it_leaves(
    bundle: mg.Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    arguments = ["sample", str(bundle.path), "-n", str(NUM), "--set", "num_steps=1", "--out"]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, str(tmp_path / "drawn")])
    assert not stop.value.code
    said = capsys.readouterr().out
    assert f"{NUM} items: about " in said
    assert said.splitlines()[-1] == f"{NUM} items (sample) in {tmp_path / 'drawn'}"

    real = mg.Bundle.sample_parts

    def interrupted(*given: Any, **options: Any) -> Iterator[Result]:
        yield next(real(*given, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(mg.Bundle, "sample_parts", interrupted)
    with pytest.raises(SystemExit) as stop:
        main([*arguments, str(tmp_path / "more")])
    assert stop.value.code == 130
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == f"stopped: {SAMPLE_BATCH} of {NUM} items in {tmp_path / 'more'}"
    assert len(list((tmp_path / "more").iterdir())) == SAMPLE_BATCH


def test_a_name_is_no_index_where_names_are_numbers(
    bundle: mg.Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sample", str(bundle.path), "-n", "2", "--set", "num_steps=1", "--out"]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, str(tmp_path / "one"), "--label", "1"])
    assert stop.value.code == 1
    assert "10, 20, 30" in capsys.readouterr().err
    assert not (tmp_path / "one").exists()
    with pytest.raises(SystemExit) as stop:
        main([*arguments, str(tmp_path / "ten"), "--label=10"])
    assert not stop.value.code
