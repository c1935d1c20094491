"""Distributed training: processes of torchrun, shares of the work, synchronized batch norm."""

import atexit
import os
import warnings
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, distributed, nn

from moodfield.errors import MoodfieldWarning

Array = TypeVar("Array", bound=np.ndarray)
TIMEOUT = timedelta(days=1)
"""how long a process waits for the others, one of which may have the longest track"""


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together, from the view of one of them."""

    fabric: Fabric
    """devices and precision"""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return int(self.fabric.global_rank)

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return int(self.fabric.world_size)

    @property
    def is_main(self) -> bool:
        """Whether this process reports and writes."""
        return self.rank == 0

    def shard_indices(self, count: int) -> range:
        """Indices of this process, out of 0 … count − 1."""
        return range(self.rank, count, self.world_size)

    def shard(self, batch: Tensor) -> Tensor:
        """Rows of a batch for this process, on its device; all shares are equally large."""
        rows = len(batch) // self.world_size
        return self.fabric.to_device(batch[self.rank * rows : (self.rank + 1) * rows])

    def all_reduce_sum(self, array: Array) -> Array:
        """The elementwise sum of the arrays of all processes."""
        if self.world_size == 1:
            return array
        tensor = torch.from_numpy(array)
        if self.fabric.device.type == "mps":  # Apple's GPUs have no float64
            tensor = tensor.float()
        total = self.fabric.all_reduce(self.fabric.to_device(tensor), reduce_op="sum")
        return total.cpu().numpy().astype(array.dtype)  # type: ignore[union-attr, return-value]

    def all_reduce_mean(self, value: float) -> float:
        """The mean of the values of all processes."""
        return float(self.all_reduce_sum(np.array([value]))[0]) / self.world_size

    def barrier(self) -> None:
        """Wait for all processes."""
        self.fabric.barrier()


def has_native_bfloat16() -> bool:
    """Whether the training device has bfloat16 arithmetic; other processors emulate it, slowly."""
    return torch.accelerator.is_available() or torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def launch(precision: Any) -> ProcessGroup:
    """Join the group of this process: itself alone, or all processes that torchrun started, on any number of machines.

    Call it once, and pass the group on. Warns of a precision that the processor only emulates.
    """
    if precision == "bf16-mixed" and not has_native_bfloat16():
        message = "this processor emulates bfloat16, and trains several times slower with it; set precision=32-true"
        warnings.warn(message, MoodfieldWarning, stacklevel=2)
    size = world_size()
    if size == 1:
        return ProcessGroup(Fabric(accelerator="auto", devices=1, precision=precision))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    strategy = DDPStrategy(timeout=TIMEOUT)
    fabric = Fabric(accelerator="auto", devices=local, num_nodes=size // local, strategy=strategy, precision=precision)
    warnings.filterwarnings("ignore", "Grad strides do not match")  # those of 1 × 1 kernels match in effect
    is_first = not distributed.is_initialized()
    fabric.launch()
    if is_first:
        atexit.register(_destroy_process_group)
    return ProcessGroup(fabric)


def world_size() -> int:
    """How many processes torchrun started, this one included; one without torchrun."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_distributed() -> bool:
    """Whether torchrun started this process as one of several."""
    return world_size() > 1


def is_main() -> bool:
    """Whether this process reports and writes; known before a group is launched."""
    return int(os.environ.get("RANK", 0)) == 0


def sync_batch_norms(net: nn.Module) -> None:
    """Let the batch norms of a network compute statistics over the shares of all processes."""
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = _SyncBatchNorm  # the same parameters, under the same names


class _SyncBatchNorm(nn.BatchNorm2d):
    """A batch norm with statistics over all processes; torch's own works on GPUs only."""

    def forward(self, maps: Float[Tensor, "batch channels freq time"]) -> Float[Tensor, "batch channels freq time"]:
        if not self.training:
            return super().forward(maps)
        axes, channels = (0, 2, 3), (1, -1, 1, 1)
        with torch.autocast(maps.device.type, enabled=False):
            full = maps.float()
            mean = _mean(full.mean(axes))
            centered = full - mean.view(channels)
            var = _mean(centered.square().mean(axes))
            scale = self.weight * torch.rsqrt(var + self.eps)
            normalized = centered * scale.view(channels) + self.bias.view(channels)
        self._update(mean.detach(), var.detach(), maps.numel() // maps.shape[1] * distributed.get_world_size())
        return normalized.to(maps.dtype)

    def _update(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Update the running statistics."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(var * (count / (count - 1)), momentum)


def _mean(value: Tensor) -> Tensor:
    """The differentiable mean over all processes."""
    return _AllReduceSum.apply(value) / distributed.get_world_size()  # type: ignore[no-untyped-call]


class _AllReduceSum(torch.autograd.Function):
    """The sum over all processes; so is its gradient."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return _AllReduceSum.forward(_, gradients[0])


def _destroy_process_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
