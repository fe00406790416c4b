"""`morphogen serve --models models`: trained models behind a standard API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def serve(
    *,
    models: Annotated[Path, typer.Option(help="folder in which the models lie")] = Path("models"),
    data: Annotated[
        list[Path] | None, typer.Option(help="data that the studio shows; may be told repeatedly")
    ] = None,
    indexes: Annotated[Path, typer.Option(help="folder in which indexes of documents lie")] = Path(
        "indexes"
    ),
    agents: Annotated[
        Path, typer.Option(help="folder of files that tell of agents: models with tools")
    ] = Path("agents"),
    memories: Annotated[Path, typer.Option(help="folder in which memories of agents lie")] = Path(
        "memories"
    ),
    runs: Annotated[Path, typer.Option(help="folder in which traces of agents lie")] = Path("runs"),
    host: Annotated[
        str, typer.Option(help="address to listen at; another than this machine's needs a key")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one")] = 8000,
    records: Annotated[
        str | None, typer.Option(help="file or URL of the records; none: the usual place")
    ] = None,
    memory_gb: Annotated[
        float | None, typer.Option(help="of all models; none: three quarters of the machine's")
    ] = None,
    rows: Annotated[int, typer.Option(help="texts that a model writes at once")] = 64,
    batch: Annotated[int, typer.Option(help="items that a model draws at once")] = 8,
    queue: Annotated[int, typer.Option(help="requests of a model that may wait")] = 128,
    rate: Annotated[str, typer.Option(help="requests of a key; none: any number")] = "600/minute",
    body_mb: Annotated[float, typer.Option(help="of a request at most")] = 32.0,
    watermark: Annotated[
        bool, typer.Option("--watermark", help="mark what is made, for `morphogen whence` to find")
    ] = False,
    threads: Annotated[int, typer.Option(help="of each model; 0: one for each core")] = 0,
    patience: Annotated[
        float, typer.Option(help="seconds that running requests get at the end")
    ] = 10.0,
    replicas: Annotated[
        str | None, typer.Option(help="servers behind one address, by Ray: 2, or 1-4 as needed")
    ] = None,
    traces: Annotated[
        str | None,
        typer.Option(help="OpenTelemetry collector: http://127.0.0.1:4318/v1/traces"),
    ] = None,
) -> None:
    """Serve the models of a folder: an API as OpenAI's, on this machine."""
    from morphogen.core.errors import missing_path
    from morphogen.records.recording import PLACE
    from morphogen.serve import app, logs
    from morphogen.serve import replicas as on_ray
    from morphogen.serve.settings import Settings

    settings = Settings(
        models=models, data=tuple(data or ()), indexes=indexes, agents=agents, memories=memories,
        runs=runs, host=host, port=port, records=records, memory_gb=memory_gb, rows=rows,
        batch=batch, queue=queue, rate=None if rate == "none" else rate, body_mb=body_mb,
        threads=threads, patience=patience, watermark=watermark, traces=traces,
    ).check()  # fmt: skip
    several = None if replicas is None else on_ray.bounds(replicas)
    if not models.is_dir():
        raise missing_path(models)
    for each in settings.data:
        if not each.exists():
            raise missing_path(each)
    if watermark:
        from morphogen.provenance.identity import Identity

        Identity.needed()
    if records is not None:
        os.environ[PLACE] = records  # what models make is recorded in the same place
    from morphogen.records import records as kept

    with kept.open(settings.records) as opened:
        app.check_address(settings, opened)
        logs.configure()
        if several is None:
            app.run(settings, opened)
    if several is not None:
        on_ray.run(settings, *several)
