"""Measure the page of `moodfield serve` in Chromium: size, time until it can be used, and frames with 100,000 tracks.

    python benchmarks/page.py [TRACKS]

Starts the service with an empty library on this machine, and opens its page in headless Chromium. Sizes are of all
files of the first view, as they are and compressed by gzip. The page can be used when its button is in the document
and the frame with it is drawn; the processor is throttled to a quarter. For the map, answers about the library are
replaced by synthetic ones. While it is panned, the time of all scripts of a frame is taken from a trace of Chromium.
Needs playwright and Chromium.
"""

import gzip
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, Route, sync_playwright

from moodfield import tags

TRACKS = 100_000
REPEATS = 9
THROTTLE = 4
FRAMES = 240
MOODS = [tag for tag in tags.MOODS_AND_THEMES if tag not in tags.THEMES]
REGIONS = 14
READY = """window.ready = new Promise((resolve) => {
    const look = () => {
        if (!document.querySelector('.zone button')) return requestAnimationFrame(look);
        return requestAnimationFrame(() => setTimeout(() => resolve(performance.now())));
    };
    look();
});"""
SCRIPTS = ("FunctionCall", "FireAnimationFrame", "EventDispatch", "TimerFire", "RunMicrotasks", "MinorGC", "MajorGC")
RENDERER = """() => {
    const gl = document.createElement('canvas').getContext('webgl2');
    return gl.getParameter(gl.getExtension('WEBGL_debug_renderer_info').UNMASKED_RENDERER_WEBGL);
}"""


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else TRACKS
    with serving() as address, sync_playwright() as tools:
        options = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = tools.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        size, compressed, requests = first_view(browser, address)
        times = [usable(browser, address) for _ in range(REPEATS)]
        frames, renderer = pan(browser, address, count)
        browser.close()
    p95 = float(np.percentile(frames, 95))
    print("## The page\n")
    print(
        f"Headless Chromium over loopback; first view: {requests} requests, {size / 1000:.0f} kB without compression.\n"
    )
    print("| measure | value | goal |\n|---|--:|--:|")
    print(f"| first view, compressed | {compressed / 1000:.0f} kB | 300 kB |")
    print(
        f"| usable, at {THROTTLE} × throttling, median (maximum) of {REPEATS} | "
        f"{statistics.median(times):.2f} ({max(times):.2f}) s | 1.5 s |"
    )
    print(f"| scripts in a frame while panning {count:,} tracks, median | {statistics.median(frames):.2f} ms | |")
    print(f"| the same, 95th percentile of {len(frames)} frames | {p95:.2f} ms | 8 ms |")
    print(f"\nRasteriser of the map: {renderer}.")


@contextmanager
def serving() -> Iterator[str]:
    """A context with the address of a service with an empty library."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "moodfield",
            "serve",
            "--port",
            "0",
            "--jobs",
            "1",
            "--db",
            f"{folder}/library.db",
        ]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr
        try:
            line = process.stderr.readline()
            match = re.search(r"http://[^/]*/", line)
            assert match, line
            yield match[0]
        finally:
            process.terminate()
            process.wait()


def first_view(browser: Browser, address: str) -> tuple[int, int, int]:
    """Bytes of the first view, and compressed by gzip; number of requests."""
    bodies: list[bytes] = []
    page = browser.new_page()
    page.on("requestfinished", lambda request: bodies.append(request.response().body()))
    page.goto(address, wait_until="networkidle")
    page.close()
    return sum(map(len, bodies)), sum(len(gzip.compress(body)) for body in bodies), len(bodies)


def usable(browser: Browser, address: str) -> float:
    """Seconds from the navigation until the button is drawn, with an empty cache and a slower processor."""
    context = browser.new_context()
    page = context.new_page()
    context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": THROTTLE})
    page.add_init_script(READY)
    page.goto(address)
    milliseconds = float(page.evaluate("window.ready"))
    context.close()
    return milliseconds / 1000


def pan(browser: Browser, address: str, count: int) -> tuple[list[float], str]:
    """Milliseconds of scripts in every frame while the map is panned, and what draws it."""
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    answers = {path: json.dumps(answer) for path, answer in library(count).items()}
    page.route(re.compile(r"/v1/(map|tracks)(\?|$)"), lambda route: answer(route, answers))
    page.goto(f"{address}#library")
    page.locator("table.rows tbody tr").first.wait_for()
    renderer = str(page.evaluate(RENDERER))
    for _ in range(3):
        page.get_by_role("button", name="Zoom in").click()
    return trace(browser, page), renderer


def answer(route: Route, answers: dict[str, str]) -> None:
    path = route.request.url.partition("?")[0].rpartition("/")[2]
    route.fulfill(body=answers[path], content_type="application/json")


def trace(browser: Browser, page: Page) -> list[float]:
    """Milliseconds of scripts in every frame while the map is dragged in a circle."""
    box = page.get_by_role("application").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    browser.start_tracing(page=page, categories=["devtools.timeline", "v8", "disabled-by-default-v8.gc"])
    for frame in range(FRAMES):
        angle = 2 * np.pi * frame / 60
        page.mouse.move(x + 120 * float(np.sin(angle)), y + 120 * float(1 - np.cos(angle)))
        page.wait_for_timeout(16)
    events = json.loads(browser.stop_tracing())["traceEvents"]
    page.mouse.up()
    return frame_times(events)


def frame_times(events: list[dict[str, Any]]) -> list[float]:
    """Milliseconds of scripts up to the end of every animation frame; events inside of others count once."""
    threads = [(one["pid"], one["tid"]) for one in events if one["name"] == "FireAnimationFrame"]
    main_thread = max(set(threads), key=threads.count)
    scripts = sorted(
        (
            one
            for one in events
            if one["name"] in SCRIPTS and one.get("dur") and (one["pid"], one["tid"]) == main_thread
        ),
        key=lambda one: (one["ts"], -one["dur"]),
    )
    frames, total, end = [], 0.0, 0.0
    for one in scripts:
        if one["ts"] >= end:
            total += one["dur"] / 1000
            end = one["ts"] + one["dur"]
            if one["name"] == "FireAnimationFrame":
                frames.append(total)
                total = 0.0
    return frames


def library(count: int) -> dict[str, Any]:
    """Answers about a library of so many tracks, by path."""
    drawn = np.random.default_rng(0)
    x, y = drawn.random((2, count)).round(4)
    numbers = (np.floor(x * 6) + 6 * np.floor(y * 6)).astype(int) % len(MOODS)
    places = drawn.uniform(0.1, 0.9, (REGIONS, 2)).round(3).tolist()
    regions = [{"tag": MOODS[number], "x": left, "y": top, "tracks": 10} for number, (left, top) in enumerate(places)]
    row = {
        "path": "/music/a.ogg", "title": "A title", "artist": "An artist", "album": "", "genre": "", "year": None,
        "duration": 200.0, "missing": None, "error": None, "model": "default", "decided": MOODS[:3], "themes": [],
    }  # fmt: skip
    return {
        "map": {
            "ids": list(range(1, count + 1)), "x": x.tolist(), "y": y.tolist(), "tag": numbers.tolist(), "tags": MOODS,
            "regions": regions,
        },
        "tracks": {"tracks": [row | {"id": number} for number in range(1, 51)], "total": count, "next": "50"},
    }  # fmt: skip


if __name__ == "__main__":
    main()
