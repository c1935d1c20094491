"""Exceptions, look-up of names with suggestions, and text that is safe to print."""

import difflib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class MoodfieldError(Exception):
    """Base of all errors that moodfield raises; the message has what was given, what is expected and what to do."""


class AudioError(MoodfieldError):
    """A file or waveform that cannot be read as audio."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        """a short code for programs, such as `missing`, `directory`, `unreadable`, `not-finite`, `silent`"""

    def __reduce__(self) -> tuple[type["AudioError"], tuple[str, str]]:
        """Pickle both arguments; the default would pass the message alone, and fail."""
        return type(self), (self.reason, str(self))


class UsageError(MoodfieldError):
    """Invalid or contradictory arguments; a command ends with exit code 2."""


class OutputError(UsageError):
    """An output file that must not, or cannot, be written."""


class LockedError(MoodfieldError):
    """A folder or file that another process has locked."""


class ConfigError(MoodfieldError):
    """A setting out of range, or settings that contradict each other."""


class DatasetError(MoodfieldError):
    """An invalid index, split or truth matrix; the message lists all faults."""


class DownloadError(MoodfieldError):
    """A file that cannot be downloaded."""


class ModelError(MoodfieldError):
    """A model folder or checkpoint that cannot be loaded."""


class ScoresError(MoodfieldError):
    """Truth and scores that cannot be evaluated."""


class RunError(MoodfieldError):
    """A training run that cannot be started, resumed or read."""


class LibraryError(MoodfieldError):
    """A library that cannot be opened, read or written, or a track that it does not have."""


class CatalogueError(MoodfieldError):
    """A catalogue that cannot be made, written or read, or storage that does not deliver."""


class FileTagsError(MoodfieldError):
    """A file whose tags cannot be read, written, verified or restored."""


class WorkerCrashedError(MoodfieldError):
    """An item whose worker process died, or for which there was too little memory."""


class UnknownNameError(MoodfieldError):
    """A name that is not in a registry."""


class MoodfieldWarning(UserWarning):
    """Something questionable that is not an error."""


def get_or_suggest(table: Mapping[str, T], name: str, *, what: str) -> T:
    """Look up a name; raises `UnknownNameError` with the most similar names if it is missing.

    Args:
        table: Values by name.
        name: The name to look up.
        what: The kind of value, for the message.

    >>> get_or_suggest({"vgg": 1, "crnn": 2}, "vgg", what="network")
    1
    """
    if name in table:
        return table[name]
    raise UnknownNameError(f"unknown {what} {name!r}; {suggest(name, table)}")


MAX_FAULTS = 20
"""faults in one message; a file of another kind has thousands"""


def join_errors(faults: Sequence[str]) -> str:
    """Join faults to one line; lists the first `MAX_FAULTS` and counts the others."""
    more = f"; and {len(faults) - MAX_FAULTS} more faults" if len(faults) > MAX_FAULTS else ""
    return "; ".join(faults[:MAX_FAULTS]) + more


MAX_LISTED = 5
"""items that `join_some` lists"""


def join_some(items: Iterable[str], separator: str = ", ") -> str:
    """The first items, and how many more there are.

    >>> join_some("abcdefg")
    'a, b, c, d, e and 2 more'
    """
    listed = list(items)
    more = f" and {len(listed) - MAX_LISTED} more" if len(listed) > MAX_LISTED else ""
    return separator.join(listed[:MAX_LISTED]) + more


def format_validation_errors(faults: Iterable[Mapping[str, Any]]) -> str:
    """Format the `errors()` of a pydantic `ValidationError` in one line, each with its location."""
    return join_errors([f"{'.'.join(map(str, fault['loc'])) or 'JSON'}: {fault['msg']}" for fault in faults])


LIKENESS = 0.65
"""ratio of equal letters of names that are suggested for one another; angry and party have 0.6"""


def suggest(name: str, names: Iterable[str]) -> str:
    """Suggest the names most similar to a wrong one, or list them all.

    >>> suggest("resnt", ["resnet", "vgg"])
    'did you mean resnet?'
    """
    names = list(names)
    longer = [other for other in names if name and other.startswith(name)]
    if near := list(dict.fromkeys([*difflib.get_close_matches(name, names, n=3, cutoff=LIKENESS), *longer]))[:3]:
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(names)}"


INVISIBLE_LETTERS = frozenset("\u200c\u200d\u00ad")
"""invisible characters that belong to words of some languages, and to emoji"""


def printable(text: str) -> str:
    r"""The text with U+FFFD for control characters, line breaks, bidirectional controls and lone surrogates.

    >>> printable("a\x1b[31mred")
    'a�[31mred'
    """
    if text.isprintable():
        return text
    return "".join(letter if _is_harmless(letter) else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _is_harmless(letter: str) -> bool:
    return letter.isprintable() or letter in INVISIBLE_LETTERS or unicodedata.category(letter) == "Zs"
