"""Groups: what is planted is found with its interval, and what is fair is not flagged."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from morphogen.cli.app import main
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.core.errors import RecipeError
from morphogen.core.metric import Features
from morphogen.core.random import categorical, generator, randn
from morphogen.core.recipe import Recipe
from morphogen.data.dataset import Data
from morphogen.evaluation._judge import Samples
from morphogen.evaluation._shares import (
    Array,
    Groups,
    Shares,
    _dirichlet,
    compare_shares,
    confusion,
    corrected,
    interval,
    skill,
)
from morphogen.evaluation.card import card
from morphogen.evaluation.evaluate import evaluate
from morphogen.evaluation.features import feature_extractor
from morphogen.evaluation.gate import failures, read_gate
from morphogen.evaluation.groups import ItemScores, labels_of, measure_groups
from morphogen.evaluation.intervals import mean_interval
from morphogen.modalities.category import Category
from morphogen.training.run import train

# -- the correction, where the answer is known ---------------------------------------------------

# A judge that takes every sixth shirt (2) for a coat (3), and now and then the other way round.
CONFUSED = np.array(
    [[0.97, 0.01, 0.01, 0.01], [0.02, 0.96, 0.01, 0.01], [0.03, 0.03, 0.78, 0.16], [0, 0, 0.1, 0.9]]
)
EVEN = np.full(4, 0.25)
HALVED = np.array([2, 2, 2, 1]) / 7  # class 3 half as often


def drawn(shares: Array, num: int, random: np.random.Generator) -> Groups:
    return random.choice(len(shares), num, p=shares)


def judged(groups: Groups, behaviour: Array, random: np.random.Generator) -> Groups:
    edges = behaviour.cumsum(1)[groups]
    return (random.random(len(groups))[:, None] > edges).sum(1).clip(max=len(behaviour) - 1)


def experiment(shares: Array, seed: int, nums: tuple[int, int, int] = (2000, 1000, 4000)) -> Shares:
    random = np.random.default_rng(seed)
    generated, held_out, trained_on = (
        drawn(p, num, random) for p, num in zip((shares, EVEN, EVEN), nums, strict=True)
    )
    return compare_shares(
        judged(generated, CONFUSED, random), held_out, judged(held_out, CONFUSED, random),
        trained_on, num=4, seed=seed,
    )  # fmt: skip


def test_the_correction_undoes_a_known_confusion() -> None:
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    assert corrected(CONFUSED.T @ shares, CONFUSED) == pytest.approx(shares, abs=1e-12)
    many = corrected(np.stack([CONFUSED.T @ shares] * 2), np.stack([CONFUSED] * 2))
    assert many == pytest.approx(np.stack([shares] * 2))
    # Two groups: (seen - false positives) / (true positives - false positives).
    right, wrong, seen = 0.9, 0.2, 0.62
    behaviour = np.array([[right, 1 - right], [wrong, 1 - wrong]])
    expected = (seen - wrong) / (right - wrong)
    assert corrected(np.array([seen, 1 - seen]), behaviour)[0] == pytest.approx(expected)
    # What no shares explain: the nearest that are shares.
    assert corrected(np.array([0.1, 0.9]), behaviour).tolist() == [0, 1]


def test_it_agrees_with_expectation_maximisation_over_calibrated_probabilities() -> None:
    """Saerens et al. 2002: pi_i <- mean_n of pi_i p(i | x_n) / p_i, normalised over i; for two unit
    Gaussians one apart and a half, whose p(i | x) is known."""
    random = np.random.default_rng(0)
    gap, share, num = 1.5, 0.3, 20_000

    def items(p: float) -> tuple[Array, Groups]:
        group = drawn(np.array([p, 1 - p]), num, random)
        return random.standard_normal(num) + gap * group, group

    x, _ = items(share)
    second = 1 / (1 + np.exp(-gap * (x - gap / 2)))
    posterior, found = np.stack([1 - second, second], 1), np.array([0.5, 0.5])
    for _ in range(500):
        weighted = posterior * found
        found = (weighted / weighted.sum(1, keepdims=True)).mean(0)
    held_out, actual = items(0.5)
    counts = confusion(actual, (held_out > gap / 2).astype(np.int64), 2)
    seen = np.bincount((x > gap / 2).astype(np.int64)) / num
    ours = corrected(seen, counts / counts.sum(1, keepdims=True))
    assert found[0] == pytest.approx(share, abs=0.02)
    assert ours[0] == pytest.approx(found[0], abs=0.02)
    assert seen[0] > share + 0.05  # what the judge sees is far off


def test_a_group_that_is_drawn_half_as_often_is_found_and_its_interval_holds_the_truth() -> None:
    for seed in range(5):
        found = experiment(HALVED, seed)
        low, high = interval(found.ratio_draws, 1 - 0.05 / 4)
        assert high[3] < 1
        assert low[3] < 4 / 7 < high[3]
        assert found.p_value < 1e-6
        assert found.distance == pytest.approx(0.25 - 1 / 7, abs=0.05)
        assert found.distance - 2 * found.distance_error > found.floor
        # Uncorrected, coats that are taken for shirts would hide it in part.
        assert abs(found.value[3] - 1 / 7) < 0.03


def test_honest_draws_are_flagged_no_more_often_than_the_intervals_say() -> None:
    flagged, surprising, covered, num = 0, 0, 0.0, 40
    for seed in range(num):
        found = experiment(EVEN, seed, (400, 200, 1000))
        low, high = interval(found.ratio_draws, 1 - 0.05 / 4)
        flagged += bool(((low > 1) | (high < 1)).any())
        surprising += found.p_value < 0.05
        low, high = interval(found.draws, 0.95)
        covered += float(((low <= EVEN) & (high >= EVEN)).mean()) / num
    assert flagged <= 5  # 2 are expected; 6 or more have a probability of 1.4 %
    assert surprising <= 5
    assert covered > 0.9


def test_what_is_known_of_few_items_is_wide() -> None:
    wide, narrow = (
        np.ptp(np.array(interval(experiment(EVEN, 0, nums).ratio_draws, 0.95))[:, 2])
        for nums in ((400, 40, 4000), (400, 4000, 4000))
    )
    assert wide > 1.5 * narrow
    one = np.array([1.0, 1, 1, 1, 0, 1])
    low, high, method = mean_interval(one)
    assert low < 0.5
    assert 0.9 < high < 1
    assert method == "Clopper-Pearson"
    values = np.array([1.0, 2.0, 4.0])
    low, high, method = mean_interval(values)
    assert high - low == pytest.approx(2 * 4.302653 * values.std(ddof=1) / 3**0.5)
    assert method == "Student's t"
    assert mean_interval(values[2:])[:2] == (-np.inf, np.inf)
    wider = mean_interval(values, shared_error=3.0)
    half = (high - low) / 2
    assert wider[1] - wider[0] == pytest.approx(2 * np.hypot(half, 3 * 1.959964))
    draws = _dirichlet(np.array([2.0, 6.0]), np.random.default_rng(0))
    assert draws.mean(0) == pytest.approx([0.25, 0.75], abs=0.01)
    assert skill(np.array([[5.0, 5], [5, 5]])) == 0
    assert skill(np.array([[5.0, 0, 0], [0, 2, 0], [0, 0, 0]])) == pytest.approx(1)


# -- an evaluation of pictures -------------------------------------------------------------------


def pictures(labels: Tensor, draw: torch.Generator) -> Tensor:
    """8 x 8 pictures: class k is bright in quarter k."""
    x = torch.full((len(labels), 8, 8), 60.0)
    for k in range(4):
        rows, columns = slice(4 * (k // 2), 4 * (k // 2) + 4), slice(4 * (k % 2), 4 * (k % 2) + 4)
        x[labels == k, rows, columns] = 180
    return (x + 20 * randn(x.shape, draw)).clamp(0, 255).to(torch.uint8)


def labels_with(shares: Array, num: int, draw: torch.Generator) -> Tensor:
    return categorical(torch.tensor(shares).log().expand(num, 4), draw)


@pytest.fixture(scope="module")
def data() -> Data:
    draw = generator(0)
    labels, held = labels_with(EVEN, 800, draw), labels_with(EVEN, 400, draw)
    x, test = pictures(labels, draw), pictures(held, draw)
    return Data.from_tensors(x, labels, test=test, test_labels=held)


Measured = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def measured(data: Data) -> Measured:
    """What an evaluation says of the groups of samples that look like `x` (N, 8, 8)."""
    extractor = feature_extractor(data)
    index = [torch.arange(len(split)) for split in (data.train, data.test)]
    real = [extractor.features_of(data.train, index[0]), extractor.features_of(data.test, index[1])]

    def measure(
        x: Tensor,
        asked: Tensor | None = None,
        *,
        data: Data = data,
        labels: Sequence[str] = ("label",),
    ) -> dict[str, Any]:
        drawn = extractor.features(data.spec.dequantise(x.unsqueeze(1)))
        sets = Features(drawn, real[1], real[0])
        given = {} if asked is None else {"label": asked}
        return measure_groups(data, labels, [], Samples(sets, *index, extractor, given))

    return measure


def test_planted_under_representation_is_said(measured: Measured) -> None:
    draw = generator(1)
    x = pictures(labels_with(HALVED, 800, draw), draw)
    told = measured(x)["label"]
    ratio = told["measured"]["share_ratio"]["3"]
    assert ratio["low"] < 4 / 7 < ratio["high"] < 1
    assert told["findings"][0].startswith("label: under-represented among samples: 3: 0.")
    assert told["test"]["p_value"] < 1e-3
    assert told["judge"]["accuracy"] > 0.95
    assert "drawn_as_asked" not in told["measured"]
    assert told["measured"]["share_in_training"]["3"]["n"] == 800
    json.dumps(told, allow_nan=False)


def test_honest_samples_are_not_flagged(measured: Measured) -> None:
    alarms = []
    for seed in range(6):
        draw = generator(100 + seed)
        labels = labels_with(EVEN, 400, draw)
        told = measured(pictures(labels, draw), labels)["label"]
        assert set(told["gaps"]) == {"frechet_ratio"}
        alarms += told["findings"]
    assert len(alarms) <= 2, alarms


def test_items_that_are_not_what_was_asked_for_and_poor_samples_of_one_group_are_said(
    measured: Measured,
) -> None:
    draw = generator(2)
    labels = labels_with(EVEN, 800, draw)
    shown = torch.where((labels == 1) & (torch.arange(800) % 2 == 0), 0, labels)
    told = measured(pictures(shown, draw), labels)["label"]
    cell = told["measured"]["drawn_as_asked"]["1"]
    assert cell["value"] == pytest.approx(0.5, abs=0.1)
    assert cell["floor"] > 0.9
    (said,) = (line for line in told["findings"] if "asked for" in line)
    assert "1: 5" in said or "1: 4" in said
    assert "0:" not in said

    x = pictures(labels, draw)
    x[labels == 2] = (x[labels == 2] * 0.6 + 30).to(torch.uint8)  # faint
    told = measured(x, labels)["label"]
    gap = told["gaps"]["frechet_ratio"]
    assert gap["worst"] == "2"
    assert gap["separate"]
    assert gap["low"] > 1
    assert any("frechet ratio is worst for 2" in line for line in told["findings"])


def test_a_label_that_the_classifier_does_not_know_is_judged_by_regression_on_its_features(
    data: Data, measured: Measured
) -> None:
    """`side`, left or right, is a second label of the same items; `coin` has nothing to do with
    them."""
    both = replace(data)
    both.train, both.test = copy.copy(data.train), copy.copy(data.test)
    for split in (both.train, both.test):
        coin = (categorical(torch.zeros(len(split), 2), generator(len(split)))).long()
        own = split.cond["label"]
        split.cond = {"label": own, "side": own % 2, "coin": coin, "many": own}
    before, two, many = dict(data.codec.condition_codecs), Category(), Category()
    two.fit([Item(0), Item(1)])
    many.fit(map(Item, range(99)))
    data.codec.condition_codecs.update(side=two, coin=two, many=many)
    try:
        assert labels_of(both) == ["label", "side", "coin", "many"]
        with pytest.raises(RecipeError, match="cannot be compared"):
            labels_of(both, ["many"])
        draw = generator(3)
        shares = np.array([0.35, 0.15, 0.35, 0.15])  # 0.6 of the right half's share
        x = pictures(labels_with(shares, 800, draw), draw)
        told = measured(x, data=both, labels=("side", "coin", "many"))
    finally:
        data.codec.condition_codecs.clear()
        data.codec.condition_codecs.update(before)
    side, coin = told["side"], told["coin"]
    assert "logistic regression" in side["judge"]["name"]
    assert side["measured"]["share_ratio"]["1"]["high"] < 1
    assert side["measured"]["share_ratio"]["1"]["value"] == pytest.approx(0.6, abs=0.1)
    assert "share_ratio" not in coin["measured"]
    assert "cannot be told apart" in coin["notes"][0]
    assert "99 groups are more than 50" in told["many"]["notes"][0]


# -- errors --------------------------------------------------------------------------------------


def test_errors_by_group_find_the_one_that_is_served_worse(data: Data) -> None:
    own, draw = data.test.cond["label"], generator(0)
    index = torch.arange(len(own))
    error = 1 + 0.2 * randn((len(own),), draw) + 0.3 * (own == 2)
    worse = ItemScores("reconstruction_error", error, index, False, "")
    told = measure_groups(data, ["label"], [worse])["label"]
    gap, cells = told["gaps"]["reconstruction_error"], told["measured"]["reconstruction_error"]
    assert gap["worst"] == "2"
    assert gap["separate"]
    assert gap["low"] < 0.3 < gap["high"]
    assert cells["2"]["value"] == pytest.approx(float(error[own == 2].mean()))
    assert told["findings"][0].startswith("label: reconstruction error is worst for 2: 1.3")

    hits = (categorical(torch.tensor([[0.1, 0.9]]).log().expand(len(own), 2), draw) == 1).float()
    hits[own == 0] *= (index[own == 0] % 2).float()
    accuracy = ItemScores("accuracy", hits, index, True, "of label")
    gap = measure_groups(data, ["label"], [accuracy])["label"]["gaps"]["accuracy"]
    assert gap["worst"] == "0"
    assert gap["separate"]


def test_equal_errors_are_not_flagged_and_small_groups_are_wide_or_left_out(data: Data) -> None:
    own = data.test.cond["label"]
    index, flagged = torch.arange(len(own)), 0
    for seed in range(100):
        fair = ItemScores("bits_per_dim", randn((len(own),), generator(seed)), index, False, "")
        flagged += measure_groups(data, ["label"], [fair])["label"]["gaps"]["bits_per_dim"][
            "separate"
        ]
    assert flagged <= 5
    few = torch.cat([index[own != 3], index[own == 3][:3]])
    some = ItemScores("bits_per_dim", randn((len(few),), generator(0)), few, False, "")
    told = measure_groups(data, ["label"], [some])["label"]
    assert "3" not in told["measured"]["bits_per_dim"]
    assert "fewer than 5 held-out items of 3 (3)" in told["notes"][0]
    endless = ItemScores("bits_per_dim", torch.full((len(own),), torch.inf), index, False, "")
    told = measure_groups(data, ["label"], [endless])["label"]
    assert "bits_per_dim" not in told["measured"]
    assert "not finite" in told["notes"][0]


# -- in an evaluation, on its page, in the gate and the card -------------------------------------


class Unfair(nn.Module):
    """Draws class 3 half as often, whatever is asked for, and finds class 1 less likely."""

    log_prob_is, device = "exact", torch.device("cpu")

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.spec, self.conditions = data.spec, data.conditions

    def sample(self, num: int, *, cond: Any = None, generator: torch.Generator) -> Tensor:
        labels = labels_with(HALVED, num, generator)
        return self.spec.dequantise(pictures(labels, generator).unsqueeze(1))

    def log_prob(self, x: Tensor, *, cond: Mapping[str, Tensor], generator: Any) -> Tensor:
        bits = 2 + (cond["label"] == 1) + 0.1 * torch.randn(len(x), generator=generator)
        return -64 * 0.6931471805599453 * bits


@pytest.fixture(scope="module")
def folder(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle's folder after an evaluation of an unfair model."""
    small = Data.from_tensors(data.train.x[:16, 0], data.train.cond["label"][:16])
    out = tmp_path_factory.mktemp("models") / "unfair"
    train(small, "rbm", budget="2steps", out=out, settings=["train.num_previews=0"])
    model: Any = Unfair(data)
    evaluate(Bundle(model, data.codec, Recipe(), priors=data.priors, path=out), data)
    return out


