"""Decisions for the tracks of a library, relative to it or absolute, with corrections."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64

from moodfield import calibration
from moodfield.decisions import Rule
from moodfield.errors import ConfigError, LibraryError
from moodfield.library import models, tracks
from moodfield.library.models import StoredModel
from moodfield.library.tracks import Correction, Filter, LibraryTrack

CORRECTED = 3.0
"""evidence of a tag that a person has added; minus this, of a tag that a person has removed"""
ROWS = 4_096
"""tracks whose evidence is computed at once, so that arrays stay in the cache"""

Order = Literal["evidence", "name", "path", "random"]
Evidence = Float32[np.ndarray, "tracks tags"]


@dataclass(frozen=True, eq=False)
class DecidedTracks:
    """Decisions and evidence for tracks of a library."""

    model: StoredModel
    """the model"""
    rule: Rule
    """the rule of decisions"""
    relative: bool
    """whether decisions are relative to the library"""
    tracks: Sequence[LibraryTrack]
    """tracks, each of which the model has tagged"""
    logits: Float32[np.ndarray, "tracks tags"]
    """log-odds of the scores"""
    evidence: Evidence
    """evidence by the model; that of corrected tags is `CORRECTED` or its negative"""
    is_decided: Bool[np.ndarray, "tracks tags"]
    """whether each tag is decided, with corrections"""
    corrections: Mapping[int, Correction]
    """corrections by number of the track"""
    untagged: Sequence[LibraryTrack] = ()
    """tracks that the model has not tagged: files that failed, and those of other models"""

    @cached_property
    def scores(self) -> Float32[np.ndarray, "tracks tags"]:
        """Scores, 0 … 1."""
        return calibration.sigmoid(self.logits).astype(np.float32)

    def decided(self, row: int) -> tuple[str, ...]:
        """Decided tags of a track by decreasing evidence; tags by a person that the model does not know come last."""
        return (*self._decided[row], *sorted(self.correction(row).added.difference(self.model.vocabulary)))

    @cached_property
    def _decided(self) -> list[list[str]]:
        """Decided tags of all tracks that the model knows."""
        rows, tags = np.nonzero(self.is_decided)
        tags = tags[np.lexsort((-self.evidence[rows, tags], rows))]
        names = [self.model.vocabulary[tag] for tag in tags.tolist()]
        ends = np.cumsum(self.is_decided.sum(axis=1)).tolist()
        return [names[start:end] for start, end in pairwise([0, *ends])]

    def take(self, rows: Int64[np.ndarray, "_tracks"]) -> "DecidedTracks":
        """Some of the tagged tracks, in this order."""
        chosen = [self.tracks[row] for row in rows]
        arrays = (self.logits[rows], self.evidence[rows], self.is_decided[rows])
        return DecidedTracks(self.model, self.rule, self.relative, chosen, *arrays, self.corrections, self.untagged)

    def first(self, limit: int) -> "DecidedTracks":
        """The first tracks; untagged ones come last."""
        rest = max(0, limit - len(self.tracks))
        return replace(self.take(np.arange(min(limit, len(self.tracks)))), untagged=self.untagged[:rest])

    def correction(self, row: int) -> Correction:
        """The correction of a track, which may be empty."""
        return self.corrections.get(self.tracks[row].id, Correction())

    def columns(self, tags: Sequence[str]) -> list[int]:
        """The numbers of tags; raises `UnknownNameError` for unknown ones."""
        return [self.model.column(tag) for tag in tags]


def order(decided: DecidedTracks, by: Order, *, tags: Sequence[str] = (), seed: int = 0) -> DecidedTracks:
    """Tracks in another order.

    Args:
        decided: The tracks.
        by: `evidence`: decreasing mean evidence of tags, or without any of the clearest tag; `name`: artist, album and
            title; `path`; `random`.
        tags: Tags whose evidence counts.
        seed: Seed of the random order.
    """
    if by == "evidence":
        values = (
            decided.evidence[:, decided.columns(tags)].mean(axis=1) if tags else decided.evidence.max(axis=1, initial=0)
        )
        rows = np.argsort(-values, kind="stable")
    elif by == "random":
        rows = np.random.default_rng(seed).permutation(len(decided.tracks))
    else:
        keys = [
            track.path if by == "path" else (track.artist.casefold(), track.album.casefold(), track.title.casefold())
            for track in decided.tracks
        ]
        rows = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    return decided.take(rows)


def decide(
    connection: sqlite3.Connection,
    wanted: Filter = tracks.ALL,
    *,
    model: str | None = None,
    relative: bool = True,
) -> DecidedTracks:
    """Decide the tags of the tracks that fit a filter.

    What is usual is computed from all tracks that are there, as `moodfield.decide` does; the filter changes nothing
    about it. A model without reference statistics that has tagged fewer than 20 different tracks decides absolutely.

    Args:
        connection: Of the library.
        wanted: Which tracks. Those that the model has not tagged fit no condition on tags.
        model: Name of the model; by default the one with the most tracks.
        relative: Whether decisions are relative to the library.

    Raises:
        LibraryError: No track is tagged.
        UnknownNameError: The library has no such model, or the model no such tag.
    """
    stored = models.choose(connection, model)
    rows = _read_logits(connection, stored)
    rule, relative = _rule(stored, rows, relative=relative)
    numbers = {track: row for row, track in enumerate(rows.ids.tolist())}
    selected: list[LibraryTrack] = []
    untagged: list[LibraryTrack] = []
    for track in tracks.select(connection, wanted):
        (selected if track.id in numbers else untagged).append(track)
    logits = rows.logits[[numbers[track.id] for track in selected]]
    corrections = tracks.corrections(connection)
    evidence, is_decided = _evidence(rule, logits)
    _apply(corrections, selected, stored, evidence, is_decided)
    result = DecidedTracks(stored, rule, relative, selected, logits, evidence, is_decided, corrections, untagged)
    return choose(result, wanted)


def choose(decided: DecidedTracks, wanted: Filter) -> DecidedTracks:
    """The tracks that fit the filter's conditions on tags; those that the model has not tagged fit none.

    Raises:
        UnknownNameError: The model has no such tag.
    """
    if not wanted.by_tags:
        return decided
    with_tags, without = decided.columns(wanted.tags), decided.columns(wanted.without)
    fits = ~decided.is_decided[:, without].any(axis=1)
    if wanted.evidence is None:
        fits &= decided.is_decided[:, with_tags].all(axis=1)
    else:
        fits &= (decided.evidence[:, with_tags] >= wanted.evidence).all(axis=1)
    return replace(decided.take(np.flatnonzero(fits)), untagged=())


def absolute(decided: DecidedTracks) -> DecidedTracks:
    """The same tracks with absolute decisions."""
    evidence, is_decided = _evidence(decided.model.rule, decided.logits)
    _apply(decided.corrections, decided.tracks, decided.model, evidence, is_decided)
    return replace(decided, rule=decided.model.rule, relative=False, evidence=evidence, is_decided=is_decided)


def correct(decided: DecidedTracks, row: int, correction: Correction) -> DecidedTracks:
    """The same decisions with another correction of one track."""
    evidence, is_decided = decided.evidence.copy(), decided.is_decided.copy()
    one, track = slice(row, row + 1), decided.tracks[row]
    evidence[one], is_decided[one] = _evidence(decided.rule, decided.logits[one])
    corrections = {**decided.corrections, track.id: correction}
    _apply(corrections, [track], decided.model, evidence[one], is_decided[one])
    return replace(decided, evidence=evidence, is_decided=is_decided, corrections=corrections)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Logits of all tracks that a model has tagged."""

    ids: Int64[np.ndarray, "tracks"]
    logits: Float32[np.ndarray, "tracks tags"]
    is_present: Bool[np.ndarray, "tracks"]


