"""Pairs of pictures and words: drawn from captions, captioned, searched, judged by an own judge.

    python benchmarks/pairs.py pictures    text to picture: is the right group at rank 1?
    python benchmarks/pairs.py captions    captioning, beside the caption of the nearest picture
    python benchmarks/pairs.py search      recall@5 on held-out pairs, beside BM25 over keywords
    python benchmarks/pairs.py sentences   Fashion-MNIST by sentences, beside by labels

The first three are on Noto emoji (1,480 training pairs, 164 held out). Captions are read by a
frozen text encoder, MiniLM, where `--encoder` names one. The judge of pictures is a contrastive
model of the training pairs (`evaluation.alignment`); how well it does on the real held-out pictures
stands beside each of its scores. Each part takes less than fifteen minutes on two cores.

The group of a picture is that whose training captions the judge finds likeliest together; those of
an unconditional baseline are of the same model without captions. With `--eyes`, a bundle that knows
pictures (EfficientNet), it is what a linear classifier on its features says, which learns from the
training pictures alone: a surer judge, in a fraction of the time.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import shutil
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import morphogen as mg
from morphogen.core.bundle import Bundle
from morphogen.core.random import generator
from morphogen.data.dataset import Data
from morphogen.evaluation.alignment import PairJudge, aligned, pair_judge
from morphogen.evaluation.copying import copying
from morphogen.metrics.alignment import alignment

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "pairs"
SHARED = Path(os.environ.get("MORPHOGEN_SHARED", HERE.parents[1] / "shared")) / "data"
EMOJI, FASHION = SHARED / "emoji-noto", SHARED / "fashion-mnist"
STRENGTHS = (0.003, 0.01, 0.03, 0.1)  # of a classifier, picked on parts of the training pictures
SEEN_AT = 96  # side at which eyes see pictures
SHOWN = 64
PICTURES = ["train.batch_size=64", "train.lr=2e-3"]
MATCHED = [
    "family.max_shift=3", "family.mask_share=0.3", "family.max_gain=0.2", "family.flip_prob=0.5",
    "train.weight_decay=0.1",
]  # fmt: skip
TEXTS = ["train.batch_size=64", "backbone.dropout_prob=0.1"]
SEEN = [
    "family.cond_stem=conv", "family.cond_positions=64", "family.cond_shift=4",
    "family.cond_mask=0.2", "family.cond_gain=0.2",
]  # fmt: skip
NAMES = [  # of Fashion-MNIST's classes, 0 to 9
    "t-shirt", "pair of trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
    "boot",
]  # fmt: skip
SHADES = ((130, "dark"), (195, "grey"), (256, "light"))  # of what is brighter than the ground
GROUND = 16
UNSEEN = [("dark", "dress"), ("light", "bag"), ("grey", "boot"), ("light", "coat")]
ONE_ORDER = [("dark", "coat"), ("grey", "dress"), ("light", "dress"), ("grey", "pullover")]


def main() -> None:
    """One part; a line of JSON for each result."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("part", choices=("pictures", "captions", "search", "sentences"))
    options.add_argument("--budget", default="10m", help="of each training")
    options.add_argument("--encoder", help="bundle of a text encoder; none: trained along")
    options.add_argument("--eyes", help="bundle that knows pictures, to judge their groups by")
    options.add_argument("--size", type=int, default=32, help="side of the pictures")
    options.add_argument("--own-words", action="store_true", help="captions without keywords")
    options.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0, 3.0, 5.0])
    options.add_argument("--judge", help="bundle of pairs that chooses among several draws")
    options.add_argument("--best-of", type=int, default=8, help="so many draws, where one does")
    options.add_argument("--bundle", help="measure this one, and train none")
    options.add_argument("--num", type=int, default=10_000, help="draws of a Frechet ratio")
    options.add_argument("--keep", type=Path, help="folder for bundles")
    options.add_argument("--set", nargs="*", default=[], help="settings, as of `morphogen train`")
    given = options.parse_args()
    for line in globals()[given.part](given):
        print(json.dumps(line), flush=True)


# -- text to picture -------------------------------------------------------------------------------


