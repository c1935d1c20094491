"""Regions of the map of tracks: the tags that distinguish the tracks of a region from the others."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from moodfield.report.track_map import ASPECT, TrackMap

COLUMNS, ROWS = 24, 16
"""cells of the grid on which means of tags are computed"""
RADIUS = 0.1
"""standard deviation of the Gaussian window of the means / height of the map"""
MIN_DISTINCTION = 0.4
"""standard deviations by which the mean of a tag in its region exceeds that of all tracks, at least"""
NEAR_PEAK = 0.8
"""share of a tag's highest mean from which on a place belongs to its region"""
MAX_REGIONS = 14
"""most names of regions"""
GAP = (0.22, 0.13)
"""least distance between the names of two regions, across or down, as shares of width and height"""
EDGE = (0.14, 0.05)
"""distance of a name from the edge of the map, as shares of width and height"""


@dataclass(frozen=True)
class Region:
    """A region of a map, named by a tag that is stronger there than elsewhere."""

    tag: str
    """the tag"""
    x: float
    """centre from left to right, 0 … 1"""
    y: float
    """centre from top to bottom, 0 … 1"""


def name_regions(track_map: TrackMap) -> list[Region]:
    """Name regions by the tags with the highest local means, the most distinctive first; none if no tag stands out."""
    means, centres = _local_means(track_map)
    means[means < np.maximum(NEAR_PEAK * means.max(axis=0), MIN_DISTINCTION)] = -np.inf
    regions: list[Region] = []
    while len(regions) < MAX_REGIONS and np.isfinite(means.max()):
        cell, tag = np.unravel_index(means.round(9).argmax(), means.shape)
        x, y = np.clip(centres[cell], EDGE, 1 - np.array(EDGE)).round(4).tolist()
        regions.append(Region(track_map.tags[tag], x, y))
        means[:, tag] = -np.inf
        means[(np.abs(centres - [x, y]) < GAP).all(axis=1)] = -np.inf
    return regions


def _local_means(track_map: TrackMap) -> tuple[Float64[np.ndarray, "_ tags"], Float64[np.ndarray, "_ 2"]]:
    """Means of the standardized tags around the centre of every cell, lower where there are few tracks; the centres."""
    x, y = np.meshgrid((np.arange(COLUMNS) + 0.5) / COLUMNS, (np.arange(ROWS) + 0.5) / ROWS)
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    column = np.minimum(track_map.x * COLUMNS, COLUMNS - 1).astype(int)
    cells = np.minimum(track_map.y * ROWS, ROWS - 1).astype(int) * COLUMNS + column
    counts = np.bincount(cells, minlength=len(centres)).astype(np.float64)
    sums = np.stack([np.bincount(cells, row, minlength=len(centres)) for row in track_map.features.T], axis=1)
    distances = ((centres[:, None] - centres) * [ASPECT, 1]) / RADIUS
    window = np.exp(-(distances**2).sum(axis=2) / 2)
    near = window @ counts
    return window @ sums / (near + near.mean() / 4)[:, None], centres
