"""Which tags tracks get, chosen by scores alone, and how well a student decides.

In: scores of music of many kinds. Out: thresholds under which most tracks get a few tags; figures about decisions.
Knows nothing of: truth, networks, or where the music came from.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from moodfield import metrics

RAREST, COMMONEST = 0.01, 0.22
"""share of the tracks that every tag is decided for: at least and at most"""
FEW = 4
"""tags of a track beyond which each one more counts as a fault when thresholds are chosen"""
NOTHING = 8
"""faults that a track without any tag counts as"""
SWEEPS = 20
"""times that every tag's threshold is looked at again, at most"""


def thresholds(scores: Float[np.ndarray, "tracks tags"]) -> Float64[np.ndarray, "tags"]:
    """Thresholds under which most tracks get one to five tags, every tag is used, and none is everywhere.

    A network's scores say little by themselves: `film` is high for nearly all music of games. So every tag begins with
    a threshold that as many tracks pass as have it among their three clearest (scores standardised over the tracks),
    and then, tag by tag, takes the one with the fewest faults: tracks without a tag, and tags beyond the first few.
    """
    logits = np.log(scores.astype(np.float64)) - np.log1p(-scores.astype(np.float64))
    tracks, count = logits.shape
    order = np.argsort(-logits, axis=0, kind="stable")
    clearest = np.argsort(-_standard(logits), axis=1)[:, :3]
    least, most = math.ceil(RAREST * tracks), int(COMMONEST * tracks)
    passing = np.clip(np.bincount(clearest.ravel(), minlength=count), least, most)
    decided = np.zeros((tracks, count), bool)
    for tag in range(count):
        decided[order[: passing[tag], tag], tag] = True
    for _ in range(SWEEPS):
        before = passing.copy()
        for tag in range(count):
            others = decided.sum(axis=1) - decided[:, tag]
            # Faults if the first k tracks by this tag's score had it, for every k at once.
            gained = np.cumsum(_faults(others + 1)[order[:, tag]] - _faults(others)[order[:, tag]])
            best = least + int(np.argmin(gained[least - 1 : most]))
            if gained[best - 1] < gained[passing[tag] - 1]:
                passing[tag] = best
                decided[:, tag] = False
                decided[order[:best, tag], tag] = True
        if (passing == before).all():
            break
    ranked = np.take_along_axis(scores.astype(np.float64), order, axis=0)
    last = np.take_along_axis(ranked, passing[None] - 1, axis=0)[0]
    following = np.take_along_axis(ranked, np.minimum(passing, tracks - 1)[None], axis=0)[0]
    return np.asarray((last + following) / 2)


def agreement(
    teacher_logits: Float32[np.ndarray, "tracks tags"],
    scores: Float32[np.ndarray, "tracks tags"],
    levels: Float64[np.ndarray, "tags"],
) -> dict[str, float]:
    """How a student agrees with its teacher on held-out tracks, and how sensible its decisions look there."""
    ranks = metrics.spearman(teacher_logits, scores)
    decided = metrics.decide(scores, levels)
    each = decided.sum(axis=1)
    top = [np.argsort(-values, axis=1)[:, :5] for values in (teacher_logits, scores)]
    return {
        "held-out tracks": float(len(scores)),
        "Spearman with the teacher, median tag": float(np.median(ranks)),
        "Spearman with the teacher, worst tag": float(ranks.min()),
        "of the teacher's five highest tags, found": float(
            np.mean([len(set(one) & set(other)) for one, other in zip(*top, strict=True)])
        ),
        "share of tracks with one to five tags": float(((each >= 1) & (each <= 5)).mean()),
        "share of tracks with no tag": float((each == 0).mean()),
        "different tags used": float(decided.any(axis=0).sum()),
        "share of tracks with the commonest tag": float(decided.mean(axis=0).max()),
    }


def by_agreement(
    teacher: Float[np.ndarray, "tracks tags"],
    student: Float[np.ndarray, "tracks tags"],
    teacher_decided: Bool[np.ndarray, "tracks tags"],
    decided: Bool[np.ndarray, "tracks tags"],
) -> Int64[np.ndarray, "tracks"]:
    """The tracks, from those of which a student decides what its teacher does to those of which it decides otherwise.

    That is the share of the tags either decides that both decide. Equal ones are in the order of how alike their logits
    are, `teacher` and `student`, each in standard deviations from its tag's mean, lest common tags rule every track.
    """
    both, either = teacher_decided & decided, teacher_decided | decided
    shared = np.where(either.any(axis=1), both.sum(axis=1) / np.maximum(either.sum(axis=1), 1), 1.0)
    alike = metrics.spearman(_standard(teacher).T, _standard(student).T)
    return np.lexsort((-alike, -shared))


def _standard(logits: Float[np.ndarray, "tracks tags"]) -> Float64[np.ndarray, "tracks tags"]:
    """In standard deviations from the mean over tracks."""
    wide = logits.astype(np.float64)
    return np.asarray((wide - wide.mean(axis=0)) / wide.std(axis=0))


def _faults(tags_each: Int64[np.ndarray, "tracks"]) -> Int64[np.ndarray, "tracks"]:
    """Faults of tracks with so many tags each."""
    return np.where(tags_each == 0, NOTHING, np.maximum(tags_each - FEW, 0))
