"""Pictures as a part of a page, and damage that only pictures take."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

from PIL import Image as Pillow

from morphogen.modalities.image.grid import grid

QUALITY = "saved as JPEG of quality {:.0f}"
DAMAGES: Mapping[str, Sequence[float]] = {QUALITY: (100.0, 95.0, 75.0, 40.0)}


def as_html(pictures: Sequence[Pillow.Image], columns: int | None = None) -> str:
    """One PNG of all pictures, in a page that needs nothing but itself."""
    buffer = io.BytesIO()
    grid(pictures, columns).save(buffer, "PNG")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    named = f"{len(pictures)} pictures" if len(pictures) != 1 else "a picture"
    return f'<img class="items" alt="{named}" src="data:image/png;base64,{encoded}">'


def damaged(picture: Pillow.Image, words: str, strength: float) -> Pillow.Image:
    """The picture after it was saved as JPEG and opened again."""
    if words != QUALITY:
        raise KeyError(words)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=round(strength))
    return Pillow.open(io.BytesIO(buffer.getvalue())).convert(picture.mode)
