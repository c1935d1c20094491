"""Receptive fields: the published table, and what gradients measure."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from moodfield import nets, receptive
from moodfield.nets import resnet, vgg
from moodfield.nets.resnet import CPResNetConfig
from moodfield.receptive import Field, Layer

SIZES = [
    int(cells)
    for cells in "23 31 39 55 71 87 103 135 167 199 231 263 295 327 359 391 423 455 487 519 551 583 615".split()
]
"""cells that an output of CP-ResNet sees, for ρ = 0 … 22"""


# ---------------------------------------------------------------- by the rule


@pytest.mark.parametrize("rho", range(23))
def test_cp_resnet_sees_what_the_table_says(rho):
    for config in (CPResNetConfig(rho_freq=rho, rho_time=3), CPResNetConfig(rho_freq=3, rho_time=rho)):
        axis, other = ("freq", "time") if config.rho_freq == rho else ("time", "freq")
        assert (receptive.field(config.layers(axis)).size, receptive.field(config.layers(axis)).stride) == (
            SIZES[rho],
            16,
        )
        assert receptive.field(config.layers(other)).size == SIZES[3]


def test_frequency_awareness_and_width_change_no_field():
    for rho in (0, 7, 22):
        fields = {
            receptive.field(CPResNetConfig(rho_freq=rho, width=width, frequency_aware=aware).layers("freq"))
            for width in (1, 128)
            for aware in (False, True)
        }
        assert len(fields) == 1


def test_the_kernels_follow_the_rule():
    for rho in range(23):
        flat = [size for block in resnet.kernels(rho) for size in block]
        assert flat == [3, 1] + [3] * rho + [1] * (22 - rho)


@pytest.mark.parametrize(
    ("rho", "hop", "wanted"),
    [
        (rho, hop, wanted)
        for rho, *both in [(2, 0.49, 1.37), (5, 1.05, 3.04), (7, 1.60, 4.71), (9, 2.35, 6.94), (12, 3.46, 10.29)]
        for hop, wanted in zip((512, 1536), both, strict=True)
    ],
)
def test_fields_in_seconds_include_the_window(rho, hop, wanted):
    assert receptive.seconds(SIZES[rho], rate=44_100, window=2_048, hop=hop) == pytest.approx(wanted, abs=0.0055)
    assert receptive.seconds(1, rate=44_100, window=2_048, hop=hop) == pytest.approx(2_048 / 44_100)


def test_vgg_sees_what_is_published():
    config = nets.NETS["vgg"]
    freq, time = receptive.field(config.layers("freq")), receptive.field(config.layers("time"))
    assert (freq.size, freq.stride, time.size, time.stride) == (174, 96, 2_090, 1_280)
    assert [receptive.outputs(config.layers("time"), frames) for frames in (1_279, 1_280, 2_559, 2_560)] == [0, 1, 1, 2]


def test_a_field_by_hand():
    assert receptive.field([]) == Field(1, 1, 0)
    assert receptive.field([Layer(3, padding=1)]) == Field(3, 1, -1)
    assert receptive.field([Layer(5, stride=2, padding=1), Layer(2, stride=2)]) == Field(7, 4, -1)
    assert receptive.field([Layer(5, stride=2, padding=1), Layer(3, padding=1)]) == Field(9, 2, -3)
    assert Field(7, 4, -1).centre == 2
    assert Field(4, 2, 0).centre == 1.5


def test_outputs_are_as_many_as_torch_gives():
    for layers in ([Layer(5, 2, 1), Layer(3, 1, 1), Layer(2, 2)], [Layer(4, 3)], [Layer(3, 2, 1), Layer(3, 2, 1)]):
        for cells in range(1, 40):
            line = torch.zeros(1, 1, cells)
            try:
                for layer in layers:
                    line = F.conv1d(line, torch.zeros(1, 1, layer.kernel), stride=layer.stride, padding=layer.padding)
                wanted = line.shape[2]
            except RuntimeError:
                wanted = 0
            assert receptive.outputs(layers, cells) == wanted
    assert receptive.outputs([], 5) == 5


# ---------------------------------------------------------------- by gradients


def linear(net: nets.Net) -> nets.Net:
    """The network with positive weights and averages for maxima, so that every cell that can count does."""
    torch.manual_seed(0)
    for name, parameter in net.named_parameters():
        with torch.no_grad():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
            parameter.copy_((0.5 + torch.rand_like(parameter)) / fan_in)
            if name.endswith(("conv1.weight", "conv2.weight")) and net.config.frequency_aware:
                parameter[:, -1] = 0  # positions below the middle are negative
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(child.kernel_size, child.stride))
    return net.eval().double()


def seen(output: torch.Tensor, mels: torch.Tensor) -> tuple[set[int], set[int]]:
    """Bands and frames of the mel that change an output."""
    (gradient,) = torch.autograd.grad(output, mels, retain_graph=True)
    return tuple(set(torch.nonzero(gradient[0].abs().sum(dim=axis))[:, 0].tolist()) for axis in (1, 0))


@pytest.mark.parametrize("name", ["cp_resnet", "fa_resnet"])
@pytest.mark.parametrize(("rho_freq", "rho_time"), [(0, 0), (1, 1), (5, 5), (7, 7), (12, 12), (5, 9), (7, 2), (0, 13)])
def test_gradients_reach_the_field_and_nothing_else(name, rho_freq, rho_time):
    config = nets.create(name, rho_freq=rho_freq, rho_time=rho_time, width=1, bands=1, tags=1).config
    along = [receptive.field(config.layers(axis)) for axis in ("freq", "time")]
    bands, frames = (field.size + 5 * field.stride for field in along)
    net = linear(nets.create(name, rho_freq=rho_freq, rho_time=rho_time, width=1, bands=bands, tags=1))
    mels = torch.rand(1, bands, frames, dtype=torch.float64, requires_grad=True)
    cells = net.head(net.blocks(net.stem(net.standardize(mels))))[0, 0]
    assert cells.shape == tuple(
        receptive.outputs(config.layers(axis), cells) for axis, cells in (("freq", bands), ("time", frames))
    )
    inner = [-(field.start // field.stride) + 1 for field in along]
    for at in (inner, [0, 0], [cells.shape[0] - 1, inner[1]]):
        found = seen(cells[at[0], at[1]], mels)
        for part, field, index, length in zip(found, along, at, (bands, frames), strict=True):
            first = field.start + index * field.stride
            assert part == set(range(max(first, 0), min(first + field.size, length)))
    assert len(found[1]) == along[1].size
    assert seen(net.over_time(mels)[0, 0, inner[1]], mels)[1] == found[1]


def test_gradients_reach_the_field_of_vgg_and_nothing_else(monkeypatch):
    torch.manual_seed(0)
    config = nets.NETS["vgg"]
    net = nets.create("vgg", bands=96, tags=1)
    for parameter in net.parameters():
        with torch.no_grad():
            parameter.copy_((0.5 + torch.rand_like(parameter)) / (parameter[0].numel() if parameter.dim() > 1 else 1))
    monkeypatch.setattr(vgg.F, "max_pool2d", F.avg_pool2d)
    mels = torch.rand(1, 96, vgg.LONGEST, dtype=torch.float64, requires_grad=True)
    bands, frames = seen(net.eval().double().over_time(mels)[0, 0, 0], mels)
    field = receptive.field(config.layers("time"))
    assert bands == set(range(96))
    assert frames == set(range(field.start + field.size))
    assert field.start < 0
