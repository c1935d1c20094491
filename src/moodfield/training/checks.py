"""What is refused before any work is done: settings that contradict each other, the data, or the machine.

In: a recipe, the number of tags, clips and processes, truth. Out: nothing, or an error.
Knows nothing of: audio, folders, or how a network is trained.
"""

import numpy as np
import torch
from jaxtyping import Float32

from moodfield import mel
from moodfield.clips import FixedLength
from moodfield.errors import ConfigError
from moodfield.nets import Net
from moodfield.training.configs import LossConfig
from moodfield.training.recipe import Recipe

MOST_PARAMETERS = 2**30
"""parameters of the largest network that is trained: with Adam's two moments they take 16 GB"""
MOST_CELLS = 2**33
"""cells of the largest batch of mels; they take 32 GB"""


def check_recipe(recipe: Recipe, *, tags: int, clips: int, processes: int = 1) -> None:
    """Refuse with `ConfigError` a recipe that cannot be trained with so many tags, clips an epoch, and processes.

    The network is built without memory for its weights.
    """
    mel.check(recipe.mel)
    with torch.device("meta"):
        net: Net = recipe.net.build(n_mels=recipe.mel.n_mels, n_tags=tags)
    check_clips(recipe, net)
    check_batches(recipe, clips=clips, processes=processes)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    if parameters > MOST_PARAMETERS:
        raise ConfigError(
            f"the network has {parameters:,} parameters, at most {MOST_PARAMETERS:,} are trained; lower width"
        )
    cells = min(recipe.batch.size, clips) * recipe.clip_frames * recipe.mel.n_mels
    if cells > MOST_CELLS:
        raise ConfigError(
            f"a batch has {cells:,} cells, at most {MOST_CELLS:,} fit; lower batch.size or batch.clip_seconds"
        )


def check_clips(recipe: Recipe, net: Net) -> None:
    """Refuse with `ConfigError` clips that are shorter than the network takes."""
    if not isinstance(net.lengths, FixedLength) and recipe.clip_frames < net.lengths.min_frames:
        raise ConfigError(
            f"clips of {recipe.clip_frames} frames came, the network wants {net.lengths.min_frames} or more; "
            "raise batch.clip_seconds"
        )


def check_batches(recipe: Recipe, *, clips: int, processes: int) -> None:
    """Refuse with `ConfigError` batches of which not every process gets as many clips as the others."""
    size = min(recipe.batch.size, clips)
    if size % processes:
        raise ConfigError(
            f"batches of {size} clips came for {processes} processes; set batch.size to a multiple of {processes}"
        )


def check_targets(config: LossConfig, truth: Float32[np.ndarray, "tracks tags"]) -> None:
    """Refuse with `ConfigError` truth that a loss cannot be computed with."""
    if config.kind == "tags" and not ((truth >= 0) & (truth <= 1)).all():
        raise ConfigError("truth outside 0 … 1 came; for a teacher's logits set loss.kind=logits")
    if not np.isfinite(truth).all():
        raise ConfigError("truth that is not finite came; a teacher's logits are numbers")
