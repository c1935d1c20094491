"""Catalogues: listings, manifests, credentials, damaged parts, and storage that fails or stalls."""

import os
import shutil
import signal
import subprocess
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import models as model_files
import servers
from clusters import create
from commands import invoke, start
from moodfield import audio
from moodfield.catalogue import dataset, inputs, listing, storage
from moodfield.errors import AudioError, CatalogueError, MoodfieldError
from servers import Behavior

parquet = pytest.importorskip("pyarrow.parquet", reason='pyarrow is not installed: pip install "moodfield[cluster]"')
fsspec = pytest.importorskip("fsspec")
import pyarrow as pa  # noqa: E402
import pyarrow.dataset  # noqa: E402

SECRET = "secretpw"


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Three short files."""
    folder = tmp_path / "songs"
    folder.mkdir()
    for number in range(3):
        model_files.save(folder / f"{number}.flac", model_files.music(1.0, seed=number))
    return folder


def sources(*names: object) -> list[str]:
    """The inputs of a catalogue."""
    return inputs.collect(list(map(str, names)))["source"].to_pylist()


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses between tries."""
    monkeypatch.setattr(storage, "FIRST_PAUSE", 0.01)


@pytest.fixture
def memory() -> Iterator[Callable[..., None]]:
    """A function that writes empty files into the file system `memory://`."""
    system = fsspec.filesystem("memory")
    yield lambda *names: [system.pipe_file(name, b"music") for name in names]
    system.store.clear()


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """The file system of an S3 server."""
    with servers.serve_s3("shelf") as system:
        yield system


# Listings


