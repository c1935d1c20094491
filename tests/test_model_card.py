"""What the card of a student says of it: what scores mean, examples, cost."""

import json
import re
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
from moodfield.evaluation import calibration_fit, threshold_selection
from moodfield.training import export, readme, run_folder
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
    np.save(folder / "said.npy", calibration.sigmoid(2 * logits + 1))
    return folder / "said.npy", logits


@pytest.fixture
def fewer_strengths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        calibration_fit.select_regularization, "__kwdefaults__", {"candidates": calibration_fit.REGULARIZATIONS[-7::6]}
    )


def test_a_teacher_is_judged_by_what_people_said(tmp_path, fewer_strengths):
    predictions, logits = published(tmp_path)
    judged = model_card.calibrate_teacher(predictions, tmp_path)
    train = mtg_jamendo.read(tmp_path / f"{mtg_jamendo.MOODTHEME}train.tsv", vocabulary=tags.MOODS_AND_THEMES)
    np.testing.assert_allclose(judged.priors, train.truth.mean(axis=0))
    np.testing.assert_allclose(judged.calibration.slopes, 0.5, atol=0.1)
    assert np.abs(judged.calibration.scores(2 * logits + 1) - calibration.sigmoid(logits)).mean() < 0.03
    for what in ("Brier score", "expected calibration error"):
        assert judged.figures[f"{what} of the teacher, calibrated"] < judged.figures[f"{what} of the teacher, as it is"]
    assert "80 training tracks" in judged.origin


def test_a_model_folder_is_calibrated_and_decides_the_same(tmp_path, cp_model):
    folder = models.varied(cp_model, tmp_path / "model")
    weights = (folder / card.WEIGHTS).read_bytes()
    scale = Calibration((0.5,) * 5, (1.0,) * 5)
    judged = model_card.TeacherCalibration(scale, (0.1, 0.2, 0.3, 0.4, 0.05), {"Brier score": 0.03}, "tests")
    stated = export.write_card(judged.apply_to(card.Card.read(folder)), Provenance(), folder)
    assert card.Card.read(folder) == stated
    assert (stated.calibration, stated.priors) == (scale, judged.priors)
    assert (folder / card.WEIGHTS).read_bytes() == weights
    before, after = (tagger.load(each, threads=1).tag(models.music(5)) for each in (cp_model.folder, folder))
    assert (before.scores > before.thresholds).tolist() == (after.scores > after.thresholds).tolist()
    text = (folder / card.README).read_text()
    assert "**Scores** are calibrated" in text
    assert "5.00%" in text
    assert "40.00%" in text
    assert "calibrated" not in readme.page(cp_model.card, Provenance())


def test_predictions_that_are_not_of_these_tracks_are_refused(tmp_path):
    predictions, _ = published(tmp_path)
    np.save(predictions, np.load(predictions, allow_pickle=False)[:-1])
    with pytest.raises(ScoresError, match="the same tracks"):
        model_card.calibrate_teacher(predictions, tmp_path)
    with pytest.raises(DatasetError, match=r"moodtheme-train.tsv cannot be read"):
        model_card.calibrate_teacher(predictions, tmp_path / "nowhere")


# ---------------------------------------------------------------- examples


def music(tracks: int, tags_: int, seed: int = 0) -> np.ndarray:
    """Scores of tags of which a few go together, and some of which are high everywhere."""
    generator = np.random.default_rng(seed)
    kinds = generator.normal(0, 1.5, (tracks, 6)) @ generator.normal(0, 1, (6, tags_))
    return calibration.sigmoid(kinds + generator.normal(-2, 1, tags_))


def test_a_card_shows_where_a_student_does_best_and_worst(monkeypatch):
    monkeypatch.setattr(model_card, "EXAMPLES", 2)
    scores = music(160, len(tags.MOODS_AND_THEMES))
    student = scores.copy()
    student[120:] = student[120:][::-1]  # of the second half of the held-out music it says what is true of others
    heldout = np.arange(160) >= 80
    told, said = model_card.ThresholdedScores(scores, heldout), model_card.ThresholdedScores(student, heldout)
    figures, examples = model_card.evaluate_student(told, said, [str(number) for number in range(80)])
    assert figures["held-out tracks"] == 80
    assert figures["Spearman with the teacher, worst tag"] < 0.9
    for name, value in threshold_selection.decision_statistics(said.decided[heldout]).items():
        assert figures[name] == value
        assert f"{name}, {model_card.NARROW}" in figures
    both = figures["tags that both decide, of those that either does, mean over tracks"]
    assert both == threshold_selection.jaccard(said.decided[heldout], told.decided[heldout]).mean()
    assert [int(each.track) < 40 for each in examples] == [True, True, False, False]
    assert all(each.decided == each.wanted for each in examples[:2])
    assert not any(set(each.decided) & set(each.wanted) for each in examples[2:])
    assert all(set(each.decided) <= set(tags.MOODS_AND_THEMES) for each in examples)
    few = [model_card.ThresholdedScores(each.scores[:83], heldout[:83]) for each in (told, said)]
    assert sorted(each.track for each in model_card.evaluate_student(*few, ["0", "1", "2"])[1]) == ["0", "1", "2"], (
        "none twice"
    )


