"""The map of tracks: similar tracks are near each other, in any order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodfield.report import track_map
from moodfield.report.track_map import TrackMap
from moodfield.tagger import OverTime, Tagging

MOODS = ("calm", "dark", "energetic", "happy", "sad")


def track(logits: list[float] | np.ndarray, *, thresholds: float | np.ndarray = 0.3, theme: float = 0.0) -> Tagging:
    """A track with these logits of five moods, and one theme."""
    scores = (1 / (1 + np.exp(-np.append(logits, theme)))).astype(np.float32)
    levels = np.broadcast_to(np.asarray(thresholds, np.float32), scores.shape)
    over_time = OverTime(np.zeros(1, np.float32), scores[:, None])
    return Tagging("a.wav", 60.0, "m", (*MOODS, "film"), ("film",), scores, levels, over_time)


def lay_out(tracks: list[Tagging]) -> TrackMap:
    track_map_ = track_map.lay_out(tracks)
    assert track_map_ is not None
    assert np.isfinite([track_map_.x, track_map_.y]).all()
    for coordinates in (track_map_.x, track_map_.y):
        assert (coordinates >= 0).all()
        assert (coordinates <= 1).all()
    return track_map_


def distances(track_map_: TrackMap) -> np.ndarray:
    points = np.stack([track_map_.x * track_map.ASPECT, track_map_.y], axis=1)
    return np.linalg.norm(points[:, None] - points, axis=2)


def random_tracks(count: int, seed: int = 0) -> list[Tagging]:
    return [track(logits) for logits in np.random.default_rng(seed).normal(size=(count, 5))]


@settings(deadline=None, max_examples=30)
@given(st.integers(3, 12), st.integers(0, 1_000), st.booleans())
def test_the_order_of_tracks_does_not_matter(count: int, seed: int, twins: bool) -> None:
    tracks = random_tracks(count, seed)
    tracks += tracks[:2] if twins else []
    order = np.random.default_rng(seed).permutation(len(tracks))
    first, permuted = lay_out(tracks), lay_out([tracks[index] for index in order])
    assert permuted.x.tolist() == first.x[order].tolist()
    assert permuted.y.tolist() == first.y[order].tolist()
    assert (permuted.horizontal, permuted.vertical) == (first.horizontal, first.vertical)


def test_similar_tracks_are_near_each_other() -> None:
    tracks = [track([x, 0, 0, y, 0]) for x, y in ((0, 0), (0.5, 0), (3, 0), (0, 1), (3, 1.2))]
    distances_ = distances(lay_out(tracks))
    assert distances_[0].argsort().tolist() == [0, 1, 3, 2, 4]
    assert distances_[4].argsort().tolist()[:2] == [4, 2]


def test_two_clusters_stay_separate() -> None:
    rng = np.random.default_rng(3)
    tracks = [track(rng.normal((2 * (n % 2), 0, -2 * (n % 2), 0, 0), 0.2)) for n in range(20)]
    distances_ = distances(lay_out(tracks))
    same = np.equal.outer(np.arange(20) % 2, np.arange(20) % 2)
    assert distances_[same].max() < distances_[~same].min()


def test_axes_are_labelled_by_correlated_tags() -> None:
    steps = np.linspace(-2, 2, 9)
    tracks = [track([x, 0, -x, y, -y]) for x in steps for y in steps / 3]
    track_map_ = lay_out(tracks)
    assert {track_map_.horizontal.low, track_map_.horizontal.high} == {("calm",), ("energetic",)}
    assert {track_map_.vertical.low, track_map_.vertical.high} == {("happy",), ("sad",)}
    calm_scores = [track.scores[0] for track in tracks]
    calm_is_right = np.corrcoef(calm_scores, track_map_.x)[0, 1] > 0
    assert calm_is_right == (track_map_.horizontal.high == ("calm",))
    happy_is_up = np.corrcoef([track.scores[3] for track in tracks], track_map_.y)[0, 1] < 0
    assert happy_is_up == (track_map_.vertical.high == ("happy",))


def test_themes_do_not_move_a_track() -> None:
    tracks = random_tracks(6)
    moved = [track(np.log(tagging.scores[:5] / (1 - tagging.scores[:5])), theme=n) for n, tagging in enumerate(tracks)]
    np.testing.assert_allclose(distances(lay_out(moved)), distances(lay_out(tracks)), atol=1e-5)


def test_fewer_than_three_tracks_have_no_map() -> None:
    assert [track_map.lay_out(random_tracks(count)) for count in range(3)] == [None] * 3
    others = [
        Tagging("b", 1.0, "m", (tag,), (), *2 * [np.ones(1, np.float32)], random_tracks(1)[0].over_time)
        for tag in "abc"
    ]
    assert track_map.lay_out(others) is None


@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_identical_tracks_are_in_the_middle(noise: float) -> None:
    rng = np.random.default_rng(0)
    track_map_ = lay_out([track(np.ones(5) + noise * rng.normal(size=5)) for _ in range(5)])
    np.testing.assert_allclose([track_map_.x, track_map_.y], 0.5, atol=1e-3)
    assert track_map_.horizontal.low == track_map_.horizontal.high == track_map_.vertical.low == ()


def test_differences_in_one_tag_lie_on_a_line() -> None:
    track_map_ = lay_out([track([x, 0, 0, 0, 0]) for x in (0, 1, 3)])
    np.testing.assert_allclose(track_map_.y, 0.5, atol=1e-9)
    assert track_map_.vertical.low == track_map_.vertical.high == ()
    assert track_map_.horizontal.high == ("calm",)


def test_values_that_are_not_finite_have_a_position() -> None:
    tracks = random_tracks(8)
    tracks[2].scores[1], tracks[3].scores[:] = np.nan, np.nan
    tracks[4].scores[:2] = 0, 1
    lay_out(tracks)
    never = np.array([np.inf, 1, 0.3, 0.3, np.nan, 0.3])
    lay_out([track(logits, thresholds=never) for logits in np.random.default_rng(1).normal(size=(5, 5))])


def test_positions_depend_on_thresholds() -> None:
    tracks = [*random_tracks(5), track(np.zeros(5)), track(np.zeros(5), thresholds=0.9)]
    assert distances(lay_out(tracks))[5, 6] > 0.1


def test_thousands_of_tracks_have_positions() -> None:
    assert lay_out(random_tracks(3_000)).x.std() > 0.05


def test_names_do_not_overlap() -> None:
    track_map_, names = lay_out(random_tracks(40)), ["name" * (n % 5 + 1) for n in range(40)]
    widths = (300, 500, 900)
    sides = track_map.label_sides(track_map_, names, widths=widths, type_size=12, longest=120)
    assert 5 < sum(side is not None for side in sides) < 40
    assert sides == track_map.label_sides(track_map_, names, widths=widths, type_size=12, longest=120)
    for width in widths:
        height = width / track_map.ASPECT
        boxes = [(x, y, x, y) for x, y in zip(track_map_.x * width, track_map_.y * height, strict=True)]
        for name, side, x, y in zip(names, sides, track_map_.x * width, track_map_.y * height, strict=True):
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
