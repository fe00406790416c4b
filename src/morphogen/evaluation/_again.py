"""Generated items that are training items again by what their own codec takes for the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch

from morphogen.core.encoded import Encoded, rows
from morphogen.core.measurement import Measurement
from morphogen.data.dataset import Data
from morphogen.evaluation.features import parts
from morphogen.evaluation.intervals import LEVEL, binomial_interval

MOST = 2_000  # generated items, and held-out ones
SHOWN = 5  # pairs in the record, of each kind


@runtime_checkable
class TellsCopies(Protocol):
    """Optional for a codec: it tells which items are others again, exactly or nearly."""

    def copies(self, values: Sequence[Any], training: Sequence[Any]) -> Mapping[str, Sequence[int]]:
        """By kind ("exact", "near"): for each value the place of a training item that it is, or
        -1. A value that is of one kind is of no other."""
        ...


def count_again(record: dict[str, Any], x: Encoded, data: Data) -> None:
    """Note in the record how many samples, and how many held-out items, are training items again.
    Held-out items say what is usual."""
    codec = data.codec.innermost
    if not isinstance(codec, TellsCopies):
        return

    def values(encoded: Any) -> list[Any]:
        return data.codec.decode_many(encoded)

    every = parts(len(data.train))
    training = [value for index in every for value in values(data.train.batch(index).x)]
    samples = values(rows(x, slice(MOST)))
    held_out = values(data.test.batch(torch.arange(min(len(data.test), MOST))).x)
    found, usual = codec.copies(samples, training), codec.copies(held_out, training)
    record["again"] = {
        kind: {
            "copies": _count(places),
            "samples": len(samples),
            "held_out_copies": _count(usual[kind]),
            "held_out": len(held_out),
            "pairs": [[codec.brief(samples[i], 200), codec.brief(training[j], 200)]
                      for i, j in enumerate(places) if j >= 0][:SHOWN],
        }
        for kind, places in found.items()
    }  # fmt: skip


def again(record: dict[str, Any]) -> list[Measurement]:
    """The scores of what `count_again` noted."""
    found = []
    for kind, told in record.get("again", {}).items():
        num, copied = told["samples"], told["copies"]
        low, high = binomial_interval(copied, num)
        usual = told["held_out_copies"], told["held_out"]
        found.append(
            Measurement(
                f"{kind}_copies", copied / max(num, 1), num, higher_is_better=False, low=low,
                high=high, interval=f"{100 * LEVEL:.0f} %, Clopper-Pearson",
                floor=usual[0] / max(usual[1], 1), floor_high=binomial_interval(*usual)[1],
                protocol=record["protocol"],
                note=f"{copied:,} of {num:,} samples, {usual[0]:,} of {usual[1]:,} held-out items",
            )
        )  # fmt: skip
    return found


def _count(places: Sequence[int]) -> int:
    return sum(place >= 0 for place in places)
