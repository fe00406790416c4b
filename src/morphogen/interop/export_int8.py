"""A bundle with weights of eight bits (`wrappers.int8`), tried before it is written; or of four
(`wrappers.int4`), which is for size alone.

A model that writes texts token by token is timed at that, in both forms in turns: where the whole
numbers are not faster on this machine, the bundle says that they are not to be read, and is told to
be smaller and no faster. What was measured goes into its record.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from morphogen.core.backbone import KeepsRows
from morphogen.core.bundle import Bundle
from morphogen.core.family import own_state
from morphogen.core.rounded import rounded_layers
from morphogen.interop.exported import Exported, check_empty
from morphogen.wrappers.int4 import in_int4
from morphogen.wrappers.int8 import in_int8

TURNS = 5  # steps of each form, of which the fastest counts
FASTER = 0.95  # of the time of float32: what is not below is no gain


def export_int8(bundle: Bundle, folder: Path) -> Exported:
    """Write the bundle into `folder`, which must be empty or not there.

    Raises `BundleError` for one that has such weights, or a folder that has something in it, and
    `RefusedPair` for an adapter.
    """
    small = in_int8(bundle)
    check_empty(folder)
    notes = [
        _size_told(bundle, small, "eight bits"),
        "what was measured of the model is left out: morphogen evaluate measures it anew",
    ]
    took = token_times(bundle, small)
    if took is None:
        notes.append("it computes in float32 with what the weights stand for, as fast as before")
    else:
        is_faster = took["int8"] < FASTER * took["float32"]
        small = replace(small, run=small.run | {"token_ms": took})
        told = f"{took['int8']:.3g} ms a token, {took['float32']:.3g} in float32"
        notes.append(told if is_faster else f"not read so, since that is no faster: {told}")
        if not is_faster:
            small = replace(in_int8(bundle, products=False), run=small.run)
    small.save(folder)
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    return Exported(str(folder), "a bundle with weights of eight bits", files, notes)


def export_int4(bundle: Bundle, folder: Path) -> Exported:
    """Write the bundle with weights of four bits into `folder`, which must be empty or not there.
    Raises as `export_int8` does."""
    small = in_int4(bundle)
    check_empty(folder)
    notes = [
        _size_told(bundle, small, "four bits, embeddings eight"),
        "it is smaller and no faster: it computes in float32 with what the weights stand for",
        "what was measured of the model is left out: morphogen evaluate measures it anew",
    ]
    small.save(folder)
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    return Exported(str(folder), "a bundle with weights of four bits", files, notes)


def _size_told(bundle: Bundle, small: Bundle, bits: str) -> str:
    before, now = (sum(t.nbytes for t in own_state(b.family).values()) for b in (bundle, small))
    num = len(list(rounded_layers(small.family)))
    return f"{num} layers have weights of {bits}, {now / before:.0%} of the size"


def token_times(*bundles: Bundle) -> dict[str, float] | None:
    """Milliseconds of the next token of one text, in float32 and with whole numbers; None for
    models that do not write so."""
    networks = [getattr(bundle.family, "network", None) for bundle in bundles]
    is_writer = all(isinstance(network, KeepsRows) for network in networks)
    if not is_writer or bundles[0].family.conditions or bundles[0].family.device.type != "cpu":
        return None
    steps = [_step(network) for network in networks]
    took = [float("inf")] * len(steps)
    for _ in range(TURNS):
        for i, step in enumerate(steps):
            begun = time.perf_counter()
            step()
            took[i] = min(took[i], 1e3 * (time.perf_counter() - begun))
    return dict(zip(("float32", "int8"), (round(each, 4) for each in took), strict=True))


def _step(network: Any) -> Callable[[], None]:
    rows = network.rows(1)
    rows.begin(0, torch.zeros(1, dtype=torch.int64))

    def step() -> None:
        rows.advance([0], [0])
        rows.cut(0, 1)

    step()  # the first compiles
    return step
