"""Every network on Emotify, with the same budget and the same five folds.

    MOODFIELD_DATA=… python benchmarks/zoo.py [--to runs/zoo] [--folds 0-4] [--only NAME …]

Nothing is chosen on the test fold: every network is evaluated once, after its last epoch. Networks have a quarter of
their published width. The result of a system on a fold is a line of zoo.jsonl beside this script: it is not trained
again unless its line and its run are deleted; a run that was stopped resumes. Prints a Markdown table of the finished
systems, and comparisons, paired by fold, of systems that differ in one thing.
"""

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import emotify
from moodfield import parallel
from moodfield.datasets.mtg_jamendo import Split
from moodfield.evaluation import metrics
from moodfield.training import loop, pipeline
from moodfield.training.recipe import Recipe

BUDGET = (
    "mel.hop_length=1536",
    "mel.n_mels=128",
    "batch.clip_seconds=10",
    "loss.pos_weight=1",
    "schedule.warm_up=4",
    "schedule.constant=30",
    "schedule.decay=40",
    "schedule.final=6",
    "schedule.peak=1e-3",
    "schedule.floor=1e-5",
    "averaging.every=0",
    "precision=bf16-mixed",
    "validate_every=80",
)
"""settings of all systems; a system may change them"""
ORGANISERS = (
    "mel.sample_rate=12000",
    "mel.n_fft=512",
    "mel.hop_length=256",
    "mel.n_mels=96",
    "mel.kind=plain",
    "batch.clip_seconds=29.12",
)
"""the mel and the clip length of the organisers' baseline"""
SYSTEMS: dict[str, tuple[str, ...]] = {
    "CP-ResNet": ("net=cp_resnet", "net.width=32"),
    "FA-ResNet": ("net=fa_resnet", "net.width=32"),
    "Shake-FA-ResNet": ("net=shake_fa_resnet", "net.width=32"),
    "CP-DenseNet": ("net=cp_densenet", "net.width=32", "net.growth=16"),
    "ResNet-18": ("net=resnet18", "net.width=16"),
    "ResNet-34": ("net=resnet34", "net.width=16"),
    "ResNet-50": ("net=resnet50", "net.width=16"),
    "CRNN, 30 s": ("net=crnn", "net.width=16", "batch.clip_seconds=30"),
    "VGG-ish, 29 s, plain mel": ("net=vgg", "net.width=16", *ORGANISERS),
    "FA-ResNet, time ρ 2": ("net=fa_resnet", "net.width=32", "net.rho_time=2"),
    "FA-ResNet, time ρ 9": ("net=fa_resnet", "net.width=32", "net.rho_time=9"),
    "FA-ResNet, hop 512": ("net=fa_resnet", "net.width=32", "mel.hop_length=512"),
}
PAIRS = (
    ("FA-ResNet", "CP-ResNet", ""),
    ("Shake-FA-ResNet", "FA-ResNet", " It has twice the parameters."),
    ("FA-ResNet, time ρ 2", "FA-ResNet", ""),
    ("FA-ResNet, time ρ 9", "FA-ResNet", ""),
    ("FA-ResNet, hop 512", "FA-ResNet", " Its receptive field and its roll are a third as long in seconds."),
    ("CP-DenseNet", "CP-ResNet", ""),
    ("ResNet-34", "ResNet-18", ""),
    ("ResNet-34", "ResNet-50", ""),
    ("FA-ResNet", "ResNet-34", ""),
    ("FA-ResNet", "CRNN, 30 s", " The CRNN is trained on clips three times as long."),
    ("FA-ResNet", "VGG-ish, 29 s, plain mel", " The VGG-ish network has another mel, and clips three times as long."),
)
"""comparisons: the first against the second, and other differences"""
HEAD = """# Networks on real labels

Emotify: 300 one-minute excerpts, nine emotions, macro averages over them. Every network has a quarter of its published
width and the same budget: 80 epochs of one random clip of 10 s for each of 240 tracks (30 s for the CRNN, 29 s for the
VGG-ish one), Adam with a peak learning rate of 1e-3, roll and mix-up, no averages of weights. It is evaluated on 60
other tracks, once, after its last epoch, on each of five fixed folds. The mel has 128 bands and a hop of 1,536 samples
unless the name states another; ρ is 5. `make zoo` writes this page; the results of each network on each fold are in
[zoo.jsonl](../benchmarks/zoo.jsonl).

This shows what small networks learn from few tracks. It does not rank the published systems: those were trained on
forty times as many tracks, at four times the width, and averaged several networks and snapshots.
"""
RESULTS = Path(__file__).with_suffix(".jsonl")


