"""CP-ResNet: receptive-field-regularized, optionally frequency-aware and with Shake-Shake."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from moodfield.errors import ConfigError, ModelError
from moodfield.nets.blocks import ResidualBlock
from moodfield.nets.configs import CPResNetConfig
from moodfield.nets.regularized import RegularizedNet
from moodfield.receptive_field import POOL, POOL_AFTER

BLOCKS = 12
"""residual blocks: three stages of four"""


class CPResNet(RegularizedNet):
    """Stem, twelve residual blocks, and a head that gives one map per tag, whose mean is the logit.

    With fresh weights all blocks without a convolution in the shortcut are the identity, and all logits are exactly 0.
    """

    def __init__(self, config: CPResNetConfig, *, n_mels: int, n_tags: int) -> None:
        super().__init__(config, n_mels=n_mels)
        self.config = config
        inputs, kernels = config.width, config.kernels
        for index in range(BLOCKS):
            outputs = config.width * 2 ** (index // 4)
            pair = (kernels[2 * index], kernels[2 * index + 1])
            block = ResidualBlock(inputs, outputs, pair, frequency_aware=config.frequency_aware, shake=config.shake)
            self.blocks.append(block)
            if 2 * (index + 1) in POOL_AFTER:
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


def from_published(state_dict: Mapping[str, object]) -> CPResNet:
    """Build the network from a state dict of the authors' published code.

    Width, ρ along both axes and frequency-awareness follow from the shapes of the tensors. Keys map as
    `in_c → stem`, `stage{s}.block{b} → blocks.{n}`, `feed_forward → head`.

    Args:
        state_dict: name → tensor; or a dict with the key `state_dict`, as their checkpoints have it.

    Returns:
        A network whose standardiser is the identity, for any number of bands and frames from 17 up.

    Raises:
        ModelError: other keys or shapes.
    """
    inner = state_dict.get("state_dict", state_dict)
    items = inner.items() if isinstance(inner, Mapping) else ()
    state = {str(key): value for key, value in items if isinstance(value, Tensor)}
    blocks = [f"stage{n // 4 + 1}.block{n % 4 + 1}" for n in range(BLOCKS)]
    names = ["in_c.0", *(f"{block}.{conv}" for block in blocks for conv in ("conv1", "conv2")), "feed_forward.0"]
    shapes = [tuple(state[f"{name}.weight"].shape) if f"{name}.weight" in state else () for name in names]
    if any(len(shape) != 4 for shape in shapes):
        raise ModelError("not the weights of a published CP-ResNet: keys in_c, stage1 … 3, feed_forward are expected")
    stem, first, _, *regularized, head = shapes
    try:
        config = CPResNetConfig(
            rho_freq=sum(shape[2] == 3 for shape in regularized),
            rho_time=sum(shape[3] == 3 for shape in regularized),
            width=stem[0],
            frequency_aware=first[1] == stem[0] + 1,
        )
        net = CPResNet(config, n_mels=1, n_tags=head[0])
        indices = [index for index, block in enumerate(net.blocks) if isinstance(block, ResidualBlock)]
        renamed = {_renamed(key, indices): value for key, value in state.items()}
        net.load_state_dict({**net.standardize.state_dict(prefix="standardize."), **renamed})
    except (RuntimeError, ConfigError) as error:
        raise ModelError(f"the weights do not fit a CP-ResNet of the width and ρ of their shapes: {error}") from error
    return net


def _renamed(key: str, indices: list[int]) -> str:
    """Our name for a tensor of the published code."""
    key = key.replace("in_c.", "stem.").replace("feed_forward.", "head.")
    block = re.compile(r"^stage([1-3])\.block([1-4])")
    return block.sub(lambda match: f"blocks.{indices[4 * int(match[1]) + int(match[2]) - 5]}", key)
