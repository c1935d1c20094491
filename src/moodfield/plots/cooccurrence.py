"""A figure of the tags that occur together."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from moodfield.errors import ConfigError
from moodfield.plots import figures
from moodfield.plots.figures import FAINT, INK

STRONGEST = 8.0
"""lift, or its inverse, at which the colour scale ends"""
COLOURS = LinearSegmentedColormap.from_list("lift", ["#0b5fa5", "#8fb8dc", "#e9e9e9", "#f5a877", "#d9480f"])
"""from low to high lift; 1 is grey"""
NUMBERED_TAGS = 16
"""most tags of a figure with a number in every cell"""

Counts = Int64[np.ndarray, "tags tags"]


def draw(path: Path, counts: Counts, tags: Sequence[str], *, tracks: int) -> None:
    """Draw how often tags occur together.

    The area of a square is the number of tracks with both tags, its colour their `lift`.

    Args:
        path: the file to write: .png, .svg or .pdf.
        counts: number of tracks with both of two tags; on the diagonal, with one tag.
        tags: names of the tags, two or more.
        tracks: number of all tracks.

    Raises:
        ConfigError: counts of another shape, or too few tags or tracks.
        OutputError: the file must not be written; see `figures.check`.
    """
    figures.check(path)
    if counts.shape != (len(tags), len(tags)) or len(tags) < 2 or tracks < 1:
        raise ConfigError(
            f"counts of shape {counts.shape} with {len(tags)} tags and {tracks} tracks; expected a row and a column of "
            "each tag, at least two tags and a track"
        )
    order = arrange(counts, tracks)
    counts, tags = counts[np.ix_(order, order)], [figures.label(tags[row]) for row in order]
    side = max(4.2, 0.205 * len(tags))
    words = (0.068 if len(tags) > NUMBERED_TAGS else 0.09) * max(map(len, tags))
    left, right, top, bottom = words + 0.4, 1.5, words + 0.15, 0.85
    width, height = left + side + right, bottom + side + top
    figure = Figure(figsize=(width, height), dpi=140)
    axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
    bars = figure.add_axes(((left + side + 0.12) / width, bottom / height, (right - 0.65) / width, side / height))
    legend = figure.add_axes((left / width, 0.42 / height, min(2.6, side * 0.6) / width, 0.13 / height))
    squares = _squares(axes, counts, tracks)
    _names(axes, tags)
    _bars(bars, np.diag(counts))
    scale = figure.colorbar(squares, cax=legend, orientation="horizontal", ticks=[1 / STRONGEST, 1, STRONGEST])
    scale.ax.set_xticklabels([f"1/{STRONGEST:g}", "as often as by chance", f"{STRONGEST:g} times"])
    scale.ax.tick_params(colors=INK, labelsize=8, length=0)
    scale.ax.minorticks_off()
    scale.outline.set_visible(False)
    most = int(_off_diagonal(counts).max())
    figure.text(
        1 - 0.1 / width, 0.42 / height, f"area: tracks with both tags, {most} at most\n{tracks:,} tracks",
        ha="right", va="center", fontsize=8, color=FAINT, linespacing=1.5,
    )  # fmt: skip
    figures.write(path, figure)


def lift(counts: Counts, tracks: int) -> Float64[np.ndarray, "tags tags"]:
    """The lift of two tags: their co-occurrences over those expected by chance; 1 where a tag does not occur.

    Example:
        >>> lift(np.array([[4, 3], [3, 6]]), tracks=12)[0, 1].item()
        1.5
    """
    alone = np.diag(counts).astype(np.float64)
    chance = np.outer(alone, alone) / tracks
    return np.divide(counts, chance, out=np.ones_like(chance), where=chance > 0)


def arrange(counts: Counts, tracks: int) -> list[int]:
    """An order of the tags in which neighbours occur together often.

    It follows the second eigenvector of the graph's Laplacian (Fiedler, 1975); edges are logarithms of lifts above 1.
    """
    edges = np.log(np.clip(lift(counts, tracks), 1, STRONGEST)) + 1e-2  # so that the graph is connected
    weight = edges.sum(axis=1)
    laplacian = np.eye(len(edges)) - edges / np.sqrt(np.outer(weight, weight))
    vector = np.linalg.eigh(laplacian)[1][:, 1] / np.sqrt(weight)
    return np.argsort(vector * np.sign(vector[np.argmax(np.abs(vector))]), kind="stable").tolist()


def _off_diagonal(counts: Counts) -> Counts:
    """The counts of different tags."""
    return counts * ~np.eye(len(counts), dtype=bool)


def _squares(axes: Axes, counts: Counts, tracks: int) -> PatchCollection:
    """A square for every two tags that occur together."""
    rows, columns = np.nonzero(_off_diagonal(counts))
    sides = 0.96 * np.sqrt(counts[rows, columns] / max(1, _off_diagonal(counts).max()))
    patches = [
        Rectangle((column - side / 2, row - side / 2), side, side)
        for row, column, side in zip(rows.tolist(), columns.tolist(), sides.tolist(), strict=True)
    ]
    squares = PatchCollection(patches, cmap=COLOURS, norm=LogNorm(1 / STRONGEST, STRONGEST, clip=True), linewidths=0)
    squares.set_array(lift(counts, tracks)[rows, columns])
    axes.add_collection(squares)
    if len(counts) <= NUMBERED_TAGS:
        for row, column, side in zip(rows.tolist(), columns.tolist(), sides.tolist(), strict=True):
            inside = side > 0.33  # otherwise beside the square, which it would cover
            axes.text(
                column if inside else column + side / 2 + 0.05, row, str(counts[row, column]),
                ha="center" if inside else "left", va="center_baseline", fontsize=8, color=INK if inside else FAINT,
            )  # fmt: skip
    return squares


def _names(axes: Axes, tags: Sequence[str]) -> None:
    """Tag names along both axes, and grid lines."""
    positions = np.arange(len(tags))
    axes.set(xlim=(-0.5, len(tags) - 0.5), ylim=(len(tags) - 0.5, -0.5), xticks=positions, yticks=positions)
    size = 8 if len(tags) > NUMBERED_TAGS else 10
    axes.set_xticklabels(tags, rotation=90, fontsize=size, color=INK, parse_math=False)  # a $ in a tag is no formula
    axes.set_yticklabels(tags, fontsize=size, color=INK, parse_math=False)
    axes.tick_params(length=0, pad=4, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.grid(color="#f0f0f0", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.plot([-0.5, len(tags) - 0.5], [-0.5, len(tags) - 0.5], color="#d8d8d8", linewidth=0.8, zorder=0)


def _bars(axes: Axes, alone: Int64[np.ndarray, "tags"]) -> None:
    """How many tracks have each tag."""
    positions = np.arange(len(alone))
    axes.barh(positions, alone, height=0.62, color="#b9c6d2")
    for position, count in zip(positions.tolist(), alone.tolist(), strict=True):
        axes.text(count + 0.03 * alone.max(), position, f"{count:,}", va="center", fontsize=7.5, color=FAINT)
    axes.set(ylim=(len(alone) - 0.5, -0.5), xlim=(0, max(1, alone.max())))
    axes.set_axis_off()
    axes.set_title("tracks", fontsize=8.5, color=FAINT, loc="left", pad=6)
