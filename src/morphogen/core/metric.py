"""The contract of the metric axis: what is known of generated and real items, to scores.

A metric is a function whose first parameter is annotated with what it needs, as a task's is, and
that says which of its scores are better high:

    @scores(precision=True, recall=True)
    def precision_recall(sets: Features, *, generator) -> Mapping[str, float]: ...

    Features      a vector of each item, by a judge that was trained on this data
    Items         the items themselves, as values and as they are encoded
    Texts         the same, where they are texts
    References    each generated item beside the real one whose conditions it was asked for with
    TextReferences    the same of texts, each asked for by more than a label: translations
    Draws         many draws for each of some held-out items, under its own conditions
    Ranks         at which place what came next was expected, and by what only counts
    Aligned       vectors of generated items and of what each was asked for, in one space
    Likelihoods   bits of held-out and of training items

An evaluation runs all that apply to a model and says why the rest do not. The floor is the same
function of the same real items with training items in place of the generated ones; its intervals
come from halves: both are asked of the sets, so a metric need not know.

Legend: N generated items, M reference items, D features.
"""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from morphogen.core.encoded import Encoded, num_items, rows
from morphogen.core.errors import MeasurementError, RecipeError
from morphogen.core.spec import Spec

Own = TypeVar("Own", bound="Sets")


