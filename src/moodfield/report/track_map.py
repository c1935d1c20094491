"""Tracks become places on a map by what they feel like.

In: taggings. Out: a place for each track, words for the directions of the map, and where names fit beside the places.
Knows nothing of: pages, colours, or how a map is drawn.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from moodfield.report import curves
from moodfield.tagging import Tagging

FEWEST = 3
"""tracks that a map needs"""
SHAPE = 1.5
"""width of a map for each unit of its height"""
MARGINS = (0.18, 0.08)
"""what is kept free left and right, and above and below, in heights of the map; names need more room across"""
TELLING = 0.5
"""logits; a tag that differs by much more between tracks counts as others, one that differs by less, less"""
ALIKE = 0.05
"""the map never makes a smaller distance than this as large as its frame: what hardly differs stays in the middle"""
WORDS = 2
"""tags that name each end of a direction, at most"""
TOLD = 0.4
"""least correlation of a tag with a direction that it helps to name"""
SIDES = ("right", "left", "above", "below")
"""where a name may stand beside its dot, the best first"""
EM = 0.55
"""width of most letters, in heights of the type; East Asian ones are a whole height wide"""
DOT = 7.0
"""pixels from the middle of a dot that its name keeps free"""

Coordinate = Float64[np.ndarray, "tracks"]
Boxes = Float64[np.ndarray, "_tracks 4"]
"""left, top, right and bottom of each"""


@dataclass(frozen=True)
class Direction:
    """What changes along one axis of a map, in the album's own tags."""

    low: tuple[str, ...]
    """tags that are clearer at its beginning, left or below, the most telling first"""
    high: tuple[str, ...]
    """tags that are clearer at its end"""


@dataclass(frozen=True, eq=False)
class Album:
    """A map on which tracks that feel alike are near each other."""

    right: Coordinate
    """how far right each track is, in 0 … 1 of the width"""
    down: Coordinate
    """how far down each track is, in 0 … 1 of the height"""
    across: Direction
    """what changes from left to right"""
    upward: Direction
    """what changes from the bottom to the top"""


def lay_out(heard: Sequence[Tagging]) -> Album | None:
    """The map of these tracks, the same in whatever order they come; nothing below three tracks or without shared tags.

    The two directions along which the moods differ most (principal components of the distances in logits from the
    thresholds) become the axes, both at one scale. Themes count only where there are fewer than two moods.
    """
    shared = _shared(heard)
    if len(heard) < FEWEST or not shared:
        return None
    above = _above(heard, shared)
    order = np.lexsort(above.T[::-1])  # sums depend on the order of their terms, and a map must not
    spread = _telling(above[order])
    places = np.empty((len(heard), 2))
    places[order] = _principal(spread)
    back = np.argsort(order, kind="stable")
    across, upward = _directions(places, spread[back], shared)
    right, up = _framed(places)
    return Album(right, 1 - up, across, upward)


def sides(
    album: Album, names: Sequence[str], *, widths: Sequence[int], type_size: int, longest: int
) -> list[str | None]:
    """On which of the `SIDES` of its dot each name can stand without touching another name, a dot or the frame.

    That holds wherever the map is as wide as one of the `widths`, in pixels, and names are set in one line of
    `type_size` pixels and cut where they are longer than `longest` pixels. Nothing for a name that fits nowhere. The
    loneliest dots choose first.
    """
    frames = [(float(width), width / SHAPE) for width in widths]
    centres = [np.stack([album.right * width, album.down * height], axis=1) for width, height in frames]
    taken = [np.concatenate([each - DOT, each + DOT], axis=1) for each in centres]
    distance = np.hypot(*(centres[0][:, None] - centres[0]).T) + np.diag(np.full(len(names), np.inf))
    found: list[str | None] = [None] * len(names)
    for track in np.argsort(-distance.min(axis=0), kind="stable").tolist():
        size = float(min(_ems(names[track]) * type_size, longest)), 1.25 * type_size
        for side in SIDES:
            boxes = [_beside(centre[track], side, size) for centre in centres]
            if all(_free(*each) for each in zip(boxes, taken, frames, strict=True)):
                found[track] = side
                taken = [np.vstack([others, box]) for others, box in zip(taken, boxes, strict=True)]
                break
    return found


def _shared(heard: Sequence[Tagging]) -> list[str]:
    """The moods that all tracks were asked for, or all tags if there are not two moods; in alphabetical order."""
    tags = set.intersection(*(set(each.vocabulary) for each in heard)) if heard else set()
    moods = tags - {tag for each in heard for tag in each.theme_vocabulary}
    return sorted(moods if len(moods) > 1 else tags)


