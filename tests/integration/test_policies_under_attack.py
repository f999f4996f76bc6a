"""Who tries to get round guardrails, keys and accounts by way of the policies, at a whole relay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.fakes.books import Books
from tests.fakes.emulator_process import EmulatorProcess, emulator
from tests.fakes.keyed_relay import keyed_relay
from tests.fakes.relay_under_test import chat_body, provider, relay_under_test

__all__ = ["emulator"]
pytestmark = pytest.mark.sockets


def row_of(emulator: EmulatorProcess, **more: Any) -> dict[str, Any]:
    return provider(emulator.base_url_tls, ca_file=emulator.ca_file, **more)


def alias(model: str, row: str = "emu") -> dict[str, Any]:
    return {"candidates": [{"provider": row, "model": model}]}


JUDGED = {
    "rails": {"advice": {"scan": {"kind": "judge", "model": "judge", "rule": "No legal advice."}}}
}


async def test_a_judge_is_asked_for_who_asks(emulator: EmulatorProcess, tmp_path: Path) -> None:
    """By the key of whoever asks, and within his data zones."""
    emulator.script("atk-said", {"text": "hello", "ttft": 0, "itl": 0})
    emulator.script("atk-judge", {"text": "ALLOW", "ttft": 0, "itl": 0})
    document = {
        "providers": {
            "emu": row_of(emulator, data_zone="eu"),
            "far": row_of(emulator, data_zone="us"),
        },
        "models": {
            "fast": alias("atk-said"),
            "judge": {
                "candidates": [
                    {"provider": "far", "model": "atk-far-judge"},
                    {"provider": "emu", "model": "atk-judge"},
                ]
            },
        },
        "guardrails": JUDGED,
    }
    async with keyed_relay(tmp_path, document) as keys:
        near = await keys.key("key_1", scopes={"zones": ["eu"], "models": ["fast"]})
        answer = await keys.relay.chat(
            {**chat_body("fast"), "stream": False}, authorization=f"Bearer {near}"
        )
        assert answer.status_code == 200, answer.text
    assert emulator.streams(model="atk-far-judge") == []
    assert len(emulator.streams(model="atk-judge")) == 2
    books = Books(f"sqlite:///{tmp_path / 'relay.db'}")
    (row,) = books.rows("SELECT decision FROM generations")
    books.close()
    assert [leg["outcome"] for leg in orjson.loads(row["decision"])["legs"]] == ["ok", "ok"]


async def test_a_guardrail_for_a_key_s_tags_holds_for_prompts_that_are_counted(
    emulator: EmulatorProcess, tmp_path: Path
) -> None:
    row = provider("http://unused")
    claude = {**row, "wire": "anthropic_messages", "base_url": emulator.base_url_plain}
    document = {
        "providers": {"claude": claude},
        "models": {"fast": alias("atk-counted", "claude")},
        "guardrails": {
            "rails": {
                "words": {
                    "scan": {"kind": "denied", "terms": ["swordfish"]},
                    "where": {"tags": ["minors"]},
                }
            }
        },
    }
    async with keyed_relay(tmp_path, document) as keys:
        key = await keys.key(tags=("minors",))
        body = {"model": "fast", "messages": [{"role": "user", "content": "swordfish"}]}
        headers = {"authorization": f"Bearer {key}", "anthropic-version": "2023-06-01"}
        for path, more in (("/v1/messages", {"max_tokens": 9}), ("/v1/messages/count_tokens", {})):
            answer = await keys.relay.http.post(path, json={**body, **more}, headers=headers)
            assert (path, answer.status_code) == (path, 400), answer.text


async def test_a_name_of_any_length_fills_no_accounts(
    emulator: EmulatorProcess, tmp_path: Path
) -> None:
    emulator.script("atk-said", {"text": "hello", "ttft": 0, "itl": 0})
    url = f"sqlite:///{tmp_path / 'relay.db'}"
    document = {
        "store": {"url": url},
        "providers": {"emu": row_of(emulator)},
        "models": {"fast": alias("atk-said")},
        "policies": {"rules": [{"name": "gpt", "when": {"model": "gpt-*"}, "use": "fast"}]},
    }
    async with relay_under_test(document) as relay:
        answer = await relay.chat({**chat_body("gpt-" + "A" * 500_000), "stream": False})
        assert answer.status_code == 200
        await relay.settled()
    books = Books(url)
    (row,) = books.rows("SELECT decision FROM generations")
    books.close()
    assert row["decision"].startswith('{"asked":"gpt-AAAA')
    assert len(row["decision"]) < 1000
