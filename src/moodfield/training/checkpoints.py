"""Checkpoints of a run: weights, and the state for resuming after the last complete epoch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save as to_bytes
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from moodfield import files, tagger
from moodfield.errors import RunError
from moodfield.nets import Net
from moodfield.training import log, run_folder
from moodfield.training.log import Epoch
from moodfield.training.recipe import Recipe

BEST, RESUME = "best.safetensors", "resume.json"
SNAPSHOT, RESUME_WEIGHTS = "swa-{}.safetensors", "resume-{}.safetensors"
"""files with the number of their epoch in the name"""


@dataclass(frozen=True)
class TrainingState:
    """What changes during training."""

    net: Net
    """the network"""
    optimizer: torch.optim.Optimizer
    """Adam, with a mean and a square for every weight"""
    average: AveragedModel
    """the average of the network over epochs"""


def snapshot_paths(recipe: Recipe, run_dir: Path) -> dict[str, Path]:
    """The weights that a finished run predicts with, by name: the best epoch, then the last averages (§3.4)."""
    epochs = recipe.averaging.kept(recipe.schedule, recipe.schedule.epochs)
    paths = [run_dir / SNAPSHOT.format(epoch) for epoch in epochs]
    return {tagger.BEST: run_dir / BEST} | {path.stem: path for path in paths}


def load_weights(net: Net, path: Path) -> None:
    """Load the weights in a file into a network.

    Raises:
        RunError: the file is missing, damaged, or of another network.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            net.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - not a dict
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise RunError(f"{path} does not hold the weights of this network: {error}") from error


def save_snapshot(run_dir: Path, epoch: int, net: Net) -> None:
    """Save the average of the weights after an epoch."""
    files.write(run_dir / SNAPSHOT.format(epoch), _serialize(net.state_dict()))


def save(run_dir: Path, recipe: Recipe, state: TrainingState, epoch: Epoch, *, improved: bool) -> None:
    """Save everything needed to resume after an epoch, then, if the score `improved`, the best weights.

    The epoch counts once `resume.json` is written; a process may be killed between any two files.
    """
    tensors = {f"net.{name}": value for name, value in state.net.state_dict().items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": value for name, value in values.items()}
    if state.average.n_averaged:
        tensors |= {f"average.{name}": value for name, value in state.average.state_dict().items()}
    weights = RESUME_WEIGHTS.format(epoch.epoch)
    files.write(run_dir / weights, _serialize(tensors))
    log.write(run_dir, epoch)
    resume = {"epoch": epoch.epoch, "best": epoch.best, "improved": improved, "weights": weights}
    files.write(run_dir / RESUME, json.dumps(resume).encode())
    if improved:
        files.write(run_dir / BEST, _serialize(state.net.state_dict()))
    _remove_outdated(run_dir, recipe, epoch.epoch)


def restore(run_dir: Path, recipe: Recipe, state: TrainingState, *, is_main: bool) -> tuple[int, float | None]:
    """Load the state after the last complete epoch, if there is one.

    Returns:
        How many epochs are complete, and the best score so far.

    Raises:
        RunError: the files are damaged, or of another network.
    """
    path = run_dir / RESUME
    if not path.is_file():
        return 0, None
    resume = _read_resume(path, recipe)
    weights = run_dir / resume["weights"]
    try:
        _load_state(weights, state)
    except (OSError, ValueError, LookupError, RuntimeError, safetensors.SafetensorError) as error:
        raise RunError(f"{weights} does not hold the state of this run: {error}; {run_folder.REMEDY}") from error
    if is_main:  # it may have been killed before it saved the best weights or removed outdated ones
        best, content = run_dir / BEST, _serialize(state.net.state_dict())
        if resume.get("improved") and not (best.is_file() and best.read_bytes() == content):
            files.write(best, content)
        _remove_outdated(run_dir, recipe, resume["epoch"])
    return resume["epoch"], resume["best"]


def _read_resume(path: Path, recipe: Recipe) -> dict[str, Any]:
    resume: dict[str, Any] = files.read_json(path, dict, remedy=run_folder.REMEDY)
    match resume:
        case {"epoch": int(epoch), "best": int() | float() | None, "weights": weights}:
            if weights == RESUME_WEIGHTS.format(epoch) and 1 <= epoch <= recipe.schedule.epochs:
                return resume
    raise RunError(f"{path} is damaged: it names no epoch of this run; {run_folder.REMEDY}")


def _load_state(path: Path, state: TrainingState) -> None:
    parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    tensors: dict[str, dict[str, Tensor]] = {"net": {}, "average": {}}
    with safetensors.safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a dict
            owner, _, key = name.partition(".")
            value = file.get_tensor(name)
            if owner == "adam":
                index, _, key = key.partition(".")
                if value.dim():  # fused Adam ignores strides: its moments must lie in memory just as the weights do
                    value = torch.empty_like(parameters[int(index)]).copy_(value)
                moments.setdefault(int(index), {})[key] = value
            else:
                tensors[owner][key] = value
    state.net.load_state_dict(tensors["net"])
    if tensors["average"]:
        state.average.load_state_dict(tensors["average"])
    state.optimizer.load_state_dict({"state": moments, "param_groups": state.optimizer.state_dict()["param_groups"]})


def _remove_outdated(run_dir: Path, recipe: Recipe, epoch: int) -> None:
    """Remove weights that a run needs no more after this epoch; only files that it wrote itself."""
    kept = {RESUME_WEIGHTS.format(epoch)}
    kept |= {SNAPSHOT.format(number) for number in recipe.averaging.kept(recipe.schedule, epoch)}
    written = {SNAPSHOT.format(number) for number in recipe.averaged_epochs}
    written |= {RESUME_WEIGHTS.format(number) for number in range(1, recipe.schedule.epochs + 1)}
    for path in run_dir.iterdir():
        if path.name in written - kept and path.is_file() and not path.is_symlink():
            path.unlink()


def _serialize(tensors: Mapping[str, Tensor]) -> bytes:
    return to_bytes({name: value.detach().contiguous().cpu() for name, value in tensors.items()})
