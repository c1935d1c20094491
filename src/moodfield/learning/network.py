"""The network of a model with another head: weights and ONNX file, changed without torch."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, checker, helper, load_model, numpy_helper, save_model
from safetensors.numpy import load_file, save

from moodfield import clips, files
from moodfield.card import EMBEDDING, LOGITS, NETWORK, WEIGHTS, Card
from moodfield.engine import OnnxEngine
from moodfield.errors import ConfigError, ModelError
from moodfield.learning.head import LinearHead

EPSILON = 1e-5
"""term that torch's batch norms add to the variance"""
TOLERANCE = 1e-4
"""largest accepted difference in logits, relative if they are large, between ONNX Runtime and the head"""
FRAMES = 300
"""frames of the mel on which they are compared, if the network takes any length"""


@dataclass(frozen=True, eq=False)
class BaseNetwork:
    """The network of a base model, and where its head is."""

    card: Card
    """card of the base model"""
    weights: dict[str, np.ndarray]
    """its weights, as torch names them"""
    graph: ModelProto
    """its ONNX file"""
    conv: str
    """name of the last convolution in the weights"""
    norm: str
    """name of the batch norm after it"""
    parameters: tuple[str, str]
    """names of weight and bias of the convolution in the ONNX file, into which the batch norm was folded"""

    @property
    def head(self) -> LinearHead:
        """The head: a linear map from the embedding to the logits."""
        return self._head(*self.parameters)

    def further_head(self, name: str) -> LinearHead:
        """A further head, by its name."""
        return self._head(*_parameters(name))

    @property
    def body_digest(self) -> str:
        """SHA-256 of the network without its heads: equal for a base and what is learned from it."""
        graph = _copy(self.graph)
        _remove_heads(graph, [item.name for item in self.card.heads])
        layers = [*graph.graph.node, *graph.graph.initializer]
        kept = (layer for layer in layers if layer.name not in self.parameters)
        return hashlib.sha256(b"".join(layer.SerializeToString(deterministic=True) for layer in kept)).hexdigest()

    def check_name(self, name: str) -> None:
        """Raise `ConfigError` unless a further head may have this name, which that of no array may be."""
        graph = self.graph.graph
        taken = {array for node in graph.node for array in (*node.input, *node.output)}
        if not name or name in taken | {item.name for item in graph.initializer}:
            raise ConfigError(f"the base has a head or an array {name!r} already; give the model another name")

    def _head(self, weight_name: str, bias_name: str) -> LinearHead:
        values = {item.name: item for item in self.graph.graph.initializer}
        weight, bias = (numpy_helper.to_array(values[name]).astype(np.float64) for name in (weight_name, bias_name))
        return LinearHead(weight.reshape(weight.shape[:2]), bias)


def read(base: Path) -> BaseNetwork:
    """Read the network of a base model.

    Raises:
        ModelError: The model has no embedding, or does not end with a 1 × 1 convolution and a batch norm.
    """
    card = Card.read(base)
    if EMBEDDING not in card.outputs or card.network_files != (NETWORK,):
        raise ModelError(f"the model {base} has no embedding, from which tags are learned; take another one as base")
    try:
        weights, graph = load_file(base / WEIGHTS), load_model(base / NETWORK)
    except Exception as error:  # both libraries raise errors of many types
        raise ModelError(f"the network of {base} cannot be read ({error}); get the model again") from error
    layers = sorted({int(name.split(".")[1]) for name in weights if name.startswith("head.")})[-2:]
    conv, norm = (f"head.{layer}" for layer in layers) if len(layers) == 2 else ("", "")
    channels = card.outputs[EMBEDDING]
    shapes = {name: value.shape for name, value in weights.items() if name.startswith((f"{conv}.", f"{norm}."))}
    is_conv = shapes.get(f"{conv}.weight", ())[1:] == (channels, 1, 1) and f"{conv}.bias" not in shapes
    producers = {output: node for node in graph.graph.node for output in node.output}
    last = next((node for node in _upstream(producers, LOGITS) if node.op_type == "Conv"), None)
    parameters = tuple(last.input[1:]) if last else ()
    arrays = {item.name: tuple(item.dims) for item in graph.graph.initializer}
    folded = [arrays.get(name) for name in parameters]
    n_outputs = len(card.vocabulary)
    if not is_conv or f"{norm}.running_var" not in shapes or folded != [(n_outputs, channels, 1, 1), (n_outputs,)]:
        raise ModelError(f"{base} does not end with a 1 × 1 convolution and a batch norm; take another model as base")
    return BaseNetwork(card, weights, graph, conv, norm, (parameters[0], parameters[1]))


