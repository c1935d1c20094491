"""The manifest of free music, and bringing its files from packages, folders and repositories."""

import hashlib
import importlib
import os
import re
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile as sf

from moodfield.datasets.download import RetryPolicy
from moodfield.distillation import manifest
from moodfield.distillation.manifest import KINDS, Piece
from moodfield.errors import UnknownNameError
from servers import Behavior, Server, serve

MUSIC = Path(__file__).parent.parent / "music"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SONG = np.random.default_rng(3).bytes(1_500_000)
AT = f"someone/songs/{COMMIT}/a%20folder/song%231.ogg"
LICENCES = re.compile(r"CC0|CC-BY|GPL|LGPL|BSD|MIT|Expat|Zlib|public-domain|Free-Art|EFF-Open|Drascula|Battle-Tanks")
"""beginnings of the licences that README.md names"""


@pytest.fixture
def fetch(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(MUSIC)
    return importlib.import_module("fetch")


@pytest.fixture
def mix(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(MUSIC)
    return importlib.import_module("mix")


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(**{AT: SONG}) as state:
        yield state


def piece(path: str, content: bytes, source: str = "debian") -> Piece:
    sha256 = hashlib.sha256(content).hexdigest()
    return Piece("train", "game", path, 60.0, "MIT", source=source, sha256=sha256)


def song(name: str = "song#1.ogg") -> Piece:
    return piece(name, SONG, f"github:someone/songs@{COMMIT}:a folder/{name}")


def places(fetch: ModuleType, folder: Path, *, github: str = "http://127.0.0.1:9", local: tuple[Path, ...] = ()):
    retry = RetryPolicy(attempts=2, pause=0.0, timeout=5.0)
    return fetch.Places(folder / "music", folder, local, github, retry)


def stored(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------- Debian packages


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The content of the only package, `game`, as stand-ins of apt-get and dpkg give it."""
    content, programs = tmp_path / "content", tmp_path / "programs"
    (content / "usr/share/doc/game").mkdir(parents=True)
    (content / "usr/share/doc/game/copyright").write_text("MIT")
    programs.mkdir()
    scripts = {
        "apt-get": f'echo "$@" >> {tmp_path}/calls; [ "$2" = game ] && echo deb > game_1.deb || '
        '{ echo "E: Unable to locate" >&2; exit 100; }',
        "dpkg": f'[ -f "$2" ] && cp -r {content}/. "$3"',
    }
    for name, script in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return content


def test_files_come_from_the_package_and_from_archives_within_it(fetch: ModuleType, apt: Path, tmp_path: Path) -> None:
    (apt / "usr/share/one.ogg").write_bytes(b"one")
    with zipfile.ZipFile(apt / "usr/share/pack.pk3", "w") as archive:
        archive.writestr("music/two.ogg", b"two")
    with zipfile.ZipFile(apt / "usr/share/game.love", "w") as archive:
        archive.writestr("three.ogg", b"three")
    contents = {"usr/share/one.ogg": b"one", "_pack/music/two.ogg": b"two", "_game/three.ogg": b"three"}
    pieces = [piece(path, content) for path, content in contents.items()]
    for _ in range(2):
        assert fetch.fetch("game", pieces, places(fetch, tmp_path)) == []
    assert stored(tmp_path / "music/game") == sorted([*contents, "usr/share/doc/game/copyright"])
    assert all((tmp_path / "music/game" / path).read_bytes() == content for path, content in contents.items())
    assert (tmp_path / "calls").read_text().splitlines() == ["download game"], "the second time all is there"
    assert stored(tmp_path / "debs") == ["game_1.deb"]
    assert not stored(tmp_path / "unpacked")


def test_another_file_and_a_missing_one_are_listed_and_not_written(
    fetch: ModuleType, apt: Path, tmp_path: Path
) -> None:
    (apt / "one.ogg").write_bytes(b"something else")
    (apt / "three.ogg").write_bytes(b"three")
    pieces = [piece("one.ogg", b"one"), piece("two.ogg", b"two"), piece("three.ogg", b"three")]
    faults = fetch.fetch("game", pieces, places(fetch, tmp_path))
    assert len(faults) == 2
    assert "another file" in faults[0]
    assert "missing" in faults[1]
    assert "three.ogg" in stored(tmp_path / "music/game")
    assert "one.ogg" not in stored(tmp_path / "music/game")


def test_a_package_that_apt_does_not_know_fails_once(fetch: ModuleType, apt: Path, tmp_path: Path) -> None:
    pieces = [replace(piece(name, b"one"), package="lost") for name in ("a.ogg", "b.ogg")]
    faults = fetch.fetch("lost", pieces, places(fetch, tmp_path))
    assert [fault.partition(":")[0] for fault in faults] == ["a.ogg", "b.ogg", "usr/share/doc/lost/copyright"]
    assert all("Unable to locate" in fault for fault in faults)
    assert (tmp_path / "calls").read_text().splitlines() == ["download lost", "update"]


def test_a_damaged_archive_or_file_is_listed_and_the_rest_is_brought(
    fetch: ModuleType, apt: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(apt / "pack.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("two.ogg", SONG)
    content = bytearray((apt / "pack.zip").read_bytes())
    content[5_000:5_100] = bytes(100)
    (apt / "pack.zip").write_bytes(content)
    (apt / "cut.pk3").write_bytes(b"PK")
    (apt / "one.ogg").write_bytes(b"one")
    (tmp_path / "music/game/folder.ogg").mkdir(parents=True)
    (apt / "folder.ogg").write_bytes(b"folder")
    pieces = [piece("_pack/two.ogg", SONG), piece("_cut/a.ogg", b"a"), piece("folder.ogg", b"folder")]
    faults = fetch.fetch("game", [*pieces, piece("one.ogg", b"one")], places(fetch, tmp_path))
    assert [fault.partition(":")[0] for fault in faults] == ["_pack/two.ogg", "_cut/a.ogg", "folder.ogg"]
    assert all("damaged" in fault for fault in faults[:2])
    assert stored(tmp_path / "music/game") == ["one.ogg", "usr/share/doc/game/copyright"]


def test_a_damaged_deb_is_downloaded_again_and_the_newest_is_taken(
    fetch: ModuleType, apt: Path, tmp_path: Path
) -> None:
    (apt / "one.ogg").write_bytes(b"one")
    debs, programs = tmp_path / "debs", tmp_path / "programs"
    debs.mkdir()
    for name, seconds in (("game_10.deb", 2_000), ("game_9.deb", 1_000)):
        (debs / name).write_text("damaged")
        os.utime(debs / name, (seconds, seconds))
    script = f'echo "$2" >> {tmp_path}/extracted; grep -q deb "$2" && ! grep -q damaged "$2" && cp -r {apt}/. "$3"'
    (programs / "dpkg").write_text(f"#!/bin/sh\n{script}\n")
    assert fetch.fetch("game", [piece("one.ogg", b"one")], places(fetch, tmp_path)) == []
    extracted = (tmp_path / "extracted").read_text().split()
    assert [Path(path).name for path in extracted] == ["game_10.deb", "game_1.deb"]
    assert stored(debs) == ["game_1.deb", "game_9.deb"]


def test_a_download_without_a_deb_is_listed(fetch: ModuleType, apt: Path, tmp_path: Path) -> None:
    (tmp_path / "programs/apt-get").write_text("#!/bin/sh\n")
    [fault, _] = fetch.fetch("game", [piece("one.ogg", b"one")], places(fetch, tmp_path))
    assert "brought no" in fault


def test_a_missing_copyright_file_is_brought(fetch: ModuleType, apt: Path, tmp_path: Path) -> None:
    (apt / "one.ogg").write_bytes(b"one")
    notice = tmp_path / "music/game/usr/share/doc/game/copyright"
    for _ in range(2):
        assert fetch.fetch("game", [piece("one.ogg", b"one")], places(fetch, tmp_path)) == []
        assert notice.read_text() == "MIT"
        notice.unlink()


def test_a_package_of_another_process_is_listed(fetch: ModuleType, apt: Path, tmp_path: Path) -> None:
    with fetch.files.lock(tmp_path / "unpacked/game.lock", what="it"):
        [fault] = fetch.fetch("game", [piece("one.ogg", b"one")], places(fetch, tmp_path))
    assert "in use" in fault


# ---------------------------------------------------------------- repositories


def test_files_of_repositories_are_downloaded_once(fetch: ModuleType, server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        assert fetch.fetch("game", [song()], places(fetch, tmp_path, github=server.url)) == []
    assert (tmp_path / "music/game/song#1.ogg").read_bytes() == SONG
    assert [request.path for request in server.requests] == [AT]


@pytest.mark.parametrize(
    ("behavior", "token"),
    [
        (Behavior(flip=70_000), "checksum"),
        (Behavior(code=404), "404"),
        (Behavior(cut=100_000, ranges=False), "received"),
    ],
)
def test_what_fails_is_listed_and_the_rest_is_brought(
    fetch: ModuleType, server: Server, tmp_path: Path, behavior: Behavior, token: str
) -> None:
    server.always[AT] = behavior
    server.files[AT.replace("%231", "2")] = SONG
    faults = fetch.fetch("game", [song(), song("song2.ogg")], places(fetch, tmp_path, github=server.url))
    assert len(faults) == 1
    assert token in faults[0]
    assert "song2.ogg" in stored(tmp_path / "music/game")
    assert "song#1.ogg" not in stored(tmp_path / "music/game")


def test_an_interrupted_run_resumes(fetch: ModuleType, server: Server, tmp_path: Path) -> None:
    server.queue(AT, Behavior(cut=900_000), Behavior(code=503), Behavior(code=503))
    here = places(fetch, tmp_path, github=server.url)
    assert len(fetch.fetch("game", [song()], here)) == 1
    assert not (tmp_path / "music/game/song#1.ogg").exists()
    assert fetch.fetch("game", [song()], here) == []
    assert server.requests[-1].start == 900_000
    assert (tmp_path / "music/game/song#1.ogg").read_bytes() == SONG


def test_local_folders_come_first_unless_their_file_is_wrong(fetch: ModuleType, server: Server, tmp_path: Path) -> None:
    wrong, right = tmp_path / "wrong/game/song#1.ogg", tmp_path / "right/game/song#1.ogg"
    for path, content in ((wrong, SONG[:-1]), (right, SONG)):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    local = wrong.parents[1], right.parents[1]
    assert fetch.fetch("game", [song()], places(fetch, tmp_path, local=local)) == []
    assert not server.requests
    (tmp_path / "music/game/song#1.ogg").unlink()
    assert fetch.fetch("game", [song()], places(fetch, tmp_path, github=server.url, local=local[:1])) == []
    assert len(server.requests) == 1


def test_an_unknown_source_is_listed(fetch: ModuleType, tmp_path: Path) -> None:
    pieces = [piece("a.ogg", b"a", source) for source in ("", "ftp://host/a.ogg", "github:one/two@main:a.ogg")]
    for item in pieces:
        [fault] = fetch.fetch("game", [item], places(fetch, tmp_path))
        assert "not known" in fault


@pytest.mark.parametrize("argument", ["no-such-package", "--github=http://example.org", "--github=ftp://127.0.0.1/"])
def test_wrong_arguments_are_usage_errors(fetch: ModuleType, monkeypatch: pytest.MonkeyPatch, argument: str) -> None:
    monkeypatch.setattr(sys, "argv", ["fetch.py", argument])
    with pytest.raises(SystemExit, match="2"):
        fetch.main()


def test_the_exit_code_says_whether_all_is_there(
    fetch: ModuleType, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    rows = [f"{item.split}\t{item.package}\t{item.path}\t60\tMIT\t{item.source}\t{item.sha256}" for item in (song(),)]
    rows.append(rows[0].replace("train\tgame", "heldout\talbum"))
    (tmp_path / "manifest.tsv").write_text("\n".join(["split\tpackage\tpath\tseconds\tlicence\tsource\tsha256", *rows]))
    monkeypatch.setattr(fetch, "MANIFEST", tmp_path / "manifest.tsv")
    monkeypatch.setattr(sys, "argv", ["fetch.py", "--to", str(tmp_path / "music"), "--github", server.url])
    monkeypatch.delenv("MOODFIELD_DATA", raising=False)
    server.queue(AT, Behavior(code=404))
    assert fetch.main() == 1
    captured = capsys.readouterr()
    assert "404" in captured.err
    assert captured.out.splitlines() == ["game: 1 files, 1 faults", "album: 1 files, 0 faults"]
    assert fetch.main() == 0


# ---------------------------------------------------------------- stems and scores


def stem(path: Path, samples: np.ndarray, rate: int = 8_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, rate, subtype="FLOAT")
    return path


def test_stems_are_summed(mix: ModuleType, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    long, short = rng.uniform(-0.4, 0.4, (100_000, 2)), rng.uniform(-0.4, 0.4, 70_001)
    stems = [stem(tmp_path / "long.wav", long), stem(tmp_path / "short.wav", short)]
    mix.mix(stems, tmp_path / "sum.part")
    samples, rate = sf.read(tmp_path / "sum.part")
    expected = long.copy()
    expected[: len(short)] += short[:, None]
    assert (rate, sf.info(tmp_path / "sum.part").subtype) == (8_000, "PCM_16")
    np.testing.assert_allclose(samples, expected, atol=2**-14)
    mix.mix(stems, tmp_path / "again.part")
    assert (tmp_path / "again.part").read_bytes() == (tmp_path / "sum.part").read_bytes()


def test_a_sum_that_would_clip_is_scaled(mix: ModuleType, tmp_path: Path) -> None:
    wave = np.sin(np.arange(80_000) / 7) * 0.9
    mix.mix([stem(tmp_path / "a.wav", wave), stem(tmp_path / "b.wav", wave)], tmp_path / "sum.flac")
    samples, _ = sf.read(tmp_path / "sum.flac")
    assert np.abs(samples).max() == pytest.approx(10 ** (-1 / 20), abs=1e-4)
    assert np.corrcoef(samples, wave)[0, 1] > 0.9999


def test_stems_of_other_formats_raise(mix: ModuleType, tmp_path: Path) -> None:
    stems = [stem(tmp_path / "a.wav", np.zeros(99)), stem(tmp_path / "b.wav", np.zeros(99), rate=16_000)]
    with pytest.raises(mix.MusicError, match="16000"):
        mix.mix(stems, tmp_path / "sum.flac")
    (tmp_path / "c.wav").write_bytes(b"no audio")
    with pytest.raises(mix.MusicError, match=r"c\.wav"):
        mix.mix([tmp_path / "c.wav"], tmp_path / "sum.flac")


def test_a_mix_is_complete_or_absent(
    fetch: ModuleType, apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stems = [
        stem(apt / "songs/a song/guitar.wav", np.zeros(900)),
        stem(apt / "songs/a song/song.wav", np.ones(900) / 2),
    ]
    content = b"".join(path.read_bytes() for path in stems)
    item = piece("a_song.flac", content, "mix:songs/a song/guitar.wav + songs/a song/song.wav")
    here, target = places(fetch, tmp_path), tmp_path / "music/game/a_song.flac"
    [fault] = fetch.fetch("game", [replace(item, sha256="0" * 64)], here)
    assert "SHA-256" in fault

    def dies(_: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("full")

    with monkeypatch.context() as patch:
        patch.setattr(fetch.mix, "mix", dies)
        assert "full" in fetch.fetch("game", [item], here)[0]
    assert stored(tmp_path / "music/game") == ["usr/share/doc/game/copyright"]
    assert fetch.fetch("game", [item], here) == []
    assert sf.info(target).frames == 900
    before = target.stat().st_mtime_ns
    assert fetch.fetch("game", [item], here) == []
    assert target.stat().st_mtime_ns == before, "it is kept"
    whole = target.read_bytes()
    target.write_bytes(whole[:-9])
    assert fetch.fetch("game", [item], here) == []
    assert target.read_bytes() == whole, "a damaged one is made again"
    with monkeypatch.context() as patch:
        patch.setitem(fetch.VERSIONS, "mix", "next")
        assert not fetch._is_complete(target, item), "one of another version is made again"
    assert fetch.fetch("game", [replace(item, sha256="0" * 64)], here), "other stems"


def test_scores_are_fetched_and_rendered(
    fetch: ModuleType, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def render(score: Path, target: Path) -> None:
        calls.append(score)
        target.write_bytes(score.read_bytes()[:9])

    monkeypatch.setattr(fetch.render, "render", render)
    item = replace(song(), path="tune.flac", source=f"render:github:someone/songs@{COMMIT}:a folder/song#1.ogg")
    for _ in range(2):
        assert fetch.fetch("game", [item], places(fetch, tmp_path, github=server.url)) == []
    assert (tmp_path / "music/game/tune.flac").read_bytes() == SONG[:9]
    assert [score.suffix for score in calls] == [".ogg"]


def test_without_programs_scores_are_left_out_with_one_message(
    fetch: ModuleType, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    item = song()
    row = f"train\tgame\t{item.path}\t60\tMIT\t{item.source}\t{item.sha256}"
    scores = [row.replace(item.path, f"{name}.flac", 1).replace("github:", "render:github:") for name in "ab"]
    scores[1] = scores[1].replace("train\tgame", "heldout\talbum")
    lines = ["split\tpackage\tpath\tseconds\tlicence\tsource\tsha256", row, *scores]
    (tmp_path / "manifest.tsv").write_text("\n".join(lines))
    monkeypatch.setattr(fetch, "MANIFEST", tmp_path / "manifest.tsv")
    monkeypatch.setattr(sys, "argv", ["fetch.py", "--to", str(tmp_path / "music"), "--github", server.url])
    monkeypatch.delenv("MOODFIELD_DATA", raising=False)
    monkeypatch.setitem(fetch.render.PROGRAMS, "no-such-program", "its-package")
    assert fetch.main() == 0
    captured = capsys.readouterr()
    assert captured.err.count("2 pieces") == captured.err.count("\n") == 1
    assert "its-package" in captured.err
    assert captured.out == "game: 1 files, 0 faults\nalbum: 0 files, 0 faults\n"


def test_a_missing_soundfont_is_named(fetch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch.render, "SOUNDFONTS", {f"{tmp_path}/none.sf2": "its-package"})
    assert "its-package" in fetch.render.missing_packages()
    (tmp_path / "a.mid").write_bytes(b"MThd")
    with pytest.raises(fetch.MusicError, match="its-package"):
        fetch.render.render(tmp_path / "a.mid", tmp_path / "a.flac")


def test_damaged_scores_raise(fetch: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.mxl"
    for content in (b"PK", b""):
        path.write_bytes(content)
        with pytest.raises(fetch.MusicError, match="damaged"):
            fetch.render.render(path, tmp_path / "a.flac")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "")
    with pytest.raises(fetch.MusicError, match="MusicXML"):
        fetch.render.render(path, tmp_path / "a.flac")


def test_programs_have_a_minimal_environment_and_end_with_their_children(
    fetch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "x")
    environment = fetch.render.run("sh", "-c", "env", home=tmp_path).decode()
    assert "SECRET" not in environment
    assert f"HOME={tmp_path}" in environment
    monkeypatch.setattr(fetch.render, "TIMEOUT_SECONDS", 0.5)
    with pytest.raises(fetch.MusicError, match="took more"):
        fetch.render.run("sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; wait", home=tmp_path)
    child = Path("/proc") / (tmp_path / "pid").read_text().strip() / "stat"
    for _ in range(100):
        if not child.exists() or child.read_text().split()[2] == "Z":
            return
        time.sleep(0.02)
    pytest.fail("the child is alive")


def test_recordings_are_cut(fetch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch.render, "LONGEST_SECONDS", 1)
    (tmp_path / "a.f32").write_bytes(bytes(8 * 44_101))
    assert fetch.render.cut(tmp_path / "a.f32")
    assert (tmp_path / "a.f32").stat().st_size == 8 * 44_100
    assert not fetch.render.cut(tmp_path / "a.f32")


def test_the_makefile_and_the_readme_name_what_plays_scores(fetch: ModuleType) -> None:
    for path in (MUSIC / "README.md", MUSIC.parent / "Makefile"):
        text = path.read_text(encoding="utf-8")
        for package in {*fetch.render.PROGRAMS.values(), *fetch.render.SOUNDFONTS.values()}:
            assert package in text
        assert path.suffix or all(soundfont in text for soundfont in fetch.render.SOUNDFONTS)


# ---------------------------------------------------------------- the manifest


@pytest.fixture(scope="module")
def music() -> manifest.Music:
    return manifest.read_manifest(MUSIC / "manifest.tsv")


def test_the_manifest_holds_packages_out_whole(music: manifest.Music) -> None:
    packages = [{track.path.partition("/")[0] for track in split.tracks} for split in (music.train, music.heldout)]
    assert not packages[0] & packages[1]
    assert set(music.licences) == packages[0] | packages[1]
    assert len(music.kinds) == len(music.tracks), "paths are unique"


def test_every_kind_is_known_and_held_out(music: manifest.Music) -> None:
    assert set(music.kinds.values()) <= set(KINDS)
    hours = music.hours("split", "kind")
    assert {kind for split, kind in hours if split == "heldout"} == set(music.kinds.values())


def test_every_track_has_a_source_and_its_own_checksum(music: manifest.Music, fetch: ModuleType) -> None:
    checksums = [item.sha256 for item in music.pieces]
    assert len(set(checksums)) == len(checksums)
    assert all(re.fullmatch("[0-9a-f]{64}", checksum) for checksum in checksums)
    for item in music.pieces:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", item.package)
        source = item.source.removeprefix("render:")
        assert source == "debian" or source.startswith(("mix:", "debian:")) or fetch.REPOSITORY.fullmatch(source), (
            source
        )
        assert item.seconds > 20, item.id
        assert LICENCES.match(item.licence), item.licence


def test_hours_of_the_readme_are_those_of_the_manifest(music: manifest.Music, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(MUSIC)
    summary = importlib.import_module("summary")
    text = (MUSIC / "README.md").read_text(encoding="utf-8")
    assert "\n".join(summary.tables(music)) in text, "run music/summary.py --update"


def test_hours_are_summed_by_columns(tmp_path: Path) -> None:
    path = tmp_path / "manifest.tsv"
    rows = ["train a 1 3600 MIT rock", "train a 2 1800 CC0-1.0 jazz", "heldout b 3 5400 MIT jazz"]
    lines = ["split package path seconds licence kind", *rows]
    path.write_text("\n".join(line.replace(" ", "\t") for line in lines))
    music = manifest.read_manifest(path)
    assert list(music.hours("kind").items()) == [(("jazz",), 2.0), (("rock",), 1.0)]
    assert music.hours("licence", "split")["MIT", "heldout"] == 1.5
    assert music.hours() == {(): 3.0}
    with pytest.raises(UnknownNameError, match="licence"):
        music.hours("license")


def test_optional_columns_have_defaults(tmp_path: Path) -> None:
    path = tmp_path / "manifest.tsv"
    path.write_text(
        "split\tkind\tpackage\tpath\tseconds\tlicence\ntrain\tjazz\ta\t1\t9\tMIT\nheldout\t\tb\t2\t9\tMIT\n"
    )
    music = manifest.read_manifest(path)
    assert music.kinds == {"a/1": "jazz", "b/2": manifest.UNKNOWN}
    assert {(item.artist, item.source, item.sha256) for item in music.pieces} == {("", "", "")}
