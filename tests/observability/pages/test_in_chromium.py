"""The pages as people have them: in a real browser, with a real relay behind them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest

from relay.administration import budgets
from relay.store import schema
from tests.fakes.admin_world import OPERATOR
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.properties import IS_FULL
from tests.fakes.relay_under_test import eventually
from tests.observability.pages.browser import THEMES, WIDTHS, Tab, chromium, tab
from tests.observability.pages.lab import (
    DEAD,
    PAGE,
    document,
    governed_relay,
    open_relay,
    traffic,
)
from tests.observability.pages.scenes import policies_document, policies_traffic, spent_relay

axe = pytest.importorskip("axe_playwright_python.async_playwright", reason="axe is not installed")

pytestmark = [pytest.mark.sockets, pytest.mark.timeout(120)]

LOOKS = (
    [(theme, width) for theme in THEMES for width in WIDTHS]
    if IS_FULL
    else [("light", 1280), ("dark", 390)]
)
"""Each takes seconds."""
HOSTILE = "<img src=x onerror=alert(1)>\u202e<script>window.owned=1</script>"


async def accessible(shown: Tab) -> None:
    """No serious or critical fault, by axe-core."""
    found = await axe.Axe().run(shown.page)
    faults = [
        f"{one['id']} ({one['impact']}): {[node['html'][:120] for node in one['nodes'][:3]]}"
        for one in found.response["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    assert not faults, "\n".join(faults)


async def test_both_themes_and_widths_are_accessible_and_fit(emulator: EmulatorProcess) -> None:
    dead = {
        "candidates": [{"provider": "north", "model": f"{DEAD}:seed=9201"}],
        "fallbacks": [{"provider": "south", "model": "emu:ttft=20,itl=4,tokens=12,seed=9201"}],
    }
    async with open_relay(document(emulator, 9201, support=dead)) as (relay, admin):
        await traffic(relay, "voice", 9)  # enough to be told of, with its long name
        await traffic(relay, "support", 8)
        async with chromium() as browser:
            for theme in THEMES:
                for width in WIDTHS:
                    async with tab(browser, width=width, theme=theme) as shown:
                        await shown.page.goto(f"{admin.base_url}/dashboard")
                        await shown.page.wait_for_selector(".card .uplot")
                        assert "is slow" in await shown.page.inner_text("#headline")
                        await shown.page.locator("#recent button.line").first.click()
                        await shown.page.wait_for_selector(".detail .waterfall")
                        await accessible(shown)
                        assert await shown.wide() <= width
                        await shown.page.goto(f"{admin.base_url}/dashboard/playground")
                        await shown.page.wait_for_selector("#model option", state="attached")
                        if (theme, width) in (("light", 1280), ("dark", 390)) or IS_FULL:
                            await accessible(shown)
                        assert await shown.wide() <= width
                        own = str(admin.base_url)
                        assert all(one.startswith(own) for one in shown.asked)
                        assert not shown.faults


async def test_what_policies_caches_and_guardrails_decided(emulator: EmulatorProcess) -> None:
    async with open_relay(policies_document(emulator, 9210)) as (relay, admin):
        await policies_traffic(relay)
        async with chromium() as browser:
            for theme, width in LOOKS:
                async with tab(browser, width=width, theme=theme) as shown:
                    page = shown.page
                    await page.goto(f"{admin.base_url}/dashboard")
                    await page.wait_for_selector("#policies table")
                    await page.locator("#recent button.line").first.click()
                    told = await page.inner_text(".detail .waterfall")
                    assert "Cascade help: escalated (refusal)" in told
                    assert "small, primary" in told
                    assert "large, primary" in told
                    await accessible(shown)
                    assert await shown.wide() <= width
                    assert not shown.faults
            async with tab(browser) as shown:
                await _policies_are_told(shown, str(admin.base_url))


async def _policies_are_told(shown: Tab, url: str) -> None:
    page = shown.page
    await page.goto(f"{url}/dashboard")
    await page.wait_for_selector("#policies table")
    parts = await page.locator("#policies > article").all_inner_texts()
    titles = [part.split("\n")[0] for part in parts]
    assert titles == [
        "Experiment voice-ab",
        "Cascade help",
        "Rule batch-is-cheap",
        "Caches of faq",
        "Guardrail no-addresses",
    ]
    experiment, cascade, _, cache, guardrail = parts
    assert "24 generations; first tokens of candidate take" in experiment
    assert await page.locator("#policies td[data-level=warn]").count() == 1
    assert "8 generations" in cascade
    assert "9 generations; 67 % answered without a provider" in cache
    assert "saved" in cache
    assert "redacted in what was asked" in guardrail
    fates = await page.locator("#recent .fate").all_inner_texts()
    assert {"escalated", "small", "redacted", "by a rule", "from the cache"} <= set(fates)
    # A cascade is a name that is asked for, as an alias is.
    assert "(named directly)" not in await page.inner_text("#race")
    await page.select_option("#filter", "decided")
    assert await page.locator("#recent button.line:has-text('faq')").count() == 9


async def test_whose_budget_is_used_up_is_said_first(
    emulator: EmulatorProcess, tmp_path: Path
) -> None:
    async with spent_relay(tmp_path, emulator, 9211) as (world, _), chromium() as browser:
        for theme, width in LOOKS:
            async with tab(browser, width=width, theme=theme) as shown:
                page = shown.page
                await page.goto(f"{world.admin.base_url}/dashboard")
                await page.fill("#token", world.tokens["viewer"])
                await page.keyboard.press("Enter")
                await page.wait_for_selector("#headline[data-level=bad]")
                words = await page.inner_text("#headline .first")
                assert words.startswith("team support's budget of $0.020 a day is used up: ")
                assert "requests were refused in the last minute" in words
                assert await page.locator("#headline li").count() == 0  # and nothing else
                above = await page.locator("#headline").bounding_box()
                assert above is not None
                assert above["y"] + above["height"] < 300
                first = page.locator("#budgets li").first
                assert await first.get_attribute("data-level") == "bad"
                assert "support" in await first.inner_text()
                await page.locator("#recent button.line").first.click()
                assert "team support" in await page.inner_text(".detail .facts")
                await accessible(shown)
                assert await shown.wide() <= width
                assert not shown.faults


async def test_who_is_slow_and_what_the_hedges_won(emulator: EmulatorProcess) -> None:
    async with (
        open_relay(document(emulator, 9202)) as (relay, admin),
        chromium() as browser,
        tab(browser) as shown,
    ):
        page = shown.page
        await page.goto(f"{admin.base_url}/dashboard")
        await page.wait_for_selector("#headline[data-level=well]")
        assert "nobody asks" in await page.inner_text("#headline")
        assert "No generation has ended yet" in await page.inner_text("#recent")
        assert "No target was asked yet" in await page.inner_text("#targets")
        await traffic(relay, "voice", 9)
        await page.wait_for_selector("#headline[data-level=warn]")
        words = await page.inner_text("#headline .first")
        assert words.startswith("north/")
        assert "is slow: it loses 9 of 9 races to its hedges" in words
        assert "9 hedges sent, 9 won" in await page.inner_text("#race")
        chips = await page.locator(".card .chip").all_inner_texts()
        assert sorted(chips) == ["slow", "well"]
        # By keyboard alone: the first generation opens, and its race is told in words.
        first = page.locator("#recent button.line").first
        await first.focus()
        await page.keyboard.press("Enter")
        assert await first.get_attribute("aria-expanded") == "true"
        told = await page.inner_text(".detail .waterfall")
        assert "lost, reset at" in told
        assert "won, started at" in told
        # What comes meanwhile takes nobody's focus, and closes nothing.
        await traffic(relay, "chat", 1)
        await page.wait_for_selector("#recent button.line:has-text('chat')")
        assert await page.locator(".detail .waterfall").count() == 1
        assert await page.evaluate("document.activeElement.className") == "line"
        await page.select_option("#filter", "raced")
        assert await page.locator("#recent button.line:has-text('chat')").count() == 0
        assert not shown.faults


async def test_hostile_names_stay_text(emulator: EmulatorProcess, tmp_path: Path) -> None:
    """Names of aliases are of few letters; those of models, keys and budgets are anybody's."""
    async with (
        governed_relay(tmp_path, document(emulator, 9203)) as world,
        chromium() as browser,
        tab(browser, width=390) as shown,
    ):
        page, key = shown.page, await world.keyed.key("key_1")
        world.keyed.desk.change(schema.keys, "key_1", name=HOSTILE)
        await traffic(world.relay, f"south/{HOSTILE}", 1, key)
        budgets.create_budget(world.desk, OPERATOR, "key", "key_1", period="day", limit_micro=9)
        await page.goto(f"{world.admin.base_url}/dashboard")
        await page.fill("#token", world.tokens["owner"])
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#budgets li")
        await page.locator("#recent button.line").first.click()
        for part in ("#targets", "#race", "#budgets", "#recent", ".facts"):
            assert HOSTILE in (await page.text_content(part) or ""), part
        assert await page.locator("main img, main script").count() == 0
        assert await shown.wide() <= 390
        await page.click("nav a[href='/dashboard/playground']")
        await page.wait_for_selector("#key option", state="attached")
        assert HOSTILE in (await page.text_content("#key") or "")
        await page.fill("#prompt", HOSTILE)
        await page.click("#ask")
        await page.wait_for_selector("#answer .fault, #answer p")
        assert await page.evaluate("window.owned") is None
        assert not shown.faults


