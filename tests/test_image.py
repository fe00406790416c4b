"""The image codec: every kind of source, exact round trips, and bad input."""

from __future__ import annotations

import gzip
import io
import json
import stat
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image as Pillow
from torch import Tensor

import morphogen as mg
from morphogen.core.augment import augmenting
from morphogen.core.codec import Item, Report
from morphogen.core.errors import DataError, RecipeError
from morphogen.core.spec import TensorSpec
from morphogen.data.conditions import fit_conditions
from morphogen.modalities.image import Image
from morphogen.training.chain import in_latents

RNG = np.random.default_rng(0)


def pixels(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def save(path: Path, array: np.ndarray | None = None, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(pixels(8, 8, 3) if array is None else array).save(path, **options)
    return path


def png(array: np.ndarray | None = None) -> bytes:
    stream = io.BytesIO()
    Pillow.fromarray(pixels(8, 8, 3) if array is None else array).save(stream, "PNG")
    return stream.getvalue()


def read(source: Path | str, **options: object) -> tuple[Image, list[Item], Report]:
    codec, report = Image(**options), Report(str(source))
    items = list(codec.read(source, report))
    if items:
        codec.fit(items)
        fit_conditions(codec, [item.cond for item in items], report)
    return codec, items, report


def why(source: Path) -> str:
    found = Image.recognises(source)
    return found.why if found else ""


def idx(array: np.ndarray) -> bytes:
    head = struct.pack(">BBBB", 0, 0, 8, array.ndim)
    return head + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()


# -- round trips ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype", "levels"),
    [
        ((8, 8), np.uint8, 256),
        ((8, 8, 3), np.uint8, 256),
        ((8, 12, 4), np.uint8, 256),
        ((8, 8), np.uint16, 65536),
    ],
)
def test_a_fitting_picture_survives_encode_and_decode(shape, dtype, levels, tmp_path):
    array = pixels(*shape, dtype=dtype)
    for number in range(2):
        save(tmp_path / f"{number}.png", array)
    codec, items, _ = read(tmp_path)
    x = codec.encode(items[0])
    channels = shape[2] if len(shape) == 3 else 1
    assert codec.spec.shape == (channels, *shape[:2])
    assert codec.spec.levels == levels
    assert x.dtype == torch.float32
    assert x.min() >= -1
    assert x.max() <= 1
    decoded = codec.decode(x)
    assert isinstance(decoded, Pillow.Image)
    assert np.array_equal(np.asarray(decoded), array)
    assert torch.equal(codec.encode(Item(decoded)), x)
    written = codec.write([decoded, decoded], tmp_path / "out")
    assert np.array_equal(np.asarray(Pillow.open(written / "00001.png")), array)


@settings(max_examples=30, deadline=None)
@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
    )
)
def test_round_trip_is_exact_for_any_grey_picture(array):
    codec = Image().fit([Item(array)])
    assert np.array_equal(np.asarray(codec.decode(codec.encode(Item(array)))), array)


def test_encode_many_equals_encode_one_by_one():
    codec = Image().fit([Item(pixels(8, 8, 3))])
    mixed = [Item(pixels(8, 8, 3)), Item(pixels(10, 20)), Item(Pillow.new("LA", (5, 5)))]
    assert torch.equal(codec.encode_many(mixed), torch.stack([codec.encode(i) for i in mixed]))


def test_state_is_json_and_rebuilds_the_codec():
    items = [Item(pixels(8, 8)) for _ in range(2)]
    codec = Image(mode="L").fit(items)
    again = Image.from_state(json.loads(json.dumps(codec.state())), {})
    assert again.spec == codec.spec
    assert torch.equal(again.encode(items[0]), codec.encode(items[0]))


# -- what is chosen from the data -----------------------------------------------------------------


