"""Folders of temporary files: removed at their end, or by the next process."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moodfield import files, temporary

NAME = f"{temporary.PREFIX}abcd1234"


@pytest.fixture(autouse=True)
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_removed_with_its_files(parent: Path) -> None:
    with temporary.folder() as folder:
        assert folder.parent == parent
        (folder / "upload").write_bytes(b"x")
    assert not list(parent.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="needs flock")
def test_folders_of_killed_processes_are_removed_and_no_others(
    parent: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    code = "from moodfield import temporary; import os\nwith temporary.folder(): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(parent)}, check=False)
    (left,) = parent.iterdir()
    (left / "upload").write_bytes(b"x")
    kept = [parent / "moodfield-abcd1234", parent / f"{NAME}5", parent / "song.mp3"]
    for path in kept:
        path.mkdir()
    linked = tmp_path_factory.mktemp("linked")
    link = parent / NAME
    link.symlink_to(linked)
    file = parent / f"{temporary.PREFIX}abcd1235"
    file.write_bytes(b"x")
    with temporary.folder() as first, temporary.folder() as second:
        assert set(parent.iterdir()) == {first, second, link, file, *kept}
    assert linked.is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="needs flock")
def test_folders_of_others_are_kept(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (parent / NAME).mkdir()
    monkeypatch.setattr(os, "getuid", lambda: (parent / NAME).stat().st_uid + 1)
    temporary.remove_abandoned(parent)
    assert (parent / NAME).is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="needs flock")
def test_a_folder_that_is_removed_before_it_is_locked_is_replaced(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, removed = files.lock_directory, []

    def lock_after_removal(path: Path, *, wait: bool) -> object:
        if wait and not removed:
            removed.append(path)
            temporary.remove_abandoned(parent)
        return lock(path, wait=wait)

    monkeypatch.setattr(files, "lock_directory", lock_after_removal)
    with temporary.folder() as folder:
        assert folder.is_dir()
        assert folder not in removed
        assert removed


@pytest.mark.skipif(sys.platform == "win32", reason="needs flock")
@pytest.mark.parametrize("number", [errno.EBADF, errno.EINVAL, errno.ENOLCK], ids=errno.errorcode.get)
def test_folders_that_cannot_be_locked_are_made_and_kept(
    parent: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """NFS locks bytes of files that are open for writing: EBADF for every folder."""
    (parent / NAME).mkdir()

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", fail)
    with temporary.folder() as folder:
        temporary.remove_abandoned(parent)
        assert set(parent.iterdir()) == {folder, parent / NAME}
    assert list(parent.iterdir()) == [parent / NAME]


def test_a_folder_that_cannot_be_listed_is_no_error(parent: Path) -> None:
    temporary.remove_abandoned(parent / "none")
