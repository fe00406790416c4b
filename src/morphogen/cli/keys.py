"""`morphogen keys new ci --role generate --expires 30d`: keys by which programs come in."""

from __future__ import annotations

from typing import Annotated

import typer

keys = typer.Typer(help="Keys for programs.", no_args_is_help=True)


@keys.command()
def new(
    name: Annotated[str, typer.Argument(help="what it is for")],
    *,
    role: Annotated[str, typer.Option(help="a role, or actions: generate, read,annotate")],
    user: Annotated[str | None, typer.Option(help="whose it is; default: who works here")] = None,
    expires: Annotated[str | None, typer.Option(help="12h, 30d; default: never")] = None,
    quotas: Annotated[
        list[str] | None,
        typer.Option("--quota", help="500 generations/day, 2,000,000 tokens/month; repeatable"),
    ] = None,
) -> None:
    """Make a key. It is shown once."""
    from morphogen.cli._records import opened
    from morphogen.core.amounts import seconds_of
    from morphogen.records.quotas import Quota

    told = [Quota.parse(each) for each in quotas or ()]
    lasts = None if expires is None else seconds_of(expires, "--expires")
    with opened() as (records, me):
        key, word = records.keys.new(name, role, user=user, expires=lasts, by=me.id)
        if told:
            records.quotas.set(key.id, told, by=me.id)
    print(word)
    typer.echo("it is shown this once: only a hash of it is kept", err=True)


@keys.command(name="list")
def list_(*, as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Every key, never the keys themselves."""
    from dataclasses import asdict

    from morphogen.cli._parts import print_json, print_table
    from morphogen.cli._records import day, opened

    with opened() as (records, _):
        found = records.keys.all()
    if as_json:
        print_json([{**asdict(each), "state": each.state} for each in found])
        return
    head = ("name", "role", "of", "state", "made", "expires", "last used")
    rows = [
        (k.name, k.role, k.user, k.state, day(k.created), day(k.expires), day(k.used))
        for k in found
    ]
    print_table([head, *rows])


@keys.command()
def quota(
    name: Annotated[str, typer.Argument(help="the key's name")],
    quotas: Annotated[
        list[str] | None,
        typer.Argument(help="500 generations/day, 2,000,000 tokens/month; none: what is left"),
    ] = None,
    *,
    lift: Annotated[bool, typer.Option("--lift", help="let it ask for any number")] = False,
) -> None:
    """Say how much a key may ask for; or list what it has used up."""
    from morphogen.cli._parts import print_table
    from morphogen.cli._records import opened
    from morphogen.records.quotas import Quota

    told = [Quota.parse(each) for each in quotas or ()]
    with opened() as (records, me):
        key = records.keys.named(name)
        if told or lift:
            records.quotas.set(key.id, told, by=me.id)
        standing = records.quotas.standing(key.id)
    rows = [(each.quota, f"{each.spent:,}", f"{each.left:,}") for each in standing]
    print_table([("quota", "used", "left"), *rows] if rows else [("no quota",)])


@keys.command()
def revoke(name: Annotated[str, typer.Argument(help="the key's name")]) -> None:
    """Let a key in no more."""
    from morphogen.cli._records import opened

    with opened() as (records, me):
        records.keys.revoke(name, by=me.id)
    print(f"{name} lets nobody in any more")
