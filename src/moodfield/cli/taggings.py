"""Tagged files: a table or JSON lines, a report, and decisions relative to all of the files."""

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from moodfield import errors
from moodfield.cli import console, progress
from moodfield.errors import AudioError, ConfigError, MoodfieldError

if TYPE_CHECKING:
    from moodfield.tagging import Tagging

MIN_WIDTH, TIME_WIDTH = 38, 8
"""columns of the path of a file, at least, and of its duration"""
TAGS_WIDTH = 60
"""columns of a wide terminal that paths leave to tags"""
TAG_WIDTH = 14
"""columns of a tag in the long table, whose lines then have at most 80"""
COMMON_TRACKS, COMMON_SHARE = 20, 0.5
"""a tag on more than this share of this many tracks or more does not distinguish them"""


SHARED = ("vocabulary", "theme_vocabulary", "thresholds", "priors", "statistics")
"""fields of taggings that are the same for all tracks; each process of several has its own"""


@dataclass(frozen=True)
class Form:
    """What is printed and written of tagged files."""

    as_json: bool = False
    """whether JSON lines are printed, not a table"""
    long: bool = False
    """whether the table has a line for every decided tag, with how much more likely than usual it is"""
    over_time: bool = False
    """whether JSON has scores over time"""
    embedding: bool = False
    """whether JSON has the embedding"""
    relative: bool = False
    """whether decisions are relative to all files; results are then printed after the last one"""
    report: Path | None = None
    """HTML report to write"""


class Taggings:
    """Prints and collects the results of files; keeps only what is still needed of them."""

    def __init__(self, form: Form, bar: progress.FileProgress, *, files: Sequence[Path]) -> None:
        """Results of files are printed above the bar, and counted by it."""
        self.form, self.files = form, len(files)
        self._paths = files
        self.failed: dict[str, str] = {}
        self._bar = bar
        self._slim: Tagging | None = None
        self._kept: list[tuple[Path, Tagging | MoodfieldError]] = []
        self._counts: Counter[str] = Counter()
        self._done = 0
        self._names: _Names | None = None

    def add(self, path: Path, tagging: "Tagging | MoodfieldError") -> None:
        """Add the result of the next file; it is printed at once unless decisions are relative."""
        self._done += 1
        if isinstance(tagging, MoodfieldError):
            self.failed[str(path)] = str(tagging)
        else:
            self._counts.update(tagging.decided)
        if self.form.relative or self.form.report:
            self._kept.append((path, self._without_unused(tagging)))
        if not self.form.relative:
            self._print(path, tagging)
        if isinstance(tagging, MoodfieldError) and not self.form.as_json:
            console.message(str(tagging))
        self._bar.advance()

    def finish(self) -> None:
        """Write the report and, if decisions are relative, decide and print; also of a part, if work was stopped."""
        if not self._done or (self.form.relative and not self._decide()):
            return
        try:
            if self.form.relative:
                for path, tagging in self._kept:
                    self._print(path, tagging)
        finally:
            if self.form.report:
                self._write_report(self.form.report)

    def warn_common(self) -> None:
        """Print a message if an absolute decision is on so many tracks that it does not distinguish them."""
        tagged = self._done - len(self.failed)
        if self.form.relative or tagged < COMMON_TRACKS or not self._counts:
            return
        ((tag, count),) = self._counts.most_common(1)
        if count > COMMON_SHARE * tagged:
            console.message(
                f"{tag} is on {count:,} of {tagged:,} tracks ({count / tagged:.0%}); --relative distinguishes them"
            )

    def _decide(self) -> bool:
        """Make decisions relative to the tagged files; False if work was stopped before there were enough."""
        from moodfield import tagging

        absolute = [result for _, result in self._kept if not isinstance(result, MoodfieldError)]
        stopped = self._done < self.files
        try:
            relative = iter(tagging.decide(absolute))
        except ConfigError as error:
            for path, result in self._kept:
                if self.form.as_json and isinstance(result, MoodfieldError):
                    self._print(path, result)
            if not stopped:
                raise
            console.message(str(error))  # whatever stopped it is what the command ends with
            return False
        if stopped:
            console.message(f"relative to the {len(absolute):,} tracks that were tagged before it was stopped")
        self._kept = [
            (path, result if isinstance(result, MoodfieldError) else next(relative)) for path, result in self._kept
        ]
        return True

    def _without_unused(self, tagging: "Tagging | MoodfieldError") -> "Tagging | MoodfieldError":
        """A tagging without arrays that are not printed or drawn; others are shared, since there may be millions."""
        if isinstance(tagging, MoodfieldError):
            return tagging
        if self._slim is None:
            seconds, scores = tagging.over_time.seconds[:0].copy(), tagging.over_time.scores[:, :0].copy()
            self._slim = replace(tagging, over_time=type(tagging.over_time)(seconds, scores))
        embedding = tagging.embedding if self.form.embedding else None
        if not (self.form.relative and self.form.over_time):
            tagging = self._shrink(tagging)
        elif not self.form.report:
            tagging = replace(tagging, envelope=None)
        return replace(tagging, embedding=embedding, **{name: getattr(self._slim, name) for name in SHARED})

    def _shrink(self, tagging: "Tagging") -> "Tagging":
        """A tagging with what the report shows of scores over time, or without them if there is no report."""
        from moodfield.report import track

        if self.form.report:
            return track.shrink(tagging, track.detail_of(self.files))
        return replace(tagging, over_time=self._slim.over_time if self._slim else tagging.over_time, envelope=None)

    def _print(self, path: Path, tagging: "Tagging | MoodfieldError") -> None:
        """Print the result of a file: a line of JSON, or lines of the table."""
        if self.form.as_json:
            console.result_json(_to_dict(path, tagging, self.form))
            return
        if self._names is None:
            self._names = _Names(self._paths)
            head = f"[bold]{'track':<{self._names.width}}  {'time':>{TIME_WIDTH - 2}}  moods · [dim]themes[/dim][/bold]"
            self._bar.print_result(head)
        begin = f"{self._names.format(path)}{_format_time(tagging)}"
        self._bar.print_result(_format_long(begin, tagging) if self.form.long else _format_row(begin, tagging))

    def _write_report(self, path: Path) -> None:
        """Write the report, which has the number of files that are missing because work was stopped."""
        from moodfield.report import page, track

        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()  # the report may go there, too
        taggings = [tagging for _, tagging in self._kept if not isinstance(tagging, MoodfieldError)]
        reference = track.Reference.from_tagging(taggings[0]) if taggings else None
        tracks = track.from_taggings(taggings, reference, track.detail_of(self.files)) if reference else ()
        page.write(path, tracks, reference, failed=self.failed, untagged=self.files - self._done)
        stopped = f": {self._done:,} of {self.files:,} files, since it was stopped" if self._done < self.files else ""
        console.message(f"wrote {path}{stopped}")


