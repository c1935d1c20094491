"""Small audio files of every format by ffmpeg, with and without tags, for tests of what writes tags."""

import functools
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import mutagen
import pytest
from mutagen import apev2, asf, flac, id3, mp4
from mutagen.id3 import ID3

FORMATS = {
    "mp3-2.3": (".mp3", "libmp3lame", ["-id3v2_version", "3"]),
    "mp3-2.4": (".mp3", "libmp3lame", ["-id3v2_version", "4"]),
    "flac": (".flac", "flac", []),
    "ogg": (".ogg", "libvorbis", []),
    "opus": (".opus", "libopus", []),
    "m4a-aac": (".m4a", "aac", []),
    "m4a-alac": (".m4a", "alac", []),
    "wma": (".wma", "wmav2", []),
    "wav": (".wav", "pcm_s16le", []),
    "aiff": (".aiff", "pcm_s16be", ["-write_id3v2", "1"]),
    "wv": (".wv", "wavpack", []),
}
"""name → suffix, codec, and options of ffmpeg"""
CONTENTS = ("none", "tags", "cover", "both", "odd")
"""what files have besides audio"""
TAGS = {"title": "Ein Stück – 曲", "artist": "A; B", "album": "Album", "date": "1999", "comment": "bought in 1999"}


def make(path: Path, name: str, content: str) -> Path:
    """Make a file of two seconds; without ffmpeg the test is skipped."""
    if not shutil.which("ffmpeg"):
        pytest.skip("files of other formats: ffmpeg is not installed")
    suffix, codec, options = FORMATS[name]
    path = path.with_suffix(suffix)
    with_tags = content in ("tags", "both", "odd")
    path.write_bytes(_encoded(suffix, codec, tuple(options), with_tags=with_tags))
    if content in ("cover", "both", "odd"):
        add_cover(path, size=70_000 if content == "odd" else 500)
    if content == "odd":
        _make_odd(path, name)
    return path


@functools.cache
def _encoded(suffix: str, codec: str, options: tuple[str, ...], *, with_tags: bool) -> bytes:
    """An encoded file of two tones."""
    words = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=300:d=2", "-f", "lavfi", "-i", "sine=1000:d=2"]
    words += ["-filter_complex", "[0][1]amerge", "-c:a", codec, "-map_metadata", "-1", "-fflags", "+bitexact"]
    for key, value in TAGS.items() if with_tags else ():
        words += ["-metadata", f"{key}={value}"]
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        subprocess.run([*words, *options, str(path)], check=True, stdin=subprocess.DEVNULL)
        return path.read_bytes()


def png(size: int) -> bytes:
    """A PNG picture of about so many bytes: one pixel, and a chunk of text."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    text = chunk(b"tEXt", b"Comment\0" + b"moo " * (size // 4))
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixel = zlib.compress(b"\0\xff\0\0")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + text + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


def add_cover(path: Path, size: int) -> None:
    """Add a cover picture."""
    import base64

    file = mutagen.File(path)
    if file.tags is None:
        file.add_tags()
    picture = flac.Picture()
    picture.data, picture.mime, picture.type, picture.desc = png(size), "image/png", 3, "cover"
    if isinstance(file, flac.FLAC):
        file.add_picture(picture)
    elif isinstance(file, mp4.MP4):
        file.tags["covr"] = [mp4.MP4Cover(picture.data, mp4.MP4Cover.FORMAT_PNG)]
    elif isinstance(file, asf.ASF):
        head = b"\x03" + struct.pack("<I", len(picture.data)) + "image/png\0cover\0".encode("utf-16-le")
        file.tags["WM/Picture"] = [asf.ASFByteArrayAttribute(head + picture.data)]
    elif isinstance(file, apev2.APEv2File):
        file.tags["Cover Art (Front)"] = apev2.APEValue(b"cover.png\0" + picture.data, apev2.BINARY)
    elif isinstance(file.tags, ID3):
        file.tags.add(id3.APIC(encoding=0, mime="image/png", type=3, desc="cover", data=picture.data))
        _save_id3(file, path)
        return
    else:
        file.tags["METADATA_BLOCK_PICTURE"] = [base64.b64encode(picture.write()).decode()]
    file.save()


def _save_id3(file: mutagen.FileType, path: Path) -> None:
    """Save in the version that the file had."""
    version = 3 if path.suffix == ".mp3" and file.tags.version[1] == 3 else 4
    if version == 3:
        file.tags.update_to_v23()
    file.tags.save(path, v2_version=version, v23_sep=None)


def _make_odd(path: Path, name: str) -> None:
    """Add tags that are rare: frames that nobody knows, several values, binary items, other tags at the end."""
    file = mutagen.File(path)
    if isinstance(file.tags, ID3):
        file.tags.add(id3.PRIV(owner="someone", data=bytes(range(256))))
        file.tags.add(id3.COMM(encoding=1, lang="deu", desc="", text=["zweiter Kommentar"]))
        file.tags.add(id3.COMM(encoding=0, lang="eng", desc="iTunNORM", text=[" 00000A1B"]))
        file.tags.add(id3.TXXX(encoding=1, desc="ŠOMETHING", text=["x", "y"]))
        file.tags.add(id3.POPM(email="a@b", rating=196, count=7))
        file.tags.add(id3.UFID(owner="http://musicbrainz.org", data=b"0f2b"))
        file.tags.add(id3.RVA2(desc="album", channel=1, gain=-3.5, peak=0.9))
        file.tags.unknown_frames.append(b"XYZW" + struct.pack(">I", 5) + b"\0\0hello")
        file.tags._unknown_v2_version = 3 if name == "mp3-2.3" else 4
        _save_id3(file, path)
        if path.suffix == ".mp3":
            ape = apev2.APEv2()
            ape["REPLAYGAIN_TRACK_GAIN"] = "-3.21 dB"
            ape.save(path)
            with path.open("ab") as stream:
                stream.write(b"TAG" + b"an older title".ljust(124, b"\0") + b"\x11")
        return
    if isinstance(file, mp4.MP4):
        file.tags["----:org.example:KEY"] = [mp4.MP4FreeForm(b"\0\1\2", mp4.AtomDataType.IMPLICIT)]
        file.tags["trkn"], file.tags["cpil"], file.tags["\xa9grp"] = [(3, 12)], True, ["x", "y"]
    elif isinstance(file, asf.ASF):
        file.tags["WM/Genre"] = ["Jazz", "Blues"]
        file.tags["WM/Year"] = [asf.ASFQWordAttribute(1999)]
    elif isinstance(file, apev2.APEv2File):
        file.tags["Genre"] = ["Jazz", "Blues"]
        file.tags["Link"] = apev2.APEValue("http://example.org", apev2.EXTERNAL)
    else:
        file.tags.extend([("GENRE", "Jazz"), ("genre", "Blues"), ("EMPTY", ""), ("LYRICS", "line\n" * 9_000)])
        if isinstance(file, flac.FLAC):
            block = flac.MetadataBlock(b"testdata")
            block.code = 2  # of an application
            file.metadata_blocks.append(block)
    file.save()


def add_id3v1(path: Path, title: str) -> None:
    """Add an ID3v1 tag at the end."""
    with path.open("ab") as file:
        file.write(b"TAG" + title.encode("latin-1").ljust(124, b"\0") + b"\x11")
