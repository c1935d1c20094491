"""Runs: from a dataset on disk to a model that tags, in one call; what cannot be used is left out or refused."""

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
def place(dataset: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> RunPaths:
    """A run of its own, and mels that all tests share."""
    return RunPaths(dataset / "music", dataset / "store", tmp_path / "run")


def with_track(split: Split, path: str) -> Split:
    """The split with one more track, in the middle."""
    return Split((*split.tracks[:3], Track("track_new", path, 1.0, ("low",)), *split.tracks[3:]), split.vocabulary)


def test_a_dataset_becomes_a_model_that_tags(dataset, splits, place):
    heard: list[tuple[str, object]] = []
    epochs: list[Epoch] = []
    learn = with_track(splits[0], "train/missing.wav")
    found = pipeline.train(
        RECIPE, learn, splits[1], place, name="noises",
        progress=lambda track, error: heard.append((track.id, error)), on_epoch=epochs.append,
    )  # fmt: skip
    assert [name for name, _ in heard] == [track.id for track in (*learn.tracks, *splits[1].tracks)]
    (bad,) = [error for _, error in heard if error]
    assert isinstance(bad, AudioError)
    assert bad.reason == "missing"
    assert [each.epoch for each in epochs] == [1, 2, 3, 4]
    assert found.name == "noises"
    assert found.vocabulary == TAGS
    assert found.mel == RECIPE.mel
    assert "12 tracks" in found.summary
    figures = card.Provenance.read(place.run_dir / "best").metrics
    assert figures["validation PR-AUC-macro"] == pytest.approx(max(each.score or 0 for each in epochs))
    assert figures["validation F-score-micro"] > 0
    assert {path.name for path in place.run_dir.iterdir()} >= {"recipe.json", "log.jsonl", "best.safetensors", "best"}
    tagger = moodfield.load(place.run_dir)
    assert tagger.models[0].card == found == card.Card.read(place.run_dir / "best")
    split = splits[1]
    tagging = tagger.tag(dataset / "music" / split.tracks[0].path)
    assert tagging.vocabulary == TAGS
    assert set(tagging.decided) <= set(TAGS)
    net = RECIPE.net.build(n_mels=RECIPE.mel.n_mels, n_tags=2)
    checkpoints.load_weights(net, place.run_dir / checkpoints.BEST)
    rows = list(range(len(split.tracks)))
    material = pipeline.load_dataset(split, split.truth.astype(np.float32), RECIPE, place)
    wanted = validation.predict(RECIPE, net, material, TAGS)
    came = np.stack([tagger.tag(dataset / "music" / split.tracks[row].path).scores for row in rows])
    np.testing.assert_allclose(came, wanted, atol=5e-3, err_msg="stored mels have half precision")


def test_a_run_that_is_finished_is_only_exported_again(splits, place, no_export):
    first = pipeline.train(RECIPE, *splits, place, name="one")
    weights = (place.run_dir / checkpoints.BEST).read_bytes()
    epochs: list[Epoch] = []
    again = pipeline.train(RECIPE, *splits, place, name="two", on_epoch=epochs.append)
    assert epochs == []
    assert (place.run_dir / checkpoints.BEST).read_bytes() == weights
    assert again.name == "two"
    assert replace(again, name="one", sha256={}) == replace(first, sha256={})


AVERAGED = RECIPE.change("averaging.every=1", "averaging.start=1", "averaging.snapshots=2")


def test_thresholds_and_metrics_are_those_of_the_mean_of_the_snapshots(splits, place, no_export):
    best = pipeline.train(AVERAGED, *splits, place, name="three")
    cards = [card.Card.read(place.run_dir / folder) for folder in ("best", "swa-3", "swa-4")]
    assert cards[0] == best
    assert "3 snapshots" in best.summary
    assert {snapshot.thresholds for snapshot in cards} == {best.thresholds}
    figures = card.Provenance.read(place.run_dir / "best").metrics
    assert figures["validation PR-AUC-macro"] != figures["validation PR-AUC-macro of this snapshot alone"]


@pytest.mark.slow
def test_a_run_predicts_with_the_mean_of_its_snapshots(dataset, splits, place):
    pipeline.train(AVERAGED, *splits, place, name="three")
    run = moodfield.load(place.run_dir)
    folders = [place.run_dir / name for name in ("best", "swa-3", "swa-4")]
    assert [model.card for model in run.models] == [card.Card.read(folder) for folder in folders]
    song = dataset / "music" / splits[1].tracks[0].path
    alone = [moodfield.load(folder).tag(song).scores for folder in folders]
    assert not np.allclose(alone[0], alone[2], atol=1e-4)
    tagging = run.tag(song)
    np.testing.assert_allclose(tagging.scores, np.mean(alone, axis=0), atol=1e-6)
    assert tagging.model == "three"


def test_soft_truth_takes_the_place_of_tags(splits, place, no_export, monkeypatch):
    seen: list[np.ndarray] = []
    train = loop.fit

    def watched(recipe: Recipe, learn: ClipDataset, *more: object, **named: object) -> object:
        seen.append(learn.targets.per_track())
        return train(recipe, learn, *more, **named)

    monkeypatch.setattr(loop, "fit", watched)
    learn = with_track(splits[0], "train/missing.wav")
    soft = np.random.default_rng(0).random(learn.truth.shape, np.float32)
    pipeline.train(RECIPE, learn, splits[1], place, name="soft", soft_targets=soft)
    np.testing.assert_array_equal(seen[0], np.delete(soft, 3, axis=0), err_msg="without the row of the missing track")
    pipeline.train(RECIPE, learn, splits[1], replace(place, run_dir=place.run_dir.with_name("hard")), name="hard")
    np.testing.assert_array_equal(seen[1], np.delete(learn.truth, 3, axis=0))


def test_soft_truth_changes_what_is_learned(splits, place, no_export):
    recipe = RECIPE.change("schedule.constant=1", "schedule.decay=0")
    pipeline.train(recipe, *splits, place, name="hard")
    other = replace(place, run_dir=place.run_dir.with_name("soft"))
    pipeline.train(recipe, *splits, other, name="soft", soft_targets=1 - splits[0].truth.astype(np.float32))
    assert (place.run_dir / checkpoints.BEST).read_bytes() != (other.run_dir / checkpoints.BEST).read_bytes()


@pytest.mark.parametrize("shape", [(12, 3), (11, 2), (1, 2)])
def test_soft_truth_of_another_shape_is_refused(splits, place, shape):
    with pytest.raises(DatasetError, match=rf"\({shape[0]}, {shape[1]}\).*12 tracks"):
        pipeline.train(RECIPE, *splits, place, name="soft", soft_targets=np.zeros(shape, np.float32))
    assert not place.run_dir.exists()


def test_soft_truth_outside_0_and_1_is_refused(splits, place):
    with pytest.raises(ConfigError, match="outside 0"):
        pipeline.train(RECIPE, *splits, place, name="soft", soft_targets=np.full((12, 2), -3.0, np.float32))


def test_splits_of_different_vocabularies_are_refused(splits, place):
    for other in (("low", "high"), ("high", "low", "loud")):
        with pytest.raises(DatasetError, match="different vocabularies"):
            pipeline.train(RECIPE, splits[0], Split(splits[1].tracks, other), place, name="mine")
    assert not place.run_dir.exists()


def test_a_split_of_which_nothing_can_be_read_is_refused(splits, place):
    heard: list[MoodfieldError | None] = []
    lost = replace(place, audio_dir=place.audio_dir / "elsewhere")
    empty = replace(lost, cache_dir=place.run_dir.parent / "store")
    with pytest.raises(DatasetError, match=r"elsewhere.*11\.wav"):
        pipeline.train(RECIPE, *splits, empty, name="mine", progress=lambda _, error: heard.append(error))
    assert len(heard) == 12
    assert all(heard)
    with pytest.raises(DatasetError, match="none of 0 tracks"):
        pipeline.train(RECIPE, Split((), TAGS), splits[1], place, name="mine")


def test_validation_without_tags_is_refused(splits, place):
    bare = Split(tuple(replace(track, tags=()) for track in splits[1].tracks), TAGS)
    with pytest.raises(DatasetError, match="none of 8 validation"):
        pipeline.train(RECIPE, splits[0], bare, place, name="mine")
    assert not place.run_dir.exists()


def test_training_without_tags_is_refused(splits, place):
    bare = Split(tuple(replace(track, tags=()) for track in splits[0].tracks), TAGS)
    with pytest.raises(DatasetError, match="none of 12 training"):
        pipeline.train(RECIPE, bare, splits[1], place, name="mine")
    assert not place.run_dir.exists()


def test_a_tag_that_training_lacks_is_warned_of(splits, place, no_export):
    learn = Split(tuple(replace(track, tags=tuple(set(track.tags) - {"low"})) for track in splits[0].tracks), TAGS)
    recipe = RECIPE.change("schedule.constant=1", "schedule.decay=0")
    with pytest.warns(MoodfieldWarning, match="track has low"):
        pipeline.train(recipe, learn, splits[1], place, name="mine")


def test_a_store_that_cannot_be_written_is_refused(splits, place, tmp_path):
    (tmp_path / "store").write_text("a file")
    with pytest.raises(DatasetError, match="mels cannot be kept"):
        pipeline.train(RECIPE, *splits, replace(place, cache_dir=tmp_path / "store"), name="mine")


def test_another_recipe_for_the_same_run_is_refused(splits, place, no_export):
    short = RECIPE.change("schedule.constant=1", "schedule.decay=0")
    pipeline.train(short, *splits, place, name="mine")
    with pytest.raises(RunError, match="another recipe"):
        pipeline.train(short.change("seed=1"), *splits, place, name="mine")
    assert json.loads((place.run_dir / run_folder.RECIPE).read_text()) == short.to_dict()


def test_a_tag_that_validation_lacks_is_never_decided(splits, place, no_export):
    judge = Split(tuple(replace(track, tags=tuple(set(track.tags) - {"low"})) for track in splits[1].tracks), TAGS)
    recipe = RECIPE.change("schedule.constant=1", "schedule.decay=0")
    found = pipeline.train(recipe, splits[0], judge, place, name="mine")
    assert found.thresholds[1] == 1  # no score is above it
    provenance = card.Provenance.read(place.run_dir / "best")
    assert provenance.origin == {"tags that no validation track has": "low"}
    assert np.isfinite(list(provenance.metrics.values())).all()
    assert card.Card.read(place.run_dir / "best").thresholds == found.thresholds


def test_a_run_of_other_music_is_refused(splits, place, no_export):
    short = RECIPE.change("schedule.constant=1", "schedule.decay=0")
    pipeline.train(short, *splits, place, name="mine")
    fewer = splits[0].take(range(4))
    with pytest.raises(RunError, match="another truth"):
        pipeline.train(short, fewer, splits[1], place, name="mine")


@pytest.mark.parametrize("content", [None, b"", b"nothing", b"PK\x03\x04"])
def test_soft_truth_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / "soft.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"soft\.npy"):
        pipeline.read_soft_targets(path)
    np.save(path, np.zeros(3))
    with pytest.raises(DatasetError, match="one matrix of numbers"):
        pipeline.read_soft_targets(path)
