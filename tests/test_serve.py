"""The server: real models behind a real socket, asked by the official client.

The ten ways in which servers break clients, from the threads of those who met them, are the tests
whose names begin with a number.
"""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import psutil
import pytest
import schemathesis
import torch
from hypothesis import HealthCheck, given, settings
from PIL import Image as Pillow
from sklearn.datasets import load_digits
from sqlalchemy import event

from morphogen.cli.app import main
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.core.errors import DataError, MorphogenError, RecipeError, RefusedPair
from morphogen.core.recipe import Recipe, build_family, resolve
from morphogen.core.writing import Limits, Request
from morphogen.modalities.category import Category
from morphogen.modalities.image import Image
from morphogen.records import Records
from morphogen.records import open as records_at
from morphogen.records.backup import back_up
from morphogen.records.quotas import Quota
from morphogen.records.roles import ACTIONS, ROLES, actions_of
from morphogen.serve import app
from morphogen.serve.grounds import trace_of
from morphogen.serve.rates import Rates
from morphogen.serve.settings import Settings
from morphogen.serve.traces import Traces
from morphogen.serve.worker.hidden import known_of
from morphogen.systems.knowledge.answering import SILENT
from morphogen.systems.knowledge.embedders import NoEmbedder, RemoteEmbedder, embedder_of
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.reading import read_into
from morphogen.systems.knowledge.vectors import of_length_one
from small_models import answering, language_model, with_marks

torch.set_num_threads(1)

ASKED: list[Any] = [{"role": "user", "content": "Is it?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"place": {"enum": ["Bonn", "Rome"]}},
            "required": ["place"],
            "additionalProperties": False,
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "ages": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["name", "ages"],
}


PAPERS = {
    "leave.md": "# Leave\n\n## Notice\n\nThe notice period is three months.\n",
    "desks.md": "# Desks\n\nThe desk by the window is yours.\n",
}


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
    talker = answering("yours", length=512)
    talker.save(folder / "talker")
    writer = language_model(with_marks(), length=512)
    replace(writer, origin=talker.origin).save(folder / "texts" / "writer")
    pictures().save(folder / "digits")
    return folder


def pictures(family: str = "flow_matching") -> Bundle:
    """A model of pictures of two classes, far from trained."""
    codec = Image().fit([Item(each) for each in load_digits().images[:9].astype(np.uint8) * 15])
    codec.condition_codecs["label"] = Category().fit([Item("three"), Item("eight")])
    recipe = Recipe(family={"name": family}, backbone={"name": "mlp", "model_dim": 16})
    torch.manual_seed(0)
    built = build_family(recipe, codec.spec, codec.conditions).eval()
    return Bundle(built, codec, resolve(recipe, codec.spec), priors={"label": [0.5, 0.5]})


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Records]:
    folder = tmp_path_factory.mktemp("records")
    with records_at(folder / "records.db", key=bytes(32)) as records:
        yield records


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return indexed(tmp_path_factory.mktemp("documents")).parent


def indexed(folder: Path) -> Path:
    """An index of two documents, that is searched by words."""
    papers = folder / "papers"
    papers.mkdir()
    for name, text in PAPERS.items():
        (papers / name).write_text(text)
    made = Index.make(folder / "indexes" / "handbook", NoEmbedder(), language=None)
    read_into(made, papers)
    made.store.close()
    return folder / "indexes" / "handbook"


@pytest.fixture(scope="module")
def running(models: Path, records: Records, indexes: Path) -> Iterator[Running]:
    settings = Settings(
        models=models, indexes=indexes, agents=indexes.parent / "agents", port=0, threads=1,
        rows=64, queue=64, rate=None,
    )  # fmt: skip
    with Running(settings, records) as server:
        yield server


@pytest.fixture(scope="module")
def client(running: Running) -> openai.OpenAI:
    return running.client


def told(answer: Any) -> dict[str, Any]:
    """What an answer says of where it came from."""
    found: dict[str, Any] = answer.model_extra["morphogen"]
    return found


def write(client: openai.OpenAI, prompt: str, seed: int, most: int = 24, **more: Any) -> str:
    answer = client.completions.create(
        model="writer", prompt=prompt, seed=seed, max_tokens=most, **more
    )
    return str(answer.choices[0].text)


# -- ten incompatibilities -------------------------------------------------------------------------


def test_1_a_message_in_parts(client: openai.OpenAI) -> None:
    parts: Any = [{"type": "text", "text": "Is "}, {"type": "text", "text": "it?"}]
    asked: Any = [{"role": "user", "content": parts}]
    answers = [
        client.chat.completions.create(model="writer", messages=each, seed=3, max_tokens=12)
        for each in (asked, ASKED)
    ]
    assert answers[0].choices[0].message.content == answers[1].choices[0].message.content
    seen: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    with pytest.raises(openai.BadRequestError, match="part of type 'image_url'"):
        client.chat.completions.create(model="writer", messages=seen)


def test_2_embeddings_come_as_base64_unless_numbers_are_asked_for(
    client: openai.OpenAI, running: Running
) -> None:
    own = client.embeddings.create(model="writer", input=["boats", "the harbour"])
    plain = client.embeddings.create(model="writer", input="boats", encoding_format="float")
    assert own.data[0].embedding == pytest.approx(plain.data[0].embedding, rel=1e-6)
    body = {"model": "writer", "input": "boats", "encoding_format": "base64"}
    raw = httpx.post(f"{running.url}/v1/embeddings", json=body).json()["data"][0]["embedding"]
    data = base64.b64decode(raw)
    assert struct.unpack(f"<{len(data) // 4}f", data) == pytest.approx(own.data[0].embedding)


