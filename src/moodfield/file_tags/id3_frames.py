"""Frames of ID3v2; frames of other fields stay as they are, also those that mutagen cannot read."""

import re
from collections.abc import Sequence
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from mutagen import id3, wave
from mutagen._riff import RiffFile

from moodfield.errors import FileTagsError
from moodfield.file_tags import fields, tag_file
from moodfield.file_tags.fields import COMMENT, Field
from moodfield.file_tags.tag_file import TagFile

HEAD = 10
"""bytes of the header of a tag, and of a frame"""
UNSYNCHRONISED, EXTENDED = 0x80, 0x40
"""flags of a tag"""
NAME = re.compile(rb"[A-Z][A-Z0-9]{2}[A-Z0-9 \0]")
"""identifier of a frame of ID3v2.3 and 2.4; iTunes has written some of three letters"""
OLD_NAME = re.compile(rb"[A-Z][A-Z0-9]{2}")
"""identifier of a frame of ID3v2.2"""
UNREADABLE = {3: 0xE0, 4: 0x4C}
"""flags of a frame whose content is compressed, encrypted or grouped, by version"""
FRAME_UNSYNCHRONISED, FRAME_LENGTH = 0x02, 0x01
"""flags of a frame of version 4"""
CODECS = ("latin-1", "utf-16", "utf-16-be", "utf-8")
"""encodings of texts, by their number in frames"""
BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"
LANGUAGE = "eng"
"""of new comments"""
INFO = {
    b"INAM": "TIT2", b"IART": "TPE1", b"IPRD": "TALB", b"IGNR": "TCON", b"ICRD": "TDRC", b"ITRK": "TRCK",
    b"IPRT": "TRCK", b"ICMT": "COMM",
}  # fmt: skip
"""chunks of the INFO list of WAV files → frames"""


class Frame(NamedTuple):
    """A frame as it is in the file."""

    name: bytes
    """identifier"""
    flags: bytes
    """two bytes"""
    body: bytes
    """content"""


