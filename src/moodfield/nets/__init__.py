"""The networks and their registry.

Configs need no torch; it is imported when a network is built or loaded.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pydantic import TypeAdapter, ValidationError

from moodfield import errors
from moodfield.errors import ConfigError, ModelError
from moodfield.nets.configs import CPDenseNetConfig, CPResNetConfig, CRNNConfig, NetConfig, PlainResNetConfig, VGGConfig

if TYPE_CHECKING:
    from moodfield.nets import resnet, vgg
    from moodfield.nets.blocks import Net

__all__ = [
    "NETS", "TAGS", "CPDenseNetConfig", "CPResNetConfig", "CRNNConfig", "Net", "NetConfig", "PlainResNetConfig",
    "VGGConfig", "configure", "create", "from_dict", "load_pretrained", "resnet", "vgg",
]  # fmt: skip

NETS: dict[str, NetConfig] = {
    "cp_resnet": CPResNetConfig(),
    "fa_resnet": CPResNetConfig(frequency_aware=True),
    "shake_fa_resnet": CPResNetConfig(frequency_aware=True, shake=True),
    "cp_densenet": CPDenseNetConfig(),
    "resnet18": PlainResNetConfig(depth=18),
    "resnet34": PlainResNetConfig(depth=34),
    "resnet50": PlainResNetConfig(depth=50),
    "crnn": CRNNConfig(),
    "vgg": VGGConfig(),
}
"""name → config; files store the config, never the name"""
TAGS = 56
"""number of moods and themes of MTG-Jamendo"""
_FAMILIES: dict[str, type[NetConfig]] = {config.family: config for config in get_args(NetConfig)}


def __getattr__(name: str) -> object:
    if name == "Net":
        return import_module("moodfield.nets.blocks").Net
    if name in ("resnet", "vgg"):
        return import_module(f"moodfield.nets.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def create(name: str, *, n_mels: int = 256, n_tags: int = TAGS, **changes: object) -> "Net":
    """Build a network of the registry with fresh weights.

    Args:
        name: a key of `NETS`.
        n_mels: mel bands of the input.
        n_tags: number of logits.
        **changes: fields of the network's config to replace.

    Raises:
        UnknownNameError: no network has this name.
        ConfigError: an unknown field, or a value out of range.

    Example:
        >>> net = create("fa_resnet", n_mels=64, n_tags=3, width=4, rho_freq=7)
        >>> net.config.rho_freq
        7
    """
    config = configure(name, changes)
    if n_tags < 1:
        raise ConfigError(f"n_tags is {n_tags}, expected at least 1")
    return config.build(n_mels=n_mels, n_tags=n_tags)


def configure(name: str, changes: Mapping[str, object]) -> NetConfig:
    """The config of a network of the registry with some fields replaced; raises what `create` raises.

    Example:
        >>> configure("crnn", {"width": 32}).width
        32
    """
    config = errors.get_or_suggest(NETS, name, what="network")
    fields = [field for field in vars(config) if field != "family"]
    if unknown := set(changes) - set(fields):
        raise ConfigError(f"{name} has no {', '.join(sorted(unknown))}; it has {', '.join(fields)}")
    return from_dict({**asdict(config), **changes})


def from_dict(values: Mapping[str, object]) -> NetConfig:
    """The config with these plain values, as a file stores them.

    Args:
        values: `family` and any fields of its config; missing fields take their defaults.

    Raises:
        UnknownNameError: an unknown family.
        ConfigError: an unknown field, a value of the wrong type or out of range.

    Example:
        >>> from_dict({"family": "vgg", "width": 32})
        VGGConfig(width=32, frames=1366, dropout=0.5, family='vgg')
    """
    config = errors.get_or_suggest(_FAMILIES, str(values.get("family")), what="family of networks")
    if unknown := set(values) - set(vars(config())):
        raise ConfigError(f"{config.__name__} has no {', '.join(map(repr, sorted(unknown)))}; it has {config()}")
    try:
        return TypeAdapter(config).validate_json(json.dumps(dict(values)), strict=True)  # as if from a file
    except TypeError as error:
        raise ConfigError(f"{dict(values)} is not a {config.__name__}: {error}; plain values are expected") from error
    except ValidationError as error:
        reasons = errors.format_validation_errors(error.errors())
        raise ConfigError(f"{dict(values)} is not a {config.__name__}: {reasons}") from error


def load_pretrained(path: str | Path) -> "Net":
    """Load a published checkpoint: the organisers' VGG-ish baseline or one of the authors' CP-ResNets.

    Loading runs no code from the file.

    Returns:
        The network in evaluation mode.

    Raises:
        ModelError: the file is missing, damaged, or not such a checkpoint.
    """
    import torch

    from moodfield.nets import resnet, vgg

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files make torch raise errors of many types
        # not torch's message, which suggests to load it unsafely
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ModelError(f"{path} is not a checkpoint of weights alone: {reason}; get it again") from error
    if not isinstance(checkpoint, Mapping):
        raise ModelError(f"{path} contains a {type(checkpoint).__name__}, expected a state dict")
    net: Net = (vgg if "bn_init.weight" in checkpoint else resnet).from_published(checkpoint)
    return net.eval()
