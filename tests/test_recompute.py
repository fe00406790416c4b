"""Blocks that compute again what they did not keep: the same training, in less memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from morphogen.backbones.token_transformer import TokenTransformer
from morphogen.backbones.transformer import Transformer
from morphogen.core.errors import TrainingError
from morphogen.core.random import generator
from morphogen.core.spec import TensorSpec
from morphogen.training.memory import kept_bytes
from morphogen.training.run import prepare

torch.set_num_threads(1)

TEXT = TensorSpec.tokens(12, 9, boundary=8)
OUT = TensorSpec("real", (9, 12), layout="sequence")
SMALL: dict[str, Any] = {"model_dim": 16, "num_layers": 3, "dropout_prob": 0.2}


@pytest.mark.parametrize("kind", [TokenTransformer, Transformer])
def test_gradients_are_the_same_bit_by_bit(kind: Any) -> None:
    """Draws of dropout included."""
    torch.manual_seed(0)
    network = kind(TEXT, OUT, causal=True, **SMALL).train()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, found = torch.randint(9, (4, 12), generator=generator(0)), []
    for recompute in (False, True):
        network.recompute = recompute
        torch.manual_seed(1)
        loss = network(x).square().mean()
        found.append(torch.autograd.grad(loss, list(network.parameters()), allow_unused=True))
    assert any(grad is not None and grad.any() for grad in found[0])
    for kept, again in zip(*found, strict=True):
        assert (kept is None and again is None) or torch.equal(kept, again)


def test_it_keeps_less_for_the_backward_pass(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the harbour lay still, and the boats in it.\n" * 200)
    kept = []
    for recompute in ("no", "yes"):
        run = prepare(
            corpus, "autoregressive", out=tmp_path / recompute, budget="2steps",
            settings=["backbone.num_layers=6", "backbone.model_dim=32",
                      "modality.form=windows", f"train.recompute={recompute}"],
        ).run  # fmt: skip
        kept.append(kept_bytes(run, "all", 2))
    assert kept[1] < kept[0] / 3


def test_networks_that_cannot_say_so(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("a,b\n" + "".join(f"{n},{n % 7}\n" for n in range(60)))
    with pytest.raises(TrainingError, match="no network of this model") as raised:
        prepare(table, "vae", out=tmp_path / "run", budget="2steps",
                settings=["backbone.name=mlp", "train.recompute=yes"])  # fmt: skip
    assert "MLP" in str(raised.value.found)
