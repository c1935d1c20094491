"""Pictures of runs: every line is a run's, and a run of any length can be drawn."""

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
    """The pictures that would have been written."""
    caught: list[Figure] = []
    monkeypatch.setattr(figures, "write", lambda _path, figure: caught.append(figure))
    return caught


def lines(figure: Figure, words: str) -> list[list[tuple[float, float]]]:
    """The points of the lines in the plot of that name."""
    [axes] = [each for each in figure.axes if each.get_ylabel() == words]
    return [list(zip(*line.get_data(), strict=True)) for line in axes.lines]


def test_every_line_is_a_runs(tmp_path, drawn_figures):
    learning_curves.draw(tmp_path / "x.png", {"long": LONG, "short": SHORT}, measure="macro PR-AUC")
    [figure] = drawn_figures
    assert lines(figure, "loss") == [
        [(each.epoch, each.loss) for each in LONG],
        [(each.epoch, each.validation_loss) for each in LONG if each.epoch != 4],
        [(1, 1.0)],
    ]
    assert lines(figure, "rate")[0] == [(each.epoch, each.learning_rate) for each in LONG]
    raw, best, mean = lines(figure, "validation macro PR-AUC")
    assert raw == [(each.epoch, each.score) for each in LONG if each.epoch != 4]
    assert best == [(6, LONG[5].score)]
    assert mean == [(each.epoch, each.averaged) for each in LONG[3:]]
    assert [text.get_text() for legend in figure.legends for text in legend.get_texts()] == ["long", "short"]


def test_a_run_that_has_not_begun_can_be_drawn(tmp_path):
    for name, epochs in (("none", []), ("one", SHORT)):
        learning_curves.draw(tmp_path / f"{name}.png", {name: epochs}, measure="score")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_name_is_no_formula(tmp_path):
    learning_curves.draw(tmp_path / "x.png", {r"a run for $\frac$": SHORT}, measure="score")
    assert (tmp_path / "x.png").is_file()


def test_a_picture_that_cannot_be_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"ends in \.png"):
        learning_curves.draw(Path(tmp_path / "x.jpg"), {"one": SHORT}, measure="score")
