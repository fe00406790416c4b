"""Answers that were preferred to others: how they are read, and what a model learns of them."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import morphogen as mg
from morphogen.core.batch import Batch
from morphogen.core.errors import DataError, RecipeError, RefusedPair
from morphogen.core.family import Family
from morphogen.core.objective import Reference
from morphogen.core.random import generator
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.spec import TensorSpec
from morphogen.modalities.text.chat.preferences import preference_of, preferred_form
from morphogen.objectives._preferences import Ratios, log_ratio, ratios, rightly
from morphogen.objectives.dpo import DPO
from morphogen.objectives.kto import KTO, mismatched
from morphogen.training.distributed import Processes
from morphogen.training.optimizer import PhaseUpdate
from morphogen.training.options import TrainOptions
from morphogen.training.run import prepare
from morphogen.wrappers.lora import LoRA

# -- rows ------------------------------------------------------------------------------------------

HI, GOOD, BAD = "Hi", "Hello!", "Go away."
ROWS: list[dict[str, Any]] = [
    {"prompt": HI, "chosen": GOOD, "rejected": BAD},
    {"instruction": HI, "Chosen": GOOD, "Rejected": BAD},
    {
        "conversations": [{"from": "human", "value": HI}],
        "chosen": {"from": "gpt", "value": GOOD},
        "rejected": {"from": "gpt", "value": BAD},
    },
    {
        "chosen": [{"role": "user", "content": HI}, {"role": "assistant", "content": GOOD}],
        "rejected": [{"role": "user", "content": HI}, {"role": "assistant", "content": BAD}],
    },
    {
        "prompt": [{"role": "user", "content": HI}],
        "chosen": json.dumps([{"role": "assistant", "content": GOOD}]),
        "rejected": [{"role": "assistant", "content": BAD}],
    },
]


@pytest.mark.parametrize("row", ROWS)
def test_pairs_are_read_in_the_usual_forms(row: dict[str, Any]) -> None:
    found = preference_of(row)
    sides = [[m.content for m in each.messages] for each in (found.chosen, found.rejected) if each]
    assert sides == [[HI, GOOD], [HI, BAD]]


def test_judgements_are_read() -> None:
    said = [{"role": "user", "content": HI}, {"role": "assistant", "content": GOOD}]
    good, bad = (preference_of({"messages": said, "label": value}) for value in (True, "false"))
    assert good.chosen == bad.rejected
    assert good.rejected is bad.chosen is None
    assert preference_of({"prompt": HI, "completion": GOOD, "label": "true"}).chosen == good.chosen
    assert preferred_form(["text", "label"]) == preferred_form(["prompt", "chosen"]) == ()
    for row, reason in (
        ({"prompt": HI, "chosen": GOOD, "rejected": GOOD}, "the same"),
        ({"prompt": HI, "completion": GOOD, "label": "perhaps"}, "neither"),
        ({"prompt": HI, "chosen": "", "rejected": BAD}, "empty"),
    ):
        with pytest.raises(DataError, match=reason):
            preference_of(row)


# -- the mathematics -------------------------------------------------------------------------------

WINDOW = TensorSpec.tokens(8, 5, boundary=4)


def model(seed: int = 0) -> Family:
    torch.manual_seed(seed)
    recipe = Recipe(
        family={"name": "autoregressive"},
        backbone={"name": "token_transformer", "model_dim": 16, "num_layers": 1},
    )
    return build_family(recipe, WINDOW, {}).eval()


def pairs(num: int = 6) -> Batch:
    """Questions of three tokens, answers of two: the better ones are of the token 0."""
    asked = torch.randint(4, (num, 3), generator=generator(0))
    weight = torch.tensor([[0.0, 0, 0, 1, 1, 0, 0, 0]]).expand(num, -1)

    def answered(token: int) -> Tensor:
        answer = torch.full((num, 2), token)
        return torch.cat([asked, answer, torch.full((num, 3), 4)], 1)

    return Batch(answered(0), weight=weight, other=Batch(answered(1), weight=weight))


def test_dpo_is_the_closed_form() -> None:
    family, other, batch = model(), model(1), pairs()
    reference = Reference(family, copy.deepcopy(other))
    found = ratios(family, reference, batch)

    def log_p(of: Any, x: Tensor) -> Tensor:
        told: Tensor = of.token_log_prob(x)
        return told[:, 3:5].sum(1)

    assert batch.other is not None
    margin = (log_p(family, batch.x) - log_p(other, batch.x)) - (
        log_p(family, batch.other.x) - log_p(other, batch.other.x)
    )
    torch.testing.assert_close(found.good - found.bad, margin)
    torch.testing.assert_close(DPO(beta=0.3).loss(margin), -torch.sigmoid(0.3 * margin).log())
    smooth = DPO(beta=0.3, smoothing=0.2).loss(margin)
    right, wrong = (-torch.sigmoid(sign * 0.3 * margin).log() for sign in (1, -1))
    torch.testing.assert_close(smooth, 0.8 * right + 0.2 * wrong)
    zero = torch.zeros(1, requires_grad=True)
    [grad] = torch.autograd.grad(DPO(beta=0.3).loss(zero).sum(), zero)
    assert float(grad) == pytest.approx(-0.15)  # -beta / 2
    assert float(DPO().loss(torch.zeros(1))) == pytest.approx(math.log(2))
    with pytest.raises(RecipeError, match="below a half"):
        DPO(smoothing=0.5)


def test_kto_is_the_closed_form() -> None:
    good, bad = torch.tensor([2.0, -1.0, 0.0]), torch.tensor([0.0, 3.0, 0.5])
    has = torch.tensor([True, True, False]), torch.tensor([False, True, True])
    found = KTO(beta=0.5, good_weight=2.0).loss(Ratios(good, bad, *has), torch.tensor(0.4))

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    each = [2 * (1 - sigmoid(0.5 * (r - 0.4))) for r in (2.0, -1.0)]
    each += [1 - sigmoid(0.5 * (0.4 - r)) for r in (3.0, 0.5)]
    assert float(found) == pytest.approx(sum(each) / 4, rel=1e-5)
    accuracy = rightly(Ratios(good, bad, *has))
    assert accuracy.tolist() == [1.0, 0.0, 0.0]  # gained; gained less than the other; bad gained


def test_answers_stand_behind_questions_of_others() -> None:
    batch = pairs(3)
    mixed = mismatched(batch)
    for row in range(3):
        assert mixed.x[row, :3].tolist() == batch.x[row - 1, :3].tolist()
        assert mixed.x[row, 3:].tolist() == batch.x[row, 3:].tolist()
        assert mixed.weight[row].tolist() == [0, 0, 0, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("objective", [DPO(beta=0.5), KTO(beta=0.5)])
@pytest.mark.parametrize("adapter", [False, True])
def test_better_answers_become_more_probable(objective: Any, adapter: bool) -> None:
    family, batch = model(), pairs()
    before = copy.deepcopy(family)
    if adapter:
        LoRA(rank=4).put_on(family)
    other = None if adapter else copy.deepcopy(family)
    objective.put_on(family, Reference(family, other), None)
    assert objective.scores(family, batch, generator(0)).tolist() == [0.5] * 6
    named = family.named_parameters()
    update = PhaseUpdate("all", named, TrainOptions(lr=1e-2), Processes.join())
    logs = [objective.step(batch, {"all": update}, generator(i)) for i in range(12)]
    assert float(logs[-1]["loss"]) < float(logs[0]["loss"]) - 0.03
    with torch.no_grad():
        assert objective.scores(family, batch, generator(0)).tolist() == [1.0] * 6
        told, _ = log_ratio(family, Reference(family, before), batch)
        assert bool((told > 0).all())
        if adapter:  # also once its work is in the weights
            assert family.adapter is not None
            family.adapter.merge(family)
            assert objective.scores(family, batch, generator(0)).tolist() == [1.0] * 6
            again, _ = log_ratio(family, objective.reference, batch)
            torch.testing.assert_close(again, told, atol=1e-4, rtol=1e-4)


def test_what_is_no_preference_is_refused() -> None:
    family, batch = model(), pairs()
    objective = DPO()
    objective.put_on(family, Reference(family, copy.deepcopy(family)), None)
    with pytest.raises(RefusedPair, match="which of two answers"):
        objective.step(Batch(batch.x, weight=batch.weight), {}, generator(0))
    assert batch.other is not None
    alone = Batch(batch.x, weight=batch.weight * 0, other=batch.other)
    with pytest.raises(RefusedPair, match="--objective kto"):
        objective.step(alone, {}, generator(0))


# -- runs ------------------------------------------------------------------------------------------

SMALL = [
    "backbone.name=token_transformer", "backbone.model_dim=16", "backbone.num_layers=1",
    "backbone.ngram_slots=16", "modality.length=128", "modality.tokenizer=byte",
    "train.num_previews=0", "train.batch_size=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of conversations, and preferences for polite answers, in pairs and one by one."""
    root = tmp_path_factory.mktemp("preferences")
    rows, paired, single = [], [], []
    for i in range(60):
        asked, good, bad = f"Number {i}?", f"It is {i}, please.", f"{i} is it."
        rows += [{"prompt": asked, "completion": each} for each in (good, bad)]
        paired.append({"prompt": asked, "chosen": good, "rejected": bad})
        single.append({"prompt": asked, "completion": (bad, good)[i % 2], "label": bool(i % 2)})
    for name, some in (("chat", rows), ("pairs", paired), ("single", single)):
        lines = "".join(json.dumps(row) + "\n" for row in some)
        (root / f"{name}.jsonl").write_text(lines)
    mg.train(root / "chat.jsonl", "autoregressive", settings=SMALL, budget="40steps",
             out=root / "base")  # fmt: skip
    return root


