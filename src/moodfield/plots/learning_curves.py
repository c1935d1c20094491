"""A figure of losses, learning rates and scores over the epochs of runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from moodfield.plots import figures
from moodfield.plots.figures import INK
from moodfield.training.log import Epoch

COLOURS = ("#0b5fa5", "#ee6a24", "#1d8a5b", "#b5123e", "#7a4fb3", "#8a6d1d", "#3aa6a0", "#d0679d")
"""colours of the runs, repeated if there are more"""


def draw(path: Path, runs: Mapping[str, Sequence[Epoch]], *, measure: str) -> None:
    """Draw the learning curves of runs.

    Args:
        path: the file to write: .png, .svg or .pdf.
        runs: name → epochs.
        measure: name of the scores.

    Raises:
        OutputError: the file must not be written; see `figures.check`.
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
        numbers = [epoch.epoch for epoch in epochs]
        loss.plot(numbers, [epoch.loss for epoch in epochs], color=colour, linewidth=1.5)
        validated = [(epoch.epoch, epoch.validation_loss) for epoch in epochs if epoch.validation_loss is not None]
        if validated:
            loss.plot(*zip(*validated, strict=True), color=colour, linewidth=1.2, linestyle=(0, (3, 1.5)))
        rate.plot(numbers, [epoch.learning_rate for epoch in epochs], color=colour, linewidth=1.2)
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


def _scores(axes: Axes, epochs: Sequence[Epoch], colour: str) -> None:
    """Scores of the network as a thin line, of averaged weights as a thick one, of the best epoch as a dot."""
    raw = [(epoch.epoch, epoch.score) for epoch in epochs if epoch.score is not None]
    mean = [(epoch.epoch, epoch.averaged) for epoch in epochs if epoch.averaged is not None]
    if raw:
        best = max(raw, key=lambda point: point[1])
        axes.plot(*zip(*raw, strict=True), color=colour, linewidth=1, alpha=0.55)
        axes.plot(*best, marker="o", color=colour, markersize=6, markeredgecolor="white")
    if mean:
        marker = "_" if len(mean) == 1 else None
        axes.plot(*zip(*mean, strict=True), color=colour, linewidth=2.4, solid_capstyle="round", marker=marker)


def _legends(figure: Figure, loss: Axes, scores: Axes, names: Sequence[str]) -> None:
    """Legends of the kinds of lines in the plots, and of the runs above them."""
    training = Line2D([], [], color=INK, linewidth=1.5, label="training, mixed up")
    validation = Line2D([], [], color=INK, linewidth=1.2, linestyle=(0, (3, 1.5)), label="validation")
    loss.legend(handles=[training, validation], loc="upper right", fontsize=8.5, labelcolor=INK)
    kinds = [
        Line2D([], [], color=INK, linewidth=1, alpha=0.55),
        Line2D([], [], color=INK, linewidth=2.4),
        Line2D([], [], color=INK, marker="o", markeredgecolor="white", linestyle="none"),
    ]
    labels = ["network", "average of its weights", "best epoch"]
    scores.legend(kinds, labels, loc="lower right", fontsize=8.5, labelcolor=INK)
    runs = [Line2D([], [], color=COLOURS[index % len(COLOURS)], linewidth=3) for index in range(len(names))]
    legend = figure.legend(
        runs, [figures.label(name) for name in names], loc="upper left", bbox_to_anchor=(0.055, 0.985), ncols=4,
        frameon=False, fontsize=10, labelcolor=INK,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)  # a $ in a name is no formula
