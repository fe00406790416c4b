"""Planted defects: each one is reported with its file or row, its reason, and what to do."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from morphogen.core.errors import DataError
from morphogen.data.check import check
from morphogen.data.inspect import Inspection

PLANTS: dict[str, tuple[Callable[[Path], None], str, str]] = {}
Plant = Callable[[Path], None]


def picture(seed: int, side: int = 16, mode: str = "RGB") -> Pillow.Image:
    """Smooth and different for every seed, as photos are."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    return Pillow.fromarray(small).resize((side, side), Pillow.Resampling.BICUBIC).convert(mode)


def save(image: Pillow.Image, path: Path, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)  # type: ignore[arg-type]


def plant(where: str, reason: str) -> Callable[[Plant], Plant]:
    """Register a defect: planted by the function, to be told as `where` with `reason`."""

    def register(function: Plant) -> Plant:
        PLANTS[function.__name__] = (function, where, reason)
        return function

    return register


def sound(folder: Path, count: int = 12) -> Path:
    """Two classes of sound pictures."""
    for number, name in enumerate(("boots", "hats")):
        for each in range(count):
            save(picture(100 * number + each), folder / name / f"{each:02d}.png")
    return folder


def table(folder: Path, extra: str, header: str = "file,caption") -> None:
    rows = [f"{p.relative_to(folder).as_posix()},a picture of {p}" for p in folder.rglob("*.png")]
    (folder / "captions.csv").write_text("\n".join([header, *sorted(rows), extra]) + "\n")


