"""A tagging becomes the card of a track: its tags, its waveform over ribbons of mood, its scores and curves.

In: a tagging. Out: HTML for a part of a page.
Knows nothing of: the page around it, and other tracks.
"""

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from moodfield.report import curves, text
from moodfield.report.curves import Stretch
from moodfield.tagging import Tagging

TOP = 5
"""clearest tags whose scores are drawn as bars, per track"""
ROWS = 6
"""tags that are drawn over time, per track"""
CHIPS = 12
"""decided tags that are shown at once, per track; the others wait behind a click"""
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
HEIGHT = 60
"""units of a curve; half of them is the threshold"""
TICKS = 4
"""labels under the time axis, without the first"""
INTERVALS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
"""seconds between two labels of the time axis"""
CLIP = (
    '<svg width="0" height="0" aria-hidden="true"><clipPath id="above">'
    f'<path d="M0 0H{COLUMNS}V{HEIGHT // 2}H0z"/></clipPath></svg>'
)
"""what is above the threshold in every curve"""


def card(each: Tagging, name: tuple[str, str], number: int, scale: float) -> str:
    """Everything about one track."""
    folder = f'<bdi class="folder">{text.safe(name[1])}</bdi>' if name[1] else ""
    return (
        f'<article id="t{number}" aria-labelledby="n{number}"><div class="head"><h3 id="n{number}">'
        f"<bdi>{text.safe(name[0])}</bdi></h3><p>{folder}"
        f'<span class="number">{text.clock(each.duration)}</span></p>{_chips(each)}</div>{_hear(each)}'
        f'<div class="inside"><div><h4>Clearest tags</h4>{_bars(each, scale)}</div>'
        f"<div><h4>Over time</h4>{_over_time(each, number)}</div></div></article>"
    )


def ribbon(each: Tagging) -> str:
    """The ribbon of a track in the list of all."""
    tags = next((tags for tags in _kinds(each).values() if tags), [])
    return _stripes(each, curves.stretches(each, tags, STRIPES, width=2), STRIPES)


def _hear(each: Tagging) -> str:
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


def _waveform(each: Tagging) -> str:
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


def _lane(each: Tagging, what: str, stretches: Sequence[Stretch]) -> str:
    """A ribbon of the clearest mood, or theme, with its name wherever that fits."""
    said = "".join(
        f'<li style="--h:{text.hue(each.vocabulary[stretch.tag])};grid-column:{stretch.first + 1}'
        f'/{stretch.end + 1}" '
        f'title="{_said(each, stretch)}"><span>{text.safe(each.vocabulary[stretch.tag])}</span></li>'
        for stretch in stretches
    )
    return (
        f'<div class="lane {what.lower()}-lane"><h4>{what}</h4>{_stripes(each, stretches, STEPS)}'
        f'<ol aria-label="Clearest {what.lower()} over time">{said}</ol></div>'
    )


def _said(each: Tagging, stretch: Stretch) -> str:
    """A stretch in words."""
    first, end = (text.clock(curves.span(each) * step / STEPS) for step in (stretch.first, stretch.end))
    clear = "above" if all(stretch.clear) else "partly above" if any(stretch.clear) else "below"
    return f"{first} – {end} {text.safe(each.vocabulary[stretch.tag])}, {clear} its threshold"


def _most(each: Tagging, what: str, stretches: Sequence[Stretch]) -> str:
    """How much of the time which tag is the clearest."""
    counts: Counter[int] = Counter()
    for stretch in stretches:
        counts[stretch.tag] += len(stretch.clear)
    (first, share), *rest = (
        (text.safe(each.vocabulary[tag]), count / STEPS) for tag, count in counts.most_common(MOST)
    )
    others = [f"{tag} {share:.0%}" for tag, share in rest] + ["others"] * (len(counts) > MOST)
    return ", ".join([f"Clearest {what.lower().rstrip('s')}: {first} for {share:.0%} of the time", *others])


def _chips(each: Tagging) -> str:
    """The decided tags."""
    if not each.decided:
        return f'<p class="quiet">{text.NOTHING}</p>'
    shown, rest = each.decided[:CHIPS], each.decided[CHIPS:]
    lists = []
    for what, tags in (
        ("Moods", [tag for tag in shown if tag not in each.theme_vocabulary]),
        ("Themes", [tag for tag in shown if tag in each.theme_vocabulary]),
    ):
        lines = "".join(f'<li style="--h:{text.hue(tag)}">{text.safe(tag)}</li>' for tag in tags)
        label = f'<span class="quiet">{what}</span>' if what == "Themes" else ""
        lists.append(f'<div class="{what.lower()}">{label}<ul aria-label="{what}">{lines}</ul></div>' if tags else "")
    named = ", ".join(f'<span class="{text.kind(each, tag)}">{text.safe(tag)}</span>' for tag in rest)
    more = f"<details><summary>{len(rest)} more</summary><p>{named}</p></details>" if rest else ""
    return "".join(lists) + more


