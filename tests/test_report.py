"""The HTML report: complete, self-contained, compact, and safe for any file name."""

import gc
import hashlib
import itertools
import os
import re
import weakref
import xml.etree.ElementTree as ET
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from moodfield.audio import Envelope
from moodfield.errors import ConfigError, OutputError
from moodfield.report import curves, data, ribbon, track
from moodfield.report import page as report_page
from moodfield.report.track import COARSE, FINE, MANY_TRACKS, Reference, Track
from moodfield.tagging import Tagging, decide
from moodfield.tags import THEMES
from reports import HOSTILE, make_tagging, make_taggings, read_data, render, small, with_threshold

VOID = {"meta", "link", "input", "wbr"}
HEADINGS = {f"h{level}" for level in range(1, 7)}


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


class Decoded:
    """The values of one track in the data of a page."""

    def __init__(self, page: str, number: int = 0) -> None:
        values = read_data(page)
        self.tags = [tag[0] for tag in values["tags"]]
        self.name, folder, self.x, self.y, encoded = values["tracks"][number]
        self.seconds, strongest, decided, scores, heights, moods, themes, levels = encoded
        self.folder = values["folders"][folder]
        self.strongest = [self.tags[tag] for tag in strongest]
        self.decided = self.strongest[:decided]
        high, low = np.array([data.LETTERS.index(letter) for letter in scores]).reshape(-1, 2).T
        logits = ((64 * high + low) / data.MAX_SCORE * 2 - 1) * data.MAX_LOGIT
        self.scores = 1 / (1 + np.exp(-logits))
        shown = min(len(self.strongest), data.CURVES)
        self.heights = np.array([data.LETTERS.index(letter) for letter in heights]).reshape(shown, -1) / 63
        self.levels = np.array([data.LETTERS.index(letter) for letter in levels]) / 63
        self.moods, self.themes = (
            [(self.tags[tag], length >> 1, bool(length & 1)) for tag, length in zip(runs[::2], runs[1::2], strict=True)]
            for runs in (moods, themes)
        )


def svgs(page: str) -> Iterator[ET.Element]:
    for drawing in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        yield ET.fromstring(drawing)


def without_script(page: str) -> str:
    """The part of a page that is the same for any script."""
    return re.sub("<(style|script)>.*?</(style|script)>", "", page, flags=re.DOTALL)


def test_every_track_and_failure_is_listed() -> None:
    tracks = [make_tagging(f"/music/{'ab'[n % 2]}/Track {n}.ogg", seed=n) for n in range(9)]
    failed = {"/music/broken.mp3": "/music/broken.mp3 is silent; nothing to hear", "/music/x": "it is a folder"}
    page = render(tracks, failed=failed, title="My music")
    read = Reader(page)
    assert read.texts("h1") == read.texts("title")[:1] == ["My music"]
    assert [Decoded(page, n).name for n in range(9)] == [f"Track {n}" for n in range(9)]
    assert [Decoded(page, n).folder for n in range(3)] == ["music/a", "music/b", "music/a"]
    facts = "".join(read.texts("ul", **{"class": "facts"}))
    assert facts == "9 tracks34 minmodel: a model2 failed"
    end = "".join(read.texts("section", id="failed"))
    assert end == "Failed/music/broken.mp3is silent; nothing to hear/music/xit is a folder"
    ids = [has["id"] for _, has, _ in read.elements if "id" in has]
    assert len(ids) == len(set(ids))


def test_the_page_loads_nothing() -> None:
    page = render(make_taggings(5), failed={"b.mp3": "bad"})
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert "@import" not in page
    assert "url(" not in page
    for _, has, _ in Reader(page).elements:
        assert has.keys().isdisjoint({"src", "srcset", "xlink:href", "data", "action", "poster", "background"})
        assert (has.get("href") or "#").startswith(("#", "data:,"))


