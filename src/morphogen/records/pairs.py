"""Answers and what people thought of them, as data to learn from or to be judged by.

    chat          every prompt with its answer, as messages
    preference    of answers to one prompt, one valued above another: chosen and rejected; of those
                  that were voted on side by side, each pair by itself
    rated         prompt, answer, value and label, one column each

The folder holds `items.jsonl` and `origin.json`, is kept as a version (see `data.snapshot`), and is
in the records with every generation that it was made from. Where none is asked for, the form is
that of answers that suit the filters.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from morphogen.core.errors import RecordsError
from morphogen.core.storage import expanded, write_text
from morphogen.data.snapshot import Store
from morphogen.records.annotations import VOTE
from morphogen.records.datasets import Dataset
from morphogen.records.generation import Generation
from morphogen.records.searching import Filters

if TYPE_CHECKING:
    from morphogen.records.records import Records

Form = Literal["chat", "preference", "rated"]
FORMS: tuple[Form, ...] = get_args(Form)
ROLES = {"prompt": "user"}  # a text that was gone on from was said by the user


@dataclass(frozen=True)
class Pairs:
    """A dataset that was made from answers."""

    folder: Path
    num: int
    version: str
    dataset: Dataset


def make_dataset(
    records: Records,
    out: Path | str,
    text: str = "",
    filters: Filters | None = None,
    *,
    form: Form = "chat",
    by: int | None = None,
) -> Pairs:
    """Write the answers that suit the filters into a new folder; keep it as a version; record it.

    Raises `RecordsError` where there are too few.
    """
    from morphogen.core.result import check_empty
    from morphogen.data.dataset import load

    folder, filters = expanded(out), filters or Filters()
    check_empty(folder)
    found = [g for g in records.search.every(text, filters) if g.answer and g.prompt]
    found = [records.generations.get(each.id) for each in reversed(found)]
    rows = list(_rows(found, form, filters.annotation))
    if len(rows) < 2:
        raise RecordsError(
            "there are too few answers to make a dataset of",
            found=f"{len(found)} answers, {len(rows)} items of the form {form}",
            expected="two at least",
            hint="wider filters: --since 30d, a lower --rated",
        )
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row, _ in rows)
    write_text(folder / "items.jsonl", lines)
    used = sorted({uid for _, uids in rows for uid in uids})
    asked = {name: value for name, value in asdict(filters).items() if value is not None}
    origin = {"made_from": "records", "form": form, "filters": asked, "generations": used}
    write_text(folder / "origin.json", json.dumps(origin, indent=2) + "\n")
    version = Store.beside(folder).snapshot(folder, note=f"{len(rows)} {form} items of records")
    modality = {"chat": "chat", "preference": "preference", "rated": None}[form]
    data = load(folder / "items.jsonl", modality)
    dataset = records.datasets.add(data, version=version.id, made_from=used)
    told = {"form": form, "items": len(rows)}
    records.audit.note("records.dataset", f"dataset {dataset.id}", user=by, **told)
    return Pairs(folder, len(rows), version.id, dataset)


def _rows(
    found: Sequence[Generation], form: Form, annotation: str
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Items, each with the ids of the generations that it is made from."""
    if form == "preference":
        yield from _preferences(found, annotation)
        return
    for each in found:
        assert each.answer is not None
        if form == "chat":
            messages = [_message(m.role, m.text) for m in each.prompt]
            yield {"messages": [*messages, _message("assistant", each.answer.text)]}, [each.id]
        else:
            said = {"prompt": each.prompt[-1].text, "answer": each.answer.text}
            value, label = _value(each, annotation), _label(each)
            yield {**said, "value": value, "label": label}, [each.id]


def _preferences(
    found: Sequence[Generation], annotation: str
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """The best answer to each prompt before every one that is valued less; votes compare those of a
    pair alone."""
    beside: dict[tuple[int, str | None], list[tuple[float, Generation]]] = defaultdict(list)
    for each in found:
        value = _value(each, annotation)
        if value is not None and each.prompt_id is not None:
            pair = _label(each, VOTE) if annotation == VOTE else None
            beside[each.prompt_id, pair].append((value, each))
    for rated in beside.values():
        rated.sort(key=lambda pair: (-pair[0], pair[1].number))
        best, first = rated[0]
        for value, other in rated[1:]:
            if value < best and first.answer and other.answer:
                row = {
                    "prompt": [_message(m.role, m.text) for m in first.prompt],
                    "chosen": [_message("assistant", first.answer.text)],
                    "rejected": [_message("assistant", other.answer.text)],
                }
                yield row, [first.id, other.id]


def _message(role: str, text: str) -> dict[str, str]:
    return {"role": ROLES.get(role, role), "content": text}


def _value(generation: Generation, name: str) -> float | None:
    values = [a.value for a in generation.annotations if a.name == name and a.value is not None]
    return sum(values) / len(values) if values else None


def _label(generation: Generation, name: str | None = None) -> str | None:
    said = (a for a in reversed(generation.annotations) if name is None or a.name == name)
    return next((a.label for a in said if a.label), None)
