"""Verification: a model that was changed, or is run wrongly, no longer says what its card remembers."""

import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest

import models
from moodfield import card, files, tagger, verify
from moodfield.errors import ModelError, UnknownNameError


def test_the_piece_is_music_and_always_the_same():
    piece = verify.reference_signal()
    assert piece.sample_rate == verify.RATE
    assert len(piece.samples) == verify.RATE * verify.SECONDS
    assert 0.2 < np.abs(piece.samples).max() < 1
    again = verify.reference_signal()
    assert np.array_equal(piece.samples, again.samples)
    seconds = piece.samples.reshape(verify.SECONDS, -1)
    assert seconds.std(axis=1).min() > 0.01  # never silent
    assert np.corrcoef(seconds)[0, 1:].max() < 0.999  # and never the same second twice


def test_its_noise_is_flat():
    """The congruential sequence has no pitch of its own: no frequency above the chords and the beat stands out."""
    numbers = np.arange(verify.RATE * verify.SECONDS)
    noise = (numbers * (numbers + 3) % 65_537 * 40_503 % 65_536) / 32_768 - 1
    assert abs(noise.mean()) < 0.01
    assert 0.55 < noise.std() < 0.6  # uniform in −1…1 has .577
    power = np.abs(np.fft.rfft(noise[: 2**16] - noise[: 2**16].mean())) ** 2
    assert power.max() < 40 * power.mean()


@pytest.mark.parametrize("name", ["cp_model", "crnn_model"])
def test_an_exported_model_says_what_it_said(request, name):
    model = request.getfixturevalue(name)
    assert len(model.card.reference_logits) == len(models.VOCABULARY)
    found = verify.check(model.folder)
    assert found.passed
    assert found.max_difference < verify.NEAR / 100  # the same machine
    assert found.card == model.card


def test_the_bundled_model_is_what_it_was():
    assert verify.check("default").passed


def test_a_card_that_remembers_another_answer_does_not_hold(cp_model, tmp_path):
    shifted = list(cp_model.card.reference_logits)
    shifted[2] += 2 * verify.NEAR
    folder = models.varied(cp_model, tmp_path / "other", reference_logits=tuple(shifted))
    found = verify.check(folder)
    assert not found.passed
    assert found.max_difference == pytest.approx(2 * verify.NEAR, rel=0.01)


def test_another_mel_is_noticed(cp_model, tmp_path):
    """A wrong frontend is the commonest way to use a network wrongly."""
    wrong = replace(cp_model.card.mel, kind="plain")
    assert verify.check(models.varied(cp_model, tmp_path / "other", mel=wrong)).max_difference > 10 * verify.NEAR


def test_another_network_is_noticed_even_under_its_own_checksum(cp_model, tmp_path):
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


def test_a_model_without_a_memory_is_refused(cp_model, tmp_path):
    with pytest.raises(ModelError, match="remember"):
        verify.check(models.varied(cp_model, tmp_path / "old", reference_logits=()))


def test_a_card_that_vouches_for_no_network_is_refused(cp_model, tmp_path):
    folder = models.varied(cp_model, tmp_path / "other")
    replace(card.Card.read(folder), sha256={}).write(folder)
    with pytest.raises(ModelError, match=r"no checksum of model\.onnx; export the model again"):
        verify.check(folder)


@pytest.mark.parametrize("remembered", [(1.0,), (1.0, 2.0, 3.0, 4.0, float("nan"))])
def test_a_memory_that_cannot_be_is_refused(cp_model, remembered):
    with pytest.raises(ModelError, match="reference_logits"):
        replace(cp_model.card, reference_logits=remembered)


def test_a_stranger_is_refused():
    with pytest.raises(UnknownNameError, match="default"):
        verify.check("defualt")


def test_calibration_and_thresholds_do_not_matter(cp_model, tmp_path):
    """The network is asked, not what is made of its logits."""
    other = models.varied(cp_model, tmp_path / "other", thresholds=(0.9,) * len(models.VOCABULARY))
    assert verify.check(other).passed
    assert np.array_equal(
        verify.reference_logits(tagger.load(other).members[0]),
        verify.reference_logits(tagger.load(cp_model.folder).members[0]),
    )
