"""CP-ResNet: receptive-field-regularized, optionally frequency-aware and shaken.

In: a config of numbers. Out: a network from clips to logits, and the layers its receptive field follows from.
Knows nothing of: how it is trained, or what the tags mean.
"""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from moodfield.errors import ConfigError, ModelError
from moodfield.nets.blocks import ResidualBlock
from moodfield.nets.configs import CPResNetConfig
from moodfield.nets.regularized import RegularizedNet
from moodfield.receptive_field import POOL, POOLED

BLOCKS = 12
"""residual blocks: three stages of four"""


class CPResNet(RegularizedNet):
    """CP-ResNet: a stem, twelve residual blocks, and one map per tag whose mean is the logit.

    With fresh weights all blocks are the identity, but for their shortcuts, and all logits are exactly 0.
    """

    def __init__(self, config: CPResNetConfig, *, n_mels: int, n_tags: int) -> None:
        super().__init__(config, n_mels=n_mels)
        self.config = config
        inputs, kernels = config.width, config.kernels
        for index in range(BLOCKS):
            outputs = config.width * 2 ** (index // 4)
            pair = (kernels[2 * index], kernels[2 * index + 1])
            self.blocks.append(
                ResidualBlock(inputs, outputs, pair, frequency_aware=config.frequency_aware, shake=config.shake)
            )
            if 2 * (index + 1) in POOLED:
                self.blocks.append(nn.MaxPool2d(POOL.kernel, POOL.stride))
            inputs = outputs
        self.head = nn.Sequential(nn.Conv2d(inputs, n_tags, 1, bias=False), nn.BatchNorm2d(n_tags))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He's normal distribution for the stem, identity for the blocks, zero for the head."""
        super().reset_parameters()
        for block in self.blocks:
            if isinstance(block, ResidualBlock):
                block.reset_parameters(depth=BLOCKS)


def from_published(checkpoint: Mapping[str, object]) -> CPResNet:
    """The network in a state dict as the authors' published code writes it, or in the dict they wrap it in.

    Width, ρ along both axes and frequency-awareness follow from the shapes of the tensors. Keys map as
    `in_c → stem`, `stage{s}.block{b} → blocks.{n}`, `feed_forward → head`; the standardiser is the identity, and the
    network takes any number of bands and frames from 17 up. Refuses other keys and shapes with `ModelError`.
    """
    inner = checkpoint.get("state_dict", checkpoint)
    items = inner.items() if isinstance(inner, Mapping) else ()
    state = {str(key): value for key, value in items if isinstance(value, Tensor)}
    blocks = [f"stage{n // 4 + 1}.block{n % 4 + 1}" for n in range(BLOCKS)]
    names = ["in_c.0", *(f"{block}.{conv}" for block in blocks for conv in ("conv1", "conv2")), "feed_forward.0"]
    shapes = [tuple(state[f"{name}.weight"].shape) if f"{name}.weight" in state else () for name in names]
    if any(len(shape) != 4 for shape in shapes):
        raise ModelError("these are not weights of a published CP-ResNet: in_c, stage1 … 3 and feed_forward are wanted")
    stem, first, _, *ruled, head = shapes
    try:
        config = CPResNetConfig(
            rho_freq=sum(shape[2] == 3 for shape in ruled),
            rho_time=sum(shape[3] == 3 for shape in ruled),
            width=stem[0],
            frequency_aware=first[1] == stem[0] + 1,
        )
        net = CPResNet(config, n_mels=1, n_tags=head[0])
        places = [index for index, block in enumerate(net.blocks) if isinstance(block, ResidualBlock)]
        renamed = {_renamed(key, places): value for key, value in state.items()}
        net.load_state_dict({**net.standardize.state_dict(prefix="standardize."), **renamed})
    except (RuntimeError, ConfigError) as error:
        raise ModelError(f"the published weights do not fit a CP-ResNet of their own shapes: {error}") from error
    return net


def _renamed(key: str, places: list[int]) -> str:
    """Our name for a tensor of the published code."""
    key = key.replace("in_c.", "stem.").replace("feed_forward.", "head.")
    return re.sub(
        r"^stage([1-3])\.block([1-4])", lambda found: f"blocks.{places[4 * int(found[1]) + int(found[2]) - 5]}", key
    )
