"""Decisions by logits: which tags are decided for a track, against a reference or other tracks.

One rule for both: a tag is decided if its evidence is above `CUT`, and at most `MARGIN` below that of the track's
clearest tag. Evidence is how far a logit is above what is usual, in standard deviations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from moodfield import calibration
from moodfield.errors import ConfigError

CUT = 1.0
"""evidence above which a tag may be decided, in standard deviations above what is usual; *chosen by us*"""
KIND_SLACK = 1.0
"""standard deviations by which evidence among one kind of music may be less than among all; *chosen by us*"""
MARGIN = 0.4
"""standard deviations that a decided tag may be below the track's clearest one; *chosen by us*"""
MAX_TAGS = 5
"""decided tags of a track at most; *chosen by us*"""
PSEUDO_TRACKS = 10.0
"""tracks that the reference counts for in relative decisions: k of the weight n / (n + k); *chosen by us*"""
MIN_TRACKS = 20
"""different tracks that are needed without a reference; *chosen by us*"""
MAX_LOGIT = 20.0
"""larger logits, of scores that round to 0 or 1, count as this one in statistics"""
DECIMALS = 4
"""of logits, by which tracks are compared: a track that is given twice counts once"""
FEWEST = 20
"""tracks of a kind of music that weigh as much as any other kind; fewer count in proportion"""
MIN_STD = 1e-6
"""standard deviation of logits below which a tag is constant and never decided"""

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(21)
NODES, WEIGHTS = NODES[:, None], WEIGHTS / WEIGHTS.sum()
"""of the Gauss–Hermite quadrature of means over a normal distribution"""

Evidence = Float64[np.ndarray, "... tags"]
Logits = Float[np.ndarray, "... tags"]


@dataclass(frozen=True, eq=False)
class Usual:
    """What is usual for every tag: mean and standard deviation of the logits of tracks, and of each kind of music."""

    mean: Float64[np.ndarray, "tags"]
    """mean logit"""
    std: Float64[np.ndarray, "tags"]
    """standard deviation, 0 or more"""
    tracks: int = 1
    """number of tracks"""
    kinds: "Mapping[str, Usual]" = field(default_factory=dict)
    """what is usual among the tracks of one kind of music, by its name; empty if unknown"""

    @cached_property
    def scores(self) -> Float64[np.ndarray, "tags"]:
        """The mean score of every tag if its logits are normally distributed."""
        return np.asarray(WEIGHTS @ calibration.sigmoid(self.mean + self.std * NODES))

    @property
    def cuts(self) -> Float64[np.ndarray, "tags"]:
        """Logits above which tags may be decided; infinity for constant tags."""
        among = [kind.mean + (CUT - KIND_SLACK) * kind.std for kind in self.kinds.values()]
        return np.where(self.std > MIN_STD, np.max([self.mean + CUT * self.std, *among], axis=0), np.inf)

    def take(self, tags: Sequence[int]) -> "Usual":
        """What is usual for some of the tags."""
        kinds = {name: kind.take(tags) for name, kind in self.kinds.items()}
        return Usual(self.mean[list(tags)], self.std[list(tags)], self.tracks, kinds)

    def evidence(self, logits: Logits) -> Evidence:
        """Evidence for every tag: standard deviations of its logit above the mean; 0 for constant tags.

        If the logit is less unusual among the tracks of one kind of music, it is that, plus `KIND_SLACK`.
        """
        logits = np.clip(logits, -MAX_LOGIT, MAX_LOGIT)
        evidence = (logits - self.mean) / np.maximum(self.std, MIN_STD)
        for kind in self.kinds.values():
            among = (logits - kind.mean) / np.maximum(kind.std, MIN_STD) + KIND_SLACK
            evidence = np.minimum(evidence, among)
        return np.where(self.std > MIN_STD, evidence, 0.0)

    def decide(self, logits: Logits) -> Bool[np.ndarray, "... tags"]:
        """Which tags are decided for the logits of a track, or of every track."""
        evidence = self.evidence(logits)
        return clearest(evidence, evidence > CUT)


