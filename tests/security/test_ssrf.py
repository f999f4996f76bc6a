"""S1: whatever address, answers of the DNS one after the other, and redirects there are, the relay
connects to an address that is allowed for that host, or to none.

By the real pool over an engine that notes where it is sent, for any sequence of answers; and by the
real engines on real sockets, where a second listener is the inside that nobody may reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.addresses import PRIVATE, may_connect
from relay.config import ConfigError, parse
from relay.errors import ConnectError, UpstreamError
from relay.governance.webhook import NotDelivered, Webhook
from relay.guardrails.asking import CannotTell, Question
from relay.guardrails.base import GuardScope
from relay.guardrails.webhook import WebhookAsker
from relay.observability.tracing.collector import Collector, Verdict
from relay.pinned_http import PinnedTransport
from relay.resolving import NotAllowed, NotFound, Resolver
from relay.transport import ENGINES, make_transport
from relay.transport.base import Origin, Transport, UpstreamRequest
from relay.transport.engine import NOT_ALLOWED, EngineName, TransportSettings
from relay.transport.websocket import SocketLimits, dial
from tests.fakes import h1_server
from tests.fakes.h1_server import H1Server
from tests.fakes.names import FakeNames
from tests.fakes.properties import examples
from tests.fakes.tls import CertAuthority

SETTINGS = TransportSettings(
    probe_interval_s=60, ping_interval_s=60, backoff_initial_s=0.01, backoff_max_s=0.02
)
GET = UpstreamRequest("GET", "/x", [("authorization", "Bearer secret")], b"")
SECRET = "s" * 40
every_engine = pytest.mark.parametrize("engine", list(ENGINES))

ADDRESSES = (
    *("8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"),
    *("10.0.0.1", "10.9.9.9", "127.0.0.1", "100.64.0.1", "::1", "fd00::1", "fec0::1"),
    *("169.254.169.254", "0.0.0.0", "::", "224.0.0.1", "fe80::1", "100.100.100.200"),
    *("::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:0:808:808::5601:5601"),
)
HOSTS = ("api.example.com", "vllm", "gpu.lan", *ADDRESSES)
RULES = (None, (), ("10.0.0.0/8",), ("127.0.0.0/8", "::1/128"), PRIVATE)


# --- any sequence of answers ----------------------------------------------------------------------


@given(
    st.sampled_from(HOSTS),
    st.sampled_from(RULES),
    st.lists(st.lists(st.sampled_from(ADDRESSES), max_size=3), min_size=1, max_size=6),
    st.lists(st.integers(0, 20), min_size=1, max_size=8),
)
@examples(300, full=10_000)
def test_any_sequence_of_answers(
    host: str,
    rule: tuple[str, ...] | None,
    answers: list[list[str]],
    pauses_s: list[int],
) -> None:
    """What is given to an engine was all allowed, and is what some one answer has said."""
    names = FakeNames()
    names.answers[host] = list(answers)
    now_s = 0.0
    resolver = Resolver(names.find, lambda: now_s)

    async def ask() -> None:
        nonlocal now_s
        for pause_s in pauses_s:
            now_s += pause_s
            try:
                given_ = await resolver.addresses(host, rule)
            except (NotFound, NotAllowed):
                continue
            assert given_
            assert list(given_) in [*answers, [host]]
            for address in given_:
                assert may_connect(host, ip_address(address), rule)

    asyncio.run(ask())


async def test_one_forbidden_answer_forbids_all() -> None:
    names = FakeNames()
    names.answers["api.example.com"] = [["8.8.8.8", "10.0.0.1"]]
    with pytest.raises(NotAllowed):
        await Resolver(names.find).addresses("api.example.com")


async def test_many_ask_once_and_an_answer_stays_fresh_for_a_while() -> None:
    names = FakeNames()
    names.answers["a.example"] = [["8.8.8.8"], ["1.1.1.1"]]
    now_s = 0.0
    resolver = Resolver(names.find, lambda: now_s)
    asked = await asyncio.gather(*(resolver.addresses("a.example") for _ in range(50)))
    assert set(asked) == {("8.8.8.8",)}
    assert names.asked["a.example"] == 1
    now_s = 11.0
    assert await resolver.addresses("a.example") == ("1.1.1.1",)
    assert names.asked["a.example"] == 2


async def test_while_nobody_answers_the_old_answer_serves_and_is_judged_again() -> None:
    names = FakeNames()
    names.answers["a.example"] = [["8.8.8.8"]]
    now_s = 0.0
    resolver = Resolver(names.find, lambda: now_s)
    assert await resolver.addresses("a.example") == ("8.8.8.8",)
    del names.answers["a.example"]
    now_s = 1000.0
    assert await resolver.addresses("a.example") == ("8.8.8.8",)
    now_s = 3601.0
    with pytest.raises(NotFound):
        await resolver.addresses("a.example")


async def test_without_a_thread_to_ask_with_the_old_answer_serves_and_it_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = FakeNames()
    names.answers["a.example"] = [["8.8.8.8"], ["1.1.1.1"]]
    now_s = 0.0
    resolver = Resolver(names.find, lambda: now_s)
    assert await resolver.addresses("a.example") == ("8.8.8.8",)

    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    now_s = 11.0
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        for _ in range(2):
            assert await resolver.addresses("a.example") == ("8.8.8.8",)
            with pytest.raises(NotFound):
                await resolver.addresses("b.example")
    assert await resolver.addresses("a.example") == ("1.1.1.1",)


async def test_a_look_up_that_fails_in_its_own_way_is_an_answer_too() -> None:
    def find(_: str) -> list[str]:
        raise ValueError("embedded null character")

    with pytest.raises(NotFound):
        await asyncio.wait_for(Resolver(find).addresses("a.example"), 5)


async def test_a_resolver_that_hangs_holds_nothing_up() -> None:
    """Neither the loop, nor other names, nor the pool of threads that others use."""
    names = FakeNames()
    names.answers |= {"slow.example": [["8.8.8.8"]], "quick.example": [["1.1.1.1"]]}
    names.hangs = hangs = threading.Event()
    resolver = Resolver(names.find)
    waiting = [asyncio.create_task(resolver.addresses("slow.example")) for _ in range(100)]
    try:
        await asyncio.sleep(0)
        names.hangs = None
        assert await asyncio.wait_for(resolver.addresses("quick.example"), 5) == ("1.1.1.1",)
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 5) == 1
        asking = [one for one in threading.enumerate() if one.name == "relay-names"]
        assert len(asking) == 1
        assert asking[0].daemon, "or it would hold up the end of the process"
        waiting[0].cancel()
    finally:
        hangs.set()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(told[0], asyncio.CancelledError)
    assert set(told[1:]) == {("8.8.8.8",)}


# --- on real sockets ------------------------------------------------------------------------------


class Trap:
    """The inside: a listener at another address of this machine, where nothing may arrive."""

    def __init__(self, port: int, host: str = "127.0.0.2") -> None:
        self.host = host
        self._socket = socket.create_server((host, port))

    def is_quiet(self, for_s: float = 0.2) -> bool:
        """Whether nobody has connected."""
        self._socket.settimeout(for_s)
        try:
            connection, _ = self._socket.accept()
        except TimeoutError:
            return True
        connection.close()
        return False

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def trap_beside(server: H1Server) -> Iterator[Trap]:
    trap = Trap(server.port)
    try:
        yield trap
    finally:
        trap.close()


@contextlib.asynccontextmanager
async def asking(
    engine: EngineName, names: FakeNames, settings: TransportSettings = SETTINGS
) -> AsyncIterator[Transport]:
    transport = make_transport(engine, settings, Resolver(names.find, _Hurried()))
    try:
        yield transport
    finally:
        await transport.aclose()


class _Hurried:
    """A clock by which no answer of the DNS is fresh any more when it is wanted again."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def __call__(self) -> float:
        self._now_s += 11.0
        return self._now_s


