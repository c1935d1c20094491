"""Taggings become a page that a person can look at.

In: taggings, and the files that could not be heard. Out: one HTML file that needs nothing else.
Knows nothing of: taggers, audio, or who asked.
"""

import base64
import hashlib
import html
import itertools
import math
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from types import MappingProxyType

import numpy as np
from jaxtyping import Float64

from moodfield import files
from moodfield.errors import BadConfig
from moodfield.outputs import album, curves
from moodfield.outputs.curves import Heard, Stretch

TITLE = "What the music feels like"
TOP = 5
"""tags whose scores are drawn as bars, per track"""
ROWS = 6
"""tags that are drawn over time, per track"""
CHIPS = 12
"""decided tags that are shown at once, per track; the others wait behind a click"""
COUNTS = 12
"""tags that are counted over the whole collection, moods and themes each"""
COLUMNS = 160
"""steps of a curve over time; longer maps are averaged"""
MOMENTS = 20
"""spans of a track that tell their scores when pointed at"""
BARS = 200
"""bars of a waveform"""
STEPS = 96
"""spans of a ribbon of moods"""
SMOOTH = 5
"""spans that a ribbon averages, so that it can be read"""
STRIPES = 48
"""spans of a track in the list of all tracks"""
MOST = 4
"""tags of a ribbon that are named in one line, with their share of the time"""
KEYS = 9
"""clearest moods that explain the colours of the map"""
WIDE, NARROW = (600, 680, 760, 880), (280, 330, 400, 520, 680)
"""pixels that the map may measure across, beside a key or on a large page, and on a phone"""
HEIGHT = 60
"""units of a curve; half of them is the threshold"""
TICKS = 4
"""labels under the time axis, without the first"""
INTERVALS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
"""seconds between two labels of the time axis"""
MANY = 60
"""tracks from which on a browser lays out only those in sight"""
FINDABLE = 8
"""tracks from which on they can be searched"""
FEW = 3
"""decided tags in the list of all tracks, per track"""
FAMILIES = MappingProxyType(
    {
        5: "love romantic sexy sensual passionate tender tenderness",
        35: "energetic action fast powerful power sport heavy groovy party aggressive angry exciting tense tension",
        62: "retro vintage nostalgic nostalgia cool ballad",
        82: "happy fun funny positive upbeat joyful joyful_activation cheerful children summer holiday christmas",
        128: "hopeful inspiring uplifting motivational amazement nature travel adventure game",
        168: "calm calmness relaxing soft slow meditative peaceful melodic",
        212: "dream dreamy space soundscape deep ambient background",
        258: "sad sadness melancholic emotional lonely drama",
        300: "dark mysterious scary horror trailer film movie documentary",
        335: "epic dramatic solemn solemnity triumphant advertising commercial corporate",
    }
)
"""hue in degrees (OKLCH) of each family of tags; a tag without a family gets one from its letters; *chosen by us*"""
NOTHING = "No tag is above its threshold."
CLIP = (
    '<svg width="0" height="0" aria-hidden="true"><clipPath id="above">'
    f'<path d="M0 0H{COLUMNS}V{HEIGHT // 2}H0z"/></clipPath></svg>'
)
"""what is above the threshold in every curve"""
NONE: Mapping[str, str] = MappingProxyType({})
ENDING = re.compile(r"(?<=.)\.\w{1,5}$")
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
DEEP = frozenset(tag for family in FAMILIES.values() for tag in family.split()[1::2])
"""tags that are drawn a shade deeper beside others of their family"""
HUES = MappingProxyType({tag: hue for hue, family in FAMILIES.items() for tag in family.split()})


