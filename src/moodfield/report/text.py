"""Names, numbers and tags become what a page says of them, and families of tags get colours.

In: paths, numbers, tags. Out: text that is safe in HTML, and hues.
Knows nothing of: what is on the page.
"""

import html
import itertools
import re
import zlib
from collections.abc import Sequence
from pathlib import PurePath
from types import MappingProxyType

from moodfield import errors
from moodfield.tagging import Tagging

FEW = 3
"""decided tags in the list of all tracks, per track"""
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
"""hue in degrees (OKLCH) of each family of tags; a tag without a family gets one from its letters; *chosen by us*"""
NOTHING = "No tag is above its threshold."
ENDING = re.compile(r"(?<=.)\.\w{1,5}$")
DEEP = frozenset(tag for family in FAMILIES.values() for tag in family.split()[1::2])
"""tags that are drawn a shade deeper beside others of their family"""
HUES = MappingProxyType({tag: hue for hue, family in FAMILIES.items() for tag in family.split()})


def names(sources: Sequence[str]) -> list[tuple[str, str]]:
    """File names without their endings, and their folders from the one that they share."""
    paths = [PurePath(source) for source in sources]
    levels = zip(*(path.parent.parts for path in paths), strict=False)
    shared = len(list(itertools.takewhile(lambda level: len(set(level)) == 1, levels)))
    return [
        (ENDING.sub("", path.name) or str(path), "/".join(path.parent.parts[max(shared - 1, 0) :][-2:]).lstrip("/"))
        for path in paths
    ]


def safe(words: str) -> str:
    """Text for HTML, whatever the file system put into it."""
    return html.escape(errors.printable(words))


def percent(value: float | int, whole: float | int) -> str:
    """A share of a whole, for a style, in 0 … 100 %."""
    return f"{100 * min(max(value / whole, 0), 1):.4g}%"


def short(score: float) -> str:
    """A score in as many digits as tell something."""
    return f"{score:.2f}" if score >= 0.1 else f"{score:.3f}"


def count(number: int, noun: str) -> str:
    """So many of them."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def clock(seconds: float) -> str:
    """As players show it: `3:05`, `1:02:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def length(seconds: float) -> str:
    """How long music lasts, in words."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{round(seconds)} s"
    return f"{minutes // 60:,} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def hue(tag: str) -> int:
    """Degrees (OKLCH) of a tag's family; a tag without one gets them from its letters."""
    return HUES.get(tag.casefold(), zlib.crc32(tag.encode("utf-8", "replace")) % 360)


def deep(tag: str) -> bool:
    """Whether a tag is drawn a shade deeper than its neighbours in the family."""
    return tag.casefold() in DEEP


def kind(each: Tagging, name: str) -> str:
    """The classes of a tag's name: themes look different."""
    return "tag theme" if name in each.theme_vocabulary else "tag"


def few(each: Tagging) -> str:
    """The first decided tags in their colours."""
    return ", ".join(
        f'<span class="{kind(each, tag)}" style="--h:{hue(tag)}">{safe(tag)}</span>' for tag in each.decided[:FEW]
    )
