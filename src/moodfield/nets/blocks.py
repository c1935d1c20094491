"""Shared layers: standardiser, frequency-aware convolution, shake-shake, residual and dense blocks."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from functools import partial
from itertools import chain, pairwise
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.checkpoint import checkpoint

from moodfield import receptive_field
from moodfield.clips import AnyLength, Lengths, WholeTrack
from moodfield.errors import ConfigError
from moodfield.nets.configs import Config
from moodfield.receptive_field import Layer

Mels = Float[Tensor, "batch bands frames"]
Maps = Float[Tensor, "batch _channels freq time"]  # an underscore, since a layer may change the number of channels
AnyMaps = Float[Tensor, "batch _channels _freq _time"]
Kernel = tuple[int, int]
"""rows and columns of a kernel"""
AnyNet = TypeVar("AnyNet", bound="Net")


class Net(nn.Module, ABC):
    """Base class of all networks: clips of mel become logits."""

    lengths: Lengths
    """the lengths of mel that the network takes"""

    standardize: "Standardize"
    """its first layer"""

    recompute: bool = False
    """whether training keeps only the inputs of every block and computes its activations again for the gradients: less
    memory, about a third more work, the same result bit for bit"""

    blocks: nn.Sequential
    """the layers between stem and head"""

    body_frozen: bool = False
    """whether training changes the output layer alone (`freeze_body`)"""

    def __init__(self, config: Config, *, n_mels: int, lengths: type[AnyLength] | type[WholeTrack] = AnyLength) -> None:
        super().__init__()
        along_freq, along_time = config.layers("freq"), config.layers("time")
        if n_mels != 1 and not receptive_field.output_size(along_freq, n_mels):
            least = receptive_field.min_input(along_freq)
            raise ConfigError(f"n_mels is {n_mels}, this network needs at least {least} bands")
        field = receptive_field.compute(along_time)
        self.lengths = lengths(receptive_field.min_input(along_time), field.stride, field.size, field.start)
        self.standardize = Standardize(n_mels)

    @property
    def embedding_size(self) -> int:
        """Channels of the embedding: `forward_features`, whose mean over time describes a track; 0: there is none."""
        return 0

    @property
    def output_layer(self) -> nn.Module:
        """The last layer, with one output per tag; all layers before it are the body."""
        return self.get_submodule("dense")

    @property
    def output_names(self) -> frozenset[str]:
        """Names, in the state dict, of the weights of the output layer."""
        layers = set(self.output_layer.modules())
        return frozenset(
            f"{name}.{key}"
            for name, module in self.named_modules()
            if module in layers
            for key, _ in chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False))
        )

    def freeze_body(self) -> None:
        """Exclude the body from training: its weights and its batch-norm statistics stay, its dropout is off."""
        self.body_frozen, trained = True, self.output_names
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in trained)
        self.train(self.training)

    def train(self: AnyNet, mode: bool = True) -> AnyNet:  # noqa: FBT001, FBT002 - as in torch
        """Set training or evaluation mode; a frozen body is always in evaluation mode."""
        super().train(mode)
        if self.body_frozen:
            for child in self.children():
                child.eval()
            self.output_layer.train(mode)
        return self

    @abstractmethod
    def frame_logits(self, mels: Mels) -> Float[Tensor, "batch tags time"]:
        """Logits at every step of time, before they are pooled over the clip.

        A small receptive field makes them sharp in time.
        """

    @torch.no_grad()
    def init_output_bias(self, mean: Float[Tensor, "tags"], std: Float[Tensor, "tags"]) -> None:
        """Initialise the last layer, so that fresh logits start near their expected values.

        Args:
            mean: expected logit of every tag, the bias of the last layer.
            std: its standard deviation; the scale of a last batch norm, ignored by a last linear layer.
        """
        *_, last = (module for module in self.modules() if isinstance(module, nn.BatchNorm2d | nn.Linear))
        last.bias.copy_(mean)
        if isinstance(last, nn.BatchNorm2d):
            last.weight.copy_(std)

    def forward(self, mels: Mels) -> Float[Tensor, "batch tags"]:
        """Logits of clips: the mean of `frame_logits` over time."""
        return self.frame_logits(mels).mean(dim=-1)

    def forward_features(self, mels: Mels) -> Float[Tensor, "batch _channels time"]:
        """Features of clips over time, in evaluation; by default the logits themselves.

        The features of all clips of a track are concatenated over time.
        """
        return self.frame_logits(mels)

    def forward_head(self, features: Float[Tensor, "batch _channels time"]) -> Float[Tensor, "batch tags _time"]:
        """Logits over time of a whole track, from the features of its clips, in evaluation."""
        return features

    def forward_blocks(self, maps: AnyMaps) -> AnyMaps:
        """The map after all blocks; with `recompute`, activations inside a block are not kept for the gradients."""
        for block in self.blocks:
            if self.recompute and block.training and torch.is_grad_enabled():
                maps = checkpoint(block, maps, use_reentrant=False, context_fn=partial(_checkpoint_contexts, block))
            else:
                maps = block(maps)
        return maps


class Standardize(nn.Module):
    """Scales bands to mean 0 and standard deviation 1 over the training set; both are saved with the weights (§2.1).

    With one band, all bands of the input are scaled by the same numbers.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_mels))
        self.register_buffer("std", torch.ones(n_mels))

    def set_statistics(self, mean: Float[Tensor, "bands"], std: Float[Tensor, "bands"]) -> None:
        """Set mean and standard deviation of every band, in dB.

        Raises:
            ConfigError: a standard deviation is not above 0.
        """
        if not bool((std > 0).all()):
            raise ConfigError("a band is constant in training, its std is not above 0; use fewer bands or more music")
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, mels: Mels) -> Float[Tensor, "batch 1 bands frames"]:
        """The standardised mel, with an axis of channels for the convolutions."""
        if len(self.mean) not in (1, mels.shape[1]):
            raise ConfigError(f"the mel has {mels.shape[1]} bands, the network expects {len(self.mean)}")
        return (mels - self.mean[:, None]).div_(self.std[:, None]).unsqueeze(1)


