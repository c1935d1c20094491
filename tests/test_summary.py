"""Summaries of networks: published numbers, operations counted layer by layer, effective receptive fields."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import models
from moodfield import mel, nets, receptive_field
from moodfield.clips import FixedLength, WholeTrack
from moodfield.errors import ConfigError, ModelError, UnknownNameError
from moodfield.mel import MelConfig
from moodfield.nets import summary
from moodfield.nets.blocks import FrequencyAwareConv2d
from moodfield.nets.configs import CPResNetConfig

HOP_1024 = MelConfig(hop_length=1024)
"""10 s of it are the 431 frames of the published numbers"""
NUMBERS = {
    "cp_resnet": 3_587_056,
    "fa_resnet": 3_600_368,
    "shake_fa_resnet": 7_003_120,
    "cp_densenet": 1_593_392,
    "resnet18": 11_198_968,
    "resnet34": 21_307_128,
    "resnet50": 23_616_504,
    "crnn": 394_296,
    "vgg": 448_122,
}
"""parameters of the registry, for 56 tags"""
SMALL: Mapping[str, dict[str, int]] = {
    **{name: {"width": 4} for name in nets.NETS},
    "cp_densenet": {"width": 8, "growth": 4},
    "resnet50": {"width": 2},
}
"""changes of a config that make a network quick"""


def noise(config: MelConfig, frames: int, *, seed: int = 0) -> summary.Mel:
    """A mel of noise."""
    return np.random.default_rng(seed).standard_normal((config.n_mels, frames), np.float32)


def clips_for(network: summary.NetworkToPlot, count: int = 2) -> list[summary.Mel]:
    """Clips of noise that the network takes."""
    return summary.clips_of(network.summary, noise(network.summary.mel, 3_000), count)


def small_network(
    name: str, changes: Mapping[str, int] | None = None
) -> tuple[summary.NetworkToPlot, nets.Net, list[summary.Mel]]:
    """A small network with random weights, and clips for it."""
    torch.manual_seed(3)
    network = summary.untrained(name, {**SMALL[name], **(changes or {})})
    clips = clips_for(network)
    return network, summary.with_random_weights(network.net, clips, np.random.default_rng(1)), clips


# Operations and parameters


@pytest.mark.parametrize(("rho", "gmac"), [(2, 7.69), (5, 8.34), (7, 8.65), (12, 9.68)])
def test_gmac_are_the_published_ones(rho, gmac):
    plain = summary.summarize(CPResNetConfig(rho_freq=rho, rho_time=rho), HOP_1024)
    aware = summary.summarize(CPResNetConfig(rho_freq=rho, rho_time=rho, frequency_aware=True), HOP_1024)
    assert plain.gmac == pytest.approx(gmac, abs=0.005)
    assert plain.gmac < aware.gmac < plain.gmac + 0.01  # positions cost a little, and less than a channel more


@pytest.mark.parametrize("name", list(nets.NETS))
def test_registered_networks_are_summarized(name):
    summarized = summary.registered(name)
    assert summarized.parameters == NUMBERS[name]
    assert summarized.config == nets.NETS[name]
    assert summarized.freq == receptive_field.compute(summarized.config.layers("freq"))
    assert summarized.time == receptive_field.compute(summarized.config.layers("time"))
    assert summarized.lengths == nets.create(name, n_mels=summarized.mel.n_mels).lengths
    assert 0.1 < summarized.gmac < 100
    plain = summarized.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["parameters"] == NUMBERS[name]
    assert plain["receptive_field"]["bands"] == summarized.freq.size


@pytest.mark.parametrize("width", [1, 32])
@pytest.mark.parametrize("rho", [0, 5, 22])
def test_parameters_are_those_of_the_network(rho, width):
    config = CPResNetConfig(rho_freq=rho, rho_time=rho, width=width, frequency_aware=True)
    net = config.build(n_mels=256, n_tags=7)
    assert summary.summarize(config, MelConfig(), n_tags=7).parameters == sum(p.numel() for p in net.parameters())


def count_gmac(net: nets.Net, mels: Tensor) -> tuple[float, float]:
    """Multiplications of a forward pass, layer by layer, in billions; those for positions separately."""
    total = positions = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        nonlocal total, positions
        if isinstance(module, nn.Conv2d):
            aware = isinstance(module, FrequencyAwareConv2d)
            one = output.numel() * module.weight[0, 0].numel()
            total += one * (module.weight.shape[1] - aware)
            positions += one * aware
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features
        elif isinstance(module, nn.GRU):
            weights = sum(p.numel() for name, p in module.named_parameters() if name.startswith("weight"))
            total += inputs[0].shape[1] * weights

    hooks = [module.register_forward_hook(count) for module in net.modules()]
    with torch.no_grad():
        net.eval()(mels)
    for hook in hooks:
        hook.remove()
    return total / 1e9, positions / 1e9


@pytest.mark.parametrize("name", list(nets.NETS))
def test_gmac_equal_a_count_layer_by_layer(name):
    made = summary.default_mel(nets.NETS[name])
    network = summary.untrained(name, SMALL[name])
    music = mel.n_frames(10 * made.sample_rate, made)
    lengths = network.summary.lengths
    frames = lengths.frames if isinstance(lengths, FixedLength) else music
    work, positions = count_gmac(network.net, torch.zeros(1, made.n_mels, frames))
    assert work * music / frames <= network.summary.gmac * (1 + 1e-9)
    assert network.summary.gmac <= (work + positions) * music / frames * (1 + 1e-9)
    if not positions:
        assert network.summary.gmac == pytest.approx(work * music / frames)


def test_recurrent_layers_are_counted():
    config = nets.NETS["crnn"]
    small, large = (summary.summarize(replace(config, hidden=hidden), MelConfig()).gmac for hidden in (32, 320))
    steps = receptive_field.output_size(config.layers("time"), 862)
    weights = [3 * hidden * (128 + hidden) + 3 * hidden * 2 * hidden + 56 * hidden / steps for hidden in (32, 320)]
    assert large - small == pytest.approx(steps * (weights[1] - weights[0]) / 1e9)


def test_a_summary_draws_no_random_numbers():
    before = torch.get_rng_state()
    summary.registered("crnn")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_mel_shorter_than_the_receptive_field():
    coarse = summary.summarize(nets.NETS["cp_resnet"], MelConfig(n_fft=2**16, hop_length=65536))
    assert mel.n_frames(441_000, coarse.mel) < coarse.lengths.min_frames
    assert 0 < coarse.gmac < 1


def test_invalid_networks_raise():
    with pytest.raises(ConfigError, match="96"):
        summary.summarize(nets.NETS["vgg"], MelConfig())
    with pytest.raises(UnknownNameError, match="crnn"):
        summary.registered("crn")
    with pytest.raises(ConfigError, match="rho_freq"):
        summary.untrained("crnn", {"rho_freq": 5})


# Theoretical receptive fields


@pytest.mark.parametrize("rho", [0, 2, 5, 7])
def test_receptive_field_in_hertz(rho):
    summarized = summary.summarize(CPResNetConfig(rho_freq=rho), MelConfig())
    edges = librosa.mel_frequencies(n_mels=258, fmin=0, fmax=22_050)
    step = librosa.hz_to_mel(edges[1])
    reach = (summarized.freq.size + 1) / 2 * step
    wanted = librosa.mel_to_hz(np.maximum(librosa.hz_to_mel(1_000) + np.array([-reach, reach]), 0))
    assert summarized.hertz == pytest.approx(wanted, rel=1e-3)
    assert summarized.stride_hertz == pytest.approx(
        np.diff(librosa.mel_to_hz(librosa.hz_to_mel(1_000) + np.array([-8, 8]) * step))[0], rel=1e-3
    )


def test_receptive_field_ends_at_the_edges_of_the_mel():
    assert summary.registered("resnet34").hertz == (0, 22_050)
    assert summary.registered("vgg").hertz == (0, 6_000)


@pytest.mark.parametrize(("rho", "hop_512", "hop_1536"), [(2, 0.49, 1.37), (5, 1.05, 3.04), (12, 3.46, 10.29)])
def test_receptive_field_in_seconds_is_the_published_one(rho, hop_512, hop_1536):
    config = CPResNetConfig(rho_freq=7, rho_time=rho)
    assert summary.summarize(config, MelConfig()).seconds == pytest.approx(hop_512, abs=0.0055)
    summarized = summary.summarize(config, MelConfig(hop_length=1536))
    assert summarized.seconds == pytest.approx(hop_1536, abs=0.0055)
    assert summarized.stride_seconds == pytest.approx(16 * 1_536 / 44_100)


def test_receptive_field_of_a_network_of_fixed_length_is_its_clip():
    summarized = summary.registered("vgg")
    assert summarized.seconds == pytest.approx((1_365 * 256 + 512) / 12_000)
    assert summarized.stride_seconds == pytest.approx(683 * 256 / 12_000)


def test_receptive_field_of_a_crnn_is_that_of_its_convolutions():
    summarized = summary.registered("crnn")
    assert isinstance(summarized.lengths, WholeTrack)
    assert (summarized.time.size, summarized.time.stride) == (162, 96)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 Hz"), (314.6, "315 Hz"), (999.7, "1.0 kHz"), (1_000, "1 kHz"), (2_026, "2.0 kHz"),
                        (16_000, "16 kHz"), (22_050, "22 kHz")]
)  # fmt: skip
def test_format_hertz(value, text):
    assert summary.format_hertz(value) == text


# Effective receptive fields


@pytest.mark.parametrize("name", list(nets.NETS))
def test_effective_field_lies_within_the_theoretical_one(name):
    network, net, clips = small_network(name)
    effect = summary.effective_field(net, clips)
    assert effect.shape == clips[0].shape
    assert effect.min() >= 0
    assert effect.sum(dtype=np.float64) == pytest.approx(1)
    (_, bands), (_, frames) = (
        summary.cell(network.summary.config, axis, cells)
        for axis, cells in zip(("freq", "time"), effect.shape, strict=True)
    )
    within = np.zeros(effect.shape, bool)
    within[max(bands.start, 0) : bands.stop, max(frames.start, 0) : frames.stop] = True
    assert not effect[~within].any()
    assert effect[within].astype(bool).mean() > 0.5  # and nearly everywhere there, so that the test says something
    if not isinstance(network.summary.lengths, FixedLength):
        assert frames.start >= 0
        assert frames.stop <= effect.shape[1]


@pytest.mark.parametrize("name", ["cp_resnet", "fa_resnet", "shake_fa_resnet", "cp_densenet", "resnet18"])
def test_effective_field_is_strongest_in_the_middle(name):
    network, net, clips = small_network(name)
    effect = summary.effective_field(net, clips)
    for axis, other, cells in (("freq", 1, effect.shape[0]), ("time", 0, effect.shape[1])):
        _, field = summary.cell(network.summary.config, axis, cells)
        inner = np.clip((field.start + len(field) // 4, field.stop - len(field) // 4), 0, cells)
        assert effect.sum(axis=other)[inner[0] : inner[1]].sum() > 0.75  # uniform: one half


def deviations(effect: summary.Mel) -> tuple[float, float]:
    """Standard deviation of an effective field along frequency and along time, in cells."""
    stds = []
    for axis in (1, 0):
        share, cells = effect.sum(axis=axis, dtype=np.float64), np.arange(effect.shape[1 - axis])
        stds.append(float(np.sqrt(share @ (cells - share @ cells) ** 2)))
    return stds[0], stds[1]


def test_a_larger_rho_widens_the_effective_field_along_its_axis():
    effects = {
        rho: summary.effective_field(*small_network("fa_resnet", {"rho_freq": rho[0], "rho_time": rho[1]})[1:])
        for rho in ((2, 2), (7, 2), (2, 7), (7, 12))
    }
    small, high, long, both = (deviations(effects[rho]) for rho in ((2, 2), (7, 2), (2, 7), (7, 12)))
    assert small[0] * 1.5 < high[0]
    assert small[1] * 1.5 < long[1] < both[1]
    assert high[1] == pytest.approx(small[1], rel=0.3)
    assert long[0] == pytest.approx(small[0], rel=0.3)


@pytest.mark.parametrize("name", ["fa_resnet", "cp_densenet"])
@pytest.mark.parametrize("row", [None, 3])
def test_effective_field_is_the_gradient_energy_of_one_cell(name, row):
    """With one tag there is no mixture: the expected value is the gradient of the head's map."""
    torch.manual_seed(0)
    network = summary.untrained(name, SMALL[name])
    clip = clips_for(network, 1)[0]
    net = summary.with_random_weights(
        network.summary.config.build(n_mels=network.summary.mel.n_mels, n_tags=1), [clip], np.random.default_rng(2)
    )
    mels = torch.from_numpy(clip)[None].requires_grad_()
    maps: list[Tensor] = []
    net.head.register_forward_hook(lambda _head, _maps, logits: maps.append(logits))
    net(mels)
    rows, columns = maps[0].shape[2:]
    (gradient,) = torch.autograd.grad(maps[0][0, 0, rows // 2 if row is None else row, columns // 2], mels)
    energy = (gradient[0] * net.standardize.std[:, None]) ** 2
    np.testing.assert_allclose(
        summary.effective_field(net, [clip], row=row), energy / energy.sum(), rtol=1e-3, atol=1e-9
    )


def test_bands_count_in_units_of_their_std():
    """A mel in other units, standardised accordingly, gives the same effective field."""
    _, net, clips = small_network("cp_resnet")
    scale = torch.linspace(0.1, 10, len(net.standardize.std))
    before = summary.effective_field(net, clips)
    net.standardize.set_statistics(net.standardize.mean * scale, net.standardize.std * scale)
    after = summary.effective_field(net, [clip * scale.numpy()[:, None] for clip in clips])
    np.testing.assert_allclose(after, before, rtol=0.02, atol=1e-8)


def test_effective_field_is_a_mean_over_mels():
    _, net, clips = small_network("cp_resnet")
    one, other = (summary.effective_field(net, [clip]) for clip in clips)
    both = summary.effective_field(net, clips)
    assert not np.array_equal(one, other)
    assert not np.array_equal(both, one)
    differences = [float(np.abs(both - each).sum()) for each in (one, other)]
    assert max(differences) < float(np.abs(one - other).sum())


def test_effective_field_does_not_change_the_network():
    network, net, clips = small_network("cp_resnet")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    again = summary.effective_field(net.train(), clips)
    assert net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())
    np.testing.assert_array_equal(summary.effective_field(net.eval(), clips), again)
    other = summary.effective_field(net, clips, generator=np.random.default_rng(7))
    assert not np.array_equal(other, again)
    assert not network.net.head[0].weight.any()  # random weights are those of a copy


@pytest.mark.parametrize("name", ["cp_resnet", "fa_resnet", "shake_fa_resnet", "cp_densenet"])
def test_a_network_without_gradient_raises(name):
    network = summary.untrained(name, SMALL[name])
    with pytest.raises(ConfigError, match="no gradient"):
        summary.effective_field(network.net, clips_for(network))


def test_constant_bands_get_a_finite_std():
    network = summary.untrained("fa_resnet", {"width": 4})
    clips = clips_for(network)
    for clip in clips:
        clip[200:] = -2.0
    net = summary.with_random_weights(network.net, clips, np.random.default_rng(0))
    assert np.isfinite(summary.effective_field(net, clips)).all()
    assert float(net.standardize.std.min()) > 0


# Cells and clips


@pytest.mark.parametrize("name", list(nets.NETS))
@pytest.mark.parametrize("axis", ["freq", "time"])
def test_cell_is_the_nearest_one(name, axis):
    summarized = summary.registered(name)
    cells = summarized.mel.n_mels if axis == "freq" else 1_500
    layers = summarized.config.layers(axis)
    field, count = receptive_field.compute(layers), receptive_field.output_size(layers, cells)
    for near in (0, 40, cells - 1):
        index, bands = summary.cell(summarized.config, axis, cells, near=near)
        centres = field.centre + field.stride * np.arange(count)
        assert abs(centres[index] - near) == pytest.approx(np.abs(centres - near).min())
        assert (bands.start + bands.stop - 1) / 2 == centres[index]
        assert len(bands) == field.size
    assert summary.cell(summarized.config, axis, cells)[0] == count // 2


def test_clips_are_spread_over_a_mel_and_a_short_mel_is_repeated():
    summarized = summary.registered("cp_resnet")
    size = 87 + 2 * 16
    whole = np.tile(np.arange(1_000, dtype=np.float32), (256, 1))
    clips = summary.clips_of(summarized, whole, 3)
    assert [(clip[0, 0], clip[0, -1]) for clip in clips] == [(0, size - 1), (440, 440 + size - 1), (1_000 - size, 999)]
    (short,) = summary.clips_of(summarized, whole[:, :50], 1)
    assert short.shape == (256, size)
    assert short[0, 49:52].tolist() == [49, 0, 1]
    assert summary.clips_of(summary.registered("vgg"), whole[:96], 1)[0].shape == (96, 1_366)


# Trained networks


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[nets.Net, Path]:
    """A network and the file of its weights."""
    net = models.network("fa_resnet", rho_freq=1)
    path = tmp_path_factory.mktemp("stored") / "model.safetensors"
    save_file(net.state_dict(), path)
    return net, path


def load(stored: tuple[nets.Net, Path], **changes: object) -> summary.NetworkToPlot:
    arguments = {"config": asdict(stored[0].config), "weights": stored[1], "mel_config": models.MEL, **changes}
    return summary.trained("mine", n_tags=len(models.VOCABULARY), **arguments)


def test_trained_network_has_the_weights_and_mel_of_its_model(stored):
    trained = load(stored, kind="cp_resnet")
    assert (trained.name, trained.trained, trained.net.training) == ("mine", True, False)
    assert trained.summary.mel == models.MEL
    assert trained.summary.config == stored[0].config
    assert trained.summary.parameters == sum(p.numel() for p in stored[0].parameters())
    clip = torch.randn(1, models.MEL.n_mels, 300)
    with torch.no_grad():
        assert torch.equal(trained.net(clip), stored[0](clip))
    effect = summary.effective_field(trained.net, clips_for(trained))
    assert effect.sum(dtype=np.float64) == pytest.approx(1)


def test_weights_that_do_not_fit_raise(stored, tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"damaged")
    other = asdict(replace(stored[0].config, frequency_aware=False))
    for changes, match in (
        ({"kind": "crnn"}, "not a crnn"),
        ({"config": other}, "CPResNetConfig"),
        ({"weights": tmp_path / "none.safetensors"}, "none.safetensors"),
        ({"weights": tmp_path / "broken.safetensors"}, "broken.safetensors"),
    ):
        with pytest.raises(ModelError, match=match):
            load(stored, **changes)
