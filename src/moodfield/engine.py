"""Clips become logits: ONNX Runtime here, torch if asked.

In: a model's network and clips of mel. Out: logits over time.
Knows nothing of: tags, thresholds, or how clips were cut.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from moodfield.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from moodfield.nets import Net

INPUT, OUTPUT = "mels", "logits"
"""names of what the exported network takes and gives"""
FEATURES = "features"
"""what it gives, and its second part takes, if it judges whole tracks"""
NUMBERS = ("tensor(float)", 3)
"""type and number of axes of all of them, as ONNX Runtime calls them"""

Precision = Literal["float32", "bfloat16"]
Mels = Float32[np.ndarray, "batch bands frames"]
Features = Float32[np.ndarray, "batch _channels _time"]
Logits = Float32[np.ndarray, "batch tags _time"]


@runtime_checkable
class Engine(Protocol):
    """Whatever runs a network."""

    def forward_features(self, mels: Mels) -> Features:
        """What every clip gives at every step of time: logits, or features of a network that judges whole tracks."""

    def forward_head(self, heard: Features) -> Logits:
        """Logits over time of whole tracks, from what all their clips gave: mostly the very same."""


class OnnxEngine:
    """A network in one ONNX file, or in two if it judges whole tracks, run by ONNX Runtime on the CPU."""

    def __init__(self, path: str | Path, summary: str | Path | None = None, *, threads: int = 0) -> None:
        """Open the files; `threads` 0 means as many as there are cores. Refuses a file that is no such network."""
        self._first = _Session(path, INPUT, FEATURES if summary else OUTPUT, threads)
        self._second = _Session(summary, FEATURES, OUTPUT, threads) if summary else None

    def forward_features(self, mels: Mels) -> Features:
        """What every clip gives at every step of time; refuses what the network cannot take."""
        return self._first(mels)

    def forward_head(self, heard: Features) -> Logits:
        """Logits over time of whole tracks, from what all their clips gave."""
        return self._second(heard) if self._second else heard


class _Session:
    """One ONNX file that makes one array of another."""

    def __init__(self, path: str | Path, takes: str, gives: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()  # silent, and without a second try: what goes wrong is raised
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._path, self._takes, self._gives = path, takes, gives
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
            came = [(each.name, each.type, len(each.shape)) for each in self._session.get_inputs()]
            left = [(each.name, each.type, len(each.shape)) for each in self._session.get_outputs()]
        except Exception as error:  # ONNX Runtime raises what its C++ raises; all of it means the same
            if not _is_its_own(error):
                raise
            raise ModelError(f"{path} is not a network that ONNX Runtime can run: {error}") from error
        if came != [(takes, *NUMBERS)] or left != [(gives, *NUMBERS)]:
            wanted = f"{takes!r} and {gives!r}, both {NUMBERS[0]} with {NUMBERS[1]} axes"
            raise ModelError(f"{path} takes {came} and gives {left}; wanted are {wanted}: export it with moodfield")

    def __call__(self, array: Features) -> Features:
        try:
            answer: Features = self._session.run([self._gives], {self._takes: np.ascontiguousarray(array)})[0]
        except Exception as error:  # as above
            if not _is_its_own(error):
                raise
            raise ModelError(f"{self._path} cannot take {self._takes} of shape {array.shape}: {error}") from error
        return answer


def _is_its_own(error: Exception) -> bool:
    """Whether ONNX Runtime raised an error; a handler of signals may have raised another one meanwhile."""
    kinds = (RuntimeError, ValueError, TypeError, LookupError, MemoryError)
    return type(error).__module__.startswith("onnxruntime") or isinstance(error, kinds)


class TorchEngine:
    """A network in torch, in evaluation mode while it answers."""

    def __init__(self, net: "Net", *, precision: Precision = "float32") -> None:
        """Take the network as it is, or for bfloat16 a faster copy of what it is now.

        The copy has its batch norms folded into the convolutions, and computes in bfloat16: on processors that know it
        about three times as fast as the network itself, and two or three digits less precise.
        """
        self._net = net if precision == "float32" else _quick(net)
        self._precision = precision

    def forward_features(self, mels: Mels) -> Features:
        """What every clip gives at every step of time."""
        return self._run(self._net.forward_features, mels)

    def forward_head(self, heard: Features) -> Logits:
        """Logits over time of whole tracks, from what all their clips gave."""
        return self._run(self._net.forward_head, heard)

    def _run(self, part: "Callable[[Tensor], Tensor]", array: Features) -> Features:
        import torch

        training = self._net.training
        device = next(self._net.parameters()).device
        quick = torch.autocast(device.type, torch.bfloat16, enabled=self._precision == "bfloat16")
        self._net.eval()
        try:
            with torch.inference_mode(), quick:
                found = part(torch.from_numpy(np.ascontiguousarray(array)).to(device))
        finally:
            self._net.train(training)
        answer: Features = found.float().cpu().numpy()
        return answer


def _quick(net: "Net") -> "Net":
    """A copy with less to do, laid out as processors like it."""
    import torch

    from moodfield.nets import blocks

    copy: Net = blocks.fold_batch_norms(net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return copy
