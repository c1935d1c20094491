"""The organisers' VGG-ish baseline."""

import re
from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

from moodfield.clips import FixedLength
from moodfield.errors import ConfigError, ModelError
from moodfield.nets import blocks
from moodfield.nets.blocks import Mels, Net
from moodfield.nets.configs import VGGConfig

CHANNELS = (1, 2, 2, 2, 1)
"""channels of every convolution, as multiples of the width"""


class VGG(Net):
    """Five convolutions with wide pools, then one linear layer."""

    def __init__(self, config: VGGConfig, *, n_mels: int, n_tags: int) -> None:
        if n_mels != 96:
            raise ConfigError(f"n_mels is {n_mels}, the VGG-ish network needs 96: use a mel of kind 'plain'")
        super().__init__(config, n_mels=n_mels)
        self.config = config
        self.lengths = FixedLength(config.frames, config.frames // 2)
        self.bn_init = nn.BatchNorm2d(1)
        self.blocks = nn.Sequential()
        inputs = 1
        for widths, pool in zip(CHANNELS, config.POOLS, strict=True):
            outputs = widths * config.width
            conv = nn.Conv2d(inputs, outputs, 3, padding=1)
            # ELU is monotonic: max pooling before it gives the same result as after it, and is faster
            self.blocks.append(nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.MaxPool2d(pool), nn.ELU()))
            inputs = outputs
        self.dropout = nn.Dropout(config.dropout)
        self.dense = nn.Linear(inputs, n_tags)

    def frame_logits(self, mels: Mels) -> Float[Tensor, "batch tags time"]:
        """Logits of a window: one step of time."""
        low, high = self.config.MIN_FRAMES, self.config.MAX_FRAMES
        if not low <= mels.shape[2] <= high:
            raise ConfigError(f"the mel has {mels.shape[2]} frames, the VGG-ish network takes {low} … {high}")
        maps = self.forward_blocks(self.bn_init(self.standardize(mels)))
        return blocks.apply_in_float32(self.dense, self.dropout(maps.flatten(1))).unsqueeze(2)


def from_published(state_dict: Mapping[str, object]) -> VGG:
    """Build the network from the organisers' published state dict.

    Keys map as `conv_{n} → blocks.{n − 1}.0` and `bn_{n} → blocks.{n − 1}.1`. The standardiser is the identity: the
    network begins with a batch norm.

    Raises:
        ModelError: other keys or shapes.
    """
    state = {str(key): value for key, value in state_dict.items() if isinstance(value, Tensor)}
    if "bn_init.weight" not in state or "dense.weight" not in state or state["dense.weight"].dim() != 2:
        raise ModelError("not the weights of the VGG-ish baseline: keys bn_init, conv_1 … 5 and dense are expected")
    net = VGG(VGGConfig(), n_mels=96, n_tags=state["dense.weight"].shape[0])
    renamed = net.standardize.state_dict(prefix="standardize.") | {_renamed(key): value for key, value in state.items()}
    try:
        net.load_state_dict(renamed)
    except RuntimeError as error:
        raise ModelError(f"the weights do not fit the VGG-ish baseline: {error}") from error
    return net


def _renamed(key: str) -> str:
    """Our name for a tensor of the published code."""
    index = {"conv": 0, "bn": 1}
    return re.sub(r"^(conv|bn)_(\d)", lambda match: f"blocks.{int(match[2]) - 1}.{index[match[1]]}", key)
