"""The flow that learned priors are made of is invertible, and its determinant is the Jacobian's."""

from __future__ import annotations

import pytest
import torch

from morphogen.core.random import generator, randn
from morphogen.families._coupling import CouplingFlow


def flow(dim: int, cond_dim: int) -> CouplingFlow:
    """One whose layers are no longer the identity."""
    torch.manual_seed(0)
    made = CouplingFlow(dim, cond_dim, num_layers=4, model_dim=16).double()
    for coupling in made.couplings:
        torch.nn.init.normal_(coupling.head.weight, std=0.3)
        torch.nn.init.normal_(coupling.head.bias, std=0.3)
    return made


@pytest.mark.parametrize("dim", [2, 3, 8])
@pytest.mark.parametrize("cond_dim", [0, 5])
def test_the_inverse_undoes_the_map_and_knows_its_determinant(dim, cond_dim):
    made = flow(dim, cond_dim)
    u = randn((6, dim), generator(1)).double()
    cond = randn((6, cond_dim), generator(2)).double() if cond_dim else None
    z = made(u, cond)
    again, log_det = made.inverse(z, cond)
    assert not torch.allclose(z, u)
    torch.testing.assert_close(again, u)
    for i in range(len(u)):
        own = None if cond is None else cond[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(
            lambda z, own=own: made.inverse(z[None], own)[0][0], z[i]
        )
        torch.testing.assert_close(log_det[i], torch.linalg.slogdet(jacobian).logabsdet)


def test_it_starts_as_a_permutation():
    made = CouplingFlow(7, 0)
    u = randn((3, 7), generator(0))
    torch.testing.assert_close(made(u).sort(1).values, u.sort(1).values)
    assert made.inverse(u)[1].abs().max() == 0


def test_the_condition_moves_the_map():
    made = flow(4, 3)
    u = randn((2, 4), generator(0)).double()
    first, second = (made(u, torch.full((2, 3), value).double()) for value in (0.0, 1.0))
    assert not torch.allclose(first, second)
