"""CP-ResNet: receptive-field-regularized, optionally frequency-aware and shaken.

In: a config of numbers. Out: a network from clips to logits, and the layers its receptive field follows from.
Knows nothing of: how it is trained, or what the tags mean.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moodfield import clips, receptive
from moodfield.errors import BadConfig, BadModel
from moodfield.nets import blocks
from moodfield.nets.blocks import Mels, Net, ResidualBlock, Standardize
from moodfield.receptive import POOL, POOLED, STEM, Layer

BLOCKS = 12
"""residual blocks: three stages of four"""


@dataclass(frozen=True)
class CPResNetConfig:
    """CP-ResNet as numbers (§3.1, §3.2)."""

    rho_freq: int = 5
    """ρ along frequency, 0 … 22: how many of the block convolutions look beyond one cell; *chosen by us*, 5 to 7 fit"""
    rho_time: int = 5
    """ρ along time, 0 … 22; matters less than along frequency"""
    width: int = 128
    """channels of the first stage; the second has twice, the third four times as many"""
    frequency_aware: bool = False
    """whether every convolution of the blocks also sees its position on the frequency axis"""
    shake: bool = False
    """whether every block has two branches, mixed at random while training (§3.3)"""
    family: Literal["cp_resnet"] = "cp_resnet"
    """what files call networks of this kind"""

    def __post_init__(self) -> None:
        receptive.kernels(self.rho_freq), receptive.kernels(self.rho_time)
        if not 1 <= self.width <= blocks.MOST_WIDTH:
            raise BadConfig(f"a width of {self.width} channels came, 1 … {blocks.MOST_WIDTH} is possible")

    def layers(self, axis: Literal["freq", "time"]) -> tuple[Layer, ...]:
        """The layers that an output cell looks through along one axis, first to last."""
        return receptive.regularized(self.rho_freq if axis == "freq" else self.rho_time)

    def build(self, *, bands: int, tags: int) -> "CPResNet":
        """A network with fresh weights, drawn from torch's generator; 1 band means any number of them."""
        return CPResNet(self, bands=bands, tags=tags)


class CPResNet(Net):
    """CP-ResNet: a stem, twelve residual blocks, and one map per tag whose mean is the logit.

    With fresh weights all logits are exactly 0.
    """

    def __init__(self, config: CPResNetConfig, *, bands: int, tags: int) -> None:
        super().__init__()
        self.config = config
        along_freq, along_time = config.layers("freq"), config.layers("time")
        if bands != 1 and not receptive.outputs(along_freq, bands):
            raise BadConfig(f"{bands} bands came, this network needs at least {receptive.least(along_freq)}")
        seen = receptive.field(along_time)
        self.lengths = clips.AnyLength(receptive.least(along_time), seen.stride, seen.size, seen.start)
        self.standardize = Standardize(bands)
        self.stem = nn.Sequential(
            nn.Conv2d(1, config.width, STEM.kernel, STEM.stride, STEM.padding, bias=False),
            nn.BatchNorm2d(config.width),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential()
        inputs = config.width
        kernels = list(zip(receptive.kernels(config.rho_freq), receptive.kernels(config.rho_time), strict=True))
        for index in range(BLOCKS):
            outputs = config.width * 2 ** (index // 4)
            pair = (kernels[2 * index], kernels[2 * index + 1])
            self.blocks.append(
                ResidualBlock(inputs, outputs, pair, frequency_aware=config.frequency_aware, shake=config.shake)
            )
            if 2 * (index + 1) in POOLED:
                self.blocks.append(nn.MaxPool2d(POOL.kernel, POOL.stride))
            inputs = outputs
        self.head = nn.Sequential(nn.Conv2d(inputs, tags, 1, bias=False), nn.BatchNorm2d(tags))
        self._initialise()

    def over_time(self, mels: Mels) -> Float[Tensor, "batch tags time"]:
        """Logits every 16 frames: the mean over frequency of the map before it is pooled."""
        stem = self.stem(self.standardize(mels))
        return blocks.precise(self.head(blocks.through(self.blocks, stem, recompute=self.recompute))).mean(dim=2)

    @torch.no_grad()
    def expect(self, mean: Float[Tensor, "tags"], spread: Float[Tensor, "tags"]) -> None:
        """Begin with these logits: the batch norm of the head starts from their mean and spread."""
        self.head.get_parameter("1.bias").copy_(mean)
        self.head.get_parameter("1.weight").copy_(spread)

    def _initialise(self) -> None:
        """He's normal distribution for the stem, identity for the blocks, zero for the head."""
        nn.init.kaiming_normal_(self.stem.get_parameter("0.weight"), mode="fan_in", nonlinearity="relu")
        for block in self.blocks:
            if isinstance(block, ResidualBlock):
                block.reset_parameters(depth=BLOCKS)
        nn.init.zeros_(self.head.get_parameter("0.weight"))


def from_published(checkpoint: Mapping[str, object]) -> CPResNet:
    """The network in a state dict as the authors' published code writes it, or in the dict they wrap it in.

    Width, ρ along both axes and frequency-awareness follow from the shapes of the tensors. Keys map as
    `in_c → stem`, `stage{s}.block{b} → blocks.{n}`, `feed_forward → head`; the standardiser is the identity, and the
    network takes any number of bands and frames from 17 up. Refuses other keys and shapes with `BadModel`.
    """
    inner = checkpoint.get("state_dict", checkpoint)
    items = inner.items() if isinstance(inner, Mapping) else ()
    state = {str(key): value for key, value in items if isinstance(value, Tensor)}
    blocks = [f"stage{n // 4 + 1}.block{n % 4 + 1}" for n in range(BLOCKS)]
    names = ["in_c.0", *(f"{block}.{conv}" for block in blocks for conv in ("conv1", "conv2")), "feed_forward.0"]
    shapes = [tuple(state[f"{name}.weight"].shape) if f"{name}.weight" in state else () for name in names]
    if any(len(shape) != 4 for shape in shapes):
        raise BadModel("these are not weights of a published CP-ResNet: in_c, stage1 … 3 and feed_forward are wanted")
    stem, first, _, *ruled, head = shapes
    try:
        config = CPResNetConfig(
            rho_freq=sum(shape[2] == 3 for shape in ruled),
            rho_time=sum(shape[3] == 3 for shape in ruled),
            width=stem[0],
            frequency_aware=first[1] == stem[0] + 1,
        )
        net = config.build(bands=1, tags=head[0])
        places = [index for index, block in enumerate(net.blocks) if isinstance(block, ResidualBlock)]
        renamed = {_renamed(key, places): value for key, value in state.items()}
        net.load_state_dict({**net.standardize.state_dict(prefix="standardize."), **renamed})
    except (RuntimeError, BadConfig) as error:
        raise BadModel(f"the published weights do not fit a CP-ResNet of their own shapes: {error}") from error
    return net


def _renamed(key: str, places: list[int]) -> str:
    """Our name for a tensor of the published code."""
    key = key.replace("in_c.", "stem.").replace("feed_forward.", "head.")
    return re.sub(
        r"^stage([1-3])\.block([1-4])", lambda found: f"blocks.{places[4 * int(found[1]) + int(found[2]) - 5]}", key
    )
