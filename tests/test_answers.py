"""Answers are held against what they come from, by rules that anyone can redo."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("snowballstemmer")

from morphogen.systems.knowledge.answering import SILENT, answer
from morphogen.systems.knowledge.embedders import NoEmbedder
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.reading import read_into
from morphogen.systems.knowledge.sentences import said, sentences
from morphogen.systems.knowledge.verifying import Evidence, verify

PASSAGES = [
    "The notice period is three months. It may not be shortened by Dr. Meyer or the board.",
    "In 2025 the Harbour Bridge carried 1,250.50 tonnes before it was closed. Traffic rose by 4%.",
]


def test_sentences_end_where_they_end() -> None:
    text = (
        'Dr. A. Meyer came at 5 p.m. to the U.S. embassy. "Was he late?" He was not!\n\nNo. 4 was.'
    )
    found = sentences(text)
    assert [span.text for span in found][1:] == ['"Was he late?"', "He was not!", "No. 4 was."]
    assert all(text[span.start : span.end] == span.text for span in found)
    assert sentences("") == []
    wrapped = "It goes on in\nthe next line.\n- An item\n- Another\n| a | row |"
    assert [span.text for span in sentences(wrapped)] == [
        "It goes on in\nthe next line.", "- An item", "- Another", "| a | row |",
    ]  # fmt: skip


def test_numbers_are_one_however_they_are_written() -> None:
    told = said("1,250.50 and 1.250,50, the 21st, 3 and -4.5")
    assert told.numbers == {1250.5, 21.0, 3.0, -4.5}
    assert said("three months").numbers == said("3 months").numbers == {3.0}
    assert said("three hundred twenty-four of 2 thousand").numbers == {324.0, 2.0, 1000.0}
    assert said("\u2014 | \u2014").all_words == frozenset()  # a rule of a table is a sentence too
    assert said("It does not deny that it never was.").denies is False
    assert said("It isn't.").denies is True


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ("The notice period is 3 months.", None),
        ("The bridge carried 1250.5 tonnes in 2025.", None),
        ("Dr. Meyer may not shorten it.", None),
        ("The notice period is four months.", "numbers that are not there: 4"),
        ("The notice period is not three months.", "one denies what the other says"),
        ("Traffic fell by 4%.", "the opposite is there of: fell"),
        ("The Tower Bridge carried 1,250.50 tonnes.", "names that are not there"),
        ("Salaries are paid by the bank on Fridays.", "nothing there is like it"),
        ("Weekend surcharges apply to traffic.", "of its words are there"),
    ],
)
def test_a_claim_is_refused_for_a_reason(claim: str, reason: str | None) -> None:
    verdict = Evidence(PASSAGES).verify(claim)
    assert verdict.supported == (reason is None), verdict
    if reason is not None:
        assert reason in "; ".join(verdict.why_not)
    if verdict.quote is not None:
        text = PASSAGES[verdict.quote.passage]
        assert text[verdict.quote.start : verdict.quote.end] == verdict.quote.text


def test_the_same_text_has_the_same_verdicts() -> None:
    text = "The notice period is three months. Traffic rose by 4%. Nobody knows."
    assert verify(text, PASSAGES) == verify(text, PASSAGES)
    assert [each.supported for each in verify(text, PASSAGES)] == [True, True, False]


def test_answers_are_quoted_marked_or_refused(tmp_path: Path) -> None:
    for number, text in enumerate(PASSAGES):
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "docs" / f"{number}.txt").write_text(text)
    index = Index.make(tmp_path / "index", NoEmbedder())
    read_into(index, tmp_path / "docs")
    told = answer(index, "How long is the notice period?")
    assert told.text == "The notice period is three months."
    (verdict,) = told.verdicts
    assert verdict.quote is not None
    passage = told.hits[verdict.quote.passage].passage
    assert passage.text[verdict.quote.start : verdict.quote.end] == told.text
    assert answer(index, "Who painted the ceiling of the chapel?").text == SILENT
    assert answer(index, "notice period", groups=["board"]).text == told.text
    wrote = "The notice period is three months. It ends on 4 May."
    told = answer(index, "How long is the notice period?", writer=lambda rules, asked: wrote)
    assert [each.supported for each in told.verdicts] == [True, False]
    assert told.unsupported == 0.5
    silent = answer(index, "How long is the notice period?", writer=lambda r, a: f"{SILENT}.")
    assert silent.is_silent