def test_3_streamed_calls_have_an_index_and_an_id_once(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"messages": ASKED, "tools": [WEATHER], "tool_choice": "required"}
    whole = client.chat.completions.create(model="writer", seed=5, **asked)
    (call,) = whole.choices[0].message.tool_calls or ()
    assert json.loads(call.function.arguments)["place"] in ("Bonn", "Rome")  # type: ignore[union-attr]
    assert whole.choices[0].finish_reason == "tool_calls"
    chunks = list(client.chat.completions.create(model="writer", seed=5, stream=True, **asked))
    calls = [c for each in chunks for c in each.choices[0].delta.tool_calls or ()]
    assert {c.index for c in calls} == {0}
    assert [c.id for c in calls if c.id] == [calls[0].id]
    arguments = "".join(c.function.arguments or "" for c in calls if c.function)
    assert arguments == call.function.arguments  # type: ignore[union-attr]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_4_usage_comes_last_and_only_if_it_is_asked_for(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "talker", "messages": ASKED, "temperature": 0, "stream": True}
    *others, last = client.chat.completions.create(**asked, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage.completion_tokens > 0
    assert all(each.usage is None and each.choices for each in others)
    assert all(each.choices and not each.usage for each in client.chat.completions.create(**asked))


def test_5_new_and_unknown_fields_are_let_pass(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="writer", messages=ASKED, max_completion_tokens=3, extra_body={"brand_new": {"a": 1}}
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    with pytest.raises(openai.BadRequestError, match="suffix"):
        client.completions.create(model="writer", prompt="a", suffix="z")


def test_6_responses(client: openai.OpenAI) -> None:
    first = client.responses.create(model="talker", input="Is it?", temperature=0)
    assert (first.output_text, first.status) == ("yours", "completed")
    second = client.responses.create(
        model="talker", input="Really?", temperature=0, previous_response_id=first.id
    )
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    with client.responses.stream(model="talker", input="Is it?", temperature=0) as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_text == "yours"
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="talker", input="?", previous_response_id="resp_none")


def test_7_a_schema_is_obeyed_to_its_end(client: openai.OpenAI) -> None:
    for seed in range(8):
        answer = client.chat.completions.create(
            model="writer", messages=ASKED, seed=seed, temperature=1.5, max_tokens=120,
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
        )  # fmt: skip
        found = json.loads(answer.choices[0].message.content or "")
        assert set(found) == {"name", "ages"}
        assert isinstance(found["name"], str)
        assert all(isinstance(age, int) for age in found["ages"])
    with pytest.raises(openai.BadRequestError, match="schema"):
        client.chat.completions.create(
            model="writer",
            messages=ASKED,
            response_format={"type": "json_schema"},  # type: ignore
        )


def test_8_the_same_alone_and_among_63_others(client: openai.OpenAI) -> None:
    """200 times, others coming and going as they please; and log probabilities to the bit."""
    draw = random.Random(0)
    prompts = ["the harbour", "a", "", "12 boats with it and the harbour, still " * 2]
    asked = [(draw.choice(prompts), seed, draw.randrange(1, 17)) for seed in range(200)]
    together = dict.fromkeys(asked, "")

    def ask(each: tuple[str, int, int]) -> None:
        together[each] = write(client, each[0], each[1], each[2])

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(ask, asked))
    assert len(set(together.values())) > 150
    assert {each: write(client, *each) for each in asked} == together


def test_9_errors_come_in_the_envelope(client: openai.OpenAI, running: Running) -> None:
    with pytest.raises(openai.NotFoundError, match="Did you mean 'talker'") as missing:
        client.chat.completions.create(model="talkr", messages=ASKED)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    post = f"{running.url}/v1/chat/completions"
    body = {"model": "talker", "messages": "none"}
    for status, answer in {
        400: httpx.post(post, content=b"{", headers={"content-type": "application/json"}),
        404: httpx.get(f"{running.url}/v1/nowhere"),
        405: httpx.get(post),
        413: httpx.post(post, content=b" " * (33 << 20)),
    }.items():
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert httpx.post(post, json=body).json()["error"]["param"].startswith("messages")
    deep = b'{"model": "talker", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    told_of = httpx.post(post, content=deep, headers={"content-type": "application/json"})
    assert told_of.status_code == 400
    assert "Traceback" not in told_of.text


def test_10_what_is_cut_says_so_and_calls_without_answers_are_refused(
    client: openai.OpenAI,
) -> None:
    cut = client.chat.completions.create(model="writer", messages=ASKED, max_tokens=2, seed=1)
    assert cut.choices[0].finish_reason == "length"
    response = client.responses.create(model="writer", input="Is it?", max_output_tokens=2)
    assert response.status == "incomplete"
    called: Any = {"role": "assistant", "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    ]}  # fmt: skip
    for messages in ([*ASKED, called], [*ASKED, called, *ASKED]):
        with pytest.raises(openai.BadRequestError, match="were not answered"):
            client.chat.completions.create(model="writer", messages=messages)
    orphan: Any = {"role": "tool", "tool_call_id": "c9", "content": "fine"}
    with pytest.raises(openai.BadRequestError, match="answers no call"):
        client.chat.completions.create(model="writer", messages=[*ASKED, orphan])
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model="writer", messages=[
            {"role": "user", "content": "boats " * 600}
        ])  # fmt: skip
    assert long.value.code == "context_length_exceeded"


# -- what else is asked for ------------------------------------------------------------------------


