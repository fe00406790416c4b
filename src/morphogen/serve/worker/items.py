"""Items of many requests, drawn together: each the same as if it were alone.

    item i of a request  <-  its own generator, seeded by (seed, i)

What a product of matrices gives for one row may depend on how many rows there are, so that there
are always as many: `size`, what no request asked for being drawn and thrown away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from morphogen.core.bundle import Bundle
from morphogen.core.encoded import joined, rows
from morphogen.core.errors import MorphogenError, RecipeError
from morphogen.core.origin import facts_of
from morphogen.core.random import JoinedGenerator, generator, mix_seed
from morphogen.core.result import Result
from morphogen.core.schema import check_options
from morphogen.serve.worker.channel import Event, failure, unexpected
from morphogen.serve.worker.results import View, conditions, told

MOST_ITEMS = 256  # of one request
USUAL = {"num": 1}  # of a request that says nothing of it
FILLER = 0  # the seed of what nobody asked for


@dataclass
class Drawn:
    """A request, and what of it is there."""

    number: int
    num: int
    seed: int
    cond: Mapping[str, Any]
    options: dict[str, Any]
    view: View = None  # as people see them, too
    generation: str | None = None  # by which the records know it
    begun: int = 0
    items: list[Any] = field(default_factory=list)  # encoded, each (1, *)


class Items:
    """What a model draws for many at once."""

    def __init__(self, bundle: Bundle, size: int) -> None:
        self.bundle, self.size = bundle, size
        self.waiting: deque[Drawn] = deque()

    @property
    def is_busy(self) -> bool:
        """Whether something is to be drawn."""
        return bool(self.waiting)

    def begin(self, number: int, work: Mapping[str, Any]) -> Iterator[Event]:
        """Take a request. Raises `MorphogenError` for one that cannot be."""
        from morphogen.tasks.generate import generate

        options = check_options(generate, work.get("options", {}), "generate")
        num = int(options.pop("num", USUAL["num"]))
        if not 1 <= num <= MOST_ITEMS:
            raise RecipeError("that many items are not drawn at once", found=f"num={num}",
                              expected=f"1 to {MOST_ITEMS}")  # fmt: skip
        cond = conditions(self.bundle.codec, work.get("cond") or {})
        self.bundle.conditions(1, cond, generator(0), drawn=True)  # misspelt ones are told now
        view, uid = work.get("view"), work.get("generation")
        self.waiting.append(Drawn(number, num, work["seed"], cond, options, view, uid))
        yield {"id": number, "begun": {}}

    def cancel(self, number: int) -> None:
        """End a request."""
        self.waiting = deque(each for each in self.waiting if each.number != number)

    def step(self) -> list[Event]:
        """Draw a batch for those who came first, and others who want it drawn in the same way."""
        first = self.waiting[0]
        alike = [each for each in self.waiting if each.options == first.options]
        wanted = [(each, i) for each in alike for i in range(each.begun, each.num)][: self.size]
        try:
            drawn = self._drawn(first.options, wanted)
        except MorphogenError as error:
            self.waiting.remove(first)
            return [{"id": first.number, "error": failure(error)}]
        except Exception as error:
            self.waiting.remove(first)
            return [{"id": first.number, "error": unexpected(error)}]
        events: list[Event] = []
        for place, (each, _) in enumerate(wanted):
            each.begun += 1
            each.items.append(rows(drawn, slice(place, place + 1)))
        for each in [each for each in alike if each.begun == each.num]:
            self.waiting.remove(each)
            events += self._over(each)
        return events

    @torch.no_grad()
    def _drawn(self, options: Mapping[str, Any], wanted: list[tuple[Drawn, int]]) -> Any:
        seeds = [mix_seed(each.seed, i) for each, i in wanted]
        conds = [each.cond for each, _ in wanted]
        missing = self.size - len(wanted)
        parts = [generator(seed) for seed in [*seeds, *[FILLER] * missing]]
        conds += [conds[0]] * missing
        each = [
            self.bundle.conditions(1, cond, part, drawn=True)
            for cond, part in zip(conds, parts, strict=True)
        ]
        cond = {name: torch.cat([one[name] for one in each]) for name in each[0]}
        drawing = JoinedGenerator().of(parts)
        return self.bundle.task(
            "generate", seed=drawing, cond=cond, num=self.size, **options
        ).x  # fmt: skip

    def _over(self, each: Drawn) -> Iterator[Event]:
        result = Result(joined(each.items), route="sample", codec=self.bundle.codec)
        result.made_by = f"{self.bundle.path.name if self.bundle.path else ''}, seed {each.seed}"
        if self.bundle.provenance is not None:
            result.provenance = self.bundle.provenance
            result.about = facts_of(self.bundle, "generate", each.seed)
            result.known_as(each.generation)
        try:
            yield {"id": each.number, "result": told(result, view=each.view)}
        except Exception as error:
            yield {"id": each.number, "error": unexpected(error)}
        else:
            yield {"id": each.number, "done": {}}
