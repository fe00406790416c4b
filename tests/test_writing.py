"""Texts that go on: the same alone and together, guessed or not, and drawn as they should be."""

from __future__ import annotations

import dataclasses
import itertools
import random
import subprocess
import sys
from typing import Any

import pytest
import torch

from morphogen.backbones.rnn import RNN
from morphogen.backbones.token_transformer import TokenTransformer
from morphogen.backbones.transformer import Transformer
from morphogen.core.backbone import BuildBackbone
from morphogen.core.conditioning import Context
from morphogen.core.errors import RefusedPair
from morphogen.core.random import generator, randn
from morphogen.core.spec import TensorSpec
from morphogen.core.writing import CanWrite, Limits, Request, Written
from morphogen.families import _writing
from morphogen.families._beam import beam
from morphogen.families._reading import PIECE
from morphogen.families._text import Guess, Text
from morphogen.families.autoregressive import Autoregressive

torch.set_num_threads(1)

V, L = 11, 24
TEXTS = TensorSpec.tokens(L, V, boundary=V - 1)
WIDE = BuildBackbone(TokenTransformer, model_dim=48, num_layers=2, num_heads=3, num_kv_heads=1)
OTHERS = {
    "rnn": BuildBackbone(RNN, model_dim=16, num_layers=1),
    "transformer": BuildBackbone(Transformer, model_dim=16, num_layers=1),
}


def shaken(
    spec: TensorSpec = TEXTS, backbone: BuildBackbone = WIDE, seed: int = 0, **conditions: Any
) -> Autoregressive:
    torch.manual_seed(0)
    model, draw = Autoregressive(spec, conditions, backbone), generator(seed + 7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * randn(parameter.shape, draw))
    return model.eval()


def told(steps: Any, num: int) -> list[list[Written]]:
    """What each request got."""
    rows: list[list[Written]] = [[] for _ in range(num)]
    for written in itertools.chain.from_iterable(steps):
        rows[written.row].append(written)
    return rows


def assert_same_texts(rows: list[list[Written]], expected: list[list[Written]]) -> None:
    """The same tokens to the same ends, and probabilities to rounding."""
    for row, known in zip(rows, expected, strict=True):
        assert [(w.token, w.finish) for w in row] == [(w.token, w.finish) for w in known]
        log_probs = [w.log_prob for w in known]
        assert [w.log_prob for w in row] == pytest.approx(log_probs, rel=1e-5, abs=1e-5)


def asked(draw: random.Random) -> Request:
    prompt = [draw.randrange(V) for _ in range(draw.randrange(8))]
    limits = draw.choice([
        Limits(), Limits(temperature=0), Limits(top_k=4, repetition_penalty=1.3),
        Limits(temperature=0.8, top_p=0.9), Limits(min_p=0.1, no_repeat=3),
    ])  # fmt: skip
    return Request(
        torch.tensor(prompt, dtype=torch.int64), draw.randrange(1, 9), limits,
        seed=draw.randrange(99), num_alternatives=draw.randrange(3),
    )  # fmt: skip


def test_alone_or_among_others_a_request_gets_the_same_to_the_bit() -> None:
    """200 requests in batches of 1 to 16 rows, in any order: tokens, probabilities and all."""
    model, draw = shaken(), random.Random(0)
    assert isinstance(model, CanWrite)
    requests = [asked(draw) for _ in range(200)]
    alone = [told(model.write([request], num_rows=1), 1)[0] for request in requests]
    order = list(range(200))
    draw.shuffle(order)
    while order:
        part = [order.pop() for _ in range(min(draw.randrange(1, 40), len(order)))]
        rows = told(
            model.write([requests[i] for i in part], num_rows=draw.randrange(1, 17)), len(part)
        )
        for i, row in zip(part, rows, strict=True):
            assert [(w.token, w.log_prob, w.alternatives, w.finish) for w in row] == [
                (w.token, w.log_prob, w.alternatives, w.finish) for w in alone[i]
            ]


