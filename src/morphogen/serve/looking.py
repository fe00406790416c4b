"""A look at data, in a process of its own: `python -m morphogen.serve.looking '{"source": ..}'`.

    {"source": "shoes", "first": 0, "num": 24}    items, as their codec shows them
    {"source": "shoes", "check": true}            every defect, as `morphogen data check` tells it

The server needs no PyTorch for it, and data that brings a library down does not take the server
along.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from itertools import islice
from typing import Any

from morphogen.core.errors import MorphogenError

MOST_HTML = 32 << 20  # characters of items that are shown at once


def look(told: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for. Raises `MorphogenError` for data that no codec reads."""
    if told.get("check"):
        from morphogen.data.check import check

        found: dict[str, Any] = check(told["source"]).to_json()
        return found
    from morphogen.core.codec import Report
    from morphogen.data.modality import build_codec, find_modality

    report = Report(told["source"])
    modality = find_modality(told["source"], report)
    codec = build_codec(modality, {})
    first, num = told["first"], told["num"]
    items = list(islice(codec.read(told["source"], report), first, first + num + 1))
    shown = items[:num]
    body = codec.html([each.value for each in shown]) if shown else ""
    if len(body) > MOST_HTML:
        raise MorphogenError("these items are too large for a page", found=f"{len(body):,} letters")
    rows = [{"name": each.name, "split": each.split, "cond": told_of(each.cond)} for each in shown]
    return {"modality": modality, "html": body, "items": rows, "is_last": len(items) <= num}


def told_of(cond: Mapping[str, Any]) -> dict[str, str]:
    """Conditions in a few words each."""
    return {str(name): str(value)[:200] for name, value in cond.items()}


if __name__ == "__main__":
    try:
        answer: dict[str, Any] = {"found": look(json.loads(sys.argv[1]))}
    except MorphogenError as error:
        answer = {"failed": str(error)}
    sys.stdout.write(json.dumps(answer, default=str))
