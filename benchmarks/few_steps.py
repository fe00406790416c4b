"""How good are few sampling steps? The same model, drawn from with fewer and fewer.

    python benchmarks/images.py --only flow_matching --keep bundles
    python benchmarks/few_steps.py bundles/flow_matching

For each number of steps, the distance of 10,000 samples to the test images of Fashion-MNIST as a
multiple of the floor, that as a multiple of the same with 50 steps, and the time to draw them. The
judge is that of `images.py`. The goal: a route of few steps within 1.3 times of the 50-step one.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import morphogen as mg
from images import DATA, NUM, RESULTS, Judge
from morphogen.core.encoded import tensor
from morphogen.evaluation.evaluate import as_data

STEPS = (50, 25, 12, 8, 6, 5, 4, 3)


def main() -> None:
    """Draw with every number of steps; print a line for each, most steps first."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("bundle", help="a model of Fashion-MNIST that samples in steps")
    options.add_argument("--steps", type=int, nargs="+", default=STEPS)
    options.add_argument("--num", type=int, default=NUM)
    given = options.parse_args()
    data, bundle = mg.load(DATA), mg.open(given.bundle)
    judge = Judge(data)
    most = None
    for steps in sorted(given.steps, reverse=True):
        started = time.perf_counter()
        x = bundle.sample(given.num, seed=0, num_steps=steps).x
        seconds = time.perf_counter() - started
        samples = data.spec.quantise(tensor(as_data(bundle, data, x)))
        score = judge.score(samples)["ratio"]
        most = most or score
        picture = RESULTS.parent / "few_steps" / f"{Path(given.bundle).name}-{steps}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        judge.picture(samples, picture)
        line = {"steps": steps, "ratio": score, "of_most_steps": score / most, "seconds": seconds}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
