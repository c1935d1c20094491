"""The map of tracks: similar tracks are near each other, in any order; many tracks are spread, and regions named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodfield.report import regions, track_map
from moodfield.report.track import MANY_TRACKS, Reference
from moodfield.report.track_map import TrackMap

MOODS = ("calm", "dark", "energetic", "happy", "sad")
REFERENCE = Reference("m", (*MOODS, "film"), ("film",), np.full(6, 0.3, np.float32))


def scores(logits: np.ndarray | list[list[float]], *, theme: float | np.ndarray = 0.0) -> np.ndarray:
    """Scores of tracks from logits of five moods, and of one theme."""
    moods = np.asarray(logits, np.float64)
    columns = np.column_stack([moods, np.broadcast_to(theme, len(moods))])
    return (1 / (1 + np.exp(-columns))).astype(np.float32)


def lay_out(values: np.ndarray, reference: Reference = REFERENCE) -> TrackMap:
    places = track_map.lay_out(values, reference)
    assert places is not None
    assert np.isfinite([places.x, places.y]).all()
    for coordinates in (places.x, places.y):
        assert (coordinates >= 0).all()
        assert (coordinates <= 1).all()
    return places


def distances(places: TrackMap) -> np.ndarray:
    points = np.stack([places.x * track_map.ASPECT, places.y], axis=1)
    return np.linalg.norm(points[:, None] - points, axis=2)


def random_scores(count: int, seed: int = 0) -> np.ndarray:
    return scores(np.random.default_rng(seed).normal(size=(count, 5)))


def clustered(count: int) -> np.ndarray:
    """Scores of a large dense cluster and a few tracks far away, which principal components would clump."""
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 0.3, size=(count, 5)) - [2, 1, 0, 1, 2]
    logits[: count // 50] += generator.normal(0, 6, size=(count // 50, 5))
    return scores(logits)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from([3, 4, 7, 12, MANY_TRACKS + 20]), st.integers(0, 1_000), st.booleans())
def test_the_order_of_tracks_does_not_matter(count: int, seed: int, twins: bool) -> None:
    values = random_scores(count, seed)
    values = np.concatenate([values, values[:2]]) if twins else values
    order = np.random.default_rng(seed).permutation(len(values))
    first, permuted = lay_out(values), lay_out(values[order])
    assert permuted.x.tolist() == first.x[order].tolist()
    assert permuted.y.tolist() == first.y[order].tolist()
    assert (permuted.horizontal, permuted.vertical) == (first.horizontal, first.vertical)
    assert regions.name_regions(permuted) == regions.name_regions(first)


def test_similar_tracks_are_near_each_other() -> None:
    places = lay_out(scores([[x, 0, 0, y, 0] for x, y in ((0, 0), (0.5, 0), (3, 0), (0, 1), (3, 1.2))]))
    assert distances(places)[0].argsort().tolist() == [0, 1, 3, 2, 4]
    assert distances(places)[4].argsort().tolist()[:2] == [4, 2]


def test_two_clusters_stay_separate() -> None:
    generator = np.random.default_rng(3)
    logits = [generator.normal((2 * (n % 2), 0, -2 * (n % 2), 0, 0), 0.2) for n in range(20)]
    distances_ = distances(lay_out(scores(np.array(logits))))
    same = np.equal.outer(np.arange(20) % 2, np.arange(20) % 2)
    assert distances_[same].max() < distances_[~same].min()


@pytest.mark.parametrize("count", [1_000, 5_000])
def test_many_tracks_are_spread_over_the_map(count: int) -> None:
    places = lay_out(clustered(count))
    cells, _, _ = np.histogram2d(places.x, places.y, bins=(6, 4), range=((0, 1), (0, 1)))
    mean = count / cells.size
    assert cells.min() > 0.4 * mean
    assert cells.max() < 2 * mean


def test_neighbours_stay_neighbours_when_tracks_are_spread() -> None:
    logits = np.random.default_rng(0).normal(size=(400, 2)) ** 3  # two dimensions: nothing is lost by projection
    places = lay_out(scores(logits @ np.array([[1, 0, -1, 0, 0], [0, 1, 0, -1, 0]])))
    features = places.features @ np.linalg.svd(places.features)[2][:2].T
    original = np.linalg.norm(features[:, None] - features, axis=2).argsort(axis=1)[:, 1:11]
    shown = distances(places).argsort(axis=1)[:, 1:11]
    kept = np.mean([len(set(one) & set(other)) / 10 for one, other in zip(original, shown, strict=True)])
    assert kept > 0.5  # of 400 tracks, 10 at random would have 0.025 in common


def test_up_to_many_tracks_distances_are_those_of_the_components() -> None:
    values = random_scores(MANY_TRACKS)
    places = lay_out(values)
    components = places.features @ np.linalg.svd(places.features)[2][:2].T
    shown = distances(places)
    expected = np.linalg.norm(components[:, None] - components, axis=2)
    np.testing.assert_allclose(shown / shown.max(), expected / expected.max(), atol=1e-6)


def test_axes_are_labelled_by_correlated_tags() -> None:
    steps = np.linspace(-2, 2, 7)
    values = scores([[x, 0, -x, y, -y] for x in steps for y in steps / 3])
    places = lay_out(values)
    assert {places.horizontal.low, places.horizontal.high} == {("calm",), ("energetic",)}
    assert {places.vertical.low, places.vertical.high} == {("happy",), ("sad",)}
    assert (np.corrcoef(values[:, 0], places.x)[0, 1] > 0) == (places.horizontal.high == ("calm",))
    assert (np.corrcoef(values[:, 3], places.y)[0, 1] < 0) == (places.vertical.high == ("happy",))


def test_themes_do_not_move_a_track() -> None:
    logits = np.random.default_rng(0).normal(size=(6, 5))
    moved = distances(lay_out(scores(logits, theme=np.arange(6.0))))
    np.testing.assert_allclose(moved, distances(lay_out(scores(logits))), atol=1e-5)


def test_a_vocabulary_of_themes_has_a_map() -> None:
    only_themes = Reference("m", REFERENCE.vocabulary, REFERENCE.vocabulary, REFERENCE.thresholds)
    assert set(lay_out(random_scores(9), only_themes).tags) == set(REFERENCE.vocabulary)


def test_fewer_than_three_tracks_have_no_map() -> None:
    assert [track_map.lay_out(random_scores(3)[:count], REFERENCE) for count in range(3)] == [None] * 3


@pytest.mark.parametrize("noise", [0.0, 1e-6])
@pytest.mark.parametrize("count", [5, 500])
def test_identical_tracks_are_in_the_middle(noise: float, count: int) -> None:
    generator = np.random.default_rng(0)
    places = lay_out(scores(np.ones((count, 5)) + noise * generator.normal(size=(count, 5))))
    np.testing.assert_allclose([places.x, places.y], 0.5, atol=1e-3)
    assert places.horizontal.low == places.horizontal.high == places.vertical.low == ()
    assert regions.name_regions(places) == []


def test_differences_in_one_tag_lie_on_a_line() -> None:
    places = lay_out(scores([[x, 0, 0, 0, 0] for x in (0, 1, 3)]))
    np.testing.assert_allclose(places.y, 0.5, atol=1e-9)
    assert places.vertical.low == places.vertical.high == ()
    assert places.horizontal.high == ("calm",)


def test_values_that_are_not_finite_have_a_position() -> None:
    for count in (8, MANY_TRACKS + 8):
        values = random_scores(count)
        values[2, 1], values[3] = np.nan, np.nan
        values[4, :2] = 0, 1
        lay_out(values)


def test_regions_are_where_their_tag_is_strongest() -> None:
    values = random_scores(2_000)
    places = lay_out(values)
    named = regions.name_regions(places)
    assert len(named) == len({region.tag for region in named}) >= 3
    for region in named:
        near = np.hypot((places.x - region.x) * track_map.ASPECT, places.y - region.y) < 0.15
        logits = np.log(values[:, MOODS.index(region.tag)] / (1 - values[:, MOODS.index(region.tag)]))
        assert near.sum() > 20
        assert logits[near].mean() > logits.mean() + 0.3 * logits.std()
    for one in named:
        for other in named:
            apart = abs(one.x - other.x) >= regions.GAP[0] or abs(one.y - other.y) >= regions.GAP[1]
            assert one is other or apart or min(one.x, one.y) == min(regions.EDGE)


def test_names_do_not_overlap() -> None:
    places, names = lay_out(random_scores(40)), ["name" * (n % 5 + 1) for n in range(40)]
    widths = (300, 500, 900)
    sides = track_map.label_sides(places, names, widths=widths, type_size=12, longest=120)
    assert 5 < sum(side is not None for side in sides) < 40
    assert sides == track_map.label_sides(places, names, widths=widths, type_size=12, longest=120)
    for width in widths:
        height = width / track_map.ASPECT
        boxes = [(x, y, x, y) for x, y in zip(places.x * width, places.y * height, strict=True)]
        for name, side, x, y in zip(names, sides, places.x * width, places.y * height, strict=True):
            long, tall = min(len(name) * 12 * track_map.EM, 120), 15
            if side in ("right", "left"):
                left = x + track_map.DOT if side == "right" else x - track_map.DOT - long
                boxes.append((left, y - tall / 2, left + long, y + tall / 2))
            elif side:
                top = y + track_map.DOT if side == "below" else y - track_map.DOT - tall
                boxes.append((x - long / 2, top, x + long / 2, top + tall))
        for index, (left, top, right, bottom) in enumerate(boxes[40:], 40):
            assert left >= 0
            assert top >= 0
            assert right <= width
            assert bottom <= height
            for a, b, c, d in boxes[:index]:
                assert right <= a + 1e-9 or c <= left + 1e-9 or bottom <= b + 1e-9 or d <= top + 1e-9
