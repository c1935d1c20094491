"""The Parquet dataset of a catalogue: what it was made of, and one file for every part of its inputs."""

import hashlib
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import moodfield
from moodfield.catalogue import inputs, storage
from moodfield.decisions import Rule
from moodfield.errors import CatalogueError, UsageError
from moodfield.library import models

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
"""version of the format of catalogues"""
DESCRIPTION = "catalogue.json"
PARTS = "tracks"
"""folder of the rows"""
MOST_ROWS, FEWEST_ROWS, WANTED_PARTS = 1_000, 50, 100
"""rows of a part: as many as give `WANTED_PARTS`, within these limits"""
LEFT = ("inputs-", ".inputs-", f".{DESCRIPTION}.")
"""beginnings of names of files that a process may leave that is killed before there is a `DESCRIPTION`"""
PART = re.compile(r"part-(\d{6,})\.parquet")
NOT_FINAL = b"moodfield.not_final"
"""metadata of a part: the number of rows whose files are tagged again by the next run"""
FAILED = b"moodfield.failed"
"""metadata of a part: the number of rows with an error"""
LISTING = b"moodfield.listing"
"""metadata of a part: `Catalogue.listing` of the catalogue that it belongs to"""


@dataclass(frozen=True)
class Catalogue:
    """What a catalogue is made of; it never changes."""

    folder: str
    """URI or path of the dataset"""
    sources: tuple[str, ...]
    """sources, as they were named"""
    limit: int | None
    """most inputs; None: all"""
    inputs: int
    """number of inputs"""
    rows: int
    """rows of a part; the last one may have fewer"""
    listing: str
    """name of the Parquet file with the inputs, one row group for each part"""
    model: dict[str, Any]
    """the model, as `library.models.describe` returns it"""
    version: str
    """version of moodfield that has made the catalogue"""
    format: int = FORMAT

    @property
    def parts(self) -> int:
        """The number of parts."""
        return math.ceil(self.inputs / self.rows)

    def rows_of(self, part: int) -> int:
        """The number of rows of a part."""
        return min(self.rows, self.inputs - part * self.rows)

    @cached_property
    def rule(self) -> Rule:
        """The rule of absolute decisions."""
        return models.rule(self.model["rule"])

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Tags, in the order of arrays."""
        return tuple(self.model["vocabulary"])

    def part(self, number: int, folder: str = PARTS) -> str:
        """The URI of the file with the rows of a part."""
        return storage.join(self.folder, folder, part_name(number))

    def committed(self, folder: str = PARTS) -> list[int]:
        """The numbers of the parts that are written, in order."""
        names = map(PART.fullmatch, storage.names(storage.join(self.folder, folder)))
        return sorted(number for match in names if match and (number := int(match[1])) < self.parts)

    def read_inputs(self, number: int) -> "pa.Table":
        """The inputs of a part, as `inputs.collect` returns them."""
        from pyarrow import parquet

        uri = storage.join(self.folder, self.listing)
        with storage.named_errors(uri, "read", "restore it, or make another catalogue"), storage.open_file(uri) as file:
            return parquet.ParquetFile(file, metadata=_read_footer(uri)).read_row_group(number)


def part_name(number: int) -> str:
    """The name of the file of a part.

    >>> part_name(12)
    'part-000012.parquet'
    """
    return f"part-{number:06}.parquet"


def read(folder: str) -> Catalogue:
    """The catalogue in a folder; raises `CatalogueError` if there is none, or it cannot be read."""
    storage.check_name(folder)
    name = storage.public_name(folder)
    if (path := storage.local_path(folder)) and path.is_file():
        raise CatalogueError(f"{name} is a file; name a folder")
    try:
        values = json.loads(storage.read(storage.join(folder, DESCRIPTION)))
        if values["format"] != FORMAT:
            raise CatalogueError(
                f"{name} has format {values['format']} of catalogues, expected {FORMAT}; use another moodfield"
            )
        return Catalogue(**values | {"folder": folder, "sources": tuple(values["sources"])})
    except FileNotFoundError as error:
        raise CatalogueError(f"{name} holds no catalogue; make one: moodfield catalogue tag SRC -o {name}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise CatalogueError(f"{name} holds a damaged {DESCRIPTION} ({error}); name another folder") from error


def open_or_create(folder: str, sources: Sequence[str], model: Mapping[str, Any], limit: int | None) -> Catalogue:
    """The catalogue in a folder, or a new one of the files that the sources have now.

    Of several machines that make the same one at the same time, all get that of the first.

    Raises:
        UsageError: The folder holds another catalogue, or something else.
        CatalogueError: The sources cannot be listed, or storage fails.
    """
    sources = tuple(map(storage.absolute, sources))
    wanted = Catalogue(folder, sources, limit, 0, 1, "", dict(model), moodfield.__version__)
    try:
        existing = read(folder)
    except CatalogueError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        others = [name for name in storage.names(folder) if not name.startswith(LEFT)]
        if others:
            raise UsageError(
                f"{storage.public_name(folder)} has other files, such as {min(others)}; name a new folder"
            ) from error
    else:
        return _check_same(existing, wanted)
    table = inputs.collect(sources, limit=limit)
    rows = min(MOST_ROWS, max(FEWEST_ROWS, len(table) // WANTED_PARTS))
    content = to_bytes(table, rows=rows)
    listing = f"inputs-{hashlib.sha256(content).hexdigest()[:16]}.parquet"
    storage.write(storage.join(folder, listing), content)
    created = replace(wanted, inputs=len(table), rows=rows, listing=listing)
    values = {name: value for name, value in asdict(created).items() if name != "folder"}
    storage.create(storage.join(folder, DESCRIPTION), json.dumps(values, indent=1).encode())
    return _check_same(read(folder), wanted)  # another machine may have been faster


def to_bytes(table: "pa.Table", *, rows: int = MOST_ROWS, metadata: Mapping[bytes, bytes] | None = None) -> bytes:
    """A table as a Parquet file."""
    from pyarrow import parquet

    buffer = io.BytesIO()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **(metadata or {})})
    parquet.write_table(table, buffer, row_group_size=rows, compression="zstd")
    return buffer.getvalue()


def write_part(
    catalogue: Catalogue,
    number: int,
    table: "pa.Table",
    *,
    folder: str = PARTS,
    counts: Mapping[bytes, int] | None = None,
) -> None:
    """Write the file of a part, with counts in its metadata; raises `CatalogueError`."""
    metadata = {LISTING: catalogue.listing.encode()} | {
        name: str(count).encode() for name, count in (counts or {}).items()
    }
    storage.write(catalogue.part(number, folder), to_bytes(table, metadata=metadata))


def read_part(
    catalogue: Catalogue, number: int, columns: Sequence[str] | None = None, *, folder: str = PARTS
) -> "pa.Table":
    """The rows of a part, or some of their columns; raises `CatalogueError` if it is damaged, or of another list."""
    with _open_part(catalogue, number, folder) as part:
        return part.read(columns=None if columns is None else list(columns))


def read_counts(catalogue: Catalogue, number: int) -> tuple[int, int]:
    """The numbers of rows of a part with an error, and of those of them that are not final."""
    with _open_part(catalogue, number, PARTS) as part:
        metadata = part.schema_arrow.metadata
    return int(metadata.get(FAILED, 0)), int(metadata.get(NOT_FINAL, 0))


@contextmanager
def _open_part(catalogue: Catalogue, number: int, folder: str) -> Iterator[Any]:
    """A context with the Parquet file of a part; raises `CatalogueError`."""
    from pyarrow import parquet

    uri = catalogue.part(number, folder)
    remedy = "remove it, and run the command again"
    with storage.named_errors(uri, "read", remedy), storage.open_file(uri) as file:
        part = parquet.ParquetFile(file)
        listing = (part.schema_arrow.metadata or {}).get(LISTING, b"").decode()
        if listing != catalogue.listing:
            raise CatalogueError(
                f"{uri} belongs to {listing or 'no catalogue'}, expected {catalogue.listing}; {remedy}"
            )
        yield part


@lru_cache(maxsize=1)
def _read_footer(uri: str) -> Any:
    """The footer of the file with the inputs, which grows with the number of parts, and is read once."""
    from pyarrow import parquet

    with storage.open_file(uri) as file:
        return parquet.read_metadata(file)


def _check_same(existing: Catalogue, wanted: Catalogue) -> Catalogue:
    """Raise `UsageError` unless a catalogue has the wanted sources, limit and model."""
    names = {"sources": "sources", "limit": "--limit"}
    for field, label in names.items():
        if getattr(existing, field) != getattr(wanted, field):
            raise UsageError(
                f"{existing.folder} holds a catalogue with other {label} ({_describe(getattr(existing, field))}); "
                "name the same ones to go on, or another folder"
            )
    if existing.model["digest"] != wanted.model["digest"]:
        raise UsageError(
            f"{existing.folder} was tagged by another model, or version of it ({existing.model['name']}); "
            "name that model to go on, or another folder"
        )
    return existing


def _describe(value: tuple[str, ...] | int | None) -> str:
    """Sources or a limit, as messages have them."""
    return ", ".join(map(storage.public_name, value)) if isinstance(value, tuple) else str(value)
