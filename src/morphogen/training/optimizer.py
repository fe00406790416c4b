r"""One phase's optimizer, with all that stands between a loss and a step.

Gradients are averaged over the processes, checked for NaN, clipped, and applied at a learning rate
that the schedule sets. Weights are updated by AdamW (Loshchilov & Hutter 2019) or, for matrices and
convolution kernels, by Muon: the momentum's nearest orthogonal matrix (Jordan et al. 2024),

    W <- W - lr sqrt(max(1, rows / columns)) NS(beta M + G),   NS ~ U V^T of the SVD U S V^T.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from morphogen.training.distributed import Processes
from morphogen.training.options import TrainOptions
from morphogen.training.sharding import like, whole

# Names of layers at the edge of a network, where inputs, conditions and outputs come in and go out.
OUTER = {
    "stem", "head", "embed", "modulation", "time", "conditioner", "none",
    "embed_tokens", "ngrams", "places", "lm_head",
}  # fmt: skip
TOGETHER = 1 << 22  # numbers of matrices of one shape that are orthogonalised in one call
READING = "layers"  # within them: what reads a condition in order, features to features
# a s + b s^3 + c s^5 of each step. Five times the same leaves singular values where they are about
# 1; the other three were each fitted to be nearest to 1 on what the one before leaves.
POLYNOMIALS = {
    5: ((3.4445, -4.7750, 2.0315),) * 5,
    3: ((8.0934, -23.6204, 17.4462), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526)),
    2: ((6.7524, -18.3510, 13.2633), (2.5379, -1.8747, 0.4413)),
}


class NonFinite(ArithmeticError):
    """A loss or gradient became NaN or infinite; `what` names it."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class PhaseUpdate:
    """Implements `core.family.Update` for one phase."""

    def __init__(
        self,
        phase: str,
        named: Iterable[tuple[str, nn.Parameter]],
        options: TrainOptions,
        processes: Processes,
    ) -> None:
        self.phase, self.options, self.processes = phase, options, processes
        self.named = [(name, p) for name, p in named if p.requires_grad]
        self.parameters = [p for _, p in self.named]
        self.optimizers = build_optimizers(self.named, options)
        self.grad_norm = 0.0

    def set_rate(self, factor: float) -> None:
        """Scale the peak learning rate of every group."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor

    def minimise(self, loss: Tensor) -> None:
        """Differentiate `loss` with respect to this phase's parameters only, and apply."""
        if self.processes.share_weights:  # what is averaged hangs on the backward pass of all
            for parameter in self.parameters:
                parameter.grad = None
            loss.backward()  # type: ignore[no-untyped-call]
            self.apply()
            return
        grads = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        for parameter, grad in zip(self.parameters, grads, strict=True):
            parameter.grad = laid_out(grad, parameter)
        self.apply()

    def apply(self) -> None:
        """One step with what stands in `.grad`. Raises `NonFinite` before anything is changed."""
        self.processes.average_gradients(self.parameters)
        grads = [p.grad for p in self.parameters if p.grad is not None]
        norm = whole(torch.nn.utils.get_total_norm(grads))
        if not torch.isfinite(norm):
            raise NonFinite(f"the gradient of {self._culprit()} in phase {self.phase!r}")
        self.grad_norm = float(norm)
        if self.options.grad_clip and self.grad_norm > self.options.grad_clip:
            torch._foreach_mul_(grads, self.options.grad_clip / self.grad_norm)
        for optimizer in self.optimizers:
            optimizer.step()

    def _culprit(self) -> str:
        named = [(name, p.grad) for name, p in self.named if p.grad is not None]
        bad = [name for name, grad in named if not whole(grad).isfinite().all()]
        return bad[0] if bad else "the sum of squares"

    def state(self) -> dict[str, Tensor]:
        """The optimizer's memory as flat named tensors; `load_state` is the inverse."""
        names: dict[Tensor, str] = {p: name for name, p in self.named}
        return {
            f"{name}/{names[parameter]}": torch.as_tensor(value)
            for optimizer in self.optimizers
            for parameter, memory in optimizer.state.items()
            for name, value in memory.items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `state` gave."""
        parameters = dict(self.named)
        owner = {
            p: optimizer
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for p in group["params"]
        }
        for optimizer in self.optimizers:
            optimizer.state.clear()
        for key, value in state.items():
            name, _, parameter_name = key.partition("/")
            parameter = parameters[parameter_name]
            optimizer = owner[parameter]
            counts = name == "step" and not optimizer.defaults.get("fused")  # steps, on the CPU
            device = "cpu" if counts else parameter.device
            own = like(value.detach().clone().to(device), parameter)
            optimizer.state[parameter][name] = own


def laid_out(grad: Tensor | None, parameter: nn.Parameter) -> Tensor | None:
    """A gradient with its values in memory as those of its parameter are: a fused step asks for
    that, and what autograd gives is not always so (a sum's is one value, expanded)."""
    if grad is None or grad.stride() == parameter.stride():
        return grad
    return torch.empty_like(parameter).copy_(grad)


def build_optimizers(
    named: list[tuple[str, nn.Parameter]], options: TrainOptions
) -> list[torch.optim.Optimizer]:
    """AdamW for all, or Muon for the hidden matrices and AdamW for the rest."""
    matrices = [p for name, p in named if options.optimizer == "muon" and is_hidden(name, p)]
    chosen = set(matrices)
    rest = [p for _, p in named if p not in chosen]
    built: list[torch.optim.Optimizer] = []
    if rest:
        # Decay pulls matrices towards zero; scales, offsets and biases are left alone.
        groups = [
            {"params": [p for p in rest if p.dim() >= 2], "weight_decay": options.weight_decay},
            {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
        ]
        betas = (options.beta1, options.beta2)
        used = [group for group in groups if group["params"]]
        fused = all(p.is_cuda for p in rest)  # one kernel for all, where there is one
        how = {"fused": True} if fused else {"foreach": True}
        built.append(torch.optim.AdamW(used, lr=options.lr, betas=betas, **how))
    if matrices:
        own = {"lr": options.lr, "weight_decay": options.weight_decay}
        built.append(Muon(matrices, **own, num_steps=options.muon_steps))
    for optimizer in built:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return built


def is_hidden(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter maps features to features: input, output and embedding layers, whose
    rows stand for single features, are AdamW's (Jordan et al. 2024)."""
    parts = name.split(".")
    inner = parts[0] == "conditioner" and READING in parts
    return parameter.dim() >= 2 and (inner or not OUTER.intersection(parts))


class Muon(torch.optim.Optimizer):
    """Muon for matrices and, as matrices of (outputs, inputs x kernel), convolution kernels.

    The orthogonalisation runs in float32 on CPUs, where half precision is slow, and in bfloat16
    elsewhere. The update has the size that AdamW's has (Liu et al. 2025, "Muon is scalable"), so
    that one learning rate serves both.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        num_steps: int = 5,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.num_steps = num_steps

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Orthogonalise the Nesterov momentum of each matrix and apply it."""
        for group in self.param_groups:
            for alike in batched([p for p in group["params"] if p.grad is not None]):
                updates = torch.stack([self._update(p, group["momentum"]) for p in alike])
                size = 0.2 * max(updates.shape[1:]) ** 0.5
                for p, matrix in zip(alike, orthogonalise(updates, self.num_steps), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    change = like(matrix.reshape(p.shape).to(p.dtype), p)
                    p.add_(change, alpha=-group["lr"] * size)

    def _update(self, p: nn.Parameter, momentum: float) -> Tensor:
        """The Nesterov momentum as a matrix."""
        assert p.grad is not None
        memory = self.state[p]
        if "momentum" not in memory:
            memory["momentum"] = torch.zeros_like(p)
        memory["momentum"].lerp_(p.grad, 1 - momentum)
        update = p.grad.lerp(memory["momentum"], momentum)
        return whole(update).reshape(len(update), -1)


def batched(parameters: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Those of one shape together, as many as are small together: their products are one call."""
    alike: dict[torch.Size, list[nn.Parameter]] = {}
    for p in parameters:
        alike.setdefault(p.shape, []).append(p)
    for shape, same in alike.items():
        num = max(TOGETHER // shape.numel(), 1)
        for first in range(0, len(same), num):
            yield same[first : first + num]


def orthogonalise(matrices: Tensor, num_steps: int = 5) -> Tensor:
    """U V^T of the singular value decomposition of each matrix (N, rows, columns), nearly, by a
    quintic Newton-Schulz iteration.

    Singular values end between about 0.7 and 1.2, which is as good as 1 (Jordan et al. 2024). With
    fewer steps, which have polynomials of their own (Amsel et al. 2025, "The Polar Express"), this
    holds for those above 0.01 (three) or 0.05 (two) of what they are divided by: the fourth root of
    the sum of their fourth powers, a closer bound than that of squares, and the norm of a product
    that is there in any case.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.to(torch.float32 if matrices.device.type == "cpu" else torch.bfloat16)
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for step, (a, b, c) in enumerate(POLYNOMIALS[num_steps]):
        gram = x @ x.mT
        if num_steps < 5 and step == 0:
            bound = gram.norm(dim=(1, 2), keepdim=True) + 1e-14
            x, gram = x / bound.sqrt(), gram / bound
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
