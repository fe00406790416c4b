r"""Which values of a call are the user's own words, and where the others are from.

    own       the value stands in the task, whole: between blanks, quotes, brackets, or where a
              sentence ends; a number, as a number; or it is what the schema has by default
    strange   all else: what others wrote, and whatever was made of it

A model that decides is a function of all that it was shown, so that no value that it writes is
known to be free of others' words but one that the user said already (explicit flows of values, as
in Debenedetti et al. 2025, arXiv:2503.18813, and Costa et al. 2025, arXiv:2505.23643; these follow
values through an interpreter, where here the user has said them). That a call is made at all, and
now, is no value: words of others may have brought it about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from morphogen.systems.agents.tool import Tool
from morphogen.systems.agents.trace import Began, Returned, Step, given_by, tainted_by
from morphogen.systems.knowledge.words import figure

_QUOTES = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb"
_ENDS = r".!?:;"  # of a sentence, or of what announces it
_BEFORE = rf"(?:^|(?<=[\s{_QUOTES}(\[{{<]))"
_AFTER = rf"(?=[.,;:!?]*(?:[\s{_QUOTES})\]}}>]|$))"
_NUMBER = re.compile(rf"{_BEFORE}([-+]?)(\d+(?:[.,]\d+)*){_AFTER}")


def strange(tool: Tool, arguments: Mapping[str, Any], steps: Sequence[Step]) -> dict[str, str]:
    """The values of a call that are not the user's own words, by their places in the arguments
    ("to", "rows.0.name"), and who said them: nothing where it was whoever decides. All are own as
    long as nothing of others was read."""
    if tainted_by(steps) is None:
        return {}
    known, task = tool.schema.get("properties", {}), _task(steps)
    found: dict[str, str] = {}
    for name, value in arguments.items():
        if name not in known:
            found |= _strange(name, name, task, steps)
        if "default" in known.get(name, {}) and _same(value, known[name]["default"]):
            continue
        for place, each in _leaves(value, name):
            found |= _strange(place, each, task, steps)
    return found


def says_own(arguments: Mapping[str, Any], steps: Sequence[Step]) -> bool:
    """Whether any value of a call is the user's own words: defaults alone are nobody's."""
    values = (each for name, value in arguments.items() for _, each in _leaves(value, name))
    return any(stands_in(each, _task(steps)) for each in values)


def is_stated(text: str, steps: Sequence[Step]) -> bool:
    """Whether the user has just said all of a text in sentences of their own, in quotes, or after a
    colon: a part of a sentence may say the contrary of the whole."""
    said = r"\s+".join(map(re.escape, text.rstrip(_ENDS).split()))
    before = rf"(?:^|\n|[{_ENDS}][{_QUOTES}]?\s|(?:^|\s)[{_QUOTES}])\s*"
    after = rf"(?:\s*(?:\n|$)|[{_ENDS}]+(?:\s|$)|[{_ENDS}]*[{_QUOTES}](?!\w))"
    return bool(said) and re.search(before + said + after, _task(steps)) is not None


def are_own(values: Iterable[Any], steps: Sequence[Step]) -> bool:
    """Whether all of some values are the user's own words."""
    return all(stands_in(each, _task(steps)) for each in values)


def stands_in(value: Any, text: str) -> bool:
    """Whether a value stands whole in what somebody said."""
    if isinstance(value, str) and value.strip():
        said = r"\s+".join(map(re.escape, value.split()))
        return re.search(_BEFORE + said + _AFTER, text) is not None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        told = ((-1) ** (sign == "-") * figure(digits) for sign, digits in _NUMBER.findall(text))
        return value in told
    return False  # true, false, nothing: no words hold them


def _task(steps: Sequence[Step]) -> str:
    """What the user said: not what stands before it, where a summary may hold words of others."""
    return next((step.task for step in steps if isinstance(step, Began)), "")


def _strange(place: str, value: Any, task: str, steps: Sequence[Step]) -> dict[str, str]:
    return {} if stands_in(value, task) else {place: _who(value, steps)}


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """The values in a value, the names in a table among them, each with its place."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield f"{place}.{key}", key
            yield from _leaves(inner, f"{place}.{key}")
    elif isinstance(value, (list, tuple)) and value:
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{place}.{number}")
    else:
        yield place, value


def _who(value: Any, steps: Sequence[Step]) -> str:
    """The first who said it, of those who are not the user."""
    for step in steps:
        if isinstance(step, Began) and step.tainted is not None:
            texts = [str(each.get("content", "")) for each in step.before]
            texts += [each["summary"] for each in step.tools if not each["described"]]
            who = step.tainted
        elif isinstance(step, Returned):
            texts, who = [step.text], given_by(step)
        else:
            continue
        if any(stands_in(value, text) for text in texts):
            return who
    return ""


def _same(value: Any, default: Any) -> bool:
    """Whether it is the default, and of its kind: 1 is not true."""
    return type(value) is type(default) and value == default
