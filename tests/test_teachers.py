"""Teachers: windows, cached outputs, other windows, checkpoints, processes, and the published networks."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import models
import teachers
from moodfield import audio, calibration, clips, mel, nets, tags
from moodfield.datasets.mtg_jamendo import Track
from moodfield.distillation import targets
from moodfield.distillation.teachers import jamendo, msd_musicnn, published, teacher
from moodfield.distillation.teachers.teacher import Architecture, Outputs, Teacher
from moodfield.engine import TorchEngine
from moodfield.errors import AudioError, DatasetError, ModelError, UnknownNameError
from moodfield.predictor import LoadedModel, TrackPredictor
from moodfield.training import export
from moodfield.training.recipe import Recipe

RATE = 16_000
"""sample rate of the music, which is that of the teachers on waveforms: nothing is resampled"""


def track(path: str, seconds: float = 1.0) -> Track:
    return Track(path, path, seconds, ())


def write_music(folder: Path, path: str, seconds: float = 5, *, seed: int = 0, rate: int = RATE) -> Track:
    (folder / path).parent.mkdir(exist_ok=True)
    models.save(folder / path, models.music(seconds, seed=seed, rate=rate))
    return track(path, float(seconds))


def stamps(folder: Path) -> dict[Path, int]:
    """Every cached array below a folder, with the time when it was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.npy")}


@pytest.fixture
def tiny(tmp_path: Path) -> Teacher:
    """A tiny teacher with windows of 2 s."""
    return teachers.tiny(tmp_path)


# ---------------------------------------------------------------- windows


def test_the_last_window_ends_with_the_track(tmp_path, tiny):
    write_music(tmp_path, "a.wav", 5.5)
    outputs = tiny.predict(tmp_path / "a.wav")
    np.testing.assert_allclose(outputs.starts, [0, 2, 3.5])
    assert (outputs.seconds, outputs.values.shape) == (2.0, (3, 56))
    waveform = audio.read(tmp_path / "a.wav", sample_rate=RATE).samples
    network = tiny.architecture.load_network(tiny.checkpoint)
    windows = np.stack([waveform[round(start * RATE) :][: 2 * RATE] for start in outputs.starts])
    expected = network(torch.from_numpy(windows)).numpy()
    assert expected.std(axis=0).min() > 0.01
    np.testing.assert_allclose(outputs.values, expected, atol=1e-4)


def test_a_track_of_whole_windows_has_no_further_one(tmp_path, tiny):
    write_music(tmp_path, "a.wav", 6)
    assert tiny.predict(tmp_path / "a.wav").starts.tolist() == [0, 2, 4]


def test_windows_may_overlap(tmp_path):
    overlapping = teachers.tiny(tmp_path, step=0.5)
    write_music(tmp_path, "a.wav", 3.2)
    np.testing.assert_allclose(overlapping.predict(tmp_path / "a.wav").starts, [0, 0.5, 1, 1.2], atol=1e-6)


def test_more_windows_than_a_batch_keep_their_order(tmp_path, tiny):
    write_music(tmp_path, "a.wav", 2 * (2 * teacher.BATCH + 1) + 1)
    outputs = tiny.predict(tmp_path / "a.wav")
    assert len(outputs.starts) == 2 * teacher.BATCH + 2
    waveform = audio.read(tmp_path / "a.wav", sample_rate=RATE).samples
    network = tiny.architecture.load_network(tiny.checkpoint)
    for start, row in list(zip(outputs.starts, outputs.values, strict=True))[:: teacher.BATCH]:
        window = waveform[round(float(start) * RATE) :][: 2 * RATE]
        np.testing.assert_allclose(network(torch.from_numpy(window[None]))[0], row, atol=1e-4)


def test_a_short_track_is_repeated(tmp_path, tiny):
    write_music(tmp_path, "a.wav", 1.25)
    outputs = tiny.predict(tmp_path / "a.wav")
    assert outputs.starts.tolist() == [0]
    waveform = audio.read(tmp_path / "a.wav", sample_rate=RATE).samples
    repeated = np.resize(waveform, 2 * RATE)
    network = tiny.architecture.load_network(tiny.checkpoint)
    np.testing.assert_allclose(outputs.values, network(torch.from_numpy(repeated[None])).numpy(), atol=1e-4)


