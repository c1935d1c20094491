"""The teacher, a published network: its model folder, and its logits for music as training targets.

Logits are computed once and cached under the SHA-256 of the audio.
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
from moodfield.training.digests import Digest, Digests
from moodfield.training.mel_cache import Entries
from moodfield.training.recipe import Recipe

WINDOW_SECONDS = nets.VGGConfig().frames / mel.ORGANISERS.frames_per_second
"""length of a window of the teacher"""
STEP_SECONDS = (nets.VGGConfig().frames // 2) / mel.ORGANISERS.frames_per_second
"""time from one window of the teacher to the next"""
LOGITS_SHAPE = (None, len(tags.MOODS_AND_THEMES))
"""shape of the logits of a track, windows × tags"""


def export_model(checkpoint: str | Path, cache_dir: str | Path) -> Path:
    """Export the organisers' baseline from its published checkpoint, unless that was done.

    Returns:
        The model folder, below that of the cache.

    Raises:
        ModelError: The checkpoint cannot be read.
    """
    digest = checkpoint_sha256(checkpoint)
    folder = Path(cache_dir) / f"teacher-{digest[:12]}" / "model"
    try:
        Card.read(folder)
    except ModelError:  # missing or damaged
        net = nets.load_pretrained(checkpoint)
        recipe = Recipe(net=nets.VGGConfig(), mel=mel.ORGANISERS)
        summary = "The organisers' VGG-ish baseline of MediaEval 2019, trained on MTG-Jamendo."
        licence = "Apache-2.0 (the repository of the MTG-Jamendo dataset, which publishes it)"
        card = export.describe(recipe, net, tags.MOODS_AND_THEMES, name="vggish", summary=summary, licence=licence)
        origin = {"checkpoint": f"{Path(checkpoint).name}, SHA-256 {digest}"}
        export.export(net, card, folder, Provenance(origin=origin))
    return folder


def compute_logits(
    model: Path, tracks: Sequence[Track], audio_dir: str | Path, *, jobs: int = 1
) -> Iterator[tuple[Track, Path | MoodfieldError]]:
    """Compute the teacher's logits for every window of every track, unless they are cached.

    Logits are cached beside the model, by the SHA-256 of the audio: changed audio and damaged files are computed anew.

    Args:
        model: Model folder of the teacher, as of `export_model`.
        tracks: Tracks to compute.
        audio_dir: Folder that their paths are relative to.
        jobs: Number of processes.

    Yields:
        Every track with the file of its logits, or the error if it failed.
    """
    is_complete = partial(arrays.shape, dtype=np.float32, expected=LOGITS_SHAPE)
    entries = Entries(model.parent.absolute(), is_complete, partial(_write_logits, model.absolute()))
    yield from mel_cache.compute_missing(tracks, Digests(model.parent.parent, audio_dir), entries, jobs=jobs)


def load_targets(model: Path, tracks: Sequence[Track], audio_dir: str | Path, student_mel: MelConfig) -> WindowTargets:
    """Load the cached logits of tracks as training targets of a student.

    Args:
        model: Model folder of the teacher.
        tracks: Tracks whose logits were computed.
        audio_dir: Folder that their paths are relative to.
        student_mel: Mel of the student, whose frames the windows are counted in.

    Raises:
        DatasetError: Logits are missing or damaged.
    """
    audio_digests = Digests(model.parent.parent, audio_dir)
    windows = tuple(
        arrays.read(
            mel_cache.entry_path(model.parent, audio_digests.sha256(track)), np.float32, LOGITS_SHAPE,
            remedy=f"run the same command again: the logits for {track.id} are computed anew", error=DatasetError,
        )
        for track in tracks
    )  # fmt: skip
    return WindowTargets(windows, step=STEP_SECONDS * student_mel.frames_per_second)


def checkpoint_sha256(checkpoint: str | Path) -> str:
    """The SHA-256 of a checkpoint; raises `ModelError` if it cannot be read."""
    try:
        return files.sha256(Path(checkpoint))
    except OSError as error:
        raise ModelError(f"the teacher {checkpoint} cannot be read: {error.strerror}") from error


def _write_logits(model: Path, source: Path, digest: Digest, target: Path) -> None:
    predictor = TrackPredictor(_member(model))
    for block in mel.stream(audio.Reader(source, sample_rate=mel.ORGANISERS.sample_rate), mel.ORGANISERS):
        predictor.push(block)
    logits = predictor.finish().T
    digests.check_unchanged(source, digest)
    arrays.write(target, logits)


@lru_cache(maxsize=1)
def _member(model: Path) -> LoadedModel:
    """The teacher on one core, loaded once in every process."""
    return tagger.load(model, threads=1).models[0]
