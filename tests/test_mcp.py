"""The Model Context Protocol both ways, through its SDK: our tools for others, theirs for us."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("mcp")
pytest.importorskip("snowballstemmer")
pytest.importorskip("cryptography")

from morphogen.core.errors import MorphogenError
from morphogen.systems.agents.deciders import Recited
from morphogen.systems.agents.loop import run
from morphogen.systems.agents.mcp_client import McpServer
from morphogen.systems.agents.mcp_server import Answering, offered
from morphogen.systems.agents.privileges import Grants
from morphogen.systems.agents.tool import tool
from morphogen.systems.agents.trace import Returned
from morphogen.systems.agents.verdict import verdict
from morphogen.systems.agents.worlds import Live, replay
from morphogen.systems.knowledge.embedders import NoEmbedder
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.reading import read_into
from morphogen.systems.memory.memory import Memory
from small_models import answering

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[McpServer]:
    """`morphogen mcp` in a process of its own, with an index, a memory and a model."""
    folder = tmp_path_factory.mktemp("mcp")
    (folder / "docs").mkdir()
    (folder / "docs" / "hours.txt").write_text("The harbour office opens at nine.")
    read_into(Index.make(folder / "handbook", NoEmbedder()), folder / "docs")
    Memory.make(folder / "notes").close()
    answering("yours").save(folder / "small")
    command = [
        sys.executable, "-m", "morphogen.cli.app", "mcp", "--index", str(folder / "handbook"),
        "--memory", str(folder / "notes"), "--with", str(folder / "small"), "--freely", "memory",
    ]  # fmt: skip
    cache = os.environ["MORPHOGEN_CACHE"]
    env = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "MORPHOGEN_CACHE": cache}
    with McpServer(command, name="ours", env=env, reading=["search_handbook"]) as running:
        yield running


def test_our_tools_are_offered_and_called(server: McpServer) -> None:
    tools = {each.name: each for each in server.tools()}
    assert server.left_out == []
    assert {"ours_search_handbook", "ours_ask_handbook", "ours_recall", "ours_remember",
            "ours_small_complete", "ours_small_generate"} <= set(tools)  # fmt: skip
    decisions = [
        ("ours_search_handbook", {"question": "When does the harbour office open?"}),
        ("ours_small_complete", {"inputs": ["the harbour"], "most": 4}),
        ("ours_search_handbook", {"query": "no such argument"}),
        ("ours_remember", {"text": "not without a person"}),
        "It opens at nine.",
    ]  # fmt: skip
    grants = Grants.of(reads=["mcp:*"], writes=["mcp:*"])
    trace = run(Live(Recited(decisions), lambda tool, arguments, reason: "complete" in tool.name),
                "?", list(tools.values()), grants=grants)  # fmt: skip
    found, completed, misfit, refused = (s for s in trace.steps if isinstance(s, Returned))
    assert "hours.txt" in found.text
    assert "opens at nine" in found.text
    assert not found.trusted
    assert completed.ok, completed.text
    assert json.loads(completed.text)["items"]
    assert misfit.why == "arguments"
    assert refused.why == "refused"
    assert verdict(trace).sentences[0].supported
    assert replay(trace).text() == trace.text()


def test_a_server_holds_arguments_to_the_schema_itself(server: McpServer) -> None:
    """Whoever asks may be any program: what it sends is checked where the tool is."""
    ask = server._caller("search_handbook")
    with pytest.raises(MorphogenError, match="do not fit"):
        ask(question=3)
    with pytest.raises(MorphogenError, match="no such tool"):
        server._caller("shell")(command="ls")


def test_what_nobody_can_confirm_is_not_offered_and_words_of_others_end_it() -> None:
    sent: list[str] = []

    def send(text: str) -> str:
        sent.append(text)
        return "sent"

    def page() -> str:
        return "words of others"

    tools = [tool(send, writes=["mail"], trusted=True), tool(page)]
    assert [each.name for each in offered(tools, Grants.of(writes=["mail"]))] == ["page"]
    answers = Answering(tools, Grants.of(freely=["mail"]))
    assert answers.call("send", {"text": "a"}).ok
    assert answers.call("page", None).ok
    assert answers.call("send", {"text": "b"}).why == "refused"
    assert sent == ["a"]


def test_a_server_that_does_not_begin_is_named() -> None:
    with (
        pytest.raises(MorphogenError, match="does not begin"),
        McpServer(["/no/such/program"], name="x"),
    ):
        pass
