"""How llama.cpp names what it runs: the layouts of GGUF files, beside those of `transformers`.

    layers.0.self_attn.q_proj.weight  <->  blk.0.attn_q.weight, its rows in another order
    model_dim                         <->  llama.embedding_length

Of rotary positions that are scaled as Llama 3.1's, GGUF has what each frequency is divided by, and
not the four numbers that it follows from: those are the usual ones, where they give the same.

In the architecture `llama` (Mistral's and SmolLM's models are called so as well) the pairs that
rotary positions turn lie side by side, in the others half a head apart, as here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from morphogen.core.errors import BundleError
from morphogen.core.rotary import slowed
from morphogen.interop.gguf import GGUF, some
from morphogen.interop.layout import Facts, Interleaved, Joined, Layout, Step, Word, renamed

# What a bundle has no place for, wherever it is more than 0 or nothing.
ODD = (
    "expert_count", "attention.sliding_window", "rope.scaling.factor", "rope.scaling.type",
    "attention.value_residual_mix_lora_rank",
)  # fmt: skip
NONE = ("none", 0, 0.0, 1.0, False, None)


def _shortest(value: Any) -> Any:
    """float32 1e-5 as 1e-5, not as 9.99999974e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _words(name: str, *left_out: str, eps: str = "layer_norm_rms_epsilon") -> dict[str, Word]:
    """Facts of a network -> what GGUF calls them; the last is seen from the tensors."""
    every = {
        "model_dim": Word(f"{name}.embedding_length"),
        "num_layers": Word(f"{name}.block_count"),
        "length": Word(f"{name}.context_length"),
        "num_heads": Word(f"{name}.attention.head_count"),
        "num_kv_heads": Word(f"{name}.attention.head_count_kv"),
        "head_dim": Word(f"{name}.attention.key_length"),
        "hidden_dim": Word(f"{name}.feed_forward_length"),
        "rotary_base": Word(f"{name}.rope.freq_base", 10_000.0, back=_shortest),
        "eps": Word(f"{name}.attention.{eps}", 1e-5, back=_shortest),
        "vocab_size": Word(f"{name}.vocab_size"),
        "tied": Word("tied"),
    }
    return {fact: word for fact, word in every.items() if fact not in left_out}


FREQUENCIES = "rope_freqs.weight"
USUAL = (1.0, 4.0, 8192.0)  # low, high and L of Llama 3.1 to 3.3


class Frequencies(Step):
    """What each frequency of rotary positions is divided by, (E / 2,): no weight of ours."""

    def there(self, own: Sequence[Tensor], facts: Facts) -> Tensor:
        """From the four numbers."""
        return _divisors(facts, facts["rotary_scaling"])

    def back(self, their: Tensor, facts: Facts) -> Sequence[Tensor]:
        """They are among the facts already."""
        return []


def _divisors(facts: Facts, scaling: Sequence[float]) -> Tensor:
    return 1 / slowed(facts["head_dim"], facts["rotary_base"], scaling)


def _scaling(divisors: Tensor, facts: Facts, file: GGUF) -> list[float]:
    """The four numbers. Raises `BundleError` where they are not the usual ones."""
    scaling = [round(float(divisors.max()), 3), *USUAL]
    wanted = _divisors(facts, scaling)
    if divisors.shape != wanted.shape or not torch.allclose(divisors, wanted, rtol=1e-3):
        raise BundleError(
            "rotary positions are scaled in a way that is not known here",
            found=f"{FREQUENCIES}, {float(divisors.min()):.3g} to {float(divisors.max()):.3g}",
            expected="as Llama 3.1 has it", where=file.path,
            hint="import the folder of transformers that the file was made from",
        )  # fmt: skip
    return scaling


