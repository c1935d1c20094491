"""Writing of file tags is atomic: killed processes, full disks, permissions, links; undo is exact."""

import hashlib
import os
import random
import shutil
import signal
import stat
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

import audio_files
from disks import files_up_to
from moodfield.errors import FileTagsError
from moodfield.file_tags import delta, formats, journal, writing
from moodfield.file_tags.fields import MOOD, THEME
from moodfield.file_tags.plan import Change, Mode, Wanted, WriteConfig
from moodfield.file_tags.tag_file import TagFile
from moodfield.file_tags.writing import Job

VALUES = {MOOD: Wanted(("calm", "dark")), THEME: Wanted(("film",))}
OVERWRITE = WriteConfig(mode=Mode.OVERWRITE)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """A file with tags and a cover."""
    return audio_files.make(tmp_path / "song", "mp3-2.4", "both")


def write(path: Path, values=VALUES, run: int = 1) -> writing.Written:
    return writing.write_file(path, values, Job(OVERWRITE, path.parent / "journal.db", run))


def undo_all(folder: Path) -> int:
    """Undo the last command in a folder; the number of files."""
    with journal.connect(folder / "journal.db") as connection:
        run = journal.last_run(connection, [folder])
        for number in run.numbers if run else ():
            writing.undo_file(journal.read(connection, number))
            journal.remove(connection, number)
    return len(run.numbers) if run else 0


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_processes_leave_old_or_new_files(tmp_path, kills):
    names = ("mp3-2.4", "flac", "ogg", "m4a-aac", "wav", "wma")
    originals = [audio_files.make(tmp_path / name, name, "both") for name in names]
    old = {path.name: path.read_bytes() for path in originals}
    folder = tmp_path / "music"
    folder.mkdir()

    def restore() -> list[Path]:
        shutil.rmtree(folder)
        folder.mkdir()
        journal._shared.cache_clear()
        return [Path(shutil.copy(path, folder)) for path in originals]

    files = restore()
    start = time.monotonic()
    for path in files:
        write(path)
    seconds = time.monotonic() - start
    new = {path.name: path.read_bytes() for path in files}
    drawn, states, leftovers = random.Random(1), [], 0
    for _ in range(kills):
        files = restore()
        child = os.fork()
        if child == 0:  # no cover: killed
            for path in files:
                write(path)
            os._exit(0)
        time.sleep(drawn.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for path in files:
            content = path.read_bytes()
            assert content in (old[path.name], new[path.name]), path
            states.append(content == new[path.name])
        leftovers += len([*folder.glob("*.part")])
        for partial in folder.glob("*.part"):
            os.utime(partial, (1e9, 1e9))
        writing.remove_partial_files(files[0])
        assert sorted(path.name for path in folder.glob("*.*") if ".db" not in path.name) == sorted(old)
        undo_all(folder)
        assert {path.name: path.read_bytes() for path in files} == old
    assert 0 < sum(states) < len(states)
    assert leftovers or kills < 20, "some were killed while they were writing"


def test_a_full_disk_changes_nothing(song):
    before = song.read_bytes()
    for size in (100, len(before) // 2, len(before) - 1):
        with files_up_to(size), pytest.raises(FileTagsError):
            write(song)
        assert song.read_bytes() == before
        assert [*song.parent.glob("*.part")] == []


def test_without_a_journal_nothing_is_written(song):
    before = song.read_bytes()
    with pytest.raises(FileTagsError, match="journal"):
        writing.write_file(song, VALUES, Job(OVERWRITE, song / "journal.db", 1))
    assert song.read_bytes() == before


def test_mode_times_and_attributes(song):
    song.chmod(0o640)
    os.utime(song, ns=(10**18, 10**18))
    owner = (1234, 2345) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    os.chown(song, *owner)
    try:
        os.setxattr(song, "user.rating", b"5")
    except OSError:
        attributes = []
    else:
        attributes = ["user.rating"]
    write(song)
    status = song.stat()
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert (status.st_uid, status.st_gid) == owner
    assert os.listxattr(song) == attributes
    assert abs(status.st_mtime - time.time()) < 100, "players look for files that have changed"


def test_write_protected_files_stay(song):
    song.chmod(0o444)
    before = song.stat()
    with pytest.raises(FileTagsError, match="write-protected"):
        write(song)
    assert song.stat().st_ino == before.st_ino


def test_write_protected_folders_stay(song):
    folder = Path(tempfile.mkdtemp())
    try:
        path = Path(shutil.copy(song, folder))
        path.chmod(0o666)
        folder.chmod(0o555)
        before = path.read_bytes()
        if os.geteuid() == 0:
            os.seteuid(65_534)  # root may write everywhere, nobody may not
        with pytest.raises(FileTagsError, match="replaced"):
            writing.write_file(path, VALUES, Job(OVERWRITE, Path(tempfile.gettempdir()) / "nobody.db", 1))
        assert path.read_bytes() == before
        assert len([*folder.iterdir()]) == 1
    finally:
        os.seteuid(os.getuid())
        folder.chmod(0o700)
        shutil.rmtree(folder)


def test_files_of_others_stay(song, monkeypatch):
    if os.geteuid() != 0:
        pytest.skip("only root can make a file of another owner")
    before = song.read_bytes()
    os.chown(song, 1234, 2345)

    def chown(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", chown)
    with pytest.raises(FileTagsError, match="not permitted"):
        write(song)
    assert song.read_bytes() == before


def test_links(song):
    hard, symbolic = song.with_name("hard.mp3"), song.with_name("symbolic.mp3")
    os.link(song, hard)
    symbolic.symlink_to(song.name)
    before = song.read_bytes()
    result = write(symbolic)
    assert result.before.st_nlink == 2
    assert symbolic.is_symlink()
    assert hard.read_bytes() == before, "another name of the file keeps the old content"
    assert song.read_bytes() != before
    assert formats.open_file(song).read(MOOD) == ("calm", "dark")
    undo_all(song.parent)
    assert symbolic.is_symlink()
    assert song.read_bytes() == before


def test_a_file_that_changes_meanwhile_stays(song, monkeypatch):
    check = writing.verification.check_same_audio

    def change(before: Path, after: Path) -> None:
        check(before, after)
        with song.open("ab") as file:
            file.write(b"x")

    monkeypatch.setattr(writing.verification, "check_same_audio", change)
    with pytest.raises(FileTagsError, match="meanwhile"):
        write(song)
    assert song.read_bytes().endswith(b"x")


def test_changed_audio_or_tags_are_never_written(song, monkeypatch):
    before = song.read_bytes()
    save = TagFile.save

    def damage(where: int) -> None:
        def save_damaged(tags: TagFile) -> None:
            saved(tags)
            data = bytearray(tags.path.read_bytes())
            place = data.index(b"TALB") + 14 if where == 0 else len(data) - where
            data[place] ^= 1
            tags.path.write_bytes(data)

        saved = formats.ID3Frames.save if where >= 0 else save
        monkeypatch.setattr(formats.ID3Frames, "save", save_damaged)

    for where, message in ((3_000, "audio"), (0, "other tags")):
        damage(where)
        with pytest.raises(FileTagsError, match=message):
            write(song)
        monkeypatch.undo()
        assert song.read_bytes() == before


def test_undo_goes_back_command_by_command(song):
    contents = [song.read_bytes()]
    for run, mood in enumerate(("calm", "dark", "slow"), start=1):
        write(song, {MOOD: Wanted((mood,))}, run)
        contents.append(song.read_bytes())
    for content in reversed(contents[:-1]):
        assert undo_all(song.parent) == 1
        assert song.read_bytes() == content
    assert undo_all(song.parent) == 0


def test_undo_of_a_file_that_was_changed_since(song):
    write(song)
    tags = formats.open_file(song)
    tags.change(MOOD, ["my own"])
    tags.save()
    undo_all(song.parent)
    tags = formats.open_file(song)
    assert (tags.read(MOOD), tags.read(THEME)) == (("my own",), ())
    write(song, {THEME: Wanted(("film",))})
    tags = formats.open_file(song)
    tags.change(THEME, ["my own"])
    tags.save()
    with pytest.raises(FileTagsError, match="changed since"):
        undo_all(song.parent)
    assert formats.open_file(song).read(THEME) == ("my own",)


def test_undo_of_a_write_that_did_not_happen(song):
    digest = hashlib.sha256(song.read_bytes()).digest()
    with journal.connect(song.parent / "journal.db") as connection:
        entry = journal.Entry(song, digest, b"other", b"", (Change("MOOD", (), ("calm",)),))
        journal.next_run(connection)
    journal.add(song.parent / "journal.db", 1, entry)
    before = song.stat()
    assert undo_all(song.parent) == 1
    assert song.stat().st_mtime_ns == before.st_mtime_ns


def test_paths_of_any_bytes(tmp_path):
    song = audio_files.make(tmp_path / "x", "flac", "none")
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe \n[MOOD].flac"))
    song.rename(path)
    before = path.read_bytes()
    write(path)
    assert undo_all(tmp_path) == 1
    assert path.read_bytes() == before


def test_other_databases_are_no_journal(tmp_path):
    import sqlite3

    path = tmp_path / "x.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
    before = path.read_bytes()
    with pytest.raises(FileTagsError, match="another program"), journal.connect(path):
        pass
    assert path.read_bytes() == before


def parts(*lengths: int, seed: int = 0) -> list[bytes]:
    """Random bytes of these lengths."""
    drawn = np.random.default_rng(seed)
    return [drawn.bytes(length) for length in lengths]


A, B, C, D = parts(100_000, 3_000, 50, 70_000)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (A, A),
        (b"", A),
        (A, b""),
        (A + D, C + A + D),
        (C + A + D, A + D),
        (A + B + D, A + D),
        (A[:7] + b"1234" + A[11:], A[:7] + b"5678" + A[11:] + C),
        (b"".join(b"OggS" + bytes([n]) + A[1000 * n : 1000 * n + 1000] for n in range(90)),
         b"".join(b"OggS" + bytes([n + 1]) + A[1000 * n : 1000 * n + 1000] for n in range(90))),
        (A + D, D + A),
        (bytes(50_000), bytes(60_000)),
        (bytes(50_000) + A, C + bytes(900) + A),
        (C, B),
    ],
)  # fmt: skip
def test_deltas_restore_the_old_content(tmp_path, old, new):
    paths = [tmp_path / name for name in ("old", "new", "restored")]
    for path, content in zip(paths, (old, new), strict=False):
        path.write_bytes(content)
    values = delta.diff(paths[0], paths[1])
    delta.apply(paths[1], values, paths[2])
    assert paths[2].read_bytes() == old
    if {old, new} not in ({b"", A}, {A + D, D + A}):
        assert len(values) < 6_000


def test_damaged_deltas_are_an_error(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(A)
    with pytest.raises(FileTagsError, match="damaged"):
        delta.apply(path, b"no delta", tmp_path / "y")
