"""The promises of a family: `check_family(MyFamily)`.

A family whose loss is meant to mix the items of a batch (batch statistics, contrastive pairs)
declares `mixes_batch = True`; it is then not held to per-item losses nor to equal sharded losses.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.encoded import each, equal, joined, rows
from morphogen.core.errors import RefusedPair
from morphogen.core.family import Family
from morphogen.core.random import ShardedGenerator, generator
from morphogen.core.spec import ProductSpec, Spec, TensorSpec
from morphogen.core.storage import read_tensors, write_tensors
from morphogen.testing._cases import BATCH_SIZE, ENUMERABLE, SPECS, Case, cases_of
from morphogen.testing._models import check_capabilities, check_normalised, outputs
from morphogen.testing._padding import littered, without_ends
from morphogen.testing._promises import (
    check_described,
    close,
    draw_data,
    global_seed,
    leaves_global_rng,
    perturb,
    promise,
    works,
)


def check_family(
    family_class: type[Family],
    spec: Spec | Sequence[Spec] | None = None,
    backbone: BuildBackbone | str | None = None,
) -> None:
    """Hold a family to its contract, on every spec given (default `SPECS`) that it accepts.

    `backbone` defaults to what the family takes when a recipe names none, made small.
    Raises `AssertionError` naming the promise that is broken.
    """
    name = family_class.__name__
    check_described(family_class)
    promise(family_class.phases, f"{name} has no phases")
    given = (spec,) if isinstance(spec, (TensorSpec, ProductSpec)) else spec
    cases = list(cases_of(family_class, given or SPECS, backbone))
    promise(cases, f"{name} refuses every sample spec: pass `spec=` with one that it accepts")
    for case in cases if given else _in_turn(cases):
        for check in (
            _check_losses,
            _check_repeatable,
            _check_per_item,
            _check_sharding,
            _check_padding,
            _check_weights,
            _check_gradients,
        ):
            check(case)
        trained = _check_training(case)
        with works(f"{case}: using the trained model"):
            check_capabilities(trained, case.batch(seed=1), str(case))
        _check_state(case, trained)
    for case in _in_turn(cases_of(family_class, () if given else ENUMERABLE, backbone)):
        check_normalised(case.family(), case.batch(seed=0), str(case))


def _in_turn(cases: Iterable[Case]) -> Iterator[Case]:
    """The first spec with a label and without one, the others in turn: what a label changes is
    seen on one spec as well as on eight."""
    specs = [list(same) for _, same in itertools.groupby(cases, key=lambda case: case.spec)]
    for number, same in enumerate(specs):
        yield from [same[number % len(same)]] if number else same


class PlainUpdate:
    """Adam on one phase's parameters: the trainer's update with nothing around it."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float = 1e-3) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters, lr=lr) if self.parameters else None

    def minimise(self, loss: Tensor) -> None:
        """Zero, differentiate, apply."""
        promise(loss.dim() == 0, f"minimise was given a loss of shape {tuple(loss.shape)}")
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        self.apply()

    def apply(self) -> None:
        """Step with the gradients that stand in `.grad`."""
        if self.optimizer is not None:
            self.optimizer.step()


class _Recorder(PlainUpdate):
    """Notes which parameters a gradient reached, and updates nothing."""

    def __init__(self, parameters: Iterable[nn.Parameter], reached: set[int]) -> None:
        super().__init__(parameters)
        self.reached = reached

    def apply(self) -> None:
        for parameter in self.parameters:
            if parameter.grad is not None and bool((parameter.grad != 0).any()):
                self.reached.add(id(parameter))
            parameter.grad = None


def _loss(case: Case, batch: Batch, phase: str, draw: torch.Generator) -> Tensor:
    """The loss of a fresh family: (B,)."""
    family = case.family()
    with works(f"{case}: loss(phase={phase!r})"):
        return family.loss(batch, phase, draw)[0].detach()


