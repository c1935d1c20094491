"""Debian's Chromium for tests of pages; without it, or without Playwright, they are skipped."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

SOFTWARE = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
"""options for WebGL without a GPU"""


@contextmanager
def chromium(*options: str) -> Iterator[Any]:
    """A context with a browser."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no browser: apt-get install chromium")
    sync = pytest.importorskip("playwright.sync_api")
    with sync.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=path, args=["--no-sandbox", *options])
        yield browser
        browser.close()
