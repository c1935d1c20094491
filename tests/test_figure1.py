"""Figure 1: networks with different receptive fields, their PR-AUC, and the plot."""

from dataclasses import asdict

import numpy as np
import pytest
from matplotlib.figure import Figure

from moodfield.datasets import mtg_jamendo
from moodfield.datasets.mtg_jamendo import Dataset, Split, Track
from moodfield.errors import RunError
from moodfield.evaluation import metrics
from moodfield.paper import figure1
from moodfield.paper.figure1 import Point
from moodfield.paper.plan import Plan
from moodfield.paper.reproduce import Progress
from moodfield.plots import figures, score_curves
from moodfield.training.pipeline import RunPaths
from test_reproduce import ONE_EPOCH, TINY, noises  # noqa: F401 - a fixture

TRUTH = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], bool)


def split() -> Split:
    tags = ("a", "b")
    tracks = [
        Track(str(row), f"{row}.wav", 1.0, tuple(tag for tag, has in zip(tags, here, strict=True) if has))
        for row, here in enumerate(TRUTH)
    ]
    return Split(tuple(tracks), tags)


def test_networks_differ_in_rho_and_seed_only():
    found = figure1.networks([(0, 0), (4, 9)], seeds=(42, 7), settings=("net.width=32",))
    assert [(network.recipe.net.rho_freq, network.recipe.net.rho_time, network.recipe.seed) for network in found] == [
        (0, 0, 42), (0, 0, 7), (4, 9, 42), (4, 9, 7)
    ]  # fmt: skip
    assert len({network.name for network in found}) == 4
    assert {
        (network.recipe.net.width, network.recipe.net.frequency_aware, network.recipe.loss.pos_weight)
        for network in found
    } == {(32, False, 10.0)}
    assert figure1.networks([(0, 0)], small=True)[0].recipe.schedule.epochs == 10


def test_a_point_has_the_best_epoch_and_the_last_average(tmp_path):
    dataset = Dataset("four", split(), split(), split(), tmp_path)
    [network] = figure1.networks([(2, 5)])
    good, bad = TRUTH.astype(np.float32), 1 - TRUTH.astype(np.float32)
    middle = np.full_like(good, 0.5)
    scores = {"validation": np.stack([good, middle, bad]), "test": np.stack([middle, good, good])}
    found = figure1.to_point(network, dataset, scores)
    worst = metrics.evaluate(TRUTH, bad).macro["PR-AUC"]
    assert found == Point(2, 5, 42, {"validation": 1.0, "test": 0.5}, {"validation": worst, "test": 1.0})
    assert found.field == (39, 87)
    assert Point(**asdict(found)) == found


def test_networks_are_trained_once(noises, tmp_path, no_export):  # noqa: F811 - a fixture
    dataset: mtg_jamendo.Dataset = noises
    networks = figure1.networks([(0, 0), (1, 3)], small=True, settings=TINY)
    plan = Plan("figure1", networks, dataset)
    paths = RunPaths(dataset.audio, tmp_path / "store", tmp_path)
    epochs: list[int] = []
    progress = Progress(epoch=lambda _, epoch: epochs.append(epoch.epoch))
    points = figure1.make(plan, paths, progress=progress)
    assert [(point.rho_freq, point.rho_time) for point in points] == [(0, 0), (1, 3)]
    assert len(epochs) == 6
    scores = np.load(tmp_path / "networks" / networks[1].name / "test.npy")
    assert points[1].average["test"] == metrics.evaluate(dataset.test.truth, scores[-1]).macro["PR-AUC"]
    assert figure1.make(plan, paths, progress=progress) == points
    assert len(epochs) == 6
    other = Plan("figure1", figure1.networks([(0, 0), (1, 3)], small=True, settings=ONE_EPOCH), dataset)
    with pytest.raises(RunError, match="another plan"):
        figure1.make(other, paths, progress=progress)
    with pytest.raises(RunError, match="another recipe"):
        figure1.train(other.networks, dataset, RunPaths(dataset.audio, tmp_path / "store", tmp_path / "networks"))


POINTS = [
    Point(rho, rho, seed, {"validation": 0.3 + rho / 100 + more, "test": 0.4}, {"validation": 0.5, "test": 0.6 + more})
    for rho in (9, 2)
    for seed, more in enumerate((0.0, 0.1))
]


def test_points_are_drawn_over_the_size_of_their_receptive_fields(tmp_path, monkeypatch):
    caught: list[Figure] = []
    monkeypatch.setattr(figures, "write", lambda _path, figure: caught.append(figure))
    panel = figure1.panel(POINTS)
    assert panel.ticks == {39: "39\nρ 2", 199: "199\nρ 9"}
    assert panel.scores["test", True] == {39: [0.6, 0.7], 199: [0.6, 0.7]}
    assert panel.scores["validation", False][39] == [pytest.approx(0.32), pytest.approx(0.42)]
    score_curves.draw(tmp_path / "x.png", [panel])
    [axes] = caught[0].axes
    lines = {line.get_color() + line.get_linestyle(): line for line in axes.lines if len(line.get_xdata()) == 2}
    assert len(lines) == 4, "two splits, with and without averages"
    thick = lines[score_curves.COLOURS["test"] + "-"]
    np.testing.assert_allclose(thick.get_ydata(orig=False), [0.65, 0.65])
    np.testing.assert_allclose(thick.get_xdata(orig=False), [39, 199], rtol=0.03)
    thin = lines[score_curves.COLOURS["validation"] + "--"]
    np.testing.assert_allclose(thin.get_ydata(orig=False), [0.37, 0.44])


def test_single_runs_along_time_are_drawn(tmp_path):
    single = [Point(4, rho, 0, {"validation": 0.3, "test": 0.4}, {"validation": 0.5, "test": 0.6}) for rho in (0, 9)]
    panel = figure1.panel(single, title="ρ along time alone", axis="time")
    assert panel.ticks == {23: "23\nρ 0", 199: "199\nρ 9"}
    score_curves.draw(tmp_path / "x.png", [figure1.panel(POINTS), panel])
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
