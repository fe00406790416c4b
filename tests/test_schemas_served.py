"""Schemas as the server obeys them."""

from __future__ import annotations

import jsonschema
import pytest

from morphogen.systems.schemas import closed

PLACE = {"type": "object", "properties": {"name": {"type": "string"}}}


def test_objects_hold_what_is_named_and_nothing_else() -> None:
    nested = {
        "type": "object",
        "properties": {"places": {"type": "array", "items": PLACE}, "at": {"$ref": "#/$defs/p"}},
        "$defs": {"p": PLACE},
    }
    told = closed(nested)
    jsonschema.validate({"places": [{"name": "Bonn"}], "at": {"name": "Rome"}}, told)
    for wrong in ({"more": 1}, {"places": [{"name": "Bonn", "": ""}]}, {"at": {"type": "object"}}):
        jsonschema.validate(wrong, nested)
        with pytest.raises(jsonschema.ValidationError, match="Additional properties"):
            jsonschema.validate(wrong, told)
    assert closed(told) == told


@pytest.mark.parametrize("schema", [
    {**PLACE, "additionalProperties": {"type": "integer"}},
    {**PLACE, "patternProperties": {"^x": {}}},
    {"allOf": [{"type": "object"}], **PLACE},
    {"type": "object"},
    {"const": {"properties": {"a": 1}}},
    True,
])  # fmt: skip
def test_what_says_otherwise_stays_as_it_is(schema: object) -> None:
    assert closed(schema) == schema
