"""A look at data, or what else lies in files, in a process of its own:
`python -m morphogen.serve.looking '{"look": ..}'`.

    {"look": "items", "source": "shoes", "first": 0, "num": 24}   as their codec shows them
    {"look": "check", "source": "shoes"}              every defect, as `morphogen data check` tells
    {"look": "duplicates", "source": "shoes"}         what shows the same, side by side
    {"look": "plan", "source": "shoes"}               what can be trained on it, and how
    {"look": "forecast", "source": .., "recipe": ..}  what a training would need
    {"look": "adapting", "source": .., "recipe": ..}  how a trained model can be adapted to it
    {"look": "evaluate", "source": "models/boots/config.json"}   how good a model is
    {"look": "runs", "source": "runs/monday.jsonl"}   what agents did, run by run
    {"look": "memory", "source": "memories/mine", ..}            what is remembered, and what goes

It says how far it is, a line of JSON now and then, and what it found, or why it did not, in the
last. The server needs no PyTorch for it, and data that brings a library down does not take the
server along.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, redirect_stdout
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from morphogen.core.errors import MorphogenError
from morphogen.serve.forms import fields_of

MOST_HTML = 32 << 20  # characters of items that are shown at once
MOST_GROUPS = 400  # of duplicates, that are shown and not only named
MOST_ALIKE = 8  # items of such a group
MOST_RUNS = 50  # of a trace, the last
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


def adapting(source: str, recipe: Mapping[str, Any], out: str) -> dict[str, Any]:
    """How the model that a recipe starts from can be adapted to this data, all of it or by an
    adapter beside it. Raises `MorphogenError` where the data is not what it learns."""
    from morphogen.core import discover
    from morphogen.core.recipe import Recipe
    from morphogen.training.options import TrainOptions
    from morphogen.training.run import sessions

    with closing(sessions(source, recipe=Recipe.from_json(recipe), out=out, dry=True)) as found:
        session = next(found)
    facts = session.data.facts()
    wrappers = {name: discover.find("wrapper", name) for name in discover.names("wrapper")}
    adapters = {
        name: {"about": discover.summary(each), "fields": fields_of(each)}
        for name, each in wrappers.items() if hasattr(each, "put_on")
    }  # fmt: skip
    names = ("modality", "spec", "num_train", "num_test", "num_skipped")
    return {
        "family": session.recipe.family_name, "adapters": adapters,
        "train": fields_of(TrainOptions, session.run.options.to_json()),
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


def runs(source: str) -> dict[str, Any]:
    """Runs of agents, as a trace has them: each with its verdict, whether it comes out the same
    when it is replayed, and its page."""
    from morphogen.core.border import read_text
    from morphogen.systems.agents.page import page_of
    from morphogen.systems.agents.trace import traces
    from morphogen.systems.agents.verdict import verdict
    from morphogen.systems.agents.worlds import replay

    found = traces(read_text(Path(source)), source)
    shown = []
    for each in found[-MOST_RUNS:]:
        told = verdict(each)
        shown.append({
            "task": each.began.task, "model": each.began.model, "verdict": told.text().splitlines(),
            "is_same": replay(each).text() == each.text(), "html": page_of(each, told),
        })  # fmt: skip
    return {"runs": shown, "num": len(found)}


def memory(
    source: str, question: str = "", forget: str = "", correct: str = "", text: str = ""
) -> dict[str, Any]:
    """What is remembered, the newest first; with a question what of it is about that. Before, the
    note `forget` goes for good, `text` takes the place of the note `correct`, or is a new one."""
    from morphogen.systems.memory.drawing import svg
    from morphogen.systems.memory.memory import Memory

    opened = Memory.open(source)
    proof = opened.forget(forget).to_json() if forget else None
    if correct:
        opened.correct(correct, text)
    elif text:
        opened.remember(text, source="typed in the studio")
    recalled = opened.recall(question) if question else []
    graph = opened.graph()
    found = {
        "notes": [note.to_json() for note in reversed(opened.notes.values())], "proof": proof,
        "recalled": [
            {"id": each.note.id, "relevance": each.relevance, "recency": each.recency}
            for each in recalled
        ],
        "graph": svg(graph) if graph.edges() else None,
    }  # fmt: skip
    opened.close()
    return found


def told_of(cond: Mapping[str, Any]) -> dict[str, str]:
    """Conditions in a few words each."""
    return {str(name): str(value)[:200] for name, value in cond.items()}


SEEN = (items, check, duplicates, plan, forecast, adapting, evaluate, runs, memory)
LOOKS: dict[str, Callable[..., dict[str, Any]]] = {each.__name__: each for each in SEEN}


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
