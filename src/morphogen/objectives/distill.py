r"""Distillation: a model learns what another one says, and not only what the data says.

    tokens      T^2 KL(p_teacher || p) of every token that is learned, at temperature T
    denoisers   |E_teacher[x | x_t] - E[x | x_t]|^2, per value, at random times

A teacher says of every token how probable each other one would have been, which one token of the
data does not (Hinton, Vinyals & Dean 2015, arXiv:1503.02531; for language models by the forward
divergence, Sanh et al. 2019, arXiv:1910.01108). It is read beside the model on the same items, so
that it has to know the same tokens. Where it does not, it writes texts for the model to learn from
(`morphogen teach`; Kim & Rush 2016, arXiv:1606.07947).

Legend: B items, L tokens, V vocabulary, M tokens that count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from morphogen.core.batch import Batch
from morphogen.core.bundle import Bundle
from morphogen.core.capability import CanDenoise, missing
from morphogen.core.codec import Codec
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.family import Family, HealthyRange, Update
from morphogen.core.objective import Judge, Reference
from morphogen.core.spec import Spec, TensorSpec
from morphogen.core.visible import in_shell
from morphogen.core.writing import tokens_of

AT_ONCE = 1 << 24  # logits that are there at a time


class Distill:
    """Learns what a teacher says of every token, or of every noisy item."""

    train_defaults: ClassVar[dict[str, Any]] = {"num_previews": 4}
    watched: Mapping[str, HealthyRange] = {}
    rate: ClassVar[float] = 1.0
    scored: ClassVar[str] = "minus the distance from the teacher"
    judged: ClassVar[bool] = False

    def __init__(
        self,
        *,
        teacher: str | None = None,  # bundle of the same kind of items, in the same tokens
        temperature: float = 1.0,  # above 1, what is less probable counts more
        data_weight: float = 0.0,  # of the model's own loss on the data, beside what it is taught
    ) -> None:
        if teacher is None:
            raise RecipeError(
                "nobody teaches", found="no objective.teacher", expected="a bundle",
                hint="--set objective.teacher=models/large",
            )  # fmt: skip
        if temperature <= 0 or data_weight < 0:
            raise RecipeError(
                "a temperature is above 0, and a weight not below",
                found=f"temperature={temperature:g}, data_weight={data_weight:g}",
                where="objective",
            )
        self.teacher, self.temperature, self.data_weight = teacher, temperature, data_weight

    def put_on(self, family: Family, reference: Reference, judge: Judge | None) -> None:
        """Teach this family. Raises `RefusedPair` for one that says nothing that can be taught."""
        if not (_tells(family) or not missing(family, CanDenoise)):
            raise RefusedPair(
                "nothing of this family is taught so", found=type(family).__name__,
                expected="an autoregressive model with a softmax, or a denoiser",
                hint="morphogen sample TEACHER --out items, and train on these",
            )  # fmt: skip
        self.family = family

    def taught_by(self, teacher: Bundle, codec: Codec) -> None:
        """Take a teacher, for items that `codec` encodes. Raises `RefusedPair` for one that reads
        other tokens."""
        own, other = self.family, teacher.family
        same_kind = _tells(other) if _tells(own) else type(other) is type(own)
        reason = None
        if not same_kind:
            reason = f"a {type(other).__name__} does not say of each value what this model does"
        elif not _alike(own.spec, other.spec):
            reason = f"its items are {other.spec}, those of the model {own.spec}"
        elif own.conditions != {n: other.conditions.get(n) for n in own.conditions}:
            reason = "it was learned under other conditions"
        elif tokens_of(codec) != tokens_of(teacher.codec):
            reason = "it cuts texts into other tokens"
        if reason is not None:
            raise RefusedPair(
                f"this teacher does not teach this model: {reason}", found=teacher.path,
                hint=f"morphogen teach PROMPTS --by {in_shell(teacher.path)} --out taught.jsonl, "
                "and train on these",
            )  # fmt: skip
        self.other: Any = other.requires_grad_(False).eval().to(own.device)

    def step(
        self, batch: Batch, updates: Mapping[str, Update], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """One update by a batch."""
        family = self.family
        apart = self.distance(family, batch, generator).mean()
        told, total = {"distance": apart.detach()}, apart
        if self.data_weight:
            loss = family.loss(batch, family.phases[-1], generator)[0].mean()
            told["data_loss"], total = loss.detach(), apart + self.data_weight * loss
        updates[family.phases[-1]].minimise(total)
        return {"loss": total.detach(), **told}

    def scores(self, family: Family, batch: Batch, generator: torch.Generator) -> Tensor:
        """How near a model is to the teacher, for each item: (B,)."""
        return -self.distance(family, batch, generator)

    def shown(self) -> list[str]:
        """Nothing: it draws nothing."""
        return []

    def distance(self, family: Any, batch: Batch, generator: torch.Generator) -> Tensor:
        """How far a model is from the teacher, per value that counts: (B,)."""
        cond = {name: batch.cond[name] for name in family.conditions if name in batch.cond}
        if not _tells(family):
            return self._denoised(family, batch.x, cond or None, generator)
        x, counts = batch.x, _counted(family, batch)
        if family.shortens and bool(counts.any()):  # reads items cut short
            last = int(counts.any(0).nonzero().amax()) + 1
            x, counts = x[:, :last], counts[:, :last]
        own = family.states(x, cond or None)[counts]  # (M, C)
        with torch.no_grad():
            other = self.other.states(x, cond or None)[counts]
        found = own.new_zeros(counts.shape).masked_scatter(counts, self._apart(family, own, other))
        return found.sum(1) / counts.sum(1).clamp(min=1)

    def _apart(self, family: Any, own: Tensor, other: Tensor) -> Tensor:
        """T^2 KL of each of M states of the model and of the teacher, (M,), a few at a time: of a
        large vocabulary not all are there at once."""

        def apart(own: Tensor, other: Tensor) -> Tensor:
            said = (family.told(own) / self.temperature).log_softmax(-1)
            wanted = (self.other.told(other) / self.temperature).log_softmax(-1)
            each = F.kl_div(said, wanted, reduction="none", log_target=True)
            return self.temperature**2 * each.sum(-1)

        rows = max(AT_ONCE // family.vocab_size, 1)
        if len(own) <= rows:
            return apart(own, other)
        turns = zip(torch.split(own, rows), torch.split(other, rows), strict=True)
        return torch.cat([checkpoint(apart, *turn, use_reentrant=False) for turn in turns])

    def _denoised(self, family: Any, x: Tensor, cond: Any, generator: torch.Generator) -> Tensor:
        """The squared difference of what both make of the same noisy items: (B,)."""
        t = torch.rand(len(x), generator=generator, device=x.device)
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        x_t = family.path.noised(x, noise, t)
        with torch.no_grad():
            wanted = self.other.denoise(x_t, t, cond)
        return (family.denoise(x_t, t, cond) - wanted).square().flatten(1).mean(1)


def _tells(family: Any) -> bool:
    """Whether a family says of every token how probable each one is."""
    return hasattr(family, "states") and family.head == "categorical"


def _counted(family: Any, batch: Batch) -> Tensor:
    """Which tokens of items (B, *) count: (B, L) bool."""
    x = batch.x
    real = family.spec.mask(x) if batch.weight is None else batch.weight > 0
    tokens: Tensor = family.to_tokens(x)
    if real is None:
        return torch.ones_like(tokens, dtype=torch.bool)
    return real.expand_as(x).reshape(tokens.shape)


def _alike(own: Spec, other: Spec) -> bool:
    """Whether items are of one kind; texts may be of any length that the teacher sees."""
    if isinstance(own, TensorSpec) and isinstance(other, TensorSpec) and own.vocab_size:
        within = own.num_values <= other.num_values
        return own.vocab_size == other.vocab_size and own.sizes == other.sizes and within
    return own == other
