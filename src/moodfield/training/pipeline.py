"""Training from a dataset to a run with model folders: extract mels, train, export."""

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32

from moodfield import arrays, files, tagger
from moodfield.card import WEIGHTS, Card, Provenance
from moodfield.datasets.mtg_jamendo import Split, Track
from moodfield.errors import DatasetError, MoodfieldError, MoodfieldWarning
from moodfield.evaluation import metrics
from moodfield.mel import MelConfig
from moodfield.nets import Net
from moodfield.parallel import Backend
from moodfield.training import checkpoints, checks, distributed, export, fine_tuning, loop, run_folder, validation
from moodfield.training.batches import ClipDataset, TrackTargets
from moodfield.training.distributed import ProcessGroup
from moodfield.training.log import EpochCallback
from moodfield.training.mel_cache import MelCache
from moodfield.training.recipe import Recipe

ProgressCallback = Callable[[Track, MoodfieldError | None], None]
"""called for every track when its mel is in the cache, or with the error of a track that cannot be read"""
LICENCE = "that of the data it was trained on; not stated"
TUNED_LICENCE = " (of the initial model; that of the data of fine-tuning is not stated)"


@dataclass(frozen=True)
class RunPaths:
    """Folders of a run, and how its mels are extracted."""

    audio_dir: Path
    """folder that the paths of tracks are relative to"""
    cache_dir: Path
    """folder of the mel cache, which runs share"""
    run_dir: Path
    """folder of the run"""
    jobs: int = 1
    """processes that extract mels"""
    backend: Backend = Backend.LOCAL
    """where they run; on Ray there are as many as the cluster has cores"""

    def mel_cache(self, config: MelConfig) -> MelCache:
        """The cached mels of this audio."""
        return MelCache(self.cache_dir, config, self.audio_dir)


def train(
    recipe: Recipe,
    train_split: Split,
    validation_split: Split,
    paths: RunPaths,
    *,
    name: str | None = None,
    soft_targets: Float32[np.ndarray, "tracks tags"] | None = None,
    initial_model: Path | None = None,
    progress: ProgressCallback = lambda *_: None,
    on_epoch: EpochCallback = lambda _: None,
    group: ProcessGroup | None = None,
) -> Card | None:
    """Train a network on one split, validate it on another, and export its snapshots as model folders in the run.

    Tracks that cannot be read are left out and reported. A run that was stopped is resumed; a finished one is only
    exported again. Several processes that torchrun started share the work; the first one reports and writes.

    Args:
        recipe: settings of the run.
        train_split: tracks to train on.
        validation_split: tracks that the best epoch and the thresholds are chosen on.
        paths: folders.
        name: name of the model; None exports no model folders.
        soft_targets: rows that replace the truth of `train_split`.
        initial_model: a model folder with the network and the mel of the recipe, to start from its weights; its output
            layer is replaced unless it has the same tags.
        progress: called for every track whose mel is ready or cannot be read.
        on_epoch: called after every epoch.
        group: the processes that train together; by default launched here.

    Returns:
        The card of the best epoch, None without model folders.

    Raises:
        ConfigError: the recipe does not fit the data, the initial model or the machine; found before any mel is
            computed.
        DatasetError: the splits or the soft targets cannot be trained on.
        OutputError: the folder holds something else than a run.
        RunError: the run has another recipe, vocabulary or truth, or training diverged.
        LockedError: another process works on the run.
    """
    targets = _check(recipe, train_split, validation_split, soft_targets)
    initial = fine_tuning.check(recipe, initial_model)
    group = group or distributed.launch(recipe.precision)
    if not group.is_main:
        progress = _silent
    with run_folder.lock(paths.run_dir, enabled=group.is_main, cache=paths.cache_dir):
        digest = _digest(train_split, targets, validation_split)
        weights_digest = files.sha256(initial_model / WEIGHTS) if initial_model else run_folder.RANDOM
        identity = {
            run_folder.VOCABULARY: list(train_split.vocabulary),
            run_folder.TRUTH: digest,
            run_folder.INITIAL_WEIGHTS: weights_digest,
        }
        if group.is_main:
            run_folder.check(paths.run_dir, recipe, identity)
        if group.world_size > 1 and paths.backend is Backend.LOCAL:
            _extract_shard(train_split.tracks + validation_split.tracks, recipe, paths, group)
        train_rows = extract_mels(train_split.tracks, recipe, paths, progress=progress)
        validation_rows = extract_mels(validation_split.tracks, recipe, paths, progress=progress)
        train_split, targets = train_split.take(train_rows), targets[train_rows]
        validation_split = validation_split.take(validation_rows)
        _check_tags(recipe, targets, validation_split.truth)
        if recipe.loss.kind == "tags" and group.is_main:
            _warn_of_absent_tags(targets, train_split.vocabulary)
        train_set = load_dataset(train_split, targets, recipe, paths)
        validation_set = load_dataset(validation_split, validation_split.truth.astype(np.float32), recipe, paths)
        statistics = paths.mel_cache(recipe.mel).statistics(train_split.tracks)
        if group.is_main:
            run_folder.claim(paths.run_dir, recipe, identity, cache=paths.cache_dir)
        weights = fine_tuning.initial_weights(initial_model, train_split.vocabulary) if initial_model else None
        net = loop.fit(
            recipe, train_set, validation_set, statistics, train_split.vocabulary, paths.run_dir,
            group=group, initial_weights=weights, on_epoch=on_epoch,
        )  # fmt: skip
        if name is None:
            return None
        trained, validated = len(train_rows), len(validation_rows)
        action = f"Fine-tuned from {initial.name}" if initial else "Trained"
        summary = f"{action} on {trained} tracks; thresholds chosen on {validated} validation tracks."
        licence = f"{initial.licence.removesuffix(TUNED_LICENCE)}{TUNED_LICENCE}" if initial else LICENCE
        card = export.describe(recipe, net, train_split.vocabulary, name=name, summary=summary, licence=licence)
        origin = {"initial weights": f"{initial.name}, SHA-256 {weights_digest}"} if initial else {}
        return _export(recipe, net, card, validation_set, paths.run_dir, group, origin)


