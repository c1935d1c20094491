"""Moods written into audio files: planned, verified, atomic, and undone exactly."""
