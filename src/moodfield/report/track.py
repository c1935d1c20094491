"""One track of a report, and what all of its tracks share; both can be made from taggings."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float64

from moodfield.audio import Envelope
from moodfield.decisions import Usual
from moodfield.errors import ConfigError
from moodfield.report import curves
from moodfield.tagging import OverTime, Tagging

MANY_TRACKS = 60
"""above this number of tracks details are coarse and shown on demand, and the map has no names"""


@dataclass(frozen=True)
class Detail:
    """Time resolution of tracks in a report."""

    steps: int
    """time steps of scores"""
    levels: int
    """bars of the waveform"""


FINE, COARSE = Detail(steps=160, levels=200), Detail(steps=32, levels=128)
"""of few and of many tracks"""


@dataclass(frozen=True, eq=False)
class Reference:
    """What all tracks of a report share: the tags, their thresholds, and what is usual for them."""

    model: str
    """names of the models"""
    vocabulary: tuple[str, ...]
    """tags, in the order of all arrays"""
    theme_vocabulary: tuple[str, ...]
    """the tags that are themes; the others are moods"""
    thresholds: Float[np.ndarray, "tags"]
    """score above which a tag may be decided; 1 or more if it is never decided"""
    usual: Float[np.ndarray, "tags"] | None = None
    """the score that is usual for every tag; None if unknown"""
    statistics: Usual | None = None
    """what is usual for the logits of the scores; None if unknown"""
    relative: bool = False
    """whether decisions are relative to other tracks"""
    others: str = ""
    """what these tracks are; empty: those of the report"""

    @classmethod
    def from_tagging(cls, tagging: Tagging) -> "Reference":
        """The reference of the tagger that made a tagging."""
        return cls(
            tagging.model,
            tagging.vocabulary,
            tagging.theme_vocabulary,
            tagging.thresholds,
            tagging.usual,
            tagging.statistics,
            tagging.relative,
        )

    @property
    def moods(self) -> list[int]:
        """Indices of the tags that are moods."""
        return [tag for tag, name in enumerate(self.vocabulary) if name not in self.theme_vocabulary]

    @property
    def themes(self) -> list[int]:
        """Indices of the tags that are themes."""
        return [tag for tag, name in enumerate(self.vocabulary) if name in self.theme_vocabulary]

    def evidence(self, scores: Float[np.ndarray, "tags time"]) -> Float64[np.ndarray, "tags time"] | None:
        """Evidence of scores over time (see `Tagging.evidence`); None if it is unknown what is usual."""
        logits = curves.logit(scores)
        if self.statistics:
            return self.statistics.evidence(logits.T).T
        return None if self.usual is None else logits - curves.logit(self.usual)[:, None]


@dataclass(frozen=True, eq=False)
class Track:
    """One track of a report; arrays over tags have the order of the vocabulary of its `Reference`."""

    source: str
    """path of the file, or the kind of source"""
    duration: float
    """duration in seconds"""
    scores: Float[np.ndarray, "tags"]
    """score of every tag, 0 … 1"""
    evidence: Float[np.ndarray, "tags"]
    """evidence for every tag, by which tags are ordered (see `Tagging.evidence`)"""
    is_decided: Bool[np.ndarray, "tags"]
    """whether each tag is decided"""
    over_time: Float[np.ndarray, "tags time"] | None = None
    """mean scores in equal time steps; None if they are not known"""
    levels: Float[np.ndarray, "_time"] | None = None
    """mean peak level of the waveform in equal time steps, at any scale; None if it is not known"""
    title: str = ""
    """name that is shown; empty: the name of the file"""

    @classmethod
    def from_tagging(cls, tagging: Tagging, detail: Detail = FINE) -> "Track":
        """The track of a tagging."""
        return cls(
            tagging.source,
            tagging.duration,
            tagging.scores,
            tagging.evidence,
            tagging.is_decided,
            curves.steps(tagging, detail.steps) if tagging.over_time.seconds.size else None,
            curves.levels(tagging, detail.levels),
        )

    @cached_property
    def decided(self) -> list[int]:
        """Indices of the decided tags, by decreasing evidence."""
        return [tag for tag in self.strongest if self.is_decided[tag]]

    @cached_property
    def strongest(self) -> list[int]:
        """Indices of all tags: the decided ones, then the others, both by decreasing evidence."""
        evidence = np.nan_to_num(self.evidence.astype(np.float64), nan=-np.inf)
        return [int(tag) for tag in np.lexsort((-evidence, ~self.is_decided))]


def detail_of(tracks: int) -> Detail:
    """The time resolution for a number of tracks."""
    return COARSE if tracks > MANY_TRACKS else FINE


def from_taggings(taggings: Iterable[Tagging], reference: Reference, detail: Detail = FINE) -> Iterator[Track]:
    """The tracks of taggings, one at a time.

    Raises:
        ConfigError: A tagging has other tags, models or kinds of decisions than the reference.
    """
    for tagging in taggings:
        if (tagging.model, tagging.vocabulary, tagging.relative) != (
            reference.model,
            reference.vocabulary,
            reference.relative,
        ):
            raise ConfigError(
                f"{tagging.source} is tagged by {tagging.model}, other tracks of the report by {reference.model}, or "
                "only some of them have relative decisions; give taggings of one tagger"
            )
        yield Track.from_tagging(tagging, detail)


def shrink(tagging: Tagging, detail: Detail) -> Tagging:
    """The same tagging with only what a report shows: scores over time and envelope in equal steps, no embedding."""
    span, steps = curves.span(tagging), detail.steps
    centres = ((np.arange(steps) + 0.5) * span / steps).astype(np.float32)
    over_time = OverTime(centres, curves.steps(tagging, steps).astype(np.float32))
    levels = curves.levels(tagging, detail.levels)
    envelope = None if levels is None else Envelope(span / detail.levels, levels.astype(np.float32))
    return replace(tagging, over_time=over_time, envelope=envelope, embedding=None)
