"""Clips become logits: the zoo and its one registry.

In: a name and changes to its numbers. Out: a network.
Knows nothing of: training, cards, or files other than published checkpoints.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import torch
from pydantic import TypeAdapter, ValidationError

from moodfield import errors
from moodfield.errors import ConfigError, ModelError
from moodfield.nets import resnet, vgg
from moodfield.nets.blocks import Net
from moodfield.nets.crnn import CRNNConfig
from moodfield.nets.densenet import CPDenseNetConfig
from moodfield.nets.plain import PlainResNetConfig
from moodfield.nets.resnet import CPResNet, CPResNetConfig
from moodfield.nets.vgg import VGG, VGGConfig

NetConfig = CPResNetConfig | CPDenseNetConfig | PlainResNetConfig | CRNNConfig | VGGConfig

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
"""moods and themes of MTG-Jamendo"""
_FAMILIES: dict[str, type[NetConfig]] = {config.family: config for config in get_args(NetConfig)}


def create(name: str, *, n_mels: int = 256, n_tags: int = TAGS, **changes: object) -> Net:
    """A fresh network of the registry, with some of its numbers changed: `create("fa_resnet", rho_freq=7)`.

    Refuses an unknown name, an unknown number, and numbers out of range.
    """
    config = configure(name, changes)
    if n_tags < 1:
        raise ConfigError(f"{n_tags} tags came, at least 1 is needed")
    net: Net = config.build(bands=n_mels, tags=n_tags)
    return net


def configure(name: str, changes: Mapping[str, object]) -> NetConfig:
    """The numbers of a network of the registry, some of them changed; refuses what `create` refuses."""
    config = errors.get_or_suggest(NETS, name, what="network")
    numbers = [number for number in vars(config) if number != "family"]
    if unknown := set(changes) - set(numbers):
        raise ConfigError(f"{name} has no {', '.join(sorted(unknown))}; it has {', '.join(numbers)}")
    return from_dict({**asdict(config), **changes})


def register(name: str, config: NetConfig) -> None:
    """Give a config a name; refuses a name that is taken."""
    if name in NETS:
        raise ConfigError(f"the network {name!r} is registered already, as {NETS[name]}; choose another name")
    NETS[name] = config


def from_dict(values: Mapping[str, object]) -> NetConfig:
    """The config that a file states as plain values; refuses unknown families, numbers and values out of range."""
    kind = errors.get_or_suggest(_FAMILIES, str(values.get("family")), what="family of networks")
    if strangers := set(values) - set(vars(kind())):
        raise ConfigError(f"a {values['family']} has no {', '.join(map(repr, sorted(strangers)))}; it has {kind()}")
    try:
        return TypeAdapter(kind).validate_json(json.dumps(dict(values)), strict=True)  # as if from a file
    except TypeError as error:
        raise ConfigError(f"{dict(values)} is no {values['family']}: {error}; plain numbers are wanted") from error
    except ValidationError as error:
        raise ConfigError(
            f"{dict(values)} is no {values['family']}: {errors.format_validation_errors(error.errors())}"
        ) from error


def load_pretrained(path: str | Path) -> Net:
    """The network in a published checkpoint, ready to answer: the organisers' VGG-ish one or the authors' CP-ResNets.

    Loading runs no code. Refuses a file that is missing, damaged or something else with `ModelError`.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # in damaged files torch's safe reader stumbles in many ways
        raise ModelError(f"{path} is not a checkpoint that can be loaded safely: {error}") from error
    if not isinstance(checkpoint, Mapping):
        raise ModelError(f"{path} holds a {type(checkpoint).__name__}, a state dict is wanted")
    net: Net = (vgg if "bn_init.weight" in checkpoint else resnet).from_published(checkpoint)
    return net.eval()


__all__ = [
    "NETS",
    "TAGS",
    "VGG",
    "CPDenseNetConfig",
    "CPResNet",
    "CPResNetConfig",
    "CRNNConfig",
    "Net",
    "NetConfig",
    "PlainResNetConfig",
    "VGGConfig",
    "configure",
    "create",
    "from_dict",
    "published",
    "register",
]
