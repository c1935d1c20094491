"""Read and change single fields in the tags of an audio file, by mutagen; all other tags stay."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mutagen
from mutagen import aiff, apev2, asf, dsf, flac, id3, mp4, wave
from mutagen._riff import RiffFile
from mutagen._vorbis import VComment

from moodfield.errors import FileTagsError
from moodfield.file_tags import fields
from moodfield.file_tags.fields import COMMENT, Field

ID3_TYPES = (id3.ID3FileType, wave.WAVE, aiff.AIFF, dsf.DSF)
ID3V1_BYTES = 128
FRAME = re.compile(rb"[A-Z][A-Z0-9]{3}")
"""identifier of a frame of ID3v2.3 and 2.4"""
INFO = {
    "INAM": "TIT2", "IART": "TPE1", "IPRD": "TALB", "IGNR": "TCON", "ICRD": "TDRC", "ITRK": "TRCK", "IPRT": "TRCK",
    "ICMT": "COMM",
}  # fmt: skip
"""chunks of the INFO list of WAV files → frames of ID3"""
LATIN1, UTF16, UTF8 = 0, 1, 3
"""encodings of ID3; UTF-8 only since version 2.4"""
ENCODING = re.compile(r"encoding=<[^>]*>,? ?")
"""how a frame is encoded in the file, within its description by mutagen"""


class TagFile:
    """The tags of an audio file; subclasses for the kinds of tags."""

    def __init__(self, path: Path, file: Any) -> None:
        """The file is the one that mutagen has opened."""
        self.path, self.file = path, file
        if file.tags is None:
            file.add_tags()
        self.tags = file.tags

    def read(self, field: Field) -> tuple[str, ...]:
        """The texts of a field; none if the file does not have it."""
        return tuple(str(text) for key in self._keys(field) for text in self._texts(key) if str(text))

    def change(self, field: Field, texts: Sequence[str]) -> None:
        """Give a field other texts; without any it is removed."""
        keys = self._keys(field)
        for key in keys:
            del self.tags[key]
        if texts:
            self._set(keys[0] if keys else self._name(field), texts)

    def others(self, changed: Sequence[Field]) -> dict[str, bytes]:
        """Digests of everything in the tags but these fields, by key."""
        keys = {key for field in changed for key in self._keys(field)}
        return {str(key): _digest(self._texts(key)) for key in self.tags if key not in keys}

    def lost(self) -> str:
        """Names of parts of the tags that mutagen cannot read, and would not write again."""
        return ""

    def save(self) -> None:
        """Write the tags into the file, which is not atomic."""
        self.file.save(self.path)

    def _name(self, field: Field) -> str:
        """The key of a field in new files."""
        return field.name

    def _keys(self, field: Field) -> list[Any]:
        """The keys of a field that the file has, in any case."""
        name = self._name(field).casefold()
        return [key for key in self.tags if key.casefold() == name]

    def _texts(self, key: Any) -> Sequence[Any]:
        return self.tags[key]

    def _set(self, key: Any, texts: Sequence[str]) -> None:
        self.tags[key] = list(texts)


class _Vorbis(TagFile):
    """Vorbis comments, in FLAC, Ogg Vorbis, Opus and other Ogg files."""

    def _keys(self, field: Field) -> list[str]:
        return [field.name] if field.name in self.tags else []

    def others(self, changed: Sequence[Field]) -> dict[str, bytes]:
        names = {field.name.casefold() for field in changed}
        comments = [(key, value) for key, value in self.tags if key.casefold() not in names]
        blocks = [
            (block.code, block.write())
            for block in getattr(self.file, "metadata_blocks", [])
            if not isinstance(block, VComment | flac.Padding)
        ]
        return {"comments": _digest(comments), "vendor": _digest(self.tags.vendor), "blocks": _digest(blocks)}


class _MP4(TagFile):
    """Atoms of MP4, with one of free form for each field that has none of its own."""

    def _name(self, field: Field) -> str:
        return field.mp4

    def _texts(self, key: str) -> Sequence[Any]:
        value = self.tags[key]
        if not key.startswith("----"):
            return value if isinstance(value, list) else [value]
        return [bytes(text).decode("utf-8", "replace") for text in value]

    def _set(self, key: str, texts: Sequence[str]) -> None:
        free = key.startswith("----")
        self.tags[key] = [mp4.MP4FreeForm(text.encode()) for text in texts] if free else list(texts)

    def others(self, changed: Sequence[Field]) -> dict[str, bytes]:
        keys = {key for field in changed for key in self._keys(field)}
        return {key: _digest(value) for key, value in self.tags.items() if key not in keys}


class _ASF(TagFile):
    """Attributes of ASF (WMA)."""

    def _name(self, field: Field) -> str:
        return field.asf

    def _keys(self, field: Field) -> list[str]:
        name = field.asf.casefold()
        return list(dict.fromkeys(key for key in self.tags.keys() if key.casefold() == name))  # noqa: SIM118 (a list)

    def others(self, changed: Sequence[Field]) -> dict[str, bytes]:
        names = {field.asf.casefold() for field in changed}
        return {key: _digest(self.tags[key]) for key in self.tags.keys() if key.casefold() not in names}  # noqa: SIM118


class _APE(TagFile):
    """Items of APEv2, in WavPack, Monkey's Audio and Musepack."""

    def _name(self, field: Field) -> str:
        return field.name.capitalize() if field != fields.SCORES else field.name

    def _texts(self, key: str) -> Sequence[Any]:
        value = self.tags[key]
        return list(value) if isinstance(value, apev2.APETextValue) else [repr(value)]


