"""docs/hedging.md: its configurations are taken, and its example with the emulator works."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from relay.config import parse
from relay.config_warnings import warnings
from relay.frontends.request_policy import read_policy
from relay.resilience.hedge_budget import CAP_REQUESTS, MIN_HARD_COUNT, HedgeBudget
from relay.resilience.latency import PRIOR_ENDS, PRIOR_SAMPLES
from relay.whatif.draws import MIN_SAMPLES
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.relay_under_test import chat_body, relay_under_test

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "hedging.md").read_text(encoding="utf-8")
BLOCKS: list[dict[str, Any]] = [
    yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
]
EXAMPLE = BLOCKS[-1]


def named(document: dict[str, Any]) -> Iterator[str]:
    for alias in document.get("models", {}).values():
        yield from (candidate["provider"] for candidate in alias["candidates"])


@pytest.mark.parametrize("document", BLOCKS[:-1], ids=lambda document: "+".join(document))
def test_settings_are_taken(document: dict[str, Any]) -> None:
    known = {name: {"api_key": "${KEY}"} for name in named(document)}
    parse({"providers": known, **document}, {"KEY": "k"})


def test_the_example_is_taken_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "ca.pem").write_text("")
    for mode in ("shadow", "active"):
        document = yaml.safe_load(yaml.safe_dump(EXAMPLE))
        document["models"]["fast"]["hedge"]["mode"] = mode
        assert warnings(parse(document, {}, folder=tmp_path)) == []


@pytest.mark.sockets
async def test_the_example_is_hedged_in_shadow_mode(emulator: EmulatorProcess) -> None:
    document = yaml.safe_load(yaml.safe_dump(EXAMPLE))
    for row in document["providers"].values():
        row |= {"base_url": f"{emulator.base_url_tls}/v1", "ca_file": emulator.ca_file}
    async with relay_under_test(document) as relay:
        body = {**chat_body("fast"), "stream": False, "max_tokens": 1}
        by_name = {**body, "model": "beta/emu-steady"}
        answers = await asyncio.gather(*(relay.chat(each) for each in [body] * 5 + [by_name] * 5))
        assert {answer.status_code for answer in answers} == {200}
        await relay.settled()
        async with relay.admin() as admin:
            state = orjson.loads((await admin.get("/admin/state")).content)
    fast = state["hedging"]["aliases"]["fast"]
    assert (fast["requests"], fast["fired"], fast["by_reason"]) == (5, 0, {"default": 5})
    assert fast["credit_usd"] > 0
    samples = {name: row["samples"] for name, row in state["targets"].items()}
    assert samples == {"alpha/emu-tail": 5, "beta/emu-steady": 5}
    shown = {key for row in state["targets"].values() for key in (*row, *row["breaker"])}
    assert {key for key in shown if f"`{key}`" not in PAGE} == set()


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        (r"credit for (\d+) hedges", CAP_REQUESTS / 2),
        (r"money for (\d+) mean requests", CAP_REQUESTS / 2),
        (r"at least (\d+) hedges\s+are allowed", MIN_HARD_COUNT),
        (r"capped at (\d+)\s+hedges", CAP_REQUESTS),
        (r"at least (\d+) requests by its own name", MIN_SAMPLES),
        (r"first target has (\d+) samples", PRIOR_SAMPLES),
        (r"enough \((\d+)\)", PRIOR_SAMPLES),
        (r"up to (\d+) the delay", PRIOR_ENDS),
        (r"`hedge.default_delay_ms` \((\d+)\)", 2000),
    ],
)
def test_figures_are_those_of_the_code(sentence: str, value: float) -> None:
    found = re.search(sentence, PAGE)
    assert found is not None
    assert float(found[1]) == value


def test_a_new_budget_is_as_said() -> None:
    assert HedgeBudget(0.05, 0.20).credit == 10.0


@pytest.mark.parametrize("value", ["auto", "off", "race", "250"])
def test_words_of_a_request_are_taken(value: str) -> None:
    words = {"hedge": value, "commit_on": "first_segment"}
    headers = [
        (f"x-relay-{name.replace('_', '-')}".encode(), word.encode())
        for name, word in words.items()
    ]
    assert read_policy({"headers": headers}, {}) == read_policy({"headers": []}, {"relay": words})
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    for name, _ in headers:
        assert f"`{name.decode()}`" in PAGE
        assert f"`{name.decode()}`" in readme
