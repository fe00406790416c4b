"""What a model made of a text, as one page that needs nothing but itself: each token coloured by
how surprising it was; at each, what else could have come, and what the model looked at."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.capability import missing
from morphogen.core.codec import Item
from morphogen.core.errors import DataError, RefusedPair
from morphogen.core.explaining import CanExplain, Explanation
from morphogen.core.storage import write_text
from morphogen.core.writing import TextCodec
from morphogen.evaluation.page import document, escaped, number

LONGEST = 512  # tokens that are explained
MOST_CELLS = 1 << 22  # of attention, layer by layer: more would make a page that no browser likes


def write_explanation(
    bundle: Bundle,
    text: str,
    path: Path | str,
    *,
    cond: Mapping[str, Any] | None = None,
    num_alternatives: int = 8,
) -> Path:
    """Write the page of a text. Raises `RefusedPair` for a model that cannot say."""
    check_explains(bundle)
    codec: Any = bundle.codec
    (tokens,) = codec.encode_sequences([Item(text, "the text")])
    if not len(tokens):
        raise DataError("there is nothing to explain", found="an empty text")
    left_out = max(len(tokens) - min(bundle.family.spec.shape[0], LONGEST), 0)
    tokens = tokens[left_out:]
    given = bundle.conditions(1, cond or {}, torch.Generator(), drawn=False)
    family: Any = bundle.family
    given = {name: value.to(family.device) for name, value in given.items()}
    told = family.explain(tokens, cond=given, num_alternatives=num_alternatives)
    name = bundle.path.resolve().name if bundle.path else "a model in memory"
    bits = float(told.log_prob.double().sum()) / -math.log(2)
    units = float(codec.num_units(tokens[None]))
    lead = (
        f"{len(tokens):,} tokens, {number(bits / len(tokens))} bits each; {number(bits / units)} "
        f"bits per {codec.unit}"
    )
    parts = [f"<h1>What {escaped(name)} made of a text</h1>", f'<p class="lead">{lead}</p>']
    if left_out:
        parts.append(
            f'<p class="warning">The first {left_out:,} tokens are left out: the model sees '
            f"{len(tokens):,} at once.</p>"
        )
    data = page_data(told, [codec.token_text(token) for token in tokens.tolist()], codec)
    parts.append(BODY.replace("DATA", json.dumps(data).replace("<", "\\u003c")))
    return write_text(Path(path), document(f"{name}: a text explained", parts))


def check_explains(bundle: Bundle) -> None:
    """Raise `RefusedPair` for a model that cannot say what it looked at, or has no texts."""
    if lacking := missing(bundle.family, CanExplain):
        raise RefusedPair(
            "the model cannot say what it looked at",
            found=f"{type(bundle.family).__name__} has no {', '.join(lacking)}",
            expected="--family autoregressive with --backbone token_transformer, on texts",
        )
    if not isinstance(bundle.codec, TextCodec):
        raise RefusedPair(
            "texts are explained", found=f"items of {type(bundle.codec).__name__}", expected="text"
        )


def page_data(told: Explanation, texts: list[str], codec: TextCodec) -> dict[str, Any]:
    """What the script of the page reads."""
    tokens = [
        {
            "text": text,
            "bits": round(-log_prob / math.log(2), 3),
            "rank": rank,
            "others": [[codec.token_text(i) or "(end)", round(p, 4)] for i, p in others],
        }
        for text, log_prob, rank, others in zip(
            texts, told.log_prob.tolist(), told.rank.tolist(), told.alternatives, strict=True
        )
    ]
    views = {
        "what raised (blue) or lowered (red) its probability": _signed(told.attribution),
        "attention through all layers": _unsigned(told.rollout),
    }
    if told.attention.numel() <= MOST_CELLS:
        for layer, table in enumerate(told.attention, 1):
            views[f"attention of layer {layer}"] = _unsigned(table)
    return {"tokens": tokens, "views": views}


def _unsigned(table: Tensor) -> str:
    """(n, n), rows scaled to their largest, as bytes: 0 to 254 around a middle of 127."""
    return _packed(table / table.amax(1, keepdim=True).clamp(min=1e-12))


def _signed(table: Tensor) -> str:
    return _packed(table / table.abs().amax(1, keepdim=True).clamp(min=1e-12))


def _packed(shares: Tensor) -> str:
    """Shares from -1 to 1 as bytes, as text."""
    values = (shares.cpu() * 127 + 127).round().to(torch.uint8).contiguous()
    return base64.b64encode(values.numpy().tobytes()).decode()


BODY = """
<style>
#text { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 2; font-family: ui-monospace,
  SFMono-Regular, Menlo, Consolas, monospace; border: 1px solid var(--line); padding: .8rem }