def test_a_teacher_leaves_the_number_of_threads_as_it_was(tmp_path, tiny):
    [item] = [write_music(tmp_path, "a.wav", 1)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        list(teacher.compute(tiny, [item], tmp_path, tmp_path / "cache"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------- the windows of another teacher


def outputs_of(*values: float, seconds: float = 2.0, step: float | None = None) -> Outputs:
    starts = np.arange(len(values), dtype=np.float32) * (step or seconds)
    return Outputs(starts.astype(np.float32), seconds, np.array(values, np.float32)[:, None])


def test_outputs_for_the_same_windows_are_unchanged():
    drawn = np.random.default_rng(0)
    overlapping = Outputs(np.array([0, 5, 10, 12.5], np.float32), 5.0, drawn.random((4, 7), np.float32))
    np.testing.assert_allclose(overlapping.at(overlapping.starts, 5.0)[0], overlapping.values[0], rtol=1e-6)
    separate = replace(overlapping, starts=np.arange(4, dtype=np.float32) * 5)
    np.testing.assert_allclose(separate.at(separate.starts, 5.0), separate.values, rtol=1e-5)


@pytest.mark.parametrize(
    ("starts", "seconds", "expected"),
    [
        ([1.0], 2.0, [3.0]),  # half of each
        ([1.5], 2.0, [3.5]),  # a quarter and three
        ([0.0], 4.0, [3.0]),
        ([0.0], 6.0, [5.0]),
        ([0.5], 1.0, [2.0]),
        ([0.0, 4.0], 2.0, [2.0, 9.0]),
        ([5.0], 4.0, [9.0]),  # only in part after the last window
        ([1.0], 4.0, [(2 * 1 + 4 * 2 + 9 * 1) / 4]),
    ],
)
def test_outputs_are_weighted_by_overlap(starts, seconds, expected):
    values = outputs_of(2.0, 4.0, 9.0).at(np.array(starts, np.float32), seconds)
    np.testing.assert_allclose(values[:, 0], expected, rtol=1e-5)


def test_a_window_in_a_gap_has_the_nearest_outputs():
    gaps = outputs_of(2.0, 4.0, 9.0, seconds=1.0, step=4.0)  # 0 … 1, 4 … 5, 8 … 9
    values = gaps.at(np.array([1.5, 2.9, 20.0], np.float32), 0.5)
    np.testing.assert_allclose(values[:, 0], [2.0, 4.0, 9.0])
    middle = gaps.at(np.array([2.0], np.float32), 1.0)  # as far from both
    np.testing.assert_allclose(middle[:, 0], [3.0])


# ---------------------------------------------------------------- the cache


def test_outputs_of_every_window_are_computed_once(tmp_path):
    """The outputs are those of the code that tags songs, for the windows of the organisers' baseline."""
    tracks = [write_music(tmp_path, "songs/a.wav", 65, rate=8_000), track("songs/none.wav")]
    tracks.append(write_music(tmp_path, "songs/b.wav", 5, seed=1, rate=8_000))
    source, cache = teachers.vggish(teachers.write_checkpoint(tmp_path / "best_model.pth")), tmp_path / "cache"
    results = list(teacher.compute(source, tracks, tmp_path, cache))
    assert [item for item, _ in results] == tracks
    assert isinstance(results[1][1], AudioError)
    readable = [tracks[0], tracks[2]]
    outputs = list(teacher.load(source, readable, tmp_path, cache))
    assert [item.values.shape for item in outputs] == [(4, 56), (1, 56)]
    net = teachers.vgg()
    recipe = Recipe(net=net.config, mel=mel.ORGANISERS)
    predictor = TrackPredictor(LoadedModel(export.describe(recipe, net, tags.MOODS_AND_THEMES), TorchEngine(net)))
    predictor.push(mel.spectrogram(audio.read(tmp_path / "songs" / "a.wav", sample_rate=12_000), mel.ORGANISERS))
    expected = predictor.finish().logits.T
    assert expected.std() > 0.01
    np.testing.assert_allclose(outputs[0].values, expected, atol=1e-4)
    np.testing.assert_allclose(np.diff(outputs[0].starts)[:-1], targets.STEP_SECONDS, rtol=1e-5)
    assert outputs[0].seconds == pytest.approx(targets.WINDOW_SECONDS)
    assert pytest.approx(683 * 256 / 12_000) == targets.STEP_SECONDS
    before = stamps(tmp_path)
    assert len(before) == 2
    assert all(isinstance(result, Path) for _, result in teacher.compute(source, readable, tmp_path, cache))
    assert stamps(tmp_path) == before


def test_cached_outputs_are_those_predicted(tmp_path, tiny):
    item = write_music(tmp_path, "a.wav", 5.5)
    list(teacher.compute(tiny, [item], tmp_path, tmp_path / "cache"))
    [loaded] = teacher.load(tiny, [item], tmp_path, tmp_path / "cache")
    predicted = tiny.predict(tmp_path / "a.wav")
    assert loaded.seconds == predicted.seconds
    np.testing.assert_array_equal(loaded.starts, predicted.starts)
    np.testing.assert_array_equal(loaded.values, predicted.values)


def test_outputs_of_changed_audio_and_damaged_files_are_computed_anew(tmp_path, tiny):
    cache, values = tmp_path / "cache", []
    for seed in (0, 1):
        tracks = [write_music(tmp_path, "a.wav", seed=seed)]
        [(_, path)] = teacher.compute(tiny, tracks, tmp_path, cache)
        [loaded] = teacher.load(tiny, tracks, tmp_path, cache)
        values.append(loaded.values)
    assert not np.array_equal(*values)
    complete = path.read_bytes()
    for damaged in (b"", complete[:-4], complete.replace(b"<f4", b"<i4"), b"\x93NUMPY"):
        path.write_bytes(damaged)
        with pytest.raises(DatasetError, match="computed anew"):
            list(teacher.load(tiny, tracks, tmp_path, cache))
        list(teacher.compute(tiny, tracks, tmp_path, cache))
        assert path.read_bytes() == complete
    path.write_bytes(complete[:-8] + np.array([np.nan, 1], "<f4").tobytes())
    with pytest.raises(DatasetError, match="finite"):
        list(teacher.load(tiny, tracks, tmp_path, cache))


def test_audio_that_was_never_computed_raises(tmp_path, tiny):
    with pytest.raises(DatasetError, match=r"a\.wav"):
        list(teacher.load(tiny, [write_music(tmp_path, "a.wav")], tmp_path, tmp_path / "cache"))


def test_teachers_and_checkpoints_have_caches_of_their_own(tmp_path):
    one, other = (teachers.tiny(tmp_path, name, seed=seed) for seed, name in enumerate(("one", "other")))
    item = write_music(tmp_path, "a.wav")
    folders = set()
    for source in (one, other):
        [(_, path)] = teacher.compute(source, [item], tmp_path, tmp_path / "cache")
        assert path.is_relative_to(source.cache_folder(tmp_path / "cache"))
        folders.add(source.cache_folder(tmp_path / "cache"))
    one.checkpoint.write_text("other weights")
    folders.add(Teacher(one.name, one.checkpoint, one.architecture).cache_folder(tmp_path / "cache"))
    assert len(folders) == 3
    first, second = (next(teacher.load(source, [item], tmp_path, tmp_path / "cache")) for source in (one, other))
    assert not np.allclose(first.values, second.values)


def test_a_teacher_can_be_sent_to_a_process(tmp_path, tiny):
    write_music(tmp_path, "a.wav", 3)
    sent = pickle.loads(pickle.dumps(tiny))  # noqa: S301
    assert sent == tiny
    np.testing.assert_array_equal(sent.predict(tmp_path / "a.wav").values, tiny.predict(tmp_path / "a.wav").values)
    assert all(pickle.loads(pickle.dumps(source)) == source for source in published.teachers(tmp_path))  # noqa: S301


@pytest.mark.slow  # starts processes that import torch
def test_processes_compute_the_same(tmp_path, tiny):
    tracks = [write_music(tmp_path, f"{seed}.wav", 3, seed=seed) for seed in range(3)]
    results = {}
    for jobs in (1, 2):
        cache = tmp_path / f"cache-{jobs}"
        assert [item for item, _ in teacher.compute(tiny, tracks, tmp_path, cache, jobs=jobs)] == tracks
        results[jobs] = np.concatenate([outputs.values for outputs in teacher.load(tiny, tracks, tmp_path, cache)])
    np.testing.assert_array_equal(results[1], results[2])


# ---------------------------------------------------------------- checkpoints


def test_missing_checkpoint_raises(tmp_path):
    missing = published.teacher(published.VGGISH, tmp_path / "none.pth")
    with pytest.raises(ModelError, match=r"none\.pth"):
        missing.cache_folder(tmp_path)
    with pytest.raises(ModelError, match=r"none\.pth"):
        list(teacher.compute(missing, [track("a.wav")], tmp_path, tmp_path / "cache"))
    for source in published.teachers(tmp_path):
        write_music(tmp_path, "a.wav", 1)
        with pytest.raises(ModelError, match=source.checkpoint.name):
            source.predict(tmp_path / "a.wav")


def test_a_checkpoint_of_another_network_raises(tmp_path):
    """Every published network takes its own checkpoint alone."""
    torch.manual_seed(0)
    tensors = {name: tensor for name, tensor in jamendo.NETWORKS["fcn"]().state_dict().items() if "mel" not in name}
    checkpoint = tmp_path / "fcn.pth"
    torch.save(
        tensors | {"spec.mel_scale.fb": torch.rand(257, 96), "spec.spectrogram.window": torch.ones(512)}, checkpoint
    )
    published.ARCHITECTURES["jamendo_fcn"].load(checkpoint)
    for name in set(published.ARCHITECTURES) - {"jamendo_fcn"}:
        with pytest.raises(ModelError):
            published.ARCHITECTURES[name].load(checkpoint)


def test_the_error_of_a_wrong_checkpoint_comes_with_the_track(tmp_path):
    source = published.teacher("jamendo_crnn", teachers.write_checkpoint(tmp_path / "net.pth"))
    [(_, result)] = teacher.compute(source, [write_music(tmp_path, "a.wav", 1)], tmp_path, tmp_path / "cache")
    assert isinstance(result, ModelError)


# ---------------------------------------------------------------- published teachers


def test_published_teachers():
    assert list(published.CHECKPOINTS) == list(published.ARCHITECTURES)
    found = {source.name: source for source in published.teachers("folder")}
    assert found["vggish"] == published.teacher("vggish", Path("folder") / "vggish" / "best_model.pth")
    assert found["vggish"].vocabulary == tags.MOODS_AND_THEMES
    assert found["msd_musicnn"].vocabulary == msd_musicnn.VOCABULARY
    assert all(found[name].vocabulary == jamendo.VOCABULARY for name in found if name.startswith("jamendo"))
    with pytest.raises(UnknownNameError, match="vggish"):
        published.teacher("vgish", "best.pth")


@pytest.mark.parametrize("name", published.ARCHITECTURES)
def test_published_networks_are_architectures(name):
    architecture = published.ARCHITECTURES[name]
    assert isinstance(architecture, Architecture)
    assert architecture.n_outputs >= len(architecture.vocabulary)
    seconds = architecture.lengths.frames / architecture.frame_rate
    assert seconds == pytest.approx(
        {"vggish": targets.WINDOW_SECONDS, "msd_musicnn": 186 * 256 / 16_000, "jamendo_musicnn": 3}.get(name, 29)
    )


@pytest.mark.parametrize("name", ["jamendo_crnn", "jamendo_musicnn", "msd_musicnn"])
def test_windows_are_long_enough_for_their_network(tmp_path, name):
    """A network with random weights takes the windows, and returns as many outputs as it should."""
    torch.manual_seed(0)
    kinds = {"jamendo_crnn": jamendo.CRNN, "jamendo_musicnn": jamendo.Musicnn, "msd_musicnn": msd_musicnn.MSDMusicnn}
    architecture = replace(published.ARCHITECTURES[name], load_network=lambda _: kinds[name]().eval())
    source = Teacher(name, teachers.write_checkpoint(tmp_path / "net"), architecture)
    write_music(tmp_path, "a.wav", 1)
    assert source.predict(tmp_path / "a.wav").values.shape == (1, architecture.n_outputs)


# ---------------------------------------------------------------- real data


@pytest.mark.golden
def test_published_checkpoint_is_run_once(data, tmp_path):
    """The teacher has the logits of the network as float32; bfloat16, where it is native, changes them a little."""
    source = published.teacher(published.VGGISH, data / "vggish" / "best_model.pth")
    path = sorted((data / "emotify" / "audio").iterdir())[0]
    item = track(path.name)
    [(_, stored)] = teacher.compute(source, [item], path.parent, tmp_path)
    before = stamps(tmp_path)
    assert [result for _, result in teacher.compute(source, [item], path.parent, tmp_path)] == [stored]
    assert stamps(tmp_path) == before
    [outputs] = teacher.load(source, [item], path.parent, tmp_path)
    waveform = audio.read(path, sample_rate=mel.ORGANISERS.sample_rate)
    windows = clips.cut(mel.spectrogram(waveform, mel.ORGANISERS), source.architecture.lengths)
    with torch.inference_mode():
        net = nets.load_pretrained(source.checkpoint)
        expected = net(torch.from_numpy(np.stack([clip.mel for clip in windows]))).numpy()
    assert expected.std() > 0.5
    np.testing.assert_allclose(outputs.values, expected, atol=0.1)


MUSIC = Path(__file__).parent.parent / ".cache" / "music"
WINDOWS, COUNT = 6, 3
"""windows of the tested tracks, and how many of them; shorter tracks depend more on the resampler, by up to .017"""


@pytest.mark.golden
def test_scores_of_the_baseline_are_the_published_ones(data):
    with np.load(data / "debian-music" / "teacher_scores.npz", allow_pickle=False) as stored:
        packages, names, expected, counts = (stored[name] for name in ("package", "path", "track", "windows"))
    files = {row: MUSIC / packages[row] / names[row] for row in np.flatnonzero(counts == WINDOWS)}
    chosen = [row for row, file in files.items() if file.is_file()][:COUNT]
    if len(chosen) < COUNT:
        pytest.skip("the music of the manifest is not in .cache/music: make music")
    source = published.teacher(published.VGGISH, data / "vggish" / "best_model.pth")
    for row in chosen:
        outputs = source.predict(files[row])
        assert len(outputs.values) == WINDOWS
        scores = calibration.sigmoid(outputs.values.astype(np.float64)).mean(axis=0)
        np.testing.assert_allclose(scores, expected[row], atol=0.01)
