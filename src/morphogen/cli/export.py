"""`morphogen export models/letters --to letters-llama`: a language model as others run it.

`morphogen export models/letters --to letters.gguf --type q8_0`: as llama.cpp does.
`morphogen export models/boots --to models/small --format int8`: any bundle, in weights of 8 bits.
"""

from __future__ import annotations

from typing import Annotated

import typer

HUB = "hub-folder"  # what `--to llama` writes, with a card


def export(
    bundle: Annotated[str, typer.Argument(help="folder of a trained bundle")],
    *,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="folder to write, or NAME.gguf, not there yet; or a form (llama, gguf, onnx, "
            "peft, int8, int4, bundle, hub-folder), which goes beside the bundle",
        ),
    ],
    format: Annotated[
        str | None,
        typer.Option("--format", help="transformers, gguf, peft, bundle, int8, int4, onnx"),
    ] = None,
    type: Annotated[str, typer.Option("--type", help="of numbers in gguf: f32, f16, q8_0")] = "f32",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="import components it names")] = False,
) -> None:
    """Write a language model in the layouts of Llama and its like, or as a GGUF file."""
    from pathlib import Path

    from morphogen.cli._parts import print_found
    from morphogen.evaluation.card import card
    from morphogen.interop.export import FORMATS
    from morphogen.interop.export import export as write
    from morphogen.records.recording import did

    forms = {"llama": "transformers", HUB: "transformers", **{name: name for name in FORMATS}}
    is_for_hub = to == HUB
    if format is None and to in forms:
        own = bundle.rstrip("/")
        format, to = forms[to], f"{own}.gguf" if to == "gguf" else f"{own}-{to}"
    found = write(bundle, to, format=format, type=type, trust=trust)
    if is_for_hub:
        Path(to, "README.md").write_text(card(Path(bundle)))
    print_found(found, as_json)
    did("export", bundle, made=[to], bundle=bundle)
