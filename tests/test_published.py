"""Published models come in: the same tokens, logits and embeddings as `transformers` gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from morphogen.core.codec import Item
from morphogen.core.errors import BundleError
from morphogen.core.random import generator
from morphogen.core.writing import Limits, Request
from morphogen.interop.export import export
from morphogen.interop.load import load
from morphogen.modalities.text.tokenizers import Library

transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)

CORPUS = ["the harbour lay still; the harbour slept, and 12 boats with it.", "Жёлтый лес", "naïve"]
STRANGE = ["", " ", "a  b\n\n", "日本語 🙂", "<|im_start|>user <|endoftext|>", "can't 2024!"]
MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "vocab_size": 320,
}  # fmt: skip
SCALED = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 2.0,
          "original_max_position_embeddings": 16, "rope_theta": 5e5}  # fmt: skip


def decoder_options() -> dict[str, Any]:
    """What each architecture is built of, by its name."""
    return {
        "llama": transformers.LlamaConfig(**SMALL, rms_norm_eps=1e-5),
        "llama3": transformers.LlamaConfig(**SMALL, rope_parameters=SCALED, head_dim=16),
        "smollm": transformers.LlamaConfig(**SMALL, tie_word_embeddings=True),
        "mistral": transformers.MistralConfig(**SMALL, sliding_window=5),
        "qwen2": transformers.Qwen2Config(**SMALL, tie_word_embeddings=True),
        "qwen3": transformers.Qwen3Config(**SMALL, head_dim=16),
        "gemma": transformers.GemmaConfig(**SMALL, head_dim=12),
        "gemma2": transformers.Gemma2Config(
            **SMALL, head_dim=12, query_pre_attn_scalar=12, sliding_window=5,
            attn_logit_softcapping=2.0, final_logit_softcapping=3.0,
        ),
        "gemma3": transformers.Gemma3TextConfig(
            **{**SMALL, "num_hidden_layers": 3}, head_dim=12, query_pre_attn_scalar=12,
            sliding_window=5, sliding_window_pattern=3,
        ),
        "gpt2": transformers.GPT2Config(
            n_embd=32, n_layer=2, n_head=4, n_positions=64, vocab_size=320
        ),
    }  # fmt: skip


DECODERS = ("llama", "llama3", "smollm", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3",
            "gpt2")  # fmt: skip


def bpe() -> Any:
    """Byte-level BPE as SmolLM's: digits apart, and marks."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    cuts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    made.pre_tokenizer, made.decoder = pre_tokenizers.Sequence(cuts), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=MARKS, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator(CORPUS, trainer)
    return made


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of an architecture, with random weights, and the model in it."""
    known: dict[str, tuple[Path, Any]] = {}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe(), bos_token=MARKS[0], eos_token=MARKS[2]
    )

    def give(name: str) -> tuple[Path, Any]:
        if name not in known:
            torch.manual_seed(0)
            model = transformers.AutoModelForCausalLM.from_config(decoder_options()[name]).eval()
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=0.3)
            folder = tmp_path_factory.mktemp(name)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            known[name] = folder, model
        return known[name]

    return give


@pytest.mark.parametrize("name", DECODERS)
def test_logits_are_those_of_transformers(name: str, published: Any) -> None:
    folder, theirs = published(name)
    family: Any = load(folder).family
    x = torch.randint(300, (2, 24), generator=generator(0))
    with torch.no_grad():
        expected = theirs(x).logits
        torch.testing.assert_close(family.network(x).mT, expected, rtol=1e-4, atol=1e-4)
        begun = torch.cat([torch.full((2, 1), family.start), x[:, :-1]], dim=1)
        own = theirs(begun).logits.log_softmax(-1).gather(2, x[..., None])[..., 0]
        torch.testing.assert_close(family.token_log_prob(x), own, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", DECODERS)
def test_what_is_written_is_what_transformers_writes(name: str, published: Any) -> None:
    """Prompts of several lengths beside each other, with a start or without, token by token."""
    folder, theirs = published(name)
    family: Any = load(folder).family
    x = torch.randint(300, (9,), generator=generator(1))
    requests = [
        Request(x[:n], 8, Limits(temperature=0), begins=begins, stop=lambda token: False)
        for n, begins in ((3, True), (9, False), (1, False))
    ]
    came: list[list[int]] = [[] for _ in requests]
    for step in family.write(requests, num_rows=2):
        for written in step:
            came[written.row].append(written.token)
    for request, tokens in zip(requests, came, strict=True):
        begun = [family.start] * request.begins + request.prompt.tolist()
        ids = torch.tensor([begun])
        drawn = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8,
            eos_token_id=family.spec.boundary, pad_token_id=0,
        )[0, len(begun) :]  # fmt: skip
        assert tokens == drawn.tolist()


@pytest.mark.parametrize("name", DECODERS)
def test_what_is_exported_is_loaded_to_the_bit(name: str, published: Any, tmp_path: Path) -> None:
    once = load(published(name)[0])
    export(once, tmp_path / "out")
    twice = load(tmp_path / "out")
    before, after = once.family.state_dict(), twice.family.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert once.codec.tokenizer.to_json() == twice.codec.tokenizer.to_json()
    theirs, told = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(told.values()), told
    x = torch.randint(300, (1, 24), generator=generator(0))
    with torch.no_grad():
        expected: Any = once.family.network(x).mT  # type: ignore[operator,union-attr]
        torch.testing.assert_close(theirs(x).logits, expected, rtol=1e-4, atol=1e-4)


def test_tokens_are_those_of_the_library(published: Any, tmp_path: Path) -> None:
    """And texts never become marks, unless a template wrote them."""
    folder, _ = published("smollm")
    bundle = load(folder)
    bundle.save(tmp_path / "bundle")
    own = type(bundle).open(tmp_path / "bundle").codec.tokenizer
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for text in [*CORPUS, *STRANGE]:
        data = text.encode()
        plain = theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert own.encode(data).tolist() == plain, text
        assert own.decode(plain) == data
        marked = theirs(text, add_special_tokens=False)["input_ids"]
        assert own.encode_marked(data).tolist() == marked, text
    assert own.marks == {name: number for number, name in enumerate(MARKS)}
    assert own.decode(own.encode(b"\xff\x80 a")) == b"\xff\x80 a"
    assert own.vocab_size == 320  # as many as the network has rows


def test_vocabularies_of_sentencepiece_keep_texts(tmp_path: Path) -> None:
    """As Llama 2's: a space before the first word, bytes where there is no token."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    signs = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256))]
    signs += ["▁", "t", "h", "e", "▁t", "he", "▁the"]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he")]
    numbers = {sign: number for number, sign in enumerate(signs)}
    made = Tokenizer(models.BPE(numbers, merges, byte_fallback=True, unk_token="<unk>"))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip
    made.add_special_tokens(["<s>", "</s>"])
    own = Library(made.to_str(), end=2)
    for text in ["the the", "  the\n", "日本 the", "the </s>"]:
        made.encode_special_tokens = True
        ids = made.encode(text, add_special_tokens=False).ids
        assert own.encode(text.encode()).tolist() == ids, text
        assert own.decode(ids).decode() == made.decode(ids, skip_special_tokens=False) == text
        made.encode_special_tokens = False
        marked = made.encode(text, add_special_tokens=False).ids
        assert own.encode_marked(text.encode()).tolist() == marked


