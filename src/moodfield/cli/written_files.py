"""Files whose tags are written: a line for every field, what failed, and counts at the end."""

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from moodfield import errors
from moodfield.cli import console
from moodfield.errors import MoodfieldError
from moodfield.report import text

if TYPE_CHECKING:
    from types import TracebackType

    from moodfield.cli.progress import FileProgress
    from moodfield.file_tags.plan import Change
    from moodfield.file_tags.writing import Written

NONE = "–"
"""in place of no text"""
LONGEST = 120
"""characters of a text that are printed, such as of scores; --json has all"""
COMMON_WORDS = 8
"""words whose numbers are printed"""


class WrittenFiles:
    """A context that prints the results of files and keeps the library up to date; ends with the exit code."""

    def __init__(self, library: Path, *, apply: bool, as_json: bool, keeps: bool) -> None:
        """Of a library, beside which the journal lies.

        Args:
            library: Database of the library.
            apply: Whether files are written, not only planned.
            as_json: Whether JSON is printed.
            keeps: Whether values that files have already are kept.
        """
        from moodfield.file_tags import journal

        self.library, self.journal = library, journal.default_path(library)
        self.apply, self._as_json, self._keeps = apply, as_json, keeps
        self._stack = ExitStack()
        self.changed = self.kept = self.unchanged = self.failed = 0
        self._links: dict[tuple[int, int], int] = {}
        """other hard links of changed files, by device and inode"""
        self._words = Counter[str]()

    def start(self) -> int:
        """Lock the library if files are written; the number of this command in the journal."""
        from moodfield.file_tags import journal
        from moodfield.library import database

        if not self.apply:
            return 0
        self._stack.enter_context(database.lock(self.library))
        self._connection = self._stack.enter_context(database.write(self.library)) if self.library.is_file() else None
        with journal.connect(self.journal) as connection:
            return journal.next_run(connection)

    def add(self, path: Path, result: "Written | MoodfieldError", bar: "FileProgress") -> None:
        """Print and count the result of a file."""
        from moodfield.file_tags import track_tags

        bar.advance()
        if isinstance(result, MoodfieldError):
            self.failed += 1
            console.message(str(result))
            if self._as_json:
                console.result_json({"path": str(path), "error": str(result)})
            return
        if self.apply and self._connection is not None:
            track_tags.note_written(self._connection, path, result)
        self.changed += result.is_change
        if result.kept:
            console.message(f"{path}: {', '.join(result.kept)} was changed since, and stays")
        if result.is_change:
            file = result.before.st_dev, result.before.st_ino
            self._links[file] = self._links.get(file, result.before.st_nlink) - 1
        self.kept += any(change.old and not change.is_change for change in result.changes)
        self.unchanged += not result.is_change
        self._words.update(word for change in result.changes if change.is_change for word in _added(change))
        for change in result.changes:
            if self._as_json:
                console.result_json(self._to_dict(path, change))
            elif change.is_change:
                bar.print_result(_format(path, change))

    def __enter__(self) -> "WrittenFiles":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if self.changed or self.unchanged or self.failed:
            self._print_counts()
        if error is None and self.failed:
            raise typer.Exit(console.SOME_FAILED)

    def _to_dict(self, path: Path, change: "Change") -> dict[str, object]:
        values = {"path": str(path), "field": change.field, "old": [*change.old], "new": [*change.new]}
        return values | {"written": self.apply and change.is_change}

    def _print_counts(self) -> None:
        parts = [f"{text.count(self.changed, 'file')} {'changed' if self.apply else 'would change'}"]
        if self.unchanged:
            parts.append(f"{self.unchanged:,} stay as they are")
        if self.kept and self._keeps:
            parts.append(f"{self.kept:,} have values already, which are kept without --overwrite or --merge")
        if linked := sum(count > 0 for count in self._links.values()):
            parts.append(f"{linked:,} have other hard links, which keep the old tags")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        end = "" if self.apply or not self.changed else "; nothing was written: add --apply"
        if words := ", ".join(f"{word} {count:,}" for word, count in self._words.most_common(COMMON_WORDS)):
            console.message(f"commonest words: {words}")
        console.message(f"{', '.join(parts)}{end}")


def _added(change: "Change") -> list[str]:
    """The words that a field gets."""
    from moodfield.file_tags import fields

    field = fields.FIELDS[change.field]
    return [] if field == fields.SCORES else [*fields.values(field, change.new)]


def _format(path: Path, change: "Change") -> str:
    """The line of a changed field, as markup."""
    old, new = (_shorten("; ".join(texts)) or NONE for texts in (change.old, change.new))
    return f"{console.escape(str(path))}  {change.field}: {old} → {new}"


def _shorten(text: str) -> str:
    """Text of one field for people, as markup."""
    return console.escape(errors.printable(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"))
