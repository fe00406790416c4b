r"""Dilated convolutions over a sequence, gated, with a way out of every layer.

    a_l, b_l = conv_l(h_l) + W_l cond,      z_l = tanh(a_l) * sigmoid(b_l)
    h_{l+1}  = h_l + R_l z_l,               out = O silu(P silu(sum_l S_l z_l))

A causal layer sees a position and the one `dilation` before it; dilations double from layer to
layer, so that ten layers reach 1,024 positions back for ten products each. Where it need not be
causal, a layer also sees the position after (Kong et al. 2021, DiffWave). A step keeps what each
layer has seen in a ring, and costs the same at every position (Le Paine et al. 2016).

van den Oord et al. 2016 (WaveNet).

Legend: B batch, C channels, L length, D model dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.backbones._parts import HEAD_GAIN, conv, is_vector, linear, refuses_output
from morphogen.core.backbone import Backbone
from morphogen.core.spec import TensorSpec


class Wavenet(Backbone):
    """A WaveNet: sequence to sequence of the same length, causal or not."""

    def __init__(
        self,
        in_spec: TensorSpec,
        out_spec: TensorSpec,
        cond_dim: int = 0,
        causal: bool = False,
        *,
        model_dim: int = 64,  # width of what passes through
        num_layers: int = 20,  # dilated layers
        cycle: int = 10,  # layers until the dilation, which doubles, is 1 again
        skip_dim: int = 128,  # width of what leaves every layer
    ) -> None:
        super().__init__(in_spec, out_spec, cond_dim, causal)
        self.embed: nn.Module
        if in_spec.kind == "token":
            self.embed = nn.Embedding(in_spec.vocab_size or 1, model_dim)
        else:
            self.embed = linear(in_spec.channels, model_dim)
        self.layers = nn.ModuleList(
            _Layer((model_dim, skip_dim, cond_dim), 2 ** (i % cycle), causal, i < num_layers - 1)
            for i in range(num_layers)
        )
        self.mixed = linear(skip_dim, skip_dim)
        self.head = linear(skip_dim, out_spec.channels, gain=HEAD_GAIN)
        self.share = num_layers**-0.5  # keeps the variance of the sum

    @classmethod
    def refuses(cls, in_spec: TensorSpec, out_spec: TensorSpec, causal: bool = False) -> str | None:
        """Both sides are one sequence of the same length."""
        if is_vector(in_spec) or is_vector(out_spec):
            return "a WaveNet maps a sequence to a sequence, and a vector is none: use conv or rnn"
        if len(in_spec.space) != 1 or in_spec.space != out_spec.space:
            return f"a WaveNet keeps one axis: {in_spec.space} is not {out_spec.space}, or not one"
        return refuses_output(out_spec)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """(B, *in), (B, cond_dim) -> (B, *out). Also takes shorter sequences."""
        h = self._embedded(x).transpose(1, 2)  # (B, D, L)
        total: Any = 0
        for layer in self.layers:
            h, out = layer(h, cond)
            total = total + out
        return self._told(total.transpose(1, 2)).transpose(1, 2)

    @torch.no_grad()
    def step(
        self, token: Tensor, cond: Tensor | None = None, state: Any = None
    ) -> tuple[Tensor, Any]:
        """token (B,), or (B, C) real, at the next position -> output (B, C) there, and the state:
        the one that was passed, moved on."""
        assert self.causal, "only a causal network can step"
        h = self._embedded(token if self.in_spec.kind == "token" else token[:, :, None])
        h = h.reshape(len(token), -1)  # (B, D)
        layers = cast(Sequence[_Layer], self.layers)
        if state is None:
            state = [_Ring(h.new_zeros(layer.dilation, *h.shape)) for layer in layers]
        total: Any = 0
        for layer, ring in zip(layers, state, strict=True):
            h, out = layer.step(h, ring, cond)
            total = total + out
        return self._told(total), state

    def _embedded(self, x: Tensor) -> Tensor:
        """(B, *in) -> (B, L, D)."""
        return self.embed(x if self.in_spec.kind == "token" else x.transpose(1, 2))

    def _told(self, total: Tensor) -> Tensor:
        """(..., S) -> (..., C)."""
        return self.head(F.silu(self.mixed(F.silu(total * self.share))))


@dataclass
class _Ring:
    """What a layer has seen of as many positions as its dilation, (dilation, B, D)."""

    seen: Tensor
    place: int = 0

    def swap(self, h: Tensor) -> Tensor:
        """Put in what comes now (B, D), and take out what came `dilation` positions before."""
        before = self.seen[self.place].clone()
        self.seen[self.place] = h
        self.place = (self.place + 1) % len(self.seen)
        return before


class _Layer(nn.Module):
    """One dilated layer: what goes on, where anything does, and what leaves."""

    def __init__(
        self, dims: tuple[int, int, int], dilation: int, causal: bool, goes_on: bool
    ) -> None:
        super().__init__()
        dim, skip_dim, cond_dim = dims
        self.dilation, self.causal = dilation, causal
        dilated = conv(1, dim, 2 * dim, 2 if causal else 3)
        assert isinstance(dilated, nn.Conv1d)
        self.dilated = dilated
        self.cond = linear(cond_dim, 2 * dim) if cond_dim else None
        self.on = linear(dim, dim, gain=0.5) if goes_on else None
        self.out = linear(dim, skip_dim)

    def forward(self, h: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, D, L), (B, cond_dim) -> (B, D, L), (B, S, L)."""
        padded = F.pad(h, (self.dilation, 0 if self.causal else self.dilation))
        gates = F.conv1d(padded, self.dilated.weight, self.dilated.bias, dilation=self.dilation)
        z = self._gated(gates.transpose(1, 2), None if cond is None else cond[:, None])
        on = h if self.on is None else h + self.on(z).transpose(1, 2)
        return on, self.out(z).transpose(1, 2)

    def step(self, h: Tensor, ring: _Ring, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same at one position: (B, D) -> (B, D), (B, S)."""
        before, now = self.dilated.weight.unbind(2)
        gates = F.linear(ring.swap(h), before) + F.linear(h, now, self.dilated.bias)
        z = self._gated(gates, cond)
        return (h if self.on is None else h + self.on(z)), self.out(z)

    def _gated(self, gates: Tensor, cond: Tensor | None) -> Tensor:
        """(..., 2 D) -> (..., D)."""
        if self.cond is not None:
            assert cond is not None, "this network was built with conditions: pass cond"
            gates = gates + self.cond(cond)
        a, b = gates.chunk(2, dim=-1)
        return torch.tanh(a) * torch.sigmoid(b)
