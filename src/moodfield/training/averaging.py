"""SWA, and which snapshots to keep.

In: a network after some of its epochs. Out: the mean of its weights over them, with batch norms that fit the mean.
Knows nothing of: files, or how a network is judged.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, update_bn

from moodfield.errors import ConfigError
from moodfield.nets import Net
from moodfield.training.schedule import MOST_EPOCHS, ScheduleConfig


@dataclass(frozen=True)
class AveragingConfig:
    """When weights are averaged, and how many of the averages are kept (§3.4)."""

    start: int | None = None
    """the epoch, counted from 1, after which weights are averaged first; none: the one in which the decay ends, as
    *chosen by us*, since the paper is silent"""
    every: int = 3
    """epochs from one average to the next (§3.4); 0 for no averaging"""
    snapshots: int = 4
    """the last so many averages are kept beside the best epoch; predictions are the mean of all of them (§3.4)"""

    def __post_init__(self) -> None:
        if (self.start is not None and self.start < 1) or self.every < 0 or self.snapshots < 1:
            raise ConfigError(f"{self}: the start is an epoch from 1 on, every is 0 or more, snapshots are 1 or more")
        if max(self.every, self.snapshots) > MOST_EPOCHS:
            raise ConfigError(f"{self}: neither every nor snapshots are above {MOST_EPOCHS}")


def epochs(config: AveragingConfig, schedule: ScheduleConfig) -> range:
    """The epochs, counted from 1, after which weights are averaged; refuses a start after the last epoch."""
    if not config.every:
        return range(0)
    start = config.start or max(schedule.epochs - schedule.final, 1)
    if start > schedule.epochs:
        raise ConfigError(
            f"averaging.start={start} came for {schedule.epochs} epochs; lower it, or set averaging.every=0 for none"
        )
    return range(start, schedule.epochs + 1, config.every)


def snapshots(config: AveragingConfig, schedule: ScheduleConfig, epoch: int) -> list[int]:
    """The epochs whose averages are kept by the end of an epoch, the first first."""
    return [each for each in epochs(config, schedule) if each <= epoch][-config.snapshots :]


def take(average: AveragedModel, net: Net, clips: Iterable[Float[Tensor, "batch bands frames"]]) -> None:
    """Let the weights of a network count in the mean, then give the mean the batch-norm statistics of these clips.

    Statistics of different weights have no mean that fits the mean of the weights: they are found anew.
    """
    average.update_parameters(net)
    update_bn(clips, average)
