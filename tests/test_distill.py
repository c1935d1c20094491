"""Distillation: what music there is, what a teacher says of it, and what a student is told."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import models
from commands import invoke
from moodfield import audio, calibration, card, mel, nets, tagger, tags
from moodfield.calibration import Calibration
from moodfield.datasets.mtg_jamendo import Track
from moodfield.distillation import distill, model_card
from moodfield.distillation import teacher as teacher_
from moodfield.engine import TorchEngine
from moodfield.errors import AudioError, ConfigError, DatasetError, ModelError, OutputError, RunError
from moodfield.mel import MelConfig
from moodfield.tagger import LoadedModel, TrackPredictor
from moodfield.training import export, pipeline, run_folder
from moodfield.training.recipe import Recipe

SETTINGS = (
    "batch.size=2", "schedule.constant=1", "schedule.decay=1", "schedule.final=1", "averaging.start=1",
    "validate_every=3", "precision=32-true",
)  # fmt: skip
PUPIL = distill.STUDENT.change("net.width=2", "net.rho_freq=1", "net.rho_time=1", "mel.n_mels=32", *SETTINGS)
"""the recipe of a tiny student"""
HEADER = "\t".join(distill.COLUMNS)
ROWS = "train\tsongs\ta.wav\t40.0\tCC0-1.0", "heldout\ttunes\tb.ogg\t61.5\tMIT", "train\tsongs\tc.wav\t1\tMIT"


def manifest(folder: Path, *lines: str) -> Path:
    path = folder / "manifest.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_manifest_says_what_is_held_out(tmp_path):
    found = distill.read_manifest(manifest(tmp_path, HEADER, *ROWS))
    assert [track.path for track in found.train.tracks] == ["songs/a.wav", "songs/c.wav"]
    assert found.heldout.tracks == (Track("tunes/b.ogg", "tunes/b.ogg", 61.5, ()),)
    assert found.train.vocabulary == found.heldout.vocabulary == tags.MOODS_AND_THEMES
    assert found.licences == {"songs": "CC0-1.0, MIT", "tunes": "MIT"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "lacks the columns"),
        (["split\tpackage\tpath"], "lacks the columns"),
        (["split\tpackage\tpath", "train\tsongs\ta.wav"], "lacks the columns licence, seconds"),
        ([HEADER, "test\tsongs\ta.wav\t1\tMIT"], "split 'test' of songs/a.wav"),
        ([HEADER, "train\tsongs\ta.wav\t\tMIT"], "'' seconds of songs/a.wav; give a number"),
        ([HEADER, "train\tsongs\ta.wav"], "None seconds of songs/a.wav; give a number"),
        ([HEADER, "train\tsongs\ta.wav\t1"], "no licence of songs/a.wav, whose row is too short"),
        ([HEADER, *ROWS[::2]], "has no track in split 'heldout'"),
        ([HEADER, "train\t..\ta.wav\t1\tMIT"], "leaves the folder"),
        ([HEADER, "train\tsongs\t../../evil.wav\t1\tMIT"], "leaves the folder"),
        ([HEADER, "train\tsongs\t/etc/passwd\t1\tMIT"], "leaves the folder"),
        ([HEADER, "train\t/etc\tpasswd\t1\tMIT"], "leaves the folder"),
        ([HEADER, "train\tsongs\t..\\..\\evil.wav\t1\tMIT"], "leaves the folder"),
        ([HEADER, "train\tC:\ta.wav\t1\tMIT"], "leaves the folder"),
        ([HEADER, "train\t\ta.wav\t1\tMIT"], "leaves the folder"),
        ([HEADER, "train\tsongs\t\t1\tMIT"], "leaves the folder"),
        ([HEADER, ROWS[1]], "has no track in split 'train'"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(tmp_path, lines, message):
    with pytest.raises(DatasetError, match=message):
        distill.read_manifest(manifest(tmp_path, *lines))


def test_a_teacher_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"the teacher .*none\.pth cannot be read"):
        teacher_.model_of(tmp_path / "none.pth", tmp_path)


# ---------------------------------------------------------------- a teacher's opinion


@pytest.fixture
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, LoadedModel]:
    """Where a teacher's opinions are kept, and a teacher with random weights."""
    torch.manual_seed(0)
    net = nets.VGGConfig().build(n_mels=96, n_tags=56).eval()
    net.standardize.set_statistics(torch.full((96,), -24.0), torch.full((96,), 16.0))
    plan = Recipe(net=net.config, mel=mel.ORGANISERS)
    member = LoadedModel(export.describe(plan, net, tags.MOODS_AND_THEMES), TorchEngine(net))
    monkeypatch.setattr(teacher_, "_member", lambda _: member)
    (tmp_path / "teacher").mkdir()
    return tmp_path / "teacher" / "model", member


