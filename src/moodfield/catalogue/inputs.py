"""The inputs of a catalogue: files of folders, globs and manifests, sorted, each of them once."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from moodfield.catalogue import storage
from moodfield.catalogue.storage import StoredFile
from moodfield.errors import CatalogueError

if TYPE_CHECKING:
    import pyarrow as pa

MANIFESTS = (".txt", ".csv", ".parquet")
"""suffixes of manifests"""
COLUMNS = ("source", "uri", "url", "path")
"""columns of a CSV or Parquet manifest, the first of which that is in it has the URIs"""
CHUNK = 10_000
"""files of a listing that are Python objects at a time"""


def collect(sources: Sequence[str], *, limit: int | None = None) -> "pa.Table":
    """List the inputs of a catalogue.

    Args:
        sources: Folders, globs, audio files, and manifests: text files with a URI a line, and CSV or Parquet files with
            a column `source`, `uri`, `url` or `path`. Relative paths are below the current folder.
        limit: Only the first ones that are listed.

    Returns:
        A table with the fields of `StoredFile`, sorted by source, each source once.

    Raises:
        CatalogueError: A source cannot be listed or read, or there is no audio file.
    """
    import pyarrow as pa

    fields = {"source": pa.string(), "size": pa.int64(), "etag": pa.string(), "mtime": pa.int64()}
    listed = islice((file for source in sources for file in _list(source)), limit)
    chunks = []
    while chunk := list(islice(listed, CHUNK)):
        columns = {name: pa.array([getattr(file, name) for file in chunk], kind) for name, kind in fields.items()}
        chunks.append(pa.table(columns))
    if not chunks:
        raise CatalogueError(f"no audio file was found in {', '.join(sources)}; name folders, globs or manifests")
    table = pa.concat_tables(chunks).sort_by("source").combine_chunks()
    is_new = pa.compute.not_equal(table["source"][1:], table["source"][:-1])
    return table.filter(pa.chunked_array([pa.array([True]), *is_new.chunks]))


def _list(source: str) -> Iterator[StoredFile]:
    """The files of one source."""
    suffix = PurePosixPath(source).suffix.lower()
    if suffix not in MANIFESTS:
        yield from storage.find(source)
        return
    try:
        with storage.open_file(source) as file:
            if suffix == ".parquet":
                uris = _read_parquet(file, source)
            else:
                text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
                uris = _read_csv(text, source) if suffix == ".csv" else _read_lines(text)
            for uri in uris:
                path = storage.local_path(uri)
                yield StoredFile(uri) if path is None else storage.describe(path)
    except FileNotFoundError as error:
        raise CatalogueError(f"the manifest {source} does not exist") from error
    except (OSError, ValueError, csv.Error) as error:  # ArrowInvalid is a ValueError
        raise CatalogueError(f"the manifest {source} cannot be read: {error}") from error


def _read_lines(text: Iterable[str]) -> Iterator[str]:
    """The lines of a text, without empty ones and comments."""
    for line in text:
        if (uri := line.strip("\r\n")).strip() and not uri.startswith("#"):
            yield uri


def _read_csv(text: Iterable[str], source: str) -> Iterator[str]:
    rows = csv.DictReader(text)
    column = _column(rows.fieldnames or (), source)
    yield from (row[column] for row in rows if row[column])


def _read_parquet(file: object, source: str) -> Iterator[str]:
    from pyarrow import parquet

    table = parquet.ParquetFile(file)
    column = _column(table.schema_arrow.names, source)
    for batch in table.iter_batches(CHUNK, columns=[column]):
        yield from (str(uri) for uri in batch.column(0).to_pylist() if uri)


def _column(names: Iterable[str], source: str) -> str:
    """The column with the URIs."""
    for name in COLUMNS:
        if name in names:
            return name
    raise CatalogueError(f"the manifest {source} has the columns {', '.join(names)}, expected one of {COLUMNS}")
