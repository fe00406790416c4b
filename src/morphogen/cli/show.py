"""`morphogen show models/boots`, `morphogen show family vae`: what a bundle or component is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from morphogen.core.visible import in_shell


def show(
    what: Annotated[str, typer.Argument(help="folder of a bundle, or an axis such as family")],
    name: Annotated[str | None, typer.Argument(help="with an axis: the component")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Show what a bundle or component is made of."""
    facts = bundle_facts(what) if name is None else component_facts(what, name)
    if as_json:
        from morphogen.cli._parts import print_json

        print_json(facts)
    elif name is None:
        from morphogen.cli._parts import print_facts

        print_facts(facts)
    else:
        _print_component(facts)


def bundle_facts(path: str) -> dict[str, Any]:
    """A bundle's record, read from its JSON without building the model."""
    from pathlib import Path

    from morphogen.core import discover
    from morphogen.core.border import reading
    from morphogen.core.config import read_config, read_metrics
    from morphogen.core.errors import BundleError
    from morphogen.core.recipe import component_of
    from morphogen.core.spec import spec_from_json

    folder = Path(path)
    if not folder.exists() and path in (*discover.AXES, *discover.AXES.values()):
        raise BundleError(
            f"an axis needs a name: {path} of what?",
            found=path,
            expected=", ".join(discover.names(path)),
            hint=f"morphogen show {in_shell(path)} NAME",
        )
    config = read_config(folder)
    with reading("config.json", folder):
        axis, name = component_of(config["recipe"])
        spec = str(spec_from_json(config["spec"]))
        conditions = {n: str(spec_from_json(s)) for n, s in config["conditions"].items()}
    sizes = {
        file: f"{(folder / file).stat().st_size / 1e6:.2f} MB" if (folder / file).is_file() else "-"
        for file in config["files"]
    }
    return {
        "bundle": str(folder),
        axis: name,
        "backbone": config["recipe"]["backbone"].get("name"),
        "codec": config["codec"]["name"],
        "spec": spec,
        "conditions": conditions,
        "parameters": _num_parameters(folder / "model.safetensors") or None,
        "origin": {n: v for n, v in config.get("origin", {}).items() if n != "chat_template"},
        "data": config["data"],
        "recipe": config["recipe"],
        "metrics": read_metrics(folder),
        "files": sizes,
    }


def component_facts(axis: str, name: str) -> dict[str, Any]:
    """A component's documentation and options."""
    import inspect

    from morphogen.core import discover
    from morphogen.core.schema import REQUIRED, options

    component = discover.find(axis, name)
    table = [
        {
            "option": option.name,
            "type": option.type_name,
            "default": "required" if option.default is REQUIRED else option.default,
            "meaning": option.comment,
        }
        for option in options(component).values()
        if option.name != "cond"  # --cond gives a task its conditions
    ]
    module = inspect.getdoc(inspect.getmodule(component)) or ""
    own = inspect.getdoc(component) or ""
    return {"axis": axis, "name": name, "module": module, "doc": own, "options": table}


def _num_parameters(file: Any) -> int:
    """Numbers in a safetensors file that are no bytes of other files, from its header alone."""
    from math import prod

    from safetensors import SafetensorError, safe_open

    from morphogen.core.driver import HELD
    from morphogen.core.errors import BundleError

    try:
        with safe_open(file, framework="pt") as tensors:
            names = tensors.keys()  # a safetensors file cannot be looped over itself
            weights = [name for name in names if not name.startswith(HELD)]
            return sum(prod(tensors.get_slice(name).get_shape()) for name in weights)
    except (SafetensorError, OSError) as error:
        raise BundleError(f"the weights cannot be read: {error}", where=file) from error


def _print_component(facts: dict[str, Any]) -> None:
    from morphogen.cli._parts import print_table

    print(f"{facts['name']} ({facts['axis']})\n")
    print("\n\n".join(filter(None, (facts["module"], facts["doc"]))))
    if facts["options"]:
        print("\noptions")
        rows = [
            (f"{o['option']} = {o['default']}", f"{o['meaning']} ({o['type']})")
            for o in facts["options"]
        ]
        print_table(rows, indent="  ")
