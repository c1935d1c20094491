"""The loss of 200 training steps on real music, in float32 and in bfloat16.

    MOODFIELD_DATA=… python benchmarks/precision.py [--to docs/precision.png]

FA-ResNet, ρ 5, width 128, on Emotify; the same initial weights, clips, rolls and mix-ups.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.nn import functional as F

import emotify
from moodfield import nets, parallel
from moodfield.training import augment, batches, loop, pipeline
from moodfield.training.mel_cache import Statistics
from moodfield.training.recipe import Recipe

STEPS, SMOOTH = 200, 10
SETTINGS = ("mel.hop_length=1536", "mel.n_mels=128", "batch.size=8", "schedule.peak=1e-3", "loss.pos_weight=1")
COLOURS = {"float32": "#1b3a4b", "float32, other order of sums": "#8aa1ad", "bfloat16": "#e07a1f"}
"""the second shows the effect of rounding alone: the same computation, in another memory layout"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path("docs/precision.png"))
    parser.add_argument("--store", type=Path, default=Path(".cache/moodfield"))
    arguments = parser.parse_args()
    data = Path(os.environ.get("MOODFIELD_DATA", "")) / "emotify"
    if not data.is_dir():
        sys.exit("Emotify is missing: set MOODFIELD_DATA to the folder that contains emotify/")
    recipe = Recipe().change(*SETTINGS)
    split, _ = emotify.tracks(data)
    paths = pipeline.RunPaths(data / "audio", arguments.store, Path(), parallel.cpu_count())
    pipeline.extract_mels(split.tracks, recipe, paths)
    dataset = pipeline.load_dataset(split, split.truth.astype(np.float32), recipe, paths)
    statistics = paths.mel_cache(recipe.mel).statistics(split.tracks)
    loop.keep_freed_memory(recipe)
    curves = {precision: _curve(recipe, dataset, statistics, precision) for precision in COLOURS}
    _draw(curves, arguments.to)
    float32, reordered, bfloat16 = (np.array(curves[precision]) for precision in COLOURS)
    smooth = [np.convolve(curve, np.ones(SMOOTH) / SMOOTH, mode="valid") for curve in (float32, bfloat16)]
    ends = [f"{values[-1]:.3f}" for values in smooth]
    step, difference, rounding = (
        np.abs(values).mean() for values in (np.diff(float32), bfloat16 - float32, reordered - float32)
    )
    print("## Precision\n")
    print(f"{STEPS} steps of FA-ResNet, width 128, on Emotify. The loss goes from {float32[0]:.3f}")
    print(
        f"to {ends[0]} in float32 and {ends[1]} in bfloat16 (means of {SMOOTH} steps). They differ by {difference:.4f}"
    )
    print(
        f"per step, and by {np.mean(bfloat16 - float32):+.4f} in the mean; "
        "from one step to the next the loss itself changes"
    )
    print(f"by {step:.3f}, and float32 with another order of summation differs by {rounding:.4f}. Curves:")
    print(f"[{arguments.to.name}](../{arguments.to})")


def _curve(recipe: Recipe, dataset: batches.ClipDataset, statistics: Statistics, precision: str) -> list[float]:
    torch.manual_seed(recipe.seed)
    net = nets.create("fa_resnet", n_mels=recipe.mel.n_mels, n_tags=dataset.targets.per_track().shape[1])
    net.standardize.set_statistics(torch.from_numpy(statistics.mean), torch.from_numpy(statistics.std))
    if precision != "float32":
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(net.parameters(), lr=recipe.schedule.peak)
    generator = np.random.default_rng(recipe.seed)
    losses: list[float] = []
    fill = statistics.mean.astype(np.float32)
    while len(losses) < STEPS:
        for mels, truth in batches.epoch(
            dataset, clip_frames=recipe.clip_frames, size=recipe.batch.size, fill=fill, generator=generator
        ):
            mixed, mixed_truth = augment.mix(
                augment.roll(mels, recipe.augment, generator), truth, recipe.augment, generator
            )
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                logits = net(mixed)
            loss = F.binary_cross_entropy_with_logits(logits.float(), mixed_truth)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses[:STEPS]


def _draw(curves: dict[str, list[float]], path: Path) -> None:
    figure = Figure(figsize=(8, 4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for precision, losses in curves.items():
        smooth = np.convolve(losses, np.ones(SMOOTH) / SMOOTH, mode="valid")
        steps = np.arange(1, STEPS + 1)
        axes.plot(steps, losses, color=COLOURS[precision], alpha=0.25, linewidth=0.8)
        dashed = (0, (4, 2)) if precision == "bfloat16" else "-"
        axes.plot(
            steps[SMOOTH - 1 :], smooth, color=COLOURS[precision], linewidth=1.8, linestyle=dashed, label=precision
        )
    axes.set(xlabel="step", ylabel="binary cross-entropy", xlim=(1, STEPS))
    axes.set_title(f"FA-ResNet, width 128, on Emotify: every step, and means of {SMOOTH}", loc="left", fontsize=10)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
