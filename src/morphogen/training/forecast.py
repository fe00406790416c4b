"""What a run will need, measured before it starts: memory, time, disk.

A few real steps are taken and undone, no more than the run has. Their median time, times the number
of steps, is the time; the largest memory seen while they ran is the memory; the size of a
checkpoint is the disk.
"""

from __future__ import annotations

import resource
import statistics
import sys
import threading
import time
from dataclasses import dataclass

import psutil
import torch

from morphogen.core.amounts import duration, size
from morphogen.training.loop import Run
from morphogen.training.optimizer import NonFinite

TRIAL_STEPS, FEWEST_STEPS = 8, 2
TRIAL_SECONDS = 5.0


@dataclass(frozen=True)
class Forecast:
    """Measured needs of a run."""

    num_steps: int
    seconds: float
    seconds_per_step: float
    memory_bytes: int
    disk_bytes: int
    num_parameters: int

    def text(self) -> str:
        """One line for a person."""
        return (
            f"forecast: {duration(self.seconds)} for about {self.num_steps:,} steps "
            f"({self.seconds_per_step * 1000:.0f} ms each), {size(self.memory_bytes)} of memory, "
            f"{size(self.disk_bytes)} of disk, {self.num_parameters:,} parameters"
        )


def forecast(run: Run) -> Forecast:
    """Prepare `run`, take up to `TRIAL_STEPS` steps of it, measure, and put the steps back."""
    if run.state.step == 0:
        run.prepare()
    before = run.snapshot()
    budget = run.schedule.budget.seconds
    limit = TRIAL_SECONDS if budget is None else min(TRIAL_SECONDS, 0.03 * budget)
    most = min(TRIAL_STEPS, max(run.schedule.num_steps or TRIAL_STEPS, FEWEST_STEPS))
    times: list[float] = []
    with MemoryPeak(run.device) as peak:
        global_state = torch.get_rng_state()
        begun = time.perf_counter()
        for _ in range(most):
            (enough,) = run.processes.agree(bool(times) and time.perf_counter() - begun >= limit)
            if enough:
                break
            started = time.perf_counter()
            try:
                run.step()
            except NonFinite:
                break
            if run.device.type == "cuda":
                torch.cuda.synchronize(run.device)
            times.append(time.perf_counter() - started)
            run.state.step += 1
        checkpoint = run.snapshot().tensors
        torch.set_rng_state(global_state)
    run.restore(before)
    disk = sum(t.numel() * t.element_size() for t in checkpoint.values())
    # The first step pays for warming caches up; later ones tell the pace.
    pace = statistics.median(times[1:] or times or [0.0])
    num_steps, seconds = run.schedule.num_steps, run.schedule.budget.seconds
    if num_steps is None:
        num_steps = int((seconds or 0.0) / pace) if pace else 0
    return Forecast(
        num_steps=num_steps,
        seconds=pace * num_steps if seconds is None else seconds,
        seconds_per_step=pace,
        # A checkpoint is gathered in memory while the last snapshot is still held. Loading the data
        # and preparing the family may have taken more already.
        memory_bytes=max(peak.bytes + disk, process_peak_bytes())
        if run.device.type == "cpu"
        else peak.bytes,
        disk_bytes=2 * disk + disk // 3,  # two checkpoints for a moment, and the bundle
        num_parameters=sum(p.numel() for p in run.family.parameters()),
    )


class MemoryPeak:
    """The largest memory in use while a block runs: resident set on a CPU, allocations on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.bytes = device, 0

    def __enter__(self) -> MemoryPeak:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return self
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device)
            return
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        process = psutil.Process()
        while True:
            self.bytes = max(self.bytes, process.memory_info().rss)
            if self._done.wait(0.002):
                return


def process_peak_bytes() -> int:
    """The largest resident set this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
