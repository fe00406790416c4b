"""The stream of a training run on a screen: a bar with events above it, or plain lines."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any

from morphogen.cli._parts import number
from morphogen.training.forecast import duration

if TYPE_CHECKING:
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
        if log.event:
            self._print_last()  # an event is read with the numbers that it happened at
            print(log.event, flush=True)
        elif log.values:
            self.last_log = log
            if time.monotonic() - self.last_line >= PLAIN_EVERY:
                self._print(log)

    def _print_last(self) -> None:
        if self.last_log is not None:
            self._print(self.last_log)

    def _print(self, log: Log) -> None:
        of = f"/{log.num_steps}" if log.num_steps else ""
        left = f"  {duration(log.remaining)} left" if math.isfinite(log.remaining) else ""
        print(f"step {log.step}{of}  {describe(log)}  {duration(log.seconds)}{left}", flush=True)
        self.last_line, self.last_log = time.monotonic(), None


class BarProgress:
    """A bar that shows how much of the budget is spent; events stand above it."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self.bar = Progress(
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.description}"),
            expand=True,
        )
        self.task: Any = self.bar.add_task("starting", total=1.0)

    def __enter__(self) -> BarProgress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, log: Log) -> None:
        """Show one log."""
        if log.event:
            self.bar.console.print(log.event, markup=False, highlight=False)
        if not log.values:
            return
        whole = log.seconds + log.remaining
        done = log.seconds / whole if math.isfinite(whole) and whole > 0 else 0.0
        left = duration(log.remaining) if math.isfinite(log.remaining) else "?"
        of = f"/{log.num_steps}" if log.num_steps else ""
        text = f"step {log.step}{of}  {describe(log)}  {duration(log.seconds)} < {left}"
        self.bar.update(self.task, completed=done, description=text)


def training_progress() -> PlainProgress | BarProgress:
    """A bar on a terminal, lines elsewhere."""
    return BarProgress() if sys.stdout.isatty() else PlainProgress()


def describe(log: Log) -> str:
    """The losses of all phases, and the pace."""
    shown = ("/loss", "held_out_loss")  # and not the probes' other losses
    losses = {k: v for k, v in log.values.items() if k == "loss" or k.endswith(shown)}
    parts = [f"{name} {number(value)}" for name, value in losses.items()]
    if log.seconds > 0 and log.step:
        parts.append(f"{number(log.step / log.seconds)} steps/s")
    return "  ".join(parts)
