"""Which models hear and which speak, as the config of a bundle tells before it is opened.

hears     its task `transcribe` does (Whisper), or its texts were learned given their sounds, or as
          another part of the same items
speaks    its sounds were learned given words: texts of any kind, or classes, which are then all
          that it can say. Another condition that is a class (a speaker) is its voice. Or they are
          parts of items that have texts, too
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from morphogen.serve.parts import TEXTS, Way, way

SOUNDS = ("sound",)
WORDS = ("text", "caption", "transcript", "word", "label")  # what is said of a sound is called so
ANY = "any"  # voice


@dataclass(frozen=True)
class Hearing:
    """How a model is given a sound to write down what is said in it."""

    condition: str | None = None  # the name by which it is given; None: by the task `transcribe`
    seconds: float | None = None  # heard at once; None: as many as there are
    parts: Way | None = None  # by which the text is drawn, where an item has parts


@dataclass(frozen=True)
class Speaking:
    """How a model is told what to say, and in whose voice."""

    condition: str
    words: tuple[str, ...] = ()  # all that it can say; none: texts of any kind
    voice: str | None = None  # the name of the condition that is a voice
    voices: tuple[str, ...] = ()
    parts: Way | None = None  # by which the sound is drawn, where an item has parts


def voices_of(config: Mapping[str, Any]) -> tuple[Hearing | None, Speaking | None]:
    """How a bundle hears, and how it speaks. What it is asked to predict of a sound (`target`) is
    nothing that it can be told."""
    recipe, known = _within(config, "recipe"), _within(config, "conditions")
    codec = _inmost(_within(config, "codec"))
    if (state := _within(codec, "state")).keys() >= {"kinds", "coders"}:
        return _hearing_parts(state), _speaking_parts(state)
    target = _within(recipe, "family").get("target")
    told = {
        name: _inmost(each) for name, each in _within(codec, "conditions").items()
        if name in known and name != target
    }  # fmt: skip
    if codec.get("name") in SOUNDS:
        return (Hearing() if recipe.get("driver") else None), _speaking(told)
    sounds = [(name, each) for name, each in told.items() if each.get("name") in SOUNDS]
    if codec.get("name") not in TEXTS or not sounds:
        return None, None
    name, sound = sounds[0]
    return Hearing(name, _seconds(sound)), None


def _hearing_parts(state: Mapping[str, Any]) -> Hearing | None:
    kinds = _within(state, "kinds")
    if (found := way(kinds, SOUNDS, TEXTS)) is None:
        return None
    sound = _inmost(_within(state, "coders", kinds[found.given]))
    return Hearing(found.given, _seconds(sound), found)


def _speaking_parts(state: Mapping[str, Any]) -> Speaking | None:
    found = way(_within(state, "kinds"), TEXTS, SOUNDS)
    return None if found is None else Speaking(found.given, parts=found)


def _seconds(sound: Mapping[str, Any]) -> float | None:
    """How long the sounds of a codec are, at most."""
    rate = _within(sound, "state", "options").get("rate")
    return _within(sound, "state").get("num_samples", 0) / rate if rate else None


def _speaking(told: Mapping[str, Mapping[str, Any]]) -> Speaking | None:
    """By texts before classes, and by what is called so before what is not: others are voices."""
    kinds = {name: each.get("name") for name, each in told.items()}
    texts = [name for name, kind in kinds.items() if kind == "text"]
    classes = {
        name: tuple(map(str, _within(told[name], "state").get("classes") or ()))
        for name, kind in kinds.items() if kind == "category"
    }  # fmt: skip
    called = [
        name for names in (texts, classes) for name in (*(n for n in WORDS if n in names), *names)
    ]
    if not called:
        return None
    voice = next((name for name in classes if name != called[0]), None)
    return Speaking(called[0], classes.get(called[0], ()), voice, classes.get(voice or "", ()))


def _inmost(codec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The codec of the items themselves, within those that are around it."""
    while codec.get("axis") == "wrapper":
        state = _within(codec, "state")
        codec = _within(state, "codec") or _within(state, "inner")
    return codec


def _within(told: Any, *names: str) -> dict[str, Any]:
    """What a config says there; nothing where it says something else."""
    for name in names:
        told = told.get(name) if isinstance(told, Mapping) else None
    return told if isinstance(told, dict) else {}
