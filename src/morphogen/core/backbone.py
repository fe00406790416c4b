"""The contract of the backbone axis: a network from one spec to another.

A family never names a network. It receives a `BuildBackbone` and asks it for what it needs: a
denoiser (grid to the same grid), an encoder (grid to vector), a decoder (vector to grid), a critic,
a causal sequence model. One MLP, U-Net or transformer file therefore serves every family.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from morphogen.core.conditioning import Context
from morphogen.core.errors import RefusedPair
from morphogen.core.spec import ProductSpec, Spec
from morphogen.core.writing import Limits


class Backbone(nn.Module):
    """A network: `forward(x, cond) -> out`.

    x (B, *in_spec.shape), or int64 tokens for token specs; cond (B, cond_dim) modulates every
    block (time, class, text already embedded), None when cond_dim is 0; out (B, *out_spec.shape),
    real. A causal network's output at position i depends on inputs at positions <= i only.

    A network that `attends` also looks at a sequence (a caption, a picture) by cross-attention: it
    is then built with a `context_dim`, and called as `forward(x, cond, context)`.

    Subclasses take `(in_spec, out_spec, cond_dim, causal, *, hyperparameters...)`, those that
    attend `(in_spec, out_spec, cond_dim, causal, context_dim, *, hyperparameters...)`.
    """

    takes_parts: ClassVar[bool] = False  # items of a ProductSpec, as inputs and as outputs
    attends: ClassVar[bool] = False  # looks at a context, position by position
    # A causal network over tokens tells any of those that it reads, the start token among them, as
    # published language models do; others only what an item can hold.
    own_vocabulary: ClassVar[bool] = False
    context_dim: int = 0  # how wide that is; 0: the network was built without
    # Features half-way through, (B, midway_dim, *places): `run(.., midway=True)` gives these beside
    # the output. 0: the network gives none.
    midway_dim: int = 0
    # Its blocks run `through` this class, which may keep what they are given in place of what they
    # computed, and compute it again in the backward pass (Chen et al. 2016).
    recomputes: ClassVar[bool] = False
    recompute: bool = False  # does so; set by the trainer
    _compiled: Any = None  # what it is called by in training, once it is compiled

    def __init__(
        self, in_spec: Any, out_spec: Any, cond_dim: int = 0, causal: bool = False
    ) -> None:
        super().__init__()
        self.in_spec, self.out_spec = in_spec, out_spec
        self.cond_dim, self.causal = cond_dim, causal

    @classmethod
    def refuses(cls, in_spec: Any, out_spec: Any, causal: bool = False) -> str | None:
        """What a kind of network has against mapping `in_spec` to `out_spec`; see `refusal`."""
        return None

    @classmethod
    def refusal(cls, in_spec: Spec, out_spec: Spec, causal: bool = False) -> str | None:
        """Why this network cannot map `in_spec` to `out_spec`; None when it can."""
        has_parts = isinstance(in_spec, ProductSpec) or isinstance(out_spec, ProductSpec)
        if has_parts and not cls.takes_parts:
            return "the items have several parts: use mlp"
        return cls.refuses(in_spec, out_spec, causal)

    def forward(self, x: Any, cond: Tensor | None = None) -> Any:
        """(B, *in), (B, cond_dim) -> (B, *out)."""
        raise NotImplementedError

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile what training calls. Drawing and measuring have shapes of their own, and go as
        they are: for each it would be compiled anew."""
        super().compile(*args, **options)
        self._compiled = self._compiled_call_impl

    def train(self, mode: bool = True) -> Self:
        """Go over to training, or to use."""
        super().train(mode)
        self._compiled_call_impl = self._compiled if mode else None
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Its copies are not compiled, as those of any module."""
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        state.pop("_compiled", None)
        return state

    def through(self, block: nn.Module, *inputs: Any, **named: Any) -> Any:
        """What a block makes of its inputs, with the same gradients either way."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False, **named)
        return block(*inputs, **named)

    def run(
        self, x: Any, cond: Tensor | None = None, context: Context | None = None, **how: bool
    ) -> Any:
        """`forward`, with the context for a network that attends to one. Others have what the
        vector `cond` says of it."""
        return self(x, cond, context, **how) if self.context_dim else self(x, cond, **how)


