"""Music for people: a piano roll that is drawn, and a player of its sound."""

from __future__ import annotations

import base64
import io
import wave

import numpy as np

from morphogen.core.visible import in_html
from morphogen.modalities.music.files import RATE, rendered
from morphogen.modalities.music.piece import NAMES, Piece

STEP, KEY = 6, 4  # width of a step, height of a key, in units of the drawing
MOST_SECONDS = 20.0  # of sound within a page
VOICES = ("#0b6b5d", "#b35900", "#5b4bb7", "#a3260f")  # by the note's place in its chord


def shown(piece: Piece) -> str:
    """A drawing, a player of the first seconds, and what it is in words."""
    return (
        f"<figure style='margin:0'>{roll(piece)}"
        f'<audio controls preload="none" style="width:100%" src="{sound(piece)}"></audio>'
        f"<figcaption>{in_html(str(piece))}, {piece.seconds:.0f} s</figcaption></figure>"
    )


def roll(piece: Piece) -> str:
    """Time to the right, pitch upwards; the lines are the notes C."""
    notes = piece.notes()
    low = min((pitch for pitch, *_ in notes), default=60) - 1
    high = max((pitch for pitch, *_ in notes), default=60) + 1
    width, height = max(len(piece.steps), 1) * STEP, (high - low + 1) * KEY
    parts = [
        f'<line x1="0" x2="{width}" y1="{y}" y2="{y}" stroke="#8886" stroke-width=".5"/>'
        for y in ((high - pitch + 1) * KEY for pitch in range(low, high + 1) if pitch % 12 == 0)
    ]
    for pitch, first, num in notes:
        voice = sum(other > pitch for other in piece.steps[first])
        parts.append(
            f'<rect x="{first * STEP}" y="{(high - pitch) * KEY}" width="{num * STEP - 1}" '
            f'height="{KEY - 0.5}" rx="1" fill="{VOICES[voice % len(VOICES)]}">'
            f"<title>{NAMES[pitch % 12]}{pitch // 12 - 1}</title></rect>"
        )
    return (
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" '
        f'style="width:100%;height:7rem;background:#8881;border-radius:.3rem">'
        f"<title>Piano roll: {in_html(str(piece))}</title>{''.join(parts)}</svg>"
    )


def sound(piece: Piece) -> str:
    """The first seconds as a part of a page."""
    stream = io.BytesIO()
    samples = rendered(piece)[: round(MOST_SECONDS * RATE) : 2]  # half the rate: it is but a view
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE // 2)
        file.writeframes((samples * 32767).astype(np.int16).tobytes())
    return f"data:audio/wav;base64,{base64.b64encode(stream.getvalue()).decode()}"
