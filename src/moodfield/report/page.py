"""An HTML report about tagged tracks: one file that loads nothing else."""

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from moodfield import decisions, files
from moodfield.report import curves, text, track, track_map
from moodfield.tagging import Tagging

TITLE = "Moods and themes"
COUNTED_TAGS = 12
"""most moods, and themes, in the overview"""
LEGEND_MOODS = 9
"""most moods in the legend of the map"""
WIDE_MAPS, NARROW_MAPS = (600, 680, 760, 880), (280, 330, 400, 520, 680)
"""widths of the map in pixels, on wide and on narrow screens"""
MANY_TRACKS = 60
"""above this number of tracks a browser lays out visible sections only, and the map has no names"""
MIN_SEARCH_TRACKS = 8
"""fewest tracks with a search field"""
NO_FAILURES: Mapping[str, str] = MappingProxyType({})


def write(
    path: str | Path,
    taggings: Sequence[Tagging],
    *,
    failed: Mapping[str, str] = NO_FAILURES,
    untagged: int = 0,
    title: str = TITLE,
) -> None:
    """Write a report, atomically.

    Args:
        path: The HTML file.
        taggings: Tagged tracks, in the order of the report.
        failed: Files that could not be tagged → error messages.
        untagged: Number of files that were not tagged because the work was interrupted.
        title: Heading of the page.

    Raises:
        OutputError: `path` must not be replaced (see `files.check_output`) or cannot be written.
    """
    html = render(taggings, failed=failed, untagged=untagged, title=title)
    files.write_output(Path(path), html.encode(), kind=files.HTML)


