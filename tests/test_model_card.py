"""What the card of a student says of it: what scores mean, examples, cost."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

import models
from moodfield import calibration, card, tagger, tags
from moodfield.calibration import Calibration
from moodfield.card import Example, Provenance
from moodfield.datasets import mtg_jamendo
from moodfield.distillation import model_card
from moodfield.errors import ConfigError, DatasetError, ScoresError
from moodfield.evaluation import calibration_fit, metrics, threshold_selection
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


def test_agreement_says_what_one_answer_for_all_would_reach_and_leaves_out_what_is_luck():
    teacher = music(60, 30)
    student = calibration.sigmoid(calibration.logit(teacher) + np.random.default_rng(1).normal(0, 0.3, teacher.shape))
    decided = teacher > np.quantile(teacher, 0.8, axis=0)
    decided[:, :4] = teacher[:, :4] >= np.sort(teacher[:, :4], axis=0)[-np.array([1, 4, 5, 6]), np.arange(4)]
    priors = teacher.mean(axis=0).tolist()
    found = threshold_selection.agreement_statistics(teacher, student, decided, priors=priors)
    places = [threshold_selection.rank_tags(each, priors) < 5 for each in (teacher, student)]
    assert found["of the teacher's five clearest tags, found"] == (places[0] & places[1]).sum(axis=1).mean() > 3
    one = found["of the teacher's five clearest tags, found by the same five for every track"]
    assert one == pytest.approx(np.sort(places[0].mean(axis=0))[-5:].sum())
    assert one < found["of the teacher's five clearest tags, found"]
    assert found["tags that the teacher decides for 5 tracks or more"] == 28
    areas = [average_precision_score(decided[:, tag], student[:, tag]) for tag in range(2, 30)]
    assert found["PR-AUC against the teacher's decisions, mean over these tags"] == pytest.approx(np.mean(areas))
    assert found["PR-AUC against the teacher's decisions, worst of these tags"] == pytest.approx(min(areas))
    none = threshold_selection.agreement_statistics(teacher, student, np.zeros_like(decided), priors=priors)
    assert none.keys() == {name for name in found if "decisions" not in name and "decides" not in name}


@pytest.mark.parametrize("seed", range(3))
def test_thresholds_give_tracks_a_few_clear_tags_and_no_tag_to_a_whole_part(seed):
    scores, parts = music(300, 40, seed), np.repeat(["games", "songs"], [200, 100])
    priors = np.random.default_rng(seed).uniform(0.01, 0.2, 40)
    decided = scores > threshold_selection.select_thresholds(scores, priors=priors.tolist(), groups=parts)
    each = decided.sum(axis=1)
    assert ((each >= 1) & (each <= threshold_selection.MAX_FREE_TAGS)).mean() > 0.7
    assert (each == 0).mean() < 0.1
    assert decided.any(axis=0).all(), "every tag is of use"
    for part in np.unique(parts):
        assert decided[parts == part].mean(axis=0).max() <= threshold_selection.MAX_SHARE
    evidence = calibration.logit(scores) - calibration.logit(priors)
    places = np.argsort(np.argsort(-evidence, axis=1), axis=1)
    assert places[decided].mean() < 8, "by chance it is 19.5"
    elsewhere = scores > threshold_selection.select_thresholds(scores, priors=np.full(40, 0.1).tolist(), groups=parts)
    assert (elsewhere != decided).any(), "what is clear depends on what is usual"


def test_no_track_is_told_what_is_less_likely_of_it_than_of_any():
    scores = music(300, 40)
    priors = np.quantile(scores, 0.97, axis=0)  # of every tag only nine tracks are above them
    decided = scores > threshold_selection.select_thresholds(scores, priors=priors.tolist())
    assert decided.any(axis=0).all()
    assert (scores > priors)[decided].all()


def test_a_part_of_its_own_keeps_a_tag_from_being_common_there():
    scores = music(200, 20)
    parts = np.arange(200) < 40
    scores[parts, 3] = np.linspace(0.9, 0.99, 40)  # everywhere in the small part, and in 20 % of all music
    without, within = (scores > threshold_selection.select_thresholds(scores, groups=each) for each in (None, parts))
    assert without[parts, 3].mean() > threshold_selection.MAX_SHARE
    assert within[parts, 3].mean() <= threshold_selection.MAX_SHARE


def test_a_part_of_two_tracks_may_have_tags_and_what_never_varies_is_no_evidence():
    scores = music(60, 12)
    scores[:, 0] = 0.5
    decided = scores > threshold_selection.select_thresholds(scores, groups=np.arange(60) < 2)
    assert decided[:2].any()
    assert not decided[:, 0].any()


@pytest.mark.parametrize("seed", range(3))
def test_who_is_to_decide_like_somebody_does(seed):
    teacher, parts = music(300, 40, seed), np.arange(300) < 100
    noise = np.random.default_rng(seed).normal(0, 0.5, teacher.shape)
    student = calibration.sigmoid(calibration.logit(teacher) + noise)
    wanted = metrics.decide(teacher, threshold_selection.select_thresholds(teacher, groups=parts))
    alone, alike = (
        metrics.decide(student, threshold_selection.select_thresholds(student, groups=parts, reference=like))
        for like in (None, wanted)
    )
    assert threshold_selection.jaccard(wanted, alike).mean() > threshold_selection.jaccard(wanted, alone).mean() + 0.1
    counts, own = wanted.sum(axis=0), alike.sum(axis=0)
    assert (own <= np.ceil(counts * threshold_selection.MAX_COUNT_RATIO)).all()
    order, least = np.argsort(-student, axis=0), np.ceil(threshold_selection.MIN_SHARE * 300)
    some = [np.cumsum(part[order], axis=0) <= threshold_selection.MAX_SHARE * part.sum() for part in (parts, ~parts)]
    allowed = np.logical_and(*some).sum(axis=0)  # before a tag is common in a part
    assert (own >= np.maximum(np.floor(np.minimum(counts, allowed) / threshold_selection.MAX_COUNT_RATIO), least)).all()
    for part in (parts, ~parts):
        assert alike[part].mean(axis=0).max() <= threshold_selection.MAX_SHARE


def test_what_is_shared_is_counted_by_track():
    one = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]], bool)
    other = np.array([[1, 0, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0]], bool)
    np.testing.assert_allclose(threshold_selection.jaccard(one, other), [1 / 3, 1, 1, 0])


def test_tracks_are_in_the_order_of_what_is_decided_alike():
    wanted = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1], [0, 0, 1]], bool)
    decided = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1], [0, 0, 0]], bool)
    scores = np.random.default_rng(0).uniform(0.1, 0.9, (5, 3))
    student = scores.copy()
    student[2] = 1 - scores[2]  # nothing is decided by either, but nothing else is alike
    order = threshold_selection.rank_by_agreement(scores, student, wanted, decided)
    assert order.tolist()[:3] == [3, 2, 1], "both of two; none of none; one of two"
    assert set(order.tolist()[3:]) == {0, 4}


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
