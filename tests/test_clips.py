"""Clips: joined outputs of a network equal those of the whole mel."""

import tracemalloc
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import models
from moodfield import clips, nets, receptive_field
from moodfield.clips import AnyLength, Clip, Cutter, FixedLength
from moodfield.errors import AudioError, ConfigError

BANDS = 20
RHO_5 = AnyLength(min_frames=17, stride=16, receptive_field=87, start=-35)


def noise(frames: int, bands: int = BANDS) -> np.ndarray:
    return np.random.default_rng(frames).standard_normal((bands, frames)).astype(np.float32)


def cut(mel: np.ndarray, lengths: clips.Lengths, sizes: list[int], **options: int) -> list[Clip]:
    """The clips of a mel that is passed in blocks of these sizes, with the rest as the last block."""
    cutter = Cutter(lengths, **options)
    pieces = np.split(mel, np.minimum(np.cumsum(sizes), mel.shape[1]), axis=1)
    return [clip for piece in pieces for clip in cutter.push(piece)] + cutter.finish()


# ---------------------------------------------------------------- any length


@cache
def network(name: str, rho_time: int) -> nets.Net:
    """A small network whose logits depend on their whole receptive field, in double precision."""
    torch.manual_seed(rho_time)
    net = nets.create(name, n_mels=BANDS, n_tags=3, width=4, rho_freq=1, rho_time=rho_time)
    models.stir(net)
    net(torch.randn(4, BANDS, 1_000))
    return net.eval().double()


def logits_over_time(net: nets.Net, mel: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return net.frame_logits(torch.from_numpy(mel.astype(np.float64))[None])[0].numpy()


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([("cp_resnet", 0), ("fa_resnet", 0), ("cp_resnet", 5), ("fa_resnet", 6), ("fa_resnet", 9)]),
    st.integers(17, 1_500),
    st.lists(st.integers(0, 600), max_size=8),
    st.integers(0, 500),
)
def test_joined_outputs_of_clips_equal_those_of_the_whole_mel(arguments, frames, sizes, extra):
    net = network(*arguments)
    mel = noise(frames)
    cut_clips = cut(mel, net.lengths, sizes, clip_frames=min_clip_frames(net.lengths) + extra)
    joined = np.concatenate([logits_over_time(net, clip.mel)[:, clip.keep] for clip in cut_clips], axis=1)
    whole = logits_over_time(net, mel)
    assert joined.shape == whole.shape == (3, receptive_field.output_size(net.config.layers("time"), frames))
    np.testing.assert_allclose(joined, whole, rtol=0, atol=1e-10)
    np.testing.assert_allclose(joined.mean(axis=1), whole.mean(axis=1), rtol=0, atol=1e-10)


@pytest.mark.parametrize("rho_time", [15, 22])
@pytest.mark.parametrize("frames", [17, 2_048, 2_049, 2_065, pytest.param(4_321, marks=pytest.mark.slow)])
def test_a_wide_field_is_exact_with_longer_clips(rho_time, frames):
    net = network("fa_resnet", rho_time)
    mel = noise(frames)
    whole = logits_over_time(net, mel)
    for clip_frames in (min_clip_frames(net.lengths), clips.CLIP_FRAMES):
        cut_clips = clips.cut(mel, net.lengths, clip_frames=clip_frames)
        joined = np.concatenate([logits_over_time(net, clip.mel)[:, clip.keep] for clip in cut_clips], axis=1)
        np.testing.assert_allclose(joined, whole, rtol=0, atol=1e-10)


@pytest.mark.parametrize("rho_time", [0, 5, 22])
def test_outputs_vary_and_depend_on_edges_and_stride(rho_time):
    """Without this, the tests above could pass with any cut."""
    net = network("fa_resnet", rho_time)
    mel = noise(3_000)
    whole = logits_over_time(net, mel)
    assert whole.std(axis=1).min() > 0.1
    at_an_edge, off_the_stride = logits_over_time(net, mel[:, 16:]), logits_over_time(net, mel[:, 8:])
    assert np.abs(at_an_edge - whole[:, 1:])[:, 0].max() > 1e-3
    assert np.abs(off_the_stride - whole[:, : off_the_stride.shape[1]]).mean() > 0.1


