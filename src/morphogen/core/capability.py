"""What a trained model can do: narrow Protocols that tasks and metrics ask for by annotation.

A task is a plain function whose first parameter is annotated with what it needs: one capability,
or several joined by `|` where it has several routes. `why_not` explains a refusal. That methods
behave is held by the kit. Legend: B batch, * the spec's shape, Z latent shape, `cond` (B, ...).
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from morphogen.core.spec import Spec, TensorSpec
from morphogen.core.transcript import Transcript

Conditions = Mapping[str, Tensor]


LOG_PROB_KINDS = (
    "exact", "lower bound", "estimate", "estimate of a lower bound", "up to a constant",
)  # fmt: skip


@runtime_checkable
class CanSample(Protocol):
    """Draws new items from the learned distribution."""

    def sample(
        self,
        num: int,
        *,
        cond: Conditions | None = None,
        generator: torch.Generator,
        **options: Any,
    ) -> Tensor:
        """`num` items (num, *shape). `cond` holds (num, ...) conditions; absent ones are free."""
        ...


@runtime_checkable
class CanEncode(Protocol):
    """Maps an item to a latent, deterministically."""

    latent_spec: TensorSpec

    def encode(self, x: Tensor) -> Tensor:
        """(B, *) -> (B, Z)."""
        ...


@runtime_checkable
class CanDecode(Protocol):
    """Maps a latent to an item, deterministically."""

    latent_spec: TensorSpec

    def decode(self, z: Tensor) -> Tensor:
        """(B, Z) -> (B, *)."""
        ...


@runtime_checkable
class CanReconstruct(CanEncode, CanDecode, Protocol):
    """Encodes and decodes: decode(encode(x)) is close to x."""


@runtime_checkable
class HasLogProb(Protocol):
    """Gives log p(x) in nats per item; `log_prob_is` says how it is to be read.

    For data with levels it is the log probability of the levels, not a density, so that bits per
    dimension compare between families.
    """

    log_prob_is: str  # one of LOG_PROB_KINDS, and where there is more to say " (by which method)"

    def log_prob(
        self, x: Tensor, *, cond: Conditions | None = None, generator: torch.Generator
    ) -> Tensor:
        """(B, *) -> (B,)."""
        ...


@runtime_checkable
class HasTokenLogProb(Protocol):
    """Gives log p of each token of a sequence given those before it: what a text is scored by, with
    all that stands before a token and whatever a sequence begins with."""

    def token_log_prob(self, x: Tensor, cond: Conditions | None = None) -> Tensor:
        """log p(x_i | x_<i) in nats, (B, L) -> (B, L), 0 where nothing is real. Its sum is exactly
        `log_prob`."""
        ...


@runtime_checkable
class EstimatesLogZ(Protocol):
    """Has a likelihood whose constant is an estimate: one error that all items share."""

    def log_prob_error(self, cond: Conditions | None = None) -> float:
        """The standard error of the mean of `log_prob` that the constant is to blame for, in nats.

        `cond` holds the conditions of the items, each (B, ...).
        """
        ...


def has_normalised_log_prob(model: object) -> bool:
    """Whether the model has log p(x) with its constant, so that it compares with other models'."""
    if missing(model, HasLogProb):
        return False
    return log_prob_kind(typing.cast(HasLogProb, model)) != "up to a constant"


def log_prob_kind(model: HasLogProb) -> str:
    """Which of LOG_PROB_KINDS a likelihood claims to be: `log_prob_is` without its method."""
    return model.log_prob_is.partition(" (")[0]


@runtime_checkable
class CanDenoise(Protocol):
    """Knows the posterior mean of the data under its own Gaussian path."""

    path: Any  # core.gaussian_path.GaussianPath: alpha(t), sigma(t); t = 0 data, t = 1 noise

    def denoise(self, x_t: Tensor, t: Tensor, cond: Conditions | None = None) -> Tensor:
        """E[x | x_t]: (B, *), (B,) -> (B, *)."""
        ...


