"""Suggest which tracks to label next: those that reduce the uncertainty of all tracks most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from moodfield import audio, calibration, tagger
from moodfield.card import EMBEDDING, Card, Head
from moodfield.errors import AudioError, ConfigError, DatasetError
from moodfield.learning import embeddings, labels, network
from moodfield.learning.embeddings import CACHE_DIR, Progress
from moodfield.learning.head import LinearHead
from moodfield.learning.labels import Paths

LIMIT = 20
"""suggestions, if no other number is requested; as in `moodfield suggest`"""
MIN_DISTANCE = 0.05
"""mean squared distance of standardized channels below which tracks are near-duplicates, such as an MP3 of a FLAC"""
MAX_TAGS = 3
"""tags that are listed of a suggested track"""


@dataclass(frozen=True)
class Suggestion:
    """A track to label."""

    path: Path
    """audio file"""
    least_certain: Mapping[str, float]
    """the tags that the model is least certain of, at most `MAX_TAGS`, with their scores"""


@dataclass(frozen=True)
class Suggestions:
    """Tracks to label, and files that could not be read."""

    tracks: tuple[Suggestion, ...]
    """the tracks; the one to label first is first"""
    unread: tuple[Path, ...]
    """files that were left out, of those with labels, too"""


def suggest(
    paths: Paths,
    model: str | Path = "default",
    *,
    labelled: Paths = (),
    limit: int = LIMIT,
    cache_dir: str | Path = CACHE_DIR,
    jobs: int = 1,
) -> list[Suggestion]:
    """Suggest which tracks to label next (active learning).

    Args:
        paths: Audio files, and folders of them.
        model: Name, folder or run of a model with an embedding: the one that was learned from the labels so far; before
            there are any, the base to learn from.
        labelled: Tracks that have labels: files, folders, or a mapping from paths to tags. They are not suggested.
        limit: Number of suggestions at most.
        cache_dir: Folder where embeddings are kept, which `moodfield.learn` uses, too.
        jobs: Number of processes that decode audio.

    Returns:
        The tracks; the one to label first is first. Of copies and near-duplicates there is one. A warning names each
        track that cannot be read.

    Raises:
        AudioError: There are no audio files.
        ConfigError: The limit is less than 1.
        DatasetError: All tracks are labelled, or none can be read.
        ModelError: The model has no embedding.
    """
    labelled_paths = audio.find(labelled)
    candidates = unlabelled(paths, labelled_paths)
    chosen = choose(
        candidates, labelled_paths, model, limit=limit, cache_dir=cache_dir, jobs=jobs, progress=embeddings.warn
    )
    return list(chosen.tracks)


def unlabelled(paths: Paths, labelled: Sequence[Path]) -> list[Path]:
    """The audio files that have no labels.

    Raises:
        AudioError: There are no audio files.
        DatasetError: All of them are labelled.
    """
    if not (tracks := audio.find(paths)):
        names = [paths] if isinstance(paths, str | Path) else paths
        raise AudioError("missing", f"no music was found in {', '.join(map(str, names))}; name audio files or folders")
    if candidates := labels.unlabelled(labelled, tracks):
        return candidates
    raise DatasetError(f"all tracks ({len(tracks):,}) are labelled already; name files or folders with others")


def choose(
    candidates: Sequence[Path],
    labelled: Sequence[Path],
    model: str | Path = "default",
    *,
    limit: int = LIMIT,
    cache_dir: str | Path = CACHE_DIR,
    jobs: int = 1,
    progress: Progress = lambda *_: None,
) -> Suggestions:
    """Choose the tracks to label next; as `suggest`, for files without labels and files with them.

    Args:
        candidates: Audio files without labels, each once.
        labelled: Audio files with labels.
        model: Name, folder or run of a model with an embedding.
        limit: Number of suggestions at most.
        cache_dir: Folder of the cache of embeddings.
        jobs: Number of processes that decode audio.
        progress: Called for every file, with the error if it cannot be read; such files are left out.
    """
    if limit < 1:
        raise ConfigError(f"limit is {limit}, expected 1 or more")
    folder = tagger.model_folder(model)
    base = network.read(folder)
    paths = list(dict.fromkeys([*candidates, *labelled]))
    computed = embeddings.compute(folder, paths, cache_dir, jobs=jobs, progress=progress)
    done = {computed[path].content: computed[path].values for path in labelled if path in computed}
    by_content: dict[str, Path] = {}
    for path in candidates:
        if path in computed and computed[path].content not in done:
            by_content.setdefault(computed[path].content, path)
    tracks = list(by_content.values())
    n_channels = base.card.outputs[EMBEDDING]
    values, others = (
        np.array(arrays, np.float32).reshape(-1, n_channels)
        for arrays in ([computed[path].values for path in tracks], [*done.values()])
    )
    further = [(head, base.further_head(head.name)) for head in base.card.heads]
    heads: list[tuple[Card | Head, LinearHead]] = [*further] or [(base.card, base.head)]  # what was learned
    vocabulary = [tag for card, _ in heads for tag in card.vocabulary]
    by_head = [calibration.scores(card.calibration, head.logits(values).T).T for card, head in heads]
    scores = np.concatenate(by_head, axis=1, dtype=np.float64)
    uncertain = uncertainty(scores, np.concatenate([card.thresholds for card, _ in heads]))
    rows = select(values, uncertain.mean(axis=1), limit, labelled=others) if tracks else []
    if not rows:
        raise DatasetError(
            "no track without labels can be suggested: they cannot be read, or are near-duplicates of labelled ones; "
            "name files or folders with others"
        )
    suggestions = []
    for row in rows:
        tags = np.argsort(-uncertain[row], kind="stable")[:MAX_TAGS]
        least_certain = {vocabulary[tag]: round(float(scores[row, tag]), 6) for tag in tags}
        suggestions.append(Suggestion(tracks[row], least_certain))
    return Suggestions(tuple(suggestions), tuple(path for path in paths if path not in computed))


def uncertainty(
    scores: Float64[np.ndarray, "tracks tags"], thresholds: Float64[np.ndarray, "tags"]
) -> Float64[np.ndarray, "tracks tags"]:
    """How uncertain decisions are, 0 … 1: the exponential of minus the distance of logits from those of thresholds.

    Example:
        >>> uncertainty(np.array([[0.2], [0.5], [0.8]]), np.array([0.5])).round(3).tolist()
        [[0.25], [1.0], [0.25]]
    """
    return np.exp(-np.abs(calibration.logit(scores) - calibration.logit(thresholds)))


def select(
    embeddings: Float32[np.ndarray, "tracks channels"],
    weights: Float64[np.ndarray, "tracks"],
    limit: int,
    *,
    labelled: Float32[np.ndarray, "_tracks channels"],
) -> list[int]:
    """Select tracks to label: sequential transductive experimental design (Yu, Bi and Tresp, 2006), weighted.

    Labels are taken for a linear function of the standardized embedding with noise, both with variance 1 a priori. Each
    selected track reduces the weighted posterior variance of all tracks most: it is like many tracks with large
    weights, and unlike those that are labelled or selected.

    Args:
        embeddings: Embeddings of tracks without labels.
        weights: Weight of every track, 0 or more, such as its mean uncertainty.
        limit: Number of tracks at most.
        labelled: Embeddings of labelled tracks.

    Returns:
        Rows of the tracks, in the order of selection; none that is a near-duplicate of a labelled or selected track.

    Example:
        >>> embeddings = np.array([[0, 0], [0, 0.1], [5, 0], [0, 5]], np.float32)
        >>> select(embeddings, np.ones(4), 4, labelled=embeddings[:0])  # the first two are near-duplicates
        [2, 3, 0]
    """
    n_tracks, n_channels = embeddings.shape
    every = np.concatenate([embeddings, labelled], dtype=np.float64)
    std = every.std(axis=0)
    tracks, others = np.split((every - every.mean(axis=0)) / np.where(std > 0, std, 1), [n_tracks])
    covariance = np.linalg.inv(n_channels * np.eye(n_channels) + others.T @ others)
    weighted = (tracks.T * weights) @ tracks
    is_open = np.ones(n_tracks, bool)
    for other in others:
        is_open &= _distances(tracks, other) >= MIN_DISTANCE
    selected: list[int] = []
    while len(selected) < limit and is_open.any():
        variance = np.einsum("ic,ic->i", tracks @ covariance, tracks)
        reduction = np.einsum("ic,ic->i", tracks @ (covariance @ weighted @ covariance), tracks) / (variance + 1)
        row = int(np.argmax(np.where(is_open, reduction, -np.inf)))
        selected.append(row)
        along = covariance @ tracks[row]
        covariance -= np.outer(along, along) / (variance[row] + 1)
        is_open &= _distances(tracks, tracks[row]) >= MIN_DISTANCE
    return selected


def _distances(
    tracks: Float64[np.ndarray, "tracks channels"], one: Float64[np.ndarray, "channels"]
) -> Float64[np.ndarray, "tracks"]:
    """Mean squared distance over the channels of tracks from one."""
    return np.square(tracks - one).mean(axis=1)
