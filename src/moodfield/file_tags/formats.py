"""Open the tags of audio files of all formats; those of MP4, ASF and APEv2 are here."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import mutagen
from mutagen import aiff, apev2, asf, dsf, flac, id3, mp4, ogg, wave
from mutagen.mp4._atom import Atoms

from moodfield.errors import FileTagsError
from moodfield.file_tags import fields, tag_file
from moodfield.file_tags.fields import Field
from moodfield.file_tags.id3_frames import ID3Frames
from moodfield.file_tags.tag_file import TagFile
from moodfield.file_tags.vorbis_comments import VorbisComments

ID3_TYPES = (id3.ID3FileType, wave.WAVE, aiff.AIFF, dsf.DSF)
FREE = b"----"
"""name of an atom of free form"""
GENRE = {"gnre": "\xa9gen"}
"""an older atom, which mutagen reads as the newer one"""


class MP4Atoms(TagFile):
    """Atoms of MP4, with one of free form for each field that has none of its own."""

    def __init__(self, path: Path, file: Any) -> None:
        super().__init__(path, file)
        self._raw = _read_atoms(path)
        self.tags._render = partial(self._render, self.tags._render)

    def others(self, changed: Sequence[Field]) -> dict[str, bytes]:
        """Digests of everything in the tags but these fields."""
        keys = {key for field in changed for key in self._keys(field)}
        atoms = {key: content for key, content in _read_atoms(self.path).items() if key not in keys}
        return {"atoms": tag_file.digest(atoms.items())}

    def _render(self, render: Callable[[str, Any], bytes], key: str, value: Any) -> bytes:
        """An atom as it is in the file, or as mutagen renders it."""
        return self._raw[key] if key in self._raw else render(key, value)

    def _name(self, field: Field) -> str:
        return field.mp4

    def _texts(self, key: str) -> Sequence[Any]:
        value = self.tags[key]
        if not key.startswith("----"):
            return value if isinstance(value, list) else [value]
        return [bytes(text).decode("utf-8", "replace") for text in value]

    def _set(self, key: str, texts: Sequence[str]) -> None:
        self._raw.pop(key, None)
        free = key.startswith("----")
        self.tags[key] = [mp4.MP4FreeForm(text.encode()) for text in texts] if free else list(texts)


class ASFAttributes(TagFile):
    """Attributes of ASF (WMA)."""

    def _name(self, field: Field) -> str:
        return field.asf

    def _keys(self, field: Field) -> list[str]:
        name = field.asf.casefold()
        return list(dict.fromkeys(key for key in self.tags.keys() if key.casefold() == name))  # noqa: SIM118 (a list)

    def others(self, changed: Sequence[Field]) -> dict[str, bytes]:
        """Digests of everything in the tags but these fields."""
        names = {field.asf.casefold() for field in changed}
        keys = [key for key in dict.fromkeys(self.tags.keys()) if key.casefold() not in names]
        return {"attributes": tag_file.digest((key, self.tags[key]) for key in keys)}


class APEItems(TagFile):
    """Items of APEv2, in WavPack, Monkey's Audio and Musepack, and in MP3 files without ID3v2."""

    def _name(self, field: Field) -> str:
        return field.name.capitalize() if field != fields.SCORES else field.name

    def _texts(self, key: str) -> Sequence[Any]:
        value = self.tags[key]
        return list(value) if isinstance(value, apev2.APETextValue) else [repr(value)]

    def others(self, changed: Sequence[Field]) -> dict[str, bytes]:
        """Digests of everything in the tags but these fields."""
        names = {self._name(field).casefold().encode() for field in changed}
        items = [item for item in _read_items(self.path) if item[1].lower() not in names]
        return {"items": tag_file.digest(items), "tail": _read_tail(self.path)}

    def save(self) -> None:
        """Write the tags into the file, which is not atomic."""
        tail = _read_tail(self.path)  # mutagen removes it
        with self.path.open("r+b") as file:
            file.truncate(file.seek(0, 2) - len(tail))
        super().save()
        with self.path.open("ab") as file:
            file.write(tail)


