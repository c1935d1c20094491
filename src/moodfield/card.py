"""What a model says about itself.

In: a model folder. Out: everything needed to use its weights, checked.
Knows nothing of: how weights are run, or how they were trained.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from moodfield import calibration, errors, files
from moodfield.calibration import Calibration
from moodfield.clips import FixedLength, Lengths, WholeTrack
from moodfield.errors import ConfigError, ModelError
from moodfield.mel import MelConfig

CARD = "card.json"
WEIGHTS = "model.safetensors"
NETWORK = "model.onnx"
SUMMARY = "summary.onnx"
"""only of networks that judge whole tracks: what makes their features one answer"""
README = "README.md"
FORMAT = 1
"""version of the card's form; a card of another one is refused, loudly"""
MOST_BYTES = 2**20
"""length of the longest card; one of a thousand tags has a tenth of that"""

MOST_CELLS = 2**25
"""frames × bands that a network may be given at once, 128 MB: a stranger's card is not to fill the memory"""
MOST_NUMBER = 2**20
"""largest number that describes a network: no width, depth or length is beyond it"""


@dataclass(frozen=True)
class Example:
    """What a model decides of some music that it did not learn from, beside what it should."""

    music: str
    """what it is called"""
    decided: tuple[str, ...]
    """the tags that the model decides"""
    wanted: tuple[str, ...]
    """the tags that its teacher decides"""


@dataclass(frozen=True)
class Card:
    """Everything a stranger needs to use a model's weights."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "ser_json_inf_nan": "strings"}

    name: str
    """what the model is called"""
    summary: str
    """what it is and what it is for, in a sentence or two"""
    licence: str
    """under which terms the weights may be used"""
    vocabulary: tuple[str, ...]
    """the tags, in the order of the network's outputs"""
    themes: tuple[str, ...]
    """those of the tags that are themes rather than moods"""
    mel: MelConfig
    """how a waveform becomes the mel that the network wants"""
    lengths: Lengths
    """what lengths of mel the network takes"""
    net: Mapping[str, str | int | float | bool]
    """the network as numbers"""
    thresholds: tuple[float, ...]
    """a tag is decided when its score is above this, in 0 … 1; infinite: never decided"""
    calibration: Calibration | None = None
    """what turns logits into scores; without one, the sigmoid alone"""
    priors: tuple[float, ...] | None = None
    """share of the training tracks, those of its teacher if it had one, that has each tag; in 0 … 1, if it is known"""
    origin: Mapping[str, str] = field(default_factory=dict)
    """where the weights come from: data, teacher, command"""
    figures: Mapping[str, float] = field(default_factory=dict)
    """what was measured, by the name of the measure"""
    limits: tuple[str, ...] = ()
    """what the model must not be used for, and what it cannot do, a sentence or two each"""
    examples: tuple[Example, ...] = ()
    """from where it decides best to where it decides worst"""
    appendix: str = ""
    """Markdown that the README ends with: how the model was chosen, say"""
    proof: tuple[float, ...] = ()
    """logits for the made-up piece of `proof.music`, before any calibration; empty: not remembered"""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """checksums of the files beside the card"""
    format: int = FORMAT
    """version of the card's form"""

    def __post_init__(self) -> None:
        faults = []
        if self.format != FORMAT:
            faults.append(f"it has format {self.format}, this version of moodfield reads {FORMAT}")
        if not self.vocabulary or len(set(self.vocabulary)) != len(self.vocabulary):
            faults.append("its vocabulary is empty or names a tag twice")
        if len(self.thresholds) != len(self.vocabulary):
            faults.append(f"it has {len(self.thresholds)} thresholds for {len(self.vocabulary)} tags")
        if (cells := self.mel.n_mels * _longest(self.lengths)) > MOST_CELLS:
            faults.append(f"its network takes {cells:,} cells of a mel at once, at most {MOST_CELLS:,} are given")
        if not all(
            isinstance(number, str | bool) or -MOST_NUMBER <= number <= MOST_NUMBER for number in self.net.values()
        ):
            faults.append(f"a number of its network is beyond {MOST_NUMBER:,}")
        if any(threshold != threshold for threshold in self.thresholds):
            faults.append("a threshold is not a number")
        if self.proof and (len(self.proof) != len(self.vocabulary) or not all(map(math.isfinite, self.proof))):
            faults.append(f"its proof is {len(self.proof)} logits, maybe not finite, for {len(self.vocabulary)} tags")
        if self.calibration and len(self.calibration.slopes) != len(self.vocabulary):
            faults.append(f"it calibrates {len(self.calibration.slopes)} tags of {len(self.vocabulary)}")
        if self.priors is not None and len(self.priors) != len(self.vocabulary):
            faults.append(f"it has {len(self.priors)} priors for {len(self.vocabulary)} tags")
        if not all(0 <= prior <= 1 for prior in self.priors or ()):
            faults.append("a prior is not in 0 … 1")
        if strangers := set(self.themes) - set(self.vocabulary):
            faults.append(f"its themes {', '.join(sorted(strangers))} are not in its vocabulary")
        if faults:
            raise ModelError(f"the card of {self.name!r} cannot be used: {'; '.join(faults)}; export the model again")


