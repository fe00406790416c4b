"""What the verbs about tools share: which there are, who confirms, what is shown of a run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from morphogen.systems.agents.tool import Tool
    from morphogen.systems.agents.trace import Step, Trace
    from morphogen.systems.knowledge.index import Index
    from morphogen.systems.memory.memory import Memory


def index_of(name: str) -> tuple[Index, str]:
    """An index by its folder or URL, or by its name below `indexes`, and what its tools are
    called."""
    import re

    from morphogen.systems.knowledge.index import Index

    below = Path("indexes") / name
    place = below if not Path(name).exists() and below.exists() else name
    return Index.open(place), re.sub(r"\W+", "_", Path(place).name.rpartition("#")[2])


def memory_of(folder: str) -> Memory:
    """The memory of a folder; a new one, where it holds none. It is searched by meaning where
    the published encoder was fetched, and by words anyway."""
    from morphogen.systems.knowledge.embedders import DEFAULT, embedder_of
    from morphogen.systems.memory.memory import Memory
    from morphogen.systems.memory.store import Store

    if Store.is_there(Path(folder).expanduser()):
        return Memory.open(folder)
    return Memory.make(folder, embedder_of(DEFAULT) if Path(DEFAULT).is_dir() else None)


def confirmed(tool: Tool, arguments: Mapping[str, Any], reason: str) -> bool:
    """Whether the person at the terminal lets a call run; where nobody is there, nobody does."""
    import json

    if not sys.stdin.isatty():
        return False
    told = json.dumps(dict(arguments), ensure_ascii=False, indent=1)
    print(f"{tool.name}: {reason}\n{told}", file=sys.stderr)
    return input("run it? [y/N] ").strip().lower() in ("y", "yes")


def show_step(step: Step) -> None:
    """What happens, for the person who waits for an answer."""
    import json

    from morphogen.systems.agents.trace import Decided, Ended, Judged, Returned

    said = None
    if isinstance(step, Decided) and step.call is not None:
        said = f"{step.call['name']} {json.dumps(step.call['arguments'], ensure_ascii=False)}"
    elif isinstance(step, Judged) and not step.allowed:
        said = f"refused: {step.reason}"
    elif isinstance(step, Returned) and not step.ok and step.why != "refused":
        said = f"{step.why}: {' '.join(step.text.split())[:200]}"
    elif isinstance(step, Ended) and step.why != "answered":
        said = f"over: {step.why}: {step.reason}"
    if said is not None:
        print(f"  {said}", file=sys.stderr)


def show_answer(trace: Trace) -> None:
    """The answer, and which of it nothing that was read supports."""
    from morphogen.systems.agents.verdict import verdict

    print(trace.answer, flush=True)
    for each in verdict(trace).sentences:
        if not each.supported:
            print(f"  not supported: {each.sentence}", file=sys.stderr)
