"""Draw new items from the learned distribution.

Options that only some models understand (steps, sampler, guidance, temperature) are passed on to
the model's `sample`; one that it does not take is an error that lists those it does. Of several
draws the best is kept: a judge of pairs says which, or, of texts, how much they agree.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import torch

from morphogen.core import schema
from morphogen.core.bundle import Bundle
from morphogen.core.capability import CanSample
from morphogen.core.draws import writes, written
from morphogen.core.encoded import joined
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.random import randint
from morphogen.core.result import Result
from morphogen.core.schema import with_options
from morphogen.core.writing import Limits, Marking, Request, marked
from morphogen.tasks._best import most_agreed, nearest_of, num_draws
from morphogen.tasks._routes import Conditions, chunks, guided, said_away, within_rules


@with_options(Limits)
def generate(
    model: CanSample,
    marking: Marking | None = None,
    codec: Any = None,
    judge: Bundle | None = None,  # which of several draws shows what was asked for
    *,
    cond: Conditions | None = None,  # conditions by name, each (num, ...); absent ones are free
    generator: torch.Generator,
    num: int = 16,  # items to draw
    num_steps: int | None = None,  # sampling steps, for models that sample in steps
    sampler: str | None = None,  # sampler, as in `morphogen list samplers`
    guidance: float | None = None,  # classifier-free guidance: 1 none, above 1 more typical
    negative: str | None = None,  # what to go away from, said as the model's caption or class is
    best_of: int | None = None,  # draws of each, the best is kept; none: 4 where there is a judge
    **limits: Any,
) -> Result:
    """Draw new items from the learned distribution."""
    own = "guidance" in schema.options(model.sample)  # else a wrapper's
    wanted = {"num_steps": num_steps, "sampler": sampler, **limits}
    wanted |= {"guidance": guidance} if own else {}
    options = {name: value for name, value in wanted.items() if value is not None}
    _check(model, options)
    if num < 1:
        raise RecipeError("there is nothing to draw", found=f"num={num}", expected="num >= 1")
    source = model
    if not own or negative is not None:
        source = guided(model, guidance, said_away(model, codec, negative))
    draw = source.sample
    if marking is not None and writes(model):
        draw = partial(_marked_texts, model, marking=marking)

    def together(num: int, cond: Conditions | None) -> Any:
        return joined([
            draw(part.stop - part.start, cond=share, generator=generator, **options,
                 **within_rules(draw, codec, part.stop - part.start))
            for part, share in chunks(num, cond)
        ])  # fmt: skip

    drawn: Any = model
    num_each, route = num_draws(judge, best_of, drawn.spec), "sample"
    if judge is not None or num_each > 1:
        route = f"sample, best of {num_each}"
    if judge is not None:
        x = nearest_of(together, judge, codec, cond, num_each)
    elif num_each > 1:
        x = most_agreed(together, drawn.spec, num, cond, num_each)
    else:
        x = together(num, cond)
    labels = {
        name: value.tolist()
        for name, value in (cond or {}).items()
        if not value.is_floating_point() and value.dim() == 1
    }
    return Result(x, labels, route=route)


def _check(model: CanSample, options: dict[str, Any]) -> None:
    """Raise `RecipeError` for an option that the model's `sample` does not take."""
    parameters = inspect.signature(model.sample).parameters.values()
    known = [name for name in schema.options(model.sample) if name != "cond"]
    passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    if passes_on and not hasattr(model.sample, "further_options"):
        return
    for name, value in options.items():
        if name not in known:
            raise RecipeError(
                f"{type(model).__name__} does not sample with {name!r}",
                found=f"{name}={value}",
                expected=", ".join(known) or "no options",
            )


def _marked_texts(
    model: Any,
    num: int,
    *,
    cond: Conditions | None,
    marking: Marking,
    generator: torch.Generator,
    **limits: Any,
) -> torch.Tensor:
    """Texts (num, L), each drawn as a request that bears a mark."""
    if model.spec.end is None:
        raise RefusedPair(
            "windows of a stream of texts are drawn without a watermark",
            found=str(model.spec),
            hint="morphogen task complete BUNDLE --prompt TEXT --watermark",
        )
    seeds = randint(2**31, (num,), generator).tolist()
    nothing = torch.empty(0, dtype=torch.int64)
    requests = []
    for row, seed in enumerate(seeds):
        own = {name: value[row] for name, value in (cond or {}).items()} or None
        request = Request(nothing, model.spec.shape[0], Limits(**limits), seed, own)
        requests.append(marked(request, marking))
    x, _ = written(model, requests)
    return x
