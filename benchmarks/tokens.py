"""One token space: emoji with captions and spoken digits with words, learned by one model.

    python benchmarks/tokens.py data OUT            one table of both, with the files beside it
    python benchmarks/tokens.py codes OUT           what gives pictures and sounds their codes
    python benchmarks/tokens.py train OUT masked --budget 10m
    python benchmarks/tokens.py measure OUT masked --each 100

An item is a sound, a text, a picture, of which one of the outer two is absent: Noto emoji (1,480
training pairs, 164 held out) have none, and the spoken digits (2,250 and 250, the official split)
the other. Measured on held-out items, each asked of the same model:

    transcribe   a sound -> its text: the share that is the right word
    speak        a word -> a sound: the share that a recogniser reads so (`--recogniser`, a bundle)
    caption      a picture -> its text: F1 of words, beside that of the training caption of the
                 training picture that is nearest by its codes, and of a caption drawn at random
    illustrate   a caption -> a picture: a sheet, beside the real ones
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import morphogen as mg
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item, Report
from morphogen.core.following import GAP
from morphogen.core.random import generator

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("MORPHOGEN_SHARED", HERE.parents[1] / "shared")) / "data"
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
NAMES = "modality.file_names={label}_{speaker}_{test=0|1|2|3|4}"
PICTURES = ["modality.size=24", "modality.mode=RGB", "family.fsq_levels=8,5,5"]  # 36 codes
SOUNDS = ["family.patch_size=8", "family.fsq_levels=8,8,8"]  # of 8 bands by 160 ms
PARTS = "sound,text,image"
MOST_SHOWN = 48


def main() -> None:
    """A line of JSON for each."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("what", choices=("data", "codes", "train", "measure"))
    options.add_argument("out", type=Path)
    options.add_argument("family", nargs="?", default="masked")
    options.add_argument("--budget", default="10m")
    options.add_argument("--each", type=int, default=100, help="items of each kind")
    options.add_argument("--temperature", type=float, default=0.7)
    options.add_argument("--steps", type=int, default=24, help="of drawing, of a masked model")
    options.add_argument("--recogniser", help="bundle that tells the digit of a sound")
    options.add_argument("--set", nargs="*", default=[], help="settings, as of `morphogen train`")
    given = options.parse_args()
    {"data": data, "codes": codes, "train": train, "measure": measure}[given.what](given)


def tell(**facts: Any) -> None:
    """One line."""
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in facts.items()}
    print(json.dumps(rounded), flush=True)


# -- data and models -------------------------------------------------------------------------------


