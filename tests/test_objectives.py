"""What a trained model is taught beyond its data: rewards, with bounds on what they may do."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import morphogen as mg
from morphogen.core import discover
from morphogen.core.batch import Batch
from morphogen.core.config import read_log
from morphogen.core.draws import draws
from morphogen.core.errors import RecipeError, RefusedPair, TrainingError
from morphogen.core.family import Family, own_state
from morphogen.core.objective import Drawn, Reference
from morphogen.core.random import generator
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.spec import TensorSpec
from morphogen.objectives._likelihoods import log_probs
from morphogen.objectives.grpo import GRPO, distance, relative, share_distinct
from morphogen.training.distributed import Processes
from morphogen.training.loop import Log, Run
from morphogen.training.optimizer import PhaseUpdate
from morphogen.training.options import TrainOptions
from morphogen.training.rewards import Rewarding
from morphogen.training.run import sessions
from morphogen.wrappers.lora import LoRA, adapted_layers

ENDS = TensorSpec.tokens(8, 5, end=4)
WINDOW = TensorSpec.tokens(8, 5, boundary=4)
PICTURE = TensorSpec("real", (1, 3, 3), levels=2, layout="grid")
MODELS = {
    "ends": ("autoregressive", "token_transformer", ENDS),
    "window": ("autoregressive", "token_transformer", WINDOW),
    "steps": ("autoregressive", "rnn", ENDS),
    "picture": ("autoregressive", "transformer", PICTURE),
    "masked": ("masked", "transformer", TensorSpec.tokens(6, 5)),
}


def model(name: str = "ends") -> Family:
    family, backbone, spec = MODELS[name]
    options = {"model_dim": 16, "num_layers": 1}
    torch.manual_seed(0)
    made = build_family(
        Recipe(family={"name": family}, backbone={"name": backbone, **options}), spec, {}
    )
    for parameter in made.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return made.eval()


def items(family: Family, num: int) -> Batch:
    spec, draw = family.spec, generator(1)
    if spec.kind == "real":
        return Batch(torch.randint(2, (num, *spec.shape), generator=draw) * 2.0 - 1)
    return Batch(torch.randint(spec.vocab_size - 1, (num, *spec.shape), generator=draw))


def zeros(drawn: Drawn) -> tuple[list[Any], Tensor]:
    """Pays for one token, and so for one answer: all of it that token."""
    x = drawn.batch.x
    own = torch.ones_like(x, dtype=torch.bool) if drawn.own is None else drawn.own
    return x.tolist(), ((x == 0) & own).flatten(1).float().sum(1) / 8


def taught(
    family: Family, objective: Any, steps: int, batch: Batch, judge: Any = zeros
) -> list[dict[str, float]]:
    """The logs of some steps, taken as a run takes them."""
    objective.put_on(family, Reference(family, copy.deepcopy(family)), judge)
    options = TrainOptions(lr=1e-2)
    update = PhaseUpdate("all", family.named_parameters(), options, Processes.join())
    logs = []
    for step in range(steps):
        told = objective.step(batch, {"all": update}, generator(step))
        logs.append({name: float(value) for name, value in told.items()})
    return logs


# -- the mathematics -------------------------------------------------------------------------------


def test_a_draw_counts_by_how_it_stands_in_its_group() -> None:
    rewards = torch.tensor([[0.0, 1.0, 1.0, 0.0], [3.0, 3.0, 3.0, 3.0], [1.0, 2.0, 3.0, 4.0]])
    found = relative(rewards)
    torch.testing.assert_close(found[0], torch.tensor([-1.0, 1.0, 1.0, -1.0]), atol=1e-3, rtol=0)
    assert bool((found[1] == 0).all())  # nothing to learn where all are worth the same
    torch.testing.assert_close(relative(7 * rewards + 5), found, atol=1e-3, rtol=0)


def test_the_loss_has_the_policy_gradient_and_is_clipped() -> None:
    objective = GRPO(regex="x", clip=0.2, kl_weight=0.5)
    draw = generator(0)
    drawn_at, reference = (-torch.rand(4, 3, generator=draw) for _ in range(2))
    advantages, counted = torch.tensor([[1.0], [-1.0], [2.0], [0.0]]), torch.ones(4, 3)
    counted[0, 2] = 0
    told: dict[str, Any] = {
        "drawn_at": drawn_at, "reference": reference, "advantages": advantages, "counted": counted,
    }  # fmt: skip
    log_p = drawn_at.clone().requires_grad_()
    [grad] = torch.autograd.grad(objective.loss(log_p, **told), log_p)
    away = 0.5 * (1 - (reference - drawn_at).exp())
    torch.testing.assert_close(grad, counted * (away - advantages) / 11)
    moved = (drawn_at + torch.tensor([[0.5], [-0.5], [-0.5], [0.0]])).requires_grad_()
    free = GRPO(regex="x", clip=0.2, kl_weight=0.0)
    [grad] = torch.autograd.grad(free.loss(moved, **told), moved)
    assert bool((grad[0] == 0).all())  # good, and already more probable
    assert bool((grad[1] == 0).all())  # bad, and already less
    assert bool((grad[2] < 0).all())  # good, and less probable than it was: brought back
    [grad] = torch.autograd.grad(free.loss(moved, is_held=True, **told), moved)
    assert bool((grad == 0).all())  # no reward is followed where a step is held


def test_the_distance_is_the_divergence_on_average() -> None:
    p, q = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.2, 0.3, 0.5])
    found = distance(p.log(), q.log())
    assert bool((found >= 0).all())
    torch.testing.assert_close((p * found).sum(), (p * (p / q).log()).sum())


def test_like_draws_are_counted_once() -> None:
    x = torch.tensor([[0, 1], [0, 1], [0, 2], [3, 3], [0, 1], [1, 0], [2, 0], [3, 0]])
    assert share_distinct(Drawn(Batch(x)), 4) == (3 + 4) / 8
    own = torch.tensor([[True, False]] * 8)  # what was asked tells no answers apart
    assert share_distinct(Drawn(Batch(x), own), 4) == (2 + 4) / 8


# -- draws -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_any_family_with_a_likelihood_learns_what_pays(name: str) -> None:
    family = model(name)
    objective = GRPO(regex="x", prompts="none", kl_budget=100, distinct_floor=0, group_size=16)

    def ones(drawn: Drawn) -> tuple[list[Any], Tensor]:
        x = drawn.batch.x.flatten(1)
        return x.tolist(), (x[:, :2] == x.max()).float().mean(1)

    logs = taught(family, objective, 15, items(family, 2), ones)
    first, last = (sum(log["reward"] for log in some) / 5 for some in (logs[:5], logs[-5:]))
    assert last > first + 0.1
    assert logs[0]["kl"] < 1e-4 < logs[-1]["kl"]  # it begins as what it was


def test_what_is_asked_is_gone_on_with_and_not_learned() -> None:
    family, x = model(), torch.tensor([[0, 1, 2, 4, 4, 4, 4, 4], [3, 3, 4, 4, 4, 4, 4, 4]])
    drawn = draws(family, Batch(x), 3, prompts="auto", most=None, generator=generator(0))
    assert drawn.own is not None
    assert drawn.begun
    assert drawn.batch.x[:3, :3].tolist() == [[0, 1, 2]] * 3
    assert drawn.batch.x[3:, :2].tolist() == [[3, 3]] * 3
    assert not bool(drawn.own[:3, :3].any())
    assert bool(drawn.own[:3, 3].all())
    assert bool(drawn.own[3:, 2].all())
    whole = family.token_log_prob(drawn.batch.x)  # type: ignore[operator]
    found = log_probs(family, drawn.batch, 0)
    torch.testing.assert_close(found, (whole * drawn.own)[:, : found.shape[1]])
    window, weight = model("window"), torch.tensor([[0, 0, 0, 1.0, 1, 0, 0, 0]])
    asked = Batch(torch.tensor([[4, 1, 2, 3, 4, 4, 4, 4]]), weight=weight)
    drawn = draws(window, asked, 2, prompts="auto", most=2, generator=generator(0))
    assert drawn.own is not None
    assert not drawn.begun
    assert drawn.batch.x[:, :3].tolist() == [[4, 1, 2]] * 2
    assert drawn.own.sum(1).max() <= 2
    free = draws(window, asked, 2, prompts="none", most=None, generator=generator(0))
    assert free.own is not None
    assert bool(free.own[:, 0].all())


def test_who_tells_no_likelihood_is_refused() -> None:
    vector = TensorSpec("real", (4,), layout="vector")
    for name, reason in (("gan", "no log_prob"), ("flow_matching", "estimate"), ("vae", "VAE")):
        family = build_family(Recipe(family={"name": name}, backbone={"name": "mlp"}), vector, {})
        with pytest.raises(RefusedPair) as error:
            taught(family, GRPO(regex="x"), 1, Batch(torch.zeros(1, 4)),
                   lambda drawn: ([0] * 8, torch.zeros(8)))  # fmt: skip
        assert reason in str(error.value)


def test_an_adapter_is_switched_off_for_the_reference() -> None:
    family = model()
    batch = items(family, 3)
    before = log_probs(family, batch, 0)
    LoRA(rank=2).put_on(family)
    for _, own in adapted_layers(family):
        nn.init.normal_(own.up, std=0.3)
    assert not torch.allclose(log_probs(family, batch, 0), before, atol=1e-3)
    with Reference(family).at_work() as base, torch.no_grad():
        torch.testing.assert_close(log_probs(base, batch, 0), before, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(log_probs(family, batch, 0), before, atol=1e-3)


# -- bounds ----------------------------------------------------------------------------------------


def test_a_reward_that_pays_for_one_answer_is_caught() -> None:
    bounds = {"kl_budget": 3.0, "distinct_floor": 0.5}
    none = {"kl_budget": 1e9, "distinct_floor": 0.0}
    hacked, held = (
        taught(model(), GRPO(regex="x", prompts="none", **own), 50, items(model(), 4))
        for own in (none, bounds)
    )
    assert hacked[-1]["reward"] > 0.8
    assert hacked[-1]["distinct"] < 0.3  # one answer, or little else
    assert hacked[-1]["held"] == 0
    end = held[-25:]
    assert sum(log["distinct"] for log in end) / 25 > 0.5
    assert sum(log["kl"] for log in end) / 25 < 1.3 * bounds["kl_budget"]
    share = sum(log["held"] for log in end) / 25
    watched = GRPO(regex="x").watched["held"]
    assert share > watched.high  # and it is said
    assert sum(log["reward"] for log in end) / 25 > held[0]["reward"] + 0.1  # within the bounds


# -- rewards ---------------------------------------------------------------------------------------

SCHEMA = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}


def paid(items: list[str]) -> list[float]:
    """A reward of a user's."""
    return [float(len(item)) for item in items]


