"""The records with 100,000 generations: pages of search and filters, a write, a backup, a rotation.

    python benchmarks/records.py                      # SQLite in a temporary folder
    python benchmarks/records.py postgresql://...     # another database, empty

Texts are sentences of made-up words whose frequencies follow Zipf's law, as those of a language
do: 20,000 words, 12 to a prompt and 30 to an answer, 200 of the people and 8 models.
"""

from __future__ import annotations

import functools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from morphogen import records
from morphogen.records.backup import back_up
from morphogen.records.generations import word_hash
from morphogen.records.records import Records
from morphogen.records.rotating import rotate
from morphogen.records.searching import Filters
from morphogen.records.tables import (
    Annotation,
    Base,
    Fragment,
    Generation,
    Prompt,
    PromptPart,
    Word,
)
from morphogen.records.words import terms

NUM, BATCH, WORDS, PEOPLE, MODELS = 100_000, 1000, 20_000, 200, 8
TABLES = (Fragment, Prompt, PromptPart, Generation, Annotation)
REPEATS = 15
START = 1_700_000_000.0  # seconds since 1970, of the first


def main() -> None:
    """Fill, measure, print."""
    with tempfile.TemporaryDirectory() as folder:
        place = sys.argv[1] if len(sys.argv) > 1 else Path(folder) / "records.db"
        with records.open(place, key=Path(folder) / "records.key") as own:
            began = time.perf_counter()
            fill(own)
            told: dict[str, Any] = {"fill_s": time.perf_counter() - began}
            told |= {name: milliseconds(ask) for name, ask in questions(own).items()}
            told["backup_s"] = seconds(lambda: back_up(own, Path(folder) / "kept.backup"))
            told["rotate_s"] = seconds(lambda: rotate(own))
            if own.database.path is not None:
                told["size_mb"] = own.database.path.stat().st_size / 1e6
            print(json.dumps({n: round(v, 2) for n, v in told.items()}, indent=2))


def fill(own: Records, num: int = NUM) -> None:
    """Generations as `start`, `finish` and `add` leave them, by the same seals, in whole pages: one
    by one they would take half an hour. The index of words is written last, in its own order."""
    draw = np.random.default_rng(0)
    share = 1 / np.arange(1, WORDS + 1)
    share /= share.sum()
    people = [own.users.add(f"person {number}", "maker").id for number in range(PEOPLE)]
    found_by = functools.cache(functools.partial(word_hash, own.seals))
    index: list[np.ndarray[Any, Any]] = []
    for first in range(0, num, BATCH):
        rows: dict[type[Base], list[dict[str, Any]]] = {table: [] for table in TABLES}
        with own.database.write() as session:
            for number, row in enumerate(draw.choice(WORDS, (BATCH, 42), p=share), first):
                person = people[number % PEOPLE]
                said = [f"w{word:05d}" for word in row]
                texts = (" ".join(said[:12]), " ".join(said[12:]))
                for node, text in enumerate(texts, 2 * number + 1):
                    for table, values in a_message(own, session, node, text, person).items():
                        rows[table].append(values)
                rows[Generation].append(a_generation(number, person))
                asked = {found_by(term) for text in texts for term in terms(text)}
                index.append(np.array([(word, number + 1) for word in asked]))
                if number % 10 == 0:
                    rows[Annotation].append(a_rating(number, person))
            for table, each in rows.items():
                if each:
                    own.database.insert_all_new(session, table, each)
    fill_index(own, np.concatenate(index))


def fill_index(own: Records, pairs: np.ndarray[Any, Any]) -> None:
    """Words and the generations that hold them (n, 2)."""
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    beside = list(Word.__table__.indexes)
    with own.database.write() as session:
        for each in beside:
            each.drop(session.connection())
        for first in range(0, len(pairs), 100 * BATCH):
            page = pairs[first : first + 100 * BATCH].tolist()
            rows = [{"word": word, "generation_id": number} for word, number in page]
            session.execute(Word.__table__.insert(), rows)
        for each in beside:
            each.create(session.connection())


def a_message(
    own: Records, session: Session, node: int, text: str, who: int
) -> dict[type[Base], dict[str, Any]]:
    """The rows of one message of one fragment; an answer stands below its prompt."""
    address = own.seals.address(who, b"text", text.encode())
    sealed = own.seals.seal(session, who, text.encode(), f"fragment {address.hex()}")
    about = {"id": node, "user_id": who}
    place = own.seals.address(who, str(node).encode())
    above = {"parent_id": node - 1 if node % 2 == 0 else None, "created": START}
    return {
        Fragment: {**about, "address": address, "kind": "text", "content": sealed},
        Prompt: {**about, **above, "address": place, "role": "user"},
        PromptPart: {"prompt_id": node, "position": 0, "fragment_id": node},
    }


def a_generation(number: int, who: int) -> dict[str, Any]:
    """A finished one, a minute after the one before."""
    return {
        "id": number + 1, "uid": f"{number:020x}", "user_id": who, "task": "complete",
        "model_name": f"model {number % MODELS}", "state": "finished", "usage": {"tokens": 30},
        "started": START + 60 * number, "prompt_id": 2 * number + 1, "answer_id": 2 * number + 2,
    }  # fmt: skip


def a_rating(number: int, who: int) -> dict[str, Any]:
    """From 1 to 5 in turn."""
    said = {"name": "rating", "value": float(number // 10 % 5 + 1), "kind": "human"}
    return {"generation_id": number + 1, "user_id": who, "created": START, **said}


def questions(own: Records) -> dict[str, Callable[[], Any]]:
    """What is asked, by its name."""
    newest = own.search(limit=1)[0]
    one = own.users.get("person 7").id

    def ask(text: str = "", before: int | None = None, **filters: Any) -> Callable[[], Any]:
        return lambda: own.search(text, Filters(**filters), limit=50, before=before)

    def write() -> None:
        uid = own.generations.start("w00001 w00002", model="model 1", task="complete")
        own.generations.finish(uid, "w00003")

    return {
        "first page": ask(),
        "page in the middle": ask(before=newest.number // 2),
        "the commonest word": ask("w00000"),
        "three common words": ask("w00000 w00001 w00002"),
        "a rare word": ask("w09000"),
        "a rare and a common word": ask("w09000 w00000"),
        "a beginning": ask("w0900*"),
        "no such word": ask("nowhere"),
        "one person": ask(user=one),
        "one person, one word": ask("w00010", user=one),
        "rated 5": ask(at_least=5),
        "rated 5, a common word": ask("w00001", at_least=5),
        "rated 5, of one model": ask(at_least=5, model="model 0"),
        "a task that is not": ask(task="embed"),
        "a model that is not": ask(model="nobody"),
        "the last hour": ask(since=START + 60 * (NUM - 60)),
        "before all": ask(until=START),
        "start and finish": write,
    }


def milliseconds(ask: Callable[[], Any]) -> float:
    """The median of several, after one that warms up."""
    ask()
    return statistics.median(seconds(ask) for _ in range(REPEATS)) * 1000


def seconds(do: Callable[[], Any]) -> float:
    """How long something takes."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
