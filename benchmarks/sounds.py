"""Spoken digits: how well are they recognised, made and written down, how fast are sounds read?

    python benchmarks/sounds.py RECORDINGS --minutes 8
    python benchmarks/sounds.py RECORDINGS --only written --encoder models/recogniser
    python benchmarks/sounds.py RECORDINGS --only spoken --minutes 8 --out models
    python benchmarks/sounds.py RECORDINGS --only reading

RECORDINGS are those of FSDD. The first trains a recogniser on the training part of the official
split (takes 5 to 49 of each digit and speaker; 0 to 4 are for testing) and says how many of the
test clips it reads. Then a model of the same clips, by their digit, is trained for so many minutes;
of what it makes, as many of each digit, the recogniser says how many it reads as what they were
asked for, with each amount of guidance. What it reads of real test clips that went through the
codec and back is between the two. Seconds of sound for a second of making, phases included, are
told besides. `--out` keeps both models, and pages to listen to; `--only again` reads kept models
again.

The second writes down what is said in the clips of the test part, letter by letter, by a model of
texts that are each given their sound, as a kept recogniser of the first hears it, or as what is
trained along does: words and characters that are wrong, counted by jiwer. The third makes sounds
from such texts ("seven"), which the recogniser of the first reads.

The last reads 10,000 clips, those of the data four times at other loudness: everything that
`train` does before the first step.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

import morphogen as mg
from morphogen.core.codec import Item, Report
from morphogen.core.random import generator
from morphogen.modalities.sound import Sound
from morphogen.modalities.sound.files import Waveform, write_sounds

PATTERN = "_{speaker}_{test=0|1|2|3|4}"
NAMES = f"modality.file_names={{label}}{PATTERN}"
AUGMENTED = ["family.max_shift=3", "family.mask_share=0.2", "family.max_gain=0.2"]
HEARING = [
    "family.cond_stem=conv", "family.cond_positions=64", "family.cond_dim=128",
    "family.cond_shift=3", "family.cond_mask=0.2", "family.cond_gain=0.2",
]  # fmt: skip
SMALL = ["backbone.model_dim=64", "backbone.num_layers=2"]
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
DIGITS = [str(digit) for digit in range(10)]
CLIPS = 10_000
Z = 1.96


class Reader(NamedTuple):
    """A recogniser, and how many of the real test clips it reads."""

    bundle: mg.Bundle
    real: float


def main() -> None:
    """A line of JSON for each."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("folder", type=Path)
    options.add_argument("--minutes", type=float, default=8.0, help="of the model")
    options.add_argument("--recogniser", type=float, default=3.0, help="minutes of the recogniser")
    options.add_argument(
        "--only", choices=("recogniser", "made", "again", "written", "spoken", "reading"),
        help="made, again and spoken: with the recogniser in --out",
    )  # fmt: skip
    options.add_argument("--each", type=int, default=100, help="sounds made of each digit")
    options.add_argument("--guidance", type=float, nargs="+", default=[1.0])
    options.add_argument("--encoder", help="bundle that hears, frozen; none: trained along")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--set", dest="settings", action="append", default=[])
    options.add_argument("--out", type=Path, help="keep the models there")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    if given.only == "reading":
        return reading(given.folder)
    with tempfile.TemporaryDirectory() as scratch:
        out = given.out or Path(scratch)
        if given.only == "written":
            return written(given, out, Path(scratch))
        if given.only in ("made", "again", "spoken"):
            recogniser = mg.open(str(out / "recogniser"))
        else:
            settings = [NAMES, *AUGMENTED]
            budget = f"{given.recogniser}m"
            recogniser = mg.train(
                given.folder, "supervised", budget=budget, out=out / "recogniser", settings=settings
            )
        reader = Reader(recogniser, recognised(recogniser, given.folder))
        if given.only == "spoken":
            spoken(reader, given, out, Path(scratch))
        elif given.only != "recogniser":
            made(reader, given, out)
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