def test_mixed_sizes_take_the_median_short_side_and_say_so():
    items = [Item(pixels(20, 30, 3)), Item(pixels(27, 40, 3)), Item(pixels(90, 70, 3))]
    codec = Image().fit(items)
    assert codec.spec.shape == (3, 24, 24)
    assert codec.facts["resized"].startswith("3 of 3")


def test_one_shared_size_keeps_its_shape():
    assert Image().fit([Item(pixels(20, 33))]).spec.shape == (1, 20, 33)
    assert Image().fit([Item(pixels(96, 128))]).spec.shape == (1, 64, 80)
    assert Image(size=16).fit([Item(pixels(20, 20))]).spec.shape == (1, 16, 16)
    assert Image(size=100).fit([Item(pixels(100, 100))]).spec.shape == (1, 100, 100)


def test_the_resize_option_crops_pads_or_stretches():
    half = np.zeros((16, 32), np.uint8)
    half[:, 16:] = 200
    crop, pad, stretch = (
        np.asarray(c.decode(c.encode(Item(half))))
        for c in (
            Image(resize=how).fit([Item(half), Item(pixels(16, 16))])
            for how in ("crop", "pad", "stretch")
        )
    )
    assert crop[8, 0] == 0
    assert crop[8, 15] == 200
    assert pad[0, 0] == 255
    assert stretch[8, 3] == 0
    assert stretch[0, 13] == 200


def test_the_mode_is_the_widest_that_a_tenth_of_the_pictures_have():
    grey, colour = Item(pixels(8, 8)), Item(pixels(8, 8, 3))
    assert Image().fit([grey] * 4).spec.channels == 1
    codec = Image().fit([grey] * 4 + [colour])
    assert codec.spec.channels == 3
    assert "4 L" in codec.facts["mode_changed"]
    assert Image().fit([grey] * 30 + [colour]).spec.channels == 1
    assert Image(mode="RGBA").fit([grey]).spec.channels == 4


def test_transparency_is_laid_on_white():
    clear = np.zeros((8, 8, 4), np.uint8)
    codec = Image(mode="RGB").fit([Item(clear)])
    assert np.asarray(codec.decode(codec.encode(Item(clear)))).min() == 255


def test_black_and_white_data_keep_256_levels():
    codec = Image().fit([Item(np.zeros((8, 8), np.uint8)), Item(np.full((8, 8), 255, np.uint8))])
    assert codec.spec.levels == 256


def test_sixteen_bits_in_eight_and_back():
    deep, plain = pixels(8, 8, dtype=np.uint16), pixels(8, 8)
    codec = Image().fit([Item(deep)] + [Item(plain)] * 4)
    assert codec.spec.levels == 65536
    assert np.array_equal(np.asarray(codec.decode(codec.encode(Item(plain)))), plain * 257.0)
    codec = Image().fit([Item(deep)] + [Item(plain)] * 30)
    assert codec.spec.levels == 256
    assert "1 pictures become 8-bit" in codec.facts["depth_changed"]


@pytest.mark.parametrize(
    ("array", "levels", "low", "high"),
    [
        (RNG.integers(0, 17, (6, 8, 8)).astype(np.float64), 17, 0, 16),
        (RNG.integers(0, 256, (6, 8, 8)) / 255, 256, 0, 1),
        (RNG.integers(0, 2, (6, 8, 8)).astype(bool), 256, 0, 1),
        (RNG.integers(0, 256, (6, 8, 8)).astype(np.int64), 256, 0, 255),
        (RNG.integers(0, 256, (6, 8, 8)) / 127.5 - 1, 256, -1, 1),
        (RNG.random((6, 8, 8)), None, 0, 1),
        (RNG.normal(size=(6, 8, 8)).clip(-2, 3), None, -2, 3),
    ],
)
def test_arrays_of_any_type_keep_their_levels(array, levels, low, high):
    codec = Image()
    array.reshape(-1)[:2] = low, high
    items = list(codec.read_arrays([(array, None, None)], Report("array")))
    codec.fit(items)
    assert codec.spec.levels == levels
    assert ("white" in codec.facts) == (levels == 17)
    x = codec.encode_many(items).numpy()[:, 0]
    assert np.allclose(x, (array.astype(float) - low) / (high - low) * 2 - 1, atol=2e-6)


