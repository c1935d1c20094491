"""Why the tags of a track of a library are decided, or not."""

import numpy as np
from jaxtyping import Float64

from moodfield import decisions
from moodfield.library.decided import DecidedTracks


def reason(decided: DecidedTracks, evidence: Float64[np.ndarray, "tags"], tag: int) -> str:
    """Why a tag of the first track is decided, or not.

    Args:
        decided: Decisions for the track.
        evidence: Evidence for every tag by the rule, without corrections.
        tag: Number of the tag.
    """
    name, value = decided.model.vocabulary[tag], float(evidence[tag])
    correction = decided.correction(0)
    if name in correction.added or name in correction.removed:
        return "a person has decided"
    if decided.rule.usual is None:
        return "above its threshold" if decided.is_decided[0, tag] else "not above its threshold"
    best = float(evidence.max())
    if decided.is_decided[0, tag]:
        return f"{best - value:.2f} below the clearest" if value < best else "the clearest"
    if value <= decisions.CUT:
        return f"not above {decisions.CUT:g}"
    if value < best - decisions.MARGIN:
        return f"{best - value:.2f} below the clearest"
    return f"{decisions.MAX_TAGS} others are clearer"
