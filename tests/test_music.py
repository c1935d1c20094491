"""The manifest of free music, and bringing its files from unpacked packages."""

import hashlib
import importlib.util
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from moodfield.distillation import manifest

MUSIC = Path(__file__).parent.parent / "music"


@pytest.fixture
def unpack() -> ModuleType:
    spec = importlib.util.spec_from_file_location("unpack", MUSIC / "unpack.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(path: str, content: bytes) -> dict[str, str]:
    return {"path": path, "sha1": hashlib.sha1(content, usedforsecurity=False).hexdigest()}


def test_files_come_from_the_package_and_from_archives_within_it(unpack: ModuleType, tmp_path: Path) -> None:
    source, target = tmp_path / "from" / "game", tmp_path / "to" / "game"
    (source / "usr/share").mkdir(parents=True)
    (source / "usr/share/one.ogg").write_bytes(b"one")
    with zipfile.ZipFile(source / "usr/share/pack.pk3", "w") as archive:
        archive.writestr("music/two.ogg", b"two")
    rows = [row("usr/share/one.ogg", b"one"), row("_pack/music/two.ogg", b"two")]
    assert unpack.unpack(rows, source, target) == []
    assert (target / "usr/share/one.ogg").read_bytes() == b"one"
    assert (target / "_pack/music/two.ogg").read_bytes() == b"two"


def test_another_file_and_a_missing_one_are_listed_and_not_written(unpack: ModuleType, tmp_path: Path) -> None:
    source, target = tmp_path / "from", tmp_path / "to"
    source.mkdir()
    (source / "one.ogg").write_bytes(b"something else")
    faults = unpack.unpack([row("one.ogg", b"one"), row("two.ogg", b"two")], source, target)
    assert len(faults) == 2
    assert "another file" in faults[0]
    assert "missing" in faults[1]
    assert not [path for path in target.rglob("*") if path.is_file()]


def test_an_unknown_package_is_a_usage_error(unpack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["unpack.py", "no-such-package"])
    with pytest.raises(SystemExit, match="2"):
        unpack.main()


def test_the_manifest_holds_packages_out_whole() -> None:
    music = manifest.read_manifest(MUSIC / "manifest.tsv")
    assert (len(music.train.tracks), len(music.heldout.tracks)) == (706, 139)
    packages = [{track.path.partition("/")[0] for track in split.tracks} for split in (music.train, music.heldout)]
    assert not packages[0] & packages[1]
    assert set(music.licences) == packages[0] | packages[1]
    assert all(music.licences.values())
