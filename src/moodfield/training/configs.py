"""The configs of a recipe besides network and mel: batches, augmentation, loss, schedule, averaging."""

import math
from dataclasses import dataclass
from typing import Literal

from moodfield.clips import MAX_FRAMES
from moodfield.errors import ConfigError

MAX_CLIP_SECONDS = 3_600.0
MAX_BATCH_SIZE = 2**16
MIN_ALPHA, MAX_ALPHA = 1e-3, 1e3
"""of the Beta distribution of mix-up: from clips that are hardly mixed to clips that are all mixed half and half"""
MIN_POS_WEIGHT, MAX_POS_WEIGHT = 1e-6, 1e6
MAX_AUXILIARY_WEIGHT = 1e3
MAX_EPOCHS = 100_000


@dataclass(frozen=True)
class BatchConfig:
    """Batches of random clips."""

    clip_seconds: float = 10.0
    """seconds of a random clip; *chosen by us*: the only length that the authors' code names"""
    size: int = 16
    """clips in a batch; *chosen by us*: the paper has none"""

    def __post_init__(self) -> None:
        if not 0 < self.clip_seconds <= MAX_CLIP_SECONDS or not 2 <= self.size <= MAX_BATCH_SIZE:
            raise ConfigError(
                f"{self}: clip_seconds must be above 0 and at most {MAX_CLIP_SECONDS:g}, and size 2 … {MAX_BATCH_SIZE} "
                "(batch norm needs two clips)"
            )


@dataclass(frozen=True)
class AugmentConfig:
    """Data augmentation: roll and mix-up (§2.3)."""

    roll_frames: int = 50
    """every clip is rolled in time by up to this many frames either way; 0 for none; that of the authors' code"""
    mixup_alpha: float = 0.3
    """shape of the Beta distribution that mix-up weights are drawn from (§2.3), that of the authors' code; 0 for no
    mix-up"""

    def __post_init__(self) -> None:
        if not 0 <= self.roll_frames <= MAX_FRAMES:
            raise ConfigError(f"{self}: roll_frames must be 0 … {MAX_FRAMES}")
        if self.mixup_alpha and not MIN_ALPHA <= self.mixup_alpha <= MAX_ALPHA:
            raise ConfigError(f"{self}: mixup_alpha must be 0, or {MIN_ALPHA} … {MAX_ALPHA:g}")


