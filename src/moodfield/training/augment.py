"""A batch rolled in time and mixed up, truth included.

In: a batch of mels, its truth, and a generator. Out: a batch that never was.
Knows nothing of: where the batch came from.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from moodfield.training.configs import AugmentConfig

Mels = Float[Tensor, "batch bands frames"]
Truth = Float[Tensor, "batch tags"]


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
