"""Distillation: the manifest of music, training data, and the exported student."""

import hashlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import models
import teachers
from commands import invoke
from moodfield import calibration, nets, tagger, tags
from moodfield.calibration import Calibration
from moodfield.card import CARD, NETWORK, README, WEIGHTS, Card, Provenance
from moodfield.datasets.mtg_jamendo import Track
from moodfield.decisions import CUT
from moodfield.distillation import data as data_
from moodfield.distillation import degradation, distill, manifest, model_card, targets
from moodfield.distillation.data import STUDENT, Distillation
from moodfield.distillation.degradation import Degradation
from moodfield.distillation.targets import TargetSource
from moodfield.distillation.teachers import published
from moodfield.errors import AudioError, ConfigError, DatasetError, ModelError, OutputError, RunError
from moodfield.predictor import LoadedModel
from moodfield.training import pipeline, run_folder
from moodfield.training.recipe import Recipe

TINY = STUDENT.change(
    "net.width=2", "net.rho_freq=1", "net.rho_time=1", "mel.n_mels=32", "batch.size=2", "schedule.constant=1",
    "schedule.decay=1", "schedule.final=1", "averaging.start=1", "validate_every=3", "precision=32-true",
)  # fmt: skip
"""the recipe of a tiny student"""
RATE, SECONDS = 8_000, 5
"""sample rate and duration of the music that students are trained on"""
HEADER = "\t".join(manifest.COLUMNS)
ROWS = "train\tsongs\ta.wav\t40.0\tCC0-1.0", "heldout\ttunes\tb.ogg\t61.5\tMIT", "train\tsongs\tc.wav\t1\tMIT"


def write_manifest(folder: Path, *lines: str) -> Path:
    path = folder / "manifest.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_music(folder: Path, path: str, seconds: float = SECONDS, seed: int = 0) -> None:
    (folder / path).parent.mkdir(exist_ok=True)
    models.save(folder / path, models.music(seconds, seed=seed, rate=RATE))


# ---------------------------------------------------------------- manifest


def test_manifest_has_training_and_held_out_tracks(tmp_path):
    music = manifest.read_manifest(write_manifest(tmp_path, HEADER, *ROWS))
    assert [track.path for track in music.train.tracks] == ["songs/a.wav", "songs/c.wav"]
    assert music.heldout.tracks == (Track("tunes/b.ogg", "tunes/b.ogg", 61.5, ()),)
    assert music.train.vocabulary == music.heldout.vocabulary == tags.MOODS_AND_THEMES
    assert music.licences == {"songs": "CC0-1.0, MIT", "tunes": "MIT"}


@pytest.mark.parametrize(
    ("lines", "token"),
    [
        ([], "columns"),
        (["split\tpackage\tpath"], "columns"),
        (["split\tpackage\tpath", "train\tsongs\ta.wav"], "licence, seconds"),
        ([HEADER, "test\tsongs\ta.wav\t1\tMIT"], "'test'"),
        ([HEADER, "train\tsongs\ta.wav\t\tMIT"], "seconds of songs/a.wav"),
        ([HEADER, "train\tsongs\ta.wav"], "seconds of songs/a.wav"),
        ([HEADER, "train\tsongs\ta.wav\t1"], "no licence"),
        ([HEADER, *ROWS[::2]], "'heldout'"),
        ([HEADER, "train\t..\ta.wav\t1\tMIT"], "leaves the folder"),
        ([HEADER, "train\tsongs\t../../evil.wav\t1\tMIT"], "leaves the folder"),
        ([HEADER, "train\tsongs\t/etc/passwd\t1\tMIT"], "leaves the folder"),
        ([HEADER, "train\t/etc\tpasswd\t1\tMIT"], "leaves the folder"),
        ([HEADER, "train\tsongs\t..\\..\\evil.wav\t1\tMIT"], "leaves the folder"),
        ([HEADER, "train\tC:\ta.wav\t1\tMIT"], "leaves the folder"),
        ([HEADER, "train\t\ta.wav\t1\tMIT"], "leaves the folder"),
        ([HEADER, "train\tsongs\t\t1\tMIT"], "leaves the folder"),
        ([HEADER, ROWS[1]], "'train'"),
    ],
)
def test_invalid_manifest_raises(tmp_path, lines, token):
    with pytest.raises(DatasetError, match=token):
        manifest.read_manifest(write_manifest(tmp_path, *lines))


# ---------------------------------------------------------------- training data


