"""Receptive fields: the published table, and gradients of networks."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moodfield import nets, receptive_field
from moodfield.errors import ConfigError
from moodfield.mel import MelConfig
from moodfield.nets.blocks import FrequencyAwareConv2d
from moodfield.nets.configs import CPDenseNetConfig, CPResNetConfig, VGGConfig
from moodfield.nets.vgg import VGG
from moodfield.receptive_field import Layer, ReceptiveField

SIZES = [
    int(cells)
    for cells in "23 31 39 55 71 87 103 135 167 199 231 263 295 327 359 391 423 455 487 519 551 583 615".split()
]
"""receptive field of CP-ResNet in cells, for ρ = 0 … 22"""


# ---------------------------------------------------------------- arithmetic


@pytest.mark.parametrize("kind", [CPResNetConfig, CPDenseNetConfig])
def test_regularized_networks_have_the_fields_of_the_table(kind):
    for rho in range(23):
        for freq, time in ((rho, 3), (3, rho)):
            config = kind(rho_freq=freq, rho_time=time)
            along_freq, along_time = (
                receptive_field.compute(config.layers("freq")),
                receptive_field.compute(config.layers("time")),
            )
            assert (along_freq.size, along_time.size) == (SIZES[freq], SIZES[time])
            assert (along_freq.stride, along_time.stride) == (16, 16)


def test_frequency_awareness_shaking_and_width_do_not_change_the_field():
    for rho in (0, 7, 22):
        fields = {
            receptive_field.compute(CPResNetConfig(rho, 5, width, frequency_aware=aware, shake=shake).layers("freq"))
            for width in (1, 128)
            for aware in (False, True)
            for shake in (False, True)
        }
        assert len(fields) == 1


def test_kernel_sizes_follow_the_rule():
    for rho in range(23):
        assert receptive_field.kernel_sizes(rho) == (3, 1, *[3] * rho, *[1] * (22 - rho))
    for rho in (-1, 23):
        with pytest.raises(ConfigError, match=f"ρ is {rho}"):
            receptive_field.kernel_sizes(rho)


def test_regularized_layers_follow_the_rule():
    stem, pool, wide, narrow = Layer(5, 2, 1), Layer(2, 2), Layer(3, padding=1), Layer(1)
    begin = (stem, wide, narrow, pool, wide, narrow, pool)
    assert receptive_field.regularized_layers(1) == (*begin, *[narrow] * 4, pool, *[narrow] * 16)
    assert [layer for layer in receptive_field.regularized_layers(22) if layer not in (stem, pool)] == [
        wide,
        narrow,
        *[wide] * 22,
    ]


@pytest.mark.parametrize(("name", "size"), [("resnet18", 435), ("resnet34", 899), ("resnet50", 427)])
def test_plain_resnets_have_the_published_field(name, size):
    for axis in ("freq", "time"):
        field = receptive_field.compute(nets.NETS[name].layers(axis))
        assert (field.size, field.stride) == (size, 32)


@pytest.mark.parametrize(
    ("rho", "hop", "seconds"),
    [
        (rho, hop, seconds)
        for rho, *both in [(2, 0.49, 1.37), (5, 1.05, 3.04), (7, 1.60, 4.71), (9, 2.35, 6.94), (12, 3.46, 10.29)]
        for hop, seconds in zip((512, 1536), both, strict=True)
    ],
)
def test_fields_in_seconds_include_the_window(rho, hop, seconds):
    config = MelConfig(hop_length=hop)
    assert receptive_field.seconds(SIZES[rho], config) == pytest.approx(seconds, abs=0.0055)
    assert receptive_field.seconds(1, config) == pytest.approx(2_048 / 44_100)


def test_vgg_has_the_published_field():
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


def test_output_size_equals_torch():
    for layers in ([Layer(5, 2, 1), Layer(3, 1, 1), Layer(2, 2)], [Layer(4, 3)], [Layer(3, 2, 1), Layer(3, 2, 1)]):
        for cells in range(1, 40):
            line = torch.zeros(1, 1, cells)
            try:
                for layer in layers:
                    line = F.conv1d(line, torch.zeros(1, 1, layer.kernel), stride=layer.stride, padding=layer.padding)
                expected = line.shape[2]
            except RuntimeError:
                expected = 0
            assert receptive_field.output_size(layers, cells) == expected
    assert receptive_field.output_size([], 5) == 5


def test_min_input_is_the_least_size_with_an_output():
    assert receptive_field.min_input([]) == 1
    assert receptive_field.min_input([Layer(4, 3)]) == 4
    assert receptive_field.min_input([Layer(5, 2, 1), Layer(2, 2)]) == 5
    min_sizes = {"cp_resnet": (17, 17), "cp_densenet": (17, 17), "plain": (1, 1), "crnn": (64, 96), "vgg": (96, 1_280)}
    for config in nets.NETS.values():
        for axis, expected in zip(("freq", "time"), min_sizes[config.family], strict=True):
            cells = receptive_field.min_input(config.layers(axis))
            assert cells == expected
            assert receptive_field.output_size(config.layers(axis), cells) == 1
            assert not any(receptive_field.output_size(config.layers(axis), fewer) for fewer in range(cells))


# ---------------------------------------------------------------- gradients


def linearized(net: nets.Net) -> nets.Net:
    """The network with positive weights and average pooling, so that it is linear and every cell has a gradient."""
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


def input_cells_of(output: Tensor, mels: Tensor) -> tuple[set[int], set[int]]:
    """Bands and frames of the mel that change an output."""
    (gradient,) = torch.autograd.grad(output, mels, retain_graph=True)
    return tuple(set(torch.nonzero(gradient[0].abs().sum(dim=axis))[:, 0].tolist()) for axis in (1, 0))


def shrink_to_field(layers: tuple[Layer, ...], cells: int) -> int:
    """The least number of cells with the same number of outputs, so that pooling drops none."""
    while receptive_field.output_size(layers, cells - 1) == receptive_field.output_size(layers, cells):
        cells -= 1
    return cells


REGULARIZED = ("cp_resnet", "fa_resnet", "shake_fa_resnet", "cp_densenet")
RHOS = ((0, 0), (1, 1), (12, 12), (5, 9), (7, 2), (0, 13))


@pytest.mark.parametrize(
    ("name", "rhos"), [*((name, ()) for name in nets.NETS), *((name, rhos) for name in REGULARIZED for rhos in RHOS)]
)
def test_gradients_cover_exactly_the_field(name, rhos):
    torch.manual_seed(0)
    changes = {"width": 1, "growth": 1} if name == "cp_densenet" else {"width": 1}
    net = linearized(
        nets.create(name, n_mels=96, n_tags=1, **changes, **dict(zip(("rho_freq", "rho_time"), rhos, strict=False)))
    )
    layers = [net.config.layers(axis) for axis in ("freq", "time")]
    fields = [receptive_field.compute(along) for along in layers]
    lengths = [
        shrink_to_field(along, field.size + 2 * field.stride) for along, field in zip(layers, fields, strict=True)
    ]
    mels = torch.rand(1, *lengths, dtype=torch.float64, requires_grad=True)
    output = cells(net, mels)
    assert output.shape == tuple(
        receptive_field.output_size(*arguments) for arguments in zip(layers, lengths, strict=True)
    )
    inner = [-(field.start // field.stride) for field in fields]
    for position in (inner, [0, 0], [output.shape[0] - 1, inner[1]], [inner[0], output.shape[1] - 1]):
        for input_cells, field, index, length in zip(
            input_cells_of(output[*position], mels), fields, position, lengths, strict=True
        ):
            first = field.start + index * field.stride
            assert input_cells == set(range(max(first, 0), min(first + field.size, length)))
    assert [len(input_cells) for input_cells in input_cells_of(output[*inner], mels)] == [
        field.size for field in fields
    ]


@pytest.mark.parametrize("name", list(nets.NETS))
def test_logits_over_time_have_the_field_in_time(name):
    torch.manual_seed(0)
    net = linearized(nets.create(name, n_mels=96, n_tags=1, width=1))
    field = receptive_field.compute(net.config.layers("time"))
    frames = VGGConfig.MAX_FRAMES if name == "vgg" else field.size + 2 * field.stride
    mels = torch.rand(1, 96, frames, dtype=torch.float64, requires_grad=True)
    logits = net.forward_features(mels)[0].sum(dim=0)
    index = 0 if name == "vgg" else -(field.start // field.stride)
    first = field.start + index * field.stride
    bands, frames = input_cells_of(logits[index], mels)
    assert frames == set(range(max(first, 0), first + field.size))
    assert len(bands) > 80
