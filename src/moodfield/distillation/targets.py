"""Training targets: logits of the 56 moods and themes for every window of every track, by one teacher or an ensemble."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from moodfield import calibration, files, tags
from moodfield.datasets.mtg_jamendo import Track
from moodfield.distillation.manifest import Music
from moodfield.distillation.teachers import ensemble, teacher
from moodfield.distillation.teachers.bridge import Bridge
from moodfield.distillation.teachers.ensemble import Ensemble
from moodfield.distillation.teachers.teacher import STEP_SECONDS, Teacher
from moodfield.errors import ConfigError, DatasetError, MoodfieldError
from moodfield.evaluation import submissions
from moodfield.mel import MelConfig
from moodfield.training.batches import WindowTargets
from moodfield.training.pipeline import RunPaths

Windows = tuple[Float32[np.ndarray, "_windows tags"], ...]


@dataclass(frozen=True, eq=False)
class TargetSource:
    """Teachers, and how their outputs become logits of the 56 moods and themes."""

    teachers: tuple[Teacher, ...]
    """one teacher of the 56 tags, or those of an ensemble"""
    bridge: Bridge | None = None
    """for teachers of genres and instruments"""
    ensemble: Ensemble | None = None
    """needed for several teachers"""

    def __post_init__(self) -> None:
        names = [item.name for item in self.teachers]
        if self.ensemble is None and (len(names) != 1 or self.teachers[0].vocabulary != tags.MOODS_AND_THEMES):
            raise ConfigError(f"teachers are {', '.join(names)}; without an ensemble expected one, of the 56 tags")
        if self.ensemble and (missing := set(self.ensemble.weights) - set(names)):
            raise ConfigError(f"the ensemble has {', '.join(sorted(missing))}, whose checkpoint is not given")

    @property
    def sources(self) -> dict[str, str]:
        """What determines the targets, in words."""
        if self.ensemble is None:
            return {"checkpoint": f"SHA-256 {self.teachers[0].sha256}"}
        return {"ensemble": "; ".join(f"{name} {value}" for name, value in self.ensemble.sources.items())}

    def compute(self, tracks: Sequence[Track], paths: RunPaths) -> Iterator[tuple[Track, MoodfieldError | None]]:
        """Compute the outputs of every teacher for every track, unless they are cached; resumes.

        Yields:
            Every track once for every teacher, with the error if it failed.
        """
        for item in self.teachers:
            results = teacher.compute(item, tracks, paths.audio_dir, paths.cache_dir, jobs=paths.jobs)
            for track, result in results:
                yield track, result if isinstance(result, MoodfieldError) else None

    def load(self, tracks: Sequence[Track], paths: RunPaths) -> Windows:
        """Load the logits of tracks whose outputs were computed; raises `DatasetError` if some are missing."""
        if self.ensemble is None:
            return teacher.load(self.teachers[0], tracks, paths.audio_dir, paths.cache_dir)
        return tuple(map(self.ensemble.combine, load_opinions(self.teachers, self.bridge, tracks, paths)))

    def targets(self, tracks: Sequence[Track], paths: RunPaths, student_mel: MelConfig) -> WindowTargets:
        """The logits of tracks as training targets of a student, whose frames the windows are counted in."""
        return WindowTargets(self.load(tracks, paths), step=STEP_SECONDS * student_mel.frames_per_second)


def load_opinions(
    teachers: Sequence[Teacher], bridge: Bridge | None, tracks: Sequence[Track], paths: RunPaths
) -> Iterator[dict[str, Float64[np.ndarray, "_windows tags"]]]:
    """The opinion of every teacher on every window of each track, by name; raises `DatasetError` if some are missing.

    The rounding of resampled durations can give one teacher a last window that another lacks; it is left out.
    """
    maps = ensemble.opinions(teachers, bridge)
    outputs = [teacher.load(item, tracks, paths.audio_dir, paths.cache_dir) for item in teachers]
    for track, *windows in zip(tracks, *outputs, strict=True):
        count = min(map(len, windows))
        if max(map(len, windows)) > count + 1:
            raise DatasetError(f"the teachers have outputs for different windows of {track.id}; compute them again")
        yield {item.name: maps[item.name](rows[:count]) for item, rows in zip(teachers, windows, strict=True)}


def fit_ensemble(
    teachers: Sequence[Teacher], bridge: Bridge, music: Music, predictions: str | Path, paths: RunPaths
) -> Ensemble:
    """Fit the ensemble on the training tracks of the music, whose outputs were computed.

    Args:
        teachers: The teachers.
        bridge: From genres and instruments to moods.
        music: Its training tracks, with their kinds, are the reference.
        predictions: The baseline's predictions for MTG-Jamendo, `.npy`, tracks × tags: location and scale of the logits.
        paths: Folders of audio and cache.
    """
    tracks = music.train.tracks
    rows = [
        {name: opinion.mean(axis=0) for name, opinion in opinions.items()}
        for opinions in load_opinions(teachers, bridge, tracks, paths)
    ]
    stacked = {item.name: np.stack([row[item.name] for row in rows]) for item in teachers}
    sources = {item.name: item.sha256 for item in teachers}
    return ensemble.fit(
        stacked,
        [music.kinds[track] for track in tracks],
        calibration.logit(submissions.read_array(predictions)),
        sources=sources | {"reference": f"manifest {music.sha256}", "predictions": files.sha256(Path(predictions))},
    )
