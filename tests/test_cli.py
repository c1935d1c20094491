"""The front desk: what is printed where, what is printed at all, and with which exit code it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

import models
import moodfield
from models import VOCABULARY, Exported
from moodfield import card, nets, tagger
from moodfield.errors import AudioError
from moodfield.tagging import Tagging


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten tracks that can be heard, two that cannot, and what is no music, in folders."""
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


def test_a_song_becomes_a_row(song, model):
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


def test_files_and_folders_are_tagged_in_order_and_what_fails_is_one_line(album, model):
    result = invoke("tag", album / "track 5.wav", album, *model, "--jobs", "1")
    assert result.code == 3
    rows = result.out.splitlines()[1:]
    wanted = ["track 5.wav", "broken.mp3", "1.flac", "2.flac", "3.flac", "4.flac", "5.flac", "empty.ogg",
              "track 1.wav", "track 2.wav", "track 3.wav", "track 4.wav"]  # fmt: skip
    assert [row[:38].strip() for row in rows] == wanted
    assert [row[:38].strip() for row in rows if "failed" in row] == ["broken.mp3", "empty.ogg"]
    first, second, count = result.err.splitlines()
    assert first.startswith(f"moodfield: {album / 'broken.mp3'} is ")
    assert second.startswith(f"moodfield: {album / 'disc 2' / 'empty.ogg'} has 0 bytes")
    assert count == "moodfield: 2 of 12 files could not be tagged"


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
@pytest.mark.parametrize("heard", [True, False])
def test_names_are_printed_as_they_are(tmp_path, model, name, heard):
    path = tmp_path / name
    models.save(path, models.music(2)) if heard else path.touch()
    result = invoke("tag", path, *model)
    assert result.code == (0 if heard else 3)
    (row,) = result.out.splitlines()[1:]
    assert row.startswith(f"{name} ")
    assert ("failed" in row) is not heard
    assert (str(path) in result.err) is not heard


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x1b[31mred\x07.wav", "a�[31mred�.wav"),
        ("two\nlines.wav", "two�lines.wav"),
        ("latin-\udce9.wav", "latin-�.wav"),
        ("\u202egnp.wav", "�gnp.wav"),
    ],
)
def test_a_name_cannot_move_the_cursor_nor_stop_the_command(tmp_path, model, name, shown, heard):
    path = tmp_path / name
    if heard:
        path.write_bytes(models.save(tmp_path / "plain.wav", models.music(2)).read_bytes())
    else:
        path.touch()
    result = invoke("tag", path, *model)
    assert result.code == (0 if heard else 3)
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


def test_tags_of_a_stranger_are_printed_as_they_are(cp_model, tmp_path, song):
    vocabulary = ("[red]mood[/red]", "film", "[/dim]", "\x1b[31m", "a:heart:")
    folder = models.varied(cp_model, tmp_path / "odd", vocabulary=vocabulary, themes=("film",), thresholds=(-1.0,) * 5)
    result = invoke("tag", song, "--model", folder)
    assert result.code == 0
    row = result.out.splitlines()[1]
    assert all(tag in row for tag in ("[red]mood[/red]", "[/dim]", "�[31m", "a:heart:", "· film"))


def test_nothing_clear_is_said(cp_model, tmp_path, song):
    folder = models.varied(cp_model, tmp_path / "shy", thresholds=(float("inf"),) * 5)
    assert invoke("tag", song, "--model", folder).out.splitlines()[1].endswith("0:05  nothing clear")


# ---------------------------------------------------------------- JSON lines


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_json_is_a_line_for_every_file_and_nothing_else(album, model, jobs):
    result = invoke("tag", album, "--json", *model, "--jobs", jobs)
    assert result.code == 3
    read = json_lines(result.out)
    assert len(read) == 12
    failed = {Path(str(each["source"])).name: each["error"] for each in read if "error" in each}
    assert list(failed) == ["broken.mp3", "empty.ogg"]
    assert failed["empty.ogg"]["reason"] == "empty"
    assert "has 0 bytes: expected an audio file" in failed["empty.ogg"]["message"]
    assert failed["broken.mp3"]["reason"] in ("not-audio", "needs-codecs")
    for each in read:
        if "error" not in each:
            assert list(each["scores"]) == list(VOCABULARY)
            assert "over_time" not in each
        else:
            assert list(each) == ["source", "error"]  # no tags for what was not heard
    assert result.err == "moodfield: 2 of 12 files could not be tagged\n"


