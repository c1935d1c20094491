"""Networks: parameter counts, recorded vectors, properties of all networks, and errors."""

import json
import math
import pickle
import random
from collections import OrderedDict
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

import models
from moodfield import clips, mel, nets, receptive_field
from moodfield.audio import Waveform
from moodfield.clips import AnyLength, FixedLength, WholeTrack
from moodfield.errors import AudioError, ConfigError, ModelError, UnknownNameError
from moodfield.mel import MelConfig
from moodfield.nets import resnet
from moodfield.nets.blocks import DenseLayer, ResidualBlock, Standardize
from moodfield.nets.configs import CPResNetConfig

N_PARAMETERS = [
    int(count)
    for count in (
        "2931696 3062768 3193840 3324912 3455984 3587056 3718128 3980272 4504560 5028848 5553136 6077424 "
        "6601712 7126000 7650288 8698864 10796016 12893168 14990320 17087472 19184624 21281776 23378928"
    ).split()
]
"""parameters of CP-ResNet for ρ = 0 … 22, width 128 and 56 tags"""
N_PARAMETERS_AWARE = [
    int(count)
    for count in (
        "2939888 3071984 3204080 3336176 3468272 3600368 3732464 3996656 4522992 5049328 5575664 6102000 "
        "6628336 7154672 7681008 8733680 10834928 12936176 15037424 17138672 19239920 21341168 23442416"
    ).split()
]
"""parameters of the frequency-aware CP-ResNet"""
VECTORS = ("cp_resnet_rho5_tiny", "cp_faresnet_rho7_tiny", "cp_faresnet_rho5_t9_tiny")
TOLERANCE = {"atol": 2e-4, "rtol": 1e-3}
"""tolerance for recorded vectors"""

SMALL: dict[str, dict[str, int]] = {
    "cp_resnet": {"n_mels": 40, "width": 6},
    "cp_densenet": {"n_mels": 40, "width": 6, "growth": 4},
    "plain": {"n_mels": 40, "width": 4},
    "crnn": {"n_mels": 64, "width": 4, "hidden": 8},
    "vgg": {"n_mels": 96, "width": 4},
}
"""settings of a small, quick network by family"""
SAME_CODE = ("cp_resnet", "resnet18", "resnet34")
"""networks of the same code as fa_resnet and resnet50"""
every = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SAME_CODE else name for name in nets.NETS]
)
"""all networks; only one of each kind in the fast tests"""


def small(name: str, **changes: object) -> nets.Net:
    """A network of the registry that is quick to run, with 7 tags."""
    return nets.create(name, n_tags=7, **{**SMALL[nets.NETS[name].family], **changes})


def example(net: nets.Net, batch: int = 2, frames: int | None = None) -> Tensor:
    """Mels that the network takes."""
    bands = len(net.standardize.mean) if len(net.standardize.mean) > 1 else SMALL[net.config.family]["n_mels"]
    usual = {"any": 120, "whole": 300, "fixed": 1_366}
    return torch.randn(batch, bands, usual[net.lengths.kind] if frames is None else frames)


def randomised(net: nets.Net) -> nets.Net:
    """The network with weights, affine of batch norm and running statistics that all matter, in evaluation."""
    models.stir(net)
    for module in net.modules():
        if isinstance(module, Standardize):
            module.set_statistics(torch.randn(len(module.mean)), 0.5 + torch.rand(len(module.mean)))
    with torch.no_grad():
        net.train()(example(net))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
            module.get_buffer("running_mean").add_(0.2 * torch.randn(module.num_features))
            module.get_buffer("running_var").mul_(0.5 + torch.rand(module.num_features))
    return net.eval()


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(20)


# Parameters


