"""A chain trains each family in the latents of the one before, as two commands would by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import morphogen as mg
from morphogen.core.errors import BundleError, RecipeError, RefusedPair, TrainingError
from morphogen.core.random import generator, rand
from morphogen.core.recipe import Recipe
from morphogen.training.chain import is_finished, stage_folders, stage_recipes
from morphogen.training.loop import Log, Run
from morphogen.training.run import sessions

CHAIN = "autoencoder+flow_matching"
SETTINGS = [
    "backbone.name=mlp", "backbone.model_dim=16", "backbone.num_layers=1", "family.latent_dim=4",
    "family.baseline=none", "train.batch_size=16", "train.num_previews=0",
    "train.checkpoint_every=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def data() -> mg.Data:
    """Random grey pictures of 8 x 8."""
    x = (255 * rand((120, 8, 8), generator(0))).byte().numpy()
    return mg.load(x)


def weights(bundle: mg.Bundle) -> dict[str, torch.Tensor]:
    return {**bundle.family.state_dict(), **bundle.codec.tensors()}


def equal(one: mg.Bundle, other: mg.Bundle) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(data: mg.Data, tmp_path_factory: pytest.TempPathFactory) -> mg.Bundle:
    out = tmp_path_factory.mktemp("whole") / "run"
    return mg.train(data, CHAIN, budget="90steps", settings=SETTINGS, out=out)


def test_the_last_stage_has_two_shares_of_the_budget(data: mg.Data) -> None:
    for name, budget, parts in [
        (CHAIN, "90s", ["30s", "60s"]),
        (CHAIN, "10m", ["200s", "400s"]),
        (CHAIN, "20steps", ["7steps", "13steps"]),
        ("autoencoder+autoencoder+flow_matching", "2epochs", ["0.5epochs", "0.5epochs", "1epochs"]),
        (CHAIN, "60d", ["1728000s", "3456000s"]),
    ]:
        recipe = Recipe(family={"name": name}, train={"budget": budget})
        assert [own.train["budget"] for own in stage_recipes(recipe, data)] == parts
        own = "+".join(parts)
        named = Recipe(family={"name": name}, train={"budget": own})
        assert [each.train["budget"] for each in stage_recipes(named, data)] == parts
        with pytest.raises(RecipeError, match="as many budgets as stages"):
            stage_recipes(Recipe(family={"name": name}, train={"budget": own + "+1s"}), data)
    single = Recipe(family={"name": "vae"}, train={"budget": "90s"})
    assert stage_recipes(single, data) == [single]


def test_options_go_to_the_stages_that_have_them(data: mg.Data) -> None:
    recipe = Recipe(
        family={"name": "vae+flow_matching", "latent_dim": 4, "drop_prob": 0.3},
        backbone={"model_dim": 16, "num_blocks": 2},
    )
    first, second = stage_recipes(recipe, data)
    assert first.family == {"name": "vae", "latent_dim": 4, "drop_prob": 0.3}
    assert second.family == {"name": "flow_matching", "drop_prob": 0.3}
    assert first.backbone == {"name": "conv", "model_dim": 16, "num_blocks": 2}
    assert second.backbone == {"name": "mlp", "model_dim": 16}
    recipe.family["latent_dims"] = 4
    with pytest.raises(RecipeError, match=r"no stage has an option 'latent_dims'.*latent_dim"):
        stage_recipes(recipe, data)


def test_what_does_not_fit_is_refused_before_anything_is_trained(
    data: mg.Data, tmp_path: Path
) -> None:
    for chain, error, said in [
        ("gan+flow_matching", RefusedPair, "gan has no latents"),
        ("vae+autoregressive", RefusedPair, "finite set of values"),
        ("vae+flow_matchin", RecipeError, "Did you mean 'flow_matching'"),
        ("vae+", RecipeError, "there is no family ''"),
    ]:
        with pytest.raises(error, match=said):
            mg.train(data, chain, budget="9steps", out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_it_is_what_two_commands_make_and_needs_no_other_bundle(
    data: mg.Data, whole: mg.Bundle, tmp_path: Path
) -> None:
    for_first = [each for each in SETTINGS if "baseline" not in each]
    mg.train(data, "autoencoder", budget="30steps", settings=for_first, out=tmp_path / "code")
    for_second = [each for each in SETTINGS if "latent_dim" not in each]
    by_hand = mg.train(
        data, "flow_matching", budget="60steps", settings=for_second, out=tmp_path / "flow",
        through=tmp_path / "code",
    )  # fmt: skip
    assert equal(whole, by_hand)
    assert whole.path is not None
    assert [folder.name for folder in stage_folders(whole.path)] == ["1_autoencoder", "run"]
    copy = tmp_path / "copy"
    for name in ("config.json", "model.safetensors", "codec.safetensors"):
        copy.mkdir(exist_ok=True)
        (copy / name).write_bytes((whole.path / name).read_bytes())
    items = mg.open(str(copy)).sample(3, seed=1).items
    assert [item.size for item in items] == [(8, 8)] * 3


def test_interrupted_wherever_it_goes_on_and_ends_the_same(
    data: mg.Data, whole: mg.Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    asked: dict[str, Any] = {"budget": "90steps", "settings": SETTINGS}
    next(sessions(data, CHAIN, out=out, **asked))  # killed before there is a checkpoint
    with pytest.raises(TrainingError, match="already holds a run"):
        mg.train(data, CHAIN, out=out, **asked)

    begun = []
    for session in sessions(data, out=out, resume=True):

        def stop(log: Log, run: Run = session.run) -> None:
            run.stop = log.step >= 12

        begun.append(session.recipe.family["name"])
        session.train(stop)
    assert begun == ["autoencoder"]  # a stage that was stopped is the last
    assert not is_finished(out)

    def kill(log: Log) -> None:
        if log.num_steps == 60 and log.step >= 55:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mg.train(data, out=out, resume=True, on_log=kill)
    assert is_finished(out / "1_autoencoder")
    assert not is_finished(out)

    # The first stage, as if it had been killed while it took its checkpoints away.
    left = [out / "1_autoencoder" / name for name in (".checkpoint.partial", ".lock")]
    left[0].mkdir()
    left[1].write_text('{"pid": 0, "host": "elsewhere", "started": 0.0}')
    steps: list[int] = []
    bundle = mg.train(data, out=out, resume=True, on_log=lambda log: steps.append(log.step))
    assert not any(path.exists() for path in left)
    assert min(steps) == 50
    assert equal(bundle, whole)
    assert is_finished(out)
    with pytest.raises(BundleError, match="nothing to resume"):
        mg.train(data, out=out, resume=True)


def test_other_data_is_noticed_between_two_stages(data: mg.Data, tmp_path: Path) -> None:
    out = tmp_path / "run"
    stages = sessions(data, CHAIN, budget="6steps", settings=SETTINGS, out=out)
    next(stages).train(lambda log: None)
    next(stages)
    other = mg.load((255 * rand((120, 8, 8), generator(1))).byte().numpy(), codec=data.codec)
    with pytest.raises(TrainingError, match="not what the run was started with"):
        mg.train(other, out=out, resume=True)


def test_the_record_says_what_was_asked_for(whole: mg.Bundle) -> None:
    assert whole.path is not None
    record = json.loads((whole.path / "chain.json").read_text())
    assert record["recipe"]["family"]["name"] == CHAIN
    assert record["recipe"]["train"]["budget"] == "90steps"
    assert whole.recipe.family["name"] == "flow_matching"