class _Names:
    """Paths of files as columns of the table, relative to the folder that they have in common."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._parent: Path | None
        try:
            self._parent = Path(os.path.commonpath([path.parent.absolute() for path in files]))
        except ValueError:  # on several drives
            self._parent = None
        longest = max(len(str(self._relative(path))) for path in files)
        self.width = max(MIN_WIDTH, min(longest, console.terminal().width - TIME_WIDTH - TAGS_WIDTH))

    def format(self, path: Path) -> str:
        """A path in exactly `width` columns, cut in the middle if it is long, as markup."""
        from rich.cells import set_cell_size

        name, half = str(self._relative(path)), self.width // 2
        if len(name) > self.width:
            name = f"{name[: half - 1]}…{name[-half:]}"
        return console.escape(set_cell_size(errors.printable(name), self.width))

    def _relative(self, path: Path) -> Path:
        return path.absolute().relative_to(self._parent) if self._parent else path


def _format_row(begin: str, tagging: "Tagging | MoodfieldError") -> str:
    """The line of a file in the table, as markup."""
    if isinstance(tagging, MoodfieldError):
        return begin
    moods = console.escape(", ".join(tagging.moods)) or "[dim]–[/dim]"
    themes = f" · [dim]{console.escape(', '.join(tagging.themes))}[/dim]" if tagging.themes else ""
    by_head = [f"{head.model}: {', '.join(head.decided)}" for head in tagging.heads if head.decided]
    heads = "".join(f" · {console.escape(line)}" for line in by_head)
    return f"{begin}  {moods}{themes}{heads}"


def _format_long(begin: str, tagging: "Tagging | MoodfieldError") -> str:
    """The lines of a file in the long table, one for every decided tag, as markup."""
    from rich.text import Text

    from moodfield.report import text

    if isinstance(tagging, MoodfieldError):
        return begin
    lines, width = [], Text.from_markup(begin).cell_len
    decided = [(part, tag) for part in (tagging, *tagging.heads) for tag in (*part.moods, *part.themes)]
    for part, tag in decided:
        number = part.vocabulary.index(tag)
        name = _pad(tag if part is tagging else f"{part.model}: {tag}", TAG_WIDTH)
        if tag in part.theme_vocabulary:
            name = f"[dim]{_pad(f'· {tag}', TAG_WIDTH)}[/dim]"
        if part.times_usual is None:
            lines.append(f"{begin}  {name}  {part.scores[number]:>6.3f}")
        else:
            lines.append(f"{begin}  {name}  {text.times(part.times_usual[number]):>6} as usual")
        begin = " " * width
    return "\n".join(lines or [f"{begin}  [dim]–[/dim]"])


def _format_time(tagging: "Tagging | MoodfieldError") -> str:
    """The column of the duration of a file, or that it failed."""
    if isinstance(tagging, MoodfieldError):
        return f"{'–':>{TIME_WIDTH}}  [red]failed[/red]"
    minutes, seconds = divmod(round(tagging.duration), 60)
    return f"{minutes:>{TIME_WIDTH - 3}}:{seconds:02}"


def _pad(name: str, width: int) -> str:
    """A tag in at least `width` columns of a terminal, as markup."""
    from rich.cells import cell_len, set_cell_size

    name = errors.printable(name)
    return console.escape(set_cell_size(name, max(width, cell_len(name))))


def _to_dict(path: Path, tagging: "Tagging | MoodfieldError", form: Form) -> dict[str, object]:
    """The JSON object of a file."""
    if not isinstance(tagging, MoodfieldError):
        return tagging.to_dict(over_time=form.over_time, embedding=form.embedding)
    reason = tagging.reason if isinstance(tagging, AudioError) else type(tagging).__name__
    return {"source": str(path), "error": {"reason": reason, "message": str(tagging)}}
