"""The laws of the house: who may import whom, how long things get, what an addition costs."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import morphogen
from forks import printed_by
from morphogen.core.discover import AXES

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "morphogen"
PLUGINS = Path(__file__).parent / "plugins"
FILES = sorted(SOURCE.rglob("*.py"))
MOST_LINES, MOST_COLUMNS, MOST_STATEMENT_LINES = 400, 100, 60
sys.path.insert(0, str(ROOT / "scripts"))
from house import LAYERS  # noqa: E402 - the law stands where the map is drawn

CORE_MAY_IMPORT = {"torch", "safetensors", "morphogen", *sys.stdlib_module_names}
Trees = dict[Path, ast.AST]
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def relative(file: Path) -> str:
    return str(file.relative_to(SOURCE))


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module imported anywhere in a file, inside functions and by name included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what is imported: spell them out"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant):
                yield str(first.value)


def broken_imports(package: str, tree: ast.AST) -> list[str]:
    """The imports that the dependency law forbids to a file of `package`."""
    broken = []
    for name in imports(tree):
        top, _, rest = name.partition(".")
        if top != "morphogen":
            if package == "core" and top not in CORE_MAY_IMPORT:
                broken.append(name)
            continue
        other = rest.partition(".")[0]
        if other not in LAYERS or other == package:
            continue
        axes = LAYERS[package] == LAYERS[other] == 2
        if axes or LAYERS[other] > LAYERS[package] or (package == "systems" and other == "testing"):
            broken.append(name)
    return broken


@pytest.fixture(scope="module")
def trees() -> Trees:
    """Every file of the package, parsed."""
    return {file: ast.parse(file.read_text()) for file in FILES}


def where(faults: Callable[[Path, ast.AST], object], trees: Trees) -> dict[str, object]:
    """The files in which there are faults, and which."""
    found = {relative(file): faults(file, tree) for file, tree in trees.items()}
    return {file: each for file, each in found.items() if each}


def test_dependency_law(trees: Trees) -> None:
    def broken(file: Path, tree: ast.AST) -> list[str]:
        parts = file.relative_to(SOURCE).parts
        if len(parts) == 1:
            return []  # the package's own __init__ hands out names lazily
        assert parts[0] in LAYERS, f"src/morphogen/{parts[0]} has no place in the house"
        return broken_imports(parts[0], tree)

    assert where(broken, trees) == {}


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("families", "from morphogen.backbones.mlp import MLP"),
        ("core", "import numpy"),
        ("core", "from morphogen import families"),
        ("training", "def f():\n    from morphogen.cli import app"),
        ("tasks", "import importlib\nimportlib.import_module('morphogen.metrics.frechet')"),
        ("sources", "from morphogen.modalities.image import Image"),
        ("data", "import morphogen.systems.memory"),
        ("testing", "from morphogen.cli import app"),
    ],
)
def test_dependency_law_catches(package: str, line: str) -> None:
    assert broken_imports(package, ast.parse(line))


def test_budgets(trees: Trees) -> None:
    def beyond(file: Path, tree: ast.AST) -> list[str]:
        lines = file.read_text().splitlines()
        assert file.name != "utils.py", "name a file for what it holds"
        wide = [f"line {i}" for i, line in enumerate(lines, 1) if len(line) > MOST_COLUMNS]
        long = [f"{len(lines)} lines"] if len(lines) > MOST_LINES else []
        return [*long, *wide, *long_functions(tree)]

    assert where(beyond, trees) == {}


def long_functions(tree: ast.AST) -> list[str]:
    """Functions whose statements, docstring left out, do not fit a screen."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        if body and (body[-1].end_lineno or 0) - body[0].lineno + 1 > MOST_STATEMENT_LINES:
            found.append(node.name)
    return found


def test_long_functions_are_caught() -> None:
    lines = "\n".join(["    x = 1"] * 61)
    assert long_functions(ast.parse(f"def long():\n{lines}")) == ["long"]
    assert (
        long_functions(ast.parse('def f():\n    """' + "doc\n" * 90 + '    """\n    x = 1')) == []
    )


