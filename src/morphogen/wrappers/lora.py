r"""Low-rank adapters: few weights, beside those of a model, that change what it does.

    y = W x + s B A x,    A (r, inputs), B (outputs, r), s = alpha / r;    W stays, B = 0 at first

Hu et al. 2021 (arXiv:2106.09685). With `dora`, the size of each output's weights is learned apart
from their direction (Liu et al. 2024, arXiv:2402.09353); the norm counts as a constant:

    y = m V x / |V|,   V = W + s B A,   m = |W| at first

All linear layers and convolutions are adapted, and not those of attention alone, which learn less
(Schulman et al. 2025, "LoRA without regret"); a kernel is a matrix of (outputs, inputs x kernel).
The layer that tells tokens is left out, as elsewhere, so that adapters can be carried there.

Legend: r rank, B batch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.core.bundle import Bundle
from morphogen.core.errors import BundleError, RecipeError
from morphogen.core.recipe import build_adapter
from morphogen.core.start import read_adapter

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TELLS = "lm_head"  # what is left out unless `only` names it
OWN = "lora"  # what an adapter is called within its layer


class LoRA:
    """Trains a low-rank change of every linear layer and convolution, and nothing else."""

    train_defaults: ClassVar[dict[str, Any]] = {"lr": 3e-3}
    on_base: ClassVar[bool] = True

    def __init__(
        self,
        *,
        rank: int = 8,  # of the change of a layer, at most
        alpha: float = 16.0,  # the change counts alpha / rank times
        only: str | None = None,  # regular expression: layers with such names; none: all
        dora: bool = False,  # learn the sizes of weights apart from their directions
        dropout_prob: float = 0.0,  # probability of dropping an input of the change in training
    ) -> None:
        if rank < 1:
            raise RecipeError("a rank is at least 1", found=rank, where="wrapper.rank")
        self.rank, self.alpha, self.only = rank, alpha, only
        self.dora, self.dropout_prob = dora, dropout_prob

    def put_on(self, family: Any) -> None:
        """Freeze a family and give its layers adapters, which change nothing yet.

        Raises `RecipeError` where no layer has such a name.
        """
        chosen = self._layers(family)
        given = frozenset(name for name, _ in family.named_parameters(remove_duplicate=False))
        for parameter in family.parameters():
            parameter.requires_grad_(False)
        for layer in chosen.values():
            own = LowRank(layer, self.rank, self.alpha, self.dora, self.dropout_prob)
            layer.add_module(OWN, own)
            layer.register_forward_hook(partial(_changed, own))
        family.adapter, family.given = self, given

    def _layers(self, family: nn.Module) -> dict[str, nn.Module]:
        fitting = {name: m for name, m in family.named_modules() if _is_adapted(m)}
        if self.only is None:
            return {name: m for name, m in fitting.items() if name.rpartition(".")[2] != TELLS}
        found = {name: m for name, m in fitting.items() if re.search(self.only, name)}
        if not found:
            raise RecipeError(
                "no layer has such a name",
                found=self.only,
                expected=", ".join(list(fitting)[:6]) + ", ...",
                where="wrapper.only",
            )
        return found

    def merge(self, family: Any) -> None:
        """Let the weights themselves have the change, so that whatever reads them sees it."""
        for layer, own in adapted_layers(family):
            if own.held is None:
                own.held, layer.weight.data = layer.weight.data, own.changed(layer.weight.data)

    @contextmanager
    def switched_off(self, family: Any) -> Iterator[None]:
        """A block in which the layers do what they did before, nothing else having changed."""
        layers = list(adapted_layers(family))

        def turn(is_off: bool) -> None:
            for layer, own in layers:
                own.is_off = is_off
                if own.held is not None:
                    layer.weight.data, own.held = own.held, layer.weight.data

        turn(True)
        try:
            yield
        finally:
            turn(False)

    def split(self, family: Any) -> None:
        """Put the weights back as they were, to the bit."""
        for layer, own in adapted_layers(family):
            if own.held is not None:
                layer.weight.data, own.held = own.held.to(layer.weight.device), None


class LowRank(nn.Module):
    """The change of one layer."""

    def __init__(
        self, layer: Any, rank: int, alpha: float, dora: bool, dropout_prob: float
    ) -> None:
        super().__init__()
        weight: Tensor = layer.weight
        self.rank = rank = min(rank, len(weight), weight[0].numel())
        self.scale, self.dropout = alpha / rank, nn.Dropout(dropout_prob)
        self.down = nn.Parameter(weight.new_empty(rank, *weight.shape[1:]))
        self.up = nn.Parameter(weight.new_zeros(len(weight), rank))
        self.magnitude = nn.Parameter(_norms(weight).clone()) if dora else None
        nn.init.normal_(self.down, std=1 / math.sqrt(weight[0].numel()))
        self.is_off = False  # the layer does what it did before
        self.held: Tensor | None = None  # the layer's own weights, while it has the change in them

    def changed(self, weight: Tensor) -> Tensor:
        """The weights of the layer with the change."""
        with torch.no_grad():
            change = (self.up @ self.down.flatten(1)).view_as(weight)
            whole = weight + self.scale * change.to(weight)
            if self.magnitude is None:
                return whole
            factor = self.magnitude / _norms(whole)
            return whole * factor.view(-1, *(1,) * (whole.dim() - 1))

    def forward(self, layer: Any, x: Tensor, y: Tensor) -> Tensor:
        """What the layer made of x, y -> with the change."""
        x = self.dropout(x)
        if isinstance(layer, nn.Linear):
            if self.magnitude is None:
                add: Any = _AddLowRank.apply
                changed: Tensor = add(y, x, self.down, self.scale * self.up)
                return changed
            change = F.linear(F.linear(x, self.down), self.up)
        else:
            inner = layer._conv_forward(x, self.down, None)  # (B, r, *space)
            change = F.linear(inner.movedim(1, -1), self.up).movedim(-1, 1)
        if self.magnitude is None:
            return y + self.scale * change
        factor, bias = self.magnitude / _norms(self._whole(layer.weight)), layer.bias
        if not isinstance(layer, nn.Linear):
            wide = (-1, *(1,) * (y.dim() - 2))
            factor, bias = factor.view(wide), None if bias is None else bias.view(wide)
        plain = y if bias is None else y - bias
        whole = factor * (plain + self.scale * change)
        return whole if bias is None else whole + bias

    @torch.no_grad()
    def _whole(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.up @ self.down.flatten(1)).view_as(weight)


class _AddLowRank(torch.autograd.Function):
    """y + B A x: (..., inputs) -> (..., outputs), in the forms that take least on a CPU: the
    change is added within its product, and no product has few columns, which takes ten times as
    long as one of few rows (PyTorch 2.13: 23 ms in place of 2 for the gradient of B). A x is
    computed again in the backward pass, which can therefore be differentiated."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, down: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(x, down, up)
        inner = F.linear(x, down).flatten(0, -2)  # (B, r)
        return torch.addmm(y.flatten(0, -2), inner, up.T).view_as(y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        x, down, up = ctx.saved_tensors
        flat, inner = grad.flatten(0, -2), F.linear(x, down).flatten(0, -2)
        of_inner = F.linear(flat, up.T.contiguous())  # (B, r)
        of_x = (of_inner @ down).view_as(x) if ctx.needs_input_grad[1] else None
        return grad, of_x, of_inner.T @ x.flatten(0, -2), (inner.T @ flat).T


class Adapters:
    """Several adapters of one base, of which one is at work at a time, or none.

    Switching exchanges the weights of the layers, which costs one small product for each: what
    decodes, compiled or not, reads plain weights.
    """

    def __init__(self, base: Bundle) -> None:
        self.base = base
        self.layers = {n: m for n, m in base.family.named_modules() if _is_adapted(m)}
        self.weights = {name: layer.weight.data for name, layer in self.layers.items()}
        self.known: dict[str, tuple[Any, dict[str, LowRank]]] = {}  # with the codec of each
        self.in_use: str | None = None

    def add(self, name: str, path: Path | str) -> None:
        """Take the adapter of a bundle. Raises `BundleError` for one of another base."""
        if self.base.path is None:
            raise BundleError("the base is a bundle on disk", found="one in memory")
        codec, recipe, tensors = read_adapter(path, self.base.path)
        made: Any = build_adapter(recipe)
        if not isinstance(made, LoRA):
            raise RecipeError("only low-rank adapters are switched", found=recipe.wrapper["name"])
        changes = {}
        for place, layer in made._layers(self.base.family).items():
            own = LowRank(layer, made.rank, made.alpha, made.dora, 0.0)
            start = f"{place}.{OWN}."
            own.load_state_dict(
                {key[len(start) :]: t for key, t in tensors.items() if key.startswith(start)}
            )
            changes[place] = own
        self.known[name] = (codec, changes)

    def use(self, name: str | None) -> Bundle:
        """The base with this adapter from now on; with None, as it is."""
        codec, changes = self.known[name] if name is not None else (self.base.codec, {})
        for place, layer in self.layers.items():
            own, weight = changes.get(place), self.weights[place]
            layer.weight.data = weight if own is None else own.changed(weight)
        self.in_use = name
        return Bundle(
            self.base.family, codec, self.base.recipe, self.base.data, self.base.priors,
            path=self.base.path,
        )  # fmt: skip


def adapted_layers(family: nn.Module) -> Iterator[tuple[Any, LowRank]]:
    """The layers that have an adapter, each with it."""
    for layer in list(family.modules()):
        own = layer._modules.get(OWN)
        if isinstance(own, LowRank):
            yield layer, own


def _changed(own: LowRank, layer: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> Tensor:
    """The hook of a layer."""
    return y if own.held is not None or own.is_off else own(layer, inputs[0], y)


def _is_adapted(module: nn.Module) -> bool:
    plain = isinstance(module, CONVOLUTIONS) and module.groups == 1
    return isinstance(module, nn.Linear) or plain


def _norms(weight: Tensor) -> Tensor:
    """Of the weights of each output: (outputs,)."""
    return weight.flatten(1).norm(dim=1)
