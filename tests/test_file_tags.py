"""Moods in file tags: every format with every kind of other tags, and what readers find."""

import contextlib
import hashlib
import json
import subprocess
from pathlib import Path

import av
import mediafile
import mutagen
import pytest
from mutagen import apev2, id3
from mutagen.ogg import OggPage

import audio_files
from audio_files import CONTENTS, FORMATS
from moodfield.errors import FileTagsError
from moodfield.file_tags import fields, formats, journal, plan, verification, writing
from moodfield.file_tags.fields import COMMENT, MOOD, SCORES, THEME
from moodfield.file_tags.plan import Mode, Wanted, WriteConfig
from moodfield.file_tags.writing import Job

VALUES = {MOOD: Wanted(("calm", "dark")), THEME: Wanted(("film",))}
SOME_FORMATS = ("mp3-2.3", "mp3-2.4", "flac", "m4a-aac", "wma", "wv")
"""one of each kind of tags"""
NAVIDROME = ("TMOO", "MOOD", "----:com.apple.iTunes:MOOD", "WM/Mood")
"""names of the tag `mood` in Navidrome's resources/mappings.yaml; TagLib gives TXXX:MOOD and APEv2's Mood as MOOD"""


def write(path: Path, values=VALUES, config: WriteConfig | None = None, run: int = 1) -> writing.Written:
    return writing.write_file(path, values, Job(config or WriteConfig(), path.parent / "journal.db", run))


def undo(path: Path) -> None:
    with journal.connect(path.parent / "journal.db") as connection:
        (number,) = journal.last_run(connection, [path]).numbers
        writing.undo_file(journal.read(connection, number))
        journal.remove(connection, number)


def decoded(path: Path) -> str:
    """A digest of the samples that FFmpeg decodes."""
    digest = hashlib.sha256()
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            digest.update(frame.to_ndarray().tobytes())
    return digest.hexdigest()


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
    after = all_tags(path)
    assert tags.items() <= after.items()
    assert name == "wav" or after == tags, "a WAV gets what its INFO list has"
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


@pytest.mark.parametrize("name", SOME_FORMATS)
def test_kodi_reads_the_first_value_alone(tmp_path, name):
    path = audio_files.make(tmp_path / "x", name, "tags")
    config = WriteConfig(fields.PRESETS["kodi"])
    write(path, plan.wanted(plan.TrackTags(("calm", "dark"), ("film",)), config), config)
    tags = formats.open_file(path)
    assert tags.read(MOOD) == ("calm; dark",)
    assert tags.read(THEME) == ()


@pytest.mark.parametrize("name", SOME_FORMATS)
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
    removing = WriteConfig(fields.PRESETS["rekordbox"], Mode.REMOVE, vocabulary=frozenset({"slow"}))
    write(path, plan.wanted(plan.TrackTags(), removing), removing)
    assert formats.open_file(path).read(COMMENT) == ("bought in 1999",)


@pytest.mark.parametrize("name", SOME_FORMATS)
def test_modes(tmp_path, name):
    path = audio_files.make(tmp_path / "x", name, "tags")
    write(path, {MOOD: Wanted(("Happy", "calm"))})
    assert not write(path).changes[0].is_change
    write(path, {MOOD: Wanted(("happy", "dark"))}, WriteConfig(mode=Mode.MERGE))
    assert fields.values(MOOD, formats.open_file(path).read(MOOD)) == ("Happy", "calm", "dark")
    assert not write(path, {MOOD: Wanted()}, WriteConfig(mode=Mode.OVERWRITE)).is_change
    write(path, {MOOD: Wanted(("slow",))}, WriteConfig(mode=Mode.OVERWRITE))
    assert formats.open_file(path).read(MOOD) == ("slow",)
    write(path, {MOOD: Wanted(("slow", "odd word"))}, WriteConfig(mode=Mode.OVERWRITE))
    write(path, {MOOD: Wanted(), THEME: Wanted()}, WriteConfig(mode=Mode.REMOVE, vocabulary=frozenset({"slow"})))
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
    path = audio_files.make(tmp_path / "x", "mp3-2.4", "none")
    id3.delete(path)
    ape = apev2.APEv2()
    ape["Title"] = "A title"
    ape.save(path)
    write(path)
    assert not path.read_bytes().startswith(b"ID3")
    items = {key.lower(): list(value) for key, value in apev2.APEv2(path).items()}
    assert items == {"title": ["A title"], "mood": ["calm", "dark"], "theme": ["film"]}