RUNS = ("eval", "exec", "compile", "__import__", "torch.load", "torch.save")


def unsafe_calls(tree: ast.AST) -> list[str]:
    """Ways to run what a file says, and formats that do."""
    found = [name for name in imports(tree) if name.partition(".")[0] in PICKLES]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            tensors_alone = called == "torch.load" and says(node, "weights_only", True)
            if called in RUNS and not tensors_alone:
                found.append(called)
            told = [word.arg for word in node.keywords]
            if "allow_pickle" in told and not says(node, "allow_pickle", False):
                found.append("allow_pickle")
    return found


def says(call: ast.Call, name: str, value: bool) -> bool:
    """Whether an option is given as this constant."""
    found = [word.value for word in call.keywords if word.arg == name]
    return any(isinstance(each, ast.Constant) and each.value is value for each in found)


def test_no_pickle_no_eval(trees: Trees) -> None:
    assert where(lambda file, tree: unsafe_calls(tree), trees) == {}


def test_what_is_not_installed_is_told_in_one_place(trees: Trees) -> None:
    """By `extra`, which says what to type; SQLAlchemy imports drivers of databases itself."""
    told = [
        relative(file)
        for file, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and "ImportError" in ast.unparse(node.type or ast.Constant(""))
        and "pip install" in ast.unparse(node)
    ]
    assert told == ["core/extras.py", "records/database.py"]


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "eval('1')",
        "torch.load('x')",
        "torch.load('x', weights_only=told)",
        "np.load('x', allow_pickle=True)",
        "np.load('x', allow_pickle=told)",
    ],
)
def test_unsafe_calls_are_caught(line: str) -> None:
    assert unsafe_calls(ast.parse(line))


def test_public_names_have_docstrings(trees: Trees) -> None:
    assert where(lambda file, tree: bare_names(file), trees) == {}


def bare_names(file: Path) -> list[str]:
    """Public names of a file that say nothing of themselves. Methods may leave it to the contract
    that they implement."""
    parts = file.relative_to(SOURCE).with_suffix("").parts
    module = importlib.import_module(".".join(("morphogen", *parts)).removesuffix(".__init__"))
    bare = [] if module.__doc__ else ["the file"]
    for name, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__
        if name.startswith("_") or not own or not (inspect.isclass(value) or callable(value)):
            continue
        if not inspect.getdoc(value):
            bare.append(name)
        for member, method in vars(value).items() if inspect.isclass(value) else ():
            public = not member.startswith("_") and member != "forward"
            is_method = inspect.isroutine(method) or isinstance(method, property)
            if public and is_method and not inspect.getdoc(getattr(value, member)):
                bare.append(f"{name}.{member}")
    return bare


def test_every_package_is_importable_by_name() -> None:
    found = {module.name for module in pkgutil.iter_modules(morphogen.__path__)}
    assert set(AXES.values()) | {"core", "testing", "training", "cli"} <= found


