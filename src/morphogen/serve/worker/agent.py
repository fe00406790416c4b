"""One agent and what it is asked, one question after the other.

Its file says who decides and what it may touch, in the words of `morphogen chat`:

    model = "models/base"            or an address, with its name there
    index = "indexes/handbook"       looked up first; vouched = true: its words may be trusted
    with = ["models/plant"]          tool = ["package.module:function"]
    tools = true: programs           server = ["command of an MCP server"]
    files = "data"                   out = "made": a folder that tools may write to
    freely = ["files:made*"]         writes that nobody need confirm: nobody is here to do so
    steps = 12                       and calls, tokens, seconds: how much of each an answer may take

The last message of a conversation is the question. What was answered before may repeat words of
others, so that after it only what the last message itself says is free (`agents.flows`). Each
answer comes with the trace of its run.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from morphogen.core.errors import BundleError, MorphogenError, RecipeError, did_you_mean
from morphogen.serve.worker.channel import Channel, Event, failure, unexpected
from morphogen.systems.agents.assistant import Assistant
from morphogen.systems.agents.deciders import decider_of
from morphogen.systems.agents.loop import Budget
from morphogen.systems.agents.privileges import Grants
from morphogen.systems.agents.tool import Tool
from morphogen.systems.agents.tools.named import tools_of
from morphogen.systems.agents.trace import Decided, Ended
from morphogen.systems.agents.verdict import verdict
from morphogen.systems.agents.worlds import Decider
from morphogen.systems.knowledge.index import Index

BUDGET = {field.name for field in fields(Budget)}
DECIDES = {"system", "temperature", "most"}
TOOLS = {  # options of `morphogen chat` -> of `tools_of`
    "with": "bundles", "tool": "functions", "server": "servers", "tools": "python",
    "files": "files", "out": "out",
}  # fmt: skip
KNOWN = {"model", "name", "index", "vouched", "freely", *DECIDES, *TOOLS, *BUDGET}
# Of what a request may ask a model for: an agent has tools, a form and a temperature of its own.
REFUSED = {"tools": "tools", "constraint": "response_format", "alternatives": "logprobs"}


def serve(told: Mapping[str, Any]) -> None:
    """Open the agent that is told of, and answer until there is no more to do."""
    import torch

    channel = Channel.standard()
    torch.set_num_threads(told["threads"])
    try:
        with opened(Path(told["path"])) as agent:
            channel.tell([{"ready": {"tasks": {}, "chats": True, "hash": None}}])
            while not channel.is_closed:
                for message in channel.received(wait=True):
                    for event in _events(agent, message):
                        channel.tell([event])
    except MorphogenError as error:
        channel.tell([{"failed": failure(error)}])


@dataclass(frozen=True)
class Agent:
    """Who decides, with which tools, and what it was granted."""

    decider: Decider
    tools: list[Tool]
    index: tuple[Index, str] | None
    vouched: bool
    grants: Grants
    budget: Budget

    def answer(self, work: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Events of one answer. Raises `MorphogenError` for what an agent is not asked."""
        *before, last = _said(work)
        assistant = Assistant(
            self.decider, tools=self.tools, index=self.index, groups=work.get("groups", ()),
            vouched=self.vouched, grants=self.grants, budget=self.budget,
        )  # fmt: skip
        for asked, answered in zip(before[::2], before[1::2], strict=True):
            assistant.session.add(asked["content"], answered["content"], "an earlier answer")
        yield {"begun": {"prompt_tokens": 0}}
        for _ in assistant.ask(last["content"]):
            pass
        trace = assistant.last
        ended = trace.steps[-1]
        if isinstance(ended, Ended) and ended.why == "failed":
            raise RecipeError(ended.reason)
        about = {"digest": trace.digest, "verdict": verdict(trace).to_json()}
        yield {"trace": {"text": trace.text(), "groups": list(work.get("groups", ())), **about}}
        yield {"row": 0, "text": trace.answer}
        yield {"row": 0, "finish": "stop" if trace.answer else "length"}
        tokens = sum(step.tokens for step in trace.steps if isinstance(step, Decided))
        yield {"done": {"prompt_tokens": 0, "completion_tokens": tokens}}


@contextmanager
def opened(file: Path) -> Iterator[Agent]:
    """The agent of a file. Raises `MorphogenError` for one that says what none can be."""
    told = _told(file)
    with tools_of(**{TOOLS[name]: told[name] for name in TOOLS.keys() & told.keys()}) as tools:
        index = None
        if "index" in told:
            place = str(told["index"])
            index = Index.open(place), re.sub(r"\W+", "_", Path(place).stem)
        options = {name: told[name] for name in DECIDES & told.keys()}
        covering = Grants.covering(tools)
        yield Agent(
            decider_of(told["model"], told.get("name"), **options), tools, index,
            bool(told.get("vouched")), Grants(covering.reads, covering.writes,
                                              tuple(told.get("freely", ()))),
            Budget(**{**asdict(Budget()), **{k: told[k] for k in BUDGET & told.keys()}}),
        )  # fmt: skip


def _told(file: Path) -> dict[str, Any]:
    try:
        told = tomllib.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise BundleError(
            "this file does not say what an agent is", where=file.name, found=str(error),
            expected='model = "models/base"',
        ) from error  # fmt: skip
    if unknown := sorted(told.keys() - KNOWN):
        raise BundleError("an agent has no such part", where=file.name, found=unknown[0],
                          hint=did_you_mean(unknown[0], KNOWN).strip() or None,
                          expected=", ".join(sorted(KNOWN)))  # fmt: skip
    if not isinstance(told.get("model"), str):
        raise BundleError("an agent has somebody who decides", where=file.name,
                          expected='model = "models/base"')  # fmt: skip
    return told


def _said(work: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A conversation, questions and answers in turn. Raises `RecipeError`."""
    for name, called in REFUSED.items():
        if name in work:
            raise RecipeError(f"an agent has its own: ask without {called}", found=called)
    if work["do"] != "chat" or work.get("num", 1) != 1:
        raise RecipeError("an agent is talked with, and answers once", expected="n = 1")
    said: list[Mapping[str, Any]] = list(work["messages"])
    roles = [each["role"] for each in said]
    if roles != ["user", "assistant"] * (len(said) // 2) + ["user"]:
        raise RecipeError("an agent is asked by a user, in turn with its answers; its instructions "
                          "are its own", found=", ".join(roles))  # fmt: skip
    return said


def _events(agent: Agent, message: Mapping[str, Any]) -> Iterator[Event]:
    number = message["id"]
    if message["do"] == "cancel":
        return  # what there was to do was done before this was read
    try:
        for event in agent.answer(message):
            yield {"id": number, **event}
    except MorphogenError as error:
        yield {"id": number, "error": failure(error)}
    except Exception as error:  # of this question: others are answered
        yield {"id": number, "error": unexpected(error)}