@settings(deadline=None, max_examples=20)
@given(st.integers(96, 3_000), st.lists(st.integers(0, 900), max_size=5), st.integers(0, 500))
def test_joined_features_of_clips_equal_those_of_the_whole_mel(frames, sizes, extra):
    net = whole_track()
    mel = noise(frames, bands=64)
    cut_clips = cut(mel, net.lengths, sizes, clip_frames=min_clip_frames(net.lengths) + extra)
    joined = torch.cat([features(net, clip.mel)[..., clip.keep] for clip in cut_clips], dim=2)
    expected = features(net, mel)
    torch.testing.assert_close(joined, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(net.forward_head(joined.float()), net.forward_head(expected.float()))


@cache
def whole_track() -> nets.Net:
    """A small network of whole tracks; its body is in double precision."""
    net = models.network("crnn")
    net.standardize.double(), net.blocks.double()
    return net


def features(net: nets.Net, mel: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return net.forward_features(torch.from_numpy(mel.astype(np.float64))[None])


def test_the_output_for_a_whole_track_is_at_its_centre():
    lengths = clips.WholeTrack(96, 96, 162, -33)
    np.testing.assert_array_equal(clips.centres(1, 1_001, lengths), [500])
    assert lengths != clips.AnyLength(96, 96, 162, -33)
    with pytest.raises(AudioError, match="95 frames"):
        clips.cut(noise(95), lengths)


def min_clip_frames(lengths: AnyLength) -> int:
    """The smallest valid `clip_frames`, by trial."""
    for frames in range(lengths.receptive_field, 4 * lengths.receptive_field):
        try:
            Cutter(lengths, clip_frames=frames)
        except ConfigError:
            continue
        return frames
    raise AssertionError(lengths)


def test_the_shortest_clips_are_not_much_longer_than_the_field():
    assert min_clip_frames(RHO_5) < RHO_5.receptive_field + 4 * 16
    for frames in (1, 87, min_clip_frames(RHO_5) - 1):
        with pytest.raises(ConfigError, match=f"clip_frames={frames}"):
            clips.cut(noise(500), RHO_5, clip_frames=frames)


def test_clips_have_clip_frames_and_cover_the_mel():
    mel = noise(5_000)
    cut_clips = clips.cut(mel, RHO_5, clip_frames=512)
    assert len(cut_clips) > 5
    assert {clip.mel.shape[1] for clip in cut_clips[:-1]} == {512}
    assert cut_clips[-1].mel.shape[1] <= 512
    np.testing.assert_array_equal(cut_clips[0].mel, mel[:, :512])
    np.testing.assert_array_equal(cut_clips[-1].mel, mel[:, -cut_clips[-1].mel.shape[1] :])
    assert cut_clips[0].keep.start == 0
    assert cut_clips[-1].keep.stop is None


def test_a_mel_no_longer_than_a_clip_is_one_clip():
    for frames in (17, 300, 2_047, 2_048):
        (only,) = clips.cut(noise(frames), RHO_5)
        assert only.mel.shape[1] == frames
        assert only.keep == slice(0, None)
    assert len(clips.cut(noise(2_049), RHO_5)) == 2


@pytest.mark.parametrize("frames", [0, 1, 16])
def test_a_mel_too_short_for_the_network_raises_an_error(frames):
    with pytest.raises(AudioError, match=f"{frames} frames") as caught:
        clips.cut(noise(frames), RHO_5)
    assert caught.value.reason == "too-short"
    with pytest.raises(AudioError, match="0 frames"):
        Cutter(RHO_5).finish()


def test_the_time_of_an_output_is_the_centre_of_its_field():
    for rho in (0, 5, 22):
        net = network("fa_resnet", rho)
        field = receptive_field.compute(net.config.layers("time"))
        count = receptive_field.output_size(net.config.layers("time"), 3_000)
        centres = clips.centres(count, 3_000, net.lengths)
        expected = [field.centre + 16 * index for index in range(count)]
        np.testing.assert_allclose(centres, np.clip(expected, 0, 2_999), atol=0.01)
        assert (np.diff(centres) >= 0).all()


def test_a_burst_changes_outputs_near_its_time():
    """A burst in a mel moves those outputs most whose centres are nearest."""
    net = network("fa_resnet", 5)
    mel = noise(1_600)
    changed = mel.copy()
    changed[:, 796:804] += 5
    change = np.abs(logits_over_time(net, changed) - logits_over_time(net, mel)).sum(axis=0)
    times = clips.centres(len(change), 1_600, net.lengths)
    assert abs((times * change).sum() / change.sum() - 799.5) < 8
    assert np.abs(times[change > 0] - 799.5).max() <= 43 + 4


# ---------------------------------------------------------------- fixed length


def windows(frames: int, size: int, step: int) -> list[int]:
    """Where windows start: every `step`, and one more that ends with the mel where those leave frames over."""
    starts = list(range(0, frames - size + 1, step))
    return starts if starts[-1] + size == frames else [*starts, frames - size]


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 40), st.data(), st.lists(st.integers(0, 100), max_size=12))
def test_windows_come_every_step_and_end_with_the_mel(size, data, sizes):
    step = data.draw(st.integers(1, size))
    frames = data.draw(st.integers(size, 6 * size))
    mel = noise(frames)
    cut_clips = cut(mel, FixedLength(size, step), sizes)
    starts = windows(frames, size, step)
    assert len(cut_clips) == len(starts)
    for clip, start in zip(cut_clips, starts, strict=True):
        assert clip.mel.tobytes() == mel[:, start : start + size].tobytes()
        assert clip.keep == slice(None)
    expected = np.array(starts) + (size - 1) / 2
    np.testing.assert_allclose(clips.centres(len(cut_clips), frames, FixedLength(size, step)), expected, rtol=1e-6)


