"""Variants of the bundled model, one change each.

    MOODFIELD_DATA=… python benchmarks/students.py [--to runs/students] [--seeds 42 43 44] [--only NAME …]

Students are trained on the logits of the ensemble for every second track of the free music (`make music`, `make
targets`), and evaluated on held-out packages and on the half of Emotify that choices may be made on; Emotify is not in
training. The result of a student is a line of students.jsonl beside this script: it is not trained again unless its
settings changed, or its line and its run are deleted; a run that was stopped resumes. Two processes may share the work
by their --seeds. Prints the page docs/students.md of the finished students.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Float32
from scipy import stats

import embedding
import emotify
import people
from moodfield import clips, parallel, tags
from moodfield.datasets import mtg_jamendo
from moodfield.datasets.mtg_jamendo import Split
from moodfield.distillation import data, manifest
from moodfield.distillation.data import STUDENT, Distillation
from moodfield.distillation.degradation import Degradation
from moodfield.distillation.manifest import Music
from moodfield.distillation.targets import TargetSource
from moodfield.distillation.teachers import ensemble, published
from moodfield.engine import TorchEngine
from moodfield.evaluation import metrics
from moodfield.nets import Net, regularized, summary
from moodfield.predictor import LoadedModel, TrackPredictor
from moodfield.training import distributed, export, loop, mel_cache, pipeline
from moodfield.training.batches import StoredMel
from moodfield.training.pipeline import RunPaths
from moodfield.training.recipe import Recipe

HERE = Path(__file__).parent
BASE = (
    "schedule.warm_up=0",
    "schedule.constant=1",
    "schedule.decay=0",
    "schedule.final=1",
    "averaging.every=0",
)
"""settings of all students beside the recipe of the bundled model; an epoch has every window once"""
DEGRADE = "degraded copies"
"""a degraded copy of every track; not a setting of the recipe"""
FACTORS: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "auxiliary targets": {
            "without": ("loss.auxiliary_weight=0",),
            "weight 2": ("loss.auxiliary_weight=2",),
        },
        "mel": {"12 kHz": ("mel.sample_rate=12000", "mel.n_fft=1024", "mel.hop_length=768")},
        "hop": {"512 samples": ("mel.hop_length=512",)},
        "receptive field": {
            "ρ 5": ("net.rho_freq=5", "net.rho_time=5"),
            "ρ 13": ("net.rho_freq=13", "net.rho_time=13"),
        },
        "width": {"32 channels": ("net.width=32",), "80 channels": ("net.width=80",)},
        "frequency-awareness": {"without": ("net.frequency_aware=false",)},
        "mix-up": {"α 0.3": ("augment.mixup_alpha=0.3",)},
        "twice as long": {
            "four epochs": ("schedule.constant=2", "schedule.final=2"),
            "two epochs with degraded copies": (DEGRADE,),
        },
    }
)
"""factor → its levels beside the base, with their settings"""
BASE_NAME = "base"
SEEDS = (42, 43, 44)
MEASURES = ("median tag", "worst tag", "mean tag", "people", "probe")
"""metrics of every student"""
RESULTS = Path(__file__).with_suffix(".jsonl")
HEAD = """# Students

Choices for the bundled model, varied one at a time. A student is trained on every second training track of
`music/manifest.tsv`, with the logits of the ensemble ([teachers](teachers.md)) for its windows as targets, and
evaluated on the packages that are held out: rank correlation (Spearman) with the ensemble over tracks, of the median,
the worst and the mean tag; and, by the map of tags to emotions in `benchmarks/people.py`, rank correlation with the
annotations of the half of Emotify that choices may be made on, within genre (*people*). *Probe* is the macro PR-AUC of
linear heads on the embedding for Emotify's emotions (`benchmarks/embedding.py`), on the same half. No student is
trained on Emotify. Parameters are in thousands; work is in millions of multiply-additions for 10 s.

