"""From a source to molecules: SMILES files, SDF, cells of a column, values in memory."""

from __future__ import annotations

import io
import itertools
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from morphogen import sources
from morphogen.core.codec import Item, Problem, Recognition, Report
from morphogen.core.errors import DataError
from morphogen.core.programs import answered
from morphogen.modalities.molecule.tokens import Spelling, looks_like_smiles
from morphogen.modalities.molecule.vocabulary import Written
from morphogen.modalities.molecule.worker import look
from morphogen.modalities.text.reading import named_column
from morphogen.sources import Record, Survey, Wants, open_regular, opened, same

LINES, BLOCKS = frozenset({".smi", ".smiles", ".ism", ".can"}), frozenset({".sdf", ".sd", ".mol"})
MAYBE = ".txt"  # lines of SMILES, if all that are looked at are
NAMED = ("smiles", "canonical_smiles", "isomeric_smiles", "smi", "molecule", "structure", "mol")
FIRST_LINES, FIRST_BYTES = 50, 1 << 14
TELLING = re.compile(r"[=#\[\]()@\d]")  # signs that words have not
HEADER = re.compile(r"smiles?\b", re.I)
PROPERTY = re.compile(r">\s+.*<(.+)>")  # of an SDF block
END_OF_BLOCK = "$$$$"
PROGRAM = "morphogen.modalities.molecule"
TOGETHER, FEW = 256, 4096  # molecules that are asked about at once; that are looked at here


def is_molecule(cell: Any) -> bool:
    """Whether a cell could be a molecule by its signs."""
    return looks_like_smiles(cell)


def molecule_column(samples: Mapping[str, Sequence[Any]]) -> str | None:
    """The column that holds molecules: by its name, if its cells look like it; else by cells that
    all do, and that no words are."""
    lower = {name.strip().lower(): name for name in samples if name}
    named = [lower[name] for name in NAMED if name in lower]
    named += [name for low, name in lower.items() if "smiles" in low and name not in named]
    for name in named:
        if _share(samples[name]) >= 0.5:
            return name
    return next((name for name in samples if name and all_smiles(samples[name])), None)


def _share(cells: Iterable[Any]) -> float:
    filled = [cell for cell in cells if isinstance(cell, str) and cell.strip()]
    return sum(map(is_molecule, filled)) / len(filled) if filled else 0.0


def all_smiles(cells: Sequence[Any]) -> bool:
    """Whether nearly all cells look like SMILES, and not like words."""
    filled = [cell for cell in cells if isinstance(cell, str) and cell.strip()]
    if len(filled) < 2 or _share(filled) < 0.9:
        return False
    letters = sum(bool(re.search("[A-Za-z]", cell)) for cell in filled)
    telling = sum(bool(TELLING.search(cell)) for cell in filled)
    return letters == len(filled) and telling >= 0.5 * len(filled)


WANTS = Wants(
    "molecule", suffixes=LINES | BLOCKS, cell=is_molecule, column=molecule_column, streams=True
)
WITH_TEXTS = replace(WANTS, suffixes=WANTS.suffixes | {MAYBE})


def wants_for(source: Any, column: str | None) -> Wants:
    """What is opened in a source: .txt where they hold lines of SMILES, and the column named."""
    try:
        found = WITH_TEXTS if _texts_are_molecules(sources.survey(source), source) else WANTS
    except DataError:
        found = WANTS
    return found if column is None else replace(found, column=partial(named_column, column))


# -- recognising ----------------------------------------------------------------------------------


def recognise(source: Any) -> Recognition | None:
    """How sure it is that `source` holds molecules, and why."""
    try:
        seen = sources.survey(source)
    except DataError:
        return None
    if seen.columns:
        column = None if seen.media else molecule_column(seen.columns)
        if column is None:
            return None
        share = _share(seen.columns[column])
        why = f"{share:.0%} of the cells of the column {column!r} look like SMILES"
        return Recognition(0.6 + 0.36 * share, why)
    if seen.values:
        sure = 0.95 if all_smiles(seen.values) else 0.0
        return Recognition(sure, f"{len(seen.values):,} SMILES") if sure else None
    if _texts_are_molecules(seen, source):
        return Recognition(0.97, f"every line of {seen.name} begins with a SMILES")
    return sources.recognise(source, WANTS)


def _texts_are_molecules(seen: Survey, source: Any) -> bool:
    """Whether .txt files hold a molecule a line, by those that begin them."""
    if MAYBE not in seen.suffixes or not isinstance(source, (str, Path)):
        return False
    starts = list(seen.starts.get(MAYBE, ()))
    if seen.kind == "file" and Path(source).is_file():
        with open_regular(Path(source)) as stream:
            starts = [stream.read(FIRST_BYTES)]
    return bool(starts) and all(map(_begins_with_molecules, starts))