class FrequencyAwareConv2d(nn.Conv2d):
    """A convolution that also reads its position on the frequency axis (§3.2).

    It equals the convolution of its input with one more channel, `2i/H − 1` in row `i` of `H`, placed last and
    zero-padded like the others. That channel is constant over batch and time, so its contribution is a small map that
    is added to the result instead of concatenated to the input: all middle columns are equal, only the first and the
    last overlap the padding. With groups, every group has the channel.
    """

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, *, groups: int = 1) -> None:
        super().__init__(inputs + groups, outputs, kernel, padding=_same(kernel), groups=groups, bias=False)

    def forward(self, maps: Maps) -> Maps:
        """The convolution of the maps and the channel of positions."""
        padding = _same(self.kernel_size)
        channels, rows = self.weight.shape[1] - 1, self._rows(maps)
        if torch.compiler.is_compiling():  # the plain formula: compilers and exporters fuse it themselves
            result = F.conv2d(maps, self.weight[:, :channels], self.bias, padding=padding, groups=self.groups)
            rows = rows.to(maps).expand(maps.shape[0], 1, *maps.shape[2:])
            return result + F.conv2d(rows, self.weight[:, channels:], padding=padding)
        weight, position = torch.split(self.weight, [channels, 1], dim=1)  # cheaper backwards than two slices
        result = F.conv2d(maps, weight, self.bias, padding=padding, groups=self.groups)
        with torch.autocast(maps.device.type, enabled=False):
            taps = F.conv2d(rows, position.to(rows.dtype), padding=(padding[0], position.shape[3] - 1))
            return _AddPositions.apply(result, taps)  # type: ignore[no-untyped-call]

    def _rows(self, maps: Maps) -> Float[Tensor, "1 1 freq 1"]:
        """One column of the channel of positions."""
        freq = maps.shape[2]
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        return (torch.arange(freq, device=maps.device, dtype=dtype) * (2 / freq) - 1).view(1, 1, freq, 1)


class _AddPositions(torch.autograd.Function):
    """Adds the contribution of the channel of positions in place: the map is read and written once.

    `taps` is the convolution of a single column, so its columns are those of the kernel, last to first. All of them
    count in every column of the map, except in the first and the last, where one falls on the padding.

    A gradient of its own pays: a training step takes 1.1 times that of the network without positions, against 1.4 times
    when torch derives the gradient of the same sum.
    """

    @staticmethod
    def forward(ctx: Any, maps: Maps, taps: Float[Tensor, "1 _channels freq _time"]) -> Maps:
        ctx.mark_dirty(maps)
        ctx.taps, ctx.dtype = taps.shape[3], taps.dtype
        everywhere = taps.sum(dim=3, keepdim=True).to(maps.dtype)
        maps += everywhere.contiguous(memory_format=torch.channels_last)  # the usual layout of the map
        if ctx.taps > 1:
            maps[..., 0] -= taps[..., -1].to(maps.dtype)
            maps[..., -1] -= taps[..., 0].to(maps.dtype)
        return maps

    @staticmethod
    def backward(ctx: Any, gradient: Maps) -> tuple[Maps, Float[Tensor, "1 _channels freq _time"]]:
        columns = gradient.shape[3]
        over_time = F.avg_pool2d(gradient, (1, columns)).to(ctx.dtype).sum(dim=0, keepdim=True) * columns
        taps = over_time.repeat(1, 1, 1, ctx.taps)
        if ctx.taps > 1:
            taps[..., -1] -= gradient[..., 0].to(ctx.dtype).sum(dim=0)
            taps[..., 0] -= gradient[..., -1].to(ctx.dtype).sum(dim=0)
        return gradient, taps


