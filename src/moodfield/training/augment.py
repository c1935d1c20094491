"""A batch rolled in time and mixed up, truth included.

In: a batch of mels, its truth, and a generator. Out: a batch that never was.
Knows nothing of: where the batch came from.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from moodfield.clips import MAX_FRAMES
from moodfield.errors import ConfigError

LEAST_ALPHA, MOST_ALPHA = 1e-3, 1e3
"""of mix-up: from clips that are hardly ever mixed to clips that are all mixed half and half"""
Mels = Float[Tensor, "batch bands frames"]
Truth = Float[Tensor, "batch tags"]


@dataclass(frozen=True)
class AugmentConfig:
    """How far a batch is bent (§2.3)."""

    roll_frames: int = 50
    """every clip is rolled in time by up to so many frames either way; 0 for none; that of the authors' code"""
    mixup_alpha: float = 0.3
    """shape of the Beta distribution that shares are drawn from (§2.3), that of the authors' code; 0 for no mix-up"""

    def __post_init__(self) -> None:
        if not 0 <= self.roll_frames <= MAX_FRAMES:
            raise ConfigError(f"{self}: roll_frames is 0 or more, and at most {MAX_FRAMES}")
        if self.mixup_alpha and not LEAST_ALPHA <= self.mixup_alpha <= MOST_ALPHA:
            raise ConfigError(f"{self}: mixup_alpha is 0, or {LEAST_ALPHA} … {MOST_ALPHA:g}")


def roll(mels: Mels, config: AugmentConfig, generator: np.random.Generator) -> Mels:
    """Every clip rolled in time by its own shift; what leaves at one end comes in at the other."""
    if not config.roll_frames:
        return mels
    shifts = generator.integers(-config.roll_frames, config.roll_frames, size=len(mels), endpoint=True)
    return torch.stack([clip.roll(int(shift), dims=-1) for clip, shift in zip(mels, shifts, strict=True)])


def mix(mels: Mels, truth: Truth, config: AugmentConfig, generator: np.random.Generator) -> tuple[Mels, Truth]:
    """Every clip mixed with another one of the batch, its truth in the same share (§2.3, mix-up).

    Shares are drawn per clip and folded to at least a half, so that a clip is mostly itself.
    """
    if not config.mixup_alpha:
        return mels, truth
    drawn = generator.beta(config.mixup_alpha, config.mixup_alpha, size=len(mels))
    share = torch.from_numpy(np.maximum(drawn, 1 - drawn).astype(np.float32)).to(mels.device)
    other = torch.from_numpy(generator.permutation(len(mels))).to(mels.device)
    mixed = torch.lerp(mels[other], mels, share[:, None, None])
    return mixed, torch.lerp(truth[other], truth, share[:, None])
