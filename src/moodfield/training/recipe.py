"""The recipe: all settings of a training run as one frozen value; settings are changed as `a.b=v`."""

import ast
import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter, ValidationError

from moodfield import errors, files
from moodfield.clips import MAX_FRAMES
from moodfield.errors import ConfigError
from moodfield.mel import MelConfig
from moodfield.nets import NETS, NetConfig
from moodfield.training import configs
from moodfield.training.configs import AugmentConfig, AveragingConfig, BatchConfig, LossConfig, ScheduleConfig

MAX_SEED = 2**63 - 1
"""the largest seed of torch"""
MIN_STRIDE, MAX_STRIDE = 0.1, 86_400.0
"""seconds from one validated clip to the next: from clips that overlap almost wholly to one clip a day"""


@dataclass(frozen=True)
class Setting:
    """One setting of a recipe, and what it means."""

    path: str
    """its name for `Recipe.change`, such as `net.rho_freq`"""
    value: Any
    """its value"""
    meaning: str
    """what it means, its unit, and where it comes from"""


@dataclass(frozen=True)
class Recipe:
    """All settings of a training run."""

    net: Annotated[NetConfig, Field(discriminator="family")] = NETS["fa_resnet"]
    """the network (§3.1, §3.2)"""
    mel: MelConfig = field(default_factory=MelConfig)
    """its input, mel spectrograms (§2.1)"""
    batch: BatchConfig = field(default_factory=BatchConfig)
    """clips and batches"""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """roll and mix-up (§2.3)"""
    loss: LossConfig = field(default_factory=LossConfig)
    """loss between logits and targets"""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """learning rate by epoch (§2.2)"""
    averaging: AveragingConfig = field(default_factory=AveragingConfig)
    """weights averaged over epochs (§3.4)"""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """number format of the training step; bf16-mixed is about twice as fast on processors with bfloat16 arithmetic;
    *chosen by us*"""
    recompute: bool = False
    """whether activations are recomputed for the gradients instead of kept: less memory, more computation, the same
    network; *chosen by us*"""
    validate_every: int = 1
    """epochs from one validation to the next; the last epoch is always validated; *chosen by us*: §3.4
    picks the best of all epochs"""
    validate_stride: float | None = 30.0
    """seconds from one validated clip of a track to the next; none: the whole track; *chosen by us*, by a measurement:
    the epoch chosen by 10 s of every 30 s scored .002 lower, at half the cost"""
    seed: int = 42
    """seed of all random numbers of the run; that of the authors' code"""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if not 1 <= self.validate_every <= configs.MAX_EPOCHS or not 0 <= self.seed <= MAX_SEED:
            raise ConfigError(f"validate_every must be 1 … {configs.MAX_EPOCHS} epochs, and seed 0 … 2⁶³ − 1")
        if self.validate_stride is not None and not MIN_STRIDE <= self.validate_stride <= MAX_STRIDE:
            raise ConfigError(f"validate_stride is {self.validate_stride}, not {MIN_STRIDE} … {MAX_STRIDE:g} s or none")
        if self.clip_frames > MAX_FRAMES:
            raise ConfigError(f"clips have {self.clip_frames} frames, more than {MAX_FRAMES}; lower batch.clip_seconds")
        self.averaging.epochs(self.schedule)  # raises ConfigError if the start is after the last epoch

    @property
    def clip_frames(self) -> int:
        """Frames of a training clip."""
        return int(self.batch.clip_seconds * self.mel.frames_per_second) + 1

    @property
    def averaged_epochs(self) -> range:
        """The epochs, counted from 1, after which weights are averaged (§3.4)."""
        return self.averaging.epochs(self.schedule)

    def change(self, *settings: str) -> "Recipe":
        """The recipe with some settings changed.

        Args:
            settings: in the form `a.b=v`, applied in order. `net=NAME` takes a whole network from the registry; its own
                settings may follow. `none` stands for None.

        Raises:
            ConfigError: a setting is unknown, or a value has the wrong type or is out of range.

        Example:
            >>> recipe = Recipe().change("net=cp_resnet", "net.rho_freq=7", "seed=1")
            >>> recipe.net.rho_freq, recipe.seed
            (7, 1)

        """
        values = self.to_dict()
        for setting in settings:
            path, equals, value = setting.partition("=")
            if not equals:
                raise ConfigError(f"{setting!r} is not a setting; write it like net.rho_freq=7")
            if path == "net":
                if value not in NETS:
                    raise ConfigError(f"there is no network called {value!r}; {errors.suggest(value, NETS)}")
                values["net"] = asdict(NETS[value])
                continue
            _check_path(path, _flatten(values))
            group, _, name = path.rpartition(".")
            (values[group] if group else values)[name] = None if value == "none" else value
        return Recipe.from_dict(values)

    def settings(self) -> list[Setting]:
        """Every setting in the order of its group; the network's family is `net`.

        Example:
            >>> [setting.path for setting in Recipe().settings()][:3]
            ['net', 'net.rho_freq', 'net.rho_time']

        """
        return list(_settings(self, ""))

    def canonical(self) -> "Recipe":
        """The recipe without the setting that does not change the trained network: `recompute`."""
        return replace(self, recompute=False)

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain values."""
        return asdict(self)

    def to_json(self) -> str:
        """All settings as JSON."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Recipe":
        """The recipe of plain values; settings that are left out have their defaults.

        Raises:
            ConfigError: settings that are unknown, of the wrong type or out of range; all of them are named.

        Example:
            >>> Recipe.from_dict({"seed": 3}) == Recipe(seed=3)
            True

        """
        settings, defaults = _flatten(values), Recipe().to_dict()
        for path in settings:
            if path not in defaults and not path.startswith("net."):  # pydantic ignores others in nested dataclasses
                _check_path(path, _flatten(defaults))
        try:
            recipe: Recipe = _validator().validate_python(dict(values))
        except (ValidationError, OverflowError) as error:
            faults = errors.format_validation_errors(error.errors()) if isinstance(error, ValidationError) else error
            raise ConfigError(f"not a recipe: {faults}") from error
        valid = _flatten(recipe.to_dict())
        for path, value in settings.items():  # pydantic would take booleans for the numbers 0 and 1
            if isinstance(value, bool) and not isinstance(valid.get(path), bool):
                raise ConfigError(f"not a recipe: {path} is {value}, a number is expected")
        return recipe

    @staticmethod
    def read(path: str | Path) -> "Recipe":
        """The recipe in a JSON file, such as the `recipe.json` of a run.

        Raises:
            ConfigError: the file is missing, damaged, or not a recipe.

        """
        remedy = "a recipe is an object of settings, as moodfield recipes NAME --json prints it"
        values = files.read_json(Path(path), dict, remedy=remedy, error=ConfigError)
        try:
            return Recipe.from_dict(values)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


