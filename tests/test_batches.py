"""Batches: every track once per epoch, clips at uniform positions, with the truth of their window."""

import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moodfield.errors import ConfigError, DatasetError
from moodfield.training import batches
from moodfield.training.batches import ClipDataset, TrackTargets, WindowTargets
from moodfield.training.configs import BatchConfig

BANDS = 4
FILL = np.array([-1, -2, -3, -4], np.float32)


def numbered_mels(*lengths: int) -> tuple[np.ndarray, ...]:
    """Mels whose first band is the number of the track, the second that of the frame."""
    mels = []
    for track, frames in enumerate(lengths):
        stored = np.zeros((frames, BANDS), np.float16)
        stored[:, 0], stored[:, 1] = track, np.arange(frames)
        mels.append(stored)
    return tuple(mels)


def one_hot_targets(tracks: int) -> TrackTargets:
    """One-hot truth: the number of the track."""
    return TrackTargets(np.eye(tracks, dtype=np.float32))


def clips_of(dataset: ClipDataset, *, clip_frames: int = 5, size: int = 2, seed: int = 0) -> list[tuple]:
    """An epoch as (track, first frame, truth); checks the shapes of batches."""
    epoch_clips = []
    generator = np.random.default_rng(seed)
    for mels, truth in batches.epoch(dataset, clip_frames=clip_frames, size=size, fill=FILL, generator=generator):
        assert mels.dtype == truth.dtype == torch.float32
        assert mels.shape == (len(truth), BANDS, clip_frames)
        epoch_clips += [(int(clip[0, 0]), int(clip[1, 0]), row.numpy()) for clip, row in zip(mels, truth, strict=True)]
    return epoch_clips


# ---------------------------------------------------------------- an epoch


