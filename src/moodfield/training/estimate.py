"""How long a run will take here.

In: a recipe, and how much music there is. Out: seconds and bytes, by a few steps of training that are timed.
Knows nothing of: datasets, or what the run is for.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from moodfield.engine import TorchEngine
from moodfield.nets import Net
from moodfield.training import distributed, validation
from moodfield.training.recipe import Recipe

CLIPS = 2
"""in a batch that a processor is timed with: enough for batch norms, and quick; a GPU gets a whole one"""
COPIES = 20
"""of the weights that a finished run keeps: snapshots, their model folders, and what it would go on with"""


@dataclass(frozen=True)
class Throughput:
    """How fast a network of a recipe is on this machine."""

    train_seconds: float
    """seconds for a clip, in training"""
    predict_seconds: float
    """seconds for a clip, in validation"""
    weight_bytes: int
    """bytes of the network"""


@dataclass(frozen=True)
class Cost:
    """What runs take."""

    seconds: float
    """of computing on this machine alone"""
    disk_bytes: int
    """bytes"""

    def __add__(self, other: "Cost") -> "Cost":
        """Of both."""
        return Cost(self.seconds + other.seconds, self.disk_bytes + other.disk_bytes)


def measure(recipe: Recipe, *, n_tags: int) -> Throughput:
    """Time a step of training and one of validation, each after one that is not counted."""
    team = distributed.launch(recipe.precision)
    net: Net = recipe.net.build(n_mels=recipe.mel.n_mels, n_tags=n_tags)
    net.recompute = recipe.recompute
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(net.parameters(), lr=recipe.schedule.peak, fused=True)
    model, tuned = team.fabric.setup(net, optimizer)
    count = CLIPS if team.fabric.device.type == "cpu" else recipe.batch.size
    mels = team.fabric.to_device(torch.randn(count, recipe.mel.n_mels, recipe.clip_frames))
    truth = team.fabric.to_device(torch.zeros(count, n_tags))

    def learn() -> float:
        tuned.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(mels).float(), truth)
        team.fabric.backward(loss)
        tuned.step()
        return float(loss.detach())

    learned = _timed(learn) / count
    engine, clips = TorchEngine(net, precision=validation.engine_precision(recipe)), mels.cpu().numpy()
    heard = _timed(lambda: engine.forward_features(clips)) / count
    return Throughput(learned, heard, sum(value.numel() * value.element_size() for value in net.state_dict().values()))


def scaled(known: Throughput, by: float) -> Throughput:
    """The pace of a network like the one known, with so many times its work."""
    return Throughput(known.train_seconds * by, known.predict_seconds * by, round(known.weight_bytes * by))


def cost(recipe: Recipe, pace: Throughput, *, clips: int, validation_seconds: float) -> Cost:
    """What a run costs that learns so many clips an epoch, and is judged by so many seconds of music."""
    averages = len(recipe.averaged_epochs)
    exams = recipe.schedule.epochs / recipe.validate_every + averages
    heard = validation_seconds / (recipe.validate_stride or recipe.batch.clip_seconds)
    again = (
        averages * clips * pace.train_seconds / 2
    )  # batch norms of an average are found by hearing the clips once more
    seconds = recipe.schedule.epochs * clips * pace.train_seconds + exams * heard * pace.predict_seconds + again
    return Cost(seconds, COPIES * pace.weight_bytes)


def mel_bytes(recipe: Recipe, seconds: float) -> int:
    """Bytes that the mels of so much music take on the disk."""
    return int(seconds * recipe.mel.frames_per_second) * recipe.mel.n_mels * 2


def _timed(work: Callable[[], object]) -> float:
    """Seconds of the second go."""
    work()
    began = time.monotonic()
    work()
    return time.monotonic() - began
