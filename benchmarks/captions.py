"""Does a text-to-picture model use the caption? Its loss with the right one and with another's.

    python benchmarks/captions.py                  trains for 15 minutes, then measures
    python benchmarks/captions.py --bundle FOLDER  measures a bundle that is there

Noto emoji at 16x16 with their Unicode names. Every held-out picture is noised at five times with
the same noise and denoised with its own caption, with those of seven other held-out items, and
with none. What another's caption costs more is a paired difference by item, with the standard
error of its mean; a model that ignores captions has 0. Beside it, how often the right caption is
the likeliest of the eight (chance: 0.125), and the same of as many training items, which says how
much of the gain is memory. Samples for eight captions go to benchmarks/results/captions.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import morphogen as mg
from morphogen.core.bundle import Bundle
from morphogen.core.random import generator, randint, randn
from morphogen.data.dataset import Data
from morphogen.data.store import Store

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "captions"
DATA = Path(os.environ.get("MORPHOGEN_SHARED", HERE.parents[1] / "shared")) / "data/emoji-noto"
TIMES = (0.3, 0.5, 0.7, 0.85, 0.95)
DRAWS = 2  # of noise, at each time
CHOICES = 8  # captions that each item is denoised with: its own, and those of seven others
CAPTIONS = (
    "yellow face", "red heart", "blue heart", "three o'clock", "green apple", "woman in red dress",
    "black square", "a house with a tree",
)  # fmt: skip
ROWS, GUIDANCE = 6, 2.0


def main() -> None:
    """Train where no bundle is given, measure, draw; one line of JSON for each split."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--bundle", help="a model of the emoji with their captions")
    options.add_argument("--budget", default="15m")
    options.add_argument("--family", default="flow_matching")
    options.add_argument("--set", nargs="*", default=[], help="settings, as of `morphogen train`")
    given = options.parse_args()
    data = mg.load(DATA, conditions="caption", size=16)
    if given.bundle is None:
        out = RESULTS / "bundle"
        bundle = mg.train(data, given.family, budget=given.budget, out=out, settings=given.set)
    else:
        bundle = mg.open(given.bundle)
    for name, split in (("held out", data.test), ("training", data.train)):
        print(json.dumps({"items": name, **measured(bundle, split, len(data.test))}), flush=True)
    draw(bundle, data)


@torch.no_grad()
def measured(bundle: Bundle, split: Store, num: int) -> dict[str, Any]:
    """What captions are worth to the denoiser, over `num` items of a split."""
    index = torch.randperm(len(split), generator=generator(1))[:num]
    batch, draw = split.batch(index), generator(2)
    x, caption = batch.x, batch.cond["caption"]
    own, none = losses(bundle, x, caption), losses(bundle, x, None)  # (N, T)
    others = [losses(bundle, x, caption[deal(len(x), draw)]) for _ in range(CHOICES - 1)]
    costs = torch.stack(others).mean(0) - own
    likeliest = own.mean(1) < torch.stack(others).mean(2).amin(0)
    return {
        "n": len(x),
        "right": told(own.mean(1)),
        "others_cost": told(costs.mean(1)),
        "none_costs": told((none - own).mean(1)),
        "likeliest_of_eight": told(likeliest.double()),
        "others_cost_at": {t: told(costs[:, place]) for place, t in enumerate(TIMES)},
    }


def losses(bundle: Bundle, x: Tensor, caption: Tensor | None) -> Tensor:
    """The squared error of E[eps - x | x_t] by item and time, (N, T): that of the item, times
    1 / t^2. The noise is the same whatever the caption."""
    model: Any = bundle.family
    cond = None if caption is None else {"caption": caption}
    total, noise = torch.zeros(len(x), len(TIMES), dtype=torch.float64), generator(3)
    for place, t in enumerate(TIMES):
        time = torch.full((len(x),), t)
        for _ in range(DRAWS):
            x_t = model.path.noised(x, randn(x.shape, noise), time)
            error = model.denoise(x_t, time, cond) - x
            total[:, place] += error.double().square().flatten(1).mean(1) / (t * t * DRAWS)
    return total


def deal(num: int, draw: torch.Generator) -> Tensor:
    """An order in which nobody has their own: a random circle, turned."""
    circle = torch.randperm(num, generator=draw)
    turned = circle.roll(int(randint(num - 1, (1,), draw)) + 1)
    return torch.empty_like(circle).scatter_(0, circle, turned)


def told(values: Tensor) -> list[float]:
    """A mean and its standard error, over items."""
    error = float(values.double().std()) / math.sqrt(len(values))
    return [float(f"{float(values.double().mean()):.4g}"), float(f"{error:.2g}")]


def draw(bundle: Bundle, data: Data) -> None:
    """One column for each caption."""
    known = set(data.codec.condition_codecs["caption"].decode_many(data.train.cond["caption"]))
    print(json.dumps({"columns": CAPTIONS, "known": [each in known for each in CAPTIONS]}))
    asked = [caption for _ in range(ROWS) for caption in CAPTIONS]
    drawn = bundle.sample(len(asked), seed=0, cond={"caption": asked}, guidance=GUIDANCE)
    drawn.columns = len(CAPTIONS)
    RESULTS.mkdir(parents=True, exist_ok=True)
    print(drawn.save(RESULTS / "samples.png"))


if __name__ == "__main__":
    main()
