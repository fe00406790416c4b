"""Rows by columns: read, hashed, divided, fitted and encoded, they are what they are row by row."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from morphogen.core.codec import Item
from morphogen.core.codec_storage import describe_codec
from morphogen.data.dataset import load
from morphogen.data.holdout import digest_of, digests_of
from morphogen.data.names import Names
from morphogen.data.scan import Scan, _Seeing
from morphogen.modalities import table
from morphogen.modalities.series import rows
from morphogen.modalities.series.stamps import read_stamps
from morphogen.sources import (
    Coded,
    RecordBatch,
    RecordBatches,
    _batches,
    combined,
    database,
    delimited,
    in_batches,
    memory,
)
from morphogen.sources import parquet as parquet_source

NUMBERS = ["-999", "1", "1.0", "2.50", "3e2", " 7 ", "007", "NA", "?", "-0.0", "12345678901234567"]
WORDS = ["True", "1", "yes", "", "null", "Straße", '"a; b', "ﬁ", "n/a"]


@pytest.fixture(autouse=True)
def no_model_has_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one has, on this machine, the first load of items goes one by one to tell which."""
    monkeypatch.setenv("MORPHOGEN_CACHE", str(tmp_path / "cache"))


def nasty(path: Path, num: int = 600) -> Path:
    """A table with what columns can and cannot hold: German numbers and dates, stand-ins, words for
    missing, a BOM, an identifier, a sum, ragged and empty rows."""
    draw = random.Random(0)
    lines = ["id;preis;tag;wert;wort;netto;steuer;brutto;jahre;stufe;label;licence;split"]
    for i in range(num):
        net, tax, level = draw.randrange(90), draw.randrange(20), draw.randrange(4)
        cells = [
            f"{i:05d}", draw.choice(["1.879,31", "12,5", "7,25"]),
            f"{1 + i % 28:02d}.03.20{i % 20:02d}", draw.choice(NUMBERS) if i % 2 else draw.random(),
            draw.choice(WORDS).replace(";", ""),
            net, tax, net + tax, 5 * level, "abcd"[level], draw.choice("xyz") if i % 9 else "",
            draw.choice(["CC0", "MIT", ""]), draw.choice(["train", "train", "test"]),
        ]  # fmt: skip
        lines.append(";".join(map(str, cells)).replace('"', ""))
    lines[200] += ";beyond"
    lines[333] = ";".join(lines[333].split(";")[:5])
    lines[400] = ";" * 12
    lines[500] = ""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


def told(path: Any, modality: str = "table", **options: Any) -> list[Any]:
    """All that loading leaves."""
    data = load(path, modality, **options)
    stores = [
        (list(s.names), s.batch(torch.arange(len(s))).x, s.batch(torch.arange(len(s))).cond)
        for s in (data.train, data.test)
    ]
    problems = [(p.name, p.reason, p.fix, p.fatal, p.field) for p in data.report.problems]
    codec = describe_codec(data.codec)
    facts = {name: fact for name, fact in data.report.facts.items() if name != "source"}
    return [data.digest, data.files, problems, facts, data.priors, codec, repr(stores)]


def row_by_row(*args: Any) -> Iterator[Any]:
    return _batches._listed(_batches.records_of(*args))


