"""How published architectures name and lay out their weights: a table for each, read both ways.

    ours                                 theirs
    layers.0.self_attn.q_proj.weight  ->  model.layers.0.self_attn.q_proj.weight
    q_proj, k_proj, v_proj            ->  h.0.attn.c_attn.weight, one below the other and turned

A table is data: the options of `token_transformer` that an architecture has, its words for those
that it leaves open, what else its config.json says, and steps, each of which has an inverse.
Writing and reading are therefore one table.

Llama: Touvron et al. 2023. Mistral: Jiang et al. 2023. Qwen3: Yang et al. 2025. GPT-2: Radford et
al. 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from morphogen.core.errors import BundleError

EPS = 1e-6  # of every norm of `token_transformer`


@dataclass(frozen=True)
class Step:
    """One tensor under two names; `{}` stands for the number of a layer."""

    ours: tuple[str, ...]
    theirs: str

    def there(self, own: Sequence[Tensor], facts: Mapping[str, Any]) -> Tensor:
        """Tensors of ours -> one of theirs."""
        return own[0]

    def back(self, their: Tensor, name: str) -> Sequence[Tensor]:
        """Inverse of `there`. Raises `BundleError` for what has no place here."""
        return [their]


class Turned(Step):
    """The same, with rows for columns."""

    def there(self, own: Sequence[Tensor], facts: Mapping[str, Any]) -> Tensor:
        return own[0].T

    def back(self, their: Tensor, name: str) -> Sequence[Tensor]:
        return [their.T]


class Joined(Step):
    """Several of one size that are one there, turned."""

    def there(self, own: Sequence[Tensor], facts: Mapping[str, Any]) -> Tensor:
        return torch.cat(list(own)).T

    def back(self, their: Tensor, name: str) -> Sequence[Tensor]:
        return their.T.chunk(len(self.ours))


@dataclass(frozen=True)
class Zeros(Step):
    """Offsets, which layers here are without: `times` as many as the fact `of`."""

    of: str = "model_dim"
    times: int = 1

    def there(self, own: Sequence[Tensor], facts: Mapping[str, Any]) -> Tensor:
        return torch.zeros(self.times * facts[self.of])

    def back(self, their: Tensor, name: str) -> Sequence[Tensor]:
        if their.any():
            raise BundleError(
                "the weights have offsets, and the layers of token_transformer none",
                found=f"{name}, up to {float(their.abs().max()):.3g}",
                expected="zeros",
            )
        return []


@dataclass(frozen=True)
class Layout:
    """One architecture."""

    model_type: str
    architecture: str
    has: Mapping[str, Any]  # facts of a network that fits; see `export.facts_of`
    words: Mapping[str, str]  # fact -> what config.json calls it
    says: Mapping[str, Any]  # what else stands there
    outside: tuple[Step, ...]
    layer: tuple[Step, ...]
    head: Step = field(default_factory=lambda: _same("lm_head.weight"))  # unless it is tied

    def misfits(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Facts that this architecture has otherwise, as it has them."""
        return {name: value for name, value in self.has.items() if facts[name] != value}

    def to_theirs(self, own: Mapping[str, Tensor], facts: Mapping[str, Any]) -> dict[str, Tensor]:
        """Weights of a network -> those of a file. Raises `BundleError` for one without place."""
        left = dict(own)
        found = {
            step.theirs: step.there([left.pop(name) for name in step.ours], facts)
            for step in self._steps(facts["num_layers"], facts["tied"])
        }
        if left:
            raise BundleError(f"{self.model_type} has no place for a weight", found=min(left))
        return found

    def to_ours(
        self, their: Mapping[str, Tensor], num_layers: int, tied: bool
    ) -> dict[str, Tensor]:
        """Inverse of `to_theirs`. Raises `BundleError` for a weight missing, or one too many."""
        left = dict(their)
        found: dict[str, Tensor] = {}
        for step in self._steps(num_layers, tied):
            if step.theirs not in left:
                raise BundleError("a weight is missing", expected=step.theirs)
            found |= dict(
                zip(step.ours, step.back(left.pop(step.theirs), step.theirs), strict=True)
            )
        if left:
            raise BundleError("there is no place here for a weight", found=min(left))
        return found

    def _steps(self, num_layers: int, tied: bool) -> Iterator[Step]:
        yield from self.outside
        for number in range(num_layers):
            for step in self.layer:
                names = tuple(name.format(number) for name in step.ours)
                yield replace(step, ours=names, theirs=step.theirs.format(number))
        if not tied:
            yield self.head


def _same(name: str, prefix: str = "") -> Step:
    return Step((name,), prefix + name)