def open_file(path: Path) -> TagFile:
    """Open the tags of an audio file; raises `FileTagsError`."""
    with errors(path, "read"):
        file = mutagen.File(path)
        kind = _kind(file)
        if kind is ID3Frames:
            has_v2 = file.tags is not None and file.tags.version[0] == 2
            file = type(file)(path, translate=False, load_v1=not has_v2)
            if not has_v2 and isinstance(file, id3.ID3FileType) and (ape := apev2.APEv2File(path)).tags is not None:
                kind, file = APEItems, ape  # a new ID3v2 tag would hide it from players
        if kind is None:
            formats = "mp3, flac, ogg, opus, m4a, wma, wav, aiff, wv or ape"
            raise FileTagsError(f"{path} has no tags that could be written: expected {formats}")
        return kind(path, file)


@contextmanager
def errors(path: Path, action: str) -> Iterator[None]:
    """Raise whatever mutagen raises for a file, which may be damaged in any way, as `FileTagsError`."""
    try:
        yield
    except FileTagsError:
        raise
    except Exception as error:
        cause = error.__cause__ or error.__context__
        reason = str(cause.strerror if isinstance(cause, OSError) and cause.strerror else error) or type(error).__name__
        raise FileTagsError(f"the tags of {path} cannot be {action} ({reason}); the file is as it was") from error


def _kind(file: Any) -> type[TagFile] | None:
    """The class for the kind of tags of a file."""
    kinds: tuple[tuple[Any, type[TagFile]], ...] = (
        (ID3_TYPES, ID3Frames), (mp4.MP4, MP4Atoms), (asf.ASF, ASFAttributes), (apev2.APEv2File, APEItems),
        ((flac.FLAC, ogg.OggFileType), VorbisComments),
    )  # fmt: skip
    return next((kind for types, kind in kinds if isinstance(file, types)), None)


def _read_atoms(path: Path) -> dict[str, bytes]:
    """The atoms of the tags of an MP4 file as they are, by mutagen's keys; those of one key follow each other."""
    result: dict[str, bytes] = {}
    with path.open("rb") as file:
        atoms = Atoms(file)
        if b"moov.udta.meta.ilst" not in atoms:
            return {}
        for atom in atoms[b"moov.udta.meta.ilst"].children:
            file.seek(atom.offset)
            content = file.read(atom.length)
            name = _free_key(content) if atom.name == FREE else atom.name.decode("latin-1")
            key = GENRE.get(name, name)
            result[key] = result.get(key, b"") + content
    return result


def _free_key(content: bytes) -> str:
    """The key of an atom of free form: the names in its first two atoms."""
    first = int.from_bytes(content[8:12])
    second = int.from_bytes(content[8 + first : 12 + first])
    mean, name = content[20 : 8 + first], content[20 + first : 8 + first + second]
    return f"----:{mean.decode('utf-8', 'replace')}:{name.decode('utf-8', 'replace')}"


def _read_tail(path: Path) -> bytes:
    """What is after an APEv2 tag, or where one would be: lyrics and an ID3v1 tag."""
    with path.open("rb") as file:
        end = apev2._APEv2Data(file).end
        if end is None:
            return tag_file.read_id3v1(path)
        file.seek(end)
        return file.read()


def _read_items(path: Path) -> list[tuple[int, bytes, bytes]]:
    """The items of an APEv2 tag as they are: flags, key and value."""
    items = []
    with path.open("rb") as file:
        tag = apev2._APEv2Data(file)
    data, place = tag.tag or b"", 0
    for _ in range(tag.items or 0):
        size, flags = (int.from_bytes(data[place + part : place + part + 4], "little") for part in (0, 4))
        end = data.index(b"\0", place + 8)
        items.append((flags, data[place + 8 : end], data[end + 1 : end + 1 + size]))
        place = end + 1 + size
    return items
