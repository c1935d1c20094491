"""Made-up taggings for tests of reports, and reports of them."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from moodfield.audio import Envelope
from moodfield.report import page, track
from moodfield.tagging import OverTime, Tagging
from moodfield.tags import MOODS_AND_THEMES, THEMES

HOSTILE = "/music/</script><script>alert('1')</script><!-- \"q\" & \udcff\x00\u202e\u2028.mp3"
THRESHOLDS = np.sort(np.random.default_rng(0).uniform(0.02, 0.3, 56)).astype(np.float32)


def make_tagging(
    source: str = "/music/album/Song.ogg", *, steps: int = 400, duration: float = 224.0, seed: int = 0
) -> Tagging:
    """A track with all 56 tags, some of them decided, whose scores wander."""
    rng = np.random.default_rng(seed)
    logits = np.cumsum(rng.normal(size=(56, steps)), axis=1) / np.sqrt(steps) + rng.normal(-3, 1, size=(56, 1))
    scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    count = int(np.ceil(duration * 20))
    return Tagging(
        source=source,
        duration=duration,
        model="a model",
        vocabulary=MOODS_AND_THEMES,
        theme_vocabulary=tuple(tag for tag in MOODS_AND_THEMES if tag in THEMES),
        scores=scores.mean(axis=1),
        thresholds=THRESHOLDS,
        over_time=OverTime(((np.arange(steps) + 0.5) * duration / steps).astype(np.float32), scores),
        envelope=Envelope(0.05, rng.uniform(size=count).astype(np.float32)),
    )


def make_taggings(count: int, *, steps: int = 4) -> list[Tagging]:
    """Tracks 0 … count - 1."""
    return [make_tagging(f"/music/{n % 7}/Track {n}.ogg", seed=n, steps=steps, duration=60.0 + n) for n in range(count)]


def small(scores: list[float], thresholds: list[float], over_time: list[list[float]]) -> Tagging:
    """A track of a minute with as many tags as there are scores, called a, b, c and so on; a is a theme."""
    steps = len(over_time[0])
    tags = tuple("abcdefgh"[: len(scores)])
    seconds = ((np.arange(steps) + 0.5) * 60 / steps).astype(np.float32)
    score, threshold, series = (np.array(values, np.float32) for values in (scores, thresholds, over_time))
    return Tagging("a.wav", 60.0, "m", tags, tags[:1], score, threshold, OverTime(seconds, series))


def with_threshold(tagging: Tagging, threshold: float) -> Tagging:
    """The same track with one threshold for all tags."""
    return replace(tagging, thresholds=np.full(len(tagging.vocabulary), threshold, np.float32))


def render(taggings: Sequence[Tagging], detail: track.Detail | None = None, **options: Any) -> str:
    """The page of taggings."""
    if not taggings:
        return page.render([], None, **options)
    reference = track.Reference.from_tagging(taggings[0])
    tracks = track.from_taggings(taggings, reference, detail or track.detail_of(len(taggings)))
    return page.render(tracks, reference, **options)


def read_data(html: str) -> dict[str, Any]:
    """The data of a page."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, flags=re.DOTALL)
    data: dict[str, Any] = json.loads(text)
    return data