def test_json_says_what_python_says(song, model):
    (read,) = json_lines(invoke("tag", song, "--json", *model).out)
    tagging = tagger.load(model[1]).tag(song)
    assert read["scores"] == pytest.approx(tagging.to_dict()["scores"], abs=1e-5)
    assert read["decided"] == list(tagging.decided)
    assert read["source"] == str(song)


def test_several_models_and_the_mood_over_time(cp_model, fa_model, song):
    both = ("--model", cp_model.folder, "--model", fa_model.folder)
    (read,) = json_lines(invoke("tag", song, "--json", "--over-time", *both).out)
    assert read["model"] == "cp_resnet+fa_resnet"
    steps = len(read["over_time"]["seconds"])
    assert steps > 10
    assert {tag: len(row) for tag, row in read["over_time"]["scores"].items()} == dict.fromkeys(VOCABULARY, steps)


@pytest.mark.parametrize(
    "name", ["[red]x.wav", "音楽 \x1b[31m.wav", "two\nlines.wav", 'quo"te\\.wav', "latin-\udce9.wav"]
)
def test_json_carries_any_name(tmp_path, model, name):
    path = tmp_path / name
    path.touch()
    (read,) = json_lines(invoke("tag", path, "--json", *model).out)
    assert read["source"] == str(path)


def test_the_command_itself_prints_nothing_but_json(album, model):
    """As a process, where libraries could print as well."""
    program = start("tag", album, "--json", *model, "--jobs", "2")
    out, err = program.communicate(timeout=60)
    assert program.returncode == 3
    assert len(json_lines(out)) == 12
    assert err.splitlines()[-1] == "moodfield: 2 of 12 files could not be tagged"  # libsndfile may grumble before


# ---------------------------------------------------------------- how it ends


def test_where_there_is_no_music_one_is_told(tmp_path, model):
    (tmp_path / "notes.txt").write_text("notes")
    result = invoke("tag", tmp_path, *model)
    assert (result.code, result.out) == (1, "")
    assert result.err == f"moodfield: no music was found in {tmp_path}; name files or folders of music\n"


def test_a_file_that_is_not_there_is_a_file_that_failed(tmp_path, song, model):
    result = invoke("tag", song, tmp_path / "none.ogg", *model)
    assert result.code == 3
    assert "none.ogg does not exist" in result.err


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_unknown_model_is_refused_once_with_what_there_is(cp_model, album, jobs, tmp_path, monkeypatch):
    (tmp_path / "default").symlink_to(cp_model.folder)
    monkeypatch.setattr(tagger, "PRETRAINED", tmp_path)
    result = invoke("tag", album, "--json", "--model", "defalt", "--jobs", jobs)
    assert (result.code, result.out) == (1, "")
    assert result.err == "moodfield: there is no model (nor a model folder) called 'defalt'; did you mean default?\n"


def test_a_model_that_is_none_is_refused(tmp_path, song):
    result = invoke("tag", song, "--model", tmp_path)
    assert result.code == 1
    assert "is a folder without a card.json" in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize(
    "words", [("tag",), ("tag", "--colour", "x.ogg"), ("hum",), ("tag", "x.ogg", "--jobs", "many"), ("--loud",),
              ("tag", "x.ogg", "--jobs", "-1")]
)  # fmt: skip
def test_a_command_that_is_written_wrong_ends_with_2(words):
    result = invoke(*words)
    assert result.code == 2
    assert result.out == ""
    assert "Usage: " in result.err


@pytest.mark.parametrize("words", [("--help",), ("tag", "--help"), ("train", "--help"), ("distill", "--help")])
def test_help_is_given(words):
    result = invoke(*words)
    assert (result.code, result.err) == (0, "")
    assert "Usage: " in result.out
    if words == ("--help",):
        assert all(command in result.out for command in ("tag", "train", "distill", "--version"))


def test_without_words_help_is_given():
    result = invoke()
    assert "Usage: " in result.out + result.err


def test_the_version_is_told():
    assert invoke("--version") == Answer(0, f"moodfield {moodfield.__version__}\n", "")


def test_the_command_is_installed_and_is_the_module(song, model):
    script = Path(sys.executable).with_name("moodfield")
    results = [
        subprocess.run([*begin, "tag", song, "--json", *model], capture_output=True, text=True, check=True).stdout
        for begin in ([script], [sys.executable, "-m", "moodfield"])
    ]
    assert json_lines(results[0]) == json_lines(results[1])


@pytest.mark.parametrize("form", [(), ("--json",)])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_pipe_that_closes_early_ends_it_quietly(album, model, form, jobs):
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
    assert re.fullmatch(rf"moodfield: the report is {tmp_path / 'page.html'}: \d+ of 401 files; it was stopped", first)
    assert second == "moodfield: stopped; what was finished stays; training, downloads and submissions go on from there"
    assert "<bdi>0</bdi>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert all("scores" in line for line in json_lines(out))