def test_info_of_a_wav_is_not_hidden(tmp_path):
    path = audio_files.make(tmp_path / "x", "wav", "tags")
    write(path)
    tags = mutagen.File(path).tags
    assert str(tags["TIT2"]) == audio_files.TAGS["title"]
    assert str(tags["TPE1"]) == audio_files.TAGS["artist"]
    assert probed(path)["title"] == audio_files.TAGS["title"]


def frame(name: str, body: bytes, flags: bytes = b"\0\0", version: int = 4) -> bytes:
    """A frame of ID3v2."""
    bits = 7 if version == 4 else 8
    size = bytes(len(body) >> bits * place & ((1 << bits) - 1) for place in (3, 2, 1, 0))
    return name.encode() + size + flags + body


def with_frames(path: Path, *frames: bytes, version: int = 4, flags: int = 0, extended: bytes = b"") -> Path:
    """An MP3 file with an ID3v2 tag of these frames."""
    plain = audio_files.make(path, "mp3-2.4", "none").read_bytes()
    sound = plain[10 + int("".join(f"{digit:07b}" for digit in plain[6:10]), 2) :]
    data = extended + b"".join(frames) + bytes(20)
    size = bytes(len(data) >> 7 * place & 127 for place in (3, 2, 1, 0))
    path = path.with_suffix(".mp3")
    path.write_bytes(b"ID3" + bytes([version, 0, flags]) + size + data + sound)
    return path


DAMAGED = frame("APIC", b"\0image")
"""a picture without all that belongs to one"""
ODD_FRAMES = {
    "damaged": [DAMAGED],
    "a damaged one beside another": [frame("APIC", b"\0image/png\0\3\0data"), DAMAGED],
    "dates": [frame("TDRC", b"\0c. 1999"), frame("TDOR", b"\0unknown"), frame("TDRL", b"\x001999/12/31")],
    "two of one key": [
        frame("POPM", b"a@b\0\x40"),
        frame("POPM", b"a@b\0\x80"),
        frame("UFID", b"x\0y"),
        frame("UFID", b"x\0z"),
    ],
    "empty and unknown": [frame("TIT3", b"\0"), frame("XYZW", b"?"), frame("TIT1", b"\1\xff\xfe")],
    "chapters": [frame("CHAP", b"c\0" + bytes(16) + frame("TIT2", b"\x09x"))],
    "unsynchronised": [frame("PRIV", b"a\0\xff\0\xe0", b"\0\2")],
    "compressed": [frame("TXXX", b"?", b"\0\x08")],
}


@pytest.mark.parametrize("odd", ODD_FRAMES)
def test_odd_frames_stay(tmp_path, odd):
    frames = [frame("TIT2", b"\3Title"), *ODD_FRAMES[odd]]
    path = with_frames(tmp_path / "x", *frames)
    before = path.read_bytes()
    write(path)
    assert raw_frames(path) == sorted(frames)
    assert formats.open_file(path).read(MOOD) == ("calm", "dark")
    undo(path)
    assert path.read_bytes() == before


def test_tags_of_other_forms(tmp_path):
    title, private = frame("TIT2", b"\0Title", version=3), frame("PRIV", b"a\0\xff\xe0" + bytes(200), version=3)
    extended = b"\0\0\0\6" + bytes(6)
    unsynchronised = b"".join((title, private)).replace(b"\xff", b"\xff\0")
    for number, path in enumerate(
        [
            with_frames(tmp_path / "extended", title, private, version=3, flags=0x40, extended=extended),
            with_frames(tmp_path / "unsynchronised", unsynchronised, version=3, flags=0x80),
        ]
    ):
        write(path, run=number)
        assert raw_frames(path) == sorted([title, private])
        assert formats.open_file(path).read(MOOD) == ("calm; dark",)
    itunes = with_frames(tmp_path / "itunes", title, private)  # sizes of version 3 in version 4
    write(itunes)
    assert raw_frames(itunes) == sorted(
        [title[:4] + b"\0\0\0\6" + title[8:], private[:4] + b"\0\0\1\x4c" + private[8:]]
    )
    all_frames = with_frames(tmp_path / "all", frame("PRIV", b"a\0\xff\0\xe0"), flags=0x80)
    write(all_frames)
    assert raw_frames(all_frames) == [frame("PRIV", b"a\0\xff\0\xe0", b"\0\2")]


