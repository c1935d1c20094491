"""Targets: teachers and ensembles, windows of the first teacher, tracks that fail, and what determines targets."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import models
import teachers
from moodfield import calibration, tags
from moodfield.datasets.mtg_jamendo import Track
from moodfield.distillation import manifest, targets
from moodfield.distillation.manifest import Music
from moodfield.distillation.targets import TargetSource
from moodfield.distillation.teachers import bridge, ensemble, jamendo, published, teacher
from moodfield.distillation.teachers.bridge import Bridge
from moodfield.distillation.teachers.ensemble import Ensemble
from moodfield.distillation.teachers.teacher import Teacher
from moodfield.errors import AudioError, ConfigError, DatasetError, ModelError, ScoresError
from moodfield.evaluation import metrics
from moodfield.mel import MelConfig
from moodfield.training.pipeline import RunPaths

RATE = 16_000
N_TAGS = len(tags.MOODS_AND_THEMES)
HEADER = "\t".join((*manifest.COLUMNS, "kind"))
ROWS = ("train\tsongs\ta.wav\t5\tMIT\tpop", "train\tsongs\tb.wav\t4\tMIT\trock", "train\tsongs\tc.wav\t3\tMIT\tpop",
        "heldout\ttunes\ta.wav\t5\tMIT\trock")  # fmt: skip


def write_music(folder: Path) -> Music:
    """Three training tracks and a held-out one, with their manifest."""
    for seed, row in enumerate(ROWS):
        _, package, name, seconds, *_ = row.split("\t")
        (folder / package).mkdir(exist_ok=True)
        models.save(folder / package / name, models.music(float(seconds), seed=seed, rate=RATE))
    (folder / "manifest.tsv").write_text("\n".join((HEADER, *ROWS)) + "\n")
    return manifest.read_manifest(folder / "manifest.tsv")


def make_paths(folder: Path) -> RunPaths:
    return RunPaths(folder, folder / "cache", folder / "run")


def make_bridge(seed: int = 0) -> Bridge:
    drawn = np.random.default_rng(seed)
    inputs = tuple(name for name in jamendo.VOCABULARY if not name.startswith("mood"))
    return Bridge(inputs, tags.MOODS_AND_THEMES, drawn.normal(size=(len(inputs), N_TAGS)), drawn.normal(size=N_TAGS))


def write_predictions(folder: Path, *, name: str = "predictions.npy", seed: int = 0) -> Path:
    np.save(folder / name, np.random.default_rng(seed).random((40, N_TAGS)).astype(np.float32))
    return folder / name


def make_ensemble(**weights: float) -> Ensemble:
    """An ensemble of teachers of the 56 tags, fitted on noise."""
    moods = {name: np.random.default_rng(seed).normal(size=(20, N_TAGS)) for seed, name in enumerate(weights)}
    target = np.random.default_rng(9).normal(size=(20, N_TAGS))
    return ensemble.fit(moods, ["any"] * 20, target, weights=weights)


def compute(sources: tuple[Teacher, ...], music: Music, folder: Path) -> list[tuple[str, type | None]]:
    """Compute outputs of all tracks; returns every call of the progress: the track and the type of its error."""
    calls = []
    targets.compute_all(
        sources,
        music.tracks,
        make_paths(folder),
        lambda track, error: calls.append((track.path, error and type(error))),
    )
    return calls


def fit(folder: Path, sources: tuple[Teacher, ...], music: Music, *, given: Bridge | None = None) -> Ensemble:
    """The ensemble of computed outputs of the training tracks."""
    predictions = folder / "predictions.npy"
    return targets.fit_ensemble(
        sources, given or make_bridge(), music, music.train.tracks, predictions, make_paths(folder)
    )


# ---------------------------------------------------------------- teachers and ensembles


def test_several_teachers_need_an_ensemble(tmp_path):
    one, other = (teachers.tiny(tmp_path, name) for name in ("one", "other"))
    for given in ((one, other), ()):
        with pytest.raises(ConfigError, match="without an ensemble"):
            TargetSource(given)
    assert TargetSource((one,)).ensemble is None
    TargetSource((one, other), make_ensemble(one=1.0, other=2.0))


def test_one_teacher_has_the_56_tags(tmp_path):
    with pytest.raises(ConfigError, match="56"):
        TargetSource((teachers.tiny(tmp_path, vocabulary=("happy", "sad")),))


def test_the_teachers_of_an_ensemble_are_given(tmp_path):
    one, other = (teachers.tiny(tmp_path, name) for name in ("one", "other"))
    with pytest.raises(ConfigError, match="third"):
        TargetSource((one, other), make_ensemble(one=1.0, other=2.0, third=1.0))


def test_targets_of_one_teacher_are_its_outputs(tmp_path):
    music, source = write_music(tmp_path), TargetSource((teachers.tiny(tmp_path),))
    compute(source.teachers, music, tmp_path)
    loaded = source.load(music.tracks, make_paths(tmp_path))
    stored = teacher.load(source.teachers[0], music.tracks, tmp_path, tmp_path / "cache")
    for rows, outputs in zip(loaded, stored, strict=True):
        np.testing.assert_array_equal(rows, outputs.values)
    student = MelConfig(sample_rate=22_050, hop_length=1024, n_mels=64)
    windows = source.targets(music.tracks, make_paths(tmp_path), student)
    assert [len(rows) for rows in windows.windows] == [len(rows) for rows in loaded]
    assert windows.step / student.frames_per_second == pytest.approx(targets.STEP_SECONDS)
    assert pytest.approx(1366 * 256 / 12_000) == targets.WINDOW_SECONDS == pytest.approx(2 * targets.STEP_SECONDS)


def test_windows_are_those_of_the_first_teacher(tmp_path):
    music = write_music(tmp_path)
    first = teachers.tiny(tmp_path, "first", seconds=2.0, step=1.0)
    second = teachers.tiny(tmp_path, "second", seconds=1.5, step=1.5, seed=1)
    compute((first, second), music, tmp_path)
    loaded = list(targets.load_moods((first, second), None, music.tracks, make_paths(tmp_path)))
    stored = [list(teacher.load(item, music.tracks, tmp_path, tmp_path / "cache")) for item in (first, second)]
    assert [len(moods["first"]) for moods in loaded] == [4, 3, 2, 4]
    for moods, one, other in zip(loaded, *stored, strict=True):
        np.testing.assert_array_equal(moods["first"], one.values)
        np.testing.assert_array_equal(moods["second"], other.at(one.starts, one.seconds).astype(np.float64))
        assert np.abs(moods["second"] - moods["first"]).max() > 0.1
    source = TargetSource((first, second), make_ensemble(first=1.0, second=3.0))
    for rows, moods in zip(source.load(music.tracks, make_paths(tmp_path)), loaded, strict=True):
        np.testing.assert_array_equal(rows, source.ensemble.combine(moods))
        assert rows.dtype == np.float32
    swapped = next(targets.load_moods((second, first), None, music.tracks, make_paths(tmp_path)))
    assert len(swapped["first"]) == len(stored[1][0].starts)


def test_missing_outputs_raise(tmp_path):
    music, source = write_music(tmp_path), TargetSource((teachers.tiny(tmp_path),))
    with pytest.raises(DatasetError, match=r"songs/a\.wav"):
        source.load(music.tracks, make_paths(tmp_path))


# ---------------------------------------------------------------- computation


def test_failed_tracks_are_left_out_and_reported_once_for_every_teacher(tmp_path):
    music = write_music(tmp_path)
    (tmp_path / "songs" / "b.wav").write_bytes(b"nothing")
    (tmp_path / "tunes" / "a.wav").unlink()
    sources, calls = tuple(teachers.tiny(tmp_path, name) for name in ("one", "other")), []
    computed = targets.compute_all(
        sources,
        music.tracks,
        make_paths(tmp_path),
        lambda track, error: calls.append((track.path, error and type(error))),
    )
    assert [track.path for track in computed.tracks] == ["songs/a.wav", "songs/c.wav"]
    each = [("songs/a.wav", None), ("songs/b.wav", AudioError), ("songs/c.wav", None), ("tunes/a.wav", AudioError)]
    assert calls == each * 2
    assert computed.hours == pytest.approx(8 / 3600)
    assert computed.seconds > 0
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 4


def test_computation_resumes(tmp_path, monkeypatch):
    music, sources = write_music(tmp_path), tuple(teachers.tiny(tmp_path, name) for name in ("one", "other"))
    runs, predict = [], Teacher.predict
    monkeypatch.setattr(
        Teacher, "predict", lambda self, path: runs.append((self.name, path.name)) or predict(self, path)
    )

    def interrupt(track: Track, error: object) -> None:
        if len(runs) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        targets.compute_all(sources, music.tracks, make_paths(tmp_path), interrupt)
    assert len(runs) == 6
    calls = compute(sources, music, tmp_path)
    assert len(calls) == 8
    assert sorted(runs) == sorted((item.name, Path(track.path).name) for item in sources for track in music.tracks)
    compute(sources, music, tmp_path)
    assert len(runs) == 8


def test_checkpoints_are_checked_before_any_work(tmp_path):
    """The last teacher's, too."""
    music, one = write_music(tmp_path), teachers.tiny(tmp_path, "one")
    missing = published.teacher("jamendo_crnn", tmp_path / "none.pth")
    wrong = published.teacher("jamendo_fcn", teachers.write_checkpoint(tmp_path / "wrong.pth"))
    for source, token in ((missing, "none.pth"), (wrong, "wrong.pth")):
        with pytest.raises(ModelError, match=token):
            compute((one, source), music, tmp_path)
        assert not (tmp_path / "cache").exists()