The base: FA-ResNet, ρ {rho_freq} on both axes, {width} channels, {n_mels} bands at {sample_rate:,} Hz, window
{n_fft:,}, hop {hop_length:,}; auxiliary targets with weight {auxiliary:g}; two epochs of all windows, the second at the
lowest learning rate. Each row changes one thing; ± is the standard deviation over seeds. `make students` writes this
page; `benchmarks/students.jsonl` has each run, and its `log.jsonl` the processor time.
"""
DIFFERENCES = """
Differences from the base with the same seed and the same precision: mean tag, and probe, with 95 % intervals over seeds
(Student's t). The intervals are about the seed alone, on these held-out packages and excerpts.
"""


@dataclass(frozen=True)
class Result:
    """The result of one student."""

    variant: str
    seed: int
    network: Mapping[str, float]
    """metrics after its last epoch"""
    settings: str
    """settings of its recipe"""
    precision: str
    """bfloat16 where the CPU supports it, float32 elsewhere"""


@dataclass(frozen=True)
class Excerpts:
    """The excerpts of Emotify that choices may be made on."""

    split: Split
    """the excerpts with their emotions"""
    folds: np.ndarray
    """fold of every excerpt"""
    annotations: people.People
    """annotations"""
    audio: Path
    """the folder of their files"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path("runs/students"))
    parser.add_argument("--store", type=Path, default=Path(".cache/moodfield"))
    parser.add_argument("--music", type=Path, default=Path(".cache/music"))
    parser.add_argument("--ensemble", type=Path, default=Path(".cache/teachers/ensemble.json"))
    parser.add_argument("--jobs", type=int, default=parallel.cpu_count())
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--only", nargs="*", default=list(variants()), choices=list(variants()))
    parser.add_argument("--page", action="store_true", help="train nothing, print the page of the finished students")
    options = parser.parse_args()
    if not options.page:
        home = Path(os.environ.get("MOODFIELD_DATA", ""))
        if not (home / "emotify").is_dir() or not options.ensemble.is_file():
            sys.exit(f"set MOODFIELD_DATA to the folder with the checkpoints and emotify/, and make {options.ensemble}")
        source = TargetSource(published.teachers(home), ensemble.load(options.ensemble))
        paths = RunPaths(options.music, options.store, options.to, options.jobs)
        music, excerpts = _half(manifest.read_manifest(HERE.parent / "music" / "manifest.tsv")), _excerpts(home)
        loop.keep_freed_memory(STUDENT)
        for variant, seed in ((variant, seed) for seed in options.seeds for variant in options.only):
            if not any((item.variant, item.seed) == (variant, seed) for item in _read_results()):
                _student(variant, seed, Distillation(STUDENT, music, source, paths), excerpts)
    _page(_read_results())


def variants() -> dict[str, tuple[str, ...]]:
    """Every student, with its changed settings."""
    changed = {f"{factor}: {level}": changes for factor, levels in FACTORS.items() for level, changes in levels.items()}
    return {BASE_NAME: ()} | changed


def _settings(variant: str) -> tuple[str, ...]:
    return (*BASE, *variants()[variant])


def _recipe(variant: str) -> Recipe:
    recipe = STUDENT.change(*(item for item in _settings(variant) if item != DEGRADE))
    return recipe.change(f"validate_every={recipe.schedule.epochs}")


def _half(music: Music) -> Music:
    """The music with every second training track."""
    return replace(music, train=replace(music.train, tracks=music.train.tracks[::2]))


def _excerpts(home: Path) -> Excerpts:
    whole, folds = emotify.tracks(home / "emotify")
    annotations = people.read(home / "emotify", whole.tracks)
    validation = mtg_jamendo.read(home / "emotify" / "emotify-validation.tsv")
    chosen = people.choosing_half(annotations, [int(track.id.removeprefix("track_")) for track in validation.tracks])
    tracks = tuple(track for track, keep in zip(whole.tracks, chosen, strict=True) if keep)
    split = Split(tracks, whole.vocabulary)
    return Excerpts(split, folds[chosen], people.select(annotations, chosen), home / "emotify" / "audio")


def _student(variant: str, seed: int, base: Distillation, excerpts: Excerpts) -> None:
    """Train a student, evaluate it, and append its line."""
    precision = "bf16-mixed" if distributed.has_native_bfloat16() else "32-true"
    recipe = _recipe(variant).change(f"seed={seed}", f"precision={precision}")
    name = variant.replace(": ", "-").replace(" ", "-")
    paths = replace(base.paths, run_dir=base.paths.run_dir / f"{name}-{seed}")
    degradation = Degradation() if DEGRADE in variants()[variant] else None
    prepared = data.prepare(replace(base, recipe=recipe, paths=paths, degradation=degradation))
    net = loop.fit(
        recipe, prepared.train_data, prepared.validation_data, prepared.statistics, tags.MOODS_AND_THEMES, paths.run_dir
    )  # the network of the only epoch that is validated, the last
    net = regularized.without_auxiliary(net, len(tags.MOODS_AND_THEMES))
    heldout, _ = _predict(recipe, net, prepared.validation_data.mels)
    values = _agreement(prepared.validation_data.targets.per_track(), heldout)
    values |= _evaluate_excerpts(excerpts, *_predict(recipe, net, _mels(recipe, excerpts, paths)))
    measured = {name: round(float(values[name]), 5) for name in MEASURES}
    line = {"network": measured, "settings": " ".join(_settings(variant)), "precision": precision}
    emotify.keep(RESULTS, {"variant": variant, "seed": seed, **line})
    print(f"{variant}, seed {seed}: {measured}", file=sys.stderr, flush=True)


def _mels(recipe: Recipe, excerpts: Excerpts, paths: RunPaths) -> tuple[StoredMel, ...]:
    excerpt_paths = replace(paths, audio_dir=excerpts.audio)
    pipeline.extract_mels(excerpts.split.tracks, recipe, excerpt_paths)
    cache = excerpt_paths.mel_cache(recipe.mel)
    return tuple(map(cache.open, excerpts.split.tracks))


def _predict(
    recipe: Recipe, net: Net, mels: tuple[StoredMel, ...]
) -> tuple[Float32[np.ndarray, "tracks tags"], Float32[np.ndarray, "tracks channels"]]:
    """Logits and embeddings of tracks."""
    model = LoadedModel(export.describe(recipe, net, tags.MOODS_AND_THEMES), TorchEngine(net))
    logits, embeddings = [], []
    for mel in mels:
        output = TrackPredictor(model).predict(mel_cache.blocks(mel))
        assert output.embedding is not None
        logits.append(clips.pool(output.logits))
        embeddings.append(output.embedding)
    return np.stack(logits), np.stack(embeddings)


def _agreement(targets: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Agreement with the ensemble."""
    ranks = metrics.spearman(targets, logits)
    return {"median tag": float(np.median(ranks)), "worst tag": float(ranks.min()), "mean tag": float(ranks.mean())}


def _evaluate_excerpts(excerpts: Excerpts, logits: np.ndarray, embeddings: np.ndarray) -> dict[str, float]:
    """Agreement with annotators, and linear heads on the embedding."""
    felt = people.agreement(people.emotions(logits, tags.MOODS_AND_THEMES), excerpts.annotations)
    probe = embedding.evaluate(embeddings, excerpts.split.truth, excerpts.folds)
    return {"people": float(felt.mean()), "probe": float(np.mean(probe.pr_auc))}


def _read_results() -> list[Result]:
    """Results of students with the present settings."""
    lines = (Result(**line) for line in emotify.kept(RESULTS))
    return [item for item in lines if item.variant in variants() and item.settings == " ".join(_settings(item.variant))]


def _page(results: list[Result]) -> None:
    """Print the table and the differences."""
    recipe = _recipe(BASE_NAME)
    net, mel = recipe.net, recipe.mel
    values = asdict(net) | asdict(mel) | {"auxiliary": recipe.loss.auxiliary_weight}
    print(HEAD.format(**values))
    print(f"| student | {' | '.join(MEASURES)} | seeds | parameters | work |\n|---|{'---|' * (len(MEASURES) + 3)}")
    for variant in variants():
        if own := [item for item in results if item.variant == variant]:
            _row(variant, [item.network for item in own])
    base = {(item.seed, item.precision): item.network for item in results if item.variant == BASE_NAME}
    lines = []
    for variant in (name for name in variants() if name != BASE_NAME):
        own = [item for item in results if item.variant == variant and (item.seed, item.precision) in base]
        pairs = [(item.network, base[item.seed, item.precision]) for item in own]
        if len(pairs) > 1:
            parts = [_difference([one[name] - other[name] for one, other in pairs]) for name in ("mean tag", "probe")]
            lines.append(f"- {variant}: {parts[0]}; probe {parts[1]}.")
    if lines:
        print(DIFFERENCES + "\n" + "\n".join(lines))
    for precision in sorted({item.precision for item in results}):
        seeds = sorted({item.seed for item in results if item.precision == precision})
        print(f"\nTrained in {precision} with seeds {', '.join(map(str, seeds))}.")


def _row(variant: str, values: list[Mapping[str, float]]) -> None:
    columns = [[item[measure] for item in values] for measure in MEASURES]
    cells = [emotify.spread(item) if len(item) > 1 else f"{item[0]:.3f}" for item in columns]
    recipe = _recipe(variant)
    cost = summary.summarize(recipe.net, recipe.mel)
    work = f"{cost.parameters / 1_000:.0f} | {cost.gmac * 1_000:.0f}"
    print(f"| {variant} | {' | '.join(cells)} | {len(values)} | {work} |")


def _difference(differences: list[float]) -> str:
    """Mean difference, its interval, and whether it is significant."""
    mean, count = float(np.mean(differences)), len(differences)
    half_width = float(stats.t.ppf(0.975, count - 1) * np.std(differences, ddof=1) / np.sqrt(count))
    verdict = "no significant difference" if abs(mean) <= half_width else "better" if mean > 0 else "worse"
    return f"{mean:+.4f} ({mean - half_width:+.4f} … {mean + half_width:+.4f}), {verdict}"


if __name__ == "__main__":
    main()
