"""A judge of whether items show what was asked for: trained on the user's own training pairs.

Two encoders, of items and of what is said of them, are trained (family `contrastive`) for a fixed
number of steps from a fixed seed on the training split. How well such a judge finds held-out pairs
is a part of its record, and the floor beside each of its scores; one that hardly finds any judges
nothing. Weights are kept as those of other judges are (see `features`).

Legend: N generated items, M held-out conditions, D dimensions of the space.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import morphogen
from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.condition_readers import has_positions
from morphogen.core.conditioning import present
from morphogen.core.encoded import Encoded, num_items, rows
from morphogen.core.errors import MeasurementError
from morphogen.core.following import CanReread
from morphogen.core.matching import Matcher
from morphogen.core.metric import Aligned
from morphogen.core.origin import hash_of
from morphogen.core.recipe import Recipe, build_family, resolve
from morphogen.core.spec import ProductSpec, TensorSpec
from morphogen.core.visible import in_shell
from morphogen.data.dataset import Data
from morphogen.data.listing import read_hashes
from morphogen.data.store import Store
from morphogen.evaluation._own_condition import distinct, own_is_nearest, placed
from morphogen.evaluation._references import with_equal
from morphogen.evaluation.features import (
    BATCH_SIZE,
    hash_tensors,
    keep_judge,
    known_or_trained,
    parts,
    train_judge,
)

EPOCHS, FEWEST_STEPS, MOST_STEPS = 60, 200, 1200
MOST_ITEMS = 2_000  # generated ones
WIDTH = 32  # of convolutions, at the finest resolution
# Grids, beside shifts by a tenth of a side, and blur by a thirty-second: generated ones are soft.
VARIED = {"mask_share": 0.3, "max_gain": 0.2, "max_noise": 0.1}
LEAST_SKILL = 3  # times as often as by chance that held-out pairs are found; or half of the way


@dataclass(frozen=True)
class PairJudge:
    """Two trained encoders with the record of what they are."""

    family: Any  # a model that matches (`CanMatch`)
    name: str  # of the condition
    found: float  # share of held-out items whose own condition is the nearest of all
    num: int  # held-out conditions, each counted once
    weights_hash: str
    about: dict[str, Any] = field(default_factory=dict)  # where it is from, if not of this data

    @torch.no_grad()
    def items(self, x: Encoded) -> Tensor:
        """Encoded items (N, *) -> (N, D)."""
        return torch.cat([self.family.encode(rows(x, part)) for part in parts(num_items(x))])

    @torch.no_grad()
    def conditions(self, values: Tensor) -> Tensor:
        """Encoded conditions (N, *) -> (N, D)."""
        return placed(self.family, self.name, values)

    def facts(self) -> dict[str, Any]:
        """What a record says of it."""
        return {
            "condition": self.name,
            "held_out_pairs_found": round(self.found, 4),
            "of": self.num,
            "by_chance": round(1 / self.num, 4),
            "weights_sha256": self.weights_hash,
            **self.about,
        }


def condition_to_judge(data: Data) -> str | None:
    """The condition that is asked about: the first that is an item of another kind, such as a
    caption of a picture, if there is one. (What goes on from a past, or is a translation, has
    judges of its own.)"""
    for name, spec in data.conditions.items():
        reader = data.codec.condition_codecs[name].innermost
        if has_positions(spec) and type(reader) is not type(data.codec.innermost):
            return name
    return None


def pair_judge(data: Data, seed: int = 0, beside: Path | None = None) -> PairJudge:
    """The judge for `data`: from the bundle in the folder `beside`, from the cache, or trained now.

    Raises `MeasurementError` where nothing is said of items, or held-out pairs are not found.
    """
    name = condition_to_judge(data)
    if name is None:
        raise MeasurementError("nothing said of the items is of another kind", found="no pairs")
    pairs = data.having([name])
    if len(pairs.test) < 2 or len(pairs.train) < BATCH_SIZE // 2:
        raise MeasurementError(
            "there are too few pairs", found=f"{len(pairs.train)} and {len(pairs.test)} held out"
        )
    recipe = resolve(_recipe(data, name), data.spec)
    steps = min(max(EPOCHS * len(pairs.train) // BATCH_SIZE, FEWEST_STEPS), MOST_STEPS)
    about = {
        "family": recipe.family, "backbone": recipe.backbone, "num_steps": steps, "seed": seed,
        "code_version": morphogen.__version__,
    }  # fmt: skip
    told = json.dumps([data.digest, str(data.conditions[name]), about], sort_keys=True)
    key = hashlib.sha256(told.encode()).hexdigest()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        family = build_family(recipe, data.spec, {name: data.conditions[name]})

    def train_it() -> None:
        train_judge(family, _only(pairs.train, name), lambda x: x, steps, seed)

    lacking = known_or_trained(family, f"pairs-{key[:32]}.safetensors", beside, train_it)
    digest = hash_tensors(family.state_dict())
    for place in lacking:
        keep_judge(family, place, {**about, "weights_sha256": digest})
    return _proved(family, name, pairs, digest)


def named_judge(bundle: Bundle, data: Data) -> PairJudge:
    """A model of pairs that somebody trained and named, as the judge for `data`: it may see items
    through a model that has seen more (`morphogen train DATA --family contrastive --through EYES`).

    Raises `MeasurementError` where nothing is said of items that it knows of, or held-out pairs are
    not found.
    """
    model = Matcher(bundle, data.codec)
    if model.target not in data.test.cond:
        raise MeasurementError(
            f"the judge of pairs knows of {model.target!r}, and the data says nothing of it",
            found=", ".join(data.test.cond) or "nothing said",
        )
    pairs = data.having([model.target])
    about = {
        "judge": "in memory" if bundle.path is None else bundle.path.name,
        "trained_on": bundle.data.get("source", "unknown"),
    }
    return _proved(model, model.target, pairs, hash_of(bundle) or "", about)


def may_have_learned(judge: Bundle, data: Data) -> str:
    """Why a judge that was trained elsewhere may have learned what is held out here, and what to do
    about it. Empty where it has not: it was trained on this data, or every file of this data was in
    its own, with the same said of it and on the same side (see `data.listing`)."""
    # What is learned through a model has the digest of the data, and of the model after it.
    digests = {str(each).partition("-")[0] for each in (judge.data.get("digest"), data.digest)}
    here, there = set(data.files.values()), set()
    if judge.path is not None:
        there = set(read_hashes(judge.path) or ())
    if len(digests) == 1 or (here and here <= there):
        return ""
    source = judge.data.get("source", "nobody knows what")
    same = f"{len(here & there):,} of {len(here):,} files are there as they are here"
    asked = f"{in_shell(data.source)} --condition {judge.family.target}"
    return (
        f"the judge of pairs was trained on {source} ({same}): it may have learned from what is "
        "held out here. To be sure, train it on the data that it judges: "
        f"morphogen train {asked} --family contrastive --out models/judge"
    )


def _proved(
    model: Any, name: str, pairs: Data, digest: str, about: Mapping[str, Any] | None = None
) -> PairJudge:
    """A judge with how well it finds held-out pairs. Raises `MeasurementError` where it hardly
    finds any."""
    found = float(own_is_nearest(model, pairs.test, name).double().mean())
    num = len(distinct(pairs.test.cond[name]))
    chance = 1 / num
    if found < min(LEAST_SKILL * chance, (1 + chance) / 2):
        raise MeasurementError(
            "no judge of pairs can be had from this data",
            found=f"{found:.1%} of held-out pairs are found among {num:,}, {chance:.1%} by chance",
        )
    return PairJudge(model, name, found, num, digest, dict(about or {}))


def aligned(
    judge: PairJudge, x: Encoded, asked: Mapping[str, Tensor], data: Data, draw: torch.Generator
) -> Aligned:
    """Generated items with what they were asked for, real ones of the same, and all that might
    have been asked for. Raises `MeasurementError` where nothing was."""
    wanted = asked.get(judge.name)
    if wanted is None:
        raise MeasurementError(f"nothing was asked for by {judge.name}", found="other conditions")
    there = present(wanted, data.conditions[judge.name]).nonzero()[:MOST_ITEMS, 0]
    wanted, known = wanted[there], data.test.cond[judge.name]
    place = with_equal({judge.name: wanted}, {judge.name: known}, draw)
    keep = place >= 0
    if keep.sum() < 2:
        raise MeasurementError("no real items have the conditions of the samples", found=0)
    return Aligned(
        judge.items(rows(x, there[keep])),
        judge.conditions(wanted[keep]),
        judge.items(data.test.batch(place[keep]).x),
        judge.conditions(distinct(known[present(known, data.conditions[judge.name])])),
    )


def _recipe(data: Data, name: str) -> Recipe:
    spec: Any = data.spec
    family: Any = discover.find("family", "contrastive")
    backbone = family.backbone_for(spec)
    width = {"model_dim": WIDTH} if backbone == "conv" else {}
    varied: dict[str, Any] = {}
    if isinstance(spec, TensorSpec) and spec.kind == "real" and len(spec.space) > 1:
        side = min(spec.space)
        varied = {**VARIED, "max_shift": side // 10, "max_blur": side / 32}
    # What a frozen reader has of the whole of a caption is more than few pairs teach a new one.
    frozen = isinstance(data.codec.condition_codecs[name], CanReread)
    return Recipe(
        family={"name": "contrastive", "target": name, "cond_pooled": frozen, **varied},
        backbone={"name": backbone, **width},
    )


def _only(split: Store, name: str) -> Store:
    return split.with_cond({name: split.cond[name]})


def can_be_aligned(data: Data) -> str | None:
    """Why no judge of pairs is asked; None where one is."""
    if condition_to_judge(data) is None:
        return "nothing said of the items is of another kind, as captions of pictures are"
    if isinstance(data.spec, ProductSpec):
        return "items of parts are not judged in pairs"
    return None
