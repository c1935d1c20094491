"""Run a network on clips of mel: ONNX Runtime, or torch on request."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from moodfield.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from moodfield.nets import Net

INPUT, OUTPUT = "mels", "logits"
"""names of the input and the output of an exported network"""
FEATURES = "features"
"""name of the array between the two files of a network that summarises tracks"""
TYPE_AND_AXES = ("tensor(float)", 3)
"""type of these arrays, as ONNX Runtime calls it, and their number of axes"""

Precision = Literal["float32", "bfloat16"]
Mels = Float32[np.ndarray, "batch bands frames"]
Features = Float32[np.ndarray, "batch _channels _time"]
Logits = Float32[np.ndarray, "batch tags _time"]


@runtime_checkable
class Engine(Protocol):
    """Runs a network."""

    def forward_features(self, mels: Mels) -> Features:
        """Logits of clips at every step of time, or features of a network that summarises tracks."""

    def forward_head(self, features: Features) -> Logits:
        """Logits over time of whole tracks, from the outputs of all their clips; usually these themselves."""


class OnnxEngine:
    """A network in one ONNX file, or in two if it summarises tracks, run by ONNX Runtime on the CPU."""

    def __init__(self, path: str | Path, head: str | Path | None = None, *, threads: int = 0) -> None:
        """Open the files.

        Args:
            path: the network, or the part of it that runs on clips.
            head: the part that runs on the features of a whole track, if there is one.
            threads: number of threads; 0 is the number of cores.

        Raises:
            ModelError: a file is not such a network.
        """
        self._features = _Session(path, INPUT, FEATURES if head else OUTPUT, threads)
        self._head = _Session(head, FEATURES, OUTPUT, threads) if head else None

    def forward_features(self, mels: Mels) -> Features:
        """Outputs of clips at every step of time; raises `ModelError` for shapes that the network cannot take."""
        return self._features(mels)

    def forward_head(self, features: Features) -> Logits:
        """Logits over time of whole tracks, from the outputs of all their clips."""
        return self._head(features) if self._head else features


class _Session:
    """One ONNX file with one input and one output."""

    def __init__(self, path: str | Path, input_name: str, output_name: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()  # no output, no second try: errors are raised
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._path, self._input, self._output = path, input_name, output_name
        with _model_errors(f"{path} is not a network that ONNX Runtime can run"):
            providers = ["CPUExecutionProvider"]
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers, enable_fallback=0)
            arrays = (*self._session.get_inputs(), *self._session.get_outputs())
            described = [(array.name, array.type, len(array.shape)) for array in arrays]
        expected = [(name, *TYPE_AND_AXES) for name in (input_name, output_name)]
        if described != expected:
            raise ModelError(f"{path} has inputs and outputs {described}, expected {expected}; export it again")

    def __call__(self, array: Features) -> Features:
        with _model_errors(f"{self._path} cannot take {self._input} of shape {array.shape}"):
            output: Features = self._session.run([self._output], {self._input: np.ascontiguousarray(array)})[0]
            return output


@contextmanager
def _model_errors(problem: str) -> Iterator[None]:
    """Turn the errors of ONNX Runtime, which are of many types, into `ModelError`, but not those of signal handlers."""
    try:
        yield
    except Exception as error:
        kinds = (RuntimeError, ValueError, TypeError, LookupError, MemoryError)
        if type(error).__module__.startswith("onnxruntime") or isinstance(error, kinds):
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
        """Outputs of clips at every step of time."""
        return self._run(self._net.forward_features, mels)

    def forward_head(self, features: Features) -> Logits:
        """Logits over time of whole tracks, from the outputs of all their clips."""
        return self._run(self._net.forward_head, features)

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
