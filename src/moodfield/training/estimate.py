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
from moodfield.training import averaging, distributed, validation
from moodfield.training.recipe import Recipe

CLIPS = 2
"""in a batch that a processor is timed with: enough for batch norms, and quick; a GPU gets a whole one"""
COPIES = 20
"""of the weights that a finished run keeps: snapshots, their model folders, and what it would go on with"""


@dataclass(frozen=True)
class Throughput:
    """How fast a network of a recipe is on this machine."""

    learned: float
    """seconds for a clip, in training"""
    heard: float
    """seconds for a clip, in validation"""
    weights: int
    """bytes of the network"""


@dataclass(frozen=True)
class Cost:
    """What runs take."""

    seconds: float
    """of computing on this machine alone"""
    disk: int
    """bytes"""

    def __add__(self, other: "Cost") -> "Cost":
        """Of both."""
        return Cost(self.seconds + other.seconds, self.disk + other.disk)


def measure(plan: Recipe, *, tags: int) -> Throughput:
    """Time a step of training and one of validation, each after one that is not counted."""
    team = distributed.launch(plan.precision)
    net: Net = plan.net.build(n_mels=plan.mel.n_mels, n_tags=tags)
    net.recompute = plan.recompute
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(net.parameters(), lr=plan.schedule.peak, fused=True)
    model, tuned = team.fabric.setup(net, optimizer)
    count = CLIPS if team.fabric.device.type == "cpu" else plan.batch.size
    mels = team.fabric.to_device(torch.randn(count, plan.mel.n_mels, plan.clip_frames))
    truth = team.fabric.to_device(torch.zeros(count, tags))

    def learn() -> float:
        tuned.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(mels).float(), truth)
        team.fabric.backward(loss)
        tuned.step()
        return float(loss.detach())

    learned = _timed(learn) / count
    engine, clips = TorchEngine(net, precision=validation.precision(plan)), mels.cpu().numpy()
    heard = _timed(lambda: engine.forward_features(clips)) / count
    return Throughput(learned, heard, sum(value.numel() * value.element_size() for value in net.state_dict().values()))


def scaled(known: Throughput, by: float) -> Throughput:
    """The pace of a network like the one known, with so many times its work."""
    return Throughput(known.learned * by, known.heard * by, round(known.weights * by))


def cost(plan: Recipe, pace: Throughput, *, clips: int, judged: float) -> Cost:
    """What a run costs that learns so many clips an epoch, and is judged by so many seconds of music."""
    averages = len(averaging.epochs(plan.averaging, plan.schedule))
    exams = plan.schedule.epochs / plan.validate_every + averages
    heard = judged / (plan.validate_stride or plan.batch.clip_seconds)
    again = averages * clips * pace.learned / 2  # batch norms of an average are found by hearing the clips once more
    seconds = plan.schedule.epochs * clips * pace.learned + exams * heard * pace.heard + again
    return Cost(seconds, COPIES * pace.weights)


def mels(plan: Recipe, seconds: float) -> int:
    """Bytes that the mels of so much music take on the disk."""
    return int(seconds * plan.mel.frames_per_second) * plan.mel.n_mels * 2


def _timed(work: Callable[[], object]) -> float:
    """Seconds of the second go."""
    work()
    began = time.monotonic()
    work()
    return time.monotonic() - began