def _longest(lengths: Lengths) -> int:
    """Frames that a network may be given at once, for its own sake."""
    return lengths.frames if isinstance(lengths, FixedLength) else max(lengths.min_frames, lengths.receptive_field)


def _is_name(name: str) -> bool:
    """Whether a name is that of a file in a folder, on this system and others."""
    return name not in ("", ".", "..") and not any(letter in name for letter in "/\\:\0")


def networks(card: Card) -> tuple[str, ...]:
    """The files of a model's network, in the order in which they hear."""
    return (NETWORK, SUMMARY) if isinstance(card.lengths, WholeTrack) else (NETWORK,)


def calibrated(described: Card, known: Calibration, *, priors: tuple[float, ...] | None = None) -> Card:
    """The card with this calibration in place of its own, if any, and the thresholds that then decide the same.

    Refuses with `ModelError` slopes of 0, which leave nothing to decide by.
    """
    before = described.calibration or Calibration((1.0,) * len(known.slopes), (0.0,) * len(known.offsets))
    if not min(*before.slopes, *known.slopes) > 0:
        raise ModelError(f"a slope of 0 gives a tag one score for all music, so {described.name!r} could not decide it")
    found = replace(described, calibration=known, priors=priors)
    old = np.array(described.thresholds)
    logits = (calibration.logit(old) - np.array(before.offsets)) / np.array(before.slopes)
    between = (old > 0) & (old < 1)  # others decide always or never, however scores are calibrated
    return replace(found, thresholds=tuple(np.where(between, known.scores(logits), old).tolist()))


def read(folder: str | Path) -> Card:
    """The card in a model folder; every file it vouches for is there and has the checksum it names.

    Refuses with `ModelError` a folder without a card, unknown, missing or impossible values, and other files.
    """
    folder = Path(folder)
    path = folder / CARD
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{folder} is no model folder: its {CARD} cannot be read ({error.strerror})") from error
    if len(text) > MOST_BYTES:
        raise ModelError(f"{path} is longer than {MOST_BYTES} bytes, which no model card is; get the model again")
    card = loads(text, name=str(path))
    for name, wanted in card.sha256.items():
        if not _is_name(name):
            raise ModelError(f"{path} vouches for {name!r}, which is outside its folder; export the model again")
        try:
            came = files.sha256(folder / name)
        except (OSError, ValueError) as error:  # ValueError: no file can be called that
            raise ModelError(f"{folder / name} cannot be read ({error}); get the model again") from error
        if came != wanted:
            raise ModelError(f"{folder / name} is damaged: its SHA-256 is {came}, its card says {wanted}; get it again")
    return card


def loads(text: str | bytes, *, name: str = "the card") -> Card:
    """A card from its JSON; refuses unknown, missing or impossible values with `ModelError`."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Card).validate_json(text)
    except ValidationError as error:
        told = error.errors(include_url=False, include_context=False, include_input=False)
        raise ModelError(f"{name} is not a model card: {errors.format_validation_errors(told)}") from error
    except ConfigError as error:
        raise ModelError(f"{name} is not a model card: {error}") from error


def dumps(card: Card) -> str:
    """The JSON of a card; `loads` gives an equal card back."""
    from pydantic import TypeAdapter

    return TypeAdapter(Card).dump_json(card, indent=2).decode() + "\n"


def write(card: Card, folder: str | Path) -> None:
    """Put a card into its folder; it is there whole or not at all."""
    files.write(Path(folder) / CARD, dumps(card).encode())
