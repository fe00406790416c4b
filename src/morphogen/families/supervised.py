r"""Supervised learning: predict one condition of an item from the item.

    classification   p(y | x) = softmax(W h(x))_y,       loss = -log p(y | x)
    regression       y = m + s (W h(x)),                  loss = |(y - m) / s - W h(x)|^2 / D

h is the backbone with a nonlinearity, the features. m and s are the mean and standard deviation of
the targets in the first large batch: targets in any unit are learned equally well. Label smoothing
mixes the target with the uniform distribution (Szegedy et al. 2016). The conditions that are not
the target are inputs. In training, real items may be shifted, mirrored, partly hidden and made
brighter (for spectra: louder).

    x ----> backbone ----> SiLU ----> h (features) ----> linear ----> class probabilities or values
    other conditions --^

Legend: B batch, D features or target values, V classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.conditioning import Conditioner
from morphogen.core.encoded import num_items
from morphogen.core.errors import DataError, RefusedPair, did_you_mean
from morphogen.core.family import Family
from morphogen.core.spec import Spec, TensorSpec
from morphogen.core.varied import Variation, may_vary


class Supervised(Family):
    """Classifier or regressor: predicts a condition from an item."""

    default_backbone: ClassVar[str] = "conv"
    takes: ClassVar[frozenset[str]] = frozenset({"parts", "lengths", "columns"})
    train_defaults: ClassVar[dict[str, Any]] = {"lr": 1e-3, "batch_size": 128, "weight_decay": 0.05}
    papers: ClassVar[tuple[str, ...]] = ("szegedy2016inception", "park2019specaugment")

    def __init__(
        self,
        spec: Spec,
        conditions: Mapping[str, TensorSpec],
        backbone: BuildBackbone,
        *,
        target: str = "label",  # the condition to predict
        feature_dim: int = 128,  # size of the feature vector before the last layer
        label_smoothing: float = 0.0,  # share of the target that is spread over all classes
        max_shift: int = 0,  # augmentation: shift each item by up to so many positions per axis
        flip_prob: float = 0.0,  # augmentation: probability to mirror an item's last axis
        mask_share: float = 0.0,  # augmentation: hide a run along each axis, up to this share of it
        max_gain: float = 0.0,  # augmentation: add a number, up to this size, to an item's values
        cond_dim: int = 64,  # size of the embedding of the other conditions
    ) -> None:
        super().__init__(spec, conditions, backbone)
        check_target(target, conditions)
        self.target, self.target_spec = target, conditions[target]
        self.label_smoothing = label_smoothing
        self.variation = Variation(max_shift, flip_prob, mask_share, max_gain)
        others = {name: each for name, each in conditions.items() if name != target}
        self.conditioner = Conditioner(others, cond_dim if others else 0)
        features = TensorSpec.vector(feature_dim)
        self.trunk = backbone(spec, features, cond_dim=self.conditioner.dim)
        self.classifies = self.target_spec.kind == "token"
        num_outputs = self.target_spec.vocab_size or self.target_spec.num_values
        self.head = nn.Linear(feature_dim, num_outputs)
        self.offset: Tensor
        self.scale: Tensor
        self.register_buffer("offset", torch.zeros(num_outputs))
        self.register_buffer("scale", torch.ones(num_outputs))

    @property
    def required(self) -> tuple[str, ...]:
        """An item without the target teaches nothing."""
        return (self.target,)

    @classmethod
    def refuses(cls, spec: Spec, conditions: Mapping[str, TensorSpec]) -> RefusedPair | None:
        if conditions:
            return None
        return RefusedPair(
            "supervised learning needs something to predict, and the data has only the items",
            found="no conditions",
            expected="a class folder for each label, or a column of labels or values",
            hint="--family vae (or any other) learns items without labels",
        )

    def prepare(self, batch: Batch, generator: torch.Generator) -> None:
        """Take the offset and scale of the target's values from one large batch."""
        if self.classifies:
            return
        values = self._target_of(batch).flatten(1)
        self.offset.copy_(values.mean(0))
        self.scale.copy_(values.std(0, correction=0).clamp(min=1e-6))

    def loss(
        self, batch: Batch, phase: str, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        target = self._target_of(batch)
        inputs = {name: v for name, v in batch.cond.items() if name != self.target}
        x = batch.x
        if self.training and may_vary(self.spec):
            x = self.variation(x, generator)
        outputs = self.head(self.features(x, inputs))
        if self.classifies:
            loss = F.cross_entropy(
                outputs, target, reduction="none", label_smoothing=self.label_smoothing
            )
            return loss, {"accuracy": (outputs.argmax(1) == target).float()}
        error = outputs - (target.flatten(1) - self.offset) / self.scale
        return error.square().mean(1), {"absolute_error": (error * self.scale).abs().mean(1)}

    def features(self, x: Any, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """The features before the last layer: (B, *shape) -> (B, D)."""
        embedded = self.conditioner(cond, num_items(x)) if self.conditioner.dim else None
        return F.silu(self.trunk(self.spec.canonical(x), embedded))

    def predict(self, x: Any, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """(B, *shape) -> class probabilities (B, V), or values (B, D) in their own unit."""
        outputs = self.head(self.features(x, cond))
        return outputs.softmax(1) if self.classifies else outputs * self.scale + self.offset

    def _target_of(self, batch: Batch) -> Tensor:
        if self.target not in batch.cond:
            raise DataError(
                f"the batch has no {self.target!r} to learn from",
                found=", ".join(batch.cond) or "no conditions",
                expected=self.target,
            )
        return batch.cond[self.target]


def check_target(target: str, conditions: Mapping[str, TensorSpec]) -> None:
    """Raise `RefusedPair` unless the data has a condition `target` that is a class or a number."""
    there = ", ".join(f"{name} ({spec})" for name, spec in conditions.items())
    if target not in conditions:
        raise RefusedPair(
            f"the data has no condition {target!r}.{did_you_mean(target, conditions)}",
            found=there,
            expected=target,
            hint=f"--set family.target={next(iter(conditions))}",
        )
    if conditions[target].kind == "token" and conditions[target].shape:
        raise RefusedPair(
            f"{target!r} is a sequence of tokens: supervised predicts one class or real values",
            found=there,
            hint="--family autoregressive learns sequences",
        )
