"""What a library stores of a track: compact outputs of a model, metadata, and a digest."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float16, Float32, Int8, UInt8

from moodfield import calibration, files, tagger
from moodfield.decoding import metadata
from moodfield.decoding.metadata import Metadata
from moodfield.errors import AudioError
from moodfield.tagger import Tagger
from moodfield.tagging import Tagging

STEPS = 32
"""time steps of the curves"""
LOGIT_SCALE = 12.0
"""steps of a logit in the curves: int8 then reaches ±10.6"""
SPANS = 160
"""spans of the peak envelope; with curves of 56 tags, two tracks then fit into one page of the database"""
MAX_FLOAT16 = 65_504.0
"""larger numbers of an embedding are clipped"""


@dataclass(frozen=True, eq=False)
class Analysis:
    """What is stored of a tagged file."""

    digest: bytes
    """SHA-256 of its content"""
    metadata: Metadata
    """its own metadata"""
    duration: float
    """seconds"""
    logits: Float32[np.ndarray, "tags"]
    """log-odds of the scores"""
    embedding: Float16[np.ndarray, "channels"] | None
    """embedding, if the model has one"""
    curves: Int8[np.ndarray, "tags 32"]
    """log-odds over time, times `LOGIT_SCALE`"""
    envelope: UInt8[np.ndarray, "_time"]
    """peaks over time, times 255; empty if unknown"""


@lru_cache(maxsize=1)
def load(models: tuple[str, ...]) -> Tagger:
    """The tagger of this process, on one core."""
    return tagger.load(*models, threads=1)


def analyse(models: tuple[str, ...], path: Path) -> Analysis:
    """Tag a file, and read its metadata and digest; raises as `Tagger.tag` does.

    The models are loaded once in every process.
    """
    tagging = load(models).tag(path)
    return from_tagging(tagging, digest(path), metadata.read(path))


def digest(path: Path) -> bytes:
    """SHA-256 of a file; raises `AudioError` if it cannot be read."""
    try:
        return bytes.fromhex(files.sha256(path))
    except OSError as error:
        raise AudioError("unreadable", f"{path} cannot be read ({error.strerror})") from error


def from_tagging(tagging: Tagging, digest: bytes, names: Metadata) -> Analysis:
    """The compact form of a tagging."""
    embedding = tagging.embedding
    if embedding is not None:
        embedding = np.clip(embedding, -MAX_FLOAT16, MAX_FLOAT16).astype(np.float16)
    peaks = tagging.envelope.peaks if tagging.envelope else np.zeros(0, np.float32)
    return Analysis(
        digest=digest,
        metadata=names,
        duration=tagging.duration,
        logits=calibration.logit(tagging.scores).astype(np.float32),
        embedding=embedding,
        curves=_curves(tagging.over_time.scores),
        envelope=np.round(255 * _resample_peaks(peaks)).astype(np.uint8),
    )


def curves(blob: bytes) -> Float32[np.ndarray, "tags 32"]:
    """Scores over time of a stored blob: means over equal parts of the track."""
    steps = np.frombuffer(blob, np.int8).reshape(-1, STEPS)
    return calibration.sigmoid(steps / LOGIT_SCALE).astype(np.float32)


def _curves(scores: Float32[np.ndarray, "tags time"]) -> Int8[np.ndarray, "tags 32"]:
    """Scores over time, averaged over each of `STEPS` parts; steps of short tracks are repeated."""
    edges = np.linspace(0, scores.shape[1], STEPS + 1).astype(int)
    parts = [scores[:, start : max(start + 1, end)].mean(axis=1) for start, end in pairwise(edges)]
    logits = LOGIT_SCALE * calibration.logit(np.stack(parts, axis=1))
    return np.clip(np.round(logits), -127, 127).astype(np.int8)


def _resample_peaks(peaks: Float32[np.ndarray, "_time"]) -> Float[np.ndarray, "_time"]:
    """The largest peak of each of `SPANS` parts; as they are if there are fewer."""
    if len(peaks) <= SPANS:
        return peaks
    starts = np.linspace(0, len(peaks), SPANS, endpoint=False).astype(int)
    return np.maximum.reduceat(peaks, starts)
