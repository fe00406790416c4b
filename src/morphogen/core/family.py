"""The contract of the family axis: by which principle a model learns and samples."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from morphogen.core.adapter import Adapter
from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.errors import RefusedPair
from morphogen.core.grain import Grain
from morphogen.core.spec import ProductSpec, Spec, TensorSpec

LEAST_DRAWN, MOST_DRAWN, AT_ONCE = 64, 1000, 250  # items that tell the grain of what is drawn


class Update(Protocol):
    """One phase's optimizer as a family sees it: clipping, averaging over processes, learning-rate
    schedule and the search for NaN are the trainer's business."""

    def minimise(self, loss: Tensor) -> None:
        """Zero the gradients, differentiate `loss` (a scalar), and apply."""
        ...

    def apply(self) -> None:
        """Take one step with the gradients that stand in `.grad` (contrastive divergence)."""
        ...


@dataclass(frozen=True)
class HealthyRange:
    """Where a logged part of the loss stays while training goes well.

    Outside of it for long, the trainer raises an alarm: its `kind`, what it `means`, and a `hint`,
    what to type.
    """

    kind: str
    means: str
    hint: str
    low: float = -math.inf
    high: float = math.inf


class Family(nn.Module):
    """A learning principle over any spec, with any backbone that fits.

    Subclasses take `(spec, conditions, backbone, *, hyperparameters...)`, set the capabilities they
    have (`core.capability`), and write `loss`. Several losses with an optimizer each (GAN) are
    `phases`; learning without backpropagation (RBM) overrides `step`.
    """

    phases: ClassVar[tuple[str, ...]] = ("all",)
    default_backbone: ClassVar[str] = "mlp"
    # What this family trains best with, as options of `train.TrainOptions`; a recipe overrides it.
    train_defaults: ClassVar[dict[str, Any]] = {}
    # The loss, or the part of it, that falls as the family learns; None where no number says so.
    objective: ClassVar[str | None] = "loss"
    # Healthy ranges of logged parts, by name: the watch over training sounds an alarm outside them.
    watched: ClassVar[Mapping[str, HealthyRange]] = {}
    # The family to draw items from this one's latents with, in a chain (vq_vae+autoregressive);
    # None where it has a good prior of its own, or no latents.
    prior_family: ClassVar[str | None] = None
    # Whether what it draws lies between the levels of data, as means do: then it gets their grain.
    draws_means: ClassVar[bool] = False
    # BibTeX keys of references.bib, for `morphogen cite`.
    papers: ClassVar[tuple[str, ...]] = ()
    # What was put on it to be trained in its place, and the names in `state_dict` of what is not.
    adapter: Adapter | None = None
    given: frozenset[str] = frozenset()
    # Beginnings of names in `state_dict` of what only its training needs: no bundle keeps that.
    in_training: ClassVar[tuple[str, ...]] = ()
    # Conditions that only its training asks for: nothing is drawn by them.
    unheard: Mapping[str, TensorSpec] = MappingProxyType({})
    # Share of the training done, 0 to 1: set by the trainer before each step.
    progress: float = 0.0
    # False where the loss needs gradients of gradients, which compiled networks do not have.
    compiles: ClassVar[bool] = True
    # What it can do with data beyond plain tensors of one size: "parts" (a `ProductSpec`),
    # "lengths" (items that end early), "columns" (positions with vocabularies of their own),
    # "weights" (a loss in which values count differently).
    takes: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self, spec: Any, conditions: Mapping[str, TensorSpec], backbone: BuildBackbone
    ) -> None:
        super().__init__()
        refusal = self.refusal(spec, conditions)
        if refusal is not None:
            raise refusal
        self.spec, self.conditions = spec, dict(conditions)
        self.grain = Grain.of(spec) if self.draws_means else None
        if spec.is_ragged:  # how many values of an item are real, on average: see `per_value`
            self.usual_values: Tensor
            self.register_buffer("usual_values", torch.tensor(float(spec.num_values)))

    @property
    def built_for(self) -> dict[str, TensorSpec]:
        """All conditions that it was built with, those that only its training asks for among
        them."""
        return {**self.conditions, **self.unheard}

    @property
    def required(self) -> tuple[str, ...]:
        """Conditions that every item must have: those without are left out of training."""
        return ()

    @classmethod
    def refusal(cls, spec: Spec, conditions: Mapping[str, TensorSpec]) -> RefusedPair | None:
        """None when the family can learn data of `spec`; else why not, and what to use instead."""
        asked = {
            "parts": (isinstance(spec, ProductSpec), "items of several parts"),
            "lengths": (spec.is_ragged, "items that differ in length"),
            "columns": (
                isinstance(spec, TensorSpec) and spec.sizes is not None,
                "columns with vocabularies of their own",
            ),
        }
        for name, (needed, what) in asked.items():
            if needed and name not in cls.takes:
                return RefusedPair(
                    f"{cls.__name__} does not learn {what}",
                    found=str(spec),
                    hint="another view of the data, --set modality.view=flat where it has one; or "
                    "a chain that learns a code first: --family autoencoder+flow_matching",
                )
        return cls.refuses(spec, conditions)

    @classmethod
    def refuses(cls, spec: Any, conditions: Mapping[str, TensorSpec]) -> RefusedPair | None:
        """What a family has to say against data of `spec` beyond what it `takes`; see `refusal`."""
        return None

    @classmethod
    def train_defaults_for(cls, spec: Any) -> dict[str, Any]:
        """`train_defaults`, or what data of `spec` calls for instead."""
        return cls.train_defaults

    @classmethod
    def backbone_for(cls, spec: Spec) -> str:
        """The backbone taken when the recipe names none."""
        if isinstance(spec, ProductSpec) and spec.pairs:
            return "gnn"
        has_positions = bool(spec.space) and spec.layout != "vector"
        return cls.default_backbone if has_positions else "mlp"

    def prepare(self, batch: Batch, generator: torch.Generator) -> None:
        """See one large batch before training starts: scales, offsets, initial codebooks."""

    def finish(self, batch: Batch, worth: int, generator: torch.Generator) -> dict[str, float]:
        """See one large batch after training, with the weights that are kept: settle what only a
        trained model tells. Takes about as long as training on `worth` items; numbers to log.

        Exact values get the share that they have in the data."""
        if self.grain is None:
            return {}
        self.grain.clear()
        worth = max(3 * worth, LEAST_DRAWN)  # so few cost less than a step of training
        num = min(len(batch), MOST_DRAWN, worth // self.draw_passes)
        if num < LEAST_DRAWN:
            return {}
        return self.grain.fit(batch.x, self.drawn_like(batch, num, generator))

    @property
    def finish_share(self) -> float:
        """Share of the training's work that `finish` may take; a budget of time leaves it free."""
        return 0.0 if self.grain is None else 0.01

    @property
    def draw_passes(self) -> int:
        """How many passes of the network an item takes to draw; each is a third of a training
        step."""
        return 1

    @property
    def log_prob_passes(self) -> int:
        """How many passes of the network the likelihood of an item takes, where it has one."""
        return 1

    def drawn_like(self, batch: Batch, num: int, generator: torch.Generator) -> Tensor:
        """`num` samples with the conditions of the batch's first items."""
        model: Any = self
        drawn = []
        for index in torch.split(torch.arange(num, device=self.device), AT_ONCE):
            said = batch.rows(index).cond
            cond = {name: value for name, value in said.items() if name in self.conditions}
            drawn.append(model.sample(len(index), cond=cond or None, generator=generator))
        return torch.cat(drawn)

    def grained(self, x: Any) -> Any:
        """Drawn items as they are handed out: with the exact values of the data in their shares."""
        return x if self.grain is None else self.grain(x)

    def check_batch(self, batch: Batch) -> None:
        """Raise `RefusedPair` for a batch that has weights where the loss has none."""
        if batch.weight is not None and "weights" not in self.takes:
            raise RefusedPair(
                f"the loss of {type(self).__name__} counts all values alike",
                found="a batch with weights",
                hint="--family autoregressive, vae or flow_matching",
            )

    def see_lengths(self, x: Any) -> None:
        """Note how many values of items (N, *) are real, on average. Call it from `prepare`."""
        if self.spec.is_ragged:
            self.usual_values.fill_(float(self.spec.num_real(x).mean()))

    def per_value(self, nats: Tensor) -> Tensor:
        """Nats per item to bits per value: (B,) -> (B,).

        Where items differ in length, all are divided by the usual one, and not each by its own:
        every value then counts the same, and long items are not learned less than short ones.
        """
        values = self.usual_values if self.spec.is_ragged else self.spec.num_values
        return nats / (values * math.log(2))

    def loss(
        self, batch: Batch, phase: str, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss per item (B,), and its named parts, each (B,) or a scalar, for the log.

        In evaluation mode it leaves the family as it is: training is watched by calling it.
        """
        raise NotImplementedError

    def parameters_of(self, phase: str) -> Iterable[nn.Parameter]:
        """The parameters that `phase` updates."""
        return self.parameters()

    def step(
        self, batch: Batch, updates: Mapping[str, Update], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """One training step: by default one update per phase. Returns named scalars."""
        logs: dict[str, Tensor] = {}
        for phase in self.phases:
            loss, parts = self.loss(batch, phase, generator)
            mean = loss.mean()
            updates[phase].minimise(mean)
            prefix = "" if len(self.phases) == 1 else f"{phase}/"
            logs[f"{prefix}loss"] = mean.detach()
            logs |= {f"{prefix}{name}": part.detach().mean() for name, part in parts.items()}
        return logs

    @property
    def stage(self) -> int:
        """Which of several trainings, one after the other, is under way: losses compare within."""
        return 0

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device


def weights_digest(model: nn.Module) -> str:
    """A hash of a model's weights, which tells latents and features of it from those of others."""
    hashed = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        hashed.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()


def own_state(module: nn.Module, keep_vars: bool = False) -> dict[str, Tensor]:
    """The state of a module without what is `given`: all of it, unless an adapter was put on."""
    given: frozenset[str] = getattr(module, "given", frozenset())
    state = module.state_dict(keep_vars=keep_vars)
    return {name: value for name, value in state.items() if name not in given}


def drawing_state(family: Family) -> dict[str, Tensor]:
    """The same without what its training alone needs."""
    state = own_state(family)
    return {n: value for n, value in state.items() if not n.startswith(family.in_training)}


def load_own_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Inverse of `own_state`. Raises `RuntimeError` for names or shapes that do not fit."""
    given: frozenset[str] = getattr(module, "given", frozenset())
    if not given:
        module.load_state_dict(dict(state))
        return
    if clash := given & state.keys():
        raise RuntimeError(f"{min(clash)} is not the adapter's")
    kept = module.state_dict()
    module.load_state_dict({**{name: kept[name] for name in given}, **state})
