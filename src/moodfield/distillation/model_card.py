"""What the card of a student says of it: terms, limits, meaning of scores, figures, examples, cost.

In: what a teacher and its student said of music, what is published of the teacher, terms. Out: parts of a card.
Knows nothing of: how a student is taught, or where the music came from.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Float64
from pydantic import TypeAdapter, ValidationError

from moodfield import calibration, errors, tags
from moodfield.calibration import Calibration
from moodfield.card import Card, Example
from moodfield.datasets import mtg_jamendo
from moodfield.errors import ConfigError
from moodfield.evaluation import calibration_fit, metrics, submissions, threshold_selection
from moodfield.training import log

EXAMPLES = 10
"""tracks that a card shows where a student does best, and as many where it does worst"""
KNOWN = frozenset(
    ("taught by", "music", "speeds", "learned from", "held out", "seed", "thresholds", "cost", "calibration")
)
"""what a card knows of where a student comes from"""
NARROW = "thresholds of the training packages"
"""what is said of figures under thresholds that owe nothing to held-out music"""
WATTS = 10
"""what a busy core is taken to draw; few machines tell"""
SEED = 0
"""of the two halves by which a calibration is fitted and measured"""


@dataclass(frozen=True)
class CardText:
    """What a card says that cannot be measured: whoever gives a model away says it."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str = "mine"
    """what the model is called"""
    summary: str = "A small network that says of music what a larger one says, which taught it."
    """what it is, in a sentence or two"""
    licence: str = "not stated; it hangs on the terms of its teacher and of the music"
    """under which terms it may be used"""
    limits: tuple[str, ...] = ()
    """what it must not be used for, and what it cannot do"""
    origin: Mapping[str, str] = field(default_factory=dict)
    """what else is to be known of where it comes from, under names that are not `KNOWN`"""

    def __post_init__(self) -> None:
        if clash := KNOWN & self.origin.keys():
            raise ConfigError(
                f"terms say {', '.join(sorted(clash))}, which a card knows without being told; leave it out"
            )


UNSAID = CardText()
"""what a card says if nobody says more"""


def read_card_text(path: str | Path) -> CardText:
    """The terms in a TOML file, whose keys are the attributes of `CardText`; refuses others with `ConfigError`."""
    try:
        return TypeAdapter(CardText).validate_json(
            json.dumps(tomllib.loads(Path(path).read_text("utf-8"))), strict=True
        )
    except ValidationError as error:
        raise ConfigError(f"{path}: {errors.format_validation_errors(error.errors())}") from error
    except TypeError as error:
        raise ConfigError(f"{path}: {error}; terms are plain text in TOML, and lists and tables of it") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read as terms, which are TOML: {error}") from error


@dataclass(frozen=True)
class TeacherCalibration:
    """What a teacher's scores mean, by tracks of which it is published what it said, and what people said."""

    calibration: Calibration
    """by one half of the tracks, whole artists"""
    priors: tuple[float, ...]
    """share of the tracks the teacher learned from that has each tag"""
    figures: Mapping[str, float]
    """what scores are worth on the other half, as they are and calibrated"""
    origin: str
    """where all this comes from, in words"""

    def apply_to(self, described: Card) -> Card:
        """The card with this calibration and these priors, and the same decisions."""
        return described.recalibrated(self.calibration, priors=self.priors)


def calibrate_teacher(predictions: str | Path, splits: str | Path) -> TeacherCalibration:
    """What the teacher's scores mean, by its published predictions for the test tracks of MTG-Jamendo.

    `predictions` are tracks × tags, in 0 … 1; `splits` is the folder of the dataset's official TSVs. It takes seconds.
    """
    train, test = (
        mtg_jamendo.read(Path(splits) / f"{mtg_jamendo.MOODTHEME}{part}.tsv", vocabulary=tags.MOODS_AND_THEMES)
        for part in ("train", "test")
    )
    scores, artists = submissions.read_array(predictions), [track.artist for track in test.tracks]
    found = calibration_fit.fit_half(test.truth, scores, artists, generator=np.random.default_rng(SEED))
    other = ~found.fitted_on
    truth, raw = test.truth[other], scores[other]
    kinds = {"as it is": raw, "calibrated": found.calibration.scores(calibration.logit(raw))}
    figures = {
        f"{what} of the teacher, {kind}": float(measure(truth, each).mean())
        for what, measure in (
            ("Brier score", calibration_fit.brier_score),
            ("expected calibration error", calibration_fit.expected_calibration_error),
        )
        for kind, each in kinds.items()
    }
    origin = (
        f"fitted to the teacher's published predictions for {found.fitted_on.sum()} test tracks of MTG-Jamendo, whole "
        f"artists; measured on the other {other.sum()}; priors from its {len(train.tracks)} training tracks; that it "
        "holds for a student, and for other music, is assumed, not measured"
    )
    return TeacherCalibration(found.calibration, tuple(train.priors.tolist()), figures, origin)