def test_damaged_tags_are_not_written(tmp_path):
    for path in (
        with_frames(tmp_path / "a", frame("TIT2", b"\0Title")[:-3], b"junk"),
        with_frames(tmp_path / "b", b"TT2\0\0\6\0Title", b"TT2\0\0\6\0Title", version=2),
    ):
        before = path.read_bytes()
        with pytest.raises(FileTagsError, match="damaged"):
            write(path)
        assert path.read_bytes() == before


def test_comments_of_other_languages_stay(tmp_path):
    one, two = frame("COMM", b"\0eng\0one"), frame("COMM", b"\0deu\0zwei")
    config = WriteConfig(fields.PRESETS["rekordbox"], Mode.OVERWRITE)
    path = with_frames(tmp_path / "x", two, one)
    for mood in ("calm", "dark"):
        write(path, {COMMENT: Wanted((mood,))}, config)
        assert raw_frames(path) == [two] or sorted(str(comment) for comment in id3.ID3(path).getall("COMM")) == [
            f"one [MOOD: {mood}]", "zwei"
        ]  # fmt: skip
    write(
        path,
        {COMMENT: Wanted(())},
        WriteConfig(fields.PRESETS["rekordbox"], Mode.REMOVE, vocabulary=frozenset({"dark"})),
    )
    assert raw_frames(path) == sorted([one, two])


def test_own_words_stay(tmp_path):
    path = with_frames(tmp_path / "x", frame("TMOO", b"\0calm"), frame("TXXX", b"\0MOOD\0my own"))
    assert formats.open_file(path).read(MOOD) == ("calm", "my own")
    write(path, {MOOD: Wanted(("dark",))}, WriteConfig(mode=Mode.MERGE))
    assert formats.open_file(path).read(MOOD) == ("calm", "my own", "dark")
    removing = WriteConfig(mode=Mode.REMOVE, vocabulary=frozenset({"calm", "dark"}))
    write(path, plan.wanted(plan.TrackTags(), removing), removing)
    assert formats.open_file(path).read(MOOD) == ("my own",)
    commented = with_frames(tmp_path / "y", frame("COMM", b"\0eng\0nice [MOOD: my own; calm]"))
    write(commented, plan.wanted(plan.TrackTags(), removing), removing)
    assert formats.open_file(commented).read(COMMENT) == ("nice [MOOD: my own]",)


@pytest.mark.parametrize("name", FORMATS)
def test_a_second_time_nothing_changes(tmp_path, name):
    path = audio_files.make(tmp_path / "x", name, "tags")
    config = WriteConfig(mode=Mode.OVERWRITE)
    assert write(path, config=config).is_change
    assert not write(path, config=config).is_change
    assert write(path, {MOOD: Wanted((), frozenset({"dark"}))}, config).changes[0].new == ("calm",)
    assert write(path, {MOOD: Wanted((), frozenset({"calm"}))}, config).changes[0].new == ()
    assert formats.open_file(path).read(MOOD) == (), "a person has removed all of them"


@pytest.mark.parametrize("name", ["flac", "ogg", "opus"])
def test_comments_that_are_no_utf8_stay(tmp_path, name):
    path = audio_files.make(tmp_path / "x", name, "tags")
    tags = formats.open_file(path)
    odd = [b"ARTIST=\xd5\xee\xf0", b"=value", "Künstler=a".encode(), b"no equals sign"]
    tags._comments += odd
    tags.save()
    before = formats.open_file(path)._comments
    assert before[-4:] == odd
    write(path)
    assert [
        comment for comment in formats.open_file(path)._comments if not comment.startswith((b"MOOD=", b"THEME="))
    ] == before


