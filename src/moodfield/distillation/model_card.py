"""The model card of a student: text, calibration, reference, metrics, examples, training cost."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float64
from pydantic import TypeAdapter, ValidationError

from moodfield import calibration, decisions, errors, tags
from moodfield.calibration import Calibration
from moodfield.card import Card, Example
from moodfield.datasets import mtg_jamendo
from moodfield.decisions import Usual
from moodfield.errors import ConfigError
from moodfield.evaluation import agreement, calibration_fit, submissions
from moodfield.training import log

EXAMPLES = 10
"""number of tracks that a card lists with the best agreement, and of those with the worst"""
COMPUTED = frozenset(
    ("checkpoint", "ensemble", "music", "speeds", "degraded copies", "initial weights", "seed", "thresholds", "cost")
) | {"calibration"}
"""what a distillation records of the origin of a student"""
CALIBRATION_METRICS = {
    "Brier score": calibration_fit.brier_score,
    "expected calibration error": calibration_fit.expected_calibration_error,
}
"""name → metric of scores against truth, per tag"""
WATTS = 10
"""assumed power of a busy core; few machines measure it"""
SEED = 0
"""seed of the split into halves on which a calibration is fitted and evaluated"""


@dataclass(frozen=True)
class CardText:
    """The text of a card that cannot be computed, written by its publisher."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str = "mine"
    """name of the model"""
    summary: str = "A small network trained on the logits of a larger one (knowledge distillation)."
    """what the model is, in a sentence or two"""
    licence: str = "not stated; it depends on the terms of the teacher and of the music"
    """terms under which the weights may be used"""
    limits: tuple[str, ...] = ()
    """what the model must not be used for, and what it cannot do"""
    origin: Mapping[str, str] = field(default_factory=dict)
    """more about the origin, under names that are not in `COMPUTED`"""

    def __post_init__(self) -> None:
        if clash := COMPUTED & self.origin.keys():
            raise ConfigError(f"origin has {', '.join(sorted(clash))}, which the card computes; leave it out")


def read_card_text(path: str | Path) -> CardText:
    """Read the text of a card from a TOML file, whose keys are the fields of `CardText`.

    Raises:
        ConfigError: The file cannot be read, or has other keys or types.
    """
    try:
        values = json.dumps(tomllib.loads(Path(path).read_text("utf-8")))
        return TypeAdapter(CardText).validate_json(values, strict=True)
    except ValidationError as error:
        raise ConfigError(f"{path}: {errors.format_validation_errors(error.errors())}") from error
    except TypeError as error:
        raise ConfigError(f"{path}: {error}; expected strings, lists and tables of strings") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from error


@dataclass(frozen=True)
class TeacherCalibration:
    """The calibration of a teacher by its published predictions for tracks with known tags."""

    calibration: Calibration
    """fitted on one half of the tracks, whole artists"""
    priors: tuple[float, ...]
    """share of the teacher's training tracks that has each tag, 0 … 1"""
    metrics: Mapping[str, float]
    """calibration errors on the other half, before and after"""
    origin: str
    """description for the card"""

    def apply_to(self, card: Card) -> Card:
        """Set calibration and priors of a card, keeping its decisions."""
        return card.recalibrated(self.calibration, priors=self.priors)


def calibrate_teacher(predictions: str | Path, splits: str | Path) -> TeacherCalibration:
    """Fit the calibration of a teacher on its predictions for the test tracks of MTG-Jamendo; takes seconds.

    Args:
        predictions: A `.npy` file of scores, tracks × tags, 0 … 1.
        splits: Folder of the official TSVs.
    """
    train, test = (
        mtg_jamendo.read(Path(splits) / f"{mtg_jamendo.MOODTHEME}{part}.tsv", vocabulary=tags.MOODS_AND_THEMES)
        for part in ("train", "test")
    )
    scores, artists = submissions.read_array(predictions), [track.artist for track in test.tracks]
    fit = calibration_fit.fit_half(test.truth, scores, artists, generator=np.random.default_rng(SEED))
    rest = ~fit.fitted_on
    truth, before = test.truth[rest], scores[rest]
    after = fit.calibration.scores(calibration.logit(before))
    values = {}
    for name, metric in CALIBRATION_METRICS.items():
        values[f"{name} of the teacher, uncalibrated"] = float(metric(truth, before).mean())
        values[f"{name} of the teacher, calibrated"] = float(metric(truth, after).mean())
    origin = (
        f"fitted on the teacher's published predictions for {fit.fitted_on.sum()} test tracks of MTG-Jamendo, whole "
        f"artists; evaluated on the other {rest.sum()}; priors from its {len(train.tracks)} training tracks; that it "
        "holds for a student, and for other music, is assumed, not measured"
    )
    return TeacherCalibration(fit.calibration, tuple(train.priors.tolist()), values, origin)


