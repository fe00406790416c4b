"""Rows of data as conversations: the forms in which such data is usually kept.

    messages                    [{"role", "content", "tool_calls"?}, ..], tools?
    conversations               [{"from": "human" | "gpt" | .., "value"}, ..], system?, tools?
    prompt, completion          texts, or messages
    instruction, input?, output a question, what it is about, the answer
    question, answer            and other names of the same two

Legend of roles: human and user are the user; gpt, bot, model and assistant the assistant;
function_call is the assistant calling; observation, function and tool what the call gave.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from morphogen.core.errors import DataError, did_you_mean
from morphogen.modalities.text.chat.messages import (
    ASSISTANT,
    SYSTEM,
    TOOL,
    USER,
    Conversation,
    Message,
)

CALL = "function_call"  # a role of its own, in some data
ROLE_OF = {
    "system": SYSTEM, "developer": SYSTEM,
    "user": USER, "human": USER, "prompter": USER,
    "assistant": ASSISTANT, "gpt": ASSISTANT, "bot": ASSISTANT, "model": ASSISTANT,
    "chatgpt": ASSISTANT, "ai": ASSISTANT,
    "tool": TOOL, "observation": TOOL, "function": TOOL, "function_response": TOOL, "ipython": TOOL,
    CALL: CALL, "tool_call": CALL,
}  # fmt: skip
LISTS = ("messages", "conversations", "conversation", "dialog", "dialogue", "turns")
PAIRS = (
    ("instruction", "output"), ("instruction", "response"), ("prompt", "completion"),
    ("prompt", "response"), ("question", "answer"), ("query", "response"), ("input", "output"),
)  # fmt: skip
ABOUT = ("input", "context")  # what an instruction is about


def form_of(columns: Iterable[str]) -> tuple[str, ...]:
    """The columns that hold conversations, as the data calls them; () where none do."""
    names = {name.strip().lower(): name for name in columns if name}
    if found := next((names[each] for each in LISTS if each in names), None):
        return (found,)
    for asked, answered in PAIRS:
        if asked in names and answered in names:
            about = next((names[a] for a in ABOUT if a in names and a != asked), None)
            return (names[asked], names[answered], *([about] if about is not None else []))
    return ()


def conversation_of(row: Mapping[str, Any]) -> Conversation:
    """The conversation in a row, checked. Raises `DataError` saying what is wrong with it."""
    form = form_of(row)
    if not form:
        raise DataError(
            "the row holds no conversation",
            found=", ".join(map(str, row)) or "nothing",
            expected="messages; conversations; prompt and completion; or instruction and output",
        )
    if len(form) == 1:
        messages = listed(row[form[0]], form[0])
    else:
        asked, answered = row[form[0]], row[form[1]]
        about = row.get(form[2]) if len(form) > 2 else None
        messages = [*said(asked, USER, about), *said(answered, ASSISTANT)]
    system = text_in(row.get("system", row.get("system_prompt")))
    if system.strip() and messages and messages[0].role != SYSTEM:
        messages = [Message(SYSTEM, system), *messages]
    return Conversation(tuple(messages), _tools(row.get("tools"))).check()


def asked_of(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """What a row asks, up to where the user has spoken last: of conversations, or of prompts that
    nobody has answered yet. Raises `DataError` where nobody asks."""
    names = {name.strip().lower(): name for name in row if name}
    form = form_of(row)
    if len(form) == 1:
        messages = listed(row[form[0]], form[0])
    else:
        asked = form[0] if form else next((names[a] for a, _ in PAIRS if a in names), None)
        about = next((names[a] for a in ABOUT if a in names and names[a] != asked), None)
        messages = [] if asked is None else said(row[asked], USER, row.get(about or ""))
    last = max((i for i, each in enumerate(messages) if each.role == USER), default=-1)
    if last < 0 or not messages[last].content.strip():
        raise DataError(
            "the row asks nothing", found=", ".join(map(str, row)) or "nothing",
            expected="prompt, instruction or question; or messages with one of the user",
        )  # fmt: skip
    system = text_in(row.get("system", row.get("system_prompt")))
    if system.strip() and messages[0].role != SYSTEM:
        messages, last = [Message(SYSTEM, system), *messages], last + 1
    return tuple(messages[: last + 1])


def said(value: Any, role: str, about: Any = None) -> list[Message]:
    """A text as a message of `role`; messages as they are."""
    if isinstance(value, (list, tuple)):
        return listed(value, role)
    text, more = text_in(value), text_in(about)
    return [Message(role, f"{text}\n\n{more}" if more.strip() else text)]


def listed(value: Any, column: str) -> list[Message]:
    """The messages in a cell: a list of them, or its JSON. Raises `DataError`."""
    value = _parsed(value) if isinstance(value, str) else value
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise DataError(
            f"the column {column!r} holds no list of messages", found=type(value).__name__
        )
    messages = [_message(each) for each in value]
    return _joined(messages)


def _message(each: Any) -> Message:
    if not isinstance(each, Mapping):
        raise DataError("a message is no object", found=f"{each!r:.60}", expected="role, content")
    named = each.get("role", each.get("from"))
    role = ROLE_OF.get(str(named).strip().lower())
    if role is None:
        raise DataError(
            f"a message has no role that is known.{did_you_mean(str(named), ROLE_OF)}",
            found=named,
            expected="system, user, assistant or tool",
        )
    content = each.get("content", each.get("value", each.get("text")))
    if role == CALL:
        return Message(ASSISTANT, "", tuple(map(_call, _as_list(_parsed(content)))))
    calls = tuple(map(_call, each.get("tool_calls") or ()))
    return Message(role, text_in(content), calls)


def _joined(messages: list[Message]) -> list[Message]:
    """The same, an assistant that calls right after it spoke being one message."""
    found: list[Message] = []
    for each in messages:
        last = found[-1] if found else None
        if last and last.role == each.role == ASSISTANT and each.calls and not each.content:
            found[-1] = Message(ASSISTANT, last.content, (*last.calls, *each.calls))
        else:
            found.append(each)
    return found


def _call(told: Any) -> dict[str, Any]:
    """A call as a name and arguments."""
    told = told.get("function", told) if isinstance(told, Mapping) else told
    if not isinstance(told, Mapping) or not isinstance(told.get("name"), str):
        raise DataError("a call names no function", found=f"{told!r:.60}", expected="name")
    arguments = told.get("arguments", told.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = _parsed(arguments) if arguments.strip() else {}
    return {"name": told["name"], "arguments": arguments}


def _tools(value: Any) -> tuple[Mapping[str, Any], ...]:
    """The functions that may be called: a list, or the JSON of one."""
    if value is None or value == "":
        return ()
    tools = _as_list(_parsed(value) if isinstance(value, str) else value)
    if not all(isinstance(tool, Mapping) for tool in tools):
        raise DataError("the tools are no list of functions", found=f"{value!r:.60}")
    return tuple(tools)


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError("a cell is not the JSON it should be", found=f"{text!r:.60}") from error


def text_in(content: Any) -> str:
    """The text of a message: a text, or parts of which each has one."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, (list, tuple)):
        return "".join(_part(each) for each in content)
    if isinstance(content, (int, float, bool)):
        return str(content)
    return json.dumps(content, ensure_ascii=False)


def _part(each: Any) -> str:
    if isinstance(each, str):
        return each
    if isinstance(each, Mapping) and each.get("type", "text") == "text":
        return str(each.get("text", ""))
    kind = each.get("type") if isinstance(each, Mapping) else type(each).__name__
    raise DataError("a message holds more than text", found=kind, expected="text")
