"""The tags of an audio file, of which single fields are read and changed by mutagen."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from moodfield.file_tags.fields import Field

ID3V1_BYTES = 128


class TagFile:
    """The tags of an audio file; subclasses for the kinds of tags."""

    joins = False
    """whether several values of a field are one text"""

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
        """Digests of everything in the tags but these fields, which must be equal before and after a change."""
        raise NotImplementedError

    def save(self) -> None:
        """Write the tags into the file, which is not atomic."""
        self.file.save(self.path)

    def reopen(self, path: Path) -> "TagFile":
        """Open another file as one of the same format, whatever its name is; raises what mutagen raises."""
        return type(self)(path, type(self.file)(path))

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


def read_id3v1(path: Path) -> bytes:
    """The ID3v1 tag at the end of a file; empty if it has none."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - ID3V1_BYTES))
        block = file.read()
    return block if block.startswith(b"TAG") and len(block) == ID3V1_BYTES else b""


def integer(digits: bytes, bits: int) -> int:
    """A number of bytes with so many bits each, the first one highest, as ID3v2 has sizes."""
    return sum(digit << bits * (len(digits) - 1 - place) for place, digit in enumerate(digits))


def digest(parts: Iterable[object]) -> bytes:
    """A digest of values by their representations, in any order."""
    hashed = hashlib.sha256()
    for part in sorted(hashlib.sha256(repr(part).encode("utf-8", "surrogatepass")).digest() for part in parts):
        hashed.update(part)
    return hashed.digest()
