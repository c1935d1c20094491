"""The organisers' VGG-ish baseline.

In: mels of 96 bands, 1280 … 2559 frames. Out: logits for a window.
Knows nothing of: how windows are cut, or the files its published weights come from.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from moodfield.clips import FixedLength
from moodfield.errors import ConfigError, ModelError
from moodfield.nets import blocks
from moodfield.nets.blocks import Mels, Net
from moodfield.receptive_field import Layer

CHANNELS = (1, 2, 2, 2, 1)
"""channels of every convolution, in widths"""
POOLS = ((2, 4), (2, 4), (2, 4), (3, 5), (4, 4))
"""cells of frequency and of time that each pooling makes one"""
SHORTEST, LONGEST = 1280, 2559
"""frames between which the network has one step of time"""


@dataclass(frozen=True)
class VGGConfig:
    """The organisers' baseline as numbers (Table 1, VGG-ish)."""

    width: int = 64
    """channels of the first and the last convolution; those between have twice as many (the organisers' baseline)"""
    frames: int = 1_366
    """frames of a window, 1280 … 2559; 29.1 s of the organisers' mel"""
    dropout: float = 0.5
    """share of the features that training leaves out before the last layer (the organisers' baseline)"""
    family: Literal["vgg"] = "vgg"
    """what files call networks of this kind"""

    def __post_init__(self) -> None:
        fits = 1 <= self.width <= blocks.MOST_WIDTH and SHORTEST <= self.frames <= LONGEST
        if not fits or not 0 <= self.dropout < 1:
            raise ConfigError(
                f"{self}: the width is 1 … {blocks.MOST_WIDTH}, frames are {SHORTEST} … {LONGEST}, dropout is 0 … 1"
            )

    def layers(self, axis: Literal["freq", "time"]) -> tuple[Layer, ...]:
        """The layers that the output looks through along one axis, first to last."""
        pools = [pool[0 if axis == "freq" else 1] for pool in POOLS]
        return tuple(layer for pool in pools for layer in (Layer(3, padding=1), Layer(pool, pool)))

    def build(self, *, bands: int, tags: int) -> "VGG":
        """A network with fresh weights, drawn from torch's generator."""
        return VGG(self, bands=bands, tags=tags)


class VGG(Net):
    """Five convolutions with wide pools, then one linear layer."""

    def __init__(self, config: VGGConfig, *, bands: int, tags: int) -> None:
        if bands != 96:
            raise ConfigError(f"{bands} bands came, the VGG-ish network wants 96: give it a mel of kind 'plain'")
        super().__init__(config, bands=bands)
        self.config = config
        self.lengths = FixedLength(config.frames, config.frames // 2)
        self.bn_init = nn.BatchNorm2d(1)
        self.blocks = nn.Sequential()
        inputs = 1
        for widths, pool in zip(CHANNELS, POOLS, strict=True):
            outputs = widths * config.width
            conv = nn.Conv2d(inputs, outputs, 3, padding=1)
            # ELU rises, so the largest of many is found before it as well as after, and faster
            self.blocks.append(nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.MaxPool2d(pool), nn.ELU()))
            inputs = outputs
        self.dropout = nn.Dropout(config.dropout)
        self.dense = nn.Linear(inputs, tags)

    def frame_logits(self, mels: Mels) -> Float[Tensor, "batch tags time"]:
        """Logits of a window: one step of time."""
        if not SHORTEST <= mels.shape[2] <= LONGEST:
            raise ConfigError(f"{mels.shape[2]} frames came, the VGG-ish network wants {SHORTEST} … {LONGEST}")
        maps = self.forward_blocks(self.bn_init(self.standardize(mels)))
        return blocks.precisely(self.dense, self.dropout(maps.flatten(1))).unsqueeze(2)


def from_published(checkpoint: Mapping[str, object]) -> VGG:
    """The network in the organisers' published state dict: `conv_{n} → blocks.{n − 1}.0`, `bn_{n} → blocks.{n − 1}.1`.

    The standardiser is the identity: the network begins with a batch norm. Refuses other weights with `ModelError`.
    """
    state = {str(key): value for key, value in checkpoint.items() if isinstance(value, Tensor)}
    if "bn_init.weight" not in state or "dense.weight" not in state or state["dense.weight"].dim() != 2:
        raise ModelError("these are not the VGG-ish baseline's weights: bn_init, conv_1 … 5 and dense are wanted")
    net = VGGConfig().build(bands=96, tags=state["dense.weight"].shape[0])
    renamed = net.standardize.state_dict(prefix="standardize.") | {_renamed(key): value for key, value in state.items()}
    try:
        net.load_state_dict(renamed)
    except RuntimeError as error:
        raise ModelError(f"these weights do not fit the VGG-ish baseline: {error}") from error
    return net


def _renamed(key: str) -> str:
    """Our name for a tensor of the published code."""
    place = {"conv": 0, "bn": 1}
    return re.sub(r"^(conv|bn)_(\d)", lambda found: f"blocks.{int(found[2]) - 1}.{place[found[1]]}", key)
