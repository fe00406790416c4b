"""`morphogen import models/published/smollm2 --out models/base`: a published model as a bundle."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def import_(
    source: Annotated[
        str,
        typer.Argument(
            help="a folder of transformers, diffusers or faster-whisper, a .gguf file, "
            "or owner/name of the Hub"
        ),
    ],
    *,
    out: Annotated[str, typer.Option("--out", help="folder of the bundle")],
    length: Annotated[
        int | None, typer.Option(min=2, help="tokens of a text at most; none: up to 4,096")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=32, help="side at which pictures are seen, in pixels")
    ] = None,
) -> None:
    """Take in a model that others made, as a bundle like any other."""
    from morphogen.core.storage import expanded
    from morphogen.core.writing import CanWrite
    from morphogen.evaluation.card import write_card
    from morphogen.interop.importing import import_model
    from morphogen.records.recording import did

    if (expanded(out) / "config.json").exists():
        from morphogen.core.errors import BundleError

        raise BundleError("there is a bundle already", where=out, hint="--out another folder")
    bundle = import_model(source, length=length, size=size)
    folder = bundle.save(out)
    write_card(folder)
    did("import", source, made=[folder], facts={"origin": bundle.origin}, bundle=folder)
    print(f"{folder}: {_size(bundle)}")
    print(f"licence: {bundle.origin.get('licence', 'none stated: ask who made it')}")
    verb = "chat" if "chat_template" in bundle.origin else "task complete"
    verb = verb if isinstance(bundle.family, CanWrite) else "tasks"
    print(f"next: morphogen {verb} {folder}")


def _size(bundle: Any) -> str:
    """How large a model is, and what its items are."""
    model, codec = bundle.family, bundle.codec
    num = sum(parameter.numel() for parameter in model.parameters())
    # What an engine keeps in a file of its own has no parameters to count.
    size = f"{num:,} parameters" if num else f"{model.num_bytes / 1e6:,.1f} MB"
    if codec.spec.kind == "token":
        return f"{size}, texts of up to {codec.spec.shape[0]:,} tokens"
    return f"{size}, {bundle.recipe.modality['name']}: {codec.spec}"
