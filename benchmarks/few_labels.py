"""Few labelled tracks: training from scratch, a linear head, and fine-tuning, on Emotify's five folds.

    MOODFIELD_DATA=… python benchmarks/few_labels.py [--to runs/few_labels] [--folds 0-4] [--only NAME …] [--choose]

A fold is held out; of the other four the first 20, 50, 100, 200 and 240 tracks of one order are the labelled ones. The
order of a fold is one in which every emotion is among the first 20: of 1,000 random ones, the one in which the rarest
emotion there has the most tracks. Nothing is chosen on the held-out fold: networks are evaluated after their last
epoch, the C of the head is chosen by cross-validation over the labelled tracks. `--choose` compares settings of
fine-tuning instead, on two divisions of the tracks outside the held-out fold 0. The result of a system is a line of
few_labels.jsonl beside this script: it is not trained again unless its settings changed, or its line and its run are
deleted; a run that was stopped resumes. Prints docs/few_labels.md.
"""

import argparse
import hashlib
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import matplotlib.pyplot as plt
import numpy as np

import emotify
import outputs
from emotify import FOLDS
from moodfield import parallel, tagger
from moodfield.card import WEIGHTS, Card
from moodfield.datasets.mtg_jamendo import Split
from moodfield.evaluation import metrics
from moodfield.learning import head
from moodfield.training import distributed, fine_tuning, loop, pipeline, validation
from moodfield.training.pipeline import RunPaths
from moodfield.training.recipe import FINE_TUNING, Recipe

SIZES = (20, 50, 100, 200, 240)
"""numbers of labelled tracks"""
FIRST = 20
"""tracks that have all emotions"""
ORDERS = 1_000
"""random orders that one is chosen from"""
FEW = 40
"""with fewer labelled tracks an epoch is so short that networks are trained for twice as many"""
BASE = "default"
SCRATCH, HEAD, TUNED = "from scratch", "linear head", "fine-tuned"
SYSTEMS = (SCRATCH, HEAD, TUNED)
CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "body 0.1": (),
        "body 0": ("schedule.body_rate=0",),
        "body 0.03": ("schedule.body_rate=0.03",),
        "body 0.3": ("schedule.body_rate=0.3",),
    }
)
"""settings of fine-tuning beside the recipe that `--choose` compares"""
RESULTS = Path(__file__).with_suffix(".jsonl")
PICTURE = Path("docs/few_labels.png")
GOAL = 0.62
"""macro PR-AUC with all labelled tracks, of the better of head and fine-tuning"""
PAGE = """# Few labelled tracks

How good are tags of your own, learned from 20 to 240 labelled tracks? Emotify has 300 one-minute excerpts and nine
emotions; in each of five folds 60 excerpts are held out, and systems learn from the first 20, 50, 100, 200 and 240 of
the others (`benchmarks/few_labels.py`). The bundled model was not trained on Emotify.

- *{scratch}*: a small FA-ResNet with random weights, `benchmarks/emotify.py`.
- *{head}*: `moodfield learn`, a logistic regression on the embedding of the bundled model; seconds, no torch.
- *{tuned}*: as `moodfield train --init default`, by the recipe `fine_tuning`; minutes on a CPU. The recipe was chosen
  outside of the first fold (`--choose`).

Networks are evaluated after their last epoch; with 20 tracks they have twice as many. On CPUs with bf16 instructions
they are trained in bf16.

Macro PR-AUC ± standard deviation over folds; below it macro ROC-AUC. Chance is {chance:.3f} and .5.
"""


