"""Events: what users did, item after item, as tokens that are the items themselves.

    user 7   apple  pear  apple  plum | end      a token for each event, the oldest first

so that a model of sequences learns p(next item | those before it): how it goes on is a
recommendation, what it finds improbable is odd, and what it fills in was missed. An item of another
kind of event ("view apple", "buy apple") is another token. Logs are divided by time, and judged by
what each user did last (`dividing.py`).

Legend: B histories, L events of one at most, V items and the end.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from morphogen.core.codec import Codec, Item, Recognition, Report
from morphogen.core.errors import DataError, did_you_mean
from morphogen.core.schema import check_ranges
from morphogen.core.spec import TensorSpec
from morphogen.modalities.events import page
from morphogen.modalities.events.copies import copies
from morphogen.modalities.events.dividing import MOST_EVENTS, items_of, whole_histories
from morphogen.modalities.events.history import Event, History, parsed
from morphogen.modalities.events.reading import SHOWN, Log, read_log, recognise

READING = ("user", "item", "time", "kind", "only")
OPTIONS = (*READING, "length", "fewest", "test", "divide")
# Networks for so many learned events, at most. What is beyond takes the usual one: a large network
# knows a small log by heart, and takes ten times as long for a step of it.
NETWORKS = (
    (200_000, {"model_dim": 64, "num_layers": 2, "dropout_prob": 0.3}),
    (2_000_000, {"model_dim": 128, "num_layers": 3, "dropout_prob": 0.2}),
)
MOST_COMPARED = 5_000  # items that a misspelt one is compared with, the most frequent


class Events(Codec):
    """Logs of users, items and times, from CSV, Parquet, JSON lines, databases and DataFrames."""

    family = "autoregressive"
    suffix: ClassVar[str] = ".html"
    raw: ClassVar[tuple[type, str]] = (History, "histories")
    unit: ClassVar[str] = "event"
    judged_as_fitted: ClassVar[bool] = True  # tokens of another catalogue are other items

    def __init__(
        self,
        *,
        user: str = "auto",  # the column that says whose an event is
        item: str = "auto",  # the column that says what it is of
        time: str = "auto",  # the column of the time; none: rows are in order as they come
        kind: str = "auto",  # the column that says what happened, such as view or buy; none
        only: str = "",  # kinds of events to learn, with commas between; all, where empty
        length: int | None = None,  # events of a history that are seen at once; none: up to 100
        fewest: int = 1,  # events that an item needs before the cut, to be learned
        test: float = 0.1,  # the last share of the events, of which each user's last is judged
        divide: Literal["moment", "each"] = "moment",  # all users at one, or each before the last
    ) -> None:
        check_ranges(
            "modality",
            length=(length or 2, 2, 4096),
            fewest=(fewest, 1, 10**6),
            test=(test, 0.001, 0.9),
        )
        self.user, self.item, self.time, self.kind, self.only = user, item, time, kind, only
        self.length, self.fewest, self.test, self.divide = length, fewest, test, divide
        self.catalogue: list[Event] = []
        self.facts: dict[str, Any] = {}

    # -- reading ---------------------------------------------------------------------------------

    @classmethod
    def recognises(cls, source: Any) -> Recognition | None:
        return recognise(source)

    def read(self, source: Any, report: Report) -> Iterator[Item]:
        length = self.spec.shape[0] if self.catalogue else self.length
        yield from items_of(
            self._log(source, report), report, length=length, fewest=self.fewest, test=self.test,
            divide=self.divide, known=self.number if self.catalogue else None,
        )  # fmt: skip

    def read_inputs(self, source: Path | str) -> list[Item]:
        """All that each user of a file did, but for items that were not learned, of which it
        warns."""
        report = Report(str(source))
        whole = whole_histories(self._log(source, report))
        report.check_readable(whole)
        known = [self._known(history) for history in whole]
        left = [e for h in whole for e in h.events if e not in self.number]
        if left:
            names = ", ".join(map(str, dict.fromkeys(left[:SHOWN])))
            total = sum(map(len, whole))
            warnings.warn(
                f"{len(left):,} of {total:,} events are of items that were not learned, and are "
                f"left out: {names}", stacklevel=2,
            )  # fmt: skip
        return [Item(history, history.user) for history in known]

    def _log(self, source: Any, report: Report) -> Log:
        return read_log(source, report, **{name: getattr(self, name) for name in READING})

    def _known(self, history: History) -> History:
        """The events of items that were learned."""
        keep = [place for place, event in enumerate(history.events) if event in self.number]
        if len(keep) == len(history):
            return history
        events = tuple(history.events[place] for place in keep)
        stamps = None if history.stamps is None else history.stamps[keep]
        return replace(history, events=events, stamps=stamps)

    def parse(self, text: str) -> History:
        """Items with commas between."""
        return parsed(text)

    # -- fitting and encoding ----------------------------------------------------------------------

    def fit(self, items: Iterable[Item]) -> Events:
        counts: Counter[Event] = Counter()
        longest, sizes = 1, Counter[int]()
        for item in items:
            counts.update(item.value.events)
            longest = max(longest, len(item.value))
            sizes[len(item.value)] += 1
        if not counts:
            raise DataError("there are no events to learn from", expected="at least one")
        catalogue = sorted(counts, key=lambda event: (-counts[event], event))
        self._use(catalogue, self.length or min(longest + 1, MOST_EVENTS))  # and what comes next
        learned = counts.total()
        self.network = next((own for most, own in NETWORKS if learned <= most), {})
        top = max(len(catalogue) // 10, 1)
        share = sum(counts[event] for event in catalogue[:top]) / learned
        self.facts = {
            "items": f"{len(catalogue):,}; the tenth that comes most often has {share:.0%} of what "
            "is learned",
            "histories": f"{_median(sizes):,} events in the usual one, {longest:,} in the longest",
        }
        if self.network:
            told = ", ".join(f"{name}={value}" for name, value in self.network.items())
            self.facts["network"] = f"{told} where none is named, for {learned:,} events"
        return self

    def _use(self, catalogue: Sequence[Event], length: int) -> None:
        self.catalogue = list(catalogue)
        self.number = {event: number for number, event in enumerate(self.catalogue)}
        size = len(self.catalogue)
        self.spec = TensorSpec.tokens(length, size + 1, end=size)

    @property
    def end(self) -> int:
        """The token after the last event."""
        return len(self.catalogue)

    def encode(self, item: Item) -> Tensor:
        return self.encode_many([item])[0]

    def encode_many(self, items: Sequence[Item]) -> Tensor:
        """The newest events of each, as many as there is room for: (B, L)."""
        length = self._fitted().shape[0]
        x = torch.full((len(items), length), self.end)
        for row, item in zip(x, items, strict=True):
            numbers = self._numbers(item)[-length:]
            row[: len(numbers)] = torch.tensor(numbers, dtype=torch.long)
        return x

    def encode_sequences(self, items: Sequence[Item]) -> list[Tensor]:
        """All events of each: (n,)."""
        self._fitted()
        return [torch.tensor(self._numbers(item), dtype=torch.long) for item in items]

    def _numbers(self, item: Item) -> list[int]:
        value = parsed(item.value) if isinstance(item.value, str) else item.value
        if not isinstance(value, History):
            raise DataError(
                "not a history of events", found=type(value).__name__,
                expected="a file, items with commas between, or a History",
            )  # fmt: skip
        try:
            return [self.number[event] for event in value.events]
        except KeyError as error:
            event: Event = error.args[0]
            raise DataError(
                f"{str(event)!r} was not learned."
                + did_you_mean(str(event), map(str, self.catalogue[:MOST_COMPARED])),
                found=f"{len(self.catalogue):,} items, {self.catalogue[0]} the most frequent",
            ) from error

    def decode(self, x: Tensor) -> History:
        numbers = x[x.ne(self.end).cumprod(0).bool()].tolist()
        return History(tuple(self.catalogue[number] for number in numbers))

    def judged(self, x: Tensor) -> Tensor:
        """The last event of each: what was before it may have been learned. (B, L)."""
        there = x != self.end
        return there & (there.cumsum(1) == there.sum(1, keepdim=True))

    def num_units(self, x: Tensor) -> Tensor:
        return x.ne(self.end).sum(1).clamp(min=1).float()

    def token_text(self, token: int) -> str:
        """A token for people."""
        return "(end)" if token == self.end else str(self.catalogue[token])

    def copies(self, values: Sequence[Any], training: Sequence[Any]) -> Mapping[str, Sequence[int]]:
        """Which histories are those of training again; see `copies.py`."""
        return copies(values, training)

    # -- for people ------------------------------------------------------------------------------

    def html(self, values: Sequence[Any], columns: int | None = None) -> str:
        return page.rows(values, columns)

    def brief(self, value: Any, most: int = 40) -> str:
        return page.brief(value, most)

    def write(self, values: Sequence[Any], path: Path, columns: int | None = None) -> Path:
        """A page; or `.csv`, a row for each event."""
        path = Path(path)
        if path.suffix.lower() == ".csv":
            return page.write_rows(values, path)
        return super().write(values, path, columns)

    # -- state -----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        length = self._fitted().shape[0]
        return {
            "options": {name: getattr(self, name) for name in OPTIONS},
            "catalogue": [list(event) for event in self.catalogue],
            "length": length,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Events:
        codec = cls(**state["options"])
        codec._use([Event(*event) for event in state["catalogue"]], state["length"])
        return codec

    def _fitted(self) -> TensorSpec:
        if not self.catalogue:
            raise DataError("the codec has seen no events yet", hint="codec.fit(items)")
        spec: TensorSpec = self.spec
        return spec


def _median(sizes: Counter[int]) -> int:
    every = sorted(sizes.elements())
    return every[len(every) // 2]
