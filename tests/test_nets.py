"""Networks: parameter counts, recorded vectors, exactness of frequency-awareness, initialisation, and refusals."""

import json
import math
import pickle
import random
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import models
from moodfield import clips, mel, nets
from moodfield.audio import Waveform
from moodfield.clips import AnyLength, FixedLength
from moodfield.errors import BadConfig, BadModel, UnknownName
from moodfield.mel import MelConfig
from moodfield.nets import resnet
from moodfield.nets.blocks import FrequencyAwareConv2d, ResidualBlock, Standardize, convolution
from moodfield.nets.resnet import CPResNetConfig
from moodfield.nets.vgg import VGGConfig

PLAIN = [
    int(count)
    for count in (
        "2931696 3062768 3193840 3324912 3455984 3587056 3718128 3980272 4504560 5028848 5553136 6077424 "
        "6601712 7126000 7650288 8698864 10796016 12893168 14990320 17087472 19184624 21281776 23378928"
    ).split()
]
"""parameters of CP-ResNet for ρ = 0 … 22, width 128 and 56 tags"""
AWARE = [
    int(count)
    for count in (
        "2939888 3071984 3204080 3336176 3468272 3600368 3732464 3996656 4522992 5049328 5575664 6102000 "
        "6628336 7154672 7681008 8733680 10834928 12936176 15037424 17138672 19239920 21341168 23442416"
    ).split()
]
"""parameters of its frequency-aware sibling"""
VECTORS = ("cp_resnet_rho5_tiny", "cp_faresnet_rho7_tiny", "cp_faresnet_rho5_t9_tiny")
CLOSE = {"atol": 2e-4, "rtol": 1e-3}
"""how near recorded vectors are"""


def small(name: str, **changes: object) -> nets.Net:
    """A network of the registry that is quick to run, with 7 tags."""
    if isinstance(nets.NETS[name], CPResNetConfig):
        return nets.create(name, bands=40, tags=7, width=6, **changes)
    return nets.create(name, bands=96, tags=7, **changes)


def example(net: nets.Net, batch: int = 2, frames: int = 0) -> Tensor:
    """Mels that the network takes."""
    frames = frames or (net.lengths.frames if isinstance(net.lengths, FixedLength) else 120)
    return torch.randn(batch, len(net.standardize.mean), frames)


def randomised(net: nets.Net) -> nets.Net:
    """The network with weights, affine of batch norm and running statistics that all matter, in evaluation."""
    models.stir(net)
    for module in net.modules():
        if isinstance(module, Standardize):
            module.fill(torch.randn(len(module.mean)), 0.5 + torch.rand(len(module.mean)))
    with torch.no_grad():
        net.train()(example(net, batch=2))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
            module.get_buffer("running_mean").add_(0.2 * torch.randn(module.num_features))
            module.get_buffer("running_var").mul_(0.5 + torch.rand(module.num_features))
    return net.eval()


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(20)


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize(("name", "wanted"), [("cp_resnet", PLAIN), ("fa_resnet", AWARE)])
def test_the_parameters_are_as_many_as_the_table_says(name, wanted):
    with torch.device("meta"):
        built = [nets.create(name, rho_freq=rho, rho_time=rho) for rho in range(23)]
    assert [sum(parameter.numel() for parameter in net.parameters()) for net in built] == wanted


def test_a_rho_of_its_own_for_time_moves_only_kernels_in_time():
    with torch.device("meta"):
        net = nets.create("fa_resnet", rho_freq=2, rho_time=4, width=8)
    pairs = [conv.kernel_size for block in net.blocks if isinstance(block, ResidualBlock) for conv in convs(block)]
    assert pairs == [(3, 3), (1, 1), (3, 3), (3, 3), (1, 3), (1, 3), *[(1, 1)] * 18]


def convs(block: ResidualBlock) -> tuple[nn.Conv2d, nn.Conv2d]:
    return block.conv1, block.conv2


def test_the_vgg_has_its_448122_parameters():
    assert sum(parameter.numel() for parameter in nets.create("vgg", bands=96).parameters()) == 448_122


# ---------------------------------------------------------------- recorded vectors


def recorded(data: Path, name: str) -> dict:
    return torch.load(data / "vectors" / f"{name}.pt", weights_only=True)


