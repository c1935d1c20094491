"""Scans: what is decoded and what is not, moved and missing files, errors, several models, kills."""

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import models as model_files
from commands import invoke, start
from moodfield import tagger
from moodfield.errors import AudioError, LibraryError, OutputError
from moodfield.library import analysis, database, decided, models, scan, tracks, watch
from moodfield.library.scan import Plan
from moodfield.library.tracks import Filter

SECONDS = 2.0


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four files; not to be changed."""
    folder = tmp_path_factory.mktemp("songs")
    for number in range(4):
        model_files.save(folder / f"{number}.flac", model_files.music(SECONDS, seed=number))
    return folder


@pytest.fixture
def music(songs: Path, tmp_path: Path) -> Path:
    """A copy of that folder, with modification times of long ago."""
    folder = tmp_path / "music"
    shutil.copytree(songs, folder)
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))
    return folder


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """The path of a library that does not exist yet."""
    return tmp_path / "library.db"


def run(db: Path, *paths: Path, model: tuple[str, ...] = (), retag: bool = False) -> tuple[Plan, dict[str, str]]:
    """Scan; the plan, and errors by name of the file."""
    with database.lock(db), database.write(db) as connection:
        plan = scan.plan(connection, paths, model, retag=retag)
        results = list(scan.run(connection, plan, model))
    return plan, {path.name: str(error) for path, error in results if error}


def rows(db: Path, columns: str = "path", where: str = "TRUE") -> list[tuple[object, ...]]:
    """Rows of tracks."""
    with database.read(db) as connection:
        return connection.execute(f"SELECT {columns} FROM tracks WHERE {where} ORDER BY path").fetchall()


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function after whose call every decoding is a fault."""

    def forbid() -> None:
        monkeypatch.setattr(analysis, "analyse", lambda *_: pytest.fail("a file was decoded"))

    return forbid


def test_what_is_stored_equals_a_tagging(db, music):
    plan, errors = run(db, music)
    assert (len(plan.files), plan.unchanged, errors) == (4, 0, {})
    with database.read(db) as connection:
        result = decided.decide(connection, relative=False)
        [model] = models.read(connection)
        curves, envelope = connection.execute("SELECT logits, envelope FROM curves").fetchone()
    expected = [tagger.load().tag(track.path) for track in result.tracks]
    for row, tagging in enumerate(expected):
        assert result.decided(row) == tagging.decided
        assert result.evidence[row] == pytest.approx(tagging.evidence, abs=1e-3)
        assert result.tracks[row].duration == pytest.approx(tagging.duration)
    assert result.tracks[0].title == "0"
    assert model.speed > 0
    assert analysis.curves(curves).shape == (56, analysis.STEPS)
    assert abs(analysis.curves(curves).mean(axis=1) - expected[0].over_time.scores.mean(axis=1)).max() < 0.03
    assert 0 < len(envelope) <= analysis.SPANS


def test_unchanged_files_are_not_decoded(db, music, no_decoding):
    run(db, music)
    no_decoding()
    plan, _ = run(db)
    assert (plan.files, plan.unchanged, plan.moved, plan.missing) == ([], 4, [], 0)


def test_changed_files_are_decoded_and_touched_ones_are_not(db, music, no_decoding):
    run(db, music)
    before = rows(db, "digest")
    shutil.copyfile(music / "1.flac", music / "0.flac")
    plan, _ = run(db, music)
    assert [state.path.name for state in plan.files] == ["0.flac"]
    assert rows(db, "digest")[0] == before[1]
    os.utime(music / "2.flac", (2e9, 2e9))
    no_decoding()
    plan, _ = run(db, music)
    assert (plan.files, plan.unchanged) == ([], 4)
    assert rows(db, "mtime")[2] == (2 * 10**18,)


def test_moved_files_are_recognised_with_their_corrections(db, music, no_decoding):
    run(db, music)
    with database.write(db) as connection:
        track = tracks.locate(connection, music / "3.flac")
        tracks.correct(connection, track.id, add=["calm"])
    (music / "album").mkdir()
    (music / "3.flac").rename(music / "album" / "renamed.flac")
    no_decoding()
    plan, _ = run(db)
    assert plan.moved == [(str(music / "3.flac"), music / "album" / "renamed.flac")]
    assert plan.missing == 0
    with database.read(db) as connection:
        moved = tracks.locate(connection, music / "album" / "renamed.flac")
        assert moved.id == track.id
        assert tracks.corrections(connection)[moved.id].added == {"calm"}
    assert len(rows(db)) == 4