async def test_the_playground_by_keyboard_and_its_stop(emulator: EmulatorProcess) -> None:
    model = "emu:ttft=50,itl=20,tokens=600,seed=9204"
    alias = {"candidates": [{"provider": "south", "model": model}]}
    doc = document(emulator, 9204, long=alias)
    async with open_relay(doc) as (relay, admin), chromium() as browser, tab(browser) as shown:
        page = shown.page
        await page.goto(f"{admin.base_url}/dashboard/playground")
        await page.wait_for_selector("#model option", state="attached")
        await page.select_option("#model", "voice")
        await page.fill("#prompt", "When do you open?")
        await page.keyboard.press("Control+Enter")
        await page.wait_for_selector("#status:has-text('answered')")
        assert len(await page.inner_text("#answer")) > 20
        race = await page.inner_text("#race")
        assert "lost, reset at" in race
        assert "provider thinks" in race
        assert "sent, and it won" in race
        await page.select_option("#model", "long")
        await page.keyboard.press("Control+Enter")
        await page.wait_for_selector("#status:has-text('answers')")
        await page.keyboard.press("Escape")
        await page.wait_for_selector("#status:has-text('Stopped')")
        await eventually(lambda: not len(relay.worker.services.live))
        await asyncio.to_thread(emulator.wait_for_streams, model, "abandoned")
        assert not shown.faults


