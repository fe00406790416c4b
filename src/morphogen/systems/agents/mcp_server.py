"""Our tools for others, by the Model Context Protocol: tasks, models, indexes and memories.

A call goes the way that it goes in a run of our own: its arguments are held to the schema, it is
judged by what was granted when the server was started, it is bounded in time and size. Nobody is
here to confirm anything, so that what writes is offered only where it was granted freely, and
refused from where words of others were given out on: whoever asks may act on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import morphogen
from morphogen.core.extras import extra
from morphogen.systems.agents.deciders import Recited
from morphogen.systems.agents.loop import called
from morphogen.systems.agents.privileges import Grants, judge
from morphogen.systems.agents.tool import Tool
from morphogen.systems.agents.trace import Returned, tainted_by
from morphogen.systems.agents.worlds import Live

INSTRUCTIONS = "Models, documents and memories of this machine, each as a function."


def offered(tools: Sequence[Tool], grants: Grants) -> list[Tool]:
    """The tools that can be called without anybody who confirms."""
    return [tool for tool in tools if judge(tool, {}, grants).ruling == "run"]


class Answering:
    """Calls of one client, one after the other."""

    def __init__(self, tools: Sequence[Tool], grants: Grants) -> None:
        self.tools = {tool.name: tool for tool in offered(tools, grants)}
        self.grants, self.world = grants, Live(Recited(()))
        self.given: list[Returned] = []  # the first words of others that were given out

    def call(self, name: str, arguments: Any) -> Returned:
        """What a call gives, or why it gives nothing."""
        call = {"name": name, "arguments": arguments or {}}
        tool = self.tools.get(name)
        seconds = tool.seconds if tool is not None else 0.0
        rights = self.grants, self.given
        for step in called(self.world, self.tools, call, rights, seconds):
            last = step
        assert isinstance(last, Returned)
        if not self.given and tainted_by([last]) is not None:
            self.given.append(last)
        return last


def server_of(tools: Sequence[Tool], grants: Grants, name: str = "morphogen") -> Any:
    """A server of the SDK, for a transport of its own."""
    server: Any = extra("mcp.server", "agents", "tools are offered to others")
    types: Any = extra("mcp.types", "agents", "tools are offered to others")
    import anyio

    answering = Answering(tools, grants)
    one_at_a_time = anyio.Semaphore(1)  # models share the processor, and calls their taint

    async def list_tools(context: Any, params: Any) -> Any:
        return types.ListToolsResult(tools=[
            types.Tool(
                name=tool.name, description=tool.summary, input_schema=dict(tool.schema),
                annotations=types.ToolAnnotations(
                    read_only_hint=not tool.writes, open_world_hint=False
                ),
            )
            for tool in answering.tools.values()
        ])  # fmt: skip

    async def call_tool(context: Any, params: Any) -> Any:
        async with one_at_a_time:
            told = await anyio.to_thread.run_sync(answering.call, params.name, params.arguments)
        text = types.TextContent(type="text", text=told.text)
        return types.CallToolResult(content=[text], is_error=not told.ok)

    return server.Server(
        name, version=morphogen.__version__, instructions=INSTRUCTIONS, on_list_tools=list_tools,
        on_call_tool=call_tool,
    )  # fmt: skip


def serve_stdio(tools: Sequence[Tool], grants: Grants) -> None:
    """Answer on standard input and output until whoever asks has gone."""
    mcp: Any = extra("mcp", "agents", "tools are offered to others")
    import anyio

    server = server_of(tools, grants)

    async def answered() -> None:
        async with mcp.stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())

    anyio.run(answered)