@settings(deadline=None)
@given(st.integers(2, 40), st.data(), st.lists(st.integers(0, 10), max_size=5))
def test_a_mel_shorter_than_a_window_is_repeated_to_fill_one(size, data, sizes):
    frames = data.draw(st.integers(1, size - 1))
    mel = noise(frames)
    (only,) = cut(mel, FixedLength(size, 1), sizes)
    assert only.mel.tobytes() == np.tile(mel, size)[:, :size].tobytes()
    middle = clips.centres(1, frames, FixedLength(size, 1))
    assert 0 <= middle[0] <= frames - 1


def test_a_mel_of_whole_steps_has_no_window_twice():
    cut_clips = clips.cut(noise(40), FixedLength(20, 10))
    assert len(cut_clips) == len({clip.mel.tobytes() for clip in cut_clips}) == 3
    assert len(clips.cut(noise(20), FixedLength(20, 10))) == 1
    assert len(clips.cut(noise(41), FixedLength(20, 10))) == 4


@pytest.mark.parametrize("pieces", [[], [noise(0)], [noise(0), noise(0)]])
def test_a_mel_without_frames_raises_an_error(pieces):
    cutter = Cutter(FixedLength(20, 10))
    for piece in pieces:
        assert cutter.push(piece) == []
    with pytest.raises(AudioError, match="no frames") as caught:
        cutter.finish()
    assert caught.value.reason == "too-short"


# ---------------------------------------------------------------- both


@pytest.mark.parametrize("lengths", [RHO_5, FixedLength(400, 200), FixedLength(400, 1 + 399)])
@pytest.mark.parametrize("size", [1, 37, 64, 1_000])
def test_memory_is_bounded_by_some_clips_and_a_block(lengths, size):
    piece = np.zeros((BANDS, size), np.float32)
    count = max(40, 8_000 // size)
    clip = 512 * BANDS * 4
    tracemalloc.start()
    cutter = Cutter(lengths, clip_frames=512)
    for _ in range(count):
        cutter.push(piece.copy())
    cutter.finish()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    views = 600 * 150  # bytes of the array objects of buffered blocks
    assert peak < 4 * clip + 3 * piece.nbytes + views
    assert peak < count * piece.nbytes / 2


@pytest.mark.parametrize("lengths", [RHO_5, FixedLength(400, 200)])
def test_clips_are_returned_as_soon_as_they_are_complete(lengths):
    cutter = Cutter(lengths, clip_frames=512)
    counts = [len(cutter.push(noise(100))) for _ in range(30)]
    assert sum(counts) > 5
    assert max(counts) == 1
    assert len(cutter.push(noise(5_000))) > 10


@pytest.mark.parametrize("lengths", [RHO_5, FixedLength(400, 200)])
def test_cutting_does_not_change_the_mel(lengths):
    mel = noise(3_000)
    copy = mel.copy()
    first = clips.cut(mel, lengths, clip_frames=512)
    second = clips.cut(mel, lengths, clip_frames=512)
    assert mel.tobytes() == copy.tobytes()
    assert [clip.mel.tobytes() for clip in first] == [clip.mel.tobytes() for clip in second]


def test_pooling_is_the_mean_over_time():
    logits = np.random.default_rng(0).standard_normal((3, 1_000)).astype(np.float32) + np.float32(1e4)
    pooled = clips.pool(logits)
    assert pooled.dtype == np.float32
    np.testing.assert_array_equal(pooled, logits.astype(np.float64).mean(axis=1).astype(np.float32))
    np.testing.assert_array_equal(clips.pool(logits[:, :1]), logits[:, 0])


def test_invalid_lengths_raise():
    for min_frames, stride, size, start in ((0, 1, 1, 0), (1, 0, 1, 0), (1, 1, 0, 0), (1, 1, 1, 1)):
        with pytest.raises(ConfigError, match="start ≤ 0"):
            AnyLength(min_frames, stride, size, start)
    for frames, step in ((10, 0), (10, 11), (0, 0), (0, 1)):
        with pytest.raises(ConfigError, match="stride ≤ frames"):
            FixedLength(frames, step)
    assert AnyLength(17, 16, 87, -35) == RHO_5
    assert (RHO_5.kind, FixedLength(2, 1).kind) == ("any", "fixed")
    assert len({RHO_5, FixedLength(2, 1), FixedLength(2, 1)}) == 2
