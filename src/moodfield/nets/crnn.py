"""Convolutions, then a recurrent summary.

In: a config of numbers. Out: a network that hears clips and judges a whole track by all of them, in their order.
Knows nothing of: how it is trained, or what the tags mean.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from moodfield.clips import WholeTrack
from moodfield.errors import ConfigError
from moodfield.nets import blocks
from moodfield.nets.blocks import Mels, Net
from moodfield.receptive_field import Layer

CHANNELS = (1, 2, 2, 2)
"""channels of every convolution, in widths"""
POOLS = ((4, 2), (4, 3), (4, 4), (1, 4))
"""cells of frequency and of time that each pooling makes one; of what is left of frequency, the largest is kept"""


@dataclass(frozen=True)
class CRNNConfig:
    """The CRNN of Choi et al., for mels of 64 bands and more, as numbers (§4, submission 4)."""

    width: int = 64
    """channels of the first convolution; the other three have twice as many (Choi et al., 2017)"""
    hidden: int = 32
    """units of each of the two recurrent layers (Choi et al., 2017)"""
    dropout: float = 0.1
    """share of the features that training leaves out after every pooling (Choi et al., 2017)"""
    dropout_summary: float = 0.3
    """share of the summary that training leaves out before the last layer (Choi et al., 2017)"""
    family: Literal["crnn"] = "crnn"
    """what files call networks of this kind"""

    def __post_init__(self) -> None:
        if not (1 <= self.width <= blocks.MOST_WIDTH and 1 <= self.hidden <= blocks.MOST_WIDTH):
            raise ConfigError(f"{self}: width and hidden are 1 … {blocks.MOST_WIDTH}")
        if not (0 <= self.dropout < 1 and 0 <= self.dropout_summary < 1):
            raise ConfigError(f"{self}: both dropouts are 0 … 1")

    def layers(self, axis: Literal["freq", "time"]) -> tuple[Layer, ...]:
        """The layers that a cell looks through along one axis, first to last, before the track is summarised."""
        pools = [pool[0 if axis == "freq" else 1] for pool in POOLS]
        return tuple(layer for pool in pools for layer in (Layer(3, padding=1), Layer(pool, pool)))

    def build(self, *, bands: int, tags: int) -> "CRNN":
        """A network with fresh weights, drawn from torch's generator; 1 band means any number of them."""
        return CRNN(self, bands=bands, tags=tags)


class CRNN(Net):
    """Four convolutions hear, two recurrent layers summarise: the order of what is heard counts, over a whole track.

    ELU rises, so the largest of many is found before it as well as after, and faster.
    """

    def __init__(self, config: CRNNConfig, *, bands: int, tags: int) -> None:
        super().__init__(config, bands=bands, lengths=WholeTrack)
        self.config = config
        self.blocks = nn.Sequential()
        inputs = 1
        for widths, pool in zip(CHANNELS, POOLS, strict=True):
            outputs = widths * config.width
            conv = nn.Conv2d(inputs, outputs, 3, padding=1)
            block = nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.MaxPool2d(pool))
            if len(self.blocks) + 1 < len(POOLS):  # the last pooling goes on over frequency, before what follows it
                block.extend((nn.ELU(), nn.Dropout(config.dropout)))
            self.blocks.append(block)
            inputs = outputs
        self.recurrent = nn.GRU(inputs, config.hidden, num_layers=2, batch_first=True)
        self.dropout = nn.Dropout(config.dropout_summary)
        self.dense = nn.Linear(config.hidden, tags)

    def forward_features(self, mels: Mels) -> Float[Tensor, "batch channels time"]:
        """Features every 96 frames: for every channel the largest over frequency."""
        largest = self.forward_blocks(self.standardize(mels)).amax(dim=2)
        return F.dropout(F.elu(largest), self.config.dropout, self.training)

    def forward_head(self, heard: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch tags 1"]:
        """Logits of the whole: one step of time."""
        with torch.autocast(heard.device.type, enabled=False):
            states, _ = self.recurrent(blocks.precise(heard).transpose(1, 2))
            return self.dense(self.dropout(states[:, -1])).unsqueeze(2)

    def frame_logits(self, mels: Mels) -> Float[Tensor, "batch tags 1"]:
        """Logits of what came, taken for the whole: one step of time."""
        return self.forward_head(self.forward_features(mels))
