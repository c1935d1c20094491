"""The page of `moodfield serve` in a browser, against the real server. Skipped without Chromium."""

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import soundfile

import browsers
import commands
import libraries
from moodfield.decoding.metadata import Metadata
from moodfield.library import database
from moodfield.report import text

TIMEOUT = 60_000
"""milliseconds to wait for what the page should show"""
TRACKS = 60
"""tracks of the library"""
RATE = 22_050
TOKEN = "a token for tests"
HOSTILE = '<img src=x onerror="alert(1)">&amp; \N{RIGHT-TO-LEFT OVERRIDE}title'
ROOT = Path(__file__).parent.parent
WEB, REPORT = ROOT / "web", ROOT / "src" / "moodfield" / "report"
STATIC = ROOT / "src" / "moodfield" / "serving" / "static"
AXE = WEB / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
Open = Callable[..., Any]


def audio(seconds: float = 4.0, *, seed: int = 0, kind: str = "WAV", opposite: bool = False) -> bytes:
    """A file of noise that swells; its two channels may be of opposite polarity."""
    count = int(seconds * RATE)
    samples = np.random.default_rng(seed).normal(size=count) * np.linspace(0.01, 0.2, count)
    channels = np.stack([samples, -0.98 * samples], axis=1) if opposite else samples
    file = BytesIO()
    soundfile.write(file, channels.astype(np.float32), RATE, format=kind, subtype="PCM_16")
    return file.getvalue()


def upload(name: str, content: bytes, kind: str = "audio/wav") -> dict[str, object]:
    """A file as Playwright takes it."""
    return {"name": name, "mimeType": kind, "buffer": content}


