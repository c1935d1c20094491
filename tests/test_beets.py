"""The beets plugin, in the real beets with a small library."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import models
from commands import invoke, json_lines
from moodfield.library import database
from moodfield.tags import THEMES

COUNT = 3
SOURCES = Path(__file__).parent.parent / "src"


class Beets:
    """A beets with a library of its own."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.configure(settings)

    def configure(self, settings: dict[str, object], playlist: str = "") -> None:
        """Write the configuration, with a smart playlist for a query."""
        lists = [{"name": "x.m3u", "query": playlist}] if playlist else []
        values = {
            "directory": str(self.folder / "library"),
            "library": str(self.folder / "beets.db"),
            "plugins": "moodfield smartplaylist",
            "import": {"copy": True, "write": False, "autotag": False, "quiet": True},
            "moodfield": {"db": str(self.folder / "mood.db"), "jobs": 1, **settings},
            "smartplaylist": {"playlist_dir": str(self.folder), "playlists": lists},
        }
        (self.folder / "config.yaml").write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        paths = os.pathsep.join([str(SOURCES), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"BEETSDIR": str(self.folder), "PYTHONPATH": paths}
        words = (sys.executable, "-m", "beets", *words)
        result = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
        assert "Traceback" not in result.stderr, result.stderr
        return result

    def moods(self) -> dict[str, list[str]]:
        """The moods of every track by title."""
        pairs = (line.split(": ", 1) for line in self.field("moods"))
        return {title: [] if value == "$moods" else value.split("; ") for title, value in pairs}

    def field(self, name: str, query: str = "") -> list[str]:
        return sorted(self.run("ls", "-f", f"$title: ${name}", *query.split()).stdout.splitlines())


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """A folder of three tracks with titles."""
    mutagen = pytest.importorskip("mutagen")
    folder = tmp_path / "new"
    folder.mkdir()
    for number in range(COUNT):
        path = models.save(folder / f"{number}.flac", models.music(12, seed=number))
        file = mutagen.File(path)
        file["title"], file["artist"], file["album"] = f"track {number}", "someone", "album"
        file.save()
    return folder


def expected(db: Path) -> dict[str, dict[str, object]]:
    """What moodfield's own command lists of the library: rows by title."""
    result = invoke("library", "list", "--db", db, "--json")
    return {row["title"]: row for row in map(json.loads, result.out.splitlines())}


@pytest.mark.slow
def test_command_queries_and_smart_playlists(tmp_path, music):
    beets = Beets(tmp_path)
    beets.run("import", str(music))
    pretended = beets.run("moodfield", "--pretend").stdout
    assert "moods: – → " in pretended
    assert beets.field("moods") == [f"track {number}: $moods" for number in range(COUNT)], "nothing is stored"
    assert beets.run("moodfield").stdout == pretended
    rows, moods = expected(tmp_path / "mood.db"), beets.moods()
    assert set(moods) == set(rows)
    for title, row in rows.items():
        decided = [tag for tag in row["decided"] if tag not in THEMES]
        assert moods[title] == decided or not decided
    mood = next(words[0] for words in moods.values() if words)
    titles = sorted(title for title, words in moods.items() if mood in words)
    assert beets.field("title", f"moods:{mood}") == [f"{title}: {title}" for title in titles]
    assert beets.run("moodfield").stdout == "", "nothing changes again"
    beets.configure({}, playlist=f"moods:{mood}")
    beets.run("splupdate")
    assert len((tmp_path / "x.m3u").read_text("utf-8").splitlines()) == len(titles)


def test_fields_are_stored_and_files_are_not_changed(tmp_path, music):
    beets = Beets(tmp_path)
    beets.run("import", str(music))
    before = {path: path.read_bytes() for path in (tmp_path / "library").rglob("*.flac")}
    beets.run("moodfield")
    rows, moods = expected(tmp_path / "mood.db"), beets.moods()
    assert moods == {title: [tag for tag in row["decided"] if tag not in THEMES] for title, row in rows.items()}
    assert {path: path.read_bytes() for path in (tmp_path / "library").rglob("*.flac")} == before


@pytest.mark.slow
def test_import_tags_if_asked(tmp_path, music):
    beets = Beets(tmp_path, auto=True, absolute=True)
    broken = music / "broken.flac"
    shutil.copy(music / "0.flac", broken)
    broken.write_bytes(broken.read_bytes()[:9_000])
    beets.run("import", str(music))
    (line,) = (line for line in beets.field("moods") if "track 1" in line)
    assert "$moods" not in line
    rows = json_lines(invoke("library", "list", "--json", "--db", tmp_path / "mood.db").out)
    assert len(rows) == COUNT + 1, "every imported file is in the library"


@pytest.mark.slow
def test_a_database_of_another_program_is_an_error(tmp_path, music):
    beets = Beets(tmp_path, db=str(tmp_path / "beets.db"))
    beets.run("import", str(music))
    result = beets.run("moodfield")
    assert result.returncode == 1
    assert "another program" in result.stderr


@pytest.mark.slow
def test_a_database_that_cannot_be_made_is_an_error(tmp_path, music):
    (tmp_path / "file").touch()
    beets = Beets(tmp_path, db=str(tmp_path / "file" / "mood.db"))
    beets.run("import", str(music))
    result = beets.run("moodfield")
    assert result.returncode == 1
    assert "cannot be written" in result.stderr


@pytest.mark.slow
def test_a_library_in_use_is_an_error(tmp_path, music):
    beets = Beets(tmp_path)
    beets.run("import", str(music))
    with database.lock(tmp_path / "mood.db"):
        result = beets.run("moodfield")
    assert result.returncode == 1
    assert "in use" in result.stderr


@pytest.mark.slow
def test_files_that_have_gone_are_warnings(tmp_path, music):
    beets = Beets(tmp_path)
    beets.run("import", str(music))
    next((tmp_path / "library").rglob("*.flac")).unlink()
    result = beets.run("moodfield")
    assert result.returncode == 0
    assert "has no tags" in result.stderr
    assert sum("$moods" not in line for line in beets.field("moods")) == COUNT - 1
