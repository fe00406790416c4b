"""Distillation: what a teacher says of every token, or of every noisy item."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import morphogen as mg
from morphogen.core.batch import Batch
from morphogen.core.bundle import Bundle
from morphogen.core.errors import DataError, MorphogenError, RecipeError, RefusedPair
from morphogen.core.objective import Reference
from morphogen.core.random import generator
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.spec import TensorSpec
from morphogen.modalities.text import Text
from morphogen.objectives.distill import Distill
from morphogen.systems.teaching import teach
from small_models import answering, language_model, trained

PICTURE = TensorSpec("real", (1, 4, 4), layout="grid")
KINDS = {
    "language": ("autoregressive", "token_transformer", TensorSpec.tokens(8, 5, boundary=4)),
    "steps": ("autoregressive", "rnn", TensorSpec.tokens(8, 5, end=4)),
    "columns": (
        "autoregressive",
        "transformer",
        TensorSpec("token", (3,), 4, layout="sequence", sizes=(2, 4, 3)),
    ),
    "pictures": ("flow_matching", "mlp", PICTURE),
}


def bundle(kind: str, seed: int) -> Bundle:
    family, backbone, spec = KINDS[kind]
    recipe = Recipe(family={"name": family}, backbone={"name": backbone, "model_dim": 16})
    torch.manual_seed(seed)
    made = build_family(recipe, spec, {})
    for parameter in made.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return Bundle(made.eval(), Text(), recipe)


def items(kind: str, num: int = 6) -> Tensor:
    spec, draw = KINDS[kind][2], generator(2)
    if spec.kind == "real":
        return torch.randn((num, *spec.shape), generator=draw)
    most = torch.tensor(spec.sizes or [spec.vocab_size] * spec.shape[0])
    return (torch.rand((num, *spec.shape), generator=draw) * most).long()


def taught(kind: str, **options: Any) -> tuple[Distill, Any, Any]:
    student, teacher = bundle(kind, 0), bundle(kind, 1)
    objective = Distill(teacher="it", **options)
    objective.put_on(student.family, Reference(student.family, student.family), None)
    objective.taught_by(teacher, student.codec)
    return objective, student.family.requires_grad_(True), teacher.family


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_comes_to_say_what_its_teacher_says(kind: str) -> None:
    objective, student, teacher = taught(kind)
    batch, draw = Batch(items(kind)), generator(3)
    before = objective.distance(student, batch, generator(9))
    assert before.shape == (6,)
    assert bool((before > 0).all())
    assert float(objective.distance(teacher, batch, draw).detach().abs().max()) < 1e-5
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        objective.distance(student, batch, draw).mean().backward()
        optimizer.step()
    after = objective.distance(student, batch, generator(9))
    assert bool(after.mean() < 0.5 * before.mean())


def test_the_distance_is_the_divergence_of_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, student, teacher = taught("language", temperature=2.0)
    x = items("language")
    weight = torch.zeros(x.shape).index_fill_(1, torch.tensor([2, 3]), 1.0)
    said, wanted = (
        torch.stack([m.predict_next(x[:, :i]) / 2 for i in (2, 3)], 1).log_softmax(-1)
        for m in (student, teacher)
    )
    expected = 4 * (wanted.exp() * (wanted - said)).sum(-1).mean(1)
    batch = Batch(x, weight=weight)
    torch.testing.assert_close(objective.distance(student, batch, generator(0)), expected)
    monkeypatch.setattr("morphogen.objectives.distill.AT_ONCE", 15)  # in turns of three
    torch.testing.assert_close(objective.distance(student, batch, generator(0)), expected)


def test_who_cannot_teach_is_told_why(tmp_path: Path) -> None:
    objective = taught("language")[0]
    with pytest.raises(RefusedPair, match=r"(?s)its items are .* morphogen teach"):
        objective.taught_by(bundle("columns", 1), Text())
    with pytest.raises(RefusedPair, match="FlowMatching does not say"):
        objective.taught_by(bundle("pictures", 1), Text())
    other = language_model(trained())
    other.family = bundle("language", 1).family
    with pytest.raises(RefusedPair, match="other tokens"):
        objective.taught_by(other, Text())
    with pytest.raises(RecipeError, match="nobody teaches"):
        Distill()
    gan = build_family(Recipe(family={"name": "gan"}, backbone={"name": "mlp"}), PICTURE, {})
    with pytest.raises(RefusedPair, match="nothing of this family"):
        Distill(teacher="it").put_on(gan, Reference(gan, gan), None)


def test_a_run_is_taught_and_says_how_near_it_came(tmp_path: Path) -> None:
    rows = [{"text": f"the harbour {i} slept"} for i in range(300)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, std in (("base", 0.05), ("teacher", 0.2)):
        language_model(trained(), std=std).save(tmp_path / name)
    mg.train(tmp_path / "rows.jsonl", start=tmp_path / "base", objective="distill", budget="6steps",
             settings=[f"objective.teacher={tmp_path / 'teacher'}", "train.num_previews=0"],
             out=tmp_path / "mine")  # fmt: skip
    metrics = json.loads((tmp_path / "mine" / "metrics.json").read_text())
    held_out = metrics["beside"]["held_out"]
    assert held_out["change"]["low"] > 0  # nearer to the teacher
    assert held_out["tuned"]["value"] < 0


# -- what a teacher writes -------------------------------------------------------------------------


class Server(BaseHTTPRequestHandler):
    """Speaks as much of OpenAI's protocol as is asked here: says a prompt backwards."""

    asked: ClassVar[list[Any]] = []
    busy: ClassVar[int] = 1  # times that it turns away the first

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append((self.path, self.headers.get("Authorization"), body))
        if body["model"] != "big":
            self._say(404, {"error": "no such model"})
        elif type(self).busy:
            type(self).busy -= 1
            self._say(429, {"error": "slow down"})
        else:
            content = body["messages"][-1]["content"]
            ends = "length" if content == "long" else "stop"
            said = {"role": "assistant", "content": content[::-1]}
            self._say(200, {"choices": [{"message": said, "finish_reason": ends}]})

    def _say(self, code: int, told: dict[str, Any]) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    Server.asked, Server.busy = [], 1
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


