"""Export a learned head as a model folder, atomically."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import moodfield
from moodfield import files, verify
from moodfield.card import EMBEDDING, LOGITS, NETWORK, Card, Head, Provenance
from moodfield.engine import OnnxEngine
from moodfield.errors import OutputError
from moodfield.learning import network
from moodfield.learning.examples import GroupedBy
from moodfield.learning.head import Fit
from moodfield.learning.network import BaseNetwork
from moodfield.learning.results import METRICS, TagResult
from moodfield.predictor import LoadedModel
from moodfield.training import model_folder


@dataclass(frozen=True)
class Description:
    """What the card and the README of a learned model state about it."""

    name: str
    """name of the model"""
    results: Sequence[TagResult]
    """how well every tag is predicted, and which tags were left out"""
    grouped_by: GroupedBy
    """what was not divided in the cross-validation"""
    keep_tags: bool = False
    """whether the model keeps the tags of its base, and the learned ones are a further head with the same name"""


def check_target(folder: str | Path) -> Path:
    """The path of a model folder with links followed; raises `OutputError` unless it may be written and replaced."""
    files.check_name(folder)
    target = Path(os.path.realpath(folder))
    files.restore_directory(target)
    model_folder.check_folder(target)
    parent = target.parent
    while not os.path.lexists(parent):
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{folder} cannot be written: {parent} is no folder that may be written to; name another")
    return target


def write(base: BaseNetwork, base_provenance: Provenance, fit: Fit, description: Description, target: Path) -> Card:
    """Write the model folder of a fit; an exception leaves the former folder, and nothing else.

    Raises:
        ModelError: The network of the base model cannot be used.
        OutputError: The folder cannot be written, or holds files that are not of a model.
    """
    try:
        with files.partial_directory(target, names=model_folder.MODEL_FILES) as draft:
            network.write(base, fit.head, draft, further=description.name if description.keep_tags else None)
            card = _describe(base.card, fit, description)
            logits = verify.reference_logits(LoadedModel(card, OnnxEngine(draft / NETWORK, threads=1)))
            card = replace(card, reference_logits=tuple(float(f"{logit:.7g}") for logit in logits))
            provenance = _provenance(base.card, fit, description)
            if description.keep_tags:
                provenance = _joined(base_provenance, provenance, description.name)
            card = model_folder.write_card(card, provenance, draft)
            model_folder.check_folder(target)
            files.replace_directory(draft, target)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{target} cannot be written ({reason}); free space, or name another folder") from error
    return card


def _describe(base: Card, fit: Fit, description: Description) -> Card:
    """The card of a learned model, without reference logits and checksums."""
    learned = [result for result in description.results if not result.obstacle]
    n_tags = len(learned)
    tags = f"{n_tags} tag" if n_tags == 1 else f"{n_tags} tags"
    summary = f"{tags} learned from {learned[0].tracks:,} tracks: a linear head on the embedding of {base.name}."
    head = Head(
        name=description.name,
        vocabulary=tuple(result.tag for result in learned),
        thresholds=tuple(fit.thresholds.tolist()),
        calibration=fit.calibration,
        priors=tuple(result.chance for result in learned),
    )
    if description.keep_tags:
        return replace(
            base,
            name=description.name,
            summary=f"{summary} It keeps the tags of {base.name}.",
            reference_logits=(),
            outputs={**base.outputs, head.name: n_tags},
            heads=(*base.heads, head),
            sha256={},
        )
    return replace(
        base,
        name=description.name,
        summary=summary,
        vocabulary=head.vocabulary,
        themes=(),
        thresholds=head.thresholds,
        calibration=head.calibration,
        priors=head.priors,
        reference_logits=(),
        outputs={LOGITS: n_tags, EMBEDDING: base.outputs[EMBEDDING]},
        heads=(),
        statistics=None,
        sha256={},
    )


def _provenance(base: Card, fit: Fit, description: Description) -> Provenance:
    """Where a learned model comes from, and its metrics."""
    learned = [result for result in description.results if not result.obstacle]
    left_out = [f"{result.tag} ({result.obstacle})" for result in description.results if result.obstacle]
    values = np.array([(result.pr_auc, result.roc_auc) for result in learned])
    metrics = {f"{metric}-macro": float(value) for metric, value in zip(METRICS, values.mean(axis=0), strict=True)}
    for result in learned:
        metrics |= {f"PR-AUC of {result.tag}": result.pr_auc, f"ROC-AUC of {result.tag}": result.roc_auc}
    counts = ", ".join(f"{result.tag} {result.positives:,}" for result in learned)
    origin = {
        "base": f"{base.name}, `{NETWORK}` with SHA-256 {base.sha256.get(NETWORK, 'unknown')}",
        "head": f"a logistic regression for every tag, C = {fit.strength:.3g}, by moodfield {moodfield.__version__}",
        "calibration": "slope and offset of every tag, and its threshold, by out-of-fold logits of the labelled tracks",
    }
    data = {"tracks": f"{learned[0].tracks:,}", "tracks with each tag": counts}
    data |= {"tags that could not be learned": ", ".join(left_out)} if left_out else {}
    limits = (
        f"Metrics are of a cross-validation over the labelled tracks, divided by {description.grouped_by}; on other "
        "music the model may be worse.",
        "Tracks without a tag counted as negatives of it.",
    )
    return Provenance(origin=origin, training_data=data, metrics=metrics, limits=limits)


def _joined(base: Provenance, learned: Provenance, head: str) -> Provenance:
    """The provenance of a base that keeps its tags, and of a further head, whose values have its name before theirs."""

    def named(values: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{head}: {name}": value for name, value in values.items()}

    return Provenance(
        origin={**base.origin, **named(learned.origin)},
        training_data={**base.training_data, **named(learned.training_data)},
        metrics={**base.metrics, **named(learned.metrics)},
        limits=(*base.limits, *(f"{head}: {limit}" for limit in learned.limits)),
        examples=base.examples,
    )
