"""Debian's Chromium, headless, by Playwright; where there is none tests are skipped, and say so."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

playwright = pytest.importorskip("playwright.async_api", reason="Playwright is not installed")

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
WIDTHS: Final = (1280, 390)
THEMES: Final = ("light", "dark")


def executable() -> str:
    """Where the browser is; skips the test where there is none."""
    for name in NAMES:
        if (path := shutil.which(name)) is not None:
            return path
    pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")


class Tab:
    """A page, and what went wrong in it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.faults: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self._said(message.type, message.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def _said(self, kind: str, text: str) -> None:
        # Answers that are no 200 are told by the browser itself; the tests look at them.
        if kind in ("error", "warning") and "Failed to load resource" not in text:
            self.faults.append(text)

    async def wide(self) -> int:
        """How wide the page is; more than the window would have to be scrolled sideways."""
        width: int = await self.page.evaluate("document.documentElement.scrollWidth")
        return width


@asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    """A browser for one test."""
    path = executable()
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def tab(browser: Any, *, width: int = 1280, theme: str = "light") -> AsyncIterator[Tab]:
    """A page of its own, without anything that others kept."""
    context = await browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
    )
    try:
        page = await context.new_page()
        page.set_default_timeout(10_000)
        yield Tab(page)
    finally:
        await context.close()
