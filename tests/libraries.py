"""Libraries of tracks that no file belongs to, for tests of all that needs no scan."""

import sqlite3
from pathlib import Path

import numpy as np

from moodfield import calibration
from moodfield.decisions import Usual
from moodfield.decoding.metadata import Metadata
from moodfield.library import analysis, database, models, scan
from moodfield.library.scan import FileState
from moodfield.tagger import Tagger
from moodfield.tagging import OverTime, Tagging

TAGS = ("calm", "dark", "energetic", "film", "happy", "slow", "dream", "party")
THEMES = ("film", "party")
REFERENCE = Usual(np.linspace(-4, -2, len(TAGS)), np.linspace(0.8, 1.2, len(TAGS)), 100)
CHANNELS = 6


class StubTagger(Tagger):
    """A tagger without a network; a library stores what decisions need of it."""

    def __init__(self, name: str = "stub", reference: Usual | None = REFERENCE) -> None:
        card = type("Card", (), {"name": name})
        self.name, self.models = name, (type("Model", (), {"card": card}),)
        self.vocabulary, self.theme_vocabulary = TAGS, THEMES
        self.thresholds = calibration.sigmoid(REFERENCE.cuts).astype(np.float32)
        self.priors, self.statistics = None, reference

    @property
    def digest(self) -> str:
        """Another one for every name."""
        return f"digest of {self.name}"


def tagging(seed: int, tagger: StubTagger, evidence: dict[str, float] | None = None) -> Tagging:
    """A track with random scores; evidence against the reference may be set."""
    drawn = np.random.default_rng(seed)
    values = drawn.normal(size=len(TAGS))
    for tag, value in (evidence or {}).items():
        values[TAGS.index(tag)] = value
    scores = calibration.sigmoid(REFERENCE.mean + REFERENCE.std * values).astype(np.float32)
    curves = np.repeat(scores[:, None], 40, axis=1)
    embedding = drawn.normal(size=CHANNELS).astype(np.float32)
    return Tagging(
        f"{seed}", 180.0 + seed % 60, tagger.name, TAGS, THEMES, scores, tagger.thresholds,
        OverTime(np.arange(40, dtype=np.float32), curves), embedding=embedding, statistics=tagger.statistics,
    )  # fmt: skip


def add(
    connection: sqlite3.Connection,
    result: Tagging,
    tagger: StubTagger,
    *,
    path: str = "",
    names: Metadata | None = None,
) -> None:
    """Add a tagged track to a library; with the size and time of its file if there is one."""
    seed = int(result.source)
    names = names or Metadata(f"artist {seed % 7}", f"album {seed % 3}", f"title {seed}", "jazz", 1990 + seed % 20)
    file = Path(path or f"/music/{seed:03}.ogg")
    size, mtime = (file.stat().st_size, file.stat().st_mtime_ns) if file.exists() else (1_000 + seed, seed)
    state = FileState(file, size, mtime)
    number = models.store(connection, tagger)
    with database.transaction(connection):
        scan.store(connection, state, number, analysis.from_tagging(result, bytes([seed % 256]) * 32, names))


def make(path: Path, count: int = 60, tagger: StubTagger | None = None) -> list[Tagging]:
    """A library of so many tracks, and their taggings."""
    tagger = tagger or StubTagger()
    taggings = [tagging(seed, tagger) for seed in range(count)]
    with database.write(path) as connection:
        for result in taggings:
            add(connection, result, tagger)
    return taggings
