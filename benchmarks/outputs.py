"""Track logits and embeddings of models and of the teachers, computed once and cached; used by other scripts."""

import dataclasses
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64

from moodfield import arrays, calibration, tagger
from moodfield.datasets.mtg_jamendo import Track
from moodfield.distillation import targets
from moodfield.distillation.teachers import ensemble as ensembles
from moodfield.distillation.teachers import published
from moodfield.errors import DatasetError, MoodfieldError
from moodfield.tagger import Tagger
from moodfield.tagging import OverTime, Tagging
from moodfield.training import digests, mel_cache
from moodfield.training.digests import Digest, Digests
from moodfield.training.mel_cache import Entries
from moodfield.training.pipeline import RunPaths

VERSION = 1
"""of the cached numbers; those of another version are not found"""
ENSEMBLE = "the ensemble"
"""its name among those of the teachers"""
SIGNAL = np.sin(2 * np.pi * 220 * np.arange(5 * 12_000) / 12_000).astype(np.float32), 12_000
"""what is tagged to learn all that a model's taggings have in common"""


@dataclass(frozen=True, eq=False)
class ModelOutputs:
    """The outputs of one model for some tracks."""

    tracks: tuple[Track, ...]
    """tracks that could be tagged"""
    taggings: tuple[Tagging, ...]
    """their taggings, without scores over time and envelope"""
    logits: Float64[np.ndarray, "tracks tags"]
    """their track logits before the calibration of the card"""

    @cached_property
    def scores(self) -> Float32[np.ndarray, "tracks tags"]:
        """Scores, calibrated."""
        return np.stack([item.scores for item in self.taggings])

    @cached_property
    def embeddings(self) -> Float32[np.ndarray, "tracks channels"] | None:
        """Embeddings; None if the model has none."""
        rows = [item.embedding for item in self.taggings]
        return None if any(row is None for row in rows) else np.stack(rows)

    @cached_property
    def decided(self) -> Bool[np.ndarray, "tracks tags"]:
        """Absolute decisions."""
        return decisions(self.taggings)

    def take(self, wanted: Sequence[Track]) -> "ModelOutputs":
        """The outputs for those of the wanted tracks that could be tagged, in the order of `wanted`."""
        rows = [self.tracks.index(track) for track in wanted if track in self.tracks]
        return ModelOutputs(
            tuple(self.tracks[row] for row in rows), tuple(self.taggings[row] for row in rows), self.logits[rows]
        )


def decisions(taggings: Sequence[Tagging]) -> Bool[np.ndarray, "tracks tags"]:
    """Which tags are decided."""
    return np.stack([item.is_decided for item in taggings])


def data_folder(*needed: str) -> Path:
    """The folder that MOODFIELD_DATA names; exits unless it has all that is needed."""
    folder = Path(os.environ.get("MOODFIELD_DATA", ""))
    if missing := [name for name in needed if not (folder / name).exists()]:
        sys.exit(f"set MOODFIELD_DATA to the folder that contains {', '.join(missing)}")
    return folder


def named_models(arguments: Sequence[str]) -> dict[str, str]:
    """Models by name, from arguments `NAME=MODEL`, or `MODEL` for one that goes by its own name."""
    pairs = (argument.rpartition("=") for argument in arguments)
    return {name or model: model for name, _, model in pairs}


def of_model(model: str | Path, tracks: Sequence[Track], paths: RunPaths) -> ModelOutputs:
    """Tag tracks with a model, unless its outputs are cached; a track that cannot be tagged is named on stderr."""
    loaded = _load(str(model))
    [member] = loaded.models
    card, template = member.card, loaded.tag(SIGNAL)
    folder = paths.cache_dir / f"tagged-{_digest(loaded)}"
    is_complete = partial(arrays.shape, dtype=np.float32, expected=_row(template).shape)
    entries = Entries(folder.absolute(), is_complete, partial(_write, str(model)))
    readable, taggings = list[Track](), list[Tagging]()
    stored = Digests(paths.cache_dir, paths.audio_dir)
    for track, result in mel_cache.compute_missing(tracks, stored, entries, jobs=paths.jobs):
        if isinstance(result, MoodfieldError):
            print(f"left out: {track.id}: {result}", file=sys.stderr)
            continue
        readable.append(track)
        taggings.append(_tagging(template, track, np.load(result, allow_pickle=False)))
    if not readable:
        sys.exit(f"none of {len(tracks)} tracks could be tagged below {paths.audio_dir}")
    logits = calibration.logit(np.stack([item.scores for item in taggings]))
    if card.calibration:
        logits = (logits - np.array(card.calibration.offsets)) / np.array(card.calibration.slopes)
    return ModelOutputs(tuple(readable), tuple(taggings), logits)


def of_teachers(
    checkpoints: Path, ensemble: Path, tracks: Sequence[Track], paths: RunPaths
) -> Mapping[str, Float64[np.ndarray, "tracks tags"]]:
    """Track logits of the 56 moods and themes by teacher, and of their `ENSEMBLE`, computed unless they are cached."""
    fitted, teachers = ensembles.load(ensemble), published.teachers(checkpoints)
    try:
        moods = targets.track_moods(teachers, fitted.bridge, tracks, paths)
    except DatasetError:
        readable = targets.compute_all(teachers, tracks, paths, lambda *_: None).tracks
        if missing := set(tracks) - set(readable):
            sys.exit(f"a teacher could not read {', '.join(track.id for track in missing)}")
        moods = targets.track_moods(teachers, fitted.bridge, tracks, paths)
    return moods | {ENSEMBLE: fitted.combine(moods).astype(np.float64)}


def _digest(loaded: Tagger) -> str:
    """A digest of all that determines the outputs of a model: not of its thresholds."""
    [card] = [model.card for model in loaded.models]
    parts = (VERSION, sorted(card.sha256.items()), card.mel, card.lengths, card.calibration)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


@lru_cache(maxsize=4)
def _load(model: str) -> Tagger:
    """The tagger of a model, loaded once in every process, on one core."""
    return tagger.load(model, threads=1)


def _write(model: str, source: Path, digest: Digest, target: Path) -> None:
    row = _row(_load(model).tag(source))
    digests.check_unchanged(source, digest)
    arrays.write(target, row)


def _row(tagging: Tagging) -> Float32[np.ndarray, "_"]:
    """What is cached of a tagging: duration, scores, embedding."""
    embedding = np.zeros(0) if tagging.embedding is None else tagging.embedding
    return np.concatenate([[tagging.duration], tagging.scores, embedding]).astype(np.float32)


def _tagging(template: Tagging, track: Track, row: Float32[np.ndarray, "_"]) -> Tagging:
    """The tagging of a cached row; the rest is that of the template."""
    scores, embedding = np.split(row[1:], [len(template.vocabulary)])
    return dataclasses.replace(
        template,
        source=track.path,
        duration=float(row[0]),
        scores=scores,
        embedding=embedding if len(embedding) else None,
        over_time=OverTime(np.zeros(0, np.float32), np.zeros((len(scores), 0), np.float32)),
        envelope=None,
        warnings=(),
    )
