"""The command `write-tags`."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import mutagen
import pytest

import libraries
import models
from commands import Result, invoke, json_lines, start
from moodfield import tags
from moodfield.file_tags import journal
from moodfield.library import database

COUNT = 4


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with music of four files and a library that has scanned it; not to be changed."""
    folder = tmp_path_factory.mktemp("scanned")
    (folder / "music").mkdir()
    for number in range(COUNT):
        models.save(folder / "music" / f"{number}.flac", models.music(4 + number, seed=number))
    assert invoke("library", "scan", folder / "music", "--db", folder / "library.db", "--jobs", 1).code == 0
    return folder


@pytest.fixture
def music(tmp_path: Path, scanned: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder, whose library is the default one."""
    shutil.copytree(scanned / "music", tmp_path / "music")
    shutil.copy(scanned / "library.db", tmp_path)
    monkeypatch.setenv("MOODFIELD_DB", str(tmp_path / "library.db"))
    with database.write(tmp_path / "library.db") as connection:
        for path in sorted((tmp_path / "music").iterdir()):
            values = (str(path), path.stat().st_mtime_ns, str(scanned / "music" / path.name))
            connection.execute("UPDATE tracks SET path = ?, mtime = ? WHERE path = ?", values)
        connection.execute("UPDATE folders SET path = ?", (str(tmp_path / "music"),))
    return tmp_path / "music"


def run(*words: object, code: int = 0) -> Result:
    """Run a command that ends with a code."""
    result = invoke("write-tags", *words)
    assert result.code == code, result
    return result


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def decided() -> dict[str, list[str]]:
    """The decided tags in the library, by the name of the file."""
    rows = json_lines(invoke("library", "list", "--json").out)
    return {Path(row["path"]).name: row["decided"] for row in rows}


def test_without_apply_nothing_is_written(music):
    before = contents(music)
    result = run(music)
    assert contents(music) == before
    assert "--apply" in result.err
    for name, words in decided().items():
        moods = [word for word in words if word not in tags.THEMES]
        assert not moods or f"{name}  MOOD: – → {'; '.join(moods)}" in result.out
    assert not journal.default_path(music.parent / "library.db").exists()


def test_apply_then_undo(music):
    before = contents(music)
    planned = run(music)
    assert run(music, "--apply").out == planned.out
    assert contents(music) != before
    for name, words in decided().items():
        file = mutagen.File(music / name)
        assert file.get("mood", []) == [word for word in words if word not in tags.THEMES]
        assert file.get("theme", []) == [word for word in words if word in tags.THEMES]
    assert "0 tagged, 4 unchanged" in invoke("library", "scan").err, "the library knows that only tags have changed"
    written = contents(music)
    run(music, "--undo")
    assert contents(music) == written
    run(music, "--undo", "--apply")
    assert contents(music) == before
    assert "0 tagged, 4 unchanged" in invoke("library", "scan").err
    assert "nothing to undo" in run(music, "--undo", "--apply", code=1).err


def test_values_are_kept_replaced_or_added(music):
    for path in music.iterdir():
        file = mutagen.File(path)
        file["mood"] = ["My Mood"]
        file.save()
    before = contents(music)
    assert "have values already" in run(music, "--apply", "--moods-only").err
    assert contents(music) == before
    run(music, "--apply", "--merge")
    assert all(mutagen.File(path)["mood"][0] == "My Mood" for path in music.iterdir())
    run(music, "--remove", "--apply")
    assert all(mutagen.File(path)["mood"] == ["My Mood"] for path in music.iterdir())
    result = json_lines(run(music, "--overwrite", "--json").out)
    assert {"path", "field", "old", "new", "written"} == set(result[0])
    run(music, "--overwrite", "--apply")
    with_moods = [name for name, words in decided().items() if set(words) - tags.THEMES]
    assert with_moods
    assert all("My Mood" not in mutagen.File(music / name)["mood"] for name in with_moods)


def test_words_are_chosen_and_renamed(music):
    words = sorted({word for words in decided().values() for word in words} - tags.THEMES)
    first = words[0]
    rows = [r for r in json_lines(run(music, "--include", first, "--json").out) if r["field"] == "MOOD" and r["new"]]
    assert rows
    assert all(row["new"] == [first] for row in rows)
    run(music, "--exclude", ",".join(words), "--apply")
    assert all("mood" not in mutagen.File(path) for path in music.iterdir())
    run(music, "--include", first, "--rename", f"{first}=Ganz Eigen", "--apply")
    values = {value for path in music.iterdir() for value in mutagen.File(path).get("mood", [])}
    assert values == {"Ganz Eigen"}
    run(music, "--remove", "--rename", f"{first}=Ganz Eigen", "--apply")
    assert all("mood" not in mutagen.File(path) for path in music.iterdir())


@pytest.mark.parametrize(
    ("player", "fields"),
    [("navidrome", {"MOOD", "THEME"}), ("plex", {"MOOD"}), ("kodi", {"MOOD"}), ("rekordbox", {"COMMENT"}),
     ("picard", {"MOOD", "THEME"})],
)  # fmt: skip
def test_players(music, player, fields):
    assert {row["field"] for row in json_lines(run(music, "--for", player, "--json").out)} == fields


def test_scores_only_if_asked(music):
    run(music, "--scores", "--apply")
    for path in music.iterdir():
        (text,) = mutagen.File(path)["moodfield_scores"]
        assert set(json.loads(text)) == set(tags.MOODS_AND_THEMES)


def test_tracks_are_scanned_first(music, tmp_path):
    models.save(music / "new.ogg", models.music(5, seed=9))
    result = run(music, "--jobs", 1)
    assert "1 tracks are not in the library" in result.err
    assert len(decided()) == COUNT + 1
    run(music, "--absolute", "--db", tmp_path / "other.db", "--jobs", 1)
    assert (tmp_path / "other.db").exists()


def test_a_file_that_fails_is_one_line(music):
    (music / "broken.flac").write_bytes(b"fLaC")
    shutil.copy(music / "0.flac", music / "protected.flac")
    (music / "protected.flac").chmod(0o444)
    result = run(music, "--apply", "--jobs", 1, code=3)
    lines = [line for line in result.err.splitlines() if "broken.flac" in line or "protected.flac" in line]
    assert sum("broken.flac" in line for line in lines) == 1
    assert "2 failed" in result.err or not decided()["0.flac"]
    assert any("mood" in mutagen.File(music / f"{number}.flac") for number in range(COUNT))


@pytest.mark.parametrize(
    "words",
    [
        ("--overwrite", "--merge"),
        ("--undo", "--for", "kodi"),
        ("--undo", "--include", "calm"),
        ("--remove", "--scores"),
        ("--for", "winamp"),
        ("--include", "clam"),
        ("--exclude", "clam"),
        ("--rename", "clam=x"),
        ("--rename", "calm"),
        ("--rename", "calm=a;b"),
        ("--rename", "calm=a\nb"),
        ("--remove", "--rename", "clam=x"),
        ("--include", "calm", "--exclude", "calm"),
        ("--undo", "--jobs", "2"),
    ],
)
def test_wrong_options_are_usage_errors(music, words):
    before = contents(music)
    assert len(run(music, *words, "--apply", code=2).err.splitlines()) == 1
    assert contents(music) == before


def test_folders_without_music(tmp_path, music):
    (tmp_path / "empty").mkdir()
    assert "no music" in run(tmp_path / "empty", code=1).err


def test_in_processes(music):
    before = contents(music)
    run(music, "--apply", "--jobs", 2)
    assert contents(music) != before
    run(music, "--undo", "--apply")
    assert contents(music) == before


def test_leftovers_are_removed(music):
    left = music / f"0.flac.{'0' * 16}.part"
    left.write_bytes(b"fLaC")
    other = music / f"notes.txt.{'0' * 16}.part"
    other.write_bytes(b"x")
    new = music / f"1.flac.{'0' * 16}.part"
    new.write_bytes(b"fLaC")
    for path in (left, other):
        os.utime(path, (1e9, 1e9))
    run(music)
    assert left.exists()
    run(music, "--apply")
    assert (left.exists(), other.exists()) == (False, True)
    assert new.exists(), "another process may be writing it"


def test_two_at_once(music):
    with database.lock(music.parent / "library.db"):
        assert "in use" in run(music, "--apply", code=1).err


@pytest.mark.slow
def test_interrupted(music):
    for number in range(150):
        shutil.copy(music / "0.flac", music / f"copy-{number}.flac")
    for path in music.iterdir():
        file = mutagen.File(path)
        file["mood"] = ["calm"]
        file.save()
    before = contents(music)
    process = start("write-tags", music, "--remove", "--apply", "--jobs", "1")
    while contents(music).items() >= before.items() and process.poll() is None:  # there may be a partial file already
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "stopped" in err
    changed = [name for name, content in contents(music).items() if content != before[name]]
    assert 0 < len(changed) < len(before)
    assert set(contents(music)) == set(before), "no partial file"
    run(music, "--undo", "--apply")
    assert contents(music) == before


def test_undo_goes_on_with_other_files(music):
    before = contents(music)
    run(music, "--apply")
    first = contents(music)
    words = sorted({word for words in decided().values() for word in words})
    run(music, "--overwrite", "--apply", *(f"--rename={word}={word}s" for word in words))
    changed = [name for name, content in contents(music).items() if content != first[name]]
    assert len(changed) > 1
    assert "1 earlier command can be undone after it" in run(music, "--undo").err
    (music / changed[0]).unlink()
    assert "1 failed" in run(music, "--undo", "--apply", code=3).err
    assert contents(music) == {name: content for name, content in first.items() if name != changed[0]}
    run(music, "--undo", "--apply", code=3)
    assert contents(music) == {name: content for name, content in before.items() if name != changed[0]}
    assert "1 failed" in run(music, "--undo", "--apply", code=3).err, "what is refused can be tried again at the end"


def test_undo_finds_files_that_were_renamed(music):
    before = contents(music)
    run(music, "--apply", "--absolute")
    (music / "0.flac").rename(music / "renamed.flac")
    invoke("library", "scan", music)
    assert "1 failed" not in run(music, "--undo", "--apply").err
    assert (music / "renamed.flac").read_bytes() == before["0.flac"]


def test_undo_without_a_journal_makes_none(music):
    assert "nothing to undo" in run(music, "--undo", code=1).err
    assert list(music.parent.glob("*.file-tags.db")) == []


def test_linked_files_are_one(music):
    (music / "1.flac").unlink()
    (music / "1.flac").hardlink_to(music / "0.flac")
    (music / "2.flac").unlink()
    (music / "2.flac").symlink_to("0.flac")
    invoke("library", "scan", music)
    result = run(music, "--apply", "--absolute")
    assert "hard links" not in result.err, "both names are among the files"
    assert "0 tagged" in invoke("library", "scan", music).err, "the library knows that all three have the same audio"
    other = music.parent / "other.flac"
    other.hardlink_to(music / "3.flac")
    tag = "1 have other hard links"
    assert (tag in run(music, "--overwrite", "--rename", "calm=x", "--apply", "--absolute").err) == (
        other.read_bytes() != (music / "3.flac").read_bytes()
    )


def test_corrections_take_moods_out_of_files(music):
    run(music, "--apply", "--absolute")
    path = music / "0.flac"
    moods = mutagen.File(path)["mood"]
    for mood in moods:
        invoke("library", "correct", path, "--remove", mood)
    themes = mutagen.File(path).get("theme", [])
    assert mutagen.File(path)["mood"] == moods
    run(music, "--apply", "--absolute", "--overwrite")
    assert "mood" not in mutagen.File(path)
    assert mutagen.File(path).get("theme", []) == themes


def test_words_are_counted(music):
    result = run(music, "--absolute")
    words = [
        word
        for row in json_lines(run(music, "--absolute", "--json").out)
        for word in row["new"]
        if row["new"] != row["old"]
    ]
    commonest, number = Counter(words).most_common(1)[0]
    assert f"commonest words: {commonest} {number}" in result.err


def test_files_without_tags_do_not_stop_the_others(music):
    words = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=300:d=3", "-c:a", "aac", str(music / "00.aac")]
    if not shutil.which("ffmpeg"):
        pytest.skip("files of other formats: ffmpeg is not installed")
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    result = run(music, "--apply", "--absolute", code=3)
    assert "00.aac has no tags that could be written" in result.err
    assert "1 failed" in result.err
    assert all("mood" in mutagen.File(music / f"{number}.flac") for number in range(COUNT))


def test_a_library_of_other_tracks_is_no_error(tmp_path, music):
    libraries.make(tmp_path / "other.db", 30)
    result = run(music, "--db", tmp_path / "other.db", "--jobs", 1, code=3)
    assert "has no tags of stub" in result.err