# ---------------------------------------------------------------- the ensemble


@pytest.fixture
def computed(tmp_path: Path) -> tuple[Music, tuple[Teacher, ...]]:
    """Music in a folder, and tiny teachers in the place of the published ones, whose outputs are computed."""
    music, sources = write_music(tmp_path), tuple(teachers.all_published(tmp_path))
    write_predictions(tmp_path)
    compute(sources, music, tmp_path)
    return music, sources


def test_an_ensemble_of_all_teachers(tmp_path, computed):
    music, sources = computed
    fitted = fit(tmp_path, sources, music)
    assert dict(fitted.weights) == dict(ensemble.WEIGHTS)
    fitted.save(tmp_path / "ensemble.json")
    source = TargetSource(sources, ensemble.load(tmp_path / "ensemble.json"))
    windows = source.load(music.tracks, make_paths(tmp_path))
    assert all(np.isfinite(rows).all() and rows.shape[1] == N_TAGS for rows in windows)
    logits = np.stack([rows.mean(axis=0) for rows in windows[:3]]).astype(np.float64)  # the reference
    mean, std = logits.mean(axis=0), logits.std(axis=0)  # tracks of small kinds count alike
    expected = calibration.logit(np.load(tmp_path / "predictions.npy"))
    np.testing.assert_allclose(mean, expected.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(std, expected.std(axis=0), atol=1e-4)


def test_auxiliary_targets_are_the_outputs_of_the_other_teachers(tmp_path, computed):
    music, sources = computed
    source, paths = TargetSource(sources, fit(tmp_path, sources, music)), make_paths(tmp_path)
    stored = {item.name: list(teacher.load(item, music.tracks, tmp_path, paths.cache_dir)) for item in sources}
    auxiliary, windows = source.load_auxiliary(music.tracks, paths), source.load(music.tracks, paths)
    for row, (columns, logits) in enumerate(zip(auxiliary, windows, strict=True)):
        grid = stored["vggish"][row]
        aligned = {name: outputs[row].at(grid.starts, grid.seconds) for name, outputs in stored.items()}
        same_tags = [aligned[name] for name in ("jamendo_fcn", "jamendo_crnn", "jamendo_musicnn")]
        expected = np.concatenate([np.mean(same_tags, axis=0), aligned["msd_musicnn"]], axis=1)
        np.testing.assert_allclose(columns, expected, rtol=1e-5)
        assert len(columns) == len(logits)
    together = source.targets(music.tracks, paths, MelConfig(), auxiliary=True)
    assert together.windows[0].shape[1] == N_TAGS + auxiliary[0].shape[1] == N_TAGS + 50 + 250
    np.testing.assert_array_equal(together.windows[0][:, :N_TAGS], windows[0])


def test_one_teacher_has_no_auxiliary_targets(tmp_path):
    music, sources = write_music(tmp_path), tuple(teachers.all_published(tmp_path))[:1]
    compute(sources, music, tmp_path)
    source, paths = TargetSource(sources), make_paths(tmp_path)
    assert all(
        rows.shape == (len(logits), 0)
        for rows, logits in zip(
            source.load_auxiliary(music.tracks, paths), source.load(music.tracks, paths), strict=True
        )
    )


def test_sources_name_all_that_determines_targets(tmp_path, computed):
    music, sources = computed

    def describe(fitted: Ensemble, given: tuple[Teacher, ...] = sources) -> str:
        return str(TargetSource(given, fitted).sources)

    described = [describe(fit(tmp_path, sources, music))]
    assert described[0] == describe(fit(tmp_path, sources, music))
    assert all(source.name in described[0] for source in sources)
    described.append(describe(fit(tmp_path, sources, music, given=make_bridge(seed=1))))
    described.append(describe(fit(tmp_path, sources, replace(music, sha256="another"))))
    changed = replace(sources[1], checkpoint=teachers.write_checkpoint(tmp_path / "new.pth", "another"))
    others = (sources[0], changed, *sources[2:])
    compute(others, music, tmp_path)
    described.append(describe(fit(tmp_path, others, music), others))
    write_predictions(tmp_path, seed=1)
    described.append(describe(fit(tmp_path, sources, music)))
    described.append(describe(replace(fit(tmp_path, sources, music), weights={"vggish": 1.0})))
    described.append(describe(replace(fit(tmp_path, sources, music), words="others")))
    described.append(str(TargetSource((sources[0],)).sources))
    assert len(set(described)) == len(described)


def test_sources_of_one_teacher_are_its_checkpoint(tmp_path):
    one = TargetSource((teachers.tiny(tmp_path, "one"),))
    assert one.sources == {"checkpoint": f"SHA-256 {one.teachers[0].sha256}"}
    assert one.sources != TargetSource((teachers.tiny(tmp_path, "other"),)).sources


def test_another_checkpoint_than_that_of_the_ensemble_raises(tmp_path, computed):
    music, sources = computed
    fitted = fit(tmp_path, sources, music)
    changed = replace(sources[1], checkpoint=teachers.write_checkpoint(tmp_path / "new.pth", "another"))
    with pytest.raises(ModelError, match=r"new\.pth"):
        _ = TargetSource((sources[0], changed, *sources[2:]), fitted).sources


def test_no_readable_track_raises(tmp_path, computed):
    music, sources = computed
    with pytest.raises(DatasetError, match="folder"):
        targets.fit_ensemble(sources, make_bridge(), music, (), tmp_path / "predictions.npy", make_paths(tmp_path))


@pytest.mark.parametrize("invalid", [np.zeros((5, 50)), np.full((5, N_TAGS), 2.0), np.full((5, N_TAGS), np.nan)])
def test_invalid_predictions_raise(tmp_path, invalid):
    np.save(tmp_path / "wrong.npy", invalid)
    for name in ("wrong.npy", "none.npy"):
        with pytest.raises(ScoresError, match=name):
            targets.read_target(tmp_path / name)


# ---------------------------------------------------------------- real data


EXCERPTS = 2
"""per genre"""


def write_excerpts(folder: Path, emotify: Path) -> Music:
    """The manifest of some excerpts of two genres for training, and of one that is held out."""
    with (emotify / "emotify-annotators.tsv").open(encoding="utf-8", newline="") as file:
        genres = {f"{int(row['track']):03}.ogg": row["genre"] for row in csv.DictReader(file, delimiter="\t")}
    chosen = [[name for name in genres if genres[name] == genre][: EXCERPTS + 1] for genre in ("classical", "rock")]
    lines = [HEADER, *(f"train\tsongs\t{name}\t60\tMIT\t{genres[name]}" for names in chosen for name in names[1:])]
    lines.append(f"heldout\ttunes\t{chosen[0][0]}\t60\tMIT\t{genres[chosen[0][0]]}")
    for package in ("songs", "tunes"):
        (folder / package).symlink_to(emotify / "audio")
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")
    return manifest.read_manifest(folder / "manifest.tsv")


@pytest.mark.golden
@pytest.mark.slow  # five published networks
def test_an_ensemble_of_the_published_teachers(data, tmp_path):
    music, sources, paths = write_excerpts(tmp_path, data / "emotify"), published.teachers(data), make_paths(tmp_path)
    assert compute(sources, music, tmp_path) == [(track.path, None) for track in music.tracks] * len(sources)
    predictions = data / "mediaeval2019" / "baseline" / "vggish_predictions.npy"
    fitted = targets.fit_ensemble(
        sources,
        bridge.fit(data / "mtg-jamendo", strengths=(30.0,)).bridge,
        music,
        music.train.tracks,
        predictions,
        paths,
    )
    windows = TargetSource(sources, fitted).load(music.train.tracks, paths)
    assert {rows.shape for rows in windows} == {(4, N_TAGS)}  # of a minute
    logits = np.stack([rows.mean(axis=0) for rows in windows]).astype(np.float64)
    expected = calibration.logit(np.load(predictions))
    np.testing.assert_allclose(logits.mean(axis=0), expected.mean(axis=0), atol=1e-4)  # of every genre as many
    np.testing.assert_allclose(logits.std(axis=0), expected.std(axis=0), atol=1e-4)
    genres = np.array([music.kinds[track.id] for track in music.train.tracks])
    mean = {genre: logits[genres == genre].mean(axis=0) for genre in set(genres)}
    for tag, more, less in (("heavy", "rock", "classical"), ("film", "classical", "rock")):
        column = tags.MOODS_AND_THEMES.index(tag)
        assert mean[more][column] > mean[less][column], tag
    alone = np.stack([rows.mean(axis=0) for rows in TargetSource(sources[:1]).load(music.train.tracks, paths)])
    assert np.median(metrics.spearman(alone.astype(np.float64), logits)) > 0.5