def test_rows_become_pairs_in_the_tokens_of_the_base(root: Path) -> None:
    run = prepare(root / "pairs.jsonl", start=root / "base", objective="dpo", out=root / "never")
    codec: Any = run.data.codec
    base: Any = mg.open(str(root / "base")).codec
    assert codec.template.source == base.template.source
    batch = run.data.train.batch(torch.arange(4))
    assert batch.other is not None
    for side, word in ((batch, "please."), (batch.other, "is it.")):
        for x, weight in zip(side.x, side.weight, strict=True):
            learned = x[weight > 0]
            text = codec.tokenizer.decode(learned[learned != codec.end].numpy()).decode()
            assert text.removesuffix("<|im_end|>").endswith(word)
            assert "Number" in codec.decode(x)
            assert "Number" not in text
            assert int(learned[-1]) == codec.end
    part = run.data.train.take(torch.tensor([2, 0])).batch(torch.tensor([1]))
    assert part.other is not None
    assert torch.equal(part.other.x[0], batch.other.x[0])
    single = mg.load(root / "single.jsonl", codec=codec).train
    told = single.batch(torch.arange(len(single)))
    assert told.other is not None
    good, bad = ((side.weight > 0).any(1) for side in (told, told.other))
    assert bool((good ^ bad).all())
    assert bool(good.any())
    assert bool(bad.any())


@pytest.mark.parametrize(
    ("objective", "data", "adapter"), [("dpo", "pairs", "lora"), ("kto", "single", None)]
)
def test_preferences_are_learned_and_told_of_held_out_pairs(
    root: Path, objective: str, data: str, adapter: str | None
) -> None:
    taught = mg.train(
        root / f"{data}.jsonl", start=root / "base", adapter=adapter, objective=objective,
        settings=["train.num_previews=0", "train.lr=3e-3", "train.batch_size=8"],
        budget="20steps", out=root / objective,
    )  # fmt: skip
    held_out = taught.metrics["beside"]["held_out"]
    assert held_out["base"]["value"] == 0.5
    assert held_out["tuned"]["value"] > 0.8
    assert mg.open(str(root / objective)).recipe.objective["name"] == objective
