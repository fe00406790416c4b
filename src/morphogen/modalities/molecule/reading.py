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

import numpy as np

from morphogen import sources
from morphogen.core.codec import Item, Problem, Recognition, Report
from morphogen.core.errors import DataError
from morphogen.core.programs import answered
from morphogen.modalities.molecule.tokens import Spelling, looks_like_smiles
from morphogen.modalities.molecule.vocabulary import Written
from morphogen.modalities.molecule.worker import Told, look
from morphogen.modalities.text.reading import named_column
from morphogen.sources import (
    Batch,
    Coded,
    Record,
    RecordBatch,
    RecordBatches,
    Survey,
    Wants,
    combined,
    open_regular,
    opened,
    same,
)

LINES, BLOCKS = frozenset({".smi", ".smiles", ".ism", ".can"}), frozenset({".sdf", ".sd", ".mol"})
MAYBE = ".txt"  # lines of SMILES, if all that are looked at are
NAMED = ("smiles", "canonical_smiles", "isomeric_smiles", "smi", "molecule", "structure", "mol")
FIRST_LINES, FIRST_BYTES = 50, 1 << 14
TELLING = re.compile(r"[=#\[\]()@\d]")  # signs that words have not
HEADER = re.compile(r"smiles?\b", re.I)
PROPERTY = re.compile(r">\s+.*<(.+)>")  # of an SDF block
END_OF_BLOCK = "$$$$"
PROGRAM = "morphogen.modalities.molecule"
TOGETHER, FEW = 1024, 4096  # molecules that are asked about at once; that are looked at here
SPELT, ATOMS = "spelt", "atoms"  # what is noted of each
SEVERAL = "of_several_parts"


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
    written: Written,
) -> RecordBatches:
    """Every molecule of a source, spelt canonically, with `properties` that RDKit computes among
    its tags where the source does not say them. Of a batch by columns are noted, by the name
    `SPELT`, each in the spelling of `written`, and by `ATOMS` how many it has; what is read one by
    one is put into `written`."""
    return RecordBatches(_read(source, report, column, properties, written))


def _read(
    source: Any, report: Report, column: str | None, properties: Sequence[str], written: Written
) -> Iterator[Sequence[Item]]:
    ahead = replace(report, problems=[])  # of what is read before the molecules of before are told
    found = _apart(sources.batches(source, wants_for(source, column), ahead), ahead)
    for some, told in _looked_at(_gathered(found), properties, written.spelling, ahead):
        report.problems += told["unread"]
        if isinstance(some, RecordBatch):
            kept: Sequence[Item] = _by_columns(some, told, report)
        else:
            kept = list(_one_by_one(some, told, report, written))
        report.num_read += len(kept)
        if kept:
            yield kept
    report.problems += ahead.problems
    if bad := sum(problem.fatal for problem in report.problems):
        report.facts["no_molecules"] = f"{bad:,} entries are none, and are listed with why"


def _looked_at(
    batches: Iterable[Batch], properties: Sequence[str], spelling: Spelling, ahead: Report
) -> Iterator[tuple[Batch, Told]]:
    """Each batch with what `worker.look` finds of it, of a column of its different cells; and the
    problems up to it of what could not be read, `unread`, however far ahead the reading is."""
    asked: deque[tuple[Batch, list[Problem]]] = deque()

    def questions() -> Iterator[Any]:
        for some in batches:
            asked.append((some, ahead.problems))
            ahead.problems = []
            if isinstance(some, RecordBatch):
                texts: list[str | None] = [str(cell).strip() for cell in some.cell.values]
                blocks: list[int] = []
                wanting = [n for n in properties if n not in some.tags or _lacks(some.tags[n])]
            else:
                texts = list(map(_text_of, some))
                blocks = [place for place, each in enumerate(some) if each.suffix in BLOCKS]
                wanting = [n for n in properties if any(n not in each.tags for each in some)]
            yield spelling, wanting, texts, blocks

    for told in answered(PROGRAM, look, questions(), alone=FEW, size=lambda asked: len(asked[2])):
        some, unread = asked.popleft()
        yield some, {**told, "unread": unread}


def _lacks(column: Coded) -> bool:
    return None in column.values


def _by_columns(batch: RecordBatch, told: Told, report: Report) -> RecordBatch:
    """The molecules of a batch; those that are none become problems."""
    codes, num = batch.cell.codes, len(batch)
    tags = batch.tags
    for name, values in told["tags"].items():
        said = [batch.tags[name]] if name in batch.tags else []
        both = combined([*said, Coded(values, codes)], num)
        own = both.map(lambda each: next((v for v in each if v is not None), None))
        tags = {**tags, name: own}
    cells = {name: Coded(told["smiles"], codes) for name in batch.cells}
    noted = {SPELT: Coded(told["spelt"], codes), ATOMS: Coded(told["atoms"], codes)}
    batch = replace(batch, cells=cells, tags=tags, noted=noted)
    wrong = {place: (reason, hint) for place, reason, hint in told["wrong"]}
    if wrong:
        is_wrong = np.isin(codes, list(wrong))
        for row in np.flatnonzero(is_wrong).tolist():
            reason, hint = wrong[codes[row]]
            name, fix = f"{batch.stem}{batch.numbers[row]}", hint or "correct it, or leave it out"
            report.problems.append(Problem(name, reason, fix, fatal=True))
        batch = batch.take(np.flatnonzero(~is_wrong))
    of_several = np.array(["." in smiles for smiles in batch.cell.values], bool)
    if several := int(batch.cell.counts()[of_several].sum()):
        report.facts[SEVERAL] = report.facts.get(SEVERAL, 0) + several
    return batch


