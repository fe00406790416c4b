"""Sounds for people: a player, and a picture of how loud each pitch is over time."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from morphogen.core.visible import in_html
from morphogen.modalities.sound.files import Waveform, as_wav, mixed
from morphogen.modalities.sound.mel import LogMel, usual_bands

MOST_COLUMNS = 4  # of players, which are useless where they are narrow
FITTING = "repeat(auto-fill,minmax(min(12rem,100%),1fr))"
MOST_SECONDS = 30.0  # of a sound that are drawn
HOP_MS = 8.0  # of a column of the picture
DEEPEST = 60.0  # decibels below the loudest that are still drawn
# Dark to bright, in even steps of lightness, readable without colours.
COLOURS = (
    (9, 13, 33),
    (48, 33, 97),
    (133, 45, 105),
    (214, 87, 70),
    (247, 165, 62),
    (252, 247, 201),
)


def pictures(sounds: Sequence[Waveform], columns: int | None = None) -> str:
    """Each sound with its picture and a player, side by side."""
    cells = "".join(map(_shown, sounds))
    across = f"repeat({min(columns, MOST_COLUMNS)},minmax(0,1fr))" if columns else FITTING
    style = f"display:grid;gap:.75rem;grid-template-columns:{across}"
    return f'<div style="{style}">{cells}</div>'


def _shown(sound: Waveform) -> str:
    heard = base64.b64encode(as_wav(sound)).decode()
    seen = base64.b64encode(spectrogram(sound)).decode()
    told = in_html(str(sound))
    return (
        '<figure style="margin:0">'
        f'<img src="data:image/png;base64,{seen}" alt="Spectrogram: {told}" '
        'style="width:100%;height:5rem;display:block;border-radius:.3rem .3rem 0 0">'
        '<audio controls preload="none" style="width:100%;display:block" '
        f'src="data:audio/wav;base64,{heard}"></audio>'
        f"<figcaption>{told}</figcaption></figure>"
    )


def spectrogram(sound: Waveform) -> bytes:
    """A PNG: time to the right, pitch upwards, the loudest the brightest."""
    samples = mixed(sound, 1).samples[:, : max(int(MOST_SECONDS * sound.rate), 1)]
    mel = LogMel(sound.rate, 2 * usual_bands(sound.rate), HOP_MS)
    decibels = mel.decibels(torch.from_numpy(np.ascontiguousarray(samples)))[0].numpy()  # (B, T)
    level = 1 + (decibels[::-1] - max(float(decibels.max()), -DEEPEST)) / DEEPEST
    picture = Image.fromarray((level.clip(0, 1) * 255).astype(np.uint8))
    place = np.linspace(0, len(COLOURS) - 1, 256)
    palette = [np.interp(place, range(len(COLOURS)), part) for part in zip(*COLOURS, strict=True)]
    picture.putpalette(np.stack(palette, 1).round().astype(np.uint8).tobytes())
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()
