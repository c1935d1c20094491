"""A model is asked what it was asked when it was made, and should say the same.

In: a model. Out: its logits for a made-up piece of music, and how far they are from those its card remembers.
Knows nothing of: who made the model, or what is done with one that fails.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from moodfield import audio, clips, mel, tagger
from moodfield.audio import Waveform
from moodfield.card import Card
from moodfield.errors import ModelError
from moodfield.tagger import Listener, Member

RATE = 44_100
SECONDS = 30
NEAR = 1e-3
"""logits of another machine may be this far from those remembered: a score of one half may then be .00025 off"""
CHORDS = ((220.0, 277.2, 329.6), (146.8, 174.6, 220.0), (98.0, 123.5, 146.8), (329.6, 415.3, 493.9))
"""Hz; a chord lasts for `CHORD` seconds, and the fourth is followed by the first"""
CHORD = 2.5
BEAT = 0.5
"""seconds from one beat to the next"""


@dataclass(frozen=True)
class Verification:
    """What came of asking a model."""

    card: Card
    """its card, with whose checksums its files agree"""
    max_difference: float
    """largest difference, in logits, between what it says and what it said when it was made"""

    @property
    def passed(self) -> bool:
        """Whether it says what it said."""
        return self.max_difference <= NEAR


def reference_signal() -> Waveform:
    """The made-up piece: chords, a beat, and noise; the same samples on every machine, but for their last bits."""
    numbers = np.arange(RATE * SECONDS)
    seconds = numbers / RATE
    pitches = np.array(CHORDS)[(seconds // CHORD).astype(int) % len(CHORDS)].T
    chord = sum(
        np.sin(2 * np.pi * pitch * seconds * harmonic) / harmonic for pitch in pitches for harmonic in (1, 2, 3)
    )
    since = seconds % BEAT
    beat = np.exp(-30 * since) * np.sin(2 * np.pi * 60 * since)
    # A congruential sequence of whole numbers is noise enough, and is exact; generators of libraries may change.
    noise = (numbers * (numbers + 3) % 65_537 * 40_503 % 65_536) / 32_768 - 1
    swell = 0.55 + 0.45 * np.sin(2 * np.pi * seconds / SECONDS)
    return Waveform((0.04 * swell * chord + 0.25 * beat + 0.02 * noise).astype(np.float32), RATE)


def reference_logits(member: Member) -> Float64[np.ndarray, "tags"]:
    """The logits of a model for the made-up piece, before any calibration."""
    listener, config = Listener(member), member.card.mel
    for piece in mel.stream(partial(audio.blocks, reference_signal(), sample_rate=config.sample_rate), config):
        listener.push(piece)
    return clips.pool(listener.finish()).astype(np.float64)


def check(what: str | Path) -> Verification:
    """Ask a model by name, folder or run; its best network, if it is a run.

    Refuses with `ModelError` files that are not those that its card vouches for, and a card that does not vouch for its
    network or remembers nothing.
    """
    folder = tagger.folder(what)
    [member] = tagger.load(folder, threads=1).members
    remembered = np.array(member.card.reference_logits)
    if unknown := set(member.card.network_files) - set(member.card.sha256):
        raise ModelError(
            f"the card of {folder} has no checksum of {', '.join(sorted(unknown))}; export the model again"
        )
    if not remembered.size:
        raise ModelError(f"the card of {folder} does not remember what its network said; export the model again")
    return Verification(member.card, float(np.abs(reference_logits(member) - remembered).max()))
