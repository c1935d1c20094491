"""Engines: ONNX Runtime and torch give the same logits; other files raise."""

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
from moodfield.card import EMBEDDING, LOGITS
from moodfield.clips import FixedLength
from moodfield.engine import INPUT, OnnxEngine, TorchEngine
from moodfield.errors import ModelError

BANDS, TAGS = MEL.n_mels, len(VOCABULARY)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def mels_for(model: Exported, batch: int, frames: int) -> np.ndarray:
    """Mels with the mean and std that the network expects."""
    mean, std = (statistic.numpy()[:, None] for statistic in (model.net.standardize.mean, model.net.standardize.std))
    return (noise(batch, len(mean), frames, seed=frames) * std + mean).astype(np.float32)


@pytest.fixture(params=["cp_model", "fa_model"])
def model(request: pytest.FixtureRequest) -> Exported:
    return request.getfixturevalue(request.param)


# Equality


def lengths(shortest: int, longest: int = 2_000, count: int = 12) -> list[int]:
    """Lengths from the shortest that the network takes, most of them short."""
    random = np.exp(np.random.default_rng(1).uniform(np.log(shortest), np.log(longest), count)).astype(int)
    return [shortest, shortest + 1, shortest + 16, longest, *map(int, random)]


def check_equal(model: Exported, frames: list[int]) -> None:
    """ONNX and torch give the same logits for clips of these lengths."""
    files = [model.folder / file for file in model.card.network_files]
    onnx_engine, torch_engine = OnnxEngine(*files, threads=1), TorchEngine(model.net)
    means = []
    for length in frames:
        mels = mels_for(model, 2, length)
        logits, embedding, _ = onnx_engine.forward_head(onnx_engine.forward_features(mels))
        expected, expected_embedding, _ = torch_engine.forward_head(torch_engine.forward_features(mels))
        assert (embedding is None) == (expected_embedding is None) == (EMBEDDING not in model.card.outputs)
        if embedding is not None:
            assert embedding.shape == (2, model.card.outputs[EMBEDDING], logits.shape[2])
            np.testing.assert_allclose(embedding, expected_embedding, rtol=1e-4, atol=1e-4)
        assert logits.shape == expected.shape
        assert logits.dtype == expected.dtype == np.float32
        assert np.abs(sigmoid(logits.mean(axis=2)) - sigmoid(expected.mean(axis=2))).max() <= 1e-5, length
        assert np.abs(sigmoid(logits) - sigmoid(expected)).max() <= 3e-5, length
        means.append(expected.mean(axis=2))
    assert np.concatenate(means).std(axis=1).mean() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", list(nets.NETS))
def test_every_network_is_the_same_in_onnx_and_torch(name, tmp_path):
    model = models.exported(tmp_path, name)
    taken = model.net.lengths
    check_equal(model, [taken.frames] * 3 if isinstance(taken, FixedLength) else lengths(taken.min_frames, count=46))


@pytest.mark.parametrize("fixture", ["fa_model", "crnn_model"])
def test_onnx_and_torch_are_equal_at_any_length(fixture, request):
    model = request.getfixturevalue(fixture)
    assert len(model.card.network_files) == (2 if fixture == "crnn_model" else 1)
    check_equal(model, lengths(model.net.lengths.min_frames))


FAST = ("fa_resnet", "crnn")


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in nets.NETS]
)
def test_bfloat16_is_close(name):
    """Within the rounding of eight bits in so many layers; later changes of the weights have no effect."""
    net = models.network(name)
    mels = mels_for(Exported(net, Path(), None), 2, net.lengths.frames if name == "vgg" else 400)
    exact, fast = TorchEngine(net), TorchEngine(net, precision="bfloat16")
    expected, logits = (engine.forward_head(engine.forward_features(mels)).logits for engine in (exact, fast))
    assert logits.shape == expected.shape
    assert logits.dtype == np.float32
    assert expected.std() > 0.05
    assert np.abs(logits - expected).max() > 1e-6
    assert np.abs(logits - expected).mean() < 0.2 * expected.std()  # random weights magnify rounding
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fast._net.blocks.modules()) or name == (
        "cp_densenet"
    )


