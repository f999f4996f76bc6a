"""Takes the dashboard's pictures again: `python -m tests.observability.pages.pictures [FOLDER]`.

It needs Debian's Chromium (see `browser`). What is shown comes from the emulator, so that figures
differ a little from one time to the next; look at each picture before it is committed.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.fakes.emulator_process import EmulatorProcess
from tests.observability.pages.browser import Tab, chromium, tab
from tests.observability.pages.lab import open_relay
from tests.observability.pages.scenes import policies_document, policies_traffic, spent_relay

FOLDER: Final = Path(__file__).resolve().parents[3] / "docs" / "pictures"
MAX_BYTES: Final = 150 * 1024


async def _opened(shown: Tab, url: str, token: str = "") -> Any:
    page = shown.page
    await page.goto(f"{url}/dashboard")
    if token:
        await page.fill("#token", token)
        await page.keyboard.press("Enter")
    await page.wait_for_selector("#main[data-state=live]")
    await page.wait_for_selector(".card .uplot")
    await asyncio.sleep(0.5)  # charts are drawn in the next frames
    return page


async def take(folder: Path) -> None:
    """All of them, 1280 pixels wide."""
    with EmulatorProcess() as emulator, tempfile.TemporaryDirectory() as kept:
        async with chromium() as browser:
            async with open_relay(policies_document(emulator, 0)) as (relay, admin):
                await policies_traffic(relay)
                async with tab(browser, theme="dark") as shown:
                    page = await _opened(shown, str(admin.base_url))
                    section = page.locator("section:has(> #policies)")
                    await section.screenshot(path=folder / "dashboard-policies.png")
                async with tab(browser, theme="light") as shown:
                    page = await _opened(shown, str(admin.base_url))
                    await page.locator("#recent button.line").first.click()
                    await page.mouse.move(0, 0)
                    section = page.locator("#recent .row-block").first
                    await section.screenshot(path=folder / "dashboard-decision.png")
            async with (
                spent_relay(Path(kept), emulator, 0) as (world, _),
                tab(browser, theme="light") as shown,
            ):
                url, token = str(world.admin.base_url), world.tokens["viewer"]
                page = await _opened(shown, url, token)
                await page.wait_for_selector("#headline[data-level=bad]")
                part = {"x": 0, "y": 0, "width": 1280, "height": 620}
                await page.screenshot(path=folder / "dashboard-budget.png", clip=part)
    for path in sorted(folder.glob("dashboard-*.png")):
        size = path.stat().st_size
        print(f"{path}: {size / 1024:.0f} KiB")
        if size > MAX_BYTES:
            raise SystemExit(f"{path} is over {MAX_BYTES // 1024} KiB")


if __name__ == "__main__":
    asyncio.run(take(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER))
