"""Reproduction of a row of Table 1: train the networks, average their scores, evaluate."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64

from moodfield import arrays, files, parallel
from moodfield.datasets.mtg_jamendo import Dataset
from moodfield.errors import DatasetError, MoodfieldError, RunError
from moodfield.evaluation import bootstrap, mediaeval, metrics, submissions
from moodfield.evaluation.bootstrap import Interval
from moodfield.nets import summary
from moodfield.paper import recipes
from moodfield.paper.plan import Network, Plan
from moodfield.parallel import Backend
from moodfield.training import checkpoints, distributed, estimate, pipeline, run_folder, validation
from moodfield.training.estimate import Cost, Throughput
from moodfield.training.log import Epoch
from moodfield.training.pipeline import ProgressCallback, RunPaths
from moodfield.training.recipe import Recipe

NETWORKS, ROW, TRACKS = "networks", "row.json", "tracks.json"
"""names in the folder of a reproduction: its runs and row; in the folder of runs: the readable tracks"""
SPLITS = ("validation", "test")
"""splits that every network predicts; thresholds are chosen on the first"""

Scores = Float64[np.ndarray, "tracks tags"]
Snapshots = Float32[np.ndarray, "_ tracks tags"]
"""scores of the snapshots of a network, the best epoch first"""


@dataclass(frozen=True)
class Row:
    """A row of Table 1, as reproduced."""

    title: str
    """the submission, by its name in Table 1"""
    dataset: str
    """name of the dataset"""
    note: str
    """a warning about the dataset, if any"""
    changes: tuple[str, ...]
    """differences from the paper: `small`, and settings"""
    validation: float
    """macro PR-AUC on the validation tracks, which also choose best epochs and thresholds"""
    test: float
    """macro PR-AUC on the test tracks"""
    interval: Interval
    """its 95 % confidence interval over tracks; NaN where there are too few"""
    networks: dict[str, tuple[float, ...]]
    """validation and test PR-AUC of every network alone, as the mean of its snapshots and as its best epoch"""
    official: dict[str, float]
    """all metrics of the task on the test tracks"""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an end of the interval that is NaN becomes None."""
        return asdict(self) | {"interval": [None if math.isnan(end) else end for end in self.interval]}


@dataclass(frozen=True)
class Progress:
    """Callbacks of a reproduction."""

    track: ProgressCallback = lambda *_: None
    """called with every track whose mel is in the cache, or cannot be computed, and the error"""
    epoch: Callable[[str, Epoch], None] = lambda *_: None
    """called with the name of a network and every epoch of its training in this process"""
    network: Callable[[str, MoodfieldError | None], None] = lambda *_: None
    """called with the name of every network that is finished, now or before, or failed, and the error"""


SILENT = Progress()
"""no callbacks"""


def cost(plan: Plan) -> Cost:
    """Estimate time and disk of a plan on this machine.

    A training step is timed for one network of each family; the others are scaled by their operations.
    """
    seconds = {part: sum(track.seconds for track in split.tracks) for part, split in plan.dataset.splits.items()}
    n_tags, n_tracks = len(plan.dataset.train.vocabulary), len(plan.dataset.train.tracks)
    disk_bytes = sum(estimate.mel_bytes(recipe, sum(seconds.values())) for recipe in _recipe_per_mel(plan.networks))
    total = Cost(0.0, disk_bytes)
    measured: dict[tuple[object, ...], tuple[float, Throughput]] = {}
    for recipe in (network.recipe for network in plan.networks):
        family = type(recipe.net), recipe.mel, recipe.precision
        gmac = summary.summarize(recipe.net, recipe.mel, n_tags=n_tags).gmac
        if family not in measured:
            measured[family] = gmac, estimate.measure(recipe, n_tags=n_tags)
        throughput = measured[family][1].scale(gmac / measured[family][0])
        predicted = 2 * seconds["validation"] + seconds["test"]  # the export predicts the validation tracks once more
        predict_seconds = predicted / recipe.batch.clip_seconds * throughput.predict_seconds
        total += estimate.cost(recipe, throughput, clips=n_tracks, validation_seconds=seconds["validation"])
        total += Cost(predict_seconds * len(checkpoints.snapshot_paths(recipe, Path())), 0)
    return total


