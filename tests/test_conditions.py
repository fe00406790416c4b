"""What is said of items: which of it becomes a condition, and what keeps it through a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Codec, Item, Recognition, Report
from morphogen.core.codec_storage import codec_tensors, describe_codec, rebuild_codec
from morphogen.core.conditioning import present
from morphogen.core.errors import DataError, RecipeError, RefusedPair
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.spec import TensorSpec
from morphogen.data.conditions import encode_said, facts_of, fit_conditions, is_said, priors_of
from morphogen.data.dataset import load
from morphogen.data.inspect import inspect
from morphogen.evaluation.asked import held_out_conditions
from morphogen.modalities.image import Image

WORDS = ("red", "green", "blue", "round", "flat", "boot", "bag", "coat")


class Embedding(Codec):
    """Vectors from elsewhere: a list of numbers is one. One more condition kind is one file."""

    @classmethod
    def recognises(cls, source):
        return None

    @classmethod
    def recognises_cells(cls, values):
        lists = all(isinstance(value, list) and isinstance(value[0], float) for value in values)
        return Recognition(0.9, f"vectors of {len(values[0])}") if lists else None

    def is_one(self, value):
        return isinstance(value[0], float)

    def read(self, source, report):
        return iter(())

    def fit(self, items):
        self.spec = TensorSpec.vector(len(next(iter(items)).value))
        return self

    def encode(self, item):
        return torch.tensor(item.value)

    def decode(self, x):
        return x.tolist()

    def state(self):
        return {"dim": self.spec.num_values}

    @classmethod
    def from_state(cls, state, tensors):
        return cls().fit([Item([0.0] * state["dim"])])


class Words(Codec):
    """Captions of known words, an end after the last: what a tokenizer does, in short."""

    def __init__(self) -> None:
        self.spec = TensorSpec.tokens(6, len(WORDS) + 1, end=0)

    @classmethod
    def recognises(cls, source):
        return None

    @classmethod
    def recognises_cells(cls, values):
        texts = all(isinstance(value, str) and " " in value for value in values)
        return Recognition(0.95, "texts") if texts else None

    def read(self, source, report):
        return iter(())

    def fit(self, items):
        list(items)
        return self

    def encode(self, item):
        tokens = [WORDS.index(word) + 1 for word in item.value.split()][:5]
        return torch.tensor(tokens + [0] * (6 - len(tokens)))

    def decode(self, x):
        return " ".join(WORDS[token - 1] for token in x.tolist() if token)

    def state(self):
        return {}

    @classmethod
    def from_state(cls, state, tensors):
        return cls()


@pytest.fixture
def kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two kinds above as files of a plugin folder: nothing else is told of them."""
    folder = tmp_path / "plugins" / "modalities"
    folder.mkdir(parents=True)
    source = Path(__file__).read_text()
    head = source[source.index("from __future__") : source.index("class Embedding")]
    for name in ("Embedding", "Words"):
        start = source.index(f"class {name}(Codec)")
        (folder / f"{name.lower()}_kind.py").write_text(
            head + source[start : source.index("\n\n\n", start)].replace(name, f"{name}Kind", 1)
        )
    monkeypatch.setenv("MORPHOGEN_PLUGINS", str(tmp_path / "plugins"))
    discover.names("modality")
    yield
    package = __import__("morphogen.modalities", fromlist=["x"])
    package.__path__[:] = [path for path in package.__path__ if str(tmp_path) not in path]


def codec(
    said: list[dict[str, Any]], report: Report | None = None, wanted: str | None = None
) -> Image:
    made = Image()
    made.spec = TensorSpec("real", (1, 4, 4), levels=256)
    fit_conditions(made, said, report or Report(""), wanted)
    return made


def labelled(*names: object) -> list[dict[str, Any]]:
    return [{"label": name} for name in names]