def test_files_moved_to_another_folder_are_recognised(db, music, tmp_path, no_decoding):
    run(db, music)
    (tmp_path / "other").mkdir()
    (music / "0.flac").rename(tmp_path / "other" / "0.flac")
    no_decoding()
    plan, _ = run(db, tmp_path / "other")
    assert len(plan.moved) == 1


def correct(db: Path, path: Path, tag: str) -> None:
    """Correct a track."""
    with database.write(db) as connection:
        tracks.correct(connection, tracks.locate(connection, path).id, add=[tag])


def corrected(db: Path) -> dict[str, set[str]]:
    """Corrections of tracks by their path."""
    with database.read(db) as connection:
        names = {track.id: track.path for track in tracks.select(connection)}
        return {names[number]: set(one.added) for number, one in tracks.corrections(connection).items()}


def test_swapped_files_take_their_corrections_along(db, music, no_decoding):
    run(db, music)
    for number, tag in enumerate(("calm", "dark", "happy")):
        correct(db, music / f"{number}.flac", tag)
    for before, after in (("2", "x"), ("1", "2"), ("0", "1"), ("x", "0")):  # as a player numbers an album anew
        (music / f"{before}.flac").rename(music / f"{after}.flac")
    for number in range(3):
        os.utime(music / f"{number}.flac", (2e9 + number, 2e9 + number))
    no_decoding()
    plan, _ = run(db)
    assert (plan.files, plan.missing, len(plan.moved)) == ([], 0, 3)
    expected = {"0": {"happy"}, "1": {"calm"}, "2": {"dark"}}
    assert corrected(db) == {str(music / f"{name}.flac"): tags for name, tags in expected.items()}


def test_a_file_that_replaces_another_keeps_its_own_corrections(db, music, no_decoding):
    run(db, music)
    correct(db, music / "0.flac", "calm")
    correct(db, music / "1.flac", "dark")
    (music / "1.flac").replace(music / "0.flac")
    no_decoding()
    plan, _ = run(db)
    assert plan.moved == [(str(music / "1.flac"), music / "0.flac")]
    assert corrected(db) == {str(music / "0.flac"): {"dark"}}
    assert len(rows(db)) == 3


def test_a_moved_file_whose_place_is_taken_is_another_track(db, music):
    run(db, music)
    correct(db, music / "0.flac", "calm")
    (music / "0.flac").rename(music / "9.flac")
    model_files.save(music / "0.flac", model_files.music(SECONDS, seed=99))
    plan, _ = run(db)
    assert [state.path.name for state in plan.files] == ["0.flac"]
    assert corrected(db) == {str(music / "9.flac"): {"calm"}}
    assert len(rows(db)) == 5


def test_copies_in_a_renamed_folder_keep_their_corrections(db, music, no_decoding):
    for name in ("a", "b", "c"):
        (music / name).mkdir()
        shutil.copyfile(music / "0.flac", music / name / "song.flac")
    run(db, music)
    correct(db, music / "b" / "song.flac", "calm")
    (music / "new").mkdir()
    for name in ("c", "a", "b"):
        (music / name).rename(music / "new" / name)
    no_decoding()
    plan, _ = run(db)
    assert (len(plan.moved), plan.missing) == (3, 0)
    assert corrected(db) == {str(music / "new" / "b" / "song.flac"): {"calm"}}


def test_a_deleted_folder_within_another_one_is_gone(db, music):
    (music / "inner").mkdir()
    (music / "0.flac").rename(music / "inner" / "0.flac")
    run(db, music / "inner")
    run(db, music)
    shutil.rmtree(music / "inner")
    plan, _ = run(db)
    assert (plan.missing, plan.unsearched) == (1, {})


