"""Several processes train as one.

In: what torchrun says of them, if it started them. Out: whose share of the work is which, and what all make together.
Knows nothing of: what the work is.
"""

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

Shape = TypeVar("Shape", bound=np.ndarray)
PATIENCE = timedelta(days=1)
"""how long a process waits for the others, one of which may have the longest track"""


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together, as one of them sees it."""

    fabric: Fabric
    """devices and precision"""

    @property
    def rank(self) -> int:
        """Which of them this is, from 0."""
        return int(self.fabric.global_rank)

    @property
    def world_size(self) -> int:
        """How many they are."""
        return int(self.fabric.world_size)

    @property
    def is_main(self) -> bool:
        """Whether this is the one that speaks and writes."""
        return self.rank == 0

    def shard_indices(self, count: int) -> range:
        """Which of so many things are this process's to do."""
        return range(self.rank, count, self.world_size)

    def shard(self, batch: Tensor) -> Tensor:
        """The rows of a batch that are this process's, on its device; all parts are equally large."""
        rows = len(batch) // self.world_size
        return self.fabric.to_device(batch[self.rank * rows : (self.rank + 1) * rows])

    def all_reduce_sum(self, own: Shape) -> Shape:
        """The sum of what every process has, place by place."""
        if self.world_size == 1:
            return own
        array = torch.from_numpy(own)
        if self.fabric.device.type == "mps":  # Apple's GPUs have no float64
            array = array.float()
        summed = self.fabric.all_reduce(self.fabric.to_device(array), reduce_op="sum")
        return summed.cpu().numpy().astype(own.dtype)  # type: ignore[union-attr, return-value]

    def all_reduce_mean(self, own: float) -> float:
        """The mean of what every process has."""
        return float(self.all_reduce_sum(np.array([own]))[0]) / self.world_size

    def barrier(self) -> None:
        """Until all are here."""
        self.fabric.barrier()


def has_native_bfloat16() -> bool:
    """Whether what this process would train on computes with bfloat16; other processors imitate it, slowly."""
    return torch.accelerator.is_available() or torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def launch(precision: Any) -> ProcessGroup:
    """The team that this process belongs to: itself alone, or all that torchrun started, on however many machines.

    Warns of numbers that the processor only imitates.
    """
    if precision == "bf16-mixed" and not has_native_bfloat16():
        warnings.warn(
            "this processor imitates bfloat16, and trains several times slower with it than without; "
            "set precision=32-true",
            MoodfieldWarning,
            stacklevel=2,
        )
    size = world_size()
    if size == 1:
        return ProcessGroup(Fabric(accelerator="auto", devices=1, precision=precision))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    strategy = DDPStrategy(timeout=PATIENCE)
    fabric = Fabric(accelerator="auto", devices=here, num_nodes=size // here, strategy=strategy, precision=precision)
    warnings.filterwarnings(
        "ignore", "Grad strides do not match"
    )  # those of 1 × 1 kernels do, in every way that counts
    fresh = not distributed.is_initialized()
    fabric.launch()
    if fresh:
        atexit.register(_part_ways)
    return ProcessGroup(fabric)


def world_size() -> int:
    """How many processes torchrun started, of which this is one; one without it."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_distributed() -> bool:
    """Whether torchrun started this process as one of several."""
    return world_size() > 1


def is_main() -> bool:
    """Whether this process is the one that speaks, before there is a team."""
    return int(os.environ.get("RANK", 0)) == 0


def sync_batch_norms(net: nn.Module) -> None:
    """Let the batch norms of a network see the batch of the whole team: parts of it are other statistics."""
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = _SharedNorm  # the same parameters, under the same names


class _SharedNorm(nn.BatchNorm2d):
    """A batch norm whose statistics are those of all parts together; torch's own does that on GPUs only."""

    def forward(self, maps: Float[Tensor, "batch channels freq time"]) -> Float[Tensor, "batch channels freq time"]:
        if not self.training:
            return super().forward(maps)
        axes, channels = (0, 2, 3), (1, -1, 1, 1)
        with torch.autocast(maps.device.type, enabled=False):
            wide = maps.float()
            mean = _mean(wide.mean(axes))
            apart = wide - mean.view(channels)
            spread = _mean(apart.square().mean(axes))
            scale = self.weight * torch.rsqrt(spread + self.eps)
            found = apart * scale.view(channels) + self.bias.view(channels)
        self._remember(mean.detach(), spread.detach(), maps.numel() // maps.shape[1] * distributed.get_world_size())
        return found.to(maps.dtype)

    def _remember(self, mean: Tensor, spread: Tensor, count: int) -> None:
        """Let this batch count in the running statistics, the variance unbiased."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(spread * (count / (count - 1)), share)


def _mean(own: Tensor) -> Tensor:
    """The mean over all processes, which gradients flow through."""
    return _Sum.apply(own) / distributed.get_world_size()  # type: ignore[no-untyped-call]


class _Sum(torch.autograd.Function):
    """The sum over all processes; a gradient is that of all of them, too."""

    @staticmethod
    def forward(_: Any, own: Tensor) -> Tensor:
        found = own.clone()
        distributed.all_reduce(found)
        return found

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        found = gradients[0].clone()
        distributed.all_reduce(found)
        return found


def _part_ways() -> None:
    """Leave the others in peace."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
