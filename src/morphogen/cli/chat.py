"""`morphogen chat models/base`: a conversation with a model, here on the terminal."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def chat(
    model: Annotated[str, typer.Argument(help="a bundle, or what `morphogen import` takes")],
    *,
    prompt: Annotated[
        str | None, typer.Option(help="one message, whose answer is all that is printed")
    ] = None,
    system: Annotated[str | None, typer.Option(help="what the model is told first")] = None,
    seed: Annotated[int, typer.Option(help="same seed and messages, same answers")] = 0,
    watermark: Annotated[
        bool, typer.Option("--watermark", help="mark answers, for `morphogen whence` to find")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="option=value: temperature, top_p, most=200 (tokens), .."),
    ] = None,
) -> None:
    """Talk with a model. Ctrl-C ends an answer, /quit or Ctrl-D the conversation."""
    import sys

    from morphogen.cli._parts import parse_pairs
    from morphogen.core.errors import MorphogenError
    from morphogen.interop.importing import opened_or_imported
    from morphogen.records.recording import recording
    from morphogen.systems.chat import chat as begin

    options: dict[str, Any] = parse_pairs(settings or [], "--set")
    opened = opened_or_imported(model)
    talk = begin(opened, system=system, seed=seed, **options)
    with recording() as records:
        noting = (records, (opened, model), options, watermark)
        if prompt is not None:
            _answer(talk, prompt, noting)
            return
        while (text := _asked()) is not None:
            try:
                if text.strip():
                    _answer(talk, text, noting)
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
