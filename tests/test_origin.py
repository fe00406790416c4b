"""Where what was made comes from: credentials in files and beside them, and that a change of one is
told."""

from __future__ import annotations

import base64
import json
import os
import stat
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import morphogen as mg
from morphogen.cli.app import main
from morphogen.core.codec import Item, Report
from morphogen.core.errors import MorphogenError
from morphogen.core.provenance import SYNTHETIC
from morphogen.core.result import Result
from morphogen.data.dataset import Data
from morphogen.modalities.image import watermark as waves
from morphogen.modalities.sound.files import Waveform, write_sounds
from morphogen.modalities.text import Text
from morphogen.provenance import beside, inside
from morphogen.provenance.identity import Identity
from morphogen.provenance.said import said_by
from morphogen.provenance.signing import provenance_of, read, sign
from morphogen.records.whence import whence
from morphogen.serve.worker.results import told

SAYS = {"generator": "toy, generate, seed 0", "model_hash": "5f" * 32, "seed": "0"}
HAS_LIBRARY = inside.has_place(Path("x.png"))
needs_library = pytest.mark.skipif(not HAS_LIBRARY, reason="c2pa-python is not installed")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MORPHOGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "signing.json"
    Identity.new("Ann, at home", path)
    return path


@pytest.fixture
def me(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> Identity:
    monkeypatch.setenv("MORPHOGEN_SIGNING", str(key_file))
    return Identity.needed()


def picture(path: Path, seed: int = 0, side: int = 16) -> Path:
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    Pillow.fromarray(small).resize((side, side), Pillow.Resampling.BICUBIC).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Pillow.open(path))


def verb(*arguments: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert not end.value.code


def file_of(kind: str, folder: Path) -> Path:
    path = folder / f"made{kind}"
    if kind in (".png", ".jpg", ".webp"):
        return picture(path)
    if kind == ".wav":
        tone = np.sin(np.arange(8000) / 5).astype(np.float32)
        return write_sounds([Waveform(tone[None], 8000)], path)
    if kind == ".npy":
        np.save(path, np.arange(9))
    else:
        path.write_text("a poem\nof two lines\n")
    return path


# -- the key ---------------------------------------------------------------------------------------


def test_the_key_is_kept_by_its_owner_alone(tmp_path, me):
    assert me.path is not None
    assert stat.S_IMODE(os.stat(me.path).st_mode) == 0o600
    again = Identity.open(me.path)
    assert again is not None
    assert (again.name, again.fingerprint, again.watermark) == (
        "Ann, at home", me.fingerprint, me.watermark
    )  # fmt: skip
    with pytest.raises(MorphogenError, match="there is a key already"):
        Identity.new("Ann", me.path)
    other = Identity.new("Bob", tmp_path / "bob.json")
    assert other.fingerprint != me.fingerprint
    assert Identity.open(tmp_path / "nobody.json") is None
    (tmp_path / "bad.json").write_text('{"name": "x"}')
    with pytest.raises(MorphogenError, match="cannot be read"):
        Identity.open(tmp_path / "bad.json")
    with pytest.raises(MorphogenError, match="does not fit into a certificate"):
        Identity.new("x" * 65, tmp_path / "long.json")
    with pytest.raises(MorphogenError, match="no certificate"):
        other.trust("nobody", "nothing")


# -- credentials -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=needs_library if kind in inside.FORMATS else ())
        for kind in (".png", ".jpg", ".webp", ".wav", ".txt", ".npy")
    ],
)
def test_a_file_says_who_made_it_and_a_change_is_told(tmp_path, me, kind):
    path = file_of(kind, tmp_path)
    before = path.read_bytes()
    sign(me, [path], SAYS)
    (found,) = read(path, me)
    assert found.is_valid, found.problems
    assert found.known == "this installation (Ann, at home)"
    assert dict(found.says).items() >= SAYS.items()
    (stranger,) = read(path)
    assert stranger.is_valid
    assert (stranger.known, stranger.signer) == ("", "Ann, at home")
    assert "not known here" in " ".join(stranger.lines())
    if kind in (".png", ".jpg", ".webp"):
        plain = tmp_path / f"plain{kind}"
        plain.write_bytes(before)
        assert (pixels(path) == pixels(plain)).all()
    data = bytearray(path.read_bytes())
    data[-20 if kind in (".txt", ".npy", ".wav") else -30] ^= 1  # of what it shows or says
    path.write_bytes(data)
    (changed,) = read(path, me)
    assert not changed.is_valid
    assert "NOT hold" in " ".join(changed.lines())


