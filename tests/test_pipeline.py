"""The training pipeline: from a dataset on disk to an exported model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import moodfield
from moodfield import card
from moodfield.datasets import mtg_jamendo
from moodfield.datasets.mtg_jamendo import Split, Track
from moodfield.errors import AudioError, ConfigError, DatasetError, MoodfieldError, MoodfieldWarning, RunError
from moodfield.nets import CPResNetConfig
from moodfield.training import checkpoints, loop, pipeline, run_folder, validation
from moodfield.training.batches import ClipDataset
from moodfield.training.log import Epoch
from moodfield.training.pipeline import RunPaths
from moodfield.training.recipe import Recipe
from noises import TAGS

RECIPE = Recipe(net=CPResNetConfig(width=4, rho_freq=3, rho_time=1)).change(
    *("mel.sample_rate=8000", "mel.n_fft=256", "mel.hop_length=128", "mel.n_mels=32"),
    *("batch.clip_seconds=1", "batch.size=4", "augment.roll_frames=3", "augment.mixup_alpha=0.1"),
    *("schedule.warm_up=0", "schedule.constant=3", "schedule.decay=1", "schedule.final=0", "schedule.peak=1e-2"),
    "averaging.every=0", "validate_stride=none",
)  # fmt: skip


@pytest.fixture(scope="module")
def splits(dataset: Path) -> tuple[Split, Split]:
    return tuple(mtg_jamendo.read(dataset / f"{name}.tsv", vocabulary=TAGS) for name in ("train", "validation"))


@pytest.fixture
def run_paths(dataset: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> RunPaths:
    """A run folder of the test, and mels that all tests share."""
    return RunPaths(dataset / "music", dataset / "store", tmp_path / "run")


def with_track(split: Split, path: str) -> Split:
    """The split with one more track, in the middle."""
    return Split((*split.tracks[:3], Track("track_new", path, 1.0, ("low",)), *split.tracks[3:]), split.vocabulary)


def test_a_dataset_becomes_a_model_that_tags(dataset, splits, run_paths):
    progress: list[tuple[str, object]] = []
    epochs: list[Epoch] = []
    train_split = with_track(splits[0], "train/missing.wav")
    model_card = pipeline.train(
        RECIPE, train_split, splits[1], run_paths, name="noises",
        progress=lambda track, error: progress.append((track.id, error)), on_epoch=epochs.append,
    )  # fmt: skip
    assert [name for name, _ in progress] == [track.id for track in (*train_split.tracks, *splits[1].tracks)]
    (failure,) = [error for _, error in progress if error]
    assert isinstance(failure, AudioError)
    assert failure.reason == "missing"
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3, 4]
    assert model_card.name == "noises"
    assert model_card.vocabulary == TAGS
    assert model_card.mel == RECIPE.mel
    assert "12 tracks" in model_card.summary
    metrics = card.Provenance.read(run_paths.run_dir / "best").metrics
    assert metrics["validation PR-AUC-macro"] == pytest.approx(max(epoch.score or 0 for epoch in epochs))
    assert metrics["validation F-score-micro"] > 0
    assert {path.name for path in run_paths.run_dir.iterdir()} >= {
        "recipe.json",
        "log.jsonl",
        "best.safetensors",
        "best",
    }
    tagger = moodfield.load(run_paths.run_dir)
    assert tagger.models[0].card == model_card == card.Card.read(run_paths.run_dir / "best")
    split = splits[1]
    tagging = tagger.tag(dataset / "music" / split.tracks[0].path)
    assert tagging.vocabulary == TAGS
    assert set(tagging.decided) <= set(TAGS)
    net = RECIPE.net.build(n_mels=RECIPE.mel.n_mels, n_tags=2)
    checkpoints.load_weights(net, run_paths.run_dir / checkpoints.BEST)
    rows = list(range(len(split.tracks)))
    dataset_ = pipeline.load_dataset(split, split.truth.astype(np.float32), RECIPE, run_paths)
    expected = validation.predict(RECIPE, net, dataset_, TAGS)
    scores = np.stack([tagger.tag(dataset / "music" / split.tracks[row].path).scores for row in rows])
    np.testing.assert_allclose(scores, expected, atol=5e-3, err_msg="stored mels have half precision")


def test_a_finished_run_is_exported_again_without_training(splits, run_paths, no_export):
    first = pipeline.train(RECIPE, *splits, run_paths, name="one")
    weights = (run_paths.run_dir / checkpoints.BEST).read_bytes()
    epochs: list[Epoch] = []
    second = pipeline.train(RECIPE, *splits, run_paths, name="two", on_epoch=epochs.append)
    assert epochs == []
    assert (run_paths.run_dir / checkpoints.BEST).read_bytes() == weights
    assert second.name == "two"
    assert replace(second, name="one", sha256={}) == replace(first, sha256={})


AVERAGED = RECIPE.change("averaging.every=1", "averaging.start=1", "averaging.snapshots=2")


def test_thresholds_and_metrics_are_computed_from_the_mean_of_snapshots(splits, run_paths, no_export):
    model_card = pipeline.train(AVERAGED, *splits, run_paths, name="three")
    cards = [card.Card.read(run_paths.run_dir / folder) for folder in ("best", "swa-3", "swa-4")]
    assert cards[0] == model_card
    assert "3 snapshots" in model_card.summary
    assert {snapshot.thresholds for snapshot in cards} == {model_card.thresholds}
    metrics = card.Provenance.read(run_paths.run_dir / "best").metrics
    assert metrics["validation PR-AUC-macro"] != metrics["validation PR-AUC-macro of this snapshot alone"]


@pytest.mark.slow
def test_a_loaded_run_predicts_the_mean_of_its_snapshots(dataset, splits, run_paths):
    pipeline.train(AVERAGED, *splits, run_paths, name="three")
    run = moodfield.load(run_paths.run_dir)
    folders = [run_paths.run_dir / name for name in ("best", "swa-3", "swa-4")]
    assert [model.card for model in run.models] == [card.Card.read(folder) for folder in folders]
    song = dataset / "music" / splits[1].tracks[0].path
    scores = [moodfield.load(folder).tag(song).scores for folder in folders]
    assert not np.allclose(scores[0], scores[2], atol=1e-4)
    tagging = run.tag(song)
    np.testing.assert_allclose(tagging.scores, np.mean(scores, axis=0), atol=1e-6)
    assert tagging.model == "three"


def test_soft_targets_replace_tags(splits, run_paths, no_export, monkeypatch):
    targets: list[np.ndarray] = []
    train = loop.fit

    def recording_fit(recipe: Recipe, train_split: ClipDataset, *options: object, **keywords: object) -> object:
        targets.append(train_split.targets.per_track())
        return train(recipe, train_split, *options, **keywords)

    monkeypatch.setattr(loop, "fit", recording_fit)
    train_split = with_track(splits[0], "train/missing.wav")
    soft = np.random.default_rng(0).random(train_split.truth.shape, np.float32)
    pipeline.train(RECIPE, train_split, splits[1], run_paths, name="soft", soft_targets=soft)
    np.testing.assert_array_equal(
        targets[0], np.delete(soft, 3, axis=0), err_msg="without the row of the missing track"
    )
    pipeline.train(
        RECIPE, train_split, splits[1], replace(run_paths, run_dir=run_paths.run_dir.with_name("hard")), name="hard"
    )
    np.testing.assert_array_equal(targets[1], np.delete(train_split.truth, 3, axis=0))


def test_soft_targets_change_the_weights(splits, run_paths, no_export):
    recipe = RECIPE.change("schedule.constant=1", "schedule.decay=0")
    pipeline.train(recipe, *splits, run_paths, name="hard")
    soft_paths = replace(run_paths, run_dir=run_paths.run_dir.with_name("soft"))
    pipeline.train(recipe, *splits, soft_paths, name="soft", soft_targets=1 - splits[0].truth.astype(np.float32))
    assert (run_paths.run_dir / checkpoints.BEST).read_bytes() != (soft_paths.run_dir / checkpoints.BEST).read_bytes()


@pytest.mark.parametrize("shape", [(12, 3), (11, 2), (1, 2)])
def test_soft_targets_of_another_shape_raise(splits, run_paths, shape):
    with pytest.raises(DatasetError, match=rf"\({shape[0]}, {shape[1]}\).*12 tracks"):
        pipeline.train(RECIPE, *splits, run_paths, name="soft", soft_targets=np.zeros(shape, np.float32))
    assert not run_paths.run_dir.exists()


def test_soft_targets_outside_0_and_1_raise(splits, run_paths):
    with pytest.raises(ConfigError, match="outside 0"):
        pipeline.train(RECIPE, *splits, run_paths, name="soft", soft_targets=np.full((12, 2), -3.0, np.float32))


def test_splits_of_different_vocabularies_raise(splits, run_paths):
    for vocabulary in (("low", "high"), ("high", "low", "loud")):
        with pytest.raises(DatasetError, match="different vocabularies"):
            pipeline.train(RECIPE, splits[0], Split(splits[1].tracks, vocabulary), run_paths, name="mine")
    assert not run_paths.run_dir.exists()


def test_a_split_without_readable_tracks_raises(splits, run_paths):
    errors: list[MoodfieldError | None] = []
    without_audio = replace(run_paths, audio_dir=run_paths.audio_dir / "elsewhere")
    without_cache = replace(without_audio, cache_dir=run_paths.run_dir.parent / "store")
    with pytest.raises(DatasetError, match="elsewhere"):
        pipeline.train(RECIPE, *splits, without_cache, name="mine", progress=lambda _, error: errors.append(error))
    assert len(errors) == 12
    assert all(errors)
    with pytest.raises(DatasetError, match="none of 0 tracks"):
        pipeline.train(RECIPE, Split((), TAGS), splits[1], run_paths, name="mine")


def test_validation_without_tags_raises(splits, run_paths):
    untagged = Split(tuple(replace(track, tags=()) for track in splits[1].tracks), TAGS)
    with pytest.raises(DatasetError, match="none of 8 validation"):
        pipeline.train(RECIPE, splits[0], untagged, run_paths, name="mine")
    assert not run_paths.run_dir.exists()


def test_training_without_tags_raises(splits, run_paths):
    untagged = Split(tuple(replace(track, tags=()) for track in splits[0].tracks), TAGS)
    with pytest.raises(DatasetError, match="none of 12 training"):
        pipeline.train(RECIPE, untagged, splits[1], run_paths, name="mine")
    assert not run_paths.run_dir.exists()


def test_a_tag_without_training_tracks_warns(splits, run_paths, no_export):
    train_split = Split(
        tuple(replace(track, tags=tuple(set(track.tags) - {"low"})) for track in splits[0].tracks), TAGS
    )
    recipe = RECIPE.change("schedule.constant=1", "schedule.decay=0")
    with pytest.warns(MoodfieldWarning, match="track has low"):
        pipeline.train(recipe, train_split, splits[1], run_paths, name="mine")


def test_a_file_as_cache_folder_raises(splits, run_paths, tmp_path):
    (tmp_path / "store").write_text("a file")
    with pytest.raises(DatasetError, match="cannot write"):
        pipeline.train(RECIPE, *splits, replace(run_paths, cache_dir=tmp_path / "store"), name="mine")


def test_another_recipe_for_the_same_run_raises(splits, run_paths, no_export):
    short = RECIPE.change("schedule.constant=1", "schedule.decay=0")
    pipeline.train(short, *splits, run_paths, name="mine")
    with pytest.raises(RunError, match="another recipe"):
        pipeline.train(short.change("seed=1"), *splits, run_paths, name="mine")
    assert json.loads((run_paths.run_dir / run_folder.RECIPE).read_text()) == short.to_dict()


def test_a_tag_without_validation_tracks_is_never_decided(splits, run_paths, no_export):
    validation_split = Split(
        tuple(replace(track, tags=tuple(set(track.tags) - {"low"})) for track in splits[1].tracks), TAGS
    )
    recipe = RECIPE.change("schedule.constant=1", "schedule.decay=0")
    model_card = pipeline.train(recipe, splits[0], validation_split, run_paths, name="mine")
    assert model_card.thresholds[1] == 1  # no score is above it
    provenance = card.Provenance.read(run_paths.run_dir / "best")
    assert provenance.origin == {"tags without a validation track, left out of the means": "low"}
    assert np.isfinite(list(provenance.metrics.values())).all()
    assert card.Card.read(run_paths.run_dir / "best").thresholds == model_card.thresholds


def test_other_tracks_for_the_same_run_raise(splits, run_paths, no_export):
    short = RECIPE.change("schedule.constant=1", "schedule.decay=0")
    pipeline.train(short, *splits, run_paths, name="mine")
    fewer = splits[0].take(range(4))
    with pytest.raises(RunError, match="another truth"):
        pipeline.train(short, fewer, splits[1], run_paths, name="mine")


@pytest.mark.parametrize("content", [None, b"", b"nothing", b"PK\x03\x04"])
def test_an_invalid_file_of_soft_targets_raises(tmp_path, content):
    path = tmp_path / "soft.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"soft\.npy"):
        pipeline.read_soft_targets(path)
    np.save(path, np.zeros(3))
    with pytest.raises(DatasetError, match="tracks × tags"):
        pipeline.read_soft_targets(path)
