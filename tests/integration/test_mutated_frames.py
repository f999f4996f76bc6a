"""Frames that no client should send, to a whole relay with keys, over loopback.

Whatever bytes come, and in whatever order: the RPC ends with a status that the contract has, every
generation that was accepted has exactly one end, nothing stays reserved or running, and a session
beside it is answered as if nobody else were there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rtrelay.v1 import (
    Cancel,
    Close,
    Commit,
    ConverseRequest,
    GenerateRequest,
    Message,
    Part,
    Ping,
    Prompt,
    Role,
    Setup,
    Start,
)

from relay.store.engine import make_ready
from tests.fakes.bent_protobuf import bent, messages
from tests.fakes.books import Books
from tests.fakes.converse_client import Conversation, status_of
from tests.fakes.directory_rows import PEPPER, Rows
from tests.fakes.h1_server import Exchange, H1Server
from tests.fakes.relay_under_test import (
    RelayUnderTest,
    answer_chunks,
    chunk,
    eventually,
    provider,
    relay_under_test,
)

pytestmark = [pytest.mark.sockets, pytest.mark.timeout(3600)]

IS_FULL: Final = os.environ.get("RELAY_FULL") == "1"
EXAMPLES: Final = 3000 if IS_FULL else 120
CHAT: Final = "/v1/chat/completions"
USAGE: Final = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
SPARE_DESCRIPTORS: Final = 8
"""A second connection to the provider, files of the store's threads."""
IDS: Final = st.sampled_from(["g1", "g2", "g3"])
ALLOWED: Final = frozenset(
    {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.ABORTED,
    }
)
"""What a caller's own mistake, or what he asks for, may end with: neither INTERNAL nor UNKNOWN."""

often = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=not IS_FULL,
    suppress_health_check=list(HealthCheck),
)


def a_start(generation_id: str, text: str, **more: Any) -> Start:
    said = Prompt(messages=[Message(role=Role.ROLE_USER, parts=[Part(text=text)])])
    return Start(generation_id=generation_id, model="fast", prompt=said, **more)


STARTS: Final = st.builds(
    a_start,
    IDS,
    st.sampled_from(["Hello", "", "x" * 2000]),
    speculative=st.booleans(),
    hold_until_commit=st.booleans(),
    supersedes=st.lists(IDS, max_size=2),
) | messages(Start)
FRAMES: Final = st.one_of(
    st.builds(lambda one: ConverseRequest(start=one), STARTS),
    st.builds(lambda one: ConverseRequest(start=one), STARTS),
    st.builds(lambda id_: ConverseRequest(commit=Commit(generation_id=id_)), IDS),
    st.builds(lambda id_: ConverseRequest(cancel=Cancel(generation_id=id_)), IDS),
    st.just(ConverseRequest(cancel=Cancel(all=True))),
    st.just(ConverseRequest(ping=Ping(nonce=7))),
    st.just(ConverseRequest(setup=Setup(model="fast"))),
    st.just(ConverseRequest(close=Close())),
    messages(ConverseRequest),
)
SETUPS: Final = st.just(ConverseRequest(setup=Setup(client_name="c", model="fast")))
SENT: Final = st.one_of(
    st.builds(lambda frame: frame.SerializeToString(), FRAMES), bent(FRAMES), st.binary(max_size=64)
)
FIRST: Final = st.one_of(
    *[st.builds(lambda frame: frame.SerializeToString(), SETUPS)] * 4,
    bent(SETUPS),
    bent(st.builds(lambda one: ConverseRequest(setup=one), messages(Setup))),
    SENT,
)
GENERATE: Final = st.builds(lambda one: GenerateRequest(start=one), STARTS)


def held_by(frames: list[bytes]) -> set[str]:
    """Ids of starts that wait for a commit, as a decoder reads them."""
    found: set[str] = set()
    for frame in frames:
        with contextlib.suppress(DecodeError):
            start = ConverseRequest.FromString(frame).start
            if start.hold_until_commit:
                found.add(start.generation_id)
    return found


