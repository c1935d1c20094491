"""Download and extraction of tars: complete and right tracks, unsafe tars, interruptions."""

import hashlib
import io
import json
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from disks import files_up_to
from moodfield.datasets import mtg_jamendo, mtg_jamendo_download
from moodfield.datasets.download import RetryPolicy
from moodfield.datasets.mtg_jamendo_download import AudioQuality
from moodfield.errors import ConfigError, DatasetError, DownloadError, MoodfieldError, UnknownNameError
from servers import Behavior, Server, serve

TRACKS = {f"{folder:02}/{100 * number + folder}.low.mp3": np.random.default_rng(folder + number).bytes(40_000 + number)
          for folder in range(3) for number in range(4)}  # fmt: skip
QUICK = RetryPolicy(attempts=2, pause=0.0, timeout=5.0)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def member(name: str, content: bytes = b"music", **more: object) -> tuple[tarfile.TarInfo, bytes]:
    """A file for a tar, or what else the attributes make of it."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def tar(*members: tuple[tarfile.TarInfo, bytes], **how: object) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **how) as packed:
        for info, content in members:
            packed.addfile(info, io.BytesIO(content))
    return out.getvalue()


def folder_and_tracks(folder: int) -> bytes:
    """A tar as the dataset has them: the folder, then its tracks."""
    inside = [member(path, content) for path, content in TRACKS.items() if path.startswith(f"{folder:02}/")]
    return tar(member(f"{folder:02}", b"", type=tarfile.DIRTYPE), *inside)


TARS = {f"autotagging_moodtheme_audio-low-{folder:02}.tar": folder_and_tracks(folder) for folder in range(3)}
NAMES = list(TARS)


def listed(files: dict[str, bytes]) -> str:
    return "".join(f"{sha256(content)} {name}\n" for name, content in files.items())


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a clone of the dataset's repository has of lists."""
    lists = tmp_path / "clone" / "data" / "download"
    lists.mkdir(parents=True)
    (lists / "autotagging_moodtheme_audio-low_sha256_tars.txt").write_text(listed(TARS))
    (lists / "autotagging_moodtheme_audio-low_sha256_tracks.txt").write_text(listed(TRACKS))
    (tmp_path / "clone" / "data" / "tags").mkdir()
    (tmp_path / "clone" / "data" / "tags" / "moodtheme_split.txt").write_text("mood/theme---happy\n")
    return tmp_path / "clone"


def at(name: str) -> str:
    """Where a server has a tar."""
    return f"autotagging_moodtheme/audio-low/{name}"


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(**{at(name): content for name, content in TARS.items()}) as state:
        yield state


def fetch(to: Path, clone: Path | None, *servers: Server, **more: object) -> dict[str, int | MoodfieldError]:
    given = {"lists": clone, "mirrors": [each.url for each in servers], "retry": QUICK} | more
    return dict(mtg_jamendo_download.fetch(to, **given))


def music(to: Path) -> dict[str, bytes]:
    """Everything below a folder but the lists, and what is remembered."""
    files = {str(path.relative_to(to)): path.read_bytes() for path in to.rglob("*") if path.is_file()}
    return {path: content for path, content in files.items() if not path.endswith((".txt", ".json", ".tsv"))}


# ---------------------------------------------------------------- fetched and unpacked


def test_download_of_audio_and_lists(tmp_path, clone, server):
    assert fetch(tmp_path / "to", clone, server) == dict.fromkeys(NAMES, 4)
    assert music(tmp_path / "to") == TRACKS
    sums = mtg_jamendo.read_checksums(tmp_path / "to" / "autotagging_moodtheme_audio-low_sha256_tracks.txt")
    assert sums == {path: sha256(content) for path, content in TRACKS.items()}
    assert mtg_jamendo.read_vocabulary(tmp_path / "to" / "moodtheme_split.txt") == ("happy",)
    server.requests.clear()
    assert fetch(tmp_path / "to", clone, server) == dict.fromkeys(NAMES, 4)
    assert server.requests == []


