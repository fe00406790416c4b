r"""Autoregressive model: one value at a time, each given all before it.

    log p(x | cond) = sum_i log p(x_i | x_<i, cond)

A causal network sees a start token and x_1 .. x_{L-1} and gives, at every position at once, the
distribution of the value there. The likelihood is exact, sampling takes L steps.

    start, x_1, .., x_{L-1} --[causal backbone | cond]--> p(x_1), p(x_2 | x_1), .., p(x_L | x_<L)

Token sequences are taken as they are, token grids (the codes of a `vq_vae`) in raster order, and
real data with levels as one token per channel value, all channels of a position in turn (van den
Oord et al. 2016, PixelRNN; Chen et al. 2020, iGPT). Items that end early are drawn up to their end,
and what follows it is no part of the likelihood. Columns with vocabularies of their own share one
large vocabulary, in which each position gives tokens of its own part only; so does a sequence of
runs (pictures, sounds and words, one after the other), of which each part's bits are told.

Levels are ordered, which a softmax over 256 of them, and a vector for each, would have to learn. So
from some number of them on, the output is a discretised logistic mixture (Salimans et al. 2017,
PixelCNN++), and the network is shown numbers: at x_i, not x_{i-1} alone but all that are near x_i
and before it, those above among them, which are far off in the sequence.

    near x_i, in a picture:     o o o o o
                                o o o o o
                                o o x_i

Bengio et al. 2003; Holtzman et al. 2020 (top-p sampling).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.backbone import BuildBackbone, CanTell
from morphogen.core.batch import Batch
from morphogen.core.condition_readers import Stem, is_grid
from morphogen.core.conditioning import Conditioner, Embedded, context_dim
from morphogen.core.errors import RefusedPair
from morphogen.core.family import Family
from morphogen.core.likelihood import NEVER, build_likelihood
from morphogen.core.schema import with_options
from morphogen.core.spec import Spec, TensorSpec
from morphogen.core.varied import Variation
from morphogen.core.writing import Legality, Limits
from morphogen.families import _raster as raster
from morphogen.families._by_length import by_length
from morphogen.families._drawing import draw, draws
from morphogen.families._explaining import ShowsStates
from morphogen.families._writes import Writes

MOST_LEVELS, ORDERED_FROM = 256, 32  # at most; from which an ordered output beats a free one
TEXT_POSITIONS = 4_096  # per step, of windows of text


class Autoregressive(ShowsStates, Writes, Family):
    """One token, or one pixel's channel value, at a time, with exact likelihood."""

    default_backbone = "transformer"
    takes = frozenset({"lengths", "columns", "weights"})
    train_defaults = {"optimizer": "muon", "lr": 3e-3, "batch_size": 64}
    papers = ("bengio2003neural", "oord2016pixel", "chen2020generative", "salimans2017pixelcnn",
              "holtzman2020curious", "li2022stability")  # fmt: skip
    log_prob_is = "exact"

    def __init__(
        self,
        spec: TensorSpec,
        conditions: Mapping[str, TensorSpec],
        backbone: BuildBackbone,
        *,
        head: Literal["auto", "categorical", "logistic"] = "auto",  # logistic: levels are ordered
        short_first: float = 0.5,  # share of training on quarters, then halves, of windows of text
        drop_prob: float = 0.1,  # share of items trained without their conditions
        cond_dim: int = 64,  # width of the embedded conditions
        cond_layers: int = 2,  # of attention that read a condition in order: a text, a picture
        cond_positions: int = 256,  # of a condition that are read, at most: longer ones in patches
        cond_stem: Stem = "patches",  # how a grid is seen: cut in patches, or by convolutions
        cond_shift: int = 0,  # augmentation: shift conditions that are grids by up to so much
        cond_mask: float = 0.0,  # augmentation: hide a run along each axis, up to this share of it
        cond_gain: float = 0.0,  # augmentation: add a number, up to this size, to their values
        start: int | None = None,  # the token before a text, as published models have; none: a new
        smoothing: float = 0.0,  # share of a text's tokens that are learned as if any might come
    ) -> None:
        super().__init__(spec, conditions, backbone)
        self.num_tokens = spec.num_values
        self.vocab_size = sum(spec.sizes or ()) or spec.vocab_size or spec.levels or 1
        own = raster.own_tokens(spec.sizes) if spec.sizes else (None, raster.never_of(spec))
        first, never = own
        self.offsets: Tensor | None
        self.never: Tensor | None
        self.register_buffer("offsets", first, persistent=False)
        self.register_buffer("never", never, persistent=False)
        if head == "logistic" and spec.levels is None:
            raise RefusedPair("only levels are ordered", found=str(spec), hint="head=categorical")
        ordered = bool(spec.levels) and self.vocab_size >= ORDERED_FROM
        self.head = ("logistic" if ordered else "categorical") if head == "auto" else head
        # A network with a vocabulary of its own reads items cut short, and tells their tokens.
        own_vocabulary = backbone.backbone.own_vocabulary and never is None
        self.shortens = own_vocabulary and self.head == "categorical"
        if smoothing and not self.shortens:
            raise RefusedPair("smoothing is for texts", found=str(spec), hint="smoothing=0")
        self.start = raster.special(self.vocab_size, start if self.shortens else None)
        if self.head == "logistic":
            line = TensorSpec("real", (1, self.num_tokens), None, spec.levels, "sequence")
            self.likelihood = build_likelihood(line, "discretised_logistic")
            self.near: Tensor
            self.register_buffer("near", raster.near_and_before(spec), persistent=False)
            inputs = TensorSpec("real", (self.near.shape[1], self.num_tokens), layout="sequence")
        else:
            known = max(self.vocab_size, self.start + 1)  # a start of its own learns never to come
            line = TensorSpec.tokens(self.num_tokens, known if self.shortens else self.vocab_size)
            self.likelihood = build_likelihood(line, "categorical")
            inputs = TensorSpec.tokens(self.num_tokens, known, boundary=spec.boundary)
        cond_dim = cond_dim if conditions else 0
        self.conditioner = Conditioner(conditions, cond_dim, cond_layers, cond_positions, cond_stem)
        self.variation = Variation(cond_shift, mask_share=cond_mask, max_gain=cond_gain)
        self.network = backbone(
            inputs, self.likelihood.param_spec, cond_dim, causal=True,
            context_dim=context_dim(conditions, cond_dim),
        )  # fmt: skip
        self.drop_prob, self.short_first = drop_prob, 0.0 if conditions else short_first
        self.smoothing = smoothing

    @classmethod
    def refuses(cls, spec: TensorSpec, conditions: Mapping[str, TensorSpec]) -> RefusedPair | None:
        """Values must be finitely many, and not too many of them in a row."""
        advice = "--family vq_vae+autoregressive, which learns tokens first; or flow_matching"
        if spec.kind == "real" and (spec.levels is None or spec.levels > MOST_LEVELS):
            return RefusedPair(
                "an autoregressive model draws from a finite set of values",
                found=str(spec),
                expected=f"tokens, or real values with at most {MOST_LEVELS} levels",
                hint=advice,
            )
        return raster.too_long(spec, advice)

    @classmethod
    def train_defaults_for(cls, spec: TensorSpec) -> dict[str, Any]:
        """Long items come in smaller batches; windows of a text bear a higher rate."""
        if isinstance(spec, TensorSpec) and spec.boundary is not None:
            fitting = max(TEXT_POSITIONS // spec.num_values, 8)
            return {**cls.train_defaults, "lr": 1e-2, "batch_size": fitting}
        usual = cls.train_defaults["batch_size"]
        return {**cls.train_defaults, "batch_size": raster.fitting_batch(spec, usual)}

    @classmethod
    def backbone_for(cls, spec: Spec) -> str:
        """A causal one over a sequence."""
        return raster.network_over(spec, cls.default_backbone)

    # -- items as sequences ------------------------------------------------------------------------

    def to_tokens(self, x: Tensor) -> Tensor:
        """(B, *shape) -> (B, L): raster order, the channels of a position next to each other."""
        if self.spec.kind == "token":
            return x.flatten(1) if self.offsets is None else x + self.offsets
        return self._raster(self.spec.quantise(x))

    def from_tokens(self, tokens: Tensor) -> Tensor:
        """Inverse of `to_tokens`."""
        if self.spec.kind == "token":
            own = tokens if self.offsets is None else tokens - self.offsets
            return self.spec.canonical(own.reshape(len(tokens), *self.spec.shape))
        grid = tokens.reshape(len(tokens), *self.spec.space, self.spec.channels).movedim(-1, 1)
        return self.spec.dequantise(grid)

    def _raster(self, x: Tensor) -> Tensor:
        return x.flatten(1) if self.spec.kind == "token" else x.movedim(1, -1).flatten(1)

    # -- learning ----------------------------------------------------------------------------------

    def prepare(self, batch: Batch, generator: torch.Generator) -> None:
        self.see_lengths(batch.x)

    def loss(
        self, batch: Batch, phase: str, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy in bits per value, per item; padding does not count."""
        splits = self.training and batch.weight is None  # else items are laid where they are whole
        pieces = raster.num_pieces(self.spec, self.progress, self.short_first) if splits else 1
        tokens = self.to_tokens(batch.x).view(len(batch) * pieces, -1)
        how = {"smoothing": self.smoothing} if self.smoothing and self.training else {}
        log_p = by_length(self, tokens, batch, generator, **how).view(len(batch), -1)
        return self.weighed(log_p, batch), raster.by_name(self.spec, -log_p)

    def weighed(self, log_p: Tensor, batch: Batch) -> Tensor:
        """log p of each value, in nats -> the loss of each item (B,), in bits per value."""
        if batch.weight is not None:
            log_p = log_p * self._raster(batch.weight.expand_as(batch.x))
        if batch.mask is not None:
            real = self._raster(batch.mask.expand_as(batch.x)).to(log_p)
            return -(log_p * real).sum(1) / (real.sum(1).clamp(min=1) * math.log(2))
        if self.spec.is_ragged:
            return self.per_value(-self._real(log_p, batch.x).sum(1))
        return -log_p.mean(1) / math.log(2)

    def log_prob(
        self, x: Tensor, *, cond: Mapping[str, Tensor] | None = None, generator: torch.Generator
    ) -> Tensor:
        """log p(x | cond) in nats, exactly. (B,)."""
        return self.token_log_prob(x, cond).sum(1)

    def token_log_prob(
        self, x: Tensor, cond: Mapping[str, Tensor] | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """log p(x_i | x_<i, cond) in nats, of values in raster order: (B, *shape) -> (B, L). What
        has no weight (B, *shape) may be 0, which saves computing it."""
        tokens, among = self.to_tokens(x), self.vocab_size
        if weight is None:
            return self._real(self.log_probs(tokens, self.embedded(cond, len(x)), among=among), x)
        batch = Batch(x, cond=dict(cond or {}), weight=weight)
        return self._real(by_length(self, tokens, batch, None, among=among), x)

    def _real(self, log_p: Tensor, x: Tensor) -> Tensor:
        """(B, L), with 0 for what is no part of an item."""
        mask = self.spec.mask(x)
        return log_p if mask is None else log_p * mask

    # -- drawing -----------------------------------------------------------------------------------

    def predict_next(self, prefix: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """Tokens (B, i) in raster order, 0 <= i < L -> logits of the next (B, V), V the spec's."""
        position = prefix.shape[1]
        if position >= self.num_tokens:
            raise RefusedPair(
                "the prefix leaves nothing to predict",
                found=f"{position} tokens",
                expected=f"fewer than {self.num_tokens}",
            )
        if self.offsets is not None:
            prefix = prefix + self.offsets[:position]
        network, context = self.network, self.embedded(cond, prefix.shape[0])
        if isinstance(network, CanTell):
            h = network.features(self.inputs(F.pad(prefix, (0, 1))), *context)[:, -1]
            return self.next_logits(network.logits(h), position)
        after = self.num_tokens - position if self.head == "logistic" else 1
        params = network.run(self.inputs(F.pad(prefix, (0, after))), *context)
        return self.next_logits(params[:, :, position], position)

    @torch.no_grad()
    @with_options(Limits)
    def sample(
        self,
        num: int,
        *,
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator,
        legal: Legality | None = None,  # what items may become, where not everything is one
        **limits: Any,
    ) -> Tensor:
        """Left to right, one draw per position, within `Limits`. (num, *shape)."""
        tokens = torch.zeros(num, self.num_tokens, dtype=torch.int64, device=self.device)
        held, within = torch.zeros_like(tokens, dtype=torch.bool), Limits(**limits)
        drawn = draw(self, tokens, held, cond=cond, generator=generator, limits=within, legal=legal)
        return self.from_tokens(drawn)

    @torch.no_grad()
    @with_options(Limits)
    def stream(
        self,
        prefix: Tensor,
        *,
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator,
        legal: Legality | None = None,  # kept to as long as what is known keeps to it
        **limits: Any,
    ) -> Iterator[Tensor]:
        """What follows tokens (B, n), a position (B,) at a time, until all items have ended."""
        num, known = prefix.shape
        first = torch.zeros(known, dtype=torch.int64) if self.offsets is None else self.offsets
        tokens = F.pad(prefix + first[:known].to(prefix), (0, self.num_tokens - known))
        held = (torch.arange(self.num_tokens, device=tokens.device) < known).expand(num, -1)
        tokens, bounds = tokens.to(self.device), Limits(**limits)
        settled = draws(
            self, tokens, held, cond=cond, generator=generator, limits=bounds, legal=legal
        )
        for i, tokens in settled:
            yield tokens[:, i] - (0 if self.offsets is None else self.offsets[i])

    @torch.no_grad()
    @with_options(Limits)
    def fill(
        self,
        x: Tensor,
        known: Tensor,
        *,
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator,
        legal: Legality | None = None,  # kept to as long as what is known keeps to it
        **limits: Any,
    ) -> Tensor:
        """Draw the unknown values left to right, holding the known ones.

        No item ends before the last that is known of it. Each draw sees what stands before it, not
        the known values after it: exact where the known part comes first, as in continuing a text,
        and blind to what follows elsewhere.
        """
        held, within = self._raster(known.expand_as(x)), Limits(**limits)
        tokens = self.to_tokens(x)
        drawn = draw(self, tokens, held, cond=cond, generator=generator, limits=within, legal=legal)
        return torch.where(known, x, self.from_tokens(drawn).to(x))

    # -- parts -------------------------------------------------------------------------------------

    def embedded(
        self,
        cond: Mapping[str, Tensor] | None,
        num: int,
        generator: torch.Generator | None = None,
    ) -> Embedded:
        """Embedded conditions (B, D), None without any, and what of them the network attends to;
        dropped and varied at random if given a generator, as in training."""
        drop_prob = self.drop_prob if generator is not None else 0.0
        if cond is not None and generator is not None and self.training:
            cond = {
                name: self.variation(value, generator) if is_grid(self.conditions[name]) else value
                for name, value in cond.items()
            }
        return self.conditioner.embedded(cond, num, drop_prob, generator)

    def inputs(self, tokens: Tensor) -> Tensor:
        """What the network sees of tokens (B, L): start and all but the last (B, L), or at every
        position the numbers near it and before it (B, F, L)."""
        if self.head == "categorical":
            return F.pad(tokens[:, :-1], (1, 0), value=self.start)
        return self._values(tokens, self.near).transpose(1, 2)

    def input_at(self, tokens: Tensor, i: int) -> Tensor:
        """The same at one position: (B,), or (B, F)."""
        if self.head == "categorical":
            return tokens[:, i - 1] if i else torch.full_like(tokens[:, 0], self.start)
        return self._values(tokens, self.near[i])

    def _values(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Tokens (B, L) as numbers at places (*), 0 beyond the last of them: (B, *)."""
        beyond = places == self.num_tokens
        values = self.spec.dequantise(tokens[:, places.masked_fill(beyond, 0)])
        return values.to(next(self.parameters())).masked_fill(beyond, 0.0)

    def log_probs(self, tokens: Tensor, context: Embedded, **only: Any) -> Tensor:
        """log p(x_i | x_<i): (B, L) -> (B, L); of the first tokens `among` which it is known, and
        where `real`, for networks of a vocabulary of their own."""
        if self.shortens:
            network: Any = self.network
            return network.log_probs(self.inputs(tokens), tokens, *context, **only)
        params = self.network.run(self.inputs(tokens), *context)
        if self.head == "categorical":
            if self.never is not None:
                params = params.masked_fill(self.never.T, NEVER)
            return self.likelihood.log_prob(params, tokens)
        values = self.spec.dequantise(tokens).to(params)
        return self.likelihood.log_prob(params, values[:, None])[:, 0]

    def logits(self, params: Tensor, i: int) -> Tensor:
        """The parameters at position i (B, P) -> log probabilities of every token (B, V)."""
        if self.head == "categorical":
            own = params[:, : self.vocab_size]
            return own.clone() if self.never is None else own.masked_fill(self.never[i], NEVER)
        levels = torch.arange(self.vocab_size, device=params.device)
        values = self.spec.dequantise(levels).to(params).expand(len(params), 1, -1)
        spread = params[:, :, None].expand(-1, -1, self.vocab_size)
        return self.likelihood.log_prob(spread, values)[:, 0]
