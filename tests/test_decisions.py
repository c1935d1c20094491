"""Decisions: absolute against a model's reference, and relative to other tracks."""

import inspect
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import models
import moodfield
from moodfield import calibration, card, tagger
from moodfield.calibration import Calibration
from moodfield.decisions import CUT, KIND_SLACK, MARGIN, MAX_TAGS, MIN_TRACKS, PSEUDO_TRACKS, Usual, usual
from moodfield.errors import ConfigError, ModelError
from moodfield.tagging import OverTime, Tagging

TAGS = 12
REFERENCE = Usual(np.linspace(-5, -3, TAGS), np.linspace(0.5, 1.5, TAGS))


def make(logits: np.ndarray, reference: Usual | None = REFERENCE, **changes: object) -> Tagging:
    """A tagging with track logits and a reference."""
    scores = calibration.sigmoid(logits).astype(np.float32)
    thresholds = calibration.sigmoid(reference.cuts if reference else np.full(len(logits), -3.0)).astype(np.float32)
    vocabulary = tuple(f"tag {number}" for number in range(len(logits)))
    over_time = OverTime(np.zeros(1, np.float32), scores[:, None])
    tagging = Tagging("a", 60.0, "m", vocabulary, vocabulary[:3], scores, thresholds, over_time, statistics=reference)
    return replace(tagging, **changes)


