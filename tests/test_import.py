"""Published models in and out as GGUF: llama.cpp makes of them what is made of them here."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import morphogen as mg
from morphogen.cli.app import main
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.core.errors import BundleError, MorphogenError, RecipeError, RefusedPair
from morphogen.core.storage import sha256
from morphogen.interop import export_gguf
from morphogen.interop.export import export
from morphogen.interop.gguf import GGUF, read_gguf, write_gguf
from morphogen.interop.gguf_tokens import merges_of, tokenizer_json, vocabulary_facts
from morphogen.interop.importing import import_model
from morphogen.interop.replay import Replay, Run
from morphogen.modalities.chat import Chat
from morphogen.modalities.text.chat import CHATML
from morphogen.modalities.text.tokenizers import Byte, Char
from small_models import answering, language_model, trained, with_marks

torch.set_num_threads(1)

NETWORKS: dict[str, dict[str, Any]] = {
    "llama": {"num_kv_heads": 2, "rotary_base": 5e5, "eps": 1e-5},
    "llama, scaled": {
        "rotary_scaling": [8.0, 1.0, 4.0, 8192.0],
        "num_heads": 1,
        "rotary_base": 5e5,
    },
    "qwen3": {"qk_norm": True, "tied": True},
    "qwen2": {"bias": "qkv"},
    "gpt2": {"position": "learned", "norm": "layer", "mlp": "gelu", "bias": "all"},
}


def marked(**options: Any) -> Bundle:
    """A model whose start is one of its tokens."""
    tokenizer = with_marks()
    return language_model(tokenizer, start=tokenizer.marks["<|im_start|>"], **options)


@pytest.mark.parametrize("name", NETWORKS)
def test_llama_cpp_goes_on_alike_and_what_comes_back_is_the_same(name: str, tmp_path: Path) -> None:
    ours = marked(**NETWORKS[name])
    made = export(ours, tmp_path / "model.gguf")
    assert made.layout == f"{name.partition(',')[0]}, in F32"
    record = json.loads((tmp_path / "model.gguf.json").read_text())["replay"]
    assert len(record["runs"]) == 20
    assert record["difference"] < 0.005
    assert all(run["num_read"][0] == run["num_read"][1] > 1 for run in record["runs"])
    assert sum(len(run["differences"]) for run in record["runs"]) > 100
    back = import_model(tmp_path / "model.gguf")
    assert back.origin["files"] == {"model.gguf": sha256(tmp_path / "model.gguf")}
    x = torch.randint(256, (2, 48), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = ours.family.network(x)
        torch.testing.assert_close(back.family.network(x), expected, rtol=0, atol=1e-5)
    for text in ("the harbour", "naïve 🙂 \n\n 12", ""):
        first, second = (b.codec.encode_sequences([Item(text)])[0] for b in (ours, back))
        assert first.equal(second)


def test_a_start_of_its_own_never_comes_there(tmp_path: Path) -> None:
    """It learned never to come, which weights by chance did not: their likelihoods differ by its
    share, a three hundredth, and not what comes."""
    made = export(language_model(trained()), tmp_path / "model.gguf", type="F16")
    record = json.loads((tmp_path / "model.gguf.json").read_text())["replay"]
    start = trained().vocab_size
    assert not any(start in run["theirs"] for run in record["runs"])
    assert 0.001 < record["difference"] < 0.01
    assert made.files["model.gguf"] > 100_000


def test_smaller_numbers_are_nearly_the_same(tmp_path: Path) -> None:
    ours = marked()
    sizes = {}
    for kind in ("f32", "f16", "q8_0"):
        made = mg.export(ours, tmp_path / f"{kind}.gguf", type=kind)
        sizes[kind] = made.files[f"{kind}.gguf"]
        assert "replayed in llama.cpp" in made.notes[0]
    assert sizes["f32"] > 1.5 * sizes["f16"] > 1.5 * sizes["q8_0"]
    kinds = {each.kind for each in read_gguf(tmp_path / "q8_0.gguf").tensors.values()}
    assert kinds == {"F32", "Q8_0"}


def test_a_file_that_says_something_else_is_not_handed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that were written wrongly, as by a table with an error in it."""

    def wrong(path: Path, facts: Any, tensors: Any, kind_of: Any) -> Path:
        name = "blk.0.attn_q.weight"
        return write_gguf(path, facts, {**tensors, name: tensors[name].flip(0)}, kind_of)

    monkeypatch.setattr(export_gguf, "write_gguf", wrong)
    with pytest.raises(BundleError, match="makes something else of this model"):
        export(marked(), tmp_path / "model.gguf")
    assert list(tmp_path.iterdir()) == []


def test_what_gguf_has_no_place_for_is_refused(tmp_path: Path) -> None:
    for tokenizer in (Byte(), Char("abc")):
        with pytest.raises(RefusedPair, match="no kind of vocabulary for the tokenizer"):
            export(language_model(tokenizer), tmp_path / "model.gguf")
    with pytest.raises(RefusedPair, match=r"backbone\.window"):
        export(marked(window=8), tmp_path / "model.gguf")
    with pytest.raises(RecipeError, match="not written so"):
        export(marked(), tmp_path / "model.gguf", type="q2_k")
    assert list(tmp_path.iterdir()) == []