def everything(num: int) -> list[dict[str, Any]]:
    draw = np.random.default_rng(0)
    said = []
    for i in range(num):
        said.append(
            {
                "label": ("boot", "bag")[i % 2],
                "price": f"{10 + 3.5 * i}",
                "sketch": draw.integers(0, 256, (4, 4), dtype=np.uint8),
                "caption": " ".join(draw.permutation(WORDS)[: 2 + i % 3]),
                "vector": draw.standard_normal(3).tolist(),
            }
        )
    return said


# -- labels, as pictures have had them -------------------------------------------------------------


def test_labels_become_a_condition() -> None:
    made = codec(labelled("cat", "dog", "cow"))
    assert made.conditions == {"label": TensorSpec.label(3)}
    assert made.class_names("label") == ["cat", "cow", "dog"]
    assert made.class_names("colour") == []
    assert made.encode_condition("label", "dog").item() == 2
    with pytest.raises(DataError, match="Did you mean 'cow'"):
        made.encode_condition("label", "coww")
    with pytest.raises(RefusedPair, match="no condition 'colour'"):
        made.encode_condition("colour", 1)


def test_one_class_or_few_labels_are_no_condition() -> None:
    for said, reason in (
        (labelled("cat", "cat"), "one class only"),
        ([*labelled("cat", "dog"), {}, {}, {}], "2 have one"),
    ):
        report = Report("")
        assert codec(said, report).conditions == {}
        assert reason in report.facts["labels_unused"]
    assert codec([*labelled("cat", "dog"), {}, {}]).conditions


def test_fitting_again_forgets_what_was() -> None:
    made = codec(labelled("cat", "dog"))
    fit_conditions(made, [{}, {}], Report(""))
    assert made.conditions == {}


# -- every kind ------------------------------------------------------------------------------------


def test_which_are_learned_is_chosen_and_each_is_read_by_the_surest(kinds: None) -> None:
    said = everything(40)
    assert list(codec(said).conditions) == ["label"]
    assert codec(said, wanted="none").conditions == {}
    assert list(codec(said, wanted="caption, price").conditions) == ["caption", "price"]
    report = Report("")
    made = codec(said, report, "all")
    read = {name: type(each).__name__ for name, each in made.condition_codecs.items()}
    assert read == {
        "label": "Category", "price": "Value", "sketch": "Image", "caption": "WordsKind",
        "vector": "EmbeddingKind",
    }  # fmt: skip
    assert report.facts["price_is"].startswith("value: numbers from 10 to")
    with pytest.raises(DataError, match="Did you mean 'caption'") as error:
        codec(said, wanted="captoin")
    assert "price" in str(error.value)
    with pytest.raises(DataError, match="no codec reads"):
        codec([{"thing": {}}, {"thing": {}}], wanted="thing")


def test_an_item_of_which_nothing_is_said_is_kept(kinds: None) -> None:
    said = [*everything(30), {"label": "bag", "price": "", "caption": None}]
    report = Report("")
    made = codec(said, report, "all")
    assert report.facts["price_absent"].startswith("1 of 31 training items")
    encoded = encode_said(made, Item(None, "a", cond=said[-1]), report)
    assert encoded is not None
    for name, spec in made.conditions.items():
        assert present(encoded[name][None], spec).item() == (name == "label"), name
    unlabelled = encode_said(made, Item(None, "u", cond={"price": "3"}), report)
    assert unlabelled is not None
    assert unlabelled["label"].item() == -1
    assert encode_said(made, Item(None, "b", cond={"label": "hat"}), report) is None
    assert "no class 'hat'" in report.skipped[0].reason
    from_tags = encode_said(made, Item(None, "c", {"label": "bag"}, tags={"price": "10"}), report)
    assert from_tags is not None
    assert from_tags["price"].item() == pytest.approx(-1)


@pytest.mark.parametrize("value", [None, "", "  ", float("nan")])
def test_empty_cells_say_nothing(value: object) -> None:
    assert not is_said(value)
    assert is_said(0)


