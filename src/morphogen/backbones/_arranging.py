"""The weights of a `TokenTransformer`, copied into the order in which a compiled step reads them.

Legend: D model dimension, H heads, K heads of keys and values, E head dimension, L layers, I inputs
and O outputs of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.backbones import _compiled, _drawn
from morphogen.backbones._lanes import LANES
from morphogen.backbones._products import Array, Matrix
from morphogen.backbones._sequence import EPS, GLU, PRIMES
from morphogen.core.rounded import rounded


def arranged(network: Any) -> _compiled.Weights:
    """A second copy of the weights, in the order in which a step reads them."""
    layers, size = list(network.layers), network.head_dim
    attention, mlp = [layer.self_attn for layer in layers], [layer.mlp for layer in layers]
    gated = isinstance(mlp[0], GLU)
    norms = [norm for x in layers for norm in (x.input_layernorm, x.post_attention_layernorm)]
    heads = [norm for x in attention for norm in (x.q_norm, x.k_norm) if norm is not None]
    told = network.embed_tokens if network.lm_head is None else network.lm_head
    rows, nothing = network.out_spec.channels, torch.zeros(0, size // 2)
    return _compiled.Weights(
        qkv=_matrix(
            [(x.q_proj, x.k_proj, x.v_proj) for x in attention],
            lambda parts: _whole_heads(torch.cat(parts), size),
        ),
        qkv_bias=_stacked([
            _whole_heads(torch.cat([x.q_proj.bias, x.k_proj.bias, x.v_proj.bias]), size)
            for x in attention
        ]) if attention[0].q_proj.bias is not None else _EMPTY[2],
        out=_matrix([(x.o_proj,) for x in attention], columns=partial(_whole_columns, size=size)),
        up=_matrix(
            [(x.gate_proj, x.up_proj) if gated else (x.up_proj,) for x in mlp],
            lambda parts: torch.cat([_padded(part, 0) for part in parts]),
        ),
        down=_matrix([(x.down_proj,) for x in mlp]),
        norms=_norms([*norms, network.norm]),
        head_norms=_norms(heads) if heads else _NONE,
        cos=_array(nothing if network.rotary is None else network.rotary.cos),
        sin=_array(nothing if network.rotary is None else network.rotary.sin),
        head=_matrix([(told,)], lambda parts: parts[0][:rows]),
        gated=gated,
        size=size,
    )  # fmt: skip


def arranged_beside(network: Any) -> _compiled.Beside:
    """The same of attention to a context, before there is one."""
    branches = [layer.cross_attn for layer in network.layers if layer.cross_attn is not None]
    size, dim = network.head_dim, network.embed_tokens.embedding_dim
    if not branches:
        return _NOTHING
    return _NOTHING._replace(
        norms=_norms([nn.LayerNorm(dim, EPS)]),
        query=_matrix([(x.query,) for x in branches], lambda parts: _whole_heads(parts[0], size)),
        query_bias=_stacked([_whole_heads(x.query.bias, size) for x in branches]),
        head_norms=_norms([x.query_norm for x in branches]),
        out=_matrix([(x.out,) for x in branches], columns=partial(_whole_columns, size=size)),
        out_bias=_stacked([x.out.bias for x in branches]),
    )


def entry(network: Any) -> _drawn.Entry:
    """The embeddings as they lie, so long as the network is there."""
    ngrams, nothing = network.ngrams, torch.zeros(0, 0)
    tables = [] if ngrams is None else [table.weight for table in ngrams.tables]
    return _drawn.Entry(
        tokens=_array(network.embed_tokens.weight),
        ngrams=np.array([table.data_ptr() for table in tables], np.int64),
        primes=np.array([PRIMES[i % len(PRIMES)] for i in range(len(tables))], np.int64),
        slots=0 if ngrams is None else ngrams.slots,
        vocab_size=0 if ngrams is None else ngrams.vocab_size,
        places=_array(nothing if network.places is None else network.places.weight),
    )


def _norms(norms: Sequence[Any]) -> _compiled.Norms:
    scale = torch.stack([norm.weight for norm in norms])
    shifts = [getattr(norm, "bias", None) for norm in norms]
    shift = [torch.zeros_like(scale[0]) if each is None else each for each in shifts]
    is_centred = isinstance(norms[0], nn.LayerNorm)
    eps = norms[0].eps
    return _compiled.Norms(_array(_padded(scale)), _stacked(shift), is_centred, eps, scale.shape[1])


def _matrix(
    layers: Sequence[Sequence[nn.Module]],
    rows: Callable[[list[Tensor]], Tensor] = torch.cat,
    columns: Callable[[Tensor], Tensor] = lambda weight: weight,
) -> Matrix:
    """The weights of all layers, each of one or more that are read as one: as whole numbers where
    they have those."""
    found = [[rounded(part) for part in parts] for parts in layers]
    if any(each is None for parts in found for each in parts):
        exact: Any = layers
        weight = [columns(rows([part.weight for part in parts])) for parts in exact]
        fours = _fours(torch.stack(weight))
        ones = np.ones((len(fours), 4 * fours.shape[1]), np.float32)
        return Matrix(fours, _NO_MATRIX.whole, ones)
    whole_of: Any = found
    whole = torch.stack([columns(rows([part.whole for part in parts])) for parts in whole_of])
    scale = torch.stack([rows([part.scale[:, None] for part in parts]) for parts in whole_of])
    return Matrix(_NO_MATRIX.exact, _fours(whole), _array(_padded(scale, 1)[..., 0]))


def _fours(weight: Tensor) -> Array:
    """(L, O, I) -> (L, O / 4, 4 I), in the order of `_products.Matrix`."""
    weight = _padded(_padded(weight, 1))
    num, outputs, inputs = weight.shape
    eights = weight.view(num, outputs // 4, 4, inputs // LANES, LANES).transpose(2, 3)
    # In numpy's memory, which asks the kernel for huge pages, as PyTorch's does not: a step looks
    # up a page for each 2 MB that it reads, not for each 4 KB.
    fours = np.empty(eights.shape, np.int8 if weight.dtype == torch.int8 else np.float32)
    torch.from_numpy(fours).copy_(eights)
    return fours.reshape(num, outputs // 4, -1)


def _whole_heads(weight: Tensor, size: int) -> Tensor:
    """Rows (heads x E, *), E padded to whole lanes."""
    heads = weight.reshape(-1, size, *weight.shape[1:]).movedim(1, -1)
    return _padded(heads).movedim(-1, 1).flatten(0, 1)


def _whole_columns(weight: Tensor, size: int) -> Tensor:
    """Columns (*, heads x E), E padded to whole lanes."""
    return _whole_heads(weight.mT, size).mT


def _stacked(weights: Sequence[Tensor]) -> Array:
    return _array(_padded(torch.stack(list(weights))))


def _padded(weight: Tensor, axis: int = -1) -> Tensor:
    """With zeros up to whole lanes."""
    more = -weight.shape[axis] % LANES
    return F.pad(weight, (0, more) if axis == -1 else (0, 0, 0, more))


def _array(x: Tensor) -> Array:
    return x.detach().contiguous().numpy()


_EMPTY = [np.zeros((0,) * dims, np.float32) for dims in range(6)]
_NO_MATRIX = Matrix(_EMPTY[3], _EMPTY[3].astype(np.int8), _EMPTY[2])
_NONE = _compiled.Norms(_EMPTY[2], _EMPTY[2], False, EPS, 0)
_NOTHING = _compiled.Beside(
    _NONE, _NO_MATRIX, _EMPTY[2], _NONE, _NO_MATRIX, _EMPTY[2], _EMPTY[5], _EMPTY[5],
    np.zeros(0, np.int64),
)  # fmt: skip
