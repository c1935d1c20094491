"""How sure numbers are.

In: truth, and the scores and decisions of systems. Out: their numbers on resampled tracks, intervals, paired tests.
Knows nothing of: files, tasks, or where scores come from.

A resample is as many tracks as there are, drawn with replacement. It changes how much a track weighs and never which
scores higher, so every tag is ranked once, and the numbers of a resample are sums of weights along that ranking. They
are those of `metrics.evaluate` on the tracks that were drawn.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from moodfield.errors import ConfigError, ScoresError
from moodfield.evaluation import metrics
from moodfield.evaluation.metrics import AnyArray, Report

N_RESAMPLES = 1_000
CONFIDENCE = 0.95
"""share of the resamples that an interval holds"""
MIN_POSITIVES = 5
"""positives, and negatives, from which on a tag has intervals and p: with 2 of them, two systems that know nothing
differ in 38 of 100 tests with p < 0.05, with 3 in 13, with 5 in 7"""
MIN_TRACKS = 20
"""from which on anything has them; *chosen by us*"""
BATCH_RESAMPLES = 32
"""resamples that are weighed together: their weights of one tag stay in the cache of a core"""
MAX_BATCH_WEIGHTS = 2**26
"""weights of tracks and tags that may be in memory at once; with more pairs, fewer resamples are weighed together"""
BATCH_SEGMENTS = 512
"""stretches of a ranking that are summed at once, for the same reason"""

Many = Float64[np.ndarray, "_"]
"""one value for every resample"""
ManyPerTag = Float64[np.ndarray, "_ tags"]
"""a row for every resample"""
Weights = Int32[np.ndarray, "tracks _"]
"""how often a resample (a column) holds a track"""


class Interval(NamedTuple):
    """Where a number would lie on other tracks of the same kind, as many as these."""

    low: float
    """NaN, like `high`, where the number is not defined, or too few tracks are behind it"""
    high: float
    """the upper end"""


class Difference(NamedTuple):
    """By how much one system is ahead of another on the same tracks."""

    value: float
    """of the one minus of the other, on the tracks as they are"""
    low: float
    """lower end of its interval; NaN, like `high` and `p`, where too few tracks are behind it"""
    high: float
    """upper end of its interval"""
    p: float
    """two-sided, in 0 … 1: how rarely resamples, centred like the interval, put the other system ahead; below 0.05,
    but for rounding, where the interval excludes 0"""


class System:
    """What one system says of the tracks, ranked once; `report` holds its numbers on the tracks as they are."""

    def __init__(
        self,
        truth: AnyArray,
        scores: AnyArray,
        *,
        decisions: AnyArray | None = None,
        tags: Sequence[str] | None = None,
    ) -> None:
        """Takes and refuses what `metrics.evaluate` does."""
        self.report = metrics.evaluate(truth, scores, decisions=decisions, tags=tags)
        truth, scores = np.asarray(truth, bool), np.asarray(scores, np.float64)
        self.shape = tracks, tags_ = truth.shape
        fewer = np.minimum(truth.sum(axis=0), (~truth).sum(axis=0)) if tracks >= MIN_TRACKS else np.zeros(tags_)
        self.has_enough_positives = fewer >= MIN_POSITIVES
        either = min(truth.any(axis=1).sum(), (~truth).any(axis=1).sum())  # of all tags together
        self.has_enough_tracks = bool(tracks >= MIN_TRACKS and either >= MIN_POSITIVES)
        each = np.arange(tracks)
        self._by_tag = [_ranked(truth[:, tag], scores[:, tag], each) for tag in range(tags_)]
        self._pooled = _ranked(truth.ravel(), scores.ravel(), np.repeat(each, tags_))
        self._counted = [truth]
        if decisions is not None:
            decided = np.asarray(decisions, bool)
            self._counted += [decided, truth & decided]
        self._counted = [each.T.astype(np.float64) for each in self._counted]

    def weighted_metrics(self, weights: Weights) -> tuple[dict[str, AnyArray], dict[str, AnyArray]]:
        """The numbers per tag (tags × resamples) and pooled (resamples) where every track counts as its weight says."""
        positives, *decisions = (counted @ weights for counted in self._counted)
        areas = np.array([_areas(ranking, weights) for ranking in self._by_tag])
        per_tag = {"PR-AUC": areas[:, 0], "ROC-AUC": areas[:, 1]}
        pooled = dict(zip(("PR-AUC", "ROC-AUC"), _areas(self._pooled, weights), strict=True))
        if decisions:
            per_tag |= _decided(positives, *decisions)
            pooled |= _decided(*(counted.sum(axis=0) for counted in (positives, *decisions)))
        return {name: np.where(positives > 0, values, np.nan) for name, values in per_tag.items()}, pooled


@dataclass(frozen=True, eq=False)
class Resampled:
    """The numbers of one system on every resample, under the names of `Report`."""

    report: Report
    """its numbers on the tracks as they are"""
    per_tag: Mapping[str, ManyPerTag]
    """NaN where a resample has lost all positives of a tag"""
    macro: Mapping[str, Many]
    """means over the tags that are defined in a resample"""
    micro: Mapping[str, Many]
    """over all pairs of track and tag"""
    has_enough_positives: Bool[np.ndarray, "tags"]
    """which tags have positives and negatives enough for intervals and p"""
    has_enough_tracks: bool
    """whether there are tracks enough, with positives and with negatives, for those of the means"""

    @property
    def rare_tags(self) -> tuple[str, ...]:
        """The tags whose numbers are defined, but stand on too few tracks for intervals and p."""
        report = self.report
        return tuple(
            tag
            for tag, enough in zip(report.tags, self.has_enough_positives, strict=True)
            if not enough and tag not in report.without_positives
        )

    def to_dict(self) -> dict[str, Many]:
        """The official names (`PR-AUC-macro`, …) and their values on every resample."""
        means = {"macro": self.macro, "micro": self.micro}
        return {f"{name}-{mean}": values for mean, many in means.items() for name, values in many.items()}


def bootstrap(
    systems: Sequence[System], *, generator: np.random.Generator, n_resamples: int = N_RESAMPLES
) -> list[Resampled]:
    """The numbers of systems on resamples of the tracks, the same resamples for all of them.

    Systems must have judged equally many tracks; anything else is refused.
    """
    if n_resamples < 1:
        raise ConfigError(f"resamples={n_resamples}; at least one is needed, and {N_RESAMPLES} make a good interval")
    counts = {system.shape[0] for system in systems}
    if len(counts) != 1:
        raise ScoresError(f"systems came with {sorted(counts)} tracks; give one or more, of the same tracks")
    found: list[list[tuple[dict[str, AnyArray], dict[str, AnyArray]]]] = [[] for _ in systems]
    pairs = max(system.shape[0] * system.shape[1] for system in systems)
    for weights in draw_weights(
        counts.pop(), n_resamples, generator, batch_size=min(BATCH_RESAMPLES, max(1, MAX_BATCH_WEIGHTS // pairs))
    ):
        for system, numbers in zip(systems, found, strict=True):
            numbers.append(system.weighted_metrics(weights))
    return [_joined(system, numbers) for system, numbers in zip(systems, found, strict=True)]


def draw_weights(
    tracks: int, n_resamples: int, generator: np.random.Generator, *, batch_size: int = BATCH_RESAMPLES
) -> Iterator[Weights]:
    """The weights of resamples, some together; which they are depends only on the generator and the tracks."""
    for start in range(0, n_resamples, batch_size):
        count = min(batch_size, n_resamples - start)
        drawn = generator.integers(tracks, size=(count, tracks)) + tracks * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * tracks).reshape(count, tracks).T.astype(np.int32, order="C")


def intervals(resampled: Resampled) -> dict[str, Interval]:
    """The interval of every macro and micro number, by its official name.

    It is the percentile interval, moved by what the mean of the resamples is off the number itself. Drawing tracks
    twice flatters a precision-recall curve: unmoved, the interval would lie too high. It ends at 0 and 1, as the
    numbers do. NaN with fewer than `MIN_TRACKS` tracks, or `MIN_POSITIVES` with positives or with negatives.
    """
    observed = resampled.report.to_dict()
    known = _known(resampled.to_dict(), enough=resampled.has_enough_tracks)
    return {name: _interval(values, observed[name]) for name, values in known.items()}


def tag_intervals(resampled: Resampled) -> dict[str, tuple[Interval, ...]]:
    """The same for every tag, by the name of the number; NaN where it is not defined, or the tag is `rare`."""
    return {
        name: tuple(map(_interval, values.T, resampled.report.per_tag[name]))
        for name, values in _known(resampled.per_tag, enough=resampled.has_enough_positives).items()
    }


def compare(one: Resampled, other: Resampled) -> dict[str, Difference]:
    """How far one system is ahead of another, by official name, for the numbers that both have.

    Both must come from the same `bootstrap`, or from equal generators: the test is paired, resample by resample.
    Interval and p are NaN where `intervals` are.
    """
    a, b = _known(one.to_dict(), enough=one.has_enough_tracks), _known(other.to_dict(), enough=other.has_enough_tracks)
    observed, beside = one.report.to_dict(), other.report.to_dict()
    return {name: _difference(a[name] - b[name], observed[name] - beside[name]) for name in a if name in b}


def compare_tags(one: Resampled, other: Resampled) -> dict[str, tuple[Difference, ...]]:
    """The same for every tag, by the name of the number; with dozens of tags some look different by chance."""
    a, b = (
        _known(one.per_tag, enough=one.has_enough_positives),
        _known(other.per_tag, enough=other.has_enough_positives),
    )
    observed, beside = one.report.per_tag, other.report.per_tag
    return {
        name: tuple(map(_difference, (a[name] - b[name]).T, observed[name] - beside[name])) for name in a if name in b
    }


class _Ranking(NamedTuple):
    """Tracks from the highest score to the lowest, and which runs of equal scores among them hold positives."""

    tracks: Int64[np.ndarray, "_"]  # the track at every place
    hits: Int64[np.ndarray, "_"]  # those of the places with positives
    first: Int64[np.ndarray, "_"]  # where among these each run begins
    edges: Int64[np.ndarray, "_"]  # places that cut the ranking into stretches: 0, and both ends of each run
    above: Int64[np.ndarray, "_"]  # how many stretches lie above each run
    through: Int64[np.ndarray, "_"]  # how many end with it


def _ranked(truth: Bool[np.ndarray, "_"], scores: Float64[np.ndarray, "_"], tracks: Int64[np.ndarray, "_"]) -> _Ranking:
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    bounds = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
    places = np.flatnonzero(truth[order])
    runs, first = np.unique(np.searchsorted(bounds, places, side="right") - 1, return_index=True)
    edges = np.unique(np.concatenate([[0], bounds[runs], bounds[runs + 1]]))
    above, through = np.searchsorted(edges, bounds[runs]), np.searchsorted(edges, bounds[runs + 1])
    return _Ranking(tracks[order], tracks[order][places], first, edges[edges < len(order)], above, through)


def _areas(ranking: _Ranking, weights: Weights) -> tuple[Many, Many]:
    """Areas under the precision-recall and the ROC curve for every column of weights."""
    if not ranking.hits.size:
        return np.full(weights.shape[1], np.nan), np.full(weights.shape[1], np.nan)
    before = np.cumsum(_stretches(ranking, weights), axis=0)
    before = np.concatenate([np.zeros_like(before[:1]), before])
    above, through = before[ranking.above], before[ranking.through]
    found = np.add.reduceat(weights[ranking.hits], ranking.first, axis=0).astype(np.int64)
    so_far = np.cumsum(found, axis=0)
    positives, total = so_far[-1], before[-1]
    precision = metrics.divide(
        so_far, through, empty=0.0
    )  # of a run that weighs nothing, which then counts for nothing
    # Twice the negatives ahead of the positives, ties half: whole numbers, so nothing is rounded before the division.
    ahead = (found * (above + through - 2 * so_far + found)).sum(axis=0)
    pairs = 2 * positives * (total - positives)
    return metrics.divide((found * precision).sum(axis=0), positives), metrics.divide(pairs - ahead, pairs)


def _stretches(ranking: _Ranking, weights: Weights) -> Int64[np.ndarray, "_ _"]:
    """What the tracks in every stretch weigh together."""
    ends = np.append(ranking.edges[1:], len(ranking.tracks))
    sums = [
        np.add.reduceat(weights[ranking.tracks[starts[0] : ends[start + len(starts) - 1]]], starts - starts[0], axis=0)
        for start in range(0, len(ends), BATCH_SEGMENTS)
        for starts in [ranking.edges[start : start + BATCH_SEGMENTS]]
    ]
    return np.concatenate(sums, dtype=np.int64)


def _decided(positives: AnyArray, decided: AnyArray, right: AnyArray) -> dict[str, AnyArray]:
    """The numbers of decisions, from how many there are of each kind."""
    return {
        "F-score": metrics.divide(2 * right, decided + positives, empty=0.0),
        "precision": metrics.divide(right, decided, empty=0.0),
        "recall": metrics.divide(right, positives, empty=0.0),
    }


def _joined(system: System, numbers: Sequence[tuple[dict[str, AnyArray], dict[str, AnyArray]]]) -> Resampled:
    report = system.report
    per_tag = {name: np.concatenate([tags[name] for tags, _ in numbers], axis=1).T for name in report.per_tag}
    return Resampled(
        report=report,
        per_tag=per_tag,
        macro={name: _mean(values) for name, values in per_tag.items()},
        micro={name: np.concatenate([pooled[name] for _, pooled in numbers]) for name in report.micro},
        has_enough_positives=system.has_enough_positives,
        has_enough_tracks=system.has_enough_tracks,
    )


def _mean(values: ManyPerTag) -> Many:
    """The mean of every row over the tags that are defined in it."""
    defined = ~np.isnan(values)
    return metrics.divide(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1))


def _known(values: Mapping[str, AnyArray], *, enough: Bool[np.ndarray, "tags"] | bool) -> dict[str, AnyArray]:
    """The values of resamples, NaN where too few tracks are behind them to say how sure they are."""
    return {name: np.where(enough, each, np.nan) for name, each in values.items()}


def _centred(values: Many, observed: float) -> Many:
    """What is defined of the values, moved so that their mean is what was observed."""
    defined = values[~np.isnan(values)]
    return defined - (defined.mean() - observed) if defined.size and not np.isnan(observed) else defined[:0]


def _ends(centred: Many) -> Float64[np.ndarray, "2"]:
    return np.quantile(centred, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) if centred.size else np.full(2, np.nan)


def _interval(values: Many, observed: float) -> Interval:
    return Interval(*np.clip(_ends(_centred(values, float(observed))), 0, 1).tolist())


def _difference(values: Many, observed: float) -> Difference:
    centred = _centred(values, float(observed))
    rarer = min((centred <= 0).sum(), (centred >= 0).sum())
    p = min(1.0, 2 * (float(rarer) + 1) / (len(centred) + 1)) if centred.size else np.nan
    low, high = _ends(centred).tolist()
    return Difference(float(observed), low, high, p)
