"""A two-dimensional map of tracks by their moods, and the placement of names on it."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float64

from moodfield.report import curves
from moodfield.tagging import Tagging

MIN_TRACKS = 3
"""fewest tracks that get a map"""
ASPECT = 1.5
"""width of the map / height"""
MARGINS = (0.18, 0.08)
"""margins left and right, and above and below, as a share of the height; names need more space across"""
SOFT_STD = 0.5
"""logits; tags with a much larger standard deviation weigh the same, tags with a smaller one weigh less"""
MIN_EXTENT = 0.05
"""smallest extent that is scaled to the frame; tracks that hardly differ stay in the middle"""
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


def lay_out(taggings: Sequence[Tagging]) -> TrackMap | None:
    """Map tracks by their two first principal components; None below `MIN_TRACKS` or without common tags.

    The features are logits relative to the thresholds, of moods only unless there are fewer than two. Both axes have
    the same scale. The map does not depend on the order of the tracks.
    """
    shared = _shared(taggings)
    if len(taggings) < MIN_TRACKS or not shared:
        return None
    above = _above(taggings, shared)
    order = np.lexsort(above.T[::-1])  # floating-point sums depend on the order of their terms
    features = _standardize(above[order])
    places = np.empty((len(taggings), 2))
    places[order] = _principal(features)
    back = np.argsort(order, kind="stable")
    horizontal, vertical = _axes(places, features[back], shared)
    right, up = _framed(places)
    return TrackMap(right, 1 - up, horizontal, vertical)


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


def _shared(taggings: Sequence[Tagging]) -> list[str]:
    """The moods in the vocabulary of all tracks, or all common tags if there are fewer than two moods; sorted."""
    tags = set.intersection(*(set(tagging.vocabulary) for tagging in taggings)) if taggings else set()
    moods = tags - {tag for tagging in taggings for tag in tagging.theme_vocabulary}
    return sorted(moods if len(moods) > 1 else tags)


def _above(taggings: Sequence[Tagging], shared: Sequence[str]) -> Float64[np.ndarray, "tracks tags"]:
    """Logits of the scores minus logits of the thresholds; where a threshold is 1 or more, the logits alone.

    NaN is replaced by the mean over the other tracks.
    """
    columns = [[tagging.vocabulary.index(tag) for tag in shared] for tagging in taggings]
    scores = np.array([tagging.scores[order] for tagging, order in zip(taggings, columns, strict=True)])
    thresholds = np.array([tagging.thresholds[order] for tagging, order in zip(taggings, columns, strict=True)])
    possible = (np.isfinite(thresholds) & (thresholds < 1)).all(axis=0)
    above = curves.logit(scores) - np.where(possible, curves.logit(np.where(possible, thresholds, 0.5)), 0)
    finite = np.isfinite(above)
    means = np.where(finite, above, 0).sum(axis=0) / np.maximum(finite.sum(axis=0), 1)
    return np.where(finite, above, means)


def _standardize(above: Float64[np.ndarray, "tracks tags"]) -> Float64[np.ndarray, "tracks tags"]:
    """Subtract the mean and divide by the softened standard deviation of every tag."""
    return (above - above.mean(axis=0)) / np.hypot(above.std(axis=0), SOFT_STD)


def _principal(features: Float64[np.ndarray, "tracks tags"]) -> Float64[np.ndarray, "tracks 2"]:
    """Project on the two first principal components, signed so that the largest weight is positive."""
    _, _, axes = np.linalg.svd(features, full_matrices=False)
    axes = np.vstack([axes, np.zeros_like(axes)])[:2]
    weightiest = np.abs(axes).round(9).argmax(axis=1)  # rounded: of equal weights the first, whatever the last digit
    signs = np.sign(axes[np.arange(2), weightiest])
    return features @ (axes * signs[:, None]).T


def _axes(
    places: Float64[np.ndarray, "tracks 2"], features: Float64[np.ndarray, "tracks tags"], tags: Sequence[str]
) -> tuple[Axis, Axis]:
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


def _framed(places: Float64[np.ndarray, "tracks 2"]) -> tuple[Coordinate, Coordinate]:
    """Scale positions to 0 … 1 of width and height, both by the same factor, and centre them."""
    low, high = places.min(axis=0), places.max(axis=0)
    size = np.array([ASPECT, 1]) - 2 * np.array(MARGINS)
    scale = 1 / max(float(((high - low) / size).max()), MIN_EXTENT)
    right, up = ((places - (low + high) / 2) * scale / [ASPECT, 1] + 0.5).T
    return right, up


def _ems(name: str) -> float:
    """Estimated width of a name / font size."""
    return sum(1.0 if unicodedata.east_asian_width(letter) in "WF" else EM for letter in name)
