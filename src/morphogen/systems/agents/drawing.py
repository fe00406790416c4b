"""A run as a picture: who told whom what, from above to below. SVG, which holds its own words and
runs nothing.

    you ---- asks ----> model ---- calls ----> rule ---- allowed ----> tool
                        model <--------------- what it gave ---------- tool

What comes after somebody else's words were read stands on another ground.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from morphogen.core.visible import in_html
from morphogen.systems.agents.trace import Began, Decided, Ended, Judged, Returned, Step, Trace

Lane = Literal["you", "model", "rule", "tools"]
LANES: dict[Lane, tuple[int, str]] = {
    "you": (80, "you"), "model": (340, "who decides"), "rule": (600, "what was granted"),
    "tools": (860, "tools"),
}  # fmt: skip
WIDTH, TOP, ROW = 940, 60, 44
LETTERS = 34  # of what is said on an arrow between two neighbours
MOST_STEPS = 200
LOOK = (
    "svg.run text{font:12px system-ui,sans-serif;fill:#1c2733}"
    "svg.run .lane{stroke:#9aa5b1;stroke-dasharray:3 5}svg.run .head{font-weight:600}"
    "svg.run .said{stroke:#52606d;stroke-width:1.5}svg.run path{fill:#52606d}"
    "svg.run .ok{stroke:#2f855a}svg.run .no{stroke:#c53030}svg.run .others{stroke:#b7791f}"
    "svg.run .ground{fill:#b7791f;opacity:.12}"
    "@media(prefers-color-scheme:dark){svg.run text{fill:#e4e7eb}svg.run .said{stroke:#9aa5b1}"
    "svg.run .ok{stroke:#68d391}svg.run .no{stroke:#fc8181}svg.run .others{stroke:#f6ad55}}"
)


@dataclass(frozen=True)
class Arrow:
    """What goes from one lane to another."""

    start: Lane
    end: Lane
    text: str
    kind: Literal["said", "ok", "no", "others"] = "said"


def svg(trace: Trace) -> str:
    """The steps of a run, as a drawing; the same run, the same picture."""
    arrows = [arrow for step in trace.steps for arrow in _arrows(step)]
    shown, height = arrows[:MOST_STEPS], TOP + ROW * (min(len(arrows), MOST_STEPS) + 1)
    tainted = next((i for i, each in enumerate(shown) if each.kind == "others"), None)
    if trace.began.tainted is not None:
        tainted = 0
    label = f"{len(trace.steps)} steps" + ("" if tainted is None else ", words of others read")
    return "\n".join([
        f'<svg class="run" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="{in_html(label)}">', f"<style>{LOOK}</style>",
        '<defs><marker id="tip" markerWidth="9" markerHeight="9" refX="8" refY="4" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z"/></marker></defs>',
        *_ground(tainted, height),
        *(_lane(x, name, height) for x, name in LANES.values()),
        *(_drawn(arrow, TOP + ROW * (i + 1)) for i, arrow in enumerate(shown)),
        "</svg>",
    ]) + "\n"  # fmt: skip


def _arrows(step: Step) -> Iterator[Arrow]:
    if isinstance(step, Began):
        yield Arrow("you", "model", step.task)
    elif isinstance(step, Decided) and step.call is not None:
        given = step.call["arguments"]
        told = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        yield Arrow("model", "rule", f"{step.call['name']} {told}")
    elif isinstance(step, Decided):
        yield Arrow("model", "you", step.text)
    elif isinstance(step, Judged) and step.allowed:
        yield Arrow("rule", "tools", "a person let it" if step.asked else step.reason, "ok")
    elif isinstance(step, Returned) and step.ok:
        kind: Literal["ok", "others"] = "ok" if step.trusted else "others"
        yield Arrow("tools", "model", f"{step.text} ({step.seconds:g} s)", kind)
    elif isinstance(step, Returned):
        ran = step.why in ("raised", "time")
        yield Arrow("tools" if ran else "rule", "model", f"{step.why}: {step.text}", "no")
    elif isinstance(step, Ended) and step.why != "answered":
        yield Arrow("model", "you", f"over: {step.why} {step.reason}", "no")


def _ground(tainted: int | None, height: int) -> Iterator[str]:
    if tainted is not None:
        y = TOP + ROW * tainted + ROW / 2
        yield f'<rect class="ground" y="{y:g}" width="{WIDTH}" height="{height - y:g}"/>'
        yield f'<text x="8" y="{y + 14:g}">words of others</text>'


def _lane(x: int, name: str, height: int) -> str:
    return (
        f'<text class="head" x="{x}" y="24" text-anchor="middle">{name}</text>'
        f'<line class="lane" x1="{x}" y1="34" x2="{x}" y2="{height}"/>'
    )


def _drawn(arrow: Arrow, y: int) -> str:
    start, end = LANES[arrow.start][0], LANES[arrow.end][0]
    room = LETTERS * max(1, round(abs(end - start) / 260))
    words = " ".join(arrow.text.split())
    short = words if len(words) <= room else f"{words[: room - 1]}…"
    return (
        f'<line class="said {arrow.kind}" x1="{start}" y1="{y}" x2="{end}" y2="{y}" '
        f'marker-end="url(#tip)"/><text x="{(start + end) / 2:g}" y="{y - 7}" '
        f'text-anchor="middle">{in_html(short)}<title>{in_html(words[:400])}</title></text>'
    )