def count_parameters(name: str, **changes: object) -> int:
    """The number of parameters of a network."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in nets.create(name, **changes).parameters())


@pytest.mark.parametrize(("name", "expected"), [("cp_resnet", N_PARAMETERS), ("fa_resnet", N_PARAMETERS_AWARE)])
def test_number_of_parameters_by_rho(name, expected):
    assert [count_parameters(name, rho_freq=rho, rho_time=rho) for rho in range(23)] == expected


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("cp_resnet", {"shake": True}, [6_190_064, 6_976_496, 7_762_928, 13_005_808]),
        ("shake_fa_resnet", {}, [6_210_544, 7_003_120, 7_795_696, 13_059_056]),
        ("cp_densenet", {}, [1_298_480, 1_593_392, 1_855_536, 2_838_576]),
    ],
)
def test_number_of_parameters_of_shaken_and_dense_networks(name, changes, expected):
    assert [count_parameters(name, rho_freq=rho, rho_time=rho, **changes) for rho in (2, 5, 7, 12)] == expected


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("cp_resnet", {"shake": True, "width": 96}, 3_936_016),
        ("shake_fa_resnet", {"width": 96}, 3_955_984),
        ("cp_resnet", {"shake": True, "width": 64}, 1_759_792),
        ("shake_fa_resnet", {"width": 64}, 1_773_104),
        ("cp_densenet", {"growth": 32}, 497_480),
        ("cp_densenet", {"growth": 96}, 3_304_536),
        ("cp_densenet", {"frequency_aware": True}, 1_593_392 + 64 * (6 * 9 + 18)),
        ("resnet18", {}, 11_198_968),
        ("resnet34", {}, 21_307_128),
        ("resnet50", {}, 23_616_504),
        ("crnn", {}, 394_296),
        ("vgg", {"n_mels": 96}, 448_122),
    ],
)
def test_number_of_parameters_of_other_networks(name, changes, expected):
    assert count_parameters(name, **changes) == expected


@pytest.mark.parametrize(
    ("name", "published"), [("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032)]
)
def test_resnets_have_the_published_parameters_except_for_colours(name, published):
    assert (
        count_parameters(name, n_tags=1_000) == published - 2 * 7 * 7 * 64
    )  # the published ones have three input channels


def test_rho_time_changes_kernels_along_time_only():
    expected = [(3, 3), (1, 1), (3, 3), (3, 3), (1, 3), (1, 3), *[(1, 1)] * 18]
    for name in ("fa_resnet", "shake_fa_resnet", "cp_densenet"):
        with torch.device("meta"):
            net = nets.create(name, rho_freq=2, rho_time=4, width=8)
        convs = [(block.conv1, block.conv2) for block in net.blocks if isinstance(block, ResidualBlock)]
        convs += [(layer.conv,) for layer in net.blocks if isinstance(layer, DenseLayer)]
        assert [conv.kernel_size for pair in convs for conv in pair] == expected


def test_a_densenet_ends_with_the_width_of_the_reference():
    with torch.device("meta"):
        net = nets.create("cp_densenet")
    assert net.head[0].num_features == net.head[2].in_channels == 864
    assert [layer.bn.num_features for layer in net.blocks if isinstance(layer, DenseLayer)] == [
        *(128 + 64 * count for count in (0, 1)),
        *(128 + 64 * count for count in (0, 1)),
        *(128 + 64 * count for count in range(4)),
        *(192 + 64 * count for count in range(8)),
        *(352 + 64 * count for count in range(8)),
    ]


# Recorded vectors


def recorded(data: Path, name: str) -> dict:
    return torch.load(data / "vectors" / f"{name}.pt", weights_only=True)


@pytest.mark.golden
@pytest.mark.parametrize("name", VECTORS)
def test_cp_resnet_agrees_with_recorded_vectors(data, name):
    vector = recorded(data, name)
    net = resnet.from_published(vector["state_dict"]).eval()
    expected = CPResNetConfig(vector["rho"], vector["rho_time"], vector["base_channels"], "fa" in name)
    assert net.config == expected
    with torch.inference_mode():
        for x, y in (("x", "y_eval"), ("x_odd", "y_odd")):
            assert vector[y].std() > 0.1
            torch.testing.assert_close(net(vector[x][:, 0]), vector[y], **TOLERANCE)
        frame_logits = net.frame_logits(vector["x"][:, 0])
        torch.testing.assert_close(frame_logits, vector["cam_eval"].mean(dim=2), **TOLERANCE)
        torch.testing.assert_close(frame_logits.mean(dim=2), net(vector["x"][:, 0]))
        stages = {"in_c": net.stem(vector["x"])}
        for stage, blocks in (("stage1", net.blocks[:7]), ("stage2", net.blocks[7:11]), ("stage3", net.blocks[11:])):
            stages[stage] = blocks(list(stages.values())[-1])
    assert stages.keys() == vector["stages"].keys()
    for stage, expected in vector["stages"].items():
        torch.testing.assert_close(stages[stage], expected, **TOLERANCE)


@pytest.mark.golden
@pytest.mark.parametrize("name", VECTORS)
def test_a_step_of_training_agrees_with_recorded_vectors(data, name):
    vector = recorded(data, name)
    net = resnet.from_published(vector["state_dict"]).train()
    torch.testing.assert_close(net(vector["x_train"][:, 0]), vector["y_train"], **TOLERANCE)
    expected = resnet.from_published({**vector["state_dict"], **vector["bn_after"]}).state_dict()
    changed = 0
    for key, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, expected[key], **TOLERANCE)
        changed += key.endswith("num_batches_tracked") and int(tensor) == 1 + int(
            vector["state_dict"]["in_c.1.num_batches_tracked"]
        )
    assert changed == len(vector["bn_after"]) // 3 == 28


@pytest.mark.golden
@pytest.mark.parametrize("name", VECTORS)
def test_load_pretrained_takes_a_state_dict_or_a_dict_around_it(data, name, tmp_path):
    vector = recorded(data, name)
    wrapped = {"state_dict": vector["state_dict"], "optimizer": {}, "epoch": 3, "metrics": None, "swa_n": 0}
    for saved in (vector["state_dict"], wrapped, OrderedDict(vector["state_dict"])):
        torch.save(saved, tmp_path / "published.pth")
        net = nets.load_pretrained(tmp_path / "published.pth").eval()
        torch.testing.assert_close(net(vector["x"][:, 0]), vector["y_eval"], **TOLERANCE)


@pytest.mark.golden
def test_a_published_network_takes_any_number_of_bands_and_frames_from_17_up(data):
    net = resnet.from_published(recorded(data, "cp_faresnet_rho5_t9_tiny")["state_dict"]).eval()
    assert net.lengths.min_frames == 17
    for bands, frames, run_steps in ((17, 17, 1), (17, 100, 6), (128, 17, 1), (300, 50, 3)):
        assert net.frame_logits(torch.randn(1, bands, frames)).shape == (1, 56, run_steps)


@pytest.mark.golden
def test_the_organisers_network_agrees_with_recorded_vectors(data):
    vector = recorded(data, "vggish")
    net = nets.load_pretrained(data / "vggish" / "best_model.pth").eval()
    logits = net(vector["x"].float())
    assert logits.std() > 0.1
    torch.testing.assert_close(logits.sigmoid(), vector["y"], **TOLERANCE)
    assert abs(float(net.bn_init.running_mean) + 22.70) < 0.01


@pytest.mark.golden
def test_scores_of_the_organisers_network(data):
    net = nets.load_pretrained(data / "vggish" / "best_model.pth").eval()
    with np.load(data / "vectors" / "vggish_waveform.npz", allow_pickle=False) as vector:
        waveform = Waveform((vector["waveform_int16"] / 32768).astype(np.float32), int(vector["rate"]))
        start, expected = int(vector["clip_start_frame"]), vector["scores"]
    whole = mel.spectrogram(waveform, MelConfig(sample_rate=12_000, n_fft=512, hop_length=256, n_mels=96, kind="plain"))
    assert start == (whole.shape[1] - net.lengths.frames) // 2
    with torch.inference_mode():
        scores = net(torch.from_numpy(whole[None, :, start : start + net.lengths.frames].copy()))[0].sigmoid().numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4)
    assert (np.argsort(-scores)[:5] == np.argsort(-expected)[:5]).all()


# All networks


@every
def test_defaults_are_56_tags_and_256_bands(name):
    with torch.device("meta"):
        net = nets.create(name) if name != "vgg" else nets.create(name, n_mels=96)
    assert len(net.standardize.mean) == (256 if name != "vgg" else 96)
    assert len(list(net.parameters())[-1]) == 56
    assert net.config == nets.NETS[name]


@every
def test_every_parameter_gets_a_gradient(name):
    for mode in (False, True):
        net = randomised(small(name)).train(mode)
        logits = net(example(net, batch=4))
        assert logits.std() > 0.1
        (logits * torch.randn_like(logits)).sum().backward()
        for key, parameter in net.named_parameters():
            assert parameter.grad is not None, key
            assert torch.isfinite(parameter.grad).all(), key
            # in training, batch norm cancels a bias before it: its gradient is only rounding errors
            threshold = 0 if mode and parameter.dim() == 1 else 1e-6
            assert parameter.grad.abs().max() > threshold, key


@every
def test_clips_of_a_batch_are_independent(name):
    net = randomised(small(name))
    mels = example(net, batch=3)
    with torch.inference_mode():
        whole = net(mels)
        assert whole.std() > 0.1
        assert (whole[0] - whole[1]).abs().max() > 1e-2
        for row, clip in zip(whole, mels, strict=True):
            torch.testing.assert_close(net(clip[None])[0], row, atol=1e-5, rtol=1e-5)


@every
def test_seed_determines_weights_and_gradients(name):
    def step() -> list[Tensor]:
        torch.manual_seed(3)
        net = randomised(small(name)).train()
        logits = net(example(net))
        return [logits, *torch.autograd.grad((logits * torch.randn_like(logits)).sum(), list(net.parameters()))]

    first = step()
    assert first[0].std() > 0.1
    assert all(torch.equal(*pair) for pair in zip(first, step(), strict=True))


@every
def test_only_training_of_some_networks_is_random(name):
    net = randomised(small(name))
    mels = example(net)
    for mode in (True, False):
        net.train(mode)
        first, second = net(mels), net(mels)
        assert first.std() > 0.1
        assert torch.equal(first, second) is not (mode and name in ("shake_fa_resnet", "crnn", "vgg"))


@every
def test_logits_of_a_clip_are_the_mean_of_its_frame_logits(name):
    net = randomised(small(name))
    mels = example(net)
    frame_logits = net.frame_logits(mels)
    features = receptive_field.output_size(net.config.layers("time"), mels.shape[2])
    assert frame_logits.shape == (2, 7, features if isinstance(net.lengths, AnyLength) else 1)
    torch.testing.assert_close(net(mels), frame_logits.mean(dim=2))
    torch.testing.assert_close(net.forward_head(net.forward_features(mels)), frame_logits)
    assert net(mels).std() > 0.1
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(mels)
    assert net(mels).dtype == rounded.dtype == torch.float32
    assert 0 < (rounded - net(mels)).norm() < 0.5 * net(mels).norm()


@every
def test_weights_in_a_file_restore_the_logits(name, tmp_path):
    net = randomised(small(name))
    other = small(name).eval()
    mels = example(net)
    assert net(mels).std() > 0.1
    assert not torch.equal(other(mels), net(mels))
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(other(mels), net(mels))


@every
def test_memory_format_does_not_matter(name):
    net = randomised(small(name))
    mels, results = example(net), []
    direction = torch.randn(2, 7)
    for layout in (torch.contiguous_format, torch.channels_last):
        net.to(memory_format=layout).zero_grad()
        logits = net(mels)
        (logits * direction).sum().backward()
        results.append([logits, *(parameter.grad.clone() for parameter in net.parameters() if parameter.dim() > 1)])
    assert results[0][0].std() > 0.1
    for first, second in zip(*results, strict=True):
        assert (first - second).norm() <= 1e-3 * first.norm()


@every
def test_any_number_of_bands_and_frames(name):
    net = randomised(small(name) if name == "vgg" else small(name, n_mels=1))
    along_freq, along_time = net.config.layers("freq"), net.config.layers("time")
    shortest, generator = receptive_field.min_input(along_time), random.Random(6)
    step_counts = set()
    for _ in range(6):
        bands = 96 if name == "vgg" else generator.randint(receptive_field.min_input(along_freq), 120)
        frames = generator.randint(shortest, 2 * shortest - 1 if name == "vgg" else 400)
        mels = torch.randn(2, bands, frames)
        with torch.inference_mode():
            frame_logits, features = net.frame_logits(mels), net.forward_features(mels)
        run_steps = receptive_field.output_size(along_time, frames)
        assert features.shape[2] == run_steps
        assert frame_logits.shape == (2, 7, run_steps if isinstance(net.lengths, AnyLength) else 1)
        assert torch.isfinite(frame_logits).all()
        assert frame_logits.std() > 0.1
        step_counts.add(run_steps)
    assert step_counts == {1} if name == "vgg" else len(step_counts) > 2


@every
def test_smallest_inputs(name):
    net = randomised(small(name))
    frames, bands = (receptive_field.min_input(net.config.layers(axis)) for axis in ("time", "freq"))
    assert net.frame_logits(example(net, frames=frames)).shape == (2, 7, 1)
    with pytest.raises((RuntimeError, ConfigError), match=f"too small|smaller|greater than|{frames - 1} frames"):
        net(example(net, frames=frames - 1))
    if not isinstance(net.lengths, FixedLength):
        assert net.lengths.min_frames == frames
        (clip,) = clips.cut(example(net, frames=frames)[0].numpy(), net.lengths)
        assert net(torch.from_numpy(clip.mel)[None]).shape == (1, 7)
        with pytest.raises(AudioError, match=f"expected {frames}"):
            clips.cut(example(net, frames=frames - 1)[0].numpy(), net.lengths)
    net = small(name, n_mels=bands)
    assert net.frame_logits(example(net)).shape[:2] == (2, 7)
    with pytest.raises(ConfigError, match=f"n_mels is {bands - 1}"):
        small(name, n_mels=bands - 1)


@every
def test_lengths(name):
    lengths = small(name).lengths
    if name == "vgg":
        assert lengths == FixedLength(1_366, 683)
        assert small(name, frames=2_001).lengths == FixedLength(2_001, 1_000)
    else:
        field = receptive_field.compute(nets.NETS[name].layers("time"))
        kind = WholeTrack if name == "crnn" else AnyLength
        assert lengths == kind(lengths.min_frames, field.stride, field.size, field.start)


@pytest.mark.parametrize("name", [name for name in nets.NETS if name != "vgg"])
def test_features_of_clips_are_those_of_the_whole_track(name):
    net = randomised(small(name))
    clip_frames = net.lengths.receptive_field + 4 * net.lengths.stride
    whole = example(net, batch=1, frames=3 * clip_frames + 7)
    cutter = clips.Cutter(net.lengths, clip_frames=clip_frames)
    cut_clips = [clip for piece in np.split(whole[0].numpy(), [50, 400], axis=1) for clip in cutter.push(piece)]
    cut_clips += cutter.finish()
    assert len(cut_clips) > 3
    with torch.inference_mode():
        features = torch.cat(
            [net.forward_features(torch.tensor(clip.mel)[None])[..., clip.keep] for clip in cut_clips], dim=2
        )
        assert net.frame_logits(whole).std() > 0.1
        torch.testing.assert_close(features, net.forward_features(whole), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(net.forward_head(features), net.frame_logits(whole), atol=1e-4, rtol=1e-4)
        assert isinstance(net.lengths, WholeTrack) or (
            np.abs(clips.pool(net.forward_head(features)[0].numpy()) - net(whole)[0].numpy()).max() < 1e-3
        )


def run_steps(net: nets.Net, *, precision: torch.dtype) -> tuple[dict[str, Tensor], int]:
    """Logits, gradients and buffers of two training steps, and the bytes saved for gradients in a step."""
    weights = {parameter.data_ptr() for parameter in net.train().parameters()}
    found: dict[str, Tensor] = {}
    torch.manual_seed(4)
    for step in range(2):
        kept: list[Tensor] = []

        def keep(tensor: Tensor, kept: list[Tensor] = kept) -> Tensor:
            kept.append(tensor.detach())
            return tensor

        mels = example(net, batch=3)
        lower = torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16)
        with lower, saved_tensors_hooks(keep, lambda tensor: tensor):
            logits = net(mels)
        sizes = {tensor.data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
        net.zero_grad()
        (logits * torch.randn_like(logits)).sum().backward()
        found |= {f"{step}": logits.detach()} | {f"{step}.{key}": p.grad for key, p in net.named_parameters()}
    return found | dict(net.named_buffers()), sum(size for at, size in sizes.items() if at not in weights)


@every
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_recompute_saves_memory_and_gives_equal_results(name, precision):
    net = randomised(small(name))
    before = dict(deepcopy(net).named_buffers())
    recomputing = deepcopy(net)
    recomputing.recompute = True
    (expected, kept_bytes), (results, recomputed_bytes) = (
        run_steps(net, precision=precision),
        run_steps(recomputing, precision=precision),
    )
    assert expected["0"].std() > 0.1
    assert results.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(results[key], tensor), key
    assert all(int(expected[key]) == int(features) + 2 for key, features in before.items() if "num_batches" in key)
    assert recomputed_bytes < 0.6 * kept_bytes


@every
def test_initialisation_depends_only_on_the_seed(name):
    first, other = small(name), small(name)
    torch.manual_seed(20)
    second = small(name)
    pairs = list(zip(first.parameters(), second.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(value, same) for value, same, _ in pairs)
    assert any(not torch.equal(value, different) for value, _, different in pairs)
    for value, _, different in pairs:
        if value.numel() > 300:
            assert value.detach().std().item() == pytest.approx(different.detach().std().item(), rel=0.25)


@every
def test_init_output_bias(name):
    net = small(name) if name == "vgg" else small(name, n_mels=64)
    mean, spread = torch.linspace(-4, 2, 7), torch.linspace(0.1, 1, 7)
    mels = example(net, batch=8)
    if hasattr(net, "dense"):
        features = net.eval()(mels) - net.dense.bias
        net.init_output_bias(mean, spread)
        torch.testing.assert_close(net(mels), features + mean)
    else:
        net.init_output_bias(mean, spread)
        torch.testing.assert_close(net.eval()(mels), mean.expand(8, -1), atol=1e-6, rtol=0)
        nn.init.normal_(net.head[-2].weight)
        maps: list[Tensor] = []
        net.head.register_forward_hook(lambda head, below, result: maps.append(result))
        frame_logits = net.train().frame_logits(mels)
        assert (frame_logits.mean(dim=(0, 2)) - mean).abs().max() < 1e-3
        torch.testing.assert_close(maps[0].std(dim=(0, 2, 3)), spread, atol=0, rtol=0.02)


@every
def test_other_numbers_of_bands_raise(name):
    net = small(name)
    bands = len(net.standardize.mean)
    for n_bands in (bands - 1, bands + 1, 1):
        with pytest.raises(ConfigError, match=f"{n_bands} bands"):
            net(torch.randn(1, n_bands, 1_366))


# Single networks


def test_rho_does_not_change_min_frames():
    for rho in (0, 22):
        net = randomised(small("fa_resnet", rho_time=rho))
        assert net.lengths == AnyLength(17, 16, net.lengths.receptive_field, net.lengths.start)
        n_outputs = [net.frame_logits(example(net, frames=frames)).shape[2] for frames in (17, 32, 33, 48, 49)]
        assert n_outputs == [1, 1, 2, 2, 3]


def test_the_vgg_takes_lengths_with_one_step_of_time():
    net = randomised(small("vgg"))
    for frames in (1_280, 2_559):
        assert net.frame_logits(example(net, frames=frames)).shape == (2, 7, 1)
    for frames in (1_279, 2_560):
        with pytest.raises(ConfigError, match=f"{frames} frames"):
            net(example(net, frames=frames))


def test_the_crnn_depends_on_the_order_of_features():
    net = randomised(small("crnn"))
    features = net.forward_features(example(net, frames=960))
    assert features.shape == (2, 8, 10)
    forwards, backwards = net.forward_head(features), net.forward_head(features.flip(2))
    assert forwards.std() > 0.1
    assert (forwards - backwards).abs().max() > 0.05
    assert (forwards - net.forward_head(features[..., 1:])).abs().max() > 1e-6  # and so does its beginning


def test_layers_of_the_crnn():
    net = randomised(small("crnn", n_mels=256))
    assert [module.p for module in net.modules() if isinstance(module, nn.Dropout)] == [0.1] * 4 + [0.3]
    mels = example(net)
    maps = net.standardize(mels)
    for (conv, norm, *_), pool in zip(net.blocks, [(4, 2), (4, 3), (4, 4), (4, 4)], strict=True):
        maps = F.max_pool2d(F.elu(norm(conv(maps))), pool)
    assert maps.shape == (2, 8, 1, 3)
    states, _ = net.recurrent(maps[:, :, 0].transpose(1, 2))
    torch.testing.assert_close(net(mels), net.dense(states[:, -1]))


def test_dropout_of_the_crnn_after_the_last_pooling():
    """Dropout sets features to zero, not cells before max pooling."""
    net = randomised(small("crnn", n_mels=256, dropout=0.4)).train()
    features = net.forward_features(example(net, batch=16, frames=960))
    assert features.numel() > 1_000
    assert float((features == 0).float().mean()) == pytest.approx(0.4, abs=0.06)
    assert not (net.eval().forward_features(example(net)) == 0).any()


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_layers_of_the_resnets(name):
    net = randomised(small(name))
    mels = example(net)
    maps = F.max_pool2d(F.relu(net.stem[1](net.stem[0](net.standardize(mels)))), 3, stride=2, padding=1)
    for block in net.blocks:
        first, norm, *rest = (part for part in block.residual if not isinstance(part, nn.ReLU))
        inner = norm(first(maps))
        for conv, norm in zip(rest[::2], rest[1::2], strict=True):
            inner = norm(conv(F.relu(inner)))
        step = first.stride[0] * math.prod(conv.stride[0] for conv in rest[::2])
        maps = F.relu(inner + block.shortcut(maps[:, :, ::step, ::step]))
    assert maps.shape[2:] == (2, 4)
    # the last layer may come after the mean over time, or before it
    torch.testing.assert_close(net(mels), net.dense(maps.mean(dim=(2, 3))), atol=1e-4, rtol=1e-4)


def test_layers_of_the_densenet():
    net = randomised(small("cp_densenet", rho_freq=5, rho_time=7))
    mels = example(net)
    layers, narrow = ([part for part in net.blocks if isinstance(part, kind)] for kind in (DenseLayer, nn.Sequential))
    maps = F.relu(net.stem[1](net.stem[0](net.standardize(mels))))
    for n_layers, layer in enumerate(layers, start=1):
        maps = torch.cat([maps, layer.conv(F.relu(layer.bn(maps)))], dim=1)
        if n_layers in (2, 4, 8, 16):
            norm, _, conv = narrow.pop(0)
            maps = conv(F.relu(norm(maps)))
        if n_layers in (2, 4, 8):
            maps = F.avg_pool2d(maps, 2)
    norm, _, conv, last = net.head
    torch.testing.assert_close(net(mels), last(conv(F.relu(norm(maps)))).mean(dim=(2, 3)), atol=1e-4, rtol=1e-4)


# The registry


def test_registered_names():
    names = "cp_resnet fa_resnet shake_fa_resnet cp_densenet resnet18 resnet34 resnet50 crnn vgg"
    assert list(nets.NETS) == names.split()
    assert len(set(nets.NETS.values())) == 9


def test_an_unknown_name_raises_with_a_suggestion():
    with pytest.raises(UnknownNameError, match="fa_resnet"):
        nets.create("fa_resnt")


@pytest.mark.parametrize(
    ("name", "changes", "match"),
    [
        ("fa_resnet", {"rho": 5}, "no rho; it has"),
        ("vgg", {"n_mels": 96, "rho_freq": 5, "growth": 8}, "growth, rho_freq"),
        ("cp_resnet", {"rho_freq": 23}, "ρ is 23"),
        ("cp_resnet", {"rho_time": -1}, "ρ is -1"),
        ("cp_resnet", {"frequency_aware": "no"}, "frequency_aware"),
        ("cp_resnet", {"family": "vgg"}, "no family"),
        ("cp_resnet", {"width": 2.5}, "width"),
        ("cp_resnet", {"width": 5_000}, "width is 5000"),
        ("fa_resnet", {"rho_freq": torch.tensor(5)}, "plain values"),
        ("cp_resnet", {"width": 0}, "width is 0"),
        ("cp_resnet", {"n_mels": 16}, "at least 17"),
        ("cp_resnet", {"n_mels": 0}, "n_mels is 0"),
        ("cp_resnet", {"n_tags": 0}, "n_tags is 0"),
        ("vgg", {"n_mels": 96, "n_tags": -1}, "n_tags is -1"),
        ("vgg", {}, "n_mels is 256"),
        ("vgg", {"n_mels": 96, "frames": 1_279}, "1280 … 2559"),
        ("vgg", {"n_mels": 96, "frames": 2_560}, "1280 … 2559"),
        ("vgg", {"n_mels": 96, "dropout": 1.0}, "dropout"),
        ("vgg", {"n_mels": 96, "width": 0}, "width"),
        ("cp_densenet", {"rho_freq": 23}, "ρ is 23"),
        ("cp_densenet", {"growth": 0}, "growth is 0"),
        ("cp_densenet", {"growth": 4_097}, "growth is 4097"),
        ("cp_densenet", {"width": 0}, "width is 0"),
        ("resnet34", {"depth": 20}, "18, 34, 50"),
        ("resnet18", {"width": 0}, "width"),
        ("crnn", {"hidden": 0}, "hidden"),
        ("crnn", {"dropout_summary": 1.0}, "dropouts"),
        ("crnn", {"dropout": -0.1}, "dropouts"),
    ],
)
def test_invalid_changes_raise(name, changes, match):
    with pytest.raises(ConfigError, match=match):
        nets.create(name, **changes)


def test_create_does_not_change_the_registry():
    before = dict(nets.NETS)
    nets.create("cp_resnet", n_mels=32, rho_freq=1, width=4)
    assert before == nets.NETS
    assert nets.NETS["cp_resnet"] == CPResNetConfig()


@every
def test_from_dict_reads_what_asdict_wrote(name):
    for config in (nets.NETS[name], small(name).config):
        written = json.loads(json.dumps(asdict(config)))
        assert nets.from_dict(written) == config == nets.from_dict(dict(reversed(written.items())))
        assert type(nets.from_dict(written)) is type(config)
        assert hash(config) == hash(nets.from_dict(written))


def test_from_dict_raises(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside of tests, where types are not checked
    with pytest.raises(UnknownNameError, match="vgg"):
        nets.from_dict({"family": "vgk"})
    with pytest.raises(UnknownNameError, match="family"):
        nets.from_dict({})
    with pytest.raises(ConfigError, match="'rho'"):
        nets.from_dict({"family": "vgg", "rho": 3})
    with pytest.raises(ConfigError, match="CPResNetConfig"):
        nets.from_dict({"family": "cp_resnet", "rho_freq": "5"})
    with pytest.raises(ConfigError, match="ρ is 99"):
        nets.from_dict({"family": "cp_resnet", "rho_freq": 99})


# Published checkpoints


class Trap:
    """A pickle that makes a file when it is read in the usual way."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self):
        return Path.touch, (self.made,)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_a_checkpoint_with_code_raises_and_does_not_run(tmp_path, kind):
    path, made = tmp_path / "trap.pth", tmp_path / "made"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Trap(made)))
    else:
        torch.save({"bn_init.weight": Trap(made)}, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(ModelError, match="checkpoint"):
        nets.load_pretrained(path)
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
    net = nets.create("fa_resnet", n_mels=1, n_tags=3, width=2, rho_freq=3, rho_time=5)
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


def test_from_published_infers_the_config_from_shapes():
    assert resnet.from_published(published_state()).config == CPResNetConfig(3, 5, 2, frequency_aware=True)


def test_a_missing_checkpoint_raises(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(ModelError, match="checkpoint"):
            nets.load_pretrained(path)


def test_a_damaged_checkpoint_never_crashes(tmp_path):
    whole = checkpoint(tmp_path).read_bytes()
    torch.save(published_state(), tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    legacy = (tmp_path / "legacy.pth").read_bytes()
    generator, path = random.Random(1), tmp_path / "damaged.pth"
    for cut in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ModelError):
            nets.load_pretrained(path)
    failed = 0
    for trial in range(80):
        damaged = bytearray(whole if trial % 2 else legacy)
        for _ in range(generator.choice([1, 5, 50])):
            damaged[generator.randrange(min(len(damaged), 30_000))] = generator.randrange(256)
        path.write_bytes(bytes(damaged))
        try:
            nets.load_pretrained(path)
        except ModelError:
            failed += 1
    assert 20 < failed < 80


@pytest.mark.parametrize("held", [torch.zeros(3), [torch.zeros(3)], 5, "text", None])
def test_a_checkpoint_without_a_state_dict_raises(tmp_path, held):
    torch.save(held, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=type(held).__name__):
        nets.load_pretrained(tmp_path / "other.pth")


def spoiled(**changes: object) -> dict:
    """The published state dict with some tensors replaced, or left out for `None`; `_` stands for a dot."""
    state = {**published_state(), **{key.replace("__", "."): value for key, value in changes.items()}}
    return {key: value for key, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("state", "match"),
    [
        ({}, "CP-ResNet: keys"),
        ({"weight": torch.zeros(3)}, "CP-ResNet: keys"),
        ({"state_dict": 5}, "CP-ResNet: keys"),
        ({"state_dict": {}}, "CP-ResNet: keys"),
        (spoiled(in_c__0__weight=None), "CP-ResNet: keys"),
        (spoiled(in_c__0__weight=torch.tensor(1.0)), "CP-ResNet: keys"),
        (spoiled(stage2__block3__conv1__weight=torch.zeros(4)), "CP-ResNet: keys"),
        (spoiled(in_c__0__weight=torch.zeros(0, 1, 5, 5)), "do not fit"),
        (spoiled(in_c__0__weight=torch.zeros(2, 2, 5, 5)), "do not fit"),
        (spoiled(in_c__1__bias=None), "do not fit"),
        (spoiled(stage2__block1__conv1__weight=torch.zeros(4, 3, 3, 3)), "do not fit"),
        (spoiled(stage9__block9__conv1__weight=torch.zeros(1)), "do not fit"),
        (spoiled(stage0__block8__conv1__weight=torch.zeros(1)), "do not fit"),
        ({**spoiled(), 7: torch.zeros(1)}, "do not fit"),
        ({"bn_init.weight": torch.zeros(1)}, "baseline: keys"),
        ({"bn_init.weight": torch.zeros(1), "dense.weight": torch.tensor(1.0)}, "baseline: keys"),
        ({"bn_init.weight": torch.zeros(1), "dense.weight": torch.zeros(56, 64)}, "baseline"),
    ],
)
def test_other_keys_and_shapes_raise(tmp_path, state, match):
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=match):
        nets.load_pretrained(tmp_path / "other.pth")
