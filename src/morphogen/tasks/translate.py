r"""Write what belongs to a text: its translation, its summary, an answer; whatever was learned.

    y_i ~ p(y_i | y_<i, source)

For models whose items were learned with one condition that is a text (a caption, a sentence in
another language, an article). Temperature 0, the most probable token each time, is what a
translation wants; `complete` has all the other options, with the source as a condition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from morphogen.core.capability import refuses, unless
from morphogen.core.result import Result
from morphogen.core.writing import CanWrite, Piece
from morphogen.tasks._routes import Conditions, is_sequence, only
from morphogen.tasks.complete import complete


def texts_told(model: Any) -> list[str]:
    """The names of the conditions that are texts."""
    conditions: dict[str, Any] = getattr(model, "conditions", {})
    return [name for name, spec in conditions.items() if is_sequence(spec) and spec.end is not None]


def _unfit(model: Any) -> str | None:
    names = texts_told(model)
    if len(names) == 1:
        return None
    if names:
        several = f"needs to know which text is meant: the model has {', '.join(names)}"
        return f"{several}; complete, with --cond {names[0]}=..., says it"
    return "needs a model whose items were learned with a text, and this one was not"


@refuses(only("sequences of tokens, such as text", is_sequence))
@unless(_unfit)
def translate(
    model: CanWrite,
    sources: Sequence[str],
    codec: Any = None,
    *,
    cond: Conditions | None = None,  # the other conditions by name, each (N, ...)
    generator: torch.Generator,
    num: int = 1,  # texts for each source
    most: int | None = None,  # tokens to come at most; none: all that there is room for
    temperature: float = 0.0,  # 0: the most probable token each time; 1: as the model draws
    top_p: float | None = None,  # only the fewest tokens whose probabilities reach p
    no_repeat: int = 0,  # no run of so many tokens comes twice; 0: any may
    beam: int = 1,  # beginnings of each text that are followed to the most probable; 1: one
    tell: Callable[[Piece], None] | None = None,  # told of each piece of text as it is certain
) -> Result:
    """Write the text that belongs to each source: a translation, a summary."""
    (name,) = texts_told(model)
    device = getattr(model, "device", torch.device("cpu"))
    told = torch.stack([codec.encode_condition(name, source) for source in sources])
    nothing: list[Tensor] = [torch.zeros(0, dtype=torch.int64, device=device) for _ in sources]
    result = complete(
        model,
        nothing,
        codec,
        cond={**(cond or {}), name: told.to(device)},
        generator=generator,
        num=num,
        most=most,
        temperature=temperature,
        top_p=top_p,
        no_repeat=no_repeat,
        beam=beam,
        tell=tell,
    )
    result.route = f"write, given {name}"
    return result
