"""What memory and time it takes to load, and to train on, data that is larger than memory.

    python benchmarks/stores.py text --gigabytes 10
    python benchmarks/stores.py documents --gigabytes 10
    python benchmarks/stores.py files --gigabytes 1
    python benchmarks/stores.py line --gigabytes 2
    python benchmarks/stores.py pictures --num 200000

The goal: 10 GB of text and 200,000 pictures of 256x256 within 4 GB of memory. Text is words drawn
from a list: in files of 64 MB, in documents of 1 kB (each a line of one JSON lines file beside an
address and a source, or a file of its own), or in one line of one file. Pictures are JPEG files of
256x256, each a crop of one of a few large ones. Loading and a few steps of training run in a
process of their own, whose largest resident memory (its children's included) is printed. Everything
is made in a folder of its own, which is removed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

FILE = 64 << 20  # bytes of a file of text
DOCUMENT = 1000  # bytes of a document, about
TEXTS = ("text", "documents", "files", "line")


def main() -> None:
    """Make the data, measure, print a line for each part."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("kind", choices=(*TEXTS, "pictures"))
    options.add_argument("--gigabytes", type=float, default=10.0)
    options.add_argument("--num", type=int, default=200_000)
    options.add_argument("--size", type=int, default=256)
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--folder", help="where the data is made; none: the system's")
    options.add_argument("--measure", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.measure:
        measure(Path(given.measure), given.kind, given.steps, given.size)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as root:
        data, begun = Path(root, "data"), time.perf_counter()
        data.mkdir()
        if given.kind == "pictures":
            make_pictures(data, given.num)
        else:
            make_texts(data, given.kind, int(given.gigabytes * 1e9))
        size = sum(file.stat().st_size for file in data.rglob("*") if file.is_file())
        print(f"{size / 1e9:.2f} GB made in {time.perf_counter() - begun:.0f} s", flush=True)
        command = [sys.executable, __file__, given.kind, "--measure", root]
        command += ["--steps", str(given.steps), "--size", str(given.size)]
        subprocess.run(command, check=True)


def make_texts(folder: Path, kind: str, size: int) -> None:
    """Some `size` bytes of words, in the form that `kind` names."""
    if kind == "text":
        for number in range(-(-size // FILE)):
            wanted = min(FILE, size - number * FILE)
            parts = passages(number, 1 << 16, wanted // ((1 << 16) + 3) + 1)
            text = b".\n\n".join(parts)
            (folder / f"{number:04d}.txt").write_bytes(text[:wanted])
    elif kind == "line":
        with (folder / "line.txt").open("wb") as file:
            file.writelines(passages(0, 1 << 16, size >> 16))
    elif kind == "files":
        for number, part in enumerate(passages(0, DOCUMENT, size // DOCUMENT)):
            place = folder / f"{number // 10_000:05d}"
            place.mkdir(exist_ok=True)
            (place / f"{number}.txt").write_bytes(part)
    else:
        with (folder / "documents.jsonl").open("w") as file:
            for number, part in enumerate(passages(0, DOCUMENT, size // DOCUMENT)):
                address = f"https://example.org/page/{number}"
                row = {"text": part.decode(), "url": address, "source": f"site{number % 50}"}
                file.write(json.dumps(row) + "\n")


def passages(seed: int, length: int, num: int) -> Iterator[bytes]:
    """Words drawn as often as words are (Zipf): `num` pieces of one long text, no two alike."""
    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"etaoinshrdlucmfwypvbgk", np.uint8)
    words = [bytes(rng.choice(letters, 1 + rng.poisson(4))) for _ in range(5000)]
    share = 1 / np.arange(1, len(words) + 1)
    rng = np.random.default_rng(seed)
    block = rng.choice(len(words), 1 << 17, p=share / share.sum())
    text = b" ".join(words[each] for each in block)
    for number, start in enumerate(rng.integers(len(text) - length, size=num).tolist()):
        yield b"%x " % number + text[start : start + length]


def make_pictures(folder: Path, num: int) -> None:
    """JPEG files of 256x256: crops of large pictures of noise at several scales."""
    from PIL import Image

    rng = np.random.default_rng(0)
    large = []
    for _ in range(4):
        total = np.zeros((1024, 1024, 3))
        for side in (6, 20, 60):
            noise = Image.fromarray(rng.integers(0, 256, (side, side, 3)).astype(np.uint8))
            total += np.asarray(noise.resize((1024, 1024)), float)
        large.append(Image.fromarray(np.uint8(total / 3)))
    for number in range(num):
        place = folder / f"class{number % 10}" / f"{number // 1000:04d}"
        place.mkdir(parents=True, exist_ok=True)
        left, top = rng.integers(0, 768, 2).tolist()
        crop = large[number % 4].crop((left, top, left + 256, top + 256))
        crop.save(place / f"{number}.jpg", quality=60)


def measure(root: Path, kind: str, steps: int, size: int) -> None:
    """Load and train in this process; print what it took."""
    import os

    os.environ["MORPHOGEN_CACHE"] = str(root / "cache")
    import morphogen as mg
    from morphogen.data.progress import Progress, listening

    def show(progress: Progress) -> None:
        if progress.total == progress.done:
            print(f"  {progress.doing} {progress.done:,}: {progress.seconds:.0f} s", flush=True)

    begun = time.perf_counter()
    with listening(show):
        source = root / "data" / ("documents.jsonl" if kind == "documents" else "")
        data = mg.load(source, **({"size": size} if kind == "pictures" else {}))
    told(f"load: {len(data.train):,} + {len(data.test):,} items of {data.spec}", begun)
    begun = time.perf_counter()
    settings = ["train.num_previews=1", f"train.budget={steps}steps"]
    family = "autoencoder"
    if kind in TEXTS:
        family = "autoregressive"
        settings += ["backbone.model_dim=64", "backbone.num_layers=2"]
    bundle = mg.train(data, family, settings=settings, out=root / "model")
    told(f"{bundle.run['steps']} steps of {family}", begun)
    stored = sum(file.stat().st_size for file in (root / "cache").rglob("*.bin"))
    print(json.dumps({"peak_gb": round(peak(), 2), "stored_gb": round(stored / 1e9, 2)}))


def told(what: str, begun: float) -> None:
    """A line: what was done, how long it took, the largest memory so far."""
    print(f"{what}: {time.perf_counter() - begun:.0f} s, peak {peak():.2f} GB", flush=True)


def peak() -> float:
    """Largest resident memory of this process and its children, GB."""
    scale = 1 if sys.platform == "darwin" else 1024
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(each).ru_maxrss for each in who) * scale / 1e9


if __name__ == "__main__":
    main()
