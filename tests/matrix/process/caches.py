"""The exact cache: what is no hit though it looks like one, and what is never kept."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
import pytest

from relay.cache import exact
from relay.cache.base import CacheScope
from relay.cache.key import key_of
from relay.cache.tape import Tape
from relay.config import parse
from relay.content import GenerateRequest, TextPart, Usage
from tests.fakes.h2_server import answer, cut, stream_chunks
from tests.fakes.relay_under_test import Document, RelayUnderTest, answer_chunks, chat_body
from tests.matrix.process.place import soon
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import (
    CHAT,
    LIMIT_MICRO,
    WHOLE_MICRO,
    KeyedClient,
    World,
    merged,
    whole_answer,
    word,
    world,
)

CACHE: Final[Document] = {"cache": {"exact": {"ttl_s": 600}}}


async def _told(client: KeyedClient, body: Document | None = None, **more: Any) -> tuple[str, str]:
    """What became of the cache, and the answer."""
    asked = body or chat_body("alone", stream=False, **more)
    response = await client.chat(asked)
    assert response.status_code == 200, response.text
    text = response.json()["choices"][0]["message"]["content"]
    return response.headers["x-relay-cache"], text


@asynccontextmanager
async def _other_team(here: World) -> AsyncIterator[KeyedClient]:
    team_id = here.rows.team(here.rows.organisation())
    here.rows.budget("team", team_id, LIMIT_MICRO)  # as the first has: one length of answers
    _, key = here.rows.key(team_id)
    access = here.relay.worker.accounts.access
    assert access is not None
    assert await access.sync.look()
    worker = here.relay.worker
    url = f"http://127.0.0.1:{worker.http_port}"
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=20) as http:
        yield KeyedClient(RelayUnderTest(worker, here.relay.channel, http), key)


async def two_tenants(stage: Stage) -> None:
    async with world(stage, CACHE) as here, _other_team(here) as other:
        secret = f"the secret of one {stage.draw.random()}"
        here.lab.routes[CHAT] = stream_chunks(whole_answer(secret))
        assert await _told(here.relay) == ("miss", secret)
        assert await _told(here.relay) == ("hit", secret)
        here.lab.routes[CHAT] = stream_chunks(whole_answer("of the other"))
        assert await _told(other) == ("miss", "of the other")
        booked = await here.booked(3)
        assert sorted(one.cost_micro for one in booked) == [0, WHOLE_MICRO, WHOLE_MICRO]
        (hit,) = [one for one in booked if not one.cost_micro]
        assert hit.attempts == [], "nobody was asked"


_key_of = key_of


def everybody_is_one(patch: pytest.MonkeyPatch) -> None:
    """The team in the key."""

    def key_of(request: GenerateRequest, scope: CacheScope, **how: Any) -> bytes | None:
        return _key_of(request, scope, **{**how, "share": "everyone"})

    patch.setattr(exact, "key_of", key_of)


_SAID: Final = (
    ([{"role": "user", "content": "ab"}, {"role": "user", "content": "c"}],
     [{"role": "user", "content": "a"}, {"role": "user", "content": "bc"}]),
    ([{"role": "system", "content": "Say yes."}, {"role": "user", "content": "?"}],
     [{"role": "user", "content": "Say yes."}, {"role": "user", "content": "?"}]),
    ([{"role": "user", "content": "one user\u0000two"}],
     [{"role": "user", "content": "one "}, {"role": "user", "content": "user\u0000two"}]),
    ([{"role": "user", "content": "10"}, {"role": "user", "content": ""}],
     [{"role": "user", "content": "1"}, {"role": "user", "content": "0"}]),
)  # fmt: skip
"""Pairs that are one text where texts are put together."""


async def nearly_the_same(stage: Stage) -> None:
    async with world(stage, CACHE) as here:
        for number, pair in enumerate(stage.draw.sample(_SAID, k=2)):
            for half, messages in enumerate(pair):
                text = f"answer {number}.{half}"
                here.lab.routes[CHAT] = stream_chunks(whole_answer(text))
                body = {"model": "alone", "messages": messages}
                assert await _told(here.relay, body) == ("miss", text)
        assert len(here.lab.requests(CHAT)) == 4
        await here.booked(4)


def texts_are_put_together(patch: pytest.MonkeyPatch) -> None:
    """That a key tells structures apart, and not texts alone."""

    def key_of(request: GenerateRequest, scope: CacheScope, **_: Any) -> bytes | None:
        texts = [
            part.text
            for message in request.messages
            for part in message.parts
            if isinstance(part, TextPart)
        ]
        return hashlib.sha256("".join(texts).encode("utf-8", "replace")).digest()

    patch.setattr(exact, "key_of", key_of)


async def another_policy(stage: Stage) -> None:
    """A reload by which the name means another model, or something is not to be said any more."""
    async with world(stage, CACHE) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("a bad word"))
        assert await _told(here.relay) == ("miss", "a bad word")
        assert (await _told(here.relay))[0] == "hit"
        lab_other = {"alone": {"candidates": [{"provider": "lab", "model": "m2"}]}}
        prices = {"lab": {"prices": {"m2": {"input": 1.0, "output": 10.0}}}}
        rail = {"scan": {"kind": "denied", "terms": ["bad word"]}, "sides": ["output"]}
        changes: list[tuple[Document, str]] = [
            ({"models": lab_other, "providers": prices}, "a bad word"),
            ({"guardrails": {"rails": {"words": {**rail, "action": "redact"}}}}, "a [REMOVED]"),
        ]
        more, text = stage.draw.choice(changes)
        changed = merged(here.document, more)
        here.relay.worker._take(parse({**changed, "server": {}}))
        assert await _told(here.relay) == ("miss", text)
        assert len(here.lab.requests(CHAT)) == 2
        await here.booked(3)


def versions_are_all_one(patch: pytest.MonkeyPatch) -> None:
    """The digest of models and policies in the key."""

    def key_of(request: GenerateRequest, scope: CacheScope, **how: Any) -> bytes | None:
        return _key_of(request, scope._replace(version="", route=""), **how)

    patch.setattr(exact, "key_of", key_of)


async def errors_and_parts(stage: Stage) -> None:
    """What is broken is not given again, whoever broke it."""
    text = f"right {stage.draw.random()}"
    broken = {
        "error": answer(500, b'{"error": {"message": "poison"}}'),
        "cut": cut(after=[word("poi"), word("son")]),
        "length": stream_chunks(
            [one.replace(b'"stop"', b'"content_filter"') for one in whole_answer("poison")]
        ),
        "no usage": stream_chunks(answer_chunks("poison")),
    }
    async with world(stage, CACHE) as here:
        for script in stage.draw.sample(sorted(broken), k=3):
            here.lab.routes[CHAT] = broken[script]
            await here.relay.chat(chat_body("alone", text=script, stream=False))
            here.lab.routes[CHAT] = stream_chunks(whole_answer(text))
            told = await _told(here.relay, text=script)
            assert told == ("miss", text), script
            assert await _told(here.relay, text=script) == ("hit", text)
        await soon(lambda: here.books.open_rows() == 0)
        assert len(here.lab.requests(CHAT)) == 6


def anything_is_kept(patch: pytest.MonkeyPatch) -> None:
    """That an answer must be whole to be kept."""
    patch.setattr(Tape, "usage_if_whole", lambda _: Usage(1, 1, 2))


ROWS = (
    Row(
        "P12",
        inject="cache: the same text of two tenants, requests that nearly collide, a policy or a"
        " model that changes, a poisoned error, a part of a stream",
        client="a miss over tenants and versions; errors and parts are never given again",
        accounting="a hit costs nothing and has no attempts",
        retry="none",
        parts=(
            Part("two_tenants", two_tenants, everybody_is_one),
            Part("near_collision", nearly_the_same, texts_are_put_together),
            Part("another_policy", another_policy, versions_are_all_one),
            Part("errors_and_parts", errors_and_parts, anything_is_kept),
        ),
        also=(
            "tests/integration/test_exact_cache.py",
            "tests/cache/test_exact_key.py",
            "tests/cache/test_exact_machine.py",
            "tests/cache/test_semantic_attack.py",
        ),
    ),
)
