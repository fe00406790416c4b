"""How published encoders name and lay out their weights: a table for each, with a head that tells
hidden tokens and without one.

BERT: Devlin et al. 2019. ModernBERT: Warner et al. 2024.
"""

from __future__ import annotations

from dataclasses import replace

from morphogen.interop.layout import Joined, Layout, Step, Word, renamed
from morphogen.interop.words import activation, pattern

# How items are told apart, what a pool of states is fed to, and the weights of the embedding again.
_BERT_IGNORES = r"position_ids$|^(bert\.)?pooler\.|^cls\.seq_relationship\.|^cls\..*\.decoder\."

BERT = Layout(
    "bert",
    "BertForMaskedLM",
    has={
        "position": "learned", "norm": "layer", "norm_place": "after", "embed_norm": True,
        "bias": "all", "masked_head": True, "tied": True, "grouped": False, "uneven": False,
    },
    words={
        "model_dim": Word("hidden_size", 768),
        "num_layers": Word("num_hidden_layers", 12),
        "length": Word("max_position_embeddings", 512),
        "num_heads": Word("num_attention_heads", 12),
        "hidden_dim": Word("intermediate_size", 3072),
        "token_types": Word("type_vocab_size", 2),
        "mlp": activation("hidden_act", "gelu"),
        "eps": Word("layer_norm_eps", 1e-12),
        "vocab_size": Word("vocab_size"),
    },
    says={"position_embedding_type": "absolute", "is_decoder": False, "tie_word_embeddings": True},
    outside=(
        *renamed({
            "embed_tokens": "embeddings.word_embeddings",
            "places": "embeddings.position_embeddings",
            "types": "embeddings.token_type_embeddings",
        }),
        *renamed({"embed_norm": "embeddings.LayerNorm"}, "weight", "bias"),
    ),
    layer=renamed(
        {
            f"layers.{{}}.{own}": f"encoder.layer.{{}}.{their}"
            for own, their in {
                "self_attn.q_proj": "attention.self.query",
                "self_attn.k_proj": "attention.self.key",
                "self_attn.v_proj": "attention.self.value",
                "self_attn.o_proj": "attention.output.dense",
                "attention_norm": "attention.output.LayerNorm",
                "mlp.up_proj": "intermediate.dense",
                "mlp.down_proj": "output.dense",
                "mlp_norm": "output.LayerNorm",
            }.items()
        },
        "weight", "bias",
    ),
    head=(),
    beside=(
        *renamed({
            "masked_head.dense": "cls.predictions.transform.dense",
            "masked_head.norm": "cls.predictions.transform.LayerNorm",
        }, "weight", "bias"),
        Step(("head_bias",), "cls.predictions.bias"),
    ),
    prefix="bert.",
    ignores=_BERT_IGNORES,
    family="masked",
)  # fmt: skip

MODERNBERT = Layout(
    "modernbert",
    "ModernBertForMaskedLM",
    has={
        "norm": "layer_bare", "embed_norm": True, "mlp": "geglu_erf", "masked_head": True,
        "tied": True, "grouped": False, "uneven": False,
    },
    words={
        "model_dim": Word("hidden_size", 768),
        "num_layers": Word("num_hidden_layers", 22),
        "length": Word("max_position_embeddings", 8192),
        "num_heads": Word("num_attention_heads", 12),
        "hidden_dim": Word("intermediate_size", 1152),
        "rotary_base": Word("global_rope_theta", 160_000.0),
        "local_base": Word("local_rope_theta", 10_000.0),
        "window": Word(  # theirs is on both sides together
            "local_attention", 128, lambda reach, facts: 2 * (reach - 1), lambda told: told // 2 + 1
        ),
        "pattern": pattern("gll"),
        "eps": Word("norm_eps", 1e-5),
        "vocab_size": Word("vocab_size"),
    },
    says={
        "hidden_activation": "gelu", "norm_bias": False, "attention_bias": False,
        "mlp_bias": False, "classifier_bias": False, "classifier_activation": "gelu",
        "decoder_bias": True, "tie_word_embeddings": True, "global_attn_every_n_layers": 3,
    },
    outside=renamed({
        "embed_tokens": "embeddings.tok_embeddings", "embed_norm": "embeddings.norm",
        "norm": "final_norm",
    }),
    layer=(
        *renamed({
            "layers.{}.input_layernorm": "layers.{}.attn_norm",
            "layers.{}.post_attention_layernorm": "layers.{}.mlp_norm",
            "layers.{}.self_attn.o_proj": "layers.{}.attn.Wo",
            "layers.{}.mlp.down_proj": "layers.{}.mlp.Wo",
        }),
        Joined(
            tuple(f"layers.{{}}.self_attn.{name}_proj.weight" for name in "qkv"),
            "layers.{}.attn.Wqkv.weight",
        ),
        Joined(
            ("layers.{}.mlp.gate_proj.weight", "layers.{}.mlp.up_proj.weight"),
            "layers.{}.mlp.Wi.weight",
        ),
    ),
    head=(),
    beside=(
        *renamed({"masked_head.dense": "head.dense", "masked_head.norm": "head.norm"}),
        Step(("head_bias",), "decoder.bias"),
    ),
    not_first=frozenset({"layers.{}.attn_norm.weight"}),
    prefix="model.",
    ignores=r"^decoder\.weight$",
    family="masked",
)  # fmt: skip


def _headless(layout: Layout, architecture: str, ignores: str) -> Layout:
    """The same without its head."""
    has = {**layout.has, "masked_head": False}
    return replace(layout, architecture=architecture, has=has, beside=(), ignores=ignores)


ENCODERS = (
    BERT,
    _headless(BERT, "BertModel", rf"{_BERT_IGNORES}|^cls\."),
    MODERNBERT,
    _headless(MODERNBERT, "ModernBertModel", r"^(decoder|head)\."),
)