def extract_mels(
    tracks: Sequence[Track], recipe: Recipe, paths: RunPaths, *, progress: ProgressCallback = lambda *_: None
) -> list[int]:
    """Extract the mels of tracks into the cache.

    Returns:
        The rows of the tracks that could be read.

    Raises:
        DatasetError: none of the tracks could be read.
    """
    rows, reason = [], "there are no tracks"
    results = paths.mel_cache(recipe.mel).extract(tracks, jobs=paths.jobs, backend=paths.backend)
    for row, (track, result) in enumerate(results):
        error = result if isinstance(result, MoodfieldError) else None
        progress(track, error)
        if error:
            reason = str(error)
        else:
            rows.append(row)
    if not rows:
        raise DatasetError(f"none of {len(tracks)} tracks below {paths.audio_dir} could be read; last error: {reason}")
    return rows


def load_dataset(
    split: Split, targets: Float32[np.ndarray, "tracks tags"], recipe: Recipe, paths: RunPaths
) -> ClipDataset:
    """The extracted mels of a split, mapped into memory, and its targets."""
    cache = paths.mel_cache(recipe.mel)
    return ClipDataset(tuple(cache.open(track) for track in split.tracks), TrackTargets(targets))


def read_soft_targets(path: str | Path) -> Float32[np.ndarray, "tracks tags"]:
    """Soft targets from a `.npy` file of numbers, tracks × tags.

    Raises:
        DatasetError: the file is missing, damaged, or holds something else.
    """
    expected = "soft targets: numbers, tracks × tags"
    rows = arrays.read_numbers(Path(path), ndim=2, expected=expected, error=DatasetError, kinds="iuf")
    return rows.astype(np.float32)


def _check(
    recipe: Recipe, train_split: Split, validation_split: Split, soft: Float32[np.ndarray, "_tracks _tags"] | None
) -> Float32[np.ndarray, "tracks tags"]:
    """The targets of all training tracks; raises all errors that can be found before any audio is read."""
    if train_split.vocabulary != validation_split.vocabulary:
        raise DatasetError("the two splits have different vocabularies; give both the same list of tags")
    targets = train_split.truth.astype(np.float32) if soft is None else soft
    if targets.shape != train_split.truth.shape:
        tracks, tags = train_split.truth.shape
        raise DatasetError(f"soft targets have shape {targets.shape}, expected are {tracks} tracks × {tags} tags")
    checks.check_targets(recipe.loss, targets)
    clips, processes = len(train_split.tracks), distributed.world_size()
    checks.check_recipe(recipe, n_tags=len(train_split.vocabulary), clips=clips, processes=processes)
    _check_tags(recipe, targets, validation_split.truth)
    return targets


