"""`morphogen chat models/base`: a conversation with a model, here on the terminal."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Repeatable = list[str] | None


def chat(
    model: Annotated[
        str | None,
        typer.Argument(help="a bundle, what `morphogen import` takes, or an address"),
    ] = None,
    *,
    named: Annotated[str | None, typer.Option("--model", help="the same")] = None,
    name: Annotated[str | None, typer.Option(help="the model's name, at an address")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="one message, whose answer is all that is printed")
    ] = None,
    system: Annotated[str | None, typer.Option(help="what the model is told first")] = None,
    seed: Annotated[int, typer.Option(help="same seed and messages, same answers")] = 0,
    watermark: Annotated[
        bool, typer.Option("--watermark", help="mark answers, for `morphogen whence` to find")
    ] = False,
    settings: Annotated[
        Repeatable,
        typer.Option("--set", help="option=value: temperature, top_p, most=200 (tokens), .."),
    ] = None,
    index: Annotated[str | None, typer.Option(help="documents that are looked up first")] = None,
    groups: Annotated[Repeatable, typer.Option("--as", help="group that asks")] = None,
    vouched: Annotated[
        bool, typer.Option("--vouched", help="the documents are yours: their words may be trusted")
    ] = False,
    memory: Annotated[str | None, typer.Option(help="folder of a memory")] = None,
    tools: Annotated[
        bool, typer.Option("--tools", help="let it run programs, in a sandbox")
    ] = False,
    bundles: Annotated[
        Repeatable, typer.Option("--with", help="bundle whose tasks it calls")
    ] = None,
    functions: Annotated[Repeatable, typer.Option("--tool", help="package.module:function")] = None,
    servers: Annotated[
        Repeatable, typer.Option("--server", help="command of an MCP server")
    ] = None,
    files: Annotated[str | None, typer.Option(help="folder whose files tools may read")] = None,
    out: Annotated[str | None, typer.Option(help="folder that tools may write to")] = None,
    trace: Annotated[str | None, typer.Option(help="write what was done: .jsonl")] = None,
) -> None:
    """Talk with a model. Ctrl-C ends an answer, /quit or Ctrl-D the conversation.

    With documents, a memory or tools it acts: what it may do it is granted here, what writes you
    are asked about:

    morphogen chat models/base --index handbook --memory memories/mine --tools
    """
    from morphogen.cli._parts import parse_pairs
    from morphogen.core.errors import RecipeError
    from morphogen.systems.endpoint import is_address

    place = model or named
    if place is None:
        raise RecipeError("which model is to answer?", expected="morphogen chat MODEL")
    options: dict[str, Any] = parse_pairs(settings or [], "--set")
    acts = index or memory or tools or bundles or functions or servers or out or trace
    if not acts and not is_address(place):
        _talk(place, prompt, system, (seed, watermark), options)
        return
    if watermark:
        raise RecipeError("answers of a model that calls tools are not marked", found="--watermark")
    from morphogen.cli._acting import index_of, memory_of
    from morphogen.systems.agents.tools.named import tools_of

    found = None if index is None else index_of(index)
    notes = None if memory is None else memory_of(memory)
    with tools_of(
        bundles=bundles or (), functions=functions or (), servers=servers or (), python=tools,
        files=files, out=out,
    ) as called:  # fmt: skip
        told: dict[str, Any] = {} if system is None else {"system": system}
        told |= {"seed": seed} if seed else {}
        _act(
            (place, name, {**told, **options}), prompt, trace, tools=called, index=found,
            groups=groups or (), vouched=vouched, memory=notes,
        )  # fmt: skip


def _talk(
    model: str, prompt: str | None, system: str | None, drawn: tuple[int, bool], options: Any
) -> None:
    """A conversation, and nothing else."""
    from morphogen.interop.importing import opened_or_imported
    from morphogen.records.recording import recording
    from morphogen.systems.chat import chat as begin

    seed, watermark = drawn
    opened = opened_or_imported(model)
    talk = begin(opened, system=system, seed=seed, **options)
    with recording() as records:
        noting = (records, (opened, model), options, watermark)
        _each(prompt, lambda text: _answer(talk, text, noting))


def _act(
    model: tuple[str, str | None, dict[str, Any]], prompt: str | None, trace: str | None,
    **parts: Any,
) -> None:  # fmt: skip
    """A conversation with somebody who calls tools. Where records are kept, they hold what was
    called and the digests of traces, and no words: a memory may have to forget these."""
    from contextlib import closing

    from morphogen.cli._acting import confirmed, show_answer, show_step
    from morphogen.core.schema import check_options
    from morphogen.records.recording import did
    from morphogen.systems.agents.assistant import Assistant
    from morphogen.systems.agents.deciders import BundleDecider, RemoteDecider, decider_of
    from morphogen.systems.agents.privileges import Grants
    from morphogen.systems.endpoint import is_address

    place, name, given = model
    kind = RemoteDecider if is_address(place) else BundleDecider
    decider = decider_of(place, name, **check_options(kind, given, "chat"))
    grants = Grants.covering(parts["tools"])
    assistant = Assistant(decider, grants=grants, confirm=confirmed, **parts)

    def answer(text: str) -> None:
        try:
            with closing(assistant.ask(text)) as going:
                for step in going:
                    show_step(step)
        except KeyboardInterrupt:
            print(" ..")
        show_answer(assistant.last)

    try:
        _each(prompt, answer)
    finally:
        made = [assistant.save(trace)] if trace is not None and assistant.traces else []
        if assistant.traces:
            did("chat", place, made=made, facts={"runs": [t.digest for t in assistant.traces]})


def _each(prompt: str | None, answer: Any) -> None:
    """Answer one message, or all that somebody types."""
    import sys

    from morphogen.core.errors import MorphogenError

    if prompt is not None:
        answer(prompt)
        return
    while (text := _asked()) is not None:
        try:
            if text.strip():
                answer(text)
        except MorphogenError as error:  # of a message that is too long: the next may fit
            print(f"error: {error}", file=sys.stderr)


def _asked() -> str | None:
    """What somebody types; None where they have done."""
    import contextlib
    import sys

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - `input` lets lines be edited then
    while True:
        try:
            text = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return None
        except KeyboardInterrupt:
            print("\n/quit ends the conversation", file=sys.stderr)
            continue
        return None if text.strip() in ("/quit", "/exit") else text


def _answer(talk: Any, text: str, noting: tuple[Any, Any, Any, bool]) -> None:
    """Print an answer as it comes, and note it. Ctrl-C ends it."""
    import sys
    from contextlib import closing

    from morphogen.records.recording import generating

    records, model, asked, watermark = noting
    said = [*((each.role, each.content) for each in talk.messages), ("user", text)]
    with generating(
        records, model, "chat", said, seed=talk.seed, asked=asked, watermark=watermark
    ) as noted:
        try:
            with closing(talk.say(text)) as pieces:
                for piece in pieces:
                    print(piece, end="", flush=True)
        except KeyboardInterrupt:
            print(" ..", end="")
        noted.answer, noted.reason = talk.messages[-1].content, talk.finish or "interrupted"
    print(flush=True)
    if talk.finish == "length":
        print("(cut: --set most=N allows more)", file=sys.stderr)
    if talk.num_left_out:
        print(f"(the first {talk.num_left_out} messages are no longer read)", file=sys.stderr)