def test_first_tars_only_then_the_rest(tmp_path, clone, server):
    assert fetch(tmp_path / "to", clone, server, n_tars=2, keep_tars=True) == dict.fromkeys(NAMES[:2], 4)
    kept = {f"tars/{name}": TARS[name] for name in NAMES[:2]}
    assert music(tmp_path / "to") == {p: c for p, c in TRACKS.items() if not p.startswith("02/")} | kept
    fetch(tmp_path / "to", clone, server)
    assert [request.path for request in server.requests[2:]] == [at(NAMES[2])]


def test_missing_or_cut_track_is_downloaded_again(tmp_path, clone, server):
    fetch(tmp_path / "to", clone, server)
    (tmp_path / "to" / "01" / "101.low.mp3").unlink()
    (tmp_path / "to" / "02" / "102.low.mp3").write_bytes(b"cut")
    server.requests.clear()
    assert fetch(tmp_path / "to", clone, server) == dict.fromkeys(NAMES, 4)
    assert sorted(request.path for request in server.requests) == [at(name) for name in NAMES[1:]]
    assert music(tmp_path / "to") == TRACKS


@pytest.mark.parametrize("memory", ["", "[]", "{}", '{"sha256": "other", "files": {}}', '{"files": 3}', "\x00"])
def test_damaged_record_is_ignored(tmp_path, clone, server, memory):
    fetch(tmp_path / "to", clone, server, n_tars=1)
    (tmp_path / "to" / "tars" / f"{NAMES[0]}.json").write_text(memory)
    server.requests.clear()
    assert fetch(tmp_path / "to", clone, server, n_tars=1) == {NAMES[0]: 4}
    assert len(server.requests) == 1


def test_existing_tar_is_used_if_its_checksum_is_right(tmp_path, clone, server):
    (tmp_path / "to" / "tars").mkdir(parents=True)
    (tmp_path / "to" / "tars" / NAMES[0]).write_bytes(TARS[NAMES[0]])
    (tmp_path / "to" / "tars" / NAMES[1]).write_bytes(TARS[NAMES[0]])  # but not that of another
    fetch(tmp_path / "to", clone, server)
    assert sorted(request.path for request in server.requests) == [at(name) for name in NAMES[1:]]
    assert music(tmp_path / "to") == TRACKS


@pytest.mark.parametrize("behavior", [Behavior(flip=1_000), Behavior(code=404), Behavior(code=503)])
def test_failed_tar_does_not_stop_others(tmp_path, clone, server, behavior):
    server.always[at(NAMES[1])] = behavior
    found = fetch(tmp_path / "to", clone, server)
    assert isinstance(found.pop(NAMES[1]), DownloadError)
    assert found == {NAMES[0]: 4, NAMES[2]: 4}
    assert music(tmp_path / "to") == {p: c for p, c in TRACKS.items() if not p.startswith("01/")}
    server.always.clear()
    assert fetch(tmp_path / "to", clone, server) == dict.fromkeys(NAMES, 4)
    assert music(tmp_path / "to") == TRACKS


def test_second_mirror(tmp_path, clone, server):
    with serve() as empty:
        assert fetch(tmp_path / "to", clone, empty, server) == dict.fromkeys(NAMES, 4)


def test_progress_of_every_tar(tmp_path, clone, server):
    seen: dict[str, list[tuple[int, int | None]]] = {name: [] for name in NAMES}
    fetch(tmp_path / "to", clone, server, progress=lambda name, done, total: seen[name].append((done, total)))
    assert {name: each[-1] for name, each in seen.items()} == {n: (len(c), len(c)) for n, c in TARS.items()}


