"""Measures of models distilled from the ensemble, with their goals; used by model.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

import moodfield
import outputs
import people
import speed
from moodfield import tagger
from moodfield.datasets.mtg_jamendo import Track
from moodfield.evaluation import agreement as agreements
from moodfield.evaluation import metrics
from outputs import ENSEMBLE, ModelOutputs

SUNG = "pop", "rock"
"""genres of Emotify that are mostly sung"""
COMMONEST = "share of tracks with the commonest tag"
HALVES = "all", "to choose on", "reported"

Logits = Float64[np.ndarray, "tracks tags"]


@dataclass(frozen=True)
class Goal:
    """What a measure should be."""

    bound: float
    """the least or the largest value"""
    least: bool = True
    """whether it is the least"""

    def is_met(self, value: float) -> bool:
        """Whether a value, before it is rounded, reaches the goal."""
        return value >= self.bound if self.least else value <= self.bound


@dataclass(frozen=True)
class Measure:
    """A row of the table that compares models."""

    name: str
    """what is measured"""
    values: tuple[float, ...]
    """one of every model"""
    form: str = ".3f"
    """how a value is printed"""
    goal: Goal | None = None
    """goal, if there is one"""

    def row(self) -> str:
        """The row in Markdown."""
        cells = [self._cell(value) for value in self.values]
        sign = "≥" if self.goal and self.goal.least else "≤"
        goal = f"{sign} {self.goal.bound:{self.form}}" if self.goal else "–"
        return f"| {self.name} | {goal} | {' | '.join(cells)} |"

    def _cell(self, value: float) -> str:
        """A value, and whether it misses the goal; with one more digit if it would look like the goal."""
        if self.goal is None or self.goal.is_met(value):
            return f"{value:{self.form}}"
        form = self.form
        if f"{value:{form}}" == f"{self.goal.bound:{form}}":
            form = f".{int(form[1:-1]) + 1}{form[-1]}"
        return f"{value:{form}}, missed"


@dataclass(frozen=True, eq=False)
class Music:
    """Some tracks, with the outputs of all models and of the teachers."""

    tracks: tuple[Track, ...]
    """tracks that all could read"""
    groups: tuple[str, ...]
    """kind of music, or genre, of every track"""
    models: Mapping[str, ModelOutputs]
    """outputs of every model"""
    teachers: Mapping[str, Logits]
    """logits of the teachers and of the ensemble"""

    @property
    def ensemble(self) -> Logits:
        """Logits of the ensemble."""
        return self.teachers[ENSEMBLE]


def offset(model: Logits, ensemble: Logits) -> float:
    """Mean over tags of the absolute mean difference over tracks."""
    return float(np.abs((model - ensemble).mean(axis=0)).mean())


def agreement(music: Music, name: str, goals: tuple[float | None, float | None, float | None]) -> list[Measure]:
    """Agreement of every model with the ensemble; goals of the median and the worst tag, and of the offset."""
    ranks = [metrics.spearman(music.ensemble, item.logits) for item in music.models.values()]
    median, worst, most = (None if bound is None else Goal(bound) for bound in goals)
    return [
        Measure(
            f"Spearman with the ensemble, {name}: median tag", tuple(map(float, map(np.median, ranks))), goal=median
        ),
        Measure("worst tag", tuple(float(row.min()) for row in ranks), goal=worst),
        Measure("mean tag", tuple(float(row.mean()) for row in ranks)),
        Measure(
            "offset in logits",
            tuple(offset(item.logits, music.ensemble) for item in music.models.values()),
            goal=most and Goal(most.bound, least=False),
        ),
    ]


def of_people(
    predicted: Mapping[str, np.ndarray],
    everyone: people.People,
    halves: Mapping[str, np.ndarray],
    models: Sequence[str],
) -> list[Measure]:
    """Agreement of every model with people, on all excerpts and on the reported half."""
    return [
        Measure(
            f"people, within genre: {len(halves[half])} excerpts, {half}",
            tuple(mean_agreement(predicted[name], everyone, halves[half]) for name in models),
            goal=Goal(bound),
        )
        for half, bound in ((HALVES[0], 0.41), (HALVES[2], 0.40))
    ]


def mean_agreement(values: np.ndarray, everyone: people.People, rows: np.ndarray) -> float:
    return float(people.agreement(values[rows], people.select(everyone, rows)).mean())


def absolute(music: Music, name: str, goals: tuple[float, float, float]) -> list[Measure]:
    """Statistics of absolute decisions, with goals for the commonest tag, different tags, and tracks without one."""
    decided = [item.decided for item in music.models.values()]
    common, used, none = Goal(goals[0], least=False), Goal(goals[1]), Goal(goals[2], least=False)
    return [
        *_common_and_used(f"absolute decisions, {name}", decided, (common, used)),
        _statistic("tracks with no tag", "share of tracks with no tag", decided, none, ".1%"),
        _statistic("tracks with one to five tags", "share of tracks with one to five tags", decided, None, ".0%"),
    ]


def relative(music: Music, genres: Sequence[str]) -> list[Measure]:
    """Statistics of decisions relative to the tracks of some genres, and their goals."""
    rows = [row for row, genre in enumerate(music.groups) if genre in genres]
    decided = [
        outputs.decisions(moodfield.decide([item.taggings[row] for row in rows])) for item in music.models.values()
    ]
    name = f"relative decisions, Emotify's {' and '.join(genres)}"
    return _common_and_used(name, decided, (Goal(0.3, least=False), Goal(25)))


def _common_and_used(name: str, decided: Sequence[np.ndarray], goals: tuple[Goal, Goal]) -> list[Measure]:
    common, used = goals
    return [
        _statistic(
            f"{name}: tracks with the commonest tag", "share of tracks with the commonest tag", decided, common, ".0%"
        ),
        _statistic("different tags used", "different tags used", decided, used, ".0f"),
    ]


def _statistic(name: str, statistic: str, decided: Sequence[np.ndarray], goal: Goal | None, form: str) -> Measure:
    values = (agreements.decision_statistics(rows)[statistic] for rows in decided)
    return Measure(name, tuple(values), form, goal)


def cost(models: Mapping[str, str], times: Mapping[str, speed.Times]) -> list[Measure]:
    """Size and speed of every model."""
    folders = [tagger.model_folder(model) for model in models.values()]
    sizes = [[path.stat().st_size / 1e6 for path in folder.iterdir() if path.is_file()] for folder in folders]
    networks = [sum(path.stat().st_size / 1e6 for path in folder.glob("*.onnx")) for folder in folders]
    return [
        Measure("model folder, MB", tuple(map(sum, sizes)), ".1f", Goal(16, least=False)),
        Measure("ONNX, MB", tuple(networks), ".1f", Goal(9, least=False)),
        Measure(
            "× real time on one core, from file to tags",
            tuple(item.real_time for item in times.values()),
            ".0f",
            Goal(speed.goal()),
        ),
    ]