def test_only_its_own_script_may_run() -> None:
    page = render([make_tagging()])
    (script,) = ["".join(text) for tag, has, text in Reader(page).elements if tag == "script" and "type" not in has]
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [has["content"] for _, has, _ in Reader(page).elements if "http-equiv" in has]
    assert policy is not None
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}';" in policy
    assert "innerHTML" not in script


def test_hostile_names_are_escaped() -> None:
    bad = "<b onload='x'>\"&\udc80</script>"
    strange = replace(make_tagging(HOSTILE), model=bad, vocabulary=(bad, *make_tagging().vocabulary[1:]))
    page = render([strange], failed={HOSTILE: bad}, title=bad)
    page.encode("utf-8")
    read = Reader(page)
    tags = [tag for tag, _, _ in read.elements]
    assert tags.count("script") == 2
    assert page.count("</script>") == 2
    assert "<!--" not in page
    assert "b" not in tags
    assert not any(name.startswith("on") for _, has, _ in read.elements for name in has)
    assert not re.search("[\x00\x7f-\x9f\u202e\u2028]", page)
    assert read.texts("h1") == ["<b onload='x'>\"&\N{REPLACEMENT CHARACTER}</script>"]
    assert Decoded(page).name == 'script><!-- "q" & \N{REPLACEMENT CHARACTER}' + 3 * "\N{REPLACEMENT CHARACTER}"
    assert "alert" in Decoded(page).folder
    assert Decoded(page).tags[0] == "<b onload='x'>\"&\N{REPLACEMENT CHARACTER}</script>"


def test_right_to_left_names_are_isolated() -> None:
    page = render([make_tagging("/music/שיר.mp3")], failed={"/music/אחר.mp3": "it is silent"})
    assert Decoded(page).name == "שיר"
    assert "<bdi>שיר</bdi>" in page
    assert "<bdi>/music/אחר.mp3</bdi>" in page


def test_heading_levels_are_nested() -> None:
    elements = Reader(render(make_taggings(9), failed={"a": "b"})).elements
    levels = [int(tag[1]) for tag, _, _ in elements if tag in HEADINGS]
    assert levels[0] == 1
    assert max(np.diff(levels)) == 1


def test_without_a_script_there_is_a_table() -> None:
    tracks = [make_tagging("/music/a_long_<name>.ogg"), with_threshold(make_tagging(duration=7_201.0), np.inf)]
    page = render(tracks)
    (table,) = re.findall(r"<noscript>.*?<tbody>(.*?)</tbody>", page, flags=re.DOTALL)
    first, second = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td></tr>", table)
    assert first[0] == "<bdi>a_<wbr>long_<wbr>&lt;name&gt;</bdi>"
    assert re.sub("</?em>", "", first[1]) == ", ".join(tracks[0].decided[: report_page.LISTED_TAGS])
    assert set(re.findall("<em>(.*?)</em>", first[1])) <= THEMES
    assert (first[2], second[1], second[2]) == ("3:44", "–", "2:00:01")


# ---------------------------------------------------------------- the data


@pytest.mark.parametrize("detail", [FINE, COARSE])
def test_the_data_has_scores_and_decisions(detail: track.Detail) -> None:
    tagging = make_tagging()
    decoded = Decoded(render([tagging], detail))
    assert decoded.seconds == 224.0
    assert tuple(decoded.decided) == tagging.decided
    order = [tag for tag, _ in tagging.top(56) if tag not in tagging.decided]
    assert decoded.strongest[len(decoded.decided) :] == order[: max(0, data.CURVES - len(decoded.decided))]
    np.testing.assert_allclose(decoded.scores, tagging.scores, rtol=0.004)
    assert decoded.heights.shape == (data.CURVES, detail.steps)
    assert len(decoded.levels) == detail.levels
    assert decoded.levels.max() == 1