def test_a_named_file_without_a_suffix_stays(db, music, no_decoding):
    (music / "0.flac").rename(music / "song")
    run(db, music, music / "song")
    no_decoding()
    plan, _ = run(db)
    assert (plan.unchanged, plan.missing) == (4, 0)
    (music / "song").unlink()
    assert run(db)[0].missing == 1


def test_the_speed_is_that_of_the_model(db, music, cp_model):
    run(db, music)
    with database.write(db) as connection:
        connection.execute("UPDATE models SET speed = 7")
    assert run(db, music)[0].speed == 7
    run(db, music, model=(str(cp_model.folder),), retag=True)
    with database.write(db) as connection:
        connection.execute("UPDATE models SET speed = 9 WHERE speed != 7")
    assert run(db, music)[0].speed == 7
    assert run(db, music, model=(str(cp_model.folder),))[0].speed == 9


def test_a_library_that_cannot_be_written_is_one_line(db, music):
    run(db, music)
    before = rows(db, "path, digest")
    db.with_name("library.db.lock").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        run(db, music)
    assert rows(db, "path, digest") == before


def test_a_playlist_during_a_scan(db, music, monkeypatch):
    """Readers see the state before the scan until it has stored a track, and wait for nothing."""
    run(db, music)
    model_files.save(music / "9.flac", model_files.music(SECONDS, seed=9))
    seen: list[int] = []
    original = analysis.analyse

    def analyse(*arguments: object) -> analysis.Analysis:
        with database.read(db) as connection:
            seen.append(len(decided.decide(connection).tracks))
        return original(*arguments)

    monkeypatch.setattr(analysis, "analyse", analyse)
    with database.lock(db), database.write(db) as connection:
        plan = scan.plan(connection, [music], ())
        with database.transaction(connection):
            connection.execute("UPDATE tracks SET title = 'changed'")
            with database.read(db) as reader:
                assert "changed" not in {track.title for track in tracks.select(reader)}
        list(scan.run(connection, plan, ()))
    assert seen == [4]
    with database.read(db) as connection:
        assert len(decided.decide(connection).tracks) == 5


def test_missing_files_are_marked_and_return(db, music, tmp_path, no_decoding):
    run(db, music)
    (music / "0.flac").rename(tmp_path / "away.flac")
    plan, _ = run(db)
    assert plan.missing == 1
    assert len(rows(db, where="missing IS NOT NULL")) == 1
    with database.read(db) as connection:
        assert len(decided.decide(connection).tracks) == 3
        assert len(tracks.select(connection, Filter(missing=True))) == 1
    (tmp_path / "away.flac").rename(music / "0.flac")
    no_decoding()
    plan, _ = run(db)
    assert (plan.files, plan.missing) == ([], 0)
    assert rows(db, where="missing IS NOT NULL") == []


def test_a_folder_that_has_gone_changes_nothing(db, music, tmp_path):
    run(db, music)
    music.rename(tmp_path / "unmounted")
    with pytest.raises(LibraryError, match="no such file"):
        run(db)
    (tmp_path / "second").mkdir()
    plan, _ = run(db, music, tmp_path / "second")
    assert str(music) in plan.unsearched
    assert rows(db, where="missing IS NOT NULL") == []


def test_a_folder_that_vanishes_during_the_scan_makes_no_failed_tracks(db, music):
    run(db, music)
    for number in range(4):
        model_files.save(music / f"{number}.flac", model_files.music(SECONDS, seed=9 + number))
    model_files.save(music / "new.flac", model_files.music(SECONDS, seed=5))
    with database.write(db) as connection:
        plan = scan.plan(connection, [music], ())
        assert len(plan.files) == 5
        shutil.rmtree(music)
        errors = [error.reason for _, error in scan.run(connection, plan, ())]
    assert errors == ["missing"] * 5
    assert len(rows(db, where="missing IS NOT NULL AND error IS NULL")) == len(rows(db)) == 4
    with database.read(db) as connection:
        assert connection.execute("SELECT count(*) FROM taggings").fetchone() == (4,)