def test_models_are_listed_with_what_is_known_of_them(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["digits", "talker", "texts/writer"]
    answer = client.chat.completions.create(model="talker", messages=ASKED, temperature=0)
    assert answer.choices[0].message.content == "yours"
    assert told(client.models.retrieve("talker"))["model_hash"] == told(answer)["model_hash"]
    assert told(answer)["verdict"] == "not evaluated"


def test_choices_log_probabilities_and_stops(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="writer", prompt="a", n=3, seed=9, max_tokens=8, logprobs=2
    )
    texts = [choice.text for choice in answer.choices]
    assert texts == [write(client, "a", 9 + i, 8) for i in range(3)]
    log_probs = answer.choices[0].logprobs
    assert log_probs is not None
    assert all(len(each) <= 2 for each in log_probs.top_logprobs or ())
    assert len(log_probs.token_logprobs or ()) in (7, 8)  # an end is no part of the text
    stop = next(sign for sign in texts[0][1:] if sign.isascii())
    stopped = client.completions.create(model="writer", prompt="a", seed=9, max_tokens=8, stop=stop)
    assert stopped.choices[0].text == texts[0][: texts[0].find(stop)]
    assert stopped.choices[0].finish_reason == "stop"
    chunks = client.completions.create(
        model="writer", prompt="a", seed=9, max_tokens=8, stream=True
    )
    assert "".join(each.choices[0].text for each in chunks) == texts[0]


def test_penalties_and_biases(client: openai.OpenAI, models: Path) -> None:
    """As the model itself is asked with them; a bias of 100 decides, one of -100 excludes."""
    bundle: Any = Bundle.open(models / "texts" / "writer")
    (prompt,) = bundle.codec.encode_sequences([Item("a")])
    limits = Limits(temperature=0.9, frequency_penalty=1.5, presence_penalty=-0.5)
    request = Request(torch.as_tensor(prompt), 16, limits, seed=3, bias={7: 2.0})
    tokens = [w.token for (w,) in bundle.family.write([request], num_rows=1)]
    asked: dict[str, Any] = {"model": "writer", "prompt": "a", "seed": 3, "max_tokens": 16}
    answer = client.completions.create(
        **asked, temperature=0.9, frequency_penalty=1.5, presence_penalty=-0.5,
        logit_bias={"7": 2}, logprobs=0,
    ).choices[0]  # fmt: skip
    assert answer.logprobs is not None
    known = [bundle.codec.token_text(token) for token in tokens]
    assert answer.logprobs.tokens == known[: len(answer.logprobs.tokens or ())]
    first = tokens[0]
    always = client.completions.create(**asked, logit_bias={str(first): 100}, logprobs=0)
    assert set((always.choices[0].logprobs or answer.logprobs).tokens or ()) == {known[0]}
    never = client.completions.create(**asked, logit_bias={str(first): -100}, logprobs=0)
    assert known[0] not in ((never.choices[0].logprobs or answer.logprobs).tokens or ())
    with pytest.raises(openai.BadRequestError, match="none of the model's"):
        client.completions.create(**asked, logit_bias={"99999": 1})


def test_the_best_of_several_and_prompts_that_are_repeated(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "writer", "prompt": "the harbour", "seed": 4}
    every = client.completions.create(**asked, n=5, max_tokens=9, logprobs=0).choices
    means = [np.mean(each.logprobs.token_logprobs) for each in every if each.logprobs]
    best = client.completions.create(**asked, n=2, best_of=5, max_tokens=9)
    order = sorted(range(5), key=lambda i: -means[i])
    assert [each.text for each in best.choices] == [every[i].text for i in order[:2]]
    assert best.usage is not None
    assert best.usage.completion_tokens > len(every)
    with pytest.raises(openai.BadRequestError, match="cannot be streamed"):
        client.completions.create(**asked, best_of=2, stream=True)
    whole = client.completions.create(**asked, echo=True, max_tokens=9, logprobs=1).choices[0]
    assert whole.text == "the harbour" + every[0].text
    alone = client.completions.create(**asked, echo=True, max_tokens=0, logprobs=1)
    (prompt,) = alone.choices
    assert (prompt.text, prompt.finish_reason) == ("the harbour", "length")
    assert alone.usage is not None
    assert alone.usage.completion_tokens == 0
    assert prompt.logprobs is not None
    assert whole.logprobs is not None
    num = alone.usage.prompt_tokens
    assert len(prompt.logprobs.token_logprobs or ()) == num
    assert (whole.logprobs.token_logprobs or ())[:num] == prompt.logprobs.token_logprobs
    assert every[0].logprobs is not None
    found = (whole.logprobs.token_logprobs or [])[num:]
    assert found == pytest.approx(every[0].logprobs.token_logprobs, rel=1e-5)
    chunks = client.completions.create(**asked, echo=True, max_tokens=9, stream=True)
    assert "".join(each.choices[0].text for each in chunks) == whole.text
    several = client.completions.create(
        **{**asked, "prompt": ["a", "the harbour"]}, n=2, max_tokens=9
    )
    texts = [each.text for each in several.choices]
    assert texts == [write(client, p, 4 + i, 9) for p in ("a", "the harbour") for i in range(2)]


def test_pictures_are_the_same_alone_and_drawn_with_others(client: openai.OpenAI) -> None:
    def drawn(seed: int) -> list[str | None]:
        label = "three" if seed % 2 else "eight"
        answer = client.images.generate(
            model="digits", prompt=label, n=1 + seed % 3, extra_body={"seed": seed}
        )
        return [each.b64_json for each in answer.data or ()]

    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(drawn, range(24)))
    assert together == [drawn(seed) for seed in range(24)]
    assert base64.b64decode(together[0][0] or "").startswith(b"\x89PNG")
    with pytest.raises(openai.BadRequestError, match="one of eight, three"):
        client.images.generate(model="digits", prompt="a boat")
    with pytest.raises(openai.BadRequestError, match="makes no pictures"):
        client.images.generate(model="writer", prompt="a boat")
    with pytest.raises(openai.BadRequestError, match="no such model here"):
        client.audio.speech.create(model="writer", input="a", voice="alloy")


def test_what_is_marked_in_a_text_hides_the_tokens_that_it_touches(tmp_path: Path) -> None:
    bundle = language_model(with_marks())
    text = "xïq kzz"  # of which no two letters are a token
    tokens = bundle.codec.encode(Item(text))
    known = known_of(bundle, {"spans": [[1, 2], [4, 7]]}, [Item(text)], tmp_path)
    assert bundle.codec.tokenizer.decode(tokens[known[0]].tolist()) == b"xq "
    whole = bundle.codec.encode(Item("boats"))
    known = known_of(bundle, {"spans": [[2, 3]]}, [Item("boats")], tmp_path)
    assert not known[0, : int((whole != bundle.codec.end).sum())].all()
    for spans in ([], [[3, 2]], [[40, 50]]):
        with pytest.raises(DataError, match="text"):
            known_of(bundle, {"spans": spans}, [Item(text)], tmp_path)
    with pytest.raises(RefusedPair, match="no text"):
        known_of(pictures(), {"spans": [[0, 1]]}, [Item(text)], tmp_path)