@dataclass(frozen=True)
class Result:
    """The result of one system on one fold."""

    system: str
    fold: int
    settings: str
    """changes to the default recipe"""
    pr_auc: float
    roc_auc: float
    parameters: int
    seconds: float
    """of the fastest epoch, because other processes may share the machine"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path("runs/zoo"))
    parser.add_argument("--store", type=Path, default=Path(".cache/moodfield"))
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(emotify.FOLDS)))
    parser.add_argument("--only", nargs="*", default=list(SYSTEMS), choices=list(SYSTEMS))
    given = parser.parse_args()
    data = Path(os.environ.get("MOODFIELD_DATA", "")) / "emotify"
    if not data.is_dir():
        sys.exit("Emotify is not here: set MOODFIELD_DATA to the folder that holds emotify/")
    whole, folds = emotify.tracks(data)
    loop.keep_freed_memory(Recipe())
    for fold in given.folds:
        for system in given.only:
            if fold not in _found(system):
                place = pipeline.RunPaths(
                    data / "audio", given.store, given.to / _plain(system) / str(fold), parallel.cpu_count()
                )
                result = _judge(system, whole, folds, fold, place)
                emotify.keep(RESULTS, vars(result))
                print(f"{system}, fold {fold}: PR-AUC {result.pr_auc:.3f}", file=sys.stderr, flush=True)
    found = {system: _found(system) for system in SYSTEMS}
    _table({system: results for system, results in found.items() if results})


def _settings(system: str) -> tuple[str, ...]:
    return (*BUDGET, *SYSTEMS[system])


def _judge(system: str, whole: Split, folds: np.ndarray, fold: int, place: pipeline.RunPaths) -> Result:
    """Train a system on four folds and evaluate it on the fifth."""
    plan = Recipe().change(*_settings(system))
    pipeline.extract_mels(whole.tracks, plan, place)
    learn, judge = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
    times = [time.monotonic()]
    net, scores = emotify.network(plan, whole, learn, judge, place, report=lambda _: times.append(time.monotonic()))
    macro = metrics.evaluate(whole.truth[judge], scores).macro
    return Result(
        system=system,
        fold=fold,
        settings=" ".join(_settings(system)),
        pr_auc=round(macro["PR-AUC"], 6),
        roc_auc=round(macro["ROC-AUC"], 6),
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        seconds=round(float(min(np.diff(times)[1:-1], default=np.nan)), 3),
    )


def _found(system: str) -> dict[int, Result]:
    """Results of a system with its present settings, by fold."""
    results = [Result(**line) for line in emotify.kept(RESULTS)]
    settings = " ".join(_settings(system))
    return {each.fold: each for each in results if (each.system, each.settings) == (system, settings)}


def _plain(system: str) -> str:
    """A name for a folder."""
    return system.lower().replace(",", "").replace("ρ", "rho").replace(" ", "-")


def _table(found: dict[str, dict[int, Result]]) -> None:
    print(HEAD)
    print("| system | macro PR-AUC | macro ROC-AUC | parameters | seconds per epoch | folds |")
    print("|---|---|---|---|---|---|")
    for system, results in found.items():
        pr_auc, roc_auc = (
            emotify.spread([getattr(each, name) for each in results.values()]) for name in ("pr_auc", "roc_auc")
        )
        seconds = np.nanmin([each.seconds for each in results.values()])
        parameters = next(iter(results.values())).parameters
        print(f"| {system} | {pr_auc} | {roc_auc} | {parameters:,} | {seconds:.1f} | {len(results)} |")
    print(
        "\nSeconds are of the fastest epoch of 240 clips, on one core; other processes may have slowed all of them.\n"
    )
    print(f"Differences in PR-AUC, {emotify.INTERVALS}, for one seed,")
    print("and without correction for eleven comparisons:\n")
    for one, other, what in PAIRS:
        both = sorted(found.get(one, {}).keys() & found.get(other, {}).keys())
        if len(both) > 1:
            print(
                f"- {emotify.sentence(one, other, [found[one][n].pr_auc - found[other][n].pr_auc for n in both])}{what}"
            )


if __name__ == "__main__":
    main()
