"""The log of a run, one JSON line per epoch; a run read back; TensorBoard event files."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from moodfield import errors, files
from moodfield.errors import RunError
from moodfield.training import run_folder
from moodfield.training.recipe import Recipe

LOG = "log.jsonl"
TENSORBOARD = "tensorboard"
"""folder of the event files, in that of the run"""


@dataclass(frozen=True)
class Epoch:
    """One line of the log of a run."""

    epoch: int
    """counted from 1"""
    learning_rate: float
    """learning rate"""
    loss: float
    """training loss, the mean over the batches"""
    score: float | None = None
    """macro PR-AUC on the validation tracks, or mean Spearman correlation with a teacher; none if not validated"""
    best: float | None = None
    """the highest score so far; none before the first"""
    averaged: float | None = None
    """score of the average of the weights over epochs (§3.4); none if there is no average of this epoch"""
    validation_loss: float | None = None
    """loss on the validation tracks; none if not validated"""
    cpu_seconds: float | None = None
    """processor time of this epoch, summed over cores, of the first process alone; none if not measured"""


EpochCallback = Callable[[Epoch], None]
"""called after every epoch"""


@dataclass(frozen=True)
class History:
    """The recipe and the epochs of a run, finished or not."""

    folder: Path
    """the folder of the run"""
    recipe: Recipe
    """its recipe"""
    epochs: tuple[Epoch, ...]
    """its epochs, in order"""

    @property
    def best(self) -> Epoch | None:
        """The epoch with the highest score; none before the first validation."""
        validated = (epoch for epoch in self.epochs if epoch.score is not None)
        return max(validated, key=lambda epoch: epoch.score or 0.0, default=None)

    @property
    def averaged(self) -> Epoch | None:
        """The last epoch after which weights were averaged."""
        return next((epoch for epoch in reversed(self.epochs) if epoch.averaged is not None), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "run": str(self.folder),
            "finished": len(self.epochs) == self.recipe.schedule.epochs,
            "recipe": self.recipe.to_dict(),
            "best": vars(self.best) if self.best else None,
            "epochs": [vars(epoch) for epoch in self.epochs],
        }


def read(folder: str | Path) -> History:
    """The history of a run.

    Raises:
        RunError: the folder is not a run, or its log is damaged.
    """
    folder = Path(folder)
    if not (folder / run_folder.RECIPE).is_file():
        raise RunError(f"{folder} is not a run: it has no {run_folder.RECIPE}; name the output folder of a training")
    recipe, path = Recipe.read(folder / run_folder.RECIPE), folder / LOG
    lines = files.read_json_lines(path, remedy="restore it, or train again in another folder") if path.is_file() else []
    try:
        epochs = TypeAdapter(tuple[Epoch, ...]).validate_json(json.dumps(lines), strict=True)
    except ValidationError as error:
        faults = errors.format_validation_errors(error.errors())
        raise RunError(f"{path} cannot be read as the log of a run: {faults}") from error
    return History(folder, recipe, epochs)


def write(folder: Path, epoch: Epoch) -> None:
    """Write the line of an epoch behind those of the epochs before it, atomically; later lines are dropped."""
    path = folder / LOG
    lines = path.read_bytes().split(b"\n")[: epoch.epoch - 1] if path.is_file() else []
    files.write(path, b"".join(line + b"\n" for line in [*lines, json.dumps(vars(epoch)).encode()]))


def differing_settings(histories: list[History]) -> dict[str, list[Any]]:
    """Settings in which runs differ: path → values in the order of the runs, None where a run has no such setting."""
    runs = [{setting.path: setting.value for setting in history.recipe.settings()} for history in histories]
    settings = {path: [run.get(path) for run in runs] for path in dict.fromkeys(path for run in runs for path in run)}
    return {path: values for path, values in settings.items() if any(value != values[0] for value in values)}


@contextmanager
def tensorboard(run_dir: str | Path) -> Iterator[EpochCallback]:
    """A callback that writes every epoch to TensorBoard event files; after a restart it overwrites repeated epochs."""
    from torch.utils.tensorboard import SummaryWriter

    writer: SummaryWriter | None = None

    def on_epoch(epoch: Epoch) -> None:
        nonlocal writer
        writer = writer or SummaryWriter(str(Path(run_dir) / TENSORBOARD), purge_step=epoch.epoch)
        for name, value in (
            ("learning_rate", epoch.learning_rate),
            ("loss", epoch.loss),
            ("validation/loss", epoch.validation_loss),
            ("validation/network", epoch.score),
            ("validation/average", epoch.averaged),
        ):
            if value is not None:
                writer.add_scalar(name, value, epoch.epoch)
        writer.flush()

    try:
        yield on_epoch
    finally:
        if writer:
            writer.close()