def _one_by_one(
    records: Sequence[Record], told: Told, report: Report, written: Written
) -> Iterator[Item]:
    """The same of records; one whose file cannot be read says why where it is opened."""
    wrong = {place: (reason, hint) for place, reason, hint in told["wrong"]}
    for place, smiles in enumerate(told["smiles"]):
        if smiles is not None or place in wrong:
            records[place].value = partial(same, place)

    def open_record(record: Record, notes: Report) -> str:
        place = record.value()
        if place in wrong:
            reason, hint = wrong[place]
            raise DataError(reason, hint=hint)
        smiles: str = told["smiles"][place]
        record.tags = {name: own[place] for name, own in told["tags"].items()} | record.tags
        if "." in smiles:
            notes.facts[SEVERAL] = notes.facts.get(SEVERAL, 0) + 1
        written.add(smiles, told["spelt"][place])
        return smiles

    yield from opened(records, open_record, report, threads=1)


def _text_of(record: Record) -> str | None:
    """What a record holds; None where reading it raises, which is told where it is opened."""
    try:
        value = record.value()
    except (DataError, OSError, RuntimeError, EOFError, ValueError):
        return None
    return value if record.suffix in BLOCKS else str(value).strip()


def _apart(batches: Iterable[Batch], report: Report) -> Iterator[RecordBatch | Record]:
    """Files of many molecules as these; cells as they are."""
    for some in batches:
        if isinstance(some, RecordBatch):
            yield some
            continue
        for record in some:
            if record.kind != "file":
                yield record
                continue
            try:
                yield from _in_file(record)
            except (DataError, OSError) as error:
                reason = error.message if isinstance(error, DataError) else str(error)
                problem = Problem(record.name, reason, "look at it", fatal=True)
                report.problems.append(problem)


def _gathered(found: Iterable[RecordBatch | Record]) -> Iterator[Batch]:
    """Records that follow one another, many at a time; batches as they are."""
    some: list[Record] = []
    for each in found:
        is_batch = isinstance(each, RecordBatch)
        if some and (is_batch or len(some) == TOGETHER):
            yield some
            some = []
        if isinstance(each, RecordBatch):
            yield each
        else:
            some.append(each)
    if some:
        yield some


def _in_file(record: Record) -> Iterator[RecordBatch | Record]:
    raw = io.BytesIO(record.value()) if record.path is None else open_regular(record.path)
    empty = True
    with raw, io.TextIOWrapper(raw, "utf-8-sig", errors="replace") as stream:
        each = _blocks_in if record.suffix in BLOCKS else _lines_in
        for found in each(record, iter(stream)):
            empty = False
            yield found
    if empty:
        raise DataError("the file holds no molecules")


def _lines_in(record: Record, stream: Iterator[str]) -> Iterator[RecordBatch]:
    """The lines of a file by columns, the names that follow SMILES among the tags."""
    rest = _lines(stream)
    while some := list(itertools.islice(rest, TOGETHER)):
        numbers, smiles, called = zip(*some, strict=True)
        cond, tags = (
            {name: Coded.same(value, len(some)) for name, value in said.items()}
            for said in (record.cond, record.tags)
        )
        if any(called):
            tags["name"] = Coded.of([name or record.tags.get("name") for name in called])
        yield RecordBatch(
            f"{record.name}#line ", np.array(numbers), {"smiles": Coded.of(smiles)},
            Coded.same(record.split, len(some)), cond, tags, None,
        )  # fmt: skip


def _lines(stream: Iterable[str]) -> Iterator[tuple[int, str, str]]:
    """SMILES, a line each, which a name may follow; a header is passed over."""
    for number, line in enumerate(stream, 1):
        smiles, *rest = line.strip().split(None, 1) or [""]
        if smiles and not (number == 1 and HEADER.match(smiles)):
            yield number, smiles, rest[0] if rest else ""


def _blocks_in(record: Record, stream: Iterator[str]) -> Iterator[Record]:
    """The mol blocks of an SDF."""
    for number, block, tags in _blocks(stream):
        yield Record(
            f"{record.name}#block {number}", "cell", partial(str, block), record.suffix,
            dict(record.cond), record.split, record.tags | tags, num_bytes=len(block),
        )  # fmt: skip


def _blocks(stream: Iterator[str]) -> Iterator[tuple[int, str, dict[str, str]]]:
    """The mol blocks of an SDF, each with the properties that are told after it."""
    for number in itertools.count(1):
        block = list(itertools.takewhile(lambda line: line.strip() != END_OF_BLOCK, stream))
        if not any(line.strip() for line in block):
            return
        yield number, "".join(block), _told_in(block)


def _told_in(block: Sequence[str]) -> dict[str, str]:
    told = {}
    for line, after in itertools.pairwise(block):
        if match := PROPERTY.match(line):
            told[match[1].strip().lower()] = after.strip()
    return told
