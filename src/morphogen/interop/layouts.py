"""How published language models name and lay out their weights: a table for each.

Llama: Touvron et al. 2023. Mistral: Jiang et al. 2023. Qwen2: Yang et al. 2024. Qwen3: Yang et al.
2025. Gemma: Gemma Team 2024, 2025. GPT-2: Radford et al. 2019.
"""

from __future__ import annotations

from dataclasses import replace

from morphogen.interop.layout import (
    Joined,
    JoinedAndTurned,
    Layout,
    Shifted,
    Step,
    Turned,
    Word,
    renamed,
    same,
)
from morphogen.interop.layouts_encoders import ENCODERS
from morphogen.interop.words import SCALED, activation, pattern

LLAMA = Layout(
    "llama",
    "LlamaForCausalLM",
    has={},
    words={
        "model_dim": Word("hidden_size"),
        "num_layers": Word("num_hidden_layers"),
        "length": Word("max_position_embeddings", 2048),
        "num_heads": Word("num_attention_heads"),
        "num_kv_heads": Word("num_key_value_heads"),
        "head_dim": Word("head_dim"),
        "hidden_dim": Word("intermediate_size"),
        "rotary_base": Word("rope_theta", 10_000.0),
        "rotary_scaling": SCALED,
        "eps": Word("rms_norm_eps", 1e-6),
        "tied": Word("tie_word_embeddings", False),
        "vocab_size": Word("vocab_size"),
    },
    says={"hidden_act": "silu", "attention_bias": False, "mlp_bias": False},
    outside=same("embed_tokens.weight", "norm.weight"),
    layer=same(
        *(
            f"layers.{{}}.{name}.weight"
            for name in (
                "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                "self_attn.o_proj", "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj",
                "mlp.down_proj",
            )
        )
    ),
    head=same("lm_head.weight"),
    prefix="model.",
)  # fmt: skip

MISTRAL = replace(  # Llama's weights, and a word for windows
    LLAMA,
    model_type="mistral",
    architecture="MistralForCausalLM",
    words={**LLAMA.words, "window": Word("sliding_window")},
    says={"hidden_act": "silu"},
)

QWEN2 = replace(  # Llama's weights, and offsets of queries, keys and values
    LLAMA,
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    has={"bias": "qkv"},
    says={"hidden_act": "silu", "use_sliding_window": False},
    layer=(
        *LLAMA.layer,
        *same(*(f"layers.{{}}.self_attn.{name}_proj.bias" for name in "qkv")),
    ),
)

QWEN3 = replace(  # Llama's weights, and norms of queries and keys
    LLAMA,
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    has={"qk_norm": True},
    says={"hidden_act": "silu", "attention_bias": False, "use_sliding_window": False},
    layer=(
        *LLAMA.layer,
        *same(*(f"layers.{{}}.self_attn.{name}_norm.weight" for name in "qk")),
    ),
)


def _windows(layout: Layout) -> Layout:
    """The same where all layers have a window."""
    says = {**layout.says, "use_sliding_window": True, "max_window_layers": 0}
    return replace(layout, words=MISTRAL.words, says=says)


def _gains(*names: str) -> tuple[Step, ...]:
    return tuple(Shifted((f"{name}.weight",), f"{name}.weight") for name in names)


GEMMA = replace(  # Llama's weights, gains less one; embeddings are multiplied
    LLAMA,
    model_type="gemma",
    architecture="GemmaForCausalLM",
    has={"mlp": "geglu", "scaled": True},
    words={
        **LLAMA.words,
        "tied": Word("tie_word_embeddings", True),
        "head_dim": Word("head_dim", 256),
    },
    says={"hidden_act": "gelu_pytorch_tanh", "attention_bias": False},
    outside=(*same("embed_tokens.weight"), *_gains("norm")),
    layer=(
        *(step for step in LLAMA.layer if "norm" not in step.theirs),
        *_gains("layers.{}.input_layernorm", "layers.{}.post_attention_layernorm"),
    ),
)

