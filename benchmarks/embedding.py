"""Linear heads on Emotify's five folds: on embeddings, on logits of moods, and on statistics of the mel.

    MOODFIELD_DATA=… python benchmarks/embedding.py [NAME=MODEL …]

No MODEL is trained on Emotify; the first one's embedding is compared with all others. Prints the section *Embedding* of
docs/model.md. Outputs of models and teachers are cached.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import emotify
import outputs
from emotify import FOLDS
from moodfield import parallel
from moodfield.datasets.mtg_jamendo import Split, Track
from moodfield.distillation.teachers import msd_musicnn, published, teacher
from moodfield.evaluation import metrics
from moodfield.training import pipeline
from moodfield.training.pipeline import RunPaths
from moodfield.training.recipe import Recipe
from outputs import ENSEMBLE

STRENGTHS = tuple(float(item) for item in np.logspace(-5, 0, 11))
"""candidates for C, the inverse strength of the L2 penalty"""
GOAL = 0.62
"""macro PR-AUC of a linear head on the embedding"""
MSD = "msd_musicnn"
HEAD = """
## Embedding

Linear heads for the nine emotions of Emotify, {tracks} excerpts, five fixed folds (`benchmarks/embedding.py`): a
logistic regression on standardized features for each emotion, with one C for all of them. In each fold C is the best of
{strengths} by macro PR-AUC, in a cross-validation over the other four. No model was trained on Emotify. ± is the
standard deviation over folds. *MSD_musicnn* is one of the teachers; *mel* is the mean, the standard deviation and five
percentiles of each of {bands} bands.
"""


@dataclass(frozen=True)
class Result:
    """Results of the heads on some features."""

    size: int
    """number of features"""
    pr_auc: tuple[float, ...]
    """macro PR-AUC of every fold"""
    roc_auc: tuple[float, ...]
    """macro ROC-AUC of every fold"""
    strengths: tuple[float, ...]
    """C of every fold"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["the model=default"], help="NAME=MODEL, or MODEL")
    parser.add_argument("--store", type=Path, default=Path(".cache/moodfield"))
    parser.add_argument("--ensemble", type=Path, default=Path(".cache/teachers/ensemble.json"))
    parser.add_argument("--jobs", type=int, default=parallel.cpu_count())
    options = parser.parse_args()
    data = outputs.data_folder("emotify", "teachers", "vggish")
    whole, folds = emotify.tracks(data / "emotify")
    paths = RunPaths(data / "emotify" / "audio", options.store, Path(), options.jobs)
    recipe = Recipe().change(*emotify.SETTINGS)
    models = outputs.named_models(options.models)
    features = _model_features(models, whole, paths)
    features |= {
        f"{ENSEMBLE}: logits": outputs.of_teachers(data, options.ensemble, whole.tracks, paths)[ENSEMBLE],
        "MSD_musicnn: embedding": _msd_embedding(data, whole.tracks, paths),
        "mel": _mel_features(whole.tracks, recipe, paths),
    }
    results = {name: evaluate(values, whole.truth, folds) for name, values in features.items()}
    print(HEAD.format(tracks=len(whole.tracks), strengths=len(STRENGTHS), bands=recipe.mel.n_mels))
    print(f"| features | number | macro PR-AUC | macro ROC-AUC | {' | '.join(f'fold {i + 1}' for i in range(FOLDS))} |")
    print(f"|---|{'--:|' * (3 + FOLDS)}")
    for name, result in results.items():
        means = [emotify.spread(list(values)) for values in (result.pr_auc, result.roc_auc)]
        cells = [str(result.size), *means, *(f"{value:.3f}" for value in result.pr_auc)]
        print(f"| {name} | {' | '.join(cells)} |")
    _compare(results, next(iter(models)))


def _model_features(models: Mapping[str, str], whole: Split, paths: RunPaths) -> dict[str, np.ndarray]:
    """The embedding of every model that has one, and its logits."""
    features = {}
    for name, model in models.items():
        tagged = outputs.of_model(model, whole.tracks, paths)
        if len(tagged.tracks) != len(whole.tracks):
            raise SystemExit(f"{len(tagged.tracks)} of {len(whole.tracks)} excerpts could be read; get Emotify again")
        if (embeddings := tagged.embeddings) is not None:
            features[f"{name}: embedding"] = embeddings
        features[f"{name}: logits"] = tagged.logits
    return features


def _msd_embedding(data: Path, tracks: Sequence[Track], paths: RunPaths) -> np.ndarray:
    """The embedding of MSD_musicnn, mean over the windows of every track, whose outputs were computed."""
    source = next(item for item in published.teachers(data) if item.name == MSD)
    loaded = teacher.load(source, tracks, paths.audio_dir, paths.cache_dir)
    return np.stack([item.values[:, len(msd_musicnn.VOCABULARY) :].mean(axis=0) for item in loaded])


def _mel_features(tracks: Sequence[Track], recipe: Recipe, paths: RunPaths) -> np.ndarray:
    """Statistics of the mel of `benchmarks/emotify.py`."""
    pipeline.extract_mels(tracks, recipe, paths)
    mels = paths.mel_cache(recipe.mel)
    return np.stack([emotify.mel_statistics(mels.open(track)) for track in tracks])


def evaluate(features: np.ndarray, truth: np.ndarray, folds: np.ndarray) -> Result:
    """Fit heads on four folds at a time, with the C that is best within them, and evaluate them on the fifth."""
    scores, chosen = [], []
    for fold in range(FOLDS):
        train = folds != fold
        chosen.append(choose_strength(features[train], truth[train], folds[train]))
        scores.append(_score(features, truth, train, chosen[-1]))
    pr_auc, roc_auc = zip(*scores, strict=True)
    return Result(features.shape[1], pr_auc, roc_auc, tuple(chosen))


def choose_strength(features: np.ndarray, truth: np.ndarray, folds: np.ndarray) -> float:
    """The C with the best macro PR-AUC in a cross-validation over the folds that are here."""
    means = [
        np.mean([_score(features, truth, folds != fold, strength)[0] for fold in np.unique(folds)])
        for strength in STRENGTHS
    ]
    return STRENGTHS[int(np.argmax(means))]


def _score(features: np.ndarray, truth: np.ndarray, train: np.ndarray, strength: float) -> tuple[float, float]:
    """Macro PR-AUC and ROC-AUC, on the other rows, of heads fitted on some rows."""
    standard = StandardScaler().fit(features[train]).transform(features)
    scores = [
        LogisticRegression(C=strength, max_iter=5_000).fit(standard[train], tag[train]).predict_proba(standard[~train])
        for tag in truth.T
    ]
    macro = metrics.evaluate(truth[~train], np.stack([item[:, 1] for item in scores], axis=1)).macro
    return macro["PR-AUC"], macro["ROC-AUC"]


def _compare(results: Mapping[str, Result], model: str) -> None:
    """Print the goal, and the first model's embedding compared with the other features."""
    first = f"{model}: embedding"
    if first not in results:
        print(f"\n{model} has no embedding.")
        return
    mean = float(np.mean(results[first].pr_auc))
    print(f"\nThe goal for *{first}* is {GOAL:.2f}: {'met' if mean >= GOAL else 'missed'}. Differences of PR-AUC,")
    print(f"{emotify.INTERVALS}:\n")
    for name, result in results.items():
        if name != first:
            differences = [one - other for one, other in zip(results[first].pr_auc, result.pr_auc, strict=True)]
            print(f"- {emotify.sentence(f'*{first}*', f'*{name}*', differences)}")


if __name__ == "__main__":
    main()
