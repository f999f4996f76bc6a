"""Heads of requests that are odd on purpose (rows C8 and C11)."""

from __future__ import annotations

import httptools
import pytest

import relay.frontends.caller
import relay.frontends.grpc_service
import relay.frontends.http_protocol
import relay.server
from relay.errors import Unauthenticated
from relay.frontends.caller import Caller, RpcContext, caller_of_rpc
from relay.frontends.http_protocol import BoundedHttpProtocol
from relay.governance.gate import Gate
from tests.fakes.converse_client import CONVERSE, GENERATE
from tests.fakes.h2_server import stream_chunks
from tests.matrix.client.raw import (
    GET,
    HEALTHY,
    Frames,
    connected,
    framed,
    grpc_headers,
    post,
    request_bytes,
)
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, whole_answer, world

AGAIN = 8
"""Of a random answer all of so many are the same once in two hundred times."""
SOFT, HARD = 8192, 16_384
"""What grpc's core takes by itself, and what it refuses for sure."""


async def metadata_of_any_size(stage: Stage) -> None:
    sizes = (9_000, stage.draw.randint(11_000, 13_000), 17_000)
    async with world(stage) as here:
        for size in sizes:
            verdicts = set()
            head = grpc_headers(here, ("x-large", "v" * size))
            for _ in range(AGAIN // 4):  # the core knows its limit from the second call on
                async with Frames(here.relay.worker.grpc_port) as client:
                    for _ in range(4):
                        rpc = await client.over(client.call(head, framed(request_bytes())))
                        verdicts.add(rpc.verdict)
            assert len(verdicts) == 1, (size, verdicts)
            ((_, code, reset, _),) = verdicts
            assert (code, reset) == (8, None), (size, verdicts)
        assert not here.lab.requests(CHAT)
        await here.booked(0)


async def calls_of_odd_heads(stage: Stage) -> None:
    async with world(stage) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("fine"))
        good = grpc_headers(here)
        async with Frames(here.relay.worker.grpc_port) as client:
            assert (await client.over(client.call(good, framed(request_bytes())))).code == 0
        bare = [one for one in good if one[0] != "authorization"]
        path = stage.draw.choice((GENERATE, CONVERSE))
        odd = {
            "no_slash": [*_with(good, ":path", path[1:])],
            "two_slashes": [*_with(good, ":path", "/" + path)],
            "below": [*_with(good, ":path", f"{path}/x")],
            "query": [*_with(good, ":path", f"{path}?x=1")],
            "no_key": [*_with(bare, ":path", path)],
            "no_key_no_slash": [*_with(bare, ":path", path[1:])],
            "no_key_query": [*_with(bare, ":path", f"{path}?x=1")],
            "bin_that_is_none": [*_with(bare, ":path", path), ("x-odd-bin", "%%%")],
            "two_authorities": [*_with(bare, ":path", path), (":authority", "other")],
            "authority_and_host": [*_with(bare, ":path", path), ("host", "other")],
        }
        for name, head in odd.items():
            verdicts = set()
            for _ in range(3):
                async with Frames(here.relay.worker.grpc_port) as client:
                    rpc = await client.over(client.call(head, framed(request_bytes())))
                    verdicts.add(rpc.verdict)
                    assert rpc.code != 0, (name, rpc)
                    if name in ("no_slash", "two_slashes", "below", "query"):
                        assert rpc.code in (12, None), (name, rpc)
                    if name == "no_key":
                        assert rpc.code == 16, (name, rpc)
            assert len(verdicts) == 1, (name, verdicts)
        assert len(here.lab.requests(CHAT)) == 1, "nothing was served to who has no key"
        await here.booked(1)


def _with(head: list[tuple[str, str]], name: str, value: str) -> list[tuple[str, str]]:
    return [(key, value if key == name else held) for key, held in head]


HOSTS = ("x/?", "x?", "x#", "a@b", "x\\y", "a b", "x/../healthz?")


