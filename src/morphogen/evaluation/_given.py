"""What an evaluation has for metrics to measure, by the kind of sets that they ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from morphogen.core.bundle import Bundle
from morphogen.core.encoded import Encoded
from morphogen.core.matching import matches
from morphogen.core.metric import (
    Aligned,
    Draws,
    Features,
    Items,
    Likelihoods,
    Ranks,
    References,
    Sets,
)
from morphogen.core.random import generator, mix_seed
from morphogen.data.dataset import Data
from morphogen.evaluation._draws import draws_of, why_no_draws
from morphogen.evaluation._fields import given_of_fields
from morphogen.evaluation._ranks import ranks_of, why_no_ranks
from morphogen.evaluation._references import references_of
from morphogen.evaluation._samples import Drawn, Judged, items_of
from morphogen.evaluation.alignment import (
    aligned,
    can_be_aligned,
    may_have_learned,
    named_judge,
    pair_judge,
)
from morphogen.evaluation.likelihood import Likelihood


def sets_of(
    record: dict[str, Any],
    x: Encoded | None,
    judged: Judged | None,
    likelihood: Likelihood | None,
    *,
    about: tuple[Bundle, Data],
    seed: int,
    judge: Bundle | None = None,
) -> dict[type[Sets], Callable[[], Sets] | str]:
    """What there is for metrics to measure, by kind: what gives it, or why there is none. Of pairs,
    `judge` says it where one is named."""
    given: dict[type[Sets], Callable[[], Sets] | str] = {}
    bundle, data = about
    given[Likelihoods] = "the model has no normalised likelihood of these items"
    given[Ranks] = why_no_ranks(bundle, data) or (lambda: ranks_of(bundle, data, seed))
    if x is not None and judged is not None:
        samples = judged.samples
        given[Features] = lambda: samples.sets
        given[Items] = lambda: items_of(x, samples, data)
        given[References] = lambda: references_of(x, samples, data, seed)
        named = judge if judge is not None and matches(judge) else None
        given[Aligned] = (None if named else can_be_aligned(data)) or (
            lambda: _aligned(record, (x, samples.asked), about, seed, named)
        )
        given[Draws] = why_no_draws(bundle, data) or (lambda: draws_of(bundle, data, seed))
        given |= given_of_fields(given, samples.asked, data)
    if likelihood is not None:
        given[Likelihoods] = likelihood.sets
    return given


def _aligned(
    record: dict[str, Any],
    drawn: Drawn,
    about: tuple[Bundle, Data],
    seed: int,
    named: Bundle | None,
) -> Aligned:
    """Generated items and what they were asked for, as a judge of pairs places them: the one that
    was named, or one of this data's own."""
    bundle, data = about
    judge = named_judge(named, data) if named else pair_judge(data, beside=bundle.path)
    record["pair_judge"] = judge.facts()
    record["protocol"]["pair_judge_sha256"] = judge.weights_hash
    if named and (caution := may_have_learned(named, data)):
        record["warnings"].append(caution)
    return aligned(judge, *drawn, data, generator(mix_seed(seed, 17)))