def test_the_script_reads_the_numbers_as_they_are_written() -> None:
    script = (Path(report_page.__file__).parent / "values.js").read_text(encoding="utf-8")
    assert f'LETTERS = "{data.LETTERS}"' in script
    assert f"MAX_LOGIT = {data.MAX_LOGIT};" in script
    card = (Path(report_page.__file__).parent / "card.js").read_text(encoding="utf-8")
    assert f"CURVES = {data.CURVES};" in card


def test_tags_have_their_kind_threshold_and_usual_score() -> None:
    tagging = replace(small([0.9, 0.2, 0.1], [0.5, np.inf, np.nan], [[0.9], [0.2], [0.1]]), priors=None)
    tags = read_data(render([tagging]))["tags"]
    assert [(name, theme, threshold, usual) for name, theme, _, _, threshold, usual in tags] == [
        ("a", 1, 0.5, None),
        ("b", 0, None, None),
        ("c", 0, None, None),
    ]
    with_priors = replace(tagging, priors=np.array([0.0, np.nan, 0.25], np.float32))
    assert [tag[-1] for tag in read_data(render([with_priors]))["tags"]] == [1e-9, 1e-9, 0.25]


def test_a_track_without_decided_tags() -> None:
    page = render([with_threshold(make_tagging(), np.inf)])
    decoded = Decoded(page)
    assert decoded.decided == []
    assert len(decoded.strongest) == data.CURVES
    assert (decoded.heights <= 0.51).all()
    assert not any(above for _, _, above in decoded.moods)
    assert report_page.text.NO_TAG in "".join(Reader(page).texts("section", **{"aria-labelledby": "all"}))


def test_all_decided_tags_are_listed() -> None:
    tagging = with_threshold(make_tagging(), 1e-5)
    assert Decoded(render([tagging])).decided == list(tagging.decided)
    assert len(tagging.decided) == 56


def test_the_strongest_tag_over_time() -> None:
    rows = [[0.9] * 8, [0.6] * 4 + [0.1] * 4, [0.2] * 4 + [0.4] * 4]  # a theme, then two moods, one never above
    decoded = Decoded(render([small([0.9, 0.4, 0.3], [0.5] * 3, rows)]))
    assert decoded.themes == [("a", FINE.steps, True)]
    assert [tag for tag, _, _ in decoded.moods] in (["b", "c"], ["b", "b", "c"])
    assert abs(sum(length for tag, length, _ in decoded.moods if tag == "b") - FINE.steps / 2) <= FINE.steps / 20
    assert decoded.moods[0][2]
    assert not decoded.moods[-1][2]


@pytest.mark.parametrize(("steps", "duration"), [(1, 1.0), (1, 0.3), (2, 43.0), (12_860, 7_201.0), (5, 90_000.0)])
@pytest.mark.parametrize("detail", [FINE, COARSE])
def test_any_length_is_encoded(steps: int, duration: float, detail: track.Detail) -> None:
    page = render([make_tagging(steps=steps, duration=duration)], detail)
    decoded = Decoded(page)
    assert decoded.heights.shape == (data.CURVES, detail.steps)
    for runs in (decoded.moods, decoded.themes):
        assert sum(length for _, length, _ in runs) == detail.steps
    assert not re.search(r"\b(nan|inf|NaN|Infinity)\b", without_script(page))


def test_values_that_are_not_finite_are_not_shown() -> None:
    tagging = make_tagging(steps=30)
    tagging.scores[3], tagging.over_time.scores[:, 7] = np.nan, np.nan
    thresholds = np.where(np.arange(56) < 9, np.float32(np.nan), tagging.thresholds)
    page = render([replace(tagging, thresholds=thresholds)] * 4)
    assert not re.search(r"\b(nan|inf|NaN)\b", without_script(page))
    assert list(svgs(page))


def test_tracks_without_time_or_waveform_are_shown() -> None:
    tagging = make_tagging()
    reference, whole = Reference.from_tagging(tagging), Track.from_tagging(tagging)
    decoded = Decoded(report_page.render([replace(whole, over_time=None, levels=None)], reference))
    assert (decoded.moods, decoded.themes, decoded.heights.size, decoded.levels.size) == ([], [], 0, 0)
    assert Decoded(render([replace(tagging, envelope=None)])).levels.size == 0
    assert Decoded(render([replace(tagging, envelope=Envelope(0.05, np.zeros(0, np.float32)))])).levels.size == 0