def stacked(made: Image, said: list[dict[str, Any]]) -> dict[str, Tensor]:
    rows = [encode_said(made, Item(None, "", cond=each), Report("")) for each in said]
    return {name: torch.stack([row[name] for row in rows if row]) for name in made.conditions}


def test_what_a_bundle_keeps_and_what_people_are_told(kinds: None) -> None:
    said = everything(40)
    said[3]["price"] = None
    made = codec(said, wanted="all")
    cond = stacked(made, said)
    priors = priors_of(made, cond)
    assert priors.keys() == {"label", "price"}  # no caption and no picture of the user's
    assert priors["label"] == [0.5, 0.5]
    assert priors["price"] == sorted(priors["price"])
    facts = facts_of(made, cond)
    assert facts["label"] == {"bag": 20, "boot": 20}
    assert facts["price"] == "39 of 40 items: 10 to 146.5"
    assert "3 to 5 values" in facts["caption"]


def bundle_of(made: Image, priors: dict[str, list[float]]) -> Bundle:
    recipe = Recipe(
        family={"name": "flow_matching", "cond_dim": 16, "num_steps": 2},
        backbone={"name": "unet", "model_dim": 8},
    )
    torch.manual_seed(0)
    family = build_family(recipe, made.spec, made.conditions).eval()
    return Bundle(family, made, recipe, priors=priors)