def data(given: argparse.Namespace) -> None:
    """One table of both collections."""
    for folder in ("emoji", "digits"):
        (given.out / folder).mkdir(parents=True, exist_ok=True)
    rows = []
    with (SHARED / "emoji-noto" / "captions.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            shutil.copy(SHARED / "emoji-noto" / "images" / row["file"], given.out / "emoji")
            split = {"text": row["caption"], "split": row["split"]}
            rows.append({"sound": "", "image": f"emoji/{row['file']}", **split})
    for path in sorted((SHARED / "fsdd" / "recordings").glob("*.wav")):
        shutil.copy(path, given.out / "digits")
        digit, _, take = path.stem.split("_")
        split = "test" if int(take) < 5 else "train"
        sound = {"sound": f"digits/{path.name}", "image": ""}
        rows.append({**sound, "text": WORDS[int(digit)], "split": split})
    (given.out / "told.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    tell(rows=len(rows))


def codes(given: argparse.Namespace) -> None:
    """The two bundles that give codes, each learned from its own training split."""
    for name, source, own in (
        ("emoji_codes", "emoji-noto", PICTURES),
        ("digit_codes", "fsdd/recordings", [NAMES, *SOUNDS]),
    ):  # fmt: skip
        mg.train(
            SHARED / source, "vq_vae", budget=given.budget, out=given.out / name,
            settings=[*own, "train.num_previews=1", *given.set],
        )  # fmt: skip
        tell(codes=name, **last_of(given.out / name))


def loaded(given: argparse.Namespace) -> Any:
    """Both collections, encoded."""
    coders = ",".join(str(given.out / name) for name in ("emoji_codes", "digit_codes"))
    return mg.load(given.out / "told.jsonl", "interleaved", coders=coders, parts=PARTS)


def train(given: argparse.Namespace) -> None:
    """One model of all."""
    began = time.perf_counter()
    settings = ["train.num_previews=1", *given.set]
    bundle = mg.train(
        loaded(given), given.family, budget=given.budget, out=given.out / given.family,
        settings=settings,
    )  # fmt: skip
    last = last_of(given.out / given.family)
    tell(
        trained=given.family,
        spec=str(bundle.codec.spec),
        with_reading=time.perf_counter() - began,
        **last,
    )


def last_of(out: Path) -> dict[str, float]:
    """The last numbers of a training's log."""
    lines = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    last = [line for line in lines if "loss" in line][-1]
    return {name: value for name, value in last.items() if isinstance(value, (int, float))}


# -- measured --------------------------------------------------------------------------------------


def measure(given: argparse.Namespace) -> None:
    """Every direction that the model can go in; an autoregressive one sees what comes before."""
    bundle = Bundle.open(given.out / given.family)
    items = list(bundle.codec.read(given.out / "told.jsonl", Report("")))
    held = [item for item in items if item.split == "test"]
    spoken = spread([item for item in held if item.value["sound"] is not None], given.each)
    shown = spread([item for item in held if item.value["image"] is not None], given.each)
    tell(**transcripts(bundle, spoken, given))
    pictures = sheet(bundle, shown, given, "image", "illustrated")
    tell(illustrated=str(pictures))
    if given.family == "masked":
        learned = [
            item for item in items if item.split != "test" and item.value["image"] is not None
        ]
        tell(**captions(bundle, shown, learned, given))
        tell(**speech(bundle, spoken, given))


def spread(items: Sequence[Item], num: int) -> list[Item]:
    """So many of all of them, evenly."""
    return [items[i * len(items) // num] for i in range(min(num, len(items)))]


def drawn(bundle: Bundle, items: Sequence[Item], part: str, given: argparse.Namespace) -> list[Any]:
    """A part of each item, drawn anew from the rest; None where none came."""
    asked = [Item({**item.value, part: GAP}, item.name) for item in items]
    codec: Any = bundle.codec
    x, known = codec.encode_many(asked), torch.stack([codec.known(item) for item in asked])
    model: Any = bundle.family
    steps = {"num_steps": given.steps} if given.family == "masked" else {}
    how = {"temperature": given.temperature, **steps}
    filled = model.fill(x, known, generator=generator(0), **how)
    return [row.get(part) for row in codec.decode_many(filled)]


def transcripts(bundle: Bundle, items: Sequence[Item], given: argparse.Namespace) -> dict[str, Any]:
    """What is written down of sounds."""
    came = drawn(bundle, items, "text", given)
    said = [item.value["text"] for item in items]
    right = [a == b for a, b in zip(came, said, strict=True)]
    words = [text in WORDS for text in came]
    return {"transcribed": share(right), "are_digits": share(words), "n": len(items),
            "such_as": came[:5]}  # fmt: skip


def captions(
    bundle: Bundle, items: Sequence[Item], learned: Sequence[Item], given: argparse.Namespace
) -> dict[str, Any]:
    """What is said of pictures, beside the nearest training picture's and a random caption."""
    came = drawn(bundle, items, "text", given)
    said = [item.value["text"] for item in items]
    codec: Any = bundle.codec
    place = codec.places["image"]
    of = codec.encode_many(learned)[:, place]
    near = [
        learned[int((of == row[place]).sum(1).argmax())].value["text"]
        for row in codec.encode_many(items)
    ]
    others = [item.value["text"] for item in spread(learned, len(items))]
    return {
        "caption_f1": f1(came, said), "nearest_f1": f1(near, said), "random_f1": f1(others, said),
        "n": len(items), "such_as": list(zip(came[:6], said[:6], strict=True)),
    }  # fmt: skip


def speech(bundle: Bundle, items: Sequence[Item], given: argparse.Namespace) -> dict[str, Any]:
    """Sounds made of words, read by a recogniser; beside real ones that went through the codes."""
    came = drawn(bundle, items, "sound", given)
    told = {"spoken": share([sound is not None for sound in came])}
    pairs = [(sound, item) for sound, item in zip(came, items, strict=True) if sound is not None]
    codec: Any = bundle.codec
    page = given.out / "spoken.html"
    codec.write([{"sound": sound, "text": item.value["text"]} for sound, item in pairs[:20]], page)
    if given.recogniser is None:
        return told
    again = [row["sound"] for row in codec.decode_many(codec.encode_many(items))]
    digits = [WORDS.index(item.value["text"]) for _, item in pairs]
    real = [WORDS.index(item.value["text"]) for item in items]
    return told | {
        "read_right": heard(given.recogniser, [sound for sound, _ in pairs], digits),
        "real_through_codes": heard(given.recogniser, again, real), "n": len(pairs),
    }  # fmt: skip


def heard(path: str, sounds: Sequence[Any], digits: Sequence[int]) -> float:
    """The share of sounds that a recogniser reads as these digits."""
    recogniser = Bundle.open(path)
    x = recogniser.codec.encode_many([Item(sound) for sound in sounds])
    model: Any = recogniser.family
    classes = recogniser.codec.class_names(model.target)
    told: Tensor = model.predict(x).argmax(1)
    return share([classes[int(k)] == str(digit) for k, digit in zip(told, digits, strict=True)])


def sheet(
    bundle: Bundle, items: Sequence[Item], given: argparse.Namespace, part: str, name: str
) -> Path:
    """Pictures of captions, each right of the real one."""
    items = items[:MOST_SHOWN]
    came = drawn(bundle, items, part, given)
    codec: Any = bundle.codec
    coder = codec.coders["image"]
    beside = [each for item, made in zip(items, came, strict=True) if made is not None
              for each in (item.value["image"], made)]  # fmt: skip
    x = coder.inner.encode_many([Item(each) for each in beside])
    written: Path = coder.inner.write(coder.inner.decode_many(x), given.out / f"{name}.png", 12)
    (given.out / f"{name}.txt").write_text("\n".join(item.value["text"] for item in items))
    return written


def f1(came: Sequence[str], said: Sequence[str]) -> float:
    """The mean F1 of words."""
    return sum(map(_f1, came, said)) / max(len(said), 1)


def _f1(came: str | None, said: str) -> float:
    a, b = Counter((came or "").lower().split()), Counter(said.lower().split())
    both = (a & b).total()
    return 2 * both / (a.total() + b.total()) if both else 0.0


def share(right: Sequence[bool]) -> float:
    """The part that is true."""
    return sum(right) / max(len(right), 1)


if __name__ == "__main__":
    main()
