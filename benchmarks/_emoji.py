"""Noto emoji, their captions and groups, and who says which group a picture is of."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from _pairs import SHARED
from morphogen.core.bundle import Bundle
from morphogen.data.dataset import Data
from morphogen.evaluation.alignment import PairJudge

EMOJI = SHARED / "emoji-noto"
STRENGTHS = (0.003, 0.01, 0.03, 0.1)  # of a classifier, picked on parts of the training pictures
SEEN_AT = 96  # side at which eyes see pictures


def told_twice() -> Path:
    """The emoji with two captions of each training picture: its own, and its keywords. A picture
    that is held out has its own alone."""
    return _told_more(lambda row: filter(None, [", ".join(words_beside(row))]), "words")


def told_in_words() -> Path:
    """The emoji with captions of two kinds: `name`, its own, and `word`, each of its keywords. A
    picture that is held out has its own alone. Names are told eight times, as words are many."""
    return _told_more(
        lambda row: (word.replace("_", " ") for word in words_beside(row)), "word", names=8
    )


def _told_more(more: Callable[[dict[str, str]], Iterable[str]], kind: str, names: int = 1) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="morphogen-emoji-"))
    shutil.copytree(EMOJI / "images", folder / "images")
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["file", "caption", "kind", "split"])
        for row in rows():
            trains = row["split"] == "train"
            for _ in range(names if trains else 1):
                table.writerow([row["file"], row["caption"], "name", row["split"]])
            for told in more(row) if trains else ():
                table.writerow([row["file"], told, kind, "train"])
    return folder


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
