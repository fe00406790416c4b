"""Series: numbers that follow one another in time, in windows that each come after a past.

    item    L steps of C columns, (C, L);    `past`  the P steps before it, a condition

so that a model learns p(item | past): what it draws after the last steps that are known is a
forecast, how probable it finds an item an alarm, and what it fills in a gap of an item an
imputation. Each column is learned in its own standard deviations (`scale.py`); items are divided by
time alone (`cutting.py`). Two views: `values` as they are, and `levels`, 256 of them, for families
that draw from a finite set.

Legend: C columns, L steps of an item, P steps of its past.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from morphogen.core.bands import band, quantile
from morphogen.core.codec import Codec, Item, Recognition, Report
from morphogen.core.errors import DataError
from morphogen.core.schema import check_ranges
from morphogen.core.spec import TensorSpec
from morphogen.modalities.series import page
from morphogen.modalities.series.cutting import cuts_of, divided, held_back, items_of, last_of
from morphogen.modalities.series.reading import read_series, recognise
from morphogen.modalities.series.scale import Scale, squeezed, stretched
from morphogen.modalities.series.stamps import bridged, in_order, on_grid
from morphogen.modalities.series.window import Window, together

VALUES, LEVELS = "values", "levels"
NUM_LEVELS = 256
LEVEL = 0.8  # share of the truth that a band about what was filled in is to hold


class Series(Codec):
    """Series from CSV, TSV, Parquet, JSON lines and DataFrames, in long or wide form."""

    suffix: ClassVar[str] = ".html"
    gap: ClassVar[str] = "an empty cell"
    raw: ClassVar[tuple[type, str]] = (Window, "windows of series")
    unit: ClassVar[str] = "value"
    defining: ClassVar[tuple[str, ...]] = ("length", "past", "apart")
    comes_with: ClassVar[tuple[str, ...]] = ("past", "ahead", "label")
    views: ClassVar[tuple[str, ...]] = (VALUES, LEVELS)
    network: Mapping[str, Any] = MappingProxyType({"dropout_prob": 0.1})  # windows overlap

    def __init__(
        self,
        *,
        length: int = 24,  # steps of an item: how far a forecast goes
        past: int = 96,  # steps before an item, that it is drawn after; 0: none
        stamp: str = "auto",  # the column of the time
        series: str = "auto",  # the column that says which series a row is of; none
        columns: str = "all",  # those to learn, with commas between
        ahead: str = "",  # columns that are known beforehand, with commas: holidays, prices
        apart: bool = False,  # learn each column as a series of its own, by one model
        even: Literal["auto", "grid", "rows"] = "auto",  # lay rows on an even grid, or as they come
        max_gap: int = 3,  # missing steps in a row that the last known value stands for
        missing: str = "",  # a number that stands for a missing value, such as -999
        stride: int | None = None,  # steps between items; none: 1, more of very long series
        test: float = 0.2,  # the last share of the time, held out
        divide: Literal["moment", "each"] = "moment",  # all series at one, or each by itself
        train_until: str | None = None,  # a stamp; none: where the test split begins
        test_from: str | None = None,  # a stamp in place of the share
        test_until: str | None = None,  # a stamp; none: the end
    ) -> None:
        check_ranges(
            "modality",
            length=(length, 1, 100_000),
            past=(past, 0, 1_000_000),
            test=(test, 0.001, 0.9),
        )
        self.length, self.past, self.stamp, self.series = length, past, stamp, series
        self.columns, self.ahead, self.apart, self.even = columns, ahead, apart, even
        self.max_gap = max_gap
        self.missing, self.stride, self.test, self.divide = missing, stride, test, divide
        self.train_until, self.test_from, self.test_until = train_until, test_from, test_until
        self.view, self.names, self.scale = VALUES, (), Scale()
        self.facts: dict[str, Any] = {}

    # -- reading ---------------------------------------------------------------------------------

    @classmethod
    def recognises(cls, source: Any) -> Recognition | None:
        return recognise(source)

    def read(self, source: Any, report: Report) -> Iterator[Item]:
        every = self._series_in(source, report)
        if not every:
            return
        cuts = cuts_of(
            every, self.test, each_alone=self.divide == "each", train_until=self.train_until,
            test_from=self.test_from, test_until=self.test_until,
        )  # fmt: skip
        for item in items_of(
            every, cuts, report, past=self.past, length=self.length, stride=self.stride,
            ahead=self._ahead,
        ):  # fmt: skip
            report.num_read += 1
            yield item

    def read_inputs(self, source: Path | str) -> list[Item]:
        """The windows of a file one after another, each with its past; gaps stay gaps."""
        items = []
        for whole in self._given(source, most=0):
            told, each = divided(whole, self._ahead)
            bridge = bridged(whole, self.max_gap, Report(""), "")  # of a past, gaps are
            before = divided(bridge, self._ahead)[1]
            for start in range(self.past, len(each) - self.length + 1, self.length):
                item = each.cut(start, start + self.length)
                past = before.cut(start - self.past, start)
                cond: dict[str, Any] = {"label": each.series or None}
                if self.past and np.isfinite(past.values).all():
                    cond["past"] = past
                if told is not None:
                    cond["ahead"] = told.cut(start, start + self.length)
                items.append(Item(item, f"{each.series or 'series'}@{item.when(0)}", cond))
        if not items:
            raise DataError(
                "the input holds no item", where=str(source),
                expected=f"at least {self.past + self.length:,} steps: {self.past:,} before it",
            )  # fmt: skip
        return items

    def coming(self, source: Any) -> list[Item]:
        """What comes after each series of a source: no values yet, and the past."""
        every = self._given(source)
        return [last_of(each, self.past, self.length, self._ahead) for each in every]

    def _given(self, source: Any, most: int | None = None) -> list[Window]:
        """The series of a source that a user names as an input; any row that is lost is raised."""
        report = Report(str(source))
        every = self._series_in(source, report, most)
        report.check_readable(every)
        return every

    def _series_in(self, source: Any, report: Report, most: int | None = None) -> list[Window]:
        """Every series of a source in order, on its grid, short gaps filled."""
        every = []
        given = {"stamp": self.stamp, "series": self.series, "columns": self.columns}
        for read in read_series(source, report, missing=self.missing, ahead=self._ahead, **given):
            where = f"{report.source} {read.series}".strip()
            series = on_grid(in_order(read, report, where), report, where, self.even)
            series = bridged(series, self.max_gap if most is None else most, report, where)
            every += _columns_of(series, self._ahead) if self.apart else [series]
        if every:
            names = divided(every[0], self._ahead)[1].names
            report.facts["series"] = f"{len(every):,} of {', '.join(names[:8])}"
        return every

    @property
    def _ahead(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.ahead.split(",") if name.strip())

    def held_back(self, names: Sequence[str]) -> tuple[Tensor, Tensor] | None:
        """The last tenth of each series: what is learned is to hold for times to come."""
        return held_back(names, self.length)

    def parse(self, text: str) -> Any:
        """A past, by the name of a file: its last steps. Raises `DataError` where it holds several
        series, or too little."""
        every = [divided(each, self._ahead)[1] for each in self._given(text)]
        if len(every) != 1 or len(every[0]) < self.length:
            found = f"{len(every)} series" if len(every) != 1 else f"{len(every[0]):,} steps"
            raise DataError(
                "the file does not hold one past", found=found, where=text,
                expected=f"one series of at least {self.length:,} steps",
            )  # fmt: skip
        return every[0].cut(len(every[0]) - self.length, len(every[0]))

    def for_conditions(self) -> dict[str, Any]:
        """A past is read as the items are."""
        return {name: getattr(self, name) for name in READING}

    # -- fitting and encoding ----------------------------------------------------------------------

    def fit(self, items: Iterable[Item]) -> Series:
        windows = [item.value for item in items]
        self.scale = Scale.of(windows)
        self.names, self.length = windows[0].names, len(windows[0])
        self._use()
        if len(self.scale.known) > 1:
            self.facts["scale"] = "each series in its own standard deviations"
        return self

    def _use(self) -> Series:
        levels = NUM_LEVELS if self.view == LEVELS else None
        shape = (len(self.names), self.length)
        # A vector: the first step after a past is not like the last, so nothing is gained by
        # looking at all of them in the same way.
        self.spec = TensorSpec("real", shape, levels=levels, layout="vector")
        return self

    def use_view(self, name: str) -> Series:
        super().use_view(name)
        return self._use() if self.names else self

    def encode(self, item: Item) -> Tensor:
        return self.encode_many([item])[0]

    def encode_many(self, items: Sequence[Item]) -> Tensor:
        """Windows (B, C, L), those of each series in its own deviations."""
        windows = [self._checked(item.value) for item in items]
        kinds = list(dict.fromkeys((window.series, window.names) for window in windows))
        of = {kind: self.scale.for_series(*kind) for kind in kinds}
        values = np.stack([window.values for window in windows])
        mean, deviation = (
            np.stack([of[window.series, window.names][end] for window in windows]) for end in (0, 1)
        )
        x = squeezed((values - mean) / deviation)
        return self.spec.dequantise(self.spec.quantise(x)) if self.spec.levels else x

    def known(self, item: Item) -> Tensor | None:
        """Which values of an item are known, (C, L); None where all are."""
        there = np.isfinite(self._checked(item.value).values)
        return None if there.all() else torch.from_numpy(there)

    def filled(self, items: Sequence[Item], draws: Tensor) -> list[Window]:
        """The windows of each series as one, gaps filled by the middle of what was drawn, with the
        band about it, of 80 % or what so few draws tell."""
        level = min(LEVEL, (draws.shape[1] - 1) / (draws.shape[1] + 1))
        low, high = band(draws, level)
        joined: dict[str | None, list[Window]] = {}
        for item, ends in zip(
            items, zip(low, quantile(draws, 0.5), high, strict=True), strict=True
        ):
            own = item.value
            there = np.isfinite(own.values)
            told = [self._decoded(x, own.series, own.stamps).values for x in ends]
            first, middle, last = (np.where(there, own.values, each) for each in told)
            window = replace(own, values=middle, low=first, high=last, level=level)
            joined.setdefault(own.series, []).append(window)
        return [together(windows) for windows in joined.values()]

    def decode(self, x: Tensor) -> Window:
        """In the units of the series, where there is one; of several, in standard deviations."""
        whose = self.scale.only_series
        return self._decoded(x, whose, np.arange(self.length, dtype=np.float64), dated=False)

    def _decoded(self, x: Tensor, whose: str | None, stamps: np.ndarray, **about: Any) -> Window:
        mean, deviation = self.scale.for_series(whose, self.names)
        return Window(stretched(x) * deviation + mean, stamps, self.names, whose, **about)

    def banded(self, item: Item, low: Tensor, middle: Tensor, high: Tensor, level: float) -> Window:
        """What comes next as one value: the middle of what may come, and the band about it."""
        window = item.value
        ends = [
            self._decoded(x, window.series, window.stamps, dated=window.dated)
            for x in (low, middle, high)
        ]
        return replace(
            ends[1], past=item.cond.get("past"), low=ends[0].values, high=ends[2].values,
            level=level,
        )  # fmt: skip

    def _checked(self, value: Any) -> Window:
        if not isinstance(value, Window):
            raise DataError(
                "not a window of a series",
                found=type(value).__name__,
                expected="a file, or a Window",
            )
        if (value.names, len(value)) != (self.names, self.length):
            raise DataError(
                "the window does not fit what was learned",
                found=f"{len(value):,} steps of {', '.join(value.names)}",
                expected=f"{self.length:,} steps of {', '.join(self.names)}",
            )
        return value

    # -- for people ------------------------------------------------------------------------------

    def html(self, values: Sequence[Any], columns: int | None = None) -> str:
        return page.pictures(values, columns)

    def write(self, values: Sequence[Any], path: Path, columns: int | None = None) -> Path:
        path = Path(path)
        if path.suffix.lower() in (".csv", ".tsv"):
            return page.write_rows(values, path)
        return super().write(values, path, columns)

    # -- state -----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        options = {name: getattr(self, name) for name in OPTIONS}
        return {
            "options": options, "view": self.view, "names": list(self.names),
            "scale": self.scale.to_json(),
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Series:
        codec = cls(**state["options"])
        codec.names, codec.scale = tuple(state["names"]), Scale.from_json(state["scale"])
        codec.use_view(state["view"])
        return codec


READING = ("stamp", "series", "columns", "ahead", "apart", "even", "max_gap", "missing")
OPTIONS = (
    "length", "past", "stamp", "series", "columns", "ahead", "apart", "even", "max_gap", "missing",
    "stride", "test", "divide", "train_until", "test_from", "test_until",
)  # fmt: skip


def _columns_of(every: Window, ahead: tuple[str, ...]) -> list[Window]:
    """A series for each column, called by it; what is known ahead goes with each."""
    series = divided(every, ahead)[1]
    if len(series.names) == 1:
        return [every]
    return [
        replace(
            every.only((name, *ahead)),
            names=("value", *ahead),
            series=f"{series.series}/{name}" if series.series else name,
        )
        for name in series.names
    ]
