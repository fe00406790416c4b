"""Several servers behind one address, on a local Ray."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from morphogen.core.errors import RecipeError
from morphogen.records import open as records_at
from morphogen.serve import replicas
from morphogen.serve.settings import Settings
from small_models import answering


def test_two_replicas_answer_and_keep_one_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    serve = pytest.importorskip("ray.serve")
    answering("yours", length=64).save(tmp_path / "models" / "talker")
    monkeypatch.setenv("MORPHOGEN_KEY_FILE", str(tmp_path / "key"))
    records_at(tmp_path / "records.db").close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = Settings(
        models=tmp_path / "models", port=port, records=str(tmp_path / "records.db"), threads=1
    )
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
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
        ray.shutdown()
    assert {each.choices[0].message.content for each in answers} == {"yours"}
    with records_at(tmp_path / "records.db") as records:
        uids = [each.model_extra["morphogen"]["generation_id"] for each in answers]
        assert {records.generations.get(uid).state for uid in uids} == {"finished"}


def test_how_many_replicas() -> None:
    assert [replicas.bounds(told) for told in ("2", "1-4")] == [(2, 2), (1, 4)]
    for told in ("0", "4-1", "many", "-1"):
        with pytest.raises(RecipeError, match="no number of replicas"):
            replicas.bounds(told)
