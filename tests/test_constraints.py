"""Constraints: whatever is drawn under one is valid, and ends before the tokens run out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from morphogen.core.errors import MorphogenError, RecipeError
from morphogen.core.random import generator
from morphogen.modalities.text.constraints import Constrained, Vocabulary
from morphogen.modalities.text.tokenizers import Byte
from morphogen.modalities.text.tokenizers.bpe import BPE

BYTES = Vocabulary(Byte.tokens, Byte.end, list)
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "children": {"type": "array", "items": {"$ref": "#"}},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
ENDLESS = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}


def drawn(
    kind: str, told: Any, most: int = 60, seed: int = 0, vocabulary: Vocabulary = BYTES
) -> str:
    """A text of tokens drawn at random from those that may come: no model is worse."""
    draw, found = generator(seed), []
    told = told if isinstance(told, str) else json.dumps(told)
    constraint = Constrained(vocabulary, kind, told, most)
    while not constraint.ended and len(found) < most:
        mask = constraint.allowed()
        assert mask is not None
        token = int(torch.multinomial(mask.float(), 1, generator=draw))
        constraint.take(token)
        found.append(token)
    return b"".join(vocabulary.tokens[token] for token in found).decode()


@pytest.mark.parametrize("most", [19, 25, 60, 400])
def test_a_schema_is_obeyed_however_few_tokens_there_are(most: int) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    for seed in range(5):
        jsonschema.validate(json.loads(drawn("schema", PERSON, most, seed)), PERSON)


def test_numbers_come_to_an_end_within_their_bounds() -> None:
    for seed in range(5):
        told = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
        assert 0 < float(drawn("schema", told, 8, seed)) <= 1


def test_a_vocabulary_of_words_is_masked_alike() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    tokens = [*Byte.tokens, b'{"name": "', b'", "age"', b"Ann", b": 3", b'"}', b"]]", b""]

    def cut(data: bytes) -> list[int]:
        return [tokens.index(part) for part in re.findall(b"|".join(longest), data)]

    longest = [re.escape(part) for part in sorted(filter(None, tokens), key=len, reverse=True)]
    words = Vocabulary(tokens, end=256, cut=cut)
    for seed in range(5):
        text = drawn("schema", PERSON, 40, seed, words)
        jsonschema.validate(json.loads(text), PERSON)


@pytest.mark.parametrize(
    "pattern", ["[a-z]+ [0-9]{2,4}", "(yes|no)( and (yes|no))*", "[ac]*b", r"\(?[0-9]+\)?"]
)
def test_a_regular_expression_matches_as_a_whole(pattern: str) -> None:
    for seed in range(5):
        assert re.fullmatch(pattern, drawn("regex", pattern, 20, seed))


def test_choices_are_chosen_whatever_stands_in_them() -> None:
    choices = ['say "no"', "a|b", "ß\n"]
    assert {drawn("choice", choices, 9, seed) for seed in range(30)} == set(choices)
    assert {drawn("choice", "yes|no", 3, seed) for seed in range(9)} == {"yes", "no"}


def test_a_grammar_that_opens_brackets_closes_them_in_time() -> None:
    grammar = 'start: "(" start ")" | "[" start "]" | /[a-z]+/'
    for seed in range(5):
        text = drawn("grammar", grammar, 16, seed)
        while text[0] in "([":
            assert text[-1] == {"(": ")", "[": "]"}[text[0]]
            text = text[1:-1]
        assert text.isalpha()


def test_white_space_does_not_go_on_for_ever() -> None:
    constraint = Constrained(BYTES, "schema", json.dumps(PERSON), 200)
    for byte in b"{\n" + b" " * 16:
        constraint.take(byte)
    allowed = constraint.allowed()
    assert allowed is not None
    assert allowed.nonzero().flatten().tolist() == [ord('"')]


def test_a_schema_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "flag.json"
    file.write_text('{"type": "boolean"}')
    assert drawn("schema", str(file)) in ("true", "false")


@pytest.mark.parametrize(
    ("kind", "told", "said"),
    [
        ("schema", "{", "cannot be read"),
        ("schema", "[1]", "no JSON schema"),
        ("schema", "missing.json", "missing.json"),
        ("schema", "false", "allows nothing"),
        ("schema", '{"type": "integer", "minimum": 5, "maximum": 3}', "minimum"),
        ("schema", '{"type": "horse"}', "horse"),
        ("schema", '{"type": "array", "uniqueItems": true}', "uniqueItems"),
        ("schema", json.dumps(ENDLESS), "no end"),
        ("schema", "[" * 5000, "cannot be read"),
        ("regex", "(a", "regex"),
        ("grammar", "start: thing", "thing"),
        ("grammar", 'start: start "a"', "allows no text"),
        ("choice", "|", "nothing to choose"),
        ("choice", "[1]", "choices are texts"),
        ("choice", "x" * 70, "most=70"),
        ("story", "x", "schema, regex"),
    ],
)
def test_what_cannot_be_met_is_told(kind: str, told: str, said: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(said)):
        drawn(kind, told)


def test_too_few_tokens_are_told_with_how_many_it_takes() -> None:
    with pytest.raises(RecipeError, match="19 or more"):
        drawn("schema", PERSON, 18)


def test_a_token_that_may_not_come_is_an_error() -> None:
    constraint = Constrained(BYTES, "regex", "ab", 5)
    with pytest.raises(MorphogenError, match="does not allow"):
        constraint.take(ord("b"))


def test_the_codec_makes_one_of_its_own_tokens() -> None:
    from morphogen.core.codec import Item
    from morphogen.modalities.text import Text

    codec = Text(length=32, tokenizer="bpe", vocab_size=300)
    codec.fit([Item(f"the {word} was quiet today, and so were we") for word in "abcdefg"])
    assert isinstance(codec.tokenizer, BPE)
    constraint = codec.constraint("regex", "the (quiet|bright)", 8)
    mask = constraint.allowed()
    assert mask is not None
    allowed = [codec.tokenizer.token_bytes(i) for i in mask.nonzero().flatten().tolist()]
    assert allowed
    assert all(b"the quiet".startswith(data) or b"the bright".startswith(data) for data in allowed)