def test_requests_come_and_leave_while_others_are_written() -> None:
    """Who stays gets what it would get alone; who leaves frees a row, of which there are two."""
    model, draw = shaken(), random.Random(1)
    requests = [asked(draw) for _ in range(30)]
    alone = [told(model.write([request], num_rows=1), 1)[0] for request in requests]
    writing, rows = model.writing(2), [list[Written]() for _ in requests]
    waiting, gone = list(requests), set[int]()
    while waiting or writing.num_going:
        for _ in range(min(draw.randrange(4), len(waiting))):
            writing.add(waiting.pop(0))
        for step in writing.steps():
            for written in step:
                assert written.row not in gone
                rows[written.row].append(written)
                if draw.random() < 0.05 and written.finish is None:
                    writing.leave(written.row)
                    gone.add(written.row)
    assert 0 < len(gone) < 30
    for number, (row, known) in enumerate(zip(rows, alone, strict=True)):
        expected = known[: len(row)] if number in gone else known
        assert [(w.token, w.log_prob) for w in row] == [(w.token, w.log_prob) for w in expected]


@pytest.mark.parametrize("options", [
    {},
    {"position": "learned", "norm": "layer", "mlp": "gelu"},
    {"window": 4, "num_kv_heads": 1},
    {"ngrams": 3, "ngram_slots": 64, "tied": True},
    {"across_documents": True, "qk_norm": True, "hidden_dim": 172},
    {"model_dim": 240, "num_heads": 5, "num_kv_heads": 1},
])  # fmt: skip
def test_rows_give_what_the_network_gives(options: dict[str, Any]) -> None:
    """Rows of different lengths; and several positions of one row at once, to the bit."""
    torch.manual_seed(0)
    sizes = {"model_dim": 48, "num_layers": 2, "num_heads": 3, **options}
    out = TensorSpec("real", (V, L), layout="sequence")
    network = TokenTransformer(TEXTS, out, causal=True, **sizes).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randint(V, (3, L), generator=generator(0))
    whole, rows, lengths = network(x).transpose(1, 2), network.rows(4), (2, 9, 5)
    for row, length in enumerate(lengths):
        begun = rows.begin(row, x[row, :length])
        torch.testing.assert_close(begun, whole[row, length - 1], rtol=1e-4, atol=5e-4)
    alone = []
    for i in range(15):
        new = [int(x[row, length + i]) for row, length in enumerate(lengths)]
        found = rows.advance(new, [0, 1, 2])
        expected = torch.stack([whole[row, length + i] for row, length in enumerate(lengths)])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=5e-4)
        alone.append(found[1])
    rows.cut(1, 12)
    again = rows.advance(x[1, 12:20].tolist(), [1] * 8)
    assert torch.equal(again, torch.stack(alone[3:11]))
    rows.cut(1, 12)
    rows.reorder([2, 1, 0])
    assert torch.equal(rows.advance([int(x[1, 12])], [1])[0], alone[3])
    rows.begin(3, x[0, :3])
    torch.testing.assert_close(rows.extend(3, x[0, 3:]), whole[0, -1], rtol=1e-4, atol=5e-4)


def test_rows_look_at_contexts_of_their_own() -> None:
    """Contexts of different lengths, of which not all positions are there; and copied rows."""
    torch.manual_seed(0)
    out = TensorSpec("real", (V, L), layout="sequence")
    network = TokenTransformer(
        TEXTS, out, cond_dim=8, causal=True, context_dim=12, model_dim=40, num_layers=2, num_heads=2
    ).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randint(V, (2, L), generator=generator(0))
    cond, rows = randn((2, 8), generator(1)), network.rows(3)
    for row, num in ((0, 3), (1, 7)):
        seen = torch.arange(num)[None] != 1
        context = Context(randn((1, num, 12), generator(num)), seen)
        one = slice(row, row + 1)
        whole = network(x[one], cond[one], context)[0].T
        found = [rows.begin(row, x[row, :4], cond[one], context)]
        found += [rows.advance([int(token)], [row])[0] for token in x[row, 4:9]]
        torch.testing.assert_close(torch.stack(found), whole[3:9], rtol=1e-4, atol=5e-4)
    after = rows.advance(x[:, 9].tolist(), [0, 1])
    for row in (0, 1):
        rows.cut(row, 9)
    rows.reorder([1, 0, 1])
    again = rows.advance(x[[1, 0, 1], 9].tolist(), [0, 1, 2])
    assert torch.equal(again, after[[1, 0, 1]])


