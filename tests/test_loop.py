"""The loop: it learns, is the same twice, survives being killed anywhere, and refuses in words."""

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
from moodfield.nets import CPResNetConfig, Net, VGGConfig
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
"""three epochs, all of them averaged, for tests that do not ask how well it learned"""


pytestmark = pytest.mark.usefixtures("one_thread")


def material(tracks: int, *, seed: int, logits: bool = False) -> ClipDataset:
    """Noise; a tag is present where its third of the bands is louder."""
    generator = np.random.default_rng(seed)
    levels = generator.uniform(-1, 1, (tracks, 3))
    if not logits:
        levels = np.where(levels > 0.3, 1.0, 0.0)
    loud = 2 * np.repeat(levels, [11, 11, 10], axis=1)[:, None, :]
    mels = 20 + 5 * (generator.standard_normal((tracks, FRAMES, BANDS)) + loud)
    truth = levels * [1, 2, 3] + [0, -5, 4] if logits else levels
    return ClipDataset(tuple(mels.astype(np.float16)), TrackTargets(truth.astype(np.float32)))


LEARN, JUDGE = material(20, seed=1), material(8, seed=2)
STATISTICS = Statistics(np.full(BANDS, 23.0), np.full(BANDS, 7.0))


def train(recipe: Recipe, run: Path, *, learn: ClipDataset = LEARN, judge: ClipDataset = JUDGE, **more: object) -> Net:
    return loop.fit(recipe, learn, judge, STATISTICS, VOCABULARY, run, **more)


def log(run: Path) -> list[dict[str, float | None]]:
    """What the log says, without the clock."""
    return [timeless(json.loads(line)) for line in (run / LOG).read_text().splitlines()]


def timeless(line: dict[str, float | None]) -> dict[str, float | None]:
    """A line of a log without what no two runs have in common."""
    assert line["cpu_seconds"] > 0
    return {name: value for name, value in line.items() if name != "cpu_seconds"}


def last_weights(run: Path) -> dict[str, torch.Tensor]:
    """Network and optimiser as they were after the last epoch."""
    return load_file(run / json.loads((run / checkpoints.RESUME).read_text())["weights"])


def assert_same_run(found: Path, wanted: Path) -> None:
    """Bit for bit: last and best weights, optimiser, log; and nothing left lying about."""
    for ours, theirs in (
        (last_weights(found), last_weights(wanted)),
        *(
            (load_file(found / path.name), load_file(path))
            for path in checkpoints.snapshot_paths(SHORT, wanted).values()
        ),
    ):
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if not ours[name].equal(theirs[name])] == []
    assert log(found) == log(wanted)
    assert {path.name for path in found.iterdir()} == {path.name for path in wanted.iterdir()}


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run from beginning to end; nobody writes to it."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    train(SHORT, run)
    return run


# ---------------------------------------------------------------- learning


@pytest.mark.parametrize(
    ("precision", "tracks"), [("32-true", 96), pytest.param("bf16-mixed", 256, marks=pytest.mark.slow)]
)
def test_it_learns_which_bands_decide_a_tag(tmp_path, precision, tracks):
    heard: list[Epoch] = []
    recipe = replace(RECIPE, precision=precision)
    judge = material(30, seed=2)
    net = train(recipe, tmp_path, learn=material(tracks, seed=1), judge=judge, on_epoch=heard.append)
    assert [each.epoch for each in heard] == list(range(1, 21))
    assert [each.learning_rate for each in heard] == [RECIPE.schedule.learning_rate(epoch) for epoch in range(20)]
    assert heard[-1].loss < 0.8 * heard[0].loss
    assert heard[-1].best > 0.9 > 0.6 > judge.targets.per_track().mean(), "chance"
    assert heard[-1].best == max(each.score or 0 for each in heard)
    said = validation.predict(recipe, net, judge, VOCABULARY, precision=validation.engine_precision(recipe))
    found, truth = said.astype(np.float64), judge.targets.per_track()
    assert metrics.evaluate(truth > 0, found).macro["PR-AUC"] == heard[-1].best
    [kept] = [each.validation_loss for each in heard if each.score == heard[-1].best][:1]
    assert kept == pytest.approx(-(2 * truth * np.log(found) + (1 - truth) * np.log(1 - found)).mean(), rel=1e-5)
    assert [each.validation_loss is not None for each in heard] == [each.score is not None for each in heard]
    assert log(tmp_path) == [timeless(vars(each)) for each in heard]
    assert [path.name for path in tmp_path.glob("resume-*")] == ["resume-20.safetensors"], "older ones are gone"
    assert Recipe.from_dict(json.loads((tmp_path / run_folder.RECIPE).read_text())) == recipe
    assert {value.dtype for value in net.state_dict().values()} == {torch.float32, torch.int64}