def make(plan: Plan, paths: RunPaths, *, progress: Progress = SILENT) -> Row:
    """Extract mels, train, average, evaluate and write; finished networks are reused, interrupted ones continue.

    The folder contains the submission to the task (test tracks, thresholds chosen on the validation tracks), the runs
    of the networks, each of which is a tagger too, and the row.

    Args:
        plan: networks and dataset.
        paths: `run_dir` is the folder of the reproduction: new, or of the same plan. On Ray networks are trained side
            by side.
        progress: callbacks.

    Raises:
        RunError: the folder belongs to another plan, or a network could not be trained.
        OutputError: the folder is not a reproduction.
        LockedError: another process uses the folder.
        DatasetError: a test track cannot be read; a submission has a row for every one.
    """
    folder = paths.run_dir
    with plan.lock(folder):
        submission, dataset = recipes.SUBMISSIONS[plan.title], plan.dataset
        if submission.constant:
            scores = {part: _constant_scores(submission.constant, dataset, part) for part in SPLITS}
            return _write(plan, folder, scores, {})
        dataset, snapshots = train(plan.networks, dataset, replace(paths, run_dir=folder / NETWORKS), progress=progress)
        networks = {
            f"{name}, {label}": tuple(pr_auc(dataset, part, pool(by_split[part])) for part in SPLITS)
            for name, by_split in snapshots.items()
            for label, pool in (("mean of snapshots", _mean), ("best epoch", _best))
        }
        pool = _mean if submission.starred else _best
        scores = {part: _mean(np.stack([pool(by_split[part]) for by_split in snapshots.values()])) for part in SPLITS}
        return _write(replace(plan, dataset=dataset), folder, scores, networks)


def train(
    networks: Sequence[Network], dataset: Dataset, paths: RunPaths, *, progress: Progress = SILENT,
    export: bool = True,
) -> tuple[Dataset, dict[str, dict[str, Snapshots]]]:  # fmt: skip
    """Train networks, a run each, and predict the validation and test tracks; finished runs are only read.

    On Ray networks are trained side by side, each with a GPU if there are any.

    Args:
        networks: the networks.
        dataset: training, validation and test tracks.
        paths: `run_dir` is the folder of the runs.
        progress: callbacks.
        export: whether runs have model folders besides weights.

    Returns:
        The dataset without the tracks that cannot be read; name of the network → split → scores of its snapshots, the
        best epoch first.

    Raises:
        DatasetError: a test track cannot be read.
        RunError: networks could not be trained; the others are trained nevertheless.
    """
    dataset = _take_readable(networks, dataset, paths, progress.track)
    pending = _pending(networks, paths)
    for network in networks:
        if network not in pending:
            progress.network(network.name, None)
    folders = {name: getattr(paths, name).absolute() for name in ("audio_dir", "cache_dir", "run_dir")}
    callbacks = progress if paths.backend is Backend.LOCAL else SILENT
    work = partial(_train, dataset, RunPaths(**folders), export=export, progress=callbacks)
    failed = []
    for network, error in parallel.map(work, pending, backend=paths.backend, with_gpu=True):
        progress.network(network.name, error)
        failed += [f"{network.name}: {error}"] if error else []
    if failed:
        raise RunError(
            f"{len(failed)} of {len(networks)} networks could not be trained: {'; '.join(failed)}; the others are "
            "kept, and the same command continues from there"
        )
    snapshots: dict[str, dict[str, Snapshots]] = {network.name: {} for network in networks}
    for name, part in product(snapshots, SPLITS):
        shape, path = (None, *dataset.splits[part].truth.shape), paths.run_dir / name / f"{part}.npy"
        snapshots[name][part] = arrays.read(path, np.float32, shape, remedy="delete it, and start again")
    return dataset, snapshots


def _train(dataset: Dataset, paths: RunPaths, network: Network, *, export: bool, progress: Progress) -> None:
    """Train one network, and write the scores of its snapshots; on a cluster without callbacks."""
    recipe, own = network.recipe, replace(paths, run_dir=paths.run_dir / network.name)
    group = distributed.launch(recipe.precision)
    name, on_epoch = network.name if export else None, partial(progress.epoch, network.name)
    pipeline.train(recipe, dataset.train, dataset.validation, own, name=name, on_epoch=on_epoch, group=group)
    net = recipe.net.build(n_mels=recipe.mel.n_mels, n_tags=len(dataset.train.vocabulary))
    group.fabric.to_device(net)
    for part in SPLITS:
        split = dataset.splits[part]
        tracks = pipeline.load_dataset(split, split.truth.astype(np.float32), recipe, own)
        scores = []
        for weights in checkpoints.snapshot_paths(recipe, own.run_dir).values():
            checkpoints.load_weights(net, weights)
            scores.append(validation.predict(recipe, net, tracks, split.vocabulary))
        arrays.write(own.run_dir / f"{part}.npy", np.stack(scores))


def _pending(networks: Sequence[Network], paths: RunPaths) -> list[Network]:
    """Networks without scores; those with a run of another recipe count, and raise later."""
    return [network for network in networks if not _is_finished(paths.run_dir / network.name, network.recipe)]


