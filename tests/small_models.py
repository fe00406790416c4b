"""Language models of a few thousand weights, with tokenizers of their own: real in every part."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import torch

from morphogen.core.bundle import Bundle
from morphogen.core.recipe import Recipe, build_family, resolve
from morphogen.core.spec import TensorSpec
from morphogen.interop.vocabulary import to_library
from morphogen.modalities.text import Text
from morphogen.modalities.text.chat import CHATML
from morphogen.modalities.text.tokenizers import BPE, Library, Tokenizer

CORPUS = ["the harbour lay still; the harbour slept, and 12 boats with it.\n", "a  b 🙂 naïve"] * 3
MARKS = ("<|im_start|>", "<|im_end|>")


def trained() -> BPE:
    """Byte-level BPE of a few words."""
    return BPE.train(CORPUS, 300)


def with_marks() -> Library:
    """The same as others would hand it out, with the marks of conversations."""
    told = to_library(trained())
    first = max(told["model"]["vocab"].values()) + 1
    added = [
        {**told["added_tokens"][0], "id": first + i, "content": m} for i, m in enumerate(MARKS)
    ]
    told["added_tokens"] += added
    return Library(json.dumps(told), end=first + 1)


def language_model(
    tokenizer: Tokenizer,
    *,
    length: int = 48,
    start: int | None = None,
    whole: bool = False,
    std: float = 0.2,
    **options: Any,
) -> Bundle:
    """Random weights, far from nothing, over windows of a stream or `whole` texts."""
    codec = Text()
    codec.tokenizer, codec.windows = tokenizer, None if whole else length
    ending = {"end" if whole else "boundary": tokenizer.end}
    codec.spec = TensorSpec.tokens(length, tokenizer.vocab_size, **ending)
    small = {"model_dim": 64, "num_layers": 2, "num_heads": 4, "ngrams": 1, **options}
    recipe = Recipe(family={"name": "autoregressive", "start": start},
                    backbone={"name": "token_transformer", **small})  # fmt: skip
    torch.manual_seed(0)
    family = build_family(recipe, codec.spec, {})
    for parameter in family.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return Bundle(family.eval(), codec, resolve(recipe, codec.spec))


def answering(answer: str = "hi", length: int = 64) -> Bundle:
    """A model that answers so, whatever it is asked: its layers do nothing, and its head tells what
    follows each token, so that each may come but once."""
    tokenizer = with_marks()
    bundle = language_model(tokenizer, length=length, start=tokenizer.marks[MARKS[0]])
    network: Any = bundle.family.network
    follow = [*tokenizer.encode(f"\n{answer}".encode()).tolist(), tokenizer.marks[MARKS[1]]]
    with torch.no_grad():
        for layer in network.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        network.norm.weight.fill_(1)
        network.lm_head.weight.zero_()
        for token, after in pairwise(follow):
            network.lm_head.weight[after] += network.embed_tokens.weight[token]
    bundle.origin = {"source": "here", "chat_template": CHATML, "marks": {"eos_token": MARKS[1]}}
    return bundle
