"""Every component keeps the promises of its axis; and the kit catches those that do not.

Components are discovered: a new file is held to the kit with no edit here.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from morphogen.backbones.token_transformer import TokenTransformer
from morphogen.core import discover
from morphogen.core.backbone import Backbone, BuildBackbone
from morphogen.core.capability import CanTranscribe, needs
from morphogen.core.codec import Codec, Item, Recognition
from morphogen.core.errors import RefusedPair
from morphogen.core.family import Family
from morphogen.core.random import randn
from morphogen.core.spec import TensorSpec
from morphogen.core.writing import CanWrite
from morphogen.families.autoregressive import Autoregressive
from morphogen.modalities.sound import Sound
from morphogen.modalities.text import Text
from morphogen.testing import (
    check_backbone,
    check_codec,
    check_device,
    check_family,
    check_metric,
    check_sampler,
    check_task,
)
from morphogen.testing.oracles import TwoTones

HERE = Path(__file__).parent
# The order of convergence that a sampler claims, where it is more than the first.
ORDERS = {"heun": 2, "dpm_solver": 2, "adams_bashforth": 2}
VECTOR = TensorSpec.vector(6)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks run faster on one thread, most of all beside other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ToyAverage = load(HERE / "plugins" / "families" / "toy_average.py").ToyAverage


@pytest.mark.parametrize("name", discover.names("family"))
def test_family(name: str) -> None:
    check_family(discover.find("family", name))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", discover.names("family"))
def test_family_on_a_gpu(name: str) -> None:
    check_device(discover.find("family", name), "cuda")


@pytest.mark.parametrize("name", discover.names("backbone"))
def test_backbone(name: str) -> None:
    check_backbone(discover.find("backbone", name))


@pytest.mark.parametrize("name", discover.names("sampler"))
def test_sampler(name: str) -> None:
    check_sampler(discover.find("sampler", name), ORDERS.get(name))


@pytest.mark.parametrize("name", discover.names("task"))
def test_task(name: str) -> None:
    if CanWrite in needs(discover.find("task", name)):
        model, codec = writer()
        check_task(discover.find("task", name), [model], codec=codec)
    elif CanTranscribe in needs(discover.find("task", name)):
        model = TwoTones()
        codec = Sound().for_hearing(model.sample_rate, model.spec.shape[1] / model.sample_rate)
        drawn = model.sample(2, generator=torch.Generator().manual_seed(0))
        values = codec.decode_many(drawn)
        check_task(discover.find("task", name), [model], codec=codec, values=values)
    else:
        check_task(discover.find("task", name))


def writer() -> tuple[Autoregressive, Text]:
    """A model of short texts that belong to others, untrained, and its codec."""
    texts = [Item("one, two"), Item("three"), Item("")]
    codec, told = (Text(form="documents", tokenizer="byte").fit(texts) for _ in range(2))
    codec.condition_codecs["source"] = told
    build = BuildBackbone(TokenTransformer, model_dim=16, num_layers=1, num_heads=2)
    return Autoregressive(codec.spec, {"source": told.spec}, build).eval(), codec


@pytest.mark.parametrize("name", discover.names("metric"))
def test_metric(name: str) -> None:
    check_metric(discover.find("metric", name))


@pytest.mark.parametrize("name", discover.names("modality"))
def test_codec(name: str, tmp_path: Path) -> None:
    """A codec `x` brings `tests/sources/x.py`: its `write(folder)` makes a small clean source, or,
    for one that reads what is said of items, `items()` gives some."""
    made = load(HERE / "sources" / f"{name}.py")
    source = made.write(tmp_path) if hasattr(made, "write") else None
    items = None if source else made.items()
    check_codec(discover.find("modality", name), source, items)


# -- what the kit must catch -------------------------------------------------------------------


def test_toy_family_passes() -> None:
    check_family(ToyAverage)


class Moody(ToyAverage):
    """Draws otherwise where its weights were moved."""

    def sample(self, num, *, generator, **options):
        x = super().sample(num, generator=generator, **options)
        return -x if getattr(self, "was_moved", False) else x

    def to(self, *place):
        self.was_moved = True
        return super().to(*place)


def test_a_family_on_a_device_says_what_it_says_on_the_cpu() -> None:
    assert check_device(ToyAverage, "cpu") > 0
    with pytest.raises(AssertionError, match="sample is not what the CPU says"):
        check_device(Moody, "cpu")


class ScalarLoss(ToyAverage):
    """Averages over the batch itself."""

    def loss(self, batch, phase, generator):
        return super().loss(batch, phase, generator)[0].mean(), {}


class NotFinite(ToyAverage):
    """Divides by zero."""

    def loss(self, batch, phase, generator):
        return super().loss(batch, phase, generator)[0] / 0, {}


class GlobalDraw(ToyAverage):
    """Draws from the global generator."""

    def loss(self, batch, phase, generator):
        loss, parts = super().loss(batch, phase, generator)
        return loss + torch.randn(len(loss)), parts


class MixedItems(ToyAverage):
    """Compares each item with the mean of the batch."""

    def loss(self, batch, phase, generator):
        loss, parts = super().loss(batch, phase, generator)
        return loss + batch.x.float().mean(), parts


class UnshardedDraw(ToyAverage):
    """Draws with torch.randn, which does not know of shards."""

    def loss(self, batch, phase, generator):
        loss, parts = super().loss(batch, phase, generator)
        return loss + torch.randn(len(loss), generator=generator), parts


class UnusedParameter(ToyAverage):
    """Has a parameter that nothing uses."""

    def __init__(self, spec, conditions, backbone):
        super().__init__(spec, conditions, backbone)
        self.idle = nn.Parameter(torch.zeros(3))


class ForgetfulState(ToyAverage):
    """Keeps what it learned in a plain attribute."""

    total = 0.0

    def step(self, batch, updates, generator):
        self.total += 0.1
        return super().step(batch, updates, generator)

    def log_prob(self, x, *, cond=None, generator):
        return super().log_prob(x, generator=generator) - self.total


class SeedlessSample(ToyAverage):
    """Samples from the global generator."""

    def sample(self, num, *, cond=None, generator):
        return torch.rand(num, *self.spec.shape)


class ConstantSample(ToyAverage):
    """Gives the same items whatever the seed."""

    def sample(self, num, *, cond=None, generator):
        return torch.zeros(num, *self.spec.shape)


class WrongShape(ToyAverage):
    """Samples items with one value too many."""

    def sample(self, num, *, cond=None, generator):
        return randn((num, self.spec.num_values + 1), generator)


class HalfClaim(ToyAverage):
    """Encodes, but does not say to what."""

    def encode(self, x):
        return x.flatten(1)


class RandomEncode(ToyAverage):
    """Encodes with noise."""

    def __init__(self, spec, conditions, backbone):
        super().__init__(spec, conditions, backbone)
        self.latent_spec = TensorSpec.vector(spec.num_values)

    def encode(self, x):
        return x.flatten(1) + torch.randn(x.flatten(1).shape)


class LeakyFill(ToyAverage):
    """Redraws what is known."""

    def fill(self, x, known, *, cond=None, generator):
        return randn(x.shape, generator)


class WrongWord(ToyAverage):
    """Says something unknown of its likelihood."""

    log_prob_is = "roughly right"


class Unnormalised(ToyAverage):
    """Claims an exact likelihood that sums to e."""

    def log_prob(self, x, *, cond=None, generator):
        return super().log_prob(x, generator=generator) + 1


class StringRefusal(ToyAverage):
    """Refuses with a string."""

    @classmethod
    def refuses(cls, spec: TensorSpec, conditions: Mapping[str, TensorSpec]) -> RefusedPair | None:
        return "no"  # type: ignore[return-value]


class NoComment(ToyAverage):
    """Has an option without a comment."""

    def __init__(self, spec, conditions, backbone, *, width: int = 3):
        super().__init__(spec, conditions, backbone)


class WrongDefault(ToyAverage):
    """Has a default that is not of its type."""

    def __init__(
        self,
        spec,
        conditions,
        backbone,
        *,
        width: int = "wide",  # type: ignore[assignment]
    ):
        super().__init__(spec, conditions, backbone)


class NoSummary(ToyAverage):
    pass


BROKEN_FAMILIES = {
    ScalarLoss: r"is \(\), not \(6,\)",
    NotFinite: "is not finite",
    GlobalDraw: "global generator",
    MixedItems: "other items",
    UnshardedDraw: "two shards",
    UnusedParameter: "no gradient reaches idle",
    ForgetfulState: "differs after the weights went to disk",
    SeedlessSample: "global generator",
    ConstantSample: "for two seeds",
    WrongShape: r"sample has shape \(6, 7\)",
    HalfClaim: "encode but not latent_spec",
    RandomEncode: "global generator",
    LeakyFill: "values that are known",
    WrongWord: "roughly right",
    StringRefusal: "returns a str",
    NoComment: "no trailing comment",
    WrongDefault: "is no int",
    NoSummary: "no docstring",
}


@pytest.mark.parametrize("family", BROKEN_FAMILIES, ids=lambda family: family.__name__)
def test_broken_family_is_caught(family: type[Family]) -> None:
    with pytest.raises(AssertionError, match=BROKEN_FAMILIES[family]):
        check_family(family, VECTOR)


def test_unnormalised_likelihood_is_caught() -> None:
    with pytest.raises(AssertionError, match=r"sum to 2\.7"):
        check_family(Unnormalised)


class Toy(Backbone):
    """One affine map over everything."""

    def __init__(
        self,
        in_spec: TensorSpec,
        out_spec: TensorSpec,
        cond_dim: int = 0,
        causal: bool = False,
    ) -> None:
        super().__init__(in_spec, out_spec, cond_dim, causal)
        self.map = nn.Linear(in_spec.num_values + cond_dim, out_spec.num_values)

    @classmethod
    def refuses(cls, in_spec, out_spec, causal=False):
        return "tokens or causal" if in_spec.kind == "token" or causal else None

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        flat = x.flatten(1).float() if cond is None else torch.cat([x.flatten(1), cond], dim=1)
        return self.map(flat).view(len(x), *self.out_spec.shape)


class ClaimsCausal(Toy):
    """Says that it is causal."""

    @classmethod
    def refuses(cls, in_spec, out_spec, causal=False):
        same = (
            in_spec.kind == "real" and in_spec.space == out_spec.space and len(in_spec.space) == 1
        )
        return None if same else "only sequences"


class NormalisesBatch(Toy):
    """Has batch statistics."""

    def forward(self, x, cond=None):
        out = super().forward(x, cond)
        return out - out.mean(0)


class IgnoresCond(Toy):
    """Does not look at the condition."""

    def forward(self, x, cond=None):
        return super().forward(x, None if cond is None else torch.zeros_like(cond))


class Drops(Toy):
    """Drops out by the global generator."""

    def forward(self, x, cond=None):
        return torch.dropout(super().forward(x, cond), 0.5, self.training)


class AcceptsAnything(Toy):
    """Refuses nothing, and fails on tokens."""

    @classmethod
    def refuses(cls, in_spec, out_spec, causal=False):
        return None

    def __init__(self, in_spec, out_spec, cond_dim=0, causal=False):
        if in_spec.kind == "token":
            raise TypeError("no tokens")
        super().__init__(in_spec, out_spec, cond_dim, causal)


def test_toy_backbone_passes() -> None:
    check_backbone(Toy)


@pytest.mark.parametrize(
    ("backbone", "sentence"),
    [
        (ClaimsCausal, "depends on inputs after it"),
        (NormalisesBatch, "rest of the batch"),
        (IgnoresCond, "no gradient|cond changes nothing"),
        (Drops, "global generator"),
        (AcceptsAnything, "depends on inputs after it|no tokens"),
    ],
)
def test_broken_backbone_is_caught(backbone: type[Backbone], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_backbone(backbone)


class Numbers(Codec):
    """Pairs of numbers in a text, one pair an item."""

    suffix = ".txt"

    @classmethod
    def recognises(cls, source):
        return Recognition(0.5, "a text") if Path(source).suffix == ".txt" else None

    def read(self, source, report):
        for row, line in enumerate(Path(source).read_text().splitlines()):
            report.num_read += 1
            yield Item([float(part) for part in line.split()], f"{source}#{row}")

    def fit(self, items):
        self.spec = TensorSpec("real", (2,), levels=256, layout="vector")
        return self

    def encode(self, item):
        return self.spec.dequantise(self.spec.quantise(torch.tensor(item.value)))

    def decode(self, x):
        return x.tolist()

    def write(self, values, path, columns=None):
        path.write_text("\n".join(" ".join(map(str, value)) for value in values))
        return path

    def state(self):
        return {}

    @classmethod
    def from_state(cls, state, tensors):
        return cls().fit([])


class NoisyDecode(Numbers):
    """Decodes with noise."""

    def decode(self, x):
        return (x + 0.1 * torch.randn(x.shape)).tolist()


class LossyDecode(Numbers):
    """Loses a quarter of the range."""

    def decode(self, x):
        return (x * 0.75).tolist()


class TensorState(Numbers):
    """Its state is no JSON."""

    def state(self):
        return {"mean": torch.zeros(2)}


class OutOfRange(Numbers):
    """Encodes beyond [-1, 1]."""

    def encode(self, item):
        return super().encode(item) * 3


class WrongFamily(Numbers):
    """Names a family that learns tokens only."""

    family = "masked"


class WritesNothing(Numbers):
    """Writes no file."""

    def write(self, values, path, columns=None):
        return path


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    file = tmp_path / "numbers.txt"
    file.write_text("0.1 0.5\n-0.9 0.3\n1.0 -1.0\n")
    return file


def test_toy_codec_passes(numbers: Path) -> None:
    check_codec(Numbers, numbers)


@pytest.mark.parametrize(
    ("codec", "sentence"),
    [
        (NoisyDecode, "global generator"),
        (LossyDecode, "levels away"),
        (TensorState, "as JSON"),
        (OutOfRange, r"leaves \[-1, 1\]"),
        (WrongFamily, "'masked' does not take its items"),
        (WritesNothing, "there is nothing"),
    ],
)
def test_broken_codec_is_caught(codec: type[Codec], sentence: str, numbers: Path) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_codec(codec, numbers)


BROKEN_TASKS = load(HERE / "broken_tasks.py")


def test_toy_task_passes() -> None:
    check_task(load(HERE / "plugins" / "tasks" / "toy_spread.py").toy_spread)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no_annotation", "annotate"),
        ("no_generator", "'generator'"),
        ("no_route", "which route"),
        ("global_draw", "global generator"),
        ("changes_input", "changes its input"),
        ("no_comment", "no trailing comment"),
        ("no_result", "not a Result"),
        ("always_refuses", "refuses all"),
    ],
)
def test_broken_task_is_caught(name: str, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_task(getattr(BROKEN_TASKS, name))


def half_step(denoise, x, times, path, generator):
    """Stops half way: draws nothing that the model knows."""
    return denoise(x, times[0].expand(len(x))) * 0.5


def first_order(denoise, x, times, path, generator):
    """Euler, which is of first order."""
    return discover.find("sampler", "euler")(denoise, x, times, path, generator)


def swapped(x, denoise, times, path, generator):
    """Takes its arguments in another order."""
    return x


def too_noisy(denoise, x, times, path, generator):
    """Adds noise at the end."""
    x = discover.find("sampler", "euler")(denoise, x, times, path, generator)
    return x + 0.5 * randn(x.shape, generator).to(x)


@pytest.mark.parametrize(
    ("sampler", "order", "sentence"),
    [
        (half_step, None, "misses the solution"),
        (first_order, 2, "converges at order 1"),
        (swapped, None, "takes"),
        (too_noisy, None, "covariance"),
    ],
)
def test_broken_sampler_is_caught(sampler, order, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_sampler(sampler, order)


BROKEN_METRICS = load(HERE / "broken_metrics.py")


def test_toy_metric_passes() -> None:
    check_metric(BROKEN_METRICS.distance_of_means)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no_scores", "declares no scores"),
        ("no_direction", "True, False or None"),
        ("no_generator", "'generator'"),
        ("unannotated", "does not say what it needs"),
        ("no_comment", "no trailing comment"),
        ("no_mapping", "not a mapping"),
        ("one_more", "but declares"),
        ("tensors", "is a Tensor"),
        ("not_finite", "is not finite"),
        ("changes_input", "changes its input"),
        ("global_draw", "global generator"),
        ("never_the_same", "two results for one generator seed"),
        ("first_items", "order of the items"),
        ("wrong_way", "says that higher is better"),
        ("blind", "for equal distributions"),
        ("best_when_moved", "for equal distributions"),
        ("best_when_far", "moved by three"),
        ("skips_nan", "does not refuse generated with NaN"),
        ("other_error", "with a ValueError"),
    ],
)
def test_broken_metric_is_caught(name: str, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_metric(getattr(BROKEN_METRICS, name))
