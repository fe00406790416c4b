"""What an item of the data went into, and how to remove it from there: lineage forwards.

    item -> datasets that hold it -> runs -> models -> models that began with them
                                            models -> answers -> datasets made of these -> runs ...
    item -> versions, tables, lists and comparisons that were made of its data

The plan begins with the data, as nothing that is made anew before would be rid of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from morphogen.core.errors import MorphogenError
from morphogen.core.storage import cache_folder
from morphogen.core.visible import in_shell
from morphogen.data.snapshot import Store
from morphogen.records.datasets import Dataset, Held
from morphogen.records.deeds import Deed
from morphogen.records.models import Model
from morphogen.records.tables import DatasetPair, Evaluation
from morphogen.records.tables import Generation as GenerationRow

if TYPE_CHECKING:
    from morphogen.records.records import Records

MOST_IDS = 10_000  # answers that are told by their ids


@dataclass(frozen=True)
class Touched:
    """What an item of the data went into."""

    held: Held
    models: tuple[Model, ...]  # that learned it, began with one that did, or learned its answers
    num_answers: int  # of these models
    datasets: tuple[Dataset, ...]  # that were made from those answers
    answers: tuple[str, ...] = ()  # their ids, newest first
    judged: tuple[Model, ...] = ()  # that did not learn it, but were judged by it
    deeds: tuple[Deed, ...] = ()  # what else was done with its data, oldest first

    def lines(self) -> Iterator[str]:
        """For a terminal."""
        held = self.held
        yield f"  an item of {held.dataset.place}: {held.item}, {held.split} split"
        yield from (f"  learned by {model.place}" for model in self.models)
        yield from (f"  used to judge {model.place}" for model in self.judged)
        for deed in self.deeds:
            made = f": {', '.join(deed.made)}" if deed.made else ""
            yield f"  its data went through {deed.verb}{made}"
        yield f"  answers of these models: {self.num_answers:,}"


def touched(records: Records, held: Held) -> Touched:
    """Follow an item through everything that is recorded."""
    models, datasets = _spread(records, held.dataset)
    answers = _answers(records, [model.id for model in models])
    learned = {model.id for model in models}
    return Touched(
        held, tuple(models), sum(records.models.num_answers(number) for number in learned),
        tuple(datasets), tuple(answers),
        tuple(each for each in _judged(records, held.dataset) if each.id not in learned),
        tuple(_deeds(records, held, learned)),
    )  # fmt: skip


def removal(found: Iterable[Touched]) -> list[str]:
    """What to do so that nothing of an item is left, in the order in which to do it."""
    steps = [step for each in found for step in _steps(each)]
    stores = cache_folder() / "stores"
    if steps and stores.is_dir():
        steps.append(f"delete what was read of it, which is read anew when needed: rm -r {stores}")
    return list(dict.fromkeys(steps))


def _spread(records: Records, first: Dataset) -> tuple[list[Model], list[Dataset]]:
    """Every model that learned a dataset or what came of it, and the datasets that came of it."""
    models: dict[int, Model] = {}
    datasets: dict[int, Dataset] = {first.id: first}
    pending, seen = [first.id], set[int]()
    while pending:
        number = pending.pop(0)
        learned = [
            model
            for run in records.runs.all(dataset=number)
            for model in records.models.all(run=run.id)
        ]
        while learned:
            model = learned.pop(0)
            if model.id not in models:
                models[model.id] = model
                learned += records.models.all(base=model.id)
        seen.add(number)
        for made in _made_of(records, models):
            datasets.setdefault(made, records.datasets.get(made))
            pending += [made] if made not in {*seen, *pending} else []
    del datasets[first.id]
    return list(models.values()), list(datasets.values())


def _made_of(records: Records, models: Iterable[int]) -> list[int]:
    """The datasets that hold answers of these models."""
    with records.database.read() as session:
        query = (
            select(DatasetPair.dataset_id)
            .join(GenerationRow, GenerationRow.id == DatasetPair.generation_id)
            .where(GenerationRow.model_id.in_(list(models)))
            .distinct()
        )
        return list(session.scalars(query.order_by(DatasetPair.dataset_id)))


def _answers(records: Records, models: list[int]) -> list[str]:
    with records.database.read() as session:
        query = select(GenerationRow.uid).where(GenerationRow.model_id.in_(models))
        return list(session.scalars(query.order_by(GenerationRow.id.desc()).limit(MOST_IDS)))


def _judged(records: Records, dataset: Dataset) -> Iterator[Model]:
    """The models that were judged by a dataset."""
    with records.database.read() as session:
        query = select(Evaluation.model_id).where(Evaluation.dataset_id == dataset.id).distinct()
        numbers = list(session.scalars(query.order_by(Evaluation.model_id)))
    yield from (records.models.get(number) for number in numbers)


def _file(held: Held) -> Path:
    """The file that an item is, or is a row of."""
    place = Path(held.dataset.place)
    return place if place.is_file() else place / held.item.partition("#")[0]


def _deeds(records: Records, held: Held, models: set[int]) -> Iterator[Deed]:
    """What was done with its data, where it is on the list of items that there may be; and with
    the models that learned it."""
    yield from (
        deed
        for deed in records.deeds.concerning(_file(held))
        if held.item in deed.facts.get("items", [held.item])
    )
    yield from (deed for deed in records.deeds.all(verb="export") if deed.model_id in models)


# -- the plan --------------------------------------------------------------------------------------


def _steps(each: Touched) -> Iterator[str]:
    data = each.held.dataset
    yield f"take {each.held.item} out of {data.place}"
    yield from (step for deed in each.deeds for step in _step_of(deed, each.held))
    compared = [deed for deed in each.deeds if deed.verb == "compare" and deed.made]
    for model in each.models:
        if not any(_is_below(model.place, deed.made[0]) for deed in compared):
            yield f"train {model.name} anew without it, or delete it: it lies in {model.place}"
        if model.version is not None:
            yield f"delete the copy of {model.name} that the records keep, version {model.version}"
    for model in each.judged:
        again = f"morphogen evaluate {in_shell(model.place)}"
        yield f"evaluate {model.name} anew, which was judged by it: {again}"
    if each.num_answers:
        names = sorted({model.name for model in each.models})
        yield (
            f"look through, or drop, {each.num_answers:,} answers of these models: "
            + "; ".join(f"morphogen records search --model {name}" for name in names[:8])
        )
    for made in each.datasets:
        yield f"make the dataset {made.place} anew"


def _step_of(deed: Deed, held: Held) -> Iterator[str]:
    """What to do about what a deed made."""
    place, item = ", ".join(deed.made), held.item
    if deed.verb == "snapshot" and _is_in_version(deed, _file(held)):
        yield (
            f"delete the versions in {place}, which hold it (version {deed.facts.get('id')}), "
            "and keep one anew"
        )
    elif deed.verb == "split" and place:
        yield f"take the line of {item} out of {place}"
    elif deed.verb == "compare" and place:
        num = deed.facts.get("num_models")
        models = f", with its {num} models" if num else ""
        yield f"delete the comparison in {place}{models}, or make it anew without it"
    elif deed.verb == "export" and place:
        yield f"delete {place}, which was exported from {deed.source}"
    elif deed.verb in ("dedupe", "redact", "restore") and place:
        yield f"delete {item} from {place} too"


def _is_in_version(deed: Deed, file: Path) -> bool:
    """Whether a version holds a file; a store that is there and cannot be read may."""
    try:
        files = Store.at(deed.made[0]).version(str(deed.facts.get("id"))).files
    except MorphogenError:
        return Path(deed.made[0]).exists()
    return str(file.relative_to(deed.source)) in files


def _is_below(place: str, folder: str) -> bool:
    return Path(place).is_relative_to(folder)
