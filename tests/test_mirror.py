"""Runs and models in MLflow, in a store of files here."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mlflow", reason="needs morphogen[mlflow]")

import morphogen as mg
from morphogen.core.bundle import Bundle
from morphogen.records.mirror import Mirror
from morphogen.records.models import hash_of
from morphogen.records.recording import evaluated, training
from morphogen.training.run import sessions

SETTINGS = ["backbone.name=mlp", "backbone.model_dim=8", "train.num_previews=0"]
RECORD = {
    "scores": {"frechet_ratio": {"value": 2.5, "n": 4}},
    "copying": {"verdict": "no sign of copying"},
}


@pytest.fixture
def uri(tmp_path, monkeypatch):
    uri = f"file://{tmp_path}/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    # Its files are in maintenance, says MLflow; a database of it takes ten seconds to be made.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)  # where MLflow leaves what belongs to its runs
    return uri


def trained(data, **asked):
    for session in sessions(data, **asked):
        with training(None, session):
            session.train(lambda log: None)


def test_a_run_its_model_and_its_judgement_are_shown(uri, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "photos.npz", pixels)
    out = tmp_path / "boots"
    asked = {"family": "autoencoder", "budget": "4steps", "settings": SETTINGS, "seed": 3}
    trained(str(tmp_path / "photos.npz"), out=str(out), **asked)
    evaluated(None, Bundle.open(out), RECORD, {"missed": [], "demands": {}})
    client = Mirror(uri).client
    (experiment,) = [e for e in client.search_experiments() if e.name == "morphogen"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "boots")
    assert run.data.params["family.name"] == "autoencoder"
    assert run.data.params["train.seed"] == "3"
    assert run.data.metrics["eval.frechet_ratio"] == 2.5
    assert run.data.tags["morphogen.gate"] == "passed"
    assert run.data.tags["morphogen.place"] == str(out)
    assert [m.value for m in client.get_metric_history(run.info.run_id, "loss")]
    (version,) = client.search_model_versions("name = 'boots'")
    assert version.tags["morphogen.hash"] == hash_of(out) == run.data.tags["morphogen.hash"]
    assert version.run_id == run.info.run_id


def test_what_mlflow_refuses_loses_no_training(uri, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://x")
    data = mg.load(np.zeros((40, 8, 8), np.uint8))
    asked = {"family": "autoencoder", "budget": "1steps", "settings": SETTINGS}
    with pytest.warns(UserWarning, match="MLflow does not show this"):
        trained(data, out=str(tmp_path / "m"), **asked)
    assert (tmp_path / "m" / "config.json").is_file()
