"""Named choices of this package, for commands that offer them without importing NumPy."""

from typing import Literal

Average = Literal["scores", "logits", "ranks"]
"""what an ensemble averages: scores as they are (the paper, §3.4), their logits, or their ranks within a tag"""
Criterion = Literal["f", "official"]
"""what thresholds are tuned for: the best F of strict decisions, or the rule of the task's script"""
Fill = Literal["mean", "zeros"]
"""what replaces the scores of an unreadable track: the mean of all others, tag by tag, or zeros"""
