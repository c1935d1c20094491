"""Ensembles of teachers: maps to moods, standardization, weights, and files."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import teachers
from moodfield import calibration, decisions, tags
from moodfield.distillation.teachers import ensemble, jamendo, msd_musicnn, published
from moodfield.distillation.teachers.bridge import Bridge
from moodfield.distillation.teachers.ensemble import Ensemble
from moodfield.errors import ConfigError, DatasetError, ModelError

INPUTS = tuple(name for name in jamendo.VOCABULARY if not name.startswith("mood"))
"""genres and instruments, which the bridge leads from"""
KINDS = ("pop",) * 40 + ("rock",) * 5 + ("classical",) * 15
"""kinds of the reference tracks: most are of one kind"""
N_TAGS = len(tags.MOODS_AND_THEMES)
BLANK = 7
"""a tag for which one of the teachers has no logits"""


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def make_bridge() -> Bridge:
    return Bridge(INPUTS, tags.MOODS_AND_THEMES, draw(len(INPUTS), N_TAGS), draw(N_TAGS, seed=1))


def reference() -> dict[str, np.ndarray]:
    """Logits of three teachers for the reference tracks; those of different kinds differ."""
    shift = np.array([("pop", "rock", "classical").index(kind) for kind in KINDS])[:, None]
    moods = {
        name: (1 + seed) * draw(len(KINDS), N_TAGS, seed=seed) + (seed - 1) * shift - 3
        for seed, name in enumerate(("one", "two", "three"))
    }
    moods["three"][:, BLANK] = np.nan
    return moods


def target() -> np.ndarray:
    """Logits of published predictions."""
    return draw(500, N_TAGS, seed=9) * np.linspace(0.5, 2, N_TAGS) + np.linspace(-5, 0, N_TAGS)


def fit(**weights: float) -> Ensemble:
    return ensemble.fit(reference(), KINDS, target(), weights=weights or {"one": 1.0, "two": 0.5, "three": 2.0})


def shares() -> np.ndarray:
    """The weight of every reference track: kinds count alike, those with fewer tracks than `FEWEST` in proportion."""
    counts = np.array([KINDS.count(kind) for kind in KINDS])
    weights = np.minimum(counts, decisions.FEWEST) / counts
    return weights / weights.sum()


# ---------------------------------------------------------------- maps to moods


def test_logits_of_moods_are_their_own_map(tmp_path):
    maps = ensemble.mood_maps([teachers.tiny(tmp_path)], None)
    outputs = draw(3, N_TAGS).astype(np.float32)
    np.testing.assert_array_equal(maps["tiny"](outputs), outputs)
    assert maps["tiny"](outputs).dtype == np.float64


def test_words_are_tags_of_their_vocabularies():
    assert set(ensemble.WORDS) <= set(tags.MOODS_AND_THEMES)
    for mood, words in ensemble.WORDS.items():
        listed = words.split(", ")
        assert set(listed) <= set(msd_musicnn.VOCABULARY), mood
        assert len(set(listed)) == len(listed), mood


def test_words_are_averaged(tmp_path):
    vocabulary, n_outputs = teachers.VOCABULARIES["msd_musicnn"]
    source = teachers.tiny(tmp_path, "msd_musicnn", vocabulary=vocabulary, n_outputs=n_outputs)
    outputs = draw(4, n_outputs).astype(np.float32)
    moods = ensemble.mood_maps([source], None)["msd_musicnn"](outputs)
    assert moods.shape == (4, N_TAGS)
    for index, mood in enumerate(tags.MOODS_AND_THEMES):
        if mood in ensemble.WORDS:
            columns = [vocabulary.index(word) for word in ensemble.WORDS[mood].split(", ")]
            np.testing.assert_allclose(moods[:, index], outputs[:, columns].mean(axis=1), atol=1e-6, err_msg=mood)
        else:
            assert np.isnan(moods[:, index]).all(), mood
    changed = outputs.copy()
    changed[:, len(vocabulary) :] += 1
    np.testing.assert_array_equal(ensemble.mood_maps([source], None)["msd_musicnn"](changed), moods)


def test_genres_and_instruments_get_moods_by_the_bridge(tmp_path):
    vocabulary, _ = teachers.VOCABULARIES["jamendo_fcn"]
    source, bridge = teachers.tiny(tmp_path, "jamendo_fcn", vocabulary=vocabulary), make_bridge()
    outputs = draw(4, len(vocabulary)).astype(np.float32)
    columns = [vocabulary.index(name) for name in INPUTS]
    expected = bridge.logits(calibration.sigmoid(outputs[:, columns].astype(np.float64)))
    np.testing.assert_allclose(ensemble.mood_maps([source], bridge)["jamendo_fcn"](outputs), expected)


def test_a_vocabulary_without_a_map_raises(tmp_path):
    vocabulary, _ = teachers.VOCABULARIES["jamendo_fcn"]
    source, bridge = teachers.tiny(tmp_path, "net", vocabulary=vocabulary), make_bridge()
    unknown = teachers.tiny(tmp_path, "net", vocabulary=("happy", "sad"))
    other = replace(bridge, tags=tags.MOODS_AND_THEMES[::-1])
    for unmapped, given in ((source, None), (unknown, bridge), (unknown, None), (source, other)):
        with pytest.raises(ConfigError, match="net"):
            ensemble.mood_maps([unmapped], given)


def test_weights_are_those_of_the_published_teachers():
    assert set(ensemble.WEIGHTS) == set(published.CHECKPOINTS)
    assert all(weight > 0 for weight in ensemble.WEIGHTS.values())


# ---------------------------------------------------------------- the fit


@pytest.mark.parametrize(("counts", "weights"), [((40, 25, 20), (1, 1, 1)), ((40, 5, 15), (4, 1, 3))])
def test_kinds_have_equal_weight_in_the_reference_but_small_ones(counts, weights):
    kinds = [name for name, count in zip("abc", counts, strict=True) for _ in range(count)]
    moods = draw(sum(counts), N_TAGS) + np.array([3 * "abc".index(kind) for kind in kinds])[:, None]
    fitted = ensemble.fit({"one": moods}, kinds, target(), weights={"one": 1.0}).members["one"]
    groups = [moods[np.array(kinds) == kind] for kind in "abc"]
    mean = np.average([group.mean(axis=0) for group in groups], axis=0, weights=weights)
    variances = [((group - mean) ** 2).mean(axis=0) for group in groups]
    np.testing.assert_allclose(fitted.mean, mean)
    np.testing.assert_allclose(fitted.std, np.sqrt(np.average(variances, axis=0, weights=weights)))
    assert np.abs(fitted.mean - moods.mean(axis=0)).mean() > 0.2, "tracks do not count alike"


def test_more_tracks_of_one_kind_do_not_change_the_fit():
    moods, chosen = reference(), np.array([*range(len(KINDS)), *range(40)])
    more = ensemble.fit(
        {name: rows[chosen] for name, rows in moods.items()}, [KINDS[row] for row in chosen], target(),
        weights={"one": 1.0, "two": 0.5, "three": 2.0},
    )  # fmt: skip
    values = {name: rows[:5] for name, rows in moods.items()}
    np.testing.assert_allclose(more.combine(values), fit().combine(values), rtol=1e-6, atol=1e-6)


def test_combined_logits_have_location_and_scale_of_the_target():
    logits = fit().combine(reference()).astype(np.float64)
    mean = shares() @ logits
    np.testing.assert_allclose(mean, target().mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(np.sqrt(shares() @ (logits - mean) ** 2), target().std(axis=0), atol=1e-5)


@pytest.mark.parametrize("count", [1, 5])
def test_a_reference_that_does_not_vary_raises(count):
    moods = np.repeat(draw(1, N_TAGS), count, axis=0)
    with pytest.raises(DatasetError, match="vary"):
        ensemble.fit({"one": moods}, ["any"] * count, target(), weights={"one": 1.0})


def test_an_ensemble_of_one_teacher_keeps_its_order():
    moods = reference()["one"]
    logits = fit(one=3.0).combine({"one": moods})
    for tag in range(N_TAGS):
        np.testing.assert_array_equal(np.argsort(logits[:, tag]), np.argsort(moods[:, tag]))
    target_itself = ensemble.fit({"one": target()}, ["any"] * 500, target(), weights={"one": 1.0})
    np.testing.assert_allclose(target_itself.combine({"one": target()}), target(), atol=1e-5)


def test_a_tag_without_logits_adds_nothing():
    values = {name: rows[:6] for name, rows in reference().items()}
    whole, without = fit(one=1.0, two=0.5, three=2.0), fit(one=1.0, two=0.5)
    logits, expected = whole.combine(values), without.combine(values)
    np.testing.assert_allclose(logits[:, BLANK], expected[:, BLANK], rtol=1e-6)
    others = np.delete(logits - expected, BLANK, axis=1)
    assert np.abs(others).max(axis=0).min() > 0.01
    assert np.isfinite(logits).all()


def test_weights_are_relative():
    values = {name: rows[:6] for name, rows in reference().items()}
    first, tenfold = fit(one=1.0, two=0.5), fit(one=10.0, two=5.0)
    np.testing.assert_allclose(first.combine(values), tenfold.combine(values), rtol=1e-5, atol=1e-5)
    assert np.abs(first.combine(values) - fit(one=1.0, two=5.0).combine(values)).max() > 0.1
    standard = {name: (moods - shares() @ moods) / np.sqrt(shares() @ (moods - shares() @ moods) ** 2)
                for name, moods in reference().items()}  # fmt: skip
    total = standard["one"] + 0.5 * standard["two"]
    scaled = total / np.sqrt(shares() @ total**2)
    expected = target().mean(axis=0) + target().std(axis=0) * scaled
    np.testing.assert_allclose(first.combine(reference()), expected, atol=1e-5)


def test_windows_of_a_track_are_combined_like_tracks():
    fitted, values = fit(), {name: rows[:12] for name, rows in reference().items()}
    windows = {name: rows.reshape(3, 4, N_TAGS) for name, rows in values.items()}
    np.testing.assert_allclose(fitted.combine(windows).reshape(12, N_TAGS), fitted.combine(values), rtol=1e-6)
    assert fitted.combine(values).dtype == np.float32


# ---------------------------------------------------------------- files


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The file of an ensemble with a bridge."""
    path = tmp_path / "ensemble.json"
    replace(fit(), bridge=make_bridge(), sources={"one": "0123", "reference": "manifest 4567"}).save(path)
    return path