class Lab:
    """A relay whose one key has a budget, a session beside all others, and the books."""

    def __init__(
        self, relay: RelayUnderTest, books: Books, key: str, witness: Conversation
    ) -> None:
        self.relay = relay
        self.books = books
        self.metadata = {"authorization": f"Bearer {key}"}
        self._witness = witness
        self._service: Any = relay.worker._service
        self._told = 0
        self.tasks = len(asyncio.all_tasks())
        self.descriptors = _descriptors()

    async def converse(self, frames: list[bytes], is_cut: bool) -> None:
        """One session of such frames, to its end or cut off by us."""
        async with Conversation(self.relay.channel, self.metadata, setup=None) as talk:
            try:
                for frame in frames:
                    await talk.send_bytes(frame)
                if not is_cut:
                    await talk.half_close()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                pass  # it has ended meanwhile
            if not is_cut:
                held = held_by(frames)

                def is_done() -> bool:
                    """A start that is held for a commit waits for it, up to its own limits."""
                    ends = [id_ in held or one.end for id_, one in talk.answers.items()]
                    return talk.is_over or (bool(held) and all(ends))

                await talk.until(is_done)
                error = talk.error
                # grpc's own client says this where it wrote to a call that had ended, whatever
                # the server had ended it with.
                if error is not None and error.details() != "Internal error from Core":
                    assert error.code() in ALLOWED, error
                    assert status_of(error).message
                for id_, answer in talk.answers.items():
                    is_open = answer.is_started and answer.end is None
                    assert not is_open or (id_ in held and not talk.is_over), f"{id_} has no end"
            reader = talk._reader
        assert reader is not None
        if not reader.cancelled() and reader.exception() is not None:
            raise AssertionError("frames that break the contract") from reader.exception()

    async def generate(self, request: bytes) -> None:
        """One call without a session."""
        rpc: Any = self.relay.channel.unary_stream("/rtrelay.v1.RelayService/Generate")
        call = rpc(request, metadata=tuple(self.metadata.items()), timeout=20)
        try:
            async with asyncio.timeout(20):
                async for _ in call:
                    pass
        except grpc.aio.AioRpcError:
            pass
        assert await call.code() in ALLOWED, await call.details()

    async def is_as_before(self) -> None:
        """The witness is answered; nothing runs, nothing is put aside, no task is left."""
        self._told += 1
        name = f"w{self._told}"
        await self._witness.start(name)
        answer = await self._witness.ended(name)
        assert answer.text == "Hello!", answer.end
        await self.relay.settled()
        await eventually(lambda: not self.books.open_rows())
        (row,) = self.books.rows("SELECT sum(reserved_micro) AS r FROM budget_periods")
        assert not row["r"], "money stays put aside"
        await eventually(lambda: self._service.sessions <= 1)
        await eventually(lambda: len(asyncio.all_tasks()) <= self.tasks + 1)
        await eventually(lambda: _descriptors() <= self.descriptors + SPARE_DESCRIPTORS)


def _descriptors() -> int:
    """Open ones of this process, relay and clients; 0 where that cannot be told."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


async def _say_hello(exchange: Exchange) -> None:
    events = [*answer_chunks("Hel", "lo", "!")[:-1], chunk(usage=USAGE), b"data: [DONE]\n\n"]
    body = b"".join(events)
    kind = ("content-type", "text/event-stream")
    await exchange.head(200, kind, ("content-length", str(len(body))))
    await exchange.write(body)


async def _open(stack: AsyncExitStack, folder: Path) -> Lab:
    os.environ["THE_PEPPER"] = PEPPER
    stack.callback(os.environ.pop, "THE_PEPPER", None)
    url = f"sqlite:///{folder / 'relay.db'}"
    make_ready(url)
    books = Books(url)
    stack.callback(books.close)
    rows = Rows(books.engine)
    key_id, key = rows.key(rows.team(rows.organisation()))
    rows.budget("key", key_id, 10**12)
    server = await stack.enter_async_context(H1Server())
    server.routes[CHAT] = _say_hello
    prices = {"m": {"input": 1.0, "output": 10.0}}
    document = {
        "store": {"url": url},
        "auth": {"pepper": "${THE_PEPPER}", "sync_ms": 50},
        "audit": {"anchor": str(folder / "audit.anchor")},
        "budgets": {"default_max_tokens": 100},
        "providers": {"lab": provider(server.url, prices=prices)},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
    }
    relay = await stack.enter_async_context(relay_under_test(document))
    metadata = {"authorization": f"Bearer {key}"}
    witness = await stack.enter_async_context(
        Conversation(relay.channel, metadata, client_name="witness", model="fast")
    )
    lab = Lab(relay, books, key, witness)
    await lab.is_as_before()
    lab.tasks, lab.descriptors = len(asyncio.all_tasks()), _descriptors()
    return lab


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Lab]]:
    """One relay for all examples, on a loop that runs while an example does."""
    stack = AsyncExitStack()
    with asyncio.Runner() as runner:
        lab = runner.run(_open(stack, tmp_path_factory.mktemp("lab")))
        try:
            yield runner, lab
        finally:
            runner.run(stack.aclose())


@often
@given(
    first=FIRST, frames=st.lists(SENT, max_size=6), is_cut=st.integers(0, 4).map(lambda n: not n)
)
def test_a_session_of_any_frames(
    running: tuple[asyncio.Runner, Lab], first: bytes, frames: list[bytes], is_cut: bool
) -> None:
    runner, lab = running

    async def one() -> None:
        await lab.converse([first, *frames], is_cut)
        await lab.is_as_before()

    runner.run(one())


@often
@given(request=bent(GENERATE) | st.builds(lambda one: one.SerializeToString(), GENERATE))
def test_a_generation_of_any_bytes(running: tuple[asyncio.Runner, Lab], request: bytes) -> None:
    runner, lab = running

    async def one() -> None:
        await lab.generate(request)
        await lab.is_as_before()

    runner.run(one())


def test_good_frames_are_answered(running: tuple[asyncio.Runner, Lab]) -> None:
    """What the others hold says something: a good session of theirs has its text and its cost."""
    runner, lab = running

    async def one() -> None:
        before = lab.books.rows("SELECT count(*) AS n FROM generations")[0]["n"]
        frames = [ConverseRequest(setup=Setup(model="fast"))]
        frames += [ConverseRequest(start=a_start(name, "Hello")) for name in ("g1", "g2")]
        await lab.converse([frame.SerializeToString() for frame in frames], is_cut=False)
        request = GenerateRequest(start=a_start("g1", "Hello"))
        await lab.generate(request.SerializeToString())
        await lab.is_as_before()
        after = lab.books.rows("SELECT count(*) AS n FROM generations")[0]["n"]
        assert after == before + 4  # the witness had one as well
        lab.books.check()

    runner.run(one())
