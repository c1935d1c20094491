"""A dataset becomes a run, from audio to model folder.

In: splits, the folder of their audio, and a recipe. Out: a run whose best network is a model folder.
Knows nothing of: command lines, or where the truth came from.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from moodfield import arrays, tagger
from moodfield.card import Card, Provenance
from moodfield.datasets.mtg_jamendo import Split, Track
from moodfield.errors import DatasetError, MoodfieldError, MoodfieldWarning
from moodfield.evaluation import metrics
from moodfield.mel import MelConfig
from moodfield.nets import Net
from moodfield.parallel import Backend
from moodfield.training import checks, distributed, export, loop, run_folder, validation
from moodfield.training.batches import ClipDataset, TrackTargets
from moodfield.training.distributed import ProcessGroup
from moodfield.training.loop import Epoch
from moodfield.training.mel_cache import MelCache
from moodfield.training.recipe import Recipe

ProgressCallback = Callable[[Track, MoodfieldError | None], None]
"""told of every track when its mel is there, or why it is not"""


@dataclass(frozen=True)
class RunPaths:
    """Where a run finds its music and leaves its work."""

    audio_dir: Path
    """the folder that the paths of tracks are below"""
    cache_dir: Path
    """the folder of the cache of mels, which runs share"""
    run_dir: Path
    """the folder of the run"""
    jobs: int = 1
    """processes that extract mels"""
    backend: Backend = Backend.LOCAL
    """where they do; on Ray there are as many as the cluster has cores"""

    def mel_cache(self, config: MelConfig) -> MelCache:
        """The cached mels of this music."""
        return MelCache(self.cache_dir, config, self.audio_dir)


def train(
    recipe: Recipe,
    training: Split,
    validation_split: Split,
    paths: RunPaths,
    *,
    name: str,
    soft_targets: Float32[np.ndarray, "tracks tags"] | None = None,
    progress: ProgressCallback = lambda *_: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Card:
    """Train by a recipe on one split, judged by another, and leave its snapshots as model folders in the run.

    `soft` takes the place of the truth of `learn`, row by row. Tracks that cannot be read are left out and reported. A
    run that was stopped goes on; one that is finished is only exported again. Several processes that torchrun started
    share the work; the first one reports and writes. Refuses, before any mel is computed, what cannot be trained, a
    folder that is no run or the run of another recipe, vocabulary or truth, and a run that another process works on.
    """
    _check(recipe, training, validation_split, soft_targets)
    with run_folder.lock(paths.run_dir, wanted=distributed.is_main(), cache=paths.cache_dir):
        net, learning, judging = train_network(
            recipe, training, validation_split, paths, soft_targets=soft_targets, progress=progress, on_epoch=on_epoch
        )
        learned, judged = len(learning.mels), len(judging.mels)
        summary = f"Trained on {learned} tracks; thresholds chosen on {judged} validation tracks."
        return _export(recipe, net, judging, training.vocabulary, paths.run_dir, name=name, summary=summary)


def train_network(
    recipe: Recipe,
    training: Split,
    validation_split: Split,
    paths: RunPaths,
    *,
    soft_targets: Float32[np.ndarray, "tracks tags"] | None = None,
    progress: ProgressCallback = lambda *_: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> tuple[Net, ClipDataset, ClipDataset]:
    """As `train`, without model folders; the network of the best epoch, and what it learned from and was judged by."""
    team = distributed.launch(recipe.precision)
    truth = _check(recipe, training, validation_split, soft_targets)
    with run_folder.lock(paths.run_dir, wanted=team.is_main, cache=paths.cache_dir):
        decided = {
            run_folder.VOCABULARY: list(training.vocabulary),
            run_folder.TRUTH: _digest(training, truth, validation_split),
        }
        if team.is_main:
            run_folder.check(paths.run_dir, recipe, decided)
        if team.world_size > 1 and paths.backend is Backend.LOCAL:
            _extract_own(training.tracks + validation_split.tracks, recipe, paths, team)
        kept, judged = (
            extract_mels(split.tracks, recipe, paths, progress=progress if team.is_main else lambda *_: None)
            for split in (training, validation_split)
        )
        if not validation_split.truth[judged].any():
            raise DatasetError(
                f"none of {len(judged)} validation tracks has a tag; without any, no epoch can be judged"
            )
        if recipe.loss.kind == "tags" and team.is_main:
            _look_for_tags(truth[kept], training.vocabulary)
        learning = load_dataset(training.take(kept), truth[kept], recipe, paths)
        judging = load_dataset(
            validation_split.take(judged), validation_split.truth[judged].astype(np.float32), recipe, paths
        )
        statistics = paths.mel_cache(recipe.mel).statistics(training.take(kept).tracks)
        if team.is_main:
            run_folder.claim(paths.run_dir, recipe, decided, cache=paths.cache_dir)
        net = loop.fit(recipe, learning, judging, statistics, training.vocabulary, paths.run_dir, on_epoch=on_epoch)
        return net, learning, judging


def _check(
    recipe: Recipe, learn: Split, judge: Split, soft: Float32[np.ndarray, "_tracks _tags"] | None
) -> Float32[np.ndarray, "tracks tags"]:
    """The truth of all training tracks; refuses whatever can be known to be wrong before any audio is read."""
    if learn.vocabulary != judge.vocabulary:
        raise DatasetError("the two splits have different vocabularies; give both the same list of tags")
    truth = learn.truth.astype(np.float32) if soft is None else soft
    if truth.shape != learn.truth.shape:
        raise DatasetError(
            f"soft truth of shape {truth.shape} came for {learn.truth.shape[0]} tracks and {learn.truth.shape[1]} tags"
        )
    checks.check_targets(recipe.loss, truth)
    clips, processes = len(learn.tracks), distributed.world_size()
    checks.check_recipe(recipe, tags=len(learn.vocabulary), clips=clips, processes=processes)
    if recipe.loss.kind == "tags" and len(truth) and not truth.any():
        raise DatasetError(f"none of {len(truth)} training tracks has a tag; without any, there is nothing to learn")
    if not judge.truth.any():
        raise DatasetError(
            f"none of {len(judge.tracks)} validation tracks has a tag; without any, no epoch can be judged"
        )
    return truth


def _digest(learn: Split, truth: Float32[np.ndarray, "tracks tags"], judge: Split) -> str:
    """What tells the tracks of a run, and what is true of them, from those of any other."""
    names = json.dumps([[track.path for track in split.tracks] for split in (learn, judge)]).encode()
    return hashlib.sha256(b"".join((names, truth.tobytes(), judge.truth.tobytes()))).hexdigest()


def _look_for_tags(truth: Float32[np.ndarray, "tracks tags"], vocabulary: Sequence[str]) -> None:
    """Refuse truth without any tag, and warn of tags that no track has."""
    absent = [tag for tag, column in zip(vocabulary, truth.T, strict=True) if not column.any()]
    if len(absent) == len(vocabulary):
        raise DatasetError(f"none of {len(truth)} training tracks has a tag; without any, there is nothing to learn")
    if absent:
        warnings.warn(
            f"no training track has {', '.join(absent)}: the network learns never to say so; "
            "give it tracks that have, or tags without",
            MoodfieldWarning,
            stacklevel=3,
        )


def _extract_own(tracks: Sequence[Track], recipe: Recipe, place: RunPaths, team: ProcessGroup) -> None:
    """A team extracts every track once, each process its own; what fails is found, and reported, by `extract_mels`."""
    own = [tracks[row] for row in team.shard_indices(len(tracks))]
    for _ in place.mel_cache(recipe.mel).extract(own, jobs=max(1, place.jobs // team.world_size)):
        pass
    team.barrier()


def _export(
    recipe: Recipe,
    net: Net,
    judging: ClipDataset,
    vocabulary: Sequence[str],
    run: Path,
    *,
    name: str,
    summary: str,
) -> Card:
    """Leave every snapshot as a model folder in the run, which `moodfield.load(run)` opens; the card of the best epoch.

    The run speaks with the mean of its snapshots (§3.4): thresholds and figures are those of the mean.
    """
    scores, team = {}, distributed.launch(recipe.precision)
    team.fabric.to_device(net)
    for snapshot, weights in loop.snapshot_paths(recipe, run).items():
        loop.load_weights(net, weights)
        scores[snapshot] = validation.predict(recipe, net, judging, vocabulary, group=team)
    wanted, mean = judging.targets.per_track() >= 0.5, np.mean(list(scores.values()), axis=0)
    chosen = np.clip(metrics.best_thresholds(wanted, mean), 0, 1)  # above 1 is never, above 0 is always
    found = metrics.evaluate(wanted, mean, decisions=metrics.decide(mean, chosen), tags=vocabulary)
    figures = {f"validation {measure}": value for measure, value in found.to_dict().items() if np.isfinite(value)}
    if found.without_positives:
        figures["tags without a validation track, left out of the means"] = float(len(found.without_positives))
    if len(scores) > 1:
        summary += f" One of {len(scores)} snapshots, whose mean the thresholds and figures belong to."
    described = export.describe(
        recipe,
        net,
        vocabulary,
        name=name,
        summary=summary,
        licence="that of the data it was trained on; not stated",
        thresholds=chosen.tolist(),
    )
    origin = (
        {"tags that no validation track has": ", ".join(found.without_positives)} if found.without_positives else {}
    )
    for snapshot, weights in loop.snapshot_paths(recipe, run).items() if team.is_main else ():
        loop.load_weights(net, weights)
        alone = metrics.evaluate(wanted, scores[snapshot]).macro["PR-AUC"]
        own = {"validation PR-AUC-macro of this snapshot alone": alone} if len(scores) > 1 else {}
        export.export(net, described, run / snapshot, Provenance(origin=origin, metrics=figures | own))
    team.barrier()
    return Card.read(run / tagger.BEST)


def extract_mels(
    tracks: Sequence[Track], recipe: Recipe, paths: RunPaths, *, progress: ProgressCallback = lambda *_: None
) -> list[int]:
    """Extract the mels of tracks; which of them could be read. Refuses when none could."""
    kept, why = [], ""
    for row, (track, result) in enumerate(
        paths.mel_cache(recipe.mel).extract(tracks, jobs=paths.jobs, backend=paths.backend)
    ):
        failed = isinstance(result, MoodfieldError)
        progress(track, result if isinstance(result, MoodfieldError) else None)
        if failed:
            why = str(result)
        else:
            kept.append(row)
    if not kept:
        raise DatasetError(
            f"none of {len(tracks)} tracks below {paths.audio_dir} could be read; the last one: {why or 'none came'}"
        )
    return kept


def read_soft_targets(path: str | Path) -> Float32[np.ndarray, "tracks tags"]:
    """Soft truth from a `.npy` file of numbers, tracks × tags; refuses any other file with `DatasetError`."""
    expected = "soft targets, one number per track and tag"
    return arrays.read_numbers(Path(path), ndim=2, expected=expected, error=DatasetError, kinds="iuf").astype(
        np.float32
    )


def load_dataset(
    split: Split, truth: Float32[np.ndarray, "tracks tags"], recipe: Recipe, paths: RunPaths
) -> ClipDataset:
    """The extracted mels of a split, and its truth."""
    mels = paths.mel_cache(recipe.mel)
    return ClipDataset(tuple(mels.open(track) for track in split.tracks), TrackTargets(truth))
