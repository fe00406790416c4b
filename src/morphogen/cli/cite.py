"""`morphogen cite models/boots`: BibTeX of what a model combines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer


def cite(
    bundle: Annotated[str, typer.Argument(help="folder of a trained bundle")],
    trust: Annotated[bool, typer.Option("--trust", help="import components it names")] = False,
) -> None:
    """Print BibTeX of what a bundle combines."""
    from pathlib import Path

    from morphogen.core import discover
    from morphogen.core.config import read_config

    entries, config = references(), read_config(Path(bundle))
    if trust:
        discover.vouch(config)
    for key in keys_of(config, entries):
        print(entries[key] + "\n")


def keys_of(config: Mapping[str, Any], entries: Mapping[str, str]) -> list[str]:
    """The BibTeX keys of the parts that a bundle's config names, each once, software last."""
    from morphogen.core import discover

    keys: list[str] = []
    for axis, name in parts_of(config):
        keys += papers_of(discover.find(axis, name), entries)
    return list(dict.fromkeys([*keys, "morphogen"]))


def parts_of(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The components of a bundle: (axis, name). A latent codec's inner model counts, too."""
    from morphogen.core.recipe import component_of

    recipe, codec = config["recipe"], config["codec"]
    parts = [component_of(recipe), ("backbone", recipe["backbone"].get("name"))]
    if sampler := recipe["family"].get("sampler"):
        parts.append(("sampler", sampler))
    if recipe["train"].get("ema"):
        parts.append(("wrapper", "ema"))
    if taught := recipe.get("objective"):
        parts.append(("objective", taught["name"]))
    parts.append((codec["axis"], codec["name"]))
    if {"recipe", "codec"} <= codec["state"].keys():
        parts += parts_of(codec["state"])
    return [(axis, name) for axis, name in parts if name]


def papers_of(component: Any, entries: Mapping[str, str]) -> list[str]:
    """A family names its papers; of other parts, what their file's docstring cites by author and
    year and what references.bib holds."""
    import re
    import sys

    if named := getattr(component, "papers", ()):
        return list(named)
    text = " ".join((sys.modules[component.__module__].__doc__ or "").split())
    return [
        key
        for key, entry in entries.items()
        if re.search(rf"\b{re.escape(_cited_as(entry))} \(?{field(entry, 'year')}\b", text)
    ]


def references() -> dict[str, str]:
    """references.bib, entry by entry."""
    import re
    from importlib.resources import files

    text = (files("morphogen") / "references.bib").read_text(encoding="utf-8")
    found = re.finditer(r"^@\w+\{([^,]+),\n.*?^\}", text, re.MULTILINE | re.DOTALL)
    return {match[1]: match[0] for match in found}


def field(entry: str, name: str) -> str:
    """One field of a BibTeX entry; empty when it has none."""
    import re

    match = re.search(rf"^\s*{name}\s*=\s*\{{(.*)\}},$", entry, re.MULTILINE)
    return match[1] if match else ""


def _cited_as(entry: str) -> str:
    """The authors as a docstring writes them: Smolensky, Ho & Salimans, Ho et al."""
    names = [author.partition(",")[0] for author in field(entry, "author").split(" and ")]
    return names[0] + " et al." if len(names) > 2 else " & ".join(names)
