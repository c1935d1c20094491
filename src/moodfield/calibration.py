"""Apply a calibration: logits to probabilities with a slope and an offset per tag.

`probability = sigmoid(slope · logit + offset)`. The map is monotonic within a tag, so the ranking of tracks does not
change, and it is affine in the logit, so the mean of logits over time stays a mean.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Float64

from moodfield.errors import ConfigError

LEAST = 1e-300
"""lower bound of a probability inside a logarithm"""


@dataclass(frozen=True)
class Calibration:
    """What turns the logits of a network into probabilities, tag by tag."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "ser_json_inf_nan": "strings"}

    slopes: tuple[float, ...]
    """what a tag's logit is multiplied by, 0 or more; below 1 the network was too sure of itself"""
    offsets: tuple[float, ...]
    """what is then added to it"""

    def __post_init__(self) -> None:
        values = np.array([*self.slopes, *self.offsets], np.float64)
        if len(self.slopes) != len(self.offsets) or not np.isfinite(values).all() or min(self.slopes, default=0) < 0:
            raise ConfigError(
                f"{len(self.slopes)} slopes and {len(self.offsets)} offsets came for a calibration; give every tag one "
                "of each, all finite, no slope below 0"
            )

    def scores(self, logits: Float[np.ndarray, "... tags"]) -> Float64[np.ndarray, "... tags"]:
        """Probabilities in 0 … 1 of logits whose last axis are the tags."""
        return sigmoid(np.array(self.slopes) * logits + np.array(self.offsets))


def sigmoid(logits: Float[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """Scores of logits."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(logits, np.float64))))


def logit(scores: Float[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """Logits of scores; what is at or beyond 0 and 1 comes far beyond all others, and yet finite."""
    scores = np.asarray(scores, np.float64)
    return np.asarray(np.log(np.clip(scores, LEAST, 1)) - np.log(np.clip(1 - scores, LEAST, 1)))