def test_a_bad_file_is_a_row_with_its_error(db, music):
    (music / "0.flac").write_bytes(b"no music")
    (music / "empty.mp3").touch()
    plan, errors = run(db, music)
    assert set(errors) == {"0.flac", "empty.mp3"}
    assert rows(db, "reason", "error IS NOT NULL") == [("not-audio",), ("empty",)]
    plan, errors = run(db)
    assert (plan.files, plan.failed, errors) == ([], 2, {})
    shutil.copyfile(music / "1.flac", music / "0.flac")
    plan, errors = run(db, retag=True)
    assert set(errors) == {"empty.mp3"}
    assert rows(db, "reason", "error IS NOT NULL") == [("empty",)]


def test_a_file_that_becomes_bad_loses_its_tags(db, music):
    run(db, music)
    (music / "0.flac").write_bytes(b"no music")
    run(db)
    with database.read(db) as connection:
        assert connection.execute("SELECT count(*) FROM taggings").fetchone() == (3,)
        assert len(decided.decide(connection).untagged) == 1


def test_names_that_are_no_utf8_are_scanned(db, music):
    name = Path(os.fsdecode(os.fsencode(music) + b"/caf\xe9 \n.flac"))
    (music / "0.flac").rename(name)
    run(db, music)
    assert (str(name),) in rows(db)
    plan, _ = run(db)
    assert plan.unchanged == 4
    result = invoke("library", "list", "--db", db, "--json")
    assert result.code == 0
    assert len(result.out.splitlines()) == 4


def test_metadata_of_the_file_is_read(db, tmp_path):
    import soundfile as sf

    path = tmp_path / "music" / "a.flac"
    path.parent.mkdir()
    with sf.SoundFile(path, "w", model_files.RATE, 1) as file:
        file.title, file.artist, file.album, file.genre, file.date = "T", "A", "B", "jazz", "1999-05-01"
        file.write(model_files.music(SECONDS).samples)
    run(db, path.parent)
    assert rows(db, "title, artist, album, genre, year") == [("T", "A", "B", "jazz", 1999)]


def test_several_models_side_by_side(db, music, cp_model):
    run(db, music)
    other = (str(cp_model.folder),)
    plan, _ = run(db, model=other)
    assert (plan.files, plan.untagged, round(plan.untagged_seconds)) == ([], 4, 4 * SECONDS)
    model_files.save(music / "new.flac", model_files.music(SECONDS, seed=7))
    run(db, model=other)
    with database.read(db) as connection:
        assert {model.name: model.tracks for model in models.read(connection)} == {"default": 4, "cp_resnet": 1}
        assert models.choose(connection).name == "default"
    plan, _ = run(db, model=other, retag=True)
    assert len(plan.files) == 4
    with database.read(db) as connection:
        assert models.choose(connection).name == "cp_resnet"
        assert len(decided.decide(connection, model="default").tracks) == 4
        assert len(decided.decide(connection, model="cp_resnet", relative=False).tracks) == 5


def test_a_scan_needs_a_folder_once(db, music):
    with pytest.raises(LibraryError, match="scan FOLDER"):
        run(db)
    run(db, music / "..", music)
    with database.read(db) as connection:
        assert connection.execute("SELECT path FROM folders").fetchall() == [(str(music.parent),)]


def test_corrections_survive_a_new_scan_of_the_same_path(db, music):
    run(db, music)
    with database.write(db) as connection:
        tracks.correct(connection, tracks.locate(connection, music / "0.flac").id, add=["calm"], remove=["dark"])
    model_files.save(music / "0.flac", model_files.music(SECONDS, seed=33))
    run(db)
    with database.read(db) as connection:
        result = decided.decide(connection)
        assert "calm" in result.decided(0)


def test_prune_removes_missing_tracks_but_keeps_corrected_ones(db, music):
    run(db, music)
    with database.write(db) as connection:
        tracks.correct(connection, tracks.locate(connection, music / "0.flac").id, add=["calm"])
    shutil.rmtree(music)
    music.mkdir()
    run(db)
    with database.write(db) as connection:
        assert tracks.prune(connection) == (3, 1)
        assert connection.execute("SELECT count(*) FROM taggings").fetchone() == (1,)
        assert tracks.prune(connection, corrected=True) == (1, 0)
        assert connection.execute("SELECT count(*) FROM corrections").fetchone() == (0,)


