r"""Generated, training and held-out items seen in one view: distances, and what they say.

Legend: G generated items, N training items, M held-out items, U usual (held-out) items, k
neighbours, K shown pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from morphogen.core.encoded import Encoded, num_items, rows
from morphogen.core.errors import MeasurementError
from morphogen.core.measurement import Measurement
from morphogen.core.random import generator, mix_seed
from morphogen.data.store import Store
from morphogen.evaluation import _closeness as closeness
from morphogen.evaluation._neighbours import Index, components, merged
from morphogen.evaluation._views import View, in_chunks
from morphogen.evaluation.features import parts as chunks

MOST_GENERATED, MOST_TRAIN, MOST_HELD_OUT = 10_000, 200_000, 20_000
MOST_USUAL = 4000  # held-out items that say what is usual
MOST_TRANSFORMED = 2000  # generated, and held-out, items in views of many transforms
MOST_ATTACKED = 2000  # training, and held-out, items that are told by what lies near
MANY = 4  # transforms
NEIGHBOURS = 10
FLOOR = 1e-3  # of the usual distance to the k-th neighbour: smaller distances are 0
PER_CELL, MOST_CELLS, CLUSTERED = 100, 20, 5000  # of the partition of C_T
BINOMIAL = "95 %, binomial"


@dataclass(frozen=True)
class Look:
    """What one view shows. `pairs` (K, 2) are numbers of generated and of training items, most
    suspicious first, each training item once; `ratios` (K,) are their d_1 / d_k."""

    view: str
    share: Measurement
    c_t: Measurement
    authenticity: Measurement
    membership: Measurement
    labels: closeness.Found
    tail: closeness.Found
    support: closeness.Found  # the labels of as many items as `tail` found, the most suspicious
    replicas: closeness.Found
    pairs: Tensor
    ratios: Tensor

    @property
    def scores(self) -> tuple[Measurement, ...]:
        """The numbers that describe."""
        return (self.share, self.c_t, self.authenticity, self.membership)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        tests = ("labels", "tail", "support", "replicas")
        found = {name: getattr(self, name) for name in tests}
        return {
            "view": self.view,
            "scores": [score.to_json() for score in self.scores],
            "tests": {name: {"p_value": f.p_value, **f.counts} for name, f in found.items()},
            "pairs": self.pairs.tolist(),
            "ratios": [round(ratio, 6) for ratio in self.ratios.tolist()],
        }


class Near(NamedTuple):
    """The nearest training, held-out, and pooled items: distances and numbers (G, k) of each."""

    train: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]
    equal_train: Tensor  # (G,) distances among as many training as held-out items
    equal_held_out: Tensor


class Viewpoint:
    """The training and held-out items in one view: all that does not depend on a model."""

    def __init__(self, view: View, train: Store, held_out: Store, seed: int) -> None:
        self.view = view
        draw = generator(mix_seed(seed, 1))
        # A random order: ties go to training and held-out items as their numbers have it.
        self.order = torch.randperm(len(train), generator=draw)[:MOST_TRAIN]
        self.held_order = torch.randperm(len(held_out), generator=draw)[:MOST_HELD_OUT]
        self.train, self.held = train, held_out
        keys, held_keys = self._keys(train, self.order), self._keys(held_out, self.held_order)
        mean, axes = components(torch.cat([keys, held_keys]), draw)
        self.index, self.held_index = Index(keys, mean, axes), Index(held_keys, mean, axes)
        self.most = MOST_TRANSFORMED if self.num_transforms > MANY else MOST_GENERATED
        usual = self.held_order[: min(MOST_USUAL, self.most)]
        self._clusters(len(usual), seed)
        distance, self.usual_nearest = self._search(
            lambda part: held_out.batch(usual[part]).x, len(usual), whole=True
        )[0]
        self.usual_cells = self._cells(lambda part: held_out.batch(usual[part]).x, len(usual))
        self.usual = distance  # (U, k)
        self.floor = FLOOR * float(distance[:, -1].median())
        self.usual_ratio = closeness.ratios(distance, self.floor)
        some = torch.arange(min(len(usual), 1000))
        spacing = self._spacing(self.usual_nearest[some, 0])
        self.usual_authenticity = closeness.authenticity(distance[some, 0], spacing)[0]

    @property
    def num_transforms(self) -> int:
        """V."""
        return self.view.queries(self.held.batch(torch.arange(1)).x).shape[1]

    def look(
        self, generated: Encoded, seed: int, num_pairs: int, protocol: Mapping[str, Any]
    ) -> Look:
        """Compare generated items, encoded."""
        order = torch.randperm(num_items(generated), generator=generator(mix_seed(seed, 2)))
        some = order[: self.most]
        x = rows(generated, some)
        near = self._near(x)
        ratio = closeness.ratios(near.train[0], self.floor)
        label_test, tail, support = self._tests(near, ratio)
        against = closeness.ratios(near.held_out[0], self.floor)
        replicas = closeness.replicas(ratio, near.train[1][:, 0], against, self.usual_ratio)
        pairs, pair_ratios = self._pairs(some, near.train[1][:, 0], ratio, num_pairs)
        return Look(
            self.view.name,
            *self._scores(x, near, protocol),
            label_test,
            tail,
            support,
            replicas,
            pairs,
            pair_ratios,
        )

    # -- what the distances say ------------------------------------------------------------------

    def _tests(
        self, near: Near, ratio: Tensor
    ) -> tuple[closeness.Found, closeness.Found, closeness.Found]:
        k = near.train[0].shape[1]
        shifted = (near.held_out[0], near.held_out[1] + len(self.index))
        distance, number = merged(near.train, shifted, k=k)
        order = closeness.ratios(distance, self.floor).argsort(stable=True)
        is_train, pool = number[:, 0] < len(self.index), (len(self.index), len(self.held_index))
        num = len(order)
        sizes = sorted({max(int(part * num), min(num, 10)) for part in closeness.PARTS})
        tail = closeness.tail(ratio, self.usual_ratio)
        flagged = [max(1, int(tail.counts["below"]))]
        return (
            closeness.labels(order, number[:, 0], is_train, pool, sizes),
            tail,
            closeness.labels(order, number[:, 0], is_train, pool, flagged),
        )

    def _scores(
        self, x: Encoded, near: Near, protocol: Mapping[str, Any]
    ) -> tuple[Measurement, Measurement, Measurement, Measurement]:
        nearer = near.equal_train < near.equal_held_out
        number = torch.where(nearer, near.train[1][:, 0], -1 - near.held_out[1][:, 0])
        value, low, high = closeness.share(near.equal_train, near.equal_held_out, number)
        about: dict[str, Any] = {
            "n": num_items(x),
            "protocol": {**protocol, "view": self.view.name},
        }
        share = Measurement(
            "train_share", value, higher_is_better=False, low=low, high=high, floor=0.5, **about,
            interval=f"{BINOMIAL}, items next to one real item falling together",
        )  # fmt: skip
        value, low, high = closeness.membership(*self._from_real(x))
        told = Measurement(
            "membership_auc", value, higher_is_better=False, low=low, high=high, floor=0.5, **about,
            interval="95 %, Mann & Whitney",
        )  # fmt: skip
        cells = self._cells(lambda part: rows(x, part), num_items(x))
        c_t, error, num_cells = closeness.c_t(
            near.train[0][:, 0], self.usual[:, 0], cells, self.usual_cells
        )
        copied = Measurement(
            "c_t", c_t, higher_is_better=True, low=c_t - 1.96 * error, high=c_t + 1.96 * error,
            floor=0.0, **about, interval=f"95 %, normal, {num_cells} cells",
            note="blurred and typical items lower it too",
        )  # fmt: skip
        spacing = self._spacing(near.train[1][:, 0])
        value, low, high = closeness.authenticity(near.train[0][:, 0], spacing)
        authentic = Measurement(
            "authenticity", value, higher_is_better=True, low=low, high=high, interval=BINOMIAL,
            floor=self.usual_authenticity, **about, note="the floor is that of held-out items",
        )  # fmt: skip
        return share, copied, authentic, told

    def _pairs(
        self, some: Tensor, nearest: Tensor, ratio: Tensor, num: int
    ) -> tuple[Tensor, Tensor]:
        chosen: list[int] = []
        seen: set[int] = set()
        for item in ratio.argsort(stable=True).tolist():
            if len(chosen) == num:
                break
            if int(nearest[item]) not in seen:
                seen.add(int(nearest[item]))
                chosen.append(item)
        return torch.stack([some[chosen], self.order[nearest[chosen]]], 1), ratio[chosen]

    # -- distances -------------------------------------------------------------------------------

    def _near(self, x: Encoded) -> Near:
        """Searched apart among as many training as held-out items, and among the rest."""
        parts = self._search(lambda part: rows(x, part), num_items(x), whole=False)
        k = parts[0][0].shape[1]
        train, held_out = merged(*parts[:2], k=k), merged(*parts[2:], k=k)
        return Near(train, held_out, parts[0][0][:, 0], parts[2][0][:, 0])

    def _from_real(self, x: Encoded) -> tuple[Tensor, Tensor]:
        """Distances (N,) of training and (M,) of held-out items to the nearest generated one."""
        keys = in_chunks(
            lambda part: self.view.keys(rows(x, part)).float(), torch.arange(num_items(x))
        )
        drawn = Index(keys, self.index.mean, self.index.axes)
        found = []
        for split, order in ((self.train, self.order), (self.held, self.held_order)):
            own = order[:MOST_ATTACKED]
            queries = (self.view.queries(split.batch(own[p]).x).float() for p in chunks(len(own)))
            near = [drawn.nearest(q, self.view.coarse, 1, 0, len(drawn))[0] for q in queries]
            found.append(torch.cat(near)[:, 0])
        return found[0], found[1]

    def _spacing(self, numbers: Tensor) -> Tensor:
        """Distance (G,) of training items to their nearest other training item."""
        distinct, place = torch.unique(numbers, return_inverse=True)
        items = self.order[distinct]
        found = self._search(lambda part: self.train.batch(items[part]).x, len(items), whole=True)
        return found[0][0][:, 1][place]

    def _search(
        self, items: Callable[[Tensor], Encoded], num: int, whole: bool
    ) -> list[tuple[Tensor, Tensor]]:
        """Distances and numbers (num, k) among all training items (`whole`), or in four parts:
        equally many training items, the other ones, equally many held-out items, the other ones."""
        equal, k = min(len(self.index), len(self.held_index)), NEIGHBOURS
        parts = [(self.index, 0, len(self.index))] if whole else [
            (self.index, 0, equal), (self.index, equal, len(self.index)),
            (self.held_index, 0, equal), (self.held_index, equal, len(self.held_index)),
        ]  # fmt: skip
        found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in parts]
        for part in chunks(num):
            queries = self.view.queries(items(part)).float()
            for place, (index, start, stop) in zip(found, parts, strict=True):
                place.append(index.nearest(queries, self.view.coarse, k, start, stop))
        return [
            (torch.cat([d for d, _ in each]), torch.cat([n for _, n in each])) for each in found
        ]

    def _keys(self, split: Store, order: Tensor) -> Tensor:
        keys = torch.cat(
            [self.view.keys(split.batch(order[part]).x).float() for part in chunks(len(order))]
        )
        if not bool(torch.isfinite(keys).all()):
            raise MeasurementError(f"the real {self.view.name} are not finite")
        return keys

    # -- the partition of C_T --------------------------------------------------------------------

    def _clusters(self, num_usual: int, seed: int) -> None:
        from sklearn.cluster import KMeans

        points = self.index.projected[:CLUSTERED]
        most = min(MOST_CELLS, num_usual // PER_CELL, len(torch.unique(points, dim=0)))
        means = KMeans(max(1, most), n_init=2, random_state=seed % 2**31).fit(points.numpy())
        self.centres = torch.from_numpy(means.cluster_centers_).float()

    def _cells(self, items: Callable[[Tensor], Encoded], num: int) -> Tensor:
        """The cell (num,) of each item, as it is."""
        keys = in_chunks(lambda part: self.view.keys(items(part)).float(), torch.arange(num))
        return torch.cdist(self.index.project(keys), self.centres).argmin(1)
