"""Won's FCN, CRNN and Musicnn for MTG-Jamendo's 50 most frequent tags (Won et al., 2020).

The weights contain window and filter bank of the mel. Module names are those of the published state dicts.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moodfield import errors
from moodfield.distillation.teachers import front_end, weights

Waveforms = Float[Tensor, "batch samples"]
Logits = Float[Tensor, "batch tags"]

VOCABULARY: tuple[str, ...] = (
    "genre---alternative", "genre---ambient", "genre---atmospheric", "genre---chillout", "genre---classical",
    "genre---dance", "genre---downtempo", "genre---easylistening", "genre---electronic", "genre---experimental",
    "genre---folk", "genre---funk", "genre---hiphop", "genre---house", "genre---indie", "genre---instrumentalpop",
    "genre---jazz", "genre---lounge", "genre---metal", "genre---newage", "genre---orchestral", "genre---pop",
    "genre---popfolk", "genre---poprock", "genre---reggae", "genre---rock", "genre---soundtrack", "genre---techno",
    "genre---trance", "genre---triphop", "genre---world", "instrument---acousticguitar", "instrument---bass",
    "instrument---computer", "instrument---drummachine", "instrument---drums", "instrument---electricguitar",
    "instrument---electricpiano", "instrument---guitar", "instrument---keyboard", "instrument---piano",
    "instrument---strings", "instrument---synthesizer", "instrument---violin", "instrument---voice",
    "mood/theme---emotional", "mood/theme---energetic", "mood/theme---film", "mood/theme---happy",
    "mood/theme---relaxing",
)  # fmt: skip
"""the tags of the logits: sorted, since the authors' code numbered them so"""

CHUNK = 3 * front_end.SAMPLE_RATE
"""samples of a chunk of Musicnn"""
MIN_POWER = 1e-10
"""power below which decibels are not computed"""


