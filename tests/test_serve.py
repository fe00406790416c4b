"""The server: real models behind a real socket, asked by the official client."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import torch

from morphogen.records import Records
from morphogen.records import open as records_at
from morphogen.serve import app
from morphogen.serve.settings import Settings
from small_models import answering, language_model, trained

torch.set_num_threads(1)


class Running:
    """A server in a thread of its own."""

    def __init__(self, settings: Settings, records: object = None) -> None:
        built = app.build_app(settings, records)
        self.serving = built.state.serving
        self.server = app.Server(app.configured(built, settings))
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> Running:
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            time.sleep(0.01)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    answering("yours", length=256).save(folder / "talker")
    language_model(trained(), length=128).save(folder / "texts" / "writer")
    return folder


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Records]:
    folder = tmp_path_factory.mktemp("records")
    with records_at(folder / "records.db", key=bytes(32)) as records:
        yield records


@pytest.fixture(scope="module")
def running(models: Path, records: Records) -> Iterator[Running]:
    with Running(Settings(models=models, port=0, threads=1, rows=8), records) as server:
        yield server


@pytest.fixture(scope="module")
def client(running: Running) -> openai.OpenAI:
    return running.client


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["talker", "texts/writer"]
    assert client.models.retrieve("texts/writer").id == "texts/writer"
    with pytest.raises(openai.NotFoundError, match="Did you mean 'talker'"):
        client.models.retrieve("talkr")


def test_a_conversation_goes_on(client: openai.OpenAI) -> None:
    told = client.chat.completions.create(
        model="talker", messages=[{"role": "user", "content": "Is it?"}], temperature=0
    )
    assert told.choices[0].message.content == "yours"
    assert told.choices[0].finish_reason == "stop"
    assert told.usage is not None
    assert told.usage.completion_tokens == told.usage.total_tokens - told.usage.prompt_tokens
    assert told.model_extra is not None
    assert told.model_extra["morphogen"]["verdict"] == "not evaluated"


def test_a_stream_says_the_same(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="talker", messages=[{"role": "user", "content": "Is it?"}], temperature=0,
        stream=True,
    ) as stream:  # fmt: skip
        chunks = list(stream)
    assert "".join(each.choices[0].delta.content or "" for each in chunks) == "yours"
    assert [each.choices[0].finish_reason for each in chunks][-1] == "stop"


def test_texts_are_completed(client: openai.OpenAI) -> None:
    def told(seed: int) -> str:
        return client.completions.create(
            model="writer", prompt="the harbour", max_tokens=8, seed=seed
        ).choices[0].text  # fmt: skip

    assert told(1) == told(1) != told(2)


def test_what_is_asked_is_recorded(client: openai.OpenAI, records: Records) -> None:
    told = client.chat.completions.create(
        model="talker", messages=[{"role": "user", "content": "Is it?"}], temperature=0, seed=7
    )
    assert told.model_extra is not None
    kept = records.generations.get(told.model_extra["morphogen"]["generation_id"])
    assert (kept.state, kept.text, kept.seed, kept.model) == (
        "finished",
        "Is it?\nyours",
        7,
        "talker",
    )
    assert kept.model_hash == told.model_extra["morphogen"]["model_hash"]
    assert told.usage is not None
    assert kept.usage["completion_tokens"] == told.usage.completion_tokens


def test_who_goes_frees_the_place_and_it_is_recorded_as_cut(
    client: openai.OpenAI, running: Running, records: Records
) -> None:
    stream = client.completions.create(
        model="writer", prompt="a", max_tokens=100, stream=True, seed=1
    )
    first = next(iter(stream))
    stream.close()
    assert first.model_extra is not None
    uid = first.model_extra["morphogen"]["generation_id"]
    patience = time.monotonic() + 10
    while records.generations.get(uid).state == "started" and time.monotonic() < patience:
        time.sleep(0.01)
    assert records.generations.get(uid).state in ("cut", "finished")
    assert not running.serving.pool.open["texts/writer"].asked
