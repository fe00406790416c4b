"""Answers that people preferred to others: conversations in pairs, or each found good or bad.

    Batch.x        the question with the answer that was found good, which alone is learned
    Batch.other    the same with the one that was found bad

One of the two is missing where an answer was judged alone; then nothing of it is learned. What is
compared are the last answers: what was said before is what was asked.

Legend: n tokens of a conversation with its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from morphogen import sources
from morphogen.core.codec import Item, Recognition, Report
from morphogen.core.errors import DataError
from morphogen.modalities.chat import Chat
from morphogen.modalities.text.chat import Conversation
from morphogen.modalities.text.chat.preferences import (
    LABEL,
    is_label,
    preference_of,
    preferred_form,
)
from morphogen.modalities.text.chat.preferences import (
    Preference as Preferred,
)

SURE = 0.97  # more than that they are conversations


class Preference(Chat):
    """Rows of prompt, chosen and rejected, or of conversations with a label."""

    pairs: ClassVar[bool] = True  # an item is laid beside the one it is compared with

    @classmethod
    def recognises(cls, source: Any) -> Recognition | None:
        try:
            columns = sources.survey(source).columns
        except DataError:
            return None
        form = preferred_form(columns)
        cells = [cell for name in form for cell in columns[name] if cell not in (None, "")]
        if not form or not cells:
            return None
        labels = [cell for cell in columns[form[-1]] if cell not in (None, "")]
        if form[-1].strip().lower() == LABEL and not all(map(is_label, labels)):
            return None
        return Recognition(SURE, f"preferences, in the columns {', '.join(form)}")

    def value_of(self, row: Mapping[str, Any]) -> Any:
        return preference_of(row)

    def fit(self, items: Iterable[Item]) -> Preference:
        super().fit(_each_side(items))
        return self

    def shorten(self, items: Iterable[Item]) -> None:
        """Windows hold either side, not both."""
        super().shorten(_each_side(items))

    def encode_learned(self, item: Item) -> tuple[Tensor, Tensor]:
        """Both sides, behind the length of the first: see `data.pairs`. A conversation, or a text
        that a model drew, is encoded as in `Chat`."""
        if not isinstance(item.value, Preferred):
            return super().encode_learned(item)
        sides = [self._last(each) for each in _sides(item.value)]
        chosen, rejected = sides
        if chosen is None and rejected is not None:  # what was asked stands, and is not learned
            chosen = rejected[0], torch.zeros_like(rejected[1])
        assert chosen is not None
        both = [chosen] if rejected is None else [chosen, rejected]
        tokens = torch.cat([torch.tensor([len(chosen[0])]), *(each[0] for each in both)])
        return tokens, torch.cat([torch.tensor([False]), *(each[1] for each in both)])

    def _last(self, value: Conversation | None) -> tuple[Tensor, Tensor] | None:
        """A conversation (n,), of which the last answer alone is learned."""
        if value is None:
            return None
        tokens, learned = super().encode_learned(Item(value))
        others = (~learned).nonzero()[:, 0]
        end = int(learned.nonzero()[-1]) if bool(learned.any()) else -1
        before = others[others < end]
        if len(before):
            learned[: int(before[-1])] = False
        return tokens, learned

    def check_fits(self, item: Item, report: Report) -> None:
        """Raise `DataError` for a row of which an answer begins where there is no room."""
        for value in filter(None, _sides(item.value)):
            super().check_fits(replace(item, value=value), report)

    def encode(self, item: Item) -> Tensor:
        value = item.value
        if isinstance(value, Preferred):
            value = value.chosen or value.rejected
        return super().encode(replace(item, value=value))

    def encode_stream(self, item: Item) -> Tensor:
        return self.encode(item)


def _each_side(items: Iterable[Item]) -> Iterator[Item]:
    return (Item(each) for item in items for each in _sides(item.value) if each is not None)


def _sides(value: Any) -> tuple[Conversation | None, Conversation | None]:
    return (value.chosen, value.rejected) if isinstance(value, Preferred) else (value, None)
