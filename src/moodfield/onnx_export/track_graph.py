"""A model as one ONNX graph from the waveform of a track to its scores; equals `moodfield.tagger`."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from moodfield import clips, decisions
from moodfield.card import EMBEDDING, HEAD, LOGITS, NETWORK, Card, Head
from moodfield.clips import CLIP_FRAMES, AnyLength, FixedLength, WholeTrack
from moodfield.engine import FEATURES
from moodfield.onnx_export.graph import Graph, Value
from moodfield.onnx_export.mel_graph import MelGraph

WAVEFORM = "waveform"
"""name of the input: mono samples, float32, shape (samples,), at the sample rate of the model"""
END = int(np.iinfo(np.int64).max)
"""end of a slice that keeps all"""


class Cut(NamedTuple):
    """How a track is cut into clips: names of values, or constants."""

    number: str
    """number of clips"""
    mel: str
    """mel of one clip, in the loop over clips"""
    first: Value
    """first output of the network for the clip that belongs to the track"""
    stop: Value
    """end of these outputs"""


def build(card: Card, networks: Mapping[str, onnx.ModelProto]) -> onnx.GraphProto:
    """The graph of a model.

    Args:
        card: The card of the model.
        networks: Its ONNX files, by name.

    Returns:
        A graph whose outputs are, for every tag, `scores`, `evidence` and `decided`, and the names of the `tags`;
        `scores_over_time`, `logits_over_time` and the `seconds` of their steps; `embedding` and `embedding_over_time`
        if the network has one; and for every further head the same without times and embeddings, as `HEAD/scores`.
    """
    graph = Graph()
    spectrogram = MelGraph.add(graph, card.mel, WAVEFORM)
    channels = dict(card.outputs) or {LOGITS: len(card.vocabulary)}
    over_time = _run_clips(graph, card, spectrogram, networks[NETWORK], channels)
    if isinstance(card.lengths, WholeTrack):
        over_time = graph.network(networks[HEAD], over_time[FEATURES])
    over_time = {name: graph.op("Squeeze", value, 0) for name, value in over_time.items()}
    outputs = _Outputs(graph)
    outputs.add_head(card, over_time[LOGITS], "")
    outputs.add("seconds", _seconds(graph, card, spectrogram, over_time[LOGITS]), ["time"])
    if EMBEDDING in over_time:
        outputs.add("embedding", _mean(graph, over_time[EMBEDDING]), [channels[EMBEDDING]])
        outputs.add("embedding_over_time", over_time[EMBEDDING], [channels[EMBEDDING], "time"])
    for head in card.heads:
        outputs.add_head(head, over_time[head.name], f"{head.name}/")
    inputs = [helper.make_tensor_value_info(WAVEFORM, TensorProto.FLOAT, ["samples"])]
    return graph.build("moodfield", inputs, outputs.described)


def _run_clips(
    graph: Graph, card: Card, spectrogram: MelGraph, network: onnx.ModelProto, channels: Mapping[str, int]
) -> dict[str, str]:
    """Outputs of the network for all clips, concatenated over time: shape (1, channels, time) by name."""
    body, lengths = Graph(graph), card.lengths
    if isinstance(lengths, FixedLength):
        number, mel, first, stop = _cut_windows(graph, body, lengths, spectrogram)
    else:
        number, mel, first, stop = _cut_clips(graph, body, lengths, spectrogram)
    outputs = body.network(network, mel)
    kept = {name: body.slice(value, first, stop, axis=2) for name, value in outputs.items()}
    empty = [np.zeros((1, _channels(network, name), 0), np.float32) for name in outputs]
    before = [f"{name}_before" for name in outputs]
    joined = [body.op("Concat", old, new, axis=2) for old, new in zip(before, kept.values(), strict=True)]
    return dict(zip(outputs, graph.loop(number, empty, body, joined, ["clip", *before]), strict=True))


def _cut_clips(graph: Graph, body: Graph, lengths: AnyLength | WholeTrack, spectrogram: MelGraph) -> Cut:
    """Clips of a network that takes any length, as `clips.Cutter` cuts them."""
    before, clean, step = clips.overlap(lengths)
    further = graph.op("Max", graph.op("Sub", spectrogram.frames, CLIP_FRAMES), 0)
    count = graph.op("Add", graph.op("Div", graph.op("Add", further, step - 1), step), 1)
    start = body.op("Mul", "clip", step)
    end = body.op("Add", start, CLIP_FRAMES)
    mel = spectrogram.mel(body, start, body.op("Min", end, spectrogram.frames))
    first = body.op("Mul", body.op("Min", "clip", 1), before)
    return Cut(count, mel, first, body.op("Where", body.op("Less", end, spectrogram.frames), clean, END))


def _cut_windows(graph: Graph, body: Graph, lengths: FixedLength, spectrogram: MelGraph) -> Cut:
    """Windows of a network of fixed length; the last one ends with the track, and a shorter track is repeated."""
    size, stride = lengths.frames, lengths.stride
    latest = graph.op("Max", graph.op("Sub", spectrogram.frames, size), 0)
    count = graph.op("Add", graph.op("Div", graph.op("Add", latest, stride - 1), stride), 1)
    start = body.op("Min", body.op("Mul", "clip", stride), latest)
    end = body.op("Min", body.op("Add", start, size), spectrogram.frames)
    repeated = body.op("Mod", np.arange(size), body.op("Sub", end, start))
    return Cut(count, body.op("Gather", spectrogram.mel(body, start, end), repeated, axis=2), 0, END)


def _seconds(graph: Graph, card: Card, spectrogram: MelGraph, logits: str) -> str:
    """The time of every step in seconds, as `clips.centres` has it."""
    lengths = card.lengths
    steps = graph.op("Squeeze", graph.op("Shape", logits, start=1))
    numbers = graph.op("Range", np.zeros((), np.int64), steps, np.ones((), np.int64))
    last = graph.op("Cast", graph.op("Sub", spectrogram.frames, 1), to=TensorProto.FLOAT)
    if isinstance(lengths, WholeTrack):
        zeros = graph.op("Mul", graph.op("Cast", numbers, to=TensorProto.FLOAT), 0.0)
        middle = graph.op("Add", zeros, graph.op("Div", last, 2.0))
    elif isinstance(lengths, FixedLength):
        latest = graph.op("Max", graph.op("Sub", spectrogram.frames, lengths.frames), 0)
        starts = graph.op("Min", graph.op("Mul", numbers, lengths.stride), latest)
        half = graph.op("Div", graph.op("Min", last, float(lengths.frames - 1)), 2.0)
        middle = graph.op("Add", graph.op("Cast", starts, to=TensorProto.FLOAT), half)
    else:
        firsts = graph.op("Cast", graph.op("Mul", numbers, lengths.stride), to=TensorProto.FLOAT)
        middle = graph.op("Add", firsts, lengths.start + (lengths.receptive_field - 1) / 2)
    inside = graph.op("Min", graph.op("Max", middle, 0.0), last)
    return graph.op("Mul", inside, card.mel.hop_length / card.mel.sample_rate)


class _Outputs:
    """The outputs of a graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.described: list[onnx.ValueInfoProto] = []

    def add(self, name: str, value: str, shape: Iterable[int | str], kind: int = TensorProto.FLOAT) -> None:
        """Make a value an output."""
        self._graph.rename(value, name)
        self.described.append(helper.make_tensor_value_info(name, kind, list(shape)))

    def add_head(self, head: Card | Head, logits: str, prefix: str) -> None:
        """Add what a head has from its logits over time, shape (tags, time): tags, scores, evidence, decisions."""
        graph, n_tags, calibrated = self._graph, len(head.vocabulary), logits
        if head.calibration:
            slopes, offsets = (
                np.array(values, np.float32)[:, None] for values in (head.calibration.slopes, head.calibration.offsets)
            )
            calibrated = graph.op("Add", graph.op("Mul", logits, slopes), offsets)
        pooled = _mean(graph, calibrated)
        scores = graph.op("Sigmoid", pooled)
        evidence = _evidence(graph, head, pooled)
        self.add(f"{prefix}tags", graph.op("Identity", np.array(head.vocabulary, object)), [n_tags], TensorProto.STRING)
        self.add(f"{prefix}scores", scores, [n_tags])
        self.add(f"{prefix}evidence", evidence, [n_tags])
        self.add(f"{prefix}decided", _decided(graph, head, scores, evidence), [n_tags], TensorProto.BOOL)
        self.add(f"{prefix}scores_over_time", graph.op("Sigmoid", calibrated), [n_tags, "time"])
        self.add(f"{prefix}logits_over_time", logits, [n_tags, "time"])


