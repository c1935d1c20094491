"""The data of a report as compact JSON, in which letters stand for small integers."""

import json
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from moodfield import errors
from moodfield.report import curves, ribbon, text
from moodfield.report.ribbon import Run
from moodfield.report.track import Reference, Track
from moodfield.tagging import MIN_USUAL

LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
"""a letter stands for an integer of 0 … 63"""
MAX_LETTER = len(LETTERS) - 1
MAX_SCORE = len(LETTERS) ** 2 - 1
"""the integer of the highest score, of two letters"""
MAX_LOGIT = 13.8
"""logits of scores are quantized from minus this to this, with a relative error of scores of at most 0.4%"""
CURVES = 6
"""tags with a curve over time"""

Json = list[object]


def encode_track(track: Track, reference: Reference) -> Json:
    """Duration, strongest tags, number of decided ones, scores, curves, ribbons of moods and themes, and waveform.

    Scores have two letters a tag, curves a letter a time step, tag after tag, the waveform a letter a bar. A ribbon is
    a list of pairs: tag, and 2 × number of time steps + whether the tag is above its threshold.
    """
    decided = track.decided
    tags = track.strongest[: max(CURVES, len(decided))]
    heights, levels = "", ""
    ribbons: list[list[int]] = [[], []]
    if track.over_time is not None:
        shown = tags[:CURVES]
        heights = _letters(curves.relative(np.nan_to_num(track.over_time[shown]), reference.thresholds[shown]).ravel())
        ribbons = [_encode_runs(runs) for runs in ribbon.ribbons(track.over_time, reference)]
    if track.levels is not None:
        levels = _letters(track.levels / max(float(track.levels.max()), 1e-12))
    return [round(track.duration, 2), tags, len(decided), encode_scores(track.scores), heights, *ribbons, levels]


def encode_tags(reference: Reference) -> list[Json]:
    """Name, whether it is a theme, hue, whether it is deep, threshold, and usual score of every tag.

    A threshold is null if the tag is never decided, a usual score if it is unknown.
    """
    usual = [None] * len(reference.vocabulary) if reference.usual is None else reference.usual.tolist()
    return [
        [
            errors.printable(name),
            int(name in reference.theme_vocabulary),
            text.hue(name),
            int(text.deep(name)),
            round(threshold, 5) if threshold < 1 else None,
            None if score is None else max(float(f"{np.nan_to_num(score):.4g}"), MIN_USUAL),
        ]
        for name, threshold, score in zip(reference.vocabulary, reference.thresholds.tolist(), usual, strict=True)
    ]


def encode_scores(scores: Float[np.ndarray, "tags"]) -> str:
    """Scores as two letters each; NaN counts as 0."""
    shares = np.clip(curves.logit(np.nan_to_num(scores)) / MAX_LOGIT, -1, 1) / 2 + 0.5
    high, low = np.divmod(np.rint(shares * MAX_SCORE).astype(int), len(LETTERS))
    return _join(np.stack([high, low], axis=1).ravel())


def script(values: object) -> str:
    """JSON for a script element of HTML: no text of it can end the element or begin a comment."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _encode_runs(runs: Sequence[Run]) -> list[int]:
    """Tag, and 2 × number of steps + whether it is above its threshold, for every run."""
    return [number for run in runs for number in (run.tag, 2 * run.steps + run.above)]


def _letters(shares: Float[np.ndarray, "..."]) -> str:
    """Values of 0 … 1 as a letter each."""
    return _join(np.rint(np.clip(np.nan_to_num(shares), 0, 1) * MAX_LETTER).astype(int))


def _join(numbers: Sequence[int] | np.ndarray) -> str:
    return np.frombuffer(LETTERS.encode(), np.uint8)[numbers].tobytes().decode()
