"""A conversation as the text that a model reads, by a template of the model's own.

Templates are programs (Jinja) that come with a model, whoever made it. They run in a process of
their own, with bounds on time, memory and what they write; only our own runs here.

Which of the text is learned is seen from where messages end, and not from marks in the template,
which hardly any has. With r(m) the text of messages m and r'(m) the same with the assistant about
to speak, the answer m_i is what r(m_1 .. m_i) has beyond r'(m_1 .. m_{i-1}):

    r'(m_<i)   <|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n
    r(m_<=i)   <|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\nHello<|im_end|>\\n
    learned                                                              Hello<|im_end|>

It ends with the mark that ends the turn, so that a model learns to stop.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from morphogen.core.errors import DataError, MorphogenError
from morphogen.modalities.text.chat import _rendering
from morphogen.modalities.text.chat.messages import ASSISTANT, Conversation, Message

SECONDS = 10.0  # that one conversation may take to render
CHATML = """\
{%- if tools -%}
<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}

{% endif %}
Functions that you may call:
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}
A call is <tool_call>{"name": NAME, "arguments": {..}}</tool_call>.<|im_end|>
{% endif -%}
{%- for message in messages -%}
{%- if message.role != 'system' or not tools -%}
<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] %}
<tool_call>{{ call.function | tojson }}</tool_call>
{%- endfor -%}
<|im_end|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""


@dataclass(frozen=True)
class Piece:
    """A part of a conversation's text, and whether it is learned."""

    text: str
    learned: bool


class Template:
    """How conversations are written; `marks` are texts that the template names, such as
    `bos_token`."""

    def __init__(self, source: str = CHATML, marks: Mapping[str, str] | None = None) -> None:
        self.source, self.marks = source, dict(marks or {})

    def render(self, conversation: Conversation, *, open_turn: bool = False) -> str:
        """The text of a conversation; with `open_turn`, up to where the assistant is to speak.

        Raises `DataError` for messages that the template refuses, and for one that fails.
        """
        return self._render([(conversation.messages, open_turn)], conversation)[0]

    def pieces(self, conversation: Conversation) -> list[Piece]:
        """The text cut where messages begin and end, the answers being learned.

        Raises `DataError` where no answer can be told from the rest.
        """
        messages = conversation.messages
        answers = [i for i, each in enumerate(messages) if each.role == ASSISTANT]
        asked = [
            asked
            for i in answers
            for asked in ((messages[:i], False), (messages[:i], True), (messages[: i + 1], False))
        ]
        # Behind the last answer nothing is learned, and so nothing is kept.
        texts = self._render(asked, conversation)
        whole = texts[-1]
        found: list[Piece] = []
        place = 0
        for number, i in enumerate(answers):
            before, begun, spoken = texts[3 * number : 3 * number + 3]
            start = _same(begun, spoken)
            if start < max(place, len(before.rstrip())) or not whole.startswith(spoken.rstrip()):
                continue  # the template writes it, or what is before it, otherwise later
            end = _end_of(messages[i], spoken, start)
            found += [Piece(whole[place:start], False), Piece(whole[start:end], True)]
            place = end
        found = [piece for piece in found if piece.text]
        if not any(piece.learned for piece in found):
            raise DataError(
                "the template does not say where an answer begins",
                found=f"{texts[-1][-80:]!r}",
                hint="--set modality.template=FILE, one that writes messages one after another",
            )
        return found

    def _render(
        self, asked: Sequence[tuple[Sequence[Message], bool]], conversation: Conversation
    ) -> list[str]:
        tools = [dict(tool) for tool in conversation.tools] or None
        inputs = [
            {
                **self.marks,
                "messages": [each.to_json() for each in messages],
                "tools": tools,
                "add_generation_prompt": open_turn,
            }
            for messages, open_turn in asked
        ]
        if self.source == CHATML:
            return _rendering.render(self.source, inputs)
        return RENDERER.render(self.source, inputs)


def _same(first: str, second: str) -> int:
    """How many characters two texts begin with in common."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def _end_of(message: Message, spoken: str, start: int) -> int:
    """Where an answer ends: with the mark after it, without the space after that. Where the
    template marks the end by space alone, that is the mark."""
    own, content = spoken[start:], message.content.strip()
    told = own.rstrip()
    return len(spoken) if content and told.endswith(content) else start + len(told)


class Renderer:
    """The process that renders templates of others, started when it is first needed and again after
    one that did not end."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def render(self, source: str, inputs: Sequence[Mapping[str, Any]]) -> list[str]:
        """What a template makes of each of some inputs. Raises `DataError`."""
        asked = {"source": source, "inputs": list(inputs), "seconds": self.seconds}
        with self._lock:
            line = self._answer(json.dumps(asked).encode() + b"\n")
        told: dict[str, Any] = {"error": "it ran out of time or memory"}
        told = json.loads(line) if line else told
        if "error" in told:
            if told.get("refused"):
                raise DataError(f"the chat template refuses these messages: {told['error']}")
            raise DataError(
                f"the chat template failed: {told['error'][:300]}",
                expected=f"a text of up to {_rendering.MOST:,} characters in {self.seconds:g} s",
                hint="--set modality.template=FILE for another one",
            )
        return list(told["texts"])

    def _answer(self, asked: bytes) -> bytes:
        """The line that comes back; nothing where the process was ended, by itself or by us."""
        child = self._running()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(asked)
            child.stdin.flush()
            found = bytearray()
            while not found.endswith(b"\n"):
                if not select.select([child.stdout], [], [], 2 * self.seconds)[0]:
                    break
                if not (part := os.read(child.stdout.fileno(), 1 << 16)):
                    break
                found += part
        except BrokenPipeError:
            found = bytearray()
        if not found.endswith(b"\n"):
            self.close()
            return b""
        return bytes(found)

    def _running(self) -> subprocess.Popen[bytes]:
        """The process; one of its own after a fork."""
        if self._child is None or self._child.poll() is not None or self._owner != os.getpid():
            try:
                self._child = subprocess.Popen(
                    [sys.executable, "-I", "-B", _rendering.__file__],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
            except OSError as error:
                raise MorphogenError(
                    f"a process for chat templates cannot be started: {error}"
                ) from error
            self._owner = os.getpid()
        return self._child

    def close(self) -> None:
        """End the process."""
        if self._child is not None and self._owner == os.getpid():
            self._child.kill()
            self._child.communicate()
        self._child = None


RENDERER = Renderer()
