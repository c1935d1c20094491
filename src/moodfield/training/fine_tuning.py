"""Fine-tuning: initial weights of a model, a new output layer, and the learning rate of the body."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from moodfield import nets
from moodfield.card import WEIGHTS, Card
from moodfield.errors import ConfigError
from moodfield.nets import Net
from moodfield.training.configs import ScheduleConfig
from moodfield.training.recipe import Recipe


@dataclass(frozen=True)
class InitialWeights:
    """Weights that training starts from."""

    path: Path
    """a `.safetensors` file"""
    output_layer: bool = True
    """whether the output layer is taken too: it has the same tags; it may lack auxiliary outputs"""


def with_model(recipe: Recipe, folder: Path) -> Recipe:
    """A recipe with the network and the mel of a model.

    Args:
        recipe: Recipe for everything else.
        folder: Model folder.

    Raises:
        ModelError: The card cannot be read.

    Example:
        >>> from moodfield import tagger
        >>> with_model(Recipe(), tagger.model_folder("default")).mel.sample_rate
        16000
    """
    card = Card.read(folder)
    return replace(recipe, net=nets.from_dict(card.net), mel=card.mel)


def check(recipe: Recipe, folder: Path | None) -> Card | None:
    """Check that a recipe can start from a model.

    Args:
        recipe: The recipe.
        folder: Model folder; None for random weights.

    Returns:
        The card of the model.

    Raises:
        ConfigError: The model has another network or mel; or the recipe has a rate for the body without a model.
        ModelError: The card cannot be read.
    """
    if folder is None:
        if recipe.schedule.body_rate != 1:
            raise ConfigError(
                f"schedule.body_rate={recipe.schedule.body_rate:g} keeps a body of random weights; give an initial "
                "model (--init), or leave it at 1"
            )
        return None
    card = Card.read(folder)
    if card.net.get("family") != recipe.net.family:
        raise ConfigError(
            f"the network of the initial model {folder} is a {card.net.get('family')}, that of the recipe a "
            f"{recipe.net.family}; expected the same"
        )
    pairs = {"net": (dict(card.net), asdict(recipe.net)), "mel": (asdict(card.mel), asdict(recipe.mel))}
    for group, (theirs, ours) in pairs.items():
        for name in theirs | ours:
            if theirs.get(name) != ours.get(name):
                raise ConfigError(
                    f"{group}.{name} is {theirs.get(name)} in the initial model {folder}, and {ours.get(name)} in the "
                    "recipe; expected the same network and mel"
                )
    return card


def initial_weights(folder: Path, vocabulary: Sequence[str]) -> InitialWeights:
    """The weights of a model, with its output layer only if it has this vocabulary."""
    return InitialWeights(folder / WEIGHTS, output_layer=Card.read(folder).vocabulary == tuple(vocabulary))


def initialize(net: Net, initial: InitialWeights) -> None:
    """Start a network from trained weights; outputs that are not taken keep their own values.

    Raises:
        ConfigError: The file cannot be read, or has the weights of another network.
    """
    path = initial.path
    try:
        weights = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ConfigError(f"the initial weights {path} cannot be read: {error}") from error
    state, outputs = net.state_dict(), net.output_names
    for name, value in state.items():
        weight = weights.pop(name, None)
        if name in outputs and not initial.output_layer:
            continue
        lacks_outputs = name in outputs and weight is not None and weight.dim() > 0 and len(weight) < len(value)
        first_axis = 1 if lacks_outputs else 0
        if weight is None or weight.shape[first_axis:] != value.shape[first_axis:]:
            shape = "nothing" if weight is None else f"the shape {tuple(weight.shape)}"
            raise ConfigError(
                f"{path} has {shape} for {name}, this network {tuple(value.shape)}: it is another network"
            )
        state[name] = torch.cat([weight, value[len(weight) :]]) if lacks_outputs else weight
    if weights:
        raise ConfigError(f"{path} has {min(weights)}, which this network lacks: it is another network")
    net.load_state_dict(state)


def parameter_groups(net: Net, schedule: ScheduleConfig) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: body and output layer, each with its `scale` of the learning rate.

    A body whose rate is 0 is frozen.
    """
    if schedule.body_rate == 0:
        net.freeze_body()
    outputs = net.output_names
    body = [parameter for name, parameter in net.named_parameters() if name not in outputs]
    output = [parameter for name, parameter in net.named_parameters() if name in outputs]
    return [{"params": body, "scale": schedule.body_rate}, {"params": output, "scale": 1.0}]
