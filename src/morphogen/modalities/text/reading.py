"""From a source to texts: files, cells of one column, values in memory; long files in pieces."""

from __future__ import annotations

import io
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import IO, Any

from morphogen import sources
from morphogen.core.codec import Item, Problem, Recognition, Report
from morphogen.core.codec import Text as Listed
from morphogen.core.errors import DataError, did_you_mean
from morphogen.modalities.text.encodings import (
    PLAIN,
    Decoded,
    decoded,
    has_lone,
    in_utf8,
    to_bytes,
    without_half,
)
from morphogen.modalities.text.pieces import LARGEST, MANY_FILES, piece_bytes, pieces
from morphogen.sources import Record, Survey, Wants, open_regular, split_of_shard

SUFFIXES = frozenset({
    ".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".log", ".srt", ".vtt", ".org", ".adoc",
    ".html", ".htm", ".xml", ".yaml", ".yml", ".toml", ".ini", ".py", ".js", ".ts", ".jsx",
    ".tsx", ".java", ".c", ".h", ".cpp", ".hpp", ".cc", ".cs", ".go", ".rs", ".rb", ".php",
    ".swift", ".kt", ".scala", ".sh", ".sql", ".r", ".jl", ".lua", ".pl", ".hs", ".css",
})  # fmt: skip
NAMED = (
    "text", "content", "document", "body", "sentence", "paragraph", "abstract", "review", "comment",
    "message", "story", "article", "caption", "prompt", "title", "name", "smiles", "sequence",
)  # fmt: skip
BESIDE = {
    "id", "idx", "index", "label", "labels", "class", "category", "target", "split", "subset",
    "title", "source", "licence", "license", "consent", "synthetic", "author", "date", "url",
    "lang", "language",
}  # fmt: skip
MOST_AT_ONCE = 1 << 26  # bytes of a file in another encoding than UTF-8 that are decoded at once
FEW_WORDS = 4  # a column of cells with as many words on average is free text,
MANY_WORDS = 10  # and what a table is about, where there are so many for each other column
ABOUT = re.compile(
    "readme|licen[cs]e|copying|notice|source|citation|changelog|authors|contributing", re.I
)
PER_LINE = re.compile(r"[^\n]*\n?")
PER_PARAGRAPH = re.compile(r"(?:(?!\n[ \t\r]*\n).)+\n?", re.DOTALL)


def is_text(cell: Any) -> bool:
    """Whether a cell of a table, or a value in memory, is a text."""
    return isinstance(cell, str)


def text_column(samples: Mapping[str, Sequence[Any]]) -> str | None:
    """The column that holds the texts: one with a known name, else the wordiest."""
    words = {name: _words(cells) for name, cells in samples.items()}
    lower = {name.strip().lower(): name for name in samples if words[name] > 0}
    known = [lower[name] for name in NAMED if name in lower]
    wordy = max(words, key=words.__getitem__, default=None)
    if known and (wordy is None or words[known[0]] * 4 >= words[wordy]):
        return known[0]
    return wordy if wordy is not None and words[wordy] > 0 else None


def named_column(name: str, samples: Mapping[str, Sequence[Any]]) -> str:
    """The column that a user calls `name`. Raises `DataError` where there is none."""
    if name not in samples:
        raise DataError(
            f"the table has no column {name!r}.{did_you_mean(name, samples)}",
            found=", ".join(samples),
            expected=name,
            hint="--set modality.column=NAME, or leave it out",
        )
    return name


def _words(cells: Iterable[Any]) -> float:
    """Words in a cell on average; 0 for a column that is not of texts."""
    filled = [cell for cell in cells if cell is not None and cell != ""]
    if not filled or not all(isinstance(cell, str) for cell in filled):
        return 0.0
    if all(re.fullmatch(r"[\d\s.,:%/+-]*", cell) for cell in filled):
        return 0.0
    return sum(len(cell.split()) for cell in filled) / len(filled)


