r"""Masked model: hidden tokens told from those that are seen, in any order.

    -log p(x)  <=  -log p(n) + E_{k, S} [ n/k  sum_{i in S} -log q(x_i | x_not S) ],

n the length of the item, k uniform in 1 .. n, S any k of its positions, all as likely. Each term is
what BERT is trained on (Devlin et al. 2019), with a share of hidden tokens that is drawn anew every
time; together they are the likelihood of the model that tells one token after the other in random
order (Uria et al. 2014; Hoogeboom et al. 2022), or of diffusion that hides tokens (Austin et al.
2021; Sahoo et al. 2024): one model under three names. A network that sees both sides fills gaps
anywhere, and tells many tokens at a time:

    x^0 all hidden;   x^{s+1} = x^s with the next n/steps positions, in random order, drawn from q.

Of a sequence of runs (a picture, its sound, its caption), a share `whole_parts` of the items is
told part after part, in random order of the parts: then what is told is often a whole part given
others, which is how it will be asked, and seldom so where any token is hidden as any other. The
order is drawn apart from the item, so that the bound holds: of the k hidden tokens, those are told
that are of the part that comes next.

With as many steps as tokens the draws follow the model exactly; with fewer, tokens of one step do
not know of each other. Lengths are drawn first, from how often each came.

With tokens that stand for the start and the mask among its own, it is BERT, and gives features.

Legend: B batch, L positions, N of them and the start, D features of the network, V vocabulary, e
the place of the first end token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.backbone import BuildBackbone, CanTell
from morphogen.core.batch import Batch
from morphogen.core.condition_readers import mean_of_real
from morphogen.core.conditioning import Conditioner, Embedded, context_dim
from morphogen.core.encoded import together
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.family import Family
from morphogen.core.random import categorical, rand, stratified
from morphogen.core.spec import ProductSpec, Spec, TensorSpec
from morphogen.core.writing import Legality, Limits
from morphogen.families._drawing import revealed
from morphogen.families._limits import limited
from morphogen.families._lines import PRIOR, line_of
from morphogen.families._raster import (
    by_name,
    fitting_batch,
    network_over,
    special,
    too_long,
)

MOST_IN_ORDER = 64  # positions; more are not told one after the other to score an item
FEWEST_ORDERS = 2


class Masked(Family):
    """Tells hidden tokens from those around them: fills gaps, and writes in any order."""

    default_backbone = "transformer"
    takes = frozenset({"parts", "lengths", "columns"})
    train_defaults = {"optimizer": "muon", "lr": 3e-3, "batch_size": 64}
    papers = ("devlin2019bert", "austin2021structured", "hoogeboom2022autoregressive",
              "sahoo2024simple")  # fmt: skip
    log_prob_is = "estimate of a lower bound"
    fills_both_ways = True

    def __init__(
        self,
        spec: Spec,
        conditions: Mapping[str, TensorSpec],
        backbone: BuildBackbone,
        *,
        mask_share: float | None = None,  # of tokens hidden in training (BERT: 0.15); none: all
        num_steps: int = 64,  # of drawing; as many as tokens, and draws are exact
        num_masks: int = 8,  # drawn for each item whose likelihood is estimated
        whole_parts: float = 0.7,  # share of items of several parts that are told part after part
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
        self.drop_prob, self.line = drop_prob, line_of(spec)
        self.whole_parts, self.part = whole_parts, self.line.part
        num = self.line.num_lengths
        self.ends: Tensor | None  # how often items were as long; none where all are
        self.register_buffer("ends", torch.full((num,), PRIOR) if num else None)
        cond_dim = cond_dim if conditions else 0
        self.conditioner = Conditioner(conditions, cond_dim)
        self.mask = special(self.line.vocab_size, mask)
        seen, told = self.line.specs(self.mask, int(start is not None))
        self.network = backbone(seen, told, cond_dim, context_dim=context_dim(conditions, cond_dim))
        if not tells:  # capabilities that are None are none
            vars(self).update(sample=None, fill=None, log_prob=None, predict_next=None)

    @classmethod
    def refuses(cls, spec: Any, conditions: Mapping[str, TensorSpec]) -> RefusedPair | None:
        """Tokens can be hidden, also those of a graph; there must not be too many in a row."""
        advice = "--family vq_vae+masked, which learns tokens first"
        if isinstance(spec, ProductSpec):
            advice = "another view of the data: --set modality.view=tokens"
            plain = all(p.kind == "token" and p.end is None and not p.sizes for _, p in spec)
            if not (plain and spec.pairs):
                what = "of items of parts, only the tokens of graphs are hidden"
                return RefusedPair(what, found=str(spec), hint=advice)
        elif spec.kind != "token":
            return RefusedPair("only tokens can be hidden", found=str(spec), hint=advice)
        return too_long(spec, advice)

    @classmethod
    def train_defaults_for(cls, spec: Any) -> dict[str, Any]:
        """Long items come in smaller batches; rows are cheap, and come in larger ones."""
        if getattr(spec, "sizes", None) is not None:
            return {"lr": 2e-3, "batch_size": 256}
        usual = cls.train_defaults["batch_size"]
        return {**cls.train_defaults, "batch_size": fitting_batch(spec, usual)}

    @classmethod
    def backbone_for(cls, spec: Spec) -> str:
        """One that sees both sides, over a sequence or a graph; columns have no neighbours, and a
        network of theirs reads and tells each by weights of its own."""
        if not isinstance(spec, TensorSpec):
            return super().backbone_for(spec)
        return "mlp" if spec.sizes is not None else network_over(spec, cls.default_backbone)

    # -- learning ----------------------------------------------------------------------------------

    def prepare(self, batch: Batch, generator: torch.Generator) -> None:
        """Count how long items are."""
        self.see_lengths(batch.x)
        if self.ends is not None:
            self.ends.copy_(self.line.counts(self.line.tokens(batch.x)))

    def loss(
        self, batch: Batch, phase: str, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The bound in bits per value, per item, for one share of hidden tokens each."""
        tokens = self.line.tokens(batch.x)
        context = self._context(batch.cond, len(tokens), generator)
        share = stratified(len(tokens), generator).to(tokens.device)
        if self.mask_share is not None:
            share = torch.full_like(share, self.mask_share)
        nats = self._hidden_nats(tokens, share, context, generator)
        bits = self.per_value(nats.sum(1) - self._log_prob_of_length(tokens))
        return bits, by_name(self.spec, nats)

    def log_prob(
        self, x: Tensor, *, cond: Mapping[str, Tensor] | None = None, generator: torch.Generator
    ) -> Tensor:
        """A lower bound of log p(x | cond) in nats, estimated with `num_masks` masks, or with whole
        orders, the same for all items, where items are short. (B,)."""
        tokens = self.line.tokens(x)
        context = self._context(cond, len(tokens))
        if tokens.shape[1] <= MOST_IN_ORDER and self.part is None:
            return self._log_prob_of_length(tokens) + self._in_orders(tokens, context, generator)
        total = torch.zeros(len(tokens), device=tokens.device)
        for number in range(self.num_masks):
            u = rand((len(tokens),), generator).to(tokens.device)
            share = (number + u) / self.num_masks
            total = total + self._hidden_nats(tokens, share, context, generator).sum(1)
        return self._log_prob_of_length(tokens) - total / self.num_masks

    def _in_orders(self, tokens: Tensor, context: Embedded, generator: torch.Generator) -> Tensor:
        """log q of all tokens, one after the other, on average of a few orders: (B,). Each token is
        told once an order, and the orders are the same for all items, so that what differs between
        two items is what they are, and not what was hidden of them."""
        content, length = self.line.content(tokens), tokens.shape[1]
        orders = max(FEWEST_ORDERS, self.num_masks // length)
        total = torch.zeros(len(tokens), device=tokens.device)
        for _ in range(orders):
            rank = rand((length,), generator).argsort().to(tokens.device)
            for place in range(length):
                hidden = content & (rank >= place)
                told = self._told(tokens.masked_fill(hidden, self.mask), tokens, context)
                total = total + (told * (content & (rank == place))).sum(1)
        return total / orders

    def _hidden_nats(
        self, tokens: Tensor, share: Tensor, context: Embedded, generator: torch.Generator
    ) -> Tensor:
        """n/k times the nats of k hidden tokens, k the `share` (B,) of n, at least 1: (B, L), 0
        where none is told. With whole parts, n/j times those of the j that come next."""
        content = self.line.content(tokens)
        count = content.sum(1)  # (B,)
        hidden_count = torch.minimum((share * count).floor().long() + 1, count)
        order, parts = self._order(content, generator, self.whole_parts)
        hidden = told = order < hidden_count[:, None]
        if parts is not None:
            told = hidden & (
                parts == (parts * (order == hidden_count[:, None] - 1)).sum(1)[:, None]
            )
        nats = -self._told(tokens.masked_fill(hidden, self.mask), tokens, context) * told
        return nats * (count / told.sum(1).clamp(min=1))[:, None]

    def _log_prob_of_length(self, tokens: Tensor) -> Tensor:
        """log p(e) of each item's own: (B,); zero where all items are as long."""
        return self.line.log_prob_of_length(tokens, self.ends)

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
        top_k: int | None = None,
        top_p: float | None = None,
        legal: Legality | None = None,  # what items may become: then they are told left to right
    ) -> Any:
        """All tokens hidden at first, then told in random order. (num, *shape)."""
        tokens = torch.zeros(num, self.line.length, dtype=torch.int64, device=self.device)
        hidden = torch.ones_like(tokens, dtype=torch.bool)
        within = Limits(temperature, top_k, top_p)
        drawn = self._reveal(tokens, hidden, cond, generator, (num_steps, within, legal))
        return self.line.items(drawn)

    @torch.no_grad()
    def fill(
        self,
        x: Any,
        known: Any,
        *,
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator,
        num_steps: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        legal: Legality | None = None,  # kept to as long as what is known keeps to it
    ) -> Any:
        """Draw the unknown tokens, in random order, each seeing all that is known or drawn."""
        held, within = self.line.known(known, x), Limits(temperature, top_k, top_p)
        how = num_steps, within, legal
        drawn = self._reveal(self.line.tokens(x), ~held, cond, generator, how)
        return together(_chosen, [known, x, self.line.items(drawn)])

    def _reveal(
        self,
        tokens: Tensor,
        hidden: Tensor,
        cond: Mapping[str, Tensor] | None,
        generator: torch.Generator,
        how: tuple[int | None, Limits, Legality | None],
    ) -> Tensor:
        """Tokens (B, L), those `hidden` drawn."""
        num_steps, within, legal = how
        if self.ends is not None:
            free = hidden[:, 0].clone()
            tokens, hidden = self.line.ended(tokens, hidden, self.ends, generator)
            if legal is not None:  # nothing is no item
                hidden[:, 0] |= free
        context, order = (
            self._context(cond, len(tokens)),
            self._order(hidden, generator, self.whole_parts)[0],
        )
        count = hidden.sum(1, keepdim=True)  # (B, 1)
        steps = min(num_steps or self.num_steps, int(count.max())) if hidden.any() else 0
        tokens = tokens.masked_fill(hidden, self.mask)

        def told(logits: Tensor) -> Tensor:
            bounded = limited(logits, within).to(generator.device)
            return categorical(bounded, generator).to(tokens)

        if legal is not None and self.spec.end is not None:
            by = partial(self._logits, context=context)
            rules: Any = {"legal": legal, "end": self.spec.end, "mask": self.mask}
            return revealed(tokens, hidden, logits_of=by, again=told, **rules)
        for step in range(steps):
            done, until = count * step // steps, count * (step + 1) // steps
            now = hidden & (order >= done) & (order < until)
            if not bool(now.any()):
                continue
            logits = self._logits(tokens, context).transpose(1, 2)[now]  # (positions, V)
            tokens[now] = told(logits)
        return tokens

    def predict_next(self, prefix: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """Tokens (B, i), 0 <= i < L -> logits of the next (B, V), V the spec's. Where items end, it
        is told as the last one before the end, and the end by how often items are no longer; else
        all after it are hidden."""
        i, line, spec = prefix.shape[1], self.line, self.spec
        first: Tensor | None = getattr(line, "offsets", None)  # of each column's own tokens
        if not isinstance(spec, TensorSpec) or i >= line.length:
            raise RefusedPair(
                "nothing comes next", found=f"{i} tokens of {spec}",
                expected=f"sequences, and fewer than {line.length} tokens of one",
            )  # fmt: skip
        if first is not None:
            prefix = prefix + first[:i]
        after = self.mask if spec.end is None else spec.end
        seen = F.pad(F.pad(prefix, (0, 1), value=self.mask), (0, line.length - i - 1), value=after)
        told = self._logits(seen, self._context(cond, len(prefix)))[:, :, i]
        if spec.end is None or self.ends is None:
            own = 0 if first is None else int(first[i])
            return told[:, own : own + (spec.vocab_size or 1)]
        ends = self.ends[i] / self.ends[i:].sum()
        log_p = told.log_softmax(1) + (1 - ends).clamp(min=1e-12).log()
        return log_p.index_fill(1, torch.tensor(spec.end, device=log_p.device), float(ends.log()))

    # -- encoding ----------------------------------------------------------------------------------

    @property
    def features(self) -> Callable[[Tensor], Tensor]:
        """What stands for items (B, L) -> (B, D): the mean state of what is real of each, or the
        state of its start."""
        if not isinstance(self.network, CanTell):
            raise AttributeError("features")
        return self._features

    @property
    def position_features(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """What stands for each position: items (B, L) -> (B, N, D), and which are real (B, N)."""
        if not isinstance(self.network, CanTell):
            raise AttributeError("position_features")
        return self._states

    def _features(self, x: Tensor) -> Tensor:
        states, real = self._states(x)
        found = states[:, 0] if self.pooling == "first" else mean_of_real(states, real)
        return F.normalize(found, dim=1) if self.normalised else found

    def _states(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.line.tokens(x)
        if self.spec.end is not None:  # what is beyond the longest is not computed
            tokens = tokens[:, : int(self.spec.num_real(tokens).max())]
        inputs = self._inputs(tokens)
        network: Any = self.network
        states = network.features(inputs, *self._context(None, len(x)))  # (B, N, D)
        real = network.in_spec.mask(inputs)
        return states, inputs.new_ones(inputs.shape).bool() if real is None else real

    def _inputs(self, tokens: Tensor) -> Tensor:
        """What the network sees: the start, where there is one, and the tokens."""
        return tokens if self.start is None else F.pad(tokens, (1, 0), value=self.start)

    # -- parts -------------------------------------------------------------------------------------

    def _order(
        self, among: Tensor, generator: torch.Generator, whole_parts: float = 0.0
    ) -> tuple[Tensor, Tensor | None]:
        """A random order of the positions `among` (B, L): each one's place in it, others last; and,
        with a share `whole_parts` of items in which parts come one after the other, which of the
        blocks of its order a position is in."""
        scores, blocks = rand(tuple(among.shape), generator).to(among.device), None
        if whole_parts and self.part:
            num = max(self.part) + 1
            rank = rand((len(among), num), generator).argsort(1)[:, self.part].to(among.device)
            whole = rand((len(among), 1), generator).to(among.device) < whole_parts
            blocks = torch.where(whole, rank, 0)
            scores = (blocks + scores) / num
        scores = scores.masked_fill(~among, 2.0)
        return scores.argsort(1).argsort(1), blocks

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
        return self.line.logits(self._network(tokens, context))

    def _network(self, tokens: Tensor, context: Embedded) -> Any:
        """What the network tells of tokens (B, L), some of them hidden."""
        return self.network.run(self.line.seen(self._inputs(tokens), self.mask), *context)

    def _told(self, seen: Tensor, tokens: Tensor, context: Embedded) -> Tensor:
        """log q(x_i | what is seen): (B, L)."""
        return self.line.log_probs(self._network(seen, context), tokens)


def _chosen(parts: list[Tensor]) -> Tensor:
    known, own, drawn = parts
    return torch.where(known, own, drawn.to(own))
