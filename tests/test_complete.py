"""Completing and scoring texts: what is kept, where it ends, and that the numbers are exact."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.capability import why_not
from morphogen.core.codec import Item
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.random import generator
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.result import Result
from morphogen.core.spec import TensorSpec
from morphogen.core.writing import Piece
from morphogen.core.written import WrittenText
from morphogen.modalities.text import Text
from morphogen.tasks.complete import complete, fitted
from morphogen.tasks.score import score

TEXTS = ["To be or not", "Grüße, 日本 — ok", "a\nb\n\nc", "the the the the"]


@pytest.fixture(scope="module", params=["documents", "windows"])
def text_model(request: pytest.FixtureRequest) -> tuple[Any, Text]:
    """An untrained model of bytes, and its codec."""
    codec = Text(length=48, form=request.param, tokenizer="byte")
    codec.fit([Item(text) for text in TEXTS])
    recipe = Recipe(
        family={"name": "autoregressive"},
        backbone={"name": "token_transformer", "model_dim": 16, "num_layers": 1},
    )
    torch.manual_seed(0)
    return build_family(recipe, codec.spec, {}).eval().requires_grad_(False), codec


def completed(text_model: tuple[Any, Text], *prompts: str, seed: int = 0, **options: Any) -> Result:
    family, codec = text_model
    rows = codec.encode_sequences([Item(prompt) for prompt in prompts])
    with torch.no_grad():
        return complete(family, rows, codec, generator=generator(seed), **options)


# -- complete ------------------------------------------------------------------------------------


def test_each_completion_is_the_same_alone_and_beside_others(text_model: Any) -> None:
    alone = completed(text_model, "so", most=9)
    beside = completed(text_model, "so", "and then", "", most=9)
    assert beside.values["text"][0] == alone.values["text"][0]
    assert len(beside) == 3
    assert max(beside.values["num_tokens"]) <= 9
    several = completed(text_model, "so", num=3, most=9)
    assert len(set(several.values["text"])) == 3
    assert several.columns == 3


def test_what_is_told_piece_by_piece_is_the_text(text_model: Any) -> None:
    pieces: list[Piece] = []
    result = completed(text_model, "so", "or", most=20, tell=pieces.append)
    for row, text in enumerate(result.values["text"]):
        own = [piece for piece in pieces if piece.row == row]
        assert "".join(piece.text for piece in own) == text
        assert [piece.finish for piece in own if piece.finish] == [result.values["finish"][row]]


def test_ctrl_c_keeps_what_was_written(text_model: Any) -> None:
    pieces: list[str] = []

    def tell(piece: Piece) -> None:
        pieces.append(piece.text)
        if len(pieces) == 4:
            raise KeyboardInterrupt

    result = completed(text_model, "so", most=40, tell=tell)
    assert result.values["finish"] == ["interrupted"]
    assert result.values["num_tokens"] == [4]
    assert result.values["text"][0].startswith("".join(pieces))


def test_a_schema_is_obeyed_by_a_model_that_has_learned_nothing(text_model: Any) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    result = completed(text_model, "", "so", schema=schema, most=40)
    assert all(isinstance(json.loads(text)["n"], int) for text in result.values["text"])
    assert result.values["finish"] == ["end", "end"]
    begun = '{ "n": 1'
    (rest,) = completed(text_model, begun, schema=schema, most=20).values["text"]
    assert str(json.loads(begun + rest)["n"]).startswith("1")
    assert completed(text_model, "so", choice=["yes", "no"]).values["text"][0] in ("yes", "no")
    with pytest.raises(RecipeError, match="one constraint"):
        completed(text_model, "so", regex="a", choice="b")


def test_a_draft_changes_nothing_that_is_most_probable(text_model: Any) -> None:
    """Not what stands already, nor a bundle of the same tokens; one of others is refused."""
    bundle = Bundle(*text_model, Recipe(family={"name": "autoregressive"}))
    asked = {"most": 6, "temperature": 0.0}
    plain = completed(text_model, "abab", **asked).values["text"]
    for draft in ("lookup", bundle):
        assert bundle.task("complete", Item("abab"), draft=draft, **asked).raw == plain
    other = Text(length=8, tokenizer="char")
    other.fit([Item("abc")])
    with pytest.raises(RecipeError, match="other tokens"):
        bundle.task("complete", Item("ab"), draft=Bundle(text_model[0], other, bundle.recipe))
    with pytest.raises(RecipeError, match="--draft models/small"):
        bundle.task("complete", Item("ab"), draft="models/small")
    with pytest.raises(RecipeError, match="a beam draws nothing"):
        bundle.task("complete", Item("ab"), draft="lookup", beam=2)


def test_log_probs_are_those_of_the_model(text_model: Any) -> None:
    family, codec = text_model
    result = completed(text_model, "so", most=5, logprobs=3, temperature=0.5)
    (tokens,) = result.values["logprobs"]
    assert sum(each["log_prob"] for each in tokens) == pytest.approx(result.values["log_prob"][0])
    first = family.predict_next(codec.encode_sequences([Item("so")])[0][None])[0].log_softmax(-1)
    assert [value for _, value in tokens[0]["top"]] == pytest.approx(first.topk(3).values.tolist())


def test_a_long_prompt_loses_its_beginning_and_is_told() -> None:
    prompt = torch.arange(100)
    for most, kept, room in ((None, 36, 12), (4, 44, 4), (40, 24, 24), (12, 36, 12)):
        rest, left = fitted(prompt, most, 48)
        assert (len(rest), left) == (kept, room)
        assert torch.equal(rest, prompt[-kept:])
    assert fitted(prompt[:0], None, 48)[1] == 48
    assert fitted(prompt[:40], None, 48)[1] == 12
    assert fitted(prompt[:10], 5, 48) == (pytest.approx(prompt[:10]), 5)


def test_what_is_cut_off_is_said_once(text_model: Any) -> None:
    result = completed(text_model, "x" * 100, "y" * 60, most=4)
    assert "the first 56 of a prompt of 100" in result.values["cut"]
    assert "cut" not in completed(text_model, "x" * 40, most=4).values


@pytest.mark.parametrize(
    "options",
    [{"most": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"min_p": 2.0}, {"stop": [""]},
     {"repetition_penalty": 0.0}, {"no_repeat": -1}, {"num": 0}, {"top_k": 0}],
)  # fmt: skip
def test_limits_that_cannot_be_are_named(text_model: Any, options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"does not fit|says something"):
        completed(text_model, "so", **options)


def test_it_is_for_sequences_and_says_so() -> None:
    spec = TensorSpec.columns((3, 2))
    family = build_family(Recipe(family={"name": "autoregressive"}), spec, {})
    for name in ("complete", "score", "translate"):
        assert "sequences of tokens" in str(why_not(family, discover.find("task", name)))


# -- stop texts ----------------------------------------------------------------------------------


def told(codec: Text, text: str, stops: Sequence[str]) -> tuple[list[str], WrittenText]:
    """A text byte by byte through what watches for stop texts: what it tells each time."""
    watch, pieces = WrittenText(codec, stops), []
    for token in codec.encode_stream(Item(text))[:-1].tolist():
        if watch.take(token):
            break
        pieces.append(watch.fresh())
    watch.finish()
    return [*pieces, watch.fresh()], watch


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("one\ntwo", ["\n"], "one"),
        ("aab", ["ab"], "a"),
        ("a</p", ["</p>"], "a</p"),
        ("Grüße 日本。Ende", ["。"], "Grüße 日本"),
        ("xEND", ["EN", "END"], "x"),
        ("nothing", ["zz"], "nothing"),
    ],
)
def test_a_stop_text_is_left_out_and_nothing_of_it_is_told(
    text_model: Any, text: str, stops: list[str], expected: str
) -> None:
    pieces, watch = told(text_model[1], text, stops)
    assert "".join(pieces) == watch.so_far == expected
    assert watch.stopped == (expected != text)


def test_what_may_begin_a_stop_text_is_held_back(text_model: Any) -> None:
    pieces, _ = told(text_model[1], "ab|ac", ["|a|"])
    assert pieces == ["a", "b", "", "", "|ac", ""]


# -- score ---------------------------------------------------------------------------------------


def test_bits_are_those_of_the_model_token_by_token(text_model: Any) -> None:
    family, codec = text_model
    rows = codec.encode_sequences([Item(text) for text in TEXTS])
    with torch.no_grad():
        result = score(family, rows, codec, generator=generator(0), per_token=True)
    for row, text, bits in zip(rows, TEXTS, result.values["bits"], strict=True):
        whole = row if codec.spec.end is None else torch.cat([row, torch.tensor([codec.end])])
        expected = 0.0
        for place, token in enumerate(whole.tolist()):
            logits = family.predict_next(whole[None, :place])[0].log_softmax(-1)
            expected -= float(logits[token]) / math.log(2)
        assert bits == pytest.approx(expected, rel=1e-5)
        assert len(text.encode()) == len(row)
    per_byte = result.values["bits_per_byte"]
    assert per_byte[0] == pytest.approx(result.values["bits"][0] / len(rows[0]))
    assert sum(bits for _, bits in result.values["tokens"][1]) == pytest.approx(
        result.values["bits"][1]
    )


def test_bits_of_whole_items_agree_with_those_of_tokens() -> None:
    codec = Text(length=48, form="documents", tokenizer="byte").fit([Item(text) for text in TEXTS])
    recipe = Recipe(family={"name": "autoregressive"}, backbone={"model_dim": 16})
    family = build_family(recipe, codec.spec, {}).eval()
    rows = codec.encode_sequences([Item(text) for text in TEXTS])
    with torch.no_grad():
        one, two = (
            score(family, rows, codec, generator=generator(0), route=route)  # type: ignore[arg-type]
            for route in ("tokens", "log_prob")
        )
    assert one.values["bits"] == pytest.approx(two.values["bits"], rel=1e-5)
    with pytest.raises(RefusedPair, match="text is none"):
        score(family, [torch.zeros(60).long()], codec, generator=generator(0), route="log_prob")


@pytest.mark.parametrize("size", [1, 47, 48, 49, 72, 73, 150])
def test_every_token_of_a_long_text_is_told_once(text_model: Any, size: int) -> None:
    family, codec = text_model
    text = torch.arange(size) % 200
    with torch.no_grad():
        result = score(family, [text], codec, generator=generator(0), per_token=True)
    ends = codec.spec.end is not None
    told = [token for token, _ in result.values["tokens"][0]]
    assert told == [codec.token_text(int(t)) for t in text] + [""] * ends
    bits = [b for _, b in result.values["tokens"][0]]
    for place in {0, size // 2, size - 1}:
        start = 0 if place < 48 else (place - 48) // 24 * 24 + 24
        logits = family.predict_next(text[None, start:place])[0].log_softmax(-1)
        assert bits[place] == pytest.approx(-float(logits[text[place]]) / math.log(2), abs=1e-4)


# -- translate -----------------------------------------------------------------------------------


def with_sources(*names: str) -> tuple[Any, Text]:
    """An untrained model of texts, each of which comes with others."""
    codec = Text(length=24, form="documents", tokenizer="byte").fit([Item("ein Haus")])
    for name in names:
        codec.condition_codecs[name] = Text(length=16, tokenizer="byte").fit([Item("a house")])
    torch.manual_seed(1)
    recipe = Recipe(family={"name": "autoregressive"}, backbone={"model_dim": 16, "num_layers": 1})
    family = build_family(recipe, codec.spec, codec.conditions).eval().requires_grad_(False)
    for weights in family.parameters():
        weights += 0.3 * torch.randn(weights.shape)  # so that sources make a difference
    return family, codec


def test_a_translation_is_a_completion_of_nothing_given_the_source(tmp_path: Path) -> None:
    family, codec = with_sources("source")
    bundle = Bundle(family, codec, Recipe(family={"name": "autoregressive"}))
    file = tmp_path / "sources.txt"
    file.write_text("a house\n\nthe big tree\n")
    translated = bundle.task("translate", file, most=12)
    assert len(translated) == 2
    assert len(set(translated.values["text"])) == 2
    nothing = [Item(""), Item("")]
    cond = {"source": ["a house", "the big tree"]}
    completed = bundle.task("complete", *nothing, cond=cond, most=12, temperature=0.0)
    assert translated.values["text"] == completed.values["text"]
    assert bundle.task("translate", Item("a house"), seed=5, most=12).items == translated.items[:1]
    followed = bundle.task("translate", file, most=12, beam=4)
    per_token = [sum(x.values["log_prob"]) for x in (translated, followed)]
    assert len(followed) == 2
    assert all(map(math.isfinite, per_token))
    with pytest.raises(RecipeError, match="beam does not fit"):
        bundle.task("translate", file, beam=0)


def test_translating_needs_one_text_that_is_meant() -> None:
    task = discover.find("task", "translate")
    assert why_not(with_sources("source")[0], task) is None
    assert "source, title" in str(why_not(with_sources("source", "title")[0], task))
    assert "learned with a text" in str(why_not(with_sources()[0], task))
