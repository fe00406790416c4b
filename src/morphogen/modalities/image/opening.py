"""From a record of a source to a raw picture: decoding files, scaling arrays.

Legend: H height, W width, C channels.
"""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from morphogen.core.codec import Item, Problem, Report
from morphogen.core.errors import DataError
from morphogen.modalities.image.convert import Form, beyond, pixels, plain_mode
from morphogen.modalities.image.marks import read_mark
from morphogen.modalities.image.scale import Scale, channels_last, is_image_shape
from morphogen.provenance.said import said_by
from morphogen.sources import Record, Wants, again, begins, opened

PICTURES = frozenset(
    {
        ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff",
        ".pgm", ".ppm", ".pbm", ".pnm",
    }
)  # fmt: skip
CONVERT = dict.fromkeys(
    (
        ".heic", ".heif", ".svg", ".psd", ".avif", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".dng",
        ".eps", ".ai", ".xcf", ".exr", ".hdr", ".dcm", ".jp2", ".jxl", ".tga", ".ico",
    ),
    "convert it to PNG or JPEG",
)  # fmt: skip
MAX_PIXELS = 90_000_000  # beyond this, a small file can be made to fill the memory
# Sizes are checked here; a filter set for each picture would be shared by all threads.
warnings.filterwarnings("ignore", category=Pillow.DecompressionBombWarning)
SHAPES = "(N, H, W), (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels"


def sniff(head: bytes) -> bool:
    """True when bytes begin as a picture does that can be read."""
    if head[:2] == b"BM":
        return head[6:10] == b"\0\0\0\0"
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    if head[:1] == b"P":  # PGM, PPM and their like
        return head[1:2] in (b"1", b"2", b"3", b"4", b"5", b"6") and head[2:3] in b" \t\r\n#"
    return head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*"))


WANTS = Wants(
    "picture",
    suffixes=PICTURES,
    sniff=sniff,
    cell=lambda value: isinstance(value, Pillow.Image),
    arrays=lambda shape, dtype: is_image_shape(shape) and dtype.kind in "uifb",
    shapes=SHAPES,
    convert=CONVERT,
)


def pictures(records: Iterable[Record], report: Report, limit: int) -> Iterator[Item]:
    """Records as pictures: (H, W), or (H, W, C) with 3 or 4 channels; uint8, uint16 or float32.

    Files are reduced to a short side of at least `4 * limit` while they are read. The scale of
    arrays is read off the first, the training part, and applied to all.
    """
    opening = _Opening(limit)
    yield from opened(opening.prepared(records, report), opening.open, report)


def counted(items: Iterator[Item], report: Report) -> Iterator[Item]:
    """Pass items on, and put counts of modes, depths and captions into the report."""
    modes: Counter[str] = Counter()
    depths: Counter[str] = Counter()
    captions = 0
    for item in items:
        # What a table says of an item overrules what its file says of itself.
        item.tags = {**report.marks.pop(item.name, {}), **item.tags}
        form = Form.of(item.value)
        modes[form.mode] += 1
        depths[form.depth] += 1
        captions += "caption" in item.cond
        report.num_read += 1
        yield item
    report.facts |= {"modes": dict(modes), "depths": dict(depths)}
    if captions:
        report.facts["captions"] = (
            f"{captions:,} of {report.num_read:,} pictures have captions, which are learned with "
            "--condition caption"
        )


