"""Clips become logits: ONNX Runtime here, torch if asked.

In: a model's network and clips of mel. Out: logits over time.
Knows nothing of: tags, thresholds, or how clips were cut.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from moodfield.errors import BadModel

if TYPE_CHECKING:
    from moodfield.nets import Net

INPUT, OUTPUT = "mels", "logits"
"""names of what the exported network takes and gives"""
NUMBERS = ("tensor(float)", 3)
"""type and number of axes of both, as ONNX Runtime calls them"""

Mels = Float32[np.ndarray, "batch bands frames"]
Logits = Float32[np.ndarray, "batch tags time"]


@runtime_checkable
class Engine(Protocol):
    """Whatever runs a network."""

    def over_time(self, mels: Mels) -> Logits:
        """Logits of every clip at every step of time."""


class OnnxEngine:
    """A network in one ONNX file, run by ONNX Runtime on the CPU."""

    def __init__(self, path: str | Path, *, threads: int = 0) -> None:
        """Open the file; `threads` 0 means as many as there are cores. Refuses a file that is no such network."""
        import onnxruntime

        options = onnxruntime.SessionOptions()  # silent, and without a second try: what goes wrong is raised
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._path = path
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
            wants = [(each.name, each.type, len(each.shape)) for each in self._session.get_inputs()]
            gives = [(each.name, each.type, len(each.shape)) for each in self._session.get_outputs()]
        except Exception as error:  # ONNX Runtime raises what its C++ raises; all of it means the same
            raise BadModel(f"{path} is not a network that ONNX Runtime can run: {error}") from error
        if wants != [(INPUT, *NUMBERS)] or gives != [(OUTPUT, *NUMBERS)]:
            wanted = f"{INPUT!r} and {OUTPUT!r}, both {NUMBERS[0]} with {NUMBERS[1]} axes"
            raise BadModel(f"{path} takes {wants} and gives {gives}; wanted are {wanted}: export it with moodfield")

    def over_time(self, mels: Mels) -> Logits:
        """Logits of every clip at every step of time; refuses what the network cannot take."""
        try:
            logits: Logits = self._session.run([OUTPUT], {INPUT: np.ascontiguousarray(mels)})[0]
        except Exception as error:  # as above
            raise BadModel(f"{self._path} cannot take clips of shape {mels.shape}: {error}") from error
        return logits


class TorchEngine:
    """A network in torch, in evaluation mode while it answers."""

    def __init__(self, net: "Net") -> None:
        self._net = net

    def over_time(self, mels: Mels) -> Logits:
        """Logits of every clip at every step of time."""
        import torch

        training = self._net.training
        device = next(self._net.parameters()).device
        self._net.eval()
        try:
            with torch.inference_mode():
                logits = self._net.over_time(torch.from_numpy(np.ascontiguousarray(mels)).to(device))
        finally:
            self._net.train(training)
        answer: Logits = logits.float().cpu().numpy()
        return answer
