"""Networks in actors of their own, as on GPUs: mels by workers, clips of several tracks in a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moodfield import engine, tagger
from moodfield.audio import Envelope
from moodfield.catalogue import rows
from moodfield.catalogue.rows import Record
from moodfield.decoding import metadata
from moodfield.decoding.metadata import Metadata
from moodfield.library import analysis
from moodfield.library.analysis import Analysis
from moodfield.tagger import TrackMels
from moodfield.tagging import Tagging

if TYPE_CHECKING:
    import pyarrow as pa

MAX_MEL_BYTES = 2**25
"""bytes of the mels of a track that are sent to a network: half an hour; workers tag longer ones"""
BATCH_TRACKS = 16
"""tracks that a network gets at a time"""
MELS = ("mels", "peaks", "span")
"""fields of a record that a network takes"""


@dataclass(frozen=True, eq=False)
class PreparedTrack:
    """What a worker computes of a file for a network elsewhere."""

    digest: bytes
    """SHA-256 of the file"""
    metadata: Metadata
    """its own metadata"""
    track: TrackMels
    """its mels"""


def prepare(names: tuple[str, ...], path: Path) -> PreparedTrack | Analysis:
    """Compute the mels of a file, or tag it if it is too long; raises as `Tagger.tag` does."""
    track = analysis.load(names).compute_mels(path, max_bytes=MAX_MEL_BYTES)
    if track is None:
        return analysis.analyse(names, path)
    return PreparedTrack(analysis.digest(path), metadata.read(path), track)


def to_record(prepared: PreparedTrack, size: int | None) -> Record:
    """The record of a file that a network is still to tag."""
    track, names = prepared.track, prepared.metadata
    return {
        **rows.RECORD, "size": size, "sha256": prepared.digest.hex(), "duration": track.duration,
        "title": names.title, "artist": names.artist, "album": names.album, "genre": names.genre, "year": names.year,
        "mels": [whole.tobytes() for whole in track.mels],
        "peaks": track.envelope.peaks.tobytes() if track.envelope else None,
        "span": track.envelope.seconds if track.envelope else None,
    }  # fmt: skip


def schema() -> "pa.Schema":
    """The schema of records with mels."""
    import pyarrow as pa

    fields = [("mels", pa.list_(pa.large_binary())), ("peaks", pa.binary()), ("span", pa.float64())]
    return pa.schema([*rows.record_schema(), *fields])


def is_available() -> bool:
    """Whether ONNX Runtime can use a GPU of this machine."""
    return "cuda" in engine.devices()


class NetworkActor:
    """Networks of a tagger, on a GPU if there is one."""

    def __init__(self, names: tuple[str, ...]) -> None:
        device = engine.devices()[0]
        self._tagger = tagger.load(*names, threads=1 if device == "cpu" else 0, device=device)

    def __call__(self, table: "pa.Table") -> "pa.Table":
        """Records with what the networks compute of their mels; those without mels as they are."""
        records = rows.unnest(table)
        waiting = [record for record in records if record["mels"] is not None]
        if waiting:
            taggings = self._tag([self._track(record) for record in waiting])
            for record, tagging in zip(waiting, taggings, strict=True):
                if isinstance(tagging, Exception):
                    record |= rows.from_error(tagging)
                else:
                    names = Metadata(*(record[name] for name in ("artist", "album", "title", "genre", "year")))
                    analysed = analysis.from_tagging(tagging, bytes.fromhex(record["sha256"]), names)
                    record |= rows.from_analysis(analysed, record["size"])
        kept = [{name: value for name, value in record.items() if name not in MELS} for record in records]
        return rows.nest([kept], rows.record_schema())

    def _tag(self, tracks: Sequence[TrackMels]) -> Sequence[Tagging | Exception]:
        """Taggings of tracks; if a batch fails as a whole, as for lack of memory, one track after the other."""
        try:
            return self._tagger.tag_mels(tracks)
        except Exception as error:  # noqa: BLE001 (a fault that one file of millions reveals is its row)
            return [error] if len(tracks) == 1 else [result for track in tracks for result in self._tag([track])]

    def _track(self, record: dict[str, Any]) -> TrackMels:
        """The mels of a record."""
        configs = self._tagger.mel_configs
        mels = [
            np.frombuffer(blob, np.float32).reshape(config.n_mels, -1)
            for blob, config in zip(record["mels"], configs, strict=True)
        ]
        envelope = None
        if record["peaks"] is not None:
            envelope = Envelope(record["span"], np.frombuffer(record["peaks"], np.float32))
        return TrackMels("", record["duration"], tuple(mels), envelope, ())