def _evidence(graph: Graph, head: Card | Head, logits: str) -> str:
    """How far logits after the calibration are above what is usual, as `decisions.Rule.evidence` has it."""
    usual = head.usual if isinstance(head, Card) else None
    if usual is None:
        rule = decisions.Rule(
            np.array(head.thresholds, np.float32), None if head.priors is None else np.array(head.priors, np.float32)
        )
        return graph.op("Add", logits, rule.evidence(np.zeros(len(head.vocabulary))).astype(np.float32))
    logits = graph.op("Clip", logits, -decisions.MAX_LOGIT, decisions.MAX_LOGIT)
    slack = decisions.KIND_SLACK
    among = [_unusual(graph, logits, usual.mean, usual.std)]
    among += [graph.op("Add", _unusual(graph, logits, kind.mean, kind.std), slack) for kind in usual.kinds.values()]
    return graph.op("Where", usual.std > decisions.MIN_STD, graph.op("Min", *among), 0.0)


def _unusual(graph: Graph, logits: str, mean: np.ndarray, std: np.ndarray) -> str:
    deviations = np.maximum(std, decisions.MIN_STD).astype(np.float32)
    return graph.op("Div", graph.op("Sub", logits, mean.astype(np.float32)), deviations)


def _decided(graph: Graph, head: Card | Head, scores: str, evidence: str) -> str:
    """Which tags are decided, as `decisions.Rule.decide` has it."""
    above = graph.op("Greater", scores, np.array(head.thresholds, np.float32))
    if not isinstance(head, Card) or head.usual is None:
        return above
    n_tags = len(head.vocabulary)
    most = min(decisions.MAX_TAGS, n_tags)
    candidates = graph.op("Where", above, evidence, -np.inf)
    values, clearest = graph.ops("TopK", candidates, most, outputs=2)
    few = graph.op("ScatterElements", np.zeros(n_tags, bool), clearest, np.ones(most, bool))
    lowest = graph.op("Sub", graph.slice(values, 0, 1, axis=0), decisions.MARGIN)
    return graph.op("And", above, graph.op("And", few, graph.op("GreaterOrEqual", candidates, lowest)))


def _mean(graph: Graph, over_time: str) -> str:
    return graph.op("ReduceMean", over_time, 1, keepdims=0)


def _channels(network: onnx.ModelProto, name: str) -> int:
    [shape] = [output.type.tensor_type.shape for output in network.graph.output if output.name == name]
    return int(shape.dim[1].dim_value)
