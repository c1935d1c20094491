"""The training loop: learning, determinism, resuming after a crash, and errors."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import models
from disks import files_up_to
from moodfield import nets
from moodfield.errors import ConfigError, RunError
from moodfield.evaluation import metrics
from moodfield.mel import MelConfig
from moodfield.nets import CPResNetConfig, Net, VGGConfig, regularized
from moodfield.training import augment, checkpoints, loop, run_folder, validation
from moodfield.training.batches import ClipDataset, TrackTargets, WindowTargets
from moodfield.training.configs import AugmentConfig, AveragingConfig, BatchConfig, LossConfig, ScheduleConfig
from moodfield.training.log import LOG, Epoch
from moodfield.training.mel_cache import Statistics
from moodfield.training.recipe import Recipe
from moodfield.training.validation import Validator

BANDS, FRAMES, VOCABULARY = 32, 60, ("bass", "voice", "cymbals")
RECIPE = Recipe(
    net=CPResNetConfig(width=4, rho_freq=3, rho_time=1),
    mel=MelConfig(sample_rate=4_000, n_fft=256, hop_length=128, n_mels=BANDS),
    batch=BatchConfig(clip_seconds=1.0, size=8),
    augment=AugmentConfig(roll_frames=3, mixup_alpha=0.1),
    loss=LossConfig(pos_weight=2.0),
    schedule=ScheduleConfig(warm_up=1, constant=12, decay=7, final=0, peak=1e-2, floor=1e-3),
    averaging=AveragingConfig(every=0),
    validate_every=4,
    validate_stride=None,
)
SHORT = replace(
    RECIPE,
    net=CPResNetConfig(width=4, rho_freq=3, rho_time=1, frequency_aware=True),
    schedule=ScheduleConfig(warm_up=0, constant=3, decay=0, final=0, peak=3e-3),
    averaging=AveragingConfig(start=1, every=1, snapshots=2),
    validate_every=1,
)
"""three epochs, all of them averaged, for tests that do not depend on the quality of the weights"""


pytestmark = pytest.mark.usefixtures("one_thread")


def make_dataset(tracks: int, *, seed: int, logits: bool = False) -> ClipDataset:
    """Noise; a tag is present where its third of the bands is louder."""
    generator = np.random.default_rng(seed)
    levels = generator.uniform(-1, 1, (tracks, 3))
    if not logits:
        levels = np.where(levels > 0.3, 1.0, 0.0)
    loud = 2 * np.repeat(levels, [11, 11, 10], axis=1)[:, None, :]
    mels = 20 + 5 * (generator.standard_normal((tracks, FRAMES, BANDS)) + loud)
    truth = levels * [1, 2, 3] + [0, -5, 4] if logits else levels
    return ClipDataset(tuple(mels.astype(np.float16)), TrackTargets(truth.astype(np.float32)))


TRAIN_SET, VALIDATION_SET = make_dataset(20, seed=1), make_dataset(4, seed=4)
STATISTICS = Statistics(np.full(BANDS, 23.0), np.full(BANDS, 7.0))


def train(
    recipe: Recipe,
    run: Path,
    *,
    train_set: ClipDataset = TRAIN_SET,
    validation_set: ClipDataset = VALIDATION_SET,
    **options: object,
) -> Net:
    return loop.fit(recipe, train_set, validation_set, STATISTICS, VOCABULARY, run, **options)


def read_log(run: Path) -> list[dict[str, float | None]]:
    """Lines of the log without the CPU time."""
    return [without_time(json.loads(line)) for line in (run / LOG).read_text().splitlines()]


def without_time(line: dict[str, float | None]) -> dict[str, float | None]:
    """A line of a log without the CPU time, which differs between runs."""
    assert line["cpu_seconds"] > 0
    return {name: value for name, value in line.items() if name != "cpu_seconds"}


def last_weights(run: Path) -> dict[str, torch.Tensor]:
    """Network and optimiser as they were after the last epoch."""
    return load_file(run / json.loads((run / checkpoints.RESUME).read_text())["weights"])


def assert_same_run(run: Path, expected: Path) -> None:
    """Bit for bit: last and best weights, optimiser, log; and no other files."""
    for ours, theirs in (
        (last_weights(run), last_weights(expected)),
        *(
            (load_file(run / path.name), load_file(path))
            for path in checkpoints.snapshot_paths(SHORT, expected).values()
        ),
    ):
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if not ours[name].equal(theirs[name])] == []
    assert read_log(run) == read_log(expected)
    assert {path.name for path in run.iterdir()} == {path.name for path in expected.iterdir()}


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run from beginning to end; read-only."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    train(SHORT, run)
    return run


# ---------------------------------------------------------------- learning


@pytest.mark.parametrize(
    ("precision", "tracks"), [("32-true", 96), pytest.param("bf16-mixed", 256, marks=pytest.mark.slow)]
)
def test_training_learns_which_bands_decide_a_tag(tmp_path, precision, tracks):
    epochs: list[Epoch] = []
    recipe = replace(RECIPE, precision=precision)
    validation_set = make_dataset(30, seed=2)
    net = train(
        recipe, tmp_path, train_set=make_dataset(tracks, seed=1), validation_set=validation_set, on_epoch=epochs.append
    )
    assert [epoch.epoch for epoch in epochs] == list(range(1, 21))
    assert [epoch.learning_rate for epoch in epochs] == [RECIPE.schedule.learning_rate(epoch) for epoch in range(20)]
    assert epochs[-1].loss < 0.8 * epochs[0].loss
    assert epochs[-1].best > 0.75, "by processor and seed 0.84 to 1.00"
    assert validation_set.targets.per_track().mean() < 0.4, "chance"
    assert epochs[-1].best == max(epoch.score or 0 for epoch in epochs)
    predictions = validation.predict(
        recipe, net, validation_set, VOCABULARY, precision=validation.engine_precision(recipe)
    )
    scores, truth = predictions.astype(np.float64), validation_set.targets.per_track()
    assert metrics.evaluate(truth > 0, scores).macro["PR-AUC"] == epochs[-1].best
    [best_loss] = [epoch.validation_loss for epoch in epochs if epoch.score == epochs[-1].best][:1]
    assert best_loss == pytest.approx(-(2 * truth * np.log(scores) + (1 - truth) * np.log(1 - scores)).mean(), rel=1e-5)
    assert [epoch.validation_loss is not None for epoch in epochs] == [epoch.score is not None for epoch in epochs]
    assert read_log(tmp_path) == [without_time(vars(epoch)) for epoch in epochs]
    assert [path.name for path in tmp_path.glob("resume-*")] == ["resume-20.safetensors"], "older ones are removed"
    assert Recipe.from_dict(json.loads((tmp_path / run_folder.RECIPE).read_text())) == recipe
    assert {value.dtype for value in net.state_dict().values()} == {torch.float32, torch.int64}


TEACHER = replace(RECIPE, net=CPResNetConfig(width=8, rho_freq=3, rho_time=1), loss=LossConfig(kind="logits"))


def test_logit_training_starts_from_the_mean_of_the_targets():
    train_set, recipe = make_dataset(96, seed=1, logits=True), TEACHER
    net = recipe.net.build(n_mels=BANDS, n_tags=3)
    squared_error = loop._make_loss(recipe.loss, train_set, net, n_tags=3)
    truth = torch.from_numpy(train_set.targets.per_track())
    initial_logits = net.eval()(torch.randn(4, BANDS, FRAMES) + 20).detach()
    np.testing.assert_allclose(initial_logits, truth.mean(dim=0).expand(4, 3), rtol=1e-5)
    assert float(squared_error(truth.mean(dim=0).expand_as(truth), truth)) == pytest.approx(95 / 96, rel=1e-4)


@pytest.mark.slow
def test_logits_of_a_teacher_are_learned(tmp_path):
    train_set, validation_set, recipe = (
        make_dataset(96, seed=1, logits=True),
        make_dataset(30, seed=2, logits=True),
        TEACHER,
    )
    epochs: list[Epoch] = []
    net = train(recipe, tmp_path, train_set=train_set, validation_set=validation_set, on_epoch=epochs.append)
    assert epochs[-1].best > 0.7, "rank correlation with the teacher"
    assert epochs[-1].loss < 0.5
    scores = validation.predict(recipe, net, validation_set, VOCABULARY)
    np.testing.assert_allclose(
        np.log(scores / (1 - scores)).mean(axis=0), validation_set.targets.per_track().mean(axis=0), atol=1.0
    )


def test_targets_may_differ_between_windows(tmp_path):
    windows = tuple(np.stack([row, 1 - row]) for row in TRAIN_SET.targets.per_track())
    train_set = ClipDataset(TRAIN_SET.mels, WindowTargets(windows, step=20.0))
    recipe = replace(SHORT, schedule=ScheduleConfig(warm_up=0, constant=1, decay=0, final=0))
    epochs: list[Epoch] = []
    train(recipe, tmp_path, train_set=train_set, on_epoch=epochs.append)
    assert np.isfinite(epochs[0].loss)


def test_auxiliary_targets_count_with_their_weight():
    train_set = make_dataset(96, seed=1, logits=True)
    net = TEACHER.net.build(n_mels=BANDS, n_tags=3)
    config = LossConfig(kind="logits", auxiliary_weight=0.5)
    loss = loop._make_loss(config, train_set, net, n_tags=1)
    truth = torch.from_numpy(train_set.targets.per_track())
    std = truth.std(dim=0)
    errors = torch.tensor([1.0, 2.0, 4.0])
    expected = 1 + 0.5 * (4 + 16) / 2  # the mean of the tags, and half the mean of the others
    assert float(loss(truth + errors * std, truth)) == pytest.approx(expected, rel=1e-4)
    tags_alone = loss((truth + errors * std)[:, :1], truth[:, :1])
    assert float(tags_alone) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("changes", [{"auxiliary_weight": -0.1}, {"kind": "tags", "auxiliary_weight": 0.5}])
def test_an_impossible_auxiliary_weight_is_refused(changes):
    with pytest.raises(ConfigError, match="auxiliary_weight"):
        LossConfig(**{"kind": "logits", **changes})


def test_auxiliary_outputs_are_trained_and_then_removed(tmp_path):
    train_set = make_dataset(20, seed=1, logits=True)
    recipe = replace(TEACHER, schedule=SHORT.schedule, loss=LossConfig(kind="logits", auxiliary_weight=1.0))
    validation = ClipDataset(VALIDATION_SET.mels, TrackTargets(VALIDATION_SET.targets.per_track()[:, :2]))
    net = loop.fit(recipe, train_set, validation, STATISTICS, ("one", "two"), tmp_path)
    assert net.n_outputs == 3
    without = regularized.without_auxiliary(net, 2).eval()
    mels = torch.randn(2, BANDS, FRAMES)
    torch.testing.assert_close(without(mels), net.eval()(mels)[:, :2])
    assert net.n_outputs == 3  # it is a copy
    assert regularized.without_auxiliary(without, 2) is without


def test_pos_weight_multiplies_the_loss_of_present_tags(tmp_path):
    net = RECIPE.net.build(n_mels=BANDS, n_tags=3)
    weighted_loss = loop._make_loss(LossConfig(pos_weight=7.0), TRAIN_SET, net, n_tags=3)
    zeros, ones = torch.zeros(1, 3), torch.ones(1, 3)
    assert float(weighted_loss(zeros, ones)) == pytest.approx(7 * float(weighted_loss(zeros, zeros)))


# ---------------------------------------------------------------- determinism


def test_equal_seeds_give_equal_runs(tmp_path, finished):
    train(SHORT, tmp_path / "again")
    assert_same_run(tmp_path / "again", finished)
    train(replace(SHORT, seed=SHORT.seed + 1), tmp_path / "other")
    ours, theirs = last_weights(finished), last_weights(tmp_path / "other")
    assert not ours["net.stem.0.weight"].equal(theirs["net.stem.0.weight"])


def test_global_random_state_does_not_change_a_run(tmp_path, finished):
    torch.manual_seed(99)
    np.random.default_rng(5).random()
    torch.rand(7)
    train(SHORT, tmp_path)
    assert_same_run(tmp_path, finished)


def test_epochs_draw_different_numbers_and_a_resumed_epoch_the_same(tmp_path, monkeypatch):
    drawn: list[tuple[int, torch.Tensor, torch.Tensor]] = []
    mix = augment.mix

    def recording_mix(*arguments: object) -> tuple[torch.Tensor, torch.Tensor]:
        mixed = mix(*arguments)
        drawn.append((torch.initial_seed(), *mixed))
        return mixed

    monkeypatch.setattr(augment, "mix", recording_mix)
    train(SHORT, tmp_path / "whole")
    assert len(drawn) == 3 * 2, "two batches an epoch"
    for first, second in ((0, 2), (2, 4), (0, 4)):
        assert drawn[first][0] != drawn[second][0], "torch's own draws, for dropout"
        assert not drawn[first][1].equal(drawn[second][1])
        assert not drawn[first][2].equal(drawn[second][2])

    def stop(_: Epoch) -> None:
        raise Killed

    for _ in range(2):
        with pytest.raises(Killed):
            train(SHORT, tmp_path / "stopped", on_epoch=stop)
    for before, again in zip(drawn[:4], drawn[6:], strict=True):
        assert before[0] == again[0]
        assert before[1].equal(again[1])
        assert before[2].equal(again[2])


def test_the_best_epoch_is_kept(tmp_path):
    weights_of: dict[int, dict[str, torch.Tensor]] = {}
    epochs: list[Epoch] = []

    def record(epoch: Epoch) -> None:
        epochs.append(epoch)
        weights_of[epoch.epoch] = last_weights(tmp_path)

    recipe = replace(SHORT, schedule=ScheduleConfig(warm_up=0, constant=5, decay=0, final=0, peak=3e-2))
    net = train(recipe, tmp_path, on_epoch=record)
    best = max(epochs, key=lambda epoch: (epoch.score or 0, -epoch.epoch))
    assert best.epoch < 5, "with too high a learning rate the last epoch is not the best"
    assert [epoch.best for epoch in epochs] == list(np.maximum.accumulate([epoch.score or 0 for epoch in epochs]))
    for name, value in load_file(tmp_path / checkpoints.BEST).items():
        assert value.equal(weights_of[best.epoch][f"net.{name}"])
        assert net.state_dict()[name].equal(value)


def test_validate_every_skips_epochs_but_not_the_last(tmp_path):
    epochs: list[Epoch] = []
    recipe = replace(SHORT, validate_every=2, schedule=replace(SHORT.schedule, constant=5))
    train(recipe, tmp_path, on_epoch=epochs.append)
    assert [epoch.score is not None for epoch in epochs] == [False, True, False, True, True]
    assert epochs[0].best is None
    lines = (tmp_path / LOG).read_text()
    assert "Infinity" not in lines
    assert "NaN" not in lines, "neither is JSON"
    assert read_log(tmp_path) == [without_time(vars(epoch)) for epoch in epochs]


def test_validation_does_not_change_weights(tmp_path, finished):
    train(replace(SHORT, validate_every=3), tmp_path)
    ours, theirs = last_weights(tmp_path), last_weights(finished)
    assert [name for name in ours if not ours[name].equal(theirs[name])] == []


def test_a_finished_run_is_not_trained_again(tmp_path, finished):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    epochs: list[Epoch] = []
    net = train(SHORT, run, on_epoch=epochs.append)
    assert epochs == []
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before
    expected = load_file(finished / checkpoints.BEST)
    assert all(value.equal(expected[name]) for name, value in net.state_dict().items())


# ---------------------------------------------------------------- averages


def test_snapshots_are_means_of_the_weights_of_epochs(tmp_path, finished):
    raw: list[dict[str, torch.Tensor]] = []
    epochs: list[Epoch] = []

    def record(epoch: Epoch) -> None:
        epochs.append(epoch)
        raw.append(last_weights(tmp_path))
        assert {path.stem for path in tmp_path.glob("swa-*")} == {f"swa-{n}" for n in range(1, epoch.epoch + 1)[-2:]}

    train(SHORT, tmp_path, on_epoch=record)
    assert [epoch.averaged is not None for epoch in epochs] == [True] * 3
    mean = load_file(tmp_path / "swa-3.safetensors")
    net = SHORT.net.build(n_mels=BANDS, n_tags=3)
    for name, _ in net.named_parameters():
        expected = torch.stack([weights[f"net.{name}"] for weights in raw]).mean(dim=0)
        torch.testing.assert_close(mean[name], expected, atol=1e-7, rtol=1e-5)
    assert not mean["blocks.0.bn1.running_var"].equal(raw[-1]["net.blocks.0.bn1.running_var"])
    assert mean["standardize.mean"].equal(raw[-1]["net.standardize.mean"])
    checkpoints.load_weights(net, tmp_path / "swa-3.safetensors")
    assert (
        Validator(SHORT, VALIDATION_SET, VOCABULARY, loop._make_loss(SHORT.loss, TRAIN_SET, net, n_tags=3))(net).score
        == epochs[-1].averaged
    )
    assert list(checkpoints.snapshot_paths(SHORT, tmp_path).items()) == [
        (name, tmp_path / f"{name}.safetensors") for name in ("best", "swa-2", "swa-3")
    ]


def test_averaging_does_not_change_the_trained_weights(tmp_path, finished):
    train(replace(SHORT, averaging=AveragingConfig(every=0)), tmp_path)
    ours, theirs = last_weights(tmp_path), last_weights(finished)
    assert ours.keys() == {name for name in theirs if not name.startswith("average.")} < theirs.keys()
    assert [name for name in ours if not ours[name].equal(theirs[name])] == []
    assert [line | {"averaged": None} for line in read_log(finished)] == read_log(tmp_path)


# ---------------------------------------------------------------- killed and resumed


class FailingFiles:
    """Raises `Killed` instead of the change of a file after `left` changes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 1_000
        for name in ("replace", "unlink"):
            monkeypatch.setattr(Path, name, self._dying(getattr(Path, name)))

    def _dying(self, change: Callable[..., object]) -> Callable[..., object]:
        def change_or_fail(path: Path, *args: object, **kwargs: object) -> object:
            self.left -= path.exists()  # removing what is not there changes nothing
            if self.left == -1:
                raise Killed
            return change(path, *args, **kwargs)

        return change_or_fail

    def train(self, run: Path, *, left: int) -> bool:
        """Train until `left` files have changed; return whether it was interrupted."""
        self.left = left
        try:
            train(SHORT, run)
        except Killed:
            return True
        finally:
            self.left = 1_000
        return False