#text span { padding: .18em 0; border-radius: .2em; cursor: default; outline-offset: 1px }
#text span.on { outline: 2px solid currentColor }
#text .start { opacity: .7; font-size: .8em; padding: .18em .4em; border: 1px dashed var(--line) }
#text .sign { opacity: .45 }
#told { position: sticky; top: 0; background: Canvas; height: 14rem; overflow: auto;
  padding: .5rem 0; border-bottom: 1px solid var(--line); display: grid; gap: 0 2rem;
  grid-template-columns: minmax(12rem, 1fr) minmax(14rem, 1.4fr) }
#told p { margin: .2rem 0 } #told p.hint { grid-column: 1 / -1 } #told table { width: auto }
#told td { padding: .05rem .6rem .05rem 0; border: 0 }
#told i { display: inline-block; height: .6em; background: #2c74d6; border-radius: .15em }
.scale { display: inline-block; width: 8rem; height: .8em; border: 1px solid var(--line);
  background: linear-gradient(90deg, transparent, hsl(28 95% 55% / .75)) }
.key { display: flex; flex-wrap: wrap; gap: .3rem 2rem; align-items: center; margin: .8rem 0 }
</style>
<div class="key"><span>likely <span class="scale"></span> surprising (8 bits and more)</span>
<label>at a token, show <select id="view"></select></label></div>
<div id="told" aria-live="polite"></div>
<div id="text" tabindex="0"></div>
<script type="application/json" id="data">DATA</script>
<script>
"use strict";
const {tokens, views} = JSON.parse(document.getElementById("data").textContent);
const text = document.getElementById("text"), told = document.getElementById("told");
const view = document.getElementById("view"), n = tokens.length, tables = {};
const add = (parent, kind, content, name) => {
  const made = parent.appendChild(document.createElement(kind));
  if (content !== undefined) made.textContent = content;
  if (name) made.className = name;
  return made;
};
const shown = s => s.replace(/\\n/g, "\\u21b5").replace(/\\t/g, "\\u2192").replace(/ /g, "\\u00b7");
const percent = p => p >= 0.1 ? (100 * p).toFixed(0) + " %" : (100 * p).toPrecision(2) + " %";
for (const name of Object.keys(views)) add(view, "option", name);
const places = [add(text, "span", "start", "start")];
for (const token of tokens) {
  const span = add(text, "span");
  for (const part of token.text.split(/(\\n|\\t)/)) {
    if (part === "\\n" || part === "\\t") add(span, "span", shown(part), "sign");
    if (part) span.append(part);
  }
  places.push(span);
}
let at = 0, kept = false;
const tint = bits => `hsl(28 95% 55% / ${Math.min(bits / 8, 1) * 0.75})`;
const row = i => {
  const name = view.value;
  tables[name] ??= Uint8Array.from(atob(views[name]), c => c.charCodeAt(0));
  return tables[name].subarray(i * n, (i + 1) * n);
};
function show(i) {
  at = i;
  places.forEach((span, j) => {
    span.className = j === 0 ? "start" : "";
    span.style.background = j ? tint(tokens[j - 1].bits) : "";
  });
  told.textContent = "";
  if (!i) {
    add(told, "p", "Point at a token, or move with the arrow keys; a click keeps it.", "hint");
    return;
  }
  const token = tokens[i - 1], weights = row(i - 1);
  places.forEach((span, j) => {
    if (j >= i) { span.style.background = ""; return; }
    const share = (weights[j] - 127) / 127;
    span.style.background = share < 0 ? `hsl(350 85% 55% / ${-share * 0.75})`
                                      : `hsl(212 85% 50% / ${share * 0.75})`;
  });
  places[i].className = "on";
  const left = add(told, "div"), right = add(told, "div");
  add(left, "p").append("token ", add(left, "code", shown(token.text)));
  add(left, "p", `probability ${percent(2 ** -token.bits)}, ${token.bits.toFixed(2)} bits`);
  add(left, "p", token.rank === 1 ? "the most probable of all" : `number ${token.rank} of all`);
  const table = add(right, "table");
  for (const [other, p] of token.others) {
    const line = add(table, "tr");
    add(add(line, "td"), "code", shown(other));
    add(line, "td", percent(p));
    add(add(line, "td"), "i").style.width = `${Math.max(p * 8, 0.05)}rem`;
  }
}
places.forEach((span, i) => {
  span.addEventListener("mouseenter", () => { if (!kept) show(i); });
  span.addEventListener("click", () => { kept = !(kept && at === i); show(i); });
});
text.addEventListener("mouseleave", () => { if (!kept) show(0); });
text.addEventListener("keydown", event => {
  const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
  if (!step) return;
  event.preventDefault();
  kept = true;
  show(Math.min(Math.max(at + step, 0), n));
});
view.addEventListener("change", () => show(at));
const asked = Number(location.hash.slice(1));
kept = asked > 0 && asked <= n;
show(kept ? asked : 0);
</script>
"""
