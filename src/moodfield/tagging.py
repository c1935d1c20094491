"""The result of tagging one track: scores, thresholds, decisions, and scores over time."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Float64

from moodfield import calibration
from moodfield.audio import Envelope
from moodfield.errors import ConfigError


@dataclass(frozen=True, eq=False)
class OverTime:
    """Scores over the time of a track, before they are pooled."""

    seconds: Float32[np.ndarray, "time"]
    """centre of the receptive field of every time step, in seconds from the start of the track"""
    scores: Float32[np.ndarray, "tags time"]
    """score of every tag at every time step, 0 … 1"""


@dataclass(frozen=True, eq=False)
class Tagging:
    """Scores and decisions of a tagger for one track."""

    source: str
    """path of the file, or the kind of source, such as `waveform`"""
    duration: float
    """duration in seconds"""
    model: str
    """names of the models, joined by `+`; the snapshots of a run share one name"""
    vocabulary: tuple[str, ...]
    """tags, in the order of the arrays"""
    theme_vocabulary: tuple[str, ...]
    """the tags that are themes (what the music is for or about); the others are moods"""
    scores: Float32[np.ndarray, "tags"]
    """score of every tag, 0 … 1"""
    thresholds: Float32[np.ndarray, "tags"]
    """a tag is decided when its score is above its threshold"""
    over_time: OverTime
    """scores over time"""
    priors: Float32[np.ndarray, "tags"] | None = None
    """share of the training tracks with each tag; None if unknown, or if the averaged models differ"""
    embedding: Float32[np.ndarray, "channels"] | None = None
    """mean of the last feature map over time and frequency, of several models one after the other; None if a model has
    no embedding"""
    envelope: Envelope | None = None
    """peak envelope of the waveform; None if there were no samples"""
    warnings: tuple[str, ...] = ()
    """one line for each damaged part of the source that was skipped"""

    @property
    def decided(self) -> tuple[str, ...]:
        """Tags with a score above their threshold, by decreasing evidence."""
        order = np.argsort(-self.evidence, kind="stable")
        return tuple(self.vocabulary[tag] for tag in order if self.scores[tag] > self.thresholds[tag])

    @property
    def moods(self) -> tuple[str, ...]:
        """Decided tags that are moods."""
        return tuple(tag for tag in self.decided if tag not in self.theme_vocabulary)

    @property
    def themes(self) -> tuple[str, ...]:
        """Decided tags that are themes."""
        return tuple(tag for tag in self.decided if tag in self.theme_vocabulary)

    @property
    def evidence(self) -> Float64[np.ndarray, "tags"]:
        """Log-odds of every score minus those of its prior, in nats; of its threshold if priors are unknown.

        A threshold beyond which a tag is always or never decided is no reference: 0.5 is used instead.
        """
        finite = np.where((self.thresholds > 0) & (self.thresholds < 1), self.thresholds, 0.5)
        baseline = finite if self.priors is None else self.priors
        return calibration.logit(self.scores) - calibration.logit(baseline)

    def top(self, n: int, *, by: Literal["evidence", "score"] = "evidence") -> list[tuple[str, float]]:
        """The `n` tags with the largest evidence, or score, each with its score."""
        if n < 0 or by not in ("evidence", "score"):
            raise ConfigError(f"top({n}, by={by!r}): expected n of 0 or more, and by='evidence' or by='score'")
        order = np.argsort(-(self.evidence if by == "evidence" else self.scores), kind="stable")[:n]
        return [(self.vocabulary[tag], float(self.scores[tag])) for tag in order]

    def to_dict(self, *, over_time: bool = False, embedding: bool = False) -> dict[str, object]:
        """Plain values for JSON that explain every decision.

        Returns:
            `source`, `duration` in seconds, `model`, `decided`, `moods` and `themes` (lists of tags by decreasing
            evidence), and by tag: `scores`, `evidence`, `thresholds` clipped to 0 … 1, `priors` (None if unknown).
            `warnings` if there are any; `over_time` (`seconds`, and `scores` by tag) and `embedding` (a list of
            numbers; None if the model has none) if asked for.

        Example:
            >>> over_time = OverTime(np.zeros(1, np.float32), np.full((2, 1), 0.5, np.float32))
            >>> scores, thresholds = np.array([0.75, 0.25], np.float32), np.array([0.5, 0.5], np.float32)
            >>> tagging = Tagging("a.wav", 3.0, "default", ("calm", "film"), ("film",), scores, thresholds, over_time)
            >>> tagging.to_dict()["decided"], tagging.to_dict()["thresholds"]
            (['calm'], {'calm': 0.5, 'film': 0.5})
        """
        values: dict[str, object] = {
            "source": self.source,
            "duration": round(self.duration, 3),
            "model": self.model,
            "decided": list(self.decided),
            "moods": list(self.moods),
            "themes": list(self.themes),
            "scores": self._by_tag(self.scores),
            "evidence": self._by_tag(self.evidence),
            "thresholds": self._by_tag(np.clip(self.thresholds, 0, 1)),  # JSON has no infinity
            "priors": None if self.priors is None else self._by_tag(self.priors),
        }
        if self.warnings:
            values["warnings"] = list(self.warnings)
        if embedding:
            values["embedding"] = None if self.embedding is None else list(map(_round, self.embedding.tolist()))
        if over_time:
            rows = self.over_time.scores.tolist()
            values["over_time"] = {
                "seconds": [round(float(second), 3) for second in self.over_time.seconds],
                "scores": {tag: list(map(_round, row)) for tag, row in zip(self.vocabulary, rows, strict=True)},
            }
        return values

    def __repr__(self) -> str:
        return f"Tagging(source={self.source!r}, duration={self.duration:.1f}, decided={self.decided})"

    def _by_tag(self, values: Float[np.ndarray, "tags"]) -> dict[str, float]:
        return {tag: _round(value) for tag, value in zip(self.vocabulary, values.tolist(), strict=True)}


def _round(value: float) -> float:
    """Six significant digits, more than the weights hold."""
    return float(f"{value:.6g}") if math.isfinite(value) else value
