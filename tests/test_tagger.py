"""Tagger: loading models, tagging whole tracks and blocks alike, ensembles, many files, and the public names."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import models
import moodfield
from models import MEL, RATE, THRESHOLDS, VOCABULARY, Exported
from moodfield import audio, card, mel, tagger, tags
from moodfield.audio import Waveform
from moodfield.calibration import Calibration
from moodfield.clips import AnyLength, FixedLength
from moodfield.engine import Output, TorchEngine
from moodfield.errors import AudioError, ModelError, MoodfieldWarning, UnknownNameError, WorkerCrashedError
from moodfield.predictor import LoadedModel
from moodfield.tagger import Tagger
from moodfield.tagging import OverTime, Tagging

SECONDS = 20.3


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save(tmp_path_factory.mktemp("music") / "song.flac", models.music(SECONDS, seed=3))


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six files, of which the second is not audio and the fifth is missing."""
    folder = tmp_path_factory.mktemp("album")
    paths = [models.save(folder / f"{n}.wav", models.music(3 + n, seed=n)) for n in range(6)]
    paths[1].write_bytes(b"no music at all")
    paths[4].unlink()
    return paths


@pytest.fixture
def cp_tagger(cp_model: Exported) -> Tagger:
    return tagger.load(cp_model.folder, threads=1)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def logit(scores: np.ndarray) -> np.ndarray:
    return np.log(scores.astype(np.float64)) - np.log1p(-scores.astype(np.float64))


def whole(model: Exported, source: audio.Source, config: mel.MelConfig = MEL) -> np.ndarray:
    """Logits over time by torch, from a mel made in one piece."""
    made = mel.spectrogram(audio.read(source, sample_rate=config.sample_rate), config)
    engine = TorchEngine(model.net)
    return engine.forward_head(engine.forward_features(np.ascontiguousarray(made[None]))).logits[0]


class Stub:
    """An engine whose logits are a function of the clip."""

    def __init__(self, compute: Callable[[np.ndarray], np.ndarray]) -> None:
        self._compute = compute

    def forward_features(self, mels: np.ndarray) -> np.ndarray:
        return np.stack([self._compute(each) for each in mels]).astype(np.float32)

    def forward_head(self, features: np.ndarray) -> Output:
        return Output(features, None)


# ---------------------------------------------------------------- finding models


def test_models_load_by_folder_by_run_and_by_name(cp_model, tmp_path, monkeypatch, song):
    wanted = tagger.load(cp_model.folder).tag(song)
    shutil.copytree(cp_model.folder, tmp_path / "run" / "best")
    shutil.copytree(cp_model.folder, tmp_path / "pretrained" / "mine")
    monkeypatch.setattr(tagger, "PRETRAINED", tmp_path / "pretrained")
    assert tagger.pretrained_models() == {"mine": tmp_path / "pretrained" / "mine"}
    for what in (str(cp_model.folder), tmp_path / "run", "mine"):
        loaded = tagger.load(what)
        assert loaded.vocabulary == VOCABULARY
        assert loaded.theme_vocabulary == ("film",)
        np.testing.assert_array_equal(loaded.tag(song).scores, wanted.scores)


def test_the_default_model_is_loaded_without_a_name(cp_model, tmp_path, monkeypatch):
    shutil.copytree(cp_model.folder, tmp_path / "default")
    monkeypatch.setattr(tagger, "PRETRAINED", tmp_path)
    assert tagger.load().models[0].card == cp_model.card


def test_an_unknown_name_raises_with_a_suggestion(cp_model, tmp_path, monkeypatch):
    shutil.copytree(cp_model.folder, tmp_path / "mine")
    monkeypatch.setattr(tagger, "PRETRAINED", tmp_path)
    with pytest.raises(UnknownNameError, match="did you mean mine"):
        tagger.load("mime")
    for name in ("x" * 5_000, "a\0b", str(cp_model.folder / card.NETWORK)):
        with pytest.raises(UnknownNameError, match="unknown model"):
            tagger.load(name)


def test_a_folder_without_a_card_raises(tmp_path):
    with pytest.raises(ModelError, match=r"without a card\.json"):
        tagger.load(tmp_path)


def test_the_bundled_model_has_the_56_moods_and_themes():
    bundled = moodfield.load()
    assert bundled.vocabulary == tags.MOODS_AND_THEMES
    assert set(bundled.theme_vocabulary) == tags.THEMES


