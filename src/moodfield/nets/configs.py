"""Configs of the networks, and the layers of their receptive fields; needs no torch."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, Literal

from moodfield import receptive_field
from moodfield.errors import ConfigError
from moodfield.receptive_field import Layer

if TYPE_CHECKING:
    from moodfield.nets import Net

Axis = Literal["freq", "time"]

MAX_WIDTH = 1_024
"""most channels of a first stage, so that a config from an unknown source cannot fill the memory"""


def _check_channels(name: str, value: int) -> None:
    if not 1 <= value <= MAX_WIDTH:
        raise ConfigError(f"{name} is {value}, expected 1 … {MAX_WIDTH} channels")


class Config(ABC):
    """What every config has: the layers of its network, and a way to build it."""

    network: ClassVar[str]
    """module and class of the network, as `resnet.CPResNet`"""

    @abstractmethod
    def layers(self, axis: Axis) -> tuple[Layer, ...]:
        """The layers along one axis, first to last, up to the last map of features."""

    def build(self, *, n_mels: int, n_tags: int) -> "Net":
        """Build the network with fresh weights, drawn from torch's global generator.

        Args:
            n_mels: mel bands of the input; 1 means any number of them, where the network allows it.
            n_tags: number of logits.

        Raises:
            ConfigError: fewer bands than the network's layers need.
        """
        module, _, name = self.network.partition(".")
        return getattr(import_module(f"moodfield.nets.{module}"), name)(self, n_mels=n_mels, n_tags=n_tags)


@dataclass(frozen=True)
class RegularizedConfig(Config):
    """Numbers of a network with a regularized receptive field (§3.1, §3.2)."""

    rho_freq: int = 5
    """ρ along frequency, 0 … 22: how many of the block convolutions have a kernel of 3 (§3.1); *chosen by us*, 5
    to 7 fit"""
    rho_time: int = 5
    """ρ along time, 0 … 22; matters less than along frequency (§3.1); *chosen by us*"""
    width: int = 128
    """channels of the stem; those of the authors' code"""
    frequency_aware: bool = False
    """whether every convolution of the blocks also gets its position on the frequency axis (§3.2)"""

    def __post_init__(self) -> None:
        receptive_field.kernel_sizes(self.rho_freq), receptive_field.kernel_sizes(self.rho_time)
        _check_channels("width", self.width)

    @property
    def kernels(self) -> list[tuple[int, int]]:
        """Sizes of the 24 kernels that ρ governs, along frequency and time."""
        freq, time = receptive_field.kernel_sizes(self.rho_freq), receptive_field.kernel_sizes(self.rho_time)
        return list(zip(freq, time, strict=True))

    def layers(self, axis: Axis) -> tuple[Layer, ...]:
        """The layers along one axis, first to last."""
        return receptive_field.regularized_layers(self.rho_freq if axis == "freq" else self.rho_time)


@dataclass(frozen=True)
class CPResNetConfig(RegularizedConfig):
    """Numbers of a CP-ResNet (§3.1, §3.2): `width` is that of its first stage; the others have 2 and 4 times it.

    Example:
        >>> config = CPResNetConfig(rho_freq=7)
        >>> receptive_field.compute(config.layers("freq")).size
        135
    """

    network: ClassVar = "resnet.CPResNet"

    shake: bool = False
    """whether every block has two branches, mixed at random while training (§3.3)"""
    family: Literal["cp_resnet"] = "cp_resnet"
    """name of the family in files"""


@dataclass(frozen=True)
class CPDenseNetConfig(RegularizedConfig):
    """Numbers of a CP-DenseNet (§3.4, submission 3); the paper gives none, all of them are *chosen by us*."""

    network: ClassVar = "densenet.CPDenseNet"

    growth: int = 64
    """channels that every dense layer adds; *chosen by us*, since the authors' DenseNet is unpublished"""
    family: Literal["cp_densenet"] = "cp_densenet"
    """name of the family in files"""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_channels("growth", self.growth)


