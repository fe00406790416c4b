"""Items of several parts as one sequence: each part in its place, any of them drawn, all of it kept
in a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import morphogen as mg
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item, Report
from morphogen.core.codec_storage import codec_tensors, describe_codec, rebuild_codec
from morphogen.core.errors import DataError, RefusedPair
from morphogen.core.following import GAP
from morphogen.core.random import generator
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.spec import Run, TensorSpec
from morphogen.modalities.image import Image
from morphogen.modalities.interleaved import Interleaved

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220)}
SMALL = {"name": "mlp", "model_dim": 8, "num_layers": 1}
CAUSAL = {"name": "transformer", "model_dim": 16, "num_layers": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty squares with captions, the first without its picture, the second without a caption;
    and a bundle that gives pictures their codes, untrained."""
    root = tmp_path_factory.mktemp("told")
    (root / "images").mkdir()
    rows, pictures = [], []
    for number in range(30):
        name = list(COLOURS)[number % 3]
        pixels = np.random.default_rng(number).integers(90, 160, (8, 8, 3), dtype=np.uint8)
        pixels[2:6, 2:6] = COLOURS[name]
        pictures.append(Pillow.fromarray(pixels))
        pictures[-1].save(root / "images" / f"{number}.png")
        rows.append({"file": f"{number}.png", "caption": f"a {name} square"})
    rows[0]["file"], rows[1]["caption"] = "", ""
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (root / "asked.jsonl").write_text(
        '{"file": "?", "caption": "a red square"}\n{"file": "2.png", "caption": "?"}\n'
    )
    codec = Image()
    codec.fit(Item(each) for each in pictures)
    torch.manual_seed(0)
    for name in ("vq_vae", "autoencoder"):
        recipe = Recipe(family={"name": name}, backbone=SMALL)
        Bundle(build_family(recipe, codec.spec, {}), codec, recipe).save(root / name)
    return root


@pytest.fixture(scope="module")
def codec(folder: Path) -> Interleaved:
    made = Interleaved(coders=str(folder / "vq_vae"))
    return made.fit(made.read(folder / "metadata.jsonl", Report("")))


def items(codec: Interleaved, folder: Path) -> list[Item]:
    return list(codec.read(folder / "metadata.jsonl", Report("")))


def test_each_part_has_its_place_and_its_tokens(codec: Interleaved, folder: Path) -> None:
    assert list(codec.kinds.items()) == [("file", "image"), ("caption", "text")]
    x = codec.encode_many(items(codec, folder))
    allowed = codec.spec.allowed
    assert allowed is not None
    assert allowed[torch.arange(x.shape[1]), x].all()
    assert codec.there(x, "file").tolist() == [False, *[True] * 29]
    assert codec.there(x, "caption").tolist() == [True, False, *[True] * 28]
    back = codec.decode_many(x)
    assert list(back[0]) == ["caption"]
    assert list(back[1]) == ["file"]
    assert back[2]["caption"] == "a blue square"
    assert back[2]["file"].size == (8, 8)
    # What is absent counts for nothing: two marks and the tokens of what is there.
    text = 1 + len(codec.coders["text"].tokenizer.encode(b"a red square"))
    assert codec.num_units(x)[0] == 2 + text
    assert codec.num_units(x)[1] == 2 + codec.coders["image"].spec.shape[0]


def test_it_goes_into_a_bundle_with_what_gives_codes(codec: Interleaved, folder: Path) -> None:
    entry = json.loads(json.dumps(describe_codec(codec)))
    assert str(folder) not in json.dumps(entry)  # where the coder lay is nobody's business
    again = rebuild_codec(entry, codec_tensors(codec))
    x = codec.encode_many(items(codec, folder))
    assert torch.equal(again.encode_many(items(codec, folder)), x)


