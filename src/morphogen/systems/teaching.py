"""A teacher's answers to a user's prompts, as conversations that another model learns from.

    morphogen teach prompts.jsonl --by models/large --out taught.jsonl
    morphogen teach prompts.jsonl --by http://localhost:8000/v1 --name NAME --out taught.jsonl

Distillation by what a teacher writes, for any two models, whatever their tokens (Kim & Rush 2016,
arXiv:1606.07947). The answers lie in a file that can be read, and corrected, before anything is
trained: one conversation a line. An answer that was cut, or is empty, teaches nothing and is left
out; an interrupted run goes on behind what is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from morphogen import sources
from morphogen.core.border import read_text
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Report
from morphogen.core.errors import DataError, RecipeError
from morphogen.core.storage import expanded
from morphogen.core.visible import in_shell
from morphogen.modalities.text.chat import Message, asked_of
from morphogen.sources import Wants
from morphogen.systems.chat import chat
from morphogen.systems.endpoint import Endpoint, is_address

ROWS = Wants("prompt", rows=True)
Answer = Callable[[Sequence[Message]], tuple[str, bool]]  # what is said, and whether to its end


@dataclass
class Taught:
    """What came of it."""

    path: str
    num_asked: int = 0
    num_known: int = 0  # answered before
    num_cut: int = 0  # answers that came to no end, or said nothing

    def text(self) -> str:
        """For a terminal."""
        known = f", {self.num_known:,} of them before" if self.num_known else ""
        told = self.num_asked - self.num_cut
        lines = [f"{self.path}: answers to {told:,} of {self.num_asked:,} prompts{known}"]
        if self.num_cut:
            lines.append(f"{self.num_cut:,} were cut or empty and are left out: --most allows more")
        return "\n".join(
            [*lines, f"next: morphogen train {in_shell(self.path)} --from BUNDLE --adapter lora"]
        )


def teach(
    prompts: Path | str,
    by: Bundle | Path | str,
    out: Path | str,
    *,
    model: str | None = None,
    system: str | None = None,
    most: int | None = None,
    temperature: float | None = None,
    key_from: str = "OPENAI_API_KEY",
    on_answer: Callable[[int, Sequence[Message], str], None] = lambda num, asked, answer: None,
) -> Taught:
    """Let a teacher, a bundle or an address (with the name of a `model` there), answer prompts: the
    lines of a text, or rows with prompt, instruction, question or messages, of which the last words
    of the user are answered. Writes conversations to `out`, and goes on where that was begun.

    Raises `DataError` for a row that asks nothing, before anything is asked.
    """
    asked = list(_asked(prompts, system))
    answer = _answering(by, model, most=most, temperature=temperature, key_from=key_from)
    out = expanded(out)
    known = set(_known(out))
    found = Taught(str(out))
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a") as file:
        for messages in asked:
            found.num_asked += 1
            told = [each.to_json() for each in messages]
            if (name := json.dumps(told)) in known:
                found.num_known += 1
                continue
            known.add(name)
            said, is_whole = answer(messages)
            if not is_whole or not said.strip():
                found.num_cut += 1
                continue
            told.append(Message("assistant", said.strip()).to_json())
            file.write(json.dumps({"messages": told}, ensure_ascii=False) + "\n")
            file.flush()
            on_answer(found.num_asked, messages, said)
    return found


def _asked(prompts: Path | str, system: str | None) -> Iterator[tuple[Message, ...]]:
    """What is asked, row by row."""
    for messages in _read(expanded(prompts)):
        first = [Message("system", system)] if system and messages[0].role != "system" else []
        yield (*first, *messages)


def _read(place: Path) -> Iterator[tuple[Message, ...]]:
    if place.suffix.lower() in (".txt", ".md"):
        lines = filter(str.strip, read_text(place, DataError).splitlines())
        yield from ((Message("user", line.strip()),) for line in lines)
        return
    report, num = Report(str(place)), 0
    for record in sources.records(str(place), ROWS, report):
        num += 1
        try:
            yield asked_of(record.value())
        except DataError as error:
            raise DataError(error.message, found=error.found, expected=error.expected,
                            where=record.name) from error  # fmt: skip
    if not num:
        raise DataError("there are no prompts", found="no rows", where=place,
                        expected="a table, JSON lines, or a text of one prompt a line")  # fmt: skip


def _known(out: Path) -> Iterator[str]:
    """What was answered before; a last line that was cut short is taken away."""
    if not out.exists():
        return
    lines = read_text(out, DataError).splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        out.write_text("".join(lines[:-1]))
        lines = lines[:-1]
    for number, line in enumerate(lines, start=1):
        try:
            messages = json.loads(line)["messages"]
            yield json.dumps(messages[:-1])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                "the file holds something else than answers", found=line.strip()[:60],
                where=f"{out}, line {number}", hint="--out another file",
            ) from error  # fmt: skip


def _answering(
    by: Bundle | Path | str, model: str | None, *, most: int | None, temperature: float | None,
    key_from: str,
) -> Answer:  # fmt: skip
    """Who answers. Raises `RecipeError` for an address without the name of a model."""
    if isinstance(by, str) and is_address(by):
        if model is None:
            raise RecipeError("which model at this address teaches?", found=by, hint="--name NAME")
        there = Endpoint(by, model, key_from=key_from)
        return lambda messages: there.answer(messages, max_tokens=most, temperature=temperature)
    options = {"most": most, "temperature": temperature}
    talk = chat(by, **{name: value for name, value in options.items() if value is not None})

    def answered(messages: Sequence[Message]) -> tuple[str, bool]:
        talk.messages = list(messages[:-1])
        said = talk.ask(messages[-1].content)
        return said, talk.finish in ("end", "stop")

    return answered
