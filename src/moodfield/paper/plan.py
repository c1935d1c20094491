"""The plan of a reproduction: networks to train and their dataset; a folder belongs to one plan."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from moodfield import files
from moodfield.datasets.mtg_jamendo import Dataset, Split
from moodfield.errors import ConfigError, RunError
from moodfield.paper import recipes
from moodfield.training import run_folder
from moodfield.training.recipe import Recipe

FILE, KIND = "plan.json", "a reproduction"
"""name of the file of a plan in the folder of a reproduction, and what messages call the folder"""


@dataclass(frozen=True)
class Network:
    """A network to train."""

    name: str
    """name of its folder"""
    recipe: Recipe
    """the recipe that it is trained by"""

    def __str__(self) -> str:
        """Its name, for messages of `parallel`."""
        return self.name


@dataclass(frozen=True)
class Plan:
    """The networks of a submission, and the dataset they are trained and evaluated on."""

    title: str
    """the submission, by its name in Table 1"""
    networks: tuple[Network, ...]
    """the networks whose scores are averaged"""
    dataset: Dataset
    """training, validation and test tracks"""
    changes: tuple[str, ...] = ()
    """differences from the paper: `small`, and settings"""

    @classmethod
    def from_title(
        cls, title: str, dataset: Dataset, *, scale: Literal["full", "small"] = "full", settings: Sequence[str] = ()
    ) -> "Plan":
        """The plan of a submission of the paper.

        Args:
            title: the submission, by its name in Table 1; case does not matter.
            dataset: training, validation and test tracks.
            scale: `small` trains few small networks for minutes.
            settings: changes `a.b=v` of every network's recipe.

        Raises:
            UnknownNameError: no submission has this title.
            ConfigError: an invalid setting.
        """
        title, submission = recipes.submission(title)
        small = scale == "small"
        networks = []
        for member in submission.members[: recipes.SMALL_MEMBERS if small else None]:
            recipe = recipes.small(member.recipe) if small else member.recipe
            networks.append(Network(member.name, recipe.change(*settings)))
        return cls(title, tuple(networks), dataset, (*["small"] * small, *settings))

    @property
    def epochs(self) -> int:
        """Epochs of all networks together."""
        return sum(network.recipe.schedule.epochs for network in self.networks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that identify the plan."""
        return {
            "submission": self.title,
            "dataset": {part: _digest(split) for part, split in self.dataset.splits.items()},
            "networks": {network.name: network.recipe.to_dict() for network in self.networks},
        }

    def claim(self, folder: Path) -> None:
        """Write the plan to a new folder, or check that the folder has the same plan.

        Raises:
            RunError: the folder has another plan, or a damaged one, or cannot be written.
            OutputError: the folder is not a reproduction.
        """
        path, values = folder / FILE, self.to_dict()
        run_folder.check_unused(folder, FILE, kind=KIND)
        if not path.is_file():
            with run_folder.os_errors_as_run_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                files.write(path, (json.dumps(values, indent=2) + "\n").encode())
        elif _read(path) != _canonical(values):
            raise RunError(
                f"{folder} is a reproduction of another plan, or of a dataset that has changed; use the same arguments "
                "to continue it, or another folder"
            )

    @contextmanager
    def lock(self, folder: Path) -> Iterator[None]:
        """Lock a folder and `claim` it; raises `LockedError` if another process uses it."""
        with run_folder.lock(folder, FILE, kind=KIND):
            self.claim(folder)
            yield


def _read(path: Path) -> object:
    """The canonical values of the plan in a file; raises if it is damaged."""
    remedy = "use another folder, or remove this one"
    try:
        return _canonical(files.read_json(path, dict, remedy=remedy))
    except (ConfigError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise RunError(f"{path} is damaged, or not a plan: {error}; {remedy}") from error


def _canonical(values: dict[str, Any]) -> dict[str, Any]:
    """A plan without the settings that do not change its results."""
    networks = {name: Recipe.from_dict(recipe).canonical() for name, recipe in values["networks"].items()}
    return {**values, "networks": networks}


def _digest(split: Split) -> str:
    """Checksum of a split: its tracks, vocabulary and truth, in their order."""
    facts = [split.vocabulary, [(track.path, track.tags) for track in split.tracks]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
