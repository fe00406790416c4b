r"""Contrastive learning: an item lies near what belongs to it, far from what belongs to others.

    s_ij = f(x_i) . g(y_j),   f and g of length 1,   z_ij = 1 where y_j belongs to x_i, else -1

    softmax    L_i = -1/2 log p(y_i | x_i) - 1/2 log p(x_i | y_i),   p = softmax of e^tau s
               over the batch (InfoNCE, van den Oord et al. 2018; both ways, Radford et al. 2021)
    sigmoid    L_i = - sum_j log sigmoid(z_ij (e^tau s_ij + b))      (SigLIP, Zhai et al. 2023)

tau and b are learned. What is the same in several pairs of a batch (a class, a caption that comes
again) belongs to each of their items: p is then the mean over all that belong (Yang et al. 2022).

    x ---> backbone --------------------------------> f(x)
    y ---> the same, where both are texts; else its own reader ---> g(y)

y is a condition of the item, whatever its codec: a caption, a title, a class, a sound. Where there
is none, y is another view of the item: a span of a sequence (Izacard et al. 2022), a part of a grid
(Chen et al. 2020), values taken from other items (Bahri et al. 2022). `Batch.other` holds hard
negatives: items that lie near a condition and do not belong to it.

Legend: B batch, D dimensions of the space, M items that are hard negatives, L positions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.core.backbone import BuildBackbone, CanTell
from morphogen.core.batch import Batch
from morphogen.core.condition_readers import First, Reader, has_positions
from morphogen.core.conditioning import present
from morphogen.core.encoded import num_items
from morphogen.core.errors import DataError, RecipeError, RefusedPair, did_you_mean
from morphogen.core.family import Family
from morphogen.core.random import rand
from morphogen.core.spec import ProductSpec, Spec, TensorSpec
from morphogen.core.varied import Variation, may_vary
from morphogen.families._raster import fitting_batch, network_over

STARTS = {"softmax": (1 / 0.07, 0.0), "sigmoid": (10.0, -10.0)}  # e^tau and b (both papers)
LARGEST = 100.0  # e^tau (Radford et al. 2021)
FEWEST = 64  # items of a batch, however long they are: others are what one is told apart from
Form = Literal["softmax", "sigmoid"]


class Contrastive(Family):
    """Two encoders into one space, in which what belongs together is near."""

    default_backbone: ClassVar[str] = "conv"
    takes: ClassVar[frozenset[str]] = frozenset({"parts", "lengths", "columns"})
    train_defaults: ClassVar[dict[str, Any]] = {"lr": 1e-3, "batch_size": 256}
    papers: ClassVar[tuple[str, ...]] = (
        "vandenoord2018representation", "radford2021learning", "zhai2023sigmoid",
        "park2019specaugment",
    )  # fmt: skip
    mixes_batch: ClassVar[bool] = True  # the others of a batch are what an item is told apart from

    def __init__(
        self,
        spec: Spec,
        conditions: Mapping[str, TensorSpec],
        backbone: BuildBackbone,
        *,
        target: str | None = None,  # the condition that belongs to an item; none: the only one
        form: Form = "softmax",  # of the loss: over the batch (InfoNCE), or pair by pair (SigLIP)
        latent_dim: int = 128,  # dimensions of the space that both lie in
        shared: bool | None = None,  # one encoder for both; none: where both have as many tokens
        cond_dim: int = 128,  # width of the network that reads conditions of another kind
        num_cond_layers: int = 2,  # of self-attention in it, for conditions that have positions
        cond_pooled: bool = False,  # or one vector, linearly: of a frozen reader, its whole
        least_kept: float = 0.3,  # of an item without a condition: a view shows so much, or more
        corrupt_prob: float = 0.3,  # and where it has no space, takes this share from others
        max_shift: int = 0,  # augmentation: shift each item by up to so many positions per axis
        flip_prob: float = 0.0,  # augmentation: probability to mirror an item's last axis
        mask_share: float = 0.0,  # augmentation: hide a run along each axis, up to this share of it
        max_gain: float = 0.0,  # augmentation: add a number, up to this size, to an item's values
        max_blur: float = 0.0,  # augmentation: blur by a Gaussian of up to so many positions
        max_noise: float = 0.0,  # augmentation: add noise of up to this deviation
    ) -> None:
        super().__init__(spec, conditions, backbone)
        self.target = _target(target, conditions)
        self.form, self.least_kept, self.corrupt_prob = form, least_kept, corrupt_prob
        self.variation = Variation(max_shift, flip_prob, mask_share, max_gain, max_blur, max_noise)
        self.conditions = {} if self.target is None else {self.target: conditions[self.target]}
        told = None if self.target is None else conditions[self.target]
        self.shares = _alike(spec, told) if shared is None else shared
        if self.shares and not _alike(spec, told):
            raise RecipeError(
                "one encoder reads both only where both are sequences of the same tokens",
                found=f"{spec} and {told}", where="family.shared", hint="--set family.shared=no",
            )  # fmt: skip
        self.latent_spec = TensorSpec.vector(latent_dim)
        self.read: Any = _longer(spec, told) if self.shares else spec
        self.encoder = backbone(self.read, self.latent_spec)
        self.reader: ConditionReader | None = None
        if told is not None and not self.shares:
            self.reader = ConditionReader(
                told, latent_dim, cond_dim, num_cond_layers, first=cond_pooled
            )
        scale, bias = STARTS[form]
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(bias)) if form == "sigmoid" else None

    @property
    def required(self) -> tuple[str, ...]:
        """An item with which nothing belongs teaches nothing."""
        return tuple(self.conditions)

    @classmethod
    def train_defaults_for(cls, spec: Any) -> dict[str, Any]:
        """Long items come in smaller batches, but never alone."""
        fitting = max(fitting_batch(spec, cls.train_defaults["batch_size"]), FEWEST)
        return {**cls.train_defaults, "batch_size": fitting}

    @classmethod
    def backbone_for(cls, spec: Spec) -> str:
        """Texts are read by the network of language models."""
        return network_over(spec, super().backbone_for(spec))

    # -- the space ---------------------------------------------------------------------------------

    def encode(self, x: Any) -> Tensor:
        """Items (B, *) -> (B, D), of length 1."""
        x = self.spec.canonical(x)
        if isinstance(x, Tensor):
            x = self._read(x, self.spec)
        return F.normalize(self.encoder(x), dim=1)

    def encode_condition(self, cond: Mapping[str, Tensor]) -> Tensor:
        """What belongs to items, by its name, (B, *) -> (B, D), of length 1: near such items.

        Raises `DataError` where it is not there."""
        return self._encoded(*self._told(cond))

    def _encoded(self, value: Tensor, spec: TensorSpec) -> Tensor:
        """A canonical condition in the space."""
        if self.reader is not None:
            return F.normalize(self.reader(value), dim=1)
        return F.normalize(self.encoder(self._read(value, spec)), dim=1)

    @property
    def scale(self) -> float:
        """e^tau: p(condition j | item) among several is the softmax of it times f . g_j."""
        return min(float(self.log_scale.detach().exp()), LARGEST)

    def _read(self, x: Tensor, spec: TensorSpec) -> Tensor:
        """Canonical items (B, *) as the encoder takes them: a sequence as long as the longest that
        is real where it can be, else as long as any."""
        if spec.end is None:
            return x
        if isinstance(self.encoder, CanTell):
            return x[:, : int(spec.num_real(x).max())]
        return F.pad(x, (0, self.read.shape[0] - x.shape[1]), value=spec.end)

    def _told(self, cond: Mapping[str, Tensor]) -> tuple[Tensor, TensorSpec]:
        """The condition of each item, in its canonical form."""
        if self.target is None:
            raise RefusedPair(
                "the model was trained on items alone, and knows nothing that belongs to them",
                hint="encode items; or train on data with conditions, --set modality.conditions=..",
            )
        spec, value = self.conditions[self.target], cond.get(self.target)
        if value is None or not bool(present(value, spec).all()):
            raise DataError(
                f"an item has no {self.target!r} that belongs to it",
                found=", ".join(cond) or "no conditions", expected=self.target,
            )  # fmt: skip
        return spec.canonical(value), spec

    # -- learning ----------------------------------------------------------------------------------

    def loss(
        self, batch: Batch, phase: str, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """In nats per item, and how often what is nearest to an item belongs to it."""
        x = self.spec.canonical(batch.x)
        if self.target is None:
            first, second = (self.encode(self.view(x, generator)) for _ in range(2))
            same = torch.eye(len(batch), dtype=torch.bool, device=first.device)
        else:
            # What a frozen model saw (`--through`) was changed before it was seen.
            shown = x
            if self.training and may_vary(self.spec):
                shown = self.variation(x, generator)
            value, spec = self._told(batch.cond)
            first, second = self.encode(shown), self._encoded(value, spec)
            same = _same_rows(value)
        others = first[:0] if batch.other is None else self.encode(batch.other.x)
        scale = self.log_scale.exp().clamp(max=LARGEST)
        logits, wrong = scale * first @ second.T, scale * second @ others.T  # (B, B), (B, M)
        if self.bias is None:
            loss = over_batch(logits, same, wrong)
        else:
            loss = pair_by_pair(logits + self.bias, same, wrong + self.bias)
        right = same.gather(1, logits.argmax(1, keepdim=True))[:, 0]
        return loss, {"accuracy": right.float(), "scale": scale.detach()}

    def view(self, x: Any, generator: torch.Generator) -> Any:
        """Canonical items as they look from elsewhere: a span, a part, or with values of others."""
        spec = self.spec
        if isinstance(spec, ProductSpec):
            kept = set(spec.lengths.values())
            return spec.canonical({
                name: x[name] if name in kept else _mixed(x[name], self.corrupt_prob, generator)
                for name, _ in spec
            })  # fmt: skip
        if spec.end is not None:
            return _span(x, spec.end, self.least_kept, generator)
        if spec.kind == "real" and spec.space:
            return _part(x, self.least_kept, generator)
        return _mixed(x, self.corrupt_prob, generator)


class ConditionReader(nn.Module):
    """A condition of any kind -> (B, D): a class, numbers, or a sequence or grid in order."""

    def __init__(
        self, spec: TensorSpec, latent_dim: int, dim: int, num_layers: int, first: bool = False
    ) -> None:
        super().__init__()
        self.is_class, self.reads = spec.is_label, has_positions(spec)
        self.first = first and not self.is_class
        if self.first:  # what has no positions is a vector of the whole
            if self.reads:
                self.whole: nn.Module = First(spec, latent_dim)
            else:
                self.whole = nn.Linear(spec.num_values, latent_dim)
            return
        if self.is_class:
            self.embed: nn.Module = nn.Embedding(spec.vocab_size or 1, latent_dim)
            return
        read = Reader(spec, dim, num_layers) if self.reads else nn.Linear(spec.num_values, dim)
        self.embed, self.head = read, nn.Linear(dim, latent_dim)

    def forward(self, value: Tensor) -> Tensor:
        """(B, *) -> (B, D)."""
        if self.first:
            return self.whole(value if self.reads else value.flatten(1))
        if self.is_class:
            return self.embed(value)
        h = self.embed(value)[2] if self.reads else self.embed(value.flatten(1))
        return self.head(F.silu(h))


def over_batch(logits: Tensor, same: Tensor, wrong: Tensor) -> Tensor:
    """InfoNCE, both ways, from e^tau s of items and conditions (B, B), which of these belong
    together, and e^tau s of conditions and hard negatives (B, M): (B,)."""
    share = same / same.sum(1, keepdim=True)
    of_conditions = logits.log_softmax(1)
    of_items = torch.cat([logits.T, wrong], dim=1).log_softmax(1)[:, : len(same)]
    return -(share * (of_conditions + of_items)).sum(1) / 2


def pair_by_pair(logits: Tensor, same: Tensor, wrong: Tensor) -> Tensor:
    """SigLIP, from e^tau s + b of the same: (B,)."""
    belongs = torch.where(same, 1.0, -1.0)
    return -F.logsigmoid(belongs * logits).sum(1) - F.logsigmoid(-wrong).sum(1)


def _target(target: str | None, conditions: Mapping[str, TensorSpec]) -> str | None:
    """The condition that belongs to items. Raises `RefusedPair` where it is not known which."""
    if target is None and len(conditions) <= 1:
        return next(iter(conditions), None)
    if target in conditions:
        return target
    raise RefusedPair(
        "say which condition belongs to an item" if target is None
        else f"the data has no condition {target!r}.{did_you_mean(target, conditions)}",
        found=", ".join(conditions) or "no conditions", expected="one of them",
        hint=f"--set family.target={next(iter(conditions), 'NAME')}",
    )  # fmt: skip


def _alike(spec: Spec, told: TensorSpec | None) -> bool:
    """Whether both are sequences of as many tokens with the same end, so that one can be read as
    the other is. (Of vocabularies that were learned apart, only the size is known to be the
    same.)"""
    if told is None or not isinstance(spec, TensorSpec):
        return False
    ends = spec.end is not None and spec.end == told.end
    return ends and spec.vocab_size == told.vocab_size


def _longer(spec: Any, told: TensorSpec | None) -> Any:
    return told if told is not None and told.shape[0] > spec.shape[0] else spec


def _same_rows(x: Tensor) -> Tensor:
    """Which of (B, *) are the same: (B, B)."""
    number = torch.unique(x.flatten(1) if x.dim() > 1 else x, dim=0, return_inverse=True)[1]
    return number[:, None] == number


# -- views -----------------------------------------------------------------------------------------


def _span(x: Tensor, end: int, least: float, generator: torch.Generator) -> Tensor:
    """A stretch of each sequence (B, L), `least` of it or more."""
    size = (x != end).sum(1)  # (B,) of canonical items, without their ends
    kept, start = _stretch(size.float(), least, generator)
    place = torch.arange(x.shape[1], device=x.device)
    index = (start.floor().long()[:, None] + place).clamp(max=x.shape[1] - 1)
    return x.gather(1, index).masked_fill(place >= kept.ceil()[:, None], end)


def _part(x: Tensor, least: float, generator: torch.Generator) -> Tensor:
    """A part of each grid (B, C, *space), `least` of each side or more, drawn out to its size."""
    for axis in range(2, x.dim()):
        size = torch.full((len(x),), float(x.shape[axis]), device=x.device)
        kept, start = _stretch(size, least, generator)
        place = (torch.arange(x.shape[axis], device=x.device) + 0.5) / x.shape[axis]
        index = (start[:, None] + place * kept[:, None]).long().clamp(max=x.shape[axis] - 1)
        wide = [len(x), *(1,) * (x.dim() - 1)]
        wide[axis] = x.shape[axis]
        x = x.gather(axis, index.view(wide).expand(x.shape))
    return x


def _stretch(size: Tensor, least: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """How long a stretch of each size (B,) is, and where it begins."""
    u, v = rand((len(size), 2), generator).to(size.device).unbind(1)
    kept = size * (least + (1 - least) * u)
    return kept, v * (size - kept)


def _mixed(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """(B, *), a share of whose values are those of another item."""
    order = rand((num_items(x),), generator).argsort().to(x.device)
    taken = rand(tuple(x.shape), generator).to(x.device) < share
    return torch.where(taken, x[order], x)
