"""Apply a calibration: logits to probabilities with a slope and an offset per tag.

`probability = sigmoid(slope · logit + offset)`. The map is monotonic within a tag, so the ranking of tracks does not
change, and it is affine in the logit, so the mean of logits over time stays a mean.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Float32, Float64

from moodfield.errors import ConfigError

MIN_PROBABILITY = 1e-300
"""lower bound of a probability inside a logarithm"""


@dataclass(frozen=True)
class Calibration:
    """A map from logits to probabilities, with one slope and one offset per tag.

    Example:
        >>> Calibration((0.5,), (-1.0,)).scores(np.array([2.0]))
        array([0.5])
    """

    __pydantic_config__: ClassVar = {"extra": "forbid", "ser_json_inf_nan": "strings"}

    slopes: tuple[float, ...]
    """factor of the logit of every tag, 0 or more; below 1 if the network is overconfident"""
    offsets: tuple[float, ...]
    """term that is then added"""

    def __post_init__(self) -> None:
        values = np.array([*self.slopes, *self.offsets], np.float64)
        if len(self.slopes) != len(self.offsets) or not np.isfinite(values).all() or min(self.slopes, default=0) < 0:
            raise ConfigError(
                f"a calibration has {len(self.slopes)} slopes and {len(self.offsets)} offsets; expected one of each "
                "per tag, all finite, no slope below 0"
            )

    def scores(self, logits: Float[np.ndarray, "... tags"]) -> Float64[np.ndarray, "... tags"]:
        """Probabilities in 0 … 1 of logits."""
        return sigmoid(np.array(self.slopes) * logits + np.array(self.offsets))


def scores(calibration: Calibration | None, logits: Float[np.ndarray, "tags ..."]) -> Float32[np.ndarray, "tags ..."]:
    """Scores of logits: by a calibration, or by the sigmoid alone.

    Example:
        >>> scores(None, np.array([0.0]))
        array([0.5], dtype=float32)
    """
    return (calibration.scores(logits.T).T if calibration else sigmoid(logits)).astype(np.float32)


def sigmoid(logits: Float[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """The logistic function, in float64: logits to scores in 0 … 1.

    Example:
        >>> sigmoid(np.array([0.0]))
        array([0.5])
    """
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(logits, np.float64))))


def logit(scores: Float[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """Inverse of `sigmoid`, in float64; scores at or beyond 0 and 1 give large finite logits (about ±690).

    Example:
        >>> logit(np.array([0.5]))
        array([0.])
    """
    scores = np.asarray(scores, np.float64)
    return np.asarray(np.log(np.clip(scores, MIN_PROBABILITY, 1)) - np.log(np.clip(1 - scores, MIN_PROBABILITY, 1)))
