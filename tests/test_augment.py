"""Roll and mixup: distribution of shifts and shares, and the truth of mixed clips."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from moodfield.errors import ConfigError
from moodfield.training import augment
from moodfield.training.configs import AugmentConfig

BANDS, FRAMES, TAGS = 3, 11, 4
NONE = AugmentConfig(roll_frames=0, mixup_alpha=0.0)


def batch(size: int, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Mels whose cells all differ, and some truth."""
    generator = torch.Generator().manual_seed(seed)
    mels = torch.rand(size, BANDS, FRAMES, generator=generator)
    return mels, (torch.rand(size, TAGS, generator=generator) < 0.3).float()


def shifts_of(mels: torch.Tensor, config: AugmentConfig, *, seed: int = 0) -> list[int]:
    """The shift of each rolled clip; it must be one shift of the whole clip."""
    rolled = augment.roll(mels, config, np.random.default_rng(seed))
    shifts = []
    for before, after in zip(mels, rolled, strict=True):
        fits = [shift for shift in range(-(FRAMES // 2), FRAMES // 2 + 1) if after.equal(before.roll(shift, dims=-1))]
        assert len(fits) == 1, "not rolled in time as a whole"
        shifts += fits
    return shifts


# ---------------------------------------------------------------- roll


def test_clips_are_rolled_by_independent_uniform_shifts():
    shifts = shifts_of(batch(2_000)[0], AugmentConfig(roll_frames=4))
    counts = np.bincount(np.array(shifts) + 4, minlength=9)
    assert set(shifts) == set(range(-4, 5)), "all shifts up to both ends occur, and no others"
    expected = 2_000 / 9
    assert ((counts - expected) ** 2 / expected).sum() < 26.1, "χ² with 8 degrees of freedom: 1 in 1000"


def test_a_clip_may_be_rolled_further_than_its_length():
    mels = batch(50)[0]
    rolled = augment.roll(mels, AugmentConfig(roll_frames=10 * FRAMES), np.random.default_rng(0))
    assert rolled.sort(dim=-1).values.equal(mels.sort(dim=-1).values)


def test_no_roll_is_the_identity_and_draws_nothing():
    mels, generator = batch(5)[0], np.random.default_rng(1)
    assert augment.roll(mels, NONE, generator).equal(mels)
    assert generator.random() == np.random.default_rng(1).random()


# ---------------------------------------------------------------- mix


@given(size=st.integers(1, 12), alpha=st.floats(0.05, 4.0), seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_truth_is_mixed_with_the_share_of_the_mel(size, alpha, seed):
    mels = torch.eye(size)[:, None, :].expand(size, BANDS, size)
    mixed, truth = augment.mix(mels, torch.eye(size), AugmentConfig(mixup_alpha=alpha), np.random.default_rng(seed))
    assert mixed.shape == mels.shape
    assert mixed.equal(truth[:, None, :].expand_as(mixed)), "clip i is 1 at i, so its remaining value is its share"
    np.testing.assert_allclose(truth.sum(dim=1), 1, rtol=0, atol=1e-6)
    assert truth.diagonal().min() >= 0.5
    assert ((truth > 0).sum(dim=1) <= 2).all(), "at most two clips are mixed"


def test_shares_are_drawn_per_clip_from_a_folded_beta():
    alpha, size = 0.3, 20_000
    mels, truth = torch.zeros(size, 1, 1), torch.arange(size, dtype=torch.float32)[:, None] % 2
    mels[:, 0, 0] = truth[:, 0]
    mixed, _ = augment.mix(mels, truth, AugmentConfig(mixup_alpha=alpha), np.random.default_rng(3))
    shares = mixed[(truth[:, 0] == 1) & (mixed[:, 0, 0] < 1)].numpy().ravel()
    """half of the ones are mixed with a zero: their remaining value is their share"""
    assert len(shares) > size / 5
    betas = np.random.default_rng(4).beta(alpha, alpha, size=200_000)
    expected = np.maximum(betas, 1 - betas)
    expected = expected[expected.astype(np.float32) < 1]
    levels = np.linspace(0.5, 1, 60)
    distance = np.abs((shares[:, None] <= levels).mean(axis=0) - (expected[:, None] <= levels).mean(axis=0)).max()
    assert distance < 1.95 / np.sqrt(len(shares)) + 1.95 / np.sqrt(len(expected)), "Kolmogorov-Smirnov: 1 in 1000"
    assert shares.min() >= 0.5


def test_partners_are_a_permutation():
    size = 64
    _, truth = augment.mix(
        torch.zeros(size, 1, 1), torch.eye(size), AugmentConfig(mixup_alpha=1.0), np.random.default_rng(0)
    )
    received = truth - torch.diag(truth.diagonal())
    assert ((received > 0).sum(dim=0) <= 1).all(), "no clip is a partner twice"
    assert (received > 0).sum() > 50


def test_no_mixing_is_the_identity_and_draws_nothing():
    (mels, truth), generator = batch(5), np.random.default_rng(1)
    mixed = augment.mix(mels, truth, NONE, generator)
    assert mixed[0].equal(mels)
    assert mixed[1].equal(truth)
    assert generator.random() == np.random.default_rng(1).random()


def mix_mels(mels: torch.Tensor, config: AugmentConfig, generator: np.random.Generator) -> torch.Tensor:
    """The mixed mels."""
    return augment.mix(mels, mels[..., 0], config, generator)[0]


@pytest.mark.parametrize("augmentation", [augment.roll, mix_mels])
def test_equal_generators_give_equal_batches(augmentation):
    mels = batch(16)[0]
    config = AugmentConfig(roll_frames=4)
    first, same, different = (augmentation(mels, config, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first.equal(same)
    assert not first.equal(different)
    assert not first.equal(mels)


def test_a_batch_is_not_changed_in_place():
    mels, truth = batch(16)
    before = mels.clone(), truth.clone()
    config, generator = AugmentConfig(), np.random.default_rng(0)
    augment.roll(mels, config, generator)
    augment.mix(mels, truth, config, generator)
    assert mels.equal(before[0])
    assert truth.equal(before[1])


@pytest.mark.parametrize("weight", [1.0, 10.0, None])
def test_the_loss_of_mixed_truth_is_the_mixed_loss(weight):
    size = 9
    generator = np.random.default_rng(5)
    truth = batch(size)[1].double()
    logits = torch.from_numpy(generator.normal(size=(size, TAGS)) * 3)
    shares = torch.eye(size, dtype=torch.float64)
    config = AugmentConfig()
    _, mixed = augment.mix(torch.zeros(size, 1, 1), truth.float(), config, np.random.default_rng(7))
    _, shares = augment.mix(torch.zeros(size, 1, 1), torch.eye(size), config, np.random.default_rng(7))
    assert (shares.diagonal() < 1).sum() > size / 2
    pos = None if weight is None else torch.tensor(weight, dtype=torch.float64)

    def loss(expected: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        losses = F.binary_cross_entropy_with_logits(rows, expected, pos_weight=pos, reduction="none")
        return losses.mean(dim=1)

    whole = torch.stack([loss(truth, logits[row].expand(size, TAGS)) for row in range(size)])
    """loss of every row of logits with every row of truth"""
    expected = (shares.double() * whole).sum(dim=1)
    np.testing.assert_allclose(loss(mixed.double(), logits), expected, rtol=1e-5)
    assert not np.allclose(expected, whole.diagonal(), rtol=1e-3)


# ---------------------------------------------------------------- invalid settings


@pytest.mark.parametrize(
    "setting",
    [{"roll_frames": -1}, {"mixup_alpha": -0.1}, {"mixup_alpha": float("nan")}, {"mixup_alpha": float("inf")}],
)
def test_settings_out_of_range_raise(setting):
    with pytest.raises(ConfigError, match=r"roll_frames|mixup_alpha"):
        AugmentConfig(**setting)