def _bars(each: Tagging, scale: float) -> str:
    """The scores of the clearest tags, with the thresholds as marks."""
    lines = []
    for tag in curves.clearest(each, TOP):
        name, score, threshold = each.vocabulary[tag], curves.score(each, tag), curves.threshold(each, tag)
        mark = "" if threshold is None else f'<i style="left:{text.percent(threshold, scale)}"></i>'
        rule = "never decided" if threshold is None else f"threshold {text.short(threshold)}"
        faint = "" if name in each.decided else ' class="faint"'
        lines.append(
            f'<li{faint} style="--h:{text.hue(name)};--w:{text.percent(score, scale)}" title="'
            f'{text.short(score)}, {rule}">'
            f'<span class="{text.kind(each, name)}">{text.safe(name)}</span>'
            f'<span class="bar" role="img" aria-label="{rule}">{mark}</span>'
            f'<span class="number">{text.short(score)}</span></li>'
        )
    return f'<ol class="bars">{"".join(lines)}</ol>'


def _over_time(each: Tagging, number: int) -> str:
    """A curve for each of the clearest tags, and the time axis."""
    tags, span, steps = curves.clearest(each, ROWS), curves.span(each), len(each.over_time.seconds)
    at = np.linspace(0, span, COLUMNS + 1)
    heights = curves.relative(each, tags, curves.averaged(each, tags, at, window=span / min(steps, COLUMNS)))
    rows = "".join(_row(each, tag, height, f"c{number}-{tag}") for tag, height in zip(tags, heights, strict=True))
    return f'<div class="flow">{_ticks(each)}{rows}{_moments(each, tags)}</div>'


def _ticks(each: Tagging) -> str:
    """The labels of the time axis."""
    span = curves.span(each)
    between = next((seconds for seconds in INTERVALS if span / seconds <= TICKS), 3600 * math.ceil(span / TICKS / 3600))
    labels = "".join(
        f'<span style="left:{text.percent(second, span)}">{text.clock(second)}</span>'
        for second in np.arange(0, 0.95 * span, between).tolist()
    )
    return f'<div class="ticks" aria-hidden="true">{labels}</div>'


def _row(each: Tagging, tag: int, curve: Float64[np.ndarray, "time"], key: str) -> str:
    """One tag over time."""
    name = each.vocabulary[tag]
    heights = np.rint(HEIGHT * (1 - curve)).astype(int)
    steps = " ".join(f"1{step}" if step < 0 else f"1 {step}" for step in np.diff(heights).tolist())
    clearest = text.clock(curves.span(each) * int(curve.argmax()) / COLUMNS)
    label = f"{text.safe(name)}: above its threshold for {np.mean(curve > 0.5):.0%} of the time, clearest at {clearest}"
    kind = "row" if name in each.decided else "row faint"
    return (
        f'<div class="{kind}" style="--h:{text.hue(name)}"><span class="'
        f'{text.kind(each, name)}" aria-hidden="true">{text.safe(name)}</span>'
        f'<svg viewBox="0 0 {COLUMNS} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'<g class="low"><path id="{key}" d="M0 {HEIGHT}V{heights[0]}l{steps}V{HEIGHT}z"/></g>'
        f'<use class="high" href="#{key}"/><path class="line" d="M0 {HEIGHT // 2}H{COLUMNS}"/></svg></div>'
    )


def _moments(each: Tagging, tags: list[int]) -> str:
    """What the curves say at each moment, for who points at it."""
    count = min(len(each.over_time.seconds), MOMENTS)
    edges, scores = curves.spans(each, tags, count)
    signs = np.where(curves.relative(each, tags, scores) > 0.5, "●", "○")
    told = "".join(
        f'<rect x="{moment}" width="1" height="1"><title>{text.clock(edges[moment])} – '
        f"{text.clock(edges[moment + 1])}"
        + "".join(
            f"\n{signs[row, moment]} {text.safe(each.vocabulary[tag])} {text.short(float(scores[row, moment]))}"
            for row, tag in enumerate(tags)
        )
        + "</title></rect>"
        for moment in range(count)
    )
    return f'<svg class="told" viewBox="0 0 {count} 1" preserveAspectRatio="none" aria-hidden="true">{told}</svg>'


def _stripes(each: Tagging, stretches: Sequence[Stretch], steps: int) -> str:
    """The clearest tag of each moment as a stripe of its colour: strong and tall where it is above its threshold."""
    stripes = []
    for stretch in stretches:
        name, x = each.vocabulary[stretch.tag], stretch.first
        for clear, run in itertools.groupby(stretch.clear):
            width = len(list(run))
            look = 'height="8" class="high' if clear else 'y="3" height="5" class="low'
            shade = " deep" if text.deep(name) else ""
            stripes.append(f'<rect x="{x}" width="{width}" {look}{shade}" style="--h:{text.hue(name)}"/>')
            x += width
    return (
        f'<svg class="ribbon" viewBox="0 0 {steps} 8" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(stripes)}</svg>"
    )


def _kinds(each: Tagging) -> dict[str, list[int]]:
    """The tags that say what the music feels like, and those that say what it is for."""
    themes = [tag for tag, name in enumerate(each.vocabulary) if name in each.theme_vocabulary]
    return {"Moods": [tag for tag in range(len(each.vocabulary)) if tag not in themes], "Themes": themes}
