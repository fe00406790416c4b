"""`morphogen export models/letters --to letters-llama`: a language model as others run it.

`morphogen export models/letters --to letters.gguf --type q8_0`: as llama.cpp does.
`morphogen export models/boots --to models/small --format int8`: any bundle, in weights of 8 bits.
"""

from __future__ import annotations

from typing import Annotated

import typer


def export(
    bundle: Annotated[str, typer.Argument(help="folder of a trained bundle")],
    *,
    to: Annotated[str, typer.Option("--to", help="folder to write, or NAME.gguf; not there yet")],
    format: Annotated[
        str | None,
        typer.Option("--format", help="transformers, gguf, peft, bundle, int8, int4, onnx"),
    ] = None,
    type: Annotated[str, typer.Option("--type", help="of numbers in gguf: f32, f16, q8_0")] = "f32",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="import components it names")] = False,
) -> None:
    """Write a language model in the layouts of Llama and its like, or as a GGUF file."""
    from morphogen.cli._parts import print_found
    from morphogen.interop.export import export as write
    from morphogen.records.recording import did

    print_found(write(bundle, to, format=format, type=type, trust=trust), as_json)
    did("export", bundle, made=[to], bundle=bundle)
