"""An HTML report about tagged tracks: one file that loads nothing else and contains its data."""

import base64
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from moodfield import decisions, errors, files
from moodfield.report import data, regions, text, track_map
from moodfield.report.collection import Collection
from moodfield.report.track import Reference, Track
from moodfield.report.track_map import TrackMap

TITLE = "Moods and themes"
COUNTED_TAGS = 12
"""most moods, and themes, in the overview"""
LISTED_TAGS = 5
"""decided tags per track in the table without a script"""
LEGEND_MOODS = 9
"""most moods in the legend of the map"""
WIDE_MAPS, NARROW_MAPS = (600, 680, 760, 880), (280, 330, 400, 520, 680)
"""widths of the map in pixels, on wide and on narrow screens"""
MAP_WIDTH, MAP_HEIGHT = 3000, 2000
"""units of positions on the map"""
SCRIPTS = ("values.js", "card.js", "table.js", "map.js")
"""parts of the script, in order"""
NO_FAILURES: Mapping[str, str] = MappingProxyType({})


def write(
    path: str | Path,
    tracks: Iterable[Track],
    reference: Reference | None,
    *,
    failed: Mapping[str, str] = NO_FAILURES,
    untagged: int = 0,
    title: str = TITLE,
) -> None:
    """Write a report, atomically.

    Args:
        path: The HTML file.
        tracks: The tracks, in the order of the report. They are read once; memory grows by a few kB a track.
        reference: What the tracks share; None only if there are none.
        failed: Files that could not be tagged → error messages.
        untagged: Number of files that were not tagged because the work was interrupted.
        title: Heading of the page.

    Raises:
        OutputError: `path` must not be replaced (see `files.check_output`) or cannot be written.
    """
    html = render(tracks, reference, failed=failed, untagged=untagged, title=title)
    files.write_output(Path(path), html.encode(), kind=files.HTML)


def render(
    tracks: Iterable[Track],
    reference: Reference | None,
    *,
    failed: Mapping[str, str] = NO_FAILURES,
    untagged: int = 0,
    title: str = TITLE,
) -> str:
    """The HTML of a report (see `write`)."""
    collection = Collection.collect(tracks, reference) if reference else None
    style = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    script = "".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,"><title>'
        f"{text.safe(title)}</title>",
        f'<style>{style}</style></head><body><main class="{"many" if collection and collection.is_large else "few"}">',
        _header(collection, failed, untagged, title),
        *(_body(collection) if collection else ()),
        _failures(failed),
        f"</main>{f'<script>{script}</script>' if collection else ''}</body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _body(collection: Collection) -> tuple[str, ...]:
    """The sections about the tracks, and their data."""
    places = track_map.lay_out(collection.scores, collection.reference)
    names = [
        (title or name, folder)
        for title, (name, folder) in zip(collection.titles, text.names(collection.sources), strict=True)
    ]
    return (
        _map(collection, places, names),
        _overview(collection),
        _tracks(collection, names),
        _data(collection, places, names),
    )


def _header(collection: Collection | None, failed: Mapping[str, str], untagged: int, title: str) -> str:
    facts, legend = [text.count(len(collection) if collection else 0, "track")], ""
    if collection:
        legend = _legend(collection.reference)
        model = text.safe(collection.reference.model)
        facts += [text.length(sum(collection.durations)), f"model: <bdi>{model}</bdi>"]
        if collection.reference.relative:
            others = f"these {len(collection):,} tracks" if len(collection) > 1 else "other tracks"
            facts.append(f"tags relative to {collection.reference.others or others}")
    if failed:
        facts.append(f'<a href="#failed">{len(failed):,} failed</a>')
    if untagged:
        facts.append(f"stopped: {text.count(untagged, 'file')} {'was' if untagged == 1 else 'were'} not tagged")
    lines = "".join(f"<li>{fact}</li>" for fact in facts)
    return f'<header><h1>{text.safe(title)}</h1><ul class="facts">{lines}</ul>{legend}</header>'


