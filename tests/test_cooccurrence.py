"""Pictures of tags that go together: areas are counts, colours are lifts, and neighbours like each other."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure

from moodfield.datasets import mtg_jamendo, statistics
from moodfield.errors import ConfigError, OutputError
from moodfield.plots import cooccurrence, figures

TRUTHS = arrays.arrays(bool, st.tuples(st.integers(1, 30), st.integers(2, 6)))


@pytest.fixture
def drawn_figures(monkeypatch) -> list[Figure]:
    """The pictures that would have been written."""
    caught: list[Figure] = []
    monkeypatch.setattr(figures, "write", lambda _path, figure: caught.append(figure))
    return caught


def two_worlds(tags: int = 8, tracks: int = 400) -> np.ndarray:
    """Tags of two sorts, even and odd, that come with their own sort only."""
    generator = np.random.default_rng(1)
    sort = generator.integers(0, 2, (tracks, 1))
    return (generator.random((tracks, tags)) < 0.5) & (np.arange(tags) % 2 == sort)


@given(TRUTHS)
def test_lift_is_how_much_oftener_than_by_chance(truth):
    tracks = len(truth)
    found = cooccurrence.lift(statistics.cooccurrence(truth), tracks)
    for one, first in enumerate(truth.T):
        for other, second in enumerate(truth.T):
            chance = first.mean() * second.mean()
            assert found[one, other] == pytest.approx((first & second).mean() / chance if chance else 1)


@given(TRUTHS)
def test_an_order_has_every_tag_once(truth):
    assert sorted(cooccurrence.arrange(statistics.cooccurrence(truth), len(truth))) == list(range(truth.shape[1]))


def test_neighbours_like_each_other():
    truth = two_worlds()
    order = cooccurrence.arrange(statistics.cooccurrence(truth), len(truth))
    assert {frozenset(order[:4]), frozenset(order[4:])} == {frozenset({0, 2, 4, 6}), frozenset({1, 3, 5, 7})}


def test_a_chain_is_laid_out_from_end_to_end():
    """Every tag goes with the next one only."""
    truth = np.zeros((300, 6), bool)
    for row in range(300):
        truth[row, [row % 5, row % 5 + 1]] = True
    shuffled = [3, 0, 5, 1, 4, 2]
    order = [shuffled[row] for row in cooccurrence.arrange(statistics.cooccurrence(truth[:, shuffled]), 300)]
    assert order in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0])


@pytest.mark.parametrize("tags", [8, 40])
def test_squares_show_co_occurrences(tmp_path, drawn_figures, tags):
    truth = two_worlds(tags)
    counts, names = statistics.cooccurrence(truth), [f"tag {number}" for number in range(tags)]
    cooccurrence.draw(tmp_path / "x.png", counts, names, tracks=len(truth))
    [figure] = drawn_figures
    axes, bars = figure.axes[:2]
    order = [int(label.get_text().removeprefix("tag ")) for label in axes.get_yticklabels()]
    assert [label.get_text() for label in axes.get_xticklabels()] == [f"tag {number}" for number in order]
    [squares] = [each for each in axes.collections if isinstance(each, PatchCollection)]
    ordered = counts[np.ix_(order, order)]
    most = (counts - np.diag(np.diag(counts))).max()
    seen = np.zeros((tags, tags), bool)
    for path, lift in zip(squares.get_paths(), squares.get_array(), strict=True):
        box = path.get_extents()
        row, column = round(box.y0 + box.height / 2), round(box.x0 + box.width / 2)
        assert box.width * box.height == pytest.approx(0.96**2 * ordered[row, column] / most)
        assert lift == pytest.approx(cooccurrence.lift(ordered, len(truth))[row, column])
        seen[row, column] = True
    np.testing.assert_array_equal(seen, (ordered > 0) & ~np.eye(tags, dtype=bool))
    numbers = sorted(int(text.get_text()) for text in axes.texts)
    assert numbers == (sorted(ordered[seen].tolist()) if tags <= cooccurrence.NUMBERED_TAGS else [])
    assert [bar.get_width() for bar in bars.patches] == np.diag(ordered).tolist()


def test_degenerate_counts_can_be_drawn(tmp_path):
    for number, truth in enumerate((np.zeros((1, 2), bool), np.ones((3, 3), bool), np.eye(20, dtype=bool))):
        names = ["x\n\x1b" + "long " * 20, *map(str, range(truth.shape[1] - 1))]
        cooccurrence.draw(tmp_path / f"{number}.png", statistics.cooccurrence(truth), names, tracks=len(truth))
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")


def test_invalid_arguments_raise(tmp_path):
    counts = np.ones((2, 2), np.int64)
    with pytest.raises(OutputError, match=r"ends in \.png"):
        cooccurrence.draw(tmp_path / "x.jpg", counts, ["a", "b"], tracks=2)
    for names, tracks in ((["a"], 2), (["a", "b", "c"], 2), (["a", "b"], 0)):
        with pytest.raises(ConfigError, match="counts"):
            cooccurrence.draw(tmp_path / "x.png", counts, names, tracks=tracks)
    with pytest.raises(ConfigError, match="counts"):
        cooccurrence.draw(tmp_path / "x.png", counts[:1, :1], ["a"], tracks=2)


@pytest.mark.golden
def test_neighbours_of_the_moods_of_the_dataset(data: Path):
    split = mtg_jamendo.read(data / "mtg-jamendo" / "autotagging_moodtheme-train.tsv")
    counts, tracks = statistics.cooccurrence(split.truth), len(split.tracks)
    place = np.argsort(cooccurrence.arrange(counts, tracks))
    liked = [
        (one, other) for one in range(56) for other in range(one) if cooccurrence.lift(counts, tracks)[one, other] > 4
    ]
    arranged, alphabet = (np.mean([abs(at[one] - at[other]) for one, other in liked]) for at in (place, np.arange(56)))
    assert len(liked) > 50
    assert arranged < alphabet / 2
    at = dict(zip(split.vocabulary, place.tolist(), strict=True))
    assert abs(at["trailer"] - at["epic"]) < 5
    assert abs(at["happy"] - at["sad"]) > 28


def test_a_dollar_sign_in_a_name_is_literal(tmp_path):
    cooccurrence.draw(tmp_path / "x.png", np.full((2, 2), 3), ["$x_{$", "a$"], tracks=5)
    assert (tmp_path / "x.png").is_file()