@dataclass(frozen=True, eq=False)
class Rule:
    """The rule by which tags are decided for logits, of one track or of many."""

    thresholds: Float32[np.ndarray, "tags"]
    """a tag may be decided when its score is above its threshold; 1 or more: never"""
    priors: Float32[np.ndarray, "tags"] | None = None
    """share of the training tracks with each tag; None if unknown"""
    usual: Usual | None = None
    """what is usual; None if unknown"""

    def evidence(self, logits: Logits) -> Evidence:
        """How far logits are above what is usual, in standard deviations (`Usual.evidence`).

        Without statistics: logits minus those of the prior, in nats; of the threshold if priors are unknown. A
        threshold beyond which a tag is always or never decided is no reference: 0.5 is used instead.
        """
        if self.usual:
            return self.usual.evidence(logits)
        finite = np.where((self.thresholds > 0) & (self.thresholds < 1), self.thresholds, 0.5)
        return logits - calibration.logit(finite if self.priors is None else self.priors)

    def decide(self, logits: Logits, evidence: Evidence) -> Bool[np.ndarray, "... tags"]:
        """Which tags are decided: above the threshold and, with statistics, among the clearest by their evidence."""
        above = np.asarray(calibration.sigmoid(logits) > self.thresholds)
        return above if self.usual is None else clearest(evidence, above)

    def relative_to(self, logits: Float[np.ndarray, "tracks tags"]) -> "Rule":
        """The rule by which what distinguishes tracks from each other is decided.

        What is usual moves from the reference to the mean of the tracks, the more of them there are.

        Raises:
            ConfigError: There is no reference, and there are fewer than `MIN_TRACKS` different tracks.
        """
        tracks = different(logits)
        return self.relative_to_usual(usual(tracks) if len(tracks) else None)

    def relative_to_usual(self, own: Usual | None) -> "Rule":
        """The same for what is usual among the `different` tracks, None if there are none; raises as `relative_to`."""
        if self.usual:
            among = self.usual if own is None else shrink_usual(self.usual, own)
        elif own and own.tracks >= MIN_TRACKS:
            among = own
        else:
            raise ConfigError(
                f"{own.tracks if own else 0} different tracks are too few for relative decisions of a model without "
                f"reference statistics; give {MIN_TRACKS} tracks or more"
            )
        never = self.thresholds >= 1
        thresholds = np.where(never, self.thresholds, calibration.sigmoid(among.cuts)).astype(np.float32)
        return Rule(thresholds, self.priors, among)


def usual(logits: Float[np.ndarray, "tracks tags"], kinds: Sequence[str] = ()) -> Usual:
    """What is usual among tracks and, if the kinds of music of all tracks are given, among those of each kind.

    All kinds count alike; those with fewer than `FEWEST` tracks in proportion, and nothing is known of each of them.

    Example:
        >>> usual(np.array([[1.0], [3.0]])).mean
        array([2.])
    """
    logits = np.clip(logits.astype(np.float64), -MAX_LOGIT, MAX_LOGIT)
    shares = balance(kinds) if len(kinds) else np.full(len(logits), 1 / len(logits))
    mean = shares @ logits
    names, numbers = np.unique(np.array(kinds, dtype=str), return_inverse=True)
    rows = {str(name): logits[numbers == number] for number, name in enumerate(names)}
    by_kind = {name: usual(values) for name, values in rows.items() if FEWEST <= len(values) < len(logits)}
    return Usual(mean, np.sqrt(shares @ (logits - mean) ** 2), len(logits), by_kind)


def usual_mean(members: Sequence[Usual]) -> Usual:
    """What is usual for the mean score of several models, whose logits are normally distributed and fully correlated.

    Example:
        >>> usual_mean([Usual(np.zeros(1), np.ones(1))] * 2).std.round(6)
        array([1.])
    """
    if len(members) == 1:
        return members[0]
    scores = np.mean([calibration.sigmoid(item.mean + item.std * NODES) for item in members], axis=0)
    logits = calibration.logit(scores)
    mean = WEIGHTS @ logits
    names = set.intersection(*(set(item.kinds) for item in members))
    kinds = {name: usual_mean([item.kinds[name] for item in members]) for name in sorted(names)}
    return Usual(mean, np.sqrt(WEIGHTS @ (logits - mean) ** 2), min(item.tracks for item in members), kinds)


