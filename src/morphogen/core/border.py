"""The border where files come in: all of what was read is held against a shape before it is used.

A shape is written as the JSON looks:

    {"version": COUNT, "files": {str: SHA256}, "note?": str, "seeds": [COUNT], "of": (COUNT, None)}

a record with these names (a "?" marks those that may be absent; further ones are left alone), a
mapping of any names, a list, any one of several; a type, or None, stands for itself. Whatever does
not fit is one error that says where in the file it stands.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morphogen.core.errors import BundleError, MorphogenError

LARGEST = 64 << 20  # bytes of a file of JSON or TOML
DEEPEST = 100  # nested lists and mappings
MOST = 2**53  # larger whole numbers are not the same in every program


@dataclass(frozen=True)
class Number:
    """A finite number, between `low` and `high` where these are given."""

    whole: bool = False
    low: float = -math.inf
    high: float = math.inf

    def fits(self, value: object) -> bool:
        """Whether `value` is such a number."""
        kinds = (int,) if self.whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            return False
        return self.low <= value <= self.high and (self.whole or math.isfinite(value))

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        limits = [f"at least {self.low:g}"] if self.low > -math.inf else []
        limits += [f"at most {self.high:g}"] if self.high < math.inf else []
        return " of ".join([kind, " and ".join(limits)]) if limits else kind


@dataclass(frozen=True)
class Text:
    """A text that matches a pattern."""

    pattern: str
    what: str

    def fits(self, value: object) -> bool:
        """Whether `value` is such a text."""
        return isinstance(value, str) and re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return self.what


COUNT = Number(whole=True, low=0, high=MOST)
SIZE = Number(whole=True, low=1, high=2**31 - 1)
REAL = Number()
SHA256 = Text("[0-9a-f]{64}", "64 hexadecimal digits")
NAMES = {str: "text", dict: "a mapping", list: "a list", bool: "true or false", None: "null"}


def read_bytes(path: Path, error: type[MorphogenError] = BundleError) -> bytes:
    """A file of moderate size. Raises `error` for one that is not there, or no such file."""
    try:
        if not path.is_file():
            raise error(f"{path.name} is missing or no file", where=path)
        if (size := path.stat().st_size) > LARGEST:
            raise error(
                f"{path.name} is too large to be one of ours",
                found=f"{size:,} bytes", expected=f"{LARGEST:,} at most", where=path,
            )  # fmt: skip
        return path.read_bytes()
    except (OSError, ValueError) as cause:
        raise error(f"{path.name} cannot be read: {cause}", where=path) from cause


def read_text(path: Path, error: type[MorphogenError] = BundleError) -> str:
    """A file of UTF-8 text. Raises `error` for any other."""
    try:
        return read_bytes(path, error).decode()
    except UnicodeDecodeError as cause:
        raise error(f"{path.name} is not UTF-8 text: {cause.reason}", where=path) from cause


def read_json(path: Path, shape: Any = dict, error: type[MorphogenError] = BundleError) -> Any:
    """The JSON in a file, which has this shape. Raises `error` for anything else."""
    return parse_json(read_text(path, error), shape, path, error)


def parse_json(
    text: str, shape: Any, where: object, error: type[MorphogenError] = BundleError
) -> Any:
    """JSON of this shape. Raises `error` for anything else."""
    try:
        value = json.loads(text)
        check_sane(value)
    except (ValueError, RecursionError) as cause:
        name = getattr(where, "name", "the text")
        raise error(f"{name} is damaged: {cause or 'nested too deep'}", where=where) from cause
    check_shape(value, shape, where, error)
    return value


def strict_json(text: str) -> Any:
    """What JSON says, as its standard has it: NaN and Infinity are none. Raises `ValueError`, or
    `RecursionError`, for anything else, what is nested too deep among it."""

    def refuse(name: str) -> float:
        raise ValueError(f"{name} is no number")

    value = json.loads(text, parse_constant=refuse)
    check_sane(value)
    return value


def read_lines(path: Path, shape: Any = dict) -> Iterator[Any]:
    """The JSON of every line of this shape; what was cut short, or is damaged, is left out."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield parse_json(line, shape, path)
        except BundleError:
            continue


