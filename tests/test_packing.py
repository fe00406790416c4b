"""Conversations side by side in windows, and what is learned of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import morphogen as mg
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item, Report
from morphogen.core.errors import DataError, TrainingError
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.spec import TensorSpec
from morphogen.core.storage import read_tensors
from morphogen.data.packing import Packed, PackedFilling, best_fit, flagged
from morphogen.evaluation.likelihood import measure_likelihood
from morphogen.modalities.chat import Chat
from morphogen.modalities.text import Text
from morphogen.modalities.text.chat import conversation_of
from morphogen.training.proof import examples, prove

LENGTHS = [5, 3, 8, 2, 6, 4, 1]


def store(spec: TensorSpec, folder: Path | None = None, gap: int = 2) -> Packed:
    filling = PackedFilling(spec, folder, gap)
    documents = [torch.tensor([i + 1] * (n - 1) + [0]) for i, n in enumerate(LENGTHS)]
    filling.add([flagged(x, torch.arange(len(x)) % 2 == 0) for x in documents])
    made = filling.finish({}, [f"row {i}" for i in range(len(LENGTHS))])
    assert isinstance(made, Packed)
    return made


def test_best_fit_wastes_little_and_loses_nothing() -> None:
    windows = best_fit(LENGTHS, 10)
    assert sorted(i for window in windows for i in window) == list(range(len(LENGTHS)))
    sums = [sum(LENGTHS[i] for i in window) for window in windows]
    assert max(sums) <= 10
    assert len(windows) == 3  # of 29 tokens: as few as there can be
    assert best_fit([], 10) == []


@pytest.mark.parametrize("on_disk", [False, True])
def test_windows_hold_every_document_with_its_gap(tmp_path: Path, on_disk: bool) -> None:
    packed = store(TensorSpec.tokens(12, 9, boundary=0), tmp_path / "s" if on_disk else None)
    seen = []
    for window in range(len(packed)):
        batch, alone = packed.batch(torch.tensor([window])), packed.alone(window)
        for row, (number, there) in enumerate(packed.places(window)):
            assert bool((batch.x[0, there][:-1] == number + 1).all())
            assert bool((batch.x[0, there.start - 2 : there.start] == 0).all())  # the gap
            assert torch.equal(alone.x[row, 2 : 2 + LENGTHS[number]], batch.x[0, there])
            learned = batch.weight[0, there] > 0
            assert torch.equal(learned, torch.arange(LENGTHS[number]) % 2 == 0)
            seen.append(number)
        assert int((batch.x > 0).sum()) == sum(LENGTHS[i] - 1 for i in packed.windows[window])
        own = sum((LENGTHS[i] + 1) // 2 for i in packed.windows[window])
        assert int((batch.weight > 0).sum()) == own  # and nothing between documents
    assert sorted(seen) == list(range(len(LENGTHS)))
    whole = packed.batch(torch.arange(len(packed)))
    torch.testing.assert_close(whole.weight.mean(), torch.tensor(1.0))


def test_items_that_end_hold_one_document_each() -> None:
    packed = store(TensorSpec.tokens(9, 9, end=0), gap=0)
    assert len(packed) == len(LENGTHS)
    batch = packed.take(torch.tensor([2, 0])).batch(torch.arange(2))
    assert batch.x.tolist() == [[3] * 7 + [0] * 2, [1] * 4 + [0] * 5]
    assert (batch.weight > 0).tolist()[1] == [True, False, True, False, True] + [False] * 4


# -- conversations ---------------------------------------------------------------------------------


def row(question: str, answer: str) -> dict[str, str]:
    return {"instruction": question, "output": answer}


def chat(spec: TensorSpec) -> Chat:
    text = Text(tokenizer="byte")
    text.spec = spec
    codec = Chat.onto(text, None)
    assert codec is not None
    return codec


def test_only_answers_and_their_ends_are_learned() -> None:
    codec = chat(TensorSpec.tokens(128, 257, boundary=256))
    tokens, learned = codec.encode_learned(Item(conversation_of(row("Hi", "Hello"))))
    told = codec.tokenizer.decode(tokens[learned][:-1].tolist())
    assert told == b"Hello<|im_end|>"
    assert tokens[-1] == codec.end
    assert bool(learned[-1])  # where it ends is learned
    prompt = codec.encode_sequences([Item("Hi")])[0]
    asked = tokens[: len(tokens) - int(learned.sum())]
    assert prompt[codec.gap :].tolist() == asked.tolist()  # what is seen before an answer is drawn


def test_what_is_cut_is_counted_and_an_answer_that_is_cut_away_is_named(tmp_path: Path) -> None:
    codec = chat(TensorSpec.tokens(80, 257, boundary=256))
    good = [row(f"q{i}", f"a{i}") for i in range(20)]
    path = tmp_path / "rows.jsonl"
    rows = [*good, row("q", "a" * 99), row("q" * 99, "a"), {"instruction": "q", "output": ""}]
    path.write_text("\n".join(map(json.dumps, rows)))
    report = mg.load(path, codec=codec).report
    reasons = {problem.name.partition("#")[2]: problem.reason for problem in report.skipped}
    assert reasons.keys() == {"row 22", "row 23"}
    assert "begins behind the first 78 tokens" in reasons["row 22"]
    assert "every answer is empty" in reasons["row 23"]
    assert "1 conversations are longer than 78 tokens" in report.facts["cut"]
    path.write_text("\n".join(map(json.dumps, [row("q" * 99, "a")] * 9)))
    with pytest.raises(DataError, match="too little of the source"):
        mg.load(path, codec=codec)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("chat")
    text = "".join(f"The cat number {i} sat on mat {i * 7 % 13}. " for i in range(200))
    (root / "cats.txt").write_text(text)
    sums = [row(f"{a} and {b}", f"{a + b}") for a in range(7) for b in range(7)]
    (root / "sums.jsonl").write_text("\n".join(map(json.dumps, sums)))
    settings = [
        "backbone.name=token_transformer", "backbone.model_dim=16", "backbone.num_layers=2",
        "backbone.ngram_slots=16", "modality.length=160", "modality.tokenizer=byte",
        "train.num_previews=0", "train.batch_size=4",
    ]  # fmt: skip
    mg.train(root / "cats.txt", "autoregressive", settings=settings, budget="5steps",
             out=root / "base")  # fmt: skip
    return root


def test_a_base_of_texts_learns_to_answer(root: Path) -> None:
    events: list[str] = []
    tuned = mg.train(
        root / "sums.jsonl", start=root / "base", adapter="lora", budget="20steps",
        out=root / "mine", settings=["train.num_previews=0"],
        on_log=lambda log: events.append(log.event or ""),
    )  # fmt: skip
    told = "\n".join(events)
    assert told.count("example ") == 3
    assert "<|im_start|>assistant\n\u27e6" in told  # answers in brackets
    assert "<|im_end|><end>\u27e7" in told
    assert "<end><end>" not in told  # each stands where it comes
    assert "gradients at marked tokens alone; packed documents do not see each other" in told
    assert isinstance(tuned.codec, Chat)
    opened = Bundle.open(root / "mine")
    assert opened.codec.state() == tuned.codec.state()
    assert set(read_tensors(root / "mine" / "model.safetensors")) == {
        name for name in tuned.family.state_dict() if ".lora." in name
    }
    beside = opened.metrics["beside"]["held_out"]
    assert beside["change"]["high"] < 0
    assert beside["base"]["value"] > beside["tuned"]["value"]
    data = mg.load(root / "sums.jsonl", codec=opened.codec)
    found = measure_likelihood(opened, data, 0)  # bits per byte of the answers
    assert found is not None
    learned = int((data.test.weight(torch.arange(len(data.test))) > 0).sum())
    per_token = float(found.bits.sum()) / learned  # a start, which never comes, is not counted
    assert per_token == pytest.approx(beside["tuned"]["value"], rel=2e-3)
    assert float(found.units.sum()) == learned - data.test.num_documents  # an end is no byte
    answer = opened.task("complete", Item("1+1"), most=5)
    assert answer.values["num_tokens"] == [answer.values["num_tokens"][0]]


def test_what_would_teach_nothing_is_refused_before_the_first_step(root: Path) -> None:
    base = Bundle.open(root / "base")
    codec = Chat.onto(base.codec, base.family.network)
    assert codec is not None
    assert codec.gap == 6  # as far as the n-grams of the network reach
    data = mg.load(root / "sums.jsonl", codec=codec)
    assert "do not see each other" in str(prove(base.family, data))
    assert len(examples(data)) == 3
    recipe = Recipe(family=base.recipe.family, backbone={**base.recipe.backbone,
                                                         "across_documents": True})  # fmt: skip
    sees = build_family(recipe, base.family.spec, {})
    with pytest.raises(TrainingError, match="packed documents see each other"):
        prove(sees, data)
    short = Chat.onto(base.codec, base.family.network)
    assert short is not None
    short.gap = 1
    with pytest.raises(TrainingError, match="packed documents see each other"):
        prove(base.family.eval(), mg.load(root / "sums.jsonl", codec=short))


def test_a_base_that_looks_past_boundaries_gets_one_conversation_in_each_window(
    root: Path,
) -> None:
    base = Bundle.open(root / "base")
    recipe = Recipe(family=base.recipe.family, backbone={**base.recipe.backbone,
                                                         "across_documents": True})  # fmt: skip
    sees = build_family(recipe, base.family.spec, {})
    codec = Chat.onto(base.codec, sees.network)
    assert codec is not None
    data = mg.load(root / "sums.jsonl", codec=codec)
    assert len(data.train) == data.train.num_documents
    assert "the loss has gradients at marked tokens alone" in str(prove(sees, data))
    again = Chat.from_state(codec.state(), codec.tensors())
    assert (again.alone, again.gap) == (True, 0)


def test_windows_are_no_longer_than_the_conversations_need(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("morphogen.modalities.chat.LEAST", 8)
    base = Bundle.open(root / "base")
    codec = Chat.onto(base.codec, base.family.network)
    assert codec is not None
    before = codec.spec.shape[0]
    items = list(codec.read(root / "sums.jsonl", Report("sums")))
    longest = max(len(codec.encode_learned(item)[0]) for item in items) + codec.gap
    codec.shorten(items)
    assert longest <= codec.spec.shape[0] <= min(before, longest + 7)
