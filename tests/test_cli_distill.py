"""The commands `moodfield distill bridge`, `targets` and `train`: options, early errors, and what they write."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import models
import teachers
from commands import Result, invoke
from moodfield import tagger, tags
from moodfield.datasets import mtg_jamendo
from moodfield.distillation import distill, manifest
from moodfield.distillation.degradation import Degradation
from moodfield.distillation.teachers import bridge, ensemble, jamendo, published
from moodfield.distillation.teachers.bridge import Bridge

RATE = 16_000
N_TAGS = len(tags.MOODS_AND_THEMES)
HEADER = "\t".join((*manifest.COLUMNS, "kind"))
ROWS = ("train\tsongs\ta.wav\t4\tMIT\tpop", "train\tsongs\tb.wav\t4\tMIT\trock", "heldout\ttunes\tc.wav\t4\tMIT\tpop")


def write_bridge(path: Path) -> Path:
    drawn = np.random.default_rng(0)
    inputs = tuple(name for name in jamendo.VOCABULARY if not name.startswith("mood"))
    weights = drawn.normal(size=(len(inputs), N_TAGS))
    Bridge(inputs, tags.MOODS_AND_THEMES, weights, drawn.normal(size=N_TAGS)).save(path)
    return path


def write_ensemble(path: Path) -> Path:
    drawn = np.random.default_rng(0)
    moods = {name: drawn.normal(size=(9, N_TAGS)) for name in ensemble.WEIGHTS}
    ensemble.fit(moods, ["any"] * 9, drawn.normal(size=(9, N_TAGS))).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Music with its manifest, predictions, a bridge, an ensemble, and checkpoints that no network was loaded from."""
    for seed, row in enumerate(ROWS):
        _, package, name, *_ = row.split("\t")
        (tmp_path / package).mkdir(exist_ok=True)
        models.save(tmp_path / package / name, models.music(2, seed=seed, rate=RATE))
    (tmp_path / "manifest.tsv").write_text("\n".join((HEADER, *ROWS)) + "\n")
    np.save(tmp_path / "predictions.npy", np.random.default_rng(0).random((20, N_TAGS)))
    write_bridge(tmp_path / "bridge.json")
    write_ensemble(tmp_path / "given.json")
    return tmp_path


