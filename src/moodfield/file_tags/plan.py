"""The plan of what is written into a file: for each field its texts before and after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from moodfield.errors import UsageError
from moodfield.file_tags import fields
from moodfield.file_tags.fields import COMMENT, SCORES, THEME, Field, Preset


class Mode(StrEnum):
    """What happens to values that a file has."""

    KEEP = "keep"
    """they are kept, and the field is not written"""
    OVERWRITE = "overwrite"
    """they are replaced"""
    MERGE = "merge"
    """they are kept, and new values are added"""
    REMOVE = "remove"
    """those of the vocabulary are removed"""


@dataclass(frozen=True)
class WriteConfig:
    """How moods and themes become values of fields."""

    preset: Preset = fields.STANDARD
    """what the player reads"""
    mode: Mode = Mode.KEEP
    """what happens to values that a file has"""
    include: frozenset[str] = frozenset()
    """the only tags that are written; empty: all"""
    exclude: frozenset[str] = frozenset()
    """tags that are not written"""
    rename: Mapping[str, str] | None = None
    """names of tags in files, if they are others"""
    moods_only: bool = False
    """whether themes are not written, whatever the preset"""
    vocabulary: frozenset[str] = frozenset()
    """words that `REMOVE` removes, and renamed ones"""


@dataclass(frozen=True)
class TrackTags:
    """What a library has decided about a track."""

    moods: tuple[str, ...] = ()
    """decided moods, the clearest first"""
    themes: tuple[str, ...] = ()
    """decided themes, the clearest first"""
    scores: str = ""
    """scores as JSON; empty if they are not written"""


@dataclass(frozen=True)
class Change:
    """A field of a file, before and after."""

    field: str
    """name of the field"""
    old: tuple[str, ...]
    """texts that the file has"""
    new: tuple[str, ...]
    """texts that it gets"""

    @property
    def is_change(self) -> bool:
        """Whether anything is written; else what the file has is kept."""
        return self.old != self.new


def wanted(tags: TrackTags, config: WriteConfig) -> dict[Field, tuple[str, ...]]:
    """The values of every field that a track should have; empty values for `REMOVE`.

    Example:
        >>> wanted(TrackTags(("calm", "dark")), WriteConfig(exclude=frozenset({"dark"})))[fields.MOOD]
        ('calm',)
    """
    if config.mode is Mode.REMOVE:
        return dict.fromkeys((config.preset.moods, THEME, SCORES), ())
    result = {config.preset.moods: _choose(tags.moods, config)}
    if config.preset.themes and not config.moods_only:
        result[config.preset.themes] = _choose(tags.themes, config)
    if tags.scores:
        result[SCORES] = (tags.scores,)
    return result


def change(field: Field, old: Sequence[str], values: Sequence[str], config: WriteConfig) -> Change:
    """The change of one field; an empty value never replaces another one, unless `REMOVE` asks for it."""
    before = tuple(old)
    own = before if field == SCORES else fields.values(field, before)
    if config.mode is Mode.REMOVE:
        words = {word.casefold() for word in (*config.vocabulary, *(config.rename or {}).values())}
        rest = () if field in (SCORES, COMMENT) else tuple(word for word in own if word.casefold() not in words)
        if len(rest) == len(own):
            return Change(field.name, before, before)
    elif not values or (own and config.mode is Mode.KEEP):
        return Change(field.name, before, before)
    else:
        merged = config.mode is Mode.MERGE and field != SCORES
        rest = fields.unique((*own, *values)) if merged else tuple(values)
        if merged and len(rest) == len(own):
            return Change(field.name, before, before)
    joined = config.preset.is_joined and field != SCORES
    return Change(field.name, before, fields.texts(field, before, rest, is_joined=joined))


def parse_renames(texts: Sequence[str]) -> dict[str, str]:
    """Renamings from texts such as `calm=Relaxed`; raises `UsageError`."""
    renames = dict[str, str]()
    for text in texts:
        before, equals, after = (part.strip() for part in text.partition("="))
        if not (before and equals and after) or fields.SEPARATOR.strip() in after or "]" in after:
            raise UsageError(f"--rename {text}: expected TAG=WORD, such as calm=Relaxed, without ; and ]")
        renames[before] = after
    return renames


def _choose(tags: Sequence[str], config: WriteConfig) -> tuple[str, ...]:
    """The tags that are written, under their names in files."""
    chosen = (tag for tag in tags if tag not in config.exclude and (not config.include or tag in config.include))
    return fields.unique((config.rename or {}).get(tag, tag) for tag in chosen)
