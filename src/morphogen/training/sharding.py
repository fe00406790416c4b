"""Weights, gradients and the optimizer's memory shared out among processes: `train.shard=yes` under
`torchrun`, for networks that one device cannot hold (FSDP2; Zhao et al. 2023, arXiv:2304.11277).

    before a block runs       its weights are gathered, and let go of afterwards
    after its backward pass   its gradients are averaged, and each process keeps its part

A run takes the steps that it takes on one process. What lies on disk is plain safetensors, which
each process writes its part of: a checkpoint is read whole, and so goes on with any number of
processes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from morphogen.core.backbone import Backbone
from morphogen.core.errors import TrainingError
from morphogen.core.family import Family

CALLS = ("loss", "prepare", "finish")  # what of a family needs its weights while it trains


def shard(family: Family, device: torch.device) -> None:
    """Share out the weights of a family among all processes, block by block.

    Raises `TrainingError` for one whose steps are more than one backward pass.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    if type(family).step is not Family.step or len(family.phases) > 1:
        raise TrainingError(
            "the weights of this family cannot be shared out: its steps are its own",
            found=type(family).__name__,
            expected="one loss and one backward pass a step, as of autoregressive",
            hint="--set train.shard=no, which shares out the batch alone",
        )
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for network in [each for each in family.modules() if isinstance(each, Backbone)]:
        for blocks in network.children() if network.recomputes else ():
            for block in blocks if isinstance(blocks, nn.ModuleList) else ():
                fully_shard(block, mesh=mesh)
    # A loss without a backward pass, as the probe's, is to leave nothing gathered either.
    fully_shard(family, mesh=mesh, reshard_after_forward=True)
    for name in CALLS:
        register_fsdp_forward_method(family, name)


def is_shared(tensor: Tensor) -> bool:
    """Whether each process has a part of it."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, on every process; all of them have to ask for it."""
    gather: Any = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def part(tensor: Tensor) -> Tensor:
    """What this process has of a tensor: all of it, where it is not shared out."""
    own: Any = getattr(tensor, "to_local", None)
    return tensor if own is None else own()


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor shared out as another of its shape is; what is already, stays."""
    if is_shared(tensor) or not is_shared(other) or tensor.shape != other.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    placed: Any = other
    shared: Tensor = distribute_tensor(
        tensor.to(placed.device), placed.device_mesh, placed.placements, src_data_rank=None
    )
    return shared


# -- disk ------------------------------------------------------------------------------------------


def write_parts(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write what processes hold, each its part, into a folder that is there for all."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    save(dict(tensors), storage_writer=writer)


def read_parts(folder: Path) -> dict[str, Tensor]:
    """All of what `write_parts` wrote, in whatever number of processes."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    known: Any = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    found = {
        name: torch.empty(about.size, dtype=about.properties.dtype) for name, about in known.items()
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # as wanted here
        load(found, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    return found