class ID3Frames(TagFile):
    """Frames of ID3v2 in the version that the file has, 2.4 for files without tags; ID3v1 stays as it is."""

    def __init__(self, path: Path, file: Any) -> None:
        super().__init__(path, file)
        tag = self._read_tag()
        version = tag[3] if tag else 4
        self._version = max(version, 3)
        self.joins = self._version == 3
        self._frames = _parse(tag, path) if tag and version > 2 else self._convert(tag)
        self.tags._write = lambda _: self._render()

    def read(self, field: Field) -> tuple[str, ...]:
        """The texts of a field; none if the file does not have it."""
        texts = [[text for text in self._texts(frame)[1:] if text] for frame in self._of(field)]
        first = texts[0] if texts else []
        own = {value.casefold() for value in fields.values(field, first)}
        others = fields.values(field, chain.from_iterable(texts[1:]))
        return (*first, *(value for value in others if value.casefold() not in own))

    def change(self, field: Field, texts: Sequence[str]) -> None:
        """Give a field other texts; without any it is removed."""
        old = self._of(field)
        place = self._frames.index(old[0]) if old else len(self._frames)
        rest = [frame for frame in self._frames[place:] if frame not in old]
        self._frames[place:] = [*(self._encode(field, texts, old) if texts else ()), *rest]

    def others(self, changed: Sequence[Field]) -> dict[str, bytes]:
        """Digests of everything in the tags but these fields."""
        own = [frame for field in changed for frame in self._of(field)]
        frames = [frame for frame in self._frames if frame not in own]
        return {"frames": tag_file.digest(frames), "ID3v1": tag_file.read_id3v1(self.path)}

    def save(self) -> None:
        """Write the tags into the file, which is not atomic."""
        block = tag_file.read_id3v1(self.path) if isinstance(self.file, id3.ID3FileType) else b""
        self.tags.save(self.path, v2_version=self._version, v23_sep=None)
        if block:  # mutagen has replaced it by values of ID3v2
            with self.path.open("r+b") as file:
                file.seek(-len(block), 2)
                file.write(block)

    def reopen(self, path: Path) -> TagFile:
        """Open another file as one of the same format, whatever its name is; raises what mutagen raises."""
        return type(self)(path, type(self.file)(path, translate=False))

    def _of(self, field: Field) -> list[Frame]:
        """The frames of a field: its own first, then TXXX of its name in any case; of comments only one."""
        described = [(frame, self._texts(frame)[:1]) for frame in self._frames if frame.name in (b"TXXX", b"COMM")]
        if field == COMMENT:
            comments = [frame for frame, description in described if frame.name == b"COMM" and description == [""]]
            with_moods = [frame for frame in comments if any(map(fields.BRACKET.search, self._texts(frame)[1:]))]
            english = [frame for frame in comments if frame.body[1:4] == LANGUAGE.encode()]
            return [*with_moods, *english, *comments][:1]
        name = field.name.casefold()
        own = [frame for frame in self._frames if frame.name == field.frame.encode() != b"TXXX"]
        return own + [
            frame for frame, text in described if frame.name == b"TXXX" and text and text[0].casefold() == name
        ]

    def _texts(self, frame: Frame) -> list[str]:
        """The texts of a frame of text, after its description; empty if they cannot be read."""
        if frame.flags[1] & UNREADABLE[self._version] or not frame.body or frame.body[0] >= len(CODECS):
            return []
        body = frame.body
        if self._version == 4:
            body = body.replace(b"\xff\0", b"\xff") if frame.flags[1] & FRAME_UNSYNCHRONISED else body
            body = body[4:] if frame.flags[1] & FRAME_LENGTH else body
        start = 4 if frame.name == b"COMM" else 1
        texts = body[start:].decode(CODECS[body[0]], "replace").split("\0")
        texts = [text.removeprefix(BOM) for text in texts]
        description = [] if frame.name in (b"TXXX", b"COMM") else [""]
        return description + (texts[:-1] if len(texts) > 1 and not texts[-1] else texts)

    def _encode(self, field: Field, texts: Sequence[str], old: Sequence[Frame]) -> list[Frame]:
        """The frames of a field with these texts."""
        joined = [fields.SEPARATOR.join(texts)]
        if field == COMMENT:
            language = old[0].body[1:4] if old else LANGUAGE.encode()
            return [self._frame("COMM", ["", *(joined if self.joins else texts)], language)]
        has_own = field.frame != "TXXX" and not self.joins
        frames = [self._frame(field.frame, texts)] if has_own else []
        if not has_own or any(frame.name == b"TXXX" for frame in old):
            frames.append(self._frame("TXXX", [field.name, *(joined if has_own or self.joins else texts)]))
        return frames

    def _frame(self, name: str, texts: Sequence[str], language: bytes = b"") -> Frame:
        """A frame of texts, in Latin-1 if that is enough, else UTF-8, which version 3 does not have."""
        number = 0 if all(text.isascii() for text in texts) else 1 if self._version == 3 else 3
        end = "\0".encode("utf-16-le" if number == 1 else "ascii")
        return Frame(
            name.encode(), b"\0\0", bytes([number]) + language + end.join(t.encode(CODECS[number]) for t in texts)
        )

    def _render(self) -> bytes:
        """All frames, as in the file."""
        return b"".join(
            frame.name + _number(len(frame.body), self._version) + frame.flags + frame.body for frame in self._frames
        )

    def _read_tag(self) -> bytes:
        """The ID3v2 tag of the file as it is, with its header; empty if it has none."""
        with self.path.open("rb") as file:
            try:
                self.tags._pre_load_header(file)
            except id3.ID3NoHeaderError:
                return b""
            head = file.read(HEAD)
            if not head.startswith(b"ID3") or head[3] not in (2, 3, 4):
                return b""
            return head + file.read(tag_file.integer(head[6:], 7))

    def _convert(self, tag: bytes) -> list[Frame]:
        """The frames of what is no ID3v2.3 or 2.4: an older tag, ID3v1, or the INFO list of a WAV file."""
        if tag and _count_old(tag) != len(self.tags):
            raise FileTagsError(f"{self.path} has damaged tags of ID3v2.2, which would be lost; it is as it was")
        if isinstance(self.file, wave.WAVE) and not tag:
            self._copy_info()
        converted = id3.ID3()
        for frame in self.tags.values():
            converted.add(frame)
        if self._version == 3:
            converted.update_to_v23()
        else:
            converted.update_to_v24()
        stream = BytesIO()
        converted.save(stream, v1=0, v2_version=self._version, v23_sep=None)
        return _parse(stream.getvalue(), self.path)

    def _copy_info(self) -> None:
        """Copy the INFO list of a WAV file, which players do not read any more once there is ID3."""
        with self.path.open("rb") as file:
            lists = [chunk for chunk in RiffFile(file).root.subchunks() if chunk.id == "LIST" and chunk.name == "INFO"]
            items = {item.id.encode(): item.read() for chunk in lists for item in chunk.subchunks()}
        for name, content in items.items():
            text = _decode(content.rstrip(b"\0")).strip()
            if frame := text and INFO.get(name):
                own = {"lang": LANGUAGE, "desc": ""} if frame == "COMM" else {}
                self.tags.add(id3.Frames[frame](encoding=id3.Encoding.UTF8, text=[text], **own))


