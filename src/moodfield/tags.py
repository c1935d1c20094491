"""The vocabulary: 56 moods and themes of MTG-Jamendo, and names of tags."""

from collections import Counter
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
"""the tags that name a topic or use of the music rather than a mood; *chosen by us*"""


def name(tag: str) -> str:
    """The name of a tag, without its category.

    >>> name("mood/theme---happy")
    'happy'
    """
    return tag.strip().rpartition(SEPARATOR)[2]


def vocabulary(tags: Iterable[str]) -> tuple[str, ...]:
    """The names of tags, in order; raises `DatasetError` if there are none, or one is empty or repeated.

    >>> vocabulary(["mood/theme---happy", "mood/theme---calm"])
    ('happy', 'calm')
    """
    names = tuple(name(tag) for tag in tags)
    faults = [f"{tag!r} is listed {count} times" for tag, count in Counter(names).items() if count > 1]
    if "" in names:
        faults.append("a tag has no name")
    if faults or not names:
        raise DatasetError(
            f"invalid vocabulary: {'; '.join(faults) or 'it has no tags'}; give every tag one name, once"
        )
    return names
