"""Moods in file tags: every format with every kind of other tags, and what readers find."""

import hashlib
import json
import subprocess
from pathlib import Path

import mediafile
import mutagen
import pytest
from mutagen import id3

import audio_files
from audio_files import CONTENTS, FORMATS
from moodfield.errors import FileTagsError
from moodfield.file_tags import fields, formats, journal, plan, verification, writing
from moodfield.file_tags.fields import COMMENT, MOOD, SCORES, THEME
from moodfield.file_tags.plan import Mode, WriteConfig
from moodfield.file_tags.writing import Job

VALUES = {MOOD: ("calm", "dark"), THEME: ("film",)}
NAVIDROME = ("TMOO", "MOOD", "----:com.apple.iTunes:MOOD", "WM/Mood")
"""names of the tag `mood` in Navidrome's resources/mappings.yaml; TagLib gives TXXX:MOOD and APEv2's Mood as MOOD"""


def write(path: Path, values=VALUES, config: WriteConfig | None = None, run: int = 1) -> writing.Written:
    return writing.write_file(path, values, Job(config or WriteConfig(), path.parent / "journal.db", run))


def undo(path: Path) -> None:
    with journal.connect(path.parent / "journal.db") as connection:
        (number,) = journal.last_run(connection, [path])
        writing.undo_file(journal.read(connection, number))
        journal.remove(connection, number)


def decoded(path: Path) -> str:
    """A digest of the samples that ffmpeg decodes."""
    words = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:a", "-f", "s16le", "-"]
    return hashlib.sha256(subprocess.run(words, check=True, capture_output=True).stdout).hexdigest()


def probed(path: Path) -> dict[str, str]:
    """The tags that ffprobe reads, with names in lower case."""
    words = ["ffprobe", "-v", "error", "-show_entries", "format_tags:stream_tags", "-of", "json", str(path)]
    found = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    groups = [found.get("format", {}), *found.get("streams", [])]
    return {key.lower(): value for group in groups for key, value in group.get("tags", {}).items()}


def raw_frames(path: Path) -> list[bytes]:
    """The frames of an ID3v2 tag at the start of a file as they are, sorted, but for those of moods and themes."""
    data = path.read_bytes()
    version, size = data[3], int("".join(f"{digit:07b}" for digit in data[6:10]), 2)
    bits, data, frames = 7 if version == 4 else 8, data[10 : 10 + size], []
    while data[:4].strip(b"\0"):
        size = 10 + sum(digit << bits * (3 - place) for place, digit in enumerate(data[4:8]))
        frames.append(data[:size])
        data = data[size:]
    return sorted(
        frame for frame in frames if b"TMOO" not in frame[:4] and b"THEME" not in frame and b"MOOD" not in frame
    )


def all_tags(path: Path) -> dict[str, object]:
    """Everything that mutagen reads, without moods and themes."""
    file = mutagen.File(path)
    pairs = [(key, value) for key in (file.tags.keys() if file.tags else ()) for value in [file.tags[key]]]
    names = ("mood", "theme", "tmoo")
    rest = {str(key): repr(value) for key, value in pairs if not str(key).casefold().endswith(names)}
    pictures = {"pictures": [picture.write() for picture in getattr(file, "pictures", [])]}
    return rest | (pictures if pictures["pictures"] else {})


class BeetsFile(mediafile.MediaFile):
    """The reader of beets, with a field for moods by its own styles of storage."""


BeetsFile.add_field(
    "moods",
    mediafile.ListMediaField(
        mediafile.MP3ListStorageStyle("TMOO"), mediafile.MP3ListDescStorageStyle("MOOD"),
        mediafile.MP4ListStorageStyle("----:com.apple.iTunes:MOOD"), mediafile.ListStorageStyle("MOOD"),
        mediafile.ASFStorageStyle("WM/Mood"),
    ),
)  # fmt: skip


