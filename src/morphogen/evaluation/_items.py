"""Scores of held-out items one by one: what of them a model rebuilds and predicts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.capability import CanPredict, CanReconstruct, missing
from morphogen.core.change import change_of_items
from morphogen.core.encoded import moved
from morphogen.data.dataset import Data
from morphogen.evaluation.features import parts
from morphogen.evaluation.groups import ItemScores


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


def prediction(bundle: Bundle, data: Data) -> list[ItemScores]:
    """Whether, or how far, what is predicted of held-out items is off; none of other models."""
    model: Any = bundle.family
    if missing(model, CanPredict) or model.target not in data.test.cond:
        return []
    found = []
    for index in parts(len(data.test)):
        batch = data.test.batch(index).to(model.device)
        output, target = model.predict(batch.x), batch.cond[model.target]
        if model.target_spec.kind == "token":
            found.append((output.argmax(1) == target).float().cpu())
        else:
            found.append((output - target.flatten(1)).abs().mean(1).cpu())
    is_label = model.target_spec.kind == "token"
    name = "accuracy" if is_label else "absolute_error"
    values, note = torch.cat(found), f"of {model.target}"
    return [ItemScores(name, values, torch.arange(len(values)), is_label, note)]