def test_a_wheel_holds_every_file() -> None:
    """What is installed elsewhere has all that the package here has."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    data = {file for each in told["package-data"]["morphogen"] for file in SOURCE.glob(each)}
    every = (file for file in SOURCE.rglob("*") if "__pycache__" not in file.parts)
    files = {file for file in every if file.is_file()}
    assert {relative(file) for file in files - set(FILES) - data} == set()
    without = {relative(file) for file in FILES if not (file.parent / "__init__.py").is_file()}
    assert without == set(), "setuptools takes no folder for a package without __init__.py"


# -- the price of an addition ------------------------------------------------------------------


@pytest.fixture
def plugins(tmp_path: Path) -> dict[str, str]:
    """An environment where a folder outside the package holds one component of several axes."""
    shutil.copytree(PLUGINS, tmp_path / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    return {"MORPHOGEN_PLUGINS": str(tmp_path / "plugins")}


def run(environment: dict[str, str], script: str) -> str:
    return printed_by(script, ROOT, environment)


def source_state() -> dict[str, str]:
    return {relative(file): file.read_text() for file in sorted(SOURCE.rglob("*.py"))}


ADDED = {
    "families": ("toy_average", "Independent values, fitted by maximum likelihood."),
    "sources": ("toy_lines", "Lines such as `cat: a cat that sleeps`."),
    "tasks": ("toy_spread", "Draw items and give the mean deviation of their values."),
    "modalities": ("toy_walk", "Walks on a grid, from .walk files, wherever these lie."),
    "metrics": ("toy_mean", "How far the mean value of generated items is from that of real"),
    "backbones": ("toy_linear", "One linear map from real vectors to real vectors."),
    "samplers": ("toy_midpoint", "Two evaluations a step, deterministic."),
    "wrappers": ("toy_biases", "Trains the biases, and leaves the others as they are."),
    "objectives": ("toy_hinge", "Tells preferred answers from others by a margin."),
    "drivers": ("toy_constant", "Draws the one number that it knows."),
}


def test_one_file_of_every_axis_is_added() -> None:
    assert set(ADDED) == set(AXES.values())
    assert {file.parent.name: file.stem for file in PLUGINS.rglob("*.py")} == {
        folder: name for folder, (name, _) in ADDED.items()
    }


def test_one_file_added_is_listed(plugins: dict[str, str]) -> None:
    script = (
        "from morphogen.cli.app import main\n"
        f"for axis in {list(ADDED)}:\n"
        "    print('##', axis, flush=True)\n"
        "    try: main(['list', axis])\n"
        "    except SystemExit as done: assert not done.code\n"
    )
    listed = run(plugins, script).split("## ")[1:]
    for page, (axis, (name, summary)) in zip(listed, ADDED.items(), strict=True):
        assert page.startswith(axis)
        assert name in page
        assert summary[:30] in " ".join(page.split())
    assert "toy_" not in run({"MORPHOGEN_PLUGINS": ""}, script)


def test_one_file_added_passes_the_kit(plugins: dict[str, str]) -> None:
    script = "from morphogen import testing\nfrom morphogen.core import discover\n"
    for axis in ("family", "task", "metric", "backbone", "sampler"):
        name, _ = ADDED[AXES[axis]]
        script += f"testing.check_{axis}(discover.find({axis!r}, {name!r}))\nprint('kept')\n"
    assert run(plugins, script).split() == ["kept"] * 5


def test_one_file_added_modifies_none(plugins: dict[str, str], tmp_path: Path) -> None:
    """It trains from a recipe, is saved, reopened and sampled; the package is as it was."""
    before = source_state()
    script = f"""
import torch
from pathlib import Path
from morphogen.core import discover
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.spec import TensorSpec
from morphogen.core.storage import read_tensors, write_tensors
recipe = Recipe(family={{"name": "toy_average", "likelihood": "gaussian"}})
family = build_family(recipe, TensorSpec.vector(3), {{}})
assert discover.name_of(type(family)) == "toy_average"
file = write_tensors(Path({str(tmp_path)!r}) / "w.safetensors", family.state_dict())
family.load_state_dict(read_tensors(file))
spread = discover.find("task", "toy_spread")
print(spread(family, cond={{}}, generator=torch.Generator().manual_seed(0)).values["spread"] > 0)
"""
    assert "True" in run(plugins, script)
    assert source_state() == before


def test_one_source_added_is_read_by_every_codec(plugins: dict[str, str], tmp_path: Path) -> None:
    """A codec that was written without it recognises what lies there, and learns from it."""
    file = tmp_path / "pets.toy"
    file.write_text("".join(f"{name}: the {name} number {n}\n" for n in range(9) for name in "ab"))
    script = f"""
