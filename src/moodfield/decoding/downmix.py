"""Downmix of channels to mono, also of two channels with opposite polarity."""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32

from moodfield.decoding.decoders import Block, Mono, Samples

OPPOSITE = 0.1
"""energy of the mean of two channels divided by their mean energy, below which they are considered of opposite polarity
and subtracted; the lowest of 24 stereo tracks was 0.57, of any 1.5 s of them 0.23"""


def may_be_opposite(samples: Samples) -> bool | None:
    """Whether two channels of a block may be of opposite polarity; None if it is silent."""
    mean, whole = _energies(samples)
    if samples.shape[1] == 2 and not whole:
        return None
    return samples.shape[1] == 2 and math.isfinite(whole) and mean < 2 * OPPOSITE * whole


def is_opposite(decoded: Iterator[Block]) -> bool:
    """Whether two channels are of opposite polarity in all blocks."""
    mean = whole = 0.0
    for _, samples in decoded:
        if samples.shape[1] != 2:
            return False
        energies = _energies(samples)
        mean, whole = mean + energies[0], whole + energies[1]
    return math.isfinite(whole) and mean < OPPOSITE * whole


def _energies(samples: Samples) -> tuple[float, float]:
    """The energy of the mean of the channels, and the mean energy of the channels."""
    with np.errstate(over="ignore", invalid="ignore"):
        mono = mix(samples, opposite=False)
        return float(np.vdot(mono, mono)), float(np.vdot(samples, samples)) / samples.shape[1]


def mix(samples: Samples, *, opposite: bool, out: Float32[np.ndarray, "_"] | None = None) -> Mono:
    """The mean of the channels, or half the difference of two of opposite polarity; overflow becomes infinite.

    Written to `out` if it is long enough.
    """
    first, *others = samples.T
    mono = np.empty(len(samples), np.float32) if out is None or len(out) < len(samples) else out[: len(samples)]
    if not others:
        mono[:] = first
        return mono
    with np.errstate(over="ignore", invalid="ignore"):
        (np.subtract if opposite else np.add)(first, others[0], out=mono)
        for channel in others[1:]:  # several times faster than `mean(axis=1)`, and equal for up to seven channels
            mono += channel
        mono /= np.float32(len(others) + 1)
    return mono
