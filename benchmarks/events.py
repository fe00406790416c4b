"""How good are recommendations from logs? Beside counting, and the law where it is known.

    python benchmarks/events.py law [--budget 3m] [--users 4000] [--families autoregressive masked]
    python benchmarks/events.py log ratings.csv --set modality.divide=each [--budget 3m]
    python benchmarks/events.py reading [--rows 1000000]      how long reading and encoding takes

law: a made log whose law is known. A user is of one of G groups, and goes on from item a to one of
ten successors that a has in that group, with shares that fall, or sometimes to any item. The oracle
knows the law, infers the group from what the user did, and ranks by

    p(b | x) = sum_z p(z | x) P_z(last of x, b)

which nobody can beat: its recall at ten is the mean of the ten largest of these. A chain that does
not know of groups ranks by the mean over groups that fits the last item alone.

log: any log of users, items and times; or the wheel of RecBole (`pip download --no-deps recbole`),
in which MovieLens-100K lies: its licence lets it be used for research, and not be handed on. Scores
are those of `morphogen evaluate`: all items are ranked, of each user the last event is judged,
given all before it.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import morphogen as mg
from morphogen.core.bundle import Bundle
from morphogen.core.random import generator
from morphogen.data.dataset import Data
from morphogen.evaluation._ranks import Counts, ranked, ranks_of
from morphogen.metrics.ranking import ndcg, ranking, recall

GROUPS, ITEMS, SUCCESSORS, ANY = 4, 200, 10, 0.1
FALLS = 0.75  # the share of each successor, over that of the one before


def main() -> None:
    """Run what is asked for; JSON, a line for each model."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("what", choices=("law", "log", "reading"))
    options.add_argument("source", nargs="?", type=Path)
    options.add_argument("--budget", default="3m")
    options.add_argument("--users", type=int, default=4000)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--families", nargs="*", default=["autoregressive", "masked"])
    options.add_argument("--set", nargs="*", default=[], help="settings, as of `morphogen train`")
    given = options.parse_args()
    {"law": law, "log": log, "reading": reading}[given.what](given)


def tell(**facts: Any) -> None:
    """One line."""
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in facts.items()}
    print(json.dumps(rounded), flush=True)


# -- a log whose law is known ----------------------------------------------------------------------


class Law:
    """Chains of groups: P (G, V, V), each row a law over what comes next."""

    def __init__(self, seed: int) -> None:
        self.draw = np.random.default_rng(seed)
        shares = FALLS ** np.arange(SUCCESSORS)
        self.chains = np.full((GROUPS, ITEMS, ITEMS), ANY / ITEMS)
        for chain in self.chains:
            for row in chain:
                after = self.draw.choice(ITEMS, SUCCESSORS, replace=False)
                row[after] += (1 - ANY) * shares / shares.sum()

    def histories(self, num: int) -> list[np.ndarray]:
        """What users did: 5 to 40 events each."""
        found = []
        for _ in range(num):
            chain, at = self.chains[self.draw.integers(GROUPS)], self.draw.integers(ITEMS)
            own = [at]
            for _ in range(self.draw.integers(5, 41) - 1):
                own.append(self.draw.choice(ITEMS, p=chain[own[-1]]))
            found.append(np.array(own))
        return found

    def after(self, prefix: np.ndarray) -> np.ndarray:
        """p(b | x) of prefixes (B, n) -> (B, V)."""
        steps = np.log(self.chains[:, prefix[:, :-1], prefix[:, 1:]]).sum(-1)  # (G, B)
        group = np.exp(steps - steps.max(0))
        return np.einsum("gb,gbv->bv", group / group.sum(0), self.chains[:, prefix[:, -1]])


def law(given: argparse.Namespace) -> None:
    """The oracle, then models of each family."""
    made = Law(given.seed)
    path = Path(tempfile.mkdtemp()) / "log.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "time"])
        for user, own in enumerate(made.histories(given.users)):
            start = made.draw.integers(10**6)
            writer.writerows([user, f"i{item}", start + place] for place, item in enumerate(own))
    data = mg.load(path, "events", divide="each")
    names = [int(event.item[1:]) for event in data.codec.catalogue]  # type: ignore[attr-defined]
    order = np.array(names)
    x = data.test.batch(torch.arange(len(data.test))).x
    places = (data.test.weight(torch.arange(len(x))) > 0).long().argmax(1)
    best: list[float] = []

    def by_law(prefix: torch.Tensor) -> torch.Tensor:
        told = made.after(order[prefix.numpy()])[:, order]
        best.extend(np.sort(told, 1)[:, -10:].sum(1))
        return torch.from_numpy(told)

    places_by_law = ranked(x, places, by_law, Counts.of(data.train))
    tell(model="the law", recall_at_10=float(recall(places_by_law, 10)), judged=len(x),
         expected_recall_at_10=float(np.mean(best)),
         ndcg_at_10=float(ndcg(places_by_law, 10)))  # fmt: skip
    models(data, given)


def models(data: Data, given: argparse.Namespace) -> None:
    """A model of each family on the same data, and what counting reaches."""
    for family in given.families:
        begun = time.perf_counter()
        out = Path(tempfile.mkdtemp()) / "bundle"
        settings = [f"train.seed={given.seed}", "train.num_previews=0", *given.set]
        settings = [each for each in settings if not each.startswith("modality.")]
        bundle: Bundle = mg.train(data, family, budget=given.budget, out=out, settings=settings)
        bundle.family.eval()
        found = ranking(ranks_of(bundle, data, given.seed), generator=generator(given.seed))
        tell(model=family, **found, steps=bundle.run.get("steps"),
             seconds=time.perf_counter() - begun)  # fmt: skip


# -- logs ------------------------------------------------------------------------------------------


def log(given: argparse.Namespace) -> None:
    """Models of a log that is given."""
    begun = time.perf_counter()
    source = movielens(given.source) if given.source.suffix == ".whl" else given.source
    own = dict(each.removeprefix("modality.").split("=", 1) for each in given.set
               if each.startswith("modality."))  # fmt: skip
    data = mg.load(source, "events", **own)
    facts = data.report.facts
    tell(read_seconds=time.perf_counter() - begun, train=len(data.train), judged=len(data.test),
         log=facts["log"], divided=facts["divided"])  # fmt: skip
    models(data, given)


def movielens(wheel: Path) -> Path:
    """The ratings of MovieLens-100K as a table, out of a wheel that holds them."""
    with zipfile.ZipFile(wheel) as packed:
        text = packed.read("recbole/dataset_example/ml-100k/ml-100k.inter").decode()
    path = Path(tempfile.mkdtemp()) / "ml-100k.tsv"
    path.write_text(text)
    return path


def reading(given: argparse.Namespace) -> None:
    """A made log of so many rows, from CSV to encoded items."""
    draw = np.random.default_rng(given.seed)
    path = Path(tempfile.mkdtemp()) / "log.csv"
    users = draw.integers(given.rows // 50, size=given.rows)
    items = (20_000 * draw.random(given.rows) ** 3).astype(int)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "time"])
        writer.writerows(zip(users, items, 1_600_000_000 + np.arange(given.rows), strict=True))
    begun = time.perf_counter()
    data = mg.load(path, "events")
    tell(rows=given.rows, seconds=time.perf_counter() - begun, train=len(data.train),
         judged=len(data.test))  # fmt: skip


if __name__ == "__main__":
    main()
