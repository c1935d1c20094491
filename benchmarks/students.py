"""Variants of the bundled model, one change each.

    MOODFIELD_DATA=… python benchmarks/students.py [--to runs/students] [--seeds 42 43 44] [--only NAME …] [--together]

Students are trained on the logits of the organisers' network for free music (`make music`), about 38,000 clips each,
and evaluated on held-out packages and on annotations of Emotify, which is not in training. The result of a student is a
line of students.jsonl beside this script: it is not trained again unless its settings changed, or its line and its run
are deleted; a run that was stopped resumes. Two processes may share the work by their --seeds. Prints the page
docs/students.md of the finished students or, with --together, the result of the mean of the chosen ones.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from scipy import stats

import emotify
import people
from moodfield import calibration, parallel
from moodfield.datasets.mtg_jamendo import Split
from moodfield.distillation import data, manifest, targets
from moodfield.distillation.data import Distillation
from moodfield.distillation.manifest import Music
from moodfield.distillation.targets import TargetSource
from moodfield.distillation.teachers import published
from moodfield.evaluation import metrics
from moodfield.nets import summary
from moodfield.training import checkpoints, distributed, loop, pipeline, validation
from moodfield.training.batches import ClipDataset, TrackTargets
from moodfield.training.recipe import Recipe

HERE = Path(__file__).parent
BASE = (
    "net.width=32",
    "net.frequency_aware=true",
    "mel.sample_rate=22050",
    "mel.hop_length=1536",
    "mel.n_mels=128",
    f"batch.clip_seconds={targets.WINDOW_SECONDS}",
    "augment.roll_frames=0",
    "augment.mixup_alpha=0",
    "loss.kind=logits",
    "schedule.warm_up=0",
    "schedule.constant=1",
    "schedule.decay=2",
    "schedule.final=2",
    "schedule.peak=1e-3",
    "schedule.floor=3e-5",
    "averaging.every=1",
    "averaging.snapshots=1",
    "validate_every=5",
)
"""settings of all students; an epoch has every window once"""
SPEED = "speed"
"""a further speed of the training music; not a setting of the recipe"""
FACTORS: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "frequency-awareness": {"without": ("net.frequency_aware=false",)},
        "receptive field": {
            "ρ 2": ("net.rho_freq=2", "net.rho_time=2"),
            "ρ 9": ("net.rho_freq=9", "net.rho_time=9"),
            "ρ 22": ("net.rho_freq=22", "net.rho_time=22"),
            "ρ 5, in time 22": ("net.rho_time=22",),
        },
        "width": {"64 channels": ("net.width=64",)},
        "hop": {"512 samples": ("mel.hop_length=512",)},
        "mel": {
            "12 kHz, as the teacher": ("mel.sample_rate=12000", "mel.n_fft=1024", "mel.hop_length=768"),
            "12 kHz, and plain": ("mel.sample_rate=12000", "mel.n_fft=1024", "mel.hop_length=768", "mel.kind=plain"),
        },
        "mix-up": {"α 0.3": ("augment.mixup_alpha=0.3",)},
        "twice as long": {
            "10 epochs": ("schedule.constant=2", "schedule.decay=4", "schedule.final=4", "validate_every=10"),
            "3 epochs at 3 speeds": (
                *("schedule.constant=1", "schedule.decay=1", "schedule.final=1", "validate_every=3"),
                *(f"{SPEED}=0.9", f"{SPEED}=1.1"),
            ),
        },
    }
)
"""factor → its levels beside the base, with their settings"""
BASE_NAME = "base"
SEEDS = (42, 43, 44)
MEASURES = ("median tag", "worst tag", "mean tag", "people")
"""metrics of every network"""
RESULTS = Path(__file__).with_suffix(".jsonl")
HEAD = """# Students

Choices for the bundled model, varied one at a time. Every student is trained on the free music of 86 Debian packages
(34.1 h), with the logits of the organisers' VGG-ish network for its windows as targets, and evaluated on seven packages
that are held out completely (8.2 h): rank correlation (Spearman) with the teacher over tracks, of the median, the worst
and the mean tag; and, by the map of tags to emotions in `benchmarks/people.py`, rank correlation with the annotations
of 300 excerpts of Emotify, within genre (*people*). No student is trained on Emotify. Parameters are in thousands; work
is in millions of multiply-additions for 10 s.

