"""What is in a source, what is wrong with it file by file, and what would be made of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from morphogen.core.codec import Problem, Report
from morphogen.core.errors import DataError
from morphogen.core.visible import in_shell
from morphogen.data.conditions import class_counts, facts_of
from morphogen.data.dataset import Data, load_into
from morphogen.data.modality import find_modality
from morphogen.data.names import firsts, one_of_each_file
from morphogen.data.neighbours import members
from morphogen.data.noting import LABEL
from morphogen.data.scan import Scan
from morphogen.data.store import Store

AGAIN = "morphogen inspect"
CHUNK = 512
CONSTANT = 0.02  # standard deviation in [-1, 1] below which an item is near-constant
UNBALANCED = 10  # the largest class over the smallest, from which it is worth saying
MOST_SHOWN = 20
MANY_ALIKE = 10  # problems of one kind, from which they are told together


@dataclass
class Inspection:
    """The answer to `morphogen inspect SOURCE`."""

    source: str
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    error: str | None = None  # why nothing can be trained on this source
    next_command: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    def text(self, most: int = MOST_SHOWN) -> str:
        """For a terminal: what is in it, what is wrong, what to type next."""
        lines = [f"{self.source}", ""]
        for name, value in self.facts.items():
            lines.append(f"  {name.replace('_', ' ') + ':':<18}{_shown(value)}")
        skipped = [problem for problem in self.problems if problem.fatal]
        notes = [problem for problem in self.problems if not problem.fatal]
        for title, problems in (("skipped", skipped), ("worth a look", notes)):
            if problems:
                lines += ["", f"{title}: {len(problems):,}"]
                told = _together(problems)
                for name, each in told[:most]:
                    lines += [f"  {name}", f"      {each.reason}", f"      fix: {each.fix}"]
                if len(told) > most:
                    lines.append(f"  and {len(told) - most:,} more (--json lists all)")
        if self.error:
            lines += ["", "This cannot be trained on:", *self.error.splitlines()]
        elif not self.problems:
            lines += ["", "Nothing is wrong with it."]
        first = "mend it, then " if self.error and self.next_command.startswith(AGAIN) else ""
        return "\n".join([*lines, "", f"next: {first}{self.next_command}"])


def _together(problems: list[Problem]) -> list[tuple[str, Problem]]:
    """Problems with what they are about; many of one kind are told once, in the first's place."""
    same: defaultdict[tuple[str, str], list[Problem]] = defaultdict(list)
    for each in problems:
        same[each.reason, each.fix].append(each)
    told = []
    for alike in same.values():
        if len(alike) > MANY_ALIKE:
            names = ", ".join(each.name for each in alike[:3])
            told.append((f"{len(alike):,} items: {names}, ... (--json lists all)", alike[0]))
        else:
            told += [(each.name, each) for each in alike]
    return told


def inspect(
    source: Path | str,
    modality: str | None = None,
    *,
    file_names: str | None = None,
    **codec_options: Any,
) -> Inspection:
    """Read all of `source` and judge it (`file_names`: see `data.file_names`). A source that cannot
    be trained on is told, not raised; raises `DataError` only when there is nothing that a codec
    recognises."""
    return inspect_with(Scan(file_names=file_names), source, modality, codec_options)


def inspect_with(
    scan: Scan, source: Path | str, modality: str | None, codec_options: Mapping[str, Any]
) -> Inspection:
    """`inspect`, leaving in `scan` what was seen."""
    report = Report(str(source))
    forced = modality is not None
    modality = modality or find_modality(source, report)
    options = dict(codec_options)
    conditions = options.pop("conditions", None)
    try:
        data = load_into(source, modality, options, report, scan, conditions=conditions)
    except DataError as error:
        facts = {"modality": modality, "items": report.num_read, **report.facts}
        again = f"{AGAIN} {in_shell(source)}"
        if error.hint == again:  # which was done just now
            error = DataError(
                error.message, found=error.found, expected=error.expected, where=error.where
            )
        return Inspection(str(source), facts, report.problems, str(error), again)
    problems = [*report.problems, *_copies(scan), *_class_problems(data), *_flat_items(data)]
    name = Path(str(source).rstrip("/")).name.partition(".")[0] or "model"
    out = f"models/{name}"
    asked = f" --modality {modality}" if forced else ""
    asked += f" --condition {in_shell(conditions)}" if conditions else ""
    named = {"file_names": scan.file_names} if scan.file_names else {}
    for option, value in {**named, **options}.items():
        asked += f" --set {in_shell(f'modality.{option}={value}')}"
    command = f"morphogen train {in_shell(source)}{asked} --budget 10m --out {in_shell(out)}"
    return Inspection(str(source), _facts(data, modality), problems, None, command)


def _facts(data: Data, modality: str) -> dict[str, Any]:
    report = data.report
    facts: dict[str, Any] = {
        "modality": modality,
        "items": report.num_read,
        **report.facts,
        "becomes": str(data.spec),
    }
    for name, fact in facts_of(data.codec, data.train.cond).items():
        facts["classes" if name == LABEL else name] = fact
    return {**facts, **{key: v for key, v in report.facts.items() if key not in facts}}


def _copies(scan: Scan) -> list[Problem]:
    """Exact copies within a split; those across splits are found when the data is loaded."""
    problems = []
    for group in members(firsts(scan.digests.words)):
        if len({scan.splits[number] for number in group}) > 1:
            continue
        first, *rest = one_of_each_file(scan.names[number] for number in group)
        if not rest:  # captions of one item
            continue
        listed = ", ".join(rest[:3]) + (", ..." if len(rest) > 3 else "")
        problems.append(Problem(first, f"exact copies: {listed}", "keep one of them"))
    return problems


def _class_problems(data: Data) -> list[Problem]:
    problems = []
    for name, spec in data.conditions.items():
        if not (names := data.codec.class_names(name)):
            continue
        counts = Counter(dict(zip(names, class_counts(data.train.cond[name], spec), strict=True)))
        (most, many), (least, few) = counts.most_common()[0], counts.most_common()[-1]
        if many >= UNBALANCED * few:
            reason = f"very unbalanced: {many:,} of {most!r}, {few:,} of {least!r}"
            fix = f"add items of the rare classes, such as {least!r}"
            problems.append(Problem(name, reason, fix))
    return problems


def _flat_items(data: Data) -> list[Problem]:
    """Items whose values hardly differ: blank pictures, silence."""
    if data.spec.kind != "real" or data.spec.num_values < 2:
        return []
    problems = []
    for split in (data.train, data.test):
        for number in _flat_in(split):
            fix = "look at it, and delete it if it is blank"
            problems.append(Problem(split.names[number], "it is nearly constant", fix))
    return problems


def _flat_in(split: Store) -> list[int]:
    found = []
    for start in range(0, len(split), CHUNK):
        index = torch.arange(start, min(start + CHUNK, len(split)))
        spread = split.batch(index).x.flatten(1).std(1)
        found += (start + (spread < CONSTANT).nonzero().flatten()).tolist()
    return found


def _shown(value: Any, most: int = 8) -> str:
    """One line for a fact; long tables are cut, saying so."""
    if not isinstance(value, dict):
        return f"{value:,}" if isinstance(value, int) else str(value)
    pairs = [
        f"{name} ({_shown(count)})" if isinstance(count, dict) else f"{name} {_shown(count)}"
        for name, count in list(value.items())[:most]
    ]
    more = len(value) - len(pairs)
    return ", ".join(pairs) + (f", and {more:,} more" if more else "")
