"""Catalogues on a Ray cluster of two nodes, from local files and an S3 server: equal rows, kills, poisoned files."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import clusters
import models as model_files
import moodfield
import servers
from moodfield.catalogue import dataset, inputs, networks, on_ray, parts, rows
from moodfield.catalogue import tag as tagging
from moodfield.catalogue.dataset import Catalogue
from moodfield.catalogue.workers import WorkerConfig
from moodfield.errors import CatalogueError, ModelError
from moodfield.library import analysis

pytest.importorskip("ray.data", reason='Ray is not installed: pip install "moodfield[cluster]"')
TESTS = Path(__file__).parent
SECONDS, COUNT = 1.5, 24
POISONED = (f"020 {clusters.POISON}.flac", f"{clusters.POISON}.flac")


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short files, of which two crash their processes and one is empty; not to be changed."""
    folder = tmp_path_factory.mktemp("songs")
    for number in range(COUNT):
        model_files.save(folder / f"{number:03}.flac", model_files.music(SECONDS, seed=number))
    for number, name in enumerate(POISONED):
        path = model_files.save(folder / name, model_files.music(SECONDS))
        path.write_bytes(path.read_bytes() + f"{clusters.POISON} {number}".encode())
    (folder / "empty.ogg").touch()
    return folder


@pytest.fixture(scope="module")
def s3(songs: Path) -> Iterator[None]:
    """An S3 server with a bucket of the songs."""
    with servers.serve_s3("bucket") as system:
        for path in songs.iterdir():
            system.pipe_file(f"bucket/music/{path.stem[0]}/{path.name}", path.read_bytes())
        yield


