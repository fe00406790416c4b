"""Cases as Windows, macOS, phones, Excel, Kaggle and the Hub make them: read right, or refused with
how to convert."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

import cases
from morphogen.core.codec import Item, Report
from morphogen.core.errors import DataError
from morphogen.data.inspect import inspect
from morphogen.data.modality import find_modality
from morphogen.modalities.image import Image


def read(source: Path) -> tuple[list[Item], Report]:
    assert find_modality(source) == "image"
    report = Report(str(source))
    return list(Image().read(source, report)), report


def counted(items: list[Item]) -> dict[Any, int]:
    """(split, label) -> how many."""
    return dict(Counter((item.split, item.cond.get("label")) for item in items))


@pytest.mark.parametrize(
    ("case", "place", "expected", "caption"),
    [
        (cases.stylegan_zip, "data.zip", {(None, 0): 4, (None, 1): 4, (None, 2): 4}, None),
        (cases.stylegan_zip, "", {(None, 0): 4, (None, 1): 4, (None, 2): 4}, None),
        (cases.metadata_jsonl, "", {(None, "a"): 3, (None, "b"): 3}, "blob 0"),
        (cases.metadata_jsonl, "metadata.jsonl", {(None, "a"): 3, (None, "b"): 3}, "blob 0"),
        (cases.tsv_captions, "", {(None, "0"): 3, (None, "1"): 3}, "blob 0"),
        (cases.tsv_captions, "captions.tsv", {(None, "0"): 3, (None, "1"): 3}, "blob 0"),
        (cases.kaggle_labels, "", {(None, "pug"): 3, (None, "boxer"): 3}, None),
        (cases.webdataset_shards, "", {(None, 0): 4, (None, 1): 2}, "blob 0"),
        (
            cases.tables_of_parts,
            "",
            {("train", "a"): 2, ("train", "b"): 2, ("test", "a"): 2, ("test", "b"): 2},
            "test 0",
        ),
        (cases.boxes_are_no_captions, "", {(None, None): 3}, None),
        (cases.linked_classes, "photos", {(None, "cat"): 3, (None, "again"): 3}, None),
        (
            cases.class_then_split,
            "",
            {("train", "cat"): 4, ("test", "cat"): 2, ("train", "dog"): 4, ("test", "dog"): 2},
            None,
        ),
        (cases.split_and_more, "", {("train", "cat"): 3, ("test", "cat"): 3}, None),
        (cases.images_and_masks, "", {("train", None): 3, ("validation", None): 3}, None),
        (cases.litter, "", {(None, "cat"): 3, (None, "dog"): 3}, None),
        (cases.other_suffixes, "", {(None, f"kind{n}"): 2 for n in range(6)}, None),
        (cases.backslashes, "data.zip", {(None, "cat"): 2, (None, "dog"): 2}, None),
        (cases.archives_are_classes, "", {(None, "cat"): 2, (None, "dog"): 2}, None),
        (cases.labels_npz, "float.npz", {(None, n): 2 for n in range(3)}, None),
        (cases.labels_npz, "onehot.npz", {(None, n): 2 for n in range(3)}, None),
        (cases.labels_npz, "object.npz", {(None, None): 6}, None),
        (cases.npy, "one.npy", {(None, None): 1}, None),
        (cases.npy, "folder", {(None, None): 4}, None),
        (cases.pixel_csv, "train.csv", {(None, "0"): 2, (None, "1"): 2}, None),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value)[:20],
)
def test_read_right(
    case: cases.Case, place: str, expected: dict[Any, int], caption: str | None, tmp_path: Path
) -> None:
    case(tmp_path)
    items, _ = read(tmp_path / place)
    assert counted(items) == expected
    assert items[0].cond.get("caption") == caption
    assert len({item.name for item in items}) == len(items)


def test_a_row_of_a_name_that_several_files_have_says_so(tmp_path: Path) -> None:
    cases.tables_of_parts(tmp_path)
    (tmp_path / "train" / "captions.csv").rename(tmp_path / "captions.csv")
    cases.numbered(tmp_path, 2, 100)  # rows 0 and 1 are found beside the table
    reasons = [problem.reason for problem in read(tmp_path)[1].skipped]
    assert reasons == [f"2 files are called {n:02d}.png: name its folder too" for n in (2, 3)]


@pytest.mark.parametrize(
    ("head", "fix"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"<!DOCTYPE html><title>404</title>", "download it again"),
        (b"nothing known", "delete it"),
    ],
)
def test_what_stands_in_place_of_a_picture_says_how_to_get_it(
    head: bytes, fix: str, tmp_path: Path
) -> None:
    cases.numbered(tmp_path, 3)
    (tmp_path / "00.png").write_bytes(head)
    (problem,) = read(tmp_path)[1].skipped
    assert problem.name == "00.png"
    assert fix in problem.fix


@pytest.mark.parametrize(
    ("code", "first", "delimiter"),
    [
        ("utf-8-sig", "sep=;\r\n", ";"),
        ("utf-8-sig", "", ";"),
        ("utf-16", "", "\t"),
        ("cp1252", "", ";"),
    ],
)
def test_excel(code: str, first: str, delimiter: str, tmp_path: Path) -> None:
    cases.excel(code, first, delimiter)(tmp_path)
    items, report = read(tmp_path)
    assert [(i.cond["caption"], i.cond["label"]) for i in items] == [
        ('größer, "so"\nund so', "ab"[n % 2]) for n in range(4)
    ]
    assert not report.problems


def test_parquet_shards_of_the_hub(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["left", "right"])}
    for split, labels in (("train", [0, 1, None]), ("test", [1])):
        shown = [Pillow.fromarray(cases.pixels(n)) for n in range(len(labels))]
        rows = {"image": shown, "label": labels}
        made = datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))
        made.to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    items, _ = read(tmp_path)
    assert counted(items) == {
        ("train", "left"): 1,
        ("train", "right"): 1,
        ("train", None): 1,
        ("test", "right"): 1,
    }


def test_a_column_with_a_gap_has_whole_labels(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    cases.numbered(tmp_path, 4)
    table = pandas.DataFrame({"file": [f"{n:02d}.png" for n in range(4)], "label": [1, 2, 1, None]})
    table.to_csv(tmp_path / "table.csv", index=False)
    items, _ = read(tmp_path / "table.csv")
    assert counted(items) == {(None, "1"): 2, (None, "2"): 1, (None, None): 1}
    assert counted(read(tmp_path)[0]) == counted(items)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    for name, case in (
        ("extra", cases.split_and_more),
        ("masks", cases.images_and_masks),
        ("submission", cases.kaggle_labels),
        ("link", cases.linked_classes),
        ("objects", cases.labels_npz),
        ("boxes", cases.boxes_are_no_captions),
    ):
        (tmp_path / name).mkdir()
        case(tmp_path / name)

    def told(*place: str) -> str:
        return "\n".join(each.reason for each in read(tmp_path.joinpath(*place))[1].problems)

    assert "3 pictures lie beside the folders of the splits" in told("extra")
    assert "6 pictures belong to the items beside them" in told("masks")
    assert "--condition masks " in read(tmp_path / "masks")[1].problems[0].fix
    assert "not read as pictures: sample_submission.csv" in told("submission")
    assert "a link to a folder that is read already" in told("link", "photos")
    assert "y holds Python objects" in told("objects", "object.npz")
    assert "3 .txt files not read as pictures" in told("boxes")


@pytest.mark.parametrize(
    ("place", "found", "fix"),
    [
        ("x.mat", "MATLAB", "scipy.io.loadmat"),
        ("x.h5", "HDF5", "h5py"),
        ("x.pt", "PyTorch", "weights_only=True"),
        ("lmdb", "LMDB", "lmdb"),
        ("data_batch_1", "pickle", "savez"),
        ("", "an HDF5 file", "h5py"),
    ],
)
def test_containers_that_nobody_reads(place: str, found: str, fix: str, tmp_path: Path) -> None:
    cases.foreign(tmp_path)
    with pytest.raises(DataError, match=found) as caught:
        find_modality(tmp_path / place)
    assert fix in str(caught.value)


def test_arrays_of_objects(tmp_path: Path) -> None:
    cases.labels_npz(tmp_path)
    with pytest.raises(DataError, match="could run code"):
        find_modality(tmp_path / "ragged.npz")


# -- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("top", "dtype", "white"),
    [(1, np.uint8, 1), (5, np.uint8, 5), (900, np.uint16, 1023), (4000, np.uint16, 4095)],
)
def test_values_that_leave_their_depth_unused(
    top: int, dtype: type, white: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, top + 1, (8, 8)).astype(dtype) for _ in range(40)]
    for number, array in enumerate(arrays):
        array[0, 0] = top
        Pillow.fromarray(array).save(tmp_path / f"{number:02d}.tif")
    items, _ = read(tmp_path)
    codec = Image().fit(items)
    assert codec.spec.levels == white + 1
    x = codec.encode_many(items)
    assert np.allclose(x[:, 0], 2 * np.stack(arrays) / white - 1, atol=1e-6)
    for number in (0, 7):
        assert np.array_equal(np.asarray(codec.decode(x[number])), arrays[number])
    again = Image.from_state(codec.state(), {})
    assert np.array_equal(again.encode_many(items), x)
    shown = np.asarray(
        Pillow.open(codec.write([codec.decode(x[0])], tmp_path.parent / f"{top}.png"))
    )
    assert shown.max() > 200
    found = inspect(tmp_path)
    assert not [each for each in found.problems if "constant" in each.reason]
    assert "white" in found.facts


def test_floats_whose_white_nobody_knows(tmp_path: Path) -> None:
    for number in range(3):
        array = cases.pixels(number).astype(np.float32) * 37.5
        Pillow.fromarray(array).save(tmp_path / f"{number}.tif")
    items, report = read(tmp_path)
    assert not items
    assert "whose scale is not known" in report.skipped[0].reason
    assert "save values in [0, 1]" in report.skipped[0].fix


def test_many_classes_of_one_item_are_told_once(tmp_path: Path) -> None:
    for number in range(120):
        cases.put(tmp_path / f"id{number}" / "0.png", cases.pixels(number))
    cases.numbered(tmp_path / "id0", 30, 500)
    found = inspect(tmp_path)
    rare = [each for each in found.problems if "one training item" in each.reason]
    assert [each.fix for each in rare] == [
        "add items to each, join it to another class, or remove it"
    ]
    assert len(found.text().splitlines()) < 60


def test_a_source_that_is_all_for_testing_says_so(tmp_path: Path) -> None:
    header = struct.pack(">4I", 0x803, 6, 8, 8)  # as MNIST's test part alone
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(header + images.tobytes())
    told = inspect(tmp_path).error
    assert told is not None
    assert "own test split" in told
    assert "6 test items" in told


def test_a_folder_of_sources_is_told_to_be_named_one_by_one(tmp_path: Path) -> None:
    for name in "ab":
        np.savez(tmp_path / f"{name}.npz", x=np.zeros((6, 8, 8), np.uint8))
    with pytest.raises(DataError, match="nothing here") as raised:
        find_modality(tmp_path)
    assert str(raised.value.hint) == f"name one of its files: morphogen inspect {tmp_path}/a.npz"