class Convolution(nn.Module):
    """Convolution, batch norm, maximum over `pool`, ReLU."""

    def __init__(self, conv: nn.Conv1d | nn.Conv2d, pool: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.bn = (nn.BatchNorm1d if isinstance(conv, nn.Conv1d) else nn.BatchNorm2d)(conv.out_channels)
        self.pool = pool

    def forward(self, maps: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Apply the layers; the maximum comes first, since ReLU is monotonic and then has less to do."""
        return torch.relu(self.pool(self.bn(self.conv(maps))))

    def vertical(self, mels: Float[Tensor, "batch bands frames"]) -> Float[Tensor, "batch _ frames"]:
        """Apply the layers with a kernel of many bands, and take the maximum over the positions of the kernel."""
        kernels, convolve = self.conv.weight.squeeze(1), front_end.convolve_bands
        pooled = front_end.convolve_and_pool(convolve, mels, kernels, self.conv.bias, self.bn)
        return torch.relu(self.bn(pooled.unsqueeze(2))).squeeze(2)


def _square(inputs: int, outputs: int, pool: tuple[int, int]) -> Convolution:
    return Convolution(nn.Conv2d(inputs, outputs, 3, padding=1), nn.MaxPool2d(pool))


class Decibels(nn.Module):
    """Normalized mel spectrograms in decibels, which all three networks begin with."""

    def __init__(self) -> None:
        super().__init__()
        self.mel = front_end.MelPower()
        self.spec_bn = nn.BatchNorm2d(1)

    def normalized(self, waveforms: Waveforms) -> Float[Tensor, "batch 1 bands frames"]:
        """Compute the input of the convolutions."""
        return self.spec_bn(10 * torch.log10(self.mel(waveforms).clamp(min=MIN_POWER)).unsqueeze(1))


class FCN(Decibels):
    """Five convolutions, which pool 1280 frames to one; several are averaged (Choi et al., 2016)."""

    MIN_SAMPLES = 1279 * front_end.HOP_LENGTH
    """samples of the shortest window"""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = _square(1, 64, (2, 4))
        self.layer2 = _square(64, 128, (2, 4))
        self.layer3 = _square(128, 128, (2, 4))
        self.layer4 = _square(128, 128, (3, 5))
        self.layer5 = _square(128, 64, (4, 4))
        self.dense = nn.Linear(64, len(VOCABULARY))

    def forward(self, waveforms: Waveforms) -> Logits:
        """Compute the logits of windows; raises `AudioError` if they are too short."""
        front_end.check_length(waveforms, self.MIN_SAMPLES)
        maps = self.normalized(waveforms)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4, self.layer5):
            maps = layer(maps)
        return self.dense(maps.mean(dim=(2, 3))).float()


class CRNN(Decibels):
    """Four convolutions, then a recurrent network over steps of 96 frames (Choi et al., 2017)."""

    MIN_SAMPLES = 95 * front_end.HOP_LENGTH
    """samples of the shortest window; the published ones have 29.1 s"""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = _square(1, 64, (2, 2))
        self.layer2 = _square(64, 128, (3, 3))
        self.layer3 = _square(128, 128, (4, 4))
        self.layer4 = _square(128, 128, (4, 4))
        self.layer5 = nn.GRU(128, 32, num_layers=2, batch_first=True)
        self.dense = nn.Linear(32, len(VOCABULARY))

    def forward(self, waveforms: Waveforms) -> Logits:
        """Compute the logits of windows; raises `AudioError` if they are too short."""
        front_end.check_length(waveforms, self.MIN_SAMPLES)
        maps = self.normalized(waveforms)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            maps = layer(maps)
        states, _ = self.layer5(maps.squeeze(2).transpose(1, 2))
        return self.dense(states[:, -1]).float()


class Musicnn(Decibels):
    """Vertical and horizontal filters, then residual convolutions, averaged over chunks of 3 s (Pons et al., 2018)."""

    MIN_SAMPLES = CHUNK
    """samples of the shortest window"""

    def __init__(self) -> None:
        super().__init__()
        vertical = [nn.Conv2d(1, 204, (bands, 7), padding=(0, 3)) for bands in (67, 38)]
        horizontal = [nn.Conv1d(1, 51, frames, padding=frames // 2) for frames in (129, 65, 33)]
        self.layers = nn.ModuleList(
            [Convolution(conv, nn.AdaptiveMaxPool2d((1, None))) for conv in vertical]
            + [Convolution(conv, nn.Identity()) for conv in horizontal]
        )
        self.layer1 = Convolution(nn.Conv1d(561, 64, 7, padding=3), nn.Identity())
        self.layer2 = Convolution(nn.Conv1d(64, 64, 7, padding=3), nn.Identity())
        self.layer3 = Convolution(nn.Conv1d(64, 64, 7, padding=3), nn.Identity())
        self.dense1 = nn.Linear(2 * (561 + 3 * 64), 200)
        self.bn = nn.BatchNorm1d(200)
        self.dense2 = nn.Linear(200, len(VOCABULARY))

    def forward(self, waveforms: Waveforms) -> Logits:
        """Compute the mean logits of a window's chunks; raises `AudioError` if windows are too short."""
        front_end.check_length(waveforms, self.MIN_SAMPLES)
        starts = front_end.chunk_starts(waveforms.shape[1], CHUNK)
        return torch.stack([self.chunk_logits(waveforms[:, start : start + CHUNK]) for start in starts]).mean(dim=0)

    def chunk_logits(self, chunks: Waveforms) -> Logits:
        """Compute the logits of chunks of 3 s."""
        mels = self.normalized(chunks).squeeze(1)
        layers = [layer for layer in self.layers if isinstance(layer, Convolution)]
        front = [layer.vertical(mels) for layer in layers[:2]]
        front += [layer(mels.mean(dim=1, keepdim=True)) for layer in layers[2:]]
        maps = torch.cat(front, dim=1)
        first = self.layer1(maps)
        second = self.layer2(first) + first
        third = self.layer3(second) + second
        maps = torch.cat([maps, first, second, third], dim=1)
        pooled = torch.cat([maps.amax(dim=2), maps.mean(dim=2)], dim=1)
        return self.dense2(torch.relu(self.bn(self.dense1(pooled)))).float()


NETWORKS: dict[str, type[FCN] | type[CRNN] | type[Musicnn]] = {"fcn": FCN, "crnn": CRNN, "musicnn": Musicnn}
"""the networks by their published names"""
PUBLISHED = {"mel.window": "spec.spectrogram.window", "mel.filterbank": "spec.mel_scale.fb"}
"""published names of tensors that have another name here"""


def load(path: str | Path, kind: str) -> FCN | CRNN | Musicnn:
    """Load a published network; loading runs no code from the file.

    Returns:
        The network in evaluation mode. It takes waveforms at 16 kHz and returns logits of `VOCABULARY`.

    Raises:
        UnknownNameError: There is no such kind.
        ModelError: The file is missing, damaged, or contains other tensors.
    """
    net = errors.get_or_suggest(NETWORKS, kind, what="network")()
    tensors = weights.read_state_dict(path)
    weights.fit(net, tensors, lambda name: PUBLISHED.get(name, name), what=f"{path} is not Won's {kind}")
    return net.eval()
