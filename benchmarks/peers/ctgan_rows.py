"""CTGAN (Xu et al. 2019, `pip install ctgan`) with its defaults, for so many seconds.

    python benchmarks/peers/ctgan_rows.py --train rows.json --out drawn.json --seconds 480

Epochs are timed first; the run that counts has as many epochs as fit, 300 (its default) at most.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

MOST_EPOCHS, FEW = 300, 10


def main() -> None:
    """Train, draw as many rows, and write them with what it took."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--train", type=Path, required=True)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--seconds", type=float, required=True)
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    from ctgan import CTGAN

    rows = pd.DataFrame(json.loads(given.train.read_text()))
    categories = [n for n in rows if rows[n].dtype == object or rows[n].nunique() <= FEW]
    categories = [n for n in rows if n in categories or not pd.api.types.is_numeric_dtype(rows[n])]
    rows[categories] = rows[categories].astype(str)
    of_one, of_few = (_seconds(CTGAN(epochs=n, enable_gpu=False), rows, categories) for n in (1, 3))
    each = (of_few - of_one) / 2  # what comes before the first epoch takes longer than many
    epochs = max(1, min(int((given.seconds - of_one) / each), MOST_EPOCHS))
    model = CTGAN(epochs=epochs, enable_gpu=False)
    facts = {"epochs": epochs, "seconds": round(_seconds(model, rows, categories))}
    drawn = json.loads(model.sample(len(rows)).to_json(orient="records"))
    plain = [{k: None if v == "None" else v for k, v in row.items()} for row in drawn]
    given.out.write_text(json.dumps({"facts": facts, "rows": plain}))


def _seconds(model: Any, rows: pd.DataFrame, categories: list[str]) -> float:
    """Train, and say how long it took."""
    begun = time.perf_counter()
    model.fit(rows, categories)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
