"""Catalogues: listings, manifests, credentials, damaged parts, and storage that fails or stalls."""

import signal
import subprocess
import threading
from pathlib import Path

import pytest

import models as model_files
import servers
from commands import start
from moodfield.catalogue import dataset, storage
from moodfield.catalogue.dataset import Catalogue
from moodfield.errors import AudioError, CatalogueError
from moodfield.library import analysis, models
from servers import Behavior

parquet = pytest.importorskip("pyarrow.parquet", reason='pyarrow is not installed: pip install "moodfield[cluster]"')
pytest.importorskip("fsspec")
import pyarrow as pa  # noqa: E402

SECRET = "secretpw"


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Three short files."""
    folder = tmp_path / "songs"
    folder.mkdir()
    for number in range(3):
        model_files.save(folder / f"{number}.flac", model_files.music(1.0, seed=number))
    return folder


def create(folder: Path | str, *sources: object, limit: int | None = None) -> Catalogue:
    """A catalogue of the default model."""
    return dataset.open_or_create(str(folder), list(map(str, sources)), models.describe(analysis.load(())), limit)


# Credentials


def test_public_names():
    for uri, expected in {
        f"https://me:{SECRET}@host/a b.mp3?X-Amz-Signature={SECRET}": "https://host/a b.mp3",
        f"https://{SECRET}@host/a.mp3": "https://host/a.mp3",
        f"ftp://me:{SECRET}@host/a@b.mp3": "ftp://host/a@b.mp3",
        f"404, url='http://host/a?s={SECRET}') and http://me:{SECRET}@b/?{SECRET}": "404, url='http://host/a and http://b/",
        "abfs://container@account/what?.mp3": "abfs://container@account/what?.mp3",
        "/music/what?.mp3": "/music/what?.mp3",
    }.items():
        assert storage.public_name(uri) == expected


# Parts


def test_a_part_of_another_list_is_an_error(songs, tmp_path):
    one, other = create(tmp_path / "one", songs), create(tmp_path / "other", songs / "0.flac")
    table = pa.table({"error": ["a"]})
    dataset.write_part(one, 0, table, counts={dataset.FAILED: 1})
    assert dataset.read_counts(one, 0) == (1, 0)
    (tmp_path / "other" / "tracks").mkdir()
    Path(one.part(0)).rename(other.part(0))
    for read in (dataset.read_counts, dataset.read_part):
        with pytest.raises(CatalogueError, match=one.listing):
            read(other, 0)
    parquet.write_table(table, one.part(0))
    with pytest.raises(CatalogueError, match="no catalogue"):
        dataset.read_part(one, 0)


def test_of_two_machines_without_conditional_writes_the_last_wins(songs, tmp_path, monkeypatch):
    other = create(tmp_path / "other", songs)

    def replaced(uri, content):
        """The other machine writes its own file after ours."""
        (tmp_path / "moods" / dataset.DESCRIPTION).write_bytes((tmp_path / "other" / dataset.DESCRIPTION).read_bytes())
        return True

    (songs / "3.flac").touch()
    monkeypatch.setattr(storage, "create", replaced)
    assert create(tmp_path / "moods", songs).listing == other.listing


# Storage that stalls


def test_a_fetch_is_stopped_at_once(tmp_path):
    pytest.importorskip("aiohttp")
    with servers.serve(**{"a.flac": b"music"}) as server:
        server.always["a.flac"] = Behavior(stall=60)
        stop = threading.Event()
        threading.Timer(0.5, stop.set).start()
        with pytest.raises(AudioError, match="stopped"):
            storage.fetch(f"{server.url}/a.flac", tmp_path / "a.flac", stop)
        assert len(server.requests) == 1


def test_ctrl_c_does_not_wait_for_storage(tmp_path):
    pytest.importorskip("aiohttp")
    with servers.serve(**{"a.flac": b"music"}) as server:
        server.always["a.flac"] = Behavior(stall=60)
        (tmp_path / "list.txt").write_text(f"{server.url}/a.flac")
        process = start("catalogue", "tag", tmp_path / "list.txt", "-o", tmp_path / "moods", "--jobs", 1)
        while not server.requests:
            assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
