"""Data augmentation of a batch: roll in time and mix-up (§2.3)."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from moodfield.training.configs import AugmentConfig

Mels = Float[Tensor, "batch bands frames"]
Targets = Float[Tensor, "batch tags"]


def roll(mels: Mels, config: AugmentConfig, generator: np.random.Generator) -> Mels:
    """Roll every clip in time by a random shift of its own; frames that leave at one end enter at the other."""
    if not config.roll_frames:
        return mels
    shifts = generator.integers(-config.roll_frames, config.roll_frames, size=len(mels), endpoint=True)
    return torch.stack([clip.roll(int(shift), dims=-1) for clip, shift in zip(mels, shifts, strict=True)])


def mix(mels: Mels, targets: Targets, config: AugmentConfig, generator: np.random.Generator) -> tuple[Mels, Targets]:
    """Mix every clip, and its targets, with another clip of the batch (§2.3, mix-up).

    Weights are drawn per clip and folded to at least one half, so that a clip is mostly itself.
    """
    if not config.mixup_alpha:
        return mels, targets
    drawn = generator.beta(config.mixup_alpha, config.mixup_alpha, size=len(mels))
    weight = torch.from_numpy(np.maximum(drawn, 1 - drawn).astype(np.float32)).to(mels.device)
    partner = torch.from_numpy(generator.permutation(len(mels))).to(mels.device)
    mixed = torch.lerp(mels[partner], mels, weight[:, None, None])
    return mixed, torch.lerp(targets[partner], targets, weight[:, None])