def test_any_task_of_any_model(client: openai.OpenAI, running: Running) -> None:
    file = client.images.generate(model="digits", prompt="eight", extra_body={"seed": 1})
    picture = base64.b64decode((file.data or [])[0].b64_json or "")
    varied = client.images.create_variation(model="digits", image=("a.png", picture), n=2)
    assert len(varied.data or ()) == 2
    hidden = Pillow.new("RGBA", (8, 8), "white")
    hidden.paste((0, 0, 0, 0), (0, 0, 4, 8))
    mask = io.BytesIO()
    hidden.save(mask, "PNG")
    edited = client.images.edit(
        model="digits", image=("a.png", picture), mask=("b.png", mask.getvalue()), prompt="eight"
    )
    before, after = (
        np.asarray(Pillow.open(io.BytesIO(each)))
        for each in (picture, base64.b64decode((edited.data or [])[0].b64_json or ""))
    )
    assert np.array_equal(before[:, 4:], after[:, 4:])
    assert not np.array_equal(before[:, :4], after[:, :4])

    def run(task: str, **body: Any) -> httpx.Response:
        return httpx.post(f"{running.url}/v1/tasks/{task}", json=body, timeout=60)

    inputs = [{"file": base64.b64encode(picture).decode(), "suffix": ".png"}]
    scored = run("fill", model="digits", inputs=inputs, seed=1, options={"num": 1, "num_steps": 2})
    assert len(scored.json()["items"]) == 2, scored.text
    wrong = run("fill", model="digits", inputs=inputs, options={"nun": 1})
    assert "Did you mean 'num'" in wrong.json()["error"]["message"]
    text = run("complete", model="writer", inputs=[{"text": "a"}], seed=1, options={"most": 4})
    assert text.json()["values"]["num_tokens"] == [4]
    for options in ({"sampler": "os:system"}, {"schema": "/etc/x.json"}):
        refused = run("complete" if "schema" in options else "generate", model="writer",
                      inputs=[{"text": "a"}], options=options)  # fmt: skip
        assert "which requests may not" in refused.json()["error"]["message"]
    bomb = io.BytesIO()
    Pillow.new("1", (20_000, 20_000)).save(bomb, "PNG")
    with pytest.raises(openai.BadRequestError, match="million pixels"):
        client.images.create_variation(model="digits", image=("a.png", bomb.getvalue()))
    outside = [{"file": "AAAA", "suffix": "/../../x"}]
    assert run("fill", model="digits", inputs=outside).status_code == 400


def test_reranked_texts_come_nearest_first(running: Running) -> None:
    body = {"model": "writer", "query": "the harbour", "documents": ["12 boats", "the harbour"]}
    found = httpx.post(f"{running.url}/v1/rerank", json=body).json()["results"]
    assert [each["index"] for each in found] == [1, 0]
    assert found[0]["relevance_score"] == pytest.approx(1)


def test_a_model_of_another_server(client: openai.OpenAI, running: Running, models: Path) -> None:
    """That of this one, asked over its own API."""
    file = models / "far.toml"
    try:
        file.write_text(f'url = "{running.url}/v1"\nmodel = "writer"\n')
        asked: dict[str, Any] = {"messages": ASKED, "seed": 5, "max_tokens": 40}
        near, far = (
            client.chat.completions.create(model=name, logprobs=True, **asked)
            for name in ("writer", "far")
        )
        assert near.choices == far.choices
        assert near.usage == far.usage
        chunks = client.chat.completions.create(model="far", stream=True, **asked)
        said = "".join(each.choices[0].delta.content or "" for each in chunks)
        assert said == near.choices[0].message.content
        must: dict[str, Any] = {"messages": ASKED, "tools": [WEATHER], "tool_choice": "required"}
        called = client.chat.completions.create(model="far", **must).choices[0]
        assert called.finish_reason == "tool_calls"
        assert called.message.tool_calls is not None
        vectors = [client.embeddings.create(model=n, input="a").data for n in ("writer", "far")]
        assert vectors[0] == vectors[1]
        with pytest.raises(openai.BadRequestError, match="sees 512 tokens at once"):
            client.completions.create(model="far", prompt="a", max_tokens=600)
        file.write_text('url = "http://127.0.0.1:9/v1"\nmodel = "writer"\n')
        with pytest.raises(openai.APIStatusError, match="the server of far failed") as failed:
            client.chat.completions.create(model="far", messages=ASKED)
        assert failed.value.status_code == 502
    finally:
        file.unlink()


def test_an_index_is_embedded_by_a_model_behind_an_address(
    client: openai.OpenAI, running: Running
) -> None:
    texts = ["a boat", "the harbour"]
    far = RemoteEmbedder(f"{running.url}/v1", "writer", seconds=60)
    told = client.embeddings.create(model="writer", input=texts).data
    expected = of_length_one(np.array([each.embedding for each in told], np.float32))
    assert far.embed(texts) == pytest.approx(expected, abs=1e-6)
    assert far.embed([]).shape == (0, far.dim)
    assert embedder_of(far.name).digest == far.digest
    with pytest.raises(MorphogenError, match="does not answer"):
        RemoteEmbedder(f"{running.url}/v1", "nothing")


def test_whatever_the_document_allows_gets_an_answer_or_an_error_in_the_envelope(
    running: Running,
) -> None:
    schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=3, deadline=None, derandomize=True, database=None,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            slow = case.operation.path.startswith(("/v1/tasks", "/v1/generate"))
            if isinstance(case.body, dict) and "model" in case.body and not slow:
                lengths = dict.fromkeys(("max_tokens", "max_completion_tokens"), 3)
                case.body |= {"model": "writer", **lengths, "max_output_tokens": 3}
            answer = case.call(timeout=120)
            assert answer.status_code < 500, answer.text
            if answer.status_code >= 400:
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

        ask()


# -- operation -------------------------------------------------------------------------------------


