"""What draws are worth: a function of the user's, a JSON schema, a regular expression, tests.

    reward = "package.module:function"    of (items), or of (items, prompts) -> numbers
    schema = "order.json"                 1 for a text that is JSON and obeys it, else 0
    regex  = "[0-9]+ apples"              1 for a text that matches it from end to end
    tests  = "tests.py"                   1 for a program behind which this file runs to its end

Tests run in a sandbox (`evaluation.sandbox`), since a model writes whatever pays. Of an answer with
a fenced block of code, the block is the program.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from morphogen.core import discover
from morphogen.core.border import check_sane, read_text, strict_json
from morphogen.core.codec import Codec
from morphogen.core.errors import MorphogenError, RecipeError, TrainingError
from morphogen.core.extras import extra
from morphogen.core.objective import Drawn
from morphogen.core.storage import expanded

KINDS = ("reward", "schema", "regex", "tests")
FENCED = re.compile(r"```[a-z]*\n(.*?)```", re.DOTALL)

Rewards = Callable[[Sequence[Any], Sequence[Any]], Sequence[float]]


class Rewarding:
    """A `core.objective.Judge`: items as their codec decodes them, rewarded by one function."""

    def __init__(self, codec: Codec, objective: object) -> None:
        self.codec = codec
        given = {kind: told for kind in KINDS if (told := getattr(objective, kind)) is not None}
        if len(given) != 1:
            raise RecipeError(
                "draws are rewarded by one thing",
                found=" and ".join(given) or "none",
                expected=", ".join(f"objective.{kind}" for kind in KINDS),
                hint="--set objective.reward=package.module:function",
            )
        [(self.kind, self.told)] = given.items()
        self.rewards: Rewards = BUILT[self.kind](self.told)

    def __call__(self, drawn: Drawn) -> tuple[list[Any], Tensor]:
        """The items, and what each is worth, (N,). Raises `TrainingError` where a function of the
        user's does not give a number for each."""
        items, prompts = self._items(drawn)
        try:
            found = self.rewards(items, prompts)
            rewards = torch.as_tensor(found).detach().cpu().float()
        except MorphogenError:
            raise
        except Exception as error:
            raise TrainingError(
                f"the reward failed: {type(error).__name__}: {error}", where=self.told
            ) from error
        if rewards.shape != (len(items),) or not bool(rewards.isfinite().all()):
            raise TrainingError(
                "a reward is a finite number for each item",
                found=f"shape {tuple(rewards.shape)}, {int(rewards.isfinite().sum())} finite",
                expected=f"{len(items)} numbers",
                where=self.told,
            )
        return items, rewards

    def _items(self, drawn: Drawn) -> tuple[list[Any], list[Any]]:
        """What is rewarded, and what was asked: whole items, or answers and their questions."""
        said, prompts = parted(drawn, self.codec)
        if drawn.begun and prompts and prompts[0] is not None:
            return [asked + each for asked, each in zip(prompts, said, strict=True)], prompts
        return said, prompts


def parted(drawn: Drawn, codec: Codec) -> tuple[list[Any], list[Any]]:
    """What was drawn, as people see it, and what it goes on with; None for each where that is
    nothing."""
    x, own = drawn.batch.x, drawn.own
    if own is None or not hasattr(codec, "tokenizer"):
        return codec.decode_many(x.cpu()), [None] * len(x)
    said, prompts = [], []
    for row, mine in zip(x.cpu(), own.cpu(), strict=True):
        first = int(mine.nonzero()[0]) if bool(mine.any()) else len(row)
        prompts.append(text_of(row[:first], codec))
        said.append(text_of(row[mine], codec))
    return said, prompts


def text_of(tokens: Tensor, codec: Any) -> str:
    """The text of tokens, without ends."""
    own = tokens[tokens != codec.tokenizer.end]
    text: str = codec.tokenizer.decode(own.numpy()).decode("utf-8", "replace")
    return text


def by_function(path: str) -> Rewards:
    """The function that a dotted path names, if the user vouches for it."""
    if ":" not in path:
        raise RecipeError(
            "a reward is a function", found=path, expected="package.module:function",
            where="objective.reward",
        )  # fmt: skip
    function = discover.find("objective", path)
    takes = inspect.signature(function).parameters.values()
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [each for each in takes if each.kind in places and each.default is each.empty]
    if len(needed) > 1:
        rewards: Rewards = function
        return rewards
    return lambda items, prompts: function(items)


def by_schema(told: str) -> Rewards:
    """1 for JSON that a schema allows."""
    jsonschema = extra("jsonschema", "lm", "JSON is compared with a schema", raises=RecipeError)
    text = read_text(expanded(told), RecipeError) if told.strip().endswith(".json") else told
    try:
        schema = json.loads(text)
        check_sane(schema)
        kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
        kind.check_schema(schema)
    except (ValueError, RecursionError, jsonschema.SchemaError) as error:
        raise RecipeError(f"that is no JSON schema: {error}"[:300], found=told[:80]) from error
    validator = kind(schema)

    def is_valid(text: str) -> bool:
        try:
            return bool(validator.is_valid(strict_json(text)))
        except (ValueError, RecursionError):
            return False

    return lambda items, prompts: [float(is_valid(item)) for item in items]


def by_regex(told: str) -> Rewards:
    """1 for a text that matches from end to end."""
    try:
        pattern = re.compile(told, re.DOTALL)
    except re.error as error:
        raise RecipeError(f"that is no regular expression: {error}", found=told) from error
    return lambda items, prompts: [float(pattern.fullmatch(item) is not None) for item in items]


def by_tests(told: str) -> Rewards:
    """1 for a program behind which the tests run to their end."""
    from morphogen.evaluation.sandbox import run_program

    tests = read_text(expanded(told), RecipeError)

    def rewards(items: Sequence[Any], prompts: Sequence[Any]) -> list[float]:
        passed: dict[str, float] = {}
        for item in set(items):
            block = FENCED.search(item)
            program = f"{block[1] if block else item}\n\n{tests}"
            passed[item] = float(run_program(program).status == "passed")
        return [passed[item] for item in items]

    return rewards


BUILT: dict[str, Callable[[str], Rewards]] = {
    "reward": by_function, "schema": by_schema, "regex": by_regex, "tests": by_tests,
}  # fmt: skip
