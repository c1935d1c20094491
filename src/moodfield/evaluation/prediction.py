"""Predict every track of an index, with a cache file from which an interrupted run continues."""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from moodfield import errors
from moodfield.datasets.mtg_jamendo import Track
from moodfield.errors import ConfigError, DatasetError, MoodfieldError, MoodfieldWarning, ScoresError
from moodfield.evaluation.choices import Fill
from moodfield.evaluation.metrics import AnyArray, Scores

Predict = Callable[[Sequence[Track]], Iterable[tuple[Track, AnyArray | MoodfieldError]]]
"""predicts tracks, in their order: scores, one per tag, or the error with which a track could not be read"""
CACHE_HEADS = (b'{"model": ',)
"""first bytes of a cache file of `predict_index`"""


def predict_index(
    tracks: Sequence[Track],
    predict: Predict,
    *,
    tags: Sequence[str],
    vocabulary: Sequence[str],
    cache: Path | None = None,
    model: str = "",
    audio: str = "",
    fill: Fill | None = None,
    hint: str = "",
    progress: Callable[[Track, MoodfieldError | None], None] = lambda track, error: None,
) -> Scores:
    """Predict the scores of all tracks of an index, tracks × tags in the order of `vocabulary`.

    Args:
        tracks: the tracks of the index, in its order.
        predict: predicts some tracks, in their order; its scores have one value for each of `tags`.
        tags: the tags of `predict`, in the order of its scores; all of `vocabulary` must be among them.
        vocabulary: the tags of the result.
        cache: a JSON Lines file that receives the scores of every track at once; its tracks are not predicted again.
        model: identifies the model; part of the header of the cache, such as a digest.
        audio: identifies the audio, such as its folder; part of the header of the cache.
        fill: what replaces the scores of tracks that cannot be read; without it they are an error.
        hint: what else the user can do about such tracks, for the error message.
        progress: called after every track, with its error if it could not be read.

    Returns:
        The scores, float64.

    Raises:
        ScoresError: if `predict` lacks a tag of the vocabulary.
        DatasetError: if tracks cannot be read and `fill` is None, or no track can be read.
        ConfigError: if the cache belongs to another model, index or audio, or is damaged.

    Warns:
        MoodfieldWarning: names the tracks whose rows were filled.

    Example:
        >>> tracks = [Track("1", "1.mp3", 60.0, ()), Track("2", "2.mp3", 60.0, ())]
        >>> def predict(tracks):
        ...     return [(track, np.array([0.1, 0.9]) * int(track.id)) for track in tracks]
        >>> predict_index(tracks, predict, tags=("sad", "happy"), vocabulary=("happy", "sad")).tolist()
        [[0.9, 0.1], [1.8, 0.2]]
    """
    if missing := [tag for tag in vocabulary if tag not in tags]:
        raise ScoresError(f"the model has no scores for {', '.join(missing)}; use a model that has, or fewer tags")
    failures: list[tuple[str, MoodfieldError]] = []
    index = hashlib.sha256(json.dumps([(track.id, track.path) for track in tracks]).encode()).hexdigest()
    with closing(_ScoreCache(cache, {"model": model, "index": index, "audio": audio}, len(tags))) as cached:
        for track in tracks:
            if track.id in cached.scores:
                progress(track, None)
        for track, result in predict([track for track in tracks if track.id not in cached.scores]):
            if isinstance(result, MoodfieldError):
                failures.append((track.path, result))
            else:
                cached.add(track, result)
            progress(track, result if isinstance(result, MoodfieldError) else None)
    if failures and (fill is None or len(failures) == len(tracks)):
        advice = f", or {hint}" if hint and len(failures) < len(tracks) else ""
        reasons = errors.join_some([f"{path}: {reason}" for path, reason in failures], "; ")
        message = f"{len(failures)} of {len(tracks)} tracks could not be read, and every track needs a prediction"
        raise DatasetError(f"{message}: {reasons}; download these files again{advice}")
    columns = [list(tags).index(tag) for tag in vocabulary]
    readable = np.array([track.id in cached.scores for track in tracks])
    scores = np.zeros((len(tracks), len(vocabulary)))
    scores[readable] = np.array([cached.scores[track.id] for track in tracks if track.id in cached.scores])[:, columns]
    if fill == "mean":
        scores[~readable] = scores[readable].mean(axis=0)
    if failures:
        value = "the mean of all others" if fill == "mean" else "zeros"
        message = f"{len(failures)} of {len(tracks)} rows are filled with {value}, since these tracks could not be read"
        paths = errors.join_some([path for path, _ in failures])
        warnings.warn(f"{message}: {paths}", MoodfieldWarning, stacklevel=2)
    return scores


class _ScoreCache:
    """The scores of tracks that were predicted before, in a JSON Lines file to which lines are appended.

    Only one process may write to it: the caller holds a `files.lock`.
    """

    def __init__(self, path: Path | None, header: Mapping[str, str], n_tags: int) -> None:
        self.scores: dict[str, AnyArray] = {}
        self._file = None
        if path is None:
            return
        head = json.dumps(header).encode() + b"\n"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        if lines and not head.startswith(lines[0]):
            raise ConfigError(f"{path} has scores of another model, of other tracks or audio; remove or rename it")
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()  # a process was killed while it wrote
        try:
            entries = [json.loads(line) for line in lines[1:]]
            self.scores = {entry["track"]: np.array(entry["scores"], np.float64) for entry in entries}
            if any(row.shape != (n_tags,) or not np.isfinite(row).all() for row in self.scores.values()):
                raise ValueError(f"expected {n_tags} finite numbers for every track")
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise ConfigError(f"{path} has damaged lines ({error}); remove it") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._file.truncate(sum(map(len, lines)))
        self._write(b"" if lines else head)

    def add(self, track: Track, scores: AnyArray) -> None:
        """Store the scores of a track."""
        self.scores[track.id] = np.asarray(scores, np.float64)
        self._write(json.dumps({"track": track.id, "scores": self.scores[track.id].tolist()}).encode() + b"\n")

    def close(self) -> None:
        """Close the file; remove it if it has no scores."""
        if self._file:
            self._file.close()
            if not self.scores:
                Path(self._file.name).unlink(missing_ok=True)

    def _write(self, line: bytes) -> None:
        if self._file:
            self._file.write(line)
