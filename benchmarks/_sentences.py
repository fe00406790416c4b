"""Fashion-MNIST in sentences: a part of `pairs.py`.

Each picture is told by its class and by how bright it is, in one of two orders, so that orders and
unions of words can be asked for that no picture was told by.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

import morphogen as mg
from _pairs import SHARED, steps_of, trained
from morphogen.core.bundle import Bundle
from morphogen.data.dataset import Data

FASHION = SHARED / "fashion-mnist"
NAMES = [  # of Fashion-MNIST's classes, 0 to 9
    "t-shirt", "pair of trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
    "boot",
]  # fmt: skip
SHADES = ((130, "dark"), (195, "grey"), (256, "light"))  # of what is brighter than the ground
GROUND = 16
UNSEEN = [("dark", "dress"), ("light", "bag"), ("grey", "boot"), ("light", "coat")]
ONE_ORDER = [("dark", "coat"), ("grey", "dress"), ("light", "dress"), ("grey", "pullover")]
# How each is learned. Of a few words a vector says as much as a sequence, and costs less.
CONDITIONS = {"label": [], "caption": ["family.cond_pooled=yes"]}


def sentences(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The Frechet ratio of a model of sentences, beside one of labels, in the same time; and
    whether it obeys sentences that it never saw."""
    from images import Judge

    judge = Judge(mg.load(FASHION))
    told = sentences_of(judge.data)
    for condition, settings in CONDITIONS.items():
        data = mg.load(told, "image", conditions=condition)
        bundle = trained(given, data, "flow_matching", settings, f"sentences-{condition}")
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
