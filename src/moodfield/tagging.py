"""The result of tagging one track: scores, thresholds, decisions, and scores over time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from moodfield import calibration, decisions
from moodfield.audio import Envelope
from moodfield.decisions import Rule, Usual
from moodfield.errors import ConfigError

HEAD_VALUES = frozenset(("decided", "scores", "times_usual", "evidence", "thresholds", "priors", "over_time"))
"""values of `Tagging.to_dict` that differ between the heads of a model"""
MIN_USUAL = 1e-9
"""smaller usual scores count as this one, in `Tagging.times_usual`"""


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
    """a tag may be decided when its score is above its threshold"""
    over_time: OverTime
    """scores over time"""
    priors: Float32[np.ndarray, "tags"] | None = None
    """share of the training tracks with each tag; None if unknown, or if the averaged models differ"""
    embedding: Float32[np.ndarray, "channels"] | None = None
    """mean of the last feature map over time and frequency, of several models one after the other; None if a model has
    no embedding"""
    statistics: Usual | None = None
    """what is usual for the logits of the scores: in the model's reference, or among tracks; None if unknown"""
    relative: bool = False
    """whether decisions are relative to other tracks, by `decide`"""
    envelope: Envelope | None = None
    """peak envelope of the waveform; None if there were no samples"""
    warnings: tuple[str, ...] = ()
    """one line for each damaged part of the source that was skipped"""
    heads: "tuple[Tagging, ...]" = ()
    """taggings of the same track by the further heads of the model, which have tags of their own; `model` is the name
    of the head"""

    @property
    def decided(self) -> tuple[str, ...]:
        """Decided tags, by decreasing evidence."""
        order, decided = np.argsort(-self.evidence, kind="stable"), self.is_decided
        return tuple(self.vocabulary[tag] for tag in order if decided[tag])

    @property
    def is_decided(self) -> Bool[np.ndarray, "tags"]:
        """Whether each tag is decided: its score is above its threshold and, with statistics, among the clearest."""
        above = self.scores > self.thresholds
        return above if self.statistics is None else decisions.clearest(self.evidence, above)

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
        """How far the log-odds of every score are above what is usual: `Rule.evidence`."""
        return self.rule.evidence(calibration.logit(self.scores))

    @property
    def rule(self) -> Rule:
        """The rule by which tags are decided."""
        return Rule(self.thresholds, self.priors, self.statistics)

    @property
    def usual(self) -> Float32[np.ndarray, "tags"] | None:
        """The score that is usual for every tag: the mean over tracks, or without statistics its prior, if known."""
        return self.statistics.scores.astype(np.float32) if self.statistics else self.priors

    @property
    def times_usual(self) -> Float64[np.ndarray, "tags"] | None:
        """How many times as likely as usual every tag is; None if that is unknown."""
        usual = self.usual
        return None if usual is None else self.scores / np.maximum(usual.astype(np.float64), MIN_USUAL)

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
            evidence), `relative`, and by tag: `scores`, `times_usual` (None if unknown), `evidence`, `thresholds`
            clipped to 0 … 1, `priors` (None if unknown).
            `warnings` if there are any; `heads` if there are any: by name, the values that differ between them.
            `over_time` (`seconds`, and `scores` by tag) and `embedding` (a list of numbers; None if the model has none)
            if asked for.

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
            "relative": self.relative,
            "scores": self._by_tag(self.scores),
            "times_usual": None if (times := self.times_usual) is None else self._by_tag(times),
            "evidence": self._by_tag(self.evidence),
            "thresholds": self._by_tag(np.clip(self.thresholds, 0, 1)),  # JSON has no infinity
            "priors": None if self.priors is None else self._by_tag(self.priors),
        }
        if self.heads:
            values["heads"] = {
                head.model: {
                    name: value for name, value in head.to_dict(over_time=over_time).items() if name in HEAD_VALUES
                }
                for head in self.heads
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


def decide(taggings: Sequence[Tagging]) -> list[Tagging]:
    """Decide anew, relative to the tracks: what distinguishes each of them from the others.

    What is usual for a tag moves from the model's reference to the mean of these tracks, the more of them there are; a
    track that is given twice counts once. A model without reference statistics needs at least 20 different tracks.

    Args:
        taggings: Taggings of any number of tracks, by the same models.

    Returns:
        The same taggings in the same order, with other decisions, evidence and usual scores; scores are unchanged.

    Raises:
        ConfigError: They are of different models or already relative, there are too few, or they are no taggings.

    Example:
        >>> import moodfield
        >>> over_time = OverTime(np.zeros(1, np.float32), np.full((2, 1), 0.5, np.float32))
        >>> def song(calm):
        ...     scores = np.array([calm, 0.9], np.float32)
        ...     return Tagging("a.wav", 3.0, "m", ("calm", "film"), ("film",), scores, scores - 0.01, over_time)
        >>> songs = [song(0.01 * number) for number in range(1, 31)]
        >>> songs[29].decided, moodfield.decide(songs)[29].decided  # all songs are like films, few are as calm
        (('film', 'calm'), ('calm',))
    """
    if isinstance(taggings, Tagging) or not all(isinstance(tagging, Tagging) for tagging in taggings):
        raise ConfigError("expected a list of taggings, such as [tagger.tag(path) for path in paths]")
    if not taggings:
        return []
    first = taggings[0]
    if any(tagging.relative for tagging in taggings):
        raise ConfigError("some taggings are relative already; give them as the tagger made them")
    if not all(_is_comparable(first, tagging) for tagging in taggings):
        names = ", ".join(dict.fromkeys(tagging.model for tagging in taggings))
        raise ConfigError(f"the taggings are of different models or versions ({names}); give those of one tagger")
    logits = calibration.logit(np.stack([tagging.scores for tagging in taggings]))
    rule = first.rule.relative_to(logits)
    return [replace(tagging, statistics=rule.usual, thresholds=rule.thresholds, relative=True) for tagging in taggings]


def _is_comparable(one: Tagging, other: Tagging) -> bool:
    """Whether two taggings have the same tags and the same reference."""
    if (one.vocabulary, one.model) != (other.vocabulary, other.model):
        return False
    first, second = one.statistics, other.statistics
    if first is None or second is None:
        return first is second
    return np.array_equal([first.mean, first.std, first.cuts], [second.mean, second.std, second.cuts])


def _round(value: float) -> float:
    """Six significant digits, more than the weights hold."""
    return float(f"{value:.6g}") if math.isfinite(value) else value
