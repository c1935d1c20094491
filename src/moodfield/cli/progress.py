"""What is seen of work that takes long.

In: tracks heard and epochs trained. Out: bars and lines on a terminal.
Knows nothing of: how the work is done.
"""

from typing import TYPE_CHECKING

from moodfield.cli import desk
from moodfield.errors import MoodfieldError

if TYPE_CHECKING:
    from moodfield.jamendo import Track
    from moodfield.training.loop import Epoch


class Progress:
    """Two bars on a terminal, plain lines elsewhere: tracks heard, epochs trained."""

    def __init__(self, tracks: int, epochs: int) -> None:
        from rich import progress

        columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn())
        self._console = desk.console(stderr=True)
        self._bars = progress.Progress(*columns, progress.TimeRemainingColumn(), console=self._console)
        self._tracks = self._bars.add_task("mels", total=tracks)
        self._epochs = self._bars.add_task("epochs", total=epochs)

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

    def trained(self, epoch: "Epoch") -> None:
        """An epoch is over."""
        judged = "" if epoch.score is None else f", validation {epoch.score:.4f}, best {epoch.best:.4f}"
        mean = "" if epoch.averaged is None else f", averaged {epoch.averaged:.4f}"
        line = f"epoch {epoch.epoch}: rate {epoch.rate:.3g}, loss {epoch.loss:.4f}{judged}{mean}"
        self._console.print(line, highlight=False)
        self._bars.update(self._epochs, completed=epoch.epoch)
