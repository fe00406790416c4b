"""An evaluation as one self-contained page: pictures, numbers with their floor, protocol."""

from __future__ import annotations

import base64
import html
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.codec import Codec
from morphogen.core.storage import write_text

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem }
.lead { margin: .2rem 0 1.5rem; opacity: .75 }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 1.5rem }
figure { margin: 0 } figcaption { margin-bottom: .4rem }
img { width: 100%; image-rendering: pixelated; border: 1px solid var(--line) }
img.curves { image-rendering: auto; max-width: 44rem }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0;
  border-bottom: 1px solid var(--line) }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; font-weight: 600 }
td.note { opacity: .75 } code { font-size: .85em; overflow-wrap: anywhere }
.warning { background: var(--soft); border-left: .25rem solid #c80; padding: .6rem 1rem }
pre { white-space: pre-wrap; background: var(--soft); padding: .8rem; overflow-wrap: anywhere }
"""


def write_page(
    bundle: Bundle,
    record: Mapping[str, Any],
    codec: Codec,
    generated: Tensor | None,
    real: Tensor,
) -> Path:
    """Write evaluation.html into the bundle's folder."""
    if bundle.path is None:
        raise ValueError("the bundle has no folder to write to")
    name = record["protocol"]["model"]
    parts = [f"<h1>{_text(name)}: evaluation</h1>", f'<p class="lead">{_text(_lead(record))}</p>']
    parts += [f'<p class="warning">{_text(w)}</p>' for w in record.get("warnings", [])]
    figures = [_figure("Held-out data", codec, real)]
    if generated is not None:
        figures.insert(0, _figure("Generated", codec, generated))
    parts.append(f'<div class="pair">{"".join(figures)}</div>')
    parts.append(f"<h2>Numbers</h2>{_numbers(record)}")
    curves = bundle.path / "curves.png"
    if curves.is_file():
        picture = _picture(curves, "curves", "Curves of the training")
        parts.append(f"<h2>Training</h2>{picture}")
    parts.append(f"<h2>Protocol</h2>{_facts(record['protocol'])}")
    if "features" in record:
        parts.append(f"<h2>Features</h2>{_facts(record['features'])}")
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(name)}: evaluation</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
    return write_text(bundle.path / "evaluation.html", page)


def _lead(record: Mapping[str, Any]) -> str:
    """One sentence that says how good it is."""
    scores = record.get("frechet")
    if scores is None:
        return "A model that draws no items: scored by what it predicts or rebuilds."
    if scores["ratio"] is None:
        return "The floor is zero: the training items have the features of the held-out ones."
    return (
        f"Generated items are {_number(scores['ratio'])} times as far from held-out data as "
        "training items are (Frechet distance over features of this data; 1 is the floor)."
    )


def _numbers(record: Mapping[str, Any]) -> str:
    rows: list[tuple[str, str, str]] = []
    if scores := record.get("frechet"):
        protocol = record["protocol"]
        n, m = protocol["num_generated"], protocol["num_reference"]
        low_high = scores.get("ratio_interval")
        interval = ""
        if low_high:
            interval = f"{_number(low_high[0])} to {_number(low_high[1])} ({scores['interval']})"
        ratio = "undefined" if scores["ratio"] is None else _number(scores["ratio"])
        rows = [
            ("Distance / floor", ratio, interval),
            ("Frechet distance", _number(scores["distance"]), f"{n} generated, {m} held out"),
            ("Floor", _number(scores["floor"]), f"{n} training items, the same {m} held out"),
        ]
        if scores["halves"] is not None:
            note = f"two disjoint sets of {scores['num_halves']} training items"
            rows.append(("Halves", _number(scores["halves"]), note))
        seconds = record["sampling_seconds_per_1000"]
        rows.append(("Sampling", f"{_number(seconds)} s", "per 1,000 items, on the machine used"))
    for key, label, extra in (
        ("bits_per_dim", "Bits per dimension", "log_prob_is"),
        ("reconstruction_error", "Reconstruction error", "unit"),
        ("accuracy", "Accuracy", "target"),
        ("absolute_error", "Absolute error", "target"),
    ):
        if score := record.get(key):
            error = score["standard_error"]
            spread = f", standard error {_number(error)}" if error is not None else ""
            note = f"{score[extra]}; {score['n']} held-out items{spread}"
            rows.append((label, _number(score["value"]), note))
    cells = [
        f'<tr><td>{_text(a)}</td><td class="number">{_text(b)}</td>'
        f'<td class="note">{_text(c)}</td></tr>'
        for a, b, c in rows
    ]
    return f"<table>{''.join(cells)}</table>"


def _facts(facts: Mapping[str, Any]) -> str:
    def shown(value: Any) -> object:
        if isinstance(value, Mapping):
            return ", ".join(f"{name} {each}" for name, each in value.items())
        return value

    rows = [
        f"<tr><td>{_text(key.replace('_', ' '))}</td>"
        f"<td><code>{_text(shown(value))}</code></td></tr>"
        for key, value in facts.items()
    ]
    return f"<table>{''.join(rows)}</table>"


def _figure(caption: str, codec: Codec, x: Tensor) -> str:
    """Items as their codec writes them: a picture, or else text."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / f"items{codec.suffix}"
        columns = math.ceil(math.sqrt(len(x)))
        written = codec.write(codec.decode_many(x), target, columns)
        if written.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".gif"):
            body = _picture(written, "items", caption)
        else:
            body = f"<pre>{_text(written.read_text(errors='replace')[:4000])}</pre>"
    return f"<figure><figcaption>{_text(caption)}</figcaption>{body}</figure>"


def _picture(path: Path, kind: str, caption: str) -> str:
    encoded = base64.b64encode(path.read_bytes()).decode()
    media = path.suffix.lower().lstrip(".").replace("jpg", "jpeg")
    source = f"data:image/{media};base64,{encoded}"
    return f'<img class="{kind}" alt="{_text(caption)}" src="{source}">'


def _number(value: float) -> str:
    return f"{value:.4g}"


def _text(value: object) -> str:
    return html.escape(str(value))
