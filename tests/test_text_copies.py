"""Spans of samples that are training text: found, held to real text's, shown with their place."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from morphogen.core.codec import Item
from morphogen.core.encoded import tensor
from morphogen.data.dataset import Data, load
from morphogen.evaluation import _text_page
from morphogen.evaluation.text_copies import TextCopies, copied_text, text_copies

WORDS = [
    "harbour", "lantern", "seven", "copper", "window", "under", "morning", "quiet", "ladder",
    "river", "stone", "apple", "blue", "letter", "garden", "winter", "basket", "café", "thread",
]  # fmt: skip
ADDRESS = "Write to mary.jones@example.org about it"


def prose(seed: int, num_words: int) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) for _ in range(num_words))


def texts(folder: Path, form: str) -> Data:
    folder.mkdir(exist_ok=True)
    for name, seeds in (("train", range(60)), ("test", range(60, 80))):
        lines = [prose(seed, 60) for seed in seeds]
        lines[1] = f"{ADDRESS}. {lines[1]}"
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    options = {"per": "line", "length": 800} if form == "documents" else {"length": 256}
    return load(folder, form=form, tokenizer="byte", **options)


def compare(data: Data, samples: list[str]) -> tuple[dict[str, Any], TextCopies]:
    record: dict[str, Any] = {"protocol": {}}
    x = tensor(data.codec.encode_many([Item(sample) for sample in samples]))
    found = text_copies(record, x, data)
    assert found is not None
    return record, found


@pytest.mark.parametrize("form", ["documents", "windows"])
def test_copies_are_found_with_their_place(tmp_path: Path, form: str) -> None:
    data = texts(tmp_path, form)
    lines = (tmp_path / "train.txt").read_text().split("\n")
    copied = lines[7][20:150]
    samples = [prose(1000 + i, 60)[:255] for i in range(29)]
    samples[4] = (f"{samples[4][:60]}<{copied}>{samples[4]}")[:255]
    record, found = compare(data, samples)
    told = record["spans"]
    assert told["longer"] == 1
    assert told["longest"] == len(copied.encode()) > told["usual"]
    first = found.found[0]
    assert (first.sample, first.text) == (4, copied.encode())
    place = (tmp_path / "train.txt").read_bytes().index(copied.encode())
    assert first.source == f"train.txt, byte {place:,}, line 8"
    ((begin, end),) = _text_page.marks_of(found, 4)
    assert samples[4][begin:end] in copied
    assert end - begin > 100
    assert _text_page.marks_of(found, 5) == []
    page = _text_page.spans(told, found)
    assert f"sample 5: {told['longest']} bytes" in page
    assert "<mark" in page
    assert copied not in json.dumps(record)


def test_real_texts_reach_the_floor_and_a_copier_does_not(tmp_path: Path) -> None:
    data = texts(tmp_path, "windows")
    real = data.codec.decode_many(data.test.batch(torch.arange(4, 24)).x)
    own = data.codec.decode_many(data.train.batch(torch.arange(2, 62, 3)).x)
    assert not any("@" in text for text in real + own)  # nothing that a recogniser is loaded for
    (honest,), (copier,) = (copied_text(compare(data, each)[0]) for each in (real, own))
    assert honest.floor is not None
    assert honest.value == pytest.approx(honest.floor) == copier.floor
    assert copier.value == 1.0
    assert not honest.caution
    assert "20 of 20 samples hold a longer span" in copier.caution


def test_personal_data_of_samples_is_named_as_copied_where_it_is(tmp_path: Path) -> None:
    pytest.importorskip("presidio_analyzer")
    data = texts(tmp_path, "windows")
    samples = [prose(i, 20) for i in range(8)]
    samples[2] = ADDRESS
    samples[3] = "Write to somebody.else@example.org about it"
    told = compare(data, samples)[0]["spans"]["personal"]
    assert told == {"found": {"e-mail address": 2}, "copied": {"e-mail address": 1}}


def test_the_plot_of_regions_shows_every_block() -> None:
    page = _text_page.regions({"score": "bits_per_byte", "values": [2.0, 2.5, 1.75]})
    assert page.count("<rect") == 3
    assert "Bits per byte in 3 regions" in page
