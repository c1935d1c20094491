"""Export of a model as one ONNX file that takes waveforms."""
