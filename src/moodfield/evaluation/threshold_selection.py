"""Which tags tracks get, chosen by scores alone, and how well a student decides.

In: scores of music of many kinds. Out: thresholds under which most tracks get a few clear tags; figures about them.
Knows nothing of: truth, networks, or where the music came from.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Shaped

from moodfield import calibration
from moodfield.evaluation import bootstrap, metrics
from moodfield.evaluation.metrics import PerTag

MIN_SHARE, MAX_SHARE = 0.003, 0.29
"""share of the tracks that every tag is decided for: at least of all, at most of each part"""
NO_TAG_COST = 20.0
"""faults that a track without any tag counts as"""
MAX_FREE_TAGS = 5
"""tags of a track beyond which each one more counts as a fault"""
TOP_TAGS, TOP_TAG_GAIN = 3, 0.5
"""tags of a track that had better be decided, and the faults that each of them takes away"""
LAST_FREE_RANK, RANK_COST, MAX_COSTLY_RANKS = 6, 0.2, 6
"""tags of a track that are clear; the faults of every place that a decided tag is beyond them, and most such places"""
MAX_COUNT_RATIO = 1.25
"""how many times more or fewer tracks a tag is decided for than by somebody whom decisions are to be like"""
MAX_SWEEPS = 40
"""times that every tag's threshold is looked at again, at most"""


def select_thresholds(
    scores: Float[np.ndarray, "tracks tags"],
    *,
    priors: Sequence[float] | None = None,
    groups: Shaped[np.ndarray, "tracks"] | None = None,
    reference: Bool[np.ndarray, "tracks tags"] | None = None,
) -> Float64[np.ndarray, "tags"]:
    """Thresholds under which most tracks get one to five of their clearest tags, and no tag is everywhere.

    Scores of 0 … 1 of music of many kinds; `parts` tells kinds of it apart, in none of which a tag may be common;
    `priors` are shares of all music. A tag is the clearer, the higher its log-odds are over those of its prior or,
    without priors, over its mean in standard deviations: by scores alone `film` is clear in nearly all music of games.
    No threshold is below its prior: nobody is told a tag that is less likely of this track than of any.

    Every tag begins with a threshold that as many tracks pass as have it among their clearest and then, tag by tag,
    takes the one with the fewest faults: tracks without a tag, tags beyond the first few, tags that are not clear. Many
    choices of tags serve about as well. So who is to decide `like` somebody, a student like its teacher say, begins
    with as many tracks for every tag as they decide it for, and stays near that.
    """
    places = rank_tags(scores, priors)
    strange = RANK_COST * np.clip(places - (LAST_FREE_RANK - 1), 0, MAX_COSTLY_RANKS) - TOP_TAG_GAIN * (
        places < TOP_TAGS
    )
    tracks, count = scores.shape
    order = np.argsort(-scores, axis=0, kind="stable")
    floor = np.zeros(count) if priors is None else np.array(priors)
    least, most = math.ceil(MIN_SHARE * tracks), _most(order, np.zeros(tracks, int) if groups is None else groups)
    most = np.maximum(np.minimum(most, (scores > floor).sum(axis=0)), least)
    passing = np.clip((places < TOP_TAGS if reference is None else reference).sum(axis=0), least, most)
    fewest = np.full(count, least)
    if reference is not None:
        fewest = np.clip(np.floor(passing / MAX_COUNT_RATIO).astype(int), least, None)
        most = np.minimum(np.ceil(passing * MAX_COUNT_RATIO).astype(int), most)
    decided = np.zeros((tracks, count), bool)
    for tag in range(count):
        decided[order[: passing[tag], tag], tag] = True
    for _ in range(MAX_SWEEPS):
        before = passing.copy()
        for tag in range(count):
            others = decided.sum(axis=1) - decided[:, tag]
            # Faults if the first k tracks by this tag's score had it, for every k at once.
            gained = np.cumsum((_faults(others + 1) - _faults(others) + strange[:, tag])[order[:, tag]])
            best = fewest[tag] + int(np.argmin(gained[fewest[tag] - 1 : most[tag]]))
            if gained[best - 1] < gained[passing[tag] - 1]:
                passing[tag] = best
                decided[:, tag] = False
                decided[order[:best, tag], tag] = True
        if (passing == before).all():
            break
    ranked = np.take_along_axis(scores.astype(np.float64), order, axis=0)
    last = np.take_along_axis(ranked, passing[None] - 1, axis=0)[0]
    following = np.take_along_axis(ranked, np.minimum(passing, tracks - 1)[None], axis=0)[0]
    return np.asarray(np.maximum((last + following) / 2, floor))


def rank_tags(
    scores: Float[np.ndarray, "tracks tags"], priors: Sequence[float] | None
) -> Int64[np.ndarray, "tracks tags"]:
    """The place of every tag among those of its track, 0 for the clearest, as `select_thresholds` understands it."""
    logits = calibration.logit(scores.astype(np.float64))
    evidence = _standard(logits) if priors is None else logits - calibration.logit(np.array(priors))
    return np.asarray(np.argsort(np.argsort(-evidence, axis=1, kind="stable"), axis=1))


