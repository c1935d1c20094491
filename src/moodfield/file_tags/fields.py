"""Fields of file tags for moods, themes and scores, in every format, and the presets of players."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SEPARATOR = "; "
"""between several values in one text"""
SPLIT = re.compile(r"\s*;\s*")
BRACKET = re.compile(r"\s*\[MOOD: ([^\]]*)\]")
"""moods within a comment, as rekordbox users have them"""


@dataclass(frozen=True)
class Field:
    """A field, with its name in every format."""

    name: str
    """name in plans, in Vorbis comments, in APEv2, and as description of a TXXX frame"""
    frame: str
    """frame of ID3v2.4; TXXX if there is none of its own"""
    mp4: str
    """atom of MP4"""
    asf: str
    """attribute of ASF (WMA)"""
    in_brackets: bool = False
    """whether values stand in brackets within other text"""


ITUNES = "----:com.apple.iTunes:"
MOOD = Field("MOOD", "TMOO", f"{ITUNES}MOOD", "WM/Mood")
THEME = Field("THEME", "TXXX", f"{ITUNES}THEME", "WM/Theme")
SCORES = Field("MOODFIELD_SCORES", "TXXX", f"{ITUNES}MOODFIELD_SCORES", "MOODFIELD/Scores")
COMMENT = Field("COMMENT", "COMM", "\xa9cmt", "Description", in_brackets=True)
FIELDS = {field.name: field for field in (MOOD, THEME, SCORES, COMMENT)}
"""all fields by name"""


@dataclass(frozen=True)
class Preset:
    """What a player reads."""

    moods: Field = MOOD
    """field of moods"""
    themes: Field | None = THEME
    """field of themes; None: themes are not written"""
    is_joined: bool = False
    """whether several values are one text, since the player reads only the first one"""


STANDARD = Preset()
PRESETS = {
    "navidrome": STANDARD,
    "plex": Preset(themes=None),
    "kodi": Preset(themes=None, is_joined=True),
    "rekordbox": Preset(COMMENT, themes=None),
    "picard": STANDARD,
}
"""presets by the name of the player"""


def values(field: Field, texts: Iterable[str]) -> tuple[str, ...]:
    """The single values in the texts of a field.

    >>> values(MOOD, ["calm; dark", "slow"])
    ('calm', 'dark', 'slow')
    >>> values(COMMENT, ["bought in 1999 [MOOD: calm; dark]"])
    ('calm', 'dark')
    """
    lists = [match for text in texts for match in BRACKET.findall(text)] if field.in_brackets else texts
    return unique(part for text in lists for part in SPLIT.split(text))


def texts(field: Field, before: Sequence[str], values: Sequence[str], *, is_joined: bool = False) -> tuple[str, ...]:
    """The texts of a field with these values in place of earlier ones.

    >>> texts(MOOD, ["happy"], ["calm", "dark"])
    ('calm', 'dark')
    >>> texts(COMMENT, ["bought in 1999 [MOOD: calm]"], ["dark"])
    ('bought in 1999 [MOOD: dark]',)
    """
    joined = SEPARATOR.join(values)
    if not field.in_brackets:
        return tuple(values) if not (is_joined and values) else (joined,)
    bracket = f"[MOOD: {joined}]" if values else ""
    place = next((number for number, text in enumerate(before) if BRACKET.search(text)), 0)
    changed = [BRACKET.sub("", text) if BRACKET.search(text) else text for text in before] or [""]
    changed[place] = f"{changed[place]} {bracket}".strip() if bracket else changed[place]
    return tuple(text for text in changed if text)


def unique(words: Iterable[str]) -> tuple[str, ...]:
    """Words without empty ones, each once whatever its case."""
    first: dict[str, str] = {}
    for word in words:
        if word:
            first.setdefault(word.casefold(), word)
    return tuple(first.values())
