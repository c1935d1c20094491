"""Blocks: standardiser, frequency-aware convolution, shake-shake, inputs left unchanged, initialisation."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import models
from moodfield import nets
from moodfield.errors import ConfigError
from moodfield.nets.blocks import DenseLayer, FrequencyAwareConv2d, ResidualBlock, ShakeShake, Standardize, convolution

KERNELS = [(1, 1), (3, 1), (1, 3), (3, 3)]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(20)


def create(name: str, **changes: object) -> nets.Net:
    """A network of the registry that is quick to run."""
    return nets.create(name, **{"n_mels": 40, "n_tags": 7, "width": 6, **changes})


# Standardiser


def test_standardize_gives_mean_0_and_std_1():
    mels = torch.randn(5, 4, 2_000) * torch.tensor([0.01, 1, 5, 100])[:, None] + torch.tensor([3, -2, 0, 50])[:, None]
    layer = Standardize(4)
    assert torch.equal(layer(mels)[:, 0], mels)
    layer.set_statistics(mels.mean(dim=(0, 2)), mels.std(dim=(0, 2)))
    output = layer(mels)
    assert output.shape == (5, 1, 4, 2_000)
    torch.testing.assert_close(output.mean(dim=(0, 1, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(output.std(dim=(0, 1, 3)), torch.ones(4), atol=1e-3, rtol=0)
    assert set(layer.state_dict()) == {"mean", "std"}
    assert not list(layer.parameters())


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan")])
def test_a_std_that_is_not_positive_raises(std):
    layer = Standardize(3)
    with pytest.raises(ConfigError, match="std"):
        layer.set_statistics(torch.ones(3), torch.tensor([1, std, 1]))
    assert not layer.mean.any()
    assert (layer.std == 1).all()


def test_statistics_of_one_band_apply_to_all():
    layer = Standardize(1)
    layer.set_statistics(torch.tensor([2.0]), torch.tensor([4.0]))
    for bands in (1, 3, 80):
        mels = torch.randn(2, bands, 5)
        torch.testing.assert_close(layer(mels)[:, 0], (mels - 2) / 4)


# Frequency-aware convolution


def concatenated(maps: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    """The definition: one more channel for every group, zero-padded like the others."""
    batch, _, freq, time = maps.shape
    rows = torch.tensor([2 * i / freq - 1 for i in range(freq)], dtype=maps.dtype)
    positions = rows.view(1, 1, freq, 1).expand(batch, 1, freq, time)
    grouped = [part for group in maps.chunk(groups, dim=1) for part in (group, positions)]
    padding = (weight.shape[2] // 3, weight.shape[3] // 3)
    return F.conv2d(torch.cat(grouped, dim=1), weight, padding=padding, groups=groups)


@pytest.fixture(params=["eager", "compiling"])
def implementation(request, monkeypatch) -> str:
    """Both implementations: the one in eager mode and the one for compilers and exporters."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: request.param == "compiling")
    return request.param


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("time", [1, 2, 3, 50])
def test_adding_positions_equals_concatenating_them(implementation, kernel, groups, time):
    for freq in (1, 2, 15, 16):
        conv = convolution(6, 10, kernel, frequency_aware=True, groups=groups).double()
        assert isinstance(conv, FrequencyAwareConv2d)
        assert conv.weight.shape == (10, 6 // groups + 1, *kernel)
        assert conv.bias is None
        maps = torch.randn(2, 6, freq, time, dtype=torch.float64, requires_grad=True)
        copies = [tensor.detach().clone().requires_grad_() for tensor in (maps, conv.weight)]
        output, expected = conv(maps), concatenated(*copies, groups)
        torch.testing.assert_close(output, expected, atol=1e-12, rtol=0)
        assert torch.equal(maps, copies[0])
        without = F.conv2d(maps, conv.weight[:, :-1], padding=conv.padding, groups=groups)
        assert (output - without).abs().max() > 1e-3
        direction = torch.randn_like(output)
        gradients = torch.autograd.grad(output, (maps, conv.weight), direction)
        for gradient, expected_gradient in zip(
            gradients, torch.autograd.grad(expected, copies, direction), strict=True
        ):
            torch.testing.assert_close(gradient, expected_gradient, atol=1e-11, rtol=0)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("groups", [1, 2])
def test_positions_in_bfloat16(implementation, kernel, groups):
    for time in (1, 2, 3, 50):
        conv = convolution(6, 10, kernel, frequency_aware=True, groups=groups)
        maps = torch.randn(4, 6, 127, time)
        exact = [tensor.detach().double().requires_grad_() for tensor in (maps, conv.weight)]
        with torch.autocast("cpu", torch.bfloat16):
            output = conv(maps.requires_grad_())
        assert output.dtype == torch.bfloat16
        expected = concatenated(*exact, groups)
        direction = torch.randn_like(output)
        gradients = torch.autograd.grad(output, (maps, conv.weight), direction)
        assert [gradient.dtype for gradient in gradients] == [torch.float32] * 2
        for actual, exact_value in zip(
            (output, *gradients), (expected, *torch.autograd.grad(expected, exact, direction.double())), strict=True
        ):
            assert (actual.double() - exact_value).norm() < 0.01 * exact_value.norm()
            assert (actual.double() - exact_value).abs().max() < 0.03 * exact_value.abs().max()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("groups", [1, 2])
def test_positions_in_both_memory_formats(implementation, kernel, groups):
    conv = convolution(6, 10, kernel, frequency_aware=True, groups=groups).double()
    maps = torch.randn(3, 6, 7, 8, dtype=torch.float64)
    direction = torch.randn(3, 10, 7, 8, dtype=torch.float64)
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        laid_out = maps.clone(memory_format=layout).requires_grad_()
        conv.to(memory_format=layout)
        result = conv(laid_out)
        assert result.is_contiguous(memory_format=layout)
        results.append((result, *torch.autograd.grad(result, (laid_out, conv.weight), direction)))
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, atol=1e-12, rtol=0)


