"""Who decides, and systems of several parts: forecasts that are explained, anomalies that are
reported, a conversation that writes, computes and remembers; and a model that is far away, or
small, or sees little."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("pydantic")
pytest.importorskip("snowballstemmer")
pytest.importorskip("cryptography")

from morphogen.cli import memory as verbs
from morphogen.cli.app import main
from morphogen.cli.chat import chat
from morphogen.cli.mcp import mcp
from morphogen.cli.trace import trace as judged
from morphogen.core.bundle import Bundle
from morphogen.core.errors import BundleError, MorphogenError, RecipeError, RefusedPair
from morphogen.core.recipe import Recipe, build_family, resolve
from morphogen.data.dataset import load
from morphogen.evaluation.sandbox import guards_missing
from morphogen.modalities.text.chat import CHATML, Message
from morphogen.systems.agents.assistant import Assistant
from morphogen.systems.agents.deciders import BundleDecider, Recited, RemoteDecider
from morphogen.systems.agents.loop import Budget, run
from morphogen.systems.agents.privileges import Grants
from morphogen.systems.agents.tool import tool
from morphogen.systems.agents.tools.functions import function_tool
from morphogen.systems.agents.tools.models import bundle_tools, writing_tool
from morphogen.systems.agents.tools.programs import python_tool
from morphogen.systems.agents.trace import Returned, Trace, traces
from morphogen.systems.agents.verdict import verdict
from morphogen.systems.agents.worlds import Live, replay
from morphogen.systems.endpoint import Endpoint
from morphogen.systems.knowledge.embedders import NoEmbedder
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.reading import read_into
from morphogen.systems.memory.memory import Memory
from small_models import MARKS, answering, language_model, with_marks
from sources.series import write as write_series


def given_back(trace: Trace) -> list[Returned]:
    return [step for step in trace.steps if isinstance(step, Returned)]


def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b


# -- a small model decides -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> Bundle:
    """Random weights: what it writes is nothing, and fits the schema all the same."""
    tokenizer = with_marks()
    bundle = language_model(tokenizer, length=1024, start=tokenizer.marks[MARKS[0]], num_layers=1)
    bundle.origin = {"source": "here", "chat_template": CHATML, "marks": {"eos_token": MARKS[1]}}
    return bundle


def test_whatever_a_small_model_writes_is_a_call_that_fits_or_an_answer(small: Bundle) -> None:
    pytest.importorskip("llguidance")
    ran: list[tuple[int, int]] = []

    def multiply(a: int, b: int) -> int:
        """The product."""
        ran.append((a, b))
        return a * b

    made, seen = tool(multiply, trusted=True), set()
    for seed in range(2):
        decider = BundleDecider(small, system="", most=64, temperature=1.0, seed=seed)
        trace = run(Live(decider), "6 * 7?", [made], budget=Budget(steps=2))
        assert all(step.why == "" for step in given_back(trace)), trace
        told = verdict(trace)
        assert told.malformed == ()
        assert told.ended == "answered", trace
        seen.add(bool(told.done))
        again = BundleDecider(small, system="", most=64, temperature=1.0, seed=seed)
        assert run(Live(again), "6 * 7?", [made], budget=Budget(steps=2)).digest == trace.digest
        assert replay(trace).text() == trace.text()
    assert seen


def test_a_context_that_overflows_leaves_out_what_came_first(small: Bundle) -> None:
    decider = BundleDecider(small, system="", most=64)
    said = [Message("user", "What is it?")]
    for number in range(6):
        said += [Message("assistant", "", ({"name": "look", "arguments": {"n": number}},)),
                 Message("tool", f"{number}: " + "boats " * 200)]  # fmt: skip
    prompt, left_out = decider._fitted(said, (), 64)
    assert len(prompt) + 64 <= 1024
    assert left_out in (4, 6, 8, 10)
    text = decider.codec.tokenizer.decode(prompt.tolist()).decode()
    assert "What is it?" in text
    assert "5: boats" in text
    assert "0: boats" not in text
    long = [*said[:2], Message("tool", "boats " * 5000)]
    assert len(decider._fitted(long, (), 64)[0]) + 64 <= 1024
    with pytest.raises(RefusedPair, match="longer than what the model sees"):
        decider._fitted([Message("user", "boats " * 5000)], (), 64)
    ended = run(Live(decider), "boats " * 5000).steps[-1]
    assert getattr(ended, "why", "") == "failed"  # and the trace says why
    assert "sees at once" in getattr(ended, "reason", "")


# -- a model that is far away --------------------------------------------------------------------


class Far(BaseHTTPRequestHandler):
    """Answers in order; a number is an error of that code."""

    answers: ClassVar[list[Any]] = []
    asked: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).asked.append(json.loads(body))
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            self.send_response(answer)
            self.send_header("Retry-After", "0")
            told = b'{"error": "busy"}'
        else:
            self.send_response(200)
            told = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *arguments: Any) -> None:
        pass


def says(content: str | None = None, *calls: tuple[str, str]) -> Any:
    told = [{"id": str(i), "type": "function", "function": {"name": n, "arguments": a}}
            for i, (n, a) in enumerate(calls)]  # fmt: skip
    message = {"role": "assistant", "content": content, **({"tool_calls": told} if told else {})}
    return {"choices": [{"message": message}], "usage": {"completion_tokens": 7}}


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteDecider]:
    monkeypatch.setattr("morphogen.systems.endpoint.PAUSE", 0.01)
    Far.answers, Far.asked = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Far)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield RemoteDecider(Endpoint(f"http://127.0.0.1:{server.server_address[1]}/v1", "m"))
    server.shutdown()
    server.server_close()


def test_a_remote_model_calls_and_answers(far: RemoteDecider) -> None:
    Far.answers = [429, says(None, ("add", '{"a": 1, "b": 2}')), says(None, ("add", "{a: 1}")),
                   503, says("It is 3.")]  # fmt: skip
    trace = run(Live(far), "1 + 2?", [tool(add, trusted=True)])
    assert trace.answer == "It is 3."
    assert [step.why for step in given_back(trace)] == ["", "arguments"]
    last = Far.asked[-1]["messages"]
    assert [m["role"] for m in last] == ["system", "user", "assistant", "tool", "assistant", "tool"]
    assert last[2]["tool_calls"][0]["id"] == last[3]["tool_call_id"] == "call_1"
    assert last[4]["tool_calls"][0]["function"]["arguments"] == "{a: 1}"
    assert Far.asked[-1]["tools"][0]["function"]["name"] == "add"


@pytest.mark.parametrize(
    ("answers", "reason"),
    [([503] * 4, "does not answer"), ([401], "does not answer"), ([b"<html>"], "no JSON"),
     ([{"choices": []}], "holds nothing"), ([{"error": "x"}], "choices")],
)  # fmt: skip
def test_a_remote_model_that_does_not_answer_ends_the_run(
    far: RemoteDecider, answers: list[Any], reason: str
) -> None:
    Far.answers = list(answers)
    trace = run(Live(far), "1 + 2?", [tool(add)])
    assert verdict(trace).ended == "failed"
    assert reason in verdict(trace).reason
    assert Far.answers == []
    assert replay(trace).text() == trace.text()


def test_a_remote_model_is_waited_for_no_longer_than_a_run_may_take(far: RemoteDecider) -> None:
    Far.answers = [503] * 4
    run(Live(far), "?", budget=Budget(seconds=0.005))
    assert len(Far.asked) == 1


# -- systems of several parts --------------------------------------------------------------------


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Path]:
    """A model of a plant's load that has not learned yet, and a folder with what was measured."""
    folder = tmp_path_factory.mktemp("plant")
    (folder / "measured").mkdir()
    data = load(write_series(folder / "measured"), length=6, past=24)
    asked = Recipe(family={"name": "flow_matching"}, backbone={"model_dim": 8})
    recipe = resolve(asked, data.spec)
    family = build_family(recipe, data.spec, data.conditions)
    return Bundle(family.eval(), data.codec, recipe), folder


