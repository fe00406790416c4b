"""Tables: kinds of columns are found from the rows, and a cell comes back as it was."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item, Report
from morphogen.core.errors import DataError, RecipeError
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.spec import ProductSpec, TensorSpec
from morphogen.data.dataset import load
from morphogen.modalities.table import Table
from morphogen.modalities.table.cells import parsed
from morphogen.modalities.table.columns import OTHER, Category, Number
from morphogen.modalities.table.rules import Sum
from morphogen.modalities.table.shapes import BINS, MOST, shapes
from morphogen.testing._promises import draw_data

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
    assert bool(found.sizes) == (kind != "left out")
    assert bool(found.why) == (kind == "left out")


def test_commas_mean_what_the_whole_column_says() -> None:
    decimal, thousands = (
        column([f"{i},5" for i in range(40)]),
        column([f"1,{i:03d}" for i in range(40)]),
    )
    assert decimal.numbers(["7,5"]).tolist() == [7.5]
    grouped = column([f"{i % 3}.{i:03d},25" for i in range(40)] + ["12,5"])
    assert grouped.numbers(["1.879,31", "2.000.000,5", "7,5"]).tolist() == [1879.31, 2000000.5, 7.5]
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
    assert int(torch.bincount(tokens).max()) <= 30  # 300 rows in 12 bins


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


def test_of_categories_that_are_numbers_the_nearest_stands_for_a_new_one() -> None:
    codec = table([{"grade": str([1, 2, 4, 9][i % 4]), "pet": "cat"} for i in range(60)])
    assert codec.columns[0].kind == "category"
    for cell, near in (("5", "4"), ("8", "9"), ("0", "1")):
        report = Report("")
        codec.check_fits(Item({"grade": cell, "pet": "cat"}), report)
        assert report.facts["moved_into_range"] == {"grade": 1}
        assert str(back(codec, {"grade": cell, "pet": "cat"}, "parts")["grade"]) == near
    with pytest.raises(DataError, match="as in no training row"):
        codec.encode(Item({"grade": "fine", "pet": "cat"}))


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
    assert found.of_tokens(found.tokens(["nowhere", OTHER])) == [OTHER, OTHER]
    mixed = column([*cells, *[True] * 50, *[1] * 60])  # true is not the number 1
    assert [type(each) for each in mixed.of_tokens(mixed.tokens([True, 1]))] == [bool, int]


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


# -- tokens of numbers ----------------------------------------------------------------------------


def test_a_number_whose_values_come_again_has_a_token_for_each() -> None:
    found = column([draw.choice(range(0, 99_000, 1000)) for _ in range(2000)])
    assert found.sizes == (99,)
    assert not found.starts


def test_a_number_of_many_values_is_told_in_two() -> None:
    cells = [round(draw.lognormvariate(8, 2), 2) for _ in range(6000)]
    found = column(cells)
    first, second = found.sizes
    assert first <= 64 + 32
    assert second <= 64
    tokens = found.tokens(cells)
    again = found.of_tokens(tokens)
    ordered = sorted(cells)
    rank = [abs(ordered.index(a) - ordered.index(b)) for a, b in zip(cells, again, strict=True)]
    assert max(rank) <= 5  # 6,000 values, told as 2,048
    assert torch.equal(found.tokens(again), tokens)
    assert torch.bincount(tokens[:, 0]).max() <= 2 * 6000 / 64
    some = torch.tensor([[0, second - 1], [first - 1, second - 1]])  # that no cell has
    assert set(found.of_tokens(some)) <= set(cells)


def test_a_missing_number_is_told_by_the_first_token() -> None:
    cells = [None if i % 5 == 0 else draw.gauss(0, 1) for i in range(3000)]
    found = column(cells)
    tokens = found.tokens(cells)
    assert (tokens[:, 0] == found.sizes[0] - 1).tolist() == [cell is None for cell in cells]
    assert [cell is None for cell in found.of_tokens(tokens)] == [cell is None for cell in cells]


def test_numbers_that_stand_for_missing_ones_are_read_so() -> None:
    rows = [{"age": -999 if i % 7 == 0 else 20 + i % 50, "x": i * i} for i in range(700)]
    codec = table(rows)
    assert codec.facts["read_as_missing"] == {"age": -999}
    for view in codec.views:
        assert back(codec, rows[0], view)["age"] is None
        assert back(codec, rows[1], view)["age"] == 21
    below = table([{"age": -999 if i % 7 == 0 else i % 50 - 9, "x": i * i} for i in range(700)])
    assert "read_as_missing" not in below.facts  # other numbers are negative too


def test_room_makes_densities_of_tokens_and_of_parts() -> None:
    """Values of many are about as probable as each other; how close they lie is their density."""
    cells = [draw.lognormvariate(0, 1) for _ in range(8000)]
    codec = table([{"x": cell} for cell in cells])
    items = [Item({"x": cell}) for cell in cells]
    density = [-((math.log(cell)) ** 2) / 2 - math.log(cell) for cell in cells]
    for view, least in (("tokens", 0.97), ("parts", 0.95)):
        x = codec.use_view(view).encode_many(items)
        told = -codec.log_room(x).double()
        assert torch.corrcoef(torch.stack([told, torch.tensor(density)]))[0, 1] > least
    assert not codec.log_room(codec.use_view("parts").encode_many(items)).isnan().any()


# -- rules ----------------------------------------------------------------------------------------


def orders(num: int = 800) -> list[dict[str, Any]]:
    """Rows with a fixed combination, a sum and an order."""
    rows, draw = [], random.Random(1)
    for _ in range(num):
        net, tax, start = draw.randint(100, 9999), draw.randint(0, 99) / 4, draw.randint(0, 300)
        city = draw.choice(["Bern", "Lyon", "Nice", "Turin"])
        rows.append({
            "city": city, "country": {"Bern": "CH", "Turin": "IT"}.get(city, "FR"), "net": net,
            "tax": tax, "total": net + tax, "start": start, "end": start + draw.randint(0, 90),
        })  # fmt: skip
    return rows


RULES = {"total = net + tax", "(city, country)", "start <= end"}


def keeps_all(row: dict[str, Any], country: dict[str, str]) -> bool:
    added = abs(row["net"] + row["tax"] - row["total"]) < 1e-6
    return added and row["country"] == country[row["city"]] and row["start"] <= row["end"]


def test_rules_are_found_and_every_row_that_could_be_drawn_keeps_them() -> None:
    rows = orders()
    codec = table(rows)
    assert set(codec.facts["rules"]) == RULES
    country = {row["city"]: row["country"] for row in rows}
    again = Table.from_state(codec.state(), {})
    for each in (codec, again):
        for view in each.views:
            spec = each.use_view(view).spec
            drawn = each.decode_many(draw_data(spec, 2000, 0))  # anything at all
            assert drawn[0].keys() == rows[0].keys()
            assert all(keeps_all(row, country) for row in drawn)
            assert back(each, rows[5], view) == rows[5]
    assert "total" not in codec.use_view("parts").spec.parts
    with pytest.raises(DataError, match="breaks a rule"):
        codec.encode(Item(rows[0] | {"country": "IT", "city": "Nice"}))


def test_sums_are_rounded_to_the_decimals_of_their_parts() -> None:
    rule = Sum("total", ["net", "tax"])
    assert rule.see({"net": 0.5, "tax": 1.5e-07, "total": 0.50000015})
    drawn = {"net": 0.25, "tax": 2e-07, "total": None}
    rule.keep(drawn)
    assert drawn["total"] == 0.2500002


def test_a_row_that_breaks_a_rule_makes_it_none() -> None:
    rows = orders()
    rows[700] |= {"country": "DE"}
    rows[701]["total"] += 1
    rows[702] |= {"start": 9, "end": 8}
    assert RULES.isdisjoint(table(rows).facts["rules"])
    assert "rules" not in table(orders(60)).facts  # few rows prove nothing


def test_rules_are_declared() -> None:
    rows = orders(60)
    items = [Item(row) for row in rows]
    codec = Table(rules="; ".join(sorted(RULES))).fit(items)
    assert set(codec.facts["rules"]) == RULES
    with pytest.raises(DataError, match="total = net \\+ tax"):
        Table(rules="total = net + tax").fit([*items, Item(rows[0] | {"total": -1})])
    with pytest.raises(RecipeError, match="Did you mean 'total'"):
        Table(rules="totl = net + tax").fit(items)
    with pytest.raises(RecipeError, match="cannot be read"):
        Table(rules="start before end").fit(items)
    assert "rules" not in Table(rules="none").fit([Item(row) for row in orders()]).facts


def test_a_row_is_filled_where_it_has_nothing_and_what_follows_is_put_in() -> None:
    rows = [row | {"note": None if i % 3 else "late"} for i, row in enumerate(orders())]
    codec = table(rows).use_view("tokens")
    assert isinstance(codec.spec, TensorSpec)
    assert codec.known(Item(rows[1])) is None  # a missing note is a note

    def gaps(row: dict[str, Any]) -> set[str]:
        known = codec.known(Item(row))
        assert known is not None
        assert codec.encode(Item(row)).shape == known.shape
        return {name for name, there in zip(codec.spec.names, known, strict=True) if not there}

    assert codec.known(Item(rows[0] | {"net": None})) is None  # it follows from total and tax
    row = {"net": 5, "tax": 2, "start": None, "end": 9, "country": "CH"}
    assert gaps(row) == {"start", "note"}  # of cities, only one is in CH
    assert codec.decode(codec.encode(Item(row)))["city"] == "Bern"
    assert gaps(row | {"country": "FR"}) == {"start", "note", "city"}
    assert gaps(dict.fromkeys(rows[0])) == set(codec.spec.names)  # a whole row is to be drawn


def test_rows_without_a_gap_stay_as_they_are_and_with_none_anywhere_a_mask_is_asked_for() -> None:
    rows = orders()
    codec = table(rows).use_view("tokens")
    recipe = Recipe(family={"name": "masked"}, backbone={"name": "mlp", "model_dim": 8})
    bundle = Bundle(build_family(recipe, codec.spec, {}).eval(), codec, recipe)
    whole, gapped = Item(rows[0], "row 1"), Item(rows[1] | {"start": None}, "row 2")
    filled = bundle.task("fill", whole, gapped, num=1)
    assert filled.values["hidden"][0] == 0 < filled.values["hidden"][1]
    assert filled.items[0] == codec.decode(codec.encode(whole))
    assert filled.items[1]["start"] is not None
    with pytest.raises(DataError, match=r"(?s)no item has a gap.*row 1.*an empty cell"):
        bundle.task("fill", whole)
    assert bundle.task("fill", whole, mask="start", num=1).values["hidden"][0] > 0
    auto = bundle.task("fill", whole, gapped, num=1, mask="auto")
    assert auto.values == filled.values
    assert bundle.task("fill", whole, num=1, mask="auto", seed=1).values["hidden"][0] > 0


def test_a_row_without_any_cell_is_an_item_to_work_on_and_none_to_learn(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n" + "\n".join(f"{i % 5},{i % 3}" for i in range(40)) + "\n,\n")
    codec, report = Table(), Report("")
    codec.fit(list(codec.read(path, report)))
    assert [each.reason for each in report.problems] == ["every cell is empty"]
    path.write_text("a,b\n,\n3,\n")
    assert [item.value for item in codec.read_inputs(path)] == [
        {"a": None, "b": None}, {"a": 3, "b": None},
    ]  # fmt: skip


# -- files as people have them --------------------------------------------------------------------


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%Y/%m/%d %H:%M", "%d-%m-%Y"])
def test_dates_in_many_forms_are_numbers_and_come_back(form: str, tmp_path: Path) -> None:
    path = tmp_path / "days.csv"
    days = [(datetime(2020, 1, 1) + timedelta(days=3 * i)).strftime(form) for i in range(90)]
    path.write_text("day,x\n" + "".join(f"{day},{i * i}\n" for i, day in enumerate(days)))
    data = load(path, "table")
    assert data.codec.facts["columns"] == {"date": 1, "number": 1}
    values = data.codec.decode_many(data.train.batch(torch.arange(len(data.train))).x)
    assert {row["day"] for row in values} <= set(days)


def test_repairs_are_named(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    lines = [f'{i * i},"1,{i:03d}",{i % 7},{"NA" if i % 3 else "null"},{i % 4}' for i in range(90)]
    lines[3] += ",too,many"
    lines[4] = "16"
    head = "\ufeffx,price,x,note,group"  # a mark of the byte order, and two columns of one name
    path.write_text("\n".join([head, *lines]) + "\n", "utf-8")
    data = load(path)
    row = data.codec.decode_many(data.train.batch(torch.arange(1)).x)[0]
    assert list(row) == ["x", "price", "x (2)", "note", "group"]
    assert isinstance(row["price"], int)
    facts = data.report.facts
    assert (facts["rows_longer_than_the_header"], facts["short_rows"]) == (1, 1)
    assert data.codec.facts["not_learned"] == {"note": "it is empty"}


def test_columns_are_drawn_one_over_the_other() -> None:
    real = [{"sort": name, "size": size} for size, name in enumerate("aaab")]
    made = [{"sort": "<i>", "size": 99}, {"sort": "a", "size": None}]
    drawn = ElementTree.fromstring(f"<all>{shapes(real, made).replace('&nbsp;', '')}</all>")
    sort, size = drawn.iter("svg")
    known, ours = (
        [float(bar.get("width") or 0) for bar in sort.iter("rect")][i::2] for i in (0, 1)
    )
    assert known == pytest.approx([known[0], known[0] / 3, 0], abs=0.06)
    assert ours == pytest.approx([known[0] * 2 / 3, 0, known[0] * 2 / 3], abs=0.06)
    assert [text.text for text in sort.iter("text")][2:] == ["a", "b", "all others"]
    heights = [float(bar.get("height") or 0) for bar in size.iter("rect")]
    assert sum(height > 0 for height in heights) == 4
    line = size.find("path").get("d")  # type: ignore[union-attr]
    assert line.count("V140.0") == BINS - 1, "all that was drawn lies at the upper edge"
    assert "missing 0.0%, drawn 50.0%" in str(size.get("aria-label"))


def test_many_columns_names_of_others_and_nothing_are_drawn() -> None:
    rows = [{f"<b>{i}": None for i in range(MOST + 2)}]
    drawn = shapes(rows, rows)
    assert drawn.count("<svg") == MOST
    assert "2 more columns are not drawn" in drawn
    assert "<b>" not in drawn
    assert "<svg" not in shapes([], [])
