"""How much of the mel one output cell can see.

In: the layers of a network along one axis. Out: receptive field and stride in cells, frames, seconds or hertz.
Knows nothing of: torch, or what a layer computes.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """One convolution or pooling, seen along one axis."""

    kernel: int
    """cells that one output cell reads"""
    stride: int = 1
    """cells from one output cell's reading to the next one's"""
    padding: int = 0
    """cells of zeros added at either end"""


@dataclass(frozen=True)
class Field:
    """What one output cell sees of the input, along one axis."""

    size: int
    """cells of the input that can change one output cell"""
    stride: int
    """cells of the input from one output cell to the next"""
    start: int
    """first input cell that output cell 0 reads; negative when it reads padding"""

    @property
    def centre(self) -> float:
        """The input cell, maybe between two, in the middle of what output cell 0 reads."""
        return self.start + (self.size - 1) / 2


def field(layers: Iterable[Layer]) -> Field:
    """The receptive field of a chain of layers (§3.1): each adds `(kernel − 1) ×` the stride of all before it."""
    size, stride, start = 1, 1, 0
    for layer in layers:
        size += (layer.kernel - 1) * stride
        start -= layer.padding * stride
        stride *= layer.stride
    return Field(size, stride, start)


def outputs(layers: Iterable[Layer], cells: int) -> int:
    """How many output cells so many input cells give; 0 when there are too few."""
    for layer in layers:
        cells = (cells + 2 * layer.padding - layer.kernel) // layer.stride + 1
        if cells < 1:
            return 0
    return cells


def seconds(cells: int, *, rate: int, window: int, hop: int) -> float:
    """How long a field of so many frames lasts, the window of its frames included."""
    return ((cells - 1) * hop + window) / rate
