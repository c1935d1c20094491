"""The vocabulary.

In: tags as datasets write them, such as `mood/theme---happy`. Out: an ordered tuple of names, and which are themes.
Knows nothing of: tracks, scores, or thresholds.
"""

from collections.abc import Iterable

from moodfield.errors import DatasetError

SEPARATOR = "---"
"""between the category of a tag and its name, in the files of MTG-Jamendo"""

MOODS_AND_THEMES = tuple(
    (
        "action adventure advertising background ballad calm children christmas commercial cool corporate dark deep "
        "documentary drama dramatic dream emotional energetic epic fast film fun funny game groovy happy heavy holiday "
        "hopeful inspiring love meditative melancholic melodic motivational movie nature party positive powerful "
        "relaxing retro romantic sad sexy slow soft soundscape space sport summer trailer travel upbeat uplifting"
    ).split()
)
"""the 56 tags of the MediaEval task in their official order"""

THEMES = frozenset(
    (
        "action adventure advertising background ballad children christmas commercial corporate documentary drama film "
        "game holiday movie nature party soundscape space sport summer trailer travel"
    ).split()
)
"""the tags that say what music is for or about rather than what it feels like; *chosen by us*"""


def name(tag: str) -> str:
    """The name in a dataset's tag: `happy` for `mood/theme---happy`."""
    return tag.strip().rpartition(SEPARATOR)[2]


def vocabulary(tags: Iterable[str]) -> tuple[str, ...]:
    """The names of tags in the order they come; refuses an empty name and one that comes twice."""
    names = tuple(name(tag) for tag in tags)
    faults = [f"{each!r} comes {names.count(each)} times" for each in dict.fromkeys(names) if names.count(each) > 1]
    if "" in names:
        faults.append("a tag has no name")
    if faults or not names:
        raise DatasetError(f"not a vocabulary: {'; '.join(faults) or 'it has no tags'}; give every tag one name, once")
    return names