TEACHER = replace(RECIPE, net=CPResNetConfig(width=8, rho_freq=3, rho_time=1), loss=LossConfig(kind="logits"))


def test_a_student_starts_from_the_mean_of_its_teachers_logits():
    learn, recipe = material(96, seed=1, logits=True), TEACHER
    net = recipe.net.build(n_mels=BANDS, n_tags=3)
    squared = loop._make_loss(recipe.loss, learn, net)
    truth = torch.from_numpy(learn.targets.per_track())
    begun = net.eval()(torch.randn(4, BANDS, FRAMES) + 20).detach()
    np.testing.assert_allclose(begun, truth.mean(dim=0).expand(4, 3), rtol=1e-5)
    assert float(squared(truth.mean(dim=0).expand_as(truth), truth)) == pytest.approx(95 / 96, rel=1e-4)


@pytest.mark.slow
def test_a_teachers_logits_are_learned(tmp_path):
    learn, judge, recipe = material(96, seed=1, logits=True), material(30, seed=2, logits=True), TEACHER
    heard: list[Epoch] = []
    net = train(recipe, tmp_path, learn=learn, judge=judge, on_epoch=heard.append)
    assert heard[-1].best > 0.7, "rank correlation with the teacher"
    assert heard[-1].loss < 0.5
    scores = validation.predict(recipe, net, judge, VOCABULARY)
    np.testing.assert_allclose(
        np.log(scores / (1 - scores)).mean(axis=0), judge.targets.per_track().mean(axis=0), atol=1.0
    )


def test_windows_have_truth_of_their_own(tmp_path):
    windows = tuple(np.stack([row, 1 - row]) for row in LEARN.targets.per_track())
    learn = ClipDataset(LEARN.mels, WindowTargets(windows, step=20.0))
    recipe = replace(SHORT, schedule=ScheduleConfig(warm_up=0, constant=1, decay=0, final=0))
    heard: list[Epoch] = []
    train(recipe, tmp_path, learn=learn, on_epoch=heard.append)
    assert np.isfinite(heard[0].loss)


def test_the_loss_weighs_present_tags(tmp_path):
    net = RECIPE.net.build(n_mels=BANDS, n_tags=3)
    weighted = loop._make_loss(LossConfig(pos_weight=7.0), LEARN, net)
    zero, one = torch.zeros(1, 3), torch.ones(1, 3)
    assert float(weighted(zero, one)) == pytest.approx(7 * float(weighted(zero, zero)))


# ---------------------------------------------------------------- the same again


def test_the_seed_decides_everything(tmp_path, finished):
    train(SHORT, tmp_path / "again")
    assert_same_run(tmp_path / "again", finished)
    train(replace(SHORT, seed=SHORT.seed + 1), tmp_path / "other")
    ours, theirs = last_weights(finished), last_weights(tmp_path / "other")
    assert not ours["net.stem.0.weight"].equal(theirs["net.stem.0.weight"])


def test_what_happened_before_in_the_process_does_not_matter(tmp_path, finished):
    torch.manual_seed(99)
    np.random.default_rng(5).random()
    torch.rand(7)
    train(SHORT, tmp_path)
    assert_same_run(tmp_path, finished)


