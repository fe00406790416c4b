"""Scores of held-out items one by one: what of them a model rebuilds, predicts and matches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.capability import CanMatch, CanPredict, CanReconstruct, missing
from morphogen.core.change import change_of_items
from morphogen.core.encoded import moved
from morphogen.data.dataset import Data
from morphogen.evaluation._own_condition import own_is_nearest
from morphogen.evaluation.features import parts
from morphogen.evaluation.groups import ItemScores

AMONG = 64  # held-out items, whose own conditions an item is to be nearest to


def reconstruction(bundle: Bundle, data: Data, some: Tensor) -> list[ItemScores]:
    """Errors of rebuilding the held-out items at `some`; none of a model that rebuilds nothing."""
    model: Any = bundle.family
    if missing(model, CanReconstruct):
        return []
    found = []
    for index in parts(len(some)):
        x = moved(data.test.batch(some[index]).x, model.device)
        found.append(change_of_items(model.decode(model.encode(x)), x, data.spec).cpu())
    name = {
        "token": "share of tokens",
        "real": "mean squared error in [-1, 1]",
        "parts": "mean over values: squared errors of numbers, wrong tokens",
    }[data.spec.kind]
    return [ItemScores("reconstruction_error", torch.cat(found), some, False, name)]


@dataclass(frozen=True)
class Predicted:
    """What a model predicts of every held-out item, and what is true of it."""

    target: str
    is_label: bool
    outputs: Tensor  # probabilities (N, V) of a label, else values (N, D)
    actual: Tensor  # (N,) classes, else values (N, *)


@torch.no_grad()
def predicted(bundle: Bundle, data: Data) -> Predicted | None:
    """None of models that predict nothing, or nothing of such items."""
    model: Any = bundle.family
    if missing(model, CanPredict) or model.spec != data.spec or model.target not in data.test.cond:
        return None
    outputs, actual = [], []
    for index in parts(len(data.test)):
        batch = data.test.batch(index).to(model.device)
        outputs.append(model.predict(batch.x).cpu())
        actual.append(batch.cond[model.target].cpu())
    is_label = model.target_spec.kind == "token"
    return Predicted(model.target, is_label, torch.cat(outputs), torch.cat(actual))


def prediction(found: Predicted | None) -> list[ItemScores]:
    """Whether, or how far, what is predicted of held-out items is off; none of other models."""
    if found is None:
        return []
    if found.is_label:
        name, values = "accuracy", (found.outputs.argmax(1) == found.actual).float()
    else:
        name, values = "absolute_error", (found.outputs - found.actual.flatten(1)).abs().mean(1)
    note = f"of {found.target}"
    return [ItemScores(name, values, torch.arange(len(values)), found.is_label, note)]


def matching(bundle: Bundle, data: Data) -> list[ItemScores]:
    """Whether what belongs to a held-out item, or the same of another, lies nearest to it; none of
    models that match nothing."""
    model: Any = bundle.family
    if missing(model, CanMatch) or model.target not in data.test.cond:
        return []
    values = own_is_nearest(model, data.test, model.target, AMONG).float()
    note = f"the nearest {model.target} of {min(AMONG, len(values))} is its own"
    return [ItemScores("matched", values, torch.arange(len(values)), True, note)]
