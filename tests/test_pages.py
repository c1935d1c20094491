"""The report in a browser: table, details, map, narrow screens, print, no script. Skipped without Chromium."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import browsers
from reports import HOSTILE, make_tagging, make_taggings, render, small

WIDTHS = (390, 768, 1280)
"""pixels of a phone, a tablet and a desk"""
MANY = 130
"""tracks of a page whose table has three pages"""
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    with browsers.chromium("--disable-gpu") as chromium:
        yield chromium


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of an album, one of whose tracks has a hostile name, one of many tracks, and one with simple numbers."""
    names = [f"/music/album/{number:02} A rather long title of a song, part {number}.ogg" for number in range(11)]
    album = [make_tagging(name, seed=seed) for seed, name in enumerate([*names, HOSTILE])]
    numbers = small(
        [0.08, 0.5, 0.01, 0.04], [0.02, 0.6, 0.2, np.inf], [[0.08, 0.08], [0.5, 0.7], [0.01] * 2, [0.04] * 2]
    )
    numbers = replace(numbers, priors=np.array([0.01, 0.5, 0.1, 0.02], np.float32))
    folder = tmp_path_factory.mktemp("pages")
    for name, tracks in {"album": album, "many": make_taggings(MANY, steps=40), "numbers": [numbers]}.items():
        html = render(tracks, failed={"/music/broken.mp3": "it is silent"}, title="An album")
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture
def opened(browser: Any, pages: dict[str, Path]) -> Iterator[Open]:
    """Opens a page as somebody would; whatever it asks for or complains about is a fault."""
    faults: list[str] = []
    contexts = []

    def opener(name: str = "album", *, anchor: str = "", **how: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | how)
        contexts.append(context)
        page = context.new_page()
        address = pages[name].as_uri() + anchor
        page.on("request", lambda request: request.url != address.partition("#")[0] and faults.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.goto(address)
        return page

    yield opener
    for context in contexts:
        context.close()
    assert not [fault for fault in faults if not fault.startswith("data:")]


def titles(page: Any) -> list[str]:
    """Names of the tracks in the table."""
    return list(page.locator(".contents .title bdi").all_text_contents())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["album", "many"])
def test_nothing_is_wider_than_the_screen(opened, name, width, scheme):
    page = opened(name, viewport={"width": width, "height": 800}, color_scheme=scheme)
    if name == "many":
        page.locator(".contents tbody button").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = """[...document.querySelectorAll('h1, h2, h3, .head li, .bars li, .row, .contents td, #find *, .pager *')]
        .filter(node => {
            const box = node.getBoundingClientRect();
            return box.width && (box.left < 0 || box.right > innerWidth + 1);
        }).map(node => node.textContent)"""
    assert page.evaluate(cut) == []
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = page.evaluate(
        """([color]) => { const canvas = document.createElement('canvas').getContext('2d');
        canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); return canvas.getImageData(0, 0, 1, 1).data[0] }""",
        [paper],
    )
    assert (light > 128) == (scheme == "light")


def test_hostile_text_is_shown_as_text(opened):
    page = opened()
    assert page.locator("article h3").last.text_content().startswith('script><!-- "q" & \N{REPLACEMENT CHARACTER}')
    assert page.locator("main script").count() == 1  # the data


# ---------------------------------------------------------------- few tracks


def test_details_of_few_tracks_are_open(opened):
    page = opened()
    assert page.locator("article:visible").count() == 12
    drawn = page.evaluate(
        """() => [...document.querySelectorAll('article')].map(card => [
            card.querySelectorAll('.row svg[role=img]').length, card.querySelectorAll('.lane .ribbon').length,
            card.querySelectorAll('.wave path').length, card.querySelectorAll('.charts .bars li').length])"""
    )
    assert drawn == [[6, 2, 1, 5]] * 12
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(node => node.id)")
    assert len(ids) == len(set(ids))
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(node => Number(node.tagName[1]))")
    assert max(after - before for before, after in itertools.pairwise(levels)) == 1


def test_decided_tags_are_listed_with_themes_apart(opened):
    page = opened()
    tagging = make_tagging("/music/album/00 A rather long title of a song, part 0.ogg", seed=0)
    head = page.locator("article").first.locator(".head")
    rest = ", ".join(head.locator("details p").all_text_contents()).split(", ")
    shown = [*head.locator(".moods li").all_text_contents(), *head.locator(".themes li").all_text_contents()]
    assert sorted([*shown, *filter(None, rest)]) == sorted(tagging.decided)
    assert head.locator(".moods li").all_text_contents() == [
        tag for tag in tagging.decided[:12] if tag in tagging.moods
    ]
    assert set(head.locator(".themes li").all_text_contents()) <= set(tagging.themes)


