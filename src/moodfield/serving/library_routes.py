"""Routes about tracks of the library: search, details, audio, corrections, playlists, map, counts."""

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from jaxtyping import Int64

from moodfield import errors
from moodfield.errors import UsageError
from moodfield.library import (
    analysis,
    database,
    decided,
    models,
    playlist_files,
    playlists,
    ranges,
    reasons,
    rows,
    similarity,
    statistics,
    tracks,
)
from moodfield.library.decided import DecidedTracks
from moodfield.library.playlists import Playlist
from moodfield.library.tracks import Filter, LibraryTrack
from moodfield.serving import schemas, service, snapshots
from moodfield.serving.problems import ProblemError
from moodfield.serving.schemas import Corrections, PlaylistRequest, TrackId
from moodfield.serving.service import Current, Service

router = APIRouter(prefix="/v1", tags=["library"])

Text = Annotated[str, Query(max_length=200)]
Names = Annotated[list[schemas.Tag], Query(max_length=50)]
MAX_LIMIT = 500
"""tracks of one answer"""
SHORT = 0.9
"""share of the requested duration below which a playlist has a message"""
MEDIA_TYPES = {
    ".flac": "audio/flac", ".m4a": "audio/mp4", ".mp3": "audio/mpeg", ".oga": "audio/ogg", ".ogg": "audio/ogg",
    ".opus": "audio/ogg", ".wav": "audio/wav", ".aac": "audio/aac",
}  # fmt: skip
"""media types that browsers know, by suffix"""


@router.get("/tracks", responses=service.documented(schemas.TracksAnswer, 409, 422))
def list_tracks(
    request: Request,
    current: Current,
    *,
    only: Annotated[
        list[TrackId], Query(alias="id", max_length=MAX_LIMIT, description="these, by default in this order")
    ] = [],  # noqa: B006
    q: Annotated[str, Query(max_length=200, description="words that artist, title, album or path contain")] = "",
    mood: Annotated[Names, Query(description="with this mood; several: with all")] = [],  # noqa: B006
    theme: Annotated[Names, Query(description="with this theme")] = [],  # noqa: B006
    without: Annotated[Names, Query(alias="not", description="without this mood or theme")] = [],  # noqa: B006
    artist: Text = "",
    album: Text = "",
    genre: Text = "",
    path: Text = "",
    year: Annotated[str, Query(max_length=20, description="1994, 1990-1999, 2000- or -1960")] = "",
    duration: Annotated[str, Query(max_length=40, description="2:30-6:00, 10:00- or -90")] = "",
    corrected: Annotated[bool, Query(description="only tracks with corrections")] = False,
    failed: Annotated[bool, Query(description="only files that could not be tagged")] = False,
    order: Annotated[
        Literal["evidence", "name", "path", "random"] | None,
        Query(description="by default that of `id`; evidence with moods; else name"),
    ] = None,
    seed: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    cursor: Annotated[str, Query(pattern="^[0-9]{0,9}$", description="`next` of the answer before")] = "",
    ids: Annotated[bool, Query(description="also the numbers of all tracks that fit, in their order")] = False,
) -> Response:
    """Tracks that fit all conditions: rows as in exports of the library, with `id`."""
    wanted = Filter(
        tags=(*mood, *theme),
        without=tuple(without),
        artist=artist,
        album=album,
        genre=genre,
        path=path,
        year=ranges.parse_years(year),
        duration=ranges.parse_durations(duration),
        corrected=corrected,
        failed=failed,
    )
    start = int(cursor or 0)
    if failed:
        with current.library.read() as connection:
            selected = tracks.select(connection, wanted)
        wished = [selected[place] for place in _places(selected, only)] if only else selected
        chosen = [track for track in wished if all(word in snapshots.text(track) for word in q.casefold().split())]
        page = [_untagged(track) for track in chosen[start : start + limit]]
        return service.answer(request, _page(page, len(chosen), start + limit))
    snapshot = current.library.snapshot()
    if snapshot is None:
        return service.answer(request, _page([], 0, 0))
    fitting = snapshot.choose(wanted, q.split(), ids=only)
    if only and order is None:
        ordered = fitting.take(_places(fitting.tracks, only))
    elif order == "name" or not (order or wanted.tags):
        ordered = fitting
    else:
        ordered = decided.order(fitting, order or "evidence", tags=wanted.tags, seed=seed)
    end = min(start + limit, len(ordered.tracks))
    shown = ordered.take(np.arange(min(start, end), end))
    numbers = {"ids": [track.id for track in ordered.tracks]} if ids else {}
    return service.answer(request, _page(_rows(shown), len(ordered.tracks), end) | numbers)


