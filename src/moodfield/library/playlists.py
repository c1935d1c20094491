"""Playlists: tracks by moods, themes and diversity, or on the way from one track to another."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from moodfield.decisions import CUT
from moodfield.errors import LibraryError
from moodfield.library.decided import DecidedTracks
from moodfield.library.similarity import Embeddings
from moodfield.library.tracks import LibraryTrack

RELEVANCE = 0.7
"""weight of relevance, from 0 … 1, against diversity in maximal marginal relevance; *chosen by us*"""
POOL = 2_000
"""most relevant tracks from which a playlist is chosen"""
POINTS = 9
"""points on the way of a journey; candidates are near one of them"""
COPY = 0.97
"""similarity above which two tracks are copies of one recording, of which a playlist has one"""
JITTER = 0.15
"""standard deviation of the noise on relevance, of 0 … 1, by which seeds give different playlists; *chosen by us*"""
HIGH_ENERGY = ("energetic", "powerful", "fast", "upbeat", "party")
LOW_ENERGY = ("calm", "relaxing", "slow", "soft", "meditative")
"""tags whose mean evidence makes the energy of a track, the former less the latter; *chosen by us*"""

Energy = Literal["rising", "falling", "peak"]


@dataclass(frozen=True)
class Request:
    """What a playlist should be like."""

    seconds: float
    """duration"""
    tags: tuple[str, ...] = ()
    """moods and themes that its tracks have"""
    without: tuple[str, ...] = ()
    """moods and themes that they have not"""
    like: tuple[int, ...] = ()
    """numbers of tracks that they are similar to"""
    journey: tuple[int, int] | None = None
    """numbers of its first and last track"""
    energy: Energy | None = None
    """how energy goes on: `rising`, `falling`, or `peak` in the middle"""
    seed: int | None = None
    """seed for another playlist than the best one"""


@dataclass(frozen=True)
class Playlist:
    """Tracks in the order in which they are played."""

    tracks: tuple[LibraryTrack, ...]
    """the tracks"""
    reasons: tuple[str, ...]
    """why each track was chosen"""
    candidates: int
    """number of tracks that fit the request"""
    seconds: float
    """its duration"""


def create(decided: DecidedTracks, embeddings: Embeddings, request: Request) -> Playlist:
    """Create a playlist.

    Tracks fit if their evidence for each of the tags is above 0, for one of them above `CUT` on average, and for each
    unwanted tag at most `CUT` and not decided. Of those, maximal marginal relevance chooses: relevant tracks that are
    unlike those chosen before. Relevance is the mean evidence for the tags, and the similarity to the tracks that the
    playlist should be like. No artist comes twice in a row, and no recording twice;
    a folder stands for an unknown artist.

    Args:
        decided: The tracks to choose from.
        embeddings: Of all tracks of the library.
        request: What the playlist should be like.

    Returns:
        A playlist, which is shorter than requested if too few tracks fit.

    Raises:
        LibraryError: No track fits, or the library has no embedding of a track of the request.
        UnknownNameError: The model does not know a tag.
    """
    ends = () if request.journey is None else request.journey
    fits = _fitting(decided, request)
    is_named = np.isin([track.id for track in decided.tracks], [*request.like, *ends])
    has_embedding = np.isin([track.id for track in decided.tracks], embeddings.ids)
    rows = np.flatnonzero(fits & has_embedding & ~is_named)
    if not len(rows) and not ends:
        raise LibraryError(
            f"none of {len(decided.tracks):,} tracks fits ({_describe(request)}); ask for fewer moods, or for others"
        )
    relevance = _relevance(decided, embeddings, request, rows)
    nearness = relevance + _nearness(decided, embeddings, request.journey, rows) if request.journey else relevance
    best = np.argsort(-nearness, kind="stable")[:POOL]
    pool = _Pool(decided, embeddings, rows[best], relevance[best])
    chosen = _walk(pool, request) if request.journey else _select(pool, request)
    if request.energy:
        chosen = _arrange(decided, chosen, request.energy)
    return _finish(decided, chosen, request, candidates=len(rows))


class _Pool:
    """Candidates for a playlist."""

    def __init__(
        self, decided: DecidedTracks, embeddings: Embeddings, rows: Int64[np.ndarray, "_tracks"], relevance: np.ndarray
    ) -> None:
        self.rows, self.relevance = rows, relevance
        self.decided, self.embeddings = decided, embeddings
        tracks = [decided.tracks[row] for row in rows]
        self.seconds = np.array([track.duration or 0.0 for track in tracks])
        self._codes: dict[str, int] = {}
        self.groups = np.array([self.group(track) for track in tracks], np.int64)
        self.vectors = embeddings.values[embeddings.rows([track.id for track in tracks])]
        self.is_free: Bool[np.ndarray, "_tracks"] = np.ones(len(rows), bool)
        self.one_group = len(self._codes) == 1
        """whether all candidates are of one artist, who then may come twice in a row"""

    def group(self, track: LibraryTrack) -> int:
        """A number for the artist of a track."""
        return self._codes.setdefault(track.group, len(self._codes))

    def take(
        self, values: Float[np.ndarray, "_tracks"], neighbours: Collection[int], *, seconds: float = np.inf
    ) -> int | None:
        """The best free candidate by values, not of a neighbour's artist and not longer; None if there is none."""
        is_open = self.is_free & (self.seconds < seconds)
        if not self.one_group:
            is_open &= ~np.isin(self.groups, list(neighbours))
        if not is_open.any():
            return None
        number = int(np.argmax(np.where(is_open, values, -np.inf)))
        self.remove_copies(self.vectors[number])
        self.is_free[number] = False
        return number

    def remove_copies(self, vector: Float32[np.ndarray, "channels"]) -> None:
        """Take away all candidates that are copies of a track, and that track itself."""
        self.is_free &= self.vectors @ vector <= COPY


