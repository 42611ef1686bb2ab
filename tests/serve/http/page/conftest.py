"""A real browser on the page of a real server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orrery.serve.lm import LM
from tests.serve.http.fake import FakeEngine

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]  # fmt: skip


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no Chromium at {CHROMIUM}; set CHROMIUM to where it is")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Any]:
    """(server, **context) -> its page; at the end: nothing on the console, no host but the server."""
    opened: list[tuple[Any, list[str]]] = []

    def show(server: Any, **context: Any) -> Any:
        page = chromium.new_context(**{"viewport": {"width": 1280, "height": 860}, **context}).new_page()
        page.set_default_timeout(30_000)
        faults: list[str] = []
        page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(server.url) else faults.append(r.url))
        opened.append((page, faults))
        page.faults = faults
        page.goto(server.url)
        page.locator(".welcome").wait_for()
        return page

    yield show
    for page, faults in opened:
        page.context.close()
        assert not faults


@pytest.fixture
def engine(chat_lm: LM) -> FakeEngine:
    """Paced and scripted."""
    return FakeEngine(chat_lm)


def say(page: Any, text: str) -> None:
    page.locator(".composer textarea").fill(text)
    page.keyboard.press("Enter")


def setting(page: Any, name: str, value: object) -> None:
    """Set one of the panel's fields, opening and closing the panel."""
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_label(name, exact=True).fill(str(value))
    page.get_by_label(name, exact=True).blur()
    page.keyboard.press("Escape")


def reply(page: Any) -> Any:
    """The last reply, complete."""
    page.get_by_label("Regenerate").last.wait_for()
    return page.locator("li.assistant").last