INSIDE = {
    "input_layernorm": "attn_norm", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip
QUERIES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k"}


def _layers(names: Mapping[str, str]) -> dict[str, str]:
    return {f"layers.{{}}.{own}": f"blk.{{}}.{their}" for own, their in names.items()}


LLAMA = Layout(
    "llama",
    "llama",
    has={},
    words=_words("llama"),
    says={},
    outside=renamed({"embed_tokens": "token_embd", "norm": "output_norm"}),
    layer=(
        *renamed(_layers(INSIDE)),
        Interleaved(("layers.{}.self_attn.q_proj.weight",), "blk.{}.attn_q.weight"),
        Interleaved(("layers.{}.self_attn.k_proj.weight",), "blk.{}.attn_k.weight", "num_kv_heads"),
    ),
    head=renamed({"lm_head": "output"}),
    ignores="^$",
)

SCALED = replace(
    LLAMA,
    words={**LLAMA.words, "rotary_scaling": Word("rotary_scaling")},
    outside=(*LLAMA.outside, Frequencies((), FREQUENCIES)),
)

QWEN2 = replace(
    LLAMA,
    model_type="qwen2",
    has={"bias": "qkv"},
    words=_words("qwen2"),
    layer=(
        *renamed(_layers(INSIDE | QUERIES)),
        *renamed(_layers({f"self_attn.{each}_proj": f"attn_{each}" for each in "qkv"}), "bias"),
    ),
)

QWEN3 = replace(
    LLAMA,
    model_type="qwen3",
    has={"qk_norm": True},
    words=_words("qwen3"),
    layer=renamed(
        _layers(INSIDE | QUERIES | {f"self_attn.{e}_norm": f"attn_{e}_norm" for e in "qk"})
    ),
)

GPT2 = Layout(
    "gpt2",
    "gpt2",
    has={
        "position": "learned", "norm": "layer", "bias": "all", "mlp": "gelu", "grouped": False,
        "uneven": False,
    },
    words=_words("gpt2", "num_kv_heads", "head_dim", "rotary_base", eps="layer_norm_epsilon"),
    says={},
    outside=(
        *renamed({"embed_tokens": "token_embd", "places": "position_embd"}),
        *renamed({"norm": "output_norm"}, "weight", "bias"),
    ),
    layer=(
        *renamed(
            _layers({
                "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
                "self_attn.o_proj": "attn_output", "mlp.up_proj": "ffn_up",
                "mlp.down_proj": "ffn_down",
            }),
            "weight", "bias",
        ),
        *(
            Joined(
                tuple(f"layers.{{}}.self_attn.{name}_proj.{kind}" for name in "qkv"),
                f"blk.{{}}.attn_qkv.{kind}",
            )
            for kind in ("weight", "bias")
        ),
    ),
    head=renamed({"lm_head": "output"}),
    ignores="^$",
)  # fmt: skip

LAYOUTS = (LLAMA, QWEN2, QWEN3, GPT2, SCALED)
BY_NAME = {layout.model_type: layout for layout in LAYOUTS if layout is not SCALED}
SEEN = ("tied", "rotary_scaling")  # facts that stand in no word, but in tensors


def layout_of(file: GGUF) -> Layout:
    """The table of a file. Raises `BundleError` where there is none."""
    name = file.facts.get("general.architecture")
    if name not in BY_NAME:
        raise BundleError(
            "this architecture of GGUF has no table yet",
            found=repr(name), expected=", ".join(BY_NAME), where=file.path,
            hint="import the folder of transformers that the file was made from",
        )  # fmt: skip
    return SCALED if name == "llama" and FREQUENCIES in file.tensors else BY_NAME[name]


def facts_of(file: GGUF, layout: Layout) -> dict[str, Any]:
    """What a file says of its network. Raises `BundleError` for what a bundle has no place for, or
    sizes that are missing."""
    own = file.facts | {"tied": "output.weight" not in file.tensors}
    name = layout.model_type
    odd = [f"{name}.{word}" for word in ODD if own.get(f"{name}.{word}") not in NONE]
    if odd:
        raise BundleError(
            "the model has something that a bundle has no place for",
            found=some(odd), where=file.path,
            hint="import the folder of transformers that the file was made from",
        )  # fmt: skip
    if embedding := file.tensors.get("token_embd.weight"):
        own[f"{name}.vocab_size"] = embedding.shape[0]
    needed = ("model_dim", "num_layers", "length", "num_heads", "vocab_size")
    words = [layout.words[fact].name for fact in needed]
    if missing := [word for word in words if not _is_size(own.get(word))]:
        raise BundleError(
            "the file does not say the sizes of its network", expected=some(missing),
            where=file.path,
        )  # fmt: skip
    facts = layout.facts(own)
    if "head_dim" in facts:
        facts["num_kv_heads"] = facts["num_kv_heads"] or facts["num_heads"]
        facts["head_dim"] = facts["head_dim"] or facts["model_dim"] // facts["num_heads"]
        turned = own.get(f"{name}.rope.dimension_count", facts["head_dim"])
        if turned != facts["head_dim"]:
            raise BundleError(
                "only a part of each head turns with its place, which no bundle has",
                found=turned, expected=facts["head_dim"], where=file.path,
            )  # fmt: skip
    if layout is SCALED:
        facts["rotary_scaling"] = _scaling(file.tensors[FREQUENCIES].tensor(), facts, file)
    return facts


def _is_size(value: object) -> bool:
    return isinstance(value, int) and 0 < value < 2**31


def facts_for(layout: Layout, facts: Facts) -> dict[str, Any]:
    """Inverse of `facts_of`: what a file says of a network."""
    told = {word.name: facts[fact] for fact, word in layout.words.items() if fact not in SEEN}
    if "head_dim" in layout.words:
        name = layout.model_type
        told[f"{name}.attention.value_length"] = facts["head_dim"]
        told[f"{name}.rope.dimension_count"] = facts["head_dim"]
    return {"general.architecture": layout.model_type} | told
