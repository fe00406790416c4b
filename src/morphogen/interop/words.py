"""Words of config.json whose values are put in another way than here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from morphogen.core.errors import BundleError
from morphogen.interop.layout import Facts, Word

SCALING = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
KINDS = {"l": "sliding_attention", "g": "full_attention"}


def _scaling_there(value: Sequence[float] | None, facts: Facts) -> dict[str, Any] | None:
    if value is None:
        return None
    *factors, length = value
    return {"rope_type": "llama3"} | dict(zip(SCALING, (*factors, int(length)), strict=True))


def _scaling_back(told: Any) -> list[float] | None:
    kind = (told or {}).get("rope_type", (told or {}).get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3" or not all(name in told for name in SCALING):
        raise BundleError(
            "rotary positions are scaled in a way that is not known here",
            found=kind, expected="llama3, or none",
        )  # fmt: skip
    return [float(told[name]) for name in SCALING]


def _pattern_there(value: str, facts: Facts) -> list[str]:
    return [KINDS[value[number % len(value)]] for number in range(facts["num_layers"])]


def _pattern_back(told: Sequence[str] | str) -> str:
    """The kinds of layers one after another -> what comes again and again, as short as it is."""
    each = {kind: letter for letter, kind in KINDS.items()}
    letters = told if isinstance(told, str) else "".join(each.get(kind, "?") for kind in told)
    num = len(letters)
    turns = (letters[:size] for size in range(1, num))
    return next((turn for turn in turns if (turn * num)[:num] == letters), letters)


SCALED = Word("rope_scaling", None, _scaling_there, _scaling_back)


def pattern(default: str) -> Word:
    """Which layers are local."""
    return Word("layer_types", default, _pattern_there, _pattern_back)


def activation(name: str, default: str) -> Word:
    """What a feed-forward layer without gates is called by."""
    there = {"gelu": "gelu_new", "gelu_erf": "gelu"}
    back = {"gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "gelu": "gelu_erf"}
    return Word(
        name, default, lambda kind, facts: there[kind], lambda told: back.get(told, told),
        among=tuple(there),
    )  # fmt: skip