@pytest.mark.parametrize(("largest", "levels"), [(1, 2), (16, 17), (255, 256), (900, 1024)])
def test_pictures_in_whole_numbers_of_their_own_arrays_share_one_scale(largest, levels):
    dark = np.zeros((8, 8), np.int64)
    light = np.full((8, 8), largest)
    dark[0, 0] = max(largest // 4, 1)
    codec = Image()
    items = list(codec.read_arrays([([dark, light], None, None)], Report("list")))
    codec.fit(items)
    assert codec.spec.levels == levels
    x = codec.encode_many(items).numpy()[:, 0]
    white = levels - 1
    assert np.allclose(x[0, 0, 0], dark[0, 0] / white * 2 - 1, atol=1e-4)
    assert np.allclose(x[1], largest / white * 2 - 1, atol=1e-4)


def test_one_picture_in_numbers_below_nothing_does_not_say_its_scale():
    report = Report("list")
    assert not list(Image().read_arrays([([np.arange(-32, 32).reshape(8, 8)], None, None)], report))
    assert "-32 to 31, whose scale is not known" in report.problems[0].reason


# -- sources --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".gif", ".tif", ".JPEG"])
def test_folder_of_any_format(tmp_path, suffix):
    for number in range(3):
        save(tmp_path / f"{number}{suffix}")
    assert "3" in why(tmp_path)
    codec, items, report = read(tmp_path)
    assert [item.name for item in items] == [f"{n}{suffix}" for n in range(3)]
    assert codec.spec.shape == (3, 8, 8)
    assert report.num_read == 3
    assert not report.problems


def test_class_and_split_folders(tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            save(tmp_path / split / name / "deep" / "0.png")
    codec, items, _ = read(tmp_path)
    assert [(i.split, i.cond["label"]) for i in items] == [
        ("test", "cat"),
        ("test", "dog"),
        ("train", "cat"),
        ("train", "dog"),
    ]
    assert codec.class_names("label") == ["cat", "dog"]


def test_captions_beside_a_folder(tmp_path):
    save(tmp_path / "images" / "a.png")
    save(tmp_path / "images" / "b.png")
    text = "file,caption,split\na.png,a boot,train\nimages/b.png,a bag,test\nc.png,gone,train\n"
    (tmp_path / "captions.csv").write_text(text)
    _, items, report = read(tmp_path)
    assert [(i.cond, i.split) for i in items] == [
        ({"caption": "a boot"}, "train"),
        ({"caption": "a bag"}, "test"),
    ]
    assert "--condition caption" in report.facts["captions"]
    assert [p.name for p in report.skipped] == ["captions.csv#row 4"]


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_folder(tmp_path, zipped):
    suffix, pack = (".gz", gzip.compress) if zipped else ("", bytes)
    images = {"train": pixels(6, 8, 8), "t10k": pixels(3, 8, 8)}
    for split, array in images.items():
        (tmp_path / f"{split}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(array)))
        labels = np.arange(len(array)) % 3
        (tmp_path / f"{split}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(labels)))
    codec, items, _ = read(tmp_path)
    assert [i.split for i in items] == ["train"] * 6 + ["test"] * 3
    assert [i.cond["label"] for i in items] == [0, 1, 2, 0, 1, 2, 0, 1, 2]
    assert np.array_equal(items[7].value, images["t10k"][1])
    assert codec.class_names("label") == ["0", "1", "2"]
    single = tmp_path / f"train-images-idx3-ubyte{suffix}"
    assert "6 pictures" in why(single)
    assert len(codec.read_inputs(single)) == 6


def test_npz_with_splits_and_labels(tmp_path):
    path = tmp_path / "set.npz"
    parts = {"x_train": pixels(6, 8, 8, 3), "y_train": np.arange(6), "x_test": pixels(2, 8, 8, 3)}
    np.savez(path, **parts, y_test=np.arange(2))
    assert "x_train" in why(path)
    codec, items, _ = read(path)
    assert [i.split for i in items] == ["train"] * 6 + ["test"] * 2
    assert items[6].cond == {"label": 0}
    assert codec.spec.shape == (3, 8, 8)


def test_npy_channels_first_and_tables_are_not_pictures(tmp_path):
    np.save(tmp_path / "a.npy", pixels(4, 3, 8, 9))
    assert read(tmp_path / "a.npy")[0].spec.shape == (3, 8, 9)
    np.savez(tmp_path / "table.npz", X=np.zeros((20, 6)), y=np.zeros(20))
    assert Image.recognises(tmp_path / "table.npz") is None


def test_csv_of_paths(tmp_path):
    save(tmp_path / "pictures" / "a.png")
    save(tmp_path / "pictures" / "b.png")
    table = tmp_path / "table.csv"
    rows = "Path,label,split\npictures/a.png,cat,train\npictures/gone.png,dog,train\n"
    table.write_text(rows + "pictures/b.png,dog,test\n", encoding="utf-8-sig")
    assert Image.recognises(table)
    _, items, report = read(table)
    assert [(i.cond["label"], i.split) for i in items] == [("cat", "train"), ("dog", "test")]
    assert [p.name for p in report.skipped] == ["table.csv#row 3"]
    assert "gone.png" in report.skipped[0].reason


def test_parquet_of_paths_and_of_bytes(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    save(tmp_path / "a.png")
    table = pyarrow.table({"file": ["a.png", "b.png"], "label": [3, 4]})
    parquet.write_table(table, tmp_path / "paths.parquet")
    _, items, report = read(tmp_path / "paths.parquet")
    assert [i.cond for i in items] == [{"label": 3}]
    assert [p.name for p in report.skipped] == ["paths.parquet#row 2"]
    cells = [{"bytes": png(), "path": None}, {"bytes": b"junk", "path": None}]
    parquet.write_table(pyarrow.table({"image": cells}), tmp_path / "bytes.parquet")
    _, items, report = read(tmp_path / "bytes.parquet")
    assert (len(items), len(report.skipped)) == (1, 1)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"pip install 'morphogen\[data\]'"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".zip"])
def test_archives_are_read_in_place(tmp_path, suffix):
    path = tmp_path / f"photos{suffix}"
    members = {f"photos/{name}/{n}.png": png() for name in ("cat", "dog") for n in range(2)}
    members["../../outside.txt"] = b"never written"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, "w:gz" if suffix.endswith("gz") else "w") as archive:
            for name, data in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    assert "4 .png files in the archive" in why(path)
    _, items, _ = read(path)
    assert [i.cond["label"] for i in items] == ["cat", "cat", "dog", "dog"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_what_an_archive_holds_and_is_not_read_is_said(tmp_path, suffix):
    tree = tmp_path / "tree"
    for name in ("a.png", ".b.png", ".hidden/c.png", "__MACOSX/._a.png"):
        save(tree / name, pixels(8, 8))
    (tree / "d.png").symlink_to("a.png")
    path = tmp_path / f"photos{suffix}"
    if suffix == ".tar":
        with tarfile.open(path, "w") as archive:
            archive.add(tree, "tree")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(tree.rglob("*.png")):
                entry = zipfile.ZipInfo(file.relative_to(tree).as_posix())
                kind = stat.S_IFLNK if file.is_symlink() else stat.S_IFREG
                entry.external_attr = (kind | 0o644) << 16
                archive.writestr(entry, b"a.png" if file.is_symlink() else file.read_bytes())
    _, items, report = read(path)
    assert len(items) == 1
    reasons = [problem.reason for problem in report.problems]
    assert len(reasons) == 2
    assert "2 hidden pictures not read: " in reasons[0]
    assert "1 link not read: " in reasons[1]
    assert reasons[1].endswith("d.png")


def test_a_folder_of_split_archives(tmp_path):
    for split in ("train", "test"):
        with tarfile.open(tmp_path / f"{split}.tar.gz", "w:gz") as archive:
            for name in ("cat", "dog"):
                data = png()
                member = tarfile.TarInfo(f"{split}/{name}/0.png")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    _, items, _ = read(tmp_path)
    found = sorted((i.split or "", i.cond["label"]) for i in items)
    assert found == [("test", "cat"), ("test", "dog"), ("train", "cat"), ("train", "dog")]


def test_hugging_face_dataset_saved_on_disk(tmp_path):
    datasets = pytest.importorskip("datasets")
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    rows = {"image": [Pillow.fromarray(pixels(8, 8)) for _ in range(4)], "label": [0, 1, 0, 1]}
    dataset = datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))
    saved = datasets.DatasetDict({"train": dataset, "test": dataset.select([1])})
    saved.save_to_disk(str(tmp_path / "saved"))
    for source in (tmp_path / "saved", f"hf://{tmp_path / 'saved'}"):
        assert Image.recognises(source)
        _, items, _ = read(source)
        assert [(i.split, i.cond["label"]) for i in items] == [
            ("train", "cat"),
            ("train", "dog"),
            ("train", "cat"),
            ("train", "dog"),
            ("test", "dog"),
        ]


def test_hugging_face_name_that_does_not_exist(tmp_path):
    pytest.importorskip("datasets")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="cannot be loaded"):
        read(f"hf://{tmp_path / 'empty'}")