def _check_losses(case: Case) -> None:
    """(B,), finite, with finite named parts, for every phase."""
    family, batch = case.family(), case.batch(seed=0)
    for phase in family.phases:
        where = f"{case}: loss(phase={phase!r})"
        with works(where), leaves_global_rng(where):
            loss, parts = family.loss(batch, phase, generator(1))
        expected = (len(batch),)
        promise(tuple(loss.shape) == expected, f"{where} is {tuple(loss.shape)}, not {expected}")
        promise(torch.isfinite(loss).all(), f"{where} is not finite")
        for name, part in parts.items():
            fits = part.dim() == 0 or tuple(part.shape) == expected
            promise(fits, f"{where}: the part {name!r} has shape {tuple(part.shape)}")
            promise(torch.isfinite(part).all(), f"{where}: the part {name!r} is not finite")


def _check_repeatable(case: Case) -> None:
    """The generator given is the only randomness."""
    batch = case.batch(seed=0)
    for phase in case.family_class.phases:
        losses: list[Tensor] = []
        for seed in (1, 2):
            family = case.family()
            with global_seed(seed), works(f"{case}: loss"):
                losses.append(family.loss(batch, phase, generator(5))[0].detach())
        promise(
            close(losses[0], losses[1]),
            f"{case}: loss(phase={phase!r}) differs between two calls with one generator seed",
        )


def _check_per_item(case: Case) -> None:
    """The loss of item i does not depend on the other items."""
    if getattr(case.family_class, "mixes_batch", False):
        return
    batch, other = case.batch(seed=0), case.batch(seed=50)
    x = joined([rows(batch.x, slice(2)), rows(other.x, slice(2, None))])
    cond = {name: torch.cat([v[:2], other.cond[name][2:]]) for name, v in batch.cond.items()}
    for phase in case.family_class.phases:
        one = _loss(case, batch, phase, generator(5))
        two = _loss(case, Batch(x, cond=cond), phase, generator(5))
        promise(
            close(one[:2], two[:2], 1e-3),
            f"{case}: the loss(phase={phase!r}) of an item changes with the other items of the "
            "batch; declare `mixes_batch = True` if that is the method",
        )


def _check_sharding(case: Case) -> None:
    """Two processes with half the batch each compute the losses of one."""
    if getattr(case.family_class, "mixes_batch", False):
        return
    batch, half = case.batch(seed=0), BATCH_SIZE // 2
    for phase in case.family_class.phases:
        whole = _loss(case, batch, phase, generator(5))
        parts = []
        for rank in range(2):
            own = slice(rank * half, (rank + 1) * half)
            draw = ShardedGenerator().shard(rank, 2)
            draw.manual_seed(5)
            parts.append(_loss(case, batch.rows(own), phase, draw))
        promise(
            close(whole, torch.cat(parts), 1e-3),
            f"{case}: the loss(phase={phase!r}) of two shards is not that of the whole batch: "
            "draw with core.random, and put the batch axis first in every draw",
        )


def _check_padding(case: Case) -> None:
    """What stands after the end of an item, or beyond its length, changes nothing."""
    if not case.spec.is_ragged:
        return
    batch = case.batch(seed=0)
    noise = draw_data(without_ends(case.spec), len(batch), seed=77)
    noisy = Batch(littered(case.spec, batch.x, noise), cond=batch.cond)
    promise(not equal(noisy.x, batch.x), f"{case}: no item of the sample ends early")
    for phase in case.family_class.phases:
        one = _loss(case, batch, phase, generator(5))
        two = _loss(case, noisy, phase, generator(5))
        promise(
            close(one, two),
            f"{case}: the loss(phase={phase!r}) changes with what stands after the end of items: "
            "count what `spec.mask(x)` calls real, and show networks `spec.canonical(x)`",
        )
    model = case.family().eval()
    with torch.no_grad():
        first, second = (outputs(model, each) for each in (batch, noisy))
    for name in ("log_prob", "encode", "features", "predict"):
        promise(
            name not in first or close(first[name], second[name]),
            f"{case}: {name} changes with what stands after the end of items",
        )


