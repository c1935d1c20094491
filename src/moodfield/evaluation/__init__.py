"""Evaluation: metrics, thresholds, calibration, bootstrap, ensembles, submissions."""