def test_a_convolution_without_positions():
    for kernel in KERNELS:
        conv = convolution(4, 6, kernel, frequency_aware=False, groups=2)
        assert type(conv) is nn.Conv2d
        assert conv.bias is None
        assert conv.weight.shape == (6, 2, *kernel)
        assert conv(torch.randn(1, 4, 9, 8)).shape == (1, 6, 9, 8)


@pytest.mark.parametrize(
    ("name", "changes", "aware"),
    [
        ("fa_resnet", {}, 24),
        ("shake_fa_resnet", {}, 24),
        ("cp_densenet", {"frequency_aware": True}, 24),
        ("cp_resnet", {}, 0),
        ("cp_resnet", {"shake": True}, 0),
        ("cp_densenet", {}, 0),
    ],
)
def test_only_convolutions_of_blocks_are_frequency_aware(name, changes, aware):
    net = create(name, **changes)
    aware_names = {name for name, module in net.named_modules() if isinstance(module, FrequencyAwareConv2d)}
    assert len(aware_names) == aware
    assert all(name.startswith("blocks.") and name.endswith(("conv1", "conv2", ".conv")) for name in aware_names)
    assert not any("shortcut" in name for name in aware_names)
    assert not any("position" in key for key in net.state_dict())


@pytest.mark.parametrize(
    ("name", "changes", "is_aware"),
    [
        ("fa_resnet", {}, True),
        ("shake_fa_resnet", {}, True),
        ("cp_densenet", {"frequency_aware": True}, True),
        ("cp_resnet", {}, False),
        ("cp_resnet", {"shake": True}, False),
        ("cp_densenet", {}, False),
    ],
)
def test_only_frequency_aware_networks_depend_on_absolute_frequency(name, changes, is_aware):
    net = create(name, n_mels=160, rho_freq=0, rho_time=0, **changes)
    models.stir(net)
    net.train()(torch.randn(2, 160, 120))
    net.eval()
    music = torch.randn(1, 32, 120)
    low, high = (F.pad(music, (0, 0, row, 128 - row)) for row in (32, 96))  # their distance is a multiple of the stride
    change, size = (net(low) - net(high)).abs().max(), (net(low) - net(low * 0)).abs().max()
    assert size > 0.05
    assert change > 0.03 * size if is_aware else change < 1e-4 * size


# Inputs


