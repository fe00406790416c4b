"""Samples of a model that is being trained, for people: OUT/samples/000500.png .. final.png.

Early sheets stand closer together. Texts are drawn token by token, which would take a short run
longer than its training, so that fewer and shorter ones are drawn in it: in proportion to the
tokens that it was trained on.
"""

from __future__ import annotations

from typing import Any, cast

import torch

from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.capability import why_not
from morphogen.core.random import mix_seed
from morphogen.core.result import Result
from morphogen.core.writing import CanWrite, Request, TextCodec
from morphogen.training.loop import Run

ITEMS = 36
TEXTS, LEAST = 8, 32  # texts where all are too many, and tokens of each at least
SHARE = 0.01  # tokens drawn for a sheet, of those that were trained on


class Sheets:
    """When sheets are due, and what stands on them."""

    def __init__(self, run: Run) -> None:
        self.run = run
        num = run.options.num_previews
        self.points = [((i + 1) / (num + 1)) ** 1.5 for i in range(num)]  # of progress

    def is_due(self) -> bool:
        """Whether a point was passed since this was asked last."""
        left = [point for point in self.points if point > self.run.state.progress]
        passed, self.points = len(left) < len(self.points), left
        return passed

    @property
    def is_last(self) -> bool:
        """Whether the run is over, so that the sheet of its end is the next."""
        return self.run.is_stopped or self.run.schedule.is_over(self.run.state)

    def drawn(self, bundle: Bundle) -> Result | None:
        """The samples of a sheet; None of a model that does not sample."""
        if why_not(bundle.family, discover.find("task", "generate")):
            return None
        model: Any = bundle.family
        values = model.spec.num_values
        trained_on = self.run.state.step * self.run.options.batch_size * values
        most = max(LEAST, int(SHARE * trained_on) // TEXTS)
        windows = getattr(model.spec, "boundary", None) is not None and not model.conditions
        writes = isinstance(model, CanWrite) and isinstance(bundle.codec, TextCodec)
        if windows and writes and SHARE * trained_on < ITEMS * values and most < values:
            return texts(bundle, most)
        return bundle.sample(ITEMS, seed=0)


@torch.no_grad()
def texts(bundle: Bundle, most: int) -> Result:
    """A few texts from nothing, of up to so many tokens: shorter than what is learned at once, and
    so no items to be measured."""
    model, codec = cast("Any", bundle.family), cast("TextCodec", bundle.codec)
    nothing = torch.zeros(0, dtype=torch.int64, device=model.device)
    asked = [Request(nothing, most, seed=mix_seed(0, number)) for number in range(TEXTS)]
    decoders, made = [codec.decoder() for _ in asked], [""] * TEXTS
    for each in (written for step in model.write(asked, num_rows=TEXTS) for written in step):
        if each.finish != "end":
            made[each.row] += decoders[each.row].feed(each.token)
    whole = [text + decoder.finish() for text, decoder in zip(made, decoders, strict=True)]
    made_by = f"{discover.name_of(type(model))}, in training, seed 0"
    return Result(None, {}, "write", codec=bundle.codec, made_by=made_by, raw=whole)