def test_a_forecast_is_made_and_explained(plant: tuple[Bundle, Path]) -> None:
    bundle, folder = plant
    made = bundle_tools(bundle, "plant", tasks=["forecast"], files=folder / "measured")
    grants = Grants.covering(made)
    call = ("plant_forecast", {"files": ["plant.csv"], "num": 4, "seed": 1})
    looked = run(Live(Recited([call, "..."])), "What comes next?", made, grants=grants)
    rows = json.loads(given_back(looked)[0].text)["rows"]
    first = rows.splitlines()[1].split(",")
    assert "2024-01-07 06:00" in rows
    # What is said of it is held against what was computed.
    true = f"At {first[0]} the forecast load is {first[1]}."
    decisions = [call, f"{true} At noon the load is 9999."]
    trace = run(Live(Recited(decisions)), "What comes next?", made, grants=grants)
    told = verdict(trace, must=["plant_forecast"])
    assert told.passed
    assert [each.supported for each in told.sentences] == [True, False], told.sentences
    assert "9999" in "; ".join(told.sentences[1].why_not)
    # Nothing but the folder is read, and a call says no file of ours.
    calls = [("plant_forecast", {"files": ["../../passwd.csv"]}),
             ("plant_forecast", {"files": ["plant.csv"], "cond": {"past": "/etc/passwd"}}),
             ("plant_forecast", {"files": ["plant.csv"], "num": 10**9})]  # fmt: skip
    bad = run(Live(Recited([*calls, "."])), "?", made, grants=grants)
    assert [step.ok for step in given_back(bad)] == [False] * 3