async def hosts_that_are_none(stage: Stage) -> None:
    host = stage.draw.choice(HOSTS)
    async with world(stage) as here:
        for path in ("/v1/models", "/healthz"):
            for lines in (f"host: {host}\r\n", "host: a\r\nhost: b\r\n"):
                async with connected(here.relay.worker.http_port) as client:
                    client.send(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode() + GET)
                    said = await client.rest()
                assert said.startswith(b"HTTP/1.1 400 "), (host, path, said)
                assert said.count(b"HTTP/1.1 ") == 1, "nothing behind it was read"
        await here.booked(0)


def the_band_is_random(patch: pytest.MonkeyPatch) -> None:
    """That metadata has one limit, with the first call of a connection too."""
    patch.setattr(relay.frontends.caller, "MAX_METADATA_BYTES", HARD)
    options = relay.server.grpc_options
    patch.setattr(
        relay.server,
        "grpc_options",
        lambda *given, **more: [
            (name, HARD if name == "grpc.absolute_max_metadata_size" else value)
            for name, value in options(*given, **more)
        ],
    )


def rpcs_need_no_key(patch: pytest.MonkeyPatch) -> None:
    """That an RPC's caller is asked for by its handler."""
    last: list[Caller] = []

    def caller(gate: Gate, context: RpcContext) -> Caller:
        try:
            last.append(caller_of_rpc(gate, context))
        except Unauthenticated:
            if not last:
                raise
        return last[-1]

    patch.setattr(relay.frontends.grpc_service, "caller_of_rpc", caller)


def hosts_are_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    """That a request names one host, in a host's letters."""
    patch.setattr(relay.frontends.http_protocol, "check_target", lambda *_: None)


# --- C11 --------------------------------------------------------------------------------------


def smuggled(here_post: bytes) -> dict[str, bytes]:
    """Requests that two readers would cut in two ways, each with another one behind or inside."""
    head, _, body = here_post.partition(b"\r\n\r\n")
    chunked = head.replace(b"content-length: %d" % len(body), b"transfer-encoding: chunked")
    whole = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    both = head + b"\r\ntransfer-encoding: chunked"
    return {
        "both_lengths": both + b"\r\n\r\n" + whole + GET,
        "two_lengths": head + b"\r\ncontent-length: 5\r\n\r\n" + body + GET,
        "length_with_sign": head.replace(b"content-length: ", b"content-length: +")
        + b"\r\n\r\n"
        + body
        + GET,
        "folded": chunked.replace(b": chunked", b":\r\n chunked") + b"\r\n\r\n" + whole + GET,
        "not_last": chunked.replace(b"chunked", b"chunked, identity") + b"\r\n\r\n" + whole + GET,
        "odd_coding": chunked.replace(b"chunked", b"xchunked") + b"\r\n\r\n" + whole + GET,
        "space_before_colon": head.replace(b"content-length:", b"content-length :")
        + b"\r\n\r\n"
        + body
        + GET,
        "bare_lf": head.replace(b"\r\n", b"\n") + b"\n\n" + body + GET,
        "bare_cr": head.replace(b"host: relay", b"host: relay\rx: y") + b"\r\n\r\n" + body + GET,
        "chunk_extension_with_lf": chunked + b"\r\n\r\n2;a\nxx\r\n0\r\n\r\n" + GET,
        "chunk_size_with_sign": chunked
        + b"\r\n\r\n+%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        + GET,
        "chunk_that_is_longer": chunked + b"\r\n\r\n2\r\n{}xx\r\n0\r\n\r\n" + GET,
        "absolute": head.replace(b"POST /", b"POST http://inside/", 1) + b"\r\n\r\n" + body + GET,
        "no_slash": head.replace(b"POST /", b"POST ", 1) + b"\r\n\r\n" + body + GET,
        "preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + GET,
        "nul": head.replace(b"host: relay", b"host: relay\0") + b"\r\n\r\n" + body + GET,
    }


