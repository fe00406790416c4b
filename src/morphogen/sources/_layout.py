"""What the names of folders mean: a common root that says nothing, splits, classes, parts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

TRAIN, TEST = {"train", "training"}, {"test", "testing", "t10k"}
VALIDATION = {"val", "valid", "validation", "dev"}
# train_images, "Training set" and COCO's train2017 name splits too; "train 1" does not.
MORE = r"(?:[-_ ]?(?:images?|imgs?|pictures?|set|data|split|files?)|[-_]?(?:19|20)\d\d)?"
SPLIT = re.compile(rf"({'|'.join(sorted(TRAIN | TEST | VALIDATION))}){MORE}")
SHARD = re.compile(r"[-_.]?\d+([-_.]of[-_.]\d+)?$")  # train-00000-of-00012
DOMAIN = re.compile(r"(train|test|val)[-_ ]?([ab])", re.IGNORECASE)  # trainA beside trainB
INPUTS = {
    "image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "input", "inputs",
    "jpegimages", "rgb", "frames", "data", "x",
}  # fmt: skip
TARGETS = {
    "mask", "masks", "label", "labels", "annotation", "annotations", "annot", "gt", "gts",
    "ground_truth", "groundtruth", "segmentation", "segmentations", "seg", "target", "targets",
    "depth", "depths", "edges", "segmentationclass", "segmentationobject", "y",
}  # fmt: skip
BUCKET = 1000  # files in each folder 00000, 00001, ... that is no class

Use = Literal["item", "target", "beside"]


def split_of(name: str) -> str | None:
    """The split that a folder, key or column value names; None when it names none."""
    match = SPLIT.fullmatch(name.strip().lower())
    if not match:
        return None
    word = match[1]
    return "train" if word in TRAIN else "test" if word in TEST else "validation"


def split_of_shard(stem: str) -> str | None:
    """The split that the name of one of several files begins with: `train-00000-of-00012`."""
    words = re.split(r"[-_. ]", stem.lower())
    return split_of(SHARD.sub("", stem)) or (split_of(words[0]) if words else None)


@dataclass(frozen=True)
class Layout:
    """The meaning of the folders that lie above items."""

    root: tuple[str, ...] = ()
    splits: Literal["none", "above", "below"] = "none"  # above the classes, or below them
    domains: bool = False  # trainA, trainB, testA, testB
    inputs: frozenset[str] = frozenset()  # of images/ beside masks/: those that hold the items
    has_classes: bool = True

    @classmethod
    def of(cls, paths: Iterable[str]) -> Layout:
        """Read the meaning off all paths."""
        folders = [tuple(path.split("/")[:-1]) for path in paths]
        root: tuple[str, ...] = ()
        while folders and all(folders):
            first = {parts[0] for parts in folders}
            if len(first) > 1:  # a lone train/ or test/ says no more than a lone photos/
                break
            root += tuple(first)
            folders = [parts[1:] for parts in folders]
        first = {parts[0] for parts in folders if parts}
        if first and all(DOMAIN.fullmatch(name) for name in first):
            return cls(root, domains=True)
        splits = _where_splits(folders, first)
        if splits == "above":
            inner = [parts[1:] for parts in folders if parts and split_of(parts[0])]
        else:
            inner = [parts for parts in folders if parts]
        inputs = _inputs({parts[0].lower() for parts in inner if parts})
        if inputs:
            inner = [parts[1:] for parts in inner if parts and parts[0].lower() in inputs]
        return cls(root, splits, False, inputs, not _buckets(inner))

    def read(self, path: str) -> tuple[str | None, str | None]:
        """path -> (split, class), None where the path names none."""
        parts: Sequence[str] = path.split("/")[len(self.root) : -1]
        split = None
        if self.domains and parts and (match := DOMAIN.fullmatch(parts[0])):
            return split_of(match[1].lower()), match[2].upper()
        if self.splits == "above" and parts:
            split, parts = split_of(parts[0]), parts[1:]
        elif self.splits == "below" and len(parts) > 1:
            split, parts = split_of(parts[1]), [parts[0], *parts[2:]]
        if self.inputs and parts:
            parts = parts[1:]
        return split, (parts[0] if parts and self.has_classes else None)

    def part(self, path: str) -> tuple[str, str]:
        """Of a file where inputs lie beside targets: the folder that says which of them it is, and
        what it has in common with those that belong to it."""
        parts = path.split("/")[len(self.root) :]
        at = 1 if self.splits == "above" else 0
        return parts[at], "/".join([*parts[:at], *parts[at + 1 :]]).rpartition(".")[0]

    def use(self, path: str) -> Use:
        """Whether a file is an item, the target beside one (a mask), or beside all splits."""
        parts: Sequence[str] = path.split("/")[len(self.root) : -1]
        if self.splits == "above" and parts:
            if split_of(parts[0]) is None:
                return "beside"
            parts = parts[1:]
        if self.inputs and parts and parts[0].lower() not in self.inputs:
            return "target"
        return "item"


def _where_splits(
    folders: Sequence[tuple[str, ...]], first: set[str]
) -> Literal["none", "above", "below"]:
    """Splits are folders train/ and test/ above everything, or within each class."""
    splits = {split_of(name) for name in first}
    named = splits - {None}
    if "train" in named and (None not in splits or len(named) > 1):
        return "above"
    below = {split_of(parts[1]) if len(parts) > 1 else None for parts in folders}
    return "below" if "train" in below and len(below) > 1 and None not in below else "none"


def _inputs(names: set[str]) -> frozenset[str]:
    """The folders that hold the items, where others hold what belongs to each of them."""
    inputs, targets = names & INPUTS, names & TARGETS
    return frozenset(inputs) if inputs and targets and not names - INPUTS - TARGETS else frozenset()


def _buckets(folders: Sequence[tuple[str, ...]]) -> bool:
    """True for folders of 1,000 files each, called 00000, 00001 or 00000, 01000 and so on."""
    counts = Counter(parts[0] for parts in folders if parts)
    if len(counts) < 2 or not all(name.isdecimal() and len(name) >= 5 for name in counts):
        return False
    return all(counts[name] == BUCKET for name in sorted(counts)[:-1])
