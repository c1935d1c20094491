"""The command `tag`, and what holds for the command line as a whole."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import models
import moodfield
from commands import Result, invoke, json_lines, start
from models import VOCABULARY, Exported
from moodfield import tagger
from moodfield.cli import main
from moodfield.errors import AudioError
from moodfield.tagging import Tagging

JSON_KEYS = ("source", "duration", "model", "decided", "moods", "themes", "scores")


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten tracks, two unreadable files and two that are no music, in folders."""
    folder = tmp_path_factory.mktemp("album")
    (folder / "disc 2").mkdir()
    for number in range(1, 6):
        models.save(folder / f"track {number}.wav", models.music(2 + number, seed=number))
        models.save(folder / "disc 2" / f"{number}.flac", models.music(3, seed=10 + number))
    (folder / "broken.mp3").write_bytes(b"no music at all " * 100)
    (folder / "disc 2" / "empty.ogg").touch()
    (folder / "cover.jpg").write_bytes(b"a picture")
    (folder / "notes.txt").write_text("notes")
    return folder


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return models.save(tmp_path / "song.ogg", models.music(5, seed=1))


@pytest.fixture
def model(cp_model: Exported) -> tuple[str, Path]:
    """The option that names the model."""
    return "--model", cp_model.folder


# ---------------------------------------------------------------- tables


def test_a_tagged_file_is_one_row(song, model):
    result = invoke("tag", song, *model)
    assert result.code == 0
    assert result.err == ""
    head, row = result.out.splitlines()
    assert head.split() == ["track", "time", "moods", "·", "themes"]
    tagging = tagger.load(model[1]).tag(song)
    assert row.split()[:2] == ["song.ogg", "0:05"]
    assert all(tag in row for tag in tagging.decided)
    assert not any(tag in row for tag in set(VOCABULARY) - set(tagging.decided))
    assert "\x1b" not in result.out  # no colours where there is no terminal


def test_files_are_tagged_in_order_and_a_failure_is_one_line(album, model):
    result = invoke("tag", album / "track 5.wav", album, *model, "--jobs", "1")
    assert result.code == 3
    rows = result.out.splitlines()[1:]
    wanted = ["track 5.wav", "broken.mp3", *(f"disc 2/{number}.flac" for number in range(1, 6)), "disc 2/empty.ogg",
              "track 1.wav", "track 2.wav", "track 3.wav", "track 4.wav"]  # fmt: skip
    assert [row[:38].strip() for row in rows] == wanted
    assert [row[:38].strip() for row in rows if "failed" in row] == ["broken.mp3", "disc 2/empty.ogg"]
    first, second, count = result.err.splitlines()
    assert first.startswith("moodfield: ")
    assert "broken.mp3" in first
    assert "empty.ogg" in second
    assert "2 of 12" in count


@pytest.mark.parametrize(
    "name",
    [
        "[red]x.wav",
        "x [bold] [link=http:] [@click=x] y.wav",
        "back\\[slash]\\.wav",
        ":heart: x.wav",
        "Ærøskøbing – 音楽.wav",
        "100% {braces}.wav",
    ],
)
@pytest.mark.parametrize("readable", [True, False])
def test_names_are_printed_as_they_are(tmp_path, model, name, readable):
    path = tmp_path / name
    models.save(path, models.music(2)) if readable else path.touch()
    result = invoke("tag", path, *model)
    assert result.code == (0 if readable else 3)
    (row,) = result.out.splitlines()[1:]
    assert row.startswith(f"{name} ")
    assert ("failed" in row) is not readable
    assert (str(path) in result.err) is not readable


@pytest.mark.parametrize("readable", [True, False])
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x1b[31mred\x07.wav", "a�[31mred�.wav"),
        ("two\nlines.wav", "two�lines.wav"),
        ("latin-\udce9.wav", "latin-�.wav"),
        ("\u202egnp.wav", "�gnp.wav"),
    ],
)
def test_control_characters_in_names_are_replaced(tmp_path, model, name, shown, readable):
    path = tmp_path / name
    if readable:
        path.write_bytes(models.save(tmp_path / "plain.wav", models.music(2)).read_bytes())
    else:
        path.touch()
    result = invoke("tag", path, *model)
    assert result.code == (0 if readable else 3)
    (row,) = result.out.splitlines()[1:]
    assert row.startswith(f"{shown} ")
    assert "\x1b" not in result.err
    assert len(result.err.splitlines()) == (0 if result.code == 0 else 2)


def test_columns_stay_in_line(tmp_path, model):
    names = ["a.wav", "音楽音楽.wav", "x" * 100 + ".wav", "[b]bold.wav", "音" * 60 + ".wav"]
    paths = [models.save(tmp_path / name, models.music(2)) for name in names]
    from rich.cells import cell_len

    head, *rows = invoke("tag", *paths, *model, "--jobs", "1").out.splitlines()
    assert {cell_len(row.partition("0:02")[0]) for row in rows} == {cell_len(head.partition("time")[0])}
    assert rows[2].startswith("xxxxxxxxxxxxxxxxxx…xxx")