@router.get("/tracks/{number}", responses=service.documented(schemas.TrackRow, 404, 409, 422))
def get_track(request: Request, current: Current, number: TrackId) -> Response:
    """A track: its row, decisions `absolute` and `relative` to the library with reasons, `curves` and `envelope`."""
    return service.answer(request, _details(current, number))


@router.patch("/tracks/{number}", responses=service.documented(schemas.TrackRow, 404, 409, 422))
def correct_track(request: Request, current: Current, number: TrackId, body: Corrections) -> Response:
    """Correct the tags of a track; corrections win over the model, and later scans keep them."""
    if both := set(body.add).intersection(body.remove):
        raise UsageError(f"{', '.join(sorted(both))} cannot be added and removed at once")
    with current.library.read() as connection:
        _find(connection, number)
        names = {tag: tag for stored in models.read(connection) for tag in stored.vocabulary}
        for tag in (*body.add, *body.remove):
            errors.get_or_suggest(names, tag, what="tag")
    current.library.correct(number, body)
    return service.answer(request, _details(current, number))


@router.get("/tracks/{number}/similar", responses=service.documented(schemas.SimilarAnswer, 404, 409, 422))
def similar_tracks(
    request: Request, current: Current, number: TrackId, *, limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 20
) -> Response:
    """The most similar tracks, each with `similarity`, −1 … 1."""
    snapshot = current.library.tagged()
    snapshot.take([number])
    nearest = similarity.nearest(snapshot.embeddings, number, limit=limit)
    present = [(other, value) for other, value in nearest if other in snapshot.rows]
    listed = _rows(snapshot.take([other for other, _ in present]))
    similar = [row | {"similarity": round(value, 4)} for row, (_, value) in zip(listed, present, strict=True)]
    return service.answer(request, {"tracks": similar})


@router.get(
    "/tracks/{number}/audio",
    responses={
        **service.documented(schemas.ProblemAnswer, 404, 416, 422),
        200: {"description": "the file", "content": {"audio/*": {}, "application/octet-stream": {}}},
        206: {"description": "a part of the file", "content": {"audio/*": {}, "application/octet-stream": {}}},
    },
    response_class=FileResponse,
)
def get_audio(current: Current, number: TrackId) -> Response:
    """The file of a track, also in parts (Range); only files that were tagged as audio."""
    with current.library.read() as connection:
        track = _find(connection, number)
    if track.error is not None or track.digest is None:
        raise ProblemError(404, f"the file of track {number} is no audio that could be tagged")
    path = Path(track.path)
    try:
        state = path.stat()
    except OSError as error:
        raise ProblemError(404, f"the file of track {number} is not there; scan its folder again") from error
    if (state.st_size, state.st_mtime_ns) != (track.size, track.mtime):
        # it may be a link to a file that is no music by now
        raise ProblemError(404, f"the file of track {number} has changed since the scan; scan its folder again")
    if not os.access(path, os.R_OK):
        raise ProblemError(404, f"the server may not read the file of track {number}; change its permissions")
    kind = MEDIA_TYPES.get(path.suffix.lower(), "application/octet-stream")
    return FileResponse(path, media_type=kind, stat_result=state, headers={"cache-control": "private, no-cache"})


