"""Taggings become a page that a person can look at.

In: taggings, and the files that could not be tagged. Out: one HTML file that needs nothing else.
Knows nothing of: taggers, audio, or commands.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from moodfield import files
from moodfield.errors import OutputError
from moodfield.report import curves, text, track, track_map
from moodfield.tagging import Tagging

TITLE = "What the music feels like"
COUNTS = 12
"""tags that are counted over the whole collection, moods and themes each"""
KEYS = 9
"""clearest moods that explain the colours of the map"""
WIDE, NARROW = (600, 680, 760, 880), (280, 330, 400, 520, 680)
"""pixels that the map may measure across, beside a key or on a large page, and on a phone"""
MANY = 60
"""tracks from which on a browser lays out only those in sight"""
FINDABLE = 8
"""tracks from which on they can be searched"""
NONE: Mapping[str, str] = MappingProxyType({})


def write(
    path: str | Path,
    taggings: Sequence[Tagging],
    *,
    failed: Mapping[str, str] = NONE,
    untagged: int = 0,
    title: str = TITLE,
) -> None:
    """Write the report of some taggings, in their order, to `path` atomically.

    `failed` maps the files that could not be tagged to the reasons; `untagged` is how many files are left because the
    work was stopped. Refuses with `OutputError` what must not be
    replaced, as `files.check_output` does, and what cannot be written.
    """
    path = Path(path)
    files.check_output(path, kind=files.HTML)
    text = page(taggings, failed=failed, untagged=untagged, title=title)
    try:
        files.write(path, text.encode())
    except OSError as error:
        raise OutputError(f"the report cannot be written to {path} ({error.strerror}); name another file") from error


def page(
    taggings: Sequence[Tagging], *, failed: Mapping[str, str] = NONE, untagged: int = 0, title: str = TITLE
) -> str:
    """The page itself: HTML that asks for no other file, about 20 kB a track."""
    names = text.names([each.source for each in taggings])
    marks = [
        mark
        for each in taggings
        for tag in curves.clearest(each, track.TOP)
        for mark in (curves.score(each, tag), curves.threshold(each, tag))
    ]
    scale = max((mark for mark in marks if mark), default=1.0)
    style, script = (Path(__file__).with_suffix(kind).read_text(encoding="utf-8") for kind in (".css", ".js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"
    layout = "lazy" if len(taggings) > MANY else "whole"
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,"><title>'
        f"{text.safe(title)}</title>",
        f'<style>{style}</style></head><body>{track.CLIP}<main class="{layout}">',
        _header(taggings, failed, untagged, title),
        _map(taggings, names),
        _overview(taggings),
        _contents(taggings, names),
        *(
            track.card(each, name, number, scale)
            for number, (each, name) in enumerate(zip(taggings, names, strict=True))
        ),
        _failures(failed),
        f"</main><script>{script}</script></body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


# The parts of the page


def _header(taggings: Sequence[Tagging], failed: Mapping[str, str], untagged: int, title: str) -> str:
    facts = [text.count(len(taggings), "track")]
    if taggings:
        models = ", ".join(dict.fromkeys(each.model for each in taggings))
        facts += [text.length(sum(each.duration for each in taggings)), f"model: <bdi>{text.safe(models)}</bdi>"]
    if failed:
        facts.append(f'<a href="#failed">{len(failed)} failed</a>')
    if untagged:
        facts.append(f"stopped: {text.count(untagged, 'file')} {'was' if untagged == 1 else 'were'} not tagged")
    legend = (
        '<p class="legend"><svg viewBox="0 0 60 30" aria-hidden="true" style="--h:168"><path class="low" '
        'd="M0 30V27C12 27 14 4 28 4S44 24 60 24V30z"/>'
        '<path class="high" d="M12.4 15C15 9 19 4 28 4S37 9 40.8 15z"/><path class="line" d="M0 15H60"/></svg>'
        "<span>Every tag has its own threshold. A track gets the tags that score above theirs, the clearest first; "
        "<em>themes</em>, what music is for or about, are in italics. Curves follow the music: halfway up is the tag’s "
        "threshold, and strong colour is above it. Colours are families of moods.</span></p>"
    )
    lines = "".join(f"<li>{fact}</li>" for fact in facts)
    return f'<header><h1>{text.safe(title)}</h1><ul class="facts">{lines}</ul>{legend if taggings else ""}</header>'


def _map(taggings: Sequence[Tagging], names: Sequence[tuple[str, str]]) -> str:
    """Every track at its place among the others."""
    places = track_map.lay_out(taggings)
    if places is None:
        return ""
    many, titles = len(taggings) > MANY, [name for name, _ in names]
    unnamed: list[str | None] = [None] * len(taggings)
    wide = unnamed if many else track_map.sides(places, titles, widths=WIDE, type_size=13, longest=180)
    narrow = unnamed if many else track_map.sides(places, titles, widths=NARROW, type_size=12, longest=120)
    moods = [_first_mood(each) for each in taggings]
    dots = "".join(
        f'<li style="left:{text.percent(x, 1)};top:{text.percent(y, 1)};--h:{text.hue(mood)}">'
        f'<a href="#t{number}" class="{"" if mood in each.decided else "ring "}{_side("w", at, x)} '
        f'{_side("n", below, x)}"><span><bdi>{text.safe(name)}</bdi> '
        f"<small>{text.few(each) or text.NOTHING}</small></span></a></li>"
        for number, (each, name, mood, at, below, x, y) in enumerate(
            zip(taggings, titles, moods, wide, narrow, places.right.tolist(), places.down.tolist(), strict=True)
        )
    )
    ends = zip(
        ("up", "left", "down", "right"),
        (places.upward.high, places.across.low, places.upward.low, places.across.high),
        strict=True,
    )
    words = "".join(f'<p class="{end}">{text.safe(", ".join(tags))}</p>' for end, tags in ends if tags)
    counts = Counter(moods)
    key = "".join(
        f'<li style="--h:{text.hue(mood)}">{text.safe(mood)} <span class="number">{counts[mood]}</span></li>'
        for mood in sorted(counts, key=lambda mood: (-counts[mood], mood))[:KEYS]
    )
    return (
        '<section aria-labelledby="map"><h2 id="map">Map of moods</h2><p class="quiet">Every dot is'
        " a track. Tracks that feel alike are near each other; the words at its edges are the moods that change on the "
        'way.</p><a class="skip" href="#all">Past the '
        f'map</a><div class="map"><div class="plane">{words}<ol class="places'
        f'{" crowd" if many else ""}">{dots}</ol></div>'
        f'<div class="key"><h3>Clearest mood</h3><ul>{key}</ul><p class="quiet">A ring: no mood is above its threshold.'
        "</p></div></div></section>"
    )


def _overview(taggings: Sequence[Tagging]) -> str:
    """How many tracks have each tag."""
    if not taggings:
        return ""
    themes = {tag for each in taggings for tag in each.theme_vocabulary}
    counts = Counter(tag for each in taggings for tag in each.decided)
    most = max(counts.values(), default=1)
    columns = []
    for what, wanted in (("Moods", counts.keys() - themes), ("Themes", counts.keys() & themes)):
        lines = "".join(
            f'<li style="--h:{text.hue(tag)};--w:{text.percent(counts[tag], most)}">'
            f'<span class="tag">{text.safe(tag)}</span>'
            f'<span class="bar" aria-hidden="true"></span><span class="number">{counts[tag]}</span></li>'
            for tag in sorted(wanted, key=lambda tag: (-counts[tag], tag))[:COUNTS]
        )
        columns.append(f'<div><h3>{what}</h3><ol class="bars {what.lower()}-named">{lines}</ol></div>' if lines else "")
    body = "".join(columns) or f'<p class="quiet">{text.NOTHING}</p>'
    return (
        '<section aria-labelledby="all"><h2 id="all">Altogether</h2><p class="quiet">How many of the '
        f'{text.count(len(taggings), "track")} have each tag.</p><div class="columns">{body}</div></section>'
    )


def _contents(taggings: Sequence[Tagging], names: Sequence[tuple[str, str]]) -> str:
    """One line for each track."""
    if not taggings:
        return ""
    find = (
        '<label id="find" hidden><span>Find by name or tag</span> <input type="search" autocomplete="off"> '
        '<span role="status" class="quiet"></span></label>'
    )
    lines = "".join(
        f'<li><a href="#t{number}"><bdi>{text.safe(name)}</bdi></a>{track.ribbon(each)}<span class="few">'
        + (text.few(each) or "–")
        + f'</span><span class="number">{text.clock(each.duration)}</span></li>'
        for number, (each, (name, _)) in enumerate(zip(taggings, names, strict=True))
    )
    return (
        f'<section aria-labelledby="tracks"><h2 id="tracks">Track by track</h2><p class="quiet">A stripe has the '
        f"colour of the clearest mood at each moment.</p>{find if len(taggings) >= FINDABLE else ''}"
        f'<ol class="contents">{lines}</ol></section>'
    )


def _failures(failed: Mapping[str, str]) -> str:
    """The files that could not be tagged, and why."""
    if not failed:
        return ""
    lines = "".join(
        f"<li><bdi>{text.safe(source)}</bdi><p><bdi>"
        f"{text.safe(reason.removeprefix(source).lstrip(': '))}</bdi></p></li>"
        for source, reason in failed.items()
    )
    return f'<section id="failed" aria-labelledby="not"><h2 id="not">Failed</h2><ul>{lines}</ul></section>'


def _first_mood(each: Tagging) -> str:
    """The clearest mood; the clearest tag if there are no moods."""
    tags = [each.vocabulary[tag] for tag in curves.clearest(each, len(each.vocabulary))]
    return next((tag for tag in tags if tag not in each.theme_vocabulary), tags[0])


def _side(page: str, side: str | None, x: float) -> str:
    """Where the name of a dot stands on a wide or a narrow page; one that fits nowhere waits until it is asked for."""
    return f"{page}-{side}" if side else f"{page}-{'right' if x < 0.5 else 'left'} {page}-waits"