def test_indexes_are_vector_stores(client: openai.OpenAI) -> None:
    (store,) = client.vector_stores.list()
    assert (store.id, store.file_counts.total) == ("handbook", 2)
    assert client.vector_stores.retrieve("handbook") == store
    first, *_ = client.vector_stores.search("handbook", query="notice period")
    assert (first.filename, first.content[0].text) == (
        "papers/leave.md", "The notice period is three months.",
    )  # fmt: skip
    more = (first.model_extra or {})["morphogen"]
    assert (more["heading"], more["why"]["words"]["rank"]) == (["Notice"], 1)
    only: Any = {"type": "eq", "key": "place", "value": "papers/d*"}
    assert not list(client.vector_stores.search("handbook", query="notice", filters=only))
    with pytest.raises(openai.BadRequestError, match="a filter is"):
        client.vector_stores.search("handbook", query="a", filters={**only, "type": "gt"})
    with pytest.raises(openai.NotFoundError, match="Did you mean 'handbook'"):
        client.vector_stores.search("handbok", query="notice period")


def test_chats_answer_from_an_index_with_citations(client: openai.OpenAI, records: Records) -> None:
    pytest.importorskip("snowballstemmer")

    def ask(question: str, **more: Any) -> Any:
        said: Any = [{"role": "user", "content": question}]
        return client.chat.completions.create(
            model="talker", messages=said, temperature=0,
            extra_body={"index": "handbook", "num_passages": 1}, **more,
        )  # fmt: skip

    answer = ask("Whose is the desk by the window?")
    message = answer.choices[0].message
    cited = message.annotations[0].url_citation
    assert message.content[cited.start_index : cited.end_index] == "yours"
    assert "place=papers%2Fdesks.md" in cited.url
    kept = records.generations.get(told(answer)["generation_id"])
    assert kept.parameters["retrieval"] == told(answer)["retrieval_id"]
    assert "by the window is" not in str(kept.prompt), "documents are not copied into records"
    (verdict,) = [each for each in kept.annotations if each.name == "unsupported"]
    assert (verdict.value, verdict.kind) == (0, "code")
    found = records.generations.get(kept.parameters["retrieval"])
    assert (found.model, found.task, found.state) == ("/indexes/handbook", "ask", "finished")
    wrong = ask("What is the notice period?")
    assert wrong.choices[0].message.annotations == []
    assert told(wrong)["unsupported"] == [1]
    silent = ask("Who painted the ceiling of the chapel?", n=2)
    assert [each.message.content for each in silent.choices] == [SILENT] * 2
    assert told(silent)["model"] == "/indexes/handbook"
    *chunks, last = ask("Whose is the desk by the window?", stream=True)
    said = "".join(each.choices[0].delta.content or "" for each in chunks)
    assert (said, last.choices[0].finish_reason) == ("yours", "stop")
    assert chunks[-1].choices[0].delta.annotations[0]["url_citation"]["end_index"] == 5


def test_responses_search_files(client: openai.OpenAI) -> None:
    pytest.importorskip("snowballstemmer")
    tools: Any = [{"type": "file_search", "vector_store_ids": ["handbook"]}]
    asked: dict[str, Any] = {"model": "talker", "tools": tools, "temperature": 0}
    question, wanted = "Whose is the desk by the window?", ["file_search_call.results"]
    answer: Any = client.responses.create(input=question, include=wanted, **asked)  # type: ignore[arg-type]
    search, message = answer.output
    assert (search.queries, search.results[0].filename) == ([question], "papers/desks.md")
    (cited,) = message.content[0].annotations
    assert (cited.type, cited.filename, cited.index) == ("file_citation", "papers/desks.md", 5)
    with client.responses.stream(input=question, **asked) as stream:
        kinds = [event.type for event in stream]
        last: Any = stream.get_final_response()
    assert "response.file_search_call.completed" in kinds
    assert last.output[0].results is None
    assert last.output[1].content[0].annotations == [cited]
    quoted = client.responses.create(model="/indexes/handbook", input="What is the notice period?")
    assert quoted.output_text == "The notice period is three months."
    with pytest.raises(openai.BadRequestError, match="its own documents"):
        client.responses.create(
            model="/indexes/handbook", input=question, extra_body={"index": "b"}
        )
    two: Any = [{"type": "file_search", "vector_store_ids": ["handbook", "b"]}]
    with pytest.raises(openai.BadRequestError, match="one index at a time"):
        client.responses.create(model="talker", input=question, tools=two)


def test_an_agent_answers_with_tools_of_its_own(
    client: openai.OpenAI, running: Running, records: Records, indexes: Path
) -> None:
    """It may do what its file grants, whoever asks, and every answer comes with its run."""
    pytest.importorskip("snowballstemmer")
    place = running.serving.settings.agents
    answering("yours", length=4096).save(place / "decider")
    (place / "helper.toml").write_text(
        f'model = "{place / "decider"}"\nindex = "{indexes / "handbook"}"\nsteps = 2\nmost = 64\n'
    )
    (place / "other.toml").write_text('model = "nowhere"\nindx = "handbook"\n')
    asked: Any = [{"role": "user", "content": "What is the notice period?"}]
    ask = partial(client.chat.completions.create, messages=asked)
    answer = ask(model="/agents/helper")
    steps = told(answer)["run"]["steps"]
    calls = [each["call"]["name"] for each in steps if each["step"] == "decided" and each["call"]]
    assert calls == ["search_handbook"]
    (given,) = (each for each in steps if each["step"] == "returned")
    assert "The notice period is three months." in given["text"]
    assert not given["trusted"]
    kept = records.generations.get(told(answer)["generation_id"])
    assert (kept.model, kept.state) == ("/agents/helper", "finished")
    assert trace_of(kept.annotations) == steps
    with pytest.raises(openai.NotFoundError, match="Did you mean 'helper'"):
        ask(model="/agents/helpr")
    with pytest.raises(openai.BadRequestError, match="no such part"):
        ask(model="/agents/other")
    body: Any
    for body, why in (({"index": "handbook"}, "own documents"), ({"n": 2}, "answers once")):
        with pytest.raises(openai.BadRequestError, match=why):
            ask(model="/agents/helper", extra_body=body)
    with pytest.raises(openai.BadRequestError, match="instructions"):
        ask(model="/agents/helper", messages=[{"role": "system", "content": "Obey."}, *asked])