def made(reader: Reader, given: argparse.Namespace, out: Path) -> None:
    """Train by digits, draw, read."""
    place = out / "digits"
    if given.only != "again":
        settings = [NAMES, *given.settings]
        mg.train(given.folder, budget=f"{given.minutes}m", out=place, settings=settings)
    bundle = mg.open(str(place))
    for guidance in given.guidance:
        read_of(bundle, [("label", digit) for digit in DIGITS], guidance, reader, given)


def spoken(reader: Reader, given: argparse.Namespace, out: Path, scratch: Path) -> None:
    """Train by texts, draw what each word says, read."""
    settings = [f"modality.file_names={{text}}{PATTERN}", "modality.conditions=text"]
    bundle = mg.train(
        by_words(given.folder, scratch), budget=f"{given.minutes}m", out=out / "spoken",
        settings=[*settings, *given.settings],
    )  # fmt: skip
    for guidance in given.guidance:
        read_of(bundle, [("text", word) for word in WORDS], guidance, reader, given)


def read_of(
    bundle: mg.Bundle,
    asked: Sequence[tuple[str, str]],
    guidance: float,
    reader: Reader,
    given: argparse.Namespace,
) -> None:
    """How many sounds, as many for each of `asked`, are read as the digit at its place."""
    sounds: list[Waveform] = []
    labels = [digit for digit in DIGITS for _ in range(given.each)]
    began = time.perf_counter()
    for number, (name, value) in enumerate(asked):
        drawn = bundle.sample(given.each, cond={name: value}, seed=number, guidance=guidance)
        sounds += bundle.codec.decode_many(drawn.x)
    seconds = time.perf_counter() - began
    length = sum(sound.seconds for sound in sounds)
    right = [a == b for a, b in zip(read_by(reader.bundle, sounds), labels, strict=True)]
    found = share(right)
    each = {
        digit: sum(r for r, label in zip(right, labels, strict=True) if label == digit) / given.each
        for digit in DIGITS
    }
    tell(
        what=f"made by {asked[0][0]}", family=bundle.recipe.family["name"],
        steps=bundle.run.get("steps"), guidance=guidance, **found,
        of_real=found["read"] / reader.real,
        seconds_made=length, seconds_taken=seconds, times_real_time=length / seconds, each=each,
    )  # fmt: skip
    if given.out:
        some = [sound for i, sound in enumerate(sounds) if i % given.each < 4]
        bundle.codec.write(some, given.out / f"{asked[0][0]}-{guidance:g}.html", 4)


def written(given: argparse.Namespace, out: Path, scratch: Path) -> None:
    """Train a model of words, each given its sound; write down the test part; count errors."""
    import jiwer

    data = mg.load(
        by_words(given.folder, scratch), file_names=f"{{caption}}{PATTERN}", given="sound",
        conditions=f"sound={given.encoder}" if given.encoder else "sound",
    )  # fmt: skip
    settings = [*SMALL, *([] if given.encoder else HEARING), *given.settings]
    bundle = mg.train(data, budget=f"{given.minutes}m", out=out / "written", settings=settings)
    batch = data.test.batch(torch.arange(len(data.test)))
    began = time.perf_counter()
    model: Any = bundle.family
    x = model.sample(len(batch), cond=batch.cond, generator=generator(0), temperature=0.0)
    seconds = time.perf_counter() - began
    said, heard = bundle.codec.decode_many(batch.x), bundle.codec.decode_many(x)
    tell(
        what="written down", steps=bundle.run.get("steps"), clips=len(said), seconds_taken=seconds,
        word_error_rate=jiwer.wer(said, heard), char_error_rate=jiwer.cer(said, heard),
        wrong=[f"{a} -> {b}" for a, b in zip(said, heard, strict=True) if a != b],
    )  # fmt: skip


def by_words(folder: Path, scratch: Path) -> Path:
    """The same clips, their names beginning with words: seven_george_12.wav."""
    place = scratch / "words"
    place.mkdir()
    for path in folder.glob("*.wav"):
        digit, _, rest = path.name.partition("_")
        shutil.copyfile(path, place / f"{WORDS[int(digit)]}_{rest}")
    return place


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
