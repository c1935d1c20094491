"""What a network costs, and how much of the music it sees.

In: a network's numbers, and the mel it is for. Out: parameters, work, and receptive field, in theory and in effect.
Knows nothing of: how a network is trained, or how any of this is drawn.

In theory a cell of the map sees all that its layers reach. In effect most of that hardly changes it: the effective
field is where the gradient of the cell lies (Luo et al., 2016).
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
"""seconds of music whose work is counted"""
AROUND_HZ = 1_000
"""where on the frequency axis a field is said in hertz: bands are wider above and, up to here, equally wide below"""
LEAST_SPREAD = 1e-3
"""share of the largest spread that a band without any is given: of some pieces the highest bands are empty"""

Mel = Float32[np.ndarray, "bands frames"]


@dataclass(frozen=True)
class NetworkSummary:
    """What a network costs, and what one cell of its map sees in theory."""

    config: NetConfig
    """the network as numbers"""
    mel: MelConfig
    """the mel it is surveyed on"""
    parameters: int
    """numbers that training changes"""
    gmac: float
    """billions of multiplications with addition for 10 s of music, in evaluation"""
    freq: ReceptiveField
    """what a cell sees along frequency, in bands"""
    time: ReceptiveField
    """what a cell sees along time, in frames; of a network that judges whole tracks, the part that hears"""
    lengths: Lengths
    """what lengths of mel the network takes"""

    @property
    def hertz(self) -> tuple[float, float]:
        """Lowest and highest frequency of a field around 1 kHz, the edges of its bands included."""
        return _hertz(self.mel, self.freq.size + 1)

    @property
    def seconds(self) -> float:
        """How long a field lasts, the window of its frames included; at most what a network of fixed length takes."""
        frames = min(self.time.size, self.lengths.frames) if isinstance(self.lengths, FixedLength) else self.time.size
        return self._seconds(frames)

    @property
    def stride_hertz(self) -> float:
        """From one cell of the map to the next, around 1 kHz."""
        low, high = _hertz(self.mel, self.freq.stride)
        return high - low

    @property
    def stride_seconds(self) -> float:
        """From one cell of the map to the next; of a network of fixed length, from one window to the next."""
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

    def to_words(self) -> dict[str, str]:
        """What it says, for people: of each thing a word, and a sentence or less."""
        (low, high), made = self.hertz, self.mel
        numbers = {name: value for name, value in asdict(self.config).items() if name != "family"}
        beyond = f" (the mel has {made.n_mels})" if self.freq.size > made.n_mels else ""
        later = ""
        if isinstance(self.lengths, FixedLength):
            later = f" (a window has {self.lengths.frames})" if self.time.size > self.lengths.frames else ""
        elif isinstance(self.lengths, WholeTrack):
            later = ", before a second part that hears the whole track"
        rows = receptive_field.output_size(self.config.layers("freq"), made.n_mels)
        return {
            "numbers": ", ".join(f"{name} {value}" for name, value in numbers.items()),
            "mel": f"{made.kind}, {made.n_mels} bands, {made.sample_rate} Hz, FFT {made.n_fft}, hop {made.hop_length}",
            "parameters": f"{self.parameters:,}",
            "work": f"{self.gmac:.2f} GMAC for {SECONDS} s of music",
            "lengths": self._lengths(),
            "one cell sees": f"{self.freq.size} bands{beyond} × {self.time.size} frames{later}",
            "in frequency": f"{hertz(low)} – {hertz(high)}, around {hertz(AROUND_HZ)}"
            + (f"; the next cell is {hertz(self.stride_hertz)} on" if rows > 1 else ""),
            "in time": f"{self.seconds:.2f} s; the next cell is {self.stride_seconds:.2f} s on",
        }

    def _lengths(self) -> str:
        if isinstance(self.lengths, FixedLength):
            return f"windows of {self.lengths.frames} frames ({self._seconds(self.lengths.frames):.2f} s)"
        least = self.lengths.min_frames
        whole = "whole tracks" if isinstance(self.lengths, WholeTrack) else "any"
        return f"{whole}, from {least} frame{'' if least == 1 else 's'} ({self._seconds(least):.2f} s)"

    def _seconds(self, frames: int) -> float:
        return receptive_field.seconds(
            frames, sample_rate=self.mel.sample_rate, n_fft=self.mel.n_fft, hop_length=self.mel.hop_length
        )


@dataclass(frozen=True, eq=False)
class NetworkToPlot:
    """A network to look at."""

    name: str
    """what it is called"""
    net: Net
    """the network"""
    survey: NetworkSummary
    """what it costs, and what it sees in theory"""
    trained: bool
    """whether its weights have learned anything"""


def of(config: NetConfig, made: MelConfig, *, n_tags: int = nets.TAGS) -> NetworkSummary:
    """The survey of a network on a mel of that config; nothing is computed, so it takes a moment for any size.

    Work is counted in every convolution and matrix product, those of recurrent layers too. A network that takes
    windows of a fixed length is counted for one of them, which is then scaled to 10 s. Refuses numbers and bands that
    the network refuses.
    """
    with FakeTensorMode(), torch.no_grad():  # not on the device `meta`, which knows no autocast
        net = config.build(n_mels=made.n_mels, n_tags=n_tags)
        net.eval()
        lengths = net.lengths
        music = mel.n_frames(SECONDS * made.sample_rate, made)
        frames = lengths.frames if isinstance(lengths, FixedLength) else max(music, lengths.min_frames)
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(1, made.n_mels, frames))
    return NetworkSummary(
        config=config,
        mel=made,
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        gmac=counter.get_total_flops() / 2e9 * music / frames,
        freq=receptive_field.compute(config.layers("freq")),
        time=receptive_field.compute(config.layers("time")),
        lengths=lengths,
    )


def registered(name: str) -> NetworkSummary:
    """The survey of a network of the registry, on the mel that suits it."""
    config = errors.get_or_suggest(nets.NETS, name, what="network")
    return of(config, suitable(config))


def suitable(config: NetConfig) -> MelConfig:
    """The mel a network is usually for: the organisers' baseline has its own, all others the paper's (§2.1)."""
    if isinstance(config, VGGConfig):
        return mel.ORGANISERS
    return MelConfig()


def fresh(name: str, changes: Mapping[str, int]) -> NetworkToPlot:
    """A network of the registry with some of its numbers changed; refuses what `nets.configure` refuses."""
    config = nets.configure(name, changes)
    made = suitable(config)
    net: Net = config.build(n_mels=made.n_mels, n_tags=nets.TAGS)
    return NetworkToPlot(name, net, of(config, made), trained=False)


def trained(
    name: str, stated: Mapping[str, object], weights: Path, made: MelConfig, *, n_tags: int, kind: str | None = None
) -> NetworkToPlot:
    """The network that a model's card states, with the model's weights.

    `kind` is a network of the registry whose family it is to be of. Refuses with `ModelError` other families, and files
    that do not hold such weights.
    """
    config = nets.from_dict(stated)
    if kind and errors.get_or_suggest(nets.NETS, kind, what="network").family != config.family:
        raise ModelError(f"{name!r} is a {config.family}, not a {kind}: it is {config}; leave {kind} out")
    net: Net = config.build(n_mels=made.n_mels, n_tags=n_tags)
    try:
        net.load_state_dict(safetensors.torch.load_file(weights))
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise ModelError(f"{weights} does not hold the weights of {config}: {error}; export the model again") from error
    return NetworkToPlot(name, net.eval(), of(config, made, n_tags=n_tags), trained=True)


def cell(config: NetConfig, axis: Axis, cells: int, near: float | int | None = None) -> tuple[int, range]:
    """A cell of the map along one axis, and the bands or frames that it sees, padding beyond the mel included.

    `cells` is how many bands or frames the mel has, `near` one of them; without it, the cell is the middle one.
    """
    layers = config.layers(axis)
    seen, count = receptive_field.compute(layers), receptive_field.output_size(layers, cells)
    index = count // 2
    if near is not None:
        index = min(max(round((near - seen.centre) / seen.stride), 0), count - 1)
    first = seen.start + index * seen.stride
    return index, range(first, first + seen.size)


def excerpts(survey: NetworkSummary, whole: Float32[np.ndarray, "bands _frames"], count: int) -> list[Mel]:
    """Clips spread over a mel, long enough that their middle cell sees music alone; a shorter mel is repeated."""
    lengths = survey.lengths
    if isinstance(lengths, FixedLength):
        size = lengths.frames
    else:
        size = max(lengths.min_frames, survey.time.size + 2 * survey.time.stride)
    starts = np.linspace(0, max(whole.shape[1] - size, 0), count).astype(int)
    return [np.take(whole, (start + np.arange(size)) % whole.shape[1], axis=1) for start in starts]


def drawn(net: Net, mels: Sequence[Mel], generator: np.random.Generator) -> Net:
    """A copy of a fresh network with weights that do something: those of CP-ResNets begin as identity and zeros.

    Every convolution is drawn from He's normal distribution; standardiser and batch norms take the statistics of these
    mels, as in a first step of training.
    """
    copy = deepcopy(net)
    dice = torch.Generator().manual_seed(int(generator.integers(2**63)))
    for module in copy.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=dice)
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
        elif isinstance(module, nn.Dropout):
            module.p = 0.0
    heard = torch.from_numpy(np.stack(mels))
    spread = heard.std(dim=(0, 2))
    copy.standardize.set_statistics(heard.mean(dim=(0, 2)), spread.clamp_min(LEAST_SPREAD * float(spread.max())))
    with torch.no_grad():
        copy.train()(heard)
    return copy.eval()


def effective(
    net: Net, mels: Sequence[Mel], *, row: int | None = None, generator: np.random.Generator | None = None
) -> Mel:
    """How much every cell of a mel counts for one cell of the network's map, in evaluation: a share of 1 in all.

    It is the energy of the gradient of the logits, as far as it comes through the middle cell of the last map (or the
    one in this `row` of it) before that is pooled over frequency (Luo et al., 2016). Every band counts in units of the
    spread that the network standardises it by. It is a mean over mels, all of one shape, and over all tags: the
    gradient of a random mixture of them has the mean energy of all. Of a network that judges whole tracks, what it
    hears stands for the logits. Without a generator the mixtures are always the same.

    Refuses a network through whose middle cell nothing comes, as a fresh CP-ResNet: `drawn` gives it weights.
    """
    drawing = generator or np.random.default_rng(0)
    dice = torch.Generator().manual_seed(int(drawing.integers(2**63)))
    maps: list[Tensor] = []
    *_, block = net.get_submodule("blocks").children()
    hook = block.register_forward_hook(lambda _block, _maps, last: maps.append(last))
    training = net.training
    net.eval()
    energy = torch.zeros(mels[0].shape, dtype=torch.float64)
    try:
        for each in mels:
            gradient = _gradient(net, torch.from_numpy(each), maps, row, dice)
            energy += (gradient.double() * net.standardize.std[:, None]) ** 2
            maps.clear()
    finally:
        hook.remove()
        net.train(training)
    total = float(energy.sum())
    if not 0 < total < np.inf:
        raise ConfigError("no gradient comes through the middle of this network; draw its weights, or train it")
    return (energy / total).float().numpy()


def _gradient(net: Net, heard: Tensor, maps: list[Tensor], row: int | None, dice: torch.Generator) -> Tensor:
    """What a mixture of the logits at the middle step of time gets from a mel through one cell of the last map."""
    heard = heard[None].requires_grad_()
    over_time = net.forward_features(heard)
    logits, last = over_time[..., over_time.shape[2] // 2], maps[-1]
    (whole,) = torch.autograd.grad(logits, last, torch.randn(logits.shape, generator=dice), retain_graph=True)
    here = torch.zeros_like(whole)
    at = (..., last.shape[2] // 2 if row is None else row, last.shape[3] // 2)
    here[at] = whole[at]
    (gradient,) = torch.autograd.grad(last, heard, here)
    return gradient[0]


def hertz(value: float | int) -> str:
    """A frequency for people: `315 Hz`, `1 kHz`, `2.0 kHz`, `22 kHz`."""
    if value < 999.5:
        return f"{value:.0f} Hz"
    return f"{value / 1000:.{0 if value >= 9_950 or value % 1000 == 0 else 1}f} kHz"


def _hertz(made: MelConfig, bands: int) -> tuple[float, float]:
    """The interval that so many steps of the mel's scale make around 1 kHz, within 0 Hz and half the rate."""
    scale = mel.edges_hz(made)
    middle = np.interp(AROUND_HZ, scale, np.arange(len(scale)))
    low, high = np.interp([middle - bands / 2, middle + bands / 2], np.arange(len(scale)), scale)
    return float(low), float(high)
