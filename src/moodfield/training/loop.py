"""The training loop: epochs of batches, validation, weight averaging and checkpoints.

Every epoch has random generators of its own, seeded with the recipe's seed and the number of the epoch: a run that is
killed and resumed continues after its last complete epoch exactly as if it had not been interrupted.
"""

import ctypes
import hashlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from moodfield.errors import RunError
from moodfield.nets import Net
from moodfield.training import augment, averaging, batches, checkpoints, checks, distributed, fine_tuning, run_folder
from moodfield.training.batches import ClipDataset
from moodfield.training.checkpoints import TrainingState
from moodfield.training.configs import LossConfig
from moodfield.training.distributed import ProcessGroup
from moodfield.training.fine_tuning import InitialWeights
from moodfield.training.log import Epoch, EpochCallback
from moodfield.training.mel_cache import Statistics
from moodfield.training.recipe import Recipe
from moodfield.training.validation import DivergedError, Validator

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""parameters of glibc's mallopt, as malloc.h numbers them"""

Loss = Callable[[Tensor, Tensor], Tensor]
Batches = Iterator[tuple[Tensor, Tensor]]


def fit(
    recipe: Recipe,
    training: ClipDataset,
    validation: ClipDataset,
    statistics: Statistics,
    vocabulary: Sequence[str],
    run_dir: str | Path,
    *,
    group: ProcessGroup | None = None,
    initial_weights: InitialWeights | None = None,
    on_epoch: EpochCallback = lambda _: None,
) -> Net:
    """Train a network by its recipe, or resume a run that was stopped.

    The run keeps the weights of the best epoch and of the last averages (`checkpoints.snapshot_paths`). Several
    processes share every batch; the first one writes.

    Args:
        recipe: settings of the run.
        training: tracks to train on; targets beyond the vocabulary are auxiliary (`LossConfig.auxiliary_weight`).
        validation: tracks that the best epoch is chosen on.
        statistics: mean and standard deviation of the training mels, which the network standardizes with, unless it has
            initial weights: these contain statistics of their own.
        vocabulary: names of the tags, in the order of the targets.
        run_dir: folder of the run.
        group: the processes that train together; by default launched here.
        initial_weights: weights of the same network to start from.
        on_epoch: called after every epoch, in the first process.

    Returns:
        The network of the best epoch, with the outputs for auxiliary targets.

    Raises:
        ConfigError: clips are shorter than the network takes, batches cannot be shared, or the initial weights are
            those of another network.
        OutputError: the folder holds something else than a run.
        RunError: the run has another recipe, vocabulary or dataset, is locked by another process, or cannot be written;
            or training diverged. What the run had before is kept.
    """
    group = group or distributed.launch(recipe.precision)
    folder = Path(run_dir)
    n_outputs = training.targets.per_track().shape[1]
    net = _create_net(recipe, statistics, n_outputs)
    loss = _make_loss(recipe.loss, training, net, n_tags=len(vocabulary))
    if initial_weights:
        fine_tuning.initialize(net, initial_weights)
    checks.check_batches(recipe, clips=len(training.targets), processes=group.world_size)
    with run_folder.lock(folder, enabled=group.is_main):
        if group.is_main:
            digest = _digest(training, statistics)
            identity = {run_folder.VOCABULARY: list(vocabulary), run_folder.DATASET: digest}
            run_folder.claim(folder, recipe, identity)
        group.barrier()
        validator = Validator(recipe, validation, tuple(vocabulary), loss, group)
        fill = net.standardize.mean.numpy()
        _Trainer(folder, recipe, training, fill, validator, group).train(net, on_epoch)
        group.barrier()
        net = _create_net(recipe, statistics, n_outputs)
        checkpoints.load_weights(net, folder / checkpoints.BEST)
        return net