def test_tags_of_another_vocabulary_have_colours() -> None:
    first, again = (render([small([0.9, 0.2], [0.5, 0.5], [[0.9], [0.2]])]) for _ in range(2))
    assert first == again
    hues = {hue for _, _, hue, *_ in read_data(first)["tags"]}
    assert len(hues) > 1
    assert max(hues) < 360


@pytest.mark.parametrize(("count", "limit"), [(MANY_TRACKS, 3_500), (MANY_TRACKS + 1, 1_100)])
def test_the_size_per_track_is_bounded(count: int, limit: int) -> None:
    shell = len(render([make_tagging()]).encode())
    tracks = [
        make_tagging(f"/music/An album/A song {n}.ogg", steps=500, duration=1_700.0, seed=n) for n in range(count)
    ]
    page = render(tracks)
    assert (len(page.encode()) - shell) / count < limit
    shown = re.sub("<noscript>.*?</noscript>", "", page, flags=re.DOTALL)
    assert len(Reader(shown).elements) < 300 + 2 * MANY_TRACKS


def test_tracks_are_read_once_and_released() -> None:
    reference = Reference.from_tagging(make_tagging())
    alive: list[weakref.ref[Track]] = []
    most = 0

    def stream() -> Iterator[Track]:
        nonlocal most
        for number in range(20):
            item = Track.from_tagging(make_tagging(f"{number}.ogg", seed=number, steps=4), COARSE)
            alive.append(weakref.ref(item))
            yield item
            del item
            gc.collect()
            most = max(most, sum(other() is not None for other in alive))

    gc.freeze()  # what other tests have left is not collected again for every track
    try:
        page = report_page.render(stream(), reference)
    finally:
        gc.unfreeze()
    assert len(read_data(page)["tracks"]) == 20
    assert most <= 1


def test_tracks_of_different_models_are_an_error() -> None:
    one = make_tagging(steps=1)
    for other in (replace(one, model="another"), replace(one, relative=True)):
        with pytest.raises(ConfigError, match="one tagger"):
            render([one, other])


@pytest.mark.parametrize("detail", [FINE, COARSE])
def test_a_shrunk_tagging_has_the_same_report(detail: track.Detail) -> None:
    tagging = replace(make_tagging(), embedding=np.ones(1_000, np.float32))
    shrunk = track.shrink(tagging, detail)
    whole, small_ = (Decoded(render([tagging_], detail)) for tagging_ in (tagging, shrunk))
    np.testing.assert_allclose(small_.heights, whole.heights, atol=1.1 / 63)
    np.testing.assert_allclose(small_.levels, whole.levels, atol=1.1 / 63)
    assert (small_.decided, small_.moods, small_.themes) == (whole.decided, whole.moods, whole.themes)
    assert shrunk.embedding is None
    assert shrunk.over_time.scores.nbytes + shrunk.over_time.seconds.nbytes <= 4 * 57 * detail.steps


# ---------------------------------------------------------------- the map and the overview


@pytest.mark.parametrize("count", [3, MANY_TRACKS, MANY_TRACKS + 1, 300])
def test_every_track_is_a_dot_of_the_map(count: int) -> None:
    taggings = [with_threshold(tagging, 0.3) for tagging in make_taggings(count)]
    taggings[1] = replace(taggings[1], scores=np.full(56, 0.1, np.float32))  # no tag is above its threshold
    page = render(taggings)
    (drawing,) = [drawing for drawing in svgs(page) if drawing.get("role") == "img"]
    _, _, width, height = map(int, (drawing.get("viewBox") or "").split())
    dots: Counter[tuple[str, str]] = Counter()
    rings = 0
    for path in drawing.iter("path"):
        points = re.findall(r"M(\d+) (\d+)h0", path.get("d", ""))
        rings += len(points) * (path.get("class") == "hole")
        dots.update(points if path.get("class") == "dot" else ())
    assert all(0 <= int(x) <= width and 0 <= int(y) <= height for x, y in dots)
    assert dots == Counter((str(x), str(y)) for _, _, x, y, _ in read_data(page)["tracks"])
    assert rings == sum(not tagging.moods for tagging in taggings)