def chunk(data: bytes, name: bytes) -> tuple[int, int]:
    """Where a chunk of a PNG file begins and ends, its length and its checksum with it."""
    place = 8
    while place < len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if data[place + 4 : place + 8] == name:
            return place, end
        place = end
    raise AssertionError(f"no chunk {name!r}")


@needs_library
def test_every_byte_of_the_credential_of_a_picture_counts(tmp_path, me):
    path = picture(tmp_path / "small.png", side=8)
    sign(me, [path], {"seed": "0"})
    data = path.read_bytes()
    start, end = chunk(data, b"caBX")
    with path.open("r+b", buffering=0) as file:
        for place in range(start, end):
            os.pwrite(file.fileno(), bytes([data[place] ^ 1 << place % 8]), place)
            found = read(path, me)
            assert not any(each.is_valid for each in found), place
            os.pwrite(file.fileno(), data[place : place + 1], place)
    assert read(path, me)[0].is_valid


@needs_library
def test_whoever_mends_the_checksum_too_is_found_out(tmp_path, me):
    """What may change unseen then is the padding of the signature, which says nothing."""
    path = picture(tmp_path / "small.png", side=8)
    sign(me, [path], {"seed": "0"})
    data, whole = path.read_bytes(), read(path, me)
    start, end = chunk(data, b"caBX")
    for place in range(start + 8, end - 4, 61):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        changed[end - 4 : end] = zlib.crc32(changed[start + 4 : end - 4]).to_bytes(4, "big")
        path.write_bytes(changed)
        found = read(path, me)
        assert found == whole or not any(each.is_valid and each.known for each in found), place


def test_bytes_of_a_side_car_count(tmp_path, me):
    path = file_of(".txt", tmp_path)
    sign(me, [path], {"seed": "0"})
    side_car = beside.side_car(path)
    data = side_car.read_bytes()
    for place in range(0, len(data), 3):
        changed = bytearray(data)
        changed[place] ^= 1
        side_car.write_bytes(changed)
        (found,) = read(path, me)
        assert not found.is_valid, place
    side_car.write_bytes(data)
    (found,) = read(path, me)
    assert found.is_valid


def test_a_side_car_is_of_its_own_file_and_its_own_key(tmp_path, me):
    one, other = file_of(".txt", tmp_path), tmp_path / "other.txt"
    other.write_text("another poem\n")
    sign(me, [one], SAYS)
    beside.side_car(one).rename(beside.side_car(other))
    (found,) = read(other, me)
    assert found.problems == ("other.txt is not the file that was signed: it was changed",)
    bob = Identity.new("Bob", tmp_path / "bob.json")
    sign(bob, [one], SAYS)
    (found,) = read(one, me)
    assert (found.is_valid, found.known, found.signer) == (True, "", "Bob")
    held = json.loads(beside.side_car(one).read_text())
    held["certificate"] = me.certificates  # Bob says that Ann signed
    beside.side_car(one).write_text(json.dumps(held, indent=2) + "\n")
    (found,) = read(one, me)
    assert not found.is_valid


def test_whom_one_trusts_is_known_by_the_name_that_one_gave(tmp_path, me):
    ann = Identity.new("Ann again", tmp_path / "ann.json")
    bob = Identity.new("Bob", tmp_path / "bob.json")
    ann.trust("Bob of the museum", bob.certificates)
    path = file_of(".txt", tmp_path)
    sign(bob, [path], SAYS)
    (found,) = read(path, Identity.open(tmp_path / "ann.json"))
    assert found.known == "Bob of the museum"


