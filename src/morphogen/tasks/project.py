r"""The styles that come nearest to an item: a picture of one's own in a generator's latent space.

    w* = argmin_w  sum_k | pool_k(x - G(w)) |^2 + lambda |w - mean w|^2,       w_l for each layer

by Adam (Kingma & Ba 2015), from the mean of the styles of many latents (Abdal et al. 2019,
Image2StyleGAN; Karras et al. 2020). Errors are counted at full resolution and at half and a quarter
of it, without which what is a little off its place looks as wrong as what is not there. Between
what came of two items, `path` items are made on the line between their styles.

Legend: N items, S layers, D width of a style.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.capability import CanMix, refuses
from morphogen.core.errors import RecipeError
from morphogen.core.random import randn
from morphogen.core.result import Result
from morphogen.core.spec import TensorSpec
from morphogen.tasks._routes import Conditions, in_rows, only, per_item, repeat
from morphogen.tasks.mix import decoded

MEAN_OF = 256  # latents whose styles are averaged
SCALES = 3  # resolutions at which errors are counted, each half of the one before


@refuses(only("real values", lambda spec: isinstance(spec, TensorSpec) and spec.kind == "real"))
def project(
    model: CanMix,
    x: Tensor,
    *,
    cond: Conditions | None = None,  # conditions by name, each (N, ...): what the mean is of
    generator: torch.Generator,
    num_steps: int = 200,  # of Adam
    lr: float = 0.05,  # its rate
    prior: float = 0.01,  # weight of the distance from the mean style
    path: int = 0,  # items made between each two neighbours, through their styles
) -> Result:
    """Find each item's styles: rows of the item and what its styles make; with a path, those on the
    way from one item to the next."""
    if num_steps < 1 or not lr > 0 or prior < 0 or path < 0:
        raise RecipeError(
            "that finds nothing", found=f"num_steps={num_steps}, lr={lr}, prior={prior}",
            expected="num_steps of 1 or more, lr above 0, prior of 0 or more",
        )  # fmt: skip
    styles, mean = projected(model, x, cond, generator, (num_steps, lr, prior))
    rebuilt = decoded(model, styles)
    error = (rebuilt - x.to(rebuilt)).square()
    values: dict[str, Any] = {
        "error": per_item(error),
        "error_of_mean": per_item((decoded(model, mean) - x.to(rebuilt)).square()),
    }
    if not path or len(x) < 2:
        return Result(in_rows(x, rebuilt, 1), values, "styles", 2)
    at = torch.linspace(0, 1, path + 2, device=styles.device).view(1, -1, 1, 1)
    between = styles[:-1, None] * (1 - at) + styles[1:, None] * at  # (N - 1, path + 2, S, D)
    made = decoded(model, between.flatten(0, 1)).view(-1, path + 2, *x.shape[1:])
    ends = torch.stack([x[:-1], x[1:]], 1).to(made)
    shown = torch.cat([ends[:, :1], made, ends[:, 1:]], 1)
    return Result(shown.flatten(0, 1), values, "styles", path + 4)


def projected(
    model: CanMix,
    x: Tensor,
    cond: Conditions | None,
    generator: torch.Generator,
    how: tuple[int, float, float],
) -> tuple[Tensor, Tensor]:
    """The styles of items x (N, *), and those that were begun with: (N, S, D) each."""
    num_steps, lr, prior = how
    z = randn((MEAN_OF, *model.latent_spec.shape), generator).to(x.device)
    if cond:
        of_all = model.styles(z.repeat(len(x), *(1,) * (z.dim() - 1)), repeat(cond, MEAN_OF))
        mean = of_all.view(len(x), MEAN_OF, *of_all.shape[1:]).mean(1)
    else:
        mean = model.styles(z, None).mean(0, keepdim=True).expand(len(x), -1, -1)
    mean = mean.detach()
    with torch.enable_grad():
        styles = mean.clone().requires_grad_()
        adam = torch.optim.Adam([styles], lr)
        for step in range(num_steps):
            adam.param_groups[0]["lr"] = lr * (1 - step / num_steps)
            off = (styles - mean).square().mean((1, 2))
            loss = (distance(model.from_styles(styles), x) + prior * off).sum()
            (styles.grad,) = torch.autograd.grad(loss, styles)
            adam.step()
    return styles.detach(), mean


def distance(a: Tensor, b: Tensor) -> Tensor:
    """The mean squared error of items (N, C, *space) at several resolutions: (N,)."""
    off, total = a - b.to(a), torch.zeros(len(a), device=a.device)
    pool = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}.get(off.dim() - 2)
    for _ in range(SCALES):
        total = total + off.square().flatten(1).mean(1)
        if pool is None or min(off.shape[2:]) < 2:
            break
        off = pool(off, 2)
    return total
