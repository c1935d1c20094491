"""MSD_musicnn: 50 last.fm tags of the Million Song Dataset, and an embedding (Pons and Serra, 2019).

Published are the tensors of a TensorFlow checkpoint; loading brings them to torch's layout.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moodfield import mel
from moodfield.distillation.teachers import front_end, weights
from moodfield.mel import MelConfig

VOCABULARY: tuple[str, ...] = (
    "rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s", "alternative rock", "jazz",
    "beautiful", "metal", "chillout", "male vocalists", "classic rock", "soul", "indie rock", "Mellow", "electronica",
    "80s", "folk", "90s", "chill", "instrumental", "punk", "oldies", "blues", "hard rock", "ambient", "acoustic",
    "experimental", "female vocalist", "guitar", "Hip-Hop", "70s", "party", "country", "easy listening", "sexy",
    "catchy", "funk", "electro", "heavy metal", "Progressive rock", "60s", "rnb", "indie pop", "sad", "House", "happy",
)  # fmt: skip
"""the tags of the logits, in the published order"""
EMBEDDING = 200
"""numbers of the embedding, which follow the logits: the hidden linear layer, before its ReLU"""
PATCH = 187
"""frames of a patch, 3 s"""
VERTICAL = (38, 67)
"""bands of the vertical filters"""
HORIZONTAL = (128, 64, 32)
"""frames of the horizontal filters"""
PATCH_SECONDS = (PATCH - 1) * front_end.HOP_LENGTH / front_end.SAMPLE_RATE
"""length of a window that is one patch: frames are centred on its first and its last sample"""
EPSILON = 1e-3
"""of every batch norm, as in TensorFlow"""
MEL = MelConfig(
    sample_rate=front_end.SAMPLE_RATE, n_fft=front_end.N_FFT, hop_length=front_end.HOP_LENGTH, n_mels=front_end.N_MELS,
    kind="plain",
)  # fmt: skip
"""the mel whose filter bank the network takes, which is librosa's"""

Patches = Float[Tensor, "batch frames bands"]
Mels = Float[Tensor, "batch bands frames"]
Outputs = Float[Tensor, "batch _"]


