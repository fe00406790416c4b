"""A text -> the pieces in which a model says it, and what of it the model cannot say.

classes     a model that learned words by name says those alone: the longest name that fits at
            each place, a number digit by digit where the digits are names
texts       sentences; one that is longer than the model reads at once, in as few parts as fit
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from morphogen.core.bundle import Bundle
from morphogen.core.codec import Codec, Item
from morphogen.core.errors import RefusedPair
from morphogen.core.following import TakesParts
from morphogen.serve.worker.channel import Event
from morphogen.systems.knowledge.sentences import sentences

# Of Markdown: nobody reads them aloud.
MARKS = re.compile(r"[*_#`~|>]+|^\s*[-+\u2022]\s", re.MULTILINE)
WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")


def words(bundle: Bundle, number: int, work: Mapping[str, Any]) -> Iterator[Event]:
    """The pieces of a text, for the condition, or the part of an item, by which a model is told
    what to say. Raises `RefusedPair` where it has none."""
    name, items = work["by"], bundle.codec.innermost
    told = items.part_codecs if isinstance(items, TakesParts) else bundle.codec.condition_codecs
    if (codec := told.get(name)) is None:
        raise RefusedPair("this model is not told what to say", found=name,
                          expected="a condition, or a part of an item")  # fmt: skip
    names = bundle.codec.class_names(name)
    cut = by_name(work["text"], names) if names else by_length(work["text"], codec.innermost)
    yield {"id": number, "pieces": list(cut)}
    yield {"id": number, "done": {}}


def by_name(text: str, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Names that stand in a text, and each run of words between them that are none."""
    known = {tuple(WORD.findall(name.lower())): name for name in reversed(names)}
    longest, found = max(map(len, known)), WORD.findall(MARKS.sub(" ", text))
    unsaid: list[str] = []
    at = 0
    while at < len(found):
        here = [word.lower() for word in found[at : at + longest]]
        size = next((n for n in range(len(here), 0, -1) if tuple(here[:n]) in known), 0)
        digits = found[at] if not size and found[at].isdecimal() else ""
        is_spelt = bool(digits) and all((each,) in known for each in digits)
        if not size and not is_spelt:
            unsaid.append(found[at])
            at += 1
            continue
        if unsaid:
            yield _unsaid(unsaid)
            unsaid = []
        if is_spelt:
            yield from ({"text": each, "say": known[(each,)]} for each in digits)
        else:
            said = " ".join(found[at : at + size])
            yield {"text": said, "say": known[tuple(here[:size])]}
        at += size or 1
    if unsaid:
        yield _unsaid(unsaid)


def by_length(text: str, codec: Codec) -> Iterator[dict[str, Any]]:
    """Sentences, in parts that the model reads whole; a word that it does not, or of letters that
    it has never seen, is not said."""
    known = getattr(codec, "characters", "")
    for sentence in sentences(MARKS.sub(" ", text)):
        part: list[str] = []
        for word in sentence.text.split():
            why = None
            if strange := sorted({*as_learned(word, known)} - {*known}) if known else []:
                why = f"it has learned nothing with {' '.join(strange)}"
            elif not fits([word], known, codec):
                why = "longer than what it reads at once"
            if why is None and fits([*part, word], known, codec):
                part.append(word)
                continue
            if part:
                yield _said(part, known)
            part = [] if why else [word]
            if why:
                yield _unsaid([word], why)
        if part:
            yield _said(part, known)


def as_learned(text: str, known: str) -> str:
    """A text as those that a model learned were written: small where there was no capital, and
    without the signs that stood in none."""
    if not known:
        return text
    text = text if known != known.lower() else text.lower()
    return "".join(each for each in text if each in known or each.isalnum())


def fits(part: Sequence[str], known: str, codec: Any) -> bool:
    """Whether a part of a text is read to its end."""
    sequence = codec.encode_sequences([Item(as_learned(" ".join(part), known))])[0]
    return len(sequence) < codec.spec.shape[0] or codec.spec.end is None


def _said(part: Sequence[str], known: str) -> dict[str, Any]:
    text = " ".join(part)
    return {"text": text, "say": as_learned(text, known)}


def _unsaid(
    found: Sequence[str], why: str = "not among the words that it learned"
) -> dict[str, Any]:
    return {"text": " ".join(found), "say": "", "why": why}
