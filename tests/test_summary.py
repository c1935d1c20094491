"""The survey of the networks: published numbers, work counted another way, and gradients where theory allows them."""

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
"""10 s of it are the 431 frames that the published work is said for"""
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
"""changes that make a network quick"""


def noise(made: MelConfig, frames: int, *, seed: int = 0) -> summary.Mel:
    """A mel that excites everything."""
    return np.random.default_rng(seed).standard_normal((made.n_mels, frames), np.float32)


def clips_for(candidate: summary.NetworkToPlot, count: int = 2) -> list[summary.Mel]:
    """Clips that the network takes, of noise."""
    return summary.excerpts(candidate.survey, noise(candidate.survey.mel, 3_000), count)


def at_work(
    name: str, changes: Mapping[str, int] | None = None
) -> tuple[summary.NetworkToPlot, nets.Net, list[summary.Mel]]:
    """A small network with weights that do something, and clips for it."""
    torch.manual_seed(3)
    candidate = summary.fresh(name, {**SMALL[name], **(changes or {})})
    clips = clips_for(candidate)
    return candidate, summary.drawn(candidate.net, clips, np.random.default_rng(1)), clips


# ---------------------------------------------------------------- work and parameters


@pytest.mark.parametrize(("rho", "gmac"), [(2, 7.69), (5, 8.34), (7, 8.65), (12, 9.68)])
def test_work_is_what_is_published(rho, gmac):
    plain = summary.of(CPResNetConfig(rho_freq=rho, rho_time=rho), HOP_1024)
    aware = summary.of(CPResNetConfig(rho_freq=rho, rho_time=rho, frequency_aware=True), HOP_1024)
    assert plain.gmac == pytest.approx(gmac, abs=0.005)
    assert plain.gmac < aware.gmac < plain.gmac + 0.01  # positions cost a little, and less than a channel more


@pytest.mark.parametrize("name", list(nets.NETS))
def test_every_registered_network_is_surveyed(name):
    found = summary.registered(name)
    assert found.parameters == NUMBERS[name]
    assert found.config == nets.NETS[name]
    assert found.freq == receptive_field.compute(found.config.layers("freq"))
    assert found.time == receptive_field.compute(found.config.layers("time"))
    assert found.lengths == nets.create(name, n_mels=found.mel.n_mels).lengths
    assert 0.1 < found.gmac < 100
    plain = found.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["parameters"] == NUMBERS[name]
    assert plain["receptive_field"]["bands"] == found.freq.size
    assert all(found.to_words().values())


@pytest.mark.parametrize("width", [1, 32])
@pytest.mark.parametrize("rho", [0, 5, 22])
def test_parameters_are_those_of_the_network_itself(rho, width):
    config = CPResNetConfig(rho_freq=rho, rho_time=rho, width=width, frequency_aware=True)
    net = config.build(n_mels=256, n_tags=7)
    assert summary.of(config, MelConfig(), n_tags=7).parameters == sum(each.numel() for each in net.parameters())


def counted(net: nets.Net, mels: Tensor) -> tuple[float, float]:
    """Multiplications of a forward pass, layer by layer: those that must be, and those for positions at most."""
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
            weights = sum(each.numel() for name, each in module.named_parameters() if name.startswith("weight"))
            total += inputs[0].shape[1] * weights

    hooks = [module.register_forward_hook(count) for module in net.modules()]
    with torch.no_grad():
        net.eval()(mels)
    for hook in hooks:
        hook.remove()
    return total / 1e9, positions / 1e9


@pytest.mark.parametrize("name", list(nets.NETS))
def test_work_counted_layer_by_layer_is_the_same(name):
    made = summary.suitable(nets.NETS[name])
    candidate = summary.fresh(name, SMALL[name])
    music = mel.n_frames(10 * made.sample_rate, made)
    lengths = candidate.survey.lengths
    frames = lengths.frames if isinstance(lengths, FixedLength) else music
    work, positions = counted(candidate.net, torch.zeros(1, made.n_mels, frames))
    assert work * music / frames <= candidate.survey.gmac * (1 + 1e-9)
    assert candidate.survey.gmac <= (work + positions) * music / frames * (1 + 1e-9)
    if not positions:
        assert candidate.survey.gmac == pytest.approx(work * music / frames)


def test_recurrent_layers_are_counted():
    config = nets.NETS["crnn"]
    small, large = (summary.of(replace(config, hidden=hidden), MelConfig()).gmac for hidden in (32, 320))
    steps = receptive_field.output_size(config.layers("time"), 862)
    weights = [3 * hidden * (128 + hidden) + 3 * hidden * 2 * hidden + 56 * hidden / steps for hidden in (32, 320)]
    assert large - small == pytest.approx(steps * (weights[1] - weights[0]) / 1e9)


