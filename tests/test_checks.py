"""What is refused before any work is done, or because training diverged, and what a device must not get."""

import json
import time
import tracemalloc
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import test_loop
from moodfield import card, clips, mel, nets
from moodfield.datasets import mtg_jamendo
from moodfield.datasets.mtg_jamendo import Split
from moodfield.errors import ConfigError, DatasetError, ModelError, RunError
from moodfield.mel import MelConfig
from moodfield.training import checks, configs, distributed, loop, mel_cache, pipeline, validation
from moodfield.training.configs import LossConfig, ScheduleConfig
from moodfield.training.pipeline import RunPaths
from moodfield.training.recipe import Recipe
from moodfield.training.validation import ValidationResult, Validator
from noises import TAGS
from test_card import GOOD
from test_loop import SHORT, train
from test_pipeline import RECIPE

MEBIBYTE = 2**20


pytestmark = pytest.mark.usefixtures("one_thread")


# ---------------------------------------------------------------- before any mel is made


@pytest.fixture
def splits(dataset: Path) -> tuple[Split, Split]:
    learn, judge = (mtg_jamendo.read(dataset / f"{name}.tsv", vocabulary=TAGS) for name in ("train", "validation"))
    return learn, judge


@pytest.fixture
def trained(splits: tuple[Split, Split], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunPaths:
    """A run of one epoch, after which no audio may be looked at any more."""
    place = RunPaths(dataset / "music", dataset / "store", tmp_path / "run")
    pipeline.train_network(RECIPE.change("schedule.constant=1", "schedule.decay=0"), *splits, place)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("mels were made")

    monkeypatch.setattr(mel_cache.MelCache, "extract", refuse)
    return place


def flipped(split: Split) -> Split:
    """The same tracks, the first of which has other tags."""
    first = replace(split.tracks[0], tags=tuple(set(TAGS) - set(split.tracks[0].tags)))
    return Split((first, *split.tracks[1:]), split.vocabulary)


ONE_EPOCH = ("schedule.constant=1", "schedule.decay=0")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["seed=7"], "another recipe"),
        (["batch.clip_seconds=0.01"], "clip_seconds"),
        (["mel.n_fft=16", "mel.hop_length=8", "mel.n_mels=32"], "band"),
        (["net=vgg"], "n_mels"),
        (["net.width=1024", "net.rho_freq=22", "net.rho_time=22"], "parameters"),
        (["batch.size=5"], "batch.size"),
    ],
    ids=str,
)
def test_a_recipe_that_cannot_be_trained_is_refused_before_mels_are_made(
    splits, trained, monkeypatch, settings, message
):
    if message == "batch.size":
        monkeypatch.setattr(distributed, "world_size", lambda: 2)
        monkeypatch.setattr(distributed, "launch", lambda _: distributed.ProcessGroup(None))
    with pytest.raises((ConfigError, RunError), match=message):
        pipeline.train(RECIPE.change(*ONE_EPOCH, *settings), *splits, trained, name="mine")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda learn, judge: (flipped(learn), judge, None), "another truth"),
        (lambda learn, judge: (learn, flipped(judge), None), "another truth"),
        (lambda learn, judge: (learn, judge, np.full((12, 2), 0.5, np.float32)), "another truth"),
        (lambda learn, judge: (learn.take(range(6)), judge, None), "another truth"),
        (lambda learn, judge: (Split(learn.tracks, TAGS[::-1]), Split(judge.tracks, TAGS[::-1]), None), "vocabulary"),
        (lambda learn, judge: (learn, Split(judge.tracks, TAGS[::-1]), None), "vocabularies"),
        (lambda learn, judge: (learn, judge, np.zeros((12, 3), np.float32)), "soft targets"),
        (lambda learn, judge: (learn, judge, np.full((12, 2), 1.5, np.float32)), "targets are outside"),
        (lambda learn, judge: (learn, judge, np.full((12, 2), np.nan, np.float32)), "targets are outside"),
    ],
)
def test_data_that_cannot_be_trained_on_are_refused_before_mels_are_made(splits, trained, change, message):
    learn, judge, soft = change(*splits)
    with pytest.raises((ConfigError, DatasetError, RunError), match=message):
        pipeline.train(RECIPE.change(*ONE_EPOCH), learn, judge, trained, name="mine", soft_targets=soft)


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(ConfigError, match="not finite"):
        checks.check_targets(LossConfig(kind="logits"), np.array([[np.inf]], np.float32))


# ---------------------------------------------------------------- divergence


