"""Tars of music: tracks whole and right, nothing beside them, whatever tars hold and whenever it is stopped."""

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
from servers import Manner, Server, serving

TRACKS = {f"{folder:02}/{100 * number + folder}.low.mp3": np.random.default_rng(folder + number).bytes(40_000 + number)
          for folder in range(3) for number in range(4)}  # fmt: skip
QUICK = RetryPolicy(tries=2, pause=0.0, silence=5.0)


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
    with serving(**{at(name): content for name, content in TARS.items()}) as state:
        yield state


def fetch(to: Path, clone: Path | None, *servers: Server, **more: object) -> dict[str, int | MoodfieldError]:
    given = {"lists": clone, "mirrors": [each.address for each in servers], "patience": QUICK} | more
    return dict(mtg_jamendo_download.fetch(to, **given))


def music(to: Path) -> dict[str, bytes]:
    """Everything below a folder but the lists, and what is remembered."""
    files = {str(path.relative_to(to)): path.read_bytes() for path in to.rglob("*") if path.is_file()}
    return {path: content for path, content in files.items() if not path.endswith((".txt", ".json", ".tsv"))}


# ---------------------------------------------------------------- fetched and unpacked


def test_all_music_comes_with_its_lists_and_is_remembered(tmp_path, clone, server):
    assert fetch(tmp_path / "to", clone, server) == dict.fromkeys(NAMES, 4)
    assert music(tmp_path / "to") == TRACKS
    sums = mtg_jamendo.read_sums(tmp_path / "to" / "autotagging_moodtheme_audio-low_sha256_tracks.txt")
    assert sums == {path: sha256(content) for path, content in TRACKS.items()}
    assert mtg_jamendo.read_vocabulary(tmp_path / "to" / "moodtheme_split.txt") == ("happy",)
    server.asked.clear()
    assert fetch(tmp_path / "to", clone, server) == dict.fromkeys(NAMES, 4)
    assert server.asked == []


def test_some_of_the_tars_may_do_and_the_rest_may_come_later(tmp_path, clone, server):
    assert fetch(tmp_path / "to", clone, server, parts=2, keep_tars=True) == dict.fromkeys(NAMES[:2], 4)
    kept = {f"tars/{name}": TARS[name] for name in NAMES[:2]}
    assert music(tmp_path / "to") == {p: c for p, c in TRACKS.items() if not p.startswith("02/")} | kept
    fetch(tmp_path / "to", clone, server)
    assert [asked.path for asked in server.asked[2:]] == [at(NAMES[2])]


def test_a_track_that_went_missing_is_noticed_and_comes_again(tmp_path, clone, server):
    fetch(tmp_path / "to", clone, server)
    (tmp_path / "to" / "01" / "101.low.mp3").unlink()
    (tmp_path / "to" / "02" / "102.low.mp3").write_bytes(b"cut")
    server.asked.clear()
    assert fetch(tmp_path / "to", clone, server) == dict.fromkeys(NAMES, 4)
    assert sorted(asked.path for asked in server.asked) == [at(name) for name in NAMES[1:]]
    assert music(tmp_path / "to") == TRACKS


@pytest.mark.parametrize("memory", ["", "[]", "{}", '{"sha256": "other", "files": {}}', '{"files": 3}', "\x00"])
def test_what_is_remembered_badly_is_not_believed(tmp_path, clone, server, memory):
    fetch(tmp_path / "to", clone, server, parts=1)
    (tmp_path / "to" / "tars" / f"{NAMES[0]}.json").write_text(memory)
    server.asked.clear()
    assert fetch(tmp_path / "to", clone, server, parts=1) == {NAMES[0]: 4}
    assert len(server.asked) == 1


def test_a_tar_that_is_there_is_not_fetched(tmp_path, clone, server):
    (tmp_path / "to" / "tars").mkdir(parents=True)
    (tmp_path / "to" / "tars" / NAMES[0]).write_bytes(TARS[NAMES[0]])
    (tmp_path / "to" / "tars" / NAMES[1]).write_bytes(TARS[NAMES[0]])  # but not that of another
    fetch(tmp_path / "to", clone, server)
    assert sorted(asked.path for asked in server.asked) == [at(name) for name in NAMES[1:]]
    assert music(tmp_path / "to") == TRACKS


