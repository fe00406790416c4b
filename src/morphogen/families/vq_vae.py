r"""VQ-VAE: an autoencoder whose code is a grid of tokens.

    loss = -log p(x | decode(q)) / (D ln 2) + commitment,      q = quantise(z), z = encoder(x)

The quantiser has no gradient of its own: it is passed straight through, dq/dz = I (van den Oord et
al. 2017). Two quantisers, neither of which can lose entries of its codebook:

fsq  Finite scalar quantisation (Mentzer et al. 2024): each of a few axes is bounded by a tanh and
     rounded to one of `fsq_levels[i]` values; the vocabulary is their product. No codebook, no
     commitment term.
vq   The nearest of `codebook_size` entries e_k = c_k W, where the c_k are fixed random points and
     only the linear map W is learned (Zhu et al. 2024, "SimVQ"): every gradient moves all entries,
     so that none is left behind. commitment = |sg(z) - q|^2 + `commitment` |z - sg(q)|^2.

    x --space to depth--> encoder --> z --quantise--> tokens --> q --> decoder --depth to space--> x

Space to depth turns blocks of `patch_size` positions along each axis into channels, exactly and at
no cost; the networks then run on the small grid. The tokens, row by row, are a sequence: to sample,
learn them with another family (`--family vq_vae+autoregressive`, or later `--through models/vq`).

Legend: B batch, C channels, F features of a code, P values in a patch, L tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.family import AT_ONCE, Family, HealthyRange
from morphogen.core.likelihood import LikelihoodName, build_likelihood
from morphogen.core.random import randn
from morphogen.core.spec import Spec, TensorSpec


class VQVAE(Family):
    """Autoencoder with tokens for a code: finite scalar or vector quantisation."""

    default_backbone: ClassVar[str] = "conv"
    takes: ClassVar[frozenset[str]] = frozenset({"weights"})
    train_defaults: ClassVar[dict[str, Any]] = {"optimizer": "muon", "lr": 3e-3}
    watched: ClassVar[dict[str, HealthyRange]] = {
        "code_entropy": HealthyRange(
            "dead codes",
            "few entries of the vocabulary are ever used",
            "--set family.quantiser=fsq, or a smaller family.codebook_size",
            low=0.15,
        )
    }
    instead: ClassVar[dict[str, str]] = {
        "CanSample": "a vq_vae has no prior: learn its tokens with another family, "
        "morphogen train DATA --family autoregressive --through BUNDLE"
    }
    prior_family: ClassVar[str | None] = "autoregressive"
    draws_means: ClassVar[bool] = True
    papers: ClassVar[tuple[str, ...]] = (
        "vandenoord2017neural",
        "mentzer2024finite",
        "zhu2024simvq",
    )

    def __init__(
        self,
        spec: TensorSpec,
        conditions: Mapping[str, TensorSpec],
        backbone: BuildBackbone,
        *,
        quantiser: Literal["fsq", "vq"] = "fsq",  # finite scalar or vector quantisation
        patch_size: int = 4,  # positions along each axis that share a token
        fsq_levels: tuple[int, ...] = (8, 8, 8),  # fsq: values per axis; product = vocabulary
        codebook_size: int = 512,  # vq: number of entries
        code_dim: int = 8,  # vq: size of an entry
        commitment: float = 0.25,  # vq: weight of the pull of z towards its entry
        likelihood: LikelihoodName = "auto",  # p(x | q); auto chooses by the kind of data
    ) -> None:
        super().__init__(spec, {}, backbone)  # tokens are of the items alone
        self.likelihood = build_likelihood(spec, likelihood)
        self.quantiser: FiniteScalar | LearnedMap = (
            FiniteScalar(fsq_levels)
            if quantiser == "fsq"
            else LearnedMap(codebook_size, code_dim, commitment)
        )
        self.patches = Patches(spec.space or (spec.num_values,), patch_size)
        vector = not spec.space  # a vector is cut into patches of its values
        values = 1 if vector else spec.channels
        grid = self.patches.grid
        params = self.likelihood.param_spec.num_values // spec.num_values * values
        layout = "sequence" if vector else spec.layout
        patched = TensorSpec("real", (values * self.patches.volume, *grid), layout=layout)
        code = TensorSpec("real", (self.quantiser.dim, *grid), layout=layout)
        self.encoder = backbone(patched, code)
        self.decoder = backbone(code, patched.with_channels(params * self.patches.volume))
        self.latent_spec = TensorSpec.tokens(math.prod(grid), self.quantiser.vocab_size)

    @classmethod
    def refuses(cls, spec: TensorSpec, conditions: Mapping[str, TensorSpec]) -> RefusedPair | None:
        if spec.kind == "real":
            return None
        return RefusedPair(
            "vq_vae turns real values into tokens, and the data is tokens already",
            found=str(spec),
            expected="real values",
            hint="--family autoregressive",
        )

    @classmethod
    def backbone_for(cls, spec: Spec) -> str:
        return "conv"

    @torch.no_grad()
    def prepare(self, batch: Batch, generator: torch.Generator) -> None:
        """Let the quantiser see codes of one large batch."""
        self.quantiser.prepare(self._features(batch.x), generator)

    def drawn_like(self, batch: Batch, num: int, generator: torch.Generator) -> Tensor:
        """Items rebuilt: it draws none by itself, and what a prior of its tokens draws is decoded
        as these are."""
        x = batch.rows(slice(num)).x
        return torch.cat([self.decode(self.encode(part)) for part in torch.split(x, AT_ONCE)])

    def loss(
        self, batch: Batch, phase: str, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        q, tokens, commitment = self.quantiser(self._features(batch.x))
        log_p = self.likelihood.item_log_prob(self._params(q), batch.x, batch.mask, batch.weight)
        usage = torch.bincount(tokens.flatten(), minlength=self.quantiser.vocab_size).to(q.dtype)
        usage = usage / usage.sum()
        entropy = torch.special.entr(usage).sum()
        most = math.log(max(2, min(self.quantiser.vocab_size, tokens.numel())))
        parts = {
            "reconstruction": -log_p,
            "perplexity": torch.exp(entropy),
            "code_entropy": entropy / most,  # 1 where the batch uses codes as evenly as it can
            "share_used": (usage > 0).float().mean(),  # of the vocabulary, in this batch
            "commitment": commitment,
        }
        return self.per_value(-log_p) + commitment, parts

    def encode(self, x: Tensor) -> Tensor:
        """(B, *shape) -> tokens (B, L)."""
        return self.quantiser(self._features(x))[1].flatten(1)

    def decode(self, tokens: Tensor) -> Tensor:
        """Tokens (B, L) -> (B, *shape): the mean of p(x | q)."""
        grid = tokens.reshape(tokens.shape[0], *self.patches.grid)
        return self.likelihood.mean(self._params(self.quantiser.codes(grid)))

    def _features(self, x: Tensor) -> Tensor:
        """(B, *shape) -> z (B, F, *grid)."""
        x = x if self.spec.space else x.unsqueeze(1)
        return self.encoder(self.patches.to_depth(x))

    def _params(self, q: Tensor) -> Tensor:
        """q (B, F, *grid) -> parameters of the likelihood."""
        params = self.patches.to_space(self.decoder(q))
        return params if self.spec.space else params.flatten(1)


class Patches:
    """Space to depth, and back: (B, C, *space) <-> (B, C P, *grid)."""

    def __init__(self, space: Sequence[int], size: int) -> None:
        self.space, self.size = tuple(space), tuple(min(size, n) for n in space)
        self.grid = tuple(-(-n // p) for n, p in zip(self.space, self.size, strict=True))
        self.volume = math.prod(self.size)

    def to_depth(self, x: Tensor) -> Tensor:
        """Repeats the border where an axis does not divide by the patch."""
        for axis, (n, p, g) in enumerate(zip(self.space, self.size, self.grid, strict=True), 2):
            if g * p > n:
                x = x.index_select(axis, torch.arange(g * p, device=x.device).clamp(max=n - 1))
        rank = len(self.grid)
        split = [each for pair in zip(self.grid, self.size, strict=True) for each in pair]
        x = x.reshape(*x.shape[:2], *split)  # (B, C, g1, p1, g2, p2, ...)
        order = [0, 1, *range(3, 3 + 2 * rank, 2), *range(2, 2 + 2 * rank, 2)]
        return x.permute(order).reshape(x.shape[0], -1, *self.grid)

    def to_space(self, x: Tensor) -> Tensor:
        """Inverse of `to_depth`; cuts off what it repeated."""
        rank = len(self.grid)
        x = x.reshape(x.shape[0], -1, *self.size, *self.grid)  # (B, C, p1, p2, ..., g1, g2, ...)
        order = [0, 1]
        for axis in range(rank):
            order += [2 + rank + axis, 2 + axis]
        x = x.permute(order)  # (B, C, g1, p1, g2, p2, ...)
        full = [g * p for g, p in zip(self.grid, self.size, strict=True)]
        x = x.reshape(*x.shape[:2], *full)
        for axis, n in enumerate(self.space, 2):
            x = x.narrow(axis, 0, n)
        return x


class FiniteScalar(nn.Module):
    """Finite scalar quantisation: a grid of `levels[i]` values on each axis i."""

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        if min(levels, default=0) < 2:
            raise RecipeError(
                "finite scalar quantisation needs at least two values on each axis",
                found=tuple(levels),
                hint="--set family.fsq_levels=8,8,8",
            )
        self.dim, self.vocab_size = len(levels), math.prod(levels)
        count = torch.tensor(levels)
        self.levels: Tensor
        self.stride: Tensor
        self.register_buffer("levels", count, persistent=False)
        stride = torch.cat([torch.ones(1, dtype=torch.long), count.cumprod(0)[:-1]])
        self.register_buffer("stride", stride, persistent=False)

    def prepare(self, z: Tensor, generator: torch.Generator) -> None:
        """Nothing to prepare: the grid is fixed."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z (B, F, *grid) -> q like z, tokens (B, *grid), commitment (a scalar, 0)."""
        levels = _along_channels(self.levels, z)
        top = levels - 1
        # An axis runs over (-1/2, top + 1/2) before rounding, so that each value gets a cell of
        # the same width.
        position = (torch.tanh(z) + 1) * (levels / 2) - 0.5
        index = torch.minimum(position.round().clamp(min=0), top)
        tokens = (index.long() * _along_channels(self.stride, z)).sum(1)
        smooth = position * (2 / top) - 1
        rounded = index * (2 / top) - 1
        return smooth + (rounded - smooth).detach(), tokens, z.new_zeros(())

    def codes(self, tokens: Tensor) -> Tensor:
        """Tokens (B, *grid) -> q (B, F, *grid), values in [-1, 1]."""
        stride, levels = (_along_channels(each, tokens) for each in (self.stride, self.levels))
        index = (tokens.unsqueeze(1) // stride) % levels
        return index.to(torch.get_default_dtype()) * (2 / (levels - 1)) - 1


class LearnedMap(nn.Module):
    """Vector quantisation with entries c_k W: fixed points, one learned linear map.

    Codes and entries are scaled to a mean square of 1 (Yu et al. 2022): the encoder cannot run
    away from the entries, only turn.
    """

    def __init__(self, vocab_size: int, dim: int, commitment: float) -> None:
        super().__init__()
        self.dim, self.vocab_size, self.commitment = dim, vocab_size, commitment
        self.points: Tensor
        self.offset: Tensor
        self.scale: Tensor
        start = torch.Generator().manual_seed(0)
        self.register_buffer("points", randn((vocab_size, dim), start))
        self.register_buffer("offset", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.map = nn.Parameter(torch.eye(dim))

    @torch.no_grad()
    def prepare(self, z: Tensor, generator: torch.Generator) -> None:
        """Draw the points, and centre and scale the codes (B, F, *grid) of a first batch: both
        then surround the origin, and many entries are near a code from the start."""
        z = z.movedim(1, -1).flatten(0, -2)  # (N, F)
        self.points.copy_(randn(self.points.shape, generator))
        self.offset.copy_(z.mean(0))
        self.scale.copy_(z.std(0, correction=0).clamp(min=1e-6))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z (B, F, *grid) -> q like z, tokens (B, *grid), commitment (B,)."""
        z = F.rms_norm((z.movedim(1, -1) - self.offset) / self.scale, (self.dim,))  # (B, *grid, F)
        entries = self.entries()
        # All entries are as long as each other: the nearest has the largest inner product.
        tokens = (z @ entries.T).argmax(-1)  # (B, *grid)
        q = F.embedding(tokens, entries)  # (B, *grid, F)
        pull_entries = (z.detach() - q).square()
        pull_z = (z - q.detach()).square()
        commitment = (pull_entries + self.commitment * pull_z).flatten(1).mean(1)
        return (z + (q - z).detach()).movedim(-1, 1), tokens, commitment

    def codes(self, tokens: Tensor) -> Tensor:
        """Tokens (B, *grid) -> q (B, F, *grid)."""
        return F.embedding(tokens, self.entries()).movedim(-1, 1)

    def entries(self) -> Tensor:
        """The codebook: (V, F)."""
        return F.rms_norm(self.points @ self.map, (self.dim,))


def _along_channels(values: Tensor, like: Tensor) -> Tensor:
    """(F,) -> (1, F, 1, ...), to meet (B, F, *grid) or tokens (B, *grid)."""
    rank = like.dim() - 2 if like.is_floating_point() else like.dim() - 1
    return values.view(1, -1, *(1,) * rank)
