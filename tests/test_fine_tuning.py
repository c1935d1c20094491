"""Fine-tuning: initial weights, a new output layer, a body that is frozen or learns at a lower rate."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

import models
from moodfield import nets, tagger
from moodfield.card import Card, Provenance
from moodfield.datasets import mtg_jamendo
from moodfield.datasets.mtg_jamendo import Split
from moodfield.errors import ConfigError, ModelError, RunError
from moodfield.nets import NETS, CPResNetConfig, Net
from moodfield.training import averaging, checkpoints, fine_tuning, loop, pipeline
from moodfield.training.batches import ClipDataset, TrackTargets
from moodfield.training.configs import AugmentConfig, AveragingConfig, BatchConfig, ScheduleConfig
from moodfield.training.fine_tuning import InitialWeights
from moodfield.training.mel_cache import Statistics
from moodfield.training.pipeline import RunPaths
from moodfield.training.recipe import Recipe
from noises import TAGS
from test_pipeline import RECIPE as NOISES_RECIPE

BANDS, FRAMES = 32, 60
CONFIG = CPResNetConfig(width=4, rho_freq=3, rho_time=1)
RECIPE = Recipe(
    net=CONFIG,
    batch=BatchConfig(clip_seconds=1.0, size=8),
    augment=AugmentConfig(roll_frames=0, mixup_alpha=0.0),
    averaging=AveragingConfig(every=0),
    schedule=ScheduleConfig(warm_up=0, constant=2, decay=0, final=0, peak=1e-2, floor=1e-2, body_rate=0.0),
    validate_stride=None,
).change("mel.sample_rate=4000", "mel.n_fft=256", "mel.hop_length=128", f"mel.n_mels={BANDS}")
STATISTICS = Statistics(np.full(BANDS, 23.0), np.full(BANDS, 7.0))

pytestmark = pytest.mark.usefixtures("one_thread")


def make_net(n_tags: int = 2, seed: int = 0) -> Net:
    """A network with random weights and statistics."""
    torch.manual_seed(seed)
    net = CONFIG.build(n_mels=BANDS, n_tags=n_tags)
    for value in net.state_dict().values():
        if value.is_floating_point():
            value.add_(0.1 * torch.rand(value.shape))
    return net


def saved(net: Net, folder: Path) -> Path:
    """The file of the weights of a network."""
    save_file(net.state_dict(), folder / "initial.safetensors")
    return folder / "initial.safetensors"


def make_dataset(tracks: int, n_tags: int, seed: int = 0) -> ClipDataset:
    """Noise that is louder for the first tag."""
    generator = np.random.default_rng(seed)
    truth = (generator.uniform(size=(tracks, n_tags)) < 0.5).astype(np.float32)
    mels = 20 + 5 * generator.standard_normal((tracks, FRAMES, BANDS)) + 4 * truth[:, :1, None]
    return ClipDataset(tuple(mels.astype(np.float16)), TrackTargets(truth))


def fit(recipe: Recipe, run: Path, initial: InitialWeights, n_tags: int = 3) -> Net:
    data = make_dataset(24, n_tags)
    tags = tuple(f"tag {number}" for number in range(n_tags))
    return loop.fit(recipe, data, make_dataset(8, n_tags, seed=1), STATISTICS, tags, run, initial_weights=initial)


def changed(net: Net, initial: Path) -> set[str]:
    """Names of the weights that differ from the initial ones, without counters."""
    before, after = load_file(initial), net.state_dict()
    names = (name for name, value in after.items() if value.is_floating_point())
    return {name for name in names if before[name].shape != after[name].shape or not before[name].equal(after[name])}


# ---------------------------------------------------------------- initial weights


def test_training_starts_from_initial_weights_without_auxiliary_outputs(tmp_path):
    initial = make_net()
    path = saved(initial, tmp_path)
    net = CONFIG.build(n_mels=BANDS, n_tags=3)
    net.init_output_bias(torch.tensor([7.0, 8.0, 9.0]), torch.ones(3))
    fine_tuning.initialize(net, InitialWeights(path))
    mels = torch.randn(2, BANDS, FRAMES)
    torch.testing.assert_close(net.eval()(mels)[:, :2], initial.eval()(mels))
    torch.testing.assert_close(net(mels)[:, 2], torch.full((2,), 9.0))  # which keeps its own weights


def test_weights_of_the_output_layer_are_not_taken_on_request(tmp_path):
    initial = make_net(n_tags=5)
    net = CONFIG.build(n_mels=BANDS, n_tags=3)
    fine_tuning.initialize(net, InitialWeights(saved(initial, tmp_path), output_layer=False))
    mels = torch.randn(2, BANDS, FRAMES)
    torch.testing.assert_close(net.eval().forward_features(mels), initial.eval().forward_features(mels))
    assert not net(mels).any()  # a new output layer gives logits of 0


@pytest.mark.parametrize("output_layer", [True, False])
@pytest.mark.parametrize(
    ("change", "token"),
    [
        (lambda weights: weights.pop("stem.0.weight"), "nothing for stem.0.weight"),
        (lambda weights: weights.update(other=torch.ones(1)), "other, which this network lacks"),
        (lambda weights: weights.update({"stem.0.weight": torch.ones(1, 1, 1, 1)}), "shape"),
        (lambda weights: weights.update({"standardize.mean": torch.ones(BANDS + 1)}), "shape"),
    ],
)
def test_initial_weights_of_another_network_are_refused(
    tmp_path, change: Callable[[dict], object], token, output_layer
):
    net = make_net()
    path = saved(net, tmp_path)
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    with pytest.raises(ConfigError, match=token):
        fine_tuning.initialize(net, InitialWeights(path, output_layer))
    path.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="cannot be read"):
        fine_tuning.initialize(net, InitialWeights(path, output_layer))


# ---------------------------------------------------------------- the body


def test_a_frozen_body_does_not_change(tmp_path):
    path = saved(make_net(n_tags=5), tmp_path)
    net = fit(RECIPE, tmp_path / "run", InitialWeights(path, output_layer=False))
    assert changed(net, path) == {name for name in net.output_names if "num_batches" not in name}


@pytest.mark.parametrize("body_rate", [0.1, 1.0])
def test_other_bodies_change_by_their_rate(tmp_path, body_rate):
    path = saved(make_net(), tmp_path)
    schedule = replace(RECIPE.schedule, constant=1, peak=1e-3, floor=1e-3, body_rate=body_rate)
    recipe = replace(RECIPE, schedule=schedule, batch=BatchConfig(clip_seconds=1.0, size=24))  # one step
    net = fit(recipe, tmp_path / "run", InitialWeights(path), n_tags=2)
    before = load_file(path)
    steps = {name: float((value.detach() - before[name]).abs().max()) for name, value in net.named_parameters()}
    assert steps["stem.0.weight"] == pytest.approx(1e-3 * body_rate, rel=0.02)  # Adam's first step is the rate
    assert steps["head.0.weight"] == pytest.approx(1e-3, rel=0.02)


def test_an_average_keeps_the_statistics_of_a_frozen_body(tmp_path):
    net = make_net()
    net.freeze_body()
    average, before = AveragedModel(net), {name: value.clone() for name, value in net.state_dict().items()}
    averaging.update(average, net, iter(torch.randn(3, 4, BANDS, FRAMES)))
    after = average.module.state_dict()
    different = {name for name, value in before.items() if not value.equal(after[name])}
    assert different == {f"head.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}


def test_a_run_with_a_frozen_body_resumes(tmp_path, monkeypatch):
    path = saved(make_net(), tmp_path)
    initial = InitialWeights(path)
    whole = fit(RECIPE, tmp_path / "whole", initial, n_tags=2)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        save = checkpoints.save

        def save_once(*args: object, **options: object) -> None:
            save(*args, **options)
            patch.setattr(checkpoints, "save", stop)

        patch.setattr(checkpoints, "save", save_once)
        with pytest.raises(KeyboardInterrupt):
            fit(RECIPE, tmp_path / "run", initial, n_tags=2)
    resumed = fit(RECIPE, tmp_path / "run", initial, n_tags=2)
    for name, value in whole.state_dict().items():
        assert value.equal(resumed.state_dict()[name]), name


@pytest.mark.parametrize("name", sorted(NETS))
def test_every_network_has_an_output_layer(name):
    net = nets.create(name, n_mels=96 if name == "vgg" else 128, n_tags=7, width=4)
    shapes = {len(value) for key, value in net.state_dict().items() if key in net.output_names and value.dim()}
    assert shapes == {7}
    net.freeze_body()
    net.train()
    assert {key for key, value in net.named_parameters() if value.requires_grad} <= net.output_names
    layers = (nn.BatchNorm2d, nn.Dropout, nn.Linear, nn.Conv2d, nn.GRU)
    training = [module for module in net.modules() if isinstance(module, layers) and module.training]
    assert set(training) <= set(net.output_layer.modules())
    assert training
    frames = 1_366 if name == "vgg" else 400
    mels = torch.randn(2, 96 if name == "vgg" else 128, frames)
    torch.manual_seed(1)
    first = net.forward_features(mels)
    if net.forward_head(first) is not first:  # features are not the logits: no dropout, no statistics of the batch
        torch.testing.assert_close(first[:1], net.forward_features(mels[:1]), rtol=1e-3, atol=1e-3)
    net.eval()
    assert not any(module.training for module in net.modules())


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_rates_of_the_body_out_of_range_are_refused(rate):
    with pytest.raises(ConfigError, match="body_rate"):
        ScheduleConfig(body_rate=rate)


# ---------------------------------------------------------------- recipe and model


def test_a_recipe_takes_network_and_mel_of_the_model():
    folder = tagger.model_folder("default")
    card = Card.read(folder)
    recipe = fine_tuning.with_model(RECIPE, folder)
    assert (recipe.mel, asdict(recipe.net)) == (card.mel, card.net)
    assert replace(recipe, net=RECIPE.net, mel=RECIPE.mel) == RECIPE
    assert fine_tuning.check(recipe, folder) == card


@pytest.mark.parametrize(
    ("setting", "token"),
    [("net.width=32", r"net\.width"), ("mel.hop_length=512", r"mel\.hop_length"), ("net=crnn", "crnn")],
)
def test_a_recipe_for_another_network_is_refused(setting, token):
    folder = tagger.model_folder("default")
    recipe = fine_tuning.with_model(RECIPE, folder).change(setting)
    with pytest.raises(ConfigError, match=token):
        fine_tuning.check(recipe, folder)


def test_a_body_of_random_weights_is_not_frozen():
    with pytest.raises(ConfigError, match="--init"):
        fine_tuning.check(RECIPE, None)


# ---------------------------------------------------------------- the pipeline


@pytest.fixture(scope="module")
def splits(dataset: Path) -> tuple[Split, ...]:
    return tuple(mtg_jamendo.read(dataset / f"{name}.tsv", vocabulary=TAGS) for name in ("train", "validation"))


@pytest.fixture(scope="module")
def initial_model(dataset: Path, splits: tuple[Split, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("first") / "run"
    with pytest.MonkeyPatch.context() as patch:
        models.replace_export(patch, b"a network")
        pipeline.train(NOISES_RECIPE, *splits, RunPaths(dataset / "music", dataset / "store", run), name="first")
    return run / tagger.BEST


def test_a_model_is_fine_tuned(dataset, splits, initial_model, tmp_path, no_export):
    paths = RunPaths(dataset / "music", dataset / "store", tmp_path / "run")
    recipe = NOISES_RECIPE.change("schedule.body_rate=0", "schedule.constant=1")
    card = pipeline.train(recipe, *splits, paths, name="second", initial_model=initial_model)
    first, second = (load_file(folder / "model.safetensors") for folder in (initial_model, tmp_path / "run" / "best"))
    assert {name.partition(".")[0] for name in first if not first[name].equal(second[name])} == {"head"}
    assert "first" in card.summary
    assert Card.read(initial_model).licence in card.licence
    assert Provenance.read(tmp_path / "run" / "best").origin["initial weights"].startswith("first")
    with pytest.raises(RunError, match="initial-weights"):  # the same run from other weights
        pipeline.train(replace(recipe, schedule=replace(recipe.schedule, body_rate=0.0)), *splits, paths,
                       name="second", initial_model=paths.run_dir / "best")  # fmt: skip


def test_a_model_with_other_tags_gets_a_new_output_layer(dataset, splits, initial_model, tmp_path, no_export):
    fewer = TAGS[:1]
    splits = [
        Split(tuple(replace(track, tags=tuple({*track.tags} & {*fewer})) for track in split.tracks), fewer)
        for split in splits
    ]
    paths = RunPaths(dataset / "music", dataset / "store", tmp_path / "run")
    recipe = NOISES_RECIPE.change("schedule.body_rate=0")
    card = pipeline.train(recipe, *splits, paths, name="fewer", initial_model=initial_model)
    assert card.vocabulary == Card.read(tmp_path / "run" / "best").vocabulary == fewer
    first, last = (load_file(folder / "model.safetensors") for folder in (initial_model, tmp_path / "run" / "best"))
    assert {name.partition(".")[0] for name in first if first[name].shape != last[name].shape} == {"head"}


def test_a_missing_model_is_refused_before_any_work(dataset, splits, tmp_path):
    paths = RunPaths(dataset / "music", tmp_path / "store", tmp_path / "run")
    with pytest.raises(ModelError):
        pipeline.train(NOISES_RECIPE, *splits, paths, initial_model=tmp_path / "nowhere")
    assert not (tmp_path / "store").exists()
