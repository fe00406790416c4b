"""What was made or looked at of late: pages that show it, and the items to go on from.

It is in memory alone, the oldest leaving first. What was drawn can be drawn again by its seed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request

from morphogen.serve.errors import APIError
from morphogen.serve.parts import each_part

MOST = 256 << 20  # characters, all together
GONE = "it is not kept any longer: the same seed makes it again"

Given = Mapping[str, Any]  # an item as the process of a model is given it, or gives it


@dataclass(frozen=True)
class Drawing:
    """What was asked for."""

    model: str
    by: int | None  # a user
    told: Mapping[str, str]  # the form
    seed: int


@dataclass(frozen=True)
class Made:
    """Of one generation, or one look at data."""

    pages: tuple[str, ...]  # HTML, as the codec shows it: one of all items, or one of each
    items: tuple[Given, ...] = ()  # what came
    inputs: tuple[Given, ...] = ()  # what it was made of
    hidden: Given | None = None  # what of that was drawn anew
    drawing: Drawing | None = None  # none: a look at data
    cond: Mapping[str, Given] = field(default_factory=dict)  # conditions that were brought as files

    @property
    def size(self) -> int:
        """Characters, about."""
        given = (*self.items, *self.inputs, *self.cond.values())
        files = sum(len(str(value)) for each in given for value in each.values())
        return files + sum(map(len, self.pages))


class Kept:
    """By name, such as that of a generation."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.made: OrderedDict[str, Made] = OrderedDict()
        self.size = 0

    def put(self, name: str, made: Made) -> None:
        """Keep it; what is older leaves where there is no room."""
        self.size -= self.made.pop(name).size if name in self.made else 0
        self.made[name] = made
        self.size += made.size
        while self.size > self.most and len(self.made) > 1:
            _, oldest = self.made.popitem(last=False)
            self.size -= oldest.size

    def has(self, name: str) -> bool:
        """Whether it is here still."""
        return name in self.made

    def get(self, name: str) -> Made:
        """Raises `APIError` where it has left."""
        if name not in self.made:
            raise APIError(404, GONE)
        self.made.move_to_end(name)
        return self.made[name]

    def page(self, name: str, number: int = 0) -> str:
        """What shows it. Raises `APIError`."""
        pages = self.get(name).pages
        if not 0 <= number < len(pages):
            raise APIError(404, "there is no such item")
        return pages[number]

    def item(self, name: str, number: int) -> Given:
        """One of the items that came, counted from 1. Raises `APIError`."""
        items: Sequence[Given] = self.get(name).items
        if not 1 <= number <= len(items):
            raise APIError(404, f"there is no item {number} among {len(items)}")
        return items[number - 1]


def files_in(items: Sequence[Given]) -> list[dict[str, Any]]:
    """Which files there are among items: the number of each item, the part of it, if it is one, and
    the kind of file."""
    return [
        {"item": number, "part": part, "suffix": each["suffix"]}
        for number, item in enumerate(items, 1)
        for part, each in each_part(item).items() if "file" in each
    ]  # fmt: skip


def shown_first(items: Sequence[Given]) -> Given:
    """What stands for items in a list: the first, or of its parts the first picture, or text."""
    parts = list(each_part(items[0]).values()) if items else []
    pictures = [each for each in parts if each.get("media_type", "").startswith("image/")]
    return next(iter([*pictures, *(each for each in parts if "text" in each), *parts]), {})


def kept_of(request: Request) -> Kept:
    """What this server keeps."""
    state = request.app.state
    if not hasattr(state, "kept"):
        state.kept = Kept()
    found: Kept = state.kept
    return found


def keep_view(request: Request, name: str, body: str) -> None:
    """Have HTML of items at `/views/NAME` for a while."""
    kept_of(request).put(name, Made((body,)))