@router.post(
    "/playlists",
    responses={
        **service.documented(schemas.PlaylistAnswer, 404, 409, 422),
        200: {"model": schemas.PlaylistAnswer, "description": "the playlist", "content": {"audio/x-mpegurl": {}}},
    },
)
def make_playlist(request: Request, current: Current, body: PlaylistRequest) -> Response:
    """Choose tracks for a playlist by tags, similarity, or on the way from one track to another; or export `tracks`."""
    snapshot = current.library.tagged()
    message: str | None = None
    if body.tracks is not None:
        present = [number for number in body.tracks if number in snapshot.rows]
        chosen = snapshot.take(present or body.tracks)
        if gone := len(body.tracks) - len(chosen.tracks):
            message = f"{gone} of {len(body.tracks)} tracks are left out: they are no longer in the library"
        reasons_ = [""] * len(chosen.tracks)
    else:
        wished = _request(body)
        snapshot.take([*wished.like, *(wished.journey or ())])
        created = playlists.create(snapshot.decided, snapshot.embeddings, wished)
        chosen, reasons_ = snapshot.take([track.id for track in created.tracks]), list(created.reasons)
        message = _shortness(created, wished.seconds)
    if body.format == "m3u8":
        headers = {"content-disposition": 'attachment; filename="moodfield.m3u8"'}
        comment = f"# {message}\n" if message else ""
        return Response(playlist_files.m3u8(chosen.tracks) + comment.encode(), 200, headers, "audio/x-mpegurl")
    listed = [row | {"reason": reason} for row, reason in zip(_rows(chosen), reasons_, strict=True)]
    seconds = sum(track.duration or 0.0 for track in chosen.tracks)
    return service.answer(request, {"tracks": listed, "seconds": round(seconds, 3), "message": message})


@router.get("/map", responses=service.documented(schemas.MapAnswer, 409))
def get_map(request: Request, current: Current) -> Response:
    """The map of all tracks by their moods as columns; a track keeps its place when others are added."""
    snapshot = current.library.snapshot()
    empty: dict[str, object] = {name: [] for name in schemas.MapAnswer.model_fields}
    return service.answer(request, empty if snapshot is None else snapshot.map)


@router.get("/stats", responses=service.documented(schemas.StatisticsAnswer, 409))
def get_statistics(request: Request, current: Current) -> Response:
    """Counts of tracks, hours, artists and tags, and the folders of the library."""
    snapshot = current.library.snapshot()
    with current.library.read() as connection:
        folders = [row[0] for row in connection.execute("SELECT path FROM folders ORDER BY path")]
        (failed,) = connection.execute("SELECT count(*) FROM tracks WHERE error IS NOT NULL").fetchone()
        stored = models.read(connection)
    counts: dict[str, object] = {"tracks": 0, "failed": failed, "hours": 0.0, "tags": {}, "models": []}
    if snapshot:
        counts = statistics.count(snapshot.decided, stored, database.size(current.library.path)).to_dict()
    return service.answer(request, counts | {"folders": folders})


def _page(listed: list[dict[str, object]], total: int, end: int) -> dict[str, object]:
    return {"tracks": listed, "total": total, "next": str(end) if end < total else None}


def _rows(chosen: DecidedTracks) -> list[dict[str, object]]:
    """The rows of tagged tracks."""
    tagged = replace(chosen, untagged=())
    return [_with_id(track.id, row) for track, row in zip(tagged.tracks, rows.rows(tagged), strict=True)]


def _untagged(track: LibraryTrack) -> dict[str, object]:
    """The row of a track that the model has not tagged."""
    return _with_id(track.id, rows.of_file(track) | {"model": None})


def _with_id(number: int, row: dict[str, object]) -> dict[str, object]:
    return {"id": number} | row


def _find(connection: sqlite3.Connection, number: int) -> LibraryTrack:
    """A track by its number; raises `ProblemError` 404."""
    for track in tracks.select(connection, Filter(ids=(number,))):
        return track
    raise ProblemError(404, f"the library has no track {number}")