def test_the_record_the_page_and_the_card_say_it(folder: Path) -> None:
    record = json.loads((folder / "metrics.json").read_text())["evaluation"]
    told = record["groups"]["label"]
    assert set(told["measured"]) == {
        "share_in_training", "share_in_held_out", "share_in_samples", "share_ratio",
        "drawn_as_asked", "bits_per_dim", "frechet_ratio",
    }  # fmt: skip
    assert told["measured"]["share_ratio"]["3"]["high"] < 1
    gap = told["gaps"]["bits_per_dim"]
    assert (gap["worst"], gap["separate"]) == ("1", True)
    assert gap["value"] == pytest.approx(1, abs=0.1)
    page, text = (folder / "evaluation.html").read_text(), card(folder)
    for said in (page, text):
        assert "Groups: label" in said
        assert "under-represented among samples: 3" in said
        assert "bits per dim is worst for 1" in said
        assert "samples / training" in said
    assert (
        'alt="Bars with intervals, a red line where real data is" src="data:image/png;base64,'
        in page
    )
    assert card(folder) == text


@pytest.mark.parametrize(
    ("demand", "said"),
    [
        ("[groups.label]\nleast_ratio = 0.1\nlargest_gap.bits_per_dim = 2", []),
        ("[groups.label]\nleast_ratio = 0.7", ["label: 3 has 0."]),
        (
            "[groups.label]\nlargest_gap.bits_per_dim = 0.5",
            ["label: bits_per_dim: ", "to 1, and the gate wants"],
        ),
        # The gap is below, but not all of its interval.
        ("[groups.label]\nlargest_gap.bits_per_dim = 1.03", ["and the gate wants at most 1.03"]),
    ],
)
def test_a_gate_may_demand_fairness(
    folder: Path, tmp_path: Path, demand: str, said: list[str]
) -> None:
    record = json.loads((folder / "metrics.json").read_text())["evaluation"]
    (tmp_path / "gate.toml").write_text(demand)
    found = failures(record, read_gate(tmp_path / "gate.toml"))
    assert len(found) == min(len(said), 1)
    for part in said:
        assert part in found[0]


