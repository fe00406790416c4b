"""`morphogen sample models/boots -n 64 --out grid.png`: draw new items.

`morphogen sample models/bard --prompt "ROMEO:" --stream`: a text, seen as it is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from morphogen.core.visible import in_shell


def sample(
    bundle: Annotated[str, typer.Argument(help="folder of a bundle, or of a published model")],
    *,
    num: Annotated[int, typer.Option("-n", "--num", min=1, help="how many items")] = 16,
    out: Annotated[
        str | None, typer.Option(help="where the items go: a file, or a folder for one file each")
    ] = None,
    seed: Annotated[int, typer.Option(help="same seed, same items")] = 0,
    label: Annotated[
        str | None, typer.Option(help="class, by name: short for --cond label=")
    ] = None,
    cond: Annotated[list[str] | None, typer.Option(help="condition, name=value")] = None,
    prompt: Annotated[
        str, typer.Option(help="what a picture shows; or, with --stream, the text to go on from")
    ] = "",
    stream: Annotated[
        bool, typer.Option("--stream", help="write one text here, token by token")
    ] = False,
    guidance: Annotated[float | None, typer.Option(help="strength; 1 is none")] = None,
    judge: Annotated[
        str | None, typer.Option(help="bundle of pairs that says which of several draws is best")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="option=value, such as num_steps=10")
    ] = None,
    watermark: Annotated[
        bool, typer.Option("--watermark", help="mark what is made, for `morphogen whence` to find")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps")] = "cpu",
    trust: Annotated[bool, typer.Option("--trust", help="import components it names")] = False,
) -> None:
    """Draw new items from a trained bundle."""
    from contextlib import closing

    from morphogen.cli._parts import conditions_of, parse_pairs
    from morphogen.cli._progress import draw_with_progress
    from morphogen.core.drawing import Drawing
    from morphogen.core.errors import RecipeError
    from morphogen.interop.importing import opened_or_imported
    from morphogen.records.recording import generating, recording

    opened = opened_or_imported(bundle, trust=trust, device=device)
    if judge is not None:
        opened.judge = opened_or_imported(judge, trust=trust, device=device)
    draws_by_prompt = "prompt" in opened.family.conditions
    if prompt and not stream and not draws_by_prompt:
        raise RecipeError(
            "a prompt is gone on from with --stream",
            hint=f"--stream, or: morphogen task complete {in_shell(bundle)} --prompt ...",
        )
    options = parse_pairs(settings or [], "--set")
    if guidance is not None:
        options["guidance"] = str(guidance)
    conditions = conditions_of(cond, label)
    if prompt and draws_by_prompt:
        conditions["prompt"] = prompt
    if stream:
        model = (opened, bundle, watermark)
        _write_here(model, prompt, out, seed=seed, cond=conditions, **options)
        return
    drawing = Drawing(
        opened, num, out or f"samples{opened.codec.suffix}", seed=seed, cond=conditions, **options
    )
    asked = {"num": num, "cond": conditions, **options}
    with (
        recording() as records,
        generating(
            records,
            (opened, bundle),
            "generate",
            prompt,
            seed=seed,
            asked=asked,
            watermark=watermark,
        ) as noted,
        closing(iter(drawing)) as parts,
    ):
        try:
            draw_with_progress(drawing, parts)
        except KeyboardInterrupt:
            parts.close()  # writes what waits for a file to be full
            print(f"stopped: {drawing.written:,} of {num:,} items in {drawing.path}")
            raise typer.Exit(130) from None
        for file in drawing.files:
            noted.keep(file)
    print(f"{drawing.written:,} items ({drawing.route}) in {drawing.path}")


def _write_here(
    model: tuple[Any, str, bool],
    prompt: str,
    out: str | None,
    *,
    seed: int,
    **options: Any,
) -> None:
    """Write one text on the terminal as it comes. Ctrl-C ends it, and what there is of it stays."""
    import sys

    from morphogen.core.codec import Item
    from morphogen.core.result import check_empty
    from morphogen.records.recording import generating, recording

    if out is not None:
        check_empty(Path(out))

    def tell(piece: Any) -> None:
        print(piece.text, end="", flush=True)

    print(prompt, end="", flush=True)
    with (
        recording() as records,
        generating(
            records, model[:2], "complete", prompt, seed=seed, asked=options, watermark=model[2]
        ) as noted,
    ):
        begun = Item(prompt, "--prompt")
        result = model[0].task("complete", begun, tell=tell, seed=seed, **options)
        noted.answer, noted.reason = result.raw[0], result.values["finish"][0]
    print(flush=True)
    said = [result.values["cut"]] if "cut" in result.values else []
    if out is not None:
        result.raw = [prompt + text for text in result.raw]
        said.append(f"written to {result.save(out)}")
    if said:
        print("; ".join(said), file=sys.stderr)
    if "interrupted" in result.values["finish"]:
        raise typer.Exit(130)