GEMMA2 = replace(  # norms before branches and after, scores and logits that stay below a number
    GEMMA,
    model_type="gemma2",
    architecture="Gemma2ForCausalLM",
    has={**GEMMA.has, "norm_place": "both"},
    words={
        **GEMMA.words,
        "window": Word("sliding_window", 4096),
        "pattern": pattern("lg"),
        "query_dim": Word("query_pre_attn_scalar", 256),
        "softcap": Word("attn_logit_softcapping", 50.0),
        "final_softcap": Word("final_logit_softcapping", 30.0),
    },
    says={"hidden_activation": "gelu_pytorch_tanh", "attention_bias": False},
    layer=(
        *(step for step in LLAMA.layer if "norm" not in step.theirs),
        *(
            Shifted((f"layers.{{}}.{own}.weight",), f"layers.{{}}.{their}.weight")
            for own, their in (
                ("input_layernorm", "input_layernorm"),
                ("attention_norm", "post_attention_layernorm"),
                ("post_attention_layernorm", "pre_feedforward_layernorm"),
                ("mlp_norm", "post_feedforward_layernorm"),
            )
        ),
    ),
)

GEMMA3 = replace(  # and norms of queries and keys, other angles of local layers
    GEMMA2,
    model_type="gemma3_text",
    architecture="Gemma3ForCausalLM",
    has={**GEMMA2.has, "qk_norm": True},
    words={
        **GEMMA2.words,
        "rotary_base": Word("rope_theta", 1_000_000.0),
        "local_base": Word("rope_local_base_freq", 10_000.0),
        "pattern": pattern("lllllg"),
        "softcap": Word("attn_logit_softcapping"),
        "final_softcap": Word("final_logit_softcapping"),
    },
    layer=(*GEMMA2.layer, *_gains(*(f"layers.{{}}.self_attn.{name}_norm" for name in "qk"))),
)

GPT2 = Layout(
    "gpt2",
    "GPT2LMHeadModel",
    has={
        "position": "learned", "norm": "layer", "bias": "all", "grouped": False, "uneven": False,
    },
    words={
        "model_dim": Word("n_embd", 768),
        "num_layers": Word("n_layer", 12),
        "length": Word("n_positions", 1024),
        "num_heads": Word("n_head", 12),
        "hidden_dim": Word("n_inner"),
        "mlp": activation("activation_function", "gelu_new"),
        "eps": Word("layer_norm_epsilon", 1e-5),
        "tied": Word("tie_word_embeddings", True),
        "vocab_size": Word("vocab_size"),
    },
    says={
        "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
    },
    outside=(
        *renamed({"embed_tokens": "wte", "places": "wpe"}),
        *renamed({"norm": "ln_f"}, "weight", "bias"),
    ),
    layer=(
        *renamed(
            {"layers.{}.input_layernorm": "h.{}.ln_1",
             "layers.{}.post_attention_layernorm": "h.{}.ln_2"},
            "weight", "bias",
        ),
        JoinedAndTurned(
            tuple(f"layers.{{}}.self_attn.{name}_proj.weight" for name in "qkv"),
            "h.{}.attn.c_attn.weight",
        ),
        Turned(("layers.{}.self_attn.o_proj.weight",), "h.{}.attn.c_proj.weight"),
        Turned(("layers.{}.mlp.up_proj.weight",), "h.{}.mlp.c_fc.weight"),
        Turned(("layers.{}.mlp.down_proj.weight",), "h.{}.mlp.c_proj.weight"),
        Joined(
            tuple(f"layers.{{}}.self_attn.{name}_proj.bias" for name in "qkv"),
            "h.{}.attn.c_attn.bias",
        ),
        *renamed(
            {"layers.{}.self_attn.o_proj": "h.{}.attn.c_proj",
             "layers.{}.mlp.up_proj": "h.{}.mlp.c_fc",
             "layers.{}.mlp.down_proj": "h.{}.mlp.c_proj"},
            "bias",
        ),
    ),
    head=same("lm_head.weight"),
    prefix="transformer.",
    ignores=r"\.attn\.(masked_)?bias$",  # which positions are seen
)  # fmt: skip

# The first that fits is taken.
LAYOUTS = (
    LLAMA, MISTRAL, QWEN2, _windows(QWEN2), QWEN3, _windows(QWEN3), GEMMA, GEMMA2, GEMMA3, GPT2,
    *ENCODERS,
)  # fmt: skip