def test_a_fault_of_the_program_is_not_taken_for_a_refusal(song, model, monkeypatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(tagger.Tagger, "tag", fail)
    with pytest.raises(ZeroDivisionError):
        invoke("tag", song, *model)


@pytest.mark.parametrize(("files", "cores", "jobs"), [(1, 8, 1), (7, 8, 1), (8, 8, 2), (100, 8, 8), (100, 1, 1)])
def test_jobs_are_chosen_by_cores_and_files(tmp_path, monkeypatch, files, cores, jobs):
    """A process costs a second to start, so few files are heard here."""
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


def test_errors_without_a_reason_are_called_by_their_kind(tmp_path, monkeypatch):
    from moodfield.errors import WorkerCrashedError

    (tmp_path / "x.ogg").touch()
    results: list[tuple[Path, Tagging | AudioError | WorkerCrashedError]] = [
        (tmp_path / "x.ogg", WorkerCrashedError("it died"))
    ]
    monkeypatch.setattr(tagger, "tag_files", lambda *_, **__: iter(results))
    result = invoke("tag", tmp_path, "--json")
    assert result.code == 3
    assert json_lines(result.out)[0]["error"] == {"reason": "Crashed", "message": "it died"}


# ---------------------------------------------------------------- the page


def test_a_page_is_written_with_what_was_heard_and_what_was_not(album, model, tmp_path):
    result = invoke("tag", album, *model, "--report", tmp_path / "report.html", "--jobs", "1")
    assert result.code == 3
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "track 1" in page
    assert "empty.ogg" in page
    assert f"moodfield: the report is {tmp_path / 'report.html'}" in result.err


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
def test_what_cannot_be_written_is_refused_before_anything_is_heard(song, model, tmp_path, monkeypatch, words, err):
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


# ---------------------------------------------------------------- the networks


def test_the_networks_are_listed():
    result = invoke("nets")
    assert (result.code, result.err) == (0, "")
    head, *rows = result.out.split("\n\n")[0].splitlines()
    assert head.split() == ["network", "parameters", "GMAC", "cell", "sees", "around", "1", "kHz", "seconds", "length"]
    assert [row.split()[0] for row in rows] == list(nets.NETS)
    assert rows[1].split() == "fa_resnet 3.60 M 16.7 87 × 87 315 Hz – 2.0 kHz 1.04 any".split()
    assert rows[-1].split() == "vgg 0.45 M 0.6 174 × 2090 0 Hz – 6 kHz 29.16 fixed".split()
    assert max(map(len, result.out.splitlines())) <= 100
    assert "GMAC: for 10 s of music" in result.out


@pytest.mark.parametrize("words", [("nets", "--json"), ("nets", "list", "--json")])
def test_the_networks_are_json_lines(words):
    result = invoke(*words)
    assert (result.code, result.err) == (0, "")
    read = json_lines(result.out)
    assert [each["name"] for each in read] == list(nets.NETS)
    for each in read:
        assert set(each) == {
            "name",
            "net",
            "mel",
            "parameters",
            "gmac_per_10_s",
            "receptive_field",
            "stride",
            "lengths",
        }
        assert nets.from_dict(each["net"]) == nets.NETS[each["name"]]
    assert read[7]["lengths"] == {"min_frames": 96, "stride": 96, "receptive_field": 162, "start": -33, "kind": "whole"}


def test_one_network_is_told_in_words_or_as_json():
    result = invoke("nets", "cp_resnet", "--rho-freq", "7", "--rho-time", "2", "--width", "16")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[0] == "cp_resnet"
    assert "rho_freq 7, rho_time 2, width 16" in result.out
    assert "135 bands × 39 frames" in result.out
    assert "0.49 s; the next cell is 0.19 s on" in result.out
    (read,) = json_lines(invoke("nets", "cp_resnet", "--rho-freq", "7", "--rho-time", "7", "--json").out)
    assert (read["name"], read["net"]["rho_freq"], read["parameters"]) == ("cp_resnet", 7, 3_980_272)


def test_what_a_network_sees_is_drawn_over_music(tmp_path, song):
    plot = tmp_path / "field.png"
    result = invoke("nets", "fa_resnet", "--width", "2", "--plot", plot, "--audio", song, "--json")
    assert result.code == 0
    assert len(json_lines(result.out)) == 1
    assert result.err == f"moodfield: the picture is {plot}\n"
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_model_is_shown_as_it_was_trained(cp_model, tmp_path):
    plot = tmp_path / "field.png"
    result = invoke("nets", "--model", cp_model.folder, "--plot", plot)
    assert result.code == 0
    assert result.out.splitlines()[0] == "cp_resnet"
    assert "rho_freq 1, rho_time 5, width 4" in result.out
    assert "64 bands, 22050 Hz, window 1024, hop 256" in result.out
    assert plot.exists()
    (read,) = json_lines(invoke("nets", "cp_resnet", "--model", cp_model.folder, "--json").out)
    assert read["net"] == asdict(cp_model.net.config)
    (read,) = json_lines(invoke("nets", "--model", "default", "--json").out)
    assert read["net"] == asdict(nets.from_dict(card.Card.read(tagger.pretrained_models()["default"]).net))


@pytest.mark.parametrize(
    ("code", "words", "err"),
    [
        (1, ("fa_resent",), "did you mean fa_resnet"),
        (1, ("crnn", "--rho-freq", "5"), "crnn has no rho_freq; it has width, hidden"),
        (1, ("resnet34", "--rho-time", "5"), "resnet34 has no rho_time"),
        (1, ("cp_resnet", "--rho-freq", "23"), "ρ 23 came, this network has ρ in 0 … 22"),
        (2, ("cp_resnet", "--audio", "x.ogg"), "--music x.ogg is for a picture, and none is named; add --plot"),
        (2, ("cp_resnet", "--plot", "none/field.png"), "has no folder"),
        (2, ("cp_resnet", "--plot", "field.txt"), "call it something that ends in .png"),
        (1, ("cp_resnet", "--model", "none"), "there is no model (nor a model folder) called 'none'; known: default"),
        (2, ("--model", "none", "--rho-freq", "5"), "--rho-freq cannot change none"),
    ],
)
def test_what_cannot_be_shown_is_refused(code, words, err):
    result = invoke("nets", *words)
    assert (result.code, result.out) == (code, "")
    assert err in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize(
    "words", [("show",), ("shw",), ("show", "crnn", "--rho-freq", "many"), ("--json", "show", "crnn"), ("--loud",)]
)
def test_a_question_about_networks_that_is_written_wrong_ends_with_2(words):
    result = invoke("nets", *words)
    assert (result.code, result.out) == (2, "")
    assert re.match("Usage: .* nets|moodfield: name a network", result.err)


@pytest.mark.parametrize("words", [("--help",), ("nets", "--help"), ("paper", "train", "--help")])
def test_help_needs_neither_torch_nor_numpy(words):
    """In a process of its own, where nothing is imported yet."""
    code = f"import sys; from moodfield.cli import main; sys.argv = {['moodfield', *words]!r}\n"
    code += "try: main.main()\nfinally: assert not {'torch', 'matplotlib', 'numpy', 'rich'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: moodfield" in done.stdout


# ---------------------------------------------------------------- models


@pytest.mark.parametrize("words", [["models"], ["models", "list"]])
def test_the_models_are_listed(words):
    result = invoke(*words)
    assert result.code == 0
    assert "default" in result.out
    plain = json.loads(invoke(*words, "--json").out)
    assert (plain["name"], plain["tags"]) == ("default", 56)


def test_a_card_is_shown_as_a_page_and_as_it_is(cp_model):
    page = invoke("models", cp_model.folder)
    assert page.code == 0
    assert "CC0-1.0" in page.out
    shown = json.loads(invoke("models", cp_model.folder, "--json").out)
    assert shown["card"] == json.loads(cp_model.card.to_json())


def test_a_model_is_verified(cp_model):
    result = invoke("models", "verify", cp_model.folder)
    assert result.code == 0
    assert cp_model.card.sha256[card.NETWORK][:16] in result.out
    assert "5 logits" in result.out
    assert json.loads(invoke("models", "verify", cp_model.folder, "--json").out)["holds"] is True


def test_a_model_that_is_not_what_it_was_ends_with_1(cp_model, tmp_path):
    shifted = tuple(logit + 0.1 for logit in cp_model.card.reference_logits)
    folder = models.varied(cp_model, tmp_path / "other", reference_logits=shifted)
    result = invoke("models", "verify", folder, "--json")
    assert result.code == 1
    assert json.loads(result.out)["holds"] is False
    assert "differ by 0.1" in result.err
    (folder / card.NETWORK).write_bytes(b"something else")
    broken = invoke("models", "verify", folder)
    assert (broken.code, broken.out) == (1, "")
    assert "is damaged" in broken.err


@pytest.mark.parametrize("words", [["models", "defualt"], ["models", "verify", "/nowhere"]])
def test_an_unknown_model_is_neither_shown_nor_verified(words):
    assert invoke(*words).code == 1