def make_config(folder: Path, run: str = "run", **changes: object) -> Distillation:
    """The inputs of a distillation with the music and manifest of a folder."""
    paths = pipeline.RunPaths(folder, folder / "cache", folder / run)
    music = manifest.read_manifest(folder / "manifest.tsv")
    teacher = teachers.vggish(folder / "best_model.pth")
    return replace(Distillation(TINY, music, TargetSource((teacher,)), paths), **changes)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The checkpoint of the teacher of `make_config`."""
    return teachers.write_checkpoint(tmp_path / "best_model.pth")


def test_unreadable_tracks_are_reported_at_every_speed(tmp_path, checkpoint):
    for package in ("songs", "tunes"):
        write_music(tmp_path, f"{package}/a.wav")
    write_manifest(
        tmp_path,
        HEADER,
        "train\tsongs\ta.wav\t5\tMIT",
        "train\tsongs\tnone.wav\t5\tMIT",
        "heldout\ttunes\ta.wav\t5\tMIT",
    )
    calls = []
    config = make_config(tmp_path, speeds=(0.9,))
    prepared = data_.prepare(config, progress=lambda track, error: calls.append((track.path, error is None)))
    assert [track.id for track in prepared.train_tracks] == ["songs/a.wav", "songs/a.wav × 0.9"]
    assert [ok for _, ok in calls].count(False) == 4, "teacher and student, at two speeds"
    assert len(calls) == config.n_steps == 2 * (2 * 2 + 1)


def test_training_data_has_every_speed_once(tmp_path, checkpoint):
    for package in ("songs", "tunes"):
        write_music(tmp_path, f"{package}/a.wav")
    write_manifest(tmp_path, HEADER, "train\tsongs\ta.wav\t5\tMIT", "heldout\ttunes\ta.wav\t5\tMIT")
    prepared = data_.prepare(make_config(tmp_path, speeds=(1.1, 0.9, 0.9)))
    assert [track.id for track in prepared.train_tracks] == ["songs/a.wav", "songs/a.wav × 0.9", "songs/a.wav × 1.1"]
    assert [track.id for track in prepared.validation_tracks] == ["tunes/a.wav"]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"songs", "tunes", "manifest.tsv", "cache", "best_model.pth"}
    assert [path.name for path in (tmp_path / "songs").iterdir()] == ["a.wav"], "the music is never written to"
    mels = prepared.train_data.mels
    assert len(mels) == len(prepared.train_data.targets.windows) == 3
    slow, fast = (len(mels[row]) / len(mels[0]) for row in (1, 2))
    assert (slow, fast) == (pytest.approx(1 / 0.9, rel=0.03), pytest.approx(1 / 1.1, rel=0.03))


def write_training_music(folder: Path) -> None:
    """A training track, one that is damaged, and a held-out track."""
    for package in ("songs", "tunes"):
        write_music(folder, f"{package}/a.wav")
    (folder / "songs" / "b.wav").write_bytes(b"nothing")
    rows = [f"{name}\t5\tMIT" for name in ("train\tsongs\ta.wav", "train\tsongs\tb.wav", "heldout\ttunes\ta.wav")]
    write_manifest(folder, HEADER, *rows)


def test_degraded_copies_have_the_targets_of_their_originals(tmp_path, checkpoint):
    write_training_music(tmp_path)
    calls = []
    config = make_config(tmp_path, speeds=(0.9,), degradation=Degradation(encode=0.0))
    prepared = data_.prepare(config, progress=lambda track, error: calls.append((track.path, error is None)))
    ids = ["songs/a.wav", "songs/a.wav, degraded", "songs/a.wav × 0.9", "songs/a.wav × 0.9, degraded"]
    assert [track.id for track in prepared.train_tracks] == ids
    assert [track.id for track in prepared.validation_tracks] == ["tunes/a.wav"], "only training music is degraded"
    mels, windows = prepared.train_data.mels, prepared.train_data.targets.windows
    for original, copy in ((0, 1), (2, 3)):
        np.testing.assert_array_equal(windows[original], windows[copy])
        assert abs(len(mels[original]) - len(mels[copy])) <= 1
        frames = min(len(mels[original]), len(mels[copy]))
        assert not np.allclose(mels[original][:frames], mels[copy][:frames], atol=1)
    assert not np.array_equal(windows[0], windows[2]), "a faster copy has targets of its own"
    assert [ok for _, ok in calls].count(False) == 6, "teacher, student and degraded copy, at two speeds"
    assert len(calls) == config.n_steps == 3 * 2 * 2 + 2
    per_track, tracks = prepared.per_track(config.music.tracks)
    assert [track.id for track in tracks] == ["songs/a.wav", "tunes/a.wav"]
    assert len(per_track.mels) == 2


def test_copy_that_cannot_be_degraded_is_left_out(tmp_path, checkpoint, monkeypatch):
    write_training_music(tmp_path)

    def fail(waveform, chain):
        raise AudioError("silent", "nothing is left")

    monkeypatch.setattr(degradation, "degrade", fail)
    prepared = data_.prepare(make_config(tmp_path, degradation=Degradation(encode=0.0)))
    assert [track.id for track in prepared.train_tracks] == ["songs/a.wav"]


def test_sources_name_degraded_copies(tmp_path, checkpoint):
    write_training_music(tmp_path)
    settings = (None, Degradation(), Degradation(seed=1), Degradation(clip=0.5))
    assert len({str(make_config(tmp_path, degradation=used).sources) for used in settings}) == len(settings)
    assert make_config(tmp_path).sources["degraded copies"] == "none"


def test_degradation_without_pyav_raises_before_any_work(tmp_path, checkpoint, monkeypatch):
    write_training_music(tmp_path)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match="codecs"):
        distill.distill(make_config(tmp_path, degradation=Degradation()))
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- students


@pytest.fixture(scope="session")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with music of two packages, and `run`, a student of three tracks at two speeds; not to be changed."""
    folder = tmp_path_factory.mktemp("distilled")
    teachers.write_checkpoint(folder / "best_model.pth")
    rows = []
    for split, package, count in (("train", "songs", 3), ("heldout", "tunes", 2)):
        for number in range(count):
            write_music(folder, f"{package}/{number}.wav", seed=number)
            rows.append(f"{split}\t{package}\t{number}.wav\t{SECONDS}\tCC0-1.0")
    write_manifest(folder, HEADER, *rows)
    distill.distill(make_config(folder, speeds=(0.9,)))
    return folder


