"""Samples become the outline of a waveform.

In: blocks of samples, in order. Out: the peak of each short span, all spans equally long however the blocks were cut.
Knows nothing of: files, mels, or how an outline is drawn.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

SPANS = 20
"""spans in a second; six hours are 432,000 of them"""


@dataclass(frozen=True, eq=False)
class Envelope:
    """How far a waveform swings, over time."""

    seconds: float
    """how long each span is; the last may end early"""
    peaks: Float32[np.ndarray, "time"]
    """the largest magnitude in each span, in 0 … 1; what overshoots full scale counts as 1"""


class PeakEnvelope:
    """The envelope of samples that go by."""

    def __init__(self, rate: int) -> None:
        """`rate` is that of the samples, in samples per second."""
        self._rate, self._span = rate, max(1, round(rate / SPANS))
        self._rest: Float32[np.ndarray, "_samples"] = np.zeros(0, np.float32)
        self._peaks: list[Float32[np.ndarray, "_time"]] = []

    def push(self, block: Float32[np.ndarray, "samples"]) -> None:
        """Take in the next samples, all of them finite."""
        joined = np.concatenate([self._rest, block]) if len(self._rest) else block
        whole = len(joined) - len(joined) % self._span
        self._peaks.append(_peaks(joined[:whole].reshape(-1, self._span)))
        self._rest = joined[whole:].copy()

    def finish(self) -> Envelope:
        """The envelope of all that went by."""
        last = [_peaks(self._rest[None])] if len(self._rest) else []
        return Envelope(self._span / self._rate, np.concatenate([np.zeros(0, np.float32), *self._peaks, *last]))


def _peaks(spans: Float32[np.ndarray, "time samples"]) -> Float32[np.ndarray, "time"]:
    return np.minimum(np.maximum(spans.max(axis=1), -spans.min(axis=1)), np.float32(1))
