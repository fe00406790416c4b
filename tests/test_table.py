"""Tables: kinds of columns are found from the rows, and a cell comes back as it was."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from morphogen.core.codec import Item, Report
from morphogen.core.errors import DataError
from morphogen.core.spec import ProductSpec, TensorSpec
from morphogen.data.dataset import load
from morphogen.modalities.table import Table
from morphogen.modalities.table.cells import parsed
from morphogen.modalities.table.columns import OTHER, Category, Number

draw = random.Random(0)


def column(cells: Sequence[Any], name: str = "x") -> Any:
    """The column that cells are taken for, beside another one."""
    codec = table([{name: cell, "beside": i % 3} for i, cell in enumerate(cells)])
    return next(each for each in codec.columns if each.name == name)


def table(rows: Sequence[dict[str, Any]]) -> Table:
    return Table().fit([Item(row, f"row {i}") for i, row in enumerate(rows)])


def back(codec: Table, row: dict[str, Any], view: str) -> dict[str, Any]:
    codec.use_view(view)
    return codec.decode(codec.encode(Item(row)))


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("12", 12), (" -3 ", -3), ("3.50", 3.5), ("2.0", 2), ("1e-3", 0.001), ("007", "007"),
        ("", None), ("?", None), ("NaN", None), (float("nan"), None), (float("inf"), None),
        (True, True), ("yes", "yes"), ("1_000", "1_000"),
        ("12345678901234567", "12345678901234567"),
    ],
)  # fmt: skip
def test_cells(cell: Any, value: Any) -> None:
    assert parsed(cell) == value
    assert type(parsed(cell)) is type(value)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["red", "blue"] * 20, "category"),
        ([True, False] * 20, "category"),
        ([0, 1, 2] * 20, "category"),
        ([1.5, None] * 20, "category"),
        (list(range(100, 140)), "left out"),  # consecutive
        ([f"item {i}" for i in range(40)], "left out"),
        ([f"a text of five words {i}" for i in range(40)], "left out"),
        (["Malta"] * 40, "left out"),
        ([None] * 40, "left out"),
        ([i * i for i in range(40)], "number"),
        ([f"2024-01-{i % 28 + 1:02d}" for i in range(40)], "number"),
        ([f"{i},{i % 10}" for i in range(40)], "number"),
        ([f"1,{i:03d}" for i in range(40)], "number"),
    ],
)
def test_kinds(cells: list[Any], kind: str) -> None:
    found = column(cells)
    assert found.kind == kind
    assert (found.size > 0) == (kind != "left out")
    assert bool(found.why) == (kind == "left out")


def test_commas_mean_what_the_whole_column_says() -> None:
    decimal, thousands = (
        column([f"{i},5" for i in range(40)]),
        column([f"1,{i:03d}" for i in range(40)]),
    )
    assert decimal.numbers(["7,5"]).tolist() == [7.5]
    assert thousands.numbers(["1,007"]).tolist() == [1007]


NUMBERS = {
    "few levels": [draw.randint(17, 90) for _ in range(300)],
    "halves": [draw.randint(0, 60) / 2 for _ in range(300)],
    "a heavy tail": [round(draw.lognormvariate(8, 3)) for _ in range(300)],
    "mostly zero": [draw.choice([0] * 9 + [draw.randint(1, 99_999)]) for _ in range(300)],
    "real": [draw.gauss(0, 1e-3) for _ in range(300)],
    "dates": [f"19{draw.randint(40, 99)}-0{draw.randint(1, 9)}-1{i % 10}" for i in range(300)],
    "times": [f"2020-01-0{i % 9 + 1} 1{draw.randint(0, 9)}:30:0{i % 10}" for i in range(300)],
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_come_back_exactly(name: str) -> None:
    cells = NUMBERS[name]
    codec = table([{"x": cell} for cell in cells])
    (found,) = codec.columns
    assert isinstance(found, Number)
    for cell in cells:
        again = back(codec, {"x": cell}, "parts")["x"]
        exact = not isinstance(cell, (int, float)) or (name != "real" and cell < 1e5)
        assert again == (cell if exact else pytest.approx(cell, rel=1e-5, abs=1e-8))
        assert -1 <= float(codec.encode(Item({"x": cell}))["x"]) <= 1
    inverse = {cell: back(codec, {"x": cell}, "tokens")["x"] for cell in cells}
    assert all(inverse[cell] == inverse.get(inverse[cell], inverse[cell]) for cell in cells)
    assert set(inverse.values()) <= set(cells)  # of a bin, a value that there is


def test_a_heavy_tail_is_straightened() -> None:
    codec = table([{"x": cell} for cell in NUMBERS["a heavy tail"]])
    items = [Item({"x": cell}) for cell in NUMBERS["a heavy tail"]]
    assert 0.4 < float(codec.encode_many(items)["x"].std()) < 0.7  # of a uniform one: 0.58
    tokens = codec.use_view("tokens").encode_many(items)[:, 0]
    assert int(torch.bincount(tokens).max()) <= 8  # 300 rows in 64 bins


def test_missing_cells_are_a_part_and_a_token() -> None:
    rows = [
        {"age": None if i % 4 == 0 else i * i, "pet": [None, "cat", "dog"][i % 3]}
        for i in range(60)
    ]
    codec = table(rows)
    assert isinstance(codec.spec, ProductSpec)
    assert codec.spec.parts["age_missing"] == TensorSpec.label(2)
    assert codec.spec.parts["pet"] == TensorSpec.label(3)
    for view in codec.views:
        assert [back(codec, row, view)["age"] is None for row in rows] == [
            row["age"] is None for row in rows
        ]
        assert [back(codec, row, view)["pet"] for row in rows] == [row["pet"] for row in rows]
    assert codec.num_units(codec.encode_many([Item(row) for row in rows])).tolist() == [2.0] * 60
    assert codec.facts["missing_cells"] == {"age": 15, "pet": 20}


def test_what_no_training_row_has_is_an_error_or_told() -> None:
    codec = table([{"age": i * i, "pet": ["cat", "dog"][i % 2]} for i in range(60)])
    with pytest.raises(DataError, match="Did you mean 'cat'"):
        codec.encode(Item({"age": 4, "pet": "cap"}))
    with pytest.raises(DataError, match="missing, as in no training row"):
        codec.encode(Item({"age": None, "pet": "cat"}))
    assert back(codec, {"age": 99_999, "pet": "cat"}, "parts")["age"] == 59 * 59
    report = Report("")
    for age in (-1, 0, 99_999):
        codec.check_fits(Item({"age": age, "pet": "cat"}), report)
    assert report.facts["moved_into_range"] == {"age": 2}


def test_a_row_that_does_not_fit_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "pets.csv"
    rows = [f"{i * i},{['cat', 'dog'][i % 2]},train" for i in range(60)]
    rows += ["4,cat,test", "9,newt,test", "99999,dog,test"]
    path.write_text("\n".join(["age,pet,split", *rows]) + "\n")
    data = load(path)
    assert len(data.test) == 2
    assert ["newt" in problem.reason for problem in data.report.skipped] == [True]
    assert data.report.facts["moved_into_range"] == {"age": 1}


def test_rare_values_of_many_share_a_token() -> None:
    cells = [f"town {min(i % 200, 150 + i % 3)}" for i in range(2000)]
    found = column(cells)
    assert isinstance(found, Category)
    assert OTHER in found.values
    assert found.of_token(int(found.tokens(["nowhere"]))) == OTHER
    assert found.of_token(int(found.tokens([OTHER]))) == OTHER


def test_constants_come_back_and_names_of_parts_are_plain() -> None:
    rows = [{"a.b": i * i, "a b": i % 2, "where": "Malta", "a_b_missing": i % 3} for i in range(40)]
    codec = table(rows)
    assert all(name.isidentifier() for name in codec.spec.parts)
    assert len(codec.spec.parts) == 3
    for view in codec.views:
        assert back(codec, rows[3], view).keys() == rows[3].keys()
        assert back(codec, rows[3], view)["where"] == "Malta"


def test_a_target_is_a_condition_apart_from_the_row(tmp_path: Path) -> None:
    path = tmp_path / "iris.csv"
    path.write_text("width,Class\n" + "".join(f"{i * i},{'ab'[i % 2]}\n" for i in range(30)))

    def read(**options: Any) -> list[Item]:
        return list(Table(**options).read(path, Report(str(path))))

    assert read()[1].value == {"width": 1}
    assert read()[1].cond == {"label": "b"}
    assert read(target="none")[1].value == {"width": 1, "Class": "b"}
    assert read(target="width")[1].cond == {"label": 1}
    with pytest.raises(DataError, match="Did you mean 'Class'"):
        read(target="Klass")
    path.write_text("width,target\n" + "".join(f"{i % 7},{i * 0.37}\n" for i in range(30)))
    assert read()[1].value == {"width": 1, "target": 0.37}  # too many values for classes


def test_for_people(tmp_path: Path) -> None:
    rows = [
        {"name": "<Ada>", "born": 1815, "note": None},
        {"name": "Alan", "born": 1912, "note": 0.5},
    ]
    page = Table().html(rows)
    assert page.count("<tr>") == 3
    assert "&lt;Ada&gt;" in page
    written = Table().write(rows, tmp_path / "rows.csv").read_text()
    assert written == "name,born,note\n<Ada>,1815,\nAlan,1912,0.5\n"
    assert Table().brief(rows[0], 20) == "name <Ada>, born 18\u2026"
