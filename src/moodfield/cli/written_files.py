"""Files whose tags are written: a line for every field, what failed, and counts at the end."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from moodfield import errors
from moodfield.cli import console
from moodfield.errors import MoodfieldError

if TYPE_CHECKING:
    from types import TracebackType

    from moodfield.cli.progress import FileProgress
    from moodfield.file_tags.plan import Change
    from moodfield.file_tags.writing import Written

NONE = "–"
"""in place of no text"""


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
        self.changed = self.kept = self.unchanged = self.linked = self.failed = 0

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
        self.linked += result.is_change and result.other_links > 0
        self.kept += any(change.old and not change.is_change for change in result.changes) and not result.is_change
        self.unchanged += not result.is_change
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
        parts = [f"{self.changed:,} files {'changed' if self.apply else 'would change'}"]
        if self.unchanged:
            parts.append(f"{self.unchanged:,} stay as they are")
        if self.kept and self._keeps:
            parts.append(f"of which {self.kept:,} have values already, which are kept without --overwrite or --merge")
        if self.linked:
            parts.append(f"{self.linked:,} have other hard links, which keep the old tags")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        end = "" if self.apply or not self.changed else "; nothing was written: add --apply"
        console.message(f"{', '.join(parts)}{end}")


def _format(path: Path, change: "Change") -> str:
    """The line of a changed field, as markup."""
    old, new = (console.escape(errors.printable("; ".join(texts))) or NONE for texts in (change.old, change.new))
    return f"{console.escape(str(path))}  {change.field}: {old} → {new}"
