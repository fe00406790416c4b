"""Adult under a clock: what trees learn from drawn rows, how columns look, how near the data.

    python benchmarks/tables.py                        8 minutes on the official training rows
    python benchmarks/tables.py --minutes 1 --threads 1 --only ours
    python benchmarks/tables.py --reading 1000000      how long so many rows take to be encoded
    python benchmarks/tables.py --reading 1000000 --form parquet

As many rows are drawn as there are training rows. `tstr_auc` is that of scikit-learn's
HistGradientBoosting, which learns drawn rows and tells the income of the official test rows;
`shape_error` and `trend_error` are 1 - column shapes and 1 - pair trends of SDMetrics, against the
training rows; `train_share` is the share of drawn rows that are nearer to a training than to a test
row of as many, 0.5 for a model that has not copied; `told_apart` how well the same trees tell drawn
from training rows on halves that they have not seen. CTGAN has the same rows, time and threads.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import morphogen as mg
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.evaluation.copying import copying
from morphogen.metrics._rows import columns
from morphogen.metrics.table_shapes import compared
from morphogen.metrics.trained_on_generated import tstr

HERE = Path(__file__).parent
PEER = HERE / "peers" / "ctgan_rows.py"
DATA = Path(os.environ.get("MORPHOGEN_SHARED", HERE.parents[1] / "shared")) / "data/adult"
NAMES = [
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation",
    "relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week",
    "native-country", "income",
]  # fmt: skip
TARGET = "income"
AT_ONCE = 4_000  # rows drawn in one call
Rows = list[dict[str, Any]]


def main() -> None:
    """The real rows, ours, then the peer; a line of JSON for each."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", type=Path, default=DATA)
    options.add_argument("--minutes", type=float, default=8.0, help="training of each")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--only", choices=["ours", "peer", "floor"])
    options.add_argument("--train", nargs="*", default=[], help="more options of `morphogen train`")
    options.add_argument("--out", type=Path, help="folder for the bundle and what is drawn")
    options.add_argument("--reading", type=int, help="so many rows, reading and encoding alone")
    options.add_argument("--form", choices=["csv", "parquet", "sqlite"], default="csv")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    folder = given.out or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    if given.reading:
        print(json.dumps(reading(folder, given.reading, given.form)))
        return
    source = adult(given.data, folder / "adult.csv")
    data = mg.load(source, "table", rules="none")  # peers break rules, which is to be judged too
    train, test = (data.codec.decode_many(s.batch(torch.arange(len(s))).x)
                   for s in (data.train, data.test))  # fmt: skip
    if given.only in (None, "floor"):
        print(json.dumps({"name": "training rows", "tstr_auc": tstr(train, test, TARGET)}))
    if given.only in (None, "ours"):
        facts, drawn = ours(given, source, folder)
        print(json.dumps({"name": "morphogen", **facts, **judged(drawn, train, test, data)}))
    if given.only in (None, "peer"):
        facts, drawn = peer(given, folder, train)
        print(json.dumps({"name": "CTGAN", **facts, **judged(drawn, train, test, data)}))


def adult(folder: Path, out: Path) -> Path:
    """The official files as one table that says which rows are for testing."""
    with out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*NAMES, "split"])
        for name, split in (("adult.data", "train"), ("adult.test", "test")):
            for line in (folder / name).read_text().splitlines():
                cells = [cell.strip() for cell in line.split(",")]
                if len(cells) == len(NAMES):
                    writer.writerow([*cells[:-1], cells[-1].rstrip("."), split])
    return out


def ours(given: argparse.Namespace, source: Path, folder: Path) -> tuple[dict[str, Any], Rows]:
    """Train by the command that a user types, and draw."""
    command = [
        sys.executable, "-m", "morphogen.cli.app", "train", str(source), "--budget",
        f"{60 * given.minutes:g}s", "--out", str(folder / "bundle"), *given.train,
    ]  # fmt: skip
    subprocess.run(command, check=True, env=_environment(given), stdout=sys.stderr)
    cpu = round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime)
    bundle = Bundle.open(folder / "bundle")
    begun, num = time.perf_counter(), len(mg.load(source).train)
    drawn: Rows = []
    while len(drawn) < num:
        x = bundle.sample(min(AT_ONCE, num - len(drawn)), seed=len(drawn)).x
        drawn += bundle.codec.decode_many(x)
    bundle.codec.write(drawn, folder / "ours.csv")
    return {"cpu_s": cpu, "sampling_s": round(time.perf_counter() - begun, 1)}, drawn


