"""Which of a task's ways runs: the first, in the task's order, whose capability the model has.

A task lists its routes best first. Each is a function of the model; the task file is then nothing
but its mathematics, and an autoencoder and a diffusion model answer to the same name.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from morphogen.core import discover
from morphogen.core.bundle import SAMPLE_BATCH
from morphogen.core.capability import CanDenoise, missing, why_not
from morphogen.core.condition_readers import has_positions
from morphogen.core.encoded import each, joined, num_items, rows, together
from morphogen.core.errors import RecipeError, RefusedPair, did_you_mean
from morphogen.core.schema import options
from morphogen.core.spec import Spec, TensorSpec
from morphogen.core.writing import KeepsLegal

Conditions = Mapping[str, Tensor]
Route = Callable[..., Any]
USUAL = 2.0  # guidance, where something is to be gone away from and no scale is asked for


def choose(
    model: object, routes: Mapping[str, Route], wanted: str | None = None
) -> tuple[str, Route]:
    """The route to take: `wanted`, else the first that applies. Its name, and it with its model.

    A route's first parameter is the model, annotated with the capability that the route needs.
    Raises `RecipeError` for a route that does not exist, `RefusedPair` for one that the model
    cannot take.
    """
    if wanted is not None and wanted not in routes:
        raise RecipeError(
            f"there is no route {wanted!r}.{did_you_mean(wanted, routes)}",
            found=wanted,
            expected=", ".join(routes),
        )
    refusals = {name: why_not(model, run) for name, run in routes.items()}
    fitting = [name for name, refusal in refusals.items() if refusal is None]
    for name in [wanted] if wanted is not None else fitting:
        if name in fitting:
            return name, functools.partial(routes[name], model)
    asked = [wanted] if wanted is not None else list(routes)
    raise RefusedPair(
        "; ".join(f"the route {name!r} {refusals[name]}" for name in asked),
        found=type(model).__name__,
        expected=f"a route that fits: {', '.join(fitting)}" if fitting else None,
    )


def asked(method: Any, **wanted: Any) -> dict[str, Any]:
    """What is asked of a model's own method, of that which is not None.

    Raises `RecipeError` for an option that it does not take, naming those it does.
    """
    known = [name for name in options(method) if name != "cond"]
    given = {name: value for name, value in wanted.items() if value is not None}
    for name, value in given.items():
        if name not in known:
            raise RecipeError(
                f"{_owner(method)} does not {method.__name__} with {name!r}",
                found=f"{name}={value}",
                expected=", ".join(known) or "no options",
            )
    return given


def guided(model: Any, scale: float | None, away: Conditions | None = None) -> Any:
    """`model` under classifier-free guidance, away from what is said by `away` where there is any;
    itself, where no scale is asked for. Raises `RefusedPair` for one that does not denoise."""
    if scale is None and away is None:
        return model
    if lacking := missing(model, CanDenoise):
        raise RefusedPair(
            "guidance steers models that denoise",
            found=f"{type(model).__name__} has no {', '.join(lacking)}",
            hint="leave guidance out, or train --family flow_matching",
        )
    return discover.find("wrapper", "guidance")(model, USUAL if scale is None else scale, away)


def said_away(model: Any, codec: Any, negative: str | None) -> Conditions | None:
    """What a text says that is to be gone away from, (1, *) by the name of the condition that is
    read so: a caption before a class. Raises `RefusedPair` where nothing is said of items."""
    if negative is None:
        return None
    known: Mapping[str, TensorSpec] = getattr(model, "conditions", {})
    name = next((n for n, spec in known.items() if has_positions(spec)), next(iter(known), None))
    if name is None or codec is None or name not in codec.condition_codecs:
        raise RefusedPair(
            "there is nothing to go away from: nothing is said of this model's items in words",
            found=", ".join(known) or "no conditions",
            hint="leave negative out; or, for imported pipelines, --cond negative_prompt=TEXT",
        )
    value = codec.encode_condition(name, codec.condition_codecs[name].parse(negative))
    return {name: value[None].to(model.device)}


def _owner(method: Any) -> str:
    return type(getattr(method, "__self__", method)).__name__


def chunks(
    num: int, cond: Conditions | None = None, size: int = SAMPLE_BATCH
) -> Iterator[tuple[slice, Conditions | None]]:
    """Slices that cover range(num), each with its share of the conditions."""
    for start in range(0, num, size):
        part = slice(start, min(start + size, num))
        yield part, None if cond is None else {name: value[part] for name, value in cond.items()}


def repeat(cond: Conditions | None, num: int) -> Conditions | None:
    """Each item's conditions `num` times in a row, as `x.repeat_interleave(num, 0)` does to x."""
    if cond is None:
        return None
    return {name: value.repeat_interleave(num, dim=0) for name, value in cond.items()}


def beside(*columns: Any) -> Any:
    """Items (N, *) side by side: item 0 of each, then item 1 of each. (N * len(columns), *)."""

    def interleaved(parts: list[Tensor]) -> Tensor:
        return torch.stack([part.to(parts[0]) for part in parts], dim=1).flatten(0, 1)

    return together(interleaved, columns)


def copied(x: Any, num: int) -> Any:
    """Each item `num` times in a row."""
    return each(lambda part: part.repeat_interleave(num, dim=0), x)


def in_rows(x: Any, results: Any, num: int) -> Any:
    """Each item of x (N, *), then the `num` results (N * num, *) that belong to it."""

    def grid(parts: list[Tensor]) -> Tensor:
        first, rest = parts
        rest = rest.to(first).view(len(first), num, *first.shape[1:])
        return torch.cat([first[:, None], rest], dim=1).flatten(0, 1)

    return together(grid, [x, results])


def in_chunks(
    run: Callable[[Any, Conditions | None], Any], x: Any, cond: Conditions | None = None
) -> Any:
    """`run` over items (N, *) and their conditions, some at a time, put together again."""
    shares = chunks(num_items(x), cond)
    return joined([run(rows(x, part), share) for part, share in shares])


def per_item(x: Tensor) -> list[float]:
    """Mean over everything but the batch, as plain numbers for `Result.values`."""
    return [float(value) for value in x.float().flatten(1).mean(1).cpu()]


def only(what: str, serves: Callable[[Spec], bool]) -> Callable[[Spec], str | None]:
    """For `core.capability.refuses`: a task that is for `what` alone."""

    def reason(spec: Spec) -> str | None:
        return None if serves(spec) else f"is for {what}, and the data is {spec}"

    return reason


def is_grid(spec: Spec) -> bool:
    """Real values at positions: pictures, sounds, series."""
    return isinstance(spec, TensorSpec) and spec.kind == "real" and bool(spec.space)


def is_sequence(spec: Spec) -> bool:
    """Tokens one after the other, all of one vocabulary."""
    tokens = isinstance(spec, TensorSpec) and spec.kind == "token" and len(spec.space) == 1
    return tokens and isinstance(spec, TensorSpec) and spec.sizes is None


def check_share(value: float, name: str) -> None:
    """Raise `RecipeError` unless 0 < value <= 1."""
    if not 0 < value <= 1:
        raise RecipeError(
            f"{name} is a share", found=f"{name}={value}", expected=f"0 < {name} <= 1"
        )


def within_rules(draw: Callable[..., Any], codec: Any, num: int) -> dict[str, Any]:
    """What `num` items may become, for who draws token by token and takes it (`KeepsLegal`)."""
    takes = isinstance(codec, KeepsLegal) and "legal" in inspect.signature(draw).parameters
    return {"legal": codec.legality(num)} if takes else {}
