"""Measurements compare only when they were taken in the same way, and ties are called ties."""

from __future__ import annotations

import json
import math

import pytest
import torch

from morphogen.core.errors import MeasurementError
from morphogen.core.measurement import Measurement
from morphogen.core.metric import Features
from morphogen.core.random import generator, randn
from morphogen.evaluation.scores import STUDENT_T, check_enough, measure

PROTOCOL = {"data_digest": "a", "features_sha256": "f", "seed": 0, "model": "vae"}


def score(value: float, spread: float = 1.0, better: bool | None = False, **changed: object):
    return Measurement(
        "distance", value, 100, better, value - spread, value + spread,
        interval="by hand", floor=2.0, protocol=PROTOCOL | changed,
    )  # fmt: skip


def test_the_better_one_is_found_and_a_tie_is_a_tie():
    assert score(5.0).better_than(score(8.0)) is True
    assert score(8.0).better_than(score(5.0)) is False
    assert score(5.0).better_than(score(6.0)) is None
    assert score(8.0, better=True).better_than(score(5.0, better=True)) is True
    assert score(8.0, better=True, model="gan", seed=7).better_than(score(5.0, better=True)) is True


def test_another_protocol_is_an_error_that_names_the_difference():
    with pytest.raises(MeasurementError, match="data_digest: a") as refused:
        score(5.0).better_than(score(8.0, data_digest="b", features_sha256="g"))
    assert "and 1 more" in str(refused.value)
    assert "data_digest, features_sha256" in str(refused.value)
    other = Measurement("precision", 0.5, 10, True, protocol=PROTOCOL)
    with pytest.raises(MeasurementError, match="score: distance"):
        score(5.0).better_than(other)
    with pytest.raises(MeasurementError, match="no better or worse"):
        score(5.0, better=None).better_than(score(6.0, better=None))


def test_the_ratio_is_to_a_floor_where_low_is_good():
    assert score(5.0).ratio == 2.5
    assert score(5.0, better=True).ratio is None
    assert Measurement("distance", 5.0, 3, False, floor=0.0).ratio is None


def test_it_goes_through_json():
    one = score(5.0)
    assert Measurement.from_json(json.loads(json.dumps(one.to_json()))) == one
    bare = Measurement("n", 1.0, 2)
    assert set(bare.to_json()) == {"name", "value", "n", "protocol"}
    with pytest.raises(ValueError, match="two ends"):
        Measurement("n", 1.0, 2, low=0.0)


def test_intervals_cover_what_other_draws_give():
    """The mean over fresh draws of the same laws lies within the interval nearly always."""

    def sets(seed: int) -> Features:
        a, b, c = (randn((400, 4), generator(3 * seed + i)) for i in range(3))
        return Features(a + 0.7, c, b)

    runs = [{m.name: m for m in measure("frechet", sets(seed), {}, 0)} for seed in range(24)]
    for name in ("frechet", "frechet_ratio"):
        found = [run[name] for run in runs]
        middle = sorted(each.value for each in found)[12]
        covered = sum((each.low or 0) <= middle <= (each.high or 0) for each in found)
        assert covered >= 20, name
        # And they are no wider than they need be.
        spread = torch.tensor([math.log(each.value) for each in found]).std()
        widths = [math.log((each.high or 0) / each.value) for each in found]
        assert sum(widths) / len(widths) < 2 * STUDENT_T * spread, name


def test_a_copy_of_the_law_has_a_ratio_near_one_and_few_items_are_refused():
    a, b, c = (randn((300, 4), generator(i)) for i in range(3))
    found = {m.name: m for m in measure("frechet", Features(a, c, b), PROTOCOL, 0)}
    ratio = found["frechet_ratio"]
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low < 1 < ratio.high
    assert found["frechet"].protocol == PROTOCOL
    with pytest.raises(MeasurementError, match="too few items"):
        check_enough(Features(a[:3], c, b))


def test_copies_of_held_out_items_are_no_success_of_the_two_sample_test():
    draw = generator(0)
    reference, train = randn((200, 4), draw), randn((200, 4), draw)
    copies = reference + 1e-3 * randn((200, 4), draw)
    for generated, note in ((copies, "below chance"), (randn((200, 4), draw), "")):
        (found,) = measure("classifier_two_sample", Features(generated, reference, train), {}, 0)
        assert found.caution.startswith(note)
        assert bool(found.caution) == bool(note)