async def status_of(transport: Transport, origin: Origin) -> int:
    stream = await transport.open(origin, GET, connect_timeout_s=3)
    try:
        async for _ in stream.chunks():
            pass
    finally:
        await stream.aclose()
    return stream.status


def drop(server: H1Server) -> None:
    for connection in server.connections:
        if not connection.closed:
            connection.abort()


def at(host: str, server: H1Server, **more: Any) -> Origin:
    return Origin("http", host, server.port, **more)


async def ok(exchange: h1_server.Exchange) -> None:
    await exchange.head(200, ("content-length", "0"))


@pytest.mark.sockets
@every_engine
@pytest.mark.parametrize("inside", ["127.0.0.2", "::ffff:127.0.0.2"])
async def test_a_public_name_that_leads_inside(engine: EngineName, inside: str) -> None:
    names = FakeNames()
    names.answers["api.example.com"] = [[inside]]
    async with H1Server() as server, asking(engine, names) as transport:
        with trap_beside(server) as trap:
            with pytest.raises(ConnectError) as caught:
                await status_of(transport, at("api.example.com", server))
            assert caught.value.public_message == NOT_ALLOWED
            assert "127" not in NOT_ALLOWED
            assert transport.describe()[0].last_error == NOT_ALLOWED
            await transport.warm(at("api.example.com", server), 2)
            assert trap.is_quiet()
    assert names.asked["api.example.com"] >= 1


