"""The records with 100,000 generations: how long a page of search and filters takes, and a write.

    python benchmarks/records.py                      # SQLite in a temporary folder
    python benchmarks/records.py postgresql://...     # another database, empty

Texts are sentences of made-up words whose frequencies follow Zipf's law, as those of a language
do: 20,000 words, 12 to a prompt and 30 to an answer, 200 of the people and 8 models.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from morphogen import records
from morphogen.records.backup import back_up
from morphogen.records.records import Records
from morphogen.records.searching import Filters

NUM, BATCH, WORDS, PEOPLE, MODELS = 100_000, 500, 20_000, 200, 8
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
            if own.database.path is not None:
                told["size_mb"] = own.database.path.stat().st_size / 1e6
            print(json.dumps({n: round(v, 2) for n, v in told.items()}, indent=2))


def fill(own: Records) -> None:
    """Many generations as `start`, `finish` and `add` write them, several to a transaction."""
    draw = np.random.default_rng(0)
    share = 1 / np.arange(1, WORDS + 1)
    share /= share.sum()
    people = [own.users.add(f"person {number}", "maker").id for number in range(PEOPLE)]
    for first in range(0, NUM, BATCH):
        drawn = draw.choice(WORDS, (BATCH, 42), p=share)
        with own.database.together():
            for number, row in enumerate(drawn, first):
                said = [f"w{word:05d}" for word in row]
                uid = own.generations.start(
                    " ".join(said[:12]),
                    model=f"model {number % MODELS}",
                    task="complete",
                    user=people[number % PEOPLE],
                )
                own.generations.finish(uid, " ".join(said[12:]))
                if number % 10 == 0:
                    own.annotations.add(uid, value=float(number // 10 % 5 + 1))


def questions(own: Records) -> dict[str, Callable[[], Any]]:
    """What is asked, by its name."""
    newest = own.search(limit=1)[0]
    middle = own.users.get("person 7").id

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
        "one person": ask(user=middle),
        "one person, one word": ask("w00010", user=middle),
        "rated 5": ask(at_least=5),
        "rated 5, a common word": ask("w00001", at_least=5),
        "rated 5, of one model": ask(at_least=5, model="model 0"),
        "a task that is not": ask(task="embed"),
        "a model that is not": ask(model="nobody"),
        "the last hour": ask(since=time.time() - 3600),
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