def test_an_anomaly_is_found_explained_and_reported(
    plant: tuple[Bundle, Path], tmp_path: Path
) -> None:
    bundle, folder = plant
    tools = [*bundle_tools(bundle, "plant", tasks=["anomaly"], files=folder / "measured"),
             writing_tool(tmp_path / "reports")]  # fmt: skip
    reads = Grants.covering(tools).reads
    grants = Grants.of(reads=reads, freely=[f"files:{tmp_path}/reports/*"])
    look = ("plant_anomaly", {"files": ["plant.csv"], "num_draws": 2})
    found = run(Live(Recited([look, "."])), "?", tools, grants=grants)
    scores = json.loads(given_back(found)[0].text)["score"]
    worst = max(range(len(scores)), key=scores.__getitem__)
    said = f"Item {worst} is the strangest, with a score of {scores[worst]}."
    write = ("write_file", {"name": "plant.md", "text": f"# Plant\n\n{said}\n"})
    trace = run(Live(Recited([look, write, write, said])), "Report what is odd.", tools,
                grants=grants)  # fmt: skip
    told = verdict(trace, must=["plant_anomaly", "write_file"])
    assert told.passed
    assert told.failed == ("write_file",)  # a file is written once
    assert [effect.is_certain for effect in told.effects] == [True, False]
    assert said in (tmp_path / "reports" / "plant.md").read_text()
    assert told.sentences[0].quote is not None


@pytest.mark.skipif(bool(guards_missing()), reason="no sandbox on this machine")
def test_writing_computing_and_looking_up_share_a_memory(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "boats.txt").write_text("The harbour holds 12 boats. Each pays 30 crowns a day.")
    index = Index.make(tmp_path / "index", NoEmbedder())
    read_into(index, docs)
    memory = Memory.make(tmp_path / "memory")
    texts = bundle_tools(answering("hi", length=256), "writer", tasks=["complete"])
    decisions = [
        ("python", {"program": "print(f'The harbour earns {12 * 30} crowns a day.')"}),
        ("remember", {"text": "The harbour earns 360 crowns a day."}), "It earns 360 crowns a day.",
        ("python", {"program": "import socket\nprint(socket.create_connection(('1.1.1.1', 80)))"}),
        ("writer_complete", {"inputs": ["the harbour"], "most": 3}),
        "The harbour earns 360 crowns a day.",
    ]  # fmt: skip
    assistant = Assistant(
        Recited(decisions), tools=[python_tool(), *texts], index=(index, "docs"), vouched=True,
        memory=memory, grants=Grants.covering(texts), confirm=lambda *asked: True,
    )  # fmt: skip
    list(assistant.ask("What does the harbour earn a day?"))
    first = assistant.last
    assert [step.name for step in given_back(first)] == [
        "recall", "search_docs", "python", "remember",
    ]  # fmt: skip
    assert verdict(first).sentences[0].supported
    list(assistant.ask("Say again what the harbour earns, and look outside."))
    second = assistant.last
    recalled, _, outside, written = given_back(second)
    assert "360 crowns" in recalled.text
    assert "Error" in outside.text
    assert written.ok
    assert [m["content"] for m in second.began.before] == [
        "What does the harbour earn a day?", "It earns 360 crowns a day.",
    ]  # fmt: skip
    # The traces go with the notes that they hold.
    file = assistant.save(tmp_path / "runs.jsonl")
    assert [replay(each).text() for each in traces(file.read_text())] == [
        first.text(), second.text(),
    ]  # fmt: skip
    (note,) = memory.notes
    proof = memory.forget(note)
    assert proof.holds
    assert not file.exists()
    assert assistant.save(tmp_path / "later.jsonl").read_text() == ""
    list(assistant.ask("And now?"))
    assert {m["content"] for m in assistant.last.began.before} == {"(forgotten)"}
    memory.close()


