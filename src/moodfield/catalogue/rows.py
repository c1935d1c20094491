"""The rows of a catalogue: records that workers return, and tables with the fields of a library."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

import moodfield
from moodfield import calibration
from moodfield.catalogue import storage
from moodfield.catalogue.dataset import Catalogue
from moodfield.decisions import Rule
from moodfield.errors import AudioError
from moodfield.library import rows
from moodfield.library.analysis import Analysis

if TYPE_CHECKING:
    import pyarrow as pa

Record = dict[str, Any]
"""what a worker returns for a file: `row`, `part`, and the fields of `RECORD`"""

RECORD: Mapping[str, Any] = {
    "error": None, "reason": None, "size": None, "sha256": None, "duration": None, "title": "", "artist": "",
    "album": "", "genre": "", "year": None, "version": moodfield.__version__, "logits": None, "embedding": None,
    "curves": None, "envelope": None,
}  # fmt: skip
"""fields of a record, and their values for a file that failed; arrays are bytes"""
NOT_FINAL = frozenset(("missing", "no-permission", storage.STORAGE))
"""reasons of `AudioError` for which a file is tagged again by the next run"""

_LIBRARY_FIELDS = [name for name in rows.FIELDS if name not in ("scores", "evidence")]

FIELDS: Mapping[str, str] = {
    "source": "URI of the file; of a local one its absolute path",
    **{name: rows.FIELDS[name] for name in _LIBRARY_FIELDS[: _LIBRARY_FIELDS.index("model")]},
    "missing": "null, as in libraries for files that are there",
    "reason": "short code of the error; null if there is none",
    "etag": "entity tag of the listing; null if unknown",
    "model_digest": "SHA-256 of the model's card",
    "version": "version of moodfield that made the row",
    **{name: rows.FIELDS[name] for name in _LIBRARY_FIELDS[_LIBRARY_FIELDS.index("model") :]},
    "scores.TAG": "score of the tag, 0 … 1",
    "evidence.TAG": "evidence of the tag",
    "embedding": "embedding, float16, little-endian; null if the model has none",
    "curves": "log-odds × 12 over 32 parts of the track, int8, tags × 32",
    "envelope": "peaks × 255 over time, uint8",
}
"""the columns of a catalogue, in their order, with their meaning"""
LISTS = ("decided", "moods", "themes", "added", "removed")
INTEGERS = ("year", "size")
BLOBS = ("embedding", "curves", "envelope")


def from_analysis(analysis: Analysis, size: int | None) -> Record:
    """The record of a tagged file of so many bytes."""
    names, embedding = analysis.metadata, analysis.embedding
    return {
        **RECORD, "size": size, "sha256": analysis.digest.hex(), "duration": analysis.duration,
        "title": names.title, "artist": names.artist, "album": names.album, "genre": names.genre, "year": names.year,
        "logits": analysis.logits.tobytes(), "embedding": None if embedding is None else embedding.tobytes(),
        "curves": analysis.curves.tobytes(), "envelope": analysis.envelope.tobytes(),
    }  # fmt: skip


def from_error(error: Exception) -> Record:
    """The record of a file that could not be tagged."""
    reason = error.reason if isinstance(error, AudioError) else type(error).__name__
    return {**RECORD, "error": str(error) or type(error).__name__, "reason": reason}


def is_final(record: Record) -> bool:
    """Whether the next run keeps a record: that of a tagged file, or of one that is no audio that can be tagged.

    A file that was not delivered, that crashed its process, or at which the program failed (the reason is
    then the name of a class), is tagged again.
    """
    reason = record["reason"]
    return reason is None or (reason not in NOT_FINAL and not reason[0].isupper())


def to_table(catalogue: Catalogue, inputs: "pa.Table", records: Sequence[Record]) -> "pa.Table":
    """The rows of a part.

    Args:
        catalogue: The catalogue.
        inputs: The inputs of the part.
        records: A record for each of them, in the same order.
    """
    logits = _matrix([record["logits"] for record in records], len(catalogue.vocabulary))
    decided = decision_columns(catalogue, catalogue.rule, logits)
    listed = inputs.to_pydict()
    reasons = [record["reason"] for record in records]
    columns: dict[str, Any] = {name: [record[name] for record in records] for name in RECORD if name != "logits"}
    columns |= {
        "source": listed["source"],
        "path": [_path(source) for source in listed["source"]],
        "title": [
            record["title"] or Path(storage.public_name(source)).stem
            for record, source in zip(records, listed["source"], strict=True)
        ],
        "size": [record["size"] or size for record, size in zip(records, listed["size"], strict=True)],
        "modified": [None if mtime is None else rows.format_time(mtime // 10**9) for mtime in listed["mtime"]],
        "etag": listed["etag"],
        "missing": [None] * len(records),
        "model": [None if reason else catalogue.model["name"] for reason in reasons],
        "model_digest": [catalogue.model["digest"]] * len(records),
        "relative": [None if reason else False for reason in reasons],
        "added": [None if reason else [] for reason in reasons],
        "removed": [None if reason else [] for reason in reasons],
        **decided,
        **{f"scores.{tag}": values for tag, values in zip(catalogue.vocabulary, _scores(logits).T, strict=True)},
    }
    return columns_to_table(columns, schema(catalogue))


def decision_columns(catalogue: Catalogue, rule: Rule, logits: Float[np.ndarray, "tracks tags"]) -> dict[str, Any]:
    """The columns `decided`, `moods`, `themes` and `evidence.TAG`; null for tracks without logits."""
    evidence = rule.evidence(logits)
    is_decided = rule.decide(logits, evidence)
    is_tagged = np.isfinite(logits).all(axis=1)
    evidence[~is_tagged] = np.nan
    vocabulary, themes = catalogue.vocabulary, frozenset(catalogue.model["themes"])
    decided = [
        _decided(vocabulary, *values) if tagged else None
        for tagged, *values in zip(is_tagged, evidence, is_decided, strict=True)
    ]
    return {
        "decided": decided,
        "moods": [None if tags is None else [tag for tag in tags if tag not in themes] for tags in decided],
        "themes": [None if tags is None else [tag for tag in tags if tag in themes] for tags in decided],
        **{f"evidence.{tag}": values for tag, values in zip(vocabulary, evidence.astype(np.float32).T, strict=True)},
    }


def record_schema() -> "pa.Schema":
    """The schema of records, for tables that Ray moves."""
    import pyarrow as pa

    blobs = ("logits", *BLOBS)
    kinds = dict.fromkeys(blobs, pa.binary()) | dict.fromkeys(INTEGERS, pa.int64()) | {"duration": pa.float64()}
    numbers = [("part", pa.int64()), ("row", pa.int64())]
    return pa.schema([*numbers, *((name, kinds.get(name, pa.string())) for name in RECORD)])


def nest(lists: Sequence[Sequence[Record]], schema: "pa.Schema") -> "pa.Table":
    """Lists of records as a table with a row for each, whose only column is `records`."""
    import pyarrow as pa

    nested = pa.array(lists, pa.list_(pa.struct(list(schema))))
    return pa.table({"records": nested})


def unnest(table: "pa.Table") -> list[Record]:
    """The records of all rows of a table by `nest`."""
    return [record for records in table["records"].to_pylist() for record in records]


def schema(catalogue: Catalogue) -> "pa.Schema":
    """The schema of the rows of a catalogue."""
    import pyarrow as pa

    kinds = {
        **dict.fromkeys(LISTS, pa.list_(pa.string())), **dict.fromkeys(INTEGERS, pa.int64()),
        **dict.fromkeys(BLOBS, pa.binary()), "duration": pa.float64(), "relative": pa.bool_(),
    }  # fmt: skip
    fields = []
    for name in FIELDS:
        if name.endswith(".TAG"):
            fields += [(f"{name.removesuffix('TAG')}{tag}", pa.float32()) for tag in catalogue.vocabulary]
        else:
            fields.append((name, kinds.get(name, pa.string())))
    return pa.schema(fields)


def columns_to_table(columns: Mapping[str, Any], schema: "pa.Schema") -> "pa.Table":
    """A table of columns by name; NaN in arrays is null."""
    import pyarrow as pa

    arrays = [
        pa.array(values, field.type, from_pandas=isinstance(values, np.ndarray))
        for field in schema
        for values in [columns[field.name]]
    ]
    return pa.table(arrays, schema)


def to_records(table: "pa.Table", vocabulary: Sequence[str]) -> list[Record]:
    """The records of the rows of a part."""
    names = [name for name in RECORD if name != "logits"]
    logits = read_logits(table, vocabulary)
    records = table.select(names).to_pylist()
    for record, values in zip(records, logits, strict=True):
        record["logits"] = None if record["reason"] else values.tobytes()
    return records


def read_logits(table: "pa.Table", vocabulary: Sequence[str]) -> Float32[np.ndarray, "tracks tags"]:
    """Log-odds of the scores of the rows of a part; NaN where there are none."""
    columns = [table[f"scores.{tag}"].to_numpy() for tag in vocabulary]
    return calibration.logit(np.stack(columns, axis=1)).astype(np.float32)


def _path(source: str) -> str:
    """The field `path` of a library: an absolute path, or the URI of what is on no local disk."""
    path = storage.local_path(source)
    return source if path is None else str(path).encode("utf-8", "replace").decode()


def _decided(
    vocabulary: Sequence[str], evidence: Float64[np.ndarray, "tags"], is_decided: Bool[np.ndarray, "tags"]
) -> list[str]:
    """Decided tags by decreasing evidence."""
    return [vocabulary[tag] for tag in np.argsort(-evidence, kind="stable") if is_decided[tag]]


def _matrix(blobs: Sequence[bytes | None], tags: int) -> Float32[np.ndarray, "tracks tags"]:
    """Logits of tracks; NaN where there are none."""
    matrix = np.full((len(blobs), tags), np.nan, np.float32)
    for row, blob in enumerate(blobs):
        if blob is not None:
            matrix[row] = np.frombuffer(blob, np.float32)
    return matrix


def _scores(logits: Float32[np.ndarray, "tracks tags"]) -> Float32[np.ndarray, "tracks tags"]:
    return calibration.sigmoid(logits.astype(np.float64)).astype(np.float32)
