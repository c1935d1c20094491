"""What a recipe is; how one setting is changed.

In: settings. Out: one frozen value that says everything about a run before it starts.
Knows nothing of: data, or how any setting is obeyed.
"""

import ast
import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter, ValidationError

from moodfield import arrays, errors
from moodfield.clips import MOST_FRAMES
from moodfield.errors import ConfigError
from moodfield.mel import MelConfig
from moodfield.nets import NETS, NetConfig
from moodfield.training import averaging
from moodfield.training.augment import AugmentConfig
from moodfield.training.averaging import AveragingConfig
from moodfield.training.batches import BatchConfig
from moodfield.training.schedule import MOST_EPOCHS, ScheduleConfig

LEAST_WEIGHT, MOST_WEIGHT = 1e-6, 1e6
"""of a present tag over an absent one"""
MOST_SEED = 2**63 - 1
"""the largest that torch takes"""
LEAST_STRIDE, MOST_STRIDE = 0.1, 86_400.0
"""seconds from one validated clip to the next: from clips that overlap almost wholly to one a day"""


@dataclass(frozen=True)
class LossConfig:
    """How far logits are from the truth."""

    kind: Literal["tags", "logits"] = "tags"
    """tags: truth in 0 … 1, binary cross-entropy; logits: truth is a teacher's logits, squared error by their spread;
    *chosen by us*, since the paper is silent"""
    pos_weight: float = 10.0
    """weight of a present tag over an absent one, for `tags`; *inferred* from how the submissions are calibrated"""

    def __post_init__(self) -> None:
        if not LEAST_WEIGHT <= self.pos_weight <= MOST_WEIGHT:
            raise ConfigError(f"a pos_weight of {self.pos_weight} came, it is {LEAST_WEIGHT:g} … {MOST_WEIGHT:g}")


@dataclass(frozen=True)
class Recipe:
    """Everything decided before one run starts."""

    net: Annotated[NetConfig, Field(discriminator="family")] = NETS["fa_resnet"]
    """the network (§3.1, §3.2)"""
    mel: MelConfig = field(default_factory=MelConfig)
    """what it hears (§2.1)"""
    batch: BatchConfig = field(default_factory=BatchConfig)
    """clips and batches"""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """roll and mix-up (§2.3)"""
    loss: LossConfig = field(default_factory=LossConfig)
    """what it is to learn"""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """learning rate by epoch (§2.2)"""
    averaging: AveragingConfig = field(default_factory=AveragingConfig)
    """weights averaged over epochs (§3.4)"""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """number format of the training step; bf16-mixed is about twice as fast on processors that know it; *chosen by
    us*"""
    recompute: bool = False
    """whether activations are computed again for the gradients instead of kept: less memory, more work,
    the same net; *chosen by us*"""
    validate_every: int = 1
    """epochs from one validation to the next; the last epoch is always validated; *chosen by us*: §3.4
    picks the best of all epochs"""
    validate_stride: float | None = 30.0
    """seconds from one clip of a track that validation hears to the next; none: it hears everything; *chosen by us*, by
    a measurement: the epoch chosen by 10 s of every 30 s was worth .002 less, at half the cost"""
    seed: int = 42
    """every draw of the run follows from it; that of the authors' code"""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if not 1 <= self.validate_every <= MOST_EPOCHS or not 0 <= self.seed <= MOST_SEED:
            raise ConfigError(f"validate_every is 1 … {MOST_EPOCHS} epochs, the seed 0 … 2⁶³ − 1")
        if self.validate_stride is not None and not LEAST_STRIDE <= self.validate_stride <= MOST_STRIDE:
            raise ConfigError(
                f"a validate_stride of {self.validate_stride} s came, it is {LEAST_STRIDE} … {MOST_STRIDE:g}, or none"
            )
        if self.clip_frames > MOST_FRAMES:
            raise ConfigError(
                f"clips of {self.clip_frames} frames came, at most {MOST_FRAMES} are possible; lower batch.clip_seconds"
            )
        averaging.epochs(self.averaging, self.schedule)  # which refuses what does not fit

    @property
    def clip_frames(self) -> int:
        """Frames of a training clip."""
        return int(self.batch.clip_seconds * self.mel.frames_per_second) + 1


@dataclass(frozen=True)
class Setting:
    """One number of a recipe, and what it means."""

    path: str
    """what `change` calls it"""
    value: Any
    """the number"""
    meaning: str
    """what it means, in which unit, and where it comes from"""