def pictures(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Draw a picture for each held-out caption, with each amount of guidance, and without any."""
    caption = f"caption={given.encoder}" if given.encoder else "caption"
    source = EMOJI if given.own_words else told_twice()
    data = mg.load(source, conditions=caption, size=given.size, mode="RGB")
    bundle = trained(given, data, "flow_matching", PICTURES, "pictures")
    yield {"trained": steps_of(bundle)}
    groups = Groups(data)
    judge: PairJudge | Eyes
    if given.eyes:
        judge = Eyes(mg.open(given.eyes), data, groups)
    else:
        judge = pair_judge(data)
        yield {"judge": judge.facts()}
    asked = data.test.cond["caption"]
    real = data.test.batch(torch.arange(len(data.test))).x
    yield {"pictures": "real, held out", **groups.scored(judge, real)}
    yield {"pictures": "without captions", **groups.scored(judge, drawn(bundle, data))}
    ways: list[dict[str, Any]] = [{"guidance": guidance} for guidance in given.guidance]
    if given.judge:
        bundle.judge = mg.open(given.judge)
        ways += [{**way, "best_of": given.best_of} for way in ways]
    for way in ways:
        x = drawn(bundle, data, {"caption": asked}, **{"best_of": 1, **way})
        copies = copying(x, data.train, data.test, lambda x: x.flatten(1), seed=0)
        yield {
            **way,
            **groups.scored(judge, x),
            **({} if isinstance(judge, Eyes) else fitting(judge, x, asked, data)),
            "copying": copies.to_json()["verdict"],
        }
        name = "-".join(f"{value:g}" for value in way.values())
        sheet(data, x[:SHOWN], f"pictures-{name}")
        if given.keep:
            torch.save(x, given.keep / f"pictures-{name}.pt")
        captioned(data, x, [groups.row(each)["caption"] for each in data.test.names], name)
    sheet(data, real[:SHOWN], "pictures-real")


def fitting(judge: PairJudge, x: Tensor, asked: Tensor, data: Data) -> dict[str, float]:
    """How well pictures fit what was asked for, as an evaluation has it."""
    sets = aligned(judge, x, {"caption": asked}, data, generator(0))
    found = alignment(sets, generator=generator(0))
    return {name: round(value, 4) for name, value in found.items()}


def told_twice() -> Path:
    """The emoji with two captions of each training picture: its own, and its keywords. A picture
    that is held out has its own alone."""
    folder = Path(tempfile.mkdtemp(prefix="morphogen-emoji-"))
    shutil.copytree(EMOJI / "images", folder / "images")
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["file", "caption", "split"])
        for row in rows():
            table.writerow([row["file"], row["caption"], row["split"]])
            if row["split"] == "train" and words_beside(row):
                table.writerow([row["file"], ", ".join(words_beside(row)), "train"])
    return folder


def drawn(
    bundle: Bundle, data: Data, cond: dict[str, Tensor] | None = None, **options: Any
) -> Tensor:
    """A picture for each held-out item, encoded, at the levels that pictures have."""
    judge = bundle.judge if options.get("best_of", 1) > 1 else None
    drawing = dataclasses.replace(bundle, judge=judge)
    x = drawing.sample(len(data.test), seed=0, cond=cond, **options).x
    assert isinstance(x, Tensor)
    return data.spec.dequantise(data.spec.quantise(x.cpu()))


class Groups:
    """The nine groups of emoji: which captions of the training split are of each."""

    def __init__(self, data: Data) -> None:
        self.rows = {row["file"]: row for row in rows()}
        self.names = sorted({row["group"] for row in self.rows.values()})
        self.train, self.test = (
            torch.tensor([self.names.index(self.row(name)["group"]) for name in split.names])
            for split in (data.train, data.test)
        )
        self.captions = data.train.cond["caption"]

    def row(self, name: str) -> dict[str, str]:
        """What the table says of an item, by its name: images/1f600.png#caption 2."""
        return self.rows[Path(name).name.partition("#")[0]]

    def scored(self, judge: PairJudge | Eyes, x: Tensor) -> dict[str, Any]:
        """How often the right group of held-out captions is the likeliest, for their pictures."""
        found = judge.groups(x) if isinstance(judge, Eyes) else self._likeliest(judge, x)
        right = (found == self.test).double()
        error = float(right.std()) / len(right) ** 0.5
        return {"right_group": round(float(right.mean()), 4), "se": round(error, 4)}

    def _likeliest(self, judge: PairJudge, x: Tensor) -> Tensor:
        family: Any = judge.family
        near = judge.items(x) @ judge.conditions(self.captions).T  # (N, training captions)
        share = (family.scale * near).softmax(1)
        return torch.zeros(len(x), len(self.names)).index_add(1, self.train, share).argmax(1)


class Eyes:
    """The group of a picture by a linear classifier on features of a model of pictures."""

    def __init__(self, bundle: Bundle, data: Data, groups: Groups) -> None:
        from sklearn.linear_model import LogisticRegressionCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self.model: Any = bundle.family
        seen = self._features(data.train.batch(torch.arange(len(data.train))).x)
        classifier = LogisticRegressionCV(Cs=STRENGTHS, cv=3, max_iter=300)
        self.classifier = make_pipeline(StandardScaler(), classifier).fit(seen, groups.train)

    def groups(self, x: Tensor) -> Tensor:
        """Encoded pictures (N, 3, H, W) -> (N,) numbers of groups."""
        return torch.from_numpy(self.classifier.predict(self._features(x)))

    @torch.no_grad()
    def _features(self, x: Tensor) -> np.ndarray:
        wide = F.interpolate(x, size=SEEN_AT, mode="bicubic", align_corners=False).clamp(-1, 1)
        parts = [self.model.features(part).flatten(1) for part in wide.split(64)]
        found: np.ndarray = torch.cat(parts).numpy()
        return found


# -- picture to text -------------------------------------------------------------------------------


def captions(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Write a caption for each held-out picture."""
    image = f"image={given.encoder}" if given.encoder else "image"
    data = mg.load(EMOJI, "text", conditions=image)
    settings = TEXTS if given.encoder else [*TEXTS, *SEEN]
    bundle = trained(given, data, "autoregressive", settings, "captions")
    yield {"trained": steps_of(bundle)}
    names = data.test.names
    by_caption = {row["caption"]: row for row in rows()}
    truth = [data.codec.decode(each) for each in data.test.batch(torch.arange(len(names))).x]
    keywords = [words_in(by_caption[text]["keywords"]) | words_in(text) for text in truth]
    seen = data.test.cond["image"]
    for temperature in (0.0, 0.7):
        x = bundle.sample(len(truth), cond={"image": seen}, temperature=temperature).x
        written = [data.codec.decode(each) for each in x]
        yield {
            "captions": f"ours, temperature {temperature:g}",
            **compared(written, truth, keywords),
        }
    nearest = torch.cdist(seen.flatten(1), data.train.cond["image"].flatten(1)).argmin(1)
    looked_up = [data.codec.decode(each) for each in data.train.batch(nearest).x]
    yield {"captions": "of the nearest picture", **compared(looked_up, truth, keywords)}
    yield {"examples": list(zip(written[:10], truth[:10], strict=True))}


def compared(
    written: Sequence[str], truth: Sequence[str], keywords: Sequence[set[str]]
) -> dict[str, Any]:
    """BLEU-4 of all, and F1 of words against the keywords that people gave each emoji."""
    from sacrebleu.metrics import BLEU

    bleu = BLEU(lowercase=True).corpus_score(list(written), [list(truth)]).score
    scores = []
    for text, known in zip(written, keywords, strict=True):
        said = words_in(text)
        shared = len(said & known)
        # Of a caption of two words not all ten keywords can be named: as many as it has, at most.
        recall, precision = shared / min(len(known), max(len(said), 1)), shared / max(len(said), 1)
        scores.append(2 * recall * precision / max(recall + precision, 1e-9))
    return {"bleu": round(bleu, 2), "keyword_f1": round(float(np.mean(scores)), 4)}


# -- search ----------------------------------------------------------------------------------------


def search(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Held-out pictures by their captions and captions by their pictures, among all held out."""
    from morphogen.systems.knowledge.words import Words

    caption = f"caption={given.encoder}" if given.encoder else "caption"
    data = mg.load(told_twice(), conditions=caption, size=given.size, mode="RGB")
    bundle = trained(given, data, "contrastive", MATCHED, "search")
    yield {"trained": steps_of(bundle)}
    model: Any = bundle.family
    real = data.test.batch(torch.arange(len(data.test))).x
    with torch.no_grad():
        pictures = model.encode(real)
        texts = model.encode_condition({"caption": data.test.cond["caption"]})
    near = texts @ pictures.T
    yield {"search": "picture by caption", "by": "ours", **recalled(near)}
    yield {"search": "caption by picture", "by": "ours", **recalled(near.T)}
    own = PairJudge(bundle.family, "caption", float("nan"), len(data.test), "")
    yield {"groups of held-out pictures": "ours", **Groups(data).scored(own, real)}
    of = {row["file"]: row for row in rows()}
    held = [of[Path(name).name] for name in data.test.names]  # of one caption each
    index, every = Words(), np.arange(len(held))
    index.add({number: " ".join(words_beside(row)) for number, row in enumerate(held)})
    found = torch.tensor(np.stack([index.scores(row["caption"], every) for row in held]))
    yield {"search": "picture by caption", "by": "BM25 over keywords", **recalled(found)}


def recalled(near: Tensor) -> dict[str, float]:
    """How often one's own is first, or among five: (N, N). Ties count as lost."""
    own = near.diagonal()[:, None]
    before = (near >= own).sum(1) - 1
    return {f"recall@{k}": round(float((before < k).double().mean()), 4) for k in (1, 5)}


# -- sentences of labels ---------------------------------------------------------------------------


def sentences(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The Frechet ratio of a model of sentences, beside one of labels, in the same time; and
    whether it obeys sentences that it never saw."""
    from images import Judge

    judge = Judge(mg.load(FASHION))
    told = sentences_of(judge.data)
    for condition in ("label", "caption"):
        data = mg.load(told, "image", conditions=condition)
        bundle = trained(given, data, "flow_matching", [], f"sentences-{condition}")
        n, draw = given.num, torch.Generator().manual_seed(0)
        index = torch.randint(len(data.train), (n,), generator=draw)
        x = bundle.sample(n, seed=0, cond={condition: data.train.cond[condition][index]}).x
        assert isinstance(x, Tensor)
        score = judge.score(judge.data.spec.quantise(x))
        yield {"by": condition, "ratio": round(score["ratio"], 3), **steps_of(bundle)}
    for kind, asked in sentences_to_obey().items():
        yield {"sentences": kind, **obeyed(bundle, judge, asked)}


def sentences_of(data: Data) -> list[dict[str, Any]]:
    """ "a light boot": each picture with its class, and how bright it is, in one of two orders.

    Of `UNSEEN` the shade is never said, and of `ONE_ORDER` it always comes first."""
    classes = data.codec.class_names("label")
    turned = np.random.default_rng(0).random(len(data.train) + len(data.test)) < 0.5
    told: list[dict[str, Any]] = []
    for split, store in (("train", data.train), ("test", data.test)):
        for start in range(0, len(store), 1000):
            batch = store.batch(torch.arange(start, min(start + 1000, len(store))))
            values = data.codec.decode_many(batch.x)
            for value, label in zip(values, batch.cond["label"].tolist(), strict=True):
                shade, name = shade_of(np.asarray(value)), NAMES[int(classes[label])]
                first = (shade, name) in ONE_ORDER or not turned[len(told)]
                caption = sentence(shade, name, first)
                if (shade, name) in UNSEEN:
                    caption = f"a {name}"
                told.append({"image": value, "caption": caption, "label": name, "split": split})
    return told


def shade_of(grey: np.ndarray) -> str:
    """How bright what is brighter than the ground is, in a word."""
    bright = grey[grey > GROUND].mean() if (grey > GROUND).any() else 0.0
    return next(word for most, word in SHADES if bright < most)


def sentence(shade: str, name: str, shade_first: bool) -> str:
    """One of the two orders of words."""
    return f"a {shade} {name}" if shade_first else f"a {name} that is {shade}"


def sentences_to_obey() -> dict[str, list[tuple[str, str, str]]]:
    """Sentences with the shade and the name that they tell of, by what is new in them."""
    every = [(shade, name) for _, shade in SHADES for name in NAMES]
    seen = [each for each in every if each not in UNSEEN and each not in ONE_ORDER]
    return {
        "seen": [(sentence(*each, first), *each) for each in seen for first in (True, False)],
        "in the other order": [(sentence(*each, False), *each) for each in ONE_ORDER],
        "of words never seen together": [
            (sentence(*each, first), *each) for each in UNSEEN for first in (True, False)
        ],
    }


def obeyed(bundle: Bundle, judge: Any, asked: list[tuple[str, str, str]]) -> dict[str, Any]:
    """How often 400 pictures drawn for sentences have the class and the shade that they name."""
    asked = [asked[number % len(asked)] for number in range(400)]
    x = bundle.sample(len(asked), seed=1, cond={"caption": [text for text, _, _ in asked]}).x
    names = [NAMES[int(each)] for each in judge.data.codec.class_names("label")]
    found = judge.extractor.classes(judge.extractor.features(x)).tolist()
    name_right = [names[i] == name for i, (_, _, name) in zip(found, asked, strict=True)]
    values = bundle.codec.decode_many(x)
    shade_right = [
        shade_of(np.asarray(value)) == shade
        for value, (_, shade, _) in zip(values, asked, strict=True)
    ]
    both = np.logical_and(name_right, shade_right)
    rights = {"name_right": name_right, "shade_right": shade_right, "both": both}
    return {name: round(float(np.mean(right)), 4) for name, right in rights.items()}


# -- what they share -------------------------------------------------------------------------------


def trained(
    given: argparse.Namespace, data: Data, family: str, settings: Sequence[str], name: str
) -> Bundle:
    """The bundle to measure: that which is named, or one that is trained now."""
    if given.bundle:
        return mg.open(given.bundle)
    out = (given.keep or Path(tempfile.mkdtemp(prefix="morphogen-pairs-"))) / name
    return mg.train(data, family, budget=given.budget, out=out, settings=[*settings, *given.set])


def steps_of(bundle: Bundle) -> dict[str, Any]:
    """How long it was trained."""
    return {name: bundle.run[name] for name in ("steps", "seconds") if name in bundle.run}


def rows() -> list[dict[str, str]]:
    """What the table says of every emoji."""
    with (EMOJI / "captions.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def words_in(text: str) -> set[str]:
    """The words of a text, or of keywords with bars between them."""
    return set(Counter(text.lower().replace("|", " ").replace("_", " ").split()))


def words_beside(row: dict[str, str]) -> list[str]:
    """Keywords without the caption itself, which stands first among them."""
    return row["keywords"].split("|")[1:]


def sheet(data: Data, x: Tensor, name: str) -> None:
    """Encoded pictures as one file."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    data.codec.write(data.codec.decode_many(x), RESULTS / f"{name}.png", 8)


def captioned(data: Data, x: Tensor, captions: Sequence[str], name: str) -> None:
    """Some of the pictures, large, each above its caption, as one file."""
    from PIL import Image, ImageDraw

    side, columns, num = 96, 8, 32
    width, height = 14 + side, 44 + side
    page = Image.new("RGB", (columns * width, num // columns * height), "white")
    pen = ImageDraw.Draw(page)
    for place, i in enumerate(np.linspace(0, len(x) - 1, num).astype(int)):
        value = Image.fromarray(np.asarray(data.codec.decode(x[i])))
        left, top = place % columns * width, place // columns * height
        page.paste(value.resize((side, side), Image.Resampling.BICUBIC), (left + 7, top + 7))
        words = "\n".join(textwrap.wrap(captions[i], 17)[:2])
        pen.multiline_text((left + 7, top + side + 10), words, fill="black")
    page.save(RESULTS / f"captioned-{name}.png")


if __name__ == "__main__":
    main()
