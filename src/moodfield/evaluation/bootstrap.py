"""Bootstrap confidence intervals of metrics, and paired tests of the difference between two systems.

A resample is as many tracks as there are, drawn with replacement. It changes the weight of a track, never the order of
scores. So every tag is ranked once, and the metrics of a resample are weighted sums along that ranking. They equal
those of `metrics.evaluate` on the drawn tracks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from moodfield.errors import ConfigError, ScoresError
from moodfield.evaluation import metrics
from moodfield.evaluation.metrics import AnyArray, Report

N_RESAMPLES = 1_000
CONFIDENCE = 0.95
"""share of the resamples that lie in an interval"""
MIN_POSITIVES = 5
"""positives, and negatives, from which on a tag has intervals and p-values: with 2 of them, two random systems differ
in 38 of 100 tests with p < 0.05, with 3 in 13, with 5 in 7"""
MIN_TRACKS = 20
"""tracks from which on there are intervals and p-values; *chosen by us*"""
BATCH_RESAMPLES = 32
"""resamples per batch: their weights of one tag fit into the cache of a core"""
MAX_BATCH_WEIGHTS = 2**26
"""weights of tracks and tags in memory at once; with more pairs of them, a batch has fewer resamples"""
BATCH_SEGMENTS = 512
"""segments of a ranking that are summed at once, to fit into the cache"""

PerResample = Float64[np.ndarray, "_"]
"""one value for every resample"""
PerResampleAndTag = Float64[np.ndarray, "_ tags"]
"""a row for every resample"""
Weights = Int32[np.ndarray, "tracks _"]
"""how often a resample (a column) contains a track"""


class Interval(NamedTuple):
    """A confidence interval: the range of a metric on other tracks of the same kind and number."""

    low: float
    """lower end; NaN, like `high`, where the metric is undefined or based on too few tracks"""
    high: float
    """upper end"""


class Difference(NamedTuple):
    """The difference of a metric between two systems on the same tracks, and its significance."""

    value: float
    """metric of the first system minus that of the second, on the tracks as they are"""
    low: float
    """lower end of its interval; NaN, like `high` and `p`, where it is based on too few tracks"""
    high: float
    """upper end of its interval"""
    p: float
    """two-sided p-value in 0 … 1: twice the share of centred resamples in which the other system is ahead;
    below 0.05, but for rounding, where the interval excludes 0"""


class System:
    """The scores and decisions of one system, ranked once; `report` has its metrics on the tracks as they are.

    Example:
        >>> System(np.array([[1], [0]]), np.array([[0.9], [0.2]])).report.macro["ROC-AUC"]
        1.0
    """

    def __init__(
        self, truth: AnyArray, scores: AnyArray, *, decisions: AnyArray | None = None, tags: Sequence[str] | None = None
    ) -> None:
        """Rank the scores; arguments and errors are those of `metrics.evaluate`."""
        self.report = metrics.evaluate(truth, scores, decisions=decisions, tags=tags)
        truth, scores = np.asarray(truth, bool), np.asarray(scores, np.float64)
        self.shape = n_tracks, n_tags = truth.shape
        rarer = np.minimum(truth.sum(axis=0), (~truth).sum(axis=0)) if n_tracks >= MIN_TRACKS else np.zeros(n_tags)
        self.has_enough_positives = rarer >= MIN_POSITIVES
        rarer = min(truth.any(axis=1).sum(), (~truth).any(axis=1).sum())  # for all tags together
        self.has_enough_tracks = bool(n_tracks >= MIN_TRACKS and rarer >= MIN_POSITIVES)
        rows = np.arange(n_tracks)
        self._by_tag = [_rank(truth[:, tag], scores[:, tag], rows) for tag in range(n_tags)]
        self._pooled = _rank(truth.ravel(), scores.ravel(), np.repeat(rows, n_tags))
        counted = [truth]
        if decisions is not None:
            decided = np.asarray(decisions, bool)
            counted += [decided, truth & decided]
        self._counted = [array.T.astype(np.float64) for array in counted]

    def weighted_metrics(self, weights: Weights) -> tuple[dict[str, AnyArray], dict[str, AnyArray]]:
        """The metrics per tag (tags × resamples) and pooled (resamples) of weighted tracks, by name."""
        positives, *decisions = (counted @ weights for counted in self._counted)
        areas = np.array([_areas(ranking, weights) for ranking in self._by_tag])
        per_tag = {"PR-AUC": areas[:, 0], "ROC-AUC": areas[:, 1]}
        pooled = dict(zip(("PR-AUC", "ROC-AUC"), _areas(self._pooled, weights), strict=True))
        if decisions:
            per_tag |= metrics.decision_metrics(positives, *decisions)
            pooled |= metrics.decision_metrics(*(counted.sum(axis=0) for counted in (positives, *decisions)))
        return {name: np.where(positives > 0, values, np.nan) for name, values in per_tag.items()}, pooled


@dataclass(frozen=True, eq=False)
class Resampled:
    """The metrics of one system on every resample, under the names of `Report`."""

    report: Report
    """its metrics on the tracks as they are"""
    per_tag: Mapping[str, PerResampleAndTag]
    """NaN where a resample has no positives of a tag"""
    macro: Mapping[str, PerResample]
    """mean over the tags that are defined in a resample"""
    micro: Mapping[str, PerResample]
    """over all pairs of track and tag"""
    has_enough_positives: Bool[np.ndarray, "tags"]
    """tags with enough positives and negatives for intervals and p-values"""
    has_enough_tracks: bool
    """whether there are enough tracks, with positives and with negatives, for those of macro and micro metrics"""

    @property
    def rare_tags(self) -> tuple[str, ...]:
        """Tags whose metrics are defined, but based on too few tracks for intervals and p-values."""
        tags = zip(self.report.tags, self.has_enough_positives, strict=True)
        return tuple(tag for tag, enough in tags if not enough and tag not in self.report.without_positives)

    def to_dict(self) -> dict[str, PerResample]:
        """The official names (`PR-AUC-macro`, …) and their values on every resample."""
        means = {"macro": self.macro, "micro": self.micro}
        return {f"{name}-{mean}": values for mean, by_name in means.items() for name, values in by_name.items()}


def bootstrap(
    systems: Sequence[System], *, generator: np.random.Generator, n_resamples: int = N_RESAMPLES
) -> list[Resampled]:
    """Compute the metrics of systems on resamples of the tracks, the same resamples for all of them.

    Raises:
        ConfigError: if there are no resamples.
        ScoresError: if there are no systems, or they differ in their number of tracks.

    Example:
        >>> truth = np.arange(40)[:, None] % 2 == 0
        >>> system = System(truth, truth + np.random.default_rng(0).random(truth.shape))
        >>> [resampled] = bootstrap([system], generator=np.random.default_rng(0), n_resamples=100)
        >>> low, high = intervals(resampled)["ROC-AUC-macro"]
        >>> low <= system.report.macro["ROC-AUC"] <= high
        True
    """
    if n_resamples < 1:
        raise ConfigError(f"n_resamples={n_resamples}; use at least 1, such as {N_RESAMPLES}")
    counts = {system.shape[0] for system in systems}
    if len(counts) != 1:
        raise ScoresError(f"systems have {sorted(counts)} tracks; give one or more systems, of the same tracks")
    batches: list[list[tuple[dict[str, AnyArray], dict[str, AnyArray]]]] = [[] for _ in systems]
    pairs = max(system.shape[0] * system.shape[1] for system in systems)
    batch_size = min(BATCH_RESAMPLES, max(1, MAX_BATCH_WEIGHTS // pairs))
    for weights in draw_weights(counts.pop(), n_resamples, generator, batch_size=batch_size):
        for system, results in zip(systems, batches, strict=True):
            results.append(system.weighted_metrics(weights))
    return [_join(system, results) for system, results in zip(systems, batches, strict=True)]


def draw_weights(
    tracks: int, n_resamples: int, generator: np.random.Generator, *, batch_size: int = BATCH_RESAMPLES
) -> Iterator[Weights]:
    """Draw the weights of resamples in batches; they depend only on the generator and the number of tracks.

    >>> [weights] = draw_weights(5, 2, np.random.default_rng(0))
    >>> weights.shape, weights.sum(axis=0).tolist()
    ((5, 2), [5, 5])
    """
    for start in range(0, n_resamples, batch_size):
        count = min(batch_size, n_resamples - start)
        rows = generator.integers(tracks, size=(count, tracks)) + tracks * np.arange(count)[:, None]
        yield np.bincount(rows.ravel(), minlength=count * tracks).reshape(count, tracks).T.astype(np.int32, order="C")


def intervals(resampled: Resampled) -> dict[str, Interval]:
    """The confidence interval of every macro and micro metric, by its official name.

    It is the percentile interval, moved so that the mean of the resamples lies on the metric itself, and clipped to
    0 … 1: tracks that are drawn twice raise a precision-recall curve, so an unmoved interval would lie too high. NaN
    with fewer than `MIN_TRACKS` tracks, or fewer than `MIN_POSITIVES` with positives or with negatives.
    """
    observed = resampled.report.to_dict()
    values = _mask(resampled.to_dict(), enough=resampled.has_enough_tracks)
    return {name: _interval(values[name], observed[name]) for name in values}


def tag_intervals(resampled: Resampled) -> dict[str, tuple[Interval, ...]]:
    """The confidence interval of every tag, by the name of the metric; NaN for undefined metrics and `rare_tags`."""
    values = _mask(resampled.per_tag, enough=resampled.has_enough_positives)
    return {name: tuple(map(_interval, values[name].T, resampled.report.per_tag[name])) for name in values}


def compare(a: Resampled, b: Resampled) -> dict[str, Difference]:
    """The difference `a` − `b` of every metric that both have, by official name, with a paired test.

    Both must come from the same `bootstrap`, or from equal generators. Interval and p are NaN where `intervals` are.

    Example:
        >>> truth = np.arange(40)[:, None] % 2 == 0
        >>> good, bad = System(truth, truth * 1.0), System(truth, np.random.default_rng(0).random(truth.shape))
        >>> pair = bootstrap([good, bad], generator=np.random.default_rng(0), n_resamples=100)
        >>> compare(*pair)["ROC-AUC-macro"].p < 0.05
        True
    """
    values = _subtract(*(_mask(system.to_dict(), enough=system.has_enough_tracks) for system in (a, b)))
    observed = _subtract(a.report.to_dict(), b.report.to_dict())
    return {name: _difference(values[name], observed[name]) for name in values}


def compare_tags(a: Resampled, b: Resampled) -> dict[str, tuple[Difference, ...]]:
    """Like `compare`, for every tag, by the name of the metric; of dozens of tags some differ by chance."""
    values = _subtract(*(_mask(system.per_tag, enough=system.has_enough_positives) for system in (a, b)))
    observed = _subtract(a.report.per_tag, b.report.per_tag)
    return {name: tuple(map(_difference, values[name].T, observed[name])) for name in values}


class _Ranking(NamedTuple):
    """Tracks from the highest score to the lowest, and the ties (runs of equal scores) that have positives."""

    tracks: Int64[np.ndarray, "_"]  # the track at every place
    hits: Int64[np.ndarray, "_"]  # the tracks at places with positives
    first: Int64[np.ndarray, "_"]  # index into `hits` at which each tie begins
    edges: Int64[np.ndarray, "_"]  # places that cut the ranking into segments: 0, and both ends of each tie
    above: Int64[np.ndarray, "_"]  # number of segments above each tie
    through: Int64[np.ndarray, "_"]  # number of segments up to the end of each tie


def _rank(truth: Bool[np.ndarray, "_"], scores: Float64[np.ndarray, "_"], tracks: Int64[np.ndarray, "_"]) -> _Ranking:
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    bounds = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
    places = np.flatnonzero(truth[order])
    runs, first = np.unique(np.searchsorted(bounds, places, side="right") - 1, return_index=True)
    edges = np.unique(np.concatenate([[0], bounds[runs], bounds[runs + 1]]))
    above, through = np.searchsorted(edges, bounds[runs]), np.searchsorted(edges, bounds[runs + 1])
    return _Ranking(tracks[order], tracks[order][places], first, edges[edges < len(order)], above, through)


def _areas(ranking: _Ranking, weights: Weights) -> tuple[PerResample, PerResample]:
    """PR-AUC and ROC-AUC for every column of weights."""
    if not ranking.hits.size:
        return np.full(weights.shape[1], np.nan), np.full(weights.shape[1], np.nan)
    before = np.cumsum(_segment_sums(ranking, weights), axis=0)
    before = np.concatenate([np.zeros_like(before[:1]), before])
    above, through = before[ranking.above], before[ranking.through]
    hits = np.add.reduceat(weights[ranking.hits], ranking.first, axis=0).astype(np.int64)
    so_far = np.cumsum(hits, axis=0)
    positives, total = so_far[-1], before[-1]
    precision = metrics.divide(so_far, through, empty=0.0)  # 0 for a tie whose weight is 0
    # Twice the negatives ahead of the positives, ties half: whole numbers, so nothing is rounded before the division.
    ahead = (hits * (above + through - 2 * so_far + hits)).sum(axis=0)
    pairs = 2 * positives * (total - positives)
    return metrics.divide((hits * precision).sum(axis=0), positives), metrics.divide(pairs - ahead, pairs)


def _segment_sums(ranking: _Ranking, weights: Weights) -> Int64[np.ndarray, "_ _"]:
    """Sum of the weights of the tracks in every segment."""
    ends = np.append(ranking.edges[1:], len(ranking.tracks))
    sums = [
        np.add.reduceat(weights[ranking.tracks[starts[0] : ends[start + len(starts) - 1]]], starts - starts[0], axis=0)
        for start in range(0, len(ends), BATCH_SEGMENTS)
        for starts in [ranking.edges[start : start + BATCH_SEGMENTS]]
    ]
    return np.concatenate(sums, dtype=np.int64)


def _join(system: System, batches: Sequence[tuple[dict[str, AnyArray], dict[str, AnyArray]]]) -> Resampled:
    report = system.report
    per_tag = {name: np.concatenate([tags[name] for tags, _ in batches], axis=1).T for name in report.per_tag}
    return Resampled(
        report=report,
        per_tag=per_tag,
        macro={name: _mean(values) for name, values in per_tag.items()},
        micro={name: np.concatenate([pooled[name] for _, pooled in batches]) for name in report.micro},
        has_enough_positives=system.has_enough_positives,
        has_enough_tracks=system.has_enough_tracks,
    )


def _mean(values: PerResampleAndTag) -> PerResample:
    """The mean of every row over the tags that are defined in it."""
    defined = ~np.isnan(values)
    return metrics.divide(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1))


def _mask(values: Mapping[str, AnyArray], *, enough: Bool[np.ndarray, "tags"] | bool) -> dict[str, AnyArray]:
    """The values of resamples, NaN where they are based on too few tracks."""
    return {name: np.where(enough, array, np.nan) for name, array in values.items()}


def _subtract(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """The differences of the metrics that both systems have."""
    return {name: a[name] - b[name] for name in a if name in b}


def _centre(values: PerResample, observed: float) -> PerResample:
    """The defined values, moved so that their mean is the observed one."""
    defined = values[~np.isnan(values)]
    return defined - (defined.mean() - observed) if defined.size and not np.isnan(observed) else defined[:0]


def _ends(centred: PerResample) -> Float64[np.ndarray, "2"]:
    return np.quantile(centred, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) if centred.size else np.full(2, np.nan)


def _interval(values: PerResample, observed: float) -> Interval:
    return Interval(*np.clip(_ends(_centre(values, float(observed))), 0, 1).tolist())


def _difference(values: PerResample, observed: float) -> Difference:
    centred = _centre(values, float(observed))
    rarer = min((centred <= 0).sum(), (centred >= 0).sum())
    p = min(1.0, 2 * (float(rarer) + 1) / (len(centred) + 1)) if centred.size else np.nan
    low, high = _ends(centred).tolist()
    return Difference(float(observed), low, high, p)
