"""Where items lie: what is read from each kind of place, and what hostile places cannot do."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from morphogen.core.codec import Report
from morphogen.core.errors import DataError
from morphogen.sources import Record, Wants, opened, recognise, records, survey

NOTES = Wants(
    "note",
    suffixes=frozenset({".note"}),
    sniff=lambda data: data.startswith(b"NOTE"),
    arrays=lambda shape, dtype: len(shape) == 2 and dtype.kind == "f",
    convert={".docx": "save it as .note"},
)
TEXTS = Wants("text", suffixes=frozenset({".txt"}), cell=lambda value: isinstance(value, str))
ROWS = Wants("row", rows=True)


def put(path: Path, text: str | bytes = b"NOTE") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read(source: Any, wants: Wants = NOTES) -> tuple[list[Record], Report]:
    report = Report(str(source))
    return list(records(source, wants, report)), report


def labels(found: list[Record]) -> dict[str, tuple[str | None, Any]]:
    return {record.name: (record.split, record.cond.get("label")) for record in found}


# -- memory ---------------------------------------------------------------------------------------


def test_a_list_of_texts_and_a_list_of_dicts() -> None:
    found, _ = read(["one", "two"], TEXTS)
    assert [record.value() for record in found] == ["one", "two"]
    rows = [{"text": "one", "label": 3, "split": "train"}, {"text": "two", "split": "test"}]
    found, _ = read(rows, TEXTS)
    assert [(r.value(), r.cond, r.split) for r in found] == [
        ("one", {"label": 3}, "train"),
        ("two", {}, "test"),
    ]
    found, _ = read(rows, ROWS)
    assert found[0].value() == {"text": "one", "label": 3}
    found, report = read(["one", 2], TEXTS)
    assert [problem.name for problem in report.skipped] == ["memory#1"]


def test_a_data_frame_and_a_dict_of_columns() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"size": [1.5, 2.5], "kind": ["a", "b"]})
    for source in (frame, {"size": [1.5, 2.5], "kind": ["a", "b"]}):
        found, _ = read(source, ROWS)
        assert [r.value() for r in found] == [
            {"size": 1.5, "kind": "a"},
            {"size": 2.5, "kind": "b"},
        ]


def test_arrays_and_tensors_in_memory() -> None:
    import torch

    for source in (np.ones((3, 4)), torch.ones(3, 4).double()):
        found, _ = read(source)
        assert [record.name for record in found] == ["array#0", "array#1", "array#2"]
        assert found[0].value().tolist() == [1, 1, 1, 1]
    with pytest.raises(DataError, match="shape of notes"):
        read(np.ones((3, 4, 5, 6)))


# -- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("text,label,split\r\n'a',1,train\r\n".replace("'", '"'), "utf-8"),
        ("sep=;\r\ntext;label;split\r\na;1;train\r\n", "utf-8-sig"),
        ("text\tlabel\tsplit\r\na\t1\ttrain\r\n", "utf-16"),
        ("text|label|split\na|1|train\n", "utf-8"),
    ],
)
def test_tables_as_programs_write_them(text: str, code: str, tmp_path: Path) -> None:
    found, _ = read(put(tmp_path / "t.csv", text.encode(code)), TEXTS)
    assert [(r.name, r.value(), r.cond, r.split) for r in found] == [
        ("t.csv#row 2", "a", {"label": "1"}, "train")
    ]


def test_line_ends_in_cells_and_semicolons_in_windows_code(tmp_path: Path) -> None:
    text = 'text;label\r\n"größer, ""so""\nund so";x\r\n'
    found, _ = read(put(tmp_path / "t.csv", text.encode("cp1252")), TEXTS)
    assert found[0].value() == 'größer, "so"\nund so'


def test_json_lines_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": "a", "label": 2}, {"text": "b", "more": [1]}]
    lines = put(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)))
    whole = put(tmp_path / "t.json", json.dumps({"data": rows}))
    for source in (lines, whole):
        found, _ = read(source, TEXTS)
        assert [(r.value(), r.cond.get("label")) for r in found] == [("a", 2), ("b", None)]
    with pytest.raises(DataError, match="row 1 is no JSON"):
        read(put(tmp_path / "bad.jsonl", "{"), TEXTS)
    monkeypatch.setattr("morphogen.sources.lines.MAX_JSON", 30)
    with pytest.raises(DataError, match="row 2 is too long"):
        read(put(tmp_path / "long.jsonl", '{"text": "a"}\n{"text": "' + "a" * 40 + '"}'), TEXTS)


def test_parquet_has_class_names_and_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    kinds = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    for split in ("train", "test"):
        rows = {"text": ["a", "b"], "label": [1, None]}
        made = datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))
        made.to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    found, _ = read(tmp_path, TEXTS)
    assert [(r.split, r.value(), r.cond) for r in found] == [
        ("test", "a", {"label": "yes"}),
        ("test", "b", {}),
        ("train", "a", {"label": "yes"}),
        ("train", "b", {}),
    ]


def test_a_table_of_a_database(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE notes (text TEXT, label INTEGER, split TEXT)")
        database.executemany(
            "INSERT INTO notes VALUES (?, ?, ?)", [("a", 1, "train"), ("b", None, "test")]
        )
        database.commit()
    for source in (path, f"sqlite:///{path}", f"sqlite:///{path}?table=notes"):
        found, _ = read(source, TEXTS)
        assert [(r.value(), r.cond, r.split) for r in found] == [
            ("a", {"label": 1}, "train"),
            ("b", {}, "test"),
        ]
    found, _ = read(f"sqlite:///{path}?query=SELECT label FROM notes WHERE label = 1", ROWS)
    assert [record.value() for record in found] == [{"label": 1}]
    with pytest.raises(DataError, match="Did you mean 'notes'"):
        read(f"sqlite:///{path}?table=note", TEXTS)
    with pytest.raises(DataError, match="cannot be read"):
        read(f"sqlite:///{path}?query=DROP TABLE notes", TEXTS)
    with pytest.raises(DataError, match="does not exist"):
        read(f"sqlite:///{path}x", TEXTS)


# -- trees ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["cat/1", "dog/1"], {"cat/1": (None, "cat"), "dog/1": (None, "dog")}),
        (["all/cat/1", "all/dog/1"], {"all/cat/1": (None, "cat"), "all/dog/1": (None, "dog")}),
        (["train/a/1", "val/a/1"], {"train/a/1": ("train", "a"), "val/a/1": ("validation", "a")}),
        (["a/train/1", "a/test/1"], {"a/train/1": ("train", None), "a/test/1": ("test", None)}),
        (
            ["a/train/1", "b/test/1"],
            {"a/train/1": ("train", "a"), "b/test/1": ("test", "b")},
        ),
        (["train/1", "test/1", "extra/1"], {"train/1": ("train", None), "test/1": ("test", None)}),
        (["images/1", "masks/1"], {"images/1": (None, None)}),
        (["trainA/1", "testB/1"], {"trainA/1": ("train", "A"), "testB/1": ("test", "B")}),
        (["train2017/1", "val2017/1"], {
            "train2017/1": ("train", None), "val2017/1": ("validation", None)
        }),
        (["bus/1", "train/1"], {"bus/1": (None, "bus"), "train/1": (None, "train")}),
        (["__MACOSX/a/1", "a/1", ".git/1"], {"a/1": (None, None)}),
    ],
)  # fmt: skip
def test_what_folders_mean(paths: list[str], expected: dict[str, Any], tmp_path: Path) -> None:
    for path in paths:
        put(tmp_path / f"{path}.note")
    found, report = read(tmp_path)
    assert labels(found) == {f"{name}.note": pair for name, pair in expected.items()}
    told = sum("not read" in problem.reason for problem in report.problems)
    assert told == (len(found) < len(paths) and "__MACOSX/a/1" not in paths)


def test_tables_and_files_beside_items(tmp_path: Path) -> None:
    for name in "abcd":
        put(tmp_path / "notes" / f"{name}.note")
    put(tmp_path / "labels.csv", "id,breed\na,pug\nb,pug\nc,boxer\nd,boxer\n")
    put(tmp_path / "notes" / "a.txt", "a caption")
    put(tmp_path / "notes" / "b.json", json.dumps({"caption": "in JSON", "label": "x"}))
    found, report = read(tmp_path)
    assert {r.name[-6]: r.cond for r in found} == {
        "a": {"label": "pug", "caption": "a caption"},
        "b": {"label": "pug", "caption": "in JSON"},
        "c": {"label": "boxer"},
        "d": {"label": "boxer"},
    }
    assert "breed" in report.facts["labels"]


def test_shards_have_files_of_one_name(tmp_path: Path) -> None:
    for shard in range(2):
        with tarfile.open(tmp_path / f"train-{shard:04d}.tar", "w") as archive:
            for member, data in (("1.note", b"NOTE"), ("1.cls", b"7"), ("1.txt", b"seven")):
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    found, _ = read(tmp_path)
    assert [(r.name, r.split, r.cond) for r in found] == [
        (f"train-000{n}/1.note", None, {"label": 7, "caption": "seven"}) for n in (0, 1)
    ]
    assert [record.value() for record in found] == [b"NOTE", b"NOTE"]


def test_what_is_not_read_is_told(tmp_path: Path) -> None:
    put(tmp_path / "a.note")
    put(tmp_path / "b.docx")
    put(tmp_path / "c", b"NOTE without a suffix")
    put(tmp_path / "d.dat", b"data")
    found, report = read(tmp_path)
    assert [record.name for record in found] == ["a.note", "c"]
    told = {(problem.name, problem.reason) for problem in report.problems}
    assert ("b.docx", ".docx is not read") in told
    assert (str(tmp_path), "1 .dat file not read as notes: d.dat") in told


def test_rows_under_another_name_and_rows_without_names_are_told(tmp_path: Path) -> None:
    put(tmp_path / "a.note")
    put(tmp_path / "b.data", "39, Private, 13\n50, Public, 9\n38, Private, 9\n")
    put(
        tmp_path / "c.names", "| what the columns are\n\nage: continuous.\nwork, or none: Private\n"
    )
    _, report = read(tmp_path)
    fixes = {problem.reason.rpartition(" ")[2]: problem.fix for problem in report.problems}
    assert fixes["b.data"].startswith("name it b.csv to have it read as a table")
    assert fixes["c.names"] == "nothing, if they are no notes"

    for names, row, is_row in (
        ("39,Private,13", "50,Public,9", True),
        ("label,0,1,2", "7,0.1,0.2,0.3", False),
        ("place,2019,2020", "here,5,6", False),
        ("place,400,410.5,420", "here,5,6,8", False),
        ("40,Private", "x,Public", False),
    ):
        _, report = read(put(tmp_path / "rows.csv", f"{names}\n{row}\n"), ROWS)
        told = [each for each in report.problems if "looks like a row" in each.reason]
        assert bool(told) is is_row, names


# -- hostile places -------------------------------------------------------------------------------


def test_pipes_devices_and_circles_end(tmp_path: Path) -> None:
    put(tmp_path / "a.note")
    os.mkfifo(tmp_path / "pipe.note")
    os.mkfifo(tmp_path / "captions.csv")
    (tmp_path / "zero.note").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "captions.csv").unlink()
    os.mkfifo(tmp_path / "other.csv")
    found, report = read(tmp_path)
    items = list(opened(found, lambda record, notes: record.value(), report))
    assert [item.name for item in items] == ["a.note"]
    reasons = {problem.name: problem.reason for problem in report.skipped}
    assert "a named pipe" in reasons["pipe.note"]
    assert "a device" in reasons["zero.note"]
    with pytest.raises(DataError, match="a named pipe"):
        read(tmp_path / "pipe.note")


def test_tables_name_no_files_outside_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = put(tmp_path / "secret" / "x.note", b"NOTE: the secret")
    put(tmp_path / "data" / "a.note")
    rows = ["file", "a.note", "../secret/x.note", str(secret)]
    table = put(tmp_path / "data" / "t.csv", "\n".join(rows) + "\n")
    found, report = read(table)
    items = list(opened(found, lambda record, notes: record.value(), report))
    assert [item.value for item in items] == [b"NOTE"]
    assert all("leaves the folder" in problem.reason for problem in report.skipped)
    assert "the secret" not in str(report)
    monkeypatch.setenv("MORPHOGEN_ROOTS", str(tmp_path / "secret"))
    found, report = read(table)
    items = list(opened(found, lambda record, notes: record.value(), report))
    assert len(items) == 3


def test_a_locked_archive_says_so(tmp_path: Path) -> None:
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("a.note", b"NOTE")
    data = bytearray(plain.getvalue())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(mark) + place] |= 1
    with pytest.raises(DataError, match="locked with a password"):
        read(put(tmp_path / "a.zip", bytes(data)))


# -- one table in several files -------------------------------------------------------------------


def shard(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as JSON, as JSON lines, as CSV or as Parquet, by the suffix."""
    if path.suffix == ".json":
        return put(path, json.dumps(rows))
    if path.suffix == ".jsonl":
        return put(path, "\n".join(map(json.dumps, rows)))
    if path.suffix == ".csv":
        lines = [",".join(map(str, row.values())) for row in rows]
        return put(path, "\n".join([",".join(rows[0]), *lines]))
    arrow = pytest.importorskip("pyarrow")
    path.parent.mkdir(parents=True, exist_ok=True)
    pytest.importorskip("pyarrow.parquet").write_table(arrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet"])
def test_a_folder_of_shards_is_one_table(suffix: str, tmp_path: Path) -> None:
    for number in range(3):
        rows = [{"text": f"part {number} row {n}", "label": n % 2} for n in range(4)]
        shard(tmp_path / f"train-{number:05d}-of-00003{suffix}", rows)
    shard(tmp_path / "more" / f"test{suffix}", [{"text": "held out", "label": 1}])
    put(tmp_path / "README.md", "# what it is")
    put(tmp_path / "license.txt", "free")
    put(tmp_path / "splits.csv", "name,split\n")
    found, report = read(tmp_path, TEXTS)
    assert [record.split for record in found] == [*["train"] * 12, "test"]
    assert [record.value() for record in found][:2] == ["part 0 row 0", "part 0 row 1"]
    assert found[-1].name.startswith(f"more/test{suffix}#")
    assert [int(record.cond["label"]) for record in found[:3]] == [0, 1, 0]
    assert not report.problems
    seen = survey(tmp_path)
    assert (seen.kind, seen.name) == ("table", f"4 {suffix} tables")


def test_tables_that_are_no_parts_of_one_are_refused(tmp_path: Path) -> None:
    shard(tmp_path / "people.csv", [{"name": "a", "age": 3, "town": "b"}])
    shard(tmp_path / "towns.csv", [{"town": "b", "size": 1000, "country": "c"}])
    with pytest.raises(DataError, match="not parts of one"):
        read(tmp_path, ROWS)
    assert survey(tmp_path).damaged is not None


def test_files_beside_a_table_are_items(tmp_path: Path) -> None:
    shard(tmp_path / "tags.csv", [{"file": "a.txt", "licence": "CC0"}])
    put(tmp_path / "a.txt", "one")
    found, _ = read(tmp_path, TEXTS)
    assert [(record.name, record.tags) for record in found] == [("a.txt", {"licence": "CC0"})]


# -- recognising and opening ----------------------------------------------------------------------


def test_the_larger_part_makes_surer(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path / f"{number}.note")
        put(tmp_path / f"{number}.txt", "a caption of it")
    note, text = recognise(tmp_path, NOTES), recognise(tmp_path, TEXTS)
    assert note is not None
    assert "3 .note files in the folder" in note.why
    assert text is None  # captions are no items
    put(tmp_path / "lone.txt")
    text = recognise(tmp_path, TEXTS)
    assert text is not None
    assert text.sure < note.sure
    assert survey(tmp_path).suffixes == {".note": 3, ".txt": 1}
