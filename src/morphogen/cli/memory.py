"""`morphogen memory show`, `recall`, `forget`, `draw`, ...: what is remembered, and what goes."""

from __future__ import annotations

from typing import Annotated

import typer

memory = typer.Typer(help="What is remembered, and what is forgotten.", no_args_is_help=True)

Folder = Annotated[str, typer.Argument(help="folder of a memory")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Notes = Annotated[list[str], typer.Argument(help="ids of notes: morphogen memory show")]


@memory.command()
def show(folder: Folder, *, as_json: AsJson = False) -> None:
    """Every note, oldest first."""
    from morphogen.cli._parts import print_json
    from morphogen.systems.memory.memory import Memory
    from morphogen.systems.memory.note import written

    notes = list(Memory.open(folder).notes.values())
    if as_json:
        print_json([note.to_json() for note in notes])
        return
    for note in notes:
        of = f", of {', '.join(note.of)}" if note.of else ""
        whose = "" if note.trusted else ", words of others"
        print(f"{note.id}  {written(note.made)}  {note.source}{of}{whose}\n    {note.text}")


@memory.command()
def remember(
    folder: Folder,
    text: Annotated[str, typer.Argument(help="one sentence that can be read alone")],
    *,
    source: Annotated[str, typer.Option(help="where it is from")] = "typed",
    expires: Annotated[str | None, typer.Option(help="date on which it is forgotten")] = None,
    relation: Annotated[
        list[str] | None,
        typer.Option(help="subject|relation|object|since|until, the last two dates; repeatable"),
    ] = None,
) -> None:
    """Write something down."""
    from morphogen.cli._acting import memory_of

    names = ("subject", "relation", "object", "since", "until")
    told = [
        {name: part for name, part in zip(names, each.split("|"), strict=False) if part.strip()}
        for each in relation or ()
    ]
    note = memory_of(folder).remember(text, source=source, expires=expires, relations=told)
    print(note.id)


@memory.command()
def recall(
    folder: Folder,
    question: Annotated[str, typer.Argument(help="what it is about")],
    *,
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="notes")] = 5,
    at: Annotated[str | None, typer.Option(help="a date, as it was known then")] = None,
) -> None:
    """The notes that a question is about."""
    from morphogen.systems.memory.memory import Memory

    for each in Memory.open(folder).recall(question, num=num, at=at):
        print(each.text)
        print(f"    relevance {each.relevance:.2f}, recency {each.recency:.2f}")


@memory.command()
def state(
    folder: Folder,
    subject: Annotated[str, typer.Argument(help="of whom, or what")],
    relation: Annotated[str, typer.Argument(help="such as: lives in")],
    *,
    at: Annotated[str | None, typer.Option(help="a date; default: now")] = None,
) -> None:
    """What holds of somebody or something, by what is remembered."""
    from morphogen.systems.memory.memory import Memory

    told = Memory.open(folder).state(subject, relation, at=at)
    print("nothing is remembered of that" if told is None else told)


@memory.command()
def correct(
    folder: Folder,
    note: Annotated[str, typer.Argument(help="id of a note")],
    text: Annotated[str, typer.Argument(help="what it says from now on")],
) -> None:
    """Put other words in the place of a note's, which are forgotten."""
    from morphogen.systems.memory.memory import Memory

    Memory.open(folder).correct(note, text)


@memory.command()
def forget(folder: Folder, notes: Notes, *, as_json: AsJson = False) -> None:
    """Forget notes for good, and say where they were looked for afterwards. Exit code 1 where
    something of them is left."""
    from morphogen.cli._parts import print_found
    from morphogen.systems.memory.memory import Memory

    proof = Memory.open(folder).forget(*notes)
    print_found(proof, as_json)
    if not proof.holds:
        raise typer.Exit(1)


@memory.command()
def export(
    folder: Folder,
    *,
    out: Annotated[str, typer.Option("--out", help="file of JSON lines, in plain words")],
) -> None:
    """Write all notes; where one is forgotten, it goes from this file too."""
    from morphogen.systems.memory.memory import Memory

    print(Memory.open(folder).export(out))


@memory.command()
def backup(
    folder: Folder, *, out: Annotated[str, typer.Option("--out", help="file for a sealed copy")]
) -> None:
    """Copy the notes, sealed, without their keys."""
    from morphogen.systems.memory.memory import Memory

    print(Memory.open(folder).backup(out))


@memory.command()
def restore(
    folder: Folder, file: Annotated[str, typer.Argument(help="what `backup` wrote")]
) -> None:
    """Take notes back that are gone by accident; those that were forgotten cannot be read."""
    from morphogen.systems.memory.memory import Memory

    print(f"{Memory.open(folder).restore(file):,} notes came back")


@memory.command()
def draw(
    folder: Folder,
    *,
    out: Annotated[str, typer.Option("--out", help="file for the picture, .svg")],
    at: Annotated[str | None, typer.Option(help="a date; default: all times")] = None,
) -> None:
    """Draw who stands in which relation to whom."""
    from morphogen.systems.memory.drawing import draw as drawn
    from morphogen.systems.memory.memory import Memory
    from morphogen.systems.memory.note import when

    print(drawn(Memory.open(folder).graph(), out, at=when(at)))
