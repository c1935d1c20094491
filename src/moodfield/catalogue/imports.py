"""Import the rows of a catalogue into a library."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from moodfield.catalogue import dataset, rows, storage
from moodfield.catalogue.dataset import Catalogue
from moodfield.catalogue.rows import Record
from moodfield.decoding.metadata import Metadata
from moodfield.errors import AudioError
from moodfield.library import database, models, scan
from moodfield.library.analysis import STEPS, Analysis
from moodfield.library.scan import FileState


def run(catalogue: Catalogue, path: Path, advance: Callable[[], None] = lambda: None) -> tuple[int, int, int]:
    """Add the final rows of a catalogue to a library, part by part; what it has of the same files is replaced.

    Corrections by a person are kept. Tracks that are on no local disk have their URI as path.

    Args:
        catalogue: The catalogue.
        path: Path of the library's database.
        advance: Called for every part.

    Returns:
        The numbers of tagged tracks, of files with an error, and of rows that are not final, which are left out.

    Raises:
        LibraryError: The library cannot be written.
        LockedError: The library is being scanned.
    """
    tagged = failed = left_out = 0
    with database.lock(path), database.write(path) as connection:
        model = models.insert(connection, catalogue.model)
        for part in catalogue.committed():
            table, inputs = dataset.read_part(catalogue, part), catalogue.read_inputs(part).to_pylist()
            with database.transaction(connection):
                for record, listed in zip(rows.to_records(table, catalogue.vocabulary), inputs, strict=True):
                    state = _state(record, listed)
                    if not rows.is_final(record):
                        left_out += 1
                    elif record["reason"] is None:
                        scan.store(connection, state, model, _analysis(record, len(catalogue.vocabulary)))
                        tagged += 1
                    else:
                        scan.store_error(connection, state, AudioError(record["reason"], record["error"]))
                        failed += 1
            advance()
    return tagged, failed, left_out


def _state(record: Record, listed: dict[str, Any]) -> FileState:
    """The file of a row as a library has it."""
    source = listed["source"]
    path, uri = storage.local_path(source), ""
    if path is None:
        path, uri = Path(source.partition("?")[0]), source
    return FileState(path, record["size"] or listed["size"] or 0, listed["mtime"] or 0, uri)


def _analysis(record: Record, tags: int) -> Analysis:
    """What a library stores of a row."""
    names = Metadata(record["artist"], record["album"], record["title"], record["genre"], record["year"])
    embedding = record["embedding"]
    return Analysis(
        digest=bytes.fromhex(record["sha256"]),
        metadata=names,
        duration=record["duration"],
        logits=np.frombuffer(record["logits"], np.float32),
        embedding=None if embedding is None else np.frombuffer(embedding, np.float16),
        curves=np.frombuffer(record["curves"], np.int8).reshape(tags, STEPS),
        envelope=np.frombuffer(record["envelope"], np.uint8),
    )
