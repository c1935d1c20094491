"""Every way we refuse, and the one way a name is looked up.

In: what came, what was wanted, what to do. Out: one sentence for a person.
Knows nothing of: audio, networks, or anything else that can go wrong.
"""

import difflib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class MoodfieldError(Exception):
    """Anything moodfield refuses; the message says what came, what was wanted and what to do."""


class AudioError(MoodfieldError):
    """A file or waveform that cannot be tagged."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        """one short word for programs, such as `missing`, `directory`, `unreadable`, `not-finite`, `silent`"""

    def __reduce__(self) -> tuple[type["AudioError"], tuple[str, str]]:
        """Both words travel between processes; an exception's own way would lose one of them and fail."""
        return type(self), (self.reason, str(self))


class UsageError(MoodfieldError):
    """Arguments that cannot be obeyed together, or at all; a command ends with exit code 2."""


class OutputError(UsageError):
    """A file that must not, or cannot, be written."""


class LockedError(MoodfieldError):
    """A folder or file that another process works on."""


class ConfigError(MoodfieldError):
    """A setting outside its range, or two settings that contradict each other."""


class DatasetError(MoodfieldError):
    """An index, a split or a truth matrix that cannot be used; all its faults at once."""


class DownloadError(MoodfieldError):
    """A file of the internet that cannot be had."""


class ModelError(MoodfieldError):
    """A model folder or checkpoint that cannot be loaded."""


class ScoresError(MoodfieldError):
    """Truth and scores that cannot be compared."""


class RunError(MoodfieldError):
    """A training run that cannot be started, continued or read."""


class WorkerCrashedError(MoodfieldError):
    """Work that killed the process it ran in."""


class UnknownNameError(MoodfieldError):
    """A name that is not in its table."""


class MoodfieldWarning(UserWarning):
    """What is not refused, but worth a second look."""


def get_or_suggest(table: Mapping[str, T], name: str, *, what: str) -> T:
    """The value called `name`, or an `UnknownNameError` that offers the nearest names there are."""
    if name in table:
        return table[name]
    raise UnknownNameError(f"there is no {what} called {name!r}; {suggest(name, table)}")


MOST_FAULTS = 20
"""faults that one refusal lists; a file that is something else has thousands"""


def join_errors(faults: Sequence[str]) -> str:
    """Faults in one line, the first of them if they are very many."""
    more = f"; and {len(faults) - MOST_FAULTS} more faults" if len(faults) > MOST_FAULTS else ""
    return "; ".join(faults[:MOST_FAULTS]) + more


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


def format_validation_errors(found: Iterable[Mapping[str, Any]]) -> str:
    """What pydantic found wrong with a value, `ValidationError.errors()`, each with its place, in one line."""
    return join_errors([f"{'.'.join(map(str, each['loc'])) or 'JSON'}: {each['msg']}" for each in found])


def suggest(name: str, known: Iterable[str]) -> str:
    """A half sentence that leads from a wrong name to the right ones."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3)
    if near:
        return "did you mean " + " or ".join(near) + "?"
    return "known: " + ", ".join(names)


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