def test_opinions_like_those_of_a_teacher_keep_near_its_decisions():
    scores, heldout = music(160, 30), np.arange(160) >= 80
    noise = np.random.default_rng(1).normal(0, 0.5, scores.shape)
    told = model_card.ThresholdedScores(scores, heldout)
    alone, alike = (
        model_card.ThresholdedScores(calibration.sigmoid(calibration.logit(scores) + noise), heldout, like=like)
        for like in (None, told)
    )
    most = np.ceil(told.decided.sum(axis=0) * threshold_selection.MAX_COUNT_RATIO)
    assert (alike.decided.sum(axis=0) <= most).all()
    assert (alone.decided.sum(axis=0) > most).any(), "alone it strays"
    assert alike.learned.like is not None
    np.testing.assert_array_equal(alike.learned.like.scores, scores[~heldout])
    np.testing.assert_array_equal(alike.learned.scores, alone.scores[~heldout])


def test_a_readme_shows_limits_and_examples_and_ends_with_what_was_given(cp_model):
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


# ---------------------------------------------------------------- terms, cost


def test_terms_are_read_whole_or_not_at_all(tmp_path):
    (tmp_path / "terms.toml").write_text('name = "ours"\nlimits = ["not for sale"]\norigin = { "made by" = "hand" }\n')
    found = model_card.read_card_text(tmp_path / "terms.toml")
    assert found == model_card.CardText("ours", limits=("not for sale",), origin={"made by": "hand"})
    assert "not stated" in found.licence


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "cannot be read as terms, which are TOML"),
        ("name = 3", "terms.toml: name: Input should be a valid string"),
        ("license = 'MIT'", "terms.toml: license: Unexpected keyword argument"),
        ("name = 2026-11-28", "terms are plain text"),
        ("[origin]\ncalibration = 'none'", "terms say calibration, which a card knows"),
        ("[origin]\nyear = 2026", "origin.year: Input should be a valid string"),
    ],
)
def test_other_terms_are_refused(tmp_path, text, message):
    (tmp_path / "terms.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        model_card.read_card_text(tmp_path / "terms.toml")
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read"):
        model_card.read_card_text(tmp_path / "none.toml")


def test_the_bundled_card_and_the_page_it_ends_with_say_the_same():
    text = (tagger.PRETRAINED / "default" / card.README).read_text()
    for name, value in Provenance.read(tagger.PRETRAINED / "default").metrics.items():
        if row := re.search(rf"^\| {re.escape(name)} \|[^|]*\| ([\d.]+)(%?) ", text, re.MULTILINE):
            assert float(row[1]) == pytest.approx(value * (100 if row[2] else 1), abs=0.051), name
    assert "different tags used |" in text


def test_the_terms_of_the_bundled_model_are_those_of_its_card():
    said = model_card.read_card_text(Path(__file__).parents[1] / "music" / "terms.toml")
    described, provenance = (kind.read(tagger.PRETRAINED / "default") for kind in (card.Card, Provenance))
    assert (said.name, said.summary, said.licence) == (described.name, described.summary, described.licence)
    assert said.limits == provenance.limits
    assert said.origin.items() <= provenance.origin.items()


def test_cost_is_what_the_logs_of_runs_say(tmp_path):
    for name, seconds in (("one", (3600.0, 1800.0)), ("two", (5400.0,))):
        (tmp_path / name).mkdir()
        (tmp_path / name / run_folder.RECIPE).write_text(Recipe().to_json())
        lines = (vars(Epoch(1, 1e-3, 1.0, cpu_seconds=each)) for each in seconds)
        (tmp_path / name / LOG).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert model_card.cost([tmp_path / "one"]).startswith("1.5 core-hours of training, 1 run; about 0.015 kWh")
    assert model_card.cost([tmp_path / "one", tmp_path / "two"]).startswith("3.0 core-hours of training, 2 runs;")
    old = tmp_path / "one" / LOG
    old.write_text(old.read_text() + json.dumps(vars(Epoch(3, 1e-3, 1.0))) + "\n")  # from before it was measured
    assert model_card.cost([tmp_path / "one"]).startswith("at least 1.5 core-hours")
