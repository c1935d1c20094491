"""Published weights of networks, read without running code and checked tensor by tensor."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from moodfield import errors
from moodfield.errors import ModelError

COUNTER = "num_batches_tracked"
"""a number of training steps in every batch norm, which has no effect on outputs"""
NEGLIGIBLE = 1e-20
"""weights below it are zero: weight decay left many so small that processors compute with them slowly"""


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a checkpoint of torch; raises `ModelError` if it is none."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files make torch raise errors of many types
        raise _unreadable(path, "a checkpoint of weights alone", error) from error
    if not isinstance(checkpoint, Mapping):
        raise ModelError(f"{path} contains a {type(checkpoint).__name__}, expected a state dict; get it again")
    return {str(name): tensor for name, tensor in checkpoint.items() if isinstance(tensor, Tensor)}


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """Read a safetensors file; raises `ModelError` if it is none."""
    import safetensors.torch

    try:
        return dict(safetensors.torch.load_file(path))
    except (OSError, safetensors.SafetensorError) as error:
        raise _unreadable(path, "a safetensors file", error) from error


def fit(net: nn.Module, tensors: Mapping[str, Tensor], published: Callable[[str], str], *, what: str) -> None:
    """Load published tensors into a network.

    Args:
        net: The network.
        tensors: Tensors in torch's layout by their published names.
        published: From a tensor's name in the network to its published name.
        what: File and network, for the message.

    Raises:
        ModelError: Tensors are missing, unknown, or have other shapes; the message lists them.
    """
    expected = {name: tensor for name, tensor in net.state_dict().items() if not name.endswith(COUNTER)}
    names = {name: published(name) for name in expected}
    faults = [f"{name} is missing" for name in names.values() if name not in tensors]
    for name, tensor in expected.items():
        read = tensors.get(names[name], tensor)
        if read.shape != tensor.shape:
            faults.append(f"{names[name]} has the shape {tuple(read.shape)}, expected {tuple(tensor.shape)}")
        elif not (read.is_floating_point() and bool(read.isfinite().all())):
            faults.append(f"{names[name]} has values that are not finite numbers")
    unknown = [name for name in tensors if name not in names.values() and not name.endswith(COUNTER)]
    faults += [f"{name} is unknown" for name in unknown]
    if faults:
        raise ModelError(f"{what}: {errors.join_some(faults, '; ')}; expected {len(names)} tensors as published")
    net.load_state_dict({name: _flushed(tensors[names[name]]) for name in names}, strict=False)


def _flushed(tensor: Tensor) -> Tensor:
    """The tensor without its negligible numbers: a quarter of the CRNN's, which make it many times as slow."""
    return torch.where(tensor.abs() < NEGLIGIBLE, 0, tensor)


def _unreadable(path: str | Path, expected: str, error: Exception) -> ModelError:
    # not torch's message, which suggests to load it unsafely
    reason = getattr(error, "strerror", None) or type(error).__name__
    return ModelError(f"{path} cannot be read as {expected}: {reason}; get it again")
