"""Soft prompts: what stands before every text, and nothing else of the model, is learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import morphogen as mg
from morphogen.core.bundle import Bundle
from morphogen.core.errors import RefusedPair
from morphogen.core.family import own_state
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.spec import TensorSpec
from morphogen.core.writing import Limits, Request
from morphogen.interop.export import export
from morphogen.wrappers.prompt import Prompt
from small_models import language_model, trained

END, NUM = 6, 3
SMALL = {"model_dim": 32, "num_layers": 2, "num_heads": 2}


def prompted(**options: Any) -> Any:
    """A family over windows of 16 tokens, with a prompt of three vectors."""
    recipe = Recipe(family={"name": "autoregressive"},
                    backbone={"name": "token_transformer", **SMALL, **options})  # fmt: skip
    torch.manual_seed(0)
    family: Any = build_family(recipe, TensorSpec.tokens(16, 7, boundary=END), {})
    Prompt(num=NUM).put_on(family)
    return family.eval()


@pytest.mark.parametrize("across", [False, True])
def test_steps_say_what_the_whole_says(across: bool) -> None:
    network = prompted(across_documents=across).network
    x = torch.tensor([[1, 2, 3, END, 4, 5, 1, END, 2, 3]])
    whole, kept = network(x)[0].T, network.kept(1)
    in_parts = torch.cat([network.advance(part, kept)[0] for part in x.split(3, dim=1)])
    rows = network.rows(1)
    for n in range(1, 11):  # a row that begins anew, and one that goes on
        told = rows.begin(0, x[0, :n])
        torch.testing.assert_close(told, whole[n - 1], atol=1e-5, rtol=1e-5)
    rows.cut(0, 4)
    again = [rows.advance([int(token)], [0])[0] for token in x[0, 4:]]
    torch.testing.assert_close(torch.stack(again), whole[4:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(in_parts, whole, atol=1e-5, rtol=1e-5)


def test_every_document_of_a_window_sees_the_prompt_and_no_other() -> None:
    network = prompted().network
    x = torch.tensor([[1, 2, 3, END, 4, 5]])
    other = torch.tensor([[5, 1, 1, END, 4, 5]])
    with torch.no_grad():
        before = network(x)
        torch.testing.assert_close(network(other)[..., 4:], before[..., 4:])
        network.prompt += 1
    assert not torch.allclose(network(x)[..., 4:], before[..., 4:], atol=1e-3)


def test_nothing_but_the_prompt_is_learned_and_it_can_be_switched_off() -> None:
    family, plain = prompted(), prompted()
    plain.network.prompt = None
    x = torch.randint(7, (2, 16))
    family.token_log_prob(x).sum().backward()
    assert own_state(family).keys() == {"network.prompt"}
    assert [n for n, p in family.named_parameters() if p.grad is not None] == ["network.prompt"]
    with family.adapter.switched_off(family), torch.no_grad():
        torch.testing.assert_close(family.token_log_prob(x), plain.token_log_prob(x))
    assert family.network.num_before == NUM


def test_what_was_learned_opens_on_its_base_and_without(tmp_path: Path) -> None:
    (tmp_path / "dogs.txt").write_text("".join(f"A dog ran to door {i % 5}! " for i in range(300)))
    base = language_model(trained())
    base.save(tmp_path / "base")
    mine = mg.train(tmp_path / "dogs.txt", start=tmp_path / "base", adapter="prompt",
                    settings=["train.num_previews=0", "wrapper.num=4", "train.batch_size=4"],
                    budget="25steps", out=tmp_path / "mine")  # fmt: skip
    opened = Bundle.open(tmp_path / "mine")
    whole = Bundle.open(opened.whole().save(tmp_path / "whole"))
    x = mg.load(tmp_path / "dogs.txt", codec=base.codec).train.batch(torch.arange(2)).x
    told = [each.family.token_log_prob(x) for each in (mine, opened, whole)]  # type: ignore[attr-defined]
    assert torch.equal(told[0], told[1])
    assert torch.equal(told[0], told[2])
    assert float(told[0].mean()) > float(base.family.token_log_prob(x).mean()) + 0.2  # type: ignore[operator]
    assert whole.recipe.backbone["prompt"] == 4
    asked = Request(x[0, :5], 6, Limits(temperature=0))
    written = [[w.token for step in each.family.write([asked]) for w in step]  # type: ignore[operator]
               for each in (opened, whole)]  # fmt: skip
    assert written[0] == written[1]


def test_peft_opens_a_prompt_and_says_the_same(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = language_model(trained())
    export(base, tmp_path / "base")
    Prompt(num=4).put_on(base.family)
    export(base, tmp_path / "adapter", format="peft")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    theirs = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    x = torch.randint(250, (2, 10))
    with torch.no_grad():
        logits = base.family.network(x).transpose(1, 2)  # type: ignore[operator,union-attr]
        there = theirs(x).logits[:, 4:]
    torch.testing.assert_close(there, logits, atol=1e-4, rtol=1e-4)
    with pytest.raises(RefusedPair, match=r"backbone\.prompt = 4"):
        export(base, tmp_path / "whole")


def test_networks_that_read_no_words_say_why_not() -> None:
    recipe = Recipe(family={"name": "autoregressive"}, backbone={"name": "rnn", "model_dim": 16})
    family = build_family(recipe, TensorSpec.tokens(16, 7, boundary=END), {})
    with pytest.raises(RefusedPair, match="rnn reads no row of tokens"):
        Prompt().put_on(family)
    with pytest.raises(RefusedPair, match="learned places"):
        prompted(position="learned")
    with pytest.raises(RefusedPair, match="begins with 3 vectors already"):
        Prompt().put_on(prompted())