def write(network: BaseNetwork, head: LinearHead, folder: Path, *, further: str | None = None) -> None:
    """Write weights and ONNX file of a base network with another head into an existing folder.

    Args:
        network: The base network.
        head: The head.
        folder: Folder to write into.
        further: Name of a further head: the base keeps its own ones. Only the ONNX file has it.

    Raises:
        ConfigError: The network has an array of this name already.
        ModelError: ONNX Runtime does not give the logits of the head.
    """
    graph = _copy(network.graph)
    if further is not None:
        network.check_name(further)
        _add_head(graph, head, further)
    else:
        _remove_heads(graph, [item.name for item in network.card.heads])
        _replace_head(graph, network.parameters, head)
    checker.check_model(graph)
    files.write(folder / WEIGHTS, save(_with_head(network, head) if further is None else network.weights))
    with files.atomic_path(folder / NETWORK) as partial:
        save_model(graph, partial)
    _compare(network.card, head, folder / NETWORK, further)


def _replace_head(graph: ModelProto, parameters: tuple[str, str], head: LinearHead) -> None:
    """Replace weight and bias of the last convolution of an ONNX network."""
    values = {item.name: item for item in graph.graph.initializer}
    for name, array in zip(parameters, (head.weight[:, :, None, None], head.bias), strict=True):
        values[name].CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))
    del graph.graph.value_info[:]  # shapes with the former number of tags
    [output] = [item for item in graph.graph.output if item.name == LOGITS]
    output.type.tensor_type.shape.dim[1].dim_value = len(head.bias)


def _add_head(graph: ModelProto, head: LinearHead, name: str) -> None:
    """Add a head to an ONNX network: a convolution from the embedding over time to a further output."""
    for parameter, array in zip(_parameters(name), (head.weight[:, :, None], head.bias), strict=True):
        graph.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), parameter))
    node = helper.make_node("Conv", [EMBEDDING, *_parameters(name)], [name], name=f"heads/{name}")
    graph.graph.node.append(node)
    output = graph.graph.output.add()
    output.CopyFrom(next(item for item in graph.graph.output if item.name == EMBEDDING))
    output.name = name
    output.type.tensor_type.shape.dim[1].dim_value = len(head.bias)


def _remove_heads(graph: ModelProto, names: Sequence[str]) -> None:
    """Remove further heads from an ONNX network."""
    nodes, parameters = {f"heads/{name}" for name in names}, {part for name in names for part in _parameters(name)}
    for items, unwanted in (
        (graph.graph.node, nodes), (graph.graph.output, set(names)), (graph.graph.initializer, parameters),
    ):  # fmt: skip
        kept = [item for item in items if item.name not in unwanted]
        del items[:]
        items.extend(kept)


def _parameters(name: str) -> tuple[str, str]:
    """Names of weight and bias of a further head in the ONNX file."""
    return f"heads/{name}/weight", f"heads/{name}/bias"


def _copy(graph: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(graph)
    return copy


def _with_head(network: BaseNetwork, head: LinearHead) -> dict[str, np.ndarray]:
    """The weights with a convolution and a batch norm that compute the head; the norm only adds the bias."""
    n_tags = len(head.bias)
    changed = {
        f"{network.conv}.weight": head.weight[:, :, None, None],
        f"{network.norm}.weight": np.full(n_tags, np.sqrt(1 + EPSILON)),
        f"{network.norm}.bias": head.bias,
        f"{network.norm}.running_mean": np.zeros(n_tags),
        f"{network.norm}.running_var": np.ones(n_tags),
    }
    return network.weights | {name: np.ascontiguousarray(value, np.float32) for name, value in changed.items()}


def _compare(card: Card, head: LinearHead, path: Path, further: str | None) -> None:
    """Raise `ModelError` unless the logits of a network, or of a further head, are the head's, for noise."""
    frames = (
        card.lengths.frames if isinstance(card.lengths, clips.FixedLength) else max(FRAMES, card.lengths.min_frames)
    )
    noise = np.random.default_rng(0).standard_normal((1, card.mel.n_mels, frames), np.float32)
    engine = OnnxEngine(path, threads=1)
    output = engine.forward_head(engine.forward_features(noise))
    logits = output.logits[0] if further is None else output.heads[further][0]
    expected = np.zeros_like(logits) if output.embedding is None else head.logits(output.embedding[0].T).T
    scale = max(1.0, float(np.abs(expected).max()))
    if output.embedding is None or not np.abs(logits - expected).max() <= TOLERANCE * scale:
        raise ModelError(f"{path}: the logits are not a linear function of the embedding; take another model as base")


def _upstream(producers: dict[str, NodeProto], name: str) -> Iterator[NodeProto]:
    """The nodes before an output, each the producer of the first input of the one after it."""
    while (node := producers.get(name)) is not None:
        yield node
        name = node.input[0]
