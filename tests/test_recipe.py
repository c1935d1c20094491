"""Recipes: changing settings, reading and writing, and errors."""

import json
from dataclasses import replace

import pytest

from moodfield.errors import ConfigError
from moodfield.mel import MelConfig
from moodfield.nets import NETS, CPResNetConfig, VGGConfig
from moodfield.training import recipe
from moodfield.training.configs import BatchConfig, LossConfig
from moodfield.training.recipe import Recipe

DEFAULT = Recipe()
CHANGED = Recipe(
    net=VGGConfig(frames=1_300),
    mel=MelConfig(sample_rate=12_000, n_fft=512, hop_length=256, n_mels=96, kind="plain"),
    batch=BatchConfig(clip_seconds=29.1, size=4),
    loss=LossConfig(kind="logits"),
    precision="bf16-mixed",
    validate_every=3,
    seed=7,
)
"""a recipe that differs from the default in every config"""


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("net.rho_freq=7", 7),
        ("net.frequency_aware=no", False),
        ("mel.hop_length=1536", 1536),
        ("mel.kind=plain", "plain"),
        ("batch.clip_seconds=5", 5.0),
        ("batch.size=4", 4),
        ("augment.mixup_alpha=0", 0.0),
        ("loss.kind=logits", "logits"),
        ("loss.pos_weight=1", 1.0),
        ("schedule.peak=3e-4", 3e-4),
        ("schedule.final=0", 0),
        ("precision=bf16-mixed", "bf16-mixed"),
        ("validate_every=5", 5),
        ("seed=1", 1),
    ],
)
def test_one_setting_is_changed_and_nothing_else(setting, value):
    changed = DEFAULT.change(setting)
    *parents, name = setting.partition("=")[0].split(".")
    config = changed
    for parent in parents:
        config = getattr(config, parent)
    assert getattr(config, name) == value
    assert type(getattr(config, name)) is type(value)
    assert changed != DEFAULT
    values, expected = changed.to_dict(), DEFAULT.to_dict()
    inner, before = (values[parents[0]], expected[parents[0]]) if parents else (values, expected)
    inner[name] = before[name]
    assert values == expected


def test_no_settings_change_nothing():
    assert CHANGED.change() == CHANGED


def test_net_selects_a_network_and_its_settings_may_follow():
    assert DEFAULT.change("net=cp_resnet").net == NETS["cp_resnet"]
    changed = DEFAULT.change("net.rho_time=1", "net=cp_resnet", "net.rho_freq=7", "net.width=32")
    assert changed.net == CPResNetConfig(rho_freq=7, width=32)
    vgg = DEFAULT.change("net=vgg", "net.frames=1400", "net.dropout=0.25")
    assert vgg.net == VGGConfig(frames=1_400, dropout=0.25)
    assert vgg.change("net=fa_resnet") == DEFAULT


@pytest.mark.parametrize(("recipe", "start"), [(DEFAULT, "fa_resnet"), (CHANGED, "vgg")])
def test_settings_recreate_the_recipe(recipe, start):
    first, *others = recipe.settings()
    assert (first.path, first.value) == ("net", recipe.net.family)
    words = [f"{setting.path}={'none' if setting.value is None else setting.value}" for setting in others]
    assert Recipe().change(f"net={start}", *words) == recipe


@pytest.mark.parametrize("kind", [type(config) for config in (*NETS.values(), DEFAULT)])
def test_meanings_are_the_docstrings_of_fields(kind):
    meanings = recipe._meanings(kind)
    assert meanings.keys() == vars(kind()).keys()
    assert meanings.get("seed", "seed of all").startswith("seed of all")
    assert meanings.get("depth", "18, 34 or 50").startswith("18, 34 or 50")


def test_a_recipe_is_read_from_a_file(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(CHANGED.to_json())
    assert Recipe.read(path) == CHANGED
    for text, token in (("{", "cannot be read"), ("[1]", "holds a list"), ('{"sed": 1}', "did you mean seed")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=token):
            Recipe.read(path)
    with pytest.raises(ConfigError, match="No such file"):
        Recipe.read(tmp_path / "none.json")


@pytest.mark.parametrize("name", sorted(NETS))
def test_every_network_survives_the_round_trip(name):
    recipe = replace(DEFAULT, net=NETS[name])
    assert Recipe.from_dict(json.loads(recipe.to_json())) == recipe


@pytest.mark.parametrize("recipe", [DEFAULT, CHANGED])
def test_a_recipe_survives_json(recipe):
    values = json.loads(recipe.to_json())
    assert values == recipe.to_dict()
    reread = Recipe.from_dict(values)
    assert reread == recipe
    assert repr(reread) == repr(recipe), "types too"


def test_missing_values_are_defaults():
    assert Recipe.from_dict({}) == DEFAULT
    assert Recipe.from_dict({"seed": 3, "mel": {"n_mels": 64}}) == replace(DEFAULT, seed=3, mel=MelConfig(n_mels=64))


@pytest.mark.parametrize(("hop_length", "frames"), [(512, 862), (1_536, 288)])
def test_ten_seconds_have_the_frames_of_the_paper(hop_length, frames):
    assert Recipe(mel=MelConfig(hop_length=hop_length)).clip_frames == frames


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("setting", "suggestion"),
    [
        ("net.rho_frq=7", "net.rho_freq"),
        ("nett.rho_freq=7", "net.rho_freq"),
        ("mel.hop_lenght=512", "mel.hop_length"),
        ("sead=1", "seed"),
        ("batch.clip_second=3", "batch.clip_seconds"),
        ("net.frames=1400", "known|did you mean"),
        ("mel=plain", "mel.kind|known|did you mean"),
        ("mel.kind.deeper=1", "mel.kind"),
        ("=1", "known"),
    ],
)
def test_an_unknown_setting_raises_with_suggestions(setting, suggestion):
    with pytest.raises(ConfigError, match=rf"no setting '.*'; .*({suggestion})"):
        DEFAULT.change(setting)