@runtime_checkable
class CanFill(Protocol):
    """Draws the missing part of an item given the rest."""

    def fill(
        self,
        x: Tensor,
        known: Tensor,
        *,
        cond: Conditions | None = None,
        generator: torch.Generator,
    ) -> Tensor:
        """Redraw x where `known` (B, *, broadcastable, bool) is False; keep it where True.

        Items of sequences with ends may then end elsewhere, but not before what is known of them.
        """
        ...


@runtime_checkable
class FillsBothWays(Protocol):
    """Fills (`CanFill`) by what comes after a gap as well as by what comes before it, so that any
    part of an item is drawn given any others."""

    fills_both_ways: bool


@runtime_checkable
class CanStream(Protocol):
    """Draws a sequence a position at a time, each seen as soon as it is drawn."""

    def stream(
        self,
        prefix: Tensor,
        *,
        cond: Conditions | None = None,
        generator: torch.Generator,
        **options: Any,
    ) -> Iterator[Tensor]:
        """Tokens (B, n), 0 <= n < L -> what follows them, (B,) at a time, until all have ended.

        With no prefix, and the same generator and options, it gives the items of `sample`.
        """
        ...


@runtime_checkable
class CanPredictNext(Protocol):
    """Gives the distribution of the next token after a prefix."""

    def predict_next(self, prefix: Tensor, cond: Conditions | None = None) -> Tensor:
        """(B, L) tokens, L >= 0 -> logits (B, V)."""
        ...


@runtime_checkable
class CanPredict(Protocol):
    """Predicts a named condition from an item: a class or a number."""

    target: str  # the condition's name, such as "label"
    target_spec: TensorSpec

    def predict(self, x: Tensor) -> Tensor:
        """(B, *) -> class probabilities (B, V), or values (B, D)."""
        ...


@runtime_checkable
class CanMatch(Protocol):
    """Places items and what belongs to them in one space, each near its own.

    p(condition | item) among several is the softmax of `scale` times their inner products.
    """

    target: str | None  # the condition that belongs to an item; None: it has learned of none
    scale: float

    def encode(self, x: Tensor) -> Tensor:
        """Items (B, *) -> (B, D), of length 1."""
        ...

    def encode_condition(self, cond: Mapping[str, Tensor]) -> Tensor:
        """What belongs to them (B, *), by its name -> (B, D), of length 1."""
        ...


@runtime_checkable
class HasFeatures(Protocol):
    """Gives feature vectors, for metrics and maps."""

    def features(self, x: Tensor) -> Tensor:
        """(B, *) -> (B, D)."""
        ...


@runtime_checkable
class HasStageFeatures(Protocol):
    """Gives what its layers see in an item, from strokes to things, for others to learn from."""

    def stage_features(self, x: Tensor) -> Tensor:
        """(B, *) -> (B, D)."""
        ...


@runtime_checkable
class HasMapFeatures(Protocol):
    """Gives what its layers see at each place of an item."""

    def map_features(self, x: Tensor) -> Tensor:
        """(B, *) -> (B, D, *places)."""
        ...


