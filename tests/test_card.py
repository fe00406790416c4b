"""A card says what the bundle's records say, and the same bundle gives the same bytes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from morphogen.core.bundle import Bundle
from morphogen.core.errors import BundleError
from morphogen.core.random import generator, rand
from morphogen.data.dataset import Data
from morphogen.evaluation.card import card, write_card
from morphogen.training.run import train


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    x = (rand((60, 8, 8), generator(0)) * 255).to(torch.uint8)
    out = tmp_path_factory.mktemp("models") / "one"
    train(Data.from_tensors(x), "rbm", budget="5steps", out=out, settings=["train.num_previews=0"])
    return out


def test_a_card_is_made_of_records_and_repeats_itself(bundle: Path) -> None:
    written = write_card(bundle)
    first = written.read_bytes()
    assert write_card(bundle).read_bytes() == first
    text = first.decode()
    assert text.startswith("---\nlibrary_name: morphogen\ntags:\n- rbm\n- image\n---\n")
    config = json.loads((bundle / "config.json").read_text())
    assert config["data"]["digest"] in text
    assert "| family.num_hidden |" in text
    assert "5 steps" in text
    assert "Not evaluated: `morphogen evaluate .` would." in text
    assert str(bundle.parent) not in text  # no machine's paths


def test_scores_stand_in_it_with_interval_and_floor(bundle: Path) -> None:
    file = bundle / "metrics.json"
    before = file.read_text()
    score = {"value": 2.5, "n": 50, "low": 2.0, "high": 3.0, "interval": "x", "floor": 1.25}
    record = {
        "scores": {"frechet": {**score, "higher_is_better": False}},
        "protocol": {"seed": 0},
        "copying": {"verdict": "copies", "reason": "three items are replayed"},
        "warnings": ["n is small"],
    }
    file.write_text(json.dumps({"evaluation": record}))
    try:
        text = card(bundle)
    finally:
        file.write_text(before)
    assert "| frechet | 2.5 | 2 to 3 | 1.25 | low | 50 |  |" in text
    assert "Copying: **copies**. three items are replayed." in text
    assert "- n is small" in text


def test_tags_of_the_data_stand_in_it(bundle: Path) -> None:
    file = bundle / "config.json"
    before = file.read_text()
    config = json.loads(before)
    config["data"]["tags"] = {"licence": {"CC0": 50, "CC-BY-4.0": 10}}
    file.write_text(json.dumps(config))
    try:
        text = card(bundle)
    finally:
        file.write_text(before)
    assert "| licence of items | CC0 (50), CC-BY-4.0 (10) |" in text


def test_the_origin_of_others_weights_stands_in_it(bundle: Path, tmp_path: Path) -> None:
    opened = Bundle.open(bundle)
    opened.origin = {"source": "tiny", "licence": "mit", "files": {"m.gguf": "0" * 64}}
    text = card(opened.save(tmp_path / "imported"))
    assert Bundle.open(tmp_path / "imported").origin == opened.origin
    assert "## Origin" in text
    assert "| licence | `mit` |" in text
    assert "0" * 64 in text
    assert "## Origin" not in card(bundle)
    config = json.loads((tmp_path / "imported" / "config.json").read_text())
    config["origin"]["licence"] = 3
    (tmp_path / "imported" / "config.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match=r"origin\.licence"):
        Bundle.open(tmp_path / "imported")


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        write_card(tmp_path)


def test_names_from_outside_do_nothing_in_a_card(bundle: Path) -> None:
    """Class names and notes come from folders that anybody may have named."""
    file = bundle / "metrics.json"
    before = file.read_text()
    evil = "<script>alert(1)</script> **x** [a](javascript:b)\x1b[31m | `c`"
    score = {"value": 1.0, "n": 3, "note": evil}
    record = {"scores": {evil: score}, "protocol": {evil: evil}, "warnings": [evil]}
    alarm = {"step": 1, "kind": evil, "message": evil}
    try:
        file.write_text(json.dumps({"evaluation": record, "alarms": [alarm]}))
        text = card(bundle)
    finally:
        file.write_text(before)
    outside_code = re.sub("`[^`]*`", "", text.replace("\\`", ""))
    assert "<script>" not in outside_code
    assert "[a](" not in outside_code
    assert "\x1b" not in text