class Sets(ABC):
    """Sets of items that a metric compares, and what an evaluation does with them beside it."""

    groups: ClassVar[tuple[tuple[str, ...], ...]]  # fields that go together, row by row

    @abstractmethod
    def floor(self: Own) -> Own:
        """The same with real items in place of what is judged. Raises `MeasurementError` where
        there are none."""

    @property
    def smallest(self) -> int:
        """Items in the smallest set."""
        return min(self._num(group) for group in self.groups if self._has(group))

    @property
    def num_judged(self) -> int:
        """Items whose score it is."""
        return self._num(self.groups[0])

    def thinned(self: Own, most: int) -> Own:
        """At most so many items of each."""
        return self._taken({group: slice(most) for group in self.groups})

    def half(self: Own, draw: torch.Generator) -> Own:
        """A random half of each."""
        some: dict[tuple[str, ...], Tensor | slice] = {}
        for group in self.groups:
            if self._has(group):
                num = self._num(group)
                some[group] = torch.randperm(num, generator=draw)[: num // 2]
        return self._taken(some)

    def mixed(self: Own, draw: torch.Generator) -> Own:
        """The same items in another order."""
        num = {group: self._num(group) for group in self.groups if self._has(group)}
        return self._taken({g: torch.randperm(n, generator=draw) for g, n in num.items()})

    def _has(self, group: tuple[str, ...]) -> bool:
        return getattr(self, group[0]) is not None

    def _num(self, group: tuple[str, ...]) -> int:
        return num_items(getattr(self, group[0]))

    def _taken(self: Own, some: Mapping[tuple[str, ...], Tensor | slice]) -> Own:
        """The rows of every group that are named."""
        found = {
            name: rows(getattr(self, name), index)
            for group, index in some.items()
            for name in group
            if getattr(self, name) is not None
        }
        return replace(self, **found)  # type: ignore[type-var]


@dataclass(frozen=True)
class Features(Sets):
    """Features of generated items (N, D), of held-out ones (M, D), and of training items that
    stand in for the generated ones in the floor; each in random order."""

    generated: Tensor
    reference: Tensor
    train: Tensor | None = None

    groups: ClassVar = (("generated",), ("reference",), ("train",))

    def floor(self) -> Features:
        """Training items in place of the generated ones."""
        return replace(self, generated=_known(self.train))


@dataclass(frozen=True)
class Items(Sets):
    """Generated, held-out and training items, encoded (see `core.encoded`); `values` decodes.

    A metric of one field asks for a subclass whose `of` is what codecs of that field hold:
    `Codec.holds`, such as "molecule". It may be defined beside the metric.
    """

    spec: Spec
    generated: Encoded
    reference: Encoded
    train: Encoded | None = None
    decode: Callable[[Encoded], Sequence[Any]] | None = None
    known: Callable[[], Sequence[Any]] | None = None  # every training item, as a value

    of: ClassVar[str] = ""  # what the values have to be; "": whatever they are
    groups: ClassVar = (("generated",), ("reference",), ("train",))

    def floor(self) -> Items:
        """Training items in place of the generated ones."""
        return replace(self, generated=_known(self.train))

    def values(self) -> tuple[Sequence[Any], Sequence[Any]]:
        """Generated and held-out items as raw values, as a user has them."""
        if self.decode is None:
            raise MeasurementError("these items cannot be decoded", found="no codec")
        return self.decode(self.generated), self.decode(self.reference)


@dataclass(frozen=True)
class References(Sets):
    """Generated items, each beside the held-out one whose conditions it was asked for with.

    `train`, for the floor, are training items with equal conditions or, where there are none, with
    the nearest: what looking up would reach.
    """

    spec: Spec
    generated: Encoded
    reference: Encoded
    train: Encoded | None = None
    conditions: Sequence[str] = ()
    decode: Callable[[Encoded], Sequence[Any]] | None = None

    of: ClassVar[str] = ""  # what the values have to be; "": whatever they are
    groups: ClassVar = (("generated", "reference", "train"),)

    def floor(self) -> References:
        """Training items of the same conditions, or the nearest, in place of the generated ones."""
        return replace(self, generated=_known(self.train))

    def values(self) -> tuple[Sequence[Any], Sequence[Any]]:
        """Generated items and their references as raw values, as a user has them."""
        if self.decode is None:
            raise MeasurementError("these items cannot be decoded", found="no codec")
        return self.decode(self.generated), self.decode(self.reference)


@dataclass(frozen=True)
class Draws(Sets):
    """Many draws (N, S, *) for each of N held-out items (N, *), under its own conditions; `train`
    (N, S, *), for the floor, are any training items."""

    spec: Spec
    generated: Tensor
    reference: Tensor
    train: Tensor | None = None

    groups: ClassVar = (("generated", "reference", "train"),)

    def floor(self) -> Draws:
        """Training items in place of the draws."""
        return replace(self, generated=_known(self.train))


@dataclass(frozen=True)
class Ranks(Sets):
    """At which place, from 1 on, what came next in each of N held-out items stood among all that
    might come: by the model, by how often each comes at all, and by how often it comes after the
    one before. (N,) each; places that are shared are means."""

    ranks: Tensor
    by_popularity: Tensor
    by_chain: Tensor
    num: int = 0  # tokens that might come

    groups: ClassVar = (("ranks", "by_popularity", "by_chain"),)

    def floor(self) -> Ranks:
        """What counting which token follows which reaches, in place of the model."""
        return replace(self, ranks=self.by_chain)


@dataclass(frozen=True)
class Aligned(Sets):
    """Generated items (N, D), what each was asked for (N, D), and real items that it was said of
    (N, D), in a space where what belongs together is near; `candidates` (M, D) are all that could
    have been asked for, each once. All of length 1."""

    generated: Tensor
    asked: Tensor
    real: Tensor | None
    candidates: Tensor

    groups: ClassVar = (("generated", "asked", "real"),)

    def floor(self) -> Aligned:
        """The real items of the same conditions in place of the generated ones."""
        return replace(self, generated=_known(self.real))


class Texts(Items):
    """Items whose values are texts."""

    of: ClassVar = "text"


class TextReferences(References):
    """References whose values are texts, each asked for by something that is its own."""

    of: ClassVar = "text"


@dataclass(frozen=True)
class Likelihoods(Sets):
    """Bits (M,) that held-out items cost, and training items (N,), with the units in each."""

    bits: Tensor
    units: Tensor
    train_bits: Tensor
    train_units: Tensor
    unit: str = "value"  # what is counted: byte, pixel value
    reading: str = "exact"  # a bound, an estimate: as `HasLogProb.log_prob_is`

    groups: ClassVar = (("bits", "units"), ("train_bits", "train_units"))

    def floor(self) -> Likelihoods:
        """One half of the held-out items in place of training items: a model that has not seen
        either finds both equally likely."""
        cut = len(self.bits) // 2
        return replace(
            self, bits=self.bits[:cut], units=self.units[:cut], train_bits=self.bits[cut:],
            train_units=self.units[cut:],
        )  # fmt: skip


def _known(train: Any) -> Any:
    if train is None:
        raise MeasurementError("there is no floor without training items", found="none")
    return train


KINDS: tuple[type[Sets], ...] = (
    Features, Items, Texts, References, TextReferences, Draws, Ranks, Aligned, Likelihoods,
)  # fmt: skip

# From the sets and the upper end of a score's interval: a sentence, or "".
Caution = Callable[[Any, float], str]


class Metric(Protocol):
    """A function that `scores` has marked."""

    higher_is_better: Mapping[str, bool | None]
    standard_error: Callable[[float, int], float] | None  # of a score from n items, where known
    caution: Caution | None  # what is to be known before a score is read, if anything
    ratios: bool  # whether times the floor say something
    protocol: Callable[[], Mapping[str, str]] | None  # what more two scores must have in common

    def __call__(self, sets: Any, *, generator: torch.Generator) -> Mapping[str, float]:
        """One number per name in `higher_is_better`; of `Items`, per name that applies to them."""
        ...


F = TypeVar("F", bound=Callable[..., Any])


def scores(
    *,
    standard_error: Callable[[float, int], float] | None = None,
    caution: Caution | None = None,
    ratios: bool = True,
    protocol: Callable[[], Mapping[str, str]] | None = None,
    **higher_is_better: bool | None,
) -> Callable[[F], F]:
    """Mark a function as a metric, with the direction of each of its scores.

    A metric that knows the `standard_error` of a value from n items is not run again and again to
    find it. One with a `caution` says by it what a reader of its scores must not miss. Without
    `ratios` no score is given as times its floor: where a floor may be 0 by luck. `protocol` adds
    to what two scores must have in common to be compared, such as the version of a library.
    """

    def mark(function: F) -> F:
        function.higher_is_better = higher_is_better  # type: ignore[attr-defined]
        function.standard_error = standard_error  # type: ignore[attr-defined]
        function.caution = caution  # type: ignore[attr-defined]
        function.ratios = ratios  # type: ignore[attr-defined]
        function.protocol = protocol  # type: ignore[attr-defined]
        return function

    return mark


def kind_of(metric: Callable[..., Any]) -> type[Sets]:
    """What a metric asks for: the annotation of its first parameter.

    Raises `RecipeError` for one that says none of them.
    """
    hints = typing.get_type_hints(metric)
    first = next(iter(hints), "")
    found: Any = hints.get(first)
    own = isinstance(found, type) and issubclass(found, (Items, References)) and found.of
    if not (found in KINDS or own) or first == "return":
        raise RecipeError(
            f"the metric {getattr(metric, '__name__', metric)!r} does not say what it needs",
            found=found,
            expected=f"a first parameter annotated {', '.join(kind.__name__ for kind in KINDS)}",
            hint="docs/extend.md has an example",
        )
    kind: type[Sets] = found
    return kind


def check_features(sets: Features, fewest: int = 2) -> None:
    """Raise `MeasurementError` unless both are (N >= fewest, D), of one D, and finite."""
    for name, features in (("generated items", sets.generated), ("held-out items", sets.reference)):
        if features.dim() != 2 or features.shape[1] != sets.generated.shape[1]:
            raise MeasurementError(
                f"the features of the {name} do not fit",
                found=tuple(features.shape),
                expected="(N, D), equal D",
            )
        if len(features) < fewest:
            raise MeasurementError(
                f"too few {name} to measure", found=len(features), expected=f">= {fewest}"
            )
        bad = int((~torch.isfinite(features)).any(1).sum())
        if bad:
            raise MeasurementError(
                f"the features of the {name} are not finite",
                found=f"{bad} of {len(features)} items with NaN or infinity",
                hint="the model may have diverged: look at its samples",
            )
