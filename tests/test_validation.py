"""Validation during training: scores, loss, strides and precision."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

import models
import test_loop
from moodfield import mel, tagger
from moodfield.evaluation import metrics
from moodfield.nets import Net
from moodfield.training import loop, validation
from moodfield.training.batches import ClipDataset, TrackTargets
from moodfield.training.configs import BatchConfig, LossConfig
from moodfield.training.log import Epoch
from moodfield.training.recipe import Recipe
from moodfield.training.validation import Validator
from test_loop import BANDS, SHORT, STATISTICS, TRAIN_SET, VALIDATION_SET, VOCABULARY

FRAMES = 3 * SHORT.clip_frames + 5


@pytest.fixture
def tracks() -> ClipDataset:
    generator = np.random.default_rng(0)
    walks = generator.standard_normal((6, FRAMES, BANDS)).cumsum(axis=1)
    mels = tuple((20 + 5 * walk).astype(np.float16) for walk in walks)
    return ClipDataset(mels, TrackTargets((generator.random((6, 3)) > 0.5).astype(np.float32)))


@pytest.fixture
def net(tracks: ClipDataset) -> Net:
    """A network with random weights: a fresh one gives the same logits for all tracks."""
    torch.manual_seed(3)
    network = SHORT.net.build(n_mels=BANDS, n_tags=3)
    network.standardize.set_statistics(torch.from_numpy(STATISTICS.mean), torch.from_numpy(STATISTICS.std))
    models.stir(network)
    with torch.no_grad():
        network.train()(torch.from_numpy(np.stack(tracks.mels).astype(np.float32)).transpose(1, 2))
    return network.eval()


def predict_logits(net: Net, stored: np.ndarray) -> np.ndarray:
    """Logits of the network for some frames."""
    with torch.no_grad():
        return net(torch.from_numpy(np.ascontiguousarray(stored.T, np.float32))[None]).numpy()[0].astype(np.float64)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def test_result_has_pr_auc_and_loss_of_the_scores(net, tracks):
    scores = validation.predict(SHORT, net, tracks, VOCABULARY).astype(np.float64)
    assert scores.std(axis=0).min() > 1e-3, "scores differ between tracks"
    truth = tracks.targets.per_track()
    result = Validator(SHORT, tracks, VOCABULARY, loop._make_loss(SHORT.loss, TRAIN_SET, net, n_tags=3))(net)
    assert result.score == metrics.evaluate(truth > 0.5, scores).macro["PR-AUC"]
    weight = SHORT.loss.pos_weight
    expected = -(weight * truth * np.log(scores) + (1 - truth) * np.log(1 - scores)).mean()
    assert result.loss == pytest.approx(expected, rel=1e-5)


def test_logit_targets_are_scored_by_rank_correlation(net, tracks):
    teacher = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    recipe = replace(SHORT, loss=LossConfig(kind="logits"))
    dataset = ClipDataset(tracks.mels, TrackTargets(teacher))
    result = Validator(recipe, dataset, VOCABULARY, lambda predicted, target: (predicted - target).square().mean())(net)
    predictions = np.stack([predict_logits(net, mel_) for mel_ in tracks.mels])
    ranks = [stats.spearmanr(ours, theirs)[0] for ours, theirs in zip(predictions.T, teacher.T, strict=True)]
    assert result.score == pytest.approx(np.mean(ranks))
    assert result.loss == pytest.approx(((predictions - teacher) ** 2).mean(), rel=1e-3)


def test_a_stride_takes_the_clip_in_the_middle_of_every_step(net, tracks):
    clip, step = SHORT.clip_frames, 45
    stride = step / SHORT.mel.frames_per_second
    predicted = validation.predict(SHORT, net, tracks, VOCABULARY, stride=stride)
    first = (step - clip) // 2
    for stored, scores in zip(tracks.mels, predicted, strict=True):
        logits = [predict_logits(net, stored[start : start + clip]) for start in (first, first + step)]
        np.testing.assert_allclose(scores, sigmoid(np.mean(logits, axis=0)), rtol=1e-5)
    validator = Validator(
        replace(SHORT, validate_stride=stride),
        tracks,
        VOCABULARY,
        loop._make_loss(SHORT.loss, TRAIN_SET, net, n_tags=3),
    )
    assert validator(net).score == metrics.evaluate(tracks.targets.per_track() > 0.5, predicted).macro["PR-AUC"]
    unstrided = validation.predict(SHORT, net, tracks, VOCABULARY)
    assert np.abs(predicted - unstrided).max() > 1e-3, "a stride leaves out frames"


@pytest.mark.parametrize("name", ["fa_resnet", "crnn", "vgg"])
def test_excerpts_are_predicted_independently_by_every_kind_of_network(name):
    """More excerpts than one batch, for a network of any length, one of whole tracks and one of fixed windows."""
    network, config = models.network(name), models.mel_of(name)
    stored = mel.spectrogram(models.music(60, rate=config.sample_rate), config).T.astype(np.float16)
    recipe = Recipe(net=network.config, mel=config, batch=BatchConfig(clip_seconds=32.0 if name == "vgg" else 10.0))
    stride = 2.0
    starts = range(0, len(stored) - recipe.clip_frames + 1, round(stride * config.frames_per_second))
    dataset = ClipDataset((stored,), TrackTargets(np.ones((1, 5), np.float32)))
    single = [
        validation.predict(
            recipe,
            network,
            ClipDataset((stored[start : start + recipe.clip_frames],), dataset.targets),
            models.VOCABULARY,
        )[0].astype(np.float64)
        for start in starts
    ]
    assert len(single) > tagger.EXCERPT_BATCH
    assert np.std(single, axis=0).max() > 1e-3, "excerpts differ"
    predicted = validation.predict(recipe, network, dataset, models.VOCABULARY, stride=stride)
    np.testing.assert_allclose(
        predicted[0], sigmoid(np.mean(np.log(single) - np.log1p(-np.array(single)), axis=0)), rtol=1e-4
    )


def test_validation_has_the_precision_of_training(net, tracks):
    """A recipe in bfloat16 is validated in bfloat16, with a loss near that in float32."""
    quick, exact = (
        Validator(
            replace(SHORT, precision=precision),
            tracks,
            VOCABULARY,
            loop._make_loss(SHORT.loss, TRAIN_SET, net, n_tags=3),
        )(net).loss
        for precision in ("bf16-mixed", "32-true")
    )
    assert quick != exact
    assert quick == pytest.approx(exact, rel=0.05)
    assert {value.dtype for value in net.state_dict().values()} == {torch.float32, torch.int64}


def test_a_stride_changes_nothing_for_tracks_as_short_as_a_clip(net):
    clips = ClipDataset(tuple(stored[: SHORT.clip_frames] for stored in VALIDATION_SET.mels), VALIDATION_SET.targets)
    unstrided = validation.predict(SHORT, net, clips, VOCABULARY)
    np.testing.assert_array_equal(validation.predict(SHORT, net, clips, VOCABULARY, stride=60.0), unstrided)


def test_a_run_is_validated_with_its_stride(tmp_path):
    recipe = replace(SHORT, validate_stride=2.0)
    epochs: list[Epoch] = []
    net = test_loop.train(recipe, tmp_path, on_epoch=epochs.append)
    validator = Validator(recipe, VALIDATION_SET, VOCABULARY, loop._make_loss(recipe.loss, TRAIN_SET, net, n_tags=3))
    assert validator(net).score == epochs[-1].best
