"""Tiny model folders, exported once a session, and a music of tones that they can tell apart."""

import functools
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from jaxtyping import Float32
from torch import nn

from moodfield import card, mel, nets
from moodfield.audio import Waveform
from moodfield.mel import MelConfig
from moodfield.training import export
from moodfield.training.recipe import Recipe

RATE = 22_050
MEL = MelConfig(sample_rate=RATE, n_fft=1_024, n_mels=64)
PLAIN_MEL = MelConfig(sample_rate=12_000, n_fft=512, hop_length=256, n_mels=96, kind="plain")
"""what the organisers' baseline wants"""
VOCABULARY = ("happy", "film", "sad", "[dark]", "slow")
THRESHOLDS = (0.5, 0.4, 0.5, 0.5, float("inf"))


def music(seconds: float, *, seed: int = 0, rate: int = RATE) -> Waveform:
    """A melody in noise: a new tone and loudness every half second."""
    drawn = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    notes = (2 * time).astype(int)
    pitch, gain = drawn.uniform(100, 3_000, notes.max() + 1), drawn.uniform(0.01, 0.4, notes.max() + 1)
    tone = gain[notes] * np.sin(2 * np.pi * pitch[notes] * time)
    return Waveform((tone + 0.01 * drawn.standard_normal(time.size)).astype(np.float32), rate)


def save(path: Path, waveform: Waveform) -> Path:
    """A file of that music, of the kind its suffix says; in pieces, since libvorbis crashes on long ones."""
    with sf.SoundFile(path, "w", waveform.sample_rate, 1) as file:
        for start in range(0, len(waveform.samples), 2**15):
            file.write(waveform.samples[start : start + 2**15])
    return path


@dataclass(frozen=True)
class Exported:
    """A network, and the folder it was exported to."""

    net: nets.Net
    folder: Path
    card: card.Card


def stir(net: nn.Module) -> None:
    """Weights and batch norms that all matter; one step of training then gives the statistics of what is heard."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.3)
        if isinstance(module, nn.GRU):
            for weight in module.parameters():
                nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            module.momentum = 1.0
    for module in net.modules():
        if isinstance(residual := getattr(module, "residual", None), nn.Sequential):
            nn.init.constant_(residual[-1].weight, 0.2)  # deep chains of blocks are not to magnify rounding


@functools.cache
def minute(config: MelConfig) -> Float32[np.ndarray, "bands frames"]:
    """The mel of a minute of that music; not to be changed."""
    return mel.spectrogram(music(60, rate=config.sample_rate), config)


def network(name: str, *, seed: int = 0, **changes: object) -> nets.Net:
    """A small network with random weights, batch norms and statistics, whose logits have a natural size for `music`."""
    torch.manual_seed(seed)
    config = mel_of(name)
    net = nets.create(name, n_mels=config.n_mels, n_tags=len(VOCABULARY), width=4, **changes)
    stir(net)
    mels = torch.from_numpy(minute(config))
    net.standardize.mean.copy_(mels.mean(dim=1))
    net.standardize.std.copy_(mels.std(dim=1))
    frames = 1_400 if name == "vgg" else 500
    net(torch.stack(mels[:, : 5_000 // frames * frames].split(frames, dim=1)[: mels.shape[1] // frames]))
    assert net(mels[None, :, :2_000])[0].std() > 0.1
    return net.eval()


def mel_of(name: str) -> MelConfig:
    """What a network of the registry hears here."""
    return PLAIN_MEL if name == "vgg" else MEL


def exported(folder: Path, name: str, **changes: object) -> Exported:
    """A small network as a model folder; takes seconds."""
    net = network(name, **changes)
    plan = Recipe(net=net.config, mel=mel_of(name))
    described = export.describe(plan, net, VOCABULARY, name=name, licence="CC0-1.0", summary="A network for tests.")
    return Exported(net, folder, export.export(net, replace(described, thresholds=THRESHOLDS), folder))


def replace_export(patch: pytest.MonkeyPatch, network: bytes) -> None:
    """Write these bytes as the ONNX file of every model folder, instead of an export, which takes seconds."""

    def write(net: object, described: card.Card, folder: Path) -> card.Card:
        (folder / card.NETWORK).write_bytes(network)
        return described

    patch.setattr(export, "_export_network", write)


def varied(model: Exported, folder: Path, **changes: object) -> Path:
    """A copy of a model folder whose card says something else."""
    shutil.copytree(model.folder, folder)
    replace(model.card, **changes).write(folder)
    return folder


def rewritten(model: Exported, folder: Path, values: Mapping[str, object]) -> Path:
    """A copy of a model folder in which some values of the card's JSON are others, whether they make sense or not."""
    shutil.copytree(model.folder, folder)
    stated = json.loads((folder / card.CARD).read_text())
    (folder / card.CARD).write_text(json.dumps(stated | dict(values)))
    return folder