class _ID3(TagFile):
    """Frames of ID3v2 in the version that the file has, 2.4 for files without tags; ID3v1 stays as it is."""

    def __init__(self, path: Path, file: Any) -> None:
        super().__init__(path, file)
        if isinstance(file, wave.WAVE) and not self.tags:
            self._copy_info()
        version = self.tags.version
        self._version = 3 if (2, 2) <= version[:2] < (2, 4) else 4
        if version[:2] == (2, 2):
            self.tags.update_to_v23()
        elif version[0] == 1:
            self.tags.update_to_v24()

    def read(self, field: Field) -> tuple[str, ...]:
        keys = self._keys(field)
        first = self._texts(keys[0]) if keys else ()  # the others repeat it for other readers
        return tuple(str(text) for text in first if str(text))

    def change(self, field: Field, texts: Sequence[str]) -> None:
        keys = self._keys(field)
        languages = [self.tags[key].lang for key in keys if field == COMMENT]
        for key in keys:
            del self.tags[key]
        if not texts:
            return
        has_frame = field.frame != "TXXX" and self._version == 4
        if field == COMMENT:
            text = list(texts) if self._version == 4 else [fields.SEPARATOR.join(texts)]
            self.tags.add(id3.COMM(_encoding(texts, self._version), lang=[*languages, "eng"][0], desc="", text=text))
        elif has_frame:
            self.tags.add(id3.Frames[field.frame](_encoding(texts, self._version), list(texts)))
        if field != COMMENT and (not has_frame or any(key.startswith("TXXX") for key in keys)):
            text = [fields.SEPARATOR.join(texts)] if has_frame or self._version == 3 else list(texts)
            self.tags.add(id3.TXXX(_encoding(texts, self._version), desc=field.name, text=text))

    def others(self, changed: Sequence[Field]) -> dict[str, bytes]:
        keys = {key for field in changed for key in self._keys(field)}
        frames = {
            key: _digest(ENCODING.sub("", repr(frame)))
            for key, frame in self.tags.items()
            if key not in keys and not (isinstance(frame, id3.TextFrame) and not str(frame))
        }
        return frames | {"unknown": _digest(sorted(self.tags.unknown_frames)), "ID3v1": _id3v1(self.path)}

    def save(self) -> None:
        before = _id3v1(self.path)
        self.tags.save(self.path, v2_version=self._version, v23_sep=None)
        if before and isinstance(self.file, id3.ID3FileType):  # mutagen has replaced it by values of ID3v2
            with self.path.open("r+b") as file:
                file.seek(-ID3V1_BYTES, 2)
                file.write(before)

    def lost(self) -> str:
        with self.path.open("rb") as file:
            head = file.read(10)
            if not head.startswith(b"ID3") or head[3] not in (3, 4) or head[5] & 0xC0:
                return ""
            data = file.read(_size(head[6:], 4))
        lost: set[str] = set()
        unsupported = {frame[:4] for frame in self.tags.unknown_frames}
        frames = {frame.FrameID.encode() for frame in self.tags.values()} | unsupported
        while FRAME.fullmatch(data[:4]):
            name, size = data[:4], _size(data[4:8], head[3])
            if name not in frames and data[11 : 10 + size].strip(b"\0\xff\xfe"):
                lost.add(name.decode())
            data = data[10 + size :]
        return ", ".join(sorted(lost))

    def _copy_info(self) -> None:
        """Copy the INFO list of a WAV file, which players do not read any more once there is ID3."""
        with self.path.open("rb") as file:
            lists = [chunk for chunk in RiffFile(file).root.subchunks() if chunk.id == "LIST" and chunk.name == "INFO"]
            items = {item.id: item.read() for chunk in lists for item in chunk.subchunks()}
        for name, content in items.items():
            text = content.rstrip(b"\0").decode("utf-8", "replace").strip()
            if frame := text and INFO.get(name):
                kind = id3.Frames[frame]
                own = {"lang": "eng", "desc": ""} if frame == "COMM" else {}
                self.tags.add(kind(encoding=_encoding([text], 4), text=[text], **own))

    def _keys(self, field: Field) -> list[str]:
        """The frame of the field, and TXXX frames of the same name in any case; comments without description."""
        if field == COMMENT:
            return [key for key, frame in self.tags.items() if frame.FrameID == "COMM" and not frame.desc]
        named = [
            key
            for key, frame in self.tags.items()
            if frame.FrameID == "TXXX" and frame.desc.casefold() == field.name.casefold()
        ]
        return [*([field.frame] if field.frame in self.tags else []), *named]

    def _texts(self, key: str) -> Sequence[Any]:
        return self.tags[key].text


