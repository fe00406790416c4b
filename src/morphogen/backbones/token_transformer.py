r"""A transformer over sequences of tokens: what language models are made of.

    h <- h + attention(norm h),   h <- h + w_down (silu(w_gate norm h) * w_up norm h)

One file is a decoder (causal), an encoder (not), and with a context to look at the decoder of an
encoder-decoder: which of them is a matter of masks. A position sees those of its own document that
are real, not after it (causal), and at most `window` back.

The plain setting is Llama's, and so are the names of its weights (Touvron et al. 2023): what is
trained here runs wherever that does. Rotary positions (Su et al. 2021), RMSNorm (Zhang & Sennrich
2019), SwiGLU (Shazeer 2020), queries that share keys and values (Ainslie et al. 2023), normalised
queries and keys (Henry et al. 2020; then it is Qwen3's layout), sliding windows (Beltagy et al.
2020). `ngrams` adds to each token's embedding those of the pairs, triples .. that end with it,
hashed into a table: what little data teaches soonest.

Legend: B batch, N positions, D model dimension, H heads, K heads of keys and values, E head
dimension, M positions kept, V vocabulary.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from morphogen.backbones import _parts as parts
from morphogen.backbones._attention import (
    CrossAttention,
    SelfAttention,
    check_heads,
    rotary_angles,
)
from morphogen.backbones._parts import is_vector, linear
from morphogen.backbones._sequence import (
    GELU,
    Kept,
    NGrams,
    SwiGLU,
    bare,
    build_norm,
    documents,
    visible,
)
from morphogen.core.backbone import Backbone
from morphogen.core.conditioning import Context, mean_of_real
from morphogen.core.errors import RecipeError
from morphogen.core.spec import TensorSpec

if TYPE_CHECKING:
    from morphogen.backbones._decoding import Decoding

LETTERS = 512  # tokens at most that stand for letters or bytes, and mean little alone
# Logits computed at once for a loss, on CPUs and elsewhere: more are computed in turn, and twice.
MOST_LOGITS = {"cpu": 1 << 24, "cuda": 1 << 32}
FEW_HEADS = 32  # features of a head, where the network is small


class TokenTransformer(Backbone):
    """A pre-norm transformer over tokens, in Llama's layout unless told otherwise."""

    attends = True
    own_vocabulary = True  # as those that are published
    recomputes = True

    def __init__(
        self,
        in_spec: TensorSpec,
        out_spec: TensorSpec,
        cond_dim: int = 0,
        causal: bool = False,
        context_dim: int = 0,
        *,
        model_dim: int = 192,  # width of the residual stream
        num_layers: int = 4,  # blocks, each of attention and a feed-forward layer
        num_heads: int | None = None,  # attention heads; none gives heads of 32 features
        num_kv_heads: int | None = None,  # heads of keys and values; none gives one for each head
        hidden_dim: int | None = None,  # width within a feed-forward layer; none gives 8/3 or 4 D
        position: Literal["rotary", "learned"] = "rotary",  # how places are told apart
        rotary_base: float = 10_000.0,  # longest wavelength of rotary positions, over 2 pi
        norm: Literal["rms", "layer"] = "rms",  # RMSNorm or LayerNorm
        mlp: Literal["swiglu", "gelu"] = "swiglu",  # feed-forward layer, gated or not
        qk_norm: bool = False,  # normalise queries and keys
        window: int | None = None,  # positions that attention reaches back; none: all
        across_documents: bool = False,  # attention reaches into the documents before in a window
        tied: bool = False,  # one matrix for embedding tokens and for telling them
        ngrams: int | None = None,  # longest n-gram embedded; none: 6 for texts of letters, else 1
        ngram_slots: int = 1 << 15,  # rows of the table that each length of n-gram is hashed into
        dropout_prob: float = 0.0,  # probability of dropping a branch's feature in training
    ) -> None:
        super().__init__(in_spec, out_spec, cond_dim, causal)
        self.context_dim, self.to_vector = context_dim, is_vector(out_spec)
        self.across_documents, self.window = across_documents, window
        length, vocab_size = in_spec.shape[0], in_spec.vocab_size or 1
        num_heads = check_heads(model_dim, num_heads)
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.head_dim, self.num_layers = model_dim // num_heads, num_layers
        if num_heads % self.num_kv_heads:
            raise RecipeError(
                "heads share keys and values in groups of one size",
                found=f"{num_heads} heads, {num_kv_heads} of keys and values",
                expected="num_kv_heads a divisor of num_heads",
            )
        if window is not None and window < 1:
            raise RecipeError("a window holds the position itself", found=f"window = {window}")
        self.embed_tokens = nn.Embedding(vocab_size, model_dim)
        nn.init.normal_(self.embed_tokens.weight, std=0.02 if tied else 0.5)
        if ngrams is None:
            ngrams = 6 if causal and in_spec.boundary is not None and vocab_size <= LETTERS else 1
        self.ngrams = NGrams(ngrams, ngram_slots, model_dim, vocab_size) if ngrams > 1 else None
        self.places = nn.Embedding(length, model_dim) if position == "learned" else None
        self.cond_proj = linear(cond_dim, model_dim, gain=0.5) if cond_dim else None
        angles = rotary_angles((length,), self.head_dim, rotary_base)
        self.cos: Tensor | None
        self.sin: Tensor | None
        rotary = position == "rotary"
        self.register_buffer("cos", angles.cos() if rotary else None, persistent=False)
        self.register_buffer("sin", angles.sin() if rotary else None, persistent=False)
        self.layers = nn.ModuleList(
            Layer(
                model_dim,
                SelfAttention(model_dim, num_heads, self.num_kv_heads, qk_norm),
                SwiGLU(model_dim, hidden_dim) if mlp == "swiglu" else GELU(model_dim, hidden_dim),
                CrossAttention(model_dim, context_dim, num_heads) if context_dim else None,
                norm=norm,
                dropout_prob=dropout_prob,
            )
            for _ in range(num_layers)
        )
        for layer in self._each_layer():
            layer.start_small(num_layers)
        self.norm = build_norm(norm, model_dim)
        self.head: nn.Module | None = (
            parts.VectorHead(model_dim, out_spec) if self.to_vector else None
        )
        self.lm_head: nn.Linear | None = None
        self.tied = tied and out_spec.channels <= vocab_size and not self.to_vector  # else new rows
        if not self.to_vector and not self.tied:
            self.lm_head = bare(model_dim, out_spec.channels, parts.HEAD_GAIN)

    @classmethod
    def refuses(cls, in_spec: TensorSpec, out_spec: TensorSpec, causal: bool = False) -> str | None:
        """It reads tokens in a row, and tells something of each, or of all."""
        if in_spec.kind != "token" or len(in_spec.shape) != 1:
            return "it reads a sequence of tokens: use transformer"
        if reason := parts.refuses_output(out_spec):
            return reason
        if is_vector(out_spec):
            return "a causal network tells something of each position" if causal else None
        return None if out_spec.space == in_spec.space else "it tells as many positions as it reads"

    # -- all positions at once --------------------------------------------------------------------

    def forward(
        self, x: Tensor, cond: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """(B, N) tokens, (B, cond_dim) -> (B, V, N), or a vector (B, *out). N may be shorter."""
        h = self.features(x, cond, context)
        if self.head is not None:
            return self.head(mean_of_real(h, self.in_spec.mask(x)))
        return self.logits(h).transpose(1, 2)

    def features(
        self, x: Tensor, cond: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """(B, N) tokens -> what the head reads, (B, N, D)."""
        h, mask = self._entered(x, cond)
        rotation = self._rotation(slice(x.shape[1]))  # (N, E / 2)
        for layer in self._each_layer():
            h = self.through(layer, h, rotation, mask, self.causal, context)
        return self.norm(h)

    def seen(
        self, x: Tensor, cond: Tensor | None = None, context: Context | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What enters (B, N, D), the logits (B, N, V), and what each layer and head looked at
        (layers, B, H, N, N): see `core.explaining.ShowsAttention`."""
        h, mask = self._entered(x, cond)
        entered, looked = h.detach().requires_grad_(), []
        h, rotation = entered, self._rotation(slice(x.shape[1]))
        for layer in self._each_layer():
            query, key, _ = layer.self_attn.project(layer.input_layernorm(h), rotation)
            looked.append(layer.self_attn.looked_at(query, key, mask, self.causal))
            h = layer(h, rotation, mask, self.causal, context)
        return entered, self.logits(self.norm(h)), torch.stack(looked)

    def _entered(self, x: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What enters the first layer (B, N, D), and what each position may look at."""
        h = self._embedded(x, self.ngrams(x) if self.ngrams is not None else None, cond)
        if self.places is not None:
            h = h + self.places.weight[: x.shape[1]]
        return h, visible(
            x,
            real=None if self.causal else self.in_spec.mask(x),
            document=None if self.across_documents else documents(x, self.in_spec.boundary),
            window=self.window,
            causal=self.causal,
        )

    def logits(self, h: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        if self.lm_head is not None:
            return self.lm_head(h)
        return F.linear(h, self.embed_tokens.weight[: self.out_spec.channels])

    def log_probs(
        self,
        x: Tensor,
        told: Tensor,
        cond: Tensor | None = None,
        context: Context | None = None,
        *,
        among: int | None = None,
    ) -> Tensor:
        """log p of the tokens `told` (B, N) at each position of x (B, N), in nats: (B, N). With
        `among`, given that each is one of the first so many.

        As from `forward`, but the logits of a large vocabulary are never there all at once.
        """
        h = self.features(x, cond, context).flatten(0, 1)  # (B N, D)
        rows = max(MOST_LOGITS.get(x.device.type, 1 << 24) // self.out_spec.channels, 1)
        if len(h) <= rows:
            return self._told(h, told.flatten(), among).view_as(told)
        turns = zip(torch.split(h, rows), torch.split(told.flatten(), rows), strict=True)
        found = [checkpoint(self._told, *turn, among, use_reentrant=False) for turn in turns]
        return torch.cat(found).view_as(told)

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile what training calls: the loss with all before it."""
        super().compile(*args, **options)
        self.__dict__["log_probs"] = torch.compile(self.log_probs, *args, **options)

    def _told(self, h: Tensor, told: Tensor, among: int | None) -> Tensor:
        logits = self.logits(h)[:, :among].float()
        return -F.cross_entropy(logits, told, reduction="none")

    def _rotation(self, places: Tensor | slice) -> tuple[Tensor, Tensor] | None:
        if self.cos is None or self.sin is None:
            return None
        return self.cos[places], self.sin[places]

    def _each_layer(self) -> Iterator[Layer]:
        return typing.cast("Iterator[Layer]", iter(self.layers))

    def _embedded(self, x: Tensor, ngrams: Tensor | None, cond: Tensor | None) -> Tensor:
        h = self.embed_tokens(x)
        h = h if ngrams is None else h + ngrams
        return h if self.cond_proj is None else h + self.cond_proj(cond)[:, None]

    # -- a few positions more ---------------------------------------------------------------------

    def kept(self, num: int, length: int | None = None) -> Kept:
        """Room for what `num` sequences of up to `length` tokens leave behind."""
        length = self.in_spec.shape[0] if length is None else length
        weight = self.embed_tokens.weight
        shape = (num, self.num_kv_heads, length, self.head_dim)
        return Kept(
            [(weight.new_zeros(shape), weight.new_zeros(shape)) for _ in range(self.num_layers)],
            torch.zeros(num, dtype=torch.int64, device=weight.device),
            torch.zeros(num, dtype=torch.int64, device=weight.device),
            None if self.ngrams is None else self.ngrams.before(num, weight.device),
        )

    def rows(self, num: int, room: int | None = None) -> Decoding:
        """`num` sequences that go on side by side, on a CPU: `core.backbone.Rows`."""
        from morphogen.backbones._decoding import Decoding  # what compiles takes a second to load

        return Decoding(self, num, room or self.in_spec.shape[0])

    @torch.no_grad()
    def advance(
        self, x: Tensor, kept: Kept, cond: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """(B, n) tokens that follow what is `kept`, each row at its own place -> (B, n, V).

        Keys and values are written in place; `kept.length` moves on by n.
        """
        return self.logits(self.read(x, kept, cond, context))

    @torch.no_grad()
    def read(
        self, x: Tensor, kept: Kept, cond: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """As `advance`, but what the head reads: (B, n, D)."""
        new = x.shape[1]
        places = kept.length[:, None] + torch.arange(new, device=x.device)  # (B, n)
        if int(places.max()) >= kept.room:
            raise IndexError(f"there is room for {kept.room} positions, and all are taken")
        ngrams = None
        if self.ngrams is not None and kept.before is not None:
            both = torch.cat([kept.before, x], dim=1)
            ngrams = self.ngrams(both)[:, -new:]
            kept.before = both[:, new:]
        h = self._embedded(x, ngrams, cond)
        if self.places is not None:
            h = h + self.places(places)
        first = kept.starts(x, places, None if self.across_documents else self.in_spec.boundary)
        if self.window is not None:
            first = torch.maximum(first, places - self.window + 1)
        until = int(places.max()) + 1
        keys = torch.arange(until, device=x.device)
        seen = (keys <= places[..., None]) & (keys >= first[..., None])  # (B, n, M)
        rotation = self._rotation(places[:, None])  # (B, 1, n, E / 2)
        for layer, pair in zip(self._each_layer(), kept.layers, strict=True):
            h = layer.advance(
                h, rotation, pair=pair, places=places, seen=seen[:, None], context=context
            )
        kept.length = kept.length + new
        return self.norm(h)

    @torch.no_grad()
    def step(
        self,
        token: Tensor,
        cond: Tensor | None = None,
        state: Any = None,
        context: Context | None = None,
    ) -> tuple[Tensor, Any]:
        """token (B,) at the next position -> logits (B, V) there, new state: see `advance`."""
        assert self.causal, "only a causal network can step"
        state = self.kept(len(token)) if state is None else state
        return self.advance(token[:, None], state, cond, context)[:, 0], state


class Layer(nn.Module):
    """Attention and a feed-forward layer, each on what is normalised, and added; between them,
    where there is a context, attention to it."""

    def __init__(
        self,
        dim: int,
        self_attn: SelfAttention,
        mlp: SwiGLU | GELU,
        cross_attn: CrossAttention | None,
        *,
        norm: str,
        dropout_prob: float,
    ) -> None:
        super().__init__()
        self.self_attn, self.mlp, self.cross_attn = self_attn, mlp, cross_attn
        self.input_layernorm = build_norm(norm, dim)
        self.post_attention_layernorm = build_norm(norm, dim)
        self.dropout = nn.Dropout(dropout_prob)

    def start_small(self, num_layers: int) -> None:
        """Branches add up: each starts smaller, the more there are."""
        for branch in (self.self_attn.o_proj, self.mlp.down_proj):
            nn.init.normal_(branch.weight, std=(2 * num_layers * branch.in_features) ** -0.5)

    def forward(
        self,
        h: Tensor,
        rotation: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        causal: bool,
        context: Context | None,
    ) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        query, key, value = self.self_attn.project(self.input_layernorm(h), rotation)
        mixed = self.self_attn.mix(query, key, value, mask, causal and mask is None)
        return self._rest(h + self.dropout(mixed), context)

    def advance(
        self,
        h: Tensor,
        rotation: tuple[Tensor, Tensor] | None,
        *,
        pair: tuple[Tensor, Tensor],
        places: Tensor,
        seen: Tensor,
        context: Context | None,
    ) -> Tensor:
        """(B, n, D) at `places` (B, n), seeing the keys of `pair` (B, K, room, E) that are `seen`
        (B, 1, n, M) -> (B, n, D)."""
        query, key, value = self.self_attn.project(self.input_layernorm(h), rotation)
        rows = torch.arange(len(h), device=h.device)[:, None]
        for buffer, new in zip(pair, (key, value), strict=True):
            buffer[rows, :, places] = new.transpose(1, 2)
        keys, values = (buffer[:, :, : seen.shape[-1]] for buffer in pair)
        return self._rest(h + self.self_attn.mix(query, keys, values, seen), context)

    def _rest(self, h: Tensor, context: Context | None) -> Tensor:
        if self.cross_attn is not None:
            assert context is not None, "this network was built to attend to a context: pass it"
            h = h + self.dropout(self.cross_attn(parts.normalise(h, -1), context))
        return h + self.dropout(self.mlp(self.post_attention_layernorm(h)))
