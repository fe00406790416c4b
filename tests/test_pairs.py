"""Pairs of items of two kinds: read from either side, divided whole, learned, judged."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.codec import Codec, Item
from morphogen.core.codec_storage import codec_tensors, describe_codec, rebuild_codec
from morphogen.core.errors import DataError, RecipeError, RefusedPair
from morphogen.core.family import Family
from morphogen.core.matching import Matcher
from morphogen.core.metric import Aligned
from morphogen.core.random import generator, randint
from morphogen.core.recipe import Recipe, build_family, resolve
from morphogen.core.spec import TensorSpec
from morphogen.data import conditions as encoding_said
from morphogen.data import halves
from morphogen.data.dataset import Data, load
from morphogen.data.duplicates import find_duplicates
from morphogen.data.inspect import inspect
from morphogen.evaluation import alignment as judging
from morphogen.evaluation.alignment import aligned, can_be_aligned, pair_judge
from morphogen.evaluation.asked import encoded_for
from morphogen.metrics.alignment import alignment
from morphogen.modalities.category import Category
from morphogen.modalities.text import Text
from morphogen.serve.worker.model import Model
from morphogen.serve.worker.results import conditions
from morphogen.tasks._best import agreement
from morphogen.tasks.generate import generate
from morphogen.testing.oracles import Oracle
from morphogen.wrappers.encoder_codec import EncoderCodec
from morphogen.wrappers.latent_codec import LatentCodec

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220)}
NUM = 60
GROUND = "before a ground of many greys, as all of them are"


def picture(number: int) -> tuple[str, Pillow.Image]:
    """A square of a colour somewhere on grey, and what it shows."""
    draw = np.random.default_rng(number)
    name = list(COLOURS)[number % 3]
    pixels = draw.integers(90, 160, (8, 8, 3), dtype=np.uint8)
    top, left = draw.integers(0, 4, 2)
    pixels[top : top + 4, left : left + 4] = COLOURS[name]
    return f"a {name} square number {number}", Pillow.fromarray(pixels)


def table(folder: Path, rows: list[tuple[str, str]]) -> None:
    lines = ["file,caption", *(f'{file},"{caption}"' for file, caption in rows)]
    (folder / "captions.csv").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty pictures of which every sixth has two captions; then one without a caption, one with
    an empty one, and a caption without a picture."""
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "images").mkdir()
    rows = []
    for number in range(NUM):
        caption, shown = picture(number)
        shown.save(folder / "images" / f"{number:02d}.png")
        rows.append((f"images/{number:02d}.png", caption))
        if number % 6 == 0:
            rows.append((f"images/{number:02d}.png", f"{caption}, told again"))
    for name in ("alone", "silent"):
        picture(100 + len(name))[1].save(folder / "images" / f"{name}.png")
    table(folder, [*rows, ("images/silent.png", " "), ("images/lost.png", "nothing to see")])
    (folder / "README.md").write_text("Squares.\n")
    return folder


def captions_of(data: Data, name: str = "caption") -> list[tuple[str, str]]:
    reader = data.codec.condition_codecs[name]
    found = []
    for split in (data.train, data.test):
        texts = reader.decode_many(split.cond[name].clamp(min=0))
        found += list(zip(split.names, texts, strict=True))
    return found


# -- read ------------------------------------------------------------------------------------------


def test_pictures_with_captions(pairs: Path) -> None:
    data = load(pairs, conditions="caption")
    told = captions_of(data)
    assert len(told) == NUM + 10 + 2
    known = dict(told)
    assert known["images/06.png"] == "a red square number 6"
    assert known["images/06.png#caption 2"] == "a red square number 6, told again"
    absent = torch.cat([data.train.cond["caption"], data.test.cond["caption"]])[:, 0] < 0
    assert int(absent.sum()) == 2
    reasons = " ".join(problem.reason for problem in data.report.problems)
    assert "1 pictures have no row in it: images/alone.png" in reasons
    assert "the file does not exist: images/lost.png" in reasons
    assert (
        "2 of" in data.report.facts["caption_absent"]
        or "1 of" in data.report.facts["caption_absent"]
    )