@pytest.mark.parametrize("has_statistics", [False, True])
def test_the_documented_program_without_moodfield_gives_the_same_scores(tmp_path, monkeypatch, has_statistics):
    bundled = card.Card.read(tagger.model_folder("default"))
    statistics = card.LogitStatistics(100, (-4.0,) * 56, tuple(np.linspace(0.1, 2, 56))) if has_statistics else None
    shutil.copytree(tagger.model_folder("default"), tmp_path / "default")
    replace(bundled, statistics=statistics, thresholds=(0.03,) * 56).write(tmp_path / "default")
    monkeypatch.setattr(tagger, "PRETRAINED", tmp_path)
    page = (Path(__file__).parents[1] / "docs" / "tag.md").read_text(encoding="utf-8")
    [_, chapter] = page.split("\n## The network without moodfield\n")
    program = chapter.split("```python\n")[1].split("```")[0]
    song = models.save(tmp_path / "song.ogg", models.music(41, rate=44_100))
    monkeypatch.chdir(tmp_path)
    values: dict[str, object] = {}
    exec(compile(program, "docs/tag.md", "exec"), values)
    tagging = moodfield.load().tag(song)
    np.testing.assert_allclose(values["scores"], tagging.scores, rtol=2e-3)
    assert set(values["decided"]) == set(tagging.decided) != set()
    assert (len(tagging.decided) < np.count_nonzero(tagging.scores > tagging.thresholds)) == has_statistics


# ---------------------------------------------------------------- invalid models raise when they are loaded


def test_a_damaged_file_raises(cp_model, tmp_path):
    folder = shutil.copytree(cp_model.folder, tmp_path / "damaged")
    network = bytearray((folder / card.NETWORK).read_bytes())
    network[len(network) // 2] ^= 1
    (folder / card.NETWORK).write_bytes(network)
    with pytest.raises(ModelError, match="is damaged"):
        tagger.load(folder)


def test_weights_that_are_not_finite_raise(cp_model, tmp_path):
    folder = shutil.copytree(cp_model.folder, tmp_path / "nan")
    network = onnx.load(folder / card.NETWORK)
    weights = max(network.graph.initializer, key=lambda each: len(each.raw_data))
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32("nan"), weights.name))
    onnx.save(network, folder / card.NETWORK)
    sums = dict(cp_model.card.sha256) | {card.NETWORK: hashlib.sha256((folder / card.NETWORK).read_bytes()).hexdigest()}
    replace(cp_model.card, sha256=sums).write(folder)
    with pytest.raises(ModelError, match="finite"):
        tagger.load(folder)


def test_a_card_with_another_number_of_tags_raises(cp_model, tmp_path):
    fewer = {"vocabulary": VOCABULARY[:4], "thresholds": THRESHOLDS[:4], "outputs": {}, "reference_logits": ()}
    folder = models.varied(cp_model, tmp_path / "four", **fewer)
    with pytest.raises(ModelError, match="expected 4"):
        tagger.load(folder)


@pytest.mark.parametrize("bands", [1, MEL.n_mels - 1, 256])
def test_a_card_with_another_number_of_bands_raises(cp_model, tmp_path, bands):
    folder = models.varied(cp_model, tmp_path / "bands", mel=replace(MEL, n_mels=bands))
    with pytest.raises(ModelError, match=rf"\(1, {bands}, 17\)"):
        tagger.load(folder)


@pytest.mark.parametrize(
    ("values", "token"),
    [
        ({"format": 3}, "format 3"),
        ({"mel": {"sample_rate": 1}}, "sample_rate"),
        ({"thresholds": [0.5]}, "1 thresholds"),
        ({"sha256": {"../model.onnx": "0" * 64}}, "outside"),
    ],
)
def test_an_invalid_card_raises(cp_model, tmp_path, values, token):
    with pytest.raises(ModelError, match=token):
        tagger.load(models.rewritten(cp_model, tmp_path / "wrong", values))


def test_no_models_and_different_vocabularies_raise(cp_model, tmp_path):
    with pytest.raises(ModelError, match="at least one"):
        Tagger([])
    other = models.varied(cp_model, tmp_path / "other", name="other", vocabulary=VOCABULARY[::-1])
    with pytest.raises(ModelError, match="vocabularies"):
        tagger.load(cp_model.folder, other)


# ---------------------------------------------------------------- one model


def test_a_file_is_tagged(cp_model, cp_tagger, song):
    tagging = cp_tagger.tag(song)
    logits = whole(cp_model, song)
    assert logits.std() > 0.1
    np.testing.assert_allclose(tagging.scores, sigmoid(logits.mean(axis=1)), atol=1e-5)
    np.testing.assert_allclose(tagging.over_time.scores, sigmoid(logits), atol=1e-5)
    assert tagging.duration == pytest.approx(SECONDS, abs=1e-3)
    assert (tagging.source, tagging.model) == (str(song), "cp_resnet")
    assert (tagging.vocabulary, tagging.theme_vocabulary) == (VOCABULARY, ("film",))
    np.testing.assert_array_equal(tagging.thresholds, np.float32(THRESHOLDS))
    assert tagging.scores.dtype == tagging.over_time.scores.dtype == tagging.over_time.seconds.dtype == np.float32


