"""An ensemble of teachers: their logits of the 56 moods and themes, standardized and averaged.

A teacher with another vocabulary gets logits of moods by a map: the bridge from genres and instruments, or words of the
same meaning. The mean is brought to the location and scale of one network's logits for MTG-Jamendo, so that its
calibration applies.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Float32, Float64

from moodfield import calibration, decisions, files, tags
from moodfield.distillation.teachers import bridge as bridges
from moodfield.distillation.teachers import msd_musicnn
from moodfield.distillation.teachers.bridge import Bridge
from moodfield.distillation.teachers.teacher import Teacher
from moodfield.errors import ConfigError, DatasetError, ModelError

WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"vggish": 1.0, "jamendo_fcn": 1 / 3, "jamendo_crnn": 1 / 3, "jamendo_musicnn": 1 / 3, "msd_musicnn": 1.0}
)
"""teacher → weight of its logits: one for each training set and set of tags"""
WORDS: Mapping[str, str] = MappingProxyType(
    {
        "action": "hard rock, metal, electro, dance",
        "background": "ambient, instrumental, easy listening",
        "ballad": "Mellow, sad, acoustic, beautiful",
        "calm": "Mellow, chillout, chill, ambient, easy listening",
        "cool": "funk, jazz, Hip-Hop",
        "dark": "metal, heavy metal, experimental",
        "deep": "ambient, electronica",
        "documentary": "instrumental, ambient",
        "dream": "ambient, chillout, beautiful",
        "emotional": "sad, beautiful",
        "energetic": "punk, dance, hard rock, party",
        "epic": "Progressive rock, metal",
        "fast": "punk, metal, dance, electro",
        "film": "instrumental, ambient",
        "fun": "party, happy, funk",
        "groovy": "funk, soul",
        "happy": "happy, catchy",
        "heavy": "metal, heavy metal, hard rock",
        "hopeful": "beautiful, happy",
        "inspiring": "beautiful",
        "love": "beautiful, soul, sexy, rnb",
        "meditative": "ambient, instrumental",
        "melancholic": "sad, Mellow",
        "melodic": "beautiful, catchy",
        "motivational": "catchy, dance, rock",
        "nature": "ambient, acoustic, folk",
        "party": "party, dance, House",
        "positive": "happy, catchy",
        "powerful": "hard rock, metal, heavy metal",
        "relaxing": "chillout, chill, Mellow, easy listening",
        "retro": "oldies, 60s, 70s, 80s",
        "romantic": "beautiful, sexy, soul",
        "sad": "sad",
        "sexy": "sexy, rnb",
        "slow": "Mellow, sad",
        "soft": "Mellow, acoustic, easy listening",
        "soundscape": "ambient, experimental",
        "space": "ambient, electronica",
        "summer": "happy, party, chillout",
        "trailer": "hard rock, electro, Progressive rock",
        "upbeat": "happy, party, dance, catchy",
        "uplifting": "happy, beautiful",
    }
)
"""mood → tags of the Million Song Dataset with a related meaning; their mean logit is that of the mood"""

TINY = 1e-9
"""standard deviation of logits that do not vary, up to rounding"""
REMEDY = "compute the targets again, and give the file that was written then"

Outputs = Float32[np.ndarray, "... _"]
Moods = Float64[np.ndarray, "... tags"]
PerTag = Float64[np.ndarray, "tags"]
MoodMap = Callable[[Outputs], Moods]


def mood_maps(teachers: Sequence[Teacher], bridge: Bridge | None) -> dict[str, MoodMap]:
    """The map of every teacher from its outputs to logits of the 56 moods and themes; NaN for tags without one.

    Args:
        teachers: The teachers.
        bridge: Needed for teachers whose vocabulary has the bridge's genres and instruments.

    Raises:
        ConfigError: A teacher's vocabulary has no map.
    """
    return {teacher.name: _mood_map(teacher, bridge) for teacher in teachers}


def _mood_map(teacher: Teacher, bridge: Bridge | None) -> MoodMap:
    vocabulary = teacher.vocabulary
    if vocabulary == tags.MOODS_AND_THEMES:
        return lambda outputs: outputs.astype(np.float64)
    if vocabulary == msd_musicnn.VOCABULARY:
        matrix = mean_of_words(vocabulary, WORDS)
        return lambda outputs: outputs[..., : len(vocabulary)].astype(np.float64) @ matrix
    if bridge and set(bridge.inputs) <= set(vocabulary) and bridge.tags == tags.MOODS_AND_THEMES:
        columns = [vocabulary.index(name) for name in bridge.inputs]
        return lambda outputs: bridge.logits(calibration.sigmoid(outputs[..., columns].astype(np.float64)))
    raise ConfigError(f"no map leads from the vocabulary of {teacher.name} to moods: expected a bridge from its tags")


def mean_of_words(vocabulary: Sequence[str], words: Mapping[str, str]) -> Float64[np.ndarray, "_ tags"]:
    """The matrix that averages the logits of the words of every mood; NaN where it has none."""
    matrix = np.full((len(vocabulary), len(tags.MOODS_AND_THEMES)), np.nan)
    for mood, listed in words.items():
        if rows := [vocabulary.index(word) for word in filter(None, listed.split(", "))]:
            column = matrix[:, tags.MOODS_AND_THEMES.index(mood)]
            column[:] = 0
            column[rows] = 1 / len(rows)
    return matrix


@dataclass(frozen=True, eq=False)
class Standardization:
    """Mean and standard deviation of logits over the reference, for every tag; NaN where there are none."""

    mean: PerTag
    """mean"""
    std: PerTag
    """standard deviation"""

    def __call__(self, moods: Moods) -> Moods:
        """The logits in standard deviations from their mean; 0 where there are none."""
        return np.nan_to_num((moods - self.mean) / self.std, nan=0.0)

    def to_dict(self) -> dict[str, list[float | None]]:
        """The numbers by name, as JSON has them: null for NaN."""
        return {
            name: [None if np.isnan(number) else number for number in values.tolist()]
            for name, values in (("mean", self.mean), ("std", self.std))
        }


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The weighted mean of standardized logits, brought to a location and scale of logits."""

    weights: Mapping[str, float]
    """teacher → weight"""
    members: Mapping[str, Standardization]
    """teacher → standardization of its logits"""
    combined: Standardization
    """standardization of the weighted sum"""
    target: Standardization
    """location and scale of the logits over the reference"""
    bridge: Bridge | None = None
    """for teachers of genres and instruments"""
    words: str = ""
    """SHA-256 of the `WORDS` that it was fitted with"""
    sources: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the checkpoints, the reference and the predictions that it was fitted on"""

    def combine(self, moods: Mapping[str, Moods]) -> Float32[np.ndarray, "... tags"]:
        """Logits of the ensemble from those of its teachers, of the same windows or tracks."""
        total = sum(weight * self.members[name](moods[name]) for name, weight in self.weights.items())
        return (self.target.mean + self.target.std * self.combined(np.asarray(total))).astype(np.float32)

    @property
    def sha256(self) -> str:
        """The SHA-256 of all that determines its logits."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the ensemble as a JSON file, atomically."""
        files.write(Path(path), (json.dumps(self.to_dict(), indent=1) + "\n").encode())

    def to_dict(self) -> dict[str, object]:
        """The ensemble as JSON has it."""
        return {
            "weights": dict(self.weights),
            "members": {name: member.to_dict() for name, member in self.members.items()},
            "combined": self.combined.to_dict(),
            "target": self.target.to_dict(),
            "bridge": self.bridge and self.bridge.to_dict(),
            "words": self.words,
            "sources": dict(self.sources),
        }


