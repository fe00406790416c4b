"""Two models and a judge: win rates with ties and intervals, and votes that are blind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from morphogen.cli.app import main
from morphogen.comparison.judges import Pair, by_votes, judge_of
from morphogen.comparison.judging import compare_models
from morphogen.core import discover
from morphogen.core.errors import DataError, RecipeError
from morphogen.evaluation.intervals import binomial_interval
from small_models import answering

PAIRS = [Pair("ab", "abc", "?", "abc"), Pair("same", "same", "?", "same"), Pair("no", "", "?", "n")]


def longer(items: list[str]) -> list[float]:
    """A judge of a user's."""
    return [float(len(item)) for item in items]


def as_asked(items: list[str], prompts: list[str]) -> list[float]:
    """One that looks at the prompt."""
    return [float(item in prompt) for item, prompt in zip(items, prompts, strict=True)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("judged")
    rows = [{"prompt": f"Is it {i} yours?", "completion": "yours"} for i in range(12)]
    (root / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answering("hi").save(root / "hi")
    answering("yours").save(root / "yours")
    return root


def judged(root: Path, judge: str, *bundles: str, **options: Any) -> Any:
    discover.vouch(judge)
    names = bundles or ("hi", "yours")
    return compare_models([root / name for name in names], root / "asked.jsonl", judge,
                          **{"out": root / "out", "num": 8, "most": 8, **options})  # fmt: skip


def test_judges_say_who_wins_and_what_is_a_tie(tmp_path: Path) -> None:
    discover.vouch([f"{__name__}:longer"])
    assert judge_of(f"{__name__}:longer", tmp_path, 0)(PAIRS) == [1.0, 0.5, 0.0]
    assert judge_of("chrf", tmp_path, 0)(PAIRS) == [1.0, 0.5, 0.0]
    assert judge_of("rouge_l", tmp_path, 0)(PAIRS) == [1.0, 0.5, 0.5]
    with pytest.raises(RecipeError, match="no such judge"):
        judge_of("chfr", tmp_path, 0)
    with pytest.raises(DataError, match="this data has none"):
        judge_of("chrf", tmp_path, 0)([Pair("a", "b")])


def test_models_answer_the_same_prompts_and_one_is_better(root: Path) -> None:
    found = judged(root, "chrf", "hi", "yours", "hi")
    yours, same = found.rates
    assert (yours.wins, yours.ties, yours.losses) == (8, 0, 0)
    assert (yours.rate, yours.verdict) == (1.0, "better")
    assert (same.ties, same.rate, same.verdict) == (8, 0.5, "a tie")
    assert (yours.low, yours.high) == binomial_interval(8, 8)
    assert judged(root, f"{__name__}:as_asked").rates[0].wins == 8
    told = [json.loads(line) for line in (root / "out" / "answers.jsonl").open()]
    assert len(told) == 8
    assert told[0]["reference"] == "yours"
    assert told[0][str(root / "yours")] == "yours"
    assert "Is it" in told[0]["asked"]
    assert json.loads((root / "out" / "judged.json").read_text())["protocol"]["pairs"] == 8


def test_votes_are_blind_and_count_for_whom_they_were_cast(tmp_path: Path) -> None:
    pairs = [Pair(f"a{i}", f"b{i}", f"p{i}") for i in range(20)]
    shown: list[str] = []

    def likes_b(prompt: str | None, first: str, second: str) -> int:
        shown.append(first[0])
        return 1 if first[0] == "b" else 2

    ballot = tmp_path / "ballot.jsonl"
    assert by_votes(pairs, ballot, 3, likes_b) == [1.0] * 20
    assert set(shown) == {"a", "b"}  # either stands first
    assert by_votes(pairs, ballot, 3, None) == [1.0] * 20  # read again, nobody is asked
    assert by_votes(pairs, tmp_path / "ties", 3, lambda *_: 0) == [0.5] * 20
    with pytest.raises(DataError, match="other answers"):
        by_votes(pairs[:-1], ballot, 3, None)


def test_a_ballot_is_filled_in_by_hand(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"8 of 8(.|\n)*--judge .*ballot"):
        judged(root, "votes", out=tmp_path)
    ballot = tmp_path / "ballot.jsonl"
    lines = [json.loads(line) for line in ballot.open()]
    assert "models" not in ballot.read_text()
    for line in lines:
        line["vote"] = 1 if line["1"] == "yours" else 2
    ballot.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert judged(root, str(ballot), out=tmp_path).rates[0].wins == 8


def test_the_verb_judges_and_says_what_is_missing(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["compare", str(root / "hi"), str(root / "yours")]
    with pytest.raises(SystemExit):
        main(given)
    assert "--judge chrf" in capsys.readouterr().err
    more = ["--data", str(root / "asked.jsonl"), "--num", "4", "--most", "8", "--seed", "1"]
    with pytest.raises(SystemExit) as ended:
        main([*given, *more, "--judge", "chrf", "--out", str(root / "verb")])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "100%" in said
    assert "4 won, 0 tied, 0 lost" in said
