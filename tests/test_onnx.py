"""Graphs of ONNX: what the bundle computes, for as many items as there are."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from morphogen.core.bundle import Bundle
from morphogen.core.errors import BundleError, MorphogenError, RecipeError, RefusedPair
from morphogen.core.spec import TensorSpec
from morphogen.interop.export import export
from morphogen.interop.export_onnx import export_onnx, graphs_of
from small_models import language_model, trained
from test_adapt import family_of


@pytest.fixture(scope="module")
def writer() -> Bundle:
    return language_model(trained(), model_dim=16, num_layers=1, num_heads=2)


def run(path: Path, **given: Any) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, given)[0])


@torch.no_grad()
def test_next_tokens_are_those_of_the_bundle(writer: Bundle, tmp_path: Path) -> None:
    exported = export(writer, tmp_path / "out", format="onnx")
    record = json.loads((tmp_path / "out" / "export.json").read_text())["graphs"]["predict_next"]
    assert record["inputs"] == {"x": "int64 B x N"}
    assert 0 <= record["max_difference"] <= record["tolerance"]
    assert "predict_next(x)" in exported.text()
    family: Any = writer.family
    for num, length in ((1, 3), (4, 11)):
        tokens = torch.arange(num * length).view(num, length)
        found = run(tmp_path / "out" / "predict_next.onnx", x=tokens.numpy())
        assert torch.allclose(found, family.predict_next(tokens), atol=1e-5)


@torch.no_grad()
def test_a_step_of_sampling_is_that_of_the_bundle(writer: Bundle, tmp_path: Path) -> None:
    family: Any = family_of("unet")[0]
    export_onnx(replace(writer, family=family), tmp_path / "out")
    x, t = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(5)), torch.rand(3)
    found = run(tmp_path / "out" / "denoise.onnx", x=x.numpy(), t=t.numpy())
    assert torch.allclose(found, family.denoise(x, t), atol=1e-4)
    assert np.isfinite(found.numpy()).all()


class Fickle(nn.Module):
    """Decodes otherwise each time."""

    spec = latent_spec = TensorSpec("real", (2,), layout="vector")
    conditions: dict[str, TensorSpec] = {}
    times = 0

    def decode(self, z: Tensor) -> Tensor:
        self.times += 1
        return z + self.times


def test_what_computes_something_else_is_not_handed_out(writer: Bundle, tmp_path: Path) -> None:
    fickle: Any = Fickle()
    with pytest.raises(BundleError, match="something else of decode"):
        export_onnx(replace(writer, family=fickle), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_graph_says_why(
    writer: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare: Any = nn.Identity()
    bare.spec = writer.family.spec
    with pytest.raises(RefusedPair, match="nothing that is a graph"):
        graphs_of(replace(writer, family=bare))
    with pytest.raises(RecipeError, match="no such format"):
        export(writer, tmp_path / "out", format="onyx")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(BundleError, match="not empty"):
        export(writer, tmp_path / "full", format="onnx")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MorphogenError, match="by the package onnxscript"):
        export(writer, tmp_path / "out", format="onnx")
