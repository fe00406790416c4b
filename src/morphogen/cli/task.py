"""`morphogen task interpolate models/boots a.png b.png --out steps.png`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from morphogen.core.errors import DataError
from morphogen.core.visible import in_shell

PROMPT = "prompt"  # the condition of models that draw by one


def task(
    name: Annotated[str, typer.Argument(help="morphogen list tasks")],
    bundle: Annotated[str, typer.Argument(help="folder of a bundle, or of a published model")],
    inputs: Annotated[list[str] | None, typer.Argument(help="files or folders to work on")] = None,
    *,
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            "--prompt",
            help="an input typed here, not a file; repeatable; "
            "for a model that draws by prompts, its prompt",
        ),
    ] = None,
    out: Annotated[str | None, typer.Option(help="where the result goes; .json: numbers")] = None,
    seed: Annotated[int, typer.Option(help="same seed, same result")] = 0,
    label: Annotated[
        str | None, typer.Option(help="class, by name: short for --cond label=")
    ] = None,
    cond: Annotated[list[str] | None, typer.Option(help="condition, name=value")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="option of the task, option=value")
    ] = None,
    schema: Annotated[
        str | None, typer.Option(help="a JSON schema that texts obey: short for --set schema=")
    ] = None,
    draft: Annotated[
        str | None,
        typer.Option(help="what guesses tokens ahead: a smaller bundle of the same tokens, lookup"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    watermark: Annotated[
        bool, typer.Option("--watermark", help="mark what is made, for `morphogen whence` to find")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps")] = "cpu",
    trust: Annotated[bool, typer.Option("--trust", help="import components it names")] = False,
) -> None:
    """Run a task on your own items with a trained bundle."""
    from morphogen.cli._parts import conditions_of, parse_pairs, print_facts, print_json
    from morphogen.core import discover
    from morphogen.core.codec import Item
    from morphogen.interop.importing import opened_or_imported
    from morphogen.records.recording import generating, recording

    discover.find("task", name)  # a misspelt task is told before a large bundle is read
    _check_typed(inputs or [])
    options: dict[str, Any] = {**parse_pairs(settings or [], "--set")}
    if schema is not None:
        options["schema"] = schema
    opened = opened_or_imported(bundle, trust=trust, device=device)
    conditions = conditions_of(cond, label)
    prompt = "\n".join([*(inputs or []), *(text or [])])
    if text and PROMPT in opened.family.conditions:
        conditions[PROMPT], text = text[-1], None
    asked = {"cond": conditions, **options}
    if draft is not None:
        asked["draft"] = draft
        other = draft if draft == "lookup" else opened_or_imported(draft, trust=trust)
        options["draft"] = other
    path = None
    with (
        recording() as records,
        generating(
            records, (opened, bundle), name, prompt, seed=seed, asked=asked, watermark=watermark
        ) as noted,
    ):
        typed = (Item(each, "--text") for each in text or [])
        result = opened.task(name, *(inputs or []), *typed, seed=seed, cond=conditions, **options)
        if result.is_text:
            noted.answer = "\n".join(map(str, result.raw or ()))
        printed = result.is_text and out is None and not as_json
        if not printed and (out is not None or (len(result) and not result.is_text)):
            path = result.save(out or f"{name}{opened.codec.suffix}")
            for file in result.files:
                noted.keep(file)
    if printed:
        _print_made(result)
        return
    if as_json:
        print_json({"task": name, "route": result.route, **result.values, "out": path})
        return
    print_facts({"route": result.route, **(result.told or result.values), "out": path})


def _check_typed(inputs: list[str]) -> None:
    """Words where a file is expected were meant as the text itself."""
    for each in inputs:
        if " " in each and "://" not in each and not Path(each).expanduser().exists():
            raise DataError(
                "there is no such file or folder",
                found=each[:80],
                expected="a file or folder, or a text after --text",
                hint=f"--text {in_shell(each[:80])}",
            )


def _print_made(result: Any) -> None:
    """Texts as they are, so that a program can read one; what there is to say of them on stderr."""
    import sys

    for number, text in enumerate(result.raw, 1):
        if len(result) > 1:
            print(f"\u2500\u2500 {number} of {len(result)}")
        print(text)
    unread = {name: result.values[name] for name in ("finish", "cut") if name in result.values}
    for name, fact in unread.items():
        told = ", ".join(fact) if isinstance(fact, list) else fact
        print(f"{name}: {told}", file=sys.stderr)


class _ListsTasks(typer.core.TyperCommand):
    """`morphogen task --help` ends with the tasks there are."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Name each task in a word or two; nothing heavy is imported."""
        from morphogen.core import discover

        super().format_epilog(ctx, formatter)
        formatter.write(f"\nTasks:\n  {', '.join(discover.names('task'))}\n")
        formatter.write("  `morphogen show task NAME` lists a task's options.\n")


COMMAND = {"cls": _ListsTasks}
