"""The promises of a backbone: `check_backbone(MyBackbone)`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from morphogen.core.backbone import Backbone, BuildBackbone
from morphogen.core.encoded import Encoded, joined, rows
from morphogen.core.random import generator
from morphogen.core.spec import ProductSpec, Spec, TensorSpec
from morphogen.testing._promises import (
    check_described,
    close,
    draw_data,
    global_seed,
    leaves_global_rng,
    perturb,
    promise,
    small_options,
    works,
)

_SEQUENCE = TensorSpec("real", (3, 12), layout="sequence")
_GRAPH = ProductSpec(
    {
        "num": TensorSpec.label(6),
        "nodes": TensorSpec.tokens(5, 3),
        "edges": TensorSpec("token", (5, 5), 4),
    },
    lengths={"nodes": "num", "edges": "num"},
    pairs=("edges",),
)
_TOLD = ProductSpec(
    {
        "nodes": TensorSpec("real", (3, 5), layout="sequence"),
        "edges": TensorSpec("real", (4, 5, 5)),
        "all": TensorSpec.vector(2),
    },
    pairs=("edges",),
)
PAIRS = (
    (TensorSpec.vector(5), TensorSpec.vector(7)),
    (TensorSpec.label(4), TensorSpec.vector(3)),
    (TensorSpec("real", (2, 8, 8)), TensorSpec("real", (2, 8, 8))),
    (TensorSpec("real", (1, 14, 14)), TensorSpec("real", (3, 14, 14))),
    (TensorSpec("real", (1, 9, 7)), TensorSpec("real", (1, 9, 7))),  # odd sizes
    (TensorSpec("real", (2, 12)), TensorSpec("real", (2, 12))),
    (TensorSpec("real", (1, 4, 8, 8)), TensorSpec("real", (1, 4, 8, 8))),
    (TensorSpec("real", (2, 8, 8)), TensorSpec.vector(5)),
    (TensorSpec("real", (2, 12)), TensorSpec.vector(5)),
    (TensorSpec("real", (1, 4, 8, 8)), TensorSpec.vector(5)),
    (TensorSpec.vector(5), TensorSpec("real", (2, 8, 8))),
    (TensorSpec.vector(5), TensorSpec("real", (2, 12))),
    (TensorSpec.vector(5), TensorSpec("real", (1, 4, 8, 8))),
    (TensorSpec("real", (2, 8, 8)), TensorSpec("real", (4, 4, 4))),
    (TensorSpec("real", (4, 4, 4)), TensorSpec("real", (2, 8, 8))),
    (TensorSpec.tokens(6, 5), TensorSpec("real", (5, 6), layout="sequence")),
    (TensorSpec.tokens(6, 5), TensorSpec.vector(3)),
    (_SEQUENCE, _SEQUENCE),
    (_GRAPH, _TOLD),
    (_GRAPH, TensorSpec.vector(3)),
    (TensorSpec.vector(5), _TOLD),
)


def check_backbone(backbone_class: type[Backbone]) -> None:
    """Hold a backbone to its contract, on every pair of specs in `PAIRS` that it accepts."""
    name = backbone_class.__name__
    check_described(backbone_class)
    cases = list(_cases(backbone_class))
    promise(cases, f"{name} refuses every pair of specs")
    for case in cases:
        _check_forward(case)
        _check_items_apart(case)
        _check_gradients(case)
        if case.cond_dim:
            _check_cond(case)
        if case.causal:
            _check_causal(case)


@dataclass(frozen=True)
class Case:
    """One network: from a spec to a spec, with or without a condition, causal or not."""

    backbone_class: type[Backbone]
    in_spec: Spec
    out_spec: Spec
    cond_dim: int
    causal: bool

    def network(self) -> Backbone:
        """With the same weights at every call, none of them zero."""
        build = BuildBackbone(self.backbone_class, **small_options(self.backbone_class))
        with global_seed(0):
            try:
                network = build(self.in_spec, self.out_spec, self.cond_dim, self.causal)
            except ValueError:  # sizes that do not divide: the defaults must do
                build = BuildBackbone(self.backbone_class)
                network = build(self.in_spec, self.out_spec, self.cond_dim, self.causal)
        perturb(network)
        return network.train()

    def inputs(self, seed: int, size: int = 3) -> tuple[Any, Tensor | None]:
        """x (B, *in), cond (B, cond_dim)."""
        cond = torch.randn((size, self.cond_dim), generator=generator(seed + 100))
        return draw_data(self.in_spec, size, seed), cond if self.cond_dim else None

    def __str__(self) -> str:
        extra = ", causal" if self.causal else ""
        extra += f", cond_dim {self.cond_dim}" if self.cond_dim else ""
        return f"{self.backbone_class.__name__} from {self.in_spec} to {self.out_spec}{extra}"


def _cases(backbone_class: type[Backbone]) -> Iterator[Case]:
    for in_spec, out_spec in PAIRS:
        for causal in (False, True):
            case = Case(backbone_class, in_spec, out_spec, 0, causal)
            with works(f"{case}: refuses"):
                reason = backbone_class.refusal(in_spec, out_spec, causal)
            promise(
                reason is None or (isinstance(reason, str) and reason),
                f"{case}: refuses gives {reason!r}, not a reason or None",
            )
            if reason is not None:
                continue
            with works(f"{case}: building what refuses accepts"):
                case.network()
            yield case
            yield Case(backbone_class, in_spec, out_spec, 6, causal)


def _parts(spec: Spec, out: Encoded) -> list[tuple[str, TensorSpec, Tensor]]:
    """("", spec, out) of a tensor; of parts, each with its name for a message."""
    if isinstance(spec, TensorSpec) or not isinstance(out, dict):
        return [("", spec, out)]  # type: ignore[list-item]
    return [(f" of {name!r}", part, out[name]) for name, part in spec]


def _check_forward(case: Case) -> None:
    """The promised shape; finite; a function of its inputs alone."""
    network = case.network()
    x, cond = case.inputs(0)
    with works(f"{case}: forward"), leaves_global_rng(str(case)):
        out = network(x, cond)
        again = case.network()(x, cond)
    for name, spec, part in _parts(case.out_spec, out):
        expected, shape = (3, *spec.shape), tuple(part.shape)
        promise(shape == expected, f"{case}: shape{name} {shape}, not {expected}")
        promise(torch.isfinite(part).all(), f"{case}: the output{name} is not finite")
        promise(part.is_floating_point(), f"{case}: the output{name} is {part.dtype}, not real")
    promise(close(out, again), f"{case}: two equal calls differ")
    moved = network(case.inputs(1)[0], cond)
    promise(not close(out, moved), f"{case}: the output does not depend on x")


def _check_items_apart(case: Case) -> None:
    """An item's output does not depend on the rest of the batch, in training or after."""
    x, cond = case.inputs(0)
    other, _ = case.inputs(1)
    first, mixed = slice(1), joined([rows(x, slice(1)), rows(other, slice(1, None))])
    for training in (True, False):
        network = case.network().train(training)
        with torch.no_grad():
            found, again = (rows(network(each, cond), first) for each in (x, mixed))
            same = close(found, again, 1e-3)
        mode = "training" if training else "evaluation"
        promise(same, f"{case}: in {mode}, an item's output changes with the rest of the batch")


