"""The training loop: plain, resumable, the same for every family.

`train_steps` is a generator of `Log`s; the command line, a notebook and a server consume the same
stream. All randomness of step s comes from a generator seeded with (seed, s), and the order of the
data from (seed, epoch), so the state of a run is its weights, its optimizers' memory, its average
and a few numbers: what a `Snapshot` holds.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from morphogen.core import discover
from morphogen.core.augment import augmenting
from morphogen.core.batch import Batch
from morphogen.core.codec import Codec
from morphogen.core.errors import TrainingError
from morphogen.core.family import Family, load_own_state, own_state
from morphogen.core.objective import Objective
from morphogen.core.random import ShardedGenerator, mix_seed, rand, seed_global
from morphogen.core.storage import below
from morphogen.data.progress import Progress
from morphogen.data.store import Store
from morphogen.training.ahead import Ahead
from morphogen.training.best import Best, check_has_loss, held_apart, parted
from morphogen.training.distributed import Processes
from morphogen.training.optimizer import NonFinite, PhaseUpdate
from morphogen.training.options import TrainOptions
from morphogen.training.order import DataOrder, sizes_of
from morphogen.training.schedule import Schedule, TrainState
from morphogen.training.sharding import like, shard

SNAPSHOT_EVERY = 50  # steps; rollbacks and checkpoints happen at multiples of it only
LOG_EVERY = 0.5  # seconds
LOGS_PER_RUN = 200  # at least, where the budget fixes the number of steps
MOST_ROLLBACKS = 5
PREPARE_ITEMS, PREPARE_VALUES = 10_000, 1 << 24  # seen at once before and after it, at most


@dataclass
class Snapshot:
    """A run at one step: enough to continue as if nothing had happened."""

    state: TrainState
    tensors: dict[str, Tensor]


@dataclass
class Log:
    """One line of the stream: numbers, or an event for a person to read."""

    step: int
    seconds: float
    remaining: float
    num_steps: int | None = None
    values: dict[str, float] = field(default_factory=dict)
    event: str | None = None
    alarm: Mapping[str, object] | None = None  # the facts of an event that is one
    doing: Progress | None = None  # how far something besides the steps is; in no file
    snapshot: Snapshot | None = None

    def to_json(self) -> dict[str, object]:
        """A JSON line."""
        line: dict[str, object] = {
            "step": self.step,
            "seconds": round(self.seconds, 3),
            **self.values,
        }
        facts = {"event": self.event, "alarm": self.alarm}
        return line | {name: fact for name, fact in facts.items() if fact is not None}


class Run:
    """A family in training: its data, optimizers, average and state."""

    def __init__(
        self,
        family: Family,
        split: Store,
        options: TrainOptions,
        device: torch.device,
        *,
        adapts: bool = False,  # a model that was trained before
        objective: Objective | None = None,  # what it is taught in place of its own loss
        codec: Codec | None = None,  # of the items, where it knows how to vary them
    ) -> None:
        self.adapts, self.objective = adapts, objective
        able = augmenting(codec, family.built_for)
        self.vary = None if able is None else able.augmented
        self.processes = Processes.join()
        self.whole = split
        split, self.held_back = parted(split, codec)
        split, looked_at = held_apart(split, self.held_back, options.keep_best)
        self.check_batch(options, len(split))
        self.family, self.split, self.options, self.device = (
            family.to(device),
            split,
            options,
            device,
        )
        if options.shard and self.processes.world_size > 1:
            shard(family, device)
            self.processes = replace(self.processes, share_weights=True)
        self.schedule = Schedule(options, len(split), family.finish_share)
        grouped = device.type == "cpu" and objective is None  # elsewhere all cost as the longest
        sizes = sizes_of(split, family) if grouped else None
        self.order = DataOrder(len(split), options.batch_size, options.seed, sizes)
        self.ahead = Ahead(self._read, device)
        self.state = TrainState()
        self.is_prepared = False
        self.waited = 0.0  # seconds that the latest batch took to be there
        self.stop = False  # set, in any process, to end the training after the step under way
        self.is_stopped = False  # all processes have agreed to
        names = {id(p): name for name, p in family.named_parameters()}
        self.updates = {
            phase: PhaseUpdate(
                phase,
                [(names[id(p)], p) for p in family.parameters_of(phase)],
                options,
                self.processes,
            )
            for phase in family.phases
        }
        ema = discover.find("wrapper", "ema")
        self.ema = ema(family, options.ema) if options.ema else None
        self.best: Best | None = None
        if looked_at is not None:
            check_has_loss(family, objective)
            self.best = Best(looked_at, options.batch_size)

    def check_batch(self, options: TrainOptions, num_items: int) -> None:
        """Raise `TrainingError` when the batch cannot be shared among the processes."""
        if options.batch_size % self.processes.world_size:
            raise TrainingError(
                "the batch cannot be shared evenly among the processes",
                found=f"batch_size {options.batch_size}, {self.processes.world_size} processes",
                hint=f"--set train.batch_size={self.processes.world_size * 64}",
            )
        if num_items < 1:
            raise TrainingError("there is nothing to train on", found="no training items")

    # -- one step --------------------------------------------------------------------------------

    def step(self) -> dict[str, Tensor]:
        """One training step at the current state; raises `NonFinite` with nothing changed yet."""
        state, options = self.state, self.options
        seed = mix_seed(options.seed, state.step, state.rollbacks)
        seed_global(seed)  # dropout inside networks draws from the global generator
        begun = time.perf_counter()
        batch = self.batch(state.step)
        rate = self.schedule.rate(state)
        for update in self.updates.values():
            update.set_rate(rate)
        self.family.progress = state.progress
        self.family.train()
        with self.autocast():
            teach = self.family.step if self.objective is None else self.objective.step
            values = teach(batch, self.updates, self.generator(seed))
        if self.ema is not None:
            self.ema.update(self.family)
        values["lr"] = torch.tensor(rate * options.lr)
        for phase, update in self.updates.items():
            prefix = "" if len(self.updates) == 1 else f"{phase}/"
            values[f"{prefix}grad_norm"] = torch.tensor(update.grad_norm)
            if options.grad_clip:
                clipped = float(update.grad_norm > options.grad_clip)
                values[f"{prefix}clipped"] = torch.tensor(clipped)
        # Steps read the gradient's norm back, so that the clock sees what a GPU has done.
        values["data_wait"] = torch.tensor(self.waited / (time.perf_counter() - begun))
        return values

    def batch(self, step: int) -> Batch:
        """This process's slice of the batch of `step`."""
        # A rollback shuffles anew, so that the batch that did harm is not met again at once.
        begun = time.perf_counter()
        batch = self.ahead(step + 7919 * self.state.rollbacks)
        self.waited = time.perf_counter() - begun
        return batch.to(self.device)

    def _read(self, step: int) -> Batch:
        rows = self.order.rows(step)
        own = len(rows) // self.processes.world_size
        draw = torch.Generator().manual_seed(mix_seed(self.options.seed, step, -3))
        start = self.processes.rank * own
        shares, mine = rand((len(rows),), draw), slice(start, start + own)
        batch = self.split.drawn(rows[mine], shares[mine])
        return batch if self.vary is None else replace(batch, x=self.vary(batch.x, shares[mine]))

    def generator(self, seed: int) -> torch.Generator:
        """This process's share of the randomness of a step."""
        device = self.device if self.device.type == "cuda" else torch.device("cpu")
        generator = ShardedGenerator(device=device)
        generator.manual_seed(seed)
        return generator.shard(self.processes.rank, self.processes.world_size)

    def prepare(self) -> None:
        """Let the family see one large batch, once; every process sees the same."""
        if self.is_prepared:
            return
        self.is_prepared = True
        generator = torch.Generator().manual_seed(mix_seed(self.options.seed, -1))
        batch = self._large_batch(self.whole)
        self.family.check_batch(batch)
        with torch.no_grad():
            if self.adapts:  # what it measured of its own data is what its weights go by
                self.family.see_lengths(batch.x)
            else:
                self.family.prepare(batch, generator)
        if self.ema is not None:
            self.ema = type(self.ema)(self.family, self.options.ema)

    def finish(self) -> dict[str, float]:
        """Put the averaged weights in place and let the family settle what is left, in evaluation
        mode. Returns numbers to log."""
        begun = time.perf_counter()
        if self.best is not None and self.best.weights:
            load_own_state(self.family, self.best.weights)
        elif self.ema is not None:
            load_own_state(self.family, self.ema.average)
        self.family.eval()
        worth = int(self.family.finish_share * self.state.step * self.options.batch_size)
        if not worth:
            return {}
        generator = torch.Generator().manual_seed(mix_seed(self.options.seed, -2))
        with torch.no_grad():
            items = self._large_batch(self.held_back or self.split)
            values = self.family.finish(items, worth, generator)
        self.state.seconds += time.perf_counter() - begun
        return values

    def _large_batch(self, split: Store) -> Batch:
        num = min(len(split), PREPARE_ITEMS, PREPARE_VALUES // split.spec.num_values + 1)
        rows = DataOrder(len(split), num, self.options.seed).rows(0)
        return split.batch(rows).to(self.device)

    def autocast(self) -> AbstractContextManager[object]:
        """Half precision where the device is fast at it."""
        wanted = self.options.precision
        half = wanted == "bfloat16" or (wanted == "auto" and self.device.type == "cuda")
        if not half:
            return nullcontext()
        # A step may draw, and update its weights several times. What autocast would keep of them
        # until its end is what they were at first, without a gradient where they drew first.
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False)

    def averaged(self) -> AbstractContextManager[None]:
        """The averaged weights, where training averages."""
        return self.ema.applied_to(self.family) if self.ema is not None else nullcontext()

    # -- snapshots -------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """A copy of everything that a step changes."""
        tensors = {f"model/{k}": v for k, v in own_state(self.family).items()}
        if self.ema is not None:
            tensors |= {f"ema/{k}": v for k, v in self.ema.average.items()}
            tensors["ema_updates"] = torch.tensor(self.ema.num_updates)
        for phase, update in self.updates.items():
            tensors |= {f"optimizer/{phase}/{k}": v for k, v in update.state().items()}
        taught: dict[str, Tensor] = getattr(self.objective, "state", dict)()
        tensors |= {f"objective/{k}": v for k, v in taught.items()}
        if self.best is not None:
            tensors |= {f"best/{k}": v for k, v in self.best.state().items()}
        if (increments := self.schedule.record()) is not None:
            tensors["increments"] = increments
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        return Snapshot(replace(self.state), copies)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot."""
        self.state = replace(snapshot.state)
        self.is_prepared = True  # as every family in a snapshot is
        tensors = snapshot.tensors
        own = own_state(self.family)
        model, average = below("model/", tensors), below("ema/", tensors)
        load_own_state(self.family, {k: like(v, own.get(k, v)) for k, v in model.items()})
        if self.ema is not None:
            self.ema.average = {
                k: like(v.clone().to(self.device), own[k]) for k, v in average.items()
            }
            self.ema.num_updates = int(tensors["ema_updates"])
        for phase, update in self.updates.items():
            update.load_state(below(f"optimizer/{phase}/", tensors))
        if (load_state := getattr(self.objective, "load_state", None)) is not None:
            load_state(below("objective/", tensors))
        if self.best is not None:
            best = below("best/", tensors)
            self.best.load_state({k: v.to(self.device) for k, v in best.items()})
        known = tensors["increments"].tolist() if "increments" in tensors else []
        self.schedule.increments = array("d", known)


def train_steps(run: Run) -> Iterator[Log]:
    """Train until the budget is spent, yielding logs about twice a second and at every snapshot.

    A step that meets NaN is undone: the run returns to its last snapshot with half the learning
    rate and other draws. Raises `TrainingError` when that does not help.
    """
    global_state = torch.get_rng_state()
    try:
        if run.state.step == 0:
            run.prepare()
        yield from _steps(run)
    finally:
        torch.set_rng_state(global_state)


def _steps(run: Run) -> Iterator[Log]:
    started = time.perf_counter() - run.state.seconds
    last_log, seconds_per_step = time.perf_counter(), 0.0
    sums: dict[str, Tensor] = {}
    count = 0
    log_steps = max(1, (run.schedule.num_steps or SNAPSHOT_EVERY * LOGS_PER_RUN) // LOGS_PER_RUN)
    good = run.snapshot()
    yield _log(run, seconds_per_step, snapshot=good)
    processes = run.processes
    while not _is_over(run):
        begun = time.perf_counter()
        (run.state.increment,) = processes.agree(run.schedule.plan(run.state, seconds_per_step))
        try:
            values = run.step()
        except NonFinite as error:
            yield _roll_back(run, good, error, time.perf_counter() - started)
            sums, count = {}, 0
            continue
        run.schedule.advance(run.state)
        now = time.perf_counter()
        run.state.seconds, is_due = processes.agree(now - started, now - last_log > LOG_EVERY)
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value.float()
        count += 1
        over = _is_over(run)
        at_snapshot = run.state.step % SNAPSHOT_EVERY == 0 or over
        looked = {}
        if at_snapshot:
            # A run that was stopped looks where one that was not does, and so keeps the same.
            in_turn = run.state.step % SNAPSHOT_EVERY == 0 or not run.is_stopped
            if run.best is not None and in_turn:
                with run.averaged(), run.autocast():
                    looked["held_back_loss"] = run.best.see(run.family, run.state.step)
            good = run.snapshot()
        regular = run.state.step % log_steps == 0
        if at_snapshot or regular or is_due:
            means = processes.mean({name: float(each) / count for name, each in sums.items()})
            yield _log(run, seconds_per_step, means | looked, good if at_snapshot else None)
            last_log, sums, count = time.perf_counter(), {}, 0
        # What the consumer of the log did (a checkpoint, a preview) counts as time, too.
        spent = time.perf_counter() - begun
        seconds_per_step = spent if not seconds_per_step else 0.95 * seconds_per_step + 0.05 * spent


def _is_over(run: Run) -> bool:
    """Whether all processes end here: the budget is spent, or one of them was asked to stop."""
    run.is_stopped = run.processes.any(run.stop)
    return run.is_stopped or run.schedule.is_over(run.state)


def _roll_back(run: Run, good: Snapshot, error: NonFinite, seconds: float) -> Log:
    failed = run.state
    if failed.rollbacks >= MOST_ROLLBACKS:
        raise TrainingError(
            f"{error.what} became NaN or infinite again after {MOST_ROLLBACKS} rollbacks",
            where=f"step {failed.step}",
            hint=f"--set train.lr={run.options.lr / 10:g}, or morphogen inspect on the data",
        ) from error
    run.restore(good)
    run.state.rolled_back = [*failed.rolled_back, run.state.step]
    run.state.seconds = seconds
    event = (
        f"{error.what} became NaN or infinite at step {failed.step}: rolled back to step "
        f"{run.state.step}, learning rate halved to {run.options.lr * run.state.rate:g}"
    )
    return replace(_log(run, 0.0, {"rollbacks": run.state.rollbacks}), event=event)


def _log(
    run: Run,
    seconds_per_step: float,
    values: Mapping[str, float] | None = None,
    snapshot: Snapshot | None = None,
) -> Log:
    return Log(
        step=run.state.step,
        seconds=run.state.seconds,
        remaining=run.schedule.remaining(run.state, seconds_per_step),
        num_steps=run.schedule.num_steps,
        values=dict(values or {}),
        snapshot=snapshot,
    )