def test_every_epoch_draws_anew_and_again_the_same_when_resumed(tmp_path, monkeypatch):
    drawn: list[tuple[int, torch.Tensor, torch.Tensor]] = []
    mix = augment.mix

    def watched(*given: object) -> tuple[torch.Tensor, torch.Tensor]:
        found = mix(*given)
        drawn.append((torch.initial_seed(), *found))
        return found

    monkeypatch.setattr(augment, "mix", watched)
    train(SHORT, tmp_path / "whole")
    assert len(drawn) == 3 * 2, "two batches an epoch"
    for one, two in ((0, 2), (2, 4), (0, 4)):
        assert drawn[one][0] != drawn[two][0], "torch's own draws, for dropout"
        assert not drawn[one][1].equal(drawn[two][1])
        assert not drawn[one][2].equal(drawn[two][2])

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
    kept: dict[int, dict[str, torch.Tensor]] = {}
    heard: list[Epoch] = []

    def report(epoch: Epoch) -> None:
        heard.append(epoch)
        kept[epoch.epoch] = last_weights(tmp_path)

    recipe = replace(SHORT, schedule=ScheduleConfig(warm_up=0, constant=5, decay=0, final=0, peak=3e-2))
    net = train(recipe, tmp_path, on_epoch=report)
    best = max(heard, key=lambda each: (each.score or 0, -each.epoch))
    assert best.epoch < 5, "too high a rate does not end with its best epoch"
    assert [each.best for each in heard] == list(np.maximum.accumulate([each.score or 0 for each in heard]))
    for name, value in load_file(tmp_path / checkpoints.BEST).items():
        assert value.equal(kept[best.epoch][f"net.{name}"])
        assert net.state_dict()[name].equal(value)


def test_only_some_epochs_are_judged_but_always_the_last(tmp_path):
    heard: list[Epoch] = []
    recipe = replace(SHORT, validate_every=2, schedule=replace(SHORT.schedule, constant=5))
    train(recipe, tmp_path, on_epoch=heard.append)
    assert [each.score is not None for each in heard] == [False, True, False, True, True]
    assert heard[0].best is None
    lines = (tmp_path / LOG).read_text()
    assert "Infinity" not in lines
    assert "NaN" not in lines, "other programs read JSON more strictly"
    assert log(tmp_path) == [timeless(vars(each)) for each in heard]


def test_judging_does_not_change_what_is_learned(tmp_path, finished):
    train(replace(SHORT, validate_every=3), tmp_path)
    ours, theirs = last_weights(tmp_path), last_weights(finished)
    assert [name for name in ours if not ours[name].equal(theirs[name])] == []


def test_a_finished_run_is_not_trained_again(tmp_path, finished):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    heard: list[Epoch] = []
    net = train(SHORT, run, on_epoch=heard.append)
    assert heard == []
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before
    wanted = load_file(finished / checkpoints.BEST)
    assert all(value.equal(wanted[name]) for name, value in net.state_dict().items())


# ---------------------------------------------------------------- averages


def test_weights_are_averaged_beside_the_training(tmp_path, finished):
    raw: list[dict[str, torch.Tensor]] = []
    heard: list[Epoch] = []

    def report(epoch: Epoch) -> None:
        heard.append(epoch)
        raw.append(last_weights(tmp_path))
        assert {path.stem for path in tmp_path.glob("swa-*")} == {f"swa-{n}" for n in range(1, epoch.epoch + 1)[-2:]}

    train(SHORT, tmp_path, on_epoch=report)
    assert [each.averaged is not None for each in heard] == [True] * 3
    mean = load_file(tmp_path / "swa-3.safetensors")
    net = SHORT.net.build(n_mels=BANDS, n_tags=3)
    for name, _ in net.named_parameters():
        wanted = torch.stack([weights[f"net.{name}"] for weights in raw]).mean(dim=0)
        torch.testing.assert_close(mean[name], wanted, atol=1e-7, rtol=1e-5)
    assert not mean["blocks.0.bn1.running_var"].equal(raw[-1]["net.blocks.0.bn1.running_var"])
    assert mean["standardize.mean"].equal(raw[-1]["net.standardize.mean"])
    checkpoints.load_weights(net, tmp_path / "swa-3.safetensors")
    assert Validator(SHORT, JUDGE, VOCABULARY, loop._make_loss(SHORT.loss, LEARN, net))(net).score == heard[-1].averaged
    assert list(checkpoints.snapshot_paths(SHORT, tmp_path).items()) == [
        (name, tmp_path / f"{name}.safetensors") for name in ("best", "swa-2", "swa-3")
    ]