@dataclass(frozen=True, eq=False)
class MusicLogits:
    """Calibrated track logits of a model for training and held-out tracks; what is usual for it, and its decisions."""

    logits: Float64[np.ndarray, "tracks tags"]
    """logits of all tracks, as scores have them"""
    heldout: Bool[np.ndarray, "tracks"]
    """which tracks are held out"""
    kinds: tuple[str, ...]
    """kind of music of every track"""

    @cached_property
    def usual(self) -> Usual:
        """What is usual among the training tracks, in which all kinds of music count alike."""
        return decisions.usual(self.logits[~self.heldout], np.array(self.kinds)[~self.heldout].tolist())

    @cached_property
    def evidence(self) -> Float64[np.ndarray, "_tracks tags"]:
        """Evidence for every tag of the held-out tracks."""
        return self.usual.evidence(self.logits[self.heldout])

    @cached_property
    def decided(self) -> Bool[np.ndarray, "_tracks tags"]:
        """Decisions for the held-out tracks."""
        return self.usual.decide(self.logits[self.heldout])


def evaluate_student(
    student: MusicLogits, teacher: MusicLogits, titles: Sequence[str]
) -> tuple[dict[str, float], tuple[Example, ...]]:
    """Evaluate a student on held-out tracks, whose titles are given, against its teacher; each decides by its own.

    Returns:
        Metrics by name, and the tracks with the best and the worst agreement.
    """
    decided, wanted = student.decided, teacher.decided
    values = agreement.agreement_statistics(teacher.evidence, student.evidence, wanted)
    values |= _decision_metrics(decided, wanted)
    expected, logits = (item.logits[item.heldout] for item in (teacher, student))
    order = agreement.rank_by_agreement(expected, logits, wanted, decided)
    shown = order if len(order) <= 2 * EXAMPLES else np.concatenate([order[:EXAMPLES], order[-EXAMPLES:]])
    examples = (Example(titles[row], _tag_names(decided[row]), _tag_names(wanted[row])) for row in shown)
    return values, tuple(examples)


def _tag_names(decided: Bool[np.ndarray, "tags"]) -> tuple[str, ...]:
    return tuple(tag for tag, positive in zip(tags.MOODS_AND_THEMES, decided, strict=True) if positive)


def _decision_metrics(
    student: Bool[np.ndarray, "tracks tags"], teacher: Bool[np.ndarray, "tracks tags"]
) -> dict[str, float]:
    """Statistics of a student's decisions, and their mean Jaccard similarity with the teacher's."""
    shared = float(agreement.jaccard(student, teacher).mean())
    statistics = agreement.decision_statistics(student)
    return statistics | {"Jaccard similarity with the teacher's decisions, mean over tracks": shared}


def training_cost(runs: Sequence[Path]) -> str:
    """Describe the cost of training by the logs of runs: core-hours and energy."""
    epochs = [epoch.cpu_seconds for run in runs for epoch in log.read(run).epochs]
    hours = sum(seconds or 0 for seconds in epochs) / 3600
    at_least = "at least " if None in epochs else ""
    return (
        f"{at_least}{hours:.1f} core-hours of training, {len(runs)} run{'s' * (len(runs) > 1)}; about "
        f"{WATTS * hours / 1000:.2g} kWh at {WATTS} W per busy core; without the teacher's logits and the mels"
    )
