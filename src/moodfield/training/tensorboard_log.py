"""A run is watched from elsewhere.

In: epochs, as they end. Out: event files that TensorBoard reads.
Knows nothing of: how an epoch came about.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from moodfield.training.loop import Epoch

FOLDER = "tensorboard"
"""where a run keeps them"""


@contextmanager
def tensorboard(run: str | Path) -> Iterator[Callable[[Epoch], None]]:
    """Something to tell every epoch to; epochs told again after a stop replace what was there."""
    from torch.utils.tensorboard import SummaryWriter

    writer: SummaryWriter | None = None

    def told(epoch: Epoch) -> None:
        nonlocal writer
        writer = writer or SummaryWriter(str(Path(run) / FOLDER), purge_step=epoch.epoch)
        for name, value in (
            ("rate", epoch.learning_rate),
            ("loss", epoch.loss),
            ("validation/loss", epoch.validation_loss),
            ("validation/network", epoch.score),
            ("validation/average", epoch.averaged),
        ):
            if value is not None:
                writer.add_scalar(name, value, epoch.epoch)
        writer.flush()

    try:
        yield told
    finally:
        if writer:
            writer.close()