@runtime_checkable
class HasPositionFeatures(Protocol):
    """Gives a feature vector for every position of an item, for networks that attend to it."""

    def position_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, *) -> (B, N, D), and which positions are real, (B, N) bool."""
        ...


@runtime_checkable
class HasTextFeatures(HasFeatures, Protocol):
    """Places texts in the space of its items' features, each near what it tells of.

    All features have length 1, so that their inner product says how near: p(text | item) among
    several is the softmax of `text_scale` times it.
    """

    text_scale: float

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """M texts -> (M, D)."""
        ...


@runtime_checkable
class CanVary(Protocol):
    """Makes something like an item, in a way of its own."""

    def vary(
        self,
        x: Tensor,
        strength: float,
        *,
        cond: Conditions | None = None,
        generator: torch.Generator,
        **options: Any,
    ) -> Tensor:
        """(B, *) -> (B, *), the further from x the nearer `strength` in (0, 1] is to 1."""
        ...


@runtime_checkable
class CanMix(Protocol):
    """Steers what it decodes layer by layer, the coarsest first: an item can be coarse as one, fine
    as another."""

    latent_spec: TensorSpec
    num_styles: int

    def styles(self, z: Tensor, cond: Conditions | None = None) -> Tensor:
        """Latents (B, Z) -> a style for each layer (B, S, D)."""
        ...

    def from_styles(self, styles: Tensor) -> Tensor:
        """(B, S, D) -> (B, *), differentiable."""
        ...


@runtime_checkable
class CanTranscribe(Protocol):
    """Writes down what is said in a sound."""

    sample_rate: int  # of the sounds that it hears, in samples a second

    def transcribe(
        self, sounds: Sequence[Tensor], *, generator: torch.Generator, **options: Any
    ) -> list[Transcript]:
        """Sounds (N_i,) in [-1, 1], of any length -> what is said in each."""
        ...


@runtime_checkable
class HasEnergy(Protocol):
    """Gives E(x) with p(x) proportional to exp(-E(x))."""

    def energy(self, x: Tensor) -> Tensor:
        """(B, *) -> (B,)."""
        ...


def needs(function: Callable[..., Any]) -> tuple[type, ...]:
    """The capabilities that `function`'s first parameter is annotated with, any one of which does.

    `def fill(model: CanFill | CanDenoise, ...)` gives (CanFill, CanDenoise).
    """
    hints = typing.get_type_hints(function)
    first = next(iter(typing.cast(Any, function).__code__.co_varnames))
    hint = hints.get(first)
    if hint is None:
        raise TypeError(f"{function.__name__}: annotate {first!r} with the capability it needs")
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return typing.get_args(hint)
    return (hint,)


def members(capability: type) -> list[str]:
    """The attributes that a capability asks for."""
    names: set[str] = set()
    for base in capability.__mro__:
        if getattr(base, "_is_protocol", False) and base is not Protocol:
            names |= {name for name in vars(base) if not name.startswith("_")}
            names |= set(vars(base).get("__annotations__", {}))
    return sorted(names)


def missing(model: object, capability: type) -> list[str]:
    """The attributes of `capability` that `model` lacks, or has as None."""
    return [name for name in members(capability) if getattr(model, name, None) is None]


F = TypeVar("F", bound=Callable[..., Any])


def refuses(reason: Callable[[Spec], str | None]) -> Callable[[F], F]:
    """Mark a task with what it has against data of some specs: `reason(spec)` says why it cannot
    serve them, or is None."""

    def mark(function: F) -> F:
        function.refuses = reason  # type: ignore[attr-defined]
        return function

    return mark


def unless(reason: Callable[[Any], str | None]) -> Callable[[F], F]:
    """Mark a task with what it has against some models: `reason(model)` says why it cannot work
    with them, or is None."""

    def mark(function: F) -> F:
        function.unless = reason  # type: ignore[attr-defined]
        return function

    return mark


def why_not(model: object, function: Callable[..., Any]) -> str | None:
    """None when `function` applies to `model`; else the reason, for a person to read."""
    options, spec = needs(function), getattr(model, "spec", None)
    if any(not missing(model, capability) for capability in options):
        against: Callable[[Spec], str | None] | None = getattr(function, "refuses", None)
        if against is not None and spec is not None and (reason := against(spec)):
            return reason
        unfit: Callable[[Any], str | None] | None = getattr(function, "unless", None)
        return None if unfit is None else unfit(model)
    reasons = [f"{c.__name__} (no {', '.join(missing(model, c))})" for c in options]
    advice = [text for c in options if (text := _advice(model, c))]
    return "; ".join([f"needs {' or '.join(reasons)}", *advice])


def _advice(model: object, capability: type) -> str | None:
    """What a family tells those who miss a capability: its `instead`, by the capability's name."""
    instead: Mapping[str, str] = getattr(model, "instead", {})
    return instead.get(capability.__name__)