@pytest.mark.parametrize(
    "make",
    [
        lambda: ResidualBlock(4, 4, ((3, 1), (1, 3)), frequency_aware=True),
        lambda: ResidualBlock(4, 6, ((3, 1), (1, 3)), frequency_aware=True, shake=True),
        lambda: DenseLayer(4, 2, (3, 3), frequency_aware=True),
    ],
    ids=["residual", "shaken", "dense"],
)
def test_a_block_does_not_change_its_input(make):
    for mode in (True, False):
        block = make().train(mode)
        maps = torch.randn(2, 4, 5, 6)
        copy = maps.clone()
        output = block(maps)
        assert torch.equal(maps, copy)
        assert output.shape[2:] == maps.shape[2:]


# Shake-shake


def shares(count: int, dtype: torch.dtype = torch.float32) -> tuple[np.ndarray, np.ndarray]:
    """The share of the first branch in the output and in the gradient, by sample."""
    ones, zeros = torch.ones(count, 2, 3, 2, dtype=dtype), torch.zeros(count, 2, 3, 2, dtype=dtype)
    ones.requires_grad_(), zeros.requires_grad_()
    mix = ShakeShake.apply(ones, zeros)
    first, second = torch.autograd.grad(mix, (ones, zeros), torch.ones_like(mix))
    torch.testing.assert_close(first + second, torch.ones_like(mix))
    for maps in (mix, first):
        assert maps.dtype == dtype
        assert (maps == maps[:, :1, :1, :1]).all()  # one share for all cells of a sample
    return mix[:, 0, 0, 0].detach().float().numpy(), first[:, 0, 0, 0].float().numpy()


def test_shares_are_uniform_and_independent():
    count = 5_000
    drawn = [*shares(count), *shares(count)]
    for share in drawn:
        assert share.min() >= 0
        assert share.max() <= 1
        expected = (np.arange(count) + 0.5) / count
        assert np.abs(np.sort(share) - expected).max() < 1.95 / math.sqrt(count)  # Kolmogorov and Smirnov, p = 0.001
    correlations = np.corrcoef(drawn) - np.eye(4)
    assert np.abs(correlations).max() < 4 / math.sqrt(count)
    assert np.abs(np.corrcoef(drawn[0][1:], drawn[0][:-1])[0, 1]) < 4 / math.sqrt(count)


def test_shares_stay_in_range_in_bfloat16():
    for share in shares(5_000, torch.bfloat16):
        assert share.min() >= 0
        assert share.max() <= 1
        assert len(np.unique(share)) > 200
        assert share.mean() == pytest.approx(0.5, abs=0.02)
        assert share.var() == pytest.approx(1 / 12, rel=0.05)


