"""Events: logs are read as they are, divided by time, and what comes next is ranked exactly."""

from __future__ import annotations

import csv
import json
import math
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import morphogen as mg
from morphogen.cli.app import main
from morphogen.core.backbone import BuildBackbone
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item, Report
from morphogen.core.discover import find
from morphogen.core.errors import DataError, RecipeError
from morphogen.core.metric import Ranks
from morphogen.core.random import generator
from morphogen.core.recipe import Recipe
from morphogen.core.spec import TensorSpec
from morphogen.data.dataset import Data, load
from morphogen.data.modality import find_modality
from morphogen.evaluation._ranks import Counts, ranked, ranks_of, why_no_ranks
from morphogen.evaluation.likelihood import measure_likelihood
from morphogen.families.masked import Masked
from morphogen.metrics.ranking import ranking
from morphogen.modalities.events import Events
from morphogen.modalities.events.copies import copies
from morphogen.modalities.events.history import Event, History
from morphogen.modalities.events.reading import read_times
from morphogen.tasks.recommend import recommend
from morphogen.training.choice import with_usual_network
from sources.events import START, rows, write

HEAD = ("user_id", "item_id", "timestamp")
Row = Sequence[Any]


def table(folder: Path, body: Sequence[Row], head: Sequence[str] = HEAD, name: str = "a") -> Path:
    path = folder / f"{name}.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *body])
    return path


def read(source: Any, **options: Any) -> tuple[list[Item], Report]:
    report = Report(str(source))
    return list(Events(**options).read(source, report)), report


def told(report: Report) -> str:
    return " | ".join(problem.reason for problem in report.problems)


def content(items: Sequence[Item]) -> list[Any]:
    return [(item.name, item.split, item.value.events) for item in items]


# -- reading -------------------------------------------------------------------------------------


def test_a_log_is_told_from_a_table_and_from_a_series(tmp_path: Path) -> None:
    assert find_modality(write(tmp_path)) == "events"
    for name, head in (
        ("b", ("Customer ID", "StockCode", "InvoiceDate")),
        ("c", ("user_id:token", "item_id:token", "timestamp:float")),
    ):
        assert find_modality(table(tmp_path, rows(), head, name)) == "events"
    daily = [[f"2024-03-{1 + i % 28:02d}", f"s{i // 28}", i] for i in range(84)]
    assert find_modality(table(tmp_path, daily, ("date", "store", "sales"), "d")) == "series"
    people = [[f"u{i}", f"city {i}", i] for i in range(40)]
    assert find_modality(table(tmp_path, people, ("user_id", "city", "age"), "e")) == "table"


def test_every_kind_of_source_gives_the_same_items(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path, body = write(tmp_path), rows()
    lines = [json.dumps(dict(zip(HEAD, row, strict=True))) for row in body]
    (tmp_path / "b.jsonl").write_text("\n".join(lines) + "\n")
    frame = pandas.read_csv(path)
    frame.to_parquet(tmp_path / "c.parquet")
    with sqlite3.connect(tmp_path / "d.db") as base:
        base.execute("CREATE TABLE log (user_id TEXT, item_id TEXT, timestamp INTEGER)")
        base.executemany("INSERT INTO log VALUES (?, ?, ?)", body)
    base.close()
    first = content(read(path)[0])
    others = [
        tmp_path / "b.jsonl",
        tmp_path / "c.parquet",
        frame,
        f"sqlite:///{tmp_path}/d.db?table=log",
    ]
    for other in others:
        assert content(read(other)[0]) == first


def test_rows_out_of_order_and_rows_that_come_twice_are_told(tmp_path: Path) -> None:
    clean, quiet = read(table(tmp_path, rows()))
    assert not told(quiet)
    mixed = rows()
    mixed[5:40] = mixed[5:40][::-1]
    found, report = read(table(tmp_path, [*mixed, rows()[3], rows()[9]], name="b"))
    assert "put in order" in told(report)
    assert "2 rows are another's again and are taken once" in told(report)
    by_name = {item.name: item.value.events for item in found}
    assert by_name == {item.name: item.value.events for item in clean}


@pytest.mark.parametrize("form", ["milliseconds", "nanoseconds", "iso", "dotted", "mixed"])
def test_stamps_of_every_form_divide_alike(tmp_path: Path, form: str) -> None:
    import datetime

    def cell(stamp: int, number: int) -> Any:
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=stamp)
        written = {
            "milliseconds": stamp * 1000, "nanoseconds": stamp * 10**9,
            "iso": moment.isoformat(), "dotted": moment.strftime("%d.%m.%Y %H:%M:%S"),
            "mixed": [stamp, stamp * 1000, moment.isoformat()][number % 3],
        }  # fmt: skip
        return written[form]

    body = [(*row[:2], cell(row[2], i)) for i, row in enumerate(rows())]
    found, report = read(table(tmp_path, body))
    assert content(found) == content(read(table(tmp_path, rows(), name="b"))[0])
    assert ("mixed units" in told(report)) == (form == "mixed")


