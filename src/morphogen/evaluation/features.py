"""Features to judge generated items by: a small network trained on the user's training split.

    labels in the data   a classifier of the first label             "classifier"
    none                 a classifier of k-means clusters of the     "k-means classifier"
                         principal components of the items' vectors
                         (`vectors`; one round of DeepCluster, Caron
                         et al. 2018)

Items of several parts are classified by their vectors too. The features are those before its last
layer. They are not Inception's, so a distance over them is
no FID; the name, the hash of the weights and the test accuracy go into every protocol. Training
takes a fixed number of steps with a fixed seed, so the same data gives the same features on the
same machine. Another machine rounds otherwise and would end with another judge: the weights are
kept in the cache folder (MORPHOGEN_CACHE, default ~/.cache/morphogen) and in the bundle that they
judged, where they are looked for first.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import morphogen
from morphogen.core import discover
from morphogen.core.batch import Batch
from morphogen.core.encoded import Encoded, joined, num_items, rows, tensor
from morphogen.core.errors import BundleError, MorphogenError
from morphogen.core.family import Family
from morphogen.core.random import generator, mix_seed
from morphogen.core.recipe import Recipe, build_family, resolve
from morphogen.core.spec import ProductSpec, TensorSpec
from morphogen.core.storage import cache_folder, read_tensors, write_tensors, write_text
from morphogen.data.dataset import Data
from morphogen.data.store import Store
from morphogen.evaluation.vectors import Vectors

BATCH_SIZE = 128
EPOCHS, FEWEST_STEPS, MOST_STEPS = 20, 150, 1200
CHUNK = 500
CLUSTERED = 5000  # items that k-means sees
COMPONENTS = 32  # of their vectors


@dataclass
class FeatureExtractor:
    """A trained network with the record of what it is."""

    family: Family
    name: str  # "classifier" or "k-means classifier"
    target: str
    accuracy: float  # share of test items whose label, or cluster, it finds
    weights_hash: str
    recipe: dict[str, Any]
    seen_as: Callable[[Encoded], Tensor]  # what the network is shown of encoded items

    @torch.no_grad()
    def features(self, x: Encoded) -> Tensor:
        """Encoded items (N, *) -> (N, D), on the CPU."""
        network: Any = self.family
        device = self.family.device
        return torch.cat(
            [
                network.features(self.seen_as(rows(x, part)).to(device)).cpu()
                for part in parts(num_items(x))
            ]
        )

    def features_of(self, split: Store, index: Tensor) -> Tensor:
        """Features of the items of a split at `index`."""
        return torch.cat([self.features(split.batch(index[i]).x) for i in parts(len(index))])

    @torch.no_grad()
    def classes(self, features: Tensor) -> Tensor:
        """Features (N, D) -> the class (N,) of `target` that the last layer takes them for."""
        network: Any = self.family
        return network.head(features.to(self.family.device)).argmax(1).cpu()

    def facts(self) -> dict[str, Any]:
        """What a protocol says about the features."""
        return {
            "extractor": f"{self.name} trained on the training split",
            "target": self.target,
            "accuracy": round(self.accuracy, 4),
            "weights_sha256": self.weights_hash,
            **self.recipe,
        }


def feature_extractor(
    data: Data, seed: int = 0, device: str = "cpu", beside: Path | None = None
) -> FeatureExtractor:
    """The extractor for `data`: from the bundle in the folder `beside`, from the cache, or trained
    now; and put into both."""
    label = _label(data)
    target = label or "cluster"
    used = data.having([label]) if label else data
    train, test = (used.train, used.test) if label else _clustered(data, seed)
    num_classes = data.conditions[label].vocab_size if label else int(train.cond[target].max()) + 1
    spec, seen_as = _seen(data, seed)
    recipe = resolve(_recipe(spec, target), spec)
    num_steps = min(max(EPOCHS * len(train) // BATCH_SIZE, FEWEST_STEPS), MOST_STEPS)
    about = {
        "family": recipe.family,
        "backbone": recipe.backbone,
        "num_steps": num_steps,
        "seed": seed,
        "code_version": morphogen.__version__,
    }
    key = hashlib.sha256(json.dumps([data.digest, about], sort_keys=True).encode()).hexdigest()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        family = build_family(recipe, spec, {target: TensorSpec.label(num_classes or 1)})
    family.to(device)
    name = f"features-{key[:32]}.safetensors"

    def train_it() -> None:
        train_judge(family, train, seen_as, num_steps, seed)

    lacking = known_or_trained(family, name, beside, train_it)
    accuracy, digest = _accuracy(family, test, seen_as, target), hash_tensors(family.state_dict())
    facts = {**about, "data": data.digest, "accuracy": accuracy, "weights_sha256": digest}
    for place in lacking:
        keep_judge(family, place, facts)
    kind = "classifier" if label else "k-means classifier"
    return FeatureExtractor(family, kind, target, accuracy, digest, about, seen_as)


def parts(num: int, size: int = CHUNK) -> Iterator[Tensor]:
    """0 .. num - 1 in pieces."""
    for start in range(0, num, size):
        yield torch.arange(start, min(start + size, num))


def hash_tensors(tensors: dict[str, Tensor]) -> str:
    """sha256 over names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _label(data: Data) -> str | None:
    """The first label with at least two classes."""
    for name, spec in data.conditions.items():
        if spec.is_label and (spec.vocab_size or 0) >= 2:
            return name
    return None