def _fitting(decided: DecidedTracks, request: Request) -> Bool[np.ndarray, "tracks"]:
    """Which tracks have the tags, and not the unwanted ones."""
    wanted = decided.evidence[:, decided.columns(request.tags)]
    unwanted = decided.columns(request.without)
    fits = ~((decided.evidence[:, unwanted] > CUT) | decided.is_decided[:, unwanted]).any(axis=1)
    if request.tags:
        fits &= (wanted > 0).all(axis=1) & (wanted.mean(axis=1) > CUT)
    return fits


def _relevance(
    decided: DecidedTracks, embeddings: Embeddings, request: Request, rows: Int64[np.ndarray, "_tracks"]
) -> Float32[np.ndarray, "_tracks"]:
    """Relevance of candidates, 0 … 1: evidence for the tags and similarity, both scaled, and noise with a seed."""
    parts = []
    if request.tags:
        parts.append(_scale(decided.evidence[rows][:, decided.columns(request.tags)].mean(axis=1)))
    if request.like and len(rows):
        vectors = embeddings.values[embeddings.rows([decided.tracks[row].id for row in rows])]
        target = embeddings.values[embeddings.rows(request.like)].mean(axis=0)
        parts.append(_scale(vectors @ target))
    relevance = np.mean(parts, axis=0) if parts else np.full(len(rows), 0.5)
    if request.seed is not None:
        relevance = relevance + JITTER * np.random.default_rng(request.seed).normal(size=len(rows))
    return np.asarray(relevance, np.float32)


def _scale(values: np.ndarray) -> np.ndarray:
    """Values scaled to 0 … 1."""
    if not len(values):
        return values
    low, high = values.min(), values.max()
    return (values - low) / max(float(high - low), 1e-9)


def _select(pool: _Pool, request: Request) -> list[int]:
    """Rows of tracks chosen by maximal marginal relevance (Carbonell and Goldstein, 1998)."""
    chosen: list[int] = []
    left, last = request.seconds, -1
    nearest = np.zeros(len(pool.rows), np.float32)
    while True:
        values = RELEVANCE * pool.relevance - (1 - RELEVANCE) * nearest
        number = pool.take(values, [last], seconds=2 * left)  # a longer one would miss the duration by more than none
        if number is None:
            return chosen
        similarity = pool.vectors @ pool.vectors[number]
        nearest = np.maximum(nearest, similarity) if chosen else similarity
        chosen.append(int(pool.rows[number]))
        left, last = left - float(pool.seconds[number]), int(pool.groups[number])


def _nearness(
    decided: DecidedTracks, embeddings: Embeddings, journey: tuple[int, int], rows: Int64[np.ndarray, "_tracks"]
) -> Float32[np.ndarray, "_tracks"]:
    """Similarity of candidates to the nearest of some points on the way."""
    vectors = embeddings.values[embeddings.rows([decided.tracks[row].id for row in rows])]
    return np.max(vectors @ _line(embeddings, journey, np.linspace(0, 1, POINTS)).T, axis=1)


def _line(
    embeddings: Embeddings, journey: tuple[int, int], shares: Float[np.ndarray, "time"]
) -> Float32[np.ndarray, "time channels"]:
    """Points on the straight line between the embeddings of two tracks, of unit length."""
    first, last = embeddings.values[embeddings.rows(journey)]
    line = (1 - shares[:, None]) * first + shares[:, None] * last
    return np.asarray(line / np.maximum(np.linalg.norm(line, axis=1, keepdims=True), 1e-9), np.float32)