def test_jobs_limits_concurrent_tars(tmp_path, clone, server):
    for name in NAMES:
        server.always[at(name)] = Behavior(stall=0.15)
    first: list[str] = []
    fetch(tmp_path / "to", clone, server, jobs=1, progress=lambda name, *_: first.append(name))
    assert list(dict.fromkeys(first)) == NAMES
    assert first == sorted(first)


def test_closed_iterator_stops_retries(tmp_path, clone, server):
    """A server that is busy is not asked again once nobody wants the rest any more, and nobody waits for it."""
    server.always[at(NAMES[1])] = Behavior(code=503)
    retry = RetryPolicy(attempts=6, pause=0.5)
    coming = mtg_jamendo_download.fetch(tmp_path / "to", lists=clone, mirrors=[server.url], jobs=1, retry=retry)
    assert next(coming) == (NAMES[0], 4)
    coming.close()
    assert len(server.requests) <= 3
    server.always.clear()
    assert fetch(tmp_path / "to", clone, server) == dict.fromkeys(NAMES, 4)


def test_closed_iterator_stops_running_downloads(tmp_path, clone, server):
    gone = threading.Event()

    def reports(name: str, *_: object) -> None:
        if name == NAMES[1]:
            gone.wait(0.5)  # its first block came; meanwhile nobody wants the rest any more

    coming = mtg_jamendo_download.fetch(
        tmp_path / "to", lists=clone, mirrors=[server.url], jobs=2, n_tars=2, progress=reports
    )
    assert next(coming) == (NAMES[0], 4)
    coming.close()
    assert not (tmp_path / "to" / "01").exists()
    assert 0 < (tmp_path / "to" / "tars" / f"{NAMES[1]}.part").stat().st_size < len(TARS[NAMES[1]])


def test_resume_after_killed_process(tmp_path, clone, server):
    """Killed after some tracks of the second tar."""
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from moodfield.datasets import mtg_jamendo_download as module\n"
        "write, seen = module._extract, []\n"
        "def extract(packed, member, target, sum):\n"
        "    seen.append(member)\n"
        "    if len(seen) == 7:\n"
        "        target.with_name(f'{target.name}.{os.getpid()}.part').write_bytes(b'half')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(packed, member, target, sum)\n"
        "module._extract = extract\n"
        "list(module.fetch(Path(sys.argv[1]), lists=Path(sys.argv[2]), mirrors=[sys.argv[3]], jobs=1))\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "to", clone, server.url]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len(list((tmp_path / "to").rglob("*.mp3"))) == 6
    server.requests.clear()
    assert fetch(tmp_path / "to", clone, server) == dict.fromkeys(NAMES, 4)
    assert music(tmp_path / "to") == TRACKS
    assert [request.path for request in server.requests] == [at(NAMES[2])]


def test_concurrent_run_in_the_same_folder_raises(tmp_path, clone, server, monkeypatch):
    """The second comes while the first unpacks: it refuses truly, and spoils nothing."""
    extract, second = mtg_jamendo_download._extract, []

    def slowly(packed: tarfile.TarFile, *what: object) -> None:
        monkeypatch.setattr(mtg_jamendo_download, "_extract", extract)
        second.append(fetch(tmp_path / "to", clone, server, n_tars=1)[NAMES[0]])
        extract(packed, *what)

    monkeypatch.setattr(mtg_jamendo_download, "_extract", slowly)
    assert fetch(tmp_path / "to", clone, server, n_tars=1) == {NAMES[0]: 4}
    assert "is in use by process" in str(second[0])
    assert music(tmp_path / "to") == {path: content for path, content in TRACKS.items() if path.startswith("00/")}
    assert len(server.requests) == 1


