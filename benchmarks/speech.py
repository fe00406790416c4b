"""How much of what is said does the real Whisper get wrong, as a bundle and by its library alone?

    python benchmarks/speech.py models/published/whisper --data ../shared/data [--num 25]

Two kinds of speech: people who say ten digits each (Free Spoken Digit Dataset, 8 kHz, clips of one
speaker with pauses between them), and a synthetic voice that reads captions (espeak-ng, where it is
installed). Word error rates by jiwer after case, punctuation and digits are written in one way,
with 95 % bootstrap intervals over sounds. faster-whisper is given the same samples, and its text
has to be the same, to the letter.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import faster_whisper
import jiwer
import numpy as np
import torch

from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.interop.importing import import_model
from morphogen.modalities.sound.files import Waveform, opened

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "yweweler")
PAUSE = 0.35  # seconds between digits
Spoken = tuple[str, Waveform, str]  # kind, sound, what is said


def digits(folder: Path, num: int) -> Iterator[Spoken]:
    """Ten digits of one speaker each, in random order, at the loudness of a voice close by."""
    draw = np.random.default_rng(0)
    for number in range(num):
        speaker = SPEAKERS[number % len(SPEAKERS)]
        order, pieces, rate = draw.permutation(10), [], 0
        for digit in order:
            file = folder / f"{digit}_{speaker}_{draw.integers(50)}.wav"
            sound = opened(file.read_bytes())
            rate = sound.rate
            pieces += [sound.samples / np.abs(sound.samples).max() * 0.5]
            pieces += [np.zeros((1, int(PAUSE * rate)), np.float32)]
        yield (
            "digits",
            Waveform(np.concatenate(pieces, 1), rate),
            " ".join(DIGITS[d] for d in order),
        )


def captions(file: Path, num: int) -> Iterator[Spoken]:
    """Captions of photographs as espeak-ng reads them."""
    if shutil.which("espeak-ng") is None:
        return
    with gzip.open(file, "rt") as lines, tempfile.TemporaryDirectory() as folder:
        for _, line in zip(range(num), lines, strict=False):
            out = Path(folder) / "said.wav"
            command = ["espeak-ng", "-v", "en-us", "-s", "150", "-w", str(out), line.strip()]
            subprocess.run(command, check=True)
            yield "captions", opened(out.read_bytes()), line.strip()


def plain(text: str) -> str:
    """Words in one way of writing."""
    text = re.sub(r"\d", lambda found: f" {DIGITS[int(found[0])]} ", text.lower())
    return " ".join(re.sub(r"[^a-z' ]", " ", text).split())


def interval(pairs: list[tuple[str, str]]) -> tuple[float, float, float]:
    """The word error rate, and its 95 % bootstrap interval over sounds."""
    counts = []
    for said, heard in pairs:
        found = jiwer.process_words(said, heard or " ")
        wrong = found.substitutions + found.deletions + found.insertions
        counts.append((wrong, len(said.split())))
    table, draw = np.array(counts), np.random.default_rng(0)
    again = table[draw.integers(len(table), size=(2000, len(table)))].sum(1)
    low, high = np.quantile(again[:, 0] / again[:, 1], [0.025, 0.975])
    wrong, words = table.sum(0)
    return float(wrong / words), float(low), float(high)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--num", type=int, default=25, help="sounds of each kind")
    asked = parser.parse_args()
    threads = torch.get_num_threads()
    theirs = faster_whisper.WhisperModel(str(asked.model), device="cpu", cpu_threads=threads)
    with tempfile.TemporaryDirectory() as folder:
        bundle = Bundle.open(import_model(asked.model).save(folder))
    spoken = [*digits(asked.data / "fsdd" / "recordings", asked.num)]
    spoken += captions(asked.data / "multi30k" / "test_2016_flickr.en.gz", asked.num)
    found: dict[str, list[tuple[str, str]]] = {}
    seconds, same, costs = 0.0, 0, [0.0, 0.0]
    for kind, sound, said in spoken:
        began = time.process_time()
        ours = bundle.task("transcribe", Item(sound)).raw[0]
        between = time.process_time()
        samples = bundle.codec.waveform(sound)[0].numpy()
        pieces, _ = theirs.transcribe(samples, language="en")
        other = "".join(piece.text for piece in pieces).strip()
        costs = [costs[0] + between - began, costs[1] + time.process_time() - between]
        same, seconds = same + (ours == other), seconds + sound.seconds
        found.setdefault(kind, []).append((plain(said), plain(ours)))
    for kind, pairs in found.items():
        rate, low, high = interval(pairs)
        print(f"| {kind} | {len(pairs)} | {rate:.3f} [{low:.3f}, {high:.3f}] |")
    worst = max((p for pairs in found.values() for p in pairs), key=lambda p: jiwer.wer(*p))
    told = {"same_text": f"{same} of {len(spoken)}", "seconds_of_sound": round(seconds, 1),
            "processor_seconds": [round(cost, 1) for cost in costs], "worst": worst}  # fmt: skip
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
