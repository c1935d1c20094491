"""The inputs of a catalogue: files of folders, globs and manifests, sorted, each of them once."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from moodfield.catalogue import listing, storage
from moodfield.catalogue.listing import StoredFile
from moodfield.errors import CatalogueError, UsageError

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
        limit: Only the first ones that are listed, in any order.

    Returns:
        A table with the fields of `StoredFile`, sorted by source, each source once.

    Raises:
        CatalogueError: A source cannot be listed or read, or there is no audio file.
    """
    import pyarrow as pa

    for source in sources:
        storage.check_name(source)
    text = pa.large_string()  # the names of all inputs may have more than 2 GiB
    schema = pa.schema([("source", text), ("size", pa.int64()), ("etag", text), ("mtime", pa.int64())])
    listed = islice((file for source in sources for file in _list(source)), limit)
    table = pa.Table.from_batches(_batches(listed, schema), schema)
    if not len(table):
        names = ", ".join(map(storage.public_name, sources))
        raise CatalogueError(f"no audio file was found in {names}; name folders, globs or manifests")
    table = table.sort_by("source").combine_chunks()
    is_new = pa.compute.not_equal(table["source"][1:], table["source"][:-1])
    return table.filter(pa.chunked_array([pa.array([True]), *is_new.chunks]))


def _batches(listed: Iterator[StoredFile], schema: "pa.Schema") -> "Iterator[pa.RecordBatch]":
    """Files as batches of a table, which take less memory than objects."""
    import pyarrow as pa

    while chunk := list(islice(listed, CHUNK)):
        columns = [pa.array([getattr(file, field.name) for file in chunk], field.type) for field in schema]
        yield pa.record_batch(columns, schema)


def _list(source: str) -> Iterator[StoredFile]:
    """The files of one source."""
    name = storage.public_name(source)
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in MANIFESTS:
        yield from listing.find(source)
        return
    try:
        with (
            storage.named_errors(f"the manifest {name}", "read", "check it", passed=(FileNotFoundError,)),
            storage.open_file(source) as file,
        ):
            if suffix == ".parquet":
                uris = _read_parquet(file, name)
            else:
                text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
                uris = _read_csv(text, name) if suffix == ".csv" else _read_lines(text)
            for number, uri in uris:
                yield _input(uri, f"the manifest {name}, line {number}")
    except FileNotFoundError as error:
        raise CatalogueError(f"the manifest {name} does not exist") from error


def _input(uri: str, place: str) -> StoredFile:
    """The file of a line of a manifest."""
    try:
        storage.check_name(uri)
        if (path := storage.local_path(uri)) is not None:
            return listing.describe(path)
        uri.encode()
        storage.check_protocol(uri.partition("://")[0])
    except (CatalogueError, UsageError, UnicodeEncodeError) as error:
        raise CatalogueError(f"{place}: {error}; correct this line") from error
    return StoredFile(uri)


def _read_lines(text: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The lines of a text without blanks around them, empty ones and comments, and their numbers."""
    for number, line in enumerate(text, start=1):
        if (uri := line.strip()) and not uri.startswith("#"):
            yield number, uri


def _read_csv(text: Iterable[str], source: str) -> Iterator[tuple[int, str]]:
    rows = csv.DictReader(text)
    column = _column(rows.fieldnames or (), source)
    yield from ((rows.line_num, row[column]) for row in rows if row[column])


def _read_parquet(file: object, source: str) -> Iterator[tuple[int, str]]:
    import pyarrow as pa
    from pyarrow import parquet

    table = parquet.ParquetFile(file)
    column = _column(table.schema_arrow.names, source)
    kind = table.schema_arrow.field(column).type
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(values) or pa.types.is_large_string(values)):
        raise CatalogueError(f"the column {column} of the manifest {source} has the type {kind}, expected string")
    uris = (uri for batch in table.iter_batches(CHUNK, columns=[column]) for uri in batch.column(0).to_pylist())
    yield from ((number, uri) for number, uri in enumerate(uris, start=1) if uri)


def _column(names: Iterable[str], source: str) -> str:
    """The column with the URIs."""
    for name in COLUMNS:
        if name in names:
            return name
    raise CatalogueError(f"the manifest {source} has the columns {', '.join(names)}, expected one of {COLUMNS}")
