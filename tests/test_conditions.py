"""What is said of items: which of it becomes a condition, and what keeps it through a bundle."""

from __future__ import annotations

import json

import pytest

from morphogen.core.codec import Report
from morphogen.core.codec_storage import codec_tensors, describe_codec, rebuild_codec
from morphogen.core.errors import DataError, RefusedPair
from morphogen.core.spec import TensorSpec
from morphogen.data.conditions import fit_conditions
from morphogen.modalities.image import Image


def codec(said: list[dict[str, object]], report: Report | None = None) -> Image:
    made = Image()
    made.spec = TensorSpec("real", (1, 2, 2), levels=256)
    fit_conditions(made, said, report or Report(""))
    return made


def labelled(*names: object) -> list[dict[str, object]]:
    return [{"label": name} for name in names]


def test_labels_become_a_condition() -> None:
    made = codec(labelled("cat", "dog", "cow"))
    assert made.conditions == {"label": TensorSpec.label(3)}
    assert made.class_names("label") == ["cat", "cow", "dog"]
    assert made.class_names("colour") == []
    assert made.encode_condition("label", "dog").item() == 2
    with pytest.raises(DataError, match="Did you mean 'cow'"):
        made.encode_condition("label", "coww")
    with pytest.raises(RefusedPair, match="no condition 'colour'"):
        made.encode_condition("colour", 1)


def test_one_class_or_few_labels_are_no_condition() -> None:
    for said, reason in (
        (labelled("cat", "cat"), "one class only"),
        ([*labelled("cat", "dog"), {}, {}, {}], "2 have one"),
    ):
        report = Report("")
        assert codec(said, report).conditions == {}
        assert reason in report.facts["labels_unused"]
    assert codec([*labelled("cat", "dog"), {}, {}]).conditions


def test_fitting_again_forgets_what_was() -> None:
    made = codec(labelled("cat", "dog"))
    fit_conditions(made, [{}, {}], Report(""))
    assert made.conditions == {}


def test_conditions_are_rebuilt_with_the_codec() -> None:
    made = codec(labelled(10, 2))
    described = json.loads(json.dumps(describe_codec(made)))
    again = rebuild_codec(described, codec_tensors(made))
    assert again.conditions == made.conditions
    assert again.class_names("label") == ["2", "10"]
