"""Language models as others run them: the same tokens, probabilities and continuations there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from morphogen.core.bundle import Bundle
from morphogen.core.errors import BundleError, RecipeError, RefusedPair
from morphogen.core.random import generator
from morphogen.core.recipe import Recipe, build_family
from morphogen.interop.export import export
from morphogen.interop.layouts import LAYOUTS
from morphogen.interop.load import load
from morphogen.modalities.text.tokenizers import BPE, Byte, Char, Tokenizer
from small_models import language_model

torch.set_num_threads(1)

CORPUS = [
    "the harbour lay still; the harbour slept, and 12 boats with it.\n",
    "  Жёлтый лес, жёлтый свет: осень в лесу — 2,5 °C\t", "a\r\nb  c   d", "naïve café 🙂🙂 ok",
] * 3  # fmt: skip
STRANGE = ["", " ", "ÿ\u00a0\x00 fin\n\n", "日本語 <|endoftext|> <|startoftext|>x", "<0x41>é́", "🙃"]
LLAMA3 = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def tokenizer(kind: str) -> Tokenizer:
    if kind == "byte":
        return Byte()
    if kind == "char":
        return Char("".join(CORPUS))
    trained = BPE.train(CORPUS, 320)
    if kind == "bpe":
        return trained
    signs = [*trained.signs[:-1], "", "", ""]  # marks, the end not last, and a number left out
    return BPE(signs, trained.merges, patterns=[LLAMA3], special=[len(signs) - 2],
               end=len(signs) - 3, whole_words=True)  # fmt: skip


def bundle(kind: str = "byte", *, whole: bool = False, **options: Any) -> Bundle:
    """A language model of random weights."""
    small = {"model_dim": 32, **options}
    return language_model(tokenizer(kind), length=24, whole=whole, std=0.3, **small)


NETWORKS: dict[str, dict[str, Any]] = {
    "llama": {"num_kv_heads": 2, "rotary_base": 5e5},
    "mistral": {"window": 6, "tied": True},
    "qwen3": {"qk_norm": True, "tied": True},
    "qwen3, windows": {"qk_norm": True, "window": 6, "num_kv_heads": 1},
    "gpt2": {"position": "learned", "norm": "layer", "mlp": "gelu", "bias": "all"},
    "gpt2, tied": {
        "position": "learned",
        "norm": "layer",
        "mlp": "gelu_erf",
        "bias": "all",
        "tied": True,
        "eps": 1e-5,
    },
}


@pytest.mark.parametrize("name", NETWORKS)
def test_transformers_gives_the_same_logits_and_goes_on_alike(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ours = bundle(whole=True, **NETWORKS[name])
    made = export(ours, tmp_path / "out")
    assert made.layout == name.partition(",")[0]
    theirs, told = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert type(theirs).__name__.lower().startswith(made.layout)
    assert not any(told.values()), told  # nothing missing, unused or of another shape
    family: Any = ours.family
    x = torch.randint(family.vocab_size, (3, 24), generator=generator(0))
    seen = torch.cat([torch.full((3, 1), family.vocab_size), x[:, :-1]], dim=1)
    with torch.no_grad():
        expected = family.network(seen).transpose(1, 2)
        torch.testing.assert_close(theirs(seen).logits, expected, rtol=1e-4, atol=1e-4)
    drawn = likeliest(family, x[:1, :4])
    found = theirs.generate(seen[:1, :5], max_length=25, do_sample=False)[0, 1:]
    assert found.tolist() == drawn[: len(found)].tolist()
    assert len(found) == 24 or int(found[-1]) == ours.codec.tokenizer.end


def likeliest(family: Any, prefix: torch.Tensor) -> torch.Tensor:
    """The likeliest continuation."""
    steps = family.stream(prefix, generator=generator(0), top_k=1)
    return torch.cat([prefix[0], torch.cat(list(steps))])


@pytest.mark.parametrize("kind", ["byte", "char", "bpe", "patterns"])
def test_their_tokenizer_gives_the_same_tokens(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ours = bundle(kind)
    export(ours, tmp_path / "out")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    own: Any = ours.codec.tokenizer
    assert (theirs.bos_token_id, theirs.eos_token_id) == (own.vocab_size, own.end)
    assert len(theirs) == own.vocab_size + 1
    for text in [*CORPUS, *STRANGE]:
        ids = theirs(text)["input_ids"]
        assert ids == [own.vocab_size, *own.encode(text.encode()).tolist()], text
        assert theirs.decode([*ids, own.end], skip_special_tokens=True) == text
    back = load(tmp_path / "out").codec.tokenizer
    assert (back.kind, back.end, back.tokens) == (own.kind, own.end, own.tokens)
    for text in [*CORPUS, *STRANGE]:
        assert back.encode(text.encode()).tolist() == own.encode(text.encode()).tolist()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("whole", [False, True])
def test_what_is_loaded_back_is_what_was_exported(name: str, whole: bool, tmp_path: Path) -> None:
    """Bit by bit, and once more the same files."""
    ours = bundle("bpe", whole=whole, **NETWORKS[name])
    export(ours, tmp_path / "one")
    back = load(tmp_path / "one")
    before, after = ours.family.state_dict(), back.family.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert back.codec.spec == ours.codec.spec
    assert back.codec.tokenizer.to_json() == ours.codec.tokenizer.to_json()
    assert back.sample(3, seed=1).x.equal(ours.sample(3, seed=1).x)
    export(back, tmp_path / "two")
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.architecture)
def test_every_step_of_a_table_has_an_inverse(layout: Any) -> None:
    """Whatever the weights: each of ours stands in one step, and comes back."""
    steps = [*layout.outside, *layout.layer, *layout.head]
    names = [name for step in steps for name in step.ours]
    assert len(names) == len(set(names))
    for step in steps:
        own = [torch.randn(6, 4, generator=generator(n)) for n in range(len(step.ours))]
        once = step.back(step.there(own, {}), {})
        assert len(once) == len(own)
        twice = step.back(step.there(once, {}), {})
        assert all(map(torch.equal, once, twice))
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(own, once, strict=True))


@pytest.mark.parametrize(("options", "named"), [
    ({"ngrams": 2}, "ngrams = 2"),
    ({"position": "learned"}, "position = learned"),
    ({"mlp": "gelu"}, "mlp = gelu"),
    ({"window": 4, "norm": "layer"}, "norm = layer"),
])  # fmt: skip
def test_what_has_no_place_is_named(options: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedPair, match="no layout has a place") as raised:
        export(bundle(**options), tmp_path / "out")
    assert named in str(raised.value.found)
    assert not (tmp_path / "out").exists()


def test_only_language_models_are_exported(tmp_path: Path) -> None:
    ours = bundle()
    ours.family.conditions["label"] = ours.family.spec
    with pytest.raises(RefusedPair, match="learned with conditions"):
        export(ours, tmp_path / "out")
    recipe = Recipe(family={"name": "masked"}, backbone={"model_dim": 32, "num_layers": 1})
    masked = Bundle(build_family(recipe, ours.codec.spec, {}), ours.codec, recipe)
    with pytest.raises(RefusedPair, match="masked does not go on with a text"):
        export(masked, tmp_path / "out")
    with pytest.raises(RecipeError, match="no such format"):
        export(ours, tmp_path / "out", format="stone")


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="not empty"):
        export(bundle(), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def changed(folder: Path, **words: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | words))


def test_folders_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """Each for its reason, and before anything large is built."""
    refused: list[tuple[dict[str, Any], str]] = [
        ({"model_type": "mamba"}, "no table yet"),
        ({"attention_bias": True}, "attention_bias"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps"),
        ({"bos_token_id": 0}, "bos_token_id"),
        ({"head_dim": 16}, "8 of another shape"),
        ({"num_hidden_layers": 10**9}, "more layers than tensors"),
        ({"num_hidden_layers": 3}, "9 missing: model.layers.2"),
        ({"num_hidden_layers": 1}, "9 too many: model.layers.1"),
        ({"intermediate_size": 10**8}, "6 of another shape: model.layers.0.mlp"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "yarn"),
        ({"hidden_size": "large"}, "hidden_size"),
    ]
    export(bundle(), tmp_path / "good")
    good = (tmp_path / "good" / "config.json").read_text()
    for words, told in refused:
        changed(tmp_path / "good", **words)
        with pytest.raises(BundleError, match=told):
            load(tmp_path / "good")
        (tmp_path / "good" / "config.json").write_text(good)
    load(tmp_path / "good")


def test_the_verb_writes_a_bundle_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from morphogen.cli.app import main

    bundle("char").save(tmp_path / "bundle")
    own, out = str(tmp_path / "bundle"), str(tmp_path / "out")
    for arguments in (["--help"], [own, "--to", out], [own, "--to", "hub-folder"]):
        with pytest.raises(SystemExit) as ended:
            main(["export", *arguments])
        assert ended.value.code == 0
    said = capsys.readouterr().out
    for word in ("layout of llama", "model.safetensors", "note: it learned from 24 tokens"):
        assert word in said
    opened = Bundle.open(tmp_path / "bundle")
    assert load(tmp_path / "out").sample(2).x.equal(opened.sample(2).x)
    hub = tmp_path / "bundle-hub-folder"  # a form that is named goes beside the bundle
    weights = [(folder / "model.safetensors").read_bytes() for folder in (hub, tmp_path / "out")]
    assert weights[0] == weights[1]
    assert "## Training" in (hub / "README.md").read_text()
