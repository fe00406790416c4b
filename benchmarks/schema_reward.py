"""A small model of JSON-like lines, rewarded for obeying a schema: how often it does, before and
after.

    python benchmarks/schema_reward.py --out rewarded --steps 120

The lines lack most of what the schema requires, four times in five, so that the base obeys it
seldom. 256 items are drawn of each, with the same numbers.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import jsonschema

import morphogen as mg
from morphogen.core.bundle import Bundle

SCHEMA = {
    "type": "object",
    "required": ["name", "age", "ok"],
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "ok": {"type": "boolean"},
    },
    "additionalProperties": False,
}
NETWORK = ["backbone.model_dim=32", "backbone.num_layers=2", "train.num_previews=0"]
NUM = 256


def line(draw: random.Random) -> str:
    """An object whose keys come in any order, and are often missing."""
    name = json.dumps(draw.choice(["ada", "bob", "cy", "dan", "eve"]))
    pairs = [("name", name), ("age", draw.randrange(100)), ("ok", draw.choice(["true", "false"]))]
    draw.shuffle(pairs)
    kept = pairs[: draw.randrange(3)] if draw.random() < 0.8 else pairs
    return "{" + ", ".join(f'"{key}": {value}' for key, value in kept) + "}"


def is_valid(text: str) -> bool:
    """Whether a text is JSON that obeys the schema."""
    try:
        return jsonschema.Draft202012Validator(SCHEMA).is_valid(json.loads(text))
    except ValueError:
        return False


def told(bundle: Bundle) -> str:
    """How many draws obey, and how many of these differ."""
    texts = bundle.codec.decode_many(bundle.sample(NUM, seed=5).x)
    valid = [text for text in texts if is_valid(text)]
    return f"{len(valid)} of {NUM} valid, {len(set(valid))} of them distinct"


def main() -> None:
    """Train a base, reward it, count."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--steps", type=int, default=120)
    asked = options.parse_args()
    asked.out.mkdir(parents=True)
    draw, lines, schema = random.Random(0), asked.out / "lines.jsonl", asked.out / "schema.json"
    lines.write_text("".join(json.dumps({"text": line(draw)}) + "\n" for _ in range(1500)))
    schema.write_text(json.dumps(SCHEMA))
    settings = [*NETWORK, "modality.tokenizer=byte", "modality.form=documents"]
    base = mg.train(lines, "autoregressive", backbone="token_transformer", settings=settings,
                    budget="500steps", out=asked.out / "base")  # fmt: skip
    print("base:", told(base))
    begun = time.process_time()
    teach = [f"objective.schema={schema}", "objective.prompts=none", "train.num_previews=0"]
    taught = mg.train(lines, start=asked.out / "base", objective="grpo", settings=teach,
                      budget=f"{asked.steps}steps", out=asked.out / "taught")  # fmt: skip
    print(f"taught, {time.process_time() - begun:.0f} s of processor:", told(taught))
    print(json.dumps(taught.metrics["beside"], indent=2))


if __name__ == "__main__":
    main()
