"""Tables of tracks of a library, of one track, and of counts."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from moodfield.cli import console, filters
from moodfield.report import text

if TYPE_CHECKING:
    from moodfield.library.decided import DecidedTracks
    from moodfield.library.statistics import LibraryStatistics
    from moodfield.library.tracks import LibraryTrack

SHOWN_TAGS = 12
"""tags of a track that are shown with their evidence"""
COMMON_TAGS = 20
"""tags of a library that are shown"""


def print_tracks(decided: "DecidedTracks", tags: tuple[str, ...]) -> None:
    """Print a line for every track: name, duration, evidence for tags if some are wanted, moods and themes."""
    if not decided.tracks and not decided.untagged:
        console.message("no track fits")
        return
    console.result(filters.format_head(*tags, "moods · themes"))
    for line in _lines(decided, tags):
        console.result(line)


def _lines(decided: "DecidedTracks", tags: tuple[str, ...]) -> Iterator[str]:
    themes, columns = frozenset(decided.model.themes), decided.columns(tags)
    for row, track in enumerate(decided.tracks):
        names = decided.decided(row)
        moods = ", ".join(name for name in names if name not in themes) or "–"
        rest = ", ".join(name for name in names if name in themes)
        evidence = (
            f"{decided.evidence[row, column]:+{len(tag)}.1f}  " for tag, column in zip(tags, columns, strict=True)
        )
        line = f"{''.join(evidence)}{moods}{' · ' if rest else ''}{rest}"
        yield filters.format_line(track.label, track.duration, line)
    for track in decided.untagged:
        name = track.label if track.error is None else Path(track.path).name
        yield filters.format_line(name, track.duration, f"failed: {track.reason}" if track.error else "not tagged")


def print_track(track: "LibraryTrack", absolute: "DecidedTracks", relative: "DecidedTracks") -> None:
    """Print all about a track: metadata, then its clearest tags with both kinds of decisions and the reason."""
    import numpy as np

    from moodfield import decisions
    from moodfield.library import reasons

    terminal = console.terminal()
    minutes, seconds = divmod(round(track.duration or 0), 60)
    lines = {
        "title": track.title, "artist": track.artist, "album": track.album, "genre": track.genre,
        "year": str(track.year or ""), "duration": f"{minutes}:{seconds:02}" if track.duration else "",
        "file": track.path, "gone": "the file was not there at the last scan" if track.missing else "",
        "error": track.error or "",
    }  # fmt: skip
    for name, value in lines.items():
        if value:
            terminal.print(f"{name:<9} {console.escape(value)}")
    if not relative.tracks:
        terminal.print("\nnot tagged" if track.error is None else "")
        return
    correction = relative.correction(0)
    for name, tags in (("added", correction.added), ("removed", correction.removed)):
        if tags:
            terminal.print(f"{name:<9} {console.escape(', '.join(sorted(tags)))}, by a person")
    terminal.print(f"model     {console.escape(relative.model.name)}")
    terminal.print()
    heads = ("score", "evidence", "relative") if relative.relative else ("score", "evidence")
    table = console.table("tag", *heads, "decided", "why", words=1)
    table.columns[-1].justify = table.columns[-2].justify = "left"
    evidence = [rule.evidence(relative.logits[0]) for rule in (absolute.rule, relative.rule)]
    order = np.argsort(-evidence[1], kind="stable")
    decided = absolute.is_decided[0] | relative.is_decided[0]
    shown = [tag for place, tag in enumerate(order) if place < SHOWN_TAGS or decided[tag]]
    for tag in shown:
        numbers = [relative.scores[0, tag], *(values[tag] for values in evidence[: len(heads) - 1])]
        table.add_row(
            console.escape(relative.model.vocabulary[tag]),
            *(f"{number:.3f}" if place == 0 else f"{number:+.2f}" for place, number in enumerate(numbers)),
            _decided_by(absolute, relative, int(tag)),
            reasons.reason(relative, evidence[1], int(tag)),
        )
    terminal.print(table)
    if relative.relative:
        terminal.print(
            f"\nEvidence is in standard deviations above what is usual in music, or relative: in these "
            f"{relative.model.tracks:,} tracks.\nA tag is decided if it is above {decisions.CUT:g}, and at most "
            f"{decisions.MARGIN:g} below the clearest."
        )


def _decided_by(absolute: "DecidedTracks", relative: "DecidedTracks", tag: int) -> str:
    """Which rules decide a tag."""
    both = bool(absolute.is_decided[0, tag]), bool(relative.is_decided[0, tag])
    if not relative.relative:
        return "yes" if both[0] else "–"
    return {(True, True): "both", (True, False): "absolute", (False, True): "relative"}.get(both, "–")


def print_statistics(counts: "LibraryStatistics") -> None:
    """Print counts of a library, and its commonest tags."""
    terminal = console.terminal()
    per_track = counts.bytes / max(1, counts.tracks) / 1000
    lines = {
        "tracks": f"{counts.tracks:,} tagged, {counts.failed:,} failed, {counts.untagged - counts.failed:,} not tagged",
        "music": f"{counts.hours:,.1f} h, {text.count(counts.artists, 'artist')}, {text.count(counts.albums, 'album')}",
        "corrected": text.count(counts.corrected, "track"),
        "models": ", ".join(f"{one['name']} ({text.count(one['tracks'], 'track')})" for one in counts.models),
        "database": f"{counts.bytes / 1e6:,.1f} MB, {per_track:.1f} kB a track",
    }
    for name, value in lines.items():
        terminal.print(f"{name:<10} {console.escape(value)}")
    terminal.print()
    table = console.table("tag", "tracks", "share", words=1)
    for tag, number in list(counts.tags.items())[:COMMON_TAGS]:
        table.add_row(console.escape(tag), f"{number:,}", f"{number / counts.tracks:.1%}")
    terminal.print(table)
    kind = "relative to the library" if counts.relative else "absolute"
    more = f", of which --json has all; these are the {COMMON_TAGS} commonest" if len(counts.tags) > COMMON_TAGS else ""
    terminal.print(f"\ndecisions are {kind}; {text.count(len(counts.tags), 'tag')} are on some track{more}")