async def test_a_relay_that_goes_away_is_told_of_and_comes_back(
    emulator: EmulatorProcess,
) -> None:
    doc = document(emulator, 9205)
    async with chromium() as browser, tab(browser) as shown:
        page = shown.page
        async with open_relay(doc) as (relay, admin):
            port = relay.worker.admin_port
            await traffic(relay, "chat", 1)
            await page.goto(f"{admin.base_url}/dashboard")
            await page.wait_for_selector("#main[data-state=live]")
        await page.wait_for_selector("#main[data-state=lost]")
        assert "What is below is of" in await page.inner_text("#notice")
        assert await page.locator(".card").count() == 1  # what was known stays in sight
        doc["server"] = {"admin": {"address": f"127.0.0.1:{port}"}}
        async with open_relay(doc):
            await page.wait_for_selector("#main[data-state=live]")
            assert not await page.is_visible("#notice")


async def test_a_token_is_asked_for_and_a_role_that_may_not_is_told(
    emulator: EmulatorProcess, tmp_path: Path
) -> None:
    async with (
        governed_relay(tmp_path, document(emulator, 9206)) as world,
        chromium() as browser,
        tab(browser) as shown,
    ):
        page = shown.page
        await world.keyed.key("key_1")
        budget = budgets.create_budget(
            world.desk, OPERATOR, "key", "key_1", period="day", limit_micro=1_000_000
        )
        assert budget["id"]
        await page.goto(f"{world.admin.base_url}/dashboard")
        await page.wait_for_selector("dialog[open]")
        await accessible(shown)
        await page.fill("#token", "rta_wrong")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("dialog [role=alert]")
        await page.fill("#token", world.tokens["billing"])
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#notice:has-text('may not see the dashboard')")
        await page.click("#leave")
        await page.fill("#token", world.tokens["viewer"])
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#main[data-state=live]")
        await page.wait_for_selector("#budgets li")
        assert "key key_1" in await page.inner_text("#budgets")
        assert "rta_" not in await page.content()
        kept = await page.evaluate("[document.cookie, localStorage.length, sessionStorage.length]")
        assert kept == ["", 0, 1]
        await page.click("nav a[href='/dashboard/playground']")
        await page.wait_for_selector("#notice:has-text('may not ask here')")
        assert await page.is_disabled("#ask")
        await page.click("#leave")
        await page.fill("#token", world.tokens["owner"])
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#key option", state="attached")
        await page.fill("#prompt", "Hello")
        await page.click("#ask")
        await page.wait_for_selector("#status:has-text('answered'), #answer .fault")
        assert not shown.faults


async def test_the_theme_is_kept(emulator: EmulatorProcess) -> None:
    async with (
        open_relay(document(emulator, 9207)) as (_, admin),
        chromium() as browser,
        tab(browser, theme="light") as shown,
    ):
        page = shown.page
        await page.goto(f"{admin.base_url}/dashboard")
        colour = "getComputedStyle(document.documentElement).backgroundColor"
        light = await page.evaluate(colour)
        await page.click("#theme")
        assert await page.inner_text("#theme") == "Theme: dark"
        dark = await page.evaluate(colour)
        assert dark != light
        await page.goto(f"{admin.base_url}/dashboard/playground")
        assert await page.evaluate(colour) == dark


async def test_another_site_can_neither_read_nor_spend(emulator: EmulatorProcess) -> None:
    async with (
        open_relay(document(emulator, 9208)) as (relay, admin),
        open_relay(document(emulator, 9209)) as (_, other),
        chromium() as browser,
        tab(browser) as shown,
    ):
        await shown.page.goto(f"{other.base_url}/healthz")  # a page of another origin
        tried = await shown.page.evaluate(
            """async ([url, headers, body]) => {
                const tries = [
                    fetch(url + "/dashboard/api/picture"),
                    fetch(url + "/dashboard/api/play", {method: "POST", headers, body}),
                    fetch(url + "/dashboard/api/play", {method: "POST", body}),
                ];
                return (await Promise.allSettled(tries)).map((one) => one.status);
            }""",
            [
                str(admin.base_url),
                PAGE | {"content-type": "application/json"},
                # One that is answered where the page is ours.
                orjson.dumps({"model": "chat", "prompt": "When do you open?"}).decode(),
            ],
        )
        assert tried == ["rejected"] * 3
        assert not len(relay.worker.services.live)
        assert not relay.worker.services.planner.states.to_dict(0.0)