@pytest.mark.parametrize("manner", [Manner(flip=1_000), Manner(code=404), Manner(code=503)])
def test_one_bad_tar_stops_no_other(tmp_path, clone, server, manner):
    server.always[at(NAMES[1])] = manner
    found = fetch(tmp_path / "to", clone, server)
    assert isinstance(found.pop(NAMES[1]), DownloadError)
    assert found == {NAMES[0]: 4, NAMES[2]: 4}
    assert music(tmp_path / "to") == {p: c for p, c in TRACKS.items() if not p.startswith("01/")}
    server.always.clear()
    assert fetch(tmp_path / "to", clone, server) == dict.fromkeys(NAMES, 4)
    assert music(tmp_path / "to") == TRACKS


def test_the_second_mirror_helps(tmp_path, clone, server):
    with serving() as empty:
        assert fetch(tmp_path / "to", clone, empty, server) == dict.fromkeys(NAMES, 4)


def test_progress_is_told_for_every_tar(tmp_path, clone, server):
    seen: dict[str, list[tuple[int, int | None]]] = {name: [] for name in NAMES}
    fetch(tmp_path / "to", clone, server, told=lambda name, done, total: seen[name].append((done, total)))
    assert {name: each[-1] for name, each in seen.items()} == {n: (len(c), len(c)) for n, c in TARS.items()}


def test_so_many_tars_are_under_way_at_a_time(tmp_path, clone, server):
    for name in NAMES:
        server.always[at(name)] = Manner(stall=0.15)
    first: list[str] = []
    fetch(tmp_path / "to", clone, server, jobs=1, told=lambda name, *_: first.append(name))
    assert list(dict.fromkeys(first)) == NAMES
    assert first == sorted(first)


def test_whoever_has_seen_enough_can_stop_and_go_on(tmp_path, clone, server):
    """A server that is busy is not asked again once nobody wants the rest any more, and nobody waits for it."""
    server.always[at(NAMES[1])] = Manner(code=503)
    patience = RetryPolicy(tries=6, pause=0.5)
    coming = mtg_jamendo_download.fetch(
        tmp_path / "to", lists=clone, mirrors=[server.address], jobs=1, patience=patience
    )
    assert next(coming) == (NAMES[0], 4)
    coming.close()
    assert len(server.asked) <= 3
    server.always.clear()
    assert fetch(tmp_path / "to", clone, server) == dict.fromkeys(NAMES, 4)


def test_what_is_under_way_stops_at_the_next_block(tmp_path, clone, server):
    gone = threading.Event()

    def told(name: str, *_: object) -> None:
        if name == NAMES[1]:
            gone.wait(0.5)  # its first block came; meanwhile nobody wants the rest any more

    coming = mtg_jamendo_download.fetch(
        tmp_path / "to", lists=clone, mirrors=[server.address], jobs=2, parts=2, told=told
    )
    assert next(coming) == (NAMES[0], 4)
    coming.close()
    assert not (tmp_path / "to" / "01").exists()
    assert 0 < (tmp_path / "to" / "tars" / f"{NAMES[1]}.part").stat().st_size < len(TARS[NAMES[1]])