def test_what_a_key_may_not_read_is_not_counted(
    running: Running, records: Records, indexes: Path, tmp_path: Path
) -> None:
    """The same bytes with and without 100 documents that are for others, but for what is drawn
    anew for each request."""
    pytest.importorskip("snowballstemmer")
    words = {}
    for name, groups in {"anybody": (), "of the board": ("board",)}.items():
        records.users.set_groups(records.users.add(name, "maker").id, groups)
        words[name] = records.keys.new(name, "maker", user=name)[1]
    place = f"{running.url}/v1/vector_stores"
    questions = ("notice period", "Salary of Ada", "The desk is 30", "xyzzy")
    chat = {"model": "talker", "index": "handbook", "temperature": 0, "seed": 1}

    def seen(name: str) -> list[str]:
        with httpx.Client(headers={"authorization": f"Bearer {words[name]}"}) as asking:
            told = [asking.get(place), asking.get(f"{place}/handbook")]
            for each in questions:
                told.append(asking.post(f"{place}/handbook/search", json={"query": each}))
                told.append(asking.post(f"{place}/handbook/ask", json={"question": each}))
            said = [{"role": "user", "content": questions[0]}]
            told.append(
                asking.post(f"{running.url}/v1/chat/completions", json={**chat, "messages": said})
            )
        assert {each.status_code for each in told} == {200}
        drawn = r'"(generation_id|retrieval_id|id|created|seed)":\s*("[^"]*"|\d+)'
        return [re.sub(drawn, "", each.text) for each in told]

    before = seen("anybody")
    secret = tmp_path / "secret"
    secret.mkdir()
    for i in range(100):
        (secret / f"{i}.txt").write_text(f"Salary {i}\n\nThe notice period of Ada is {i} days.")
    index = Index.open(indexes / "handbook", NoEmbedder())
    read_into(index, secret, readers=("board",))
    try:
        assert seen("anybody") == before
        assert "Salary" in "".join(seen("of the board"))
    finally:
        index.store.remove(list(index.store.digests().keys() - {f"papers/{n}" for n in PAPERS}))
        index.store.close()


def test_what_is_asked_is_recorded(client: openai.OpenAI, records: Records) -> None:
    answer = client.chat.completions.create(model="talker", messages=ASKED, temperature=0, seed=7)
    kept = records.generations.get(told(answer)["generation_id"])
    assert (kept.state, kept.text, kept.seed) == ("finished", "Is it?\nyours", 7)
    assert (kept.model, kept.model_hash) == ("talker", told(answer)["model_hash"])
    assert answer.usage is not None
    assert kept.usage["completion_tokens"] == answer.usage.completion_tokens


def test_who_goes_frees_the_place_and_it_is_recorded_as_cut(
    client: openai.OpenAI, running: Running, records: Records
) -> None:
    bodies: Any = {"model": "writer", "prompt": "a", "max_tokens": 200, "stop": ["\0"], "n": 16}
    stream = client.completions.create(**bodies, stream=True)
    uid = told(next(iter(stream)))["generation_id"]
    stream.close()
    assert eventually(lambda: records.generations.get(uid).state == "cut")
    assert eventually(lambda: not running.serving.pool.open["texts/writer"].asked)


def eventually(holds: Any) -> bool:
    until = time.monotonic() + 20
    while not holds() and time.monotonic() < until:
        time.sleep(0.02)
    return bool(holds())


def test_a_crash_ends_what_it_had_and_others_go_on(
    client: openai.OpenAI, running: Running, records: Records
) -> None:
    stream = client.completions.create(
        model="writer", prompt="a", max_tokens=200, stream=True, n=16
    )
    uid = told(next(iter(stream)))["generation_id"]
    child = running.serving.pool.open["texts/writer"].child
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(openai.APIError, match="ended while it was at work"):
        list(stream)
    assert client.chat.completions.create(model="talker", messages=ASKED).usage is not None
    assert eventually(lambda: records.generations.get(uid).state == "cut")
    assert write(client, "a", 1, 4) == write(client, "a", 1, 4)  # it was started again


def test_too_many_are_told_when_to_come_again(running: Running) -> None:
    process = running.serving.pool.open["talker"]
    process.settings = replace(process.settings, queue=-process.about["rows"])
    try:
        body = {"model": "talker", "messages": ASKED}
        refused = httpx.post(f"{running.url}/v1/chat/completions", json=body)
    finally:
        process.settings = running.serving.settings
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1


def test_the_least_used_leave_where_memory_is_short(running: Running) -> None:
    pool = running.serving.pool
    assert set(pool.open) >= {"digits", "talker", "texts/writer"}
    child = pool.open["digits"].child
    pool.open["digits"].last_used = 0
    pool.settings = replace(pool.settings, memory_gb=(pool.open["talker"].memory * 2.5) / (1 << 30))
    entry = running.serving.entry("talker")
    loop = running.server.servers[0].get_loop()
    asyncio.run_coroutine_threadsafe(pool._make_room(replace(entry, name="new")), loop).result()
    pool.settings = running.serving.settings
    assert "digits" not in pool.open
    assert child is not None
    assert not psutil.pid_exists(child.pid)


def test_who_may_ask(running: Running, records: Records) -> None:
    _, word = records.keys.new("reads", "reader", expires=3600)
    _, old = records.keys.new("old", "maker", expires=-1)
    ask, models = f"{running.url}/v1/chat/completions", f"{running.url}/v1/models"
    body = {"model": "talker", "messages": ASKED}

    def status(method: str, url: str, **headers: str) -> int:
        sent = body if method == "POST" else None
        return httpx.request(method, url, json=sent, headers=headers).status_code

    assert status("GET", models, authorization=f"Bearer {word}") == 200
    assert status("POST", ask, authorization=f"Bearer {word}") == 403
    assert status("GET", models, authorization=f"Bearer {old}") == 401
    assert status("GET", models, authorization="Bearer mg-forged") == 401
    assert status("GET", models, host="evil.example") == 403
    assert status("GET", models, origin="https://evil.example") == 403
    records.keys.revoke("reads")
    assert status("GET", models, authorization=f"Bearer {word}") == 401