@dataclass(frozen=True)
class PlainResNetConfig(Config):
    """Numbers of a ResNet as it is for images (§4, submission 5)."""

    network: ClassVar = "plain.PlainResNet"
    STAGES: ClassVar = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
    """blocks of each of the four stages, by depth"""
    STEM: ClassVar = Layer(kernel=7, stride=2, padding=3)
    POOL: ClassVar = Layer(kernel=3, stride=2, padding=1)

    depth: int = 34
    """18, 34 or 50 layers; 34 was the best of them in validation (§4.1)"""
    width: int = 64
    """channels of the first stage; every stage has twice those of the one before (He et al., 2016)"""
    family: Literal["plain"] = "plain"
    """name of the family in files"""

    def __post_init__(self) -> None:
        _check_channels("width", self.width)
        if self.depth not in self.STAGES:
            raise ConfigError(f"depth is {self.depth}, expected one of {', '.join(map(str, self.STAGES))}")

    @property
    def blocks(self) -> tuple[tuple[tuple[int, Layer], ...], ...]:
        """The residual blocks: channels and layer of every convolution; the first of a stage halves the map."""
        blocks: list[tuple[tuple[int, Layer], ...]] = []
        for stage, count in enumerate(self.STAGES[self.depth]):
            width = self.width * 2**stage
            for index in range(count):
                wide = Layer(3, stride=2 if stage and not index else 1, padding=1)
                if self.depth == 50:
                    blocks.append(((width, Layer(1)), (width, wide), (4 * width, Layer(1))))
                else:
                    blocks.append(((width, wide), (width, Layer(3, padding=1))))
        return tuple(blocks)

    def layers(self, axis: Axis) -> tuple[Layer, ...]:
        """The layers along either axis, first to last."""
        return (self.STEM, self.POOL, *(layer for block in self.blocks for _, layer in block))


def _pooled(pools: tuple[tuple[int, int], ...], axis: Axis) -> tuple[Layer, ...]:
    """The layers of convolutions with kernels of 3, each followed by a pooling."""
    sizes = [pool[0 if axis == "freq" else 1] for pool in pools]
    return tuple(layer for size in sizes for layer in (Layer(3, padding=1), Layer(size, size)))


@dataclass(frozen=True)
class CRNNConfig(Config):
    """Numbers of the CRNN of Choi et al., for mels of 64 bands and more (§4, submission 4)."""

    network: ClassVar = "crnn.CRNN"
    POOLS: ClassVar = ((4, 2), (4, 3), (4, 4), (1, 4))
    """sizes of the poolings along frequency and time; over the remaining frequencies a maximum is taken"""

    width: int = 64
    """channels of the first convolution; the other three have twice as many (Choi et al., 2017)"""
    hidden: int = 32
    """units of each of the two recurrent layers (Choi et al., 2017)"""
    dropout: float = 0.1
    """share of the features that training leaves out after every pooling (Choi et al., 2017)"""
    dropout_summary: float = 0.3
    """share of the summary that training leaves out before the last layer (Choi et al., 2017)"""
    family: Literal["crnn"] = "crnn"
    """name of the family in files"""

    def __post_init__(self) -> None:
        _check_channels("width", self.width)
        _check_channels("hidden", self.hidden)
        if not (0 <= self.dropout < 1 and 0 <= self.dropout_summary < 1):
            raise ConfigError(f"{self}: both dropouts are at least 0 and below 1")

    def layers(self, axis: Axis) -> tuple[Layer, ...]:
        """The layers along one axis, first to last, up to the features that the recurrent layers read."""
        return _pooled(self.POOLS, axis)


@dataclass(frozen=True)
class VGGConfig(Config):
    """Numbers of the organisers' baseline (Table 1, VGG-ish)."""

    network: ClassVar = "vgg.VGG"
    POOLS: ClassVar = ((2, 4), (2, 4), (2, 4), (3, 5), (4, 4))
    """sizes of the poolings along frequency and time"""
    MIN_FRAMES: ClassVar = 1280
    MAX_FRAMES: ClassVar = 2559
    """frames between which the network has one step of time"""

    width: int = 64
    """channels of the first and the last convolution; those between have twice as many (the organisers' baseline)"""
    frames: int = 1_366
    """frames of a window, 1280 … 2559; 29.1 s of the organisers' mel"""
    dropout: float = 0.5
    """share of the features that training leaves out before the last layer (the organisers' baseline)"""
    family: Literal["vgg"] = "vgg"
    """name of the family in files"""

    def __post_init__(self) -> None:
        _check_channels("width", self.width)
        low, high = self.MIN_FRAMES, self.MAX_FRAMES
        if not low <= self.frames <= high or not 0 <= self.dropout < 1:
            raise ConfigError(f"{self}: frames are {low} … {high}, dropout is at least 0 and below 1")

    def layers(self, axis: Axis) -> tuple[Layer, ...]:
        """The layers along one axis, first to last."""
        return _pooled(self.POOLS, axis)


NetConfig = CPResNetConfig | CPDenseNetConfig | PlainResNetConfig | CRNNConfig | VGGConfig
"""a config of any family"""
