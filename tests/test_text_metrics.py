"""Metrics of texts: by hand, and equal to what the libraries' own front doors say."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import torch

from morphogen.core.errors import MeasurementError
from morphogen.core.metric import Items, References, TextReferences, Texts
from morphogen.core.spec import TensorSpec
from morphogen.data.dataset import Data
from morphogen.evaluation._fields import given_of_fields
from morphogen.evaluation.scores import measure
from morphogen.metrics.code_form import code_form
from morphogen.metrics.text_overlap import signatures, text_overlap
from morphogen.metrics.text_statistics import text_statistics, words
from morphogen.metrics.transcript_errors import transcript_errors

SPEC = TensorSpec.tokens(1, 1000)


def sets(kind: Any, generated: list[str], reference: list[str]) -> Any:
    """Texts by number: the metric sees them decoded."""
    every = [*generated, *reference]
    numbers = torch.arange(len(every))[:, None]
    first, second = numbers[: len(generated)], numbers[len(generated) :]
    return kind(SPEC, first, second, second, decode=lambda x: [every[i] for i in x.flatten()])


def longest_repeat(text: str) -> int:
    """By trying every run."""
    found = words(text)
    pairs = itertools.combinations(range(len(found) + 1), 2)
    runs = [found[i:j] for i, j in pairs]
    return max((len(run) for run in runs if runs.count(run) > 1), default=0)


def test_statistics_by_hand() -> None:
    draw = random.Random(0)
    texts = [" ".join(draw.choices("abc", k=draw.randint(0, 16))) for _ in range(12)]
    texts.append("The cat, the cat, the cat sat.")
    real = ["the cat", "a b , ."]
    found = text_statistics(sets(Texts, texts, real))
    cut = list(map(words, texts))
    assert cut[-1] == ("The", "cat", ",", "the", "cat", ",", "the", "cat", "sat", ".")
    total = sum(map(len, cut))
    for n in (1, 2, 3):
        runs = [text[i : i + n] for text in cut for i in range(len(text) - n + 1)]
        assert found[f"distinct_{n}"] == pytest.approx(len(set(runs)) / len(runs))
    fours = [[text[i : i + 4] for i in range(len(text) - 3)] for text in cut]
    twice = sum(own.count(run) > 1 for own in fours for run in own)
    assert found["repeated_4grams"] == pytest.approx(twice / sum(map(len, fours)))
    assert found["longest_repeat"] == pytest.approx(sum(map(longest_repeat, texts)) / len(texts))
    assert found["text_words"] == pytest.approx(total / len(texts))
    new = sum(word not in {"the", "cat", "a", "b", ",", "."} for text in cut for word in text)
    assert found["new_words"] == pytest.approx(new / total)
    with pytest.raises(MeasurementError, match="no words"):
        text_statistics(sets(Texts, ["", " "], real))


REFERENCES = [
    "a man sits on a bench in the park .", "two dogs run through the snow .",
    "the girl is reading a book at home .", "a boat lies in the harbour .",
]  # fmt: skip
SAMPLES = [
    "a man is sitting on a bench in a park .", "two dogs run in the snow .",
    "a girl reads a book .", "the harbour is empty .",
]  # fmt: skip


CODE = ["def f(x):\n    return [x]\n", "a = {1: (2, 3)}", "for i in range(3):\n    print(i)"]
PROSE = ["It was late (so late) that nobody came.", "word", "3", "and, so, on"]


def test_code_parses_where_real_texts_are_code() -> None:
    samples = [CODE[0], "def f(x:\n    return x", "b = [1, 2)", "x = 1\n\ty = 2"]
    assert code_form(sets(Texts, samples, CODE)) == {"parses": 0.25, "balanced": 0.5}
    assert code_form(sets(Texts, samples, PROSE)) == {}
    script = ["function f(x) { return [x]; }", "if (a) { b(); }"]
    assert code_form(sets(Texts, [*script, "f({)}", " \tg()"], script)) == {"balanced": 0.5}


def test_overlap_is_what_the_libraries_say() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rouge2", "rougeL"])
    found = text_overlap(sets(TextReferences, SAMPLES, REFERENCES))
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(SAMPLES, [REFERENCES]).score)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(SAMPLES, [REFERENCES]).score)
    each = [scorer.score(*pair) for pair in zip(REFERENCES, SAMPLES, strict=True)]
    for name, key in (("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
        assert found[name] == pytest.approx(sum(one[key].fmeasure for one in each) / len(each))
    same = text_overlap(sets(TextReferences, REFERENCES, REFERENCES))
    assert same["bleu"] == pytest.approx(100)
    assert same["rouge_l"] == pytest.approx(1)


def test_the_signature_is_in_the_protocol() -> None:
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    pairs = sets(TextReferences, SAMPLES * 2, REFERENCES * 2)
    found = measure("text_overlap", pairs, {"seed": 0}, 0)
    assert {each.name for each in found} >= {"bleu", "chrf", "rouge_l"}
    assert found[0].protocol["bleu"] == signatures()["bleu"]
    assert "nrefs:1|case:mixed" in found[0].protocol["bleu"]
    assert found[0].floor == pytest.approx(100)


def test_what_is_no_text_says_so() -> None:
    labels = torch.arange(4) % 2
    x = torch.arange(4 * 16, dtype=torch.uint8).view(4, 4, 4)
    pictures = Data.from_tensors(x, labels, test=x + 100, test_labels=labels)
    texts = Data.from_tensors(REFERENCES, labels, test=SAMPLES, test_labels=labels)
    given: Any = {Items: lambda: None, References: lambda: None}
    none = given_of_fields(given, ["label"], pictures)
    assert none[Texts] == none[TextReferences] == "these items are no texts"
    found = given_of_fields(given, ["label"], texts)
    assert found[TextReferences] == "no text is asked for by more than a label"
    assert callable(found[Texts])


def test_error_rates_are_jiwers_over_all_texts() -> None:
    jiwer = pytest.importorskip("jiwer")
    written = ["the cat sat", "a dog", "nothing was said"]
    said = ["the cat sat down", "the dog", " "]
    found = transcript_errors(sets(TextReferences, written, said))
    assert found["word_error_rate"] == pytest.approx(2 / 6)
    assert found["word_error_rate"] == pytest.approx(jiwer.wer(said[:2], written[:2]))
    assert found["char_error_rate"] == pytest.approx(jiwer.cer(said[:2], written[:2]))
    with pytest.raises(MeasurementError, match="no text has a word"):
        transcript_errors(sets(TextReferences, ["a"], [""]))
