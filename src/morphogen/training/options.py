"""The [train] table of a recipe."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Literal

from morphogen.core.errors import RecipeError
from morphogen.core.schema import check_options

LONGEST = 1e12  # of a budget, in any unit
LARGEST_RATE = 1e3  # nothing learns at a larger one
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class TrainOptions:
    """How a family is trained. A family's `train_defaults` fill what a recipe leaves out."""

    budget: str = "10m"  # time (90s, 10m, 2h), steps (5000steps) or epochs (20epochs)
    batch_size: int = 128  # items per step, over all processes; unless set, fewer of large ones
    lr: float = 1e-3  # peak learning rate
    optimizer: Literal["adamw", "muon"] = "adamw"  # muon: orthogonalised momentum for matrices
    muon_steps: int = 5  # iterations by which muon orthogonalises; 3 take three fifths of the time
    weight_decay: float = 0.0  # decoupled weight decay
    beta1: float = 0.9  # momentum of AdamW
    beta2: float = 0.99  # decay of AdamW's squared gradients
    warmup: float = 0.02  # share of the run in which the learning rate rises
    decay: float = 0.5  # share of the run, at its end, in which it falls to zero
    grad_clip: float = 1.0  # largest norm of a phase's gradient; 0 switches clipping off
    ema: float = 0.05  # width of the weight average, as a share of the run; 0 switches it off
    keep_best: float = 0.0  # share of training items held back; weights that do best on them stay
    unconditional: bool = False  # leave the labels and other conditions of the data unlearned
    seed: int = 0  # seeds weights, data order and every draw
    device: str = "auto"  # cpu, cuda, cuda:1, mps
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 on GPUs only
    compile: Literal["auto", "yes", "no"] = "auto"  # torch.compile where the budget repays it
    recompute: bool = False  # blocks compute again what the backward pass needs: less memory
    shard: bool = False  # under torchrun: processes share out the weights, not the batch alone
    checkpoint_every: float = 60.0  # seconds between checkpoints on disk
    forgetting: str = "auto"  # with --from: data on which forgetting is measured; auto: the base's
    num_previews: int = 8  # sample sheets rendered while it trains; 0 for none

    def __post_init__(self) -> None:
        checks = {
            "batch_size": self.batch_size >= 1,
            "lr": 0 < self.lr <= LARGEST_RATE,
            "muon_steps": self.muon_steps in (2, 3, 5),
            "weight_decay": self.weight_decay >= 0,
            "beta1": 0 <= self.beta1 < 1,
            "beta2": 0 <= self.beta2 < 1,
            "checkpoint_every": self.checkpoint_every >= 0,
            "warmup": 0 <= self.warmup <= 1,
            "decay": 0 <= self.decay <= 1,
            "ema": 0 <= self.ema < 0.28,
            "grad_clip": self.grad_clip >= 0,
            "keep_best": 0 <= self.keep_best <= 0.5,
        }
        for name, good in checks.items():
            if not good:
                raise RecipeError(
                    f"train.{name} is out of range",
                    found=getattr(self, name),
                    where=f"train.{name}",
                )
        Budget.parse(self.budget)

    @classmethod
    def resolve(cls, given: dict[str, Any], family_defaults: dict[str, Any]) -> TrainOptions:
        """Defaults, then the family's, then the recipe's. Raises `RecipeError`."""
        return cls(**check_options(cls, {**family_defaults, **given}, "train"))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Budget:
    """How long to train: exactly one of the three is set."""

    seconds: float | None = None
    steps: int | None = None
    epochs: float | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read "90s", "10m", "2h", "5000steps" or "20epochs"."""
        match = re.fullmatch(r"\s*([\d.]+)\s*([a-z]+)\s*", text.lower())
        try:
            number = float(match[1]) if match else 0.0
        except ValueError:
            number = 0.0
        unit = match[2] if match else ""
        if not number <= LONGEST:
            number = 0.0
        if number > 0 and unit in _UNITS:
            return cls(seconds=number * _UNITS[unit])
        if number >= 1 and unit in ("step", "steps"):
            return cls(steps=int(number))
        if number > 0 and unit in ("epoch", "epochs"):
            return cls(epochs=number)
        raise RecipeError(
            "the budget cannot be read",
            found=text,
            expected="90s, 10m, 2h, 5000steps or 20epochs",
            where="--budget",
        )

    def total_steps(self, num_items: int, batch_size: int) -> int | None:
        """The number of steps, when the budget fixes it."""
        if self.epochs is not None:
            return max(1, round(self.epochs * num_items / batch_size))
        return self.steps
