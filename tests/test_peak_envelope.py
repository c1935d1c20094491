"""The outline of a waveform is the same however its samples come."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodfield.audio import SPANS_PER_SECOND, Envelope, PeakEnvelope


def outlined(samples: np.ndarray, rate: int, cuts: list[int]) -> Envelope:
    outline = PeakEnvelope(rate)
    for block in np.split(samples, sorted(cuts)):
        outline.push(block)
    return outline.finish()


@given(st.integers(0, 3_000), st.lists(st.integers(0, 3_000), max_size=6), st.sampled_from([7, 1_000, 1_010]))
def test_every_span_has_its_peak_however_the_blocks_are_cut(length: int, cuts: list[int], rate: int) -> None:
    samples = np.random.default_rng(length).uniform(-1.3, 1.3, length).astype(np.float32)
    envelope = outlined(samples, rate, [min(cut, length) for cut in cuts])
    span = max(1, round(rate / SPANS_PER_SECOND))
    assert envelope.seconds == span / rate
    wanted = [min(1.0, max(abs(samples[start : start + span]))) for start in range(0, length, span)]
    assert envelope.peaks.tolist() == wanted
    assert envelope.peaks.dtype == np.float32


def test_both_directions_count() -> None:
    samples = np.zeros(2_000, np.float32)
    samples[10], samples[1_990] = -0.5, 0.25
    peaks = outlined(samples, 1_000, [11, 900]).peaks
    assert (peaks[0], peaks[-1], np.count_nonzero(peaks)) == (pytest.approx(0.5), pytest.approx(0.25), 2)