@pytest.mark.parametrize("limits", [
    Limits(), Limits(temperature=0), Limits(temperature=0.7), Limits(top_k=3), Limits(min_p=0.2),
    Limits(top_p=0.8), Limits(temperature=1.3, top_k=9, top_p=0.6, min_p=0.01), Limits(top_k=99),
])  # fmt: skip
def test_rows_draw_what_is_drawn_token_by_token(limits: Limits) -> None:
    """The tokens of requests that are told alternatives, which are drawn one by one outside."""
    model = shaken()
    prompts = [torch.tensor([k % V, 3, k // V]) for k in range(40)]
    plain = [Request(prompt, 18, limits, seed=k) for k, prompt in enumerate(prompts)]
    shown = [dataclasses.replace(request, num_alternatives=1) for request in plain]
    together = told(model.write(plain), 40)
    assert_same_texts(together, told(model.write(shown), 40))
    assert sum(map(len, together)) > 100
    stopped = [dataclasses.replace(request, stop=Nth(3).reached) for request in plain]
    for row, expected in zip(told(model.write(stopped), 40), together, strict=True):
        assert [(w.token, w.log_prob) for w in row] == [(w.token, w.log_prob) for w in expected[:3]]


class Nth:
    """Stops at the n-th token."""

    def __init__(self, n: int) -> None:
        self.left = n

    def reached(self, token: int) -> bool:
        self.left -= 1
        return self.left == 0


def test_how_many_tokens_come_in_a_call_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one, the same to the bit."""
    model, draw = shaken(), random.Random(1)
    requests = [dataclasses.replace(asked(draw), num_alternatives=0) for _ in range(40)]
    together = told(model.write(requests), 40)
    monkeypatch.setattr(_writing, "TOGETHER", 1)
    assert told(model.write(requests), 40) == together


@pytest.mark.parametrize("backbone", OTHERS)
def test_any_causal_network_writes(backbone: str) -> None:
    """Greedy texts are those of the most probable tokens; conditions and columns are obeyed."""
    model = shaken(TensorSpec.tokens(9, 5, end=0), OTHERS[backbone], label=TensorSpec.label(2))
    prompts = [torch.tensor([1, 2]), torch.tensor([3]), torch.zeros(0, dtype=torch.int64)]
    conds = [{"label": torch.tensor(k % 2)} for k in range(3)]
    requests = [
        Request(prompt, 4, Limits(temperature=0), cond=cond)
        for prompt, cond in zip(prompts, conds, strict=True)
    ]
    for prompt, cond, row in zip(
        prompts, conds, told(model.write(requests, num_rows=2), 3), strict=True
    ):
        come, given = prompt[None], {"label": cond["label"][None]}
        for written in row:
            log_p = model.predict_next(come, given).log_softmax(-1)[0].detach()
            assert written.token == int(log_p.argmax())
            assert written.log_prob == pytest.approx(float(log_p.max()), abs=1e-4)
            come = torch.cat([come, torch.tensor([[written.token]])], 1)
        assert row[-1].finish == ("end" if row[-1].token == 0 else "length")
    columns = shaken(TensorSpec.columns((3, 2, 4)), OTHERS[backbone])
    rows = told(columns.write([Request(torch.tensor([2]), 9, seed=k) for k in range(20)]), 20)
    assert all(len(row) == 2 and row[0].token < 2 and row[1].token < 4 for row in rows)


class Even:
    """Even tokens, three of them."""

    def __init__(self) -> None:
        self.came: list[int] = []

    def allowed(self) -> torch.Tensor:
        return torch.arange(V) % 2 == 0

    def take(self, token: int) -> None:
        self.came.append(token)

    @property
    def ended(self) -> bool:
        return len(self.came) == 3


def test_a_long_prompt_is_read_piece_by_piece_while_others_go_on() -> None:
    """At most a piece between two of their tokens; in pieces, whole or among others it is the same
    to the bit, and what the network says of it."""
    model, num = shaken(TensorSpec.tokens(400, V)), 2 * PIECE + 40
    long = Request(torch.arange(num) * 7 % V, 5, Limits(temperature=0))
    short = Request(torch.tensor([3, 1]), 60, seed=5, num_alternatives=1)
    alone = [told(model.write([each]), 1)[0] for each in (long, short)]
    log_p = model.predict_next(long.prompt[None])[0].log_softmax(-1).detach()
    assert alone[0][0].log_prob == pytest.approx(float(log_p.max()), abs=1e-3)
    writing, rows = model.writing(3), [list[Written]() for _ in range(2)]
    writing.add(short)
    come = list[int]()  # tokens of the short one that were there when the long one went on
    while writing.num_going:
        for written in itertools.chain.from_iterable(writing.steps()):
            rows[written.row].append(written)
        if len(rows[0]) == 3:
            writing.add(long)
        come += [len(rows[0])] if rows[1] and len(come) < 1 else []
    assert come[0] >= 3 + 2  # one at least between two of its three pieces
    assert rows == [alone[1], [dataclasses.replace(each, row=1) for each in alone[0]]]


def test_a_prompt_that_begins_as_another_reads_the_rest() -> None:
    """A turn of a conversation: the same to the bit, in one step where it took three."""
    model = shaken(TensorSpec.tokens(400, V))
    first = torch.arange(2 * PIECE + 9) * 7 % V
    turns = [Request(first, 9, seed=1)]
    turns.append(Request(torch.cat([first, torch.tensor([3, 1, 2])]), 9, seed=2))
    turns.append(Request(torch.cat([first[:PIECE], first]), 9, seed=3))
    alone = [told(model.write([each]), 1)[0] for each in turns]
    writing, steps = model.writing(2), list[int]()
    for number, turn in enumerate(turns):
        writing.add(turn)
        written, num = list[Written](), 0
        while writing.num_going:
            num += not written
            written += itertools.chain.from_iterable(writing.steps())
        steps.append(num)
        assert written == [dataclasses.replace(each, row=number) for each in alone[number]]
    assert steps == [3, 1, 3]  # pieces of 3, 3 and 4, of which 0, 2 and 1 were there


def test_the_tokens_of_a_prompt_are_told_with_their_probabilities() -> None:
    model = shaken()
    prompt = torch.arange(19) * 3 % V
    asked = Request(prompt, 2, seed=1, num_alternatives=1, tells_prompt=True)
    row = told(model.write([asked]), 1)[0]
    given = [each for each in row if each.is_given]
    assert [each.token for each in given] == prompt.tolist()
    for i, each in enumerate(given):
        log_p = model.predict_next(prompt[None, :i]).log_softmax(-1)[0].detach()
        assert each.log_prob == pytest.approx(float(log_p[each.token]), abs=1e-3)
        assert each.alternatives[0][1] == pytest.approx(float(log_p.max()), abs=1e-3)
    plain = told(model.write([dataclasses.replace(asked, tells_prompt=False)]), 1)[0]
    assert [each.token for each in row[len(given) :]] == [each.token for each in plain]


def test_penalties_count_what_was_drawn_and_biases_are_added() -> None:
    """The most probable token by hand, step by step."""
    model, prompt = shaken(), torch.tensor([4, 4, 2])
    limits = Limits(temperature=0, frequency_penalty=0.7, presence_penalty=-0.4)
    bias = {5: 3.0, 1: -100.0}
    row = told(model.write([Request(prompt, 12, limits, bias=bias)]), 1)[0]
    counts, come = torch.zeros(V), prompt[None]
    for written in row:
        logits = model.predict_next(come)[0].detach()
        for token, added in bias.items():
            logits[token] += added
        logits -= 0.7 * counts - 0.4 * (counts > 0)
        assert written.token == int(logits.argmax())
        counts[written.token] += 1
        come = torch.cat([come, torch.tensor([[written.token]])], 1)
    assert len(row) > 4
    with pytest.raises(RefusedPair, match="none of the model's"):
        model.write([Request(prompt, 2, bias={V + 9: 1.0})])


def test_a_text_is_over_for_one_reason() -> None:
    model = shaken()
    prompt = torch.tensor([1, 2])
    row = told(model.write([Request(prompt, 9, constraint=Even())]), 1)[0]
    assert all(w.token % 2 == 0 for w in row)
    assert row[-1].finish == "end"
    stopped = told(model.write([Request(prompt, 9, stop=lambda token: token < 20)]), 1)[0]
    assert [w.finish for w in stopped] in (["stop"], ["end"])
    full = told(model.write([Request(prompt.repeat(11), 9, Limits(top_k=1))]), 1)[0]
    assert len(full) <= 2
    with pytest.raises(RefusedPair, match="no room"):
        model.write([Request(torch.zeros(L, dtype=torch.int64), 3)])


def test_what_is_told_beside_a_token_is_most_probable() -> None:
    model = shaken()
    written = told(model.write([Request(torch.tensor([4]), 1, num_alternatives=3)]), 1)[0][0]
    log_p = model.predict_next(torch.tensor([[4]])).log_softmax(-1)[0].detach()
    assert [token for token, _ in written.alternatives] == log_p.topk(3).indices.tolist()
    assert written.log_prob == pytest.approx(float(log_p[written.token]), abs=1e-4)


@pytest.mark.parametrize("known", [True, False])
def test_a_guess_does_not_change_what_is_drawn(known: bool) -> None:
    """Accepted or not, a token is drawn from p: chi-square over 3,000 draws and 5 tokens."""
    p = torch.tensor([0.4, 0.05, 0.25, 0.2, 0.1])
    q = torch.tensor([0.1, 0.5, 0.2, 0.2, 0.0])
    text = Text(0, Request(torch.zeros(0, dtype=torch.int64), 10**6, seed=3), 10**6, set())
    counts = torch.zeros(5)
    for _ in range(3_000):
        guess = Guess(text.draw(q), q) if known else Guess(1)
        counts[text.take(p.log(), guess).token] += 1
    chi_square = float(((counts - 3_000 * p) ** 2 / (3_000 * p)).sum())
    assert chi_square < 18.5  # 0.1 % of the time, of 4 degrees of freedom


def test_guessing_ahead_changes_speed_alone() -> None:
    """At temperature 0 the tokens are the same; otherwise sequences are as frequent as
    their probability."""
    model, draft = shaken(), shaken(seed=1)
    requests = [
        Request(torch.tensor([k % 5, 3, k % 5, 3]), 12, Limits(temperature=0)) for k in range(6)
    ]
    plain = told(model.write(requests), 6)
    short, stepped = shaken(TensorSpec.tokens(5, V, boundary=V - 1)), shaken(backbone=OTHERS["rnn"])
    for guesses in ("lookup", draft, short, stepped, model):
        steps = list(model.write(requests, draft=guesses))
        assert_same_texts(told(steps, 6), plain)
        assert guesses != model or len(steps) <= 5  # twelve tokens by at most five at a time
    tiny = TensorSpec.tokens(3, 3)
    small = BuildBackbone(TokenTransformer, model_dim=16, num_layers=1)
    model, draft = shaken(tiny, small), shaken(TensorSpec.tokens(2, 3), small, seed=1)
    nothing = torch.zeros(0, dtype=torch.int64)
    requests = [Request(nothing, 3, seed=seed) for seed in range(600)]
    found = torch.zeros(27)
    for row in told(model.write(requests, draft=draft, ahead=2), 600):
        found[sum(3**i * w.token for i, w in enumerate(row))] += 1
    with pytest.raises(RefusedPair, match="own tokens"):
        next(model.write(requests, draft=short))
    every = torch.tensor([[i % 3, i // 3 % 3, i // 9] for i in range(27)])
    exact = 600 * model.log_prob(every, generator=generator(0)).exp().detach()
    assert float(((found - exact) ** 2 / exact).sum()) < 54  # 0.1 %, of 26 degrees of freedom


@pytest.mark.parametrize("backbone", ["rnn", "token_transformer"])
def test_a_beam_as_wide_as_all_texts_finds_the_most_probable(backbone: str) -> None:
    """Of 3^4 sequences by their likelihood; and a beam of one is greedy."""
    small = BuildBackbone(TokenTransformer, model_dim=16, num_layers=1)
    model = shaken(TensorSpec.tokens(4, 3), OTHERS.get(backbone, small))
    nothing = torch.zeros(0, dtype=torch.int64)
    every = torch.tensor(list(itertools.product(range(3), repeat=4)))
    log_p = model.log_prob(every, generator=generator(0)).detach()
    found = beam(model, Request(nothing, 4), width=81)
    best = next(iter(model.write([Request(nothing, 4)], beam=81)))
    assert [list(text.tokens) for text in found[:5]] == every[log_p.topk(5).indices].tolist()
    assert found[0].log_p == pytest.approx(float(log_p.max()), abs=1e-4)
    assert [each.token for each in best] == list(found[0].tokens)
    assert sum(each.log_prob for each in best) == pytest.approx(found[0].log_p)
    assert [each.finish for each in best] == [None, None, None, "length"]
    greedy = told(model.write([Request(nothing, 4, Limits(temperature=0))]), 1)[0]
    one = beam(model, Request(nothing, 4), width=1)[0]
    assert list(one.tokens) == [w.token for w in greedy]


def test_a_beam_weighs_texts_by_their_length() -> None:
    """Texts that end are there with their end, and a higher power favours longer ones."""
    small = BuildBackbone(TokenTransformer, model_dim=16, num_layers=1)
    model = shaken(TensorSpec.tokens(6, 3, end=0), small)
    request = Request(torch.tensor([1]), 5)
    short, long = (beam(model, request, width=60, power=power) for power in (0.0, 3.0))
    texts = [text.tokens for text in short + long]
    assert all(tokens[-1] == 0 or len(tokens) == 5 for tokens in texts)
    assert all(0 not in tokens[:-1] for tokens in texts)
    assert short[0].log_p == max(text.log_p for text in short)
    assert len(long[0].tokens) >= len(short[0].tokens)


def test_the_form_that_goes_on_is_imported_where_bundles_are_opened() -> None:
    """They are measured on the device "meta", where nothing that is kept may come to lie."""
    code = (
        "import torch\n"
        "with torch.device('meta'):\n"
        "    from morphogen.backbones import _decoding\n"
        "assert not [k for k, v in vars(_decoding).items()\n"
        "            if isinstance(v, torch.Tensor) and v.is_meta]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_beam_says_what_it_does_not_heed() -> None:
    model = shaken(TensorSpec.tokens(6, 3, end=0), WIDE)
    for asked in ({"limits": Limits(no_repeat=2)}, {"num_alternatives": 2}):
        request = Request(torch.tensor([1]), 4, **asked)
        with pytest.raises(RefusedPair, match="a beam heeds no constraint"):
            next(iter(model.write([request], beam=2)))
    several = [Request(torch.tensor([start]), 4) for start in (1, 2, 1)]
    first, other, again = told(model.write(several, beam=3), 3)
    assert [w.token for w in first] == [w.token for w in again]  # rows are used again
    assert {each[-1].finish for each in (first, other)} <= {"end", "length"}
