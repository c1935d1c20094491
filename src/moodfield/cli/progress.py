"""Progress bars of long work.

In: tracks done, epochs trained, bytes downloaded. Out: bars and lines on a terminal.
Knows nothing of: how the work is done.
"""

import sys
from threading import Lock
from typing import TYPE_CHECKING

from moodfield import errors
from moodfield.cli import console
from moodfield.errors import MoodfieldError

if TYPE_CHECKING:
    from rich.progress import TaskID

    from moodfield.datasets.mtg_jamendo import Track
    from moodfield.training.log import Epoch


class Progress:
    """Two bars on a terminal, lines of a table there and elsewhere: tracks done, epochs trained.

    Of several processes that train together only the first one is seen.
    """

    def __init__(self, tracks: int, epochs: int) -> None:
        from rich import progress

        from moodfield.training import distributed

        self._console = console.terminal(stderr=True)
        self._console.quiet = not distributed.is_main()
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
        self._network = ""
        self._past: dict[str, int] = {}

    def __enter__(self) -> "Progress":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def heard(self, track: "Track", error: MoodfieldError | None) -> None:
        """A track is done, or failed."""
        if error:
            self._console.print(errors.printable(f"left out: {error}"), highlight=False, markup=False)
        self._bars.advance(self._tracks)
        speed = self._bars.tasks[self._tracks].speed
        self._bars.update(self._tracks, pace=f"{speed:.1f} a second" if speed else "")

    def trained(self, epoch: "Epoch", network: str = "") -> None:
        """An epoch is over, of one of several networks if they have names."""
        if network and network != self._network:
            self._console.print(errors.printable(f"network {network}"), style="bold", highlight=False, markup=False)
        self._network = network
        if not self._said:
            self._console.print(
                f"{'epoch':>5}  {'rate':>8}  {'loss':>7}  {'val-loss':>8}  {'score':>7}  {'best':>7}  {'averaged':>8}",
                style="bold",
            )
            self._said = True
        marks = (epoch.validation_loss, epoch.score, epoch.best, epoch.averaged)
        loss, score, best, averaged = (f"{value:.4f}" if value is not None else "–" for value in marks)
        line = f"{epoch.epoch:>5}  {epoch.learning_rate:>8.2e}  {epoch.loss:>7.4f}  {loss:>8}  {score:>7}  {best:>7}"
        self._console.print(f"{line}  {averaged:>8}", highlight=False)
        self._count(network, epoch.epoch)

    def done(self, network: str, epochs: int) -> None:
        """All epochs of a network are over, now or before."""
        self._count(network, epochs)

    def _count(self, network: str, epochs: int) -> None:
        self._past[network] = epochs
        self._bars.update(self._epochs, completed=sum(self._past.values()))
        speed = self._bars.tasks[self._epochs].speed
        self._bars.update(self._epochs, pace=f"{1 / speed:.1f} s each" if speed else "")


class Tracks:
    """One bar on a terminal: tracks that were looked at."""

    def __init__(self, what: str, tracks: int) -> None:
        from rich import progress

        self._bars = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            console=console.terminal(stderr=True),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # results that go to a file are not for the terminal
        )
        self._bar = self._bars.add_task(what, total=tracks)

    def __enter__(self) -> "Tracks":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def one(self) -> None:
        """Another track was looked at."""
        self._bars.advance(self._bar)


class Tars:
    """A bar on a terminal for every tar under way, told of from any thread."""

    def __init__(self) -> None:
        from rich import progress

        self._bars = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=console.terminal(stderr=True),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # results that go to a file are not for the terminal
        )
        self._lock = Lock()
        self._under_way: dict[str, TaskID] = {}

    def __enter__(self) -> "Tars":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def told(self, name: str, done: int, total: int | None) -> None:
        """So many bytes of a tar are here."""
        with self._lock:
            if name not in self._under_way:
                short = name.rpartition("_")[2].removesuffix(".tar")  # a line has to hold more than a name
                self._under_way[name] = self._bars.add_task(console.plain(short), total=total)
        self._bars.update(self._under_way[name], completed=done, total=total)

    def over(self, name: str) -> None:
        """A tar is no longer under way."""
        with self._lock:
            if name in self._under_way:
                self._bars.remove_task(self._under_way.pop(name))
