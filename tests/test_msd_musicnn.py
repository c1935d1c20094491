"""MSD_musicnn: the published graph's outputs, the layout of its tensors, and its tags on real music."""

import csv
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score

from moodfield import audio
from moodfield.distillation.teachers import front_end, msd_musicnn
from moodfield.distillation.teachers.msd_musicnn import EMBEDDING, PATCH, VOCABULARY, MSDMusicnn
from moodfield.errors import AudioError, ModelError

GENRES = {"rock": "rock", "electronic": "electronic", "classical": "instrumental"}
"""genres of Emotify and the tag that is typical of each"""
EXCERPTS = 3
"""per genre"""


@pytest.fixture(scope="module")
def net(data: Path) -> MSDMusicnn:
    return msd_musicnn.load(data / "teachers" / "msd_musicnn.safetensors")


def published() -> dict[str, torch.Tensor]:
    """Random tensors with the published names and shapes."""
    generator = torch.Generator().manual_seed(0)
    kernels = {
        "conv2d": (7, 38, 1, 204), "conv2d_1": (7, 67, 1, 204), "conv2d_2": (128, 1, 1, 51), "conv2d_3": (64, 1, 1, 51),
        "conv2d_4": (32, 1, 1, 51), "conv2d_5": (7, 561, 1, 64), "conv2d_6": (7, 64, 1, 64), "conv2d_7": (7, 64, 1, 64),
        "dense": (1506, 200), "dense_1": (200, 50),
    }  # fmt: skip
    tensors = {f"{name}/kernel": torch.randn(*shape, generator=generator) / 30 for name, shape in kernels.items()}
    tensors |= {f"{name}/bias": torch.randn(shape[-1], generator=generator) for name, shape in kernels.items()}
    for number, size in enumerate((1, 204, 204, 51, 51, 51, 64, 64, 64, 1506, 200)):
        name = f"batch_normalization_{number}" if number else "batch_normalization"
        for kind in ("gamma", "beta", "moving_mean", "moving_variance"):
            tensors[f"{name}/{kind}"] = torch.rand(size, generator=generator) + 0.5
    return tensors


def saved(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """A safetensors file with these tensors."""
    save_file(tensors, folder / "net.safetensors")
    return folder / "net.safetensors"


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)) * 0.1


def test_outputs_are_those_of_the_published_graph(net: MSDMusicnn, data: Path) -> None:
    vector = np.load(data / "teachers" / "msd_musicnn_vector.npz")
    with torch.inference_mode():
        outputs = net.forward_patches(torch.tensor(vector["x"]))
    np.testing.assert_allclose(torch.sigmoid(outputs[:, :50]).numpy(), vector["y"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(outputs[:, 50:].numpy(), vector["d"], rtol=1e-5, atol=1e-5)


def test_a_window_has_the_mean_outputs_of_its_patches(tmp_path: Path) -> None:
    net = msd_musicnn.load(saved(tmp_path, published()))
    waveform = noise(1, 60_000)
    mel = librosa.feature.melspectrogram(
        y=waveform[0].numpy(), sr=16_000, n_fft=512, hop_length=256, n_mels=96, pad_mode="reflect"
    )
    levels = torch.from_numpy(np.log10(10_000 * mel + 1).T.copy())
    patches = torch.stack([levels[:PATCH], levels[-PATCH:]])
    with torch.inference_mode():
        outputs = net(waveform)
        torch.testing.assert_close(
            outputs, net.forward_patches(patches).mean(dim=0, keepdim=True), rtol=1e-3, atol=1e-4
        )
    assert outputs.shape == (1, len(VOCABULARY) + EMBEDDING)
    assert outputs.dtype == torch.float32


def test_a_window_shorter_than_a_patch_is_an_error() -> None:
    net = MSDMusicnn().eval()
    shortest = (PATCH - 1) * front_end.HOP_LENGTH
    with torch.inference_mode():
        assert net(noise(2, shortest)).shape == (2, 250)
        with pytest.raises(AudioError, match=str(shortest)) as caught:
            net(noise(2, shortest - 1))
    assert caught.value.reason == "too-short"


def test_tensors_that_are_missing_unknown_or_of_another_shape_are_errors(tmp_path: Path) -> None:
    tensors = published()
    without = {name: tensor for name, tensor in tensors.items() if name != "batch_normalization_9/gamma"}
    with pytest.raises(ModelError, match="normalization_9/gamma"):
        msd_musicnn.load(saved(tmp_path, without))
    with pytest.raises(ModelError, match="conv2d_1/kernel"):
        msd_musicnn.load(saved(tmp_path, tensors | {"conv2d_1/kernel": torch.zeros(7, 38, 1, 204)}))
    with pytest.raises(ModelError, match="extra"):
        msd_musicnn.load(saved(tmp_path, tensors | {"extra": torch.zeros(1)}))


def test_a_file_that_is_no_safetensors_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("weights")
    with pytest.raises(ModelError, match="text"):
        msd_musicnn.load(tmp_path / "text")
    with pytest.raises(ModelError, match="missing"):
        msd_musicnn.load(tmp_path / "missing")


def test_the_vocabulary_has_fifty_tags() -> None:
    assert len(set(VOCABULARY)) == 50


def test_tags_are_those_of_real_music(net: MSDMusicnn, data: Path) -> None:
    with (data / "emotify" / "emotify-annotators.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    chosen = [row for genre in GENRES for row in [row for row in rows if row["genre"] == genre][:EXCERPTS]]
    paths = [data / "emotify" / "audio" / f"{int(row['track']):03d}.ogg" for row in chosen]
    samples = [audio.read(path, sample_rate=front_end.SAMPLE_RATE).samples for path in paths]
    with torch.inference_mode():
        logits = net(torch.tensor(np.stack([each[160_000:208_000] for each in samples])))[:, :50].numpy()
    genres = np.array([row["genre"] for row in chosen])

    def lowest_area(order: tuple[str, ...]) -> float:
        return min(roc_auc_score(genres == genre, logits[:, order.index(tag)]) for genre, tag in GENRES.items())

    assert lowest_area(VOCABULARY) > 0.8
    for order in (tuple(sorted(VOCABULARY)), VOCABULARY[::-1], VOCABULARY[1:] + VOCABULARY[:1]):
        assert lowest_area(order) < 0.7
