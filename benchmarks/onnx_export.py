"""Measure speed and memory of an exported model against the tagger, both given the same samples, on one core.

    python benchmarks/onnx_export.py [MODEL]

Every length runs in new processes, once with each; times are those of the processor. Prints a Markdown table.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from moodfield.onnx_export import export

LENGTHS = {"30 s": 30, "4 min": 240, "10 min": 600, "1 h": 3_600}
SAMPLES = """
import json, sys, time
import numpy as np
seconds, rate = int(sys.argv[2]), int(sys.argv[3])
noise = np.random.default_rng(0).standard_normal(seconds * rate, np.float32)
noise *= 0.1
"""
LOAD = {
    "tagger": """
import moodfield
tagger = moodfield.load(sys.argv[1], threads=1)
run = lambda samples: tagger.tag((samples, rate)).scores
""",
    "exported": """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
run = lambda samples: session.run(["scores"], {"waveform": samples})[0]
""",
}
MEASURE = """
run(noise[: 5 * rate])
peak = lambda: next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
before, start = peak(), time.process_time()
scores = run(noise)
print(json.dumps({"seconds": time.process_time() - start, "peak": peak() - before, "scores": scores.tolist()}))
"""


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else "default"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exported.onnx"
        rate = export.export(model, path).mel.sample_rate
        print(f"## The model {model} as one ONNX file of {path.stat().st_size / 1e6:.1f} MB, and the tagger\n")
        print("Seconds of one core for samples in memory; MB of memory beside them and the loaded model.\n")
        print(
            "| length | tagger s | exported s | × real time | tagger MB | exported MB | largest difference of a score |"
        )
        print("|---|---|---|---|---|---|---|")
        for name, seconds in LENGTHS.items():
            tagger, exported = (
                _measure(kind, source, seconds, rate) for kind, source in (("tagger", model), ("exported", path))
            )
            difference = max(abs(one - other) for one, other in zip(tagger["scores"], exported["scores"], strict=True))
            print(
                f"| {name} | {tagger['seconds']:.2f} | {exported['seconds']:.2f} | {seconds / exported['seconds']:.0f} "
                f"| {tagger['peak']:.0f} | {exported['peak']:.0f} | {difference:.1e} |"
            )


def _measure(kind: str, source: str | Path, seconds: int, rate: int) -> dict:
    script = SAMPLES + LOAD[kind] + MEASURE
    command = [sys.executable, "-W", "ignore", "-c", script, str(source), str(seconds), str(rate)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