The base: FA-ResNet, ρ 5 on both axes, 32 channels, 128 bands at 22,050 Hz, hop 1,536; five epochs of all windows (about
38,000 clips), and the mean of the weights over the last three (SWA). Each row changes one thing; ± is the standard
deviation over seeds. Some changes imply others: at 12 kHz a window of 1,024 has a hop of 64 ms, not 70, and the plain
mel is that of 12 kHz; ten epochs average the last five, and three epochs at three speeds are nine passes through music,
of which the last two epochs are averaged. `make students` writes this page; `benchmarks/students.jsonl` has each run,
and its `log.jsonl` the processor time.
"""
DIFFERENCES = """
Differences from the base with the same seed and the same precision: mean tag, with 95 % intervals over seeds (Student's
t). The intervals are about the seed alone, on these seven held-out packages.
"""
CHOICE = """
## Choices

The bundled model (`distillation/data.py`) is a FA-ResNet of 64 channels and ρ 9 with a plain mel of 12 kHz, at about
the hop of the base in seconds, trained for eight epochs on music at three speeds. Rows with several seeds have standard
deviations of .005 to .010 in the mean tag, so differences below .02 with one seed may be chance. Reasons:

- *More training* has the largest effect, .04 to .05. For about as much work three speeds were a little better than more
  epochs in the median and the mean tag, and worse in the worst; they are more music, with logits of its own.
- *64 channels* gain .015, which may still be chance, for about four times the work. They were chosen when only the
  first seed was known, .021 above its base.
- The *plain mel of 12 kHz* gained .02 with its one seed and costs little work: it is the input of the teacher. It is no
  closer to people than the base.
- *ρ 9* gains .015 in the mean tag and .1 in the worst, with every seed; *ρ 2* loses .01, which may still be chance.
  ρ 22 may be better than 9, and has over four times its weights.
- *Hop 512* gains .008, which may still be chance, for three times the work, and for three times the mel.
- *Frequency-awareness* was better with two seeds of three, and for people with all three; neither is significant. It is
  kept: it costs almost nothing.
- *SWA* from the third of five epochs on is a little worse than the last network alone: the learning rate is not at its
  minimum there. The bundled model averages its last two epochs, at the minimum, where the mean is as good as the
  network (docs/model.md), and nothing needs to be chosen by held-out music.
- *Mix-up* does not help: the mean of a teacher's logits for two pieces is not its logits for their mix.
- *Several networks* gain less than longer training, which costs nothing at inference: the mean of three of seed 44 (the
  base, ρ 9, without frequency-awareness) has .826 in the mean tag (`--together`), where they have .816, .829 and .800.
  Nor are they a better teacher: students are evaluated by the logits of the teacher itself.
"""


@dataclass(frozen=True)
class Result:
    """The result of one student."""

    variant: str
    seed: int
    network: Mapping[str, float]
    """after its last epoch"""
    average: Mapping[str, float]
    """with its weights averaged over the last epochs"""
    settings: str
    """settings of its recipe"""
    precision: str
    """bfloat16 where the CPU supports it, float32 elsewhere"""


@dataclass(frozen=True)
class References:
    """Reference data beside the held-out packages."""

    excerpts: Split
    """excerpts of Emotify, as tracks without tags"""
    audio: Path
    """the folder of their files"""
    annotations: people.People
    """annotations of the excerpts"""


@dataclass(frozen=True)
class Student:
    """A trained student with its evaluation data."""

    recipe: Recipe
    """its recipe"""
    heldout_data: ClipDataset
    """the held-out tracks, with the logits of the teacher"""
    excerpts: ClipDataset
    """those of Emotify"""
    run: Path
    """the folder of its weights"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path("runs/students"))
    parser.add_argument("--store", type=Path, default=Path(".cache/moodfield"))
    parser.add_argument("--music", type=Path, default=Path(".cache/music"))
    parser.add_argument(
        "--teacher", type=Path, help="the organisers' checkpoint, if not vggish/ in MOODFIELD_DATA has it"
    )
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--only", nargs="*", default=list(variants()), choices=list(variants()))
    parser.add_argument("--page", action="store_true", help="train nothing, print the page of the finished students")
    parser.add_argument("--together", action="store_true", help="evaluate the mean of the chosen students")
    options = parser.parse_args()
    if not options.page:
        home = Path(os.environ.get("MOODFIELD_DATA", ""))
        checkpoint = options.teacher or home / "vggish" / "best_model.pth"
        if not (home / "emotify").is_dir() or not checkpoint.is_file():
            sys.exit(f"set MOODFIELD_DATA to the folder that holds emotify/, and name the teacher, if not {checkpoint}")
        loop.keep_freed_memory(Recipe())
        music = manifest.read_manifest(HERE.parent / "music" / "manifest.tsv")
        references = _load_references(home / "emotify", music.train.vocabulary)
        paths = pipeline.RunPaths(options.music, options.store, options.to)
        chosen = [(variant, seed) for seed in options.seeds for variant in options.only]
        if options.together:
            print(
                _evaluate_ensemble(
                    [_student(*item, music, checkpoint, references, paths) for item in chosen], references
                )
            )
            return
        for variant, seed in chosen:
            if not any((item.variant, item.seed) == (variant, seed) for item in _read_results()):
                _write_result(variant, seed, _student(variant, seed, music, checkpoint, references, paths), references)
    _page(_read_results())