@pytest.mark.sockets
@every_engine
async def test_a_name_that_is_rebound_between_connections(engine: EngineName) -> None:
    """The second answer is another address, when the first connection is gone already: the engine
    dials again by itself, and the pool asks anew. Neither goes there."""
    names = FakeNames()
    host = "api.example.com"
    names.answers[host] = [["127.0.0.1"], ["127.0.0.2"]]
    async with H1Server() as server, asking(engine, names) as transport:
        server.default = ok
        origin = at(host, server, private=("127.0.0.1/32",))
        with trap_beside(server) as trap:
            assert await status_of(transport, origin) == 200
            drop(server)
            for _ in range(5):
                with contextlib.suppress(UpstreamError):
                    await status_of(transport, origin)
                drop(server)
            await transport.warm(origin, 4)  # the pool dials, and asks the resolver again
            assert transport.describe()[0].last_error == NOT_ALLOWED
            assert names.asked[host] > 1
            assert trap.is_quiet()


@pytest.mark.sockets
@every_engine
async def test_the_engine_asks_no_resolver_of_its_own(engine: EngineName) -> None:
    """Nobody but ours knows this name; the request still says it, and nothing else."""
    names = FakeNames()
    names.answers["no-such-host.invalid"] = [["127.0.0.1"]]
    async with H1Server() as server, asking(engine, names) as transport:
        server.default = ok
        origin = at("no-such-host.invalid", server, private=("127.0.0.0/8",))
        assert await status_of(transport, origin) == 200
        exchange = await server.request("/x")
        assert exchange.header("host") == f"no-such-host.invalid:{server.port}"