def load(path: str | Path) -> Ensemble:
    """Load an ensemble that `Ensemble.save` has written; raises `ModelError` for any other file."""
    content = files.read_json(Path(path), dict, remedy=REMEDY, error=ModelError)
    try:
        weights = {str(name): float(weight) for name, weight in content["weights"].items()}
        members = {name: _read_standardization(content["members"][name]) for name in weights}
        combined, target = (_read_standardization(content[name]) for name in ("combined", "target"))
        numbers = [*weights.values(), *combined.mean, *combined.std, *target.mean, *target.std]
        if not weights or not all(np.isfinite(numbers)):
            raise ValueError("weights, location and scale must be finite")
        fitted = content["bridge"] and bridges.from_dict(content["bridge"])
        sources = {str(name): str(value) for name, value in content["sources"].items()}
        if content["words"] != words_sha256():
            raise ValueError("it was fitted with other words")
    except (AttributeError, KeyError, TypeError, ValueError, ModelError) as fault:
        raise ModelError(f"{path} is no ensemble of teachers, or damaged ({fault}); {REMEDY}") from fault
    return Ensemble(weights, members, combined, target, fitted or None, words_sha256(), sources)


def fit(
    moods: Mapping[str, Float[np.ndarray, "tracks tags"]],
    kinds: Sequence[str],
    target: Float[np.ndarray, "_tracks tags"],
    *,
    weights: Mapping[str, float] = WEIGHTS,
) -> Ensemble:
    """Fit the standardizations of an ensemble on reference tracks.

    Kinds of music are balanced (`decisions.balance`), so a tag is as common in the reference as for music of all kinds,
    and not as for the kind with the most tracks.

    Args:
        moods: Teacher → logits of the reference tracks.
        kinds: The kind of music of every reference track.
        target: Logits whose mean and standard deviation, for every tag, the ensemble takes over: published predictions.
        weights: Teacher → weight.

    Raises:
        DatasetError: The logits of the reference do not vary.
    """
    shares = decisions.balance(kinds)
    members = {name: _standardization(moods[name], shares) for name in weights}
    if any((member.std <= TINY).any() for member in members.values()):
        raise DatasetError(
            f"the logits of {len(kinds)} reference tracks do not vary; expected more music, of more kinds"
        )
    total = sum(weight * members[name](moods[name]) for name, weight in weights.items())
    return Ensemble(
        weights=dict(weights),
        members=members,
        combined=_standardization(np.asarray(total), shares),
        target=_standardization(np.asarray(target, np.float64), np.full(len(target), 1 / len(target))),
        words=words_sha256(),
    )


def words_sha256() -> str:
    """The SHA-256 of the `WORDS`."""
    return hashlib.sha256(json.dumps(dict(WORDS), sort_keys=True).encode()).hexdigest()


def _standardization(values: Moods, shares: Float64[np.ndarray, "tracks"]) -> Standardization:
    """Mean and standard deviation for every tag, tracks weighted by their shares, which add up to 1."""
    mean = shares @ values
    return Standardization(mean, np.sqrt(shares @ (values - mean) ** 2))


def _read_standardization(values: Mapping[str, Sequence[float | None]]) -> Standardization:
    mean, std = (np.array(values[name], np.float64) for name in ("mean", "std"))  # null becomes NaN
    if not mean.shape == std.shape == (len(tags.MOODS_AND_THEMES),):
        raise ValueError(f"expected {len(tags.MOODS_AND_THEMES)} means and standard deviations")
    missing = np.isnan(mean) & np.isnan(std)
    if not (missing | (np.isfinite(mean) & (std > 0))).all():
        raise ValueError("means must be finite and standard deviations positive, or both null")
    return Standardization(mean, std)
