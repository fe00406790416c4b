"""What is learned of documents, and of questions on them; and how an index is judged by such."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("snowballstemmer")

from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.core.errors import BundleError, DataError, RefusedPair
from morphogen.core.recipe import Recipe, build_family, resolve
from morphogen.modalities.text import Text
from morphogen.systems.knowledge import examples, learn_embedder, learn_reader
from morphogen.systems.knowledge.answering import answer
from morphogen.systems.knowledge.embedders import BundleEmbedder, NoEmbedder, embedder_of
from morphogen.systems.knowledge.evaluating import evaluate
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.questions import Question, is_exact, overlap, read_questions
from morphogen.systems.knowledge.reader import Reader
from morphogen.systems.knowledge.reading import read_into

NAMES = [first + last for first in "bcdfghklmn" for last in ("ano", "ela", "iru", "omi", "uta")]
COLOURS = ("red", "blue", "green", "black", "white")
GROUND = {"red": "warm and bright", "blue": "cold and wet", "green": "full of leaves",
          "black": "dark at noon", "white": "covered with snow"}  # fmt: skip


def colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def fact(number: int) -> str:
    name = NAMES[number].title()
    return f"{name} came in by the gate. The key of {name} is {colour(number)} today. It rained."


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """A document for each of fifty people, who have a key of some colour."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "docs").mkdir()
    for number, name in enumerate(NAMES):
        (folder / "docs" / f"{name}.txt").write_text(fact(number))
    index = Index.make(folder / "index", NoEmbedder())
    read_into(index, folder / "docs")
    return index


def questions(numbers: range) -> list[Question]:
    return [
        Question(f"Which colour has the key of {NAMES[n].title()}?",
                 (f"docs/{NAMES[n]}.txt",), None, (colour(n),))
        for n in numbers
    ]  # fmt: skip


def encoder() -> Bundle:
    """An untrained one that looks both ways."""
    torch.manual_seed(0)
    codec = Text(form="documents", tokenizer="bpe", vocab_size=420, length=64)
    codec.fit(Item(f"{each.text} {fact(n)}") for n, each in enumerate(questions(range(50))))
    recipe = Recipe(
        {"name": "text"}, {"name": "masked"},
        {"name": "token_transformer", "model_dim": 48, "num_layers": 1},
    )  # fmt: skip
    recipe = resolve(recipe, codec.spec)
    return Bundle(build_family(recipe, codec.spec, {}), codec, recipe)


def test_an_index_finds_a_published_embedder_again(tmp_path: Path, monkeypatch: Any) -> None:
    """Imported as it lies there, it has no folder of its own: the index remembers where it was."""
    there = {"minilm": Bundle.open(encoder().save(tmp_path / "encoder"))}
    there["minilm"].path = None  # as what was imported is

    def opened(place: str) -> Bundle:
        if place not in there:
            raise BundleError("no bundle here", where=place)
        return there[place]

    monkeypatch.setattr("morphogen.systems.knowledge.embedders.opened_or_imported", opened)
    Index.make(tmp_path / "index", embedder_of("minilm")).store.close()
    again = Index.open(tmp_path / "index")
    assert again.embedder.name == "minilm"
    again.store.close()
    there.clear()
    with pytest.raises(BundleError, match=r"(?s)what embedded this index.*no bundle.*minilm"):
        Index.open(tmp_path / "index")


@pytest.fixture(scope="module")
def reader(keys: Index) -> Reader:
    made = Reader(encoder())
    groups = list(examples.from_questions(keys, questions(range(40))))
    learn_reader.train(made, groups, seconds=60, lr=4e-3, most_epochs=5)
    return made


def test_places_of_words_are_kept(reader: Reader) -> None:
    text = "  The key, of  Bela\u2019s\nhouse (12.5 %)"
    laid = reader.laid("Which?", text)
    assert laid.tokens[0] == laid.tokens[laid.begins - 1] == reader.mark
    assert laid.tokens[-1] == reader.end
    words = [
        text[start:end] for start, end in dict.fromkeys(zip(laid.starts, laid.ends, strict=True))
    ]
    assert words == [
        "The",
        "key",
        ",",
        "of",
        "Bela",
        "\u2019",
        "s",
        "house",
        "(",
        "12",
        ".",
        "5",
        "%",
        ")",
    ]
    long = reader.laid("Which?", "word " * 1000)
    assert len(long.tokens) <= reader.most
    assert reader.read("Which?", ["", " "])[0].score == 0.0


