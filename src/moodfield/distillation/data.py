"""The training data of a distillation: mels of music, and the teacher's logits as targets."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from moodfield.datasets.mtg_jamendo import Track
from moodfield.distillation import speed_perturbation, teacher
from moodfield.distillation.config import Distillation
from moodfield.errors import MoodfieldError
from moodfield.training import mel_cache, pipeline
from moodfield.training.batches import ClipDataset, TrackTargets, WindowTargets
from moodfield.training.mel_cache import MelCache, Statistics
from moodfield.training.pipeline import ProgressCallback, RunPaths
from moodfield.training.recipe import Recipe


@dataclass(frozen=True)
class DistillationData:
    """Training and validation data of a student."""

    train_data: ClipDataset
    """mels of the training tracks, at all speeds, with the teacher's logits"""
    validation_data: ClipDataset
    """mels of the held-out tracks, with the teacher's logits"""
    train_tracks: tuple[Track, ...]
    """the tracks of `train_data`, in its order"""
    validation_tracks: tuple[Track, ...]
    """the tracks of `validation_data`, in its order"""
    statistics: Statistics
    """mean and std of the mels of `train_data`"""

    def per_track(self, tracks: Sequence[Track]) -> tuple[ClipDataset, tuple[Track, ...]]:
        """Those of the given tracks that are in the data, once each, with the mean logits of each as target."""
        wanted = set(tracks)
        parts = ((self.train_tracks, self.train_data), (self.validation_tracks, self.validation_data))
        rows = {
            track: (stored, target)
            for part_tracks, data in parts
            for track, stored, target in zip(part_tracks, data.mels, data.targets.per_track(), strict=True)
            if track in wanted
        }
        mels, targets = zip(*rows.values(), strict=True)
        return ClipDataset(mels, TrackTargets(np.stack(targets))), tuple(rows)


@dataclass(frozen=True)
class _Part:
    """The tracks of one audio folder that both teacher and student could read."""

    tracks: tuple[Track, ...]
    cache: MelCache
    data: ClipDataset
    windows: tuple[Float32[np.ndarray, "_clips tags"], ...]


def prepare(config: Distillation, *, progress: ProgressCallback = lambda *_: None) -> DistillationData:
    """Compute the teacher's logits and the student's mels of all music, unless they are cached.

    Args:
        config: The inputs of the distillation.
        progress: Called twice for every track and speed, for the teacher and the student, with the error if it failed;
            such tracks are left out.
    """
    recipe, paths, train_tracks = config.recipe, config.paths, config.train_split.tracks
    model = teacher.export_model(config.checkpoint, paths.cache_dir)
    parts = [_load_part(recipe, model, train_tracks, paths, progress)]
    for speed in sorted(set(config.speeds)):
        if copies := _perturb(train_tracks, paths, speed, progress):
            copy_paths = replace(paths, audio_dir=speed_perturbation.cache_folder(paths.cache_dir, speed))
            parts.append(_load_part(recipe, model, copies, copy_paths, progress))
    validation = _load_part(recipe, model, config.music.heldout.tracks, paths, progress)
    mels = tuple(stored for part in parts for stored in part.data.mels)
    windows = tuple(rows for part in parts for rows in part.windows)
    return DistillationData(
        train_data=ClipDataset(mels, WindowTargets(windows, teacher.STEP_SECONDS * recipe.mel.frames_per_second)),
        validation_data=validation.data,
        train_tracks=tuple(track for part in parts for track in part.tracks),
        validation_tracks=validation.tracks,
        statistics=mel_cache.statistics([(part.cache, part.tracks) for part in parts]),
    )


def _load_part(
    recipe: Recipe, model: Path, tracks: Sequence[Track], paths: RunPaths, progress: ProgressCallback
) -> _Part:
    """The teacher's logits and the student's mels of the tracks of one audio folder."""
    failed = set()
    for track, result in teacher.compute_logits(model, tracks, paths.audio_dir, jobs=paths.jobs):
        error = result if isinstance(result, MoodfieldError) else None
        progress(track, error)
        failed |= {track} if error else set()
    rows = pipeline.extract_mels(tracks, recipe, paths, progress=progress)
    readable = tuple(tracks[row] for row in rows if tracks[row] not in failed)
    cache = paths.mel_cache(recipe.mel)
    targets = teacher.load_targets(model, readable, paths.audio_dir, recipe.mel)
    return _Part(readable, cache, ClipDataset(tuple(map(cache.open, readable)), targets), targets.windows)


def _perturb(tracks: Sequence[Track], paths: RunPaths, speed: float, progress: ProgressCallback) -> list[Track]:
    """Copies of tracks at another speed; one that fails counts as failed for teacher and student."""
    copies = []
    for track, copy in speed_perturbation.perturb(tracks, paths.audio_dir, paths.cache_dir, speed, jobs=paths.jobs):
        if isinstance(copy, MoodfieldError):
            progress(track, copy)
            progress(track, copy)
        else:
            copies.append(copy)
    return copies
