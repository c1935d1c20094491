"""ONNX Runtime says what torch says, and files that are no such network are refused."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import models
from models import MEL, VOCABULARY, Exported
from moodfield import card, nets
from moodfield.clips import FixedLength
from moodfield.engine import INPUT, OUTPUT, OnnxEngine, TorchEngine
from moodfield.errors import ModelError

BANDS, TAGS = MEL.n_mels, len(VOCABULARY)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def natural(model: Exported, batch: int, frames: int) -> np.ndarray:
    """Mels of the size that the network is used to."""
    mean, spread = (each.numpy()[:, None] for each in (model.net.standardize.mean, model.net.standardize.std))
    return (noise(batch, len(mean), frames, seed=frames) * spread + mean).astype(np.float32)


@pytest.fixture(params=["cp_model", "fa_model"])
def model(request: pytest.FixtureRequest) -> Exported:
    return request.getfixturevalue(request.param)


# ---------------------------------------------------------------- equal


def lengths(least: int = 17, longest: int = 16_000) -> list[int]:
    """50 lengths from the shortest that the network takes to some minutes, most of them short."""
    drawn = np.exp(np.random.default_rng(1).uniform(np.log(least), np.log(longest), 46)).astype(int)
    return [least, least + 1, least + 16, longest, *map(int, drawn)]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(nets.NETS))
def test_every_network_says_in_onnx_what_it_says_in_torch(name, tmp_path):
    model = models.exported(tmp_path, name)
    files = [tmp_path / file for file in model.card.network_files]
    onnx_engine, torch_engine = OnnxEngine(*files, threads=1), TorchEngine(model.net)
    taken = model.net.lengths
    said = []
    for frames in [taken.frames] * 3 if isinstance(taken, FixedLength) else lengths(taken.min_frames, 2_000):
        mels = natural(model, 2, frames)
        heard = onnx_engine.forward_features(mels)
        came = onnx_engine.forward_head(heard)
        wanted = torch_engine.forward_head(torch_engine.forward_features(mels))
        assert came.shape == wanted.shape
        assert came.dtype == wanted.dtype == np.float32
        assert np.abs(sigmoid(came.mean(axis=2)) - sigmoid(wanted.mean(axis=2))).max() <= 1e-5, frames
        assert np.abs(sigmoid(came) - sigmoid(wanted)).max() <= 3e-5, frames
        said.append(wanted.mean(axis=2))
    assert np.concatenate(said).std(axis=1).mean() > 0.1
    assert len(files) == (2 if name == "crnn" else 1)


@pytest.mark.parametrize("name", list(nets.NETS))
def test_bfloat16_is_near(name):
    """Within what eight bits of fraction leave after so many layers; weights may change later without being heard."""
    net = models.network(name)
    mels = natural(Exported(net, Path(), None), 2, net.lengths.frames if name == "vgg" else 400)
    exact, quick = TorchEngine(net), TorchEngine(net, precision="bfloat16")
    wanted, came = (engine.forward_head(engine.forward_features(mels)) for engine in (exact, quick))
    assert came.shape == wanted.shape
    assert came.dtype == np.float32
    assert wanted.std() > 0.05
    assert np.abs(came - wanted).max() > 1e-6
    assert np.abs(came - wanted).mean() < 0.2 * wanted.std(), "weights drawn at random magnify what is rounded"
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in quick._net.blocks.modules()) or name == (
        "cp_densenet"
    )


def test_onnx_and_torch_agree_at_any_length(model):
    onnx_engine, torch_engine = OnnxEngine(model.folder / card.NETWORK, threads=1), TorchEngine(model.net)
    for frames in lengths():
        mels = natural(model, 1, frames)
        came, wanted = onnx_engine.forward_features(mels), torch_engine.forward_features(mels)
        assert came.shape == wanted.shape
        assert came.dtype == wanted.dtype == np.float32
        assert np.abs(sigmoid(came.mean(axis=2)) - sigmoid(wanted.mean(axis=2))).max() <= 1e-5, frames
        assert np.abs(sigmoid(came) - sigmoid(wanted)).max() <= 3e-5, frames
        if frames > 100:
            assert wanted.std() > 0.1


def test_a_batch_says_what_its_clips_say_alone(model):
    mels = natural(model, 8, 300)
    for engine in (OnnxEngine(model.folder / card.NETWORK, threads=1), TorchEngine(model.net)):
        together = engine.forward_features(mels)
        assert together.shape[:2] == (8, TAGS)
        alone = np.concatenate([engine.forward_features(mels[n : n + 1]) for n in range(8)])
        np.testing.assert_allclose(sigmoid(together), sigmoid(alone), atol=1e-5)


def test_threads_change_next_to_nothing(model):
    mels = natural(model, 1, 2_048)
    one, two = (OnnxEngine(model.folder / card.NETWORK, threads=threads).forward_features(mels) for threads in (1, 2))
    np.testing.assert_allclose(sigmoid(one), sigmoid(two), atol=1e-4)


def test_mels_in_any_memory_order_are_the_same(model):
    mels = natural(model, 2, 100)
    other = np.asfortranarray(mels)
    assert not other.flags.c_contiguous
    for engine in (OnnxEngine(model.folder / card.NETWORK, threads=1), TorchEngine(model.net)):
        np.testing.assert_array_equal(engine.forward_features(other), engine.forward_features(mels))


# ---------------------------------------------------------------- torch


@pytest.mark.parametrize("training", [True, False])
def test_torch_answers_in_evaluation_mode_and_leaves_the_net_as_it_was(cp_model, training):
    mels = natural(cp_model, 2, 200)
    wanted = TorchEngine(cp_model.net).forward_features(mels)
    before = {name: value.clone() for name, value in cp_model.net.state_dict().items()}
    cp_model.net.train(training)
    try:
        np.testing.assert_array_equal(TorchEngine(cp_model.net).forward_features(mels), wanted)
        assert cp_model.net.training is training
        with pytest.raises(Exception, match=r".*"):  # whatever torch raises
            TorchEngine(cp_model.net).forward_features(noise(1, BANDS, 1))
        assert cp_model.net.training is training
    finally:
        cp_model.net.eval()
    assert all(torch.equal(before[name], value) for name, value in cp_model.net.state_dict().items())


# ---------------------------------------------------------------- refused


def network(
    path: Path, *, takes: str = INPUT, gives: str = OUTPUT, kind: int = TensorProto.FLOAT, axes: int = 3
) -> Path:
    """An ONNX file whose network gives back what it takes."""
    shape = [None] * axes
    graph = helper.make_graph(
        [helper.make_node("Identity", [takes], [gives])],
        "same",
        [helper.make_tensor_value_info(takes, kind, shape)],
        [helper.make_tensor_value_info(gives, kind, shape)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def test_a_network_from_elsewhere_with_our_names_is_run(tmp_path):
    mels = noise(2, 3, 4)
    np.testing.assert_array_equal(OnnxEngine(network(tmp_path / "same.onnx")).forward_features(mels), mels)


@pytest.mark.parametrize(
    "change", [{"takes": "input"}, {"gives": "scores"}, {"axes": 4}, {"kind": TensorProto.DOUBLE}], ids=str
)
def test_a_network_that_takes_or_gives_something_else_is_refused(tmp_path, change):
    with pytest.raises(ModelError, match=r"wanted are 'mels' and 'logits', both tensor\(float\) with 3 axes"):
        OnnxEngine(network(tmp_path / "other.onnx", **change))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.9999])
def test_a_truncated_network_is_refused(tmp_path, cp_model, share):
    whole = (cp_model.folder / card.NETWORK).read_bytes()
    (tmp_path / "part.onnx").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelError, match=r"part.onnx is not a network that ONNX Runtime can run"):
        OnnxEngine(tmp_path / "part.onnx")


@pytest.mark.parametrize("content", [b"no network " * 100, bytes(5_000), b"\xff" * 5_000], ids=["text", "zero", "ff"])
def test_something_else_is_refused(tmp_path, content):
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"x.onnx is not a network"):
        OnnxEngine(tmp_path / "x.onnx")


def test_a_folder_and_nothing_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.onnx"):
        with pytest.raises(ModelError, match="is not a network"):
            OnnxEngine(path)


def test_damaged_networks_never_crash(tmp_path, cp_model):
    """In a process of its own, since a crash would end the tests."""
    program = f"""