def test_missing_tar_does_not_mention_disk_space(tmp_path, clone, server, monkeypatch):
    def gone(*_: object, on_file: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(mtg_jamendo_download, "unpack", gone)
    message = str(fetch(tmp_path / "to", clone, server, n_tars=1)[NAMES[0]])
    assert "No such file or directory" in message
    assert "disk space" not in message


def test_full_disk_keeps_complete_tracks(tmp_path, clone, server):
    (tmp_path / "to" / "tars").mkdir(parents=True)
    (tmp_path / "to" / "tars" / NAMES[0]).write_bytes(TARS[NAMES[0]])
    with files_up_to(40_002):  # no tar fits, of the first one three tracks
        found = fetch(tmp_path / "to", clone, server)
    assert all("disk space" in str(each) for each in found.values())
    assert all(isinstance(each, DownloadError) for each in found.values())
    assert {path for path in music(tmp_path / "to") if path.endswith(".mp3")} == set(list(TRACKS)[:3])
    assert fetch(tmp_path / "to", clone, server) == dict.fromkeys(NAMES, 4)
    assert music(tmp_path / "to") == TRACKS


# ---------------------------------------------------------------- lists


def test_downloaded_lists_have_pinned_checksums(tmp_path, clone, server, monkeypatch):
    repository = {str(path.relative_to(clone)): path.read_bytes() for path in clone.rglob("*.txt")}
    server.files |= repository
    monkeypatch.setattr(mtg_jamendo_download, "REPOSITORY", server.url)
    monkeypatch.setattr(mtg_jamendo_download, "PINNED", {path: sha256(content) for path, content in repository.items()})
    assert fetch(tmp_path / "to", None, server) == dict.fromkeys(NAMES, 4)
    with monkeypatch.context() as patched:
        patched.setattr(mtg_jamendo_download, "MAX_LIST_BYTES", 100)
        with pytest.raises(DownloadError, match="100 bytes"):
            fetch(tmp_path / "third", None, server)
    server.files["data/download/autotagging_moodtheme_audio-low_sha256_tars.txt"] += b"more"
    with pytest.raises(DownloadError, match="another checksum"):
        fetch(tmp_path / "other", None, server)


@pytest.mark.golden
def test_pinned_checksums_are_those_of_the_dataset(data):
    found = {path.rpartition("/")[2]: known for path, known in mtg_jamendo_download.PINNED.items()}
    here = {path.name: sha256(path.read_bytes()) for path in (data / "mtg-jamendo").iterdir() if path.name in found}
    assert len(here) == 7
    assert here == {name: found[name] for name in here}


@pytest.mark.golden
@pytest.mark.parametrize("quality", AudioQuality)
def test_published_lists(data, tmp_path, quality):
    found = mtg_jamendo_download.fetch_lists(tmp_path, quality, lists=data / "mtg-jamendo")
    assert list(found.tars) == [f"autotagging_moodtheme_{quality}-{part:02}.tar" for part in range(100)]
    assert len(found.tracks) == (18_486 if quality is AudioQuality.LOW else 0)
    assert sorted(path.name for path in tmp_path.glob("*_tars.txt")) == [
        f"autotagging_moodtheme_{quality}_sha256_tars.txt"
    ]
    assert {path.partition("/")[0] for path in found.tracks} <= {f"{part:02}" for part in range(100)}


def test_only_list_of_tars_is_required(tmp_path, clone, server):
    (clone / "data/download/autotagging_moodtheme_audio-low_sha256_tracks.txt").unlink()
    assert fetch(tmp_path / "to", clone, server) == dict.fromkeys(NAMES, 4)
    with pytest.raises(DatasetError, match=r"audio_sha256_tars.txt"):
        fetch(tmp_path / "to", clone, server, quality=AudioQuality.AUDIO)


@pytest.mark.parametrize("name", ["../x.tar", "/x.tar", "a/x.tar", "x.zip", ".."])
def test_unsafe_name_in_list_raises(tmp_path, clone, server, name):
    (clone / "data/download/autotagging_moodtheme_audio-low_sha256_tars.txt").write_text(f"{'a' * 64} {name}\n")
    with pytest.raises(DatasetError, match="file names of tars"):
        fetch(tmp_path / "to", clone, server)
    assert server.requests == []


def test_invalid_arguments_raise(tmp_path, clone, server):
    with pytest.raises(UnknownNameError, match="mtg-fast"):
        fetch(tmp_path / "to", clone, mirrors=["mtg-fats"])
    for wrong in ({"n_tars": 0}, {"jobs": 0}):
        with pytest.raises(ConfigError, match="at least one"):
            fetch(tmp_path / "to", clone, server, **wrong)


# ---------------------------------------------------------------- what tars may hold

LINK = {"linkname": "../../outside"}
BAD = {
    "absolute": member("/tmp/x.mp3"),
    "parent": member("../x.mp3"),
    "parent inside": member("00/../../x.mp3"),
    "backslash": member("..\\x.mp3"),
    "backslash inside": member("00\\x.mp3"),
    "drive": member("C:x.mp3"),
    "symbolic link": member("00/x.mp3", b"", type=tarfile.SYMTYPE, **LINK),
    "inner link": member("00/x.mp3", b"", type=tarfile.SYMTYPE, linkname="00/y.mp3"),
    "hard link": member("00/x.mp3", b"", type=tarfile.LNKTYPE, **LINK),
    "pipe": member("00/x.mp3", b"", type=tarfile.FIFOTYPE),
    "device": member("00/x.mp3", b"", type=tarfile.CHRTYPE),
    "block device": member("00/x.mp3", b"", type=tarfile.BLKTYPE),
    "our own folder": member("tars/x.tar.json"),
    "hidden": member("00/.x.mp3"),
    "control character": member("00/\x1b[2Jx.mp3"),
    "absolute folder": member("/00", b"", type=tarfile.DIRTYPE),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("first", [True, False])
def test_unsafe_member_raises_before_anything_is_written(tmp_path, bad, first):
    good = member("00/good.mp3")
    (tmp_path / "x.tar").write_bytes(tar(*((bad, good) if first else (good, bad))))
    with pytest.raises(DatasetError, match="was not unpacked"):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "deep" / "to", {})
    assert [path.name for path in tmp_path.rglob("*")] == ["x.tar"]


@pytest.mark.parametrize("other", ["a/./é.mp3", "a//é.mp3", "A/É.mp3", "a/e\u0301.mp3"])
def test_names_that_collide_on_some_file_systems_raise(tmp_path, other):
    (tmp_path / "x.tar").write_bytes(tar(member("a/é.mp3"), member(other)))
    with pytest.raises(DatasetError, match="twice"):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {})