def changed_weights(change: Callable[[Tensor], Tensor]) -> Callable[..., float]:
    """Learning that changes the first weights in this way, and gives a loss like any other."""

    def learn(_: object, model: torch.nn.Module, *__: object) -> float:
        with torch.no_grad():
            first = next(model.parameters())
            first.copy_(change(first))
        return 0.5

    return learn


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights * torch.nan, "weights"),
        (lambda weights: weights + torch.inf, "weights"),
        (lambda weights: torch.full_like(weights, 3e38), "outputs"),
    ],
)
@pytest.mark.parametrize("validate_every", [1, 2])
def test_a_network_that_is_no_longer_finite_diverged(tmp_path, monkeypatch, change, message, validate_every):
    monkeypatch.setattr(loop._Trainer, "_train_epoch", changed_weights(change))
    recipe = replace(SHORT, validate_every=validate_every, averaging=replace(SHORT.averaging, start=3))
    with pytest.raises(RunError, match=rf"diverged in epoch [12]: .*{message}.*schedule\.peak"):
        train(recipe, tmp_path)


def test_a_run_that_diverged_goes_on_from_the_epoch_before(tmp_path, monkeypatch):
    learn = loop._Trainer._train_epoch
    seen = []

    def diverge(*args: Any) -> float:
        seen.append(args)
        return learn(*args) if len(seen) == 1 else changed_weights(lambda weights: weights * torch.nan)(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Trainer, "_train_epoch", diverge)
        with pytest.raises(RunError, match="diverged in epoch 2"):
            train(SHORT, tmp_path)
    assert [line["epoch"] for line in test_loop.log(tmp_path)] == [1]
    train(SHORT, tmp_path)
    assert [line["epoch"] for line in test_loop.log(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize(
    "marks", [ValidationResult(np.nan, 0.5), ValidationResult(0.5, np.nan), ValidationResult(0.5, np.inf)]
)
def test_a_score_or_loss_that_is_no_number_is_divergence(tmp_path, monkeypatch, marks):
    monkeypatch.setattr(Validator, "__call__", lambda *_: marks)
    with pytest.raises(RunError, match=r"epoch 1: .*validation"):
        train(SHORT, tmp_path)


# ---------------------------------------------------------------- devices without float64


class NoFloat64(TorchDispatchMode):
    """As on Apple's GPUs: no operation may give float64."""

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        found = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor) and leaf.dtype == torch.float64:
                raise TypeError(f"{function} gives float64")
        return found


def test_the_check_for_float64_can_fail():
    with NoFloat64(), pytest.raises(TypeError, match="float64"):
        torch.zeros(2).double()


@pytest.mark.parametrize("kind", ["tags", "logits"])
@pytest.mark.parametrize("name", ["fa_resnet", "crnn"])
def test_no_step_of_training_or_scoring_needs_float64(tmp_path, monkeypatch, kind, name):
    """Metrics do, on the processor; so the network is scored here, and what the scores are worth is made up."""

    def scored(exam: Validator, net: nets.Net) -> ValidationResult:
        validation.predict(exam.recipe, net, exam.tracks, exam.vocabulary, stride=1.0, group=exam.group)
        return ValidationResult(0.5, 0.5)

    monkeypatch.setattr(Validator, "__call__", scored)
    recipe = replace(SHORT, loss=LossConfig(kind=kind), schedule=ScheduleConfig(0, 1, 0, 0))
    recipe = replace(recipe, averaging=replace(recipe.averaging, start=1))
    data = {}
    if name == "crnn":
        recipe = replace(recipe, net=nets.CRNNConfig(width=2, hidden=2), mel=replace(recipe.mel, n_mels=64, n_fft=1024))
        recipe = replace(recipe, batch=replace(recipe.batch, clip_seconds=15.0))
        data["bands"], data["frames"] = 64, 120
    learn = test_loop.material(8, seed=1, logits=kind == "logits")
    if data:
        generator = np.random.default_rng(0)
        mels = tuple(generator.normal(size=(8, data["frames"], data["bands"])).astype(np.float16))
        learn = replace(learn, mels=mels)
    statistics = mel_cache.Statistics(np.zeros(recipe.mel.n_mels), np.ones(recipe.mel.n_mels))
    with NoFloat64():
        loop.fit(recipe, learn, learn, statistics, test_loop.VOCABULARY, tmp_path)


# ---------------------------------------------------------------- absurd settings

ABSURD = (
    "-1", "0", "1", "2", "1e-300", "-1e9", "1e9", "1e22", "1e300", "1e999", "nan", "inf", "-inf", "none", "true",
    "false", "", "x", "9" * 30, "9" * 5_000, "2147483648", "9223372036854775808", "0.5", "65536", "0.999999",
)  # fmt: skip
RAW = (
    -1,
    0,
    10**9,
    10**22,
    10**400,
    1e300,
    float("nan"),
    float("inf"),
    -float("inf"),
    True,
    False,
    None,
    "x",
    [],
    {},
    [[1]],
)
BASES = {
    **{name: Recipe(net=nets.NETS[name]) for name in ("cp_resnet", "cp_densenet", "resnet34", "crnn")},
    "vgg": Recipe(net=nets.VGGConfig(), mel=mel.ORGANISERS),
}


def sane(recipe: Recipe) -> None:
    """What is computed from an accepted recipe before anything is trained."""
    assert 1 <= recipe.clip_frames <= clips.MAX_FRAMES
    assert len(recipe.averaging.kept(recipe.schedule, recipe.schedule.epochs)) <= configs.MAX_EPOCHS
    assert np.isfinite(recipe.schedule.learning_rate(recipe.schedule.epochs - 1))
    np.random.default_rng([recipe.seed, 0])
    torch.manual_seed(recipe.seed)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    mel.check(recipe.mel)


def built(recipe: Recipe) -> None:
    """Check a recipe as a run does at its start."""
    began = time.monotonic()
    with suppress(ConfigError):
        checks.check_recipe(recipe, n_tags=56, clips=20)
    assert time.monotonic() - began < 10


def weighed(work: Callable[[], object]) -> None:
    """Do something that may be refused with `ConfigError`, and see that it is quick and takes little memory."""
    began = time.monotonic()
    tracemalloc.start()
    try:
        with suppress(ConfigError):
            work()
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 200 * MEBIBYTE
    assert time.monotonic() - began < 10, "a second, on a machine with nothing else to do"


def tried(make: Callable[[], Recipe], path: str) -> None:
    """Make a recipe that has one absurd value, if it is accepted, and see what it takes."""
    plans: list[Recipe] = []

    def accepted() -> None:
        found = make()
        sane(found)
        plans.append(found)

    weighed(accepted)
    for found in plans if path.startswith("net") else ():
        built(found)


def paths(base: str) -> list[str]:
    """The settings of a base that are tried: all of the first, and the networks' own of the others."""
    return [each.path for each in BASES[base].settings() if base == "cp_resnet" or each.path.startswith("net.")]


@pytest.mark.parametrize("value", ABSURD, ids=lambda value: value[:20] or "nothing")
def test_an_absurd_setting_is_refused_or_harmless(value):
    for base in BASES:
        for path in paths(base):
            tried(partial(BASES[base].change, f"{path}={value}"), path)


@pytest.mark.parametrize("value", RAW, ids=lambda value: str(value)[:20])
def test_an_absurd_value_in_a_file_is_refused_or_harmless(value):
    for base in BASES:
        for path in paths(base):
            values = BASES[base].to_dict()
            *rooms, last = path.split(".")
            place = values
            for room in rooms:
                place = place[room]
            place[last] = value
            tried(partial(Recipe.from_dict, values), path)


def test_booleans_are_no_numbers():
    values = Recipe().to_dict()
    for setting in Recipe().settings():
        if setting.path == "net" or isinstance(setting.value, bool | str):
            continue
        room, _, name = setting.path.rpartition(".")
        other = {**values, room: {**values[room], name: True}} if room else {**values, name: True}
        with pytest.raises(ConfigError, match=name):
            Recipe.from_dict(other)


@pytest.mark.parametrize(
    ("n_fft", "n_mels", "hop_length"),
    [(2**16, 256, 2**15), (2**14, 1_024, 2**14), (8_192, 2_048, 2_048), (2_048, 256, 32)],
)
def test_the_largest_mels_that_are_accepted_fit_the_memory(n_fft, n_mels, hop_length):
    weighed(lambda: mel.check(MelConfig(n_fft=n_fft, n_mels=n_mels, hop_length=hop_length)))


@pytest.mark.parametrize(
    "numbers",
    [
        {"mel": {"n_fft": 65_536, "n_mels": 65_536}}, {"mel": {"n_fft": 65_536, "n_mels": 4_096}},
        {"mel": {"n_fft": 2_048, "hop_length": 1}}, {"mel": {"top_db": 1e300}}, {"mel": {"sample_rate": 10**9}},
        {"lengths": {"kind": "fixed", "frames": 2**20, "stride": 1}},
        {"lengths": {"kind": "any", "min_frames": 2**20, "stride": 1, "receptive_field": 1, "start": 0}},
        {"lengths": {"kind": "any", "min_frames": 10**12, "stride": 1, "receptive_field": 1, "start": 0}},
        {"net": {"family": "cp_resnet", "width": 10**9}}, {"net": {"family": "vgg", "share": 1e300}},
    ],
    ids=str,
)  # fmt: skip
def test_a_card_that_asks_for_gigabytes_is_refused_when_it_is_read(numbers):
    values = json.loads(GOOD.to_json())
    for name, own in numbers.items():
        values[name] = {**values[name], **own} if name == "mel" else own

    def read() -> None:
        with pytest.raises(ModelError):
            card.Card.from_json(json.dumps(values))

    weighed(read)