def test_a_question_mark_is_drawn_and_the_rest_is_kept(codec: Interleaved, folder: Path) -> None:
    asked = codec.read_inputs(folder / "asked.jsonl")
    assert asked[0].value["file"] is GAP
    known = torch.stack([codec.known(item) for item in asked])
    names = codec.spec.names
    assert [name for name, there in zip(names, known[0], strict=True) if not there] == [
        "file"
    ] * codec.coders["image"].spec.shape[0]
    assert known[1, : -codec.coders["text"].spec.shape[0]].all()
    x = codec.encode_many(asked)
    for family in ("masked", "autoregressive"):
        recipe = Recipe(family={"name": family}, backbone=CAUSAL)
        model = build_family(recipe, codec.spec, {})
        drawn = model.fill(x, known, generator=generator(0))
        assert torch.equal(drawn[known], x[known])
        assert not torch.equal(drawn, x)
        filled = codec.filled(asked, drawn[:, None])
        assert filled[0]["caption"] == "a red square"
        assert filled[0]["file"].size == (8, 8)
        assert isinstance(filled[1]["caption"], str)
        assert filled[1]["file"] is asked[1].value["file"]


def test_the_whole_road(folder: Path, tmp_path: Path) -> None:
    settings = ["backbone.model_dim=16", "backbone.num_layers=1", "train.num_previews=1"]
    data = mg.load(folder / "metadata.jsonl", "interleaved", coders=str(folder / "vq_vae"))
    mg.train(data, "masked", budget="2steps", out=tmp_path / "told", settings=settings)
    asked = folder / "asked.jsonl"
    opened = mg.open(tmp_path / "told")
    made = opened.task("fill", asked, seed=0, num=2)
    assert [sorted(row) for row in made.items] == [["caption", "file"]] * 4
    written = made.save(tmp_path / "made.jsonl")
    rows = [json.loads(line) for line in written.read_text().splitlines()]
    assert rows[0]["caption"] == "a red square"
    assert (tmp_path / rows[0]["file"]).exists()
    assert "a red square" in made.save(tmp_path / "made.html").read_text()
    lines = map(json.loads, (tmp_path / "told" / "log.jsonl").read_text().splitlines())
    assert all(line["caption"] > 0 for line in lines if "loss" in line)  # bits a token of a part


def test_a_caption_that_is_called_as_a_file_is_a_text(folder: Path) -> None:
    (folder / "called.jsonl").write_text(
        '{"file": "7.png", "caption": "8"}\n{"file": "8.png", "caption": "7"}\n'
    )
    codec = Interleaved(coders=str(folder / "vq_vae"))
    read = list(codec.read(folder / "called.jsonl", Report("")))
    assert [item.value["caption"] for item in read] == ["8", "7"]
    assert [item.value["file"].shape for item in read] == [(8, 8, 3)] * 2


def test_what_does_not_fit_is_told(folder: Path, tmp_path: Path) -> None:
    def read(name: str, **options: str) -> list[Item]:
        codec = Interleaved(**options)
        return codec.fit(list(codec.read(folder / name, Report("")))).read_inputs(folder / name)

    with pytest.raises(RefusedPair, match="nothing gives tokens to what stands in 'file'"):
        read("metadata.jsonl")
    with pytest.raises(RefusedPair, match="are no tokens"):
        read("metadata.jsonl", coders=str(folder / "autoencoder"))
    with pytest.raises(RefusedPair, match="two bundles"):
        read("metadata.jsonl", coders=f"{folder / 'vq_vae'},{folder / 'vq_vae'}")
    with pytest.raises(DataError, match=r"called 'captoin'.*caption"):
        read("metadata.jsonl", coders=str(folder / "vq_vae"), parts="file,captoin")
    with pytest.raises(DataError, match="two columns or more"):
        read("metadata.jsonl", coders=str(folder / "vq_vae"), parts="caption")
    (folder / "gone.jsonl").write_text('{"file": "0.png", "caption": "a"}\n' * 2
                                       + '{"file": "99.png", "caption": "b"}\n')  # fmt: skip
    with pytest.raises(DataError, match=r"does not exist: 99.png"):
        read("gone.jsonl", coders=str(folder / "vq_vae"))


def test_runs_cover_a_sequence_and_come_back_from_json() -> None:
    spec = TensorSpec.interleaved([Run("a", 1, 0, 2), Run("b", 2, 2, 3)])
    assert (spec.shape, spec.vocab_size, spec.names) == ((3,), 5, ("a", "b", "b"))
    assert TensorSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert spec.allowed.sum(1).tolist() == [2, 3, 3]
    with pytest.raises(ValueError, match="each position once"):
        TensorSpec("token", (4,), 5, layout="sequence", runs=spec.runs)
    with pytest.raises(ValueError, match="none of 4"):
        TensorSpec("token", (3,), 4, layout="sequence", runs=spec.runs)
