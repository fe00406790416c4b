"""Are texts under a JSON schema valid, and what does it cost?

    python benchmarks/constraints.py VOCABULARY_FOLDER

A model that has learned nothing draws 1,000 texts under 20 schemas of many kinds, half as bytes,
half in the words of the vocabulary (the folder of GPT-2's, 50,257 tokens): no model is harder to
hold. Each text has to be valid by `jsonschema` (as by default, a "format" is no demand: the 29th of
February is a date in any year). Then a token under a schema, mask filled, applied and noted, is
timed beside one step of a model of 134 million weights (30 layers of 576) with that vocabulary.
The goals: all valid, and at most 5 % of a step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jsonschema
import torch

from morphogen.core.codec import Item
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.writing import Limits, Request
from morphogen.modalities.text import Text

EACH, MOST = 25, 256  # texts of each schema and vocabulary; tokens of a text
LARGE = {"num_layers": 30, "model_dim": 576, "num_heads": 9, "num_kv_heads": 3, "hidden_dim": 1536}
NODE = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
    },
    "required": ["name", "children"],
    "additionalProperties": False,
}


def record(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    """An object of these and nothing else."""
    required = [name for name in properties if name not in optional]
    return {
        "type": "object", "properties": properties, "required": required,
        "additionalProperties": False,
    }  # fmt: skip


SCHEMAS: dict[str, Any] = {
    "boolean": {"type": "boolean"},
    "any value": {},
    "free string": {"type": "string"},
    "short string": {"type": "string", "minLength": 3, "maxLength": 9},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"},
    "date": {"type": "string", "format": "date"},
    "integer in bounds": {"type": "integer", "minimum": -5, "maximum": 130},
    "number": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "words": {"enum": ["red", "green", "deep blue", None, 7]},
    "constant": {"const": {"version": 2, "kind": "reply"}},
    "list of numbers": {"type": "array", "items": {"type": "integer", "maximum": 99, "minimum": 0}},
    "list of 2 to 4": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    "pair": {
        "type": "array", "prefixItems": [{"type": "string", "maxLength": 5}, {"type": "number"}],
        "items": False, "minItems": 2,
    },
    "person": record({
        "name": {"type": "string", "minLength": 1, "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "email": {"type": "string", "format": "email", "maxLength": 40},
    }, "email"),
    "order": record({
        "id": {"type": "string", "pattern": "^[a-f0-9]{8}$"},
        "lines": {"type": "array", "minItems": 1, "items": record({
            "article": {"enum": ["boot", "shirt", "bag"]},
            "count": {"type": "integer", "minimum": 1, "maximum": 9},
        })},
        "note": {"type": ["string", "null"], "maxLength": 30},
    }),
    "one of two": {"anyOf": [
        record({"kind": {"const": "circle"}, "radius": {"type": "number", "minimum": 0}}),
        record({"kind": {"const": "square"}, "side": {"type": "number", "minimum": 0}}),
    ]},
    "names as keys": {
        "type": "object", "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 9}
    },
    "tree": {"$defs": {"node": NODE}, "$ref": "#/$defs/node"},
    "chain": {"$defs": {"link": record({
        "value": {"type": "integer", "minimum": 0, "maximum": 9},
        "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/link"}]},
    })}, "$ref": "#/$defs/link"},
    "nested": record({"a": record({"b": record({"c": {
        "type": "array", "items": {"type": "array", "items": {"type": "string", "maxLength": 3}}
    }})})}),
}  # fmt: skip


def fitted(tokenizer: str) -> Text:
    """A codec of texts as long as are drawn here."""
    codec = Text(length=MOST, form="windows", tokenizer=tokenizer)
    codec.fit([Item("a text of no interest, " * 40)])
    return codec


def family_of(codec: Text, **backbone: Any) -> Any:
    """A model that has learned nothing."""
    torch.manual_seed(0)
    recipe = Recipe(
        family={"name": "autoregressive"}, backbone={"name": "token_transformer", **backbone}
    )
    return build_family(recipe, codec.spec, {}).eval()


def validity(codec: Text, told: str) -> int:
    """How many of the texts are valid; a line for each schema."""
    family, total = family_of(codec, model_dim=16, num_layers=1), 0
    nothing = torch.zeros(0, dtype=torch.int64)
    for name, schema in SCHEMAS.items():
        begun = time.perf_counter()
        validator = jsonschema.Draft202012Validator(schema)
        requests = [
            Request(nothing, MOST, Limits(), seed, None,
                    codec.constraint("schema", json.dumps(schema), MOST))
            for seed in range(EACH)
        ]  # fmt: skip
        decoders = [codec.decoder() for _ in requests]
        texts = [""] * len(requests)
        for step in family.write(requests):
            for each in step:
                if each.token != codec.end:
                    texts[each.row] += decoders[each.row].feed(each.token)
        valid = sum(is_valid(validator, text, name) for text in texts)
        seconds = round(time.perf_counter() - begun, 1)
        lengths = sorted(map(len, texts))
        line = {"vocabulary": told, "schema": name, "valid": valid, "of": EACH}
        print(
            json.dumps({**line, "characters": lengths[EACH // 2], "seconds": seconds}), flush=True
        )
        total += valid
    return total


def is_valid(validator: Any, text: str, name: str) -> bool:
    """Whether a text is JSON, and of the schema; if not, it is shown."""
    try:
        validator.validate(json.loads(text))
    except (ValueError, jsonschema.ValidationError) as error:
        print(f"  {name}: {text[:200]!r}: {str(error)[:200]}", flush=True)
        return False
    return True


def milliseconds(run: Callable[[], Any], times: int) -> list[float]:
    """How long each of several runs takes."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        run()
        found.append((time.perf_counter() - begun) * 1e3)
    return found


