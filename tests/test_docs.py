"""Docs are held to the code: commands run, examples work, links resolve, pages are current."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forks import printed_by

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
from docs import pages  # noqa: E402
from export_digits import export_digits  # noqa: E402

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


def blocks(page: str, mark: str, language: str) -> list[tuple[str, str]]:
    """The code blocks of a page that stand under `<!-- mark ... -->`: (rest of the mark, code)."""
    pattern = rf"<!-- {mark}([^>]*?) ?-->\n```{language}\n(.*?)```"
    found = re.findall(pattern, (ROOT / page).read_text(), re.DOTALL)
    return [(rest.strip(": "), code) for rest, code in found]


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """A folder with `photos/`: twelve digits of each class."""
    export_digits(tmp_path / "photos", 12)
    return tmp_path


# As the console script does, line after line.
LINES = """
import shlex
from morphogen.cli.app import main
for line in CODE.replace("\\\\\\n", " ").splitlines():
    name, *arguments = shlex.split(line)
    assert name == "morphogen", line
    try:
        main(arguments)
    except SystemExit as end:
        if end.code:
            raise
"""


def run_lines(folder: Path, code: str, **environment: str) -> str:
    """What lines `morphogen ...` print. An error ends them, as with `set -e`."""
    return printed_by(f"CODE = {code!r}\n{LINES}", folder, environment)


def test_readme_commands_run(workdir: Path) -> None:
    shells = blocks("README.md", "run", "sh")
    assert len(shells) >= 6
    script = "".join(code for _, code in shells)
    for slow, quick in {
        "--budget 90s": "--budget 6steps --set backbone.model_dim=8",
        "-n 64": "-n 4",
        "-n 16": "-n 4",
        "evaluate models/digits": "evaluate models/digits --num 16",
    }.items():
        assert slow in script
        script = script.replace(slow, quick)
    said = run_lines(workdir, script)
    for made in ("grid.png", "threes.png", "steps.png", "models/digits/evaluation.html"):
        assert (workdir / made).stat().st_size > 0
    for word in (
        "Nothing is wrong with it",
        "forecast:",
        "does not apply",
        "ratio",
        "@inproceedings",
    ):
        assert word in said


def test_readme_python_runs(workdir: Path) -> None:
    (example,) = (code for _, code in blocks("README.md", "python", "python"))
    assert 'budget="10m"' in example
    printed_by(example.replace('"10m"', '"3steps"'), workdir)
    assert (workdir / "grid.png").is_file()


def test_readme_names_every_component() -> None:
    from morphogen.core import discover

    text = (ROOT / "README.md").read_text()
    for axis in ("modality", "family", "backbone", "task"):
        table = next(
            line for line in text.splitlines() if line.startswith(f"| {discover.AXES[axis]} ")
        )
        missing = [name for name in discover.names(axis) if name not in table]
        assert not missing, f"README's table of {axis} lacks {missing}"


def test_extend_example_works(workdir: Path) -> None:
    for place, code in blocks("docs/extend.md", "file", "python"):
        file = workdir / "plugins" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)
    plugins = str(workdir / "plugins")
    ((_, check),) = blocks("docs/extend.md", "python", "python")
    check += (
        "\nfrom morphogen.testing import check_codec, check_metric, check_task\n"
        "check_task(discover.find('task', 'surprise'))\n"
        "check_metric(discover.find('metric', 'mean_gap'))\n"
        "check_codec(discover.find('modality', 'walk'), 'walks')\n"
    )
    for number, moves in enumerate(("NNESW", "EES", "WWNNE", "S", "NEN")):
        (workdir / "walks").mkdir(exist_ok=True)
        (workdir / "walks" / f"{number}.walk").write_text(moves + "\n")
    printed_by(check, workdir, {"MORPHOGEN_PLUGINS": plugins})
    ((_, shell),) = blocks("docs/extend.md", "sh", "sh")
    export, _, lines = shell.partition("\n")
    assert export == "export MORPHOGEN_PLUGINS=plugins"
    said = run_lines(workdir, lines, MORPHOGEN_PLUGINS="plugins")
    assert "independent" in said
    assert "cond_dim" in said
    assert re.search(r"applies\n(  .*\n)*  surprise ", said)
    assert (workdir / "independent.png").is_file()


def test_reference_pages_are_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MORPHOGEN_PLUGINS", raising=False)
    stale = [name for name, text in pages().items() if (ROOT / "docs" / name).read_text() != text]
    assert stale == [], "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in LINK.findall(text):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page.name}: {link} leads nowhere"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            slugs = {heading.strip().lower().replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{page.name}: {link} names no heading"


def test_every_verb_is_in_the_readme() -> None:
    from morphogen.cli.app import verbs

    text = (ROOT / "README.md").read_text()
    for verb in verbs():
        assert re.search(rf"morphogen {verb}\b", text), f"README does not show `morphogen {verb}`"


def commands(text: str) -> Iterator[tuple[str, str]]:
    """What a text shows of the command line: the verb, and what is typed after it."""
    for verb, rest in re.findall(r"morphogen ([a-z]+)((?: [^`\n#|]*)?)", text.replace("\\\n", " ")):
        yield verb, rest.partition(" && ")[0].partition("morphogen ")[0]


def test_every_option_that_is_shown_is_there() -> None:
    """In the docs, on pages of the studio, and in what errors say is to be typed next."""
    from typer.main import get_command

    from morphogen.cli.app import build_app

    verbs: dict[str, Any] = get_command(build_app()).commands  # type: ignore[attr-defined]
    shown = [page for page in PAGES if page.name != "LOG.md"]  # which tells what was once
    shown += [ROOT / "benchmarks" / "RESULTS.md", *(ROOT / "scripts").glob("*.sh")]
    shown += [file for end in ("py", "html") for file in (ROOT / "src").rglob(f"*.{end}")]
    missing, seen = [], 0
    for file in shown:
        for verb, rest in commands(file.read_text()):
            if verb not in verbs:
                continue
            below = getattr(verbs[verb], "commands", {})
            first = (rest.split() or [""])[0]
            command = below.get(first, verbs[verb])
            known = {flag for each in command.params for flag in each.opts}
            for flag in re.findall(r"(?<![\w}-])--?[a-z][a-z-]*", rest):
                seen += 1
                if flag not in known | {"--help", "-h", "--debug"} and (
                    first in below or not below
                ):
                    missing.append(f"{file.relative_to(ROOT)}: morphogen {verb}{rest}: {flag}")
    assert missing == []
    assert seen > 300


def test_every_axis_and_capability_is_in_the_concepts() -> None:
    from morphogen.core import capability, discover

    text = (ROOT / "docs" / "concepts.md").read_text()
    names = [
        *discover.AXES,
        *(n for n in vars(capability) if n.startswith(("Can", "Has")) and n[3:4].isupper()),
    ]
    for name in names:
        assert name in text, f"concepts.md does not speak of {name}"


def test_every_public_name_of_the_package_is_documented() -> None:
    import morphogen

    for name in morphogen.__all__:
        assert (getattr(morphogen, name).__doc__ or "").strip(), f"mg.{name} has no docstring"


def test_every_cited_paper_is_in_the_references() -> None:
    from morphogen.cli.cite import papers_of, references
    from morphogen.core import discover

    entries = references()
    assert "morphogen" in entries
    for axis in ("family", "sampler", "backbone", "wrapper", "objective"):
        for name in discover.names(axis):
            keys = papers_of(discover.find(axis, name), entries)
            assert keys or axis != "family", f"the family {name} cites nothing"
            assert set(keys) <= entries.keys(), f"{axis} {name}: {set(keys) - entries.keys()}"


def test_decisions_are_numbered_without_gaps() -> None:
    files = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(file.name[:4]) for file in files] == list(range(1, len(files) + 1))