@pytest.mark.golden
@pytest.mark.parametrize("name", VECTORS)
def test_cp_resnet_agrees_with_recorded_vectors(data, name):
    vector = recorded(data, name)
    net = resnet.from_published(vector["state_dict"]).eval()
    wanted = CPResNetConfig(vector["rho"], vector["rho_time"], vector["base_channels"], "fa" in name)
    assert net.config == wanted
    with torch.inference_mode():
        for x, y in (("x", "y_eval"), ("x_odd", "y_odd")):
            assert vector[y].std() > 0.1
            torch.testing.assert_close(net(vector[x][:, 0]), vector[y], **CLOSE)
        found = net.over_time(vector["x"][:, 0])
        torch.testing.assert_close(found, vector["cam_eval"].mean(dim=2), **CLOSE)
        torch.testing.assert_close(found.mean(dim=2), net(vector["x"][:, 0]))
        stages = {"in_c": net.stem(vector["x"])}
        for stage, blocks in (("stage1", net.blocks[:7]), ("stage2", net.blocks[7:11]), ("stage3", net.blocks[11:])):
            stages[stage] = blocks(list(stages.values())[-1])
    assert stages.keys() == vector["stages"].keys()
    for stage, wanted in vector["stages"].items():
        torch.testing.assert_close(stages[stage], wanted, **CLOSE)


@pytest.mark.golden
@pytest.mark.parametrize("name", VECTORS)
def test_a_step_of_training_agrees_with_recorded_vectors(data, name):
    vector = recorded(data, name)
    net = resnet.from_published(vector["state_dict"]).train()
    torch.testing.assert_close(net(vector["x_train"][:, 0]), vector["y_train"], **CLOSE)
    wanted = resnet.from_published({**vector["state_dict"], **vector["bn_after"]}).state_dict()
    changed = 0
    for key, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, wanted[key], **CLOSE)
        changed += key.endswith("num_batches_tracked") and int(tensor) == 1 + int(
            vector["state_dict"]["in_c.1.num_batches_tracked"]
        )
    assert changed == len(vector["bn_after"]) // 3 == 28


@pytest.mark.golden
@pytest.mark.parametrize("name", VECTORS)
def test_published_takes_the_state_dict_and_what_the_authors_wrap_it_in(data, name, tmp_path):
    vector = recorded(data, name)
    wrapped = {"state_dict": vector["state_dict"], "optimizer": {}, "epoch": 3, "metrics": None, "swa_n": 0}
    for saved in (vector["state_dict"], wrapped, OrderedDict(vector["state_dict"])):
        torch.save(saved, tmp_path / "published.pth")
        net = nets.published(tmp_path / "published.pth").eval()
        torch.testing.assert_close(net(vector["x"][:, 0]), vector["y_eval"], **CLOSE)


@pytest.mark.golden
def test_a_published_network_takes_any_number_of_bands_and_frames_from_17_up(data):
    net = resnet.from_published(recorded(data, "cp_faresnet_rho5_t9_tiny")["state_dict"]).eval()
    assert net.lengths.least == 17
    for bands, frames, steps in ((17, 17, 1), (17, 100, 6), (128, 17, 1), (300, 50, 3)):
        assert net.over_time(torch.randn(1, bands, frames)).shape == (1, 56, steps)


@pytest.mark.golden
def test_the_organisers_network_agrees_with_recorded_vectors(data):
    vector = recorded(data, "vggish")
    net = nets.published(data / "vggish" / "best_model.pth").eval()
    logits = net(vector["x"].float())
    assert logits.std() > 0.1
    torch.testing.assert_close(logits.sigmoid(), vector["y"], **CLOSE)
    assert abs(float(net.bn_init.running_mean) + 22.70) < 0.01


@pytest.mark.golden
def test_a_waveform_gets_the_organisers_scores(data):
    net = nets.published(data / "vggish" / "best_model.pth").eval()
    with np.load(data / "vectors" / "vggish_waveform.npz", allow_pickle=False) as vector:
        waveform = Waveform((vector["waveform_int16"] / 32768).astype(np.float32), int(vector["rate"]))
        start, wanted = int(vector["clip_start_frame"]), vector["scores"]
    whole = mel.mel(waveform, MelConfig(rate=12_000, window=512, overlap=0.5, bands=96, kind="plain"))
    assert start == (whole.shape[1] - net.lengths.frames) // 2
    with torch.inference_mode():
        scores = net(torch.from_numpy(whole[None, :, start : start + net.lengths.frames].copy()))[0].sigmoid().numpy()
    np.testing.assert_allclose(scores, wanted, rtol=1e-3, atol=1e-4)
    assert (np.argsort(-scores)[:5] == np.argsort(-wanted)[:5]).all()