# -- pictures as they come ------------------------------------------------------------------------


def test_exif_orientation_is_applied(tmp_path):
    array = np.zeros((8, 16, 3), np.uint8)
    array[:, :8] = 255
    exif = Pillow.Exif()
    exif[274] = 6  # turned: shown rotated by 90 degrees clockwise
    save(tmp_path / "a.png", array, exif=exif.tobytes())
    _, items, report = read(tmp_path)
    assert items[0].value.shape == (16, 8, 3)
    assert items[0].value[0, 0, 0] == 255
    assert items[0].value[15, 0, 0] == 0
    assert report.facts["sizes"] == {"8x16": 1}


def test_palette_bilevel_cmyk_and_animated(tmp_path):
    colour = Pillow.fromarray(pixels(8, 8, 3))
    colour.quantize(8).save(tmp_path / "palette.png")
    colour.convert("1").save(tmp_path / "bilevel.png")
    colour.convert("CMYK").save(tmp_path / "cmyk.jpg")
    frames = [Pillow.new("RGB", (8, 8), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / "frames.gif", save_all=True, append_images=frames[1:])
    _, items, report = read(tmp_path)
    shapes = {item.name: item.value.shape for item in items}
    assert shapes["palette.png"] == shapes["cmyk.jpg"] == (8, 8, 3)
    assert shapes["bilevel.png"] == (8, 8)
    assert tuple(items[2].value[0, 0]) == (254, 0, 0) or items[2].value[0, 0, 0] > 200
    assert report.facts["first_frame_only"] == 1


def test_large_pictures_shrink_while_read(tmp_path):
    save(tmp_path / "a.jpg", np.full((1200, 1600, 3), 90, np.uint8))
    codec, items, report = read(tmp_path)
    assert report.facts["sizes"] == {"1600x1200": 1}
    assert 256 <= min(items[0].value.shape[:2]) < 1200
    assert min(codec.spec.space) == 64
    assert abs(codec.encode(items[0]) - (90 / 127.5 - 1)).max() < 0.02


# -- writing --------------------------------------------------------------------------------------


def test_grid_is_near_square_and_enlarged(tmp_path):
    pictures = [Pillow.fromarray(np.full((8, 8), 10 * n, np.uint8)) for n in range(10)]
    codec = Image().fit([Item(pictures[0])])
    path = codec.write(pictures, tmp_path / "grid.png")
    with Pillow.open(path) as grid:
        assert grid.width >= 400
        assert grid.width / grid.height == pytest.approx(4 / 3, abs=0.02)
        assert grid.getpixel((10, 10)) == (0, 0, 0)
        assert grid.getpixel((grid.width - 1, grid.height - 1)) == (255, 255, 255)
    with Pillow.open(codec.write(pictures, tmp_path / "row.png", columns=10)) as row:
        assert row.width > 5 * row.height
    with pytest.raises(DataError, match="cannot be written"):
        codec.write(pictures, tmp_path / "grid.xyz")
    with pytest.raises(DataError, match="no pictures"):
        codec.write([], tmp_path / "grid.png")


def test_map_puts_pictures_at_their_positions(tmp_path):
    red, blue = Pillow.new("RGB", (8, 8), "red"), Pillow.new("RGB", (8, 8), "blue")
    positions = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    path = Image().fit([Item(red)]).write_map([red, blue], positions, tmp_path / "map.png")
    with Pillow.open(path) as drawn:
        assert drawn.getpixel((2, drawn.height - 3)) == (255, 0, 0)
        assert drawn.getpixel((drawn.width - 3, 2)) == (0, 0, 255)
        assert drawn.getpixel((drawn.width // 2, drawn.height // 2)) == (255, 255, 255)


# -- bad input ------------------------------------------------------------------------------------


def test_damaged_files_are_problems_with_reason_and_fix(tmp_path):
    save(tmp_path / "good.png")
    whole = save(tmp_path / "cut.png", pixels(32, 32, 3)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    jpeg = save(tmp_path / "cut.jpg", pixels(32, 32, 3)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "phone.heic").write_bytes(b"ftypheic")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "notes.txt").write_text("hello")
    _, items, report = read(tmp_path)
    assert [item.name for item in items] == ["good.png"]
    reasons = {p.name: p.reason for p in report.skipped}
    assert set(reasons) == {
        "cut.png",
        "cut.jpg",
        "text.png",
        "empty.jpg",
        "phone.heic",
        "gone.png",
    }
    assert "cut short" in reasons["cut.png"]
    assert "cut short" in reasons["cut.jpg"]
    assert "not a picture" in reasons["text.png"]
    assert reasons["empty.jpg"] == "the file is empty"
    assert all(p.fix for p in report.problems)
    assert any("notes.txt" in p.reason for p in report.problems if not p.fatal)


def test_decompression_bombs_are_refused(tmp_path):
    # A PNG header of 60,000 x 60,000 pixels in front of a few bytes.
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + body)
    _, items, report = read(tmp_path)
    assert not items
    assert "too large" in report.skipped[0].reason


def test_an_idx_file_cut_short_names_found_and_expected(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(idx(pixels(6, 8, 8))[:-100])
    with pytest.raises(DataError, match="cut short") as caught:
        read(path)
    assert "284 bytes" in str(caught.value)
    assert "384 bytes" in str(caught.value)
    packed = gzip.compress(idx(pixels(60, 8, 8)))
    (tmp_path / "x-images-idx3-ubyte.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match="cut short"):
        read(tmp_path / "x-images-idx3-ubyte.gz")


def test_labels_and_pictures_of_different_count(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(pixels(6, 8, 8)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(5)))
    with pytest.raises(DataError, match="not as many labels"):
        read(tmp_path)
    np.savez(tmp_path / "a.npz", x=pixels(6, 8, 8), y=np.arange(5))
    with pytest.raises(DataError, match="not as many labels"):
        read(tmp_path / "a.npz")


def test_arrays_that_are_no_pictures(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((20, 6)))
    with pytest.raises(DataError, match="shape of pictures"):
        read(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(DataError, match="damaged"):
        read(tmp_path / "b.npz")
    np.save(tmp_path / "c.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="shape of pictures"):
        read(tmp_path / "c.npy")


def test_arrays_without_a_finite_value_or_of_text_are_refused():
    for array in (np.full((2, 8, 8), np.nan), np.full((2, 8, 8), "a"), np.zeros((0, 8, 8), int)):
        with pytest.raises(DataError, match="the array"):
            list(Image().read_arrays([(array, None, None)], Report("array")))


def test_rows_with_nan_are_skipped_and_named():
    array = RNG.random((4, 8, 8))
    array[2, 0, 0] = np.nan
    report = Report("array")
    assert len(list(Image().read_arrays([(array, None, None)], report))) == 3
    assert [p.name for p in report.skipped] == ["array#2"]


def test_a_damaged_archive(tmp_path):
    path = tmp_path / "photos.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(save(tmp_path / "a.png", pixels(64, 64, 3)), "a.png")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="damaged or cut short"):
        read(path)


def test_paths_that_do_not_exist_suggest_the_nearest(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="Did you mean 'photos'"):
        read(tmp_path / "photo")


def test_read_inputs_takes_one_file_of_any_size(tmp_path):
    codec = Image().fit([Item(pixels(8, 8, 3))])
    path = save(tmp_path / "a.png", pixels(40, 30))
    (item,) = codec.read_inputs(path)
    assert codec.encode(item).shape == (3, 8, 8)
    (tmp_path / "bad.png").write_text("no")
    with pytest.raises(DataError, match="input cannot be read"):
        codec.read_inputs(tmp_path / "bad.png")


def test_values_that_are_no_pictures():
    with pytest.raises(DataError, match="not a picture"):
        Image().fit([Item("hello")])
    with pytest.raises(DataError, match="size does not fit"):
        Image(size=0)
    with pytest.raises(DataError, match="seen no pictures"):
        Image().encode(Item(pixels(8, 8)))


def test_training_sees_pictures_mirrored_where_they_may_be(tmp_path: Path) -> None:
    """As they are and in a mirror; and so in the codes of another model, which know no mirror."""
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    data = mg.load(x, mirror=True)
    first = data.train.batch(torch.arange(4)).x
    shares = torch.tensor([0.0, 0.49, 0.5, 0.99])
    seen = data.codec.augmented(first, shares)
    assert torch.equal(seen[:2], first[:2])
    assert data.codec.as_it_is == 0
    assert torch.equal(seen[2:], first[2:].flip(-1))
    assert mg.load(x).codec.augmented(first, shares).equal(first)
    again = type(data.codec).from_state(data.codec.state(), {})
    assert again.variants == 2
    settings = ["family.latent_dim=3", "backbone.model_dim=8"]
    coder = mg.train(data, "vae", budget="2steps", out=tmp_path / "vae", settings=settings)
    encode, read = coder.family.encode, list[Tensor]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coder.family, "encode", lambda x: read.append(x) or encode(x))
        latents = in_latents(data, coder)
    num_read = sum(map(len, read))
    assert num_read == 2 * len(data.train) + len(data.test), "each way once, as they are as well"
    drawn = latents.train.drawn(torch.arange(4), shares).x
    expected = latents.codec.standardised(latents.codec.latents([seen]))
    torch.testing.assert_close(drawn, expected)
    some = latents.train.take(torch.tensor([1, 3]))
    torch.testing.assert_close(some.drawn(torch.arange(2), shares[[1, 3]]).x, expected[[1, 3]])
    with pytest.raises(RecipeError, match=r"would no longer fit[\s\S]*condition edges"):
        augmenting(data.codec, {"edges": TensorSpec("real", (1, 8, 8))})