async def two_requests_in_one(stage: Stage) -> None:
    async with world(stage) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("fine"))
        for name, data in smuggled(post(here)).items():
            cut = stage.draw.randrange(1, len(data)) if stage.draw.random() < 0.5 else len(data)
            async with connected(here.relay.worker.http_port) as client:
                client.send(data[:cut])
                await client.writer.drain()
                client.send(data[cut:])
                said = await client.rest()
            # One that has begun before what is wrong with it came may have been told so itself.
            assert said.startswith(b"HTTP/1.1 400 "), (name, said)
            assert said.count(b"HTTP/1.1 ") == 1, (name, said)
            assert HEALTHY not in said, (name, "what came behind it was read as a request")
        assert not here.lab.requests(CHAT)
        await here.booked(0)


async def an_offer_of_h2c(stage: Stage) -> None:
    """Ignored: what follows is HTTP/1.1, and HTTP/2 frames behind it are no request."""
    offer = (
        "connection: Upgrade, HTTP2-Settings",
        "upgrade: h2c",
        "http2-settings: AAMAAABkAARAAAAAAAIAAAAA",
    )
    async with world(stage) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("fine"))
        async with connected(here.relay.worker.http_port) as client:
            client.send(post(here, None, *offer))
            status, body = await client.answer()
            assert (status, b"fine" in body) == (200, True)
            client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + GET)
            said = await client.rest()
            assert said.startswith(b"HTTP/1.1 400 ")
            assert HEALTHY not in said
        (booked,) = await here.booked(1)
        assert booked.state == "settled"


class Lenient:
    """`httptools`' parser with all that is dangerous let through."""

    def __init__(self, protocol: object) -> None:
        self._parser = httptools.HttpRequestParser(protocol)
        self.set_dangerous_leniencies()

    def set_dangerous_leniencies(self, **_: bool) -> None:
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            lenient_keep_alive=True,
            lenient_transfer_encoding=True,
            lenient_version=True,
            lenient_data_after_close=True,
            lenient_optional_lf_after_cr=True,
            lenient_optional_cr_before_lf=True,
            lenient_optional_crlf_after_chunk=True,
            lenient_spaces_after_chunk_size=True,
        )

    def __getattr__(self, name: str) -> object:
        return getattr(self._parser, name)


def parsing_is_lenient(patch: pytest.MonkeyPatch) -> None:
    """The strict parser."""
    made = BoundedHttpProtocol.connection_made

    def connection_made(protocol: BoundedHttpProtocol, transport: object) -> None:
        protocol.parser = Lenient(protocol)  # type: ignore[assignment]
        made(protocol, transport)  # type: ignore[arg-type]

    patch.setattr(BoundedHttpProtocol, "connection_made", connection_made)


def upgrades_are_believed(patch: pytest.MonkeyPatch) -> None:
    """That an upgrade is ignored."""
    patch.setattr(
        relay.frontends.http_protocol, "_without_upgrade", lambda *_: GET.replace(b"\r\n\r\n", b"")
    )


C8 = Row(
    "C8",
    inject="header bombs, 17 KiB of metadata, `-bin` that is no base64, `:path` without `/`, Host"
    " `x?`, two authorities",
    client="one and the same answer each time: RESOURCE_EXHAUSTED, UNIMPLEMENTED, UNAUTHENTICATED,"
    " HTTP 400",
    accounting="none",
    retry="never; nothing is served without a key",
    parts=(
        Part("metadata", metadata_of_any_size, the_band_is_random),
        Part("calls", calls_of_odd_heads, rpcs_need_no_key),
        Part("hosts", hosts_that_are_none, hosts_are_not_looked_at),
    ),
    also=("tests/integration/test_deny_by_default.py",),
)
C11 = Row(
    "C11",
    inject="smuggling: two lengths, a folded or odd transfer-encoding, bare LF and CR, chunk"
    " extensions, an offer of h2c, an absolute URI",
    client="HTTP 400 and a closed connection; h2c is ignored",
    accounting="none",
    retry="never; nothing after it is parsed",
    parts=(
        Part("two_in_one", two_requests_in_one, parsing_is_lenient),
        Part("h2c", an_offer_of_h2c, upgrades_are_believed),
    ),
    also=("tests/frontends/test_http_protocol.py", "tests/integration/test_http_edge.py"),
)