def test_a_teacher_is_asked_once_about_every_window(tmp_path, teacher):
    model, member = teacher
    (tmp_path / "songs").mkdir()
    models.save(tmp_path / "songs" / "a.wav", models.music(65))
    models.save(tmp_path / "songs" / "b.wav", models.music(5, seed=1))
    tracks = [Track(path, path, 1.0, ()) for path in ("songs/a.wav", "songs/none.wav", "songs/b.wav")]
    found = list(teacher_.compute(model, tracks, tmp_path))
    assert [track for track, _ in found] == tracks
    assert isinstance(found[1][1], AudioError)
    kept = [tracks[0], tracks[2]]
    student = MelConfig(sample_rate=22_050, hop_length=1024, n_mels=64)
    told = teacher_.truth(model, kept, tmp_path, student)
    assert [rows.shape for rows in told.windows] == [(4, 56), (1, 56)]
    listener = TrackPredictor(member)
    listener.push(mel.spectrogram(audio.read(tmp_path / "songs" / "a.wav", sample_rate=12_000), mel.ORGANISERS))
    wanted = listener.finish().T
    assert wanted.std() > 0.01
    np.testing.assert_allclose(told.windows[0], wanted, atol=1e-4)
    assert told.step / student.frames_per_second == pytest.approx(teacher_.STEP) == pytest.approx(683 * 256 / 12_000)
    before = {path: path.stat().st_mtime_ns for path in model.parent.rglob("*.npy")}
    assert len(before) == 2
    assert all(isinstance(result, Path) for _, result in teacher_.compute(model, kept, tmp_path))
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_teachers_logits_are_those_of_the_music_as_it_is_now(tmp_path, teacher):
    model, _ = teacher
    (tmp_path / "songs").mkdir()
    tracks = [Track("songs/a.wav", "songs/a.wav", 1.0, ())]
    windows = []
    for seed in (0, 1):
        models.save(tmp_path / "songs" / "a.wav", models.music(31, seed=seed))
        [(_, path)] = teacher_.compute(model, tracks, tmp_path)
        windows.append(teacher_.truth(model, tracks, tmp_path, MelConfig()).windows[0])
    assert not np.array_equal(*windows)
    whole = path.read_bytes()
    for damaged in (b"", whole[:-4], whole.replace(b"<f4", b"<i4"), b"\x93NUMPY"):
        path.write_bytes(damaged)
        with pytest.raises(DatasetError, match="computed anew"):
            teacher_.truth(model, tracks, tmp_path, MelConfig())
        list(teacher_.compute(model, tracks, tmp_path))
        assert path.read_bytes() == whole
    path.write_bytes(whole[:-8] + np.array([np.nan, 1], "<f4").tobytes())
    with pytest.raises(DatasetError, match="finite"):
        teacher_.truth(model, tracks, tmp_path, MelConfig())


def test_music_that_cannot_be_read_is_reported_for_every_speed(tmp_path, teacher, monkeypatch):
    monkeypatch.setattr(teacher_, "model_of", lambda *_: teacher[0])
    for package in ("songs", "tunes"):
        (tmp_path / package).mkdir()
        models.save(tmp_path / package / "a.wav", models.music(31))
    lines = [
        HEADER,
        "train\tsongs\ta.wav\t31\tMIT",
        "train\tsongs\tnone.wav\t31\tMIT",
        "heldout\ttunes\ta.wav\t31\tMIT",
    ]
    heard = []
    given = distill.prepare(
        Recipe(), distill.read_manifest(manifest(tmp_path, *lines)), "best_model.pth",
        pipeline.RunPaths(tmp_path, tmp_path / "store", tmp_path / "run"), speeds=(0.9,),
        heard=lambda track, error: heard.append((track.path, error is None)),
    )  # fmt: skip
    assert [track.id for track in given.learned] == ["songs/a.wav", "songs/a.wav × 0.9"]
    assert [ok for _, ok in heard].count(False) == 4, "teacher and student, at two speeds"
    assert len(heard) == 2 * (2 * 2 + 1)


