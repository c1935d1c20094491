"""The inputs of a distillation, and its training data: mels with logits of teachers as targets."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np

from moodfield import card, files, tags
from moodfield.datasets.mtg_jamendo import Split, Track
from moodfield.distillation import speed_perturbation, targets
from moodfield.distillation.degradation import Degradation
from moodfield.distillation.manifest import Music
from moodfield.distillation.model_card import CardText, TeacherCalibration
from moodfield.distillation.targets import WINDOW_SECONDS, TargetSource
from moodfield.errors import MoodfieldError
from moodfield.mel import MelConfig
from moodfield.nets import CPResNetConfig
from moodfield.training import mel_cache, pipeline
from moodfield.training.batches import ClipDataset, TrackTargets, WindowTargets
from moodfield.training.configs import AugmentConfig, AveragingConfig, BatchConfig, LossConfig, ScheduleConfig
from moodfield.training.fine_tuning import InitialWeights
from moodfield.training.mel_cache import MelCache, Statistics
from moodfield.training.pipeline import ProgressCallback, RunPaths
from moodfield.training.recipe import Recipe

STUDENT = Recipe(
    net=CPResNetConfig(width=64, rho_freq=9, rho_time=9, frequency_aware=True),
    mel=MelConfig(sample_rate=16_000, n_fft=1_536, hop_length=1_024, n_mels=128, kind="plain"),
    batch=BatchConfig(clip_seconds=WINDOW_SECONDS),
    augment=AugmentConfig(roll_frames=0, mixup_alpha=0.0),
    loss=LossConfig(kind="logits", auxiliary_weight=0.5),
    averaging=AveragingConfig(start=6, every=1, snapshots=1),
    schedule=ScheduleConfig(warm_up=0, constant=2, decay=3, final=1, peak=1e-3, floor=3e-5),
    precision="bf16-mixed",
)
"""the recipe of the bundled model, which is the last average of its weights: no epoch is chosen by held-out music"""

Part: TypeAlias = tuple[tuple[Track, ...], MelCache, WindowTargets]
"""tracks of one audio folder, the student's mels, the targets"""


@dataclass(frozen=True)
class Distillation:
    """The inputs of a distillation: targets, music, student, and what its card states."""

    recipe: Recipe
    """recipe of the student"""
    music: Music
    """training and held-out tracks"""
    targets: TargetSource
    """the teacher, or the ensemble of teachers"""
    paths: RunPaths
    """folders of audio, cache and run"""
    speeds: tuple[float, ...] = ()
    """further speeds of the training music, 0.5 … 2; each gives more music with targets of its own"""
    degradation: Degradation | None = None
    """adds a degraded copy of every training track at every speed, with the targets of the track at that speed"""
    initial_model: Path | None = None
    """a model folder of the same network: the student starts from its weights"""
    reuse_metrics_from: Path | None = None
    """a finished run with the same recipe, targets and music: the student is then also trained on the held-out tracks,
    and its metrics and examples are those of that run"""
    calibration: TeacherCalibration | None = None
    """calibration of the teacher, which its student takes over"""
    text: CardText = field(default_factory=CardText)
    """what the card states and nobody can measure"""
    appendix: str = ""
    """Markdown that the README ends with"""

    @property
    def train_split(self) -> Split:
        """The training tracks: with `reuse_metrics_from` also the held-out ones."""
        return replace(self.music.train, tracks=self.music.tracks) if self.reuse_metrics_from else self.music.train

    @property
    def n_steps(self) -> int:
        """Number of calls of `progress`: teachers, student and degraded copies, every track, all speeds."""
        trained = len(self.train_split.tracks) * (1 + len(set(self.speeds)))
        return self.steps_per_copy * trained + (len(self.targets.teachers) + 1) * len(self.music.heldout.tracks)

    @property
    def steps_per_copy(self) -> int:
        """Number of calls of `progress` for a training track at one speed."""
        return len(self.targets.teachers) + (2 if self.degradation else 1)

    @cached_property
    def sources(self) -> dict[str, str]:
        """What determines the training data, in words; students of equal recipes and sources are the same."""
        initial = self.initial_weights
        return {
            **self.targets.sources,
            "music": f"a manifest, SHA-256 {self.music.sha256}",
            "speeds": ", ".join(f"{speed:g}" for speed in sorted({1.0, *self.speeds})),
            "degraded copies": f"one a track and speed, {self.degradation.digest}" if self.degradation else "none",
            "initial weights": f"SHA-256 {files.sha256(initial.path)}" if initial else "random",
        }

    @property
    def initial_weights(self) -> InitialWeights | None:
        """The weights that the student starts from."""
        return InitialWeights(self.initial_model / card.WEIGHTS) if self.initial_model else None


