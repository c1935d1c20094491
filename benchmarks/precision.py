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
from moodfield.training.recipe import Recipe

STEPS, SMOOTH = 200, 10
SETTINGS = ("mel.hop_length=1536", "mel.n_mels=128", "batch.size=8", "schedule.peak=1e-3", "loss.pos_weight=1")
COLOURS = {"float32": "#1b3a4b", "float32, other order of sums": "#8aa1ad", "bfloat16": "#e07a1f"}
"""the second shows the effect of rounding alone: the same computation, in another memory layout"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path("docs/precision.png"))
    parser.add_argument("--store", type=Path, default=Path(".cache/moodfield"))
    given = parser.parse_args()
    data = Path(os.environ.get("MOODFIELD_DATA", "")) / "emotify"
    if not data.is_dir():
        sys.exit("Emotify is not here: set MOODFIELD_DATA to the folder that holds emotify/")
    plan = Recipe().change(*SETTINGS)
    whole, _ = emotify.tracks(data)
    place = pipeline.RunPaths(data / "audio", given.store, Path(), parallel.cpu_count())
    pipeline.extract_mels(whole.tracks, plan, place)
    material = pipeline.load_dataset(whole, whole.truth.astype(np.float32), plan, place)
    statistics = place.mel_cache(plan.mel).statistics(whole.tracks)
    loop.keep_freed_memory(plan)
    curves = {precision: _curve(plan, material, statistics, precision) for precision in COLOURS}
    _draw(curves, given.to)
    one, control, other = (np.array(curves[precision]) for precision in COLOURS)
    smooth = [np.convolve(curve, np.ones(SMOOTH) / SMOOTH, mode="valid") for curve in (one, other)]
    ends = [f"{each[-1]:.3f}" for each in smooth]
    step, apart, rounding = (np.abs(each).mean() for each in (np.diff(one), other - one, control - one))
    print("## Precision\n")
    print(f"{STEPS} steps of FA-ResNet, width 128, on Emotify. The loss goes from {one[0]:.3f}")
    print(f"to {ends[0]} in float32 and {ends[1]} in bfloat16 (means of {SMOOTH} steps). They differ by {apart:.4f}")
    print(
        f"per step, and by {np.mean(other - one):+.4f} in the mean; from one step to the next the loss itself changes"
    )
    print(f"by {step:.3f}, and float32 with another order of summation differs by {rounding:.4f}. Curves:")
    print(f"[{given.to.name}](../{given.to})")


def _curve(plan: Recipe, material: batches.ClipDataset, statistics: object, precision: str) -> list[float]:
    torch.manual_seed(plan.seed)
    net = nets.create("fa_resnet", n_mels=plan.mel.n_mels, n_tags=material.targets.per_track().shape[1])
    net.standardize.set_statistics(torch.from_numpy(statistics.mean), torch.from_numpy(statistics.std))
    if precision != "float32":
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(net.parameters(), lr=plan.schedule.peak)
    generator = np.random.default_rng(plan.seed)
    losses: list[float] = []
    fill = statistics.mean.astype(np.float32)
    while len(losses) < STEPS:
        for mels, truth in batches.epoch(
            material, clip_frames=plan.clip_frames, size=plan.batch.size, fill=fill, generator=generator
        ):
            mixed, wanted = augment.mix(augment.roll(mels, plan.augment, generator), truth, plan.augment, generator)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                logits = net(mixed)
            loss = F.binary_cross_entropy_with_logits(logits.float(), wanted)
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