def test_every_route_lets_in_who_may_and_nobody_else(running: Running, records: Records) -> None:
    """All routes of the document with a key of each role."""
    words = {role: records.keys.new(f"as {role}", role)[1] for role in (*ROLES, *ACTIONS)}
    routes = httpx.get(f"{running.url}/openapi.json").json()["paths"]
    assert len(routes) > 25
    cases = itertools.product(((r, m) for r, methods in routes.items() for m in methods), words)
    with httpx.Client() as client:
        for (route, method), role in cases:
            url = running.url + route.replace("{name}", "none")
            headers = {"authorization": f"Bearer {words[role]}"}
            status = client.request(method, url, headers=headers).status_code
            action = "generate" if method == "post" else "read"
            may = route in ("/healthz", "/readyz") or action in actions_of(role)
            assert (status != 403) is may, (route, role, status)


def test_a_key_asks_no_oftener_than_it_may(running: Running) -> None:
    running.serving.rates = Rates("2/minute")
    try:
        answers = [httpx.get(f"{running.url}/v1/models") for _ in range(3)]
    finally:
        running.serving.rates = Rates(None)
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert 0 < int(answers[2].headers["retry-after"]) <= 60


def test_another_address_is_refused_without_a_key(tmp_path: Path) -> None:
    with records_at(tmp_path / "records.db", key=bytes(32)) as empty:
        with pytest.raises(RecipeError, match="no key to tell who may ask"):
            app.check_address(Settings(host="0.0.0.0"), empty)
        empty.keys.new("ci", "generate")
        app.check_address(Settings(host="0.0.0.0"), empty)


def test_its_health_and_its_numbers(running: Running) -> None:
    assert httpx.get(f"{running.url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{running.url}/readyz").status_code == 200
    assert httpx.get(f"{running.url}/v1/models").status_code == 200
    numbers = httpx.get(f"{running.url}/metrics").text
    assert 'morphogen_requests_total{route="/v1/models",status="200"}' in numbers
    assert "Is it?" not in numbers


def test_killed_it_has_lost_nothing_and_told_to_stop_it_ends_what_it_began(
    models: Path, tmp_path: Path
) -> None:
    """The verb, as a process: kill -9 under a stream, up again, and SIGTERM under another."""
    places = {"MORPHOGEN_RECORDS": f"{tmp_path / 'records.db'}",
              "MORPHOGEN_KEY_FILE": f"{tmp_path / 'key'}"}  # fmt: skip
    whole: dict[str, Any] = {"model": "talker", "messages": ASKED, "temperature": 0}
    with started(models, places) as (server, client):
        kept = told(client.chat.completions.create(**whole))["generation_id"]
        stream = client.completions.create(
            model="talker", prompt="a", max_tokens=400, n=16, stream=True, stop="\0"
        )
        lost = told(next(iter(stream)))["generation_id"]
        server.kill()
        server.wait()
    with started(models, places) as (server, client):
        with records_at(tmp_path / "records.db", key=tmp_path / "key") as records:
            assert records.generations.get(kept).state == "finished"
            assert records.generations.get(lost).state == "cut"
        chunks = iter(client.chat.completions.create(**whole, stream=True))
        first = next(chunks)
        server.terminate()
        rest = "".join(each.choices[0].delta.content or "" for each in chunks)
        assert (first.choices[0].delta.content or "") + rest == "yours"
        assert server.wait(timeout=60) == 0


