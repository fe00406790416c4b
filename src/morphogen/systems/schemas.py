"""JSON schemas as they are obeyed here: an object has the properties that its schema names, and no
others unless the schema says so. A small model that may add some does not come to an end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMED = ("properties", "$defs", "definitions")  # schemas by name
LISTED = ("anyOf", "oneOf", "prefixItems")
COMPOSED = {"additionalProperties", "allOf", "patternProperties", "unevaluatedProperties", "$ref"}


def closed(schema: Any) -> Any:
    """A schema whose objects hold nothing that it does not name."""
    if not isinstance(schema, Mapping):
        return schema
    told = dict(schema)
    for key in NAMED:
        if isinstance(told.get(key), Mapping):
            told[key] = {name: closed(each) for name, each in told[key].items()}
    for key in LISTED:
        if isinstance(told.get(key), list):
            told[key] = [closed(each) for each in told[key]]
    if "items" in told:
        told["items"] = closed(told["items"])
    if told.get("properties") and not COMPOSED & set(told):
        told["additionalProperties"] = False
    return told
