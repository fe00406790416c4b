"""The curves of a run as a picture, drawn from its log."""

from __future__ import annotations

from pathlib import Path

from morphogen.core.config import read_log
from morphogen.core.storage import write_atomic

MOST_PANELS = 12


def numbers(path: Path) -> list[dict[str, float]]:
    """The lines of a log that hold numbers, and of these the numbers."""
    lines = [line for line in read_log(path) if "event" not in line and len(line) > 2]
    return [{k: v for k, v in line.items() if isinstance(v, (int, float))} for line in lines]


def read_alarms(path: Path) -> list[int]:
    """The steps at which the watch raised an alarm."""
    return [line["step"] for line in read_log(path) if "alarm" in line]


def draw_curves(log: Path, picture: Path) -> Path | None:
    """One panel per logged value over the steps, alarms as dotted lines.

    None when the log holds fewer than two lines.
    """
    lines = numbers(log)
    if len(lines) < 2:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Some values stand in some lines only; what the last line has comes first.
    logged = dict.fromkeys(name for line in reversed(lines) for name in line)
    names = [name for name in logged if name not in ("step", "seconds")][:MOST_PANELS]
    alarms = read_alarms(log)
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    width, height = 4.0 * columns, 2.6 * rows  # inches
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    # Room for labels by hand: to measure them would be to draw it all twice.
    figure.subplots_adjust(
        0.6 / width, 0.3 / height, 1 - 0.15 / width, 1 - 0.3 / height, wspace=0.18, hspace=0.3
    )
    for index, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, index + 1)
        points = [(line["step"], line[name]) for line in lines if name in line]
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, linewidth=0.6, alpha=0.35, color="#1f5fa8")
        axes.plot(steps, _smoothed(list(values)), linewidth=1.4, color="#1f5fa8")
        if min(values) > 0 and max(values) > 20 * min(values):
            axes.set_yscale("log")
        else:
            axes.locator_params(axis="y", nbins=4)
        axes.locator_params(axis="x", nbins=5)
        axes.minorticks_off()  # ticks and their labels are what takes the time
        for step in alarms:
            axes.axvline(step, color="#b03020", linewidth=0.8, linestyle=":")
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
    return write_atomic(picture, lambda path: figure.savefig(path, dpi=110, format="png"))


def _smoothed(values: list[float]) -> list[float]:
    """An exponential average over a twentieth of the points."""
    keep = 1 - 1 / max(1.0, len(values) / 20)
    smooth, average = [], values[0]
    for value in values:
        average = keep * average + (1 - keep) * value
        smooth.append(average)
    return smooth