def test_a_bundle_takes_every_kind(kinds: None, tmp_path: Path) -> None:
    made = codec(everything(40), wanted="all")
    made.condition_codecs["label"] = made.condition_codecs.pop("label")
    built = bundle_of(made, {"label": [0.25, 0.25], "price": [-1.0, 0.0, 1.0]})
    state = json.loads(json.dumps(describe_codec(made)))
    again = rebuild_codec(state, codec_tensors(made))
    assert again.conditions == made.conditions
    assert again.class_names("label") == ["bag", "boot"]
    draw = torch.Generator().manual_seed(0)
    drawn = built.conditions(2000, {}, draw, drawn=True)
    assert float((drawn["label"] == -1).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert drawn["price"].shape == (2000, 1)
    assert float(drawn["price"].mean()) == pytest.approx(0, abs=0.05)
    assert drawn["price"].abs().max() <= 1
    given: dict[str, Any] = {
        "caption": "round red boot",
        "price": "12.5",
        "vector": [0.1, 0.2, 0.3],
        "label": ["bag", "boot", "bag"],
        "sketch": np.zeros((4, 4), np.uint8),
    }
    cond = built.conditions(3, given, draw, drawn=True)
    assert {name: tuple(value.shape) for name, value in cond.items()} == {
        name: (3, *spec.shape) for name, spec in made.conditions.items()
    }
    assert cond["label"].tolist() == [0, 1, 0]
    assert (cond["vector"] == torch.tensor([0.1, 0.2, 0.3])).all()  # one vector, not three numbers
    assert (built.conditions(2, {"price": None}, draw, drawn=False)["price"]).isnan().all()
    with pytest.raises(RecipeError, match="not as many values of 'vector'"):
        built.conditions(3, {"vector": [[0.0] * 3] * 2}, draw, drawn=False)
    drawn_items = built.sample(3, cond=given).x
    assert drawn_items is not None
    assert drawn_items.isfinite().all()
    guided = built.sample(2, cond={"caption": "round red boot"}, guidance=3.0)
    assert len(guided) == 2


# -- the whole way ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of two classes with prices in a table, some without a price, one without a class."""
    from PIL import Image as Pillow

    folder = tmp_path_factory.mktemp("priced")
    rows = ["file,label,price,note"]
    for i in range(80):
        grey = np.random.default_rng(i).integers(0, 256, (4, 4), dtype=np.uint8)
        Pillow.fromarray(grey).save(folder / f"{i}.png")
        label, price = "" if i == 5 else "ab"[i % 2], "" if i % 10 == 3 else 5 + i
        rows.append(f"{i}.png,{label},{price},x")
    (folder / "captions.csv").write_text("\n".join(rows))
    return folder


def test_a_table_of_pictures_with_prices(priced: Path) -> None:
    data = load(priced, conditions="label,price")
    assert set(data.conditions) == {"label", "price"}
    assert len(data.train) + len(data.test) == 80  # those without a price among them
    assert data.train.cond["price"].isnan().any()
    assert "items: " in data.facts()["said"]["price"]
    assert data.options["conditions"] == "label,price"
    found = inspect(priced, conditions="price")
    assert found.error is None
    assert "items: 5 to " in found.text()
    again = load(priced, codec=data.codec)
    both = (each.train.cond["price"].nan_to_num() for each in (again, data))
    assert torch.equal(*both)
    assert list(load(priced).conditions) == ["label"]


def test_an_evaluation_asks_for_what_one_item_has(priced: Path) -> None:
    data = load(priced, conditions="label,price")
    bundle = bundle_of(load(priced, conditions="price,label").codec, data.priors)  # fitted anew
    given, asked = held_out_conditions(bundle, data, 200, torch.Generator().manual_seed(0))
    pairs = [
        {
            (int(label), round(float(price), 4)) for label, price in zip(
                cond["label"], cond["price"].nan_to_num(nan=9), strict=True
            )
        }
        for cond in (given, asked, data.test.cond)
    ]  # fmt: skip
    assert pairs[0] == pairs[1] <= pairs[2]
    assert len(pairs[0]) > 2
    alone = bundle_of(load(priced).codec, {"label": [0.5, 0.5]})
    assert held_out_conditions(alone, load(priced), 5, torch.Generator()) == ({}, {})


def test_families_that_need_a_label_leave_out_who_has_none(priced: Path) -> None:
    data = load(priced)
    everyone = torch.cat([data.train.cond["label"], data.test.cond["label"]])
    assert int((everyone < 0).sum()) == 1
    for name in ("supervised", "rbm"):
        recipe = Recipe(family={"name": name}, backbone={"name": "mlp", "model_dim": 8})
        family = build_family(recipe, data.spec, data.conditions)
        used = data.having(family.required)
        assert len(used.train) + len(used.test) == 79
        batch = data.train.batch((data.train.cond["label"] < 0).nonzero().flatten()[:1])
        if name == "rbm" and len(batch):
            with pytest.raises(RefusedPair, match="have no 'label'"):
                family.one_hot(batch.cond)
    assert data.having([]) is data


def test_a_table_of_two_languages(tmp_path: Path) -> None:
    """One column is the items, another their condition, both in tokens of the same kind."""
    table = tmp_path / "pairs.csv"
    sizes = (("big", "großer"), ("small", "kleiner"))
    words = [
        (f"a {size} dog number {n}", f"ein {other} Hund Nummer {n}")
        for n in range(30)
        for size, other in sizes
    ]
    table.write_text("en,de\n" + "".join(f"{en},{de}\n" for en, de in words))
    asked = {"conditions": "en", "tokenizer": "bpe", "vocab_size": 300}
    data = load(table, "text", column="de", **asked)
    reader = data.codec.condition_codecs["en"]
    assert [data.codec.tokenizer.kind, reader.tokenizer.kind] == ["bpe", "bpe"]
    assert 257 < reader.spec.vocab_size < data.spec.vocab_size <= 300  # each its own
    batch = data.train.batch(torch.arange(len(data.train)))
    pairs = zip(reader.decode_many(batch.cond["en"]), data.codec.decode_many(batch.x), strict=True)
    assert set(pairs) <= set(words)
    kept = rebuild_codec(describe_codec(data.codec), codec_tensors(data.codec))
    assert kept.column == "de"
    with pytest.raises(DataError, match="Did you mean 'de'"):
        load(table, "text", column="dee", **asked)
