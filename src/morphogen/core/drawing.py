"""Many items drawn and written part by part: memory in proportion to a part, not to the whole.

    OUT/00000.png ...    where OUT is a folder: the numbers go on from part to part
    OUT-0000.png ...     where it is a file: several of them, each called by its first item

The items are those of `Bundle.sample`, in the same order. What they will take is known after the
first part, before anything is written.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from morphogen.core.amounts import duration, size
from morphogen.core.bundle import SAMPLE_BATCH, Bundle
from morphogen.core.encoded import joined, rows
from morphogen.core.errors import MorphogenError
from morphogen.core.result import Result, check_empty

FILE_ITEMS, FILE_VALUES = 1000, 1 << 27  # in one file, at most
TRIED = 25  # items written on trial, to see how large they are
LEAST_FILE, LEAST_ITEM = 4096, 16  # bytes that nothing takes less than on a disk


@dataclass(frozen=True)
class Needs:
    """What drawing all of them will take, judging by the first."""

    num: int
    seconds: float
    disk_bytes: int

    def text(self) -> str:
        """One line for a person."""
        return f"{self.num:,} items: about {duration(self.seconds)} and {size(self.disk_bytes)}"


class Drawing:
    """`num` items on their way to `out`; iterating draws and writes them.

    It yields itself after every part. When it is interrupted, what was drawn is written, and
    `written` and `path` say how many there are, and where.
    """

    def __init__(
        self,
        bundle: Bundle,
        num: int,
        out: Path | str,
        *,
        seed: int = 0,
        cond: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.bundle, self.num, self.out = bundle, num, Path(out)
        self.seed, self.cond, self.options = seed, cond, options
        self.is_folder = not self.out.suffix
        values = bundle.codec.innermost.spec.num_values
        per_file = max(1, min(FILE_ITEMS, FILE_VALUES // values))
        self.per_write = SAMPLE_BATCH if self.is_folder else per_file
        self.drawn = self.written = 0
        self.route = ""
        self.path = self.out  # the latest that was written
        self.files: list[Path] = []  # all that were
        self.needs: Needs | None = None  # known after the first of several parts

    def __iter__(self) -> Generator[Drawing]:
        self._check_place()
        self._check_disk(self.num * (LEAST_FILE if self.is_folder else LEAST_ITEM))
        began = time.perf_counter()
        waiting: list[Result] = []
        parts = self.bundle.sample_parts(self.num, seed=self.seed, cond=self.cond, **self.options)
        try:
            for part in parts:
                waiting.append(part)
                self.drawn += len(part)
                if self.needs is None and self.drawn < self.num:
                    self.needs = self._measured(part, time.perf_counter() - began)
                    self._check_disk(self.needs.disk_bytes)
                self._write(waiting)
                yield self
        except (KeyboardInterrupt, GeneratorExit):
            self._write(waiting, all_of_it=True)
            raise

    def remaining(self, seconds: float) -> float:
        """Seconds that the rest takes, when `seconds` went by so far."""
        return seconds / max(self.drawn, 1) * (self.num - self.drawn)

    # -- writing -----------------------------------------------------------------------------------

    def _write(self, waiting: list[Result], all_of_it: bool = False) -> None:
        """Write what fills a file, or is the last."""
        all_of_it = all_of_it or self.drawn == self.num
        while waiting and (all_of_it or sum(map(len, waiting)) >= self.per_write):
            whole = replace(
                waiting[0], x=joined([part.x for part in waiting if part.x is not None])
            )
            now = min(len(whole), self.per_write)
            first, rest = self._cut(whole, 0, now), self._cut(whole, now, len(whole))
            self.path = first.save(self.out, first=self.written, total=self.num)
            self.files = list(dict.fromkeys([*self.files, *first.files]))
            self.written, self.route = self.written + now, first.route
            waiting[:] = [rest] if len(rest) else []

    @staticmethod
    def _cut(result: Result, start: int, stop: int) -> Result:
        assert result.x is not None
        return replace(result, x=rows(result.x, slice(start, stop)))

    # -- what it takes -----------------------------------------------------------------------------

    def _measured(self, part: Result, seconds: float) -> Needs:
        """From the first part: its time, and the size of some of its items, written on trial."""
        some = self._cut(part, 0, TRIED)
        with tempfile.TemporaryDirectory() as folder:
            trial = Path(folder, f"trial{self.out.suffix}")
            self.bundle.codec.write_part(some.items, trial, 0, len(some))
            files = [path for path in Path(folder).rglob("*") if path.is_file()]
            # In a folder of small files each takes whole blocks of the disk.
            least = LEAST_FILE if self.is_folder else 0
            written = sum(-(-path.stat().st_size // (least or 1)) * (least or 1) for path in files)
        share = self.num / len(some)
        return Needs(self.num, seconds * self.num / len(part), int(written * share))

    def _check_place(self) -> None:
        """Raise `MorphogenError` where items of an earlier drawing would stand among the new."""
        check_empty(self.out)
        if self.is_folder or self.num <= self.per_write:
            return
        for path in sorted(self.out.parent.glob(f"{self.out.stem}-*{self.out.suffix}")):
            if path.stem.removeprefix(f"{self.out.stem}-").isdecimal():
                raise MorphogenError(
                    "items drawn earlier would stand among the new ones",
                    found=path.name,
                    where=path.parent,
                    hint=f"--out {self.out.stem}-new{self.out.suffix}, or move them away",
                )

    def _check_disk(self, num_bytes: int) -> None:
        """Raise `MorphogenError` when the disk cannot hold so much, or so many files."""
        parents = (self.out.absolute(), *self.out.absolute().parents)
        place = next(path for path in parents if path.is_dir())
        free, hint = shutil.disk_usage(place).free, "a smaller -n, or another disk with --out"
        if num_bytes > free:
            raise MorphogenError(
                "there is not enough disk space for so many items",
                found=f"{size(free)} free",
                expected=f"{size(num_bytes)} for {self.num:,} items",
                where=place,
                hint=hint,
            )
        if not (self.is_folder and hasattr(os, "statvfs")):
            return
        found = os.statvfs(place)
        if found.f_files and self.num > found.f_favail:
            raise MorphogenError(
                "the disk cannot hold so many files",
                found=f"room for {found.f_favail:,}",
                expected=f"{self.num:,}, one for each item",
                where=place,
                hint=f"sheets: --out {self.out}{self.bundle.codec.suffix}",
            )
