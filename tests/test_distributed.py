"""Distributed training: several processes give the loss curve, weights and scores of one."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import test_loop
from moodfield.nets import PlainResNetConfig
from moodfield.training import checkpoints, distributed, validation
from moodfield.training.batches import ClipDataset, TrackTargets

HERE = Path(__file__).parent
NORM_PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import test_distributed
test_distributed.save_synchronized(sys.argv[2])
"""
TRAIN_PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
import test_distributed
test_distributed.train(sys.argv[2])
"""
MAPS = (6, 5, 7, 3)
RECIPE = replace(test_loop.SHORT, net=PlainResNetConfig(depth=18, width=8))
"""a network whose initial weights are not zero: at zero, rounding errors decide the first steps of Adam"""


def torchrun(code: str, folder: Path, *, processes: int = 2) -> "subprocess.CompletedProcess[str]":
    """Run the code in several processes of one group."""
    script = folder / "script.py"
    script.write_text(code)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launch, str(script), str(HERE), str(folder)], capture_output=True, text=True, env=environment, check=False
    )


def make_norm() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A batch norm with weights of its own, a batch far from zero, and the target of its output."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm2d(MAPS[1]))
    nn.init.normal_(net[0].weight)
    nn.init.normal_(net[0].bias)
    return net, torch.randn(MAPS) * torch.arange(1, 6).view(1, -1, 1, 1) + 100, torch.randn(MAPS)


def run_norm(net: nn.Module, maps: torch.Tensor, expected: torch.Tensor) -> dict[str, torch.Tensor]:
    """Outputs, gradients and statistics after two steps, the second with a cumulative mean as in `update_bn`."""
    maps.requires_grad_()
    for momentum in (0.1, None):
        net[0].momentum = momentum
        output = net(maps)
        (output - expected).square().mean().backward()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    grads = {f"grad.{name}": value.grad for name, value in net.named_parameters()}
    return {"output": output.detach(), "maps": maps.grad} | state | grads


def validation_set() -> ClipDataset:
    """An odd number of tracks, which two processes cannot share evenly."""
    tracks = test_loop.VALIDATION_SET
    return ClipDataset(tracks.mels[1:], TrackTargets(tracks.targets.per_track()[1:]))


def save_synchronized(folder: str) -> None:
    """One of two processes: its part of the batch through shared norms."""
    group = distributed.launch("32-true")
    net, maps, expected = make_norm()
    distributed.sync_batch_norms(net)
    tensors = run_norm(net, group.shard(maps), group.shard(expected))
    save_file(tensors, Path(folder) / f"{group.rank}.safetensors")


def train(folder: str) -> None:
    """One of two processes that train together; each saves its scores."""
    group = distributed.launch("32-true")
    test_loop.train(RECIPE, Path(folder) / "run", validation_set=validation_set(), group=group)
    net = RECIPE.net.build(n_mels=test_loop.BANDS, n_tags=3)
    checkpoints.load_weights(net, Path(folder) / "run" / checkpoints.BEST)
    scores = validation.predict(RECIPE, net, validation_set(), test_loop.VOCABULARY, group=group)
    np.save(Path(folder) / f"{group.rank}.npy", scores)


@pytest.mark.slow
def test_synchronized_batch_norms_equal_those_of_the_whole_batch(tmp_path):
    process = torchrun(NORM_PROGRAM, tmp_path)
    assert process.returncode == 0, process.stderr
    parts = [load_file(tmp_path / f"{rank}.safetensors") for rank in range(2)]
    whole = run_norm(*make_norm())
    for name, expected in whole.items():
        stacked = torch.stack([part[name].float() for part in parts]) if name not in {"output", "maps"} else None
        if name == "output":
            combined = torch.cat([part[name] for part in parts])
        elif name == "maps":
            combined = torch.cat([part[name] for part in parts]) / 2  # each part's loss is a mean over half as much
        elif name.startswith("grad."):
            combined = stacked.mean(dim=0)
        else:
            assert stacked[0].equal(stacked[1])
            combined = stacked[0]
        torch.testing.assert_close(
            combined, expected.float(), rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_two_processes_train_as_one(tmp_path):
    test_loop.train(RECIPE, tmp_path / "alone", validation_set=validation_set())
    process = torchrun(TRAIN_PROGRAM, tmp_path)
    assert process.returncode == 0, process.stderr
    messages = [line for line in process.stderr.splitlines() if "OMP_NUM_THREADS" not in line and set(line) != {"*"}]
    assert (process.stdout, [line for line in messages if "W" in line[:1] or "rror" in line or "arning" in line]) == (
        "",
        [],
    )
    ours, theirs = test_loop.read_log(tmp_path / "run"), test_loop.read_log(tmp_path / "alone")
    assert [line["epoch"] for line in ours] == [1, 2, 3]
    for key in ("learning_rate", "loss", "score", "best", "averaged"):
        np.testing.assert_allclose([line[key] for line in ours], [line[key] for line in theirs], rtol=1e-5, err_msg=key)
    for path in checkpoints.snapshot_paths(RECIPE, tmp_path / "alone").values():
        expected, weights = load_file(path), load_file(tmp_path / "run" / path.name)
        for name, value in expected.items():
            torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-4)
    first, second = (np.load(tmp_path / f"{rank}.npy") for rank in range(2))
    np.testing.assert_array_equal(first, second)
    net = RECIPE.net.build(n_mels=test_loop.BANDS, n_tags=3)
    checkpoints.load_weights(net, tmp_path / "run" / checkpoints.BEST)
    np.testing.assert_array_equal(first, validation.predict(RECIPE, net, validation_set(), test_loop.VOCABULARY))
    assert not list((tmp_path / "run").glob("*.part"))


@pytest.mark.slow
def test_an_indivisible_batch_raises_in_every_process(tmp_path):
    code = TRAIN_PROGRAM.replace(
        "import test_distributed", "import test_loop; test_loop.TRAIN_SET = test_loop.make_dataset(5, seed=1)"
    )
    code = code.replace(
        "test_distributed.train(sys.argv[2])",
        "test_loop.train(test_loop.SHORT, test_loop.Path(sys.argv[2]) / 'run', train_set=test_loop.TRAIN_SET)",
    )
    process = torchrun(code, tmp_path)
    assert process.returncode
    assert "multiple of 2" in process.stderr
    assert not (tmp_path / "run").exists()