def unzipped(data: bytes, where: object) -> bytes:
    """What is packed in gzip, up to a size that is believed. Raises `BundleError`."""
    unpack = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpack.decompress(data, LARGEST)
    except zlib.error as cause:
        raise BundleError(f"the file is damaged: {cause}", where=where) from cause
    if not unpack.eof:
        raise BundleError("the file is cut short, or too large", where=where)
    return unpacked


def check_shape(
    value: Any, shape: Any, where: object, error: type[MorphogenError] = BundleError
) -> None:
    """Raise `error`, naming the place, unless `value` has this shape."""
    for place, found, wanted in _misfits(value, shape, ""):
        raise error(
            f"{place or 'the whole'} is not what stands there in such a file",
            found="nothing" if found is _ABSENT else reprlib.repr(found),
            expected=wanted,
            where=where,
        )


def check_sane(value: Any, depth: int = 0) -> None:
    """Raise `ValueError` for JSON that is nested without reason, or has halves of characters."""
    if depth > DEEPEST:
        raise ValueError("nested too deep")
    if isinstance(value, Mapping):
        for each in value.values():
            check_sane(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            check_sane(each, depth + 1)
    elif isinstance(value, str) and not value.isascii():
        value.encode()  # half a character is no text: a `ValueError`


@contextmanager
def reading(
    what: str, where: object = None, error: type[MorphogenError] = BundleError
) -> Iterator[None]:
    """Around what is built from a file: what it asks for may have the right shape and still be
    nothing that a component can be. Raises `error` then."""
    try:
        yield
    except MorphogenError:
        raise
    except (
        ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError,
        OSError, RuntimeError, TypeError, ValueError, zlib.error,
    ) as cause:  # fmt: skip
        first = next(iter(str(cause).splitlines()), "")
        raise error(
            f"{what} is damaged: {first or type(cause).__name__}",
            found=type(cause).__name__,
            where=where,
            hint="copy it again from where it came; --debug shows what failed",
        ) from cause


_ABSENT = object()


def _misfits(value: Any, shape: Any, place: str) -> Iterator[tuple[str, Any, str]]:
    """Where `value` is not of `shape`: (place, what is there, what should be)."""
    if isinstance(shape, Mapping):
        yield from _misfits_of_mapping(value, shape, place)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield place, value, NAMES[list]
            return
        for number, each in enumerate(value):
            yield from _misfits(each, shape[0], f"{place}[{number}]")
    elif isinstance(shape, tuple):
        tried = [list(_misfits(value, each, place)) for each in shape]
        if all(tried):
            nearest = max(tried, key=lambda misfits: len(misfits[0][0]))
            deeper = len(nearest[0][0]) > len(place)
            yield nearest[0] if deeper else (place, value, _described(shape))
    elif isinstance(shape, (Number, Text)):
        if not shape.fits(value):
            yield place, value, _described(shape)
    elif shape is None or isinstance(shape, str):
        if value != shape:
            yield place, value, _described(shape)
    elif shape is not Any and not isinstance(value, shape):
        yield place, value, _described(shape)


def _described(shape: Any) -> str:
    """A shape in words."""
    if isinstance(shape, (Mapping, list)):
        return NAMES[dict] if isinstance(shape, Mapping) else NAMES[list]
    if isinstance(shape, tuple):
        return " or ".join(dict.fromkeys(map(_described, shape)))
    return repr(shape) if isinstance(shape, str) else NAMES.get(shape, str(shape))


def _misfits_of_mapping(
    value: Any, shape: Mapping[Any, Any], place: str
) -> Iterator[tuple[str, Any, str]]:
    if not isinstance(value, dict):
        yield place, value, NAMES[dict]
        return
    dot = f"{place}." if place else ""
    for key, each in shape.items():
        if key is str:
            for name in value:
                yield from _misfits(value[name], each, f"{dot}{name}")
            continue
        name = key.removesuffix("?")
        if name in value:
            yield from _misfits(value[name], each, f"{dot}{name}")
        elif name == key:
            yield f"{dot}{name}", _ABSENT, _described(each)