@needs_library
def test_the_credential_of_an_input_stays_with_what_is_made_of_it(tmp_path, me):
    photo = picture(tmp_path / "photo.png", 1)
    sign(me, [photo], {"seed": "7"})
    text = file_of(".txt", tmp_path)
    made = picture(tmp_path / "varied.png", 2)
    sign(me, [made, text], {"task": "vary"}, [photo])
    (found,) = read(made, me)
    assert found.is_valid, found.problems
    (ingredient,) = found.ingredients
    assert ingredient == "photo.png (C2PA valid by 'Ann, at home')"
    (found,) = read(text, me)
    assert found.ingredients == ("photo.png (C2PA valid by 'Ann, at home')",)
    plain = picture(tmp_path / "plain.png", 3)
    sign(me, [plain], {"task": "vary"}, [picture(tmp_path / "camera.png", 4)])
    assert read(plain, me)[0].ingredients == ()


# -- the synthetic flag ----------------------------------------------------------------------------


@needs_library
def test_pictures_with_credentials_are_no_training_data(tmp_path, me):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(24):
        picture(folder / f"{number:02d}.png", number)
    sign(me, [folder / "03.png"], SAYS)  # by the library alone: nothing else marks it
    (reason,) = [p.reason for p in mg.load(folder).report.problems if "synthetic" in p.reason]
    assert reason == "it is synthetic: its tags say so (a trained model, by its credentials)"


@pytest.mark.parametrize("alone", [True, False])
def test_texts_with_side_cars_are_no_training_data(tmp_path, me, alone):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(24):
        (folder / f"{number:02d}.txt").write_text(f"The {number}th house is empty now, they said.")
    sign(me, [folder / "03.txt"], SAYS)
    if alone:
        (item,) = Text().read(folder / "03.txt", Report(""))
        assert item.tags == {"synthetic": "yes", "generator": SAYS["generator"]}
        return
    data = mg.load(folder)
    problems = {p.name: p.reason for p in data.report.problems}
    assert problems.pop("03.txt") == f"it is synthetic: its tags say so ({SAYS['generator']})"
    assert not any("synthetic" in reason for reason in problems.values())


def test_words_of_the_vocabulary_are_read_as_they_stand():
    plain = b"\x89PNG.." + SYNTHETIC.encode() + b"\0.."
    assert said_by(plain)["synthetic"] == "yes"
    assert said_by(plain.replace(b"trainedAlgorithmicMedia", b"digitalCapture")) == {}
    assert said_by(plain.replace(b"Media", b"Mediation")) == {}
    both = plain.replace(b"trainedAlgorithmicMedia", b"digitalCapture") + plain
    assert said_by(both)["generator"] == "a trained model, by its credentials"


# -- the hinge -------------------------------------------------------------------------------------


def result(numbers: list[int], inputs: list[int] | None = None) -> Result:
    values = np.stack([pixels_of(n) for n in range(8)])
    codec = Data.from_tensors(values).codec
    x = torch.stack([codec.encode(Item(pixels_of(n))) for n in numbers])
    given = None if inputs is None else x[: len(inputs)]
    return Result(x, codec=codec, inputs=given, made_by="toy, generate, seed 0")


def pixels_of(seed: int) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return np.asarray(Pillow.fromarray(small).resize((48, 48), Pillow.Resampling.BICUBIC))


def test_what_is_saved_is_signed_and_what_was_given_is_not(tmp_path, me):
    made = result([0, 100], inputs=[0])
    made.provenance = provenance_of(watermark=False)
    made.about = {"model_hash": "5f"}
    made.known_as("c0ffee")
    made.save(tmp_path / "made")
    assert read(tmp_path / "made" / "00000.png", me) == []
    (found,) = read(tmp_path / "made" / "00001.png", me)
    assert found.is_valid
    assert found.says["generation"] == "c0ffee"
    assert found.says["model_hash"] == "5f"
    sheet = made.save(tmp_path / "sheet.png")
    assert read(sheet, me)[0].is_valid


