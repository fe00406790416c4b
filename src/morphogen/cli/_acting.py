"""What the verbs about tools share: which there are, who confirms, what is shown of a run."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from morphogen.systems.agents.tool import Tool
    from morphogen.systems.agents.trace import Step, Trace
    from morphogen.systems.knowledge.index import Index
    from morphogen.systems.memory.memory import Memory

MEMORY = "memories/mine"  # where there is none named


def index_of(name: str) -> tuple[Index, str]:
    """An index by its folder, or by its name below `indexes`, and what its tools are called."""
    import re

    from morphogen.systems.knowledge.index import Index

    below = Path("indexes") / name
    place = below if not Path(name).exists() and below.exists() else Path(name)
    return Index.open(place), re.sub(r"\W+", "_", place.name)


def memory_of(folder: str) -> Memory:
    """The memory of a folder; a new one, where it holds none. It is searched by meaning where
    the published encoder was fetched, and by words anyway."""
    from morphogen.systems.knowledge.embedders import DEFAULT, embedder_of
    from morphogen.systems.memory.memory import Memory
    from morphogen.systems.memory.store import Store

    if Store.is_there(Path(folder).expanduser()):
        return Memory.open(folder)
    return Memory.make(folder, embedder_of(DEFAULT) if Path(DEFAULT).is_dir() else None)


@contextmanager
def tools_of(
    *,
    bundles: Sequence[str] = (),
    functions: Sequence[str] = (),
    servers: Sequence[str] = (),
    python: bool = False,
    files: str | None = None,
    out: str | None = None,
) -> Iterator[list[Tool]]:
    """Tools that were named on a command line, and the servers that they need meanwhile."""
    import shlex

    from morphogen.interop.importing import opened_or_imported
    from morphogen.systems.agents.mcp_client import McpServer
    from morphogen.systems.agents.tools.functions import function_tool
    from morphogen.systems.agents.tools.models import bundle_tools, writing_tool
    from morphogen.systems.agents.tools.programs import python_tool

    with ExitStack() as stack:
        found = [function_tool(each) for each in functions]
        for each in bundles:
            bundle = opened_or_imported(each)
            found += bundle_tools(bundle, Path(each).name, files=files, out=out)
        if out is not None:
            found.append(writing_tool(out))
        if python:
            found.append(python_tool())
        for number, command in enumerate(servers, 1):
            words = shlex.split(command)
            server = stack.enter_context(McpServer(words, name=f"server{number}"))
            found += server.tools()
            for reason in server.left_out:
                print(f"left out: {reason}", file=sys.stderr)
        yield found


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