def test_a_killed_process_goes_on_and_leaves_no_halves(tmp_path, clone, server):
    """Killed after some tracks of the second tar."""
    code = (
        "import os, signal, sys; from pathlib import Path; from moodfield import archive, files\n"
        "write, seen = archive._extract, []\n"
        "def extract(packed, member, target, sum):\n"
        "    seen.append(member)\n"
        "    if len(seen) == 7:\n"
        "        target.with_name(f'{target.name}.{os.getpid()}.part').write_bytes(b'half')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(packed, member, target, sum)\n"
        "archive._extract = extract\n"
        "list(archive.fetch(Path(sys.argv[1]), lists=Path(sys.argv[2]), mirrors=[sys.argv[3]], jobs=1))\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "to", clone, server.address]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len(list((tmp_path / "to").rglob("*.mp3"))) == 6
    server.asked.clear()
    assert fetch(tmp_path / "to", clone, server) == dict.fromkeys(NAMES, 4)
    assert music(tmp_path / "to") == TRACKS
    assert [asked.path for asked in server.asked] == [at(NAMES[2])]


def test_two_runs_in_one_folder_do_not_take_each_others_tars(tmp_path, clone, server, monkeypatch):
    """The second comes while the first unpacks: it refuses truly, and spoils nothing."""
    extract, second = mtg_jamendo_download._extract, []

    def slowly(packed: tarfile.TarFile, *what: object) -> None:
        monkeypatch.setattr(mtg_jamendo_download, "_extract", extract)
        second.append(fetch(tmp_path / "to", clone, server, parts=1)[NAMES[0]])
        extract(packed, *what)

    monkeypatch.setattr(mtg_jamendo_download, "_extract", slowly)
    assert fetch(tmp_path / "to", clone, server, parts=1) == {NAMES[0]: 4}
    assert "is in use by process" in str(second[0])
    assert music(tmp_path / "to") == {path: content for path, content in TRACKS.items() if path.startswith("00/")}
    assert len(server.asked) == 1


def test_a_tar_that_vanishes_is_not_said_to_want_room(tmp_path, clone, server, monkeypatch):
    def gone(*_: object, on: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(mtg_jamendo_download, "unpack", gone)
    message = str(fetch(tmp_path / "to", clone, server, parts=1)[NAMES[0]])
    assert message.endswith("No such file or directory; what is whole stays: mend that and try again")


def test_a_full_disk_is_said_of_every_tar_and_what_is_whole_stays(tmp_path, clone, server):
    (tmp_path / "to" / "tars").mkdir(parents=True)
    (tmp_path / "to" / "tars" / NAMES[0]).write_bytes(TARS[NAMES[0]])
    with files_up_to(40_002):  # no tar fits, of the first one three tracks
        found = fetch(tmp_path / "to", clone, server)
    assert all("make room and try again" in str(each) for each in found.values())
    assert all(isinstance(each, DownloadError) for each in found.values())
    assert {path for path in music(tmp_path / "to") if path.endswith(".mp3")} == set(list(TRACKS)[:3])
    assert fetch(tmp_path / "to", clone, server) == dict.fromkeys(NAMES, 4)
    assert music(tmp_path / "to") == TRACKS


# ---------------------------------------------------------------- lists


def test_lists_are_fetched_and_must_be_those_that_are_known(tmp_path, clone, server, monkeypatch):
    repository = {str(path.relative_to(clone)): path.read_bytes() for path in clone.rglob("*.txt")}
    server.files |= repository
    monkeypatch.setattr(mtg_jamendo_download, "REPOSITORY", server.address)
    monkeypatch.setattr(mtg_jamendo_download, "PINNED", {path: sha256(content) for path, content in repository.items()})
    assert fetch(tmp_path / "to", None, server) == dict.fromkeys(NAMES, 4)
    with monkeypatch.context() as patched:
        patched.setattr(mtg_jamendo_download, "MOST_OF_LIST", 100)
        with pytest.raises(DownloadError, match="sends more than 100 bytes"):
            fetch(tmp_path / "third", None, server)
    server.files["data/download/autotagging_moodtheme_audio-low_sha256_tars.txt"] += b"more"
    with pytest.raises(DownloadError, match="another checksum"):
        fetch(tmp_path / "other", None, server)


@pytest.mark.golden
def test_the_known_lists_are_those_of_the_dataset(data):
    found = {path.rpartition("/")[2]: known for path, known in mtg_jamendo_download.PINNED.items()}
    here = {path.name: sha256(path.read_bytes()) for path in (data / "mtg-jamendo").iterdir() if path.name in found}
    assert len(here) == 7
    assert here == {name: found[name] for name in here}


@pytest.mark.golden
@pytest.mark.parametrize("kind", AudioQuality)
def test_the_lists_of_the_dataset_are_read(data, tmp_path, kind):
    found = mtg_jamendo_download.gather(tmp_path, kind, lists=data / "mtg-jamendo")
    assert list(found.tars) == [f"autotagging_moodtheme_{kind}-{part:02}.tar" for part in range(100)]
    assert len(found.tracks) == (18_486 if kind is AudioQuality.LOW else 0)
    assert sorted(path.name for path in tmp_path.glob("*_tars.txt")) == [
        f"autotagging_moodtheme_{kind}_sha256_tars.txt"
    ]
    assert {path.partition("/")[0] for path in found.tracks} <= {f"{part:02}" for part in range(100)}


def test_a_list_of_tracks_may_be_missing_but_not_that_of_tars(tmp_path, clone, server):
    (clone / "data/download/autotagging_moodtheme_audio-low_sha256_tracks.txt").unlink()
    assert fetch(tmp_path / "to", clone, server) == dict.fromkeys(NAMES, 4)
    with pytest.raises(DatasetError, match=r"has no autotagging_moodtheme_audio_sha256_tars.txt, nor data/download/"):
        fetch(tmp_path / "to", clone, server, kind=AudioQuality.AUDIO)


@pytest.mark.parametrize("name", ["../x.tar", "/x.tar", "a/x.tar", "x.zip", ".."])
def test_a_list_cannot_lead_elsewhere(tmp_path, clone, server, name):
    (clone / "data/download/autotagging_moodtheme_audio-low_sha256_tars.txt").write_text(f"{'a' * 64} {name}\n")
    with pytest.raises(DatasetError, match="no names of tars"):
        fetch(tmp_path / "to", clone, server)
    assert server.asked == []


def test_what_cannot_begin_is_refused(tmp_path, clone, server):
    with pytest.raises(UnknownNameError, match="did you mean mtg-fast"):
        fetch(tmp_path / "to", clone, mirrors=["mtg-fats"])
    for wrong in ({"parts": 0}, {"jobs": 0}):
        with pytest.raises(ConfigError, match="at least one of each"):
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
def test_nothing_is_written_of_a_tar_that_holds_what_it_must_not(tmp_path, bad, first):
    good = member("00/good.mp3")
    (tmp_path / "x.tar").write_bytes(tar(*((bad, good) if first else (good, bad))))
    with pytest.raises(DatasetError, match="was not unpacked"):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "deep" / "to", {})
    assert [path.name for path in tmp_path.rglob("*")] == ["x.tar"]


@pytest.mark.parametrize("other", ["a/./é.mp3", "a//é.mp3", "A/É.mp3", "a/e\u0301.mp3"])
def test_names_that_some_disk_holds_for_one_come_twice(tmp_path, other):
    (tmp_path / "x.tar").write_bytes(tar(member("a/é.mp3"), member(other)))
    with pytest.raises(DatasetError, match="comes twice"):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {})


