"""Embeddings of audio files by one model, computed once and cached."""

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from moodfield import arrays, tagger
from moodfield.card import EMBEDDING
from moodfield.datasets.mtg_jamendo import Track
from moodfield.errors import DatasetError, MoodfieldError, MoodfieldWarning
from moodfield.learning import network
from moodfield.tagger import Tagger
from moodfield.training import digests, mel_cache
from moodfield.training.digests import Digest, Digests
from moodfield.training.mel_cache import Entries

CACHE_DIR = Path(".cache/moodfield")
"""folder where embeddings are kept between runs"""
VERSION = 2
"""of the computation; cached embeddings of another version are not found"""

Progress = Callable[[Track, MoodfieldError | None], None]
"""called for every track, with the error if it cannot be read"""


@dataclass(frozen=True, eq=False)
class Embedding:
    """The embedding of an audio file."""

    content: str
    """equal for files with the same content"""
    values: Float32[np.ndarray, "channels"]
    """mean of the last feature map over time and frequency"""


def compute(
    folder: Path, paths: Sequence[Path], cache_dir: str | Path, *, jobs: int = 1, progress: Progress
) -> dict[Path, Embedding]:
    """Compute the embeddings of files, unless they are cached, by this model or another one with the same body.

    Args:
        folder: Folder of a model with an embedding.
        paths: Audio files, each once.
        cache_dir: Folder of the cache.
        jobs: Number of processes.
        progress: Called for every file, with the error if it cannot be read; such files are left out.

    Raises:
        ModelError: The model cannot be loaded, has no embedding, or has no linear head.
        DatasetError: The cache cannot be written.
    """
    base = network.read(folder)
    is_complete = partial(arrays.shape, dtype=np.float32, expected=(base.card.outputs[EMBEDDING],))
    settings = {"network": base.body_digest, "mel": asdict(base.card.mel), "version": VERSION}
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    cache = Path(cache_dir).absolute() / f"embedding-{key}"
    entries = Entries(cache, is_complete, partial(_write, str(folder.absolute()), key))
    tracks = [Track(str(path), str(path.absolute()), 0.0, ()) for path in paths]
    computed = {}
    try:
        results = mel_cache.compute_missing(tracks, Digests(cache_dir, "/"), entries, jobs=jobs)
        for path, (track, result) in zip(paths, results, strict=True):
            if isinstance(result, MoodfieldError):
                progress(track, result)
                continue
            progress(track, None)
            computed[path] = Embedding(str(result), np.load(result, allow_pickle=False))
    except OSError as error:
        raise DatasetError(f"cannot write {cache}: {error}; free space, or name another folder") from error
    return computed


def warn(_track: Track, error: MoodfieldError | None) -> None:
    """A `Progress` that warns of each file that is left out."""
    if error:
        warnings.warn(f"left out: {error}", MoodfieldWarning, stacklevel=2)


@lru_cache(maxsize=1)
def _load(folder: str, _key: str) -> Tagger:
    """The tagger of a model, loaded once in every process, on one core; another body in the folder has another key."""
    return tagger.load(folder, threads=1)


def _write(folder: str, key: str, source: Path, digest: Digest, target: Path) -> None:
    embedding = _load(folder, key).tag(source).embedding
    assert embedding is not None
    digests.check_unchanged(source, digest)
    arrays.write(target, embedding)
