"""Small damage of code: it reads nearly the same, and does something else."""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Callable

import torch

from morphogen.core.random import randint

SWAPPED = {
    "==": "!=", "!=": "==", "<=": ">=", ">=": "<=", "<": ">", ">": "<", "+": "-", "-": "+",
    "&&": "||", "||": "&&", "and": "or", "or": "and", "True": "False", "False": "True",
    "true": "false", "false": "true",
}  # fmt: skip
OPERATOR = re.compile(r"(?<= )(?:==|!=|<=|>=|&&|\|\||[<>+-])(?= )|\b(?:and|or|[Tt]rue|[Ff]alse)\b")
INDENTATION = re.compile(r"^[ \t]+(?=\S)", re.MULTILINE)
NAME = re.compile(r"\b[A-Za-z_]\w+\b")
RESERVED = frozenset(keyword.kwlist) | {
    "int", "void", "char", "float", "double", "bool", "static", "const", "struct", "public",
    "private", "protected", "new", "this", "null", "true", "false", "do", "switch", "case", "var",
    "function", "let", "func", "fn", "package", "use", "mut", "pub", "impl", "include", "define",
    "end", "self",
}  # fmt: skip


def swap_operators(code: str, num: int, draw: torch.Generator) -> str:
    """As many operators become their opposites."""
    return _changed(code, list(OPERATOR.finditer(code)), num, draw, lambda old: SWAPPED[old])


def lose_indentation(code: str, num: int, draw: torch.Generator) -> str:
    """As many lines begin at the margin."""
    return _changed(code, list(INDENTATION.finditer(code)), num, draw, lambda old: "")


def change_names(code: str, num: int, draw: torch.Generator) -> str:
    """As many times, a name that is used elsewhere too is another one of the same code."""
    found = [match for match in NAME.finditer(code) if match[0] not in RESERVED]
    counts = Counter(match[0] for match in found)
    names = sorted(counts)
    often = [match for match in found if counts[match[0]] > 1]

    def other(old: str) -> str:
        if len(names) < 2:
            return f"{old}_"
        place = names.index(old) + 1 + int(randint(len(names) - 1, (1,), draw))
        return names[place % len(names)]

    return _changed(code, often or found, num, draw, other)


DAMAGES: dict[str, Callable[[str, int, torch.Generator], str]] = {
    "with {:.0f} operators swapped": swap_operators,
    "with the indentation of {:.0f} lines lost": lose_indentation,
    "with {:.0f} names changed": change_names,
}


def _changed(
    code: str,
    places: list[re.Match[str]],
    num: int,
    draw: torch.Generator,
    change: Callable[[str], str],
) -> str:
    """The code with `num` of the places changed, or all, where there are fewer."""
    order = torch.randperm(len(places), generator=draw)[:num] if num else torch.arange(0)
    for match in sorted((places[i] for i in order.tolist()), key=lambda m: -m.start()):
        code = code[: match.start()] + change(match[0]) + code[match.end() :]
    return code