def _walk(pool: _Pool, request: Request) -> list[int]:
    """Rows of the first track, tracks near the straight line to the last one in equal steps, and the last track."""
    assert request.journey is not None
    decided, embeddings = pool.decided, pool.embeddings
    places = {track.id: row for row, track in enumerate(decided.tracks)}
    if not places.keys() >= set(request.journey):
        raise LibraryError("the first and the last track are not among the tracks to choose from")
    ends = [places[number] for number in request.journey]
    for row in embeddings.rows(request.journey):
        pool.remove_copies(embeddings.values[row])
    groups = [pool.group(decided.tracks[row]) for row in ends]
    seconds = sum(decided.tracks[row].duration or 0.0 for row in ends)
    mean = float(np.mean(pool.seconds)) if len(pool.seconds) else 0.0
    steps = max(0, round((request.seconds - seconds) / mean)) if mean else 0
    line = _line(embeddings, request.journey, np.linspace(0, 1, steps + 2)[1:-1])
    between: list[int] = []
    for step, target in enumerate(line, 1):
        values = RELEVANCE * (pool.vectors @ target) + (1 - RELEVANCE) * pool.relevance
        previous = int(pool.groups[between[-1]]) if between else groups[0]
        number = pool.take(values, {previous, groups[1]} if step == steps else {previous})
        if number is None:
            break
        between.append(number)
    while between and pool.groups[between[-1]] == groups[1] and not pool.one_group:
        between.pop()  # tracks have run out before the last step
    middle = [int(pool.rows[number]) for number in between]
    return [ends[0], *middle, ends[1]] if ends[0] != ends[1] else [ends[0], *middle]


def energy(decided: DecidedTracks) -> Float32[np.ndarray, "tracks"]:
    """Energy of tracks: mean evidence for `HIGH_ENERGY` less that for `LOW_ENERGY`.

    Raises:
        LibraryError: The model knows none of these tags.
    """
    vocabulary = decided.model.vocabulary
    high, low = ([vocabulary.index(tag) for tag in tags if tag in vocabulary] for tags in (HIGH_ENERGY, LOW_ENERGY))
    if not high or not low:
        raise LibraryError(
            f"the model {decided.model.name} has no tags of energy ({', '.join(HIGH_ENERGY + LOW_ENERGY)})"
        )
    return np.asarray(decided.evidence[:, high].mean(axis=1) - decided.evidence[:, low].mean(axis=1), np.float32)


def _arrange(decided: DecidedTracks, chosen: Sequence[int], curve: Energy) -> list[int]:
    """Order tracks along a curve of energy; tracks are moved so that no artist comes twice in a row."""
    values = energy(decided)
    rising = sorted(chosen, key=lambda row: float(values[row]))
    if curve == "peak":
        rising = [*rising[::2], *reversed(rising[1::2])]
    waiting, result = rising[::-1] if curve == "falling" else list(rising), list[int]()
    groups = [track.group for track in decided.tracks]
    counts = Counter(groups[row] for row in waiting)
    while waiting:
        last = groups[result[-1]] if result else None
        allowed = (place for place, row in enumerate(waiting) if _can_follow(groups[row], last, counts))
        row = waiting.pop(next(allowed, 0))
        counts[groups[row]] -= 1
        result.append(row)
    return result


def _can_follow(group: str, last: str | None, counts: Counter[str]) -> bool:
    """Whether a track of an artist may be next, so that the others can still alternate; counts include that track."""
    left = counts.total() - 1
    others = max((count for other, count in counts.items() if other != group), default=0)
    return group != last and counts[group] - 1 <= left // 2 and others <= (left + 1) // 2


def _finish(decided: DecidedTracks, chosen: Sequence[int], request: Request, *, candidates: int) -> Playlist:
    """The playlist of rows, with the reason for each of them."""
    columns = decided.columns(request.tags)
    tracks = tuple(decided.tracks[row] for row in chosen)
    reasons = tuple(
        ", ".join(
            f"{tag} {decided.evidence[row, column]:+.1f}" for tag, column in zip(request.tags, columns, strict=True)
        )
        or ", ".join(decided.decided(row)[:3])
        for row in chosen
    )
    return Playlist(tracks, reasons, candidates, sum(track.duration or 0.0 for track in tracks))


def _describe(request: Request) -> str:
    return " and ".join([*request.tags, *(f"not {tag}" for tag in request.without)]) or "any tags"