def variants() -> dict[str, tuple[str, ...]]:
    """Every student, with its changed settings."""
    changed = {f"{factor}: {level}": changes for factor, levels in FACTORS.items() for level, changes in levels.items()}
    return {BASE_NAME: ()} | changed


def _settings(variant: str) -> str:
    return " ".join((*BASE, *variants()[variant]))


def _recipe(variant: str) -> Recipe:
    return Recipe().change(*(item for item in _settings(variant).split() if not item.startswith(SPEED)))


def _load_references(data: Path, vocabulary: tuple[str, ...]) -> References:
    whole, _ = emotify.tracks(data)
    return References(Split(whole.tracks, vocabulary), data / "audio", people.read(data, whole.tracks))


def _student(
    variant: str, seed: int, music: Music, checkpoint: Path, references: References, paths: pipeline.RunPaths
) -> Student:
    """Train a student, or load a finished one."""
    precision = "bf16-mixed" if distributed.has_native_bfloat16() else "32-true"
    recipe = _recipe(variant).change(f"seed={seed}", f"precision={precision}")
    speeds = [float(item.partition("=")[2]) for item in _settings(variant).split() if item.startswith(SPEED)]
    name = variant.replace(": ", "-").replace(" ", "-")
    run_paths = pipeline.RunPaths(
        paths.audio_dir, paths.cache_dir, paths.run_dir / f"{name}-{seed}", parallel.cpu_count()
    )
    source = TargetSource((published.teacher(published.VGGISH, checkpoint),))
    prepared = data.prepare(Distillation(recipe, music, source, run_paths, tuple(speeds)))
    loop.fit(
        recipe,
        prepared.train_data,
        prepared.validation_data,
        prepared.statistics,
        music.train.vocabulary,
        run_paths.run_dir,
    )
    return Student(recipe, prepared.validation_data, _excerpts(recipe, references, run_paths), run_paths.run_dir)


def _write_result(variant: str, seed: int, student: Student, references: References) -> None:
    """Evaluate a student and append its line."""
    paths = checkpoints.snapshot_paths(student.recipe, student.run).values()
    snapshots = zip(("network", "average"), paths, strict=True)
    measured = {
        what: _evaluate(student.heldout_data, _predict(student, weights, references), references)
        for what, weights in snapshots
    }
    settled = {"settings": _settings(variant), "precision": student.recipe.precision}
    emotify.keep(RESULTS, {"variant": variant, "seed": seed, **measured, **settled})
    print(f"{variant}, seed {seed}: {measured}", file=sys.stderr, flush=True)


def _evaluate_ensemble(students: list[Student], references: References) -> dict[str, float]:
    """Metrics of the mean of the scores of several students with averaged weights."""
    predictions = [
        _predict(item, list(checkpoints.snapshot_paths(item.recipe, item.run).values())[-1], references)
        for item in students
    ]
    heldout, excerpts = (np.mean(scores, axis=0) for scores in zip(*predictions, strict=True))
    return _evaluate(students[0].heldout_data, (heldout, excerpts), references)


