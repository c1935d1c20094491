"""Checks before training, divergence, operations without float64, and extreme settings."""

import json
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
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

import models
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
ONE_EPOCH = ("schedule.constant=1", "schedule.decay=0")


pytestmark = pytest.mark.usefixtures("one_thread")


# ---------------------------------------------------------------- before any mel is computed


@pytest.fixture(scope="module")
def splits(dataset: Path) -> tuple[Split, Split]:
    train_set, validation_set = (
        mtg_jamendo.read(dataset / f"{name}.tsv", vocabulary=TAGS) for name in ("train", "validation")
    )
    return train_set, validation_set


@pytest.fixture(scope="module")
def trained(splits: tuple[Split, Split], dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    """A run of one epoch; not to be changed."""
    run_paths = RunPaths(dataset / "music", dataset / "store", tmp_path_factory.mktemp("runs") / "run")
    with pytest.MonkeyPatch.context() as patch:
        models.replace_export(patch, b"a network")
        pipeline.train(RECIPE.change(*ONE_EPOCH), *splits, run_paths)
    return run_paths


@pytest.fixture
def finished_run(trained: RunPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunPaths:
    """A copy of it, after which extracting mels fails the test."""
    run_paths = RunPaths(trained.audio_dir, trained.cache_dir, shutil.copytree(trained.run_dir, tmp_path / "run"))

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("mels were computed")

    monkeypatch.setattr(mel_cache.MelCache, "extract", fail)
    return run_paths


def flipped(split: Split) -> Split:
    """The same tracks; the first has other tags."""
    first = replace(split.tracks[0], tags=tuple(set(TAGS) - set(split.tracks[0].tags)))
    return Split((first, *split.tracks[1:]), split.vocabulary)


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
def test_an_unusable_recipe_raises_before_mels_are_computed(splits, finished_run, monkeypatch, settings, message):
    if message == "batch.size":
        monkeypatch.setattr(distributed, "world_size", lambda: 2)
        monkeypatch.setattr(distributed, "launch", lambda _: distributed.ProcessGroup(None))
    with pytest.raises((ConfigError, RunError), match=message):
        pipeline.train(RECIPE.change(*ONE_EPOCH, *settings), *splits, finished_run, name="mine")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda train_set, validation_set: (flipped(train_set), validation_set, None), "another truth"),
        (lambda train_set, validation_set: (train_set, flipped(validation_set), None), "another truth"),
        (
            lambda train_set, validation_set: (train_set, validation_set, np.full((12, 2), 0.5, np.float32)),
            "another truth",
        ),
        (lambda train_set, validation_set: (train_set.take(range(6)), validation_set, None), "another truth"),
        (
            lambda train_set, validation_set: (
                Split(train_set.tracks, TAGS[::-1]),
                Split(validation_set.tracks, TAGS[::-1]),
                None,
            ),
            "vocabulary",
        ),
        (lambda train_set, validation_set: (train_set, Split(validation_set.tracks, TAGS[::-1]), None), "vocabularies"),
        (lambda train_set, validation_set: (train_set, validation_set, np.zeros((12, 3), np.float32)), "soft targets"),
        (
            lambda train_set, validation_set: (train_set, validation_set, np.full((12, 2), 1.5, np.float32)),
            "targets are outside",
        ),
        (
            lambda train_set, validation_set: (train_set, validation_set, np.full((12, 2), np.nan, np.float32)),
            "targets are outside",
        ),
    ],
)
def test_unusable_data_raise_before_mels_are_computed(splits, finished_run, change, message):
    train_set, validation_set, soft = change(*splits)
    with pytest.raises((ConfigError, DatasetError, RunError), match=message):
        pipeline.train(
            RECIPE.change(*ONE_EPOCH), train_set, validation_set, finished_run, name="mine", soft_targets=soft
        )


def test_targets_that_are_not_finite_raise():
    with pytest.raises(ConfigError, match="not finite"):
        checks.check_targets(LossConfig(kind="logits"), np.array([[np.inf]], np.float32))


# ---------------------------------------------------------------- divergence


