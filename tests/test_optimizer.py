"""Muon's orthogonalisation, averages of weights, and the phases' updates."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from morphogen.core.conditioning import Conditioner
from morphogen.core.spec import TensorSpec
from morphogen.training import optimizer as optimizer_module
from morphogen.training.distributed import Processes
from morphogen.training.loop import Run
from morphogen.training.optimizer import (
    Muon,
    NonFinite,
    PhaseUpdate,
    batched,
    is_hidden,
    orthogonalise,
)
from morphogen.training.options import TrainOptions
from morphogen.wrappers.ema import EMA, gamma_of


@pytest.mark.parametrize("shape", [(8, 8), (5, 20), (20, 5)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalise(matrix[None])[0]
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.3
    assert values.max() < 1.3
    cosine = (result * (u @ v)).sum() / (result.norm() * (u @ v).norm())
    assert cosine > 0.97


@pytest.mark.parametrize("shape", [(64, 64), (24, 96), (96, 24)])
def test_three_iterations_orthogonalise_as_well_as_five(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    cosines = []
    for num_steps in (3, 5):
        found = orthogonalise(matrix[None], num_steps)[0]
        cosines.append(float((found * (u @ v)).sum() / (found.norm() * (u @ v).norm())))
        assert torch.linalg.svdvals(found).max() < 1.3
    assert cosines[0] > cosines[1] - 0.02


def test_matrices_of_one_shape_are_orthogonalised_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or one by one, where they are large: the same to rounding."""
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in [(4, 6), (6, 4), (4, 6), (4, 6)]]
    assert [len(same) for same in batched(parameters)] == [3, 1]
    for p in parameters:
        p.grad = torch.randn(p.shape)
    Muon(parameters, lr=0.1).step()
    together = [p.detach().clone() for p in parameters]
    monkeypatch.setattr(optimizer_module, "TOGETHER", 24)
    assert [len(same) for same in batched(parameters)] == [1, 1, 1, 1]
    for p in parameters:
        p.data.zero_()
    Muon(parameters, lr=0.1).step()
    torch.testing.assert_close([p.detach() for p in parameters], together)


@pytest.mark.parametrize(("optimizer", "lr"), [("adamw", 0.02), ("muon", 0.1)])
def test_optimizers_solve_a_linear_problem_and_survive_a_state_round_trip(
    optimizer: str, lr: float
) -> None:
    torch.manual_seed(0)
    target = torch.randn(6, 4)
    x = torch.randn(64, 4)
    options = TrainOptions(optimizer=optimizer, lr=lr, grad_clip=0)

    def fresh() -> tuple[nn.Linear, PhaseUpdate]:
        torch.manual_seed(1)
        layer = nn.Linear(4, 6)
        return layer, PhaseUpdate("all", layer.named_parameters(), options, Processes())

    def train(layer: nn.Linear, update: PhaseUpdate, steps: int) -> float:
        for _ in range(steps):
            loss = (layer(x) - x @ target.T).square().mean()
            update.minimise(loss)
        return loss.item()

    layer, update = fresh()
    first = train(layer, update, 1)
    assert train(layer, update, 199) < 0.05 * first

    whole, whole_update = fresh()
    train(whole, whole_update, 20)
    half, half_update = fresh()
    train(half, half_update, 10)
    resumed, resumed_update = fresh()
    resumed.load_state_dict(half.state_dict())
    resumed_update.load_state(half_update.state())
    train(resumed, resumed_update, 10)
    assert torch.equal(resumed.weight, whole.weight)
    assert torch.equal(resumed.bias, whole.bias)


def test_what_reads_conditions_in_order_is_hidden_and_what_embeds_them_is_not() -> None:
    spec = TensorSpec.tokens(9, 20)
    conditioner = nn.ModuleDict({"conditioner": Conditioner({"caption": spec}, 8)})
    hidden = {name for name, p in conditioner.named_parameters() if is_hidden(name, p)}
    reading = {n for n, p in conditioner.named_parameters() if ".layers." in n and p.dim() == 2}
    assert hidden == reading != set()