@pytest.mark.sockets
@every_engine
async def test_tls_still_goes_by_the_name(
    engine: EngineName, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority = CertAuthority()
    ca_file = authority.ca_file(tmp_path_factory.mktemp("ca"))
    names = FakeNames()
    for host in ("right.example", "wrong.example"):
        names.answers[host] = [["127.0.0.1"]]
    tls = authority.server_context("right.example")
    async with H1Server(tls=tls) as server, asking(engine, names) as transport:
        server.default = ok
        origin = Origin("https", "right.example", server.port, "h1", ca_file, private=PRIVATE)
        assert await status_of(transport, origin) == 200
        with pytest.raises(ConnectError):
            await status_of(transport, origin._replace(host="wrong.example"))


@pytest.mark.sockets
@every_engine
async def test_the_next_address_is_tried_where_the_first_does_not_answer(
    engine: EngineName,
) -> None:
    names = FakeNames()
    names.answers["vllm"] = [["127.0.0.3", "127.0.0.1"]]
    async with H1Server() as server, asking(engine, names) as transport:
        server.default = ok
        assert await status_of(transport, at("vllm", server)) == 200


@pytest.mark.sockets
@every_engine
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(engine: EngineName, status: int) -> None:
    names = FakeNames()
    names.answers["vllm"] = [["127.0.0.1"]]
    async with H1Server() as server, asking(engine, names) as transport:
        with trap_beside(server) as trap:
            url = f"http://127.0.0.2:{server.port}/latest/meta-data"

            async def away(exchange: h1_server.Exchange) -> None:
                await exchange.head(status, ("location", url), ("content-length", "0"))

            server.default = away
            assert await status_of(transport, at("vllm", server)) == status
            assert trap.is_quiet()


@pytest.mark.sockets
@every_engine
async def test_proxies_of_the_environment_are_not_asked(
    engine: EngineName, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = FakeNames()
    names.answers["vllm"] = [["127.0.0.1"]]
    async with H1Server() as server:
        server.default = ok
        with trap_beside(server) as trap:
            for name in ("http_proxy", "https_proxy", "all_proxy"):
                monkeypatch.setenv(name, f"http://127.0.0.2:{server.port}")
                monkeypatch.setenv(name.upper(), f"http://127.0.0.2:{server.port}")
            async with asking(engine, names) as transport:
                assert await status_of(transport, at("vllm", server)) == 200
            assert trap.is_quiet()


@every_engine
async def test_a_name_that_hangs_ends_in_time(engine: EngineName) -> None:
    names = FakeNames()
    names.hangs = threading.Event()
    settings = replace(SETTINGS, dial_timeout_s=0.2)
    try:
        async with asking(engine, names, settings) as transport:
            origin = Origin("https", "slow.example", 443)
            with pytest.raises(ConnectError):
                await asyncio.wait_for(transport.open(origin, GET, connect_timeout_s=2), 5)
    finally:
        names.hangs.set()


@pytest.mark.sockets
async def test_a_websocket_does_not_lead_inside() -> None:
    names = FakeNames()
    names.answers["api.example.com"] = [["127.0.0.2"]]
    limits = SocketLimits(1000, 1000, 10, 10)
    async with H1Server() as server:
        with trap_beside(server) as trap:
            with pytest.raises(ConnectError) as caught:
                await dial(
                    at("api.example.com", server),
                    "/v1/realtime",
                    [],
                    [],
                    limits,
                    connect_timeout_s=2,
                    resolver=Resolver(names.find),
                )
            assert caught.value.public_message == NOT_ALLOWED
            assert trap.is_quiet()


# --- what the relay sends of its own accord -------------------------------------------------------


@pytest.fixture
def inside_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name leads to 127.0.0.2, for whoever asks the machine's resolver."""

    def found(host: str, port: Any, *rest: Any, **more: Any) -> list[Any]:
        inner = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", port or 0))
        return [inner]

    monkeypatch.setattr(socket, "getaddrinfo", found)


@pytest.mark.sockets
@pytest.mark.usefixtures("inside_names")
async def test_webhooks_and_spans_do_not_lead_inside() -> None:
    async with H1Server() as server:
        with trap_beside(server) as trap:
            url = f"https://hooks.example.com:{server.port}/"
            webhook = Webhook(url, SECRET)
            with pytest.raises(NotDelivered, match="ConnectError"):
                await webhook.send("1", b"{}", 0)
            await webhook.aclose()
            asker = WebhookAsker("x", url, SECRET)
            scope = GuardScope("t", "k", "m", (), "chat")
            with pytest.raises(CannotTell, match="ConnectError"):
                await asker.ask(Question("input", (), scope))
            await asker.aclose()
            collector = Collector(url, {}, timeout_s=2, ca_file=None, is_compressed=False)
            told = await asyncio.to_thread(collector.send, b"")
            collector.close()
            assert (told.verdict, told.why) == (Verdict.LATER, "ConnectError")
            assert trap.is_quiet()


@pytest.mark.sockets
@pytest.mark.usefixtures("inside_names")
async def test_with_leave_they_do() -> None:
    """The same names, with their network named: so that it is the rule that keeps them out."""
    async with H1Server() as server:
        with trap_beside(server) as trap:
            url = f"https://hooks.example.com:{server.port}/"
            webhook = Webhook(url, SECRET, private=("127.0.0.0/8",))
            sending = asyncio.create_task(webhook.send("1", b"{}", 0))
            assert not await asyncio.to_thread(trap.is_quiet, 10)
            with pytest.raises(NotDelivered):
                await sending
            await webhook.aclose()


class _Elsewhere(httpx2.AsyncBaseTransport):
    """Answers from another address than it was sent to."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        class Stream:
            def get_extra_info(self, name: str) -> Any:
                return ("127.0.0.2", 80) if name == "server_addr" else None

        return httpx2.Response(200, extensions={"network_stream": Stream()})


async def test_who_has_answered_is_looked_at() -> None:
    names = FakeNames()
    names.answers["a.example"] = [["8.8.8.8"]]
    transport = PinnedTransport(_Elsewhere(), None, Resolver(names.find))
    async with httpx2.AsyncClient(transport=transport) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get("http://a.example/")


# --- the file -------------------------------------------------------------------------------------


def parsed(base_url: str, **more: Any) -> Any:
    row = {"wire": "openai_chat", "auth": "none", "base_url": base_url, **more}
    return parse({"providers": {"lab": row}}, {}).providers["lab"]


@pytest.mark.parametrize(
    ("base_url", "more"),
    [
        ("http://127.0.0.1:9000/v1", {}),
        ("https://10.0.0.7:9443/v1", {}),
        ("http://localhost:11434/v1", {}),
        ("http://vllm:8000/v1", {}),
        ("http://[::1]:8000/v1", {}),
        ("https://api.example.com/v1", {}),
        ("https://llm.corp.example.com/v1", {"allow_private": True}),
        ("https://llm.corp.example.com/v1", {"allow_private": ["10.0.0.0/8"]}),
        ("https://llm.corp.example.com/v1", {"allow_private": False}),
    ],
)
def test_addresses_that_are_taken(base_url: str, more: dict[str, Any]) -> None:
    parsed(base_url, **more)


@pytest.mark.parametrize(
    ("base_url", "more", "said"),
    [
        ("http://169.254.169.254/latest", {}, "base_url: no provider has such an address"),
        ("http://[::ffff:a9fe:a9fe]/", {}, "base_url: no provider has such an address"),
        ("http://0.0.0.0:11434/v1", {}, "base_url: no provider has such an address"),
        ("http://2130706433/", {}, "base_url: the host is a number"),
        ("http://0x7f.1/", {}, "base_url: the host is a number"),
        ("http://127.1/", {}, "base_url: the host is a number"),
        ("http://%31%32%37.0.0.1/", {}, "base_url: the host is no name"),
        ("http://10.0.0.7/", {"allow_private": False}, "and allow_private is false"),
        ("https://x.example/", {"allow_private": ["8.0.0.0/8"]}, "allow_private: '8.0.0.0/8'"),
        ("https://x.example/", {"allow_private": ["0.0.0.0/0"]}, "allow_private: '0.0.0.0/0'"),
        ("https://x.example/", {"allow_private": [10]}, "allow_private: networks such as"),
        ("https://x.example/", {"allow_private": "10.0.0.0/8"}, "allow_private: true, false or"),
    ],
)
def test_addresses_that_are_refused(base_url: str, more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(base_url, **more)
    assert said in str(caught.value)


def sections(url: str) -> Sequence[dict[str, Any]]:
    scan = {"kind": "webhook", "url": url, "secret": "${S}"}
    return (
        {"budgets": {"alerts": {"url": url, "secret": "${S}"}}},
        {"guardrails": {"rails": {"x": {"scan": scan, "action": "block"}}}},
        {"observability": {"tracing": {"endpoint": url}}},
    )


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("host", ["169.254.169.254", "0x7f.1", "[fe80::1]"])
def test_no_other_address_of_the_file_is_of_the_link(which: int, host: str) -> None:
    with pytest.raises(ConfigError, match=r"no provider has such|the host is a number"):
        parse(sections(f"https://{host}/")[which], {"S": SECRET})