def _check_weights(case: Case) -> None:
    """A loss in which values count differently: all by 1 changes nothing, all by 0 leaves of the
    data nothing to learn; a family that cannot says so."""
    batch, family = case.batch(seed=0), case.family()

    def weighted(by: float) -> Batch:
        weight = each(lambda part: torch.full(part.shape, by), batch.x)
        return Batch(batch.x, cond=batch.cond, weight=weight)

    if "weights" not in family.takes:
        try:
            family.check_batch(weighted(1.0))
        except RefusedPair:
            return
        raise AssertionError(f"{case} takes no weights, and does not refuse a batch that has some")
    phase = family.phases[-1]
    plain, same, none = (
        _loss(case, b, phase, generator(5)) for b in (batch, weighted(1.0), weighted(0.0))
    )
    promise(close(plain, same, 1e-3), f"{case}: weights of 1 change the loss")
    promise(not close(plain, none), f"{case}: the loss does not heed weights")


def _check_gradients(case: Case) -> None:
    """Training steps move every parameter of every phase that wants a gradient."""
    family = case.family()
    perturb(family)
    reached: set[int] = set()
    phases = {phase: list(family.parameters_of(phase)) for phase in family.phases}
    for seed, progress in enumerate((0.0, 0.3, 0.55, 0.8, 0.99)):
        batch = case.batch(seed=seed, size=16)
        # A learned "no condition" gets its gradient from items without one.
        absent = seed % 2 == 1 and not hasattr(family, "target")
        batch = Batch(batch.x) if absent else batch
        family.progress = progress
        updates = {phase: _Recorder(own, reached) for phase, own in phases.items()}
        with works(f"{case}: step"), leaves_global_rng(f"{case}: step"):
            try:
                logs = family.step(batch, updates, generator(seed))
            except RefusedPair:
                if absent:  # a model of data and condition together needs both
                    continue
                raise
        for key, value in logs.items():
            promise(torch.isfinite(value).all(), f"{case}: step logs {key} = {value}")
    wanted = {id(p) for own in phases.values() for p in own if p.requires_grad}
    names = [n for n, p in family.named_parameters() if id(p) in wanted - reached]
    promise(not names, f"{case}: no gradient reaches {', '.join(names[:8])} ({len(names)} in all)")


def _check_training(case: Case) -> Family:
    """Ten steps of the family's own training leave it finite. Returns it, ready for use."""
    family = case.family()
    updates = {phase: PlainUpdate(family.parameters_of(phase)) for phase in family.phases}
    before = {name: value.clone() for name, value in family.state_dict().items()}
    for step in range(10):
        family.progress = step / 10
        with works(f"{case}: training step {step}"):
            family.step(case.batch(seed=step % 2, size=16), updates, generator(step))
    state = family.state_dict()
    bad = [n for n, v in state.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    promise(not bad, f"{case}: after ten training steps {', '.join(bad[:4])} is not finite")
    moved = any(not torch.equal(before[name], value) for name, value in state.items())
    promise(moved, f"{case}: ten training steps change nothing")
    return family.eval()


def _check_state(case: Case, trained: Family) -> None:
    """Weights written as safetensors and read into a new family give the same answers."""
    restored = case.family()
    with tempfile.TemporaryDirectory() as folder, works(f"{case}: state_dict and back"):
        file = write_tensors(Path(folder) / "model.safetensors", trained.state_dict())
        restored.load_state_dict(read_tensors(file))
    restored.eval()
    restored.progress = trained.progress  # the trainer's to keep
    batch = case.batch(seed=3)
    first, second = (_answers(model, batch) for model in (trained, restored))
    for name, value in first.items():
        promise(
            close(value, second[name]),
            f"{case}: {name} differs after the weights went to disk and back: "
            "keep all that training changes in parameters and buffers",
        )


def _answers(model: Family, batch: Batch) -> dict[str, Any]:
    losses = {
        f"loss({phase})": model.loss(batch, phase, generator(1))[0].detach()
        for phase in model.phases
    }
    with torch.no_grad():
        return {**losses, **outputs(model, batch)}
