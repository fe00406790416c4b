"""Pairs of pictures and words: drawn from captions, captioned, searched, judged by an own judge.

    python benchmarks/pairs.py ceilings    what the judge makes of pictures that need no model
    python benchmarks/pairs.py pictures    text to picture: is the right group at rank 1?
    python benchmarks/pairs.py captions    captioning, beside the caption of the nearest picture
    python benchmarks/pairs.py search      recall@5 on held-out pairs, beside BM25 over keywords
    python benchmarks/pairs.py sentences   Fashion-MNIST by sentences, beside by labels

All but the last are on Noto emoji (1,480 training pairs, 164 held out). Captions are read by a
frozen text encoder, MiniLM, where `--encoder` names one. The judge of pictures is a contrastive
model of the training pairs (`evaluation.alignment`); how well it does on the real held-out pictures
stands beside each of its scores. Each part takes less than fifteen minutes on two cores.

The group of a picture is that whose training captions the judge finds likeliest together; those of
an unconditional baseline are of the same model without captions. With `--eyes`, a bundle that knows
pictures (EfficientNet), it is what a linear classifier on its features says, which learns from the
training pictures alone: a surer judge of real pictures, in a fraction of the time. `--own` judges
by a model of pairs beside it, which minds noise less: of `search`, best through eyes
(`--through BUNDLE`), as it is then surer of real pictures, too.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import morphogen as mg
from _emoji import EMOJI, Eyes, Groups, rows, told_in_words, told_twice, words_beside, words_in
from _pairs import place_of_pages, steps_of, trained
from _sentences import sentences
from morphogen.core.bundle import Bundle
from morphogen.core.encoded import tensor
from morphogen.core.random import generator
from morphogen.data.dataset import Data
from morphogen.evaluation.alignment import PairJudge, aligned, named_judge, pair_judge
from morphogen.evaluation.copying import copying
from morphogen.evaluation.evaluate import as_data
from morphogen.metrics.alignment import alignment

SHOWN = 64
PICTURES = ["train.batch_size=64", "train.lr=2e-3"]
MATCHED = [
    "family.max_shift=3", "family.mask_share=0.3", "family.max_gain=0.2", "family.flip_prob=0.5",
    "train.weight_decay=0.1", "family.max_blur=1", "family.max_noise=0.1",
]  # fmt: skip
WHOLE = ["family.cond_pooled=yes"]  # of captions that a frozen encoder reads
LOOKED = [  # through a frozen model: two linear maps
    "backbone.name=linear", "backbone.dropout_prob=0.3", "family.latent_dim=256", "train.lr=1e-3",
    "train.weight_decay=0.1",
]  # fmt: skip
TEXTS = [
    "train.batch_size=128", "backbone.num_layers=2", "backbone.dropout_prob=0.3",
    "family.smoothing=0.1",
]  # fmt: skip
WORDS = {"tokenizer": "bpe", "vocab_size": 4096}  # at most: names of things are not spelled then
FITTING = [  # which caption fits a picture: two linear maps
    "backbone.name=bag", "family.latent_dim=256", "family.cond_pooled=yes", "train.lr=2e-3",
    "train.weight_decay=0.1", "train.batch_size=256",
]  # fmt: skip
DRAWN: list[dict[str, Any]] = [
    {"temperature": 0.0}, {"temperature": 0.7}, {"temperature": 0.7, "best_of": 32},
]  # fmt: skip
SEEN = [
    "family.cond_stem=conv", "family.cond_positions=64", "family.cond_shift=4",
    "family.cond_mask=0.2", "family.cond_gain=0.2",
]  # fmt: skip


def main() -> None:
    """One part; a line of JSON for each result."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("part", choices=PARTS)
    options.add_argument("--budget", default="10m", help="of each training")
    options.add_argument("--family", default="flow_matching", help="of pictures, or a chain")
    options.add_argument("--through", help="first stage, whose codes are drawn; eyes of `search`")
    options.add_argument("--encoder", help="bundle of a text encoder; none: trained along")
    options.add_argument("--eyes", help="bundle that knows pictures, to judge their groups by")
    options.add_argument("--size", type=int, default=32, help="side of the pictures")
    options.add_argument("--mirror", action="store_true", help="train on mirrored pictures, too")
    options.add_argument("--own-words", action="store_true", help="captions without keywords")
    options.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0, 3.0, 5.0])
    options.add_argument("--own", help="bundle of pairs (of `search`) that judges as well")
    options.add_argument("--told", help="bundle that knows pictures, for hidden features to tell")
    options.add_argument("--judge", help="bundle of pairs that chooses among several draws")
    options.add_argument("--best-of", type=int, default=8, help="so many draws, where one does")
    options.add_argument("--bundle", help="measure this one, and train none")
    options.add_argument("--num", type=int, default=10_000, help="draws of a Frechet ratio")
    options.add_argument("--keep", type=Path, help="folder for bundles, and pages of measured ones")
    options.add_argument("--set", nargs="*", default=[], help="settings, as of `morphogen train`")
    given = options.parse_args()
    for line in PARTS[given.part](given):
        print(json.dumps(line), flush=True)