def answered(items: list[str], prompts: list[str]) -> list[float]:
    """One that looks at what was asked."""
    return [float(item == prompt) for item, prompt in zip(items, prompts, strict=True)]


def judged(texts: list[str], **given: str) -> list[float]:
    judge = Rewarding(None, GRPO(**given))  # type: ignore[arg-type]
    return list(judge.rewards(texts, ["ab"] * len(texts)))


def test_rewards_that_are_there(tmp_path: Path) -> None:
    texts = ['{"a": 1}', '{"a": "1"}', '{"a": 1', "NaN", "[]", '{"a": 2, "b": 3}']
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    for told in (json.dumps(SCHEMA), str(tmp_path / "schema.json")):
        assert judged(texts, schema=told) == [1, 0, 0, 0, 0, 1]
    assert judged(["ab", "abc", "xab"], regex="ab|abc") == [1, 1, 0]
    path = f"{__name__}:paid"
    discover.vouch([path, f"{__name__}:answered"])
    assert judged(["ab", ""], reward=path) == [2, 0]
    assert judged(["ab", ""], reward=f"{__name__}:answered") == [1, 0]


def test_programs_are_tested_in_the_sandbox(tmp_path: Path) -> None:
    from morphogen.evaluation.sandbox import guards_missing

    if guards_missing():
        pytest.skip("this machine has no sandbox")
    (tmp_path / "tests.py").write_text("assert double(4) == 8\n")
    good, bad = "def double(x): return 2 * x", "def double(x): return x"
    fenced = f"Here it is:\n```python\n{good}\n```\nDone."
    assert judged([good, bad, fenced, good], tests=str(tmp_path / "tests.py")) == [1, 0, 1, 1]