def test_last_epoch_resumes_after_a_crash_between_any_two_files(tmp_path, finished, monkeypatch):
    def stop(epoch: Epoch) -> None:
        if epoch.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        train(SHORT, tmp_path / "two", on_epoch=stop)
    files = FailingFiles(monkeypatch)
    for left in range(0, 99, 2):
        run = tmp_path / str(left)
        shutil.copytree(tmp_path / "two", run)
        if not files.train(run, left=left):
            break
        train(SHORT, run)
        assert_same_run(run, finished)
    assert left > 3, "an epoch writes some files"


@pytest.mark.slow
def test_run_resumes_after_a_crash_between_any_two_files(tmp_path, finished, monkeypatch):
    """The run is interrupted after every number of file changes."""
    files = FailingFiles(monkeypatch)
    for left in range(99):
        run = tmp_path / str(left)
        if not files.train(run, left=left):
            break
        train(SHORT, run)
        assert_same_run(run, finished)
        shutil.rmtree(run)
    assert left > 3 * 3, "every epoch writes some files"


def train_in_child_process(run: Path) -> int:
    """Train in a forked process."""
    child = os.fork()
    if not child:
        try:
            train(SHORT, run)
        finally:
            os._exit(sys.exc_info()[0] is not None)
    return child


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_run_resumes_with_the_same_result(tmp_path, finished, kills):
    """It is killed again and again until it is complete, then another one is; at most the epoch under way is lost."""

    def n_epochs(run: Path) -> int:
        return len(read_log(run)) if (run / LOG).is_file() else 0

    started = time.monotonic()
    train(SHORT, tmp_path / "timed")
    duration = time.monotonic() - started
    generator = np.random.default_rng(0)
    killed = complete = 0
    while killed < kills or not complete:
        run = tmp_path / str(complete)
        before = n_epochs(run)
        child = train_in_child_process(run)
        if killed < kills:
            time.sleep(generator.uniform(0.2, 0.6) * duration)
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if status == signal.SIGKILL:
            killed += 1
            assert n_epochs(run) >= before
        else:
            assert status == 0
            assert_same_run(run, finished)
            complete += 1


