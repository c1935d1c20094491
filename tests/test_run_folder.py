"""Run folders: other folders are not changed, one process has the lock, damaged files raise."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import test_loop
from moodfield import card
from moodfield.errors import LockedError, MoodfieldError, OutputError, RunError
from moodfield.training import checkpoints, export, log, model_folder, run_folder
from moodfield.training.log import LOG
from test_loop import SHORT, train

TESTS = Path(__file__).parent
PART = "recording.0123456789abcdef.part"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short finished run, read-only."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    train(SHORT, run)
    return run


@pytest.fixture
def run(tmp_path: Path, finished_run: Path) -> Path:
    """A copy of the run that a test may damage."""
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


def contents(folder: Path) -> dict[str, tuple[bytes | None, int]]:
    """Every path below a folder, with bytes and time."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes() if path.is_file() else None, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


# ---------------------------------------------------------------- folders with other files


@pytest.mark.parametrize("names", [[PART], ["ubuntu.iso.part"], ["best/card.json"], ["swa-1.safetensors", "a.txt"]])
def test_a_folder_with_other_files_raises_and_is_not_changed(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=re.escape(names[0].partition("/")[0]) + "|" + names[-1]):
        train(SHORT, tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("content", [b"", b'{"ingredients": ["flour"]}', b"[]", b"[[" * 99_999, b"\xff", b"a\0b"])
def test_a_folder_with_another_recipe_json_raises_and_is_not_changed(tmp_path, content):
    (tmp_path / run_folder.RECIPE).write_bytes(content)
    (tmp_path / PART).write_text("mine")
    before = {name: value for name, (value, _) in contents(tmp_path).items()}
    with pytest.raises(MoodfieldError, match=r"recipe\.json"):
        train(SHORT, tmp_path)
    assert {name: value for name, (value, _) in contents(tmp_path).items()} == before


def test_a_folder_with_only_temporary_files_is_used(tmp_path, finished_run):
    (tmp_path / f"{run_folder.RECIPE}.0123456789abcdef.part").write_text("{")
    (tmp_path / run_folder.LOCK).write_text('{"pid": 7, "host": "localhost", "command": "train"}')
    (tmp_path / ".DS_Store").write_text("mac")
    train(SHORT, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in finished_run.iterdir()} | {".DS_Store"}


def test_a_cache_inside_the_run_folder_is_accepted(tmp_path):
    (tmp_path / "cache" / "store").mkdir(parents=True)
    run_folder.check_unused(tmp_path, run_folder.RECIPE, kind="a run", cache=tmp_path / "cache" / "store")
    with pytest.raises(OutputError, match="cache"):
        run_folder.check_unused(tmp_path, run_folder.RECIPE, kind="a run", cache=tmp_path.parent / "store")


def test_only_own_partial_files_are_removed_from_a_run(run, finished_run):
    for name in (PART, "ubuntu.iso.part", "notes.txt", "swa-final.safetensors", "resume-old.safetensors",
                 "swa-99.safetensors", "resume-99.safetensors"):  # fmt: skip
        (run / name).write_text("mine")
    (run / "swa-1.safetensors").unlink(missing_ok=True)
    (run / "swa-1.safetensors").mkdir()
    train(SHORT, run)
    left = {path.name for path in run.iterdir()} - {path.name for path in finished_run.iterdir()}
    assert left == {"ubuntu.iso.part", "notes.txt", "swa-final.safetensors", "resume-old.safetensors",
                    "swa-99.safetensors", "resume-99.safetensors", "swa-1.safetensors"}  # fmt: skip


def test_exporting_to_a_folder_with_other_files_raises(tmp_path, cp_model):
    (tmp_path / "README.md").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=r"README\.md"):
        export.export(cp_model.net, cp_model.card, tmp_path)
    assert contents(tmp_path) == before
    (tmp_path / "a file").write_text("mine")
    with pytest.raises(OutputError, match="a file"):
        export.export(cp_model.net, cp_model.card, tmp_path / "a file")


