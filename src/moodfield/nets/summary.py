"""Size, operations and receptive field of a network, in theory and in effect.

In theory an output cell depends on everything its layers reach. In effect most of that hardly changes it: the effective
receptive field is the energy of the gradient of the cell (Luo et al., 2016).
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from moodfield import errors, mel, nets, receptive_field
from moodfield.clips import FixedLength, Lengths, WholeTrack
from moodfield.errors import ConfigError, ModelError
from moodfield.mel import MelConfig
from moodfield.nets.blocks import Net
from moodfield.nets.configs import Axis, NetConfig, VGGConfig
from moodfield.receptive_field import ReceptiveField

SECONDS = 10
"""seconds of music that operations are counted for"""
REFERENCE_HZ = 1_000
"""frequency around which a receptive field is given in hertz: below it bands are equally wide, above it wider"""
MIN_STD = 1e-3
"""smallest standard deviation of a band, as a share of the largest: in some music the highest bands are empty"""

Mel = Float32[np.ndarray, "bands frames"]


@dataclass(frozen=True)
class NetworkSummary:
    """Size, operations and theoretical receptive field of a network."""

    config: NetConfig
    """the network"""
    mel: MelConfig
    """the mel of its input"""
    parameters: int
    """number of trainable parameters"""
    gmac: float
    """billions of multiply-accumulate operations for 10 s of music, in evaluation"""
    freq: ReceptiveField
    """receptive field along frequency, in bands"""
    time: ReceptiveField
    """receptive field along time, in frames; of a network that summarises tracks, that of its convolutions"""
    lengths: Lengths
    """the lengths of mel that the network takes"""

    @property
    def hertz(self) -> tuple[float, float]:
        """Lowest and highest frequency of a receptive field around 1 kHz, from edge to edge of its bands."""
        return _hertz(self.mel, self.freq.size + 1)

    @property
    def seconds(self) -> float:
        """Duration of the receptive field with the FFT window; at most a clip, for networks of fixed length."""
        frames = min(self.time.size, self.lengths.frames) if isinstance(self.lengths, FixedLength) else self.time.size
        return receptive_field.seconds(frames, self.mel)

    @property
    def stride_hertz(self) -> float:
        """Distance of neighbouring output cells along frequency, around 1 kHz."""
        low, high = _hertz(self.mel, self.freq.stride)
        return high - low

    @property
    def stride_seconds(self) -> float:
        """Distance of neighbouring output cells along time; of a network of fixed length, that of its clips."""
        frames = self.lengths.stride if isinstance(self.lengths, FixedLength) else self.time.stride
        return frames * self.mel.hop_length / self.mel.sample_rate

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "net": asdict(self.config),
            "mel": asdict(self.mel),
            "parameters": self.parameters,
            "gmac_per_10_s": round(self.gmac, 4),
            "receptive_field": {
                "bands": self.freq.size,
                "frames": self.time.size,
                "hertz_around_1_khz": [round(edge, 1) for edge in self.hertz],
                "seconds": round(self.seconds, 4),
            },
            "stride": {
                "bands": self.freq.stride,
                "frames": self.time.stride,
                "hertz_around_1_khz": round(self.stride_hertz, 1),
                "seconds": round(self.stride_seconds, 4),
            },
            "lengths": asdict(self.lengths),
        }


@dataclass(frozen=True, eq=False)
class NetworkToPlot:
    """A network with its name and summary."""

    name: str
    """name of the network or of its model"""
    net: Net
    """the network"""
    summary: NetworkSummary
    """its size and theoretical receptive field"""
    trained: bool
    """whether its weights are trained"""


def summarize(config: NetConfig, mel_config: MelConfig, *, n_tags: int = nets.TAGS) -> NetworkSummary:
    """Summarise a network without computing anything, so it takes a moment for any size.

    Operations are counted in every convolution and matrix product, those of recurrent layers too. A network that takes
    clips of a fixed length is counted for one of them, scaled to 10 s.

    Args:
        config: the network.
        mel_config: the mel of its input.
        n_tags: number of logits.

    Raises:
        ConfigError: the network cannot take this number of bands.

    Example:
        >>> summary = summarize(nets.configure("cp_resnet", {"rho_freq": 7}), MelConfig())
        >>> summary.parameters, summary.freq.size, round(summary.seconds, 2)
        (3685360, 135, 1.04)
    """
    with FakeTensorMode(), torch.no_grad():  # the device `meta` has no autocast
        net = config.build(n_mels=mel_config.n_mels, n_tags=n_tags)
        net.eval()
        lengths = net.lengths
        ten_seconds = mel.n_frames(SECONDS * mel_config.sample_rate, mel_config)
        frames = lengths.frames if isinstance(lengths, FixedLength) else max(ten_seconds, lengths.min_frames)
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(1, mel_config.n_mels, frames))
    return NetworkSummary(
        config=config,
        mel=mel_config,
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        gmac=counter.get_total_flops() / 2e9 * ten_seconds / frames,
        freq=receptive_field.compute(config.layers("freq")),
        time=receptive_field.compute(config.layers("time")),
        lengths=lengths,
    )


def registered(name: str) -> NetworkSummary:
    """The summary of a network of the registry, on its default mel."""
    config = errors.get_or_suggest(nets.NETS, name, what="network")
    return summarize(config, default_mel(config))


def default_mel(config: NetConfig) -> MelConfig:
    """The mel that a network is usually given: that of the organisers' baseline, or else the paper's (§2.1)."""
    return mel.ORGANISERS if isinstance(config, VGGConfig) else MelConfig()


def untrained(name: str, changes: Mapping[str, object]) -> NetworkToPlot:
    """A network of the registry with some fields of its config replaced; raises what `nets.configure` raises."""
    config = nets.configure(name, changes)
    summary = summarize(config, default_mel(config))
    return NetworkToPlot(name, config.build(n_mels=summary.mel.n_mels, n_tags=nets.TAGS), summary, trained=False)


def trained(
    name: str, config: Mapping[str, object], weights: Path, mel_config: MelConfig, *, n_tags: int,
    kind: str | None = None,
) -> NetworkToPlot:  # fmt: skip
    """The network of a model, with its weights.

    Args:
        name: name of the model.
        config: the plain values of the network's config, as in the model's card.
        weights: a safetensors file.
        mel_config: the mel of the model.
        n_tags: number of tags of the model.
        kind: a network of the registry, of the family that is expected.

    Raises:
        ModelError: another family, or the file does not contain the weights of such a network.
    """
    net_config = nets.from_dict(config)
    if kind and errors.get_or_suggest(nets.NETS, kind, what="network").family != net_config.family:
        raise ModelError(f"{name!r} is a {net_config.family}, not a {kind}: it is {net_config}; leave {kind} out")
    net = net_config.build(n_mels=mel_config.n_mels, n_tags=n_tags)
    try:
        net.load_state_dict(safetensors.torch.load_file(weights))
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise ModelError(f"{weights} has not the weights of {net_config}: {error}; export the model again") from error
    return NetworkToPlot(name, net.eval(), summarize(net_config, mel_config, n_tags=n_tags), trained=True)


def cell(config: NetConfig, axis: Axis, cells: int, near: float | int | None = None) -> tuple[int, range]:
    """One output cell along one axis, and its receptive field.

    Args:
        config: the network.
        axis: frequency or time.
        cells: number of bands or frames of the mel.
        near: the band or frame that the output cell is nearest to; None is the middle cell.

    Returns:
        The index of the output cell, and its bands or frames, including those beyond the mel.
    """
    layers = config.layers(axis)
    field, count = receptive_field.compute(layers), receptive_field.output_size(layers, cells)
    index = count // 2
    if near is not None:
        index = min(max(round((near - field.centre) / field.stride), 0), count - 1)
    first = field.start + index * field.stride
    return index, range(first, first + field.size)


def clips_of(summary: NetworkSummary, track: Float32[np.ndarray, "bands _frames"], count: int) -> list[Mel]:
    """Clips spread over a mel, so long that their middle cell reads no padding; a shorter mel is repeated."""
    lengths = summary.lengths
    if isinstance(lengths, FixedLength):
        size = lengths.frames
    else:
        size = max(lengths.min_frames, summary.time.size + 2 * summary.time.stride)
    starts = np.linspace(0, max(track.shape[1] - size, 0), count).astype(int)
    return [np.take(track, (start + np.arange(size)) % track.shape[1], axis=1) for start in starts]


def with_random_weights(net: Net, mels: Sequence[Mel], generator: np.random.Generator) -> Net:
    """A copy of a network with random weights, since a fresh CP-ResNet starts with identities and zeros.

    Convolutions are drawn from He's normal distribution; standardiser and batch norms take the statistics of these
    mels, as in a first step of training.
    """
    copy = deepcopy(net)
    torch_generator = torch.Generator().manual_seed(int(generator.integers(2**63)))
    for module in copy.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=torch_generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
        elif isinstance(module, nn.Dropout):
            module.p = 0.0
    batch = torch.from_numpy(np.stack(mels))
    std = batch.std(dim=(0, 2))
    copy.standardize.set_statistics(batch.mean(dim=(0, 2)), std.clamp_min(MIN_STD * float(std.max())))
    with torch.no_grad():
        copy.train()(batch)
    return copy.eval()


def effective_field(
    net: Net, mels: Sequence[Mel], *, row: int | None = None, generator: np.random.Generator | None = None
) -> Mel:
    """The effective receptive field of the middle output cell: how much cells of a mel affect it (Luo et al., 2016).

    It is the energy of the gradient of the logits in evaluation, as far as it passes through the middle cell of the
    last map before pooling over frequency. Bands count in units of the standard deviation that the network scales
    them by. It is the mean over mels and over all tags: the gradient of a random mixture of tags has their mean energy.
    For a network that summarises tracks, its features take the place of the logits.

    Args:
        net: a network with weights; of a fresh one, see `with_random_weights`.
        mels: clips of one shape.
        row: the row of the last map instead of the middle one.
        generator: draws the mixtures of tags; None draws the same ones every time.

    Returns:
        A share per band and frame; their sum is 1.

    Raises:
        ConfigError: no gradient passes through the middle cell, as in a fresh CP-ResNet.
    """
    generator = generator or np.random.default_rng(0)
    torch_generator = torch.Generator().manual_seed(int(generator.integers(2**63)))
    maps: list[Tensor] = []
    *_, block = net.get_submodule("blocks").children()
    hook = block.register_forward_hook(lambda _block, _inputs, output: maps.append(output))
    training = net.training
    net.eval()
    energy = torch.zeros(mels[0].shape, dtype=torch.float64)
    try:
        for clip in mels:
            gradient = _gradient(net, torch.from_numpy(clip), maps, row, torch_generator)
            energy += (gradient.double() * net.standardize.std[:, None]) ** 2
            maps.clear()
    finally:
        hook.remove()
        net.train(training)
    total = float(energy.sum())
    if not 0 < total < np.inf:
        raise ConfigError("no gradient passes through the middle of this network; draw its weights, or train it")
    return (energy / total).float().numpy()


def _gradient(net: Net, clip: Tensor, maps: list[Tensor], row: int | None, generator: torch.Generator) -> Tensor:
    """Gradient of a mixture of the logits at the middle step of time, through one cell of the last map."""
    clip = clip[None].requires_grad_()
    features = net.forward_features(clip) if isinstance(net.lengths, WholeTrack) else net.frame_logits(clip)
    logits, last = features[..., features.shape[2] // 2], maps[-1]
    (gradient,) = torch.autograd.grad(logits, last, torch.randn(logits.shape, generator=generator), retain_graph=True)
    masked = torch.zeros_like(gradient)
    cell = (..., last.shape[2] // 2 if row is None else row, last.shape[3] // 2)
    masked[cell] = gradient[cell]
    (gradient,) = torch.autograd.grad(last, clip, masked)
    return gradient[0]


def format_hertz(value: float | int) -> str:
    """A frequency as text.

    Example:
        >>> [format_hertz(value) for value in (314.6, 1000, 2026, 22050)]
        ['315 Hz', '1 kHz', '2.0 kHz', '22 kHz']
    """
    if value < 999.5:
        return f"{value:.0f} Hz"
    return f"{value / 1000:.{0 if value >= 9_950 or value % 1000 == 0 else 1}f} kHz"


def _hertz(mel_config: MelConfig, bands: int) -> tuple[float, float]:
    """Lowest and highest frequency of an interval of mel bands around 1 kHz, within 0 Hz and half the sample rate."""
    scale = mel.edges_hz(mel_config)
    middle = np.interp(REFERENCE_HZ, scale, np.arange(len(scale)))
    low, high = np.interp([middle - bands / 2, middle + bands / 2], np.arange(len(scale)), scale)
    return float(low), float(high)