WANTS = Wants("text", suffixes=SUFFIXES, cell=is_text, column=text_column, streams=True)


# -- recognising ----------------------------------------------------------------------------------


def recognise(source: Any) -> Recognition | None:
    """How sure it is that `source` holds texts, and why."""
    try:
        seen = sources.survey(source)
    except DataError:
        return None
    return _recognise_table(seen) if seen.columns else sources.recognise(source, WANTS)


def _recognise_table(seen: Survey) -> Recognition | None:
    column = text_column(seen.columns)
    if column is None or seen.media:
        return None
    words = _words(seen.columns[column])
    others = [name for name in seen.columns if name and name.strip().lower() not in BESIDE]
    num_others = len(others) - (column in others)
    if words < FEW_WORDS and (num_others or column.strip().lower() != "text"):
        return None
    sure = 0.9 if not num_others else 0.8 if words >= MANY_WORDS * num_others else 0.4
    return Recognition(sure, f"a table with a column of texts, {column!r}")


# -- reading --------------------------------------------------------------------------------------


def read_texts(
    source: Any, report: Report, per: str = "auto", encoding: str = "auto", wanted: Wants = WANTS
) -> Iterator[Item]:
    """Every text of a source; `per` says what within a file is one."""
    encodings: Counter[str] = Counter()
    guesses: dict[str, tuple[str, str]] = {}  # the first text of each encoding that is a guess
    windows_ends = total = 0
    for name, record, found in _found(source, report, per, encoding, wanted):
        encodings[found.encoding] += 1
        if found.guess:
            guesses.setdefault(found.encoding, (name, found.guess))
        windows_ends += "\r\n" in found.text
        total += len(found.text)
        report.num_read += 1
        if found.odd:
            fix = "save it as UTF-8, if it matters"
            report.problems.append(Problem(name, found.odd, fix))
        yield Item(found.text, name, record.cond, record.split, record.tags)
    report.facts["characters"] = total
    if set(encodings) - {PLAIN}:
        report.facts["encodings"] = dict(encodings)
    for code, (name, why) in guesses.items():
        many = f", as {encodings[code]:,} texts are" if encodings[code] > 1 else ""
        fix = "look whether it reads well; else --set modality.encoding=NAME"
        report.problems.append(Problem(name, f"{why}: read as {code}{many}, a guess", fix))
    if windows_ends:
        report.facts["line_ends"] = f"{windows_ends:,} texts have those of Windows; they are kept"


def list_texts(
    source: Any, per: str = "auto", encoding: str = "auto", wanted: Wants = WANTS
) -> Iterator[Listed]:
    """The texts as they are read, then the names of files and folders."""
    quiet = Report(str(source))
    for name, _, found in _found(source, quiet, per, encoding, wanted):
        yield Listed(name, "text", found.text)
    yield from (each for each in sources.texts(source, wanted) if each.is_name)


def _found(
    source: Any, report: Report, per: str, encoding: str, wanted: Wants
) -> Iterator[tuple[str, Record, Decoded]]:
    for record, size in _with_sizes(sources.records(source, wanted, report), report):
        try:
            if record.kind == "file":
                yield from _of_file(record, size, per, encoding)
            else:
                yield record.name, record, _of_cell(record.value(), encoding)
        except (DataError, OSError) as error:
            reason = error.message if isinstance(error, DataError) else str(error)
            fix = getattr(error, "hint", None) or "look at it"
            report.problems.append(Problem(record.name, reason, fix, fatal=True))


def _with_sizes(found: Iterator[Record], report: Report) -> Iterator[tuple[Record, int]]:
    """Every record with the length of the pieces that its file is cut into."""
    first = list(itertools.islice(found, MANY_FILES))
    total = None
    if len(first) < MANY_FILES:
        first = _without_words_about(first, report)
        _divide_by_names(first)
        total = sum(map(_num_bytes, first))
    size = piece_bytes(total)
    yield from ((record, size) for record in itertools.chain(first, found))


