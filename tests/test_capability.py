"""Capabilities: what a task asks for, and why a model does not have it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from morphogen.core import capability
from morphogen.core.capability import (
    CanDenoise,
    CanEncode,
    CanFill,
    CanReconstruct,
    CanSample,
    HasLogProb,
    members,
    missing,
    needs,
    why_not,
)
from morphogen.testing.oracles import (
    GaussianOracle,
    TwoGaussians,
    TwoStateChain,
    TwoStyles,
    TwoTones,
)


def one(model: CanSample, *, generator: torch.Generator) -> None:
    """Asks for one capability."""


def either(model: CanFill | CanDenoise, x: Any) -> None:
    """Asks for one of two."""


def nothing(model, x):
    """Does not say."""


def test_needs_reads_the_annotation() -> None:
    assert needs(one) == (CanSample,)
    assert needs(either) == (CanFill, CanDenoise)
    with pytest.raises(TypeError, match="annotate 'model'"):
        needs(nothing)


def test_members_include_inherited_ones() -> None:
    assert members(CanSample) == ["sample"]
    assert members(CanReconstruct) == ["decode", "encode", "latent_spec"]
    assert members(HasLogProb) == ["log_prob", "log_prob_is"]


def test_missing_names_what_is_absent() -> None:
    assert missing(TwoStateChain(), CanEncode) == ["encode", "latent_spec"]
    assert missing(GaussianOracle.example(), CanEncode) == []


def test_why_not_is_a_sentence() -> None:
    assert why_not(GaussianOracle.example(), either) is None
    assert why_not(TwoStateChain(), either) is None
    reason = why_not(TwoGaussians(), either)
    assert reason == "needs CanFill (no fill) or CanDenoise (no denoise, path)"


def test_the_oracles_cover_every_capability() -> None:
    models = [GaussianOracle.example(), TwoGaussians(), TwoStateChain(), TwoTones(), TwoStyles()]
    protocols = [
        value
        for name, value in vars(capability).items()
        if name.startswith(("Can", "Has")) and isinstance(value, type)
    ]
    assert len(protocols) >= 11
    for each in protocols:
        assert any(not missing(model, each) for model in models), each