def _legend(reference: Reference) -> str:
    """How tags are decided, what is usual, and what curves and colours are."""
    if reference.relative:
        rule = "that distinguish it from the others"
        where = f"in {reference.others}" if reference.others else "among these tracks"
    else:
        rule, where = "whose score is above their threshold", "for music in general"
    clearest = f": the clearest of these, at most {decisions.MAX_TAGS}"
    most = clearest if reference.statistics else ", those with the most evidence first"
    times = "" if reference.usual is None else f" “4 × as usual” means four times as likely as {where}."
    return (
        '<p class="legend"><svg viewBox="0 0 60 30" aria-hidden="true" style="--h:168"><path class="low" '
        'd="M0 30V27C12 27 14 4 28 4S44 24 60 24V30z"/>'
        '<path class="high" d="M12.4 15C15 9 19 4 28 4S37 9 40.8 15z"/><path class="line" d="M0 15H60"/></svg>'
        f"<span>A track gets the tags {rule}{most}.{times} "
        "<em>Themes</em> (what the music is for or about) are in italics. In curves over time the dotted line is the "
        "threshold; scores above it have a strong colour. Related tags have similar colours.</span></p>"
    )


def _map(collection: Collection, places: TrackMap | None, names: Sequence[tuple[str, str]]) -> str:
    """The map of tracks; nothing if there are too few."""
    if places is None:
        return ""
    words = _regions(places) if collection.is_large else _track_names(places, [name for name, _ in names])
    ends = zip(
        ("up", "left", "down", "right"),
        (places.vertical.high, places.horizontal.low, places.vertical.low, places.horizontal.high),
        strict=True,
    )
    edges = "".join(f'<p class="{end}">{text.safe(", ".join(tags))}</p>' for end, tags in ends if tags)
    explained = " A mood names the region where it is strongest." if collection.is_large else ""
    dot = min(12.0, max(4.0, 260 / len(collection) ** 0.5))
    return (
        '<section aria-labelledby="map"><h2 id="map">Map of moods</h2><p class="quiet">Every dot is a track; '
        f"tracks with similar moods are near each other. The moods at an edge increase towards it.{explained}</p>"
        f'<div class="map"><div class="plane">{edges}<div class="places" style="--dot:{dot:.1f}px">'
        f'<svg viewBox="0 0 {MAP_WIDTH} {MAP_HEIGHT}" role="img" aria-label="Map of {len(collection):,} tracks">'
        f"{_dots(collection, places)}</svg>{words}</div></div>{_key(collection)}</div></section>"
    )


def _dots(collection: Collection, places: TrackMap) -> str:
    """All tracks as dots and rings, a path for each colour."""
    decided = zip(collection.moods, collection.decided, strict=True)
    looks: dict[tuple[int, bool], list[str]] = defaultdict(list)
    for (mood, tags), (x, y) in zip(decided, _positions(places), strict=True):
        looks[text.hue(mood), mood in tags].append(f"M{x} {y}h0")
    paths = []
    for (hue, is_decided), dots in sorted(looks.items(), key=lambda item: -len(item[1])):
        path = "".join(dots)
        hole = "" if is_decided else f'<path class="hole" d="{path}"/>'
        paths.append(f'<path class="dot" style="--h:{hue}" d="{path}"/>{hole}')
    return "".join(paths)


def _positions(places: TrackMap) -> list[tuple[int, int]]:
    """Positions of tracks in units of the map."""
    x, y = (places.x * MAP_WIDTH).round(), (places.y * MAP_HEIGHT).round()
    return list(zip(map(int, x), map(int, y), strict=True))


def _regions(places: TrackMap) -> str:
    """Names of regions."""
    return "".join(
        f'<span class="region" style="left:{text.percent(region.x, 1)};top:{text.percent(region.y, 1)};'
        f'--h:{text.hue(region.tag)}">{text.safe(region.tag)}</span>'
        for region in regions.name_regions(places)
    )


def _track_names(places: TrackMap, titles: Sequence[str]) -> str:
    """Names of tracks, where there is space for them."""
    wide = track_map.label_sides(places, titles, widths=WIDE_MAPS, type_size=13, longest=180)
    narrow = track_map.label_sides(places, titles, widths=NARROW_MAPS, type_size=12, longest=120)
    return "".join(
        f'<span class="title-label w-{at or "hidden"} n-{below or "hidden"}" style="left:{text.percent(x, 1)};'
        f'top:{text.percent(y, 1)}"><bdi>{text.safe(title)}</bdi></span>'
        for title, at, below, x, y in zip(titles, wide, narrow, places.x, places.y, strict=True)
    )