def wait_for_tracks(db: Path, count: int) -> None:
    """Wait until a scan in another process has stored tracks."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if db.exists():
            try:
                with database.read(db) as connection:
                    if connection.execute("SELECT count(*) FROM taggings").fetchone()[0] >= count:
                        return
            except (LibraryError, sqlite3.Error):
                pass  # it is being made
        time.sleep(0.02)
    pytest.fail("nothing was stored")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_scan_keeps_all_tracks_before(db, songs, tmp_path, jobs):
    music = tmp_path / "many"
    music.mkdir()
    for number in range(40):
        shutil.copyfile(songs / f"{number % 4}.flac", music / f"{number}.flac")
    process = start("library", "scan", music, "--db", db, "--jobs", str(jobs))
    wait_for_tracks(db, 3)
    process.send_signal(signal.SIGSTOP)  # so that it cannot finish before it is killed, however slow this process is
    second = invoke("library", "scan", music, "--db", db)
    assert second.code == 1
    assert "in use by process" in second.err
    assert len(second.err.splitlines()) == 1
    assert invoke("library", "stats", "--db", db).code == 0, "readers are not blocked"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with database.read(db) as connection:
        stored = connection.execute("SELECT count(*) FROM taggings").fetchone()[0]
        assert database.faults(connection) == []
    assert 3 <= stored < 40
    plan, _ = run(db, music)
    assert len(plan.files) == 40 - stored
    assert len(rows(db)) == 40


def test_an_interrupted_scan_goes_on(db, songs, tmp_path):
    music = tmp_path / "many"
    music.mkdir()
    for number in range(40):
        shutil.copyfile(songs / f"{number % 4}.flac", music / f"{number}.flac")
    process = start("library", "scan", music, "--db", db, "--jobs", "1")
    wait_for_tracks(db, 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    result = invoke("library", "scan", "--db", db, "--jobs", 1)
    assert result.code == 0
    assert len(rows(db)) == 40


def test_a_failed_new_tagging_keeps_what_other_models_gave(db, music, cp_model):
    run(db, music)
    (before,) = rows(db, "digest, title, artist", "path LIKE '%0.flac'")
    state = scan.FileState(music / "0.flac", (music / "0.flac").stat().st_size, int(1e18))
    with database.write(db) as connection:
        scan.store_error(connection, state, AudioError("unreadable", "a disk error"))
        (count,) = connection.execute("SELECT count(*) FROM taggings").fetchone()
    assert count == len(list(music.iterdir()))
    assert rows(db, "digest, title, artist, reason", "path LIKE '%0.flac'") == [(*before, "unreadable")]


def test_a_file_that_goes_between_tagging_and_digest_is_one_line(db, music, monkeypatch):
    def vanish(path: Path) -> str:
        path.unlink()
        raise FileNotFoundError(2, "No such file or directory")

    real = analysis.files.sha256
    monkeypatch.setattr(analysis.files, "sha256", lambda path: vanish(path) if path.name == "1.flac" else real(path))
    _, errors = run(db, music)
    assert list(errors) == ["1.flac"]
    assert len(rows(db)) == 3


def test_words_find_tracks_beside_names_that_are_no_utf8(db, music):
    (music / "0.flac").rename(os.fsdecode(bytes(music) + b"/caf\xe9.flac"))
    run(db, music)
    with database.read(db) as connection:
        assert tracks.locate(connection, "2").path.endswith("2.flac")
        assert os.fsencode(tracks.locate(connection, "caf").path).endswith(b"caf\xe9.flac")
        assert len(tracks.select(connection, Filter(path="MUSIC"))) == 4


def test_watching_stays_below_the_folder_and_ignores_the_database(tmp_path):
    folder, library = tmp_path / "music", tmp_path / "music" / "library.db"
    folder.mkdir()
    assert watch._existing(str(folder), [folder]) == folder
    assert watch._existing(str(folder / "gone" / "a.flac"), [folder]) == folder
    for name in ("library.db", "library.db-wal", "library.db.lock"):
        assert not watch.is_music(str(folder / name), library)
    assert watch.is_music(str(folder / "a.flac"), library)
    assert watch.is_music(str(folder / "album"), library)