def test_averaging_does_not_change_what_is_learned(tmp_path, finished):
    train(replace(SHORT, averaging=AveragingConfig(every=0)), tmp_path)
    ours, theirs = last_weights(tmp_path), last_weights(finished)
    assert ours.keys() == {name for name in theirs if not name.startswith("average.")} < theirs.keys()
    assert [name for name in ours if not ours[name].equal(theirs[name])] == []
    assert [line | {"averaged": None} for line in log(finished)] == log(tmp_path)


# ---------------------------------------------------------------- killed and resumed


class DyingFiles:
    """Raises `Killed` instead of the change of a file after `left` changes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 1_000
        for name in ("replace", "unlink"):
            monkeypatch.setattr(Path, name, self._dying(getattr(Path, name)))

    def _dying(self, change: Callable[..., object]) -> Callable[..., object]:
        def changed(path: Path, *args: object, **kwargs: object) -> object:
            self.left -= path.exists()  # removing what is not there changes nothing
            if self.left == -1:
                raise Killed
            return change(path, *args, **kwargs)

        return changed

    def train(self, run: Path, *, left: int) -> bool:
        """Train until that many files have changed; whether it was killed."""
        self.left = left
        try:
            train(SHORT, run)
        except Killed:
            return True
        finally:
            self.left = 1_000
        return False


def test_the_last_epoch_may_end_between_any_two_files(tmp_path, finished, monkeypatch):
    def stop(epoch: Epoch) -> None:
        if epoch.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        train(SHORT, tmp_path / "two", on_epoch=stop)
    files = DyingFiles(monkeypatch)
    for left in range(0, 99, 2):
        run = tmp_path / str(left)
        shutil.copytree(tmp_path / "two", run)
        if not files.train(run, left=left):
            break
        train(SHORT, run)
        assert_same_run(run, finished)
    assert left > 3, "an epoch writes some files"


@pytest.mark.slow
def test_a_run_may_end_between_any_two_files(tmp_path, finished, monkeypatch):
    """Every change of a file is once the last, and once the first that does not happen."""
    files = DyingFiles(monkeypatch)
    for left in range(99):
        run = tmp_path / str(left)
        if not files.train(run, left=left):
            break
        train(SHORT, run)
        assert_same_run(run, finished)
        shutil.rmtree(run)
    assert left > 3 * 3, "every epoch writes some files"


def train_in_child(run: Path) -> int:
    """Train in a process of its own, which has everything imported already."""
    child = os.fork()
    if not child:
        try:
            train(SHORT, run)
        finally:
            os._exit(sys.exc_info()[0] is not None)
    return child


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_run_resumes_as_if_it_had_not_been_interrupted(tmp_path, finished, kills):
    """It is killed again and again until it is complete, then another one is; at most the epoch under way is lost."""

    def epochs(run: Path) -> int:
        return len(log(run)) if (run / LOG).is_file() else 0

    started = time.monotonic()
    train(SHORT, tmp_path / "timed")
    duration = time.monotonic() - started
    generator = np.random.default_rng(0)
    killed = complete = 0
    while killed < kills or not complete:
        run = tmp_path / str(complete)
        before = epochs(run)
        child = train_in_child(run)
        if killed < kills:
            time.sleep(generator.uniform(0.2, 0.6) * duration)
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if status == signal.SIGKILL:
            killed += 1
            assert epochs(run) >= before
        else:
            assert status == 0
            assert_same_run(run, finished)
            complete += 1


# ---------------------------------------------------------------- refusals


def test_a_run_of_another_recipe_is_refused(tmp_path, finished):
    shutil.copytree(finished, tmp_path / "run")
    with pytest.raises(RunError, match="another recipe"):
        train(replace(SHORT, seed=1), tmp_path / "run")


def test_a_run_of_another_vocabulary_is_refused(tmp_path, finished):
    shutil.copytree(finished, tmp_path / "run")
    with pytest.raises(RunError, match="another vocabulary"):
        loop.fit(SHORT, LEARN, JUDGE, STATISTICS, ("voice", "bass", "cymbals"), tmp_path / "run")


def test_a_folder_is_free_after_a_recipe_that_could_not_begin(tmp_path):
    with pytest.raises(ConfigError, match="96"):
        train(replace(SHORT, net=VGGConfig()), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_is_refused_and_the_epoch_does_not_count(tmp_path):
    recipe = replace(SHORT, schedule=ScheduleConfig(warm_up=1, constant=2, decay=0, final=0, peak=1e30))
    with pytest.raises(RunError, match=r"schedule\.peak"):
        train(recipe, tmp_path)
    assert [line["epoch"] for line in log(tmp_path)] == [1]
    assert all(bool(value.isfinite().all()) for value in last_weights(tmp_path).values())


@pytest.mark.parametrize("size", [500, 5_000])
def test_a_full_disk_is_refused_and_the_run_goes_on_when_there_is_room(tmp_path, finished, size):
    run, again = tmp_path / "run", pytest.raises(RunError, match="File too large")
    with ExitStack() as full, again:
        train(SHORT, run, on_epoch=lambda _: full.enter_context(files_up_to(size)))
    assert [line["epoch"] for line in log(run)] == [1]
    assert not list(run.glob("*.part"))
    train(SHORT, run)
    assert_same_run(run, finished)


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(RunError, match="File exists"):
        train(SHORT, tmp_path / "run")


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_truth_outside_0_and_1_is_refused(tmp_path, wrong):
    rows = LEARN.targets.per_track().copy()
    rows[3, 1] = wrong
    with pytest.raises(ConfigError, match=r"loss\.kind=logits"):
        train(SHORT, tmp_path, learn=ClipDataset(LEARN.mels, TrackTargets(rows)))


def test_a_clip_too_short_for_the_network_is_refused(tmp_path):
    recipe = replace(SHORT, batch=BatchConfig(clip_seconds=0.5, size=8))
    assert recipe.clip_frames == 16
    with pytest.raises(ConfigError, match=r"16 frames.* 17"):
        train(recipe, tmp_path)


def test_a_band_that_never_changes_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="std"):
        loop.fit(SHORT, LEARN, JUDGE, Statistics(np.zeros(BANDS), np.zeros(BANDS)), VOCABULARY, tmp_path)


def test_weights_of_another_network_are_refused(tmp_path, finished):
    other = CPResNetConfig(width=8).build(n_mels=BANDS, n_tags=3)
    with pytest.raises(RunError, match="the weights"):
        checkpoints.load_weights(other, finished / checkpoints.BEST)
    with pytest.raises(RunError, match="the weights"):
        checkpoints.load_weights(other, tmp_path / "missing")


# ---------------------------------------------------------------- the optimiser


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", list(nets.NETS))
def test_fused_adam_is_adam(name, recompute):
    """It walks through memory without looking at strides: gradients must lie there as their weights do."""
    net = models.network(name).train()
    net.recompute = recompute
    net.to(memory_format=torch.channels_last)
    twin = deepcopy(net)
    fused, plain = (torch.optim.Adam(each.parameters(), lr=1e-2, fused=each is net) for each in (net, twin))
    for _ in range(3):
        fused.zero_grad()
        net(torch.randn(2, len(net.standardize.mean), 1_400 if name == "vgg" else 120)).square().sum().backward()
        for parameter, other in zip(net.parameters(), twin.parameters(), strict=True):
            other.grad = parameter.grad.clone()
        fused.step()
        plain.step()
    for parameter, other in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, rtol=1e-5, atol=1e-6)