def test_an_endpoint_answers_prompts_that_are_learned(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    monkeypatch.setattr("morphogen.systems.endpoint.PAUSE", 0.01)
    rows: list[dict[str, Any]] = [
        {"prompt": "abc"}, {"messages": [{"role": "user", "content": "one"},
                                         {"role": "assistant", "content": "eno"},
                                         {"role": "user", "content": "two"}]},
        {"instruction": "add", "input": "1 2"}, {"prompt": "long"},
    ]  # fmt: skip
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "taught.jsonl"
    given: dict[str, Any] = {"model": "big", "key_from": "MY_KEY", "system": "Backwards!"}
    found = teach(tmp_path / "asked.jsonl", address, out, **given)
    assert (found.num_asked, found.num_known, found.num_cut) == (4, 0, 1)
    told = [json.loads(line)["messages"] for line in out.read_text().splitlines()]
    assert [each[-1]["content"] for each in told] == ["cba", "owt", "2 1\n\ndda"]
    assert [each[0]["role"] for each in told] == ["system"] * 3
    assert len(told[1]) == 5  # what was said before stands
    path, key, body = Server.asked[0]
    assert (path, key, body["model"]) == ("/v1/chat/completions", "Bearer secret", "big")
    num = len(Server.asked)
    with out.open("a") as file:
        file.write('{"messages": [{"role"')  # killed as it wrote
    again = teach(tmp_path / "asked.jsonl", address, out, **given)
    assert again.num_known == 3
    assert len(Server.asked) == num + 1  # the one that was cut
    assert mg.load(out, codec=None).codec.template is not None  # conversations
    with pytest.raises(MorphogenError, match=r"(?s)does not answer.*404"):
        teach(tmp_path / "asked.jsonl", address, tmp_path / "other.jsonl", model="small")


def test_a_bundle_answers_prompts_of_one_with_other_tokens(tmp_path: Path) -> None:
    (tmp_path / "asked.txt").write_text("How are you?\n\nAnd now?\n")
    found = teach(tmp_path / "asked.txt", answering("fine"), tmp_path / "out.jsonl", temperature=0)
    assert (found.num_asked, found.num_cut) == (2, 0)
    told = [json.loads(line)["messages"] for line in (tmp_path / "out.jsonl").open()]
    assert [each[-1]["content"] for each in told] == ["fine", "fine"]


def test_prompts_that_ask_nothing(tmp_path: Path) -> None:
    (tmp_path / "asked.txt").write_text("a\n")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n{"answer": "b"}\n')
    with pytest.raises(DataError, match="asks nothing"):
        teach(tmp_path / "rows.jsonl", answering(), tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
    with pytest.raises(RecipeError, match="which model"):
        teach(tmp_path / "asked.txt", "http://localhost:1/v1", tmp_path / "out.jsonl")
    (tmp_path / "mine.jsonl").write_text("not mine\n")
    with pytest.raises(DataError, match="something else"):
        teach(tmp_path / "asked.txt", answering(), tmp_path / "mine.jsonl")