def test_the_gradients_of_both_branches_sum_to_the_whole():
    first_branch, second_branch = (torch.randn(6, 3, 4, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mix = ShakeShake.apply(first_branch, second_branch)
    share = ((mix - second_branch) / (first_branch - second_branch)).detach()
    torch.testing.assert_close(share, share[:, :1, :1, :1].expand_as(share))
    torch.testing.assert_close(mix, share * first_branch + (1 - share) * second_branch)
    gradient = torch.randn_like(mix)
    first, second = torch.autograd.grad(mix, (first_branch, second_branch), gradient)
    torch.testing.assert_close(first + second, gradient)
    backward = first / gradient
    torch.testing.assert_close(backward, backward[:, :1, :1, :1].expand_as(backward))
    assert (backward - share).abs().min() > 1e-3


def randomized(block: ResidualBlock) -> ResidualBlock:
    """A block with random weights and statistics, in double precision."""
    with torch.no_grad():
        for tensor in (*block.parameters(), *block.buffers()):
            if tensor.is_floating_point():
                tensor.uniform_(0.2, 1.5) if tensor.dim() == 1 else tensor.normal_(std=0.5)
    return block.double().eval()


Norm = Callable[[Tensor, nn.BatchNorm2d, slice], Tensor]


def evaluate_half(maps: Tensor, norm: nn.BatchNorm2d, half: slice) -> Tensor:
    """A half of a batch norm in evaluation."""
    return F.batch_norm(maps, norm.running_mean[half], norm.running_var[half], norm.weight[half], norm.bias[half])


def train_half(maps: Tensor, norm: nn.BatchNorm2d, half: slice) -> Tensor:
    """A half of a batch norm in training."""
    return F.batch_norm(maps, None, None, norm.weight[half], norm.bias[half], training=True)


def branches(block: ResidualBlock, maps: Tensor, norm: Norm) -> list[Tensor]:
    """Both branches of a shaken block, each computed by itself from its half of the stacked weights."""
    outputs = block.bn2.num_features // 2
    outputs_ = []
    for half in (slice(0, outputs), slice(outputs, None)):
        inner = concatenated(maps, block.conv1.weight[half])
        outputs_.append(
            norm(concatenated(norm(inner, block.bn1, half).relu(), block.conv2.weight[half]), block.bn2, half)
        )
    return outputs_


@pytest.mark.parametrize(("inputs", "outputs"), [(4, 4), (4, 6)])
@pytest.mark.parametrize("kernels", [((3, 1), (1, 3)), ((3, 3), (3, 3)), ((1, 1), (1, 1))])
def test_evaluation_averages_both_branches(inputs, outputs, kernels):
    block = randomized(ResidualBlock(inputs, outputs, kernels, frequency_aware=True, shake=True))
    maps = torch.randn(3, inputs, 6, 7, dtype=torch.float64)
    first, second = branches(block, maps, evaluate_half)
    assert (first - second).abs().mean() > 0.5
    expected = F.relu((first + second) / 2 + block.shortcut(maps))
    torch.testing.assert_close(block(maps), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(block(maps), expected, atol=1e-12, rtol=0)  # no random shares in evaluation


def test_training_mixes_branches_by_one_share_per_sample():
    block = randomized(ResidualBlock(4, 6, ((3, 1), (3, 3)), frequency_aware=True, shake=True)).train()
    maps = torch.randn(5, 4, 6, 7, dtype=torch.float64)
    first, second = branches(block, maps, train_half)
    shortcut, output = block.shortcut(maps), block(maps)
    share = ((output - shortcut - second) / (first - second)).detach()
    for sample in range(5):
        clear = (output[sample] > 0.01) & ((first - second)[sample].abs() > 0.1)
        assert clear.sum() > 20
        assert 0 <= share[sample][clear].min() == pytest.approx(float(share[sample][clear].max()), abs=1e-9)
        assert share[sample][clear].max() <= 1
    assert len(np.unique(share.flatten(1).median(dim=1).values.numpy().round(6))) == 5


@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
def test_equal_branches_make_shake_shake_the_identity(mode):
    net, shaken = (create(name).double() for name in ("fa_resnet", "shake_fa_resnet"))
    models.stir(net)
    net.train()(torch.randn(2, 40, 120))
    shaken.load_state_dict(doubled(net.state_dict()))
    mels = torch.randn(3, 40, 120, dtype=torch.float64)
    shaken_logits, expected = shaken.train(mode)(mels), net.train(mode)(mels)
    assert expected.std() > 0.1
    torch.testing.assert_close(shaken_logits, expected, atol=1e-6, rtol=0)
    direction = torch.randn_like(expected)
    (gradient,), (shaken_gradient,) = (
        torch.autograd.grad(logits, module.stem[0].weight, direction)
        for module, logits in ((net, expected), (shaken, shaken_logits))
    )
    torch.testing.assert_close(shaken_gradient, gradient, atol=1e-6, rtol=1e-6)


def doubled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state of shaken blocks whose two branches are the residual of blocks that are not shaken."""
    branch = ("conv1", "bn1", "conv2", "bn2")
    return {
        key: torch.cat([value, value]) if value.dim() and set(key.split(".")) & set(branch) else value
        for key, value in state.items()
    }


def test_every_block_and_step_draws_its_own_shares():
    net = create("shake_fa_resnet", width=2, rho_freq=0, rho_time=0).train()
    nn.init.uniform_(net.head[0].weight)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # in training mode they would remove constants
    shares_: list[Tensor] = []
    blocks = [block for block in net.blocks if isinstance(block, ResidualBlock)]
    for block in blocks:  # one branch is all ones and one all zeros: their mix is the share itself
        half = block.bn2.num_features // 2
        with torch.no_grad():
            for weight in block.shortcut.parameters():
                weight.abs_()  # positive, so that ReLU changes nothing
            block.bn2.weight.zero_()
            block.bn2.bias.copy_(torch.arange(2).repeat_interleave(half) == 0)
        block.register_forward_hook(lambda block, maps, result: shares_.append((result - block.shortcut(*maps)).mean()))
    for _ in range(2):
        net.zero_grad()
        net(torch.randn(1, 40, 40)).sum().backward()
        for block in blocks:
            first, second = block.bn2.bias.grad.chunk(2)
            shares_.append((first / (first + second)).mean())
    drawn = torch.stack(shares_).detach().sort().values
    assert len(drawn) == 2 * 2 * 12
    assert torch.isfinite(drawn).all()
    assert drawn[0] > 0
    assert drawn[-1] < 1
    assert drawn.diff().min() > 1e-5


# Initialisation


def std_of(weight: Tensor) -> float:
    return float(weight.detach().std())


def he(conv: nn.Conv2d, channels: int) -> float:
    """The standard deviation of He's normal initialisation for this number of channels."""
    return math.sqrt(2 / (conv.kernel_size[0] * conv.kernel_size[1] * channels))


@pytest.mark.parametrize("name", ["cp_resnet", "fa_resnet", "shake_fa_resnet"])
def test_initial_weights_have_the_std_of_the_paper(name):
    net = nets.create(name, rho_freq=8, rho_time=8)
    assert std_of(net.stem[0].weight) == pytest.approx(math.sqrt(2 / 25), rel=0.06)
    blocks = [block for block in net.blocks if isinstance(block, ResidualBlock)]
    assert len(blocks) == 12
    for index, block in enumerate(blocks):
        width = 128 * 2 ** (index // 4)
        branches_ = block.conv1.weight.split(width)
        assert len(branches_) == (2 if name == "shake_fa_resnet" else 1)
        for branch in branches_:  # every branch is initialised as a single one
            assert std_of(branch) == pytest.approx(12**-0.5 * he(block.conv1, width), rel=0.03)
            assert abs(float(branch.detach().mean())) < 0.05 * std_of(branch)
        assert not torch.equal(branches_[0], branches_[-1]) or len(branches_) == 1
        assert not block.conv2.weight.any()
        if len(block.shortcut):
            assert std_of(block.shortcut.conv.weight) == pytest.approx(he(block.shortcut.conv, width), rel=0.03)
    assert [index for index, block in enumerate(blocks) if len(block.shortcut)] == [4, 8]
    assert std_of(blocks[1].conv1.weight) == pytest.approx(0.01203, rel=0.03)
    assert std_of(blocks[4].conv1.weight) == pytest.approx(0.00851, rel=0.03)
    assert std_of(blocks[8].conv1.weight) == pytest.approx(0.01804, rel=0.03)
    assert not net.head[0].weight.any()


@pytest.mark.parametrize("name", ["cp_densenet", "resnet18", "resnet50"])
def test_other_initial_convolutions_follow_he(name):
    net = nets.create(name)
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d) and module.weight.any()]
    assert len(convs) == {"cp_densenet": 29, "resnet18": 20, "resnet50": 53}[name]
    for conv in convs:
        channels = conv.in_channels if name == "cp_densenet" else conv.out_channels
        assert std_of(conv.weight) == pytest.approx(he(conv, channels), rel=0.06)


@pytest.mark.parametrize("name", [name for name in nets.NETS if name != "vgg"])
def test_initial_batch_norms_are_the_identity_and_convolutions_have_no_bias(name):
    net = nets.create(name, width=8)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()
            assert (module.eps, module.momentum) == (1e-5, 0.1)
        if isinstance(module, nn.Conv2d):
            assert (module.bias is None) is (name != "crnn")  # Choi's have one


@pytest.mark.parametrize("name", ["cp_resnet", "fa_resnet", "shake_fa_resnet", "cp_densenet"])
def test_initial_logits_are_zero(name):
    net = create(name)
    for mode in (net.train(), net.eval()):
        assert not mode(torch.randn(2, 40, 120)).any()
        assert not mode.frame_logits(torch.randn(2, 40, 120)).any()