# ---------------------------------------------------------------- errors


def test_another_recipe_raises(tmp_path, finished):
    shutil.copytree(finished, tmp_path / "run")
    with pytest.raises(RunError, match="another recipe"):
        train(replace(SHORT, seed=1), tmp_path / "run")


def test_another_vocabulary_raises(tmp_path, finished):
    shutil.copytree(finished, tmp_path / "run")
    with pytest.raises(RunError, match="another vocabulary"):
        loop.fit(SHORT, TRAIN_SET, VALIDATION_SET, STATISTICS, ("voice", "bass", "cymbals"), tmp_path / "run")


def test_an_invalid_recipe_creates_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="96"):
        train(replace(SHORT, net=VGGConfig()), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_raises_and_the_epoch_is_not_logged(tmp_path):
    recipe = replace(SHORT, schedule=ScheduleConfig(warm_up=1, constant=2, decay=0, final=0, peak=1e30))
    with pytest.raises(RunError, match=r"schedule\.peak"):
        train(recipe, tmp_path)
    assert [line["epoch"] for line in read_log(tmp_path)] == [1]
    assert all(bool(value.isfinite().all()) for value in last_weights(tmp_path).values())


@pytest.mark.parametrize("size", [500, 5_000])
def test_a_full_disk_raises_and_the_run_can_continue(tmp_path, finished, size):
    run, raises = tmp_path / "run", pytest.raises(RunError, match="File too large")
    with ExitStack() as limits, raises:
        train(SHORT, run, on_epoch=lambda _: limits.enter_context(files_up_to(size)))
    assert [line["epoch"] for line in read_log(run)] == [1]
    assert not list(run.glob("*.part"))
    train(SHORT, run)
    assert_same_run(run, finished)


def test_a_file_as_run_folder_raises(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(RunError, match="File exists"):
        train(SHORT, tmp_path / "run")


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_truth_outside_0_and_1_raises(tmp_path, value):
    rows = TRAIN_SET.targets.per_track().copy()
    rows[3, 1] = value
    with pytest.raises(ConfigError, match=r"loss\.kind=logits"):
        train(SHORT, tmp_path, train_set=ClipDataset(TRAIN_SET.mels, TrackTargets(rows)))


def test_a_clip_too_short_for_the_network_raises(tmp_path):
    recipe = replace(SHORT, batch=BatchConfig(clip_seconds=0.5, size=8))
    assert recipe.clip_frames == 16
    with pytest.raises(ConfigError, match=r"16 frames.* 17"):
        train(recipe, tmp_path)


def test_a_constant_band_raises(tmp_path):
    with pytest.raises(ConfigError, match="std"):
        loop.fit(SHORT, TRAIN_SET, VALIDATION_SET, Statistics(np.zeros(BANDS), np.zeros(BANDS)), VOCABULARY, tmp_path)


def test_weights_of_another_network_raise(tmp_path, finished):
    other = CPResNetConfig(width=8).build(n_mels=BANDS, n_tags=3)
    with pytest.raises(RunError, match="the weights"):
        checkpoints.load_weights(other, finished / checkpoints.BEST)
    with pytest.raises(RunError, match="the weights"):
        checkpoints.load_weights(other, tmp_path / "missing")


# ---------------------------------------------------------------- the optimiser


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", list(nets.NETS))
def test_fused_adam_equals_adam(name, recompute):
    """Fused Adam ignores strides, so gradients need the memory layout of their weights."""
    net = models.network(name).train()
    net.recompute = recompute
    net.to(memory_format=torch.channels_last)
    twin = deepcopy(net)
    fused, plain = (torch.optim.Adam(net_.parameters(), lr=1e-2, fused=net_ is net) for net_ in (net, twin))
    for _ in range(3):
        fused.zero_grad()
        net(torch.randn(2, len(net.standardize.mean), 1_400 if name == "vgg" else 120)).square().sum().backward()
        for parameter, twin_parameter in zip(net.parameters(), twin.parameters(), strict=True):
            twin_parameter.grad = parameter.grad.clone()
        fused.step()
        plain.step()
    for parameter, twin_parameter in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(parameter, twin_parameter, rtol=1e-5, atol=1e-6)
