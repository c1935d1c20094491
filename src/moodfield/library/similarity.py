"""Similarity of tracks: the cosine of whitened embeddings, by exact search."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64

from moodfield.errors import LibraryError
from moodfield.library import decided
from moodfield.library.models import StoredModel

SAMPLE = 20_000
"""tracks from which mean and covariance are computed, at most"""
RIDGE = 0.3
"""share of the mean variance that is added to that of every principal component; *chosen by us*"""
COMPONENTS = 128
"""principal components that are used, at most; the others are mostly noise; *chosen by us*"""
BATCH = 16_384
"""tracks that are whitened at once"""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Whitened embeddings of tracks, of length 1: their dot product is the similarity, −1 … 1."""

    ids: Int64[np.ndarray, "tracks"]
    """numbers of the tracks in the library"""
    values: Float32[np.ndarray, "tracks channels"]
    """whitened embeddings"""

    def rows(self, ids: Sequence[int]) -> Int64[np.ndarray, "_tracks"]:
        """The rows of tracks; raises `LibraryError` for one without an embedding."""
        by_id = {number: row for row, number in enumerate(self.ids.tolist())}
        try:
            return np.array([by_id[number] for number in ids], np.int64)
        except KeyError as error:
            raise LibraryError("the track has no embedding by this model; scan it with --retag") from error

    def similar(self, row: int) -> Float32[np.ndarray, "tracks"]:
        """The similarity of all tracks to one of them."""
        return np.asarray(self.values @ self.values[row])


def read(connection: sqlite3.Connection, model: StoredModel) -> Embeddings:
    """The whitened embeddings of all tracks that are there; raises `LibraryError` if the model has none."""
    rows = connection.execute(
        "SELECT track, embedding FROM taggings JOIN tracks ON tracks.id = track "
        "WHERE model = ? AND missing IS NULL AND embedding IS NOT NULL",
        (model.id,),
    ).fetchall()
    if not rows:
        raise LibraryError(f"the model {model.name} has no embeddings of tracks, by which they could be compared")
    ids, blobs = zip(*rows, strict=True)
    return Embeddings(np.array(ids, np.int64), whiten(decided.matrix(blobs, np.float16)))


def whiten(embeddings: Float[np.ndarray, "tracks channels"]) -> Float32[np.ndarray, "tracks _channels"]:
    """Whiten embeddings by their principal components (PCA), and scale each of them to length 1.

    Args:
        embeddings: Embeddings. Mean and covariance are those of up to `SAMPLE` tracks, at equal distances.

    Returns:
        The `COMPONENTS` largest components, of about the same variance.

    Example:
        >>> white = whiten(np.array([[0.0, 1.0], [2.0, 1.0], [1.0, 9.0]]))
        >>> white.shape, np.linalg.norm(white, axis=1).round(3).tolist()
        ((3, 2), [1.0, 1.0, 1.0])
    """
    sample = embeddings[:: max(1, len(embeddings) // SAMPLE)].astype(np.float32)
    mean = sample.mean(axis=0)
    centred = sample - mean
    variances, directions = np.linalg.eigh(centred.T @ centred / len(sample))
    ridge = RIDGE + embeddings.shape[1] / len(sample)  # of few tracks only the largest components are known
    scale = 1 / np.sqrt(np.maximum(variances, 0) + ridge * max(float(variances.mean()), 1e-12))
    matrix = (directions * scale)[:, -COMPONENTS:]
    result = np.empty((len(embeddings), matrix.shape[1]), np.float32)
    for start in range(0, len(embeddings), BATCH):
        batch = (embeddings[start : start + BATCH].astype(np.float32) - mean) @ matrix
        result[start : start + BATCH] = batch / np.maximum(np.linalg.norm(batch, axis=1, keepdims=True), 1e-12)
    return result


def nearest(embeddings: Embeddings, track: int, *, limit: int | None = None) -> list[tuple[int, float]]:
    """The tracks most similar to one, most similar first.

    Args:
        embeddings: Of the library.
        track: Number of the track; it is not among the results.
        limit: Number of tracks at most; None for all.

    Returns:
        Number and similarity of each track.
    """
    (row,) = embeddings.rows([track])
    similarity = embeddings.similar(int(row))
    similarity[row] = -np.inf
    count = min(len(similarity) - 1, limit if limit is not None else len(similarity))
    best = (
        np.argpartition(-similarity, count - 1)[:count]
        if 0 < count < len(similarity) - 1
        else np.arange(len(similarity))
    )
    order = best[np.argsort(-similarity[best], kind="stable")][:count]
    return [(int(embeddings.ids[number]), float(similarity[number])) for number in order]
