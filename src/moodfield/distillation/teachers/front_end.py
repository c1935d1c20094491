"""The input of the published networks: mel power spectrograms of waveforms, cut into equal chunks."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from moodfield.errors import AudioError

SAMPLE_RATE = 16_000
"""samples per second of the waveforms that every network here takes"""
N_FFT = 512
"""samples per frame"""
HOP_LENGTH = 256
"""samples from one frame to the next"""
N_MELS = 96
"""mel bands"""


class MelPower(nn.Module):
    """Mel power spectrogram of reflected, windowed frames; window and filter bank are part of the weights."""

    window: Float[Tensor, "samples"]
    filterbank: Float[Tensor, "freq bands"]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(N_FFT))
        self.register_buffer("filterbank", torch.zeros(N_FFT // 2 + 1, N_MELS))

    def forward(self, waveforms: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch bands frames"]:
        """Compute the power in every mel band; frame `n` is centred on sample `n * HOP_LENGTH`."""
        with torch.autocast(waveforms.device.type, enabled=False):  # power spans more than bfloat16 resolves
            spectra = torch.stft(
                waveforms.float(), N_FFT, HOP_LENGTH, window=self.window, center=True, pad_mode="reflect",
                return_complex=True,
            )  # fmt: skip
            power = spectra.real.square() + spectra.imag.square()
            return torch.matmul(self.filterbank.T, power)


def n_frames(samples: int) -> int:
    """The number of frames of a number of samples.

    >>> n_frames(48_000)
    188
    """
    return 1 + samples // HOP_LENGTH


def check_length(waveforms: Float[Tensor, "batch samples"], shortest: int) -> None:
    """Raise `AudioError` if waveforms have fewer samples than a network takes."""
    if waveforms.shape[1] < shortest:
        raise AudioError(
            "too-short",
            f"the window has {waveforms.shape[1]} samples, the network takes {shortest} or more: lengthen it",
        )


def chunk_starts(length: int, size: int) -> tuple[int, ...]:
    """Where the fewest chunks that cover a length start: the first at 0, the last ends at the end, evenly spaced.

    >>> chunk_starts(25, 10)
    (0, 8, 15)
    >>> chunk_starts(10, 10)
    (0,)
    """
    count = -(-length // size)
    return tuple(int(i * (length - size) / max(1, count - 1) + 0.5) for i in range(count))


def convolve_bands(
    mels: Float[Tensor, "batch bands frames"], kernels: Float[Tensor, "channels _ _"]
) -> Float[Tensor, "batch freq frames channels"]:
    """Convolve mels with kernels of many bands at every position of the kernel, zero-padded in time.

    Equal to a two-dimensional convolution of one input channel. Here the bands of the kernel are the input channels,
    which processors multiply several times as fast.
    """
    height, width = kernels.shape[1:]
    windows = _cast(mels).unfold(1, height, 1)  # batch positions frames height
    maps = windows.flatten(0, 1).transpose(1, 2).unsqueeze(2).contiguous(memory_format=torch.channels_last)
    maps = F.conv2d(maps, kernels.unsqueeze(2), padding=(0, width // 2))
    return maps.squeeze(2).transpose(1, 2).reshape(*windows.shape[:3], len(kernels))


def convolve_time(
    mels: Float[Tensor, "batch bands frames"], kernels: Float[Tensor, "channels _"]
) -> Float[Tensor, "batch bands frames channels"]:
    """Convolve every band of mels with kernels of many frames, zero-padded as TensorFlow pads even widths.

    Equal to a two-dimensional convolution of one input channel; as a product of matrices it is several times as fast.
    """
    width = kernels.shape[1]
    windows = F.pad(_cast(mels), ((width - 1) // 2, width // 2)).unfold(2, width, 1)
    return F.linear(windows.reshape(-1, width), kernels).reshape(*windows.shape[:3], len(kernels))


def convolve_and_pool(
    convolve: Callable[[Tensor, Tensor], Tensor],
    mels: Float[Tensor, "batch bands frames"],
    kernels: Float[Tensor, "channels ..."],
    bias: Float[Tensor, "channels"] | None,
    norm: nn.BatchNorm1d | nn.BatchNorm2d,
) -> Float[Tensor, "batch channels frames"]:
    """The values from which the norm yields its maximum over the frequencies of a convolution.

    That is the maximum or, for a channel with a negative factor, the minimum. Bias, norm and anything monotonic before
    it then have one frequency to work on, not all of them.
    """
    signs = torch.where(norm.weight < 0, -1.0, 1.0)
    maps = convolve(mels, kernels * signs.view(-1, *(1,) * (kernels.dim() - 1)))
    while (count := maps.shape[1]) > 1:  # by halves: several times as fast as one reduction over this axis
        half = (count + 1) // 2
        maps = torch.maximum(maps[:, :half], maps[:, -half:])  # of an odd count, the middle one is in both halves
    pooled = maps[:, 0] * signs
    return (pooled if bias is None else pooled + bias).transpose(1, 2)


def _cast(mels: Tensor) -> Tensor:
    """Mels in the precision of products, before they are copied many times."""
    return mels.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else mels
