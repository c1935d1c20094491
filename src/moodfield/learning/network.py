"""A model folder with the body of another model and a head of its own; needs ONNX and safetensors, not torch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors.numpy import load_file, save

from moodfield import files
from moodfield.card import EMBEDDING, LOGITS, NETWORK, WEIGHTS, Card
from moodfield.errors import ModelError
from moodfield.learn.head import LinearHead

BATCH_NORM_EPSILON = 1e-5
"""of torch's batch norms"""


def write_network(base: Path, head: LinearHead, folder: Path) -> None:
    """Write weights and ONNX file of a base model with another last layer.

    Args:
        base: Folder of a model with an embedding.
        head: From its embedding to logits.
        folder: An existing folder.

    Raises:
        ModelError: The base has no embedding, or another last layer than the networks of this package.
    """
    card = Card.read(base)
    if EMBEDDING not in card.outputs or card.network_files != (NETWORK,):
        raise ModelError(f"{base} has no embedding, so it cannot get another head; take another model as base")
    files.write(folder / WEIGHTS, save(_with_head(load_file(base / WEIGHTS), head, base)))
    network = onnx.load(base / NETWORK)
    _replace_head(network, head, base)
    with files.atomic_path(folder / NETWORK) as partial:
        onnx.save(network, partial)


def _with_head(weights: dict[str, np.ndarray], head: LinearHead, base: Path) -> dict[str, np.ndarray]:
    """The weights with a convolution and a batch norm that compute the head; the norm only adds the bias."""
    layers = sorted({int(name.split(".")[1]) for name in weights if name.startswith("head.")})[-2:]
    names = [f"head.{layer}.weight" for layer in layers]
    if len(layers) < 2 or weights[names[0]].shape[1:] != (head.weight.shape[1], 1, 1):
        raise ModelError(f"{base} does not end with a 1 × 1 convolution and a batch norm; take another model as base")
    conv, norm = (f"head.{layer}" for layer in layers)
    ones, zeros = np.ones(len(head.bias), np.float32), np.zeros(len(head.bias), np.float32)
    changed = {
        f"{conv}.weight": head.weight.astype(np.float32)[:, :, None, None],
        f"{norm}.weight": ones * np.float32(np.sqrt(1 + BATCH_NORM_EPSILON)),
        f"{norm}.bias": head.bias.astype(np.float32),
        f"{norm}.running_mean": zeros,
        f"{norm}.running_var": ones,
    }
    return weights | changed


def _replace_head(network: onnx.ModelProto, head: LinearHead, base: Path) -> None:
    """Replace weight and bias of the convolution that the logits come from."""
    graph = network.graph
    producers = {output: node for node in graph.node for output in node.output}
    [conv] = [node for node in _upstream(producers, LOGITS) if node.op_type == "Conv"][:1] or [None]
    values = {item.name: item for item in graph.initializer}
    if conv is None or len(conv.input) != 3 or not set(conv.input[1:]) <= values.keys():
        raise ModelError(f"{base / NETWORK} has no convolution before its logits; take another model as base")
    arrays = head.weight[:, :, None, None], head.bias
    for name, array in zip(conv.input[1:], arrays, strict=True):
        values[name].CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))
    del graph.value_info[:]
    [output] = [item for item in graph.output if item.name == LOGITS]
    output.type.tensor_type.shape.dim[1].dim_value = len(head.bias)
    onnx.checker.check_model(network)


def _upstream(producers: dict[str, onnx.NodeProto], name: str) -> Iterator[onnx.NodeProto]:
    """The nodes before an output, each the producer of the first input of the one after it."""
    while (node := producers.get(name)) is not None:
        yield node
        name = node.input[0]