def library(tracks: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    """Logits of tracks whose tags differ from the reference by as many standard deviations."""
    generator = np.random.default_rng(seed)
    return REFERENCE.mean + REFERENCE.std * (shift + generator.normal(0, 1, (tracks, TAGS)))


# ---------------------------------------------------------------- one track


def test_absolute_decisions_are_the_clearest_tags_above_usual():
    evidence = np.full(TAGS, -1.0)
    evidence[[2, 5, 7, 9]] = CUT + np.array([1.0, 1.0 - 0.9 * MARGIN, 1.0 - 1.1 * MARGIN, -0.1])
    tagging = make(REFERENCE.mean + REFERENCE.std * evidence)
    assert tagging.decided == ("tag 2", "tag 5")
    np.testing.assert_allclose(tagging.evidence, evidence, atol=1e-3)
    assert (tagging.themes, tagging.moods) == (("tag 2",), ("tag 5",))
    assert tagging.relative is False


@given(arrays.arrays(np.float64, TAGS, elements=st.floats(-30, 30)))
@settings(deadline=None)
def test_decided_tags_follow_the_rule(evidence):
    tagging = make(REFERENCE.mean + REFERENCE.std * evidence)
    decided = [tagging.vocabulary.index(tag) for tag in tagging.decided]
    values = tagging.evidence
    assert len(decided) <= MAX_TAGS
    assert (len(decided) > 0) == bool((tagging.scores > tagging.thresholds).any())
    assert all(values[tag] > CUT - 1e-3 and values[tag] >= values.max() - MARGIN - 1e-3 for tag in decided)
    assert values[decided].tolist() == sorted(values[decided], reverse=True)
    assert set(decided) == set(np.flatnonzero(tagging.is_decided))
    rest = np.setdiff1d(np.arange(TAGS), decided)
    if 0 < len(decided) < MAX_TAGS:
        worst = min(values[decided])
        assert all(values[tag] <= worst for tag in rest)


def test_times_usual():
    tracks = REFERENCE.mean + REFERENCE.std * np.random.default_rng(0).normal(0, 1, (100_000, TAGS))
    mean = calibration.sigmoid(tracks).mean(axis=0)
    np.testing.assert_allclose(REFERENCE.scores, mean, rtol=0.03)
    tagging = make(calibration.logit(mean * np.where(np.arange(TAGS) == 3, 4, 1)))
    np.testing.assert_allclose(tagging.times_usual[[0, 3]], [1, 4], rtol=0.03)
    assert json.loads(json.dumps(tagging.to_dict()))["times_usual"]["tag 3"] == pytest.approx(
        tagging.times_usual[3], rel=1e-5
    )
    priors = np.full(TAGS, 0.02, np.float32)
    known = make(np.full(TAGS, calibration.logit(np.array(0.1))), None, priors=priors)
    np.testing.assert_allclose(known.times_usual, 5, rtol=1e-5)
    unknown = make(np.zeros(TAGS), None)
    assert (unknown.usual, unknown.times_usual, unknown.to_dict()["times_usual"]) == (None, None, None)


def test_a_constant_tag_is_never_decided():
    constant = replace(REFERENCE, std=REFERENCE.std * (np.arange(TAGS) != 4))
    assert "tag 4" not in make(np.full(TAGS, 9.0), constant).decided


def with_kinds() -> Usual:
    """A reference in which tags 0 and 1 are common in songs."""
    mean = REFERENCE.mean + 2 * REFERENCE.std * (np.arange(TAGS) < 2)
    rock = Usual(REFERENCE.mean - 1, REFERENCE.std)
    return replace(REFERENCE, kinds={"rock": rock, "song": Usual(mean, REFERENCE.std)})


def test_a_tag_that_is_usual_for_a_kind_of_music_is_not_decided():
    logits = REFERENCE.mean + REFERENCE.std * np.array([1.9, 2.5, 1.2, *[0.0] * (TAGS - 3)])
    assert make(logits).decided == ("tag 1",)
    tagging = make(logits, with_kinds())
    np.testing.assert_allclose(tagging.evidence[:3], [KIND_SLACK - 0.1, KIND_SLACK + 0.5, 1.2], atol=1e-4)
    assert tagging.decided == ("tag 1", "tag 2")


@given(arrays.arrays(np.float64, TAGS, elements=st.floats(-12, 6)))
@settings(deadline=None, max_examples=50)
def test_cuts_are_logits_with_the_evidence_that_it_takes(logits):
    usual = with_kinds()
    close = np.abs(logits - usual.cuts) < 1e-9
    np.testing.assert_array_equal((usual.evidence(logits) > CUT) | close, (logits > usual.cuts) | close)


def test_kinds_of_music_with_many_tracks_have_statistics_of_their_own():
    drawn = np.random.default_rng(0).normal(size=(90, TAGS))
    drawn[:40] += 3
    found = usual(drawn, ["song"] * 40 + ["rock"] * 30 + ["jazz"] * 19 + ["film"])
    assert set(found.kinds) == {"rock", "song"}
    assert (found.tracks, found.kinds["song"].tracks) == (90, 40)
    np.testing.assert_allclose(found.kinds["song"].mean, drawn[:40].mean(axis=0))
    shares = [1 / 3, 1 / 3, 19 / 60, 1 / 60]
    parts = (drawn[:40], drawn[40:70], drawn[70:89], drawn[89:])
    expected = sum(share * part.mean(axis=0) for share, part in zip(shares, parts, strict=True)) / sum(shares)
    np.testing.assert_allclose(found.mean, expected, atol=0.1)
    assert usual(drawn, ["song"] * 90).kinds == {}, "one kind is no kind"
    np.testing.assert_array_equal(found.take([3, 5]).kinds["rock"].mean, found.kinds["rock"].mean[[3, 5]])


def test_what_is_usual_for_kinds_fades_with_the_number_of_tracks():
    taggings = [make(row, with_kinds()) for row in library(25)]
    relative = moodfield.decide(taggings)[0].statistics
    own = usual(np.stack([calibration.logit(tagging.scores) for tagging in taggings]))
    share = 25 / (25 + PSEUDO_TRACKS)
    for name, kind in with_kinds().kinds.items():
        np.testing.assert_allclose(relative.kinds[name].mean, share * own.mean + (1 - share) * kind.mean, atol=1e-3)


def test_a_card_keeps_what_is_usual_for_kinds(cp_model):
    scale = Calibration((0.5,) * 5, (1.0,) * 5)
    kind = Usual(np.full(5, 3.0), np.full(5, 2.0), 30)
    reference = Usual(np.arange(5.0), np.ones(5), 100, {"song": kind})
    written = replace(cp_model.card, calibration=scale).with_usual(reference)
    again = card.Card.from_json(written.to_json())
    assert again == written
    assert again.statistics.kinds["song"].mean == (4.0,) * 5
    np.testing.assert_allclose(again.usual.kinds["song"].std, 2)
    np.testing.assert_allclose(calibration.logit(np.array(again.thresholds)), np.maximum(np.arange(5.0) + 1, 3))
    broken = replace(written.statistics, kinds={"song": card.LogitStatistics(30, (0.0,) * 4, (1.0,) * 5)})
    with pytest.raises(ModelError, match="statistics"):
        replace(written, statistics=broken)


def test_taggers_have_the_statistics_of_their_cards(cp_model, tmp_path):
    scale = Calibration((0.5,) * 5, (1.0,) * 5)
    statistics = card.LogitStatistics(100, (0.0, -1.0, -2.0, -3.0, -4.0), (1.0, 1.0, 2.0, 2.0, 0.0))
    changes = {"calibration": scale, "statistics": statistics}
    folder = models.varied(cp_model, tmp_path / "model", **changes)
    loaded = tagger.load(folder, threads=1)
    np.testing.assert_allclose(loaded.statistics.mean, [1, 0.5, 0, -0.5, -1])
    np.testing.assert_allclose(loaded.statistics.std, [0.5, 0.5, 1, 1, 0])
    tagging = loaded.tag(models.music(5))
    logits = calibration.logit(tagging.scores)
    np.testing.assert_allclose(
        tagging.evidence[:4], (logits - loaded.statistics.mean)[:4] / [0.5, 0.5, 1, 1], atol=1e-3
    )
    assert tagging.evidence[4] == 0
    other = models.varied(cp_model, tmp_path / "other", calibration=scale)
    assert tagger.load(folder, other, threads=1).statistics is None
    assert tagger.load(other, threads=1).tag(models.music(5)).statistics is None


def test_several_models_decide_by_the_statistics_of_their_mean_score(cp_model, tmp_path):
    parts = [(0.0, -1.0, -2.0, -3.0, -4.0), (-3.0, -1.0, 1.0, -2.5, -6.0)]
    folders = [
        models.varied(
            cp_model, tmp_path / str(n), statistics=card.LogitStatistics(9, mean, (1.0,) * 5), thresholds=cuts
        )
        for n, (mean, cuts) in enumerate(zip(parts, [(0.1,) * 5, (0.1, 0.1, 0.1, 0.1, np.inf)], strict=True))
    ]
    loaded = tagger.load(*folders, threads=1)
    drawn = np.random.default_rng(0).normal(size=(20_000, 1))
    logits = calibration.logit(np.mean([calibration.sigmoid(np.array(mean) + drawn) for mean in parts], axis=0))
    np.testing.assert_allclose(loaded.statistics.mean, logits.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(loaded.statistics.std, logits.std(axis=0), atol=0.02)
    np.testing.assert_allclose(loaded.thresholds[:4], calibration.sigmoid(loaded.statistics.cuts[:4]), rtol=1e-5)
    assert loaded.thresholds[4] >= 1, "a tag that one of them never decides stays out"


# ---------------------------------------------------------------- relative to other tracks


def decide(logits: np.ndarray, reference: Usual | None = REFERENCE) -> np.ndarray:
    """Relative decisions, tracks × tags."""
    return np.stack([tagging.is_decided for tagging in moodfield.decide([make(row, reference) for row in logits])])


def test_relative_decisions_tell_tracks_of_one_kind_apart():
    """Every tag is as usual among these tracks, but the reference has one of them nowhere else."""
    logits = library(200) + 4 * (np.arange(TAGS) == 6)
    absolute = np.stack([make(row).is_decided for row in logits])
    relative = decide(logits)
    assert absolute[:, 6].mean() > 0.9
    assert relative[:, 6].mean() < 0.35
    assert relative.any(axis=0).all()


def test_relative_taggings_are_the_same_but_for_decisions():
    taggings = [make(row) for row in library(30, shift=1.0)]
    before = [tagging.decided for tagging in taggings]
    result = moodfield.decide(taggings)
    assert all(new.scores is old.scores and new.source == old.source for new, old in zip(result, taggings, strict=True))
    assert all(new.relative and new.to_dict()["relative"] is True for new in result)
    assert [tagging.decided for tagging in taggings] == before
    assert [tagging.decided for tagging in result] != before
    assert moodfield.decide([]) == []


def test_one_track_is_decided_nearly_as_by_the_reference():
    logits = library(1)[0]
    [relative] = moodfield.decide([make(logits)])
    weight = 1 / (1 + PSEUDO_TRACKS)
    np.testing.assert_allclose(relative.statistics.mean, (1 - weight) * REFERENCE.mean + weight * logits, atol=1e-3)


@given(st.integers(2, 40), st.integers(0, 100))
@settings(deadline=None, max_examples=10)
def test_relative_decisions_depend_on_neither_order_nor_copies(tracks, seed):
    logits, generator = library(tracks, seed), np.random.default_rng(seed)
    once = decide(logits)
    copies = generator.integers(0, tracks, 50)
    np.testing.assert_array_equal(
        decide(np.concatenate([logits, logits[copies]])), np.concatenate([once, once[copies]])
    )
    order = generator.permutation(tracks)
    np.testing.assert_array_equal(decide(logits[order]), once[order])


@given(arrays.arrays(np.float64, (MIN_TRACKS + 5, TAGS), elements=st.floats(-40, 40) | st.just(-5.0)))
@settings(deadline=None, max_examples=12)
def test_any_scores_have_finite_relative_decisions(logits):
    for result in moodfield.decide([make(row) for row in logits]):
        assert np.isfinite(result.evidence).all()
        assert len(result.decided) <= MAX_TAGS
        json.dumps(result.to_dict(), allow_nan=False)


def test_without_reference_statistics_enough_different_tracks_are_needed():
    logits = library(MIN_TRACKS)
    assert decide(logits, None).any(axis=1).mean() > 0.5
    shifted = decide(logits + 1.5, None)
    np.testing.assert_array_equal(shifted, decide(logits, None))
    with pytest.raises(ConfigError, match=f"{MIN_TRACKS - 1} different"):
        decide(np.concatenate([logits[1:], logits[1:]]), None)


def test_a_track_without_numbers_changes_nothing_for_others():
    logits = library(25)
    broken = np.concatenate([logits, np.full((1, TAGS), np.nan)])
    result = decide(broken)
    np.testing.assert_array_equal(result[:-1], decide(logits))
    assert not result[-1].any()


def test_tags_that_are_never_decided_stay_so():
    thresholds = np.where(np.arange(TAGS) == 2, np.inf, 0.05).astype(np.float32)
    result = moodfield.decide([make(row, thresholds=thresholds) for row in library(40)])
    assert not any("tag 2" in tagging.decided for tagging in result)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tagging: replace(tagging, model="other"), "other"),
        (lambda tagging: replace(tagging, statistics=None), "one tagger"),
        (lambda tagging: replace(tagging, statistics=Usual(REFERENCE.mean + 1, REFERENCE.std)), "one tagger"),
        (lambda tagging: replace(tagging, statistics=Usual(REFERENCE.mean, REFERENCE.std + 1)), "one tagger"),
        (lambda tagging: replace(tagging, relative=True), "already"),
    ],
)
def test_taggings_that_cannot_be_compared_raise(change: Callable[[Tagging], Tagging], message):
    taggings = [make(row) for row in library(25)]
    with pytest.raises(ConfigError, match=message):
        moodfield.decide([*taggings, change(taggings[0])])


@pytest.mark.parametrize("taggings", [[*map(make, library(25)), "song.mp3"], make(library(1)[0])])
def test_decide_without_list_of_taggings_raises(taggings):
    with pytest.raises(ConfigError, match="list of taggings"):
        inspect.unwrap(moodfield.decide)(taggings)  # without type checks, which look at one item of a list, by chance


def test_bundled_model_decides_relative_to_its_tracks():
    loaded = tagger.load(threads=1)
    taggings = [loaded.tag(models.music(3, seed=seed)) for seed in range(MIN_TRACKS)]
    decided = moodfield.decide(taggings)
    own = usual(calibration.logit(np.stack([tagging.scores for tagging in taggings])))
    share = MIN_TRACKS / (MIN_TRACKS + PSEUDO_TRACKS)
    for tagging in decided:
        np.testing.assert_allclose(
            tagging.statistics.mean, share * own.mean + (1 - share) * loaded.statistics.mean, atol=1e-3
        )