def test_numbers_that_are_no_moments_only_order() -> None:
    assert read_times(["3", "1", "2"])[0].tolist() == [3, 1, 2]
    assert not read_times(["3", "1", "2"])[1]


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        (("who", "item_id", "timestamp"), {}, "no column of the log says whose the events are"),
        (("user_id", "thing", "timestamp"), {}, "no column of the log says what the events are of"),
        (("user_id", "item_id", "x"), {}, "no column of the log says when the events were"),
        (HEAD, {"user": "userid"}, "no column 'userid'. Did you mean 'user_id'"),
        (HEAD, {"only": "buy"}, "no event is of the kind 'buy'"),
        (HEAD, {"test": 0.95}, "test does not fit"),
        (HEAD, {"length": 1}, "length does not fit"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, head: Sequence[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message.replace(".", r"\.")) as caught:
        read(table(tmp_path, rows(), head), **options)
    assert "modality." in str(caught.value)


def test_columns_are_named_and_rows_may_have_no_time(tmp_path: Path) -> None:
    path = table(tmp_path, rows(), ("who", "thing", "x"))
    found, _ = read(path, user="who", item="thing", time="x")
    assert content(found) == content(read(table(tmp_path, rows(), name="b"))[0])
    in_rows, report = read(path, user="who", item="thing", time="none")
    assert report.facts["not_learned"] == {"x": "it says neither who, what nor when"}
    assert {i.value.events for i in in_rows if i.split == "train"}


def test_rows_that_say_too_little_are_left_out_and_counted(tmp_path: Path) -> None:
    bad = [("", "apple", START), ("u1", "NA", START), ("u1", "apple", None), ("u2", "figs", "soon")]
    found, report = read(table(tmp_path, [*rows(), *bad]))
    assert content(found) == content(read(table(tmp_path, rows(), name="b"))[0])
    for words in (
        "rows have no user",
        "rows have no item",
        "rows have no time",
        "events have a stamp",
    ):
        assert f"1 {words}" in told(report)
    assert "'soon'" in told(report)
    with pytest.raises(DataError, match="most rows of the log cannot be used"):
        read(table(tmp_path, [*rows(3), *bad * 20], name="c"))
    soon = [(user, item, "soon") for user, item, _ in rows()]
    with pytest.raises(DataError, match="most stamps of the log cannot be read"):
        read(table(tmp_path, soon, name="d"))


def test_kinds_of_events_are_told_apart_or_chosen(tmp_path: Path) -> None:
    body = [(*row, ("view", "buy")[i % 3 == 0]) for i, row in enumerate(rows())]
    path = table(tmp_path, body, (*HEAD, "event_type"))
    every, report = read(path)
    assert "buy" in report.facts["kinds"]
    assert {event.kind for item in every for event in item.value.events} == {"view", "buy"}
    bought, _ = read(path, only="buy")
    assert {event.kind for item in bought for event in item.value.events} == {"buy"}
    plain, _ = read(path, kind="none")
    assert content(plain) == content(read(table(tmp_path, rows(), name="b"))[0])


def test_a_column_of_too_many_kinds_tells_none_apart_and_one_of_them_can_be_chosen(
    tmp_path: Path,
) -> None:
    many = [(*row, f"k{i}" if i % 3 else "buy") for i, row in enumerate(rows())]
    path = table(tmp_path, [*many, ("u0", "", 5, "k1")], (*HEAD, "event_type"))
    every, report = read(path)
    assert "not told apart" in report.facts["kinds"]
    assert content(every) == content(read(table(tmp_path, rows(), name="b"))[0])
    assert len([each for each in report.problems if "no item" in each.reason]) == 1
    chosen, report = read(path, only="buy")
    assert {event.kind for item in chosen for event in item.value.events} == {"buy"}
    assert "buy" in report.facts["kinds"]


def test_a_small_log_has_a_small_network_unless_another_is_named(data: Data) -> None:
    assert data.codec.network["model_dim"] == 64
    assert "model_dim=64" in data.report.facts["network"]
    named = Recipe(family={"name": "autoregressive"}, backbone={"model_dim": 32})
    found = with_usual_network(named, data.codec, data.spec)
    assert found.backbone == {**data.codec.network, "model_dim": 32}


# -- dividing ------------------------------------------------------------------------------------


def moments(item: Item) -> np.ndarray:
    assert item.value.stamps is not None
    return item.value.stamps


def test_nothing_that_is_learned_is_later_than_what_is_judged(tmp_path: Path) -> None:
    items, report = read(write(tmp_path), test=0.3)
    learned = max(moments(item).max() for item in items if item.split == "train")
    judged = min(moments(item)[-1] for item in items if item.split == "test")
    assert learned < judged
    assert "learned before" in report.facts["divided"]
    whole = {user: [r[1] for r in rows() if r[0] == user] for user, _, _ in rows()}
    for item in items:
        own = [event.item for event in item.value.events]
        assert own == whole[item.value.user][: len(own)]
        if item.split == "test":  # up to the last, with all that was before
            assert own == whole[item.value.user]


def test_each_user_may_be_divided_before_the_last(tmp_path: Path) -> None:
    items, report = read(write(tmp_path), divide="each")
    train, test = (
        {i.value.user: i.value for i in items if i.split == s} for s in ("train", "test")
    )
    assert train.keys() == test.keys() == {user for user, _, _ in rows()}
    assert all(test[user].events[:-1] == own.events for user, own in train.items())
    assert "whatever others did later" in report.facts["divided"]


def test_cold_users_and_items_and_users_of_one_event_are_named(tmp_path: Path) -> None:
    late = max(row[2] for row in rows())
    new = [
        ("u0", "kiwi", late + 1), ("new", "apple", late + 2), ("new", "bread", late + 3),
        ("u1", "kiwi", late + 4), ("u1", "apple", late + 5), ("once", "figs", START),
    ]  # fmt: skip
    items, report = read(table(tmp_path, [*rows(), *new]), test=0.03)
    assert "cold items" in told(report)
    assert "kiwi" in told(report)
    assert "1 of" in report.facts["cold_users"]
    assert "new" in report.facts["cold_users"]
    assert "1 users have one event" in told(report)
    assert "once" in told(report)
    assert "kiwi" not in {event.item for item in items for event in item.value.events}
    judged = {item.value.user: item.value for item in items if item.split == "test"}
    assert [event.item for event in judged["new"].events] == ["apple", "bread"]
    assert "once" not in judged


def test_rare_items_and_long_histories(tmp_path: Path) -> None:
    body = [*rows(), ("u0", "saffron", START + 1)]
    items, report = read(table(tmp_path, body), fewest=3, length=4)
    assert "saffron" in told(report)
    assert "come less than 3 times" in told(report)
    assert max(len(item.value) for item in items) == 4
    whole, _ = read(table(tmp_path, body, name="b"), fewest=3)
    count = sum(len(item.value) for item in items if item.split == "train")
    assert count == sum(len(item.value) for item in whole if item.split == "train")


def test_events_of_one_moment_cannot_be_divided(tmp_path: Path) -> None:
    same = [(user, item, START) for user, item, _ in rows()]
    with pytest.raises(DataError, match="no moment that divides the log"):
        read(table(tmp_path, same))


# -- encoding ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return load(write(tmp_path_factory.mktemp("log"), 120), divide="each")


def test_histories_come_back_and_the_newest_are_kept(data: Data) -> None:
    codec: Any = data.codec
    long = History(tuple(Event(name) for name in ("apple", "bread") * 9))
    x = codec.encode(Item(long))
    assert codec.decode(x).events == long.events[-len(x) :]
    assert len(codec.encode_sequences([Item(long)])[0]) == 18
    typed = codec.encode_sequences([Item(" apple, figs")])[0]
    assert [codec.token_text(token) for token in typed.tolist()] == ["apple", "figs"]
    with pytest.raises(DataError, match=r"'aple' was not learned\. Did you mean 'apple'"):
        codec.encode(Item("aple"))


def test_items_of_an_input_that_were_not_learned_are_warned_of(data: Data, tmp_path: Path) -> None:
    path = table(tmp_path, [("a", "apple", START), ("a", "kiwi", START + 1), ("b", "figs", START)])
    with pytest.warns(UserWarning, match="1 of 3 events are of items that were not learned.*kiwi"):
        found = data.codec.read_inputs(path)
    assert [str(item.value) for item in found] == ["a: apple", "b: figs"]


def test_a_file_of_what_was_made_is_read_again(data: Data, tmp_path: Path) -> None:
    codec: Any = data.codec
    values = [item.value for item in codec.read_inputs(write(tmp_path, 5))]
    again = codec.read_inputs(codec.write(values, tmp_path / "again.csv"))
    assert [item.value.events for item in again] == [value.events for value in values]
    page = codec.write(values, tmp_path / "page.html").read_text()
    assert values[0].events[0].item in page


def test_only_the_last_event_counts_of_what_is_held_out(data: Data) -> None:
    every = torch.arange(len(data.test))
    batch = data.test.batch(every)
    assert batch.weight is not None
    last = batch.x.ne(data.codec.end).sum(1) - 1  # type: ignore[attr-defined]
    assert torch.equal((batch.weight > 0).nonzero()[:, 1], last)
    real = data.spec.mask(batch.x)
    assert real is not None
    assert float(batch.weight.sum() / real.sum()) == pytest.approx(1.0)
    assert data.train.batch(torch.arange(2)).weight is None
    assert data.test.take(every[:3]).batch(every[:2]).weight is not None


def test_histories_that_are_copied_are_found() -> None:
    def of(*names: str) -> History:
        return History(tuple(map(Event, names)))

    training = [of(*"abcdef"), of(*"xyz")]
    found = copies([of(*"abcd"), of(*"abdc"), of(*"xyz"), of(*"abcdef")], training)
    assert found == {"exact": [0, -1, -1, 0]}  # three events are the same by chance


# -- ranking -------------------------------------------------------------------------------------


class Chain(nn.Module):
    """A model that is the law itself: each item goes on by a row of `law` (V, V)."""

    def __init__(self, spec: TensorSpec, law: Tensor) -> None:
        super().__init__()
        self.spec, self.law, self.device = spec, law, torch.device("cpu")
        self.conditions: dict[str, TensorSpec] = {}

    def predict_next(self, prefix: Tensor, cond: Any = None) -> Tensor:
        """log p of each item, and nothing for the end."""
        rows = (
            self.law[prefix[:, -1]] if prefix.shape[1] else self.law.mean(0).expand(len(prefix), -1)
        )
        return torch.cat([rows.log(), torch.full((len(rows), 1), -torch.inf)], 1)


def test_a_model_that_is_the_law_reaches_the_recall_of_the_law(tmp_path: Path) -> None:
    num, draw = 30, np.random.default_rng(0)
    law = draw.dirichlet(np.full(num, 0.2), num)
    body = []
    for user in range(400):
        at = draw.integers(num)
        for place in range(6):
            body.append((f"u{user}", f"i{at:02d}", START + place))
            at = draw.choice(num, p=law[at])
    found = load(table(tmp_path, body), "events", divide="each")
    codec: Any = found.codec
    order = [int(event.item[1:]) for event in codec.catalogue]
    own = torch.from_numpy(law[np.ix_(order, order)]).float()
    bundle = Bundle(Chain(found.spec, own), codec, Recipe())  # type: ignore[arg-type]
    assert why_no_ranks(bundle, found) is None
    ranks = ranks_of(bundle, found, 0)
    scores = ranking(ranks, generator=generator(0))
    x = found.test.batch(torch.arange(len(found.test))).x
    exact = float(own[x[:, 4]].sort(1).values[:, -10:].sum(1).mean())  # of six events, the fifth
    error = math.sqrt(exact * (1 - exact) / len(x))
    assert abs(scores["recall_at_10"] - exact) < 4 * error
    assert scores["recall_at_10"] > scores["chain_recall_at_10"] > scores["popularity_recall_at_10"]


@pytest.mark.parametrize("repeats", [True, False])
def test_places_are_those_of_brute_force(repeats: bool) -> None:
    x, places = torch.tensor([[0, 1, 2], [2, 2, 0], [1, 3, 3]]), torch.tensor([2, 2, 1])
    told = [[5.0, 1.0, 1.0, 7.0], [0.0, 2.0, 2.0, 2.0], [3.0, 9.0, 9.0, 9.0]]
    counts = Counts(4)
    counts.repeats = repeats

    def scores(prefix: Tensor) -> Tensor:
        """By what an item begins with."""
        return torch.tensor([told[{0: 0, 2: 1, 1: 2}[first]] for first in prefix[:, 0].tolist()])

    found = ranked(x, places, scores, counts)
    for row, place in enumerate(places.tolist()):
        own = [
            -math.inf if not repeats and token in x[row, :place].tolist() else score
            for token, score in enumerate(told[row])
        ]
        mine = own[int(x[row, place])]
        above, level = sum(s > mine for s in own), sum(s == mine for s in own)
        assert float(found[row]) == 1 + above + (level - 1) / 2


def test_counts_are_those_of_the_training_split(data: Data) -> None:
    counts = Counts.of(data.train)
    x = data.train.batch(torch.arange(len(data.train))).x
    end = data.codec.end  # type: ignore[attr-defined]
    single, pairs = np.zeros(end), np.zeros((end, end))
    for row in x.tolist():
        own = row[: row.index(end)] if end in row else row
        for place, token in enumerate(own):
            single[token] += 1
            if place:
                pairs[own[place - 1], token] += 1
    assert counts.single.tolist() == single.tolist()
    after = counts.chain(torch.arange(end)[:, None]).numpy()
    assert np.allclose(after, pairs + single / single.sum())


def test_scores_of_places() -> None:
    ranks = torch.tensor([1.0, 2.0, 10.0, 11.0])
    found = ranking(Ranks(ranks, ranks + 1, ranks + 2, num=20), generator=generator(0))
    assert found["recall_at_10"] == 0.75
    assert found["popularity_recall_at_10"] == 0.5
    assert found["ndcg_at_10"] == pytest.approx((1 + 1 / math.log2(3) + 1 / math.log2(11)) / 4)
    assert found["reciprocal_rank"] == pytest.approx((1 + 0.5 + 0.1 + 1 / 11) / 4)


# -- models --------------------------------------------------------------------------------------


def small(family: str, spec: TensorSpec) -> Any:
    build = BuildBackbone(find("backbone", "token_transformer"), model_dim=16, num_layers=1)
    torch.manual_seed(0)
    return find("family", family)(spec, {}, build).eval()


def test_masked_models_tell_the_next_as_the_hidden_one_before_the_end() -> None:
    spec = TensorSpec.tokens(5, 4, end=3)
    model: Masked = small("masked", spec)
    x = torch.tensor([[0, 1, 3, 3, 3], [2, 2, 3, 3, 3]])
    model.ends = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    with torch.no_grad():
        told = model.predict_next(x[:, :2]).softmax(1)
        hidden = torch.cat([x[:, :2], torch.full((2, 1), model.mask), x[:, 3:]], 1)
        q = model._logits(hidden, model._context(None, 2))[:, :3, 2].softmax(1)
    assert torch.allclose(told.sum(1), torch.ones(2))
    assert torch.allclose(told[:, 3], torch.full((2,), 3 / 18))  # of those of two or more, no more
    assert torch.allclose(told[:, :3], q * 15 / 18, atol=1e-6)


@pytest.mark.parametrize("family", ["autoregressive", "masked"])
def test_what_is_recommended_is_what_is_expected_and_was_not_seen(data: Data, family: str) -> None:
    model = small(family, data.spec)
    sequences = [torch.tensor([0, 1]), torch.tensor([3]), torch.tensor([2, 4])]
    names = ["ann", "bob", "--text"]
    found = recommend(model, sequences, data.codec, names, generator=generator(0), num=3)
    told = model.predict_next(torch.tensor([[3]]))[0]
    told[3] = told[data.codec.end] = -torch.inf  # type: ignore[attr-defined]
    expected = told.softmax(0).topk(3)
    name, share = zip(*found.values["recommended"][1], strict=True)
    codec: Any = data.codec
    assert list(name) == [codec.token_text(token) for token in expected.indices.tolist()]
    assert list(share) == pytest.approx(expected.values.tolist(), rel=1e-5)
    assert found.raw is not None
    assert found.raw[1].startswith("bob: ")
    assert found.raw[2].startswith("3: ")
    seen = recommend(model, sequences, codec, num=9, seen=True, generator=generator(0))
    assert len(seen.values["recommended"][0]) == len(codec.catalogue)
    with pytest.raises(RecipeError, match="num does not fit"):
        recommend(model, sequences, codec, num=0, generator=generator(0))


def test_bits_of_held_out_histories_are_those_of_their_last_event(data: Data) -> None:
    model = small("autoregressive", data.spec)
    found = measure_likelihood(Bundle(model, data.codec, Recipe()), data, 0)
    assert found is not None
    batch = data.test.batch(found.index)
    with torch.no_grad():
        each = model.token_log_prob(batch.x, None)
    expected = -(each * (batch.weight > 0)).sum(1) / math.log(2)
    assert torch.allclose(found.bits, expected, atol=1e-4)
    assert torch.equal(found.units, torch.ones(len(found.units)))
    assert (
        measure_likelihood(Bundle(small("masked", data.spec), data.codec, Recipe()), data, 0)
        is None
    )


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(list(words))
    return capsys.readouterr().out


def test_the_whole_road(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("morphogen.evaluation.features.FEWEST_STEPS", 5)
    monkeypatch.setattr("morphogen.evaluation.features.MOST_STEPS", 5)
    source, out = write(tmp_path, 150), tmp_path / "model"
    assert "users" in run(capsys, "inspect", str(source))
    assert json.loads(run(capsys, "data", "check", str(source), "--json"))["error"] is None
    run(capsys, "data", "dedupe", str(source))
    sizes = ["backbone.model_dim=32", "backbone.num_layers=1", "train.num_previews=0"]
    settings = [part for each in (*sizes, "modality.divide=each") for part in ("--set", each)]
    said = run(capsys, "train", str(source), "--out", str(out), "--budget", "60steps", *settings)
    assert "autoregressive, as events data is usually learned" in said
    reasons = json.loads(run(capsys, "tasks", str(out), "--json"))
    applies = {name for name, reason in reasons.items() if reason is None}
    assert {"recommend", "complete", "score", "fill", "generate"} <= applies
    for name, suffix in (("recommend", ".csv"), ("complete", ".csv"), ("fill", ".html")):
        run(capsys, "task", name, str(out), str(source), "--out", str(tmp_path / f"{name}{suffix}"))
    with (tmp_path / "recommend.csv").open() as file:
        places = [int(row["place"]) for row in csv.DictReader(file)]
    assert places[:3] == [1, 2, 3]
    assert max(places) < 8  # of eight items one at least was seen
    scored = json.loads(run(capsys, "task", "score", str(out), str(source), "--json"))
    assert len(scored["bits_per_event"]) == 150
    typed = run(capsys, "task", "recommend", str(out), "--text", "apple, bread", "--set", "num=2")
    assert "cheese" in typed
    run(capsys, "evaluate", str(out), "--num", "60")
    record = json.loads((out / "metrics.json").read_text())["evaluation"]
    scores = record["scores"]
    assert {"recall_at_10", "chain_ndcg_at_10", "exact_copies", "bits_per_event"} <= scores.keys()
    assert any("begin as training items do" in warning for warning in record["warnings"])
    assert scores["reciprocal_rank"]["value"] > 0.5  # chance would be a third
    assert mg.open(out).codec.catalogue == mg.load(source, divide="each").codec.catalogue  # type: ignore[attr-defined]