def render(
    taggings: Sequence[Tagging], *, failed: Mapping[str, str] = NO_FAILURES, untagged: int = 0, title: str = TITLE
) -> str:
    """The HTML of a report (see `write`), about 20 kB a track."""
    names = text.names([tagging.source for tagging in taggings])
    bars = [track.bar(tagging, tag) for tagging in taggings for tag in curves.strongest(tagging, track.TOP)]
    marks = [mark for bar in bars for mark in bar if mark]
    scale = max(marks, default=1.0)
    style, script = (Path(__file__).with_suffix(kind).read_text(encoding="utf-8") for kind in (".css", ".js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"
    layout = "lazy" if len(taggings) > MANY_TRACKS else "whole"
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,"><title>'
        f"{text.safe(title)}</title>",
        f'<style>{style}</style></head><body>{track.CLIP_PATH}<main class="{layout}">',
        _header(taggings, failed, untagged, title),
        _map(taggings, names),
        _overview(taggings),
        _contents(taggings, names),
        *(track.section(tagging, names[number], number, scale) for number, tagging in enumerate(taggings)),
        _failures(failed),
        f"</main><script>{script}</script></body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _header(taggings: Sequence[Tagging], failed: Mapping[str, str], untagged: int, title: str) -> str:
    facts = [text.count(len(taggings), "track")]
    if taggings:
        models = ", ".join(dict.fromkeys(tagging.model for tagging in taggings))
        facts += [text.length(sum(tagging.duration for tagging in taggings)), f"model: <bdi>{text.safe(models)}</bdi>"]
        if _is_relative(taggings):
            facts.append("tags relative to " + (f"these {len(taggings):,} tracks" if taggings[1:] else "other tracks"))
    if failed:
        facts.append(f'<a href="#failed">{len(failed)} failed</a>')
    if untagged:
        facts.append(f"stopped: {text.count(untagged, 'file')} {'was' if untagged == 1 else 'were'} not tagged")
    legend = (
        '<p class="legend"><svg viewBox="0 0 60 30" aria-hidden="true" style="--h:168"><path class="low" '
        'd="M0 30V27C12 27 14 4 28 4S44 24 60 24V30z"/>'
        '<path class="high" d="M12.4 15C15 9 19 4 28 4S37 9 40.8 15z"/><path class="line" d="M0 15H60"/></svg>'
        f"<span>{_rule(taggings)} "
        "<em>Themes</em> (what the music is for or about) are in italics. In curves over time the dotted line is the "
        "threshold; scores above it have a strong colour. Related tags have similar colours.</span></p>"
    )
    lines = "".join(f"<li>{fact}</li>" for fact in facts)
    return f'<header><h1>{text.safe(title)}</h1><ul class="facts">{lines}</ul>{legend if taggings else ""}</header>'


def _rule(taggings: Sequence[Tagging]) -> str:
    """How tags are decided, and what is usual, in words."""
    if _is_relative(taggings):
        rule, where = "that distinguish it from the others", "among these tracks"
    else:
        rule, where = "whose score is above their threshold", "for music in general"
    limited = all(tagging.statistics for tagging in taggings)
    clearest = f": the clearest of these, at most {decisions.MAX_TAGS}"
    most = clearest if limited else ", those with the most evidence first"
    has_usual = any(tagging.usual is not None for tagging in taggings)
    times = f" “4 × as usual” means four times as likely as {where}." if has_usual else ""
    return f"A track gets the tags {rule}{most}.{times}"


def _is_relative(taggings: Sequence[Tagging]) -> bool:
    """Whether all decisions are relative to other tracks."""
    return bool(taggings) and all(tagging.relative for tagging in taggings)


def _map(taggings: Sequence[Tagging], names: Sequence[tuple[str, str]]) -> str:
    """The map of tracks; nothing if there are too few."""
    places = track_map.lay_out(taggings)
    if places is None:
        return ""
    is_dense, titles = len(taggings) > MANY_TRACKS, [name for name, _ in names]
    wide: list[str | None] = [None] * len(taggings)
    narrow = wide
    if not is_dense:
        wide = track_map.label_sides(places, titles, widths=WIDE_MAPS, type_size=13, longest=180)
        narrow = track_map.label_sides(places, titles, widths=NARROW_MAPS, type_size=12, longest=120)
    moods = [_strongest_mood(tagging) for tagging in taggings]
    dots = "".join(
        f'<li style="left:{text.percent(x, 1)};top:{text.percent(y, 1)};--h:{text.hue(mood)}">'
        f'<a href="#t{number}" class="{"" if mood in tagging.decided else "ring "}{_side("w", at, x)} '
        f'{_side("n", below, x)}"><span><bdi>{text.safe(name)}</bdi> '
        f"<small>{text.tag_list(tagging) or text.NO_TAG}</small></span></a></li>"
        for number, (tagging, name, mood, at, below, x, y) in enumerate(
            zip(taggings, titles, moods, wide, narrow, places.x.tolist(), places.y.tolist(), strict=True)
        )
    )
    ends = zip(
        ("up", "left", "down", "right"),
        (places.vertical.high, places.horizontal.low, places.vertical.low, places.horizontal.high),
        strict=True,
    )
    words = "".join(f'<p class="{end}">{text.safe(", ".join(tags))}</p>' for end, tags in ends if tags)
    counts = Counter(moods)
    listed = sorted(counts, key=lambda mood: (-counts[mood], mood))[:LEGEND_MOODS]
    others = len(moods) - sum(counts[mood] for mood in listed)
    key = "".join(
        f'<li style="--h:{text.hue(mood)}">{text.safe(mood)} <span class="number">{counts[mood]}</span></li>'
        for mood in listed
    ) + (f'<li class="others">others <span class="number">{others}</span></li>' if others else "")
    return (
        '<section aria-labelledby="map"><h2 id="map">Map of moods</h2><p class="quiet">Every dot is a track; '
        "tracks with similar moods are near each other. The moods at an edge increase towards it.</p>"
        '<a class="skip" href="#all">Skip the map</a>'
        f'<div class="map"><div class="plane">{words}<ol class="places'
        f'{" dense" if is_dense else ""}">{dots}</ol></div>'
        f'<div class="key"><h3>Strongest mood</h3><ul>{key}</ul><p class="quiet">Ring: no mood among its tags.'
        "</p></div></div></section>"
    )


def _overview(taggings: Sequence[Tagging]) -> str:
    """The number of tracks with each tag."""
    if not taggings:
        return ""
    themes = {tag for tagging in taggings for tag in tagging.theme_vocabulary}
    counts = Counter(tag for tagging in taggings for tag in tagging.decided)
    most = max(counts.values(), default=1)
    columns = []
    kinds = {"Moods": counts.keys() - themes, "Themes": counts.keys() & themes}
    for name, tags in kinds.items():
        lines = "".join(
            f'<li style="--h:{text.hue(tag)};--w:{text.percent(counts[tag], most)}">'
            f'<span class="tag">{text.safe(tag)}</span>'
            f'<span class="bar" aria-hidden="true"></span><span class="number">{counts[tag]}</span></li>'
            for tag in sorted(tags, key=lambda tag: (-counts[tag], tag))[:COUNTED_TAGS]
        )
        columns.append(f'<div><h3>{name}</h3><ol class="bars {name.lower()}-named">{lines}</ol></div>' if lines else "")
    listed = f", of the {COUNTED_TAGS} most frequent" if max(map(len, kinds.values())) > COUNTED_TAGS else ""
    body = "".join(columns) or f'<p class="quiet">{text.NO_TAG}</p>'
    return (
        '<section aria-labelledby="all"><h2 id="all">All tracks</h2><p class="quiet">Number of '
        f'tracks with each tag{listed}.</p><div class="columns">{body}</div></section>'
    )


def _contents(taggings: Sequence[Tagging], names: Sequence[tuple[str, str]]) -> str:
    """The list of tracks."""
    if not taggings:
        return ""
    search = (
        '<label id="find" hidden><span>Find by name or tag</span> <input type="search" autocomplete="off"> '
        '<span role="status" class="quiet"></span></label>'
    )
    lines = "".join(
        f'<li><a href="#t{number}"><bdi>{text.breakable(name)}</bdi></a>{track.ribbon(tagging)}<span class="few">'
        + (text.tag_list(tagging) or "–")
        + f'</span><span class="number">{text.clock(tagging.duration)}</span></li>'
        for number, (tagging, (name, _)) in enumerate(zip(taggings, names, strict=True))
    )
    return (
        f'<section aria-labelledby="tracks"><h2 id="tracks">Track by track</h2><p class="quiet">A stripe has the '
        f"colour of the strongest mood at each time.</p>{search if len(taggings) >= MIN_SEARCH_TRACKS else ''}"
        f'<ol class="contents">{lines}</ol></section>'
    )


def _failures(failed: Mapping[str, str]) -> str:
    """The files that could not be tagged, with their errors."""
    if not failed:
        return ""
    lines = "".join(
        f"<li><bdi>{text.safe(source)}</bdi><p><bdi>"
        f"{text.safe(reason.removeprefix(source).lstrip(': '))}</bdi></p></li>"
        for source, reason in failed.items()
    )
    return f'<section id="failed" aria-labelledby="not"><h2 id="not">Failed</h2><ul>{lines}</ul></section>'


def _strongest_mood(tagging: Tagging) -> str:
    """The strongest mood; the strongest tag if there are no moods."""
    tags = [tagging.vocabulary[tag] for tag in curves.strongest(tagging, len(tagging.vocabulary))]
    return next((tag for tag in tags if tag not in tagging.theme_vocabulary), tags[0])


def _side(page: str, side: str | None, x: float) -> str:
    """CSS classes for the side of a name on a wide or narrow screen; names without a side appear on hover."""
    return f"{page}-{side}" if side else f"{page}-{'right' if x < 0.5 else 'left'} {page}-hidden"
