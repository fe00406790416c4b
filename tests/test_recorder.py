"""Writes of many at once: in order, together, and each on its own account."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import event

from morphogen.core.errors import RecordsError
from morphogen.records import open as records_at
from morphogen.serve.recorded import parameters_of, words_of
from morphogen.serve.recorder import Recorder


def test_what_comes_meanwhile_is_one_transaction(tmp_path: Path) -> None:
    with records_at(tmp_path / "records.db", key=bytes(32)) as records:
        begun: list[str] = []
        event.listen(records.database.engine, "commit", lambda _: begun.append(""))
        recorder, generations = Recorder(records.database), records.generations
        first = recorder.write(partial(generations.start, "a", model="m", task="chat", uid="u0"))
        others = [
            recorder.write(
                partial(generations.start, f"text {i}", model="m", task="chat", uid=f"u{i}")
            )
            for i in range(1, 40)
        ]
        ends = [recorder.write(partial(generations.finish, f"u{i}", f"b {i}")) for i in range(40)]
        assert first.result() == "u0"
        assert [each.result() for each in others] == [f"u{i}" for i in range(1, 40)]
        assert [each.result() for each in ends] == [None] * 40
        recorder.close()
        assert len(begun) < 20
        assert {records.generations.get(f"u{i}").state for i in range(40)} == {"finished"}


def test_what_cannot_be_written_is_told_to_who_asked_and_no_other(tmp_path: Path) -> None:
    with records_at(tmp_path / "records.db", key=bytes(32)) as records:
        recorder, generations = Recorder(records.database), records.generations
        writes = [
            recorder.write(partial(generations.start, "a", model="m", task="chat", uid="one")),
            recorder.write(partial(generations.finish, "nobody", "b")),
            recorder.write(partial(generations.start, "a", model="m", task="chat", uid="two")),
            recorder.write(partial(generations.finish, "two", "b")),
        ]
        assert writes[0].result() == "one"
        with pytest.raises(RecordsError, match="no such generation"):
            writes[1].result()
        assert writes[3].result() is None
        recorder.close()
        states = [records.generations.get(uid).state for uid in ("one", "two")]
        assert states == ["started", "finished"]


def test_a_locked_database_is_told_to_all_and_what_comes_later_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("morphogen.records.database.PATIENCE", 0.2)
    with (
        records_at(tmp_path / "records.db", key=bytes(32)) as other,
        records_at(tmp_path / "records.db", key=bytes(32)) as records,
    ):
        recorder = Recorder(records.database)
        start = partial(records.generations.start, "a", model="m", task="chat")
        with other.database.write() as session:
            session.connection()  # which begins it
            writes = [recorder.write(partial(start, uid=f"u{i}")) for i in range(9)]
            for write in writes:
                with pytest.raises(RecordsError, match="in use"):
                    write.result()
        assert recorder.write(partial(start, uid="later")).result() == "later"
        recorder.close()


def test_what_a_condition_shows_is_not_recorded_and_what_it_says_is_the_prompt() -> None:
    cond = {"image": {"file": "AAAA", "suffix": ".png"}, "caption": "a fox", "label": "three"}
    work = {"do": "generate", "seed": 1, "cond": cond, "options": {"num": 2}}
    kept = {"caption": "a fox", "label": "three", "image": "a file (.png)"}
    assert parameters_of(work) == {"cond": kept, "options": {"num": 2}}
    about = {"conditions": {"image": "image", "caption": "text", "label": ["three", "four"]}}
    assert words_of(cond, about) == "a fox"
    assert words_of({}, {}) == ""