def _parse(tag: bytes, path: Path) -> list[Frame]:
    """The frames of a tag of version 3 or 4; raises `FileTagsError` if it cannot be divided into frames."""
    version, flags, data = tag[3], tag[5], tag[HEAD:]
    if version == 3 and flags & UNSYNCHRONISED:
        data = data.replace(b"\xff\0", b"\xff")
    if flags & EXTENDED:
        data = data[4 + tag_file.integer(data[:4], 8) if version == 3 else tag_file.integer(data[:4], 7) :]
    for bits in (8,) if version == 3 else (7, 8):  # iTunes has written the sizes of version 3 in version 4
        if (frames := _split(data, bits)) is not None:
            break
    else:
        raise FileTagsError(f"{path} has damaged tags, which would be lost; it is as it was")
    if version == 4 and flags & UNSYNCHRONISED:
        return [
            frame._replace(flags=bytes([frame.flags[0], frame.flags[1] | FRAME_UNSYNCHRONISED])) for frame in frames
        ]
    return frames


def _split(data: bytes, bits: int) -> list[Frame] | None:
    """The frames in the content of a tag, whose sizes have so many bits a byte; None if they do not fill it."""
    frames, place = list[Frame](), 0
    while NAME.fullmatch(data[place : place + 4]):
        start, size = place + HEAD, tag_file.integer(data[place + 4 : place + 8], bits)
        frame = Frame(data[place : place + 4], data[place + 8 : start], data[start : start + size])
        if len(frame.flags) < 2 or len(frame.body) < size:
            return None
        frames.append(frame)
        place = start + size
    return None if data[place:].strip(b"\0") else frames


def _count_old(tag: bytes) -> int:
    """The number of frames of a tag of version 2."""
    data = tag[HEAD:].replace(b"\xff\0", b"\xff") if tag[5] & UNSYNCHRONISED else tag[HEAD:]
    count = place = 0
    while OLD_NAME.fullmatch(data[place : place + 3]):
        place += 6 + int.from_bytes(data[place + 3 : place + 6])
        count += 1
    return count


def _number(value: int, version: int) -> bytes:
    """The size of a frame."""
    bits = 8 if version == 3 else 7
    return bytes(value >> bits * place & ((1 << bits) - 1) for place in (3, 2, 1, 0))


def _decode(content: bytes) -> str:
    """Text of INFO, which is UTF-8 or the code page of Windows."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")
