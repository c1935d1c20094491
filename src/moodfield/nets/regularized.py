"""What networks with a regularized receptive field have in common.

In: ρ along both axes and a width. Out: the first and the last layers; a network sets its blocks and its head between.
Knows nothing of: what blocks there are.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from moodfield import receptive_field
from moodfield.errors import ConfigError
from moodfield.nets import blocks
from moodfield.nets.blocks import Mels, Net
from moodfield.receptive_field import STEM, Layer


@dataclass(frozen=True)
class RegularizedConfig:
    """A receptive field as numbers (§3.1, §3.2)."""

    rho_freq: int = 5
    """ρ along frequency, 0 … 22: how many of the block convolutions look beyond one cell (§3.1); *chosen by us*, 5
    to 7 fit"""
    rho_time: int = 5
    """ρ along time, 0 … 22; matters less than along frequency (§3.1); *chosen by us*"""
    width: int = 128
    """channels of the stem; those of the authors' code"""
    frequency_aware: bool = False
    """whether every convolution of the blocks also sees its position on the frequency axis (§3.2)"""

    def __post_init__(self) -> None:
        receptive_field.kernel_sizes(self.rho_freq), receptive_field.kernel_sizes(self.rho_time)
        if not 1 <= self.width <= blocks.MOST_WIDTH:
            raise ConfigError(f"a width of {self.width} channels came, 1 … {blocks.MOST_WIDTH} is possible")

    @property
    def kernels(self) -> list[tuple[int, int]]:
        """Sizes of the 24 kernels that ρ governs, along frequency and time."""
        return list(zip(receptive_field.kernel_sizes(self.rho_freq), receptive_field.kernel_sizes(self.rho_time), strict=True))

    def layers(self, axis: Literal["freq", "time"]) -> tuple[Layer, ...]:
        """The layers that an output cell looks through along one axis, first to last."""
        return receptive_field.regularized_layers(self.rho_freq if axis == "freq" else self.rho_time)


class RegularizedNet(Net):
    """A stem, blocks, and a head that gives one map per tag, whose mean is the logit."""

    head: nn.Sequential
    """from the last channels to tags; a convolution and a batch norm come last"""

    def __init__(self, config: RegularizedConfig, *, bands: int) -> None:
        super().__init__(config, bands=bands)
        self.stem = blocks.stem(config.width, STEM)
        self.blocks = nn.Sequential()

    def frame_logits(self, mels: Mels) -> Float[Tensor, "batch tags time"]:
        """Logits every 16 frames: the mean over frequency of the map before it is pooled."""
        maps = self.forward_blocks(self.stem(self.standardize(mels)))
        return blocks.precise(self.head(maps)).mean(dim=2)

    def reset_parameters(self) -> None:
        """He's normal distribution for the stem, zero for the head: fresh logits are exactly 0."""
        nn.init.kaiming_normal_(self.stem.get_parameter("0.weight"), mode="fan_in", nonlinearity="relu")
        *_, conv, _ = self.head
        nn.init.zeros_(conv.get_parameter("weight"))
