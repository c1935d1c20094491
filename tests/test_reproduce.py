"""Reproduction of a row of Table 1: plan, train, average, evaluate, write, continue; locally and on Ray."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import models
import moodfield
from moodfield.datasets import mtg_jamendo
from moodfield.datasets.mtg_jamendo import Dataset
from moodfield.errors import DatasetError, MoodfieldError, OutputError, RunError, UnknownNameError
from moodfield.evaluation import metrics, submission_checks, submissions
from moodfield.paper import recipes, reproduce
from moodfield.paper.plan import Plan
from moodfield.paper.reproduce import Progress
from moodfield.training import estimate, pipeline
from moodfield.training.pipeline import RunPaths
from noises import TAGS

TINY = (
    "net.width=4", "mel.sample_rate=8000", "mel.n_fft=256", "mel.hop_length=128", "mel.n_mels=32",
    "batch.clip_seconds=1",
    "batch.size=4", "augment.roll_frames=3", "schedule.peak=1e-2", "schedule.warm_up=0", "schedule.constant=2",
    "schedule.decay=1", "schedule.final=0", "averaging.start=1", "averaging.every=1", "averaging.snapshots=2",
)  # fmt: skip
"""three epochs of a tiny network, at a learning rate at which it learns on any processor"""
ONE_EPOCH = (*TINY, "schedule.constant=1", "schedule.decay=0", "averaging.every=0")
"""one epoch, one snapshot"""


@pytest.fixture(scope="module")
def noises(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The small dataset in a folder as a user has it."""
    folder = tmp_path_factory.mktemp("noises")
    for part in ("train", "validation"):
        shutil.copy(dataset / f"{part}.tsv", folder / f"noises-{part}.tsv")
    (folder / "tags.txt").write_text("\n".join(f"mood/theme---{tag}" for tag in TAGS))
    return mtg_jamendo.find(folder, audio=dataset / "music")


@pytest.fixture(scope="module")
def tiny(noises: Dataset) -> Plan:
    return Plan.from_title("FAResNet", noises, scale="small", settings=TINY)


def paths_of(plan: Plan, folder: Path, cache_dir: Path, *more: object) -> RunPaths:
    return RunPaths(plan.dataset.audio, cache_dir, folder, *more)


def make(plan: Plan, folder: Path, progress: Progress = reproduce.SILENT) -> reproduce.Row:
    return reproduce.make(plan, paths_of(plan, folder / "row", folder / "store"), progress=progress)


@dataclass(frozen=True)
class Made:
    """A row, its folder, and the progress of making it."""

    row: reproduce.Row
    folder: Path
    tracks: list[tuple[str, MoodfieldError | None]]
    epochs: list[tuple[str, int]]
    networks: list[tuple[str, MoodfieldError | None]]


