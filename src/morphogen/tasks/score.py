r"""Say how well a model expects texts: the bits that each costs, per token and per byte.

    bits = -log2 p(text) = -sum_i log2 p(x_i | x_<i)

tokens      token by token, exactly. A text that is longer than what the model sees at once is read
            in windows that overlap by half: each token is told with at least so much before it
log_prob    of whole items; a bound or an estimate where the model's likelihood is

Texts that have an end cost it too. Bits per byte compare across tokenizers, bits per token do not.

Legend: L tokens that the model sees at once, n tokens of a text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.capability import HasLogProb, HasTokenLogProb, refuses
from morphogen.core.errors import RefusedPair
from morphogen.core.result import Result
from morphogen.core.written import named
from morphogen.tasks._routes import Conditions, choose, is_sequence, only

ROWS = 16  # windows at once


@refuses(only("sequences of tokens, such as text; anomaly scores items of any kind", is_sequence))
def score(
    model: HasTokenLogProb | HasLogProb,
    sequences: Sequence[Tensor],
    codec: Any = None,
    *,
    cond: Conditions | None = None,  # conditions by name, each (N, ...)
    generator: torch.Generator,
    per_token: bool = False,  # tell each token with its bits
    route: Literal["tokens", "log_prob"] | None = None,  # force a way; none takes the first
) -> Result:
    """Say how many bits each text costs, per token and per byte; each token's, if asked for."""
    spec: Any = getattr(model, "spec")  # noqa: B009
    end = [] if spec.end is None else [spec.end]
    texts = [torch.cat([row, row.new_tensor(end)]) for row in sequences]

    def by_tokens(m: HasTokenLogProb) -> list[Tensor]:
        return [
            _token_bits(m, text, spec.shape[0], _of_row(cond, row))
            for row, text in enumerate(texts)
        ]

    def by_items(m: HasLogProb) -> list[Tensor]:
        found = []
        for row, text in enumerate(texts):
            x = _item(text, m)
            log_prob = m.log_prob(x, cond=_of_row(cond, row), generator=generator)
            found.append(-log_prob / math.log(2))
        return found

    name, run = choose(model, {"tokens": by_tokens, "log_prob": by_items}, route)
    bits: list[Tensor] = run()
    total = [float(each.double().sum()) for each in bits]
    counts = [max(len(text), 1) for text in texts]
    values: dict[str, Any] = {
        "bits_per_token": [b / count for b, count in zip(total, counts, strict=True)],
        "num_tokens": [len(text) for text in texts],
        "bits": total,
    }
    if codec is not None:
        units = [float(codec.num_units(text[None])) for text in texts]
        per_unit = [b / n for b, n in zip(total, units, strict=True)]
        values = {f"bits_per_{codec.unit}": per_unit, **values}
    if per_token and name == "tokens":
        values["tokens"] = [
            [[named(token, codec), b] for token, b in zip(text.tolist(), own.tolist(), strict=True)]
            for text, own in zip(texts, bits, strict=True)
        ]
    return Result(None, values, name)


def _token_bits(
    model: HasTokenLogProb, text: Tensor, length: int, cond: Conditions | None
) -> Tensor:
    """The bits of each token (n,), those beyond L in windows that each tell their second half."""
    half = max(length // 2, 1)
    starts = [0, *range(half, max(len(text) - length, 0) + half, half)]
    found = []
    for first in range(0, len(starts), ROWS):
        own = starts[first : first + ROWS]
        windows = [text[start : start + length] for start in own]
        padded = torch.stack([_padded(each, model) for each in windows])
        share = None
        if cond is not None:
            share = {name: v.expand(len(own), *v.shape[1:]) for name, v in cond.items()}
        told = model.token_log_prob(padded, share)
        for start, window, row in zip(own, windows, told, strict=True):
            known = length - half if start else 0  # told by the window before
            found.append(row[known : len(window)])
    return -torch.cat(found) / math.log(2)


def _item(text: Tensor, model: Any) -> Tensor:
    """A text as one item (1, L). Raises `RefusedPair` for one that is none."""
    spec, length = model.spec, model.spec.shape[0]
    if len(text) > length or (spec.end is None and len(text) < length):
        raise RefusedPair(
            "the model knows how probable whole items are, and the text is none",
            found=f"{len(text):,} tokens",
            expected=f"{'up to ' * (spec.end is not None)}{length:,} tokens",
            hint="a model of --family autoregressive scores texts of any length",
        )
    return _padded(text, model)[None]


def _padded(text: Tensor, model: Any) -> Tensor:
    """Tokens (n,), n <= L, with something after them: (L,)."""
    return F.pad(text, (0, model.spec.shape[0] - len(text)), value=model.spec.end or 0)


def _of_row(cond: Conditions | None, row: int) -> Conditions | None:
    return None if cond is None else {name: value[row : row + 1] for name, value in cond.items()}