def test_local_folders_are_listed_as_audio_finds_them(tmp_path, monkeypatch):
    for name in ("b/2.flac", "b/10.FLAC", "b/.hidden.flac", "b/.hidden/a.flac", "a/c/x.mp3", "a/notes.txt", "z.ogg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "again").symlink_to(tmp_path / "b")
    (tmp_path / "a" / "gone.flac").symlink_to(tmp_path / "nothing")
    assert len(sources(tmp_path)) == 5
    assert sources(tmp_path) == sorted(map(str, audio.find(tmp_path)))

    def scandir(path):
        if str(path).endswith("/c"):
            raise PermissionError(13, "not permitted", path)
        return os_scandir(path)

    os_scandir = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    assert sources(tmp_path) == sorted(map(str, audio.find(tmp_path)))
    with pytest.raises(CatalogueError, match="cannot be listed"):
        sources(tmp_path / "a" / "c")


def test_a_folder_is_listed_without_a_list_of_its_files(tmp_path):
    count = 3_000
    for number in range(count):
        (tmp_path / f"{number}.flac").touch()
    tracemalloc.start()
    try:
        assert len(set(zip(listing.find(str(tmp_path)), strict=False))) == count  # warms caches
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        listed = sum(1 for _ in listing.find(str(tmp_path)))
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert listed == count
    assert peak < 50 * count


def test_names_may_have_more_than_two_gib(songs):
    table = inputs.collect([str(songs)])
    assert {table.schema.field(name).type for name in ("source", "etag")} == {pa.large_string()}


def test_globs_have_audio_files_and_folders_only(tmp_path, memory):
    names = ("notes.txt", ".hidden.flac", "1.flac", "cover.jpg", "sub/2.mp3", "sub/.3.mp3", ".trash/4.flac")
    for name in names:
        path = tmp_path / "mix" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        memory(f"/mix/{name}")
    expected = ["mix/1.flac", "mix/sub/2.mp3"]
    for pattern in ("mix/*", "mix/**", "m*"):
        assert sources(tmp_path / pattern) == [str(tmp_path / name) for name in expected]
    for pattern in ("mix/**", "mix", "m*/**"):
        assert sources(f"memory://{pattern}") == [f"memory:///{name}" for name in expected]
    with pytest.raises(CatalogueError, match="does not exist"):
        sources(tmp_path / "nothing*")


def test_odd_names_in_object_storage(s3, tmp_path, monkeypatch):
    names = ("Re::Zero.flac", "best of [2020]/a.flac", "what?.flac", ".trash/x.flac", "sub/.y.flac", "stars*.flac")
    for name in names:
        s3.pipe_file(f"shelf/odd/{name}", b"music")
    expected = sorted(f"s3://shelf/odd/{name}" for name in names if "/." not in f"/{name}")
    assert sources("s3://shelf/odd") == sources("s3://shelf/odd/**") == expected
    assert sources("s3://shelf/odd/best of [2020]") == ["s3://shelf/odd/best of [2020]/a.flac"]
    assert sources("s3://shelf/odd/what?.flac") == ["s3://shelf/odd/what?.flac"]
    for source in expected:
        assert storage.fetch(source, tmp_path / "copy", threading.Event()).read_bytes() == b"music"
    storage.write("s3://shelf/Re::Zero/a.json", b"{}")
    assert storage.read("s3://shelf/Re::Zero/a.json") == b"{}"
    assert storage.names("s3://shelf/Re::Zero") == {"a.json"}


# Manifests


def test_lines_of_manifests(songs, tmp_path, monkeypatch):
    monkeypatch.chdir(songs)
    (tmp_path / "a.txt").write_text(f" {songs}/0.flac\t\r\n  # comment\n1.flac \n")
    assert sources(tmp_path / "a.txt") == [f"{songs}/0.flac", f"{songs}/1.flac"]
    (tmp_path / "a.txt").write_bytes(b"s3://bucket/a.flac\ns3://bucket/caf\xe9.flac")
    with pytest.raises(CatalogueError, match="line 2"):
        sources(tmp_path / "a.txt")


def test_columns_of_manifests(tmp_path):
    names = ["s3://bucket/a.flac", "s3://bucket/b.flac"]
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        parquet.write_table(pa.table({"uri": pa.array(names, pa.string()).cast(kind)}), tmp_path / "a.parquet")
        assert sources(tmp_path / "a.parquet") == names
    for values in ([b"/music/a.flac"], [1]):
        parquet.write_table(pa.table({"uri": values}), tmp_path / "a.parquet")
        with pytest.raises(CatalogueError, match="expected string"):
            sources(tmp_path / "a.parquet")


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


def test_passwords_are_an_error(songs, tmp_path):
    uri = f"http://me:{SECRET}@127.0.0.1:9/a.flac"
    (tmp_path / "list.txt").write_text(f"# music\n{uri}\n")
    for words in (
        ("tag", uri, "-o", tmp_path / "moods"), ("tag", tmp_path / "list.txt", "-o", tmp_path / "moods"),
        ("tag", songs, "-o", uri), ("decide", uri),
    ):  # fmt: skip
        result = invoke("catalogue", *words)
        assert result.code == 1
        assert "password" in result.err
        assert SECRET not in result.err + result.out
    assert not (tmp_path / "moods").exists()
    with pytest.raises(CatalogueError, match="line 2"):
        sources(tmp_path / "list.txt")


@pytest.mark.usefixtures("fast")
def test_messages_have_no_query_strings(tmp_path):
    pytest.importorskip("aiohttp")
    with servers.serve() as server:
        uri = f"{server.url}/a.flac?X-Amz-Signature={SECRET}"
        server.always[uri.removeprefix(f"{server.url}/")] = Behavior(code=500)
        for call in (
            lambda: storage.fetch(uri, tmp_path / "a", threading.Event()),
            lambda: storage.fetch(uri.replace("a.flac", "none.flac"), tmp_path / "a", threading.Event()),
            lambda: storage.read(uri), lambda: storage.write(uri, b""), lambda: sources(uri), lambda: dataset.read(uri),
            lambda: sources(uri.replace(".flac", ".txt")), lambda: sources(uri.replace(".flac", ".aif*")),
        ):  # fmt: skip
            with pytest.raises(MoodfieldError) as error:
                call()
            assert "127.0.0.1" in str(error.value)
            assert SECRET not in str(error.value)


def test_a_signed_address_is_a_source(tmp_path):
    pytest.importorskip("aiohttp")
    with servers.serve(**{f"a.flac?s={SECRET}": b"music"}) as server:
        uri = f"{server.url}/a.flac?s={SECRET}"
        assert sources(uri) == [uri]  # the list keeps it
        catalogue = create(tmp_path / "moods", uri)
        with pytest.raises(MoodfieldError, match="other sources") as error:
            create(tmp_path / "moods", "elsewhere")
        assert catalogue.sources == (uri,)
        assert SECRET not in str(error.value)


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


def test_a_damaged_part_is_named(songs, tmp_path):
    catalogue = create(tmp_path / "moods", songs)
    dataset.write_part(catalogue, 0, pa.table({"error": ["a"]}))
    path = Path(catalogue.part(0))
    path.write_bytes(path.read_bytes()[:-20])
    result = invoke("catalogue", "tag", songs, "-o", tmp_path / "moods")
    assert (result.code, str(path) in result.err) == (1, True)
    assert "remove it" in result.err
    (tmp_path / "moods" / catalogue.listing).unlink()
    path.unlink()
    with pytest.raises(CatalogueError, match=catalogue.listing):
        catalogue.read_inputs(0)


def test_what_killed_processes_leave_is_ignored(songs, tmp_path, monkeypatch):
    catalogue = create(tmp_path / "moods", songs)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # a process that is killed does not remove it
    storage.write(catalogue.part(0), dataset.to_bytes(pa.table({"error": ["a"]})))
    storage.create(catalogue.part(1), dataset.to_bytes(pa.table({"error": ["a"]})))
    assert len(list((tmp_path / "moods" / "tracks").iterdir())) > 2
    assert pyarrow.dataset.dataset(tmp_path / "moods" / "tracks").count_rows() == 2
    (tmp_path / "moods" / dataset.DESCRIPTION).rename(tmp_path / "moods" / f".{dataset.DESCRIPTION}.{'0' * 16}.part")
    shutil.rmtree(tmp_path / "moods" / "tracks")
    assert create(tmp_path / "moods", songs).listing == catalogue.listing


def test_errors_of_storage_are_named(songs, tmp_path, s3):
    (tmp_path / "afile").touch()
    with pytest.raises(CatalogueError, match="afile is a file"):
        create(tmp_path / "afile", songs)
    with pytest.raises(CatalogueError, match="s3://nothing/moods"):
        create("s3://nothing/moods", songs)
    with pytest.raises(CatalogueError, match="s3://nothing/music"):
        sources("s3://nothing/music")


@pytest.mark.usefixtures("fast")
def test_storage_that_forbids_is_named(songs, tmp_path, memory, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    def forbid(*_, **__):
        raise PermissionError("Forbidden")

    catalogue = create("memory://moods", songs)
    for name in ("_open", "cat_file", "ls", "pipe_file", "rm_file"):
        monkeypatch.setattr(MemoryFileSystem, name, forbid)
    for call in (
        lambda: dataset.read("memory://moods"), catalogue.committed, lambda: catalogue.read_inputs(0),
        lambda: dataset.read_part(catalogue, 0), lambda: dataset.write_part(catalogue, 0, pa.table({"a": [1]})),
        lambda: storage.remove("memory://moods/a"), lambda: sources("memory://moods"),
    ):  # fmt: skip
        with pytest.raises(CatalogueError, match="memory://moods") as error:
            call()
        assert "Forbidden" in str(error.value)


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