def _read_logits(connection: sqlite3.Connection, stored: StoredModel) -> _Rows:
    """Logits of all tracks that a model has tagged, also of missing ones."""
    rows = connection.execute(
        "SELECT track, logits, missing IS NULL FROM taggings JOIN tracks ON tracks.id = track WHERE model = ?",
        (stored.id,),
    ).fetchall()
    ids, blobs, present = zip(*rows, strict=True) if rows else ((), (), ())
    logits = matrix(blobs, np.float32, len(stored.vocabulary))
    return _Rows(np.array(ids, np.int64), logits, np.array(present, bool))


def matrix(blobs: Sequence[bytes], dtype: type, columns: int | None = None) -> np.ndarray:
    """Arrays of equal length from blobs, one a row; raises `LibraryError` if one has another length."""
    size = (columns or 0) * np.dtype(dtype).itemsize or len(blobs[0] if blobs else b"")
    if any(len(blob) != size for blob in blobs):
        raise LibraryError("an array in the library is damaged; run: moodfield library check")
    return np.frombuffer(b"".join(blobs), dtype).reshape(len(blobs), size // np.dtype(dtype).itemsize)


def _rule(stored: StoredModel, rows: _Rows, *, relative: bool) -> tuple[Rule, bool]:
    """The rule of decisions, and whether it is relative."""
    if not relative:
        return stored.rule, False
    try:
        return stored.rule.relative_to(rows.logits[rows.is_present]), True
    except ConfigError:  # too few tracks, and no reference
        return stored.rule, False


def _evidence(
    rule: Rule, logits: Float32[np.ndarray, "tracks tags"]
) -> tuple[Evidence, Bool[np.ndarray, "tracks tags"]]:
    """Evidence and decisions, in batches."""
    evidence, is_decided = np.empty(logits.shape, np.float32), np.empty(logits.shape, bool)
    for batch in _batches(len(logits)):
        values = rule.evidence(logits[batch].astype(np.float64))
        evidence[batch], is_decided[batch] = values, rule.decide(logits[batch], values)
    return evidence, is_decided


def _batches(count: int) -> Iterator[slice]:
    return (slice(start, start + ROWS) for start in range(0, count, ROWS))


def _apply(
    corrections: Mapping[int, Correction],
    selected: Sequence[LibraryTrack],
    stored: StoredModel,
    evidence: Evidence,
    is_decided: Bool[np.ndarray, "tracks tags"],
) -> None:
    """Change evidence and decisions to those of a person."""
    for row, track in enumerate(selected):
        if correction := corrections.get(track.id):
            for tags, present in ((correction.added, True), (correction.removed, False)):
                columns = [column for column, tag in enumerate(stored.vocabulary) if tag in tags]
                is_decided[row, columns] = present
                evidence[row, columns] = CORRECTED if present else -CORRECTED