def test_paths_and_waveforms_are_the_same_music(cp_tagger, song):
    from_path = cp_tagger.tag(song)
    waveform = audio.read(song, sample_rate=RATE)
    for source in (str(song), waveform):
        tagging = cp_tagger.tag(source)
        np.testing.assert_array_equal(tagging.scores, from_path.scores)
        np.testing.assert_array_equal(tagging.over_time.scores, from_path.over_time.scores)
    assert cp_tagger.tag(waveform).source == "waveform"
    np.testing.assert_array_equal(cp_tagger.tag(song).scores, from_path.scores)  # and again


def test_the_tagging_has_the_peak_envelope(cp_tagger, song):
    """It is computed in the first of two passes and is not in `to_dict`."""
    waveform = audio.read(song, sample_rate=RATE)
    tagging, envelope = cp_tagger.tag(song), cp_tagger.tag(waveform).envelope
    span = round(tagging.envelope.seconds * RATE)
    wanted = [min(1, abs(waveform.samples[at : at + span]).max()) for at in range(0, len(waveform.samples), span)]
    np.testing.assert_array_equal(tagging.envelope.peaks, np.float32(wanted))
    np.testing.assert_array_equal(envelope.peaks, tagging.envelope.peaks)
    assert "envelope" not in tagging.to_dict(over_time=True)