def test_bars_show_how_much_more_likely_than_usual_tags_are(opened):
    page = opened("numbers")
    # b has the highest score, and is as likely as usual; c is less likely, d is never decided
    bars = page.locator(".charts .bars li")
    assert bars.locator(".tag").all_text_contents() == ["a", "d", "b", "c"]
    assert bars.locator(".number").all_text_contents() == ["8.0 ×", "2.0 ×", "1.0 ×", "0.10 ×"]
    length = "bar => parseFloat(bar.style.getPropertyValue('--w'))"
    widths = page.evaluate(f"[...document.querySelectorAll('.charts .bars li')].map({length})")
    assert [round(width) for width in widths] == [100, 33, 0, 0]
    marks = page.evaluate("[...document.querySelectorAll('.charts .bars i')].map(mark => parseFloat(mark.style.left))")
    assert [round(mark) for mark in marks] == [33, 9, 33]
    assert bars.first.get_attribute("title") == "score 0.080, threshold 0.020"
    assert "never decided" in bars.nth(1).get_attribute("title")


def test_the_pointer_shows_the_tags_at_its_time(opened):
    page = opened()
    now, track = page.locator("article .at").first, page.locator("article .timeline input").first
    summary, shares = now.text_content(), page.locator("article").first.locator(".row .number").all_text_contents()
    assert all(share.endswith("%") for share in shares)
    track.scroll_into_view_if_needed()
    box = track.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2)
    middle = now.text_content()
    assert middle != summary
    assert "its threshold" in middle
    assert middle == track.get_attribute("aria-valuetext")
    page.mouse.move(box["x"] + box["width"] * 0.01, box["y"] + box["height"] / 2)
    assert now.text_content().startswith("0:00 – ")
    page.mouse.move(5, 5)
    assert now.text_content() == summary
    assert page.locator("article").first.locator(".row .number").all_text_contents() == shares


def test_amounts_over_time_are_those_of_the_scores(opened):
    page = opened("numbers")
    page.locator(".timeline input").focus()
    rows = page.locator(".row")
    assert rows.locator(".tag").all_text_contents() == ["a", "d", "b", "c"]
    first = rows.locator(".number").all_text_contents()
    page.keyboard.press("End")
    last = rows.locator(".number").all_text_contents()
    assert (first[1], last[1]) == ("–", "–")
    amounts = [float(text.split()[0]) for text in (first[0], first[2], last[2])]
    assert amounts == pytest.approx([8, 1, 1.4], rel=0.07)


def test_the_keyboard_moves_the_position(opened):
    page = opened()
    track = page.locator("article .timeline input").first
    track.focus()
    before = page.locator("article .at").first.text_content()
    assert before.startswith("0:00 – ")
    page.keyboard.press("End")
    assert page.locator("article .at").first.text_content() != before
    assert track.input_value() == track.get_attribute("max")


def test_the_search_hides_other_tracks(opened):
    page = opened()
    page.locator("#find input").fill("part 7")
    assert page.locator("article:visible").count() == len(titles(page)) == 1
    assert page.locator("#find [role=status]").text_content() == "1 of 12"
    page.locator("#find input").fill("")
    assert page.locator("article:visible").count() == 12


def test_the_page_works_without_scripts(opened):
    page = opened(java_script_enabled=False)
    assert page.locator("noscript tbody tr").count() == 12 or page.locator(".plain tbody tr:visible").count() == 12
    assert page.locator(".places svg").is_visible()
    assert page.locator("#find").count() == 0


def test_printing_shows_every_track(opened):
    page = opened()
    page.emulate_media(media="print")
    assert not page.locator("#find").is_visible()
    heights = page.evaluate(
        "[...document.querySelectorAll('article')].map(each => each.getBoundingClientRect().height)"
    )
    assert len(heights) == 12
    assert min(heights) > 200
    assert page.pdf().startswith(b"%PDF")


# ---------------------------------------------------------------- many tracks


def test_many_tracks_have_pages_and_no_details_at_first(opened):
    page = opened("many")
    assert page.locator("article").count() == 0
    seen = titles(page)
    while page.get_by_role("button", name="Next", disabled=False).count():
        page.get_by_role("button", name="Next").click()
        seen += titles(page)
    assert seen == [f"Track {number}" for number in range(MANY)]
    page.get_by_role("button", name="First").click()
    assert titles(page)[0] == "Track 0"