def test_a_gate_on_groups_that_cannot_be_read_or_met_is_told(folder: Path, tmp_path: Path) -> None:
    record = json.loads((folder / "metrics.json").read_text())["evaluation"]
    file = tmp_path / "gate.toml"
    for wrong in ("[groups]\nlabel = 3", "[groups.label]\nleast = 1", "groups = 1"):
        file.write_text(wrong)
        with pytest.raises(RecipeError, match="cannot be read"):
            read_gate(file)
    file.write_text("[groups.label]\nlargest_gap = 0.1")
    with pytest.raises(RecipeError, match=r"largest_gap\.accuracy"):
        read_gate(file)
    for asked, meant in (
        ("[groups.lable]\nleast_ratio = 1", "Did you mean 'label'"),
        ("[groups.label]\nlargest_gap.bits_per_dm = 1", "Did you mean 'bits_per_dim'"),
    ):
        file.write_text(asked)
        with pytest.raises(RecipeError, match=meant):
            failures(record, read_gate(file))
    file.write_text("[groups.label]\nleast_ratio = 0.5")
    del record["groups"]["label"]["measured"]["share_ratio"]
    assert "not measured" in failures(record, read_gate(file))[0]


def test_data_without_labels_has_no_groups(data: Data) -> None:
    bare = Data.from_tensors(data.train.x[:100, 0], test=data.test.x[:60, 0])

    class Halves(nn.Module):
        spec, conditions, latent_spec = bare.spec, bare.conditions, bare.spec
        device = torch.device("cpu")

        def encode(self, x: Tensor) -> Tensor:
            return x * 0.5

        def decode(self, z: Tensor) -> Tensor:
            return z

    model: Any = Halves()
    bundle = Bundle(model, bare.codec, Recipe())
    record = evaluate(bundle, bare)
    assert "groups" not in record
    assert "reconstruction_error" in record["scores"]
    with pytest.raises(RecipeError, match="no label 'label'"):
        evaluate(bundle, bare, groups=["label"])
    with pytest.raises(RecipeError, match="Did you mean 'label'"):
        evaluate(bundle, data, groups=["lable"])
    assert "groups" not in evaluate(Bundle(model, data.codec, Recipe()), data, groups=[])


def test_the_command_line_measures_declared_groups(
    data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sixty pictures: too few samples to judge shares by, which is said, not guessed."""
    photos, out = tmp_path / "photos", str(tmp_path / "model")
    for k in range(4):
        (photos / "abcd"[k]).mkdir(parents=True)
        for i, picture in enumerate(data.train.x[data.train.cond["label"] == k][:15, 0]):
            Image.fromarray(picture.numpy()).save(photos / "abcd"[k] / f"{i}.png")
    train(str(photos), "rbm", budget="3steps", out=out, settings=["train.num_previews=0"])
    with pytest.raises(SystemExit) as left:
        main(["evaluate", out, "--num", "30", "--group", "label", "--json"])
    assert left.value.code == 0
    told = json.loads(capsys.readouterr().out)["groups"]["label"]
    assert list(told["measured"]["share_in_training"]) == list("abcd")
    assert "too few samples for so many groups (30 for 4 groups)" in told["notes"][-1]
    with pytest.raises(SystemExit) as left:
        main(["evaluate", out, "--group", "lable"])
    assert left.value.code == 1
    assert "Did you mean 'label'" in capsys.readouterr().err
