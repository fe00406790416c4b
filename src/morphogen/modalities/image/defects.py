"""What reading pictures puts up with in silence, as their headers show it."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from morphogen.core.codec import Problem, Report
from morphogen.core.errors import DataError
from morphogen.modalities.image.opening import MAX_PIXELS, WANTS
from morphogen.sources import defects, open_regular, records

TINY = 8  # pixels of the short side
HUGE = 16  # times the median side
LONG = 4  # times as long as wide
FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG",
    ".webp": "WEBP", ".bmp": "BMP", ".gif": "GIF", ".tif": "TIFF", ".tiff": "TIFF",
}  # fmt: skip


def find_defects(source: Any) -> Iterator[Problem]:
    """Defects of names, links and tables, then those of each picture file."""
    yield from defects(source, WANTS)
    sizes: dict[str, tuple[int, int]] = {}
    try:
        for record in records(source, WANTS, Report(str(source))):
            if record.path is not None and record.kind == "file":
                yield from _in_picture(Path(record.path), record.name, sizes)
    except DataError:
        return  # reading reports it
    yield from _of_sizes(sizes)


def _in_picture(path: Path, name: str, sizes: dict[str, tuple[int, int]]) -> Iterator[Problem]:
    """Defects that the header shows; damaged files are left to reading, which names them."""
    try:
        with warnings.catch_warnings(), open_regular(path) as stream:
            warnings.simplefilter("ignore")
            picture = Pillow.open(stream)
            with picture:
                width, height = picture.size
                if width * height > MAX_PIXELS:
                    return
                sizes[name] = (width, height)
                yield from _of_header(picture, path.suffix.lower(), name)
                if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
                    yield from _of_alpha(picture, name)
    except Exception:  # whatever a decoder raises on damaged bytes, reading reports
        return


def _of_header(picture: Pillow.Image, suffix: str, name: str) -> Iterator[Problem]:
    kind = picture.format or ""
    usual = FORMATS.get(suffix)
    if usual and usual != kind and not (kind == "MPO" and usual == "JPEG"):
        reason = f"it is a {kind} file with the suffix {suffix}"
        yield Problem(name, reason, f"rename it to .{kind.lower()}", field="suffix")
    turned = picture.getexif().get(274, 1)
    if turned != 1:
        reason = f"EXIF orientation {turned}: other programs show or train on it turned"
        yield Problem(name, reason, "save it upright; here it is read upright", field="orientation")
    if getattr(picture, "is_animated", False):
        frames = getattr(picture, "n_frames", 2)
        reason = f"an animation of {frames:,} frames, of which the first is read"
        yield Problem(name, reason, "save the frames that you want as files", field="frames")
    if picture.mode == "CMYK":
        reason = "CMYK colours, which become RGB without the printer's profile"
        yield Problem(name, reason, "save it as RGB with a colour profile", field="mode")
    elif picture.mode in ("P", "PA") and not getattr(picture, "is_animated", False):
        reason = "a palette of at most 256 colours, which becomes full colour"
        yield Problem(name, reason, "find the original, if colours matter", field="mode")
    elif picture.mode == "1":
        yield Problem(name, "black and white only, 1 bit", "find the original", field="mode")
    width, height = picture.size
    if min(width, height) < TINY:
        reason = f"tiny: {width}x{height} pixels"
        yield Problem(name, reason, "leave it out, or find it larger", field="size")
    if max(width, height) > LONG * min(width, height):
        reason = f"extreme aspect ratio: {width}x{height} pixels"
        yield Problem(name, reason, "crop it, or use --set modality.resize=pad", field="size")


def _of_alpha(picture: Pillow.Image, name: str) -> Iterator[Problem]:
    low, high = picture.convert("RGBA").getchannel("A").getextrema()
    if high == 0:
        reason = "every pixel is fully transparent"
        yield Problem(name, reason, "delete it, or save it with its colours", field="alpha")
    elif low == 255:
        reason = "an alpha channel that is opaque everywhere"
        yield Problem(name, reason, "save it without alpha", field="alpha")


def _of_sizes(sizes: Mapping[str, tuple[int, int]]) -> Iterator[Problem]:
    if len(sizes) < 3:
        return
    usual = statistics.median(max(size) for size in sizes.values())
    for name, (width, height) in sizes.items():
        if max(width, height) > HUGE * usual:
            reason = f"huge beside the others: {width}x{height}, the median side is {usual:g}"
            yield Problem(name, reason, "save it smaller", field="size")