@pytest.mark.parametrize("name", ["Tars/x.json", "autotagging_moodtheme-test.tsv", "a/" + "x" * 256, "a/b.mp3.7.part"])
def test_names_that_are_ours_or_no_disk_takes_are_refused(tmp_path, name):
    (tmp_path / "x.tar").write_bytes(tar(member(name)))
    with pytest.raises(DatasetError, match="is no name of a track"):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {})


def test_all_that_is_wrong_with_a_tar_is_said_at_once(tmp_path):
    content = b"music"
    twice = [member("00/a.mp3"), member("00/a.mp3")]
    (tmp_path / "x.tar").write_bytes(tar(member("../x"), *twice, member("00/b.mp3"), BAD["pipe"]))
    with pytest.raises(DatasetError) as caught:
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {"00/a.mp3": sha256(content)})
    assert str(caught.value) == (
        "x.tar was not unpacked: '../x' leaves the folder; '00/a.mp3' comes twice; '00/b.mp3' is not in the list of "
        "tracks; '00/x.mp3' is neither a file nor a folder; get another copy of it"
    )


def test_a_tar_may_not_hold_too_much(tmp_path, monkeypatch):
    (tmp_path / "x.tar").write_bytes(tar(*(member(f"00/{number}.mp3", bytes(1_000)) for number in range(4))))
    for limit, most, words in (
        ("MOST_OF_TRACK", 999, "has 1,000 bytes, at most 999"),
        ("MOST_OF_TAR", 3_999, "its files have 4,000 bytes, at most 3,999"),
        ("MOST_MEMBERS", 3, "holds more than 3 things"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(mtg_jamendo_download, limit, most)
            with pytest.raises(DatasetError, match=words):
                mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {})
    assert not (tmp_path / "to").exists()
    assert mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {}) == {
        f"00/{n}.mp3": 1_000 for n in range(4)
    }


