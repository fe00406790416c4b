r"""Masked model: hidden tokens told from those that are seen, in any order.

    -log p(x)  <=  -log p(n) + E_{k, S} [ n/k  sum_{i in S} -log q(x_i | x_not S) ],

n the length of the item, k uniform in 1 .. n, S any k of its positions, all as likely. Each term is
what BERT is trained on (Devlin et al. 2019), with a share of hidden tokens that is drawn anew every
time; together they are the likelihood of the model that tells one token after the other in random
order (Uria et al. 2014; Hoogeboom et al. 2022), or of diffusion that hides tokens (Austin et al.
2021; Sahoo et al. 2024): one model under three names. A network that sees both sides fills gaps
anywhere, and tells many tokens at a time:

    x^0 all hidden;   x^{s+1} = x^s with the next n/steps positions, in random order, drawn from q.

With as many steps as tokens the draws follow the model exactly; with fewer, tokens of one step do
not know of each other. Lengths are drawn first, from how often each came.

With tokens that stand for the start and the mask among its own, it is BERT, and gives features.

Legend: B batch, L positions, N of them and the start, D features of the network, V vocabulary, e
the place of the first end token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.backbone import BuildBackbone, CanTell
from morphogen.core.batch import Batch
from morphogen.core.conditioning import Conditioner, Embedded, context_dim, mean_of_real
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.family import Family
from morphogen.core.likelihood import NEVER
from morphogen.core.random import categorical, rand, stratified
from morphogen.core.spec import Spec, TensorSpec
from morphogen.families._raster import fitting_batch, network_over, own_tokens, special, too_long

PRIOR = 0.5  # how often each length counts as seen before any was


class Masked(Family):
    """Tells hidden tokens from those around them: fills gaps, and writes in any order."""

    default_backbone = "transformer"
    takes = frozenset({"lengths", "columns"})
    train_defaults = {"optimizer": "muon", "lr": 3e-3, "batch_size": 64}
    papers = ("devlin2019bert", "austin2021structured", "hoogeboom2022autoregressive",
              "sahoo2024simple")  # fmt: skip
    log_prob_is = "estimate of a lower bound"

    def __init__(
        self,
        spec: TensorSpec,
        conditions: Mapping[str, TensorSpec],
        backbone: BuildBackbone,
        *,
        mask_share: float | None = None,  # of tokens hidden in training (BERT: 0.15); none: all
        num_steps: int = 64,  # of drawing; as many as tokens, and draws are exact
        num_masks: int = 8,  # drawn for each item whose likelihood is estimated
        drop_prob: float = 0.1,  # share of items trained without their conditions
        cond_dim: int = 64,  # width of the embedded conditions
        start: int | None = None,  # the token before an item, as published encoders have; none: no
        mask: int | None = None,  # the token that hides others, where it is one of theirs
        tells: bool = True,  # no: it has no head, and gives features alone
        pooling: Literal["mean", "first"] = "mean",  # features: of all that is real, or the start's
        normalised: bool = False,  # features have length 1
    ) -> None:
        super().__init__(spec, conditions, backbone)
        self.start, self.pooling, self.normalised = start, pooling, normalised
        if mask_share is not None and not 0 < mask_share <= 1:
            raise RecipeError(
                "the share of hidden tokens is out of range", found=mask_share,
                expected="above 0, at most 1; or none, for all shares", where="family.mask_share",
            )  # fmt: skip
        self.mask_share, self.num_steps, self.num_masks = mask_share, num_steps, num_masks
        self.length, self.drop_prob = spec.num_values, drop_prob
        self.vocab_size = sum(spec.sizes or ()) or spec.vocab_size or 1
        first, never = own_tokens(spec.sizes) if spec.sizes else (None, None)
        if spec.end is not None:  # what stands before the end is none
            never = torch.zeros(self.length, self.vocab_size, dtype=torch.bool)
            never[:, spec.end] = True
            counts = torch.full((self.length + 1,), PRIOR)
            self.ends: Tensor  # how often the first end stood at each place; the last: nowhere
            self.register_buffer("ends", counts)
        self.offsets: Tensor | None
        self.never: Tensor | None
        self.register_buffer("offsets", first, persistent=False)
        self.register_buffer("never", never, persistent=False)
        cond_dim = cond_dim if conditions else 0
        self.conditioner = Conditioner(conditions, cond_dim)
        self.mask = special(self.vocab_size, mask)
        length = self.length + (start is not None)
        known = max(self.vocab_size, self.mask + 1)
        seen = TensorSpec.tokens(length, known, end=spec.end, boundary=spec.boundary)
        told = TensorSpec("real", (self.vocab_size, length), layout="sequence")
        self.network = backbone(seen, told, cond_dim, context_dim=context_dim(conditions, cond_dim))
        if not tells:  # capabilities that are None are none
            vars(self).update(sample=None, fill=None, log_prob=None)

    @classmethod
    def refuses(cls, spec: TensorSpec, conditions: Mapping[str, TensorSpec]) -> RefusedPair | None:
        """Tokens can be hidden; there must not be too many in a row."""
        advice = "--family vq_vae+masked, which learns tokens first"
        if spec.kind != "token":
            return RefusedPair("only tokens can be hidden", found=str(spec), hint=advice)
        return too_long(spec, advice)

    @classmethod
    def train_defaults_for(cls, spec: TensorSpec) -> dict[str, Any]:
        """Long items come in smaller batches."""
        usual = cls.train_defaults["batch_size"]
        return {**cls.train_defaults, "batch_size": fitting_batch(spec, usual)}

    @classmethod
    def backbone_for(cls, spec: Spec) -> str:
        """One that sees both sides, over a sequence."""
        return network_over(spec, cls.default_backbone)

    # -- learning ----------------------------------------------------------------------------------

    def prepare(self, batch: Batch, generator: torch.Generator) -> None:
        """Count how long items are."""
        self.see_lengths(batch.x)
        if self.spec.end is not None:
            found = self._content(self._tokens(batch.x)).sum(1)
            self.ends.copy_(PRIOR + torch.bincount(found, minlength=self.length + 1))

    def loss(
        self, batch: Batch, phase: str, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The bound in bits per value, per item, for one share of hidden tokens each."""
        tokens = self._tokens(batch.x)
        context = self._context(batch.cond, len(tokens), generator)
        share = stratified(len(tokens), generator).to(tokens.device)
        if self.mask_share is not None:
            share = torch.full_like(share, self.mask_share)
        nats = self._hidden_nats(tokens, share, context, generator)
        return self.per_value(nats - self._log_prob_of_length(tokens)), {}

    def log_prob(
        self, x: Tensor, *, cond: Mapping[str, Tensor] | None = None, generator: torch.Generator
    ) -> Tensor:
        """A lower bound of log p(x | cond) in nats, estimated with `num_masks` masks. (B,)."""
        tokens = self._tokens(x)
        context, total = self._context(cond, len(tokens)), torch.zeros(len(x), device=x.device)
        for number in range(self.num_masks):
            u = rand((len(tokens),), generator).to(tokens.device)
            share = (number + u) / self.num_masks
            total = total + self._hidden_nats(tokens, share, context, generator)
        return self._log_prob_of_length(tokens) - total / self.num_masks

    def _hidden_nats(
        self, tokens: Tensor, share: Tensor, context: Embedded, generator: torch.Generator
    ) -> Tensor:
        """n/k times the nats of k hidden tokens, k the `share` (B,) of n, at least 1: (B,)."""
        content = self._content(tokens)
        count = content.sum(1)  # (B,)
        hidden_count = torch.minimum((share * count).floor().long() + 1, count)
        order = self._order(content, generator)
        hidden = order < hidden_count[:, None]
        nats = -self._told(tokens.masked_fill(hidden, self.mask), tokens, context) * hidden
        return nats.sum(1) * count / hidden_count.clamp(min=1)

    def _log_prob_of_length(self, tokens: Tensor) -> Tensor:
        """log p(e) of each item's own: (B,); zero where all items are as long."""
        if self.spec.end is None:
            return torch.zeros(len(tokens), device=tokens.device)
        return self.ends.log().log_softmax(0)[self._content(tokens).sum(1)]

    # -- drawing -----------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(
        self,
        num: int,
        *,
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator,
        num_steps: int | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """All tokens hidden at first, then told in random order. (num, *shape)."""
        tokens = torch.zeros(num, self.length, dtype=torch.int64, device=self.device)
        hidden = torch.ones_like(tokens, dtype=torch.bool)
        drawn = self._reveal(tokens, hidden, cond, generator, (num_steps, temperature))
        return self._items(drawn)

    @torch.no_grad()
    def fill(
        self,
        x: Tensor,
        known: Tensor,
        *,
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator,
        num_steps: int | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw the unknown tokens, in random order, each seeing all that is known or drawn."""
        held = known.expand_as(x).flatten(1)
        drawn = self._reveal(self._tokens(x), ~held, cond, generator, (num_steps, temperature))
        return torch.where(known, x, self._items(drawn).to(x))

    def _reveal(
        self,
        tokens: Tensor,
        hidden: Tensor,
        cond: Mapping[str, Tensor] | None,
        generator: torch.Generator,
        how: tuple[int | None, float],
    ) -> Tensor:
        """Tokens (B, L), those `hidden` drawn."""
        num_steps, temperature = how
        if self.spec.end is not None:
            tokens, hidden = self._ended(tokens, hidden, generator)
        context, order = self._context(cond, len(tokens)), self._order(hidden, generator)
        count = hidden.sum(1, keepdim=True)  # (B, 1)
        steps = min(num_steps or self.num_steps, int(count.max())) if hidden.any() else 0
        tokens = tokens.masked_fill(hidden, self.mask)
        for step in range(steps):
            done, until = count * step // steps, count * (step + 1) // steps
            now = hidden & (order >= done) & (order < until)
            if not bool(now.any()):
                continue
            logits = self._logits(tokens, context).transpose(1, 2)[now]  # (positions, V)
            if temperature <= 0:
                drawn = logits.argmax(1)
            else:
                drawn = categorical((logits / temperature).to(generator.device), generator)
            tokens[now] = drawn.to(tokens)
        return tokens

    def _ended(
        self, tokens: Tensor, hidden: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Items with an end drawn where what is known leaves it open: after the last known token of
        the content, not after the first known end."""
        place = torch.arange(self.length, device=tokens.device)
        is_end = tokens == self.spec.end
        last = torch.where(~hidden & ~is_end, place, -1).amax(1)  # (B,)
        first = torch.where(~hidden & is_end, place, self.length).amin(1)
        places = torch.arange(self.length + 1, device=tokens.device)
        fits = (places > last[:, None]) & (places <= first[:, None])  # (B, L + 1)
        logits = self.ends.log().masked_fill(~fits, NEVER)
        end = categorical(logits.to(generator.device), generator).to(tokens.device)
        content = place < end[:, None]
        return tokens.masked_fill(~content, self.spec.end or 0), hidden & content

    # -- encoding ----------------------------------------------------------------------------------

    @property
    def features(self) -> Callable[[Tensor], Tensor]:
        """What stands for items (B, L) -> (B, D): the mean state of what is real of each, or the
        state of its start."""
        if not isinstance(self.network, CanTell):
            raise AttributeError("features")
        return self._features

    def _features(self, x: Tensor) -> Tensor:
        tokens = self._tokens(x)
        if self.spec.end is not None:  # what is beyond the longest is not computed
            tokens = tokens[:, : int(self.spec.num_real(tokens).max())]
        inputs = self._inputs(tokens)
        network: Any = self.network
        states = network.features(inputs, *self._context(None, len(x)))  # (B, N, D)
        if self.pooling == "first":
            found = states[:, 0]
        else:
            found = mean_of_real(states, network.in_spec.mask(inputs))
        return F.normalize(found, dim=1) if self.normalised else found

    def _inputs(self, tokens: Tensor) -> Tensor:
        """What the network sees: the start, where there is one, and the tokens."""
        return tokens if self.start is None else F.pad(tokens, (1, 0), value=self.start)

    # -- parts -------------------------------------------------------------------------------------

    def _tokens(self, x: Tensor) -> Tensor:
        """(B, *shape) -> (B, L), each column's tokens its own."""
        line = self.spec.canonical(x).flatten(1)
        return line if self.offsets is None else line + self.offsets

    def _items(self, tokens: Tensor) -> Tensor:
        own = tokens if self.offsets is None else tokens - self.offsets
        return own.reshape(len(tokens), *self.spec.shape)

    def _content(self, tokens: Tensor) -> Tensor:
        """Which positions (B, L) are to be told: those before the end."""
        if self.spec.end is None:
            return torch.ones_like(tokens, dtype=torch.bool)
        return (tokens == self.spec.end).cumsum(1) == 0

    def _order(self, among: Tensor, generator: torch.Generator) -> Tensor:
        """A random order of the positions `among` (B, L): each one's place in it, others last."""
        scores = rand(tuple(among.shape), generator).to(among.device).masked_fill(~among, 2.0)
        return scores.argsort(1).argsort(1)

    def _context(
        self,
        cond: Mapping[str, Tensor] | None,
        num: int,
        generator: torch.Generator | None = None,
    ) -> Embedded:
        drop_prob = self.drop_prob if generator is not None else 0.0
        return self.conditioner.embedded(cond, num, drop_prob, generator)

    def _logits(self, tokens: Tensor, context: Embedded) -> Tensor:
        """Tokens (B, L), some hidden -> (B, V, L)."""
        logits = self.network.run(self._inputs(tokens), *context)[..., -self.length :]
        return logits if self.never is None else logits.masked_fill(self.never.T, NEVER)

    def _told(self, seen: Tensor, tokens: Tensor, context: Embedded) -> Tensor:
        """log q(x_i | what is seen): (B, L)."""
        log_q = self._logits(seen, context).log_softmax(1)
        return log_q.gather(1, tokens[:, None])[:, 0]
