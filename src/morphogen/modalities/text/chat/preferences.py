"""Rows of data as answers that were preferred to others, or found good or bad.

    prompt, chosen, rejected                 texts, or messages
    messages | conversations | .., chosen, rejected     what was said before is in the list
    chosen, rejected                         whole conversations, the question in both
    messages | prompt, completion | .., label           an answer alone: label true or false

Rafailov et al. 2023 (pairs); Ethayarajh et al. 2024 (labels).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from morphogen.core.errors import DataError
from morphogen.modalities.text.chat.messages import ASSISTANT, SYSTEM, USER, Conversation, Message
from morphogen.modalities.text.chat.records import (
    LISTS,
    conversation_of,
    form_of,
    listed,
    said,
    text_in,
)

CHOSEN, REJECTED, LABEL = "chosen", "rejected", "label"
ASKED = (*LISTS, "prompt", "instruction", "question", "query", "input")
TRUTHS = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True)
class Preference:
    """An answer that was found good, one that was found bad, or both, to one question."""

    chosen: Conversation | None
    rejected: Conversation | None

    def tobytes(self) -> bytes:
        """What it is told from others by."""
        sides = (self.chosen, self.rejected)
        return b"\0".join(b"" if each is None else each.tobytes() for each in sides)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        sides = {CHOSEN: self.chosen, REJECTED: self.rejected}
        return {name: each.to_json() for name, each in sides.items() if each is not None}

    def __str__(self) -> str:
        return str(self.chosen or self.rejected)


def preferred_form(columns: Iterable[str]) -> tuple[str, ...]:
    """The columns that hold preferences, as the data calls them; () where none do."""
    names = {name.strip().lower(): name for name in columns if name}
    if CHOSEN in names and REJECTED in names:
        asked = next((names[each] for each in ASKED if each in names), None)
        return (*([] if asked is None else [asked]), names[CHOSEN], names[REJECTED])
    form = form_of(columns)
    return (*form, names[LABEL]) if form and LABEL in names else ()


def is_label(value: Any) -> bool:
    """Whether a cell says good or bad."""
    return str(value).strip().lower() in TRUTHS


def preference_of(row: Mapping[str, Any]) -> Preference:
    """The preference in a row, checked. Raises `DataError` saying what is wrong with it."""
    form = preferred_form(row)
    if not form:
        raise DataError("the row holds no preference", found=", ".join(map(str, row)) or "nothing",
                        expected="prompt, chosen and rejected; or messages and label")  # fmt: skip
    if form[-1].strip().lower() == LABEL:
        if not is_label(row[form[-1]]):
            raise DataError(
                "the label says neither good nor bad", found=row[form[-1]], expected="true, false"
            )
        rest = {name: value for name, value in row.items() if name != form[-1]}
        own, good = conversation_of(rest), TRUTHS[str(row[form[-1]]).strip().lower()]
        return Preference(own, None) if good else Preference(None, own)
    asked = said(row[form[0]], USER) if len(form) == 3 else []
    system = text_in(row.get("system"))
    if system.strip() and (not asked or asked[0].role != SYSTEM):
        asked = [Message(SYSTEM, system), *asked]
    found = Preference(*(_whole(asked, row[name]) for name in form[-2:]))
    if found.chosen == found.rejected:
        raise DataError("both answers are the same", hint="remove the row")
    return found


def _whole(asked: list[Message], side: Any) -> Conversation:
    """What was asked with one of the answers to it."""
    if isinstance(side, Mapping):
        side = [side]
    if isinstance(side, str) and side.lstrip().startswith(("[{", '{"')):
        side = _messages_in(side)
    own = [Message(ASSISTANT, side)] if isinstance(side, str) else listed(side, "answer")
    is_whole = own[: len(asked)] == asked or (bool(own) and own[0].role != ASSISTANT)
    return Conversation(tuple(own if is_whole else [*asked, *own])).check()


def _messages_in(text: str) -> Any:
    """The messages that a cell of a table holds as JSON; the text itself where it holds none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    found = [found] if isinstance(found, dict) else found
    is_message = isinstance(found, list) and all(
        isinstance(each, dict) and ({"role", "from"} & each.keys()) for each in found
    )
    return found if is_message else text
