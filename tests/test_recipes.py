"""The paper's recipes: every setting has a meaning, and every difference from the defaults a source."""

import re

import pytest

from moodfield.errors import UnknownNameError
from moodfield.paper import recipes
from moodfield.training.recipe import FINE_TUNING, Recipe

NAMED = {**recipes.RECIPES, "fine_tuning": FINE_TUNING}
SOURCE = re.compile(r"§\d|chosen by us|inferred|authors' code|organisers|et al\., \d{4}")
NAMES = sorted(NAMED)


@pytest.mark.parametrize("name", NAMES)
def test_settings_have_a_meaning_and_a_source(name):
    for setting in NAMED[name].recipe.settings():
        assert len(setting.meaning.split()) > 2, setting
        assert SOURCE.search(setting.meaning), setting


@pytest.mark.parametrize("name", NAMES)
def test_exactly_the_settings_that_differ_have_reasons(name):
    named = NAMED[name]
    assert SOURCE.search(named.description)
    assert all(SOURCE.search(reason) for reason in named.reasons.values())
    own, plain = ({setting.path: setting.value for setting in recipe.settings()} for recipe in (named.recipe, Recipe()))
    differ = {path for path, value in own.items() if plain.get(path, value) != value and not path.startswith("net.")}
    changed = {setting.partition("=")[0] for setting in named.reasons}
    assert differ <= changed
    kinds = {"net"} if named.recipe.net != Recipe().net else set()
    assert changed == differ | kinds


def test_the_numbers_of_the_paper():
    """§2.1, §2.2, §3.4, as printed."""
    values = {setting.path: setting.value for setting in recipes.RECIPES["fa_resnet"].recipe.settings()}
    printed = {
        "mel.sample_rate": 44_100, "mel.n_fft": 2_048, "mel.hop_length": 512, "mel.n_mels": 256, "schedule.warm_up": 10,
        "schedule.constant": 60, "schedule.decay": 50, "schedule.final": 80, "schedule.peak": 1e-4,
        "schedule.floor": 1e-6, "averaging.every": 3, "averaging.snapshots": 4, "net.frequency_aware": True,
    }  # fmt: skip
    assert {path: values[path] for path in printed} == printed
    hops = {name: named.recipe.mel.hop_length for name, named in recipes.RECIPES.items()}
    assert {name for name, hop in hops.items() if hop == 1_536} == {"crnn", "resnet34"}
    weights = {name: named.recipe.loss.pos_weight for name, named in recipes.RECIPES.items()}
    assert {name for name, weight in weights.items() if weight == 1} == {"crnn", "resnet34", "vgg"}


@pytest.mark.parametrize("name", NAMES)
def test_clips_are_long_enough_for_the_network(name):
    recipe = NAMED[name].recipe
    net = recipe.net.build(n_mels=recipe.mel.n_mels, n_tags=3)
    assert recipe.clip_frames >= getattr(net.lengths, "min_frames", getattr(net.lengths, "frames", 0))
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_table_1_as_printed():
    printed = {title: (row.validation, row.test) for title, row in recipes.SUBMISSIONS.items() if row.test}
    assert printed == {
        "ShakeFAResNet": (0.1132, 0.1480), "FAResNet": (0.1149, 0.1463), "Avg_ensemble": (0.1189, 0.1546),
        "ResNet34": (0.0924, 0.1021), "CRNN": (0.0924, 0.1172), "CP_ResNet": (0.1097, 0.1325),
        "VGG-ish": (None, 0.1077), "popular": (None, 0.0319),
    }  # fmt: skip
    descriptions = [row.description for row in recipes.SUBMISSIONS.values()]
    assert all(SOURCE.search(description) or "Table 1" in description for description in descriptions)


def test_members_differ_as_section_4_1_says():
    """Five networks with other seeds and fields over time, one field over frequency; the third has all of them."""
    shaken, plain, every = (
        recipes.SUBMISSIONS[title].members for title in ("ShakeFAResNet", "FAResNet", "Avg_ensemble")
    )
    for members in (shaken, plain):
        of_members = [member.recipe for member in members]
        assert len(of_members) == 5
        assert len({recipe.seed for recipe in of_members}) == 5
        assert len({recipe.net.rho_time for recipe in of_members}) == 5
        assert {(recipe.net.rho_freq, recipe.net.frequency_aware) for recipe in of_members} == {(5, True)}
        assert all(SOURCE.search(why) for member in members for why in member.reasons.values())
    assert {member.recipe.net.shake for member in shaken} == {True}
    assert every == (*shaken, *plain, *every[10:])
    assert [member.kind for member in every[10:]] == ["cp_resnet", "cp_densenet"]
    for submission in recipes.SUBMISSIONS.values():
        names = [member.name for member in submission.members]
        assert len(set(names)) == len(names)
        assert bool(names) != bool(submission.constant)


@pytest.mark.parametrize("name", NAMES)
def test_the_small_scale_fits_the_network(name):
    recipe, full = recipes.small(NAMED[name].recipe), NAMED[name].recipe
    assert recipe.schedule.epochs == 10
    assert recipe.net.width == 16
    assert recipe.mel == full.mel or recipe.mel.hop_length == 1_536
    net = recipe.net.build(n_mels=recipe.mel.n_mels, n_tags=3)
    assert recipe.clip_frames >= getattr(net.lengths, "min_frames", getattr(net.lengths, "frames", 0))


def test_submission_ignores_case():
    assert recipes.submission("avg_ENSEMBLE")[0] == "Avg_ensemble"
    with pytest.raises(UnknownNameError, match="CRNN"):
        recipes.submission("CRN")
