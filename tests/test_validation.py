"""Exams: marks are those of the scores, a stride hears what it says, and a stride as long as a clip hears it all."""

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
from test_loop import BANDS, JUDGE, LEARN, SHORT, STATISTICS, VOCABULARY

FRAMES = 3 * SHORT.clip_frames + 5


@pytest.fixture
def tracks() -> ClipDataset:
    generator = np.random.default_rng(0)
    drift = generator.standard_normal((6, FRAMES, BANDS)).cumsum(axis=1)
    mels = tuple((20 + 5 * each).astype(np.float16) for each in drift)
    return ClipDataset(mels, TrackTargets((generator.random((6, 3)) > 0.5).astype(np.float32)))


@pytest.fixture
def net(tracks: ClipDataset) -> Net:
    """A network with an opinion: a new one says the same of everything."""
    torch.manual_seed(3)
    found = SHORT.net.build(n_mels=BANDS, n_tags=3)
    found.standardize.set_statistics(torch.from_numpy(STATISTICS.mean), torch.from_numpy(STATISTICS.std))
    models.stir(found)
    with torch.no_grad():
        found.train()(torch.from_numpy(np.stack(tracks.mels).astype(np.float32)).transpose(1, 2))
    return found.eval()


def logits(net: Net, stored: np.ndarray) -> np.ndarray:
    """What the network itself says of some frames."""
    with torch.no_grad():
        return net(torch.from_numpy(np.ascontiguousarray(stored.T, np.float32))[None]).numpy()[0].astype(np.float64)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def test_marks_are_those_of_the_scores(net, tracks):
    scores = validation.predict(SHORT, net, tracks, VOCABULARY).astype(np.float64)
    assert scores.std(axis=0).min() > 1e-3, "it has an opinion"
    truth = tracks.targets.per_track()
    marks = Validator(SHORT, tracks, VOCABULARY, loop._make_loss(SHORT.loss, LEARN, net))(net)
    assert marks.score == metrics.evaluate(truth > 0.5, scores).macro["PR-AUC"]
    weight = SHORT.loss.pos_weight
    wanted = -(weight * truth * np.log(scores) + (1 - truth) * np.log(1 - scores)).mean()
    assert marks.loss == pytest.approx(wanted, rel=1e-5)


def test_a_teacher_asks_for_ranks(net, tracks):
    teacher = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    recipe = replace(SHORT, loss=LossConfig(kind="logits"))
    material = ClipDataset(tracks.mels, TrackTargets(teacher))
    marks = Validator(recipe, material, VOCABULARY, lambda found, wanted: (found - wanted).square().mean())(net)
    said = np.stack([logits(net, each) for each in tracks.mels])
    ranks = [stats.spearmanr(ours, theirs)[0] for ours, theirs in zip(said.T, teacher.T, strict=True)]
    assert marks.score == pytest.approx(np.mean(ranks))
    assert marks.loss == pytest.approx(((said - teacher) ** 2).mean(), rel=1e-3)


def test_a_stride_hears_the_middle_of_every_step(net, tracks):
    clip, step = SHORT.clip_frames, 45
    stride = step / SHORT.mel.frames_per_second
    found = validation.predict(SHORT, net, tracks, VOCABULARY, stride=stride)
    first = (step - clip) // 2
    for stored, scores in zip(tracks.mels, found, strict=True):
        heard = [logits(net, stored[start : start + clip]) for start in (first, first + step)]
        np.testing.assert_allclose(scores, sigmoid(np.mean(heard, axis=0)), rtol=1e-5)
    exam = Validator(
        replace(SHORT, validate_stride=stride), tracks, VOCABULARY, loop._make_loss(SHORT.loss, LEARN, net)
    )
    assert exam(net).score == metrics.evaluate(tracks.targets.per_track() > 0.5, found).macro["PR-AUC"]
    whole = validation.predict(SHORT, net, tracks, VOCABULARY)
    assert np.abs(found - whole).max() > 1e-3, "that is not the whole track"


@pytest.mark.parametrize("name", ["fa_resnet", "crnn", "vgg"])
def test_excerpts_of_every_kind_of_network_are_heard_each_by_itself(name):
    """More of them than are heard at once, a network that judges whole tracks, and one of fixed windows."""
    network, config = models.network(name), models.mel_of(name)
    stored = mel.spectrogram(models.music(60, rate=config.sample_rate), config).T.astype(np.float16)
    recipe = Recipe(net=network.config, mel=config, batch=BatchConfig(clip_seconds=32.0 if name == "vgg" else 10.0))
    stride = 2.0
    starts = range(0, len(stored) - recipe.clip_frames + 1, round(stride * config.frames_per_second))
    material = ClipDataset((stored,), TrackTargets(np.ones((1, 5), np.float32)))
    alone = [
        validation.predict(
            recipe,
            network,
            ClipDataset((stored[start : start + recipe.clip_frames],), material.targets),
            models.VOCABULARY,
        )[0].astype(np.float64)
        for start in starts
    ]
    assert len(alone) > tagger.EXCERPT_BATCH
    assert np.std(alone, axis=0).max() > 1e-3, "excerpts differ"
    found = validation.predict(recipe, network, material, models.VOCABULARY, stride=stride)
    np.testing.assert_allclose(
        found[0], sigmoid(np.mean(np.log(alone) - np.log1p(-np.array(alone)), axis=0)), rtol=1e-4
    )


def test_validation_is_as_precise_as_training(net, tracks):
    """Not float32 in a recipe of bfloat16, and near it."""
    quick, exact = (
        Validator(replace(SHORT, precision=precision), tracks, VOCABULARY, loop._make_loss(SHORT.loss, LEARN, net))(
            net
        ).loss
        for precision in ("bf16-mixed", "32-true")
    )
    assert quick != exact
    assert quick == pytest.approx(exact, rel=0.05)
    assert {value.dtype for value in net.state_dict().values()} == {torch.float32, torch.int64}


def test_of_a_track_that_is_no_longer_than_a_clip_nothing_is_left_out(net):
    clips = ClipDataset(tuple(stored[: SHORT.clip_frames] for stored in JUDGE.mels), JUDGE.targets)
    whole = validation.predict(SHORT, net, clips, VOCABULARY)
    np.testing.assert_array_equal(validation.predict(SHORT, net, clips, VOCABULARY, stride=60.0), whole)


def test_a_run_is_judged_by_its_stride(tmp_path):
    recipe = replace(SHORT, validate_stride=2.0)
    heard: list[Epoch] = []
    net = test_loop.train(recipe, tmp_path, on_epoch=heard.append)
    exam = Validator(recipe, JUDGE, VOCABULARY, loop._make_loss(recipe.loss, LEARN, net))
    assert exam(net).score == heard[-1].best
