"""What networks over tokens are made of besides attention: norms, n-grams, masks, what is kept.

Legend: B batch, N positions, D model dimension, K heads of keys and values, E head dimension.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-6  # of norms, unless told
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": functools.partial(F.gelu, approximate="tanh"),
    "gelu_erf": F.gelu,
}
PRIMES = (1_000_003, 999_983, 998_244_353, 1_000_000_007)  # of hashes of 2-grams, 3-grams ..


class RMSNorm(nn.Module):
    """x / sqrt(mean x^2 + eps) * weight (Zhang & Sennrich 2019)."""

    def __init__(self, dim: int, eps: float = EPS) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        if x.device.type == "cpu" and torch.is_grad_enabled():
            normalise: Any = _RMSNorm.apply
            normalised: Tensor = normalise(x, self.weight, self.eps)
            return normalised
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class _RMSNorm(torch.autograd.Function):
    """The same, with the passes over memory that it takes: a third of what PyTorch 2.13 takes on
    CPUs. The root is computed again in the backward pass, which can therefore be differentiated.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return (x * _inverse_root(x, eps)).mul_(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        shape, dim = x.shape, x.shape[-1]
        x, grad = x.reshape(-1, dim), grad.reshape(-1, dim)
        root, product = _inverse_root(x, ctx.eps), grad * x
        of_weight = (root.mT @ product)[0]
        mean = (product @ weight)[:, None] * root.square() / dim
        of_x = torch.addcmul(grad * weight, x, mean, value=-1) * root
        return of_x.view(shape), of_weight, None


def _inverse_root(x: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean x^2 + eps): (..., D) -> (..., 1)."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return (norm.square() / x.shape[-1] + eps).rsqrt()


class GLU(nn.Module):
    """w_down (act(w_gate x) * w_up x)."""

    def __init__(self, dim: int, hidden_dim: int | None, act: str, bias: bool = False) -> None:
        super().__init__()
        hidden = hidden_dim or -(-dim * 8 // 24) * 8  # 8/3 D: as many weights as 4 D without gate
        self.gate_proj, self.up_proj = (bare(dim, hidden, bias=bias) for _ in range(2))
        self.down_proj = bare(hidden, dim, bias=bias)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.down_proj(ACTIVATIONS[self.act](self.gate_proj(x)) * self.up_proj(x))


class MLP(nn.Module):
    """w_down act(w_up x)."""

    def __init__(self, dim: int, hidden_dim: int | None, act: str, bias: bool = False) -> None:
        super().__init__()
        self.up_proj = bare(dim, hidden_dim or 4 * dim, bias=bias)
        self.down_proj = bare(hidden_dim or 4 * dim, dim, bias=bias)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.down_proj(ACTIVATIONS[self.act](self.up_proj(x)))


def build_mlp(kind: str, dim: int, hidden_dim: int | None, bias: bool) -> GLU | MLP:
    """A feed-forward layer: swiglu, geglu and geglu_erf are gated, gelu and gelu_erf are not."""
    if kind == "swiglu":
        return GLU(dim, hidden_dim, "silu", bias)
    layer = GLU if kind.startswith("geglu") else MLP
    return layer(dim, hidden_dim, kind.replace("geglu", "gelu"), bias)


def bare(in_dim: int, out_dim: int, gain: float = 1.0, *, bias: bool = False) -> nn.Linear:
    """A linear layer that keeps the variance times gain^2, without offsets unless told."""
    layer = nn.Linear(in_dim, out_dim, bias=False)
    nn.init.normal_(layer.weight, std=gain / in_dim**0.5)
    if bias:
        layer.bias = nn.Parameter(torch.zeros(out_dim))
    return layer


def build_norm(kind: str, dim: int, eps: float) -> nn.Module:
    """RMSNorm, LayerNorm, or that without its offsets."""
    if kind == "rms":
        return RMSNorm(dim, eps)
    return nn.LayerNorm(dim, eps=eps, bias=kind == "layer")


class NGrams(nn.Module):
    """Embeddings of the 2-grams to n-grams that end at each position, hashed, zero at the start.

    Tokens before the first count as the token 0.
    """

    def __init__(self, most: int, slots: int, dim: int, vocab_size: int) -> None:
        super().__init__()
        self.most, self.slots, self.vocab_size = most, slots, vocab_size
        self.tables = nn.ModuleList(nn.Embedding(slots, dim) for _ in range(most - 1))
        for table in self.tables.parameters():
            nn.init.zeros_(table)

    def before(self, num: int, device: torch.device) -> Tensor:
        """What stands before the first token: (B, n - 1)."""
        return torch.zeros(num, self.most - 1, dtype=torch.int64, device=device)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N) tokens -> (B, N, D)."""
        padded, num = F.pad(x, (self.most - 1, 0)), x.shape[1]
        earlier = [padded[:, first : first + num] for first in range(self.most - 2, -1, -1)]
        total = None
        for table, slot in zip(self.tables, self.rows_of(x, earlier), strict=True):
            total = table(slot) if total is None else total + table(slot)
        assert total is not None
        return total

    def rows_of(self, now: Any, earlier: Sequence[Any]) -> Iterator[Any]:
        """Integers in arrays or tensors, and those one, two .. before -> the row of each table."""
        code = now
        for back, before in enumerate(earlier, start=1):
            code = code + (before + 1) * self.vocab_size**back  # n-grams of small vocabularies
            yield (code * PRIMES[(back - 1) % len(PRIMES)]) % self.slots


@dataclass
class Kept:
    """What sequences leave behind for those that follow: keys and values, layer by layer.

    Each row has its own `length`, the positions taken so far, and `start`, where its document
    begins. `before` (B, n - 1) holds the last tokens, where n-grams are embedded.
    """

    layers: list[tuple[Tensor, Tensor]]  # each (B, K, room, E)
    length: Tensor  # (B,)
    start: Tensor  # (B,)
    before: Tensor | None = None

    @property
    def room(self) -> int:
        """How many positions there are for each row."""
        return self.layers[0][0].shape[2]

    def places(self, new: int) -> Tensor:
        """Of so many tokens that follow: (B, n). Raises `IndexError` where there is no room."""
        places = self.length[:, None] + torch.arange(new, device=self.length.device)
        if int(places.max()) >= self.room:
            raise IndexError(f"there is room for {self.room} positions, and all are taken")
        return places

    def starts(self, x: Tensor, places: Tensor, boundary: int | None) -> Tensor:
        """Where the document of each new token (B, n) at `places` begins: (B, n)."""
        if boundary is None:
            return self.start[:, None].expand_as(x)
        begun = torch.where(x == boundary, places, self.start[:, None]).cummax(1).values
        self.start = begun[:, -1]
        return begun


def documents(x: Tensor, boundary: int | None) -> Tensor | None:
    """Which document each token (B, N) belongs to, a boundary to the one that it begins; None where
    no document ends within the items."""
    if boundary is None:
        return None
    begins = x == boundary
    if not torch.compiler.is_compiling() and not bool(begins[:, 1:].any()):
        return None
    return begins.cumsum(1)


def visible(
    x: Tensor,
    *,
    real: Tensor | None,
    document: Tensor | None,
    window: int | None,
    causal: bool,
    before: int = 0,
) -> Tensor | None:
    """What each position of x (B, N) may look at, (B or 1, 1, N, N) bool; None where it is all, or
    all up to itself in a causal network. Positions `before` the first belong to every document."""
    masks = []
    place = torch.arange(before + x.shape[1], device=x.device)
    if real is not None:
        masks.append(F.pad(real, (before, 0), value=True)[:, None])
    if document is not None:
        document = F.pad(document, (before, 0), value=-1)
        masks.append((document[:, None] == document[..., None]) | (place < before))
    if window is not None and window < len(place):
        masks.append(((place - place[:, None]).abs() < window)[None])
    if not masks:
        return None
    if causal:
        masks.append((place <= place[:, None])[None])
    return functools.reduce(torch.logical_and, masks)[:, None]
