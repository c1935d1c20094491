"""Networks against a straightforward implementation: training step, inference, memory.

    python benchmarks/nets.py                          a table for this CPU
    python benchmarks/nets.py --grid [--device cuda]   step time by precision, batch and compilation

FA-ResNet, ρ 5, width 128, clips of 10 s (256 bands × 862 frames). Straightforward means NCHW in float32, the position
channel concatenated, nothing in place, nothing fused. Timings that are compared are interleaved, in one process.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moodfield import card, nets
from moodfield.engine import OnnxEngine, TorchEngine
from moodfield.mel import MelConfig
from moodfield.nets import Net, summary
from moodfield.nets.blocks import ResidualBlock, ShakeShake, convolution
from moodfield.training import export, loop
from moodfield.training.recipe import Recipe

BANDS, FRAMES, TAGS = 256, 862, 56
BATCH, REPEATS = 4, 7
PAUSE = 0.1
"""seconds before every step: threads of the step before may still be running"""
SYSTEMS = (
    ("FA-ResNet", "straightforward", "32-true"),
    ("CP-ResNet", "straightforward", "32-true"),
    ("FA-ResNet", "moodfield", "32-true"),
    ("FA-ResNet", "moodfield", "bf16-mixed"),
    ("CP-ResNet", "moodfield", "bf16-mixed"),
    ("FA-ResNet, recomputing", "moodfield", "bf16-mixed"),
    ("Shake-FA-ResNet", "moodfield", "bf16-mixed"),
    ("Shake-FA-ResNet", "branch after branch", "bf16-mixed"),
)
NAMES = {"FA-ResNet": "fa_resnet", "CP-ResNet": "cp_resnet", "Shake-FA-ResNet": "shake_fa_resnet"}
Step = Callable[[], object]


class Straightforward(nn.Module):
    """A CP- or FA-ResNet with the weights of ours, written without optimisation."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, mels: Tensor) -> Tensor:
        """Logits of clips."""
        maps = F.relu(self.net.stem[1](self.net.stem[0](self.net.standardize(mels))))
        for block in self.net.blocks:
            maps = self._block(block, maps) if isinstance(block, ResidualBlock) else block(maps)
        return self.net.head(maps).mean(dim=(2, 3))

    def _block(self, block: ResidualBlock, maps: Tensor) -> Tensor:
        inner = F.relu(block.bn1(self._convolve(block.conv1, maps)))
        return F.relu(block.bn2(self._convolve(block.conv2, inner)) + block.shortcut(maps))

    def _convolve(self, conv: nn.Conv2d, maps: Tensor) -> Tensor:
        batch, channels, freq, frames = maps.shape
        if conv.in_channels > channels:
            rows = (2 * torch.arange(freq) / freq - 1).view(1, 1, freq, 1).expand(batch, 1, freq, frames)
            maps = torch.cat([maps, rows], dim=1)
        return F.conv2d(maps, conv.weight, padding=conv.kernel_size[0] // 3)


class BranchAfterBranch(nn.Module):
    """A shake-shake block whose branches are computed one after the other."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        stack, inputs = block.conv1.out_channels // 2, block.conv1.in_channels - 1
        self.shortcut = block.shortcut
        self.branches = nn.ModuleList(
            nn.Sequential(
                convolution(inputs, stack, block.conv1.kernel_size, frequency_aware=True),
                nn.BatchNorm2d(stack),
                nn.ReLU(inplace=True),
                convolution(stack, stack, block.conv2.kernel_size, frequency_aware=True),
                nn.BatchNorm2d(stack),
            )
            for _ in range(2)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Feature map of the next block."""
        mixed = ShakeShake.apply(*(branch(maps) for branch in self.branches))
        mixed += self.shortcut(maps)
        return F.relu(mixed, inplace=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--batches", type=int, nargs="*", default=[16, 32, 64, 128])
    parser.add_argument("--peak", nargs=2, metavar=("SYSTEM", "BATCH"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        print(_peak(int(given.peak[0]), int(given.peak[1])))
    elif given.grid:
        _grid(given.device, given.frames, given.batches)
    else:
        print("## The networks on this CPU\n")
        print(f"FA-ResNet, ρ 5, width 128; {torch.get_num_threads()} threads, {torch.__version__}.\n")
        _inference()
        _training()
        _memory()


def _training() -> None:
    """The training step, without and with freed memory kept by the C library."""
    times = []
    steps = {system: _step(*system, BATCH) for system in SYSTEMS}
    for keep in (False, True):
        if keep:
            loop.keep_freed_memory(Recipe())
        times.append(_in_turns(steps))
    slow = [each[SYSTEMS[0]] for each in times]
    print(
        "| training step | implementation | ms per clip | with freed memory kept | speed-up over the "
        "first row | both with memory kept |"
    )
    print("|---|---|---|---|---|---|")
    for system in SYSTEMS:
        name, how, precision = system
        usual, kept = (each[system] for each in times)
        ratio = _ratio(slow[0], usual if how == "straightforward" else kept)
        milliseconds = " | ".join(f"{np.median(each) / BATCH * 1e3:.0f}" for each in (usual, kept))
        print(f"| {name} | {how}, {precision} | {milliseconds} | {ratio:.1f} | {_ratio(slow[1], kept):.1f} |")
    print(
        "\nmoodfield's training keeps freed memory; the fifth column compares its step with the first row without it.\n"
    )
    steps.clear()
    for aware, unaware, batch in (
        (SYSTEMS[3], SYSTEMS[4], BATCH),
        (SYSTEMS[3], SYSTEMS[4], Recipe().batch.size),
        (SYSTEMS[0], SYSTEMS[1], BATCH),
    ):
        both = _in_turns({system: _step(*system, batch) for system in (aware, unaware)}, repeats=2 * REPEATS)
        ratio, how = _ratio(both[aware], both[unaware]), aware[1]
        print(f"FA step / CP step, {how}, {batch} clips: {ratio:.3f}, median of {2 * REPEATS} repeats.\n")
    macs = 3 * summary.summarize(nets.NETS["fa_resnet"], MelConfig(), n_tags=TAGS).gmac
    rate = 2 * macs / (np.median(times[1][SYSTEMS[3]]) / BATCH)
    peak = _matmul(torch.bfloat16)
    print(f"Work: {macs:.0f} GMAC per clip; {rate:.0f} GFLOP/s, {rate / peak:.0%} of the {peak:.0f} GFLOP/s of a")
    print("bfloat16 matrix product on this machine.\n")


def _inference() -> None:
    """Clips per second, one clip at a time."""
    net = _stirred("fa_resnet")
    mels = np.random.default_rng(0).standard_normal((1, BANDS, FRAMES), np.float32)
    plain = Straightforward(net).eval()

    def straightforward() -> None:
        with torch.inference_mode():
            plain(torch.from_numpy(mels))

    with tempfile.TemporaryDirectory() as folder:
        plan = Recipe(net=net.config)
        export.export(net, export.describe(plan, net, [f"tag {i}" for i in range(TAGS)], name="bench"), folder)
        onnx = OnnxEngine(Path(folder) / card.NETWORK)
    exact, quick = TorchEngine(net), TorchEngine(net, precision="bfloat16")
    steps: dict[str, Step] = {
        "straightforward, torch float32": straightforward,
        "torch float32": lambda: exact.forward_features(mels),
        "ONNX Runtime float32, batch norm folded": lambda: onnx.forward_features(mels),
        "torch bfloat16, batch norm folded, channels last": lambda: quick.forward_features(mels),
    }
    times = _in_turns(steps, repeats=3 * REPEATS)
    print("| inference | clips per second | speed-up |\n|---|---|---|")
    for name, seconds in times.items():
        ratio = _ratio(times["straightforward, torch float32"], seconds)
        print(f"| {name} | {1 / np.median(seconds):.1f} | {ratio:.1f} |")
    apart = np.abs(quick.forward_features(mels).mean(axis=2) - exact.forward_features(mels).mean(axis=2)).max()
    print(
        f"\nLargest difference of a logit in bfloat16: {apart:.3f}, standard deviation "
        f"{exact.forward_features(mels).std():.2f}.\n"
    )


def _memory() -> None:
    """Peak memory of a training step per clip of a batch, every system in its own process."""
    print("| memory of a training step | MB per clip |\n|---|---|")
    for index, (name, how, precision) in enumerate(SYSTEMS):
        peaks = []
        for batch in (2, 6):
            command = [sys.executable, "-W", "ignore", __file__, "--peak", str(index), str(batch)]
            peaks.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        print(f"| {name}, {how}, {precision} | {(peaks[1] - peaks[0]) / 4:.0f} |")


def _peak(index: int, batch: int) -> float:
    if SYSTEMS[index][1] != "straightforward":
        loop.keep_freed_memory(Recipe(recompute=SYSTEMS[index][0].endswith("recomputing")))  # as training does
    step = _step(*SYSTEMS[index], batch)
    step()
    step()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return float(status["VmHWM"].split()[0]) / 1024


def _grid(device: str, frames: int, batches: list[int]) -> None:
    """Step time by precision, compilation and batch; on a GPU also in tf32."""
    name = torch.cuda.get_device_name() if device == "cuda" else "this CPU"
    print(f"## The training step on {name}\n")
    print(
        "| precision | compiled | batch | ms per clip | clips/s | share of matrix product |\n|---|---|---|---|---|---|"
    )
    macs = 3 * summary.summarize(nets.NETS["fa_resnet"], MelConfig(), n_tags=TAGS).gmac * frames / FRAMES
    for precision in ("float32", "tf32", "bfloat16") if device == "cuda" else ("float32", "bfloat16"):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        peak = _matmul(torch.bfloat16 if precision == "bfloat16" else torch.float32, device)
        for compiled in (False, True):
            for batch in batches:
                step = _device_step(device, precision, batch, frames, compiled=compiled)
                seconds = float(np.median(_in_turns({"": step})[""])) / batch
                share = 2 * macs / seconds / peak
                print(
                    f"| {precision} | {compiled} | {batch} | {seconds * 1e3:.2f} | {1 / seconds:.0f} | {share:.0%} |",
                    flush=True,
                )


def _device_step(device: str, precision: str, batch: int, frames: int, *, compiled: bool) -> Step:
    torch.manual_seed(0)
    net = nets.create("fa_resnet").to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = torch.compile(net) if compiled else net
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    mels, truth = torch.randn(batch, BANDS, frames, device=device), torch.rand(batch, TAGS, device=device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = run(mels)
        F.binary_cross_entropy_with_logits(logits.float(), truth).backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def _step(name: str, how: str, precision: str, batch: int) -> Step:
    """One training step of one system."""
    torch.manual_seed(0)
    net = nets.create(NAMES[name.removesuffix(", recomputing")])
    net.recompute = name.endswith("recomputing")
    if how == "branch after branch":
        apart = [BranchAfterBranch(block) if isinstance(block, ResidualBlock) else block for block in net.blocks]
        net.blocks = nn.Sequential(*apart)
    if how != "straightforward":
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Straightforward(net) if how == "straightforward" else net
    optimizer = torch.optim.Adam(net.parameters(), fused=how != "straightforward" or None)
    mels, truth = torch.randn(batch, BANDS, FRAMES), (torch.rand(batch, TAGS) > 0.9).float()

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            logits = run(mels)
        F.binary_cross_entropy_with_logits(logits.float(), truth).backward()
        optimizer.step()

    return step


def _stirred(name: str) -> Net:
    """A network without zero weights."""
    torch.manual_seed(0)
    net = nets.create(name)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        net(torch.randn(2, BANDS, 300))
    return net.eval()


def _matmul(dtype: torch.dtype, device: str = "cpu") -> float:
    """GFLOP/s of a square matrix product."""
    size = 8_192 if device == "cuda" else 3_072
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def product() -> None:
        one @ other
        if device == "cuda":
            torch.cuda.synchronize()

    return 2 * size**3 / float(np.median(_in_turns({"": product})[""])) / 1e9


def _ratio(one: np.ndarray, other: np.ndarray) -> float:
    """Median ratio of the times, repeat by repeat."""
    return float(np.median(one / other))


def _in_turns(steps: dict[object, Step], *, repeats: int = REPEATS) -> dict[object, np.ndarray]:
    """Seconds of every step in every repeat, interleaved, after one warm-up."""
    times: dict[object, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            time.sleep(PAUSE)
            began = time.perf_counter()
            step()
            if turn:
                times[name].append(time.perf_counter() - began)
    return {name: np.array(each) for name, each in times.items()}


if __name__ == "__main__":
    main()
