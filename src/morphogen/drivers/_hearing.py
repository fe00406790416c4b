"""What all models that hear speech share: the sounds they take, and what may be asked of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from morphogen.core import discover
from morphogen.core.codec import Codec
from morphogen.core.errors import RecipeError, RefusedPair, did_you_mean
from morphogen.core.transcript import Segment

RATE = 16_000  # samples a second
SECONDS = 30  # of the window that Whisper encodes at once


def window() -> Codec:
    """The codec of their items: one channel, of the window that is heard at once."""
    codec: Any = discover.find("modality", "sound")(channels="mono", seconds=SECONDS)
    heard: Codec = codec.for_hearing(RATE, SECONDS)
    return heard


def segment(start: float, end: float, text: str, num_samples: int) -> Segment:
    """A segment of a sound of so many samples: marks of time may lie beyond its end."""
    seconds = num_samples / RATE
    return Segment(round(min(start, seconds), 3), round(min(end, seconds), 3), text)


def check_asked(language: str | None, translate: bool, known: Iterable[str]) -> None:
    """Raise where a model of these languages cannot do it."""
    known = sorted(known)
    if known == ["en"] and (translate or language not in (None, "en")):
        raise RefusedPair(
            "this model was made for English alone",
            found="translate=true" if translate else f"language={language}",
            hint="leave it out, or import a model of several languages, such as whisper-tiny",
        )
    if language is not None and language not in known:
        raise RecipeError(
            f"the model knows no language {language!r}.{did_you_mean(language, known)}",
            found=language,
            expected=", ".join(known),
        )