def test_markup_in_tags_is_printed_as_it_is(cp_model, tmp_path, song):
    vocabulary = ("[red]mood[/red]", "film", "[/dim]", "\x1b[31m", "a:heart:")
    folder = models.varied(cp_model, tmp_path / "odd", vocabulary=vocabulary, themes=("film",), thresholds=(-1.0,) * 5)
    result = invoke("tag", song, "--model", folder)
    assert result.code == 0
    row = result.out.splitlines()[1]
    assert all(tag in row for tag in ("[red]mood[/red]", "[/dim]", "�[31m", "a:heart:", "· film"))


def test_a_track_without_decisions_is_marked(cp_model, tmp_path, song):
    folder = models.varied(cp_model, tmp_path / "shy", thresholds=(float("inf"),) * 5)
    assert invoke("tag", song, "--model", folder).out.splitlines()[1].endswith("0:05  –")


# ---------------------------------------------------------------- JSON lines


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_json_has_one_line_per_file(album, model, jobs):
    result = invoke("tag", album, "--json", *model, "--jobs", jobs)
    assert result.code == 3
    read = json_lines(result.out)
    assert len(read) == 12
    failed = {Path(str(each["source"])).name: each["error"] for each in read if "error" in each}
    assert list(failed) == ["broken.mp3", "empty.ogg"]
    assert failed["empty.ogg"]["reason"] == "empty"
    assert "0 bytes" in failed["empty.ogg"]["message"]
    assert failed["broken.mp3"]["reason"] in ("not-audio", "needs-codecs")
    for each in read:
        if "error" not in each:
            assert {*JSON_KEYS} <= set(each)
            assert list(each["scores"]) == list(VOCABULARY)
            assert "over_time" not in each
        else:
            assert list(each) == ["source", "error"]  # no tags for what was not readable
    assert "2 of 12" in result.err
    assert len(result.err.splitlines()) == 1


def test_json_equals_the_python_result(song, model):
    (read,) = json_lines(invoke("tag", song, "--json", *model).out)
    tagging = tagger.load(model[1]).tag(song)
    assert read["scores"] == pytest.approx(tagging.to_dict()["scores"], abs=1e-5)
    assert read["decided"] == list(tagging.decided)
    assert read["source"] == str(song)


def test_several_models_and_scores_over_time(cp_model, fa_model, song):
    both = ("--model", cp_model.folder, "--model", fa_model.folder)
    (read,) = json_lines(invoke("tag", song, "--json", "--over-time", *both).out)
    assert read["model"] == "cp_resnet+fa_resnet"
    steps = len(read["over_time"]["seconds"])
    assert steps > 10
    assert {tag: len(row) for tag, row in read["over_time"]["scores"].items()} == dict.fromkeys(VOCABULARY, steps)


@pytest.mark.parametrize(
    "name", ["[red]x.wav", "音楽 \x1b[31m.wav", "two\nlines.wav", 'quo"te\\.wav', "latin-\udce9.wav"]
)
def test_json_keeps_any_file_name(tmp_path, model, name):
    path = tmp_path / name
    path.touch()
    (read,) = json_lines(invoke("tag", path, "--json", *model).out)
    assert read["source"] == str(path)


def test_standard_output_of_a_process_is_json_only(album, model):
    """As a process, where libraries could print as well."""
    program = start("tag", album, "--json", *model, "--jobs", "2")
    out, err = program.communicate(timeout=60)
    assert program.returncode == 3
    assert len(json_lines(out)) == 12
    assert "2 of 12" in err.splitlines()[-1]


# ---------------------------------------------------------------- how it ends


def test_a_folder_without_music_is_an_error(tmp_path, model):
    (tmp_path / "notes.txt").write_text("notes")
    result = invoke("tag", tmp_path, *model)
    assert (result.code, result.out) == (1, "")
    assert str(tmp_path) in result.err


def test_a_missing_file_is_a_failed_file(tmp_path, song, model):
    result = invoke("tag", song, tmp_path / "none.ogg", *model)
    assert result.code == 3
    assert "none.ogg does not exist" in result.err


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_unknown_model_is_one_error_with_a_suggestion(cp_model, album, jobs, tmp_path, monkeypatch):
    (tmp_path / "default").symlink_to(cp_model.folder)
    monkeypatch.setattr(tagger, "PRETRAINED", tmp_path)
    result = invoke("tag", album, "--json", "--model", "defalt", "--jobs", jobs)
    assert (result.code, result.out) == (2, "")
    assert "did you mean default" in result.err
    assert len(result.err.splitlines()) == 1


def test_a_folder_that_is_no_model_is_an_error(tmp_path, song):
    result = invoke("tag", song, "--model", tmp_path)
    assert result.code == 1
    assert "card.json" in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize(
    "words", [("tag",), ("tag", "--colour", "x.ogg"), ("hum",), ("tag", "x.ogg", "--jobs", "many"), ("--loud",),
              ("tag", "x.ogg", "--jobs", "-1")]
)  # fmt: skip
def test_a_wrong_command_line_is_a_usage_error(words):
    result = invoke(*words)
    assert result.code == 2
    assert result.out == ""
    assert "Usage: " in result.err


