"""A trained model adapted to new data: adapters, and runs that begin with a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import morphogen as mg
from morphogen.core.adapter import merged
from morphogen.core.batch import Batch
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.core.errors import BundleError, RecipeError
from morphogen.core.family import Family, own_state
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.spec import TensorSpec
from morphogen.core.storage import read_tensors
from morphogen.modalities.text import Text
from morphogen.training import beside
from morphogen.training.run import prepare, sessions
from morphogen.wrappers.lora import Adapters, LoRA, LowRank, adapted_layers
from morphogen.wrappers.partial import Partial

TOKENS = TensorSpec.tokens(16, 7, boundary=6)
PICTURE = TensorSpec("real", (1, 8, 8), levels=256, layout="grid")
MODELS = {
    "token_transformer": ("autoregressive", {"model_dim": 16, "num_layers": 1}, TOKENS),
    "transformer": ("autoregressive", {"model_dim": 16, "num_layers": 1}, TOKENS),
    "rnn": ("autoregressive", {"model_dim": 16, "num_layers": 1}, TOKENS),
    "unet": ("flow_matching", {"model_dim": 16}, PICTURE),
    "conv": ("autoencoder", {"model_dim": 16}, PICTURE),
    "mlp": ("flow_matching", {"model_dim": 16}, PICTURE),
}
SMALL = [
    "backbone.name=token_transformer", "backbone.model_dim=16", "backbone.num_layers=2",
    "backbone.ngram_slots=16", "modality.length=32", "modality.tokenizer=byte",
    "train.num_previews=0", "train.batch_size=8",
]  # fmt: skip
QUIET = ["train.num_previews=0", "wrapper.rank=2"]


def family_of(backbone: str) -> tuple[Family, Batch]:
    name, options, spec = MODELS[backbone]
    recipe = Recipe(family={"name": name}, backbone={"name": backbone, **options})
    torch.manual_seed(0)
    family = build_family(recipe, spec, {})
    for parameter in family.parameters():  # what starts at zero hides what is behind it
        parameter.data += 0.05 * torch.randn_like(parameter)
    draw = torch.Generator().manual_seed(1)
    if spec.kind == "token":
        x = torch.randint(7, (4, 16), generator=draw)
    else:
        x = torch.rand((4, *spec.shape), generator=draw) * 2 - 1
    return family.eval(), Batch(x)


def loss(family: Family, batch: Batch) -> Tensor:
    return family.loss(batch, family.phases[0], torch.Generator().manual_seed(2))[0]


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("backbone", MODELS)
def test_adapters_reach_every_layer_and_merge(backbone: str, dora: bool) -> None:
    family, batch = family_of(backbone)
    base, before = loss(family, batch), {k: v.clone() for k, v in family.state_dict().items()}
    LoRA(rank=2, dora=dora).put_on(family)
    torch.testing.assert_close(loss(family, batch), base, atol=1e-5, rtol=1e-5)  # nothing yet
    for _, own in adapted_layers(family):
        nn.init.normal_(own.up, std=0.05)
    adapted = loss(family, batch)
    assert not torch.allclose(adapted, base, atol=1e-3)
    adapted.sum().backward()
    for name, parameter in family.named_parameters():
        assert (parameter.grad is not None) == (".lora." in name), name
    adapters = [own for _, own in adapted_layers(family)]
    assert adapters
    assert all(bool((own.down.grad != 0).any()) for own in adapters)
    with merged(family), torch.no_grad():
        torch.testing.assert_close(loss(family, batch), adapted, atol=1e-5, rtol=1e-5)
        assert any(not torch.equal(before[k], v) for k, v in family.state_dict().items()
                   if k in before)  # fmt: skip
    assert all(torch.equal(before[k], family.state_dict()[k]) for k in before)  # to the bit
    assert all(".lora." in name or name in dict(family.named_buffers())
               for name in own_state(family))  # fmt: skip


def test_a_layer_is_what_the_paper_says() -> None:
    layer = nn.Sequential(nn.Linear(5, 3))
    x = torch.randn(4, 5)
    LoRA(rank=2, alpha=6).put_on(layer)
    [(linear, own)] = adapted_layers(layer)
    nn.init.normal_(own.up)
    whole = linear.weight + 6 / 2 * own.up @ own.down
    torch.testing.assert_close(layer(x), x @ whole.T + linear.bias)
    other = nn.Sequential(nn.Linear(5, 3))
    LoRA(rank=2, alpha=6, dora=True).put_on(other)
    [(linear, own)] = adapted_layers(other)
    nn.init.normal_(own.up)
    nn.init.normal_(own.magnitude)
    whole = linear.weight + 6 / 2 * own.up @ own.down
    direction = whole / whole.norm(dim=1, keepdim=True)
    torch.testing.assert_close(other(x), x @ (own.magnitude[:, None] * direction).T + linear.bias)


def test_the_change_has_its_gradients_twice() -> None:
    layer = nn.Linear(5, 4).double().requires_grad_(False)
    own = LowRank(layer, 2, 3.0, False, 0.0)
    nn.init.normal_(own.up)
    x = torch.randn(2, 3, 5, dtype=torch.double, requires_grad=True)

    def changed(x: Tensor, down: Tensor, up: Tensor) -> Tensor:
        return torch.func.functional_call(own, {"down": down, "up": up}, (layer, x, layer(x)))

    plain = layer(x) + 1.5 * x @ own.down.T @ own.up.T
    torch.testing.assert_close(changed(x, own.down, own.up), plain)
    assert torch.autograd.gradcheck(changed, (x, own.down, own.up))
    assert torch.autograd.gradgradcheck(changed, (x, own.down, own.up))


def test_layers_are_chosen_by_name() -> None:
    family, batch = family_of("token_transformer")
    LoRA(only="q_proj|v_proj").put_on(family)
    names = [name for name, _ in family.named_parameters() if name.endswith("lora.up")]
    assert len(names) == 2
    other, _ = family_of("token_transformer")
    with pytest.raises(RecipeError, match="no layer has such a name"):
        LoRA(only="q_prj").put_on(other)
    Partial(only="norm").put_on(other)
    loss(other, batch).sum().backward()
    trained = {name for name, p in other.named_parameters() if p.grad is not None}
    assert trained == set(own_state(other)) - {name for name, _ in other.named_buffers()}
    assert trained
    assert all("norm" in name for name in trained)


# -- runs ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adapt")
    cats = "".join(f"The cat number {i} sat on mat {i * 7 % 13}. " for i in range(200))
    dogs = "".join(f"A dog called {i * 3 % 17} ran to door {i % 5}! " for i in range(200))
    (root / "cats.txt").write_text(cats)
    (root / "dogs.txt").write_text(dogs)
    mg.train(root / "cats.txt", "autoregressive", settings=SMALL, budget="40steps",
             out=root / "base")  # fmt: skip
    return root


@pytest.fixture(scope="module")
def tuned(root: Path) -> Bundle:
    return mg.train(root / "dogs.txt", start=root / "base", adapter="lora", settings=QUIET,
                    budget="60steps", out=root / "mine")  # fmt: skip


def bits(bundle: Bundle, root: Path) -> float:
    windows = mg.load(root / "dogs.txt", codec=bundle.codec).train
    with torch.no_grad():
        return float(loss(bundle.family.eval(), windows.batch(torch.arange(32))).mean())


def test_an_adapter_bundle_holds_the_adapter_alone_and_opens(root: Path, tuned: Bundle) -> None:
    held = read_tensors(root / "mine" / "model.safetensors")
    assert held
    assert all(".lora." in name for name in held)
    config = json.loads((root / "mine" / "config.json").read_text())
    assert config["recipe"]["start"]["from"] == "../base"
    assert config["recipe"]["wrapper"]["name"] == "lora"
    opened, base = Bundle.open(root / "mine"), Bundle.open(root / "base")
    assert bits(opened, root) == bits(tuned, root) == bits(opened.whole(), root)
    assert bits(opened, root) < bits(base, root) - 0.3
    assert opened.codec.state() == base.codec.state()
    whole = Bundle.open(opened.whole().save(root / "whole"))
    assert whole.recipe.wrapper == {}
    merged = opened.whole().family.state_dict()
    kept = whole.family.state_dict()
    assert all(torch.equal(merged[name], value) for name, value in kept.items())
    # Where weights lie in memory may decide which of two products a processor takes.
    assert bits(whole, root) == pytest.approx(bits(opened, root), abs=1e-5)


def test_another_base_is_refused_by_its_hash(root: Path, tuned: Bundle, tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "base"
    tuned.save(mine)
    with pytest.raises(BundleError, match="not where it was"):
        Bundle.open(mine)
    base = Bundle.open(root / "base")
    base.save(other)
    assert Bundle.open(mine).recipe.wrapper  # beside it, the same weights
    next(base.family.parameters()).data.add_(1)
    base.save(other)
    with pytest.raises(BundleError, match="another base"):
        Bundle.open(mine)


def test_several_adapters_of_one_base_take_turns(root: Path, tuned: Bundle) -> None:
    dora = mg.train(root / "dogs.txt", start=root / "base", adapter="lora", budget="3steps",
                    settings=[*QUIET, "wrapper.dora=true"], out=root / "dora")  # fmt: skip
    base = Bundle.open(root / "base")
    alone = bits(base, root)
    switched = Adapters(base)
    switched.add("mine", root / "mine")
    switched.add("dora", root / "dora")
    for _ in range(2):
        assert bits(switched.use("mine"), root) == bits(tuned, root)
        assert bits(switched.use("dora"), root) == bits(dora, root)
        assert bits(switched.use(None), root) == alone


def stopped(log: Any) -> None:
    if log.step >= 52:
        raise KeyboardInterrupt


def test_a_run_that_is_stopped_goes_on_exactly(root: Path) -> None:
    settings = ["train.num_previews=0", "train.checkpoint_every=0", "train.batch_size=2"]
    given: dict[str, Any] = {"start": root / "base", "adapter": "lora", "settings": settings}
    whole = mg.train(root / "dogs.txt", budget="55steps", out=root / "whole-run", **given)
    with pytest.raises(KeyboardInterrupt):
        mg.train(root / "dogs.txt", budget="55steps", out=root / "again", on_log=stopped, **given)
    again = mg.train(root / "dogs.txt", out=root / "again", resume=True)
    a, b = own_state(whole.family), own_state(again.family)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_what_starts_from_a_bundle_keeps_its_network(root: Path, tuned: Bundle) -> None:
    def begin(**given: Any) -> None:
        prepare(root / "dogs.txt", out=root / "never", **{"start": root / "base", **given})

    with pytest.raises(RecipeError, match="keeps its family"):
        begin(settings=["backbone.model_dim=32"])
    with pytest.raises(RecipeError, match="its codec was fitted"):
        begin(settings=["modality.tokenizer=char"])
    with pytest.raises(RecipeError, match="by"):
        begin(adapter="ema")
    assert not (root / "never").exists()


@pytest.mark.parametrize("adapter", [None, "lora"])
def test_what_was_adapted_is_adapted_again(
    root: Path, tuned: Bundle, adapter: str | None, tmp_path: Path
) -> None:
    """As a whole, or with one more adapter on the first one's work."""
    settings = ["train.num_previews=0", "train.batch_size=2", "train.lr=1e-9"]
    given: dict[str, Any] = {"start": root / "mine", "adapter": adapter, "settings": settings}
    again = mg.train(root / "dogs.txt", budget="1steps", out=tmp_path / "again", **given)
    found = mg.open(tmp_path / "again")
    x = tuned.encode(Item("a dog"))
    own = [each.family.token_log_prob(x) for each in (tuned, again, found)]
    torch.testing.assert_close(own[1], own[2])
    torch.testing.assert_close(own[0], own[2], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dora", [False, True])
def test_peft_opens_an_adapter_and_says_the_same(tmp_path: Path, dora: bool) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from morphogen.core.codec import Item
    from morphogen.interop.export import export
    from morphogen.modalities.text import Text

    codec = Text(form="documents", tokenizer="byte").fit([Item("one, two, three")])
    backbone = {"name": "token_transformer", "model_dim": 16, "num_layers": 1}
    recipe = Recipe(family={"name": "autoregressive"}, backbone=backbone)
    torch.manual_seed(0)
    base = Bundle(build_family(recipe, codec.spec, {}).eval(), codec, recipe)
    export(base, tmp_path / "base")
    LoRA(rank=2, dora=dora).put_on(base.family)
    for _, own in adapted_layers(base.family):
        nn.init.normal_(own.up)
    export(base, tmp_path / "adapter", format="peft")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    theirs = PeftModel.from_pretrained(plain, tmp_path / "adapter")
    x = torch.randint(256, (2, 10))
    with torch.no_grad():
        logits = base.family.network(x).transpose(1, 2)
        torch.testing.assert_close(theirs(x).logits, logits, atol=1e-4, rtol=1e-4)
        export(base, tmp_path / "merged")  # and the whole, in the same form
        merged_there = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(merged_there(x).logits, logits, atol=1e-4, rtol=1e-4)


def test_an_adapted_bundle_is_trained_again_from_its_record(root: Path, tuned: Bundle) -> None:
    found = mg.reproduce(root / "mine", out=root / "elsewhere" / "again")
    assert found.verdict == "identical", found.text()
    again = Bundle.open(root / "elsewhere" / "again")
    assert again.recipe.start["from"] == "../../base"
    a, b = own_state(tuned.family), own_state(again.family)
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_where_weights_came_from_goes_along(root: Path) -> None:
    base = Bundle.open(root / "base")
    base.origin = {"source": "hf://somebody/small", "licence": "apache-2.0"}
    base.save(root / "published")
    given: dict[str, Any] = {"start": root / "published", "adapter": "lora", "settings": QUIET}
    out = root / "of-others"
    for held in sessions(root / "dogs.txt", out=out, budget="4steps", **given):

        def stop(log: Any, run: Any = held.run) -> None:
            run.stop = log.step >= 1

        held.train(stop)
    mine = mg.train(None, out=out, resume=True)
    assert mine.origin == Bundle.open(out).origin == mine.whole().origin == base.origin


def test_both_models_are_judged_on_the_same_items_and_few_after_a_short_run(
    root: Path, tuned: Bundle
) -> None:
    base, mine = Bundle.open(root / "base"), Bundle.open(root / "mine")
    split = mg.load(root / "dogs.txt", codec=base.codec).train
    both = [base.family, mine.family]
    mine.family.train()
    together = beside.evenly(both, split, beside.loss, 20)
    assert [family.training for family in both] == [False, True]
    mine.family.eval()
    apart = [beside.evenly([family], split, beside.loss, 20)[0] for family in both]
    assert all(torch.equal(*pair) for pair in zip(together, apart, strict=True))
    found = beside.compared(*together)
    assert found["n"] == 20
    assert found["change"]["low"] < found["change"]["value"] < found["change"]["high"] < 0
    ns = [beside.beside(mine, split, "none", trained_on=num)["held_out"]["n"] for num in (10, 300)]
    assert ns == [beside.LEAST, 30]


@pytest.mark.parametrize(("asked", "taken"), [(None, 1024), (1536, 1536), (9999, 2048)])
def test_texts_for_a_base_that_sees_many_tokens_come_in_windows_that_fit(asked, taken) -> None:
    codec = Text(form="windows", tokenizer="byte", length=2048).fit([Item("a word " * 700, "0")])
    codec.length = asked  # as an imported base has none, or as it is asked for
    codec.shorten([])
    assert codec.spec.shape == (taken,)
    assert codec.windows == taken
    assert ("of the 2,048 tokens" in codec.facts["form"]) == (taken < 2048)
    again = Text.from_state(codec.state(), codec.tensors())
    assert again.spec == codec.spec