def test_a_survey_draws_nothing():
    before = torch.get_rng_state()
    summary.registered("crnn")
    assert torch.equal(torch.get_rng_state(), before)


def test_very_long_frames_still_give_an_output():
    coarse = summary.of(nets.NETS["cp_resnet"], MelConfig(n_fft=2**16, hop_length=65536))
    assert mel.n_frames(441_000, coarse.mel) < coarse.lengths.min_frames
    assert 0 < coarse.gmac < 1


def test_what_a_network_refuses_is_refused():
    with pytest.raises(ConfigError, match="96"):
        summary.of(nets.NETS["vgg"], MelConfig())
    with pytest.raises(UnknownNameError, match="did you mean crnn"):
        summary.registered("crn")
    with pytest.raises(ConfigError, match="crnn has no rho_freq"):
        summary.fresh("crnn", {"rho_freq": 5})


# ---------------------------------------------------------------- fields in theory


@pytest.mark.parametrize("rho", [0, 2, 5, 7])
def test_a_field_in_hertz_is_what_the_mel_scale_says(rho):
    found = summary.of(CPResNetConfig(rho_freq=rho), MelConfig())
    edges = librosa.mel_frequencies(n_mels=258, fmin=0, fmax=22_050)
    step = librosa.hz_to_mel(edges[1])
    reach = (found.freq.size + 1) / 2 * step
    wanted = librosa.mel_to_hz(np.maximum(librosa.hz_to_mel(1_000) + np.array([-reach, reach]), 0))
    assert found.hertz == pytest.approx(wanted, rel=1e-3)
    assert found.stride_hertz == pytest.approx(
        np.diff(librosa.mel_to_hz(librosa.hz_to_mel(1_000) + np.array([-8, 8]) * step))[0], rel=1e-3
    )


def test_a_field_ends_where_the_mel_does():
    assert summary.registered("resnet34").hertz == (0, 22_050)
    assert summary.registered("vgg").hertz == (0, 6_000)


@pytest.mark.parametrize(("rho", "hop_512", "hop_1536"), [(2, 0.49, 1.37), (5, 1.05, 3.04), (12, 3.46, 10.29)])
def test_a_field_in_seconds_is_what_is_published(rho, hop_512, hop_1536):
    config = CPResNetConfig(rho_freq=7, rho_time=rho)
    assert summary.of(config, MelConfig()).seconds == pytest.approx(hop_512, abs=0.0055)
    found = summary.of(config, MelConfig(hop_length=1536))
    assert found.seconds == pytest.approx(hop_1536, abs=0.0055)
    assert found.stride_seconds == pytest.approx(16 * 1_536 / 44_100)


def test_a_network_of_fixed_length_sees_no_more_than_its_window():
    found = summary.registered("vgg")
    assert found.seconds == pytest.approx((1_365 * 256 + 512) / 12_000)
    assert found.stride_seconds == pytest.approx(683 * 256 / 12_000)
    assert "windows of 1366 frames" in found.to_words()["lengths"]


def test_of_a_network_for_whole_tracks_the_field_is_what_its_first_part_hears():
    found = summary.registered("crnn")
    assert isinstance(found.lengths, WholeTrack)
    assert (found.time.size, found.time.stride) == (162, 96)
    assert "before a second part" in found.to_words()["one cell sees"]


@pytest.mark.parametrize(
    ("value", "said"), [(0, "0 Hz"), (314.6, "315 Hz"), (999.7, "1.0 kHz"), (1_000, "1 kHz"), (2_026, "2.0 kHz"),
                        (16_000, "16 kHz"), (22_050, "22 kHz")]
)  # fmt: skip
def test_frequencies_are_said_briefly(value, said):
    assert summary.hertz(value) == said


# ---------------------------------------------------------------- fields in effect


@pytest.mark.parametrize("name", list(nets.NETS))
def test_the_effect_lies_within_the_field_and_is_a_share_of_1(name):
    candidate, net, clips = at_work(name)
    effect = summary.effective(net, clips)
    assert effect.shape == clips[0].shape
    assert effect.min() >= 0
    assert effect.sum(dtype=np.float64) == pytest.approx(1)
    (_, bands), (_, frames) = (
        summary.cell(candidate.survey.config, axis, cells)
        for axis, cells in zip(("freq", "time"), effect.shape, strict=True)
    )
    within = np.zeros(effect.shape, bool)
    within[max(bands.start, 0) : bands.stop, max(frames.start, 0) : frames.stop] = True
    assert not effect[~within].any()
    assert effect[within].astype(bool).mean() > 0.5  # and nearly everywhere there, so that the test says something
    if not isinstance(candidate.survey.lengths, FixedLength):
        assert frames.start >= 0
        assert frames.stop <= effect.shape[1]


