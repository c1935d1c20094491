"""The vocabulary: the official order, names out of datasets, and what is refused."""

import pytest

from moodfield import tags
from moodfield.errors import DatasetError


def test_moods_and_themes_are_the_official_tags_in_the_official_order(data):
    written = (data / "mtg-jamendo" / "moodtheme_split.txt").read_text(encoding="utf-8").split()
    assert tags.vocabulary(written) == tags.MOODS_AND_THEMES


def test_there_are_56_in_alphabetical_order():
    assert len(tags.MOODS_AND_THEMES) == 56
    assert list(tags.MOODS_AND_THEMES) == sorted(set(tags.MOODS_AND_THEMES))


def test_themes_are_some_of_them():
    assert set(tags.MOODS_AND_THEMES) > tags.THEMES
    assert {"christmas", "film", "sport"} <= tags.THEMES
    assert not {"happy", "sad", "calm", "energetic"} & tags.THEMES


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("mood/theme---happy", "happy"),
        ("happy", "happy"),
        (" emotion---calmness \n", "calmness"),
        ("genre---post---rock", "rock"),
        ("instrument---electric-guitar", "electric-guitar"),
        ("mood/theme---", ""),
        ("", ""),
    ],
)
def test_a_name_is_what_follows_the_category(tag, name):
    assert tags.name(tag) == name


def test_a_vocabulary_keeps_the_order():
    assert tags.vocabulary(["mood/theme---sad", "happy", "genre---rock"]) == ("sad", "happy", "rock")
    assert tags.vocabulary(iter(tags.MOODS_AND_THEMES)) == tags.MOODS_AND_THEMES


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ([], "no tags"),
        (["happy", ""], "no name"),
        (["mood/theme---"], "no name"),
        (["happy", "sad", "mood/theme---happy"], "'happy' is listed 2 times"),
        (["a", "b", "a", "b", "b", " "], "'a' .* 2 .*'b' .* 3 .*no name"),
    ],
)
def test_an_invalid_vocabulary_raises_an_error_with_all_faults(given, match):
    with pytest.raises(DatasetError, match=match):
        tags.vocabulary(given)
