"""Embeddings of audio files by one model, computed once and cached."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from moodfield import arrays, tagger
from moodfield.card import EMBEDDING, Card
from moodfield.datasets.mtg_jamendo import Track
from moodfield.errors import ModelError, MoodfieldError
from moodfield.tagger import Tagger
from moodfield.training import digests, mel_cache
from moodfield.training.digests import Digest, Digests
from moodfield.training.mel_cache import Entries

VERSION = 1
"""of the computation; cached embeddings of another version are not found"""

Progress = Callable[[Path, MoodfieldError | None], None]


def compute(
    model: str | Path,
    paths: Sequence[Path],
    cache_dir: str | Path,
    *,
    jobs: int = 1,
    progress: Progress = lambda *_: None,
) -> dict[Path, Float32[np.ndarray, "channels"]]:
    """Compute the embeddings of files, unless they are cached.

    Args:
        model: Name, folder or run of a model with an embedding.
        paths: Audio files.
        cache_dir: Folder of the cache.
        jobs: Number of processes.
        progress: Called for every file, with the error if it failed; such files are left out.

    Raises:
        ModelError: The model cannot be loaded, or has no embedding.
    """
    folder = tagger.model_folder(model)
    card = Card.read(folder)
    if not (size := card.outputs.get(EMBEDDING)):
        raise ModelError(f"the model {model} has no embedding, from which tags are learned; take another one")
    cache = Path(cache_dir).absolute() / f"embedding-{card.sha256['model.onnx'][:12]}-{VERSION}"
    is_complete = partial(arrays.shape, dtype=np.float32, expected=(size,))
    entries = Entries(cache, is_complete, partial(_write, str(folder)))
    tracks = [Track(str(path), str(path.absolute()), 0.0, ()) for path in paths]
    computed = {}
    for path, (_, result) in zip(
        paths, mel_cache.compute_missing(tracks, Digests(cache_dir, "/"), entries, jobs=jobs), strict=True
    ):
        error = result if isinstance(result, MoodfieldError) else None
        progress(path, error)
        if not isinstance(result, MoodfieldError):
            computed[path] = np.load(result, allow_pickle=False)
    return computed


@lru_cache(maxsize=1)
def _load(folder: str) -> Tagger:
    """The tagger of a model, loaded once in every process, on one core."""
    return tagger.load(folder, threads=1)


def _write(folder: str, source: Path, digest: Digest, target: Path) -> None:
    embedding = _load(folder).tag(source).embedding
    assert embedding is not None
    digests.check_unchanged(source, digest)
    arrays.write(target, embedding)
