"""A figure of scores over the receptive field, as Figure 1 of the paper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from moodfield.plots import figures
from moodfield.plots.figures import FAINT, INK

COLOURS = {"validation": "#0b5fa5", "test": "#ee6a24"}
"""split → colour"""


@dataclass(frozen=True)
class Panel:
    """Scores over the receptive field along one axis."""

    title: str
    """title of the panel"""
    along: str
    """label of the horizontal axis"""
    scores: Mapping[tuple[str, bool], Mapping[int, Sequence[float]]]
    """split, and whether weights are averaged → size of the receptive field → scores of all runs"""
    ticks: Mapping[int, str]
    """size of the receptive field → label of its tick"""


def draw(path: Path, panels: Sequence[Panel], *, measure: str = "macro PR-AUC") -> None:
    """Draw panels side by side; several runs of one size become their mean and its standard error.

    Raises:
        OutputError: the file must not be written; see `figures.check`.
    """
    figures.check(path)
    figure = Figure(figsize=(5.6 * len(panels) + 0.6, 4.6), dpi=150)
    first: Axes | None = None
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1, sharey=first)
        first = first or axes
        _curves(axes, panel)
        axes.set_title(panel.title, fontsize=10.5, color=INK, loc="left")
        axes.set_xlabel(panel.along, color=INK)
        axes.grid(color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK, labelsize=8.5, labelleft=number == 0)
    if first:
        first.set_ylabel(measure, color=INK)
    _legend(figure)
    figure.subplots_adjust(left=0.75 / figure.get_figwidth(), right=0.985, bottom=0.17, top=0.83, wspace=0.06)
    figures.write(path, figure)


def _curves(axes: Axes, panel: Panel) -> None:
    """Thin dashed lines for networks, thick ones for averages of their weights."""
    axes.set_xscale("log")
    shifts = {key: 1 + 0.012 * (place - 1.5) for place, key in enumerate(panel.scores)}  # bars side by side
    for (split, averaged), scores in panel.scores.items():
        at = np.array(sorted(scores))
        means = [float(np.mean(scores[field])) for field in at]
        errors = [_error(scores[field]) for field in at]
        colour = COLOURS[split]
        axes.errorbar(
            at * shifts[split, averaged], means, yerr=errors if any(errors) else None, color=colour, ecolor=colour,
            elinewidth=0.8, linewidth=2.2 if averaged else 1.1, linestyle="-" if averaged else (0, (4, 2)), marker="o",
            markersize=5.5, markerfacecolor=colour if averaged else "white", markeredgecolor=colour, alpha=0.95,
        )  # fmt: skip
    axes.xaxis.set_major_locator(FixedLocator([float(field) for field in panel.ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels(list(panel.ticks.values()))


def _error(values: Sequence[float]) -> float:
    """Standard error of the mean; 0 for a single run."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _legend(figure: Figure) -> None:
    """The legend above the panels."""
    lines = [Line2D([], [], color=colour, linewidth=3) for colour in COLOURS.values()]
    lines += [
        Line2D([], [], color=FAINT, linewidth=2.2, marker="o", markersize=5.5),
        Line2D([], [], color=FAINT, linewidth=1.1, linestyle=(0, (4, 2)), marker="o", markerfacecolor="white"),
    ]
    names = [*COLOURS, "average of its weights (SWA)", "network of the best epoch"]
    figure.legend(lines, names, loc="upper left", bbox_to_anchor=(0.01, 0.995), ncols=4, frameon=False, fontsize=9.5)