def _is_finished(run: Path, recipe: Recipe) -> bool:
    """Whether a run of this recipe has all its scores, which are written last."""
    shape = (len(checkpoints.snapshot_paths(recipe, run)), None, None)
    if any(arrays.shape(run / f"{part}.npy", np.float32, shape) is None for part in SPLITS):
        return False  # missing or damaged; computed again
    return Recipe.read(run / run_folder.RECIPE).canonical() == recipe.canonical()


def _take_readable(
    networks: Sequence[Network], dataset: Dataset, paths: RunPaths, progress: ProgressCallback
) -> Dataset:
    """Compute the mels of the networks; the dataset without the tracks that cannot be read.

    The readable tracks are stored beside the runs, and used from then on.

    Raises:
        DatasetError: a test track cannot be read, or one that could be read before.
    """
    path = paths.run_dir / TRACKS
    before = _rows(path, dataset) if path.is_file() else None
    if before and not _pending(networks, paths):
        kept = dataset.take(before)
        for track in chain(*(split.tracks for split in kept.splits.values())):
            progress(track, None)
        return kept
    rows = before or {part: list(range(len(split.tracks))) for part, split in dataset.splits.items()}
    for recipe in _recipe_per_mel(networks):
        for part, split in dataset.splits.items():
            indices = pipeline.extract_mels(split.take(rows[part]).tracks, recipe, paths, progress=progress)
            lost = len(rows[part]) - len(indices)
            if lost and (before or part == "test"):
                reason = "that could be read before" if before else "and a submission has a row for every one"
                raise DatasetError(
                    f"{lost} of {len(rows[part])} {part} tracks cannot be read, {reason}; repair them, or remove them "
                    "from the index and use another folder"
                )
            rows[part] = [rows[part][index] for index in indices]
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, json.dumps(rows).encode())
    return dataset.take(rows)


def _rows(path: Path, dataset: Dataset) -> dict[str, list[int]]:
    """The rows of readable tracks of every split, from a file; raises if it is damaged."""
    remedy = "remove it, and all tracks are read again"
    rows: dict[str, list[int]] = files.read_json(path, dict, remedy=remedy)
    for part, split in dataset.splits.items():
        indices = rows.get(part)
        if not isinstance(indices, list) or not all(
            type(row) is int and 0 <= row < len(split.tracks) for row in indices
        ):
            raise RunError(f"{path} is damaged: it has no valid rows of the {part} tracks; {remedy}")
    return rows


def _write(plan: Plan, folder: Path, scores: dict[str, Scores], networks: dict[str, tuple[float, ...]]) -> Row:
    """Write the submission, with thresholds chosen on the validation tracks, and its row."""
    vocabulary, truth = plan.dataset.test.vocabulary, plan.dataset.test.truth
    thresholds = metrics.best_thresholds(plan.dataset.validation.truth, scores["validation"])
    submission = submissions.make(scores["test"], thresholds, vocabulary)
    evaluated = mediaeval.evaluate(truth, submission, vocabulary=vocabulary, n_resamples=bootstrap.N_RESAMPLES)
    row = Row(
        title=plan.title,
        dataset=plan.dataset.name,
        note=plan.dataset.note,
        changes=plan.changes,
        validation=pr_auc(plan.dataset, "validation", scores["validation"]),
        test=evaluated.report.macro["PR-AUC"],
        interval=evaluated.intervals["PR-AUC-macro"],
        networks=networks,
        official=evaluated.report.to_dict(),
    )
    files.write(folder / ROW, (json.dumps(row.to_dict(), indent=2) + "\n").encode())
    if plan.networks:  # constant scores are no submission
        submissions.write(submission, folder, vocabulary=vocabulary)
    return row


def _mean(scores: np.ndarray) -> Scores:
    """Mean over the first axis: snapshots of a network, or networks of a submission (§3.4)."""
    return np.asarray(scores.mean(axis=0, dtype=np.float64))


def _best(scores: Snapshots) -> Scores:
    """Scores of the best epoch, the first of the snapshots."""
    return scores[0].astype(np.float64)


def pr_auc(dataset: Dataset, part: str, scores: np.ndarray) -> float:
    """Macro PR-AUC on a split."""
    return metrics.evaluate(dataset.splits[part].truth, scores).macro["PR-AUC"]


def _constant_scores(kind: Literal["popular", "random"], dataset: Dataset, part: str) -> Scores:
    """Scores of a baseline without networks."""
    shape = dataset.splits[part].truth.shape
    if kind == "random":
        return np.random.default_rng(recipes.SEEDS[0]).random(shape)
    commonest = int(dataset.train.truth.sum(axis=0).argmax())
    return np.tile(np.arange(shape[1]) == commonest, (shape[0], 1)).astype(np.float64)


def _recipe_per_mel(networks: Sequence[Network]) -> list[Recipe]:
    """One recipe for every mel config of the networks."""
    return list({network.recipe.mel: network.recipe for network in networks}.values())
