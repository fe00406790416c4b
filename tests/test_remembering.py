"""A memory: what is recalled, what held when, and that what is forgotten is gone."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("cryptography")
pytest.importorskip("snowballstemmer")

from morphogen.core.errors import BundleError, DataError
from morphogen.systems.memory.drawing import draw, svg
from morphogen.systems.memory.memory import Memory
from morphogen.systems.memory.note import Relation, when
from morphogen.systems.memory.proof import looked_for, marks_of
from morphogen.systems.memory.session import Session

DAY = 86_400.0
NOW = 1_770_000_000.0


class Clock:
    """What time it is."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(tmp_path: Path, clock: Clock) -> Iterator[Memory]:
    made = Memory.make(tmp_path / "memory", clock=clock)
    yield made
    made.close()


def again(memory: Memory) -> Memory:
    memory.close()
    return Memory.open(memory.store.folder, clock=memory.clock)


def lives(name: str, place: str, since: str | None = None, until: str | None = None) -> Any:
    return {"subject": name, "relation": "lives in", "object": place, "since": since,
            "until": until}  # fmt: skip


# -- recall --------------------------------------------------------------------------------------


def test_notes_are_recalled_by_what_they_are_about_and_how_fresh_they_are(
    memory: Memory, clock: Clock
) -> None:
    old = memory.remember("The boiler was repaired by Ms Berg.", source="Ann")
    memory.remember("The garden is watered on Mondays.", source="Ann")
    clock.now += 300 * DAY
    new = memory.remember("The boiler was repaired by Mr Dahl.", source="Ann")
    found = memory.recall("Who repaired the boiler?")
    assert [each.note.id for each in found] == [new.id, old.id]
    assert found[0].recency == 1.0
    assert found[1].recency == pytest.approx(2**-10)
    assert memory.recall("boiler", num=1)[0].note == new
    assert [each.note for each in memory.recall("boiler repaired", at=NOW + DAY)] == [old]
    assert memory.recall("elephants") == []
    assert memory.recall(" ") == []
    assert found[0].text.endswith("Ann: The boiler was repaired by Mr Dahl.")
    kept = again(memory)
    assert [each.note for each in kept.recall("Who repaired the boiler?")] == [new, old]
    kept.close()


def test_evidence_is_found_among_many_notes(memory: Memory) -> None:
    """Each of 60 facts is asked for in other words of its own, among all the others."""
    names = [
        f"{a}{b}"
        for a in ("Anders", "Berit", "Carl", "Dagny", "Egil", "Frida")
        for b in ("sen", "strand", "vik", "dal", "berg", "mo", "lund", "nes", "heim", "by")
    ]
    for number, name in enumerate(names):
        memory.remember(f"{name} keeps the key of room {300 + number}.", source="list")
    asked = [(f"Which room's key does {name} have?", str(300 + i)) for i, name in enumerate(names)]
    hits = [memory.recall(question, num=1)[0].note.text for question, _ in asked]
    assert sum(room in text for text, (_, room) in zip(hits, asked, strict=True)) == len(names)


def test_a_note_says_something_and_stands_on_something(memory: Memory) -> None:
    for text in ("", "  ", "x" * 30_000):
        with pytest.raises(DataError, match="says something"):
            memory.remember(text, source="Ann")
    with pytest.raises(DataError, match="stands on notes"):
        memory.remember("All is well.", source="summary", kind="summary", of=["nothing"])
    with pytest.raises(DataError, match="no such note"):
        memory.forget("nothing")
    with pytest.raises(DataError, match="no relation"):
        memory.remember("a", source="Ann", relations=[{"subject": "Ann"}])
    with pytest.raises(DataError, match="no date"):
        memory.remember("a", source="Ann", expires="soon")
    assert len(memory) == 0


# -- states --------------------------------------------------------------------------------------


def test_what_held_when(memory: Memory) -> None:
    said = memory.remember
    said("Ann lives in Bonn.", source="Ann", relations=[lives("Ann", "Bonn")])
    moved = said("Ann moved to Oslo in March.", source="Ann",
                 relations=[lives("Ann", "Oslo", "2025-03-01")])  # fmt: skip
    said("Ann was in Rome for the summer.", source="Ann",
         relations=[lives("Ann", "Rome", "2025-06-01", "2025-09-01")])  # fmt: skip
    place = lambda at=None: memory.state("ann", "LIVES IN", at=at)  # noqa: E731
    assert place("2024-01-01") == "Bonn"
    assert place("2025-04-01") == "Oslo"
    assert place("2025-07-01") == "Rome"
    assert place() is None  # Rome has ended, and nobody said what came then
    assert memory.state("Bob", "lives in") is None
    memory.forget(moved.id)
    assert place("2025-04-01") == "Bonn"
    kept = again(memory)
    assert kept.state("Ann", "lives in", at="2025-07-01") == "Rome"
    assert kept.graph().entities == ["Ann", "Bonn", "Rome"]
    kept.close()


