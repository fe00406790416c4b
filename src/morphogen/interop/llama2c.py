"""A model of llama2.c as if it were a GGUF file: seven numbers, then the weights one after another.

    dim  hidden_dim  layers  heads  kv_heads  vocabulary  length | embedding, attention norms, q ..

The vocabulary lies beside it, in `tokN.bin` (N tokens) or `tokenizer.bin`: a score and a text for
each. A negative size of the vocabulary says that the head has a matrix of its own.

Format: github.com/karpathy/llama2.c, its first one ("version 0").
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from morphogen.core.errors import BundleError
from morphogen.core.storage import expanded
from morphogen.interop.gguf import GGUF, Stored
from morphogen.interop.gguf_tokens import BYTE, CONTROL, NORMAL, OWN, SPACE, UNKNOWN

HEADER = struct.Struct("<7i")
NAMES = ("embedding_length", "feed_forward_length", "block_count", "attention.head_count",
         "attention.head_count_kv", "vocab_size", "context_length")  # fmt: skip
START, END, BYTES = 1, 2, range(3, 259)
LARGEST = 1 << 20  # of any of the seven numbers


def read_llama2c(path: Path | str) -> GGUF:
    """The model at `path`, and the vocabulary beside it. Raises `BundleError` for another file."""
    path = expanded(path)
    data = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
    sizes = HEADER.unpack(data[: HEADER.size].tobytes()) if len(data) >= HEADER.size else (0,)
    tied, sizes = sizes[-2:-1] > (0,), tuple(map(abs, sizes))
    if len(sizes) < 7 or not all(0 < size <= LARGEST for size in sizes) or sizes[0] % sizes[3]:
        raise BundleError("this is no model of llama2.c", found=f"it begins with {sizes}",
                          expected=", ".join(NAMES), where=path)  # fmt: skip
    tensors: dict[str, Stored] = {}
    place = HEADER.size
    for name, shape in _laid_out(sizes, tied):
        size = 4 * math.prod(shape)
        if not name.startswith("rotary"):  # two tables that are computed anew
            stored = data[place : place + size]
            if len(stored) < size:
                raise BundleError(
                    "the file is cut short", found=f"{len(data):,} bytes",
                    expected=f"{name} up to {place + size:,}", where=path,
                )  # fmt: skip
            tensors |= {each.name: each for each in _in_layers(name, shape, stored)}
        place += size
    facts: dict[str, Any] = {f"llama.{name}": size for name, size in zip(NAMES, sizes, strict=True)}
    facts |= {"general.architecture": "llama", "llama.attention.layer_norm_rms_epsilon": 1e-5}
    return GGUF(facts | _vocabulary(path, sizes[5]), tensors, path)


def _laid_out(sizes: tuple[int, ...], tied: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes in the order of the file; `{}` stands for each layer in turn."""
    dim, hidden, layers, heads, kv_heads, vocab, length = sizes
    kv_dim = dim // heads * kv_heads
    yield "token_embd.weight", (vocab, dim)
    yield "blk.{}.attn_norm.weight", (layers, dim)
    yield "blk.{}.attn_q.weight", (layers, dim, dim)
    yield "blk.{}.attn_k.weight", (layers, kv_dim, dim)
    yield "blk.{}.attn_v.weight", (layers, kv_dim, dim)
    yield "blk.{}.attn_output.weight", (layers, dim, dim)
    yield "blk.{}.ffn_norm.weight", (layers, dim)
    yield "blk.{}.ffn_gate.weight", (layers, hidden, dim)
    yield "blk.{}.ffn_down.weight", (layers, dim, hidden)
    yield "blk.{}.ffn_up.weight", (layers, hidden, dim)
    yield "output_norm.weight", (dim,)
    yield "rotary", (length, dim // heads)
    if not tied:
        yield "output.weight", (vocab, dim)


def _in_layers(name: str, shape: tuple[int, ...], data: np.ndarray) -> Iterator[Stored]:
    if "{}" not in name:
        yield Stored(name, shape, "F32", data)
        return
    for number, part in enumerate(data.reshape(shape[0], -1)):
        yield Stored(name.format(number), shape[1:], "F32", part)


def _vocabulary(path: Path, num: int) -> dict[str, Any]:
    """What a GGUF file would say of the tokens."""
    places = [path.with_name(name) for name in (f"tok{num}.bin", "tokenizer.bin")]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise BundleError("the vocabulary is not beside the model", where=path.parent,
                          expected=" or ".join(place.name for place in places))  # fmt: skip
    data, place = file.read_bytes(), 4  # the first number: the longest token
    tokens, scores = [], []
    while place < len(data):
        try:
            score, size = struct.unpack_from("<fi", data, place)
            text = data[place + 8 : place + 8 + size].decode()
        except (struct.error, UnicodeDecodeError) as error:
            raise BundleError(f"the vocabulary is damaged: {error}", where=file) from error
        tokens.append(text.replace(" ", SPACE))
        scores.append(score)
        place += 8 + max(size, 0)
    if len(tokens) != num or num <= BYTES.stop:
        raise BundleError("the vocabulary is that of another model", found=f"{len(tokens)} tokens",
                          expected=f"{num}, bytes among them", where=file)  # fmt: skip
    tokens[START], tokens[END] = "<s>", "</s>"  # there with line breaks round them
    types = [BYTE if number in BYTES else NORMAL for number in range(num)]
    types[0], types[START], types[END] = UNKNOWN, CONTROL, CONTROL
    return {
        OWN + "model": "llama", OWN + "tokens": tokens, OWN + "scores": scores,
        OWN + "token_type": types, OWN + "bos_token_id": START, OWN + "eos_token_id": END,
        OWN + "unknown_token_id": 0, OWN + "add_bos_token": True,
    }  # fmt: skip