def _check_tags(
    recipe: Recipe, targets: Float32[np.ndarray, "tracks tags"], truth: Bool[np.ndarray, "_tracks tags"]
) -> None:
    """Raise `DatasetError` if no training track, or no validation track, has a tag."""
    if recipe.loss.kind == "tags" and len(targets) and not targets.any():
        raise DatasetError(f"none of {len(targets)} training tracks has a tag; without any, there is nothing to learn")
    if not truth.any():
        raise DatasetError(f"none of {len(truth)} validation tracks has a tag; without any, no epoch can be validated")


def _warn_of_absent_tags(targets: Float32[np.ndarray, "tracks tags"], vocabulary: Sequence[str]) -> None:
    absent = [tag for tag, column in zip(vocabulary, targets.T, strict=True) if not column.any()]
    if absent:
        remedy = "the network will never predict it; add tracks that have it, or leave it out of the tags"
        warnings.warn(f"no training track has {', '.join(absent)}: {remedy}", MoodfieldWarning, stacklevel=3)


def _digest(train_split: Split, targets: Float32[np.ndarray, "tracks tags"], validation_split: Split) -> str:
    """A SHA-256 that identifies the tracks and the truth of a run."""
    names = json.dumps([[track.path for track in split.tracks] for split in (train_split, validation_split)]).encode()
    return hashlib.sha256(b"".join((names, targets.tobytes(), validation_split.truth.tobytes()))).hexdigest()


def _silent(*_: object) -> None:
    """Report nothing: of several processes only the first one does."""


def _extract_shard(tracks: Sequence[Track], recipe: Recipe, paths: RunPaths, group: ProcessGroup) -> None:
    """Extract this process's share of the tracks; errors are found again, and reported, by `extract_mels`."""
    shard = [tracks[row] for row in group.shard_indices(len(tracks))]
    for _ in paths.mel_cache(recipe.mel).extract(shard, jobs=max(1, paths.jobs // group.world_size)):
        pass
    group.barrier()


def _export(
    recipe: Recipe, net: Net, card: Card, validation_set: ClipDataset, run_dir: Path, group: ProcessGroup,
    origin: Mapping[str, str],
) -> Card:  # fmt: skip
    """Export every snapshot as a model folder in the run, which `moodfield.load(run_dir)` loads.

    A run predicts with the mean of its snapshots (§3.4): thresholds and metrics are those of the mean.

    Returns:
        The card of the best epoch.
    """
    scores = {}
    group.fabric.to_device(net)
    for snapshot, weights in checkpoints.snapshot_paths(recipe, run_dir).items():
        checkpoints.load_weights(net, weights)
        scores[snapshot] = validation.predict(recipe, net, validation_set, card.vocabulary, group=group)
    truth, mean = validation_set.targets.per_track() >= 0.5, np.mean(list(scores.values()), axis=0)
    thresholds = np.clip(metrics.best_thresholds(truth, mean), 0, 1)  # above 1 is never, below 0 is always
    report = metrics.evaluate(truth, mean, decisions=metrics.decide(mean, thresholds), tags=card.vocabulary)
    figures = {f"validation {metric}": value for metric, value in report.to_dict().items() if np.isfinite(value)}
    if report.without_positives:
        tags = ", ".join(report.without_positives)
        origin = {**origin, "tags without a validation track, left out of the means": tags}
    if len(scores) > 1:
        summary = f"{card.summary} One of {len(scores)} snapshots; thresholds and metrics are those of their mean."
        card = replace(card, summary=summary)
    card = replace(card, thresholds=tuple(thresholds.tolist()))
    for snapshot, weights in checkpoints.snapshot_paths(recipe, run_dir).items() if group.is_main else ():
        checkpoints.load_weights(net, weights)
        alone = metrics.evaluate(truth, scores[snapshot]).macro["PR-AUC"]
        own = {"validation PR-AUC-macro of this snapshot alone": alone} if len(scores) > 1 else {}
        export.export(net, card, run_dir / snapshot, Provenance(origin=origin, metrics=figures | own))
    group.barrier()
    return Card.read(run_dir / tagger.BEST)