@pytest.mark.parametrize("name", ["best/notes.txt", "draft/notes.txt", "draft", "best"])
def test_a_file_in_the_way_of_a_model_folder_is_refused_before_any_work(tmp_path, pupil, name, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    (run / run_folder.RECIPE).write_text(PUPIL.to_json())
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text("mine")
    monkeypatch.setattr(teacher_, "compute", lambda *_, **__: 1 / 0)
    with pytest.raises(OutputError, match=re.escape(name.rpartition("/")[2])):
        pupil("run")
    assert (run / name).read_text() == "mine"


@pytest.mark.parametrize("how", ["seed", "speeds"])
def test_another_student_is_refused_before_any_work(tmp_path, pupil, monkeypatch, how):
    monkeypatch.setattr(distill, "prepare", lambda *_, **__: 1 / 0)
    run = tmp_path / "run"
    run.mkdir()
    (run / run_folder.RECIPE).write_text(PUPIL.to_json())
    with pytest.raises(ZeroDivisionError):
        pupil("run")
    (run / run_folder.TRUTH).write_text('"of other speeds"')
    with pytest.raises(RunError, match="another recipe" if how == "seed" else "another truth"):
        pupil("run", **({"seed": 7} if how == "seed" else {"speeds": (0.9,)}))
    with pytest.raises(ConfigError, match="speed"):
        pupil("run", speeds=(9.0,))


def test_a_student_is_restored_if_its_replacement_was_killed(tmp_path, pupil, monkeypatch):
    monkeypatch.setattr(distill, "prepare", lambda *_, **__: 1 / 0)
    run = tmp_path / "run"
    left = run / "best.0123456789abcdef.before"
    left.mkdir(parents=True)
    (left / card.CARD).write_text("{}")
    (run / run_folder.RECIPE).write_text(PUPIL.to_json())
    with pytest.raises(ZeroDivisionError):
        pupil("run")
    assert (run / "best" / card.CARD).read_text() == "{}"
    assert not left.exists()


def test_music_is_learned_from_once_at_every_speed(tmp_path, teacher, monkeypatch):
    monkeypatch.setattr(teacher_, "model_of", lambda *_: teacher[0])
    for package in ("songs", "tunes"):
        (tmp_path / package).mkdir()
        models.save(tmp_path / package / "a.wav", models.music(31))
    rows = (f"{split}\t{package}\ta.wav\t31.0\tMIT" for split, package in (("train", "songs"), ("heldout", "tunes")))
    found = distill.read_manifest(manifest(tmp_path, HEADER, *rows))
    place = pipeline.RunPaths(tmp_path, tmp_path / "store", tmp_path / "run")
    given = distill.prepare(Recipe(), found, "best_model.pth", place, speeds=(1.1, 0.9, 0.9))
    assert [track.id for track in given.learned] == ["songs/a.wav", "songs/a.wav × 0.9", "songs/a.wav × 1.1"]
    assert [track.id for track in given.judged] == ["tunes/a.wav"]
    assert {path.name for path in tmp_path.iterdir()} == {
        *("songs", "tunes", "manifest.tsv", "store"),
        *("teacher", "digests"),
    }
    assert [path.name for path in (tmp_path / "songs").iterdir()] == ["a.wav"], "music is never written to"
    assert len(given.learn.mels) == len(given.learn.targets.windows) == 3
    slow, fast = (len(given.learn.mels[row]) / len(given.learn.mels[0]) for row in (1, 2))
    assert (slow, fast) == (pytest.approx(1 / 0.9, rel=0.01), pytest.approx(1 / 1.1, rel=0.01))


@pytest.fixture
def pupil(
    tmp_path: Path, teacher: tuple[Path, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., card.Card]:
    """Teaches a tiny student on music of two packages, one of which is held out."""
    monkeypatch.setattr(teacher_, "model_of", lambda *_: teacher[0])
    (tmp_path / "best_model.pth").write_bytes(b"weights")
    rows = []
    for split, package, count in (("train", "songs", 3), ("heldout", "tunes", 2)):
        (tmp_path / package).mkdir()
        for number in range(count):
            models.save(tmp_path / package / f"{number}.wav", models.music(31, seed=number))
            rows.append(f"{split}\t{package}\t{number}.wav\t31.0\tCC0-1.0")
    found = distill.read_manifest(manifest(tmp_path, HEADER, *rows))

    def place(run: str) -> pipeline.RunPaths:
        return pipeline.RunPaths(tmp_path, tmp_path / "store", tmp_path / run)

    def teach(run: str, **how: object) -> card.Card:
        own = PUPIL if (seed := how.pop("seed", None)) is None else PUPIL.change(f"seed={seed}")
        return distill.distill(own, found, tmp_path / "best_model.pth", place(run), **how)

    return teach


@pytest.mark.slow
def test_a_student_is_measured_by_what_it_never_heard_and_may_then_hear_it(tmp_path, pupil):
    first = pupil("first", speeds=(0.9,))
    of_first = card.Provenance.read(tmp_path / "first" / "best")
    assert of_first.metrics["held-out tracks"] == 2
    assert of_first.training_data["learned from"] == "3 tracks, 0.0 h: songs 3 (CC0-1.0)"
    assert of_first.training_data["held out"] == "2 tracks, 0.0 h: tunes 2 (CC0-1.0)"
    assert of_first.origin["taught by"] == f"a checkpoint, SHA-256 {hashlib.sha256(b'weights').hexdigest()}"
    digest = hashlib.sha256((tmp_path / "manifest.tsv").read_bytes()).hexdigest()
    assert of_first.origin["music"] == f"a manifest, SHA-256 {digest}"
    assert (of_first.origin["speeds"], of_first.origin["seed"]) == ("0.9, 1", "42")
    assert (first.name, of_first.limits) == ("mine", ())
    assert "not stated" in first.licence
    assert not (tmp_path / "first" / "draft").exists()
    weights = load_file(tmp_path / "first" / "best" / card.WEIGHTS)
    average = load_file(tmp_path / "first" / "swa-3.safetensors")
    assert all(torch.equal(weights[name], average[name]) for name in average)  # the mean, not the last epoch
    last = load_file(tmp_path / "first" / "best.safetensors")
    assert any(not torch.equal(weights[name], last[name]) for name in last)
    assert {each.track for each in of_first.examples} == {"0 (tunes)", "1 (tunes)"}
    assert ", 1 run;" in of_first.origin["cost"]
    whole = pupil("whole", measured=tmp_path / "first", speeds=(0.9,), appendix="how it was chosen")
    of_whole = card.Provenance.read(tmp_path / "whole" / "best")
    assert (of_whole.metrics, of_whole.examples) == (of_first.metrics, of_first.examples)
    assert ", 2 runs;" in of_whole.origin["cost"]
    assert (tmp_path / "whole" / "best" / card.README).read_text().endswith("how it was chosen\n")
    assert of_whole.training_data["learned from"].startswith("5 tracks")
    assert of_whole.training_data["held out"].endswith("whose figures these are")
    assert whole.sha256[card.WEIGHTS] != first.sha256[card.WEIGHTS]
    with pytest.raises(RunError, match="another recipe"):
        pupil("other", measured=tmp_path / "first", speeds=(0.9,), seed=7)
    with pytest.raises(RunError, match=r"speeds 0\.9, 1, here 0\.9, 1, 1\.1; its figures"):
        pupil("other", measured=tmp_path / "first", speeds=(0.9, 1.1))
    with pytest.raises(RunError, match="learned from the held-out packages itself"):
        pupil("other", measured=tmp_path / "whole", speeds=(0.9,))
    (tmp_path / "best_model.pth").write_bytes(b"others")
    with pytest.raises(RunError, match="taught by a checkpoint"):
        pupil("other", measured=tmp_path / "first", speeds=(0.9,))
    (tmp_path / "best_model.pth").write_bytes(b"weights")
    told = model_card.TeacherCalibration(Calibration((1.0,) * 56, (0.0,) * 56), (0.1,) * 56, {}, "tests")
    with pytest.raises(RunError, match="told otherwise what scores mean"):
        pupil("other", measured=tmp_path / "first", speeds=(0.9,), judged=told)


@pytest.mark.slow
def test_a_student_says_what_its_teachers_scores_mean_and_under_which_terms(tmp_path, pupil):
    scale = Calibration((0.5,) * 56, (-1.0,) * 56)
    told = model_card.TeacherCalibration(scale, (0.1,) * 56, {"Brier score": 0.03}, "tests")
    terms = model_card.CardText("ours", "A student.", "MIT", ("It is no judge.",), {"made by": "hand"})
    found = pupil("told", judged=told, terms=terms)
    provenance = card.Provenance.read(tmp_path / "told" / "best")
    assert (found.calibration, found.priors, provenance.origin["calibration"]) == (scale, (0.1,) * 56, "tests")
    assert (found.name, found.summary, found.licence, provenance.limits) == (
        terms.name, terms.summary, terms.licence, terms.limits,
    )  # fmt: skip
    assert provenance.origin["made by"] == "hand"
    assert provenance.origin.keys() | provenance.training_data.keys() == model_card.KNOWN | {"made by"}
    assert provenance.metrics["Brier score"] == 0.03
    assert found == card.Card.read(tmp_path / "told" / "best")
    [member] = tagger.load(tmp_path / "told" / "best", threads=1).models
    song = tmp_path / "tunes" / "0.wav"
    raw, said = (
        tagger.Tagger([LoadedModel(each, member.engine)]).tag(song)
        for each in (replace(found, calibration=None), found)
    )
    np.testing.assert_allclose(said.scores, scale.scores(calibration.logit(raw.scores)), rtol=1e-4)
    tunes = [tagger.load(tmp_path / "told" / "best", threads=1).tag(tmp_path / "tunes" / f"{n}.wav") for n in range(2)]
    shares = [provenance.metrics[f"share of tracks with {what}"] for what in ("no tag", "the commonest tag")]
    decided = np.array([each.scores > each.thresholds for each in tunes])
    np.testing.assert_allclose(shares, [(~decided.any(axis=1)).mean(), decided.mean(axis=0).max()])
    before = (tmp_path / "told" / "best" / card.CARD).stat().st_mtime_ns
    again = pupil("told", judged=told, terms=replace(terms, name="renamed"))
    assert (tmp_path / "told" / "best" / card.CARD).stat().st_mtime_ns > before
    assert replace(again, name=found.name) == found, "nothing is trained again, and nothing else changed"
    with pytest.raises(RunError, match="told otherwise what scores mean"):
        pupil("other", measured=tmp_path / "told", judged=replace(told, priors=(0.2,) * 56))


def test_the_student_is_a_recipe_that_can_be_written_down():
    assert Recipe.from_dict(distill.STUDENT.to_dict()) == distill.STUDENT
    assert distill.STUDENT.loss.kind == "logits"


def test_the_command_hands_over_what_it_was_given(tmp_path, monkeypatch, cp_model):
    calls = []

    def taught(*what: object, **how: object) -> card.Card:
        calls.append((*what, how))
        return cp_model.card

    monkeypatch.setattr(distill, "distill", taught)
    (tmp_path / "terms.toml").write_text('licence = "MIT"\n')
    (tmp_path / "one.md").write_text("# One\n\nfirst\n")
    (tmp_path / "two.md").write_text("# Two\n")
    listed = manifest(tmp_path, HEADER, *ROWS)
    given = ("distill", listed, "--teacher", "best.pth", "--audio", tmp_path, "-o", tmp_path / "run")
    more = ("--speed", "0.9", "--card-text", tmp_path / "terms.toml", "--set", "seed=7", "--jobs", "3")
    answer = invoke(*given, *more, "--appendix", tmp_path / "one.md", "--appendix", tmp_path / "two.md")
    assert answer.code == 0, answer.err
    [(plan, found, checkpoint, place, how)] = calls
    assert plan == replace(distill.STUDENT, seed=7)
    assert (found, checkpoint, place.jobs) == (distill.read_manifest(listed), Path("best.pth"), 3)
    assert how["appendix"] == "# One\n\nfirst\n\n# Two"
    assert (how["terms"], how["speeds"]) == (model_card.CardText(licence="MIT"), [0.9])
    assert (how["judged"], how["measured"]) == (None, None)


def test_only_one_of_two_things_is_refused_at_once(tmp_path):
    given = ("distill", tmp_path / "none.tsv", "--teacher", tmp_path / "none.pth", "--audio", tmp_path)
    answer = invoke(*given, "-o", tmp_path / "run", "--splits", tmp_path)
    assert answer.code == 2
    assert "give both or none" in " ".join(answer.err.split())


@pytest.mark.golden
@pytest.mark.slow
def test_the_organisers_checkpoint_becomes_a_teacher_once(data, tmp_path):
    checkpoint = data / "vggish" / "best_model.pth"
    model = teacher_.model_of(checkpoint, tmp_path)
    described = card.Card.read(model)
    assert described.vocabulary == tags.MOODS_AND_THEMES
    stamp = (model / card.CARD).stat().st_mtime_ns
    assert teacher_.model_of(checkpoint, tmp_path) == model
    assert (model / card.CARD).stat().st_mtime_ns == stamp
    assert replace(described, sha256={}) == replace(tagger.load(model).models[0].card, sha256={})
