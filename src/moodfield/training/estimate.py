"""Estimates of time and disk space of a training run, from timed steps on this machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from moodfield.engine import TorchEngine
from moodfield.nets import Net
from moodfield.training import distributed, validation
from moodfield.training.recipe import Recipe

CPU_CLIPS = 2
"""clips in a timed batch on a CPU: enough for batch norms, and quick; a GPU gets a whole batch"""
WEIGHT_COPIES = 20
"""copies of the weights that a finished run keeps: snapshots, model folders, and the state to resume from"""


@dataclass(frozen=True)
class Throughput:
    """Speed of a network on this machine."""

    train_seconds: float
    """seconds for a clip, in training"""
    predict_seconds: float
    """seconds for a clip, in validation"""
    weight_bytes: int
    """size of the weights"""

    def scale(self, factor: float) -> "Throughput":
        """Estimate for a similar network with `factor` times the computation.

        Example:
            >>> Throughput(0.2, 0.1, 1000).scale(2)
            Throughput(train_seconds=0.4, predict_seconds=0.2, weight_bytes=2000)
        """
        return Throughput(self.train_seconds * factor, self.predict_seconds * factor, round(self.weight_bytes * factor))


@dataclass(frozen=True)
class Cost:
    """Time and disk space."""

    seconds: float
    """computing time on this machine alone"""
    disk_bytes: int
    """disk space"""

    def __add__(self, other: "Cost") -> "Cost":
        """The sum of two costs."""
        return Cost(self.seconds + other.seconds, self.disk_bytes + other.disk_bytes)


def measure(recipe: Recipe, *, n_tags: int) -> Throughput:
    """Time a training step and a validation step, each after one step that is not counted."""
    group = distributed.launch(recipe.precision)
    net: Net = recipe.net.build(n_mels=recipe.mel.n_mels, n_tags=n_tags)
    net.recompute = recipe.recompute
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model, optimizer = group.fabric.setup(net, torch.optim.Adam(net.parameters(), lr=recipe.schedule.peak, fused=True))
    size = CPU_CLIPS if group.fabric.device.type == "cpu" else recipe.batch.size
    mels = group.fabric.to_device(torch.randn(size, recipe.mel.n_mels, recipe.clip_frames))
    targets = group.fabric.to_device(torch.zeros(size, n_tags))

    def train() -> float:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(mels).float(), targets)
        group.fabric.backward(loss)
        optimizer.step()
        return float(loss.detach())

    train_seconds = _time(train) / size
    engine, clips = TorchEngine(net, precision=validation.engine_precision(recipe)), mels.cpu().numpy()
    predict_seconds = _time(lambda: engine.forward_features(clips)) / size
    weight_bytes = sum(value.numel() * value.element_size() for value in net.state_dict().values())
    return Throughput(train_seconds, predict_seconds, weight_bytes)


def cost(recipe: Recipe, throughput: Throughput, *, clips: int, validation_seconds: float) -> Cost:
    """Cost of a run.

    Args:
        recipe: its recipe.
        throughput: speed of its network.
        clips: training clips in an epoch.
        validation_seconds: duration of the validation tracks.
    """
    averages = len(recipe.averaged_epochs)
    validations = recipe.schedule.epochs / recipe.validate_every + averages
    validation_clips = validation_seconds / (recipe.validate_stride or recipe.batch.clip_seconds)
    batch_norms = averages * clips * throughput.train_seconds / 2  # one forward pass for every average
    training = recipe.schedule.epochs * clips * throughput.train_seconds
    validating = validations * validation_clips * throughput.predict_seconds
    return Cost(training + validating + batch_norms, WEIGHT_COPIES * throughput.weight_bytes)


def mel_bytes(recipe: Recipe, seconds: float) -> int:
    """Disk space of the cached mels of music of this duration.

    Example:
        >>> from moodfield.training.recipe import Recipe
        >>> mel_bytes(Recipe(), 60.0)
        2645504
    """
    return int(seconds * recipe.mel.frames_per_second) * recipe.mel.n_mels * 2


def _time(step: Callable[[], object]) -> float:
    """Seconds of the second call."""
    step()
    started = time.monotonic()
    step()
    return time.monotonic() - started
