"""The mel spectrogram as part of an ONNX graph, for any frames of a waveform; equals `moodfield.mel`."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from moodfield import mel
from moodfield.mel import MelConfig
from moodfield.onnx_export.graph import Graph, Value

GROUP_FRAMES = 2_048
"""frames of which the loudest cell is found at once"""


@dataclass(frozen=True)
class MelGraph:
    """Names of values from which the mel of any frames of a waveform is computed, in a graph or in loops of it."""

    config: MelConfig
    """settings of the mel"""
    waveform: str
    """mono samples at the sample rate of the mel, shape (samples,)"""
    samples: str
    """number of samples"""
    frames: str
    """number of frames"""
    kernels: str
    """kernels of the Fourier transform, shape (2 × freq, 1, n_fft)"""
    floor: Value = mel.MIN_POWER
    """power below which values are clamped"""

    @staticmethod
    def add(graph: Graph, config: MelConfig, waveform: str) -> "MelGraph":
        """Add what all frames share: the kernels and, for perceptual mels, the loudest cell of the track."""
        samples = graph.op("Shape", waveform)
        if config.kind == "plain":
            padded = graph.op("Add", samples, config.n_fft // 2 + config.hop_length - 1)
            frames = graph.op("Div", padded, config.hop_length)
        else:
            frames = graph.op("Add", graph.op("Div", samples, config.hop_length), 1)
        whole = MelGraph(config, waveform, samples, frames, _kernels(graph, config))
        return whole if config.kind == "plain" else whole._with_floor(graph)

    def mel(self, graph: Graph, start: str, end: str) -> str:
        """Add the mel of frames `start` … `end`, shape (1, bands, frames)."""
        power, bank = self._power(graph, start, end), mel.filterbank(self.config)
        if self.config.kind == "plain":
            return self._decibels(graph, graph.op("MatMul", bank, power))
        weight = (bank.astype(np.float64) @ mel.a_weighting(self.config)).astype(np.float32)
        return graph.op("Add", graph.op("MatMul", bank, self._decibels(graph, power)), weight[:, None])

    def _power(self, graph: Graph, start: str, end: str) -> str:
        """The power spectra of frames, shape (1, freq, frames); the track is reflected or has zeros at its ends."""
        half, hop = self.config.n_fft // 2, self.config.hop_length
        first = graph.op("Sub", graph.op("Mul", start, hop), half)
        last = graph.op("Add", graph.op("Mul", graph.op("Sub", end, 1), hop), half)
        inside = (
            self._reflected(graph, first, last)
            if self.config.kind == "perceptual"
            else self._padded(graph, first, last)
        )
        spectrum = graph.op("Conv", graph.op("Unsqueeze", inside, [0, 1]), self.kernels, strides=[hop])
        real, imaginary = graph.ops("Split", graph.op("Mul", spectrum, spectrum), outputs=2, axis=1, num_outputs=2)
        return graph.op("Add", real, imaginary)

    def _padded(self, graph: Graph, first: str, last: str) -> str:
        """Samples from `first` to `last`; zeros before and after the track."""
        before = graph.op("Max", graph.op("Neg", first), 0)
        after = graph.op("Max", graph.op("Sub", last, self.samples), 0)
        inside = graph.slice(self.waveform, graph.op("Max", first, 0), graph.op("Min", last, self.samples), axis=0)
        return graph.op("Pad", inside, graph.op("Concat", before, after, axis=0))

    def _reflected(self, graph: Graph, first: str, last: str) -> str:
        """Samples from `first` to `last`; the track is reflected at its ends."""
        one = np.ones((), np.int64)
        numbers = graph.op("Range", graph.op("Squeeze", first), graph.op("Squeeze", last), one)
        highest = graph.op("Sub", self.samples, 1)
        beyond = graph.op("Abs", graph.op("Sub", graph.op("Abs", numbers), highest))
        return graph.op("Gather", self.waveform, graph.op("Sub", highest, beyond))

    def _decibels(self, graph: Graph, power: str) -> str:
        return graph.op("Mul", graph.op("Log", graph.op("Max", power, self.floor)), 10 / float(np.log(10)))

    def _with_floor(self, graph: Graph) -> "MelGraph":
        """The same with a floor that is `top_db` below the loudest cell of the track."""
        body = Graph(graph)
        start = body.op("Mul", "group", GROUP_FRAMES)
        end = body.op("Min", body.op("Add", start, GROUP_FRAMES), self.frames)
        loudest = body.op("Max", "loudest", body.op("ReduceMax", self._power(body, start, end), keepdims=0))
        groups = graph.op("Div", graph.op("Add", self.frames, GROUP_FRAMES - 1), GROUP_FRAMES)
        [largest] = graph.loop(groups, [0.0], body, [loudest], ["group", "loudest"])
        relative = graph.op("Mul", largest, float(10 ** (-self.config.top_db / 10)))
        floor = graph.op("Max", relative, mel.MIN_POWER)
        return MelGraph(self.config, self.waveform, self.samples, self.frames, self.kernels, floor)


def _kernels(graph: Graph, config: MelConfig) -> str:
    """Cosines and sines of every frequency under the window, computed when the file is opened: the file stays small."""
    size = config.n_fft
    numbers = np.arange(size)
    turns = graph.op("Mod", graph.op("Mul", np.arange(size // 2 + 1)[:, None], numbers), size)
    window: Float32[np.ndarray, "samples"] = mel.hann(config)
    parts = [
        graph.op("Mul", graph.op("Gather", wave(2 * np.pi * numbers / size).astype(np.float32), turns), window)
        for wave in (np.cos, np.sin)
    ]
    return graph.op("Unsqueeze", graph.op("Concat", *parts, axis=0), 1)
