"""Tokenizers: nothing is lost, bits are counted per byte, and what others trained is read as is."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from morphogen.core.codec import Item
from morphogen.core.codec_storage import codec_tensors, describe_codec, rebuild_codec
from morphogen.core.errors import BundleError, DataError
from morphogen.data.store import storage_dtype
from morphogen.modalities.text import Text
from morphogen.modalities.text.encodings import to_bytes
from morphogen.modalities.text.page import END as MARK
from morphogen.modalities.text.tokenizers import BPE, Byte, Char, Tokenizer, tokenizer_from_json
from morphogen.modalities.text.tokenizers import choose as choosing
from morphogen.modalities.text.tokenizers.choose import Seen
from morphogen.modalities.text.tokenizers.files import read_tokenizer
from morphogen.testing import check_codec

SHARED = Path(os.environ.get("MORPHOGEN_SHARED", Path(__file__).parents[2] / "shared"))
GPT2 = SHARED / "data" / "gpt2-tokenizer"
WORDS = [
    "the",
    "river",
    "under",
    "the",
    "old",
    "bridge",
    "was",
    "quiet,",
    "größer",
    "als",
    "zwölf",
    "東京",
    "и",
    "море;",
    "it's",
    "1984",
]


def prose(seed: int, num_words: int = 60) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) for _ in range(num_words)) + ".\n"


CORPUS = [prose(i) for i in range(12)]
TOKENIZERS: dict[str, Tokenizer] = {
    "byte": Byte(),
    "char": Char("".join(CORPUS)),
    "bpe": BPE.train(CORPUS, 400),
}
anything = st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode))
each_tokenizer = pytest.mark.parametrize("kind", TOKENIZERS)


@each_tokenizer
@settings(max_examples=150, deadline=None)
@given(data=anything)
def test_no_byte_is_lost(kind: str, data: bytes) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode(data)
    assert ids.dtype == np.int64
    assert tokenizer.decode(ids.tolist()) == data
    assert int(tokenizer.byte_lengths[ids].sum()) == len(data)
    assert b"".join(map(tokenizer.token_bytes, ids.tolist())) == data
    assert tokenizer.end not in ids


@each_tokenizer
def test_tokens_are_numbered_without_gaps_and_travel_as_json(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    assert len(tokenizer.byte_lengths) == tokenizer.vocab_size == len(tokenizer.tokens)
    assert tokenizer.token_bytes(tokenizer.end) == b""
    assert len(set(tokenizer.tokens)) == tokenizer.vocab_size
    again = tokenizer_from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert list(again.tokens) == list(tokenizer.tokens)
    assert again.end == tokenizer.end
    for text in CORPUS:
        assert np.array_equal(again.encode(text.encode()), tokenizer.encode(text.encode()))


@each_tokenizer
@pytest.mark.parametrize("form", ["documents", "windows"])
@settings(max_examples=40, deadline=None)
@given(ids=st.lists(st.integers(0, 256), min_size=24, max_size=24))
def test_a_stream_shows_what_decoding_does(kind: str, form: str, ids: list[int]) -> None:
    """Token by token, whatever the tokens are; characters are never shown by halves."""
    codec = fitted(kind, form=form, length=24)
    ids = [codec.tokenizer.end if n == 256 else n % codec.tokenizer.vocab_size for n in ids]
    stream, shown = codec.decoder(), []
    for token in ids:
        shown.append(stream.feed(token))
    shown.append(stream.finish())
    assert "".join(shown) == codec.decode(torch.tensor(ids))


def fitted(kind: str, **options: object) -> Text:
    codec = Text(tokenizer=kind, **options)  # type: ignore[arg-type]
    return codec.fit([Item(text) for text in CORPUS])


def test_a_stream_holds_back_half_a_character() -> None:
    stream = fitted("byte").decoder()
    assert [stream.feed(byte) for byte in "aé€".encode()] == ["a", "", "é", "", "", "€"]
    assert [stream.feed(0xE2), stream.feed(ord("x")), stream.feed(0xE2)] == ["", "\udce2x", ""]
    assert stream.finish() == "\udce2"


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
@pytest.mark.parametrize("form", ["documents", "windows"])
def test_the_kit_holds_for_each(kind: str, form: str) -> None:
    class Chosen(Text):
        """Text with this tokenizer, and windows or whole documents."""

        def __init__(
            self,
            *,
            length: int | None = 64,  # tokens
            form: str = form,  # whole or windows
            per: str = "auto",  # what is an item
            tokenizer: str = kind,  # which
            vocab_size: int | None = None,  # tokens
            encoding: str = "auto",  # of files
            column: str | None = None,  # of tables
        ) -> None:
            super().__init__(
                length=length,
                form=form,
                per=per,
                encoding=encoding,
                column=column,  # type: ignore[arg-type]
            )
            self.named, self.vocab_size = tokenizer, vocab_size

    check_codec(Chosen, items=[Item(text, f"{n}") for n, text in enumerate([*CORPUS, "\udcff ?"])])


@each_tokenizer
def test_a_codec_comes_back_with_its_vocabulary(kind: str) -> None:
    codec = fitted(kind)
    again = rebuild_codec(json.loads(json.dumps(describe_codec(codec))), codec_tensors(codec))
    x = codec.encode(Item(CORPUS[0]))
    assert torch.equal(again.encode(Item(CORPUS[0])), x)
    assert float(again.num_units(x[None])) == len(to_bytes(codec.decode(x).replace(MARK, "")))
    assert describe_codec(again) == describe_codec(codec)


@pytest.mark.parametrize(
    "harm",
    [
        lambda held: {},
        lambda held: {"tokenizer": held[: len(held) // 2]},
        lambda held: {"tokenizer": held.float()},
        lambda held: {"tokenizer": torch.tensor(list(b'{"kind": "os"}'), dtype=torch.uint8)},
        lambda held: {"tokenizer": torch.tensor(list(b'{"kind": "bpe"}'), dtype=torch.uint8)},
        lambda held: {
            "tokenizer": torch.tensor(
                list(json.dumps(TOKENIZERS["char"].to_json()).encode()), dtype=torch.uint8
            )
        },
    ],
)
def test_a_damaged_vocabulary_is_refused(harm: object) -> None:
    codec = fitted("bpe", vocab_size=300)
    with pytest.raises(BundleError):
        rebuild_codec(describe_codec(codec), harm(codec.tensors()["tokenizer"]))  # type: ignore[operator]


@pytest.mark.parametrize("field", ["tokens", "merges", "end"])
def test_a_vocabulary_that_would_lose_bytes_is_refused(field: str) -> None:
    state = TOKENIZERS["bpe"].to_json()
    state[field] = {"tokens": state["tokens"][5:], "merges": [[1, 9999]], "end": 5000}[field]
    with pytest.raises(BundleError):
        tokenizer_from_json(state)


# -- choosing --------------------------------------------------------------------------------------


def test_what_suits_the_data_is_chosen_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(texts: list[str], named: str = "auto", size: int | None = None) -> tuple[str, str]:
        seen = Seen(named, size)
        for text in texts:
            seen.add(text)
        tokenizer, why = seen.choose()
        return tokenizer.kind, why

    assert chosen(["plain words " * 9]) == (
        "byte",
        "byte: 108 bytes of text are too few to learn longer tokens from",
    )
    kind, why = chosen(["тихая река под мостом " * 99])
    assert kind == "char"
    assert "14 characters" in why
    assert chosen(CORPUS, size=300)[0] == "bpe"
    monkeypatch.setattr(choosing, "BPE_FROM", 1000)
    kind, why = chosen(CORPUS)
    assert kind == "bpe"
    assert "of 512, as no other pair comes twice" in why
    monkeypatch.setattr(choosing, "SAMPLE", 900)
    assert "trained on 0 of 0 MB" in chosen(CORPUS)[1]


def test_a_vocabulary_is_no_larger_than_the_data_supports() -> None:
    codec = fitted("bpe", vocab_size=50_000)
    assert codec.spec.vocab_size is not None
    assert codec.spec.vocab_size < 1000
    assert "as no other pair comes twice" in codec.facts["tokenizer"]
    assert storage_dtype(codec.spec) == torch.uint16
    small = Text(tokenizer="bpe").fit([Item("abc")])
    assert small.spec.vocab_size == 257


def test_training_is_the_same_every_time() -> None:
    texts = ["ab cd ab cd ef ef gh gh", "xy zw xy zw"] * 3  # ties everywhere
    first = BPE.train(texts, 300)
    assert all(BPE.train(texts, 300).to_json() == first.to_json() for _ in range(3))


@pytest.mark.parametrize(
    "options",
    [{"tokenizer": "bqe"}, {"tokenizer": "char", "vocab_size": 300}, {"vocab_size": 12}],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(DataError):
        Text(**options)  # type: ignore[arg-type]


# -- equality with the library ---------------------------------------------------------------------


def reference(tokenizer: BPE) -> object:
    """The same vocabulary in the library, fed with whole texts."""
    from tokenizers import Tokenizer as Library
    from tokenizers import models, pre_tokenizers

    state = tokenizer.to_json()
    numbers = {sign: n for n, sign in enumerate(state["tokens"]) if sign}
    made = Library(models.BPE(numbers, list(tokenizer.merges)))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return made


TRAINED = TOKENIZERS["bpe"]
assert isinstance(TRAINED, BPE)
LIBRARY = reference(TRAINED)
spaced = st.text(
    st.sampled_from("abér 1,'st\t\n\r\x0b\x1c\x1f\x85\xa0\u1680\u180e\u2003\u200b\u2028\u3000東.!"),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(spaced, st.text(max_size=40).filter(lambda t: t.isprintable())))
def test_words_that_are_remembered_have_the_tokens_of_the_library(text: str) -> None:
    expected = LIBRARY.encode(text).ids  # type: ignore[attr-defined]
    assert TRAINED.encode(text.encode()).tolist() == expected


def as_gpt2_files(folder: Path, tokenizer: BPE, names: tuple[str, str]) -> Path:
    signs = {sign: n for n, sign in enumerate(tokenizer.signs) if sign}
    signs["<|endoftext|>"] = tokenizer.end
    (folder / names[0]).write_text(json.dumps(signs))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in tokenizer.merges)]
    (folder / names[1]).write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_files_of_gpt2_are_read(names: tuple[str, str], tmp_path: Path) -> None:
    folder = as_gpt2_files(tmp_path, TRAINED, names)
    found = read_tokenizer(folder)
    assert found.to_json() == TRAINED.to_json()
    assert read_tokenizer(folder / names[0]).end == TRAINED.end
    text = "the end is <|endoftext|>"
    assert found.decode(found.encode(text.encode()).tolist()) == text.encode()
    codec = Text(tokenizer=str(folder)).fit([Item(text) for text in CORPUS])
    assert codec.spec.vocab_size == TRAINED.vocab_size
    assert str(tmp_path) not in json.dumps(codec.state())


LLAMA_LIKE = r"'s|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"


def test_files_of_the_library_are_read(tmp_path: Path) -> None:
    from tokenizers import Regex, pre_tokenizers
    from tokenizers import Tokenizer as Library

    made = Library.from_str(LIBRARY.to_str())  # type: ignore[attr-defined]
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA_LIKE), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.add_special_tokens(["<|begin|>", "<|end_of_text|>"])
    made.save(str(tmp_path / "tokenizer.json"))
    found = read_tokenizer(tmp_path)
    assert found.end == made.token_to_id("<|end_of_text|>")
    for text in [*CORPUS, "a,\n\n  b 12345 c's\r\n"]:
        assert found.encode(text.encode()).tolist() == made.encode(text).ids
    again = tokenizer_from_json(json.loads(json.dumps(found.to_json())))
    assert again.to_json() == found.to_json()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"normalizer": {"type": "NFC"}}, "normalizer"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "cut"),
        ({"pre_tokenizer": None}, "cut"),
        ({"model": {"type": "WordPiece", "vocab": {}}}, "WordPiece"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}, "no token for some bytes"),
        ({"model": {"type": "BPE", "vocab": {"a": 1 << 40}, "merges": []}}, "token"),
        ({"added_tokens": [{"id": 900, "content": "  ", "special": False}]}, "added"),
    ],
)
def test_tokenizers_that_lose_text_are_refused(
    change: dict[str, object], told: str, tmp_path: Path
) -> None:
    whole = json.loads(LIBRARY.to_str()) | change  # type: ignore[attr-defined]
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    with pytest.raises(DataError, match=told):
        read_tokenizer(tmp_path)
    with pytest.raises(DataError, match="no tokenizer"):
        read_tokenizer(tmp_path / "none")


@pytest.mark.skipif(not GPT2.is_dir(), reason=f"the files of GPT-2's tokenizer are not in {GPT2}")
def test_gpt2_token_for_token() -> None:
    from tokenizers import ByteLevelBPETokenizer

    made = ByteLevelBPETokenizer(str(GPT2 / "encoder.json"), str(GPT2 / "vocab.bpe"))
    found = read_tokenizer(GPT2)
    assert found.vocab_size == 50_257
    assert found.end == 50_256
    assert found.encode(b"Hello world").tolist() == [15496, 995]
    for text in [*CORPUS, *map(prose, range(100, 140)), "  x\n\n\ty 'll  z\u3000\u180e!" * 3]:
        assert found.encode(text.encode()).tolist() == made.encode(text).ids
