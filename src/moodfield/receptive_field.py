"""How much of the mel one output cell can see.

In: the layers of a network along one axis. Out: receptive field and stride in cells, frames, seconds or hertz.
Knows nothing of: torch, or what a layer computes.

The rule by which ρ regularizes a receptive field is here too: networks of any kind are built from its layers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from moodfield.errors import ConfigError


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
class ReceptiveField:
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


def compute(layers: Iterable[Layer]) -> ReceptiveField:
    """The receptive field of a chain of layers (§3.1): each adds `(kernel − 1) ×` the stride of all before it."""
    size, stride, start = 1, 1, 0
    for layer in layers:
        size += (layer.kernel - 1) * stride
        start -= layer.padding * stride
        stride *= layer.stride
    return ReceptiveField(size, stride, start)


def output_size(layers: Iterable[Layer], cells: int) -> int:
    """How many output cells so many input cells give; 0 when there are too few."""
    for layer in layers:
        cells = (cells + 2 * layer.padding - layer.kernel) // layer.stride + 1
        if cells < 1:
            return 0
    return cells


MAX_RHO = 22
"""ρ at which all kernels that ρ governs are 3"""
STEM = Layer(kernel=5, stride=2, padding=1)
"""the first layer of every regularized network"""
POOL = Layer(kernel=2, stride=2)
"""the layer that halves a map"""
POOL_AFTER = (2, 4, 8)
"""after so many convolutions the map is halved"""


def kernel_sizes(rho: int) -> tuple[int, ...]:
    """Kernel sizes of the 24 regularized convolutions along one axis, for ρ in 0 … 22 (§3.1).

    The first is always 3, the second always 1, and number `i + 2` is 3 up to `i = ρ`, then 1.
    """
    if not 0 <= rho <= MAX_RHO:
        raise ConfigError(f"ρ {rho} came, this network has ρ in 0 … {MAX_RHO}")
    return (3, 1, *(3 if i <= rho else 1 for i in range(1, MAX_RHO + 1)))


def regularized_layers(rho: int) -> tuple[Layer, ...]:
    """The layers of a network regularized by ρ, along one axis: stem, convolutions, and the pools between (§3.1)."""
    layers = [STEM]
    for done, kernel in enumerate(kernel_sizes(rho), start=1):
        layers.append(Layer(kernel, padding=kernel // 3))
        if done in POOL_AFTER:
            layers.append(POOL)
    return tuple(layers)


def min_input(layers: Sequence[Layer]) -> int:
    """The fewest input cells that give an output."""
    cells = 1
    while not output_size(layers, cells):
        cells += 1
    return cells


def seconds(cells: int, *, sample_rate: int, n_fft: int, hop_length: int) -> float:
    """How long a field of so many frames lasts, the window of its frames included."""
    return ((cells - 1) * hop_length + n_fft) / sample_rate