def peer(given: argparse.Namespace, folder: Path, train: Rows) -> tuple[dict[str, Any], Rows]:
    """CTGAN, in a process of its own."""
    rows, out = folder / "train.json", folder / "ctgan.json"
    rows.write_text(json.dumps(train))
    command = [
        sys.executable, str(PEER), "--train", str(rows), "--out", str(out), "--seconds",
        str(60 * given.minutes), "--threads", str(given.threads),
    ]  # fmt: skip
    subprocess.run(command, check=True, env=_environment(given))
    told = json.loads(out.read_text())
    return told["facts"], told["rows"]


def judged(drawn: Rows, train: Rows, test: Rows, data: Any) -> dict[str, float]:
    """Every score of drawn rows."""
    shapes, trends = compared(drawn, train)
    x = data.codec.encode_many([Item(row) for row in drawn])
    look = copying(x, data.train, data.test).looks[0]
    pairs = {(row["education"], row["education-num"]) for row in train}
    kept = [(row["education"], row["education-num"]) in pairs for row in drawn]
    scores = {each.name: each.value for each in look.scores}
    found = {
        "tstr_auc": tstr(drawn, test, TARGET) or 0.0,
        "shape_error": 1 - float(np.mean(list(shapes.values()))),
        "worst_shape": 1 - min(shapes.values()),
        "trend_error": 1 - float(np.mean(list(trends.values()))),
        "train_share": scores["train_share"],
        "membership_auc": scores["membership_auc"],
        "told_apart": told_apart(drawn, train),
        "breaks_a_rule": 1 - sum(kept) / len(kept),  # each level of education has one number
    }
    return {name: round(value, 4) for name, value in found.items()}


def told_apart(drawn: Rows, train: Rows) -> float:
    """The area under the ROC of trees that tell drawn from real rows, on unseen halves."""
    both = columns([{"drawn": "yes", **row} for row in drawn],
                   [{"drawn": "no", **row} for row in train[: len(drawn)]])  # fmt: skip
    names = [name for name in both if name != "drawn"]
    every = [
        dict(zip(names, row, strict=True)) | {"drawn": kind}
        for i, kind in enumerate("yn")
        for row in zip(*(both[name].values[i].tolist() for name in names), strict=True)
    ]
    random.Random(0).shuffle(every)
    half = len(every) // 2
    return tstr(every[:half], every[half:], "drawn") or 0.0


def reading(folder: Path, num: int, form: str) -> dict[str, Any]:
    """Rows of Adult again and again, as one file of a form."""
    source, big = adult(DATA, folder / "adult.csv"), folder / "big.csv"
    head, *lines = source.read_text().splitlines()
    with big.open("w") as file:
        file.write(head + "\n")
        file.writelines(lines[i % len(lines)] + "\n" for i in range(num))
    command = [sys.executable, "-c", WRITTEN[form], str(big), str(folder / f"big.{form}")]
    subprocess.run(command, check=True)  # by a process of its own: what it takes is not counted
    begun, cpu = time.perf_counter(), time.process_time()
    data = mg.load(folder / f"big.{form}")
    return {"form": form, "rows": len(data.train) + len(data.test),
            "cpu_s": round(time.process_time() - cpu),
            "seconds": round(time.perf_counter() - begun, 1),
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10}  # fmt: skip


WRITTEN = {  # programs from a file of CSV to one of each form
    "csv": "",
    "parquet": """
import sys
from pyarrow import csv, parquet
parquet.write_table(csv.read_csv(sys.argv[1]), sys.argv[2])
""",
    "sqlite": """
import sqlite3, sys
from pyarrow import csv
table = csv.read_csv(sys.argv[1])
with sqlite3.connect(sys.argv[2]) as database:
    names = ", ".join(f'"{name}"' for name in table.column_names)
    database.execute(f"CREATE TABLE adult ({names})")
    put = f"INSERT INTO adult VALUES ({', '.join('?' * table.num_columns)})"
    for batch in table.to_batches():
        database.executemany(put, zip(*batch.to_pydict().values()))
""",
}


def _environment(given: argparse.Namespace) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(given.threads)}


if __name__ == "__main__":
    main()
