"""On a Ray of this machine, started once: the runs of a comparison, and several servers behind one
address."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from morphogen.comparison.compare import compare
from morphogen.comparison.runs import Job, run_one
from morphogen.core.bundle import Bundle
from morphogen.core.errors import RecipeError
from morphogen.records import open as records_at
from morphogen.serve import replicas
from morphogen.serve.settings import Settings
from small_models import answering


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The key of the records, known to whatever Ray starts."""
    file = tmp_path_factory.mktemp("records") / "key"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MORPHOGEN_KEY_FILE", str(file))
        yield file


@pytest.fixture(scope="module")
def cluster(key: Path) -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="needs morphogen[ray]")
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_runs_come_back_as_they_would_have_been_here(cluster: None, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "noise.npz", draw.integers(0, 256, (200, 6, 6), dtype=np.uint8))
    source = str(tmp_path / "noise.npz")
    options: dict[str, Any] = {"budget": "10steps", "seeds": 1, "num": 40}
    there = compare(source, families=["rbm"], on="ray", out=tmp_path / "there", **options)
    run = tmp_path / "there" / "runs" / "rbm-0"
    assert Bundle.open(run).run["steps"] == 10
    here = run_one(Job(source, "rbm", 0, "10steps", 40, (), str(tmp_path / "here")))
    found = here["evaluation"]["scores"]["frechet_ratio"]["value"]
    assert there.places[0].value == pytest.approx(found, rel=1e-4)


def test_two_replicas_answer_and_keep_one_record(cluster: None, tmp_path: Path) -> None:
    serve = pytest.importorskip("ray.serve")
    answering("yours", length=64).save(tmp_path / "models" / "talker")
    records_at(tmp_path / "records.db").close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = Settings(
        models=tmp_path / "models", port=port, records=str(tmp_path / "records.db"), threads=1
    )
    try:
        serve.start(http_options={"host": settings.host, "port": port})
        serve.run(replicas.application(settings, 2, 2), name=replicas.NAME)
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")

        def ask(seed: int) -> Any:
            messages: Any = [{"role": "user", "content": "Is it?"}]
            return client.chat.completions.create(
                model="talker", messages=messages, temperature=0, seed=seed
            )

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(16)))
        states = serve.status().applications[replicas.NAME].deployments[replicas.NAME]
        assert states.replica_states == {"RUNNING": 2}
    finally:
        serve.shutdown()
    assert {each.choices[0].message.content for each in answers} == {"yours"}
    with records_at(tmp_path / "records.db") as records:
        uids = [each.model_extra["morphogen"]["generation_id"] for each in answers]
        assert {records.generations.get(uid).state for uid in uids} == {"finished"}


def test_how_many_replicas() -> None:
    assert [replicas.bounds(told) for told in ("2", "1-4")] == [(2, 2), (1, 4)]
    for told in ("0", "4-1", "many", "-1"):
        with pytest.raises(RecipeError, match="no number of replicas"):
            replicas.bounds(told)