def settings(recipe: Recipe) -> list[Setting]:
    """Every number of a recipe, in the order of its rooms; the network's kind is `net`."""
    return _settings(recipe, "")


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Plain values, complete."""
    return asdict(recipe)


def from_dict(values: Mapping[str, Any]) -> Recipe:
    """The recipe of plain values; refuses what is unknown, of the wrong type or out of range, all at once."""
    _refuse_unknown(values, to_dict(Recipe()), "")
    try:
        found: Recipe = _validator().validate_python(dict(values))
    except (ValidationError, OverflowError) as error:
        why = errors.format_validation_errors(error.errors()) if isinstance(error, ValidationError) else str(error)
        raise ConfigError(f"not a recipe: {why}") from error
    _refuse_booleans(values, to_dict(found), "")
    return found


def settled(plan: Recipe) -> Recipe:
    """What a recipe decides: the same net comes of it with `recompute` and without."""
    return replace(plan, recompute=False)


def read(path: str | Path) -> Recipe:
    """The recipe in a file, such as the `recipe.json` of a run."""
    remedy = "a recipe is an object of settings, as moodfield recipes NAME --json prints it"
    values = arrays.read_json(Path(path), dict, remedy=remedy, error=ConfigError)
    try:
        return from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def change(recipe: Recipe, *settings: str) -> Recipe:
    """The recipe with settings of the form `a.b=v` changed: `change(recipe, "net.rho_freq=7", "seed=1")`.

    `net=NAME` takes a whole network from the registry; its other numbers may follow. `none` is none.
    """
    values = to_dict(recipe)
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"{setting!r} came, a setting looks like net.rho_freq=7")
        if path == "net":
            if value not in NETS:
                raise ConfigError(f"there is no network called {value!r}; {errors.suggest(value, NETS)}")
            values["net"] = asdict(NETS[value])
            continue
        *rooms, name = path.split(".")
        place = values
        for room in rooms:
            place = place.get(room, {})
            if not isinstance(place, dict):
                place = {}
        if name not in place or isinstance(place[name], dict):
            known = [f"{room}.{each}" if room else each for room, each in _leaves(values)]
            raise ConfigError(f"a recipe has no setting {path!r}; {errors.suggest(path, known)}")
        place[name] = None if value == "none" else value
    return from_dict(values)


def dumps(recipe: Recipe) -> str:
    """The recipe as JSON."""
    return json.dumps(to_dict(recipe), indent=2) + "\n"


@cache
def _validator() -> Any:
    """What makes a recipe of plain values; to build it takes a while."""
    return TypeAdapter(Recipe)


def _settings(config: Any, room: str) -> list[Setting]:
    found, meanings = [], _meanings(type(config))
    for name, value in vars(config).items():
        if is_dataclass(value):
            if room + name == "net":
                found.append(Setting("net", vars(value)["family"], meanings[name]))
            found += _settings(value, f"{room}{name}.")
        elif name != "family":
            found.append(Setting(room + name, value, meanings[name]))
    return found


def _meanings(config: type) -> dict[str, str]:
    """What stands below every attribute in the source: Python itself does not keep it."""
    found = {}
    for kind in reversed([each for each in config.__mro__ if is_dataclass(each)]):
        [tree] = ast.parse(inspect.getsource(kind)).body
        for attribute, below in pairwise(getattr(tree, "body", ())):
            if isinstance(attribute, ast.AnnAssign) and isinstance(below, ast.Expr):
                name, words = ast.unparse(attribute.target), ast.literal_eval(below.value)
                found[name] = " ".join(words.split())
    return found


def _leaves(values: Mapping[str, Any], room: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        found += _leaves(value, f"{room}.{name}".strip(".")) if isinstance(value, dict) else [(room, name)]
    return found


def _refuse_unknown(values: Mapping[str, Any], known: Mapping[str, Any], room: str) -> None:
    """Nested dataclasses would ignore what they do not know; networks are told apart by their own fields."""
    for name, value in values.items():
        if room == "net":
            continue
        if name not in known:
            raise ConfigError(f"a recipe has no setting {f'{room}.{name}'.strip('.')!r}; {errors.suggest(name, known)}")
        if isinstance(value, dict) and isinstance(known[name], dict):
            _refuse_unknown(value, known[name], name)


def _refuse_booleans(values: Mapping[str, Any], found: Mapping[str, Any], room: str) -> None:
    """A boolean would be taken for the number 0 or 1."""
    for name, value in values.items():
        path = f"{room}.{name}".strip(".")
        if isinstance(value, bool) and not isinstance(found.get(name), bool):
            raise ConfigError(f"not a recipe: {path} is {value}, a number is wanted")
        if isinstance(value, Mapping) and isinstance(found.get(name), Mapping):
            _refuse_booleans(value, found[name], path)