@given(tracks=st.integers(1, 30), size=st.integers(2, 9), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_an_epoch_has_every_track_once_and_drops_a_partial_batch(tracks, size, seed):
    epoch_clips = clips_of(ClipDataset(numbered_mels(*[8] * tracks), one_hot_targets(tracks)), size=size, seed=seed)
    names = [track for track, _, _ in epoch_clips]
    n_expected = tracks - tracks % size
    assert len(names) == (n_expected or tracks), "one smaller batch if there is no other"
    assert len(set(names)) == len(names)
    assert all(row[track] == row.sum() == 1 for track, _, row in epoch_clips)


def test_starts_of_clips_are_uniform():
    dataset = ClipDataset(numbered_mels(*[14] * 600), one_hot_targets(600))
    starts = [start for seed in range(5) for _, start, _ in clips_of(dataset, size=50, seed=seed)]
    counts = np.bincount(starts, minlength=10)
    assert len(counts) == 10, "0 … 9: the last clip ends with the track"
    assert ((counts - 300) ** 2 / 300).sum() < 27.9, "χ² with 9 degrees of freedom: 1 in 1000"


def test_a_clip_is_consecutive_frames():
    dataset = ClipDataset(numbered_mels(40, 40), one_hot_targets(2))
    ((mels, _),) = batches.epoch(dataset, clip_frames=9, size=2, fill=FILL, generator=np.random.default_rng(0))
    assert (mels[:, 1].diff(dim=1) == 1).all()


def test_a_track_as_long_as_a_clip_is_the_clip():
    dataset = ClipDataset(numbered_mels(5, 5), one_hot_targets(2))
    assert {start for seed in range(9) for _, start, _ in clips_of(dataset, seed=seed)} == {0}


def test_a_short_track_is_padded_with_the_fill():
    dataset = ClipDataset(numbered_mels(3, 3), one_hot_targets(2))
    ((mels, _),) = batches.epoch(dataset, clip_frames=7, size=2, fill=FILL, generator=np.random.default_rng(0))
    assert mels[0, 1, :3].tolist() == [0, 1, 2]
    assert mels[:, :, 3:].equal(torch.from_numpy(FILL)[None, :, None].expand(2, BANDS, 4))


def test_equal_generators_give_equal_batches():
    dataset = ClipDataset(numbered_mels(*[50] * 12), one_hot_targets(12))
    first, same, different = ([clip[:2] for clip in clips_of(dataset, size=4, seed=seed)] for seed in (0, 0, 1))
    assert first == same
    assert [track for track, _ in first] != [track for track, _ in different]
    assert sorted(start for _, start in first) != sorted(start for _, start in different)
    assert [track for track, _ in first] != list(range(12)), "the order is random"


def test_prefetch_keeps_order_and_one_item_ahead():
    produced: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(5):
            produced.append(number)
            yield number

    for number in batches.prefetch(numbers()):
        deadline = time.monotonic() + 10
        while len(produced) < min(number + 2, 5) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert produced == list(range(min(number + 2, 5)))
    assert list(batches.prefetch(numbers())) == list(range(5))
    assert list(batches.prefetch(iter(()))) == []


def test_prefetch_raises_in_order():
    def failing() -> Iterator[int]:
        yield 1
        raise KeyError("two")

    items = batches.prefetch(failing())
    assert next(items) == 1
    with pytest.raises(KeyError, match="two"):
        next(items)


def test_mels_equal_the_stored_values():
    stored = np.random.default_rng(0).normal(size=(5, BANDS)).astype(np.float16)
    ((mels, _),) = batches.epoch(
        ClipDataset((stored,), one_hot_targets(1)), clip_frames=5, size=4, fill=FILL, generator=np.random.default_rng(0)
    )
    np.testing.assert_array_equal(mels[0].numpy(), stored.T.astype(np.float32))


# ---------------------------------------------------------------- truth of windows


def windows(*counts: int) -> tuple[np.ndarray, ...]:
    """Truth of windows: the number of the track, and that of the window."""
    return tuple(
        np.stack([np.full(count, track), np.arange(count)], axis=1).astype(np.float32)
        for track, count in enumerate(counts)
    )


@pytest.mark.parametrize("step", [4.0, 3.5, 3.6])
def test_every_window_occurs_once_and_the_last_ends_with_its_track(step):
    frames, counts, clip = (30, 18, 11), (6, 3, 2), 10
    epoch_clips = clips_of(
        ClipDataset(numbered_mels(*frames), WindowTargets(windows(*counts), step=step)), clip_frames=clip, size=11
    )
    assert len(epoch_clips) == 11
    assert {(track, int(row[1])) for track, _, row in epoch_clips} == {
        (t, w) for t in range(3) for w in range(counts[t])
    }
    for track, start, row in epoch_clips:
        assert row[0] == track
        assert start == min(round(row[1] * step), frames[track] - clip)
    assert max(start for track, start, _ in epoch_clips if track == 2) == 1, "the last window ends with the track"


def test_a_track_shorter_than_its_window_begins_at_its_start():
    truth = WindowTargets(windows(1, 2), step=4.0)
    assert truth.draw(0, [3, 3], 10, np.random.default_rng(0))[:2] == (0, 0)
    assert truth.draw(2, [3, 3], 10, np.random.default_rng(0))[:2] == (1, 0)


def test_a_track_without_windows_is_skipped():
    truth = WindowTargets((*windows(2), np.empty((0, 2), np.float32), np.ones((1, 2), np.float32)), step=4.0)
    assert len(truth) == 3
    assert truth.draw(2, [9, 9, 9], 5, np.random.default_rng(0))[0] == 2


def test_the_truth_of_a_track_is_the_mean_of_its_windows():
    truth = WindowTargets(windows(3, 1), step=4.0)
    np.testing.assert_array_equal(truth.per_track(), [[0, 1], [1, 0]])
    rows = np.array([[0.25, 1]], np.float32)
    assert TrackTargets(rows).per_track() is rows


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "setting",
    [{"clip_seconds": seconds} for seconds in (0.0, -1.0, float("nan"), float("inf"))] + [{"size": 1}],
)
def test_settings_out_of_range_raise(setting):
    with pytest.raises(ConfigError, match=r"clip_seconds|size"):
        BatchConfig(**setting)


@pytest.mark.parametrize(("mels", "truth"), [(2, 3), (3, 2), (0, 0)])
def test_mels_and_truth_of_different_lengths_raise(mels, truth):
    with pytest.raises(DatasetError, match=f"targets of {truth}"):
        ClipDataset(numbered_mels(*[5] * mels), TrackTargets(np.zeros((truth, 2), np.float32)))
