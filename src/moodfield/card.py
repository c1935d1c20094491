"""The model card: what a program needs to run a model, and where the model comes from.

`card.json` has the former, `provenance.json` the latter.

A model is a folder with `card.json`, `provenance.json`, `README.md`, `model.safetensors` and `model.onnx`; a model that
pools whole tracks also has `head.onnx`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from moodfield import calibration, errors, files
from moodfield.calibration import Calibration
from moodfield.clips import FixedLength, Lengths, WholeTrack
from moodfield.decisions import Usual
from moodfield.errors import ConfigError, ModelError
from moodfield.mel import MelConfig

CARD = "card.json"
PROVENANCE = "provenance.json"
README = "README.md"
WEIGHTS = "model.safetensors"
NETWORK = "model.onnx"
HEAD = "head.onnx"
"""the pooling part of a network whose lengths are `WholeTrack`; others have none"""
FORMAT = 2
"""version of the model folder"""
LOGITS, EMBEDDING = "logits", "embedding"
"""names of outputs of `model.onnx`"""

MAX_BYTES = 2**20
"""longest JSON file that is read; a card of a thousand tags has a tenth of that"""
MAX_CELLS = 2**25
"""largest input of a network, frames × n_mels (128 MB), so that a foreign card cannot fill the memory"""
MAX_NUMBER = 2**20
"""largest number in `Card.net`"""


T = TypeVar("T", bound="_JsonFile")


class _JsonFile:
    """A dataclass that is stored as one JSON file of a model folder and checked by pydantic when it is read."""

    FILE: ClassVar[str]

    @classmethod
    def from_json(cls: type[T], text: str | bytes, *, name: str | Path | None = None) -> T:
        """Parse JSON; `name` is the file named in messages.

        Raises:
            ModelError: The format is another one, or a value is unknown, missing or impossible.
        """
        from pydantic import TypeAdapter, ValidationError

        name = name or cls.FILE
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            if (version := _format_of(text)) not in (None, FORMAT):
                raise ModelError(
                    f"{name} has format {version}, expected format {FORMAT}; export the model again with this version "
                    "of moodfield"
                ) from error
            details = error.errors(include_url=False, include_context=False, include_input=False)
            raise ModelError(f"{name} is invalid: {errors.format_validation_errors(details)}") from error
        except (ConfigError, ModelError) as error:
            raise ModelError(f"{name} is invalid: {error}") from error

    def to_json(self) -> str:
        """Format as JSON; `from_json` gives an equal object back."""
        from pydantic import TypeAdapter

        return TypeAdapter(type(self)).dump_json(self, indent=2).decode() + "\n"

    @classmethod
    def read(cls: type[T], folder: str | Path) -> T:
        """Read the file in a model folder; raises `ModelError` if it is missing, too long or invalid."""
        path = Path(folder) / cls.FILE
        try:
            with path.open("rb") as file:
                text = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise ModelError(f"{folder} is not a model folder: {cls.FILE} cannot be read ({error.strerror})") from error
        if len(text) > MAX_BYTES:
            raise ModelError(f"{path} is longer than {MAX_BYTES} bytes; get the model again")
        return cls.from_json(text, name=path)

    def write(self, folder: str | Path) -> None:
        """Write the file of a model folder, atomically."""
        files.write(Path(folder) / self.FILE, self.to_json().encode())


def _format_of(text: str | bytes) -> Any:
    """The `format` in a JSON object, None if there is none."""
    from pydantic_core import from_json

    try:
        values = from_json(text)
    except ValueError:
        return None
    return values.get("format") if isinstance(values, dict) else None


@dataclass(frozen=True)
class LogitStatistics:
    """Reference statistics: mean and standard deviation of a model's track logits over a set of tracks, per tag."""

    tracks: int
    """number of tracks, at least 1"""
    mean: tuple[float, ...]
    """mean logit of every tag, before any calibration"""
    std: tuple[float, ...]
    """standard deviation of the logits of every tag, 0 or more"""
    kinds: "Mapping[str, LogitStatistics]" = field(default_factory=dict)
    """the same for the tracks of one kind of music, by its name; empty if unknown"""

    @staticmethod
    def of(usual: Usual, scale: Calibration) -> "LogitStatistics":
        """The statistics before a calibration, from what is usual after it."""
        slopes, offsets = np.array(scale.slopes), np.array(scale.offsets)
        mean, std = (usual.mean - offsets) / slopes, usual.std / slopes
        kinds = {name: LogitStatistics.of(kind, scale) for name, kind in usual.kinds.items()}
        return LogitStatistics(usual.tracks, tuple(mean.tolist()), tuple(std.tolist()), kinds)

    def usual(self, scale: Calibration) -> Usual:
        """What is usual after a calibration."""
        slopes, offsets = np.array(scale.slopes), np.array(scale.offsets)
        kinds = {name: kind.usual(scale) for name, kind in self.kinds.items()}
        return Usual(slopes * np.array(self.mean) + offsets, slopes * np.array(self.std), self.tracks, kinds)

    def is_valid(self, n_tags: int) -> bool:
        """Whether all values are possible for a number of tags."""
        finite = _is_finite(self.mean, n_tags) and _is_finite(self.std, n_tags)
        return (
            self.tracks >= 1
            and finite
            and min(self.std) >= 0
            and all(kind.is_valid(n_tags) for kind in self.kinds.values())
        )


