"""Stochastic weight averaging (SWA) with batch-norm statistics that fit the average."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from moodfield.nets import Net


def update(average: AveragedModel, net: Net, clips: Iterable[Float[Tensor, "batch bands frames"]]) -> None:
    """Add the weights of a network to the average, then compute the average's batch-norm statistics anew (§3.4).

    Args:
        average: the mean of the weights so far; changed in place.
        net: a network after an epoch.
        clips: batches of mels that the batch-norm statistics are computed from: statistics of different weights have
            no mean that fits the mean of the weights. Those of a frozen body are kept.

    """
    average.update_parameters(net)
    was_training = average.training
    average.train()
    norms = [module for module in average.modules() if isinstance(module, nn.BatchNorm2d) and module.training]
    if not norms:
        average.train(was_training)
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    with torch.no_grad():
        for mels in clips:
            average(mels)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    average.train(was_training)