def test_a_hole_that_claims_to_be_a_file_is_refused(tmp_path):
    """A sparse member: a header of some bytes that stands for a megabyte of zeros."""
    sparse = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**20), "GNU.sparse.numblocks": "1"}
    (tmp_path / "x.tar").write_bytes(tar(member("00/x.mp3", pax_headers=sparse), format=tarfile.PAX_FORMAT))
    with pytest.raises(DatasetError, match="is neither a file nor a folder"):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {})


def test_a_link_that_is_already_there_leads_nowhere(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "00").symlink_to(tmp_path / "outside")
    (tmp_path / "x.tar").write_bytes(tar(member("00/x.mp3")))
    with pytest.raises(DatasetError, match="is refused: "):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {})
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_track_with_another_checksum_does_not_get_its_name(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar(member("00/a.mp3"), member("00/b.mp3", b"other")))
    tracks = dict.fromkeys(["00/a.mp3", "00/b.mp3"], sha256(b"music"))
    with pytest.raises(DatasetError, match=r"00/b\.mp3 has another checksum than in the list"):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", tracks)
    assert music(tmp_path / "to") == {"00/a.mp3": b"music"}


def test_rights_and_owners_of_a_tar_do_not_come_along(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar(member("00/a.mp3", mode=0o6777, uid=1, gid=1)))
    mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {})
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "to/00/a.mp3").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 999, TARS[NAMES[0]][:100_000], TARS[NAMES[0]][:700]])
def test_what_is_no_whole_tar_is_refused(tmp_path, content):
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(DatasetError, match="get another copy"):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {})
    assert all(TRACKS[path] == found for path, found in music(tmp_path / "to").items())


def header(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
@pytest.mark.parametrize("size", [2**20 + 1, 2**40, 2**62])
def test_a_header_that_claims_more_than_memory_is_refused(tmp_path, kind, size):
    (tmp_path / "x.tar").write_bytes(header(kind, size) + bytes(1_024))
    with pytest.raises(DatasetError, match=r"a header of [\d,]+ bytes came, at most 1,048,576 are believed"):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {})


@pytest.mark.parametrize(("kind", "words"), [(b"x", b"12 path=abc\n"), (b"L", b"abc\0")])
def test_a_chain_of_headers_is_refused(tmp_path, kind, words):
    (tmp_path / "x.tar").write_bytes((header(kind, len(words)) + words.ljust(512, b"\0")) * 3_000)
    with pytest.raises(DatasetError, match="is no whole tar"):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", {})


SMALL = tar(member("00", b"", type=tarfile.DIRTYPE), member("00/a.mp3", b"a" * 600), member("00/" + "b" * 120, b"b"))


@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_tar_writes_nothing_outside_and_nothing_wrong(tmp_path, damage):
    spoilt = bytearray(SMALL)
    for place, value in damage:
        spoilt[place] = value
    (tmp_path / "x.tar").write_bytes(spoilt)
    known = {"00/a.mp3": sha256(b"a" * 600), "00/" + "b" * 120: sha256(b"b")}
    with suppress(DatasetError):
        mtg_jamendo_download.unpack(tmp_path / "x.tar", tmp_path / "to", known)
    assert {path.name for path in tmp_path.iterdir()} <= {"x.tar", "to"}
    assert all(sha256(found) == known[path] for path, found in music(tmp_path / "to").items())


def test_memories_are_plain(tmp_path, clone, server):
    fetch(tmp_path / "to", clone, server, parts=1)
    kept = json.loads((tmp_path / "to" / "tars" / f"{NAMES[0]}.json").read_text())
    assert kept == {
        "sha256": sha256(TARS[NAMES[0]]),
        "files": {path: len(content) for path, content in TRACKS.items() if path.startswith("00/")},
    }
