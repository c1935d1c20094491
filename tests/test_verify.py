"""Verification: a model that was changed, or is run wrongly, fails."""

import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest

import models
from moodfield import card, files, tagger, verify
from moodfield.card import Card
from moodfield.errors import ModelError, UnknownNameError


def test_the_reference_signal_is_deterministic_and_varied():
    signal = verify.reference_signal()
    assert signal.sample_rate == verify.SAMPLE_RATE
    assert len(signal.samples) == verify.SAMPLE_RATE * verify.SECONDS
    assert 0.2 < np.abs(signal.samples).max() < 1
    again = verify.reference_signal()
    assert np.array_equal(signal.samples, again.samples)
    seconds = signal.samples.reshape(verify.SECONDS, -1)
    assert seconds.std(axis=1).min() > 0.01  # never silent
    assert np.corrcoef(seconds)[0, 1:].max() < 0.999  # and never the same second twice


def test_the_noise_of_the_reference_signal_is_flat():
    """No frequency of the congruential sequence stands out."""
    numbers = np.arange(verify.SAMPLE_RATE * verify.SECONDS)
    noise = (numbers * (numbers + 3) % 65_537 * 40_503 % 65_536) / 32_768 - 1
    assert abs(noise.mean()) < 0.01
    assert 0.55 < noise.std() < 0.6  # uniform in −1…1 has .577
    power = np.abs(np.fft.rfft(noise[: 2**16] - noise[: 2**16].mean())) ** 2
    assert power.max() < 40 * power.mean()


@pytest.mark.parametrize("name", ["cp_model", "crnn_model"])
def test_an_exported_model_passes(request, name):
    model = request.getfixturevalue(name)
    assert len(model.card.reference_logits) == len(models.VOCABULARY)
    result = verify.check(model.folder)
    assert result.passed
    assert result.max_difference < verify.TOLERANCE / 100  # the same machine
    assert result.card == model.card


def test_the_bundled_model_passes():
    assert verify.check("default").passed


def test_other_reference_logits_fail(cp_model, tmp_path):
    shifted = list(cp_model.card.reference_logits)
    shifted[2] += 2 * verify.TOLERANCE
    folder = models.varied(cp_model, tmp_path / "other", reference_logits=tuple(shifted))
    result = verify.check(folder)
    assert not result.passed
    assert result.max_difference == pytest.approx(2 * verify.TOLERANCE, rel=0.01)


def test_another_mel_config_fails(cp_model, tmp_path):
    """The commonest way to use a network wrongly."""
    wrong = replace(cp_model.card.mel, kind="plain")
    assert verify.check(models.varied(cp_model, tmp_path / "other", mel=wrong)).max_difference > 10 * verify.TOLERANCE


def test_another_network_fails_even_with_a_right_checksum(cp_model, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(cp_model.folder, folder)
    network = onnx.load(folder / card.NETWORK)
    weight = max(network.graph.initializer, key=lambda each: len(each.raw_data))
    values = np.frombuffer(weight.raw_data, np.float32) * np.float32(1.01)
    weight.raw_data = values.tobytes()
    (folder / card.NETWORK).write_bytes(network.SerializeToString())
    with pytest.raises(ModelError, match="is damaged"):
        verify.check(folder)
    replace(cp_model.card, sha256={card.NETWORK: files.sha256(folder / card.NETWORK)}).write(folder)
    assert not verify.check(folder).passed


def test_a_card_without_reference_logits_raises(cp_model, tmp_path):
    with pytest.raises(ModelError, match="no reference logits"):
        verify.check(models.varied(cp_model, tmp_path / "old", reference_logits=()))


def test_a_card_without_checksums_raises(cp_model, tmp_path):
    folder = models.varied(cp_model, tmp_path / "other")
    replace(Card.read(folder), sha256={}).write(folder)
    with pytest.raises(ModelError, match="no checksum"):
        verify.check(folder)


@pytest.mark.parametrize("logits", [(1.0,), (1.0, 2.0, 3.0, 4.0, float("nan"))])
def test_invalid_reference_logits_raise(cp_model, logits):
    with pytest.raises(ModelError, match="reference_logits"):
        replace(cp_model.card, reference_logits=logits)


def test_an_unknown_name_raises():
    with pytest.raises(UnknownNameError, match="default"):
        verify.check("defualt")


def test_thresholds_do_not_matter(cp_model, tmp_path):
    """The logits before any calibration are compared."""
    other = models.varied(cp_model, tmp_path / "other", thresholds=(0.9,) * len(models.VOCABULARY))
    assert verify.check(other).passed
    assert np.array_equal(
        verify.reference_logits(tagger.load(other).models[0]),
        verify.reference_logits(tagger.load(cp_model.folder).models[0]),
    )