def test_two_tracks_have_no_map() -> None:
    assert 'class="map"' not in render(make_taggings(2))


def test_few_tracks_have_names_and_many_have_regions_on_the_map() -> None:
    few, many = (Reader(render(make_taggings(count))) for count in (5, MANY_TRACKS + 40))

    def words(read: Reader, kind: str) -> list[str]:
        return ["".join(text) for _, has, text in read.elements if kind in (has.get("class") or "").split()]

    assert words(few, "title-label") == [f"Track {n}" for n in range(5)]
    assert words(few, "region") == words(many, "title-label") == []
    regions = words(many, "region")
    assert len(set(regions)) == len(regions) > 3
    assert set(regions).isdisjoint(THEMES)


def test_the_overview_counts_tags() -> None:
    one, two = (small([0.9, low, 0.9], [0.5] * 3, [[0.9], [low], [0.9]]) for low in (0.1, 0.9))
    three = small([0.1, 0.1, 0.9], [0.5] * 3, [[0.1], [0.1], [0.9]])
    text = Reader(render([one, two, three])).texts("div", **{"class": "columns"})
    assert text == ["Moodsc3b1Themesa2"]


def test_only_the_most_frequent_tags_are_counted() -> None:
    pages = [Reader(render([with_threshold(make_tagging(), threshold)])) for threshold in (1e-5, 1)]
    texts = [page.texts("section", **{"aria-labelledby": "all"}) for page in pages]
    assert [f"{report_page.COUNTED_TAGS} most" in text for (text,) in texts] == [True, False]


def test_the_legend_of_the_map_counts_all_tracks() -> None:
    for count in (3, 40):
        (key,) = Reader(render(make_taggings(count, steps=1))).texts("div", **{"class": "key"})
        assert sum(map(int, re.findall(r"\d+", key))) == count
        assert ("others" in key) == (count == 40)


def test_a_page_without_tracks() -> None:
    read = Reader(render([], failed={"a.mp3": "it is empty"}))
    assert "".join(read.texts("main")).replace("\n", "") == f"{report_page.TITLE}0 tracks1 failedFaileda.mp3it is empty"
    assert read.texts("script") == []
    assert "ailed" not in without_script(render([]))
    nothing = report_page.render(iter(()), Reference.from_tagging(make_tagging()))
    assert without_script(nothing) == without_script(render([]))


@pytest.mark.parametrize(("count", "words"), [(34, "34 files were"), (1, "1 file was")])
def test_a_page_of_interrupted_work(count: int, words: str) -> None:
    read = Reader(render([make_tagging()], untagged=count))
    assert f"stopped: {words} not tagged" in "".join(read.texts("ul", **{"class": "facts"}))
    assert "stopped" not in "".join(Reader(render([make_tagging()])).texts("ul", **{"class": "facts"}))


def test_folders_are_shown_from_the_last_common_one() -> None:
    def folders(*sources: str) -> list[str]:
        page = render([make_tagging(source, steps=1) for source in sources])
        return [Decoded(page, number).folder for number in range(len(sources))]

    assert folders("/home/me/music/a.mp3", "/home/me/music/live/b.mp3") == ["music", "music/live"]
    assert folders("/home/me/a & b/c.mp3") == ["a & b"]
    assert folders("/home/me/deep/down/a.mp3", "elsewhere/b.mp3") == ["deep/down", "elsewhere"]
    assert folders("a.mp3", "waveform") == ["", ""]