class _Opening:
    """What opening one record has to know of the others."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.scale: Scale | None = None

    def prepared(self, records: Iterable[Record], report: Report) -> Iterator[Record]:
        """Pass records on; look at each stack of arrays as it begins."""
        seen: Any = None
        for record in records:
            if record.stack is not None and record.stack is not seen:
                seen = record.stack
                images = channels_last(seen)
                self.scale = self.scale or Scale.of(images, report)
                note_size(report, images.shape[1], images.shape[2], len(images))
            yield record

    def open(self, record: Record, notes: Report) -> Any:
        """One record -> pixels; raises `DataError` when they are none."""
        value = record.value()
        if isinstance(value, bytes):
            return open_picture(value, record.name, notes, self.limit)
        if isinstance(value, Pillow.Image):
            plain = pixels(plain_mode(value))
            note_size(notes, *plain.shape[:2])
            return plain
        if not isinstance(value, np.ndarray):
            raise DataError(
                f"no picture: a value of the type {type(value).__name__}", hint="leave it out"
            )
        return self._array(record, value, notes)

    def _array(self, record: Record, value: np.ndarray, notes: Report) -> np.ndarray:
        image = channels_last(value[None])[0]
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            fix = "replace the missing values or delete the row"
            raise DataError("NaN or infinite values", hint=fix)
        if record.stack is not None and self.scale is not None:
            return self.scale.apply(image)
        note_size(notes, *image.shape[:2])
        low, high = float(image.min()), float(image.max())
        if low < 0 or high > (1 if image.dtype.kind == "f" else 65535):
            raise beyond(low, high)
        return Scale.of(image[None], notes, alone=True).apply(image)


def open_picture(data: bytes, name: str, report: Report, limit: int = 0) -> np.ndarray:
    """Bytes -> pixels, upright: (H, W), or (H, W, C) with 3 or 4 channels; uint8, uint16, float32.

    Raises `DataError` when the bytes are no picture. Pictures whose short side exceeds `4 * limit`
    come back reduced to that, which the later resizing does not see.
    """
    if not data:
        raise DataError("the file is empty", hint="delete it or copy it again")
    try:
        return _decoded(data, name, report, limit)
    except UnidentifiedImageError as error:
        raise _unidentified(data) from error
    except (Pillow.DecompressionBombError, MemoryError) as error:
        reason = f"too large: more than {MAX_PIXELS // 10**6} million pixels"
        hint = "save it smaller; a small file this wide may be an attack"
        raise DataError(reason, hint=hint) from error
    except DataError:
        raise
    except Exception as error:  # decoders raise many kinds on damaged files; none may end a run
        reason = f"damaged or cut short ({len(data):,} bytes): {error}"
        raise DataError(reason, hint="copy it again from where it came, or delete it") from error


def _decoded(data: bytes, name: str, report: Report, limit: int) -> np.ndarray:
    stream = io.BytesIO(data)
    known = data.startswith(b"\x89PNG\r\n\x1a\n")  # Pillow asks one plugin after the other
    picture: Any = PngImageFile(stream) if known else Pillow.open(stream)
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise Pillow.DecompressionBombError(f"{width}x{height} pixels")
    _note_header(picture, data, name, report)
    if found := {**said_by(data), **read_mark(picture)}:
        report.marks[name] = found
    if limit and min(width, height) > 8 * limit:
        picture.draft(None, (4 * limit, 4 * limit))  # JPEG only: decodes at a fraction
    picture.load()
    turned = picture.getexif().get(274, 1) if "exif" in picture.info or data[:2] in TIFF else 1
    if turned != 1:
        picture = ImageOps.exif_transpose(picture)
    if turned >= 5:  # EXIF orientations 5 to 8 swap the axes
        width, height = height, width
    plain = pixels(_reduced(plain_mode(picture), 4 * limit))
    note_size(report, height, width)
    return plain


TIFF = (b"II", b"MM")


def _unidentified(data: bytes) -> DataError:
    """The error for bytes that Pillow does not know."""
    if data[:4] in (b"II*\0", b"MM\0*"):
        return DataError(
            "a TIFF of a kind that is not read, such as 16-bit colour or tiles of floats",
            hint="save its channels as 8-bit PNG, or as 16-bit grey, one file each",
        )
    return DataError(f"not a picture: it begins with {begins(data)}", hint=again(data))


def _reduced(picture: Any, short: int) -> Any:
    """Shrink an 8-bit picture to the short side `short`, when it is at least twice as large."""
    if not (short and isinstance(picture, Pillow.Image)) or picture.mode == "I;16":
        return picture
    factor = min(picture.size) // short
    return picture.reduce(factor) if factor >= 2 else picture


def _note_header(picture: Pillow.Image, data: bytes, name: str, report: Report) -> None:
    """Say what Pillow would do silently: drop later frames, and the low byte of 16-bit colour."""
    if getattr(picture, "is_animated", False):
        report.facts["first_frame_only"] = report.facts.get("first_frame_only", 0) + 1
    deep = picture.format == "PNG" and len(data) > 25 and data[24] == 16 and data[25] in (2, 4, 6)
    if picture.format == "TIFF":
        bits = picture.tag_v2.get(258, ())  # type: ignore[attr-defined]
        deep = isinstance(bits, tuple) and len(bits) > 1 and max(bits) > 8
    if deep:
        reason = "16-bit colour is read as 8-bit colour"
        fix = "nothing, if 8 bits are enough; else save the channels as 16-bit grey"
        report.problems.append(Problem(name, reason, fix))


def note_size(report: Report, height: int, width: int, count: int = 1) -> None:
    """Count pictures of a size, as they are in the source."""
    sizes = report.facts.setdefault("sizes", {})
    sizes[f"{width}x{height}"] = sizes.get(f"{width}x{height}", 0) + count
