"""What networks with a regularized receptive field share: stem, pooling of logits, initialisation."""

from jaxtyping import Float
from torch import Tensor, nn

from moodfield.nets import blocks
from moodfield.nets.blocks import Mels, Net
from moodfield.nets.configs import RegularizedConfig
from moodfield.receptive_field import STEM


class RegularizedNet(Net):
    """Stem, blocks, and a head that gives one map per tag, whose mean is the logit."""

    head: nn.Sequential
    """from the last channels to tags; ends with a convolution and a batch norm"""

    def __init__(self, config: RegularizedConfig, *, n_mels: int) -> None:
        super().__init__(config, n_mels=n_mels)
        self.stem = blocks.stem(config.width, STEM)
        self.blocks = nn.Sequential()

    def frame_logits(self, mels: Mels) -> Float[Tensor, "batch tags time"]:
        """Logits every 16 frames: the mean of the last map over frequency."""
        maps = self.forward_blocks(self.stem(self.standardize(mels)))
        return blocks.at_least_float32(self.head(maps)).mean(dim=2)

    def reset_parameters(self) -> None:
        """He's normal distribution for the stem, zero for the head: fresh logits are exactly 0."""
        nn.init.kaiming_normal_(self.stem.get_parameter("0.weight"), mode="fan_in", nonlinearity="relu")
        *_, conv, _ = self.head
        nn.init.zeros_(conv.get_parameter("weight"))