def convolution(inputs: int, outputs: int, kernel: Kernel, *, frequency_aware: bool, groups: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size of its map; without bias, since a batch norm follows or precedes it."""
    if frequency_aware:
        return FrequencyAwareConv2d(inputs, outputs, kernel, groups=groups)
    return nn.Conv2d(inputs, outputs, kernel, padding=_same(kernel), groups=groups, bias=False)


class ShakeShake(torch.autograd.Function):
    """A random mix of two branches, whose gradients are mixed at random again (§3.3).

    Every sample of the batch has a share of its own, and another, independent one in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, first: Maps, second: Maps) -> Maps:
        """The mix; the share of the first branch is uniform in 0 … 1."""
        return torch.lerp(second, first, _random_shares(first))

    @staticmethod
    def backward(ctx: Any, gradient: Maps) -> tuple[Maps, Maps]:
        """The gradients of both branches; their shares add up to 1."""
        first = gradient * _random_shares(gradient)
        return first, gradient - first


def stem(width: int, layer: Layer) -> nn.Sequential:
    """The first convolution with batch norm and ReLU: the standardised mel becomes `width` channels."""
    conv = nn.Conv2d(1, width, layer.kernel, layer.stride, layer.padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut, added, then ReLU; with `shake`, two such branches, mixed.

    The branches are the two halves of one stack of channels, so both are computed in one pass.
    """

    def __init__(
        self, inputs: int, outputs: int, kernels: tuple[Kernel, Kernel], *, frequency_aware: bool, shake: bool = False
    ) -> None:
        super().__init__()
        branches = 2 if shake else 1
        stack = branches * outputs
        self.shake = shake
        self.conv1 = convolution(inputs, stack, kernels[0], frequency_aware=frequency_aware)
        self.bn1 = nn.BatchNorm2d(stack)
        self.conv2 = convolution(stack, stack, kernels[1], frequency_aware=frequency_aware, groups=branches)
        self.bn2 = nn.BatchNorm2d(stack)
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            self.shortcut.add_module("conv", nn.Conv2d(inputs, outputs, 1, bias=False))
            self.shortcut.add_module("bn", nn.BatchNorm2d(outputs))

    def forward(self, maps: Maps) -> Maps:
        """The next map, of the same size."""
        inner = F.relu(self.bn1(self.conv1(maps)), inplace=True)
        residual = self.bn2(self.conv2(inner))
        if self.shake:
            first, second = residual.chunk(2, dim=1)
            residual = _shake(first, second) if self.training else (first + second) / 2
        residual += self.shortcut(maps)
        return F.relu(residual, inplace=True)

    def reset_parameters(self, *, depth: int) -> None:
        """Initialise as the identity: the second convolution is zero, the first is scaled by `depth` (blocks) ** -½."""
        branches = 2 if self.shake else 1
        shortcut = getattr(self.shortcut, "conv", None)
        for conv, stacked, scale in ((self.conv1, branches, depth**-0.5), (shortcut, 1, 1.0)):
            if conv is not None:
                rows, columns = conv.kernel_size
                nn.init.normal_(conv.weight, std=scale * math.sqrt(2 * stacked / (rows * columns * conv.out_channels)))
        nn.init.zeros_(self.conv2.weight)


class DenseLayer(nn.Module):
    """Batch norm, ReLU and convolution, whose result is concatenated to the input."""

    def __init__(self, inputs: int, growth: int, kernel: Kernel, *, frequency_aware: bool) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(inputs)
        self.conv = convolution(inputs, growth, kernel, frequency_aware=frequency_aware)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, maps: Maps) -> Maps:
        """The map with `growth` more channels."""
        return torch.cat([maps, self.conv(F.relu(self.bn(maps), inplace=True))], dim=1)


def _shake(first: Maps, second: Maps) -> Maps:
    return ShakeShake.apply(first, second)  # type: ignore[no-untyped-call]


def at_least_float32(array: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The same numbers in single precision or better."""
    return array.to(torch.promote_types(array.dtype, torch.float32))


def apply_in_float32(layer: nn.Module, array: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Apply a last layer in single precision or better, whatever the layers before it used."""
    with torch.autocast(array.device.type, enabled=False):
        return layer(at_least_float32(array))


def fold_batch_norms(net: AnyNet) -> AnyNet:
    """A copy for evaluation whose batch norms are folded into the convolutions before them: same logits, less work.

    A batch norm that directly follows a convolution in a module is taken to read that convolution alone.
    """
    copy = deepcopy(net)
    copy.eval()
    for parent in copy.modules():
        for (conv_name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
    return copy


def _checkpoint_contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of a block's first pass and of its recomputation."""
    return nullcontext(), _frozen_statistics(block)


@contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    """Recomputation leaves the running statistics of batch norms as they are."""
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm.momentum, norm.get_buffer("num_batches_tracked").clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.get_buffer("num_batches_tracked").copy_(batches)


def _random_shares(maps: Maps) -> Float[Tensor, "batch 1 1 1"]:
    """A random number in 0 … 1 for every sample."""
    return torch.rand(len(maps), 1, 1, 1, device=maps.device, dtype=maps.dtype)


def _same(kernel: tuple[int, ...]) -> tuple[int, int]:
    """Padding that keeps the size of a map, for kernels of 1 and 3."""
    return kernel[0] // 3, kernel[1] // 3
