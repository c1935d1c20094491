"""Receptive-field arithmetic: size and stride of stacked layers, and the layers for ρ (§3.1)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from moodfield.errors import ConfigError
from moodfield.mel import MelConfig


@dataclass(frozen=True)
class Layer:
    """A convolution or pooling along one axis."""

    kernel: int
    """input cells of one output cell"""
    stride: int = 1
    """input cells from one output cell to the next"""
    padding: int = 0
    """zeros added at either end"""


@dataclass(frozen=True)
class ReceptiveField:
    """The part of the input that one output cell depends on, along one axis."""

    size: int
    """input cells that one output cell depends on"""
    stride: int
    """input cells from one output cell to the next"""
    start: int
    """first input cell of output cell 0; negative when it is padding"""

    @property
    def centre(self) -> float:
        """The centre of the receptive field of output cell 0; a half lies between two input cells."""
        return self.start + (self.size - 1) / 2


def compute(layers: Iterable[Layer]) -> ReceptiveField:
    """Compute the receptive field of a chain of layers (§3.1): each adds `(kernel − 1) ×` the stride of all before it.

    >>> compute([Layer(kernel=5, stride=2, padding=1), Layer(kernel=3, padding=1)])
    ReceptiveField(size=9, stride=2, start=-3)
    """
    size, stride, start = 1, 1, 0
    for layer in layers:
        size += (layer.kernel - 1) * stride
        start -= layer.padding * stride
        stride *= layer.stride
    return ReceptiveField(size, stride, start)


def output_size(layers: Iterable[Layer], cells: int) -> int:
    """The number of output cells for a number of input cells; 0 when there are too few.

    >>> output_size([Layer(kernel=5, stride=2, padding=1)], 256)
    127
    """
    for layer in layers:
        cells = (cells + 2 * layer.padding - layer.kernel) // layer.stride + 1
        if cells < 1:
            return 0
    return cells


MAX_RHO = 22
"""ρ at which every kernel that depends on ρ is 3"""
STEM = Layer(kernel=5, stride=2, padding=1)
"""the first layer of every regularized network"""
POOL = Layer(kernel=2, stride=2)
"""the layer that halves a feature map"""
POOL_AFTER = (2, 4, 8)
"""numbers of convolutions after which the feature map is halved"""


def kernel_sizes(rho: int) -> tuple[int, ...]:
    """Kernel sizes of the 24 regularized convolutions along one axis, for ρ in 0 … 22 (§3.1).

    The first is always 3, the second always 1, and number `i + 2` is 3 up to `i = ρ`, then 1. Raises `ConfigError` for
    any other ρ.

    >>> kernel_sizes(4)[:8]
    (3, 1, 3, 3, 3, 3, 1, 1)
    """
    if not 0 <= rho <= MAX_RHO:
        raise ConfigError(f"ρ is {rho}, expected 0 … {MAX_RHO}")
    return (3, 1, *(3 if i <= rho else 1 for i in range(1, MAX_RHO + 1)))


def regularized_layers(rho: int) -> tuple[Layer, ...]:
    """The layers of a network regularized by ρ, along one axis: stem, convolutions, and the pools between (§3.1)."""
    layers = [STEM]
    for count, kernel in enumerate(kernel_sizes(rho), start=1):
        layers.append(Layer(kernel, padding=kernel // 3))
        if count in POOL_AFTER:
            layers.append(POOL)
    return tuple(layers)


def min_input(layers: Sequence[Layer]) -> int:
    """The fewest input cells with an output."""
    cells = 1
    while not output_size(layers, cells):
        cells += 1
    return cells


def seconds(frames: int, config: MelConfig) -> float:
    """The duration of a receptive field of a number of frames, in seconds, from the first sample to the last.

    >>> round(seconds(199, MelConfig()), 3)
    2.345
    """
    return ((frames - 1) * config.hop_length + config.n_fft) / config.sample_rate