def test_a_saved_ensemble_is_loaded(saved):
    loaded, fitted = ensemble.load(saved), fit()
    np.testing.assert_array_equal(loaded.combine(reference()), fitted.combine(reference()))
    assert (loaded.weights, loaded.sources) == (fitted.weights, {"one": "0123", "reference": "manifest 4567"})
    assert loaded.bridge is not None
    np.testing.assert_array_equal(loaded.bridge.weights, make_bridge().weights)
    assert (loaded.bridge.inputs, loaded.bridge.tags) == (INPUTS, tags.MOODS_AND_THEMES)
    loaded.save(saved.with_name("again.json"))
    assert saved.with_name("again.json").read_bytes() == saved.read_bytes()


def test_nan_is_null(saved):
    content = json.loads(saved.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert content["members"]["three"]["mean"][BLANK] is content["members"]["three"]["std"][BLANK] is None
    assert np.isnan(ensemble.load(saved).members["three"].mean[BLANK])
    assert None not in content["combined"]["mean"]


def test_an_ensemble_without_a_bridge_is_loaded(tmp_path):
    fit(one=1.0).save(tmp_path / "ensemble.json")
    assert ensemble.load(tmp_path / "ensemble.json").bridge is None


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("weights"),
        lambda content: content.update(weights={}),
        lambda content: content.update(weights=[1, 2]),
        lambda content: content["weights"].update(one="much"),
        lambda content: content["weights"].update(one=float("nan")),
        lambda content: content["weights"].update(four=1.0),
        lambda content: content["members"].pop("two"),
        lambda content: content["members"]["one"]["mean"].pop(),
        lambda content: content["members"]["one"]["std"].__setitem__(3, 0.0),
        lambda content: content["members"]["one"]["std"].__setitem__(3, -1.0),
        lambda content: content["members"]["one"]["std"].__setitem__(3, "wide"),
        lambda content: content["members"]["one"]["mean"].__setitem__(3, [1, 2]),
        lambda content: content["members"]["one"]["mean"].__setitem__(3, float("inf")),
        lambda content: content["members"]["one"]["mean"].__setitem__(3, None),
        lambda content: content["combined"]["mean"].__setitem__(3, None),
        lambda content: content["combined"]["std"].__setitem__(3, None),
        lambda content: content["target"]["mean"].__setitem__(3, None),
        lambda content: content["target"].pop("std"),
        lambda content: content.pop("bridge"),
        lambda content: content["bridge"].pop("weights"),
        lambda content: content.update(bridge=[1]),
        lambda content: content.update(sources=None),
        lambda content: content.update(words="others"),
        lambda content: content.pop("sources"),
    ],
)
def test_an_invalid_file_raises(saved, change):
    content = json.loads(saved.read_text())
    change(content)
    saved.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=re.escape(saved.name)):
        ensemble.load(saved)


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", "nonsense", '{"weights": {}}'])
def test_a_damaged_file_raises(saved, text):
    saved.write_text(text)
    with pytest.raises(ModelError, match=re.escape(saved.name)):
        ensemble.load(saved)


def test_a_missing_file_raises(tmp_path):
    with pytest.raises(ModelError, match=r"none\.json"):
        ensemble.load(tmp_path / "none.json")
