"""What several verbs share: key=value options, JSON, plain tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from morphogen.core.errors import RecipeError


def parse_pairs(pairs: Iterable[str], option: str) -> dict[str, str]:
    """`["a=1", "b=2"]` -> {"a": "1", "b": "2"}. Raises `RecipeError` naming the option."""
    parsed = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise RecipeError(
                f"{option} takes name=value", found=pair, expected=f"{option} name=value"
            )
        parsed[key] = value
    return parsed


def conditions_of(pairs: Iterable[str] | None, label: str | None) -> dict[str, str]:
    """What `--cond name=value` and its short form for classes, `--label`, ask for."""
    return parse_pairs(pairs or [], "--cond") | ({} if label is None else {"label": label})


def reading_options(settings: Iterable[str] | None) -> dict[str, str]:
    """Options of reading, as `train` takes them: `["modality.seconds=2"]` -> {"seconds": "2"}."""
    return {
        name.removeprefix("modality."): value
        for name, value in parse_pairs(settings or (), "--set").items()
    }


def print_json(value: Any) -> None:
    """JSON for programs, with what JSON has no word for as text."""
    print(json.dumps(value, indent=2, default=str))


def print_found(found: Any, as_json: bool) -> None:
    """What a verb found: as text for people, or as JSON for programs."""
    if as_json:
        print_json(found.to_json())
    else:
        print(found.text())


def print_table(rows: Sequence[Sequence[object]], indent: str = "") -> None:
    """Columns as wide as their widest cell; the last one wraps at the terminal's edge."""
    import shutil
    import textwrap

    if not rows:
        return
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]) - 1)]
    left = len(indent) + sum(width + 2 for width in widths)
    room = max(shutil.get_terminal_size((100, 24)).columns - left, 24)
    for row in cells:
        start = indent + "".join(
            f"{cell:<{width}}  " for cell, width in zip(row, widths, strict=False)
        )
        lines = textwrap.wrap(row[-1], room, break_long_words=False) or [""]
        print((start + lines[0]).rstrip())
        for line in lines[1:]:
            print(" " * left + line)


def print_facts(facts: Mapping[str, object], indent: str = "") -> None:
    """One `name  value` line each; nested mappings are indented, empty values left out."""
    flat = {name: fact for name, fact in facts.items() if not isinstance(fact, Mapping)}
    print_table([(name, _plain(fact)) for name, fact in flat.items() if fact is not None], indent)
    for name, fact in facts.items():
        if isinstance(fact, Mapping) and fact:
            print(f"{indent}{name}")
            print_facts(fact, indent + "  ")


def number(value: float) -> str:
    """Four significant digits, without an exponent where a person reads it more easily."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _plain(fact: object) -> str:
    if isinstance(fact, float):
        return number(fact)
    if isinstance(fact, (list, tuple)):
        return ", ".join(map(_plain, fact))
    return str(fact)
