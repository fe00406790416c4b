"""Runs and models, shown in MLflow as well, where MLFLOW_TRACKING_URI says that there is one.

    experiment "morphogen" -< run: the recipe as parameters, the log as metrics, where it lies
                              its judgements as metrics, `eval.NAME`
    registered model, called as its folder -< a version for each run, with the hash of its weights

The bundle stays where it lies: a version leads to a card of it. No prompt and no answer goes there.
What MLflow refuses is a warning, and nothing is lost for it.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from morphogen.core.extras import extra

PLACE, EXPERIMENT = "MLFLOW_TRACKING_URI", "morphogen"
MOST_POINTS = 200  # of a curve
MOST_VALUES, MOST_PARAMS, LONGEST = 1000, 100, 500  # of one request, as MLflow bounds it
UNTOLD = {"step", "seconds"}
HASH = "morphogen.hash"


class Mirror:
    """One MLflow."""

    def __init__(self, uri: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # who trains here is nobody's
        self.mlflow = extra("mlflow", "mlflow", "runs are shown in MLflow")
        self.client = self.mlflow.MlflowClient(tracking_uri=uri)
        known = self.client.get_experiment_by_name(EXPERIMENT)
        self.experiment: str = (
            self.client.create_experiment(EXPERIMENT) if known is None else known.experiment_id
        )

    def begin(self, name: str, recipe: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """A run begins; returns what MLflow calls it."""
        run = self.client.create_run(self.experiment, run_name=name, tags=dict(tags))
        entities = self.mlflow.entities
        params = [entities.Param(key, str(value)[:LONGEST]) for key, value in _flat(recipe) if key]
        for some in _batches(params, MOST_PARAMS):
            self.client.log_batch(run.info.run_id, params=some)
        return str(run.info.run_id)

    def end(self, run: str, log: Path, *, state: str) -> None:
        """A run is over: its curves, thinned out, and how it ended."""
        from morphogen.core.config import read_log

        lines = read_log(log) if log.is_file() else []
        every = max(len(lines) // MOST_POINTS, 1)
        entities, now = self.mlflow.entities, int(1000 * time.time())
        points = [
            entities.Metric(name, float(value), now, int(line["step"]))
            for line in [*lines[:-1:every], *lines[-1:]]
            for name, value in line.items()
            if name not in UNTOLD and isinstance(value, (int, float))
        ]
        for some in _batches(points, MOST_VALUES):
            self.client.log_batch(run, metrics=some)
        self.client.set_terminated(run, status="FINISHED" if state == "finished" else "KILLED")

    def keep(self, run: str, bundle: Path, digest: str) -> None:
        """The model of a run, as a version of the registered model of its name."""
        name = bundle.resolve().name
        self.client.set_tag(run, HASH, digest)
        about = {"place": str(bundle.resolve()), "hash": digest}
        with tempfile.TemporaryDirectory() as folder:
            card = Path(folder, "bundle.json")
            card.write_text(json.dumps(about, indent=2) + "\n")
            self.client.log_artifact(run, str(card), "bundle")
        if not self.client.search_registered_models(f"name = '{_quoted(name)}'"):
            self.client.create_registered_model(name)
        source = f"{self.client.get_run(run).info.artifact_uri}/bundle"
        self.client.create_model_version(name, source, run_id=run, tags={HASH: digest})

    def judged(self, digest: str, scores: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """A judgement of a model, with the run that trained it, where that is there."""
        found = self.client.search_runs(
            [self.experiment], f"tags.`{HASH}` = '{_quoted(digest)}'", max_results=1
        )
        for run in found:
            for name, score in scores.items():
                self.client.log_metric(run.info.run_id, f"eval.{name}", float(score["value"]))
            for name, value in tags.items():
                self.client.set_tag(run.info.run_id, name, value)


@contextmanager
def mirrored() -> Iterator[Mirror | None]:
    """The MLflow of the environment, where it names one. Whatever goes wrong with it meanwhile is
    told as a warning: what it may raise is its own, and half a dozen libraries'."""
    uri = os.environ.get(PLACE)
    if not uri:
        yield None
        return
    mirror = None
    try:
        mirror = Mirror(uri)
    except Exception as error:
        _warn(error)
    try:
        yield mirror
    except Exception as error:
        _warn(error)


def _warn(error: Exception) -> None:
    first = next(iter(str(error).splitlines()), type(error).__name__)
    warnings.warn(f"MLflow does not show this: {first}", stacklevel=4)


def _flat(tables: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """`family.name`, value."""
    for name, value in tables.items():
        key = f"{before}{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def _batches(items: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    yield from (items[start : start + most] for start in range(0, len(items), most))


def _quoted(text: str) -> str:
    return text.replace("'", "")