# ---------------------------------------------------------------- frequency-awareness


def concatenated(maps: Tensor, weight: Tensor) -> Tensor:
    """The straightforward way: one more channel, zero-padded like the others."""
    batch, _, freq, time = maps.shape
    rows = torch.tensor([2 * i / freq - 1 for i in range(freq)], dtype=maps.dtype)
    positions = rows.view(1, 1, freq, 1).expand(batch, 1, freq, time)
    padding = (weight.shape[2] // 3, weight.shape[3] // 3)
    return F.conv2d(torch.cat([maps, positions], dim=1), weight, padding=padding)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 1), (1, 3), (3, 3)])
@pytest.mark.parametrize("freq", [1, 2, 15, 16])
@pytest.mark.parametrize("time", [1, 2, 3, 50])
def test_positions_added_are_positions_concatenated(kernel, freq, time):
    conv = convolution(3, 5, kernel, frequency_aware=True).double()
    assert isinstance(conv, FrequencyAwareConv2d)
    assert conv.weight.shape == (5, 4, *kernel)
    assert conv.bias is None
    maps = torch.randn(2, 3, freq, time, dtype=torch.float64, requires_grad=True)
    copies = [tensor.detach().clone().requires_grad_() for tensor in (maps, conv.weight)]
    found, wanted = conv(maps), concatenated(*copies)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)
    assert (found - F.conv2d(maps, conv.weight[:, :-1], padding=conv.padding)).abs().max() > 1e-3 or freq == 2
    direction = torch.randn_like(found)
    gradients = torch.autograd.grad(found, (maps, conv.weight), direction)
    for one, other in zip(gradients, torch.autograd.grad(wanted, copies, direction), strict=True):
        torch.testing.assert_close(one, other, atol=1e-11, rtol=0)


def test_without_positions_it_is_a_plain_convolution():
    for kernel in ((1, 1), (3, 1), (1, 3), (3, 3)):
        conv = convolution(3, 5, kernel, frequency_aware=False)
        assert type(conv) is nn.Conv2d
        assert conv(torch.randn(1, 3, 9, 8)).shape == (1, 5, 9, 8)


def test_only_convolutions_of_blocks_are_frequency_aware():
    net = small("fa_resnet")
    aware = {name for name, module in net.named_modules() if isinstance(module, FrequencyAwareConv2d)}
    assert len(aware) == 24
    assert all(".conv1" in name or ".conv2" in name for name in aware)
    assert not any("position" in key for key in net.state_dict())


@pytest.mark.parametrize(("name", "knows"), [("fa_resnet", True), ("cp_resnet", False)])
def test_only_a_frequency_aware_network_knows_high_from_low(name, knows):
    net = randomised(nets.create(name, bands=160, tags=7, width=6, rho_freq=0, rho_time=0))
    net.standardize.fill(torch.zeros(160), torch.ones(160))
    music = torch.randn(1, 32, 120)
    low, high = (F.pad(music, (0, 0, row, 128 - row)) for row in (32, 96))  # apart by a multiple of the stride
    change, size = (net(low) - net(high)).abs().max(), (net(low) - net(low * 0)).abs().max()
    assert size > 0.05
    assert change > 0.03 * size if knows else change < 1e-4 * size


# ---------------------------------------------------------------- initialisation


@pytest.mark.parametrize("name", ["cp_resnet", "fa_resnet"])
def test_fresh_logits_are_exactly_zero(name):
    net = small(name)
    for mode in (net.train(), net.eval()):
        assert not mode(example(net)).any()
        assert not mode.over_time(example(net)).any()


def spread(weight: Tensor) -> float:
    return float(weight.detach().std())


