"""The bridge from genres and instruments to moods: recovered relations, scikit-learn, files, and published figures."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from moodfield import calibration, tags
from moodfield.datasets import mtg_jamendo
from moodfield.distillation.teachers import bridge, jamendo
from moodfield.distillation.teachers.bridge import Bridge
from moodfield.errors import ConfigError, DatasetError, ModelError, ScoresError
from moodfield.evaluation import bootstrap, metrics, submissions

INPUTS = ("genre---metal", "genre---newage", "instrument---piano")
MOODS = ("calm", "heavy", "sad")
WEIGHTS = np.array([[-2.0, 3.0, 0.0], [2.5, -2.0, 0.0], [1.0, -1.0, 1.5]])
RELATIONS = [
    ("genre---metal", "heavy", 1),
    ("genre---soundtrack", "film", 1),
    ("genre---orchestral", "epic", 1),
    ("genre---dance", "party", 1),
    ("genre---techno", "relaxing", -1),
]
"""a genre, a mood, and the sign of their relation in MTG-Jamendo"""
BIAS = np.array([-1.5, -1.0, -1.0])


def write_tsv(path: Path, rows: list[list[str]]) -> None:
    lines = ["\t".join(mtg_jamendo.HEADER)]
    lines += [f"{row[0]}\tartist\talbum\t{row[0]}.mp3\t60.0\t" + "\t".join(row[1:]) for row in rows]
    path.write_text("\n".join(lines) + "\n")


def write_split(folder: Path, part: str, inputs: np.ndarray, truth: np.ndarray) -> None:
    """The TSVs of a split; as in the data, each has only the tracks with one of its tags, in an order of its own."""

    def rows(matrix: np.ndarray, names: tuple[str, ...]) -> list[list[str]]:
        return [[f"{n:05d}", *(names[i] for i in np.flatnonzero(row))] for n, row in enumerate(matrix) if row.any()]

    moods = tuple(f"mood/theme---{name}" for name in MOODS)
    happy = np.hstack([inputs, truth[:, :1]])  # a mood among the top tags
    write_tsv(folder / f"{bridge.TOP_50}{part}.tsv", rows(happy, (*INPUTS, moods[0]))[::-1])
    write_tsv(folder / f"{mtg_jamendo.MOODTHEME}{part}.tsv", rows(truth, moods))


def draw(count: int, seed: int, weights: np.ndarray = WEIGHTS) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    inputs = generator.random((count, len(INPUTS))) < 0.3
    return inputs, generator.random((count, len(MOODS))) < calibration.sigmoid(inputs @ weights + BIAS)


def write_splits(folder: Path, sizes: tuple[int, int, int] = (2_000, 600, 600)) -> Path:
    for seed, (part, size) in enumerate(zip(("train", "validation", "test"), sizes, strict=True)):
        write_split(folder, part, *draw(size, seed))
    return folder


def make_bridge() -> Bridge:
    return Bridge(INPUTS, MOODS, WEIGHTS, BIAS)


# ---------------------------------------------------------------- fit


def test_a_fit_recovers_signs_and_order(tmp_path):
    splits = write_splits(tmp_path)
    fitted = bridge.fit(splits)
    assert fitted.bridge.inputs == INPUTS  # no moods among them
    assert fitted.bridge.tags == MOODS
    clear = np.abs(WEIGHTS) > 0
    assert (np.sign(fitted.bridge.weights) == np.sign(WEIGHTS))[clear].all()
    test = bridge.read(splits, "test", INPUTS)
    inputs = test.inputs.astype(np.float64)
    best = metrics.roc_auc(test.split.truth, inputs @ WEIGHTS + BIAS)
    assert (metrics.roc_auc(test.split.truth, fitted.bridge.logits(inputs)) > best - 0.02).all()
    validation = bridge.read(splits, "validation", INPUTS)
    logits = fitted.bridge.logits(validation.inputs.astype(np.float64))
    assert fitted.pr_auc == metrics.average_precision(validation.split.truth, logits).mean()


@pytest.mark.parametrize("strength", [0.3, 30.0])
def test_fits_are_those_of_scikit_learn(tmp_path, strength):
    train = bridge.read(write_splits(tmp_path, (700, 50, 50)), "train", INPUTS)
    fitted = bridge.fit(tmp_path, strengths=[strength]).bridge
    for tag in range(len(MOODS)):
        oracle = LogisticRegression(C=1 / strength, tol=1e-10, max_iter=1_000)
        oracle.fit(train.inputs, train.split.truth[:, tag])
        np.testing.assert_allclose(fitted.weights[:, tag], oracle.coef_[0], atol=1e-3)
        assert fitted.bias[tag] == pytest.approx(oracle.intercept_[0], abs=1e-3)


def test_validation_tracks_choose_the_strength(tmp_path):
    write_splits(tmp_path)
    weakly = bridge.fit(tmp_path)
    # tracks of which the opposite is true: no weights are better than those of the training tracks
    write_split(tmp_path, "validation", *draw(600, 5, -WEIGHTS))
    strongly = bridge.fit(tmp_path)
    assert weakly.strength < max(bridge.STRENGTHS)
    assert strongly.strength == max(bridge.STRENGTHS)


def test_tracks_without_inputs_count(tmp_path):
    generator = np.random.default_rng(0)
    inputs = np.zeros((400, len(INPUTS)), bool)
    inputs[:200, 0] = True
    truth = generator.random((400, len(MOODS))) < np.where(inputs[:, :1], 0.8, 0.2)
    truth[:, 2] |= ~truth.any(axis=1)  # a track without a mood is not in the TSV
    for part in ("train", "validation"):
        write_split(tmp_path, part, inputs, truth)
    write_split(tmp_path, "train", np.vstack([inputs, np.eye(3, dtype=bool)]), np.vstack([truth, np.eye(3) > 0]))
    fitted = bridge.fit(tmp_path, strengths=[1.0]).bridge
    np.testing.assert_allclose(calibration.sigmoid(fitted.bias), truth[200:].mean(axis=0), atol=0.02)


def test_a_tag_of_every_track_has_a_finite_bias(tmp_path):
    inputs, truth = draw(200, 0)
    truth[:, 1] = True
    for part in ("train", "validation"):
        write_split(tmp_path, part, inputs, truth)
    fitted = bridge.fit(tmp_path).bridge
    assert 3 < fitted.bias[1] < 20


@pytest.mark.parametrize("strengths", [(), (0.0, 1.0), (float("nan"),)])
def test_wrong_strengths(tmp_path, strengths):
    with pytest.raises(ConfigError, match="strengths"):
        bridge.fit(write_splits(tmp_path, (50, 20, 20)), strengths=strengths)


def test_missing_and_wrong_tsvs(tmp_path):
    with pytest.raises(DatasetError, match="top50tags-train"):
        bridge.fit(tmp_path)
    write_splits(tmp_path, (50, 20, 20))
    path = tmp_path / f"{bridge.TOP_50}validation.tsv"
    path.write_text(path.read_text() + "short\n")
    with pytest.raises(DatasetError, match="columns"):
        bridge.fit(tmp_path)
    write_tsv(tmp_path / f"{bridge.TOP_50}train.tsv", [["00001", "mood/theme---calm"]])
    with pytest.raises(DatasetError):
        bridge.fit(tmp_path)


# ---------------------------------------------------------------- use


def test_logits_are_linear_in_any_shape():
    probabilities = np.random.default_rng(0).random((4, 5, len(INPUTS)), dtype=np.float32)
    logits = make_bridge().logits(probabilities)
    assert logits.shape == (4, 5, len(MOODS))
    np.testing.assert_allclose(logits[1, 2], probabilities[1, 2].astype(np.float64) @ WEIGHTS + BIAS, rtol=1e-6)
    with pytest.raises(ScoresError, match="inputs"):
        make_bridge().logits(probabilities[..., :2])


def test_sums_do_not_depend_on_location_and_scale():
    first, second = np.random.default_rng(0).normal(size=(2, 30, 3))
    expected = bridge.add_standardized(first, second, weight=0.5)
    np.testing.assert_allclose(bridge.add_standardized(3 * first - 1, second / 7 + 2, weight=0.5), expected)
    correlations = [np.corrcoef(first[:, tag], second[:, tag])[0, 1] for tag in range(3)]
    np.testing.assert_allclose(expected.var(axis=0), 1.25 + np.array(correlations))
    assert not bridge.add_standardized(np.ones((3, 1)), np.ones((3, 1))).any()


def test_evaluation(tmp_path):
    splits = write_splits(tmp_path)
    test = bridge.read(splits, "test", INPUTS)
    predictions = np.random.default_rng(0).random(test.split.truth.shape)
    resampled = bridge.evaluate(make_bridge(), splits, predictions, n_resamples=20)
    macro = {name: system.report.macro["ROC-AUC"] for name, system in resampled.items()}
    assert list(macro) == ["predictions", "bridge", "sum"]
    assert macro["predictions"] == pytest.approx(0.5, abs=0.05)
    assert macro["predictions"] < macro["sum"] < macro["bridge"]
    interval = bootstrap.intervals(resampled["bridge"])["ROC-AUC-macro"]
    assert interval.low < macro["bridge"] < interval.high
    for wrong in (predictions[1:], 2 * predictions - 1):
        with pytest.raises(ScoresError, match="predictions"):
            bridge.evaluate(make_bridge(), splits, wrong)


# ---------------------------------------------------------------- files


def test_a_saved_bridge_is_the_same(tmp_path):
    saved = Bridge(INPUTS, MOODS, WEIGHTS / 3, BIAS / 7)
    saved.save(tmp_path / "bridge.json")
    loaded = bridge.load(tmp_path / "bridge.json")
    assert (loaded.inputs, loaded.tags) == (INPUTS, MOODS)
    np.testing.assert_array_equal(loaded.weights, saved.weights)
    np.testing.assert_array_equal(loaded.bias, saved.bias)


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": ["genre---metal", "genre---rock", "instrument---piano"]},
        {"inputs": ["genre---metal"] * 3},
        {"inputs": []},
        {"inputs": "rock"},
        {"inputs": [["genre---metal"]]},
        {"tags": ["calm", "heavy"]},
        {"tags": ["calm", "heavy", 3]},
        {"tags": ["calm", "heavy", "calm"]},
        {"bias": [1.0, 2.0]},
        {"bias": [[1.0, 2.0, 3.0]]},
        {"bias": ["1", "2", "3"]},
        {"bias": [True, False, True]},
        {"bias": [1.0, None, 2.0]},
        {"bias": [1e400, 0.0, 0.0]},
        {"bias": [10**400, 0, 0]},
        {"weights": [[1.0, 2.0, 3.0]] * 3},
        {"weights": {name: [1.0, 2.0] for name in INPUTS}},
        {"weights": dict(zip(INPUTS, [[1.0, 2.0, 3.0], [1.0], []], strict=True))},
    ],
    ids=lambda change: json.dumps(change)[:40],
)
def test_damaged_files(tmp_path, change):
    path = tmp_path / "bridge.json"
    make_bridge().save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match="bridge"):
        bridge.load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"inputs": NaN}'])
def test_files_of_another_kind(tmp_path, content):
    (tmp_path / "bridge.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"bridge\.json"):
        bridge.load(tmp_path / "bridge.json")


def test_truncated_and_missing_files(tmp_path):
    path = tmp_path / "bridge.json"
    make_bridge().save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ModelError):
        bridge.load(path)
    with pytest.raises(ModelError):
        bridge.load(tmp_path / "none.json")


# ---------------------------------------------------------------- MTG-Jamendo


def test_inputs_of_mtg_jamendo(data):
    names = bridge.input_names(data / "mtg-jamendo")
    top = (data / "mtg-jamendo/top50.txt").read_text().split()
    assert names == tuple(sorted(name for name in top if not name.startswith("mood/theme---")))
    assert names == jamendo.VOCABULARY[: len(names)]
    test = bridge.read(data / "mtg-jamendo", "test", names)
    assert test.split.vocabulary == tags.MOODS_AND_THEMES
    assert (test.inputs.shape, test.inputs.sum()) == ((4_231, 45), 13_482)
    assert (~test.inputs.any(axis=1)).sum() == 57  # they have moods alone


@pytest.mark.golden
@pytest.mark.slow
def test_figures_of_mtg_jamendo(data):
    splits, predictions = data / "mtg-jamendo", data / "mediaeval2019/baseline/vggish_predictions.npy"
    fitted = bridge.fit(splits)
    assert (fitted.strength, len(fitted.bridge.inputs), len(fitted.bridge.tags)) == (30, 45, 56)
    assert fitted.pr_auc == pytest.approx(0.1083, abs=2e-4)
    for name, tag, sign in RELATIONS:
        weight = fitted.bridge.weights[fitted.bridge.inputs.index(name), fitted.bridge.tags.index(tag)]
        assert sign * weight > 0.25, (name, tag, weight)
    resampled = bridge.evaluate(fitted.bridge, splits, submissions.read_array(predictions), n_resamples=50)
    macro = {name: system.report.macro for name, system in resampled.items()}
    pr_auc = {name: values["PR-AUC"] for name, values in macro.items()}
    assert pr_auc == pytest.approx({"predictions": 0.10773, "bridge": 0.1127, "sum": 0.1355}, abs=2e-4)
    roc_auc = {name: values["ROC-AUC"] for name, values in macro.items()}
    assert roc_auc == pytest.approx({"predictions": 0.7258, "bridge": 0.7172, "sum": 0.7602}, abs=2e-4)
    assert bootstrap.compare(resampled["sum"], resampled["predictions"])["PR-AUC-macro"].low > 0.02
