"""Write from the code: docs/reference, a page per axis, and docs/house.md, the map of the house.

python scripts/docs.py            writes
python scripts/docs.py --check    fails when a page is not what the code says
"""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs"

INTRODUCTIONS = {
    "source": "Where items lie: folders, archives, tables, arrays, datasets, memory.\n"
    "The kind that is surest reads a source, for every modality alike.",
    "modality": "How a raw item becomes a tensor, and back. A modality is a codec.",
    "backbone": "Which network. A backbone maps one TensorSpec to another.",
    "family": "By which principle a model learns and samples.",
    "sampler": "How a sample is drawn along a Gaussian path.",
    "wrapper": "What is put around a model or its weights.",
    "task": "What is done with a trained model. A task applies to every model that has the "
    "capability in its annotation, or one of several.",
    "metric": "How good it is.",
    "objective": "What a trained model is taught beyond its data.",
    "driver": "Models that others made and other libraries run, behind our capabilities. "
    "`morphogen import` finds the one that opens a folder.",
}


def pages() -> dict[str, str]:
    """File below docs -> text: every axis, and the house."""
    import house

    from morphogen.core.discover import AXES

    written = {f"reference/{folder}.md": axis_page(axis, folder) for axis, folder in AXES.items()}
    return {**written, "house.md": house.page()}


def axis_page(axis: str, folder: str) -> str:
    """One axis: a table of what there is, then each component."""
    from morphogen.core import discover

    found = {name: discover.find(axis, name) for name in discover.names(axis)}
    lines = [
        f"# {folder.capitalize()}",
        "",
        "Written by `make docs` from the code; `morphogen show " + axis + " NAME` prints the same.",
        "",
        INTRODUCTIONS[axis],
        "",
        "| name | what it is |",
        "|---|---|",
        *[
            f"| [{name}](#{name}) | {_cell(discover.summary(part))} |"
            for name, part in found.items()
        ],
        "",
    ]
    if axis == "family":
        lines += _matrix(found)
    for name, part in found.items():
        lines += component_section(axis, name, part)
    return "\n".join(lines).rstrip() + "\n"


def component_section(axis: str, name: str, part: Any) -> list[str]:
    """The file's own words, the capabilities, and the options."""
    from morphogen.core.schema import REQUIRED, options

    module = inspect.getdoc(inspect.getmodule(part)) or ""
    lines = [f"## {name}", "", "```text", module, "```", ""]
    lines += _capabilities(axis, part)
    table = {key: value for key, value in options(part).items() if key != "cond"}
    if table:
        lines += ["| option | type | default | meaning |", "|---|---|---|---|"]
        for option in table.values():
            default = "required" if option.default is REQUIRED else f"`{option.default}`"
            type_name = _cell(option.type_name)
            lines.append(f"| `{option.name}` | {type_name} | {default} | {_cell(option.comment)} |")
        lines.append("")
    return lines


def _capabilities(axis: str, part: Any) -> list[str]:
    from morphogen.core.capability import needs

    if axis == "family":
        model = _example(part)
        has = ", ".join(f"`{each}`" for each in _capabilities_of(model))
        return [f"Capabilities: {has}. Backbone by default: `{part.default_backbone}`.", ""]
    if axis == "task":
        any_of = " or ".join(f"`{each.__name__}`" for each in needs(part))
        return [f"Needs {any_of}.", ""]
    return []


def _capabilities_of(model: object) -> list[str]:
    from typing import Protocol

    from morphogen.core import capability

    found = [
        value
        for value in vars(capability).values()
        if isinstance(value, type)
        and getattr(value, "_is_protocol", False)
        and value is not Protocol
    ]
    return sorted(each.__name__ for each in found if not capability.missing(model, each))


def _matrix(families: dict[str, Any]) -> list[str]:
    """Which task applies to which family, on small labelled pictures."""
    from morphogen.core import discover
    from morphogen.core.capability import why_not

    tasks = {name: discover.find("task", name) for name in discover.names("task")}
    models = {name: _example(family) for name, family in families.items()}
    lines = [
        "## Tasks that apply",
        "",
        "On labelled pictures, or tokens for families that take no pictures; "
        "`morphogen tasks BUNDLE` says it for a trained model, with reasons.",
        "",
        "| | " + " | ".join(models) + " |",
        "|---" * (len(models) + 1) + "|",
    ]
    for name, task in tasks.items():
        cells = ["yes" if why_not(model, task) is None else "" for model in models.values()]
        lines.append(f"| [{name}](tasks.md#{name}) | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _example(family: Any) -> Any:
    """The family on small labelled pictures, else on tokens, untrained."""
    from morphogen.core import discover
    from morphogen.core.recipe import Recipe, build_family
    from morphogen.core.spec import TensorSpec

    spec, label = TensorSpec("real", (1, 8, 8), levels=256), {"label": TensorSpec.label(10)}
    if family.refusal(spec, label) is not None:
        spec = TensorSpec.tokens(12, 20, end=19)
    return build_family(Recipe(family={"name": discover.name_of(family)}), spec, label)


def _cell(text: str) -> str:
    """Text that does not break a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """Write the pages, or compare with what is there."""
    os.environ.pop("MORPHOGEN_PLUGINS", None)  # the pages describe the project, not one's plugins
    check = "--check" in sys.argv[1:]
    stale = []
    (FOLDER / "reference").mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        file = FOLDER / name
        if file.is_file() and file.read_text() == text:
            continue
        stale.append(name)
        if not check:
            file.write_text(text)
    if check and stale:
        sys.exit(f"not what the code says, run `make docs`: {', '.join(stale)}")
    print(f"{len(stale)} of docs {'stale' if check else 'written'}")


if __name__ == "__main__":
    main()