def test_clips_of_a_batch_are_independent(model):
    mels = mels_for(model, 8, 300)
    for engine in (OnnxEngine(model.folder / card.NETWORK, threads=1), TorchEngine(model.net)):
        batch = engine.forward_head(engine.forward_features(mels)).logits
        assert batch.shape[:2] == (8, TAGS)
        clips = [engine.forward_features(mels[n : n + 1]) for n in range(8)]
        single = np.concatenate([engine.forward_head(features).logits for features in clips])
        np.testing.assert_allclose(sigmoid(batch), sigmoid(single), atol=1e-5)


def test_the_number_of_threads_changes_almost_nothing(model):
    mels = mels_for(model, 1, 2_048)
    one, two = (OnnxEngine(model.folder / card.NETWORK, threads=threads).forward_features(mels) for threads in (1, 2))
    np.testing.assert_allclose(sigmoid(one), sigmoid(two), atol=1e-4)


def test_memory_order_of_mels_does_not_matter(model):
    mels = mels_for(model, 2, 100)
    other = np.asfortranarray(mels)
    assert not other.flags.c_contiguous
    for engine in (OnnxEngine(model.folder / card.NETWORK, threads=1), TorchEngine(model.net)):
        np.testing.assert_array_equal(engine.forward_features(other), engine.forward_features(mels))


# Torch


@pytest.mark.parametrize("training", [True, False])
def test_torch_uses_evaluation_mode_and_does_not_change_the_net(cp_model, training):
    mels = mels_for(cp_model, 2, 200)
    expected = TorchEngine(cp_model.net).forward_features(mels)
    before = {name: value.clone() for name, value in cp_model.net.state_dict().items()}
    cp_model.net.train(training)
    try:
        np.testing.assert_array_equal(TorchEngine(cp_model.net).forward_features(mels), expected)
        assert cp_model.net.training is training
        with pytest.raises(Exception, match=r".*"):  # whatever torch raises
            TorchEngine(cp_model.net).forward_features(noise(1, BANDS, 1))
        assert cp_model.net.training is training
    finally:
        cp_model.net.eval()
    assert all(torch.equal(before[name], value) for name, value in cp_model.net.state_dict().items())


# Errors


def network(
    path: Path, *, input_name: str = INPUT, output_name: str = LOGITS, kind: int = TensorProto.FLOAT, axes: int = 3
) -> Path:
    """An ONNX file of the identity."""
    shape = [None] * axes
    graph = helper.make_graph(
        [helper.make_node("Identity", [input_name], [output_name])],
        "same",
        [helper.make_tensor_value_info(input_name, kind, shape)],
        [helper.make_tensor_value_info(output_name, kind, shape)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def test_an_onnx_file_with_the_expected_names_runs(tmp_path):
    mels = noise(2, 3, 4)
    np.testing.assert_array_equal(OnnxEngine(network(tmp_path / "same.onnx")).forward_features(mels), mels)


@pytest.mark.parametrize(
    "change", [{"input_name": "input"}, {"output_name": "scores"}, {"axes": 4}, {"kind": TensorProto.DOUBLE}], ids=str
)
def test_other_inputs_or_outputs_raise(tmp_path, change):
    with pytest.raises(ModelError, match="expected"):
        OnnxEngine(network(tmp_path / "other.onnx", **change))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.9999])
def test_a_truncated_file_raises(tmp_path, cp_model, share):
    whole = (cp_model.folder / card.NETWORK).read_bytes()
    (tmp_path / "part.onnx").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelError, match=r"part\.onnx"):
        OnnxEngine(tmp_path / "part.onnx")