def cost(codec: Text) -> dict[str, float]:
    """Medians of a token's mask and of a decoding step, taken in turns."""
    family = family_of(codec, **LARGE, tied=True)
    weights = sum(each.numel() for each in family.parameters())
    rows = family.rows(1)
    rows.begin(0, torch.zeros(32, dtype=torch.int64))
    logits, draw = torch.randn(1, codec.spec.vocab_size), torch.Generator().manual_seed(0)
    steps, masks, states = [], [], iter(())
    for turn in range(160):
        steps += milliseconds(lambda: rows.advance([7], [0]), 1)
        constraint = next(states, None)
        if constraint is None or constraint.ended:
            schema = list(SCHEMAS.values())[13 + turn % 7]
            constraint = codec.constraint("schema", json.dumps(schema), MOST)
        states = iter([constraint])
        begun = time.perf_counter()
        allowed = constraint.allowed()
        limited = logits.masked_fill(~allowed, -torch.inf)
        masked = time.perf_counter() - begun
        token = int(torch.multinomial(limited[0].softmax(-1), 1, generator=draw))
        begun = time.perf_counter()
        constraint.take(token)
        masks.append((masked + time.perf_counter() - begun) * 1e3)
    step, mask = statistics.median(steps[10:]), statistics.median(masks[10:])
    return {
        "million_weights": weights / 1e6, "step_ms": step, "mask_ms": mask,
        "mean_mask_ms": statistics.mean(masks[10:]), "share": mask / step,
        "mean_share": statistics.mean(masks[10:]) / statistics.mean(steps[10:]),
    }  # fmt: skip


def main() -> None:
    """Validity in both vocabularies, then the cost."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("vocabulary", help="folder of GPT-2's tokenizer")
    options.add_argument("--only", choices=("validity", "cost"))
    given = options.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    words = fitted(given.vocabulary)
    if given.only != "cost":
        found["valid"] = validity(fitted("byte"), "bytes") + validity(words, "words")
        found["of"] = 2 * EACH * len(SCHEMAS)
    if given.only != "validity":
        begun = time.perf_counter()
        words.constraint("regex", "a", 1)
        found["vocabulary_ms"] = (time.perf_counter() - begun) * 1e3
        found |= cost(words)
    print(json.dumps({name: round(value, 4) for name, value in found.items()}))


if __name__ == "__main__":
    main()