def _begins_with_molecules(head: bytes) -> bool:
    lines = head.decode("utf-8", "replace").splitlines()
    whole = lines[:-1] if len(lines) > 1 else lines  # the last may be cut short
    firsts = [line.split()[0] for line in whole[:FIRST_LINES] if line.strip()]
    return all_smiles(firsts[1:] if firsts and HEADER.match(firsts[0]) else firsts)


# -- reading --------------------------------------------------------------------------------------


def read_molecules(
    source: Any,
    report: Report,
    column: str | None,
    properties: Sequence[str],
    *,
    written: Written | None = None,
) -> Iterator[Item]:
    """Every molecule of a source, spelt canonically, with `properties` that RDKit computes among
    its tags where the source does not say them. The tokens of each are put into `written`."""
    found = _apart(sources.records(source, wants_for(source, column), report), report)

    def open_record(record: Record, notes: Report) -> str:
        told = record.value()
        if "wrong" in told:
            raise DataError(told["wrong"], hint=told["hint"])
        smiles: str = told["smiles"]
        record.tags.update(told["tags"])
        if "." in smiles:
            notes.facts["of_several_parts"] = notes.facts.get("of_several_parts", 0) + 1
        if written is not None and "tokens" in told:
            written.add(smiles, told["tokens"])
        return smiles

    looked = _looked_at(found, properties, written.spelling if written else "smiles")
    for item in opened(looked, open_record, report, threads=1):
        report.num_read += 1
        yield item
    if bad := sum(problem.fatal for problem in report.problems):
        report.facts["no_molecules"] = f"{bad:,} entries are none, and are listed with why"


def _looked_at(
    records: Iterable[Record], properties: Sequence[str], spelling: Spelling
) -> Iterator[Record]:
    """Records whose value is what `worker.look` finds of the molecule; of one whose file cannot be
    read, the record as it is."""
    chunks: deque[list[tuple[Record, bool]]] = deque()  # with whether it can be read

    def questions() -> Iterator[Any]:
        rest = iter(records)
        while chunk := list(itertools.islice(rest, TOGETHER)):
            texts = list(map(_text_of, chunk))
            chunks.append(
                [(each, text is not None) for each, text in zip(chunk, texts, strict=True)]
            )
            yield spelling, [
                (text, record.suffix in BLOCKS, [n for n in properties if n not in record.tags])
                for record, text in zip(chunk, texts, strict=True)
                if text is not None
            ]  # fmt: skip

    for answers in answered(PROGRAM, look, questions(), alone=FEW // TOGETHER):
        told = iter(answers)
        for record, is_read in chunks.popleft():
            if is_read:
                record.value = partial(same, next(told))
            yield record


def _text_of(record: Record) -> str | None:
    """What a record holds; None where reading it raises, which is told where it is opened."""
    try:
        value = record.value()
    except (DataError, OSError, RuntimeError, EOFError, ValueError):
        return None
    return value if record.suffix in BLOCKS else str(value).strip()


def _apart(records: Iterable[Record], report: Report) -> Iterator[Record]:
    """Files of many molecules as one record for each; cells as they are."""
    for record in records:
        if record.kind != "file":
            yield record
            continue
        try:
            yield from _in_file(record)
        except (DataError, OSError) as error:
            reason = error.message if isinstance(error, DataError) else str(error)
            problem = Problem(record.name, reason, "look at it", fatal=True)
            report.problems.append(problem)


def _in_file(record: Record) -> Iterator[Record]:
    raw = io.BytesIO(record.value()) if record.path is None else open_regular(record.path)
    with raw, io.TextIOWrapper(raw, "utf-8-sig", errors="replace") as stream:
        lines = iter(stream)
        each = _blocks(lines) if record.suffix in BLOCKS else _lines(lines)
        empty = True
        for number, value, tags in each:
            empty = False
            own = record.tags | tags
            yield Record(
                f"{record.name}#{number}", "cell", partial(str, value), record.suffix,
                dict(record.cond), record.split, own, num_bytes=len(value),
            )  # fmt: skip
    if empty:
        raise DataError("the file holds no molecules")


def _lines(stream: Iterable[str]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """SMILES, a line each, which a name may follow; a header is passed over."""
    for number, line in enumerate(stream, 1):
        smiles, *rest = line.strip().split(None, 1) or [""]
        if smiles and not (number == 1 and HEADER.match(smiles)):
            yield f"line {number}", smiles, {"name": rest[0]} if rest else {}


def _blocks(stream: Iterator[str]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """The mol blocks of an SDF, each with the properties that are told after it."""
    for number in itertools.count(1):
        block = list(itertools.takewhile(lambda line: line.strip() != END_OF_BLOCK, stream))
        if not any(line.strip() for line in block):
            return
        yield f"block {number}", "".join(block), _told_in(block)


def _told_in(block: Sequence[str]) -> dict[str, str]:
    told = {}
    for line, after in itertools.pairwise(block):
        if match := PROPERTY.match(line):
            told[match[1].strip().lower()] = after.strip()
    return told
