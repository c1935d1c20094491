"""A two-dimensional map of tracks by their moods, and the placement of names on it."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Float64

from moodfield.report import curves
from moodfield.report.track import MANY_TRACKS, Reference

MIN_TRACKS = 3
"""fewest tracks that get a map"""
ASPECT = 1.5
"""width of the map / height"""
MARGINS = (0.18, 0.08)
"""margins left and right, and above and below, as a share of the height; names need more space across"""
DENSE_MARGIN = 0.03
"""the margin of a map without names"""
SOFT_STD = 0.5
"""logits; tags with a much larger standard deviation weigh the same, tags with a smaller one weigh less"""
MIN_EXTENT = 0.05
"""smallest extent that is scaled to the frame; tracks that hardly differ stay in the middle"""
DECIMALS = 3
"""of features, by which tracks are compared: equal ones have one position"""
ROUNDS = 4
"""iterations of the optimal transport; more are a little more even, and separate more neighbours"""
LABEL_TAGS = 2
"""most tags at each end of an axis"""
MIN_CORRELATION = 0.4
"""smallest correlation of a tag with the axis that it labels"""
SIDES = MappingProxyType({"right": (1, 0), "left": (-1, 0), "above": (0, -1), "below": (0, 1)})
"""sides of a dot for its name, in order of preference → direction"""
EM = 0.55
"""width of most letters / font size; East Asian letters have 1"""
DOT = 7.0
"""pixels between the centre of a dot and its name"""

Coordinate = Float64[np.ndarray, "tracks"]
Places = Float64[np.ndarray, "tracks 2"]
Features = Float64[np.ndarray, "tracks tags"]


@dataclass(frozen=True)
class Axis:
    """Tags that label the ends of an axis, by decreasing correlation."""

    low: tuple[str, ...]
    """tags that increase towards the left or the bottom"""
    high: tuple[str, ...]
    """tags that increase towards the right or the top"""


@dataclass(frozen=True, eq=False)
class TrackMap:
    """Positions of tracks; tracks with similar scores are near each other."""

    x: Coordinate
    """positions from left to right, 0 … 1"""
    y: Coordinate
    """positions from top to bottom, 0 … 1"""
    horizontal: Axis
    """labels of the left and right edge"""
    vertical: Axis
    """labels of the bottom and top edge"""
    features: Features
    """standardized logits, from which the positions were computed"""
    tags: tuple[str, ...]
    """the tags of the features"""


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """Standardization of logits, and their two first principal components."""

    mean: Float64[np.ndarray, "tags"]
    """mean of every tag"""
    scale: Float64[np.ndarray, "tags"]
    """softened standard deviation of every tag"""
    components: Float64[np.ndarray, "2 tags"]
    """directions, signed so that the largest weight is positive"""

    @classmethod
    def fit(cls, logits: Features) -> "PrincipalAxes":
        """The axes of tracks; floating-point sums depend on their order."""
        mean, scale = logits.mean(axis=0), np.hypot(logits.std(axis=0), SOFT_STD)
        _, _, axes = np.linalg.svd((logits - mean) / scale, full_matrices=False)
        axes = np.vstack([axes, np.zeros_like(axes)])[:2]
        weightiest = (
            np.abs(axes).round(9).argmax(axis=1)
        )  # rounded: of equal weights the first, whatever the last digit
        signs = np.sign(axes[np.arange(2), weightiest])
        return cls(mean, scale, axes * signs[:, None])

    def standardize(self, logits: Features) -> Features:
        """Standardized logits."""
        return (logits - self.mean) / self.scale

    def project(self, logits: Features) -> Places:
        """The two principal components."""
        return self.standardize(logits) @ self.components.T


def mood_columns(reference: Reference) -> list[int]:
    """The tags by which tracks are mapped, by name: moods, or all tags if there are fewer than two moods."""
    tags = reference.moods if len(reference.moods) > 1 else list(range(len(reference.vocabulary)))
    return sorted(tags, key=lambda tag: reference.vocabulary[tag])


def finite_logits(scores: Float[np.ndarray, "tracks tags"]) -> Features:
    """Logits of scores, with the mean over the other tracks instead of NaN."""
    logits = curves.logit(scores)
    finite = np.isfinite(logits)
    means = np.where(finite, logits, 0).sum(axis=0) / np.maximum(finite.sum(axis=0), 1)
    return np.where(finite, logits, means)


def lay_out(scores: Float[np.ndarray, "tracks tags"], reference: Reference) -> TrackMap | None:
    """Map tracks by the two first principal components of their scores; None below `MIN_TRACKS`.

    The features are standardized logits, of moods only unless there are fewer than two. Up to `MANY_TRACKS` both axes
    have the same scale. The more tracks there are beyond that, the more evenly they are spread over the map. The map
    does not depend on the order of the tracks.
    """
    tags = mood_columns(reference)
    if len(scores) < MIN_TRACKS or not tags:
        return None
    logits = finite_logits(scores[:, tags])
    order = np.lexsort(logits.T[::-1])  # floating-point sums depend on the order of their terms
    axes = PrincipalAxes.fit(logits[order])
    features = axes.standardize(logits[order])
    places = np.empty((len(scores), 2))
    share = max(0.0, 1 - MANY_TRACKS / len(scores))
    places[order] = _spread(features @ axes.components.T, features, share)
    features = features[np.argsort(order, kind="stable")]
    names = tuple(reference.vocabulary[tag] for tag in tags)
    horizontal, vertical = _axes(places - places.mean(axis=0), features, names)
    right, up = (places / [ASPECT, 1] + 0.5).T
    return TrackMap(right, 1 - up, horizontal, vertical, features, names)


def label_sides(
    track_map: TrackMap, names: Sequence[str], *, widths: Sequence[int], type_size: int, longest: int
) -> list[str | None]:
    """Choose a side of its dot for every name so that no name overlaps another name, a dot or the frame.

    Args:
        track_map: Positions of the dots.
        names: Names of the tracks.
        widths: Widths of the map in pixels; a side must be free at all of them.
        type_size: Font size in pixels.
        longest: Longest name in pixels; longer ones are cut.

    Returns:
        One of `SIDES` for every track, None where no side is free. Isolated dots are placed first.
    """
    frames = np.array([(width, width / ASPECT) for width in widths])
    centres = np.stack([track_map.x, track_map.y], axis=1) * frames[:, None]
    taken = np.concatenate([centres - DOT, centres + DOT], axis=2)  # boxes of dots and names: low and high corners
    distance = np.hypot(*(centres[0][:, None] - centres[0]).T) + np.diag(np.full(len(names), np.inf))
    sides: list[str | None] = [None] * len(names)
    for track in np.argsort(-distance.min(axis=0), kind="stable").tolist():
        half = np.array([min(_ems(names[track]) * type_size, longest), 1.25 * type_size]) / 2
        for side, direction in SIDES.items():
            middle = centres[:, track] + np.array(direction) * (DOT + half)
            low, high = middle - half, middle + half
            overlaps = ((low[:, None] < taken[..., 2:]) & (high[:, None] > taken[..., :2])).all(axis=2).any()
            if (low >= 0).all() and (high <= frames).all() and not overlaps:
                sides[track] = side
                taken = np.concatenate([taken, np.concatenate([low, high], axis=1)[:, None]], axis=1)
                break
    return sides


def _spread(principal: Places, features: Features, share: float) -> Places:
    """Fit positions into the frame around 0, and move them by a share of the way to an even distribution."""
    size = np.array([ASPECT, 1]) - 2 * (share * DENSE_MARGIN + (1 - share) * np.array(MARGINS))
    low, high = principal.min(axis=0), principal.max(axis=0)
    places = (principal - (low + high) / 2) / max(float(((high - low) / size).max()), MIN_EXTENT)
    if not share:
        return places
    _, first, numbers = np.unique(features.round(DECIMALS), axis=0, return_index=True, return_inverse=True)
    even = _transport(places[first], size)[numbers]
    return (1 - share) * places + share * even


def _transport(places: Places, size: Float64[np.ndarray, "2"]) -> Places:
    """Move points to an even distribution over a rectangle around 0 by sliced optimal transport.

    In every direction the projections of the points are moved towards those of evenly distributed points, in the order
    that they have, so that neighbours stay neighbours (Rabin et al., 2011).
    """
    numbers = np.arange(1, len(places) + 1)[:, None]
    even = (np.modf(numbers * [0.7548776662466927, 0.5698402909980532])[0] - 0.5) * size  # the R2 sequence
    even -= even.mean(axis=0)
    points = (places - places.mean(axis=0)) / np.maximum(places.std(axis=0), 1e-9) * even.std(axis=0)
    angles = np.arange(8) * np.pi / 8
    directions = np.stack([np.cos(angles), np.sin(angles)])
    targets = np.sort(even @ directions, axis=0)
    for _ in range(ROUNDS):
        projected = points @ directions
        moves = np.empty_like(projected)
        np.put_along_axis(moves, projected.argsort(axis=0, kind="stable"), targets, axis=0)
        points += 2 * (moves - projected) @ directions.T / len(angles)
    return np.clip(points, -size / 2, size / 2)


def _axes(places: Places, features: Features, tags: Sequence[str]) -> tuple[Axis, Axis]:
    """Label both axes with the tags that correlate most with them; a tag labels one end of one axis."""
    lengths = np.linalg.norm(features, axis=0), np.linalg.norm(places, axis=0)
    floor = 1e-3 * np.sqrt(len(places))
    correlation = features.T @ places / np.maximum(np.outer(*lengths), floor**2)
    axes = []
    for axis, other in ((0, 1), (1, 0)):
        is_label = np.abs(correlation[:, axis]) >= np.maximum(np.abs(correlation[:, other]), MIN_CORRELATION)
        order = [int(tag) for tag in np.argsort(-np.abs(correlation[:, axis]).round(9), kind="stable") if is_label[tag]]
        ends = (tuple(tags[tag] for tag in order if sign * correlation[tag, axis] > 0)[:LABEL_TAGS] for sign in (-1, 1))
        axes.append(Axis(*ends))
    return axes[0], axes[1]


def _ems(name: str) -> float:
    """Estimated width of a name / font size."""
    return sum(1.0 if unicodedata.east_asian_width(letter) in "WF" else EM for letter in name)
