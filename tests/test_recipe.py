"""Recipes: what is misspelt is named, what is left out is filled in."""

from __future__ import annotations

from pathlib import Path

import pytest

from morphogen.core import discover
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.recipe import Recipe, build_family, resolve
from morphogen.core.spec import TensorSpec
from morphogen.training.options import TrainOptions

VECTOR = TensorSpec.vector(4)
SMALL = ["family.name=flow_matching", "backbone.name=mlp"]


def test_read(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[family]\nname = "flow_matching"\nnum_steps = 7\n[train]\nbudget = "10m"\n')
    recipe = Recipe.read(file)
    assert recipe.family == {"name": "flow_matching", "num_steps": 7}
    assert recipe.train == {"budget": "10m"}
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="does not exist"):
        Recipe.read(tmp_path / "none.toml")


def test_invalid_toml_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("[family\nname=")
    with pytest.raises(RecipeError, match="not valid TOML") as error:
        Recipe.read(file)
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        ({"familly": {}}, r"no table \[familly\]. Did you mean 'family'"),
        ({"family": "vae"}, r"no table \[family\]"),
    ],
)
def test_misspelt_table(tables: dict[str, object], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        Recipe.from_json(tables)


def test_an_option_of_a_saved_recipe_is_called_as_it_is_today() -> None:
    for family in ("flow_matching", "contrastive"):
        saved = {"family": {"name": family, "cond_first": True, "cond_dim": 16}}
        recipe = Recipe.from_json(saved)
        assert recipe.family == {"name": family, "cond_pooled": True, "cond_dim": 16}
        assert resolve(recipe, VECTOR).family["cond_pooled"] is True


def test_settings_change_one_value() -> None:
    recipe = Recipe().with_settings([*SMALL, "family.num_steps=9", "family.sampler=a=b"])
    assert recipe.family == {"name": "flow_matching", "num_steps": "9", "sampler": "a=b"}
    assert resolve(recipe, VECTOR).family["num_steps"] == 9


@pytest.mark.parametrize("setting", ["num_steps=9", "family.num_steps", "famly.num_steps=9", ""])
def test_malformed_settings(setting: str) -> None:
    with pytest.raises(RecipeError, match=r"table\.option=value") as error:
        Recipe().with_settings([setting])
    assert error.value.where == "--set"


def test_settings_leave_the_recipe_alone() -> None:
    recipe = Recipe(family={"name": "flow_matching"})
    recipe.with_settings(["family.num_steps=9"])
    assert recipe.family == {"name": "flow_matching"}


def test_resolving_fills_in_every_default_and_is_idempotent() -> None:
    resolved = resolve(Recipe(family={"name": "flow_matching"}), VECTOR)
    assert resolved.backbone["name"] == "mlp"
    assert resolved.family["time_sampling"] == "logit_normal"
    assert resolve(resolved, VECTOR) == resolved


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["family.name=flow_machting"], "Did you mean 'flow_matching'"),
        ([*SMALL, "backbone.name=mpl"], "Did you mean 'mlp'"),
        ([*SMALL, "family.num_step=3"], "Did you mean 'num_steps'"),
        ([*SMALL, "family.num_steps=few"], "does not fit"),
        ([*SMALL, "family.time_sampling=normal"], "does not fit"),
    ],
)
def test_wrong_names_and_values(settings: list[str], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        build_family(Recipe().with_settings(settings), VECTOR, {})


def test_refused_pairs_say_what_to_use_instead() -> None:
    with pytest.raises(RefusedPair, match="tokens cannot carry") as error:
        build_family(Recipe().with_settings(SMALL), TensorSpec.tokens(8, 5), {})
    assert "autoregressive" in str(error.value)
    with pytest.raises(RefusedPair, match="backbone UNet does not fit"):
        build_family(Recipe().with_settings([*SMALL, "backbone.name=unet"]), VECTOR, {})


def test_dotted_names_need_trust() -> None:
    recipe = Recipe(family={"name": "morphogen.families.flow_matching:FlowMatching"})
    with pytest.raises(RecipeError, match="refused to import"):
        build_family(recipe, VECTOR, {})
    discover.vouch(recipe.to_json())
    assert type(build_family(recipe, VECTOR, {})).__name__ == "FlowMatching"


@pytest.mark.parametrize(
    "text",
    [
        b"[family]\nname = true\n", b"\xff\xfe[family]", b"[train]\nlr = 1e99\n",
        b"[train]\nbatch_size = inf\n", b"[backbone]\nname = 'mlp'\nmodel_dim = -1\n",
        b"[train]\nbudget = '1e9999h'\n", b"[family]\nname = ['vae']\n", b"a = " + b"[" * 5000,
        b"[train]\nbudget = 3\n", b"family = 3\n", b"[family]\nname = 'vae'\nlatent_dim = 0\n",
    ],
)  # fmt: skip
def test_an_absurd_recipe_is_one_plain_error(text: bytes, tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_bytes(text)
    with pytest.raises(RecipeError):  # noqa: PT012
        recipe = resolve(Recipe.read(file), VECTOR)
        TrainOptions.resolve(recipe.train, {})
