"""`morphogen mcp --with models/plant --index handbook`: tools for programs of others."""

from __future__ import annotations

from typing import Annotated

import typer


def mcp(
    *,
    bundles: Annotated[
        list[str] | None,
        typer.Option("--with", help="a bundle, whose tasks are offered; repeatable"),
    ] = None,
    index: Annotated[
        list[str] | None, typer.Option(help="an index, which is searched; repeatable")
    ] = None,
    groups: Annotated[
        list[str] | None, typer.Option("--as", help="group that whoever asks belongs to")
    ] = None,
    memory: Annotated[str | None, typer.Option(help="folder of a memory")] = None,
    tool: Annotated[
        list[str] | None, typer.Option(help="package.module:function; repeatable")
    ] = None,
    tools: Annotated[
        bool, typer.Option("--tools", help="let models run programs, in a sandbox")
    ] = False,
    files: Annotated[str | None, typer.Option(help="folder whose files models may read")] = None,
    out: Annotated[str | None, typer.Option(help="folder for what models make")] = None,
    freely: Annotated[
        list[str] | None,
        typer.Option(help="what may be written, as a pattern: memory, files:*; default: nothing"),
    ] = None,
) -> None:
    """Offer tasks, models, documents and memories to programs that speak the Model Context
    Protocol, on standard input and output. Example, as such a program is told of it:

    {"command": "morphogen", "args": ["mcp", "--index", "indexes/handbook"]}
    """
    from morphogen.cli._acting import index_of, memory_of
    from morphogen.core.errors import RecipeError
    from morphogen.systems.agents.mcp_server import offered, serve_stdio
    from morphogen.systems.agents.privileges import Grants
    from morphogen.systems.agents.tools.documents import index_tools
    from morphogen.systems.agents.tools.memories import MemoryTools
    from morphogen.systems.agents.tools.named import tools_of

    grants = Grants.of(reads=["*"], freely=freely or ())
    with tools_of(
        bundles=bundles or (), functions=tool or (), python=tools, files=files, out=out
    ) as given:
        for each in index or ():
            given += index_tools(*index_of(each), groups=groups or ())
        if memory is not None:
            given += MemoryTools(memory_of(memory), "a program").tools()
        if not offered(given, grants):
            raise RecipeError(
                "there is nothing to offer", found=f"{len(given)} tools, of which each writes",
                hint="--with, --index, --memory or --tools; --freely PATTERN for what writes",
            )  # fmt: skip
        serve_stdio(given, grants)
