"""Tools of a server that speaks the Model Context Protocol, as tools of ours.

    with McpServer(["python", "-m", "weather"], name="weather") as server:
        run(world, task, server.tools())

The server is a process that is started here, with none of our environment but where programs and
home are, and ended with the block. What it says is somebody else's: names, descriptions and results
taint a run, and each of its tools is taken to write to it, whatever it claims to be (the hints of
the protocol are the server's own), but those that the user vouches for.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from morphogen.core.errors import MorphogenError, RecipeError
from morphogen.core.extras import extra
from morphogen.systems.agents.tool import Tool, tool_of_schema

MOST_TOOLS = 128
MOST_SUMMARY = 2_000  # characters of a description
START = 60.0  # seconds that a server may take to begin


class McpServer:
    """A server, for as long as the block is entered. Raises `MorphogenError` where it does not
    begin, or speaks something else."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str,
        vouched: bool = False,  # whether its words are as good as the user's own
        reading: Collection[str] = (),  # those of its tools that change nothing and send nothing
        env: Mapping[str, str] | None = None,  # variables that it is given
        cwd: Path | str | None = None,
        seconds: float = 60.0,  # that a call may take
    ) -> None:
        if not command:
            raise RecipeError("a server is started by a command", found="nothing")
        self.command, self.name = list(command), re.sub(r"\W+", "_", name)
        self.vouched, self.reading = vouched, set(reading)
        self.env, self.cwd, self.seconds = dict(env or {}), cwd, seconds
        self.left_out: list[str] = []  # tools that are not usable, and why
        self._stack = contextlib.ExitStack()
        self._client: Any = None
        self._portal: Any = None

    def __enter__(self) -> McpServer:
        mcp: Any = extra("mcp", "agents", "servers of tools are spoken to")
        from anyio.from_thread import start_blocking_portal

        told = mcp.StdioServerParameters(
            command=self.command[0], args=self.command[1:], env=self.env,
            cwd=None if self.cwd is None else str(self.cwd),
        )  # fmt: skip
        with contextlib.ExitStack() as stack:
            quiet = stack.enter_context(open(os.devnull, "w"))
            self._portal = stack.enter_context(start_blocking_portal("asyncio"))
            client = mcp.Client(mcp.stdio_client(told, errlog=quiet), read_timeout_seconds=START)
            try:
                held = self._portal.wrap_async_context_manager(client)
                self._client = stack.enter_context(held)
            except Exception as error:
                raise MorphogenError(
                    "the server does not begin", found=_said(error), where=" ".join(self.command),
                    hint="start it by hand: what does it say?",
                ) from error  # fmt: skip
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(Exception):  # it may be gone already
            self._stack.close()

    def tools(self) -> list[Tool]:
        """All that it offers, named NAME_TOOL. What has no usable schema is left out, and told in
        `left_out`."""
        listed: list[Any] = []
        cursor = None
        while len(listed) < MOST_TOOLS:
            page = self._asked(self._client.list_tools, cursor=cursor)
            listed += page.tools
            cursor = page.next_cursor
            if not cursor:
                break
        found: dict[str, Tool] = {}
        for each in listed[:MOST_TOOLS]:
            try:
                made = self._tool(each)
            except RecipeError as error:
                self.left_out.append(f"{each.name}: {error.message}")
                continue
            if found.setdefault(made.name, made) is not made:
                self.left_out.append(f"{each.name}: there is another of that name")
        return list(found.values())

    def _tool(self, told: Any) -> Tool:
        name, place = str(told.name), f"mcp:{self.name}"
        return tool_of_schema(
            f"{self.name}_{re.sub(r'[^A-Za-z0-9_-]+', '_', name)}"[:64],
            (told.description or name)[:MOST_SUMMARY], told.input_schema, self._caller(name),
            reads=[place], writes=[] if name in self.reading else [place],
            trusted=self.vouched, described=self.vouched, seconds=self.seconds,
        )  # fmt: skip

    def _caller(self, name: str) -> Callable[..., str]:
        def call(**arguments: Any) -> str:
            result = self._asked(
                self._client.call_tool, name, arguments, read_timeout_seconds=self.seconds
            )
            text = "\n".join(_block(each) for each in result.content)
            if result.is_error:
                raise MorphogenError(text or "it failed and does not say why")
            return text

        return call

    def _asked(self, ask: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        async def asked() -> Any:
            return await ask(*arguments, **options)

        try:
            return self._portal.call(asked)
        except MorphogenError:
            raise
        except Exception as error:
            raise MorphogenError(
                "the server does not answer", found=_said(error), where=self.name
            ) from error


def _block(told: Any) -> str:
    """A part of a result as text."""
    if (text := getattr(told, "text", None)) is not None:
        return str(text)
    resource = getattr(told, "resource", None)
    if (text := getattr(resource, "text", None)) is not None:
        return str(text)
    return f"({told.type}: {getattr(told, 'mime_type', None) or 'no text'})"


def _said(error: BaseException) -> str:
    """The first cause of an error, on one line: tasks wrap what went wrong in groups."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}".partition("\n")[0][:300]
