"""Learn tags from labelled tracks: a linear head on the embedding of a base model, as a model folder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from moodfield import errors, tagger
from moodfield.card import Card, Provenance
from moodfield.errors import DatasetError, MoodfieldError
from moodfield.evaluation import bootstrap
from moodfield.evaluation.bootstrap import Interval
from moodfield.learn import embeddings, head, model_folder
from moodfield.learn.embeddings import Progress
from moodfield.learn.head import MIN_POSITIVES, Fit
from moodfield.learn.labels import Labels

CACHE_DIR = Path(".cache/moodfield")
"""default folder of cached embeddings"""


@dataclass(frozen=True)
class TagResult:
    """How well a tag is predicted for tracks that were left out of the fit."""

    tag: str
    """name of the tag"""
    positives: int
    """labelled tracks with the tag"""
    tracks: int
    """labelled tracks"""
    pr_auc: float
    """area under the precision-recall curve, out of fold; chance is positives / tracks"""
    pr_auc_interval: Interval
    """95 % interval over tracks; NaN for few positives"""
    roc_auc: float
    """area under the ROC curve, out of fold; chance is 0.5"""
    roc_auc_interval: Interval
    """95 % interval over tracks; NaN for few positives"""

    @property
    def verdict(self) -> str:
        """Whether the tag can be learned from these tracks, in words."""
        low = self.roc_auc_interval.low
        if np.isnan(low):
            return "too few tracks to tell"
        return "learned" if low > 0.5 else "not better than chance"


@dataclass(frozen=True, eq=False)
class Learned:
    """The result of learning: a model folder, and how good it is."""

    card: Card
    """card of the model"""
    results: tuple[TagResult, ...]
    """how well every tag is predicted"""
    fit: Fit
    """the head and its cross-validation"""
    left_out: tuple[str, ...]
    """tags with too few tracks"""


def learn(
    labels: Labels,
    folder: str | Path,
    *,
    base: str | Path = "default",
    cache_dir: str | Path = CACHE_DIR,
    jobs: int = 1,
    name: str = "mine",
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> Learned:
    """Learn tags from labelled tracks, and write the model folder.

    Args:
        labels: Tracks and their tags; a track without a tag is a negative of it.
        folder: Model folder to write.
        base: Name, folder or run of a model with an embedding.
        cache_dir: Folder of the cache of embeddings.
        jobs: Number of processes that compute embeddings.
        name: Name of the model.
        seed: Of the division of tracks into parts of the cross-validation.
        progress: Called for every track, with the error if it failed; such tracks are left out.

    Raises:
        DatasetError: No tag has enough tracks with it and without it.
        ModelError: The base has no embedding.
        OutputError: The folder holds files that are not of a model.
    """
    computed = embeddings.compute(base, labels.paths, cache_dir, jobs=jobs, progress=progress)
    rows = [row for row, path in enumerate(labels.paths) if path in computed]
    truth = labels.truth[rows]
    enough = np.minimum(truth.sum(axis=0), (~truth).sum(axis=0)) >= MIN_POSITIVES
    vocabulary = tuple(tag for tag, keep in zip(labels.vocabulary, enough, strict=True) if keep)
    left_out = tuple(tag for tag, keep in zip(labels.vocabulary, enough, strict=True) if not keep)
    if not vocabulary:
        raise DatasetError(
            f"no tag has {MIN_POSITIVES} tracks with it and {MIN_POSITIVES} without it among {len(rows)} tracks that "
            "could be read; label more"
        )
    values = np.stack([computed[labels.paths[row]] for row in rows])
    fit = head.fit(values, truth[:, enough], [labels.groups[row] for row in rows], seed=seed)
    results = evaluate(fit, truth[:, enough], vocabulary)
    card = model_folder.write(tagger.model_folder(base), fit, vocabulary, Path(folder), name=name, results=results)
    return Learned(card, results, fit, left_out)


def evaluate(fit: Fit, truth: head.Truth, vocabulary: Sequence[str]) -> tuple[TagResult, ...]:
    """Evaluate the out-of-fold scores of a fit, tag by tag."""
    resampled = bootstrap.bootstrap(truth, fit.scores, tags=vocabulary)
    intervals = bootstrap.tag_intervals(resampled)
    return tuple(
        TagResult(
            tag,
            int(truth[:, column].sum()),
            len(truth),
            float(resampled.report.per_tag["PR-AUC"][column]),
            intervals["PR-AUC"][column],
            float(resampled.report.per_tag["ROC-AUC"][column]),
            intervals["ROC-AUC"][column],
        )
        for column, tag in enumerate(vocabulary)
    )
