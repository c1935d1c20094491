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
    removed: tuple[str, ...] = ()
    """tags that a person has removed"""


@dataclass(frozen=True)
class Wanted:
    """What a field should have."""

    values: tuple[str, ...] = ()
    """values"""
    unwanted: frozenset[str] = frozenset()
    """values that it should not have, in lower case: a person has removed them"""


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


def wanted(tags: TrackTags, config: WriteConfig) -> dict[Field, Wanted]:
    """What every field of a track should have; nothing for `REMOVE`, which looks into comments, too.

    Example:
        >>> wanted(TrackTags(("calm", "dark")), WriteConfig(exclude=frozenset({"dark"})))[fields.MOOD].values
        ('calm',)
    """
    if config.mode is Mode.REMOVE:
        return dict.fromkeys(dict.fromkeys((config.preset.moods, THEME, SCORES, COMMENT)), Wanted())
    unwanted = frozenset(word.casefold() for word in _choose(tags.removed, config))
    result = {config.preset.moods: Wanted(_choose(tags.moods, config), unwanted)}
    if config.preset.themes and not config.moods_only:
        result[config.preset.themes] = Wanted(_choose(tags.themes, config), unwanted)
    if tags.scores:
        result[SCORES] = Wanted((tags.scores,))
    return result


def change(field: Field, old: Sequence[str], wanted: Wanted, config: WriteConfig, *, joins: bool = False) -> Change:
    """The change of one field.

    An empty value replaces another one only if `REMOVE` asks for it, or if a person has removed those tags of the track
    and values are not kept.

    Args:
        field: The field.
        old: Its texts.
        wanted: What it should have.
        config: What happens to values that it has.
        joins: Whether the file has several values as one text.
    """
    before = tuple(old)
    own = before if field == SCORES else fields.values(field, before)
    new = _merge(field, own, wanted, config)
    if new is None or new == own:
        return Change(field.name, before, before)
    is_joined = (config.preset.is_joined or joins) and field != SCORES
    return Change(field.name, before, fields.texts(field, before, new, is_joined=is_joined))


def _merge(field: Field, own: tuple[str, ...], wanted: Wanted, config: WriteConfig) -> tuple[str, ...] | None:
    """The values of a field that has its own ones; None if it stays as it is."""
    if config.mode is Mode.REMOVE:
        words = {word.casefold() for word in (*config.vocabulary, *(config.rename or {}).values())}
        return () if field == SCORES else tuple(word for word in own if word.casefold() not in words)
    if own and config.mode is Mode.KEEP:
        return None
    left = tuple(word for word in own if word.casefold() not in wanted.unwanted)
    if config.mode is Mode.MERGE and field != SCORES:
        return fields.unique((*left, *wanted.values))
    return wanted.values or (None if left == own else left)


def parse_renames(texts: Sequence[str]) -> dict[str, str]:
    """Renamings from texts such as `calm=Relaxed`; raises `UsageError`."""
    renames = dict[str, str]()
    for text in texts:
        before, equals, after = (part.strip() for part in text.partition("="))
        if not (before and equals and after.isprintable() and after) or set(";]").intersection(after):
            raise UsageError(f"--rename {text!r}: expected TAG=WORD, such as calm=Relaxed, without ; and ]")
        renames[before] = after
    return renames


def _choose(tags: Sequence[str], config: WriteConfig) -> tuple[str, ...]:
    """The tags that are written, under their names in files."""
    chosen = (tag for tag in tags if tag not in config.exclude and (not config.include or tag in config.include))
    return fields.unique((config.rename or {}).get(tag, tag) for tag in chosen)