@pytest.mark.parametrize("name", ["cp_resnet", "fa_resnet"])
def test_fresh_weights_have_the_spread_of_the_paper(name):
    net = nets.create(name, rho_freq=8, rho_time=8)
    assert spread(net.stem[0].weight) == pytest.approx(math.sqrt(2 / 25), rel=0.06)
    blocks = [block for block in net.blocks if isinstance(block, ResidualBlock)]
    assert len(blocks) == 12
    for block in blocks:
        kernel = block.conv1.kernel_size
        wanted = 12**-0.5 * math.sqrt(2 / (kernel[0] * kernel[1] * block.conv1.out_channels))
        assert spread(block.conv1.weight) == pytest.approx(wanted, rel=0.03)
        assert abs(float(block.conv1.weight.detach().mean())) < 0.05 * wanted
        assert not block.conv2.weight.any()
        if len(block.shortcut):
            wanted = math.sqrt(2 / block.conv1.out_channels)
            assert spread(block.shortcut.conv.weight) == pytest.approx(wanted, rel=0.03)
    assert [index for index, block in enumerate(blocks) if len(block.shortcut)] == [4, 8]
    assert spread(blocks[1].conv1.weight) == pytest.approx(0.01203, rel=0.03)
    assert spread(blocks[4].conv1.weight) == pytest.approx(0.00851, rel=0.03)
    assert spread(blocks[8].conv1.weight) == pytest.approx(0.01804, rel=0.03)
    assert not net.head[0].weight.any()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()
            assert (module.eps, module.momentum) == (1e-5, 0.1)
        assert getattr(module, "bias", None) is None or isinstance(module, nn.BatchNorm2d)


