"""`morphogen train photos/ --budget 10m --out models/boots`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from morphogen.core.visible import in_shell


def train(
    source: Annotated[
        str | None, typer.Argument(help="the data: a folder, a file, hf://NAME")
    ] = None,
    *,
    family: Annotated[
        str | None,
        typer.Option(help="one, or a chain: vq_vae+autoregressive; none: the usual for the data"),
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="morphogen list backbones")] = None,
    budget: Annotated[str | None, typer.Option(help="90s, 10m, 2h, 5000steps, 20epochs")] = None,
    out: Annotated[str | None, typer.Option(help="folder of the bundle")] = None,
    recipe: Annotated[str | None, typer.Option(help="TOML file with any of these settings")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="table.option=value; may be repeated")
    ] = None,
    through: Annotated[str | None, typer.Option(help="bundle in whose latents to train")] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="bundle to begin with: it is adapted to the data")
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="with --from: train this alone, such as lora")
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="with --from: what it is taught, such as grpo")
    ] = None,
    modality: Annotated[str | None, typer.Option(help="read the data as this")] = None,
    condition: Annotated[
        str | None,
        typer.Option(help="learned with the items: caption; caption=ENCODER; with commas, several"),
    ] = None,
    canaries: Annotated[
        int | None,
        typer.Option(help="plant so many made-up items: are they remembered?"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="same seed, same weights")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, mps")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on where --out stopped")] = False,
    forecast: Annotated[
        bool, typer.Option("--forecast", help="say what it needs, then stop")
    ] = False,
    trust: Annotated[
        bool, typer.Option("--trust", help="import components that files name")
    ] = False,
) -> None:
    """Train a model of your data; save it as a bundle."""
    from morphogen.cli._progress import training_progress
    from morphogen.records.recording import recording, training
    from morphogen.training.choice import choices
    from morphogen.training.run import sessions

    chosen = {
        "train.device": device,
        "modality.name": modality,
        "modality.conditions": condition,
        "modality.canaries": canaries,
    }
    options: dict[str, Any] = {
        "family": family,
        "recipe": recipe,
        # --set comes last, so that it wins.
        "settings": [f"{key}={v}" for key, v in chosen.items() if v] + list(settings or []),
        "backbone": backbone,
        "budget": budget,
        "seed": seed,
        "through": through,
        "start": start,
        "adapter": adapter,
        "objective": objective,
        "trust": trust,
    }
    if forecast:
        for session in sessions(source, out=out, dry=True, **options):
            print(*choices(session.data), session.forecast().text(), sep="\n")
        return
    with recording() as records:
        for number, session in enumerate(sessions(source, out=out, resume=resume, **options)):
            if not session.first:  # of several processes one talks
                session.train(lambda log: None)
                continue
            _announce(session, number)
            with training_progress() as progress, training(records, session):
                session.train(progress)
    if session.first:
        print(f"next: morphogen tasks {in_shell(session.out)}")


def _announce(session: Any, number: int) -> None:
    """What is worth knowing before a stage begins."""
    report, look = session.data.report, f"morphogen inspect {in_shell(session.data.source)}"
    if number:
        print(f"next stage: {session.recipe.family['name']} in {session.out}")
    elif report.skipped:
        print(f"{len(report.skipped):,} items cannot be used: {look}")
    if report.num_leaks and not number:
        said = f"items in both the training and the test split: {report.num_leaks:,}"
        print(f"{said}; scores will flatter the model: {look}")
    if planted := session.data.canaries:
        times = int(planted.repeats.sum())
        print(f"{len(planted.planted):,} canaries are planted in it, {times:,} times in all")
