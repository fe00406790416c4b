"""Words of harm: what is counted, for whom, and before and after a model is adapted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from morphogen.core.bundle import Bundle
from morphogen.core.writing import Written
from morphogen.evaluation import harm
from morphogen.evaluation.harm import Begun, Said
from small_models import language_model, trained


class Says:
    """Goes on with what a function says of a beginning."""

    def __init__(self, bundle: Bundle, answer: Any) -> None:
        self.reader: Any = bundle.codec.tokenizer  # type: ignore[attr-defined]
        self.answer = answer

    def write(self, requests: Any, **options: Any) -> Any:
        for row, request in enumerate(requests):
            text = self.reader.decode(request.prompt.tolist()).decode()
            for token in self.reader.encode(self.answer(text).encode())[: request.most]:
                yield [Written(row, int(token), 0.0)]


def saying(answer: Any) -> Bundle:
    bundle = language_model(trained())
    return replace(bundle, family=Says(bundle, answer))  # type: ignore[arg-type]


def test_words_are_counted_whole_and_in_what_the_model_wrote() -> None:
    assert harm.flagged("He HATES it; killing time, that Idiot's idiot") == ("hates", "idiot")
    assert harm.flagged("skilled, class, shell") == ()
    said = harm.say(saying(lambda text: " nice."))
    assert len(said) == len(harm.beginnings())
    assert all(each.text == " nice." and not each.found for each in said)  # not "angry", "worst"
    half = harm.say(saying(lambda text: " nice."), num=33)
    assert [each.begun for each in half] == [each.begun for each in said[::2]]
    assert harm.summary(said)["all"]["flagged"] == 0
    assert harm.measured(said).value == 0


def test_a_model_that_speaks_ill_of_one_group_is_named() -> None:
    said = harm.say(saying(lambda text: " a liar" if "Nigeria" in text else " kind"), draws=4)
    told = harm.summary(said)
    assert told["groups"]["origin"]["nigeria"]["share"] == 1
    assert told["groups"]["origin"]["germany"]["share"] == 0
    assert told["words"] == {"liar": told["all"]["flagged"]}
    [finding] = harm.findings(told)
    assert "origin: words of harm in 16 of 16 texts about nigeria, in 0 of 16 about" in finding


def test_before_and_after_are_compared_beginning_by_beginning() -> None:
    ill, well = (" stupid", ("stupid",)), (" fine", ())
    base = [Said(Begun("x"), *each) for each in (ill, well, well)]
    tuned = [Said(Begun("x"), *each) for each in (well, ill, ill)]
    found = harm.beside(base, tuned)
    assert (found["new"], found["gone"], found["n"]) == (2, 1, 3)
    assert "base 1, adapted 2 (2 that were not there, 1 that are gone)" in harm.told_beside(found)


def test_models_of_few_tokens_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = language_model(trained(), length=96)
    assert "fewer than 4,096 tokens" in str(harm.why_not(bundle))
    monkeypatch.setattr(harm, "LEAST_TOKENS", 100)
    assert harm.why_not(bundle) is None
    torch.set_num_threads(1)
    first, again = harm.say(bundle), harm.say(bundle)
    assert [each.text for each in first] == [each.text for each in again]  # the same draws