def _most(order: Int64[np.ndarray, "tracks tags"], parts: Shaped[np.ndarray, "tracks"]) -> Int64[np.ndarray, "tags"]:
    """How many tracks, in the order of each tag's scores, may pass before it is common in a part; one always may."""
    within = [
        (np.cumsum((parts == part)[order], axis=0) <= max(1, MAX_SHARE * (parts == part).sum())).sum(axis=0)
        for part in np.unique(parts)
    ]
    return np.asarray(np.min(within, axis=0))


def agreement_statistics(
    wanted: Float[np.ndarray, "tracks tags"],
    scores: Float[np.ndarray, "tracks tags"],
    wanted_decided: Bool[np.ndarray, "tracks tags"],
    *,
    priors: Sequence[float] | None = None,
) -> dict[str, float]:
    """How a student agrees with its teacher's scores, `wanted`, of held-out tracks, and with its decisions."""
    ranks = metrics.spearman(wanted, scores)
    own, other = (rank_tags(values, priors) < MAX_FREE_TAGS for values in (wanted, scores))
    usual = np.argsort(-own.sum(axis=0), kind="stable")[:MAX_FREE_TAGS]
    figures = {
        "held-out tracks": float(len(scores)),
        "Spearman with the teacher, median tag": float(np.median(ranks)),
        "Spearman with the teacher, mean over tags": float(ranks.mean()),
        "Spearman with the teacher, worst tag": float(ranks.min()),
        "of the teacher's five clearest tags, found": float((own & other).sum(axis=1).mean()),
        "of the teacher's five clearest tags, found by the same five for every track": float(
            own[:, usual].sum(axis=1).mean()
        ),
    }
    if np.isfinite(ranked := decision_average_precision(wanted_decided, scores)).any():
        figures |= {
            f"tags that the teacher decides for {bootstrap.MIN_POSITIVES} tracks or more": float(
                np.isfinite(ranked).sum()
            ),
            "PR-AUC against the teacher's decisions, mean over these tags": float(np.nanmean(ranked)),
            "PR-AUC against the teacher's decisions, worst of these tags": float(np.nanmin(ranked)),
        }
    return figures


def decision_average_precision(
    decided: Bool[np.ndarray, "tracks tags"], scores: Float[np.ndarray, "tracks tags"]
) -> PerTag:
    """PR-AUC of every tag against somebody's decisions; NaN for one of too few tracks to tell it from luck."""
    each = metrics.evaluate(decided, scores).per_tag["PR-AUC"]
    return np.where(decided.sum(axis=0) >= bootstrap.MIN_POSITIVES, each, np.nan)


def decision_statistics(decided: Bool[np.ndarray, "tracks tags"]) -> dict[str, float]:
    """How sensible decisions look: how many tags tracks get, how many tags are in use, how common the commonest is."""
    each = decided.sum(axis=1)
    return {
        "share of tracks with one to five tags": float(((each >= 1) & (each <= 5)).mean()),
        "share of tracks with no tag": float((each == 0).mean()),
        "different tags used": float(decided.any(axis=0).sum()),
        "share of tracks with the commonest tag": float(decided.mean(axis=0).max()),
    }


def rank_by_agreement(
    wanted: Float[np.ndarray, "tracks tags"],
    scores: Float[np.ndarray, "tracks tags"],
    wanted_decided: Bool[np.ndarray, "tracks tags"],
    decided: Bool[np.ndarray, "tracks tags"],
) -> Int64[np.ndarray, "tracks"]:
    """The tracks, from those of which a student decides what its teacher does to those of which it decides otherwise.

    That is the share of the tags either decides that both decide. Equal ones are in the order of how alike their scores
    are, as logits in standard deviations from each tag's mean, lest common tags rule every track.
    """
    alike = metrics.spearman(*(_standard(calibration.logit(each)).T for each in (wanted, scores)))
    return np.lexsort((-alike, -jaccard(wanted_decided, decided)))


def jaccard(
    one: Bool[np.ndarray, "tracks tags"], other: Bool[np.ndarray, "tracks tags"]
) -> Float64[np.ndarray, "tracks"]:
    """Share of the tags that either decides for a track that both decide; 1 where neither decides any."""
    both, either = (one & other).sum(axis=1), (one | other).sum(axis=1)
    return np.asarray(np.where(either > 0, both / np.maximum(either, 1), 1.0))


def _standard(logits: Float[np.ndarray, "tracks tags"]) -> Float64[np.ndarray, "tracks tags"]:
    """In standard deviations from the mean over tracks."""
    wide = logits.astype(np.float64)
    spread = wide.std(axis=0)
    return np.asarray((wide - wide.mean(axis=0)) / np.where(spread > 1e-9, spread, 1))  # what never varies is not clear


def _faults(tags_each: Int64[np.ndarray, "tracks"]) -> Float64[np.ndarray, "tracks"]:
    """Faults of tracks with so many tags each."""
    return np.where(tags_each == 0, NO_TAG_COST, np.maximum(tags_each - MAX_FREE_TAGS, 0.0))
