"""Learning rate by epoch.

In: the lengths of four phases. Out: the learning rate of an epoch.
Knows nothing of: optimisers.
"""

import math
from dataclasses import dataclass

from moodfield.errors import ConfigError

MOST_EPOCHS = 100_000
"""of a run"""


@dataclass(frozen=True)
class ScheduleConfig:
    """Warm-up, constant, linear decay, and a long end at the floor (§2.2)."""

    warm_up: int = 10
    """epochs from the floor up to the peak (§2.2)"""
    constant: int = 60
    """epochs at the peak (§2.2)"""
    decay: int = 50
    """epochs in which the rate falls in a straight line towards zero (§2.2)"""
    final: int = 80
    """epochs at the floor (§2.2)"""
    peak: float = 1e-4
    """the highest learning rate (§2.2)"""
    floor: float = 1e-6
    """the lowest learning rate (§2.2)"""

    def __post_init__(self) -> None:
        if min(self.warm_up, self.constant, self.decay, self.final) < 0 or self.epochs < 1:
            raise ConfigError(f"{self}: phases are 0 or more epochs, and at least one epoch in all")
        if self.epochs > MOST_EPOCHS:
            raise ConfigError(f"{self}: these are {self.epochs} epochs, at most {MOST_EPOCHS} are trained")
        if not 0 < self.floor <= self.peak < math.inf:
            raise ConfigError(f"{self}: the floor is above 0 and not above the peak, which is finite")

    @property
    def epochs(self) -> int:
        """Epochs of the whole run."""
        return self.warm_up + self.constant + self.decay + self.final


def rate(config: ScheduleConfig, epoch: int) -> float:
    """The learning rate of an epoch, counted from 0."""
    if epoch < config.warm_up:
        return config.floor + (config.peak - config.floor) * epoch / config.warm_up
    into_decay = epoch - config.warm_up - config.constant
    if into_decay < 0:
        return config.peak
    if into_decay < config.decay:
        return max(config.floor, config.peak * (1 - into_decay / config.decay))
    return config.floor