@dataclass(frozen=True)
class LossConfig:
    """The loss between logits and targets."""

    kind: Literal["tags", "logits"] = "tags"
    """tags: targets in 0 … 1, binary cross-entropy; logits: targets are a teacher's logits, squared error in units of
    their standard deviation; *chosen by us*, since the paper has none"""
    pos_weight: float = 10.0
    """weight of a present tag relative to an absent one, for `tags`; *inferred* from how the submissions are
    calibrated"""
    auxiliary_weight: float = 0.0
    """weight of the mean error of auxiliary targets, relative to that of tags, for `logits`: further outputs of the
    teachers, which the network predicts in training alone; 0 for none; *chosen by us*"""

    def __post_init__(self) -> None:
        if not MIN_POS_WEIGHT <= self.pos_weight <= MAX_POS_WEIGHT:
            raise ConfigError(f"{self}: pos_weight must be {MIN_POS_WEIGHT:g} … {MAX_POS_WEIGHT:g}")
        if not 0 <= self.auxiliary_weight <= MAX_AUXILIARY_WEIGHT:
            raise ConfigError(f"{self}: auxiliary_weight must be 0 … {MAX_AUXILIARY_WEIGHT:g}")
        if self.auxiliary_weight and self.kind != "logits":
            raise ConfigError(f"{self}: only logits have auxiliary targets; set auxiliary_weight=0 or kind=logits")


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning-rate schedule: warm-up, constant, linear decay, and a long end at the lowest rate (§2.2)."""

    warm_up: int = 10
    """epochs from the lowest rate up to the peak (§2.2)"""
    constant: int = 60
    """epochs at the peak (§2.2)"""
    decay: int = 50
    """epochs of linear decay towards zero (§2.2)"""
    final: int = 80
    """epochs at the lowest rate (§2.2)"""
    peak: float = 1e-4
    """the highest learning rate (§2.2)"""
    floor: float = 1e-6
    """the lowest learning rate (§2.2)"""
    body_rate: float = 1.0
    """with initial weights, the learning rate of all layers before the last one, relative to that of the last; 0 keeps
    these layers as they are; *chosen by us*"""

    def __post_init__(self) -> None:
        if not 0 <= self.body_rate <= 1:
            raise ConfigError(f"{self}: body_rate must be 0 … 1")
        if min(self.warm_up, self.constant, self.decay, self.final) < 0 or not 1 <= self.epochs <= MAX_EPOCHS:
            raise ConfigError(f"{self}: phases must be 0 or more epochs, and 1 … {MAX_EPOCHS} epochs in total")
        if not 0 < self.floor <= self.peak < math.inf:
            raise ConfigError(f"{self}: floor must be above 0 and at most peak, and peak finite")

    @property
    def epochs(self) -> int:
        """Epochs of the whole run."""
        return self.warm_up + self.constant + self.decay + self.final

    def learning_rate(self, epoch: int) -> float:
        """The learning rate of an epoch.

        Args:
            epoch: counted from 0.

        Returns:
            A rate in `floor` … `peak`.

        Example:
            >>> schedule = ScheduleConfig(warm_up=10, constant=60, decay=50, final=80, peak=1e-4, floor=1e-6)
            >>> [f"{schedule.learning_rate(epoch):.1e}" for epoch in (0, 10, 95, 199)]
            ['1.0e-06', '1.0e-04', '5.0e-05', '1.0e-06']

        """
        if epoch < self.warm_up:
            return self.floor + (self.peak - self.floor) * epoch / self.warm_up
        decayed = epoch - self.warm_up - self.constant
        if decayed < 0:
            return self.peak
        return max(self.floor, self.peak * (1 - decayed / self.decay)) if decayed < self.decay else self.floor


@dataclass(frozen=True)
class AveragingConfig:
    """Stochastic weight averaging (SWA), and how many of the averages are kept (§3.4)."""

    start: int | None = None
    """the epoch, counted from 1, after which weights are averaged first; none: the one in which the decay ends, as
    *chosen by us*, since the paper has none"""
    every: int = 3
    """epochs from one average to the next (§3.4); 0 for no averaging"""
    snapshots: int = 4
    """how many of the last averages are kept beside the best epoch; predictions are the mean of all of them (§3.4)"""

    def __post_init__(self) -> None:
        if self.start is not None and self.start < 1:
            raise ConfigError(f"{self}: start must be an epoch from 1 on, or none")
        if not 0 <= self.every <= MAX_EPOCHS or not 1 <= self.snapshots <= MAX_EPOCHS:
            raise ConfigError(f"{self}: every must be 0 … {MAX_EPOCHS}, and snapshots 1 … {MAX_EPOCHS}")

    def epochs(self, schedule: ScheduleConfig) -> range:
        """The epochs, counted from 1, after which weights are averaged.

        Raises:
            ConfigError: the start comes after the last epoch of the schedule.

        Example:
            >>> AveragingConfig(start=5, every=2).epochs(ScheduleConfig(0, 10, 0, 0))
            range(5, 11, 2)

        """
        if not self.every:
            return range(0)
        start = self.start or max(schedule.epochs - schedule.final, 1)
        if start > schedule.epochs:
            raise ConfigError(
                f"averaging.start={start} exceeds {schedule.epochs} epochs; lower it, or set averaging.every=0"
            )
        return range(start, schedule.epochs + 1, self.every)

    def kept(self, schedule: ScheduleConfig, epoch: int) -> list[int]:
        """The epochs whose averages are kept by the end of an epoch, in ascending order."""
        return [number for number in self.epochs(schedule) if number <= epoch][-self.snapshots :]
