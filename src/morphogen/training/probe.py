"""Looks at a run from outside: losses of fixed items, movement of the weights, use of the labels.

The items and the draws are the same every time, networks are in evaluation mode, and nothing of
the run changes: not its weights, not its generators, so that a run that is probed ends with the
same weights as one that is not. What probing costs is measured and kept below `share` of the run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from statistics import median

import torch
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.encoded import Encoded, joined, num_items, rows
from morphogen.core.random import mix_seed
from morphogen.data.store import Store
from morphogen.training.loop import Log, Run
from morphogen.training.memory import held_batch
from morphogen.training.sharding import part
from morphogen.training.watch import progress_of

MOST_PROBES = 40
SEEN_ITEMS, HELD_OUT_ITEMS = 64, 192
MOST_VALUES = 1 << 23  # of the items of each kind
WEIGHTS = 4096  # looked at for movement
SHARE = 0.015  # of the run's time
LABELS_FROM, LABELS_TO = 0.08, 0.3  # share of the run in which the use of labels is tried
PAIRS = 36  # items whose distances stand for the diversity of all


class Probe:
    """Measures a run now and then; `measure` gives values for the log.

    weight_change   relative change, root mean square, of a sample of the weights since last time
    seen_loss       loss of some training items; this and the next three need an objective
    held_out_loss   loss of items that are not trained on
    loss_spread     standard deviation of the loss between training items
    label_effect    mean change of an item's loss under another's labels, over that deviation
    data_diversity  root of the mean squared difference between training items, once
    """

    def __init__(self, run: Run, held_out: Store, share: float = SHARE) -> None:
        self.run, self.share, self.held_out = run, share, held_out
        self.has_loss = run.family.objective is not None and run.objective is None
        self.costs: list[float] = []  # seconds that losses took, each time but the first
        self.next_at = 0.0  # progress
        self.stage = run.family.stage
        self.weights: Tensor | None = None
        self.num_steps, self.least = run.schedule.num_steps, 0.25

    def expect(self, num_steps: int) -> None:
        """Before the first look, where the budget does not say it: the run takes so many steps."""
        self.num_steps, self.least = num_steps, 0.0

    @cached_property
    def chosen(self) -> tuple[Batch, int]:
        """The items, as many as the run has time for, and how many of them it trains on."""
        # An item costs about a third of its training; in a short run that allows for fewer items.
        steps = 10**9 if self.num_steps is None else self.num_steps
        trained_on = steps * self.run.options.batch_size
        fitting = 3 * self.share * trained_on / (MOST_PROBES / 2) / (SEEN_ITEMS + HELD_OUT_ITEMS)
        room = MOST_VALUES / (HELD_OUT_ITEMS * self.run.split.spec.num_values)
        fitting = min(1.0, max(self.least, fitting), room)
        num_seen, num_held_out = (max(4, int(fitting * n)) for n in (SEEN_ITEMS, HELD_OUT_ITEMS))
        sides = (self.run.split, num_seen), (self.held_out, num_held_out)
        both = [self._batch(split.take(_spaced(len(split), num))) for split, num in sides]
        cond = {name: torch.cat([part.cond[name] for part in both]) for name in both[0].cond}
        weights = [part.weight for part in both]
        weight = None
        if any(each is not None for each in weights):  # those that have none count alike
            whole = zip(both, weights, strict=True)
            weight = joined([_alike(p.x) if w is None else w for p, w in whole])
        # In one go: cheaper.
        return Batch(joined([part.x for part in both]), cond=cond, weight=weight), len(both[0])

    def is_due(self, log: Log) -> bool:
        """Whether it is time to measure."""
        if self.weights is None:
            return True
        new_stage = self.run.family.stage != self.stage
        return bool(log.values) and (progress_of(log) >= self.next_at or new_stage)

    def is_affordable(self, log: Log) -> bool:
        """Whether time is left to compute losses."""
        progress = progress_of(log)
        if not progress or self.weights is None:
            return True
        # A little ahead of time at the start, where most goes wrong.
        allowed = self.share * log.seconds / progress * (progress + 0.1)
        return self.spent * (1 + 1 / max(1, len(self.costs))) <= allowed

    @property
    def spent(self) -> float:
        """Seconds in all, by the median: a machine that was busy for a moment counts once."""
        return median(self.costs) * len(self.costs) if self.costs else 0.0

    def measure(self, log: Log) -> dict[str, float]:
        """What there is to measure now; nothing when it is not time."""
        if not self.is_due(log):
            return {}
        affordable, begun = self.is_affordable(log), time.perf_counter()
        if self.run.processes.share_weights:  # a loss takes all of them
            affordable = bool(self.run.processes.agree(affordable)[0])
        progress, first = progress_of(log), self.weights is None
        with torch.no_grad(), untouched(self.run):
            values = self._weight_change()
            if first:
                items, num_seen = self.chosen
                seen = rows(items.x, slice(num_seen))
                values["data_diversity"] = differences(seen)
            if self.has_loss and affordable:
                # A part that stands in for the loss need not see the labels.
                tries_labels = self.run.family.objective == "loss"
                values |= self._losses(tries_labels and LABELS_FROM <= progress <= LABELS_TO)
        if self.run.family.stage:
            values["stage"] = float(self.run.family.stage)
        self.stage = self.run.family.stage
        self.next_at = (int(progress * MOST_PROBES) + 1) / MOST_PROBES
        if affordable and not first:  # the first one pays for warming up
            self.costs.append(time.perf_counter() - begun)
        return values

    def sample_diversity(self, x: Encoded) -> float | None:
        """How far samples (N, *) lie from each other, relative to as many training items.

        Medians of the distance to the nearest other: small also when samples fall into a few heaps,
        or into one per class. None when the items have no distance to compare with.
        """
        num = min(num_items(x), PAIRS, len(self.run.split))
        if num < 4:
            return None
        items = self.run.split.take(_spaced(len(self.run.split), num))
        some = rows(x, _spaced(num_items(x), num))
        real, own = nearest(self._batch(items).x), nearest(some)
        return own / real if real > 0 and math.isfinite(own) else None

    # -- parts -------------------------------------------------------------------------------------

    def _losses(self, with_labels: bool) -> dict[str, float]:
        items, num_seen = self.chosen
        try:
            losses = self._item_losses(items)
        except NotImplementedError:  # learns by `step` alone
            self.has_loss = False
            return {}
        seen, held_out = losses[:num_seen], losses[num_seen:]
        values = {"seen_loss": float(seen.mean()), "loss_spread": float(seen.std(correction=0))}
        if len(held_out):
            values["held_out_loss"] = float(held_out.mean())
        if with_labels and (shuffled := self._shuffled()) is not None and values["loss_spread"] > 0:
            change = (self._item_losses(shuffled) - losses).abs().mean()
            values["label_effect"] = float(change) / values["loss_spread"]
        return values

    def _item_losses(self, batch: Batch) -> Tensor:
        """The objective of each item, on the CPU: (B,)."""
        family, options = self.run.family, self.run.options
        device = self.run.device if self.run.device.type == "cuda" else torch.device("cpu")
        draw = torch.Generator(device=device).manual_seed(mix_seed(options.seed, -2))
        found = []
        # Without gradients more fits than the batch, which fitted with them: not where items are
        # large, for a likelihood needs as much of each of their values while it is computed.
        usual = options.batch_size
        most = max(usual, held_batch(4 * usual, self.run.split.spec))
        for index in torch.split(torch.arange(len(batch)), most):
            part = batch.rows(index).to(self.run.device)
            with self.run.autocast():
                loss, parts = family.loss(part, family.phases[-1], draw)
            value = loss if family.objective == "loss" else parts[str(family.objective)]
            found.append(value.float().expand(len(part)).cpu())
        return torch.cat(found)

    def _shuffled(self) -> Batch | None:
        """The items with each other's conditions; None when that changes nothing."""
        batch, _ = self.chosen
        own = {name: batch.cond[name] for name in self.run.family.conditions}
        order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(0))
        other = {name: value[order] for name, value in own.items()}
        if all(torch.equal(own[name], other[name]) for name in own):
            return None
        return Batch(batch.x, cond={**batch.cond, **other}, weight=batch.weight)

    def _weight_change(self) -> dict[str, float]:
        trained = [p for p in self.run.family.parameters() if p.requires_grad]
        parameters = [part(p.detach()) for p in trained]
        each = max(1, WEIGHTS // max(1, len(parameters)))
        picked = [p.flatten()[_spaced(p.numel(), each)] for p in parameters]
        now = torch.cat([p.float().cpu() for p in picked])
        before, self.weights = self.weights, now
        if before is None:
            return {}
        return {"weight_change": float((now - before).norm() / before.norm().clamp(min=1e-30))}

    def _batch(self, split: Store) -> Batch:
        return split.batch(torch.arange(len(split)))


@contextmanager
def untouched(run: Run) -> Iterator[None]:
    """Evaluation mode, uncompiled, inside; the modes and the global generator as before, after."""
    modes = {module: module.training for module in run.family.modules()}
    state = torch.get_rng_state()
    run.family.eval()
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        torch.set_rng_state(state)
        for module, mode in modes.items():
            module.training = mode


def nearest(x: Encoded) -> float:
    """The median over items (N, *) of the distance to the nearest other one, per value.

    Euclidean for real values; for tokens the root of the share that differs; parts count alike.
    """
    parts = list(x.values()) if isinstance(x, dict) else [x]
    squared = torch.stack([_squared(part.reshape(len(part), -1).cpu()) for part in parts]).mean(0)
    squared.fill_diagonal_(torch.inf)
    return float(squared.min(1).values.sqrt().median())


def _squared(flat: Tensor) -> Tensor:
    """Squared distances per value between items (N, D): (N, N)."""
    if flat.is_floating_point():
        return torch.cdist(flat.float(), flat.float()).square() / flat.shape[1]
    return torch.stack([(flat != row).float().mean(1) for row in flat])


def differences(x: Encoded) -> float:
    """The root of the mean squared difference of items (N, *) from the first of them."""
    if num_items(x) < 2:
        return 1.0
    parts = list(x.values()) if isinstance(x, dict) else [x]
    each = [(part - part[:1]).float().square().mean() for part in parts]
    return float(torch.stack(each).mean().sqrt())


def _alike(x: Tensor) -> Tensor:
    """Weights of values that count alike."""
    return torch.ones(x.shape, device=x.device)


def _spaced(num: int, wanted: int) -> Tensor:
    """`wanted` indices spread evenly over `num`, or all of them."""
    return torch.arange(min(num, wanted)) * num // max(1, min(num, wanted))