@pytest.mark.parametrize("name", ["Tars/x.json", "autotagging_moodtheme-test.tsv", "a/" + "x" * 256, "a/b.mp3.7.part"])
def test_reserved_and_invalid_names_raise(tmp_path, name):
    (tmp_path / "x.tar").write_bytes(tar(member(name)))
    with pytest.raises(DatasetError, match="not a valid file name"):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {})


def test_message_lists_all_faults_of_a_tar(tmp_path):
    content = b"music"
    twice = [member("00/a.mp3"), member("00/a.mp3")]
    (tmp_path / "x.tar").write_bytes(tar(member("../x"), *twice, member("00/b.mp3"), BAD["pipe"]))
    with pytest.raises(DatasetError) as caught:
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {"00/a.mp3": sha256(content)})
    for token in ("'../x' leaves", "'00/a.mp3' is contained twice", "'00/b.mp3' is not in", "'00/x.mp3' is neither"):
        assert token in str(caught.value)


def test_limits_of_a_tar(tmp_path, monkeypatch):
    (tmp_path / "x.tar").write_bytes(tar(*(member(f"00/{number}.mp3", bytes(1_000)) for number in range(4))))
    for limit, most, words in (
        ("MAX_TRACK_BYTES", 999, "1,000 bytes"),
        ("MAX_TAR_BYTES", 3_999, "4,000 bytes"),
        ("MAX_MEMBERS", 3, "more than 3 members"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(mtg_jamendo_download, limit, most)
            with pytest.raises(DatasetError, match=words):
                mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {})
    assert not (tmp_path / "to").exists()
    assert mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {}) == {
        f"00/{n}.mp3": 1_000 for n in range(4)
    }


