"""What is going on, on a screen: a bar with events above it, or plain lines. For the stream of a
training run, and for the runs of a comparison."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Self

from morphogen.cli._parts import number
from morphogen.cli._terminal import bare
from morphogen.core.amounts import duration
from morphogen.core.bundle import SAMPLE_BATCH
from morphogen.core.visible import visible

if TYPE_CHECKING:
    from morphogen.comparison.pace import Standing
    from morphogen.core.drawing import Drawing
    from morphogen.training.loop import Log

PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal to redraw


class PlainProgress:
    """A line now and then, and one per event: for files, pipes and build servers."""

    def __init__(self) -> None:
        self.last_line = -math.inf
        self.last_log: Log | None = None

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._print_last()

    def __call__(self, log: Log) -> None:
        """Show one log."""
        late = time.monotonic() - self.last_line >= PLAIN_EVERY
        if log.event:
            self._print_last()  # an event is read with the numbers that it happened at
            print(log.event, flush=True)
        elif log.values:
            self.last_log = log
            if late:
                self._print(log)
        elif log.doing is not None and late:
            self._print_last()
            print(log.doing.text(), flush=True)
            self.last_line = time.monotonic()

    def _print_last(self) -> None:
        if self.last_log is not None:
            self._print(self.last_log)

    def _print(self, log: Log) -> None:
        of = f"/{log.num_steps}" if log.num_steps else ""
        left = f"  {duration(log.remaining)} left" if math.isfinite(log.remaining) else ""
        print(f"step {log.step}{of}  {describe(log)}  {duration(log.seconds)}{left}", flush=True)
        self.last_line, self.last_log = time.monotonic(), None


class Bar:
    """A bar that shows how much is done; events stand above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self.bar = Progress(
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.description}", markup=False),
            expand=True,
            console=Console(file=bare(sys.stdout)),  # a bar is drawn with escape codes
        )
        self.task: Any = self.bar.add_task("starting", total=1.0)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def show(self, done: float, text: str) -> None:
        """A share of the bar, and what stands beside it."""
        self.bar.update(self.task, completed=done, description=text)

    def say(self, event: str | None) -> None:
        """A line above the bar."""
        if event:
            from rich.text import Text

            line = Text(visible(event))
            line.highlight_regex("\u27e6[^\u27e7]*\u27e7", "green")  # what is learned of an example
            self.bar.console.print(line, highlight=False)


class BarProgress(Bar):
    """How much of a training's budget is spent."""

    def __call__(self, log: Log) -> None:
        """Show one log."""
        self.say(log.event)
        if log.doing is not None:
            share = log.doing.done / log.doing.total if log.doing.total else 0.0
            self.show(share, log.doing.text())
        if not log.values:
            return
        whole = log.seconds + log.remaining
        done = log.seconds / whole if math.isfinite(whole) and whole > 0 else 0.0
        left = duration(log.remaining) if math.isfinite(log.remaining) else "?"
        of = f"/{log.num_steps}" if log.num_steps else ""
        text = f"step {log.step}{of}  {describe(log)}  {duration(log.seconds)} < {left}"
        self.show(done, text)


def training_progress() -> PlainProgress | BarProgress:
    """A bar on a terminal, lines elsewhere."""
    return BarProgress() if sys.stdout.isatty() else PlainProgress()


class ComparisonLines:
    """A line when a run starts, and one when it ends."""

    def __init__(self) -> None:
        self.told: set[str] = set()

    def __enter__(self) -> ComparisonLines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, standing: Standing) -> None:
        """Show where the comparison stands."""
        place = f"[{standing.num_done}/{standing.num_runs}]"
        if standing.event:
            print(f"{place} {standing.event}", flush=True)
        for name in standing.running:
            if name not in self.told:
                print(f"{place} {name}: started, {time_left(standing)}", flush=True)
        self.told = set(standing.running)


class ComparisonBar(Bar):
    """How many runs are done, which are going on, and how long the rest takes."""

    def __call__(self, standing: Standing) -> None:
        """Show where the comparison stands."""
        self.say(standing.event)
        runs = f"{standing.num_done}/{standing.num_runs} runs"
        text = "  ".join([runs, "; ".join(standing.running), time_left(standing)])
        self.show(standing.num_done / standing.num_runs, text)


def comparison_progress() -> ComparisonLines | ComparisonBar:
    """A bar on a terminal, lines elsewhere."""
    return ComparisonBar() if sys.stdout.isatty() else ComparisonLines()


def draw_with_progress(drawing: Drawing, parts: Iterator[Drawing]) -> None:
    """Draw all of `parts`; where there are several, say what they need and how far they are."""
    begun, last, told = time.monotonic(), -math.inf, False
    with Bar() if sys.stdout.isatty() and drawing.num > SAMPLE_BATCH else nullcontext() as bar:
        for _ in parts:
            if drawing.needs is not None and not told:
                told = True
                bar.say(drawing.needs.text()) if bar else print(drawing.needs.text(), flush=True)
            now = time.monotonic()
            left = duration(drawing.remaining(now - begun))
            text = f"{drawing.drawn:,} of {drawing.num:,} items, {left} left"
            if bar:
                bar.show(drawing.drawn / drawing.num, text)
            elif told and now - last >= PLAIN_EVERY:
                print(text, flush=True)
                last = now


def time_left(standing: Standing) -> str:
    """ "about 1h30m left", or that nobody knows yet."""
    if math.isfinite(standing.remaining):
        return f"about {duration(standing.remaining)} left"
    return "time left: known when the first is done"


def describe(log: Log) -> str:
    """The losses of all phases, and the pace."""
    shown = ("/loss", "held_out_loss")  # and not the probes' other losses
    losses = {k: v for k, v in log.values.items() if k == "loss" or k.endswith(shown)}
    parts = [f"{name} {number(value)}" for name, value in losses.items()]
    if log.seconds > 0 and log.step:
        parts.append(f"{number(log.step / log.seconds)} steps/s")
    return "  ".join(parts)
