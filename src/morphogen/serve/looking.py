"""A look at data, in a process of its own: `python -m morphogen.serve.looking '{"look": ..}'`.

    {"look": "items", "source": "shoes", "first": 0, "num": 24}   as their codec shows them
    {"look": "check", "source": "shoes"}              every defect, as `morphogen data check` tells
    {"look": "duplicates", "source": "shoes"}         what shows the same, side by side
    {"look": "plan", "source": "shoes"}               what can be trained on it, and how
    {"look": "forecast", "source": .., "recipe": ..}  what a training would need
    {"look": "evaluate", "source": "models/boots/config.json"}   how good a model is

It says how far it is, a line of JSON now and then, and what it found, or why it did not, in the
last. The server needs no PyTorch for it, and data that brings a library down does not take the
server along.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from morphogen.core.errors import MorphogenError
from morphogen.serve.forms import fields_of

MOST_HTML = 32 << 20  # characters of items that are shown at once
MOST_GROUPS = 400  # of duplicates, that are shown and not only named
MOST_ALIKE = 8  # items of such a group
MOST_DRAWN = 10_000  # of a model that is evaluated: as many as by hand


def items(
    source: str, first: int, num: int, having: tuple[str, str] | None = None
) -> dict[str, Any]:
    """Some items, as their codec shows them: of all, or of those with one value of a condition.

    Raises `MorphogenError` for data that no codec reads.
    """
    from morphogen.core.codec import Report
    from morphogen.data.modality import build_codec, find_modality

    report = Report(source)
    modality = find_modality(source, report)
    codec = build_codec(modality, {})
    read: Iterable[Any] = codec.read(source, report)
    if having is not None:
        name, value = having
        read = (each for each in read if str(each.cond.get(name)) == value)
    found = list(islice(read, first, first + num + 1))
    shown = found[:num]
    body = codec.html([each.value for each in shown]) if shown else ""
    if len(body) > MOST_HTML:
        raise MorphogenError("these items are too large for a page", found=f"{len(body):,} letters")
    rows = [{"name": each.name, "split": each.split, "cond": told_of(each.cond)} for each in shown]
    return {"modality": modality, "html": body, "items": rows, "is_last": len(found) <= num}


def check(source: str) -> dict[str, Any]:
    """Every defect, with what to do."""
    from morphogen.data.check import check as check_source

    found: dict[str, Any] = check_source(source).to_json()
    return found


def duplicates(source: str) -> dict[str, Any]:
    """Groups of items that show the same, the first of them with how they look."""
    from morphogen.core.codec import Report
    from morphogen.data.duplicates import find_duplicates
    from morphogen.data.modality import build_codec, find_modality
    from morphogen.data.progress import told

    found = find_duplicates(source)
    groups = [(each, [each.keep, *each.leave_out][:MOST_ALIKE]) for each in found.groups]
    wanted = {name for _, names in groups[:MOST_GROUPS] for name in names}
    codec = build_codec(find_modality(source), {})
    values: dict[str, Any] = {}
    for item in told(codec.read(source, Report(source)), "reading what is alike", found.num_items):
        if item.name in wanted:
            values.setdefault(item.name, item.value)
        if len(values) == len(wanted):
            break
    shown, room = [], MOST_HTML
    for group, names in groups:
        alike = [values[name] for name in names if name in values]
        body = codec.html(alike) if alike and room > 0 else None
        room -= len(body or "")
        shown.append({**asdict(group), "html": body})
    about = {"num_items": found.num_items, "near_compared": found.near_compared}
    return {**about, "groups": shown, "num_skipped": len(found.skipped)}


def plan(source: str) -> dict[str, Any]:
    """What can be trained on this data: the usual family and why, each that fits with its form, and
    why the others do not."""
    from morphogen.core import discover
    from morphogen.core.recipe import Recipe
    from morphogen.data.dataset import load
    from morphogen.data.views import choose_view
    from morphogen.training.chain import entrants, families_of, suits, why_not
    from morphogen.training.choice import with_usual_family
    from morphogen.training.options import TrainOptions

    usual, why = with_usual_family(Recipe(), source)
    data = load(source, suits=suits(usual))
    fits: dict[str, Any] = {}
    others: dict[str, str] = {}
    for name in entrants():
        reason = why_not(name, data)
        if reason is not None:
            others[name] = reason
            continue
        classes = [discover.find("family", each) for each in families_of(name)]
        seen = choose_view(data.codec, None, classes[0].refusal).spec
        backbone = classes[0].backbone_for(seen)  # of the first stage, whose items are known
        usually = classes[-1].train_defaults_for(seen)
        fits[name] = {
            "about": "; then ".join(discover.summary(family) for family in classes),
            "called": {"family": name, "backbone": backbone},
            "family": _fields_of_all(classes),
            "backbone": fields_of(discover.find("backbone", backbone)),
            "train": fields_of(TrainOptions, usually),
        }
    facts = data.facts()
    names = ("modality", "spec", "num_train", "num_test", "num_skipped", "conditions")
    return {
        "usual": usual.family_name, "why": (why or "").partition(" (")[0], "fits": fits,
        "others": others,
        "facts": {name: facts[name] for name in names},
    }  # fmt: skip


def _fields_of_all(classes: Iterable[Any]) -> list[dict[str, Any]]:
    """The fields of a chain: what several stages have stands once."""
    return list({each["name"]: each for one in classes for each in fields_of(one)}.values())


def forecast(source: str, recipe: Mapping[str, Any], out: str) -> dict[str, Any]:
    """What a training would need, measured by a few steps of it; of a chain, of each stage."""
    from morphogen.core.recipe import Recipe
    from morphogen.training.choice import choices
    from morphogen.training.run import sessions

    stages = []
    for session in sessions(source, recipe=Recipe.from_json(recipe), out=out, dry=True):
        needs = session.forecast()
        stages.append({
            **asdict(needs), "family": session.recipe.family["name"],
            "backbone": session.recipe.backbone.get("name"), "chosen": choices(session.data),
            "device": str(session.run.device), "options": session.run.options.to_json(),
        })  # fmt: skip
    return {"stages": stages}


def evaluate(source: str) -> dict[str, Any]:
    """Score a model, whose `config.json` is told, on the data that it was trained on."""
    from morphogen.core.bundle import Bundle
    from morphogen.evaluation.evaluate import evaluate as score
    from morphogen.records.recording import evaluated, recording

    opened = Bundle.open(Path(source).parent)
    record = score(opened, num=MOST_DRAWN)
    with recording() as records:
        evaluated(records, opened, record)
    return {"verdict": (record.get("copying") or {}).get("verdict")}


def told_of(cond: Mapping[str, Any]) -> dict[str, str]:
    """Conditions in a few words each."""
    return {str(name): str(value)[:200] for name, value in cond.items()}


LOOKS: dict[str, Callable[..., dict[str, Any]]] = {
    each.__name__: each for each in (items, check, duplicates, plan, forecast, evaluate)
}


def main(told: dict[str, Any], out: TextIO) -> None:
    """Look as `told`, saying to `out` how far it is and what was found."""
    from morphogen.data.progress import Progress, listening

    def say(**said: Any) -> None:
        out.write(json.dumps(said, default=str) + "\n")
        out.flush()

    def show(progress: Progress) -> None:
        share = progress.done / progress.total if progress.total else None
        say(doing=f"{progress.text()}.", share=share)

    look = LOOKS[told.pop("look")]
    try:
        with redirect_stdout(sys.stderr), listening(show):  # what libraries print is no answer
            found = look(**told)
    except MorphogenError as error:
        say(failed=str(error))
    else:
        say(found=found)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.stdout)