def _seen(data: Data, seed: int) -> tuple[TensorSpec, Callable[[Encoded], Tensor]]:
    """What the network is shown of items: themselves, or the vectors of those that have parts."""
    spec = data.spec
    if isinstance(spec, ProductSpec):
        vectors = Vectors.of(_some(data.train, CLUSTERED, seed), spec)
        return TensorSpec.vector(vectors.dim), vectors
    return spec, lambda x: spec.canonical(tensor(x))


def _some(split: Store, num: int, seed: int) -> Encoded:
    """So many items at random, or all that there are."""
    index = torch.randperm(len(split), generator=generator(seed))[:num]
    return joined([split.batch(index[part]).x for part in parts(len(index))])


def _recipe(spec: TensorSpec, target: str) -> Recipe:
    family: Any = discover.find("family", "supervised")
    backbone = family.backbone_for(spec)
    width = {"model_dim": 32} if backbone == "conv" else {}
    return Recipe(
        family={"name": "supervised", "target": target, "feature_dim": 128},
        backbone={"name": backbone, **width},
    )


def train_judge(
    family: Family,
    split: Store,
    seen_as: Callable[[Encoded], Any],
    num_steps: int,
    seed: int,
) -> None:
    """AdamW with one cycle of the learning rate, over shuffled epochs."""
    optimizer = torch.optim.AdamW(family.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=2e-3, total_steps=num_steps, pct_start=0.15
    )
    family.train()
    order = torch.empty(0, dtype=torch.long)
    shuffle = generator(mix_seed(seed, 1))
    draw = generator(mix_seed(seed, 2))
    for _ in range(num_steps):
        if len(order) < min(BATCH_SIZE, len(split)):
            order = torch.cat([order, torch.randperm(len(split), generator=shuffle)])
        index, order = order[:BATCH_SIZE], order[BATCH_SIZE:]
        batch = split.batch(index)
        shown = Batch(seen_as(batch.x), cond=batch.cond).to(family.device)
        loss, _ = family.loss(shown, "all", draw)
        optimizer.zero_grad()
        torch.autograd.backward(loss.mean())
        nn.utils.clip_grad_norm_(family.parameters(), 1.0)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def _accuracy(
    family: Family, split: Store, seen_as: Callable[[Encoded], Tensor], target: str
) -> float:
    network: Any = family
    hits = []
    for index in parts(len(split)):
        batch = split.batch(index)
        found = network.predict(seen_as(batch.x).to(family.device)).argmax(1).cpu()
        hits.append(found == batch.cond[target])
    return float(torch.cat(hits).float().mean()) if hits else math.nan


def _clustered(data: Data, seed: int) -> tuple[Store, Store]:
    """Both splits with the k-means clusters of the training items as their labels."""
    from sklearn.cluster import KMeans

    some = _some(data.train, CLUSTERED, seed)
    vectors = Vectors.of(some, data.spec)
    flat = vectors(some).double()
    mean = flat.mean(0)
    axes = torch.linalg.eigh((flat - mean).T @ (flat - mean)).eigenvectors[:, -COMPONENTS:]
    num_clusters = int(max(2, min(20, len(flat) // 20)))
    means = KMeans(num_clusters, n_init=3, random_state=seed)
    means.fit(((flat - mean) @ axes).numpy())
    centres = torch.from_numpy(means.cluster_centers_).double()

    def labelled(split: Store) -> Store:
        found = [
            torch.cdist((vectors(split.batch(index).x).double() - mean) @ axes, centres).argmin(1)
            for index in parts(len(split))
        ]
        labels = torch.cat(found) if found else torch.empty(0, dtype=torch.long)
        return split.with_cond({"cluster": labels})

    return labelled(data.train), labelled(data.test)


def known_or_trained(
    family: Family, name: str, beside: Path | None, train: Callable[[], None]
) -> list[Path]:
    """Take the weights of a judge from the file `name` in a bundle's folder, else in the cache,
    else have it trained; returns where they are to be kept (`keep_judge`). What came with a bundle,
    from anybody, must not judge others."""
    in_cache, in_bundle = cache_folder() / name, [beside / name] if beside else []
    if any(_load(family, place) for place in in_bundle):
        lacking = []
    elif _load(family, in_cache):
        lacking = in_bundle
    else:
        train()
        lacking = [in_cache, *in_bundle]
    family.eval()
    return lacking


def _load(family: Family, weights: Path) -> bool:
    """Take the weights from a file; False when they are not there or damaged."""
    try:
        family.load_state_dict(read_tensors(weights))
    except (BundleError, RuntimeError):
        return False
    return True


def keep_judge(family: Family, weights: Path, facts: dict[str, Any]) -> None:
    """Write the weights. What cannot be written costs time later, nothing now."""
    try:
        write_tensors(weights, family.state_dict())
        write_text(weights.with_suffix(".json"), json.dumps(facts, indent=2) + "\n")
    except MorphogenError:
        return
