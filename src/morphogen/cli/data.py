"""`morphogen data check photos/`, `dedupe`, `redact`, `split`, `snapshot`, ...: clean data."""

from __future__ import annotations

from typing import Annotated, Any

import typer

data = typer.Typer(help="Check, clean, divide and version data.", no_args_is_help=True)
Source = Annotated[str, typer.Argument(help="a folder or a file")]
Modality = Annotated[str | None, typer.Option(help="read it as this; default: found out")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="how it is read: modality.option=value")
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Store = Annotated[str | None, typer.Option(help="where versions are kept; default: beside it")]


@data.command()
def check(
    source: Source,
    *,
    modality: Modality = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """List every defect with its file, its reason and what to do; exit code 1 if any is grave."""
    from morphogen.cli._parts import print_found, reading_options
    from morphogen.data.check import check as check_source

    options: dict[str, Any] = reading_options(settings)
    found = check_source(source, modality, **options)
    print_found(found, as_json)
    if found.error is not None:
        raise typer.Exit(1)


@data.command()
def dedupe(
    source: Source,
    *,
    modality: Modality = None,
    exact: Annotated[bool, typer.Option("--exact", help="exact copies only")] = False,
    out: Annotated[str | None, typer.Option(help="write the items to leave out here")] = None,
    move_to: Annotated[str | None, typer.Option(help="move those files to this folder")] = None,
    as_json: AsJson = False,
) -> None:
    """Find copies and near-duplicates; say which to keep. Nothing is changed unless asked."""
    from morphogen.cli._parts import print_found
    from morphogen.data.duplicates import find_duplicates
    from morphogen.records.recording import did

    found = find_duplicates(source, modality, near=not exact)
    print_found(found, as_json)
    if out is not None:
        found.write_list(out)
    if move_to is not None:
        number = found.move_to(move_to)
        if not as_json:
            print(f"{number:,} files moved to {move_to}")
    told = {"num_items": found.num_items, "num_groups": len(found.groups), "items": found.leave_out}
    did("dedupe", source, made=[] if move_to is None else [move_to], facts=told)


@data.command()
def redact(
    table: Annotated[str, typer.Argument(help="a table of captions, such as captions.csv")],
    *,
    out: Annotated[str, typer.Option(help="the new table; it must not exist")],
    modality: Modality = None,
    as_json: AsJson = False,
) -> None:
    """Copy a table with a placeholder for each e-mail address, phone number and the like."""
    from morphogen.cli._parts import print_found
    from morphogen.data.redact import redact as redact_table
    from morphogen.records.recording import did

    print_found(redact_table(table, out, modality), as_json)
    did("redact", table, made=[out])


@data.command()
def split(
    source: Source,
    *,
    modality: Modality = None,
    by: Annotated[
        str | None, typer.Option(help="keep together: a column, or a pattern of file names")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="move training twins of test items to the test split")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="write nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """Divide into train and test so that no copy, twin or entity is on both sides."""
    from morphogen.cli._parts import print_found
    from morphogen.data.divide import split as split_source
    from morphogen.records.recording import did

    plan = split_source(source, modality, by=by, repair=repair, write=not dry_run)
    print_found(plan, as_json)
    if plan.path:
        told = {"num_train": plan.num_train, "num_test": plan.num_test, "by": by, "repair": repair}
        did("split", source, made=[plan.path], facts=told)


@data.command()
def snapshot(
    source: Source,
    *,
    store: Store = None,
    note: Annotated[str, typer.Option(help="a few words to remember it by")] = "",
    as_json: AsJson = False,
) -> None:
    """Keep a version of a folder; files that did not change take no space again."""
    from morphogen.cli._parts import print_found
    from morphogen.data.snapshot import Store as Versions
    from morphogen.records.recording import did

    versions = Versions.beside(source, store)
    version = versions.snapshot(source, note=note)
    print_found(version, as_json)
    did("snapshot", source, made=[versions.folder], facts={"id": version.id, "note": note})


@data.command()
def diff(
    a: Annotated[str, typer.Argument(help="a version, or a folder")],
    b: Annotated[str, typer.Argument(help="a version, or a folder")],
    *,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Say what was added, removed, changed and renamed between two versions or folders."""
    from morphogen.cli._parts import print_found
    from morphogen.data.snapshot import diff as compare

    found = compare(a, b, store=store)
    print_found(found, as_json)


@data.command()
def restore(
    version: Annotated[str, typer.Argument(help="a version")],
    folder: Annotated[str, typer.Argument(help="an empty or new folder")],
    *,
    store: Annotated[str, typer.Option(help="where versions are kept")],
) -> None:
    """Write a version's files into a folder."""
    from morphogen.data.snapshot import Store as Versions
    from morphogen.records.recording import did

    versions = Versions.at(store)
    number = versions.restore(version, folder)
    print(f"{number:,} files of version {version} in {folder}")
    did("restore", versions.version(version).source, made=[folder], facts={"id": version})