def test_another_rate_is_the_same_music(cp_tagger):
    times = [np.arange(12 * rate) / rate for rate in (RATE, 2 * RATE)]
    tones = [np.float32(0.3) * np.sin(2 * np.pi * 440 * time).astype(np.float32) for time in times]
    one, other = (cp_tagger.tag(Waveform(tone, len(tone) // 12)) for tone in tones)
    assert one.duration == pytest.approx(other.duration, abs=1e-3)
    np.testing.assert_allclose(one.scores, other.scores, atol=0.02)


@pytest.mark.parametrize("name", ["cp_model", "fa_model"])
@pytest.mark.parametrize("clip_frames", [256, 301, 512, 2_048, 100_000])
def test_scores_do_not_depend_on_the_clip_length(request, song, name, clip_frames):
    model = request.getfixturevalue(name)
    loaded = tagger.load(model.folder, threads=1).models[0]
    tagging = Tagger([loaded], clip_frames=clip_frames).tag(song)
    logits = whole(model, song)
    np.testing.assert_allclose(tagging.scores, sigmoid(logits.mean(axis=1)), atol=1e-5)
    np.testing.assert_allclose(tagging.over_time.scores, sigmoid(logits), atol=1e-5)


@pytest.mark.parametrize("clip_frames", [256, 2_048])
def test_the_embedding_is_the_mean_of_the_last_feature_map(fa_model, song, clip_frames):
    loaded = tagger.load(fa_model.folder, threads=1).models[0]
    tagging = Tagger([loaded], clip_frames=clip_frames).tag(song)
    made = mel.spectrogram(audio.read(song, sample_rate=MEL.sample_rate), MEL)
    features = TorchEngine(fa_model.net).forward_features(np.ascontiguousarray(made[None]))[0].mean(axis=1)
    assert tagging.embedding.shape == (fa_model.card.outputs["embedding"],) == features.shape
    np.testing.assert_allclose(tagging.embedding, features, rtol=1e-4, atol=1e-5)
    assert tagging.to_dict(embedding=True)["embedding"] == pytest.approx(tagging.embedding.tolist(), rel=1e-5)
    assert "embedding" not in tagging.to_dict()


def test_embeddings_of_several_models_follow_each_other(cp_model, fa_model, song):
    parts = [tagger.load(model.folder).tag(song).embedding for model in (cp_model, fa_model)]
    both = tagger.load(cp_model.folder, fa_model.folder).tag(song).embedding
    np.testing.assert_array_equal(both, np.concatenate(parts))


def test_a_network_without_an_embedding_has_none(cp_model):
    stub = LoadedModel(cp_model.card, Stub(lambda clip: np.zeros((len(cp_model.card.vocabulary), 4))))
    tagging = Tagger([stub]).tag(models.music(5))
    assert tagging.embedding is None
    assert tagging.to_dict(embedding=True)["embedding"] is None


def test_threads_do_not_change_scores(cp_model, song):
    one, two = (tagger.load(cp_model.folder, threads=threads).tag(song).scores for threads in (1, 2))
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_predict_from_a_mel_gives_the_same_scores(cp_tagger, song):
    made = mel.spectrogram(audio.read(song, sample_rate=RATE), MEL)
    wanted = cp_tagger.tag(song).scores
    for parts in (1, 7, 200):
        np.testing.assert_allclose(cp_tagger.predict([np.array_split(made, parts, axis=1)]), wanted, atol=1e-6)
    with pytest.raises(ValueError, match="zip"):
        cp_tagger.predict([])


@pytest.mark.parametrize("seconds", [1.0, 1.7, 5.0, 61.0])
@pytest.mark.parametrize("name", ["cp_model", "fa_model"])
def test_logits_over_time_average_to_the_track_and_stay_within_it(request, name, seconds):
    tagging = tagger.load(request.getfixturevalue(name).folder, threads=1).tag(models.music(seconds, seed=5))
    times, scores = tagging.over_time.seconds, tagging.over_time.scores
    assert scores.shape == (len(VOCABULARY), len(times))
    assert (np.diff(times) > 0).all()
    assert times[0] >= 0
    assert times[-1] <= tagging.duration
    np.testing.assert_allclose(logit(scores).mean(axis=1), logit(tagging.scores), atol=1e-4)
    if seconds > 4:  # away from the ends, every 16 frames
        np.testing.assert_allclose(np.diff(times[2:-3]), 16 * MEL.hop_length / MEL.sample_rate, rtol=1e-4)
        assert times[-1] > tagging.duration - 1


def test_a_local_change_changes_scores_at_its_time(cp_model, cp_tagger):
    """A change in the middle of the track changes the scores in its middle, and nowhere else."""
    quiet = models.music(20, seed=8)
    loud = quiet.samples.copy()
    loud[10 * RATE : 11 * RATE] += 0.2 * np.sin(2 * np.pi * 1_500 * np.arange(RATE) / RATE).astype(np.float32)
    loud[:100] += 0.9  # the loudest cell, by which the floor is set, is in both
    calm = quiet.samples.copy()
    calm[:100] += 0.9
    one, other = (cp_tagger.tag(Waveform(samples, RATE)).over_time for samples in (calm, loud))
    apart = np.abs(logit(one.scores) - logit(other.scores)).max(axis=0)
    changed = one.seconds[apart > 1e-2]
    assert isinstance(cp_model.card.lengths, AnyLength)
    reach = cp_model.card.lengths.receptive_field / 2 * MEL.hop_length / MEL.sample_rate
    assert len(changed) > 1
    assert 10 - reach - 0.1 < changed.min() < 11
    assert 10 < changed.max() < 11 + reach + 0.1


def test_windows_of_a_fixed_length_cover_the_whole_track(cp_model):
    """The logits are the mean of each window, so that times and values are known."""
    lengths = FixedLength(100, 50)
    stated = replace(cp_model.card, lengths=lengths)
    tags = len(VOCABULARY)
    frames: list[int] = []

    def compute(clip: np.ndarray) -> np.ndarray:
        frames.append(clip.shape[1])
        return np.full((tags, 1), clip.mean())

    tagging = Tagger([LoadedModel(stated, Stub(compute))]).tag(models.music(5, seed=2))
    made = mel.spectrogram(models.music(5, seed=2), MEL)
    starts = [*range(0, made.shape[1] - 100, 50), made.shape[1] - 100]
    assert frames == [100] * len(starts)
    means = np.array([made[:, start : start + 100].mean() for start in starts])
    np.testing.assert_allclose(tagging.over_time.scores[0], sigmoid(means), atol=1e-5)
    np.testing.assert_allclose(tagging.scores, sigmoid(means.mean()), atol=1e-5)
    np.testing.assert_allclose(
        tagging.over_time.seconds, (np.array(starts) + 49.5) * MEL.hop_length / MEL.sample_rate, atol=1e-4
    )
    short = Tagger([LoadedModel(stated, Stub(compute))]).tag(models.music(1, seed=2))
    assert frames[-1] == 100
    assert 0 <= short.over_time.seconds[0] <= short.duration
    assert len(short.over_time.seconds) == 1


@pytest.mark.slow
@pytest.mark.parametrize("clip_frames", [400, 1_000, 2_048, 100_000])
def test_pooling_a_whole_track_does_not_depend_on_the_clip_length(crnn_model, song, clip_frames):
    model = tagger.load(crnn_model.folder, threads=1).models[0]
    tagging = Tagger([model], clip_frames=clip_frames).tag(song)
    logits = whole(crnn_model, song)
    assert logits.shape == (len(VOCABULARY), 1)
    assert logits.std() > 0.1
    np.testing.assert_allclose(tagging.scores, sigmoid(logits[:, 0]), atol=1e-5)
    np.testing.assert_allclose(tagging.over_time.scores, sigmoid(logits), atol=1e-5)
    np.testing.assert_allclose(tagging.over_time.seconds, tagging.duration / 2, atol=MEL.hop_length / MEL.sample_rate)


@pytest.mark.slow
def test_pooling_a_whole_track_depends_on_the_order_of_its_parts(crnn_model):
    """Otherwise a mean of clips would pass the test above."""
    one, other = models.music(20, seed=1).samples, models.music(20, seed=2).samples
    loaded = tagger.load(crnn_model.folder, threads=1)
    forth, back = (loaded.tag(Waveform(np.concatenate(parts), RATE)).scores for parts in ((one, other), (other, one)))
    assert np.abs(forth - back).max() > 0.01


@pytest.mark.slow
def test_pooling_and_convolutional_models_are_averaged(cp_model, crnn_model, song):
    both = tagger.load(cp_model.folder, crnn_model.folder, threads=1).tag(song)
    alone = [tagger.load(model.folder, threads=1).tag(song) for model in (cp_model, crnn_model)]
    np.testing.assert_allclose(both.scores, np.mean([each.scores for each in alone], axis=0), atol=1e-6)
    assert len(both.over_time.seconds) == len(alone[0].over_time.seconds) > 1
    turned = tagger.load(crnn_model.folder, cp_model.folder, threads=1).tag(song)
    np.testing.assert_allclose(turned.over_time.scores, both.over_time.scores, atol=1e-6)
    np.testing.assert_array_equal(turned.over_time.seconds, both.over_time.seconds)


# ---------------------------------------------------------------- several models


@pytest.fixture
def slower(cp_model: Exported, tmp_path: Path) -> Exported:
    """The same network with half as many frames per second."""
    config = replace(MEL, hop_length=1024)
    folder = models.varied(cp_model, tmp_path / "slower", name="slower", mel=config, thresholds=(0.1,) * 5)
    return replace(cp_model, folder=folder)


def test_several_models_are_averaged_after_the_sigmoid(cp_model, fa_model, slower, song):
    logits = [whole(cp_model, song), whole(fa_model, song), whole(slower, song, replace(MEL, hop_length=1024))]
    together = tagger.load(cp_model.folder, fa_model.folder, slower.folder).tag(song)
    wanted = np.mean([sigmoid(each.mean(axis=1)) for each in logits], axis=0)
    np.testing.assert_allclose(together.scores, wanted, atol=1e-5)
    assert (
        np.abs(wanted - sigmoid(np.mean([each.mean(axis=1) for each in logits], axis=0))).max() > 1e-4
    )  # not before it
    assert together.model == "cp_resnet+fa_resnet+slower"
    thresholds = np.mean([THRESHOLDS, THRESHOLDS, (0.1,) * 5], axis=0)
    np.testing.assert_allclose(together.thresholds, thresholds, rtol=1e-6)
    assert together.thresholds[-1] == np.inf  # never decided by one, never decided by all


def test_scores_over_time_are_interpolated_to_the_times_of_the_first_model(cp_model, slower, song):
    alone = [tagger.load(each.folder).tag(song).over_time for each in (cp_model, slower)]
    assert len(alone[0].seconds) > 1.9 * len(alone[1].seconds)
    for first, second, folders in [(*alone, (cp_model, slower)), (*alone[::-1], (slower, cp_model))]:
        together = tagger.load(*(each.folder for each in folders)).tag(song).over_time
        np.testing.assert_array_equal(together.seconds, first.seconds)
        moved = [np.interp(first.seconds, second.seconds, row) for row in second.scores]
        np.testing.assert_allclose(together.scores, (first.scores + np.array(moved)) / 2, atol=1e-6)


def test_a_model_averaged_with_itself_gives_the_same_scores(cp_model, cp_tagger, song):
    twice, once = tagger.load(cp_model.folder, cp_model.folder).tag(song), cp_tagger.tag(song)
    np.testing.assert_allclose(twice.scores, once.scores, atol=1e-5)
    np.testing.assert_allclose(twice.over_time.scores, once.over_time.scores, atol=1e-5)
    assert twice.decided == once.decided


def test_predict_takes_a_mel_for_every_model(cp_model, slower, song):
    together = tagger.load(cp_model.folder, slower.folder)
    mels = [[mel.spectrogram(audio.read(song, sample_rate=RATE), member.card.mel)] for member in together.models]
    np.testing.assert_allclose(together.predict(mels), together.tag(song).scores, atol=1e-6)


# ---------------------------------------------------------------- many files


def test_files_that_cannot_be_tagged_give_errors(cp_tagger, songs):
    results = list(cp_tagger.tag_many(songs))
    assert [path for path, _ in results] == songs
    reasons = [each.reason if isinstance(each, AudioError) else "" for _, each in results]
    assert reasons == ["", "not-audio" if _has_av() else "needs-codecs", "", "", "missing", ""]
    for path, each in results:
        if isinstance(each, Tagging):
            np.testing.assert_array_equal(each.scores, cp_tagger.tag(path).scores)


def _has_av() -> bool:
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


def test_other_exceptions_propagate(cp_model, song):
    def compute(_: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(Tagger([LoadedModel(cp_model.card, Stub(compute))]).tag_many([song]))


def test_infinite_logits_in_one_clip_give_an_error(cp_model, song):
    clips = iter(range(10**6))
    compute = lambda clip: np.full((5, clip.shape[1] // 16 + 1), np.inf if next(clips) == 1 else 0.0)  # noqa: E731
    (_, result), (_, after) = Tagger([LoadedModel(cp_model.card, Stub(compute))], clip_frames=300).tag_many(
        [song, song]
    )
    assert isinstance(result, ModelError)
    assert isinstance(after, Tagging)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(3 * RATE), "silent"),
        (np.full(3 * RATE, np.nan), "not-finite"),
        (models.music(0.5).samples, "too-short"),
        (np.zeros(0), "too-short"),
    ],
)
def test_silent_short_and_invalid_samples_give_errors(cp_tagger, samples, reason):
    ((_, result),) = cp_tagger.tag_many([Waveform(samples.astype(np.float32), RATE)])
    assert isinstance(result, AudioError)
    assert result.reason == reason


def test_tag_many_goes_on_after_a_file_with_too_little_memory(cp_tagger, song, monkeypatch):
    tag = cp_tagger.tag

    def lack_memory(source):
        if source is not song:
            raise MemoryError("bad_alloc")
        return tag(source)

    monkeypatch.setattr(cp_tagger, "tag", lack_memory)
    (source, error), (_, tagging) = cp_tagger.tag_many([Path("large.wav"), song])
    assert source == Path("large.wav")
    assert isinstance(error, WorkerCrashedError)
    assert "memory to tag large.wav" in str(error)
    assert isinstance(tagging, Tagging)


def test_tag_many_is_lazy(cp_tagger, song):
    endless = iter(lambda: song, None)
    results = cp_tagger.tag_many(endless)
    assert [next(results)[0] for _ in range(2)] == [song, song]


def test_several_processes_give_the_same_results(cp_model, fa_model, songs):
    what = (cp_model.folder, fa_model.folder)
    alone, together = (list(tagger.tag_files(songs, *what, jobs=jobs)) for jobs in (1, 2))
    assert [path for path, _ in together] == songs
    for (_, one), (_, other) in zip(alone, together, strict=True):
        assert type(one) is type(other)
        if isinstance(one, Tagging) and isinstance(other, Tagging):
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
            np.testing.assert_allclose(one.over_time.scores, other.over_time.scores, atol=1e-5)
            assert (one.decided, one.source, one.duration) == (other.decided, other.source, other.duration)
        else:
            assert str(one) == str(other)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_unusable_model_raises_at_once(songs, tmp_path, jobs):
    with pytest.raises(UnknownNameError):
        next(tagger.tag_files(songs, "nobody", jobs=jobs))
    with pytest.raises(ModelError):
        next(tagger.tag_files(songs, tmp_path, jobs=jobs))


# ---------------------------------------------------------------- taggings


def make_tagging(
    scores: list[float], thresholds: list[float], themes: tuple[str, ...] = (), priors: list[float] | None = None
) -> Tagging:
    vocabulary = tuple(f"tag {n}" for n in range(len(scores)))
    over_time = OverTime(np.zeros(1, np.float32), np.array(scores, np.float32)[:, None])
    levels = np.array(scores, np.float32), np.array(thresholds, np.float32)
    known = None if priors is None else np.array(priors, np.float32)
    return Tagging("x.ogg", 61.25, "tiny", vocabulary, themes, *levels, over_time, priors=known)


def test_a_tag_is_decided_above_its_threshold_and_not_at_it():
    assert make_tagging([0.6, 0.5, 0.4], [0.5, 0.5, 0.5]).decided == ("tag 0",)
    assert make_tagging([1.0, 0.0, 0.3], [np.inf, -np.inf, np.inf]).decided == ("tag 1",)
    assert make_tagging([1.0, 1.0, 0.0], [1.0, 0.0, 0.0]).decided == ("tag 1",)


def test_tags_are_ordered_by_evidence():
    """By how far the score is above the threshold in logits: 0.02 over 0.01 is less than 0.9 over 0.5."""
    tagging = make_tagging([0.02, 0.9, 0.99, 0.3], [0.01, 0.5, 0.98, 0.05], themes=("tag 1",))
    assert tagging.decided == ("tag 1", "tag 3", "tag 0", "tag 2")
    assert tagging.moods == ("tag 3", "tag 0", "tag 2")
    assert tagging.themes == ("tag 1",)
    assert tagging.top(2) == [("tag 1", pytest.approx(0.9)), ("tag 3", pytest.approx(0.3))]
    assert tagging.top(2, by="score") == [("tag 2", pytest.approx(0.99)), ("tag 1", pytest.approx(0.9))]


def test_evidence_is_the_log_odds_against_the_prior():
    tagging = make_tagging([0.5, 0.2, 0.01], [0.1, 0.1, 0.1], priors=[0.5, 0.01, 0.02])
    np.testing.assert_allclose(tagging.evidence, [0, np.log(99 / 4), np.log(49 / 99)], rtol=1e-5, atol=1e-7)
    assert [tag for tag, _ in tagging.top(2, by="score")] == ["tag 0", "tag 1"]
    assert tagging.top(3) == [
        ("tag 1", pytest.approx(0.2)), ("tag 0", pytest.approx(0.5)), ("tag 2", pytest.approx(0.01)),
    ]  # fmt: skip
    assert tagging.decided == ("tag 1", "tag 0")  # those above their thresholds, as ever
    plain = json.loads(json.dumps(tagging.to_dict(), allow_nan=False))
    np.testing.assert_allclose(list(plain["evidence"].values()), tagging.evidence, rtol=1e-5, atol=1e-7)


def test_without_priors_evidence_is_against_the_threshold():
    tagging = make_tagging([0.5, 0.2], [0.5, 0.01])
    np.testing.assert_allclose(tagging.evidence, [0, np.log(99 / 4)], rtol=1e-5, atol=1e-7)
    assert [tag for tag, _ in tagging.top(2)] == ["tag 1", "tag 0"]
    assert tagging.to_dict()["priors"] is None
    assert tagging.to_dict()["evidence"]["tag 0"] == 0


def test_evidence_is_finite_for_scores_and_priors_of_0_and_1():
    tagging = make_tagging([0.0, 1.0, 0.5, 0.0], [0.5] * 4, priors=[0.5, 0.5, 0.0, 0.0])
    assert [tag for tag, _ in tagging.top(2)] == ["tag 1", "tag 2"]
    json.dumps(tagging.to_dict(), allow_nan=False)


SCALED = Calibration((0.5, 0.8, 1.0, 1.5, 2.0), (-1.0, 0.5, 0.0, 0.3, -0.2))
PRIORS = (0.1, 0.2, 0.3, 0.4, 0.5)


@pytest.fixture
def calibrated(cp_model: Exported, tmp_path: Path) -> Path:
    stated = cp_model.card.recalibrated(SCALED, priors=PRIORS)
    changes = {"calibration": SCALED, "priors": PRIORS, "thresholds": stated.thresholds}
    return models.varied(cp_model, tmp_path / "calibrated", **changes)


def test_a_calibration_changes_scores_and_no_decision(cp_model, cp_tagger, calibrated, song):
    before, loaded = cp_tagger.tag(song), tagger.load(calibrated, threads=1)
    tagging = loaded.tag(song)
    logits = whole(cp_model, song)
    slopes, offsets = np.array(SCALED.slopes)[:, None], np.array(SCALED.offsets)[:, None]
    np.testing.assert_allclose(tagging.scores, sigmoid((slopes * logits + offsets).mean(axis=1)), atol=1e-5)
    np.testing.assert_allclose(tagging.over_time.scores, sigmoid(slopes * logits + offsets), atol=1e-5)
    np.testing.assert_allclose(logit(tagging.over_time.scores).mean(axis=1), logit(tagging.scores), atol=1e-3)
    assert np.abs(tagging.scores - before.scores).max() > 0.05
    assert (tagging.scores > tagging.thresholds).tolist() == (before.scores > before.thresholds).tolist()
    np.testing.assert_array_equal(tagging.priors, np.float32(PRIORS))
    made = mel.spectrogram(audio.read(song, sample_rate=RATE), MEL)
    np.testing.assert_allclose(loaded.predict([[made]]), tagging.scores, atol=1e-6)
    np.testing.assert_allclose(loaded.predict_excerpts([made]), tagging.scores, atol=1e-5)
    assert before.priors is None


def test_priors_are_kept_only_if_all_models_have_the_same(cp_model, calibrated, song):
    with pytest.warns(MoodfieldWarning, match="not calibrated"):
        mixed = tagger.load(cp_model.folder, calibrated, threads=1)
    assert mixed.priors is None
    both = tagger.load(calibrated, calibrated, threads=1)
    np.testing.assert_array_equal(both.priors, np.float32(PRIORS))
    alone = [tagger.load(each, threads=1).tag(song).scores for each in (cp_model.folder, calibrated)]
    np.testing.assert_allclose(mixed.tag(song).scores, np.mean(alone, axis=0), atol=1e-6)


levels = st.floats(0, 1, width=32) | st.sampled_from([-np.inf, np.inf])


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, width=32), levels), min_size=1, max_size=8), st.integers(0, 10))
def test_decisions_follow_from_scores_and_thresholds(drawn, count):
    scores, thresholds = (list(each) for each in zip(*drawn, strict=True))
    tagging = make_tagging(scores, thresholds, themes=("tag 0",))
    wanted = {f"tag {n}" for n, (score, threshold) in enumerate(drawn) if np.float32(score) > np.float32(threshold)}
    assert set(tagging.decided) == wanted
    assert len(tagging.decided) == len(wanted)
    assert set(tagging.moods) == wanted - {"tag 0"}
    top = tagging.top(count, by="score")
    assert len(top) == min(count, len(drawn))
    assert all(one[1] >= other[1] for one, other in pairwise(top))
    with np.errstate(divide="ignore", invalid="ignore"):
        places = [int(tag.split()[1]) for tag in tagging.decided]
        references = [thresholds[n] if 0 < thresholds[n] < 1 else 0.5 for n in places]
        evidence = [
            logit(np.array(scores[n])) - logit(np.array(reference))
            for n, reference in zip(places, references, strict=True)
        ]
    assert not any(one < other - 1e-3 for one, other in pairwise(evidence))