def test_states_are_those_of_a_history_that_is_known(tmp_path: Path, clock: Clock) -> None:
    """Random facts, updates and deletions, against a list that is searched by hand."""
    draw_ = random.Random(0)
    memory = Memory.make(tmp_path / "memory", clock=clock)
    truth: list[tuple[str, str, str, float]] = []  # id, who, where, since
    for _ in range(40):
        clock.now += 1
        who, where = draw_.choice("ABC"), draw_.choice(["Bonn", "Oslo", "Rome", "Lima"])
        since = NOW - draw_.randint(0, 1000) * DAY
        if truth and draw_.random() < 0.25:
            gone = truth.pop(draw_.randrange(len(truth)))
            assert memory.forget(gone[0]).holds
            continue
        relation = Relation(who, "lives in", where, since)
        note = memory.remember(f"{who}: {where}", source="test", relations=[relation])
        truth.append((note.id, who, where, since))
    for who in "ABC":
        for at in [NOW - draw_.randint(0, 1000) * DAY for _ in range(30)]:
            before = [(since, i, where) for i, (_, name, where, since) in enumerate(truth)
                      if name == who and since <= at]  # fmt: skip
            expected = max(before)[2] if before else None
            assert memory.state(who, "lives in", at=at) == expected
    memory.close()


def test_times_as_people_write_them() -> None:
    assert when("1970-01-02") == DAY
    assert when("1970-01-01T01:00:00+01:00") == 0
    assert when(12) == 12.0
    assert when(None) is when("") is None