def test_sparse_member_raises(tmp_path):
    """A sparse member: a header of some bytes that stands for a megabyte of zeros."""
    sparse = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**20), "GNU.sparse.numblocks": "1"}
    (tmp_path / "x.tar").write_bytes(tar(member("00/x.mp3", pax_headers=sparse), format=tarfile.PAX_FORMAT))
    with pytest.raises(DatasetError, match="neither a regular file"):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {})


def test_existing_link_is_not_followed(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "00").symlink_to(tmp_path / "outside")
    (tmp_path / "x.tar").write_bytes(tar(member("00/x.mp3")))
    with pytest.raises(DatasetError, match="by a link"):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {})
    assert list((tmp_path / "outside").iterdir()) == []


def test_wrong_checksum_of_track_raises(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar(member("00/a.mp3"), member("00/b.mp3", b"other")))
    tracks = dict.fromkeys(["00/a.mp3", "00/b.mp3"], sha256(b"music"))
    with pytest.raises(DatasetError, match=r"00/b\.mp3 .*checksum"):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", tracks)
    assert music(tmp_path / "to") == {"00/a.mp3": b"music"}


def test_permissions_and_owners_are_not_extracted(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar(member("00/a.mp3", mode=0o6777, uid=1, gid=1)))
    mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {})
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "to/00/a.mp3").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 999, TARS[NAMES[0]][:100_000], TARS[NAMES[0]][:700]])
def test_incomplete_tar_raises(tmp_path, content):
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(DatasetError, match=r"get (it|another)"):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {})
    assert all(TRACKS[path] == found for path, found in music(tmp_path / "to").items())


def header(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
@pytest.mark.parametrize("size", [2**20 + 1, 2**40, 2**62])
def test_huge_extended_header_raises(tmp_path, kind, size):
    (tmp_path / "x.tar").write_bytes(header(kind, size) + bytes(1_024))
    with pytest.raises(DatasetError, match="header"):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {})


@pytest.mark.parametrize(("kind", "words"), [(b"x", b"12 path=abc\n"), (b"L", b"abc\0")])
def test_chain_of_extended_headers_raises(tmp_path, kind, words):
    (tmp_path / "x.tar").write_bytes((header(kind, len(words)) + words.ljust(512, b"\0")) * 3_000)
    with pytest.raises(DatasetError, match="complete tar"):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {})


SMALL = tar(member("00", b"", type=tarfile.DIRTYPE), member("00/a.mp3", b"a" * 600), member("00/" + "b" * 120, b"b"))


@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_damage_writes_only_right_files(tmp_path, damage):
    spoilt = bytearray(SMALL)
    for place, value in damage:
        spoilt[place] = value
    (tmp_path / "x.tar").write_bytes(spoilt)
    known = {"00/a.mp3": sha256(b"a" * 600), "00/" + "b" * 120: sha256(b"b")}
    with suppress(DatasetError):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", known)
    assert {path.name for path in tmp_path.iterdir()} <= {"x.tar", "to"}
    assert all(sha256(found) == known[path] for path, found in music(tmp_path / "to").items())


def test_record_is_plain_json(tmp_path, clone, server):
    fetch(tmp_path / "to", clone, server, n_tars=1)
    kept = json.loads((tmp_path / "to" / "tars" / f"{NAMES[0]}.json").read_text())
    assert kept == {
        "sha256": sha256(TARS[NAMES[0]]),
        "files": {path: len(content) for path, content in TRACKS.items() if path.startswith("00/")},
    }