def balance(kinds: Sequence[str]) -> Float64[np.ndarray, "tracks"]:
    """Weights of tracks by which every kind of music counts alike, or in proportion if it has fewer than `FEWEST`.

    Example:
        >>> balance(["rock"] * 40 + ["jazz"] * 20)[[0, -1]].tolist()  # they add up to 1
        [0.0125, 0.025]
    """
    _, numbers, counts = np.unique(np.array(kinds), return_inverse=True, return_counts=True)
    shares = (np.minimum(counts, FEWEST) / counts)[numbers]
    return np.asarray(shares / shares.sum())


def different(logits: Float[np.ndarray, "tracks tags"]) -> Float[np.ndarray, "_tracks tags"]:
    """The tracks with finite logits, each of them once, rounded to `DECIMALS`.

    Example:
        >>> different(np.array([[1.0], [np.nan], [1.0], [0.0]])).tolist()
        [[1.0], [0.0]]
    """
    steps = rounded(logits)
    _, first = np.unique(keys(steps), return_index=True)
    return steps[np.sort(first)] / 10.0**DECIMALS


def rounded(logits: Float[np.ndarray, "tracks tags"]) -> Int64[np.ndarray, "_tracks tags"]:
    """The tracks with finite logits, in steps of 10 to the power of −`DECIMALS`."""
    return np.round(logits[np.isfinite(logits).all(axis=1)] * 10.0**DECIMALS).astype(np.int64)


def keys(steps: Int64[np.ndarray, "tracks tags"]) -> Int64[np.ndarray, "tracks"]:
    """Hashes of the rounded logits of tracks; sorting them takes a tenth of the time that sorting rows takes."""
    factors = np.random.default_rng(0).integers(2**62, size=steps.shape[1], dtype=np.int64) * 2 + 1
    return steps @ factors


def shrink(reference: Usual, logits: Float[np.ndarray, "tracks tags"]) -> Usual:
    """What is usual among tracks if little is known of them: between the reference and their own statistics.

    The n `different` tracks weigh n / (n + k), the reference k / (n + k), with `PSEUDO_TRACKS` for k (empirical Bayes).
    """
    tracks = different(logits)
    return shrink_usual(reference, usual(tracks)) if len(tracks) else reference


def shrink_usual(reference: Usual, own: Usual) -> Usual:
    """The same for what is usual among the `different` tracks."""
    return _between(reference, own, own.tracks / (own.tracks + PSEUDO_TRACKS))


def _between(reference: Usual, own: Usual, share: float) -> Usual:
    """A reference, moved by a share towards statistics of tracks; so is what is usual for each kind of music."""
    variance = share * own.std**2 + (1 - share) * reference.std**2
    kinds = {name: _between(kind, own, share) for name, kind in reference.kinds.items()}
    return Usual(share * own.mean + (1 - share) * reference.mean, np.sqrt(variance), own.tracks, kinds)


def clearest(
    evidence: Float[np.ndarray, "... tags"],
    above: Bool[np.ndarray, "... tags"],
    *,
    margin: float = MARGIN,
    most: int = MAX_TAGS,
) -> Bool[np.ndarray, "... tags"]:
    """Choose the clearest of the tags that may be decided.

    Args:
        evidence: Standard deviations above what is usual.
        above: Which tags may be decided.
        margin: Standard deviations that a tag may be below the very clearest.
        most: Number of tags at most.

    Example:
        >>> clearest(np.array([2.5, 2.1, 1.6, 2.2]), np.array([True, True, True, False])).tolist()
        [True, True, False, False]
    """
    open_ = np.where(above, evidence, -np.inf)
    ranks = np.argsort(np.argsort(-open_, axis=-1, kind="stable"), axis=-1)
    return np.asarray(above & (ranks < most) & (open_ >= open_.max(axis=-1, keepdims=True) - margin))