@pytest.fixture
def student(tmp_path: Path, distilled: Path) -> Iterator[Callable[..., Distillation]]:
    """A copy of `distilled`, in `tmp_path`, and the inputs of its run with some changes."""
    shutil.copytree(distilled, tmp_path, dirs_exist_ok=True)
    return lambda run="run", **changes: make_config(tmp_path, run, **({"speeds": (0.9,)} | changes))


@pytest.mark.parametrize("name", ["best/notes.txt", "draft/notes.txt", "draft", "best"])
def test_foreign_file_in_model_folder_raises_before_any_work(tmp_path, student, name, monkeypatch):
    run = tmp_path / "new"
    run.mkdir()
    (run / run_folder.RECIPE).write_text(TINY.to_json())
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text("mine")
    monkeypatch.setattr(targets, "compute_all", lambda *_, **__: 1 / 0)
    with pytest.raises(OutputError, match=re.escape(name.rpartition("/")[2])):
        distill.distill(student("new"))
    assert (run / name).read_text() == "mine"


def test_run_of_other_inputs_raises_before_any_work(student, monkeypatch):
    monkeypatch.setattr(data_, "prepare", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        distill.distill(student())
    with pytest.raises(RunError, match="recipe"):
        distill.distill(student(recipe=TINY.change("seed=7")))
    with pytest.raises(RunError, match="truth"):
        distill.distill(student(speeds=()))
    with pytest.raises(RunError, match="truth"):
        distill.distill(student(initial_model=student().paths.run_dir / "best"))
    with pytest.raises(ConfigError, match="speed"):
        distill.distill(student(speeds=(9.0,)))
    with pytest.raises(ConfigError, match=r"net\.rho_freq"):
        distill.distill(student("new", initial_model=tagger.PRETRAINED / "default"))
    with pytest.raises(ModelError, match="nowhere"):
        distill.distill(student("new", initial_model=Path("nowhere")))


def test_student_may_start_from_a_model(tmp_path, student, monkeypatch):
    models.replace_export(monkeypatch, (tmp_path / "run" / "best" / NETWORK).read_bytes())  # it hardly changes
    rate = TINY.change("schedule.peak=1e-9", "schedule.floor=1e-9")
    distill.distill(student("next", recipe=rate, initial_model=tmp_path / "run" / "best"))
    before, after = (load_file(tmp_path / run / "best" / WEIGHTS) for run in ("run", "next"))
    differences = [float((before[name] - after[name]).abs().max()) for name in before if "running" not in name]
    assert max(differences) < 1e-4
    provenance = Provenance.read(tmp_path / "next" / "best")
    assert provenance.origin["initial weights"].startswith("SHA-256")


def test_model_folder_is_restored_if_its_replacement_was_killed(tmp_path, student, monkeypatch):
    monkeypatch.setattr(data_, "prepare", lambda *_, **__: 1 / 0)
    best = tmp_path / "run" / "best"
    before = best.rename(best.with_name("best.0123456789abcdef.before"))
    with pytest.raises(ZeroDivisionError):
        distill.distill(student())
    assert (best / CARD).is_file()
    assert not before.exists()


def test_card_and_provenance_of_a_student(distilled):
    run = distilled / "run"
    card, provenance = Card.read(run / "best"), Provenance.read(run / "best")
    assert provenance.metrics["held-out tracks"] == 2
    assert provenance.training_data == {
        "training tracks": "3 tracks, 0.0 h: songs 3 (CC0-1.0)",
        "held-out tracks": "2 tracks, 0.0 h: tunes 2 (CC0-1.0)",
    }
    digest = hashlib.sha256((distilled / "manifest.tsv").read_bytes()).hexdigest()
    assert provenance.origin["checkpoint"] == f"SHA-256 {hashlib.sha256(b'weights').hexdigest()}"
    assert digest in provenance.origin["music"]
    assert (provenance.origin["speeds"], provenance.origin["seed"]) == ("0.9, 1", "42")
    assert ", 1 run;" in provenance.origin["cost"]
    assert {example.track for example in provenance.examples} == {"0 (tunes)", "1 (tunes)"}
    assert (card.name, provenance.limits) == ("mine", ())
    assert "not stated" in card.licence
    assert not (run / "draft").exists()


def test_student_has_averaged_weights(distilled):
    run = distilled / "run"
    weights, average = load_file(run / "best" / WEIGHTS), load_file(run / "swa-3.safetensors")
    assert all(torch.equal(weights[name], average[name]) for name in average)
    last = load_file(run / "best.safetensors")
    assert any(not torch.equal(weights[name], last[name]) for name in last)


CALIBRATION = model_card.TeacherCalibration(
    Calibration((0.5,) * 56, (-1.0,) * 56), (0.1,) * 56, {"Brier score": 0.03}, "tests"
)
TEXT = model_card.CardText("ours", "A student.", "MIT", ("It is no judge.",), {"made by": "hand"})


def test_calibration_and_text_of_a_card(tmp_path, student):
    card = distill.distill(student(calibration=CALIBRATION, text=TEXT))
    provenance = Provenance.read(tmp_path / "run" / "best")
    assert (card.calibration, card.priors) == (CALIBRATION.calibration, CALIBRATION.priors)
    assert (card.name, card.summary, card.licence) == (TEXT.name, TEXT.summary, TEXT.licence)
    assert (provenance.limits, provenance.origin["calibration"]) == (TEXT.limits, "tests")
    assert provenance.origin["made by"] == "hand"
    assert provenance.origin.keys() == model_card.COMPUTED - {"ensemble"} | {"made by"}
    assert provenance.metrics["Brier score"] == 0.03
    assert card == Card.read(tmp_path / "run" / "best")
    [model] = tagger.load(tmp_path / "run" / "best", threads=1).models
    song = tmp_path / "tunes" / "0.wav"
    uncalibrated, calibrated = (
        tagger.Tagger([LoadedModel(version, model.engine)]).tag(song)
        for version in (replace(card, calibration=None), card)
    )
    expected = CALIBRATION.calibration.scores(calibration.logit(uncalibrated.scores))
    np.testing.assert_allclose(calibrated.scores, expected, rtol=1e-4)
    one = tagger.load(tmp_path / "run" / "best", threads=1)
    taggings = [one.tag(tmp_path / "tunes" / f"{number}.wav") for number in range(2)]
    assert card.statistics is not None
    strongest = np.array([tagging.evidence.max() for tagging in taggings])
    low, high = ((strongest <= CUT + margin).mean() for margin in (-0.1, 0.1))  # its logits hardly differ
    assert low <= provenance.metrics["share of tracks with no tag"] <= high
    again = distill.distill(student(calibration=CALIBRATION, text=replace(TEXT, name="renamed")))
    assert replace(again, name=card.name) == card, "nothing is trained again, and nothing else changed"


def check_reused(first: Path, folder: Path) -> None:
    """A student that was also trained on held-out tracks has the metrics of its earlier run."""
    before, after = Provenance.read(first), Provenance.read(folder)
    assert (after.metrics, after.examples) == (before.metrics, before.examples)
    assert ", 2 runs;" in after.origin["cost"]
    assert after.training_data["training tracks"].startswith("5 tracks")
    assert after.training_data["held-out tracks"].endswith(distill.TRAINED_ON_HELD_OUT)
    assert (folder / README).read_text().endswith("how it was chosen\n")


def test_metrics_of_an_earlier_run_are_reused(tmp_path, student, monkeypatch):
    """Training is replaced by the weights of the earlier run, whose ONNX file is cached."""
    config = student("new", reuse_metrics_from=tmp_path / "run", appendix="how it was chosen")
    snapshots = distill.checkpoints.snapshot_paths

    def fit(recipe: Recipe, training: object, *_: object, **__: object) -> nets.Net:
        assert len(training.mels) == 10, "five tracks at two speeds"
        (tmp_path / "new" / "log.jsonl").write_text((tmp_path / "run" / "log.jsonl").read_text())
        return recipe.net.build(n_mels=32, n_tags=56)

    monkeypatch.setattr(distill.loop, "fit", fit)
    monkeypatch.setattr(distill.checkpoints, "snapshot_paths", lambda recipe, _: snapshots(recipe, tmp_path / "run"))
    distill.distill(config)
    check_reused(tmp_path / "run" / "best", tmp_path / "new" / "best")
    with pytest.raises(RunError, match="held-out"):
        distill.distill(student("other", reuse_metrics_from=tmp_path / "new"))


@pytest.mark.slow  # trains and exports a second student
def test_student_is_also_trained_on_held_out_tracks(tmp_path, student):
    config = student("new", reuse_metrics_from=tmp_path / "run", appendix="how it was chosen")
    card = distill.distill(config)
    check_reused(tmp_path / "run" / "best", tmp_path / "new" / "best")
    assert card.sha256[WEIGHTS] != Card.read(tmp_path / "run" / "best").sha256[WEIGHTS]


def test_reusing_metrics_of_another_student_raises(tmp_path, student):
    run = tmp_path / "run"
    for changes, token in (
        ({"recipe": TINY.change("seed=7")}, "recipe"),
        ({"speeds": (0.9, 1.1)}, "speeds"),
        ({"calibration": CALIBRATION}, "calibration"),
    ):
        with pytest.raises(RunError, match=token):
            distill.distill(student("new", reuse_metrics_from=run, **changes))
    (tmp_path / "best_model.pth").write_bytes(b"others")
    with pytest.raises(RunError, match="checkpoint"):
        distill.distill(student("new", reuse_metrics_from=run))


def test_another_calibration_of_the_reused_run_raises(tmp_path, student):
    card = CALIBRATION.apply_to(Card.read(tmp_path / "run" / "best"))
    card.write(tmp_path / "run" / "best")
    close = replace(CALIBRATION, priors=tuple(np.array(CALIBRATION.priors) * (1 + 1e-9)))
    assert distill._is_calibration_of(card, close)
    with pytest.raises(RunError, match="calibration"):
        distill.distill(
            student("new", reuse_metrics_from=tmp_path / "run", calibration=replace(CALIBRATION, priors=(0.2,) * 56))
        )


def test_recipe_of_the_bundled_model():
    assert Recipe.from_dict(STUDENT.to_dict()) == STUDENT
    assert STUDENT.loss.kind == "logits"


def test_command_passes_its_options(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(distill, "distill", lambda config, **_: calls.append(config))
    best = tmp_path / "run" / "best"
    best.mkdir(parents=True)
    Provenance().write(best)
    (tmp_path / "text.toml").write_text('licence = "MIT"\n')
    (tmp_path / "one.md").write_text("# One\n\nfirst\n")
    (tmp_path / "two.md").write_text("# Two\n")
    path = write_manifest(tmp_path, HEADER, *ROWS)
    options = ("--speed", "0.9", "--card-text", tmp_path / "text.toml", "--set", "seed=7", "--jobs", "3")
    result = invoke(
        "distill", "train", path, "--teacher", "best.pth", "--audio", tmp_path, "-o", tmp_path / "run", *options,
        "--appendix", tmp_path / "one.md", "--appendix", tmp_path / "two.md",
    )  # fmt: skip
    assert result.code == 0, result.err
    [config] = calls
    assert config.recipe == replace(STUDENT, seed=7)
    assert (config.music, config.paths.jobs) == (manifest.read_manifest(path), 3)
    assert config.targets.teachers == (published.teacher(published.VGGISH, "best.pth"),)
    assert config.targets.ensemble is None
    assert config.appendix == "# One\n\nfirst\n\n# Two"
    assert (config.text, config.speeds) == (model_card.CardText(licence="MIT"), (0.9,))
    assert (config.calibration, config.reuse_metrics_from) == (None, None)


def test_predictions_without_splits_are_a_usage_error(tmp_path):
    words = ("distill", "train", tmp_path / "none.tsv", "--teacher", tmp_path / "none.pth", "--audio", tmp_path)
    result = invoke(*words, "-o", tmp_path / "run", "--splits", tmp_path)
    assert result.code == 2
    assert "--predictions" in result.err
