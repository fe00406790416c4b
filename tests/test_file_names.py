"""What names of files say becomes labels, tags and splits; what says nothing is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import morphogen as mg
from morphogen.core.codec import Item
from morphogen.core.errors import DataError
from morphogen.data.file_names import FileNames
from morphogen.data.inspect import inspect


def told(pattern: str, name: str) -> Item:
    """An item after its name was read."""
    item = Item("", name)
    FileNames(pattern).tell(item, "here")
    return item


def test_fields_are_labels_tags_and_splits() -> None:
    item = told("{label}_{speaker}_{test=0|1}", "clips/7_george_1.wav")
    assert (item.cond, item.tags, item.split) == ({"label": "7"}, {"speaker": "george"}, "test")
    assert told("{label}_{speaker}_{test=0|1}", "7_george_12.wav").split == "train"
    assert told("{split}-{label}-{}", "val-cat-0001-b.png").split == "validation"
    assert told("{label}.{}", "dog.12.jpg").cond == {"label": "dog"}
    assert told("img_{label}x", "img_dog_bigx.png").cond == {"label": "dog_big"}
    kept = Item("", "a_b.wav", {"caption": "a word"}, "train", {"licence": "cc0"})
    FileNames("{label}_{licence}").tell(kept, "here")
    assert (kept.cond, kept.split) == ({"caption": "a word", "label": "a"}, "train")
    assert kept.tags == {"licence": "cc0"}  # what a table says overrules a name


@pytest.mark.parametrize(
    "pattern", ["", "label", "{}", "{label}{speaker}", "{label}_{label}", "{label=a|b}", "{test"]
)
def test_patterns_that_say_nothing_are_refused(pattern: str) -> None:
    with pytest.raises(DataError, match="not a pattern of file names"):
        FileNames(pattern)


@pytest.mark.parametrize("name", ["7_george.wav", "_george_1.wav", "7__1.wav", ".wav", "george"])
def test_a_name_that_does_not_fit_is_named(name: str) -> None:
    with pytest.raises(DataError, match="does not fit the pattern") as caught:
        told("{label}_{speaker}_{take}", name)
    assert name in str(caught.value)


def test_every_reading_of_a_source_knows_them(tmp_path: Path) -> None:
    """`load`, `inspect`, and what a bundle would load again."""
    from PIL import Image

    draw = np.random.default_rng(0)
    for i in range(40):
        pixels = draw.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{'ab'[i % 2]}_{i % 4}_{i}.png")
    pattern = "{label}_{test=0|1}_{take}"
    data = mg.load(tmp_path, file_names=pattern)
    assert (len(data.train), len(data.test)) == (20, 20)
    assert data.codec.class_names("label") == ["a", "b"]
    assert data.options["file_names"] == pattern
    found = inspect(tmp_path, file_names=pattern)
    assert found.error is None
    assert "the source's own" in found.facts["split"]
