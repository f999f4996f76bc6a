"""The page on budgets: its examples are run as they stand."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.config import parse
from relay.governance import bounds
from relay.governance.alerts import Crossing, payload
from relay.governance.webhook import sign

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = [page for page in (DOCS / "governance.md", DOCS / "budgets.md") if page.is_file()]
SECRET = b"canary-webhook-0123456789abcdefgh"


def page() -> str:
    found = [text for one in PAGES if "### Alerts" in (text := one.read_text())]
    assert found, "no page describes alerts"
    return found[0]


def blocks(language: str, word: str) -> list[str]:
    text = re.findall(rf"```{language}\n(.*?)```", page(), re.DOTALL)
    return [block for block in text if word in block]


@pytest.fixture
def is_from_the_relay() -> Any:
    names: dict[str, Any] = {}
    (code,) = blocks("python", "is_from_the_relay")
    exec(code, names)
    return names["is_from_the_relay"]


def test_receivers_check(is_from_the_relay: Any) -> None:
    now_s = int(time.time())
    good = sign(SECRET, b"{}", now_s)
    assert is_from_the_relay(SECRET, b"{}", good)
    assert not is_from_the_relay(SECRET, b"{ }", good)
    assert not is_from_the_relay(b"other", b"{}", good)
    assert not is_from_the_relay(SECRET, b"{}", sign(SECRET, b"{}", now_s - 400))
    assert not is_from_the_relay(SECRET, b"{}", "nonsense")


def test_configuration() -> None:
    (budgets,) = blocks("yaml", "budgets:")
    document = {"store": {"url": "sqlite:///x.db"}, **yaml.safe_load(budgets)}
    read = parse(document, {"RTRELAY_ALERT_SECRET": SECRET.decode()}).budgets
    assert read is not None
    assert read.alerts is not None
    (prices,) = blocks("yaml", "cache_write")
    document = yaml.safe_load(prices)
    document["providers"]["lab"] |= {"wire": "openai_chat", "base_url": "https://x.test/v1"}
    assert parse(document, {}).providers["lab"].prices["qwen3-32b"].cache_write == 0.36


def test_message_has_the_fields_that_are_sent() -> None:
    (text,) = blocks("json", "threshold_percent")
    shown = json.loads(text)
    budget = shown["budget"]
    crossing = Crossing(
        budget_id=budget["id"],
        scope=budget["scope"],
        scope_id=budget["scope_id"],
        organisation_id=budget["organisation_id"],
        period=budget["period"],
        time_zone=budget["time_zone"],
        limit_micro=budget["limit_micro"],
        is_hard=budget["is_hard"],
        period_start_s=int(shown["id"].split(":")[2]),
        spent_micro=shown["spent_micro"],
        reserved_micro=shown["reserved_micro"],
        percent=shown["threshold_percent"],
    )
    assert json.loads(payload(crossing, 1_774_792_991_000_000)) == shown


def test_bounds_are_those_of_the_code() -> None:
    table = page().partition("| part | tokens at most |")[2].partition("\n\n")[0]
    for number in (
        bounds.IMAGE_TOKENS,
        bounds.DEAR_IMAGE_TOKENS,
        bounds.UNSEEN_TOKENS,
        bounds.PROVIDER_TOOL_TOKENS,
        bounds.FILE_TOKENS,
    ):
        assert f"{number:,}" in table
    assert f"{bounds.MESSAGE_TOKENS} / {bounds.TOOL_TOKENS} / {bounds.REQUEST_TOKENS} more" in table
    assert f"one every {bounds.BYTES_PER_AUDIO_TOKEN} bytes, and {bounds.AUDIO_TOKENS}" in table