@pytest.mark.parametrize("words", [("--help",), ("tag", "--help"), ("submission", "make", "--help")])
def test_help(words):
    result = invoke(*words)
    assert (result.code, result.err) == (0, "")
    assert "Usage: " in result.out
    assert ("moodfield tag song.mp3" in result.out) == (words[0] == "tag")
    if words == ("--help",):
        assert all(command in result.out for command in main.COMMANDS)


def test_no_arguments_print_the_help():
    result = invoke()
    assert "Usage: " in result.out + result.err


def test_version():
    assert invoke("--version") == Result(0, f"moodfield {moodfield.__version__}\n", "")


def test_the_script_equals_the_module(song, model):
    script = Path(sys.executable).with_name("moodfield")
    results = [
        subprocess.run([*begin, "tag", song, "--json", *model], capture_output=True, text=True, check=True).stdout
        for begin in ([script], [sys.executable, "-m", "moodfield"])
    ]
    assert json_lines(results[0]) == json_lines(results[1])


@pytest.mark.parametrize("form", [(), ("--json",)])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_closed_pipe_ends_the_command_quietly(album, model, form, jobs):
    program = start("tag", album, *form, *model, "--jobs", jobs)
    assert program.stdout
    assert program.stdout.readline()
    program.stdout.close()
    _, err = program.communicate(timeout=60)
    assert program.returncode not in (0, 2, 3)
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_is_one_line_and_130(tmp_path, model, jobs):
    path = models.save(tmp_path / "song.wav", models.music(60))
    for number in range(400):
        (tmp_path / f"{number}.wav").symlink_to(path)
    program = start(
        *("tag", tmp_path, "--json", *model, "--jobs", jobs, "--report", tmp_path / "page.html"), start_new_session=True
    )
    assert program.stdout
    assert program.stdout.readline()
    time.sleep(0.2)
    os.killpg(program.pid, signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert program.returncode == 130
    first, second = err.splitlines()
    assert re.match(rf"moodfield: wrote {tmp_path / 'page.html'}: \d+ of 401 files", first)
    assert "stopped" in second
    assert "<bdi>0</bdi>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert all("scores" in line for line in json_lines(out))


def test_a_bug_is_raised(song, model, monkeypatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(tagger.Tagger, "tag", fail)
    with pytest.raises(ZeroDivisionError):
        invoke("tag", song, *model)


@pytest.mark.parametrize(("files", "cores", "jobs"), [(1, 8, 1), (7, 8, 1), (8, 8, 2), (100, 8, 8), (100, 1, 1)])
def test_jobs_depend_on_cores_and_files(tmp_path, monkeypatch, files, cores, jobs):
    """A process takes a second to start, so few files are tagged in this one."""
    for number in range(files):
        (tmp_path / f"{number}.ogg").touch()
    asked = []

    def tag_files(sources, *what, jobs):
        asked.append((len(sources), what, jobs))
        return iter(())

    monkeypatch.setattr(tagger, "tag_files", tag_files)
    monkeypatch.setattr("moodfield.parallel.cpu_count", lambda: cores)
    assert invoke("tag", tmp_path).code == 0
    assert asked == [(files, (), jobs)]


def test_the_reason_of_another_error_is_its_type(tmp_path, monkeypatch):
    from moodfield.errors import WorkerCrashedError

    (tmp_path / "x.ogg").touch()
    results: list[tuple[Path, Tagging | AudioError | WorkerCrashedError]] = [
        (tmp_path / "x.ogg", WorkerCrashedError("it died"))
    ]
    monkeypatch.setattr(tagger, "tag_files", lambda *_, **__: iter(results))
    result = invoke("tag", tmp_path, "--json")
    assert result.code == 3
    assert json_lines(result.out)[0]["error"] == {"reason": "WorkerCrashedError", "message": "it died"}


# ---------------------------------------------------------------- the page


def test_a_report_has_tagged_and_failed_files(album, model, tmp_path):
    result = invoke("tag", album, *model, "--report", tmp_path / "report.html", "--jobs", "1")
    assert result.code == 3
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "track 1" in page
    assert "empty.ogg" in page
    assert f"wrote {tmp_path / 'report.html'}" in result.err


@pytest.mark.parametrize(
    ("words", "err"),
    [
        (("--report", "."), "folder"),
        (("--report", "none/page.html"), "none/page.html"),
        (("--report", "song.ogg"), "input"),
        (("--report", "./song.ogg"), "input"),
        (("--report", "notes.txt"), "another kind"),
        (("--over-time",), "--json"),
    ],
)
def test_a_bad_report_path_is_a_usage_error_before_tagging(song, model, tmp_path, monkeypatch, words, err):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("notes")
    before = song.read_bytes()
    monkeypatch.setattr(tagger, "tag_files", lambda *_, **__: pytest.fail("it began"))
    result = invoke("tag", song, *model, *words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("moodfield: ")
    assert err in result.err
    assert (song.read_bytes(), (tmp_path / "notes.txt").read_text()) == (before, "notes")
    assert set(tmp_path.iterdir()) == {song, tmp_path / "notes.txt"}
