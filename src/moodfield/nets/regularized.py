"""What networks with a regularized receptive field share: stem, pooling of logits, initialisation."""

from copy import deepcopy

from jaxtyping import Float
from torch import Tensor, nn

from moodfield.nets import blocks
from moodfield.nets.blocks import Mels, Net
from moodfield.nets.configs import RegularizedConfig
from moodfield.receptive_field import STEM


class RegularizedNet(Net):
    """Stem, blocks, and a head that gives one map per tag, whose mean is the logit."""

    head: nn.Sequential
    """from the last channels to tags; ends with a 1 × 1 convolution and a batch norm"""

    def __init__(self, config: RegularizedConfig, *, n_mels: int) -> None:
        super().__init__(config, n_mels=n_mels)
        self.stem = blocks.stem(config.width, STEM)
        self.blocks = nn.Sequential()

    def frame_logits(self, mels: Mels) -> Float[Tensor, "batch tags time"]:
        """Logits every 16 frames: the mean of the last map over frequency."""
        maps = self.forward_blocks(self.stem(self.standardize(mels)))
        return blocks.at_least_float32(self.head(maps)).mean(dim=2)

    @property
    def output_layer(self) -> nn.Module:
        """The last convolution and batch norm."""
        return self.head[-2:]

    @property
    def embedding_size(self) -> int:
        """Channels of the embedding: those of the last feature map."""
        return self._last_conv.in_channels

    @property
    def n_outputs(self) -> int:
        """Number of logits."""
        return self._last_conv.out_channels

    @property
    def _last_conv(self) -> nn.Conv2d:
        *_, conv, _ = self.head
        assert isinstance(conv, nn.Conv2d)
        return conv

    def forward_features(self, mels: Mels) -> Float[Tensor, "batch channels time"]:
        """The last feature map every 16 frames, mean over frequency: the embedding over time."""
        maps = self.head[:-2](self.forward_blocks(self.stem(self.standardize(mels))))
        return blocks.at_least_float32(maps).mean(dim=2)

    def forward_head(self, features: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch tags time"]:
        """Logits every 16 frames: in evaluation, the rest of the head commutes with the mean over frequency."""
        return blocks.apply_in_float32(self.output_layer, features.unsqueeze(2)).squeeze(2)

    def reset_parameters(self) -> None:
        """He's normal distribution for the stem, zero for the head: fresh logits are exactly 0."""
        nn.init.kaiming_normal_(self.stem.get_parameter("0.weight"), mode="fan_in", nonlinearity="relu")
        nn.init.zeros_(self._last_conv.weight)


def without_auxiliary(net: Net, n_tags: int) -> Net:
    """The network, or if it has more outputs, a copy with the first ones alone: those after the tags are auxiliary."""
    if not isinstance(net, RegularizedNet) or net.n_outputs == n_tags:
        return net
    copy = deepcopy(net)
    layers = nn.Conv2d(net.embedding_size, n_tags, 1, bias=False), nn.BatchNorm2d(n_tags)
    *before, conv, norm = copy.head
    for old, new in zip((conv, norm), layers, strict=True):
        state = old.state_dict().items()
        new.load_state_dict({name: value[:n_tags] if value.dim() else value for name, value in state})
        new.to(next(old.parameters()))
    copy.head = nn.Sequential(*before, *layers)
    return copy
