"""Run a network on clips of mel: ONNX Runtime, or torch on request."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from moodfield import parallel
from moodfield.card import EMBEDDING, LOGITS
from moodfield.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from moodfield.nets import Net

INPUT = "mels"
"""name of the input of an exported network; its outputs are `LOGITS`, `EMBEDDING` if it has one, and further heads"""
FEATURES = "features"
"""name of the array between the two files of a network that summarises tracks"""
TYPE_AND_AXES = ("tensor(float)", 3)
"""type of these arrays, as ONNX Runtime calls it, and their number of axes"""

Precision = Literal["float32", "bfloat16"]
Device = Literal["cpu", "cuda"]
PROVIDERS: Mapping[Device, str] = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
"""devices → their names in ONNX Runtime"""
LACK_OF_MEMORY = re.compile(r"bad[_ ]alloc|failed to allocate|out of memory|ALLOC_FAILED", re.IGNORECASE)
"""in messages of ONNX Runtime, whose errors have no type for this: of the CPU, its arenas, CUDA and cuDNN"""
Mels = Float32[np.ndarray, "batch bands frames"]
Features = Float32[np.ndarray, "batch _channels _time"]
Logits = Float32[np.ndarray, "batch tags _time"]


class Output(NamedTuple):
    """Outputs of a network over time."""

    logits: Logits
    """logits of every tag"""
    embedding: Features | None
    """the last feature map, mean over frequency; None if the network has no embedding"""
    heads: Mapping[str, Features] = MappingProxyType({})
    """logits of the tags of further heads, by name"""


@runtime_checkable
class Engine(Protocol):
    """Runs a network."""

    def forward_features(self, mels: Mels) -> Features:
        """Features of clips at every step of time, of which `forward_head` makes the outputs."""

    def forward_head(self, features: Features) -> Output:
        """Outputs over time of whole tracks, from the features of all their clips, concatenated over time."""


class OnnxEngine:
    """A network in one ONNX file, or in two if it summarises tracks, run by ONNX Runtime on the CPU or a GPU."""

    def __init__(
        self, path: str | Path, head: str | Path | None = None, *, threads: int = 0, device: Device = "cpu"
    ) -> None:
        """Open the files.

        Args:
            path: the network, or the part of it that runs on clips.
            head: the part that runs on the features of a whole track, if there is one.
            threads: number of threads; 0 is the number of cores that this process may use.
            device: where to run; `cuda` needs the package onnxruntime-gpu.

        Raises:
            ModelError: a file is not such a network, or there is no such device.
            MemoryError: there is too little memory for it.
        """
        self._clips = _Session(path, INPUT, FEATURES if head else LOGITS, threads, device)
        self._head = _Session(head, FEATURES, LOGITS, threads, device) if head else None

    def forward_features(self, mels: Mels) -> Features:
        """Features of clips at every step of time.

        Those of a network in one file are its logits, followed by its other outputs. Raises `ModelError` for shapes
        that the network cannot take, and `MemoryError` if there is too little memory.
        """
        return np.concatenate(self._clips(mels), axis=1)

    def forward_head(self, features: Features) -> Output:
        """Outputs over time of whole tracks, from the features of all their clips."""
        if self._head:
            return Output(self._head(features)[0], None)
        channels = self._clips.channels
        parts = np.split(features, np.cumsum(list(channels.values()))[:-1], axis=1)
        outputs = dict(zip(channels, parts, strict=True))
        return Output(outputs.pop(LOGITS), outputs.pop(EMBEDDING, None), outputs)


def devices() -> list[Device]:
    """The devices on which ONNX Runtime can run networks on this machine, the fastest first."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    return [device for device, provider in PROVIDERS.items() if provider in available]


class _Session:
    """One ONNX file with one input and one output, or more."""

    channels: dict[str, int]
    """channels of the outputs, by name"""

    def __init__(self, path: str | Path, input_name: str, output_name: str, threads: int, device: Device) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()  # no output, no second try: errors are raised
        # ONNX Runtime counts all cores of the machine: further threads would only wait, which costs time on these
        is_restricted = parallel.cpu_count() < (os.cpu_count() or 1)
        options.intra_op_num_threads = threads or (parallel.cpu_count() if is_restricted else 0)
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._path, self._input = path, input_name
        with _model_errors(f"{path} is not a network that ONNX Runtime can run"):
            if device not in devices():
                raise ModelError("ONNX Runtime has no GPU on this machine; install onnxruntime-gpu, or use the CPU")
            providers = [PROVIDERS[device]]
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers, enable_fallback=0)
            inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
            described = [(array.name, array.type, len(array.shape)) for array in (*inputs, *outputs)]
        expected = [(name, *TYPE_AND_AXES) for name in (input_name, output_name)]
        if len(inputs) != 1 or described[:2] != expected or {item[1:] for item in described} != {TYPE_AND_AXES}:
            raise ModelError(f"{path} has inputs and outputs {described}, expected {expected}; export it again")
        self.channels = {array.name: array.shape[1] for array in outputs}

    def __call__(self, array: Features) -> list[Features]:
        with _model_errors(f"{self._path} cannot take {self._input} of shape {array.shape}"):
            outputs: list[Features] = self._session.run(None, {self._input: np.ascontiguousarray(array)})
            return outputs


@contextmanager
def _model_errors(problem: str) -> Iterator[None]:
    """Turn the errors of ONNX Runtime, which are of many types, into `ModelError`, but not those of signal handlers.

    A lack of memory is a `MemoryError`: it is no fault of the model, and other files may need less.
    """
    try:
        yield
    except Exception as error:
        kinds = (RuntimeError, ValueError, TypeError, LookupError)
        is_of_runtime = type(error).__module__.startswith("onnxruntime") or isinstance(error, kinds)
        if is_of_runtime and LACK_OF_MEMORY.search(str(error)):
            raise MemoryError("there is too little memory to run the network") from error
        if is_of_runtime:
            raise ModelError(f"{problem}: {error}") from error
        raise


class TorchEngine:
    """A network in torch, in evaluation mode during each call."""

    def __init__(self, net: "Net", *, precision: Precision = "float32") -> None:
        """Use the network itself, or for bfloat16 a copy of its present state.

        The copy has its batch norms folded into the convolutions: on processors with bfloat16 about three times as fast
        as the network itself, and two or three digits less precise.
        """
        self._net = net if precision == "float32" else _optimize(net)
        self._precision = precision

    def forward_features(self, mels: Mels) -> Features:
        """Features of clips at every step of time."""
        return self._run(self._net.forward_features, mels)

    def forward_head(self, features: Features) -> Output:
        """Outputs over time of whole tracks, from the features of all their clips."""
        return Output(self._run(self._net.forward_head, features), features if self._net.embedding_size else None)

    def _run(self, method: Callable[["Tensor"], "Tensor"], array: Features) -> Features:
        import torch

        training = self._net.training
        device = next(self._net.parameters()).device
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=self._precision == "bfloat16")
        self._net.eval()
        try:
            with torch.inference_mode(), autocast:
                output = method(torch.from_numpy(np.ascontiguousarray(array)).to(device))
        finally:
            self._net.train(training)
        return output.float().cpu().numpy()


def _optimize(net: "Net") -> "Net":
    """A copy with folded batch norms in the memory layout that is fastest on CPUs."""
    import torch

    from moodfield.nets import blocks

    return blocks.fold_batch_norms(net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
