"""The input of the published networks: mel power spectrograms of waveforms, cut into equal chunks."""

import torch
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
