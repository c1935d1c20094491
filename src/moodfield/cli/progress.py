"""Progress bars of long work, with rate and time left, on standard error."""

import sys
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from moodfield import errors
from moodfield.cli import console

if TYPE_CHECKING:
    from rich.progress import ProgressColumn, TaskID

    from moodfield.datasets.mtg_jamendo import Track
    from moodfield.errors import MoodfieldError
    from moodfield.training.log import Epoch

Bars = TypeVar("Bars", bound="_Bars")
HEAD = f"{'epoch':>5}  {'rate':>8}  {'loss':>7}  {'val-loss':>8}  {'score':>7}  {'best':>7}  {'averaged':>8}"
"""head of the table of epochs"""


class _Bars:
    """Bars that are drawn only if standard error is a terminal, and removed at the end."""

    def __init__(self, *columns: "ProgressColumn") -> None:
        from rich import progress

        self.console = console.terminal(stderr=True)
        self._bars = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            *columns,
            progress.TimeRemainingColumn(),
            console=self.console,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # results that go to a file do not belong on the terminal
            disable=not self.console.is_terminal,
        )

    def __enter__(self: Bars) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


class _CountBars(_Bars):
    """Bars that count, with a rate."""

    def __init__(self) -> None:
        from rich import progress

        super().__init__(progress.MofNCompleteColumn(), progress.TextColumn("{task.fields[rate]}"))

    def _add(self, name: str, total: int) -> "TaskID":
        return self._bars.add_task(name, total=total, rate="")

    def _update(self, bar: "TaskID", completed: int) -> None:
        self._bars.update(bar, completed=completed)
        if speed := self._bars.tasks[bar].speed:
            self._bars.update(bar, rate=f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")


class FileProgress(_CountBars):
    """One bar that counts files or tracks."""

    def __init__(self, name: str, total: int) -> None:
        super().__init__()
        self._bar = self._add(name, total)
        self._done = 0
        shared = sys.stdout.isatty() and self.console.is_terminal
        self._results = self.console if shared else console.terminal()

    def advance(self) -> None:
        """Count one more."""
        self._done += 1
        self._update(self._bar, self._done)

    def print_result(self, markup: str) -> None:
        """Print a line of results on standard output, above the bar if both are on one terminal."""
        self._results.print(markup)


class TrackProgress(_CountBars):
    """A bar that counts tracks, and a line for every track that is left out."""

    def __init__(self, name: str, tracks: int) -> None:
        super().__init__()
        self._bar = self._add(name, tracks)
        self._tracks = 0

    def track(self, track: "Track", error: "MoodfieldError | None") -> None:
        """Count a track, and print why it is left out."""
        if error:
            self.console.print(errors.printable(f"left out: {error}"), markup=False)
        self._tracks += 1
        self._update(self._bar, self._tracks)


class TrainingProgress(TrackProgress):
    """Two bars, mels and epochs, and a line for every epoch, which is also printed without a terminal.

    Of several processes that train together, only the first one prints.
    """

    def __init__(self, tracks: int, epochs: int) -> None:
        from moodfield.training import distributed

        super().__init__("mels", tracks)
        self.console.quiet = not distributed.is_main()
        self._epochs = self._add("epochs", epochs)
        self._network: str | None = None
        self._done: dict[str, int] = {}

    def epoch(self, epoch: "Epoch", network: str = "") -> None:
        """Print the metrics of an epoch, of one of several networks if they have names."""
        if self._network is None or network != self._network:
            if network:
                self.console.print(errors.printable(f"network {network}"), style="bold", markup=False)
            if self._network is None:
                self.console.print(HEAD, style="bold")
        self._network = network
        metrics = (epoch.validation_loss, epoch.score, epoch.best, epoch.averaged)
        loss, score, best, averaged = map(console.number, metrics)
        line = f"{epoch.epoch:>5}  {epoch.learning_rate:>8.2e}  {epoch.loss:>7.4f}  {loss:>8}  {score:>7}  {best:>7}"
        self.console.print(f"{line}  {averaged:>8}")
        self.finished(network, epoch.epoch)

    def finished(self, network: str, epochs: int) -> None:
        """Count the epochs of a network that are over, in this process or an earlier one."""
        self._done[network] = epochs
        self._update(self._epochs, sum(self._done.values()))


class DownloadProgress(_Bars):
    """A bar for every file that is being downloaded; may be called from any thread."""

    def __init__(self) -> None:
        from rich import progress

        super().__init__(progress.DownloadColumn(), progress.TransferSpeedColumn())
        self._lock = Lock()
        self._files: dict[str, TaskID] = {}

    def update(self, name: str, done: int, total: int | None) -> None:
        """Set the number of bytes of a file that have arrived."""
        with self._lock:
            if name not in self._files:
                short = name.rpartition("_")[2].removesuffix(".tar")  # so that the line fits
                self._files[name] = self._bars.add_task(console.escape(short), total=total)
        self._bars.update(self._files[name], completed=done, total=total)

    def remove(self, name: str) -> None:
        """Remove the bar of a file."""
        with self._lock:
            if name in self._files:
                self._bars.remove_task(self._files.pop(name))