def test_to_dict_is_json_and_explains_decisions(cp_tagger, song):
    tagging = cp_tagger.tag(song)
    plain = json.loads(json.dumps(tagging.to_dict(), allow_nan=False))
    keys = "source duration model decided moods themes relative scores times_usual evidence thresholds priors"
    assert list(plain) == keys.split()
    np.testing.assert_allclose(list(plain["thresholds"].values()), np.clip(tagging.thresholds, 0, 1), rtol=1e-5)
    damaged = replace(tagging, warnings=("a frame is damaged",), priors=np.full(5, 0.25, np.float32))
    assert list(damaged.to_dict()) == [*keys.split(), "warnings"]
    assert damaged.to_dict()["priors"] == dict.fromkeys(VOCABULARY, 0.25)
    assert list(plain["scores"]) == list(VOCABULARY)
    np.testing.assert_allclose(list(plain["scores"].values()), tagging.scores, rtol=1e-5)
    assert plain["decided"] == list(tagging.decided)
    assert sorted(plain["moods"] + plain["themes"]) == sorted(plain["decided"])
    assert plain["source"] == str(song)
    longer = json.loads(json.dumps(tagging.to_dict(over_time=True), allow_nan=False))
    assert {key: longer[key] for key in plain} == plain
    np.testing.assert_allclose(longer["over_time"]["seconds"], tagging.over_time.seconds, atol=6e-4)
    np.testing.assert_allclose(list(longer["over_time"]["scores"].values()), tagging.over_time.scores, rtol=1e-5)


