"""Exports of a library: JSON Lines, CSV, Parquet, and JAMS."""

import csv
import json
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import moodfield
from moodfield import files
from moodfield.errors import OutputError, UsageError
from moodfield.library import analysis, rows
from moodfield.library.decided import DecidedTracks

LISTS = ("decided", "moods", "themes", "added", "removed")
"""fields that are lists of tags; of a CSV, tags joined by `; `"""
BATCH = 10_000
"""rows of a row group of Parquet"""
KINDS = {".jsonl": (b'{"path"',), ".csv": (b"path,",), ".parquet": (b"par1",)}
"""suffixes of files → how they begin, in lower case"""
JAMS_VERSION = "0.3.4"
"""version of the schema of JAMS"""


def check(path: Path) -> None:
    """Raise `OutputError` or `UsageError` for a path that cannot be an export, or would replace something else."""
    suffix = path.suffix.lower()
    if suffix == ".jams":
        files.check_name(path)
        others = [item.name for item in path.iterdir() if item.suffix != ".jams"] if path.is_dir() else []
        if others or (path.exists() and not path.is_dir()):
            raise OutputError(f"{path} is not replaced: it is no folder of JAMS files alone; name another one")
    elif suffix in KINDS:
        files.check_output(path, kind=KINDS[suffix])
    else:
        raise UsageError(
            f"{path} has the suffix of no export; name it like library{', library'.join((*KINDS, '.jams'))}"
        )


def write(path: Path, decided: DecidedTracks, connection: sqlite3.Connection) -> None:
    """Write all tracks to a file, atomically, in the form that its suffix names; `.jams` is a folder of files."""
    suffix = path.suffix.lower()
    if suffix == ".jams":
        _write_jams(path, decided, connection)
        return
    writers: dict[str, Callable[[Path, DecidedTracks], None]] = {
        ".jsonl": _write_json_lines, ".csv": _write_csv, ".parquet": _write_parquet,
    }  # fmt: skip
    with files.atomic_path(path) as partial:
        writers[suffix](partial, decided)


def _write_json_lines(path: Path, decided: DecidedTracks) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{to_json(row)}\n" for row in rows.rows(decided))


def to_json(row: dict[str, object]) -> str:
    """A row in one line of JSON; with escapes if a path has bytes that are no UTF-8."""
    text = json.dumps(row, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(row)


def _flat(decided: DecidedTracks) -> Iterator[dict[str, Any]]:
    """Rows with one value a column: the error is its message, scores and evidence have a column for each tag."""
    for row in rows.rows(decided):
        error = row["error"]
        values = row | {"error": error["message"] if isinstance(error, dict) else None}
        for name in ("scores", "evidence"):
            by_tag = values.pop(name, None) or dict.fromkeys(decided.model.vocabulary)
            values |= {f"{name}.{tag}": value for tag, value in by_tag.items()}  # type: ignore[attr-defined]
        yield values


def _write_csv(path: Path, decided: DecidedTracks) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        names = [name for name in rows.FIELDS if name not in ("scores", "evidence")]
        names += [f"{kind}.{tag}" for kind in ("scores", "evidence") for tag in decided.model.vocabulary]
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        for row in _flat(decided):
            writer.writerow(
                {name: "; ".join(value) if isinstance(value, list) else value for name, value in row.items()}
            )


def _write_parquet(path: Path, decided: DecidedTracks) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    integers, numbers = ("year", "size"), ("duration",)
    fields = []
    for name in rows.FIELDS:
        if name in ("scores", "evidence"):
            fields += [pa.field(f"{name}.{tag}", pa.float32()) for tag in decided.model.vocabulary]
            continue
        kind = pa.list_(pa.string()) if name in LISTS else pa.string()
        kind = pa.int64() if name in integers else pa.float64() if name in numbers else kind
        fields.append(pa.field(name, pa.bool_() if name == "relative" else kind))
    schema = pa.schema(fields)
    with parquet.ParquetWriter(path, schema) as writer:
        batch: list[dict[str, Any]] = []
        for row in _flat(decided):
            batch.append({name: _as_utf8(value) for name, value in row.items()})
            if len(batch) == BATCH:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                batch.clear()
        writer.write_table(pa.Table.from_pylist(batch, schema))


def _as_utf8(value: Any) -> Any:
    """A value without bytes that are no UTF-8, which Parquet cannot have."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _write_jams(folder: Path, decided: DecidedTracks, connection: sqlite3.Connection) -> None:
    """A folder with a JAMS file for each tagged track, which is named by its number."""
    files.restore_directory(folder)
    partial = folder.with_name(f"{folder.name}.{secrets.token_hex(8)}.part")
    partial.mkdir(parents=True)
    try:
        for number, track in enumerate(decided.tracks):
            text = json.dumps(jams(decided, number, connection), indent=1)
            (partial / f"{track.id:07}.jams").write_text(f"{text}\n", encoding="utf-8")
        files.replace_directory(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def jams(decided: DecidedTracks, number: int, connection: sqlite3.Connection) -> dict[str, object]:
    """A track in the form of JAMS 0.3 (Humphrey et al., 2014): decided tags, also over time, and corrections."""
    track, correction = decided.tracks[number], decided.correction(number)
    duration = track.duration or 0.0
    vocabulary, scores = decided.model.vocabulary, decided.scores[number]
    tags = [tag for tag in decided.decided(number) if tag in vocabulary and tag not in correction.added]
    observations = [_observation(0.0, duration, tag, float(scores[vocabulary.index(tag)])) for tag in tags]
    annotations = [_annotation(duration, observations, decided.model.name)]
    row = connection.execute(
        "SELECT logits FROM curves WHERE track = ? AND model = ?", (track.id, decided.model.id)
    ).fetchone()
    if row and tags:
        curves = analysis.curves(row[0])
        step = duration / curves.shape[1]
        annotations.append(
            _annotation(
                duration,
                [
                    _observation(part * step, step, tag, float(curves[vocabulary.index(tag), part]))
                    for part in range(curves.shape[1])
                    for tag in tags
                ],
                f"{decided.model.name}, over time",
            )
        )
    if correction.added:
        annotations.append(
            _annotation(duration, [_observation(0.0, duration, tag, 1.0) for tag in sorted(correction.added)], None)
        )
    metadata = {
        "title": track.title, "artist": track.artist, "release": track.album, "duration": duration,
        "identifiers": {"path": track.path.encode("utf-8", "replace").decode()}, "jams_version": JAMS_VERSION,
    }  # fmt: skip
    return {"annotations": annotations, "file_metadata": metadata, "sandbox": {"removed": sorted(correction.removed)}}


def _observation(time: float, duration: float, tag: str, confidence: float) -> dict[str, object]:
    return {"time": round(time, 3), "duration": round(duration, 3), "value": tag, "confidence": round(confidence, 6)}


def _annotation(duration: float, data: list[dict[str, object]], model: str | None) -> dict[str, object]:
    """An annotation of open tags by a model, or by a person."""
    tools = f"moodfield {moodfield.__version__}"
    metadata = {
        "curator": {"name": "", "email": ""}, "annotator": {}, "version": model or "", "corpus": "",
        "annotation_tools": tools, "annotation_rules": "", "validation": "",
        "data_source": "program" if model else "manual correction",
    }  # fmt: skip
    return {
        "namespace": "tag_open", "data": data, "annotation_metadata": metadata, "sandbox": {},
        "time": 0, "duration": round(duration, 3),
    }  # fmt: skip
