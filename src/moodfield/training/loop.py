"""The training loop, top to bottom.

In: a recipe, material to learn from and to be judged by, and a folder. Out: a run that can be read with one's eyes.
Knows nothing of: where the material came from, how a network is judged, or what becomes of the weights.

Every epoch draws from generators of its own, made from the seed and its number: a run that is killed and resumed goes
on from its last whole epoch exactly as if nothing had happened.
"""

import ctypes
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors
import torch
from jaxtyping import Float32
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from moodfield import files, tagger
from moodfield.errors import RunError
from moodfield.nets import Net
from moodfield.training import augment, averaging, batches, checks, distributed, run_folder
from moodfield.training.batches import ClipDataset
from moodfield.training.configs import LossConfig
from moodfield.training.distributed import ProcessGroup
from moodfield.training.mel_cache import Statistics
from moodfield.training.recipe import Recipe
from moodfield.training.run_folder import DATASET, VOCABULARY
from moodfield.training.validation import DivergedError, Validator

LOG, BEST, RESUME = "log.jsonl", "best.safetensors", "resume.json"
SNAPSHOT, RESUMED = "swa-{}.safetensors", "resume-{}.safetensors"
"""files of a run, beside those that it was decided by; the last two have the epoch in their names"""
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""settings of glibc's malloc, as malloc.h numbers them"""


@dataclass(frozen=True)
class Epoch:
    """One line of a run's log."""

    epoch: int
    """counted from 1"""
    learning_rate: float
    """learning rate"""
    loss: float
    """mean over the batches"""
    score: float | None = None
    """macro PR-AUC on the validation tracks, or mean Spearman with a teacher; none where it was not measured"""
    best: float | None = None
    """the highest score so far; none before the first"""
    averaged: float | None = None
    """score of the mean of the weights over epochs; none where no mean was taken"""
    validation_loss: float | None = None
    """of the network on the validation tracks; none where it was not measured"""
    cpu_seconds: float | None = None
    """what all cores together were busy with this epoch, of the first process alone; none in older logs"""


@dataclass(frozen=True)
class _State:
    """What epochs change, and a run that goes on wants back."""

    net: Net
    """the network"""
    optimizer: torch.optim.Optimizer
    """with a mean and a square for every weight"""
    average: AveragedModel
    """the mean of the network over epochs"""
    team: ProcessGroup
    """the processes that have all of this in common"""