@dataclass(frozen=True)
class Head:
    """A further head on the same body: an additional output of `model.onnx` with tags of its own."""

    name: str
    """name of the head, and of the output of `model.onnx` with its logits"""
    vocabulary: tuple[str, ...]
    """tags, in the order of the output's channels"""
    thresholds: tuple[float, ...]
    """a tag is decided when its score is above its threshold"""
    calibration: Calibration | None = None
    """map from logits to scores; None is the sigmoid alone"""
    priors: tuple[float, ...] | None = None
    """share of the training tracks with each tag, 0 … 1"""


@dataclass(frozen=True)
class Card(_JsonFile):
    """The runtime contract of a model: all that a program needs to run its network and to interpret the logits."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "ser_json_inf_nan": "strings"}
    FILE: ClassVar = CARD

    name: str
    """name of the model"""
    summary: str
    """what the model is and what it is for, in a sentence or two"""
    licence: str
    """terms under which the weights may be used"""
    vocabulary: tuple[str, ...]
    """tags, in the order of the network's logits"""
    themes: tuple[str, ...]
    """the tags of the vocabulary that are themes; all others are moods"""
    mel: MelConfig
    """mel spectrogram that the network takes"""
    lengths: Lengths
    """lengths of mel that the network takes, and the receptive field of an output"""
    net: Mapping[str, str | int | float | bool]
    """config of the network, with its `family`"""
    thresholds: tuple[float, ...]
    """a tag may be decided when its score is above its threshold; infinity: never"""
    calibration: Calibration | None = None
    """map from logits to scores; None is the sigmoid alone"""
    priors: tuple[float, ...] | None = None
    """share of the training tracks (of a student: its teacher's) with each tag, 0 … 1; None if unknown"""
    reference_logits: tuple[float, ...] = ()
    """track logits for the synthetic signal of `moodfield.verify`, before any calibration; empty: not recorded"""
    outputs: Mapping[str, int] = field(default_factory=dict)
    """channels of the outputs of `model.onnx`, by name: `logits`, `embedding`, heads; empty: `logits` alone"""
    heads: tuple[Head, ...] = ()
    """further heads on the same body, each with tags of its own"""
    statistics: LogitStatistics | None = None
    """reference statistics of the logits: what is usual, for decisions; None if unknown"""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """checksums of weights and network files, by file name"""
    format: int = FORMAT
    """version of the model folder"""

    def __post_init__(self) -> None:
        if faults := list(self._faults()):
            raise ModelError(f"the card of {self.name!r} cannot be used: {'; '.join(faults)}; export the model again")

    @property
    def network_files(self) -> tuple[str, ...]:
        """Names of the ONNX files, in the order in which they are run."""
        return (NETWORK, HEAD) if isinstance(self.lengths, WholeTrack) else (NETWORK,)

    @property
    def usual(self) -> Usual | None:
        """The reference statistics after the calibration, as scores have it; None if there are none."""
        return self.statistics.usual(self._scale) if self.statistics else None

    def with_usual(self, usual: Usual) -> "Card":
        """Set reference statistics from those of calibrated logits, and the thresholds that follow."""
        thresholds = np.where(np.isfinite(usual.cuts), calibration.sigmoid(usual.cuts), np.inf)
        statistics = LogitStatistics.of(usual, self._scale)
        return replace(self, statistics=statistics, thresholds=tuple(thresholds.tolist()))

    @property
    def _scale(self) -> Calibration:
        """The calibration, or the identity if there is none."""
        n_tags = len(self.vocabulary)
        return self.calibration or Calibration((1.0,) * n_tags, (0.0,) * n_tags)

    @classmethod
    def read(cls, folder: str | Path) -> "Card":
        """Read the card of a model folder and verify the checksums of the files that it lists.

        Raises:
            ModelError: There is no valid card, or a file is missing or has another checksum.
        """
        folder, card = Path(folder), super().read(folder)
        for name, expected in card.sha256.items():
            if not _is_file_name(name):
                raise ModelError(f"{folder / CARD} lists {name!r}, which is outside its folder; export the model again")
            try:
                digest = files.sha256(folder / name)
            except (OSError, ValueError) as error:  # ValueError: not a possible name of a file
                raise ModelError(f"{folder / name} cannot be read ({error}); get the model again") from error
            if digest != expected:
                raise ModelError(
                    f"{folder / name} is damaged: it has SHA-256 {digest}, expected {expected}; get it again"
                )
        return card

    def recalibrated(self, new: Calibration, *, priors: tuple[float, ...] | None = None) -> "Card":
        """Replace calibration and priors, and move the thresholds so that every decision stays the same.

        Thresholds at or beyond 0 and 1 decide always or never under any calibration, and stay.

        Raises:
            ModelError: A slope is 0, so that scores do not depend on logits.
        """
        old = self._scale
        if not min(*old.slopes, *new.slopes) > 0:
            raise ModelError(f"a slope of 0 gives a tag of {self.name!r} the same score for all tracks; fit it again")
        card, thresholds = replace(self, calibration=new, priors=priors), np.array(self.thresholds)
        logits = (calibration.logit(thresholds) - np.array(old.offsets)) / np.array(old.slopes)
        moved = np.where((thresholds > 0) & (thresholds < 1), new.scores(logits), thresholds)
        return replace(card, thresholds=tuple(moved.tolist()))

    def _faults(self) -> Iterator[str]:
        if self.format != FORMAT:
            yield f"it has format {self.format}, expected {FORMAT}"
        yield from _head_faults(self)
        n_tags, names = len(self.vocabulary), [head.name for head in self.heads]
        outputs = {LOGITS: n_tags} | dict(self.outputs)
        if outputs[LOGITS] != n_tags or not all(1 <= size <= MAX_NUMBER for size in outputs.values()):
            yield f"its outputs are {outputs}, expected {n_tags} logits and 1 … {MAX_NUMBER:,} channels"
        if unknown := outputs.keys() - {LOGITS, EMBEDDING, *names}:
            yield f"its outputs {', '.join(sorted(unknown))} are neither {LOGITS!r}, {EMBEDDING!r} nor heads"
        if len({LOGITS, EMBEDDING, *names}) != len(names) + 2:
            yield "two outputs have the same name"
        for head in self.heads:
            if outputs.get(head.name) != len(head.vocabulary):
                channels = outputs.get(head.name)
                yield f"head {head.name!r} has {len(head.vocabulary)} tags, its output {channels} channels"
            yield from (f"head {head.name!r}: {fault}" for fault in _head_faults(head))
        if (cells := self.mel.n_mels * _longest_input(self.lengths)) > MAX_CELLS:
            yield f"its network takes {cells:,} cells of a mel at once, expected at most {MAX_CELLS:,}"
        numbers = (value for value in self.net.values() if not isinstance(value, str | bool))
        if not all(-MAX_NUMBER <= number <= MAX_NUMBER for number in numbers):
            yield f"a number of its net is beyond {MAX_NUMBER:,}"
        if self.reference_logits and not _is_finite(self.reference_logits, n_tags):
            yield f"it has {len(self.reference_logits)} reference_logits, expected {n_tags} finite ones"
        if self.statistics and not self.statistics.is_valid(n_tags):
            yield f"its statistics are not finite means and non-negative stds of {n_tags} tags over 1 or more tracks"
        if extra := set(self.themes) - set(self.vocabulary):
            yield f"its themes {', '.join(sorted(extra))} are not in its vocabulary"


