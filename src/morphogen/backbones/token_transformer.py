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
dimension, V vocabulary.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from morphogen.backbones import _parts as parts
from morphogen.backbones._attention import (
    CrossAttention,
    Rotary,
    SelfAttention,
    check_attention,
    check_heads,
)
from morphogen.backbones._block import Layer, MaskedHead, Place
from morphogen.backbones._parts import is_vector, linear
from morphogen.backbones._sequence import (
    EPS,
    NGrams,
    bare,
    build_mlp,
    build_norm,
    documents,
    visible,
)
from morphogen.backbones._stepping import Stepping
from morphogen.core.backbone import Backbone
from morphogen.core.condition_readers import mean_of_real
from morphogen.core.conditioning import Context
from morphogen.core.errors import RecipeError
from morphogen.core.spec import TensorSpec

Feed = Literal["swiglu", "gelu", "geglu", "gelu_erf", "geglu_erf"]
LETTERS = 512  # tokens at most that stand for letters or bytes
# Logits computed at once for a loss, on CPUs and elsewhere: more are computed in turn, and twice.
MOST_LOGITS = {"cpu": 1 << 25, "cuda": 1 << 32}


class TokenTransformer(Stepping, Backbone):
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
        head_dim: int | None = None,  # features of a head; none shares out model_dim
        hidden_dim: int | None = None,  # width within a feed-forward layer; none gives 8/3 or 4 D
        position: Literal["rotary", "learned"] = "rotary",  # how places are told apart
        rotary_base: float = 10_000.0,  # longest wavelength of rotary positions, over 2 pi
        rotary_scaling: list[float] | None = None,  # of long ones, as Llama 3.1: s, low, high, L
        norm: Literal["rms", "layer", "layer_bare"] = "rms",  # RMSNorm, LayerNorm; bare: no offsets
        norm_place: Place = "before",  # where they stand: before branches, after the sum, or both
        eps: float = EPS,  # that norms add to a variance
        embed_norm: bool = False,  # normalise what enters, so not before the first attention
        mlp: Feed = "swiglu",  # feed-forward layer: gated (glu) or not, by its activation
        bias: Literal["none", "qkv", "all"] = "none",  # offsets of linear layers
        qk_norm: bool = False,  # normalise queries and keys
        window: int | None = None,  # positions that attention reaches back; none: all
        pattern: str = "l",  # layers in turn: l(ocal) ones have the window, g(lobal) ones do not
        local_base: float | None = None,  # rotary_base of local layers; none: the same
        across_documents: bool = False,  # attention reaches into the documents before in a window
        tied: bool = False,  # one matrix for embedding tokens and for telling them
        scaled: bool = False,  # embeddings are multiplied by the root of model_dim
        token_types: int = 0,  # rows of kinds of tokens, of which all are the first; 0: none
        masked_head: bool = False,  # one more layer before tokens are told, as BERT's
        softcap: float | None = None,  # that scores of attention stay below
        final_softcap: float | None = None,  # that logits stay below
        ngrams: int | None = None,  # longest n-gram embedded; none: in texts 6 of letters, or 2
        ngram_slots: int = 1 << 15,  # rows of the table that each length of n-gram is hashed into
        dropout_prob: float = 0.0,  # probability of dropping a branch's feature in training
        prompt: int = 0,  # learned vectors that stand before every text: see `wrappers.prompt`
    ) -> None:
        super().__init__(in_spec, out_spec, cond_dim, causal)
        self.context_dim, self.to_vector = context_dim, is_vector(out_spec)
        self.across_documents, self.window = across_documents, window
        self.parted_by = None if across_documents else in_spec.boundary  # what it looks not past
        length, vocab_size = in_spec.shape[0], in_spec.vocab_size or 1
        num_heads = check_heads(model_dim, num_heads, head_dim)
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.head_dim, self.num_layers = head_dim or model_dim // num_heads, num_layers
        check_attention(num_heads, self.num_kv_heads, window, pattern, rotary_scaling)
        local = [pattern[number % len(pattern)] == "l" for number in range(num_layers)]
        self.kinds = sorted(set(local))  # of layers: False global, True local
        self.embed_tokens = nn.Embedding(vocab_size, model_dim)
        nn.init.normal_(self.embed_tokens.weight, std=0.02 if tied else 0.5)
        self.scale = model_dim**0.5 if scaled else 1.0
        if ngrams is None:
            windows = causal and in_spec.boundary is not None
            ngrams = (6 if vocab_size <= LETTERS else 2) if windows else 1
        self.ngrams = NGrams(ngrams, ngram_slots, model_dim, vocab_size) if ngrams > 1 else None
        self.places = nn.Embedding(length, model_dim) if position == "learned" else None
        self.types = nn.Embedding(token_types, model_dim) if token_types else None
        self.cond_proj = linear(cond_dim, model_dim, gain=0.5) if cond_dim else None
        self.rotary: Rotary | None = None
        self.local_rotary: Rotary | None = None
        if position == "rotary":
            self.rotary = Rotary(length, self.head_dim, rotary_base, rotary_scaling)
            self.local_rotary = self.rotary
            if local_base is not None:
                self.local_rotary = Rotary(length, self.head_dim, local_base)
        build = functools.partial(build_norm, norm, model_dim, eps)
        self.embed_norm = build() if embed_norm else None
        self.layers = nn.ModuleList(
            Layer(
                SelfAttention(
                    model_dim, num_heads, self.num_kv_heads, self.head_dim,
                    qk_norm=qk_norm, eps=eps, bias=bias, softcap=softcap,
                ),
                build_mlp(mlp, model_dim, hidden_dim, bias == "all"),
                CrossAttention(model_dim, context_dim, num_heads) if context_dim else None,
                norm=build,
                place=norm_place,
                is_entered_normal=embed_norm and number == 0,
                is_local=is_local,
                dropout_prob=dropout_prob,
            )
            for number, is_local in enumerate(local)
        )  # fmt: skip
        for layer in self._each_layer():
            layer.start_small(num_layers)
        self.norm = nn.Identity() if norm_place == "after" else build()
        self._build_head(tied, mlp if masked_head else None, build, bias == "all")
        self.final_softcap = final_softcap
        self.prompt: nn.Parameter | None = None
        if prompt:
            self.begin_with(prompt)

    def begin_with(self, num: int) -> None:
        """Let so many vectors stand before every text, which begin as words of the vocabulary."""
        if self.places is not None:
            raise RecipeError("learned places leave no room before a text", found="learned places",
                              expected="position = rotary")  # fmt: skip
        words = self.embed_tokens.weight.detach()
        drawn = torch.randint(len(words), (num,), device=words.device)
        self.prompt = nn.Parameter(words[drawn] * self.scale)
        for rotary in filter(None, {self.rotary, self.local_rotary}):
            rotary.reach(num + self.in_spec.shape[0])

    @property
    def num_before(self) -> int:
        """Vectors that stand before every text."""
        return 0 if self.prompt is None else len(self.prompt)

    def _build_head(
        self, tied: bool, masked: str | None, build: Callable[[], nn.Module], bias: bool
    ) -> None:
        """What tells tokens, or a vector."""
        dim, out_spec = self.embed_tokens.embedding_dim, self.out_spec
        self.head = parts.VectorHead(dim, out_spec) if self.to_vector else None
        few = out_spec.channels <= self.embed_tokens.num_embeddings
        self.tied = tied and few and not self.to_vector  # else new rows
        self.lm_head: nn.Linear | None = None
        if not self.to_vector and not self.tied:
            self.lm_head = bare(dim, out_spec.channels, parts.HEAD_GAIN)
        self.masked_head: MaskedHead | None = None
        self.head_bias: nn.Parameter | None = None
        if masked is not None:
            act = {"swiglu": "silu"}.get(masked, masked.replace("geglu", "gelu"))
            self.masked_head = MaskedHead(dim, act, build(), bias)
            self.head_bias = nn.Parameter(torch.zeros(out_spec.channels))

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
        entered, masks = self._entered(x, cond)
        h = self._begun(entered)
        rotations = self._rotations(slice(h.shape[1]))  # (N, E / 2)
        for layer in self._each_layer():
            seen = rotations[layer.is_local], masks[layer.is_local]
            h = self.through(layer, h, *seen, self.causal, context)
        return self.norm(h)[:, self.num_before :]

    def seen(
        self, x: Tensor, cond: Tensor | None = None, context: Context | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What enters (B, N, D), the logits (B, N, V), and what each layer and head looked at
        (layers, B, H, N, N): see `core.explaining.ShowsAttention`."""
        h, masks = self._entered(x, cond)
        entered, looked, own = h.detach().requires_grad_(), [], slice(self.num_before, None)
        h = self._begun(entered)
        rotations = self._rotations(slice(h.shape[1]))
        for layer in self._each_layer():
            rotation, mask = rotations[layer.is_local], masks[layer.is_local]
            query, key, _ = layer.self_attn.project(layer.input_layernorm(h), rotation)
            seen = layer.self_attn.looked_at(query, key, mask, self.causal)
            looked.append(seen[..., own, own])
            h = layer(h, rotation, mask, self.causal, context)
        return entered, self.logits(self.norm(h)[:, own]), torch.stack(looked)

    def _entered(self, x: Tensor, cond: Tensor | None) -> tuple[Tensor, dict[bool, Tensor | None]]:
        """What enters the first layer (B, N, D), and what each position may look at in layers of
        each kind."""
        ngrams = self.ngrams(x) if self.ngrams is not None else None
        h = self._embedded(x, ngrams, cond, slice(x.shape[1]))
        real = None if self.causal else self.in_spec.mask(x)
        document = documents(x, self.parted_by)
        return h, {
            is_local: visible(
                x, real=real, document=document, window=self.window if is_local else None,
                causal=self.causal, before=self.num_before,
            )
            for is_local in self.kinds
        }  # fmt: skip

    def _begun(self, h: Tensor) -> Tensor:
        """What enters (B, N, D), with what stands before every text."""
        return h if self.prompt is None else torch.cat([self.prompt.expand(len(h), -1, -1), h], 1)

    def logits(self, h: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        h = h if self.masked_head is None else self.masked_head(h)
        lm_head = self.embed_tokens if self.lm_head is None else self.lm_head
        told = F.linear(h, lm_head.weight[: self.out_spec.channels], self.head_bias)
        cap = self.final_softcap
        return told if cap is None else cap * (told / cap).tanh()

    def log_probs(
        self,
        x: Tensor,
        told: Tensor,
        cond: Tensor | None = None,
        context: Context | None = None,
        *,
        among: int | None = None,
        real: Tensor | None = None,
        smoothing: float = 0.0,
    ) -> Tensor:
        """log p of the tokens `told` (B, N) at each position of x (B, N), in nats: (B, N). With
        `among`, given that each is one of the first so many; 0 where it is not `real` (B, N). Of a
        `smoothing`, so much of each is the mean over all tokens, as in training some do.

        As from `forward`, but the logits of a large vocabulary are never there all at once.
        """
        h = self.features(x, cond, context)
        if real is None:
            return self._each_told(h.flatten(0, 1), told.flatten(), among, smoothing).view_as(told)
        found = self._each_told(h[real], told[real], among, smoothing)
        return h.new_zeros(told.shape).masked_scatter(real, found)

    def _each_told(self, h: Tensor, told: Tensor, *how: Any) -> Tensor:
        """(M, D), (M,) -> (M,)."""
        rows = max(MOST_LOGITS.get(h.device.type, 1 << 24) // self.out_spec.channels, 1)
        if len(h) <= rows:
            return self._told(h, told, *how)
        turns = zip(torch.split(h, rows), torch.split(told, rows), strict=True)
        return torch.cat([checkpoint(self._told, *t, *how, use_reentrant=False) for t in turns])

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile what training calls: the loss with all before it."""
        super().compile(*args, **options)
        self.__dict__["log_probs"] = torch.compile(self.log_probs, *args, **options)

    def _told(self, h: Tensor, told: Tensor, among: int | None, smoothing: float) -> Tensor:
        logits = self.logits(h)[:, :among].float()
        return -F.cross_entropy(logits, told, reduction="none", label_smoothing=smoothing)

    def _rotations(self, places: Tensor | slice) -> dict[bool, tuple[Tensor, Tensor] | None]:
        """The angles of places in layers of each kind."""
        turning = {False: self.rotary, True: self.local_rotary}
        return {kind: each(places) if (each := turning[kind]) else None for kind in self.kinds}

    def _each_layer(self) -> Iterator[Layer]:
        return typing.cast("Iterator[Layer]", iter(self.layers))

    def _embedded(
        self, x: Tensor, ngrams: Tensor | None, cond: Tensor | None, places: Tensor | slice
    ) -> Tensor:
        h = self.embed_tokens(x)
        h = h if self.scale == 1 else h * self.scale
        h = h if ngrams is None else h + ngrams
        h = h if self.cond_proj is None else h + self.cond_proj(cond)[:, None]
        h = h if self.types is None else h + self.types.weight[0]
        h = h if self.places is None else h + self.places.weight[places]
        return h if self.embed_norm is None else self.embed_norm(h)