# -- text to picture -------------------------------------------------------------------------------


def ceilings(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What the judge says of held-out pictures that were made coarser, and of training pictures
    whose captions are nearest: what a model can hope for, before there is one."""
    if not (given.encoder and (given.eyes or given.own)):
        raise SystemExit("ceilings needs --encoder, and --eyes or --own")
    data = mg.load(EMOJI, conditions=f"caption={given.encoder}", size=given.size, mode="RGB")
    groups = Groups(data)
    eyes: PairJudge | Eyes
    if given.own:
        eyes = named_judge(mg.open(given.own), data)
        yield {"judge": eyes.facts()}
    else:
        eyes = Eyes(mg.open(given.eyes), data, groups)
    learned, real = (split.batch(torch.arange(len(split))).x for split in (data.train, data.test))
    yield {"pictures": "real, held out", **groups.scored(eyes, real)}
    other = real[torch.randperm(len(real), generator=generator(1))]  # neighbours are of one group
    yield {"pictures": "real, of other captions", **groups.scored(eyes, other)}
    mean = learned.flatten(1).mean(0)
    axes = torch.linalg.svd(learned.flatten(1) - mean, full_matrices=False).Vh  # (K, D)
    if given.bundle:  # a first stage: what is left of pictures that went through it
        coder: Any = mg.open(given.bundle).family
        with torch.no_grad():
            back = coder.decode(coder.encode(real)).clamp(-1, 1)
        yield {"pictures": "real, through the bundle", **groups.scored(eyes, back)}
    noise = torch.randn(real.shape, generator=generator(0))
    for size in (0.05, 0.1, 0.2):
        found = groups.scored(eyes, (real + size * noise).clamp(-1, 1))
        yield {"pictures": f"real, with noise of {size:g}", **found}
    for width in (0.6, 1.0):
        yield {"pictures": f"real, blurred by {width:g}", **groups.scored(eyes, blur(real, width))}
    for num in (64, 128, 256, 512):
        kept = axes[:num]
        coarse = (real.flatten(1) - mean) @ kept.T @ kept + mean
        found = groups.scored(eyes, coarse.view_as(real))
        yield {"pictures": f"of {num} principal components", **found}
    asked, known = (  # the vector of a whole caption stands first
        F.normalize(split.cond["caption"][:, :, 0], dim=1) for split in (data.test, data.train)
    )
    for num in (1, 2, 4, 8):
        nearest = (asked @ known.T).topk(num, dim=1).indices  # (N, num)
        found = groups.scored(eyes, learned[nearest].mean(1))
        yield {"pictures": f"mean of {num} training pictures of the nearest captions", **found}


def blur(x: Tensor, width: float) -> Tensor:
    """Pictures (N, C, H, W) under a Gaussian of so many pixels."""
    line = torch.exp(-torch.arange(-3.0, 4.0).square() / (2 * width**2))
    kernel = torch.outer(line, line) / line.sum() ** 2
    wide = F.pad(x, (3, 3, 3, 3), mode="replicate")
    return F.conv2d(wide, kernel.expand(x.shape[1], 1, 7, 7), groups=x.shape[1])


def pictures(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Draw a picture for each held-out caption, with each amount of guidance, and without any."""
    caption = f"caption={given.encoder}" if given.encoder else "caption"
    source = EMOJI if given.own_words else told_twice()
    said = f"{caption},itself={given.told}" if given.told else caption
    data = mg.load(source, conditions=said, size=given.size, mode="RGB", mirror=given.mirror)
    settings = [*PICTURES, *(["family.told=itself"] if given.told else [])]
    bundle = trained(given, data, given.family, settings, "pictures")
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
    own = named_judge(mg.open(given.own), data) if given.own else None
    if (place := place_of_pages(given)) is not None:
        place.mkdir(parents=True, exist_ok=True)

    def judged(x: Tensor) -> dict[str, Any]:
        found = groups.scored(judge, x)
        if own is None:
            return found
        near = own.items(x) @ own.conditions(asked).T
        return found | {"own": {**groups.scored(own, x), **recalled(near)}}

    yield {"pictures": "real, held out", **judged(real)}
    yield {"pictures": "without captions", **judged(drawn(bundle, data))}
    ways: list[dict[str, Any]] = [{"guidance": guidance} for guidance in given.guidance]
    if given.judge:
        bundle.judge = mg.open(given.judge)
        ways += [{**way, "best_of": given.best_of} for way in ways]
    for way in ways:
        x = drawn(bundle, data, {"caption": asked}, **{"best_of": 1, **way})
        copies = copying(x, data.train, data.test, lambda x: x.flatten(1), seed=0)
        yield {
            **way,
            **judged(x),
            **({} if isinstance(judge, Eyes) else fitting(judge, x, asked, data)),
            "copying": copies.to_json()["verdict"],
        }
        name = "-".join(f"{value:g}" for value in way.values())
        if given.keep:
            torch.save(x, given.keep / f"pictures-{name}.pt")
        if place is not None:
            sheet(data, x[:SHOWN], place / f"pictures-{name}.png")
            told = [groups.row(each)["caption"] for each in data.test.names]
            captioned(data, x, told, place / f"captioned-{name}.png")
    if place is not None:
        sheet(data, real[:SHOWN], place / "pictures-real.png")


def fitting(judge: PairJudge, x: Tensor, asked: Tensor, data: Data) -> dict[str, float]:
    """How well pictures fit what was asked for, as an evaluation has it."""
    sets = aligned(judge, x, {"caption": asked}, data, generator(0))
    found = alignment(sets, generator=generator(0))
    return {name: round(value, 4) for name, value in found.items()}


def drawn(
    bundle: Bundle, data: Data, cond: dict[str, Tensor] | None = None, **options: Any
) -> Tensor:
    """A picture for each held-out item, encoded, at the levels that pictures have."""
    judge = bundle.judge if options.get("best_of", 1) > 1 else None
    drawing = dataclasses.replace(bundle, judge=judge)
    x = drawing.sample(len(data.test), seed=0, cond=cond, **options).x
    return tensor(as_data(bundle, data, x))


# -- picture to text -------------------------------------------------------------------------------


def captions(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Write a caption for each held-out picture, having learned keywords of others beside; a model
    of pairs chooses among several, or they choose among themselves."""
    image = f"image={given.encoder}" if given.encoder else "image"
    source, conditions = (EMOJI, image) if given.own_words else (told_in_words(), f"{image},kind")
    data = mg.load(source, "text", conditions=conditions, **WORDS)
    settings = TEXTS if given.encoder else [*TEXTS, *SEEN]
    bundle = trained(given, data, "autoregressive", settings, "captions")
    yield {"trained": steps_of(bundle)}
    judge = mg.open(given.judge) if given.judge else fitting_judge(given, image)
    yield {"judge trained": steps_of(judge)}
    names = data.test.names
    by_caption = {row["caption"]: row for row in rows()}
    truth = [data.codec.decode(each) for each in data.test.batch(torch.arange(len(names))).x]
    keywords = [words_in(by_caption[text]["keywords"]) | words_in(text) for text in truth]
    ways = [(bundle, way, "") for way in DRAWN]
    by_judge = {"temperature": 0.5, "best_of": given.best_of}
    ways.append((dataclasses.replace(bundle, judge=judge), by_judge, " by the judge"))
    for drawing, way, how in ways:
        x = drawing.sample(len(truth), seed=0, cond=dict(data.test.cond), **way).x
        written = [data.codec.decode(each) for each in x]
        yield {"captions": f"ours{how}", **way, **compared(written, truth, keywords)}
    train = data.train
    if not given.own_words:  # captions of pictures, not keywords
        train = train.take((train.cond["kind"] == data.test.cond["kind"][0]).nonzero()[:, 0])
    seen, known = (split.cond["image"].flatten(1) for split in (data.test, train))
    nearest = torch.cdist(seen, known).argmin(1)
    looked_up = [data.codec.decode(each) for each in train.batch(nearest).x]
    yield {"captions": "of the nearest picture", **compared(looked_up, truth, keywords)}
    yield {"examples": list(zip(written[:10], truth[:10], strict=True))}


def fitting_judge(given: argparse.Namespace, image: str) -> Bundle:
    """A model of pairs of pictures with their captions and keywords, of the training split."""
    source = EMOJI if given.own_words else told_twice()
    data = mg.load(source, "text", conditions=image, **WORDS)
    out = (given.keep or Path(tempfile.mkdtemp(prefix="morphogen-pairs-"))) / "fitting"
    return mg.train(data, "contrastive", budget="300steps", out=out, settings=FITTING)


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
    from morphogen.systems.knowledge.words import Allowed, Words

    caption = f"caption={given.encoder}" if given.encoder else "caption"
    data = mg.load(told_twice(), conditions=caption, size=given.size, mode="RGB")
    settings = [*(LOOKED if given.through else MATCHED), *(WHOLE if given.encoder else [])]
    bundle = trained(given, data, "contrastive", settings, "search")
    yield {"trained": steps_of(bundle)}
    own = named_judge(bundle, data)
    real = data.test.batch(torch.arange(len(data.test))).x
    near = own.conditions(data.test.cond["caption"]) @ own.items(real).T
    yield {"search": "picture by caption", "by": "ours", **recalled(near)}
    yield {"search": "caption by picture", "by": "ours", **recalled(near.T)}
    yield {"groups of held-out pictures": "ours", **Groups(data).scored(own, real)}
    of = {row["file"]: row for row in rows()}
    held = [of[Path(name).name] for name in data.test.names]  # of one caption each
    index, every = Words(), Allowed(np.arange(len(held)))
    index.add({number: " ".join(words_beside(row)) for number, row in enumerate(held)})
    found = torch.tensor(np.stack([index.scores(row["caption"], every) for row in held]))
    yield {"search": "picture by caption", "by": "BM25 over keywords", **recalled(found)}


def recalled(near: Tensor) -> dict[str, float]:
    """How often one's own is first, or among five: (N, N). Ties count as lost."""
    own = near.diagonal()[:, None]
    before = (near >= own).sum(1) - 1
    return {f"recall@{k}": round(float((before < k).double().mean()), 4) for k in (1, 5)}


# -- pages -----------------------------------------------------------------------------------------


def sheet(data: Data, x: Tensor, path: Path) -> None:
    """Encoded pictures as one file."""
    data.codec.write(data.codec.decode_many(x), path, 8)


def captioned(data: Data, x: Tensor, captions: Sequence[str], path: Path) -> None:
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
    page.quantize(256).save(path)


PARTS = {
    "ceilings": ceilings, "pictures": pictures, "captions": captions, "search": search,
    "sentences": sentences,
}  # fmt: skip

if __name__ == "__main__":
    main()