def test_a_model_folder_with_other_files_is_not_replaced(tmp_path, cp_model):
    folder = shutil.copytree(cp_model.folder, tmp_path / "best")
    model_folder.check_folder(folder)
    model_folder.check_folder(tmp_path / "none")
    (folder / f"{card.CARD}.0123456789abcdef.part").write_text("ours")
    model_folder.check_folder(folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt"):
        model_folder.check_folder(folder)


# ---------------------------------------------------------------- one process

LOCK_PROGRAM = """
import sys, time
from moodfield.training import run_folder
with run_folder.lock(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that works in the folder `run`."""
    child = subprocess.Popen(
        [sys.executable, "-c", LOCK_PROGRAM, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "locked\n"
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def test_a_locked_run_raises_with_the_pid_of_the_owner(tmp_path, holder):
    with pytest.raises(LockedError, match=rf"process {holder.pid} "):
        train(SHORT, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [run_folder.LOCK]


def test_the_lock_of_a_killed_process_is_free(tmp_path, holder, finished_run):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / run_folder.LOCK).exists()
    train(SHORT, tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {path.name for path in finished_run.iterdir()}


def test_the_lock_is_reentrant_and_released_after_an_error(tmp_path):
    def fail() -> None:
        with run_folder.lock(tmp_path / "run"), run_folder.lock(tmp_path / "run" / "." / ""):
            assert (tmp_path / "run" / run_folder.LOCK).exists()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not (tmp_path / "run" / run_folder.LOCK).exists()
    with run_folder.lock(tmp_path / "run"):
        pass


def test_a_disabled_lock_does_nothing(tmp_path, holder):
    with run_folder.lock(tmp_path / "run", enabled=False):
        pass


# ---------------------------------------------------------------- damaged files

DAMAGES = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[: len(whole) // 2],
    "nested": lambda whole: b"[" * 200_000,
    "nul": lambda whole: whole[:5] + b"\0" + whole[6:],
    "no utf-8": lambda whole: b"\xff\xfe" + whole,
    "a number": lambda whole: b"7\n",
    "null": lambda whole: b"null\n",
    "wrong types": lambda whole: re.sub(rb":\s*[\d.\-e]+", b': {"a": []}', whole) if b":" in whole else b"{}",
    "not a number": lambda whole: re.sub(rb":\s*[\d.\-e]+", b": NaN", whole) if b":" in whole else b"[NaN]",
    "huge numbers": lambda whole: re.sub(rb":\s*[\d.\-e]+", b": 1e999", whole) if b":" in whole else b"9" * 9_999,
}
"""functions from the bytes of a file to those of a damaged one"""


@pytest.mark.parametrize("name", [run_folder.RECIPE, run_folder.VOCABULARY, run_folder.DATASET, checkpoints.RESUME])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_a_run_is_one_line_of_error(run, name, damage):
    (run / name).write_bytes(DAMAGES[damage]((run / name).read_bytes()))
    with pytest.raises(MoodfieldError) as caught:
        train(SHORT, run)
    assert name in str(caught.value) or "another" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2_000


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [run_folder.RECIPE, LOG])
def test_a_damaged_run_is_not_shown(run, name, damage):
    if (name, damage) in {(LOG, "empty"), (LOG, "cut")}:
        pytest.skip("a log may be shorter")
    assert [each.epoch for each in log.read(run).epochs] == [1, 2, 3]
    (run / name).write_bytes(DAMAGES[damage]((run / name).read_bytes()) + b"\n")
    with pytest.raises(MoodfieldError, match=re.escape(name)):
        log.read(run)


def test_a_damaged_log_does_not_stop_a_run(run):
    (run / LOG).write_bytes(b"\xff\xfe\0")
    train(SHORT, run)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "../elsewhere.safetensors"}, {"weights": "best.safetensors"}, {"weights": None}, {"epoch": 0},
        {"epoch": True}, {"epoch": 10**9}, {"epoch": "3"}, {"best": "high"}, {"best": [1]},
    ],
    ids=str,
)  # fmt: skip
def test_a_resume_file_names_weights_of_its_own_run_alone(run, change):
    path = run / checkpoints.RESUME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunError, match=r"resume\.json"):
        train(SHORT, run)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "another network"])
def test_damaged_weights_to_go_on_with_are_one_line_of_error(run, damage):
    weights = run / json.loads((run / checkpoints.RESUME).read_text())["weights"]
    if damage == "missing":
        weights.unlink()
    elif damage == "another network":
        weights.write_bytes((run / checkpoints.BEST).read_bytes())
    else:
        weights.write_bytes(b"" if damage == "empty" else weights.read_bytes()[:-9])
    with pytest.raises(RunError, match=re.escape(weights.name)):
        train(SHORT, run)


def test_the_module_is_for_runs_of_these_tests_too(run):
    """That the copy can be gone on with, so that damage is what the tests above see."""
    train(SHORT, run)
    assert test_loop.read_log(run)