def test_a_relative_report_is_marked() -> None:
    absolute = make_taggings(20)
    relative = decide(absolute)
    (facts,) = Reader(render(relative)).texts("ul", **{"class": "facts"})
    assert "relative to these 20 tracks" in facts
    assert "relative" not in Reader(render(absolute)).texts("ul", **{"class": "facts"})[0]
    assert "relative" in Reader(render(relative[:1])).texts("ul", **{"class": "facts"})[0]


def test_a_relative_report_shows_relative_decisions() -> None:
    relative = decide(make_taggings(25, steps=9))
    page = render(relative)
    assert [tuple(Decoded(page, n).decided) for n in range(25)] == [tagging.decided for tagging in relative]


# ---------------------------------------------------------------- the file


def write(path: Path | str, tagging: Tagging, **options: object) -> None:
    reference = Reference.from_tagging(tagging)
    report_page.write(path, [Track.from_tagging(tagging)], reference, **options)  # type: ignore[arg-type]


def test_a_page_is_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "moods.html"
    write(path, make_tagging(), title="first")
    whole = path.read_bytes()
    assert whole.decode("utf-8") == render([make_tagging()], title="first")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="No space left"):
            write(path, make_tagging(), title="second")
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]
    write(str(path), make_tagging(HOSTILE), failed={HOSTILE: "bad"})
    assert path.read_bytes() != whole
    assert [file.name for file in tmp_path.iterdir()] == ["moods.html"]


def test_an_impossible_path_raises(tmp_path: Path) -> None:
    for path, word in ((tmp_path / "nowhere" / "moods.html", "folder"), (tmp_path, "folder")):
        with pytest.raises(OutputError, match=word):
            write(path, make_tagging())
    with pytest.raises(OutputError, match="File name too long"):
        write(tmp_path / ("x" * 300), make_tagging())
    assert not list(tmp_path.iterdir())


def test_only_reports_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "song.ogg").write_bytes(b"OggS")
    (tmp_path / "link.html").symlink_to("song.ogg")
    for name in ("song.ogg", "link.html"):
        with pytest.raises(OutputError):
            write(tmp_path / name, make_tagging())
    assert (tmp_path / "song.ogg").read_bytes() == b"OggS"
    (tmp_path / "old.html").write_bytes(b"<html>")
    (tmp_path / "old.html").chmod(0o600)
    (tmp_path / "latest.html").symlink_to("old.html")
    write(tmp_path / "latest.html", make_tagging())
    assert (tmp_path / "latest.html").is_symlink()
    assert (tmp_path / "old.html").read_bytes().startswith(b"<!DOCTYPE html>")
    assert (tmp_path / "old.html").stat().st_mode & 0o777 == 0o600


# ---------------------------------------------------------------- curves and ribbons


def test_the_waveform_is_the_mean_of_its_peaks() -> None:
    peaks = np.array([0.2, 0.4, 0.8, np.nan], np.float32)
    tagging = replace(small([0.5], [0.5], [[0.5]]), envelope=Envelope(15.0, peaks))
    np.testing.assert_allclose(curves.levels(tagging, 2), [0.75, 1], atol=1e-6)  # type: ignore[arg-type]
    np.testing.assert_allclose(curves.levels(tagging, 8)[2:6], [0.5, 0.5, 1, 1], atol=1e-6)  # type: ignore[index]
    short = curves.levels(replace(tagging, envelope=Envelope(15.0, peaks[:2])), 4)
    np.testing.assert_allclose(short, [0.5, 1, 0, 0], atol=1e-6)  # type: ignore[arg-type]
    silent = curves.levels(replace(tagging, envelope=Envelope(15.0, np.zeros(4, np.float32))), 3)
    assert silent is not None
    assert not silent.any()