def _above(heard: Sequence[Tagging], shared: Sequence[str]) -> Float64[np.ndarray, "tracks tags"]:
    """How far each score is above its threshold, in logits; of a tag that some track cannot get, the logit alone.

    A score that is no number takes the mean of the others.
    """
    rows = [{tag: row for row, tag in enumerate(each.vocabulary)} for each in heard]
    scores, thresholds = (
        np.array([getattr(each, what)[[row[tag] for tag in shared]] for each, row in zip(heard, rows, strict=True)])
        for what in ("scores", "thresholds")
    )
    possible = (np.isfinite(thresholds) & (thresholds < 1)).all(axis=0)
    above = curves.logit(scores) - np.where(possible, curves.logit(np.where(possible, thresholds, 0.5)), 0)
    known = np.isfinite(above)
    means = np.where(known, above, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known, above, means)


def _telling(above: Float64[np.ndarray, "tracks tags"]) -> Float64[np.ndarray, "tracks tags"]:
    """The distances around its mean, so scaled that no tag drowns the others and none is blown up."""
    return (above - above.mean(axis=0)) / np.hypot(above.std(axis=0), TELLING)


def _principal(spread: Float64[np.ndarray, "tracks tags"]) -> Float64[np.ndarray, "tracks 2"]:
    """The two principal components; the tag that weighs most in each points right, or up."""
    _, _, axes = np.linalg.svd(spread, full_matrices=False)
    axes = np.vstack([axes, np.zeros_like(axes)])[:2]
    weightiest = np.abs(axes).round(9).argmax(axis=1)  # rounded: of equal weights the first, whatever the last digit
    signs = np.sign(axes[np.arange(2), weightiest])
    return spread @ (axes * signs[:, None]).T


def _directions(
    places: Float64[np.ndarray, "tracks 2"], spread: Float64[np.ndarray, "tracks tags"], tags: Sequence[str]
) -> tuple[Direction, Direction]:
    """The tags that correlate most with each of two directions; each tag names only one end of one of them."""
    lengths = np.linalg.norm(spread, axis=0), np.linalg.norm(places, axis=0)
    floor = 1e-3 * np.sqrt(len(places))
    alike = spread.T @ places / np.maximum(np.outer(*lengths), floor**2)
    directions = []
    for axis, other in ((0, 1), (1, 0)):
        mine = np.abs(alike[:, axis]) >= np.maximum(np.abs(alike[:, other]), TOLD)
        order = [int(tag) for tag in np.argsort(-np.abs(alike[:, axis]).round(9), kind="stable") if mine[tag]]
        ends = (tuple(tags[tag] for tag in order if sign * alike[tag, axis] > 0)[:WORDS] for sign in (-1, 1))
        directions.append(Direction(*ends))
    return directions[0], directions[1]


def _framed(places: Float64[np.ndarray, "tracks 2"]) -> tuple[Coordinate, Coordinate]:
    """Places in 0 … 1 of the width and of the height, both directions at one scale, the middle in the middle."""
    least, most = places.min(axis=0), places.max(axis=0)
    room = np.array([SHAPE, 1]) - 2 * np.array(MARGINS)
    scale = 1 / max(float(((most - least) / room).max()), ALIKE)
    right, up = ((places - (least + most) / 2) * scale / [SHAPE, 1] + 0.5).T
    return right, up


def _ems(name: str) -> float:
    """About how long a name is, in heights of its type."""
    return sum(1.0 if unicodedata.east_asian_width(letter) in "WF" else EM for letter in name)


def _beside(centre: Float64[np.ndarray, "2"], side: str, size: tuple[float, float]) -> Float64[np.ndarray, "4"]:
    """The box of a name on one side of a dot."""
    (x, y), (width, height) = centre, size
    left = {"right": x + DOT, "left": x - DOT - width}.get(side, x - width / 2)
    top = {"above": y - DOT - height, "below": y + DOT}.get(side, y - height / 2)
    return np.array([left, top, left + width, top + height])


def _free(box: Float64[np.ndarray, "4"], taken: Boxes, frame: tuple[float, float]) -> bool:
    """Whether a box lies in the frame and touches nothing."""
    apart: Bool[np.ndarray, "_tracks 4"] = np.concatenate([box[:2] >= taken[:, 2:], box[2:] <= taken[:, :2]], axis=1)
    inside = box[0] >= 0 and box[1] >= 0 and box[2] <= frame[0] and box[3] <= frame[1]
    return bool(inside and apart.any(axis=1).all())
