"""CRNN: convolutions per clip, then recurrent layers over a whole track."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from moodfield.clips import WholeTrack
from moodfield.nets import blocks
from moodfield.nets.blocks import Mels, Net
from moodfield.nets.configs import CRNNConfig

CHANNELS = (1, 2, 2, 2)
"""channels of every convolution, as multiples of the width"""


class CRNN(Net):
    """Four convolutions per clip, then two recurrent layers, which read the features of a whole track in their order.

    ELU is monotonic, so max pooling before it gives the same result as after it, and is faster.
    """

    def __init__(self, config: CRNNConfig, *, n_mels: int, n_tags: int) -> None:
        super().__init__(config, n_mels=n_mels, lengths=WholeTrack)
        self.config = config
        self.blocks = nn.Sequential()
        inputs = 1
        for widths, pool in zip(CHANNELS, config.POOLS, strict=True):
            outputs = widths * config.width
            conv = nn.Conv2d(inputs, outputs, 3, padding=1)
            block = nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.MaxPool2d(pool))
            if len(self.blocks) + 1 < len(CHANNELS):  # forward_features continues the last pooling
                block.extend((nn.ELU(), nn.Dropout(config.dropout)))
            self.blocks.append(block)
            inputs = outputs
        self.feature_dropout = nn.Dropout(config.dropout)
        self.recurrent = nn.GRU(inputs, config.hidden, num_layers=2, batch_first=True)
        self.dropout = nn.Dropout(config.dropout_summary)
        self.dense = nn.Linear(config.hidden, n_tags)

    def forward_features(self, mels: Mels) -> Float[Tensor, "batch channels time"]:
        """Features every 96 frames: the maximum over frequency."""
        largest = self.forward_blocks(self.standardize(mels)).amax(dim=2)
        return self.feature_dropout(F.elu(largest))

    def forward_head(self, features: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch tags 1"]:
        """Logits of a whole track: one step of time."""
        with torch.autocast(features.device.type, enabled=False):
            states, _ = self.recurrent(blocks.at_least_float32(features).transpose(1, 2))
            return self.dense(self.dropout(states[:, -1])).unsqueeze(2)

    def frame_logits(self, mels: Mels) -> Float[Tensor, "batch tags 1"]:
        """Logits of clips, each taken for a whole track: one step of time."""
        return self.forward_head(self.forward_features(mels))
