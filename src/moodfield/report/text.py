"""Names, numbers and tags as HTML text, and a colour for every tag."""

import html
import itertools
import math
import re
import zlib
from collections.abc import Sequence
from pathlib import PurePath
from types import MappingProxyType

from moodfield import errors

FAMILIES = MappingProxyType(
    {
        5: "love romantic sexy sensual passionate tender tenderness",
        35: "energetic action fast powerful power sport heavy groovy party aggressive angry exciting tense tension",
        62: "retro vintage nostalgic nostalgia cool ballad",
        82: "happy fun funny positive upbeat joyful joyful_activation cheerful children summer holiday christmas",
        128: "hopeful inspiring uplifting motivational amazement nature travel adventure game",
        168: "calm calmness relaxing soft slow meditative peaceful melodic",
        212: "dream dreamy space soundscape deep ambient background",
        258: "sad sadness melancholic emotional lonely drama",
        300: "dark mysterious scary horror trailer film movie documentary",
        335: "epic dramatic solemn solemnity triumphant advertising commercial corporate",
    }
)
"""hues in degrees (OKLCH) of families of tags, *chosen by us*; the hue of other tags is a checksum of the name"""
NO_TAG = "No tag is above its threshold."
ENDING = re.compile(r"(?<=.)\.\w{1,5}$")
DEEP = frozenset(tag for family in FAMILIES.values() for tag in family.split()[1::2])
"""tags in a darker shade, to distinguish them from others of their family"""
HUES = MappingProxyType({tag: hue for hue, family in FAMILIES.items() for tag in family.split()})


def names(sources: Sequence[str]) -> list[tuple[str, str]]:
    """File names without suffix, and the last two folders from the last common one on."""
    paths = [PurePath(source) for source in sources]
    levels = zip(*(path.parent.parts for path in paths), strict=False)
    shared = len(list(itertools.takewhile(lambda level: len(set(level)) == 1, levels)))
    return [
        (ENDING.sub("", path.name) or str(path), "/".join(path.parent.parts[max(shared - 1, 0) :][-2:]).lstrip("/"))
        for path in paths
    ]


def safe(words: str) -> str:
    """Escape text for HTML and replace control characters."""
    return html.escape(errors.printable(words))


def breakable(name: str) -> str:
    """Escape a name for HTML; a line may also end after an underscore."""
    return safe(name).replace("_", "_<wbr>")


def percent(value: float | int, whole: float | int) -> str:
    """A share as a CSS percentage, clipped to 0 … 100 %."""
    return f"{100 * min(max(value / whole, 0), 1):.4g}%"


def times(factor: float) -> str:
    """Format how many times as likely as usual a tag is, with two digits, as `4.1 ×`; `–` if it is unknown.

    Example:
        >>> times(0.123), times(0.996), times(4.06), times(9.96), times(1e9), times(float("nan"))
        ('0.12 ×', '1.0 ×', '4.1 ×', '10 ×', '>999 ×', '–')
    """
    if not math.isfinite(factor):
        return "–"
    if factor < 0.01 or factor > 999:
        return "<0.01 ×" if factor < 0.01 else ">999 ×"
    return f"{factor:.2f} ×" if factor < 0.995 else f"{factor:.1f} ×" if factor < 9.95 else f"{factor:.0f} ×"


def count(number: int, noun: str) -> str:
    """Format a number with its noun, in singular or plural."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def clock(seconds: float) -> str:
    """Format a time as `3:05` or `1:02:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def length(seconds: float) -> str:
    """Format a duration as `50 s`, `34 min` or `2 h 5 min`."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{round(seconds)} s"
    return f"{minutes // 60:,} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def hue(tag: str) -> int:
    """Hue of a tag, in degrees (OKLCH)."""
    return HUES.get(tag.casefold(), zlib.crc32(tag.encode("utf-8", "replace")) % 360)


def deep(tag: str) -> bool:
    """Whether a tag has the darker shade of its family."""
    return tag.casefold() in DEEP