def fit(
    recipe: Recipe,
    learn: ClipDataset,
    judge: ClipDataset,
    statistics: Statistics,
    vocabulary: Sequence[str],
    run: str | Path,
    *,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Net:
    """Train a network by its recipe, or go on with a run that was stopped; the network of the best epoch.

    The run keeps the weights of that epoch and those of the last averages (`snapshot_paths`). `on_epoch` is called
    after every epoch. Processes that torchrun started share every batch; the first one writes.
    """
    folder, team = Path(run), distributed.launch(recipe.precision)
    net = _fresh(recipe, statistics, len(vocabulary))
    loss_of = _loss(recipe.loss, learn, net)
    checks.check_batches(recipe, clips=len(learn.targets), processes=team.world_size)
    with run_folder.lock(folder, wanted=team.is_main):
        if team.is_main:
            decided = {VOCABULARY: list(vocabulary), DATASET: _digest(learn, statistics)}
            run_folder.claim(folder, recipe, decided)
        team.barrier()
        exam = Validator(recipe, judge, tuple(vocabulary), loss_of, team)
        _epochs(folder, recipe, net, learn, exam, statistics.mean.astype(np.float32), on_epoch)
        team.barrier()
        net = _fresh(recipe, statistics, len(vocabulary))
        load_weights(net, folder / BEST)
        return net


def _epochs(
    folder: Path,
    recipe: Recipe,
    net: Net,
    learn: ClipDataset,
    exam: Validator,
    fill: Float32[np.ndarray, "bands"],
    report: Callable[[Epoch], None],
) -> None:
    """All epochs that the run in a folder does not have yet."""
    team = cast("ProcessGroup", exam.team)
    net.recompute = recipe.recompute
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(net.parameters(), lr=recipe.schedule.peak, fused=True)
    if team.world_size > 1:
        distributed.sync_batch_norms(net)
    model, tuned = team.fabric.setup(net, optimizer)
    state = _State(net, optimizer, AveragedModel(net), team)
    with run_folder.os_errors_as_run_errors(folder):
        started, best = _resume(folder, recipe, state)  # where the weights are by now, there the moments belong
    for number in range(started, recipe.schedule.epochs):
        began, rate = time.process_time(), recipe.schedule.learning_rate(number)
        for group in tuned.param_groups:
            group["lr"] = rate
        generator = np.random.default_rng([recipe.seed, number])
        torch.manual_seed((int(generator.integers(2**63)) + team.rank) % 2**63)
        with _learning(recipe, number + 1):
            loss = _learn(team, model, tuned, exam.loss, _mixed(recipe, learn, fill, generator))
            _check_finite(loss, net)
            if number + 1 in recipe.averaged_epochs:
                clips = _rolled(recipe, learn, fill, np.random.default_rng([recipe.seed, number, 1]))
                with team.fabric.autocast():
                    averaging.update(state.average, net, (team.shard(mels) for mels, _ in clips))
            with run_folder.os_errors_as_run_errors(folder):
                done = _judge(folder, recipe, state, exam, Epoch(number + 1, rate, loss, best=best), began)
                if team.is_main:
                    _keep(folder, recipe, state, done, better=done.best != best)
        best = done.best
        if team.is_main:
            report(done)


@contextmanager
def _learning(recipe: Recipe, epoch: int) -> Iterator[None]:
    """Turn errors of an epoch into those that say what to do: too little memory, numbers that are not finite."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"{recipe.batch.size} clips are more than the device has memory for; lower batch.size, or set recompute"
        ) from error
    except DivergedError as error:
        raise RunError(
            f"training diverged in epoch {epoch}: {error}; lower schedule.peak, or train in 32-true; what the run "
            "had before this epoch is kept"
        ) from error


def _check_finite(loss: float, net: Net) -> None:
    """Refuse with `NotFinite` a loss or weights that are not finite; such an epoch does not count."""
    if not math.isfinite(loss):
        raise DivergedError(f"the loss became {loss}")
    for name, value in net.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise DivergedError(f"the weights {name} are not finite")


def _learn(
    team: ProcessGroup,
    model: nn.Module,
    tuned: torch.optim.Optimizer,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    drawn: Iterator[tuple[Tensor, Tensor]],
) -> float:
    """Learn from some batches; their mean loss."""
    losses = []
    model.train()
    for mels, truth in batches.ahead(drawn):
        tuned.zero_grad()
        loss = loss_of(model(team.shard(mels)).float(), team.shard(truth))
        team.fabric.backward(loss)
        tuned.step()
        losses.append(loss.detach())  # not asked for its value: a GPU would be waited for
    return team.all_reduce_mean(math.fsum(torch.stack(losses).tolist()) / len(losses))  # Apple's GPUs have no float64


def _judge(folder: Path, recipe: Recipe, state: _State, exam: Validator, done: Epoch, began: float) -> Epoch:
    """The epoch with its marks, where they are due, and its time since the processor's clock was at `began`."""
    if done.epoch == recipe.schedule.epochs or done.epoch % recipe.validate_every == 0:
        marks = exam(state.net)
        if not (math.isfinite(marks.score) and math.isfinite(marks.loss)):
            raise DivergedError(f"the validation score became {marks.score}, the validation loss {marks.loss}")
        done = replace(done, score=marks.score, validation_loss=marks.loss)
        if done.best is None or marks.score > done.best:
            done = replace(done, best=marks.score)
    if done.epoch in recipe.averaged_epochs:
        mean = cast("Net", state.average.module)
        done = replace(done, averaged=exam(mean).score)
        if state.team.is_main:
            _save(folder / SNAPSHOT.format(done.epoch), mean.state_dict())
    return replace(done, cpu_seconds=round(time.process_time() - began, 1))


def _rolled(
    recipe: Recipe, learn: ClipDataset, fill: Float32[np.ndarray, "bands"], generator: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """An epoch's batches, rolled in time."""
    for mels, truth in batches.epoch(
        learn, clip_frames=recipe.clip_frames, size=recipe.batch.size, fill=fill, generator=generator
    ):
        yield augment.roll(mels, recipe.augment, generator), truth


def _mixed(
    recipe: Recipe, learn: ClipDataset, fill: Float32[np.ndarray, "bands"], generator: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """An epoch's batches, rolled in time and mixed up."""
    for mels, truth in _rolled(recipe, learn, fill, generator):
        yield augment.mix(mels, truth, recipe.augment, generator)


def load_weights(net: Net, path: Path) -> None:
    """Fill a network with weights from a file; refuses a file that does not fit."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            net.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - not a dict
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise RunError(f"{path} does not hold the weights of this network: {error}") from error


def snapshot_paths(recipe: Recipe, run: Path) -> dict[str, Path]:
    """The weights that a finished run speaks with: the best epoch and the last averages, each with a name."""
    epochs = recipe.averaging.kept(recipe.schedule, recipe.schedule.epochs)
    paths = (run / SNAPSHOT.format(epoch) for epoch in epochs)
    return {tagger.BEST: run / BEST} | {path.stem: path for path in paths}


def _fresh(recipe: Recipe, statistics: Statistics, tags: int) -> Net:
    """The network before its first epoch."""
    torch.manual_seed(recipe.seed)
    net: Net = recipe.net.build(n_mels=recipe.mel.n_mels, n_tags=tags)
    checks.check_clips(recipe, net)
    mean, spread = (torch.from_numpy(values.astype(np.float32)) for values in (statistics.mean, statistics.std))
    net.standardize.set_statistics(mean, spread)
    return net


def keep_freed_memory(recipe: Recipe) -> None:
    """Let the C library keep what is freed, for as long as this process lives; not if the recipe saves memory.

    Every step frees its activations and asks for as many again. Fresh pages from the system, zeroed one by one, cost a
    processor almost half as much time as all the arithmetic on them. Only glibc can be told; elsewhere nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt and not recipe.recompute:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def _digest(learn: ClipDataset, statistics: Statistics) -> str:
    """What tells this training material from any other."""
    parts = (learn.targets.per_track().tobytes(), statistics.mean.tobytes(), statistics.std.tobytes())
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _loss(config: LossConfig, learn: ClipDataset, net: Net) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss; for a teacher's logits the network also begins with their mean and spread."""
    rows = learn.targets.per_track()
    checks.check_targets(config, rows)
    truth = torch.from_numpy(rows)
    if config.kind == "tags":

        def weighted(logits: Tensor, wanted: Tensor) -> Tensor:
            weight = torch.tensor(config.pos_weight).to(logits)
            return F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weight)

        return weighted
    mean, spread = truth.mean(dim=0), truth.std(dim=0).clamp_min(1e-3)
    net.init_output_bias(mean, spread)

    def squared(logits: Tensor, wanted: Tensor) -> Tensor:
        return F.mse_loss(logits / spread.to(logits), wanted / spread.to(wanted))

    return squared


def _keep(folder: Path, recipe: Recipe, state: _State, done: Epoch, *, better: bool) -> None:
    """Everything needed to go on after this epoch; the small file makes it count, and only then may it be the best."""
    tensors = {f"net.{name}": value for name, value in state.net.state_dict().items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": value for name, value in values.items()}
    if state.average.n_averaged:
        tensors |= {f"average.{name}": value for name, value in state.average.state_dict().items()}
    weights = RESUMED.format(done.epoch)
    _save(folder / weights, tensors)
    log = folder / LOG
    lines = log.read_bytes().split(b"\n")[: done.epoch - 1] if log.is_file() else []
    files.write(log, b"".join(line + b"\n" for line in [*lines, json.dumps(vars(done)).encode()]))
    counts = {"epoch": done.epoch, "best": done.best, "better": better, "weights": weights}
    files.write(folder / RESUME, json.dumps(counts).encode())
    if better:
        _save(folder / BEST, state.net.state_dict())
    _tidy(folder, recipe, done.epoch, weights)


def _tidy(folder: Path, recipe: Recipe, epoch: int, weights: str) -> None:
    """Remove the weights that a run which has come to this epoch no longer wants; they are files that it has made."""
    kept = {weights, *(SNAPSHOT.format(each) for each in recipe.averaging.kept(recipe.schedule, epoch))}
    made = {SNAPSHOT.format(each) for each in recipe.averaged_epochs}
    made |= {RESUMED.format(each) for each in range(1, recipe.schedule.epochs + 1)}
    for path in folder.iterdir():
        if path.name in made - kept and path.is_file() and not path.is_symlink():
            path.unlink()


def _resume(folder: Path, recipe: Recipe, state: _State) -> tuple[int, float | None]:
    """Take up the last whole epoch, if there is one: how many are done, and the best score."""
    path = folder / RESUME
    if not path.is_file():
        return 0, None
    done = _read_resume(path, recipe)
    weights = folder / done["weights"]
    try:
        _restore(weights, state)
    except (OSError, ValueError, LookupError, RuntimeError, safetensors.SafetensorError) as error:
        raise RunError(
            f"{weights} does not hold what this run would go on with: {error}; {run_folder.REMEDY}"
        ) from error
    if state.team.is_main:  # it may have been killed before it kept the best, or tidied up
        best = _bytes(state.net.state_dict())
        if done.get("better") and not ((folder / BEST).is_file() and (folder / BEST).read_bytes() == best):
            files.write(folder / BEST, best)
        _tidy(folder, recipe, done["epoch"], done["weights"])
    return done["epoch"], done["best"]


def _read_resume(path: Path, recipe: Recipe) -> dict[str, Any]:
    """What a run last wrote down; refuses a damaged file."""
    done: dict[str, Any] = files.read_json(path, dict, remedy=run_folder.REMEDY)
    epoch, best = done.get("epoch"), done.get("best")
    right = type(epoch) is int and 1 <= epoch <= recipe.schedule.epochs and done.get("weights") == RESUMED.format(epoch)
    if not right or not (best is None or type(best) in (int, float)):
        raise RunError(f"{path} is damaged: it names no epoch of this run; {run_folder.REMEDY}")
    return done


def _restore(path: Path, state: _State) -> None:
    """Network, average and moments as they were; raises what a file that does not fit makes torch raise."""
    parameters = list(state.net.parameters())
    moments: dict[int, dict[str, Tensor]] = {}
    kept: dict[str, dict[str, Tensor]] = {"net": {}, "average": {}}
    with safetensors.safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a dict
            whose, _, key = name.partition(".")
            value = file.get_tensor(name)
            if whose == "adam":
                index, _, key = key.partition(".")
                if value.dim():  # fused Adam walks through memory: its moments must lie there just as their weights do
                    value = torch.empty_like(parameters[int(index)]).copy_(value)
                moments.setdefault(int(index), {})[key] = value
            else:
                kept[whose][key] = value
    state.net.load_state_dict(kept["net"])
    if kept["average"]:
        state.average.load_state_dict(kept["average"])
    state.optimizer.load_state_dict({"state": moments, "param_groups": state.optimizer.state_dict()["param_groups"]})


def _save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Tensors in one file, whole or not at all."""
    files.write(path, _bytes(tensors))


def _bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return save({name: value.detach().contiguous().cpu() for name, value in tensors.items()})
