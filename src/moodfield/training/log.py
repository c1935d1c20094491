"""What a run came to, so far.

In: the folder of a run. Out: its recipe, its epochs, and what they say.
Knows nothing of: how a run is trained, or how it is shown.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from moodfield import errors, files
from moodfield.errors import RunError
from moodfield.training import loop, run_folder
from moodfield.training.loop import Epoch
from moodfield.training.recipe import Recipe


@dataclass(frozen=True)
class History:
    """A run, finished or not."""

    folder: Path
    """where it is"""
    recipe: Recipe
    """what was decided before it started"""
    epochs: tuple[Epoch, ...]
    """what happened, an epoch after the other"""

    @property
    def best(self) -> Epoch | None:
        """The epoch of the highest score; none before the first was measured."""
        return max((each for each in self.epochs if each.score is not None), key=_score, default=None)

    @property
    def averaged(self) -> Epoch | None:
        """The last epoch that was followed by an average of the weights."""
        return next((each for each in reversed(self.epochs) if each.averaged is not None), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "run": str(self.folder),
            "finished": len(self.epochs) == self.recipe.schedule.epochs,
            "recipe": self.recipe.to_dict(),
            "best": vars(self.best) if self.best else None,
            "epochs": [vars(each) for each in self.epochs],
        }


def read(folder: str | Path) -> History:
    """The history of a run; refuses a folder that is none, and a damaged log."""
    folder = Path(folder)
    if not (folder / run_folder.RECIPE).is_file():
        raise RunError(f"{folder} is not a run: it has no {run_folder.RECIPE}; name the folder given to train --to")
    recipe, log = Recipe.read(folder / run_folder.RECIPE), folder / loop.LOG
    lines = files.read_json_lines(log, remedy="restore it, or train again in another folder") if log.is_file() else []
    try:
        epochs = TypeAdapter(tuple[Epoch, ...]).validate_json(json.dumps(lines), strict=True)
    except ValidationError as error:
        raise RunError(
            f"{log} cannot be read as the log of a run: {errors.format_validation_errors(error.errors())}"
        ) from error
    return History(folder, recipe, epochs)


def differing_settings(histories: list[History]) -> dict[str, list[Any]]:
    """Settings in which runs differ, and their values in the order of the runs; none where one has no such setting."""
    known = [{each.path: each.value for each in history.recipe.settings()} for history in histories]
    paths = dict.fromkeys(path for values in known for path in values)
    found = {path: [values.get(path) for values in known] for path in paths}
    return {path: values for path, values in found.items() if any(value != values[0] for value in values)}


def _score(epoch: Epoch) -> float:
    return epoch.score or 0.0