import morphogen as mg
data = mg.load({str(file)!r})
assert data.codec.class_names("label") == ["a", "b"], data.codec.class_names("label")
print(type(data.codec).__name__, len(data.train) + len(data.test))
"""
    before = source_state()
    assert "Text 18" in run(plugins, script)
    assert source_state() == before


def test_one_file_added_is_in_the_generated_docs(plugins: dict[str, str]) -> None:
    """The page of the axis describes it, and the matrix of tasks has a place for it."""
    script = (
        "import sys; sys.path.insert(0, 'scripts'); import docs\n"
        "print(docs.axis_page('family', 'families'), docs.axis_page('task', 'tasks'))"
    )
    page = run(plugins, script)
    assert "## toy_average" in page
    assert "## toy_spread" in page
    lines = page.splitlines()
    header = next(line for line in lines if line.startswith("| | ")).split("|")
    row = next(line for line in lines if line.startswith("| [toy_spread](tasks.md")).split("|")
    assert row[header.index(" toy_average ")] == " yes "
    assert row[header.index(" supervised ")] == "  "


def test_one_driver_added_is_imported(plugins: dict[str, str], tmp_path: Path) -> None:
    """A folder that it knows becomes a bundle that draws."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "toy.json").write_text('{"number": 7.5}')
    before = source_state()
    theirs, ours = str(tmp_path / "theirs"), str(tmp_path / "ours")
    script = f"""
from morphogen.cli.app import main
import morphogen as mg
try:
    main(["import", {theirs!r}, "--out", {ours!r}])
except SystemExit as end:
    assert not end.code
print(mg.open({ours!r}).sample(2, seed=0).x.flatten())
"""
    assert "[7.5000, 7.5000]" in run(plugins, script)
    assert source_state() == before


@pytest.mark.parametrize(
    ("folder", "finder"),
    [
        ("serve/routes", "morphogen.serve.app"),
        ("serve/studio/pages", "morphogen.serve.studio"),
        ("cli", "morphogen.cli.app"),
    ],
)
def test_routes_pages_and_verbs_are_found_by_their_files(folder: str, finder: str) -> None:
    """What finds them names none of them, so that one more is one file."""
    found = set(imports(ast.parse(inspect.getsource(importlib.import_module(finder)))))
    package = "morphogen." + folder.replace("/", ".")
    files = {file.stem for file in (SOURCE / folder).glob("[a-z]*.py")} - {"app"}
    assert files
    assert not found & {f"{package}.{name}" for name in files}


def test_no_paragraph_holds_what_ends_it() -> None:
    """A browser closes a paragraph where a form or a list begins, and what comes after lies outside
    of it."""
    ended = re.compile(
        r"<p\b[^>]*>(?:(?!</p>).)*?<(?:form|div|table|ul|ol|details|pre|h\d)\b", re.S
    )
    assert ended.search('<p class="row"><a></a>\n<form>')
    broken = [relative(f) for f in sorted(SOURCE.rglob("*.html")) if ended.search(f.read_text())]
    assert broken == []


def test_places_in_commands_are_words_of_a_shell(trees: Trees) -> None:
    """What a message says to type can be typed, where a folder has a space in its name."""
    broken = where(lambda file, tree: bare_places(tree), trees)
    assert broken == {}
    assert bare_places(ast.parse("f'next: morphogen tasks {session.out}'")) == ["session.out"]
    assert bare_places(ast.parse("f'{folder}: morphogen tasks {in_shell(folder)}'")) == []


PLACES = {"out", "path", "folder", "bundle", "source", "place", "index"}


def bare_places(tree: ast.AST) -> list[str]:
    """Places that stand in a command of ours as they are."""
    found = []
    for node in ast.walk(tree):
        command = False
        for part in node.values if isinstance(node, ast.JoinedStr) else ():
            if isinstance(part, ast.Constant):
                command |= bool(re.search(r"\bmorphogen [a-z]+ ", str(part.value)))
            elif command and isinstance(part, ast.FormattedValue):
                told = ast.unparse(part.value)
                found += [told] * (told.split(".")[-1] in PLACES)
    return found


def test_the_map_names_every_folder() -> None:
    from house import page

    drawn = page()
    for folder in {file.parent for file in FILES}:
        assert f"## {folder.relative_to(SOURCE.parent)}\n" in drawn
