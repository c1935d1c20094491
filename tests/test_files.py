"""A file is there whole or not at all, whatever fails, and whoever writes."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from disks import files_up_to
from moodfield import files
from moodfield.errors import MoodfieldWarning, OutputError


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.json"
    files.write(path, b"first")
    return path


def test_a_file_is_replaced(path):
    files.write(path, b"other")
    assert path.read_bytes() == b"other"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_takes_the_place_of_another(tmp_path, there):
    new, old = tmp_path / "draft", tmp_path / "best"
    new.mkdir()
    (new / "card").write_text("new")
    if there:
        old.mkdir()
        (old / "left").write_text("old")
    assert files.replace_directory(new, old) == old
    assert list(tmp_path.iterdir()) == [old]
    assert [each.name for each in old.iterdir()] == ["card"]


def test_a_folder_stays_if_none_can_take_its_place(tmp_path):
    old = tmp_path / "best"
    old.mkdir()
    with pytest.raises(FileNotFoundError):
        files.replace_directory(tmp_path / "none", old)
    assert list(tmp_path.iterdir()) == [old]


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", ["first rename", "second rename", "removal"])
def test_a_folder_whose_replacement_was_killed_is_there_at_the_next_start(tmp_path, monkeypatch, step):
    new, old = tmp_path / "draft", tmp_path / "best"
    for folder, content in ((new, "new"), (old, "old")):
        folder.mkdir()
        (folder / "card").write_text(content)
    renames = iter(["first rename", "second rename"])
    rename = Path.replace

    def killed(*_: object) -> None:
        raise Killed

    def replace(path: Path, target: Path) -> Path:
        return killed() if next(renames) == step else rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        patch.setattr(files.shutil, "rmtree", killed)
        with pytest.raises(Killed):
            files.replace_directory(new, old)
    assert old.exists() == (step != "second rename"), "what a killed process leaves"
    files.restore_directory(old)
    assert (old / "card").read_text() == ("new" if step == "removal" else "old")
    assert {path.name for path in tmp_path.iterdir()} == ({"best"} if step == "removal" else {"best", "draft"})
    if step != "removal":
        files.replace_directory(new, old)
        assert [(path.name, (path / "card").read_text()) for path in tmp_path.iterdir()] == [("best", "new")]


def test_only_folders_of_a_replacement_are_restored_or_removed(tmp_path):
    names = ("best.before", "best.0123456789abcdef", "other.0123456789abcdef.before", "best.0123456789ABCDEF.before")
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / "best.0123456789abcdef.before").write_text("a file")
    files.restore_directory(tmp_path / "best")
    files.restore_directory(tmp_path / "nowhere" / "best")
    assert {path.name for path in tmp_path.iterdir()} == {*names, "best.0123456789abcdef.before"}


LEAVE_A_PART = """if True:
    import os, pathlib, signal, sys, time
    from moodfield import files
    with files.partial_directory(pathlib.Path(sys.argv[1]), names=("card",)) as folder:
        (folder / "card").write_text("half")
        print(folder, flush=True)
        time.sleep(60)