def test_steps_are_exact_means() -> None:
    tagging = small([0.5, 0.5], [0.5, 0.5], [[0.0, 0.2, 0.4, 0.6], [1.0, 1.0, 0.0, 0.0]])
    np.testing.assert_allclose(curves.steps(tagging, 2), [[0.1, 0.5], [1, 0]], atol=1e-7)
    np.testing.assert_allclose(curves.steps(tagging, 1), [[0.3], [0.5]], atol=1e-7)
    np.testing.assert_allclose(curves.steps(tagging, 3), [[0.05, 0.3, 0.55], [1, 0.5, 0]], atol=1e-7)
    np.testing.assert_allclose(curves.steps(tagging, 8)[0], np.repeat([0.0, 0.2, 0.4, 0.6], 2), atol=1e-7)


def test_moving_averages_are_shorter_at_both_ends() -> None:
    averages = curves.smooth(np.array([[1.0, 0.0, 0.0, 2.0]]), 3)
    np.testing.assert_allclose(averages, [[1 / 2, 1 / 3, 2 / 3, 1]])
    np.testing.assert_allclose(curves.smooth(averages, 1), averages)


def test_the_threshold_is_at_half_of_the_height() -> None:
    scores = np.array([[0.01, 0.02], [0.6, 0.2], [0.3, 0.1]])
    heights = curves.relative(scores, np.array([0.01, 0.6, np.inf]))
    np.testing.assert_allclose(heights[:, 0], 0.5, atol=1e-6)
    assert heights[0, 1] > 0.75
    assert heights[1, 1] < 0.2
    assert (heights[2] <= 0.5).all()


def runs_of(tagging: Tagging, steps: int) -> tuple[list[ribbon.Run], list[ribbon.Run]]:
    return ribbon.ribbons(curves.steps(tagging, steps), Reference.from_tagging(tagging))


def test_runs_cover_the_track() -> None:
    for runs in runs_of(make_tagging(seed=5), 96):
        assert sum(run.steps for run in runs) == 96
        assert all((run.tag, run.above) != (after.tag, after.above) for run, after in itertools.pairwise(runs))


def test_tags_that_are_never_decided_are_used_only_alone() -> None:
    tagging = small([0.1, 0.9, 0.1], [0.5, np.inf, 0.5], [[0.1, 0.1], [0.9, 0.9], [0.1, 0.1]])
    moods, themes = runs_of(tagging, 4)
    assert ([run.tag for run in moods], [run.tag for run in themes]) == ([2], [0])
    never = replace(tagging, thresholds=np.full(3, np.inf, np.float32))
    assert [run.tag for run in runs_of(never, 4)[1]] == [0]
    assert runs_of(replace(tagging, theme_vocabulary=()), 4)[1] == []


def test_runs_prefer_decided_tags_then_evidence() -> None:
    # b is far above its threshold and little above its prior, c the other way about, d below a high threshold
    rows = [[0.1, 0.1], [0.5, 0.05], [0.5, 0.3], [0.8, 0.2]]
    tagging = small([0.5] * 4, [0.9, 0.1, 0.4, 0.95], rows)
    assert [run.tag for run in runs_of(tagging, 2)[0]] == [1, 2]
    with_priors = replace(tagging, priors=np.array([0.5, 0.4, 0.1, 0.01], np.float32))
    first, second = runs_of(with_priors, 2)[0]
    assert (first.tag, first.above) == (2, True)
    assert (second.tag, second.above) == (3, False)  # nothing is above its threshold: the most evidence of all


def test_evidence_over_time_is_that_of_the_track() -> None:
    relative = decide(make_taggings(25))[3]
    reference = Reference.from_tagging(relative)
    evidence = reference.evidence(relative.scores[:, None])
    assert evidence is not None
    np.testing.assert_allclose(evidence[:, 0], relative.evidence, atol=1e-4)


def test_strongest_lists_decided_tags_first() -> None:
    item = Track.from_tagging(small([0.3, 0.9, 0.2, 0.8], [0.2, 0.95, 0.05, 1.0], [[0.5]] * 4))
    assert item.strongest[:3] == [2, 0, 3]
    assert item.decided == [2, 0]
