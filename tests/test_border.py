"""What comes in from files is held against its shape, whole, before it is used."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from morphogen.core.border import (
    COUNT,
    LARGEST,
    REAL,
    SHA256,
    SIZE,
    check_shape,
    parse_json,
    read_json,
    read_lines,
    reading,
    unzipped,
)  # fmt: skip
from morphogen.core.bundle import Bundle
from morphogen.core.config import rebuild
from morphogen.core.errors import BundleError, DataError, RecipeError
from morphogen.core.storage import read_tensors
from morphogen.modalities.image import Image

SHAPE = {
    "version": COUNT,
    "files": {str: SHA256},
    "sizes?": [SIZE],
    "of": (None, {"parts": {str: REAL}}),
}
GOOD = {"version": 1, "files": {"a": "0" * 64}, "sizes": [1, 2], "of": {"parts": {"b": 0.5}}}


def test_what_has_the_shape_passes() -> None:
    check_shape(GOOD, SHAPE, "here")
    check_shape({**GOOD, "of": None, "more": object()}, SHAPE, "here")
    check_shape({k: v for k, v in GOOD.items() if k != "sizes"}, SHAPE, "here")


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"version": -1}, "version"), ({"version": True}, "version"), ({"version": "1"}, "version"),
        ({"version": 2**60}, "version"), ({"files": []}, "files"),
        ({"files": {"a": "x"}}, "files.a"),
        ({"sizes": [1, 0]}, r"sizes\[1\]"), ({"sizes": None}, "sizes"), ({"of": 3}, "of"),
        ({"of": {"parts": {"b": "x"}}}, r"of\.parts\.b"), ({"of": {}}, r"of\.parts"),
        ({"of": {"parts": {"b": float("nan")}}}, r"of\.parts\.b"),
    ],
)  # fmt: skip
def test_what_has_not_is_told_by_its_place(changed: dict[str, Any], place: str) -> None:
    with pytest.raises(BundleError, match=f"^{place} is not") as error:
        check_shape({**GOOD, **changed}, SHAPE, "here")
    assert "expected:" in str(error.value)
    assert len(str(error.value)) < 400


def test_what_lacks_a_name() -> None:
    with pytest.raises(BundleError, match=r"^version is not"):
        check_shape({k: v for k, v in GOOD.items() if k != "version"}, SHAPE, "here")


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, "[" * 500 + "]" * 500, "1" * 9000, '{"a": ["\\ud800"]}']
)
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(BundleError):
        parse_json(text, dict, "here")


def test_files_that_are_none_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    with pytest.raises(BundleError, match="missing"):
        read_json(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        read_json(file, error=DataError)
    with file.open("wb") as large:
        large.truncate(LARGEST + 1)
    with pytest.raises(BundleError, match="too large"):
        read_json(file)
    with pytest.raises(BundleError, match="too large"):
        unzipped(gzip.compress(b"0" * (LARGEST + 1)), "here")
    with pytest.raises(BundleError, match="damaged"):
        unzipped(b"none", "here")


def test_lines_that_were_cut_short_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_bytes(b'{"step": 1}\n{"step": -1}\n\xff\n[]\n{"step": 2}\n{"st')
    assert list(read_lines(file, {"step": COUNT})) == [{"step": 1}, {"step": 2}]
    assert list(read_lines(tmp_path / "none.jsonl")) == []


def test_what_cannot_be_built_is_one_plain_error() -> None:
    with (
        pytest.raises(BundleError, match="the codec is damaged") as error,
        reading("the codec"),
    ):
        {}["size"]
    assert isinstance(error.value.__cause__, KeyError)
    with pytest.raises(RecipeError), reading("the codec"):
        raise RecipeError("as it was")
    with pytest.raises(KeyboardInterrupt), reading("the codec"):
        raise KeyboardInterrupt


def config_of(**changed: Any) -> dict[str, Any]:
    spec = {"kind": "real", "shape": [3], "layout": "vector"}
    recipe = {
        "modality": {}, "family": {"name": "autoencoder"}, "train": {},
        "backbone": {"name": "mlp", "model_dim": 4, "num_layers": 1},
    }  # fmt: skip
    codec = {"axis": "modality", "name": "image", "state": {}}
    return {"spec": spec, "conditions": {}, "recipe": recipe, "codec": codec, **changed}


@pytest.mark.parametrize(
    "shape", [[-1], ["3"], [2**40], [1, 10**6, 10**6], "333", [[3]], [3.5], [True], None]
)
def test_absurd_shapes_are_refused_before_anything_is_built(shape: object) -> None:
    config = config_of(spec={"kind": "real", "shape": shape})
    with pytest.raises(BundleError):
        rebuild(config, {}, {})


@pytest.mark.parametrize("device", [True, ["cpu"], {}])
def test_a_device_is_named(device: object) -> None:
    config = config_of()
    config["recipe"]["train"] = {"device": device}
    with pytest.raises(BundleError, match=r"recipe\.train\.device"):
        rebuild(config, {}, {})


@pytest.mark.parametrize("white", ["x", 0, -3, 2.5, [16]])
def test_white_is_a_size(white: object) -> None:
    state = {"options": {}, "spec": {"kind": "real", "shape": [1, 8, 8]}, "white": white}
    with pytest.raises(BundleError, match="white"):
        Image.from_state(state, {})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from morphogen.data.dataset import Data
    from morphogen.training.run import train

    x = torch.randint(0, 255, (40, 8, 8), generator=torch.Generator().manual_seed(0))
    out = tmp_path_factory.mktemp("models") / "one"
    settings = ["train.num_previews=0", "backbone.name=mlp", "backbone.model_dim=8"]
    train(Data.from_tensors(x.byte()), "autoencoder", budget="1steps", out=out, settings=settings)
    return out


@pytest.mark.parametrize(
    ("option", "value"),
    [("model_dim", 1_000_000_000), ("num_layers", 1_000_000_000), ("model_dim", 16)],
)
def test_a_network_larger_than_its_weights_is_never_built(
    bundle: Path, option: str, value: int
) -> None:
    """The first would take 4 TB, the second all of the day."""
    file = bundle / "config.json"
    before = file.read_text()
    config = json.loads(before)
    config["recipe"]["backbone"][option] = value
    try:
        file.write_text(json.dumps(config))
        with pytest.raises(BundleError, match="weights do not fit the recipe"):
            Bundle.open(bundle)
    finally:
        file.write_text(before)
    assert Bundle.open(bundle).family is not None


def test_a_damaged_header_of_weights(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    for data in (
        b"",
        b"\xff" * 8,
        (2**40).to_bytes(8, "little") + b"{}",
        b"\2" + b"\0" * 7 + b"[]",
    ):
        file.write_bytes(data)
        with pytest.raises(BundleError, match="damaged"):
            read_tensors(file)
