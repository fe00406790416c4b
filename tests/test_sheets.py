"""Sheets of samples while a run trains, and what a run does besides its steps."""

from __future__ import annotations

from pathlib import Path

import torch

from morphogen.data.progress import Progress, listening, told
from morphogen.training.aside import Aside
from morphogen.training.run import prepare
from morphogen.training.sheets import ITEMS, TEXTS

torch.set_num_threads(1)

SMALL = [
    "backbone.model_dim=16", "backbone.num_layers=1", "backbone.ngram_slots=16",
    "modality.tokenizer=byte", "modality.length=64", "train.batch_size=4", "train.num_previews=3",
]  # fmt: skip


def test_a_short_run_draws_few_and_short_texts(tmp_path: Path) -> None:
    source = tmp_path / "cats.txt"
    source.write_text("".join(f"The cat number {i} sat. " for i in range(200)))
    held = prepare(source, "autoregressive", settings=SMALL, budget="8steps", out=tmp_path / "a")
    run, bundle = held.run, held.bundle()
    few = held.sheets.drawn(bundle)
    assert few is not None
    assert few.x is None  # no items to be measured
    assert len(few.items) == TEXTS
    assert max(len(text.encode("utf-8", "surrogateescape")) for text in few.items) <= 32
    assert few.save(tmp_path / "few.txt").stat().st_size > 0
    run.state.step = 10**6  # as long as the run, as long as what it draws
    many = held.sheets.drawn(bundle)
    assert many is not None
    assert many.x.shape == (ITEMS, 64)


def test_sheets_are_due_where_points_were_passed(tmp_path: Path) -> None:
    source = tmp_path / "cats.txt"
    source.write_text("".join(f"The cat number {i} sat. " for i in range(200)))
    held = prepare(source, "autoregressive", settings=SMALL, budget="8steps", out=tmp_path / "a")
    sheets, state = held.sheets, held.run.state
    found = []
    for progress in (0.0, 0.1, 0.2, 0.3, 0.7, 1.0):
        state.progress, state.step = progress, int(8 * progress)
        found.append((sheets.is_due(), sheets.is_last))
    assert [due for due, _ in found] == [False, False, True, False, True, False]
    assert [last for _, last in found] == [False] * 5 + [True]


def test_what_is_done_besides_steps_is_told_at_the_end() -> None:
    aside, heard = Aside(), list[Progress]()
    with aside.doing("proof"), listening(heard.append):
        assert list(told([1, 2], "proving:", 2, "windows")) == [1, 2]
    assert set(aside.seconds) == {"proof"}
    assert aside.text() is None  # nobody waited
    aside.seconds = {"proof": 3.2, "forecast": 71.0, "writing": 0.1}
    assert aside.text() == "besides its steps: 1m14s (proof 3s, forecast 1m11s)"