# -- the tables ------------------------------------------------------------------------------------

_NO_PLACE_ANYWHERE = {"ngrams": 1}

LLAMA = Layout(
    "llama",
    "LlamaForCausalLM",
    has={
        "position": "rotary", "norm": "rms", "mlp": "swiglu", "qk_norm": False, "window": None,
        **_NO_PLACE_ANYWHERE,
    },
    words={
        "model_dim": "hidden_size", "num_layers": "num_hidden_layers", "length":
        "max_position_embeddings", "num_heads": "num_attention_heads", "num_kv_heads":
        "num_key_value_heads", "head_dim": "head_dim", "hidden_dim": "intermediate_size",
        "rotary_base": "rope_theta", "tied": "tie_word_embeddings", "vocab_size": "vocab_size",
    },
    says={"hidden_act": "silu", "rms_norm_eps": EPS, "attention_bias": False},
    outside=(
        _same("embed_tokens.weight", "model."),
        _same("norm.weight", "model."),
    ),
    layer=tuple(
        _same(f"layers.{{}}.{name}.weight", "model.")
        for name in (
            "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
            "self_attn.o_proj", "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj",
            "mlp.down_proj",
        )
    ),
)  # fmt: skip

MISTRAL = replace(  # Llama's weights, and a word for windows
    LLAMA,
    model_type="mistral",
    architecture="MistralForCausalLM",
    has={name: value for name, value in LLAMA.has.items() if name != "window"},
    words={**LLAMA.words, "window": "sliding_window"},
    says={"hidden_act": "silu", "rms_norm_eps": EPS},
)

QWEN3 = replace(  # Llama's weights, and norms of queries and keys
    LLAMA,
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    has={**LLAMA.has, "qk_norm": True},
    says={**LLAMA.says, "use_sliding_window": False},
    layer=(
        *LLAMA.layer,
        *(_same(f"layers.{{}}.self_attn.{name}_norm.weight", "model.") for name in "qk"),
    ),
)

QWEN3_WINDOWS = replace(
    QWEN3,
    has={**MISTRAL.has, "qk_norm": True},
    words=MISTRAL.words,
    says={**LLAMA.says, "use_sliding_window": True, "max_window_layers": 0},
)


def _gpt2(ours: str, theirs: str) -> Step:
    return Step((ours,), f"transformer.{theirs}")


GPT2 = Layout(
    "gpt2",
    "GPT2LMHeadModel",
    has={
        "position": "learned", "norm": "layer", "mlp": "gelu", "qk_norm": False, "window": None,
        "grouped": False, **_NO_PLACE_ANYWHERE,
    },
    words={
        "model_dim": "n_embd", "num_layers": "n_layer", "length": "n_positions", "num_heads":
        "n_head", "hidden_dim": "n_inner", "tied": "tie_word_embeddings", "vocab_size":
        "vocab_size",
    },
    says={"activation_function": "gelu_new", "layer_norm_epsilon": EPS, "scale_attn_weights": True},
    outside=(
        _gpt2("embed_tokens.weight", "wte.weight"),
        _gpt2("places.weight", "wpe.weight"),
        _gpt2("norm.weight", "ln_f.weight"),
        _gpt2("norm.bias", "ln_f.bias"),
    ),
    layer=(
        *(
            _gpt2(f"layers.{{}}.{ours}.{kind}", f"h.{{}}.{theirs}.{kind}")
            for ours, theirs in (("input_layernorm", "ln_1"), ("post_attention_layernorm", "ln_2"))
            for kind in ("weight", "bias")
        ),
        Joined(
            tuple(f"layers.{{}}.self_attn.{name}_proj.weight" for name in "qkv"),
            "transformer.h.{}.attn.c_attn.weight",
        ),
        Zeros((), "transformer.h.{}.attn.c_attn.bias", times=3),
        Turned(("layers.{}.self_attn.o_proj.weight",), "transformer.h.{}.attn.c_proj.weight"),
        Zeros((), "transformer.h.{}.attn.c_proj.bias"),
        Turned(("layers.{}.mlp.up_proj.weight",), "transformer.h.{}.mlp.c_fc.weight"),
        Zeros((), "transformer.h.{}.mlp.c_fc.bias", of="hidden_dim"),
        Turned(("layers.{}.mlp.down_proj.weight",), "transformer.h.{}.mlp.c_proj.weight"),
        Zeros((), "transformer.h.{}.mlp.c_proj.bias"),
    ),
)  # fmt: skip

LAYOUTS = (LLAMA, MISTRAL, QWEN3, QWEN3_WINDOWS, GPT2)  # the first that fits is taken
