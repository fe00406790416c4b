"""An evaluation as one self-contained page: items, numbers with their floor, protocol."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from morphogen.core.bundle import Bundle
from morphogen.core.codec import Codec
from morphogen.core.encoded import Encoded
from morphogen.core.storage import write_text
from morphogen.core.visible import in_html
from morphogen.evaluation import _group_report, _text_page
from morphogen.evaluation.text_copies import TextCopies
from morphogen.modalities.text.page import laid_out, marked

LOOK = Path(__file__).parent / "page.css"


def write_page(
    bundle: Bundle,
    record: Mapping[str, Any],
    codec: Codec,
    real: Encoded,
    *,
    generated: Encoded | None = None,
    together: str = "",
    pairs: Encoded | None = None,
    copies: TextCopies | None = None,
) -> Path:
    """Write evaluation.html into the bundle's folder.

    `together` shows many generated and held-out items at once, as HTML;
    `pairs` are generated items, each followed by the training item that it may be a copy of;
    `copies` says which spans of generated texts stand in the training text.
    """
    if bundle.path is None:
        raise ValueError("the bundle has no folder to write to")
    name = record["protocol"]["model"]
    parts = [
        f"<h1>{escaped(name)}: evaluation</h1>",
        f'<p class="lead">{escaped(_lead(record))}</p>',
    ]
    parts += [f'<p class="warning">{escaped(w)}</p>' for w in record.get("warnings", [])]
    if together:
        parts.append(f"<h2>All together</h2>{together}<h2>One by one</h2>")
    columns = None if copies is None else 2  # texts are read, and want a line's length
    figures = [_figure("Held-out data", codec, real, columns)]
    if generated is not None:
        figures.insert(0, _generated(codec, generated, copies))
    parts.append(f'<div class="pair">{"".join(figures)}</div>')
    parts.append(f"<h2>Numbers</h2>{_numbers(record)}")
    if said := record.get("worst_statistic"):
        parts.append(f"<p>{escaped(said[:1].upper() + said[1:])}.</p>")
    if record.get("judges"):
        parts.append(f"<h2>How far is that?</h2>{_yardsticks(record)}")
    if copying := record.get("copying"):
        parts += _copying(copying, codec, pairs)
    if told := record.get("spans"):
        parts.append(f"<h2>Spans of the training text</h2>{_text_page.spans(told, copies)}")
    if told := record.get("regions"):
        parts.append(f"<h2>Likelihood by region</h2>{_text_page.regions(told)}")
    for label, told in record.get("groups", {}).items():
        parts.append(f"<h2>Groups: {escaped(label)}</h2>{_groups(told)}")
    curves = bundle.path / "curves.png"
    if curves.is_file():
        picture = embedded(curves, "Curves of the training", "curves")
        parts.append(f"<h2>Training</h2>{picture}")
    parts.append(f"<h2>Protocol</h2>{_facts(record['protocol'])}")
    if "features" in record:
        parts.append(f"<h2>Features</h2>{_facts(record['features'])}")
    if "not_measured" in record:
        parts.append(f"<h2>Not measured</h2>{_facts(record['not_measured'])}")
    return write_text(bundle.path / "evaluation.html", document(f"{name}: evaluation", parts))


def _copying(told: Mapping[str, Any], codec: Codec, pairs: Encoded | None) -> list[str]:
    """The verdict, and the pairs that it is about."""
    parts = [f"<h2>Copying: {escaped(told['verdict'])}</h2>", f"<p>{escaped(told['reason'])}.</p>"]
    if pairs is not None:
        caption = "The most suspicious samples, each left of its nearest training item"
        parts.append(_figure(caption, codec, pairs, columns=8))
    return parts


def document(title: str, parts: Iterable[str]) -> str:
    """A page that needs nothing but itself."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escaped(title)}</title><style>{LOOK.read_text()}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def table(rows: str) -> str:
    """Rows of a table, in a frame that is moved where the page is narrower."""
    return f'<div class="scroll" tabindex="0"><table>{rows}</table></div>'


def _lead(record: Mapping[str, Any]) -> str:
    """One sentence that says how good it is."""
    ratio = record["scores"].get("frechet_ratio")
    if ratio is None:
        return "Scored by what it predicts, rebuilds or finds likely."
    judges, leading = record.get("judges", {}), record.get("leading_judge", "")
    said = (
        f"Generated items are {_told(ratio['value'])} times as far from held-out data as "
        "training items are"
    )
    if as_far := judges.get(leading, {}).get("as_far_as"):
        said += f": {as_far}"
    others = [
        f"{judge['name']} {_told(judge['ratio'])} times"
        for key, judge in judges.items()
        if key != leading and "ratio" in judge
    ]
    named = f", by the stricter judge ({judges[leading]['name']})" if leading in judges else ""
    beside = f"; the other says {', '.join(others)}" if others else ""
    return f"{said} (Frechet distance{named}; 1 is the floor{beside})."


def _told(ratio: float) -> str:
    """As a sentence tells it: two digits are as many as a distance of samples has."""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"


