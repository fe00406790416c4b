r"""Whether texts have the form of code, where real texts have it.

    parses      the share of texts that Python parses, where it parses half of the held-out ones
                and these are more than lone names and numbers
    balanced    the share of texts whose brackets ( ) [ ] { } are closed in order, and whose lines
                are indented by spaces or tabs, not both; where half of the held-out ones have
                brackets

Other languages have no parser here: of them it is brackets and indents, which strings and comments
may put out of order in good code too; so the floor counts. Code cut into windows parses nowhere.
Nothing is run.
"""

from __future__ import annotations

import ast
import functools
import re
import warnings
from collections.abc import Sequence

import torch

from morphogen.core.metric import Texts, scores

PAIRS = {")": "(", "]": "[", "}": "{"}
PLAIN = (ast.Name, ast.Constant, ast.Tuple)  # an expression that prose may be by chance
MOST_OF_CODE = 100_000  # characters that are parsed


@scores(ratios=False, parses=None, balanced=None)
def code_form(texts: Texts, *, generator: torch.Generator | None = None) -> dict[str, float]:
    """The share of generated texts that parse as Python, or whose brackets are in order."""
    generated, real = texts.values()
    found = {}
    if _share(list(map(is_python, real))) >= 0.5:
        found["parses"] = _share([is_python(text) for text in generated])
    if _share([bool(re.search(r"[()\[\]{}]", text)) for text in real]) >= 0.5:
        found["balanced"] = _share([is_balanced(text) for text in generated])
    return found


def _share(held: Sequence[bool]) -> float:
    return sum(held) / max(len(held), 1)


@functools.lru_cache(maxsize=1 << 14)  # every text is looked at in many halves
def is_python(text: str) -> bool:
    """Whether Python parses a text, and it is more than a lone name or number."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            body = ast.parse(text[:MOST_OF_CODE]).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(not (isinstance(each, ast.Expr) and isinstance(each.value, PLAIN)) for each in body)


@functools.lru_cache(maxsize=1 << 14)
def is_balanced(text: str) -> bool:
    """Whether brackets are closed in order, and no line is indented by spaces and tabs both."""
    opened: list[str] = []
    for sign in re.findall(r"[()\[\]{}]", text):
        if sign not in PAIRS:
            opened.append(sign)
        elif not opened or opened.pop() != PAIRS[sign]:
            return False
    indents = re.findall(r"^[ \t]+", text, re.MULTILINE)
    return not opened and not any({" ", "\t"} <= {*indent} for indent in indents)
