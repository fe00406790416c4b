"""What `dedupe` recognises, and how long it takes: `python benchmarks/duplicates.py SOURCE`.

First the recall: 200 pictures of SOURCE, twelve kinds of twins of each, and the share of them that
is recognised, with how many others are called the same. Then wall-clock and processor seconds of
one `dedupe` of all of SOURCE (`--recall-only` leaves that out), and how many groups it finds.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import time
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image as Pillow

from morphogen.core.codec import Item, Report
from morphogen.data.duplicates import find_duplicates
from morphogen.data.fingerprints import Fingerprints
from morphogen.modalities.image import Image
from morphogen.modalities.image.convert import raw

NUM_TWINS = 200
Picture = Pillow.Image
Twin = Callable[[Picture, np.random.Generator], Picture]


def jpeg(image: Picture, quality: int) -> Picture:
    """Compressed and opened again."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Pillow.open(stream).convert(image.mode)


def scaled(image: Picture, factor: float) -> Picture:
    """At another size."""
    return image.resize((round(image.width * factor), round(image.height * factor)))


def cut(image: Picture, parts: Sequence[float]) -> Picture:
    """Without these parts of a side at the left, the top, the right and the bottom."""
    left, top, right, bottom = (
        round(part * side)
        for part, side in zip(parts, (image.width, image.height) * 2, strict=True)
    )
    return image.crop((left, top, image.width - right, image.height - bottom))


def one_off(image: Picture) -> Picture:
    """Without the outermost pixels."""
    return image.crop((1, 1, image.width - 1, image.height - 1))


TWINS: dict[str, Twin] = {
    "JPEG quality 75": lambda image, _: jpeg(image, 75),
    "JPEG quality 50": lambda image, _: jpeg(image, 50),
    "twice the size": lambda image, _: scaled(image, 2),
    "three quarters of the size": lambda image, _: scaled(image, 0.75),
    "mirrored": lambda image, _: image.transpose(Pillow.Transpose.FLIP_LEFT_RIGHT),
    "one pixel off every side": lambda image, _: one_off(image),
    "the same, resized back, JPEG 75": lambda image, _: jpeg(one_off(image).resize(image.size), 75),
    "7 % off every side": lambda image, _: cut(image, [0.07] * 4),
    "7 % off one side": lambda image, _: cut(image, [0.07, 0, 0, 0]),
    "7, 4, 0 and 4 % off the sides": lambda image, _: cut(image, [0.07, 0.04, 0, 0.04]),
    "up to 7 % off each side": lambda image, rng: cut(image, rng.uniform(0, 0.07, 4)),
    "up to 10 % off each side": lambda image, rng: cut(image, rng.uniform(0, 0.1, 4)),
}


def prints(pictures: Sequence[Picture]) -> Fingerprints:
    """The fingerprints of some pictures."""
    found = Fingerprints(Image())
    for number, image in enumerate(pictures):
        found.see(number, Item(image))
    return found


def recall_table(originals: Sequence[Picture]) -> None:
    """Print, by kind, the share of twins that is recognised, and the false pairs."""
    known = prints(originals)
    print("| twin | recognised | false |\n| --- | --- | --- |")
    for kind, twin in TWINS.items():
        rng = np.random.default_rng(0)
        pairs = known.pairs_with(prints([twin(image, rng) for image in originals]))
        right = sum(i == j for i, j, _ in pairs)
        print(f"| {kind} | {right / len(originals):.3f} | {len(pairs) - right} |", flush=True)


def spent() -> float:
    """Processor seconds so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print the table, then the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--recall-only", action="store_true")
    options = parser.parse_args()
    items = Image().read(options.source, Report(options.source))
    some = [item for item, _ in zip(items, range(20 * NUM_TWINS), strict=False)][::20]
    pictures = [raw(item.value) for item in some]
    recall_table([each if isinstance(each, Picture) else Pillow.fromarray(each.squeeze())
                  for each in pictures])  # fmt: skip
    if options.recall_only:
        return
    began, before = time.perf_counter(), spent()
    found = find_duplicates(options.source)
    wall, processor = time.perf_counter() - began, spent() - before
    kinds = [group.kind for group in found.groups]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{found.num_items:,} items: {wall:.0f} s, {processor:.0f} s of processors, "
        f"{memory:.1f} GiB at most; {kinds.count('exact'):,} groups of exact copies, "
        f"{kinds.count('near'):,} of near-duplicates; load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