def _check_gradients(case: Case) -> None:
    network = case.network()
    reached: set[str] = set()
    for seed in range(3):
        network.zero_grad(set_to_none=True)
        x, cond = case.inputs(seed, size=8)
        total = torch.zeros(())
        for _, _, part in _parts(case.out_spec, network(x, cond)):
            total = total + (part * torch.randn(part.shape, generator=generator(seed))).sum()
        total.backward()  # type: ignore[no-untyped-call]
        for name, parameter in network.named_parameters():
            if parameter.grad is not None and bool((parameter.grad != 0).any()):
                reached.add(name)
    lost = [n for n, p in network.named_parameters() if p.requires_grad and n not in reached]
    promise(not lost, f"{case}: no gradient reaches {', '.join(lost[:8])} ({len(lost)} in all)")


def _check_cond(case: Case) -> None:
    network = case.network().eval()
    x, cond = case.inputs(0)
    _, other = case.inputs(1)
    with torch.no_grad():
        promise(not close(network(x, cond), network(x, other)), f"{case}: cond changes nothing")


def _check_causal(case: Case) -> None:
    """Output at position i is untouched by inputs after i; `step` agrees with `forward`."""
    network: Any = case.network().eval()
    x, cond = case.inputs(0)
    other, _ = case.inputs(1)
    length = math.prod(case.in_spec.space)
    with torch.no_grad():
        out = network(x, cond).flatten(2)  # (B, C, L): grids in raster order
        for i in range(length - 1):
            after = torch.arange(length).view(case.in_spec.space) > i
            changed = network(torch.where(after, other, x), cond).flatten(2)
            same = close(out[..., : i + 1], changed[..., : i + 1], 1e-3)
            promise(same, f"{case}: the output at position {i} depends on inputs after it")
        if case.in_spec.kind != "token":
            return
        promise(hasattr(network, "step"), f"{case}: a causal network over tokens has a `step`")
        state = None
        for i in range(length):
            with works(f"{case}: step {i}"):
                one, state = network.step(x[:, i], cond, state)
            promise(
                close(one, out[..., i], 1e-3), f"{case}: step {i} is not forward at position {i}"
            )