def write(path: str | Path, heard: Sequence[Heard], *, failed: Mapping[str, str] = NONE, title: str = TITLE) -> None:
    """Put the page of some taggings, in their order, at `path`; it is there whole or not at all.

    `failed` maps the files that could not be heard to the reasons. Refuses a place where no file can be with
    `BadConfig`.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise BadConfig(f"the report was to be {path}, but {path.parent} is no folder; make it or name another one")
    text = page(heard, failed=failed, title=title)
    try:
        files.write(path, text.encode())
    except OSError as error:
        raise BadConfig(f"the report cannot be written to {path} ({error.strerror}); name another file") from error


def page(heard: Sequence[Heard], *, failed: Mapping[str, str] = NONE, title: str = TITLE) -> str:
    """The page itself: HTML that asks for no other file, about 20 kB a track."""
    names = _names([each.source for each in heard])
    marks = [
        mark
        for each in heard
        for tag in curves.top(each, TOP)
        for mark in (curves.score(each, tag), curves.threshold(each, tag))
    ]
    scale = max((mark for mark in marks if mark), default=1.0)
    style, script = (Path(__file__).with_suffix(kind).read_text(encoding="utf-8") for kind in (".css", ".js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"
    layout = "lazy" if len(heard) > MANY else "whole"
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,"><title>{_safe(title)}</title>',
        f'<style>{style}</style></head><body>{CLIP}<main class="{layout}">',
        _header(heard, failed, title),
        _map(heard, names),
        _overview(heard),
        _contents(heard, names),
        *(_card(each, name, number, scale) for number, (each, name) in enumerate(zip(heard, names, strict=True))),
        _failures(failed),
        f"</main><script>{script}</script></body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


# The parts of the page


def _header(heard: Sequence[Heard], failed: Mapping[str, str], title: str) -> str:
    facts = [_count(len(heard), "track")]
    if heard:
        models = ", ".join(dict.fromkeys(each.model for each in heard))
        facts += [_length(sum(each.duration for each in heard)), f"heard by <bdi>{_safe(models)}</bdi>"]
    if failed:
        facts.append(f'<a href="#failed">{len(failed)} not heard</a>')
    legend = (
        '<p class="legend"><svg viewBox="0 0 60 30" aria-hidden="true" style="--h:168"><path class="low" '
        'd="M0 30V27C12 27 14 4 28 4S44 24 60 24V30z"/>'
        '<path class="high" d="M12.4 15C15 9 19 4 28 4S37 9 40.8 15z"/><path class="line" d="M0 15H60"/></svg>'
        "<span>Every tag has its own threshold. A track gets the tags that score above theirs, the clearest first; "
        "<em>themes</em>, what music is for or about, are in italics. Curves follow the music: halfway up is the tag’s "
        "threshold, and strong colour is above it. Colours are families of moods.</span></p>"
    )
    lines = "".join(f"<li>{fact}</li>" for fact in facts)
    return f'<header><h1>{_safe(title)}</h1><ul class="facts">{lines}</ul>{legend if heard else ""}</header>'


def _map(heard: Sequence[Heard], names: Sequence[tuple[str, str]]) -> str:
    """Every track at its place among the others."""
    places = album.lay_out(heard)
    if places is None:
        return ""
    many, titles = len(heard) > MANY, [name for name, _ in names]
    unnamed: list[str | None] = [None] * len(heard)
    wide = unnamed if many else album.sides(places, titles, widths=WIDE, type_size=13, longest=180)
    narrow = unnamed if many else album.sides(places, titles, widths=NARROW, type_size=12, longest=120)
    moods = [_first_mood(each) for each in heard]
    dots = "".join(
        f'<li style="left:{_percent(x, 1)};top:{_percent(y, 1)};--h:{_hue(mood)}"><a href="#t{number}" class="'
        f'{"" if mood in each.decided else "ring "}{_side("w", at, x)} {_side("n", below, x)}"><span><bdi>{_safe(name)}'
        f"</bdi> <small>{_few(each) or NOTHING}</small></span></a></li>"
        for number, (each, name, mood, at, below, x, y) in enumerate(
            zip(heard, titles, moods, wide, narrow, places.right.tolist(), places.down.tolist(), strict=True)
        )
    )
    ends = zip(
        ("up", "left", "down", "right"),
        (places.upward.high, places.across.low, places.upward.low, places.across.high),
        strict=True,
    )
    words = "".join(f'<p class="{end}">{_safe(", ".join(tags))}</p>' for end, tags in ends if tags)
    counts = Counter(moods)
    key = "".join(
        f'<li style="--h:{_hue(mood)}">{_safe(mood)} <span class="number">{counts[mood]}</span></li>'
        for mood in sorted(counts, key=lambda mood: (-counts[mood], mood))[:KEYS]
    )
    return (
        '<section aria-labelledby="map"><h2 id="map">Map of moods</h2><p class="quiet">Every dot is a track. Tracks that '
        'feel alike are near each other; the words say what changes on the way.</p><a class="skip" href="#all">Past the '
        f'map</a><div class="map"><div class="plane">{words}<ol class="places{" crowd" if many else ""}">{dots}</ol></div>'
        f'<div class="key"><h3>Clearest mood</h3><ul>{key}</ul><p class="quiet">A ring: no mood is above its threshold.'
        "</p></div></div></section>"
    )


def _overview(heard: Sequence[Heard]) -> str:
    """How many tracks have each tag."""
    if not heard:
        return ""
    themes = {tag for each in heard for tag in each.themes}
    counts = Counter(tag for each in heard for tag in each.decided)
    most = max(counts.values(), default=1)
    columns = []
    for what, wanted in (("Moods", counts.keys() - themes), ("Themes", counts.keys() & themes)):
        lines = "".join(
            f'<li style="--h:{_hue(tag)};--w:{_percent(counts[tag], most)}"><span class="tag">{_safe(tag)}</span>'
            f'<span class="bar" aria-hidden="true"></span><span class="number">{counts[tag]}</span></li>'
            for tag in sorted(wanted, key=lambda tag: (-counts[tag], tag))[:COUNTS]
        )
        columns.append(f'<div><h3>{what}</h3><ol class="bars {what.lower()}-named">{lines}</ol></div>' if lines else "")
    body = "".join(columns) or f'<p class="quiet">{NOTHING}</p>'
    return (
        '<section aria-labelledby="all"><h2 id="all">Altogether</h2><p class="quiet">How many of the '
        f'{_count(len(heard), "track")} have each tag.</p><div class="columns">{body}</div></section>'
    )


def _contents(heard: Sequence[Heard], names: Sequence[tuple[str, str]]) -> str:
    """One line for each track."""
    if not heard:
        return ""
    find = (
        '<label id="find" hidden><span>Find by name or tag</span> <input type="search" autocomplete="off"> '
        '<span role="status" class="quiet"></span></label>'
    )
    lines = "".join(
        f'<li><a href="#t{number}"><bdi>{_safe(name)}</bdi></a>{_list_ribbon(each)}<span class="few">'
        + (_few(each) or "–")
        + f'</span><span class="number">{_clock(each.duration)}</span></li>'
        for number, (each, (name, _)) in enumerate(zip(heard, names, strict=True))
    )
    return (
        f'<section aria-labelledby="tracks"><h2 id="tracks">Track by track</h2><p class="quiet">A stripe has the '
        f"colour of the clearest mood at each moment.</p>{find if len(heard) >= FINDABLE else ''}"
        f'<ol class="contents">{lines}</ol></section>'
    )


def _card(each: Heard, name: tuple[str, str], number: int, scale: float) -> str:
    """Everything about one track."""
    folder = f'<bdi class="folder">{_safe(name[1])}</bdi>' if name[1] else ""
    return (
        f'<article id="t{number}" aria-labelledby="n{number}"><div class="head"><h3 id="n{number}"><bdi>'
        f'{_safe(name[0])}</bdi></h3><p>{folder}<span class="number">{_clock(each.duration)}</span></p>'
        f'{_chips(each)}</div>{_hear(each)}<div class="inside"><div><h4>Highest scores</h4>{_bars(each, scale)}</div>'
        f"<div><h4>Over time</h4>{_over_time(each, number)}</div></div></article>"
    )


def _hear(each: Heard) -> str:
    """The waveform, with what is clearest at each moment under it."""
    lanes, most = [], ""
    for what, tags in _kinds(each).items():
        stretches = curves.stretches(each, tags, STEPS, width=SMOOTH)
        if stretches:
            lanes.append(_lane(each, what, stretches))
            most = most or _most(each, what, stretches)
    return (
        f'<div class="hear">{_ticks(each)}{_waveform(each)}{"".join(lanes)}<input type="range" min="0" '
        f'max="{STEPS - 1}" value="0" aria-label="Moment of the track" hidden></div><p class="now quiet">{most}</p>'
    )


def _waveform(each: Heard) -> str:
    """The outline of the music as bars around a middle line."""
    swings = curves.outline(each, BARS)
    if swings is None:
        return ""
    halves = np.maximum(np.rint(100 * swings), 1).astype(int)
    bars = "".join(f"m1 {before + half}v-{2 * half}" for before, half in itertools.pairwise([0, *halves.tolist()]))
    return (
        f'<svg class="wave" viewBox="-.5 -104 {BARS} 208" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="M-1 0{bars}"/></svg>'
    )


def _lane(each: Heard, what: str, stretches: Sequence[Stretch]) -> str:
    """A ribbon of the clearest mood, or theme, with its name wherever that fits."""
    said = "".join(
        f'<li style="--h:{_hue(each.vocabulary[stretch.tag])};grid-column:{stretch.first + 1}/{stretch.end + 1}" '
        f'title="{_said(each, stretch)}"><span>{_safe(each.vocabulary[stretch.tag])}</span></li>'
        for stretch in stretches
    )
    return (
        f'<div class="lane {what.lower()}-lane"><h4>{what}</h4>{_ribbon(each, stretches, STEPS)}'
        f'<ol aria-label="Clearest {what.lower()} over time">{said}</ol></div>'
    )


def _said(each: Heard, stretch: Stretch) -> str:
    """A stretch in words."""
    first, end = (_clock(curves.span(each) * step / STEPS) for step in (stretch.first, stretch.end))
    clear = "above" if all(stretch.clear) else "partly above" if any(stretch.clear) else "below"
    return f"{first} – {end} {_safe(each.vocabulary[stretch.tag])}, {clear} its threshold"


def _most(each: Heard, what: str, stretches: Sequence[Stretch]) -> str:
    """How much of the time which tag is the clearest."""
    counts: Counter[int] = Counter()
    for stretch in stretches:
        counts[stretch.tag] += len(stretch.clear)
    (first, share), *rest = ((_safe(each.vocabulary[tag]), count / STEPS) for tag, count in counts.most_common(MOST))
    others = [f"{tag} {share:.0%}" for tag, share in rest] + ["others"] * (len(counts) > MOST)
    return ", ".join([f"Clearest {what.lower().rstrip('s')}: {first} for {share:.0%} of the time", *others])


def _chips(each: Heard) -> str:
    """The decided tags."""
    if not each.decided:
        return f'<p class="quiet">{NOTHING}</p>'
    shown, rest = each.decided[:CHIPS], each.decided[CHIPS:]
    lists = []
    for what, tags in (
        ("Moods", [tag for tag in shown if tag not in each.themes]),
        ("Themes", [tag for tag in shown if tag in each.themes]),
    ):
        lines = "".join(f'<li style="--h:{_hue(tag)}">{_safe(tag)}</li>' for tag in tags)
        label = f'<span class="quiet">{what}</span>' if what == "Themes" else ""
        lists.append(f'<div class="{what.lower()}">{label}<ul aria-label="{what}">{lines}</ul></div>' if tags else "")
    more = f"<details><summary>{len(rest)} more</summary><p>{_safe(', '.join(rest))}</p></details>" if rest else ""
    return "".join(lists) + more


def _bars(each: Heard, scale: float) -> str:
    """The highest scores, with the thresholds as marks."""
    lines = []
    for tag in curves.top(each, TOP):
        name, score, threshold = each.vocabulary[tag], curves.score(each, tag), curves.threshold(each, tag)
        mark = "" if threshold is None else f'<i style="left:{_percent(threshold, scale)}"></i>'
        rule = "never decided" if threshold is None else f"threshold {_short(threshold)}"
        faint = "" if name in each.decided else ' class="faint"'
        lines.append(
            f'<li{faint} style="--h:{_hue(name)};--w:{_percent(score, scale)}" title="{_short(score)}, {rule}">'
            f'<span class="{_kind(each, name)}">{_safe(name)}</span><span class="bar" role="img" aria-label="{rule}">{mark}</span>'
            f'<span class="number">{_short(score)}</span></li>'
        )
    return f'<ol class="bars">{"".join(lines)}</ol>'


def _over_time(each: Heard, number: int) -> str:
    """A curve for each of the clearest tags, and the time axis."""
    tags, span, steps = curves.clearest(each, ROWS), curves.span(each), len(each.over_time.seconds)
    at = np.linspace(0, span, COLUMNS + 1)
    heights = curves.relative(each, tags, curves.averaged(each, tags, at, window=span / min(steps, COLUMNS)))
    rows = "".join(_row(each, tag, height, f"c{number}-{tag}") for tag, height in zip(tags, heights, strict=True))
    return f'<div class="flow">{_ticks(each)}{rows}{_moments(each, tags)}</div>'


def _ticks(each: Heard) -> str:
    """The labels of the time axis."""
    span = curves.span(each)
    between = next((seconds for seconds in INTERVALS if span / seconds <= TICKS), 3600 * math.ceil(span / TICKS / 3600))
    labels = "".join(
        f'<span style="left:{_percent(second, span)}">{_clock(second)}</span>'
        for second in np.arange(0, 0.95 * span, between).tolist()
    )
    return f'<div class="ticks" aria-hidden="true">{labels}</div>'


def _row(each: Heard, tag: int, curve: Float64[np.ndarray, "time"], key: str) -> str:
    """One tag over time."""
    name = each.vocabulary[tag]
    heights = np.rint(HEIGHT * (1 - curve)).astype(int)
    steps = " ".join(f"1{step}" if step < 0 else f"1 {step}" for step in np.diff(heights).tolist())
    clearest = _clock(curves.span(each) * int(curve.argmax()) / COLUMNS)
    label = f"{_safe(name)}: above its threshold for {np.mean(curve > 0.5):.0%} of the time, clearest at {clearest}"
    kind = "row" if name in each.decided else "row faint"
    return (
        f'<div class="{kind}" style="--h:{_hue(name)}"><span class="{_kind(each, name)}" aria-hidden="true">{_safe(name)}</span>'
        f'<svg viewBox="0 0 {COLUMNS} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'<g class="low"><path id="{key}" d="M0 {HEIGHT}V{heights[0]}l{steps}V{HEIGHT}z"/></g>'
        f'<use class="high" href="#{key}"/><path class="line" d="M0 {HEIGHT // 2}H{COLUMNS}"/></svg></div>'
    )


def _moments(each: Heard, tags: list[int]) -> str:
    """What the curves say at each moment, for who points at it."""
    count = min(len(each.over_time.seconds), MOMENTS)
    edges, scores = curves.spans(each, tags, count)
    signs = np.where(curves.relative(each, tags, scores) > 0.5, "●", "○")
    told = "".join(
        f'<rect x="{moment}" width="1" height="1"><title>{_clock(edges[moment])} – {_clock(edges[moment + 1])}'
        + "".join(
            f"\n{signs[row, moment]} {_safe(each.vocabulary[tag])} {_short(float(scores[row, moment]))}"
            for row, tag in enumerate(tags)
        )
        + "</title></rect>"
        for moment in range(count)
    )
    return f'<svg class="told" viewBox="0 0 {count} 1" preserveAspectRatio="none" aria-hidden="true">{told}</svg>'


def _list_ribbon(each: Heard) -> str:
    """The ribbon of a track in the list of all."""
    tags = next((tags for tags in _kinds(each).values() if tags), [])
    return _ribbon(each, curves.stretches(each, tags, STRIPES, width=2), STRIPES)


def _ribbon(each: Heard, stretches: Sequence[Stretch], steps: int) -> str:
    """The clearest tag of each moment as a stripe of its colour: strong and tall where it is above its threshold."""
    stripes = []
    for stretch in stretches:
        name, x = each.vocabulary[stretch.tag], stretch.first
        for clear, run in itertools.groupby(stretch.clear):
            width = len(list(run))
            look = 'height="8" class="high' if clear else 'y="3" height="5" class="low'
            shade = " deep" if _deep(name) else ""
            stripes.append(f'<rect x="{x}" width="{width}" {look}{shade}" style="--h:{_hue(name)}"/>')
            x += width
    return (
        f'<svg class="ribbon" viewBox="0 0 {steps} 8" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(stripes)}</svg>"
    )


def _failures(failed: Mapping[str, str]) -> str:
    """The files that could not be heard, and why."""
    if not failed:
        return ""
    lines = "".join(
        f"<li><bdi>{_safe(source)}</bdi><p><bdi>{_safe(reason.removeprefix(source).lstrip(': '))}</bdi></p></li>"
        for source, reason in failed.items()
    )
    return f'<section id="failed" aria-labelledby="not"><h2 id="not">Not heard</h2><ul>{lines}</ul></section>'


# Words, numbers and colours


def _names(sources: Sequence[str]) -> list[tuple[str, str]]:
    """File names without their endings, and their folders from the one that they share."""
    paths = [PurePath(source) for source in sources]
    levels = zip(*(path.parent.parts for path in paths), strict=False)
    shared = len(list(itertools.takewhile(lambda level: len(set(level)) == 1, levels)))
    return [
        (ENDING.sub("", path.name) or str(path), "/".join(path.parent.parts[max(shared - 1, 0) :][-2:]).lstrip("/"))
        for path in paths
    ]


def _kinds(each: Heard) -> dict[str, list[int]]:
    """The tags that say what the music feels like, and those that say what it is for."""
    themes = [tag for tag, name in enumerate(each.vocabulary) if name in each.themes]
    return {"Moods": [tag for tag in range(len(each.vocabulary)) if tag not in themes], "Themes": themes}


def _kind(each: Heard, name: str) -> str:
    return "tag theme" if name in each.themes else "tag"


def _few(each: Heard) -> str:
    """The first decided tags in their colours."""
    return ", ".join(
        f'<span class="{_kind(each, tag)}" style="--h:{_hue(tag)}">{_safe(tag)}</span>' for tag in each.decided[:FEW]
    )


def _first_mood(each: Heard) -> str:
    """The clearest mood; the clearest tag if there are no moods."""
    tags = [each.vocabulary[tag] for tag in curves.clearest(each, len(each.vocabulary))]
    return next((tag for tag in tags if tag not in each.themes), tags[0])


def _side(page: str, side: str | None, x: float) -> str:
    """Where the name of a dot stands on a wide or a narrow page; one that fits nowhere waits until it is asked for."""
    return f"{page}-{side}" if side else f"{page}-{'right' if x < 0.5 else 'left'} {page}-waits"


def _safe(text: str) -> str:
    """Text for HTML, whatever the file system put into it."""
    return html.escape(UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text))


def _percent(value: float | int, whole: float | int) -> str:
    return f"{100 * min(max(value / whole, 0), 1):.4g}%"


def _short(score: float) -> str:
    return f"{score:.2f}" if score >= 0.1 else f"{score:.3f}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _clock(seconds: float) -> str:
    """As players show it: `3:05`, `1:02:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _length(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{round(seconds)} s"
    return f"{minutes // 60:,} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _hue(tag: str) -> int:
    return HUES.get(tag.casefold(), zlib.crc32(tag.encode("utf-8", "replace")) % 360)


def _deep(tag: str) -> bool:
    return tag.casefold() in DEEP
