"""Render a chat template: imported for our own, run as a program of its own for those of others.

As a program it reads one JSON a line, {"source", "inputs": [{..}, ..], "seconds"}, and answers with
{"texts": [..]} or {"error": ..}. It imports nothing but jinja2, so that it starts fast. What a
template can use up is limited: memory by the system, time by the system and by who waits, and what
it writes by `MOST`. It is sandboxed besides: it reaches no attribute that leads out of it.
"""

from __future__ import annotations

import datetime
import json
import re
import sys
from functools import lru_cache
from typing import Any

MOST = 1 << 24  # characters of one text
MEMORY = 1 << 30  # bytes of the address space
# Marks of what is trained, which only some templates have: taken for a block that is always there.
GENERATION = re.compile(r"\{%(-?)\s*(end)?generation\s*(-?)%\}")


class Refused(Exception):
    """The template says that it does not take these messages."""


@lru_cache(maxsize=8)
def compiled(source: str) -> Any:
    """A template, with the functions that those of published models use."""
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def mark(match: re.Match[str]) -> str:
        return f"{{%{match[1]} {'endif' if match[2] else 'if true'} {match[3]}%}}"

    def refuse(message: Any) -> None:
        raise Refused(str(message))

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment.from_string(GENERATION.sub(mark, source))


def render(source: str, inputs: list[dict[str, Any]]) -> list[str]:
    """What the template makes of each of some inputs."""
    template = compiled(source)
    return [_bounded(template.generate(**each)) for each in inputs]


def _bounded(parts: Any) -> str:
    held: list[str] = []
    length = 0
    for part in parts:
        length += len(part)
        if length > MOST:
            raise ValueError(f"it writes more than {MOST:,} characters")
        held.append(part)
    return "".join(held)


def _to_json(value: Any, indent: int | None = None, ensure_ascii: bool = False, **_: Any) -> str:
    """As text, and not as a part of a page, which jinja2's own is for."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _limit(seconds: float) -> None:
    """So much of the processor from now on, before the system ends this program."""
    try:
        import resource
    except ImportError:  # no POSIX: who waits ends it
        return
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + seconds) + 1, hard))
    if resource.getrlimit(resource.RLIMIT_AS)[0] != MEMORY:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _serve() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        _limit(asked["seconds"])
        try:
            told: dict[str, Any] = {"texts": render(asked["source"], asked["inputs"])}
        except MemoryError:
            told = {"error": "it needs too much memory"}
        except RecursionError:
            told = {"error": "it goes too deep"}
        except Exception as error:
            told = {"error": f"{error}" or type(error).__name__, "refused": _is_refusal(error)}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def _is_refusal(error: Exception) -> bool:
    """Whether it is the template's own word, and no fault of it."""
    return isinstance(error, Refused)


if __name__ == "__main__":
    _serve()