@pytest.mark.parametrize("num", range(1, 8))
def test_a_run_that_is_interrupted_anywhere_has_a_trace(num: int) -> None:
    decisions = [("add", {"a": 1, "b": 2}), ("add", {"a": 1}), "It is 3."]
    assistant = Assistant(Recited(decisions), tools=[tool(add, trusted=True)])
    with closing(assistant.ask("1 + 2?")) as going:
        for _ in range(num):
            next(going)
    trace = assistant.last
    assert verdict(trace).reason == "interrupted"
    assert replay(trace).text() == trace.text()
    assert assistant.session.turns[0].answered == ""


def test_tools_of_a_bundle_are_those_that_apply() -> None:
    bundle = answering()
    made = {each.name: each for each in bundle_tools(bundle, "my small-model")}
    assert "my_small_model_complete" in made
    assert "my_small_model_forecast" not in made
    with pytest.raises(RecipeError, match="does not apply"):
        bundle_tools(bundle, "small", tasks=["forecast"])
    with pytest.raises(RecipeError, match="does not apply"):
        bundle_tools(bundle, "small", tasks=["fly"])
    complete = made["my_small_model_complete"]
    with pytest.raises(MorphogenError, match="names code or a file"):
        complete.run({"inputs": ["a"], "schema": "/etc/passwd.json"})


def test_the_users_own_functions_are_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_for_tools.py").write_text(
        "def plain(x: int) -> int:\n    return x\n"
        "def reading(x: int) -> int:\n    return x\nreading.reads = ['numbers']\n"
    )
    monkeypatch.chdir(tmp_path)
    assert function_tool("mine_for_tools:plain").writes == ("functions:plain",)
    assert function_tool("mine_for_tools:reading").reads == ("numbers",)
    assert function_tool("mine_for_tools:reading").writes == ()
    for wrong in ("mine_for_tools", "mine_for_tools:absent", "no_such_module_here:f"):
        with pytest.raises(RecipeError):
            function_tool(wrong)


# -- verbs ---------------------------------------------------------------------------------------


def done(*arguments: str) -> object:
    try:
        main(list(arguments))
    except SystemExit as stop:
        return stop.code
    return 0


def test_a_conversation_with_documents_and_a_memory_by_its_verbs(
    small: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    pytest.importorskip("llguidance")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "boats.txt").write_text("The harbour holds 12 boats.")
    read_into(Index.make(tmp_path / "indexes" / "handbook", NoEmbedder()), tmp_path / "docs")
    model = str(small.save(tmp_path / "small"))
    verbs.remember("mine", "Ann keeps a boat.", relation=["Ann|keeps|a boat|2025-01-01"])
    note = capsys.readouterr().out.strip()
    assert not done(
        "chat", "--model", model, "--index", "handbook", "--memory", "mine", "--prompt",
        "Who keeps boats in the harbour?", "--trace", "runs.jsonl", "--set", "most=64",
    )  # fmt: skip
    shown = capsys.readouterr()
    assert "recall" in shown.err
    assert "search_handbook" in shown.err
    assert not done("trace", "runs.jsonl", "--must", "search_handbook", "--out", "runs.html")
    assert "Steps" in (tmp_path / "runs.html").read_text()
    assert "calls: " in capsys.readouterr().out
    assert done("trace", "runs.jsonl", "--never", "recall") == 1
    assert "missed: recall was run" in capsys.readouterr().out
    verbs.state("mine", "Ann", "keeps", at="2025-06-01")
    assert capsys.readouterr().out == "a boat\n"
    verbs.draw("mine", out="mine.svg")
    assert "a boat" in (tmp_path / "mine.svg").read_text()
    verbs.correct("mine", note, "Ann keeps two boats.")
    assert not (tmp_path / "runs.jsonl").exists()  # it held what is no longer remembered
    verbs.recall("mine", "boats")
    assert "two boats" in capsys.readouterr().out
    verbs.export("mine", out="notes.jsonl")
    verbs.backup("mine", out="backup.sqlite")
    assert not done("memory", "forget", "mine", note)
    assert "no trace in" in capsys.readouterr().out
    assert (tmp_path / "notes.jsonl").read_text() == ""
    verbs.restore("mine", "backup.sqlite")
    verbs.show("mine", as_json=True)
    assert capsys.readouterr().out == "0 notes came back\n[]\n"


def test_what_the_verbs_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="which model"):
        chat()
    with pytest.raises(RecipeError, match="not marked"):
        chat("any", tools=True, watermark=True)
    with pytest.raises(RecipeError, match="nothing to offer"):
        mcp()
    with pytest.raises(BundleError, match="no memory here"):
        verbs.show("nothing")
    (tmp_path / "changed.jsonl").write_text('{"step": "ended"}')
    with pytest.raises(BundleError, match="line 1"):
        judged("changed.jsonl")
