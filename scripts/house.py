"""The house: who may import whom, and docs/house.md, a map of every folder and file in it.

`LAYERS` is the law that tests/test_laws.py holds every file to. The map is written from the first
words of each file; `python scripts/docs.py` writes it, `--check` fails where it is not what the
code says.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "morphogen"

AXES = (
    "modalities", "backbones", "families", "samplers", "wrappers", "tasks", "metrics",
    "objectives", "drivers",
)  # fmt: skip

# A package imports from lower layers, and from its own layer where that is not the axes'.
LAYERS: dict[str, int] = {
    "core": 0,
    **dict.fromkeys(("provenance", "sources"), 1),
    **dict.fromkeys(AXES, 2),
    "data": 3,
    **dict.fromkeys(("training", "evaluation"), 4),
    "comparison": 5,
    **dict.fromkeys(("records", "interop"), 6),
    **dict.fromkeys(("systems", "testing"), 7),
    **dict.fromkeys(("serve", "cli"), 8),
}

INTRODUCTION = """# The house

Written by `make docs` from the code. A folder imports from those below it, never from one above;
the axes, all on one floor, never import each other: what they have in common is in `core`.
`tests/test_laws.py` holds every file to that, to 400 lines of 100 columns, and to functions that
fit a screen.

```text
"""

PRICES = """
## The price of one more

| what is added | files added | files touched | how it is found |
|---|---|---|---|
| family, backbone, codec, source, sampler, wrapper, task, metric, objective, driver | 1 | 0 | \
by its file's name, in the folder of its axis or of a plugin |
| kind of condition | 1 | 0 | conditions are items of codecs |
| verb; route of the server; page of the studio (and its template) | 1 | 0 | \
by its file in `cli`, `serve/routes`, `serve/studio/pages` |
| way out of the workbench | 1 | 1 | a row of `FORMATS` in `interop/export.py` |
| layout of published weights | 0 | 1 | a table in `interop/layouts.py` |
| role | 0 | 1 | a row of `ROLES` in `records/roles.py` |

What `tests/test_laws.py` adds for the first row is used, and the package is as it was after it.
"""


def page() -> str:
    """docs/house.md."""
    lines = [INTRODUCTION + "\n".join(_floors()), "```", PRICES]
    for folder, files in groupby(_files(), key=lambda file: file.parent):
        name = folder.relative_to(SOURCE.parent)
        own = list(files)
        package = folder / "__init__.py"
        lines += [f"## {name}", "", purpose(package) if package in own else "", ""]
        lines += ["| file | what it is |", "|---|---|"]
        lines += [
            f"| [{file.name}](../{file.relative_to(ROOT)}) | {_cell(purpose(file))} |"
            for file in own
            if file.name != "__init__.py"
        ]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def purpose(file: Path) -> str:
    """The first sentence of a file's docstring, without its equations."""
    said = ast.get_docstring(ast.parse(file.read_text())) or ""
    first = " ".join(said.split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", first)[0]


def _floors() -> Iterator[str]:
    """The layers, topmost first."""
    for floor in sorted(set(LAYERS.values()), reverse=True):
        rooms = [name for name, where in LAYERS.items() if where == floor]
        yield f"{floor}  {'   '.join(rooms)}"


def _files() -> list[Path]:
    """Every file of the package, folder by folder."""
    return sorted(SOURCE.rglob("*.py"), key=lambda file: (str(file.parent), file.name))


def _cell(text: str) -> str:
    """Text that does not break a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")
