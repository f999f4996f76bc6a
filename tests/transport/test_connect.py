"""Getting a connection, or not: refused, black-holed, untrusted, by a proxy or past it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.errors import ConnectError, ConnectTimeout, Retry, TlsFailed
from relay.transport import ENGINES, make_transport
from relay.transport.base import Origin, Transport, UpstreamRequest
from relay.transport.engine import EngineName, TransportSettings
from tests.fakes import h1_server, h2_server
from tests.fakes.tls import BROKEN_PEM, CertAuthority, Machine
from tests.transport.conftest import QUIET
from tests.transport.test_conformance import body_of

pytestmark = pytest.mark.sockets

every_engine = pytest.mark.parametrize("engine", list(ENGINES))
h2_engine = pytest.mark.parametrize("engine", ["wreq", "pyqwest"])

POST = UpstreamRequest("POST", "/x?key=secret", [("authorization", "Bearer secret")], b"{}")


@asynccontextmanager
async def transport_of(
    engine: EngineName, settings: TransportSettings = QUIET
) -> AsyncIterator[Transport]:
    transport = make_transport(engine, settings)
    try:
        yield transport
    finally:
        await transport.aclose()


@contextmanager
def dead_port() -> Iterator[int]:
    """A port that nobody listens on, held so that nobody can."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextmanager
def black_hole() -> Iterator[int]:
    """A port whose queue is full, so that SYNs go unanswered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fill = [socket.socket() for _ in range(4)]
        for sock in fill:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        try:
            yield listener.getsockname()[1]
        finally:
            for sock in fill:
                sock.close()


@contextmanager
def silent_listener() -> Iterator[int]:
    """A port that accepts and never says a word: TLS cannot get on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener.getsockname()[1]


@every_engine
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_refused_port(engine: EngineName, scheme: str, ca_file: str) -> None:
    async with transport_of(engine) as transport:
        with dead_port() as port:
            origin = Origin(scheme, "127.0.0.1", port, ca_file=ca_file)  # type: ignore[arg-type]
            with pytest.raises(ConnectError) as caught:
                await transport.open(origin, POST, connect_timeout_s=2)
    assert type(caught.value) is ConnectError
    assert caught.value.retry is Retry.SAFE
    assert str(port) not in caught.value.public_message


@every_engine
async def test_a_name_that_does_not_resolve(engine: EngineName, ca_file: str) -> None:
    async with transport_of(engine) as transport:
        origin = Origin("https", "no-such-host.invalid", 443, ca_file=ca_file)
        with pytest.raises(ConnectError) as caught:
            await transport.open(origin, POST, connect_timeout_s=10)
    assert "invalid" not in caught.value.public_message


@every_engine
@pytest.mark.parametrize("trap", [black_hole, silent_listener])
async def test_a_black_hole_ends_in_time(engine: EngineName, trap: object, ca_file: str) -> None:
    # The request's own bound, well below that of the dial.
    async with transport_of(engine, replace(QUIET, dial_timeout_s=5)) as transport:
        with trap() as port:  # type: ignore[operator]
            origin = Origin("https", "127.0.0.1", port, ca_file=ca_file)
            started_s = time.monotonic()
            with pytest.raises(ConnectTimeout) as caught:
                await transport.open(origin, POST, connect_timeout_s=0.2)
            assert 0.19 < time.monotonic() - started_s < 1.0
    assert caught.value.retry is Retry.SAFE


@every_engine
@pytest.mark.parametrize("trap", [black_hole, silent_listener])
async def test_the_dial_itself_is_bounded(engine: EngineName, trap: object, ca_file: str) -> None:
    async with transport_of(engine, replace(QUIET, dial_timeout_s=0.2)) as transport:
        with trap() as port:  # type: ignore[operator]
            origin = Origin("https", "127.0.0.1", port, ca_file=ca_file)
            started_s = time.monotonic()
            with pytest.raises(ConnectTimeout):
                await transport.open(origin, POST, connect_timeout_s=5)
            assert time.monotonic() - started_s < 1.0
            assert transport.describe()[0].last_error == "no connection in time"


