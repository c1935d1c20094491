"""Exports of a library, each read back by another program."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

import libraries
from libraries import TAGS, StubTagger
from moodfield.decoding.metadata import Metadata
from moodfield.errors import OutputError, UsageError
from moodfield.library import database, decided, exports, rows, tracks

COUNT = 30


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A library of 30 tracks: one failed, one corrected, one with a name that is no UTF-8."""
    path, tagger = tmp_path / "library.db", StubTagger()
    libraries.make(path, COUNT - 1)
    with database.write(path) as connection:
        name = os.fsdecode(b'/music/\xe9, "x".ogg')
        libraries.add(connection, libraries.tagging(COUNT - 1, tagger), tagger, path=name)
        tracks.correct(connection, 2, add=["calm", "dream"], remove=["dark"])
        connection.execute("UPDATE tracks SET error = 'broken', reason = 'empty', duration = NULL WHERE id = 1")
        connection.execute("DELETE FROM taggings WHERE track = 1")
    return path


def export(db: Path, path: Path) -> list[dict[str, object]]:
    """Write an export; the rows that it should have."""
    exports.check(path)
    with database.read(db) as connection:
        result = decided.decide(connection)
        exports.write(path, result, connection)
    return list(rows.rows(result))


def test_json_lines(db, tmp_path):
    path = tmp_path / "x.jsonl"
    expected = export(db, path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == expected
    assert len(lines) == COUNT


def test_csv(db, tmp_path):
    path = tmp_path / "x.csv"
    expected = export(db, path)
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["path"] for row in read] == [row["path"] for row in expected]
    assert read[0]["decided"] == "; ".join(expected[0]["decided"])
    assert read[0]["added"] == "calm; dream"
    for tag in TAGS:
        assert float(read[3][f"scores.{tag}"]) == expected[3]["scores"][tag]
        assert float(read[3][f"evidence.{tag}"]) == expected[3]["evidence"][tag]
    assert (read[-1]["error"], read[-1]["scores.calm"]) == ("broken", "")


def test_parquet(db, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    expected = export(db, path)
    table = parquet.read_table(path)
    assert table.num_rows == COUNT
    read = table.to_pylist()
    assert read[0]["decided"] == expected[0]["decided"]
    np.testing.assert_allclose([row["scores.calm"] for row in read[:-1]], [r["scores"]["calm"] for r in expected[:-1]])
    assert (read[-1]["error"], read[-1]["duration"]) == ("broken", None)
    assert str(table.schema.field("year").type) == "int64"


@pytest.mark.filterwarnings("ignore")
def test_jams_is_valid(db, tmp_path):
    jams = pytest.importorskip("jams")
    folder = tmp_path / "x.jams"
    expected = export(db, folder)
    files = sorted(folder.iterdir())
    assert len(files) == COUNT - 1
    for file in files[:5]:
        loaded = jams.load(str(file))
        assert loaded.validate(strict=True)
    by_path = {row["path"]: row for row in expected}
    corrected = jams.load(str(files[0]))
    row = by_path[corrected.file_metadata.identifiers["path"]]
    overall, *others = corrected.annotations
    person = [item.value for item in others[-1].data]
    assert person == ["calm", "dream"]
    assert [item.value for item in overall.data] == [tag for tag in row["decided"] if tag not in person]
    assert all(item.confidence == pytest.approx(row["scores"][item.value], abs=1e-5) for item in overall.data)
    export(db, folder)  # of the same kind, so that it may be replaced


def test_exports_replace_exports_and_nothing_else(db, tmp_path):
    for suffix in (".jsonl", ".csv", ".parquet"):
        path = tmp_path / f"a{suffix}"
        path.write_text("something else")
        with pytest.raises(OutputError):
            exports.check(path)
        path.unlink()
        export(db, path)
        export(db, path)
    folder = tmp_path / "b.jams"
    folder.mkdir()
    (folder / "mine.txt").touch()
    with pytest.raises(OutputError):
        exports.check(folder)
    with pytest.raises(UsageError, match="suffix"):
        exports.check(tmp_path / "a.xml")


def test_parquet_of_names_that_are_no_utf8(db, tmp_path):
    pytest.importorskip("pyarrow.parquet")
    tagger = libraries.StubTagger()
    with database.write(db) as connection:
        names = Metadata("", "", "caf\udce9", "", 1990)
        libraries.add(connection, libraries.tagging(99, tagger), tagger, path="/music/caf\udce9.ogg", names=names)
    export(db, tmp_path / "x.parquet")