def test_an_unknown_network_raises_with_a_suggestion():
    with pytest.raises(ConfigError, match="mean fa_resnet"):
        DEFAULT.change("net=fa_resnt")


@pytest.mark.parametrize("setting", ["net.rho_freq", "", "seed 1"])
def test_malformed_settings_raise(setting):
    with pytest.raises(ConfigError, match="not a setting"):
        DEFAULT.change(setting)


@pytest.mark.parametrize(
    "setting",
    [
        "net.rho_freq=seven",
        "net.rho_freq=7.5",
        "net.rho_freq=",
        "net.frequency_aware=maybe",
        "mel.hop_length=half",
        "mel.kind=loud",
        "loss.kind=probabilities",
        "precision=8-true",
        "seed=None",
        "batch.size=[2]",
    ],
)
def test_a_value_of_the_wrong_type_raises_with_its_path(setting):
    path = setting.partition("=")[0]
    parent, _, name = path.rpartition(".")
    with pytest.raises(ConfigError, match=rf"not a recipe: .*{parent}.*{name}"):
        DEFAULT.change(setting)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("net.rho_freq=23", "ρ is 23"),
        ("net.width=0", "width"),
        ("mel.hop_length=0", "hop_length"),
        ("mel.hop_length=nan", "hop_length"),
        ("batch.size=1", "batch"),
        ("batch.clip_seconds=nan", "clip_seconds"),
        ("augment.roll_frames=-1", "roll_frames"),
        ("loss.pos_weight=0", "pos_weight"),
        ("loss.pos_weight=nan", "pos_weight"),
        ("loss.pos_weight=inf", "pos_weight"),
        ("schedule.floor=1", "floor"),
        ("batch.clip_seconds=1e9", "clip_seconds"),
        ("batch.size=70000", "size"),
        ("augment.mixup_alpha=1e-9", "mixup_alpha"),
        ("schedule.final=1000000", "epochs"),
        ("averaging.snapshots=1000000", "snapshots"),
        ("net.width=100000", "width"),
        ("mel.n_mels=30000", "filter bank"),
        ("mel.hop_length=1", "hop_length"),
        ("mel.top_db=inf", "dB"),
        ("validate_stride=1e-9", "validate_stride"),
        ("seed=10000000000000000000000", "seed"),
        ("validate_every=0", "validate_every"),
        ("validate_stride=0", "validate_stride"),
        ("validate_stride=inf", "validate_stride"),
        ("seed=-1", "seed"),
    ],
)
def test_a_value_out_of_range_raises(setting, message):
    with pytest.raises(ConfigError, match=message):
        DEFAULT.change(setting)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sead": 1}, "no setting 'sead'; did you mean seed"),
        ({"mel": {"hop_lenght": 5}}, "hop_length"),
        ({"schedule": {"warmup": 1}}, "no setting 'schedule.warmup'; did you mean schedule.warm_up"),
        (
            {"net": {"family": "cp_resnet", "rho_frq": 7}},
            r"not a recipe: net\.cp_resnet\.rho_frq: Unexpected .*argument$",
        ),
        ({"net": {"family": "vgg", "rho_freq": 7}}, r"not a recipe: net\.vgg\.rho_freq: Unexpected .*argument$"),
        ({"net": {"rho_freq": 7}}, "not a recipe: net: .*family"),
        ({"net": {"family": "vggg"}}, "net: .*vggg.*cp_resnet.*vgg"),
        ({"net": "cp_resnet"}, "not a recipe: net"),
        ({"mel": 3}, "not a recipe: mel"),
        ({"seed": None}, "not a recipe: seed"),
        ({"seed": "x", "precision": "y"}, "precision: .*; seed: "),
    ],
)
def test_invalid_dicts_raise(values, message):
    with pytest.raises(ConfigError, match=message):
        Recipe.from_dict(values)


def test_a_failed_change_does_not_change_the_recipe():
    before = DEFAULT.to_dict()
    with pytest.raises(ConfigError):
        DEFAULT.change("mel.n_mels=64", "net.rho_freq=99")
    assert DEFAULT.to_dict() == before