@every_engine
async def test_warming_a_black_hole_returns(engine: EngineName, ca_file: str) -> None:
    async with transport_of(engine, replace(QUIET, dial_timeout_s=0.1)) as transport:
        with black_hole() as port:
            origin = Origin("https", "127.0.0.1", port, ca_file=ca_file)
            await asyncio.wait_for(transport.warm(origin, 2), 1)
            assert transport.describe()[0].connections == 0


@every_engine
@pytest.mark.parametrize("wrong", ["issuer", "name", "date"])
async def test_a_certificate_that_is_not_trusted(
    engine: EngineName, wrong: str, authority: CertAuthority, ca_file: str
) -> None:
    tls = {
        "issuer": CertAuthority().server_context(),
        "name": authority.server_context("other.example"),
        "date": authority.server_context(not_after=datetime.now(UTC) - timedelta(days=1)),
    }[wrong]
    async with h2_server.H2Server(tls=tls) as server, transport_of(engine) as transport:
        origin = Origin("https", "127.0.0.1", server.port, ca_file=ca_file)
        with pytest.raises(TlsFailed) as caught:
            await transport.open(origin, POST, connect_timeout_s=2)
        assert not server.streams
    # Nothing of the certificate, whose subject may be an attacker's text.
    assert caught.value.public_message == "the TLS handshake with the provider failed"


@every_engine
async def test_public_roots_do_not_trust_a_private_one(
    engine: EngineName, authority: CertAuthority
) -> None:
    tls = authority.server_context()
    async with h2_server.H2Server(tls=tls) as server, transport_of(engine) as transport:
        with pytest.raises(TlsFailed):
            await transport.open(
                Origin("https", "127.0.0.1", server.port), POST, connect_timeout_s=5
            )


