"""The paper's recipes: what differs is said, what is said differs, and every number says where it comes from."""

import re

import pytest

from moodfield import paper
from moodfield.training import recipe
from moodfield.training.recipe import Recipe

SOURCE = re.compile(r"§\d|chosen by us|inferred|authors' code|organisers|et al\., \d{4}")
NAMES = sorted(paper.RECIPES)


@pytest.mark.parametrize("name", NAMES)
def test_every_number_means_something_and_comes_from_somewhere(name):
    for each in recipe.settings(paper.RECIPES[name].recipe):
        assert len(each.meaning.split()) > 2, each
        assert SOURCE.search(each.meaning), each


@pytest.mark.parametrize("name", NAMES)
def test_reasons_are_given_for_what_differs_and_for_nothing_else(name):
    named = paper.RECIPES[name]
    assert SOURCE.search(named.what)
    assert all(SOURCE.search(why) for why in named.reasons.values())
    own, plain = ({each.path: each.value for each in recipe.settings(plan)} for plan in (named.recipe, Recipe()))
    differ = {path for path, value in own.items() if plain.get(path, value) != value and not path.startswith("net.")}
    changed = {setting.partition("=")[0] for setting in named.reasons}
    assert differ <= changed
    kinds = {"net"} if named.recipe.net != Recipe().net else set()
    assert changed == differ | kinds, "what is said to be changed is changed"


def test_the_numbers_of_the_paper():
    """§2.1, §2.2, §3.4, as printed."""
    values = {each.path: each.value for each in recipe.settings(paper.RECIPES["fa_resnet"].recipe)}
    printed = {
        "mel.rate": 44_100, "mel.window": 2_048, "mel.overlap": 0.75, "mel.bands": 256, "schedule.warm_up": 10,
        "schedule.constant": 60, "schedule.decay": 50, "schedule.final": 80, "schedule.peak": 1e-4,
        "schedule.floor": 1e-6, "averaging.every": 3, "averaging.snapshots": 4, "net.frequency_aware": True,
    }  # fmt: skip
    assert {path: values[path] for path in printed} == printed
    overlaps = {name: named.recipe.mel.overlap for name, named in paper.RECIPES.items()}
    assert {name for name, overlap in overlaps.items() if overlap == 0.25} == {"crnn", "resnet34"}
    weights = {name: named.recipe.loss.pos_weight for name, named in paper.RECIPES.items()}
    assert {name for name, weight in weights.items() if weight == 1} == {"crnn", "resnet34", "vgg"}


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains_its_network_on_clips_that_it_takes(name):
    plan = paper.RECIPES[name].recipe
    net = plan.net.build(bands=plan.mel.bands, tags=3)
    assert plan.clip_frames >= getattr(net.lengths, "least", getattr(net.lengths, "frames", 0))
    assert recipe.from_dict(recipe.to_dict(plan)) == plan