def test_details_open_and_close_by_the_keyboard(opened):
    page = opened("many")
    opener = page.locator(".contents tbody button").nth(3)
    opener.focus()
    page.keyboard.press("Enter")
    assert page.locator(".contents article h3").all_text_contents() == ["Track 3"]
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    page.keyboard.press("Enter")
    assert page.locator("article").count() == 0
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "false"


def test_columns_sort_the_table(opened):
    page = opened("many")
    title, time = page.locator("th button").first, page.locator("th button").last
    title.click()
    title.click()
    assert titles(page)[:2] == [f"Track {MANY - 1}", f"Track {MANY - 2}"]
    assert page.locator("th[aria-sort=descending]").count() == 1
    time.click()
    times = page.locator(".contents td.number").all_text_contents()
    assert times[:2] == ["1:00", "1:01"]
    time.click()
    assert titles(page)[0] == f"Track {MANY - 1}"
    time.click()
    assert titles(page)[0] == "Track 0"
    assert page.locator("th[aria-sort=none]").count() == 2


def test_a_tag_selects_its_tracks_by_decreasing_score(opened):
    page = opened("many")
    tagged = [tagging for tagging in make_taggings(MANY, steps=40) if "calm" in tagging.decided]
    tag = tagged[0].vocabulary.index("calm")
    scores = {Path(tagging.source).stem: float(tagging.scores[tag]) for tagging in tagged}
    page.locator("#find select").select_option(str(tag))
    assert page.locator("#find [role=status]").text_content() == f"{len(tagged)} of {MANY}"
    listed = [scores[title] for title in titles(page)]
    assert len(listed) == min(len(tagged), 50)
    assert all(after <= 1.01 * before for before, after in itertools.pairwise(listed))
    assert listed[0] == max(scores.values())
    assert page.locator(".places.filtered").count() == 1
    dots = page.evaluate(
        "[...document.querySelectorAll('.places g path')].map(path => path.getAttribute('d')).join('')"
    )
    assert dots.count("h0") == len(tagged)


def test_the_map_is_used_by_the_keyboard(opened):
    page = opened("many")
    page.locator(".places").focus()
    page.keyboard.press("ArrowRight")
    first = page.locator(".tip bdi").text_content()
    page.keyboard.press("ArrowRight")
    second = page.locator(".tip bdi").text_content()
    assert first != second
    page.keyboard.press("Enter")
    assert page.locator("article h3").text_content() == second
    assert page.evaluate("document.activeElement.textContent") == second


@pytest.mark.parametrize("name", ["album", "many"])
def test_a_dot_opens_its_track(opened, name):
    page = opened(name)
    x, y, title = page.evaluate("(track => [track.x / 3000, track.y / 2000, track.name])(tracks[7])")
    page.locator("#find input").fill("part 3" if name == "album" else "track 3")  # the dot is then not found
    page.locator("#find input").fill("")
    page.locator(".places").scroll_into_view_if_needed()
    box = page.locator(".places").bounding_box()
    page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y)
    assert page.locator(".tip bdi").text_content() == title
    page.mouse.click(box["x"] + box["width"] * x, box["y"] + box["height"] * y)
    assert page.locator("#t7 h3").text_content() == title
    assert page.locator("#t7").is_visible()


@pytest.mark.parametrize(("name", "number"), [("album", 9), ("many", 117)])
def test_a_link_to_a_track_opens_it(opened, name, number):
    page = opened(name, anchor=f"#t{number}")
    assert page.locator(f"#t{number}").is_visible()
    pytest.importorskip("playwright.sync_api").expect(page.locator(f"#n{number}")).to_be_in_viewport()


def test_a_touch_shows_a_track_before_it_opens(opened):
    page = opened("many", has_touch=True)
    x, y, title = page.evaluate("(track => [track.x / 3000, track.y / 2000, track.name])(tracks[7])")
    page.locator(".places").scroll_into_view_if_needed()
    for count in (0, 1):
        box = page.locator(".places").bounding_box()
        page.touchscreen.tap(box["x"] + box["width"] * x, box["y"] + box["height"] * y)
        assert page.locator("article").count() == count
    assert page.locator("article h3").text_content() == title


def test_all_found_tracks_are_printed(opened):
    page = opened("many")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert len(titles(page)) == MANY
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert len(titles(page)) == 50
    assert page.pdf().startswith(b"%PDF")


def test_nothing_found_is_shown(opened):
    page = opened("many")
    page.locator("#find input").fill("no such track")
    assert titles(page) == []
    assert page.locator("#find [role=status]").text_content() == f"0 of {MANY}"
    assert not page.locator(".pager").is_visible()
