"""The model card of a student: calibration of the teacher, thresholds, examples, text, cost."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import models
from moodfield import calibration, card, tagger, tags
from moodfield.calibration import Calibration
from moodfield.card import Example, Provenance
from moodfield.datasets import mtg_jamendo
from moodfield.distillation import model_card
from moodfield.errors import ConfigError, DatasetError, ScoresError
from moodfield.evaluation import agreement, calibration_fit
from moodfield.training import model_folder, readme, run_folder
from moodfield.training.log import LOG, Epoch
from moodfield.training.recipe import Recipe

# ---------------------------------------------------------------- what a teacher's scores mean


def published(folder: Path) -> tuple[Path, np.ndarray]:
    """Predictions of a teacher that is too sure of itself, and small splits of 56 tags beside them."""
    generator = np.random.default_rng(0)
    logits = generator.normal(-2, 1, (240, len(tags.MOODS_AND_THEMES)))
    for part, kept in (("train", slice(0, 80)), ("test", slice(None))):
        truth = generator.random(logits[kept].shape) < calibration.sigmoid(logits[kept])
        names = [tags.SEPARATOR.join(("mood/theme", tag)) for tag in tags.MOODS_AND_THEMES]
        rows = [
            "\t".join([f"track_{n}", f"artist_{n // 4}", "album", f"{n}.mp3", "60", *np.array(names)[row]])
            for n, row in enumerate(truth)
        ]
        (folder / f"{mtg_jamendo.MOODTHEME}{part}.tsv").write_text(
            "\n".join(["\t".join(mtg_jamendo.HEADER), *rows]) + "\n"
        )
    np.save(folder / "predictions.npy", calibration.sigmoid(2 * logits + 1))
    return folder / "predictions.npy", logits


@pytest.fixture
def fewer_strengths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        calibration_fit.select_regularization, "__kwdefaults__", {"candidates": calibration_fit.REGULARIZATIONS[-7::6]}
    )


def test_calibration_of_teacher(tmp_path, fewer_strengths):
    predictions, logits = published(tmp_path)
    teacher_calibration = model_card.calibrate_teacher(predictions, tmp_path)
    train = mtg_jamendo.read(tmp_path / f"{mtg_jamendo.MOODTHEME}train.tsv", vocabulary=tags.MOODS_AND_THEMES)
    np.testing.assert_allclose(teacher_calibration.priors, train.truth.mean(axis=0))
    np.testing.assert_allclose(teacher_calibration.calibration.slopes, 0.5, atol=0.1)
    assert np.abs(teacher_calibration.calibration.scores(2 * logits + 1) - calibration.sigmoid(logits)).mean() < 0.03
    for what in ("Brier score", "expected calibration error"):
        assert (
            teacher_calibration.metrics[f"{what} of the teacher, calibrated"]
            < teacher_calibration.metrics[f"{what} of the teacher, uncalibrated"]
        )
    assert "80 training tracks" in teacher_calibration.origin


def test_calibrated_model_decides_the_same(tmp_path, cp_model):
    folder = models.varied(cp_model, tmp_path / "model")
    weights = (folder / card.WEIGHTS).read_bytes()
    scale = Calibration((0.5,) * 5, (1.0,) * 5)
    teacher_calibration = model_card.TeacherCalibration(
        scale, (0.1, 0.2, 0.3, 0.4, 0.05), {"Brier score": 0.03}, "tests"
    )
    written = model_folder.write_card(teacher_calibration.apply_to(card.Card.read(folder)), Provenance(), folder)
    assert card.Card.read(folder) == written
    assert (written.calibration, written.priors) == (scale, teacher_calibration.priors)
    assert (folder / card.WEIGHTS).read_bytes() == weights
    before, after = (tagger.load(each, threads=1).tag(models.music(5)) for each in (cp_model.folder, folder))
    assert (before.scores > before.thresholds).tolist() == (after.scores > after.thresholds).tolist()
    text = (folder / card.README).read_text()
    assert "**Scores** are calibrated" in text
    assert "5.00%" in text
    assert "40.00%" in text
    assert "calibrated" not in readme.page(cp_model.card, Provenance())


def test_predictions_of_other_tracks_raise(tmp_path):
    predictions, _ = published(tmp_path)
    np.save(predictions, np.load(predictions, allow_pickle=False)[:-1])
    with pytest.raises(ScoresError, match="tracks"):
        model_card.calibrate_teacher(predictions, tmp_path)
    with pytest.raises(DatasetError, match=r"moodtheme-train\.tsv"):
        model_card.calibrate_teacher(predictions, tmp_path / "nowhere")


# ---------------------------------------------------------------- examples


def music(tracks: int, tags_: int, seed: int = 0) -> np.ndarray:
    """Scores of tags of which a few go together, and some of which are high everywhere."""
    generator = np.random.default_rng(seed)
    kinds = generator.normal(0, 1.5, (tracks, 6)) @ generator.normal(0, 1, (6, tags_))
    return calibration.sigmoid(kinds + generator.normal(-2, 1, tags_))


def test_examples_have_best_and_worst_agreement(monkeypatch):
    monkeypatch.setattr(model_card, "EXAMPLES", 2)
    scores = music(160, len(tags.MOODS_AND_THEMES))
    student = scores.copy()
    student[120:] = student[120:][::-1]  # of the second half of the held-out music it says what is true of others
    heldout, kinds = np.arange(160) >= 80, ("rock",) * 160
    teacher, own = (model_card.MusicLogits(calibration.logit(values), heldout, kinds) for values in (scores, student))
    figures, examples = model_card.evaluate_student(own, teacher, [str(number) for number in range(80)])
    assert figures["held-out tracks"] == 80
    assert figures["Spearman with the teacher, worst tag"] < 0.9
    for name, value in agreement.decision_statistics(own.decided).items():
        assert figures[name] == value
    both = figures["Jaccard similarity with the teacher's decisions, mean over tracks"]
    assert both == agreement.jaccard(own.decided, teacher.decided).mean()
    assert [int(each.track) < 40 for each in examples] == [True, True, False, False]
    assert all(each.decided == each.expected for each in examples[:2])
    assert not any(set(each.decided) & set(each.expected) for each in examples[2:])
    assert all(set(each.decided) <= set(tags.MOODS_AND_THEMES) for each in examples)
    few, other = (
        model_card.MusicLogits(calibration.logit(values[:83]), heldout[:83], kinds[:83]) for values in (scores, student)
    )
    _, examples = model_card.evaluate_student(other, few, ["0", "1", "2"])
    assert sorted(example.track for example in examples) == ["0", "1", "2"], "none twice"


def test_reference_is_the_training_music_with_kinds_balanced(cp_model):
    logits = np.concatenate([np.full((200, 5), -2.0), np.full((20, 5), 0.0), np.full((80, 5), 7.0)])
    logits += np.random.default_rng(0).normal(0, 0.1, logits.shape)
    heldout, kinds = np.arange(300) >= 220, ("rock",) * 200 + ("jazz",) * 20 + ("song",) * 80
    student = model_card.MusicLogits(logits, heldout, kinds)
    assert student.usual.tracks == 220
    np.testing.assert_allclose(student.usual.mean, -1, atol=0.1)
    np.testing.assert_allclose(student.usual.std, 1, atol=0.1)
    scale = Calibration((0.5,) * 5, (1.0,) * 5)
    written = replace(cp_model.card, calibration=scale).with_usual(student.usual)
    assert written.statistics is not None
    np.testing.assert_allclose(written.statistics.mean, (student.usual.mean - 1) / 0.5)
    np.testing.assert_allclose(written.usual.std, student.usual.std)
    np.testing.assert_allclose(calibration.logit(np.array(written.thresholds)), student.usual.cuts)
    assert student.decided.shape == (80, 5)


def test_readme_shows_limits_examples_and_appendix(cp_model):
    examples = (
        Example("a song | live", ("calm", "film"), ("calm",)),
        Example("another", (), ("epic",)),
        Example("a third", ("epic",), ()),
    )
    appendix = "# Chosen\n\nby hand\n```sh\n# not by\nrandom\n```\n## Where\n"
    provenance = Provenance(limits=("It is no judge.",), examples=examples)
    text = readme.page(cp_model.card, provenance, appendix=appendix)
    assert "## Limits\n\n- It is no judge.\n" in text
    best, worst = text.partition("with the best agreement")[2].split("with the worst agreement")
    assert "| a song ¦ live | calm, *film* | calm |" in best
    assert "| another | – | epic |" in best
    assert "| a third | epic | – |" in worst
    assert text.endswith("\n## Chosen\n\nby hand\n```sh\n# not by\nrandom\n```\n### Where\n")
    assert "Limits" not in readme.page(cp_model.card, Provenance())


# ---------------------------------------------------------------- text, cost


def test_card_text_is_read_from_toml(tmp_path):
    (tmp_path / "text.toml").write_text('name = "ours"\nlimits = ["not for sale"]\norigin = { "made by" = "hand" }\n')
    result = model_card.read_card_text(tmp_path / "text.toml")
    assert result == model_card.CardText("ours", limits=("not for sale",), origin={"made by": "hand"})
    assert "not stated" in result.licence


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "TOML"),
        ("name = 3", "name: Input"),
        ("license = 'MIT'", "license"),
        ("name = 2026-11-28", "strings"),
        ("[origin]\ncalibration = 'none'", "calibration"),
        ("[origin]\nyear = 2026", "origin.year"),
    ],
)
def test_invalid_card_text_raises(tmp_path, text, message):
    (tmp_path / "text.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        model_card.read_card_text(tmp_path / "text.toml")
    with pytest.raises(ConfigError, match=r"none\.toml"):
        model_card.read_card_text(tmp_path / "none.toml")


def test_metrics_of_bundled_model_are_those_of_its_readme():
    text = (tagger.PRETRAINED / "default" / card.README).read_text()
    for name, value in Provenance.read(tagger.PRETRAINED / "default").metrics.items():
        if row := re.search(rf"^\| {re.escape(name)} \|[^|]*\| ([\d.]+)(%?) ", text, re.MULTILINE):
            assert float(row[1]) == pytest.approx(value * (100 if row[2] else 1), abs=0.051), name
    assert "different tags used |" in text


def test_bundled_model_has_the_text_of_music_card_text():
    text = model_card.read_card_text(Path(__file__).parents[1] / "music" / "card_text.toml")
    described, provenance = (kind.read(tagger.PRETRAINED / "default") for kind in (card.Card, Provenance))
    assert (text.name, text.summary, text.licence) == (described.name, described.summary, described.licence)
    assert text.limits == provenance.limits
    assert text.origin.items() <= provenance.origin.items()


def test_training_cost_of_logs(tmp_path):
    for name, seconds in (("one", (3600.0, 1800.0)), ("two", (5400.0,))):
        (tmp_path / name).mkdir()
        (tmp_path / name / run_folder.RECIPE).write_text(Recipe().to_json())
        lines = (vars(Epoch(1, 1e-3, 1.0, cpu_seconds=each)) for each in seconds)
        (tmp_path / name / LOG).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert model_card.training_cost([tmp_path / "one"]).startswith("1.5 core-hours of training, 1 run; about 0.015 kWh")
    assert model_card.training_cost([tmp_path / "one", tmp_path / "two"]).startswith(
        "3.0 core-hours of training, 2 runs;"
    )
    old = tmp_path / "one" / LOG
    old.write_text(old.read_text() + json.dumps(vars(Epoch(3, 1e-3, 1.0))) + "\n")  # from before it was measured
    assert model_card.training_cost([tmp_path / "one"]).startswith("at least 1.5 core-hours")
