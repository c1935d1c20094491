"""Catalogues on one machine: inputs, parts, errors, storage that fails, decisions, imports, examples."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import models as model_files
import moodfield
import servers
from clusters import create
from commands import invoke, start
from moodfield import calibration
from moodfield.catalogue import dataset, imports, inputs, parts, relative, rows, storage, workers
from moodfield.catalogue import tag as tagging
from moodfield.catalogue.dataset import Catalogue
from moodfield.catalogue.workers import WorkerConfig
from moodfield.decoding.metadata import Metadata
from moodfield.errors import AudioError, CatalogueError, ModelError, UsageError
from moodfield.library import analysis, decided, models
from moodfield.library import database as library_database
from servers import Behavior

parquet = pytest.importorskip("pyarrow.parquet", reason='pyarrow is not installed: pip install "moodfield[cluster]"')
pytest.importorskip("fsspec")
import pyarrow as pa  # noqa: E402

SECONDS = 2.0
COUNT = 6


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of short files, one of them damaged, one empty; not to be changed."""
    folder = tmp_path_factory.mktemp("songs")
    for number in range(COUNT):
        path = folder / f"album {number % 2}" / f"{number}.flac"
        path.parent.mkdir(exist_ok=True)
        model_files.save(path, model_files.music(SECONDS, seed=number))
    (folder / "album 0" / "damaged.mp3").write_bytes(b"no music at all" * 100)
    (folder / "album 1" / "empty.ogg").touch()
    (folder / "album 1" / "cover.jpg").write_bytes(b"a picture")
    return folder


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of three rows."""
    monkeypatch.setattr(dataset, "FEWEST_ROWS", 3)
    monkeypatch.setattr(storage, "FIRST_PAUSE", 0.01)


def run(catalogue: Catalogue, shard: str = "1/1", jobs: int = 1) -> list[rows.Record]:
    """Tag a shard; the records."""
    return list(tagging.run(catalogue, parts.plan(catalogue, parts.parse_shard(shard)), WorkerConfig(), jobs=jobs))


def read(catalogue: Catalogue, folder: str = dataset.PARTS) -> list[dict[str, object]]:
    """All rows, in the order of the parts."""
    tables = [dataset.read_part(catalogue, part, folder=folder) for part in catalogue.committed(folder)]
    return pa.concat_tables(tables).to_pylist()


@pytest.fixture(scope="module")
def tagged(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """A catalogue of the songs, tagged in one process; not to be changed."""
    catalogue = create(tmp_path_factory.mktemp("tagged") / "moods", songs)
    run(catalogue)
    return catalogue


# Inputs


def test_inputs_are_sorted_and_unique(songs, tmp_path):
    every = sorted(str(path) for path in songs.rglob("*") if path.suffix in (".flac", ".mp3", ".ogg"))
    table = inputs.collect([str(songs), str(songs / "album 0"), str(songs / "album 1" / "1.flac")])
    assert table["source"].to_pylist() == every
    status = Path(every[0]).stat()
    assert table.slice(0, 1).to_pylist() == [
        {"source": every[0], "size": status.st_size, "etag": None, "mtime": status.st_mtime_ns}
    ]
    assert inputs.collect([str(songs / "*" / "?.flac")])["source"].to_pylist() == [p for p in every if "flac" in p]
    assert len(inputs.collect([str(songs)], limit=3)) == 3
    with pytest.raises(CatalogueError, match="does not exist"):
        inputs.collect([str(tmp_path / "nothing")])
    with pytest.raises(CatalogueError, match="no audio file"):
        inputs.collect([str(tmp_path)])


def test_manifests(songs, tmp_path, monkeypatch):
    names = ["s3://bucket/b.mp3", str(songs / "album 0" / "0.flac"), "https://example.org/a.ogg"]
    (tmp_path / "a.txt").write_text("# music\n\n" + "\r\n".join(names))
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["id", "uri"], *enumerate(names)])
    parquet.write_table(pa.table({"path": names, "x": [1, 2, 3]}), tmp_path / "a.parquet")
    for suffix in ("txt", "csv", "parquet"):
        assert inputs.collect([str(tmp_path / f"a.{suffix}")])["source"].to_pylist() == sorted(names)
    monkeypatch.chdir(songs)
    (tmp_path / "a.txt").write_text("album 0/0.flac\n")
    assert inputs.collect([str(tmp_path / "a.txt")])["source"].to_pylist() == [names[1]]
    (tmp_path / "b.csv").write_text("id,name\n1,a\n")
    with pytest.raises(CatalogueError, match="columns id, name"):
        inputs.collect([str(tmp_path / "b.csv")])
    (tmp_path / "b.parquet").write_text("no Parquet")
    with pytest.raises(CatalogueError, match="cannot be read"):
        inputs.collect([str(tmp_path / "b.parquet")])
    with pytest.raises(CatalogueError, match="does not exist"):
        inputs.collect([str(tmp_path / "c.txt")])
    with pytest.raises(UsageError, match="nosuch"):
        inputs.collect(["nosuch://bucket/music"])


def test_names_that_are_no_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.flac")
    model_files.save(tmp_path / "cafe.flac", model_files.music(SECONDS)).rename(path)
    catalogue = create(tmp_path / "moods", tmp_path)
    assert [record["error"] for record in run(catalogue)] == [None]
    (row,) = read(catalogue)
    assert row["source"].endswith("caf%E9.flac")
    imports.run(catalogue, tmp_path / "library.db")
    with library_database.read(tmp_path / "library.db") as connection:
        assert connection.execute("SELECT path FROM tracks").fetchall() == [(str(path),)]


# Rows


def test_rows_equal_those_of_a_tagger(tagged, songs):
    tagger = moodfield.load()
    by_source = {row["source"]: row for row in read(tagged)}
    assert len(by_source) == COUNT + 2
    for path in songs.rglob("*.flac"):
        expected, row = tagger.tag(path), by_source[str(path)]
        scores = [row[f"scores.{tag}"] for tag in tagger.vocabulary]
        np.testing.assert_allclose(scores, expected.scores, atol=1e-6)
        evidence = [row[f"evidence.{tag}"] for tag in tagger.vocabulary]
        np.testing.assert_allclose(evidence, expected.evidence, atol=1e-4)
        assert (row["decided"], row["moods"]) == (list(expected.decided), list(expected.moods))
        np.testing.assert_array_equal(np.frombuffer(row["embedding"], "<f2"), expected.embedding.astype(np.float16))
        assert (row["size"], row["sha256"]) == (path.stat().st_size, analysis.digest(path).hex())
        assert (row["model"], row["model_digest"], row["version"]) == ("default", tagger.digest, moodfield.__version__)
        assert (row["path"], row["title"], row["error"], row["relative"]) == (str(path), path.stem, None, False)


def test_files_that_cannot_be_tagged_are_rows(tagged, songs):
    failed = {Path(row["source"]).name: row for row in read(tagged) if row["error"]}
    assert {name: row["reason"] for name, row in failed.items()} == {"damaged.mp3": "not-audio", "empty.ogg": "empty"}
    row = failed["damaged.mp3"]
    assert row["source"] in row["error"]
    assert [row[name] for name in ("duration", "decided", "model", "scores.calm", "embedding")] == [None] * 5


def test_the_schema_is_documented(tagged):
    text = (Path(__file__).parent.parent / "docs" / "catalogue.md").read_text()
    for name, meaning in rows.FIELDS.items():
        assert f"| `{name}` | {meaning} |" in text
    names = parquet.read_schema(tagged.part(0)).names
    assert [name for name in names if "." not in name] == [name for name in rows.FIELDS if "." not in name]


# Parts


@pytest.mark.usefixtures("few_rows")
def test_shards_and_reruns_give_each_input_one_row(songs, tmp_path):
    catalogue = create(tmp_path / "moods", songs)
    assert (catalogue.parts, catalogue.rows, catalogue.inputs) == (3, 3, 8)
    assert len(run(catalogue, "2/2")) == 3
    assert catalogue.committed() == [1]
    assert len(run(create(tmp_path / "moods", songs), "1/2", jobs=2)) == 5
    assert run(catalogue) == []
    assert sorted(row["source"] for row in read(catalogue)) == inputs.collect([str(songs)])["source"].to_pylist()
    (tmp_path / "moods" / "tracks" / "part-000001.parquet").unlink()
    assert len(run(catalogue)) == 3
    assert not list(tmp_path.rglob("*.part"))


def test_a_catalogue_is_not_mixed_with_another(songs, tmp_path, cp_model):
    catalogue = create(tmp_path / "moods", songs)
    assert create(tmp_path / "moods", songs) == catalogue
    with pytest.raises(UsageError, match="sources"):
        create(tmp_path / "moods", songs / "album 0")
    with pytest.raises(UsageError, match="--limit"):
        create(tmp_path / "moods", songs, limit=1)
    other = models.describe(analysis.load((str(cp_model.folder),)))
    with pytest.raises(UsageError, match="another model"):
        dataset.open_or_create(str(tmp_path / "moods"), [str(songs)], other, None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(UsageError, match="letter"):
        create(tmp_path / "mine", songs)
    (tmp_path / "moods" / "catalogue.json").write_text("{}")
    with pytest.raises(CatalogueError, match="damaged"):
        create(tmp_path / "moods", songs)
    with pytest.raises(CatalogueError, match="no catalogue"):
        dataset.read(str(tmp_path / "nothing"))


@pytest.mark.usefixtures("few_rows")
def test_of_two_machines_that_start_at_once_one_lists(songs, tmp_path, monkeypatch):
    collect = inputs.collect

    def collect_later(sources, *, limit=None):
        monkeypatch.setattr(inputs, "collect", collect)
        create(tmp_path / "moods", songs)  # the other machine is faster
        return collect(sources, limit=2)

    monkeypatch.setattr(inputs, "collect", collect_later)
    assert create(tmp_path / "moods", songs).inputs == 8


@pytest.mark.usefixtures("few_rows")
def test_a_part_that_cannot_be_written_stops_the_run(songs, tmp_path, monkeypatch):
    catalogue = create(tmp_path / "moods", songs)

    def fail(uri, content):
        raise CatalogueError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write", fail)
        with pytest.raises(CatalogueError, match="disk is full"):
            run(catalogue)
    assert catalogue.committed() == []
    assert len(run(catalogue)) == 8


# Storage that fails


@pytest.fixture
def server(songs: Path) -> Iterator[servers.Server]:
    """A web server with the songs."""
    files = {path.name: path.read_bytes() for path in songs.rglob("*.flac")}
    with servers.serve(**files) as server:
        yield server


def manifest(folder: Path, server: servers.Server, names: list[str]) -> Path:
    """A manifest of files on the server."""
    path = folder / "manifest.txt"
    path.write_text("\n".join(f"{server.url}/{name}" for name in names))
    return path


@pytest.mark.usefixtures("few_rows")
def test_slow_and_failing_storage(server, tmp_path, songs):
    pytest.importorskip("aiohttp")
    server.queue("0.flac", *[Behavior(code=503)] * 3)
    server.queue("1.flac", Behavior(stall=0.5), Behavior(cut=100))
    server.always["3.flac"] = Behavior(code=500)
    catalogue = create(tmp_path / "moods", manifest(tmp_path, server, ["0.flac", "1.flac", "3.flac", "none.flac"]))
    reasons = {record["reason"] for record in run(catalogue)}
    assert reasons == {None, "storage", "missing"}
    assert [dataset.read_counts(catalogue, part) for part in (0, 1)] == [(1, 1), (1, 1)]
    (row,) = [row for row in read(catalogue) if row["reason"] == "storage"]
    assert row["source"].endswith("3.flac")
    assert "500" in row["error"]
    del server.always["3.flac"]
    (path,) = songs.rglob("4.flac")
    server.files["none.flac"] = path.read_bytes()
    assert [record["error"] for record in run(catalogue)] == [None, None]  # only these files
    assert [row["reason"] for row in read(catalogue)] == [None] * 4
    assert run(catalogue) == []
    scores = {row["source"][-6:]: row["scores.calm"] for row in read(catalogue)}
    calm = moodfield.load().vocabulary.index("calm")
    for name in ("0.flac", "1.flac", "3.flac"):
        (path,) = songs.rglob(name)
        assert scores[name] == pytest.approx(moodfield.load().tag(path).scores[calm], abs=1e-6)


@pytest.mark.usefixtures("few_rows")
def test_storage_that_is_down_stops_the_run(server, tmp_path, monkeypatch):
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(tagging, "UNDELIVERED", 2)
    names = [f"{number}.flac" for number in range(COUNT)]
    catalogue = create(tmp_path / "moods", manifest(tmp_path, server, names))
    for name in names[3:]:
        server.always[name] = Behavior(code=500)
    with pytest.raises(CatalogueError, match="delivers no file"):
        run(catalogue)
    assert catalogue.committed() == [0, 1]
    server.always.clear()
    assert len(run(catalogue)) == 3  # also the file that was not tried
    assert len({row["source"] for row in read(catalogue) if row["error"] is None}) == COUNT


@pytest.mark.usefixtures("few_rows")
def test_files_that_are_never_delivered_stop_no_later_run(server, tmp_path, monkeypatch):
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(tagging, "UNDELIVERED", 2)
    names = [f"{number}.flac" for number in range(COUNT)]
    catalogue = create(tmp_path / "moods", manifest(tmp_path, server, names))
    for name in names[:3]:
        server.always[name] = Behavior(code=500)
    with pytest.raises(CatalogueError, match="delivers no file"):
        run(catalogue)
    assert parts.plan(catalogue).parts == (1, 0)
    for _ in range(2):
        run(catalogue)
        assert [row["reason"] for row in read(catalogue)] == ["storage"] * 3 + [None] * 3


@pytest.mark.usefixtures("few_rows")
def test_what_may_succeed_another_time_is_tagged_again(songs, tmp_path, monkeypatch):
    away = tmp_path / "away"
    folder = shutil.copytree(songs, tmp_path / "songs")
    catalogue = create(tmp_path / "moods", folder)
    folder.rename(away)
    assert [record["reason"] for record in run(catalogue)] == ["missing"] * 8
    path = tmp_path / "library.db"
    assert imports.run(catalogue, path) == (0, 0, 8)
    away.rename(folder)

    def deny(*_: object) -> Path:
        raise AudioError("no-permission", "credentials have expired")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "fetch", deny)
        assert {record["reason"] for record in run(catalogue)} == {"no-permission"}
    plan = parts.plan(catalogue)
    assert (plan.done, plan.failed, len(plan.again)) == (0, 0, 3)
    config = WorkerConfig(analyse=partial(crash_on_two, tmp_path))
    reasons = [record["reason"] for record in tagging.run(catalogue, plan, config)]
    assert sorted(map(str, reasons)) == ["None"] * 5 + ["WorkerCrashedError", "ZeroDivisionError", "silent"]
    plan = parts.plan(catalogue)
    assert (plan.done, plan.failed) == (6, 1)  # crash_on_two tags the damaged and the empty file, too
    assert [record["error"] for record in run(catalogue)] == [None, None]
    assert parts.plan(catalogue).parts == ()
    assert imports.run(catalogue, path) == (7, 1, 0)


def test_an_error_without_text_is_an_error(tagged, songs):
    record = rows.from_error(MemoryError())
    assert (record["error"], record["reason"], rows.is_final(record)) == ("MemoryError", "MemoryError", False)


@pytest.mark.usefixtures("few_rows")
def test_rows_keep_the_version_that_made_them(songs, tmp_path, monkeypatch):
    catalogue = create(tmp_path / "moods", songs)
    config = WorkerConfig(analyse=partial(crash_on_two, tmp_path))
    with monkeypatch.context() as patch:
        patch.setitem(rows.RECORD, "version", "0.old")
        list(tagging.run(catalogue, parts.plan(catalogue), config))
    list(tagging.run(catalogue, parts.plan(catalogue), config))
    versions = [row["version"] for row in read(catalogue)]
    assert sorted(versions) == [moodfield.__version__] * 2 + ["0.old"] * 6


def test_a_missing_package_of_storage_is_an_error_at_once(tmp_path, songs, monkeypatch):
    (tmp_path / "manifest.txt").write_text(f"{songs / 'album 0' / '0.flac'}\nnosuch://bucket/a.mp3")
    with pytest.raises(CatalogueError, match=r"line 2.*nosuch"):
        create(tmp_path / "moods", tmp_path / "manifest.txt")
    catalogue = create(tmp_path / "moods", songs)

    def fail(*_: object) -> Path:
        raise UsageError("a package is missing")

    monkeypatch.setattr(storage, "fetch", fail)
    with pytest.raises(UsageError, match="package"):
        run(catalogue)
    assert catalogue.committed() == []


def stall(_: tuple[str, ...], path: Path) -> analysis.Analysis:
    """An analysis that takes a minute for one file."""
    if path.name == "2.flac":
        time.sleep(60)
    return crash_on_two(path.parent, (), path.with_name("0.flac"))


def test_a_file_that_takes_too_long_is_tried_once(songs, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "FILE_SECONDS", 0.5)
    catalogue = create(tmp_path / "moods", songs)
    records = list(tagging.run(catalogue, parts.plan(catalogue), WorkerConfig(analyse=stall)))
    (failed,) = [record for record in records if record["error"]]
    assert failed["reason"] == "WorkerCrashedError"
    assert "tried 1 times" in failed["error"]


def test_records_that_are_lost_are_an_error(songs, tmp_path, monkeypatch):
    catalogue = create(tmp_path / "moods", songs)
    items_of = parts.items_of
    monkeypatch.setattr(parts, "items_of", lambda *words, again: items_of(*words, again=again)[1:])
    with pytest.raises(CatalogueError, match="part 0"):
        run(catalogue)


def crash_on_two(folder: Path, _: tuple[str, ...], path: Path) -> analysis.Analysis:
    """An analysis without a model, whose process dies of the file `2.flac`; every try is a letter in a file."""
    if path.name == "2.flac":
        with (folder / "tries").open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    if path.name == "3.flac":
        raise AudioError("silent", f"{path} is silent")
    if path.name == "4.flac":
        raise ZeroDivisionError("a fault")
    curves, envelope = np.zeros((56, analysis.STEPS), np.int8), np.zeros(0, np.uint8)
    return analysis.Analysis(b"x", Metadata(), 1.0, np.zeros(56, np.float32), None, curves, envelope)


@pytest.mark.usefixtures("few_rows")
def test_a_file_that_crashes_its_process_is_a_row(songs, tmp_path):
    catalogue = create(tmp_path / "moods", songs)
    config = WorkerConfig(analyse=partial(crash_on_two, tmp_path))
    reasons = [record["reason"] for record in tagging.run(catalogue, parts.plan(catalogue), config, jobs=2)]
    assert sorted(map(str, reasons)) == ["None"] * 5 + ["WorkerCrashedError", "ZeroDivisionError", "silent"]
    (row,) = [row for row in read(catalogue) if row["reason"] == "WorkerCrashedError"]
    assert row["source"].endswith("2.flac")
    assert row["source"] in row["error"]
    assert len(read(catalogue)) == 8
    assert (tmp_path / "tries").read_text() == "xxx"


def raise_model_error(_: tuple[str, ...], path: Path) -> analysis.Analysis:
    """An analysis on a machine without the model."""
    raise ModelError("no such model")


def test_a_missing_model_stops_the_run(songs, tmp_path):
    catalogue = create(tmp_path / "moods", songs)
    with pytest.raises(ModelError, match="no such"):
        list(tagging.run(catalogue, parts.plan(catalogue), WorkerConfig(analyse=raise_model_error)))
    assert catalogue.committed() == []


# The command


def test_the_command(songs, tmp_path):
    result = invoke("catalogue", "tag", songs, "-o", tmp_path / "moods")
    assert result.code == 3
    assert "8 rows; 6 tagged now" in result.err
    assert "1 not-audio" in result.err
    again = invoke("catalogue", "tag", songs, "-o", tmp_path / "moods")
    assert again.code == 3
    assert "8 of 8 files were done before; 2 of them could not be tagged" in again.err
    assert invoke("catalogue", "tag", songs, "-o", tmp_path / "moods", "--shard", "3/2").code == 2
    assert invoke("catalogue", "tag", songs, "-o", tmp_path / "moods", "--on", "ray", "--jobs", "2").code == 2
    assert invoke("catalogue", "tag", songs, "-o", tmp_path / "other", "--limit", "1").code == 0
    assert invoke("catalogue", "decide", tmp_path / "moods").code == 0
    assert invoke("catalogue", "decide", tmp_path).code == 1


@pytest.mark.slow
def test_a_killed_driver_and_a_rerun(songs, tmp_path):
    many = tmp_path / "many"
    for number in range(120):
        path = many / f"{number:03}.flac"
        path.parent.mkdir(exist_ok=True)
        path.hardlink_to(songs / f"album {number % 2}" / f"{number % COUNT}.flac")
    process = start("catalogue", "tag", many, "-o", tmp_path / "moods", "--jobs", "2")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("moods/tracks/*.parquet")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.kill()
    process.communicate()
    catalogue = create(tmp_path / "moods", many)
    before = catalogue.committed()
    assert len(before) < catalogue.parts
    assert len(run(catalogue, jobs=2)) == 120 - sum(map(catalogue.rows_of, before))
    assert sorted(row["source"] for row in read(catalogue)) == sorted(map(str, many.iterdir()))
    assert not list(tmp_path.rglob("*.part"))


# Relative decisions


def test_decisions_equal_those_of_the_library(tagged, songs, tmp_path):
    advances = []
    assert relative.decide(tagged, lambda: advances.append(1)) == COUNT
    assert len(advances) == 2 * tagged.parts
    tagger = moodfield.load()
    paths = sorted(songs.rglob("*.flac"))
    expected = dict(zip(map(str, paths), moodfield.decide([tagger.tag(path) for path in paths]), strict=True))
    decisions = read(tagged, relative.FOLDER)
    assert len(decisions) == COUNT + 2
    for row in decisions:
        if row["source"] in expected:
            assert row["decided"] == list(expected[row["source"]].decided)
            evidence = [row[f"evidence.{tag}"] for tag in tagger.vocabulary]
            np.testing.assert_allclose(evidence, expected[row["source"]].evidence, atol=1e-3)
        else:
            assert (row["decided"], row["relative"], row["evidence.calm"]) == (None, None, None)
    path = Path(tagged.part(0, relative.FOLDER))
    written = path.stat().st_mtime_ns
    relative.decide(tagged)
    assert path.stat().st_mtime_ns == written
    (path.parent / relative.STATISTICS).write_text("others")
    relative.decide(tagged)
    assert path.stat().st_mtime_ns > written


@pytest.mark.usefixtures("few_rows")
def test_tracks_that_come_later_are_decided(songs, tmp_path):
    folder = shutil.copytree(songs, tmp_path / "songs")
    shutil.copy(folder / "album 0" / "0.flac", folder / "copy.flac")  # its tracks are the same, and so is what is usual
    catalogue = create(tmp_path / "moods", folder)
    (folder / "copy.flac").rename(tmp_path / "copy.flac")
    run(catalogue)
    relative.decide(catalogue)
    (tmp_path / "copy.flac").rename(folder / "copy.flac")
    assert len(run(catalogue)) == 1
    assert relative.decide(catalogue) == COUNT
    decided_rows = {Path(row["source"]).name: row for row in read(catalogue, relative.FOLDER)}
    assert decided_rows["copy.flac"]["decided"] == decided_rows["0.flac"]["decided"] is not None


def test_moments_of_groups_are_those_of_all(tmp_path):
    from moodfield import decisions

    drawn = np.random.default_rng(0)
    logits = drawn.normal(-3, 2, size=(2_000, 5)).astype(np.float32)
    logits[1_500:] = logits[:500]  # the same tracks again
    logits[7] = np.nan
    expected = decisions.usual(decisions.different(logits))
    moments = relative.Moments(5)
    for first in range(0, 2_000, 130):
        moments.add(logits[first : first + 130])
    own = moments.usual()
    assert own.tracks == expected.tracks == 1_499 + 1
    np.testing.assert_allclose(own.mean, expected.mean, rtol=1e-10)
    np.testing.assert_allclose(own.std, expected.std, rtol=1e-10)


# Imports and examples


def test_a_library_imports_a_catalogue(tagged, songs, tmp_path):
    result = invoke("library", "import", tagged.folder, "--db", tmp_path / "a.db")
    assert result.code == 0
    assert "6 tracks and 2 failed files" in result.err
    assert invoke("library", "scan", songs, "--db", tmp_path / "b.db").code == 3
    listed = [
        json.loads(line)
        for name in ("a.db", "b.db")
        for line in invoke("library", "list", "--json", "--db", tmp_path / name).out.splitlines()
    ]
    imported, scanned = listed[: COUNT + 2], listed[COUNT + 2 :]
    assert [row | {"error": None} for row in imported] == [row | {"error": None} for row in scanned]
    assert invoke("library", "import", tagged.folder, "--db", tmp_path / "a.db").code == 0
    result = invoke("library", "scan", songs, "--db", tmp_path / "a.db")
    assert "0 tagged, 8 unchanged" in result.err  # sizes and times are those of the files
    with library_database.read(tmp_path / "a.db") as one, library_database.read(tmp_path / "b.db") as other:
        first, second = decided.decide(one), decided.decide(other)
        np.testing.assert_allclose(calibration.sigmoid(first.logits), calibration.sigmoid(second.logits), atol=1e-6)
        query = (
            "SELECT embedding, c.logits, envelope FROM taggings JOIN curves c USING (track) JOIN tracks ON id = track"
        )
        assert one.execute(f"{query} ORDER BY path").fetchall() == other.execute(f"{query} ORDER BY path").fetchall()


def examples(language: str) -> list[str]:
    """The examples of a language in the page about catalogues."""
    text = (Path(__file__).parent.parent / "docs" / "catalogue.md").read_text()
    return [block.partition("```")[0] for block in text.split(f"```{language}\n")[1:]]


def test_the_examples_of_duckdb(tagged, monkeypatch):
    duckdb = pytest.importorskip("duckdb")
    relative.decide(tagged)
    monkeypatch.chdir(Path(tagged.folder).parent)
    queries = [query for block in examples("sql") for query in block.split(";") if query.strip()]
    assert len(queries) >= 3
    results = [duckdb.sql(query).fetchall() for query in queries]
    assert results[0] == [(COUNT + 2, 2)]
    assert all(results)


def test_the_examples_of_pandas(tagged, tmp_path):
    pandas = pytest.importorskip("pandas")
    relative.decide(tagged)
    assert len(pandas.read_parquet(f"{tagged.folder}/{relative.FOLDER}")) == COUNT + 2
    (program,) = [block for block in examples("python") if "pandas" in block]
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(tagged.folder).parent, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1].strip("()").startswith(f"{COUNT},")


def test_a_library_is_locked_during_an_import(tagged, tmp_path):
    with library_database.lock(tmp_path / "a.db"):
        result = invoke("library", "import", tagged.folder, "--db", tmp_path / "a.db")
    assert result.code == 1
    assert "is in use by process" in result.err
