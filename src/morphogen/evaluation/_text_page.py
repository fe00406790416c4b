"""The parts of an evaluation's page that only texts have: where in them the likelihood lies, and
which spans of samples are training text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from morphogen.core.visible import in_html
from morphogen.evaluation.spans import END, Symbols
from morphogen.evaluation.text_copies import Span, TextCopies
from morphogen.modalities.text import page

WIDTH, HEIGHT, LEFT, BOTTOM = 720, 150, 44, 22  # of the plot, in pixels
HARDER, EASIER = "#c9704f", "#5b8db8"
CARD = (
    "display:grid;grid-template-columns:repeat(auto-fit,minmax(18rem,1fr));gap:.6rem;"
    "margin:0 0 1rem"
)


def regions(told: Mapping[str, Any]) -> str:
    """Bits of a held-out text by region, as bars about their mean; an SVG that needs no script."""
    values = np.array(told["values"])
    low, high = float(values.min()), float(values.max())
    margin = max(0.15 * (high - low), 1e-3)
    low, high = max(low - margin, 0.0), high + margin
    mean = float(values.mean())

    def y(value: float) -> float:
        return (HEIGHT - BOTTOM) * (1 - (value - low) / (high - low)) + 4

    step = (WIDTH - LEFT) / len(values)
    bars = "".join(
        f'<rect x="{LEFT + i * step + 0.5:.1f}" y="{y(max(value, mean)):.1f}" '
        f'width="{max(step - 1, 0.5):.1f}" height="{abs(y(value) - y(mean)):.1f}" '
        f'fill="{HARDER if value > mean else EASIER}"><title>{value:.3f}</title></rect>'
        for i, value in enumerate(values.tolist())
    )
    ticks = "".join(
        f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>'
        for value in (low + margin, mean, high - margin)
    )
    line = (
        f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y(mean):.1f}" y2="{y(mean):.1f}" '
        'stroke="currentColor" stroke-opacity="0.5"/>'
    )
    ends = "".join(
        f'<text x="{x}" y="{HEIGHT + 2}" text-anchor="{anchor}">{words}</text>'
        for x, anchor, words in (
            (LEFT, "start", "beginning of the held-out text"), (WIDTH, "end", "its end"),
        )
    )  # fmt: skip
    name = in_html(told["score"].replace("_", " "))
    return (
        f"<p>{name[:1].upper()}{name[1:]} in {len(values)} regions of the held-out text, from "
        f"{values.min():.2f} to {values.max():.2f}; the line is their mean.</p>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 6}" role="img" style="width:100%;max-width:44rem" '
        f'font-size="11" fill="currentColor">{bars}{line}{ticks}{ends}</svg>'
    )


def spans(told: Mapping[str, Any], copies: TextCopies | None) -> str:
    """What samples share with the training text, in numbers, and the longest side by side."""
    said = [f"<p>{in_html(_in_words(told))}</p>", _shares(told["shares"])]
    if personal := _personal(told["personal"]):
        said.append(f"<p>{in_html(personal)}</p>")
    if copies is not None and copies.found:
        said.append("<p>The longest, each left in its sample and right in the training text:</p>")
        said += [_beside(copies.samples[span.sample], span) for span in copies.found]
    return "".join(said)


def marks_of(copies: TextCopies, number: int) -> list[tuple[int, int]]:
    """What is marked of a sample: the characters of spans longer than is usual."""
    covered = copies.covered[number]
    edges = np.flatnonzero(np.diff(np.concatenate([[0], covered.astype(np.int8), [0]])))
    places = [len(text_of(copies.samples[number][:edge], "ignore")) for edge in edges.tolist()]
    return list(zip(places[::2], places[1::2], strict=True))


def text_of(symbols: Symbols, errors: str = "surrogateescape") -> str:
    """Symbols as a text, with the mark of an end between documents."""
    pieces = np.split(symbols, np.flatnonzero(symbols == END))
    return page.END.join(
        piece[piece < END].astype(np.uint8).tobytes().decode("utf-8", errors) for piece in pieces
    )


def _in_words(told: Mapping[str, Any]) -> str:
    low, high = told["longer_interval"]
    return (
        f"{told['longer']:,} of {told['samples']:,} samples hold a span of the training text "
        f"longer than {told['usual']} bytes ({low:.1%} to {high:.1%}); of held-out texts 1 in 100 "
        f"does, at most. The longest has {told['longest']:,} bytes; that of held-out texts "
        f"{told['longest_held_out']:,} or a little more."
    )


def _shares(shares: Mapping[str, Sequence[Sequence[float]]]) -> str:
    rows = "".join(
        f'<tr><td>{least} bytes and more</td><td class="number">{own[0]:.2%}</td>'
        f'<td class="number">{own[1]:.2%} to {own[2]:.2%}</td>'
        f'<td class="number">{real[0]:.2%}</td></tr>'
        for least, (own, real) in shares.items()
    )
    head = "<tr><th>share of text in shared spans of</th><th>samples</th><th>95 % interval</th>"
    return f"<table>{head}<th>held-out texts</th></tr>{rows}</table>"


def _personal(told: Mapping[str, Any]) -> str:
    if "not_looked_for" in told:
        return f"Personal data was not looked for in samples: {told['not_looked_for']}."
    if not told["found"]:
        return "No personal data was found in the samples."
    listed = ", ".join(
        f"{kind} {count:,} ({told['copied'].get(kind, 0):,} of them copied from the training text)"
        for kind, count in told["found"].items()
    )
    return f"Personal data in the samples: {listed}."


def _beside(sample: Symbols, span: Span) -> str:
    """A sample and the place in the training text, what they share marked in both."""
    edges = (span.start, span.start + span.length)
    first, last = (len(text_of(sample[:edge], "ignore")) for edge in edges)
    before, text, after = (
        part.decode("utf-8", "ignore") for part in (span.before, span.text, span.after)
    )
    there = (len(before), len(before) + len(text))
    shown = (
        (f"sample {span.sample + 1:,}: {span.length:,} bytes", text_of(sample), (first, last)),
        (span.source, before + text + after, there),
    )
    figures = (
        f"<figure><figcaption>{in_html(caption)}</figcaption>"
        f'<pre style="{page.STYLE}">{page.marked(body, [mark])}</pre></figure>'
        for caption, body, mark in shown
    )
    return f'<div style="{CARD}">{"".join(figures)}</div>'