@dataclass(frozen=True)
class ThresholdedScores:
    """What somebody says of music: scores of 0 … 1 of the tracks learned from, then of those held out."""

    scores: Float[np.ndarray, "tracks tags"]
    """of all tracks"""
    heldout: Bool[np.ndarray, "tracks"]
    """which of them are held out"""
    priors: tuple[float, ...] | None = None
    """what their log-odds are compared with, if it is known"""
    like: "ThresholdedScores | None" = None
    """whose decisions they are to be like: those of the teacher who taught to say so"""

    @cached_property
    def thresholds(self) -> Float64[np.ndarray, "tags"]:
        """Those chosen on all of the music, in neither part of which a tag may be common."""
        like = self.like.decided if self.like else None
        return threshold_selection.select_thresholds(
            self.scores, priors=self.priors, groups=self.heldout, reference=like
        )

    @cached_property
    def decided(self) -> Bool[np.ndarray, "tracks tags"]:
        """What they decide by their thresholds."""
        return metrics.decide(self.scores, self.thresholds)

    @cached_property
    def learned(self) -> "ThresholdedScores":
        """Those of the tracks learned from alone."""
        own = ~self.heldout
        return ThresholdedScores(
            self.scores[own], self.heldout[own], self.priors, self.like.learned if self.like else None
        )


def evaluate_student(
    teacher: ThresholdedScores, student: ThresholdedScores, names: Sequence[str]
) -> tuple[dict[str, float], tuple[Example, ...]]:
    """What held-out music says of a student that never heard it: figures, and where it decides best and worst.

    `names` are what the held-out tracks are called. Both decide by thresholds of their own.
    """
    held = student.heldout
    wanted, scores = teacher.scores[held], student.scores[held]
    decided = [student.decided[held], teacher.decided[held]]
    narrow = [metrics.decide(scores, student.learned.thresholds), metrics.decide(wanted, teacher.learned.thresholds)]
    figures = threshold_selection.agreement_statistics(wanted, scores, decided[1], priors=student.priors) | _decided(
        *decided
    )
    figures |= {f"{name}, {NARROW}": value for name, value in _decided(*narrow).items()}
    order = threshold_selection.rank_by_agreement(wanted, scores, decided[1], decided[0])
    shown = order if len(order) <= 2 * EXAMPLES else np.concatenate([order[:EXAMPLES], order[-EXAMPLES:]])
    said = [[tuple(np.array(tags.MOODS_AND_THEMES)[row].tolist()) for row in each] for each in decided]
    return figures, tuple(Example(names[row], said[0][row], said[1][row]) for row in shown)


def _decided(student: Bool[np.ndarray, "tracks tags"], teacher: Bool[np.ndarray, "tracks tags"]) -> dict[str, float]:
    """How sensible decisions of a student look, and how much they are its teacher's."""
    shared = float(threshold_selection.jaccard(student, teacher).mean())
    return threshold_selection.decision_statistics(student) | {
        "tags that both decide, of those that either does, mean over tracks": shared
    }


def cost(trained: Sequence[Path]) -> str:
    """What training took, by the logs of its runs."""
    epochs = [each.cpu_seconds for run in trained for each in log.read(run).epochs]
    hours = sum(each or 0 for each in epochs) / 3600
    least = "at least " if None in epochs else ""
    return (
        f"{least}{hours:.1f} core-hours of training, {len(trained)} run{'s' * (len(trained) > 1)}; about "
        f"{WATTS * hours / 1000:.2g} kWh if a busy core draws {WATTS} W; what teacher and mel heard once is not in it"
    )
