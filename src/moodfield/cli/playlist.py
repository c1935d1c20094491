"""The command that makes playlists from a library."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from moodfield.cli import console, filters
from moodfield.errors import LibraryError, UsageError
from moodfield.report import text

if TYPE_CHECKING:
    from moodfield.library.playlists import Energy, Playlist, Request

ENERGIES = ("rising", "falling", "peak")
SHORT = 0.9
"""share of the requested duration below which a playlist is reported as short"""


@filters.filtered
def playlist(
    *,
    query: filters.Query,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="x.m3u8, x.xspf, or x.nsp; without it only a list is printed")
    ] = None,
    minutes: Annotated[float, typer.Option(min=1, help="duration")] = 60,
    like: Annotated[list[str] | None, typer.Option(help="track that it is similar to; several: to their mean")] = None,
    start: Annotated[str | None, typer.Option("--from", help="first track of a journey")] = None,
    to: Annotated[str | None, typer.Option(help="its last track")] = None,
    energy: Annotated[str | None, typer.Option(help=f"order by energy: {', '.join(ENERGIES)}")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="another playlist; by default the best one")] = None,
    absolute_paths: Annotated[bool, typer.Option("--absolute-paths", help="write absolute paths")] = False,
) -> None:
    """Make a playlist of tracks with moods and themes, or on the way from one track to another.

    Tracks are chosen by evidence and diversity; no artist comes twice in a row. An .nsp is a smart playlist for
    Navidrome, which applies its rules to the moods in the files.

    For example:
        moodfield playlist --mood calm --mood dream --not dark --minutes 60 -o evening.m3u8
        moodfield playlist --mood happy --like song.mp3 --energy rising -o morning.xspf
        moodfield playlist --from song.mp3 --to other.mp3 --minutes 45 -o journey.m3u8
    """
    from moodfield.library import playlist_files
    from moodfield.library.playlists import Request

    wanted = query.wanted
    if (start is None) != (to is None):
        raise UsageError("a journey needs both --from TRACK and --to TRACK")
    if energy is not None and energy not in ENERGIES:
        raise UsageError(f"--energy {energy}: expected {', '.join(ENERGIES)}")
    if not (wanted.tags or like or start):
        raise UsageError("a playlist needs --mood, --theme, --like, or --from and --to")
    if start:
        console.check_unused({"--energy": energy}, why="a journey has an order of its own")
    if output:
        playlist_files.check(output)
    if wanted.evidence is not None:
        raise UsageError("--evidence would be ignored: a playlist has the tracks with the most of it; leave it out")
    request = Request(60 * minutes, wanted.tags, wanted.without, energy=cast("Energy | None", energy), seed=seed)
    if output and output.suffix.lower() == ".nsp":
        _check_rules(query, {"--like": like, "--from": start, "--energy": energy, "--seed": seed is not None})
        with query.decided() as (_, decided):
            playlist_files.write_rules(output, request, decided.model.themes)
        console.message(f"wrote {output}: a smart playlist for Navidrome, which needs moods in the files")
        return
    created = _create(query, request, like or [], (start, to) if start and to else None)
    console.result(filters.format_head("evidence" if wanted.tags else "moods"))
    for track, reason in zip(created.tracks, created.reasons, strict=True):
        console.result(filters.format_line(track.label, track.duration, reason))
    left_out = playlist_files.write(output, created.tracks, absolute=absolute_paths) if output else ()
    for track in left_out:
        console.message(f"{track.path!r} is left out: an M3U cannot have a path with a line break; an .xspf can")
    _print_summary(created, request, output)


def _create(query: filters.Query, request: "Request", like: list[str], journey: tuple[str, str] | None) -> "Playlist":
    """The playlist; its tracks fit the filter's conditions on metadata, which first and last track need not."""
    from dataclasses import replace

    from moodfield.library import database, playlists, similarity, tracks

    with database.read(query.path) as connection:
        liked = tuple(tracks.locate(connection, name).id for name in like)
        ends = [tracks.locate(connection, name) for name in journey or ()]
    for track in ends:
        if track.missing:
            raise LibraryError(f"{track.path} has gone; name another track")
    numbers = tuple(track.id for track in ends)
    with query.decided(replace(query.wanted, tags=(), without=(), also=numbers)) as (connection, decided):
        embeddings = similarity.read(connection, decided.model)
        return playlists.create(
            decided, embeddings, replace(request, like=liked, journey=(numbers[0], numbers[1]) if numbers else None)
        )


def _check_rules(query: filters.Query, options: dict[str, object]) -> None:
    """Raise `UsageError` for what rules of moods cannot express."""
    from dataclasses import replace

    from moodfield.library.tracks import Filter

    console.check_unused(
        options | {"--absolute": query.absolute}, why="a smart playlist has rules for moods and themes alone"
    )
    wanted = query.wanted
    if not wanted.tags or replace(wanted, tags=(), without=()) != Filter():
        raise UsageError("a smart playlist (.nsp) has rules for --mood, --theme and --not alone; name an .m3u8")


def _print_summary(created: "Playlist", request: "Request", output: Path | None) -> None:
    """Print how long the playlist is and, if it is too short, why."""
    count = f"{text.count(len(created.tracks), 'track')}, {created.seconds / 60:.0f} min"
    written = f"wrote {output}: {count}" if output else count
    if created.seconds < SHORT * request.seconds:
        rule = ", and no artist comes twice in a row" if created.candidates > len(created.tracks) else ""
        written += (
            f", of {request.seconds / 60:.0f} min: {text.count(created.candidates, 'track')} can be chosen{rule}; ask "
            "for fewer moods, or for others"
        )
    console.message(written)