@dataclass(frozen=True)
class _Trainer:
    """One run; its methods are the steps of an epoch."""

    folder: Path
    recipe: Recipe
    training: ClipDataset
    fill: Float32[np.ndarray, "bands"]
    validator: Validator
    group: ProcessGroup

    def train(self, net: Net, on_epoch: EpochCallback) -> None:
        """Train a fresh network for all epochs that the run does not have yet."""
        recipe, group = self.recipe, self.group
        net.recompute = recipe.recompute
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = fine_tuning.parameter_groups(net, recipe.schedule)
        optimizer = torch.optim.Adam(groups, lr=recipe.schedule.peak, fused=True)
        if group.world_size > 1:
            distributed.sync_batch_norms(net)
        model, wrapped = group.fabric.setup(net, optimizer)
        state = TrainingState(net, optimizer, AveragedModel(net))
        with run_folder.os_errors_as_run_errors(self.folder):  # after setup: moments belong on the weights' device
            complete, best = checkpoints.restore(self.folder, recipe, state, is_main=group.is_main)
        for number in range(complete, recipe.schedule.epochs):
            started, rate = time.process_time(), recipe.schedule.learning_rate(number)
            for parameters in wrapped.param_groups:
                parameters["lr"] = rate * parameters["scale"]
            generator = np.random.default_rng([recipe.seed, number])
            torch.manual_seed((int(generator.integers(2**63)) + group.rank) % 2**63)
            with _training_errors(recipe, number + 1):
                loss = self._train_epoch(model, wrapped, self._batches(generator, mix=True))
                _check_finite(loss, net)
                if number + 1 in recipe.averaged_epochs:
                    self._average(state, np.random.default_rng([recipe.seed, number, 1]))
                with run_folder.os_errors_as_run_errors(self.folder):
                    epoch = self._validate(state, Epoch(number + 1, rate, loss, best=best))
                    epoch = replace(epoch, cpu_seconds=round(time.process_time() - started, 1))
                    if group.is_main:
                        checkpoints.save(self.folder, recipe, state, epoch, improved=epoch.best != best)
            best = epoch.best
            if group.is_main:
                on_epoch(epoch)

    def _train_epoch(self, model: nn.Module, optimizer: torch.optim.Optimizer, epoch: Batches) -> float:
        """Train on batches; their mean loss."""
        losses = []
        model.train()
        for mels, targets in batches.prefetch(epoch):
            optimizer.zero_grad()
            loss = self.validator.loss(model(self.group.shard(mels)).float(), self.group.shard(targets))
            self.group.fabric.backward(loss)
            optimizer.step()
            losses.append(loss.detach())  # its value is not read here: that would wait for the GPU
        mean = math.fsum(torch.stack(losses).tolist()) / len(losses)  # in Python: Apple's GPUs have no float64
        return self.group.all_reduce_mean(mean)

    def _average(self, state: TrainingState, generator: np.random.Generator) -> None:
        clips = (self.group.shard(mels) for mels, _ in self._batches(generator, mix=False))
        with self.group.fabric.autocast():
            averaging.update(state.average, state.net, clips)

    def _validate(self, state: TrainingState, epoch: Epoch) -> Epoch:
        """The epoch with its scores, where they are due; a new average is saved."""
        if epoch.epoch == self.recipe.schedule.epochs or epoch.epoch % self.recipe.validate_every == 0:
            result = self.validator(state.net)
            if not (math.isfinite(result.score) and math.isfinite(result.loss)):
                raise DivergedError(f"the validation score is {result.score}, the validation loss {result.loss}")
            best = result.score if epoch.best is None else max(epoch.best, result.score)
            epoch = replace(epoch, score=result.score, validation_loss=result.loss, best=best)
        if epoch.epoch in self.recipe.averaged_epochs:
            average = cast("Net", state.average.module)
            epoch = replace(epoch, averaged=self.validator(average).score)
            if self.group.is_main:
                checkpoints.save_snapshot(self.folder, epoch.epoch, average)
        return epoch

    def _batches(self, generator: np.random.Generator, *, mix: bool) -> Batches:
        """An epoch's batches, rolled in time and perhaps mixed up."""
        recipe = self.recipe
        epoch = batches.epoch(
            self.training, clip_frames=recipe.clip_frames, size=recipe.batch.size, fill=self.fill, generator=generator
        )
        for mels, targets in epoch:
            rolled = augment.roll(mels, recipe.augment, generator)
            yield augment.mix(rolled, targets, recipe.augment, generator) if mix else (rolled, targets)


@contextmanager
def _training_errors(recipe: Recipe, epoch: int) -> Iterator[None]:
    """Turn out-of-memory and divergence into `RunError` with advice."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError(f"no device memory for {recipe.batch.size} clips; lower batch.size, or set recompute") from error
    except DivergedError as error:
        raise RunError(
            f"training diverged in epoch {epoch}: {error}; lower schedule.peak, or train in 32-true; what the run "
            "had before this epoch is kept"
        ) from error


def _check_finite(loss: float, net: Net) -> None:
    """Raise `DivergedError` for a loss or weights that are not finite; such an epoch does not count."""
    if not math.isfinite(loss):
        raise DivergedError(f"the loss is {loss}")
    for name, value in net.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise DivergedError(f"the weights {name} are not finite")


def _create_net(recipe: Recipe, statistics: Statistics, n_outputs: int) -> Net:
    """The network before its first epoch."""
    torch.manual_seed(recipe.seed)
    net: Net = recipe.net.build(n_mels=recipe.mel.n_mels, n_tags=n_outputs)
    checks.check_clips(recipe, net)
    mean, std = (torch.from_numpy(values.astype(np.float32)) for values in (statistics.mean, statistics.std))
    net.standardize.set_statistics(mean, std)
    return net


def _make_loss(config: LossConfig, training: ClipDataset, net: Net, *, n_tags: int) -> Loss:
    """The loss of logits and targets; for a teacher's logits the network's output starts at their mean and std.

    It also takes the tags alone, without the auxiliary targets that follow them.
    """
    rows = training.targets.per_track()
    checks.check_targets(config, rows)
    if config.kind == "tags":
        weight = torch.tensor(config.pos_weight)
        return lambda logits, targets: F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight.to(logits))
    tensor = torch.from_numpy(rows)
    mean, std = tensor.mean(dim=0), tensor.std(dim=0).clamp_min(1e-3)
    net.init_output_bias(mean, std)
    n_auxiliary = rows.shape[1] - n_tags
    weights = torch.full_like(std, 1 / n_tags)
    weights[n_tags:] = config.auxiliary_weight / max(1, n_auxiliary)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        columns = logits.shape[1]
        errors = ((logits - targets) / std[:columns].to(logits)) ** 2
        return (errors.mean(dim=0) * weights[:columns].to(logits)).sum()

    return loss


def _digest(training: ClipDataset, statistics: Statistics) -> str:
    """A SHA-256 that identifies the training data."""
    parts = (training.targets.per_track().tobytes(), statistics.mean.tobytes(), statistics.std.tobytes())
    return hashlib.sha256(b"".join(parts)).hexdigest()


def keep_freed_memory(recipe: Recipe) -> None:
    """Configure glibc to keep freed memory for the rest of this process, unless the recipe recomputes to save memory.

    Every step frees its activations and allocates as many again. Fresh pages from the system, zeroed one by one, cost
    almost half as much processor time as all the arithmetic on them. Without glibc nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt and not recipe.recompute:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
