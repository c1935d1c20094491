"""How runs went becomes a picture.

In: names, and the epochs of runs. Out: one picture of losses, rates, and scores of networks and of their averages.
Knows nothing of: how a run is trained or kept.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from moodfield.plots import figures
from moodfield.plots.figures import INK

COLOURS = ("#0b5fa5", "#ee6a24", "#1d8a5b", "#b5123e", "#7a4fb3", "#8a6d1d", "#3aa6a0", "#d0679d")
"""of the runs, in their order, and then again"""


@runtime_checkable
class Lesson(Protocol):
    """What is known of an epoch."""

    @property
    def epoch(self) -> int:
        """Counted from 1."""

    @property
    def learning_rate(self) -> float:
        """Learning rate."""

    @property
    def loss(self) -> float:
        """Mean training loss."""

    @property
    def validation_loss(self) -> float | None:
        """Mean validation loss, if it was measured."""

    @property
    def score(self) -> float | None:
        """What the network reached in validation, if it was measured."""

    @property
    def averaged(self) -> float | None:
        """What the mean of the weights reached, if there was one."""


def draw(path: Path, runs: Mapping[str, Sequence[Lesson]], *, measure: str) -> None:
    """Put the picture of some runs at `path`; `measure` is what their scores are.

    Refuses a place where no picture can be with `ConfigError`.
    """
    figures.check(path)
    figure = Figure(figsize=(11, 4.8), dpi=150)
    grid = figure.add_gridspec(
        2, 2, width_ratios=(1, 1.35), height_ratios=(3, 1), left=0.065, right=0.985, bottom=0.11, top=0.86, hspace=0.12,
        wspace=0.16,
    )  # fmt: skip
    loss, scores = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[:, 1])
    rate = figure.add_subplot(grid[1, 0], sharex=loss)
    for index, epochs in enumerate(runs.values()):
        colour = COLOURS[index % len(COLOURS)]
        at = [each.epoch for each in epochs]
        loss.plot(at, [each.loss for each in epochs], color=colour, linewidth=1.5)
        heard = [(each.epoch, each.validation_loss) for each in epochs if each.validation_loss is not None]
        if heard:
            loss.plot(*zip(*heard, strict=True), color=colour, linewidth=1.2, linestyle=(0, (3, 1.5)))
        rate.plot(at, [each.learning_rate for each in epochs], color=colour, linewidth=1.2)
        _scores(scores, epochs, colour)
    rate.set_yscale("log")
    loss.tick_params(labelbottom=False)
    for axes, words in ((loss, "loss"), (rate, "rate"), (scores, f"validation {measure}")):
        axes.set_ylabel(words, color=INK)
        axes.grid(color="#e6e6e6", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK, labelsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=9))
        axes.set_axisbelow(True)
    for axes in (rate, scores):
        axes.set_xlabel("epoch", color=INK)
    _legends(figure, loss, scores, list(runs))
    figures.write(path, figure)


def _scores(axes: Axes, epochs: Sequence[Lesson], colour: str) -> None:
    """The network's scores as a thin line, the averages' as a thick one, the best epoch as a dot."""
    raw = [(each.epoch, each.score) for each in epochs if each.score is not None]
    mean = [(each.epoch, each.averaged) for each in epochs if each.averaged is not None]
    if raw:
        best = max(raw, key=lambda each: each[1])
        axes.plot(*zip(*raw, strict=True), color=colour, linewidth=1, alpha=0.55)
        axes.plot(*best, marker="o", color=colour, markersize=6, markeredgecolor="white")
    if mean:
        alone = "_" if len(mean) == 1 else None
        axes.plot(*zip(*mean, strict=True), color=colour, linewidth=2.4, solid_capstyle="round", marker=alone)


def _legends(figure: Figure, loss: Axes, scores: Axes, names: Sequence[str]) -> None:
    """What lines mean, in the plots; whose they are, above them."""
    sides = [
        Line2D([], [], color=INK, linewidth=1.5),
        Line2D([], [], color=INK, linewidth=1.2, linestyle=(0, (3, 1.5))),
    ]
    loss.legend(sides, ["training, mixed up", "validation"], loc="upper right", fontsize=8.5, labelcolor=INK)
    kinds = [
        Line2D([], [], color=INK, linewidth=1, alpha=0.55),
        Line2D([], [], color=INK, linewidth=2.4),
        Line2D([], [], color=INK, marker="o", markeredgecolor="white", linestyle="none"),
    ]
    scores.legend(
        kinds, ["network", "average of its weights", "best epoch"], loc="lower right", fontsize=8.5, labelcolor=INK
    )
    runs = [Line2D([], [], color=COLOURS[index % len(COLOURS)], linewidth=3) for index in range(len(names))]
    whose = figure.legend(
        runs, [figures.label(name) for name in names], loc="upper left", bbox_to_anchor=(0.055, 0.985), ncols=4,
        frameon=False, fontsize=10, labelcolor=INK,
    )  # fmt: skip
    for text in whose.get_texts():
        text.set_parse_math(False)  # a name is no formula
