"""Won's networks: weights, lengths, chunks, and the order of their tags on real music."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from moodfield import audio
from moodfield.distillation.teachers import front_end, jamendo
from moodfield.distillation.teachers.jamendo import VOCABULARY
from moodfield.errors import AudioError, ModelError, UnknownNameError

KINDS = tuple(jamendo.NETWORKS)
GENRES = ("classical", "electronic", "rock")
EXCERPTS = 3
"""per genre"""
SECONDS = {"fcn": 20.5, "crnn": 10, "musicnn": 3}
"""of every excerpt; the FCN takes no fewer"""


def state_dict(kind: str) -> dict[str, torch.Tensor]:
    """Random weights under their published names."""
    torch.manual_seed(0)
    net = jamendo.NETWORKS[kind]()
    net.mel.filterbank.uniform_()
    return {jamendo.PUBLISHED.get(name, name): tensor for name, tensor in net.state_dict().items()}


def saved(folder: Path, tensors: object) -> Path:
    """A checkpoint with these tensors."""
    torch.save(tensors, folder / "net.pth")
    return folder / "net.pth"


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)) * 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_windows_do_not_depend_on_their_batch(kind: str, tmp_path: Path) -> None:
    net = jamendo.load(saved(tmp_path, state_dict(kind)), kind)
    waveforms = noise(2, net.MIN_SAMPLES)
    with torch.inference_mode():
        logits = net(waveforms)
        alone = net(waveforms[1:])
    assert logits.shape == (2, 50)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits[1:], alone, rtol=1e-4, atol=1e-5)
    assert (logits[0] - logits[1]).abs().max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_that_is_too_short_is_an_error(kind: str) -> None:
    net = jamendo.NETWORKS[kind]().eval()
    with pytest.raises(AudioError, match=str(net.MIN_SAMPLES)) as caught:
        net(noise(1, net.MIN_SAMPLES - 1))
    assert caught.value.reason == "too-short"


def test_musicnn_averages_chunks_that_cover_the_window() -> None:
    torch.manual_seed(0)
    net = jamendo.Musicnn().eval()
    net.mel.filterbank.uniform_()
    waveform = noise(1, 2 * jamendo.CHUNK - 100)
    with torch.inference_mode():
        halves = torch.stack([net(waveform[:, : jamendo.CHUNK]), net(waveform[:, -jamendo.CHUNK :])])
        torch.testing.assert_close(net(waveform), halves.mean(dim=0), rtol=1e-4, atol=1e-5)


def test_the_fcn_averages_the_steps_of_a_long_window(tmp_path: Path) -> None:
    net = jamendo.load(saved(tmp_path, state_dict("fcn")), "fcn")
    with torch.inference_mode():
        assert net(noise(1, 2 * net.MIN_SAMPLES + 5_000)).shape == (1, 50)


@pytest.mark.parametrize(("length", "size"), [(10, 10), (11, 10), (25, 10), (466_261, 48_000), (1822, 187)])
def test_chunks_cover_the_length_evenly(length: int, size: int) -> None:
    starts = front_end.chunk_starts(length, size)
    assert starts[0] == 0
    assert starts[-1] + size == length
    steps = np.diff(starts)
    assert len(starts) == -(-length // size)
    assert all(0 < step <= size for step in steps)
    assert np.ptp(steps) <= 1 if len(steps) else True


def test_the_mel_is_that_of_librosa() -> None:
    import librosa

    power = front_end.MelPower()
    bank = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=96, htk=True, norm=None)
    power.filterbank.copy_(torch.from_numpy(bank.T))
    waveform = noise(1, 20_000)
    expected = librosa.feature.melspectrogram(
        y=waveform[0].numpy(), sr=16_000, n_fft=512, hop_length=256, n_mels=96, htk=True, norm=None, pad_mode="reflect"
    )
    np.testing.assert_allclose(power(waveform)[0].numpy(), expected, rtol=1e-4, atol=1e-5)
    assert expected.shape[1] == front_end.n_frames(20_000)


def test_the_vocabulary_is_sorted() -> None:
    assert list(VOCABULARY) == sorted(set(VOCABULARY))
    assert len(VOCABULARY) == 50


def test_negligible_weights_are_zero(tmp_path: Path) -> None:
    tensors = state_dict("crnn")
    tensors["layer2.conv.weight"][0] = 1e-40
    net = jamendo.load(saved(tmp_path, tensors), "crnn")
    weight = net.state_dict()["layer2.conv.weight"]
    assert (weight[0] == 0).all()
    assert torch.equal(weight[1:], tensors["layer2.conv.weight"][1:])


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_that_are_missing_unknown_or_of_another_shape_are_errors(kind: str, tmp_path: Path) -> None:
    def load(changes: dict[str, torch.Tensor], without: str = "") -> None:
        tensors = {name: tensor for name, tensor in (state_dict(kind) | changes).items() if name != without}
        jamendo.load(saved(tmp_path, tensors), kind)

    load({})
    with pytest.raises(ModelError, match=r"mel_scale\.fb"):
        load({}, without="spec.mel_scale.fb")
    with pytest.raises(ModelError, match=r"\(128, 257\)"):
        load({"spec.mel_scale.fb": torch.zeros(128, 257)})
    with pytest.raises(ModelError, match="extra"):
        load({"extra": torch.zeros(1)})
    with pytest.raises(ModelError, match="finite"):
        load({"spec_bn.weight": torch.tensor([float("nan")])})


def test_a_file_that_is_no_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="musicnn"):
        jamendo.load(saved(tmp_path, state_dict("fcn")), "musicnn")
    with pytest.raises(ModelError, match="list"):
        jamendo.load(saved(tmp_path, [torch.zeros(1)]), "fcn")
    with pytest.raises(ModelError, match="No such file"):
        jamendo.load(tmp_path / "missing.pth", "fcn")
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(ModelError, match=r"text\.pth"):
        jamendo.load(tmp_path / "text.pth", "fcn")
    with pytest.raises(UnknownNameError, match="vgg"):
        jamendo.load(tmp_path / "net.pth", "vgg")


@pytest.fixture(scope="module")
def excerpts(data: Path) -> tuple[np.ndarray, torch.Tensor]:
    """The genres of some excerpts of Emotify, and their waveforms."""
    with (data / "emotify" / "emotify-annotators.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    chosen = [row for genre in GENRES for row in [row for row in rows if row["genre"] == genre][:EXCERPTS]]
    paths = [data / "emotify" / "audio" / f"{int(row['track']):03d}.ogg" for row in chosen]
    samples = [audio.read(path, sample_rate=front_end.SAMPLE_RATE).samples for path in paths]
    size = int(20.5 * front_end.SAMPLE_RATE)
    return np.array([row["genre"] for row in chosen]), torch.tensor(
        np.stack([each[160_000:][:size] for each in samples])
    )


def areas(genres: np.ndarray, logits: np.ndarray, order: tuple[str, ...]) -> np.ndarray:
    """The area under the ROC curve of every genre's tag, if the logits have this order."""
    return np.array([roc_auc_score(genres == genre, logits[:, order.index(f"genre---{genre}")]) for genre in GENRES])


@pytest.mark.parametrize("kind", KINDS)
def test_tags_of_genres_are_those_of_real_music(
    kind: str, data: Path, excerpts: tuple[np.ndarray, torch.Tensor]
) -> None:
    net = jamendo.load(data / "teachers" / f"jamendo_{kind}.pth", kind)
    genres, waveforms = excerpts
    with torch.inference_mode():
        logits = net(waveforms[:, : int(SECONDS[kind] * front_end.SAMPLE_RATE)]).numpy()
    assert areas(genres, logits, VOCABULARY).min() > 0.8
    by_short_name = tuple(sorted(VOCABULARY, key=lambda tag: tag.partition("---")[2]))
    for order in (by_short_name, VOCABULARY[::-1], VOCABULARY[1:] + VOCABULARY[:1]):
        assert areas(genres, logits, order).min() < 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_published_weights_in_the_wrong_kind_are_errors(kind: str, data: Path) -> None:
    for other in set(KINDS) - {kind}:
        with pytest.raises(ModelError, match="is missing"):
            jamendo.load(data / "teachers" / f"jamendo_{kind}.pth", other)