@dataclass(frozen=True)
class Example:
    """Decisions of a model for a track that it was not trained on."""

    track: str
    """title of the track"""
    decided: tuple[str, ...]
    """tags that the model decides"""
    expected: tuple[str, ...]
    """tags that its teacher decides"""


@dataclass(frozen=True)
class Provenance(_JsonFile):
    """What people should know about a model and programs do not need: origin, data, metrics, limits, examples."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "ser_json_inf_nan": "strings"}
    FILE: ClassVar = PROVENANCE

    origin: Mapping[str, str] = field(default_factory=dict)
    """where the weights come from: teacher, command, seed, cost"""
    training_data: Mapping[str, str] = field(default_factory=dict)
    """the tracks used for training and evaluation"""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """measured values, by the name of the metric"""
    limits: tuple[str, ...] = ()
    """what the model must not be used for, and what it cannot do, a sentence or two each"""
    examples: tuple[Example, ...] = ()
    """held-out tracks, from best to worst agreement"""
    format: int = FORMAT
    """version of the model folder"""

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ModelError(f"it has format {self.format}, expected {FORMAT}; export the model again")


def _head_faults(head: Card | Head) -> Iterator[str]:
    n_tags = len(head.vocabulary)
    if not n_tags or len(set(head.vocabulary)) != n_tags:
        yield "its vocabulary is empty or names a tag twice"
    if len(head.thresholds) != n_tags:
        yield f"it has {len(head.thresholds)} thresholds for {n_tags} tags"
    if any(map(math.isnan, head.thresholds)):
        yield "a threshold is not a number"
    if head.calibration and len(head.calibration.slopes) != n_tags:
        yield f"its calibration has {len(head.calibration.slopes)} tags, expected {n_tags}"
    if head.priors is not None and len(head.priors) != n_tags:
        yield f"it has {len(head.priors)} priors for {n_tags} tags"
    if not all(0 <= prior <= 1 for prior in head.priors or ()):
        yield "a prior is not in 0 … 1"


def _is_finite(values: Sequence[float], count: int) -> bool:
    return len(values) == count and all(map(math.isfinite, values))


def _longest_input(lengths: Lengths) -> int:
    """Frames that the network needs at once, at least."""
    return lengths.frames if isinstance(lengths, FixedLength) else max(lengths.min_frames, lengths.receptive_field)


def _is_file_name(name: str) -> bool:
    """Whether a name is that of a file in a folder, on this system and others."""
    return name not in ("", ".", "..") and not any(letter in name for letter in "/\\:\0")
