"""Several processes: the same loss curve, the same networks and scores as one; every track judged once; a quiet end."""

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
NORMS = """
import sys
sys.path.insert(0, sys.argv[1])
import test_distributed
test_distributed.norms(sys.argv[2])
"""
TRAIN = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
import test_distributed
test_distributed.train(sys.argv[2])
"""
MAPS = (6, 5, 7, 3)
RECIPE = replace(test_loop.SHORT, net=PlainResNetConfig(depth=18, width=8))
"""a network that does not begin with zeros: where they are, Adam's first steps follow the rounding of the last bit"""


def torchrun(code: str, folder: Path, *, processes: int = 2) -> "subprocess.CompletedProcess[str]":
    """The code in so many processes that know of each other."""
    script = folder / "script.py"
    script.write_text(code)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    quiet = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launch, str(script), str(HERE), str(folder)], capture_output=True, text=True, env=quiet, check=False
    )


def norm() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A batch norm with weights of its own, a batch far from zero, and what its output is asked to be."""
    torch.manual_seed(0)
    found = nn.Sequential(nn.BatchNorm2d(MAPS[1]))
    nn.init.normal_(found[0].weight)
    nn.init.normal_(found[0].bias)
    return found, torch.randn(MAPS) * torch.arange(1, 6).view(1, -1, 1, 1) + 100, torch.randn(MAPS)


def normed(net: nn.Module, maps: torch.Tensor, wanted: torch.Tensor) -> dict[str, torch.Tensor]:
    """Outputs, gradients and statistics after two steps, the second in the manner of `update_bn`."""
    maps.requires_grad_()
    for momentum in (0.1, None):
        net[0].momentum = momentum
        found = net(maps)
        (found - wanted).square().mean().backward()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    grads = {f"grad.{name}": value.grad for name, value in net.named_parameters()}
    return {"found": found.detach(), "maps": maps.grad} | state | grads


def judge() -> ClipDataset:
    """An odd number of tracks, which two processes cannot share evenly."""
    return ClipDataset(test_loop.JUDGE.mels[:7], TrackTargets(test_loop.JUDGE.targets.per_track()[:7]))


def norms(folder: str) -> None:
    """One of two processes: its part of the batch through shared norms."""
    group = distributed.launch("32-true")
    net, maps, wanted = norm()
    distributed.sync_batch_norms(net)
    found = normed(net, group.shard(maps), group.shard(wanted))
    save_file(found, Path(folder) / f"{group.rank}.safetensors")


def train(folder: str) -> None:
    """One of two processes that train together; each leaves what it was told."""
    group = distributed.launch("32-true")
    test_loop.train(RECIPE, Path(folder) / "run", judge=judge(), group=group)
    net = RECIPE.net.build(n_mels=test_loop.BANDS, n_tags=3)
    checkpoints.load_weights(net, Path(folder) / "run" / checkpoints.BEST)
    scores = validation.predict(RECIPE, net, judge(), test_loop.VOCABULARY, group=group)
    np.save(Path(folder) / f"{group.rank}.npy", scores)


@pytest.mark.slow
def test_norms_of_parts_are_norms_of_the_whole(tmp_path):
    done = torchrun(NORMS, tmp_path)
    assert done.returncode == 0, done.stderr
    parts = [load_file(tmp_path / f"{rank}.safetensors") for rank in range(2)]
    whole = normed(*norm())
    for name, wanted in whole.items():
        both = torch.stack([part[name].float() for part in parts]) if name not in {"found", "maps"} else None
        if name == "found":
            came = torch.cat([part[name] for part in parts])
        elif name == "maps":
            came = torch.cat([part[name] for part in parts]) / 2  # each part's loss is a mean over half as much
        elif name.startswith("grad."):
            came = both.mean(dim=0)
        else:
            assert both[0].equal(both[1])
            came = both[0]
        torch.testing.assert_close(
            came, wanted.float(), rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_two_processes_train_as_one(tmp_path):
    test_loop.train(RECIPE, tmp_path / "alone", judge=judge())
    done = torchrun(TRAIN, tmp_path)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "OMP_NUM_THREADS" not in line and set(line) != {"*"}]
    assert (done.stdout, [line for line in said if "W" in line[:1] or "rror" in line or "arning" in line]) == ("", [])
    ours, theirs = test_loop.log(tmp_path / "run"), test_loop.log(tmp_path / "alone")
    assert [line["epoch"] for line in ours] == [1, 2, 3]
    for key in ("learning_rate", "loss", "score", "best", "averaged"):
        np.testing.assert_allclose([line[key] for line in ours], [line[key] for line in theirs], rtol=1e-5, err_msg=key)
    for path in checkpoints.snapshot_paths(RECIPE, tmp_path / "alone").values():
        one, two = load_file(path), load_file(tmp_path / "run" / path.name)
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)
    first, second = (np.load(tmp_path / f"{rank}.npy") for rank in range(2))
    np.testing.assert_array_equal(first, second)
    net = RECIPE.net.build(n_mels=test_loop.BANDS, n_tags=3)
    checkpoints.load_weights(net, tmp_path / "run" / checkpoints.BEST)
    np.testing.assert_array_equal(first, validation.predict(RECIPE, net, judge(), test_loop.VOCABULARY))
    assert not list((tmp_path / "run").glob("*.part"))


@pytest.mark.slow
def test_what_cannot_be_shared_is_refused_in_every_process(tmp_path):
    code = TRAIN.replace("import test_distributed", "import test_loop; test_loop.LEARN = test_loop.material(5, seed=1)")
    code = code.replace(
        "test_distributed.train(sys.argv[2])",
        "test_loop.train(test_loop.SHORT, test_loop.Path(sys.argv[2]) / 'run', learn=test_loop.LEARN)",
    )
    done = torchrun(code, tmp_path)
    assert done.returncode
    assert "multiple of 2" in done.stderr
    assert not (tmp_path / "run").exists()
