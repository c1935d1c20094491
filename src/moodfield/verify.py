"""Check that a model still gives the logits recorded at export, for a synthetic reference signal."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from moodfield import audio, clips, mel, tagger
from moodfield.audio import Waveform
from moodfield.card import Card
from moodfield.errors import ModelError
from moodfield.predictor import LoadedModel, TrackPredictor

SAMPLE_RATE = 44_100
SECONDS = 30
TOLERANCE = 1e-3
"""largest accepted difference of logits between machines; a score of one half then changes by at most 0.00025"""
CHORDS = ((220.0, 277.2, 329.6), (146.8, 174.6, 220.0), (98.0, 123.5, 146.8), (329.6, 415.3, 493.9))
"""Hz; the chords follow each other every `CHORD_SECONDS`, and repeat"""
CHORD_SECONDS = 2.5
BEAT_SECONDS = 0.5


@dataclass(frozen=True)
class Verification:
    """Result of verifying a model."""

    card: Card
    """card of the model, whose checksums are right"""
    max_difference: float
    """largest difference of a logit from the recorded one"""

    @property
    def passed(self) -> bool:
        """Whether all logits are within the tolerance."""
        return self.max_difference <= TOLERANCE


def reference_signal() -> Waveform:
    """The synthetic signal: chords, a beat, and noise; the same on every machine up to rounding."""
    numbers = np.arange(SAMPLE_RATE * SECONDS)
    seconds = numbers / SAMPLE_RATE
    pitches = np.array(CHORDS)[(seconds // CHORD_SECONDS).astype(int) % len(CHORDS)].T
    chord = sum(np.sin(2 * np.pi * hz * seconds * harmonic) / harmonic for hz in pitches for harmonic in (1, 2, 3))
    since_beat = seconds % BEAT_SECONDS
    beat = np.exp(-30 * since_beat) * np.sin(2 * np.pi * 60 * since_beat)
    # A congruential sequence of integers is exact; random generators of libraries may change.
    noise = (numbers * (numbers + 3) % 65_537 * 40_503 % 65_536) / 32_768 - 1
    gain = 0.55 + 0.45 * np.sin(2 * np.pi * seconds / SECONDS)
    return Waveform((0.04 * gain * chord + 0.25 * beat + 0.02 * noise).astype(np.float32), SAMPLE_RATE)


def reference_logits(model: LoadedModel) -> Float64[np.ndarray, "tags"]:
    """Track logits of a model for the reference signal, before any calibration."""
    config = model.card.mel
    blocks = mel.stream(partial(audio.blocks, reference_signal(), sample_rate=config.sample_rate), config)
    return clips.pool(TrackPredictor(model).predict(blocks).logits).astype(np.float64)


def check(model: str | Path) -> Verification:
    """Verify a model given by name, folder or run (its best model).

    Raises:
        ModelError: A file has another checksum than its card lists, or the card lists no checksum of the network or
            no reference logits.
    """
    folder = tagger.model_folder(model)
    [loaded] = tagger.load(folder, threads=1).models
    expected = np.array(loaded.card.reference_logits)
    if missing := set(loaded.card.network_files) - set(loaded.card.sha256):
        raise ModelError(f"the card of {folder} has no checksum of {', '.join(sorted(missing))}; export it again")
    if not expected.size:
        raise ModelError(f"the card of {folder} has no reference logits; export the model again")
    return Verification(loaded.card, float(np.abs(reference_logits(loaded) - expected).max()))