def _yardsticks(record: Mapping[str, Any]) -> str:
    """Real items after known damage: how far each judge puts them, and what matches the model."""
    judges = {key: judge for key, judge in record["judges"].items() if "yardsticks" in judge}
    said = []
    if unseen := record.get("unseen"):
        listed = "; ".join(f"real items {words}" for words in unseen)
        said.append(f'<p class="warning">No judge sees a difference in: {escaped(listed)}.</p>')
    head = "<th>real items</th>" + "".join(
        f"<th>{escaped(judge['name'])}</th><th>the model is as far as</th>"
        for judge in judges.values()
    )
    if not judges:
        return "".join(said)
    rows = []
    for place, row in enumerate(next(iter(judges.values()))["yardsticks"]):
        template = row["damage"]
        cells = [f"<td>{escaped(_ranged(template, row['strengths']))}</td>"]
        for judge in judges.values():
            own = judge["yardsticks"][place]
            ratios = " \u00b7 ".join(number(ratio) for ratio in own["ratios"])
            cells.append(f'<td class="number">{escaped(ratios)}</td>')
            if "seen_from" not in own:
                match = "it does not see this"
            elif "equal_to" in own:
                match = template.format(own["equal_to"])
            else:
                match = "more than any of these"
            cells.append(f'<td class="note">{escaped(match)}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    said.append(
        "<p>Each judge was tested before it judged: real items were damaged, and these are their "
        "distances, in times the floor.</p>"
    )
    return f"{''.join(said)}{table(f'<tr>{head}</tr>' + ''.join(rows))}"


def _ranged(words: str, strengths: Sequence[float]) -> str:
    """ "blurred by 0.3 / 0.5 / 1 pixels"."""
    before, _, rest = words.partition("{")
    form, _, after = rest.partition("}")
    shown = " / ".join(("{" + form + "}").format(strength) for strength in strengths)
    return f"{before}{shown}{after}"


def _numbers(record: Mapping[str, Any]) -> str:
    rows = []
    for name, score in record["scores"].items():
        interval = f"{number(score['low'])} to {number(score['high'])}" if "low" in score else ""
        floor = number(score["floor"]) if "floor" in score else ""
        better = {True: "high", False: "low"}.get(score.get("higher_is_better"), "")
        note = "; ".join(filter(None, [f"n = {score['n']:,}", score.get("note", "")]))
        rows.append((name.replace("_", " "), number(score["value"]), interval, floor, better, note))
    if "sampling_seconds_per_1000" in record:
        seconds = f"{number(record['sampling_seconds_per_1000'])} s"
        rows.append(("sampling", seconds, "", "", "", "per 1,000 items, on the machine used"))
    head = "".join(
        f"<th>{each}</th>"
        for each in ("score", "value", "95 % interval", "of real data", "better", "")
    )
    cells = [
        f"<tr><td>{escaped(row[0])}</td>"
        + "".join(f'<td class="number">{escaped(cell)}</td>' for cell in row[1:4])
        + "".join(f'<td class="note">{escaped(cell)}</td>' for cell in row[4:])
        + "</tr>"
        for row in rows
    ]
    return table(f"<tr>{head}</tr>{''.join(cells)}")


def _groups(told: Mapping[str, Any]) -> str:
    """What differs between the groups of a label; every number; a picture of them."""
    said = [f'<p class="warning">{escaped(finding)}</p>' for finding in told["findings"]]
    said += [f"<p>{escaped(line)}</p>" for line in _group_report.summary(told)]
    with tempfile.TemporaryDirectory() as folder:
        if drawn := _group_report.draw(told, Path(folder) / "groups.png"):
            said.append(
                embedded(drawn, "Bars with intervals, a red line where real data is", "curves")
            )
    head, rows = _group_report.table(told)
    lines = ["".join(f"<th>{escaped(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escaped(cell)}</td>" for cell in row) for row in rows]
    return "".join(said) + table("".join(f"<tr>{line}</tr>" for line in lines))


def _facts(facts: Mapping[str, Any]) -> str:
    def shown(value: Any) -> object:
        if isinstance(value, Mapping):
            return ", ".join(f"{name} {each}" for name, each in value.items())
        return value

    rows = [
        f"<tr><td>{escaped(key.replace('_', ' '))}</td>"
        f"<td><code>{escaped(shown(value))}</code></td></tr>"
        for key, value in facts.items()
    ]
    return table("".join(rows))


def _generated(codec: Codec, x: Encoded, copies: TextCopies | None) -> str:
    """Generated items; of texts, with what they have from the training text marked."""
    if copies is None:
        return _figure("Generated", codec, x)
    values = codec.decode_many(x)
    marks = [_text_page.marks_of(copies, number) for number in range(len(values))]
    caption = "Generated" + "; marked: spans of the training text, longer than usual" * any(marks)
    body = laid_out([marked(*each) for each in zip(values, marks, strict=True)], 2)
    return f"<figure><figcaption>{escaped(caption)}</figcaption>{body}</figure>"


def _figure(caption: str, codec: Codec, x: Encoded, columns: int | None = None) -> str:
    """Items as their codec shows them."""
    body = codec.html(codec.decode_many(x), columns)
    return f"<figure><figcaption>{escaped(caption)}</figcaption>{body}</figure>"


def embedded(path: Path, caption: str, kind: str = "items") -> str:
    """A file as a part of a page: a picture, a page within the page that can run nothing, or else
    its text."""
    media = path.suffix.lower().lstrip(".").replace("jpg", "jpeg")
    if media == "html":
        return f'<iframe sandbox srcdoc="{escaped(path.read_text(errors="replace"))}"></iframe>'
    if media not in ("png", "jpeg", "webp", "gif"):
        return f"<pre>{escaped(path.read_text(errors='replace')[:4000])}</pre>"
    encoded = base64.b64encode(path.read_bytes()).decode()
    source = f"data:image/{media};base64,{encoded}"
    return f'<img class="{kind}" alt="{escaped(caption)}" src="{source}">'


def number(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def escaped(value: object) -> str:
    """As text of a page."""
    return in_html(value)
