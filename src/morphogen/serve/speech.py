"""What models hear and say: a sound written down, a text as sounds, piece by piece.

What is to be said is cut by the process of the model (`worker/words.py`), which alone knows how
much it reads at once. Each piece is drawn as any item is: recorded, bounded, with a credential.
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request

from morphogen.serve.answer import Answer
from morphogen.serve.catalogue import Entry
from morphogen.serve.errors import APIError
from morphogen.serve.routes._works import made, result_of, worked
from morphogen.serve.serving import Serving
from morphogen.serve.voices import ANY, Hearing, Speaking

SEED = 0  # the same words sound the same again
SHOWN, SHOWN_MOST = 40, 12  # letters of a piece, and pieces, that a message names


@dataclass(frozen=True)
class Heard:
    """What was said in a sound."""

    text: str
    answer: Answer
    language: str = ""
    seconds: float | None = None
    segments: Sequence[Mapping[str, Any]] = ()
    forms: Mapping[str, str] = field(default_factory=dict)  # by the suffix of a file


@dataclass(frozen=True)
class Piece:
    """A part of a text, and why it is not said where it is not."""

    text: str
    say: str  # as the model knows it
    why: str | None = None


def hearing(here: Serving, entry: Entry) -> Hearing | None:
    """How a model hears, known from its folder or once it is open; None where it does not."""
    about = _about(here, entry)
    if about is None:
        return entry.hears
    if about.get("tasks", {}).get("transcribe", "no such task") is None:
        return Hearing()
    how = entry.hears
    if how is None or not how.condition or (how.parts and not how.parts.is_open_to(about)):
        return None
    return how


def speaking(here: Serving, entry: Entry) -> Speaking | None:
    """How a model speaks; None where it does not, such as one that only tells sounds apart."""
    about, how = _about(here, entry), entry.speaks
    if about is None or how is None:
        return how
    if how.parts is not None:
        return how if how.parts.is_open_to(about) else None
    return how if about.get("tasks", {}).get("generate") is None else None


def _about(here: Serving, entry: Entry) -> Mapping[str, Any] | None:
    """What a model tells of itself, where it is open."""
    process = here.pool.open.get(entry.name)
    if process is None or not process.is_alive or not process.about:
        return None
    about: Mapping[str, Any] = process.about
    return about


async def heard(
    here: Serving,
    request: Request,
    entry: Entry,
    sound: Mapping[str, str],
    *,
    access: Any,
    options: Mapping[str, Any],
) -> Heard:
    """Write down what is said in a sound, which comes as an input of a task does. Raises
    `APIError` for a model that does not hear."""
    if entry.hears is None and entry.kind == "bundle":
        raise unfit(entry.name, "hears")
    await here.pool.get(entry)  # which tells what it can do
    how = hearing(here, entry)
    if how is None:
        raise unfit(entry.name, "hears")
    work: dict[str, Any] = {"seed": SEED}
    if how.condition is None:
        work |= {"do": "task", "task": "transcribe", "inputs": [sound], "options": dict(options)}
    elif how.parts is not None:
        work |= how.parts.work(sound, temperature=0)
    else:
        work |= {"do": "generate", "cond": {how.condition: sound},
                 "options": {"num": 1, "temperature": 0}}  # fmt: skip
    answer, events = await worked(here, request, entry, work, access=access)
    result = result_of(events)
    if how.condition is not None:
        (item,) = result["items"]
        text = (item if how.parts is None else how.parts.part(item))["text"].strip()
        return Heard(text, answer, forms={".txt": f"{text}\n"})
    told = result["values"]
    return Heard(
        told["text"][0], answer, told["language"][0], told["seconds"][0], told["segments"][0],
        result.get("forms", {}),
    )  # fmt: skip


async def pieces(
    here: Serving, entry: Entry, text: str, voice: str
) -> tuple[Speaking, list[Piece]]:
    """How a model speaks, and a text as it says it, sentence by sentence, in order. Raises
    `APIError` for one that does not speak, and for a voice that it has not."""
    if entry.speaks is None:
        raise unfit(entry.name, "speaks")
    voiced(entry.speaks, voice)
    await here.pool.get(entry)  # which tells what it can do
    how = speaking(here, entry)
    if how is None:
        raise unfit(entry.name, "speaks")
    work = {"do": "words", "by": how.condition, "text": text}
    return how, [Piece(**each) for each in await _told(here, entry, work, "pieces")]


async def said(
    here: Serving, entry: Entry, told: Sequence[Piece], *, voice: str, access: Any
) -> AsyncGenerator[tuple[Piece, Answer | None, bytes]]:
    """Pieces in their order, each as a WAV, nothing for those that are not said. As many as the
    model draws at once are drawn together. Raises `APIError`."""
    waiting, running = deque(told), deque[tuple[Piece, Any]]()
    try:
        while waiting or running:
            while waiting and len(running) < here.settings.batch:
                piece = waiting.popleft()
                drawn = None if piece.why else _drawn(here, entry, piece, voice, access)
                running.append((piece, drawn and asyncio.ensure_future(drawn)))
            piece, drawing = running[0]
            answer, sound = (None, b"") if drawing is None else await drawing
            running.popleft()
            yield piece, answer, sound
    finally:
        left = [drawing for _, drawing in running if drawing is not None]
        for drawing in left:
            drawing.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _drawn(
    here: Serving, entry: Entry, piece: Piece, voice: str, access: Any
) -> tuple[Answer, bytes]:
    how = speaking(here, entry)
    assert how is not None
    work: dict[str, Any] = {"seed": SEED}
    if how.parts is not None:
        work |= how.parts.work({"text": piece.say})
    else:
        cond = {how.condition: piece.say, **voiced(how, voice)}
        work |= {"do": "generate", "cond": cond, "options": {"num": 1}}
    answer, events = await made(here, entry, work, prompt=piece.text, access=access)
    (item,) = result_of(events)["items"]
    drawn = item if how.parts is None else how.parts.part(item)
    return answer, base64.b64decode(drawn["file"])


def unsaid(entry: Entry, how: Speaking, told: Sequence[Piece]) -> str:
    """What of a text is not said, why, and what the model says instead; empty where all is."""
    left = [each for each in told if each.why]
    if not left:
        return ""
    quoted = _few([repr(each.text[:SHOWN]) for each in left])
    return f"{entry.name} does not say {quoted}: {because(how, left[0])}"


def because(how: Speaking, piece: Piece) -> str:
    """Why a piece is not said, and what the model says instead."""
    return f"{piece.why}." + (f" It says {_few(how.words)}." if how.words else "")


def _few(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_MOST
    return ", ".join(names[:SHOWN_MOST]) + (f" and {more} more" if more > 0 else "")


def voiced(how: Speaking, voice: str) -> dict[str, str]:
    """A voice as a condition; one that knows no voices has its own. Raises `APIError`."""
    if how.voice is None or voice in ("", ANY):
        return {}
    if voice not in how.voices:
        raise APIError(400, f"there is no voice {voice!r}: {', '.join(how.voices)}, or {ANY}",
                       param="voice", code="no_such_voice")  # fmt: skip
    return {how.voice: voice}


async def whole(here: Serving, entry: Entry, sounds: Sequence[bytes]) -> bytes:
    """WAV files that a model drew as one, with pauses between; a single one is left as it is. The
    process of the model joins them, as it alone can sign what it made."""
    if len(sounds) == 1:
        return sounds[0]
    told = [base64.b64encode(each).decode() for each in sounds]
    parts = entry.speaks.parts if entry.speaks is not None else None
    work = {"do": "join", "seed": SEED, "sounds": told, "part": parts and parts.drawn}
    return base64.b64decode(await _told(here, entry, work, "sound"))


async def _told(here: Serving, entry: Entry, work: Mapping[str, Any], key: str) -> Any:
    """What the process of a model tells under `key`, having done what draws nothing."""
    process = await here.pool.get(entry)
    events = [event async for event in await process.ask(work)]
    return next(event[key] for event in events if key in event)


def unfit(model: str, what: str) -> APIError:
    """The answer to who asks a model for what it does not do."""
    return APIError(400, f"no such model here: {model} is none that {what}", param="model",
                    code="no_such_model_here")  # fmt: skip
