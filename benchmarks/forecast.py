"""Is the forecast true? Twenty runs, each forecast before it starts and measured when it ends.

    python benchmarks/forecast.py

Every run is a process of its own. Its forecast is the first line of its log; its time is what the
log says at the end, its memory the largest resident set that the operating system saw. The goal:
memory within 20 %, time within 25 %.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

# family, settings, size of the pictures, steps
RUNS: list[tuple[str, str, int, int]] = [
    ("flow_matching", "", 28, 120),
    ("flow_matching", "train.batch_size=128", 28, 80),
    ("flow_matching", "backbone.model_dim=64", 28, 60),
    ("flow_matching", "", 64, 40),
    ("flow_matching", "family.baseline=none", 16, 300),
    ("flow_matching", "backbone.name=transformer", 28, 40),
    ("flow_matching", "backbone.name=mlp", 8, 600),
    ("diffusion", "", 28, 120),
    ("diffusion", "backbone.num_mid_blocks=4", 28, 80),
    ("diffusion", "train.ema=0", 16, 300),
    ("vae", "", 28, 60),
    ("vae", "backbone.name=mlp", 28, 200),
    ("vae", "train.batch_size=32", 28, 150),
    ("autoencoder", "", 28, 80),
    ("vq_vae", "", 28, 80),
    ("gan", "", 28, 40),
    ("gan", "train.batch_size=32", 16, 120),
    ("autoregressive", "", 8, 150),
    ("rbm", "", 28, 300),
    ("dbn", "", 28, 200),
]

CODE = """
import json, resource, sys
import morphogen as mg
from morphogen.training.run import prepare
data, family, budget, out, settings = json.loads(sys.argv[1])
session = prepare(data, family, budget=budget, out=out, settings=settings)
needs = []
measure = session.forecast
session.forecast = lambda: needs.append(measure()) or needs[0]
bundle = session.train(lambda log: None)
print(json.dumps({
    "forecast_seconds": needs[0].seconds, "forecast_bytes": needs[0].memory_bytes,
    "seconds": session.run.state.seconds,
    "bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
}))
"""


def main() -> None:
    """Run all, print a table and the worst ratios."""
    rows = []
    print("| family | settings | size | time, forecast | memory, forecast |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for number, (family, settings, size, steps) in enumerate(RUNS):
            data = Path(folder, f"{size}.npz")
            if not data.exists():
                np.savez(data, images=pictures(size))
            arguments = [
                str(data), family, f"{steps}steps", f"{folder}/{number}",
                [setting for setting in [settings, "train.num_previews=0"] if setting],
            ]  # fmt: skip
            command = [sys.executable, "-c", CODE, json.dumps(arguments)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            time = found["forecast_seconds"] / found["seconds"]
            memory = found["forecast_bytes"] / found["bytes"]
            rows.append((time, memory))
            print(
                f"| {family} | {settings} | {size} | {found['seconds']:.1f} s, {time:.2f} "
                f"| {found['bytes'] / 1e6:.0f} MB, {memory:.2f} |",
                flush=True,
            )
    within = [sum(abs(row[i] - 1) <= limit for row in rows) for i, limit in ((0, 0.25), (1, 0.2))]
    print(f"\ntime within 25 %: {within[0]} of {len(rows)}; memory within 20 %: {within[1]}")


def pictures(size: int) -> np.ndarray:
    """Two thousand blurred blobs: what matters here is their size."""
    rng = np.random.default_rng(0)
    centre, width = rng.uniform(0.2, 0.8, (2000, 2, 1, 1)), rng.uniform(0.1, 0.3, (2000, 1, 1))
    grid = np.linspace(0, 1, size)
    across = (grid[None, :, None] - centre[:, 0]) ** 2 + (grid[None, None] - centre[:, 1]) ** 2
    return (255 * np.exp(-across / width**2)).astype(np.uint8)


if __name__ == "__main__":
    main()
