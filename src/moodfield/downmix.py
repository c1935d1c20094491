"""Downmix: several channels become one.

In: blocks of samples of several channels. Out: blocks of one channel, and whether two channels cancel each other.
Knows nothing of: files, decoders, resampling.
"""

import math
from collections.abc import Iterator

import numpy as np

from moodfield.decoders import Block, Mono, Samples

OPPOSITE = 0.1
"""share of the energy of two channels that is in their mean, below which they are taken to be of opposite polarity and
are subtracted; the lowest of 24 stereo tracks was 0.57, of any second and a half of them 0.23"""


def is_opposite(decoded: Iterator[Block]) -> bool:
    """Whether two channels are of opposite polarity, so that their mean is a residue.

    Normally the first block with sound denies it; only if it does not, all of them are decoded.
    """
    mean = whole = 0.0
    for _, samples in decoded:
        if samples.shape[1] != 2:
            return False
        mono = mixed(samples, opposite=False)
        with np.errstate(over="ignore", invalid="ignore"):
            mean, whole = mean + float(np.vdot(mono, mono)), whole + float(np.vdot(samples, samples)) / 2
        if not math.isfinite(whole) or mean > 2 * OPPOSITE * whole:
            return False
    return whole > 0 and mean < OPPOSITE * whole


def mixed(samples: Samples, *, opposite: bool) -> Mono:
    """The mean of the channels, or half the difference of two; what overflows becomes infinite and is refused later."""
    first, *others = samples.T
    if not others:
        return np.array(first)
    with np.errstate(over="ignore", invalid="ignore"):
        mono = first - others[0] if opposite else first + others[0]
        for channel in others[1:]:  # several times faster than `mean(axis=1)`, and equal up to seven channels
            mono += channel
        mono /= np.float32(len(others) + 1)
    return mono
