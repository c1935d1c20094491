"""Rules for decisions that decisions.py compares."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64

from moodfield import calibration, decisions
from moodfield.decisions import CUT, MARGIN, MAX_TAGS, PSEUDO_TRACKS, Usual

Logits = Float64[np.ndarray, "tracks tags"]
Decided = Bool[np.ndarray, "tracks tags"]
Percentiles = Float64[np.ndarray, "tracks tags"]


@dataclass(frozen=True, eq=False)
class Data:
    """Calibrated track logits of one model for all music and for Emotify's excerpts."""

    music: Logits
    """of the music"""
    kinds: np.ndarray
    """kind of every track"""
    packages: np.ndarray
    """package of every track"""
    heldout: Bool[np.ndarray, "tracks"]
    """whether it is held out"""
    excerpts: Logits
    """of Emotify"""
    percentiles: Percentiles
    """human percentile of every tag for every excerpt; NaN for tags without an emotion"""
    chosen: Bool[np.ndarray, "tracks"]
    """excerpts that choices may be made on"""
    genres: np.ndarray
    """genre of every excerpt"""
    priors: np.ndarray
    """shares of tracks by tag, in MTG-Jamendo"""
    titles: tuple[str, ...]
    """path of every track of the music"""
    model: str = "the model"
    """what the logits are of"""

    def reference(self, rows: Bool[np.ndarray, "tracks"]) -> Usual:
        """What is usual among some of the music, with kinds balanced."""
        return decisions.usual(self.music[rows], self.kinds[rows].tolist())


@dataclass(frozen=True)
class Rule:
    """A rule for absolute decisions: from a reference's logits and their weights to decisions for tracks."""

    name: str
    """what it does"""
    decide: Callable[[Data, Bool[np.ndarray, "tracks"], Logits], Decided]
    """decisions for logits, with some of the music as reference"""


def by_evidence(cut: float, margin: float, most: int = MAX_TAGS, slack: float = np.inf) -> Rule:
    """The rule that was adopted, with other constants; without `slack` no kind of music is looked at by itself."""
    words = f"z > {cut:g}" + (f", of a kind > {cut - slack:g}" if np.isfinite(slack) else "")
    words += f", within {margin:g} of the clearest" if np.isfinite(margin) else ""

    def decide(data: Data, rows: np.ndarray, logits: Logits) -> Decided:
        usual = data.reference(rows)
        parts = [replace(usual, kinds={}).evidence(logits)]
        parts += [kind.evidence(logits) + slack for kind in usual.kinds.values()]
        return choose(np.min(parts, axis=0), cut, margin, most)

    return Rule(f"{words}, at most {most}", decide)


def choose(evidence: Logits, cut: float, margin: float, most: int = MAX_TAGS) -> Decided:
    """The rule on evidence."""
    return decisions.clearest(evidence, evidence > cut, margin=margin, most=most)


def first_is_easier(first: float, others: float) -> Rule:
    """One cut for the clearest tag of a track, a higher one for others."""

    def decide(data: Data, rows: np.ndarray, logits: Logits) -> Decided:
        evidence = data.reference(rows).evidence(logits)
        above = (evidence > others) | ((evidence > first) & (evidence == evidence.max(axis=1, keepdims=True)))
        return decisions.clearest(evidence, above, margin=np.inf)

    return Rule(f"z > {others:g}, {first:g} for the clearest, at most {MAX_TAGS}", decide)


def by_prior(nats: float) -> Rule:
    """Log-odds above those of the prior."""

    def decide(data: Data, rows: np.ndarray, logits: Logits) -> Decided:
        evidence = logits - calibration.logit(data.priors)
        return decisions.clearest(evidence, evidence > nats, margin=np.inf)

    return Rule(f"log-odds > prior + {nats:g}, at most {MAX_TAGS}", decide)


def by_quantile(name: str, share: Callable[[np.ndarray], np.ndarray]) -> Rule:
    """Every tag on a share of the reference that follows from its prior."""

    def decide(data: Data, rows: np.ndarray, logits: Logits) -> Decided:
        values, weights = data.music[rows], decisions.balance(data.kinds[rows].tolist())
        cuts = [_quantile(column, weights, 1 - part) for column, part in zip(values.T, share(data.priors), strict=True)]
        return decisions.clearest(data.reference(rows).evidence(logits), logits > np.array(cuts), margin=np.inf)

    return Rule(f"quantiles of {name}, at most {MAX_TAGS}", decide)


def _quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    order = np.argsort(values)
    place = int(np.searchsorted(np.cumsum(weights[order]), share))
    return float(values[order[min(place, len(order) - 1)]])


RULES = (
    by_quantile("the prior", lambda priors: priors),
    by_quantile("twice the prior", lambda priors: 2 * priors),
    by_quantile("0.4 √prior", lambda priors: 0.4 * np.sqrt(priors)),
    by_prior(0.8),
    *(by_evidence(cut, np.inf, most) for cut, most in ((1.0, 3), (1.0, 5), (1.25, 5), (1.75, 5))),
    first_is_easier(1.0, 1.75),
    *(by_evidence(cut, margin) for cut in (0.75, 1.0, 1.25) for margin in (0.3, 0.4, 0.5, 0.75)),
    *(by_evidence(CUT, MARGIN, slack=slack) for slack in (0.25, 0.5, 0.75, 1.0, 1.25)),
)


def relative(
    usual: Usual, logits: Logits, strength: float | None = None, spread: str = "between", k: float = PSEUDO_TRACKS
) -> Decided:
    """Decisions relative to tracks by a variant of the rule; `strength` None is n / (n + k)."""
    tracks = decisions.different(logits)
    own, share = decisions.usual(tracks), len(tracks) / (len(tracks) + k) if strength is None else strength

    def move(part: Usual) -> Usual:
        between = np.sqrt(share * own.std**2 + (1 - share) * part.std**2)
        std = {"reference": part.std, "tracks": own.std, "between": between}[spread]
        kinds = {name: move(kind) for name, kind in part.kinds.items()}
        return Usual(share * own.mean + (1 - share) * part.mean, std, kinds=kinds)

    return choose(move(usual).evidence(logits), CUT, MARGIN)
