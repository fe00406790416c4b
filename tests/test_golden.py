"""Golden curves: the first losses of each family, which a refactor must not move.

    python tests/test_golden.py            # regenerate all of tests/golden
    python tests/test_golden.py vae gan    # some of it

A change that is meant to move them regenerates the files in the same commit, and says why. A new
family without a file is skipped until it has one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from morphogen.core import discover
from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.family import Family
from morphogen.core.random import generator, mix_seed
from morphogen.core.spec import TensorSpec
from morphogen.testing._promises import small_options
from morphogen.testing.families import PlainUpdate

GOLDEN = Path(__file__).parent / "golden"
NUM_STEPS, BATCH_SIZE = 20, 16
GRID = TensorSpec("real", (1, 8, 8), levels=16)
TOKENS = TensorSpec.tokens(12, 6)
LABEL = {"label": TensorSpec.label(3)}
# Rounding differs between machines, and training amplifies it.
RELATIVE, ABSOLUTE = 1e-4, 1e-5


def draw_batch(spec: TensorSpec, step: int) -> Batch:
    """Bars at a place that the label chooses, with noise; tokens that count up from it."""
    draw = generator(mix_seed(17, step))
    label = torch.randint(3, (BATCH_SIZE,), generator=draw)
    if spec.kind == "token":
        x = (label[:, None] + torch.arange(spec.shape[0])) % (spec.vocab_size or 1)
        return Batch(x, cond={"label": label})
    x = 0.1 * torch.rand((BATCH_SIZE, *spec.shape), generator=draw) - 1
    for row, place in enumerate(label):
        x[row, :, :, 2 * place + 1] += 1.5
    return Batch(spec.dequantise(spec.quantise(x)), cond={"label": label})


def build(name: str) -> tuple[Family, TensorSpec]:
    family_class = discover.find("family", name)
    spec = TOKENS if family_class.refuses(GRID, LABEL) else GRID
    network = discover.find("backbone", family_class.backbone_for(spec))
    torch.manual_seed(0)
    builder = BuildBackbone(network, **small_options(network))
    return family_class(spec, LABEL, builder, **small_options(family_class)).train(), spec


def first_losses(name: str) -> dict[str, list[float]]:
    """Every logged loss of the first steps: {phase's loss: [per step]}."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            family, spec = build(name)
        family.prepare(draw_batch(spec, 10_000), generator(0))
        updates = {phase: PlainUpdate(family.parameters_of(phase)) for phase in family.phases}
        losses: dict[str, list[float]] = {}
        for step in range(NUM_STEPS):
            family.progress = step / NUM_STEPS
            logs = family.step(draw_batch(spec, step), updates, generator(mix_seed(0, step)))
            for key, value in logs.items():
                if key == "loss" or key.endswith("/loss"):
                    losses.setdefault(key, []).append(float(value))
        return losses
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", discover.names("family"))
def test_first_losses(name: str) -> None:
    file = GOLDEN / f"{name}.json"
    if not file.is_file():
        pytest.skip(f"python tests/test_golden.py {name}")
    expected = json.loads(file.read_text())
    found = first_losses(name)
    assert found.keys() == expected.keys()
    for key, losses in found.items():
        assert losses == pytest.approx(expected[key], rel=RELATIVE, abs=ABSOLUTE), key


def test_losses_are_repeatable() -> None:
    assert first_losses("flow_matching") == first_losses("flow_matching")


def test_every_golden_file_belongs_to_a_family() -> None:
    stray = {file.stem for file in GOLDEN.glob("*.json")} - set(discover.names("family"))
    assert stray == set()


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for chosen in sys.argv[1:] or discover.names("family"):
        curves = first_losses(chosen)
        (GOLDEN / f"{chosen}.json").write_text(json.dumps(curves, indent=1) + "\n")
        ends = ", ".join(f"{key} {v[0]:.4g} -> {v[-1]:.4g}" for key, v in curves.items())
        print(f"{chosen}: {ends}")
