"""Receptive fields: the published table, and what gradients measure."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moodfield import nets, receptive_field
from moodfield.errors import ConfigError
from moodfield.nets.blocks import FrequencyAwareConv2d
from moodfield.nets.configs import CPDenseNetConfig, CPResNetConfig, VGGConfig
from moodfield.nets.vgg import VGG
from moodfield.receptive_field import Layer, ReceptiveField

SIZES = [
    int(cells)
    for cells in "23 31 39 55 71 87 103 135 167 199 231 263 295 327 359 391 423 455 487 519 551 583 615".split()
]
"""cells that an output of CP-ResNet sees, for ρ = 0 … 22"""


# ---------------------------------------------------------------- by the rule


@pytest.mark.parametrize("kind", [CPResNetConfig, CPDenseNetConfig])
def test_a_regularized_network_sees_what_the_table_says(kind):
    for rho in range(23):
        for freq, time in ((rho, 3), (3, rho)):
            config = kind(rho_freq=freq, rho_time=time)
            along_freq, along_time = (
                receptive_field.compute(config.layers("freq")),
                receptive_field.compute(config.layers("time")),
            )
            assert (along_freq.size, along_time.size) == (SIZES[freq], SIZES[time])
            assert (along_freq.stride, along_time.stride) == (16, 16)


def test_frequency_awareness_shaking_and_width_change_no_field():
    for rho in (0, 7, 22):
        fields = {
            receptive_field.compute(CPResNetConfig(rho, 5, width, frequency_aware=aware, shake=shake).layers("freq"))
            for width in (1, 128)
            for aware in (False, True)
            for shake in (False, True)
        }
        assert len(fields) == 1


def test_the_kernels_follow_the_rule():
    for rho in range(23):
        assert receptive_field.kernel_sizes(rho) == (3, 1, *[3] * rho, *[1] * (22 - rho))
    for rho in (-1, 23):
        with pytest.raises(ConfigError, match=f"ρ is {rho}"):
            receptive_field.kernel_sizes(rho)


def test_the_layers_follow_the_rule():
    stem, pool, wide, narrow = Layer(5, 2, 1), Layer(2, 2), Layer(3, padding=1), Layer(1)
    begin = (stem, wide, narrow, pool, wide, narrow, pool)
    assert receptive_field.regularized_layers(1) == (*begin, *[narrow] * 4, pool, *[narrow] * 16)
    assert [layer for layer in receptive_field.regularized_layers(22) if layer not in (stem, pool)] == [
        wide,
        narrow,
        *[wide] * 22,
    ]


@pytest.mark.parametrize(("name", "size"), [("resnet18", 435), ("resnet34", 899), ("resnet50", 427)])
def test_a_vanilla_resnet_sees_what_is_known_of_it(name, size):
    for axis in ("freq", "time"):
        field = receptive_field.compute(nets.NETS[name].layers(axis))
        assert (field.size, field.stride) == (size, 32)


@pytest.mark.parametrize(
    ("rho", "hop", "wanted"),
    [
        (rho, hop, wanted)
        for rho, *both in [(2, 0.49, 1.37), (5, 1.05, 3.04), (7, 1.60, 4.71), (9, 2.35, 6.94), (12, 3.46, 10.29)]
        for hop, wanted in zip((512, 1536), both, strict=True)
    ],
)
def test_fields_in_seconds_include_the_window(rho, hop, wanted):
    assert receptive_field.seconds(SIZES[rho], sample_rate=44_100, n_fft=2_048, hop_length=hop) == pytest.approx(
        wanted, abs=0.0055
    )
    assert receptive_field.seconds(1, sample_rate=44_100, n_fft=2_048, hop_length=hop) == pytest.approx(2_048 / 44_100)


def test_vgg_sees_what_is_published():
    config = nets.NETS["vgg"]
    freq, time = receptive_field.compute(config.layers("freq")), receptive_field.compute(config.layers("time"))
    assert (freq.size, freq.stride, time.size, time.stride) == (174, 96, 2_090, 1_280)
    assert [receptive_field.output_size(config.layers("time"), frames) for frames in (1_279, 1_280, 2_559, 2_560)] == [
        0,
        1,
        1,
        2,
    ]


def test_a_field_by_hand():
    assert receptive_field.compute([]) == ReceptiveField(1, 1, 0)
    assert receptive_field.compute([Layer(3, padding=1)]) == ReceptiveField(3, 1, -1)
    assert receptive_field.compute([Layer(5, stride=2, padding=1), Layer(2, stride=2)]) == ReceptiveField(7, 4, -1)
    assert receptive_field.compute([Layer(5, stride=2, padding=1), Layer(3, padding=1)]) == ReceptiveField(9, 2, -3)
    assert ReceptiveField(7, 4, -1).centre == 2
    assert ReceptiveField(4, 2, 0).centre == 1.5


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
            assert receptive_field.output_size(layers, cells) == wanted
    assert receptive_field.output_size([], 5) == 5


def test_the_fewest_cells_are_found():
    assert receptive_field.min_input([]) == 1
    assert receptive_field.min_input([Layer(4, 3)]) == 4
    assert receptive_field.min_input([Layer(5, 2, 1), Layer(2, 2)]) == 5
    known = {"cp_resnet": (17, 17), "cp_densenet": (17, 17), "plain": (1, 1), "crnn": (64, 96), "vgg": (96, 1_280)}
    for config in nets.NETS.values():
        for axis, wanted in zip(("freq", "time"), known[config.family], strict=True):
            cells = receptive_field.min_input(config.layers(axis))
            assert cells == wanted
            assert receptive_field.output_size(config.layers(axis), cells) == 1
            assert not any(receptive_field.output_size(config.layers(axis), fewer) for fewer in range(cells))


# ---------------------------------------------------------------- by gradients


def linear(net: nets.Net) -> nets.Net:
    """The network with positive weights and averages for maxima, so that nothing bends and every cell counts."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_((0.5 + torch.rand_like(parameter)) / (parameter[0].numel() if parameter.dim() > 1 else 1))
    for parent in list(net.modules()):
        if isinstance(parent, FrequencyAwareConv2d):
            parent.weight.data[:, -1] = 0  # positions below the middle are negative
        for name, child in parent.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
    return net.eval().double()


