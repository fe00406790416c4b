"""Spoken digits: how well are they recognised and made, and how fast are sounds read?

    python benchmarks/sounds.py SHARED/data/fsdd/recordings --minutes 8
    python benchmarks/sounds.py SHARED/data/fsdd/recordings --reading

The first trains a recogniser on the training part of the official split (takes 5 to 49 of each
digit and speaker; 0 to 4 are for testing) and says how many of the test clips it reads. Then a
model of the same clips, by their digit, is trained for so many minutes; of what it makes, as many
of each digit, the recogniser says how many it reads as what they were asked for. What it reads of
real test clips that went through the codec and back is between the two. Seconds of sound for a
second of making, phases included, are told besides. `--out` keeps both models, and a page.

The second reads 10,000 clips, those of the data four times at other loudness: everything that
`train` does before the first step.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import morphogen as mg
from morphogen.core.codec import Item, Report
from morphogen.modalities.sound import Sound
from morphogen.modalities.sound.files import Waveform, write_sounds

NAMES = "modality.file_names={label}_{speaker}_{test=0|1|2|3|4}"
AUGMENTED = ["family.max_shift=3", "family.mask_share=0.2", "family.max_gain=0.2"]
DIGITS = [str(digit) for digit in range(10)]
CLIPS = 10_000
Z = 1.96


def main() -> None:
    """A line of JSON for each."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("folder", type=Path)
    options.add_argument(
        "--minutes", type=float, default=8.0, help="of the model that makes sounds"
    )
    options.add_argument("--recogniser", type=float, default=3.0, help="minutes of the recogniser")
    options.add_argument("--only", choices=("recogniser", "made"), help="made: needs --out")
    options.add_argument("--each", type=int, default=100, help="sounds made of each digit")
    options.add_argument("--guidance", type=float)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--reading", action="store_true", help="read 10,000 clips")
    options.add_argument("--set", dest="settings", action="append", default=[])
    options.add_argument("--out", type=Path, help="keep the models there")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    if given.reading:
        return reading(given.folder)
    with tempfile.TemporaryDirectory() as scratch:
        out = given.out or Path(scratch)
        if given.only == "made":
            recogniser = mg.open(str(out / "recogniser"))
        else:
            settings = [NAMES, *AUGMENTED]
            budget = f"{given.recogniser}m"
            recogniser = mg.train(
                given.folder, "supervised", budget=budget, out=out / "recogniser", settings=settings
            )
        real = recognised(recogniser, given.folder)
        if given.only != "recogniser":
            made(recogniser, real, given, out)
    return None


def tell(**facts: Any) -> None:
    """One line."""
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in facts.items()}
    print(json.dumps(rounded), flush=True)


def share(right: Sequence[bool]) -> dict[str, Any]:
    """Of how many, how many; Wilson's interval."""
    n, p = len(right), sum(right) / len(right)
    middle, scale = (p + Z**2 / (2 * n)) / (1 + Z**2 / n), 1 / (1 + Z**2 / n)
    width = Z * scale * (p * (1 - p) / n + Z**2 / (4 * n**2)) ** 0.5
    return {"read": p, "low": middle - width, "high": middle + width, "clips": n}


@torch.no_grad()
def read_by(recogniser: mg.Bundle, sounds: Sequence[Waveform]) -> list[str]:
    """What the recogniser takes each for."""
    codec, family = recogniser.codec, recogniser.family.eval()
    names = codec.class_names("label")
    x = codec.encode_many([Item(sound) for sound in sounds])
    found = torch.cat([family.predict(part).argmax(1) for part in x.split(500)])  # type: ignore[operator]
    return [names[index] for index in found.tolist()]


def recognised(recogniser: mg.Bundle, folder: Path) -> float:
    """Its accuracy on the test part, and on the same after a codec."""
    items = [each for each in Sound().read(folder, Report("")) if int(take(each.name)) < 5]
    labels = [each.name.partition("_")[0] for each in items]
    right = [a == b for a, b in zip(read_by(recogniser, values(items)), labels, strict=True)]
    tell(what="real clips of the test part", steps=recogniser.run.get("steps"), **share(right))
    codec = recogniser.codec
    again = codec.decode_many(codec.encode_many(items))
    back = [a == b for a, b in zip(read_by(recogniser, again), labels, strict=True)]
    tell(what="the same, encoded and decoded", **share(back))
    return sum(right) / len(right)


def made(recogniser: mg.Bundle, real: float, given: argparse.Namespace, out: Path) -> None:
    """Train, draw, read."""
    place = out / "digits"
    bundle = mg.train(
        given.folder, budget=f"{given.minutes}m", out=place, settings=[NAMES, *given.settings]
    )
    sounds: list[Waveform] = []
    labels = [digit for digit in DIGITS for _ in range(given.each)]
    guided = {} if given.guidance is None else {"guidance": given.guidance}
    began = time.perf_counter()
    for digit in DIGITS:
        drawn = bundle.sample(given.each, cond={"label": digit}, seed=int(digit), **guided)
        sounds += bundle.codec.decode_many(drawn.x)
    seconds = time.perf_counter() - began
    length = sum(sound.seconds for sound in sounds)
    told = read_by(recogniser, sounds)
    right = [a == b for a, b in zip(told, labels, strict=True)]
    found = share(right)
    each = {
        digit: sum(r for r, label in zip(right, labels, strict=True) if label == digit) / given.each
        for digit in DIGITS
    }
    tell(
        what="made", family=bundle.recipe.family["name"], steps=bundle.run.get("steps"), **found,
        of_real=found["read"] / real, seconds_made=length, seconds_taken=seconds,
        times_real_time=length / seconds, each=each,
    )  # fmt: skip
    if given.out:
        some = [sound for i, sound in enumerate(sounds) if i % given.each < 4]
        bundle.codec.write(some, given.out / "made.html", 4)
        write_sounds(some, given.out / "made.wav")


def values(items: Sequence[Item]) -> list[Waveform]:
    """Their sounds."""
    return [item.value for item in items]


def take(name: str) -> str:
    """Which of the recordings of a digit by a speaker it is."""
    return name.rpartition("_")[2].partition(".")[0]


def reading(folder: Path) -> None:
    """10,000 clips, from files to a store."""
    known = list(Sound().read(folder, Report("")))
    with tempfile.TemporaryDirectory() as place:
        for number in range(CLIPS):
            item, gain = known[number % len(known)], 1 - 0.1 * (number // len(known))
            name = item.name.rpartition("/")[2].partition(".")[0]
            quieter = Waveform(item.value.samples * gain, item.value.rate)
            write_sounds([quieter], Path(place) / f"{name}_{number // len(known)}.wav")
        began, cpu = time.perf_counter(), time.process_time()
        data = mg.load(place, file_names="{label}_{speaker}_{}_{}")
        tell(
            what="reading", clips=len(data.train) + len(data.test),
            seconds=time.perf_counter() - began, processor_seconds=time.process_time() - cpu,
            most_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        )  # fmt: skip


if __name__ == "__main__":
    main()
