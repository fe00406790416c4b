"""Eight tables of ADBench and a table of claims: what a model finds strange, without labels.

    python benchmarks/anomalies.py                     one setting for all, IsolationForest beside
    python benchmarks/anomalies.py --seconds 10 --only 42_WBC 6_cardio
    python benchmarks/anomalies.py --train family.name=vae

Each table is learned whole and scored whole, without the labels, as the reference numbers of
IsolationForest are (scikit-learn's defaults, mean of three seeds). Area under the ROC in percent;
`mean` is over the eight. The claims (`vehicle-fraud`) are told apart: frauds are no outliers.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.preprocessing import OrdinalEncoder

from morphogen.core.bundle import Bundle

HERE = Path(__file__).parent
DATA = Path(os.environ.get("MORPHOGEN_SHARED", HERE.parents[1] / "shared")) / "data"
SEEDS = 3
CLAIMS, FRAUD, LEFT = "vehicle-fraud", "FraudFound_P", ("PolicyNumber",)


def main() -> None:
    """A line of JSON for each table, and the means."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", type=Path, default=DATA)
    options.add_argument("--seconds", type=float, default=60.0, help="training on each table")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--only", nargs="*", help="names of tables")
    options.add_argument("--train", nargs="*", default=[], help="settings of `morphogen train`")
    options.add_argument("--route", help="how `anomaly` scores; the usual way, unless told")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    found: dict[str, dict[str, float]] = {}
    names = sorted(path.stem for path in (given.data / "anomaly-tables").glob("*.npz"))
    for name in [each for each in [*names, CLAIMS] if not given.only or each in given.only]:
        columns, rows, y = table(given.data, name)
        begun = time.perf_counter()
        score = ours(given, columns, rows)
        found[name] = {
            "morphogen": round(100 * roc_auc_score(y, score), 1),
            "precision": round(100 * average_precision_score(y, score), 1),
            "isolation_forest": round(float(np.mean([
                100 * roc_auc_score(y, forest(rows, seed)) for seed in range(SEEDS)])), 1),
            "seconds": round(time.perf_counter() - begun),
        }  # fmt: skip
        print(json.dumps({"name": name, **found[name]}), flush=True)
    eight = [each for name, each in found.items() if name != CLAIMS]
    if eight:
        means = {key: round(float(np.mean([each[key] for each in eight])), 2)
                 for key in ("morphogen", "isolation_forest")}  # fmt: skip
        print(json.dumps({"name": "mean", **means}))


def table(data: Path, name: str) -> tuple[list[str], list[list[Any]], np.ndarray]:
    """The names of the columns, the rows, and which of them are anomalies."""
    if name == CLAIMS:
        with (data / CLAIMS / "fraud_oracle.csv").open() as file:
            claims = list(csv.DictReader(file))
        y = np.array([int(row[FRAUD]) for row in claims])
        columns = [column for column in claims[0] if column not in (FRAUD, *LEFT)]
        return columns, [[row[column] for column in columns] for row in claims], y
    held = np.load(data / "anomaly-tables" / f"{name}.npz")
    return [f"x{i}" for i in range(held["X"].shape[1])], held["X"].tolist(), held["y"]


def ours(given: argparse.Namespace, columns: list[str], rows: list[list[Any]]) -> np.ndarray:
    """Learn all rows, and say of each how strange it is."""
    folder = Path(tempfile.mkdtemp())
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    command = [
        sys.executable, "-m", "morphogen.cli.app", "train", str(folder / "rows.csv"), "--budget",
        f"{given.seconds:g}s", "--out", str(folder / "bundle"), "--set", "train.num_previews=0",
        "--set", "modality.target=none", "--modality", "table",
        *(part for each in given.train for part in ("--set", each)),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": str(given.threads)}
    subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
    bundle = Bundle.open(folder / "bundle")
    items = bundle.items(folder / "rows.csv")
    x = bundle.encode(*items)
    route = {} if given.route is None else {"route": given.route}
    scores: list[float] = bundle.task("anomaly", x, **route).values["score"]
    return np.array(scores)


def forest(rows: list[list[Any]], seed: int) -> np.ndarray:
    """IsolationForest of scikit-learn; categories by number."""
    if isinstance(rows[0][0], str):
        x = OrdinalEncoder().fit_transform(rows)
    else:
        x = np.array(rows, np.float64)
    return -IsolationForest(random_state=seed).fit(x).score_samples(x)


if __name__ == "__main__":
    main()
