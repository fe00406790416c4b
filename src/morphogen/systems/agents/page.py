"""A trace as a page: what was asked, its verdict, the run as a picture, and each step of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from morphogen.core.storage import write_text
from morphogen.evaluation.page import document, escaped, table
from morphogen.systems.agents.drawing import svg
from morphogen.systems.agents.trace import Began, Decided, Judged, Returned, Step, Trace
from morphogen.systems.agents.verdict import Verdict, verdict

MOST_SHOWN = 2_000  # characters of what a call gave
STYLE = (
    "<style>ol.steps{list-style:none;padding:0}ol.steps>li{border-inline-start:3px solid #9aa5b1;"
    "padding:.3rem 0 .3rem .8rem;margin:.4rem 0}li.refused,li.failed{border-color:#c53030}"
    "li.allowed,li.done{border-color:#2f855a}li.others{border-color:#b7791f}"
    "ol.steps pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.3rem 0}</style>"
)


def write_page(trace: Trace, path: Path | str, told: Verdict | None = None) -> Path:
    """Write it; `told` is its verdict, where it was judged by what was wanted."""
    return write_text(Path(path), page_of(trace, told or verdict(trace)))


def page_of(trace: Trace, told: Verdict) -> str:
    """The page of a run with its verdict."""
    title = " ".join(trace.began.task.split())[:80]
    parts = [
        STYLE, f"<h1>{escaped(title)}</h1>",
        f'<p class="lead">{escaped(_lead(told))}</p>',
        *(f'<p class="warning">{escaped(each)}</p>' for each in told.missed),
        f"<pre>{escaped(trace.answer)}</pre>" if trace.answer else "", svg(trace),
        f"<h2>Steps</h2><ol class='steps'>{''.join(map(_step, trace.steps))}</ol>",
    ]  # fmt: skip
    if told.effects:
        by = {True: "a person", False: "what was granted"}
        effects = [
            (each.name, ", ".join(each.places), _shown(each.arguments), by[each.confirmed])
            for each in told.effects
        ]
        head = ("tool", "where", "what", "allowed by")
        parts.append(f"<h2>What it wrote</h2>{_table(head, effects)}")
    if told.sentences:
        said = [
            (each.sentence, "supported" if each.supported else "; ".join(each.why_not))
            for each in told.sentences
        ]
        heads = ("sentence", "in what was read")
        parts.append(f"<h2>Sentences of the answer</h2>{_table(heads, said)}")
    parts.append(f"<h2>Tools and grants</h2>{_tools(trace.began)}")
    return document(title, parts)


def _lead(told: Verdict) -> str:
    return "; ".join(told.text().splitlines())


def _step(step: Step) -> str:
    kind, head, body = _parts(step)
    shown = f"<pre>{escaped(body)}</pre>" if body else ""
    return f'<li class="{kind}"><b>{escaped(head)}</b>{shown}</li>'


def _parts(step: Step) -> tuple[str, str, str]:
    """Class, headline and text of a step."""
    if isinstance(step, Began):
        return "", f"asked of {step.model}", step.task
    if isinstance(step, Decided):
        if step.call is None:
            return "done", "answers", step.text
        return "", f"calls {step.call['name']}", _shown(step.call["arguments"])
    if isinstance(step, Judged):
        how = "a person was asked: " if step.asked else ""
        word = "allowed" if step.allowed else "refused"
        return word, f"{how}{word}", step.reason
    if isinstance(step, Returned):
        kind = "failed" if not step.ok else "done" if step.trusted else "others"
        whose = "" if step.trusted else ", words of others"
        head = f"{step.name}{': ' + step.why if step.why else ' gave'}{whose}"
        return kind, f"{head} ({step.seconds:g} s)", step.text[:MOST_SHOWN]
    return "done" if step.why == "answered" else "failed", f"over: {step.why}", step.reason


def _tools(began: Began) -> str:
    rows = [
        (each["name"], each["summary"].partition("\n")[0], ", ".join(each["reads"]),
         ", ".join(each["writes"]))
        for each in began.tools
    ]  # fmt: skip
    granted = "; ".join(
        f"{name}: {', '.join(each) or 'none'}" for name, each in began.grants.items()
    )
    return _table(("tool", "what it does", "reads", "writes"), rows) + f"<p>{escaped(granted)}</p>"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    cells = "".join(f'<th scope="col">{escaped(each)}</th>' for each in head)
    lines = ["".join(f"<td>{escaped(cell)}</td>" for cell in row) for row in rows]
    return table("".join(f"<tr>{line}</tr>" for line in (cells, *lines)))


def _shown(arguments: Any) -> str:
    if isinstance(arguments, str):
        return arguments[:MOST_SHOWN]
    return json.dumps(arguments, indent=1, ensure_ascii=False)[:MOST_SHOWN]