@pytest.mark.parametrize("content", [b"text " * 100, bytes(5_000), b"\xff" * 5_000], ids=["text", "zero", "ff"])
def test_another_file_raises(tmp_path, content):
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"x\.onnx"):
        OnnxEngine(tmp_path / "x.onnx")


def test_a_folder_or_missing_file_raises(tmp_path):
    for path in (tmp_path, tmp_path / "none.onnx"):
        with pytest.raises(ModelError, match="is not a network"):
            OnnxEngine(path)


def test_damaged_files_never_crash(tmp_path, cp_model):
    """In a process of its own, since a crash would end the tests."""
    program = f"""
import random, sys
import numpy as np
from moodfield.engine import OnnxEngine
from moodfield.errors import ModelError
whole, mels = open(sys.argv[1], "rb").read(), np.zeros((1, {BANDS}, 100), np.float32)
failed = 0
for seed in range(60):
    drawn, damaged = random.Random(seed), bytearray(whole)
    for _ in range(drawn.choice([1, 4, 16])):
        damaged[drawn.randrange(3_000 if drawn.random() < 0.5 else len(whole))] = drawn.randrange(256)
    open(sys.argv[2], "wb").write(damaged)
    try:
        OnnxEngine(sys.argv[2], threads=1).forward_features(mels)
    except ModelError:
        failed += 1
print(failed)
"""
    command = [sys.executable, "-c", program, cp_model.folder / card.NETWORK, tmp_path / "damaged.onnx"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    assert int(done.stdout) > 8


@pytest.mark.parametrize("shape", [(1, BANDS - 1, 100), (1, BANDS + 1, 100), (1, 1, 100), (1, BANDS, 0)], ids=str)
def test_other_shapes_raise_without_output(cp_model, shape, capfd):
    engine = OnnxEngine(cp_model.folder / card.NETWORK, threads=1)
    with pytest.raises(ModelError, match=r"model\.onnx cannot take"):
        engine.forward_features(np.zeros(shape, np.float32))
    assert capfd.readouterr() == ("", "")


LITTLE_MEMORY = """
import sys
import numpy as np
from moodfield import parallel, tagger
from moodfield.engine import OnnxEngine
def allocated():
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1])
path = tagger.model_folder("default") / "model.onnx"
network = OnnxEngine(path, threads=1)
network.forward_features(np.zeros((1, 128, 300), np.float32))
mels = np.zeros((1, 128, 30_000), np.float32)
for extra, call in (8, lambda: network.forward_features(mels)), (1, lambda: OnnxEngine(path, threads=1)):
    parallel._limit_memory(allocated() + extra * 2**20)
    try:
        print(call())
    except Exception as error:
        print(type(error).__name__, error)
print(network.forward_features(np.zeros((1, 128, 300), np.float32)).shape[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is one of Linux")
def test_a_lack_of_memory_is_no_fault_of_the_model():
    command = [sys.executable, "-c", LITTLE_MEMORY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    *errors, count = done.stdout.splitlines()
    assert [error.split()[0] for error in errors] == ["MemoryError"] * 2
    assert count == "1"


def test_an_onnx_file_can_be_moved(cp_model, tmp_path):
    moved = shutil.copy(cp_model.folder / card.NETWORK, tmp_path / "moved.onnx")
    mels = mels_for(cp_model, 1, 100)
    np.testing.assert_allclose(
        OnnxEngine(moved).forward_features(mels),
        OnnxEngine(cp_model.folder / card.NETWORK).forward_features(mels),
        atol=1e-5,
    )


THREADS = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
from moodfield import engine, tagger
before = len(os.listdir("/proc/self/task"))
network = engine.OnnxEngine(tagger.model_folder("default") / "model.onnx")
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_process_that_may_use_one_core_gets_no_further_threads() -> None:
    done = subprocess.run([sys.executable, "-c", THREADS], check=True, capture_output=True, text=True)
    assert int(done.stdout) == 0