@dataclass(frozen=True)
class DistillationData:
    """Training and validation data of a student."""

    train_data: ClipDataset
    """mels of the training tracks, at all speeds, and of their degraded copies, with their targets; auxiliary ones
    follow those of the tags"""
    validation_data: ClipDataset
    """mels of the held-out tracks, with their targets"""
    train_tracks: tuple[Track, ...]
    """the tracks of `train_data`, in its order"""
    validation_tracks: tuple[Track, ...]
    """the tracks of `validation_data`, in its order"""
    statistics: Statistics
    """mean and std of the mels of `train_data`"""

    def per_track(self, tracks: Sequence[Track]) -> tuple[ClipDataset, tuple[Track, ...]]:
        """Those of the given tracks that are in the data, once each, with the mean target of each."""
        wanted = set(tracks)
        parts = ((self.train_tracks, self.train_data), (self.validation_tracks, self.validation_data))
        rows = {
            track: (stored, target[: len(tags.MOODS_AND_THEMES)])
            for part_tracks, data in parts
            for track, stored, target in zip(part_tracks, data.mels, data.targets.per_track(), strict=True)
            if track in wanted
        }
        mels, targets = zip(*rows.values(), strict=True)
        return ClipDataset(mels, TrackTargets(np.stack(targets))), tuple(rows)


def prepare(config: Distillation, *, progress: ProgressCallback = lambda *_: None) -> DistillationData:
    """Compute the outputs of the teachers and the student's mels of all music, unless they are cached.

    Args:
        config: The inputs of the distillation.
        progress: Called for every track and speed, once for every teacher, for the student, and for the degraded copy,
            with the error if it failed; such tracks are left out.
    """
    paths, originals = config.paths, config.train_split.tracks
    parts = [_load(config, originals, paths, progress)]
    if config.degradation:
        parts.append(_degrade(config.degradation, originals, parts[-1], paths, progress))
    for speed in sorted(set(config.speeds)):
        if copies := _perturb(originals, config, speed, progress):
            copy_paths = replace(paths, audio_dir=speed_perturbation.cache_folder(paths.cache_dir, speed))
            parts.append(_load(config, copies, copy_paths, progress))
            if config.degradation:
                parts.append(_degrade(config.degradation, copies, parts[-1], copy_paths, progress))
    heldout, cache, targets = _load(config, config.music.heldout.tracks, paths, progress, auxiliary=False)
    mels = tuple(cache.open(track) for tracks, cache, _ in parts for track in tracks)
    windows = tuple(rows for _, _, targets in parts for rows in targets.windows)
    train_tracks = tuple(track for tracks, _, _ in parts for track in tracks)
    return DistillationData(
        train_data=ClipDataset(mels, WindowTargets(windows, targets.step)),
        validation_data=ClipDataset(tuple(map(cache.open, heldout)), targets),
        train_tracks=train_tracks,
        validation_tracks=heldout,
        statistics=mel_cache.statistics([(cache, tracks) for tracks, cache, _ in parts]),
    )


def _load(
    config: Distillation, tracks: Sequence[Track], paths: RunPaths, progress: ProgressCallback, *,
    auxiliary: bool = True,
) -> Part:  # fmt: skip
    """The tracks of one audio folder that teachers and student could read, the student's mels, the targets."""
    computed = set(targets.compute_all(config.targets.teachers, tracks, paths, progress).tracks)
    rows = pipeline.extract_mels(tracks, config.recipe, paths, progress=progress)
    readable = tuple(tracks[row] for row in rows if tracks[row] in computed)
    student_mel = config.recipe.mel
    auxiliary = auxiliary and config.recipe.loss.auxiliary_weight > 0
    windows = config.targets.targets(readable, paths, student_mel, auxiliary=auxiliary)
    return readable, paths.mel_cache(student_mel), windows


def _degrade(
    degradation: Degradation, tracks: Sequence[Track], part: Part, paths: RunPaths, progress: ProgressCallback
) -> Part:
    """The degraded copies of the tracks of a part, with its targets; `tracks` are those and the ones that failed."""
    originals, mels, targets = part
    degraded = MelCache(paths.cache_dir, mels.config, paths.audio_dir, degradation)
    failed = set()
    for track, result in degraded.extract(tracks, jobs=paths.jobs, backend=paths.backend):
        error = result if isinstance(result, MoodfieldError) else None
        progress(track, error)
        failed |= {track} if error else set()
    rows = [row for row, track in enumerate(originals) if track not in failed]
    copies = tuple(replace(originals[row], id=f"{originals[row].id}, degraded") for row in rows)
    return copies, degraded, WindowTargets(tuple(targets.windows[row] for row in rows), targets.step)


def _perturb(tracks: Sequence[Track], config: Distillation, speed: float, progress: ProgressCallback) -> list[Track]:
    """Copies of tracks at another speed; one that fails counts as failed for teachers, student and degraded copy."""
    copies, paths = [], config.paths
    for track, copy in speed_perturbation.perturb(tracks, paths.audio_dir, paths.cache_dir, speed, jobs=paths.jobs):
        if isinstance(copy, MoodfieldError):
            for _ in range(config.steps_per_copy):
                progress(track, copy)
        else:
            copies.append(copy)
    return copies
