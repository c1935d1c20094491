"""moodfield hears what a piece of music feels like."""

__version__ = "0.1.0"
