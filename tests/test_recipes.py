"""The paper's recipes: what differs is said, what is said differs, and every number says where it comes from."""

import re

import pytest

from moodfield.errors import UnknownNameError
from moodfield.paper import recipes
from moodfield.training.recipe import Recipe

SOURCE = re.compile(r"§\d|chosen by us|inferred|authors' code|organisers|et al\., \d{4}")
NAMES = sorted(recipes.RECIPES)


@pytest.mark.parametrize("name", NAMES)
def test_every_number_means_something_and_comes_from_somewhere(name):
    for each in recipes.RECIPES[name].recipe.settings():
        assert len(each.meaning.split()) > 2, each
        assert SOURCE.search(each.meaning), each


@pytest.mark.parametrize("name", NAMES)
def test_reasons_are_given_for_what_differs_and_for_nothing_else(name):
    named = recipes.RECIPES[name]
    assert SOURCE.search(named.what)
    assert all(SOURCE.search(why) for why in named.reasons.values())
    own, plain = ({each.path: each.value for each in plan.settings()} for plan in (named.recipe, Recipe()))
    differ = {path for path, value in own.items() if plain.get(path, value) != value and not path.startswith("net.")}
    changed = {setting.partition("=")[0] for setting in named.reasons}
    assert differ <= changed
    kinds = {"net"} if named.recipe.net != Recipe().net else set()
    assert changed == differ | kinds, "what is said to be changed is changed"


def test_the_numbers_of_the_paper():
    """§2.1, §2.2, §3.4, as printed."""
    values = {each.path: each.value for each in recipes.RECIPES["fa_resnet"].recipe.settings()}
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
def test_a_recipe_trains_its_network_on_clips_that_it_takes(name):
    plan = recipes.RECIPES[name].recipe
    net = plan.net.build(n_mels=plan.mel.n_mels, n_tags=3)
    assert plan.clip_frames >= getattr(net.lengths, "min_frames", getattr(net.lengths, "frames", 0))
    assert Recipe.from_dict(plan.to_dict()) == plan


def test_table_1_as_printed():
    printed = {title: (each.validation, each.test) for title, each in recipes.SUBMISSIONS.items() if each.test}
    assert printed == {
        "ShakeFAResNet": (0.1132, 0.1480), "FAResNet": (0.1149, 0.1463), "Avg_ensemble": (0.1189, 0.1546),
        "ResNet34": (0.0924, 0.1021), "CRNN": (0.0924, 0.1172), "CP_ResNet": (0.1097, 0.1325),
        "VGG-ish": (None, 0.1077), "popular": (None, 0.0319),
    }  # fmt: skip
    assert all(SOURCE.search(each.what) or "Table 1" in each.what for each in recipes.SUBMISSIONS.values())


def test_members_differ_as_section_4_1_says():
    """Five networks with other seeds and fields over time, one field over frequency; the third has all of them."""
    shaken, plain, every = (
        recipes.SUBMISSIONS[title].members for title in ("ShakeFAResNet", "FAResNet", "Avg_ensemble")
    )
    for members in (shaken, plain):
        of_members = [member.recipe for member in members]
        assert len(of_members) == 5
        assert len({each.seed for each in of_members}) == len({each.net.rho_time for each in recipes}) == 5
        assert {(each.net.rho_freq, each.net.frequency_aware) for each in of_members} == {(5, True)}
        assert all(SOURCE.search(why) for member in members for why in member.reasons.values())
    assert {each.recipe.net.shake for each in shaken} == {True}
    assert every == (*shaken, *plain, *every[10:])
    assert [each.kind for each in every[10:]] == ["cp_resnet", "cp_densenet"]
    for submission in recipes.SUBMISSIONS.values():
        names = [member.name for member in submission.members]
        assert len(set(names)) == len(names)
        assert bool(names) != bool(submission.constant)


@pytest.mark.parametrize("name", NAMES)
def test_the_small_scale_fits_every_network(name):
    plan, full = recipes.small(recipes.RECIPES[name].recipe), recipes.RECIPES[name].recipe
    assert plan.schedule.epochs == 10
    assert plan.net.width == 16
    assert plan.mel == full.mel or plan.mel.hop_length == 1_536
    net = plan.net.build(n_mels=plan.mel.n_mels, n_tags=3)
    assert plan.clip_frames >= getattr(net.lengths, "min_frames", getattr(net.lengths, "frames", 0))


def test_submissions_are_known_in_any_case():
    assert recipes.submission("avg_ENSEMBLE")[0] == "Avg_ensemble"
    with pytest.raises(UnknownNameError, match="did you mean CRNN"):
        recipes.submission("CRN")
