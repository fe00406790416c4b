"""What a run needs of memory at least, known before it is asked for.

    network      weights, gradients, the optimizer's moments, the average, and a snapshot of all but
                 the gradients, counted on shapes alone (PyTorch's device "meta")
    batch        its items, and what the loss keeps of them until the backward pass: measured on one
                 item and on two

Both are less than what a run takes in the end, which `training.forecast` measures, so what is
refused here could not have gone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from morphogen.core.amounts import size
from morphogen.core.errors import TrainingError
from morphogen.core.family import Family
from morphogen.core.random import generator
from morphogen.core.recipe import Recipe, build_family
from morphogen.training.loop import Run
from morphogen.training.options import TrainOptions

CGROUP = Path("/sys/fs/cgroup")  # limits of a container: version 2, else 1 in memory/


STEP_VALUES = 1 << 22  # in the items of a batch, unless it is asked for: four million


class _TooLarge(Exception):
    """More than what there is, whatever else comes."""


def available_memory(device: torch.device) -> int:
    """Bytes that can still be had on a device; in a container, within its limit."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = int(psutil.virtual_memory().available)
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            most, now = (int((CGROUP / name).read_text()) for name in (limit, used))
            lines = (CGROUP / limit).with_name("memory.stat").read_text().splitlines()
        except (OSError, ValueError):  # none, or "max"
            continue
        stat = dict(line.split()[:2] for line in lines)
        # What was read of files counts as used, and is given back when it is wanted.
        free = min(free, most - now + int(stat.get("inactive_file", 0)))
    return max(free, 0)


def check_network(
    recipe: Recipe, spec: Any, conditions: Mapping[str, Any], options: TrainOptions,
    device: torch.device,
) -> int:  # fmt: skip
    """The bytes of a network's parameters. Raises `TrainingError` when training it does not fit
    into memory."""
    free = available_memory(device)
    moments = 2 if options.optimizer == "adamw" else 1
    kept = 1 + moments + bool(options.ema)  # in a snapshot, besides in use
    copies: float = 2 * kept + 1
    if options.shard:  # but each process begins with the whole
        copies = 1 + copies / int(os.environ.get("WORLD_SIZE", "1"))
    seen: dict[int, Tensor] = {}
    total = 0

    def see(module: nn.Module, name: str, parameter: Tensor | None) -> None:
        nonlocal total
        if parameter is not None and id(parameter) not in seen:
            seen[id(parameter)] = parameter
            total += parameter.numel() * parameter.element_size()
            if copies * total > free:
                raise _TooLarge

    hook = register_module_parameter_registration_hook(see)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            build_family(recipe, spec, conditions)
    except _TooLarge:
        raise _refused(
            "the network is too large for the memory",
            f"more than {size(int(copies * total))} to train it",
            free,
            "fewer or narrower layers, such as --set backbone.model_dim=64",
        ) from None
    except (RuntimeError, TypeError, NotImplementedError) as error:
        if "overflow" in str(error).lower():
            raise _refused(
                "the network is too large for the memory",
                "a layer of more values than can be counted",
                free,
                "fewer or narrower layers, such as --set backbone.model_dim=64",
            ) from error
        # Something in it wants numbers, not shapes: what was counted until there is all we know.
    finally:
        hook.remove()
    return total


def held_batch(usual: int, spec: Any) -> int:
    """`usual` items, or fewer where they are so large that their loss would need gigabytes: a
    mixture likelihood keeps 260 bytes of each value. The same on every machine, so that a recipe
    gives the same model."""
    fitting = max(STEP_VALUES // spec.num_values, 1)
    return min(usual, 1 << (fitting.bit_length() - 1))


def check_items(spec: Any, options: TrainOptions, device: torch.device) -> None:
    """Raise `TrainingError` when not even the items of a batch fit into memory."""
    of_one = 8 + spec.num_values * (8 if spec.kind == "token" else 4)  # with its number
    own = options.batch_size // int(os.environ.get("WORLD_SIZE", "1"))
    _check_batch(own, of_one, 0, options, device)


def check_batch(run: Run) -> None:
    """Raise `TrainingError` when what the loss keeps of a batch does not fit into memory."""
    if type(run.family).step is not Family.step or run.processes.share_weights:
        return  # no backward pass that we know of, or weights that come and go in it
    for phase in run.family.phases:
        one, two = (kept_bytes(run, phase, num) for num in (1, 2))
        own = run.options.batch_size // run.processes.world_size
        _check_batch(own, max(0, two - one), one, run.options, run.device)


def kept_bytes(run: Run, phase: str, num: int) -> int:
    """What the loss of `num` items keeps for the backward pass, besides the parameters."""
    known = {p.untyped_storage().data_ptr() for p in run.family.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in known:
            kept[place] = tensor  # held, so that no other takes its place
        return tensor

    was_training = run.family.training
    index = torch.arange(num) % len(run.split)
    draw = generator(0, run.device if run.device.type == "cuda" else "cpu")
    try:
        with torch.random.fork_rng(devices=[]):
            run.family.eval()  # it leaves the family as it is
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                run.family.loss(run.split.batch(index).to(run.device), phase, draw)
    finally:
        run.family.train(was_training)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _check_batch(
    num: int, of_one: int, of_all: int, options: TrainOptions, device: torch.device
) -> None:
    free, needed = available_memory(device), of_all + num * of_one
    if needed > free:
        fitting = max(1, (free - of_all) // (2 * max(of_one, 1)))
        fitting = 1 << (min(fitting, 1024).bit_length() - 1)
        raise _refused(
            "a batch is too large for the memory",
            f"more than {size(needed)} for {options.batch_size:,} items",
            free,
            f"--set train.batch_size={fitting}",
        )


def _refused(message: str, found: str, free: int, hint: str) -> TrainingError:
    expected = f"at most {size(free)}, which is what is free"
    return TrainingError(message, found=found, expected=expected, hint=hint)
