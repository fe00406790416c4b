"""Tools that somebody names: on a command line, or in the file of an agent that is served."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from morphogen.interop.importing import opened_or_imported
from morphogen.systems.agents.mcp_client import McpServer
from morphogen.systems.agents.tool import Tool
from morphogen.systems.agents.tools.functions import function_tool
from morphogen.systems.agents.tools.models import bundle_tools, writing_tool
from morphogen.systems.agents.tools.programs import python_tool


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
    """Tools by what names them, and the servers that they need meanwhile."""
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
