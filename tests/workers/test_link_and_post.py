"""A worker's end and the supervisor's, over a real socket pair."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from relay.workers import link as links
from relay.workers.link import PIPE_VARIABLE, SupervisorLink, inherited
from relay.workers.post import NoAnswer, Post
from relay.workers.watch import Watch
from tests.fakes.relay_under_test import eventually


@asynccontextmanager
async def both() -> AsyncIterator[tuple[SupervisorLink, Post]]:
    post = await Post.open(2, Watch(time.monotonic(), 10.0), time.monotonic)
    pipe, _ = post.descriptors
    link = await SupervisorLink.connect(socket.socket(fileno=os.dup(pipe)))
    post.given(os.getpid())
    try:
        yield link, post
    finally:
        await link.aclose()
        await post.aclose()


async def test_a_worker_tells_how_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "BEAT_S", 0.01)
    async with both() as (link, post):
        await eventually(lambda: post.watch.has_beaten)
        assert post.status == "starting"
        link.status("ready", {"grpc": 1, "http": 2})
        await eventually(lambda: post.status == "ready")
        link.status("draining")
        await eventually(lambda: post.status == "draining")
        assert post.ports == {"grpc": 1, "http": 2}
        heard_s = time.monotonic()
        await eventually(lambda: post.watch.silent_s(heard_s) == 0)  # of later beats


async def test_questions() -> None:
    async with both() as (link, post):
        link.answer("state", lambda: {"generations": 3})
        link.answer("broken", lambda: dict[str, int]()["secret"])
        assert await post.ask("state", 5) == {"generations": 3}
        link.answer("sum", lambda one, rest: one + sum(rest))
        assert await post.ask("sum", 5, 1, [2, 3]) == 6
        with pytest.raises(NoAnswer, match=r"^it could not answer: KeyError$"):
            await post.ask("broken", 5)
        with pytest.raises(NoAnswer, match="KeyError"):
            await post.ask("what nobody knows", 5)
        answers = await asyncio.gather(*(post.ask("state", 5) for _ in range(20)))
        assert answers == [{"generations": 3}] * 20


def test_a_question_without_its_fields_ends_no_worker() -> None:
    link, hints = SupervisorLink(), list[object]()
    link.on_hint = hints.append
    for message in ({"kind": "ask"}, {"kind": "ask", "id": 1, "what": []}, {"kind": "hint"}):
        link._take(message)
    assert hints == []


async def test_no_answer_is_waited_for_for_ever() -> None:
    post = await Post.open(0, Watch(0.0, 10.0), time.monotonic)
    with pytest.raises(NoAnswer, match=r"within 0\.05 s"):  # nobody reads there
        await post.ask("state", 0.05)
    asking = asyncio.create_task(post.ask("state", 60))
    await asyncio.sleep(0)
    post.given(0)  # closes the other end, which nobody else has
    with pytest.raises(NoAnswer, match="it is gone"):
        await asking
    with pytest.raises(NoAnswer, match="cannot be asked"):
        await post.ask("state", 60)
    await post.aclose()


async def test_hints_go_both_ways() -> None:
    up: list[dict[str, Any]] = []
    down: list[dict[str, Any]] = []
    async with both() as (link, post):
        post.on_hint, link.on_hint = up.append, down.append
        assert link.hint({"target": "a/b"})
        assert post.hint({"target": "c/d"})
        await eventually(lambda: up and down)
    assert (up, down) == ([{"target": "a/b"}], [{"target": "c/d"}])
    assert not link.hint({})
    assert not post.hint({})


async def test_the_end_of_the_supervisor_is_told_and_our_own_is_not() -> None:
    told: list[str] = []
    async with both() as (link, post):
        link.on_lost = lambda: told.append("lost")
        await post.aclose()
        await eventually(lambda: told)
    async with both() as (link, post):
        link.on_lost = lambda: told.append("closed by us")
        await link.aclose()
    assert told == ["lost"]


def test_what_is_inherited_is_not_inherited_further() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        number = theirs.detach()
        os.set_inheritable(number, True)
        environ = {PIPE_VARIABLE: str(number), "OTHER": "x"}
        found = inherited(environ)
        assert found is not None
        with found:
            assert environ == {"OTHER": "x"}
            assert not os.get_inheritable(found.fileno())
    assert inherited({}) is None


async def test_nothing_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        async with both():
            pass
    await asyncio.sleep(0)
    assert len(os.listdir("/proc/self/fd")) == before