def test_spans_are_learned_and_found_in_other_documents(keys: Index, reader: Reader) -> None:
    told = [answer(keys, each.text, reader=reader, enough=0.0) for each in questions(range(40, 50))]
    right = [each.text == colour(n) for n, each in zip(range(40, 50), told, strict=True)]
    assert np.mean(right) > 0.7
    for each in told:
        (verdict,) = each.verdicts
        assert verdict.quote is not None
        passage = each.hits[verdict.quote.passage].passage
        assert passage.text[verdict.quote.start : verdict.quote.end] == verdict.quote.text
        assert each.text in verdict.quote.text


def test_the_bound_keeps_a_tenth_of_what_is_not_answered(keys: Index, reader: Reader) -> None:
    held = questions(range(20, 50))
    told = learn_reader.choose_bound(reader, keys, held)
    assert told["held_questions"] == 30
    wrong = [
        answer(keys, each.text, reader=reader, num=5).score >= reader.bound
        for each in (Question(f"Who is {name}?") for name in ("Zorro", "Qwark"))
    ]
    assert not all(wrong)
    away = [learn_reader._score(reader, keys, q, (), away=True) for q in held]
    assert np.mean([score >= reader.bound for score in away]) <= learn_reader.MOST_FALSE
    assert sum(score >= reader.bound for score in away) <= learn_reader.most_wrong(30) == 0
    with pytest.raises(DataError, match="too few questions"):
        learn_reader.choose_bound(reader, keys, held[:5])


def test_a_bound_keeps_its_word_nine_times_in_ten() -> None:
    """Whatever the scores are: the share that is let through, of bounds that are chosen on few."""
    draw = np.random.default_rng(0)
    for num in (22, 60, 124):
        scores = np.sort(draw.random((4000, num)), axis=1)[:, ::-1]
        through = 1 - scores[:, learn_reader.most_wrong(num)]  # of all there are
        assert np.mean(through > learn_reader.MOST_FALSE) <= learn_reader.RISK + 0.02
    assert learn_reader.most_wrong(124) == 7


def test_documents_that_are_found_together_are_on_one_side(tmp_path: Path) -> None:
    asked = []
    for topic in ("river", "castle", "engine", "garden", "planet"):
        for number in range(4):
            (tmp_path / f"{topic}{number}.txt").write_text(f"The {topic} number {number}.")
            asked.append(Question(f"What {topic}?", (f"{tmp_path.name}/{topic}{number}.txt",)))
    index = Index.make(tmp_path / "index", NoEmbedder())
    read_into(index, tmp_path)
    _, held = examples.divided(index, asked)
    assert len(held) == 4
    assert len({each.text for each in held}) == 1


def test_a_reader_is_the_same_after_it_was_kept(reader: Reader, tmp_path: Path) -> None:
    reader.bound, reader.facts = 0.25, {"questions": 3}
    again = Reader.open(reader.save(tmp_path / "reader"))
    asked = "Which colour has the key of Bano?", [fact(0), fact(7), "It rained."]
    assert again.read(*asked) == reader.read(*asked)
    assert (again.bound, again.facts) == (0.25, {"questions": 3})
    with pytest.raises(BundleError, match="no reader here"):
        Reader.open(tmp_path)
    (tmp_path / "reader" / "reader.json").write_text("{}")
    with pytest.raises(BundleError):
        Reader.open(tmp_path / "reader")


def test_documents_are_divided_and_questions_are_made_up(keys: Index) -> None:
    both = [*questions(range(10)), *questions(range(10))]
    learned, held = examples.divided(keys, both)
    assert len(learned) == 16
    assert not {each.places for each in learned} & {each.places for each in held}
    made = list(examples.from_documents(keys, 20))
    assert len(made) > 10
    for first, *others in made:
        assert first.answers
        assert not any(each.answers for each in others)
    with pytest.raises(DataError, match="nothing answers"):
        learn_reader.train(Reader(encoder()), [made[0][1:]], seconds=1)


def test_who_reads_has_to_look_both_ways() -> None:
    codec = Text(form="documents", tokenizer="byte").fit([Item("a b c")])
    recipe = resolve(Recipe({"name": "text"}, {"name": "autoregressive"}), codec.spec)
    writes = Bundle(build_family(recipe, codec.spec, {}), codec, recipe)
    with pytest.raises(RefusedPair, match="both ways"):
        Reader(writes)