def test_rewards_that_are_none() -> None:
    for given in ({}, {"regex": "a", "schema": "{}"}):
        with pytest.raises(RecipeError, match="rewarded by one thing"):
            judged([], **given)
    with pytest.raises(RecipeError, match="regular expression"):
        judged([], regex="(")
    with pytest.raises(RecipeError, match="no JSON schema"):
        judged([], schema='{"type": "objekt"}')
    with pytest.raises(RecipeError, match="reward is a function"):
        judged([], reward="paid")
    with pytest.raises(RecipeError, match="was not typed by you"):
        judged([], reward=f"{__name__}:unheard_of")
    with pytest.raises(RecipeError, match="compared with others"):
        GRPO(regex="x", group_size=1)


# -- runs ------------------------------------------------------------------------------------------

SMALL = [
    "backbone.name=token_transformer", "backbone.model_dim=16", "backbone.num_layers=1",
    "backbone.ngram_slots=16", "modality.form=documents", "modality.tokenizer=byte",
    "train.num_previews=0", "train.batch_size=16",
]  # fmt: skip
TEACH = [
    "objective.regex=.*b.*", "objective.prompts=none", "objective.group_size=4",
    "objective.most=12", "train.batch_size=2", "train.num_previews=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("objectives")
    rows = [{"text": "abc"[i % 3] * (1 + i % 4)} for i in range(80)]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mg.train(root / "rows.jsonl", "autoregressive", settings=SMALL, budget="60steps",
             out=root / "base")  # fmt: skip
    return root


@pytest.mark.parametrize("adapter", ["lora", None])
def test_a_run_that_goes_on_ends_with_the_same_weights(root: Path, adapter: str | None) -> None:
    given: dict[str, Any] = {"start": root / "base", "adapter": adapter, "objective": "grpo",
                             "settings": TEACH, "budget": "5steps"}  # fmt: skip
    events: list[str] = []

    def note(log: Log) -> None:
        events.append(log.event or "")

    whole = mg.train(root / "rows.jsonl", out=root / f"whole-{adapter}", on_log=note, **given)
    out = root / f"stopped-{adapter}"
    for held in sessions(root / "rows.jsonl", out=out, **given):

        def stop(log: Log, run: Run = held.run) -> None:
            run.stop = log.step >= 2

        held.train(stop)
    again = mg.train(None, out=out, resume=True)
    a, b = own_state(whole.family), own_state(again.family)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert again.recipe.objective["name"] == "grpo"
    assert any(event.startswith("reward ") for event in events)  # draws are shown
    assert any(event.startswith("held-out items, reward: base ") for event in events)
    [values] = [line for line in read_log(out / "log.jsonl") if "reward" in line][-1:]
    assert {"reward", "kl", "distinct", "length", "held"} <= values.keys()


def test_an_objective_is_put_on_a_trained_model(root: Path) -> None:
    with pytest.raises(RecipeError, match="none is named"):
        mg.train(root / "rows.jsonl", objective="grpo", settings=TEACH, out=root / "never")
    with pytest.raises(RecipeError, match="Did you mean 'grpo'"):
        mg.train(root / "rows.jsonl", start=root / "base", objective="gpro", out=root / "never")
    path = f"{__name__}:wrong"
    with pytest.raises(TrainingError, match="number for each item"):
        mg.train(root / "rows.jsonl", start=root / "base", objective="grpo", out=root / "never",
                 settings=[*TEACH[1:], f"objective.reward={path}"])  # fmt: skip
    assert not (root / "never" / "config.json").exists()


def wrong(items: list[str]) -> list[float]:
    """Fewer numbers than items."""
    return [1.0]


def test_rewards_that_never_differ_are_told_with_what_was_drawn(root: Path) -> None:
    events: list[str] = []
    mg.train(root / "rows.jsonl", start=root / "base", adapter="lora", objective="grpo",
             settings=[*TEACH, "objective.regex=never", "objective.most=2", "train.num_previews=0"],
             budget="4steps", out=root / "unpaid",
             on_log=lambda log: events.append(log.event or ""))  # fmt: skip
    [place] = [i for i, event in enumerate(events) if "ALARM same rewards" in event]
    assert "reward 0 for every draw since the first step" in events[place]
    assert "objective.reward=module:function" in events[place]
    assert events[place + 1].startswith("reward 0: ")
    metrics = json.loads((root / "unpaid" / "metrics.json").read_text())
    assert metrics["alarms"][0]["kind"] == "same rewards"