# -- encoders --------------------------------------------------------------------------------------

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def encoder(name: str, folder: Path) -> Any:
    """A folder of an encoder with random weights, whose mean states are normalised."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    small = {"num_hidden_layers": 4, "intermediate_size": 48, "hidden_size": 32}
    if name.startswith("Bert"):
        config = transformers.BertConfig(
            **small, num_attention_heads=4, vocab_size=120, max_position_embeddings=32
        )
        made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.normalizer, made.pre_tokenizer = (
            normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        )  # fmt: skip
        made.decoder = decoders.WordPiece()
        trainer: Any = trainers.WordPieceTrainer(
            vocab_size=120, special_tokens=SPECIAL, show_progress=False
        )
        made.train_from_iterator(CORPUS, trainer)
    else:
        config = transformers.ModernBertConfig(
            **small, num_attention_heads=4, vocab_size=320, max_position_embeddings=32,
            local_attention=8, pad_token_id=0,
        )  # fmt: skip
        made = bpe()
        made.add_special_tokens(SPECIAL)
    kinds = {"tokenizer_object": made, "pad_token": "[PAD]", "cls_token": "[CLS]"}
    tokenizer = transformers.PreTrainedTokenizerFast(
        **kinds, sep_token="[SEP]", mask_token="[MASK]", unk_token="[UNK]"
    )
    torch.manual_seed(0)
    model = getattr(transformers, name)(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "modules.json").write_text('[{"type": "sentence_transformers.models.Normalize"}]')
    return model, tokenizer


@pytest.mark.parametrize(
    "name", ["BertModel", "BertForMaskedLM", "ModernBertModel", "ModernBertForMaskedLM"]
)
def test_encoders_give_what_transformers_gives(name: str, tmp_path: Path) -> None:
    """Texts of several lengths beside each other: features, what is told, and back to the bit."""
    theirs, tokenizer = encoder(name, tmp_path / "in")
    bundle = load(tmp_path / "in")
    family: Any = bundle.family
    texts = ["the harbour", "", "the boats slept still with the harbour; with it", "12 lay"]
    begin, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    rows = [[begin, *tokenizer(t, add_special_tokens=False)["input_ids"], end] for t in texts]
    longest = max(map(len, rows))
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    x = bundle.encode(*map(Item, texts))
    with torch.no_grad():
        told = theirs(ids, attention_mask=mask, output_hidden_states=True)
        states = told.hidden_states[-1] * mask[..., None]
        expected = torch.nn.functional.normalize(states.sum(1) / mask.sum(1, keepdim=True))
        torch.testing.assert_close(family.features(x), expected, rtol=1e-4, atol=1e-4)
        if name.endswith("LM"):
            own = family.network(torch.tensor(rows[2])[None])[0].mT
            torch.testing.assert_close(own, told.logits[2], rtol=1e-4, atol=1e-4)
    assert bundle.tasks()["embed"] is None
    assert (bundle.tasks()["fill"] is None) == name.endswith("LM")
    export(bundle, tmp_path / "out")
    _, loading = getattr(transformers, name).from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    missing = {each for each in loading["missing_keys"] if "pooler" not in each}
    assert not missing | {*loading["unexpected_keys"]}
    twice = load(tmp_path / "out").family
    assert all(map(torch.equal, family.state_dict().values(), twice.state_dict().values()))
    assert torch.equal(family.features(x), twice.features(x))


# -- files -----------------------------------------------------------------------------------------


def test_weights_in_several_files_or_halves_are_read(published: Any, tmp_path: Path) -> None:
    folder, theirs = published("llama")
    for file in folder.iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    half = type(theirs)(theirs.config).to(torch.bfloat16)
    half.load_state_dict(theirs.state_dict())
    half.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    family: Any = load(tmp_path).family
    own = family.network.layers[1].mlp.up_proj.weight
    assert torch.equal(own, half.state_dict()["model.layers.1.mlp.up_proj.weight"].float())
    gone = sorted(tmp_path.glob("model-*.safetensors"))[1]
    data = gone.read_bytes()
    gone.write_bytes(data[:-100])
    with pytest.raises(BundleError, match="damaged"):
        load(tmp_path)
    gone.unlink()
    with pytest.raises(BundleError, match="files of the weights are missing"):
        load(tmp_path)


def test_folders_that_cannot_be_opened_say_why(published: Any, tmp_path: Path) -> None:
    folder, _ = published("smollm")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())

    def refused(told: str, **words: Any) -> None:
        (tmp_path / "config.json").write_text(json.dumps(config | words))
        with pytest.raises(BundleError, match=told):
            load(tmp_path)

    refused("Did you mean 'llama'", model_type="llama4")
    refused("1 of another shape: model.embed_tokens.weight \\(320, 32\\)", vocab_size=310)
    refused("expected: at most 290, the rows of the embedding", vocab_size=290)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    refused("pickle")