def _without_words_about(few: list[Record], report: Report) -> list[Record]:
    """Of a few files, those that do not describe the others."""
    about = [r for r in few if r.kind == "file" and ABOUT.fullmatch(PurePosixPath(r.name).stem)]
    if len(about) == len(few):
        return few
    for record in about:
        reason, fix = "it is about the data, and left out", "rename it, if it is a text of its own"
        report.problems.append(Problem(record.name, reason, fix))
    return [record for record in few if record not in about]


def _divide_by_names(few: list[Record]) -> None:
    """train.txt beside test.txt: the splits of the source."""
    splits = [split_of_shard(PurePosixPath(record.name).stem) for record in few]
    if all(splits) and "train" in splits and len(set(splits)) > 1:
        for record, split in zip(few, splits, strict=True):
            record.split = record.split or split


def _num_bytes(record: Record) -> int:
    return record.num_bytes or (os.stat(record.path).st_size if record.path else 0)


def _of_file(
    record: Record, size: int, per: str, encoding: str
) -> Iterator[tuple[str, Record, Decoded]]:
    """The pieces of a file, or its paragraphs or lines, each under a name of its own."""
    with _stream(record) as stream:
        head = stream.read(LARGEST)
        whole = decoded(without_half(head) if encoding == "auto" else b"", encoding=encoding)
        rest = iter(lambda: stream.read(LARGEST), b"")
        if whole.encoding == PLAIN:
            parts = pieces(itertools.chain([head], rest), size)
        else:  # one code for the whole file
            head += stream.read(MOST_AT_ONCE)
            whole = decoded(head, encoding=encoding)
            parts = pieces([to_bytes(whole.text)] if whole.text else [], size)
            if len(head) > MOST_AT_ONCE:  # known by how it begins; the pieces tell what is odd
                whole = replace(whole, text="", odd="")
                parts = pieces(in_utf8(itertools.chain([head], rest), whole.code), size)
        if per in ("paragraph", "line"):
            parts = _each(parts, per)
        first = next(parts, None)
        if first is None or not first.strip(b"\0"):
            reason = "the file is empty" if first is None else "it holds nothing but zeros"
            raise DataError(reason, hint="remove it")
        second = next(parts, None)
        if second is None:
            yield record.name, record, _piece(first, whole, 0, encoding)
            return
        place = 0
        for number, part in enumerate(itertools.chain([first, second], parts)):
            yield f"{record.name}#{number}", record, _piece(part, whole, place, encoding)
            place += len(part)


def _each(parts: Iterator[bytes], per: str) -> Iterator[bytes]:
    """Paragraphs, or lines, that hold anything; without the line end that divides them."""
    rule = PER_LINE if per == "line" else PER_PARAGRAPH
    for part in parts:
        text = part.decode("utf-8", "surrogateescape")
        for match in rule.finditer(text):
            if match[0].strip():
                yield match[0].strip("\r\n").encode("utf-8", "surrogateescape")


def _piece(part: bytes, whole: Decoded, place: int, encoding: str) -> Decoded:
    """One piece of a file whose encoding is known; what is odd of all of it is told once."""
    if whole.encoding == PLAIN:
        return decoded(part, place, encoding)
    text, odd = part.decode("utf-8", "surrogateescape"), "" if place else whole.odd
    if not whole.text and ("\ufffd" in text or has_lone(text)):
        odd = f"it has characters that are no {whole.encoding}"
    return Decoded(text, whole.encoding, odd, whole.guess)


def _of_cell(cell: Any, encoding: str) -> Decoded:
    if isinstance(cell, bytes):
        return decoded(cell, encoding=encoding)
    text = str(cell)
    return Decoded(to_bytes(text).decode("utf-8", "surrogateescape"), PLAIN)


def _stream(record: Record) -> IO[bytes]:
    return io.BytesIO(record.value()) if record.path is None else open_regular(record.path)