def test_tags_behind_an_ape_tag_stay(tmp_path):
    block = b"TAG" + b"A title".ljust(124, b"\0") + b"\x11"
    for name in ("mp3-2.4", "wv"):
        for tail in (block, b"LYRICSBEGININD0000200" + b"000021LYRICS200" + block):
            path = audio_files.make(tmp_path / f"{name}-{len(tail)}", name, "none")
            id3.delete(path)
            if name == "mp3-2.4" or len(tail) > 128:
                ape = apev2.APEv2()
                ape["REPLAYGAIN_TRACK_GAIN"] = "-3.21 dB"
                ape.save(path)
            with path.open("ab") as file:
                file.write(tail)
            write(path)
            assert path.read_bytes().endswith(b"APETAGEX" + path.read_bytes()[-len(tail) - 24 : -len(tail)] + tail)
            assert list(apev2.APEv2(path)["Mood"]) == ["calm", "dark"]


def test_info_of_the_code_page_of_windows(tmp_path):
    path = audio_files.make(tmp_path / "x", "wav", "tags")
    data = path.read_bytes()
    title = audio_files.TAGS["title"].encode()
    assert title in data
    path.write_bytes(data.replace(title, "Ein Stück".encode("cp1252").ljust(len(title), b"\0")))
    write(path)
    assert str(mutagen.File(path).tags["TIT2"]) == "Ein Stück"


def test_atoms_stay(tmp_path):
    path = audio_files.make(tmp_path / "x", "m4a-aac", "odd")
    before = formats._read_atoms(path)
    write(path)
    after = formats._read_atoms(path)
    assert before.items() < after.items()
    assert {key.rpartition(":")[2] for key in after.keys() - before.keys()} == {"MOOD", "THEME"}


def test_audio_on_the_page_of_the_headers(tmp_path):
    path = audio_files.make(tmp_path / "x", "ogg", "tags")
    pages = []
    with path.open("rb") as stream, contextlib.suppress(EOFError):
        while True:
            pages.append(OggPage(stream))
    headers, first, *rest = pages[1:]
    assert (headers.complete, len(headers.packets), first.complete) == (True, 2, True)
    headers.packets, first.packets, headers.position = headers.packets + first.packets[:2], first.packets[2:], 128
    path.write_bytes(b"".join(page.write() for page in (pages[0], headers, first, *rest)))
    before, sound = path.read_bytes(), decoded(path)
    write(path)
    assert decoded(path) == sound
    undo(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", [".aac", ".caf", ".au", ".w64", ".mka"])
def test_formats_without_tags_are_one_error(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    codec = ["-c:a", "aac"] if suffix in (".aac", ".mka") else []
    words = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=300:d=1", *codec, str(path)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    before = path.read_bytes()
    with pytest.raises(FileTagsError, match="has no tags"):
        write(path)
    assert path.read_bytes() == before


def test_the_name_does_not_determine_the_format(tmp_path):
    song = audio_files.make(tmp_path / "x", "mp3-2.4", "tags")
    zeros = tmp_path / "zeros.mp3"
    id3.delete(song)
    zeros.write_bytes(bytes(700) + song.read_bytes())
    flac_file = audio_files.make(tmp_path / "x", "flac", "tags")
    with_id3 = tmp_path / "id3.flac"
    with_id3.write_bytes(b"ID3\4\0\0\0\0\0\x14" + bytes(20) + flac_file.read_bytes())
    for path in (zeros, with_id3):
        before = path.read_bytes()
        write(path)
        assert fields.values(MOOD, formats.open_file(path).read(MOOD)) == ("calm", "dark")
        undo(path)
        assert path.read_bytes() == before


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
    assert plan.wanted(tags, config) == {MOOD: Wanted(("Relaxed",)), THEME: Wanted(("film",))}
    assert plan.wanted(tags, WriteConfig(moods_only=True)) == {MOOD: Wanted(("calm", "dark", "slow"))}
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
