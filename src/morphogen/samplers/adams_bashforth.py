r"""Second-order integration at one evaluation a step, by remembering the last velocity.

    x_s = x_t + (s - t) (v_t + (s - t) / (2 (t - r)) (v_t - v_r)),    r the time before t

The two-step Adams-Bashforth method for uneven steps. On the straight path, where velocities hardly
turn, a dozen steps do what Heun's method does with two dozen evaluations.
"""

from __future__ import annotations

import torch
from torch import Tensor

from morphogen.core.gaussian_path import Denoise, GaussianPath


def adams_bashforth(
    denoise: Denoise, x: Tensor, times: Tensor, path: GaussianPath, generator: torch.Generator
) -> Tensor:
    """Adams-Bashforth, deterministic. x (B, *) at times[0] -> (B, *) at times[-1]."""
    before: Tensor | None = None
    for i, t in enumerate(times[:-1]):
        step = times[i + 1] - t
        x_hat = denoise(x, t.expand(len(x)))
        slope = path.velocity(x_hat, path.eps_from_x(x_hat, x, t), t)
        ahead = slope
        if before is not None:
            ahead = slope + 0.5 * step / (t - times[i - 1]) * (slope - before)
        x, before = x + step * ahead, slope
    return x
