"""The HTML report: complete, self-contained, and safe for any file name."""

import hashlib
import itertools
import os
import re
import xml.etree.ElementTree as ET
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from moodfield.audio import Envelope
from moodfield.errors import OutputError
from moodfield.report import curves
from moodfield.report import page as report_page
from moodfield.report import track as section
from moodfield.tagging import OverTime, Tagging, decide
from moodfield.tags import MOODS_AND_THEMES, THEMES

VOID = {"meta", "link", "input", "wbr"}
HOSTILE = "/music/<script>alert('1')</script> \"q\" & \udcff\x00\u202e.mp3"


def make_tagging(
    source: str = "/music/album/Song.ogg", *, steps: int = 400, duration: float = 224.0, seed: int = 0
) -> Tagging:
    """A track with all 56 tags, some of them decided, whose scores wander."""
    rng = np.random.default_rng(seed)
    logits = np.cumsum(rng.normal(size=(56, steps)), axis=1) / np.sqrt(steps) + rng.normal(-3, 1, size=(56, 1))
    scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    count = int(np.ceil(duration * 20))
    return Tagging(
        source=source,
        duration=duration,
        model="a model",
        vocabulary=MOODS_AND_THEMES,
        theme_vocabulary=tuple(tag for tag in MOODS_AND_THEMES if tag in THEMES),
        scores=scores.mean(axis=1),
        thresholds=np.sort(rng.uniform(0.02, 0.3, 56).astype(np.float32)),
        over_time=OverTime(((np.arange(steps) + 0.5) * duration / steps).astype(np.float32), scores),
        envelope=Envelope(0.05, rng.uniform(size=count).astype(np.float32)),
    )


def small(scores: list[float], thresholds: list[float], over_time: list[list[float]]) -> Tagging:
    """A track of a minute with as many tags as there are scores, called a, b, c and so on."""
    steps = len(over_time[0])
    tags = tuple("abcdefgh"[: len(scores)])
    seconds = ((np.arange(steps) + 0.5) * 60 / steps).astype(np.float32)
    numbers = (np.array(each, np.float32) for each in (scores, thresholds, over_time))
    score, threshold, series = numbers
    return Tagging("a.wav", 60.0, "m", tags, tags[:1], score, threshold, OverTime(seconds, series))