def open_file(path: Path) -> TagFile:
    """Open the tags of an audio file; raises `FileTagsError`."""
    with errors(path, "read"):
        file = mutagen.File(path)
        kind = _kind(file)
        if kind is _ID3:
            has_v2 = file.tags is not None and file.tags.version[0] == 2
            file = type(file)(path, translate=False, load_v1=not has_v2)
            if not has_v2 and isinstance(file, id3.ID3FileType) and (ape := apev2.APEv2File(path)).tags is not None:
                kind, file = _APE, ape  # a new ID3v2 tag would hide it from players
    if kind is None:
        formats = "mp3, flac, ogg, opus, m4a, wma, wav, aiff, wv or ape"
        raise FileTagsError(f"{path} has no tags that could be written: expected {formats}")
    return kind(path, file)


@contextmanager
def errors(path: Path, action: str) -> Iterator[None]:
    """Raise whatever mutagen raises for a file, which may be damaged in any way, as `FileTagsError`."""
    try:
        yield
    except (FileTagsError, KeyboardInterrupt):
        raise
    except Exception as error:
        cause = error.__cause__ or error.__context__
        reason = str(cause.strerror if isinstance(cause, OSError) and cause.strerror else error) or type(error).__name__
        raise FileTagsError(f"the tags of {path} cannot be {action} ({reason}); the file is as it was") from error


def _kind(file: Any) -> Callable[[Path, Any], TagFile] | None:
    """The class for the kind of tags of a file."""
    if isinstance(file, ID3_TYPES):
        return _ID3
    if isinstance(file, mp4.MP4):
        return _MP4
    if isinstance(file, asf.ASF):
        return _ASF
    if isinstance(file, apev2.APEv2File):
        return _APE
    return _Vorbis if file is not None and isinstance(file.tags or flac.VCFLACDict(), VComment) else None


def _encoding(texts: Sequence[str], version: int) -> int:
    if all(text.isascii() for text in texts):
        return LATIN1
    return UTF8 if version == 4 else UTF16


def _size(digits: bytes, version: int) -> int:
    """A size in ID3v2: 7 bits a byte since version 2.4, before 8."""
    bits = 7 if version == 4 else 8
    return sum(digit << bits * (3 - place) for place, digit in enumerate(digits[:4]))


def _id3v1(path: Path) -> bytes:
    """The ID3v1 tag at the end of a file; empty if it has none."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - ID3V1_BYTES))
        block = file.read()
    return block if block.startswith(b"TAG") and len(block) == ID3V1_BYTES else b""


def _digest(value: object) -> bytes:
    return hashlib.sha256(repr(value).encode("utf-8", "surrogatepass")).digest()
