"""Ranges of years and durations as text, by which tracks are chosen."""

import re

from moodfield.errors import UsageError
from moodfield.library.tracks import Range

CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d\d)|(\d+)")
"""a duration: minutes:seconds, hours:minutes:seconds, or seconds"""


def parse_years(text: str, *, option: str = "year") -> Range:
    """The smallest and largest year; raises `UsageError` with the name of the option.

    >>> parse_years("1990-1999"), parse_years("2000-"), parse_years("")
    ((1990, 1999), (2000, None), (None, None))
    """
    match = re.fullmatch(r"([0-9]{4})?(-)?([0-9]{4})?", text)
    if not match or text == "-":
        raise UsageError(f"{option} {text}: expected 1994, 1990-1999, 2000- or -1960")
    low, dash, high = match.groups()
    return int(low) if low else None, int(high) if high else int(low) if low and not dash else None


def parse_durations(text: str, *, option: str = "duration") -> Range:
    """The smallest and largest duration in seconds; raises `UsageError` with the name of the option.

    >>> parse_durations("2:30-6:00"), parse_durations("-90")
    ((150.0, 360.0), (None, 90.0))
    """
    if not text:
        return None, None
    low, dash, high = text.partition("-")
    if not dash or not (low or high):
        raise UsageError(f"{option} {text}: expected a range such as 2:30-6:00, 10:00- or -90")
    return (_seconds(low, text, option) if low else None), (_seconds(high, text, option) if high else None)


def _seconds(clock: str, text: str, option: str) -> float:
    match = CLOCK.fullmatch(clock)
    if not match:
        raise UsageError(f"{option} {text}: {clock} is no duration; expected minutes:seconds, or whole seconds")
    hours, minutes, seconds, plain = match.groups()
    return float(plain) if plain else 3600.0 * int(hours or 0) + 60 * int(minutes) + int(seconds)
