"""The exact cache through a whole relay: on every surface, in a crowd, over Redis, with keys of
clients' own wishes; and what its provider hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from relay.config import parse
from tests.fakes.converse_client import start
from tests.fakes.emulator_process import EmulatorProcess, emulator
from tests.fakes.redis_server import RedisServer
from tests.fakes.relay_under_test import (
    Document,
    RelayUnderTest,
    chat_body,
    provider,
    relay_under_test,
    sse_payloads,
)

__all__ = ["emulator"]
pytestmark = pytest.mark.sockets


def document(emulator: EmulatorProcess, exact: Document | None = None, **more: Any) -> Document:
    base = emulator.base_url_plain
    row = {**provider("http://unused"), "base_url": f"{base}/v1"}
    claude = {**provider("http://unused"), "wire": "anthropic_messages", "base_url": base}
    return {
        "providers": {"emu": row, "claude": claude},
        "cache": {"exact": exact or {}},
        **more,
    }


@pytest.fixture
async def relay(emulator: EmulatorProcess) -> AsyncIterator[RelayUnderTest]:
    exact = {"wait_ms": 60_000}  # machines are busy
    async with relay_under_test(document(emulator, exact)) as relay:
        yield relay
        await relay.settled()


def model_of(seed: int, **behaviour: object) -> str:
    words = {"ttft": 1, "itl": 0, "tokens": 5, **behaviour, "seed": seed}
    return "emu:" + ",".join(f"{name}={value}" for name, value in words.items())


def text_of(payloads: Any) -> str:
    choices = [choice for payload in payloads for choice in payload["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def test_streamed_and_whole_are_one_answer(
    relay: RelayUnderTest, emulator: EmulatorProcess
) -> None:
    model = model_of(501)
    asked = chat_body(f"emu/{model}", stream_options={"include_usage": True})
    first, again = await relay.chat(asked), await relay.chat(asked)
    whole = await relay.chat({**asked, "stream": False, "stream_options": None})
    assert [r.headers["x-relay-cache"] for r in (first, again, whole)] == ["miss", "hit", "hit"]
    assert again.headers["x-relay-attempts"] == "0"
    assert again.headers["x-relay-provider"] == "emu"
    payloads = sse_payloads(first.text), sse_payloads(again.text)
    assert text_of(payloads[0]) == text_of(payloads[1]) != ""
    assert whole.json()["choices"][0]["message"]["content"] == text_of(payloads[0])
    usages = [payload[-1]["usage"]["prompt_tokens"] for payload in payloads]
    assert usages[0] == usages[1] == whole.json()["usage"]["prompt_tokens"] > 0
    ids = {payloads[0][0]["id"], payloads[1][0]["id"], whole.json()["id"]}
    assert len(ids) == 3
    assert len(emulator.streams(model=model)) == 1


async def test_tool_calls_are_given_again(relay: RelayUnderTest, emulator: EmulatorProcess) -> None:
    model = model_of(502, tools=1)
    tool = {"type": "function", "function": {"name": "find_slot", "parameters": {"type": "object"}}}
    asked = chat_body(f"emu/{model}", stream=False, tools=[tool])
    first, again = await relay.chat(asked), await relay.chat(asked)
    calls = [r.json()["choices"][0]["message"].get("tool_calls") for r in (first, again)]
    assert calls[0]
    assert calls[0] == calls[1]
    assert again.json()["choices"][0]["finish_reason"] == "tool_calls"
    assert len(emulator.streams(model=model)) == 1


async def test_every_surface_gives_it_again(
    relay: RelayUnderTest, emulator: EmulatorProcess
) -> None:
    model = model_of(503)
    name = f"emu/{model}"
    async with relay.openai() as openai, relay.anthropic() as anthropic:
        responses = [await openai.responses.create(model=name, input="Hi") for _ in range(2)]
        assert responses[0].output_text == responses[1].output_text != ""
        assert responses[0].id != responses[1].id
        vectors = [await openai.embeddings.create(model=name, input="Hi") for _ in range(2)]
        assert vectors[0].data == vectors[1].data
        assert vectors[0].usage == vectors[1].usage
        messages = [
            await anthropic.messages.create(
                model=f"claude/{model}",
                max_tokens=50,
                messages=[{"role": "user", "content": "Hi"}],
            )
            for _ in range(2)
        ]
        assert messages[0].content == messages[1].content != []
        completions = [await openai.completions.create(model=name, prompt="Ho") for _ in range(2)]
        assert completions[0].choices[0].text == completions[1].choices[0].text != ""
    generated = [await relay.generate(start("g", model=name)) for _ in range(2)]
    assert generated[0].text == generated[1].text != ""
    assert [g.answer.end and g.answer.end.cache for g in generated] == ["miss", "hit"]
    assert len(emulator.streams(model=model)) == 5


async def test_what_a_client_wants_of_it(relay: RelayUnderTest, emulator: EmulatorProcess) -> None:
    model = model_of(504)
    asked = chat_body(f"emu/{model}", stream=False)
    refused = await relay.chat(asked, x_relay_cache="only")
    assert refused.status_code == 504
    assert refused.json()["error"]["code"] == "cache_miss"
    assert emulator.streams(model=model) == []
    for wish, told, calls in (
        ("off", "bypass", 1),
        ("refresh", "refresh", 2),
        ("only", "hit", 2),
        ("off", "bypass", 3),
    ):
        answer = await relay.chat({**asked, "relay": {"cache": wish}})
        assert (answer.status_code, answer.headers["x-relay-cache"]) == (200, told)
        assert len(emulator.streams(model=model)) == calls
    wrong = await relay.chat(asked, x_relay_cache="maybe")
    assert wrong.status_code == 400
    assert wrong.json()["error"]["param"] == "x-relay-cache"


async def test_only_where_nothing_is_kept_is_refused(emulator: EmulatorProcess) -> None:
    """Without a cache, and with one that is not for this name: no provider is asked."""
    model = model_of(513)
    asked = chat_body(f"emu/{model}", stream=False)
    without = document(emulator)
    del without["cache"]
    other = document(emulator, {"not_models": [f"emu/{model}"]})
    for config in (without, other):
        async with relay_under_test(config) as relay:
            assert (await relay.chat(asked, x_relay_cache="only")).status_code == 504
            assert (await relay.chat(asked, x_relay_cache="off")).status_code == 200
    assert len(emulator.streams(model=model)) == 2


async def test_tenants_do_not_share(relay: RelayUnderTest, emulator: EmulatorProcess) -> None:
    model = model_of(505)
    asked = chat_body(f"emu/{model}", stream=False)
    told = [
        (await relay.chat(asked, authorization=f"Bearer {who}")).headers["x-relay-cache"]
        for who in ("ann", "bob", "ann", "bob")
    ]
    assert told == ["miss", "miss", "hit", "hit"]
    assert len(emulator.streams(model=model)) == 2


async def test_errors_and_cut_streams_are_never_kept(
    relay: RelayUnderTest, emulator: EmulatorProcess
) -> None:
    for number, fault in enumerate(("status:500", "eof@3", "cut@3")):
        model = f"emu-broken-{number}"
        emulator.script(model, f"ttft=1,itl=0,tokens=6,fault={fault}", next_requests=1)
        asked = chat_body(f"emu/{model}")
        await relay.chat(asked)
        emulator.script(model, "ttft=1,itl=0,tokens=6")
        after = [await relay.chat(asked) for _ in range(2)]
        assert [r.headers["x-relay-cache"] for r in after] == ["miss", "hit"]


async def test_a_hundred_at_once_make_one_call(
    relay: RelayUnderTest, emulator: EmulatorProcess
) -> None:
    model = model_of(506, ttft=300, itl=5, tokens=20)
    asked = chat_body(f"emu/{model}")
    answers = await asyncio.gather(*(relay.chat(asked) for _ in range(100)))
    assert {answer.status_code for answer in answers} == {200}
    told = sorted(answer.headers["x-relay-cache"] for answer in answers)
    assert told.count("miss") == 1
    assert set(told) <= {"miss", "shared", "hit"}
    assert len({text_of(sse_payloads(answer.text)) for answer in answers}) == 1
    assert len(emulator.streams(model=model)) == 1


async def test_a_hundred_at_once_make_two_calls_where_the_first_goes_away(
    relay: RelayUnderTest, emulator: EmulatorProcess
) -> None:
    model = model_of(507, ttft=50, itl=100, tokens=12)
    asked = chat_body(f"emu/{model}")
    first = asyncio.ensure_future(relay.chat(asked))
    await asyncio.sleep(0.2)
    others = [asyncio.ensure_future(relay.chat(asked)) for _ in range(99)]
    await asyncio.sleep(0.2)
    assert not first.done()
    first.cancel()
    answers = await asyncio.gather(*others)
    assert {answer.status_code for answer in answers} == {200}
    assert len({text_of(sse_payloads(answer.text)) for answer in answers}) == 1
    assert sorted(s["outcome"] for s in emulator.streams(model=model)) == ["abandoned", "clean"]


async def test_paced_it_takes_its_time(emulator: EmulatorProcess) -> None:
    model = model_of(508, itl=30, tokens=8)
    asked = chat_body(f"emu/{model}")
    loop = asyncio.get_running_loop()
    async with relay_under_test(document(emulator, {"replay": "paced"})) as relay:
        first = await relay.chat(asked)
        began_s = loop.time()
        again = await relay.chat(asked)
        assert loop.time() - began_s > 0.1
        assert again.headers["x-relay-cache"] == "hit"
        texts = [sse_payloads(answer.text) for answer in (first, again)]
        assert text_of(texts[0]) == text_of(texts[1])
        assert len(texts[1]) >= len(texts[0]) - 2, "piece by piece"


@asynccontextmanager
async def two_workers(document: Document) -> AsyncIterator[list[RelayUnderTest]]:
    async with relay_under_test(document) as here, relay_under_test(document) as there:
        yield [here, there]


async def test_workers_share_it_in_redis_and_do_without(
    emulator: EmulatorProcess, own_redis: RedisServer, tmp_path: Any
) -> None:
    model = model_of(509)
    asked = chat_body(f"emu/{model}", stream=False)
    store = {
        "url": f"sqlite:///{tmp_path}/relay.db",
        "redis": own_redis.url(),
        "ledger": False,
    }
    config = document(emulator, {"redis_timeout_ms": 1000}, store=store)
    async with two_workers(config) as (here, there):
        assert (await here.chat(asked)).headers["x-relay-cache"] == "miss"
        async with asyncio.timeout(5):
            while (await there.chat(asked, x_relay_cache="only")).status_code != 200:
                await asyncio.sleep(0.01)  # it is written in the background
        assert len(emulator.streams(model=model)) == 1
        own_redis.kill()
        other = chat_body(f"emu/{model_of(510)}", stream=False)
        told = [await relay.chat(other) for relay in (here, there, here, there)]
        assert [r.headers["x-relay-cache"] for r in told] == ["miss", "miss", "hit", "hit"]


async def test_a_cascade_is_kept_under_its_own_name(emulator: EmulatorProcess) -> None:
    small, large = model_of(514), model_of(515)
    config = document(
        emulator,
        {"models": ["smart"]},
        models={
            name: {"candidates": [{"provider": "emu", "model": model}]}
            for name, model in (("small", small), ("large", large))
        },
        policies={"cascades": {"smart": {"small": "small", "large": "large"}}},
    )
    async with relay_under_test(config) as relay:
        asked = chat_body("smart")
        told = [await relay.chat(asked) for _ in range(3)]
        assert [r.headers["x-relay-cache"] for r in told] == ["miss", "hit", "hit"]
        assert len({text_of(sse_payloads(answer.text)) for answer in told}) == 1
        alone = await relay.chat(chat_body("small"))
        assert alone.headers["x-relay-cache"] == "bypass"
        await relay.settled()
    assert len(emulator.streams(model=small)) == 2


async def test_a_reload_that_changes_the_model_forgets(
    relay: RelayUnderTest, emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same name, another model behind it."""
    one, other = model_of(511), model_of(512)
    config = document(emulator)
    asked = chat_body("voice", stream=False)
    told = []
    for model in (one, one, other, other):
        alias = {"voice": {"candidates": [{"provider": "emu", "model": model}]}}
        changed = parse({**config, "models": alias, "server": relay.worker._config.server})
        monkeypatch.setattr(relay.worker, "_reload_config", lambda changed=changed: changed)
        relay.worker._reload()
        told.append((await relay.chat(asked)).headers["x-relay-cache"])
    assert told == ["miss", "hit", "miss", "hit"]


async def test_answers_that_are_not_kept_come_beside_each_other(
    relay: RelayUnderTest, emulator: EmulatorProcess
) -> None:
    """The first one's refusal is not shared: the others ask at once, and not in a row."""
    model = model_of(560, ttft=200, tokens=1)
    emulator.script(model, {"text": "No.", "refusal": True, "ttft": 200, "itl": 0})
    asked = {**chat_body(f"emu/{model}"), "stream": False}
    answers = await asyncio.gather(*[relay.chat(asked) for _ in range(6)])
    assert {answer.headers["x-relay-cache"] for answer in answers} == {"miss"}
    assert len(emulator.streams(model=model)) == 6
    policies = relay.worker._policies
    assert policies is not None
    assert policies.describe()["cache"]["handed_on"] == 0