class Rows(Protocol):
    """Sequences that go on side by side, each as if it were alone: to the bit, on one machine."""

    room: int  # tokens that each can have

    def begin(
        self,
        row: int,
        tokens: Tensor,
        cond: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        """Read tokens (n,), n >= 1, cond (1, cond_dim), as what a row begins with, in place of all
        it had -> what the network tells of the next (C,)."""
        ...

    def advance(self, tokens: Sequence[int], rows: Sequence[int]) -> Tensor:
        """The next token of each of R rows, of which one may come several times -> what is told
        of those after them (R, C)."""
        ...

    def extend(self, row: int, tokens: Tensor) -> Tensor:
        """Read more tokens (n,), n >= 1, of a row that has begun -> what is told of the next."""
        ...

    def cut(self, row: int, length: int) -> None:
        """Forget what came after the first `length` tokens of a row."""
        ...

    def reorder(self, sources: Sequence[int]) -> None:
        """Let the first rows go on where `sources` are."""
        ...


@runtime_checkable
class GoesOn(Rows, Protocol):
    """Rows that draw for themselves, several tokens in one call."""

    def go_on(
        self,
        tokens: Sequence[int],
        rows: Sequence[int],
        limits: Sequence[Limits],
        *,
        uniform: Any,
        num_tokens: int,
        ends: Collection[int],
    ) -> tuple[Any, Any]:
        """What follows after the next token of each of R different rows, drawn within `limits`
        that do not look back, from the first `num_tokens` that the network tells, by numbers
        `uniform` in [0, 1), an array (R, n): arrays (R, m) of the tokens and of their log
        probabilities before anything was cut off.

        1 <= m <= n: up to where a row draws one of `ends`, or before, where a token takes long. The
        same tokens come however many are asked for at a time.
        """
        ...


@runtime_checkable
class KeepsRows(Protocol):
    """A causal backbone over tokens that gives rows of its own, faster than by its `step`."""

    def rows(self, num: int, room: int | None = None) -> Rows:
        """So many rows, of up to `room` tokens; none: of as many as the network has positions."""
        ...


@runtime_checkable
class CanTell(Protocol):
    """A backbone that gives what its head reads, for one position of many to be told."""

    def features(
        self, x: Tensor, cond: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """(B, N) -> (B, N, D)."""
        ...

    def logits(self, h: Tensor) -> Tensor:
        """(..., D) -> (..., C)."""
        ...


@runtime_checkable
class HasStyles(Protocol):
    """A generator whose layers are steered one by one: coarse first, fine last."""

    num_styles: int  # layers; 0: this network is none
    num_noise: int  # numbers of noise that an item takes

    def styles(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """Latents (B, *in) -> a style for each layer (B, S, D)."""
        ...

    def synthesise(self, styles: Tensor, noise: Tensor | None = None) -> Tensor:
        """(B, S, D), (B, num_noise) or the same for all -> (B, *out)."""
        ...


class BuildBackbone:
    """Builds networks of one kind with one set of hyperparameters: what a family receives."""

    def __init__(self, backbone: type[Backbone], **hyperparameters: Any) -> None:
        self.backbone, self.hyperparameters = backbone, hyperparameters

    def __call__(
        self,
        in_spec: Spec,
        out_spec: Spec,
        cond_dim: int = 0,
        causal: bool = False,
        context_dim: int = 0,
    ) -> Backbone:
        """A network in_spec -> out_spec. Raises `RefusedPair` where this kind cannot."""
        reason = self.backbone.refusal(in_spec, out_spec, causal)
        if reason:
            raise RefusedPair(
                f"the backbone {self.backbone.__name__} does not fit: {reason}",
                found=f"{in_spec} -> {out_spec}{', causal' if causal else ''}",
                hint="morphogen list backbones",
            )
        if context_dim and self.backbone.attends:
            build: Any = self.backbone  # one more argument than the others take
            built: Backbone = build(
                in_spec, out_spec, cond_dim, causal, context_dim, **self.hyperparameters
            )
            return built
        return self.backbone(in_spec, out_spec, cond_dim, causal, **self.hyperparameters)
