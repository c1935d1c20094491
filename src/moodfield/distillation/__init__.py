"""Distillation: a small network learns from the outputs of a larger one."""
