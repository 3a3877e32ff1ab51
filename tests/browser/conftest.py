"""A headless Chromium for a module, and pages in it that must neither complain nor ask the network for anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    *("--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")  # its driver keeps an event loop running in this thread, which no other test may meet
def chromium() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("there is no Chromium; on Debian install it with: apt-get install chromium")
    sandbox = [] if getattr(os, "geteuid", lambda: 1)() else ["--no-sandbox"]  # Chromium's refuses to be root's
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*QUIET, *sandbox])
        yield browser
        browser.close()


@pytest.fixture
def show(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page of a folder; at the end no page may have complained, or asked for anything but itself."""
    opened: list[Page] = []
    complaints: list[str] = []
    asked: list[str] = []
    own: set[str] = set()

    def show(folder: Path, *, name: str = "report.html", fragment: str = "", **context: object) -> Page:
        page = chromium.new_context(**context).new_page()
        opened.append(page)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        address = (folder / name).resolve().as_uri()
        page.on("request", lambda request: asked.append(request.url))
        own.add(address)
        page.goto(address + fragment)
        page.wait_for_selector("#filters:not([hidden])")
        return page

    yield show
    for page in opened:
        page.context.close()
    assert complaints == []
    assert [url for url in asked if url.partition("#")[0] not in own and not url.startswith("data:")] == []