@pytest.fixture(scope="module")
def whole(tiny: Plan, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A row that was made without interruption; not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    tracks, epochs, networks = [], [], []
    progress = Progress(
        lambda track, error: tracks.append((track.id, error)),
        lambda name, epoch: epochs.append((name, epoch.epoch)),
        lambda name, error: networks.append((name, error)),
    )
    with pytest.MonkeyPatch.context() as patch:
        models.replace_export(patch, b"a network")
        return Made(make(tiny, folder, progress), folder, tracks, epochs, networks)


def test_plan_of_a_submission(noises):
    plan = Plan.from_title("shakefaresnet", noises)
    assert plan.title == "ShakeFAResNet"
    assert [(each.recipe.net.rho_freq, each.recipe.net.rho_time, each.recipe.seed) for each in plan.networks] == [
        (5, rho, seed) for rho, seed in zip(recipes.TIME_RHOS, recipes.SEEDS, strict=True)
    ]
    assert all(each.recipe.net.shake and each.recipe.net.width == 128 for each in plan.networks)
    assert plan.epochs == 5 * 200
    small = Plan.from_title("ShakeFAResNet", noises, scale="small", settings=["seed=7"])
    assert len(small.networks) == 2
    assert {(each.recipe.net.width, each.recipe.mel.hop_length, each.recipe.seed) for each in small.networks} == {
        (16, 1_536, 7)
    }
    assert small.epochs == 2 * 10
    assert len(Plan.from_title("Avg_ensemble", noises).networks) == 12
    with pytest.raises(UnknownNameError, match="FAResNet"):
        Plan.from_title("FResNet", noises)


def test_make_writes_a_submission_and_a_row(tiny, noises, whole):
    row, folder = whole.row, whole.folder / "row"
    names = [each.name for each in tiny.networks]
    assert len(whole.tracks) == 20
    assert whole.epochs == [(name, epoch) for name in names for epoch in (1, 2, 3)]
    assert whole.networks == [(name, None) for name in names]
    made = submissions.read(folder)
    assert submission_checks.find_errors(made, vocabulary=TAGS, tracks=noises.test.tracks) == []
    snapshots = {
        part: np.stack([np.load(folder / "networks" / name / f"{part}.npy") for name in names])
        for part in reproduce.SPLITS
    }
    assert snapshots["test"].shape == (2, 3, 8, 2), "networks, snapshots, tracks, tags"
    assert np.unique(snapshots["test"].reshape(6, -1), axis=0).shape[0] == 6, "all snapshots differ"
    mean = snapshots["test"].mean(axis=(0, 1), dtype=np.float64)
    np.testing.assert_allclose(made.predictions, mean, atol=1e-7)
    chosen = metrics.best_thresholds(
        noises.validation.truth, snapshots["validation"].mean(axis=(0, 1), dtype=np.float64)
    )
    np.testing.assert_array_equal(made.decisions, metrics.decide(made.predictions, chosen))
    official = metrics.evaluate(noises.test.truth, made.predictions, decisions=made.decisions)
    assert row.official == official.to_dict()
    assert row.test == official.macro["PR-AUC"]
    assert np.isnan(row.interval).all(), "eight tracks are too few"
    alone = metrics.evaluate(noises.test.truth, snapshots["test"][1].mean(axis=0)).macro["PR-AUC"]
    assert row.networks[f"{names[1]}, mean of snapshots"][1] == pytest.approx(alone)
    best = metrics.evaluate(noises.validation.truth, snapshots["validation"][0][0]).macro["PR-AUC"]
    assert row.networks[f"{names[0]}, best epoch"][0] == pytest.approx(best)
    assert (row.dataset, row.changes) == ("noises", ("small", *TINY))
    assert "no noises-test.tsv" in row.note
    written = json.loads((folder / "row.json").read_text())
    assert (written["test"], written["interval"]) == (row.test, [None, None])
    assert (folder / "networks" / names[0] / "best" / "card.json").is_file()


class Interrupted(Exception):
    """Stands for the end of the process."""


def test_finished_networks_are_reused_and_interrupted_ones_continue(tiny, whole, tmp_path, no_export):
    def stop(name: str, epoch: object) -> None:
        if name == tiny.networks[1].name and epoch.epoch == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        make(tiny, tmp_path / "again", Progress(epoch=stop))
    trained, done = [], []
    progress = Progress(
        epoch=lambda name, epoch: trained.append((name, epoch.epoch)), network=lambda name, _: done.append(name)
    )
    again = make(tiny, tmp_path / "again", progress)
    names = [each.name for each in tiny.networks]
    assert trained == [(names[1], 3)]
    assert done == names
    assert again.to_dict() == whole.row.to_dict()
    trained.clear()
    shutil.rmtree(tmp_path / "again" / "store")
    assert make(tiny, tmp_path / "again", progress).to_dict() == whole.row.to_dict(), "mels are not needed"
    assert trained == []
    with pytest.raises(RunError, match="another plan"):
        make(replace(tiny, networks=tiny.networks[:1]), tmp_path / "again")


def test_a_row_without_a_star_is_that_of_the_best_epoch(noises, tmp_path, no_export):
    plan = Plan.from_title("CP_ResNet", noises, scale="small", settings=TINY)
    row = make(plan, tmp_path)
    snapshots = np.load(tmp_path / "row" / "networks" / "cp_resnet" / "test.npy")
    assert row.test == metrics.evaluate(noises.test.truth, snapshots[0]).macro["PR-AUC"]
    np.testing.assert_array_equal(submissions.read(tmp_path / "row").predictions, snapshots[0])


def test_missing_mels_are_computed_again_for_a_pending_network(tiny, whole, tmp_path, no_export):
    def stop(name: str, _: object) -> None:
        if name == tiny.networks[1].name:
            raise Interrupted

    with pytest.raises(Interrupted):
        make(tiny, tmp_path / "again", Progress(epoch=stop))
    shutil.rmtree(tmp_path / "again" / "store")
    tracks = []
    again = make(tiny, tmp_path / "again", Progress(track=lambda track, _: tracks.append(track.id)))
    assert again.to_dict() == whole.row.to_dict()
    assert len(tracks) == 20


def test_another_dataset_or_recipe_raises(tiny, noises, tmp_path, no_export):
    one = replace(tiny, networks=tiny.networks[:1])
    make(one, tmp_path)
    turned = mtg_jamendo.Split(noises.test.tracks[::-1], noises.test.vocabulary)
    with pytest.raises(RunError, match="another plan"):
        make(replace(one, dataset=replace(noises, test=turned)), tmp_path)
    [network] = one.networks
    again = replace(network, recipe=replace(network.recipe, recompute=True))
    make(replace(one, networks=(again,)), tmp_path)
    other = replace(network, recipe=replace(network.recipe, seed=5))
    paths = RunPaths(noises.audio, tmp_path / "store", tmp_path / "row" / "networks")
    with pytest.raises(RunError, match="another recipe"):
        reproduce.train([other], noises, paths)


TRAIN = pipeline.train


@pytest.fixture(scope="module")
def made(noises: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path, reproduce.Row]:
    """A plan of one network and one epoch, its finished folder, not to be changed, and the row."""
    plan = Plan.from_title("CP_ResNet", noises, scale="small", settings=ONE_EPOCH)
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "train", lambda *args, name, **kwargs: TRAIN(*args, **kwargs))
        row = make(plan, folder)
    return plan, folder, row