def test_captions_with_pictures(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(codec: Codec, value: Any) -> Any:
        read.append(value.name)
        return halves.opened(codec, value)

    monkeypatch.setattr(encoding_said, "opened", counted)
    data = load(pairs, "text", conditions="image")
    assert len(read) == len(set(read)) == NUM, "a picture of two captions is read once"
    batches = [split.batch(torch.arange(len(split))) for split in (data.train, data.test)]
    texts = [text for batch in batches for text in data.codec.decode_many(batch.x)]
    seen = torch.cat([batch.cond["image"] for batch in batches])
    assert len(texts) == NUM + 10 + 1
    reader = data.codec.condition_codecs["image"]
    assert reader.spec.shape == (3, 8, 8)
    for text, x in zip(texts, seen, strict=True):
        if "number" in text:
            number = int(text.split("number ")[1].split(",")[0])
            assert np.array_equal(np.asarray(reader.decode(x)), np.asarray(picture(number)[1]))
        else:
            assert bool(x.isnan().all())
    sent = io.BytesIO()
    picture(3)[1].save(sent, "PNG")
    told = {"file": base64.b64encode(sent.getvalue()).decode(), "suffix": ".png"}
    given = conditions(data.codec, {"image": told})["image"]  # as a server is sent it
    assert np.array_equal(np.asarray(given), np.asarray(picture(3)[1]))
    with pytest.raises(DataError, match="base64"):
        conditions(data.codec, {"image": {**told, "file": "no"}})
    reasons = " ".join(problem.reason for problem in data.report.problems)
    assert "2 files have no text: images/alone.png, images/silent.png" in reasons
    assert "the file does not exist: images/lost.png" in reasons
    assert "an empty caption" in reasons
    assert "no half of the pairs here: README.md" in reasons


@pytest.mark.parametrize("modality", ["image", "text"])
def test_what_is_of_one_picture_stays_on_one_side(pairs: Path, modality: str) -> None:
    condition = "caption" if modality == "image" else "image"
    data = load(pairs, modality, conditions=condition)
    sides: dict[str, set[str]] = {}
    for side, split in (("train", data.train), ("test", data.test)):
        batch = split.batch(torch.arange(len(split)))
        texts = batch.cond["caption"] if modality == "image" else batch.x
        reader = data.codec.condition_codecs["caption"] if modality == "image" else data.codec
        for text in reader.decode_many(texts.clamp(min=0)):
            sides.setdefault(text.removesuffix(", told again"), set()).add(side)
    assert all(len(each) == 1 for name, each in sides.items() if "number" in name)
    assert {"train"} in sides.values()
    assert {"test"} in sides.values()


def test_several_captions_are_no_copies(pairs: Path) -> None:
    found = inspect(pairs, conditions="caption")
    assert found.error is None
    assert not [problem for problem in found.problems if "exact copies" in problem.reason]
    assert "70 of 72 pictures have captions" in found.facts["captions"]
    assert found.next_command.startswith(f"morphogen train {pairs} --condition caption")
    assert find_duplicates(pairs, near=False).leave_out == []
    told = inspect(pairs, "text", conditions="image").text()
    assert "70 of 71 items have a file" in told


def test_files_of_one_name_lists_and_archives(tmp_path: Path) -> None:
    beside, packed = tmp_path / "beside", tmp_path / "packed.tar"
    beside.mkdir()
    with tarfile.open(packed, "w") as archive:
        for number in range(12):
            caption, shown = picture(number)
            shown.save(beside / f"{number}.png")
            (beside / f"{number}.txt").write_text(caption)
            for name in (f"{number}.png", f"{number}.txt"):
                archive.add(beside / name, name)
        rows = io.BytesIO(b"")
        archive.addfile(tarfile.TarInfo("empty.png"), rows)
    for source in (beside, packed):
        pictures = load(source, "image", conditions="caption")
        texts = load(source, "text", conditions="image")
        assert {name for name, _ in captions_of(pictures)} == {f"{n}.png" for n in range(12)}
        assert not bool(texts.train.cond["image"].isnan().any())
        assert len(texts.train) + len(texts.test) == 12
    lines = [
        {"file_name": f"{n}.png", "text": [picture(n)[0], f"number {n} it is"]} for n in range(12)
    ]
    for number in range(12):
        (beside / f"{number}.txt").unlink()
    (beside / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert len(captions_of(load(beside, "image", conditions="caption"))) == 24
    texts = load(beside, "text", conditions="image")
    assert len(texts.train) + len(texts.test) == 24
    assert not bool(texts.train.cond["image"].isnan().any())


def test_masks_are_said_of_the_pictures_beside_them(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(12):
        shown = picture(number)[1]
        shown.save(tmp_path / "images" / f"{number}.png")
        shown.convert("L").point(lambda v: 255 * (v > 120)).save(
            tmp_path / "masks" / f"{number}.png"
        )
    data = load(tmp_path, conditions="masks")
    reader = data.codec.condition_codecs["masks"]
    assert len(data.train) + len(data.test) == 12
    for name, x in zip(data.train.names, data.train.cond["masks"], strict=True):
        mask = Pillow.open(tmp_path / name.replace("images", "masks"))
        assert np.array_equal(np.asarray(reader.decode(x)), np.asarray(mask))
    assert load(tmp_path).conditions == {}


# -- bad input -------------------------------------------------------------------------------------


def told_of(folder: Path, captions: list[str]) -> Path:
    for number, _ in enumerate(captions):
        picture(number)[1].save(folder / f"{number}.png")
    table(folder, [(f"{number}.png", caption) for number, caption in enumerate(captions)])
    return folder


def test_one_caption_for_all(tmp_path: Path) -> None:
    found = inspect(told_of(tmp_path, ["a square"] * 12), conditions="caption")
    assert "items have the same caption, 'a square': it tells nothing" in found.text()


def test_few_sentences_of_the_same_words_are_read_as_texts(tmp_path: Path) -> None:
    """What was never said together can be asked for; names of few words stay classes."""
    told = [f"a {shade} {thing}" for shade in ("dark", "light") for thing in ("boot", "bag", "hat")]
    data = load(told_of(tmp_path, told * 12), conditions="caption")
    assert data.conditions["caption"].space == (8,)  # words and an end: 12 letters would need 16
    assert {text for _, text in captions_of(data)} == set(told)
    data.codec.encode_condition("caption", "a dark boat")
    assert Category.recognises_cells(["ankle boot", "bag", "shirt"] * 9).sure > 0.7
    assert Category.recognises_cells(["a b c", "d e f"] * 9).sure > 0.7  # all words once


def test_pictures_without_words_and_words_without_pictures(tmp_path: Path) -> None:
    folder = told_of(tmp_path, [""] * 12)
    with pytest.raises(DataError, match="nothing called 'caption' is said of the items"):
        load(folder, conditions="caption")
    (folder / "captions.csv").unlink()
    texts = folder / "words"
    texts.mkdir()
    (texts / "a.txt").write_text("one line\nand another\n" * 9)
    with pytest.raises(DataError, match="nothing called 'image' is said of the items"):
        load(texts, "text", conditions="image", per="line")


def test_long_captions_and_other_scripts(tmp_path: Path) -> None:
    captions = [f"квадрат {n} 正方形" for n in range(11)] + ["very " * 3000]
    data = load(told_of(tmp_path, captions), conditions="caption")
    known = dict(captions_of(data))
    assert known["3.png"] == "квадрат 3 正方形"
    cut = [problem for problem in data.report.problems if problem.name == "caption"]
    assert "1 of" in cut[0].reason
    assert "the rest of each is left out" in cut[0].reason


def test_a_damaged_half_is_named_and_left_out(tmp_path: Path) -> None:
    folder = told_of(tmp_path, [f"square {n}" for n in range(12)])
    (folder / "7.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    data = load(folder, "text", conditions="image")
    (problem,) = data.report.skipped
    assert "its 7.png: " in problem.reason
    assert len(data.train) + len(data.test) == 11


def test_damaged_shards_are_named_and_the_others_read(tmp_path: Path) -> None:
    """One cut off between two files, one that is no archive, one with a damaged picture."""
    for shard in range(3):
        with tarfile.open(tmp_path / f"train-{shard:06d}.tar", "w") as archive:
            for number in range(shard * 20, shard * 20 + 20):
                caption, value = picture(number)
                value.save(stream := io.BytesIO(), "PNG")
                content = b"no picture" if number == 7 else stream.getvalue()
                for suffix, data in (("png", content), ("txt", caption.encode())):
                    info = tarfile.TarInfo(f"{number:04d}.{suffix}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    cut = tmp_path / "train-000001.tar"
    cut.write_bytes(cut.read_bytes()[: 10 * 2048 + 100])  # ten pairs, and some of a header
    (tmp_path / "train-000002.tar").write_bytes(b"no archive")
    for modality, condition in (("image", "caption"), ("text", "image")):
        data = load(tmp_path, modality, conditions=condition)
        assert len(data.train) + len(data.test) == 19 + 10
        named = {Path(problem.name).stem: problem.reason for problem in data.report.skipped}
        assert set(named) == {"0007", "train-000001", "train-000002"}
        assert "what came after is not read" in named["train-000001"]
        assert "damaged" in named["train-000002"]
    for number in (0, 1):
        (tmp_path / f"train-{number:06d}.tar").write_bytes(b"no archive")
    with pytest.raises(DataError, match="damaged or cut short"):
        load(tmp_path, "image", conditions="caption")


@pytest.mark.parametrize("cut_in", ["png", "txt"])
def test_a_shard_that_ends_within_a_file_is_named_and_the_rest_read(
    tmp_path: Path, cut_in: str
) -> None:
    for first in (0, 12):
        shard = tmp_path / f"train-{first:06d}.tar"
        with tarfile.open(shard, "w") as archive:
            for number in range(first, first + 12):
                caption, value = picture(number)
                value.save(stream := io.BytesIO(), "PNG")
                for suffix, data in (("png", stream.getvalue()), ("txt", caption.encode())):
                    info = tarfile.TarInfo(f"{number:04d}.{suffix}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    with tarfile.open(shard) as archive:
        ends = {member.name: member.offset_data + 3 for member in archive}
    shard.write_bytes(shard.read_bytes()[: ends[f"0020.{cut_in}"]])
    for modality, condition in (("image", "caption"), ("text", "image")):
        data = load(tmp_path, modality, conditions=condition)
        named = {problem.name: problem.reason for problem in data.report.skipped}
        assert "what stands after that is not read" in named["train-000012.tar"]
        assert 20 <= len(data.train) + len(data.test) <= 21


def test_what_is_asked_for_in_words_is_said_or_refused_and_never_cut(pairs: Path) -> None:
    data = load(pairs, conditions="caption")
    model = Oracle(data.spec, data.conditions)
    bundle = Bundle(model, data.codec, Recipe())

    def asked(prompt: Any) -> Tensor:
        return bundle.conditions(1, {"caption": prompt}, generator(0), drawn=False)["caption"]

    assert torch.equal(asked(" "), asked(None))
    for strange in ("zxqv", "крас", "🍎"):  # names nothing known: other tokens, and no failure
        assert not torch.equal(asked(strange), asked(None))
    reader: Any = data.codec.condition_codecs["caption"]
    longer = (" ".join(["red"] * num) for num in range(1, 99))
    with pytest.warns(UserWarning, match="is not read"):  # the first that is too long
        asked(next(t for t in longer if len(reader.encode_stream(Item(t))) > reader.spec.shape[0]))
    with pytest.raises(DataError, match="longer than what the model has learned") as error:
        asked("red " * 5000)
    assert "tokens" in str(error.value)
    with pytest.raises(DataError, match="no text"):
        asked(5)


def test_codes_of_pictures_alone_are_learned_with_what_is_said_of_them(pairs: Path) -> None:
    plain, told = (load(pairs, conditions=said) for said in ("none", "caption"))
    recipe = Recipe(family={"name": "autoencoder", "latent_dim": 3}, backbone={"name": "mlp"})
    model = build_family(recipe, plain.spec, {})
    first = Bundle(model.eval(), plain.codec, resolve(recipe, plain.spec))
    codes = told.through(LatentCodec.from_bundle(first))
    assert codes.conditions == told.conditions
    assert torch.equal(codes.train.cond["caption"], told.train.cond["caption"])


# -- frozen encoders -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked model of bytes, untrained but far from nothing."""
    codec = Text(length=40)
    codec.fit([Item("a red square number 1"), Item("x" * 38)])
    recipe = Recipe(
        family={"name": "masked"},
        backbone={"name": "token_transformer", "model_dim": 16, "num_layers": 1, "num_heads": 2},
    )
    torch.manual_seed(0)
    family = build_family(recipe, codec.spec, {})
    out = tmp_path_factory.mktemp("encoder") / "bundle"
    Bundle(family.eval(), codec, resolve(recipe, codec.spec)).save(out)
    return out


def test_a_frozen_encoder_reads_captions(pairs: Path, encoder: Path) -> None:
    data = load(pairs, conditions=f"caption={encoder}")
    reader = data.codec.condition_codecs["caption"]
    assert isinstance(reader, EncoderCodec)
    assert reader.spec == TensorSpec("real", (16, 1 + 35), layout="sequence")
    bundle = Bundle.open(encoder)
    x = bundle.encode(Item("a red square number 6"))
    encoded = reader.encode(Item("a red square number 6"))
    states, real = bundle.family.position_features(x)
    told = encoded[:, 1:].T * reader.spread_of[1] + reader.mean[:, 1]
    torch.testing.assert_close(told[: int(real.sum())], states[0][real[0]], atol=1e-4, rtol=1e-4)
    assert not bool(encoded[:, 1 + int(real.sum()) :].any())
    pooled = encoded[:, 0] * reader.spread_of[0] + reader.mean[:, 0]
    torch.testing.assert_close(pooled, bundle.family.features(x)[0], atol=1e-4, rtol=1e-4)
    with pytest.raises(RefusedPair, match="cannot be told again"):
        reader.decode(encoded)


def test_what_one_frozen_reader_made_another_has_as_well(pairs: Path, encoder: Path) -> None:
    """Two models of pairs, one of which judges what the other draws, read by one encoder."""
    captions = [f"a {name} square number {n}" for n, name in enumerate(COLOURS)]
    first, second = (
        EncoderCodec.of(Bundle.open(encoder)).fit([Item(text) for text in texts])
        for texts in ([*captions, "a much longer caption of some words"], captions)
    )
    assert first.spec != second.spec
    items = [Item(text) for text in captions]
    for own, other in ((first, second), (second, first)):
        again = own.reread(other.encode_many(items), other)
        torch.testing.assert_close(again, own.encode_many(items), atol=1e-4, rtol=1e-4)
    assert first.reread(first.encode_many(items), Text()) is None


def test_a_bundle_keeps_its_encoder_whole(pairs: Path, encoder: Path, tmp_path: Path) -> None:
    data = load(pairs, conditions=f"caption={encoder}")
    kept = rebuild_codec(describe_codec(data.codec), codec_tensors(data.codec))
    caption = "a blue square number 8"
    both = (each.encode_condition("caption", caption) for each in (data.codec, kept))
    assert torch.equal(*both)
    recipe = Recipe(
        family={"name": "flow_matching", "cond_dim": 16},
        backbone={"name": "unet", "model_dim": 8, "num_mid_blocks": 1},
    )
    family = build_family(recipe, data.spec, data.conditions)
    bundle = Bundle(family.eval(), kept, resolve(recipe, data.spec))
    path = bundle.save(tmp_path / "bundle")
    opened = Bundle.open(path)
    asked = {"caption": [caption, "a red square"]}
    first, again = (
        each.sample(2, seed=1, cond=asked, num_steps=2, guidance=2.0).x for each in (bundle, opened)
    )
    assert torch.equal(first, again)
    assert Model(opened, {"batch": 2}).about()["conditions"] == {"caption": "text"}  # a field of it
    values = encoded_for(opened, data, "caption")
    assert values is data.test.cond["caption"]
    x = data.test.batch(torch.arange(1)).x
    for task in ("vary", "fill"):
        given = {"cond": {"caption": caption}, "num": 1, "num_steps": 2, "guidance": 3.0}
        plain = opened.task(task, x, **given).x
        away = opened.task(task, x, **given, negative="a red square").x
        assert plain.shape == away.shape == (2, 3, 8, 8)


def test_what_reads_nothing_is_refused(pairs: Path, encoder: Path, tmp_path: Path) -> None:
    data = load(pairs)
    recipe = Recipe(family={"name": "flow_matching"}, backbone={"name": "unet", "model_dim": 8})
    family = build_family(recipe, data.spec, {})
    path = Bundle(family, data.codec, resolve(recipe, data.spec)).save(tmp_path / "flow")
    with pytest.raises(RefusedPair, match="reads nothing"):
        load(pairs, conditions=f"caption={path}")


# -- judged ----------------------------------------------------------------------------------------


def test_scores_of_vectors_that_are_known() -> None:
    eye = torch.eye(12)
    off = torch.nn.functional.normalize(eye + 2 * eye.roll(1, 0), dim=1)  # nearer to the next
    found = alignment(Aligned(off, eye, eye, eye), generator=generator(0))
    assert found["asked_first"] == 0.0
    assert found["asked_in_ten"] == 1.0
    assert found["likeness"] == pytest.approx(100 / 5**0.5, rel=1e-5)
    best = alignment(Aligned(off, eye, eye, eye).floor(), generator=generator(0))
    assert best == {"asked_first": 1.0, "asked_in_ten": 1.0, "likeness": pytest.approx(100.0)}
    same = Aligned(eye[:1].expand(12, 12), eye[:1].expand(12, 12), None, eye)
    assert alignment(same, generator=generator(0))["asked_first"] == 1.0


def test_a_judge_of_pairs_tells_what_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Squares of three colours, whose captions say the colour alone: real pictures are found, and
    pictures of other captions are not."""
    monkeypatch.setattr(judging, "MOST_STEPS", 24)
    folder = told_of(tmp_path, [f"{list(COLOURS)[n % 3]} square {GROUND}" for n in range(72)])
    data = load(folder, conditions="caption")
    assert can_be_aligned(data) is None
    judge = pair_judge(data)
    assert judge.num == 3
    assert judge.found > 0.7
    asked, x = data.test.cond["caption"], data.test.batch(torch.arange(len(data.test))).x
    sets = aligned(judge, x, {"caption": asked}, data, generator(0))
    right = alignment(sets, generator=generator(0))["asked_first"]
    known, place = torch.unique(asked, dim=0, return_inverse=True)
    other = aligned(judge, x, {"caption": known[(place + 1) % len(known)]}, data, generator(0))
    assert right > 0.7
    assert alignment(other, generator=generator(0))["asked_first"] < 0.3
    assert pair_judge(data).weights_hash == judge.weights_hash
    check_it_classifies(judge.family, data)
    check_the_best_of_several_is_kept(judge.family, data)
    assert "of another kind" in str(can_be_aligned(load(folder)))


def test_of_several_texts_the_one_they_agree_on_is_kept() -> None:
    """Not the likeliest, which has no word of the others, but one of least expected error."""
    spec = TensorSpec.tokens(3, 6, end=5)
    texts = torch.tensor([[1, 2, 5], [1, 3, 5], [4, 5, 2], [5, 0, 0]])
    agreed = agreement(spec.canonical(texts), spec)
    torch.testing.assert_close(agreed, torch.tensor([1.5, 1.5, 1.0, 0.0]) / 4)

    class Says(Oracle):
        def sample(self, num: int, *, cond: Any = None, generator: torch.Generator) -> Tensor:
            shares = torch.tensor([0.3, 0.3, 0.4])
            return texts[torch.multinomial(shares, num, replacement=True, generator=generator)]

    drawn = generate(Says(spec, {}), generator=generator(0), num=3, best_of=2_000)
    assert bool((drawn.x[:, 0] == 1).all())
    assert drawn.route == "sample, best of 2000"
    assert len(generate(Says(spec, {}), generator=generator(0), num=3).x) == 3


def test_a_judge_reads_texts_by_its_own_words() -> None:
    """Of two vocabularies of one size, each has tokens of its own."""
    told = (["red square", "green square"] * 9, ["seven circles", "eleven circles"] * 9)
    own, other = (
        Text(length=24, tokenizer="bpe", vocab_size=262).fit(map(Item, texts)) for texts in told
    )
    assert own.spec == other.spec
    own.condition_codecs["label"] = other.condition_codecs["label"] = Category().fit(
        [Item("a"), Item("b")]
    )
    recipe = Recipe(family={"name": "contrastive"}, backbone={"name": "bag", "model_dim": 8})
    family: Any = build_family(recipe, own.spec, own.conditions)
    judge = Matcher(Bundle(family.eval(), own, recipe), other)
    item = Item("red circles")
    found = judge.encode(other.encode(item)[None])
    torch.testing.assert_close(found, family.encode(own.encode(item)[None]))
    assert not torch.equal(own.encode(item), other.encode(item))


def check_it_classifies(family: Family, data: Data) -> None:
    """Classes that are given by sentences, none of which was a class before."""
    bundle = Bundle(family, data.codec, Recipe())
    x = data.test.batch(torch.arange(len(data.test))).x
    named = {"classes": list(COLOURS), "template": "{} square " + GROUND}
    found = bundle.task("classify", x, **named).values["class"]
    told = data.codec.condition_codecs["caption"].decode_many(data.test.cond["caption"])
    own = [caption.split()[0] for caption in told]
    assert np.mean([a == b for a, b in zip(found, own, strict=True)]) > 0.7
    with pytest.raises(RecipeError, match="name the classes"):
        bundle.task("classify", x)


def check_the_best_of_several_is_kept(family: Family, data: Data) -> None:
    """Of a model that draws any picture whatever is asked for, the judge keeps what was."""

    class DrawsAny(Oracle):
        def sample(self, num: int, *, cond: Any = None, generator: torch.Generator) -> Tensor:
            return data.train.batch(randint(len(data.train), (num,), generator)).x

    judge = Bundle(family, data.codec, Recipe())
    asked = {"caption": f"red square {GROUND}"}
    model = DrawsAny(data.spec, data.conditions)
    near = {}
    for best_of in (1, 8):
        bundle = Bundle(model, data.codec, Recipe(), judge=judge)
        x = bundle.sample(12, cond=asked, best_of=best_of).x
        told = bundle.conditions(1, asked, generator(0), drawn=False)
        near[best_of] = float((family.encode(x) @ family.encode_condition(told).T).mean())
    assert near[8] > near[1]
    with pytest.raises(RefusedPair, match="was not asked for"):
        Bundle(model, data.codec, Recipe(), judge=judge).sample(2)
    with pytest.raises(RecipeError, match="nobody says"):
        Bundle(model, data.codec, Recipe()).sample(2, best_of=3)