@contextmanager
def serving(library: Path, *options: str) -> Iterator[str]:
    """A context with the address of a service."""
    process = commands.start("serve", "--db", library, "--port", "0", "--jobs", "1", *options)
    assert process.stderr
    try:
        line = process.stderr.readline()
        match = re.search(r"http://[^/]*/", line)
        assert match, line + process.stderr.read()
        yield match[0]
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, with WebGL by its software rasteriser."""
    with browsers.chromium(*browsers.SOFTWARE) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a service with a library, one of whose tracks has a hostile title."""
    folder = tmp_path_factory.mktemp("served")
    tagger = libraries.StubTagger()
    with database.write(folder / "library.db") as connection:
        for seed in range(TRACKS):
            path = folder / f"{seed}.wav"
            path.write_bytes(audio(seed=seed))
            names = Metadata("artist", "album", HOSTILE, "jazz", 1990) if seed == 0 else None
            libraries.add(connection, libraries.tagging(seed, tagger), tagger, path=str(path), names=names)
    with serving(folder / "library.db") as url:
        yield url


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a service with a token, and a library of 20 tracks."""
    path = tmp_path_factory.mktemp("locked") / "library.db"
    libraries.make(path, 20)
    with serving(path, "--token", TOKEN) as url:
        yield url


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Open]:
    """Opens the page as somebody would; what it asks for elsewhere and what it complains about is a fault."""
    faults: list[str] = []
    contexts = []

    def opener(
        place: str = "", *, base: str = address, expected: tuple[int, ...] = (), script: str = "", **how: Any
    ) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}} | how)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT)
        page.add_init_script(script)
        page.on(
            "request", lambda request: request.url.startswith((base, "blob:", "data:")) or faults.append(request.url)
        )
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.on("console", lambda message: is_expected(message, expected) or faults.append(message.text))
        page.goto(base + place)
        return page

    yield opener
    for context in contexts:
        context.close()
    assert not faults


def is_expected(message: Any, statuses: tuple[int, ...]) -> bool:
    """Whether a line of the console is advice, about an answer that the test provokes, or about the speed of WebGL."""
    text = message.text
    is_provoked = any(f"status of {status}" in text for status in statuses) or "ERR_FAILED" in text
    return message.type not in ("error", "warning") or is_provoked or "GPU stall" in text


def get(address: str, path: str) -> Any:
    """JSON of the service."""
    with urlopen(address + path) as answer:
        return json.load(answer)


def expect(locator: Any) -> Any:
    """Waits until something is true of a part of the page."""
    sync = pytest.importorskip("playwright.sync_api")
    sync.expect.set_options(timeout=TIMEOUT)
    return sync.expect(locator)


def choose(page: Any, *files: dict[str, object]) -> None:
    """Choose files to tag."""
    page.locator("input[type=file]").set_input_files(list(files))


def names(page: Any) -> list[str]:
    """Titles in the list of tracks."""
    return list(page.locator("table.rows .title").all_text_contents())


def chips(page: Any) -> list[str]:
    """Tags of the track that is shown."""
    return [text.split(" (")[0] for text in page.locator(".chips .moods li, .chips .themes li").all_text_contents()]


# ---------------------------------------------------------------- both views


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
def test_views_fit_the_screen_and_are_accessible(opened, width, scheme):
    page = opened(
        viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce", expected=(422,)
    )
    expect(page.get_by_text("Nothing leaves it.")).to_be_visible()
    check(page, width)
    choose(
        page,
        upload("a long name without any space in it at all_or_hyphens_to_break_it.wav", audio()),
        upload("b.mp3", b"no"),
    )
    expect(page.locator("article .evidence")).to_be_visible()
    expect(page.locator(".file.failed")).to_be_visible()
    check(page, width)
    page.get_by_role("link", name="Library").click()
    expect(page.locator("table.rows tbody tr")).to_have_count(50)
    page.get_by_role("button", name="Filters").click()
    page.get_by_role("button", name="Add music").click()
    check(page, width)
    page.locator("table.rows .title").first.click()
    expect(page.locator(".similar li")).to_have_count(8)
    page.locator(".details").get_by_role("button", name=re.compile("in the playlist$")).first.click()
    page.locator(".details .play").first.click()
    expect(page.get_by_role("region", name="Player")).to_be_visible()
    check(page, width)
    page.get_by_role("button", name="Playlist", exact=False).first.click()
    expect(page.locator(".playlist .rows li")).to_have_count(1)
    check(page, width)
    assert page.evaluate("document.getAnimations().length") == 0
    if not AXE.exists():
        pytest.skip("the views fit; axe-core, which checks their accessibility, is not installed: make web")


def check(page: Any, width: int) -> None:
    """Nothing is wider than the screen, and axe finds no fault."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = """[...document.querySelectorAll('button, a, input, select, h1, h2, h3, td, li')].filter(node => {
            const box = node.getBoundingClientRect();
            return box.width > 1 && !node.closest('.unseen, .skip, .plane, .lane, .ticks')
                && (box.left < -1 || box.right > innerWidth + 1);
        }).map(node => node.outerHTML)"""
    assert page.evaluate(cut) == []
    if not AXE.exists():
        return
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)
    assert [(fault["id"], [node["html"][:200] for node in fault["nodes"]]) for fault in found["violations"]] == []


def test_the_first_view_is_small(opened):
    page = opened()
    expect(page.get_by_role("button", name="choose files")).to_be_visible()
    entries = page.evaluate("[...performance.getEntriesByType('resource')].map(one => [one.name, one.decodedBodySize])")
    assert [name for name, _ in entries if "library" in name] == []  # loaded when it is opened
    assert sum(size for _, size in entries) < 150_000  # without compression; benchmarks/page.py has the figure


def test_titles_are_shown_as_text(opened):
    page = opened("#library")
    page.get_by_role("searchbox").fill("onerror")
    expect(page.locator("table.rows tbody tr")).to_have_count(1)
    assert names(page) == [HOSTILE]
    assert page.locator("table.rows img").count() == 0


def test_a_token_is_asked_for(opened, locked):
    page = opened("#library", base=locked, expected=(401,))
    expect(page.get_by_text("MOODFIELD_TOKEN")).to_be_visible()
    page.get_by_label("Token").fill("a wrong token, not this")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("alert")).to_contain_text("token")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Open").click()
    expect(page.locator("table.rows tbody tr")).to_have_count(20)
    page.reload()
    expect(page.locator("table.rows tbody tr")).to_have_count(20)
    other = opened(f"#token={TOKEN.replace(' ', '%20')}", base=locked)
    other.get_by_role("link", name="Library").click()
    expect(other.locator("table.rows tbody tr")).to_have_count(20)
    assert "token" not in other.url
    assert "moodfield_session" in {cookie["name"] for cookie in other.context.cookies()}


def test_a_token_may_have_any_characters(opened):
    page = opened("#token=100%zz")
    expect(page.get_by_role("button", name="choose files")).to_be_visible()
    assert page.evaluate("sessionStorage.getItem('moodfield-token')") == "100%zz"


def test_a_server_that_has_gone_is_named(opened):
    page = opened(expected=(422,))
    expect(page.get_by_text("Nothing leaves it.")).to_be_visible()
    page.route("**/v1/tag*", lambda route: route.abort())
    page.route("**/v1/map", lambda route: route.abort())
    choose(page, upload("a.wav", audio()))
    expect(page.locator(".file.failed")).to_contain_text("cannot be reached")
    page.get_by_role("link", name="Library").click()
    expect(page.get_by_role("alert").first).to_contain_text("cannot be reached")
    page.unroute("**/v1/map")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("table.rows tbody tr")).to_have_count(50)


# ---------------------------------------------------------------- Drop


def test_dropped_files_are_tagged(opened):
    page = opened(expected=(422,))
    results: dict[str, Any] = {}
    page.on(
        "response", lambda answer: "/v1/tag" in answer.url and answer.ok and results.update({answer.url: answer.json()})
    )
    damaged = audio(20, kind="FLAC")
    drop(
        page,
        {"one.wav": audio(), "broken.flac": damaged[: len(damaged) // 2], "notes.txt": b"text", "not.mp3": b"nothing"},
    )
    expect(page.locator(".file.done")).to_have_count(2)
    expect(page.locator(".file.failed")).to_contain_text("not.mp3 is not audio")
    expect(page.locator(".note")).to_contain_text("notes.txt")
    expect(page.locator(".summary [role=status]")).to_have_text("2 files tagged, 1 failed")
    for title, tagging in zip(("one", "broken"), results.values(), strict=True):
        card = page.get_by_role("article", name=title, exact=True)
        assert sorted(chips(card)) == sorted(tagging["decided"])
        assert card.locator(".wave").count() == 2
        assert card.locator(".lane .ribbon rect").count() >= 2
        strongest = sorted(
            tagging["evidence"], key=lambda tag: (tag not in tagging["decided"], -tagging["evidence"][tag])
        )
        assert card.locator(".evidence .tag").all_text_contents() == strongest[: max(6, len(tagging["decided"]))]
        assert card.locator(".warnings li").all_text_contents() == tagging.get("warnings", [])
    assert page.locator(".warnings").count() == 1
    page.get_by_role("article", name="one", exact=True).get_by_role("button", name="All 56 tags").click()
    assert page.get_by_role("article", name="one", exact=True).locator(".evidence .tag").count() == 56


def drop(page: Any, files: dict[str, bytes]) -> None:
    """Drop files somewhere on the page."""
    code = """files => {
        const transfer = new DataTransfer();
        for (const [name, bytes] of Object.entries(files)) transfer.items.add(new File([new Uint8Array(bytes)], name));
        for (const type of ['dragover', 'drop']) {
            document.body.dispatchEvent(new DragEvent(type, {dataTransfer: transfer, bubbles: true, cancelable: true}));
        }
    }"""
    page.evaluate(code, {name: list(content) for name, content in files.items()})


def test_dropped_files_that_cannot_be_read_are_left_out(opened):
    page = opened(expected=(422,))
    page.evaluate(
        """() => {
            const gone = {isFile: true, name: 'gone.wav', file: (_, reject) => reject(new Error('no permission'))};
            const one = {isFile: true, name: 'one.wav', file: resolve => resolve(new File(['no'], 'one.wav'))};
            const listed = [[gone, one], []];
            const reader = {readEntries: resolve => resolve(listed.shift())};
            DataTransferItem.prototype.webkitGetAsEntry = () => ({name: 'folder', createReader: () => reader});
        }"""
    )
    drop(page, {"folder": b""})
    expect(page.get_by_role("alert")).to_have_text("Left out, since it cannot be read: gone.wav (no permission)")
    expect(page.locator(".files > li")).to_have_count(1)


def test_an_answer_that_is_no_result_fails_one_file(opened):
    page = opened()
    page.route("**/v1/tag?*one.wav", lambda route: route.fulfill(status=200, body="<html>Please log in</html>"))
    choose(page, upload("one.wav", audio()), upload("two.wav", audio()))
    expect(page.locator(".file.failed")).to_contain_text("not from moodfield serve")
    expect(page.locator(".file.done")).to_have_count(1)


def test_a_busy_server_is_asked_again_and_work_can_be_cancelled(opened):
    page = opened(expected=(503,))
    routes: list[Any] = []

    def answer(route: Any) -> None:
        routes.append(route)
        if len(routes) == 1:
            route.fulfill(status=503, headers={"Retry-After": "1"}, json={"detail": "too many files"})
        elif len(routes) == 2:
            route.continue_()  # later ones are not answered

    page.route("**/v1/tag?*", answer)
    choose(page, *(upload(f"{number}.wav", audio(seed=number)) for number in range(3)))
    expect(page.get_by_text("the server is busy, next try in 1 s")).to_be_visible()
    expect(page.locator(".file.done")).to_have_count(1)
    expect(page.locator(".summary [role=status]")).to_contain_text("1 of 3 files tagged")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".files > li")).to_have_count(1)
    routes[2].abort()
    expect(page.locator(".summary [role=status]")).to_have_text("1 file tagged")
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def test_results_are_saved(opened):
    page = opened(expected=(422,))
    choose(page, upload('a "quoted", name.wav', audio()), upload("b.mp3", b"no"))
    expect(page.locator(".file.failed")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save JSON").click()
    rows = commands.json_lines(Path(download.value.path()).read_text("utf-8"))
    assert [row["source"] for row in rows] == ['a "quoted", name.wav', "b.mp3"]
    assert chips(page) == rows[0]["decided"] or not rows[0]["decided"]
    assert "not audio" in str(rows[1]["error"])
    with page.expect_download() as download:
        page.get_by_role("button", name="Save CSV").click()
    table = list(csv.DictReader(StringIO(Path(download.value.path()).read_text("utf-8"))))
    assert [(row["source"], row["decided"]) for row in table] == [
        ('a "quoted", name.wav', "; ".join(rows[0]["decided"])), ("b.mp3", ""),
    ]  # fmt: skip


def test_a_track_plays_from_where_one_wants(opened):
    page = opened()
    choose(page, upload("one.wav", audio(60)))
    waveform = page.get_by_role("slider", name="Position in one")
    waveform.scroll_into_view_if_needed()
    box = waveform.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    bar = page.get_by_role("region", name="Player")
    expect(bar).to_be_visible()
    position = bar.get_by_role("slider", name="Position")
    page.get_by_role("button", name="Pause one").first.click()
    expect(page.get_by_role("button", name="Play one").first).to_be_visible()
    assert 28 < float(position.input_value()) < 40
    position.focus()
    before = float(position.input_value())
    page.keyboard.press("ArrowLeft")
    assert float(position.input_value()) == pytest.approx(before - 5, abs=0.2)
    bar.get_by_role("button", name="Close the player").click()
    assert bar.count() == 0


def test_the_pointer_shows_the_tags_at_its_time(opened):
    page = opened()
    choose(page, upload("one.wav", audio(30)))
    slider = page.get_by_role("slider", name="Position in one")
    slider.scroll_into_view_if_needed()
    summary = page.locator(".at").text_content()
    assert summary.startswith("Strongest moods")
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator(".at")).to_contain_text("0:15 · ")
    expect(page.locator(".at")).to_contain_text("its threshold")
    page.mouse.move(2, 2)
    expect(page.locator(".at")).to_have_text(summary)


# ---------------------------------------------------------------- Library


def test_search_and_filters_choose_tracks(opened, address):
    page = opened("#library")
    expect(page.locator("table.rows tbody tr")).to_have_count(50)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("table.rows tbody tr")).to_have_count(TRACKS)
    page.get_by_role("combobox", name="Mood", exact=True).select_option("calm")
    wanted = get(address, "v1/tracks?mood=calm&limit=100")["tracks"]
    assert 0 < len(wanted) < TRACKS
    expect(page.locator(".found")).to_have_text(f"{len(wanted)} of {TRACKS} tracks")
    assert names(page) == [row["title"] for row in wanted][:50]
    page.get_by_role("button", name="Filters").click()
    page.get_by_role("textbox", name="Artist").fill("artist 3")
    some = [row["title"] for row in wanted if row["artist"] == "artist 3"]
    expect(page.locator(".found")).to_have_text(f"{len(some)} of {TRACKS} tracks")
    page.get_by_role("searchbox").fill("nothing like this")
    page.get_by_role("button", name="Show all tracks").click()
    expect(page.locator("table.rows tbody tr")).to_have_count(50)


def test_more_tracks_are_those_of_the_filters(opened, address):
    page = opened("#library")
    page.route("**/v1/tracks?*cursor=*", lambda _: None)  # not answered
    page.get_by_role("button", name="Show more").click()
    with page.expect_event("requestfailed", lambda request: "cursor=" in request.url):
        page.get_by_role("combobox", name="Mood", exact=True).select_option("calm")
    wanted = get(address, "v1/tracks?mood=calm&limit=50")["tracks"]
    expect(page.locator("table.rows .title")).to_have_text([row["title"] for row in wanted])


def test_pages_of_a_random_order_belong_together(opened, address):
    page = opened("#library")
    page.get_by_role("button", name="Filters").click()
    with page.expect_request("**/v1/tracks?*order=random*") as asked:
        page.get_by_label("Order").select_option("random")
    assert "seed=" in asked.value.url
    wanted = [row["title"] for row in get(address, asked.value.url.removeprefix(address) + "&limit=100")["tracks"]]
    expect(page.locator("table.rows .title").first).to_have_text(wanted[0])
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("table.rows .title")).to_have_text(wanted)


def test_the_library_stays_when_it_cannot_be_renewed(opened, address):
    page = opened("#library", expected=(409,))
    row = get(address, "v1/tracks?limit=100")["tracks"][-1]
    page.get_by_role("searchbox").fill(row["title"])
    page.get_by_role("link", name=row["title"], exact=True).click()
    count = get(address, "v1/stats")["tags"]
    free = next(tag for tag in libraries.TAGS if tag not in row["decided"])
    page.get_by_label("Add a tag to the track").select_option(free)
    mood = page.get_by_role("combobox", name="Mood", exact=True)
    expect(mood.locator(f"option[value={free}]")).to_contain_text(str(count.get(free, 0) + 1))
    problem = {"detail": "the library is being changed"}
    page.route("**/v1/map", lambda route: route.fulfill(status=409, json=problem))
    page.get_by_role("button", name=f"{free} does not fit").click()
    expect(page.get_by_role("alert").filter(has_text=problem["detail"])).to_be_visible()
    assert page.get_by_role("searchbox").input_value() == row["title"]
    page.unroute("**/v1/map")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("alert").filter(has_text=problem["detail"])).to_have_count(0)


def test_the_last_renewal_wins(opened, address):
    """An older answer that arrives later is not shown."""
    page = opened("#library")
    row = get(address, "v1/tracks?limit=100")["tracks"][-2]
    page.get_by_role("searchbox").fill(row["title"])
    page.get_by_role("link", name=row["title"], exact=True).click()
    map_data = get(address, "v1/map")
    held: list[Any] = []

    def answer(route: Any) -> None:
        if held:
            route.fulfill(json=map_data)
        else:
            held.append(route)

    page.route("**/v1/map", answer)
    free = [tag for tag in libraries.TAGS if tag not in row["decided"]][:2]
    for tag in free:
        with page.expect_request("**/v1/map"):
            page.get_by_label("Add a tag to the track").select_option(tag)
        expect(page.get_by_role("button", name=f"{tag} does not fit")).to_be_visible()
    with page.expect_response("**/v1/map"):
        held[0].fulfill(json={**map_data, **{name: [] for name, value in map_data.items() if isinstance(value, list)}})
    page.wait_for_timeout(200)
    assert page.get_by_text("Your library is empty").count() == 0
    expect(page.get_by_role("application")).to_have_attribute("aria-label", re.compile(f"Map of {TRACKS} tracks"))
    for tag in free:
        page.get_by_role("button", name=f"{tag} does not fit").click()
        expect(page.get_by_role("button", name=f"{tag} does not fit")).to_have_count(0)


def test_without_webgl_the_list_has_all_tracks(opened):
    script = "HTMLCanvasElement.prototype.getContext = () => null"
    page = opened("#library", script=script)
    expect(page.get_by_text("this browser has no WebGL 2")).to_be_visible()
    expect(page.locator("table.rows tbody tr")).to_have_count(50)
    page.locator("table.rows .title").first.click()
    expect(page.locator(".similar li")).to_have_count(8)


def test_a_browser_that_blocks_storage_has_token_and_playlist(opened, locked):
    script = (
        "Object.defineProperty(window, 'sessionStorage', { get() { throw new DOMException('', 'SecurityError') } })"
    )
    page = opened("#library", base=locked, expected=(401,), script=script)
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Open").click()
    expect(page.locator("table.rows tbody tr")).to_have_count(20)
    page.get_by_role("button", name=re.compile("in the playlist$")).first.click()
    expect(page.get_by_role("button", name="Playlist 1")).to_be_visible()
    other = opened(f"#token={TOKEN.replace(' ', '%20')}", base=locked, script=script)
    other.get_by_role("link", name="Library").click()
    expect(other.locator("table.rows tbody tr")).to_have_count(20)


def test_playing_goes_on_with_the_list(opened, address):
    page = opened("#library", expected=(404,))
    first, second, third = get(address, "v1/tracks?order=name&limit=3")["tracks"]
    page.route(f"**/v1/tracks/{second['id']}/audio", lambda route: route.fulfill(status=404, json={"detail": "gone"}))
    page.get_by_role("button", name=f"Play {first['title']}").click()
    page.locator("table.rows .title").first.click()
    details = page.locator(".details .file-head")
    details.get_by_role("button", name=re.compile("^Pause")).click()
    details.get_by_role("button", name=re.compile("^Play")).click()
    bar = page.get_by_role("region", name="Player")
    bar.get_by_role("slider").press("ArrowRight")
    expect(bar.get_by_role("alert")).to_have_text(f"{second['title']}: gone")
    expect(bar.get_by_role("button", name=f"Pause {third['title']}")).to_be_visible()


def test_the_map_is_used_by_the_keyboard_and_the_pointer(opened, address):
    page = opened("#library")
    chart = page.get_by_role("application")
    expect(chart).to_be_visible()
    opaque = """() => {
        const canvas = document.querySelector('canvas');
        canvas.parentElement.dispatchEvent(new KeyboardEvent('keydown', {key: '+'}));  // draws in the next frame
        const size = {width: canvas.width, height: canvas.height};
        const copy = Object.assign(document.createElement('canvas'), size).getContext('2d');
        return new Promise(resolve => requestAnimationFrame(() => {
            copy.drawImage(canvas, 0, 0);
            const pixels = copy.getImageData(0, 0, size.width, size.height).data;
            resolve(pixels.filter((value, at) => at % 4 === 3 && value).length);
        }));
    }"""
    chart.focus()
    assert page.evaluate(opaque) > 20 * TRACKS
    page.keyboard.press("0")
    page.keyboard.press("ArrowRight")
    tip = page.locator(".tip bdi").first
    expect(tip).to_be_visible()
    first = tip.text_content()
    page.keyboard.press("ArrowRight")
    expect(tip).not_to_have_text(first)
    second = tip.text_content()
    page.keyboard.press("Enter")
    expect(page.locator(".details h2")).to_have_text(second)
    expect(page.locator(".details h2")).to_be_focused()
    page.go_back()
    expect(page.locator("table.rows tbody tr")).to_have_count(50)
    columns = get(address, "v1/map")
    last = get(address, "v1/tracks?limit=100")["tracks"][-1]  # not in the list yet
    place = columns["ids"].index(last["id"])
    box = chart.bounding_box()
    x, y = (12 + columns[axis][place] * (box[side] - 24) for axis, side in (("x", "width"), ("y", "height")))
    page.mouse.move(box["x"] + x, box["y"] + y)
    expect(tip).to_have_text(last["title"])
    page.mouse.click(box["x"] + x, box["y"] + y)
    expect(page.locator(".details h2")).to_have_text(last["title"])


def test_details_show_both_decisions_and_take_corrections(opened, address):
    row = next(row for row in get(address, "v1/tracks?limit=100")["tracks"] if row["decided"])
    page = opened(f"#library/{row['id']}")
    expect(page.locator(".details h2")).to_have_text(row["title"])
    details = get(address, f"v1/tracks/{row['id']}")
    for number, kind in enumerate(("relative", "absolute")):
        column = page.locator(".reasons > div").nth(number)
        assert sorted(column.locator(".tag").all_text_contents()) == sorted(details[kind]["decided"])
        assert column.locator(".why").all_text_contents() == [
            tag["why"] for tag in details[kind]["tags"] if tag["decided"]
        ]
    assert chips(page) == details["decided"]
    gone, free = details["decided"][0], next(tag for tag in libraries.TAGS if tag not in details["decided"])
    page.get_by_role("button", name=f"{gone} does not fit").click()
    expect(page.get_by_role("button", name=f"{gone} fits after all")).to_be_visible()
    page.get_by_label("Add a tag to the track").select_option(free)
    expect(page.get_by_role("button", name=f"{free} does not fit")).to_be_visible()
    corrected = get(address, f"v1/tracks/{row['id']}")
    assert (corrected["added"], corrected["removed"]) == ([free], [gone])
    similar = get(address, f"v1/tracks/{row['id']}/similar?limit=8")["tracks"]
    assert page.locator(".similar .title").all_text_contents() == [other["title"] for other in similar]


def test_a_playlist_is_picked_made_and_exported(opened, address):
    page = opened("#library")
    for place in (2, 0):
        page.locator("table.rows tbody tr").nth(place).get_by_role(
            "button", name=re.compile("in the playlist$")
        ).click()
    picked = [names(page)[place] for place in (2, 0)]
    page.get_by_role("button", name="Playlist 2").click()
    titles = page.locator(".playlist .rows .title")
    assert titles.all_text_contents() == picked
    page.locator(".playlist").get_by_role("button", name=re.compile("down$")).first.click()
    assert titles.all_text_contents() == picked[::-1]
    page.get_by_label("Minutes").fill("20")
    page.get_by_role("button", name="Journey from first to last").click()
    expect(titles).not_to_have_count(2)
    journey = titles.all_text_contents()
    assert (journey[0], journey[-1]) == tuple(picked[::-1])
    page.reload()  # the playlist is kept
    page.get_by_role("button", name=f"Playlist {len(journey)}").click()
    page.get_by_role("combobox", name="Moods and themes").select_option("calm")
    page.get_by_role("combobox", name="Without").select_option("dark")
    with page.expect_response("**/v1/playlists") as answer:
        page.get_by_role("button", name="Make a playlist").click()
    made = [row["title"] for row in answer.value.json()["tracks"]]
    expect(titles).to_have_text(made)
    page.get_by_role("button", name="Undo").click()
    expect(titles).to_have_text(journey)
    page.get_by_role("button", name="Undo").click()
    expect(titles).to_have_text(made)
    page.get_by_role("combobox", name="Energy").select_option("rising")
    with page.expect_response("**/v1/playlists") as answer:
        page.get_by_role("button", name="Make a playlist").click()
    rising = [row["title"] for row in answer.value.json()["tracks"]]
    expect(titles).to_have_text(rising)
    assert sorted(rising) == sorted(made)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export M3U8").click()
    lines = Path(download.value.path()).read_text("utf-8").splitlines()
    paths = {row["title"]: row["path"] for row in get(address, "v1/tracks?limit=100")["tracks"]}
    assert lines[0] == "#EXTM3U"
    assert [line for line in lines if not line.startswith("#")] == [
        paths[title] for title in titles.all_text_contents()
    ]


def test_an_empty_library_is_filled(opened, tmp_path):
    music = tmp_path / "music"
    music.mkdir()
    for seed in range(3):
        (music / f"{seed}.wav").write_bytes(audio(seed=seed))
    (music / "broken.mp3").write_bytes(b"nothing")
    with serving(tmp_path / "library.db") as base:
        page = opened("#library", base=base, expected=(422,))
        expect(page.get_by_role("heading", level=1)).to_have_text("Your library is empty")
        page.get_by_label("Folder").fill(str(tmp_path / "no folder"))
        page.get_by_role("button", name="Scan the folder").click()
        expect(page.get_by_role("alert").first).to_contain_text("is not a folder")
        page.get_by_label("Folder").fill(str(music))
        page.get_by_role("button", name="Scan the folder").click()
        expect(page.get_by_role("progressbar")).to_be_visible()
        expect(page.get_by_text("The scan is done", exact=True)).to_be_visible()
        expect(page.locator("table.rows tbody tr")).to_have_count(3)
        page.get_by_text("1 file could not be tagged").click()
        expect(page.locator(".errors")).to_contain_text("broken.mp3")
        page.close()


def test_a_scan_is_cancelled(opened, tmp_path):
    music = tmp_path / "music"
    music.mkdir()
    for seed in range(40):
        (music / f"{seed}.wav").write_bytes(audio(30, seed=seed))
    with serving(tmp_path / "library.db") as base:
        page = opened("#library", base=base, viewport={"width": 360, "height": 800})
        page.get_by_label("Folder").fill(str(music))
        page.get_by_role("button", name="Scan the folder").click()
        expect(page.get_by_text("a second")).to_be_visible()
        check(page, 360)
        page.get_by_role("region", name="Scan").get_by_role("button", name="Cancel").click()
        expect(page.get_by_text("The scan was cancelled", exact=True)).to_be_visible()
        assert get(base, "v1/scans")["scans"][0]["state"] == "cancelled"
        page.close()  # before the service


def test_a_scan_that_the_server_forgot_has_failed(opened):
    page = opened(expected=(404, 500, 503))
    running = {
        "id": 7, "state": "running", "done": 1, "total": 9, "unchanged": 0, "failed": 0, "rate": 1.0, "seconds_left": 8,
        "current": None, "errors": [], "error": None,
    }  # fmt: skip
    answers = iter([(200, running), (503, {"detail": "busy"})])
    page.route("**/v1/scans", lambda route: route.fulfill(json={"scans": [running]}))

    def answer(route: Any) -> None:
        if route.request.method == "DELETE":
            return route.fulfill(status=500, json={"detail": "no cancelling"})
        status, body = next(answers, (404, {"detail": "there is no scan 7"}))
        return route.fulfill(status=status, json=body)

    page.route("**/v1/scans/7", answer)
    page.get_by_role("link", name="Library").click()
    scan = page.get_by_role("region", name="Scan")
    scan.get_by_role("button", name="Cancel").click()
    expect(scan.get_by_role("alert")).to_have_text("no cancelling")
    expect(scan.get_by_role("alert")).to_have_text("there is no scan 7")
    expect(scan.get_by_text("The scan has failed", exact=True)).to_be_visible()


# ---------------------------------------------------------------- sources


def test_colours_are_those_of_reports():
    source = (WEB / "src" / "colours.ts").read_text("utf-8")
    families = {int(hue): words for hue, words in re.findall(r'^  (\d+): "([^"]+)",$', source, flags=re.MULTILINE)}
    assert families == dict(text.FAMILIES)
    page, report = (
        [
            dict(re.findall(r"(--[\w-]+): ([^;]+);", block))
            for block in re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)
        ]
        for css in ((WEB / "src" / "style.css").read_text("utf-8"), (REPORT / "page.css").read_text("utf-8"))
    )
    assert len(report) == 2  # light and dark
    for ours, theirs in zip(page, report, strict=True):
        assert theirs.items() <= ours.items()


@pytest.mark.slow
def test_the_built_page_is_that_of_its_sources(tmp_path):
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    folder = tmp_path / "web"
    shutil.copytree(WEB, folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True)
    subprocess.run(["npm", "run", "check"], cwd=folder, check=True, capture_output=True)
    build = ["npm", "run", "build", "--", "--outDir", str(tmp_path / "static")]
    subprocess.run(build, cwd=folder, check=True, capture_output=True)
    built, committed = (
        {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "static", STATIC)
    )
    assert built == committed
