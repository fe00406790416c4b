"""How often is a watermark found after what happens to pictures, sounds and texts, how often where
there is none, and what does it cost?

    python benchmarks/watermarks.py --data ../shared/data [--smollm2 models/published/smollm2]
        [--only pictures sounds texts] [--num 16]

A mark counts as found where the detector says p < 0.01. False alarms are counted over unmarked
items, changed in the same ways, each with keys of its own. The cost: PSNR of pictures, SNR of
sounds; of texts how surprising a token is to the model, with and without, and beside what the
model expects of it.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from PIL import Image as Pillow

from morphogen.core.codec import Item
from morphogen.core.writing import Limits, Request
from morphogen.evaluation.intervals import mean_interval
from morphogen.interop.importing import opened_or_imported
from morphogen.modalities.image import watermark as waves
from morphogen.modalities.sound import watermark as tones
from morphogen.modalities.sound.files import Waveform, opened, resampled
from morphogen.provenance import token_mark
from morphogen.provenance.token_mark import TokenMark

KEY, LEVEL = b"benchmark key of 32 bytes, no se", 0.01
PAUSE = 0.2  # seconds between digits
Changes = dict[str, Callable[[Any], Any]]


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


# -- pictures --------------------------------------------------------------------------------------


def as_jpeg(quality: int) -> Callable[[Pillow.Image], Pillow.Image]:
    def saved(picture: Pillow.Image) -> Pillow.Image:
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality)
        return Pillow.open(stream).convert("RGB")

    return saved


def resized(scale: float) -> Callable[[Pillow.Image], Pillow.Image]:
    def smaller(picture: Pillow.Image) -> Pillow.Image:
        size = (round(picture.width * scale), round(picture.height * scale))
        return picture.resize(size, Pillow.Resampling.LANCZOS)

    return smaller


def cropped(share: float) -> Callable[[Pillow.Image], Pillow.Image]:
    def inner(picture: Pillow.Image) -> Pillow.Image:
        width, height = (round(side * share) for side in picture.size)
        left, top = picture.width - width - 3, picture.height - height - 2
        return picture.crop((max(left, 0), max(top, 0), max(left, 0) + width, max(top, 0) + height))

    return inner


def noisy(deviation: float) -> Callable[[Pillow.Image], Pillow.Image]:
    def with_noise(picture: Pillow.Image) -> Pillow.Image:
        array = np.asarray(picture, float)
        noise = np.random.default_rng(0).normal(0, deviation, array.shape)
        return Pillow.fromarray(np.clip(array + noise, 0, 255).astype(np.uint8))

    return with_noise


PICTURES: Changes = {
    "as it is": lambda picture: picture,
    "JPEG 90": as_jpeg(90),
    "JPEG 75": as_jpeg(75),
    "JPEG 50": as_jpeg(50),
    "resized to 3/4": resized(0.75),
    "resized to 1/2": resized(0.5),
    "resized to 3/2": resized(1.5),
    "cropped to 3/4": cropped(0.75),
    "cropped to 1/2": cropped(0.5),
    "noise of 5": noisy(5),
    "noise of 10": noisy(10),
    "3/4, then JPEG 75": lambda picture: as_jpeg(75)(resized(0.75)(picture)),
}


def pictures(data: Path, num: int) -> Iterator[tuple[str, list[Pillow.Image]]]:
    """Kinds of pictures: rendered ones of 400 pixels, frames of videos, small drawings."""
    kinds = {
        "renderings, 400 x 400": "nerf-lego/lego_400/test",
        "frames of videos, 96 high": "video/frames",
        "drawings, 72 x 72": "emoji-noto/images",
    }
    for name, folder in kinds.items():
        files = sorted((data / folder).rglob("*.png")) + sorted((data / folder).rglob("*.jpg"))
        chosen = files[:: max(len(files) // num, 1)][:num]
        yield name, [on_white(Pillow.open(file)) for file in chosen]


def on_white(picture: Pillow.Image) -> Pillow.Image:
    white = Pillow.new("RGBA", picture.size, "white")
    return Pillow.alpha_composite(white, picture.convert("RGBA")).convert("RGB")


def judge_pictures(data: Path, num: int) -> None:
    for kind, plain in pictures(data, num):
        marked = [waves.watermarked(each, KEY) for each in plain]
        errors = [
            np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)
            for a, b in zip(plain, marked, strict=True)
        ]
        psnr = 10 * np.log10(255**2 / np.array(errors))
        print(f"\n{kind}: PSNR {np.median(psnr):.1f} dB (lowest {psnr.min():.1f})")
        print("| change | found | false alarms |\n| --- | --- | --- |")
        for name, change in PICTURES.items():
            hits = [waves.chance_of(change(each), KEY) < LEVEL for each in marked]
            wrong = [waves.chance_of(change(each), key(i)) < LEVEL for i, each in enumerate(plain)]
            print(f"| {name} | {sum(hits)} of {len(hits)} | {sum(wrong)} of {len(wrong)} |")


# -- sounds ----------------------------------------------------------------------------------------


def coded(kind: str, subtype: str | None = None) -> Callable[[Waveform], Waveform]:
    def saved(sound: Waveform) -> Waveform:
        stream = io.BytesIO()
        soundfile.write(stream, sound.samples.T, sound.rate, format=kind, subtype=subtype)
        return opened(stream.getvalue())

    return saved


def with_noise(decibels: float) -> Callable[[Waveform], Waveform]:
    def changed(sound: Waveform) -> Waveform:
        loud = np.sqrt(np.mean(sound.samples**2)) * 10 ** (-decibels / 20)
        noise = np.random.default_rng(0).normal(size=sound.samples.shape) * loud
        return Waveform((sound.samples + noise).astype(np.float32), sound.rate)

    return changed


SOUNDS: Changes = {
    "as it is": lambda sound: sound,
    "MP3": coded("MP3"),
    "Ogg Vorbis": coded("OGG"),
    "resampled to 22,050 Hz": lambda sound: resampled(sound, 22_050),
    "resampled to 11,025 Hz": lambda sound: resampled(sound, 11_025),
    "noise at 20 dB": with_noise(20),
    "noise at 10 dB": with_noise(10),
    "second half": lambda s: Waveform(s.samples[:, s.samples.shape[1] // 2 :], s.rate),
    "noise at 20 dB, then MP3": lambda sound: coded("MP3")(with_noise(20)(sound)),
}


def speech(data: Path, num: int, digits: int) -> list[Waveform]:
    """Digits of one speaker each, one after another."""
    draw, made = np.random.default_rng(0), []
    files = sorted((data / "fsdd" / "recordings").glob("*.wav"))
    speakers = sorted({file.stem.split("_")[1] for file in files})
    for number in range(num):
        own = [
            file for file in files if file.stem.split("_")[1] == speakers[number % len(speakers)]
        ]
        pieces: list[np.ndarray] = []
        for file in draw.choice(own, digits):
            sound = opened(Path(file).read_bytes())
            pieces += [sound.samples / np.abs(sound.samples).max() * 0.5]
            pieces += [np.zeros((1, int(PAUSE * sound.rate)), np.float32)]
        made.append(resampled(Waveform(np.concatenate(pieces, 1), sound.rate), 16_000))
    return made


def judge_sounds(data: Path, num: int) -> None:
    for digits in (2, 5, 15):
        plain = speech(data, num, digits)
        marked = [tones.watermarked(each, KEY) for each in plain]
        ratios = [
            np.mean(a.samples**2) / np.mean((b.samples - a.samples) ** 2)
            for a, b in zip(plain, marked, strict=True)
        ]
        seconds = np.mean([each.seconds for each in plain])
        print(f"\nspeech of {seconds:.1f} s: SNR {10 * np.log10(np.median(ratios)):.1f} dB")
        print("| change | found | false alarms |\n| --- | --- | --- |")
        for name, change in SOUNDS.items():
            hits = [tones.chance_of(change(each), KEY) < LEVEL for each in marked]
            wrong = [tones.chance_of(change(each), key(i)) < LEVEL for i, each in enumerate(plain)]
            print(f"| {name} | {sum(hits)} of {len(hits)} | {sum(wrong)} of {len(wrong)} |")


# -- texts -----------------------------------------------------------------------------------------

BEGINNINGS = (
    "The history of the town begins", "When I opened the letter,", "To bake good bread, you",
    "The experiment showed that", "In the morning the fishermen", "The law was changed because",
    "My grandmother used to say that", "Most birds of this family",
)  # fmt: skip


@dataclass(frozen=True)
class Written:
    """Tokens of a text, and what the model says of each of them after those before it."""

    tokens: list[int]
    surprise: np.ndarray  # -ln p of what came, (n,)
    entropy: np.ndarray  # its mean over what might have come, (n,)


def written(bundle: Any, num: int, most: int, marked: bool) -> list[Written]:
    """Texts by the model, each with a key of its own where they are marked."""
    requests, prompts = [], []
    for number in range(num):
        (prompt,) = bundle.codec.encode_sequences([Item(BEGINNINGS[number % len(BEGINNINGS)])])
        prompts.append(torch.as_tensor(prompt))
        mark = TokenMark(key(number), number) if marked else None
        requests.append(Request(prompts[-1], most, Limits(), number, mark=mark))
    texts: list[list[int]] = [[] for _ in requests]
    for step in bundle.family.write(requests, num_rows=num):
        for each in step:
            texts[each.row].append(each.token)
    return [read_again(bundle.family, *each) for each in zip(prompts, texts, strict=True)]


@torch.no_grad()
def read_again(family: Any, prompt: torch.Tensor, tokens: list[int]) -> Written:
    """What the model says of a text, read whole."""
    whole = torch.cat([prompt, torch.tensor(tokens)])[None]
    log_p = family.told(family.states(whole))[0, len(prompt) :].log_softmax(-1)  # (n, V)
    own = log_p.gather(1, whole[0, len(prompt) :, None])[:, 0]
    entropy = -(log_p.exp() * log_p).sum(-1)
    return Written(tokens, -own.double().numpy(), entropy.double().numpy())


def judge_surprise(marked: list[Written], plain: list[Written]) -> None:
    """Are marked texts as surprising as plain ones, and their tokens as the model expects?

    Of tokens that are drawn as the model says, -ln p differs from its entropy by 0 in the mean,
    whatever the text is about: a martingale, whose squares add up to its variance.
    """
    for name, texts in ("marked", marked), ("plain", plain):
        surprise = np.concatenate([each.surprise for each in texts])
        own = np.array([each.surprise.mean() for each in texts])
        low, high, _ = mean_interval(own)
        excess = surprise - np.concatenate([each.entropy for each in texts])
        error = 1.96 * float(np.sqrt((excess**2).sum())) / len(excess)
        print(f"{name}: {np.exp(surprise.mean()):.2f} perplexity over {len(surprise)} tokens; "
              f"{own.mean():.3f} nats a token over {len(own)} texts ({low:.3f} to {high:.3f}); "
              f"beyond the model's entropy {excess.mean():+.4f} +- {error:.4f}")  # fmt: skip
    apart = [m.surprise.mean() - p.surprise.mean() for m, p in zip(marked, plain, strict=True)]
    low, high, _ = mean_interval(np.array(apart))
    print(
        f"after the same words: marked {np.mean(apart):+.3f} nats a token ({low:.3f} to {high:.3f})"
    )


def swapped(text: str, share: float, seed: int) -> str:
    """A share of the words, each with its neighbour."""
    words, draw = text.split(" "), np.random.default_rng(seed)
    for place in draw.choice(max(len(words) - 1, 1), max(int(share * len(words) / 2), 1)):
        words[place : place + 2] = words[place : place + 2][::-1]
    return " ".join(words)


def judge_texts(data: Path, model: Path, num: int) -> None:
    bundle = opened_or_imported(str(model))
    codec: Any = bundle.codec
    began = time.perf_counter()
    marked, plain = (written(bundle, num, 200, each) for each in (True, False))
    print(f"\ntexts: {2 * num} in {time.perf_counter() - began:.0f} s")
    judge_surprise(marked, plain)
    human = human_texts(data, 500)

    def read(text: str) -> list[int]:
        (tokens,) = codec.encode_sequences([Item(text)])
        return list(tokens.tolist())

    def told(tokens: list[int]) -> str:
        return codec.tokenizer.decode(tokens).decode(errors="replace")

    print("| change | 50 tokens | 100 tokens | 200 tokens | false alarms |")
    print("| --- | --- | --- | --- | --- |")
    changes: Changes = {
        "as it is": lambda text: text,
        "10 % of the words swapped": lambda text: swapped(text, 0.1, len(text)),
        "its second half": lambda text: text[len(text) // 2 :],
    }
    for name, change in changes.items():
        cells = []
        for length in (50, 100, 200):
            found = [
                token_mark.chance(read(change(told(each.tokens[:length]))), key(i)) < LEVEL
                for i, each in enumerate(marked) if len(each.tokens) >= length
            ]  # fmt: skip
            cells.append(f"{sum(found)} of {len(found)}")
        wrong = [token_mark.chance(read(change(each)), key(i)) < LEVEL for i, each in
                 enumerate([*(told(each.tokens) for each in plain), *human])]  # fmt: skip
        print(f"| {name} | {' | '.join(cells)} | {sum(wrong)} of {len(wrong)} |")


def human_texts(data: Path, num: int) -> list[str]:
    """Passages of plays."""
    (file,) = (data / "tinyshakespeare").glob("*.txt*")
    raw = file.read_bytes()
    text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode()
    starts = np.random.default_rng(0).integers(0, len(text) - 700, num)
    return [text[start : start + 700] for start in starts]


def main() -> None:
    """Judge what is asked for."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--smollm2", type=Path)
    options.add_argument("--only", nargs="*", default=["pictures", "sounds", "texts"])
    options.add_argument("--num", type=int, default=16)
    asked = options.parse_args()
    print(json.dumps({"level": LEVEL, "num": asked.num}))
    if "pictures" in asked.only:
        judge_pictures(asked.data, asked.num)
    if "sounds" in asked.only:
        judge_sounds(asked.data, asked.num)
    if "texts" in asked.only and asked.smollm2:
        judge_texts(asked.data, asked.smollm2, asked.num)


if __name__ == "__main__":
    main()
