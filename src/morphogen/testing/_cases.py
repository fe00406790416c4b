"""What a family is held to its promises on: sample specs, small backbones, drawn batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property

from morphogen.core import discover
from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.errors import MorphogenError, RefusedPair
from morphogen.core.family import Family
from morphogen.core.random import generator
from morphogen.core.spec import ProductSpec, Spec, TensorSpec
from morphogen.testing._promises import draw_data, global_seed, promise, small_options, works

SPECS = (
    TensorSpec("real", (1, 8, 8), levels=256),
    TensorSpec("real", (1, 8, 8), levels=2),
    TensorSpec.vector(6),
    TensorSpec.tokens(8, 5),
    TensorSpec.tokens(8, 5, end=4),
    TensorSpec.columns((3, 2, 5, 1)),
    ProductSpec(
        {
            "age": TensorSpec.vector(2),
            "job.kind": TensorSpec.label(3),
            "steps": TensorSpec("real", (2, 6), layout="sequence"),
            "number": TensorSpec.label(7),
        },
        lengths={"steps": "number"},
    ),
    ProductSpec(
        {
            "num": TensorSpec.label(5),
            "nodes": TensorSpec.tokens(4, 3),
            "edges": TensorSpec("token", (4, 4), 3),
        },
        lengths={"nodes": "num", "edges": "num"},
        pairs=("edges",),
    ),
)
# Few enough values to sum p(x) over all of them.
ENUMERABLE = (
    TensorSpec.tokens(3, 3),
    TensorSpec("real", (1, 2, 2), levels=2),
    TensorSpec("real", (2,), levels=3, layout="vector"),
    TensorSpec.tokens(3, 3, end=2),
    TensorSpec.columns((2, 3, 1)),
    ProductSpec({"a": TensorSpec.label(3), "b": TensorSpec("real", (2,), levels=2)}),
)
CONDITIONS: tuple[dict[str, TensorSpec], ...] = ({}, {"label": TensorSpec.label(3)})
BATCH_SIZE = 6


@dataclass(frozen=True)
class Case:
    """One family on one spec, with or without a label."""

    family_class: type[Family]
    spec: Spec
    conditions: Mapping[str, TensorSpec]
    build: BuildBackbone

    def family(self) -> Family:
        """The untrained family, with the same weights at every call."""
        return deepcopy(self._built)

    @cached_property
    def _built(self) -> Family:
        with global_seed(0):
            options = small_options(self.family_class)
            family = self.family_class(self.spec, self.conditions, self.build, **options)
            family.prepare(self.batch(seed=99, size=32), generator(99))
        return family.train()

    def batch(self, seed: int, size: int = BATCH_SIZE) -> Batch:
        """Random items of the spec, with their conditions."""
        x = draw_data(self.spec, size, seed)
        cond = {name: draw_data(c, size, seed + 1) for name, c in self.conditions.items()}
        return Batch(x, cond=cond)

    def __str__(self) -> str:
        given = f" given {', '.join(self.conditions)}" if self.conditions else ""
        return f"{self.family_class.__name__} on {self.spec}{given}"


def cases_of(
    family_class: type[Family], specs: Sequence[Spec], backbone: BuildBackbone | str | None
) -> Iterator[Case]:
    """The family on each of the specs that it accepts, with a label and without one."""
    for spec in specs:
        for conditions in CONDITIONS:
            where = f"{family_class.__name__}.refusal({spec})"
            with works(where):
                refusal = family_class.refusal(spec, conditions)
            kind = type(refusal).__name__
            good = refusal is None or isinstance(refusal, RefusedPair)
            promise(good, f"{where} returns a {kind}, not a RefusedPair or None")
            if refusal is None:
                build = _builder(family_class, spec, conditions, backbone)
                yield Case(family_class, spec, conditions, build)
                continue
            try:
                family_class(spec, conditions, _builder(family_class, spec, conditions, backbone))
            except MorphogenError:
                continue
            raise AssertionError(f"{where} refuses, but the constructor accepts")


def _builder(
    family_class: type[Family],
    spec: Spec,
    conditions: Mapping[str, TensorSpec],
    backbone: BuildBackbone | str | None,
) -> BuildBackbone:
    """The backbone asked for, else the family's own; small where its options let it be."""
    if isinstance(backbone, BuildBackbone):
        return backbone
    network = discover.find("backbone", backbone or family_class.backbone_for(spec))
    build = BuildBackbone(network, **small_options(network))
    if family_class.refusal(spec, conditions) is not None:
        return build
    where = f"building {family_class.__name__} on {spec} with {network.__name__}"
    with works(where), global_seed(0):
        try:
            family_class(spec, conditions, build)
        except ValueError:  # sizes that do not divide: the defaults must do
            build = BuildBackbone(network)
            family_class(spec, conditions, build)
    return build