import random, sys
import numpy as np
from moodfield.engine import OnnxEngine
from moodfield.errors import ModelError
whole, mels = open(sys.argv[1], "rb").read(), np.zeros((1, {BANDS}, 100), np.float32)
refused = 0
for seed in range(150):
    drawn, damaged = random.Random(seed), bytearray(whole)
    for _ in range(drawn.choice([1, 4, 16])):
        damaged[drawn.randrange(3_000 if drawn.random() < 0.5 else len(whole))] = drawn.randrange(256)
    open(sys.argv[2], "wb").write(damaged)
    try:
        OnnxEngine(sys.argv[2], threads=1).forward_features(mels)
    except ModelError:
        refused += 1
print(refused)
"""
    asked = [sys.executable, "-c", program, cp_model.folder / card.NETWORK, tmp_path / "damaged.onnx"]
    answer = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr[-2_000:]
    assert int(answer.stdout) > 20


@pytest.mark.parametrize("shape", [(1, BANDS - 1, 100), (1, BANDS + 1, 100), (1, 1, 100), (1, BANDS, 0)], ids=str)
def test_clips_that_the_network_cannot_take_are_refused_without_noise(cp_model, shape, capfd):
    engine = OnnxEngine(cp_model.folder / card.NETWORK, threads=1)
    with pytest.raises(ModelError, match=r"model.onnx cannot take mels of shape \(1, "):
        engine.forward_features(np.zeros(shape, np.float32))
    assert capfd.readouterr() == ("", "")


def test_a_network_is_one_file(cp_model, tmp_path):
    alone = shutil.copy(cp_model.folder / card.NETWORK, tmp_path / "alone.onnx")
    mels = natural(cp_model, 1, 100)
    np.testing.assert_allclose(
        OnnxEngine(alone).forward_features(mels),
        OnnxEngine(cp_model.folder / card.NETWORK).forward_features(mels),
        atol=1e-5,
    )
