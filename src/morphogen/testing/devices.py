"""The promise of a family on a GPU: `check_device(MyFamily, "cuda")`.

What it answers there is what it answers on the CPU, up to rounding: draws come of generators on the
CPU, so that one seed gives the same items on both. Where an answer is a token or a level, rounding
may turn one over, and from there on what follows: most items must be the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from morphogen.core.backbone import BuildBackbone
from morphogen.core.encoded import Encoded, moved, together
from morphogen.core.family import Family
from morphogen.core.random import generator
from morphogen.core.spec import Spec
from morphogen.testing._cases import SPECS, Case, cases_of
from morphogen.testing._models import check_capabilities, outputs
from morphogen.testing._promises import close, promise, works
from morphogen.testing.families import PlainUpdate

TOLERANCE = 2e-3  # of values: float32 is summed in another order
MOST_TURNED = 0.34  # of items of which a token or a level is another
LEVELS = 0.02  # distance between values that is no other level


def check_device(
    family_class: type[Family],
    device: torch.device | str,
    specs: Sequence[Spec] = SPECS,
    backbone: BuildBackbone | str | None = None,
) -> int:
    """Hold a family to its promises on `device`, on every spec that it accepts; how many there
    were. Raises `AssertionError` naming the promise that is broken."""
    cases = list(cases_of(family_class, specs, backbone))
    for case in cases:
        check_case(case, torch.device(device))
    return len(cases)


def check_case(case: Case, device: torch.device) -> None:
    """Losses with finite gradients in full and in half precision, every capability, and the CPU's
    answers."""
    where = f"{case} on {device}"
    learner, batch = case.family().to(device), case.batch(seed=1)
    there = batch.to(device)
    for phase in learner.phases:
        with works(f"{where}: loss(phase={phase!r})"):
            loss = learner.loss(there, phase, generator(1, device))[0]
            loss.mean().backward()  # type: ignore[no-untyped-call]
            with torch.autocast(device.type, torch.bfloat16):
                loss = learner.loss(there, phase, generator(1, device))[0]
            loss.mean().backward()  # type: ignore[no-untyped-call]
        promise(torch.isfinite(loss).all(), f"{where}: loss(phase={phase!r}) is not finite")
    for name, parameter in learner.named_parameters():
        given = parameter.grad
        promise(given is None or torch.isfinite(given).all(), f"{where}: no gradient of {name}")
    _check_step(case, device, where)
    own, other = case.family().eval(), case.family().to(device).eval()
    with works(f"{where}: using the model"):
        check_capabilities(other, there, where)
        with torch.no_grad():
            told, expected = outputs(other, there), outputs(own, batch)
    for name, value in expected.items():
        found = moved(told[name], "cpu")
        promise(_alike(found, value), f"{where}: {name} is not what the CPU says")


def _check_step(case: Case, device: torch.device, where: str) -> None:
    """What a run does: see a batch of few items, learn from it in half precision, settle."""
    learner, batch = case.family().to(device), case.batch(seed=2).to(device)
    updates = {phase: PlainUpdate(learner.parameters_of(phase)) for phase in learner.phases}
    with works(f"{where}: a step of training"):
        with torch.no_grad():
            learner.prepare(batch, generator(3))
        with torch.autocast(device.type, torch.bfloat16):
            learner.step(batch, updates, generator(4, device))
        with torch.no_grad():
            learner.eval().finish(batch, len(batch), generator(5))


def _alike(found: Encoded, expected: Encoded) -> bool:
    """Equal up to rounding; of what was rounded to tokens or levels, most items."""
    if close(found, expected, TOLERANCE):
        return True
    turned = together(_turned, [found, expected])
    parts = list(turned.values()) if isinstance(turned, dict) else [turned]
    return float(torch.stack(parts).any(0).double().mean()) <= MOST_TURNED


def _turned(pair: list[Tensor]) -> Tensor:
    """Which items have another value: (B,)."""
    found, expected = (part.double().reshape(len(part), -1) for part in pair)
    return ((found - expected).abs() > LEVELS).any(1)