class Convolution(nn.Module):
    """Convolution, ReLU, batch norm."""

    def __init__(self, conv: nn.Conv1d | nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.bn = (nn.BatchNorm1d if isinstance(conv, nn.Conv1d) else nn.BatchNorm2d)(conv.out_channels, eps=EPSILON)

    def forward(self, maps: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Apply the layers."""
        return self.bn(torch.relu(self.conv(maps)))

    def vertical(self, mels: Mels) -> Float[Tensor, "batch _ frames"]:
        """Apply the layers with a kernel of many bands, and take the maximum over the positions of the kernel."""
        return self._pool(mels, front_end.convolve_bands, self.conv.weight.squeeze(1).transpose(1, 2))

    def horizontal(self, mels: Mels) -> Float[Tensor, "batch _ frames"]:
        """Apply the layers to every band with a kernel of many frames, and take the maximum over the bands."""
        return self._pool(mels, front_end.convolve_time, self.conv.weight.flatten(1))

    def _pool(
        self, mels: Mels, convolve: Callable[[Tensor, Tensor], Tensor], kernels: Tensor
    ) -> Float[Tensor, "batch _ frames"]:
        pooled = front_end.convolve_and_pool(convolve, mels, kernels, self.conv.bias, self.bn)
        return self.bn(torch.relu(pooled).unsqueeze(2)).squeeze(2)


class MSDMusicnn(nn.Module):
    """Vertical and horizontal filters, residual convolutions, and two linear layers on their maxima and means."""

    def __init__(self) -> None:
        super().__init__()
        self.mel = front_end.MelPower()
        self.mel.filterbank.copy_(torch.tensor(mel.filterbank(MEL).T))
        self.bn = nn.BatchNorm2d(1, eps=EPSILON)
        vertical = [Convolution(nn.Conv2d(1, 204, (7, bands), padding=(3, 0))) for bands in VERTICAL]
        horizontal = [Convolution(nn.Conv2d(1, 51, (frames, 1))) for frames in HORIZONTAL]
        middle = [Convolution(nn.Conv1d(inputs, 64, 7, padding=3)) for inputs in (561, 64, 64)]
        self.layers = nn.ModuleList([*vertical, *horizontal, *middle])
        self.pooled_bn = nn.BatchNorm1d(2 * (561 + 3 * 64), eps=EPSILON)
        self.dense = nn.Linear(2 * (561 + 3 * 64), EMBEDDING)
        self.dense_bn = nn.BatchNorm1d(EMBEDDING, eps=EPSILON)
        self.output = nn.Linear(EMBEDDING, len(VOCABULARY))

    def forward(self, waveforms: Float[Tensor, "batch samples"]) -> Outputs:
        """Compute logits and embedding of windows, the means over their patches.

        Raises:
            AudioError: The windows are shorter than a patch.
        """
        front_end.check_length(waveforms, (PATCH - 1) * front_end.HOP_LENGTH)
        mels = torch.log10(10_000 * self.mel(waveforms) + 1).transpose(1, 2)
        starts = front_end.chunk_starts(mels.shape[1], PATCH)
        return torch.stack([self.forward_patches(mels[:, start : start + PATCH]) for start in starts]).mean(dim=0)

    def forward_patches(self, patches: Patches) -> Outputs:
        """Compute logits and embedding of patches of log10(10000 · mel + 1)."""
        mels = self.bn(patches.unsqueeze(1)).squeeze(1).transpose(1, 2)
        layers = [layer for layer in self.layers if isinstance(layer, Convolution)]
        front = [layer.vertical(mels) for layer in layers[:2]] + [layer.horizontal(mels) for layer in layers[2:5]]
        maps = torch.cat(front, dim=1)
        first = self.layers[5](maps)
        second = self.layers[6](first) + first
        third = self.layers[7](second) + second
        maps = torch.cat([maps, first, second, third], dim=1)
        pooled = torch.stack([maps.amax(dim=2), maps.mean(dim=2)], dim=2).flatten(1)
        embedding = self.dense(self.pooled_bn(pooled))
        return torch.cat([self.output(self.dense_bn(torch.relu(embedding))), embedding], dim=1).float()


def load(path: str | Path) -> MSDMusicnn:
    """Load the published network.

    Returns:
        The network in evaluation mode. It takes waveforms at 16 kHz and returns 50 logits, then the embedding.

    Raises:
        ModelError: The file is missing, damaged, or contains other tensors.
    """
    net = MSDMusicnn()
    tensors = {name: _torch_layout(name, tensor) for name, tensor in weights.read_safetensors(path).items()}
    tensors |= dict(net.mel.named_buffers(prefix="mel"))  # computed, not published
    weights.fit(net, tensors, _published, what=f"{path} is not MSD_musicnn (kernels in torch's layout)")
    return net.eval()


def _torch_layout(name: str, tensor: Tensor) -> Tensor:
    """TensorFlow has the outputs last, and one-dimensional kernels with a third axis."""
    if not name.endswith("/kernel"):
        return tensor
    if tensor.dim() == 2:
        return tensor.T
    if tensor.dim() == 4 and tensor.shape[2] == 1 and tensor.shape[1] in (561, 64):
        return tensor.squeeze(2).permute(2, 1, 0)
    return tensor.permute(3, 2, 0, 1) if tensor.dim() == 4 else tensor


def _published(name: str) -> str:
    """The published name of a tensor: layers are numbered as they were created, number 0 is not written."""
    module, _, kind = name.rpartition(".")
    if module == "mel":
        return name
    layer = int(module.split(".")[1]) if module.startswith("layers.") else 0
    numbers = {"bn": 0, "pooled_bn": 9, "dense_bn": 10, "dense": 0, "output": 1}
    if module.endswith("bn"):
        base, number = "batch_normalization", layer + 1 if module.startswith("layers.") else numbers[module]
        kinds = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    else:
        base, number = ("conv2d", layer) if module.startswith("layers.") else ("dense", numbers[module])
        kinds = {"weight": "kernel", "bias": "bias"}
    return f"{base}{f'_{number}' if number else ''}/{kinds[kind]}"
