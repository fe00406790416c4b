"""File name = class name = what the user types."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

from morphogen.core import discover
from morphogen.core.errors import RecipeError


@pytest.mark.parametrize(
    ("axis", "name"), [(axis, name) for axis in discover.AXES for name in discover.names(axis)]
)
def test_every_component_is_found_by_its_file_name(axis: str, name: str) -> None:
    component = discover.find(axis, name)
    assert callable(component)
    spelled = component.__name__.rstrip("_")  # `continue_`: the word is Python's
    assert spelled.lower() == name.replace("_", "") or spelled == name
    assert discover.name_of(component) == name
    assert discover.summary(component)


def test_folder_and_axis_name_the_same() -> None:
    assert discover.names("family") == discover.names("families")
    assert "flow_matching" in discover.names("family")
    assert not any(name.startswith("_") for name in discover.names("family"))


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'flow_matching'") as error:
        discover.find("family", "flowmatching")
    assert "morphogen list families" in str(error.value)


def test_unknown_axis_suggests_the_nearest() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'family'"):
        discover.names("famly")


def test_a_dotted_path_only_where_the_user_vouches_for_it() -> None:
    dotted = "morphogen.core.spec:TensorSpec"
    with pytest.raises(RecipeError, match="refused to import"):
        discover.find("family", dotted)
    discover.vouch({"family": {"name": f"vae+{dotted}"}})
    assert discover.find("family", dotted).__name__ == "TensorSpec"
    with pytest.raises(RecipeError, match="refused to import"):
        discover.find("family", dotted + "s")


@pytest.mark.parametrize("name", ["nowhere.at.all:Name", "morphogen:nothing", ":Name", "json:"])
def test_a_dotted_path_that_leads_nowhere(name: str) -> None:
    discover.vouch(name)
    with pytest.raises(RecipeError, match="cannot be imported"):
        discover.find("family", name)


@pytest.mark.parametrize("name", [True, None, 3, ["vae"]])
def test_a_name_is_a_text(name: object) -> None:
    with pytest.raises(RecipeError, match="no name"):
        discover.find("family", name)  # type: ignore[arg-type]


def test_a_file_without_its_component() -> None:
    module = types.ModuleType("odd")
    module.__file__ = "odd.py"
    with pytest.raises(RecipeError, match="does not define its component"):
        discover.main_attribute(module, "odd")


def test_names_with_underscores_and_capitals() -> None:
    module = types.ModuleType("vq_vae")
    module.VQVAE = type("VQVAE", (), {})  # type: ignore[attr-defined]
    assert discover.main_attribute(module, "vq_vae") is module.VQVAE


def test_outside_classes_have_dotted_names() -> None:
    assert discover.name_of(Path) == f"{Path.__module__}:Path"


def test_listing_imports_nothing_and_finds_plugins(tmp_path: Path) -> None:
    folder = tmp_path / "families"
    folder.mkdir()
    (folder / "explosive.py").write_text("raise SystemExit('imported')")
    script = (
        "from morphogen.core import discover\nimport sys\n"
        "assert 'explosive' in discover.names('family')\n"
        "assert 'morphogen.families.flow_matching' not in sys.modules\nprint('fine')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"MORPHOGEN_PLUGINS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "fine", done.stderr
