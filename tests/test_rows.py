"""Metrics of rows are those that others report; closeness and calibration are what they say."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, mannwhitneyu

from morphogen.core.random import generator, randn
from morphogen.evaluation._calibration import reliability_error
from morphogen.evaluation._closeness import membership
from morphogen.metrics._rows import columns
from morphogen.metrics.table_shapes import compared
from morphogen.metrics.trained_on_generated import tstr

Row = dict[str, Any]


def people(num: int, seed: int, *, broken: bool = False) -> list[Row]:
    """Rows of numbers and categories, some cells missing; `broken`: columns that know nothing of
    one another."""
    draw = random.Random(seed)
    rows = []
    for _ in range(num):
        age = draw.randint(18, 80)
        told = draw.randint(18, 80) if broken else age
        rows.append({
            "age": age,
            "pay": None if draw.random() < 0.1 else round(500 + 30 * told + draw.gauss(0, 200), 2),
            "job": None if draw.random() < 0.05 else draw.choice("abc" if told < 50 else "cd"),
            "old": draw.random() < 0.3 if broken else age > 60,
            "since": f"20{draw.randint(10, 24)}-0{draw.randint(1, 9)}-1{draw.randint(0, 9)}",
        })  # fmt: skip
    return rows


def test_shapes_are_the_complements_of_what_scipy_says() -> None:
    real, drawn = people(600, 0), people(500, 1, broken=True)
    shapes, _ = compared(drawn, real)
    for name in ("age", "pay"):
        both = [[row[name] for row in rows if row[name] is not None] for rows in (drawn, real)]
        assert shapes[name] == pytest.approx(1 - ks_2samp(*both).statistic, abs=1e-12)
    share = [{job: sum(row["job"] == job for row in rows) / len(rows) for job in ("a", "b", "c",
             "d", None)} for rows in (drawn, real)]  # fmt: skip
    distance = sum(abs(share[0][job] - share[1][job]) for job in share[0]) / 2
    assert shapes["job"] == pytest.approx(1 - distance, abs=1e-12)
    assert columns(drawn, real)["since"].is_number  # a date is


def test_trends_are_those_of_correlations_and_joint_cells() -> None:
    real, drawn = people(600, 0), people(600, 1, broken=True)
    _, trends = compared(drawn, real)
    r = [np.corrcoef(*zip(*((row["age"], row["pay"]) for row in rows if row["pay"]), strict=True))
         [0, 1] for rows in (drawn, real)]  # fmt: skip
    assert trends["age", "pay"] == pytest.approx(1 - abs(r[0] - r[1]) / 2, abs=1e-12)
    cells = {(row["job"], row["old"]) for row in (*real, *drawn)}
    share = [{cell: sum((row["job"], row["old"]) == cell for row in rows) / len(rows)
              for cell in cells} for rows in (drawn, real)]  # fmt: skip
    distance = sum(abs(share[0][cell] - share[1][cell]) for cell in cells) / 2
    assert trends["job", "old"] == pytest.approx(1 - distance, abs=1e-12)
    assert compared(real, real)[1] == pytest.approx(dict.fromkeys(trends, 1.0))


def test_shapes_and_trends_are_those_of_sdmetrics() -> None:
    reports = pytest.importorskip("sdmetrics.reports.single_table")
    pandas = pytest.importorskip("pandas")
    real, drawn = people(400, 0), people(400, 1, broken=True)
    kinds = {"age": "numerical", "pay": "numerical", "job": "categorical", "old": "boolean"}
    frames = [pandas.DataFrame([{n: row[n] for n in kinds} for row in rows])
              for rows in (real, drawn)]  # fmt: skip
    report = reports.QualityReport()
    about = {"columns": {name: {"sdtype": kind} for name, kind in kinds.items()}}
    report.generate(*frames, about, verbose=False)
    shapes, trends = compared([{n: row[n] for n in kinds} for row in drawn],
                              [{n: row[n] for n in kinds} for row in real])  # fmt: skip
    theirs = report.get_details("Column Shapes")
    assert shapes == pytest.approx(dict(zip(theirs["Column"], theirs["Score"], strict=True)))
    theirs = report.get_details("Column Pair Trends")
    pairs = zip(theirs["Column 1"], theirs["Column 2"], theirs["Score"], strict=True)
    assert trends == pytest.approx({(a, b): score for a, b, score in pairs})


def test_trees_learn_from_good_rows_and_not_from_broken_ones() -> None:
    test = people(200, 2)
    good, bad = (tstr(people(200, 1, broken=broken), test, "old") for broken in (False, True))
    assert good is not None
    assert bad is not None
    assert good > 0.95
    assert abs(bad - 0.5) < 0.15
    assert tstr([row | {"old": True} for row in people(50, 1)], test, "old") is None


def test_the_attack_is_mann_whitneys_count() -> None:
    train, held = (torch.randint(0, 9, (n,), generator=generator(n)).double() for n in (60, 40))
    value, low, high = membership(train, held)
    count = mannwhitneyu(held.numpy(), train.numpy()).statistic  # ties are halves
    assert value == pytest.approx(count / (60 * 40))
    assert low < value < high
    far, near = randn((300,), generator(0)).abs() + 1, torch.zeros(300)
    assert membership(near, far)[0] == 1.0
    draws = [membership(*randn((2, 300), generator(seed)).abs()) for seed in range(40)]
    assert sum(low <= 0.5 <= high for _, low, high in draws) >= 35


def test_reliability_is_the_gap_between_what_is_said_and_what_is_so() -> None:
    draw = np.random.default_rng(0)
    p = draw.uniform(0.5, 1, 30_000)
    assert reliability_error(p, draw.random(len(p)) < p) < 0.02
    assert reliability_error(p, draw.random(len(p)) < p - 0.2) == pytest.approx(0.2, abs=0.02)
    sure = np.ones(300)
    assert reliability_error(sure, np.arange(300) % 4 != 0) == pytest.approx(0.25, abs=1e-12)
    assert math.isclose(reliability_error(sure, sure == 1), 0)