def test_taggings_are_hashable(cp_tagger, song):
    tagging = cp_tagger.tag(song)
    assert tagging in {tagging}
    assert tagging != cp_tagger.tag(song)  # as waveforms: one is the same as itself


# ---------------------------------------------------------------- public names and imports


def test_public_names_are_imported_lazily():
    assert moodfield.load is tagger.load
    assert (moodfield.Tagger, moodfield.Tagging) == (Tagger, Tagging)
    assert moodfield.create("cp_resnet", n_mels=64, n_tags=3, width=4).lengths.stride == 16
    assert {"load", "Tagger", "Tagging", "create", "__version__"} <= set(dir(moodfield))
    with pytest.raises(AttributeError, match="lod"):
        moodfield.lod  # noqa: B018


BLOCK_IMPORTS = """
import sys

class BlockedImports:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, BlockedImports())
for name in {blocked}:
    try:
        __import__(name)
    except ImportError as error:
        assert "is blocked" in str(error), error
    else:
        raise SystemExit(f"{{name}} was not blocked")
"""


def run(program: str, *arguments: str | Path, blocked: tuple[str, ...]) -> str:
    text = BLOCK_IMPORTS.format(blocked=set(blocked)) + program
    command = [sys.executable, "-W", "error", "-c", text, *map(str, arguments)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


TRAINING = ("torch", "lightning_fabric", "safetensors", "onnx", "onnxscript")
ORACLES = ("scipy", "sklearn", "librosa", "pytest", "hypothesis", "beartype")


def test_tag_works_without_torch(cp_model, cp_tagger, song):
    program = "from moodfield.cli import main; sys.argv[0] = 'moodfield'; main.main()"
    output = run(program, "tag", song, "--json", "--model", cp_model.folder, blocked=(*TRAINING, *ORACLES, "av"))
    assert json.loads(output)["scores"] == pytest.approx(cp_tagger.tag(song).to_dict()["scores"], abs=1e-5)


def test_the_python_api_works_without_torch(cp_model, song):
    program = "import moodfield; print(moodfield.load(sys.argv[1]).tag(sys.argv[2]).top(1)[0][0])"
    assert run(program, cp_model.folder, song, blocked=(*TRAINING, *ORACLES, "typer", "rich")).strip() in VOCABULARY


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["tag", "--help"]])
def test_help_imports_no_heavy_dependency(arguments):
    program = "from moodfield.cli import main; sys.argv[0] = 'moodfield'; main.main()"
    heavy = ("onnxruntime", "numpy", "soundfile", "soxr", "jaxtyping")
    assert "moodfield" in run(program, *arguments, blocked=(*TRAINING, *heavy))


def test_the_package_imports_no_dependency():
    heavy = ("onnxruntime", "numpy", "soundfile", "soxr", "pydantic", "typer", "rich", "jaxtyping")
    assert run("import moodfield; print(moodfield.__version__)", blocked=(*TRAINING, *heavy)).count(".") == 2


# ---------------------------------------------------------------- real music


def test_scores_of_real_music_do_not_depend_on_the_clip_length(cp_model, data):
    song = data / "emotify" / "audio" / "001.ogg"
    model = tagger.load(cp_model.folder, threads=1).models[0]
    logits = whole(cp_model, song)
    assert logits.std() > 0.1
    for clip_frames in (300, 2_048):
        tagging = Tagger([model], clip_frames=clip_frames).tag(song)
        np.testing.assert_allclose(tagging.over_time.scores, sigmoid(logits), atol=1e-5)
        np.testing.assert_allclose(tagging.scores, sigmoid(logits.mean(axis=1)), atol=1e-5)
    assert tagging.duration == pytest.approx(60, abs=0.5)
