"""The report in a browser: read-out, search, narrow screens, print, no script. Skipped where there is no Chromium."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moodfield.report import page as report_page
from test_report import HOSTILE, make_tagging

WIDTHS = (390, 768, 1280)
"""pixels of a phone, a tablet and a desk"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no browser: apt-get install chromium")
    sync = pytest.importorskip("playwright.sync_api")
    with sync.sync_playwright() as tools:
        chromium = tools.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of an album, one of whose tracks has a hostile name."""
    names = [f"/music/album/{number:02} A rather long title of a song, part {number}.ogg" for number in range(11)]
    tracks = [make_tagging(name, seed=seed) for seed, name in enumerate([*names, HOSTILE])]
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report_page.render(tracks, failed={"/music/broken.mp3": "it is silent"}, title="An album"))
    return path


@pytest.fixture
def opened(browser: Any, page_file: Path) -> Iterator[Any]:
    """Opens the page as somebody would; whatever it asks for or complains about is a fault."""
    faults: list[str] = []
    contexts = []

    def opener(**how: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | how)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: faults.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.goto(page_file.as_uri())
        asked = [fault for fault in faults if fault != page_file.as_uri() and not fault.startswith("data:")]
        assert not asked, asked
        return page

    yield opener
    for context in contexts:
        context.close()
    assert not [fault for fault in faults if fault != page_file.as_uri() and not fault.startswith("data:")]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(opened, width, scheme):
    page = opened(viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = """[...document.querySelectorAll('h1, h2, h3, .head li, .bars li, .row')].filter(each => {
        const box = each.getBoundingClientRect();
        return box.width && (box.left < 0 || box.right > innerWidth + 1);
    }).map(each => each.textContent)"""
    assert page.evaluate(cut) == []
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = page.evaluate(
        """([color]) => { const canvas = document.createElement('canvas').getContext('2d');
        canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); return canvas.getImageData(0, 0, 1, 1).data[0] }""",
        [paper],
    )
    assert (light > 128) == (scheme == "light")


def test_the_pointer_shows_the_tags_at_its_time(opened):
    page = opened()
    now, track = page.locator("article .at").first, page.locator("article .timeline input").first
    summary = now.text_content()
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
    assert page.locator("article:visible").count() == 1
    assert page.locator("#find [role=status]").text_content() == "1 of 12"
    page.locator("#find input").fill("")
    assert page.locator("article:visible").count() == 12


def test_the_page_works_without_scripts(opened):
    page = opened(java_script_enabled=False)
    assert page.locator("article:visible").count() == 12
    assert page.locator("article .at").first.is_visible()
    assert not page.locator("article .timeline input").first.is_visible()
    assert not page.locator("#find").is_visible()


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


def test_the_map_links_to_its_tracks(opened):
    page = opened()
    dot = page.locator(".places a").nth(3)
    target = dot.get_attribute("href")
    dot.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == target
    assert page.locator(target).is_visible()
