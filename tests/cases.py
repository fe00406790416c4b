"""Small inputs as programs and people leave them: each function fills a folder with one case."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

SIDE = 8
Case = Callable[[Path], None]


def pixels(seed: int, *shape: int) -> np.ndarray:
    """Values that use the whole range, different for every seed."""
    values = np.random.default_rng(seed).integers(0, 256, shape or (SIDE, SIDE)).astype(np.uint8)
    values.reshape(-1)[:2] = 0, 255
    return values


def put(path: Path, content: bytes | str | np.ndarray, **how: str) -> None:
    """Write bytes, a text, or a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        Pillow.fromarray(content).save(path, **how)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def png(seed: int) -> bytes:
    """An encoded picture."""
    stream = io.BytesIO()
    Pillow.fromarray(pixels(seed)).save(stream, "PNG")
    return stream.getvalue()


def numbered(folder: Path, count: int, start: int = 0, suffix: str = ".png") -> None:
    """`count` pictures called 00, 01, ..."""
    for number in range(count):
        put(folder / f"{number:02d}{suffix}", pixels(start + number))


# -- what lies beside pictures --------------------------------------------------------------------


def stylegan_zip(out: Path) -> None:
    """Buckets of files that are no classes; the labels are in dataset.json."""
    names = [f"{number // 6:05d}/img{number:08d}.png" for number in range(12)]
    with zipfile.ZipFile(out / "data.zip", "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(name, png(number))
        labels = [[name, number % 3] for number, name in enumerate(names)]
        archive.writestr("dataset.json", json.dumps({"labels": labels}))


def metadata_jsonl(out: Path) -> None:
    """The Hub's metadata.jsonl: labels and captions beside the pictures."""
    numbered(out, 6)
    rows = [
        {"file_name": f"{n:02d}.png", "text": f"blob {n}", "label": "ab"[n % 2]} for n in range(6)
    ]
    put(out / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def tsv_captions(out: Path) -> None:
    """Tabs, `filepath` and `title`."""
    numbered(out, 6)
    rows = [f"{n:02d}.png\tblob {n}\t{n % 2}" for n in range(6)]
    put(out / "captions.tsv", "\n".join(["filepath\ttitle\tlabel", *rows]) + "\n")


def kaggle_labels(out: Path) -> None:
    """Ids without suffix, labels in a column of any name, and a form to fill in."""
    numbered(out / "train", 6)
    rows = [f"{n:02d},{('pug', 'boxer')[n % 2]}" for n in range(6)]
    put(out / "labels.csv", "\n".join(["id,breed", *rows]) + "\n")
    put(out / "sample_submission.csv", "id,breed\n00,pug\n01,pug\n02,pug\n03,pug\n")


def webdataset_shards(out: Path) -> None:
    """KEY.png, KEY.cls and KEY.txt in numbered archives, with keys that come again."""
    for shard in range(2):
        with tarfile.open(out / f"train-{shard:06d}.tar", "w") as archive:
            for number in range(3):
                texts = {"cls": f"{number % 2}", "txt": f"blob {number}"}
                members = {"png": png(10 * shard + number), **texts}
                for suffix, data in members.items():
                    content = data.encode() if isinstance(data, str) else data
                    info = tarfile.TarInfo(f"{number:04d}.{suffix}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))


def excel(code: str, first: str, delimiter: str = ";") -> Case:
    """A table as Excel exports it: marks, line ends within cells, quotes within quotes."""

    def case(out: Path) -> None:
        numbered(out / "images", 4)
        cell = '"größer, ""so""\nund so"'
        rows = [delimiter.join((f"{n:02d}.png", cell, "ab"[n % 2])) for n in range(4)]
        text = "\r\n".join([first + delimiter.join(("file_name", "text", "label")), *rows])
        put(out / "captions.csv", (text + "\r\n").encode(code))

    return case


def tables_of_parts(out: Path) -> None:
    """A table in each part, of bare names that come again in the other."""
    for start, part in ((0, "train"), (50, "test")):
        numbered(out / part / "images", 4, start)
        rows = [f"{n:02d}.png,{part} {n},{'ab'[n % 2]}" for n in range(4)]
        put(out / part / "captions.csv", "\n".join(["file,text,label", *rows]))


def boxes_are_no_captions(out: Path) -> None:
    """What detectors learn lies in .txt files, too."""
    numbered(out, 3)
    for number in range(3):
        put(out / f"{number:02d}.txt", "0 0.5 0.5 0.25 0.1\n")


# -- folders --------------------------------------------------------------------------------------


def linked_classes(out: Path) -> None:
    """Class folders that are symbolic links, one of them to a folder already read."""
    numbered(out / "photos" / "cat", 3)
    numbered(out / "elsewhere" / "dog", 3, 50)
    (out / "photos" / "dog").symlink_to((out / "elsewhere" / "dog").resolve())
    (out / "photos" / "again").symlink_to((out / "elsewhere" / "dog").resolve())
    (out / "photos" / "cat" / "loop").symlink_to((out / "photos").resolve())


def class_then_split(out: Path) -> None:
    """CLASS/train/x.png and CLASS/test/x.png."""
    for number, name in enumerate(("cat", "dog")):
        numbered(out / name / "train", 4, 100 * number)
        numbered(out / name / "test", 2, 100 * number + 50)


def split_and_more(out: Path) -> None:
    """train/, test/ and a third folder that is neither."""
    for number, name in enumerate(("train", "test", "extra")):
        numbered(out / name / "cat", 3, 100 * number)


def images_and_masks(out: Path) -> None:
    """The pictures, and beside them what belongs to each."""
    for split in ("train", "val"):
        numbered(out / split / "images", 3)
        numbered(out / split / "masks", 3, 50)


def litter(out: Path) -> None:
    """What macOS, Windows and a file server leave behind."""
    numbered(out / "cat", 3)
    numbered(out / "dog", 3, 50)
    for name in ("._00.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
        put(out / "cat" / name, b"\0\5\x16\7")
    put(out / "__MACOSX" / "cat" / "00.png", pixels(7))
    put(out / "@eaDir" / "00.png", pixels(8))


def other_suffixes(out: Path) -> None:
    """.jfif, .pgm, .ppm, .JPEG, a suffix nobody knows, and none."""
    suffixes = {".jfif": "JPEG", ".pgm": "PPM", ".ppm": "PPM", ".JPEG": "JPEG"}
    for kind, (suffix, how) in enumerate((suffixes | {".scan": "PNG", "": "PNG"}).items()):
        for number in range(2):
            name = f"{number}{suffix}"
            put(out / f"kind{kind}" / name, pixels(10 * kind + number), format=how)


def backslashes(out: Path) -> None:
    """A zip in which Windows wrote its own separator."""
    with zipfile.ZipFile(out / "data.zip", "w") as archive:
        for number in range(4):
            member = zipfile.ZipInfo(f"{('cat', 'dog')[number % 2]}/{number}.png")
            member.filename = member.filename.replace("/", "\\")
            archive.writestr(member, png(number))


def archives_are_classes(out: Path) -> None:
    """cat.zip and dog.zip, with files of the same names."""
    for start, name in enumerate(("cat", "dog")):
        with zipfile.ZipFile(out / f"{name}.zip", "w") as archive:
            for number in range(2):
                archive.writestr(f"{number}.png", png(10 * start + number))


# -- arrays and tables ----------------------------------------------------------------------------


def labels_npz(out: Path) -> None:
    """Labels as floats, one-hot rows and Python objects."""
    x, y = pixels(0, 6, SIDE, SIDE), np.arange(6) % 3
    np.savez(out / "float.npz", x=x, y=y.astype(float))
    np.savez(out / "onehot.npz", x=x, y=np.eye(3)[y])
    np.savez(out / "object.npz", x=x, y=np.array(["a", "b", "c"], dtype=object)[y])
    np.savez(out / "ragged.npz", x=np.array([np.zeros(2), np.zeros(3)], dtype=object))


def npy(out: Path) -> None:
    """One picture in a file, and a folder of such files."""
    np.save(out / "one.npy", pixels(0, 16, 12, 3))
    for number in range(4):
        put(out / "folder" / f"{number}.npy", b"")
        np.save(out / "folder" / f"{number}.npy", pixels(number, 3, 16, 12))


def pixel_csv(out: Path) -> None:
    """A row for each picture: its label, then its pixels."""
    head = ",".join(["label", *(f"pixel{n}" for n in range(SIDE * SIDE))])
    rows = [f"{n % 2}," + ",".join(map(str, pixels(n).ravel())) for n in range(4)]
    put(out / "train.csv", "\n".join([head, *rows]) + "\n")


def foreign(out: Path) -> None:
    """Containers that nobody reads."""
    put(out / "x.mat", b"MATLAB 5.0 MAT-file" + bytes(64))
    put(out / "x.h5", b"\x89HDF\r\n\x1a\n" + bytes(64))
    put(out / "x.pt", b"PK\x03\x04")
    put(out / "lmdb" / "data.mdb", bytes(64))
    put(out / "data_batch_1", pickle.dumps({"data": [1, 2]}))
