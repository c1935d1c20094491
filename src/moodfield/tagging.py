"""What a piece of music feels like, according to somebody.

In: scores of tags, whole and over time, and what they must exceed. Out: decisions, in an order that reads well.
Knows nothing of: audio, networks, or how scores come about.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Float64

from moodfield import calibration
from moodfield.audio import Envelope


@dataclass(frozen=True, eq=False)
class OverTime:
    """What each moment of a track feels like."""

    seconds: Float32[np.ndarray, "time"]
    """the middle of what each step hears, from the start of the track"""
    scores: Float32[np.ndarray, "tags time"]
    """scores in 0 … 1 of every tag at every step"""


@dataclass(frozen=True, eq=False)
class Tagging:
    """What a piece of music feels like, according to a tagger."""

    source: str
    """path of the file, or what else it was"""
    duration: float
    """seconds of music heard"""
    model: str
    """names of the models that were asked, joined by `+`; the snapshots of a run have one name"""
    vocabulary: tuple[str, ...]
    """the tags, in the model's order"""
    theme_vocabulary: tuple[str, ...]
    """those of the tags that are themes: what music is for or about; the others are moods"""
    scores: Float32[np.ndarray, "tags"]
    """score of every tag in 0 … 1"""
    thresholds: Float32[np.ndarray, "tags"]
    """a tag is decided when its score is above this"""
    over_time: OverTime
    """the mood over time, before it is pooled"""
    priors: Float32[np.ndarray, "tags"] | None = None
    """share of the training tracks that has each tag, if the models say and agree"""
    envelope: Envelope | None = None
    """the outline of the waveform; nothing where the samples were not at hand"""
    warnings: tuple[str, ...] = ()
    """a line about each part of the source that is damaged and was not used"""

    @property
    def decided(self) -> tuple[str, ...]:
        """The tags whose score is above their threshold, those of most evidence first."""
        order = np.argsort(-self.evidence, kind="stable")
        return tuple(self.vocabulary[tag] for tag in order if self.scores[tag] > self.thresholds[tag])

    @property
    def moods(self) -> tuple[str, ...]:
        """The decided tags that say what the music feels like."""
        return tuple(tag for tag in self.decided if tag not in self.theme_vocabulary)

    @property
    def themes(self) -> tuple[str, ...]:
        """The decided tags that say what the music is for or about."""
        return tuple(tag for tag in self.decided if tag in self.theme_vocabulary)

    @property
    def evidence(self) -> Float64[np.ndarray, "tags"]:
        """Log-odds of every score over those of its prior, in nats; of its threshold where no priors are known."""
        return self._over(self.thresholds if self.priors is None else self.priors)

    def top(self, count: int, *, by: Literal["evidence", "score"] = "evidence") -> list[tuple[str, float]]:
        """The tags of most evidence, or of highest score, with their scores."""
        order = np.argsort(-(self.evidence if by == "evidence" else self.scores), kind="stable")[:count]
        return [(self.vocabulary[tag], float(self.scores[tag])) for tag in order]

    def to_dict(self, *, over_time: bool = False) -> dict[str, object]:
        """Plain values for JSON, scores by tag; with the map over time if asked."""
        plain: dict[str, object] = {
            "source": self.source,
            "duration": round(self.duration, 3),
            "model": self.model,
            "decided": list(self.decided),
            "moods": list(self.moods),
            "themes": list(self.themes),
            "scores": self._named(self.scores),
            "warnings": list(self.warnings),
        }
        if self.priors is not None:
            plain["evidence"] = self._named(self.evidence)
        if over_time:
            plain["over_time"] = {
                "seconds": [round(float(second), 3) for second in self.over_time.seconds],
                "scores": {
                    tag: [_short(score) for score in row]
                    for tag, row in zip(self.vocabulary, self.over_time.scores.tolist(), strict=True)
                },
            }
        return plain

    def _named(self, values: Float[np.ndarray, "tags"]) -> dict[str, float]:
        """Plain values by tag."""
        return {tag: _short(value) for tag, value in zip(self.vocabulary, values.tolist(), strict=True)}

    def _over(self, levels: Float32[np.ndarray, "tags"]) -> Float64[np.ndarray, "tags"]:
        """How far, in logits, scores are above a level for every tag."""
        return calibration.logit(self.scores) - calibration.logit(levels)


def _short(score: float) -> float:
    """Six significant digits: more than the weights hold."""
    return float(f"{score:.6g}") if math.isfinite(score) else float(score)
