"""A recurrent network over sequences (LSTM or GRU).

    s_i = cell(s_{i-1}, embed(x_i) + W cond),   s_0 = V cond,   out_i = head(s_i)

Hochreiter & Schmidhuber 1997 (LSTM), Cho et al. 2014 (GRU). A network that need not be causal
reads in both directions, and reads a grid along its first space axis, a whole slice (the row of a
picture, the frame of a video) at each step.

Legend: B batch, C channels, L length, D model dimension.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from morphogen.backbones._parts import (
    VectorHead,
    VectorStem,
    is_vector,
    linear,
    refuses_output,
)
from morphogen.core.backbone import Backbone
from morphogen.core.condition_readers import mean_of_real
from morphogen.core.spec import TensorSpec


class RNN(Backbone):
    """An LSTM or GRU: sequence to sequence (causal or not), to vector, or from vector."""

    def __init__(
        self,
        in_spec: TensorSpec,
        out_spec: TensorSpec,
        cond_dim: int = 0,
        causal: bool = False,
        *,
        cell: Literal["lstm", "gru"] = "lstm",  # recurrent cell
        model_dim: int = 256,  # width of the state
        num_layers: int = 2,  # stacked recurrent layers
        dropout_prob: float = 0.0,  # probability of dropping a feature between layers in training
    ) -> None:
        super().__init__(in_spec, out_spec, cond_dim, causal)
        self.cell, self.num_states = cell, num_layers * (1 if causal else 2)
        self.model_dim = model_dim
        self.stem: nn.Module
        self.position: nn.Parameter | None = None
        if is_vector(in_spec):
            self.stem = VectorStem(in_spec, model_dim)
            length = out_spec.space[0]
            self.position = nn.Parameter(torch.randn(length, model_dim))  # what tells steps apart
        elif in_spec.kind == "token":
            width = math.prod(in_spec.space[1:])
            self.embed = nn.Embedding(in_spec.vocab_size or 1, model_dim)
            self.stem = linear(width * model_dim, model_dim) if width > 1 else nn.Identity()
        else:
            self.stem = linear(in_spec.channels * math.prod(in_spec.space[1:]), model_dim)
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.recurrent = kind(
            model_dim,
            model_dim,
            num_layers,
            batch_first=True,
            dropout=dropout_prob if num_layers > 1 else 0.0,
            bidirectional=not causal,
        )
        _initialise(self.recurrent, forget_bias=cell == "lstm")
        states = 2 if cell == "lstm" else 1
        # What differs between two sounds or texts is a small part of the vector that they become.
        # With a gain of 0.1 a network hardly moves with it, and learns to do without.
        self.start = (
            linear(cond_dim, states * self.num_states * model_dim, gain=0.5) if cond_dim else None
        )
        self.added = linear(cond_dim, model_dim, gain=0.5) if cond_dim else None
        width = model_dim if causal else 2 * model_dim
        self.head: nn.Module
        if is_vector(out_spec):
            self.head = VectorHead(width, out_spec)
        else:
            features = out_spec.channels * math.prod(out_spec.space[1:])
            # States are small at first, unlike what other networks' heads read: with their gain
            # (0.1) hardly a gradient comes back to what states depend on.
            self.head = linear(width, features)

    @classmethod
    def refuses(cls, in_spec: TensorSpec, out_spec: TensorSpec, causal: bool = False) -> str | None:
        """One side must have an order to follow; two sides must have the same length."""
        from_vector, to_vector = is_vector(in_spec), is_vector(out_spec)
        if from_vector and to_vector:
            return "neither side has positions to step along: use mlp"
        if reason := refuses_output(out_spec):
            return reason
        if causal and (from_vector or to_vector):
            return "a causal network maps a sequence to a sequence of the same length"
        if causal and len(in_spec.space) > 1:
            return "a slice per step is not causal inside the slice: flatten it, or use transformer"
        if not from_vector and not to_vector and in_spec.space[0] != out_spec.space[0]:
            return f"the lengths {in_spec.space[0]} and {out_spec.space[0]} differ"
        if causal and len(out_spec.space) > 1:
            return "a causal network maps a sequence to a sequence of the same length"
        return None

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """(B, *in), (B, cond_dim) -> (B, *out). A causal network also takes shorter sequences."""
        h, _ = self.recurrent(self._inputs(x, cond), self._start(cond))  # (B, L, D or 2D)
        if is_vector(self.out_spec):
            mask = None if is_vector(self.in_spec) else self.in_spec.mask(x)
            return self.head(mean_of_real(h, mask))
        out = self.head(h).unflatten(-1, (self.out_spec.channels, -1))  # (B, L, C, rest)
        return out.transpose(1, 2).reshape(
            x.shape[0], self.out_spec.channels, -1, *self.out_spec.space[1:]
        )

    @torch.no_grad()
    def step(
        self, token: Tensor, cond: Tensor | None = None, state: Any = None
    ) -> tuple[Tensor, Any]:
        """token (B,), or (B, C) real, at the next position -> output (B, C) there, new state."""
        assert self.causal, "only a causal network can step"
        x = token[:, None] if self.in_spec.kind == "token" else token[:, :, None]
        state = self._start(cond) if state is None else state
        h, state = self.recurrent(self._inputs(x, cond), state)
        return self.head(h[:, 0]), state

    def _inputs(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """(B, *in) -> (B, L, D)."""
        if self.position is not None:
            h = self.stem(x)[:, None] + self.position
        elif self.in_spec.kind == "token":
            h = self.stem(self.embed(x).flatten(2))
        else:
            h = self.stem(x.movedim(1, -1).flatten(2))
        return h if self.added is None else h + self.added(cond)[:, None]

    def _start(self, cond: Tensor | None) -> Any:
        """The state before the first position, from the conditions."""
        if self.start is None:
            return None
        assert cond is not None, "this network was built with conditions: pass cond"
        start = self.start(cond).unflatten(-1, (-1, self.num_states, self.model_dim))
        states = tuple(s.contiguous() for s in start.permute(1, 2, 0, 3))  # (layers, B, D) each
        return states if self.cell == "lstm" else states[0]


def _initialise(recurrent: nn.RNNBase, forget_bias: bool) -> None:
    """Orthogonal recurrences; forget gates start open (Jozefowicz et al. 2015)."""
    for name, parameter in recurrent.named_parameters():
        if name.startswith("weight"):
            for gate in torch.split(parameter.detach(), recurrent.hidden_size):
                nn.init.orthogonal_(gate)
        else:
            nn.init.zeros_(parameter)
            if forget_bias and name.startswith("bias_ih"):
                size = recurrent.hidden_size
                parameter.detach()[size : 2 * size] = 1.0  # gates: input, forget, cell, output