def test_a_replay_names_the_first_token_that_differs() -> None:
    run = Run("a", (2, 2), [5, 6, 7], [5, 6, 8], [0.001, 0.0], 2, 0.25)
    same = Run("b", (2, 2), [5], [5], [0.0], None, None)
    found = Replay([run, same])
    assert found.agrees("F32")
    assert "1 of 2 texts" in found.text()
    assert "within 0.250 nats" in found.text()
    assert not Replay([Run("a", (2, 3), [5], [5], [0.0], None, None)]).agrees("Q8_0")


def test_a_folder_of_transformers_brings_its_template_and_licence(tmp_path: Path) -> None:
    ours, folder = marked(), tmp_path / "folder"
    export(ours, folder)
    told = json.loads((folder / "tokenizer_config.json").read_text())
    told |= {"bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>"}
    told["chat_template"] = [
        {"name": "tools", "template": "?"},
        {"name": "default", "template": "T"},
    ]
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n")
    back = mg.import_model(folder)
    assert back.origin["licence"] == "apache-2.0"
    assert back.origin["chat_template"] == "T"
    marks = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    assert back.origin["marks"] == marks
    assert back.origin["files"]["model.safetensors"] == sha256(folder / "model.safetensors")
    (folder / "chat_template.jinja").write_text("J")
    assert mg.import_model(folder, length=32).origin["chat_template"] == "J"
    assert mg.import_model(folder, length=32).codec.spec.shape == (32,)
    saved = Bundle.open(back.save(tmp_path / "base"))
    assert saved.origin == back.origin
    export(saved, tmp_path / "again")
    again = json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())
    assert again["chat_template"] == "T"
    export(saved, tmp_path / "again.gguf")
    facts = read_gguf(tmp_path / "again.gguf").facts
    assert facts["tokenizer.chat_template"] == "T"
    assert facts["general.license"] == "apache-2.0"
    assert facts["tokenizer.ggml.add_bos_token"] is False  # the template writes it


def test_a_model_that_learned_from_conversations_takes_its_template_along(tmp_path: Path) -> None:
    """With the end before each that it always saw there."""
    bundle = answering("yours")
    codec = Chat.onto(bundle.codec, bundle.family.network)
    assert codec is not None
    export(replace(bundle, codec=codec, origin={}), tmp_path / "m.gguf")
    facts = read_gguf(tmp_path / "m.gguf").facts
    assert facts["tokenizer.chat_template"] == '{{ "<|im_end|>" }}' + CHATML
    assert facts["tokenizer.ggml.add_bos_token"] is True
    back = mg.chat(mg.import_model(tmp_path / "m.gguf"), temperature=0)
    assert back.ask("Is it?") == "yours"


# -- files that do not fit -----------------------------------------------------------------------


def rewritten(file: Path, facts: dict[str, Any], *left_out: str, **more: Any) -> Path:
    """The same file with other facts and tensors."""
    told = read_gguf(file)
    tensors = {n: t.tensor() for n, t in told.tensors.items() if n not in left_out}
    known = {n: v for n, v in (told.facts | facts).items() if v is not None}
    return write_gguf(file.with_name("other.gguf"), known, tensors | more, lambda n, t: "F32")


def test_files_that_do_not_fit_are_refused_with_their_reason(tmp_path: Path) -> None:
    export(marked(), file := tmp_path / "model.gguf")
    refused: list[tuple[dict[str, Any], str]] = [
        ({"general.architecture": "mamba"}, r"no table yet(.|\n)*'mamba'(.|\n)*llama, qwen2"),
        ({"llama.block_count": None}, "does not say the sizes"),
        ({"llama.block_count": 3}, r"9 missing: blk\.2\.attn_k"),
        ({"llama.expert_count": 8}, r"no place for(.|\n)*expert_count"),
        ({"llama.rope.dimension_count": 8}, "a part of each head"),
        ({"llama.attention.head_count": 3}, "heads share keys"),
        ({"tokenizer.ggml.model": "t5"}, "kind of vocabulary"),
        ({"tokenizer.ggml.pre": "bloom"}, "words are cut"),
        ({"tokenizer.ggml.tokens": None}, "no vocabulary"),
        ({"tokenizer.ggml.eos_token_id": None}, "which token ends"),
    ]
    for facts, told in refused:
        with pytest.raises(MorphogenError, match=told):
            import_model(rewritten(file, facts))
    with pytest.raises(BundleError, match=r"1 missing: output_norm\.weight; 1 too many: extra"):
        import_model(rewritten(file, {}, "output_norm.weight", extra=torch.ones(3)))
    with pytest.raises(BundleError, match="scaled in a way"):
        import_model(rewritten(file, {}, **{"rope_freqs.weight": torch.arange(8.0)}))