@pytest.fixture
def copy(made: tuple[Plan, Path, reproduce.Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished folder that may be damaged; without model folders."""
    monkeypatch.setattr(pipeline, "train", lambda *args, name, **kwargs: TRAIN(*args, **kwargs))
    shutil.copytree(made[1] / "row", tmp_path / "row")
    return tmp_path / "row"


DAMAGES = [b"", b"{", b"[]", b"7", b"null", b"[" * 200_000, b"\xff\xfe", b'{"a": "\0"}', b'{"networks": 3}']
"""damaged contents of a JSON file"""


@pytest.mark.parametrize("content", DAMAGES)
@pytest.mark.parametrize("name", ["plan.json", "networks/tracks.json"])
def test_a_damaged_file_raises_an_error_of_one_line(made, copy, content, name):
    (copy / name).write_bytes(content)
    with pytest.raises(RunError, match=name.rpartition("/")[2]) as caught:
        make(made[0], copy.parent)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "rows", [{"train": [99]}, {"train": [0.5]}, {"train": "all"}, {"validation": [-1]}, {"test": [True]}]
)
def test_rows_of_no_track_raise(made, copy, rows):
    path = copy / "networks" / "tracks.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | rows))
    with pytest.raises(RunError, match=r"tracks\.json"):
        make(made[0], copy.parent)


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"PK\x03\x04", None])
def test_scores_that_are_damaged_are_computed_again(made, copy, damage):
    plan, folder, row = made
    path = copy / "networks" / plan.networks[0].name / "test.npy"
    path.write_bytes(path.read_bytes()[:-1] if damage is None else damage)
    again = reproduce.make(plan, paths_of(plan, copy, folder / "store"))
    assert again.to_dict() == row.to_dict()


def test_scores_that_are_not_finite_raise(made, copy):
    plan, folder, _ = made
    path = copy / "networks" / plan.networks[0].name / "test.npy"
    np.save(path, np.full_like(np.load(path), np.nan))
    with pytest.raises(RunError, match=r"test\.npy"):
        reproduce.make(plan, paths_of(plan, copy, folder / "store"))


def test_another_folder_raises_and_stays_unchanged(made, tmp_path):
    (tmp_path / "row").mkdir()
    (tmp_path / "row" / "movie.0123456789abcdef.part").write_text("mine")
    with pytest.raises(OutputError, match="movie"):
        make(made[0], tmp_path)
    assert [path.name for path in (tmp_path / "row").iterdir()] == ["movie.0123456789abcdef.part"]
    assert [path.name for path in tmp_path.iterdir()] == ["row"]


def test_a_reproduction_is_locked(made, copy, monkeypatch):
    plan, folder, _ = made
    monkeypatch.setattr(reproduce, "train", lambda *_, **__: 1 / 0)
    with plan.lock(copy):
        code = "import sys; from pathlib import Path; from moodfield.paper import plan; from moodfield.training import "
        code += "run_folder\nwith run_folder.lock(Path(sys.argv[1]), plan.FILE, kind=plan.KIND): pass"
        done = subprocess.run([sys.executable, "-c", code, str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"LockedError: {copy} is in use by process {os.getpid()}" in done.stderr
    with pytest.raises(ZeroDivisionError):
        reproduce.make(plan, paths_of(plan, copy, folder / "store"))
    with plan.lock(copy):
        pass


def test_unreadable_tracks_are_left_out_except_of_the_test_split(tiny, noises, tmp_path, no_export):
    missing = replace(noises.train.tracks[1], id="gone", path="train/gone.wav")
    train = mtg_jamendo.Split((missing, *noises.train.tracks), noises.train.vocabulary)
    failed = []
    progress = Progress(track=lambda track, error: failed.append(track.id) if error else None)
    one = replace(tiny, networks=tiny.networks[:1])
    make(replace(one, dataset=replace(noises, train=train)), tmp_path / "train", progress)
    assert failed == ["gone"]
    rows = json.loads((tmp_path / "train" / "row" / "networks" / "tracks.json").read_text())
    assert rows["train"] == list(range(1, len(train.tracks)))
    test = mtg_jamendo.Split((*noises.test.tracks, missing), noises.test.vocabulary)
    with pytest.raises(DatasetError, match="1 of 9 test tracks"):
        make(replace(one, dataset=replace(noises, test=test)), tmp_path / "test")


def test_a_network_that_fails_does_not_stop_the_others(tiny, tmp_path, no_export, monkeypatch):
    train = pipeline.train

    def fail(recipe: object, *args: object, name: str, **kwargs: object) -> object:
        if name == tiny.networks[0].name:
            raise RunError("the loss became nan")
        return train(recipe, *args, name=name, **kwargs)

    monkeypatch.setattr(pipeline, "train", fail)
    done: list[tuple[str, MoodfieldError | None]] = []
    with pytest.raises(RunError, match=r"1 of 2 networks.*nan"):
        make(tiny, tmp_path, Progress(network=lambda name, error: done.append((name, error))))
    assert [(name, type(error)) for name, error in done] == [
        (tiny.networks[0].name, RunError), (tiny.networks[1].name, type(None))
    ]  # fmt: skip
    monkeypatch.undo()


@pytest.mark.parametrize("title", ["popular", "random"])
def test_constant_baselines(noises, tmp_path, title):
    plan = Plan.from_title(title, noises)
    with pytest.warns(match="all tracks") if title == "popular" else _nothing():
        row = make(plan, tmp_path)
    truth = noises.test.truth
    if title == "popular":
        assert row.test == pytest.approx(truth.mean(axis=0).mean())
    assert row.networks == {}
    assert not (tmp_path / "row" / "predictions.npy").exists()


def _nothing():
    import contextlib

    return contextlib.nullcontext()


def test_cost(tiny, noises, monkeypatch):
    """10 clips an epoch for 3 epochs, each with an average; both are judged by 2 tracks of 1.5 s, in clips of 1 s."""
    recipe = replace(tiny.networks[0].recipe, validate_stride=None)
    known = estimate.Throughput(train_seconds=1.0, predict_seconds=0.1, weight_bytes=100)
    wanted = 3 * 10 + 3 * 10 / 2 + (3 + 3) * 3 * 0.1
    found = estimate.cost(recipe, known, clips=10, validation_seconds=3.0)
    assert (found.seconds, found.disk_bytes) == (pytest.approx(wanted), 20 * 100)
    rarely = replace(recipe, validate_stride=3.0, averaging=replace(recipe.averaging, every=0))
    assert estimate.cost(rarely, known, clips=10, validation_seconds=3.0).seconds == pytest.approx(3 * 10 + 3 * 0.1)
    assert estimate.mel_bytes(recipe, 10.0) == 10 * 8_000 // 128 * 32 * 2
    monkeypatch.setattr(estimate, "measure", lambda *_, **__: known)
    one = reproduce.cost(replace(tiny, networks=tiny.networks[:1]))
    predict_seconds = (2 * 3.0 + 12.0) * 0.1 * 3
    own = estimate.cost(tiny.networks[0].recipe, known, clips=10, validation_seconds=3.0)
    music = sum(track.seconds for split in noises.splits.values() for track in split.tracks)
    assert (one.seconds, one.disk_bytes) == (
        pytest.approx(own.seconds + predict_seconds),
        own.disk_bytes + estimate.mel_bytes(recipe, music),
    )
    assert reproduce.cost(tiny).seconds > 1.9 * one.seconds


def test_throughput_is_measured(tiny):
    found = estimate.measure(tiny.networks[0].recipe, n_tags=2)
    assert found.train_seconds > 0 < found.predict_seconds
    assert found.weight_bytes > 4 * 1_000


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
assert len(ray.nodes()) == 2
import test_reproduce
from moodfield.datasets import mtg_jamendo
from moodfield.paper import reproduce
from moodfield.paper.plan import Plan
from moodfield.paper.reproduce import Progress
from moodfield.parallel import Backend
folder = Path(sys.argv[2])
dataset = mtg_jamendo.find(folder, audio=sys.argv[3])
plan = Plan.from_title("FAResNet", dataset, scale="small", settings=test_reproduce.ONE_EPOCH)
done = []
progress = Progress(network=lambda name, error: done.append((name, error)))
paths = test_reproduce.paths_of(plan, folder / "ray", folder / "store", 1, Backend.RAY)
row = reproduce.make(plan, paths, progress=progress)
assert done == [(each.name, None) for each in plan.networks], done
print(repr(row.test), repr(row.validation))
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.slow
def test_networks_are_trained_side_by_side_on_ray(noises, dataset, tmp_path, no_export):
    pytest.importorskip("ray", reason='Ray is not installed: pip install "moodfield[cluster]"')
    for part in ("train", "validation"):
        shutil.copy(dataset / f"{part}.tsv", tmp_path / f"noises-{part}.tsv")
    (tmp_path / "tags.txt").write_text("\n".join(TAGS))
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(here), str(tmp_path), str(dataset / "music")], capture_output=True,
        text=True, check=False, env=os.environ | {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plan = Plan.from_title("FAResNet", noises, scale="small", settings=ONE_EPOCH)
    wanted = make(plan, tmp_path / "here")
    assert done.stdout.splitlines()[-1] == f"{wanted.test!r} {wanted.validation!r}"
    name = plan.networks[1].name
    one, other = (np.load(tmp_path / place / "networks" / name / "test.npy") for place in ("ray", "here/row"))
    np.testing.assert_allclose(one, other, atol=1e-4)
    run = moodfield.load(tmp_path / "ray" / "networks" / name)
    assert run.vocabulary == TAGS
