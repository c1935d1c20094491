"""What holds for every command: whose files are written, how it ends, and what reaches a terminal."""

import json
import multiprocessing
import os
import pty
import re
import shlex
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import models
from commands import invoke, json_lines, start
from models import Exported
from moodfield import audio, errors, tagger
from moodfield.audio import Waveform
from moodfield.cli import application, console, main, progress
from moodfield.datasets.mtg_jamendo import HEADER
from moodfield.errors import AudioError, OutputError
from moodfield.evaluation import prediction, submissions
from moodfield.tags import MOODS_AND_THEMES

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
HOSTILE = "a\x1b[31mRED\x07\x9b2J\u202e"
COMMANDS = {
    (name, *words): function
    for name, command in main.COMMANDS.items()
    for words, function in (
        [((), command)] if callable(command) else [((subname,), function) for subname, function in command.items()]
    )
}
"""words of a command → its function"""


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return models.save(tmp_path / "song.ogg", models.music(3, seed=1))


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Three tracks with their music and tags of the small models."""
    (tmp_path / "music").mkdir()
    rows = []
    for number in range(3):
        models.save(tmp_path / "music" / f"{number}.wav", models.music(2, seed=number))
        rows.append([f"track_{number}", "a", "b", f"{number}.wav", "2", "happy", "sad"][: 6 + number % 2])
    (tmp_path / "index.tsv").write_text("\n".join("\t".join(row) for row in [HEADER, *rows]))
    return tmp_path / "index.tsv"


def damaged(path: Path) -> Path:
    """A file that can be decoded up to its middle."""
    drawn = np.random.default_rng(0)
    whole = models.save(
        path.with_name("whole.flac"), Waveform((0.1 * drawn.standard_normal(400_000)).astype("f4"), 22_050)
    )
    content = bytearray(whole.read_bytes())
    whole.unlink()
    content[len(content) // 2 :] = drawn.bytes(len(content) - len(content) // 2)
    path.write_bytes(content)
    return path


def options() -> Iterator[tuple[tuple[str, ...], str]]:
    """Every command with each of its options that takes a value."""
    for words, function in COMMANDS.items():
        for name, hint in get_type_hints(function, include_extras=True).items():
            for parameter in getattr(hint, "__metadata__", ()):
                if hint.__origin__ is not bool:
                    is_option = isinstance(parameter, typer.models.OptionInfo)
                    named = [each for each in parameter.param_decls or () if each.startswith("--")]
                    yield words, (named[0] if named else f"--{name.replace('_', '-')}") if is_option else ""


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_unreadable_file_is_no_usage_error(words):
    parameters = [
        parameter
        for hint in get_type_hints(COMMANDS[words], include_extras=True).values()
        for parameter in getattr(hint, "__metadata__", ())
    ]
    assert [parameter.readable for parameter in parameters] == [False] * len(parameters)


def test_one_unreadable_file_of_many_is_a_file_that_failed(song, cp_model, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK)
    closed = tmp_path / "closed.ogg"
    closed.write_bytes(b"broken")
    result = invoke("tag", song, closed, "--model", cp_model.folder)
    assert result.code == 3
    assert len(result.err.splitlines()) == 2


@pytest.mark.parametrize(("words", "option"), list(options()), ids=str)
def test_an_empty_value_is_a_usage_error(words, option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given in ([option, ""], [f"{option}="]) if option else ([""],):
        result = invoke(*words, *given)
        assert (result.code, result.out) == (2, "")
        assert "empty" in result.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "line",
    [
        "tag x.ogg --over-time",
        "nets --set rho_freq=1",
        "nets fa_resnet --audio x.ogg",
        "nets --model default --set width=4",
        "nets fa_resnet --plot field.txt",
        "nets fa_resnet --plot none/field.png",
        "recipes --set seed=1",
        "models --verify",
        "runs x --plot curves.txt",
        "data duplicates x.tsv",
        "data duplicates x.tsv --checksums s.txt --write-leaks rows.txt",
        "data download mood -o x",
        "distill m.tsv --teacher t --audio m -o x --predictions p.npy",
        "distill m.tsv --teacher t --audio m -o x --splits s",
        "paper table1 --data . --dry-run",
        "paper table1 --data . -o X",
        "paper table1 --data . --small",
        "evaluate --truth x.npy",
        "evaluate a --predictions b.npy --truth x.npy",
        "evaluate a --truth x.npy --audio music",
        "evaluate a --truth x.npy --thresholds t.txt --decisions d.npy",
        "predict x.tsv --audio none -o x.npy",
        "predict x.tsv --audio . -o x",
        "submission check a --tags t.txt --model default",
        "ensemble a.npy -o x",
        "ensemble a.npy -o x.npy --greedy",
        "ensemble a.npy b.npy -o x.npy --weights 1,2 --greedy",
        "ensemble a.npy b.npy -o x.npy --weights 1",
        "ensemble a.npy b.npy -o x.npy --weights one,two",
        "ensemble a.npy -o x.npy --validation-truth t.npy",
        "ensemble a.npy -o x.npy --validation-predictions v.npy",
        "ensemble a.npy -o x.npy --tags t.txt",
    ],
)
def test_contradicting_and_ignored_options_are_usage_errors(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(*line.split())
    assert (result.code, result.out) == (2, ""), result.err
    assert "moodfield: " in result.err or "Usage: " in result.err
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- whose files are written


@pytest.mark.parametrize("line", ["--report *", "* --report 1.wav", "* --report link", ". --report 1.wav"])
def test_a_report_replaces_no_song(tmp_path, cp_model, monkeypatch, line):
    """Also if the name of the report is forgotten: the first song is then its name."""
    for number in range(3):
        models.save(tmp_path / f"{number}.wav", models.music(2, seed=number))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "link").symlink_to("0.wav")
    monkeypatch.chdir(tmp_path)
    words = [each for word in line.split() for each in (sorted(before) if word == "*" else [word])]
    result = invoke("tag", *words, "--model", cp_model.folder)
    assert (result.code, result.out) == (2, "")
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    "line",
    ["tag song.ogg --report --json", "tag song.ogg --report -x.html", "tag song.ogg --report new.ogg",
     "tag song.ogg --report new.MP3", "submission make index.tsv --audio . -o --tags",
     "ensemble a.npy b.npy -o --x.npy", "predict index.tsv --audio . -o --x.npy"],
)  # fmt: skip
def test_an_output_is_not_called_like_an_option_or_music(song, monkeypatch, line):
    monkeypatch.chdir(song.parent)
    monkeypatch.setattr(tagger, "load", lambda *_, **__: pytest.fail("it began"))
    result = invoke(*line.split())
    assert (result.code, result.out) == (2, "")
    assert line.split()[-1] in result.err
    assert len(result.err.splitlines()) == 1
    assert list(song.parent.iterdir()) == [song]


def test_a_report_goes_through_links_and_keeps_modes(song, cp_model, tmp_path):
    (tmp_path / "old.html").touch(mode=0o600)
    (tmp_path / "link.html").symlink_to("old.html")
    assert invoke("tag", song, "--model", cp_model.folder, "--report", tmp_path / "link.html").code == 0
    assert (tmp_path / "link.html").is_symlink()
    assert stat.S_IMODE((tmp_path / "old.html").stat().st_mode) == 0o600
    assert (tmp_path / "old.html").read_text().startswith("<!DOCTYPE html>")


def test_a_report_may_go_to_a_pipe(song, cp_model, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    assert invoke("tag", song, "--model", cp_model.folder, "--report", tmp_path / "pipe").code == 0
    reader.join(20)
    assert received[0].endswith(b"</html>\n")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("where", ["file", "pipe"])
def test_a_report_may_go_to_standard_output(song, cp_model, tmp_path, where):
    words = ("tag", song, "--model", cp_model.folder, "--report", "/dev/stdout")
    if where == "file":
        with (tmp_path / "out").open("wb") as out:
            done = start(*words, stdout=out)
            done.communicate(timeout=60)
        err = (tmp_path / "out").read_text()
    else:
        done = start(*words)
        err, _ = done.communicate(timeout=60)
    assert done.returncode == 0
    assert err.startswith("track ")
    assert "song.ogg" in err.partition("<!DOCTYPE html>")[0]
    assert err.endswith("</html>\n")


@pytest.fixture
def systems(tmp_path: Path) -> Path:
    """Two submissions, and two arrays of predictions, with truth."""
    drawn = np.random.default_rng(0)
    truth = drawn.random((60, 5)) < 0.4
    np.save(tmp_path / "truth.npy", truth)
    for name in "ab":
        predictions = 0.5 * drawn.random(truth.shape) + 0.3 * truth
        np.save(tmp_path / f"{name}.npy", predictions)
        made = submissions.make(predictions, np.full(5, 0.4), models.VOCABULARY)
        submissions.write(made, tmp_path / name, vocabulary=models.VOCABULARY)
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        "a b -o a/predictions.npy",
        "a b -o ./a/decisions.npy",
        "a.npy b.npy -o b.npy",
        "a.npy b.npy -o link.npy",
        "a.npy b -o music.npy",
        "a.npy b.npy -o none/x.npy",
        "a b -o a VALIDATION",
        "a.npy b -o b VALIDATION",
        "a.npy b.npy -o truth.npy VALIDATION",
        "a.npy b.npy -o linked VALIDATION",
        "a.npy b.npy -o shopping VALIDATION",
        "a.npy b.npy -o notes VALIDATION",
    ],
)
def test_an_ensemble_replaces_neither_its_inputs_nor_what_is_not_ours(systems, monkeypatch, line):
    (systems / "link.npy").symlink_to("a.npy")
    (systems / "linked").symlink_to("a")
    (systems / "music.npy").write_text("music")
    (systems / "notes").write_text("notes")
    (systems / "shopping").mkdir()
    (systems / "shopping" / "thresholds.txt").write_text("milk")
    monkeypatch.chdir(systems)
    before = {path: path.read_bytes() for path in systems.rglob("*") if path.is_file()}
    validation = "--validation-truth truth.npy --validation-predictions a --validation-predictions b.npy"
    result = invoke("ensemble", *line.replace("VALIDATION", validation).split())
    assert (result.code, result.out) == (2, ""), result.err
    assert {path: path.read_bytes() for path in systems.rglob("*") if path.is_file()} == before


def test_an_ensemble_may_be_made_again(systems, monkeypatch):
    monkeypatch.chdir(systems)
    validation = "--validation-truth truth.npy --validation-predictions a --validation-predictions b.npy".split()
    for _ in range(2):
        assert invoke("ensemble", "a", "b.npy", "-o", "x.npy").code == 0
        assert invoke("ensemble", "a", "b.npy", "-o", "both", *validation).code == 0


def submit(index: Path, model: Exported, *more: str | Path, output: str = "mine") -> list[str | Path]:
    """A command line that makes a submission."""
    given = ("--audio", index.parent / "music", "-o", index.parent / output, "--jobs", "1")
    return ["submission", "make", index, "--model", model.folder, *given, *more]


def predict(index: Path, model: Exported, output: str) -> list[str | Path]:
    """A command line that predicts an index."""
    return ["predict", *submit(index, model, output=output)[2:]]


def test_a_submission_replaces_no_other_folder_or_file(index, cp_model, monkeypatch):
    folder = index.parent
    (folder / "theirs").mkdir()
    (folder / "theirs" / "predictions.npy").write_text("theirs")
    (folder / "notes").write_text("notes")
    (folder / "kept.scores.jsonl").write_text("a line of theirs")
    (folder / "locked.scores.jsonl.lock").write_text("a line of theirs")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    monkeypatch.setattr(tagger, "load", lambda *_, **__: pytest.fail("it began"))
    for to in ("theirs", "notes", "kept", "locked", "music", "index.tsv"):
        result = invoke(*submit(index, cp_model, output=to))
        assert (result.code, result.out) == (2, ""), to
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("content", ["no newline", "a line\n", '{"model": "other"}\n', "\n"])
def test_another_file_is_not_overwritten_by_cached_scores(index, cp_model, tmp_path, content):
    (tmp_path / "x.npy.scores.jsonl").write_text(content)
    assert invoke(*predict(index, cp_model, "x.npy")).code == (1 if "model" in content else 2)
    assert (tmp_path / "x.npy.scores.jsonl").read_text() == content


def test_a_file_without_a_newline_is_not_taken_for_scores_that_were_cut(tmp_path):
    (tmp_path / "notes").write_text("one line")
    with pytest.raises(Exception, match="notes"):
        prediction.predict_index([], lambda _: [], tags=("a",), vocabulary=("a",), cache=tmp_path / "notes", model="m")
    assert (tmp_path / "notes").read_text() == "one line"


def test_the_current_folder_can_become_a_submission(index, cp_model, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert invoke(*submit(index, cp_model)[:-4], "-o", ".", "--jobs", "1").code == 0
    assert len(list((tmp_path / "here").iterdir())) == 3
    assert not (tmp_path / "here.scores.jsonl").exists()


def test_a_picture_replaces_neither_music_nor_runs(song, tmp_path):
    picture = song.rename(tmp_path / "song.png")
    before = picture.read_bytes()
    assert invoke("nets", "fa_resnet", "--set", "width=2", "--plot", picture, "--audio", picture).code == 2
    assert invoke("nets", "fa_resnet", "--set", "width=2", "--plot", picture).code == 2
    assert invoke("runs", tmp_path, "--plot", picture).code == 2
    assert picture.read_bytes() == before


# ---------------------------------------------------------------- one at a time

HOLD = """
import sys, time
from pathlib import Path
from moodfield import files
with files.lock(Path(sys.argv[1]), what="it"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_makes_a_submission_at_a_time(index, cp_model, tmp_path):
    kept = tmp_path / "mine.scores.jsonl"
    other = subprocess.Popen([sys.executable, "-c", HOLD, f"{kept}.lock"], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        results = [invoke(*submit(index, cp_model)), invoke(*submit(index, cp_model, "--on-error", "mean"))]
    finally:
        other.kill()
        other.communicate()
    for result in results:
        assert (result.code, result.out) == (1, "")
        assert f"process {other.pid} " in result.err
    assert not (tmp_path / "mine").exists()
    assert invoke(*submit(index, cp_model)).code == 0  # a killed process holds nobody up
    assert not list(tmp_path.glob("mine.*"))


# ---------------------------------------------------------------- how a command ends


@pytest.fixture(scope="module")
def long_track(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarter of an hour of music; not to be changed."""
    return models.save(tmp_path_factory.mktemp("long") / "track.wav", models.music(900))


@pytest.fixture
def many(long_track: Path, tmp_path: Path) -> Path:
    """A short track, then long ones."""
    (tmp_path / "many").mkdir()
    models.save(tmp_path / "many" / "0.wav", models.music(2))
    for number in range(1, 30):
        (tmp_path / "many" / f"{number}.wav").symlink_to(long_track)
    return tmp_path / "many"


@pytest.fixture
def begun() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts commands in groups of their own; whatever is left of them is ended."""
    programs: list[subprocess.Popen[str]] = []

    def begin(*words: str | Path, **how: object) -> "subprocess.Popen[str]":
        programs.append(start(*words, start_new_session=True, **how))
        return programs[-1]

    yield begin
    for program in programs:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.communicate()


def ended(group: int, *, within: float) -> bool:
    """Whether no process of a group runs after some seconds at most; dead ones may wait to be reaped."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        running = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, _, number = path.read_text().rpartition(")")[2].split()[:3]
                running += [path] if int(number) == group and state not in "ZX" else []
        if not running:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_a_command_at_once_and_its_report_is_written(many, cp_model, begun, tmp_path, jobs, number):
    page = tmp_path / "page.html"
    program = begun("tag", many, "--json", "--model", cp_model.folder, "--jobs", jobs, "--report", page)
    assert program.stdout
    assert program.stdout.readline()
    time.sleep(0.5)
    if number == signal.SIGTERM:
        program.send_signal(number)
    else:
        os.killpg(program.pid, number)  # as a terminal does
    _, err = program.communicate(timeout=15)  # all tracks take minutes
    assert program.returncode == 128 + number
    assert ended(program.pid, within=1)
    assert [line.partition(" ")[0] for line in err.splitlines()] == ["moodfield:", "moodfield:"]
    assert "<bdi>0</bdi>" in page.read_text(encoding="utf-8")
    assert f"wrote {page}: 1 of 30 files" in err
    assert "stopped: 29 files were not tagged" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_report_says_that_a_closed_pipe_stopped_it(many, cp_model, begun, tmp_path, form):
    for number in range(1, 30):
        (many / f"{number}.wav").unlink()
        models.save(many / f"{number}.wav", models.music(2))
    page = tmp_path / "page.html"
    program = begun("tag", many, "--model", cp_model.folder, "--jobs", "1", "--report", page, *form)
    assert program.stdout
    assert program.stdout.readline()
    program.stdout.close()
    assert program.stderr
    err = program.stderr.read()
    assert re.search(r"page\.html: \d+ of 30 files, since it was stopped\n", err)
    assert "Traceback" not in err
    assert re.search(r"stopped: \d+ files were not tagged", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("fault", [KeyboardInterrupt, BrokenPipeError, OutputError, ZeroDivisionError])
def test_worker_processes_end_wherever_a_command_is_stopped(index, tmp_path, monkeypatch, fault):
    """Also while it is busy with a result, and not with the generator that has the processes."""

    def fail(_: object) -> None:
        raise fault

    monkeypatch.setattr(console, "result_json", fail)
    (tmp_path / "none").mkdir()
    words = ["data", "validate", str(index), "--audio", str(tmp_path / "none"), "--json", "--jobs", "2"]
    result = CliRunner().invoke(main.app, words)
    assert result.exc_info, "it holds every frame up to the fault"
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_stopped_submission_continues(index, long_track, cp_model, begun, number):
    (index.parent / "music" / "1.wav").unlink()
    (index.parent / "music" / "1.wav").symlink_to(long_track)
    program = begun(*submit(index, cp_model))
    kept = index.parent / "mine.scores.jsonl"
    until = time.monotonic() + 30
    while not kept.exists() or len(kept.read_text().splitlines()) < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    program.send_signal(number)
    program.communicate(timeout=30)
    assert program.returncode == 128 + number
    assert len(kept.read_text().splitlines()) == 2
    (index.parent / "music" / "1.wav").unlink()
    models.save(index.parent / "music" / "1.wav", models.music(2))
    assert invoke(*submit(index, cp_model)).code == 0


def test_a_closed_terminal_leaves_the_report(many, cp_model, tmp_path):
    terminal, end = pty.openpty()
    page = tmp_path / "page.html"
    words = ("-m", "moodfield", "tag", many, "--model", cp_model.folder, "--jobs", "2", "--report", page)
    leader = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    program = subprocess.Popen(
        [sys.executable, "-c", leader, sys.executable, *map(str, words)],
        stdin=end, stdout=end, stderr=end, start_new_session=True,
    )  # fmt: skip
    os.close(end)
    seen = b""
    while b"0:02" not in seen:
        seen += os.read(terminal, 10_000)
    time.sleep(0.3)
    os.close(terminal)
    assert program.wait(timeout=10) == 129
    assert ended(program.pid, within=1)
    assert "<bdi>0</bdi>" in page.read_text(encoding="utf-8")


def test_signals_that_were_ignored_stay_so(song, cp_model):
    """As below nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert invoke("tag", song, "--model", cp_model.folder).code == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    assert invoke("tag", song, "--model", cp_model.folder).code == 0
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)) == handlers


@pytest.mark.parametrize(
    ("error", "tokens"),
    [
        (ModuleNotFoundError("no", name="torch.nn"), ["torch", "moodfield[train]"]),
        (ModuleNotFoundError("no", name="httpx"), ["httpx", "moodfield[data]"]),
        (ModuleNotFoundError("no", name="av"), ["av", "moodfield[codecs]"]),
        (ModuleNotFoundError("no", name="ray"), ["ray", "moodfield[cluster]"]),
        (ModuleNotFoundError("no", name="tensorboard"), ["tensorboard", "moodfield[watch]"]),
        (ModuleNotFoundError("no", name="colorama.ansi"), ["colorama.ansi", "incomplete"]),
        (PermissionError(13, "Permission denied", "x.tsv"), ["x.tsv: Permission denied"]),
        (OSError(28, "No space left on device"), ["moodfield: No space left on device"]),
        (MemoryError("bad_alloc"), ["memory", "bad_alloc"]),
        (MemoryError(), ["memory"]),
    ],
    ids=lambda value: getattr(value, "name", None) or type(value).__name__,
)
def test_other_exceptions_become_one_message(tmp_path, monkeypatch, error, tokens):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(audio, "find", fail)
    result = invoke("tag", tmp_path)
    assert (result.code, result.out) == (1, "")
    assert [token in result.err for token in tokens] == [True] * len(tokens)
    assert len(result.err.splitlines()) == 1
    assert ("pip install" in result.err) == any("moodfield[" in token for token in tokens)


def test_extras_are_those_of_the_package():
    import tomllib

    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    for package, extra in application.EXTRAS.items():
        listed = [re.split(r"[\[>=]", each)[0].replace("-", "_") for each in project["optional-dependencies"][extra]]
        assert {"sklearn": "scikit_learn"}.get(package, package) in listed


def test_an_output_error_is_a_usage_error(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OutputError("x exists")

    monkeypatch.setattr(audio, "find", fail)
    assert invoke("tag", tmp_path).code == 2


# ---------------------------------------------------------------- encodings

ENCODINGS = ("ascii", "ascii:strict", "iso8859-15", "cp1252")


RUN_COMMANDS = """
import json, sys
from moodfield.cli import main
for words in json.loads(sys.argv.pop()):
    sys.argv = ["moodfield", *words]
    sys.stdout.reconfigure(errors="strict")
    try:
        main.main()
    except SystemExit as end:
        print(f"\\x1e{end.code or 0}\\x1d", end="", flush=True)
        print("\\x1d", end="", file=sys.stderr, flush=True)
"""


def encoded(encoding: str, *commands: tuple[str | Path, ...]) -> list[tuple[int, str, str]]:
    """Commands whose terminal has another encoding: exit codes, and what they wrote in that encoding.

    They run in one process, each with the error handler that a new process has.
    """
    words = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", RUN_COMMANDS, words], capture_output=True, check=False,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )  # fmt: skip
    out, err = (stream.decode(encoding.partition(":")[0]) for stream in (done.stdout, done.stderr))
    assert "Traceback" not in err, err
    *outs, rest = out.split("\x1d")
    assert (len(outs), rest, done.returncode) == (len(commands), "", 0)
    results = (written.partition("\x1e") for written in outs)
    return [(int(code), text, error) for (text, _, code), error in zip(results, err.split("\x1d"), strict=False)]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_cannot_be_encoded_is_replaced(tmp_path, cp_model, encoding):
    folder = models.varied(
        cp_model, tmp_path / "model", vocabulary=("šťastná", "哀愁", "sad", "→", "slow"), themes=("sad",),
        thresholds=(-1.0,) * 5,
    )  # fmt: skip
    song = models.save(tmp_path / "音楽 ü.wav", models.music(2))
    (code, out, err), (_, line, _), missing, unknown = encoded(
        encoding,
        ("tag", song, tmp_path / "žádná.wav", "--model", folder),
        ("tag", song, "--model", folder, "--json"),
        ("tag", tmp_path / "音楽.wav", "--report", tmp_path / "音"),
        ("tag", "--音", "x"),
    )
    assert (code, "?? " in out, "does not exist" in err) == (3, True, True)
    assert json.loads(line)["source"] == str(song)
    assert list(json.loads(line)["scores"])[:2] == ["šťastná", "哀愁"]
    assert (missing[0], unknown[0]) == (3, 2)


@pytest.mark.parametrize("encoding", ENCODINGS[1:])
@pytest.mark.parametrize(
    "lines",
    [
        ("models", "models default", "recipes fa_resnet", "train --help", "tag --help", "--help", "runs --help"),
        pytest.param(("nets",), marks=pytest.mark.slow),
    ],
    ids=["pages", "nets"],
)
def test_every_page_can_be_shown_in_any_encoding(encoding, lines):
    for code, out, err in encoded(encoding, *(tuple(line.split()) for line in lines)):
        assert code in (0, 2)
        assert len(out + err) > 100


@pytest.mark.parametrize("encoding", ENCODINGS[1:])
def test_documents_lose_nothing_in_any_encoding(encoding, cp_model, tmp_path):
    folder = models.varied(cp_model, tmp_path / "model", summary="哀愁\x9b31m")
    (code, card, _), (_, recipe, _) = encoded(
        encoding, ("models", folder, "--json"), ("recipes", "fa_resnet", "--json")
    )
    assert (code, json.loads(card)["card"]["summary"]) == (0, "哀愁\x9b31m")
    assert json.loads(recipe) == json.loads(invoke("recipes", "fa_resnet", "--json").out)


@pytest.mark.parametrize("encoding", ENCODINGS[1:])
def test_numbers_can_be_shown_in_any_encoding(encoding, systems):
    (systems / "tags.txt").write_text("šťastná\n哀愁\nsad\n→\nslow\n")
    words = ("evaluate", systems / "a.npy", "--truth", systems / "truth.npy", "--tags", systems / "tags.txt")
    (code, table, _), (_, values, _) = encoded(
        encoding, (*words, "--per-tag", "--intervals", "20"), (*words, "--intervals", "0", "--json")
    )
    assert (code, "PR-AUC" in table) == (0, True)
    assert list(json.loads(values)["tags"]) == ["šťastná", "哀愁", "sad", "→", "slow"]


# ---------------------------------------------------------------- what reaches a terminal


def test_text_is_made_printable():
    assert errors.printable("Ærø – 音楽 👩‍🎤 a\u00a0b\u3000c") == "Ærø – 音楽 👩‍🎤 a\u00a0b\u3000c"
    assert errors.printable(HOSTILE + "\n\udce9\u2028") == "a�[31mRED��2J����"


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_log_records_become_one_line_without_control_characters(tmp_path, cp_model, jobs, form):
    path = damaged(tmp_path / f"{HOSTILE}.flac")
    program = start("tag", path, path, "--model", cp_model.folder, "--jobs", jobs, *form)
    out, err = program.communicate(timeout=60)
    assert program.returncode == 0
    warned = [line for line in err.splitlines() if "damaged" in line or "cut off" in line]
    assert len(warned) == 1
    assert warned[0].startswith("moodfield: ")
    assert "RED" in warned[0]
    assert not CONTROL.search(err)
    assert not CONTROL.search(out)


def test_the_log_is_as_it_was_after_a_command(tmp_path, cp_model, caplog):
    import logging
    import warnings

    before = list(logging.getLogger("moodfield").handlers), warnings.showwarning
    result = invoke("tag", damaged(tmp_path / "a.flac"), "--model", cp_model.folder)
    assert len(result.err.splitlines()) == 1
    assert (logging.getLogger("moodfield").handlers, warnings.showwarning) == before


def test_every_command_replaces_control_characters(tmp_path, index, cp_model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path(f"{HOSTILE}.tsv")
    row = "\t".join(["t\x1b[1m", "a", "b", f"{HOSTILE}.wav", "1", f"mood/theme---{HOSTILE}"])
    path.write_text(f"{HEADER}\n{row}\n")
    (tmp_path / "sums.txt").write_text(f"{'a' * 64} x.wav\n")
    np.save(f"{HOSTILE}.npy", np.full((2, 2), 0.5))
    np.save("truth.npy", np.eye(2) > 0)
    (tmp_path / "other.tsv").write_text(path.read_text())
    (tmp_path / "none").mkdir()
    for words in (
        ("data", "validate", path, "--audio", "none", "--jobs", "1"),
        ("data", "validate", path, "--audio", "none", "--json", "--jobs", "1"),
        ("data", "duplicates", path, "other.tsv", "--audio", "none", "--jobs", "1"),
        ("data", "duplicates", path, "other.tsv", "--checksums", "sums.txt"),
        ("data", "stats", path),
        ("data", "stats", path, "--json"),
        ("runs", HOSTILE),
        ("models", HOSTILE),
        ("recipes", HOSTILE),
        ("nets", HOSTILE),
        ("submission", "check", f"{HOSTILE}.npy"),
        ("submission", "check", f"{HOSTILE}.npy", "--json"),
        ("submission", "check", HOSTILE),
        ("evaluate", HOSTILE, "--truth", "x.npy"),
        ("compare", HOSTILE, f"{HOSTILE}.npy", "--truth", f"{HOSTILE}.tsv"),
        ("evaluate", f"{HOSTILE}.npy", "--truth", f"{HOSTILE}.tsv"),
        ("compare", f"{HOSTILE}.npy", f"{HOSTILE}.npy", "--truth", "truth.npy"),
        ("ensemble", f"{HOSTILE}.npy", f"{HOSTILE}.npy", "-o", f"{HOSTILE}2.npy"),
        ("ensemble", f"{HOSTILE}.npy", "-o", f"{HOSTILE}.npy"),
        ("submission", "make", path, "--model", HOSTILE, "--audio", "music", "-o", HOSTILE),
        ("predict", path, "--model", HOSTILE, "--audio", "music", "-o", f"{HOSTILE}.npy"),
        ("thresholds", "--truth", "truth.npy", "--predictions", f"{HOSTILE}.npy", "-o", f"{HOSTILE}.txt"),
        ("paper", "train", HOSTILE, "--data", HOSTILE),
        (HOSTILE,),
        ("tag", f"--{HOSTILE}"),
        ("compare", "a", "b", HOSTILE, "--truth", "x.npy"),
    ):
        result = invoke(*words)
        assert not CONTROL.search(result.out), words
        assert not CONTROL.search(result.err), words
        assert "RED" in result.out + result.err, words


def test_progress_bars_print_no_control_characters(capsys):
    from moodfield.datasets.mtg_jamendo import Track

    with progress.TrainingProgress(1, 1) as bars:
        bars.track(Track("a", HOSTILE, 1.0, ()), AudioError("missing", f"{HOSTILE} is missing"))
    with progress.DownloadProgress() as tars:
        tars.update(f"x_{HOSTILE}[red].tar", 1, 2)
        tars.remove(f"x_{HOSTILE}[red].tar")
    err = capsys.readouterr().err
    assert "left out: a" in err
    assert not CONTROL.search(err)


def test_only_the_console_prints_by_itself():
    """Elsewhere in the commands, text would not be sanitised."""
    for path in Path(console.__file__).parent.glob("*.py"):
        if path.name != "console.py":
            assert not re.findall(r"(?<![\w.])(?:print|typer\.echo)\(.*", path.read_text(encoding="utf-8"))


# ---------------------------------------------------------------- the command that submit recommends


def recommended(out: str) -> tuple[list[str], int, str]:
    """The command that is recommended, as it is printed, and how it ends."""
    words = shlex.split(out.rpartition("; try: moodfield ")[2])
    result = invoke(*words)
    return words, result.code, result.out + result.err


@pytest.mark.parametrize("tags", ["of the index", "none", "few"])
@pytest.mark.parametrize("tracks", [1, 3])
def test_the_recommended_check_passes(index, cp_model, tracks, tags):
    folder = index.parent / "with blanks & 'quotes'"
    folder.mkdir()
    head, *rows = index.read_text().splitlines()
    kept = {"of the index": rows, "none": ["\t".join(row.split("\t")[:5]) for row in rows], "few": rows}[tags][:tracks]
    (folder / "my index.tsv").write_text("\n".join([head, *kept]))
    (folder / "my tags.txt").write_text("sad\nhappy\n")
    more = ["--tags", folder / "my tags.txt"] if tags == "few" else []
    given = ("--model", cp_model.folder, "--audio", index.parent / "music", "-o", folder / "mine (1)", "--jobs", "1")
    result = invoke("submission", "make", folder / "my index.tsv", *given, *more)
    assert result.code == 0, result.err
    _, code, err = recommended(result.out)
    assert code == 0, err


@pytest.mark.parametrize("tags", [[], ["happy"], ["happy", "dark", "film"]])
def test_the_recommended_check_passes_with_the_bundled_model(index, tags):
    head, *rows = index.read_text().splitlines()
    rows = ["\t".join([*row.split("\t")[:5], *(f"mood/theme---{tag}" for tag in tags)]) for row in rows]
    index.write_text("\n".join([head, *rows]))
    folder = index.parent
    given = (index, "--audio", folder / "music", "-o", folder / "mine", "--jobs", "1")
    result = invoke("submission", "make", *given)
    assert result.code == 0, result.err
    words, code, err = recommended(result.out)
    assert code == 0, err
    assert not any(word.startswith("--model") for word in words)
    assert len(submissions.read(folder / "mine").thresholds) == len(MOODS_AND_THEMES)


def test_unusual_submissions_have_no_faults(tmp_path):
    made = submissions.make(np.full((4, 5), 0.5), np.full(5, 0.9), models.VOCABULARY)
    submissions.write(made, tmp_path / "odd", vocabulary=models.VOCABULARY)
    (tmp_path / "tags.txt").write_text("\n".join(models.VOCABULARY))
    result = invoke("submission", "check", tmp_path / "odd", "--tags", tmp_path / "tags.txt")
    assert (result.code, result.out.count(": unusual: ")) == (0, 2)
    (read,) = json_lines(invoke("submission", "check", tmp_path / "odd", "--tags", tmp_path / "tags.txt", "--json").out)
    assert (read["faults"], len(read["unusual"])) == ([], 2)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
@pytest.mark.parametrize("words", [("--help",), ("tag", "--help"), ("--version",), ("models",)])
def test_a_full_disk_is_one_line(words):
    with Path("/dev/full").open("wb") as full:
        program = start(*words, stdout=full)
        _, err = program.communicate(timeout=60)
    assert program.returncode == 1
    assert err.startswith("moodfield: No space left")
    assert len(err.splitlines()) == 1


def test_tag_shows_a_bar_on_the_terminal_and_a_clean_table(tmp_path, cp_model):
    for number in range(3):
        models.save(tmp_path / f"{number}.wav", models.music(2, seed=number))
    terminal, end = pty.openpty()
    program = start("tag", tmp_path, "--model", cp_model.folder, "--jobs", "1", stderr=end)
    out, _ = program.communicate(timeout=60)
    os.close(end)
    shown = os.read(terminal, 1_000_000)
    os.close(terminal)
    assert program.returncode == 0
    assert b"3/3" in shown
    assert len(out.splitlines()) == 4
    assert not CONTROL.search(out)
