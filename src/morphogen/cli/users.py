"""`morphogen users add ann --role annotator`: who may come in, and what they may do."""

from __future__ import annotations

from typing import Annotated

import typer

users = typer.Typer(help="People and their roles.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="the person's name")]


@users.command()
def add(
    name: Name,
    *,
    role: Annotated[
        str, typer.Option(help="reader, annotator, maker, trainer, manager, administrator; actions")
    ] = "reader",
    password: Annotated[
        bool, typer.Option("--password", help="ask for a password to sign in with")
    ] = False,
) -> None:
    """Add a person."""
    from morphogen.cli._records import opened

    with opened() as (records, me):
        typed = _asked() if password else None
        added = records.users.add(name, role, password=typed, by=me.id)
        print(f"{added.name} may {', '.join(sorted(added.actions))}")


@users.command(name="list")
def list_(*, as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Everyone, with their roles."""
    from dataclasses import asdict

    from morphogen.cli._parts import print_json, print_table
    from morphogen.cli._records import day, opened

    with opened() as (records, _):
        everyone = records.users.all()
    if as_json:
        print_json([asdict(each) for each in everyone])
        return
    rows = [
        (each.name, each.role, " ".join(each.groups), each.state, day(each.created))
        for each in everyone
    ]
    print_table([("name", "role", "groups", "state", "since"), *rows])


@users.command()
def role(name: Name, new: Annotated[str, typer.Argument(help="the new role")]) -> None:
    """Give a person another role."""
    from morphogen.cli._records import opened

    with opened() as (records, me):
        changed = records.users.set_role(name, new, by=me.id)
        print(f"{changed.name} may {', '.join(sorted(changed.actions))}")


@users.command()
def groups(
    name: Name,
    new: Annotated[
        list[str] | None, typer.Argument(help="all of their groups; none, if empty")
    ] = None,
) -> None:
    """Say whose documents a person may read in indexes, beside those of everyone."""
    from morphogen.cli._records import opened

    with opened() as (records, me):
        changed = records.users.set_groups(name, new or (), by=me.id)
        print(f"{changed.name} reads what is for {', '.join(('everyone', *changed.groups))}")


@users.command()
def password(name: Name) -> None:
    """Ask for a new password of a person."""
    from morphogen.cli._records import opened

    with opened() as (records, me):
        records.users.set_password(name, _asked(), by=me.id)
        print(f"{name} signs in with it from now on")


@users.command()
def disable(name: Name) -> None:
    """Let a person in no more; what is recorded of them stays."""
    from morphogen.cli._records import opened

    with opened() as (records, me):
        records.users.disable(name, by=me.id)
        print(f"{name} comes in no more; again: morphogen users enable {name}")


@users.command()
def enable(name: Name) -> None:
    """Let a person in again."""
    from morphogen.cli._records import opened

    with opened() as (records, me):
        records.users.enable(name, by=me.id)
        print(f"{name} may come in again")


def _asked() -> str:
    """A password, typed twice on a terminal, else the first line of what is piped in."""
    import getpass
    import sys

    from morphogen.core.errors import AccessError

    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass("password: ")
    if getpass.getpass("again: ") != first:
        raise AccessError("the two are not the same", hint="type it again")
    return first