def encoded(image: Pillow.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


# -- files -----------------------------------------------------------------------------------------


@plant("hats/x.png", "the file is empty")
def zero_bytes(folder):
    (folder / "hats" / "x.png").touch()


@plant("hats/x.png", "not a picture: it begins with")
def text_with_a_picture_suffix(folder):
    (folder / "hats" / "x.png").write_text("hello")


@plant("hats/x.jpg", "damaged or cut short")
def truncated(folder):
    data = encoded(picture(1, 64), "JPEG")
    (folder / "hats" / "x.jpg").write_bytes(data[: len(data) // 2])


@plant("hats/x.png", "it is a JPEG file with the suffix .png")
def wrong_suffix(folder):
    (folder / "hats" / "x.png").write_bytes(encoded(picture(1), "JPEG"))


@plant("hats/x.heic", ".heic is not read")
def unread_format(folder):
    (folder / "hats" / "x.heic").write_bytes(b"data")


@plant(".", "1 .docx file not read as pictures: hats/notes.docx")
def no_picture_suffix(folder):
    (folder / "hats" / "notes.docx").write_bytes(b"data")


@plant("hats/.x.png", "a hidden picture")
def hidden(folder):
    save(picture(1), folder / "hats" / ".x.png")


@plant("hats/loop", "a loop,")
def link_loop(folder):
    (folder / "hats" / "loop").symlink_to(folder, target_is_directory=True)


@plant("hats/x.png", "the file cannot be read")
def dangling_link(folder):
    (folder / "hats" / "x.png").symlink_to(folder / "gone.png")


@plant("hats/x.png", "outside its folder")
def link_outside(folder):
    save(picture(1), folder.parent / "elsewhere" / "x.png")
    (folder / "hats" / "x.png").symlink_to(folder.parent / "elsewhere" / "x.png")


@plant("scarves", "an empty folder")
def empty_class(folder):
    (folder / "scarves").mkdir()


@plant("hats/old.zip", "an archive below the top folder is not read")
def deep_archive(folder):
    (folder / "hats" / "old.zip").write_bytes(b"data")


@plant("hats/A.png", "by upper and lower case alone")
def case_collision(folder):
    save(picture(1), folder / "hats" / "A.png")
    save(picture(2), folder / "hats" / "a.PNG")
    if len([p for p in (folder / "hats").iterdir() if p.name.lower() == "a.png"]) < 2:
        pytest.skip("this file system does not tell the two names apart")


@plant("hats/locked.png", "the file cannot be read: Permission denied")
def permission(folder):
    save(picture(1), folder / "hats" / "locked.png")
    (folder / "hats" / "locked.png").chmod(0)
    if os.access(folder / "hats" / "locked.png", os.R_OK):
        pytest.skip("this user may read everything")


# -- pixels ----------------------------------------------------------------------------------------


@plant("hats/x.jpg", "EXIF orientation 6")
def exif_rotated(folder):
    exif = Pillow.Exif()
    exif[274] = 6
    save(picture(1), folder / "hats" / "x.jpg", exif=exif)


@plant("hats/x.jpg", "CMYK colours")
def cmyk(folder):
    save(picture(1, mode="CMYK"), folder / "hats" / "x.jpg")


@plant("hats/x.png", "a palette of at most 256 colours")
def palette(folder):
    save(picture(1).quantize(16), folder / "hats" / "x.png")


@plant("hats/x.png", "black and white only")
def one_bit(folder):
    save(picture(1, mode="1"), folder / "hats" / "x.png")


@plant("hats/x.gif", "an animation of 3 frames")
def animated(folder):
    frames = [picture(n) for n in range(3)]
    save(frames[0], folder / "hats" / "x.gif", save_all=True, append_images=frames[1:])


@plant("hats/x.png", "16-bit colour is read as 8-bit colour")
def deep_colour(folder):
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + os.urandom(96) for _ in range(16))
    head = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (folder / "hats" / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)


@plant(".", "mixed depths")
def mixed_depths(folder):
    deep = np.random.default_rng(0).integers(0, 65536, (16, 16)).astype(np.uint16)
    save(Pillow.fromarray(deep), folder / "hats" / "x.png")


@plant(".", "mixed modes")
def mixed_modes(folder):
    save(picture(1, mode="L"), folder / "hats" / "x.png")


@plant(".", "mixed sizes")
def mixed_sizes(folder):
    save(picture(1, 24), folder / "hats" / "x.png")


@plant("hats/x.png", "huge beside the others: 400x400")
def huge(folder):
    save(picture(1, 400), folder / "hats" / "x.png")


@plant("hats/x.png", "too large")
def bomb(folder):
    save(Pillow.new("1", (10_000, 10_000)), folder / "hats" / "x.png")


@plant("hats/x.png", "tiny: 4x4")
def tiny(folder):
    save(picture(1, 4), folder / "hats" / "x.png")


@plant("hats/x.png", "extreme aspect ratio: 160x16")
def long(folder):
    save(picture(1).resize((160, 16)), folder / "hats" / "x.png")


@plant("hats/x.png", "every pixel is fully transparent")
def transparent(folder):
    image = picture(1, mode="RGBA")
    image.putalpha(0)
    save(image, folder / "hats" / "x.png")


@plant("hats/x.png", "opaque everywhere")
def idle_alpha(folder):
    save(picture(1, mode="RGBA"), folder / "hats" / "x.png")


@plant("hats/x.png", "nearly constant")
def constant(folder):
    save(Pillow.new("RGB", (16, 16), (90, 90, 90)), folder / "hats" / "x.png")


# -- items and labels ------------------------------------------------------------------------------


@plant("hats/00.png", "exact copies: hats/x.png")
def exact_copy(folder):
    save(picture(100), folder / "hats" / "x.png")


@plant("hats/00.png", "nearly the same as hats/x.jpg")
def near_copy(folder):
    save(picture(100, 64), folder / "hats" / "00.png")
    save(picture(100, 64), folder / "hats" / "x.jpg", quality=80)


@plant("boots/00.png", "copies of it have other labels (boots, hats)")
def contradicting_labels(folder):
    save(picture(0), folder / "hats" / "x.png")


@plant("boot/x.png", "the class 'boot' (1 items) may be 'boots' (12) misspelt")
def misspelt_class(folder):
    save(picture(1000), folder / "boot" / "x.png")


@plant("Hats/x.png", "may be 'hats' (12) misspelt")
def class_in_another_case(folder):
    save(picture(1000), folder / "Hats" / "x.png")


@plant("label", "very unbalanced")
def imbalance(folder):
    for number in range(1, 12):
        (folder / "hats" / f"{number:02d}.png").unlink()


@plant("scarves", "the class has one training item")
def lonely_class(folder):
    save(picture(1000), folder / "scarves" / "x.png")


@plant("x.png", "it has no label")
def missing_label(folder):
    save(picture(1000), folder / "x.png")


# -- tables ----------------------------------------------------------------------------------------


@plant("captions.csv#row 26", "the file does not exist: hats/gone.png")
def missing_file(folder):
    table(folder, "hats/gone.png,a hat")


@plant("captions.csv#row 26", "no file is named")
def missing_path(folder):
    table(folder, ",a hat")


@plant("captions.csv#row 26", "the path leaves the folder: /etc/hat.png")
def absolute_path(folder):
    table(folder, "/etc/hat.png,a hat")


@plant("captions.csv#row 26", "an empty caption")
def empty_caption(folder):
    save(picture(1000), folder / "hats" / "x.jpg")
    table(folder, "hats/x.jpg, ")


@plant("captions.csv#row 26", "hats/00.png has a row already, row 14, with another caption")
def repeated_row(folder):
    table(folder, "hats/00.png,another hat")


@plant("captions.csv#row 26", "more cells than columns")
def unquoted_comma(folder):
    save(picture(1000), folder / "hats" / "x.jpg")
    table(folder, "hats/x.jpg,a hat, a red one")


@plant("hats/w.jpg", "3 items have the caption 'a hat'")
def one_caption_for_many(folder):
    for number, name in enumerate("wxy"):
        save(picture(1000 + number), folder / "hats" / f"{name}.jpg")
    table(folder, "hats/w.jpg,a hat\nhats/x.jpg,A  hat\nhats/y.jpg,a hat")


@plant("captions.csv", "1 pictures have no row in it: hats/x.jpg")
def picture_without_a_row(folder):
    save(picture(1000), folder / "hats" / "x.jpg")
    table(folder, "")


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_defect_is_told(name: str, tmp_path: Path) -> None:
    function, where, reason = PLANTS[name]
    folder = sound(tmp_path / "data")
    function(folder)
    told = [
        problem
        for problem in check(folder).problems
        if reason in problem.reason and problem.name == (str(folder) if where == "." else where)
    ]
    assert told, [(p.name, p.reason) for p in check(folder).problems]
    assert all(problem.fix for problem in told)


def test_a_sound_folder_has_no_defects(tmp_path: Path) -> None:
    found = check(sound(tmp_path / "data", 24))
    assert (found.problems, found.error) == ([], None)


def test_there_are_enough_kinds() -> None:
    assert len(PLANTS) >= 40


# -- arrays ----------------------------------------------------------------------------------------


def arrays(path: Path, images: np.ndarray, **others: np.ndarray) -> Inspection:
    np.savez(path, images=images, **others)
    return check(path)


def test_values_of_arrays(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((20, 8, 8)).astype(np.float32)
    broken = images.copy()
    broken[3, 0, 0], broken[5, 1, 1] = np.nan, np.inf
    found = arrays(tmp_path / "x.npz", broken)
    rows = [p.name for p in found.problems if p.reason == "NaN or infinite values"]
    assert rows == ["images#3", "images#5"]
    levels = np.floor(images * 17)
    levels[3, 0, 0] = np.nan  # of one picture: the others are whole numbers up to 16 all the same
    found = arrays(tmp_path / "z.npz", levels)
    assert [p.name for p in found.problems if "NaN" in p.reason] == ["images#3"]
    assert "range" not in found.facts
    found = arrays(tmp_path / "y.npz", images * 7 - 3)
    (problem,) = [p for p in found.problems if "unusual values -2.99" in p.reason]
    assert problem.field == "values"


def test_arrays_that_cannot_be_read(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8)).astype(np.uint8)
    found = arrays(tmp_path / "x.npz", images, labels=np.arange(7))
    assert "not as many labels as pictures" in (found.error or "")
    idx = tmp_path / "idx" / "train-images-idx3-ubyte"
    idx.parent.mkdir()
    head = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in images.shape)
    idx.write_bytes(head + images.tobytes()[:700])
    assert "the idx file is cut short" in (check(idx.parent).error or "")
    idx.write_bytes(head + images.tobytes())
    labels = bytes([0, 0, 8, 1]) + (19).to_bytes(4, "big") + bytes(19)
    (idx.parent / "train-labels-idx1-ubyte").write_bytes(labels)
    assert "19 labels" in (check(idx.parent).error or "")
    np.savez(tmp_path / "words.npz", images=np.full((20, 8, 8), "word"))
    with pytest.raises(DataError, match="nothing here"):
        check(tmp_path / "words.npz")


def test_tables_that_cannot_be_read(tmp_path: Path) -> None:
    folder = sound(tmp_path / "data")
    (folder / "captions.csv").write_bytes("file,caption\nhats/00.png,caf\u00e9\n".encode("latin-1"))
    assert "not UTF-8" in (check(folder).error or "")
    (folder / "captions.csv").write_text("title,words\nboots,hat\n")
    assert "no column that names picture files" in (check(folder).error or "")


def test_the_verbs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from morphogen.cli.app import main

    def run(*arguments: str) -> tuple[int, str]:
        code = 0
        try:
            main(["data", *arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, capsys.readouterr().out

    folder = sound(tmp_path / "data", 24)
    save(picture(100), folder / "hats" / "x.png")
    assert "exact copies: hats/x.png" in run("check", str(folder))[1]
    groups = json.loads(run("dedupe", str(folder), "--json")[1])["groups"]
    assert [group["leave_out"] for group in groups] == [["hats/x.png"]]
    code, version = run("snapshot", str(folder), "--json", "--note", "before")
    assert code == 0
    assert "1 files moved" in run("dedupe", str(folder), "--move-to", str(tmp_path / "out"))[1]
    assert "written to" in run("split", str(folder), "--by", r"^(\w+)/0")[1]
    text = run("diff", json.loads(version)["id"], str(folder))[1]
    assert "removed  hats/x.png" in text
    assert "added    splits.csv" in text
    store = str(tmp_path / ".morphogen")
    assert "49 files" in run("restore", "last", str(tmp_path / "again"), "--store", store)[1]
    save(picture(1000), tmp_path / "leak" / "train" / "a.png")
    for number in range(6):
        save(picture(number), tmp_path / "leak" / "train" / f"{number}.png")
        save(picture(50 + number), tmp_path / "leak" / "test" / f"{number}.png")
    save(picture(1000), tmp_path / "leak" / "test" / "b.png")
    code, text = run("check", str(tmp_path / "leak"))
    assert code == 1
    assert "train/a.png (train) and test/b.png (test)" in text
    assert run("split", str(tmp_path / "leak"))[0] == 1
    assert run("split", str(tmp_path / "leak"), "--repair")[0] == 0
    assert run("check", str(tmp_path / "leak"))[0] == 0


def test_a_twin_across_the_splits_fails(tmp_path: Path) -> None:
    for number in range(8):
        save(picture(number, 32), tmp_path / "train" / f"{number}.png")
        save(picture(100 + number, 32), tmp_path / "test" / f"{number}.png")
    assert check(tmp_path).error is None
    twin = picture(3, 32).crop((1, 1, 31, 31)).transpose(Pillow.Transpose.FLIP_LEFT_RIGHT)
    save(twin, tmp_path / "test" / "twin.jpg", quality=85)
    error = check(tmp_path).error or ""
    assert "train/3.png (train) and test/twin.jpg (test)" in error
    assert "--repair" in error
