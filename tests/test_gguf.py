"""GGUF: what is written is what the `gguf` package reads, and the other way round."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from morphogen.core.errors import BundleError, RecipeError
from morphogen.interop.gguf import ALIGNMENT, KINDS, read_gguf, write_gguf

FACTS: dict[str, Any] = {
    "general.architecture": "llama", "llama.block_count": 2, "llama.rope.freq_base": 1e4,
    "tokenizer.ggml.tokens": ["a", "ö", ""], "tokenizer.ggml.token_type": [1, 3, -1],
    "tokenizer.ggml.scores": [0.0, -1.5, 2.0], "tokenizer.ggml.add_bos_token": True,
}  # fmt: skip


def tensors() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = {"token_embd.weight": (6, 256), "blk.0.attn_q.weight": (4, 512), "norm.weight": (7,)}
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def written(path: Path, kind: str = "F32", facts: dict[str, Any] = FACTS) -> Path:
    return write_gguf(
        path / "model.gguf", facts, tensors(), lambda _, t: kind if t.dim() > 1 else "F32"
    )


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"])
def test_the_library_reads_what_is_written(tmp_path: Path, kind: str) -> None:
    there = gguf.GGUFReader(written(tmp_path, kind))
    for name, value in FACTS.items():
        found = there.get_field(name)
        assert found is not None
        assert found.contents() == value
    own = read_gguf(tmp_path / "model.gguf")
    assert own.facts == FACTS
    assert [each.name for each in there.tensors] == list(own.tensors) == list(tensors())
    for each in there.tensors:
        tensor = own.tensors[each.name].tensor()
        expected = gguf.quants.dequantize(each.data, each.tensor_type)
        np.testing.assert_array_equal(tensor.numpy(), expected)
        exact = kind == "F32" or tensor.dim() == 1
        error = (tensor - tensors()[each.name]).abs().max()
        assert (error == 0) if exact else (0 < error < 0.5)


def test_every_type_has_the_blocks_of_the_library(tmp_path: Path) -> None:
    """Blocks of any bytes make the same numbers."""
    draw = np.random.default_rng(0)
    for kind, (number, per_block, num_bytes) in KINDS.items():
        type_ = gguf.GGMLQuantizationType[kind]
        assert (type_, gguf.GGML_QUANT_SIZES[type_]) == (number, (per_block, num_bytes))
        writer = gguf.GGUFWriter(tmp_path / f"{kind}.gguf", "llama")
        blocks = draw.integers(0, 100, (3, 2 * num_bytes), dtype=np.uint8)
        if kind == "F32":
            blocks = blocks.view(np.float32)
        writer.add_tensor("x", blocks, raw_dtype=type_)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        (found,) = read_gguf(tmp_path / f"{kind}.gguf").tensors.values()
        assert found.kind == kind
        expected = gguf.quants.dequantize(blocks, type_)
        np.testing.assert_array_equal(found.tensor().numpy(), expected.reshape(found.shape))


def test_a_file_that_is_cut_short_is_told(tmp_path: Path) -> None:
    """Wherever: no crash of another kind, and tensors that are gone are named."""
    file = written(tmp_path)
    whole = file.read_bytes()
    for size in [0, 3, 7, 30, 100, 300, len(whole) // 2, len(whole) - ALIGNMENT - 1]:
        file.write_bytes(whole[:size])
        with pytest.raises(BundleError, match=r"cut short|no GGUF"):
            read_gguf(file)
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BundleError, match=r"blk\.0\.attn_q\.weight, norm\.weight"):
        read_gguf(file)


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 500), value=st.binary(min_size=1, max_size=8))
def test_damaged_files_end_in_our_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: bytes
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    data = bytearray(written(folder).read_bytes())
    data[place : place + len(value)] = value
    (folder / "model.gguf").write_bytes(data)
    with contextlib.suppress(BundleError):
        for tensor in read_gguf(folder / "model.gguf").tensors.values():
            assert tensor.tensor().shape == tensor.shape


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    file = written(tmp_path)
    whole = file.read_bytes()
    refused = [
        (b"GGML" + whole[4:], "no GGUF"),
        (whole[:4] + struct.pack("<I", 1) + whole[8:], "version 1"),
        (whole[:4] + struct.pack(">I", 3) + whole[8:], "big-endian"),
        (whole.replace(b"llama.block_count", b"llama.block_coun\xff"), "UTF-8"),
    ]
    for data, told in refused:
        file.write_bytes(data)
        with pytest.raises(BundleError, match=told):
            read_gguf(file)
    entry = b"norm.weight" + struct.pack("<IQ", 1, 7)
    file.write_bytes(whole.replace(entry + bytes(4), entry + struct.pack("<I", 29)))
    with pytest.raises(BundleError, match=r"not known here(.|\n)*norm\.weight \(type 29\)"):
        read_gguf(file)
    with pytest.raises(RecipeError, match="not written"):
        written(tmp_path, "Q4_K")


def test_version_2_reads_the_same(tmp_path: Path) -> None:
    file = written(tmp_path)
    data = file.read_bytes()
    file.write_bytes(data[:4] + struct.pack("<I", 2) + data[8:])
    assert read_gguf(file).facts == FACTS