@dataclass(frozen=True)
class Labelled:
    """The excerpts, and what systems take of them."""

    whole: Split
    """all excerpts"""
    folds: np.ndarray
    """fold of each"""
    embeddings: np.ndarray
    """embeddings by the base model"""
    paths: RunPaths
    """folders"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path("runs/few_labels"))
    parser.add_argument("--store", type=Path, default=Path(".cache/moodfield"))
    parser.add_argument("--jobs", type=int, default=parallel.cpu_count())
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(FOLDS)))
    parser.add_argument("--only", nargs="*", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--choose", action="store_true", help="compare settings of fine-tuning outside of fold 0")
    parser.add_argument("--page", action="store_true", help="train nothing, print the page of the finished systems")
    options = parser.parse_args()
    data = outputs.data_folder("emotify") / "emotify"
    whole, folds = emotify.tracks(data)
    paths = RunPaths(data / "audio", options.store, options.to, options.jobs)
    if not options.page:
        embeddings = outputs.of_model(BASE, whole.tracks, paths).embeddings
        labelled = Labelled(whole, folds, embeddings, paths)
        loop.keep_freed_memory(Recipe())
        for system in (TUNED,) if options.choose else (SCRATCH, TUNED):
            pipeline.extract_mels(whole.tracks, _recipe(system), paths)
        if options.choose:
            _choose(labelled)
            return
        for fold, size, system in ((fold, size, name) for fold in options.folds for size in SIZES for name in SYSTEMS):
            if system in options.only and not _is_done(system, size, fold):
                _run(system, size, fold, labelled)
    _page(whole)


def _recipe(system: str, size: int = max(SIZES)) -> Recipe:
    """The recipe of a system for a number of labelled tracks."""
    if system == TUNED:
        recipe = fine_tuning.with_model(FINE_TUNING.recipe, tagger.model_folder(BASE))
    else:
        recipe = Recipe().change(*emotify.SETTINGS)
    precision = "bf16-mixed" if distributed.has_native_bfloat16() else "32-true"
    recipe = recipe.change(f"precision={precision}")
    schedule = recipe.schedule
    if size < FEW:
        phases = {name: 2 * getattr(schedule, name) for name in ("warm_up", "constant", "decay", "final")}
        schedule = replace(schedule, **phases)
    return replace(recipe, schedule=schedule, validate_every=schedule.epochs)


def _run(system: str, size: int, fold: int, labelled: Labelled) -> None:
    """Train a system, evaluate it on the held-out fold, and append its line."""
    rows, test = order(labelled.whole.truth, labelled.folds != fold, seed=fold)[:size], labelled.folds == fold
    test_rows = np.flatnonzero(test)
    if system == HEAD:
        scores = _fit_head(labelled, rows, test_rows)
    else:
        run = labelled.paths.run_dir / f"{system.replace(' ', '-')}-{size}-{fold}"
        scores = _train(_recipe(system, size), labelled, rows, test_rows, run, base=system == TUNED)
    macro = _evaluate(labelled.whole.truth[test_rows], scores)
    line = {"system": system, "size": size, "fold": fold, "settings": _settings(system, size)}
    emotify.keep(RESULTS, line | {name: round(value, 5) for name, value in macro.items()})
    print(f"{system}, {size} tracks, fold {fold}: {macro}", file=sys.stderr, flush=True)


def order(truth: np.ndarray, available: np.ndarray, *, seed: int) -> np.ndarray:
    """Available rows in an order in which the rarest tag is as frequent as possible among the first."""
    generator = np.random.default_rng(seed)
    orders = (generator.permutation(np.flatnonzero(available)) for _ in range(ORDERS))
    return max(orders, key=lambda rows: int(truth[rows[:FIRST]].sum(axis=0).min()))


def _fit_head(labelled: Labelled, rows: np.ndarray, test_rows: np.ndarray) -> np.ndarray:
    """Logits of the held-out tracks by the linear head of `moodfield learn`."""
    truth, embeddings = labelled.whole.truth[rows], labelled.embeddings
    fit = head.fit(embeddings[rows], truth, [labelled.whole.tracks[row].id for row in rows])
    return fit.head.logits(embeddings[test_rows])


def _train(
    recipe: Recipe, labelled: Labelled, rows: np.ndarray, test_rows: np.ndarray, run: Path, *, base: bool
) -> np.ndarray:
    """Scores of the held-out tracks by a network after its last epoch."""
    whole, paths = labelled.whole, labelled.paths
    truth = whole.truth.astype(np.float32)
    train_data, test_data = (
        pipeline.load_dataset(whole.take(part.tolist()), truth[part], recipe, paths) for part in (rows, test_rows)
    )
    statistics = paths.mel_cache(recipe.mel).statistics(whole.take(rows.tolist()).tracks)
    initial = fine_tuning.initial_weights(tagger.model_folder(BASE), whole.vocabulary) if base else None
    net = loop.fit(recipe, train_data, test_data, statistics, whole.vocabulary, run, initial_weights=initial)
    return validation.predict(recipe, net, test_data, whole.vocabulary)


def _evaluate(truth: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    macro = metrics.evaluate(truth, scores).macro
    return {name: float(macro[name]) for name in ("PR-AUC", "ROC-AUC")}


def _choose(labelled: Labelled) -> None:
    """Compare settings of fine-tuning: folds 1 and 2 are predicted from the others without fold 0."""
    for name, settings in CHOICES.items():
        recipe = _recipe(TUNED).change(*settings)
        recipe = replace(recipe, validate_every=recipe.schedule.epochs)
        values = []
        for fold in (1, 2):
            rows, test_rows = (np.flatnonzero(part) for part in _inner(labelled.folds, fold))
            run = labelled.paths.run_dir / f"choose-{name.replace(' ', '-')}-{fold}"
            scores = _train(recipe, labelled, rows, test_rows, run, base=True)
            values.append(_evaluate(labelled.whole.truth[test_rows], scores)["PR-AUC"])
        print(f"{name}: {' '.join(f'{value:.4f}' for value in values)}, mean {np.mean(values):.4f}", flush=True)


def _inner(folds: np.ndarray, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """Tracks to train on and to choose by, without fold 0."""
    return (folds != 0) & (folds != fold), folds == fold


def _settings(system: str, size: int) -> str:
    """What identifies the settings of a system: its recipe, and the base model that it starts from."""
    recipe = "" if system == HEAD else _recipe(system, size).change("precision=32-true").to_json()
    base = "" if system == SCRATCH else Card.read(tagger.model_folder(BASE)).sha256[WEIGHTS]
    return hashlib.sha256(f"{recipe} {base}".encode()).hexdigest()[:16]


def _is_done(system: str, size: int, fold: int) -> bool:
    wanted = (system, size, fold, _settings(system, size))
    return any((line["system"], line["size"], line["fold"], line["settings"]) == wanted for line in _read())


def _read() -> list[dict[str, str | int | float]]:
    """The lines of systems with their present settings."""
    return [line for line in emotify.kept(RESULTS) if line["settings"] == _settings(line["system"], line["size"])]


def _page(whole: Split) -> None:
    lines = _read()
    print(PAGE.format(scratch=SCRATCH, head=HEAD, tuned=TUNED, chance=float(whole.truth.mean(axis=0).mean())))
    _table(lines, "PR-AUC")
    print()
    _table(lines, "ROC-AUC")
    print(
        f"\n![PR-AUC by the number of labelled tracks]({PICTURE.name})\n\nDifferences of PR-AUC, {emotify.INTERVALS}:\n"
    )
    for size in SIZES:
        for system in (HEAD, TUNED):
            one, other = _values(lines, system, size, "PR-AUC"), _values(lines, SCRATCH, size, "PR-AUC")
            if both := sorted(one.keys() & other.keys()):
                differences = [one[fold] - other[fold] for fold in both]
                share = whole.truth.shape[0] / FOLDS / size
                print(f"- {size} tracks: {emotify.sentence(system, SCRATCH, differences, share=share)}")
    _goals(lines)
    _plot(lines)


def _goals(lines: Sequence[Mapping[str, float]]) -> None:
    """Print whether the goals are met."""
    means = {
        (system, size): float(np.mean(list(_values(lines, system, size, "PR-AUC").values()) or [math.nan]))
        for system in SYSTEMS
        for size in SIZES
    }
    worse = [str(size) for size in SIZES if max(means[HEAD, size], means[TUNED, size]) <= means[SCRATCH, size]]
    where = "at every size" if not worse else f"but not with {', '.join(worse)} tracks"
    best = max((HEAD, TUNED), key=lambda system: means[system, max(SIZES)])
    value = means[best, max(SIZES)]
    print(
        f"\nGoals: the better of head and fine-tuning is above training from scratch, {where}; and above {GOAL} with "
        f"{max(SIZES)} tracks: {best}, {value:.3f}, {'met' if value > GOAL else 'missed'}."
    )


def _values(lines: Sequence[Mapping[str, float]], system: str, size: int, metric: str) -> dict[int, float]:
    """The metric of every fold."""
    return {line["fold"]: line[metric] for line in lines if (line["system"], line["size"]) == (system, size)}


def _table(lines: Sequence[Mapping[str, float]], metric: str) -> None:
    print(f"| {metric} | {' | '.join(map(str, SIZES))} |\n|---|{'--:|' * len(SIZES)}")
    for system in SYSTEMS:
        cells = [list(_values(lines, system, size, metric).values()) for size in SIZES]
        print(f"| {system} | {' | '.join(emotify.spread(cell) if cell else '–' for cell in cells)} |")


def _plot(lines: Sequence[Mapping[str, float]]) -> None:
    """Draw the curves with standard errors over folds."""
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for system in SYSTEMS:
        cells = {size: list(_values(lines, system, size, "PR-AUC").values()) for size in SIZES}
        cells = {size: values for size, values in cells.items() if len(values) > 1}
        errors = [np.std(values, ddof=1) / math.sqrt(len(values)) for values in cells.values()]
        axes.errorbar(
            list(cells), [np.mean(item) for item in cells.values()], errors, marker="o", capsize=3, label=system
        )
    axes.set(xlabel="labelled tracks", ylabel="macro PR-AUC, mean and standard error", xticks=SIZES)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(PICTURE, dpi=150)


if __name__ == "__main__":
    main()