def _details(current: Service, number: int) -> dict[str, object]:
    """All that is known of a track."""
    snapshot = current.library.snapshot()
    with current.library.read() as connection:
        track = _find(connection, number)
        if snapshot is None or number not in snapshot.rows:
            return _untagged(track)
        relative = snapshot.take([number])
        absolute = decided.absolute(relative)
        curves, envelope = connection.execute(
            "SELECT logits, envelope FROM curves WHERE track = ? AND model = ?", (number, relative.model.id)
        ).fetchone() or (b"", b"")
    row = _rows(relative)[0] | {"absolute": _decisions(absolute), "relative": _decisions(relative)}
    return (
        row | _over_time(relative, curves) | {"envelope": (np.frombuffer(envelope, np.uint8) / 255).round(3).tolist()}
    )


def _decisions(one: DecidedTracks) -> dict[str, object]:
    """The decisions for one track: decided tags, and every tag with score, threshold, evidence and reason."""
    evidence = one.rule.evidence(one.logits[0].astype(np.float64))
    usual = one.rule.priors if one.rule.usual is None else one.rule.usual.scores
    tags = [
        {
            "tag": one.model.vocabulary[tag],
            "decided": bool(one.is_decided[0, tag]),
            "score": round(float(one.scores[0, tag]), 6),
            "usual": None if usual is None else round(float(usual[tag]), 6),
            "threshold": round(float(np.clip(one.rule.thresholds[tag], 0, 1)), 6),
            "evidence": round(float(evidence[tag]), 3),
            "why": reasons.reason(one, evidence, int(tag)),
        }
        for tag in np.argsort(-evidence, kind="stable")
    ]
    return {"decided": list(one.decided(0)), "relative": one.relative, "tags": tags}


def _over_time(one: DecidedTracks, blob: bytes) -> dict[str, object]:
    """Scores in equal parts of a track, by tag, with the times of their centres."""
    if not blob:
        return {"curves": None}
    scores = analysis.curves(blob)
    seconds = (np.arange(scores.shape[1]) + 0.5) * (one.tracks[0].duration or 0.0) / scores.shape[1]
    by_tag = zip(one.model.vocabulary, scores.round(4).astype(np.float64).tolist(), strict=True)
    rounded = {tag: [round(value, 4) for value in values] for tag, values in by_tag}
    return {"curves": {"seconds": seconds.round(2).tolist(), "scores": rounded}}


def _places(fitting: Sequence[LibraryTrack], numbers: Sequence[int]) -> Int64[np.ndarray, "tracks"]:
    """Places of tracks in the order of numbers; those without a track are left out."""
    places = {track.id: place for place, track in enumerate(fitting)}
    return np.array([places[number] for number in dict.fromkeys(numbers) if number in places], np.int64)


def _request(body: PlaylistRequest) -> playlists.Request:
    """What a playlist should be like; raises `UsageError` for contradictions."""
    if (body.first is None) != (body.last is None):
        raise UsageError("a journey needs both from and to")
    if body.first is not None and body.energy:
        raise UsageError("energy would be ignored: a journey has an order of its own; leave it out")
    like = () if body.like is None else (body.like,) if isinstance(body.like, int) else tuple(body.like)
    if not (body.tags or like or body.first is not None):
        raise UsageError("a playlist needs tags, like, from and to, or tracks")
    journey = None if body.first is None or body.last is None else (body.first, body.last)
    return playlists.Request(
        60.0 * body.minutes,
        tuple(body.tags),
        tuple(body.without),
        like=like,
        journey=journey,
        energy=body.energy,
        seed=body.seed,
    )


def _shortness(created: Playlist, seconds: float) -> str | None:
    """Why a playlist is shorter than requested; None if it is not."""
    if created.seconds >= SHORT * seconds:
        return None
    return (
        f"{created.seconds / 60:.0f} of {seconds / 60:.0f} min: only {created.candidates:,} tracks fit, and no artist "
        "comes twice in a row; ask for fewer moods, or for others"
    )
