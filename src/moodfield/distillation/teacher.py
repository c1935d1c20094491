"""A published network as teacher: its logits for music, computed once and cached.

In: a published checkpoint, tracks and the folder of their audio. Out: logits for every window of every track.
Knows nothing of: students.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from moodfield import arrays, audio, files, mel, nets, tagger, tags
from moodfield.card import Card, Provenance
from moodfield.datasets.mtg_jamendo import Track
from moodfield.errors import DatasetError, ModelError, MoodfieldError
from moodfield.mel import MelConfig
from moodfield.tagger import LoadedModel, TrackPredictor
from moodfield.training import digests, export, mel_cache
from moodfield.training.batches import WindowTargets
from moodfield.training.digests import AudioFile, Digest, Digests
from moodfield.training.recipe import Recipe

WINDOW = nets.VGGConfig().frames / mel.ORGANISERS.frames_per_second
"""seconds that a window of the teacher lasts"""
STEP = (nets.VGGConfig().frames // 2) / mel.ORGANISERS.frames_per_second
"""seconds from one of its windows to the next"""


def model_of(checkpoint: str | Path, folder: str | Path) -> Path:
    """The model folder of the organisers' baseline, made from its published checkpoint unless it is there."""
    digest = sha256(checkpoint)
    model = Path(folder) / f"teacher-{digest[:12]}" / "model"
    try:
        Card.read(model)
    except ModelError:  # not there yet, or damaged
        plan = Recipe(net=nets.VGGConfig(), mel=mel.ORGANISERS)
        described = export.describe(
            plan,
            net := nets.load_pretrained(checkpoint),
            tags.MOODS_AND_THEMES,
            name="vggish",
            summary="The organisers' VGG-ish baseline of MediaEval 2019, trained on MTG-Jamendo.",
            licence="Apache-2.0 (the repository of the MTG-Jamendo dataset, which publishes it)",
        )
        origin = {"checkpoint": f"{Path(checkpoint).name}, SHA-256 {digest}"}
        export.export(net, described, model, Provenance(origin=origin))
    return model


def compute(
    model: Path, tracks: Sequence[Track], music: str | Path, *, jobs: int = 1
) -> Iterator[tuple[Track, Path | MoodfieldError]]:
    """Write the teacher's logits for every window of every track, unless they are there; failures come as their errors.

    `model` is the folder of the teacher, below that of a cache. Logits are filed beside it under the SHA-256 of the
    audio, so those of audio that has changed are computed anew, as are damaged ones.
    """
    known = Digests(model.parent.parent, music)
    work = partial(_listen, model.absolute())
    yield from mel_cache.compute_missing(tracks, known, partial(_complete, model.absolute()), work, jobs=jobs)


def truth(model: Path, tracks: Sequence[Track], music: str | Path, student: MelConfig) -> WindowTargets:
    """The teacher's logits for the windows of these tracks, as truth for a student with its own mel."""
    known, shape = Digests(model.parent.parent, music), (None, len(tags.MOODS_AND_THEMES))
    windows = tuple(
        arrays.read(
            mel_cache.entry_path(model.parent, known.sha256(track)), np.float32, shape,
            remedy=f"give the same command again: the logits for {track.id} are computed anew", error=DatasetError,
        )
        for track in tracks
    )  # fmt: skip
    return WindowTargets(windows, step=STEP * student.frames_per_second)


def sha256(checkpoint: str | Path) -> str:
    """The SHA-256 of a checkpoint; refuses with `ModelError` one that cannot be read."""
    try:
        return files.sha256(Path(checkpoint))
    except OSError as error:
        raise ModelError(f"the teacher {checkpoint} cannot be read: {error.strerror}") from error


def _complete(model: Path, digest: str) -> Path | None:
    """The teacher's logits for the audio with a digest, if they are there and complete."""
    path = mel_cache.entry_path(model.parent, digest)
    return path if arrays.shape(path, np.float32, (None, len(tags.MOODS_AND_THEMES))) else None


def _listen(model: Path, source: AudioFile) -> tuple[Path, Digest]:
    """Write the teacher's logits for a file, unless they are there."""
    digest = digests.compute(source.path)
    if (path := _complete(model, digest.sha256)) is not None:
        return path, digest
    listener = TrackPredictor(_member(model))
    for piece in mel.stream(audio.Reader(source.path, sample_rate=mel.ORGANISERS.sample_rate), mel.ORGANISERS):
        listener.push(piece)
    logits = listener.finish().T
    digests.check_unchanged(source.path, digest)
    path = mel_cache.entry_path(model.parent, digest.sha256)
    arrays.write(path, logits)
    return path, digest


@lru_cache(maxsize=1)
def _member(model: Path) -> LoadedModel:
    """The teacher on one core, loaded once in every process."""
    return tagger.load(model, threads=1).models[0]