@every_engine
async def test_roots_that_the_environment_names_are_trusted(
    engine: EngineName, authority: CertAuthority, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    tls = authority.server_context(alpn=("http/1.1",))
    async with h1_server.H1Server(tls=tls) as server, transport_of(engine) as transport:
        origin = Origin("https", "127.0.0.1", server.port)
        assert await body_of(await transport.open(origin, POST, connect_timeout_s=5)) == b""


async def test_roots_that_the_environment_names_are_the_only_ones(
    authority: CertAuthority, ca_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", CertAuthority().ca_file(tmp_path))
    tls = authority.server_context()
    async with h2_server.H2Server(tls=tls) as server, transport_of("wreq") as transport:
        with pytest.raises(TlsFailed):
            await transport.open(
                Origin("https", "127.0.0.1", server.port), POST, connect_timeout_s=5
            )
        # Those of an origin with its own are not touched.
        origin = Origin("https", "127.0.0.1", server.port, ca_file=ca_file)
        await body_of(await transport.open(origin, POST, connect_timeout_s=5))


@pytest.mark.parametrize("text", ["", BROKEN_PEM], ids=["empty", "broken"])
async def test_environment_that_names_no_roots_is_said_so(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "roots.pem"
    path.write_text(text)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    async with h1_server.H1Server() as server, transport_of("wreq") as transport:
        with pytest.raises(ConnectError, match="SSL_CERT_FILE"):
            await transport.open(Origin("https", "127.0.0.1", 1), POST, connect_timeout_s=5)
        # Nobody's certificate is looked at here.
        origin = Origin("http", "127.0.0.1", server.port)
        await body_of(await transport.open(origin, POST, connect_timeout_s=5))


@pytest.mark.parametrize("bundle", [None, BROKEN_PEM], ids=["none", "broken"])
async def test_machine_without_usable_roots_has_those_of_the_engine(
    bundle: str | None,
    authority: CertAuthority,
    ca_file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(tmp_path, monkeypatch)
    if bundle is not None:
        machine.file.write_text(bundle)
    tls = authority.server_context()
    async with h2_server.H2Server(tls=tls) as server, transport_of("wreq") as transport:
        with pytest.raises(TlsFailed):  # it dials, and does not trust everybody
            await transport.open(
                Origin("https", "127.0.0.1", server.port), POST, connect_timeout_s=5
            )
    machine.file.write_text(Path(ca_file).read_text())
    async with h2_server.H2Server(tls=tls) as server, transport_of("wreq") as transport:
        origin = Origin("https", "127.0.0.1", server.port)
        await body_of(await transport.open(origin, POST, connect_timeout_s=5))


@every_engine
async def test_tls_to_a_port_that_speaks_none(engine: EngineName, ca_file: str) -> None:
    async with h2_server.H2Server() as server, transport_of(engine) as transport:
        origin = Origin("https", "127.0.0.1", server.port, ca_file=ca_file)
        with pytest.raises(TlsFailed):
            await transport.open(origin, POST, connect_timeout_s=2)


@every_engine
@pytest.mark.parametrize("abort", [False, True], ids=["closed", "reset"])
async def test_tls_that_is_cut_in_its_handshake(
    engine: EngineName, abort: bool, ca_file: str
) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(5)
        writer.write(b"\x16\x03\x03\x00\x50\x02\x00\x00")  # a hello that is not all there
        await writer.drain()
        if abort:
            writer.transport.abort()
        writer.close()

    listener = await asyncio.start_server(cut, "127.0.0.1", 0)
    async with listener, transport_of(engine) as transport:
        port = listener.sockets[0].getsockname()[1]
        origin = Origin("https", "127.0.0.1", port, ca_file=ca_file)
        with pytest.raises(TlsFailed):
            await transport.open(origin, POST, connect_timeout_s=2)


@every_engine
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
async def test_tls_that_is_too_old(
    engine: EngineName, version: str, authority: CertAuthority, ca_file: str
) -> None:
    tls = authority.server_context()
    tls.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):  # of being too old
        tls.minimum_version = tls.maximum_version = ssl.TLSVersion[version]
    async with h2_server.H2Server(tls=tls) as server, transport_of(engine) as transport:
        origin = Origin("https", "127.0.0.1", server.port, ca_file=ca_file)
        with pytest.raises(TlsFailed):
            await transport.open(origin, POST, connect_timeout_s=2)
        assert not server.streams


@every_engine
@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n"], ids=["nothing", "another"])
async def test_what_breaks_the_dial_is_safe_to_send_again(
    engine: EngineName, answer: bytes
) -> None:
    async with h1_server.H1Server() as server, transport_of(engine) as transport:
        server.default = h1_server.raw(answer)
        with pytest.raises(ConnectError, match="no usable connection") as caught:
            await transport.open(
                Origin("http", "127.0.0.1", server.port), POST, connect_timeout_s=2
            )
        assert caught.value.retry is Retry.SAFE
        assert all(exchange.method == "HEAD" for exchange in server.exchanges)


@every_engine
async def test_a_ca_file_that_is_not_there(engine: EngineName, tmp_path: Path) -> None:
    async with transport_of(engine) as transport:
        origin = Origin("https", "127.0.0.1", 1, ca_file=str(tmp_path / "none.pem"))
        with pytest.raises(ConnectError) as caught:
            await transport.open(origin, POST, connect_timeout_s=2)
    assert str(tmp_path) not in caught.value.public_message


@every_engine
async def test_a_ca_file_that_holds_other_roots_now(
    engine: EngineName, authority: CertAuthority, tmp_path: Path
) -> None:
    before = Origin("https", "127.0.0.1", 0, ca_file=CertAuthority().ca_file(tmp_path))
    tls = authority.server_context(alpn=("http/1.1",))
    async with h1_server.H1Server(tls=tls) as server, transport_of(engine) as transport:
        before = before._replace(port=server.port)
        with pytest.raises(TlsFailed):
            await transport.open(before, POST, connect_timeout_s=2)
        authority.ca_file(tmp_path)
        stream = await transport.open(
            before._replace(ca_digest="another"), POST, connect_timeout_s=2
        )
        await stream.aclose()


@every_engine
@pytest.mark.parametrize(
    "text", ["", "no certificate", BROKEN_PEM], ids=["empty", "text", "broken"]
)
async def test_a_ca_file_without_a_certificate(
    engine: EngineName, text: str, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    path.write_text(text)
    with dead_port() as port:
        async with transport_of(engine) as transport:
            origin = Origin("https", "127.0.0.1", port, ca_file=str(path))
            with pytest.raises(ConnectError) as caught:
                await transport.open(origin, POST, connect_timeout_s=2)
    assert type(caught.value) is ConnectError
    assert str(tmp_path) not in caught.value.public_message


@every_engine
async def test_the_environment_s_proxies_are_not_used(
    engine: EngineName, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dead_port() as port:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
            monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{port}")
        async with h1_server.H1Server() as server, transport_of(engine) as transport:
            origin = Origin("http", "127.0.0.1", server.port)
            stream = await transport.open(origin, POST, connect_timeout_s=2)
            assert await body_of(stream) == b""


@every_engine
async def test_the_origin_s_egress_proxy_is_used(engine: EngineName) -> None:
    # A plain-text request to a proxy names the whole URL; nobody listens at the origin.
    async with h1_server.H1Server() as proxy, transport_of(engine) as transport:
        proxy.default = h1_server.answer(200, b"by proxy")
        origin = Origin(
            "http",
            "origin.invalid",
            8080,
            egress_proxy=f"http://user:secret@127.0.0.1:{proxy.port}",
        )
        stream = await transport.open(origin, POST, connect_timeout_s=2)
        assert await body_of(stream) == b"by proxy"
        assert proxy.exchanges[-1].target.startswith("http://origin.invalid:8080/")
        assert proxy.exchanges[-1].header("proxy-authorization") is not None


@every_engine
async def test_a_dead_proxy_shows_no_secret(engine: EngineName) -> None:
    with dead_port() as port:
        async with transport_of(engine) as transport:
            origin = Origin(
                "http", "127.0.0.1", 1, egress_proxy=f"http://user:hidden@127.0.0.1:{port}"
            )
            with pytest.raises(ConnectError) as caught:
                await transport.open(origin, POST, connect_timeout_s=2)
    assert "hidden" not in str(caught.value)


@h2_engine
async def test_alpn_chooses_the_wire(
    engine: EngineName, authority: CertAuthority, ca_file: str
) -> None:
    async with (
        h2_server.H2Server(tls=authority.server_context(alpn=("h2",))) as two,
        h1_server.H1Server(tls=authority.server_context(alpn=("http/1.1",))) as one,
        transport_of(engine) as transport,
    ):
        for server, version in ((two, "2"), (one, "1.1")):
            origin = Origin("https", "127.0.0.1", server.port, ca_file=ca_file)
            stream = await transport.open(origin, POST, connect_timeout_s=2)
            assert stream.http_version == version
            await body_of(stream)


@h2_engine
async def test_http1_can_be_asked_for_where_both_are_offered(
    engine: EngineName, authority: CertAuthority, ca_file: str
) -> None:
    tls = authority.server_context(alpn=("h2", "http/1.1"))
    async with h1_server.H1Server(tls=tls) as server, transport_of(engine) as transport:
        origin = Origin("https", "127.0.0.1", server.port, http="h1", ca_file=ca_file)
        stream = await transport.open(origin, POST, connect_timeout_s=2)
        assert stream.http_version == "1.1"
        await body_of(stream)


async def test_httpx_says_that_it_speaks_no_http2() -> None:
    async with transport_of("httpx") as transport:
        with pytest.raises(ConnectError, match=r"HTTP/1\.1 only"):
            await transport.open(
                Origin("http", "127.0.0.1", 1, http="h2"), POST, connect_timeout_s=2
            )


@every_engine
async def test_a_cancelled_dial_still_warms_the_origin(engine: EngineName) -> None:
    async with h1_server.H1Server() as server, transport_of(engine) as transport:
        origin = Origin("http", "127.0.0.1", server.port)
        task = asyncio.ensure_future(transport.open(origin, POST, connect_timeout_s=2))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.until(lambda: server.exchanges)
        assert [exchange.method for exchange in server.exchanges] == ["HEAD"]
        await body_of(await transport.open(origin, POST, connect_timeout_s=2))
        assert len(server.connections) == 1


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(ValueError, match="wreq, pyqwest, httpx"):
        make_transport("curl")  # type: ignore[arg-type]
