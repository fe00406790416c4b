"""`morphogen records search "boots" --since 7d`, `dataset`, `backup`, `restore`, `verify`, ..."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from morphogen.core.visible import in_shell

records = typer.Typer(help="What was asked and answered here, and by whom.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Text = Annotated[str, typer.Argument(help="words that are all in it; boot*: a beginning")]
Since = Annotated[str | None, typer.Option(help="not older: 12h, 7d, or a date 2026-11-26")]
Rated = Annotated[str | None, typer.Option(help='its rating: ">=4", "<3", "5"')]
Who = Annotated[str | None, typer.Option("--user", help="asked by this person")]
Model = Annotated[str | None, typer.Option(help="answered by this model")]
Task = Annotated[str | None, typer.Option(help="of this task")]


@records.command()
def init() -> None:
    """Begin to keep records: verbs write there what they do from now on."""
    from morphogen.cli._records import opened

    with opened() as (kept, me):
        print(f"records: {kept.database.name}")
        print(f"key:     {kept.ring.path or 'from the environment'}")
        print(f"you are {me.name}, {me.role}. Keep a copy of the key file apart from the backups:")
        print("without it, nobody reads what was recorded.")


@records.command()
def search(
    text: Text = "",
    *,
    since: Since = None,
    rated: Rated = None,
    user: Who = None,
    model: Model = None,
    task: Task = None,
    num: Annotated[int, typer.Option("-n", "--num", min=1, help="how many at most")] = 20,
    as_json: AsJson = False,
) -> None:
    """Find what was asked and answered, newest first."""
    from morphogen.cli._parts import print_json, print_table
    from morphogen.cli._records import day, opened

    with opened() as (kept, _):
        filters = _filters(kept, since, rated, user, model=model, task=task)
        found = kept.search(text, filters, limit=num)
    if as_json:
        print_json([each.to_json() for each in found])
        return
    rows = []
    for each in found:
        said = " / ".join(" ".join(part.split()) for part in each.text.splitlines() if part.strip())
        ratings = [f"{a.value:g}" for a in each.annotations if a.value is not None]
        who = each.user or "-"
        rows.append(
            (each.id, day(each.started), who, each.model, each.task, ",".join(ratings), said[:160])
        )
    print_table([("id", "when", "who", "model", "task", "rated", "what"), *rows])


@records.command()
def show(generation: Annotated[str, typer.Argument(help="its id")]) -> None:
    """All that is recorded of one generation, as JSON."""
    from morphogen.cli._parts import print_json
    from morphogen.cli._records import opened

    with opened() as (kept, _):
        print_json(kept.generations.get(generation).to_json())


@records.command()
def rate(
    generation: Annotated[str, typer.Argument(help="its id")],
    value: Annotated[float, typer.Argument(help="such as 1 to 5")],
    *,
    name: Annotated[str, typer.Option(help="what is rated")] = "rating",
    why: Annotated[str, typer.Option(help="in a sentence")] = "",
) -> None:
    """Say how good an answer is."""
    from morphogen.cli._records import opened

    with opened() as (kept, me):
        kept.annotations.add(generation, name, value, explanation=why, user=me.id)
    print(f"{name} {value:g}")


@records.command()
def dataset(
    text: Text = "",
    *,
    out: Annotated[str, typer.Option(help="a new folder")],
    rated: Rated = None,
    since: Since = None,
    user: Who = None,
    model: Model = None,
    form: Annotated[str, typer.Option(help="chat, preference or rated")] = "chat",
    by: Annotated[
        str, typer.Option(help="what tells: rating, or vote (of blind pairs)")
    ] = "rating",
) -> None:
    """Make a versioned dataset of answers, to train on or to judge by."""
    from morphogen.cli._records import opened
    from morphogen.core.errors import RecipeError
    from morphogen.records.pairs import FORMS, make_dataset

    if form not in FORMS:
        raise RecipeError("there is no such form", found=form, expected=", ".join(FORMS))
    with opened() as (kept, me):
        filters = _filters(kept, since, rated, user, model=model, annotation=by)
        made = make_dataset(kept, out, text, filters, form=form, by=me.id)
    print(f"{made.num:,} items in {made.folder}, version {made.version}")
    how = " --objective dpo" if form == "preference" else ""
    print(f"next: morphogen train {in_shell(made.folder)}/items.jsonl --from models/base{how}")


@records.command()
def backup(
    *, out: Annotated[str | None, typer.Option(help="a new file; default: beside them")] = None
) -> None:
    """Write a backup, while others go on writing. The key is not in it."""
    from morphogen.cli._records import opened
    from morphogen.records.backup import back_up

    with opened() as (kept, _):
        path = back_up(kept, out)
    print(f"{path}, {path.stat().st_size / 1e6:,.1f} MB; checked")


@records.command()
def restore(
    file: Annotated[str, typer.Argument(help="a backup")],
    *,
    to: Annotated[
        str | None, typer.Option(help="a path or postgresql://...; default: the usual place")
    ] = None,
) -> None:
    """Put a backup back, where there are no records. Whom it should forget is forgotten again."""
    from morphogen.records.backup import restore as put_back
    from morphogen.records.database import default_place
    from morphogen.records.records import open

    place = to or default_place()
    put_back(file, place).close()
    with open(place) as kept:
        print(f"{kept.search.count():,} generations in {kept.database.name}")


@records.command()
def verify(*, as_json: AsJson = False) -> None:
    """Look whether everything is whole: file, schema, audit log, contents. Exit code 1 if not."""
    from morphogen.cli._parts import print_found
    from morphogen.cli._records import opened
    from morphogen.records.verifying import verify as look

    with opened() as (kept, _):
        report = look(kept)
    print_found(report, as_json)
    if report.problems:
        raise typer.Exit(1)


@records.command()
def audit(
    *, num: Annotated[int, typer.Option("-n", "--num", min=1, help="how many lines")] = 50
) -> None:
    """The newest lines of the audit log."""
    from morphogen.cli._parts import print_table
    from morphogen.cli._records import day, opened

    with opened() as (kept, _):
        names = {user.id: user.name for user in kept.users.all()}
        lines = kept.audit.lines(limit=num)
    rows = [
        (line.id, day(line.time), names.get(line.user or 0, "-"), line.action, line.subject)
        for line in lines
    ]
    print_table([("line", "when", "who", "did", "to"), *rows])


@records.command()
def erase(
    user: Annotated[str, typer.Argument(help="the person's name")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Forget a person and all that they asked, were answered and wrote. It cannot be undone."""
    from morphogen.cli._records import opened

    with opened() as (kept, me):
        found = kept.users.get(user)
        if not yes:
            typer.confirm(f"forget {found.name}, who is {found.role}, for good?", abort=True)
        num = kept.keeping.erase(found.id, by=me.id)
        if kept.ring.path is None:
            print("backups of before hold the key of this person still: delete them")
    print(f"forgotten: the name, the keys, and the contents of {num:,} generations")