def beets_moods(path: Path) -> list[str]:
    """The moods that beets' reader finds."""
    value = BeetsFile(path).moods
    return [part for text in ([value] if isinstance(value, str) else value or []) for part in text.split("; ")]


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", FORMATS)
def test_moods_are_written_and_nothing_else_changes(tmp_path, name, content):
    path = audio_files.make(tmp_path / "x", name, content)
    before, sound, tags = path.read_bytes(), decoded(path), all_tags(path)
    frames = raw_frames(path) if before.startswith(b"ID3") else []
    result = write(path)
    assert result.is_change
    assert path.read_bytes() != before
    assert decoded(path) == sound
    if not (name == "wav" and content in ("tags", "cover", "both", "odd")):
        assert all_tags(path) == tags
    if frames:
        assert raw_frames(path) == frames
        assert path.read_bytes()[-128:] == before[-128:]
    tags = formats.open_file(path)
    assert tags.read(MOOD) == (("calm; dark",) if before[:4] == b"ID3\3" else ("calm", "dark"))
    assert fields.values(THEME, tags.read(THEME)) == ("film",)
    assert sorted(path.parent.glob("*.part")) == []
    undo(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", FORMATS)
def test_readers_find_moods(tmp_path, name):
    path = audio_files.make(tmp_path / "x", name, "tags")
    write(path)
    if name != "wav":  # in which ffprobe reads no ID3
        values = probed(path)
        text = next(values[key] for key in ("mood", "tmoo", "wm/mood") if key in values)
        assert text.replace(";", " ").split() in (["calm", "dark"], ["calm"], ["dark"]), "of MP4 and WMA it reads one"
    assert beets_moods(path) == ["calm", "dark"]
    file = mutagen.File(path)
    keys = {str(key).removeprefix("TXXX:").upper() for key in file.tags.keys()}  # noqa: SIM118
    assert keys & {key.upper() for key in NAVIDROME}


@pytest.mark.parametrize("name", FORMATS)
def test_kodi_reads_the_first_value_alone(tmp_path, name):
    path = audio_files.make(tmp_path / "x", name, "tags")
    config = WriteConfig(fields.PRESETS["kodi"])
    write(path, plan.wanted(plan.TrackTags(("calm", "dark"), ("film",)), config), config)
    tags = formats.open_file(path)
    assert tags.read(MOOD) == ("calm; dark",)
    assert tags.read(THEME) == ()


@pytest.mark.parametrize("name", FORMATS)
def test_comments_keep_their_text(tmp_path, name):
    path = audio_files.make(tmp_path / "x", name, "tags")
    tags = formats.open_file(path)
    tags.change(COMMENT, ["bought in 1999"])
    tags.save()
    config = WriteConfig(fields.PRESETS["rekordbox"], Mode.OVERWRITE)
    for moods, expected in ((("calm", "dark"), "[MOOD: calm; dark]"), (("slow",), "[MOOD: slow]")):
        write(path, plan.wanted(plan.TrackTags(moods, ("film",)), config), config)
        (text,) = formats.open_file(path).read(COMMENT)
        assert text == f"bought in 1999 {expected}"
    removing = WriteConfig(fields.PRESETS["rekordbox"], Mode.REMOVE)
    write(path, plan.wanted(plan.TrackTags(), removing), removing)
    assert formats.open_file(path).read(COMMENT) == ("bought in 1999",)


@pytest.mark.parametrize("name", FORMATS)
def test_modes(tmp_path, name):
    path = audio_files.make(tmp_path / "x", name, "tags")
    write(path, {MOOD: ("Happy", "calm")})
    assert not write(path).changes[0].is_change
    write(path, {MOOD: ("happy", "dark")}, WriteConfig(mode=Mode.MERGE))
    assert fields.values(MOOD, formats.open_file(path).read(MOOD)) == ("Happy", "calm", "dark")
    assert not write(path, {MOOD: ()}, WriteConfig(mode=Mode.OVERWRITE)).is_change
    write(path, {MOOD: ("slow",)}, WriteConfig(mode=Mode.OVERWRITE))
    assert formats.open_file(path).read(MOOD) == ("slow",)
    write(path, {MOOD: ("slow", "odd word")}, WriteConfig(mode=Mode.OVERWRITE))
    write(path, {MOOD: (), THEME: ()}, WriteConfig(mode=Mode.REMOVE, vocabulary=frozenset({"slow"})))
    assert formats.open_file(path).read(MOOD) == ("odd word",)


def test_scores_have_a_field_of_their_own(tmp_path):
    path = audio_files.make(tmp_path / "x", "mp3-2.3", "tags")
    scores = json.dumps({"calm": 0.9, "dark": 0.1})
    write(path, plan.wanted(plan.TrackTags(("calm",), (), scores), WriteConfig()))
    assert formats.open_file(path).read(SCORES) == (scores,)
    assert formats.open_file(path).read(MOOD) == ("calm",)


def test_a_frame_of_the_other_version_agrees(tmp_path):
    path = audio_files.make(tmp_path / "x", "mp3-2.4", "tags")
    tags = id3.ID3(path)
    tags.add(id3.TXXX(encoding=0, desc="Mood", text=["old"]))
    tags.save(path)
    assert write(path).changes[0].old == ("old",)
    write(path, config=WriteConfig(mode=Mode.OVERWRITE))
    tags = id3.ID3(path)
    assert (tags["TMOO"].text, tags["TXXX:MOOD"].text, "TXXX:Mood" in tags) == (["calm", "dark"], ["calm; dark"], False)


def test_old_versions_of_id3(tmp_path):
    plain = audio_files.make(tmp_path / "x", "mp3-2.4", "none").read_bytes()
    sound = plain[10 + int("".join(f"{digit:07b}" for digit in plain[6:10]), 2) :] if plain[:3] == b"ID3" else plain
    title = b"TT2\0\0\x06\0Title"
    old = tmp_path / "old.mp3"
    old.write_bytes(b"ID3\2\0\0\0\0\0" + bytes([len(title)]) + title + sound)
    write(old)
    tags = id3.ID3(old, translate=False)
    assert (tags.version[1], tags["TIT2"].text, tags["TXXX:MOOD"].text) == (3, ["Title"], ["calm; dark"])
    oldest = tmp_path / "oldest.mp3"
    oldest.write_bytes(sound)
    audio_files.add_id3v1(oldest, "A title")
    before = oldest.read_bytes()
    write(oldest)
    assert id3.ID3(oldest)["TIT2"].text == ["A title"], "players read ID3v2 only, if there is one"
    assert oldest.read_bytes()[-128:] == before[-128:]
    undo(oldest)
    assert oldest.read_bytes() == before


def test_ape_tags_of_an_mp3_are_not_hidden(tmp_path):
    from mutagen import apev2

    path = audio_files.make(tmp_path / "x", "mp3-2.4", "none")
    id3.delete(path)
    ape = apev2.APEv2()
    ape["Title"] = "A title"
    ape.save(path)
    write(path)
    assert not path.read_bytes().startswith(b"ID3")
    assert dict(apev2.APEv2(path)) == {"Title": "A title", "MOOD": ["calm", "dark"], "THEME": "film"} or {
        key.lower(): list(value) for key, value in apev2.APEv2(path).items()
    } == {"title": ["A title"], "mood": ["calm", "dark"], "theme": ["film"]}


def test_info_of_a_wav_is_not_hidden(tmp_path):
    path = audio_files.make(tmp_path / "x", "wav", "tags")
    write(path)
    tags = mutagen.File(path).tags
    assert str(tags["TIT2"]) == audio_files.TAGS["title"]
    assert str(tags["TPE1"]) == audio_files.TAGS["artist"]
    assert probed(path)["title"] == audio_files.TAGS["title"]


def test_frames_that_mutagen_cannot_read_are_not_lost(tmp_path):
    path = audio_files.make(tmp_path / "x", "mp3-2.4", "tags")
    data = bytearray(path.read_bytes())
    place = data.index(b"TALB")
    data[place : place + 4], data[place + 10] = b"APIC", 0  # a picture without all that belongs to one
    data[place + 11 : place + 16] = b"image"
    path.write_bytes(data)
    with pytest.raises(FileTagsError, match="APIC"):
        write(path)
    assert path.read_bytes() == data


@pytest.mark.parametrize("content", [b"", b"no audio", b"ID3\4\0\0\x7f\x7f\x7f\x7f", b"fLaC\0\0", b"OggS" * 9])
def test_other_files_are_one_error(tmp_path, content):
    path = tmp_path / "x.mp3"
    path.write_bytes(content)
    with pytest.raises(FileTagsError):
        write(path)
    assert path.read_bytes() == content


def test_changed_audio_is_noticed(tmp_path):
    for name in ("flac", "ogg", "m4a-alac", "mp3-2.4"):
        path = audio_files.make(tmp_path / f"x-{name}", name, "none")
        other = path.with_stem("other")
        data = bytearray(path.read_bytes())
        data[-3000] ^= 0x55
        other.write_bytes(data)
        with pytest.raises(FileTagsError):
            verification.check_same_audio(path, other)


def test_renames_and_words():
    tags = plan.TrackTags(("calm", "dark", "slow"), ("film", "party"))
    config = WriteConfig(include=frozenset({"calm", "slow", "film"}), rename={"calm": "Relaxed", "slow": "relaxed"})
    assert plan.wanted(tags, config) == {MOOD: ("Relaxed",), THEME: ("film",)}
    assert plan.wanted(tags, WriteConfig(moods_only=True)) == {MOOD: ("calm", "dark", "slow")}
    assert plan.parse_renames(["a = b"]) == {"a": "b"}


@pytest.mark.parametrize("name", ["mp3-2.3", "mp3-2.4", "flac", "ogg", "opus"])
def test_some_formats_need_no_decoding(tmp_path, name, monkeypatch):
    monkeypatch.setattr(verification, "_decoded", None)
    path = audio_files.make(tmp_path / "x", name, "odd")
    assert write(path).is_change
    data = bytearray(path.read_bytes())
    data[-2_000] ^= 0x55
    other = path.with_stem("other")
    other.write_bytes(data)
    assert verification._encoded(path) != verification._encoded(other)