@pytest.mark.parametrize("name", ["cp_resnet", "fa_resnet", "shake_fa_resnet", "cp_densenet", "resnet18"])
def test_the_effect_is_strongest_in_the_middle(name):
    candidate, net, clips = at_work(name)
    effect = summary.effective(net, clips)
    for axis, other, cells in (("freq", 1, effect.shape[0]), ("time", 0, effect.shape[1])):
        _, seen = summary.cell(candidate.survey.config, axis, cells)
        inner = np.clip((seen.start + len(seen) // 4, seen.stop - len(seen) // 4), 0, cells)
        assert effect.sum(axis=other)[inner[0] : inner[1]].sum() > 0.75  # uniform: one half


def spreads(effect: summary.Mel) -> tuple[float, float]:
    """Standard deviation of the effect along frequency and along time, in cells."""
    found = []
    for axis in (1, 0):
        share, cells = effect.sum(axis=axis, dtype=np.float64), np.arange(effect.shape[1 - axis])
        found.append(float(np.sqrt(share @ (cells - share @ cells) ** 2)))
    return found[0], found[1]


def test_a_larger_rho_has_a_larger_effective_field_along_its_own_axis():
    effects = {
        rho: summary.effective(*at_work("fa_resnet", {"rho_freq": rho[0], "rho_time": rho[1]})[1:])
        for rho in ((2, 2), (7, 2), (2, 7), (7, 12))
    }
    small, high, long, both = (spreads(effects[rho]) for rho in ((2, 2), (7, 2), (2, 7), (7, 12)))
    assert small[0] * 1.5 < high[0]
    assert small[1] * 1.5 < long[1] < both[1]
    assert high[1] == pytest.approx(small[1], rel=0.3)
    assert long[0] == pytest.approx(small[0], rel=0.3)


@pytest.mark.parametrize("name", ["fa_resnet", "cp_densenet"])
@pytest.mark.parametrize("row", [None, 3])
def test_the_effect_is_the_energy_of_the_gradient_of_one_cell(name, row):
    """With one tag there is nothing to mix: the gradient of the head's map is the oracle."""
    torch.manual_seed(0)
    candidate = summary.fresh(name, SMALL[name])
    clip = clips_for(candidate, 1)[0]
    net = summary.drawn(
        candidate.survey.config.build(n_mels=candidate.survey.mel.n_mels, n_tags=1), [clip], np.random.default_rng(2)
    )
    mels = torch.from_numpy(clip)[None].requires_grad_()
    maps: list[Tensor] = []
    net.head.register_forward_hook(lambda _head, _maps, logits: maps.append(logits))
    net(mels)
    rows, columns = maps[0].shape[2:]
    (gradient,) = torch.autograd.grad(maps[0][0, 0, rows // 2 if row is None else row, columns // 2], mels)
    energy = (gradient[0] * net.standardize.std[:, None]) ** 2
    np.testing.assert_allclose(summary.effective(net, [clip], row=row), energy / energy.sum(), rtol=1e-3, atol=1e-9)


def test_bands_count_in_units_of_their_spread():
    """A mel in other units, standardised accordingly, is the same to the network, and so is its effective field."""
    _, net, clips = at_work("cp_resnet")
    scale = torch.linspace(0.1, 10, len(net.standardize.std))
    before = summary.effective(net, clips)
    net.standardize.set_statistics(net.standardize.mean * scale, net.standardize.std * scale)
    after = summary.effective(net, [clip * scale.numpy()[:, None] for clip in clips])
    np.testing.assert_allclose(after, before, rtol=0.02, atol=1e-8)


def test_all_mels_and_all_tags_count():
    _, net, clips = at_work("cp_resnet")
    one, other = (summary.effective(net, [clip]) for clip in clips)
    both = summary.effective(net, clips)
    assert not np.array_equal(one, other)
    assert not np.array_equal(both, one)
    apart = [float(np.abs(both - each).sum()) for each in (one, other)]
    assert max(apart) < float(np.abs(one - other).sum())


def test_looking_leaves_a_network_as_it_was():
    candidate, net, clips = at_work("cp_resnet")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    again = summary.effective(net.train(), clips)
    assert net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())
    np.testing.assert_array_equal(summary.effective(net.eval(), clips), again)
    other = summary.effective(net, clips, generator=np.random.default_rng(7))
    assert not np.array_equal(other, again)
    assert not candidate.net.head[0].weight.any()  # what was drawn was a copy


@pytest.mark.parametrize("name", ["cp_resnet", "fa_resnet", "shake_fa_resnet", "cp_densenet"])
def test_a_network_through_which_nothing_comes_is_refused(name):
    candidate = summary.fresh(name, SMALL[name])
    with pytest.raises(ConfigError, match="no gradient comes through"):
        summary.effective(candidate.net, clips_for(candidate))


def test_bands_without_any_music_are_no_obstacle():
    candidate = summary.fresh("fa_resnet", {"width": 4})
    clips = clips_for(candidate)
    for clip in clips:
        clip[200:] = -2.0
    net = summary.drawn(candidate.net, clips, np.random.default_rng(0))
    assert np.isfinite(summary.effective(net, clips)).all()
    assert float(net.standardize.std.min()) > 0


# ---------------------------------------------------------------- cells and clips


@pytest.mark.parametrize("name", list(nets.NETS))
@pytest.mark.parametrize("axis", ["freq", "time"])
def test_the_nearest_cell_is_the_nearest(name, axis):
    found = summary.registered(name)
    cells = found.mel.n_mels if axis == "freq" else 1_500
    layers = found.config.layers(axis)
    seen, count = receptive_field.compute(layers), receptive_field.output_size(layers, cells)
    for near in (0, 40, cells - 1):
        index, bands = summary.cell(found.config, axis, cells, near=near)
        centres = seen.centre + seen.stride * np.arange(count)
        assert abs(centres[index] - near) == pytest.approx(np.abs(centres - near).min())
        assert (bands.start + bands.stop - 1) / 2 == centres[index]
        assert len(bands) == seen.size
    assert summary.cell(found.config, axis, cells)[0] == count // 2


def test_clips_are_spread_over_the_music_and_a_short_piece_is_repeated():
    found = summary.registered("cp_resnet")
    size = 87 + 2 * 16
    whole = np.tile(np.arange(1_000, dtype=np.float32), (256, 1))
    clips = summary.excerpts(found, whole, 3)
    assert [(clip[0, 0], clip[0, -1]) for clip in clips] == [(0, size - 1), (440, 440 + size - 1), (1_000 - size, 999)]
    (short,) = summary.excerpts(found, whole[:, :50], 1)
    assert short.shape == (256, size)
    assert short[0, 49:52].tolist() == [49, 0, 1]
    assert summary.excerpts(summary.registered("vgg"), whole[:96], 1)[0].shape == (96, 1_366)


# ---------------------------------------------------------------- trained networks


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[nets.Net, Path]:
    """A network that has heard music, and the file of its weights."""
    net = models.network("fa_resnet", rho_freq=1)
    path = tmp_path_factory.mktemp("kept") / "model.safetensors"
    save_file(net.state_dict(), path)
    return net, path


def opened(kept: tuple[nets.Net, Path], **changes: object) -> summary.NetworkToPlot:
    given = {"stated": asdict(kept[0].config), "weights": kept[1], "made": models.MEL, **changes}
    return summary.trained("mine", n_tags=len(models.VOCABULARY), **given)


def test_a_trained_network_has_its_own_weights_and_mel(kept):
    found = opened(kept, kind="cp_resnet")
    assert (found.name, found.trained, found.net.training) == ("mine", True, False)
    assert found.survey.mel == models.MEL
    assert found.survey.config == kept[0].config
    assert found.survey.parameters == sum(each.numel() for each in kept[0].parameters())
    clip = torch.randn(1, models.MEL.n_mels, 300)
    with torch.no_grad():
        assert torch.equal(found.net(clip), kept[0](clip))
    effect = summary.effective(found.net, clips_for(found))
    assert effect.sum(dtype=np.float64) == pytest.approx(1)


def test_weights_that_do_not_fit_are_refused(kept, tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    other = asdict(replace(kept[0].config, frequency_aware=False))
    for changes, match in (
        ({"kind": "crnn"}, "is a cp_resnet, not a crnn"),
        ({"stated": other}, "does not hold the weights of CPResNetConfig"),
        ({"weights": tmp_path / "none.safetensors"}, "none.safetensors does not hold the weights"),
        ({"weights": tmp_path / "broken.safetensors"}, "broken.safetensors does not hold the weights"),
    ):
        with pytest.raises(ModelError, match=match):
            opened(kept, **changes)