@pytest.fixture
def tiny(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny teachers in the place of the published ones."""
    monkeypatch.setattr(published, "teachers", lambda given: tuple(teachers.all_published(given)))


def run_targets(folder: Path, **changes: Path) -> Result:
    """Run `moodfield distill targets` on the files of a folder, some of them changed."""
    given = {
        "manifest": folder / "manifest.tsv", "checkpoints": folder / "checkpoints", "bridge": folder / "bridge.json",
        "predictions": folder / "predictions.npy", "audio": folder, "output": folder / "ensemble.json",
    } | changes  # fmt: skip
    options = [word for name, path in given.items() if name != "manifest" for word in (f"--{name}", path)]
    return invoke("distill", "targets", given["manifest"], *options, "--cache-dir", folder / "cache", "--jobs", 1)


def run_train(folder: Path, *words: object) -> Result:
    return invoke("distill", "train", folder / "manifest.tsv", "--audio", folder, "-o", folder / "run", *words)


# ---------------------------------------------------------------- targets


def test_targets_are_computed_and_an_ensemble_is_fitted(folder, tiny):
    result = run_targets(folder)
    assert result.code == 0, result.err
    assert re.search(r"5 teachers, 3 of 3 tracks, 0\.0 h; \d+ s", " ".join(result.err.split()))
    loaded = ensemble.load(folder / "ensemble.json")
    assert dict(loaded.weights) == dict(ensemble.WEIGHTS)
    assert set(loaded.sources) == {*ensemble.WEIGHTS, "reference", "predictions"}
    assert len(list((folder / "cache").rglob("*.npy"))) == 15
    written = (folder / "ensemble.json").read_bytes()
    assert run_targets(folder).code == 0
    assert (folder / "ensemble.json").read_bytes() == written


def test_tracks_that_cannot_be_read_are_reported(folder, tiny):
    (folder / "tunes" / "c.wav").write_bytes(b"nothing")
    result = run_targets(folder)
    assert result.code == 0, result.err
    assert result.err.count("left out") == 5, "once for every teacher"
    assert "2 of 3 tracks" in " ".join(result.err.split())


def test_a_folder_without_the_music_is_an_error(folder, tiny):
    (folder / "empty").mkdir()
    result = run_targets(folder, audio=folder / "empty")
    assert result.code == 1
    assert "empty" in result.err.splitlines()[-1]
    assert not (folder / "ensemble.json").exists()


@pytest.mark.parametrize("name", ["manifest", "bridge", "predictions"])
def test_a_missing_file_is_one_message(folder, tiny, name):
    result = run_targets(folder, **{name: folder / "none"})
    assert result.code == 1
    assert "none" in result.err
    assert "Traceback" not in result.err
    assert not (folder / "cache").exists()


def test_a_missing_checkpoint_is_one_message_before_any_work(folder):
    result = run_targets(folder)
    assert result.code == 1
    assert "best_model.pth" in result.err
    assert "left out" not in result.err
    assert not list(folder.rglob("cache/*/*/*.npy"))


def test_predictions_of_other_tags_are_an_error_before_any_work(folder, tiny):
    np.save(folder / "predictions.npy", np.zeros((20, 50)))
    result = run_targets(folder)
    assert (result.code, "56" in result.err, (folder / "cache").exists()) == (1, True, False)


@pytest.mark.parametrize("name", ["manifest.tsv", "bridge.json", "predictions.npy"])
def test_targets_do_not_overwrite_their_inputs(folder, tiny, name):
    before = (folder / name).read_bytes()
    result = run_targets(folder, output=folder / name)
    assert result.code == 2
    assert "input" in result.err
    assert (folder / name).read_bytes() == before


def test_targets_do_not_overwrite_another_file(folder, tiny):
    (folder / "notes.txt").write_text("mine")
    assert run_targets(folder, output=folder / "notes.txt").code == 2
    assert (folder / "notes.txt").read_text() == "mine"


# ---------------------------------------------------------------- train


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The inputs that distillations are called with; none is run."""
    calls: list[object] = []
    monkeypatch.setattr(distill, "distill", lambda config, **_: calls.append(config))
    monkeypatch.setattr("moodfield.cli.tables.print_metrics", lambda _: None)
    return calls


def test_train_takes_an_ensemble(folder, configs):
    result = run_train(folder, "--ensemble", folder / "given.json", "--checkpoints", folder / "checkpoints")
    assert result.code == 0, result.err
    [config] = configs
    assert config.targets.teachers == published.teachers(folder / "checkpoints")
    assert dict(config.targets.ensemble.weights) == dict(ensemble.WEIGHTS)


def test_train_takes_one_teacher(folder, configs):
    result = run_train(folder, "--teacher", folder / "best.pth")
    assert result.code == 0, result.err
    assert configs[0].targets.teachers == (published.teacher("vggish", folder / "best.pth"),)
    assert configs[0].targets.ensemble is None


def test_train_takes_an_initial_model_by_name(folder, configs):
    result = run_train(folder, "--teacher", folder / "best.pth", "--init", "default", "--degrade")
    assert result.code == 0, result.err
    [config] = configs
    assert config.initial_model == tagger.model_folder("default")
    assert config.degradation == Degradation()
    assert run_train(folder, "--teacher", folder / "best.pth", "--init", "defalt").code == 2
    assert len(configs) == 1


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("ensemble",),
        ("checkpoints",),
        ("teacher", "ensemble"),
        ("teacher", "checkpoints"),
        ("teacher", "ensemble", "checkpoints"),
    ],
)
def test_other_combinations_are_usage_errors(folder, configs, options):
    given = {"teacher": "best.pth", "ensemble": "given.json", "checkpoints": "checkpoints"}
    words = [word for name in options for word in (f"--{name}", folder / given[name])]
    result = run_train(folder, *words)
    assert (result.code, configs) == (2, [])
    assert "--teacher" in result.err


@pytest.mark.parametrize("content", [None, "{}", "nonsense"])
def test_an_invalid_ensemble_is_one_message(folder, configs, content):
    if content:
        (folder / "other.json").write_text(content)
    result = run_train(folder, "--ensemble", folder / "other.json", "--checkpoints", folder)
    assert (result.code, configs) == (1, [])
    assert "other.json" in result.err