# -- an embedder of one's own ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Passages on grounds of five colours: some name the colour, some only what goes with it."""
    folder, draw = tmp_path_factory.mktemp("grounds"), np.random.default_rng(0)
    (folder / "docs").mkdir()
    for number in range(150):
        shade = colour(number)
        words = [*GROUND[shade].split(), *([shade] * (number % 3 > 0)), *draw.choice(NAMES, 8)]
        draw.shuffle(words)
        text = f"Report of {draw.choice(NAMES)}\n\nThe ground was {' '.join(words)}."
        (folder / "docs" / f"{number}.txt").write_text(text)
    index = Index.make(folder / "index", NoEmbedder())
    read_into(index, folder / "docs")
    return index


def test_an_embedder_learns_from_documents_alone(grounds: Index, tmp_path: Path) -> None:
    """Words that stand together lie near each other, so that passages are found that do not hold
    the word that was asked for."""
    seen: list[float] = []
    bundle = learn_embedder.learn(
        grounds, seconds=60, dim=16, vocab_size=700, num_steps=40,
        told=lambda step, loss: seen.append(loss),
    )  # fmt: skip
    assert np.mean(seen[-5:]) < np.mean(seen[:5])
    embedder = BundleEmbedder(Bundle.open(bundle.save(tmp_path / "mine")))
    assert embedder.dim == 16
    texts = [GROUND[shade] for shade in COLOURS]
    near = embedder.embed(list(COLOURS)) @ embedder.embed(texts).T
    assert (near.argmax(1) == np.arange(5)).mean() >= 0.8
    assert np.allclose(np.linalg.norm(embedder.embed(["", "snow"]), axis=1)[1], 1, atol=1e-5)


def test_too_few_passages_teach_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One line.")
    index = Index.make(tmp_path / "index", NoEmbedder())
    read_into(index, tmp_path / "a.txt")
    with pytest.raises(DataError, match="too few passages"):
        learn_embedder.learn(index, seconds=1)


# -- judging an index ------------------------------------------------------------------------------


def test_answers_are_held_against_those_that_are_right() -> None:
    assert is_exact("The  Blue key.", ["a blue key"])
    assert not is_exact("blue keys", ["blue key"])
    assert overlap("the blue key of Ada", ["blue key"]) == pytest.approx(2 * 2 / (4 + 2))
    assert overlap("", ["blue"]) == overlap("red", []) == 0.0


def test_an_index_is_judged_by_questions(keys: Index, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"question": each.text, "places": each.places, "answers": each.answers}
        for each in questions(range(30))
    ]
    rows += [{"question": "Which planet is made of cheese and smoke?", "answers": []}] * 3
    rows += [{"question": f"key of {NAMES[3]}", "quote": f"key of {NAMES[3].title()}"}]
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    record = evaluate(keys, read_questions(file))
    scores = record["scores"]
    assert scores["recall_1"]["value"] == scores["mrr"]["value"] == scores["ndcg_10"]["value"] == 1
    assert scores["recall_1"]["n"] == 31
    assert scores["recall_1"]["low"] > 0.8
    assert scores["ndcg_10_shuffled"]["value"] < 0.2
    assert scores["found_by_itself"]["value"] == 1
    assert scores["holds_answer"]["value"] == scores["answered"]["value"] == 1
    assert scores["false_answers"]["value"] == 0
    assert scores["unsupported"]["value"] == 0
    assert scores["f1_of_silence"]["value"] == 0
    assert scores["f1"]["value"] > scores["f1_of_first_sentence"]["value"]
    assert record["warnings"] == []


def test_gains_are_discounted_by_their_place(keys: Index) -> None:
    """Of two documents that answer, one is found first and one not at all."""
    both = Question(f"key of {NAMES[3]}", (f"docs/{NAMES[3]}.txt", "docs/nowhere.txt"))
    scores = evaluate(keys, [both])["scores"]
    assert scores["ndcg_10"]["value"] == pytest.approx(1 / (1 + 1 / np.log2(3)))
    assert scores["recall_10"]["value"] == 0.5
    assert scores["mrr"]["value"] == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "damaged"),
        ("[]", "the whole"),
        ('{"question": 3}', "question"),
        ('{"question": " "}', "empty"),
        ('{"question": "a", "places": "b"}', "places"),
        ("", "no questions"),
    ],
)
def test_a_line_that_asks_nothing_is_named(line: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(DataError, match=reason):
        read_questions(file)


def test_questions_of_which_nothing_is_known_judge_nothing(keys: Index) -> None:
    with pytest.raises(DataError, match="nothing is known"):
        evaluate(keys, [Question("Why?")])
