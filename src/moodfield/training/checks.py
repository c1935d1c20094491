"""Checks of a recipe against the data and the machine, before any work is done."""

import numpy as np
import torch
from jaxtyping import Float32

from moodfield import mel
from moodfield.clips import FixedLength
from moodfield.errors import ConfigError
from moodfield.nets import Net
from moodfield.training.configs import LossConfig
from moodfield.training.recipe import Recipe

MAX_PARAMETERS = 2**30
"""parameters of the largest network that is trained: with Adam's two moments they take 16 GB"""
MAX_BATCH_CELLS = 2**33
"""cells of the largest batch of mels; they take 32 GB"""


def check_recipe(recipe: Recipe, *, n_tags: int, clips: int, processes: int = 1) -> None:
    """Check that a recipe can be trained with this many tags, clips an epoch, and processes.

    The network is built without memory for its weights.

    Raises:
        ConfigError: the mel, the network or the batches do not fit, or are too large.
    """
    mel.check(recipe.mel)
    with torch.device("meta"):
        net: Net = recipe.net.build(n_mels=recipe.mel.n_mels, n_tags=n_tags)
    check_clips(recipe, net)
    check_batches(recipe, clips=clips, processes=processes)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    if parameters > MAX_PARAMETERS:
        raise ConfigError(f"the network has {parameters:,} parameters, at most {MAX_PARAMETERS:,} fit; lower width")
    cells = min(recipe.batch.size, clips) * recipe.clip_frames * recipe.mel.n_mels
    if cells > MAX_BATCH_CELLS:
        raise ConfigError(f"{cells:,} cells a batch exceed {MAX_BATCH_CELLS:,}; lower batch.size or batch.clip_seconds")


def check_clips(recipe: Recipe, net: Net) -> None:
    """Raise `ConfigError` for clips that are shorter than the network takes."""
    if not isinstance(net.lengths, FixedLength) and recipe.clip_frames < (least := net.lengths.min_frames):
        raise ConfigError(f"clips have {recipe.clip_frames} frames, not {least} or more; raise batch.clip_seconds")


def check_batches(recipe: Recipe, *, clips: int, processes: int) -> None:
    """Raise `ConfigError` for batches that processes cannot share equally."""
    size = min(recipe.batch.size, clips)
    if size % processes:
        raise ConfigError(f"{processes} processes cannot share {size} clips; make batch.size a multiple of {processes}")


def check_targets(config: LossConfig, targets: Float32[np.ndarray, "tracks tags"]) -> None:
    """Raise `ConfigError` for targets that the loss is not defined for."""
    if config.kind == "tags" and not ((targets >= 0) & (targets <= 1)).all():
        raise ConfigError("targets are outside 0 … 1; for a teacher's logits set loss.kind=logits")
    if not np.isfinite(targets).all():
        raise ConfigError("targets are not finite; a teacher's logits must be numbers")
