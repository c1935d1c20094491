"""A dataset becomes a run, from audio to model folder.

In: splits, the folder of their audio, and a recipe. Out: a run whose best network is a model folder.
Knows nothing of: command lines, or where the truth came from.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from moodfield import arrays, card, tagger
from moodfield.card import Card
from moodfield.datasets.mtg_jamendo import Split, Track
from moodfield.errors import DatasetError, MoodfieldError, MoodfieldWarning
from moodfield.evaluation import metrics
from moodfield.mel import MelConfig
from moodfield.nets import Net
from moodfield.parallel import Backend
from moodfield.training import checks, distributed, export, loop, run_folder, validation
from moodfield.training.batches import ClipDataset, TrackTruth
from moodfield.training.distributed import ProcessGroup
from moodfield.training.loop import Epoch
from moodfield.training.mel_cache import MelCache
from moodfield.training.recipe import Recipe

ProgressCallback = Callable[[Track, MoodfieldError | None], None]
"""told of every track when its mel is there, or why it is not"""


@dataclass(frozen=True)
class RunPaths:
    """Where a run finds its music and leaves its work."""

    music: Path
    """the folder that the paths of tracks are below"""
    store: Path
    """the folder of the cache of mels, which runs share"""
    run: Path
    """the folder of the run"""
    jobs: int = 1
    """processes that extract mels"""
    backend: Backend = Backend.LOCAL
    """where they do; on Ray there are as many as the cluster has cores"""

    def mels(self, config: MelConfig) -> MelCache:
        """The cached mels of this music."""
        return MelCache(self.store, config, self.music)


def train(
    plan: Recipe,
    learn: Split,
    judge: Split,
    place: RunPaths,
    *,
    name: str,
    soft: Float32[np.ndarray, "tracks tags"] | None = None,
    heard: ProgressCallback = lambda *_: None,
    report: Callable[[Epoch], None] = lambda _: None,
) -> Card:
    """Train by a recipe on one split, judged by another, and leave its snapshots as model folders in the run.

    `soft` takes the place of the truth of `learn`, row by row. Tracks that cannot be read are left out and reported. A
    run that was stopped goes on; one that is finished is only exported again. Several processes that torchrun started
    share the work; the first one reports and writes. Refuses, before any mel is computed, what cannot be trained, a
    folder that is no run or the run of another recipe, vocabulary or truth, and a run that another process works on.
    """
    _check(plan, learn, judge, soft)
    with run_folder.locked(place.run, wanted=distributed.is_main(), cache=place.store):
        net, learning, judging = weights(plan, learn, judge, place, soft=soft, heard=heard, report=report)
        learned, judged = len(learning.mels), len(judging.mels)
        summary = f"Trained on {learned} tracks; thresholds chosen on {judged} validation tracks."
        return _export(plan, net, judging, learn.vocabulary, place.run, name=name, summary=summary)


def weights(
    plan: Recipe,
    learn: Split,
    judge: Split,
    place: RunPaths,
    *,
    soft: Float32[np.ndarray, "tracks tags"] | None = None,
    heard: ProgressCallback = lambda *_: None,
    report: Callable[[Epoch], None] = lambda _: None,
) -> tuple[Net, ClipDataset, ClipDataset]:
    """As `train`, without model folders; the network of the best epoch, and what it learned from and was judged by."""
    team = distributed.launch(plan.precision)
    truth = _check(plan, learn, judge, soft)
    with run_folder.locked(place.run, wanted=team.is_main, cache=place.store):
        decided = {run_folder.VOCABULARY: list(learn.vocabulary), run_folder.TRUTH: _digest(learn, truth, judge)}
        if team.is_main:
            run_folder.check(place.run, plan, decided)
        if team.world_size > 1 and place.backend is Backend.LOCAL:
            _extract_own(learn.tracks + judge.tracks, plan, place, team)
        kept, judged = (
            gather(split.tracks, plan, place, heard=heard if team.is_main else lambda *_: None)
            for split in (learn, judge)
        )
        if not judge.truth[judged].any():
            raise DatasetError(
                f"none of {len(judged)} validation tracks has a tag; without any, no epoch can be judged"
            )
        if plan.loss.kind == "tags" and team.is_main:
            _look_for_tags(truth[kept], learn.vocabulary)
        learning = material(learn.take(kept), truth[kept], plan, place)
        judging = material(judge.take(judged), judge.truth[judged].astype(np.float32), plan, place)
        statistics = place.mels(plan.mel).statistics(learn.take(kept).tracks)
        if team.is_main:
            run_folder.claim(place.run, plan, decided, cache=place.store)
        net = loop.train(plan, learning, judging, statistics, learn.vocabulary, place.run, report=report)
        return net, learning, judging


def _check(
    plan: Recipe, learn: Split, judge: Split, soft: Float32[np.ndarray, "_tracks _tags"] | None
) -> Float32[np.ndarray, "tracks tags"]:
    """The truth of all training tracks; refuses whatever can be known to be wrong before any audio is read."""
    if learn.vocabulary != judge.vocabulary:
        raise DatasetError("the two splits have different vocabularies; give both the same list of tags")
    truth = learn.truth.astype(np.float32) if soft is None else soft
    if truth.shape != learn.truth.shape:
        raise DatasetError(
            f"soft truth of shape {truth.shape} came for {learn.truth.shape[0]} tracks and {learn.truth.shape[1]} tags"
        )
    checks.check_truth(plan.loss, truth)
    clips, processes = len(learn.tracks), distributed.world_size()
    checks.check_plan(plan, tags=len(learn.vocabulary), clips=clips, processes=processes)
    if plan.loss.kind == "tags" and len(truth) and not truth.any():
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


def _extract_own(tracks: Sequence[Track], plan: Recipe, place: RunPaths, team: ProcessGroup) -> None:
    """A team extracts every track once, each process its own; what fails is found, and reported, by `gather`."""
    own = [tracks[row] for row in team.shard_indices(len(tracks))]
    for _ in place.mels(plan.mel).extract(own, jobs=max(1, place.jobs // team.world_size)):
        pass
    team.barrier()


def _export(
    plan: Recipe,
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
    scores, team = {}, distributed.launch(plan.precision)
    team.fabric.to_device(net)
    for snapshot, weights in loop.snapshots(plan, run).items():
        loop.load(net, weights)
        scores[snapshot] = validation.predict(plan, net, judging, vocabulary, team=team)
    wanted, mean = judging.truth.tracks() >= 0.5, np.mean(list(scores.values()), axis=0)
    chosen = np.clip(metrics.thresholds(wanted, mean), 0, 1)  # above 1 is never, above 0 is always
    found = metrics.evaluate(wanted, mean, decisions=metrics.decide(mean, chosen), tags=vocabulary)
    figures = {f"validation {measure}": value for measure, value in found.to_dict().items() if np.isfinite(value)}
    if found.undefined:
        figures["tags without a validation track, left out of the means"] = float(len(found.undefined))
    if len(scores) > 1:
        summary += f" One of {len(scores)} snapshots, whose mean the thresholds and figures belong to."
    described = export.describe(
        plan,
        net,
        vocabulary,
        name=name,
        summary=summary,
        licence="that of the data it was trained on; not stated",
        thresholds=chosen.tolist(),
        origin={"tags that no validation track has": ", ".join(found.undefined)} if found.undefined else {},
        figures=figures,
    )
    for snapshot, weights in loop.snapshots(plan, run).items() if team.is_main else ():
        loop.load(net, weights)
        alone = metrics.evaluate(wanted, scores[snapshot]).macro["PR-AUC"]
        own = {"validation PR-AUC-macro of this snapshot alone": alone} if len(scores) > 1 else {}
        export.export(net, replace(described, figures=figures | own), run / snapshot)
    team.barrier()
    return card.read(run / tagger.BEST)


def gather(
    tracks: Sequence[Track], plan: Recipe, place: RunPaths, *, heard: ProgressCallback = lambda *_: None
) -> list[int]:
    """Extract the mels of tracks; which of them could be read. Refuses when none could."""
    kept, why = [], ""
    for row, (track, result) in enumerate(place.mels(plan.mel).extract(tracks, jobs=place.jobs, backend=place.backend)):
        failed = isinstance(result, MoodfieldError)
        heard(track, result if isinstance(result, MoodfieldError) else None)
        if failed:
            why = str(result)
        else:
            kept.append(row)
    if not kept:
        raise DatasetError(
            f"none of {len(tracks)} tracks below {place.music} could be read; the last one: {why or 'none came'}"
        )
    return kept


def read_soft(path: str | Path) -> Float32[np.ndarray, "tracks tags"]:
    """Soft truth from a `.npy` file of numbers, tracks × tags; refuses any other file with `DatasetError`."""
    expected = "soft truth, one number per track and tag"
    return arrays.read_numbers(Path(path), ndim=2, expected=expected, error=DatasetError, kinds="iuf").astype(
        np.float32
    )


def material(split: Split, truth: Float32[np.ndarray, "tracks tags"], plan: Recipe, place: RunPaths) -> ClipDataset:
    """The extracted mels of a split, and its truth."""
    mels = place.mels(plan.mel)
    return ClipDataset(tuple(mels.open(track) for track in split.tracks), TrackTruth(truth))