def test_gradients_are_clipped_to_the_norm() -> None:
    weight = nn.Parameter(torch.zeros(3))
    update = PhaseUpdate("all", [("w", weight)], TrainOptions(grad_clip=1.0), Processes())
    update.minimise((weight * torch.tensor([3.0, 4.0, 0.0])).sum())
    assert update.grad_norm == pytest.approx(5.0)
    assert weight.grad is not None
    assert weight.grad.norm().item() == pytest.approx(1.0)


def test_nan_is_named_before_anything_changes() -> None:
    layer = nn.Linear(2, 2)
    before = layer.weight.detach().clone()
    update = PhaseUpdate("critic", layer.named_parameters(), TrainOptions(), Processes())
    with pytest.raises(NonFinite, match="weight in phase 'critic'"):
        update.minimise((layer.weight * float("nan")).sum())
    assert torch.equal(layer.weight, before)


def test_one_phase_leaves_the_other_alone() -> None:
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    update = PhaseUpdate("one", one.named_parameters(), TrainOptions(), Processes())
    before = other.weight.detach().clone()
    update.minimise(other(one(torch.ones(4, 2))).square().mean())
    assert torch.equal(other.weight, before)
    assert other.weight.grad is None


@pytest.mark.parametrize("width", [0.02, 0.05, 0.1, 0.2])
def test_the_average_has_the_width_that_was_asked_for(width: float) -> None:
    gamma = gamma_of(width)
    assert math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))) == pytest.approx(width)
    # The weight of step i in the average after n steps is beta_n ... beta_{i+1} (1 - beta_i).
    n = 2000
    module = nn.Linear(1, 1, bias=False)
    profile = torch.zeros(n)
    average = EMA(module, width)
    kept = 1.0
    rates = [1 - (1 - 1 / t) ** (average.gamma + 1) for t in range(1, n + 1)]
    for i in reversed(range(n)):
        profile[i] = kept * rates[i]
        kept *= 1 - rates[i]
    when = torch.arange(1, n + 1) / n
    mean = (profile * when).sum()
    spread = ((profile * (when - mean) ** 2).sum()).sqrt()
    assert profile.sum().item() == pytest.approx(1.0, abs=1e-3)
    assert spread.item() == pytest.approx(width, rel=0.02)


def test_the_average_is_applied_and_taken_off_again() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 1.0)
    average = EMA(module, 0.1)
    for value in (1.0, 2.0, 3.0):
        nn.init.constant_(module.weight, value)
        average.update(module)
    with average.applied_to(module):
        assert 1.0 < module.weight.item() < 3.0
        assert not module.training
    assert module.weight.item() == 3.0
    assert module.training


def test_a_gradient_lies_in_memory_as_its_parameter_does() -> None:
    """A fused step refuses others; autograd gives an expanded value for a sum."""
    parameter = torch.nn.Parameter(torch.zeros(3, 4))
    update = PhaseUpdate("train", [("w", parameter)], TrainOptions(grad_clip=0), Processes())
    update.set_rate(1.0)
    (expanded,) = torch.autograd.grad(parameter.sum(), [parameter])
    assert expanded.stride() != parameter.stride()
    update.minimise(parameter.sum())
    assert parameter.grad is not None
    assert parameter.grad.stride() == parameter.stride()
    assert torch.equal(parameter.grad, torch.ones(3, 4))


def test_a_step_in_half_precision_may_draw_and_update_several_times() -> None:
    """The context is that of a whole step, and autocast would keep weights as it first met them:
    without a gradient after a draw, and as they were before the first update."""
    layer, x = nn.Linear(4, 1, bias=False), torch.ones(2, 4)
    options = TrainOptions(lr=0.5, precision="bfloat16")
    update = PhaseUpdate("train", list(layer.named_parameters()), options, Processes())
    update.set_rate(1.0)
    run = SimpleNamespace(options=options, device=torch.device("cpu"))
    with Run.autocast(run):  # type: ignore[arg-type]
        with torch.no_grad():
            drawn = layer(x)
        before = layer(x)
        assert before.dtype == torch.bfloat16
        update.minimise(before.sum())
        after = layer(x)
    assert torch.equal(before.detach(), drawn)
    expected = x @ layer.weight.detach().T
    torch.testing.assert_close(after.detach().float(), expected, rtol=0.02, atol=0.02)
    assert float((after - before).detach().abs().min()) > 0.1
