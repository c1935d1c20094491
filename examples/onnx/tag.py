"""Tag a track with onnxruntime and NumPy alone.

moodfield export-onnx -o moodfield.onnx
ffmpeg -i song.mp3 -ac 1 -ar 16000 -f f32le song.f32
python tag.py song.f32
"""

import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("moodfield.onnx")
waveform = np.fromfile(sys.argv[1], np.float32)
tags, scores, decided = session.run(["tags", "scores", "decided"], {"waveform": waveform})
for tag, score in zip(tags[decided], scores[decided], strict=True):
    print(f"{tag} {score:.3f}")