def test_what_is_no_model_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"PK\x03\x04 ..")
    for place in (tmp_path / "weights.pth", tmp_path):
        with pytest.raises(BundleError, match=r"pickled(.|\n)*safetensors"):
            import_model(place)
    (tmp_path / "weights.pth").unlink()
    (tmp_path / "model.bin").write_bytes(b"of something else")
    (tmp_path / "empty").mkdir()
    for place in (tmp_path, tmp_path / "empty"):
        with pytest.raises(BundleError, match="no model in this folder"):
            import_model(place)
    with pytest.raises(BundleError, match="no such model"):
        import_model("nowhere")
    language_model(trained()).save(tmp_path / "bundle")
    with pytest.raises(BundleError, match="a bundle already"):
        import_model(tmp_path / "bundle")
    for name in ("one.gguf", "two.gguf"):
        (tmp_path / "empty" / name).write_bytes(b"GGUF")
    with pytest.raises(BundleError, match=r"several models(.|\n)*one\.gguf, two\.gguf"):
        import_model(tmp_path / "empty")


def test_a_model_of_the_hub_that_cannot_be_fetched_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MorphogenError, match=r"cannot be fetched(.|\n)*copy the model's folder"):
        import_model("nobody/no-model-at-all")


# -- vocabularies --------------------------------------------------------------------------------


def test_a_vocabulary_comes_back_from_a_file() -> None:
    tokenizer = with_marks()
    told = vocabulary_facts(json.loads(tokenizer.told), tokenizer.vocab_size)
    back = tokenizer_json(GGUF(told, {}))
    assert back["model"]["merges"] == [list(pair) for pair in trained().merges]
    assert vocabulary_facts(back, tokenizer.vocab_size) == told


def test_scores_tell_which_pair_is_joined_first() -> None:
    numbers = {"a": 0, "b": 1, "c": 2, "bc": 3, "ab": 4, "abc": 5}
    merges = merges_of(numbers, [0.0, 0.0, 0.0, -1.0, -2.0, -3.0])
    assert merges == [["b", "c"], ["a", "b"], ["a", "bc"], ["ab", "c"]]


def write_llama2c(folder: Path) -> Path:
    """A model of llama2.c: 16 features, 2 heads, 300 tokens."""
    sizes = (16, 24, 1, 2, 1, 300, 32)
    draw = torch.Generator().manual_seed(0)
    shapes = [(300, 16), (16,), (16, 16), (8, 16), (8, 16), (16, 16), (16,), (24, 16), (16, 24),
              (24, 16), (16,), (32, 8)]  # fmt: skip
    weights = [torch.randn(shape, generator=draw) for shape in shapes]
    data = b"".join(weight.numpy().tobytes() for weight in weights)
    (folder / "m.bin").write_bytes(struct.pack("<7i", *sizes) + data)
    texts = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{value:02X}>" for value in range(256))]
    texts += [chr(0x61 + i) for i in range(26)] + [" ", "th", "the", " t", " the", "he"]
    texts += [chr(0x41 + i) for i in range(300 - len(texts))]
    packed = [(0.0 if i < 285 else -float(i), text.encode()) for i, text in enumerate(texts)]
    tokens = b"".join(struct.pack("<fi", score, len(text)) + text for score, text in packed)
    (folder / "tok300.bin").write_bytes(struct.pack("<i", 10) + tokens)
    return folder / "m.bin"


def test_llama2c_is_read_as_if_it_were_gguf(tmp_path: Path) -> None:
    """And goes on in llama.cpp as here, spaces before words and all."""
    back = import_model(write_llama2c(tmp_path))
    export(back, tmp_path / "m.gguf")
    again = import_model(tmp_path / "m.gguf")
    before, after = back.family.state_dict(), again.family.state_dict()
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)
    tokens = back.codec.encode_sequences([Item("the zoo\n")])[0].tolist()
    assert tokens == again.codec.encode_sequences([Item("the zoo\n")])[0].tolist()
    assert back.codec.tokenizer.decode(tokens) == b"the zoo\n"
    (tmp_path / "tok300.bin").unlink()
    with pytest.raises(BundleError, match=r"not beside(.|\n)*tok300\.bin"):
        import_model(tmp_path / "m.bin")


def test_the_verb_makes_a_bundle_like_any_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(marked(), tmp_path / "m.gguf")
    (tmp_path / "origin.json").write_text('{"licence": "MIT", "package": "tiny==1"}')
    arguments = ["import", str(tmp_path / "m.gguf"), "--out", str(tmp_path / "base")]
    for code in (0, 1):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == code
    said = capsys.readouterr()
    assert "licence: MIT" in said.out
    assert "next: morphogen task complete" in said.out
    assert "a bundle already" in said.err
    opened = Bundle.open(tmp_path / "base")
    assert opened.origin["package"] == "tiny==1"
    assert "| licence | `MIT` |" in (tmp_path / "base" / "README.md").read_text()
    assert len(opened.task("complete", Item("the"), most=3).raw) == 1
    assert opened.sample(2).x.shape == (2, 48)
