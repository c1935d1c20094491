"""Weight averaging: the epochs, the mean of their weights, and batch norm statistics."""

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


def test_defaults_are_the_averages_of_the_paper():
    epochs = AveragingConfig().epochs(PAPER)
    assert (epochs[0], epochs[-1], len(epochs)) == (120, 198, 27)
    assert AveragingConfig().kept(PAPER, 200) == [189, 192, 195, 198]
    assert AveragingConfig().kept(PAPER, 125) == [120, 123]
    assert AveragingConfig().kept(PAPER, 119) == []


@pytest.mark.parametrize(
    ("config", "schedule", "expected"),
    [
        (AveragingConfig(every=0), PAPER, []),
        (AveragingConfig(start=100, every=50), PAPER, [100, 150, 200]),
        (AveragingConfig(start=200), PAPER, [200]),
        (AveragingConfig(), ScheduleConfig(4, 30, 40, 6), [74, 77, 80]),
        (AveragingConfig(), ScheduleConfig(0, 3, 0, 0), [3]),
        (AveragingConfig(), ScheduleConfig(0, 0, 0, 4), [1, 4]),
    ],
)
def test_start_follows_the_schedule_by_default(config, schedule, expected):
    assert list(config.epochs(schedule)) == expected


def test_a_start_after_the_last_epoch_raises():
    with pytest.raises(ConfigError, match=r"start=201.*200 epochs"):
        Recipe().change("averaging.start=201")
    assert Recipe().change("averaging.start=120").averaging.start == 120


@pytest.mark.parametrize("settings", [{"start": 0}, {"every": -1}, {"snapshots": 0}])
def test_numbers_out_of_range_raise(settings):
    with pytest.raises(ConfigError, match="must be"):
        AveragingConfig(**settings)


@pytest.fixture
def net() -> nets.Net:
    torch.manual_seed(3)
    return nets.create("fa_resnet", width=4, n_mels=32, n_tags=3)


def test_weights_are_averaged_and_the_network_is_not_changed(net):
    average, clips = AveragedModel(net), [torch.randn(4, 32, 40)]
    states = []
    for _ in range(3):
        models.stir(net)
        states.append({name: value.clone() for name, value in net.state_dict().items()})
        averaging.update(average, net, clips)
        assert all(value.equal(states[-1][name]) for name, value in net.state_dict().items())
    for name, value in average.module.named_parameters():
        torch.testing.assert_close(value, torch.stack([state[name] for state in states]).mean(dim=0))


def test_batch_norm_statistics_are_those_of_the_clips(net):
    """The statistics are means over batches of statistics of the averaged network's own activations."""
    models.stir(net)
    average = AveragedModel(net)
    clips = list(torch.from_numpy(np.random.default_rng(0).normal(5, 3, (3, 4, 32, 40)).astype(np.float32)))
    averaging.update(average, net, [torch.full((4, 32, 40), 100.0)])
    averaging.update(average, net, clips)
    outputs: list[torch.Tensor] = []
    first = average.module.get_submodule("stem.0")
    assert isinstance(first, nn.Conv2d)
    average.eval()
    hook = first.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    with torch.no_grad():
        for batch in clips:
            average.module(batch)
    hook.remove()
    norm = average.module.get_submodule("stem.1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.momentum == net.get_submodule("stem.1").momentum
    torch.testing.assert_close(
        norm.running_mean, torch.stack([output.mean(dim=(0, 2, 3)) for output in outputs]).mean(dim=0)
    )
    spread = torch.stack([output.var(dim=(0, 2, 3)) for output in outputs]).mean(dim=0)
    torch.testing.assert_close(norm.running_var, spread)