def _excerpts(recipe: Recipe, references: References, paths: pipeline.RunPaths) -> ClipDataset:
    """The mels of Emotify's excerpts, with dummy targets."""
    excerpt_paths = pipeline.RunPaths(references.audio, paths.cache_dir, paths.run_dir, paths.jobs)
    pipeline.extract_mels(references.excerpts.tracks, recipe, excerpt_paths)
    mels = excerpt_paths.mel_cache(recipe.mel)
    nothing = np.zeros((len(references.excerpts.tracks), len(references.excerpts.vocabulary)), np.float32)
    return ClipDataset(tuple(map(mels.open, references.excerpts.tracks)), TrackTargets(nothing))


def _predict(student: Student, weights: Path, references: References) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the held-out tracks and of the excerpts with a snapshot of weights."""
    vocabulary = references.excerpts.vocabulary
    net = student.recipe.net.build(n_mels=student.recipe.mel.n_mels, n_tags=len(vocabulary))
    checkpoints.load_weights(net, weights)
    heldout, excerpts = (
        validation.predict(student.recipe, net, dataset, vocabulary)
        for dataset in (student.heldout_data, student.excerpts)
    )
    return heldout, excerpts


def _evaluate(
    heldout_data: ClipDataset, predictions: tuple[np.ndarray, np.ndarray], references: References
) -> dict[str, float]:
    """Metrics of scores: against the teacher on held-out packages, and against annotators."""
    heldout, excerpts = predictions
    ranks = metrics.spearman(heldout_data.targets.per_track(), heldout)
    annotations = people.emotions(calibration.logit(excerpts), references.excerpts.vocabulary)
    values = np.median(ranks), ranks.min(), ranks.mean(), people.agreement(annotations, references.annotations).mean()
    return {name: round(float(value), 5) for name, value in zip(MEASURES, values, strict=True)}


def _read_results() -> list[Result]:
    """Results of students with the present settings."""
    lines = (Result(**line) for line in emotify.kept(RESULTS))
    return [item for item in lines if item.variant in variants() and item.settings == _settings(item.variant)]


def _page(results: list[Result]) -> None:
    """Print the table and the differences."""
    print(HEAD)
    print(f"| student | {' | '.join(MEASURES)} | seeds | parameters | work |\n|---|{'---|' * (len(MEASURES) + 3)}")
    for variant in variants():
        own = [item for item in results if item.variant == variant]
        if own:
            _row(variant, variant, [item.average for item in own])
        if own and variant == BASE_NAME:
            _row("base, without SWA", variant, [item.network for item in own])
    base = {(item.seed, item.precision): item for item in results if item.variant == BASE_NAME}
    pairs = {
        variant: [
            item.average["mean tag"] - base[item.seed, item.precision].average["mean tag"]
            for item in results
            if item.variant == variant and (item.seed, item.precision) in base
        ]
        for variant in variants()
        if variant != BASE_NAME
    }
    pairs["SWA, against the network of the last epoch"] = [
        item.average["mean tag"] - item.network["mean tag"] for item in base.values()
    ]
    if any(len(differences) > 1 for differences in pairs.values()):
        print(DIFFERENCES)
    for name, differences in pairs.items():
        if len(differences) > 1:
            _compare(name, differences)
    kinds = {"bfloat16": "bf16-mixed", "float32": "32-true"}
    seeds = {
        kind: sorted({item.seed for item in results if item.precision == precision})
        for kind, precision in kinds.items()
    }
    sentences = (
        f"in {kind} with seed{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
        for kind, numbers in seeds.items()
        if numbers
    )
    print(f"\nTrained {' and '.join(sentences)}.")
    print(CHOICE)


def _row(name: str, variant: str, values: list[Mapping[str, float]]) -> None:
    columns = [[item[measure] for item in values] for measure in MEASURES]
    cells = [emotify.spread(item) if len(item) > 1 else f"{item[0]:.3f}" for item in columns]
    recipe = _recipe(variant)
    cost = summary.summarize(recipe.net, recipe.mel)
    print(f"| {name} | {' | '.join(cells)} | {len(values)} | {cost.parameters / 1_000:.0f} | {cost.gmac * 1_000:.0f} |")


def _compare(name: str, differences: list[float]) -> None:
    mean, count = float(np.mean(differences)), len(differences)
    half_width = float(stats.t.ppf(0.975, count - 1) * np.std(differences, ddof=1) / np.sqrt(count))
    verdict = "no significant difference" if abs(mean) <= half_width else "better" if mean > 0 else "worse"
    print(f"- {name}: {mean:+.4f} ({mean - half_width:+.4f} … {mean + half_width:+.4f}); {verdict}.")


if __name__ == "__main__":
    main()