def test_without_a_key_nothing_is_signed_and_nothing_marked(tmp_path, monkeypatch):
    monkeypatch.setenv("MORPHOGEN_SIGNING", str(tmp_path / "none.json"))
    assert provenance_of(watermark=False) is None
    with pytest.raises(MorphogenError, match="no key to sign and mark with"):
        provenance_of(watermark=True)


def test_whence_tells_credential_and_watermark(tmp_path, me):
    made = result([100, 101])
    made.provenance = provenance_of(watermark=True)
    sheet = made.save(tmp_path / "sheet.png")
    found = whence(None, sheet)
    assert found.watermark is not None
    assert found.watermark.is_found
    said = found.text()
    assert "valid, signed by this installation (Ann, at home)" in said
    assert "the watermark of this installation is in it" in said
    assert found.to_json()["credentials"][0]["is_valid"]
    large = Pillow.open(picture(tmp_path / "large.png", 6, 640))
    waves.watermarked(large, me.watermark).save(tmp_path / "large.jpg", quality=85)
    found = whence(None, tmp_path / "large.jpg")
    assert found.watermark is not None
    assert found.watermark.is_found  # reading for training would have made it small
    bare = whence(None, picture(tmp_path / "bare.png", 5, 64))
    assert bare.watermark is not None
    assert not bare.watermark.is_found
    assert not bare.is_known


def test_verbs_make_a_key_and_tell_whose_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MORPHOGEN_SIGNING", str(tmp_path / "signing.json"))
    verb("credentials", "init", "--name", "Carl")
    assert "self-made certificate" in capsys.readouterr().out
    verb("credentials", "show", "--pem")
    (tmp_path / "carl.pem").write_text(capsys.readouterr().out)
    monkeypatch.setenv("MORPHOGEN_SIGNING", str(tmp_path / "other.json"))
    verb("credentials", "init", "--name", "Dora")
    verb("credentials", "trust", "Carl", str(tmp_path / "carl.pem"))
    capsys.readouterr()
    verb("credentials", "show")
    shown = capsys.readouterr().out
    assert "Dora" in shown
    assert "Carl" in shown


@needs_library
def test_what_a_server_hands_out_carries_its_credential(tmp_path, me):
    made = result([100])
    made.provenance = provenance_of(watermark=True)
    made.known_as("c0ffee")
    (item,) = told(made)["items"]
    path = tmp_path / f"got{item['suffix']}"
    path.write_bytes(base64.b64decode(item["file"]))
    (found,) = read(path, me)
    assert found.is_valid
    assert found.says["generation"] == "c0ffee"
    marked = whence(None, path).watermark
    assert marked is not None
    assert marked.is_found


@needs_library
def test_an_input_that_was_tampered_with_is_told_in_what_was_made_of_it(tmp_path, me):
    photo = picture(tmp_path / "photo.png", 1)
    sign(me, [photo], {"seed": "7"})
    start, end = chunk(photo.read_bytes(), b"IDAT")
    Pillow.fromarray(pixels(photo) ^ 1).save(tmp_path / "other.png")
    other = (tmp_path / "other.png").read_bytes()
    shown = other[slice(*chunk(other, b"IDAT"))]  # another picture under the same credential
    data = photo.read_bytes()
    photo.write_bytes(data[:start] + shown + data[end:])
    assert not read(photo, me)[0].is_valid
    made, text = picture(tmp_path / "varied.png", 2), file_of(".txt", tmp_path)
    sign(me, [made, text], {"task": "vary"}, [photo])
    for path in (made, text):
        (found,) = read(path, me)
        assert found.is_valid, found.problems  # its own statement holds
        assert found.ingredients == ("photo.png (C2PA NOT valid by 'Ann, at home')",)