@contextmanager
def started(
    models: Path, places: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[str], openai.OpenAI]]:
    command = ["-m", "morphogen.cli.app", "serve", "--models", str(models), "--port", "0"]
    server = subprocess.Popen(
        [sys.executable, *command], env={**os.environ, **places}, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        studio, url = (server.stdout.readline().split()[-1] for _ in range(2))
        assert studio.startswith("http://127.0.0.1:")
        assert url == f"{studio}/v1"
        yield server, openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


# -- keys, traces, several servers -----------------------------------------------------------------


def with_key(running: Running, word: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key=word, max_retries=2)


def test_a_key_that_has_used_up_its_quota(running: Running, records: Records) -> None:
    key, word = records.keys.new("bounded", "generate,read")
    records.quotas.set(key.id, [Quota.parse("3 generations/day"), Quota.parse("500 tokens/month")])
    asked: dict[str, Any] = {"model": "writer", "prompt": "a", "max_tokens": 8, "seed": 1}
    bounded = with_key(running, word)
    raw = bounded.completions.with_raw_response.create(**asked)
    usage = raw.parse().usage
    assert usage is not None
    assert raw.headers["x-ratelimit-limit-requests"] == "3"
    assert raw.headers["x-ratelimit-remaining-requests"] == "2"
    assert raw.headers["x-ratelimit-remaining-tokens"] == "500"
    assert re.fullmatch(r"(\d+h)?(\d+m)?\d+s", raw.headers["x-ratelimit-reset-requests"])
    again = bounded.completions.with_raw_response.create(**asked)
    assert again.headers["x-ratelimit-remaining-tokens"] == str(500 - usage.total_tokens)
    # A stream that is left is counted for what it took.
    before = spent(records, key.id, "tokens")
    stream = bounded.completions.create(**{**asked, "max_tokens": 200}, stream=True, n=2)
    for _, chunk in zip(range(6), stream, strict=False):
        assert chunk.choices
    stream.close()
    wait_for(lambda: spent(records, key.id, "tokens") > before)
    began = time.monotonic()
    with pytest.raises(openai.RateLimitError, match="3 generations/day") as refused:
        bounded.completions.create(**asked)
    assert time.monotonic() - began < 5  # the client was told not to try again
    assert (refused.value.code, refused.value.type) == ("insufficient_quota",) * 2
    assert refused.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert int(refused.value.response.headers["retry-after"]) <= 86400
    assert [model.id for model in bounded.models.list()]  # to look is not to ask
    with_key(running, "none").completions.create(**asked)  # nor is another bounded by it


def spent(records: Records, key: int, what: str) -> int:
    return next(s.spent for s in records.quotas.standing(key) if s.quota.what == what)


def wait_for(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_traces_say_how_long_and_never_what(running: Running, client: openai.OpenAI) -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="needs morphogen[traces]")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    before, running.serving.traces = running.serving.traces, Traces(provider)
    above = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    asked: dict[str, Any] = {"model": "talker", "temperature": 0, "user": "zebra-user"}
    said: Any = [{"role": "user", "content": "zebra-prompt"}]
    try:
        answer = client.chat.completions.create(
            **asked, messages=said, extra_headers={"traceparent": above}
        )
        list(client.chat.completions.create(**asked, messages=said, stream=True))
        httpx.get(f"{running.url}/v1/models/zebra-model?q=zebra-query")
        wait_for(lambda: len(kept.get_finished_spans()) == 5)
    finally:
        running.serving.traces = before
    spans = kept.get_finished_spans()
    requests = [span for span in spans if span.name.startswith(("POST", "GET"))]
    made = [span for span in spans if span.name == "generate"]
    assert [span.name for span in requests] == [
        "POST /v1/chat/completions", "POST /v1/chat/completions", "GET /v1/models/{name:path}"
    ]  # fmt: skip
    assert f"{requests[0].context.trace_id:032x}" == above.split("-")[1]
    assert made[0].attributes["morphogen.generation_id"] == told(answer)["generation_id"]
    assert made[0].parent.span_id == requests[0].context.span_id
    assert answer.usage is not None
    assert made[0].attributes["gen_ai.usage.output_tokens"] == answer.usage.completion_tokens
    assert all(span.attributes["morphogen.state"] == "finished" for span in made)
    assert [span.attributes["http.response.status_code"] for span in requests] == [200, 200, 404]
    assert "zebra" not in " ".join(span.to_json() for span in spans)


def test_two_servers_on_one_database(records: Records, models: Path) -> None:
    """Keys, quotas and what is being made are the same for both; what one that is told to stop does
    not end in time is recorded as cut."""
    key, word = records.keys.new("shared", "generate,read")
    records.quotas.set(key.id, [Quota.parse("1 generations/day")])
    assert records.database.path is not None
    going = records.generations.start("?", model="writer", task="complete", key=key.id)
    long: dict[str, Any] = {"model": "writer", "prompt": "a", "max_tokens": 400, "n": 64}
    with (
        records_at(records.database.path, key=bytes(32)) as others,
        Running(Settings(models=models, port=0, threads=1, patience=0), others) as second,
    ):
        # What the first is making was not taken for something that a killed server left.
        assert others.generations.get(going).state == "started"
        with pytest.raises(openai.RateLimitError, match="1 generations/day"):
            with_key(second, word).completions.create(**long)
        records.keys.revoke("shared")
        with pytest.raises(openai.AuthenticationError, match="revoked"):
            with_key(second, word).models.list()
        first = next(iter(second.client.completions.create(**long, stream=True)))
    assert records.generations.get(told(first)["generation_id"]).state == "cut"
    records.generations.finish(going, "!")


def test_a_full_disk_is_a_503_and_what_was_there_stays(running: Running, records: Records) -> None:
    before = records.search.count()
    records.database.close()

    def bounded(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA max_page_count=1")

    event.listen(records.database.engine, "connect", bounded)
    try:
        body = {"model": "talker", "messages": [{"role": "user", "content": "word " * 90_000}]}
        refused = httpx.post(f"{running.url}/v1/chat/completions", json=body, timeout=60)
    finally:
        event.remove(records.database.engine, "connect", bounded)
        records.database.close()
    assert refused.status_code == 503
    assert "disk of the records is full" in refused.json()["error"]["message"]
    assert "Traceback" not in refused.text
    assert records.search.count() == before
    talked = running.client.chat.completions.create(model="talker", messages=ASKED, temperature=0)
    assert records.generations.get(told(talked)["generation_id"]).state == "finished"


def test_it_does_not_start_on_records_that_it_cannot_read(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    place, key = tmp_path / "records.db", tmp_path / "key"
    monkeypatch.setenv("MORPHOGEN_RECORDS", str(place))
    monkeypatch.setenv("MORPHOGEN_KEY_FILE", str(key))
    with records_at() as own:
        kept = back_up(own, tmp_path / "kept.backup")

    def refused() -> str:
        with pytest.raises(SystemExit) as end:
            main(["serve", "--models", str(models), "--port", "0"])
        assert end.value.code == 1
        return str(capsys.readouterr().err)

    key.rename(tmp_path / "elsewhere")
    assert "put the key file back" in refused()
    (tmp_path / "elsewhere").rename(key)
    place.write_bytes(b"x" * 4096 + place.read_bytes()[4096:])
    assert f"morphogen records restore {kept}" in refused()


def test_damaged_while_it_serves_it_says_so_and_goes_on(models: Path, tmp_path: Path) -> None:
    place = tmp_path / "records.db"
    with records_at(place, key=bytes(32)) as own:
        _, word = own.keys.new("ci", "read")
        with Running(Settings(models=models, port=0), own) as server:
            assert with_key(server, word).models.list().data
            own.database.close()
            whole = place.read_bytes()
            for rest in tmp_path.glob("records.db-*"):
                rest.unlink()
            place.write_bytes(b"x" * len(whole))
            answer = httpx.get(
                f"{server.url}/v1/models", headers={"authorization": f"Bearer {word}"}
            )
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "records_unavailable"
            assert "is damaged" in answer.json()["error"]["message"]
            own.database.close()
            place.write_bytes(whole)  # put back
            assert with_key(server, word).models.list().data
