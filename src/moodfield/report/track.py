"""The report section of one track: tags, waveform with mood ribbons, scores, and curves over time."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from moodfield.report import curves, text
from moodfield.report.curves import Segment
from moodfield.tagging import Tagging

TOP = 5
"""tags with a bar for their score"""
ROWS = 6
"""tags with a curve over time"""
MOST_TIMES = 1000
"""times as likely as usual at which bars end"""
CHIPS = 12
"""decided tags that are shown; further ones can be unfolded"""
CURVE_POINTS = 160
"""steps of a curve"""
TOOLTIPS = 20
"""steps of a curve with a tooltip that lists scores"""
BARS = 200
"""bars of the waveform"""
RIBBON_STEPS = 96
"""steps of a ribbon"""
RIBBON_WIDTH = 5
"""steps that a ribbon averages over"""
LIST_STEPS = 48
"""steps of a ribbon in the list of all tracks"""
SUMMARY_TAGS = 4
"""tags of a ribbon that the summary lists with their share of the time"""
HEIGHT = 60
"""height of a curve in units of its drawing; the threshold is in the middle"""
TICKS = 4
"""most labels of the time axis after the first"""
INTERVALS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
"""seconds between labels of the time axis"""
CLIP_PATH = (
    '<svg width="0" height="0" aria-hidden="true"><clipPath id="above">'
    f'<path d="M0 0H{CURVE_POINTS}V{HEIGHT // 2}H0z"/></clipPath></svg>'
)
"""the part of a curve above its threshold"""


def section(tagging: Tagging, name: tuple[str, str], number: int, scale: float) -> str:
    """The section of one track; `scale` is the score at the right end of the bars."""
    folder = f'<bdi class="folder">{text.safe(name[1])}</bdi>' if name[1] else ""
    unit = "" if tagging.usual is None else '<span class="unit">as usual</span>'
    return (
        f'<article id="t{number}" aria-labelledby="n{number}"><div class="head"><h3 id="n{number}">'
        f"<bdi>{text.breakable(name[0])}</bdi></h3><p>{folder}"
        f'<span class="number">{text.clock(tagging.duration)}</span></p>{_chips(tagging)}</div>{_timeline(tagging)}'
        f'<div class="charts"><div><h4>Strongest tags{unit}</h4>{_bars(tagging, scale)}</div>'
        f"<div><h4>Over time</h4>{_over_time(tagging, number)}</div></div></article>"
    )


def bar(tagging: Tagging, tag: int) -> tuple[float, float | None]:
    """Length of the bar of a tag, and place of its threshold; None if no score exceeds it.

    Both are logarithms of the score / the usual score, from 1 on; the scores themselves if it is unknown.
    """
    threshold, usual = curves.threshold(tagging, tag), curves.usual(tagging, tag)
    return _length(curves.score(tagging, tag), usual), None if threshold is None else _length(threshold, usual)


def ribbon(tagging: Tagging) -> str:
    """The ribbon of a track in the list of all tracks."""
    tags = next((tags for tags in _by_kind(tagging).values() if tags), [])
    return _stripes(tagging, curves.segments(tagging, tags, LIST_STEPS, width=2), LIST_STEPS)


def _timeline(tagging: Tagging) -> str:
    """The waveform, and ribbons with the strongest mood and theme at each time."""
    lanes, summary = [], ""
    for name, tags in _by_kind(tagging).items():
        segments = curves.segments(tagging, tags, RIBBON_STEPS, width=RIBBON_WIDTH)
        if segments:
            lanes.append(_lane(tagging, name, segments))
            summary = summary or _summary(tagging, name, segments)
    return (
        f'<div class="timeline">{_ticks(tagging)}{_waveform(tagging)}{"".join(lanes)}<input type="range" min="0" '
        f'max="{RIBBON_STEPS - 1}" value="0" aria-label="Position in the track" hidden></div>'
        f'<p class="at quiet">{summary}</p>'
    )


def _waveform(tagging: Tagging) -> str:
    """The peak envelope as bars around a middle line."""
    levels = curves.waveform(tagging, BARS)
    if levels is None:
        return ""
    halves = np.maximum(np.rint(100 * levels), 1).astype(int)
    bars = "".join(f"m1 {before + half}v-{2 * half}" for before, half in itertools.pairwise([0, *halves.tolist()]))
    return _stretched("wave", f"-.5 -104 {BARS} 208", f'<path d="M-1 0{bars}"/>')


def _lane(tagging: Tagging, name: str, segments: Sequence[Segment]) -> str:
    """A ribbon of the strongest mood, or theme, with names where they fit."""
    items = "".join(
        f'<li style="--h:{text.hue(tagging.vocabulary[segment.tag])};grid-column:{segment.first + 1}'
        f'/{segment.end + 1}" '
        f'title="{_describe(tagging, segment)}"><span>{text.safe(tagging.vocabulary[segment.tag])}</span></li>'
        for segment in segments
    )
    return (
        f'<div class="lane {name.lower()}-lane"><h4>{name}</h4>{_stripes(tagging, segments, RIBBON_STEPS)}'
        f'<ol aria-label="Strongest {name.lower()} over time">{items}</ol></div>'
    )


def _describe(tagging: Tagging, segment: Segment) -> str:
    """Time range, tag, and whether it is above its threshold."""
    first, end = (text.clock(curves.span(tagging) * step / RIBBON_STEPS) for step in (segment.first, segment.end))
    place = "above" if all(segment.above) else "partly above" if any(segment.above) else "below"
    return f"{first} – {end} {text.safe(tagging.vocabulary[segment.tag])}, {place} its threshold"


def _summary(tagging: Tagging, name: str, segments: Sequence[Segment]) -> str:
    """The strongest tags with their share of the time."""
    counts: Counter[int] = Counter()
    for segment in segments:
        counts[segment.tag] += len(segment.above)
    top = counts.most_common(SUMMARY_TAGS)
    (first, share), *rest = ((text.safe(tagging.vocabulary[tag]), count / RIBBON_STEPS) for tag, count in top)
    others = [f"{tag} {share:.0%}" for tag, share in rest] + ["others"] * (len(counts) > SUMMARY_TAGS)
    return ", ".join([f"Strongest {name.lower().rstrip('s')}: {first} for {share:.0%} of the time", *others])


def _chips(tagging: Tagging) -> str:
    """The decided tags: moods, then themes."""
    if not tagging.decided:
        return f'<p class="quiet">{text.NO_TAG}</p>'
    shown, rest = tagging.decided[:CHIPS], tagging.decided[CHIPS:]
    lists = []
    for name, tags in (
        ("Moods", [tag for tag in shown if tag not in tagging.theme_vocabulary]),
        ("Themes", [tag for tag in shown if tag in tagging.theme_vocabulary]),
    ):
        lines = "".join(f'<li style="--h:{text.hue(tag)}">{text.safe(tag)}</li>' for tag in tags)
        label = f'<span class="quiet">{name}</span>' if name == "Themes" else ""
        lists.append(f'<div class="{name.lower()}">{label}<ul aria-label="{name}">{lines}</ul></div>' if tags else "")
    named = ", ".join(f'<span class="{text.kind(tagging, tag)}">{text.safe(tag)}</span>' for tag in rest)
    more = f"<details><summary>{len(rest)} more</summary><p>{named}</p></details>" if rest else ""
    return "".join(lists) + more


def _bars(tagging: Tagging, scale: float) -> str:
    """Bars of the strongest tags, by how much more likely than usual they are, with marks at the thresholds."""
    lines = []
    for tag in curves.strongest(tagging, TOP):
        name, score, threshold = tagging.vocabulary[tag], curves.score(tagging, tag), curves.threshold(tagging, tag)
        length, place = bar(tagging, tag)
        mark = "" if place is None else f'<i style="left:{text.percent(place, scale)}"></i>'
        rule = "never decided" if threshold is None else f"threshold {text.short(threshold)}"
        faint = "" if name in tagging.decided else ' class="faint"'
        lines.append(
            f'<li{faint} style="--h:{text.hue(name)};--w:{text.percent(length, scale)}" title="'
            f'score {text.short(score)}, {rule}">'
            f'<span class="{text.kind(tagging, name)}">{text.safe(name)}</span>'
            f'<span class="bar" role="img" aria-label="{rule}">{mark}</span>'
            f'<span class="number">{_number(tagging, tag, score)}</span></li>'
        )
    return f'<ol class="bars">{"".join(lines)}</ol>'


def _length(score: float, usual: float | None) -> float:
    return score if usual is None else math.log2(min(max(score / usual, 1), MOST_TIMES))


def _number(tagging: Tagging, tag: int, score: float) -> str:
    """How many times as likely as usual a tag with this score is; the score if that is unknown."""
    usual = curves.usual(tagging, tag)
    return text.short(score) if usual is None else text.times(score / usual)


def _over_time(tagging: Tagging, number: int) -> str:
    """Curves of the strongest tags over a time axis."""
    tags, span, steps = curves.strongest(tagging, ROWS), curves.span(tagging), len(tagging.over_time.seconds)
    at = np.linspace(0, span, CURVE_POINTS + 1)
    heights = curves.relative(tagging, tags, curves.averaged(tagging, tags, at, window=span / min(steps, CURVE_POINTS)))
    rows = "".join(_row(tagging, tag, height, f"c{number}-{tag}") for tag, height in zip(tags, heights, strict=True))
    return f'<div class="curves">{_ticks(tagging)}{rows}{_tooltips(tagging, tags)}</div>'


def _ticks(tagging: Tagging) -> str:
    """Labels of the time axis."""
    span = curves.span(tagging)
    between = next((seconds for seconds in INTERVALS if span / seconds <= TICKS), 3600 * math.ceil(span / TICKS / 3600))
    labels = "".join(
        f'<span style="left:{text.percent(second, span)}">{text.clock(second)}</span>'
        for second in np.arange(0, 0.95 * span, between).tolist()
    )
    return f'<div class="ticks" aria-hidden="true">{labels}</div>'


def _row(tagging: Tagging, tag: int, curve: Float64[np.ndarray, "time"], key: str) -> str:
    """The curve of one tag."""
    name = tagging.vocabulary[tag]
    heights = np.rint(HEIGHT * (1 - curve)).astype(int)
    steps = " ".join(f"1{step}" if step < 0 else f"1 {step}" for step in np.diff(heights).tolist())
    peak = text.clock(curves.span(tagging) * int(curve.argmax()) / CURVE_POINTS)
    label = f"{text.safe(name)}: above its threshold for {np.mean(curve > 0.5):.0%} of the time, strongest at {peak}"
    kind = "row" if name in tagging.decided else "row faint"
    return (
        f'<div class="{kind}" style="--h:{text.hue(name)}"><span class="'
        f'{text.kind(tagging, name)}" aria-hidden="true">{text.safe(name)}</span>'
        f'<svg viewBox="0 0 {CURVE_POINTS} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'<g class="low"><path id="{key}" d="M0 {HEIGHT}V{heights[0]}l{steps}V{HEIGHT}z"/></g>'
        f'<use class="high" href="#{key}"/><path class="line" d="M0 {HEIGHT // 2}H{CURVE_POINTS}"/></svg></div>'
    )


def _tooltips(tagging: Tagging, tags: list[int]) -> str:
    """Invisible rectangles over the curves, whose tooltips list the scores of the time step."""
    count = min(len(tagging.over_time.seconds), TOOLTIPS)
    edges, scores = curves.steps(tagging, tags, count)
    signs = np.where(curves.relative(tagging, tags, scores) > 0.5, "●", "○")
    numbers = [[_number(tagging, tag, score) for score in row.tolist()] for tag, row in zip(tags, scores, strict=True)]
    rectangles = "".join(
        f'<rect x="{step}" width="1" height="1"><title>{text.clock(edges[step])} – {text.clock(edges[step + 1])}'
        + "".join(
            f"\n{signs[row, step]} {text.safe(tagging.vocabulary[tag])} {numbers[row][step]}"
            for row, tag in enumerate(tags)
        )
        + "</title></rect>"
        for step in range(count)
    )
    return _stretched("tooltips", f"0 0 {count} 1", rectangles)


def _stripes(tagging: Tagging, segments: Sequence[Segment], steps: int) -> str:
    """Segments as stripes in the colours of their tags, tall and saturated where the tag is above its threshold."""
    stripes = []
    for segment in segments:
        name, x = tagging.vocabulary[segment.tag], segment.first
        for above, run in itertools.groupby(segment.above):
            width = len(list(run))
            look = 'height="8" class="high' if above else 'y="3" height="5" class="low'
            shade = " deep" if text.deep(name) else ""
            stripes.append(f'<rect x="{x}" width="{width}" {look}{shade}" style="--h:{text.hue(name)}"/>')
            x += width
    return _stretched("ribbon", f"0 0 {steps} 8", "".join(stripes))


def _stretched(name: str, box: str, shapes: str) -> str:
    """A drawing that is stretched to the size of its CSS class."""
    return f'<svg class="{name}" viewBox="{box}" preserveAspectRatio="none" aria-hidden="true">{shapes}</svg>'


def _by_kind(tagging: Tagging) -> dict[str, list[int]]:
    """Indices of moods and of themes."""
    themes = [tag for tag, name in enumerate(tagging.vocabulary) if name in tagging.theme_vocabulary]
    return {"Moods": [tag for tag in range(len(tagging.vocabulary)) if tag not in themes], "Themes": themes}