def test_train_needs_its_checkpoints(folder):
    for words in (("--teacher", folder / "none.pth"), ("--ensemble", folder / "given.json", "--checkpoints", folder)):
        result = run_train(folder, *words)
        assert result.code == 1
        assert ".pth" in result.err
        assert not (folder / "run" / "best").exists()


# ---------------------------------------------------------------- bridge


def write_splits(folder: Path) -> Path:
    """Official TSVs with three genres and three moods."""
    drawn, inputs, moods = (
        np.random.default_rng(0),
        ("genre---metal", "genre---pop", "instrument---piano"),
        ("calm", "sad"),
    )
    for part, count in (("train", 200), ("validation", 80), ("test", 80)):
        drawn_inputs = drawn.random((count, len(inputs))) < 0.4
        drawn_moods = drawn.random((count, len(moods))) < 0.2 + 0.5 * drawn_inputs[:, : len(moods)]
        drawn_inputs[:, 2] |= ~drawn_inputs.any(axis=1)
        drawn_moods[:, 0] |= ~drawn_moods.any(axis=1)
        for prefix, names, matrix in (
            (bridge.TOP_50, inputs, drawn_inputs),
            (mtg_jamendo.MOODTHEME, tuple(f"mood/theme---{name}" for name in moods), drawn_moods),
        ):
            lines = ["\t".join(mtg_jamendo.HEADER)]
            for number, row in enumerate(matrix):
                found = (name for name, value in zip(names, row, strict=True) if value)
                lines.append("\t".join((f"{number:05}", "artist", "album", f"{number:05}.mp3", "60.0", *found)))
            (folder / f"{prefix}{part}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_bridge_is_fitted_and_written(tmp_path):
    result = invoke("distill", "bridge", write_splits(tmp_path), "-o", tmp_path / "bridge.json")
    assert result.code == 0, result.err
    assert (result.out, "PR-AUC" in result.err) == ("", True)
    assert bridge.load(tmp_path / "bridge.json").tags == ("calm", "sad")


def test_a_bridge_is_evaluated_beside_predictions(tmp_path):
    np.save(tmp_path / "predictions.npy", np.random.default_rng(1).random((80, 2)))
    words = ("distill", "bridge", write_splits(tmp_path), "-o", tmp_path / "bridge.json")
    result = invoke(*words, "--predictions", tmp_path / "predictions.npy")
    assert result.code == 0, result.err
    rows = [line.split()[0] for line in result.out.splitlines()]
    assert rows[1:] == ["predictions", "bridge", "sum"]
    assert rows[0] == "test"


@pytest.mark.parametrize("predictions", [None, "text"])
def test_unreadable_predictions_are_an_error_before_any_work(tmp_path, monkeypatch, predictions):
    monkeypatch.setattr(bridge, "fit", lambda *_: 1 / 0)
    if predictions:
        (tmp_path / "wrong.npy").write_text(predictions)
    result = invoke("distill", "bridge", tmp_path, "-o", tmp_path / "new.json", "--predictions", tmp_path / "wrong.npy")
    assert (result.code, "wrong.npy" in result.err) == (1, True)


def test_a_bridge_needs_its_splits(tmp_path):
    result = invoke("distill", "bridge", tmp_path, "-o", tmp_path / "bridge.json")
    assert result.code == 1
    assert ".tsv" in result.err
    assert not (tmp_path / "bridge.json").exists()


@pytest.mark.parametrize("make", [lambda path: path.write_text("notes"), lambda path: path.mkdir()])
def test_a_bridge_overwrites_no_other_file(tmp_path, monkeypatch, make: Callable[[Path], object]):
    monkeypatch.setattr(bridge, "fit", lambda *_: 1 / 0)
    make(tmp_path / "given")
    assert invoke("distill", "bridge", tmp_path, "-o", tmp_path / "given").code == 2
    np.save(tmp_path / "predictions.npy", np.zeros((2, 2)))
    words = ("--predictions", tmp_path / "predictions.npy", "-o", tmp_path / "predictions.npy")
    result = invoke("distill", "bridge", tmp_path, *words)
    assert (result.code, "input" in result.err) == (2, True)


def test_help_of_the_group():
    result = invoke("distill", "--help")
    assert result.code == 0
    assert all(name in result.out for name in ("bridge", "targets", "train"))
    assert json.dumps(result.err) == '""'