@dataclass(frozen=True)
class NamedRecipe:
    """A recipe with reasons for its settings."""

    description: str
    """the network or the method, and its source"""
    reasons: Mapping[str, str]
    """settings that differ from the default recipe: `a.b=v` → reason"""

    @property
    def recipe(self) -> Recipe:
        """The complete recipe."""
        return Recipe().change(*self.reasons)


FEW_EPOCHS = "*chosen by us*: a trained network needs few epochs"
FINE_TUNING = NamedRecipe(
    "A trained network goes on with other tracks and tags, for `--init MODEL`; *chosen by us*, not of the paper",
    {
        "schedule.warm_up=0": FEW_EPOCHS,
        "schedule.constant=5": FEW_EPOCHS,
        "schedule.decay=12": FEW_EPOCHS,
        "schedule.final=3": FEW_EPOCHS,
        "schedule.peak=1e-3": "*chosen by us*: the output layer begins anew",
        "schedule.floor=1e-5": "*chosen by us*: a hundredth of the peak",
        "schedule.body_rate=0.1": "*chosen by us*: better than 0, 0.03 and 0.3 (`benchmarks/few_labels.py --choose`)",
        "averaging.every=0": "*chosen by us*: the best epoch alone",
        "loss.pos_weight=1": "*chosen by us*: plain cross-entropy",
    },
)
"""the recipe of fine-tuning, for the network and the mel of the initial model"""


@cache
def _validator() -> Any:
    """The pydantic validator of recipes; building it takes a while."""
    return TypeAdapter(Recipe)


def _settings(config: Any, prefix: str) -> Iterator[Setting]:
    meanings = _meanings(type(config))
    for name, value in vars(config).items():
        path = prefix + name
        if is_dataclass(value):
            if path == "net":
                yield Setting("net", vars(value)["family"], meanings[name])
            yield from _settings(value, f"{path}.")
        elif name != "family":
            yield Setting(path, value, meanings[name])


def _meanings(config: type) -> dict[str, str]:
    """The docstring below every field in the source, which Python itself does not keep."""
    meanings = {}
    for parent in reversed([parent for parent in config.__mro__ if is_dataclass(parent)]):
        [tree] = ast.parse(inspect.getsource(parent)).body
        for attribute, below in pairwise(getattr(tree, "body", ())):
            if isinstance(attribute, ast.AnnAssign) and isinstance(below, ast.Expr):
                docstring = ast.literal_eval(below.value)
                meanings[ast.unparse(attribute.target)] = " ".join(docstring.split())
    return {field.name: meanings[field.name] for field in fields(config) if field.name in meanings}


def _flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by their path, such as `net.rho_freq`."""
    groups = (
        (f"{name}.", value) if isinstance(value, Mapping) else ("", {name: value}) for name, value in values.items()
    )
    return {prefix + name: value for prefix, group in groups for name, value in group.items()}


def _check_path(path: str, settings: Mapping[str, Any]) -> None:
    if path not in settings:
        raise ConfigError(f"a recipe has no setting {path!r}; {errors.suggest(path, settings)}")