@pytest.mark.parametrize("name", list(nets.NETS))
def test_the_second_network_of_a_process_is_drawn_like_the_first(name):
    first, other = small(name), small(name)
    torch.manual_seed(20)
    second = small(name)
    pairs = list(zip(first.parameters(), second.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(one, again) for one, again, _ in pairs)
    assert any(not torch.equal(one, different) for one, _, different in pairs)
    for one, _, different in pairs:
        if one.numel() > 300:
            assert spread(one) == pytest.approx(spread(different), rel=0.25)


@pytest.mark.parametrize("name", list(nets.NETS))
def test_a_network_begins_with_the_logits_it_is_told_to_expect(name):
    net = small(name)
    mean, spread = torch.linspace(-4, 2, 7), torch.linspace(0.1, 1, 7)
    net.expect(mean, spread)
    found = net.eval()(example(net))
    torch.testing.assert_close(found, mean.expand(2, -1), atol=1e-6 if "resnet" in name else 1.0, rtol=0)
    if "resnet" in name:
        nn.init.normal_(net.head[0].weight)
        found = net.train().over_time(example(net, batch=8))
        assert (found.mean(dim=(0, 2)) - mean).abs().max() < 1e-3


# ---------------------------------------------------------------- every network


@pytest.mark.parametrize("name", list(nets.NETS))
def test_every_parameter_gets_a_gradient(name):
    net = randomised(small(name))
    logits = net(example(net))
    assert logits.std() > 0.1
    (logits * torch.randn_like(logits)).sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().max() > 1e-6, key


@pytest.mark.parametrize("name", list(nets.NETS))
def test_a_batch_of_one_is_a_row_of_a_batch(name):
    net = randomised(small(name))
    mels = example(net, batch=3)
    with torch.inference_mode():
        whole = net(mels)
        assert whole.std() > 0.1
        assert (whole[0] - whole[1]).abs().max() > 1e-2
        for row, one in zip(whole, mels, strict=True):
            torch.testing.assert_close(net(one[None])[0], row, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", list(nets.NETS))
def test_a_seed_decides_everything(name):
    def step() -> Tensor:
        torch.manual_seed(3)
        net = randomised(small(name)).train()
        return net(example(net))

    one = step()
    assert one.std() > 0.1
    assert torch.equal(one, step())


@pytest.mark.parametrize("name", list(nets.NETS))
def test_logits_of_a_clip_are_the_mean_of_its_map(name):
    net = randomised(small(name))
    mels = example(net)
    over_time = net.over_time(mels)
    assert over_time.shape == (2, 7, 7 if isinstance(net.lengths, AnyLength) else 1)
    torch.testing.assert_close(net(mels), over_time.mean(dim=2))
    assert net(mels).std() > 0.1
    assert net(mels).dtype == torch.float32


@pytest.mark.parametrize("name", list(nets.NETS))
def test_a_state_dict_restores_the_logits(name):
    net = randomised(small(name))
    other = small(name).eval()
    mels = example(net)
    assert not torch.equal(other(mels), net(mels))
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(mels), net(mels))


def test_a_network_takes_lengths_from_its_least():
    for rho in (0, 22):
        net = randomised(small("fa_resnet", rho_time=rho))
        assert net.lengths == AnyLength(17, 16, net.lengths.size, net.lengths.start)
        assert [net.over_time(example(net, frames=frames)).shape[2] for frames in (17, 32, 33, 48, 49)] == [
            1,
            1,
            2,
            2,
            3,
        ]
        with pytest.raises(RuntimeError, match=r"too small|smaller"):
            net(example(net, frames=16))


def test_the_vgg_takes_lengths_with_one_step_of_time():
    net = randomised(small("vgg"))
    assert net.lengths == FixedLength(1_366, 683)
    for frames in (1_280, 2_559):
        assert net.over_time(example(net, frames=frames)).shape == (2, 7, 1)
    for frames in (1_279, 2_560):
        with pytest.raises(BadConfig, match=f"{frames} frames came, the VGG-ish network wants 1280 … 2559"):
            net(example(net, frames=frames))


# ---------------------------------------------------------------- the standardiser


def test_the_standardiser_gives_mean_0_and_spread_1():
    mels = torch.randn(5, 4, 2_000) * torch.tensor([0.01, 1, 5, 100])[:, None] + torch.tensor([3, -2, 0, 50])[:, None]
    layer = Standardize(4)
    assert torch.equal(layer(mels)[:, 0], mels)
    layer.fill(mels.mean(dim=(0, 2)), mels.std(dim=(0, 2)))
    found = layer(mels)
    assert found.shape == (5, 1, 4, 2_000)
    torch.testing.assert_close(found.mean(dim=(0, 1, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.std(dim=(0, 1, 3)), torch.ones(4), atol=1e-3, rtol=0)
    assert set(layer.state_dict()) == {"mean", "spread"}
    assert not list(layer.parameters())


@pytest.mark.parametrize("spread", [0.0, -1.0, float("nan")])
def test_the_standardiser_refuses_a_band_without_spread(spread):
    layer = Standardize(3)
    with pytest.raises(BadConfig, match="some band never changes"):
        layer.fill(torch.ones(3), torch.tensor([1, spread, 1]))
    assert not layer.mean.any()
    assert (layer.spread == 1).all()


def test_a_standardiser_of_one_band_takes_any_number():
    layer = Standardize(1)
    layer.fill(torch.tensor([2.0]), torch.tensor([4.0]))
    for bands in (1, 3, 80):
        mels = torch.randn(2, bands, 5)
        torch.testing.assert_close(layer(mels)[:, 0], (mels - 2) / 4)


@pytest.mark.parametrize("name", list(nets.NETS))
def test_a_mel_of_other_bands_is_refused(name):
    net = small(name)
    bands = len(net.standardize.mean)
    for wrong in (bands - 1, bands + 1, 1):
        with pytest.raises(BadConfig, match=f"a mel of {wrong} bands came, this network was made for {bands}"):
            net(torch.randn(1, wrong, 1_366))


# ---------------------------------------------------------------- the registry


def test_an_unknown_network_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownName, match="no network called 'fa_resnt'; did you mean fa_resnet"):
        nets.create("fa_resnt")


@pytest.mark.parametrize(
    ("name", "changes", "match"),
    [
        ("fa_resnet", {"rho": 5}, "fa_resnet has no rho; it has rho_freq, rho_time, width"),
        ("vgg", {"bands": 96, "rho_freq": 5, "width": 8}, "vgg has no rho_freq, width; it has frames"),
        ("cp_resnet", {"rho_freq": 23}, "ρ 23 came, this network has ρ in 0 … 22"),
        ("cp_resnet", {"rho_time": -1}, "ρ -1 came"),
        ("cp_resnet", {"width": 0}, "width of 0 channels"),
        ("cp_resnet", {"bands": 16}, "16 bands came, this network needs at least 17"),
        ("cp_resnet", {"bands": 0}, "0 bands came"),
        ("cp_resnet", {"tags": 0}, "0 tags came, at least 1 is needed"),
        ("vgg", {"bands": 96, "tags": -1}, "-1 tags came"),
        ("vgg", {}, "256 bands came, the VGG-ish network wants 96"),
        ("vgg", {"bands": 96, "frames": 1_279}, "frames are 1280 … 2559"),
        ("vgg", {"bands": 96, "frames": 2_560}, "frames are 1280 … 2559"),
        ("vgg", {"bands": 96, "dropout": 1.0}, "dropout is 0 … 1"),
    ],
)
def test_numbers_out_of_range_are_refused(name, changes, match):
    with pytest.raises(BadConfig, match=match):
        nets.create(name, **changes)


def test_a_name_is_registered_once(monkeypatch):
    monkeypatch.setattr(nets, "NETS", dict(nets.NETS))
    config = CPResNetConfig(rho_freq=7, width=8)
    nets.register("mine", config)
    assert nets.create("mine", bands=32, tags=3).config == config
    for name in ("mine", "vgg"):
        with pytest.raises(BadConfig, match=f"the network '{name}' is registered already"):
            nets.register(name, config)
    assert nets.NETS["vgg"] == VGGConfig()


def test_creating_leaves_the_registry_alone():
    before = dict(nets.NETS)
    nets.create("cp_resnet", bands=32, rho_freq=1, width=4)
    assert before == nets.NETS
    assert nets.NETS["cp_resnet"] == CPResNetConfig()


@pytest.mark.parametrize("name", list(nets.NETS))
def test_a_config_comes_back_from_a_file(name):
    config = small(name).config
    written = json.loads(json.dumps(asdict(config)))
    assert nets.from_dict(written) == config == nets.from_dict(dict(reversed(written.items())))
    assert hash(config) == hash(nets.from_dict(written))


def test_a_file_that_states_no_config_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside of tests, where types are not checked
    with pytest.raises(UnknownName, match="family of networks called 'vgk'; did you mean vgg"):
        nets.from_dict({"family": "vgk"})
    with pytest.raises(UnknownName, match="family"):
        nets.from_dict({})
    with pytest.raises(BadConfig, match=r"is no vgg: .*'width'"):
        nets.from_dict({"family": "vgg", "width": 3})
    with pytest.raises(BadConfig, match="is no cp_resnet"):
        nets.from_dict({"family": "cp_resnet", "rho_freq": "5"})
    with pytest.raises(BadConfig, match="ρ 99 came"):
        nets.from_dict({"family": "cp_resnet", "rho_freq": 99})


# ---------------------------------------------------------------- published checkpoints


class Trap:
    """A pickle that makes a file when it is read in the usual way."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self):
        return Path.touch, (self.made,)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_a_checkpoint_with_code_is_refused_unrun(tmp_path, kind):
    path, made = tmp_path / "trap.pth", tmp_path / "made"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Trap(made)))
    else:
        torch.save({"bn_init.weight": Trap(made)}, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(BadModel, match="not a checkpoint that can be loaded safely"):
        nets.published(path)
    assert not made.exists()
    if kind != "zip":
        with path.open("rb") as file:
            while not made.exists():
                pickle.load(file)  # noqa: S301 - the trap works
    else:
        torch.load(path, weights_only=False)
    assert made.exists()


def checkpoint(tmp_path: Path) -> Path:
    """A small checkpoint with the published keys."""
    torch.save(published_state(), tmp_path / "whole.pth")
    return tmp_path / "whole.pth"


def published_state() -> dict[str, Tensor]:
    net = nets.create("fa_resnet", bands=1, tags=3, width=2, rho_freq=3, rho_time=5)
    places = [f"blocks.{index}." for index, block in enumerate(net.blocks) if isinstance(block, ResidualBlock)]
    names = {place: f"stage{n // 4 + 1}.block{n % 4 + 1}." for n, place in enumerate(places)}
    names |= {"stem.": "in_c.", "head.": "feed_forward."}
    state = {}
    for key, value in net.state_dict().items():
        for ours, theirs in names.items():
            if key.startswith(ours):
                state[theirs + key.removeprefix(ours)] = value
    assert len(state) == 168
    return state


def test_width_rho_and_awareness_follow_from_the_shapes():
    assert resnet.from_published(published_state()).config == CPResNetConfig(3, 5, 2, frequency_aware=True)


def test_a_checkpoint_that_is_missing_or_no_file_is_refused(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(BadModel, match="not a checkpoint that can be loaded safely"):
            nets.published(path)


def test_a_damaged_checkpoint_is_refused_or_read_but_never_crashes(tmp_path):
    whole = checkpoint(tmp_path).read_bytes()
    torch.save(published_state(), tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    legacy = (tmp_path / "legacy.pth").read_bytes()
    generator, path = random.Random(1), tmp_path / "damaged.pth"
    for cut in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(BadModel):
            nets.published(path)
    refused = 0
    for trial in range(80):
        damaged = bytearray(whole if trial % 2 else legacy)
        for _ in range(generator.choice([1, 5, 50])):
            damaged[generator.randrange(min(len(damaged), 30_000))] = generator.randrange(256)
        path.write_bytes(bytes(damaged))
        try:
            nets.published(path)
        except BadModel:
            refused += 1
    assert 20 < refused < 80


@pytest.mark.parametrize("held", [torch.zeros(3), [torch.zeros(3)], 5, "text", None])
def test_a_checkpoint_without_a_state_dict_is_refused(tmp_path, held):
    torch.save(held, tmp_path / "other.pth")
    with pytest.raises(BadModel, match=f"holds a {type(held).__name__}, a state dict is wanted"):
        nets.published(tmp_path / "other.pth")


def spoiled(**changes: object) -> dict:
    """The published state dict with some tensors replaced, or left out for `None`; `_` stands for a dot."""
    state = {**published_state(), **{key.replace("__", "."): value for key, value in changes.items()}}
    return {key: value for key, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("state", "match"),
    [
        ({}, "not weights of a published CP-ResNet"),
        ({"weight": torch.zeros(3)}, "not weights of a published CP-ResNet"),
        ({"state_dict": 5}, "not weights of a published CP-ResNet"),
        ({"state_dict": {}}, "not weights of a published CP-ResNet"),
        (spoiled(in_c__0__weight=None), "not weights of a published CP-ResNet"),
        (spoiled(in_c__0__weight=torch.tensor(1.0)), "not weights of a published CP-ResNet"),
        (spoiled(stage2__block3__conv1__weight=torch.zeros(4)), "not weights of a published CP-ResNet"),
        (spoiled(in_c__0__weight=torch.zeros(0, 1, 5, 5)), "do not fit"),
        (spoiled(in_c__0__weight=torch.zeros(2, 2, 5, 5)), "do not fit"),
        (spoiled(in_c__1__bias=None), "do not fit"),
        (spoiled(stage2__block1__conv1__weight=torch.zeros(4, 3, 3, 3)), "do not fit"),
        (spoiled(stage9__block9__conv1__weight=torch.zeros(1)), "do not fit"),
        (spoiled(stage0__block8__conv1__weight=torch.zeros(1)), "do not fit"),
        ({**spoiled(), 7: torch.zeros(1)}, "do not fit"),
        ({"bn_init.weight": torch.zeros(1)}, "not the VGG-ish baseline's weights"),
        ({"bn_init.weight": torch.zeros(1), "dense.weight": torch.tensor(1.0)}, "not the VGG-ish baseline's weights"),
        ({"bn_init.weight": torch.zeros(1), "dense.weight": torch.zeros(56, 64)}, "do not fit the VGG-ish baseline"),
    ],
)
def test_other_keys_and_shapes_are_refused(tmp_path, state, match):
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(BadModel, match=match):
        nets.published(tmp_path / "other.pth")


# ---------------------------------------------------------------- with clips


def test_clips_of_a_wide_network_pool_to_its_logits():
    net = randomised(small("fa_resnet"))
    whole = torch.randn(40, 1_000).numpy()
    with torch.inference_mode():
        parts = [
            net.over_time(torch.tensor(clip.mel)[None])[0, :, clip.keep]
            for clip in clips.cut(whole, net.lengths, clip_frames=256)
        ]
        wanted = net(torch.from_numpy(whole)[None])[0].numpy()
    assert len(parts) > 3
    np.testing.assert_allclose(clips.pool(torch.cat(parts, dim=1).numpy()), wanted, rtol=0, atol=1e-4)
