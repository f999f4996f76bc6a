"""Answers kept by idempotency key: claims, replays, bounds."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from relay.errors import Code, DuplicateGeneration, InvalidRequest
from relay.frontends.http_errors import http_status, retry_headers
from relay.frontends.kept_answers import (
    ENTRY_BYTES,
    Answer,
    AnswerLimits,
    Claim,
    KeptAnswers,
    KeyInUse,
    digest_of,
)

HEADERS = [
    (b"content-type", b"application/json"),
    (b"x-relay-request-id", b"req_1"),
    (b"x-relay-provider", b"a"),
]
ONE, OTHER = digest_of(b"one"), digest_of(b"other")


class World:
    """A store, its time, and a client that keeps what it is sent."""

    def __init__(self, **limits: Any) -> None:
        self.now_s = 100.0
        self.kept = KeptAnswers(AnswerLimits(**limits), lambda: self.now_s)
        self.sent: list[MutableMapping[str, Any]] = []

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)

    def claim(self, key: str = "k", digest: bytes = ONE, tenant: str = "t") -> Claim:
        found = self.kept.claim(tenant, key, digest, self.send)
        assert isinstance(found, Claim)
        return found

    def answer(
        self,
        *pieces: bytes,
        key: str = "k",
        status: int = 200,
        is_clean: bool = True,
        is_whole: bool = True,
    ) -> None:
        """One request from its claim to its end."""
        claim = self.claim(key)

        async def speak() -> None:
            await claim.send({"type": "http.response.start", "status": status, "headers": HEADERS})
            for at, piece in enumerate(pieces, 1):
                more = at < len(pieces) or not is_whole
                await claim.send({"type": "http.response.body", "body": piece, "more_body": more})

        asyncio.run(speak())
        claim.settle(is_clean=is_clean)

    def replay(self, key: str = "k") -> bytes:
        """The kept answer, as it is given once more."""
        found = self.kept.claim("t", key, ONE, self.send)
        assert isinstance(found, Answer)
        self.sent.clear()
        asyncio.run(found.send(self.send, [(b"x-relay-request-id", b"req_2")]))
        head, body = self.sent
        assert head["status"] == 200
        assert sorted(head["headers"]) == [
            (b"content-type", b"application/json"),
            (b"idempotent-replayed", b"true"),
            (b"x-relay-provider", b"a"),
            (b"x-relay-request-id", b"req_2"),
        ]
        data: bytes = body["body"]
        return data


def test_a_repeat_gets_the_same_answer() -> None:
    world = World()
    world.answer(b"data: 1\n\n", b"data: [DONE]\n\n")
    assert [message.get("body") for message in world.sent] == [
        None,
        b"data: 1\n\n",
        b"data: [DONE]\n\n",
    ]
    for _ in range(2):
        assert world.replay() == b"data: 1\n\ndata: [DONE]\n\n"


def test_a_twin_waits_for_the_answer() -> None:
    world = World()
    world.claim()
    with pytest.raises(KeyInUse) as raised:
        world.claim()
    assert http_status(raised.value) == 409
    headers = dict(retry_headers(raised.value))
    assert headers[b"retry-after"] == b"1"
    assert b"x-should-retry" not in headers


def test_another_request_is_refused() -> None:
    world = World()
    running = world.claim()
    with pytest.raises(InvalidRequest):
        world.claim(digest=OTHER)
    running.settle(is_clean=False)
    world.answer(b"1")
    with pytest.raises(InvalidRequest) as raised:
        world.claim(digest=OTHER)
    assert raised.value.field == "idempotency-key"


def test_tenants_do_not_meet() -> None:
    world = World()
    world.answer(b"1")
    world.claim(tenant="other", digest=OTHER)
    world.claim(tenant="")


@pytest.mark.parametrize(
    "end", [{"is_clean": False}, {"status": 503}, {"is_whole": False}, {"status": 204}]
)
def test_what_is_no_whole_answer_may_be_asked_again(end: dict[str, Any]) -> None:
    world = World()
    world.answer(b"1", **end)
    world.claim()
    assert world.kept.held_bytes == 0


def test_what_is_too_large_is_refused_the_second_time() -> None:
    world = World(max_bytes=4000)
    world.answer(b"a" * 1000)
    assert world.replay() == b"a" * 1000
    world.answer(b"a" * 600, b"a" * 401, key="large")
    with pytest.raises(DuplicateGeneration) as raised:
        world.claim("large")
    assert raised.value.status_code is Code.ALREADY_EXISTS
    assert (b"x-should-retry", b"false") in retry_headers(raised.value)


def test_answers_go_with_time() -> None:
    world = World(ttl_s=60.0)
    world.answer(b"1", key="old")
    world.now_s += 59.0
    world.answer(b"2", key="new")
    assert world.replay("old") == b"1"
    world.now_s += 1.0
    world.claim("old")
    assert world.replay("new") == b"2"


def test_the_oldest_go_where_there_is_no_room() -> None:
    world = World(max_answers=2)
    for key in ("a", "b", "c"):
        world.answer(b"1", key=key)
    world.claim("a")
    assert len(world.kept) == 2
    world = World(max_bytes=4 * (ENTRY_BYTES + 100))
    for at in range(20):
        world.answer(b"a" * 100, key=str(at))
        assert world.kept.held_bytes <= 4 * (ENTRY_BYTES + 100)
    assert len(world.kept) == 4
    assert world.replay("19") == b"a" * 100


def test_pieces_of_a_digest_do_not_run_together() -> None:
    assert digest_of(b"ab", b"c") != digest_of(b"a", b"bc")


@pytest.mark.parametrize(
    ("limits", "size_bytes"),
    [({"max_answers": 10}, 5), ({"max_bytes": 40_000}, 5_000)],
)
async def test_who_has_many_keys_drives_out_his_own(
    limits: dict[str, int], size_bytes: int
) -> None:
    """Another's repeat is not paid for twice because of him."""
    world = World(**limits)

    async def answer(tenant: str, key: str) -> None:
        claim = world.claim(key, tenant=tenant)
        await claim.send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await claim.send({"type": "http.response.body", "body": b"x" * size_bytes})
        claim.settle(is_clean=True)

    await answer("quiet", "k")
    for number in range(30):
        await answer("loud", f"k{number}")
    assert isinstance(world.kept.claim("quiet", "k", ONE, world.send), Answer)
    assert isinstance(world.kept.claim("loud", "k29", ONE, world.send), Answer)
    world.claim("k0", tenant="loud")
    world.now_s += 3600
    world.claim("k29", tenant="loud")
    assert not len(world.kept)
    assert world.kept.held_bytes == 0