@records.command()
def rotate() -> None:
    """Make a new key, and encrypt all that was recorded anew. Killed, it goes on the next time."""
    from morphogen.cli._records import opened
    from morphogen.records.rotating import rotate as replace

    with opened() as (kept, me):
        done = replace(kept, by=me.id)
        begun = "the rotation that was cut short is done" if done.went_on else "new key"
        print(f"{begun}: {kept.ring.path}, keep a copy. {done.num:,} contents encrypted anew.")
        print("Backups of before need the old key: delete both once you have a new backup.")
        if done.unread:
            print(f"{done.unread:,} contents cannot be opened: morphogen records verify")


@records.command()
def keep(
    kind: Annotated[str | None, typer.Argument(help="generations, rated, sign_ins")] = None,
    time: Annotated[str | None, typer.Argument(help="90d, or: forever")] = None,
    *,
    now: Annotated[bool, typer.Option("--now", help="take away what is older")] = False,
) -> None:
    """Say how long records are kept; without a kind, list the rules."""
    from morphogen.cli._parts import print_table
    from morphogen.cli._records import opened
    from morphogen.core.amounts import seconds_of
    from morphogen.core.errors import RecipeError
    from morphogen.records.keeping import KINDS

    with opened() as (kept, me):
        if kind is not None:
            if time is None:
                raise RecipeError("for how long?", found=kind, hint=f"records keep {kind} 90d")
            seconds = None if time == "forever" else seconds_of(time, "TIME")
            kept.keeping.set(kind, seconds, by=me.id)
        if now:
            for name, num in kept.keeping.apply(by=me.id).items():
                print(f"{name}: {num:,} taken away")
            return
        rules = kept.keeping.rules()
    days = {name: f"{seconds / 86400:g} days" for name, seconds in rules.items()}
    told = {name: days.get(name, "forever") for name in KINDS}
    print_table([(name, told[name], what) for name, what in KINDS.items()])


@records.command()
def model(
    bundle: Annotated[str, typer.Argument(help="folder of a bundle")],
    *,
    keep: Annotated[bool, typer.Option("--keep", help="keep a copy of its files")] = False,
) -> None:
    """Record a model that lies here."""
    from morphogen.cli._records import opened

    with opened() as (kept, _):
        known = kept.models.add(bundle, keep=keep)
    print(f"model {known.hash[:12]}, {known.family}" + (f", kept as {known.version}" * keep))


def _filters(kept: Any, since: str | None, rated: str | None, user: str | None, **same: Any) -> Any:
    """What the options ask for."""
    import re
    import time
    from datetime import datetime

    from morphogen.core.amounts import seconds_of
    from morphogen.core.errors import RecipeError
    from morphogen.records.searching import Filters

    bounds: dict[str, Any] = {}
    if since is not None and re.fullmatch(r"\d{4}-\d\d-\d\d", since):
        bounds["since"] = datetime.fromisoformat(since).timestamp()
    elif since is not None:
        bounds["since"] = time.time() - seconds_of(since, "--since")
    if rated is not None:
        said = re.fullmatch(r"\s*(>=|<=|=|)\s*(-?\d+(?:\.\d+)?)\s*", rated)
        if said is None:
            raise RecipeError("--rated cannot be read", found=rated, expected='">=4", "<=2" or "5"')
        value = float(said[2])
        bounds |= {"at_least": value} if said[1] != "<=" else {}
        bounds |= {"at_most": value} if said[1] != ">=" else {}
    if user is not None:
        bounds["user"] = kept.users.get(user).id
    return Filters(**bounds, **same)
