"""The promises of a task: `check_task(my_task, models)`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from morphogen.core import capability
from morphogen.core.codec import Item
from morphogen.core.errors import MorphogenError
from morphogen.core.random import generator
from morphogen.core.result import Result
from morphogen.core.schema import REQUIRED, options
from morphogen.core.spec import ProductSpec, Spec, TensorSpec
from morphogen.testing._promises import (
    check_described,
    close,
    global_seed,
    leaves_global_rng,
    promise,
    works,
)
from morphogen.testing.oracles import (
    GaussianOracle,
    RandomWalk,
    TwoGaussians,
    TwoStateChain,
    TwoStyles,
    TwoTones,
)

NUM_INPUTS = 4


def default_models() -> list[Any]:
    """Oracles over a grid, a vector and tokens, which have every capability between them."""
    grid = TensorSpec("real", (1, 4, 4))
    return [
        GaussianOracle.example(grid),
        GaussianOracle.example(),
        TwoGaussians(),
        TwoTones(),
        TwoStateChain(),
        RandomWalk(),
        TwoStyles(),
    ]


def refused_specs() -> list[Any]:
    """Data that tasks made for pictures forget: tokens, columns, items that end, parts."""
    parts = ProductSpec({"age": TensorSpec.vector(1), "job": TensorSpec.label(3)})
    ended, columns = TensorSpec.tokens(6, 4, end=3), TensorSpec.columns((2, 3))
    return [TensorSpec.tokens(6, 4), ended, columns, parts]


def check_task(task: Callable[..., Any], models: Sequence[Any] | None = None, **given: Any) -> None:
    """Hold a task to its contract, on every model that has what it needs.

    `models` default to the oracles; `given` are options that the task has no default for.
    """
    name = task.__name__
    check_described(task)
    with works(f"{name}: reading its annotation"):
        needed = capability.needs(task)
    for each in needed:
        promise(
            getattr(each, "_is_protocol", False), f"{name} needs {each}, which is no capability"
        )
    reason = capability.why_not(object(), task)
    promise(isinstance(reason, str), f"{name} claims to apply to a model that can do nothing")
    parameters = inspect.signature(task).parameters
    for wanted in ("cond", "generator"):
        keyword = wanted in parameters and parameters[wanted].kind is inspect.Parameter.KEYWORD_ONLY
        promise(keyword, f"{name} has no keyword-only argument {wanted!r}")
    required = [o.name for o in options(task).values() if o.default is REQUIRED]
    lacking = set(required) - set(given) - {"cond"}
    promise(not lacking, f"{name} needs {', '.join(sorted(lacking))}: pass them to check_task")
    fitting = [m for m in models or default_models() if not capability.why_not(m, task)]
    promise(fitting, f"{name} applies to none of the models: pass `models=` with one that it does")
    for spec in refused_specs():
        _check_refusal(task, spec)
    ran = [_check_run(task, model, given) for model in fitting]
    promise(any(ran), f"{name} refuses all the models: pass `models=` or options that let it run")


def _check_refusal(task: Callable[..., Any], spec: Spec) -> None:
    """What it has against a spec is a sentence."""
    against = getattr(task, "refuses", None)
    reason = None if against is None else against(spec)
    said = reason is None or (isinstance(reason, str) and reason)
    promise(said, f"{task.__name__} refuses {spec} with {reason!r}, which is no reason")


def _check_run(task: Callable[..., Any], model: Any, given: dict[str, Any]) -> bool:
    """Run the task twice. False where it refuses the model with an error meant for the user."""
    where = f"{task.__name__} on {type(model).__name__} of {model.spec}"
    arguments = dict(given)
    parameters = inspect.signature(task).parameters
    if "x" in parameters:
        arguments["x"] = model.sample(NUM_INPUTS, generator=generator(4))
    if "sequences" in parameters:
        drawn = model.sample(NUM_INPUTS, generator=generator(4))
        arguments["sequences"] = [row[:n] for n, row in enumerate(drawn)]
    if "coming" in parameters:
        arguments["coming"] = [Item(None, f"after {number}") for number in range(NUM_INPUTS)]
    if "sources" in parameters:
        arguments["sources"] = ["a text", ""]
    before = arguments["x"].clone() if "x" in arguments else None
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    results: list[Any] = []
    for seed in (1, 2):
        with works(where), global_seed(seed), leaves_global_rng(where), torch.no_grad():
            try:
                results.append(task(model, cond={}, generator=generator(5), **arguments))
            except MorphogenError:
                return False
    one, two = results
    promise(isinstance(one, Result), f"{where} returns a {type(one).__name__}, not a Result")
    promise(one.route, f"{where} does not say which route ran")
    if before is not None:
        promise(torch.equal(before, arguments["x"]), f"{where} changes its input")
    kept = all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    promise(kept, f"{where} changes the model")
    with works(f"{where}: its values as JSON"):
        same = json.dumps(one.values, sort_keys=True) == json.dumps(two.values, sort_keys=True)
    promise(same, f"{where} gives two sets of values for one generator seed")
    _check_items(one.x, two.x, model.spec, where)
    if one.positions is not None:
        laid = one.x is not None and tuple(one.positions.shape) == (len(one.x), 2)
        promise(laid, f"{where}: positions are not (N, 2)")
    return True


def _check_items(x: Tensor | None, again: Tensor | None, spec: TensorSpec, where: str) -> None:
    promise((x is None) == (again is None), f"{where} returns items only sometimes")
    if x is None or again is None:
        return
    fits = tuple(x.shape[1:]) == spec.shape
    promise(fits, f"{where} returns items of shape {tuple(x.shape[1:])}, not {spec.shape}")
    promise(close(x, again), f"{where} gives two results for one generator seed")
    promise(torch.isfinite(x.float()).all(), f"{where} returns items that are not finite")