"""


def start_partial_directory(target: Path) -> "tuple[subprocess.Popen[str], Path]":
    """A process that writes a partial folder, and that folder."""
    program = subprocess.Popen([sys.executable, "-c", LEAVE_A_PART, target], stdout=subprocess.PIPE, text=True)
    return program, Path(program.stdout.readline().strip())


def test_a_partial_folder_becomes_its_target_or_is_removed(tmp_path):
    target = tmp_path / "new" / "model"
    with files.partial_directory(target, names=("card",)) as folder:
        (folder / "card").write_text("whole")
        files.replace_directory(folder, target)
    assert (target / "card").read_text() == "whole"
    with pytest.raises(KeyError), files.partial_directory(target, names=("card",)) as folder:  # noqa: PT012
        (folder / "card").write_text("half")
        raise KeyError
    assert list(target.parent.iterdir()) == [target]


def test_the_partial_folder_of_a_killed_process_is_removed_and_that_of_a_live_one_is_not(tmp_path):
    target = tmp_path / "model"
    program, folder = start_partial_directory(target)
    try:
        with files.partial_directory(target, names=("card",)):
            assert (folder / "card").read_text() == "half", "its process lives"
        with files.partial_directory(tmp_path / "mode", names=("card",)):
            pass
        assert folder.is_dir()
    finally:
        program.kill()
        program.communicate()
    with files.partial_directory(tmp_path / "mode", names=("card",)):
        assert folder.is_dir(), "it is of another target"
    with files.partial_directory(target, names=("card",)) as second:
        assert list(tmp_path.iterdir()) == [second]
    assert not list(tmp_path.iterdir())


def test_only_partial_folders_are_removed(tmp_path):
    for name in ("model.part", "model.0123.part", "model.0123456789ABCDEF.part", "amodel.0123456789abcdef.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "card").touch()
    (tmp_path / "model.0000000000000000.part").mkdir()
    (tmp_path / "model.1111111111111111.part" / "folder").mkdir(parents=True)
    (tmp_path / "model.2222222222222222.part").mkdir()
    (tmp_path / "model.2222222222222222.part" / "notes.txt").write_text("mine")
    (tmp_path / "model.3333333333333333.part").write_text("a file")
    (tmp_path / "model.4444444444444444.part").symlink_to(tmp_path / "model.part")
    before = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    with files.partial_directory(tmp_path / "model", names=("card",)):
        pass
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*")} == before


def test_where_folders_cannot_be_locked_none_is_removed(tmp_path, monkeypatch):
    (tmp_path / "model.0123456789abcdef.part").mkdir()
    (tmp_path / "model.0123456789abcdef.part" / "card").touch()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "no locks")

    monkeypatch.setattr(fcntl, "flock", fail)
    with files.partial_directory(tmp_path / "model", names=("card",)) as folder:
        assert len(list(tmp_path.iterdir())) == 2
        files.replace_directory(folder, tmp_path / "model")
    assert {path.name for path in tmp_path.iterdir()} == {"model", "model.0123456789abcdef.part"}


def test_a_full_disk_leaves_what_was_there(path):
    with files_up_to(100), pytest.raises(OSError, match="File too large"):
        files.write(path, b"second" * 100)
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_whatever_fails_leaves_what_was_there(path, failure):
    with pytest.raises(failure), files.atomic_path(path) as half:  # noqa: PT012 - what is written before it fails matters
        half.write_bytes(b"sec")
        raise failure
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]


def test_it_is_on_the_disk_before_it_takes_its_name(path, monkeypatch):
    synced = []

    def fsync(file: int) -> None:
        synced.append((os.fstat(file).st_ino, path.read_bytes()))

    monkeypatch.setattr(os, "fsync", fsync)
    files.write(path, b"second")
    assert synced == [(path.stat().st_ino, b"first"), (path.parent.stat().st_ino, b"second")]


def test_a_disk_that_fails_at_last_leaves_what_was_there(path, monkeypatch):
    def fail(_file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        files.write(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]


def test_nothing_written_is_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError), files.atomic_path(tmp_path / "a"):
        pass
    assert not list(tmp_path.iterdir())


def test_two_processes_do_not_write_into_each_other(path):
    program = f"import pathlib; from moodfield import files; files.write(pathlib.Path({str(path)!r}), b'theirs')"
    with files.atomic_path(path) as half:
        half.write_bytes(b"ours")
        subprocess.run([sys.executable, "-c", program], check=True)
        assert path.read_bytes() == b"theirs"
        assert half.read_bytes() == b"ours"
    assert path.read_bytes() == b"ours"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.write(tmp_path / "none" / "a", b"first")


def test_halves_that_killed_processes_left_are_swept(path):
    program = f"""if True:
        import os, pathlib, signal
        from moodfield import files
        with files.atomic_path(pathlib.Path({str(path)!r})) as half:
            half.write_bytes(b"sec")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    assert len(list(path.parent.iterdir())) == 2
    files.remove_partial_files(path.parent)
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == b"first"


def test_a_lock_file_of_others_is_left_alone(tmp_path):
    for content in (b"[package]", b"\xff\xfe"):
        (tmp_path / "poetry.lock").write_bytes(content)
        with pytest.raises(OutputError), files.lock(tmp_path / "poetry.lock", what="it"):
            pass
        assert (tmp_path / "poetry.lock").read_bytes() == content
    (tmp_path / "ours.lock").write_text('{"pid": 1, "host": "h", "command": "c"}')  # of a killed process
    with files.lock(tmp_path / "ours.lock", what="it"):
        pass
    assert not (tmp_path / "ours.lock").exists()


def test_an_open_file_is_written_to_and_not_replaced(tmp_path):
    program = "import pathlib; from moodfield import files\nprint('before', flush=True)\n"
    program += "files.check_output('/dev/stdout', kind=files.PNG); files.write(pathlib.Path('/dev/stdout'), b'after')"
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", program], check=True, stdout=out)
    assert (tmp_path / "out").read_text() == "before\nafter"


def test_a_name_that_looks_like_an_option_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("--json", "-x.html"):
        with pytest.raises(OutputError, match=name):
            files.check_output(name, kind=files.HTML)
    files.check_output(tmp_path / "-x.html", kind=files.HTML)


def test_the_checksum_of_a_file_is_the_one_that_is_published(path):
    """FIPS 180-2, appendix B.1."""
    path.write_bytes(b"abc")
    assert files.sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_name_as_long_as_the_file_system_allows_is_written(tmp_path):
    for name in ("x" * 255, "音" * 85):
        files.write(tmp_path / name, b"all of it")
        assert (tmp_path / name).read_bytes() == b"all of it"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("content", "allowed"),
    [
        (b"<svg xmlns='x'/>", True),
        (b"<?xml version='1.0'?>\n<!-- drawn -->\n<svg/>", True),
        (b"<?xml version='1.0'?><notes/>", False),
    ],
)
def test_only_a_picture_is_replaced_by_a_picture(tmp_path, content, allowed):
    (tmp_path / "x.svg").write_bytes(content)
    with nullcontext() if allowed else pytest.raises(OutputError, match="kind"):
        files.check_output(tmp_path / "x.svg", kind=files.SVG)


def test_without_locks_work_goes_on_with_a_warning(tmp_path, monkeypatch):
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(MoodfieldWarning, match="cannot be locked"), files.lock(tmp_path / ".lock", what="the run"):
        pass


def test_a_link_to_an_open_file_is_one(tmp_path):
    (tmp_path / "out").symlink_to("/dev/stdout")
    program = (
        "import sys; from pathlib import Path; from moodfield import files; path = Path(sys.argv[1])\n"
        "print('before', flush=True); files.check_output(path, kind=files.HTML); files.write(path, b'page')"
    )
    with (tmp_path / "log").open("wb") as log:
        subprocess.run([sys.executable, "-c", program, tmp_path / "out"], stdout=log, check=True)
    assert (tmp_path / "log").read_text() == "before\npage"
