"""Stochastic weight averaging (SWA) with batch-norm statistics that fit the average."""

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, update_bn

from moodfield.nets import Net


def update(average: AveragedModel, net: Net, clips: Iterable[Float[Tensor, "batch bands frames"]]) -> None:
    """Add the weights of a network to the average, then compute the average's batch-norm statistics anew (§3.4).

    Args:
        average: the mean of the weights so far; changed in place.
        net: a network after an epoch.
        clips: batches of mels that the batch-norm statistics are computed from: statistics of different weights have
            no mean that fits the mean of the weights.

    """
    average.update_parameters(net)
    update_bn(clips, average)
