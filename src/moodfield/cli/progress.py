"""What is seen of work that takes long.

In: tracks heard and epochs trained. Out: bars and lines on a terminal.
Knows nothing of: how the work is done.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from moodfield.cli import desk
from moodfield.errors import MoodfieldError

if TYPE_CHECKING:
    from moodfield.jamendo import Track
    from moodfield.training.loop import Epoch


@contextmanager
def hearing(tracks: int) -> "Iterator[Callable[[Track, MoodfieldError | None], None]]":
    """A bar on a terminal, to be told of every track that was heard."""
    from rich import progress

    columns = (progress.TextColumn("tracks"), progress.BarColumn(), progress.MofNCompleteColumn())
    with progress.Progress(*columns, progress.TimeRemainingColumn(), console=desk.console(stderr=True)) as bar:
        task = bar.add_task("tracks", total=tracks)
        yield lambda track, error: bar.advance(task)


class Progress:
    """Two bars on a terminal, lines of a table there and elsewhere: tracks heard, epochs trained.

    Of several processes that train together only the first one is seen.
    """

    def __init__(self, tracks: int, epochs: int) -> None:
        from rich import progress

        from moodfield.training import together

        self._console = desk.console(stderr=True)
        self._console.quiet = not together.first()
        self._bars = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[pace]}"),
            progress.TimeRemainingColumn(),
            console=self._console,
        )
        self._tracks = self._bars.add_task("mels", total=tracks, pace="")
        self._epochs = self._bars.add_task("epochs", total=epochs, pace="")
        self._said = False

    def __enter__(self) -> "Progress":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def heard(self, track: "Track", error: MoodfieldError | None) -> None:
        """A track was heard, or why not."""
        if error:
            self._console.print(f"left out: {error}", highlight=False, markup=False)
        self._bars.advance(self._tracks)
        speed = self._bars.tasks[self._tracks].speed
        self._bars.update(self._tracks, pace=f"{speed:.1f} a second" if speed else "")

    def trained(self, epoch: "Epoch") -> None:
        """An epoch is over."""
        if not self._said:
            self._console.print(
                f"{'epoch':>5}  {'rate':>8}  {'loss':>7}  {'val-loss':>8}  {'score':>7}  {'best':>7}  {'averaged':>8}",
                style="bold",
            )
            self._said = True
        marks = (epoch.validation_loss, epoch.score, epoch.best, epoch.averaged)
        loss, score, best, averaged = (f"{value:.4f}" if value is not None else "–" for value in marks)
        line = f"{epoch.epoch:>5}  {epoch.rate:>8.2e}  {epoch.loss:>7.4f}  {loss:>8}  {score:>7}  {best:>7}"
        self._console.print(f"{line}  {averaged:>8}", highlight=False)
        self._bars.update(self._epochs, completed=epoch.epoch)
        speed = self._bars.tasks[self._epochs].speed
        self._bars.update(self._epochs, pace=f"{1 / speed:.1f} s each" if speed else "")
