"""Tasks and features, one request after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.capability import HasFeatures, missing
from morphogen.core.codec import Item
from morphogen.core.errors import RefusedPair
from morphogen.serve.worker.channel import Event
from morphogen.serve.worker.hidden import known_of
from morphogen.serve.worker.results import conditions, given, told
from morphogen.systems.exchange import check_words


def run_task(bundle: Bundle, number: int, work: Mapping[str, Any]) -> Iterator[Event]:
    """Run one. Raises `MorphogenError` where it does not apply."""
    name, options = work["task"], dict(work.get("options") or {})
    if name not in discover.names("task"):
        discover.find("task", name.replace(":", " "))  # which says what there is
    check_words({**options, **(work.get("cond") or {})})
    with tempfile.TemporaryDirectory() as place:
        inputs = given(work.get("inputs", ()), Path(place), bundle.codec)
        if hidden := work.get("hidden"):
            options["known"] = known_of(bundle, hidden, inputs, Path(place))
        cond = conditions(bundle.codec, work.get("cond") or {})
        result = bundle.task(name, *inputs, seed=work["seed"], cond=cond or None, **options)
        result.known_as(work.get("generation"))
        yield {"id": number, "result": told(result, view=work.get("view"))}
    yield {"id": number, "done": {}}


def features(bundle: Bundle, number: int, work: Mapping[str, Any]) -> Iterator[Event]:
    """A vector for each text, each computed by itself. Raises `RefusedPair` where the model gives
    none."""
    model: Any = bundle.family
    if lacking := missing(model, HasFeatures):
        raise RefusedPair("this model gives no vectors", found=f"no {', '.join(lacking)}",
                          expected="an encoder, such as published/minilm")  # fmt: skip
    num_tokens = 0
    for text in work["texts"]:
        x = bundle.encode(Item(text, "input"))
        num_tokens += int(bundle.family.spec.num_real(x).sum())
        with torch.no_grad():
            (vector,) = model.features(x.to(model.device)).flatten(1).double().tolist()
        yield {"id": number, "vector": vector}
    yield {"id": number, "done": {"prompt_tokens": num_tokens}}