def test_the_graph_is_asked_and_drawn(memory: Memory, tmp_path: Path) -> None:
    told = [("Ann", "works for", "Acme"), ("Acme", "is in", "Oslo"), ("Bob", "knows", "Ann"),
            ("<b>", "is", "R&D")]  # fmt: skip
    for subject, relation, thing in told:
        memory.remember(
            f"{subject} {relation} {thing}.",
            source="test",
            relations=[{"subject": subject, "relation": relation, "object": thing}],
        )
    graph = memory.graph()
    assert [edge.relation.relation for edge in graph.about("Ann")] == ["works for", "knows"]
    way = graph.path("bob", "oslo")
    assert [edge.relation.relation for edge in way] == ["knows", "works for", "is in"]
    assert all(edge.note.id in memory.notes for edge in way)
    assert graph.path("Bob", "R&D") == []
    assert [note.text for note in graph.mentions("acme")] == [
        "Ann works for Acme.", "Acme is in Oslo.",
    ]  # fmt: skip
    picture = draw(graph, tmp_path / "graph.svg")
    drawn = ElementTree.parse(picture)
    words = [each.text for each in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Ann", "Acme", "Oslo", "Bob", "<b>", "R&D", "works for"} <= set(words)
    assert svg(memory.graph()) == picture.read_text()
    assert len(list(ElementTree.fromstring(svg(graph, at=NOW)))) > 5


# -- forgetting ----------------------------------------------------------------------------------

SECRET = "The violet heron nests behind locker 7731 in Trondheim."


def everywhere(folder: Path) -> bytes:
    return b"".join(f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file())


def test_what_is_forgotten_is_nowhere(memory: Memory, tmp_path: Path) -> None:
    folder = memory.store.folder
    for number in range(30):
        memory.remember(f"Note {number} on boats.", source="test")
    note = memory.remember(SECRET, source="Ann", relations=[lives("heron", "Trondheim")])
    key = memory.store.key(note.id)
    assert key is not None
    assert key in everywhere(folder)
    for word in (b"heron", b"7731", b"Trondheim", b"boats"):
        assert word not in everywhere(folder)  # sealed, before anything is forgotten
    backup = memory.backup(tmp_path / "backup.sqlite")
    export = memory.export(tmp_path / "notes.jsonl")
    trace = tmp_path / "runs.jsonl"
    trace.write_text(json.dumps({"step": "returned", "text": SECRET}))
    memory.held_by(trace, [note.id])
    summary = memory.summarise([note.id, next(iter(memory.notes))])
    assert b"heron" in export.read_bytes()
    before = everywhere(folder)
    proof = memory.forget(note.id)
    assert proof.holds, proof
    assert proof.forgotten == (note.id, summary.id)  # what stood on it is gone with it
    assert str(export) in proof.removed
    assert len(export.read_text().splitlines()) == 30
    assert not trace.exists()
    assert {"notes.sqlite", "keys.sqlite", "backup.sqlite", "notes.jsonl"} <= {
        Path(each).name for each in proof.looked
    }
    for word in (b"heron", b"7731", b"Trondheim", key):
        assert word not in everywhere(tmp_path)
    assert memory.recall("violet heron locker") == []
    assert memory.graph().entities == []
    # Neither is it in a copy that was made before, though its bytes are all there.
    kept = again(memory)
    assert kept.restore(backup) == 0
    (folder / "notes.sqlite").write_bytes(b"")
    assert before != everywhere(folder)
    kept.close()


def test_a_copy_that_is_not_where_it_was_is_told(memory: Memory, tmp_path: Path) -> None:
    note = memory.remember(SECRET, source="Ann")
    export = memory.export(tmp_path / "notes.jsonl")
    moved = export.rename(tmp_path / "elsewhere.jsonl")
    proof = memory.forget(note.id)
    assert not proof.holds
    assert proof.unreached == (str(export),)
    assert "look yourself" in proof.text()
    assert moved.exists()


def test_what_is_left_is_found(memory: Memory, tmp_path: Path) -> None:
    """The proof can fail: words that stand in the folder in any of their forms are seen."""
    note = memory.remember("He said \u201chello\u201d & left at <noon>.", source="Ann")
    marks = marks_of(note, [])
    for number, text in enumerate(
        (note.text, json.dumps(note.text), "said \u201chello\u201d &amp; le")
    ):
        file = tmp_path / f"{number}.txt"
        file.write_bytes(b"x" * 1000 + text.encode())
        assert looked_for(marks, [file])[1] == [str(file)]
    wide = tmp_path / "wide"
    wide.write_bytes(note.text.encode("utf-16-le"))
    assert looked_for(marks, [wide])[1] == [str(wide)]
    (memory.store.folder / "left.txt").write_text(note.text)
    proof = memory.forget(note.id)
    assert not proof.holds
    assert [Path(each).name for each in proof.found] == ["left.txt"]


def test_a_note_that_is_corrected_leaves_nothing_of_what_it_said(memory: Memory) -> None:
    note = memory.remember("The code of the door is 8812 now.", source="Ann")
    other = memory.remember("The door is green.", source="Ann")
    summary = memory.summarise([note.id, other.id])
    assert summary.of == (note.id, other.id)
    assert "8812" in summary.text
    old = memory.store.key(note.id)
    memory.correct(note.id, "The code of the door is 9934 now.")
    assert memory.store.key(note.id) != old
    assert summary.id not in memory.notes
    assert [each.note.text for each in memory.recall("code of the door", num=1)] == [
        "The code of the door is 9934 now."
    ]
    assert old is not None
    assert old not in everywhere(memory.store.folder)


def test_notes_go_on_their_date(memory: Memory, clock: Clock) -> None:
    memory.remember("The guest is called Iris.", source="Ann", expires=NOW + DAY)
    assert memory.recall("guest Iris")
    clock.now += DAY
    assert memory.recall("guest Iris") == []
    kept = again(memory)
    assert len(kept) == 0
    kept.close()


def test_a_memory_that_was_changed_or_is_none_is_told(memory: Memory, tmp_path: Path) -> None:
    first = memory.remember("One thing.", source="Ann")
    second = memory.remember("Another thing.", source="Ann")
    with memory.store.notes as base:
        swapped = "update notes set note = (select note from notes where id = ?) where id = ?"
        base.execute(swapped, (first.id, second.id))
    with pytest.raises(BundleError, match="was changed"):
        again(memory)
    with pytest.raises(BundleError, match="no memory here"):
        Memory.open(tmp_path / "nothing")
    (tmp_path / "noise").write_bytes(b"SQLite is what this is not" * 100)
    with pytest.raises(BundleError, match="cannot be read"):
        Memory.make(tmp_path / "third").restore(tmp_path / "noise")
    with pytest.raises(BundleError, match="no backup"):
        Memory.make(tmp_path / "other").restore(tmp_path / "nothing")


def test_a_backup_brings_back_what_was_lost_by_accident(memory: Memory, tmp_path: Path) -> None:
    kept = memory.remember("The boat is blue.", source="Ann")
    lost = memory.remember("The boat is fast.", source="Ann")
    backup = memory.backup(tmp_path / "backup.sqlite")
    memory.close()
    with sqlite3.connect(memory.store.folder / "notes.sqlite") as base:
        base.execute("delete from notes where id = ?", (lost.id,))
    base.close()
    opened = Memory.open(memory.store.folder, clock=memory.clock)
    assert list(opened.notes) == [kept.id]
    assert opened.restore(backup) == 1
    assert {each.note.id for each in opened.recall("boat")} == {kept.id, lost.id}
    assert Memory.make(tmp_path / "other").restore(backup) == 0  # of use to nobody else
    opened.close()


# -- sessions ------------------------------------------------------------------------------------


def test_what_no_longer_fits_is_summed_up_and_can_be_looked_up() -> None:
    session = Session(most=140)
    for number in range(6):
        session.add(f"Question {number} is about boats. And more.", f"Answer {number}." * 3)
    shown = session.messages()
    assert shown[0].content.startswith("Earlier (turns 1 to 4): Question 0 is about boats.")
    assert [m.content for m in shown[2::2]] == [turn.asked for turn in session.turns[4:]]
    told = session.summary(range(4))
    assert told.of == (0, 1, 2, 3)
    assert all(session.turns[i].asked.partition(".")[0] in told.text for i in told.of)
    assert session.tainted is None
    session.add("And?", "It says so.", "a page")
    assert session.tainted == "a page"
    written: Callable[[str, str], str] = lambda rules, turns: f"{len(turns) > 0}"  # noqa: E731
    assert Session(write=written).messages() == []