@pytest.mark.parametrize(
    "options",
    [{}, {"view": "tokens"}, {"conditions": "stufe,wort"}, {"group_by": "stufe"}],
)
@pytest.mark.parametrize("split", [True, False])
def test_by_columns_as_row_by_row(
    options: dict[str, Any], split: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = nasty(tmp_path / "rows.csv")
    if not split:
        path.write_text(path.read_text("utf-8").replace("split", "teil", 1), "utf-8")
    monkeypatch.setattr(delimited, "BATCH", 32)
    monkeypatch.setattr(table, "AT_ONCE", 64)
    monkeypatch.setattr(Scan, "_looks_at", lambda self, batch: self.given is not None)
    made, by_columns = [], _batches._record_batch

    def record_batch(*args: Any) -> RecordBatch:
        made.append(by_columns(*args))
        return made[-1]

    monkeypatch.setattr(_batches, "_record_batch", record_batch)
    columns = told(path, **options)
    assert len(made) > 15
    made.clear()
    monkeypatch.setattr(_batches, "_of_table", row_by_row)
    rows = told(path, **options)
    assert not made
    for one, other in zip(columns, rows, strict=True):
        assert one == other


@pytest.mark.parametrize("form", ["parquet", "sqlite", "pandas"])
def test_other_tables_by_columns_as_row_by_row(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers that are equal and not the same, moments, nothing, truth, and a batch with lists."""
    draw = random.Random(1)
    columns: dict[str, list[Any]] = {
        "n": [draw.choice([1.0, 2.5, -0.0, 0.0, None]) for _ in range(120)],
        "i": [draw.randrange(9) for _ in range(120)],
        "yes": [bool(i % 3) for i in range(120)],
        "word": [draw.choice(["a", "b", "", "NA", "1"]) for _ in range(120)],
        "label": [draw.choice("xyz") for _ in range(120)],
        "split": ["test" if i % 5 == 0 else "train" for i in range(120)],
    }
    source: Any = tmp_path / f"some.{form}"
    if form == "sqlite":
        with closing(sqlite3.connect(source)) as opened, opened:
            opened.execute(f"CREATE TABLE t ({', '.join(columns)})")
            columns["n"][7:9] = [True, 1]  # of other types, and equal
            put = f"INSERT INTO t VALUES ({', '.join('?' * len(columns))})"
            opened.executemany(put, zip(*columns.values(), strict=True))
    elif form == "parquet":
        pyarrow = pytest.importorskip("pyarrow", reason="needs morphogen[data]")
        columns["when"] = [datetime(2024, 1, 1 + i % 28) for i in range(120)]
        columns["many"] = [[i, i + 1] if i == 70 else None for i in range(120)]
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table(columns), source)
    else:
        pandas = pytest.importorskip("pandas")
        index = [float(i % 7) for i in range(120)]
        source = pandas.DataFrame(columns, index=index)
    for module in (parquet_source, database, memory):
        monkeypatch.setattr(module, "TOGETHER", 32)
    monkeypatch.setattr(table, "AT_ONCE", 64)
    monkeypatch.setattr(Scan, "_looks_at", lambda self, batch: False)
    seen, see_batch = [], _Seeing.see_batch
    monkeypatch.setattr(_Seeing, "see_batch", lambda *a: (seen.append(1), see_batch(*a)))
    by_columns = told(source)
    assert len(seen) == (3 if form == "parquet" else 4)
    monkeypatch.setattr(_batches, "_of_table", row_by_row)
    for one, other in zip(by_columns, told(source), strict=True):
        assert one == other


def test_values_of_any_types_are_told_apart() -> None:
    values = [1, 1.0, True, 0.0, -0.0, None, "1", "", 1, False, 0, -0.0]
    coded = Coded.of_any(values)
    assert list(map(repr, coded.each())) == list(map(repr, values))
    assert len(coded.values) == 10
    with pytest.raises(TypeError):
        Coded.of_any([1, [2]])


@pytest.mark.parametrize(
    "options",
    [
        {"properties": "logp,mw"}, {"view": "graph"}, {"spelling": "smiles", "merges": 20},
        {"spelling": "selfies", "conditions": "label,note"},
    ],
)  # fmt: skip
def test_molecules_by_columns_as_one_by_one(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spelt twice, of several parts, of none, of no Kekule form that is written so, too long, empty
    and ragged: the same hashes, splits, problems, tokens and conditions."""
    pytest.importorskip("rdkit", reason="needs morphogen[molecules]")
    from sources.molecule import molecules

    some = molecules(110)
    some[3:3] = ["OCC", "CCO", "C1CC", "c1ccc1c", "CC.[Na+].[Cl-]", "C[S](=O)(=O)C", "C" * 90, ""]
    lines = [f"{s},{i % 7},{'ab'[i % 2]},{'' if i % 3 else i},CC0" for i, s in enumerate(some)]
    lines[40] += ",beyond"
    path = tmp_path / "some.csv"
    path.write_text("\n".join(["smiles,mw,label,note,licence", *lines]) + "\n")
    monkeypatch.setattr(delimited, "BATCH", 16)
    monkeypatch.setattr(Scan, "_looks_at", lambda self, batch: False)
    seen, see_batch = [], _Seeing.see_batch
    monkeypatch.setattr(_Seeing, "see_batch", lambda *a: (seen.append(1), see_batch(*a)))
    columns = told(path, "molecule", length=60, **options)
    assert len(seen) > 4
    seen.clear()
    monkeypatch.setattr(_batches, "_of_table", row_by_row)
    one_by_one = told(path, "molecule", length=60, **options)
    assert not seen
    for one, other in zip(columns, one_by_one, strict=True):
        assert one == other


def test_series_by_columns_as_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three series in one table, in turn: missing values in words, commas, cells that are no
    numbers, a stamp that is none, ragged rows, numbers that name a series in two ways."""
    draw = random.Random(2)
    lines = []
    for hour in range(90):
        for name in ("b", "1", "a"):
            cells = [
                f"{1 + hour // 24:02d}/03/2020 {hour % 24:02d}:00", name, f"{draw.random():.2f}",
                draw.choice(["", "n/a", '"2,345.5"', "7"]), "x" if hour == 40 else hour,
            ]  # fmt: skip
            lines.append(",".join(map(str, cells)))
    lines[130] = "no day,a,1,2,3"
    lines[200] += ",beyond"
    path = tmp_path / "long.csv"
    path.write_text("\n".join(["when,station,v,w,u", *lines]) + "\n")
    monkeypatch.setattr(delimited, "BATCH", 32)
    options = {"length": 4, "past": 8, "columns": "v,w,u"}
    seen, by_columns = [], rows._by_columns
    monkeypatch.setattr(rows, "_by_columns", lambda *a: (seen.append(1), by_columns(*a))[1])
    columns = told(path, "series", **options)
    assert len(seen) > 5
    problems = [(name, reason) for name, reason, *_ in columns[2]]
    assert any(name == "long.csv#row 132" and "no day" in reason for name, reason in problems)
    seen.clear()
    monkeypatch.setattr(_batches, "_of_table", row_by_row)
    one_by_one = told(path, "series", **options)
    assert not seen
    for one, other in zip(columns, one_by_one, strict=True):
        assert one == other


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["2024-01-31 13:00"] * 300 + ["31.01.2024"], [True] * 300 + [False]),
        (["31.01.2024"] + ["02/01/2024"] * 300, [False] + [True] * 300),  # two fit; the first is it
        (["1", "2", "x"], [False, False, False]),
    ],
)
def test_the_form_of_dates_is_that_which_loses_the_fewest(
    cells: list[str], expected: list[bool]
) -> None:
    read, dated = read_stamps(cells)
    assert np.isfinite(read).tolist() == expected
    assert dated
    if expected[-1] and len(cells) > 9:
        assert datetime.fromtimestamp(read[-1], UTC).month == 1  # %d/%m before %m/%d


def test_a_batch_is_its_items() -> None:
    cells = {"a": Coded.of(["x", "y", "x", "z"]), "b": Coded.of(["1", "1", "2", "1"])}
    cond = {"label": Coded(["p", None], np.array([0, 1, 0, 1]))}
    batch = RecordBatch("f#row ", np.arange(2, 6), cells, Coded.same("train", 4), cond)
    items = list(batch)
    assert items[0] == Item({"a": "x", "b": "1"}, "f#row 2", {"label": "p"}, "train")
    assert items[3] == Item({"a": "z", "b": "1"}, "f#row 5", {}, "train")
    some = batch.take(np.array([3, 0]))
    assert list(some) == [items[3], items[0]]
    assert some.cells["a"].values == ["z", "x"]  # those that there are, in their order
    assert list(batch[1:3]) == items[1:3]
    assert batch[-1] == items[3]
    assert list(RecordBatches([batch, items[:1]])) == [*items, items[0]]
    assert [len(each) for each in in_batches(RecordBatches([batch, items[:1]]), 2)] == [4, 1]
    assert [len(each) for each in in_batches(iter(items), 3)] == [3, 1]


def test_cells_that_are_items() -> None:
    cells = {"smiles": Coded.of(["C", "CC", "C"])}
    noted = {"atoms": Coded([1, 2], cells["smiles"].codes)}
    batch = RecordBatch("f#line ", np.arange(3), cells, Coded.same(None, 3), row=None, noted=noted)
    assert [item.value for item in batch] == ["C", "CC", "C"]
    assert list(batch[1:].noted["atoms"].each()) == [2, 1]
    assert digests_of(batch) == b"".join(map(digest_of, ["C", "CC", "C"]))
    names, each = Names(), Names.of(item.name for item in batch)
    names.extend(batch.stem, batch.numbers)
    assert names == each
    assert names.stems == each.stems


def test_rows_are_hashed_as_dicts_are() -> None:
    values = ["x", 1, 1.5, None, True, "ü" * 50]
    columns = {name: Coded(values, np.arange(6) * step % 6) for name, step in (("b", 1), ("ä", 5))}
    cells = zip(*(column.each() for column in columns.values()), strict=True)
    rows = [dict(zip(columns, row, strict=True)) for row in cells]
    batch = RecordBatch("f#", np.arange(6), columns, Coded.same(None, 6))
    assert digests_of(batch) == b"".join(map(digest_of, rows))


def test_columns_are_combined_in_the_order_of_the_items() -> None:
    draw = np.random.default_rng(0)
    columns = [
        Coded(["p", "q", "r"], draw.integers(0, 3, 50)),
        Coded([None, 2], draw.integers(0, 2, 50)),
    ]
    both = combined(columns, 50)
    rows = list(zip(*(column.each() for column in columns), strict=True))
    assert list(both.each()) == rows
    assert list(both.values) == list(dict.fromkeys(rows))
    assert both.counts().tolist() == [rows.count(row) for row in both.values]