def changed_weights(change: Callable[[Tensor], Tensor]) -> Callable[..., float]:
    """A training epoch that applies `change` to the first weights and returns a finite loss."""

    def train_epoch(_: object, model: torch.nn.Module, *__: object) -> float:
        with torch.no_grad():
            first = next(model.parameters())
            first.copy_(change(first))
        return 0.5

    return train_epoch


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights * torch.nan, "weights"),
        (lambda weights: weights + torch.inf, "weights"),
        (lambda weights: torch.full_like(weights, 3e38), "outputs"),
    ],
)
@pytest.mark.parametrize("validate_every", [1, 2])
def test_weights_or_outputs_that_are_not_finite_raise(tmp_path, monkeypatch, change, message, validate_every):
    monkeypatch.setattr(loop._Trainer, "_train_epoch", changed_weights(change))
    recipe = replace(SHORT, validate_every=validate_every, averaging=replace(SHORT.averaging, start=3))
    with pytest.raises(RunError, match=message):
        train(recipe, tmp_path)


def test_a_diverged_run_resumes_from_the_epoch_before(tmp_path, monkeypatch):
    train_epoch = loop._Trainer._train_epoch
    calls = []

    def diverge(*args: Any) -> float:
        calls.append(args)
        return train_epoch(*args) if len(calls) == 1 else changed_weights(lambda weights: weights * torch.nan)(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Trainer, "_train_epoch", diverge)
        with pytest.raises(RunError, match="epoch 2"):
            train(SHORT, tmp_path)
    assert [line["epoch"] for line in test_loop.read_log(tmp_path)] == [1]
    train(SHORT, tmp_path)
    assert [line["epoch"] for line in test_loop.read_log(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize(
    "result", [ValidationResult(np.nan, 0.5), ValidationResult(0.5, np.nan), ValidationResult(0.5, np.inf)]
)
def test_a_score_or_loss_that_is_not_finite_raises(tmp_path, monkeypatch, result):
    monkeypatch.setattr(Validator, "__call__", lambda *_: result)
    with pytest.raises(RunError, match="diverged"):
        train(SHORT, tmp_path)


# ---------------------------------------------------------------- devices without float64


class NoFloat64(TorchDispatchMode):
    """As on Apple's GPUs: no operation may return float64."""

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.dtype == torch.float64:
                raise TypeError(f"{function} returned float64")
        return result


def test_the_check_for_float64_detects_float64():
    with NoFloat64(), pytest.raises(TypeError, match="float64"):
        torch.zeros(2).double()


@pytest.mark.parametrize("kind", ["tags", "logits"])
@pytest.mark.parametrize("name", ["fa_resnet", "crnn"])
def test_training_and_validation_need_no_float64(tmp_path, monkeypatch, kind, name):
    """Metrics run in float64 on the CPU, so the network only predicts and the result is fixed."""

    def predict_only(validator: Validator, net: nets.Net) -> ValidationResult:
        validation.predict(
            validator.recipe, net, validator.tracks, validator.vocabulary, stride=1.0, group=validator.group
        )
        return ValidationResult(0.5, 0.5)

    monkeypatch.setattr(Validator, "__call__", predict_only)
    recipe = replace(SHORT, loss=LossConfig(kind=kind), schedule=ScheduleConfig(0, 1, 0, 0))
    recipe = replace(recipe, averaging=replace(recipe.averaging, start=1))
    data = {}
    if name == "crnn":
        recipe = replace(recipe, net=nets.CRNNConfig(width=2, hidden=2), mel=replace(recipe.mel, n_mels=64, n_fft=1024))
        recipe = replace(recipe, batch=replace(recipe.batch, clip_seconds=15.0))
        data["bands"], data["frames"] = 64, 120
    train_set = test_loop.make_dataset(8, seed=1, logits=kind == "logits")
    if data:
        generator = np.random.default_rng(0)
        mels = tuple(generator.normal(size=(8, data["frames"], data["bands"])).astype(np.float16))
        train_set = replace(train_set, mels=mels)
    statistics = mel_cache.Statistics(np.zeros(recipe.mel.n_mels), np.ones(recipe.mel.n_mels))
    with NoFloat64():
        loop.fit(recipe, train_set, train_set, statistics, test_loop.VOCABULARY, tmp_path)


# ---------------------------------------------------------------- extreme settings

EXTREME_TEXTS = (
    "-1", "0", "1", "2", "1e-300", "1e9", "1e22", "1e300", "1e999", "nan", "inf", "-inf", "none", "true",
    "", "x", "9" * 30, "9" * 5_000, "2147483648", "9223372036854775808", "0.5", "65536",
)  # fmt: skip
EXTREME_VALUES = (0, 10**400, float("nan"), True, None, "x", [], {}, [[1]])
"""those that JSON has and a setting on the command line has not, and some that both have"""
BASES = {
    **{name: Recipe(net=nets.NETS[name]) for name in ("cp_resnet", "cp_densenet", "resnet34", "crnn")},
    "vgg": Recipe(net=nets.VGGConfig(), mel=mel.ORGANISERS),
}


def assert_usable(recipe: Recipe) -> None:
    """Compute everything that is derived from an accepted recipe before training."""
    assert 1 <= recipe.clip_frames <= clips.MAX_FRAMES
    assert len(recipe.averaging.kept(recipe.schedule, recipe.schedule.epochs)) <= configs.MAX_EPOCHS
    assert np.isfinite(recipe.schedule.learning_rate(recipe.schedule.epochs - 1))
    np.random.default_rng([recipe.seed, 0])
    torch.manual_seed(recipe.seed)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    mel.check(recipe.mel)


def check_quickly(recipe: Recipe) -> None:
    """Check a recipe as a run does at its start, within ten seconds."""
    start = time.monotonic()
    with suppress(ConfigError):
        checks.check_recipe(recipe, n_tags=56, clips=20)
    assert time.monotonic() - start < 10


@contextmanager
def memory_up_to(size: int) -> Iterator[None]:
    """Allocations of more than this many bytes raise `MemoryError`; tracing them takes as long as the tests."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def assert_cheap(function: Callable[[], object]) -> None:
    """Call a function that may raise `ConfigError`; it must be quick and need little memory."""
    start = time.monotonic()
    with memory_up_to(200 * MEBIBYTE), suppress(ConfigError):
        function()
    assert time.monotonic() - start < 10, "about a second on an idle machine"


def test_memory_is_limited():
    assert_cheap(lambda: np.ones(100 * MEBIBYTE, np.uint8))
    with pytest.raises(MemoryError):
        assert_cheap(lambda: np.ones(300 * MEBIBYTE, np.uint8))


def try_recipe(make: Callable[[], Recipe], path: str) -> None:
    """Make a recipe with one extreme value; if it is accepted, it must be usable at low cost."""
    accepted_recipes: list[Recipe] = []

    def accepted() -> None:
        recipe = make()
        assert_usable(recipe)
        accepted_recipes.append(recipe)

    assert_cheap(accepted)
    for recipe in accepted_recipes if path.startswith("net") else ():
        check_quickly(recipe)


def setting_paths(base: str) -> list[str]:
    """Settings of a base to vary: all of cp_resnet, and only those of the network of the others."""
    return [
        setting.path for setting in BASES[base].settings() if base == "cp_resnet" or setting.path.startswith("net.")
    ]


@pytest.mark.parametrize("value", EXTREME_TEXTS, ids=lambda value: value[:20] or "empty")
def test_an_extreme_setting_raises_or_is_cheap(value):
    for base in BASES:
        for path in setting_paths(base):
            try_recipe(partial(BASES[base].change, f"{path}={value}"), path)


@pytest.mark.parametrize("value", EXTREME_VALUES, ids=lambda value: str(value)[:20])
def test_an_extreme_value_in_a_file_raises_or_is_cheap(value):
    for base in BASES:
        for path in setting_paths(base):
            values = BASES[base].to_dict()
            *parents, last = path.split(".")
            section = values
            for parent in parents:
                section = section[parent]
            section[last] = value
            try_recipe(partial(Recipe.from_dict, values), path)


def test_booleans_are_not_accepted_as_numbers():
    values = Recipe().to_dict()
    for setting in Recipe().settings():
        if setting.path == "net" or isinstance(setting.value, bool | str):
            continue
        section, _, name = setting.path.rpartition(".")
        changed = {**values, section: {**values[section], name: True}} if section else {**values, name: True}
        with pytest.raises(ConfigError, match=name):
            Recipe.from_dict(changed)


@pytest.mark.parametrize(
    ("n_fft", "n_mels", "hop_length"),
    [(2**16, 256, 2**15), (2**14, 1_024, 2**14), (8_192, 2_048, 2_048), (2_048, 256, 32)],
)
def test_the_largest_accepted_mels_fit_into_memory(n_fft, n_mels, hop_length):
    assert_cheap(lambda: mel.check(MelConfig(n_fft=n_fft, n_mels=n_mels, hop_length=hop_length)))


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
def test_a_card_that_needs_gigabytes_raises_when_it_is_read(numbers):
    values = json.loads(GOOD.to_json())
    for name, changes in numbers.items():
        values[name] = {**values[name], **changes} if name == "mel" else changes

    def read() -> None:
        with pytest.raises(ModelError):
            card.Card.from_json(json.dumps(values))

    assert_cheap(read)