def environment() -> dict[str, str]:
    """Of programs that import `clusters`, and whose workers do."""
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def run_on_cluster(folder: Path, jobs: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    """Run `clusters.main` in a process of its own; its results."""
    options = {"rows": 8, "kill": False, "seconds": 0.0, "networks": None} | options
    words = options | {"jobs": jobs, "results": str(folder / "results.json"), "tries": str(folder / "tries")}
    command = [sys.executable, "-c", "import clusters; clusters.main()", json.dumps(words)]
    process = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert process.returncode == 0, process.stderr[-5000:]
    return json.loads((folder / "results.json").read_text())


def read(folder: str) -> tuple[Catalogue, dict[str, dict[str, Any]]]:
    """A catalogue and its rows by the name of their file; each input has exactly one."""
    catalogue = dataset.read(folder)
    tables = [dataset.read_part(catalogue, part) for part in catalogue.committed()]
    rows = [row for table in tables for row in table.to_pylist()]
    listed = [source for part in range(catalogue.parts) for source in catalogue.read_inputs(part)["source"].to_pylist()]
    assert [row["source"] for row in rows] == listed
    by_name = {Path(row["source"]).name: row for row in rows}
    assert len(by_name) == len(rows)
    return catalogue, by_name


def assert_rows(rows: dict[str, dict[str, Any]], songs: Path) -> None:
    """Rows equal those of a single process, and poisoned files are rows with an error."""
    tagger = moodfield.load()
    assert rows.keys() == {path.name for path in songs.iterdir()}
    for path in songs.iterdir():
        row = rows[path.name]
        if path.suffix == ".ogg":
            assert row["reason"] == "empty"
        elif clusters.POISON in path.name:
            assert row["reason"] == "WorkerCrashedError"
        else:
            expected = tagger.tag(path)
            np.testing.assert_allclose([row[f"scores.{tag}"] for tag in tagger.vocabulary], expected.scores, atol=1e-6)
            assert row["decided"] == list(expected.decided)
            assert row["sha256"] == analysis.digest(path).hex()


@pytest.mark.slow
@pytest.mark.usefixtures("s3")
def test_two_nodes_one_of_which_is_killed(songs, tmp_path):
    job = {"folder": "s3://bucket/moods", "sources": ["s3://bucket/music"]}
    results = run_on_cluster(tmp_path, [job], kill=True, seconds=0.3)
    assert results["nodes"] == [2, 1]
    assert results["runs"][0]["records"] == COUNT + 3
    catalogue, rows = read(job["folder"])
    assert catalogue.parts == 4
    assert_rows(rows, songs)
    row = rows["000.flac"]
    assert row["source"] == row["path"] == "s3://bucket/music/0/000.flac"
    assert row["etag"]
    assert row["modified"].startswith("20")
    tries = (tmp_path / "tries").read_text().splitlines()
    for number in range(len(POISONED)):
        assert 3 <= tries.count(f"poison {number}") <= 6  # three by a worker, which may die with its node meanwhile


@pytest.mark.usefixtures("s3")
def test_s3_on_one_machine(songs, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "FEWEST_ROWS", 10)
    names = [path.name for path in songs.iterdir() if clusters.POISON not in path.name]
    manifest = tmp_path / "manifest.txt"
    manifest.write_text("\n".join(f"s3://bucket/music/{name[0]}/{name}" for name in names))
    catalogue = clusters.create("s3://bucket/single", manifest)
    first = parts.plan(catalogue, (1, 3))
    assert len(list(tagging.run(catalogue, first, WorkerConfig(), jobs=2))) == 10
    assert len(list(tagging.run(catalogue, parts.plan(catalogue), WorkerConfig(), jobs=2))) == len(names) - 10
    rows = read(catalogue.folder)[1]
    poisoned = {path.name: {"reason": "WorkerCrashedError"} for path in songs.iterdir() if path.name not in names}
    assert_rows(rows | poisoned, songs)
    assert len(inputs.collect(["s3://bucket/music/0/*.flac"])) == COUNT + 1
    assert len(inputs.collect(["s3://bucket/music/0/000.flac", "s3://bucket/music/0"])) == COUNT + 1


def test_errors_of_workers_are_those_of_a_run(monkeypatch):
    exceptions = pytest.importorskip("ray.exceptions")
    cause = ModelError("no such model\nFailed to apply UDF transform after 1/1 attempts")
    raised = exceptions.RayTaskError("function", "traceback", cause).as_instanceof_cause()
    raised.__cause__ = RuntimeError()
    error = on_ray._cause(raised)
    assert (type(error), str(error)) == (ModelError, "no such model")
    error = on_ray._cause(exceptions.OutOfMemoryError("a node has no memory"))
    assert isinstance(error, CatalogueError)
    assert "OutOfMemoryError: a node has no memory" in str(error)


def test_a_cluster_of_one_node(songs, tmp_path):
    words = [sys.executable, "-c", PROGRAM, str(songs), str(tmp_path / "moods"), str(tmp_path / "tries")]
    process = subprocess.run(words, capture_output=True, text=True, env=environment(), check=False)
    assert process.returncode == 0, process.stderr[-5000:]
    rows = read(str(tmp_path / "moods"))[1]
    assert rows.keys() == {path.name for path in songs.iterdir()}
    assert tuple(sorted(name for name, row in rows.items() if row["error"])) == POISONED
    assert sorted((tmp_path / "tries").read_text().splitlines()) == ["poison 0"] * 3 + ["poison 1"] * 3
    assert process.stdout.splitlines()[-1] == "no such model"


PROGRAM = """
import sys
from functools import partial
import ray
import clusters
from moodfield.catalogue.workers import WorkerConfig
from moodfield.errors import ModelError
ray.init("local", num_cpus=1, object_store_memory=100 * 2**20, include_dashboard=False, log_to_driver=False)
config = WorkerConfig(analyse=partial(clusters.analyse_nothing, sys.argv[3]))
clusters.run(sys.argv[2], [sys.argv[1]], config)
try:
    clusters.run(sys.argv[2] + " of no model", [sys.argv[1]], WorkerConfig(analyse=clusters.raise_model_error))
except ModelError as error:
    print(error)
"""


@pytest.mark.slow
def test_networks_in_actors_of_their_own(songs, tmp_path, monkeypatch):
    plain = tmp_path / "music"
    plain.mkdir()
    for path in songs.iterdir():
        if clusters.POISON not in path.name:
            (plain / path.name).hardlink_to(path)
    job = {"folder": str(tmp_path / "moods"), "sources": [str(plain)]}
    results = run_on_cluster(tmp_path, [job], networks=1)
    assert results["runs"][0]["records"] == COUNT + 1
    assert_rows(read(job["folder"])[1], plain)


def test_a_network_tags_what_workers_prepared(songs):
    paths = [songs / "000.flac", songs / "001.flac"]
    prepared = [networks.prepare((), path) for path in paths]
    records = [networks.to_record(track, 1) for track in prepared]
    assert all(record["mels"] and record["logits"] is None for record in records)
    lists = [[record | {"part": 0, "row": row}] for row, record in enumerate(records)]
    actor = networks.NetworkActor(())
    tagged = rows.unnest(actor(rows.nest(lists, networks.schema())))
    for path, record in zip(paths, tagged, strict=True):
        expected = rows.from_analysis(analysis.analyse((), path), 1)
        assert {name: record[name] for name in ("sha256", "duration", "curves", "size")} == {
            name: expected[name] for name in ("sha256", "duration", "curves", "size")
        }
        logits = [np.frombuffer(values["logits"], np.float32) for values in (record, expected)]
        np.testing.assert_allclose(*logits, atol=1e-5)


def test_a_batch_that_fails_is_tagged_one_by_one(songs, monkeypatch):
    actor = networks.NetworkActor(())
    tag_mels = actor._tagger.tag_mels

    def fail(tracks):
        if len(tracks) > 1 or tracks[0].duration < SECONDS:
            raise MemoryError
        return tag_mels(tracks)

    monkeypatch.setattr(actor._tagger, "tag_mels", fail)
    track = networks.prepare((), songs / "000.flac").track
    results = actor._tag([track, replace(track, duration=1.0), track])
    assert [type(result).__name__ for result in results] == ["Tagging", "MemoryError", "Tagging"]


@pytest.mark.slow
def test_five_thousand_short_files(tmp_path):
    for number in range(5_000):
        path = tmp_path / "music" / f"{number % 50:02}" / f"{number:04}.wav"
        path.parent.mkdir(exist_ok=True, parents=True)
        if number < 20:
            model_files.save(path, model_files.music(1.0, seed=number))
        else:
            path.hardlink_to(tmp_path / "music" / f"{number % 20:02}" / f"{number % 20:04}.wav")
    results = run_on_cluster(
        tmp_path, [{"folder": str(tmp_path / "moods"), "sources": [str(tmp_path / "music")]}], rows=50
    )
    _, rows = read(str(tmp_path / "moods"))
    assert len(rows) == 5_000
    assert results["runs"][0]["most"] <= 20, "too many parts were under way"
    tagger = moodfield.load()
    for number in range(20):
        expected = tagger.tag(tmp_path / "music" / f"{number % 50:02}" / f"{number:04}.wav").scores
        for name in (f"{number:04}.wav", f"{number + 4_980:04}.wav"):
            np.testing.assert_allclose([rows[name][f"scores.{tag}"] for tag in tagger.vocabulary], expected, atol=1e-6)
