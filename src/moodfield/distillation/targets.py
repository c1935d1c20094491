"""Training targets: logits of the 56 tags for windows of every track, by a teacher or an ensemble."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from moodfield import calibration, files, mel, nets, tags
from moodfield.datasets.mtg_jamendo import Track
from moodfield.distillation.manifest import Music
from moodfield.distillation.teachers import ensemble, teacher
from moodfield.distillation.teachers.bridge import Bridge
from moodfield.distillation.teachers.ensemble import Ensemble
from moodfield.distillation.teachers.teacher import Teacher
from moodfield.errors import ConfigError, DatasetError, ModelError, MoodfieldError, ScoresError
from moodfield.evaluation import submissions
from moodfield.mel import MelConfig
from moodfield.training.batches import WindowTargets
from moodfield.training.pipeline import ProgressCallback, RunPaths

WINDOW_SECONDS = nets.VGGConfig().frames / mel.ORGANISERS.frames_per_second
"""length of a window with a target: that of the organisers' baseline"""
STEP_SECONDS = (nets.VGGConfig().frames // 2) / mel.ORGANISERS.frames_per_second
"""time from one window to the next; the last one ends with the track"""

Windows = tuple[Float32[np.ndarray, "_clips tags"], ...]


@dataclass(frozen=True, eq=False)
class TargetSource:
    """Teachers, and how their outputs become logits of the 56 moods and themes."""

    teachers: tuple[Teacher, ...]
    """one teacher of the 56 tags, or those of an ensemble"""
    ensemble: Ensemble | None = None
    """needed for several teachers"""

    def __post_init__(self) -> None:
        names = [item.name for item in self.teachers]
        if self.ensemble is None and (len(names) != 1 or self.teachers[0].vocabulary != tags.MOODS_AND_THEMES):
            raise ConfigError(f"teachers are {', '.join(names)}; without an ensemble expected one, of the 56 tags")
        if all(item.vocabulary != tags.MOODS_AND_THEMES for item in self.teachers):
            raise ConfigError(f"teachers are {', '.join(names)}; expected one of the 56 tags among them")
        if self.ensemble and (missing := set(self.ensemble.weights) - set(names)):
            raise ConfigError(f"the ensemble has {', '.join(sorted(missing))}, whose checkpoint is not given")

    @property
    def sources(self) -> dict[str, str]:
        """What determines the targets, in words; raises `ModelError` if a checkpoint is not that of the ensemble."""
        if self.ensemble is None:
            return {"checkpoint": f"SHA-256 {self.teachers[0].sha256}"}
        for item in self.teachers:
            if item.sha256 != self.ensemble.sources.get(item.name, item.sha256):
                raise ModelError(
                    f"{item.checkpoint} is not the checkpoint that the ensemble was fitted on; give that one"
                )
        return {"ensemble": f"of {', '.join(self.ensemble.weights)}, SHA-256 {self.ensemble.sha256}"}

    def load(self, tracks: Sequence[Track], paths: RunPaths) -> Windows:
        """Load the logits of tracks whose outputs were computed; raises `DatasetError` if some are missing."""
        if self.ensemble is None:
            return tuple(
                item.values for item in teacher.load(self.teachers[0], tracks, paths.audio_dir, paths.cache_dir)
            )
        return tuple(map(self.ensemble.combine, load_moods(self.teachers, self.ensemble.bridge, tracks, paths)))

    def load_auxiliary(self, tracks: Sequence[Track], paths: RunPaths) -> Windows:
        """Load auxiliary targets of tracks, for the windows of `load`: what the teachers have beside the 56 tags.

        These are all outputs of the other teachers; those with the same vocabulary are averaged.
        """
        main = _main(self.teachers)
        vocabularies = [item.vocabulary for item in self.teachers]
        distinct = [names for names in dict.fromkeys(vocabularies) if names != tags.MOODS_AND_THEMES]
        rows = []
        for values in _load_aligned(self.teachers, tracks, paths):
            groups = [
                np.mean([one for one, own in zip(values, vocabularies, strict=True) if own == names], axis=0)
                for names in distinct
            ]
            rows.append(np.concatenate([values[main][:, :0], *groups], axis=1))
        return tuple(rows)

    def targets(
        self, tracks: Sequence[Track], paths: RunPaths, student_mel: MelConfig, *, auxiliary: bool = False
    ) -> WindowTargets:
        """The logits of tracks as training targets of a student, whose frames the windows are counted in.

        With `auxiliary`, the auxiliary targets follow them.
        """
        windows = self.load(tracks, paths)
        if auxiliary:
            pairs = zip(windows, self.load_auxiliary(tracks, paths), strict=True)
            windows = tuple(np.concatenate(pair, axis=1) for pair in pairs)
        return WindowTargets(windows, step=STEP_SECONDS * student_mel.frames_per_second)


def load_moods(
    teachers: Sequence[Teacher], bridge: Bridge | None, tracks: Sequence[Track], paths: RunPaths
) -> Iterator[dict[str, Float64[np.ndarray, "_clips tags"]]]:
    """The logits of every teacher for each window of a track, by name, for the windows of the teacher of the 56 tags.

    Raises:
        DatasetError: Outputs are missing or damaged.
    """
    maps = ensemble.mood_maps(teachers, bridge)
    for values in _load_aligned(teachers, tracks, paths):
        yield {item.name: maps[item.name](rows) for item, rows in zip(teachers, values, strict=True)}


def _load_aligned(
    teachers: Sequence[Teacher], tracks: Sequence[Track], paths: RunPaths
) -> Iterator[list[Float32[np.ndarray, "_clips _"]]]:
    """The outputs of every teacher for each window of a track, for the windows of the teacher of the 56 tags."""
    stored = [teacher.load(item, tracks, paths.audio_dir, paths.cache_dir) for item in teachers]
    for outputs in zip(*stored, strict=True):
        grid = outputs[_main(teachers)]
        yield [item.values if item is grid else item.at(grid.starts, grid.seconds) for item in outputs]


def _main(teachers: Sequence[Teacher]) -> int:
    """Which is the teacher of the 56 tags."""
    return [item.vocabulary for item in teachers].index(tags.MOODS_AND_THEMES)


def track_moods(
    teachers: Sequence[Teacher], bridge: Bridge | None, tracks: Sequence[Track], paths: RunPaths
) -> dict[str, Float64[np.ndarray, "tracks tags"]]:
    """The logits of every teacher for tracks, means over their windows; raises what `load_moods` raises."""
    rows = [
        {name: logits.mean(axis=0) for name, logits in moods.items()}
        for moods in load_moods(teachers, bridge, tracks, paths)
    ]
    return {item.name: np.stack([row[item.name] for row in rows]) for item in teachers}


@dataclass(frozen=True)
class Computed:
    """What `compute_all` has computed."""

    tracks: tuple[Track, ...]
    """tracks that every teacher could read"""
    seconds: float
    """wall time"""

    @property
    def hours(self) -> float:
        """Duration of the tracks."""
        return sum(track.seconds for track in self.tracks) / 3600


def compute_all(
    teachers: Sequence[Teacher], tracks: Sequence[Track], paths: RunPaths, progress: ProgressCallback
) -> Computed:
    """Compute the outputs of all teachers for all tracks, unless they are cached; resumes.

    Args:
        teachers: The teachers.
        tracks: Tracks with audio.
        paths: Folders of audio and cache, and the number of processes.
        progress: Called for every track and teacher, with the error if it failed.

    Raises:
        ModelError: A checkpoint cannot be read, or is another network's; before any work.
    """
    began, failed = time.monotonic(), set()
    for item in teachers:
        item.check()
    for item in teachers:
        for track, result in teacher.compute(item, tracks, paths.audio_dir, paths.cache_dir, jobs=paths.jobs):
            error = result if isinstance(result, MoodfieldError) else None
            progress(track, error)
            failed |= {track} if error else set()
    return Computed(tuple(track for track in tracks if track not in failed), time.monotonic() - began)


def read_target(predictions: str | Path) -> Float64[np.ndarray, "tracks tags"]:
    """Read predictions of the 56 tags, 0 … 1, as logits; raises `ScoresError` for any other file."""
    scores = submissions.read_array(predictions).astype(np.float64)
    if scores.shape[1] != len(tags.MOODS_AND_THEMES) or not ((scores >= 0) & (scores <= 1)).all():
        raise ScoresError(f"{predictions} has {scores.shape[1]} tags; expected scores of 56, 0 … 1")
    return calibration.logit(scores)


def fit_ensemble(
    teachers: Sequence[Teacher], bridge: Bridge, music: Music, tracks: Sequence[Track], predictions: str | Path,
    paths: RunPaths,
) -> Ensemble:  # fmt: skip
    """Fit the ensemble on tracks whose outputs were computed: the reference.

    Args:
        teachers: The teachers.
        bridge: From genres and instruments to moods.
        music: The music, which knows the kind of every track.
        tracks: Tracks of it.
        predictions: The baseline's scores for MTG-Jamendo, `.npy`, tracks × tags; they give location and scale.
        paths: Folders of audio and cache.

    Raises:
        DatasetError: Outputs are missing or damaged, or there are no tracks.
        ScoresError: The predictions cannot be read.
    """
    target = read_target(predictions)
    if not tracks:
        raise DatasetError(f"no track could be read of {len(music.tracks)} below {paths.audio_dir}; name their folder")
    stacked = track_moods(teachers, bridge, tracks, paths)
    sources = {item.name: item.sha256 for item in teachers}
    sources |= {"reference": f"manifest {music.sha256}", "predictions": files.sha256(Path(predictions))}
    fitted = ensemble.fit(stacked, [music.kinds[track.id] for track in tracks], target)
    return replace(fitted, bridge=bridge, sources=sources)
