"""Are copycats told from honest models? Fashion-MNIST, planted copycats, many seeds.

    OMP_NUM_THREADS=1 python benchmarks/copying.py                  small: 10,000 training items
    OMP_NUM_THREADS=1 python benchmarks/copying.py --features --num-train 60000 --seeds 20

The training split stands for what a model was trained on. Half of the test split is what the judge
holds against it; the other half is what honest models "generate". Copycats replay training items
with noise, with crops (random windows of the padded picture: shifts) or mirrored, in whole, or as a
tenth, or a twentieth, of otherwise honest items. For each: how many were caught, and the area
under the curve of the p-values of honest against copying models, over seeds.

Beside them, honest models that are no perfect ones: blurred items, items of two classes only, and
draws from Gaussians fitted to the principal components of each class of the training items.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

import morphogen as mg
from morphogen.core.random import generator, randint, randn
from morphogen.data.store import MemoryStore
from morphogen.evaluation.copying import Copying, Judge
from morphogen.evaluation.features import feature_extractor

HERE = Path(__file__).parent
DATA = Path(os.environ.get("MORPHOGEN_SHARED", HERE.parents[1] / "shared")) / "data/fashion-mnist"
Change = Callable[[Tensor, torch.Generator], Tensor]


def noisy(x: Tensor, draw: torch.Generator) -> Tensor:
    """Noise of a twentieth of the range."""
    return (x + 0.1 * randn(x.shape, draw)).clamp(-1, 1)


def cropped(x: Tensor, draw: torch.Generator) -> Tensor:
    """A random window of the picture padded by two."""
    padded, size = pad(x, (2, 2, 2, 2), value=-1.0), x.shape[-1]
    corners = randint(5, (len(x), 2), draw).tolist()
    windows = [padded[i, :, a : a + size, b : b + size] for i, (a, b) in enumerate(corners)]
    return torch.stack(windows)


def mirrored(x: Tensor, draw: torch.Generator) -> Tensor:
    """Left for right, with a little noise."""
    return (x.flip(-1) + 0.02 * randn(x.shape, draw)).clamp(-1, 1)


def zoomed(x: Tensor, draw: torch.Generator) -> Tensor:
    """A random window of 26 x 26 drawn out to 28 x 28."""
    corners = randint(3, (len(x), 2), draw).tolist()
    windows = torch.stack([x[i, :, a : a + 26, b : b + 26] for i, (a, b) in enumerate(corners)])
    return interpolate(windows, x.shape[-2:], mode="bilinear")


CHANGES: dict[str, Change] = {"noise": noisy, "crop": cropped, "flip": mirrored, "zoom": zoomed}


def main() -> None:
    """Print one line per kind of model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--num-train", type=int, default=10_000)
    parser.add_argument("--num", type=int, default=1000, help="generated items")
    parser.add_argument("--seeds", type=int, default=3, help="of copycats")
    parser.add_argument("--clean-seeds", type=int, default=20, help="of honest models")
    parser.add_argument("--features", action="store_true", help="look at features too")
    given = parser.parse_args()
    data = mg.load(DATA)
    see = feature_extractor(data).features if given.features else None
    found: dict[str, list[Copying]] = defaultdict(list)
    start = time.process_time()
    for seed in range(max(given.seeds, given.clean_seeds)):
        draw = generator(seed)
        train = data.train.subset(given.num_train, draw)
        order = torch.randperm(len(data.test), generator=draw)
        half = len(order) // 2
        judge = Judge(train, data.test.take(order[:half]), see, seed=seed)
        honest = data.test.batch(order[half : half + given.num]).x
        made = [("honest", honest)]
        if seed < given.seeds:
            made += imperfect(train, honest, data.test.take(order[half:]), draw)
            made += copycats(train, honest, draw)
        for name, x in made:
            copying = judge(x)
            found[name].append(copying)
            print(json.dumps([seed, name, copying.verdict, copying.p_value]), flush=True)
    report(found)
    num = sum(map(len, found.values()))
    print(f"\n{(time.process_time() - start) / num:.1f} CPU seconds for each of {num} verdicts")


def imperfect(
    train: MemoryStore, honest: Tensor, rest: MemoryStore, draw: torch.Generator
) -> list[tuple[str, Tensor]]:
    """What honest models of little skill generate."""
    label = next(iter(rest.cond))
    two_classes = torch.nonzero(rest.cond[label] < 2)[: len(honest), 0]
    return [
        ("honest: blurred", avg_pool2d(honest, 3, 1, 1, count_include_pad=False)),
        ("honest: two classes", rest.batch(two_classes).x),
        ("honest: Gaussians", gaussians(train, train.cond[label], len(honest), draw)),
    ]


def copycats(train: MemoryStore, honest: Tensor, draw: torch.Generator) -> list[tuple[str, Tensor]]:
    """What models generate that copy all the time, or sometimes."""
    made = []
    some = torch.randperm(len(train), generator=draw)[: len(honest)]
    for name, change in CHANGES.items():
        copies = change(train.batch(some).x, draw)
        for part in (1.0, 0.1, 0.05):
            mixed = honest.clone()
            count = int(part * len(mixed))
            mixed[:count] = copies[:count]
            made.append((f"{name} {part:.0%}", mixed))
    return made


def gaussians(split: MemoryStore, labels: Tensor, num: int, draw: torch.Generator) -> Tensor:
    """Draws from a Gaussian over 50 principal components of each class."""
    made = []
    for label in torch.unique(labels):
        x = split.batch(torch.nonzero(labels == label)[:, 0]).x.flatten(1)
        mean = x.mean(0)
        axes = torch.linalg.svd(x - mean, full_matrices=False)
        spread = axes.Vh[:50] * axes.S[:50, None] / len(x) ** 0.5
        made.append(mean + randn((num // len(torch.unique(labels)), 50), draw) @ spread)
    return torch.cat(made).clamp(-1, 1).view(-1, *split.spec.shape)


def report(found: dict[str, list[Copying]]) -> None:
    """How often each was called a copier, and how well p-values tell it from honest models."""
    clean = [copying.p_value for copying in found["honest"]]
    print("\n| model | called a copier | AUC against honest |")
    print("| --- | --- | --- |")
    for name, each in found.items():
        caught = sum(copying.verdict == "copies" for copying in each)
        auc = area(clean, [copying.p_value for copying in each])
        print(f"| {name} | {caught} of {len(each)} | {auc:.3f} |")


def area(clean: list[float | None], copying: list[float | None]) -> float:
    """P(a copycat's p-value is smaller than an honest model's), ties counting half."""
    pairs = [(a or 0.0, b or 0.0) for a in clean for b in copying]
    return sum((b < a) + 0.5 * (b == a) for a, b in pairs) / len(pairs)


if __name__ == "__main__":
    main()
