"""Figures of learning curves."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from moodfield.errors import OutputError
from moodfield.plots import figures, learning_curves
from moodfield.training.log import Epoch

LONG = [
    Epoch(
        n, 1e-4 / n, 2 / n, score=0.1 * n if n != 4 else None, best=0.1 * n, averaged=0.12 * n if n > 3 else None,
        validation_loss=1 / n if n != 4 else None,
    )
    for n in range(1, 7)
]  # fmt: skip
SHORT = [Epoch(1, 1e-3, 1.0)]


@pytest.fixture
def drawn_figures(monkeypatch) -> list[Figure]:
    """The figures that would have been written."""
    caught: list[Figure] = []
    monkeypatch.setattr(figures, "write", lambda _path, figure: caught.append(figure))
    return caught


def lines(figure: Figure, words: str) -> list[list[tuple[float, float]]]:
    """The points of the lines in the plot of that name."""
    [axes] = [axes for axes in figure.axes if axes.get_ylabel() == words]
    return [list(zip(*line.get_data(), strict=True)) for line in axes.lines]


def test_lines_show_the_epochs_of_runs(tmp_path, drawn_figures):
    learning_curves.draw(tmp_path / "x.png", {"long": LONG, "short": SHORT}, measure="macro PR-AUC")
    [figure] = drawn_figures
    assert lines(figure, "loss") == [
        [(epoch.epoch, epoch.loss) for epoch in LONG],
        [(epoch.epoch, epoch.validation_loss) for epoch in LONG if epoch.epoch != 4],
        [(1, 1.0)],
    ]
    assert lines(figure, "rate")[0] == [(epoch.epoch, epoch.learning_rate) for epoch in LONG]
    raw, best, mean = lines(figure, "validation macro PR-AUC")
    assert raw == [(epoch.epoch, epoch.score) for epoch in LONG if epoch.epoch != 4]
    assert best == [(6, LONG[5].score)]
    assert mean == [(epoch.epoch, epoch.averaged) for epoch in LONG[3:]]
    assert [text.get_text() for legend in figure.legends for text in legend.get_texts()] == ["long", "short"]


def test_empty_and_single_epochs_can_be_drawn(tmp_path):
    for name, epochs in (("none", []), ("one", SHORT)):
        learning_curves.draw(tmp_path / f"{name}.png", {name: epochs}, measure="score")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_dollar_sign_in_a_name_is_literal(tmp_path):
    learning_curves.draw(tmp_path / "x.png", {r"a run for $\frac$": SHORT}, measure="score")
    assert (tmp_path / "x.png").is_file()


def test_an_invalid_path_raises(tmp_path):
    with pytest.raises(OutputError, match=r"ends in \.png"):
        learning_curves.draw(Path(tmp_path / "x.jpg"), {"one": SHORT}, measure="score")
