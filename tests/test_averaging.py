"""Averaging: which epochs count, what their mean is, and batch norms that fit it."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import models
from moodfield import nets
from moodfield.errors import ConfigError
from moodfield.training import averaging
from moodfield.training.configs import AveragingConfig, ScheduleConfig
from moodfield.training.recipe import Recipe

PAPER = ScheduleConfig()


def test_the_papers_averages():
    epochs = AveragingConfig().epochs(PAPER)
    assert (epochs[0], epochs[-1], len(epochs)) == (120, 198, 27)
    assert AveragingConfig().kept(PAPER, 200) == [189, 192, 195, 198]
    assert AveragingConfig().kept(PAPER, 125) == [120, 123]
    assert AveragingConfig().kept(PAPER, 119) == []


@pytest.mark.parametrize(
    ("config", "schedule", "wanted"),
    [
        (AveragingConfig(every=0), PAPER, []),
        (AveragingConfig(start=100, every=50), PAPER, [100, 150, 200]),
        (AveragingConfig(start=200), PAPER, [200]),
        (AveragingConfig(), ScheduleConfig(4, 30, 40, 6), [74, 77, 80]),
        (AveragingConfig(), ScheduleConfig(0, 3, 0, 0), [3]),
        (AveragingConfig(), ScheduleConfig(0, 0, 0, 4), [1, 4]),
    ],
)
def test_the_start_follows_the_schedule_unless_it_is_given(config, schedule, wanted):
    assert list(config.epochs(schedule)) == wanted


def test_a_start_after_the_end_is_refused_with_the_recipe():
    with pytest.raises(ConfigError, match=r"start=201.*200 epochs"):
        Recipe().change("averaging.start=201")
    assert Recipe().change("averaging.start=120").averaging.start == 120


@pytest.mark.parametrize("wrong", [{"start": 0}, {"every": -1}, {"snapshots": 0}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match="must be"):
        AveragingConfig(**wrong)


@pytest.fixture
def net() -> nets.Net:
    torch.manual_seed(3)
    return nets.create("fa_resnet", width=4, n_mels=32, n_tags=3)


def test_the_mean_is_of_all_that_counted_and_the_network_is_not_touched(net):
    average, clips = AveragedModel(net), [torch.randn(4, 32, 40)]
    seen = []
    for _ in range(3):
        models.stir(net)
        seen.append({name: value.clone() for name, value in net.state_dict().items()})
        averaging.update(average, net, clips)
        assert all(value.equal(seen[-1][name]) for name, value in net.state_dict().items())
    for name, value in average.module.named_parameters():
        torch.testing.assert_close(value, torch.stack([each[name] for each in seen]).mean(dim=0))


def test_batch_norms_know_the_clips_and_nothing_else(net):
    """Their statistics are the means over the batches of what the averaged network itself computes."""
    models.stir(net)
    average = AveragedModel(net)
    clips = list(torch.from_numpy(np.random.default_rng(0).normal(5, 3, (3, 4, 32, 40)).astype(np.float32)))
    averaging.update(average, net, [torch.full((4, 32, 40), 100.0)])
    averaging.update(average, net, clips)
    heard: list[torch.Tensor] = []
    first = average.module.get_submodule("stem.0")
    assert isinstance(first, nn.Conv2d)
    average.eval()
    hook = first.register_forward_hook(lambda _module, _given, found: heard.append(found))
    with torch.no_grad():
        for batch in clips:
            average.module(batch)
    hook.remove()
    norm = average.module.get_submodule("stem.1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.momentum == net.get_submodule("stem.1").momentum
    torch.testing.assert_close(norm.running_mean, torch.stack([each.mean(dim=(0, 2, 3)) for each in heard]).mean(dim=0))
    spread = torch.stack([each.var(dim=(0, 2, 3)) for each in heard]).mean(dim=0)
    torch.testing.assert_close(norm.running_var, spread)