def _key(collection: Collection) -> str:
    """The legend of the map: the number of tracks by their strongest mood."""
    counts = Counter(collection.moods)
    listed = sorted(counts, key=lambda mood: (-counts[mood], mood))[:LEGEND_MOODS]
    others = len(collection) - sum(counts[mood] for mood in listed)
    lines = "".join(
        f'<li style="--h:{text.hue(mood)}">{text.safe(mood)} <span class="number">{counts[mood]:,}</span></li>'
        for mood in listed
    ) + (f'<li class="others">others <span class="number">{others:,}</span></li>' if others else "")
    return (
        f'<div class="key"><h3>Strongest mood</h3><ul>{lines}</ul><p class="quiet">Ring: no mood among its tags.</p>'
        "</div>"
    )


def _overview(collection: Collection) -> str:
    """The number of tracks with each tag."""
    counts, themes = collection.counts, set(collection.reference.theme_vocabulary)
    most = max(counts.values(), default=1)
    columns = []
    kinds = {"Moods": counts.keys() - themes, "Themes": counts.keys() & themes}
    for name, tags in kinds.items():
        lines = "".join(
            f'<li style="--h:{text.hue(tag)};--w:{text.percent(counts[tag], most)}">'
            f'<span class="tag">{text.safe(tag)}</span>'
            f'<span class="bar" aria-hidden="true"></span><span class="number">{counts[tag]:,}</span></li>'
            for tag in sorted(tags, key=lambda tag: (-counts[tag], tag))[:COUNTED_TAGS]
        )
        columns.append(f'<div><h3>{name}</h3><ol class="bars {name.lower()}-named">{lines}</ol></div>' if lines else "")
    listed = f", of the {COUNTED_TAGS} most frequent" if max(map(len, kinds.values())) > COUNTED_TAGS else ""
    body = "".join(columns) or f'<p class="quiet">{text.NO_TAG}</p>'
    return (
        '<section aria-labelledby="all"><h2 id="all">All tracks</h2><p class="quiet">Number of '
        f'tracks with each tag{listed}.</p><div class="columns">{body}</div></section>'
    )


def _tracks(collection: Collection, names: Sequence[tuple[str, str]]) -> str:
    """The place of the table and of details, which are built by the script, and a plain table without it."""
    themes = set(collection.reference.theme_vocabulary)
    rows = "".join(
        f"<tr><td><bdi>{text.breakable(name)}</bdi></td><td>"
        + (", ".join(f"<em>{text.safe(tag)}</em>" if tag in themes else text.safe(tag) for tag in tags) or "–")
        + f"</td><td>{text.clock(seconds)}</td></tr>"
        for (name, _), tags, seconds in zip(
            names, (tags[:LISTED_TAGS] for tags in collection.decided), collection.durations, strict=True
        )
    )
    return (
        '<section aria-labelledby="tracks"><h2 id="tracks">Track by track</h2><div id="table"></div><noscript>'
        '<p class="quiet">With JavaScript the table can be searched and sorted, and shows moods over time.</p>'
        f'<table class="plain"><thead><tr><th scope="col">Track</th><th scope="col">Tags</th><th scope="col">Time</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></noscript></section>"
        '<div id="cards"></div>'
    )


def _data(collection: Collection, places: TrackMap | None, names: Sequence[tuple[str, str]]) -> str:
    """The data of the script: tags, names of folders, and for each track its name, folder, position and values."""
    folders = {folder: number for number, folder in enumerate(dict.fromkeys(folder for _, folder in names))}
    positions = [(0, 0)] * len(names) if places is None else _positions(places)
    tracks = ",\n".join(
        f"[{data.script(errors.printable(name))},{folders[folder]},{x},{y},{values}]"
        for (name, folder), (x, y), values in zip(names, positions, collection.encoded, strict=True)
    )
    tags, listed = data.script(data.encode_tags(collection.reference)), data.script([*map(errors.printable, folders)])
    return (
        f'<script type="application/json" id="data">{{"tags":{tags},"folders":{listed},"tracks":[\n{tracks}\n]}}'
        "</script>"
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