def cells(net: nets.Net, mels: Tensor) -> Tensor:
    """The map of a network before its means and linear layers, all channels added; of the VGG, for any length."""
    first = net.bn_init if isinstance(net, VGG) else getattr(net, "stem", nn.Identity())
    return net.blocks(first(mels[:, None]))[0].sum(dim=0)


def seen(output: Tensor, mels: Tensor) -> tuple[set[int], set[int]]:
    """Bands and frames of the mel that change an output."""
    (gradient,) = torch.autograd.grad(output, mels, retain_graph=True)
    return tuple(set(torch.nonzero(gradient[0].abs().sum(dim=axis))[:, 0].tolist()) for axis in (1, 0))


def fitting(layers: tuple[Layer, ...], cells: int) -> int:
    """The fewest cells with as many outputs: none of them is left over by a pooling."""
    while receptive_field.output_size(layers, cells - 1) == receptive_field.output_size(layers, cells):
        cells -= 1
    return cells


RULED = ("cp_resnet", "fa_resnet", "shake_fa_resnet", "cp_densenet")
RHOS = ((0, 0), (1, 1), (12, 12), (5, 9), (7, 2), (0, 13))


@pytest.mark.parametrize(
    ("name", "rhos"), [*((name, ()) for name in nets.NETS), *((name, rhos) for name in RULED for rhos in RHOS)]
)
def test_gradients_reach_the_field_and_nothing_else(name, rhos):
    torch.manual_seed(0)
    thin = {"width": 1, "growth": 1} if name == "cp_densenet" else {"width": 1}
    net = linear(
        nets.create(name, n_mels=96, n_tags=1, **thin, **dict(zip(("rho_freq", "rho_time"), rhos, strict=False)))
    )
    layers = [net.config.layers(axis) for axis in ("freq", "time")]
    fields = [receptive_field.compute(along) for along in layers]
    lengths = [fitting(along, field.size + 2 * field.stride) for along, field in zip(layers, fields, strict=True)]
    mels = torch.rand(1, *lengths, dtype=torch.float64, requires_grad=True)
    found = cells(net, mels)
    assert found.shape == tuple(receptive_field.output_size(*each) for each in zip(layers, lengths, strict=True))
    inner = [-(field.start // field.stride) for field in fields]
    for at in (inner, [0, 0], [found.shape[0] - 1, inner[1]], [inner[0], found.shape[1] - 1]):
        for part, field, index, length in zip(seen(found[*at], mels), fields, at, lengths, strict=True):
            first = field.start + index * field.stride
            assert part == set(range(max(first, 0), min(first + field.size, length)))
    assert [len(part) for part in seen(found[*inner], mels)] == [field.size for field in fields]


@pytest.mark.parametrize("name", list(nets.NETS))
def test_what_is_heard_over_time_sees_the_field_in_time(name):
    torch.manual_seed(0)
    net = linear(nets.create(name, n_mels=96, n_tags=1, width=1))
    field = receptive_field.compute(net.config.layers("time"))
    frames = VGGConfig.MAX_FRAMES if name == "vgg" else field.size + 2 * field.stride
    mels = torch.rand(1, 96, frames, dtype=torch.float64, requires_grad=True)
    heard = net.forward_features(mels)[0].sum(dim=0)
    index = 0 if name == "vgg" else -(field.start // field.stride)
    first = field.start + index * field.stride
    bands, frames = seen(heard[index], mels)
    assert frames == set(range(max(first, 0), first + field.size))
    assert len(bands) > 80
