"""How long does each metric take on 10,000 generated and 10,000 real items of 128 features?

    python benchmarks/metrics.py
    python benchmarks/metrics.py --num 2000 --dim 64 --only kernel_distance

Beside each stands a reference implementation on the same features: scipy's matrix square root,
scikit-learn's kernel and cross-validation, prdc (pip install --no-deps prdc==0.2), numpy's singular
values. The ratio is our time over theirs, and the difference the largest one between scores of the
same name; that of the two-sample test is another classifier, so that its difference is no error.
CPU time is what other work on the machine leaves alone. The goal: under 30 seconds each on two
cores.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import resource
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from morphogen.core import discover
from morphogen.core.metric import Features
from morphogen.core.random import generator, randn

Scores = Mapping[str, float]


def draw(num: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Generated and real items whose directions matter ever less, as those of learned features."""
    scale = torch.arange(1, dim + 1) ** -0.5
    real = randn((num, dim), generator(0)) * scale
    return randn((num, dim), generator(1)) * scale * 0.95 + 0.05 * scale, real


def frechet(y: np.ndarray, x: np.ndarray) -> Scores:
    """By the matrix square root of the product, as published."""
    from scipy.linalg import sqrtm

    s, t = np.cov(y, rowvar=False), np.cov(x, rowvar=False)
    means = np.square(y.mean(0) - x.mean(0)).sum()
    return {"frechet": float(means + np.trace(s) + np.trace(t) - 2 * np.trace(sqrtm(s @ t).real))}


def kernel_distance(y: np.ndarray, x: np.ndarray) -> Scores:
    """From whole kernel matrices."""
    from sklearn.metrics.pairwise import polynomial_kernel

    within = 0.0
    for each in (y, x):
        k = polynomial_kernel(each, degree=3)
        within += (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))
    return {"kernel_distance": float(within - 2 * polynomial_kernel(y, x, degree=3).mean())}


def neighbours(k: int) -> Callable[[np.ndarray, np.ndarray], Scores]:
    """All four scores of prdc, of which each of our metrics gives two."""

    def measure(y: np.ndarray, x: np.ndarray) -> Scores:
        from prdc import compute_prdc

        with contextlib.redirect_stdout(io.StringIO()):
            found = compute_prdc(x, y, k)
        return {name: float(value) for name, value in found.items()}

    return measure


def vendi(y: np.ndarray, x: np.ndarray) -> Scores:
    """From the singular values of the normalised items."""
    found = {}
    for name, each in (("vendi", y), ("vendi_reference", x)):
        unit = each / np.linalg.norm(each, axis=1, keepdims=True)
        values = np.linalg.svd(unit, compute_uv=False) ** 2 / len(unit)
        found[name] = float(np.exp(-(values * np.log(values)).sum()))
    return found


def classifier_two_sample(y: np.ndarray, x: np.ndarray) -> Scores:
    """Boosted trees alone, by scikit-learn's own cross-validation and with its defaults."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    labels = np.arange(len(y) + len(x)) < len(y)
    trees = HistGradientBoostingClassifier(random_state=0)
    found = cross_val_score(trees, np.concatenate([y, x]), labels, cv=folds)
    return {"classifier_two_sample": float(found.mean())}


REFERENCES: dict[str, Callable[[np.ndarray, np.ndarray], Scores]] = {
    "frechet": frechet,
    "kernel_distance": kernel_distance,
    "precision_recall": neighbours(3),
    "density_coverage": neighbours(5),
    "vendi": vendi,
    "classifier_two_sample": classifier_two_sample,
}


def timed(measure: Callable[[], Scores]) -> tuple[Scores, float, float]:
    """The scores, seconds, and seconds of CPU time of all threads."""
    start, cpu = time.perf_counter(), time.process_time()
    found = measure()
    return found, time.perf_counter() - start, time.process_time() - cpu


def main() -> None:
    """Measure all, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--num", type=int, default=10_000, help="items in each set")
    parser.add_argument("--dim", type=int, default=128, help="features of an item")
    parser.add_argument("--only", nargs="*", default=list(REFERENCES), choices=list(REFERENCES))
    parser.add_argument("--ours", action="store_true", help="leave the references out")
    given = parser.parse_args()
    features, reference = draw(given.num, given.dim)
    y, x = features.double().numpy(), reference.double().numpy()
    threads = torch.get_num_threads()
    print(f"{given.num} x {given.num} x {given.dim}, {threads} of {os.cpu_count()} cores\n")
    print("| metric | scores | time, CPU time | reference | ratio of CPU times | difference |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in given.only:
        metric = discover.find("metric", name)
        sets = Features(features, reference)
        metric(sets.thinned(50))  # what is imported late is no part of the time
        found, seconds, cpu = timed(lambda m=metric, s=sets: m(s, generator=generator(0)))
        shown = ", ".join(f"{score} {value:.4g}" for score, value in found.items())
        cells = [name, shown, f"{seconds:.1f} s, {cpu:.1f} s"]
        if not given.ours:
            REFERENCES[name](y[:500], x[:500])
            theirs, its_seconds, its_cpu = timed(lambda r=REFERENCES[name]: r(y, x))
            difference = max(abs(found[score] - theirs[score]) for score in found)
            cells += [f"{its_seconds:.1f} s, {its_cpu:.1f} s", f"{cpu / its_cpu:.2f}"]
            cells.append(f"{difference:.1e}")
        print(f"| {' | '.join(cells)} |", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\nlargest memory: {peak:.1f} GB")


if __name__ == "__main__":
    main()
