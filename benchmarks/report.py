"""Measure reports of few and of very many tracks: size, time to write, and use in Chromium.

    python benchmarks/report.py [TRACKS...]

Writes reports of 10, 1,000 and 10,000 synthetic tracks, opens them from a file in headless Chromium without a GPU, and
prints a Markdown table. Loading ends when the table has rows; the other times are from an event to the frame after it.
Memory is the increase of the peak of this process while the report is written. Needs playwright and Chromium.
"""

import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

from moodfield import calibration, tags
from moodfield.decisions import Usual
from moodfield.report import page, track, track_map
from moodfield.report.track import Reference, Track

COUNTS = (10, 1_000, 10_000)
REPEATS = 5
TIMED = """async () => {
  const start = performance.now();
  ACTION;
  await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  return performance.now() - start;
}"""
ACTIONS = {
    "search": """const field = document.querySelector('#find input');
        field.value = 'song 7'; field.dispatchEvent(new Event('input'))""",
    "sort": "document.querySelector('.contents th button').click()",
    "next page": "document.querySelector('.pager button:nth-last-child(2)')?.click()",
    "open": "document.querySelector('.contents tbody :is(a, button)').click()",
}


def main() -> None:
    counts = [int(word) for word in sys.argv[1:]] or COUNTS
    rows = [_measure(count) for count in counts]
    print("## Reports of many tracks\n")
    print(f"Medians of {REPEATS} in Chromium; goals for 10,000 tracks: at most 15 MB, loaded within 2 s.\n")
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join(row.values()) + " |")
    print("\nPositions of 2,000 points on a map with 54 cells; *curve* has two uncorrelated, dependent components.\n")
    print(
        "| points | positions | empty cells | fullest cell / mean | of 10 nearest points kept |\n|---|---|---|---|---|"
    )
    for row in _positions():
        print("| " + " | ".join(row) + " |")


def reference() -> Reference:
    """The 56 tags with normally distributed logits."""
    usual = Usual(np.linspace(-4, -1, 56), np.linspace(0.6, 1.4, 56))
    thresholds = calibration.sigmoid(usual.cuts)
    return Reference("synthetic", tags.MOODS_AND_THEMES, tuple(tags.THEMES), thresholds, usual.scores, usual)


def tracks(count: int, shared: Reference) -> Iterator[Track]:
    """Tracks with eight latent dimensions, whose scores wander over time."""
    assert shared.statistics
    generator = np.random.default_rng(0)
    weights, detail = generator.normal(size=(8, 56)) / 3, track.detail_of(count)
    for number in range(count):
        own = shared.statistics.mean + shared.statistics.std * (generator.normal(size=8) @ weights)
        logits = own[:, None] + np.cumsum(generator.normal(0, 0.2, size=(56, detail.steps)), axis=1)
        scores = calibration.sigmoid(logits).astype(np.float32)
        yield Track(
            f"/music/Artist {number // 100}/Album {number // 10}/{number % 10:02} A song {number}.flac",
            float(generator.uniform(60, 400)),
            scores.mean(axis=1),
            shared.statistics.evidence(calibration.logit(scores.mean(axis=1))),
            shared.statistics.decide(calibration.logit(scores.mean(axis=1))),
            scores,
            generator.uniform(size=detail.levels),
        )


def _positions() -> Iterator[tuple[str, ...]]:
    """How evenly the principal components, their ranks, and the optimal transport of the map spread points."""
    generator, size = np.random.default_rng(0), np.array([1.44, 0.94])
    x, y = generator.normal(size=(2, 2_000))
    for name, points in {"normal": np.stack([x, y], axis=1), "curve": np.stack([x, x**2 + 0.3 * y], axis=1)}.items():
        ranks = points.argsort(axis=0).argsort(axis=0) / len(points)
        near = _nearest(points)
        forms = {
            "components": (points - points.min(axis=0)) / np.ptp(points, axis=0) - 0.5,
            "ranks": ranks - 0.5,
            "transport": track_map._transport(points, size) / size,
        }
        for form, places in forms.items():
            cells, _, _ = np.histogram2d(*places.T, bins=(9, 6), range=((-0.5, 0.5), (-0.5, 0.5)))
            kept = np.mean(
                [len(set(one) & set(other)) for one, other in zip(near, _nearest(places * size), strict=True)]
            )
            yield name, form, str((cells == 0).sum()), f"{cells.max() / cells.mean():.1f}", f"{kept:.1f}"


def _nearest(points: np.ndarray) -> np.ndarray:
    """Indices of the ten points that are nearest to each."""
    return np.linalg.norm(points[:, None] - points, axis=2).argsort(axis=1)[:, 1:11]


def _measure(count: int) -> dict[str, str]:
    shared = reference()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        before, start = _peak(), time.perf_counter()
        page.write(path, tracks(count, shared), shared)
        seconds, memory = time.perf_counter() - start, _peak() - before
        size = path.stat().st_size
        used = _use(path)
    return {
        "tracks": f"{count:,}",
        "write s": f"{seconds:.1f}",
        "memory, MB": f"{memory / 1e6:.0f}",
        "MB": f"{size / 1e6:.2f}",
        "kB per track": f"{size / count / 1e3:.2f}",
        **used,
    }


def _use(path: Path) -> dict[str, str]:
    """Open a report several times: elements, and times of loading it and of actions."""
    with sync_playwright() as tools:
        options = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox", "--disable-gpu"]}
        browser = tools.chromium.launch(**options)
        times: dict[str, list[float]] = {"load s": []} | {f"{name}, ms": [] for name in ACTIONS}
        for _ in range(REPEATS):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            start = time.perf_counter()
            tab.goto(path.as_uri(), wait_until="commit")
            tab.wait_for_selector(".contents tbody tr")
            times["load s"].append(time.perf_counter() - start)
            elements = tab.evaluate("document.querySelectorAll('*').length")
            for name, action in ACTIONS.items():
                times[f"{name}, ms"].append(_timed(tab, action))
            tab.close()
        browser.close()
    return {"elements": f"{elements:,}"} | {
        name: f"{np.median(values):.2f}" if name.endswith(" s") else f"{np.median(values):.0f}"
        for name, values in times.items()
    }


def _timed(tab: Page, action: str) -> Any:
    return tab.evaluate(TIMED.replace("ACTION", action))


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