class Reader(HTMLParser):
    """Every element with its attributes and text, in order; refuses tags that do not close."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[tuple[str, list[str]]] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), "an attribute comes twice"
        text: list[str] = []
        self.elements.append((tag, dict(attrs), text))
        if tag not in VOID:
            self._open.append((tag, text))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for _, text in self._open:
            text.append(data)

    def texts(self, tag: str, **wanted: str) -> list[str]:
        return ["".join(text) for name, has, text in self.elements if name == tag and wanted.items() <= has.items()]


def svgs(page: str) -> Iterator[ET.Element]:
    for drawing in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        yield ET.fromstring(drawing)


def cards(page: str) -> list[str]:
    return re.findall(r"<article.*?</article>", page, flags=re.DOTALL)


def test_every_track_and_failure_is_listed() -> None:
    tracks = [make_tagging(f"/music/{'ab'[n % 2]}/Track {n}.ogg", seed=n) for n in range(9)]
    failed = {"/music/broken.mp3": "/music/broken.mp3 is silent; nothing to hear", "/music/x": "it is a folder"}
    page = report_page.render(tracks, failed=failed, title="My music")
    read = Reader(page)
    assert read.texts("h1") == read.texts("title")[:1] == ["My music"]
    assert [text for text in read.texts("h3") if text.startswith("Track")] == [f"Track {n}" for n in range(9)]
    assert [card.count("music/b") for card in cards(page)] == [0, 1] * 4 + [0]
    facts = "".join(read.texts("ul", **{"class": "facts"}))
    assert facts == "9 tracks34 minmodel: a model2 failed"
    end = "".join(read.texts("section", id="failed"))
    assert end == "Failed/music/broken.mp3is silent; nothing to hear/music/xit is a folder"
    ids = [has["id"] for _, has, _ in read.elements if "id" in has]
    assert len(ids) == len(set(ids))
    links = {has["href"] for _, has, _ in read.elements if "href" in has} - {"data:,"}
    assert links == {f"#{each}" for each in ids if each and re.match(r"t\d|c\d|failed|all", each)}


def test_the_page_loads_nothing() -> None:
    page = report_page.render([make_tagging()], failed={"b.mp3": "bad"})
    assert "http" not in page.replace("http-equiv", "")
    assert "@import" not in page
    for _, has, _ in Reader(page).elements:
        assert has.keys().isdisjoint({"src", "srcset", "xlink:href", "data", "action", "poster", "background"})
        assert (has.get("href") or "#").startswith(("#", "data:,"))
    assert set(re.findall(r"url\(([^)]*)\)", page)) == {"#above"}


def test_only_its_own_script_may_run() -> None:
    page = report_page.render([make_tagging()])
    (script,) = Reader(page).texts("script")
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [has["content"] for _, has, _ in Reader(page).elements if "http-equiv" in has]
    assert policy is not None
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}';" in policy


def test_hostile_names_are_escaped() -> None:
    track = make_tagging(HOSTILE)
    bad = "<b onload='x'>\"&\udc80"
    strange = replace(track, model=bad, vocabulary=(bad, *track.vocabulary[1:]), thresholds=np.zeros(56, np.float32))
    page = report_page.render([strange], failed={HOSTILE: bad}, title=bad)
    page.encode("utf-8")
    read = Reader(page)
    tags = [tag for tag, _, _ in read.elements]
    assert tags.count("script") == 1
    assert "b" not in tags
    assert not any(name.startswith("on") for _, has, _ in read.elements for name in has)
    assert not re.search("[\x00\x7f-\x9f\u202e]", page)
    assert read.texts("h1") == ["<b onload='x'>\"&\N{REPLACEMENT CHARACTER}"]
    assert 'script> "q" & \N{REPLACEMENT CHARACTER}' in read.texts("h3", id="n0")[0]
    assert [drawing.tag for drawing in svgs(page)]


def test_drawings_are_well_formed() -> None:
    page = report_page.render([make_tagging(), make_tagging(steps=20), make_tagging(steps=1, duration=1.0)])
    kinds = [drawing.get("class", drawing.get("role")) for drawing in svgs(page)]
    assert kinds.count("ribbon") == 3 * kinds.count("tooltips") == 3 * kinds.count("wave") == 9
    assert kinds.count("img") == 3 * section.ROWS
    for drawing in svgs(page):
        _, _, width, height = map(float, (drawing.get("viewBox") or "0 0 0 0").split())
        for rect in drawing.iter("rect"):
            assert 0 <= float(rect.get("x", "-1")) <= width - float(rect.get("width", "inf"))
        for path in drawing.iter("path"):
            swung = re.fullmatch(r"M-1 0((?:m1 \d+v-\d+)+)", path.get("d", ""))
            if swung:
                moves = np.array([int(step) for step in re.findall(r"-?\d+", swung[1])]).reshape(-1, 3)
                assert len(moves) == section.BARS
                ends = np.cumsum(moves[:, 1] + moves[:, 2])
                assert (ends >= -100).all()
                assert (2 * ends == moves[:, 2]).all(), "every bar is as high above the middle as below"
            drawn = re.fullmatch(r"M0 60V(\d+)l([-\d ]+)V60z", path.get("d", ""))
            if drawn:
                steps = [int(step) for step in re.findall(r"-?\d+", drawn[2])]
                levels = np.cumsum([int(drawn[1]), *steps[1::2]])
                assert sum(steps[::2]) == width
                assert (levels >= 0).all()
                assert (levels <= height).all()


def test_heading_levels_are_nested() -> None:
    levels = [
        int(tag[1])
        for tag, _, _ in Reader(report_page.render([make_tagging()], failed={"a": "b"})).elements
        if tag in HEADINGS
    ]
    assert levels[0] == 1
    assert max(np.diff(levels)) == 1


HEADINGS = {f"h{level}" for level in range(1, 7)}


def test_decided_tags_are_sorted_with_themes_apart() -> None:
    track = make_tagging()
    track = replace(track, thresholds=np.where(np.arange(56) % 7, np.float32(1), track.scores * np.float32(0.6)))
    assert 2 < len(track.decided) <= section.CHIPS
    (card,) = cards(report_page.render([track]))
    moods, themes = (
        re.findall(r"<li[^>]*>(.*?)</li>", re.findall(rf'aria-label="{what}">(.*?)</ul>', card)[0])
        for what in ("Moods", "Themes")
    )
    assert moods == list(track.moods)
    assert themes == list(track.themes)
    rows = re.findall(r'aria-label="(\w+): above', card)
    assert rows[: len(track.decided)] == list(track.decided[: section.ROWS])


def test_all_decided_tags_are_listed() -> None:
    track = replace(make_tagging(), thresholds=np.full(56, 1e-5, np.float32))
    assert len(track.decided) == 56
    (card,) = cards(report_page.render([track]))
    assert f"{56 - section.CHIPS} more" in card
    shown = re.findall(r"<li style[^>]*>(\w+)</li>", card)
    rest = re.findall(r'<span class="(tag(?: theme)?)">(\w+)</span>', re.findall(r"<details>.*?</details>", card)[0])
    assert sorted([*shown, *(name for _, name in rest)]) == sorted(track.vocabulary)
    assert all((kind == "tag theme") == (name in track.theme_vocabulary) for kind, name in rest)


def test_a_track_without_decided_tags() -> None:
    track = replace(make_tagging(), thresholds=np.full(56, np.inf, np.float32))
    page = report_page.render([track])
    assert page.count("No tag is above its threshold.") == 2
    assert page.count("never decided") == 2 * section.TOP
    assert 'class="high" style' not in page, "no stripe is clear"
    assert "above its threshold for 0% of the time" in page


def test_bars_show_scores_and_thresholds() -> None:
    track = small([0.8, 0.1, 0.4], [0.5, 0.2, 0.4], [[0.8], [0.1], [0.4]])
    (card,) = cards(report_page.render([track]))
    bars = re.findall(
        r'--w:([\d.]+)%" title="score ([\d.]+), threshold ([\d.]+)".*?class="tag[^>]*>(\w).*?left:([\d.]+)%', card
    )
    assert bars == [
        ("100", "0.80", "0.50", "a", "62.5"),
        ("50", "0.40", "0.40", "c", "50"),
        ("12.5", "0.10", "0.20", "b", "25"),
    ]
    assert re.findall(r'<li class="faint".*?tag">(\w)', card) == ["c", "b"]


def test_the_overview_counts_tags() -> None:
    one, two = (small([0.9, low, 0.9], [0.5] * 3, [[0.9], [low], [0.9]]) for low in (0.1, 0.9))
    three = small([0.1, 0.1, 0.9], [0.5] * 3, [[0.1], [0.1], [0.9]])
    text = Reader(report_page.render([one, two, three])).texts("div", **{"class": "columns"})
    assert text == ["Moodsc3b1Themesa2"]


def test_only_the_most_frequent_tags_are_counted() -> None:
    tracks = [replace(make_tagging(), thresholds=np.full(56, threshold, np.float32)) for threshold in (1e-5, 1)]
    pages = [Reader(report_page.render([track])).texts("section", **{"aria-labelledby": "all"}) for track in tracks]
    assert [f"{report_page.COUNTED_TAGS} most" in page for (page,) in pages] == [True, False]


def test_the_legend_of_the_map_counts_all_tracks() -> None:
    for count in (3, 40):
        (key,) = Reader(
            report_page.render([make_tagging(f"/music/{n}.ogg", steps=1, seed=n) for n in range(count)])
        ).texts("div", **{"class": "key"})
        assert sum(map(int, re.findall(r"\d+", key))) == count
        assert ("others" in key) == (count == 40)


def test_lines_of_names_end_after_underscores() -> None:
    page = report_page.render([make_tagging("/music/a_long_<name>.ogg")])
    assert page.count("a_<wbr>long_<wbr>&lt;name&gt;") == 2
    assert Reader(page).texts("h3", id="n0") == ["a_long_<name>"]


@pytest.mark.parametrize(("steps", "duration"), [(1, 1.0), (1, 0.3), (2, 43.0), (12_860, 7_201.0), (5, 90_000.0)])
def test_any_length_is_drawn(steps: int, duration: float) -> None:
    track = make_tagging(steps=steps, duration=duration)
    page = report_page.render([track])
    read = Reader(page)
    ticks = re.findall(r'left:([\d.]+)%">([\d:]+)<', page[page.index('class="curves"') :])
    assert ticks[0] == ("0", "0:00")
    assert len(ticks) <= section.TICKS + 1
    places = [float(place) for place, _ in ticks]
    assert places == sorted(set(places))
    tooltips = [text for text in read.texts("title") if "–" in text]
    assert len(tooltips) == min(steps, section.TOOLTIPS)
    assert all(len(text.splitlines()) == 1 + section.ROWS for text in tooltips)
    assert not re.search(r"\b(nan|inf|NaN|Infinity)\b", page)


def test_times_are_formatted() -> None:
    assert "2:00:01" in report_page.render([make_tagging(duration=7_201.0)])
    assert "3:44" in report_page.render([make_tagging()])
    assert "2:00<" in report_page.render([make_tagging(duration=119.7)])


def test_values_that_are_not_finite_are_not_shown() -> None:
    track = make_tagging(steps=30)
    track.scores[3], track.over_time.scores[:, 7] = np.nan, np.nan
    page = report_page.render(
        [replace(track, thresholds=np.where(np.arange(56) < 9, np.float32(np.nan), track.thresholds))]
    )
    assert not re.search(r"\b(nan|inf)\b", page)
    assert list(svgs(page))


def test_another_vocabulary_has_colours() -> None:
    first, again = (report_page.render([small([0.9, 0.2], [0.5, 0.5], [[0.9], [0.2]])]) for _ in range(2))
    assert first == again
    hues = {int(hue) for hue in re.findall(r"--h:(\d+)", first)}
    assert len(hues) > 1
    assert max(hues) < 360


def test_the_size_per_track_is_bounded() -> None:
    one = len(report_page.render([make_tagging(steps=12_860, duration=7_201.0)]).encode())
    tracks = [make_tagging(f"/music/{n}.ogg", steps=3_000, duration=1_700.0, seed=n) for n in range(21)]
    assert (len(report_page.render(tracks).encode()) - one) / 20 < 25_000


def test_many_tracks_have_a_search_field() -> None:
    few, enough = (
        [make_tagging(steps=1)] * count for count in (report_page.MIN_SEARCH_TRACKS - 1, report_page.MIN_SEARCH_TRACKS)
    )
    assert 'id="find" hidden' not in report_page.render(few)
    assert 'id="find" hidden' in report_page.render(enough)


def test_a_page_without_tracks() -> None:
    read = Reader(report_page.render([], failed={"a.mp3": "it is empty"}))
    assert "".join(read.texts("main")).replace("\n", "") == f"{report_page.TITLE}0 tracks1 failedFaileda.mp3it is empty"
    assert "ailed" not in re.sub("<style>.*</style>", "", report_page.render([]), flags=re.DOTALL)


@pytest.mark.parametrize(("count", "words"), [(34, "34 files were"), (1, "1 file was")])
def test_a_page_of_interrupted_work(count: int, words: str) -> None:
    read = Reader(report_page.render([make_tagging()], untagged=count))
    assert f"stopped: {words} not tagged" in "".join(read.texts("ul", **{"class": "facts"}))
    assert "stopped" not in "".join(Reader(report_page.render([make_tagging()])).texts("ul", **{"class": "facts"}))


def test_folders_are_shown_from_the_last_common_one() -> None:
    def folders(*sources: str) -> list[str]:
        page = report_page.render([make_tagging(source, steps=1) for source in sources])
        return [unescape(each) for each in re.findall(r'class="folder">(.*?)<', page)]

    assert folders("/home/me/music/a.mp3", "/home/me/music/live/b.mp3") == ["music", "music/live"]
    assert folders("/home/me/a & b/c.mp3") == ["a & b"]
    assert folders("/home/me/deep/down/a.mp3", "elsewhere/b.mp3") == ["deep/down", "elsewhere"]
    assert folders("a.mp3", "waveform") == []


def test_a_page_is_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "moods.html"
    report_page.write(path, [make_tagging()], title="first")
    whole = path.read_bytes()
    assert whole.decode("utf-8") == report_page.render([make_tagging()], title="first")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="No space left"):
            report_page.write(path, [make_tagging()], title="second")
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]
    report_page.write(str(path), [make_tagging(HOSTILE)], failed={HOSTILE: "bad"})
    assert path.read_bytes() != whole
    assert [each.name for each in tmp_path.iterdir()] == ["moods.html"]


def test_an_impossible_path_raises(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder"):
        report_page.write(tmp_path / "nowhere" / "moods.html", [make_tagging()])
    with pytest.raises(OutputError, match="folder"):
        report_page.write(tmp_path, [make_tagging()])
    with pytest.raises(OutputError, match="File name too long"):
        report_page.write(tmp_path / ("x" * 300), [make_tagging()])
    assert not list(tmp_path.iterdir())


def test_only_reports_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "song.ogg").write_bytes(b"OggS")
    (tmp_path / "link.html").symlink_to("song.ogg")
    for name in ("song.ogg", "link.html"):
        with pytest.raises(OutputError):
            report_page.write(tmp_path / name, [make_tagging()])
    assert (tmp_path / "song.ogg").read_bytes() == b"OggS"
    (tmp_path / "old.html").write_bytes(b"<html>")
    (tmp_path / "old.html").chmod(0o600)
    (tmp_path / "latest.html").symlink_to("old.html")
    report_page.write(tmp_path / "latest.html", [make_tagging()])
    assert (tmp_path / "latest.html").is_symlink()
    assert (tmp_path / "old.html").read_bytes().startswith(b"<!DOCTYPE html>")
    assert (tmp_path / "old.html").stat().st_mode & 0o777 == 0o600


def test_the_ribbon_names_the_strongest_tag_over_time() -> None:
    rows = [[0.9] * 8, [0.6] * 4 + [0.1] * 4, [0.2] * 4 + [0.4] * 4]  # a theme, then two moods, one never above
    (card,) = cards(report_page.render([small([0.9, 0.4, 0.3], [0.5] * 3, rows)]))
    lanes = dict(re.findall(r'<ol aria-label="Strongest (\w+) over time">(.*?)</ol>', card))
    lanes = {
        what: re.findall(r'grid-column:(\d+)/(\d+)" title="(.*?)"><span>(\w)<', lane) for what, lane in lanes.items()
    }
    assert lanes["themes"] == [("1", "97", "0:00 – 1:00 a, above its threshold", "a")]
    (_, first, mood, b), (second, end, other, c) = lanes["moods"]
    assert (first, end, b, c) == (second, "97", "b", "c")
    assert abs(int(first) - 49) <= section.RIBBON_WIDTH
    assert mood.endswith("b, above its threshold") or mood.endswith("b, partly above its threshold")
    assert other.endswith("c, below its threshold")
    assert "Strongest mood: b for 5" in card
    stripes = re.findall(r'<rect x="\d+" width="\d+" (?:y="3" )?height="(\d)" class="(\w+)', card)
    assert set(stripes) == {("8", "high"), ("5", "low")}


def test_themes_are_marked_everywhere() -> None:
    track = replace(make_tagging(), thresholds=np.full(56, 1e-5, np.float32))
    page = report_page.render([track] * 3)
    named = re.findall(r'<span class="(tag[^"]*)"[^>]*>(\w+)</span>', page[page.index('id="tracks"') :])
    assert {name for _, name in named} & THEMES
    assert all((kind == "tag theme") == (name in THEMES) for kind, name in named)
    assert len(cards(page)) == 3
    assert all("Strongest moods over time" in card and "Strongest themes over time" in card for card in cards(page))


def test_the_bars_begin_with_the_decided_tags() -> None:
    track = small([0.2, 0.5, 0.3], [0.1, 0.9, 0.2], [[0.5]] * 3)
    track = replace(track, priors=np.array([0.3, 0.01, 0.2], np.float32))  # b is far above its prior, and not decided
    (card,) = cards(report_page.render([track]))
    bars = card[card.index('<ol class="bars">') :].partition("</ol>")[0]
    assert re.findall(r"<span class=\"tag[^>]*>(\w)</span>", bars) == ["c", "a", "b"]
    assert [mood for mood, _ in track.top(1)] == ["b"]


def test_the_longest_bar_has_the_highest_score() -> None:
    # h alone is decided and has the highest score
    track = small([0.05] * 7 + [0.8], [0.1] * 7 + [0.2], [[0.5]] * 8)
    (card,) = cards(report_page.render([track]))
    bars = card[card.index('<ol class="bars">') :].partition("</ol>")[0]
    assert re.findall(r"--w:([\d.]+)%", bars) == ["100"] + ["6.25"] * 4
    assert re.findall(r'<i style="left:([\d.]+)%', bars) == ["25"] + ["12.5"] * 4
    assert re.findall(r'class="number">([^<]*)<', bars) == ["0.80"] + ["0.050"] * 4
    assert "as usual" not in card


def test_bars_show_how_much_more_likely_than_usual_tags_are() -> None:
    # b has the highest score, and is as likely as usual; c is less likely
    track = small([0.08, 0.5, 0.01, 0.04], [0.02, 0.6, 0.2, 0.16], [[0.08], [0.5], [0.01], [0.04]])
    page = report_page.render([replace(track, priors=np.array([0.01, 0.5, 0.1, 0.02], np.float32))])
    (card,) = cards(page)
    bars = card[card.index('<ol class="bars">') :].partition("</ol>")[0]
    assert re.findall(r'"tag[^>]*>(\w)<', bars) == ["a", "d", "b", "c"]
    assert re.findall(r'class="number">([^<]*)<', bars) == ["8.0 ×", "2.0 ×", "1.0 ×", "0.10 ×"]
    assert re.findall(r"--w:([\d.]+)%", bars) == ["100", "33.33", "0", "0"]
    assert [round(float(place)) for place in re.findall(r'<i style="left:([\d.]+)%', bars)] == [33, 100, 9, 33]
    assert "score 0.080, threshold 0.020" in bars
    assert "● a 8.0 ×\n○ d 2.0 ×" in card
    assert "as usual" in page


def test_usual_scores_of_zero_have_bars() -> None:
    track = replace(small([0.5, 0.0], [0.4, 0.4], [[0.5], [0.0]]), priors=np.array([0.0, np.nan], np.float32))
    page = report_page.render([track])
    assert ">999 ×" in unescape(page)
    assert not re.search(r"\b(nan|inf)\b", page)


def test_a_relative_report_is_marked() -> None:
    absolute = [make_tagging(f"/music/{n}.ogg", seed=n, steps=4) for n in range(20)]
    relative = decide(absolute)
    facts = Reader(report_page.render(relative)).texts("ul", **{"class": "facts"})
    assert "relative to these 20 tracks" in facts[0]
    for page in (report_page.render(absolute), report_page.render([*relative[:1], *absolute[1:]])):
        assert "relative" not in Reader(page).texts("ul", **{"class": "facts"})[0]
    assert "relative" in Reader(report_page.render(relative[:1])).texts("ul", **{"class": "facts"})[0]


def test_a_relative_report_shows_relative_decisions() -> None:
    relative = decide([make_tagging(f"/music/{n}.ogg", seed=n, steps=9) for n in range(25)])
    for track, card in zip(relative, cards(report_page.render(relative)), strict=True):
        shown = re.findall(r"<li style[^>]*>(\w+)</li>", card.partition('class="timeline"')[0])
        assert shown == [*track.moods, *track.themes]
        bars = card[card.index('<ol class="bars">') :].partition("</ol>")[0]
        assert re.findall(r'"tag[^>]*>(\w+)<', bars)[: len(track.decided)] == list(track.decided)
    evidence = curves.segments(relative[0], range(56), 1, width=1)
    assert relative[0].vocabulary[evidence[0].tag] in relative[0].decided


def test_without_samples_there_is_no_waveform() -> None:
    page = report_page.render([replace(make_tagging(), envelope=None)])
    assert 'class="wave"' not in page
    assert "Strongest moods over time" in page


def test_every_track_is_a_link_on_the_map() -> None:
    tracks = [make_tagging(f"/music/Track {n}.ogg", seed=n, steps=4) for n in range(5)]
    tracks[3] = replace(tracks[3], thresholds=np.full(56, 0.999, np.float32))
    places = re.findall(
        r'<li style="left:([\d.]+)%;top:([\d.]+)%;.*?href="#t(\d)" class="(.*?)".*?<bdi>(.*?)<',
        report_page.render(tracks),
    )
    assert [(number, name) for _, _, number, _, name in places] == [(str(n), f"Track {n}") for n in range(5)]
    assert ["ring" in kinds for *_, kinds, _ in places] == [not track.moods for track in tracks]
    assert 'class="map"' not in report_page.render(tracks[:2])


def test_a_map_of_many_tracks_has_no_names() -> None:
    few, many = (
        report_page.render([make_tagging(steps=1, seed=n) for n in range(count)])
        for count in (5, report_page.MANY_TRACKS + 1)
    )
    assert 'class="places"' in few
    assert 'class="places dense"' in many
    assert many.count("w-hidden n-hidden") + many.count("-hidden n-") >= report_page.MANY_TRACKS + 1
    assert len(re.findall(r'href="#t\d+" class="[^"]*w-hidden[^"]*n-hidden', many)) == report_page.MANY_TRACKS + 1


# The curves


def test_the_waveform_is_the_mean_of_its_peaks() -> None:
    peaks = np.array([0.2, 0.4, 0.8, np.nan], np.float32)
    track = replace(small([0.5], [0.5], [[0.5]]), envelope=Envelope(15.0, peaks))
    levels = curves.waveform(track, 2)
    assert levels is not None
    np.testing.assert_allclose(levels, [0.75, 1], atol=1e-6)
    np.testing.assert_allclose(curves.waveform(track, 8)[2:6], [0.5, 0.5, 1, 1], atol=1e-6)  # type: ignore[index]
    silent = curves.waveform(replace(track, envelope=Envelope(15.0, np.zeros(4, np.float32))), 3)
    assert silent is not None
    assert not silent.any()


def test_segments_cover_the_track() -> None:
    track = make_tagging(seed=5)
    segments = curves.segments(track, range(56), 96, width=5)
    assert [segment.first for segment in segments] == [0, *(segment.end for segment in segments[:-1])]
    assert segments[-1].end == 96
    assert all(one.tag != other.tag for one, other in itertools.pairwise(segments))
    assert len(segments) <= len(curves.segments(track, range(56), 96, width=1))


def test_tags_that_are_never_decided_are_used_only_alone() -> None:
    track = small([0.9, 0.1], [np.inf, 0.5], [[0.9, 0.9], [0.1, 0.1]])
    assert [each.tag for each in curves.segments(track, [0, 1], 4, width=1)] == [1]
    assert [each.tag for each in curves.segments(track, [0], 4, width=1)] == [0]
    assert curves.segments(track, [], 4, width=1) == []


def test_segments_prefer_decided_tags_then_evidence() -> None:
    # a is far above its threshold and little above its prior, b the other way about, c below a high threshold
    track = small([0.5] * 3, [0.1, 0.4, 0.95], [[0.5, 0.05], [0.5, 0.3], [0.8, 0.2]])
    assert [each.tag for each in curves.segments(track, [0, 1, 2], 2, width=1)] == [0, 1]
    with_priors = replace(track, priors=np.array([0.4, 0.1, 0.01], np.float32))
    first, second = curves.segments(with_priors, [0, 1, 2], 2, width=1)
    assert (first.tag, first.above) == (1, (True,)) == (with_priors.vocabulary.index(with_priors.decided[0]), (True,))
    assert (second.tag, second.above) == (2, (False,))  # nothing is above its threshold: the most evidence of all


def test_averages_are_exact() -> None:
    track = small([0.5, 0.5], [0.5, 0.5], [[0.0, 0.2, 0.4, 0.6], [1.0, 1.0, 0.0, 0.0]])
    at = np.array([15.0, 45.0])
    np.testing.assert_allclose(curves.averaged(track, [0, 1], at, window=30.0), [[0.1, 0.5], [1, 0]], atol=1e-7)
    at = np.array([7.5, 15.0, 30.0])
    np.testing.assert_allclose(curves.averaged(track, [0], at, window=15.0), [[0.0, 0.1, 0.3]], atol=1e-7)
    at = np.array([0.0, 60.0])
    np.testing.assert_allclose(curves.averaged(track, [0], at, window=15.0), [[0.0, 0.6]], atol=1e-7)


def test_the_threshold_is_at_half_of_the_height() -> None:
    track = small([0.1, 0.6, 0.3], [0.01, 0.6, np.inf], [[0.01, 0.02], [0.6, 0.2], [0.3, 0.1]])
    heights = curves.relative(track, [0, 1, 2], track.over_time.scores.astype(np.float64))
    np.testing.assert_allclose(heights[:, 0], 0.5, atol=1e-6)
    assert heights[0, 1] > 0.75
    assert heights[1, 1] < 0.2
    assert (heights[2] <= 0.5).all()


def test_strongest_lists_decided_tags_first() -> None:
    track = small([0.3, 0.9, 0.2, 0.8], [0.2, 0.95, 0.05, 1.0], [[0.5]] * 4)
    assert curves.strongest(track, 3) == [2, 0, 3]
    assert curves.strongest(track, 2) == [2, 0]
    assert [curves.threshold(track, tag) for tag in (0, 3)] == [pytest.approx(0.2), None]
